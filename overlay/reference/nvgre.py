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
from .delivery import Carried
from .gre import FLAG_C, FLAG_K, FLAG_S, PROTOCOL, parse_fields, parse_first
from .inner import TYPE_TEB
from .outer import Outer

__all__ = ["OVERHEAD", "PROTOCOL", "build", "describe", "parse"]

# ---- constants ---------------------------------------------------------------

HEADER = 8
OVERHEAD = HEADER

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
# The other fields of GRE are drawn in :mod:`.gre`.

# ---- build -------------------------------------------------------------------


def build(tunnel: NVGRE, h: int, frame: bytes) -> bytes:
    """The IP payload: GRE, frame."""
    flow_id = entropy.flow_id(h) if tunnel.flow_id is None else tunnel.flow_id
    return struct.pack("!HHI", FLAG_K, TYPE_TEB, tunnel.vsid << 8 | flow_id) + frame


# ---- parse -------------------------------------------------------------------


def parse(outer: Outer, profile: Profile) -> Carried:
    """Steps 9 to 11: the GRE header.  Raises :class:`DecapError`."""
    lenient = profile.base == "lenient"
    flags, protocol = parse_first(outer)
    if protocol != TYPE_TEB:
        raise DecapError(Status.GRE_PROTOCOL)
    if not flags & FLAG_K:
        raise DecapError(Status.GRE_NO_KEY)
    if flags & FLAG_C and not lenient:
        raise DecapError(Status.GRE_CHECKSUM_PRESENT)
    if flags & FLAG_S and not lenient:
        raise DecapError(Status.GRE_SEQUENCE_PRESENT)
    header = parse_fields(outer, flags, profile)
    assert header.key is not None  # K is set
    vsid = header.key >> 8
    if profile.reserved_vsid == "drop" and _is_reserved(vsid):
        raise DecapError(Status.NVGRE_VSID)
    return Carried.of(outer, "nvgre", vsid, header.end)


def _is_reserved(vsid: int) -> bool:
    return vsid < 0x001000 or vsid == 0xFFFFFF  # RFC 7637 3.4


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, l4: int) -> dict[str, Any]:
    """The fields of the tunnel that are NVGRE's."""
    key_at = 8 if struct.unpack_from("!H", header, l4)[0] & FLAG_C else 4
    key = struct.unpack_from("!I", header, l4 + key_at)[0]
    vsid = key >> 8
    return {"vsid": vsid, "flow_id": key & 0xFF, "allow_reserved_vsid": _is_reserved(vsid)}
