"""PTF: its packets without scapy: constructors with its names, and a packet module for it.

``simple_vxlan_packet(...)`` and its siblings make packets by themselves.  PTF's own ones
are made of these headers where ``PTF_PACKET_MANIPULATION_MODULE`` is ``overlay.ptf``; the names
that are None are headers that are not here.  Must not: scapy, or PTF itself.
"""

from __future__ import annotations

from .constructor import (
    simple_arp_packet,
    simple_eth_packet,
    simple_geneve_packet,
    simple_gre_packet,
    simple_icmp_packet,
    simple_icmpv6_packet,
    simple_nvgre_packet,
    simple_stt_packet,
    simple_tcp_packet,
    simple_tcpv6_packet,
    simple_udp_packet,
    simple_udpv6_packet,
    simple_vxlan_packet,
)
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
from .packet import Packet, Raw, hexdump, ls

#: An IP option is its bytes.
IPOption = bytes
#: Bytes behind a packet are bytes.
PADDING = Raw
# Headers of PTF's that are not here; what needs them says so.
BOOTP = BTH = DHCP = ERSPAN = ERSPAN_III = ICMPv6EchoRequest = ICMPv6MLReport = None
IGMP = IPv6ExtHdrRouting = LLC = MPLS = PlatformSpecific = SNAP = None

__all__ = [
    "ARP", "BOOTP", "BTH", "DHCP", "ERSPAN", "ERSPAN_III", "GENEVE", "GRE", "ICMP", "IGMP", "IP",
    "LLC", "MPLS", "NVGRE", "PADDING", "SNAP", "STT", "TCP", "UDP", "VXLAN", "Dot1Q", "Ether",
    "ICMPv6EchoRequest", "ICMPv6MLReport", "ICMPv6Unknown", "IPOption", "IPv6",
    "IPv6ExtHdrRouting", "Packet", "PlatformSpecific", "Raw", "hexdump", "ls", "simple_arp_packet",
    "simple_eth_packet", "simple_geneve_packet", "simple_gre_packet", "simple_icmp_packet",
    "simple_icmpv6_packet", "simple_nvgre_packet", "simple_stt_packet", "simple_tcp_packet",
    "simple_tcpv6_packet", "simple_udp_packet", "simple_udpv6_packet", "simple_vxlan_packet",
]  # fmt: skip
