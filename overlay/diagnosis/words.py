"""Words: the bytes of a burst, read at many places at once.

Lives here: gathers, mixed hashes and internet checksums over numpy columns.
Must not: any knowledge of a header.  No position can be read outside the
data: one that does not lie in it is moved to its nearest end, and whether what
stands there means anything is the caller's to know.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Hashes", "Numbers", "Words", "fold", "mix"]

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

_MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(*columns: npt.NDArray[Any]) -> Hashes:
    """One well-mixed 64-bit number for each row of these columns; the order of them matters."""
    state = np.zeros(columns[0].shape, np.uint64)
    for column in columns:
        state = (state ^ column.astype(np.uint64)) * _MIX[0]
        state ^= state >> np.uint64(30)
        state *= _MIX[1]
        state ^= state >> np.uint64(27)
        state *= _MIX[2]
        state ^= state >> np.uint64(31)
    return state


def fold(total: npt.NDArray[Any]) -> Numbers:
    """Sums with their carries added back in, until they fit 16 bits (RFC 1071 1)."""
    folded = total.astype(np.int64)
    for _ in range(4):
        folded = (folded & 0xFFFF) + (folded >> 16)
    return folded


class Words:
    """Big-endian numbers at any byte of ``data``, a uint8 array, for many rows at once.

    Positions are int64 columns; results are too, but for :meth:`long`.
    """

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        if data.size < 16:
            data = np.concatenate([data, np.zeros(16, np.uint8)])
        self.data = data
        self._byte = data
        self._views = {
            size: np.ndarray((data.size - size + 1,), f">u{size}", data, 0, (1,))
            for size in (2, 4, 8)
        }

    def _at(self, size: int, at: Numbers) -> npt.NDArray[Any]:
        view = self._views[size]
        taken: npt.NDArray[Any] = view[np.minimum(np.maximum(at, 0), view.size - 1)]
        return taken

    def byte(self, at: Numbers) -> Numbers:
        """The byte at each position."""
        return self._byte[np.minimum(np.maximum(at, 0), self._byte.size - 1)].astype(np.int64)

    def word(self, at: Numbers) -> Numbers:
        """The 16-bit number at each position."""
        return self._at(2, at).astype(np.int64)

    def double(self, at: Numbers) -> Numbers:
        """The 32-bit number at each position."""
        return self._at(4, at).astype(np.int64)

    def long(self, at: Numbers) -> Hashes:
        """The 64-bit number at each position, uint64."""
        return self._at(8, at).astype(np.uint64)

    def sums(self, start: Numbers, end: Numbers) -> Numbers:
        """The folded ones' complement sum of the bytes ``start..end`` of each row.

        An empty range (``end <= start``) gives 0.  Fast where rows lie one behind
        another in the data and do not overlap.
        """
        shift = self.data.ctypes.data & 1  # of the first aligned word
        data = self.data[shift:]
        words = data[: data.size & ~1].view("<u2")
        total = np.zeros(start.size, np.int64)
        size = data.size
        low = np.minimum(np.maximum(start - shift, 0), size)
        high = np.minimum(np.maximum(end - shift, low), size)
        odd = low & 1
        first, last = (low + 1) >> 1, high >> 1
        rows = np.flatnonzero(last > first)
        if rows.size:
            pairs = np.empty(2 * rows.size, np.int64)
            pairs[0::2], pairs[1::2] = first[rows], last[rows]
            if (pairs[1:] < pairs[:-1]).any():
                ranges = zip(start.tolist(), end.tolist(), strict=True)
                return np.array([self._plain(low, high) for low, high in ranges], np.int64)
            if pairs[-1] >= words.size:
                pairs = pairs[:-1]
            total[rows] = np.add.reduceat(words, pairs, dtype=np.uint64)[0::2].astype(np.int64)
        here = high > low
        total += np.where(here & (odd == 1), self.byte(start) << 8, 0)  # a word's second byte
        total += np.where(here & (high & 1 == 1) & (high > low + odd), self.byte(end - 1), 0)
        total = fold(total)
        swapped = (total & 0xFF) << 8 | total >> 8  # RFC 1071 2(B)
        folded: Numbers = np.where(odd == 1, total, swapped)
        # A range that begins before the first aligned word lacks its first byte.
        for row in np.flatnonzero((start < shift) & (end > start)).tolist():
            folded[row] = self._plain(int(start[row]), int(end[row]))
        return folded

    def _plain(self, start: int, end: int) -> int:
        """The sum of one range, byte by byte."""
        data = self.data[max(0, start) : max(0, end)].astype(np.int64)
        return int(fold(np.array([(data[0::2].sum() << 8) + data[1::2].sum()]))[0])
