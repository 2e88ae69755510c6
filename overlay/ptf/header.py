"""Header: the headers that a tunnel's packet is made of, with scapy's names and defaults.

Lives here: fields, lengths, checksums, what follows what.  Must not: whole packets.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from overlay import checksum, flow_hash
from overlay.tunnel import ENTROPY_PORTS

from .packet import Field, Packet, bind

__all__ = [
    "ARP", "GENEVE", "GRE", "ICMP", "IP", "NVGRE", "STT", "TCP", "UDP", "VXLAN", "Dot1Q", "Ether",
    "ICMPv6Unknown", "IPv6",
]  # fmt: skip


class Ether(Packet):
    """Ethernet; ``type`` is that of what follows, 0x9000 for bytes."""

    name = "Ethernet"
    fields_desc = (
        Field("dst", 48, "ff:ff:ff:ff:ff:ff", "mac"),
        Field("src", 48, "00:00:00:00:00:00", "mac"),
        Field("type", 16, 0x9000),
    )


class Dot1Q(Packet):
    """An 802.1Q tag; ``id`` is the drop-eligible bit, as in PTF."""

    name = "802.1Q"
    fields_desc = (
        Field("prio", 3), Field("id", 1), Field("vlan", 12, 1), Field("type", 16, 0x9000),
    )  # fmt: skip


class ARP(Packet):
    """ARP of Ethernet and IPv4."""

    name = "ARP"
    fields_desc = (
        Field("hwtype", 16, 1),
        Field("ptype", 16, 0x0800),
        Field("hwlen", 8, 6),
        Field("plen", 8, 4),
        Field("op", 16, 1),
        Field("hwsrc", 48, "00:00:00:00:00:00", "mac"),
        Field("psrc", 32, "0.0.0.0", "ip"),
        Field("hwdst", 48, "00:00:00:00:00:00", "mac"),
        Field("pdst", 32, "0.0.0.0", "ip"),
    )


class IP(Packet):
    """IPv4; ``ihl``, ``len``, ``proto`` and ``chksum`` follow from the packet."""

    name = "IP"
    fields_desc = (
        Field("version", 4, 4),
        Field("ihl", 4, None),
        Field("tos", 8),
        Field("len", 16, None),
        Field("id", 16, 1),
        Field("flags", 3, 0, "MDE"),
        Field("frag", 13),
        Field("ttl", 8, 64),
        Field("proto", 8, 0),
        Field("chksum", 16, None),
        Field("src", 32, "127.0.0.1", "ip"),
        Field("dst", 32, "127.0.0.1", "ip"),
    )

    def header_size(self, fixed: int) -> int:
        """By IHL."""
        return max(fixed, 4 * int(self.ihl))

    def derive(self, name: str) -> Any:
        """Five words, and the options."""
        return 5 + len(self.tail) // 4 if name == "ihl" else None

    def finish(self, header: bytearray, payload: bytes, _: Packet | None, /) -> None:
        """The length and the header's checksum."""
        if not self.given("len"):
            header[2:4] = struct.pack("!H", len(header) + len(payload))
        if not self.given("chksum"):
            header[10:12] = struct.pack("!H", checksum(bytes(header)))


class IPv6(Packet):
    """IPv6 without extension headers."""

    name = "IPv6"
    fields_desc = (
        Field("version", 4, 6),
        Field("tc", 8),
        Field("fl", 20),
        Field("plen", 16, None),
        Field("nh", 8, 59),
        Field("hlim", 8, 64),
        Field("src", 128, "::1", "ip"),
        Field("dst", 128, "::1", "ip"),
    )

    def finish(self, header: bytearray, payload: bytes, _: Packet | None, /) -> None:
        """The payload's length."""
        if not self.given("plen"):
            header[4:6] = struct.pack("!H", len(payload))


def _l4_checksum(
    header: bytearray, payload: bytes, below: Packet | None, protocol: int, at: int
) -> None:
    """The checksum over the pseudo header of what lies below, or nothing without such."""
    if not isinstance(below, (IP, IPv6)):
        return
    ends = [ipaddress.ip_address(below.src).packed, ipaddress.ip_address(below.dst).packed]
    size = len(header) + len(payload)
    covered = b"".join(ends) + struct.pack("!II", size, protocol) + bytes(header) + payload
    total = checksum(covered)
    if protocol == 17 and total == 0:
        total = 0xFFFF
    header[at : at + 2] = struct.pack("!H", total)


def _entropy(inner: Packet | None) -> int | None:
    """The source port that a tunnel of :mod:`overlay` gives to the frame."""
    frame = b"" if inner is None else bytes(inner)
    if isinstance(inner, (IP, IPv6)):
        frame = bytes(12) + (b"\x08\0" if isinstance(inner, IP) else b"\x86\xdd") + frame
    if len(frame) < 14:
        return None
    low, high = ENTROPY_PORTS
    return low + ((flow_hash(frame) & 0xFFFFFFFF) * (high - low + 1) >> 32)


class UDP(Packet):
    """UDP; below a tunnel the ports are the tunnel's, else 53."""

    name = "UDP"
    fields_desc = (
        Field("sport", 16, 53),
        Field("dport", 16, 53),
        Field("len", 16, None),
        Field("chksum", 16, None),
    )

    def derive(self, name: str) -> Any:
        """The source port of a tunnel's packet, from its frame; the port of VXLAN-GPE."""
        if name == "sport" and isinstance(self.payload, (VXLAN, GENEVE)):
            return _entropy(self.payload.payload)
        gpe = isinstance(self.payload, VXLAN) and self.payload.flags & 0x04
        return 4790 if name == "dport" and gpe else None

    def finish(self, header: bytearray, payload: bytes, below: Packet | None, /) -> None:
        """The length and the checksum; 0 given for the latter is none."""
        if not self.given("len"):
            header[4:6] = struct.pack("!H", len(header) + len(payload))
        if not self.given("chksum"):
            _l4_checksum(header, payload, below, 17, 6)


class TCP(Packet):
    """TCP; below STT its fields are what STT makes of them."""

    name = "TCP"
    fields_desc = (
        Field("sport", 16, 20),
        Field("dport", 16, 80),
        Field("seq", 32),
        Field("ack", 32),
        Field("dataofs", 4, None),
        Field("reserved", 3),
        Field("flags", 9, "S", "FSRPAUECN"),
        Field("window", 16, 8192),
        Field("chksum", 16, None),
        Field("urgptr", 16),
    )

    def header_size(self, fixed: int) -> int:
        """By the data offset."""
        return max(fixed, 4 * int(self.dataofs))

    def derive(self, name: str) -> Any:
        """The size of the header; the length of an STT frame and its source port."""
        if name == "dataofs":
            return 5 + len(self.tail) // 4
        if not isinstance(self.payload, STT):
            return None
        if name == "sport":
            return _entropy(self.payload.payload)
        return {"seq": len(self.payload) << 16, "flags": 0x18, "window": 0}.get(name)

    def finish(self, header: bytearray, payload: bytes, below: Packet | None, /) -> None:
        """The checksum."""
        if not self.given("chksum"):
            _l4_checksum(header, payload, below, 6, 16)


class ICMP(Packet):
    """ICMP, with the identifier and number of an echo."""

    name = "ICMP"
    fields_desc = (
        Field("type", 8, 8), Field("code", 8), Field("chksum", 16, None), Field("id", 16),
        Field("seq", 16),
    )  # fmt: skip

    def finish(self, header: bytearray, payload: bytes, _: Packet | None, /) -> None:
        """The checksum."""
        if not self.given("chksum"):
            header[2:4] = struct.pack("!H", checksum(bytes(header) + payload))


class ICMPv6Unknown(Packet):
    """ICMPv6 of any type; its body is what follows."""

    name = "ICMPv6"
    fields_desc = (Field("type", 8, 1), Field("code", 8), Field("cksum", 16, None))

    def finish(self, header: bytearray, payload: bytes, below: Packet | None, /) -> None:
        """The checksum."""
        if not self.given("cksum"):
            _l4_checksum(header, payload, below, 58, 2)


class VXLAN(Packet):
    """VXLAN (RFC 7348), and by its flags the group policy (0x80) or VXLAN-GPE (0x04)."""

    name = "VXLAN"
    fields_desc = (
        Field("flags", 8, 0x08),
        Field("reserved0", 16, when=lambda p: bool(p.flags & 0x04)),
        Field("NextProtocol", 8, 3, when=lambda p: bool(p.flags & 0x04)),
        Field("gpflags", 8, when=lambda p: p.flags & 0x84 == 0x80),
        Field("gpid", 16, when=lambda p: p.flags & 0x84 == 0x80),
        Field("reserved1", 24, when=lambda p: not p.flags & 0x84),
        Field("vni", 24),
        Field("reserved2", 8),
    )


class GENEVE(Packet):
    """GENEVE (RFC 8926); ``options`` are bytes."""

    name = "GENEVE"
    fields_desc = (
        Field("version", 2),
        Field("optionlen", 6, None),
        Field("oam", 1),
        Field("critical", 1, None),
        Field("reserved", 6),
        Field("proto", 16, 0x6558),
        Field("vni", 24),
        Field("reserved2", 8),
    )

    def header_size(self, fixed: int) -> int:
        """By the options' length."""
        return fixed + 4 * int(self.optionlen)

    def derive(self, name: str) -> Any:
        """The options' length, and whether one is critical."""
        if name == "optionlen":
            return len(self.tail) // 4
        return int(self._critical()) if name == "critical" else None

    def _critical(self) -> bool:
        at = 0
        while at + 4 <= len(self.tail):
            if self.tail[at + 2] & 0x80:
                return True
            at += 4 + 4 * (self.tail[at + 3] & 0x1F)
        return False


class GRE(Packet):
    """GRE (RFC 2784, RFC 2890); a key or a number that is given sets its bit."""

    name = "GRE"
    fields_desc = (
        Field("chksum_present", 1),
        Field("routing_present", 1),
        Field("key_present", 1),
        Field("seqnum_present", 1),
        Field("strict_route_source", 1),
        Field("recursion_control", 3),
        Field("flags", 5),
        Field("version", 3),
        Field("proto", 16, 0),
        Field("chksum", 16, None, when=lambda p: bool(p.chksum_present)),
        Field("offset", 16, when=lambda p: bool(p.chksum_present)),
        Field("key", 32, when=lambda p: bool(p.key_present)),
        Field("sequence_number", 32, when=lambda p: bool(p.seqnum_present)),
    )

    def derive(self, name: str) -> Any:
        """The bits of what was given."""
        of = {"key_present": "key", "seqnum_present": "sequence_number"}.get(name)
        return int(self.given(of)) if of else None

    def finish(self, header: bytearray, payload: bytes, _: Packet | None, /) -> None:
        """The checksum, over header and payload."""
        if self.chksum_present and not self.given("chksum"):
            header[4:6] = struct.pack("!H", checksum(bytes(header) + payload))


class NVGRE(Packet):
    """NVGRE (RFC 7637); ``flowid`` is from the flow hash unless given."""

    name = "NVGRE"
    fields_desc = (
        Field("chksum_present", 1),
        Field("routing_present", 1),
        Field("key_present", 1, 1),
        Field("seqnum_present", 1),
        Field("reserved", 9),
        Field("version", 3),
        Field("proto", 16, 0x6558),
        Field("vsid", 24),
        Field("flowid", 8, None),
    )

    @classmethod
    def begins(cls, data: bytes, _: Packet, /) -> bool:
        """GRE of version 0 around Ethernet, with a key and nothing else."""
        return len(data) >= 8 and data[0] & 0xF0 == 0x20 and data[1] & 7 == 0 and data[2:4] == b"eX"

    def derive(self, name: str) -> Any:
        """The FlowID of the frame."""
        frame = b"" if self.payload is None or name != "flowid" else bytes(self.payload)
        return flow_hash(frame) >> 56 if len(frame) >= 14 else None


class STT(Packet):
    """STT (draft-davie-stt-08), in the first segment of a frame, above ``TCP``."""

    name = "STT"
    fields_desc = (
        Field("version", 8),
        Field("flags", 8),
        Field("l4_offset", 8),
        Field("reserved", 8),
        Field("mss", 16),
        Field("tci", 16),
        Field("context_id", 64),
        Field("padding", 16),
    )

    @classmethod
    def begins(cls, _: bytes, below: Packet, /) -> bool:
        """Only the segment whose offset is 0 has the header."""
        return not below.seq & 0xFFFF


for _link in (Ether, Dot1Q):
    bind(_link, IP, type=0x0800)
    bind(_link, IPv6, type=0x86DD)
    bind(_link, ARP, type=0x0806)
    bind(_link, Dot1Q, type=0x8100)
for _ip, _field in ((IP, "proto"), (IPv6, "nh")):
    for _upper, _number in ((TCP, 6), (UDP, 17), (NVGRE, 47), (GRE, 47)):
        bind(_ip, _upper, **{_field: _number})
bind(IP, ICMP, proto=1)
bind(IPv6, ICMPv6Unknown, nh=58)
bind(UDP, VXLAN, dport=4789)
bind(UDP, VXLAN, dport=4790)
bind(UDP, GENEVE, dport=6081)
bind(TCP, STT, dport=7471)
bind(VXLAN, IP, flags=0x0C, NextProtocol=1)
bind(VXLAN, IPv6, flags=0x0C, NextProtocol=2)
bind(VXLAN, Ether)
for _tunnel in (GENEVE, GRE):
    bind(_tunnel, Ether, proto=0x6558)
    bind(_tunnel, IP, proto=0x0800)
    bind(_tunnel, IPv6, proto=0x86DD)
bind(NVGRE, Ether)
bind(STT, Ether)
