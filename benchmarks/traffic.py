"""Traffic: the frames that every benchmark runs on, the same in every run.

IPv4 with TCP or UDP; each frame of a set has a flow of its own.
"""

from __future__ import annotations

import random
import struct
from functools import cache

SIZES = (64, 512, 1500)
BURST = 256
#: The simple Internet mix: bytes of a frame, and how many of twelve have them.
IMIX = ((64, 7), (576, 4), (1500, 1))
IMIX_FRAMES = 1000


def _sum(data: bytes) -> int:
    words: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while words > 0xFFFF:
        words = (words & 0xFFFF) + (words >> 16)
    return words


def frame(size: int, flow: int) -> bytes:
    """One frame of ``size`` bytes, at least 54, of flow number ``flow``."""
    draw = random.Random(size << 32 | flow)
    tcp = flow % 4 != 0
    total = size - 14
    addresses = struct.pack("!II", 0x0A000000 | draw.getrandbits(16), 0x0A010000 | flow)
    head = struct.pack("!BBHHHBB", 0x45, 0, total, flow & 0xFFFF, 0x4000, 64, 6 if tcp else 17)
    checksum = ~_sum(head + addresses) & 0xFFFF
    ip = head + struct.pack("!H", checksum) + addresses
    ports = struct.pack("!HH", draw.randrange(1024, 65536), 443)
    if tcp:
        l4 = ports + struct.pack("!IIBBHHH", draw.getrandbits(32), 1, 0x50, 0x18, 65535, 0, 0)
    else:
        l4 = ports + struct.pack("!HH", total - 20, 0)
    macs = struct.pack("!HIHI", 0x0200, flow, 0x0202, flow)
    payload = size - 14 - 20 - len(l4)
    return macs + b"\x08\x00" + ip + l4 + draw.randbytes(payload)


@cache
def frames(size: int | str, count: int = BURST) -> tuple[bytes, ...]:
    """``count`` frames of one size, or of ``"imix"``: the mix, shuffled."""
    if size != "imix":
        return tuple(frame(int(size), flow) for flow in range(count))
    deck = [length for length, times in IMIX for _ in range(times)]
    sizes = (deck * (count // len(deck) + 1))[:count]
    random.Random(1).shuffle(sizes)
    return tuple(frame(length, flow) for flow, length in enumerate(sizes))
