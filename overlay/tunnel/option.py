"""GENEVE options as values: any option byte for byte, and the ones whose meaning is known.

A known option is a class of :class:`GeneveOption` with typed fields, and an entry in
:data:`OPTIONS`.  What must not live here: the GENEVE header.
"""

from __future__ import annotations

from dataclasses import dataclass

from overlay.errors import ConfigError

from .base import integer

__all__ = [
    "MAX_OPTIONS",
    "OPTIONS",
    "GeneveOption",
    "GwlbAttachment",
    "GwlbEndpoint",
    "GwlbFlow",
    "OvnPorts",
    "parse_options",
]

MAX_OPTIONS = 63 * 4  # bytes of all options (RFC 8926 3.4)
MAX_DATA = 31 * 4  # bytes of one option's data (RFC 8926 3.5)
CRITICAL = 0x80
LENGTH = 0x1F  # of byte 3; the others are reserved and ignored

OVN = 0x0102
AWS = 0x0108


@dataclass(frozen=True, repr=False, eq=False)
class GeneveOption:
    """One option (RFC 8926 3.5), known or not, byte for byte.

    Two are equal if they are the same bytes on the wire.

    :param option_class: 0..0xFFFF; who says what the type means.
    :param type: 0..0xFF; those of 0x80 and above are critical: who does not know one
        drops the packet.
    :param data: 0 to 124 bytes, a multiple of 4.
    """

    option_class: int
    type: int
    data: bytes = b""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "option_class", integer("option_class", self.option_class, 0, 0xFFFF))
        put(self, "type", integer("type", self.type, 0, 0xFF))
        try:
            put(self, "data", bytes(memoryview(self.data)))
        except TypeError:
            raise ConfigError("data", self.data, "bytes") from None
        if len(self.data) > MAX_DATA or len(self.data) % 4:
            size = f"<{len(self.data)} bytes>"
            raise ConfigError("data", size, f"0 to {MAX_DATA} bytes, a multiple of 4")

    @property
    def critical(self) -> bool:
        """Whether a receiver that does not know the option drops the packet."""
        return self.type & CRITICAL != 0

    def __bytes__(self) -> bytes:
        """The option as it is on the wire: four bytes of header, and the data."""
        head = self.option_class.to_bytes(2, "big") + bytes((self.type, len(self.data) // 4))
        return head + self.data

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, GeneveOption) else NotImplemented

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __repr__(self) -> str:
        return f"GeneveOption({self.option_class:#06x}, {self.type:#04x}, {self.data!r})"

    def __reduce__(self) -> tuple[object, ...]:
        make = GeneveOption if type(self) is GeneveOption else option_of
        return make, (self.option_class, self.type, self.data)


class OvnPorts(GeneveOption):
    """OVN's option (class 0x0102, type 0x80, critical): the logical ports of a packet.

    :param ingress: the logical ingress port, 0..0x7FFF.
    :param egress: the logical egress port, or a multicast group from 0x8000 on, 0..0xFFFF.
    """

    def __init__(self, ingress: int, egress: int) -> None:
        word = integer("ingress", ingress, 0, 0x7FFF) << 16 | integer("egress", egress, 0, 0xFFFF)
        super().__init__(OVN, 0x80, word.to_bytes(4, "big"))

    @property
    def ingress(self) -> int:
        return int.from_bytes(self.data[:2], "big") & 0x7FFF

    @property
    def egress(self) -> int:
        return int.from_bytes(self.data[2:], "big")

    def __repr__(self) -> str:
        return f"OvnPorts({self.ingress}, {self.egress})"


class _Number(GeneveOption):
    """An AWS Gateway Load Balancer option: one number."""

    _kind = 0
    _size = 8

    def __init__(self, number: int) -> None:
        value = integer("number", number, 0, 2 ** (8 * self._size) - 1)
        super().__init__(AWS, self._kind, value.to_bytes(self._size, "big"))

    @property
    def number(self) -> int:
        return int.from_bytes(self.data, "big")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.number:#x})"


class GwlbEndpoint(_Number):
    """AWS Gateway Load Balancer (class 0x0108, type 1): the ID of the endpoint, 64 bits."""

    _kind = 1


class GwlbAttachment(_Number):
    """AWS Gateway Load Balancer (class 0x0108, type 2): the ID of the attachment, 64 bits."""

    _kind = 2


class GwlbFlow(_Number):
    """AWS Gateway Load Balancer (class 0x0108, type 3): the flow cookie, 32 bits."""

    _kind = 3
    _size = 4


# Class, type and bytes of data, and whose they are.
_KNOWN: dict[tuple[int, int, int], type[GeneveOption]] = {
    (OVN, 0x80, 4): OvnPorts,
    (AWS, 1, 8): GwlbEndpoint,
    (AWS, 2, 8): GwlbAttachment,
    (AWS, 3, 4): GwlbFlow,
}

#: The options, by class and type, whose meaning is known here.
OPTIONS: frozenset[tuple[int, int]] = frozenset((number, kind) for number, kind, _ in _KNOWN)


def option_of(number: int, kind: int, data: bytes) -> GeneveOption:
    """The option of this class, type and data, of its own class where there is one."""
    option = GeneveOption(number, kind, data)
    known = _KNOWN.get((number, kind, len(data)))
    if known is None or (known is OvnPorts and data[0] & 0x80):  # its reserved bit is kept
        return option
    typed = known.__new__(known)
    typed.__dict__.update(option.__dict__)
    return typed


def parse_options(data: bytes) -> tuple[GeneveOption, ...]:
    """The options of these bytes; reserved bits are ignored.

    Raises :class:`ConfigError` where their lengths do not add up.
    """
    found = []
    at = 0
    while at < len(data):
        size = 4 + (data[at + 3] & LENGTH) * 4 if at + 4 <= len(data) else len(data) + 1
        if at + size > len(data):
            raise ConfigError("options", f"<{len(data)} bytes>", "whole options")
        number = int.from_bytes(data[at : at + 2], "big")
        found.append(option_of(number, data[at + 2], data[at + 4 : at + size]))
        at += size
    return tuple(found)
