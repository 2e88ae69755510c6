"""Diagnosis: drives the detectors over a capture, and counts its tunnels.

Lives here: bursts in, report out.  Must not: any fault; each has its detector.
"""

from __future__ import annotations

import os
from typing import IO, Any

import numpy as np

import overlay
from overlay.batch import Batch
from overlay.errors import ConfigError, Status
from overlay.io.pcap import Burst, Capture, open_capture
from overlay.profile import Profile
from overlay.tunnel import integer

from . import inner, outer
from .checksum import ChecksumDetector
from .findings import Findings
from .flow import Flows
from .header import HeaderDetector
from .loop import LoopDetector
from .mark import MarkDetector
from .mtu import MtuDetector
from .path import PathDetector
from .refused import RefusedDetector
from .report import Report, TunnelReport
from .segment import SegmentDetector, SegmentKeys
from .sight import (
    ERSPAN,
    GENEVE,
    GPE,
    GRE,
    NAMES,
    NO_KEY,
    NVGRE,
    STT,
    VXLAN,
    Detector,
    Finisher,
    Sight,
)
from .symmetry import SymmetryDetector
from .table import NOWHERE, Table
from .tcp import TcpDetector
from .words import Bools, Hashes, Numbers, Words, mix

__all__ = ["Diagnoser", "diagnose"]

#: Tunnels that are told apart, as a power of two.
_TUNNELS = 13
_BURST = 4 << 20
# Refused for these, a packet has no key.
_KEYLESS = tuple(
    int(status) for status in Status
    if status.name.startswith("GRE_") or status in (Status.VXLAN_NO_VNI, Status.HEADER_TRUNCATED)
)  # fmt: skip


class Diagnoser:
    """Takes bursts of a capture, in order; :meth:`report` says what they show.

    Its memory does not grow with the capture: every table has a bound, and the
    report says what was left out.

    :param paths: how many equal paths to share out the outer headers to, 2..1024.
    :param mtu: the underlay's IP MTU in bytes, if it is known, 68..65535.
    :param options: fields of the :class:`~overlay.profile.Profile`, such as
        ``vxlan_port``.
    """

    def __init__(self, *, paths: int = 8, mtu: int | None = None, **options: Any) -> None:
        paths = integer("paths", paths, 2, 1024)
        mtu = None if mtu is None else integer("mtu", mtu, 68, 65535)
        for name in ("verify_checksums", "zero_checksum6", "ecn", "keys", "partial"):
            if name in options:
                raise ConfigError(name, options[name], "left to the diagnosis")
        loose = {"verify_checksums": False, "ecn": "ignore"}
        self._lenient = Profile.of("lenient", **loose, **options)
        self._rfc = Profile.of("rfc", zero_checksum6=True, **loose, **options)
        self._findings = Findings()
        columns = {
            "packets": np.int64, "bytes": np.int64, "begin": np.int64, "end": np.int64,
            "first": np.int64, "protocol": np.uint8, "key": np.uint64,
        }  # fmt: skip
        self._tunnels = Table(_TUNNELS, columns)
        self._ends: dict[int, tuple[str, str]] = {}
        self._packets = self._bytes = self._others = self._unplaced = 0
        found = self._findings
        self._words: Words | None = None
        self._flows = Flows()
        self._segments = SegmentKeys()
        self._checksums = ChecksumDetector(found)
        self._by_flow = PathDetector(found, self._flows, paths), TcpDetector(found, self._flows)
        self._detectors: list[Detector] = [
            RefusedDetector(found),
            self._checksums,
            HeaderDetector(found),
            MarkDetector(found),
            MtuDetector(found, mtu),
            SegmentDetector(found),
            SymmetryDetector(found),
            LoopDetector(found),
        ]

    def take(self, burst: Burst) -> None:
        """Look at a burst; its batch is only read."""
        if not len(burst):
            return
        sight = self._look(burst)
        self._count(sight)
        for detector in self._detectors:
            detector.take(sight)
        flows = self._flows.take(sight)
        for by_flow in self._by_flow:
            by_flow.take(sight, flows)

    def _look(self, burst: Burst) -> Sight:
        batch, first, rows = burst.batch, burst.first, len(burst)
        self._words = words = Words(batch.data, self._words)
        headers = outer.parse(words, batch, self._lenient)
        found = overlay.inspect_batch(batch, self._lenient)
        status = found.status.astype(np.int64)
        strict = overlay.inspect_batch(batch, self._rfc).status.astype(np.int64)
        taken = status == 0
        protocol = np.where(taken, found.protocol, headers.promised).astype(np.int64)
        key = found.key.copy()
        if not taken.all():
            key = np.where(taken, key, _keys(words, headers, status))
            self._segments.take(words, headers, key)
        frame = np.where(taken, found.frame_offset, 0).astype(np.int64)
        end = frame + np.where(taken, found.frame_wire, 0).astype(np.int64)
        raw = _carries_ip(words, headers, protocol)
        return Sight(
            profile=self._lenient, words=words, outer=headers,
            inner=inner.parse(words, taken, raw, frame, end, headers.stop),
            number=np.arange(first + 1, first + rows + 1, dtype=np.int64),
            time=burst.timestamps.astype(np.int64), interface=burst.interface.astype(np.int64),
            status=status, strict_status=strict,
            protocol=protocol, key=key, tunnel=np.full(rows, NOWHERE, np.int64),
        )  # fmt: skip

    def _count(self, sight: Sight) -> None:
        """Find each packet's tunnel, and count it there."""
        self._packets += sight.rows
        self._bytes += int(sight.outer.wire.sum())
        inside = sight.protocol != 0
        rows = np.flatnonzero(inside)
        self._others += sight.rows - rows.size
        if not rows.size:
            return
        tunnels = self._tunnels
        slots, fresh = tunnels.place(mix(sight.pair[rows], sight.key[rows]))
        sight.tunnel[rows] = slots
        self._unplaced += int(np.count_nonzero(slots == NOWHERE))
        rows, slots, fresh = (part[slots != NOWHERE] for part in (rows, slots, fresh))
        if not rows.size:
            return
        self._describe(sight, rows, slots, fresh)
        size = len(tunnels["packets"])
        tunnels["packets"][:] += np.bincount(slots, minlength=size)
        tunnels["bytes"][:] += np.bincount(slots, sight.outer.wire[rows], size).astype(np.int64)
        np.minimum.at(tunnels["begin"], slots, sight.time[rows])
        np.maximum.at(tunnels["end"], slots, sight.time[rows])

    def _describe(self, sight: Sight, rows: Numbers, slots: Numbers, fresh: Bools) -> None:
        """Write down what new tunnels are."""
        new, index = np.unique(slots[fresh], return_index=True)
        for slot, row in zip(new.tolist(), rows[fresh][index].tolist(), strict=True):
            self._ends[slot] = sight.address(row, "source"), sight.address(row, "destination")
            for name, column in (
                ("begin", sight.time), ("end", sight.time), ("first", sight.number),
                ("protocol", sight.protocol), ("key", sight.key),
            ):  # fmt: skip
                self._tunnels[name][slot] = column[row]

    def report(self) -> Report:
        """What was found; nothing can be taken after it."""
        every: list[Finisher] = [*self._detectors, *self._by_flow]
        for detector in every:
            detector.finish()
        found = self._findings.by_tunnel()
        left_out = {"tunnels": self._unplaced, "findings": self._findings.lost}
        for detector in every:
            left_out.update(detector.left_out())
        order = np.argsort(self._tunnels["first"], kind="stable").tolist()
        tunnels = [
            self._tunnel(slot, tuple(found.get(slot, ()))) for slot in order if slot in self._ends
        ]
        return Report(
            packets=self._packets, bytes=self._bytes, others=self._others,
            tunnels=tuple(tunnels), findings=tuple(found.get(NOWHERE, ())),
            unjudged={name: n for name, n in self._checksums.unjudged.items() if n},
            left_out={name: n for name, n in left_out.items() if n},
        )  # fmt: skip

    def _tunnel(self, slot: int, findings: tuple[Any, ...]) -> TunnelReport:
        known = {name: int(self._tunnels[name][slot]) for name in (
            "packets", "bytes", "begin", "end", "first", "protocol", "key"
        )}  # fmt: skip
        source, destination = self._ends[slot]
        return TunnelReport(
            source=source, destination=destination,
            protocol=NAMES.get(known["protocol"], "?"),
            key=None if known["key"] == NO_KEY else known["key"],
            packets=known["packets"], bytes=known["bytes"], begin=known["begin"],
            end=known["end"], packet=known["first"], findings=findings,
        )  # fmt: skip


def _carries_ip(words: Words, headers: outer.Outer, protocol: Numbers) -> Bools:
    """Which packets carry IP without Ethernet, by their tunnel header."""
    newer = protocol > STT
    if not newer.any():
        return newer
    at = headers.l4 + np.where(headers.protocol == outer.UDP, 8, 0)
    said = words.word(at + 2)
    by_type = np.isin(protocol, (GENEVE, GRE)) & np.isin(said, (0x0800, 0x86DD))
    by_number = (protocol == GPE) & (words.byte(at) & 0x04 != 0) & np.isin(said & 0xFF, (1, 2))
    type_3 = (protocol == ERSPAN) & (said == 0x22EB)
    mirror = at + 4 + np.where(words.word(at) & 0x1000 != 0, 4, 0)
    by_frame = type_3 & (words.word(mirror + 10) >> 10 & 0x1F == 2)
    carries: Bools = by_type | by_number | by_frame
    return carries


def _keys(words: Words, headers: outer.Outer, status: Numbers) -> Hashes:
    """The keys of packets that decap refuses for something else, where they are readable."""
    shim = headers.l4 + np.where(headers.protocol == outer.UDP, 8, 0)
    readable = (shim + 8 <= headers.stop) & ~np.isin(status, _KEYLESS)
    keys = np.full(status.size, NO_KEY, np.uint64)
    by_number = readable & np.isin(headers.promised, (VXLAN, NVGRE, GENEVE, GPE))
    network = words.double(shim + 4) >> 8
    keys[by_number] = network[by_number].astype(np.uint64)
    return keys


def diagnose(
    capture: str | os.PathLike[str] | IO[bytes] | Capture | Batch,
    *,
    paths: int = 8,
    mtu: int | None = None,
    **options: Any,
) -> Report:
    """Look for faults in a capture of tunnel packets.

    :param capture: a path, a file object, an open
        :class:`~overlay.io.pcap.Capture` or a :class:`~overlay.Batch` of packets.
    :param paths: how many equal paths to share out the outer headers to, 2..1024.
    :param mtu: the underlay's IP MTU in bytes, if it is known, 68..65535.
    :param options: fields of the :class:`~overlay.profile.Profile`, such as
        ``vxlan_port``.
    :raises ConfigError: before anything is read.
    :raises CaptureError: it is not a capture, or broken.
    """
    work = Diagnoser(paths=paths, mtu=mtu, **options)
    if isinstance(capture, Batch):
        times = np.zeros(capture.count, np.int64)
        numbers = np.zeros(capture.count, np.uint32)
        work.take(Burst(capture, 0, 0, numbers, times=times))
    elif isinstance(capture, Capture):
        for burst in capture:
            work.take(burst)
    else:
        with open_capture(capture, burst_bytes=_BURST) as opened:
            for burst in opened:
                work.take(burst)
    return work.report()
