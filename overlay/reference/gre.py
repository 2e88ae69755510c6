"""GRE (RFC 2784, RFC 2890): the header that NVGRE and ERSPAN use too, and plain GRE.

The IP payload, built and checked.  Outer and inner headers are others'.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import GRE, NO_KEY

from .checksum import checksum, ones_sum
from .delivery import Carried
from .inner import TYPE_IPV4, TYPE_IPV6, TYPE_TEB
from .outer import Outer

__all__ = [
    "FLAG_C", "FLAG_K", "FLAG_S", "PROTOCOL", "Header",
    "build", "describe", "owner", "parse", "parse_fields", "parse_first", "size",
]  # fmt: skip

# ---- constants ---------------------------------------------------------------

PROTOCOL = 47

FLAG_C = 0x8000  # a checksum follows
FLAG_R = 0x4000  # routing (RFC 1701)
FLAG_K = 0x2000  # a key follows
FLAG_S = 0x1000  # a sequence number follows
MUST_DISCARD = 0x0C00  # bits 4 and 5: discard if set (RFC 2784 2.3)
RESERVED = 0x0FF8  # all reserved bits, bits 6 to 12 to be ignored
VERSION = 0x0007

ERSPAN_II = 0x88BE  # type I too
ERSPAN_III = 0x22EB

# ---- header ------------------------------------------------------------------
#
# RFC 2890 2, RFC 2784 2.1::
#
#      0                   1                   2                   3
#      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |C| |K|S| Reserved0       | Ver |         Protocol Type         |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |      Checksum (with C)        |      Reserved1 (with C)       |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                         Key (with K)                          |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                   Sequence Number (with S)                    |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+


@dataclass(frozen=True)
class Header:
    """The fields behind the first four bytes, None where their bit is clear.

    ``end`` is the offset in the packet of what follows the header.
    """

    checksum: int | None
    key: int | None
    sequence: int | None
    end: int


# ---- build -------------------------------------------------------------------


def size(tunnel: GRE) -> int:
    """Bytes of the header."""
    return 4 + 4 * (tunnel.checksum + (tunnel.key != NO_KEY) + (tunnel.sequence is not None))


def build(tunnel: GRE, frame: bytes, ethertype: int, number: int) -> bytes:
    """The IP payload: GRE and what it carries, as packet ``number`` of the tunnel.

    ``ethertype`` is what the header calls the payload.
    """
    flags, fields = 0, b""
    if tunnel.key != NO_KEY:
        flags |= FLAG_K
        fields += struct.pack("!I", tunnel.key)
    if tunnel.sequence is not None:
        flags |= FLAG_S
        fields += struct.pack("!I", (tunnel.sequence + number) & 0xFFFFFFFF)
    if not tunnel.checksum:
        return struct.pack("!HH", flags, ethertype) + fields + frame
    first = struct.pack("!HH", flags | FLAG_C, ethertype)
    total = checksum(first + bytes(4) + fields + frame)
    return first + struct.pack("!HH", total, 0) + fields + frame


# ---- parse -------------------------------------------------------------------


def owner(outer: Outer, profile: Profile) -> str:
    """Step 9, first half: the protocol that the packet is of.  Raises :class:`DecapError`."""
    flags, protocol = _first_word(outer)
    known = profile.protocols
    if protocol in (ERSPAN_II, ERSPAN_III) and "erspan" in known:
        return "erspan"
    if "nvgre" in known:
        plain = not flags & (FLAG_C | FLAG_S) or profile.base == "lenient"
        if "gre" not in known or (flags & FLAG_K and protocol == TYPE_TEB and plain):
            return "nvgre"
    if "gre" in known:
        return "gre"
    raise DecapError(Status.UNKNOWN_PROTOCOL)


def parse_first(outer: Outer) -> tuple[int, int]:
    """The flags and the protocol type, of a header of this version without routing.

    Raises :class:`DecapError`.
    """
    flags, protocol = _first_word(outer)
    if flags & VERSION:
        raise DecapError(Status.GRE_VERSION)
    if flags & FLAG_R:
        raise DecapError(Status.GRE_ROUTING)
    return flags, protocol


def _first_word(outer: Outer) -> tuple[int, int]:
    if outer.here - outer.l4 < 4:
        raise DecapError(Status.HEADER_TRUNCATED)
    flags, protocol = struct.unpack_from("!HH", outer.packet, outer.l4)
    return flags, protocol


def parse_fields(outer: Outer, flags: int, profile: Profile) -> Header:
    """Reserved bits and step 10: the rest of the header.  Raises :class:`DecapError`."""
    refused = {"rfc": MUST_DISCARD, "strict": RESERVED, "lenient": 0}[profile.base]
    if flags & refused:
        raise DecapError(Status.GRE_RESERVED)
    if outer.here - outer.l4 < 4 + 4 * sum(flags & bit != 0 for bit in (FLAG_C, FLAG_K, FLAG_S)):
        raise DecapError(Status.HEADER_TRUNCATED)
    header = _fields(outer.packet, outer.l4, flags)
    summed = header.checksum is not None and not outer.is_cut
    if summed and ones_sum(outer.packet[outer.l4 : outer.end]) != 0xFFFF:
        raise DecapError(Status.GRE_CHECKSUM)
    return header


def _fields(packet: bytes, l4: int, flags: int) -> Header:
    """The fields in their order: checksum, key, sequence number."""
    at = l4 + 4
    found: dict[int, int] = {}
    for bit, code in ((FLAG_C, "!Hxx"), (FLAG_K, "!I"), (FLAG_S, "!I")):
        if flags & bit:
            found[bit] = struct.unpack_from(code, packet, at)[0]
            at += 4
    return Header(found.get(FLAG_C), found.get(FLAG_K), found.get(FLAG_S), at)


def parse(outer: Outer, profile: Profile) -> Carried:
    """Steps 9 to 11 of plain GRE.  Raises :class:`DecapError`."""
    flags, protocol = parse_first(outer)
    is_ip = protocol in (TYPE_IPV4, TYPE_IPV6)
    if protocol != TYPE_TEB and not (is_ip and profile.payload == "any"):
        raise DecapError(Status.GRE_PROTOCOL)
    header = parse_fields(outer, flags, profile)
    key = NO_KEY if header.key is None else header.key
    return Carried.of(outer, "gre", key, header.end, protocol if is_ip else 0)


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, l4: int) -> dict[str, Any]:
    """The fields of the tunnel that are GRE's."""
    flags, protocol = struct.unpack_from("!HH", header, l4)
    found = _fields(header, l4, flags)
    return {
        "key": found.key,
        "checksum": found.checksum is not None,
        "sequence": found.sequence,
        "payload": "ethernet" if protocol == TYPE_TEB else "ip",
    }
