"""Reading a packet for the rewriter: where its outer fields lie; checksums are not judged.

Knows every protocol's fields; changes nothing.
"""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass, field

from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import NO_KEY

from . import erspan, gre, stt
from .delivery import Carried
from .outer import (
    DF,
    GRE,
    MF_OR_OFFSET,
    TCP,
    TYPE_IPV4,
    TYPE_IPV6,
    TYPE_VLAN,
    UDP,
    UDP_HEADER,
    Outer,
    extensions,
)
from .tunnel import OVER_GRE, OVER_UDP, ports_of

__all__ = ["FOREIGN", "Look", "look"]

#: Statuses of packets in no tunnel: none of the rules' business.
FOREIGN = {
    Status.LINK_TYPE, Status.ETHERNET_TRUNCATED, Status.NOT_IP, Status.UNKNOWN_PROTOCOL,
    Status.GRE_PROTOCOL,
}  # fmt: skip


@dataclass
class Look:
    """What was read of a packet: all of it, or up to the reason in ``status``.

    ``tci`` is that of the outer tag, or -1; ``key`` and ``protocol`` are None where
    they were not reached or (``key``) are not here.  ``key_at``, ``key_size`` and
    ``key_mask`` say where the key lies, ``sum_at`` where the checksum of UDP, TCP or
    GRE; 0: nowhere.
    """

    packet: bytes
    wire: int
    has_link: bool = False
    tci: int = -1
    l3: int = 0
    version: int = 0
    has_ip: bool = False
    ip_protocol: int = 0
    tos: int = 0
    ttl: int = 0
    df: bool = True
    source: bytes = b""
    destination: bytes = b""
    l4: int = 0
    here: int = 0
    end: int = 0
    protocol: str | None = None
    key: int | None = None
    key_at: int = 0
    key_size: int = 0
    key_mask: int = 0
    sum_at: int = 0
    carried: Carried | None = None
    ports: bool = False
    partial: bool = False
    first: bool = False
    frame_id: int = 0
    status: Status = field(default=Status.OK)

    def refuse(self, status: Status) -> None:
        """Read no further."""
        raise DecapError(status)

    def found(self, carried: Carried, key_at: int, size: int, mask: int = 0) -> None:
        """The tunnel's header is in order; its key has ``size`` bytes, 0 where there is none."""
        self.protocol, self.key = carried.protocol, carried.key
        if size:
            self.key_at, self.key_size = key_at, size
            self.key_mask = mask or (1 << 8 * size) - 1
        self.carried = carried


def look(packet: bytes, wire: int, link: int, profile: Profile) -> Look:
    """Read a packet of which ``wire`` bytes were on the wire."""
    seen = Look(packet, wire)
    try:
        _link(seen, link)
        (_ipv4 if seen.version == 4 else _ipv6)(seen)
        read = {UDP: _udp, GRE: _gre, TCP: _tcp}.get(seen.ip_protocol)
        if read is None:
            seen.refuse(Status.UNKNOWN_PROTOCOL)
        else:
            read(seen, profile)
    except DecapError as error:
        seen.status = error.status
    return seen


def _link(seen: Look, link: int) -> None:
    packet = seen.packet
    if link == 1:
        if not packet:
            seen.refuse(Status.IP_TRUNCATED)
        seen.version = packet[0] >> 4
        if seen.version not in (4, 6):
            seen.refuse(Status.IP_VERSION)
        return
    if link != 0:
        seen.refuse(Status.LINK_TYPE)
    if len(packet) < 14:
        seen.refuse(Status.ETHERNET_TRUNCATED)
    ethertype, seen.l3 = _word(packet, 12), 14
    if ethertype == TYPE_VLAN:
        if len(packet) < 18:
            seen.refuse(Status.ETHERNET_TRUNCATED)
        seen.tci, ethertype, seen.l3 = _word(packet, 14), _word(packet, 16), 18
    seen.has_link = True
    seen.version = {TYPE_IPV4: 4, TYPE_IPV6: 6}.get(ethertype, 0)
    if not seen.version:
        seen.refuse(Status.NOT_IP)


def _ipv4(seen: Look) -> None:
    packet, l3 = seen.packet, seen.l3
    if len(packet) - l3 < 20:
        seen.refuse(Status.IP_TRUNCATED)
    if packet[l3] >> 4 != 4:
        seen.refuse(Status.IP_VERSION)
    header = (packet[l3] & 15) * 4
    if header < 20:
        seen.refuse(Status.IP_HEADER_LENGTH)
    if len(packet) - l3 < header:
        seen.refuse(Status.IP_TRUNCATED)
    seen.has_ip = True
    seen.ip_protocol, seen.tos, seen.ttl = packet[l3 + 9], packet[l3 + 1], packet[l3 + 8]
    seen.df = _word(packet, l3 + 6) & DF != 0
    seen.source, seen.destination = packet[l3 + 12 : l3 + 16], packet[l3 + 16 : l3 + 20]
    total = _word(packet, l3 + 2) or seen.wire - l3  # 0: left to the sender's NIC
    if not header <= total <= seen.wire - l3:
        seen.refuse(Status.IP_LENGTH)
    seen.l4, seen.end = l3 + header, l3 + total
    seen.here = min(seen.end, len(packet))
    if _word(packet, l3 + 6) & MF_OR_OFFSET:
        seen.refuse(Status.IP_FRAGMENT)


def _ipv6(seen: Look) -> None:
    packet, l3 = seen.packet, seen.l3
    if len(packet) - l3 < 40:
        seen.refuse(Status.IP_TRUNCATED)
    if packet[l3] >> 4 != 6:
        seen.refuse(Status.IP_VERSION)
    seen.has_ip = True
    seen.tos, seen.ttl = _word(packet, l3) >> 4 & 0xFF, packet[l3 + 7]
    seen.source, seen.destination = packet[l3 + 8 : l3 + 24], packet[l3 + 24 : l3 + 40]
    payload = _word(packet, l3 + 4) or seen.wire - l3 - 40
    if payload > seen.wire - l3 - 40:
        seen.refuse(Status.IP_LENGTH)
    seen.end = l3 + 40 + payload
    seen.here = min(seen.end, len(packet))
    seen.ip_protocol, seen.l4 = extensions(packet, packet[l3 + 6], l3 + 40, seen.here)


def _udp(seen: Look, profile: Profile) -> None:
    packet, l4, ports = seen.packet, seen.l4, ports_of(profile)
    if not ports:
        seen.refuse(Status.UNKNOWN_PROTOCOL)
    if seen.here - l4 < UDP_HEADER:
        seen.refuse(Status.UDP_TRUNCATED)
    protocol = ports.get(_word(packet, l4 + 2))
    if protocol is None:
        raise DecapError(Status.UNKNOWN_PROTOCOL)
    seen.protocol = protocol
    length = _word(packet, l4 + 4) or seen.end - l4
    if not UDP_HEADER <= length <= seen.end - l4:
        seen.refuse(Status.UDP_LENGTH)
    seen.end = l4 + length
    seen.here = min(seen.here, seen.end)
    seen.ports = True
    seen.sum_at = l4 + 6 if _word(packet, l4 + 6) else 0
    header = l4 + UDP_HEADER
    seen.found(OVER_UDP[protocol](_outer(seen), header, profile), header + 4, 3)


def _gre(seen: Look, profile: Profile) -> None:
    if not any(name in profile.protocols for name in OVER_GRE):
        seen.refuse(Status.UNKNOWN_PROTOCOL)
    # As of a packet that is not all here, whose checksum cannot be judged.
    cut = dataclasses.replace(_outer(seen), end=seen.end + 1)
    carried = OVER_GRE[gre.owner(cut, profile)](cut, profile)
    flags = _word(seen.packet, seen.l4)
    key_at = seen.l4 + (8 if flags & gre.FLAG_C else 4)
    if carried.protocol == "erspan":
        at = key_at + (4 if flags & gre.FLAG_S else 0) + 2
        seen.found(carried, at, 0 if carried.key == NO_KEY else 2, erspan.SESSION)
    elif carried.protocol == "gre":
        seen.found(carried, key_at, 4 if flags & gre.FLAG_K else 0)
    else:
        seen.found(carried, key_at, 3)
    seen.sum_at = seen.l4 + 4 if flags & gre.FLAG_C else 0


def _tcp(seen: Look, profile: Profile) -> None:
    packet, l4 = seen.packet, seen.l4
    if seen.here - l4 < 20:
        seen.refuse(Status.TCP_TRUNCATED)
    if "stt" not in profile.protocols or _word(packet, l4 + 2) != stt.PORT:
        seen.refuse(Status.UNKNOWN_PROTOCOL)
    seen.protocol = "stt"
    segment = stt.parse_segment(_outer(seen), _trusting(profile))
    seen.ports = True
    seen.sum_at = l4 + 16
    seen.frame_id = segment.frame_id
    seen.first = segment.start == 0
    seen.partial = not segment.is_whole
    if not seen.first:
        return
    if seen.here - segment.at < stt.FRAME_HEADER:
        seen.refuse(Status.HEADER_TRUNCATED)
    if packet[segment.at]:
        seen.refuse(Status.STT_VERSION)
    key = int.from_bytes(packet[segment.at + 8 : segment.at + 16], "big")
    header = segment.at + stt.FRAME_HEADER
    seen.found(Carried.of(_outer(seen), "stt", key, header), segment.at + 8, 8)


def _trusting(profile: Profile) -> Profile:
    """The profile, without a look at checksums."""
    return Profile.of(profile.base, verify_checksums=False)


def _outer(seen: Look) -> Outer:
    return Outer(
        seen.packet, 0, seen.version, seen.l3, seen.l4, seen.end, seen.ip_protocol, seen.tos,
        seen.source, seen.destination,
    )  # fmt: skip


def _word(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("!H", data, at)[0]
    return value
