"""Capture: the underlay's packets in a file, and tshark's word on them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .host import Host, LabError, need
from .peer import Segment
from .topology import UNDERLAY

__all__ = ["Capture", "Verdict", "examine"]

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
    """dumpcap on a host's device while the context lasts; ``path`` is the pcap file."""

    def __init__(self, host: Host, path: str, *, device: str = UNDERLAY, words: str = "") -> None:
        """words: a capture filter."""
        need("dumpcap")
        self.host, self.path, self.device = host, path, device
        self._words = ["-f", words] if words else []
        self._process: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Capture:
        self._process = process = self.host.popen(
            ["dumpcap", "-P", "-B", "32", "-i", self.device, "-w", self.path, *self._words],
            stderr=subprocess.PIPE,
        )
        said = ""
        while "File:" not in said:  # it captures from here on
            line = process.stderr.readline() if process.stderr else ""
            if not line:
                raise LabError(f"host {self.host.name}: dumpcap: {said.strip()}")
            said += line
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        time.sleep(0.5)  # what has been sent is in the file by now
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise LabError(f"host {self.host.name}: dumpcap does not end") from None
        self._process = None
        lost = re.search(r"dropped on interface '.*': \d+/(\d+)", said)
        if lost and int(lost[1]):
            raise LabError(f"host {self.host.name}: dumpcap lost {lost[1]} packets")


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
