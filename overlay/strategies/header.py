"""Header: bytes of Ethernet, IP, TCP and UDP headers, right unless asked to be wrong.

What must not live here: choices; those are the strategies'.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

__all__ = ["checksum", "ethernet", "filler", "icmp", "ipv4", "ipv6", "pseudo", "tcp", "udp"]

_PATTERN = bytes(range(256)) * 258


def filler(size: int, seed: int = 0) -> bytes:
    """``size`` bytes of payload that count up from ``seed``, 0..255."""
    return _PATTERN[seed : seed + size]


def checksum(*parts: bytes) -> int:
    """The internet checksum (RFC 1071) of the parts, each but the last of even length."""
    data = b"".join(parts)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) % 2:
        total += data[-1] << 8
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo(source: bytes, destination: bytes, protocol: int, size: int) -> bytes:
    """The pseudo header of TCP and UDP over IPv4 or IPv6."""
    return source + destination + struct.pack("!IBBH", size, 0, 0, protocol)


def ethernet(
    destination: bytes, source: bytes, tags: Iterable[tuple[int, int]], ethertype: int, body: bytes
) -> bytes:
    """A frame with these VLAN tags, ``(TPID, TCI)``, outermost first."""
    stack = b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags)
    return destination + source + stack + struct.pack("!H", ethertype) + body


def ipv4(
    body: bytes, protocol: int, source: bytes, destination: bytes, *,
    tos: int = 0, ttl: int = 64, ident: int = 0, fragment: int = 0x4000, options: bytes = b"",
    version: int = 4, ihl: int | None = None, total: int | None = None,
) -> bytes:  # fmt: skip
    """An IPv4 packet; ``total`` and ``ihl`` are what they should be if None."""
    size = 20 + len(options)
    first = version << 4 | (size // 4 if ihl is None else ihl)
    length = (size + len(body) if total is None else total) & 0xFFFF
    head = struct.pack("!BBHHHBB", first, tos, length, ident, fragment, ttl, protocol)
    rest = source + destination + options
    return head + struct.pack("!H", checksum(head, rest)) + rest + body


def ipv6(
    body: bytes, protocol: int, source: bytes, destination: bytes, *,
    tos: int = 0, ttl: int = 64, flow_label: int = 0, version: int = 6,
    extensions: Iterable[tuple[int, bytes]] = (), total: int | None = None,
) -> bytes:  # fmt: skip
    """An IPv6 packet; extensions: (number, all bytes but the first) each."""
    chain = list(extensions)
    numbers = [number for number, _ in chain] + [protocol]
    for following, (_, rest) in zip(reversed(numbers[1:]), reversed(chain), strict=True):
        body = bytes([following]) + rest + body
    word = version << 28 | tos << 20 | flow_label
    length = (len(body) if total is None else total) & 0xFFFF
    return struct.pack("!IHBB", word, length, numbers[0], ttl) + source + destination + body


def udp(
    body: bytes, ports: tuple[int, int], ends: tuple[bytes, bytes], *,
    length: int | None = None, check: int | None = None,
) -> bytes:  # fmt: skip
    """A UDP datagram between ``ends``, packed addresses; its checksum is right if None."""
    size = 8 + len(body) if length is None else length
    head = struct.pack("!HHH", *ports, size)
    if check is None:
        check = checksum(pseudo(*ends, 17, size), head, b"\0\0", body) or 0xFFFF
    return head + struct.pack("!H", check) + body


def tcp(
    body: bytes, ports: tuple[int, int], ends: tuple[bytes, bytes], *,
    sequence: int = 0, acknowledgement: int = 0, flags: int = 0x10, window: int = 0,
    options: bytes = b"", data_offset: int | None = None, check: int | None = None,
) -> bytes:  # fmt: skip
    """A TCP segment between ``ends``, packed addresses; its checksum is right if None."""
    words = 5 + len(options) // 4 if data_offset is None else data_offset
    head = struct.pack("!HHIIBBH", *ports, sequence, acknowledgement, words << 4, flags, window)
    rest = options + body
    if check is None:
        whole = pseudo(*ends, 6, len(head) + 4 + len(rest))
        check = checksum(whole, head, b"\0\0", b"\0\0", rest)
    return head + struct.pack("!HH", check, 0) + rest


def icmp(body: bytes, ends: tuple[bytes, bytes]) -> bytes:
    """An echo request with this body, of the version of the addresses."""
    if len(ends[0]) == 4:
        return struct.pack("!BBH", 8, 0, checksum(b"\x08\0\0\0", body)) + body
    whole = pseudo(*ends, 58, 4 + len(body))
    return struct.pack("!BBH", 128, 0, checksum(whole, b"\x80\0\0\0", body)) + body
