"""Words: the bytes of a burst, read at many places at once.

Lives here: gathers, mixed hashes and internet checksums over numpy columns.
Must not: any knowledge of a header.  No position can be read outside the
data: one that does not lie in it is moved to its nearest end, and whether what
stands there means anything is the caller's to know.
"""

from __future__ import annotations

from functools import cached_property
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

    :param data: what to read.
    :param before: words that are not read any more, whose memory is taken.
    """

    _room: Hashes

    def __init__(self, data: npt.NDArray[np.uint8], before: Words | None = None) -> None:
        self._room = np.empty(0, np.uint64) if before is None else before._room
        if data.size < 16:
            data = np.concatenate([data, np.zeros(16, np.uint8)])
        self.data = data
        self._views = {
            size: np.ndarray((data.size - size + 1,), f">u{size}", data, 0, (1,))
            for size in (2, 4, 8)
        }

    def _at(self, view: npt.NDArray[Any], at: Numbers) -> npt.NDArray[Any]:
        last = view.size - 1
        if at.size and (int(at.max()) > last or int(at.min()) < 0):
            at = np.minimum(np.maximum(at, 0), last)
        taken: npt.NDArray[Any] = view[at]
        return taken

    def byte(self, at: Numbers) -> Numbers:
        """The byte at each position."""
        return self._at(self.data, at).astype(np.int64)

    def word(self, at: Numbers) -> Numbers:
        """The 16-bit number at each position."""
        return self._at(self._views[2], at).astype(np.int64)

    def double(self, at: Numbers) -> Numbers:
        """The 32-bit number at each position."""
        return self._at(self._views[4], at).astype(np.int64)

    def long(self, at: Numbers) -> Hashes:
        """The 64-bit number at each position, uint64."""
        return self._at(self._views[8], at).astype(np.uint64)

    def sums(self, start: Numbers, end: Numbers) -> Numbers:
        """The folded ones' complement sum of the bytes ``start..end`` of each row.

        An empty range (``end <= start``) gives 0.  The cost does not depend on
        the lengths: the sums up to every fourth byte are made once.
        """
        shift, words, rest, so_far = self._so_far
        size = self.data.size - shift
        low = np.minimum(np.maximum(start - shift, 0), size)
        high = np.minimum(np.maximum(end - shift, low), size)

        def up_to(place: Numbers) -> npt.NDArray[np.uint64]:
            index = place >> 2
            word = np.where(index < words.size, words[np.minimum(index, words.size - 1)], rest)
            mask = (np.uint64(1) << (place & 3).astype(np.uint64) * np.uint64(8)) - np.uint64(1)
            total: npt.NDArray[np.uint64] = so_far[index] + (word.astype(np.uint64) & mask)
            return total

        total = fold(up_to(high) - up_to(low))
        swapped = (total & 0xFF) << 8 | total >> 8  # RFC 1071 2(B)
        folded: Numbers = np.where(low & 1, total, swapped)
        for row in np.flatnonzero((start < shift) & (end > start)).tolist():
            folded[row] = self._plain(int(start[row]), int(end[row]))
        return folded

    @cached_property
    def _so_far(self) -> tuple[int, npt.NDArray[np.uint32], int, npt.NDArray[np.uint64]]:
        """The first aligned byte, the words from there, the bytes after, the sums before each."""
        shift = -self.data.ctypes.data & 3
        data = self.data[shift:]
        words = data[: data.size & ~3].view("<u4")
        if self._room.size <= words.size:
            self._room = np.empty(words.size + words.size // 4 + 1, np.uint64)
        so_far = self._room[: words.size + 1]
        so_far[0] = 0
        np.cumsum(words, dtype=np.uint64, out=so_far[1:])
        rest = int.from_bytes(data[words.size * 4 :].tobytes(), "little")
        return shift, words, rest, so_far

    def _plain(self, start: int, end: int) -> int:
        """The sum of one range, byte by byte."""
        data = self.data[max(0, start) : max(0, end)].astype(np.int64)
        return int(fold(np.array([(data[0::2].sum() << 8) + data[1::2].sum()]))[0])
