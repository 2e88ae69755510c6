"""Capture: the underlay's packets in a file, and tshark's word on them."""

from __future__ import annotations

import itertools
import os
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from overlay.batch import Batch
from overlay.io.block import Interface
from overlay.io.writer import CaptureWriter

from .host import Host, LabError, need
from .peer import Segment
from .topology import UNDERLAY
from .wire import Wire

__all__ = ["Capture", "Verdict", "examine"]

_BUFFER = 1 << 25  # bytes that may wait to be written
_PATIENCE = 0.05  # seconds without a packet after which what was sent has passed
_ROWS = 256

#: Checksums are checked, at every level.
_OPTIONS = [
    "ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE",
    "tcp.analyze_sequence_numbers:FALSE",
]  # fmt: skip
#: What TCP carries here are random bytes: no guesses at what they could be.
_NO_GUESSES = ["-d", "tcp.port==1-65535,data"]
#: Or STT is TCP to tshark.
_STT = ["-o", "ip.try_heuristic_first:TRUE", "-o", "ipv6.try_heuristic_first:TRUE"]
#: What an ICMP error quotes ends early: there is no telling of its checksum.
_QUOTED = 'frame.protocols contains "icmp:ip" || frame.protocols contains "icmpv6:ipv6"'
_KEYS = {"vxlan": "vxlan.vni", "nvgre": "gre.key", "stt": "stt.context_id"}
_BAD = (
    "_ws.malformed", "_ws.expert.severity == error", "ip.checksum.status == 0",
    "udp.checksum.status == 0", "tcp.checksum.status == 0", "icmp.checksum.status == 0",
    "icmpv6.checksum.status == 0", "gre.checksum.status == 0",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What tshark found: ``packets`` in all, ``tunnelled`` with which ``keys``, and the ``faults``.

    faults: one line a faulty packet, at most 20 of them; ``faulty`` is their number.
    """

    packets: int
    tunnelled: int
    keys: dict[int, int]
    faulty: int
    faults: tuple[str, ...]

    def good(self, segment: Segment) -> bool:
        """Tunnelled packets of this segment alone, and no fault in any packet."""
        return self.tunnelled > 0 and set(self.keys) == {segment.key} and not self.faulty


class Capture:
    """What passes a host's device, both ways, in the file ``path`` once it is stopped.

    It captures from when it is made; as a context manager, while the context
    lasts.  A ``path`` that ends in ``.pcap`` is a classic file, any other pcapng
    with the direction of every packet.
    """

    def __init__(self, host: Host, path: str, *, device: str = UNDERLAY) -> None:
        self.host, self.path, self.device = host, path, device
        self.packets = 0
        self._classic = path.endswith(".pcap")
        self._wire = Wire(host, device, both=True, buffer=_BUFFER)
        try:
            self._writer = CaptureWriter(
                path,
                "pcap" if self._classic else "pcapng",
                interfaces=[Interface(1, name=device)],
            )
        except BaseException:
            self._wire.close()
            raise
        self._ended = threading.Event()
        self._failed: Exception | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def _record(self) -> None:
        try:
            while self._burst() or not self._ended.is_set():
                pass
        except (LabError, OSError) as error:
            self._failed = error

    def _burst(self) -> bool:
        """Write what has come; whether anything has."""
        first = self._wire.take(_PATIENCE)
        if first is None:
            return False
        seen = [first]
        while len(seen) < _ROWS and (more := self._wire.take(0.0)) is not None:
            seen.append(more)
        for outgoing, run in itertools.groupby(seen, lambda one: one.outgoing):
            rows = list(run)
            batch = Batch.from_frames([one.frame for one in rows], headroom=0)
            direction: Literal["in", "out"] = "out" if outgoing else "in"
            times = [one.time for one in rows]
            self._writer.write(batch, times, direction=None if self._classic else direction)
        self.packets += len(seen)
        return True

    def stop(self) -> None:
        """Finish the file; what has passed until now is in it.

        :raises LabError: packets were lost, or the device is gone.
        :raises OSError: the file could not be written whole, and is not there.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._ended.set()
        thread.join()
        lost = 0 if self._failed else self._wire.lost()
        self._wire.close()
        if isinstance(self._failed, OSError):
            self._writer.discard()
            raise self._failed
        self._writer.close()
        if self._failed:
            raise self._failed
        if lost:
            raise LabError(f"host {self.host.name}: {self.device}: {lost} packets were lost")

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _tshark(path: str, *words: str) -> list[str]:
    need("tshark")
    options = [word for option in _OPTIONS for word in ("-o", option)]
    result = subprocess.run(
        ["tshark", "-n", "-r", path, *_NO_GUESSES, *options, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": "/nonexistent"},
    )
    if result.returncode:
        raise LabError(f"tshark: {result.stderr.strip()}")
    return result.stdout.splitlines()


def examine(path: str, segment: Segment) -> Verdict:
    """tshark's word on a capture of the segment's packets."""
    field = _KEYS[segment.tunnel]
    # Without a checksum over IPv6 is how RFC 6935 lets tunnels be.
    words = [] if segment.checksum else ["-o", "udp.ignore_ipv6_zero_checksum:TRUE"]
    stt = segment.tunnel == "stt"
    known = _STT if stt else []
    keys: Counter[int] = Counter()
    lines = _tshark(path, *words, *known, "-T", "fields", "-e", field, "-E", "occurrence=f")
    for line in lines:
        if line.strip():
            number = int(line, 0)
            keys[number >> 8 if segment.tunnel == "nvgre" else number] += 1
    columns = ["-T", "fields", "-E", "separator=/s", "-e", "frame.number", "-e", "frame.protocols"]
    columns += ["-e", "_ws.expert.message"]
    wrong = f"({' || '.join(_BAD)}) && !({_QUOTED})"
    if stt:  # where the header says so, the receiver completes the inner checksum
        wrong = f"_ws.malformed || (({wrong}) && !(stt.flags.csum_partial == 1))"
    bad = _tshark(path, *words, *known, "-Y", wrong, *columns)
    if stt:  # tshark's STT takes every outer checksum for bad; its TCP can tell
        bad += _tshark(path, "-Y", "tcp.checksum.status == 0", *columns)
    return Verdict(len(lines), sum(keys.values()), dict(keys), len(bad), tuple(bad[:20]))
