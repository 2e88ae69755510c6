"""Window: which sequence numbers of many streams have come, in bounded memory.

Lives here: new, duplicate, late, by stream and number, whole bursts at once.  What must
not: signatures, keys, times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SLOTS", "Window"]

Column = npt.NDArray[Any]

#: Numbers that are remembered, of all streams together (64 MiB).
SLOTS = 1 << 23
_WIDEST = 1 << 16


class Window:
    """What has come of each stream; streams are numbered from 0.

    Columns, a row a stream: ``received``, ``duplicated``, ``reordered``, ``extent``
    (how far behind the highest number a late one was, at most), ``unchecked`` (so late that
    a duplicate of it would not be known), ``lowest``, ``highest``.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._width = min(_WIDEST, slots)
        self._seen = np.zeros((0, self._width), np.uint64)
        self.count = 0
        self.received, self.duplicated, self.reordered, self.extent, self.unchecked = (
            np.zeros(0, np.int64) for _ in range(5)
        )
        self.lowest = np.zeros(0, np.uint64)
        self.highest = np.zeros(0, np.uint64)

    @property
    def width(self) -> int:
        """How many numbers of each stream are remembered: fewer, the more streams there are."""
        return self._width

    def grow(self, streams: int) -> None:
        """Have room for so many streams; the new ones have seen nothing."""
        rows = len(self.received)
        if streams > rows:
            room = max(streams, 2 * rows, 16)
            while self._width > 1 and room * self._width > self._slots:
                self._width //= 2
                self._seen = np.maximum(self._seen[:, : self._width], self._seen[:, self._width :])
            fresh = room - rows
            self._seen = np.concatenate([self._seen, np.zeros((fresh, self._width), np.uint64)])
            for name in ("received", "duplicated", "reordered", "extent", "unchecked"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros(fresh, np.int64)]))
            for name, start in (("lowest", 2**64 - 1), ("highest", 0)):
                column = getattr(self, name)
                added = np.full(fresh, start, np.uint64)
                setattr(self, name, np.concatenate([column, added]))
        self.count = max(self.count, streams)

    def take(self, stream: Column, sequence: Column) -> Column:
        """Count these arrivals, in order; which are new, one bool a row.

        :param stream: int64, below :attr:`count`; sorted, each stream's in order of arrival.
        :param sequence: uint64, below 2**63.
        """
        if not len(stream):
            return np.zeros(0, np.bool_)
        fresh = self._fresh(stream, sequence)
        started = self.received[stream] > 0
        known = np.where(started, self.highest[stream].astype(np.int64), -1)
        number = sequence.astype(np.int64)
        before = _highest_before(stream, number, known)
        late = fresh & (number < before)
        self.extent[:] = _at_most(self.extent, stream[late], (before - number)[late])
        rows = len(self.received)
        far = late & (before - number >= self._width)
        for column, counted in (
            (self.received, fresh), (self.duplicated, ~fresh), (self.reordered, late),
            (self.unchecked, far),
        ):  # fmt: skip
            column += np.bincount(stream[counted], minlength=rows)
        self.highest[:] = _at_most(self.highest, stream, sequence)
        np.minimum.at(self.lowest, stream, sequence)
        return fresh

    def _fresh(self, stream: Column, sequence: Column) -> Column:
        """Which have not come before; remembers them."""
        order = np.lexsort((sequence, stream))  # stable: of equal ones the first to come is first
        sorted_stream, sorted_number = stream[order], sequence[order]
        slot = (sorted_number % np.uint64(self._width)).astype(np.int64)
        new = self._seen[sorted_stream, slot] != sorted_number + np.uint64(1)
        same = sorted_stream[1:] == sorted_stream[:-1]
        new[1:] &= ~(same & (sorted_number[1:] == sorted_number[:-1]))
        # Ascending, so that the highest number of a slot stays; never under a higher one.
        kept = self._seen[sorted_stream, slot] <= sorted_number
        self._seen[sorted_stream[kept], slot[kept]] = sorted_number[kept] + np.uint64(1)
        fresh = np.empty(len(stream), np.bool_)
        fresh[order] = new
        return fresh


def _highest_before(stream: Column, number: Column, known: Column) -> Column:
    """Of each arrival the highest number of its stream before it; -1 for none.

    :param known: what it was before the burst.
    """
    first = np.ones(len(stream), np.bool_)
    first[1:] = stream[1:] != stream[:-1]
    shifted = np.empty_like(number)
    shifted[1:] = number[:-1]
    shifted[first] = -1
    group = np.cumsum(first) - 1
    lowest = int(min(shifted.min(), known.min()))
    span = int(max(shifted.max(), known.max())) - lowest + 1
    if span * (int(group[-1]) + 1) < 2**62:  # all groups in one running maximum
        lifted = np.maximum(shifted, known) - lowest + group * span
        running: Column = np.maximum.accumulate(lifted) - group * span + lowest
        return running
    parts = np.split(np.maximum(shifted, known), np.flatnonzero(first)[1:])
    return np.concatenate([np.maximum.accumulate(part) for part in parts])


def _at_most(column: Column, rows: Column, values: Column) -> Column:
    """The column with each of these rows raised to these values."""
    raised = column.copy()
    np.maximum.at(raised, rows, values.astype(column.dtype))
    return raised
