"""Sample: the frames of the demo, made here; ``overlay/data/sample.pcap`` holds them.

``python -m overlay.cli.sample PATH`` writes that file again, byte for byte.
"""

from __future__ import annotations

import ipaddress
import struct
import sys

import numpy as np

from overlay import Batch, checksum
from overlay.io.pcap import CaptureWriter

_A, _B = bytes.fromhex("525400aa0001"), bytes.fromhex("525400aa0002")
_A4, _B4 = bytes([10, 1, 0, 1]), bytes([10, 1, 0, 2])
_A6 = ipaddress.ip_address("fd00:1::1").packed
_B6 = ipaddress.ip_address("fd00:1::2").packed


def _text(size: int) -> bytes:
    return bytes(0x61 + i % 26 for i in range(size))


def _ethernet(ethertype: int, payload: bytes, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    head = b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags)
    return _B + _A + head + struct.pack("!H", ethertype) + payload


def _ipv4(protocol: int, payload: bytes, ident: int = 1, fragment: int = 0, tos: int = 0) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), ident, fragment, 64, protocol, 0, _A4, _B4
    )
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def _ipv6(protocol: int, payload: bytes, traffic_class: int = 0) -> bytes:
    word = 6 << 28 | traffic_class << 20 | 0x12345
    return struct.pack("!IHBB16s16s", word, len(payload), protocol, 64, _A6, _B6) + payload


def _summed(protocol: int, segment: bytes, at: int, six: bool) -> bytes:
    """The segment with its checksum at ``at``."""
    ends = _A6 + _B6 if six else _A4 + _B4
    pseudo = ends + struct.pack("!II", len(segment), protocol)
    value = checksum(pseudo + segment)
    if not value and protocol == 17:
        value = 0xFFFF
    return segment[:at] + struct.pack("!H", value) + segment[at + 2 :]


def _udp(size: int, port: int, six: bool = False) -> bytes:
    segment = struct.pack("!HHHH", port, 53, 8 + size, 0) + _text(size)
    return _summed(17, segment, 6, six)


def _tcp(
    size: int, sequence: int, options: bytes = b"", flags: int = 0x18, six: bool = False
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack("!HHIIBBHHH", 40000, 443, sequence, 0x2000, offset, flags, 8192, 0, 0)
    return _summed(6, head + options + _text(size), 16, six)


def _icmp(kind: int, number: int, size: int) -> bytes:
    message = struct.pack("!BBHHH", kind, 0, 0, 0x1234, number) + _text(size)
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def frames() -> list[bytes]:
    """Some tens of frames of the kinds that networks carry."""
    syn = bytes.fromhex("020405b40402080a000000010000000001030307")
    stamp = bytes.fromhex("0101080a0000000100000002")
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, _A, _A4, bytes(6), _B4)
    made = [b"\xff" * 6 + _A + b"\x08\x06" + arp + bytes(18), _ethernet(0x0806, arp + bytes(18))]
    made += [_ethernet(0x0800, _ipv4(1, _icmp(8, n, 56))) for n in range(2)]
    made += [_ethernet(0x0800, _ipv4(1, _icmp(0, n, 56))) for n in range(2)]
    made.append(_ethernet(0x0800, _ipv4(6, _tcp(0, 1, syn, 0x02))))
    made += [
        _ethernet(0x0800, _ipv4(6, _tcp(size, 2 + size, stamp, 0x10), ident=size))
        for size in (0, 1, 6, 536, 1380)
    ]
    made += [
        _ethernet(0x0800, _ipv4(17, _udp(size, 5000 + size)))
        for size in (0, 1, 18, 64, 470, 999, 1372)
    ]
    made += [_ethernet(0x0800, _ipv4(17, _udp(100, 6000), tos=tos)) for tos in (1, 2, 3, 0xB8)]
    made += [_ethernet(0x86DD, _ipv6(17, _udp(size, 5100, True))) for size in (0, 33, 1300)]
    made += [_ethernet(0x86DD, _ipv6(6, _tcp(size, 9, stamp, six=True))) for size in (0, 700)]
    made.append(_ethernet(0x86DD, _ipv6(17, _udp(64, 5101, True), traffic_class=0xBA)))
    made.append(_ethernet(0x0800, _ipv4(17, _udp(200, 5200)), ((0x8100, 0x6064),)))
    made.append(_ethernet(0x86DD, _ipv6(6, _tcp(400, 10, six=True)), ((0x8100, 0x0FFE),)))
    made.append(_ethernet(0x0800, _ipv4(6, _tcp(99, 11)), ((0x88A8, 100), (0x8100, 200))))
    whole = _udp(2000, 5300)
    made.append(_ethernet(0x0800, _ipv4(17, whole[:1376], 77, 0x2000)))
    made.append(_ethernet(0x0800, _ipv4(17, whole[1376:], 77, 172)))
    made.append(_ethernet(0x0800, _ipv4(6, _tcp(8948, 12))))
    made.append(_ethernet(0x86DD, _ipv6(17, _udp(8900, 5400, True))))
    made.append(_ethernet(0x88CC, bytes.fromhex("0207045254 00aa0001 0403056531 06020078 0000")))
    return made


def write(path: str) -> None:
    """Write the frames as a capture, a millisecond apart."""
    batch = Batch.from_frames(frames(), headroom=0)
    times = 1_700_000_000_000_000_000 + np.arange(batch.count) * 1_000_000
    with CaptureWriter(path) as writer:
        writer.write(batch, times)


if __name__ == "__main__":
    write(sys.argv[1])
