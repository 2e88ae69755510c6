"""VXLAN-GPE, the Generic Protocol Extension of VXLAN (draft-ietf-nvo3-vxlan-gpe-13).

The UDP payload, built and checked.  Outer and inner headers are others'.
"""

from __future__ import annotations

import struct
from typing import Any

from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import VXLANGPE

from .delivery import Carried
from .hash import source_port
from .inner import TYPE_IPV4, TYPE_IPV6, TYPE_TEB
from .outer import UDP_HEADER, Outer, udp

__all__ = ["OVERHEAD", "build", "describe", "parse"]

# ---- constants ---------------------------------------------------------------

HEADER = 8
OVERHEAD = UDP_HEADER + HEADER

RESERVED_FLAGS = 0xC0
VERSION = 0x30
FLAG_I = 0x08  # the VNI is valid
FLAG_P = 0x04  # the next protocol is valid
FLAG_O = 0x01  # a packet for operations, administration and maintenance

NEXT_IPV4, NEXT_IPV6, NEXT_ETHERNET = 1, 2, 3
NEXT_SHIM = 0x80  # and above: a shim header
MAX_SHIMS = 8

_NEXT = {TYPE_IPV4: NEXT_IPV4, TYPE_IPV6: NEXT_IPV6, TYPE_TEB: NEXT_ETHERNET}
_ETHERTYPE = {NEXT_IPV4: TYPE_IPV4, NEXT_IPV6: TYPE_IPV6}

# ---- header ------------------------------------------------------------------
#
# Section 3.1 of the draft::
#
#      0                   1                   2                   3
#      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |R|R|Ver|I|P|B|O|       Reserved                | Next Protocol |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                VXLAN Network Identifier (VNI) |   Reserved    |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
# and section 3.2, a shim header, its length in units of 4 bytes behind the first::
#
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |     Type      |    Length     |   Reserved    | Next Protocol |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                            Data                               |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

# ---- build -------------------------------------------------------------------


def build(tunnel: VXLANGPE, h: int, frame: bytes, wire: int, ethertype: int) -> bytes:
    """The IP payload: UDP, VXLAN-GPE and what it carries, ``wire`` bytes of it on the wire.

    ``ethertype`` says what that is.
    """
    header = struct.pack("!BxxBI", FLAG_I | FLAG_P, _NEXT[ethertype], tunnel.vni << 8)
    return udp(
        tunnel,
        source_port(tunnel, h),
        tunnel.port,
        header + frame,
        wire=HEADER + wire,
        check=tunnel.checksum,
    )


# ---- parse -------------------------------------------------------------------


def parse(outer: Outer, at: int, profile: Profile) -> Carried:
    """Step 11: the VXLAN-GPE header at ``at`` and shim headers.  Raises :class:`DecapError`."""
    if outer.here - at < HEADER:
        raise DecapError(Status.HEADER_TRUNCATED)
    flags, reserved, following, vni_word = struct.unpack_from("!BHBI", outer.packet, at)
    if flags & VERSION:
        raise DecapError(Status.GPE_VERSION)
    if not flags & FLAG_I:
        raise DecapError(Status.VXLAN_NO_VNI)
    if flags & FLAG_O and profile.base != "lenient":
        raise DecapError(Status.GPE_CONTROL)
    if profile.base == "strict" and (flags & RESERVED_FLAGS or reserved or vni_word & 0xFF):
        raise DecapError(Status.VXLAN_RESERVED)
    if not flags & FLAG_P:
        if profile.base == "strict" or (following and profile.base != "lenient"):
            raise DecapError(Status.GPE_NEXT_PROTOCOL)
        following = NEXT_ETHERNET

    payload, shims = at + HEADER, 0
    while following >= NEXT_SHIM:
        if shims == MAX_SHIMS:
            raise DecapError(Status.GPE_SHIM)
        if outer.here - payload < 4:
            raise DecapError(Status.HEADER_TRUNCATED)
        length, following = _shim(outer.packet, payload)
        if outer.here - payload < length:
            raise DecapError(Status.HEADER_TRUNCATED)
        payload, shims = payload + length, shims + 1

    ethertype = _ETHERTYPE.get(following, 0)
    if following != NEXT_ETHERNET and not (ethertype and profile.payload == "any"):
        raise DecapError(Status.GPE_NEXT_PROTOCOL)
    return Carried.of(outer, "vxlan-gpe", vni_word >> 8, payload, ethertype)


def _shim(packet: bytes, at: int) -> tuple[int, int]:
    """The length of the shim header at ``at``, and the protocol behind it."""
    length, following = struct.unpack_from("!xBxB", packet, at)
    return 4 + 4 * length, following


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, l4: int) -> dict[str, Any]:
    """The fields of the tunnel that are VXLAN-GPE's."""
    source, port, _, check = struct.unpack_from("!HHHH", header, l4)
    at = l4 + UDP_HEADER
    flags, following, vni_word = struct.unpack_from("!BxxBI", header, at)
    if not flags & FLAG_P:
        following = NEXT_ETHERNET
    at += HEADER
    while following >= NEXT_SHIM:
        length, following = _shim(header, at)
        at += length
    return {
        "vni": vni_word >> 8,
        "port": port,
        "source_port": source,
        "checksum": check != 0,
        "payload": "ip" if following in _ETHERTYPE else "ethernet",
    }
