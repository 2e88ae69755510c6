"""Values: the numbers that a field takes in turn, and the language they are written in.

Lives here: text to ranges of numbers, and numbers by position, whole columns at
once.  What must not: which fields there are and where they lie.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay.address import mac_address
from overlay.errors import ConfigError

__all__ = ["IMIX", "Values", "addresses", "macs", "numbers", "sizes"]

Index = npt.NDArray[np.uint64]

#: What a position may be at most, so that positions are 64-bit numbers without doubt.
MOST = 2**63

#: The simple IMIX: of 12 frames 7 small ones, 4 of 590 and 1 of 1514 bytes without FCS, mixed.
IMIX = (60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 590, 60)

_LOW = 2**64 - 1


class Values:
    """Numbers by position: ranges, one after the other.

    :param ranges: triples of first number, how many, and the step between them.

    ``len`` is limited to what Python's is; :attr:`count` is not.
    """

    __slots__ = ("_count", "_ends", "_first", "_high", "_ranges", "_step")

    def __init__(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        self._ranges = tuple(ranges)
        ends, total = [], 0
        for _, count, _ in self._ranges:
            total += count
            ends.append(total)
        if not 0 < total <= MOST:
            raise ConfigError("values", f"<{total} numbers>", f"1..{MOST} of them")
        self._count = total
        self._ends = np.array(ends, np.uint64)
        self._first = np.array([first & _LOW for first, _, _ in self._ranges], np.uint64)
        self._high = np.array([first >> 64 for first, _, _ in self._ranges], np.uint64)
        self._step = np.array([step for _, _, step in self._ranges], np.uint64)

    @classmethod
    def of(cls, given: Iterable[int]) -> Values:
        """These numbers, in this order."""
        return cls((number, 1, 0) for number in given)

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> int:
        if not 0 <= position < self._count:
            raise IndexError(f"position {position} of {self._count}")
        for first, count, step in self._ranges:
            if position < count:
                return first + position * step
            position -= count
        raise AssertionError  # pragma: no cover - the counts add up

    @property
    def least(self) -> int:
        """The smallest of them."""
        return min(first for first, _, _ in self._ranges)

    @property
    def greatest(self) -> int:
        """The greatest of them."""
        return max(first + (count - 1) * step for first, count, step in self._ranges)

    def take(self, index: Index) -> Index:
        """The low 64 bits of the numbers at these positions, uint64 of the same shape."""
        if len(self._ranges) == 1:
            only: Index = self._first[0] + index * self._step[0]
            return only
        which, inside = self._locate(index)
        found: Index = self._first[which] + inside * self._step[which]
        return found

    def take_high(self, index: Index) -> Index:
        """The bits above these, as :meth:`take`: of IPv6 addresses."""
        if len(self._ranges) == 1:
            which: Any = 0
            low = self.take(index)
        else:
            which, inside = self._locate(index)
            low = self._first[which] + inside * self._step[which]
        carried: Index = self._high[which] + (low < self._first[which])
        return carried

    def _locate(self, index: Index) -> tuple[npt.NDArray[np.intp], Index]:
        which = np.searchsorted(self._ends, index, side="right")
        before = np.concatenate([np.zeros(1, np.uint64), self._ends])
        return which, index - before[which]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Values):
            return self._ranges == other._ranges
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._ranges)

    def __repr__(self) -> str:
        return f"<Values, {self._count} from {self[0]:#x}>"


Read = Callable[[str], int]


def _parse(field: str, given: object, read: Read, low: int, high: int, expected: str) -> Values:
    """Text, a number, or some of either, as Values within ``low..high``."""
    wrong = ConfigError(field, given, expected)
    if isinstance(given, Values):
        found = given
    else:
        items = [given] if isinstance(given, (str, int, bytes)) else _items(given, wrong)
        ranges: list[tuple[int, int, int]] = []
        for item in items:
            if isinstance(item, bool):
                raise wrong
            if isinstance(item, str):
                for text in item.split(","):
                    ranges += _item(text.strip(), read, wrong)
            else:
                try:
                    ranges.append((_number(item, read), 1, 0))
                except (TypeError, ValueError):
                    raise wrong from None
        if not ranges:
            raise wrong
        if sum(count for _, count, _ in ranges) > MOST:
            raise ConfigError(field, given, f"at most {MOST} values")
        found = Values(ranges)
    if found.least < low or found.greatest > high:
        raise wrong
    return found


def _items(given: object, wrong: ConfigError) -> list[Any]:
    if not isinstance(given, Iterable):
        raise wrong
    return list(given)


def _number(item: Any, read: Read) -> int:
    return item.__index__() if hasattr(item, "__index__") else read(str(item))


def _item(text: str, read: Read, wrong: ConfigError) -> list[tuple[int, int, int]]:
    """``A``, ``A-B``, ``A-B/STEP``, or any of them with ``*TIMES``."""
    text, star, times = text.partition("*")
    parts = re.fullmatch(r"([^-]+)(?:-([^-/]+)(?:/([^/]+))?)?", text)
    try:
        again = int(times, 0) if star else 1
        if parts is None or not 1 <= again <= 4096:
            raise wrong
        first = read(parts[1])
        last = first if parts[2] is None else read(parts[2])
        step = 1 if parts[3] is None else int(parts[3], 0)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise wrong from None
    if last < first or not 0 < step < 2**63:
        raise wrong
    if first == last:
        return [(first, again, 0)]
    return [(first, (last - first) // step + 1, step)] * again


def numbers(
    field: str, given: object, low: int, high: int, names: dict[str, int] | None = None
) -> Values:
    """Numbers in ``low..high``: ``5``, ``0x10``, ``1000-2000``, ``0-63/8``, ``1,2,5-9``, ``7*4``.

    :param given: text, an integer, a range, or any collection of these.
    :param names: words that stand for numbers.
    :raises ConfigError: naming ``field``.
    """
    words = names or {}

    def read(text: str) -> int:
        return words[text] if text in words else int(text, 0)

    said = f"numbers in {low}..{high}" + "".join(f" or {word!r}" for word in words)
    return _parse(field, given, read, low, high, said + ", such as 5, 10-20, 10-20/2 or 1,2,7")


def macs(field: str, given: object) -> Values:
    """MAC addresses with colons: ``02:00:00:00:00:01``, or ranges and lists of them."""

    def read(text: str) -> int:
        return int(mac_address(field, text.strip()).replace(":", ""), 16)

    if isinstance(given, (bytes, bytearray)):
        given = mac_address(field, given)
    expected = "MAC addresses, such as 02:00:00:00:00:01-02:00:00:00:00:ff"
    return _parse(field, given, read, 0, 2**48 - 1, expected)


def addresses(field: str, given: object, family: int = 0) -> tuple[int, Values]:
    """IP addresses of one family: ``10.0.0.1``, ``10.0.0.0/24`` (its hosts), ranges and lists.

    A network stands for the addresses that hosts may have there: for IPv4 without
    the first and the last, for IPv6 without the first, unless there are no more;
    of the largest, for the first 2**62.

    :param family: 4 or 6, where it must be that.
    :returns: the family and the values.
    :raises ConfigError: naming ``field``.
    """
    wrong = ConfigError(
        field, given, f"{f'IPv{family}' if family else 'IP'} addresses of one family, "
        "such as 10.0.0.1, 10.0.0.0/24 or 10.0.0.1-10.0.0.9",
    )  # fmt: skip
    if isinstance(given, Values):
        if not family:
            raise wrong
        return family, given
    each = [given] if isinstance(given, (str, bytes, int)) else _items(given, wrong)
    ranges: list[tuple[int, int, int]] = []
    versions = {family} if family else set()

    def read(text: str) -> int:
        address = ipaddress.ip_address(text.strip())
        versions.add(address.version)
        return int(address)

    try:
        texts = [x if isinstance(x, str) else str(ipaddress.ip_address(x)) for x in each]
        for text in (part.strip() for whole in texts for part in whole.split(",")):
            if "/" in text and "-" not in text:
                network = ipaddress.ip_network(text)
                versions.add(network.version)
                ranges.append(_hosts(network))
            else:
                ranges += _item(text, read, wrong)
    except ConfigError:
        raise
    except ValueError:
        raise wrong from None
    if len(versions) != 1 or not ranges:
        raise wrong
    version = versions.pop()
    if sum(count for _, count, _ in ranges) > MOST:
        raise ConfigError(field, given, f"at most {MOST} addresses")
    return version, Values(ranges)


def _hosts(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[int, int, int]:
    first, count = int(network.network_address), network.num_addresses
    if count > 2:
        first, count = first + 1, count - (2 if network.version == 4 else 1)
    return first, min(count, MOST // 2), 1


def sizes(given: object, least: int) -> Values:
    """Frame sizes in bytes without FCS, ``least`` or more; ``imix`` is :data:`IMIX`.

    The small frames of the IMIX are ``least`` bytes long where that is above 60.
    """
    if given == "imix":
        return Values.of(max(size, least) for size in IMIX)
    found = numbers("size", given, 14, 65535 + 18)
    if found.least < least:
        raise ConfigError("size", given, f"at least {least} bytes, for the headers and signature")
    return found
