"""Table: what is remembered of many flows, in memory that does not grow.

Lives here: a hash table of numpy columns, asked for a whole burst at once.
Must not: any knowledge of what is remembered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .words import Bools, Hashes, Numbers

__all__ = ["NOWHERE", "Table", "previous", "ranked_by"]

#: The slot of a row for which there is no room.
NOWHERE = -1

_PROBES = 16


class Table:
    """At most ``2 ** bits`` entries known by 64-bit hashes, with a column for each fact.

    :param columns: name and dtype of each; they begin as zeros.
    :param recent: where there is no room, whether a new entry takes the place of
        an old one (which is *evicted*), or is left out.

    ``lost`` counts both: entries that were evicted, and rows that were left out.
    """

    def __init__(self, bits: int, columns: dict[str, Any], *, recent: bool = False) -> None:
        self._bits = bits
        self._recent = recent
        self._keys = np.zeros(1 << bits, np.uint64)
        self._columns = {name: np.zeros(1 << bits, dtype) for name, dtype in columns.items()}
        self.used = 0
        self.lost = 0

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]

    def slots(self) -> Numbers:
        """The slots in use."""
        return np.flatnonzero(self._keys)

    def keys(self, slots: Numbers) -> Hashes:
        """The hashes of these slots."""
        return self._keys[slots]

    def find(self, keys: Hashes) -> Numbers:
        """The slot of each hash, or ``NOWHERE``."""
        keys = np.maximum(keys, np.uint64(1))
        mask = len(self._keys) - 1
        home = (keys >> np.uint64(64 - self._bits)).astype(np.int64)
        slots = np.full(keys.size, NOWHERE, np.int64)
        left = np.arange(keys.size)
        for probe in range(_PROBES):
            at = (home[left] + probe) & mask
            held = self._keys[at]
            hit = held == keys[left]
            slots[left[hit]] = at[hit]
            left = left[~hit & (held != 0)]
            if not left.size:
                break
        return slots

    def place(self, keys: Hashes) -> tuple[Numbers, Bools]:
        """The slot of each hash, made where there was none; and whether it was made now.

        Slots made now hold zeros.  Rows without room have ``NOWHERE``.
        """
        slots = self.find(keys)
        fresh = np.zeros(keys.size, np.bool_)
        missing = np.flatnonzero(slots == NOWHERE)
        if missing.size:
            wanted, back = np.unique(np.maximum(keys[missing], np.uint64(1)), return_inverse=True)
            made = self._make(wanted)[back]
            slots[missing] = made
            fresh[missing] = made != NOWHERE
            if self._recent:  # an entry may have taken the place of another of this burst
                gone = self._keys[slots] != np.maximum(keys, np.uint64(1))
                slots[gone], fresh[gone] = NOWHERE, False
            else:
                self.lost += int(np.count_nonzero(made == NOWHERE))
        return slots, fresh

    def _make(self, keys: Hashes) -> Numbers:
        """Slots for hashes that are not here, each once."""
        mask = len(self._keys) - 1
        home = (keys >> np.uint64(64 - self._bits)).astype(np.int64)
        slots = np.full(keys.size, NOWHERE, np.int64)
        room = max(0, len(self._keys) * 7 // 8 - self.used)
        left = np.arange(keys.size)[:room]
        for probe in range(_PROBES):
            at = (home[left] + probe) & mask
            free = self._keys[at] == 0
            self._keys[at[free]] = keys[left[free]]  # of several, the last one stays
            won = free & (self._keys[at] == keys[left])
            slots[left[won]] = at[won]
            left = left[~won]
            if not left.size:
                break
        self.used += int(np.count_nonzero(slots != NOWHERE))
        if self._recent:
            late = np.flatnonzero(slots == NOWHERE)
            at = home[late]
            self._keys[at] = keys[late]
            won = self._keys[at] == keys[late]
            slots[late[won]] = at[won]
            self.lost += int(late.size)
        taken = slots[slots != NOWHERE]
        for column in self._columns.values():
            column[taken] = 0
        return slots


def ranked_by(slots: Numbers) -> tuple[Numbers, Bools]:
    """The order of rows by slot, those of one slot as they came, and which begin a slot."""
    narrow = slots.astype(np.uint16) if not slots.size or slots.max() < 1 << 16 else slots
    order = np.argsort(narrow, kind="stable")  # numpy counts 16-bit numbers, and compares others
    ordered = slots[order]
    first = np.ones(slots.size, np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return order, first


def previous(
    slots: Numbers, fresh: Bools, pairs: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
) -> tuple[Bools, list[npt.NDArray[Any]]]:
    """What each row's slot held before the row, row after row; the table then holds the last.

    :param slots: of each row, none of them ``NOWHERE``.
    :param fresh: as :meth:`Table.place` gave it.
    :param pairs: a table's column, and the value that each row puts there.
    :returns: which rows had something before them, and for each pair what it was.
    """
    order, first = ranked_by(slots)
    ordered = slots[order]
    last = np.ones(slots.size, np.bool_)
    last[:-1] = first[1:]
    known = np.empty(slots.size, np.bool_)
    known[order] = ~(first & fresh[order])
    before = []
    for column, values in pairs:
        ranked = values[order]
        held = np.empty_like(ranked)
        held[1:] = ranked[:-1]
        held[first] = column[ordered[first]]
        column[ordered[last]] = ranked[last]
        given = np.empty_like(held)
        given[order] = held
        before.append(given)
    return known, before
