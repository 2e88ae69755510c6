"""Encap of one frame: the very bytes, through every tunnel and frame."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cases
import frames
import laws
import model
import strategies as s
import wire
from overlay import ERSPAN, GRE, NVGRE, STT, Batch, EncapError, Status, Tunnel
from overlay.codec import Codec

NAMES = sorted(frames.ALL)


def plain(protocol: type[Tunnel], family: int = 4, **fields: object) -> Tunnel:
    return cases.tunnel(
        protocol, **{"local": wire.LOCAL[family], "remote": wire.REMOTE[family], **fields}
    )


@given(tunnel=s.tunnels(), frame=s.frames(), sequence=s.u64)
def test_follows_the_contract(codec: Codec, tunnel: Tunnel, frame: bytes, sequence: int) -> None:
    """COM-1, COM-5, COM-22, COM-24, STT-6, STT-9, STT-12, STT-13, STT-17, STT-18, STT-19, STT-20,
    STT-21, STT-22, STT-23, STT-24, STT-25: every byte of every header is the contract's."""
    laws.check_encap_follows_model(codec, tunnel, frame, sequence)


@pytest.mark.parametrize("name", NAMES)
def test_outer_headers_are_valid(
    codec: Codec, protocol: type[Tunnel], family: int, name: str
) -> None:
    """COM-1, COM-24, VXLAN-26, VXLAN-34, NVGRE-17, NVGRE-18, NVGRE-31, STT-1: lengths, sums and
    protocol numbers hold, over IPv4 and IPv6, whatever the family of the inner packet."""
    tunnel, frame = plain(protocol, family), frames.ALL[name]
    if model.refusal(tunnel, frame):
        with pytest.raises(EncapError, match="FRAME_TAGGED"):
            tunnel_encap(codec, tunnel, frame)
    else:
        laws.check_outer_valid(tunnel, frame, tunnel_encap(codec, tunnel, frame))


def tunnel_encap(codec: Codec, tunnel: Tunnel, frame: bytes) -> bytes:
    return codec.encap(tunnel, frame, sequence=3)


@pytest.mark.parametrize("length", [14, 15, 59, 60, 61, 1499, 1500, 9000, 9001])
def test_the_frame_is_carried_whole_and_alone(
    codec: Codec, protocol: type[Tunnel], length: int
) -> None:
    """COM-22, VXLAN-25, NVGRE-31: no FCS and no padding is added, at any length."""
    tunnel, frame = plain(protocol), wire.pattern(length)
    packet = codec.encap(tunnel, frame)
    assert packet.endswith(frame)
    assert len(packet) == tunnel.overhead + length


def test_outer_vlan(codec: Codec, protocol: type[Tunnel], family: int) -> None:
    """VXLAN-27: the outer 802.1Q tag carries VID, priority and DEI."""
    tunnel = plain(protocol, family, outer_vlan=0xABC, outer_pcp=5, outer_dei=True)
    packet = codec.encap(tunnel, frames.UDP4)
    assert packet[12:16] == bytes.fromhex("8100babc")
    laws.check_outer_valid(tunnel, frames.UDP4, packet)


@pytest.mark.parametrize("vid", [0, 1, 4095])
def test_every_outer_vid_is_sent(codec: Codec, protocol: type[Tunnel], vid: int) -> None:
    packet = codec.encap(plain(protocol, outer_vlan=vid), frames.UDP4)
    assert struct.unpack_from("!HH", packet, 12) == (0x8100, vid)


def test_ip_id_and_df(codec: Codec, protocol: type[Tunnel]) -> None:
    """An atomic datagram has ID 0; without DF a counter gives it (RFC 6864)."""
    atomic = wire.parse(codec.encap(plain(protocol), frames.UDP4, sequence=77))
    assert (atomic.ident, atomic.flags) == (0, 0x4000)
    counted = plain(protocol, df=False)
    for sequence in (0, 77, 0xFFFF, 0x10000, 2**64 - 1):
        outer = wire.parse(codec.encap(counted, frames.UDP4, sequence=sequence))
        assert (outer.ident, outer.flags) == (sequence & 0xFFFF, 0)
    fixed = wire.parse(codec.encap(plain(protocol, ip_id=0xBEEF), frames.UDP4))
    assert fixed.ident == 0xBEEF


def test_counters_go_on(codec: Codec, protocol: type[Tunnel]) -> None:
    """STT-5: without a given sequence, no two packets share an IP ID or a frame ID."""
    tunnel = plain(protocol, df=False)
    packets = [codec.encap(tunnel, frames.UDP4) for _ in range(50)]
    packets += codec.encap_many(tunnel, [frames.UDP4] * 50)
    batch = Batch.from_frames([frames.UDP4] * 50)
    codec.encap_batch(batch, tunnel)
    packets += batch.to_list()
    assert len({wire.parse(packet).ident for packet in packets}) == 150
    if isinstance(tunnel, STT):
        assert len({packet[34 + 8 : 34 + 12] for packet in packets}) == 150


def test_group_remote(codec: Codec, protocol: type[Tunnel]) -> None:
    """COM-23, STT-55: a group as remote gets TTL 1 and the group's MAC."""
    tunnel = plain(protocol, remote="239.129.2.3")
    outer = wire.parse(codec.encap(tunnel, frames.ARP))
    assert (outer.dst, outer.ttl, outer.dst_mac) == ("239.129.2.3", 1, "01:00:5e:01:02:03")
    tunnel = plain(protocol, 6, remote="ff15::1:203")
    outer = wire.parse(codec.encap(tunnel, frames.ARP))
    assert (outer.dst, outer.ttl, outer.dst_mac) == ("ff15::1:203", 1, "33:33:00:01:02:03")
    assert wire.parse(codec.encap(plain(protocol, remote="239.1.1.1", ttl=9), frames.ARP)).ttl == 9


def test_reject_strip_keep(codec: Codec, protocol: type[Tunnel]) -> None:
    """VXLAN-20, VXLAN-22, NVGRE-11, NVGRE-12: what becomes of an inner tag on the way in."""
    with pytest.raises(EncapError) as refusal:
        codec.encap(plain(protocol, inner_vlan="reject"), frames.TAGGED)
    assert refusal.value.status is Status.FRAME_TAGGED
    strip = codec.encap(plain(protocol, inner_vlan="strip"), frames.TAGGED)
    assert strip.endswith(frames.UDP4)
    assert len(strip) == plain(protocol).overhead + len(frames.UDP4)
    keep = codec.encap(plain(protocol, inner_vlan="keep"), frames.TAGGED)
    assert keep.endswith(frames.UDP4 if protocol in (NVGRE, STT) else frames.TAGGED)
    double = codec.encap(plain(protocol, inner_vlan="strip"), frames.DOUBLE_TAGGED)
    assert double.endswith(frames.UDP4)
    assert len(double) == len(strip)


def test_a_third_tag_stays_but_for_nvgre(codec: Codec, protocol: type[Tunnel]) -> None:
    """NVGRE-12: strip removes two tags; what is tagged still is never sent by NVGRE."""
    tunnel = plain(protocol, inner_vlan="strip")
    if protocol is NVGRE:
        with pytest.raises(EncapError, match="FRAME_TAGGED"):
            codec.encap(tunnel, frames.TRIPLE_TAGGED)
    else:
        packet = codec.encap(tunnel, frames.TRIPLE_TAGGED)
        assert packet.endswith(wire.tag(frames.UDP4, (0x8100, 1)))


def test_the_hash_is_that_of_the_frame_as_given(codec: Codec, protocol: type[Tunnel]) -> None:
    """A tag that is moved away still counts in the hash of a frame that is not IP."""
    bare = protocol in (GRE, ERSPAN)  # no port, no FlowID: the flow label alone
    tunnel = plain(protocol, 6 if bare else 4, inner_vlan="strip")
    vlans = [wire.tag(frames.ARP, (0x8100, vid)) for vid in range(1, 200)]
    field = slice(14, 18) if bare else slice(34, 42)
    ports = {codec.encap(tunnel, frame, sequence=0)[field] for frame in vlans}
    assert len(ports) > 100 // (1 if protocol is NVGRE else 2)


def test_encoder_is_encap(codec: Codec, protocol: type[Tunnel]) -> None:
    """The fast path, the plain call, the batch and the copying form give the same bytes."""
    fixed: dict[type[Tunnel], dict[str, int]] = {
        STT: {"frame_id": 9}, ERSPAN: {"type": 1, "session_id": 0},
    }  # fmt: skip
    tunnel = plain(protocol, ip_id=7, **fixed.get(protocol, {}))
    encoder = codec.encoder(tunnel)
    some = [frames.UDP4, frames.TCP6, frames.ARP, frames.JUMBO]
    expected = [model.encap(tunnel, frame) for frame in some]
    assert [encoder.encap(frame) for frame in some] == expected
    assert encoder.encap_many(some) == expected
    assert encoder.encap_many(iter(some)) == expected
    assert encoder.encap_many([]) == []
    assert codec.encap_many(tunnel, some) == expected
    batch = Batch.from_frames(some)
    assert codec.encap_batch(batch, tunnel) == 4
    assert batch.to_list() == expected
    out = Batch.packed(20000, 4)
    assert codec.encap_into(Batch.from_frames(some), out, tunnel) == 4
    assert out.to_list() == expected


def test_encap_many_raises_what_encap_raises(codec: Codec, protocol: type[Tunnel]) -> None:
    with pytest.raises(EncapError, match="FRAME_TOO_SHORT"):
        codec.encap_many(plain(protocol), [frames.UDP4, b"short", frames.UDP4])


@given(data=st.data())
def test_two_packets_share_no_memory(codec: Codec, data: st.DataObject) -> None:
    """OVS asks it of its push: a packet is a value of its own."""
    tunnel = data.draw(s.tunnels())
    frame = bytearray(frames.UDP4)
    if model.refusal(tunnel, bytes(frame)):
        return
    first = codec.encap(tunnel, frame, sequence=0)
    again = bytes(first)
    frame[20:] = bytes(len(frame) - 20)
    codec.encap(tunnel, frame, sequence=0)
    assert first == again
