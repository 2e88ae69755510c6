"""Contender: who is timed: this library's backends, and others that are here.

Each gives the tasks of a setting that it can do, or none.  Others are used as their own
documentation shows; none is a dependency.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Protocol

import overlay
from overlay import PROTOCOLS, Batch, Profile, Tunnel
from overlay._backend import load
from overlay.codec import Codec
from overlay.errors import BackendError

from .meter import Setting, Task
from .overhead import SIZES, tunnel_for

__all__ = ["CAPACITY", "Contender", "Overlay", "contenders", "frame", "taking"]

#: Frames in the batch of a measurement.
CAPACITY = 512
#: Bytes of payload of each packet that a large frame stands for, and how many they are.
MSS, SEGMENTS = 1400, 40

_Run = Callable[[], object]

_COLUMNS = ("offset", "length", "wire", "status", "key", "protocol", "mss", "link", "checksum")


class Contender(Protocol):
    """Somebody who can put frames into tunnels and take them out."""

    name: str

    def tasks(self, setting: Setting) -> list[Task]:
        """What it does in this setting; nothing where it cannot."""
        ...


def frame(size: int, flow: int, protocol: int = 17) -> bytes:
    """An Ethernet frame of this size: IPv4 and UDP or TCP, of this flow."""
    ethernet = bytes.fromhex("525400aa0002525400aa00010800")
    length = size - 14
    ip = bytearray(20)
    ip[0], ip[2:4], ip[8], ip[9] = 0x45, length.to_bytes(2, "big"), 64, protocol
    ip[12:20] = bytes([10, 0, flow >> 8 & 255, flow & 255, 10, 1, 0, 2])
    ip[10:12] = overlay.checksum(bytes(ip)).to_bytes(2, "big")
    ports = (1024 + flow).to_bytes(2, "big") + b"\0\x35"
    if protocol == 17:
        rest = ports + (length - 20).to_bytes(2, "big") + b"\0\0" + bytes(length - 28)
    else:
        rest = ports + bytes(8) + b"\x50\x10\xff\xff" + bytes(4) + bytes(length - 40)
    return ethernet + bytes(ip) + rest


def taking(tunnel: Tunnel) -> Profile:
    """A profile that takes what this tunnel sends, checksums verified."""
    known = tuple(dict.fromkeys(("vxlan", "nvgre", tunnel.name)))
    if tunnel.name == "gre":
        known = ("gre",)
    return Profile.of("rfc", protocols=known, zero_checksum6=True)


def _keeper(batch: Batch) -> Callable[[], None]:
    """Puts the batch's columns back to what they are now."""
    kept = {name: getattr(batch, name).copy() for name in _COLUMNS}

    def reset() -> None:
        for name, column in kept.items():
            getattr(batch, name)[:] = column

    return reset


class Overlay:
    """A backend of this library."""

    def __init__(self, codec: Codec) -> None:
        self.name = f"overlay {codec.name}"
        self._codec = codec

    def tasks(self, setting: Setting) -> list[Task]:
        tunnel = tunnel_for(PROTOCOLS[setting.protocol], setting.family, setting.checksum)
        if setting.way == "gso":
            return self._large(setting, tunnel)
        sizes = SIZES[setting.size]
        frames = [frame(sizes[i % len(sizes)], i) for i in range(60)]
        mean = sum(map(len, frames)) / len(frames)
        make = self.batch if setting.way == "batch" else self.single
        return [
            Task(self.name, setting, mean, verb, packets, run, reset)
            for verb, packets, run, reset in make(tunnel, frames)
        ]

    def batch(self, tunnel: Tunnel, frames: list[bytes]) -> list[tuple[str, int, _Run, _Run]]:
        """By verb: how many packets one run is, the run, and what is done before it."""
        codec, profile = self._codec, taking(tunnel)
        count = len(frames) if codec.name == "reference" else CAPACITY
        rows = [frames[i % len(frames)] for i in range(count)]
        bare, packed = Batch.from_frames(rows), Batch.from_frames(rows)
        codec.encap_batch(packed, tunnel)
        return [
            ("encap", count, lambda: codec.encap_batch(bare, tunnel), _keeper(bare)),
            ("decap", count, lambda: codec.decap_batch(packed, profile), _keeper(packed)),
        ]

    def single(self, tunnel: Tunnel, frames: list[bytes]) -> list[tuple[str, int, _Run, _Run]]:
        """The same, one call a frame."""
        encap, decap, profile = (
            self._codec.encoder(tunnel).encap,
            self._codec.decap,
            taking(tunnel),
        )
        packets = [encap(one) for one in frames]

        def forth() -> None:
            for one in frames:
                encap(one)

        def back() -> None:
            for packet in packets:
                decap(packet, profile)

        return [("encap", len(frames), forth, int), ("decap", len(frames), back, int)]

    def _large(self, setting: Setting, tunnel: Tunnel) -> list[Task]:
        """One encap for many packets of a TCP stream, which are cut after it."""
        if tunnel.name == "erspan":
            return []
        codec, mean = self._codec, MSS + 54.0
        count = 1 if codec.name == "reference" else 8
        batch = Batch.from_frames([frame(54 + MSS * SEGMENTS, i, 6) for i in range(count)])
        batch.mss[:] = MSS
        batch.checksum[:] = 2
        out = Batch.packed(count * SEGMENTS * 2048, count * (SEGMENTS + 4))
        reset = _keeper(batch)

        def cut() -> int:
            out.clear()
            codec.encap_batch(batch, tunnel)
            return codec.segment_batch(batch, out, 1600)

        return [Task(self.name, setting, mean, "encap", cut(), cut, reset)]


class Dpkt:
    """dpkt: headers of classes, and a template of ours for VXLAN's eight bytes."""

    name = "dpkt"

    def tasks(self, setting: Setting) -> list[Task]:
        if (setting.protocol, setting.family, setting.checksum, setting.way) != (
            "vxlan", 4, False, "single",
        ):  # fmt: skip
            return []
        from dpkt.ethernet import Ethernet  # type: ignore[import-untyped, unused-ignore]
        from dpkt.ip import IP  # type: ignore[import-untyped, unused-ignore]
        from dpkt.udp import UDP  # type: ignore[import-untyped, unused-ignore]

        ends = {"src": bytes([192, 0, 2, 1]), "dst": bytes([192, 0, 2, 2])}
        header = bytes.fromhex("0800000012345600")

        def encap(one: bytes) -> bytes:
            udp = UDP(sport=49152, dport=4789, ulen=16 + len(one), data=header + one)
            ip = IP(p=17, len=36 + len(one), df=1, ttl=64, data=udp, **ends)
            return bytes(Ethernet(src=bytes(6), dst=bytes(6), data=ip))

        def decap(packet: bytes) -> bytes:
            return bytes(Ethernet(packet).data.data.data[8:])

        return loops(self.name, setting, encap, decap)


def loops(
    name: str,
    setting: Setting,
    encap: Callable[[bytes], bytes],
    decap: Callable[[bytes], bytes],
    *,
    count: int = 12,
) -> list[Task]:
    """The tasks of somebody who has a call a frame."""
    sizes = SIZES[setting.size]
    frames = [frame(sizes[i % len(sizes)], i) for i in range(count)]
    packets = [encap(one) for one in frames]
    mean = sum(map(len, frames)) / len(frames)
    return [
        Task(name, setting, mean, "encap", count, lambda: [encap(one) for one in frames]),
        Task(name, setting, mean, "decap", count, lambda: [decap(one) for one in packets]),
    ]


def contenders(*, peers: bool = True) -> list[Contender]:
    """Those that are here: the backend in use first, then the readable twin.

    :param peers: scapy and dpkt too, where they are installed.
    """
    found: list[Contender] = []
    for name in dict.fromkeys((overlay.backend, "reference")):
        try:
            found.append(Overlay(load(name)))
        except BackendError:
            continue
    if peers and importlib.util.find_spec("dpkt") is not None:
        found.append(Dpkt())
    if peers and importlib.util.find_spec("scapy") is not None:
        from overlay.scapy.contender import Scapy

        found.append(Scapy())
    return found
