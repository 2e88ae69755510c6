"""ERSPAN types I, II and III: mirrored frames over GRE (draft-foschiano-erspan-03).

The IP payload, built and checked.  Outer and inner headers are others'.
"""

from __future__ import annotations

import struct
from typing import Any

from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import ERSPAN, NO_KEY

from .delivery import Carried
from .gre import ERSPAN_II, ERSPAN_III, FLAG_C, FLAG_K, FLAG_S, parse_fields, parse_first
from .inner import TYPE_IPV4, TYPE_IPV6
from .outer import Outer

__all__ = ["build", "describe", "parse", "size"]

# ---- constants ---------------------------------------------------------------

GRE_HEADER, SEQUENCE = 4, 4
HEADER_II = 8
HEADER_III = 12
PLATFORM = 8  # of type III, with O

VERSION_II, VERSION_III = 1, 2
FLAG_T = 0x0400  # the frame was cut
SESSION = 0x03FF
FLAG_P = 0x8000  # of the last word of type III: an Ethernet frame is mirrored
FLAG_O = 0x0001  # of the same: the platform's part follows
FRAME_ETHERNET, FRAME_IP = 0, 2

# ---- header ------------------------------------------------------------------
#
# Section 4.2 of the draft, type II::
#
#      0                   1                   2                   3
#      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |  Ver  |          VLAN         | COS | En|T|    Session ID     |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |      Reserved         |                  Index                |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
# Section 4.3, type III, after which come 8 bytes of the platform's own where O is set::
#
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |  Ver  |          VLAN         | COS |BSO|T|     Session ID    |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                          Timestamp                            |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |             SGT               |P|    FT   |   Hw ID   |D|Gra|O|
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
# Type I has GRE's first four bytes and no header of its own.

# ---- build -------------------------------------------------------------------


def size(tunnel: ERSPAN) -> int:
    """Bytes of the GRE and ERSPAN headers."""
    if tunnel.type == 1:
        return GRE_HEADER
    return GRE_HEADER + SEQUENCE + (HEADER_II if tunnel.type == 2 else HEADER_III)


def build(tunnel: ERSPAN, frame: bytes, number: int) -> bytes:
    """The IP payload: GRE, ERSPAN, frame, as packet ``number`` of the tunnel."""
    if tunnel.type == 1:
        return struct.pack("!HH", 0, ERSPAN_II) + frame
    version = VERSION_II if tunnel.type == 2 else VERSION_III
    first = version << 12 | tunnel.vlan
    second = tunnel.cos << 13 | tunnel.encapsulation << 11 | tunnel.session_id
    if tunnel.truncated:
        second |= FLAG_T
    header = struct.pack("!HH", first, second)
    if tunnel.type == 2:
        header += struct.pack("!I", tunnel.index)
    else:
        last = FLAG_P | tunnel.hardware << 4 | tunnel.granularity << 1
        if tunnel.direction == "egress":
            last |= 1 << 3
        header += struct.pack("!IHH", tunnel.timestamp, tunnel.security_group, last)
    protocol = ERSPAN_II if tunnel.type == 2 else ERSPAN_III
    sequence = (tunnel.sequence + number) & 0xFFFFFFFF
    return struct.pack("!HHI", FLAG_S, protocol, sequence) + header + frame


# ---- parse -------------------------------------------------------------------


def parse(outer: Outer, profile: Profile) -> Carried:
    """Steps 9 to 11: the GRE and ERSPAN headers.  Raises :class:`DecapError`."""
    flags, protocol = parse_first(outer)
    unnumbered = protocol == ERSPAN_III and not flags & FLAG_S
    if flags & (FLAG_C | FLAG_K) or (unnumbered and profile.base != "lenient"):
        raise DecapError(Status.ERSPAN_SEQUENCE)
    at = parse_fields(outer, flags, profile).end
    if protocol == ERSPAN_II and not flags & FLAG_S:
        return Carried.of(outer, "erspan", NO_KEY, at)

    end = at + (HEADER_II if protocol == ERSPAN_II else HEADER_III)
    if outer.here < end:
        raise DecapError(Status.HEADER_TRUNCATED)
    first, second = struct.unpack_from("!HH", outer.packet, at)
    if first >> 12 != (VERSION_II if protocol == ERSPAN_II else VERSION_III):
        raise DecapError(Status.ERSPAN_VERSION)
    ethertype = 0
    if protocol == ERSPAN_III:
        last = struct.unpack_from("!H", outer.packet, at + 10)[0]
        if last & FLAG_O:
            end += PLATFORM
        if outer.here < end:
            raise DecapError(Status.HEADER_TRUNCATED)
        ethertype = _ethertype(outer, end, last >> 10 & 0x1F, profile)
    return Carried.of(outer, "erspan", second & SESSION, end, ethertype)


def _ethertype(outer: Outer, at: int, frame_type: int, profile: Profile) -> int:
    """0 where an Ethernet frame was mirrored; that of the IP packet where one was."""
    if frame_type == FRAME_ETHERNET:
        return 0
    if frame_type == FRAME_IP and profile.payload == "any" and outer.here > at:
        version = outer.packet[at] >> 4
        if version in (4, 6):
            return TYPE_IPV4 if version == 4 else TYPE_IPV6
    raise DecapError(Status.ERSPAN_FRAME_TYPE)


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, l4: int) -> dict[str, Any]:
    """The fields of the tunnel that are ERSPAN's."""
    flags, protocol = struct.unpack_from("!HH", header, l4)
    at, sequence = l4 + GRE_HEADER, 0
    if flags & FLAG_S:
        sequence = struct.unpack_from("!I", header, at)[0]
        at += SEQUENCE
    elif protocol == ERSPAN_II:
        return {"type": 1}
    first, second = struct.unpack_from("!HH", header, at)
    fields: dict[str, Any] = {
        "session_id": second & SESSION,
        "vlan": first & 0x0FFF,
        "cos": second >> 13,
        "encapsulation": second >> 11 & 3,
        "truncated": second & FLAG_T != 0,
        "sequence": sequence,
    }
    at += 4
    if protocol == ERSPAN_II:
        index = struct.unpack_from("!I", header, at)[0] & 0xFFFFF
        return {"type": 2, "index": index, **fields}
    timestamp, group, last = struct.unpack_from("!IHH", header, at)
    return {
        "type": 3,
        "timestamp": timestamp,
        "security_group": group,
        "hardware": last >> 4 & 0x3F,
        "direction": "egress" if last >> 3 & 1 else "ingress",
        "granularity": last >> 1 & 3,
        **fields,
    }
