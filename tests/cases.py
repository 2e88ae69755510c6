"""The catalogue of refusals: crafted traffic for every Status, by name.

Each case is wrong in exactly one thing.  `test_catalogue.py` runs them and fails
if a Status has none; the twins and the truncations take them as a corpus.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import frames
import shims
import wire
from overlay import ERSPAN, GRE, NVGRE, STT, VXLAN, VXLANGPE, Batch, Geneve, Status, Tunnel
from overlay.codec import Codec

LOCAL, REMOTE = wire.LOCAL, wire.REMOTE
ICMP4, TAGGED, TCP4, TCP6, UDP4, UDP6 = (
    frames.ICMP4, frames.TAGGED, frames.TCP4, frames.TCP6, frames.UDP4, frames.UDP6,
)  # fmt: skip


@dataclass(frozen=True)
class Decap:
    """A packet that decap refuses with `status`."""

    status: Status
    name: str
    packet: bytes
    profile: str = "rfc"
    link: int = 0
    wire_length: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, codec: Codec) -> object:
        return codec.decap(
            self.packet, self.profile, link=self.link, wire_length=self.wire_length, **self.options
        )


@dataclass(frozen=True)
class Encap:
    """A frame that encap refuses with `status`."""

    status: Status
    name: str
    tunnel: Tunnel
    frame: bytes
    mtu: int | None = None  # through packets(), where given

    def run(self, codec: Codec) -> object:
        if self.mtu is not None:
            return codec.packets(self.tunnel, self.frame, self.mtu)
        return codec.encap(self.tunnel, self.frame)


@dataclass(frozen=True)
class Rows:
    """A batch or a stream whose last row ends with `status`."""

    status: Status
    name: str
    run: Callable[[Codec], int]


def outer(**ip_fields: Any) -> dict[str, Any]:
    return {"ip_fields": ip_fields}


def tunnel(cls: type[Tunnel], **fields: Any) -> Tunnel:
    """A plain tunnel of this class over IPv4."""
    key = {cls.key_field: 0x5001 if cls is not ERSPAN else 0x155}
    return cls(**{"local": LOCAL[4], "remote": REMOTE[4], **key, **fields})


# -- decap: link layer and IP ----------------------------------------------------------

VXLAN4 = wire.vxlan(ICMP4)
VXLAN4_SUM = wire.vxlan(ICMP4, check=-1)
VXLAN6 = wire.vxlan(ICMP4, family=6)
NVGRE4 = wire.nvgre(ICMP4)
NVGRE6 = wire.nvgre(ICMP4, family=6)
STT4 = wire.stt(ICMP4)
STT6 = wire.stt(ICMP4, family=6)
PARTIAL4 = {"stt_flags": 0x0E, "l4_offset": 34}
PARTIAL6 = {"stt_flags": 0x0A, "l4_offset": 54}


def _hop_by_hop(words: int) -> tuple[int, bytes]:
    return 0, bytes([words]) + bytes(6 + 8 * words)


_NINE = [_hop_by_hop(0)] + [(60, bytes(7))] * 8
_FRAGMENT = {"offset": 0x0008, "more": 0x0001}


def _udp_cut_to(size: int) -> bytes:
    body = wire.udp(b"", 5, 4789, LOCAL[4], REMOTE[4])[:size]
    return wire.packet(body, wire.UDP)


LINK = [
    Decap(Status.LINK_TYPE, "link 2", VXLAN4, link=2),
    Decap(Status.ETHERNET_TRUNCATED, "empty", b""),
    Decap(Status.ETHERNET_TRUNCATED, "13 bytes", VXLAN4[:13]),
    Decap(Status.ETHERNET_TRUNCATED, "tag cut", bytes(12) + b"\x81\x00\x00\x64\x08"),
    Decap(Status.NOT_IP, "ARP", frames.ARP),
    Decap(Status.NOT_IP, "two outer tags",
          wire.vxlan(ICMP4, eth_fields={"tags": [(0x8100, 1), (0x8100, 2)]})),
    Decap(Status.NOT_IP, "outer 802.1ad tag",
          wire.vxlan(ICMP4, eth_fields={"tags": [(0x88A8, 1)]})),
    Decap(Status.IP_TRUNCATED, "nothing after Ethernet", VXLAN4[:14]),
    Decap(Status.IP_TRUNCATED, "IPv4 of 19 bytes", VXLAN4[:33]),
    Decap(Status.IP_TRUNCATED, "IPv4 options cut",
          wire.vxlan(ICMP4, **outer(options=bytes(8)))[:40]),
    Decap(Status.IP_TRUNCATED, "IPv6 of 39 bytes", VXLAN6[:53]),
    Decap(Status.IP_TRUNCATED, "raw and empty", b"", link=1),
    Decap(Status.IP_VERSION, "IPv4 says 6", wire.vxlan(ICMP4, **outer(version=6))),
    Decap(Status.IP_VERSION, "IPv6 says 4", wire.vxlan(ICMP4, family=6, **outer(version=4))),
    Decap(Status.IP_VERSION, "raw 5", b"\x55" + VXLAN4[15:], link=1),
    Decap(Status.IP_HEADER_LENGTH, "IHL 4", wire.vxlan(ICMP4, **outer(ihl=4))),
    Decap(Status.IP_LENGTH, "IPv4 beyond the packet", VXLAN4[:-1]),
    Decap(Status.IP_LENGTH, "IPv4 within its header", wire.vxlan(ICMP4, **outer(total=19))),
    Decap(Status.IP_LENGTH, "IPv4 zero", wire.vxlan(ICMP4, **outer(total=0))),
    Decap(Status.IP_LENGTH, "IPv6 beyond the packet", VXLAN6[:-1]),
    Decap(Status.IP_CHECKSUM, "wrong", wire.vxlan(ICMP4, **outer(check=0xDEAD))),
    Decap(Status.IP_CHECKSUM, "zero", wire.vxlan(ICMP4, **outer(check=0))),
    Decap(Status.IP_FRAGMENT, "first", wire.vxlan(ICMP4, **outer(flags=0x2000))),
    Decap(Status.IP_FRAGMENT, "last", wire.vxlan(ICMP4, **outer(flags=0x0001))),
    Decap(Status.IP_EXTENSION, "beyond the packet",
          wire.vxlan(ICMP4, family=6, **outer(extensions=[(0, b"\xff" + bytes(6))]))),
    Decap(Status.IP_EXTENSION, "a ninth",
          wire.vxlan(ICMP4, family=6, **outer(extensions=_NINE))),
    Decap(Status.IP_EXTENSION, "cut in its first bytes", wire.packet(bytes(7), 60, 6)),
    Decap(Status.IP_EXTENSION, "fragment header cut", wire.packet(bytes(7), 44, 6)),
] + [
    Decap(Status.IP_FRAGMENT, f"IPv6 {name}", wire.vxlan(
        ICMP4, family=6, **outer(extensions=[(44, struct.pack("!BHI", 0, word, 1))])))
    for name, word in _FRAGMENT.items()
]  # fmt: skip

PROTOCOL = [
    Decap(Status.UNKNOWN_PROTOCOL, "ICMP", wire.packet(bytes(30), wire.ICMP)),
    Decap(Status.UNKNOWN_PROTOCOL, "another UDP port", wire.vxlan(ICMP4, port=4788)),
    Decap(Status.UNKNOWN_PROTOCOL, "VXLAN as source port",
          wire.vxlan(ICMP4, sport=4789, port=53)),
    Decap(Status.UNKNOWN_PROTOCOL, "another TCP port", wire.stt(ICMP4, port=80)),
    Decap(Status.UNKNOWN_PROTOCOL, "no next header", wire.packet(b"", 59, 6)),
    Decap(Status.UNKNOWN_PROTOCOL, "VXLAN not named", VXLAN4, options={"protocols": ("nvgre",)}),
    Decap(Status.UNKNOWN_PROTOCOL, "NVGRE not named", NVGRE4, options={"protocols": ("stt",)}),
    Decap(Status.UNKNOWN_PROTOCOL, "STT not named", STT4, options={"protocols": ("vxlan",)}),
    Decap(Status.UDP_TRUNCATED, "7 bytes", _udp_cut_to(7)),
    Decap(Status.UDP_TRUNCATED, "none", _udp_cut_to(0)),
    Decap(Status.UDP_LENGTH, "7", wire.vxlan(ICMP4, length=7)),
    Decap(Status.UDP_LENGTH, "0", wire.vxlan(ICMP4, length=0)),
    Decap(Status.UDP_LENGTH, "one too many",
          wire.vxlan(ICMP4, length=8 + 8 + len(ICMP4) + 1)),
    Decap(Status.UDP_CHECKSUM, "IPv4", wire.vxlan(ICMP4, check=0xDEAD)),
    Decap(Status.UDP_CHECKSUM, "IPv6", wire.vxlan(ICMP4, family=6, check=0xDEAD)),
    Decap(Status.UDP_ZERO_CHECKSUM, "no leave", wire.vxlan(ICMP4, family=6, check=0)),
    Decap(Status.UDP_ZERO_CHECKSUM, "another pair", wire.vxlan(ICMP4, family=6, check=0),
          options={"zero_checksum6": ((LOCAL[6], REMOTE[6]),)}),
    Decap(Status.HEADER_TRUNCATED, "VXLAN of 7 bytes", wire.packet(
        wire.udp(bytes(7), 5, 4789, LOCAL[4], REMOTE[4]), wire.UDP)),
    Decap(Status.HEADER_TRUNCATED, "GRE of 3 bytes", wire.packet(b"\x20\x00\x65", wire.GRE)),
    Decap(Status.HEADER_TRUNCATED, "GRE of 7 bytes",
          wire.packet(bytes.fromhex("20006558000010"), wire.GRE)),
    Decap(Status.HEADER_TRUNCATED, "GRE without its sequence",
          wire.packet(bytes.fromhex("300065580000100000"), wire.GRE), profile="lenient"),
    Decap(Status.HEADER_TRUNCATED, "STT cut by the capture", STT4[: 14 + 20 + 20 + 17],
          wire_length=len(STT4)),
]  # fmt: skip

# -- decap: the three protocols ------------------------------------------------------------

TUNNELS = [
    Decap(Status.VXLAN_NO_VNI, "I clear", wire.vxlan(ICMP4, flags=0)),
    Decap(Status.VXLAN_NO_VNI, "only I clear", wire.vxlan(ICMP4, flags=0xF7)),
    Decap(Status.VXLAN_RESERVED, "flag", wire.vxlan(ICMP4, flags=0x09), "strict"),
    Decap(Status.VXLAN_RESERVED, "24 bits", wire.vxlan(ICMP4, reserved24=1), "strict"),
    Decap(Status.VXLAN_RESERVED, "8 bits", wire.vxlan(ICMP4, reserved8=1), "strict"),
    Decap(Status.VXLAN_RESERVED, "GBP not in use",
          wire.vxlan(ICMP4, flags=0x88, reserved24=0x1234), "strict"),
    Decap(Status.GRE_VERSION, "1", wire.nvgre(ICMP4, word=0x2001)),
    Decap(Status.GRE_ROUTING, "R", wire.nvgre(ICMP4, word=0x6000)),
    Decap(Status.GRE_PROTOCOL, "IPv4", wire.nvgre(ICMP4, proto=0x0800)),
    Decap(Status.GRE_NO_KEY, "no K", wire.nvgre(ICMP4, word=0x0000)),
    Decap(Status.GRE_CHECKSUM_PRESENT, "C", wire.nvgre(ICMP4, word=0xA000)),
    Decap(Status.GRE_SEQUENCE_PRESENT, "S", wire.nvgre(ICMP4, word=0x3000)),
    Decap(Status.GRE_RESERVED, "bit 4", wire.nvgre(ICMP4, word=0x2800)),
    Decap(Status.GRE_RESERVED, "bit 5", wire.nvgre(ICMP4, word=0x2400)),
    Decap(Status.GRE_RESERVED, "bit 12", wire.nvgre(ICMP4, word=0x2008), "strict"),
    Decap(Status.GRE_CHECKSUM, "wrong", wire.nvgre(ICMP4, word=0xA000, check=0xDEAD), "lenient"),
    Decap(Status.NVGRE_VSID, "0xFFF", wire.nvgre(ICMP4, vsid=0xFFF),
          options={"reserved_vsid": "drop"}),
    Decap(Status.NVGRE_VSID, "0xFFFFFF", wire.nvgre(ICMP4, vsid=0xFFFFFF),
          options={"reserved_vsid": "drop"}),
    Decap(Status.TCP_TRUNCATED, "19 bytes", wire.packet(STT4[34:53], wire.TCP)),
    Decap(Status.TCP_CHECKSUM, "IPv4", wire.stt(ICMP4, check=0xDEAD)),
    Decap(Status.TCP_CHECKSUM, "IPv6", wire.stt(ICMP4, family=6, check=0xDEAD)),
    Decap(Status.STT_DATA_OFFSET, "6", wire.stt(ICMP4, options=bytes(4))),
    Decap(Status.STT_DATA_OFFSET, "4", wire.stt(ICMP4, data_offset=4), "lenient"),
    Decap(Status.STT_DATA_OFFSET, "past the packet", wire.packet(
        wire.tcp(b"", 5, 7471, LOCAL[4], REMOTE[4], data_offset=15), wire.TCP), "lenient"),
    Decap(Status.STT_EMPTY, "no payload", wire.stt_segment(b"", frame_length=100, offset=0)),
    Decap(Status.STT_LENGTH, "31", wire.stt(bytes(13))),
    Decap(Status.STT_BOUNDS, "one byte too far",
          wire.stt_segment(bytes(50), frame_length=100, offset=51)),
    Decap(Status.STT_INCOMPLETE, "first half",
          wire.stt_segment(bytes(50), frame_length=100, offset=0)),
    Decap(Status.STT_INCOMPLETE, "second half",
          wire.stt_segment(bytes(50), frame_length=100, offset=50)),
    Decap(Status.STT_VERSION, "1", wire.stt(ICMP4, version=1)),
    Decap(Status.STT_FLAGS, "C and P", wire.stt(TCP4, stt_flags=0x0F, l4_offset=34)),
]  # fmt: skip

# -- decap: the inner frame ------------------------------------------------------------------

_SHORT_IP = frames.udp_frame(b"")


def _claims(frame: bytes, at: int, value: int) -> bytes:
    """The frame with 16 bits changed."""
    return frame[:at] + struct.pack("!H", value) + frame[at + 2 :]


INNER = [
    Decap(Status.UNKNOWN_KEY, "VNI", VXLAN4, options={"keys": {1}}),
    Decap(Status.UNKNOWN_KEY, "VSID", NVGRE4, options={"keys": {0x00ABCD5A}}),
    Decap(Status.UNKNOWN_KEY, "Context ID", STT4, options={"keys": {0x55667788}}),
    Decap(Status.UNKNOWN_KEY, "no key at all", VXLAN4, options={"keys": ()}),
    Decap(Status.INNER_TOO_SHORT, "VXLAN 13", wire.vxlan(bytes(13))),
    Decap(Status.INNER_TOO_SHORT, "VXLAN 0", wire.vxlan(b"")),
    Decap(Status.INNER_TOO_SHORT, "UDP length short",
          wire.vxlan(ICMP4, length=8 + 8 + 13)),
    Decap(Status.INNER_TOO_SHORT, "NVGRE 13", wire.nvgre(bytes(13))),
    Decap(Status.INNER_TOO_SHORT, "STT cut by the capture", STT4[: 14 + 20 + 38 + 13],
          wire_length=len(STT4)),
    Decap(Status.INNER_TAGGED, "NVGRE", wire.nvgre(TAGGED)),
    Decap(Status.INNER_TAGGED, "NVGRE 802.1ad", wire.nvgre(frames.PROVIDER_TAGGED)),
    Decap(Status.INNER_TAGGED, "NVGRE under strip", wire.nvgre(TAGGED),
          options={"inner_vlan": "strip"}),
    Decap(Status.INNER_TAGGED, "VXLAN rejects", wire.vxlan(TAGGED),
          options={"inner_vlan": "reject"}),
    Decap(Status.INNER_TAGGED, "STT rejects", wire.stt(TAGGED),
          options={"inner_vlan": "reject"}),
    Decap(Status.INNER_TAGGED, "STT rejects its TCI", wire.stt(UDP4, tci=0x1000),
          options={"inner_vlan": "reject"}),
    Decap(Status.STT_L4_OFFSET, "33 with V", wire.stt(TCP4, stt_flags=0x0E, l4_offset=33)),
    Decap(Status.STT_L4_OFFSET, "53 without V", wire.stt(TCP6, stt_flags=0x0A, l4_offset=53)),
    Decap(Status.STT_L4_OFFSET, "0 with P", wire.stt(TCP4, stt_flags=0x0E)),
    Decap(Status.STT_L4_HEADER, "TCP beyond the frame",
          wire.stt(TCP4[: 34 + 19], **PARTIAL4)),
    Decap(Status.STT_L4_HEADER, "UDP beyond the frame",
          wire.stt(_SHORT_IP[: 34 + 7], stt_flags=0x06, l4_offset=34)),
    Decap(Status.STT_OFFLOAD, "V over IPv6", wire.stt(TCP6, stt_flags=0x0E, l4_offset=54)),
    Decap(Status.STT_OFFLOAD, "no V over IPv4", wire.stt(TCP4, stt_flags=0x0A, l4_offset=54)),
    Decap(Status.STT_OFFLOAD, "another EtherType",
          wire.stt(_claims(TCP4, 12, 0x88B5), **PARTIAL4)),
    Decap(Status.STT_OFFLOAD, "IPv4 ends past the frame",
          wire.stt(_claims(TCP4, 16, len(TCP4) - 14 + 1), **PARTIAL4)),
    Decap(Status.STT_OFFLOAD, "IPv6 ends past the frame",
          wire.stt(_claims(TCP6, 18, len(TCP6) - 54 + 1), **PARTIAL6)),
    Decap(Status.STT_OFFLOAD, "IPv4 ends before TCP does",
          wire.stt(_claims(TCP4, 16, 39), **PARTIAL4)),
    Decap(Status.STT_OFFLOAD, "IHL beyond the L4 offset",
          wire.stt(TCP4[:14] + b"\x46" + TCP4[15:], **PARTIAL4)),
    Decap(Status.STT_OFFLOAD, "IHL 4",
          wire.stt(TCP4[:14] + b"\x44" + TCP4[15:], **PARTIAL4)),
    Decap(Status.ECN_CONGESTION, "VXLAN", wire.vxlan(ICMP4, **outer(tos=3))),
    Decap(Status.ECN_CONGESTION, "NVGRE over IPv6", wire.nvgre(UDP6, family=6, **outer(tos=3))),
    Decap(Status.ECN_CONGESTION, "STT", wire.stt(UDP4, **outer(tos=0xBB))),
    Decap(Status.ECN_CONGESTION, "under a tag", wire.vxlan(TAGGED, **outer(tos=3))),
]  # fmt: skip

_GRE = {"protocols": ("gre",)}
_SOME_SHIMS = b"".join(shims.shim(0x80) for _ in range(8)) + shims.shim(3)

NEWER = [
    Decap(Status.GENEVE_VERSION, "1", shims.geneve(ICMP4, version=1)),
    Decap(Status.GENEVE_CONTROL, "O", shims.geneve(ICMP4, flags=0x80)),
    Decap(Status.GENEVE_PROTOCOL, "ARP", shims.geneve(ICMP4, proto=0x0806), "lenient"),
    Decap(Status.GENEVE_PROTOCOL, "IPv4", shims.geneve(ICMP4[14:], proto=0x0800)),
    Decap(Status.GENEVE_OPTIONS, "data past the end",
          shims.geneve(ICMP4, options=shims.option(1, 1, words=1))),
    Decap(Status.GENEVE_CRITICAL, "0xFFFF 0x80",
          shims.geneve(ICMP4, options=shims.option(0xFFFF, 0x80))),
    Decap(Status.HEADER_TRUNCATED, "GENEVE options cut", shims.geneve(ICMP4[:40], words=63)),
    Decap(Status.UDP_CHECKSUM, "GENEVE", shims.geneve(ICMP4, check=0xDEAD)),
    Decap(Status.GPE_VERSION, "1", shims.gpe(ICMP4, flags=0x1C)),
    Decap(Status.VXLAN_NO_VNI, "VXLAN-GPE", shims.gpe(ICMP4, flags=0x04)),
    Decap(Status.GPE_CONTROL, "O", shims.gpe(ICMP4, flags=0x0D)),
    Decap(Status.VXLAN_RESERVED, "VXLAN-GPE", shims.gpe(ICMP4, reserved8=1), "strict"),
    Decap(Status.GPE_NEXT_PROTOCOL, "NSH", shims.gpe(ICMP4, following=4), "lenient"),
    Decap(Status.GPE_NEXT_PROTOCOL, "3 without P", shims.gpe(ICMP4, flags=0x08)),
    Decap(Status.GPE_NEXT_PROTOCOL, "strict without P",
          shims.gpe(ICMP4, flags=0x08, following=0), "strict"),
    Decap(Status.GPE_NEXT_PROTOCOL, "IPv4", shims.gpe(ICMP4[14:], following=1)),
    Decap(Status.GPE_SHIM, "a ninth", shims.gpe(_SOME_SHIMS + ICMP4, following=0x80)),
    Decap(Status.HEADER_TRUNCATED, "a shim header cut", shims.gpe(b"\0\0\0", following=0x80)),
    Decap(Status.GRE_PROTOCOL, "GRE", shims.gretap(ICMP4, proto=0x0806), options=_GRE),
    Decap(Status.GRE_CHECKSUM, "GRE", shims.gretap(ICMP4, summed=True, check=0xDEAD),
          options=_GRE),
    Decap(Status.UNKNOWN_KEY, "no GRE key", shims.gretap(ICMP4), options={**_GRE, "keys": {0}}),
    Decap(Status.INNER_TOO_SHORT, "IPv6 of 39 bytes",
          shims.gretap(TCP6[14:53], proto=0x86DD), "lenient"),
    Decap(Status.ECN_CONGESTION, "IP in GRE",
          shims.gretap(ICMP4[14:], proto=0x0800, **outer(tos=3)),
          options={**_GRE, "payload": "any"}),
    Decap(Status.ERSPAN_VERSION, "2 in type II", shims.erspan(ICMP4, header={"version": 2})),
    Decap(Status.ERSPAN_SEQUENCE, "K", shims.erspan(ICMP4, word=0x3000)),
    Decap(Status.ERSPAN_SEQUENCE, "type III without a number",
          shims.erspan(ICMP4, 3, word=0)),
    Decap(Status.ERSPAN_FRAME_TYPE, "1", shims.erspan(ICMP4, 3, header={"last": 0x8400})),
]  # fmt: skip

DECAP = LINK + PROTOCOL + TUNNELS + INNER + NEWER

# -- encap -------------------------------------------------------------------------------------

ENCAP = [
    Encap(Status.FRAME_TOO_SHORT, "empty", tunnel(VXLAN), b""),
    Encap(Status.FRAME_TOO_SHORT, "13 bytes", tunnel(STT), bytes(13)),
    Encap(Status.FRAME_TOO_SHORT, "a tag and nothing", tunnel(NVGRE), TAGGED[:17]),
    Encap(Status.FRAME_TOO_SHORT, "two tags and nothing",
          tunnel(VXLAN, inner_vlan="strip"), frames.DOUBLE_TAGGED[:21]),
    Encap(Status.FRAME_TOO_SHORT, "a tag that moves and nothing", tunnel(STT), TAGGED[:17]),
    Encap(Status.FRAME_TAGGED, "reject", tunnel(VXLAN, inner_vlan="reject"), TAGGED),
    Encap(Status.FRAME_TAGGED, "reject 802.1ad", tunnel(STT, inner_vlan="reject"),
          frames.PROVIDER_TAGGED),
    Encap(Status.FRAME_TAGGED, "a third tag", tunnel(NVGRE), frames.TRIPLE_TAGGED),
    Encap(Status.FRAME_TOO_LONG, "VXLAN IPv4", tunnel(VXLAN), bytes(65535 - 36 + 1)),
    Encap(Status.FRAME_TOO_LONG, "VXLAN IPv6",
          tunnel(VXLAN, local=LOCAL[6], remote=REMOTE[6]), bytes(65535 - 16 + 1)),
    Encap(Status.FRAME_TOO_LONG, "NVGRE IPv4", tunnel(NVGRE), bytes(65535 - 28 + 1)),
    Encap(Status.FRAME_TOO_LONG, "STT IPv4", tunnel(STT), bytes(65535 - 58 + 1)),
    Encap(Status.FRAME_TOO_LONG, "STT, segmented", tunnel(STT), bytes(65518), mtu=1500),
    Encap(Status.MTU_EXCEEDED, "VXLAN", tunnel(VXLAN), bytes(1465), mtu=1500),
    Encap(Status.MTU_EXCEEDED, "NVGRE", tunnel(NVGRE), bytes(1473), mtu=1500),
    Encap(Status.FRAME_NOT_IP, "ARP", tunnel(Geneve, payload="ip"), frames.ARP),
    Encap(Status.FRAME_NOT_IP, "IPv4 of 19 bytes", tunnel(GRE, payload="ip"), ICMP4[:33]),
    Encap(Status.FRAME_TAGGED, "reject IP", tunnel(VXLANGPE, payload="ip", inner_vlan="reject"),
          TAGGED),
    Encap(Status.FRAME_TOO_LONG, "GENEVE", tunnel(Geneve), bytes(65535 - 36 + 1)),
    Encap(Status.MTU_EXCEEDED, "ERSPAN", tunnel(ERSPAN), bytes(1465), mtu=1500),
]  # fmt: skip


# -- rows -----------------------------------------------------------------------------------------


def _bad_row(codec: Codec) -> int:
    batch = Batch.from_frames([ICMP4])
    batch.offset[0] = batch.data.size + 1
    codec.encap_batch(batch, tunnel(VXLAN))
    return int(batch.status[0])


def _no_headroom(codec: Codec) -> int:
    batch = Batch.from_frames([ICMP4], headroom=49)
    codec.encap_batch(batch, tunnel(VXLAN))
    return int(batch.status[0])


def _no_room(codec: Codec) -> int:
    batch = Batch.from_frames([ICMP4])
    codec.encap_into(batch, Batch.packed(50 + len(ICMP4) - 1, 1), tunnel(VXLAN))
    return int(batch.status[0])


def _frame_cut(codec: Codec) -> int:
    batch = Batch.from_frames([ICMP4])
    batch.wire[0] += 1
    codec.encap_batch(batch, tunnel(STT))
    return int(batch.status[0])


def _second_push(low: int, high: int) -> Callable[[Codec], int]:
    def run(codec: Codec) -> int:
        packets = [
            wire.stt_segment(bytes(b - a), frame_length=100, offset=a)
            for a, b in [(20, 60), (low, high)]
        ]
        batch = Batch.from_frames(packets)
        codec.SttReassembler().push_batch(batch, Batch.packed(65536, 4), 0.0)
        return int(batch.status[1])

    return run


def _cut_segment(codec: Codec) -> int:
    batch = Batch.from_frames([wire.stt_segment(bytes(50), frame_length=100, offset=0)[:-1]])
    batch.wire[0] += 1
    codec.SttReassembler().push_batch(batch, Batch.packed(65536, 4), 0.0)
    return int(batch.status[0])


ROWS = [
    Rows(Status.BAD_ROW, "offset past the data", _bad_row),
    Rows(Status.NO_HEADROOM, "49 bytes for 50", _no_headroom),
    Rows(Status.NO_ROOM, "one byte too few", _no_room),
    Rows(Status.FRAME_CUT, "one byte cut", _frame_cut),
    Rows(Status.FRAME_CUT, "a segment", _cut_segment),
    Rows(Status.STT_DUPLICATE, "the same", _second_push(20, 60)),
    Rows(Status.STT_DUPLICATE, "a part", _second_push(30, 40)),
    Rows(Status.STT_OVERLAP, "before", _second_push(10, 21)),
    Rows(Status.STT_OVERLAP, "after", _second_push(59, 100)),
    Rows(Status.STT_OVERLAP, "around", _second_push(0, 100 - 1)),
]

#: Packets that every profile takes.
ACCEPTED = {
    "vxlan4": VXLAN4,
    "vxlan4 sum": VXLAN4_SUM,
    "vxlan6": VXLAN6,
    "vxlan tagged": wire.vxlan(ICMP4, eth_fields={"tags": [(0x8100, 0x6064)]}),
    "nvgre4": NVGRE4,
    "nvgre6": NVGRE6,
    "stt4": STT4,
    "stt6": STT6,
    "stt tci": wire.stt(UDP4, tci=0x7064),
    "stt partial tcp": wire.stt(TCP4, mss=40, **PARTIAL4),
    "stt partial tcp6": wire.stt(TCP6, **PARTIAL6),
    "stt partial udp": wire.stt(UDP4, stt_flags=0x06, l4_offset=34),
    "ipv4 options": wire.vxlan(UDP6, **outer(options=bytes(40))),
    "ipv6 extensions": wire.nvgre(
        UDP4, family=6, **outer(extensions=[_hop_by_hop(1), (43, bytes(7)), (60, bytes(7))])
    ),
    "padded": wire.nvgre(frames.EMPTY) + bytes(8),
    "geneve4": shims.geneve(ICMP4),
    "geneve6 options": shims.geneve(TCP6, family=6, options=shims.option(1, 2, bytes(8))),
    "gpe4": shims.gpe(ICMP4),
    "gpe6": shims.gpe(ICMP4, family=6),
    "erspan 1": shims.erspan(ICMP4, 1),
    "erspan 2": shims.erspan(TAGGED, 2),
    "erspan 3": shims.erspan(UDP6, 3, family=6),
}
