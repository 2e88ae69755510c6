"""Loop: the same frame again: doubled, sent on from tunnel to tunnel, come back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from .findings import Findings
from .sight import Sight
from .table import NOWHERE, Table, previous
from .words import Hashes, Numbers, mix

__all__ = ["LoopDetector"]

#: Frames that are remembered, as a power of two.
_BITS = 16
#: Nanoseconds within which the same frame is a doubled one: no sender sends it again so soon,
#: where an IPv4 identification tells its packets apart, and where nothing does.
_SOON, _AT_ONCE = 50_000_000, 1_000_000
#: And within which it is one that travels.
_LATER = 1_000_000_000
#: Frames whose travels are written down.
_LIMIT = 4096


@dataclass
class _Trail:
    """The last hops of a frame: source, destination, time and number."""

    hops: deque[tuple[int, int, int, int]] = field(default_factory=lambda: deque(maxlen=16))


class LoopDetector:
    """Remembers frames by what is in them."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        columns = {
            "source": np.uint64, "destination": np.uint64, "time": np.int64, "number": np.int64,
            "interface": np.int64,
        }  # fmt: skip
        self._frames = Table(_BITS, columns, recent=True)
        self._trails: dict[int, _Trail] = {}
        self._lost = 0

    def take(self, sight: Sight) -> None:
        rows = np.flatnonzero(sight.taken & sight.inner.here & (sight.tunnel != NOWHERE))
        if not rows.size:
            return
        o = sight.outer
        slots, fresh = self._frames.place(self._names(sight, rows))
        held = slots != NOWHERE
        rows, slots, fresh = rows[held], slots[held], fresh[held]
        values = {
            "source": o.source[rows], "destination": o.destination[rows], "time": sight.time[rows],
            "number": sight.number[rows], "interface": sight.interface[rows],
        }  # fmt: skip
        pairs = [(self._frames[name], column) for name, column in values.items()]
        known, before = previous(slots, fresh, pairs)
        since = values["time"] - before[2]
        # One packet captured at two interfaces is no second one.
        twice = known & (since >= 0) & (since < _LATER) & (before[4] == values["interface"])
        for place in np.flatnonzero(twice).tolist():
            hop = tuple(int(column[place]) for column in before[:4])
            self._note(sight, int(rows[place]), int(slots[place]), hop)

    def _names(self, sight: Sight, rows: Numbers) -> Hashes:
        """A hash of each frame: its first 46 bytes, its length, its sum."""
        i, words = sight.inner, sight.words
        at, stop = i.at[rows], i.stop[rows]
        last = np.maximum(stop - 8, at)
        parts = [words.long(np.minimum(at + step, last)) for step in (0, 8, 16, 24, 32, 38)]
        total = words.sums(at, stop)
        return mix(sight.key[rows], i.end[rows] - at, total, words.long(last), *parts)

    def _note(self, sight: Sight, row: int, slot: int, before: tuple[int, ...]) -> None:
        """Say what the frame of this row does, that was seen before."""
        o = sight.outer
        source, destination = int(o.source[row]), int(o.destination[row])
        time, number = int(sight.time[row]), int(sight.number[row])
        trail = self._trails.get(slot)
        if trail is None:
            if len(self._trails) >= _LIMIT:
                self._trails.pop(next(iter(self._trails)))
                self._lost += 1
            trail = self._trails[slot] = _Trail()
        if not trail.hops or trail.hops[-1][3] != before[3]:
            trail.hops.clear()
            trail.hops.append((before[0], before[1], before[2], before[3]))
        hops = [hop for hop in trail.hops if time - hop[2] < _LATER]
        trail.hops.append((source, destination, time, number))
        kind, other = None, 0
        came = [hop for hop in hops if hop[1] == source]
        if came and any(hop[0] == destination for hop in hops):
            kind, other = "frame-loop", came[-1][3]
        elif came:
            kind, other = "re-encapsulated", came[-1][3]
        else:
            i = sight.inner
            told = i.family[row] == 4 and sight.words.word(i.l3[row : row + 1] + 4)[0] != 0
            soon = _SOON if told else _AT_ONCE
            same = [h for h in hops if h[:2] == (source, destination) and time - h[2] < soon]
            if same:
                kind, other = "duplicate-frame", same[-1][3]
        if kind is not None:
            self._findings.add(
                kind, int(sight.tunnel[row]), [number], 1,
                lambda: f"{sight.inner_flow(row)}, {sight.ends(row)}: the frame of packet {other}",
            )  # fmt: skip

    def finish(self) -> None:
        pass

    def left_out(self) -> dict[str, int]:
        # Frames that were forgotten long ago are no loss: the tables look back a second.
        return {"doubled frames": self._lost}
