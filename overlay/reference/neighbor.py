"""ARP and neighbour discovery answered from a table (RFC 826, RFC 4861).

A request in, its answer out, bytes both.  Who asks and who forwards are others'.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .checksum import checksum, pseudo_header
from .inner import ETHERNET, recognise

__all__ = ["Advert", "Request", "answer", "heard", "request"]

# ---- constants ---------------------------------------------------------------

TYPE_ARP, TYPE_IPV6 = 0x0806, 0x86DD
ARP = struct.pack("!HHBB", 1, 0x0800, 6, 4)  # Ethernet, IPv4, and the lengths of their addresses
ARP_REQUEST, ARP_REPLY = 1, 2
ARP_LENGTH = 28

ICMPV6 = 58
SOLICITATION, ADVERTISEMENT = 135, 136
HOP_LIMIT = 255
SOLICITED, OVERRIDE = 0x40, 0x20
SOURCE_OPTION, TARGET_OPTION = 1, 2

# ---- header ------------------------------------------------------------------
#
# A neighbour solicitation or advertisement, RFC 4861 4.3 and 4.4::
#
#      0                   1                   2                   3
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |     Type      |     Code      |          Checksum             |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |R|S|O|                     Reserved                            |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                       Target Address, 128 bits                |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |   Options ...


@dataclass(frozen=True)
class Request:
    """Who has ``target``?  Asked by ``sender``, to be told at ``mac``."""

    target: bytes
    sender: bytes
    mac: bytes
    ethernet: bytes  # the frame's source address


@dataclass(frozen=True)
class Advert:
    """A frame says that ``ip`` is at ``mac``."""

    ip: bytes
    mac: bytes


# ---- parse -------------------------------------------------------------------


def request(frame: bytes) -> Request | None:
    """The question that a frame asks everybody, if one may answer it for another.

    Gratuitous ARP, ARP probes (RFC 5227) and duplicate address detection ask who *else* has an
    address: they are None here, as are questions to one host.
    """
    if len(frame) < ETHERNET or not frame[0] & 1 or frame[6] & 1:
        return None
    source = frame[6:12]
    arp = _arp(frame)
    if arp:
        operation, mac, sender, target = arp
        if operation != ARP_REQUEST or sender == target or not _is_host(sender) or mac[0] & 1:
            return None
        return Request(target, sender, mac, source)
    body = _discovery(frame, SOLICITATION)
    if body is None:
        return None
    inner = recognise(frame)
    mac = _option(body, SOURCE_OPTION) or source
    if inner.source == bytes(16) or inner.source[0] == 0xFF or mac[0] & 1:
        return None
    return Request(body[8:24], inner.source, mac, source)


def heard(frame: bytes) -> Advert | None:
    """What a frame says of its sender's own address."""
    arp = _arp(frame)
    if arp:
        _, mac, sender, _ = arp
        return Advert(sender, mac) if _is_host(sender) and mac == frame[6:12] else None
    body = _discovery(frame, ADVERTISEMENT)
    if body is not None:
        mac = _option(body, TARGET_OPTION) or b""
        return Advert(body[8:24], mac) if mac == frame[6:12] else None
    body = _discovery(frame, SOLICITATION)
    if body is not None:
        source = recognise(frame).source
        mac = _option(body, SOURCE_OPTION) or b""
        return Advert(source, mac) if mac == frame[6:12] and source != bytes(16) else None
    return None


def _is_host(ip: bytes) -> bool:
    return ip != bytes(4) and ip[0] < 224 and ip[0] != 127


def _arp(frame: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """Operation, the sender's MAC and IP, the target's IP, of an untagged ARP frame."""
    if frame[12:14] != struct.pack("!H", TYPE_ARP) or len(frame) < ETHERNET + ARP_LENGTH:
        return None
    if frame[14:20] != ARP:
        return None
    operation, mac, sender, _, target = struct.unpack_from("!H6s4s6s4s", frame, 20)
    return operation, mac, sender, target


def _discovery(frame: bytes, kind: int) -> bytes | None:
    """The ICMPv6 message of this type, whole and right (RFC 4861 7.1), of an untagged frame."""
    inner = recognise(frame)
    if inner.tags or inner.version != 6 or inner.protocol != ICMPV6 or frame[21] != HOP_LIMIT:
        return None
    if not inner.l4 + 24 <= inner.end <= len(frame):
        return None
    body = frame[inner.l4 : inner.end]
    pseudo = pseudo_header(inner.source, inner.destination, ICMPV6, len(body))
    if body[0] != kind or body[1] != 0 or checksum(pseudo + body) != 0 or body[8] == 0xFF:
        return None
    return body if _options_are_whole(body) else None


def _options_are_whole(body: bytes) -> bool:
    at = 24
    while at + 8 <= len(body) and body[at + 1]:
        at += 8 * body[at + 1]
    return at == len(body)


def _option(body: bytes, kind: int) -> bytes | None:
    """The link-layer address that an option of this kind gives."""
    at = 24
    while at + 8 <= len(body) and body[at + 1]:
        if body[at] == kind and body[at + 1] == 1:
            return body[at + 2 : at + 8]
        at += 8 * body[at + 1]
    return None


# ---- build -------------------------------------------------------------------


def answer(asked: Request, mac: bytes) -> bytes:
    """The frame that the target itself would have sent."""
    if len(asked.target) == 4:
        body = ARP + struct.pack(
            "!H6s4s6s4s", ARP_REPLY, mac, asked.target, asked.mac, asked.sender
        )
        return asked.ethernet + mac + struct.pack("!H", TYPE_ARP) + body
    message = struct.pack("!BBHB3x", ADVERTISEMENT, 0, 0, SOLICITED | OVERRIDE)
    message += asked.target + struct.pack("!BB", TARGET_OPTION, 1) + mac
    pseudo = pseudo_header(asked.target, asked.sender, ICMPV6, len(message))
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    head = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, HOP_LIMIT)
    ip = head + asked.target + asked.sender
    return asked.mac + mac + struct.pack("!H", TYPE_IPV6) + ip + message
