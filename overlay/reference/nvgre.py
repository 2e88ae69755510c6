"""NVGRE (RFC 7637), a use of GRE (RFC 2784, RFC 2890).

The IP payload, built and checked.  Outer and inner headers are others'.
"""

from __future__ import annotations

import struct
from typing import Any

from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import NVGRE

from . import hash as entropy
from .checksum import ones_sum
from .delivery import Carried
from .outer import Outer

__all__ = ["OVERHEAD", "PROTOCOL", "build", "describe", "parse"]

# ---- constants ---------------------------------------------------------------

PROTOCOL = 47  # GRE
HEADER = 8
OVERHEAD = HEADER

FLAG_C = 0x8000  # a checksum follows
FLAG_R = 0x4000  # routing (RFC 1701)
FLAG_K = 0x2000  # a key follows
FLAG_S = 0x1000  # a sequence number follows
MUST_DISCARD = 0x0C00  # bits 4 and 5: discard if set (RFC 2784 2.3)
RESERVED = 0x0FF8  # all reserved bits, bits 6 to 12 to be ignored
VERSION = 0x0007
ETHERNET = 0x6558  # transparent Ethernet bridging

# ---- header ------------------------------------------------------------------
#
# RFC 7637 3.2::
#
#      0                   1                   2                   3
#      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |0| |1|0|   Reserved0       | Ver |   Protocol Type 0x6558        |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |               Virtual Subnet ID (VSID)        |    FlowID     |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
# RFC 2890 puts the checksum (C: 2 bytes, then 2 reserved) before the key and
# the sequence number (S: 4 bytes) after it.

# ---- build -------------------------------------------------------------------


def build(tunnel: NVGRE, h: int, frame: bytes) -> bytes:
    """The IP payload: GRE, frame."""
    flow_id = entropy.flow_id(h) if tunnel.flow_id is None else tunnel.flow_id
    return struct.pack("!HHI", FLAG_K, ETHERNET, tunnel.vsid << 8 | flow_id) + frame


# ---- parse -------------------------------------------------------------------


def parse(outer: Outer, profile: Profile) -> Carried:
    """Steps 9 to 11: the GRE header.  Raises :class:`DecapError`."""
    packet, l4 = outer.packet, outer.l4
    lenient = profile.base == "lenient"
    if outer.here - l4 < 4:
        raise DecapError(Status.HEADER_TRUNCATED)
    flags, protocol = struct.unpack_from("!HH", packet, l4)
    if flags & VERSION:
        raise DecapError(Status.GRE_VERSION)
    if flags & FLAG_R:
        raise DecapError(Status.GRE_ROUTING)
    if protocol != ETHERNET:
        raise DecapError(Status.GRE_PROTOCOL)
    if not flags & FLAG_K:
        raise DecapError(Status.GRE_NO_KEY)
    if flags & FLAG_C and not lenient:
        raise DecapError(Status.GRE_CHECKSUM_PRESENT)
    if flags & FLAG_S and not lenient:
        raise DecapError(Status.GRE_SEQUENCE_PRESENT)
    refused = {"rfc": MUST_DISCARD, "strict": RESERVED, "lenient": 0}[profile.base]
    if flags & refused:
        raise DecapError(Status.GRE_RESERVED)

    key_at, size = _layout(flags)
    if outer.here - l4 < size:
        raise DecapError(Status.HEADER_TRUNCATED)
    if flags & FLAG_C and not outer.is_cut and ones_sum(packet[l4 : outer.end]) != 0xFFFF:
        raise DecapError(Status.GRE_CHECKSUM)
    vsid = struct.unpack_from("!I", packet, l4 + key_at)[0] >> 8
    if profile.reserved_vsid == "drop" and _is_reserved(vsid):
        raise DecapError(Status.NVGRE_VSID)
    return Carried.of(outer, "nvgre", vsid, l4 + size)


def _layout(flags: int) -> tuple[int, int]:
    """Where the key lies in the GRE header, and the header's length."""
    key_at = 8 if flags & FLAG_C else 4
    return key_at, key_at + (8 if flags & FLAG_S else 4)


def _is_reserved(vsid: int) -> bool:
    return vsid < 0x001000 or vsid == 0xFFFFFF  # RFC 7637 3.4


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, l4: int) -> dict[str, Any]:
    """The fields of the tunnel that are NVGRE's."""
    key_at, _ = _layout(struct.unpack_from("!H", header, l4)[0])
    key = struct.unpack_from("!I", header, l4 + key_at)[0]
    vsid = key >> 8
    return {"vsid": vsid, "flow_id": key & 0xFF, "allow_reserved_vsid": _is_reserved(vsid)}
