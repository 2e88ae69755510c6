"""The outer headers: Ethernet, 802.1Q, IPv4, IPv6 and UDP, built and checked.

Knows nothing of what UDP, GRE or TCP carry.  After :func:`parse` no field of
an :class:`Outer` reaches beyond the packet, ``end`` excepted.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from overlay.address import mac_bytes
from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import Tunnel

from .checksum import checksum, ones_sum, pseudo_header

__all__ = [
    "UDP_HEADER",
    "Outer",
    "addresses",
    "build",
    "datagram",
    "describe",
    "extensions",
    "ip_length",
    "parse",
    "parse_udp",
    "udp",
]

# ---- constants ---------------------------------------------------------------

ETHERNET, RAW_IP = 0, 1  # link types

TYPE_VLAN = 0x8100
TYPE_IPV4 = 0x0800
TYPE_IPV6 = 0x86DD

TCP = 6
UDP = 17
GRE = 47

DF = 0x4000
MF_OR_OFFSET = 0x3FFF

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
MAX_EXTENSIONS = 8

UDP_HEADER = 8

# ---- build -------------------------------------------------------------------


def build(
    tunnel: Tunnel, protocol: int, payload: int, *, tos: int, ip_id: int, flow_label: int
) -> bytes:
    """The Ethernet and IP headers of a packet with ``payload`` bytes of IP payload."""
    if tunnel.family == 4:
        return ethernet(tunnel, TYPE_IPV4) + ipv4(tunnel, protocol, payload, tos, ip_id)
    return ethernet(tunnel, TYPE_IPV6) + ipv6(tunnel, protocol, payload, tos, flow_label)


def ethernet(tunnel: Tunnel, ethertype: int) -> bytes:
    """The Ethernet header::

        +-------------------+-------------------+-----------+
        |  destination (6)  |    source (6)     | EtherType |
        +-------------------+-------------------+-----------+

    with an 802.1Q tag (0x8100; PCP 3 bits, DEI 1, VID 12) before the
    EtherType, if the tunnel has one.
    """
    tag = b""
    if tunnel.outer_vlan is not None:
        tci = tunnel.outer_pcp << 13 | tunnel.outer_dei << 12 | tunnel.outer_vlan
        tag = struct.pack("!HH", TYPE_VLAN, tci)
    macs = mac_bytes(tunnel.remote_mac) + mac_bytes(tunnel.local_mac)
    return macs + tag + struct.pack("!H", ethertype)


def ipv4(tunnel: Tunnel, protocol: int, payload: int, tos: int, ip_id: int) -> bytes:
    """The IPv4 header (RFC 791 3.1)::

        +-------+-------+---------------+-------------------------------+
        |Version|  IHL  |      TOS      |          Total Length         |
        +-------+-------+---------------+-----+-------------------------+
        |         Identification        |Flags|     Fragment Offset     |
        +---------------+---------------+-----+-------------------------+
        |      TTL      |    Protocol   |        Header Checksum        |
        +---------------+---------------+-------------------------------+
        |                         Source Address                        |
        +---------------------------------------------------------------+
        |                       Destination Address                     |
        +---------------------------------------------------------------+

    It has no options, and the flags are DF or nothing.
    """
    flags = DF if tunnel.df else 0
    head = struct.pack("!BBHHHBB", 0x45, tos, 20 + payload, ip_id, flags, tunnel.ttl, protocol)
    ends = b"".join(addresses(tunnel))
    return head + struct.pack("!H", checksum(head + ends)) + ends


def ipv6(tunnel: Tunnel, protocol: int, payload: int, tos: int, flow_label: int) -> bytes:
    """The IPv6 header (RFC 8200 3)::

        +-------+---------------+---------------------------------------+
        |Version| Traffic Class |              Flow Label               |
        +-------+---------------+-------+---------------+---------------+
        |         Payload Length        |  Next Header  |   Hop Limit   |
        +-------------------------------+---------------+---------------+
        |                     Source Address (16)                       |
        +---------------------------------------------------------------+
        |                   Destination Address (16)                    |
        +---------------------------------------------------------------+

    It has no extension headers.
    """
    first = 6 << 28 | tos << 20 | flow_label
    return struct.pack("!IHBB", first, payload, protocol, tunnel.ttl) + b"".join(addresses(tunnel))


def addresses(tunnel: Tunnel) -> tuple[bytes, bytes]:
    """Source and destination address as they are on the wire."""
    return ipaddress.ip_address(tunnel.local).packed, ipaddress.ip_address(tunnel.remote).packed


def ip_length(tunnel: Tunnel, payload: int) -> int:
    """What the length field of the outer IP header has to hold; the caller checks it."""
    return 20 + payload if tunnel.family == 4 else payload


def udp(
    tunnel: Tunnel, source: int, destination: int, payload: bytes, *, wire: int, check: bool
) -> bytes:
    """The UDP header (RFC 768) and the payload, ``wire`` bytes of which are on the wire::

        +-------------------------------+-------------------------------+
        |          Source Port          |        Destination Port       |
        +-------------------------------+-------------------------------+
        |             Length            |            Checksum           |
        +-------------------------------+-------------------------------+

    A computed checksum of 0 is sent as 0xFFFF; without ``check`` the field is 0.
    """
    length = UDP_HEADER + wire
    head = struct.pack("!HHH", source, destination, length)
    total = 0
    if check:
        pseudo = pseudo_header(*addresses(tunnel), UDP, length)
        total = checksum(pseudo + head + b"\0\0" + payload) or 0xFFFF
    return head + struct.pack("!H", total) + payload


# ---- parse -------------------------------------------------------------------


@dataclass(frozen=True)
class Outer:
    """A packet whose link and IP headers are in order.

    ``l3`` and ``l4`` are offsets in ``packet``, ``end`` that of the end of
    the IP payload by the length field; ``here`` of it are in ``packet``.
    """

    packet: bytes
    link: int
    family: int
    l3: int
    l4: int
    end: int
    protocol: int
    tos: int
    source: bytes
    destination: bytes

    @property
    def here(self) -> int:
        return min(self.end, len(self.packet))

    @property
    def is_cut(self) -> bool:
        return self.here < self.end

    def payload_sum(self) -> int:
        """The sum of pseudo header and payload: 0xFFFF where the checksum is right."""
        length = self.end - self.l4
        pseudo = pseudo_header(self.source, self.destination, self.protocol, length)
        return ones_sum(pseudo + self.packet[self.l4 : self.end])


def parse(packet: bytes, wire: int, link: int, profile: Profile) -> Outer:
    """Steps 1 to 7 of decap: the link layer and IP.  Raises :class:`DecapError`."""
    l3, version = _link(packet, link)
    if version == 4:
        return _parse_ipv4(packet, wire, link, l3, profile)
    return _parse_ipv6(packet, wire, link, l3, profile)


def _link(packet: bytes, link: int) -> tuple[int, int]:
    """Where IP begins, and its version by what is before it (or by its nibble)."""
    if link == RAW_IP:
        if not packet:
            raise DecapError(Status.IP_TRUNCATED)
        if packet[0] >> 4 not in (4, 6):
            raise DecapError(Status.IP_VERSION)
        return 0, packet[0] >> 4
    if link != ETHERNET:
        raise DecapError(Status.LINK_TYPE)
    if len(packet) < 14:
        raise DecapError(Status.ETHERNET_TRUNCATED)
    at = 12
    if _word(packet, at) == TYPE_VLAN:
        if len(packet) < 18:
            raise DecapError(Status.ETHERNET_TRUNCATED)
        at += 4
    if _word(packet, at) not in (TYPE_IPV4, TYPE_IPV6):
        raise DecapError(Status.NOT_IP)
    return at + 2, 4 if _word(packet, at) == TYPE_IPV4 else 6


def _parse_ipv4(packet: bytes, wire: int, link: int, l3: int, profile: Profile) -> Outer:
    lenient = profile.base == "lenient"
    if len(packet) - l3 < 20:
        raise DecapError(Status.IP_TRUNCATED)
    if packet[l3] >> 4 != 4:
        raise DecapError(Status.IP_VERSION)
    header = (packet[l3] & 15) * 4
    if header < 20:
        raise DecapError(Status.IP_HEADER_LENGTH)
    if len(packet) - l3 < header:
        raise DecapError(Status.IP_TRUNCATED)

    total = _word(packet, l3 + 2)
    if total == 0 and lenient:  # BIG TCP
        total = wire - l3
    if not header <= total <= wire - l3:
        raise DecapError(Status.IP_LENGTH)

    untaken = _word(packet, l3 + 10) == 0 and lenient  # transmit offload: not made yet
    if not untaken and ones_sum(packet[l3 : l3 + header]) != 0xFFFF:
        raise DecapError(Status.IP_CHECKSUM)
    if _word(packet, l3 + 6) & MF_OR_OFFSET:
        raise DecapError(Status.IP_FRAGMENT)

    return Outer(
        packet, link, 4, l3,
        l4=l3 + header,
        end=l3 + total,
        protocol=packet[l3 + 9],
        tos=packet[l3 + 1],
        source=packet[l3 + 12 : l3 + 16],
        destination=packet[l3 + 16 : l3 + 20],
    )  # fmt: skip


def _parse_ipv6(packet: bytes, wire: int, link: int, l3: int, profile: Profile) -> Outer:
    if len(packet) - l3 < 40:
        raise DecapError(Status.IP_TRUNCATED)
    if packet[l3] >> 4 != 6:
        raise DecapError(Status.IP_VERSION)

    payload = _word(packet, l3 + 4)
    if payload == 0 and profile.base == "lenient":  # BIG TCP
        payload = wire - l3 - 40
    if payload > wire - l3 - 40:
        raise DecapError(Status.IP_LENGTH)

    end = l3 + 40 + payload
    protocol, l4 = extensions(packet, packet[l3 + 6], l3 + 40, min(end, len(packet)))
    return Outer(
        packet, link, 6, l3,
        l4=l4,
        end=end,
        protocol=protocol,
        tos=_word(packet, l3) >> 4 & 0xFF,
        source=packet[l3 + 8 : l3 + 24],
        destination=packet[l3 + 24 : l3 + 40],
    )  # fmt: skip


def extensions(packet: bytes, protocol: int, at: int, here: int) -> tuple[int, int]:
    """What follows the extension headers, and where (RFC 8200 4)."""
    passed = 0
    while protocol in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION):
        if passed == MAX_EXTENSIONS or here - at < 8:
            raise DecapError(Status.IP_EXTENSION)
        if protocol == FRAGMENT:
            size = 8
            if _word(packet, at + 2) & 0xFFF9:  # offset, M
                raise DecapError(Status.IP_FRAGMENT)
        else:
            size = (packet[at + 1] + 1) * 8
        if here - at < size:
            raise DecapError(Status.IP_EXTENSION)
        protocol, at, passed = packet[at], at + size, passed + 1
    return protocol, at


def datagram(payload: bytes, wire: int, ip: bytes) -> Outer:
    """The payload of a UDP datagram that a socket received; ``ip`` is its IP header."""
    family, tos = ip[0] >> 4, ip[1]
    if family != 4:
        tos = _word(ip, 0) >> 4 & 0xFF
    return Outer(payload, 3, family, 0, 0, wire, UDP, tos, source=b"", destination=b"")


def parse_udp(outer: Outer, ports: Collection[int], profile: Profile) -> tuple[Outer, int]:
    """Steps 9 and 10: UDP, to one of these destination ports, and to which.

    ``end`` becomes the datagram's.  Raises :class:`DecapError`.
    """
    packet, l4 = outer.packet, outer.l4
    if outer.here - l4 < UDP_HEADER:
        raise DecapError(Status.UDP_TRUNCATED)
    port = _word(packet, l4 + 2)
    if port not in ports:
        raise DecapError(Status.UNKNOWN_PROTOCOL)
    length = _word(packet, l4 + 4)
    if length == 0 and profile.base == "lenient":
        length = outer.end - l4
    if not UDP_HEADER <= length <= outer.end - l4:
        raise DecapError(Status.UDP_LENGTH)
    outer = dataclasses.replace(outer, end=l4 + length)

    if _word(packet, l4 + 6) == 0:
        if outer.family == 6 and not _zero_checksum_is_taken(outer, profile):
            raise DecapError(Status.UDP_ZERO_CHECKSUM)
    elif profile.verify_checksums and not outer.is_cut and outer.payload_sum() != 0xFFFF:
        raise DecapError(Status.UDP_CHECKSUM)
    return outer, port


def _zero_checksum_is_taken(outer: Outer, profile: Profile) -> bool:
    """RFC 6936 4: for all, for none, or for known pairs of tunnel end points."""
    if isinstance(profile.zero_checksum6, bool):
        return profile.zero_checksum6
    local, remote = _text(outer.destination), _text(outer.source)
    return (local, remote) in profile.zero_checksum6


# ---- describe ----------------------------------------------------------------


def describe(outer: Outer) -> dict[str, Any]:
    """The fields that every tunnel has, as they are on the wire."""
    packet, l3 = outer.packet, outer.l3
    fields: dict[str, Any] = {
        "local": _text(outer.source),
        "remote": _text(outer.destination),
        "dscp": outer.tos >> 2,
    }
    if outer.link == RAW_IP:
        fields["remote_mac"] = "00:00:00:00:00:00"  # unknown, even where remote is a group
    else:
        fields["remote_mac"] = packet[0:6].hex(":")
        fields["local_mac"] = packet[6:12].hex(":")
        if _word(packet, 12) == TYPE_VLAN:
            tci = _word(packet, 14)
            fields["outer_pcp"] = tci >> 13
            fields["outer_dei"] = tci >> 12 & 1 == 1
            fields["outer_vlan"] = tci & 0x0FFF
    if outer.family == 4:
        ip_id, df = _word(packet, l3 + 4), _word(packet, l3 + 6) & DF != 0
        fields["ttl"] = packet[l3 + 8]
        fields["df"] = df
        fields["ip_id"] = None if df and ip_id == 0 else ip_id
    else:
        fields["ttl"] = packet[l3 + 7]
        fields["flow_label"] = struct.unpack_from("!I", packet, l3)[0] & 0xFFFFF
    return fields


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))


def _word(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("!H", data, at)[0]
    return value
