"""STT (draft-davie-stt-08): header, segmentation, offload fields."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frames
import laws
import model
import strategies as s
import wire
from laws import refused
from overlay import STT, Batch, ConfigError, EncapError, Status
from overlay.codec import Codec
from test_encap import plain

UDP4, TCP4 = frames.UDP4, frames.TCP4


def tcp_header(packet: bytes) -> tuple[int, ...]:
    return struct.unpack_from("!HHIIBBHHH", wire.parse(packet).body)


def stt_header(packet: bytes) -> tuple[int, ...]:
    """version, flags, L4 offset, reserved, MSS, TCI, Context ID, padding."""
    return struct.unpack_from("!BBBBHHQH", wire.parse(packet).body, 20)


def test_tcp_shaped_header(codec: Codec, family: int) -> None:
    """STT-1, STT-6, STT-7, STT-9, STT-11, STT-12, STT-13: port 7471, length and offset as the
    sequence number, the frame ID as the acknowledgement, ACK and PSH, no window."""
    packet = codec.encap(plain(STT, family, source_port=1, frame_id=0xBADCAFE), UDP4)
    length = 18 + len(UDP4)
    assert tcp_header(packet)[:7] == (1, 7471, length << 16, 0xBADCAFE, 0x50, 0x18, 0)
    assert tcp_header(packet)[8] == 0


def test_header_of_a_frame_that_is_not_ip(codec: Codec) -> None:
    """STT-17, STT-18, STT-19, STT-23, STT-24: all zero but the Context ID."""
    for inner_checksum in ("unknown", "verified", "partial"):
        tunnel = plain(STT, context_id=5, inner_checksum=inner_checksum)
        assert stt_header(codec.encap(tunnel, frames.ARP)) == (0, 0, 0, 0, 0, 0, 5, 0)


@given(context_id=s.u64)
def test_every_context_id_comes_back(codec: Codec, context_id: int) -> None:
    """STT-29."""
    result = codec.decap(codec.encap(plain(STT, context_id=context_id), UDP4))
    assert result.key == result.tunnel.context_id == context_id


def test_the_largest_context_id(codec: Codec) -> None:
    """STT-29: 2**64-1 there and back; 2**64 is refused."""
    packet = codec.encap(plain(STT, context_id=2**64 - 1), UDP4)
    assert stt_header(packet)[6] == 2**64 - 1
    assert codec.decap(packet, keys=[2**64 - 1]).key == 2**64 - 1
    with pytest.raises(ConfigError, match="context_id"):
        plain(STT, context_id=2**64)


@pytest.mark.parametrize(
    ("frame", "flags", "l4_offset"),
    [
        (frames.TCP4, 0x0E, 34),
        (frames.TCP6, 0x0A, 54),
        (frames.UDP4, 0x06, 34),
        (frames.UDP6, 0x02, 54),
        (frames.SCTP4, 0, 0),
        (frames.ICMP4, 0, 0),
        (frames.PROVIDER_TAGGED, 0, 0),
        (frames.DOUBLE_TAGGED, 0, 0),
        (frames.fragment_frame(0x2000), 0, 0),
        (frames.fragment_frame(0x2000, 6), 0, 0),
        (frames.TCP4[:-1], 0, 0),
    ],
    ids="tcp4 tcp6 udp4 udp6 sctp icmp 88a8 qinq fragment fragment6 cut".split(),
)
def test_partial_checksum_fields(codec: Codec, frame: bytes, flags: int, l4_offset: int) -> None:
    """STT-20, STT-22, STT-24, STT-25, STT-30: P, V, T and the L4 offset where offloading is
    possible, nothing where not; the receiver completes the checksum."""
    packet = codec.encap(plain(STT, inner_checksum="partial"), frame)
    assert stt_header(packet)[1:5] == (flags, l4_offset, 0, 0)
    assert codec.decap(packet).frame == frame
    assert (packet[72:] == frame) is (flags == 0)


def test_partial_field_is_the_pseudo_sum(codec: Codec) -> None:
    """STT-30: folded, not inverted."""
    packet = codec.encap(plain(STT, inner_checksum="partial"), TCP4)
    head = wire.pseudo(TCP4[26:30], TCP4[30:34], 6, len(TCP4) - 34)
    assert packet[72 + 34 + 16 :][:2] == struct.pack("!H", wire.sum16(head))


def test_verified_sets_c_alone(codec: Codec) -> None:
    """STT-20, STT-24: C and nothing else."""
    packet = codec.encap(plain(STT, inner_checksum="verified"), TCP4)
    assert stt_header(packet)[1:6] == (0x01, 0, 0, 0, 0)
    assert codec.decap(packet).frame == TCP4
    assert codec.decap(packet).tunnel.inner_checksum == "verified"


@pytest.mark.parametrize("mss", [1, 99, 100, 101, 1448, 65535])
def test_mss_field(codec: Codec, mss: int) -> None:
    """STT-21, STT-22: an MSS only with P, for TCP, and where there is something to cut."""
    tunnel = plain(STT, inner_checksum="partial", mss=mss)
    field = mss if mss < 100 else 0
    packet = codec.encap(tunnel, TCP4)
    assert stt_header(packet)[1:5] == (0x0E, 34, 0, field)
    assert codec.decap(packet).mss == field
    assert stt_header(codec.encap(tunnel, UDP4))[4] == 0
    with pytest.raises(ConfigError, match="mss"):
        plain(STT, mss=1000)
    with pytest.raises(ConfigError, match="mss"):
        plain(STT, mss=1000, inner_checksum="verified")


@pytest.mark.parametrize("tci", [0x0000, 0x0001, 0x0FFF, 0x6064, 0xE000, 0xEFFF, 0x1000, 0xFFFF])
def test_a_tag_moves_to_the_header(codec: Codec, tci: int) -> None:
    """STT-26, STT-27: VID 0 too; DEI has no place there."""
    frame = wire.tag(UDP4, (0x8100, tci))
    packet = codec.encap(plain(STT), frame)
    assert stt_header(packet)[5] == tci & 0xEFFF | 0x1000
    assert packet[72:] == UDP4
    assert codec.decap(packet).frame == wire.tag(UDP4, (0x8100, tci & 0xEFFF))


def test_only_one_tag_moves(codec: Codec) -> None:
    """STT-26: any further or other tag stays in the frame."""
    double = wire.tag(UDP4, (0x8100, 5), (0x8100, 6))
    packet = codec.encap(plain(STT), double)
    assert stt_header(packet)[5] == 0x1005
    assert packet[72:] == wire.tag(UDP4, (0x8100, 6))
    assert codec.decap(packet).frame == double
    packet = codec.encap(plain(STT), frames.DOUBLE_TAGGED)
    assert stt_header(packet)[5] == 0
    assert codec.decap(packet).frame == frames.DOUBLE_TAGGED


@pytest.mark.parametrize("tci", [0x0001, 0x0FFF, 0xE001, 0xEFFF])
def test_a_tci_without_v_is_ignored(codec: Codec, tci: int) -> None:
    """STT-28: but lenient reads what newer Open vSwitch sends."""
    packet = wire.stt(UDP4, tci=tci)
    assert codec.decap(packet).frame == UDP4
    assert codec.decap(packet, "strict").frame == UDP4
    assert codec.decap(packet, "lenient").frame == wire.tag(UDP4, (0x8100, tci))
    assert codec.decap(packet, inner_vlan="reject").frame == UDP4


def test_strip_drops_the_tci(codec: Codec) -> None:
    assert codec.decap(wire.stt(UDP4, tci=0x1005), inner_vlan="strip").frame == UDP4
    packet = wire.stt(frames.DOUBLE_TAGGED, tci=0x1005)
    assert codec.decap(packet, inner_vlan="strip").frame == UDP4


@given(
    window=s.u16, urgent=s.u16, flags=s.u8, reserved=s.u8, padding=s.u16,
    stt_flags=st.integers(0, 15).map(lambda n: n << 4),
)  # fmt: skip
def test_what_receivers_ignore(codec: Codec, window, urgent, flags, reserved, padding, stt_flags):
    """STT-10, STT-13, STT-17, STT-18, STT-19: window, urgent, TCP flags, and all reserved bits."""
    packet = wire.stt(
        UDP4, window=window, urgent=urgent, flags=flags, reserved=reserved, padding=padding,
        stt_flags=stt_flags,
    )  # fmt: skip
    for profile in ("rfc", "strict", "lenient"):
        assert codec.decap(packet, profile).frame == UDP4


@pytest.mark.parametrize("stt_flags", [0x00, 0x01, 0x04, 0x08, 0x0C, 0x0D])
def test_without_p_the_offload_fields_mean_nothing(codec: Codec, stt_flags: int) -> None:
    """STT-24: V, T, L4 offset and MSS are ignored, even where they are nonsense."""
    packet = wire.stt(TCP4, stt_flags=stt_flags, l4_offset=3, mss=7)
    result = codec.decap(packet)
    assert (result.frame, result.mss) == (TCP4, 0)


@pytest.mark.parametrize("version", [1, 2, 0x80, 0xFF])
def test_another_version_is_discarded(codec: Codec, version: int) -> None:
    """STT-16."""
    for profile in ("rfc", "strict", "lenient"):
        packet = wire.stt(UDP4, version=version)
        assert refused(codec, packet, profile) is Status.STT_VERSION


def test_c_and_p(codec: Codec) -> None:
    """STT-20: refused; P wins for a reader of captures."""
    partial = model.stt_frame(plain(STT, inner_checksum="partial"), TCP4)
    whole = partial[:1] + b"\x0f" + partial[2:]
    packet = wire.stt_segment(whole, frame_length=len(whole), offset=0)
    assert refused(codec, packet) is Status.STT_FLAGS
    assert refused(codec, packet, "strict") is Status.STT_FLAGS
    assert codec.decap(packet, "lenient").frame == TCP4


@pytest.mark.parametrize("name", ["TCP4", "TCP6", "UDP4", "UDP6"])
@pytest.mark.parametrize("seed", [0x0000, 0x1234, 0xFFFF])
def test_completion_from_nothing(codec: Codec, name: str, seed: int) -> None:
    """STT-30: right whatever the sender left in the field."""
    frame = getattr(frames, name)
    it = wire.inner(frame)
    tcp = it.protocol == wire.TCP
    at = it.l4 + (16 if tcp else 6)
    partial = frame[:at] + struct.pack("!H", seed) + frame[at + 2 :]
    flags = 2 | (4 if it.version == 4 else 0) | (8 if tcp else 0)
    packet = wire.stt(partial, stt_flags=flags, l4_offset=it.l4)
    assert codec.decap(packet).frame == frame


def test_a_completed_udp_sum_of_zero_is_ffff(codec: Codec) -> None:
    """STT-31."""
    frame = bytearray(frames.udp_frame(bytes(8)))
    frame[-2:] = frame[40:42]  # now the sum of all is 0xFFFF
    frame[40:42] = b"\0\0"
    packet = wire.stt(bytes(frame), stt_flags=0x06, l4_offset=34)
    assert codec.decap(packet).frame[40:42] == b"\xff\xff"


def test_completion_ends_with_the_ip_packet(codec: Codec) -> None:
    """Padding behind the inner IP packet is not summed."""
    packet = wire.stt(TCP4 + b"\xaa\xbb\xcc", stt_flags=0x0E, l4_offset=34)
    assert codec.decap(packet).frame == TCP4 + b"\xaa\xbb\xcc"


def test_a_cut_frame_is_not_completed(codec: Codec) -> None:
    blank = TCP4[:50] + b"\x12\x34" + TCP4[52:]
    packet = wire.stt(blank, stt_flags=0x0E, l4_offset=34)
    result = codec.decap(packet[:-3], wire_length=len(packet))
    assert (result.frame, result.wire_length) == (blank[:-3], len(blank))


@pytest.mark.parametrize("words", [6, 7, 15])
def test_data_offset(codec: Codec, words: int) -> None:
    """STT-54: a longer header is dropped, or skipped by a reader of captures."""
    packet = wire.stt(UDP4, options=bytes(4 * (words - 5)))
    assert refused(codec, packet) is Status.STT_DATA_OFFSET
    assert refused(codec, packet, "strict") is Status.STT_DATA_OFFSET
    assert codec.decap(packet, "lenient").frame == UDP4


@pytest.mark.parametrize("words", range(5))
def test_data_offset_below_five(codec: Codec, words: int) -> None:
    """STT-54."""
    for profile in ("rfc", "strict", "lenient"):
        packet = wire.stt(UDP4, data_offset=words)
        assert refused(codec, packet, profile) is Status.STT_DATA_OFFSET


def test_tcp_checksum(codec: Codec, family: int) -> None:
    """STT-14: a segment with a wrong one is dropped, unless it may be a sender's capture."""
    packet = wire.stt(UDP4, family=family, check=0x1234)
    assert refused(codec, packet) is Status.TCP_CHECKSUM
    assert codec.decap(packet, verify_checksums=False).frame == UDP4
    assert codec.decap(packet, "lenient").frame == UDP4


def test_a_tcp_sum_of_zero_stays_zero(codec: Codec, family: int) -> None:
    """STT-14: the rule for UDP is not one for TCP."""
    tunnel = plain(STT, family, source_port=5, frame_id=0, flow_label=0)
    frame = bytearray(wire.pattern(60))
    frame[58:60] = b"\0\0"
    frame[58:60] = wire.parse(codec.encap(tunnel, frame)).body[16:18]
    packet = codec.encap(tunnel, frame)
    assert wire.parse(packet).body[16:18] == b"\0\0"
    assert codec.decap(packet).frame == frame


# -- segmentation ---------------------------------------------------------------------------


@pytest.mark.parametrize("mtu", [79, 100, 576, 1280, 1500, 9000, 65535])
@pytest.mark.parametrize("length", [14, 60, 1422, 1423, 1442, 1443, 4066, 9001])
def test_segments(codec: Codec, family: int, length: int, mtu: int) -> None:
    """STT-2, STT-4, STT-6, STT-7, STT-8, STT-11, STT-14, STT-15, STT-37, STT-38: fitting, all but
    the last equal, one source port, one frame ID, the header once; they reassemble."""
    tunnel, frame = plain(STT, family), wire.pattern(length)
    packets = codec.packets(tunnel, frame, mtu)
    laws.check_segments(tunnel, frame, packets, mtu)
    laws.check_reassembles(codec, packets, frame)


@given(tunnel=s.tunnels(STT), frame=s.frames(least=14), mtu=st.integers(80, 3000), seq=s.u32)
def test_segments_of_any_frame(codec: Codec, tunnel: STT, frame: bytes, mtu: int, seq: int) -> None:
    """STT-2, STT-4, STT-8, STT-26, STT-30, STT-37: any tunnel, any frame, any MTU."""
    if model.refusal(tunnel, frame):
        with pytest.raises(EncapError):
            codec.packets(tunnel, frame, mtu, sequence=seq)
        return
    packets = codec.packets(tunnel, frame, mtu, sequence=seq)
    laws.check_segments(tunnel, frame, packets, mtu)
    laws.check_reassembles(codec, packets, model.decapped(tunnel, frame))


def test_one_segment_is_the_plain_packet(codec: Codec, family: int) -> None:
    tunnel = plain(STT, family, frame_id=1)
    assert codec.packets(tunnel, UDP4, 1500) == [codec.encap(tunnel, UDP4)]


def test_frame_ids_differ(codec: Codec) -> None:
    """STT-4, STT-5: one a frame, the same in its segments, not used again soon."""
    ids = [
        {tcp_header(packet)[3] for packet in codec.packets(plain(STT), frames.LONG, 1500)}
        for _ in range(100)
    ]
    assert all(len(one) == 1 for one in ids)
    assert len(set.union(*ids)) == 100


def test_rows_take_sequence_numbers(codec: Codec) -> None:
    """Each row takes as many numbers as it becomes packets."""
    some = [frames.LONG, UDP4, frames.LONG]
    out = Batch.packed(20000, 16)
    tunnel = plain(STT, df=False)
    written = codec.encap_into(Batch.from_frames(some), out, tunnel, 1500, sequence=0xFFFE)
    headers = [(wire.parse(p).ident, tcp_header(p)[3]) for p in out.to_list()]
    assert written == 7
    assert headers == [
        (0xFFFE, 0xFFFE), (0xFFFF, 0xFFFE), (0, 0xFFFE),
        (1, 0x10001),
        (2, 0x10002), (3, 0x10002), (4, 0x10002),
    ]  # fmt: skip
    assert out.origin.tolist() == [0, 0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize(("length", "fits"), [(65517, True), (65518, False)])
def test_the_longest_frame(codec: Codec, family: int, length: int, fits: bool) -> None:
    """STT-36: 65535 bytes of STT frame, header included; no TCP inside, so it cannot be cut."""
    tunnel, frame = plain(STT, family), wire.pattern(length)
    if fits:
        packets = codec.packets(tunnel, frame, 1500)
        laws.check_segments(tunnel, frame, packets, 1500)
        laws.check_reassembles(codec, packets, frame)
    else:
        with pytest.raises(EncapError, match="FRAME_TOO_LONG"):
            codec.packets(tunnel, frame, 1500)


@pytest.mark.parametrize("mss", [0, 1448])
def test_a_longer_tcp_frame_is_cut_first(codec: Codec, family: int, mss: int) -> None:
    """STT-36: pieces of at most the MSS, each an STT frame of its own, with right checksums."""
    frame = frames.tcp_frame(wire.pattern(65495), options=bytes(12))  # 65561 bytes, IP 65547
    frame = frame[:16] + b"\0\0" + frame[18:]  # as BIG TCP writes its length
    options = {"inner_checksum": "partial", "mss": mss} if mss else {}
    tunnel = plain(STT, family, **options)
    result = laws.outcome(lambda: codec.packets(tunnel, frame, 1500))
    assert result is Status.FRAME_TOO_LONG  # its IP length does not hold: no TCP to cut
    frame = frames.tcp_frame(wire.pattern(65483), options=bytes(12))  # 65549 bytes, IP 65535
    packets = codec.packets(tunnel, frame, 1500)
    reassembler = codec.SttReassembler()
    frames_back = []
    for packet in packets:
        assert wire.parse(packet).length <= 1500
        result = reassembler.push(packet, 0.0)
        if result is not None:
            frames_back.append(result.frame)
    data = b""
    for piece in frames_back:
        assert wire.complete(piece) == piece
        assert not mss or len(piece) - 66 <= mss
        data += piece[66:]
    assert data == frame[66:]
    assert reassembler.stats.pending == 0


# -- inner segmentation by the MSS ------------------------------------------------------------


def cut(frame: bytes, mss: int) -> list[bytes]:
    """What a TSO device makes of a TCP frame, the slow way."""
    it = wire.inner(frame)
    start = it.l4 + (frame[it.l4 + 12] >> 4) * 4
    data = frame[start : it.end]
    (seq,) = struct.unpack_from("!I", frame, it.l4 + 4)
    flags = frame[it.l4 + 13]
    pieces = []
    for n, at in enumerate(range(0, len(data), mss)):
        part = data[at : at + mss]
        piece = bytearray(frame[:start] + part)
        if it.version == 4:
            (ident,) = struct.unpack_from("!H", frame, it.l3 + 4)
            struct.pack_into("!HH", piece, it.l3 + 2, len(piece) - it.l3, (ident + n) & 0xFFFF)
            struct.pack_into("!H", piece, it.l3 + 10, 0)
            struct.pack_into("!H", piece, it.l3 + 10, wire.checksum(bytes(piece[it.l3 : it.l4])))
        else:
            struct.pack_into("!H", piece, it.l3 + 4, len(piece) - it.l4)
        struct.pack_into("!I", piece, it.l4 + 4, (seq + at) & 0xFFFFFFFF)
        keep = 0xFF
        if at + mss < len(data):
            keep &= ~0x09  # FIN and PSH on the last
        if at:
            keep &= ~0x80  # CWR on the first
        piece[it.l4 + 13] = flags & keep
        pieces.append(wire.complete(bytes(piece)))
    return pieces


@pytest.mark.parametrize("mss", [1, 7, 536, 1448, 3999])
@pytest.mark.parametrize("version", [4, 6])
def test_inner_segmentation(codec: Codec, version: int, mss: int) -> None:
    """STT-32, STT-33: lengths, IDs, sequence numbers, flags and checksums of every piece."""
    payload = wire.pattern(4000 if mss > 7 else 50)
    frame = frames.tcp_frame(
        payload, version, flags=0xFF, seq=2**32 - 20, ident=0xFFFE, options=bytes(12)
    )
    assert codec.segments(frame, mss) == cut(frame, mss)


def test_inner_segmentation_through_a_tag(codec: Codec) -> None:
    """STT-27, STT-32: the tag of the header comes back on every piece."""
    frame = wire.tag(frames.LONG, (0x8100, 0x2005))
    packet = codec.encap(plain(STT, inner_checksum="partial", mss=1448), frame)
    result = codec.decap(packet)
    assert (result.frame, result.mss) == (frame, 1448)
    assert result.segments() == cut(frame, 1448)
    assert all(piece[12:16] == bytes.fromhex("81002005") for piece in result.segments())


@pytest.mark.parametrize("mss", [100, 101, 65535])
def test_what_fits_the_mss_is_left_whole(codec: Codec, mss: int) -> None:
    assert codec.segments(TCP4, mss) == [TCP4]


@pytest.mark.parametrize("name", ["UDP4", "ARP", "EMPTY", "SCTP4"])
def test_only_tcp_is_cut(codec: Codec, name: str) -> None:
    """UDP with an MSS is delivered whole."""
    frame = getattr(frames, name)
    assert codec.segments(frame, 4) == [frame]


def test_without_an_mss_there_is_one_packet(codec: Codec) -> None:
    result = codec.decap(wire.stt(TCP4))
    assert result.segments() == [TCP4]


@given(frame=s.frames(), mss=st.integers(1, 2000))
def test_inner_segmentation_is_safe(codec: Codec, frame: bytes, mss: int) -> None:
    """Any bytes: cut into sound pieces, or left whole."""
    pieces = codec.segments(frame, mss)
    if len(pieces) == 1:
        assert pieces == [frame]
    else:
        assert all(wire.complete(piece) == piece for piece in pieces)
        # Padding after the datagram is not cut, it is left out.
        assert sum(map(len, pieces)) > wire.inner(frame).end


# -- congestion and DSCP ----------------------------------------------------------------------


def test_dscp_models(codec: Codec) -> None:
    """STT-52: pipe by default, uniform by choice, on one segment and on many."""
    frame = frames.udp_frame(wire.pattern(3000), tos=0x28)
    for packets in (
        [wire.stt(frame, ip_fields={"tos": 0xB8})],
        wire.stt_segments(frame, 1440, ip_fields={"tos": 0xB8}),
    ):
        for dscp, tos in (("pipe", 0x28), ("uniform", 0xB8)):
            reassembler = codec.SttReassembler(dscp=dscp)
            result = [reassembler.push(packet, 0.0) for packet in packets][-1]
            assert result is not None
            assert result.frame == wire.remark(frame, tos)
