"""The answer to a packet that is too big for its tunnel (RFC 792, 1191, 4443, 8201), and TCP's MSS.

A frame in, the frame that tells its sender out, or None where nothing may be said.
"""

from __future__ import annotations

import struct

from .checksum import checksum, pseudo_header, update
from .inner import TCP, recognise
from .offload import SYN, tcp_payload

__all__ = ["clamp", "l3_length", "too_big"]

# ---- constants ---------------------------------------------------------------

ICMP, ICMPV6 = 1, 58
UNREACHABLE, FRAGMENTATION_NEEDED = 3, 4
PACKET_TOO_BIG = 2
TTL = 64
QUOTED_4 = 576 - 20 - 8  # RFC 1812 4.3.2.3
QUOTED_6 = 1280 - 40 - 8  # RFC 4443 2.4(c)
ERRORS_4 = (3, 4, 5, 11, 12)
REDIRECT_6 = b"\x89"  # 137
DF = 0x4000
LEAST = {4: 68, 6: 1280}  # RFC 791, RFC 8200 5


def l3_length(frame: bytes, mss: int = 0) -> int:
    """Bytes behind the Ethernet header and its tags; of a super-frame, of its longest packet."""
    inner = recognise(frame)
    if not mss or not inner.version:
        return len(frame) - inner.l3
    header = (frame[inner.l4 + 12] >> 4) * 4 if inner.protocol == TCP else 8
    return inner.l4 + header + mss - inner.l3


def too_big(frame: bytes, mtu: int) -> bytes | None:
    """The ICMP error that a router with this MTU in the destination's place would send.

    None for what is no whole IP packet from one host to one, for IPv4 without DF, for a
    fragment that is not the first, for ICMP errors and redirects themselves, and for an MTU
    that no link may have (RFC 791, 1122 3.2.2, 4443 2.4(e), 8200 5).
    """
    inner = recognise(frame)
    if not inner.version or (frame[0] | frame[6]) & 1 or not inner.l4 <= inner.end <= len(frame):
        return None
    if not (_is_host(inner.source) and _is_host(inner.destination)):
        return None
    packet = frame[inner.l3 : inner.end]
    link = frame[6:12] + frame[0:6] + frame[12 : inner.l3]
    if inner.version == 4:
        word = struct.unpack_from("!H", frame, inner.l3 + 6)[0]
        if not word & DF or word & 0x1FFF or not 68 <= mtu <= 0xFFFF:
            return None
        body = packet[inner.l4 - inner.l3 :]
        if inner.protocol == ICMP and (not body or body[0] in ERRORS_4):
            return None
        quoted = packet[:QUOTED_4]
        message = struct.pack("!BBHHH", UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, mtu) + quoted
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, DF, TTL, ICMP, 0)
        ip += inner.destination + inner.source
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        return link + ip + message
    if mtu < 1280 or not _may_be_answered_6(packet):
        return None
    message = struct.pack("!BBHI", PACKET_TOO_BIG, 0, 0, mtu) + packet[:QUOTED_6]
    pseudo = pseudo_header(inner.destination, inner.source, ICMPV6, len(message))
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    ip = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, TTL)
    return link + ip + inner.destination + inner.source + message


def _may_be_answered_6(packet: bytes) -> bool:
    """Behind at most 8 extension headers, all here: no fragment but a first, no ICMPv6 error."""
    protocol, at, passed = packet[6], 40, 0
    while protocol in (0, 43, 44, 60):
        if passed == 8 or len(packet) - at < 8:
            return False
        size = 8 if protocol == 44 else (packet[at + 1] + 1) * 8
        if protocol == 44 and struct.unpack_from("!H", packet, at + 2)[0] & 0xFFF8:
            return False
        if len(packet) - at < size:
            return False
        protocol, at, passed = packet[at], at + size, passed + 1
    kind = packet[at : at + 1]
    return protocol != ICMPV6 or (kind >= b"\x80" and kind != REDIRECT_6)


def clamp(frame: bytes, mss: int, partial: bool = False) -> bytes:
    """The frame with the MSS option of a TCP SYN at most ``mss``; over IPv6, 20 less.

    The checksum is updated (RFC 1624), unless it is partial: then it does not cover the option.
    """
    inner = recognise(frame)
    if tcp_payload(frame, inner) == 0 or not frame[inner.l4 + 13] & SYN:
        return frame
    most = mss if inner.version == 4 else max(0, mss - 20)
    data = bytearray(frame)
    l4, end = inner.l4, tcp_payload(frame, inner)
    at = l4 + 20
    while at < end and data[at] != 0:
        if data[at] == 1:
            at += 1
            continue
        size = data[at + 1] if end - at >= 2 else 0
        if not 2 <= size <= end - at:
            break
        if data[at] == 2 and size == 4 and struct.unpack_from("!H", data, at + 2)[0] > most:
            first = at + 2 - (at - l4) % 2  # the words that it lies in
            last = first + 2 + (at - l4) % 2 * 2
            words = range(first, last, 2)
            old = [struct.unpack_from("!H", data, word)[0] for word in words]
            struct.pack_into("!H", data, at + 2, most)
            for word, was in zip(words, old, strict=True):
                if not partial:
                    now = struct.unpack_from("!H", data, word)[0]
                    sum_ = struct.unpack_from("!H", data, l4 + 16)[0]
                    struct.pack_into("!H", data, l4 + 16, update(sum_, was, now))
        at += size
    return bytes(data)


def _is_host(ip: bytes) -> bool:
    """Whether an address is one host's: not nobody's, not a group, not this host's own loopback."""
    if len(ip) == 4:
        return ip[0] < 224 and ip[0] not in (0, 127)
    return ip not in (bytes(16), bytes(15) + b"\1") and ip[0] != 0xFF
