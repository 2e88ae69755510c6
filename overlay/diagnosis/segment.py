"""Segment: STT frames of several segments that never became whole, or twice.

A frame all of whose segments lie in one burst, in order or not, is settled by
numpy; only what is left is looked at one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .findings import EXAMPLES, Findings
from .outer import Outer
from .report import Severity
from .sight import STT, Sight
from .table import NOWHERE, Table
from .words import Hashes, Numbers, Words, mix

__all__ = ["SegmentDetector", "SegmentKeys"]

#: Frames that wait at once.
_LIMIT = 4096
#: Nanoseconds that a receiver waits (30 s), after which a frame ID may come again.
_TIMEOUT = 30_000_000_000
#: A frame that began so close to the end of the capture may have gone on.
_END = 100_000_000


@dataclass
class _Frame:
    length: int
    ident: int
    tunnel: int
    begun: int
    ends: str
    parts: list[tuple[int, int]] = field(default_factory=list)
    packets: list[int] = field(default_factory=list)

    def missing(self) -> list[tuple[int, int]]:
        """The ranges that have not come."""
        gaps, at = [], 0
        for start, end in sorted(self.parts):
            if start > at:
                gaps.append((at, start))
            at = max(at, end)
        return gaps + ([(at, self.length)] if at < self.length else [])


class SegmentKeys:
    """Which Context ID later segments belong to: that of their frame's first one."""

    def __init__(self) -> None:
        self._keys = Table(12, {"key": np.uint64}, recent=True)

    def take(self, words: Words, headers: Outer, keys: Hashes) -> None:
        """Write the keys of segments to ``keys``, where their first segment was seen."""
        o = headers
        stt = (o.promised == STT) & ~o.is_fragment & (o.l4 + 20 <= o.stop)
        if not stt.any():
            return
        length, start = words.word(o.l4 + 4), words.word(o.l4 + 6)
        name = mix(o.source, o.destination, o.sport << 16 | length, words.double(o.l4 + 8))
        at = o.l4 + (words.byte(o.l4 + 12) >> 4) * 4
        first = np.flatnonzero(stt & (start == 0) & (at + 18 <= o.stop))
        keys[first] = words.long(at[first] + 8)
        slots, _ = self._keys.place(name[first])
        held = slots != NOWHERE
        self._keys["key"][slots[held]] = keys[first[held]]
        later = np.flatnonzero(stt & (start != 0))
        slots = self._keys.find(name[later])
        held = slots != NOWHERE
        keys[later[held]] = self._keys["key"][slots[held]]


class SegmentDetector:
    """Frames by ends, source port, frame ID and length."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._frames: dict[int, _Frame] = {}
        self._lost = 0
        self._now = 0

    def take(self, sight: Sight) -> None:
        o, words = sight.outer, sight.words
        at = o.l4
        stt = (sight.protocol == STT) & ~o.is_fragment & (at + 20 <= o.stop)
        if not stt.any():
            return
        self._now = max(self._now, int(sight.time.max()))
        length, start = words.word(at + 4), words.word(at + 6)
        header = (words.byte(at + 12) >> 4) * 4
        end = start + o.end - at - header
        part = stt & (end > start) & (end <= length) & (length >= 32)
        rows = np.flatnonzero(part & (end - start < length) & (sight.tunnel != NOWHERE))
        if not rows.size:
            return
        ident = words.double(at + 8)
        name = mix(
            o.source[rows], o.destination[rows], o.sport[rows] << 16 | length[rows], ident[rows]
        )
        for place in self._unsettled(name, start[rows], end[rows], length[rows]).tolist():
            row = int(rows[place])
            self._note(sight, row, int(name[place]), int(start[row]), int(end[row]),
                       int(length[row]), int(ident[row]))  # fmt: skip
        self._expire()

    def _unsettled(self, name: Hashes, start: Numbers, end: Numbers, length: Numbers) -> Numbers:
        """The segments whose frames do not lie in this burst whole, each byte once."""
        order = np.lexsort((start, name))
        named, begin, stop = name[order], start[order], end[order]
        first = np.ones(named.size, np.bool_)
        first[1:] = named[1:] != named[:-1]
        last = np.append(first[1:], True)
        follows = np.empty(named.size, np.bool_)
        follows[1:] = begin[1:] == stop[:-1]
        follows[first] = begin[first] == 0
        follows &= ~last | (stop == length[order])
        group = np.cumsum(first) - 1
        broken = np.bincount(group, ~follows) > 0
        if self._frames:  # begun in an earlier burst
            waiting = np.fromiter(self._frames, np.uint64, len(self._frames))
            broken |= np.isin(named[first], waiting)
        return np.sort(order[broken[group]])

    def _note(
        self, sight: Sight, row: int, name: int, start: int, end: int, length: int, ident: int
    ) -> None:
        frame = self._frames.get(name)
        if frame is None:
            if len(self._frames) >= _LIMIT:
                self._give_up(self._frames.pop(next(iter(self._frames))))
                self._lost += 1
            frame = _Frame(length, ident, int(sight.tunnel[row]), int(sight.time[row]),
                           sight.ends(row))  # fmt: skip
            self._frames[name] = frame
        number = int(sight.number[row])
        what = f"frame {ident:#010x} of {length} bytes: bytes {start} to {end}"
        if any(a <= start and end <= b for a, b in frame.parts):
            self._findings.add("stt-duplicate", frame.tunnel, [number], 1, f"{what} came before")
            return
        if any(a < end and start < b for a, b in frame.parts):
            self._findings.add(
                "stt-overlap", frame.tunnel, [number], 1, f"{what} overlap bytes that came before"
            )
            return
        frame.parts.append((start, end))
        if len(frame.packets) < EXAMPLES:
            frame.packets.append(number)
        if sum(b - a for a, b in frame.parts) == length:
            # It stays, so that a segment that comes once more is known.
            frame.parts = [(0, length)]

    def _expire(self) -> None:
        """Frames come in order of time: give up those at the front that are too old."""
        while self._frames:
            name = next(iter(self._frames))
            if self._now - self._frames[name].begun < _TIMEOUT:
                return
            self._give_up(self._frames.pop(name))

    def _give_up(self, frame: _Frame) -> None:
        gaps = frame.missing()
        if not gaps:
            return
        parts = ", ".join(f"{start} to {end}" for start, end in gaps[:3])
        more = f" and {len(gaps) - 3} ranges more" if len(gaps) > 3 else ""
        late = self._now - frame.begun < _END
        self._findings.add(
            "stt-incomplete", frame.tunnel, frame.packets, 1,
            f"{frame.ends}: frame {frame.ident:#010x} of {frame.length} bytes lacks bytes {parts}"
            f"{more}" + ("; the capture ends soon after" if late else ""),
            severity=Severity.INFO if late else Severity.WARNING,
        )  # fmt: skip

    def finish(self) -> None:
        while self._frames:
            self._give_up(self._frames.pop(next(iter(self._frames))))

    def left_out(self) -> dict[str, int]:
        return {"STT frames": self._lost}
