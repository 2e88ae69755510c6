"""Conversion: a packet of bytes as scapy's, and scapy's as a tunnel and a frame.

Lives here: the way through the bytes.  Must not: any field of its own; decap
and scapy's dissectors know them.
"""

from __future__ import annotations

from typing import Any

from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from overlay import Decapsulated, Profile, Tunnel, decap
from overlay.codec import Buffer, byte_view
from overlay.errors import ConfigError

__all__ = ["from_scapy", "to_scapy"]

_OVER_UDP = {"vxlan": VXLAN, "vxlan-gpe": VXLAN, "geneve": GENEVE}
_PORTS = {VXLAN: "vxlan_port", GENEVE: "geneve_port"}
_NOT_GPE = (4789, 8472)  # where scapy's own VXLAN may have the P bit and mean nothing by it


def to_scapy(
    packet: Buffer | Decapsulated | Tunnel, frame: Buffer | None = None, *, link: int = 0
) -> Packet:
    """A packet as scapy's layers, ``Ether`` first, or ``IP`` where it begins with that.

    :param packet: the bytes of a packet; or what :func:`overlay.decap` gave, as its tunnel
        makes it again; or a tunnel, with the frame to put into it.
    :param frame: the frame that goes with a tunnel: a buffer, or scapy's.
    :param link: of bytes: 0 for Ethernet, 1 where they begin with IP.
    :raises EncapError: the tunnel cannot carry the frame.
    """
    name = ""
    if isinstance(packet, Decapsulated):
        tunnel, link, name = packet.tunnel, packet.link, packet.protocol
        data = tunnel.encap(packet.frame)
        data = data[14:] if link else data
    elif isinstance(packet, Tunnel):
        if frame is None:
            raise ConfigError("frame", None, "the frame to put into the tunnel")
        data, name = packet.encap(bytes(byte_view(_raw(frame), "frame"))), packet.name
    else:
        data = bytes(byte_view(_raw(packet), "packet"))
    first: type[Packet] = Ether
    if link:
        first = IPv6 if data[:1] and data[0] >> 4 == 6 else IP
    found = first(data)
    layer = _OVER_UDP.get(name)
    if layer is not None and layer not in found and UDP in found:
        found[UDP].decode_payload_as(layer)  # on a port that scapy does not know
    return found


def from_scapy(
    packet: Packet, profile: str | Profile = "rfc", **options: Any
) -> tuple[Tunnel, bytes]:
    """The tunnel and the frame that scapy's packet is made of.

    VXLAN, VXLAN-GPE and GENEVE are found on whatever port their layers stand, unless
    the profile is a :class:`~overlay.Profile`.

    :param profile: what is accepted, as of :func:`overlay.decap`.
    :param options: fields of the profile to change.
    :raises DecapError: the packet was refused; ``error.status`` says why.
    """
    for layer, field in _PORTS.items():
        lower = packet[layer].underlayer if layer in packet else None
        if isinstance(profile, Profile) or not isinstance(lower, UDP):
            continue
        port = int(lower.dport)
        if layer is VXLAN and int(packet[VXLAN].flags) & 4 and port not in _NOT_GPE:
            field = "gpe_port"
        options.setdefault(field, port)
    link = int(isinstance(packet, (IP, IPv6)))
    found = decap(bytes(packet), profile, link=link, **options)
    return found.tunnel, found.frame


def _raw(value: Any) -> Any:
    return bytes(value) if isinstance(value, Packet) else value
