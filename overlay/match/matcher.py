"""Matcher: which expected packet each packet is, without comparing pairs.

Lives here: the grouping, the hashes, who gets whom where more than one would
do.  Must not: names of fields; those are for the few that differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import SupportsBytes

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.codec import Buffer

from .expected import Expected, as_bytes
from .mask import Mask
from .result import Match, Rows

__all__ = ["Matcher"]

_STRIDE = 1 << 20  # bytes of packets that are looked at together


class _Group:
    """Expected packets of one length and one mask, found by a hash of what matters.

    No two of its classes share a hash, and a hit is compared byte by byte:
    what it finds is exact.
    """

    def __init__(self, mask: bytes, extra: bool) -> None:
        self.size = len(mask)
        self.mask = mask
        self.extra = extra
        #: More bits that matter are chosen before fewer.
        self.weight = int.from_bytes(mask, "big").bit_count()
        self.classes: dict[bytes, int] = {}

    def close(self) -> None:
        """Make the table of hashes; no class is added after."""
        mask = _words(_array(self.mask)[None, :])[0]
        self._columns = np.flatnonzero(mask)
        self._words = mask[self._columns]
        rows = _array(b"".join(self.classes)).reshape(len(self.classes), self.size)
        numbers = np.fromiter(self.classes.values(), np.int64, len(self.classes))
        values = _words(rows)[:, self._columns]  # masked already
        seed = 0
        while True:
            self._factors = np.random.default_rng(seed).integers(
                0, 2**64, self._columns.size, np.uint64, endpoint=False
            ) | np.uint64(1)
            hashes = self._hash(values)
            order = np.argsort(hashes)
            self._hashes = hashes[order]
            if not (self._hashes[1:] == self._hashes[:-1]).any():
                break
            seed += 1
        self._values, self._numbers = values[order], numbers[order]

    def _hash(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        # The high half of a product depends on all bits below; fold it before the sum.
        mixed = values * self._factors
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xD6E8FEB86659FD93)
        total: npt.NDArray[np.uint64] = mixed.sum(axis=1, dtype=np.uint64)
        return total

    def find(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The class of each row, or -1."""
        values = words[:, self._columns] & self._words
        hashes = self._hash(values)
        at = np.searchsorted(self._hashes, hashes)
        at[at == self._hashes.size] = 0
        same = self._hashes[at] == hashes
        rows = np.flatnonzero(same)
        exact = (values[rows] == self._values[at[rows]]).all(axis=1)
        found = np.full(len(words), -1, np.int64)
        found[rows[exact]] = self._numbers[at[rows[exact]]]
        return found


def _array(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)


def _words(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Rows of bytes as rows of words, filled up with zeros."""
    count, size = rows.shape
    padded = np.zeros((count, max(8, -(-size // 8) * 8)), np.uint8)
    padded[:, :size] = rows
    return padded.view(np.uint64)


class Matcher:
    """Expected packets, ready to be looked for.

    The cost is one hash of each packet for every different mask of its
    length: ten thousand packets expected under a few masks take some
    milliseconds, under a mask of their own each as long as comparing pairs.

    :param expected: :class:`Expected`, :class:`Mask`, or bytes, which have to
        be just so.  Each stands for one packet.
    """

    def __init__(self, expected: Iterable[Expected | Mask | Buffer]) -> None:
        self.expected: tuple[Expected, ...] = tuple(_expected(one) for one in expected)
        groups: dict[tuple[bytes, bool], _Group] = {}
        self._members: list[list[int]] = []  # of each class
        self._weight: list[int] = []
        for number, one in enumerate(self.expected):
            group = groups.setdefault((one.mask, one.extra), _Group(one.mask, one.extra))
            value = (int.from_bytes(one.data, "big") & int.from_bytes(one.mask, "big")).to_bytes(
                group.size, "big"
            )
            place = group.classes.setdefault(value, len(self._members))
            if place == len(self._members):
                self._members.append([])
                self._weight.append(group.weight)
            self._members[place].append(number)
        self._sizes: dict[tuple[int, bool], list[_Group]] = defaultdict(list)
        for group in groups.values():
            group.close()
            self._sizes[group.size, group.extra].append(group)

    def __len__(self) -> int:
        return len(self.expected)

    def match(self, packets: Batch | Iterable[Buffer | SupportsBytes]) -> Match:
        """Find each packet among the expected.

        Every expected packet is found as often as it was given, wherever the
        masks let it: where a packet could be more than one, the choice is such that
        as few as possible are missing, and among equals that with the most
        bits that matter.  Batches give all their rows, whatever their status.
        """
        rows = Rows.of(packets) if isinstance(packets, Batch) else Rows.join(map(as_bytes, packets))
        candidates = self._candidates(rows)
        placed = _assign(candidates, [len(m) for m in self._members])
        expected = np.full(len(rows), -1, np.int64)
        packet = np.full(len(self.expected), -1, np.int64)
        held: dict[int, list[int]] = defaultdict(list)
        surplus = []
        for row, place in sorted(placed.items()):
            if place >= 0:
                held[place].append(row)
            else:
                expected[row] = self._members[candidates[row][0]][0]
                surplus.append(row)
        for place, found in held.items():
            members = self._members[place][: len(found)]
            expected[found] = members
            packet[members] = found
        return Match(self.expected, rows, expected, packet, np.array(surplus, np.int64))

    def _candidates(self, rows: Rows) -> dict[int, list[int]]:
        """The classes that each row could be of; of rows that could be none, nothing."""
        found: dict[int, list[int]] = defaultdict(list)
        for (size, extra), groups in self._sizes.items():
            right = rows.length >= size if extra else rows.length == size
            chosen = np.flatnonzero(right)
            step = max(1, _STRIDE // max(size, 1))
            for start in range(0, chosen.size, step):
                part = chosen[start : start + step]
                words = _words(rows.matrix(part, size))
                for group in groups:
                    places = group.find(words)
                    hits = np.flatnonzero(places >= 0)
                    pairs = zip(part[hits].tolist(), places[hits].tolist(), strict=True)
                    for row, place in pairs:
                        found[row].append(place)
        for several in found.values():
            several.sort(key=lambda place: (-self._weight[place], place))
        return found


def _expected(one: Expected | Mask | Buffer) -> Expected:
    if isinstance(one, Expected):
        return one
    return one.expected() if isinstance(one, Mask) else Expected(one)


def _assign(candidates: dict[int, list[int]], room: list[int]) -> dict[int, int]:
    """A class for each row, no class for more rows than it has room; -1 for the surplus.

    As many rows as can be are placed: a row that finds its classes full moves
    others away, along a path of classes (Kuhn's algorithm).  Classes that such a
    search has met in vain can gain no room any more, and are not looked at again.
    """
    placed: dict[int, int] = {}
    movable: dict[int, set[int]] = defaultdict(set)
    waiting = []
    for row, places in sorted(candidates.items()):
        place = next((p for p in places if room[p]), -1)
        placed[row] = place
        if place < 0:
            waiting.append(row)
            continue
        room[place] -= 1
        if len(places) > 1:
            movable[place].add(row)
    closed: set[int] = set()
    for row in waiting:
        came: dict[int, tuple[int, int]] = {
            p: (-1, row) for p in candidates[row] if p not in closed
        }
        queue = list(came)
        for place in queue:
            if room[place]:
                room[place] -= 1
                break
            for mover in movable[place]:
                for other in candidates[mover]:
                    if other not in came and other not in closed:
                        came[other] = (place, mover)
                        queue.append(other)
        else:
            closed |= came.keys()
            continue
        while place >= 0:
            source, mover = came[place]
            if source >= 0:
                movable[source].discard(mover)
            placed[mover] = place
            if len(candidates[mover]) > 1:
                movable[place].add(mover)
            place = source
    return placed
