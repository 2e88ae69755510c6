"""Peer: other ways that people put a frame into VXLAN and take it out, timed in the same run.

Each peer is used as its own documentation shows; none is imported by the library.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from zlib import crc32

from overlay import Tunnel, _backend
from overlay.errors import BackendError

from .question import LOCAL, REMOTE, VXLAN

Verb = Callable[[bytes], Any]


@dataclass(frozen=True)
class Peer:
    """``encap(frame)`` gives the packet; ``decap(packet)`` something with the inner frame in it."""

    name: str
    encap: Verb
    decap: Verb


def tuned_struct() -> Peer:
    """What a careful hand writes in Python: one template, three fields, one join."""
    start = VXLAN.encap(bytes(64))
    ethernet, vxlan = start[:14], start[42:50]
    fixed = struct.unpack("!10H", start[14:34])
    base = sum(fixed) - fixed[1] - fixed[5]
    pack = struct.Struct("!14sHHIHH8sHHHH8s").pack
    parse = struct.Struct("!12xHBxH2xHxBH8xHHHHBxxxI").unpack_from
    words, ids, ttl, addresses = (
        fixed[0],
        int.from_bytes(start[18:22], "big"),
        fixed[4],
        start[26:34],
    )

    def encap(frame: bytes) -> bytes:
        length = len(frame) + 36
        total = base + length
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        port = 49152 | crc32(frame[26:38]) & 0x3FFF
        header = pack(
            ethernet, words, length, ids, ttl, total ^ 0xFFFF,
            addresses, port, 4789, length - 20, 0, vxlan,
        )  # fmt: skip
        return header + frame

    def decap(packet: bytes) -> tuple[int, bytes]:
        (ethertype, version, length, fragment, protocol, _, _, port, size, _, flags, vni) = parse(
            packet
        )
        if ethertype != 0x0800 or version != 0x45 or protocol != 17 or port != 4789:
            raise ValueError("not VXLAN")
        if fragment & 0x3FFF or not flags & 8 or size + 20 > length > len(packet) - 14:
            raise ValueError("refused")
        return vni >> 8, packet[50:]

    return Peer("struct.pack, tuned", encap, decap)


def scapy() -> Peer:
    from scapy.layers import vxlan
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    def encap(frame: bytes) -> bytes:
        outer = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00") / IP(
            src=LOCAL, dst=REMOTE, flags="DF", id=0
        )
        udp = UDP(sport=49152, dport=4789, chksum=0)
        return bytes(outer / udp / vxlan.VXLAN(vni=5001, flags="Instance") / Raw(frame))

    def decap(packet: bytes) -> bytes:
        return bytes(Ether(packet)[vxlan.VXLAN].payload)

    return Peer("scapy", encap, decap)


def dpkt() -> Peer:
    from dpkt.ethernet import Ethernet  # type: ignore[import-untyped, unused-ignore]
    from dpkt.ip import IP  # type: ignore[import-untyped, unused-ignore]
    from dpkt.udp import UDP  # type: ignore[import-untyped, unused-ignore]

    ends = {"src": bytes([192, 0, 2, 1]), "dst": bytes([192, 0, 2, 2])}
    header = VXLAN.encap(bytes(64))[42:50]

    def encap(frame: bytes) -> bytes:
        udp = UDP(sport=49152, dport=4789, ulen=16 + len(frame), data=header + frame)
        ip = IP(p=17, len=36 + len(frame), df=1, ttl=64, data=udp, **ends)
        return bytes(Ethernet(src=bytes(6), dst=bytes(6), data=ip))

    def decap(packet: bytes) -> bytes:
        return bytes(Ethernet(packet).data.data.data[8:])

    return Peer("dpkt", encap, decap)


def backend(name: str) -> Peer:
    codec = _backend.load(name)
    return Peer(f"overlay, {name}", codec.encoder(VXLAN).encap, codec.decap)


def _frames(found: Any) -> tuple[Any, ...]:
    """What a peer's decap gave, as a tuple with the inner frame among it."""
    return found if isinstance(found, tuple) else (getattr(found, "frame", found),)


MAKERS: tuple[Callable[[], Peer], ...] = (
    *(partial(backend, name) for name in _backend._MODULES),
    tuned_struct,
    dpkt,
    scapy,
)


def peers() -> list[Peer]:
    """Those that are here, the library in use first; each has shown that it makes VXLAN."""
    frame = bytes(12) + b"\x08\x00" + bytes(50)
    here = []
    for make in MAKERS:
        try:
            peer = make()
        except (ImportError, BackendError):
            continue
        packet = peer.encap(frame)
        if packet[14:34] != VXLAN.encap(frame)[14:34] or packet[42:] != VXLAN.encap(frame)[42:]:
            raise RuntimeError(f"{peer.name} makes other packets: {packet.hex()}")
        if frame not in _frames(peer.decap(packet)):
            raise RuntimeError(f"{peer.name} finds another frame")
        here.append(peer)
    here.sort(key=lambda peer: peer.name != f"overlay, {Tunnel.codec.name}")
    return here
