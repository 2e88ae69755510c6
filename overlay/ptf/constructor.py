"""Constructor: PTF's ``simple_..._packet``, made without scapy.

Lives here: their arguments, by PTF's names and with its defaults.  Must not: bytes of a
header; those are the headers' own.
"""

from __future__ import annotations

from typing import Any

from .header import (
    ARP,
    GENEVE,
    GRE,
    ICMP,
    IP,
    NVGRE,
    STT,
    TCP,
    UDP,
    VXLAN,
    Dot1Q,
    Ether,
    ICMPv6Unknown,
    IPv6,
)
from .packet import Packet, Raw

__all__ = [
    "simple_arp_packet", "simple_eth_packet", "simple_geneve_packet", "simple_gre_packet",
    "simple_icmp_packet", "simple_icmpv6_packet", "simple_nvgre_packet", "simple_stt_packet",
    "simple_tcp_packet", "simple_tcpv6_packet", "simple_udp_packet", "simple_udpv6_packet",
    "simple_vxlan_packet",
]  # fmt: skip

_DST, _SRC = "00:01:02:03:04:05", "00:06:07:08:09:0a"
_DST6, _SRC6 = "2001:db8:85a3::8a2e:370:7335", "2001:db8:85a3::8a2e:370:7334"


def _link(
    eth_dst: str = _DST, eth_src: str = _SRC, dl_vlan_enable: bool = False, vlan_vid: int = 0,
    vlan_pcp: int = 0, dl_vlan_cfi: int = 0,
) -> Packet:  # fmt: skip
    packet: Packet = Ether(dst=eth_dst, src=eth_src)
    if dl_vlan_enable or vlan_vid or vlan_pcp or dl_vlan_cfi:
        packet /= Dot1Q(prio=vlan_pcp, id=dl_vlan_cfi, vlan=vlan_vid)
    return packet


def _tos(tos: int, ecn: int | None, dscp: int | None) -> int:
    tos = tos if ecn is None else tos & ~3 | ecn
    return tos if dscp is None else tos & 3 | dscp << 2


def _ipv4(
    *, ip_src: str = "192.168.0.1", ip_dst: str = "192.168.0.2", ip_tos: int = 0,
    ip_ecn: int | None = None, ip_dscp: int | None = None, ip_ttl: int = 64, ip_id: int = 1,
    ip_flags: int = 0, ip_frag: int = 0, ip_ihl: int | None = None, ip_options: Any = None,
    **link: Any,
) -> Packet:  # fmt: skip
    """Ethernet, a tag if there is one, and IPv4; the keywords of all constructors over IPv4."""
    return _link(**link) / IP(
        src=ip_src, dst=ip_dst, tos=_tos(ip_tos, ip_ecn, ip_dscp), ttl=ip_ttl, id=ip_id,
        flags=ip_flags, frag=ip_frag, ihl=ip_ihl, options=ip_options,
    )  # fmt: skip


def _ipv6(
    *, ipv6_src: str = _SRC6, ipv6_dst: str = _DST6, ipv6_tc: int = 0, ipv6_ecn: int | None = None,
    ipv6_dscp: int | None = None, ipv6_hlim: int = 64, ipv6_fl: int = 0, **link: Any,
) -> Packet:  # fmt: skip
    return _link(**link) / IPv6(
        src=ipv6_src, dst=ipv6_dst, tc=_tos(ipv6_tc, ipv6_ecn, ipv6_dscp), hlim=ipv6_hlim,
        fl=ipv6_fl,
    )  # fmt: skip


def _filled(packet: Packet, pktlen: int, byte: bytes = b"") -> Packet:
    """Up to a length with this byte, or counting bytes; as it is if it is that long already."""
    size = max(0, pktlen - len(packet))
    rest = byte * size or bytes(n % 256 for n in range(size))
    return packet / Raw(load=rest) if rest else packet


def _around(packet: Packet, inner_frame: Any, pktlen: int) -> Packet:
    """A tunnel around a frame, or around a TCP frame that makes it ``pktlen`` long."""
    if inner_frame is None:
        return packet / simple_tcp_packet(pktlen - len(packet))
    if isinstance(inner_frame, Packet):
        return packet / inner_frame
    return packet / Ether(bytes(inner_frame))


def _udp(sport: int | None, dport: int, checksum: bool) -> UDP:
    return UDP(sport=sport, dport=dport, **({} if checksum else {"chksum": 0}))


def simple_eth_packet(
    pktlen: int = 60, eth_dst: str = _DST, eth_src: str = _SRC, eth_type: int = 0x88CC
) -> Packet:
    """An Ethernet frame of this type, full of the character 0."""
    packet = Ether(dst=eth_dst, src=eth_src, type=eth_type)
    return _filled(packet, pktlen, b"0")


def simple_arp_packet(
    pktlen: int = 60, *, eth_dst: str = "ff:ff:ff:ff:ff:ff", arp_op: int = 1,
    ip_snd: str = "192.168.0.1", ip_tgt: str = "192.168.0.2", hw_snd: str = _SRC,
    hw_tgt: str = "00:00:00:00:00:00", **link: Any,
) -> Packet:  # fmt: skip
    """An ARP request, or with ``arp_op`` 2 a reply, filled up with zeros."""
    arp = ARP(op=arp_op, hwsrc=hw_snd, psrc=ip_snd, hwdst=hw_tgt, pdst=ip_tgt)
    packet = _link(eth_dst=eth_dst, **link) / arp
    return _filled(packet, pktlen, b"\0")


def simple_tcp_packet(
    pktlen: int = 100, *, tcp_sport: int = 1234, tcp_dport: int = 80, tcp_flags: str | int = "S",
    with_tcp_chksum: bool = True, **outer: Any,
) -> Packet:  # fmt: skip
    """Ethernet, IPv4 and TCP, ``pktlen`` bytes long."""
    tcp = TCP(sport=tcp_sport, dport=tcp_dport, flags=tcp_flags)
    if not with_tcp_chksum:
        tcp.chksum = 0
    return _filled(_ipv4(**outer) / tcp, pktlen)


def simple_tcpv6_packet(
    pktlen: int = 100, *, tcp_sport: int = 1234, tcp_dport: int = 80, tcp_flags: str | int = "S",
    **outer: Any,
) -> Packet:  # fmt: skip
    """Ethernet, IPv6 and TCP, ``pktlen`` bytes long."""
    tcp = TCP(sport=tcp_sport, dport=tcp_dport, flags=tcp_flags)
    return _filled(_ipv6(**outer) / tcp, pktlen, b"D")


def simple_udp_packet(
    pktlen: int = 100, *, udp_sport: int = 1234, udp_dport: int = 80, with_udp_chksum: bool = True,
    udp_payload: Any = None, ip_flag: int = 0, **outer: Any,
) -> Packet:  # fmt: skip
    """Ethernet, IPv4 and UDP, ``pktlen`` bytes long."""
    outer.setdefault("ip_flags", ip_flag)
    packet = _ipv4(**outer) / _udp(udp_sport, udp_dport, with_udp_chksum)
    return _filled(packet / udp_payload if udp_payload else packet, pktlen)


def simple_udpv6_packet(
    pktlen: int = 100, *, udp_sport: int = 1234, udp_dport: int = 80, with_udp_chksum: bool = True,
    udp_payload: Any = None, **outer: Any,
) -> Packet:  # fmt: skip
    """Ethernet, IPv6 and UDP, ``pktlen`` bytes long."""
    packet = _ipv6(**outer) / _udp(udp_sport, udp_dport, with_udp_chksum)
    return _filled(packet / udp_payload if udp_payload else packet, pktlen, b"D")


def simple_icmp_packet(
    pktlen: int = 60, *, icmp_type: int = 8, icmp_code: int = 0, icmp_data: Any = b"", **outer: Any
) -> Packet:
    """Ethernet, IPv4 and ICMP, filled up with the character 0."""
    packet = _ipv4(**outer) / ICMP(type=icmp_type, code=icmp_code) / (icmp_data or b"")
    return _filled(packet, pktlen, b"0")


def simple_icmpv6_packet(
    pktlen: int = 100, *, icmp_type: int = 8, icmp_code: int = 0, **outer: Any
) -> Packet:
    """Ethernet, IPv6 and ICMPv6, filled up with the character D."""
    packet = _ipv6(**outer) / ICMPv6Unknown(type=icmp_type, code=icmp_code)
    return _filled(packet, pktlen, b"D")


def simple_vxlan_packet(
    pktlen: int = 300, *, udp_sport: int | None = 1234, udp_dport: int = 4789,
    with_udp_chksum: bool = True, vxlan_flags: int = 0x08, vxlan_reserved0: int = 0,
    vxlan_reserved1: int = 0, vxlan_vni: int = 0xABA, vxlan_reserved2: int = 0,
    inner_frame: Any = None, **outer: Any,
) -> Packet:  # fmt: skip
    """VXLAN over IPv4 around ``inner_frame``.

    :param udp_sport: None takes it from the flow hash.
    """
    vxlan = VXLAN(
        flags=vxlan_flags, reserved0=vxlan_reserved0, reserved1=vxlan_reserved1, vni=vxlan_vni,
        reserved2=vxlan_reserved2,
    )  # fmt: skip
    packet = _ipv4(**outer) / _udp(udp_sport, udp_dport, with_udp_chksum) / vxlan
    return _around(packet, inner_frame, pktlen)


def simple_geneve_packet(
    pktlen: int = 300, *, udp_sport: int | None = 1234, with_udp_chksum: bool = True,
    geneve_ver: int = 0, geneve_reserved: int = 0, geneve_vni: int = 0x1234,
    geneve_reserved2: int = 0, geneve_proto: int = 0x6558, geneve_options: Any = None,
    inner_frame: Any = None, **outer: Any,
) -> Packet:  # fmt: skip
    """GENEVE over IPv4 around ``inner_frame``.

    :param udp_sport: None takes it from the flow hash.
    :param geneve_options: bytes, or objects with ``bytes()``; not among PTF's.
    """
    geneve = GENEVE(
        version=geneve_ver, reserved=geneve_reserved, vni=geneve_vni, reserved2=geneve_reserved2,
        proto=geneve_proto, options=geneve_options,
    )  # fmt: skip
    packet = _ipv4(**outer) / _udp(udp_sport, 6081, with_udp_chksum) / geneve
    return _around(packet, inner_frame, pktlen)


def simple_nvgre_packet(
    pktlen: int = 300, *, nvgre_version: int = 0, nvgre_tni: int | None = None,
    nvgre_flowid: int | None = 0, inner_frame: Any = None, **outer: Any,
) -> Packet:  # fmt: skip
    """NVGRE over IPv4 around ``inner_frame``.

    :param nvgre_tni: the VSID, 0 for None.
    :param nvgre_flowid: None takes it from the flow hash.
    """
    nvgre = NVGRE(version=nvgre_version, vsid=nvgre_tni, flowid=nvgre_flowid)
    return _around(_ipv4(**outer) / nvgre, inner_frame, pktlen)


def simple_gre_packet(
    pktlen: int = 300, *, gre_chksum_present: int = 0, gre_routing_present: int = 0,
    gre_key_present: int | None = None, gre_seqnum_present: int | None = None,
    gre_strict_route_source: int = 0, gre_flags: int = 0, gre_version: int = 0,
    gre_offset: int | None = None, gre_key: int | None = None,
    gre_sequence_number: int | None = None, inner_frame: Any = None, **outer: Any,
) -> Packet:  # fmt: skip
    """GRE over IPv4 around ``inner_frame``: a frame, or an ``IP`` or ``IPv6`` packet of ours."""
    gre = GRE(
        chksum_present=gre_chksum_present, routing_present=gre_routing_present,
        key_present=gre_key_present, seqnum_present=gre_seqnum_present,
        strict_route_source=gre_strict_route_source, flags=gre_flags, version=gre_version,
        offset=gre_offset, key=gre_key, sequence_number=gre_sequence_number,
    )  # fmt: skip
    return _around(_ipv4(**outer) / gre, inner_frame, pktlen)


def simple_stt_packet(
    pktlen: int = 300, *, tcp_sport: int | None = None, stt_context_id: int = 0x1234,
    stt_frame_id: int = 1, stt_flags: int = 0, stt_l4_offset: int = 0, stt_mss: int = 0,
    stt_tci: int = 0, stt_version: int = 0, inner_frame: Any = None, **outer: Any,
) -> Packet:  # fmt: skip
    """STT over IPv4 around ``inner_frame``, in one segment; PTF has none.

    :param tcp_sport: None takes it from the flow hash.
    """
    stt = STT(
        version=stt_version, flags=stt_flags, l4_offset=stt_l4_offset, mss=stt_mss, tci=stt_tci,
        context_id=stt_context_id,
    )  # fmt: skip
    packet = _ipv4(**outer) / TCP(sport=tcp_sport, dport=7471, ack=stt_frame_id) / stt
    return _around(packet, inner_frame, pktlen)
