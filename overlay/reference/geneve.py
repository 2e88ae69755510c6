"""GENEVE (RFC 8926).

The UDP payload, built and checked.  Outer and inner headers are others'.
"""

from __future__ import annotations

import struct
from typing import Any

from overlay.errors import ConfigError, DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import Geneve, parse_options

from .delivery import Carried
from .hash import source_port
from .inner import TYPE_IPV4, TYPE_IPV6, TYPE_TEB
from .outer import UDP_HEADER, Outer, udp

__all__ = ["build", "describe", "parse", "size"]

# ---- constants ---------------------------------------------------------------

HEADER = 8
OPTION_HEADER = 4

VERSION = 0xC0  # byte 0
OPTION_LENGTH = 0x3F  # byte 0: of all options, in units of 4 bytes
FLAG_O = 0x80  # byte 1: a control packet
FLAG_C = 0x40  # byte 1: some option is critical

CRITICAL = 0x80  # of an option's type
DATA_LENGTH = 0x1F  # byte 3 of an option: of its data, in units of 4 bytes

# ---- header ------------------------------------------------------------------
#
# RFC 8926 3.4, 3.5::
#
#      0                   1                   2                   3
#      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |Ver|  Opt Len  |O|C|    Rsvd.  |          Protocol Type        |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |        Virtual Network Identifier (VNI)       |    Reserved   |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
# and each option::
#
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |          Option Class         |      Type     |R|R|R| Length  |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                  Variable-Length Option Data                  |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

# ---- build -------------------------------------------------------------------


def size(tunnel: Geneve) -> int:
    """Bytes of the UDP and GENEVE headers."""
    return UDP_HEADER + HEADER + sum(len(bytes(option)) for option in tunnel.options)


def build(tunnel: Geneve, h: int, frame: bytes, wire: int, ethertype: int) -> bytes:
    """The IP payload: UDP, GENEVE and what it carries, ``wire`` bytes of it on the wire.

    ``ethertype`` is what the header calls the payload.
    """
    options = b"".join(bytes(option) for option in tunnel.options)
    flags = FLAG_O if tunnel.oam else 0
    if any(option.type & CRITICAL for option in tunnel.options):
        flags |= FLAG_C
    header = struct.pack("!BBHI", len(options) // 4, flags, ethertype, tunnel.vni << 8) + options
    return udp(
        tunnel,
        source_port(tunnel, h),
        tunnel.port,
        header + frame,
        wire=len(header) + wire,
        check=tunnel.checksum,
    )


# ---- parse -------------------------------------------------------------------


def parse(outer: Outer, at: int, profile: Profile) -> Carried:
    """Step 11: the GENEVE header at ``at`` and its options.  Raises :class:`DecapError`."""
    if outer.here - at < HEADER:
        raise DecapError(Status.HEADER_TRUNCATED)
    first, flags, protocol, vni_word = struct.unpack_from("!BBHI", outer.packet, at)
    if first & VERSION:
        raise DecapError(Status.GENEVE_VERSION)
    if flags & FLAG_O and profile.base != "lenient":
        raise DecapError(Status.GENEVE_CONTROL)
    is_ip = protocol in (TYPE_IPV4, TYPE_IPV6)
    if protocol != TYPE_TEB and not (is_ip and profile.payload == "any"):
        raise DecapError(Status.GENEVE_PROTOCOL)
    end = at + HEADER + 4 * (first & OPTION_LENGTH)
    if outer.here < end:
        raise DecapError(Status.HEADER_TRUNCATED)
    _check_options(outer.packet[at + HEADER : end], profile)
    return Carried.of(outer, "geneve", vni_word >> 8, end, protocol if is_ip else 0)


def _check_options(options: bytes, profile: Profile) -> None:
    """RFC 8926 3.5: the lengths add up, and no critical option is unknown."""
    while options:
        if len(options) < OPTION_HEADER:
            raise DecapError(Status.GENEVE_OPTIONS)
        number, kind, length = struct.unpack_from("!HBB", options)
        whole = OPTION_HEADER + 4 * (length & DATA_LENGTH)
        if len(options) < whole:
            raise DecapError(Status.GENEVE_OPTIONS)
        known = (number, kind) in profile.options or profile.base == "lenient"
        if kind & CRITICAL and not known:
            raise DecapError(Status.GENEVE_CRITICAL)
        options = options[whole:]


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, l4: int) -> dict[str, Any]:
    """The fields of the tunnel that are GENEVE's."""
    source, port, _, check = struct.unpack_from("!HHHH", header, l4)
    at = l4 + UDP_HEADER
    first, flags, protocol, vni_word = struct.unpack_from("!BBHI", header, at)
    end = at + HEADER + 4 * (first & OPTION_LENGTH)
    if len(header) < end:
        raise ConfigError("header", f"<{len(header)} bytes>", "outer headers of geneve")
    return {
        "vni": vni_word >> 8,
        "port": port,
        "source_port": source,
        "checksum": check != 0,
        "oam": flags & FLAG_O != 0,
        "options": parse_options(header[at + HEADER : end]),
        "payload": "ethernet" if protocol == TYPE_TEB else "ip",
    }
