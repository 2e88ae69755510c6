"""VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frames
import laws
import wire
from laws import refused
from overlay import VXLANGPE, Batch, ConfigError, Status
from overlay.codec import Codec
from shims import gpe, shim
from test_encap import plain

UDP4 = frames.UDP4


def body(packet: bytes) -> bytes:
    """What follows UDP."""
    return wire.parse(packet).body[8:]


def test_header(codec: Codec, family: int) -> None:
    """GPE-2, GPE-4: I and P, next protocol 3, the VNI, and zeros."""
    packet = codec.encap(plain(VXLANGPE, family, vni=0xABCDEF), UDP4)
    assert body(packet) == bytes.fromhex("0c000003abcdef00") + UDP4


@pytest.mark.parametrize(
    ("frame", "following"), [(UDP4, 1), (frames.TCP6, 2), (frames.DOUBLE_TAGGED, 1)]
)
def test_ip_header(codec: Codec, family: int, frame: bytes, following: int) -> None:
    """GPE-2: the IP packet alone, and which it is."""
    tunnel = plain(VXLANGPE, family, vni=7, payload="ip")
    packet = codec.encap(tunnel, frame)
    inside = wire.untag(frame)
    assert body(packet) == bytes((0x0C, 0, 0, following, 0, 0, 7, 0)) + inside[14:]
    found = codec.decap(packet, payload="any")
    assert found.frame == bytes(12) + inside[12:]
    assert found.header == packet[: 14 - len(inside)]
    assert codec.encap(found.tunnel, found.frame) == packet
    for profile in ("rfc", "strict"):
        assert refused(codec, packet, profile) is Status.GPE_NEXT_PROTOCOL


@given(vni=st.integers(0, 0xFFFFFF))
def test_every_vni_comes_back(codec: Codec, vni: int) -> None:
    result = codec.decap(codec.encap(plain(VXLANGPE, vni=vni), UDP4), "strict")
    assert result.key == result.tunnel.key == vni


@pytest.mark.parametrize("vni", [-1, 0x1000000, None, "5"])
def test_a_vni_beyond_24_bits_is_refused(vni: object) -> None:
    with pytest.raises(ConfigError, match=r"vni=.*0\.\.16777215"):
        plain(VXLANGPE, vni=vni)


def test_ports(codec: Codec, family: int) -> None:
    """GPE-1: 4790, or another by choice; VXLAN's is not it."""
    packet = codec.encap(plain(VXLANGPE, family), UDP4)
    assert struct.unpack_from("!H", wire.parse(packet).body, 2) == (4790,)
    other = codec.encap(plain(VXLANGPE, family, port=4000), UDP4)
    assert refused(codec, other) is Status.UNKNOWN_PROTOCOL
    assert codec.decap(other, gpe_port=4000).tunnel.port == 4000
    assert codec.decap(gpe(UDP4, port=4789)).protocol == "vxlan"
    # Of two protocols with one port VXLAN has it.
    assert codec.decap(packet, vxlan_port=4790).protocol == "vxlan"
    assert codec.decap(packet, vxlan_port=4790, protocols=["vxlan-gpe"]).protocol == "vxlan-gpe"


def test_df_is_set(codec: Codec) -> None:
    """GPE-6: by default, and what is too long is refused, not cut."""
    assert wire.parse(codec.encap(plain(VXLANGPE), UDP4)).flags == 0x4000
    result = laws.outcome(lambda: codec.packets(plain(VXLANGPE), frames.JUMBO, 1500))
    assert result is Status.MTU_EXCEEDED


def test_checksum_by_default(codec: Codec, family: int) -> None:
    """GPE-7: over both; zero over IPv6 is taken with leave only."""
    outer = wire.parse(codec.encap(plain(VXLANGPE, family), UDP4))
    assert outer.body[6:8] != b"\0\0"
    assert wire.checksum(outer.pseudo + outer.body) == 0
    zero = gpe(UDP4, family=6, check=0)
    assert refused(codec, zero) is Status.UDP_ZERO_CHECKSUM
    assert codec.decap(zero, zero_checksum6=[(wire.REMOTE[6], wire.LOCAL[6])]).frame == UDP4
    assert refused(codec, gpe(UDP4, family=family, check=0xDEAD)) is Status.UDP_CHECKSUM


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_version_and_i(codec: Codec, profile: str) -> None:
    """GPE-3, GPE-4."""
    for version in (1, 2, 3):
        packet = gpe(UDP4, flags=0x0C | version << 4)
        assert refused(codec, packet, profile) is Status.GPE_VERSION
    assert refused(codec, gpe(UDP4, flags=0x04), profile) is Status.VXLAN_NO_VNI
    assert refused(codec, gpe(UDP4, flags=0x14), profile) is Status.GPE_VERSION


def test_control_packets_are_not_forwarded(codec: Codec) -> None:
    """GPE-5."""
    packet = gpe(UDP4, flags=0x0D)
    for profile in ("rfc", "strict"):
        assert refused(codec, packet, profile) is Status.GPE_CONTROL
    assert codec.decap(packet, "lenient").frame == UDP4


def test_without_p(codec: Codec) -> None:
    """GPE-2, GPE-9: Ethernet, where the next protocol is 0 too; strict has none of it."""
    packet = gpe(UDP4, flags=0x08, following=0)
    assert codec.decap(packet).frame == UDP4
    assert refused(codec, packet, "strict") is Status.GPE_NEXT_PROTOCOL
    for following in (1, 2, 3, 4, 0x80, 0xFF):
        other = gpe(UDP4, flags=0x08, following=following)
        for profile in ("rfc", "strict"):
            assert refused(codec, other, profile) is Status.GPE_NEXT_PROTOCOL
        assert codec.decap(other, "lenient").frame == UDP4
    assert codec.decap(packet).tunnel.payload == "ethernet"


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
@pytest.mark.parametrize("following", [0, 4, 5, 6, 0x7D, 0x7E, 0x7F])
def test_unknown_next_protocols(codec: Codec, profile: str, following: int) -> None:
    """GPE-9: NSH, MPLS and what is not assigned."""
    packet = gpe(UDP4, following=following)
    assert refused(codec, packet, profile) is Status.GPE_NEXT_PROTOCOL


def test_reserved_bits(codec: Codec) -> None:
    """Ignored, and refused by strict; B, which says that the frame was replicated, is neither."""
    for fields in (
        {"flags": 0x8C}, {"flags": 0x4C}, {"reserved16": 1}, {"reserved16": 0x8000},
        {"reserved8": 1},
    ):  # fmt: skip
        packet = gpe(UDP4, **fields)
        assert codec.decap(packet).frame == UDP4
        assert refused(codec, packet, "strict") is Status.VXLAN_RESERVED
    assert codec.decap(gpe(UDP4, flags=0x0E), "strict").frame == UDP4


@pytest.mark.parametrize("count", range(1, 10))
def test_shim_headers(codec: Codec, count: int) -> None:
    """GPE-11: walked by their length, eight of them."""
    inside, following = UDP4, 3
    for n in range(count):
        inside = shim(following, bytes(4 * (n % 3)), kind=n) + inside
        following = 0x80 + n
    packet = gpe(inside, following=following)
    if count > 8:
        assert refused(codec, packet) is Status.GPE_SHIM
        return
    found = codec.decap(packet)
    assert found.frame == UDP4
    assert found.header == packet[: -len(UDP4)]
    assert found.tunnel.payload == "ethernet"


def test_truncated_shim_headers(codec: Codec) -> None:
    """GPE-11: nothing is read past the datagram, whatever a length says."""
    for size in range(4):
        packet = gpe(shim(3)[:size], following=0x80)
        assert refused(codec, packet) is Status.HEADER_TRUNCATED
    long = gpe(shim(3, bytes(16), words=255) + UDP4, following=0xFF)
    assert refused(codec, long) is Status.HEADER_TRUNCATED
    unknown = gpe(shim(0x7F) + UDP4, following=0x80)
    assert refused(codec, unknown) is Status.GPE_NEXT_PROTOCOL


@pytest.mark.parametrize("size", range(8))
def test_a_cut_header_is_dropped(codec: Codec, family: int, size: int) -> None:
    header = bytes.fromhex("0c00000300000100")[:size]
    datagram = wire.udp(header, 5, 4790, wire.LOCAL[family], wire.REMOTE[family])
    packet = wire.packet(datagram, wire.UDP, family)
    assert refused(codec, packet) is Status.HEADER_TRUNCATED


@pytest.mark.parametrize("inside", range(4))
@pytest.mark.parametrize("outside", range(4))
def test_ecn(codec: Codec, inside: int, outside: int) -> None:
    """GPE-8: the table of RFC 6040 4.2, for a frame and for IP alone."""
    expected = [[0, 0, 0, None], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]][inside][outside]
    for frame, following in ((UDP4, 1), (frames.TCP6, 2)):
        marked = wire.remark(frame, inside)
        for carried, number in ((marked, 3), (marked[14:], following)):
            packet = gpe(carried, following=number, ip_fields={"tos": outside})
            if expected is None:
                assert refused(codec, packet, payload="any") is Status.ECN_CONGESTION
            else:
                given = codec.decap(packet, payload="any").frame
                assert given[12:] == wire.remark(frame, expected)[12:]


def test_inner_tags(codec: Codec) -> None:
    """GPE-10: refused where configured, else kept or stripped."""
    packet = gpe(frames.TAGGED)
    assert refused(codec, packet, inner_vlan="reject") is Status.INNER_TAGGED
    assert codec.decap(packet).frame == frames.TAGGED
    assert codec.decap(packet, inner_vlan="strip").frame == UDP4


def test_short_payloads(codec: Codec) -> None:
    for following, least in ((3, 14), (1, 20), (2, 40)):
        short = gpe(bytes(least - 1), following=following)
        assert refused(codec, short, payload="any") is Status.INNER_TOO_SHORT
        assert codec.decap(gpe(bytes(least), following=following), payload="any").key == 0x123456


def test_super_frames(codec: Codec, family: int) -> None:
    """One packet for each that the inner super-frame stands for."""
    frame = frames.tcp_frame(wire.pattern(3000), 6)
    batch = Batch.from_frames([frame])
    batch.mss[0] = 1000
    assert codec.encap_batch(batch, plain(VXLANGPE, family)) == 1
    out = Batch.packed(20_000, 8)
    assert codec.segment_batch(batch, out, 1500) == 3
    given = [codec.decap(packet).frame for packet in out.to_list()]
    assert given == codec.segments(frame, 1000)
