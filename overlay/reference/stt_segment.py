"""STT frames as several segments: cutting them, and putting them together again.

draft-davie-stt-08 3.2.  Reassembly has a budget of pages and no clock of its
own; what it holds is bytes, never a caller's buffer.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from overlay.batch import Batch
from overlay.codec import (
    Buffer,
    Codec,
    Decapsulated,
    Reassembler,
    ReassemblyStats,
    byte_view,
    nanoseconds,
)
from overlay.errors import DecapError, EncapError, MTUExceeded, Status
from overlay.profile import Profile
from overlay.tunnel import STT

from . import offload, rows, stt
from .delivery import Delivered, deliver
from .hash import source_port
from .inner import recognise
from .outer import Outer, parse

__all__ = ["SttReassembler", "cut", "pieces"]

# ---- constants ---------------------------------------------------------------

PAGE = 2048  # bytes of STT frame
MAX_HEADER = 256  # bytes of outer headers that are kept with a frame
CE = 3

# ---- cut ---------------------------------------------------------------------


def pieces(tunnel: STT, frame: bytes, wire: int, mtu: int, row: stt.Row = stt.PLAIN) -> list[bytes]:
    """The inner frames that this one travels as: itself, or its TCP pieces if it is too long.

    Raises :class:`EncapError` FRAME_TOO_LONG, MTU_EXCEEDED where no segment has room for a
    byte, FRAME_CUT.
    """
    most = stt.MAX_FRAME - stt.FRAME_HEADER
    frames = [frame]
    if len(frame) == wire > most and mtu:
        mss = stt.segment_size(tunnel, row) or _filling_mss(frame, _size(tunnel, mtu))
        frames = offload.segments(frame, mss)
    if max(map(len, frames)) > most or (len(frames) == 1 and wire > most):
        raise EncapError(Status.FRAME_TOO_LONG)
    if mtu and _size(tunnel, mtu) < 1:
        raise MTUExceeded
    if len(frame) < wire:
        raise EncapError(Status.FRAME_CUT)
    return frames


def cut(
    tunnel: STT,
    h: int,
    frame: bytes,
    tci: int,
    sequence: int,
    mtu: int,
    row: stt.Row = stt.PLAIN,
) -> list[bytes]:
    """The IP payloads that carry a frame, none larger than the MTU allows; 0 is no limit."""
    size = _size(tunnel, mtu) if mtu else stt.MAX_FRAME
    frame_id = sequence & 0xFFFFFFFF if tunnel.frame_id is None else tunnel.frame_id
    port = source_port(tunnel, h)
    stt_frame = stt.build_frame(tunnel, frame, tci, row)
    return [
        stt.build_segment(
            tunnel, port, frame_id, stt_frame, start, min(start + size, len(stt_frame))
        )
        for start in range(0, len(stt_frame), size)
    ]


def _size(tunnel: STT, mtu: int) -> int:
    """Bytes of STT frame in each segment but the last."""
    return mtu - (20 if tunnel.family == 4 else 40) - stt.SEGMENT_HEADER


def _filling_mss(frame: bytes, size: int) -> int:
    """The MSS that makes a piece of a TCP frame just one segment; 0 where none does."""
    headers = offload.tcp_payload(frame, recognise(frame))
    return max(0, size - stt.FRAME_HEADER - headers)


# ---- reassemble --------------------------------------------------------------

#: Destination, source, source port, frame ID, frame length.
_Key = tuple[bytes, bytes, int, int, int]


@dataclass(frozen=True)
class _Pending:
    """A frame that is being filled.  ``seen`` has a 1 for every byte that has come."""

    first: int  # when its first segment came, ns
    data: bytes
    seen: bytes
    pages: frozenset[int] = frozenset()
    congested: bool = False
    head: Outer | None = None  # the segment at offset 0, if it has come
    header: bytes = b""

    def with_segment(self, segment: stt.Segment) -> _Pending:
        start, end = segment.start, segment.end
        filled = dataclasses.replace(
            self,
            data=self.data[:start] + segment.payload + self.data[end:],
            seen=self.seen[:start] + b"\1" * (end - start) + self.seen[end:],
            pages=self.pages | set(range(start // PAGE, (end - 1) // PAGE + 1)),
            congested=self.congested or segment.outer.tos & 3 == CE,
        )
        if start == 0:
            outer = segment.outer
            filled = dataclasses.replace(filled, head=outer, header=outer.packet[: segment.at])
        return filled

    @property
    def is_whole(self) -> bool:
        return all(self.seen)

    def deliver(self, profile: Profile, partial: bool) -> Delivered:
        """The whole frame, checked and mended (3.3.1: CE if any segment had it)."""
        assert self.head is not None
        tos = self.head.tos | CE if self.congested else self.head.tos
        whole = stt.carried(self.data, len(self.data), self.header, self.head.link, tos, profile)
        return deliver(whole, profile, partial=partial)


@dataclass
class _Table:
    """The frames that are being filled, in the order in which they came, in bounded memory."""

    budget: int  # pages
    frames: dict[_Key, _Pending] = field(default_factory=dict)

    @property
    def used(self) -> int:
        return sum(len(pending.pages) for pending in self.frames.values())

    def put(self, key: _Key, pending: _Pending) -> int:
        """Keep a frame, evicting the oldest others until it has room; returns how many."""
        self.frames[key] = pending
        evicted = 0
        while self.used > self.budget:
            oldest = next(other for other in self.frames if other != key)
            del self.frames[oldest]
            evicted += 1
        return evicted


class SttReassembler(Reassembler):
    """See :class:`overlay.codec.Reassembler`; calls from several threads take turns."""

    #: Set once, by the package.
    codec: ClassVar[Codec]

    def __init__(
        self,
        timeout: float = 30.0,
        memory: int = 4 << 20,
        *,
        profile: str | Profile = "rfc",
        **options: Any,
    ) -> None:
        super().__init__(timeout, memory, profile=profile, **options)
        self._lock = threading.Lock()
        self._table = _Table(self.memory // PAGE)
        self._counts: Counter[str] = Counter()

    def push(self, packet: Buffer, now: float) -> Decapsulated | None:
        at = nanoseconds(now)
        data = bytes(byte_view(packet, "packet"))
        try:
            with self._lock:
                self._expire(at)
                whole = self._push(lambda: (data, len(data), 0), at, lambda _: True, False)
        except DecapError as error:
            if error.status in (Status.STT_DUPLICATE, Status.STT_OVERLAP):
                return None
            raise
        if whole is None:
            return None
        return Decapsulated(
            whole.frame, whole.key, whole.protocol, whole.header, whole.link,
            whole.mss, whole.wire, self.codec,
        )  # fmt: skip

    def push_batch(self, batch: Batch, out: Batch, now: float) -> int:
        at = nanoseconds(now)
        rows.check_pair(batch, out)
        with self._lock:
            self._expire(at)
            return self._push_rows(batch, out, at)

    def _push_rows(self, batch: Batch, out: Batch, at: int) -> int:
        frames = 0
        for row in rows.pending(batch):
            try:
                whole = self._push(
                    partial(rows.read, batch, row), at, lambda size: rows.fits(out, [size]),
                    self.profile.partial,
                )  # fmt: skip
            except DecapError as error:
                batch.status[row] = error.status
                continue
            if whole is None:
                batch.status[row] = Status.STT_INCOMPLETE
                continue
            rows.append(
                out, whole.frame, whole.wire, row, whole.key, whole.protocol,
                mss=whole.mss,
                checksum=whole.checksum or 0,
                headroom=stt.FRAME_HEADER - whole.grown,
            )  # fmt: skip
            frames += 1
        return frames

    def expire(self, now: float) -> int:
        with self._lock:
            return self._expire(nanoseconds(now))

    @property
    def stats(self) -> ReassemblyStats:
        with self._lock:
            frames, used = len(self._table.frames), self._table.used
            return ReassemblyStats(**self._counts, pending=frames, memory=used * PAGE)

    def _expire(self, now: int) -> int:
        timeout = nanoseconds(self.timeout)
        frames = self._table.frames
        over = [key for key, pending in frames.items() if now - pending.first >= timeout]
        for key in over:
            del frames[key]
        self._counts["timed_out"] += len(over)
        return len(over)

    def _push(
        self,
        read: Callable[[], tuple[bytes, int, int]],
        now: int,
        fits: Callable[[int], bool],
        partial: bool,
    ) -> Delivered | None:
        """The whole frame, or None if the segment is held.  Raises :class:`DecapError`.

        ``fits`` says whether there is room for an STT frame of so many bytes.
        Where there is not, NO_ROOM leaves all as if the packet had not come.
        """
        try:
            whole = self._take(*read(), now, fits, partial)
        except DecapError as error:
            if error.status != Status.NO_ROOM:
                counter = {Status.STT_DUPLICATE: "duplicates", Status.STT_OVERLAP: "overlaps"}
                self._counts["segments"] += 1
                self._counts[counter.get(error.status, "refused")] += 1
            raise
        self._counts["segments"] += 1
        self._counts["frames"] += whole is not None
        return whole

    def _take(
        self,
        packet: bytes,
        wire: int,
        link: int,
        now: int,
        fits: Callable[[int], bool],
        partial: bool,
    ) -> Delivered | None:
        profile = self.profile
        outer = parse(packet, wire, link, profile)
        if outer.protocol != stt.PROTOCOL or "stt" not in profile.protocols:
            raise DecapError(Status.UNKNOWN_PROTOCOL)
        segment = stt.parse_segment(outer, profile)
        if segment.is_whole:
            if not fits(len(segment.payload)):
                raise DecapError(Status.NO_ROOM)
            return deliver(stt.of_segment(segment, profile), profile, partial=partial)
        if outer.is_cut:
            raise DecapError(Status.FRAME_CUT)
        if segment.at > MAX_HEADER:
            raise DecapError(Status.IP_EXTENSION)

        key = (outer.destination, outer.source, segment.port, segment.frame_id, segment.length)
        nothing = bytes(segment.length)
        pending = self._table.frames.get(key, _Pending(now, nothing, nothing))
        seen = pending.seen[segment.start : segment.end]
        if all(seen):
            raise DecapError(Status.STT_DUPLICATE)
        if any(seen):
            raise DecapError(Status.STT_OVERLAP)
        pending = pending.with_segment(segment)
        if pending.is_whole and not fits(segment.length):
            raise DecapError(Status.NO_ROOM)
        self._counts["evicted"] += self._table.put(key, pending)
        if not pending.is_whole:
            return None
        del self._table.frames[key]
        return pending.deliver(profile, partial)
