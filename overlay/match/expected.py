"""Expected: the bytes of a packet, and which of their bits have to be so.

Lives here: one packet against one packet, and the names of what differs.  Must
not: many packets; those are the matcher's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import SupportsBytes, TypeAlias

from overlay.codec import Buffer, byte_view
from overlay.errors import ConfigError
from overlay.layout import Field, fields
from overlay.profile import Profile

__all__ = ["Expected", "FieldDifference", "Range", "bit_range", "places", "written"]

#: A field by name or pattern, or a range of bits: the first one's place and their number.
Range: TypeAlias = "str | tuple[int, int]"

_AS_HEX = ("checksum", "flags", "ethertype", "tpid", "tci", "fragment", "protocol_type")


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field that is not as expected; ``str`` of it is one line for people.

    :param name: such as ``"outer.ipv4.ttl"``; ``"length"`` where the packets'
        lengths differ, with the lengths as the values.
    :param offset: the field's first byte.
    :param expected: the bytes that were expected.
    :param got: the bytes that are there; fewer, where the packet is cut.
    :param partial: whether only some of the field's bits were compared.
    """

    name: str
    offset: int
    expected: bytes
    got: bytes
    partial: bool = False

    def __str__(self) -> str:
        if self.name == "length":
            sizes = (int.from_bytes(value, "big") for value in (self.expected, self.got))
            return "length: expected {} bytes, got {}".format(*sizes)
        size = len(self.expected)
        if size > 16:
            pairs = zip(self.expected, self.got, strict=False)
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(size, len(self.got)))
            values = [
                value[at : at + 4].hex(" ") or "nothing" for value in (self.expected, self.got)
            ]
            return f"{self.name}: expected {values[0]}, got {values[1]} at its byte {at}"
        values = [
            written(self.name, value) if len(value) == size else value.hex(" ") or "nothing"
            for value in (self.expected, self.got)
        ]
        rest = " (some bits are not compared)" if self.partial else ""
        return f"{self.name}: expected {values[0]}, got {values[1]}{rest}"


def written(field: str, value: bytes) -> str:
    """A whole field's value as people write it: an address, a number, else hexadecimal digits."""
    header, _, name = field.partition("#")[0].rpartition(".")
    if name in ("source", "destination") and len(value) in (4, 16):
        return str(ipaddress.ip_address(value))
    if name in ("source", "destination") and header.endswith("ethernet"):
        return value.hex(":")
    if len(value) > 8:
        return value.hex(" ")
    number = int.from_bytes(value, "big")
    return f"{number:#0{2 + 2 * len(value)}x}" if name in _AS_HEX else str(number)


class Expected:
    """A packet that is expected, with the bits that have to be so.

    Never changes.  Two that are equal stand for two packets.

    :param data: the packet's bytes, or an object whose ``bytes()`` they are.
    :param mask: as many bytes: a bit that is 1 has to be as in ``data``.  None
        for all of them.
    :param ignore: what may be anything besides, each a field's name
        (``"outer.ipv4.ttl"``), a header's (``"outer.udp"``), a pattern of
        names (``"*.checksum"``), or a pair ``(first bit, bits)``, where bit 0
        is the highest one of the first byte.
    :param extra: whether more bytes may follow.
    :param name: for reports.
    :param link: what the packet begins with: 0 for Ethernet, 1 for IP.
    :param ports: the tunnels' UDP ports, by the names of :func:`overlay.layout.fields`.
    :raises ConfigError: no field has this name, or a range ends beyond the packet.
    """

    __slots__ = ("data", "extra", "link", "mask", "name", "ports")

    data: bytes
    mask: bytes

    def __init__(
        self,
        data: Buffer | SupportsBytes,
        mask: Buffer | None = None,
        *,
        ignore: Iterable[Range] = (),
        extra: bool = False,
        name: str = "",
        link: int = 0,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self.data = as_bytes(data)
        self.extra, self.name, self.link = extra, name, link
        self.ports = dict(ports or {})
        size = len(self.data)
        if mask is None:
            self.mask = b"\xff" * size
        else:
            self.mask = bytes(byte_view(mask, "mask"))
            if len(self.mask) != size:
                raise ConfigError("mask", f"<{len(self.mask)} bytes>", f"{size} bytes, as data has")
        ignored = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        if ignored:
            bits = int.from_bytes(self.mask, "big")
            for first, count in places(ignored, self):
                bits &= ~bit_range(first, count, size)
            self.mask = bits.to_bytes(size, "big")

    def fields(self) -> list[Field]:
        """The fields of the packet, from :func:`overlay.layout.fields`."""
        return fields(self.data, link=self.link, by=Profile.of("rfc", **self.ports))

    def matches(self, packet: Buffer | SupportsBytes) -> bool:
        """Whether the packet is as expected."""
        got = as_bytes(packet)
        size = len(self.data)
        if len(got) != size and not (self.extra and len(got) > size):
            return False
        differ = int.from_bytes(got[:size], "big") ^ int.from_bytes(self.data, "big")
        return not differ & int.from_bytes(self.mask, "big")

    def differences(self, packet: Buffer | SupportsBytes) -> list[FieldDifference]:
        """What is not as expected, field by field, in order; empty if it matches.

        The fields are those of what was expected, wherever the packet has them.
        """
        got = as_bytes(packet)
        found = []
        for field in self.fields():
            part = slice(field.offset, field.offset + field.size)
            mask, want, have = self.mask[part], self.data[part], got[part]
            if not any(mask):
                continue
            short = len(have) < field.size
            if short or any((a ^ b) & m for a, b, m in zip(want, have, mask, strict=True)):
                partial = mask != b"\xff" * field.size
                found.append(FieldDifference(field.name, field.offset, want, have, partial))
        size = len(self.data)
        if len(got) < size or (len(got) > size and not self.extra):
            want, have = (n.to_bytes(4, "big") for n in (size, len(got)))
            found.append(FieldDifference("length", min(size, len(got)), want, have))
        return found

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Expected):
            return (self.data, self.mask, self.extra) == (other.data, other.mask, other.extra)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.data, self.mask, self.extra))

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        free = 8 * len(self.mask) - int.from_bytes(self.mask, "big").bit_count()
        name = f" {self.name!r}" if self.name else ""
        more = " or more" if self.extra else ""
        return f"<Expected{name} {len(self.data)} bytes{more}, {free} bits free>"


def as_bytes(packet: Buffer | SupportsBytes) -> bytes:
    """The bytes of a buffer, or of an object that has ``bytes()`` (scapy's, PTF's)."""
    if isinstance(packet, bytes):
        return packet
    if isinstance(packet, SupportsBytes):
        return bytes(packet)
    return bytes(byte_view(packet, "packet"))


def bit_range(first: int, count: int, size: int) -> int:
    """The number of ``size`` bytes with ``count`` bits set from bit ``first``."""
    if first < 0 or count < 0 or first + count > 8 * size:
        raise ConfigError("range", (first, count), f"bits within 0..{8 * size}")
    return ((1 << count) - 1) << (8 * size - first - count)


def places(ranges: Iterable[Range], expected: Expected) -> list[tuple[int, int]]:
    """The ranges as bits, ``(first, count)`` each; names are looked up in the packet."""
    found: list[tuple[int, int]] = []
    known: list[Field] = []
    for one in ranges:
        if not isinstance(one, str):
            first, count = one
            found.append((first, count))
            continue
        known = known or expected.fields()
        here = [f for f in known if one in (f.name, f.header) or fnmatchcase(f.name, one)]
        if not here:
            headers = ", ".join(dict.fromkeys(f.header or f.name for f in known))
            raise ConfigError("field", one, f"a field of this packet, which has {headers}")
        found.extend((8 * f.offset, 8 * f.size) for f in here)
    return found
