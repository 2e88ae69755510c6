"""The answer to a packet that is too big for its tunnel (RFC 792, 1191, 4443, 8201).

A frame in, the frame that tells its sender out, or None where nothing may be said.
"""

from __future__ import annotations

import struct

from .checksum import checksum, pseudo_header
from .inner import TCP, recognise

__all__ = ["l3_length", "too_big"]

# ---- constants ---------------------------------------------------------------

ICMP, ICMPV6 = 1, 58
UNREACHABLE, FRAGMENTATION_NEEDED = 3, 4
PACKET_TOO_BIG = 2
TTL = 64
QUOTED_4 = 576 - 20 - 8  # RFC 1812 4.3.2.3
QUOTED_6 = 1280 - 40 - 8  # RFC 4443 2.4(c)
ERRORS_4 = (3, 4, 5, 11, 12)
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

    It comes from the address that the packet was for, as no other is known to reach the
    sender.  None for what is no IP packet from one host to one other, for IPv4 without DF or
    not the first fragment, for ICMP errors themselves (RFC 1122 3.2.2, RFC 4443 2.4(e)), and for
    an MTU that no link may have.
    """
    inner = recognise(frame)
    if not inner.version or frame[0] & 1 or not _is_host(inner.source):
        return None
    if not _is_host(inner.destination) or mtu < LEAST[inner.version]:
        return None
    packet = frame[inner.l3 : inner.end]
    link = frame[6:12] + frame[0:6] + frame[12 : inner.l3]
    if inner.version == 4:
        word = struct.unpack_from("!H", frame, inner.l3 + 6)[0]
        if not word & DF or word & 0x1FFF:
            return None
        if inner.protocol == ICMP and frame[inner.l4 : inner.l4 + 1] in _singles(ERRORS_4):
            return None
        quoted = packet[:QUOTED_4]
        message = struct.pack("!BBHHH", UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, mtu) + quoted
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, DF, TTL, ICMP, 0)
        ip += inner.destination + inner.source
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        return link + ip + message
    if inner.protocol == ICMPV6 and frame[inner.l4] < 128:
        return None
    message = struct.pack("!BBHI", PACKET_TOO_BIG, 0, 0, mtu) + packet[:QUOTED_6]
    pseudo = pseudo_header(inner.destination, inner.source, ICMPV6, len(message))
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    ip = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, TTL)
    return link + ip + inner.destination + inner.source + message


def _singles(values: tuple[int, ...]) -> list[bytes]:
    return [bytes([value]) for value in values]


def _is_host(ip: bytes) -> bool:
    """Whether an address is one host's: not nobody's, not a group, not this host's own loopback."""
    if len(ip) == 4:
        return ip != bytes(4) and ip[0] < 224 and ip[0] != 127
    return ip not in (bytes(16), bytes(15) + b"\1") and ip[0] != 0xFF
