"""VXLAN (RFC 7348) and its group policy extension."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frames
import laws
import wire
from laws import refused
from overlay import VXLAN, ConfigError, Status
from overlay.codec import Codec
from test_encap import plain

UDP4, ICMP4 = frames.UDP4, frames.ICMP4


def header(packet: bytes) -> bytes:
    """The eight bytes after UDP."""
    return wire.parse(packet).body[8:16]


def test_plain_header(codec: Codec, family: int) -> None:
    """VXLAN-1, VXLAN-2, VXLAN-3, VXLAN-4, GBP-1: I alone, the VNI, and zeros."""
    packet = codec.encap(plain(VXLAN, family, vni=0xABCDEF), UDP4)
    assert header(packet) == bytes.fromhex("08000000abcdef00")


@given(vni=st.integers(0, 0xFFFFFF))
def test_every_vni_comes_back(codec: Codec, vni: int) -> None:
    """VXLAN-4: no VNI is special."""
    tunnel = plain(VXLAN, vni=vni)
    result = codec.decap(codec.encap(tunnel, UDP4))
    assert result.key == result.tunnel.key == vni


@pytest.mark.parametrize("vni", [-1, 0x1000000, 2**64, 1.0, "1", None, True])
def test_a_vni_beyond_24_bits_is_refused(vni: object) -> None:
    """VXLAN-5."""
    with pytest.raises(ConfigError, match=r"vni=.*0\.\.16777215"):
        plain(VXLAN, vni=vni)


def test_ports(codec: Codec, family: int) -> None:
    """VXLAN-10, VXLAN-11: 4789 by default, any other by choice, in both directions."""
    ports = struct.unpack_from("!HH", wire.parse(codec.encap(plain(VXLAN, family), UDP4)).body)
    assert ports[1] == 4789
    other = codec.encap(plain(VXLAN, family, port=8472), UDP4)
    assert struct.unpack_from("!H", wire.parse(other).body, 2) == (8472,)
    assert refused(codec, other) is Status.UNKNOWN_PROTOCOL
    result = codec.decap(other, vxlan_port=8472)
    assert result.frame == UDP4
    assert result.tunnel.port == 8472


def test_the_source_port_4789_means_nothing(codec: Codec) -> None:
    packet = wire.vxlan(UDP4, sport=4789, port=4000)
    assert refused(codec, packet) is Status.UNKNOWN_PROTOCOL
    assert codec.decap(wire.vxlan(UDP4, sport=4789)).frame == UDP4


def test_ipv4_checksum_is_zero_by_default(codec: Codec) -> None:
    """VXLAN-14, VXLAN-15: sent as zero and accepted as zero."""
    packet = codec.encap(plain(VXLAN), UDP4)
    assert wire.parse(packet).body[6:8] == b"\0\0"
    assert codec.decap(packet, "strict").frame == UDP4


@pytest.mark.parametrize("length", [14, 15, 60, 61, 1500, 9001])
def test_checksum_covers_all(codec: Codec, family: int, length: int) -> None:
    """VXLAN-16, VXLAN-34: over the pseudo header and the whole datagram, odd or even."""
    packet = codec.encap(plain(VXLAN, family, checksum=True), wire.pattern(length))
    outer = wire.parse(packet)
    assert outer.body[6:8] != b"\0\0"
    assert wire.checksum(outer.pseudo + outer.body) == 0


def test_a_sum_of_zero_is_sent_as_ffff(codec: Codec, family: int) -> None:
    """COM-5: the frame is made so that the computed checksum is 0."""
    tunnel = plain(VXLAN, family, checksum=True, source_port=50000, flow_label=0, ip_id=0)
    frame = bytearray(wire.pattern(60))
    frame[58:60] = b"\0\0"
    value = wire.parse(codec.encap(tunnel, frame)).body[6:8]
    frame[58:60] = value  # the sum of all is now 0xFFFF, its complement 0
    packet = codec.encap(tunnel, frame)
    assert wire.parse(packet).body[6:8] == b"\xff\xff"
    assert codec.decap(packet).frame == frame


def test_a_wrong_checksum(codec: Codec, family: int) -> None:
    """VXLAN-17, VXLAN-18, VXLAN-19: dropped where verified, taken where not."""
    for wrong in (1, 0xDEAD, 0xFFFF):
        packet = wire.vxlan(UDP4, family=family, check=wrong)
        assert refused(codec, packet) is Status.UDP_CHECKSUM
        assert codec.decap(packet, verify_checksums=False).frame == UDP4
        assert codec.decap(packet, "lenient").frame == UDP4
    right = wire.vxlan(UDP4, family=family, check=-1)
    assert codec.decap(right).frame == UDP4
    assert codec.decap(right).tunnel.checksum


def test_zero_checksum_over_ipv6(codec: Codec) -> None:
    """COM-6, COM-7, VXLAN-34: refused without leave; with leave for a pair, only for the pair."""
    packet = wire.vxlan(UDP4, family=6, check=0)
    local, remote = wire.REMOTE[6], wire.LOCAL[6]  # as the receiver sees them
    assert refused(codec, packet) is Status.UDP_ZERO_CHECKSUM
    assert refused(codec, packet, "strict") is Status.UDP_ZERO_CHECKSUM
    assert codec.decap(packet, "lenient").frame == UDP4
    assert codec.decap(packet, zero_checksum6=True).frame == UDP4
    for pairs in ([(local, remote)], [(local, "::1"), (local, remote), ("::1", remote)]):
        assert codec.decap(packet, zero_checksum6=pairs).frame == UDP4
    for pairs in ([], [(remote, local)], [(local, "2001:db8::9")], [("2001:db8::9", remote)]):
        assert refused(codec, packet, zero_checksum6=pairs) is Status.UDP_ZERO_CHECKSUM
    bad = wire.vxlan(UDP4, family=6, check=0xDEAD)
    assert refused(codec, bad, zero_checksum6=True) is Status.UDP_CHECKSUM
    assert not codec.decap(packet, zero_checksum6=True).tunnel.checksum


@pytest.mark.parametrize("size", range(8))
def test_a_cut_header_is_dropped(codec: Codec, family: int, size: int) -> None:
    """VXLAN-32."""
    body = wire.udp(b"\x08\0\0\0\0\0\1\0"[:size], 5, 4789, wire.LOCAL[family], wire.REMOTE[family])
    packet = wire.packet(body, wire.UDP, family)
    assert refused(codec, packet) is Status.HEADER_TRUNCATED


@pytest.mark.parametrize("size", range(14))
def test_a_datagram_too_short_for_a_frame_is_dropped(codec: Codec, size: int) -> None:
    """VXLAN-33: below 8 + 8 + 14, also where the packet itself is longer."""
    assert refused(codec, wire.vxlan(bytes(size))) is Status.INNER_TOO_SHORT
    packet = wire.vxlan(ICMP4, length=16 + size)
    assert refused(codec, packet) is Status.INNER_TOO_SHORT
    assert refused(codec, wire.vxlan(bytes(14))) is Status.OK


def test_vtep_never_fragments(codec: Codec) -> None:
    """VXLAN-23: too long a frame is refused, and a long packet is one packet with offset 0."""
    packet = codec.encap(plain(VXLAN, df=False), frames.JUMBO)
    assert wire.parse(packet).flags == 0
    assert wire.parse(packet).length == len(frames.JUMBO) + 36
    result = laws.outcome(lambda: codec.packets(plain(VXLAN), frames.JUMBO, 1500))
    assert result is Status.MTU_EXCEEDED


def test_inner_tags_on_decap(codec: Codec) -> None:
    """VXLAN-21, VXLAN-22: kept, removed or refused, as the profile says."""
    for frame in (frames.TAGGED, frames.PROVIDER_TAGGED, frames.DOUBLE_TAGGED):
        packet = wire.vxlan(frame)
        assert codec.decap(packet).frame == frame
        assert codec.decap(packet, inner_vlan="strip").frame == UDP4
        assert refused(codec, packet, inner_vlan="reject") is Status.INNER_TAGGED
    triple = wire.vxlan(frames.TRIPLE_TAGGED)
    assert codec.decap(triple, inner_vlan="strip").frame == wire.tag(UDP4, (0x8100, 1))


@pytest.mark.parametrize("length", range(14, 24))
def test_strip_leaves_a_whole_ethernet_header(codec: Codec, length: int) -> None:
    frame = frames.DOUBLE_TAGGED[:length]
    expected = frame
    if length >= 22:
        expected = frame[:12] + frame[20:]
    elif length >= 18:
        expected = frame[:12] + frame[16:]
    assert codec.decap(wire.vxlan(frame), inner_vlan="strip").frame == expected


# -- group policy ------------------------------------------------------------------------


@given(gbp=st.integers(0, 0xFFFF), dont_learn=st.booleans(), applied=st.booleans())
def test_group_policy(codec: Codec, gbp: int, dont_learn: bool, applied: bool) -> None:
    """GBP-1, GBP-2, GBP-3, GBP-4: G, D, A and the 16-bit id, there and back: who learns and who
    applies the policy is told."""
    tunnel = plain(VXLAN, gbp=gbp, gbp_dont_learn=dont_learn, gbp_applied=applied)
    packet = codec.encap(tunnel, UDP4)
    first = 0x40 * dont_learn | 0x08 * applied
    assert header(packet)[:4] == bytes([0x88, first]) + gbp.to_bytes(2, "big")
    for profile in ("rfc", "lenient"):
        result = codec.decap(packet, profile)
        assert (result.tunnel.gbp, result.frame) == (gbp, UDP4)
        assert result.tunnel.gbp_dont_learn is dont_learn
        assert result.tunnel.gbp_applied is applied
    assert codec.decap(packet, "strict", gbp=True).frame == UDP4


def test_without_g_no_policy_is_conveyed(codec: Codec) -> None:
    """GBP-1: bits where the policy would be are reserved bits, and are ignored."""
    tunnel = codec.decap(wire.vxlan(UDP4, reserved24=0x481234)).tunnel
    assert (tunnel.gbp, tunnel.gbp_dont_learn, tunnel.gbp_applied) == (None, False, False)


def test_a_vtep_without_gbp_ignores_it(codec: Codec) -> None:
    """GBP-7: G, D, A and the policy do not keep a frame from being delivered."""
    packet = wire.vxlan(UDP4, flags=0x88, reserved24=0x481234)
    assert codec.decap(packet, gbp=False).frame == UDP4
    assert codec.decap(packet, gbp=True).frame == UDP4
    assert refused(codec, packet, "strict", gbp=False) is Status.VXLAN_RESERVED


@pytest.mark.parametrize("bit", range(24))
def test_strict_with_gbp_lets_only_its_bits_pass(codec: Codec, bit: int) -> None:
    packet = wire.vxlan(UDP4, flags=0x88, reserved24=1 << bit)
    known = bit < 16 or bit in (19, 22)
    expected = Status.OK if known else Status.VXLAN_RESERVED
    assert refused(codec, packet, "strict", gbp=True) is expected
