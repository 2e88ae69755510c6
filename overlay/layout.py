"""Layout: the name of the field at every byte of a packet or frame.

Lives here: names and sizes, for people who look at a packet (``check``,
``show``, ``mtu``).  Must not: any judgement; a field is named where the
headers before it say it would be, right or wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .codec import Buffer, byte_view

__all__ = ["Field", "fields", "frame_fields", "name_at"]

Chapter = tuple[tuple[str, int], ...]

IPV4: Chapter = (
    ("version_ihl", 1), ("tos", 1), ("total_length", 2), ("id", 2), ("fragment", 2),
    ("ttl", 1), ("protocol", 1), ("checksum", 2), ("source", 4), ("destination", 4),
)  # fmt: skip
IPV6: Chapter = (
    ("version_class_flow", 4), ("payload_length", 2), ("next_header", 1), ("hop_limit", 1),
    ("source", 16), ("destination", 16),
)  # fmt: skip
UDP: Chapter = (("source_port", 2), ("destination_port", 2), ("length", 2), ("checksum", 2))
TCP: Chapter = (
    ("source_port", 2), ("destination_port", 2), ("sequence", 4), ("acknowledgement", 4),
    ("data_offset", 1), ("flags", 1), ("window", 2), ("checksum", 2), ("urgent", 2),
)  # fmt: skip
TCP_OF_STT: Chapter = (
    ("source_port", 2), ("destination_port", 2), ("frame_length", 2), ("frame_offset", 2),
    ("frame_id", 4), ("data_offset", 1), ("flags", 1), ("window", 2), ("checksum", 2),
    ("urgent", 2),
)  # fmt: skip
ICMP: Chapter = (("type", 1), ("code", 1), ("checksum", 2))
VXLAN: Chapter = (
    ("flags", 1), ("group_flags", 1), ("group_policy", 2), ("vni", 3), ("reserved", 1),
)  # fmt: skip
STT: Chapter = (
    ("version", 1), ("flags", 1), ("l4_offset", 1), ("reserved", 1), ("mss", 2), ("tci", 2),
    ("context_id", 8), ("padding", 2),
)  # fmt: skip

VLANS = (0x8100, 0x88A8)
EXTENSIONS = (0, 43, 44, 60)
STT_PORT = 7471


@dataclass(frozen=True, slots=True)
class Field:
    """``size`` bytes from ``offset``; ``name`` such as ``"outer.ipv4.checksum"``."""

    offset: int
    size: int
    name: str

    @property
    def header(self) -> str:
        """The name of the header that the field is in, ``"outer.ipv4"``."""
        return self.name.rpartition(".")[0]


class _Walk:
    """A position in the bytes, and the fields that lie before it."""

    def __init__(self, data: memoryview, at: int = 0) -> None:
        self.data = data
        self.at = at
        self.end = len(data)
        self.found: list[Field] = []

    def take(self, name: str, size: int) -> None:
        """Name the next ``size`` bytes, or those of them that are here."""
        size = min(size, self.end - self.at)
        if size > 0:
            self.found.append(Field(self.at, size, name))
            self.at += size

    def chapter(self, header: str, chapter: Iterable[tuple[str, int]]) -> None:
        for name, size in chapter:
            self.take(f"{header}.{name}", size)

    def number(self, at: int, size: int) -> int:
        """The big-endian number at ``at``, or -1 where it is cut."""
        if at + size > self.end:
            return -1
        return int.from_bytes(self.data[at : at + size], "big")

    def ethernet(self, side: str, tags: int) -> int:
        """Walk Ethernet and up to ``tags`` VLAN tags; the EtherType, or -1."""
        self.chapter(f"{side}.ethernet", (("destination", 6), ("source", 6)))
        while tags and self.number(self.at, 2) in VLANS:
            self.chapter(f"{side}.vlan", (("tpid", 2), ("tci", 2)))
            tags -= 1
        ethertype = self.number(self.at, 2)
        self.take(f"{side}.ethernet.ethertype", 2)
        return ethertype

    def ip(self, side: str, ethertype: int) -> int:
        """Walk the IP header; the protocol after it, or -1.  Ends the walk at the IP length."""
        start = self.at
        version = self.number(start, 1) >> 4
        if ethertype == 0x0800 and version == 4:
            length = max(20, (self.number(start, 1) & 15) * 4)
            total = self.number(start + 2, 2)
            fragment = self.number(start + 6, 2)
            protocol = self.number(start + 9, 1)
            self.chapter(f"{side}.ipv4", IPV4)
            self.take(f"{side}.ipv4.options", length - 20)
            if total >= length:
                self.end = min(self.end, start + total)
            return protocol if fragment >= 0 and not fragment & 0x1FFF else -1
        if ethertype == 0x86DD and version == 6:
            total = self.number(start + 4, 2)
            protocol = self.number(start + 6, 1)
            self.chapter(f"{side}.ipv6", IPV6)
            if total > 0:
                self.end = min(self.end, start + 40 + total)
            while protocol in EXTENSIONS:
                following = self.number(self.at, 1)
                units = 0 if protocol == 44 else max(0, self.number(self.at + 1, 1))
                if protocol == 44 and self.number(self.at + 2, 2) & 0xFFF8:
                    following = -1
                self.take(f"{side}.ipv6.extension", 8 + 8 * units)
                protocol = following
            return protocol
        return -1

    def l4(self, side: str, protocol: int) -> None:
        """Walk an inner transport header; what follows is payload."""
        if protocol == 17:
            self.chapter(f"{side}.udp", UDP)
        elif protocol == 6:
            start = self.at
            self.chapter(f"{side}.tcp", TCP)
            self.take(f"{side}.tcp.options", (max(0, self.number(start + 12, 1)) >> 4) * 4 - 20)
        elif protocol in (1, 58):
            self.chapter(f"{side}.icmp", ICMP)

    def gre(self) -> bool:
        """Walk GRE; whether Ethernet follows."""
        flags, protocol = self.number(self.at, 2), self.number(self.at + 2, 2)
        self.chapter("nvgre", (("flags", 2), ("protocol", 2)))
        if flags < 0:
            return False
        if flags & 0x8000:
            self.chapter("nvgre", (("checksum", 2), ("reserved", 2)))
        if flags & 0x2000:
            self.chapter("nvgre", (("vsid", 3), ("flow_id", 1)))
        if flags & 0x1000:
            self.take("nvgre.sequence", 4)
        return protocol == 0x6558 and not flags & 7

    def tunnel(self, protocol: int, vxlan_port: int) -> bool:
        """Walk the tunnel's own headers; whether an inner frame follows."""
        port = self.number(self.at + 2, 2)
        if protocol == 17 and port == vxlan_port:
            self.chapter("outer.udp", UDP)
            self.chapter("vxlan", VXLAN)
            return True
        if protocol == 47:
            return self.gre()
        if protocol == 6 and port == STT_PORT:
            first = self.number(self.at + 6, 2) == 0
            words = max(0, self.number(self.at + 12, 1)) >> 4
            self.chapter("outer.tcp", TCP_OF_STT)
            self.take("outer.tcp.options", words * 4 - 20)
            if first:
                self.chapter("stt", STT)
            return first
        self.l4("outer", protocol)
        return False

    def inner(self) -> None:
        """Walk an inner frame to its end."""
        self.l4("inner", self.ip("inner", self.ethernet("inner", 2)))
        self.take("inner.payload", self.end - self.at)

    def close(self, rest: str) -> list[Field]:
        """Name what is left, and give all."""
        self.end = len(self.data)
        self.take(rest, self.end - self.at)
        return self.found


def fields(packet: Buffer, *, link: int = 0, vxlan_port: int = 4789) -> list[Field]:
    """The fields of a packet, outer and inner; together they are every byte of it.

    :param packet: a buffer of bytes, whole or cut, sound or not.
    :param link: 0 for Ethernet, 1 where the packet begins with IP.
    """
    walk = _Walk(byte_view(packet, "packet"))
    if link == 0:
        ethertype = walk.ethernet("outer", 1)
    else:
        ethertype = {4: 0x0800, 6: 0x86DD}.get(walk.number(0, 1) >> 4, -1)
    if walk.tunnel(walk.ip("outer", ethertype), vxlan_port):
        walk.inner()
    else:
        walk.take("outer.payload", walk.end - walk.at)
    return walk.close("outer.padding")


def frame_fields(frame: Buffer) -> list[Field]:
    """The fields of an inner frame; together they are every byte of it."""
    walk = _Walk(byte_view(frame, "frame"))
    walk.inner()
    return walk.close("inner.padding")


def name_at(found: Iterable[Field], offset: int) -> str:
    """The name of the field at ``offset``; ``"length"`` past the end of all."""
    for field in found:
        if field.offset <= offset < field.offset + field.size:
            return field.name
    return "length"
