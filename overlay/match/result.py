"""Result: what matched, what is missing, what came unasked, and how near it was.

Lives here: the columns and the report.  Must not: the search for matches.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.tunnel import integer

from .expected import Expected, FieldDifference

__all__ = ["Match", "Rows"]

_NEAR = 4096  # expected packets that a search for the nearest looks at
_NEAREST = 16  # those of them whose fields are compared


class Rows:
    """Packets as places in one array of bytes."""

    def __init__(
        self,
        data: npt.NDArray[np.uint8],
        offset: npt.NDArray[np.int64],
        length: npt.NDArray[np.int64],
    ) -> None:
        self.data, self.offset, self.length = data, offset, length

    @classmethod
    def of(cls, batch: Batch) -> Rows:
        """The rows of a batch, as they are now; one that lies outside the data is empty."""
        offset, length = batch.offset.astype(np.int64), batch.length.astype(np.int64)
        outside = (offset < 0) | (offset + length > batch.data.size)
        offset[outside] = length[outside] = 0
        return cls(batch.data.copy(), offset, length)

    @classmethod
    def join(cls, packets: Iterable[bytes]) -> Rows:
        """Copies of these packets."""
        several = list(packets)
        length = np.fromiter(map(len, several), np.int64, len(several))
        joined = b"".join(several)
        data = np.frombuffer(joined, np.uint8) if joined else np.zeros(0, np.uint8)
        return cls(data, np.cumsum(length) - length, length)

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, row: int) -> bytes:
        at = int(self.offset[row])
        return self.data[at : at + int(self.length[row])].tobytes()

    def matrix(self, rows: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.uint8]:
        """The first ``size`` bytes of these rows, shape ``(len(rows), size)``."""
        return np.take(self.data, self.offset[rows][:, None] + np.arange(size))


class Match:
    """What :meth:`Matcher.match` found; ``str`` of it is the report.

    ``assert match.ok, match`` is all that a test needs.
    """

    #: int64, one element a packet: the expected packet that it is, or -1.
    expected: npt.NDArray[np.int64]
    #: int64, one element an expected packet: the packet that it is, or -1.
    packet: npt.NDArray[np.int64]
    #: int64: packets that are as expected, but were so more often than expected.
    surplus: npt.NDArray[np.int64]

    def __init__(
        self,
        wanted: tuple[Expected, ...],
        rows: Rows,
        expected: npt.NDArray[np.int64],
        packet: npt.NDArray[np.int64],
        surplus: npt.NDArray[np.int64],
    ) -> None:
        self._wanted, self._rows = wanted, rows
        self.expected, self.packet, self.surplus = expected, packet, surplus

    @property
    def missing(self) -> npt.NDArray[np.int64]:
        """int64: the expected packets that no packet is."""
        return np.flatnonzero(self.packet < 0)

    @property
    def unexpected(self) -> npt.NDArray[np.int64]:
        """int64: the packets that are none of the expected."""
        return np.flatnonzero(self.expected < 0)

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, unexpected or surplus."""
        return not (self.missing.size or self.unexpected.size or self.surplus.size)

    @cached_property
    def _near(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The expected packets that a packet may be compared with, and their lengths."""
        pool = self.missing if self.missing.size else np.arange(len(self._wanted))
        return pool, np.array([len(self._wanted[e]) for e in pool], np.int64)

    def nearest(self, row: int) -> tuple[int, list[FieldDifference]]:
        """The expected packet with the fewest fields that differ from packet ``row``.

        Looked for among the missing ones, or among all where none is missing; not
        further than 4096 of the nearest length, of which the 16 with the
        fewest bits that differ are compared field by field.

        :returns: its number and what differs; ``(-1, [])`` if nothing was expected.
        """
        row = integer("row", row, 0, len(self._rows) - 1)
        pool, lengths = self._near
        if not pool.size:
            return -1, []
        got = self._rows[row]
        order = np.argsort(np.abs(lengths - len(got)), kind="stable")[:_NEAR]
        bits = [_distance(self._wanted[e], got) for e in pool[order].tolist()]
        found = []
        for place in np.argsort(bits, kind="stable")[:_NEAREST].tolist():
            number = int(pool[order[place]])
            found.append((number, self._wanted[number].differences(got)))
        return min(found, key=lambda one: len(one[1]))

    def report(self, limit: int = 10) -> str:
        """What is wrong, at most ``limit`` lines of each kind."""
        lines = [
            f"{len(self._wanted)} expected, {len(self._rows)} packets: "
            f"{self.missing.size} missing, {self.unexpected.size} unexpected, "
            f"{self.surplus.size} surplus"
        ]
        for row in self.unexpected[:limit].tolist():
            number, differences = self.nearest(row)
            if number < 0:
                lines.append(f"packet {row} is unexpected")
                continue
            lines.append(f"packet {row} is unexpected; nearest is {self._name(number)}")
            lines += [f"    {difference}" for difference in differences[:limit]]
            if len(differences) > limit:
                lines.append(f"    and {len(differences) - limit} fields more")
        for number in self.missing[:limit].tolist():
            lines.append(f"{self._name(number)} is missing")
        for row in self.surplus[:limit].tolist():
            lines.append(f"packet {row} is one too many of {self._name(int(self.expected[row]))}")
        return "\n".join(lines)

    def _name(self, number: int) -> str:
        name = self._wanted[number].name
        return f"expected {number} ({name})" if name else f"expected {number}"

    def __str__(self) -> str:
        return self.report()

    def __repr__(self) -> str:
        return f"<Match {self.report(0)}>"


def _distance(expected: Expected, got: bytes) -> int:
    """Bits that differ under the mask, and eight for each byte too few or too many."""
    size = len(expected.data)
    here = got[:size].ljust(size, b"\0")
    differ = int.from_bytes(here, "big") ^ int.from_bytes(expected.data, "big")
    bits = (differ & int.from_bytes(expected.mask, "big")).bit_count()
    short = abs(size - len(got)) if len(got) < size or not expected.extra else 0
    return bits + 8 * short
