"""Inner frames by name: one of each kind that tunnels treat differently."""

from __future__ import annotations

import struct

from wire import ICMP, SCTP, TCP, UDP, ethernet, ip, ipv4, ipv6, pattern, tag, tcp, udp

MACS = {"dst": "52:54:00:aa:00:02", "src": "52:54:00:aa:00:01"}
A = {4: "10.1.0.1", 6: "fd00:1::1"}
B = {4: "10.1.0.2", 6: "fd00:1::2"}
ETHERTYPE = {4: 0x0800, 6: 0x86DD}


def tcp_frame(
    payload: bytes, version: int = 4, *, sport: int = 40000, dport: int = 443, tos: int = 0,
    flags: int = 0x18, seq: int = 1000, options: bytes = b"", ident: int = 0x115C,
    src: str | None = None, dst: str | None = None,
) -> bytes:  # fmt: skip
    a, b = src or A[version], dst or B[version]
    body = tcp(payload, sport, dport, a, b, seq=seq, ack=77, flags=flags, window=512,
               options=options)  # fmt: skip
    fields = {"ident": ident} if version == 4 else {}
    return ethernet(ip(body, TCP, a, b, tos=tos, **fields), ETHERTYPE[version], **MACS)


def udp_frame(
    payload: bytes, version: int = 4, *, sport: int = 5000, dport: int = 6000, tos: int = 0,
    check: int | None = None, src: str | None = None, dst: str | None = None,
) -> bytes:  # fmt: skip
    a, b = src or A[version], dst or B[version]
    body = udp(payload, sport, dport, a, b, check=check)
    return ethernet(ip(body, UDP, a, b, tos=tos), ETHERTYPE[version], **MACS)


def arp_frame() -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes.fromhex(
        "525400aa00010a0100010000000000000a010002"
    )
    return ethernet(body, 0x0806, dst="ff:ff:ff:ff:ff:ff", src=MACS["src"])


def icmp_frame(tos: int = 0) -> bytes:
    return ethernet(ipv4(b"\x08\x00" + pattern(22), ICMP, A[4], B[4], tos=tos), 0x0800, **MACS)


def fragment_frame(flags: int, version: int = 4, payload: bytes = pattern(64)) -> bytes:
    """A piece of an inner UDP datagram; `flags` is the offset in 8 bytes and MF (0x2000)."""
    if version == 4:
        return ethernet(ipv4(payload, UDP, A[4], B[4], flags=flags), 0x0800, **MACS)
    word = (flags & 0x1FFF) << 3 | flags >> 13 & 1
    extension = struct.pack("!BHI", 0, word, 99)
    packet = ipv6(payload, UDP, A[6], B[6], extensions=[(44, extension)])
    return ethernet(packet, 0x86DD, **MACS)


ARP = arp_frame()
ICMP4 = icmp_frame()
UDP4 = udp_frame(pattern(31))
UDP6 = udp_frame(pattern(32), 6)
TCP4 = tcp_frame(pattern(100))
TCP6 = tcp_frame(pattern(101), 6)
SCTP4 = ethernet(ipv4(pattern(40), SCTP, A[4], B[4]), 0x0800, **MACS)
TAGGED = tag(UDP4, (0x8100, 0x6064))
DEI_TAGGED = tag(UDP4, (0x8100, 0x7064))
PROVIDER_TAGGED = tag(UDP4, (0x88A8, 0x0007))
DOUBLE_TAGGED = tag(UDP4, (0x88A8, 0x0007), (0x8100, 0x2064))
TRIPLE_TAGGED = tag(UDP4, (0x88A8, 0x0007), (0x8100, 0x2064), (0x8100, 0x0001))
EMPTY = bytes(12) + b"\x88\xb5"  # an Ethernet header and nothing else
LONG = tcp_frame(pattern(4000))
LONG6 = tcp_frame(pattern(4000), 6)
JUMBO = udp_frame(pattern(8900))

#: Every kind by name, for parametrised tests.
ALL = {
    name.lower(): value
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, bytes)
}
