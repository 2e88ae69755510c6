"""STT reassembly: any order, bounded memory, an explicit clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frames
import laws
import strategies as s
import wire
from overlay import Batch, ConfigError, DecapError, Decapsulated, ReassemblyStats, Status
from overlay.codec import Codec, Reassembler

FRAME = frames.udp_frame(wire.pattern(182))  # an STT frame of 242 bytes
WHOLE = wire.stt_frame(FRAME)


def segment(low: int, high: int, **fields) -> bytes:
    """The bytes low..high of WHOLE as a segment."""
    return wire.stt_segment(
        WHOLE[low:high], **{"frame_length": len(WHOLE), "offset": low, **fields}
    )


def push(reassembler: Reassembler, *packets: bytes, now: float = 0.0) -> list[bytes]:
    """The frames that these packets complete."""
    results = [reassembler.push(packet, now) for packet in packets]
    return [result.frame for result in results if result is not None]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_permutation(codec: Codec, family: int, count: int) -> None:
    """STT-38, STT-39: whichever segment comes last, the frame is whole then and not before."""
    size = -(-len(WHOLE) // count)
    packets = wire.stt_segments(FRAME, size, family=family)
    assert len(packets) == count
    for order in itertools.permutations(packets):
        laws.check_reassembles(codec, order, FRAME)


@pytest.mark.parametrize("size", [1, 5, 17, 18, 19, 31, 32, 33])
def test_tiny_segments(codec: Codec, size: int) -> None:
    """A first segment may be shorter than the STT header; forwards and backwards."""
    packets = wire.stt_segments(FRAME, size)
    laws.check_reassembles(codec, packets, FRAME)
    laws.check_reassembles(codec, reversed(packets), FRAME)


@pytest.mark.parametrize("length", [2030, 2031, 4078, 4079, 9001, 65517])
def test_frames_around_the_pages(codec: Codec, length: int) -> None:
    frame = wire.pattern(length)
    for packets in (wire.stt_segments(frame, 1440), wire.stt_segments(frame, 2049)[::-1]):
        laws.check_reassembles(codec, packets, frame)


def test_super_segments(codec: Codec) -> None:
    """STT-48: what receive offload glued together is larger than any MTU."""
    frame = wire.pattern(60000)
    laws.check_reassembles(codec, wire.stt_segments(frame, 40000), frame)
    laws.check_reassembles(codec, wire.stt_segments(frame, 60018), frame)


def test_a_whole_frame_needs_no_state(codec: Codec) -> None:
    reassembler = codec.SttReassembler()
    push(reassembler, segment(0, 100))
    assert push(reassembler, wire.stt(FRAME)) == [FRAME]
    assert reassembler.stats == ReassemblyStats(segments=2, frames=1, pending=1, memory=2048)


def test_a_duplicate_is_ignored(codec: Codec) -> None:
    """STT-40."""
    reassembler = codec.SttReassembler()
    first, second = segment(0, 121), segment(121, 242)
    assert push(reassembler, first, first, segment(5, 50), second) == [FRAME]
    assert reassembler.stats.duplicates == 2
    assert push(reassembler, second, first) == [FRAME]  # a frame that came twice comes twice


@pytest.mark.parametrize(("low", "high"), [(99, 150), (150, 201), (50, 250 - 8), (0, 101)])
def test_an_overlap_is_dropped(codec: Codec, low: int, high: int) -> None:
    """STT-41: its bytes, which differ, are never mixed into the frame."""
    reassembler = codec.SttReassembler()
    assert push(reassembler, segment(100, 200)) == []
    forged = wire.stt_segment(b"\xee" * (high - low), frame_length=len(WHOLE), offset=low)
    expected = Status.STT_OVERLAP
    batch = Batch.from_frames([forged])
    assert reassembler.push_batch(batch, Batch.packed(65536, 4), 0.0) == 0
    assert batch.status[0] == expected
    assert reassembler.stats.overlaps == 1
    assert push(reassembler, segment(0, 100), segment(200, 242)) == [FRAME]


def test_gaps_of_one_byte(codec: Codec) -> None:
    """STT-41: every other byte, then the others; a segment over a filled hole overlaps."""
    reassembler = codec.SttReassembler()
    odd = [segment(at, at + 1) for at in range(1, len(WHOLE), 2)]
    even = [segment(at, at + 1) for at in range(0, len(WHOLE), 2)]
    assert push(reassembler, *odd) == []
    assert push(reassembler, segment(0, 2), segment(4, 6)) == []
    assert reassembler.stats.overlaps == 2
    assert push(reassembler, *even) == [FRAME]


def test_segments_that_break_the_bounds(codec: Codec) -> None:
    """STT-42, STT-43, STT-53: refused, and nothing is held for them."""
    reassembler = codec.SttReassembler()
    for packet, status in [
        (wire.stt_segment(bytes(50), frame_length=100, offset=51), Status.STT_BOUNDS),
        (wire.stt_segment(bytes(101), frame_length=100, offset=0), Status.STT_BOUNDS),
        (wire.stt_segment(bytes(1), frame_length=100, offset=65535), Status.STT_BOUNDS),
        (wire.stt_segment(b"", frame_length=100, offset=0), Status.STT_EMPTY),
        (wire.stt_segment(bytes(10), frame_length=31, offset=0), Status.STT_LENGTH),
        (segment(0, 100, check=0x1234), Status.TCP_CHECKSUM),
    ]:
        with pytest.raises(DecapError) as error:
            reassembler.push(packet, 0.0)
        assert error.value.status is status
    assert reassembler.stats == ReassemblyStats(segments=6, refused=6)


def test_a_missing_segment(codec: Codec) -> None:
    """STT-44: nothing is delivered, and 30 seconds after the first segment all is freed."""
    reassembler = codec.SttReassembler()
    assert push(reassembler, segment(0, 100), now=5.0) == []
    assert push(reassembler, segment(200, 242), now=30.0) == []
    assert reassembler.expire(34.999) == 0
    assert reassembler.stats.pending == 1
    assert reassembler.expire(35.0) == 1
    stats = reassembler.stats
    assert (stats.pending, stats.memory, stats.timed_out, stats.frames) == (0, 0, 1, 0)
    assert push(reassembler, segment(100, 200), now=36.0) == []  # it starts anew


def test_a_push_expires_first(codec: Codec) -> None:
    """STT-44: the rest of a frame that is too old does not complete it."""
    reassembler = codec.SttReassembler(timeout=2.5)
    assert push(reassembler, segment(0, 121), now=1.0) == []
    assert push(reassembler, segment(121, 242), now=3.5) == []
    assert reassembler.stats.timed_out == 1
    assert reassembler.stats.pending == 1
    assert push(reassembler, segment(0, 121), now=5.99) == [FRAME]


def test_memory_is_bounded(codec: Codec) -> None:
    """STT-45: the frames that came first are evicted first."""
    reassembler = codec.SttReassembler(memory=65536)
    pages = 65536 // 2048
    for n in range(pages + 3):
        assert push(reassembler, segment(0, 100, frame_id=n)) == []
        assert reassembler.stats.memory <= 65536
    stats = reassembler.stats
    assert (stats.evicted, stats.pending, stats.memory) == (3, pages, 65536)
    for n in range(3, 3 + pages):
        assert push(reassembler, segment(100, 242, frame_id=n)) == [FRAME]
    assert reassembler.stats.evicted == 3
    for n in range(3):  # these were given up
        assert push(reassembler, segment(100, 242, frame_id=n)) == []


def test_one_frame_larger_than_the_rest_of_memory(codec: Codec) -> None:
    """STT-45: every other frame goes, the frame that is being filled stays."""
    reassembler = codec.SttReassembler(memory=65536)
    for n in range(10):
        push(reassembler, segment(0, 100, frame_id=n))
    frame = wire.pattern(65517)
    assert push(reassembler, *wire.stt_segments(frame, 1440, frame_id=99)) == [frame]
    stats = reassembler.stats
    assert (stats.evicted, stats.frames, stats.pending, stats.memory) == (10, 1, 0, 0)


def test_interleaved_frames(codec: Codec) -> None:
    """STT-46: told apart by the frame ID alone."""
    other = frames.udp_frame(wire.pattern(182, 9))
    a = wire.stt_segments(FRAME, 60, frame_id=1)
    b = wire.stt_segments(other, 60, frame_id=2)
    mixed = [packet for pair in zip(a, b, strict=True) for packet in pair]
    reassembler = codec.SttReassembler()
    assert push(reassembler, *mixed) == [FRAME, other]
    assert reassembler.stats == ReassemblyStats(segments=len(mixed), frames=2)


@pytest.mark.parametrize(
    "other",
    [
        {"src": "192.0.2.9"},
        {"dst": "192.0.2.9"},
        {"sport": 50000},
        {"frame_id": 2},
        {"frame_length": len(WHOLE) + 1},
        {"family": 6},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_segments_of_different_frames_do_not_mix(codec: Codec, other: dict) -> None:
    """STT-47: destination, source, source port, frame ID and frame length tell frames apart."""
    reassembler = codec.SttReassembler()
    assert push(reassembler, segment(0, 121)) == []
    assert push(reassembler, segment(121, 242, **other)) == []
    assert reassembler.stats.pending == 2
    assert push(reassembler, segment(121, 242)) == [FRAME]


@pytest.mark.parametrize("marked", range(4))
def test_congestion_on_any_segment(codec: Codec, marked: int) -> None:
    """STT-50, STT-51: whichever segment carries CE, and in whichever order they come."""
    frame = frames.udp_frame(wire.pattern(182), tos=0x02)
    packets = [
        wire.stt_segments(frame, 61, ip_fields={"tos": 3 if n == marked else 2})[n]
        for n in range(4)
    ]
    for order in itertools.permutations(packets):
        laws.check_reassembles(codec, order, wire.remark(frame, 0x03))


def test_congestion_over_a_frame_that_cannot_tell(codec: Codec) -> None:
    """COM-11, STT-51: CE on a segment of a Not-ECT frame drops the frame."""
    packets = wire.stt_segments(FRAME, 121)
    packets[1] = wire.stt_segments(FRAME, 121, ip_fields={"tos": 3})[1]
    reassembler = codec.SttReassembler()
    assert reassembler.push(packets[1], 0.0) is None
    with pytest.raises(DecapError, match="ECN_CONGESTION"):
        reassembler.push(packets[0], 0.0)
    stats = reassembler.stats
    assert (stats.refused, stats.pending, stats.memory, stats.frames) == (1, 0, 0, 0)


def test_marks_without_ce_are_the_first_segments(codec: Codec) -> None:
    """STT-51, STT-52: ECT(1) over ECT(0), and the DSCP, count at offset 0."""
    frame = frames.udp_frame(wire.pattern(182), tos=0x02)
    first = wire.stt_segments(frame, 121, ip_fields={"tos": 0xB9})[0]
    second = wire.stt_segments(frame, 121, ip_fields={"tos": 0x28})[1]
    for order in [(first, second), (second, first)]:
        reassembler = codec.SttReassembler(dscp="uniform")
        assert push(reassembler, *order) == [wire.remark(frame, 0xB9)]


def test_bad_headers_show_when_the_frame_is_whole(codec: Codec) -> None:
    """STT-16, STT-34, COM-17: the STT header is judged once all bytes are there."""
    for fields, status, options in [
        ({"version": 1}, Status.STT_VERSION, {}),
        ({"stt_flags": 0x0E, "l4_offset": 20}, Status.STT_L4_OFFSET, {}),
        ({"context_id": 9}, Status.UNKNOWN_KEY, {"keys": [1]}),
        ({"tci": 0x1001}, Status.INNER_TAGGED, {"inner_vlan": "reject"}),
    ]:
        reassembler = codec.SttReassembler(**options)
        last, *others = wire.stt_segments(FRAME, 100, **fields)
        assert push(reassembler, *others) == []
        with pytest.raises(DecapError) as error:
            reassembler.push(last, 0.0)
        assert error.value.status is status
        assert reassembler.stats.pending == 0


def test_partial_checksums_and_tags_are_mended(codec: Codec) -> None:
    """STT-27, STT-30, STT-32: as for one packet; the MSS is told."""
    blank = frames.LONG[:50] + b"\x12\x34" + frames.LONG[52:]
    packets = wire.stt_segments(blank, 1460, stt_flags=0x0E, l4_offset=34, mss=1448, tci=0x1005)
    reassembler = codec.SttReassembler()
    results = [reassembler.push(packet, 0.0) for packet in reversed(packets)]
    result = results[-1]
    assert results[:-1] == [None, None]
    assert isinstance(result, Decapsulated)
    assert result.frame == wire.tag(frames.LONG, (0x8100, 5))
    assert (result.mss, result.key, result.protocol) == (1448, 0x1122334455667788, "stt")
    assert result.header == packets[0][:72]
    assert len(result.segments()) == 3


def test_the_tunnel_of_a_reassembled_frame(codec: Codec, family: int) -> None:
    packets = wire.stt_segments(FRAME, 100, family=family)
    reassembler = codec.SttReassembler()
    result = [reassembler.push(packet, 0.0) for packet in reversed(packets)][-1]
    assert result is not None
    tunnel = result.tunnel
    assert (tunnel.local, tunnel.remote) == (wire.LOCAL[family], wire.REMOTE[family])
    assert (tunnel.source_port, tunnel.frame_id, tunnel.context_id) == (
        49407, 0x10000, 0x1122334455667788,
    )  # fmt: skip


def test_a_cut_segment_cannot_be_held(codec: Codec) -> None:
    packet = segment(0, 121)
    batch = Batch.from_frames([packet[:-1]])
    batch.wire[0] = len(packet)
    reassembler = codec.SttReassembler()
    reassembler.push_batch(batch, Batch.packed(65536, 2), 0.0)
    assert batch.status[0] == Status.FRAME_CUT
    assert (reassembler.stats.refused, reassembler.stats.pending) == (1, 0)


def test_headers_that_cannot_be_kept(codec: Codec) -> None:
    """Outer headers of more than 256 bytes are refused, and only where they would be held."""
    most = [(60, bytes([21]) + bytes(6 + 8 * 21))]  # 14 + 40 + 176 + 20 = 250
    more = [(60, bytes([22]) + bytes(6 + 8 * 22))]  # 258
    for extensions, taken in [(most, True), (more, False)]:
        fields = {"extensions": extensions}
        packets = wire.stt_segments(FRAME, 121, family=6, ip_fields=fields)
        if taken:
            laws.check_reassembles(codec, packets, FRAME)
        else:
            with pytest.raises(DecapError, match="IP_EXTENSION"):
                codec.SttReassembler().push(packets[0], 0.0)
        assert push(codec.SttReassembler(), wire.stt(FRAME, family=6, ip_fields=fields)) == [FRAME]


def test_only_stt_is_reassembled(codec: Codec) -> None:
    reassembler = codec.SttReassembler()
    for packet in (wire.vxlan(FRAME), wire.nvgre(FRAME)):
        with pytest.raises(DecapError, match="UNKNOWN_PROTOCOL"):
            reassembler.push(packet, 0.0)
    assert reassembler.stats == ReassemblyStats(segments=2, refused=2)


@pytest.mark.parametrize("room", [1, len(WHOLE) - 1, len(WHOLE)])
def test_no_room_for_a_whole_frame(codec: Codec, room: int) -> None:
    """The segment is neither stored nor counted, and can be pushed again; a frame takes the room
    of its STT frame."""
    first, last = wire.stt_segments(FRAME, 121)
    reassembler = codec.SttReassembler()
    push(reassembler, first)
    batch, out = Batch.from_frames([last]), Batch.packed(room, 1)
    if room < len(WHOLE):
        assert reassembler.push_batch(batch, out, 0.0) == 0
        assert batch.status[0] == Status.NO_ROOM
        assert reassembler.stats == ReassemblyStats(segments=1, pending=1, memory=2048)
        batch.status[0] = Status.OK
        out = Batch.packed(len(WHOLE), 1)
    assert reassembler.push_batch(batch, out, 0.0) == 1
    assert out.to_list() == [FRAME]
    assert reassembler.stats == ReassemblyStats(segments=2, frames=1)


def test_push_batch(codec: Codec) -> None:
    """Rows say what became of them; whole frames are appended with the row that made them."""
    a, b = wire.stt_segments(FRAME, 121, frame_id=1), wire.stt_segments(FRAME, 121, frame_id=2)
    stream = [a[0], b[1], b[1], b"junk", wire.stt(FRAME), a[1], b[0]]
    batch, out = Batch.from_frames(stream), Batch.packed(65536, 8)
    reassembler = codec.SttReassembler()
    assert reassembler.push_batch(batch, out, 1.0) == 3
    assert [Status(n) for n in batch.status] == [
        Status.STT_INCOMPLETE, Status.STT_INCOMPLETE, Status.STT_DUPLICATE,
        Status.ETHERNET_TRUNCATED, Status.OK, Status.OK, Status.OK,
    ]  # fmt: skip
    assert out.to_list() == [FRAME] * 3
    assert out.origin.tolist() == [4, 5, 6]
    assert out.key.tolist() == [0x1122334455667788] * 3
    assert out.status.tolist() == [0] * 3
    assert [bytes(batch[row]) for row in range(7)] == stream
    assert reassembler.stats == ReassemblyStats(segments=7, frames=3, duplicates=1, refused=1)


@given(stream=s.streams())
def test_batches_equal_single_pushes(codec: Codec, stream: s.Stream) -> None:
    """One at a time or in batches, the same statuses, frames and counts."""
    single, batched = codec.SttReassembler(), codec.SttReassembler()
    now = 0.0
    for packet, wait in stream.arrivals:
        now += wait
        result = laws.outcome(lambda p=packet, t=now: single.push(p, t))
        batch, out = Batch.from_frames([packet]), Batch.packed(70000, 1)
        batched.push_batch(batch, out, now)
        if isinstance(result, Status):
            assert batch.status[0] == result
        elif result is None:
            assert batch.status[0] in (
                Status.STT_INCOMPLETE, Status.STT_DUPLICATE, Status.STT_OVERLAP,
            )  # fmt: skip
        else:
            assert out.to_list() == [result.frame]
        assert batched.stats == single.stats


@given(size=st.integers(1, 300), seed=st.integers(0, 2**32), data=st.data())
def test_any_order_with_repeats(codec: Codec, size: int, seed: int, data: st.DataObject) -> None:
    """STT-39, STT-40: once all bytes have come the frame is there, exactly as it was sent."""
    packets = wire.stt_segments(FRAME, max(size, 20))
    order = data.draw(st.permutations(packets))
    again = data.draw(st.lists(st.sampled_from(packets), max_size=4))
    reassembler = codec.SttReassembler()
    delivered = push(reassembler, *order[:-1], *[p for p in again if p != order[-1]], order[-1])
    whole = len(packets) == 1
    assert set(delivered) == {FRAME}
    assert whole or delivered == [FRAME]


@pytest.mark.parametrize("timeout", [0, -1, 2**32, float("nan"), "30", None])
def test_bad_timeouts(codec: Codec, timeout: object) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        codec.SttReassembler(timeout=timeout)


@pytest.mark.parametrize("memory", [0, 65535, -1, 1.5, "1M", None])
def test_bad_budgets(codec: Codec, memory: object) -> None:
    with pytest.raises(ConfigError, match="memory"):
        codec.SttReassembler(memory=memory)


@pytest.mark.parametrize("now", [-1.0, 2**33, float("nan"), float("inf"), None, "now"])
def test_bad_clocks(codec: Codec, now: object) -> None:
    reassembler = codec.SttReassembler()
    with pytest.raises(ConfigError, match="now"):
        reassembler.push(segment(0, 10), now)
    with pytest.raises(ConfigError, match="now"):
        reassembler.expire(now)
