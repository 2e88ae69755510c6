"""What a batch says of a frame besides its bytes: mss, checksum, outer, link 3.

Super-frames and partial checksums stay what they are through encap and decap.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

import frames
import laws
import model
import wire
from overlay import NVGRE, STT, VXLAN, Batch, DecapError, Profile, Status, Tunnel
from overlay.codec import Codec
from overlay.record import CONFIG, tunnel_record
from test_encap import plain

SUPER = frames.tcp_frame(wire.pattern(9000))
PARTIAL = model._pseudo_sum(SUPER)


def batch_of(frame: bytes, *, mss: int = 0, checksum: int = 0) -> Batch:
    batch = Batch.from_frames([frame])
    batch.mss[0], batch.checksum[0] = mss, checksum
    return batch


def said(batch: Batch) -> tuple[int, int]:
    return int(batch.mss[0]), int(batch.checksum[0])


def stt_header(batch: Batch) -> tuple[int, int, int]:
    """Flags, L4 offset and MSS of the packet in row 0."""
    flags, l4, _, mss = struct.unpack_from("!BBBH", bytes(batch[0]), 34 + 20 + 1)
    return flags, l4, mss


@pytest.mark.parametrize("protocol", [VXLAN, NVGRE, STT])
def test_they_stay_through_encap_and_decap(codec: Codec, protocol: type[Tunnel]) -> None:
    tunnel = plain(protocol)
    batch = batch_of(PARTIAL, mss=1448, checksum=2)
    assert codec.encap_batch(batch, tunnel) == 1
    assert said(batch) == (1448, 2)
    assert bytes(batch[0])[tunnel.overhead :] == PARTIAL
    assert codec.decap_batch(batch, partial=True) == 1
    assert said(batch) == (1448, 2)
    assert bytes(batch[0]) == PARTIAL


@pytest.mark.parametrize("protocol", [VXLAN, NVGRE, STT])
def test_they_go_to_the_one_packet_of_a_copy(codec: Codec, protocol: type[Tunnel]) -> None:
    out = Batch.packed(20000, 20)
    assert codec.encap_into(batch_of(PARTIAL, mss=1448, checksum=2), out, plain(protocol)) == 1
    assert said(out) == (1448, 2)
    out = Batch.packed(20000, 20)
    if protocol is STT:  # segments are no super-frames
        batch = batch_of(PARTIAL, mss=1448, checksum=2)
        assert codec.encap_into(batch, out, plain(protocol), 1500) == 7
        assert not out.mss.any()
        assert not out.checksum.any()


@pytest.mark.parametrize("version", [4, 6])
def test_stt_says_the_rows_own_mss(codec: Codec, version: int) -> None:
    frame = model._pseudo_sum(frames.tcp_frame(wire.pattern(4000), version))
    flags = 0x0E if version == 4 else 0x0A
    l4 = 34 if version == 4 else 54
    for tunnel, mss, expected in (
        (plain(STT), 1448, 1448),
        (plain(STT), 0, 0),
        (plain(STT, inner_checksum="verified"), 1448, 1448),
        (plain(STT, inner_checksum="partial", mss=1000), 1448, 1448),
        (plain(STT, inner_checksum="partial", mss=1000), 0, 1000),
        (plain(STT, inner_checksum="partial", mss=1000), 4000, 0),  # nothing to be cut
    ):
        batch = batch_of(frame, mss=mss, checksum=2)
        assert codec.encap_batch(batch, tunnel) == 1
        assert stt_header(batch) == (flags, l4, expected)
        assert bytes(batch[0])[tunnel.overhead :] == frame


def test_stt_says_nothing_of_a_row_that_is_whole(codec: Codec) -> None:
    for checksum in (0, 1):
        batch = batch_of(SUPER, mss=1448, checksum=checksum)
        assert codec.encap_batch(batch, plain(STT)) == 1
        assert stt_header(batch) == (0, 0, 0)


def test_an_stt_frame_too_long_is_cut_by_the_rows_mss(codec: Codec) -> None:
    frame = frames.tcp_frame(wire.pattern(65535 - 40))
    out = Batch.packed(200000, 200)
    batch = batch_of(frame, mss=8000, checksum=2)
    assert codec.encap_into(batch, out, plain(STT), 9000) == 9
    assert {len(packet) for packet in out.to_list()[:-1]} == {34 + 20 + 18 + 14 + 40 + 8000}


def test_a_partial_inner_checksum_is_left_where_it_is_asked_for(codec: Codec) -> None:
    packet = codec.encap(plain(STT, inner_checksum="partial", mss=1448), SUPER)
    for profile, frame, checksum in (("rfc", SUPER, 0), (Profile(partial=True), PARTIAL, 2)):
        batch = batch_of(packet)
        assert codec.decap_batch(batch, profile) == 1
        assert bytes(batch[0]) == frame
        assert said(batch) == (1448, checksum)
        assert codec.decap(packet, profile).frame == SUPER  # one packet: always whole


def test_what_the_stt_header_says_comes_before_what_the_row_said(codec: Codec) -> None:
    packet = codec.encap(plain(STT, inner_checksum="partial"), SUPER)
    batch = batch_of(packet, mss=1448, checksum=2)
    assert codec.decap_batch(batch) == 1
    assert bytes(batch[0]) == SUPER
    assert said(batch) == (0, 0)


def test_partial_goes_with_marks_and_tags(codec: Codec) -> None:
    """The ECN field is merged and a tag put back although the checksum is left."""
    frame = frames.tcp_frame(wire.pattern(100), tos=2)
    tagged = wire.tag(frame, (0x8100, 5))
    packet = bytearray(codec.encap(plain(STT, inner_checksum="partial"), tagged))
    packet[15] |= 3
    packet[24:26] = b"\0\0"
    packet[24:26] = struct.pack("!H", wire.checksum(bytes(packet[14:34])))
    batch = batch_of(bytes(packet))
    assert codec.decap_batch(batch, partial=True) == 1
    expected = wire.tag(model._pseudo_sum(wire.remark(frame, 3)), (0x8100, 5))
    assert bytes(batch[0]) == expected
    assert said(batch) == (0, 2)


def test_reassembly_leaves_it_too(codec: Codec) -> None:
    tunnel = plain(STT, inner_checksum="partial", mss=1448)
    packets = codec.packets(tunnel, SUPER, 1500)
    assert len(packets) > 1
    for partial, frame in ((False, SUPER), (True, PARTIAL)):
        reassembler = codec.SttReassembler(partial=partial)
        out = Batch.packed(20000, 4)
        assert reassembler.push_batch(Batch.from_frames(packets), out, 1.0) == 1
        assert out.to_list() == [frame]
        assert said(out) == (1448, 2 if partial else 0)
        assert out.outer.tolist() == [0]
        single = codec.SttReassembler(partial=partial)
        assert [r.frame for p in packets if (r := single.push(p, 1.0))] == [SUPER]


# -- where the outer header lies --------------------------------------------------------


@pytest.mark.parametrize("protocol", [VXLAN, NVGRE, STT])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("link", [0, 1])
def test_the_outer_header_is_found(
    codec: Codec, protocol: type[Tunnel], family: int, tagged: bool, link: int
) -> None:
    tunnel = plain(protocol, family, outer_vlan=7 if tagged else None)
    packet = codec.encap(tunnel, frames.UDP4)
    l3 = 18 if tagged else 14
    batch = Batch.from_frames([b"something before", packet[l3:] if link else packet])
    batch.status[0] = Status.UNRESOLVED
    batch.link[1] = link
    assert codec.decap_batch(batch) == 1
    at = int(batch.outer[1])
    assert bytes(batch.data[at : at + 20]) == packet[l3 : l3 + 20]
    assert bytes(batch[1]) == frames.UDP4


# -- a datagram that a socket received -----------------------------------------------------


def datagram(codec: Codec, frame: bytes, *, tos: int = 0, family: int = 4) -> Batch:
    """A batch whose row 1 is a VXLAN datagram's payload; row 0 is its IP header."""
    packet = codec.encap(plain(VXLAN, family, vni=77), frame)
    ip = bytearray(packet[14 : 34 if family == 4 else 54])
    if family == 4:
        ip[1] = tos
    else:
        ip[0:2] = struct.pack("!H", 0x6000 | tos << 4)
    batch = Batch.from_frames([bytes(ip), packet[14 + len(ip) + 8 :]])
    batch.status[0] = Status.UNRESOLVED
    batch.link[1], batch.outer[1] = 3, batch.offset[0]
    return batch


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("tos", [0, 1, 2, 3, 0xB8])
def test_a_datagram_is_taken_from_its_vxlan_header_on(codec: Codec, family: int, tos: int) -> None:
    for mark in (1, 2):
        frame = frames.udp_frame(wire.pattern(40), tos=mark)
        batch = datagram(codec, frame, tos=tos, family=family)
        outer = int(batch.outer[1])
        assert codec.decap_batch(batch) == 1
        merged = 3 if tos & 3 == 3 else (1 if tos & 3 == 1 else mark)
        assert bytes(batch[1]) == wire.remark(frame, merged)
        assert (batch.key[1], batch.protocol[1], batch.link[1]) == (77, 1, 0)
        assert batch.outer[1] == outer


def test_a_datagram_is_refused_for_what_is_wrong_in_it(codec: Codec) -> None:
    def status(batch: Batch, profile: str | Profile = "rfc") -> Status:
        before = laws.rows(batch)
        assert codec.decap_batch(batch, profile) == 0
        assert laws.rows(batch) == before
        return Status(batch.status[1])

    marked = datagram(codec, frames.UDP4, tos=3)
    assert status(marked) is Status.ECN_CONGESTION
    outside = datagram(codec, frames.UDP4)
    outside.outer[1] = outside.data.size - 19
    assert status(outside) is Status.BAD_ROW
    short = datagram(codec, frames.UDP4)
    short.length[1] = short.wire[1] = 7
    assert status(short) is Status.HEADER_TRUNCATED
    short = datagram(codec, frames.UDP4)
    short.length[1] = short.wire[1] = 21
    assert status(short) is Status.INNER_TOO_SHORT
    bare = datagram(codec, frames.UDP4)
    bare[1][0] = 0
    assert status(bare) is Status.VXLAN_NO_VNI
    reserved = datagram(codec, frames.UDP4)
    reserved[1][7] = 1
    assert status(reserved, "strict") is Status.VXLAN_RESERVED
    other = Profile(protocols=("nvgre", "stt"))
    assert status(datagram(codec, frames.UDP4), other) is Status.UNKNOWN_PROTOCOL
    keys = Profile(keys=frozenset({78}))
    assert status(datagram(codec, frames.UDP4), keys) is Status.UNKNOWN_KEY


def test_a_single_packet_is_no_datagram(codec: Codec) -> None:
    batch = datagram(codec, frames.UDP4)
    with pytest.raises(DecapError) as caught:
        codec.decap(bytes(batch[1]), link=3)
    assert caught.value.status is Status.LINK_TYPE


# -- a TCP checksum left to the kernel ----------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_the_core_can_leave_the_outer_checksum_of_stt_partial(
    twins: Sequence[Codec], family: int
) -> None:
    """No tunnel of Python's asks for it; the switch does, where the kernel computes it."""
    tunnel = plain(STT, family, frame_id=1)
    fields = CONFIG.unpack(tunnel_record(tunnel))
    record = CONFIG.pack(**{**fields, "checksum": 0})
    at = tunnel.overhead - 18 - 20 + 16
    for codec in twins:
        core = getattr(codec, "core", None)
        if core is None:
            continue
        for frame in (SUPER, frames.UDP4):
            whole = codec.encap(tunnel, frame)
            packet = core.Encoder(record).encap(frame)
            assert packet[:at] + packet[at + 2 :] == whole[:at] + whole[at + 2 :]
            outer = wire.parse(packet)
            assert packet[at : at + 2] == struct.pack("!H", wire.sum16(outer.pseudo))
            out = Batch.packed(20000, 20)
            core.Encoder(record).encap_into(Batch.from_frames([frame]), out, 1500)
            for segment in out.to_list():
                outer = wire.parse(segment)
                assert segment[at : at + 2] == struct.pack("!H", wire.sum16(outer.pseudo))


def test_nvgre_and_vxlan_say_nothing_of_a_plain_row(codec: Codec) -> None:
    for protocol in (VXLAN, NVGRE):
        batch = batch_of(frames.UDP4)
        assert codec.encap_batch(batch, plain(protocol)) == 1
        assert codec.decap_batch(batch) == 1
        assert said(batch) == (0, 0)
