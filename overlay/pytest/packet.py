"""Packets in tests: bytes that are compared, and looked into, by field.

What must not live here: anything of pytest; it works under any test runner.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase

from overlay.layout import Field, fields
from overlay.match.expected import Expected, FieldDifference, written

__all__ = [
    "Packet",
    "assert_packets_equal",
    "compare",
    "count",
    "differences",
    "ignored",
    "read_capture",
]

_SIDES = ("outer", "inner")  # of payload and padding, which are no headers


class Packet(bytes):
    """A packet or frame: bytes, with the names of their fields (:mod:`overlay.layout`).

    Equal to any equal bytes.  When ``assert one == other`` fails and both are
    packets, or lists of packets, pytest shows the fields that differ.

    :param data: the bytes, from the outer Ethernet header on.
    :param link: 0 for Ethernet, 1 where the packet begins with IP.
    """

    link: int

    def __new__(cls, data: bytes | bytearray | memoryview, link: int = 0) -> Packet:
        packet = super().__new__(cls, data)
        packet.link = link
        return packet

    def __getnewargs__(self) -> tuple[bytes, int]:  # type: ignore[override]
        return bytes(self), self.link

    @property
    def fields(self) -> list[Field]:
        """Its fields, which together are every byte of it."""
        return fields(self, link=self.link)

    def field(self, name: str) -> bytes:
        """The bytes of the first field of this name.  Raises KeyError if it has none."""
        for one in self.fields:
            if one.name == name:
                return self[one.offset : one.offset + one.size]
        raise KeyError(name)

    def number(self, name: str) -> int:
        """The first field of this name as a big-endian number.  Raises KeyError if it has none."""
        return int.from_bytes(self.field(name), "big")

    def __repr__(self) -> str:
        headers = dict.fromkeys(one.header for one in self.fields if one.header not in _SIDES)
        return f"<Packet of {len(self)} bytes: {', '.join(headers)}>"


def assert_packets_equal(
    got: bytes | Sequence[bytes],
    expected: bytes | Sequence[bytes],
    *,
    ignore: Sequence[str] = (),
    link: int = 0,
) -> None:
    """Fail unless the packets, or the sequences of packets, are equal.

    The message names every field that differs, what was expected and what is there.

    :param ignore: names of fields, or patterns such as ``"outer.udp.*"``, that may
        differ: ``ignore=("outer.udp.source_port",)``.
    :param link: 0 for Ethernet, 1 where the packets begin with IP.
    """
    __tracebackhide__ = True
    lines = compare(expected, got, ignore=ignore, link=link)
    if lines:
        raise AssertionError("\n".join(lines))


def compare(
    expected: bytes | Sequence[bytes],
    got: bytes | Sequence[bytes],
    *,
    ignore: Sequence[str] = (),
    link: int = 0,
) -> list[str]:
    """Lines that say how packets differ; none if they do not."""
    ours, theirs = _several(expected), _several(got)
    lines = [] if len(ours) == len(theirs) else [f"expected {count(ours)}, got {count(theirs)}"]
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False), 1):
        found = differences(one, other, ignore=ignore, link=link)
        if found:
            which = f"packet {number}" if max(len(ours), len(theirs)) > 1 else "the packet"
            lines.append(f"{which} is not as expected:")
            lines += [f"  {line}" for line in found]
    return lines


def differences(
    expected: bytes,
    got: bytes,
    *,
    mask: bytes | None = None,
    ignore: Sequence[str] = (),
    link: int = 0,
) -> list[str]:
    """A line for each field in which a packet is not as expected.

    A field that only one of them has, such as a VLAN tag, is said to be so, and
    the fields behind it are compared with their like.

    :param mask: bits of ``expected`` that have to be so, as of :class:`~overlay.match.Expected`.
    """
    whole = Expected(expected, mask, link=link)
    if whole.matches(got):
        return []
    ours, theirs = _named(expected, link), _named(got, link)
    lines = []
    for name in sorted({*ours, *theirs}, key=lambda n: (ours.get(n) or theirs[n]).offset):
        if ignored(name, ignore):
            continue
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            place, packet = (one, expected) if other is None else (other, got)
            assert place is not None
            value = written(name, packet[place.offset : place.offset + place.size])
            says = "expected {}, not there" if other is None else "not expected, got {}"
            lines.append(f"{name}: {says.format(_cut(value))}")
            continue
        part = slice(one.offset, one.offset + one.size)
        field = Expected(expected[part], whole.mask[part])
        have = got[other.offset : other.offset + other.size]
        if not field.matches(have):
            partial = field.mask != b"\xff" * len(field)
            lines.append(str(FieldDifference(name, one.offset, field.data, have, partial)))
    return lines


def ignored(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns is the field's name, its header's, or matches it."""
    bare = name.partition("#")[0]
    return any(fnmatchcase(bare, one) or bare.startswith(f"{one}.") for one in patterns)


def _named(packet: bytes, link: int) -> dict[str, Field]:
    """The fields by name; one that comes again is ``name#2``."""
    named: dict[str, Field] = {}
    times: Counter[str] = Counter()
    for field in fields(packet, link=link):
        times[field.name] += 1
        again = times[field.name]
        named[field.name if again == 1 else f"{field.name}#{again}"] = field
    return named


def _cut(text: str) -> str:
    return text if len(text) <= 50 else f"{text[:47]}..."


def _several(packets: bytes | Sequence[bytes]) -> list[bytes]:
    if isinstance(packets, (bytes, bytearray, memoryview)):
        return [bytes(packets)]
    return [bytes(one) for one in packets]


def read_capture(path: str | os.PathLike[str]) -> list[Packet]:
    """Every packet of a pcap or pcapng file.

    :raises CaptureError: it is no capture, or is cut short.
    :raises OSError: it cannot be read.
    """
    from overlay.io.pcap import open_capture

    with open_capture(path) as capture:
        return [
            Packet(bytes(burst.batch[row]), int(burst.batch.link[row]))
            for burst in capture
            for row in range(len(burst))
        ]


def count(packets: Sequence[object]) -> str:
    """How many there are, in words: ``"1 packet"``."""
    return f"{len(packets)} packet{'s' * (len(packets) != 1)}"
