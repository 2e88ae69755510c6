"""VXLAN (RFC 7348) with the group policy extension (draft-smith-vxlan-group-policy-05).

The UDP payload, built and checked.  Outer and inner headers are others'.
"""

from __future__ import annotations

import struct
from typing import Any

from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import VXLAN

from .delivery import Carried
from .hash import source_port
from .outer import UDP_HEADER, Outer, udp

__all__ = ["OVERHEAD", "build", "describe", "parse"]

# ---- constants ---------------------------------------------------------------

HEADER = 8
OVERHEAD = UDP_HEADER + HEADER

FLAG_I = 0x08  # byte 0: the VNI is valid
FLAG_G = 0x80  # byte 0: the policy id is valid
FLAG_D = 0x40  # byte 1: the egress must not learn
FLAG_A = 0x08  # byte 1: the policy has been applied

# ---- header ------------------------------------------------------------------
#
# RFC 7348 5, and section 2.1 of the draft where G, D, A and the policy id are::
#
#      0                   1                   2                   3
#      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |G|R|R|R|I|R|R|R|R|D|R|R|A|R|R|R|        Group Policy ID        |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                VXLAN Network Identifier       |   Reserved    |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

# ---- build -------------------------------------------------------------------


def build(tunnel: VXLAN, h: int, frame: bytes, wire: int) -> bytes:
    """The IP payload: UDP, VXLAN, frame, of whose bytes ``wire`` are on the wire."""
    flags, policy_flags, policy = FLAG_I, 0, 0
    if tunnel.gbp is not None:
        flags |= FLAG_G
        policy_flags = FLAG_D * tunnel.gbp_dont_learn | FLAG_A * tunnel.gbp_applied
        policy = tunnel.gbp
    header = struct.pack("!BBHI", flags, policy_flags, policy, tunnel.vni << 8)
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
    """Step 11: the VXLAN header at ``at``.  Raises :class:`DecapError`."""
    if outer.here - at < HEADER:
        raise DecapError(Status.HEADER_TRUNCATED)
    flags, policy_flags, policy, vni_word = struct.unpack_from("!BBHI", outer.packet, at)
    if not flags & FLAG_I:
        raise DecapError(Status.VXLAN_NO_VNI)
    if profile.base == "strict":
        flags &= ~FLAG_I
        if profile.gbp:
            flags &= ~FLAG_G
            policy_flags &= ~(FLAG_D | FLAG_A)
            policy = 0
        if flags or policy_flags or policy or vni_word & 0xFF:
            raise DecapError(Status.VXLAN_RESERVED)
    return Carried.of(outer, "vxlan", vni_word >> 8, at + HEADER)


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, l4: int) -> dict[str, Any]:
    """The fields of the tunnel that are VXLAN's."""
    source, port, _, check = struct.unpack_from("!HHHH", header, l4)
    flags, policy_flags, policy, vni_word = struct.unpack_from("!BBHI", header, l4 + 8)
    fields = {
        "vni": vni_word >> 8,
        "port": port,
        "source_port": source,
        "checksum": check != 0,
    }
    if flags & FLAG_G:
        fields["gbp"] = policy
        fields["gbp_dont_learn"] = policy_flags & FLAG_D != 0
        fields["gbp_applied"] = policy_flags & FLAG_A != 0
    return fields
