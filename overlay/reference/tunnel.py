"""Encap, decap and describe of one frame: the only place that sees every protocol.

Bytes in, bytes out; no buffer, no batch, no counter.
"""

from __future__ import annotations

import struct
from typing import Any

from overlay.errors import ConfigError, DecapError, EncapError, MTUExceeded, Status
from overlay.profile import Profile
from overlay.tunnel import NVGRE, PROTOCOLS, STT, VXLAN, Tunnel, choice

from . import nvgre, outer, stt, stt_segment, vxlan
from .delivery import Carried, Delivered, deliver
from .hash import flow_hash, flow_label
from .inner import recognise, untag

__all__ = ["carry", "carry_datagram", "decap", "decap_datagram", "describe", "encap"]

_PARSERS = {
    vxlan.PROTOCOL: ("vxlan", vxlan.parse),
    nvgre.PROTOCOL: ("nvgre", nvgre.parse),
    stt.PROTOCOL: ("stt", stt.parse),
}
_DESCRIBE = {"vxlan": vxlan.describe, "nvgre": nvgre.describe, "stt": stt.describe}

# ---- encap -------------------------------------------------------------------


def encap(
    tunnel: Tunnel,
    frame: bytes,
    wire: int,
    sequence: int,
    mtu: int = 0,
    row: stt.Row = stt.PLAIN,
) -> list[bytes]:
    """Steps 2 to 6: the packets that carry a frame of which ``wire`` bytes were on the wire.

    One, unless STT has an MTU.  ``row`` is what a batch says of the frame.
    Raises :class:`EncapError`.
    """
    h = flow_hash(frame, tunnel.seed)
    tos = _tos(tunnel, frame)
    rest, tci = untag(tunnel, frame)
    wire -= len(frame) - len(rest)

    packets: list[bytes] = []
    if isinstance(tunnel, VXLAN):
        _check_length(tunnel, vxlan.OVERHEAD + wire, mtu)
        if tunnel.checksum and len(rest) < wire:
            raise EncapError(Status.FRAME_CUT)
        payloads = [vxlan.build(tunnel, h, rest, wire)]
        packets += _packets(tunnel, vxlan.PROTOCOL, payloads, wire - len(rest), h, tos, sequence)
    elif isinstance(tunnel, NVGRE):
        _check_length(tunnel, nvgre.OVERHEAD + wire, mtu)
        payloads = [nvgre.build(tunnel, h, rest)]
        packets += _packets(tunnel, nvgre.PROTOCOL, payloads, wire - len(rest), h, tos, sequence)
    elif isinstance(tunnel, STT):
        if not mtu:
            _check_length(tunnel, stt.OVERHEAD + wire)
        for piece in stt_segment.pieces(tunnel, rest, wire, mtu, row):
            number = sequence + len(packets)
            payloads = stt_segment.cut(tunnel, h, piece, tci, number, mtu, row)
            packets += _packets(tunnel, stt.PROTOCOL, payloads, 0, h, tos, number)
    return packets


def _packets(
    tunnel: Tunnel, protocol: int, payloads: list[bytes], cut: int, h: int, tos: int, sequence: int
) -> list[bytes]:
    """The packets of one frame: its IP payloads, each ``cut`` bytes short, with outer headers."""
    first_id = 0 if tunnel.df else sequence
    if tunnel.ip_id is not None:
        first_id = tunnel.ip_id
    label = flow_label(h) if tunnel.flow_label is None else tunnel.flow_label
    return [
        outer.build(
            tunnel,
            protocol,
            len(payload) + cut,
            tos=tos,
            ip_id=(first_id + number) & 0xFFFF,
            flow_label=label,
        )
        + payload
        for number, payload in enumerate(payloads)
    ]


def _check_length(tunnel: Tunnel, payload: int, mtu: int = 0) -> None:
    """Steps 4 and 5, for a packet with this much IP payload."""
    if outer.ip_length(tunnel, payload) > 65535:
        raise EncapError(Status.FRAME_TOO_LONG)
    header = 20 if tunnel.family == 4 else 40
    if mtu and header + payload > mtu:
        raise MTUExceeded


def _tos(tunnel: Tunnel, frame: bytes) -> int:
    """The outer TOS or traffic class (RFC 2983, RFC 6040 4.1)."""
    inner = recognise(frame)
    dscp = inner.tos >> 2 if tunnel.dscp == "inherit" else tunnel.dscp
    ecn = inner.tos & 3 if tunnel.ecn == "rfc6040" else 0
    return dscp << 2 | ecn


# ---- decap -------------------------------------------------------------------


def decap(
    packet: bytes, wire: int, link: int, profile: Profile, *, partial: bool = False
) -> Delivered:
    """The frame that a packet carries, mended.  Raises :class:`DecapError`.

    ``partial``: a partial inner checksum stays so.
    """
    return deliver(carry(packet, wire, link, profile), profile, partial=partial)


def carry(packet: bytes, wire: int, link: int, profile: Profile) -> Carried:
    """Steps 1 to 12: what a packet carries, unseen.  Raises :class:`DecapError`."""
    found = outer.parse(packet, wire, link, profile)
    name, parse = _PARSERS.get(found.protocol, ("", None))
    if parse is None or name not in profile.protocols:
        raise DecapError(Status.UNKNOWN_PROTOCOL)
    return parse(found, profile)


def decap_datagram(payload: bytes, wire: int, ip: bytes, profile: Profile) -> Delivered:
    """The same for the payload of a UDP datagram that a socket received; ``ip`` is its IP header.

    ``ip`` is empty where that does not lie in the batch.
    """
    return deliver(carry_datagram(payload, wire, ip, profile), profile)


def carry_datagram(payload: bytes, wire: int, ip: bytes, profile: Profile) -> Carried:
    """The same for the payload of a UDP datagram."""
    if "vxlan" not in profile.protocols:
        raise DecapError(Status.UNKNOWN_PROTOCOL)
    if not ip:
        raise DecapError(Status.BAD_ROW)
    found = outer.datagram(payload, wire, ip)
    return vxlan.parse_payload(found, 0, profile)


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, protocol: str, link: int) -> Tunnel:
    """The tunnel that rebuilds these outer headers, all before an inner frame.

    Raises :class:`ConfigError` for headers that no profile of decap takes.
    """
    choice("protocol", protocol, tuple(PROTOCOLS))
    try:
        # The lengths are those of the whole packet, which is not here.
        found = outer.parse(header, 1 << 32, link, Profile.of("lenient"))
        fields: dict[str, Any] = outer.describe(found)
        fields.update(_DESCRIBE[protocol](header, found.l4))
    except (DecapError, struct.error) as error:
        raise ConfigError(
            "header", f"<{len(header)} bytes>", f"outer headers of {protocol}"
        ) from error
    return PROTOCOLS[protocol](**fields)
