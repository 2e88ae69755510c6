"""Layout: the name of the field at every byte of a packet or frame.

Lives here: names and sizes, for people who look at a packet (``check``,
``show``, ``mtu``).  Must not: any judgement; a field is named where the
headers before it say it would be, right or wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .codec import Buffer, byte_view
from .profile import Profile
from .tunnel import Tunnel

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
GENEVE: Chapter = (
    ("version_length", 1), ("flags", 1), ("protocol", 2), ("vni", 3), ("reserved", 1),
)  # fmt: skip
OPTION: Chapter = (("class", 2), ("type", 1), ("length", 1))
GPE: Chapter = (
    ("flags", 1), ("reserved", 2), ("next_protocol", 1), ("vni", 3), ("reserved", 1),
)  # fmt: skip
SHIM: Chapter = (("type", 1), ("length", 1), ("reserved", 1), ("next_protocol", 1))
ERSPAN: Chapter = (("version_vlan", 2), ("cos_session", 2))
ERSPAN_III: Chapter = (("timestamp", 4), ("security_group", 2), ("flags", 2))
STT: Chapter = (
    ("version", 1), ("flags", 1), ("l4_offset", 1), ("reserved", 1), ("mss", 2), ("tci", 2),
    ("context_id", 8), ("padding", 2),
)  # fmt: skip

VLANS = (0x8100, 0x88A8)
EXTENSIONS = (0, 43, 44, 60)
STT_PORT = 7471
TEB = 0x6558  # a whole frame follows
NEXT_PROTOCOLS = {1: 0x0800, 2: 0x86DD, 3: TEB}


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


_USUAL = Profile()


def _ports(by: Tunnel | Profile) -> dict[int, str]:
    """The protocol of each UDP port; of two that have one the first in decap's order."""
    if isinstance(by, Profile):
        return {
            by.geneve_port: "geneve",
            by.gpe_port: "vxlan-gpe",
            by.vxlan_port: "vxlan",
        }
    port: int | None = getattr(by, "port", None)
    return {} if port is None else {port: by.name}


def _is_plain_gre(by: Tunnel | Profile) -> bool:
    """Whether GRE with a key is no NVGRE."""
    if isinstance(by, Profile):
        return "nvgre" not in by.protocols and "gre" in by.protocols
    return by.name == "gre"


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

    def gre(self, plain: bool) -> int:
        """Walk GRE, which with a key is NVGRE unless ``plain``; what follows."""
        flags, protocol = self.number(self.at, 2), self.number(self.at + 2, 2)
        keyed = flags >= 0 and flags & 0x2000 and protocol == TEB
        name = "nvgre" if keyed and not plain else "gre"
        self.chapter(name, (("flags", 2), ("protocol", 2)))
        if flags < 0:
            return 0
        if flags & 0x8000:
            self.chapter(name, (("checksum", 2), ("reserved", 2)))
        if flags & 0x2000:
            key = (("vsid", 3), ("flow_id", 1)) if name == "nvgre" else (("key", 4),)
            self.chapter(name, key)
        if flags & 0x1000:
            self.take(f"{name}.sequence", 4)
        if flags & 7:
            return 0
        if protocol in (0x88BE, 0x22EB):
            return self.erspan(protocol, flags)
        return protocol if protocol in NEXT_PROTOCOLS.values() else 0

    def erspan(self, protocol: int, flags: int) -> int:
        """Walk ERSPAN behind GRE; what follows."""
        if not flags & 0x1000:
            return TEB
        last = self.number(self.at + 10, 2)
        self.chapter("erspan", ERSPAN)
        if protocol == 0x88BE:
            self.take("erspan.index", 4)
            return TEB
        self.chapter("erspan", ERSPAN_III)
        if last > 0 and last & 1:
            self.take("erspan.platform", 8)
        kind = last >> 10 & 0x1F if last >= 0 else 0
        version = {4: 0x0800, 6: 0x86DD}.get(self.number(self.at, 1) >> 4, 0)
        return {0: TEB, 2: version}.get(kind, 0)

    def geneve(self) -> int:
        """Walk GENEVE and its options; what follows."""
        first, protocol = self.number(self.at, 1), self.number(self.at + 2, 2)
        self.chapter("geneve", GENEVE)
        end = min(self.end, self.at + 4 * (max(0, first) & 0x3F))
        while self.at < end:
            words = max(0, self.number(self.at + 3, 1)) & 0x1F
            start = self.at
            self.chapter("geneve.option", OPTION)
            self.take("geneve.option.data", min(4 * words, end - start - 4))
        return protocol if protocol in NEXT_PROTOCOLS.values() else 0

    def gpe(self) -> int:
        """Walk VXLAN-GPE and its shim headers; what follows."""
        flags, following = self.number(self.at, 1), self.number(self.at + 3, 1)
        self.chapter("gpe", GPE)
        if flags >= 0 and not flags & 0x04:
            return TEB
        while following >= 0x80:
            words, following = self.number(self.at + 1, 1), self.number(self.at + 3, 1)
            self.chapter("gpe.shim", SHIM)
            self.take("gpe.shim.data", 4 * words)
        return NEXT_PROTOCOLS.get(following, 0)

    def tunnel(self, protocol: int, by: Tunnel | Profile) -> int:
        """Walk the tunnel's own headers; what follows: Ethernet, an EtherType, or 0."""
        port = self.number(self.at + 2, 2)
        if protocol == 17 and (name := _ports(by).get(port)):
            self.chapter("outer.udp", UDP)
            if name == "vxlan":
                self.chapter("vxlan", VXLAN)
                return TEB
            return self.geneve() if name == "geneve" else self.gpe()
        if protocol == 47:
            return self.gre(_is_plain_gre(by))
        if protocol == 6 and port == STT_PORT:
            first = self.number(self.at + 6, 2) == 0
            words = max(0, self.number(self.at + 12, 1)) >> 4
            self.chapter("outer.tcp", TCP_OF_STT)
            self.take("outer.tcp.options", words * 4 - 20)
            if first:
                self.chapter("stt", STT)
            return TEB if first else 0
        self.l4("outer", protocol)
        return 0

    def inner(self, carried: int = TEB) -> None:
        """Walk an inner frame, or an IP packet of this EtherType, to its end."""
        ethertype = self.ethernet("inner", 2) if carried == TEB else carried
        self.l4("inner", self.ip("inner", ethertype))
        self.take("inner.payload", self.end - self.at)

    def close(self, rest: str) -> list[Field]:
        """Name what is left, and give all."""
        self.end = len(self.data)
        self.take(rest, self.end - self.at)
        return self.found


def fields(packet: Buffer, *, link: int = 0, by: Tunnel | Profile = _USUAL) -> list[Field]:
    """The fields of a packet, outer and inner; together they are every byte of it.

    :param packet: a buffer of bytes, whole or cut, sound or not.
    :param link: 0 for Ethernet, 1 where the packet begins with IP.
    :param by: the tunnel that made the packet, or the profile that takes it: what its
        UDP port means, and whether GRE with a key is NVGRE.  By default the protocols'
        own ports, and it is.
    """
    walk = _Walk(byte_view(packet, "packet"))
    if link == 0:
        ethertype = walk.ethernet("outer", 1)
    else:
        ethertype = {4: 0x0800, 6: 0x86DD}.get(walk.number(0, 1) >> 4, -1)
    if carried := walk.tunnel(walk.ip("outer", ethertype), by):
        walk.inner(carried)
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
