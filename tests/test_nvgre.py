"""NVGRE (RFC 7637) and the GRE (RFC 2784, 2890) below it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frames
import laws
import wire
from laws import refused
from overlay import NVGRE, ConfigError, Status
from overlay.codec import Codec
from test_encap import plain

UDP4 = frames.UDP4


def test_header(codec: Codec, family: int) -> None:
    """NVGRE-1, NVGRE-2, NVGRE-3, NVGRE-4, NVGRE-5, NVGRE-6: 0x2000, 0x6558, VSID, FlowID."""
    packet = codec.encap(plain(NVGRE, family, vsid=0xABCDEF, flow_id=0x5A), UDP4)
    assert wire.parse(packet).body[:8] == bytes.fromhex("20006558abcdef5a")


@given(vsid=st.integers(0x1000, 0xFFFFFE), flow_id=st.integers(0, 255))
def test_vsid_and_flow_id_come_back(codec: Codec, vsid: int, flow_id: int) -> None:
    """NVGRE-6, NVGRE-10, NVGRE-27: the VSID is the key; the FlowID is kept by a transit."""
    packet = codec.encap(plain(NVGRE, vsid=vsid, flow_id=flow_id), UDP4)
    result = codec.decap(packet)
    assert (result.key, result.tunnel.flow_id) == (vsid, flow_id)
    assert codec.encap(result.tunnel, result.frame) == packet


def test_flow_id_zero(codec: Codec) -> None:
    """NVGRE-7: a sender that makes no FlowID sends 0."""
    assert wire.parse(codec.encap(plain(NVGRE, flow_id=0), UDP4)).body[7] == 0


@pytest.mark.parametrize("vsid", [0, 1, 0xFFF, 0xFFFFFF])
def test_reserved_vsids_are_not_sent(codec: Codec, vsid: int) -> None:
    """NVGRE-14, NVGRE-15: not without leave."""
    with pytest.raises(ConfigError, match="vsid"):
        plain(NVGRE, vsid=vsid)
    tunnel = plain(NVGRE, vsid=vsid, allow_reserved_vsid=True)
    result = codec.decap(codec.encap(tunnel, UDP4))
    assert result.key == result.tunnel.key == vsid


@pytest.mark.parametrize("vsid", [0x1000, 0x1001, 0xFFFFFE])
def test_the_ends_of_the_vsid_range_are_usable(codec: Codec, vsid: int) -> None:
    """NVGRE-16."""
    packet = codec.encap(plain(NVGRE, vsid=vsid), UDP4)
    for profile in ("rfc", "strict", "lenient"):
        assert codec.decap(packet, profile, reserved_vsid="drop").key == vsid


@pytest.mark.parametrize("vsid", [0, 0xFFF, 0xFFFFFF])
def test_reserved_vsids_received(codec: Codec, vsid: int) -> None:
    packet = wire.nvgre(UDP4, vsid=vsid)
    assert codec.decap(packet).key == vsid
    assert refused(codec, packet, reserved_vsid="drop") is Status.NVGRE_VSID


def test_tagged_frames_are_dropped(codec: Codec) -> None:
    """NVGRE-13: whatever inner_vlan says; only a reader of captures looks inside."""
    for frame in (frames.TAGGED, frames.PROVIDER_TAGGED, frames.DOUBLE_TAGGED):
        packet = wire.nvgre(frame)
        for profile in ("rfc", "strict"):
            for inner_vlan in ("keep", "strip", "reject"):
                status = refused(codec, packet, profile, inner_vlan=inner_vlan)
                assert status is Status.INNER_TAGGED
        assert codec.decap(packet, "lenient").frame == frame
        assert codec.decap(packet, "lenient", inner_vlan="strip").frame == UDP4
        assert refused(codec, packet, "lenient", inner_vlan="reject") is Status.INNER_TAGGED


def test_never_fragments(codec: Codec, family: int) -> None:
    """NVGRE-19."""
    tunnel = plain(NVGRE, family, df=False)
    assert wire.parse(codec.encap(tunnel, frames.JUMBO)).flags == 0
    result = laws.outcome(lambda: codec.packets(tunnel, frames.JUMBO, 1500))
    assert result is Status.MTU_EXCEEDED


def test_flags_that_nvgre_forbids(codec: Codec) -> None:
    """NVGRE-21, NVGRE-22, NVGRE-23, NVGRE-24, NVGRE-25, NVGRE-28."""
    for base in ("rfc", "strict"):
        assert refused(codec, wire.nvgre(UDP4, word=0x0000), base) is Status.GRE_NO_KEY
        assert refused(codec, wire.nvgre(UDP4, word=0xA000), base) is Status.GRE_CHECKSUM_PRESENT
        assert refused(codec, wire.nvgre(UDP4, word=0x3000), base) is Status.GRE_SEQUENCE_PRESENT
    for base in ("rfc", "strict", "lenient"):
        for version in range(1, 8):
            packet = wire.nvgre(UDP4, word=0x2000 | version)
            assert refused(codec, packet, base) is Status.GRE_VERSION
        assert refused(codec, wire.nvgre(UDP4, word=0x6000), base) is Status.GRE_ROUTING
        for proto in (0x0800, 0x6559):
            packet = wire.nvgre(UDP4, proto=proto)
            assert refused(codec, packet, base, protocols=["nvgre"]) is Status.GRE_PROTOCOL


@pytest.mark.parametrize("mask", [1 << bit for bit in range(3, 10)])
def test_bits_6_to_12_are_ignored(codec: Codec, mask: int) -> None:
    """NVGRE-26: RFC 2784 asks to ignore them; strict drops what Open vSwitch drops."""
    packet = wire.nvgre(UDP4, word=0x2000 | mask)
    assert codec.decap(packet).frame == UDP4
    assert refused(codec, packet, "strict") is Status.GRE_RESERVED
    assert codec.decap(packet, "lenient").frame == UDP4


@pytest.mark.parametrize("mask", [0x0800, 0x0400, 0x0C00])
def test_bits_4_and_5_are_dropped(codec: Codec, mask: int) -> None:
    """RFC 2784 2.3: bits 1 to 5 must be zero but those that RFC 2890 gave a meaning."""
    packet = wire.nvgre(UDP4, word=0x2000 | mask)
    assert refused(codec, packet) is Status.GRE_RESERVED
    assert refused(codec, packet, "strict") is Status.GRE_RESERVED
    assert codec.decap(packet, "lenient").frame == UDP4


@pytest.mark.parametrize("word", [0x2000, 0xA000, 0x3000, 0xB000])
@pytest.mark.parametrize("frame", [UDP4, frames.TCP6], ids=["odd", "even"])
def test_lenient_reads_optional_fields(codec: Codec, family: int, word: int, frame: bytes) -> None:
    """GRE-1, GRE-6, NVGRE-22, NVGRE-23: checksum, key, sequence, in this order, if flagged."""
    packet = wire.nvgre(frame, family=family, word=word, vsid=0x7654, flow_id=9)
    result = codec.decap(packet, "lenient")
    assert (result.frame, result.key, result.tunnel.flow_id) == (frame, 0x7654, 9)
    assert result.header == packet[: -len(frame)]


def test_lenient_verifies_the_gre_checksum(codec: Codec) -> None:
    """GRE-2, GRE-3, NVGRE-22: over header and payload; the word behind it may be anything."""
    for word in (0xA000, 0xB000):
        right = wire.nvgre(UDP4, word=word, reserved1=0x1234)
        assert codec.decap(right, "lenient").frame == UDP4
        for at in (len(right) - 1, len(right) - len(UDP4), 14 + 20 + 8):
            wrong = right[:at] + bytes([right[at] ^ 0x40]) + right[at + 1 :]
            assert refused(codec, wrong, "lenient") is Status.GRE_CHECKSUM
        # Of a packet that a capture cut, the sum cannot be told.
        cut = codec.decap(right[:-5], "lenient", wire_length=len(right))
        assert cut.frame == UDP4[:-5]


@pytest.mark.parametrize("size", range(8))
def test_a_cut_header_is_dropped(codec: Codec, family: int, size: int) -> None:
    """NVGRE-29."""
    body = bytes.fromhex("2000655800123456")[:size]
    packet = wire.packet(body, wire.GRE, family)
    assert refused(codec, packet) is Status.HEADER_TRUNCATED


@pytest.mark.parametrize("word", [0xA000, 0x3000, 0xB000])
def test_cut_optional_fields_are_dropped(codec: Codec, word: int) -> None:
    """NVGRE-29: a flag whose field is not there reads nothing beyond the packet."""
    whole = wire.gre(b"", word=word)
    for size in range(len(whole)):
        packet = wire.packet(whole[:size], wire.GRE)
        assert refused(codec, packet, "lenient") is Status.HEADER_TRUNCATED
    packet = wire.packet(whole, wire.GRE)
    assert refused(codec, packet, "lenient") in (Status.INNER_TOO_SHORT, Status.GRE_CHECKSUM)


def test_families_are_independent(codec: Codec) -> None:
    """NVGRE-18: either family in either."""
    for family in (4, 6):
        for frame in (UDP4, frames.UDP6):
            laws.check_roundtrip(codec, plain(NVGRE, family), frame)


def test_the_vsid_is_masked_out_of_the_key(codec: Codec) -> None:
    """NVGRE-27: 0x00ABCD5A on the wire is VSID 0x00ABCD, FlowID 0x5A."""
    packet = wire.nvgre(UDP4, vsid=0xABCD, flow_id=0x5A)
    assert struct.unpack_from("!I", packet, 38) == (0x00ABCD5A,)
    assert codec.decap(packet, keys=[0xABCD]).key == 0xABCD
    assert refused(codec, packet, keys=[0x00ABCD5A]) is Status.UNKNOWN_KEY
