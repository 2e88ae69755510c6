"""Encap, decap and describe of one frame: the only place that sees every protocol.

Bytes in, bytes out; no buffer, no batch, no counter.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from overlay.errors import ConfigError, DecapError, EncapError, MTUExceeded, Status
from overlay.profile import Profile
from overlay.tunnel import (
    ERSPAN,
    GRE,
    NVGRE,
    PROTOCOLS,
    STT,
    VXLAN,
    VXLANGPE,
    Geneve,
    Tunnel,
    choice,
)

from . import erspan, geneve, gpe, gre, nvgre, outer, stt, stt_segment, vxlan
from .delivery import Carried, Delivered, deliver
from .hash import flow_hash, flow_label
from .inner import TYPE_TEB, recognise, unframed, untag

__all__ = [
    "OVER_GRE",
    "OVER_UDP",
    "carry",
    "carry_datagram",
    "decap",
    "decap_datagram",
    "describe",
    "encap",
    "ports_of",
]

# The protocols that UDP carries, in the order in which ports are compared, and the field
# of the profile with the port.
_PORTS = {"vxlan": "vxlan_port", "vxlan-gpe": "gpe_port", "geneve": "geneve_port"}
OVER_UDP: dict[str, Callable[[outer.Outer, int, Profile], Carried]] = {
    "vxlan": vxlan.parse,
    "vxlan-gpe": gpe.parse,
    "geneve": geneve.parse,
}
OVER_GRE: dict[str, Callable[[outer.Outer, Profile], Carried]] = {
    "nvgre": nvgre.parse,
    "gre": gre.parse,
    "erspan": erspan.parse,
}
_DESCRIBE: dict[str, Callable[[bytes, int], dict[str, Any]]] = {
    "vxlan": vxlan.describe,
    "nvgre": nvgre.describe,
    "stt": stt.describe,
    "geneve": geneve.describe,
    "vxlan-gpe": gpe.describe,
    "gre": gre.describe,
    "erspan": erspan.describe,
}

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
    if isinstance(tunnel, STT):
        return _encap_stt(tunnel, h, tos, rest, wire, tci, sequence, mtu, row)

    payload, ethertype = rest, TYPE_TEB
    if getattr(tunnel, "payload", "ethernet") == "ip":
        payload, ethertype = unframed(rest)
        wire -= len(rest) - len(payload)
    _check_length(tunnel, _size(tunnel) + wire, mtu)
    if getattr(tunnel, "checksum", False) and len(payload) < wire:
        raise EncapError(Status.FRAME_CUT)
    body = _build(tunnel, h, payload, wire, ethertype, sequence)
    protocol = outer.GRE if isinstance(tunnel, (NVGRE, GRE, ERSPAN)) else outer.UDP
    return _packets(tunnel, protocol, [body], wire - len(payload), h, tos, sequence)


def _size(tunnel: Tunnel) -> int:
    """Bytes between the outer IP header and the payload; not for STT."""
    if isinstance(tunnel, Geneve):
        return geneve.size(tunnel)
    if isinstance(tunnel, GRE):
        return gre.size(tunnel)
    if isinstance(tunnel, ERSPAN):
        return erspan.size(tunnel)
    return {"vxlan": vxlan.OVERHEAD, "vxlan-gpe": gpe.OVERHEAD, "nvgre": nvgre.OVERHEAD}[
        tunnel.name
    ]


def _build(
    tunnel: Tunnel, h: int, payload: bytes, wire: int, ethertype: int, sequence: int
) -> bytes:
    """The IP payload of a packet; not for STT."""
    if isinstance(tunnel, VXLAN):
        return vxlan.build(tunnel, h, payload, wire)
    if isinstance(tunnel, NVGRE):
        return nvgre.build(tunnel, h, payload)
    if isinstance(tunnel, Geneve):
        return geneve.build(tunnel, h, payload, wire, ethertype)
    if isinstance(tunnel, VXLANGPE):
        return gpe.build(tunnel, h, payload, wire, ethertype)
    if isinstance(tunnel, GRE):
        return gre.build(tunnel, payload, ethertype, sequence)
    assert isinstance(tunnel, ERSPAN)
    return erspan.build(tunnel, payload, sequence)


def _encap_stt(
    tunnel: STT,
    h: int,
    tos: int,
    frame: bytes,
    wire: int,
    tci: int,
    sequence: int,
    mtu: int,
    row: stt.Row,
) -> list[bytes]:
    if not mtu:
        _check_length(tunnel, stt.OVERHEAD + wire)
    packets: list[bytes] = []
    for piece in stt_segment.pieces(tunnel, frame, wire, mtu, row):
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
    known = profile.protocols
    if found.protocol == outer.UDP and any(name in known for name in OVER_UDP):
        ports = ports_of(profile)
        found, port = outer.parse_udp(found, ports, profile)
        return OVER_UDP[ports[port]](found, found.l4 + outer.UDP_HEADER, profile)
    if found.protocol == outer.GRE and any(name in known for name in OVER_GRE):
        return OVER_GRE[gre.owner(found, profile)](found, profile)
    if found.protocol == outer.TCP and "stt" in known:
        return stt.parse(found, profile)
    raise DecapError(Status.UNKNOWN_PROTOCOL)


def ports_of(profile: Profile) -> dict[int, str]:
    """The protocols that UDP carries, by port; of two with one port the first has it."""
    return {getattr(profile, _PORTS[n]): n for n in reversed(OVER_UDP) if n in profile.protocols}


def decap_datagram(payload: bytes, wire: int, ip: bytes, profile: Profile) -> Delivered:
    """The same for the payload of a UDP datagram that a socket received; ``ip`` is its IP header.

    ``ip`` is empty where that does not lie in the batch.
    """
    return deliver(carry_datagram(payload, wire, ip, profile), profile)


def carry_datagram(payload: bytes, wire: int, ip: bytes, profile: Profile) -> Carried:
    """The same for the payload of a UDP datagram."""
    name = next((name for name in OVER_UDP if name in profile.protocols), None)
    if name is None:
        raise DecapError(Status.UNKNOWN_PROTOCOL)
    if not ip:
        raise DecapError(Status.BAD_ROW)
    found = outer.datagram(payload, wire, ip)
    return OVER_UDP[name](found, 0, profile)


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
