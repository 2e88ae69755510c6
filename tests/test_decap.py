"""Decap of one packet: what comes back, whatever the outer headers look like."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cases
import frames
import laws
import strategies as s
import wire
from laws import refused
from overlay import Decapsulated, Status, Tunnel
from overlay.codec import Codec
from shims import BUILD, KEY, TAKES
from test_encap import plain


@given(tunnel=s.tunnels(), frame=s.frames(least=14))
def test_roundtrip(codec: Codec, tunnel: Tunnel, frame: bytes) -> None:
    """COM-14, VXLAN-4, VXLAN-16, NVGRE-6, STT-26, STT-27, STT-29, STT-30: decap gives back the
    frame and the key, and the described tunnel rebuilds the packet."""
    laws.check_roundtrip(codec, tunnel, frame)


@pytest.mark.parametrize("name", sorted(frames.ALL))
def test_roundtrip_of_every_kind(
    codec: Codec, protocol: type[Tunnel], family: int, name: str
) -> None:
    laws.check_roundtrip(codec, plain(protocol, family), frames.ALL[name])


@given(packet=st.binary(max_size=200), profile=s.profiles())
def test_garbage_is_refused(codec: Codec, packet: bytes, profile) -> None:
    """COM-19: any bytes are decapsulated within bounds or refused with a status."""
    laws.check_garbage_is_refused(codec, packet, profile)


@given(packet=s.corrupted(), profile=s.profiles())
def test_corrupted_packets_are_safe(codec: Codec, packet: bytes, profile) -> None:
    laws.check_garbage_is_refused(codec, packet, profile)


@pytest.mark.parametrize("padding", [1, 2, 7, 46, 1000])
def test_ethernet_padding_is_ignored(
    codec: Codec, protocol: type[Tunnel], family: int, padding: int
) -> None:
    """COM-4: what follows the IP total length belongs to no one."""
    packet = BUILD[protocol.name](frames.UDP4, family=family) + b"\xff" * padding
    assert codec.decap(packet, **TAKES[protocol.name]).frame == frames.UDP4


def test_bytes_after_the_udp_datagram_are_ignored(codec: Codec, family: int) -> None:
    body = wire.udp(struct.pack("!II", 8 << 24, 7 << 8) + frames.UDP4, 5, 4789,
                    wire.LOCAL[family], wire.REMOTE[family])  # fmt: skip
    packet = wire.packet(body + b"trailer", wire.UDP, family)
    assert codec.decap(packet).frame == frames.UDP4


def test_outer_ipv4_options(codec: Codec, protocol: type[Tunnel]) -> None:
    for words in range(1, 11):
        fields = {"options": b"\x01" * (4 * words)}
        packet = BUILD[protocol.name](frames.UDP4, ip_fields=fields)
        assert codec.decap(packet, **TAKES[protocol.name]).frame == frames.UDP4


def test_outer_ipv6_extensions(codec: Codec, protocol: type[Tunnel]) -> None:
    """Hop-by-hop, routing, destination options and an atomic fragment header are passed over."""
    atomic = (44, struct.pack("!BHI", 0, 0, 5))
    options = (60, b"\x01" + bytes(14))
    chain: list[tuple[int, bytes]] = [(0, bytes(7)), (43, bytes(7)), atomic]
    for count in range(9):
        extensions = (chain + [options] * 6)[:count]
        packet = BUILD[protocol.name](frames.UDP4, family=6, ip_fields={"extensions": extensions})
        expected = Status.IP_EXTENSION if count > 8 else Status.OK
        assert refused(codec, packet, **TAKES[protocol.name]) is expected
    # The reserved bits of a fragment header make no fragment.
    for word, status in [(0x0006, Status.OK), (0x0001, Status.IP_FRAGMENT),
                         (0x0008, Status.IP_FRAGMENT)]:  # fmt: skip
        extension = (44, struct.pack("!BHI", 0, word, 5))
        packet = BUILD[protocol.name](frames.UDP4, family=6, ip_fields={"extensions": [extension]})
        assert refused(codec, packet, **TAKES[protocol.name]) is status


@pytest.mark.parametrize("flags", [0x2000, 0x0001, 0x1FFF, 0x3FFF])
def test_outer_fragments_are_dropped(codec: Codec, protocol: type[Tunnel], flags: int) -> None:
    """COM-16, VXLAN-24, NVGRE-20: a fragment is never read as a tunnel header."""
    packet = BUILD[protocol.name](frames.UDP4, ip_fields={"flags": flags})
    assert refused(codec, packet, **TAKES[protocol.name]) is Status.IP_FRAGMENT
    assert refused(codec, packet, "lenient", **TAKES[protocol.name]) is Status.IP_FRAGMENT


@pytest.mark.parametrize("flags", [0x0000, 0x4000, 0x8000, 0xC000])
def test_df_and_the_reserved_ip_flag_make_no_fragment(
    codec: Codec, protocol: type[Tunnel], flags: int
) -> None:
    packet = BUILD[protocol.name](frames.UDP4, ip_fields={"flags": flags})
    assert codec.decap(packet, **TAKES[protocol.name]).frame == frames.UDP4


def test_outer_tag(codec: Codec, protocol: type[Tunnel], family: int) -> None:
    """VXLAN-27: one outer 802.1Q tag is parsed and described."""
    packet = BUILD[protocol.name](
        frames.UDP4, family=family, eth_fields={"tags": [(0x8100, 0xBABC)]}
    )
    result = codec.decap(packet, **TAKES[protocol.name])
    tunnel = result.tunnel
    assert (tunnel.outer_vlan, tunnel.outer_pcp, tunnel.outer_dei) == (0xABC, 5, True)
    assert codec.encap(tunnel, result.frame) == packet


def test_header_is_the_outer_headers(codec: Codec, protocol: type[Tunnel], family: int) -> None:
    packet = BUILD[protocol.name](frames.UDP4, family=family)
    result = codec.decap(packet, **TAKES[protocol.name])
    assert result.header == packet[: -len(frames.UDP4)]
    assert result.wire_length == len(frames.UDP4)
    assert (result.link, result.mss) == (0, 0)


def test_raw_ip(codec: Codec, protocol: type[Tunnel], family: int) -> None:
    """Captures may begin with IP: link 1."""
    packet = BUILD[protocol.name](frames.UDP4, family=family)
    result = codec.decap(packet[14:], link=1, **TAKES[protocol.name])
    assert (result.frame, result.link) == (frames.UDP4, 1)
    assert result.tunnel.remote_mac == result.tunnel.local_mac == "00:00:00:00:00:00"
    assert codec.encap(result.tunnel, result.frame)[14:] == packet[14:]


@pytest.mark.parametrize("cut", [1, 10, len(frames.UDP4) - 14])
def test_packets_that_a_capture_cut(codec: Codec, protocol: type[Tunnel], cut: int) -> None:
    """What is here of the frame is given, and its whole length is told."""
    packet = BUILD[protocol.name](frames.UDP4)
    known = tuple(dict.fromkeys(("vxlan", protocol.name)))
    result = codec.decap(packet[:-cut], wire_length=len(packet), protocols=known)
    assert result.frame == frames.UDP4[:-cut]
    assert result.wire_length == len(frames.UDP4)


def test_the_order_of_reasons(codec: Codec) -> None:
    """A packet wrong in many things is refused for the first of them."""
    wrong = wire.vxlan(b"", flags=0, reserved24=5, check=0xDEAD, port=1,
                       ip_fields={"check": 0xDEAD, "flags": 0x2000})  # fmt: skip
    assert refused(codec, wrong) is Status.IP_CHECKSUM
    wrong = wire.vxlan(b"", flags=0, check=0xDEAD, port=1, ip_fields={"flags": 0x2000})
    assert refused(codec, wrong) is Status.IP_FRAGMENT
    wrong = wire.vxlan(b"", flags=0, check=0xDEAD, port=1)
    assert refused(codec, wrong) is Status.UNKNOWN_PROTOCOL
    wrong = wire.vxlan(b"", flags=0, check=0xDEAD)
    assert refused(codec, wrong) is Status.UDP_CHECKSUM
    wrong = wire.vxlan(b"", flags=0)
    assert refused(codec, wrong) is Status.VXLAN_NO_VNI
    wrong = wire.vxlan(b"")
    assert refused(codec, wrong, keys={1}) is Status.UNKNOWN_KEY
    assert refused(codec, wrong) is Status.INNER_TOO_SHORT


def test_decap_many_keeps_the_places(codec: Codec) -> None:
    results = codec.decap_many([cases.VXLAN4, b"", cases.NVGRE4, cases.VXLAN4[:-1], cases.STT4])
    kinds = [r.protocol if isinstance(r, Decapsulated) else r.status for r in results]
    assert kinds == [
        "vxlan", Status.ETHERNET_TRUNCATED, "nvgre", Status.IP_LENGTH, "stt",
    ]  # fmt: skip


def test_results_are_values(codec: Codec) -> None:
    a, b = codec.decap(cases.VXLAN4), codec.decap(cases.VXLAN4)
    assert a == b
    assert hash(a) == hash(b)
    assert a != codec.decap(cases.NVGRE4)
    assert a != "something else"
    assert "vxlan" in repr(a)
    assert "0x123456" in repr(a)


def test_keys(codec: Codec, protocol: type[Tunnel]) -> None:
    """COM-17, VXLAN-28, VXLAN-31, NVGRE-27: only the keys that exist here are taken, whatever the
    FlowID, so that two networks that share a group or an underlay never meet."""
    key = 0x100 if protocol.name == "erspan" else 0x1000
    packet = BUILD[protocol.name](frames.UDP4, **{KEY[protocol.name]: key})
    takes = TAKES[protocol.name]
    assert codec.decap(packet, keys=[key], **takes).key == key
    assert codec.decap(packet, keys=range(0xF0, 0x1001), **takes).key == key
    for keys in ([], [key + 1], [key - 1, key + 1], [key << 4], [key << 8]):
        assert refused(codec, packet, keys=keys, **takes) is Status.UNKNOWN_KEY
    if protocol.name == "nvgre":
        for flow_id in range(256):
            packet = wire.nvgre(frames.UDP4, vsid=0x1000, flow_id=flow_id)
            assert codec.decap(packet, keys=[0x1000]).key == 0x1000
