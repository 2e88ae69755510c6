"""The public strategies: what they give, and what they shrink to."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st

import wire
from overlay import (
    NVGRE,
    PROTOCOLS,
    STT,
    VXLAN,
    CaptureError,
    ConfigError,
    DecapError,
    GeneveOption,
    Profile,
    Status,
    SttReassembler,
    Tunnel,
    decap,
    strategies,
)
from overlay.io.pcap import open_capture

T = TypeVar("T")
LENIENT = Profile.of("lenient")
#: The plainest frame: UDP over IPv4, all zero but what has to be there.
PLAIN = bytes(12) + b"\x08\x00" + bytes.fromhex(
    "4500001c000040004011b6ce" "c0000201" "c0000201" "0000000000087bdb"
)  # fmt: skip


def plainest(strategy: st.SearchStrategy[T], condition: Callable[[T], bool] = lambda _: True) -> T:
    """What a failing test would show."""
    return find(
        strategy,
        condition,
        settings=settings(
            max_examples=3000, database=None, deadline=None, phases=[Phase.generate, Phase.shrink]
        ),
    )


# -- frames -----------------------------------------------------------------------------


@given(strategies.ip_frames())
def test_ip_frames_are_sound(frame: bytes) -> None:
    """Every length and checksum is right, by the tests' own reading."""
    it = wire.inner(frame)
    assert it.version in (4, 6)
    assert it.end == len(frame)
    if it.version == 4:
        assert wire.checksum(frame[it.l3 : it.l4]) == 0
    if it.protocol in (wire.TCP, wire.UDP):
        assert wire.complete(frame) == frame
    if it.protocol == wire.UDP:
        assert int.from_bytes(frame[it.l4 + 4 :][:2], "big") == it.end - it.l4
    if it.protocol == 1:
        assert wire.checksum(frame[it.l4 :]) == 0


@given(st.data())
def test_frames_keep_to_what_was_asked(data: st.DataObject) -> None:
    least, most = data.draw(st.integers(0, 100)), data.draw(st.integers(128, 9001))
    frame = data.draw(strategies.frames(min_size=least, max_size=most))
    assert least <= len(frame) <= most
    frame = data.draw(strategies.ip_frames(versions=[6], protocols=["tcp"], tos=st.just(3)))
    it = wire.inner(frame)
    assert (it.version, it.protocol, it.tos) == (6, wire.TCP, 3)
    assert not wire.inner(data.draw(strategies.ip_frames(tagged=False))).tags


def test_frames_shrink_to_the_plainest() -> None:
    assert plainest(strategies.ip_frames()) == PLAIN
    assert plainest(strategies.frames(), lambda f: f[12:14] == b"\x08\x00") == PLAIN
    assert plainest(strategies.frames()) in (b"", PLAIN)
    six = plainest(strategies.ip_frames(), lambda f: wire.inner(f).version == 6)
    assert six[14:22] == bytes.fromhex("6000000000081140")
    tagged = plainest(strategies.ip_frames(), lambda f: len(wire.inner(f).tags) == 2)
    assert wire.inner(tagged).tags == [(0x8100, 0), (0x8100, 0)]
    assert wire.untag(tagged) == PLAIN


@pytest.mark.parametrize("length", [43, 60, 100, 1500])
def test_a_length_that_matters_shrinks_to_itself(length: int) -> None:
    four = strategies.ip_frames(versions=[4])
    assert len(plainest(four, lambda f: len(f) >= length)) == length


# -- tunnels ----------------------------------------------------------------------------


def test_every_protocol_is_drawn() -> None:
    for name, cls in PROTOCOLS.items():
        assert isinstance(plainest(strategies.tunnels([name])), cls)
        assert isinstance(plainest(strategies.tunnels([cls])), cls)
        assert isinstance(plainest(strategies.tunnels(), lambda t, c=cls: isinstance(t, c)), cls)


def test_tunnels_shrink_to_defaults() -> None:
    ends = {"local": "192.0.2.1", "remote": "192.0.2.1"}
    assert plainest(strategies.tunnels()) == VXLAN(vni=0, **ends)
    assert plainest(strategies.tunnels(["stt"])) == STT(context_id=0, **ends)
    marked = plainest(strategies.tunnels(), lambda t: t.dscp == "inherit")
    assert marked == VXLAN(vni=0, dscp="inherit", **ends)
    keyed = plainest(strategies.tunnels(["vxlan"]), lambda t: t.vni >= 5001)
    assert keyed == VXLAN(vni=5001, **ends)


@given(strategies.tunnels([VXLAN, NVGRE], versions=[6], ttl=9, seed=st.integers(1, 3)))
def test_fields_can_be_chosen(tunnel: Tunnel) -> None:
    assert isinstance(tunnel, (VXLAN, NVGRE))
    assert (tunnel.family, tunnel.ttl) == (6, 9)
    assert 1 <= tunnel.seed <= 3


@given(strategies.tunnels())
def test_a_tunnel_shows_itself_as_it_can_be_made(tunnel: Tunnel) -> None:
    assert eval(repr(tunnel), dict(PROTOCOLS_BY_CLASS)) == tunnel


PROTOCOLS_BY_CLASS: dict[str, type] = {cls.__name__: cls for cls in PROTOCOLS.values()}
PROTOCOLS_BY_CLASS["GeneveOption"] = GeneveOption


def test_options_fit_their_header() -> None:
    most = plainest(strategies.geneve_options(), lambda options: len(options) == 2)
    assert [len(option.data) for option in most] == [0, 0]
    full = plainest(strategies.geneve_options(), lambda options: sum(map(_size, options)) == 252)
    assert sum(map(_size, full)) == 252
    assert plainest(strategies.geneve_options(max_bytes=0)) == ()


def _size(option: object) -> int:
    return len(bytes(option))  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: strategies.tunnels(["ipip"]), "protocols='ipip': expected some of vxlan"),
        (lambda: strategies.tunnels([]), "protocols="),
        (lambda: strategies.tunnels(["vxlan"], vsid=1), "'vsid': expected a field of VXLAN"),
        (lambda: strategies.ip_frames(versions=[5]), r"versions=\[5\]"),
        (lambda: strategies.ip_frames(protocols=["gre"]), "protocols='gre'"),
        (lambda: strategies.frames(max_size=10), "max_size=10: expected at least 128"),
        (lambda: strategies.frames(min_size=1000), "min_size=1000: expected 0 to 100"),
        (lambda: strategies.geneve_options(max_bytes=256), "max_bytes=256: expected 0 to 252"),
    ],
)
def test_mistakes_are_named_at_once(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


# -- packets ----------------------------------------------------------------------------------


@given(strategies.packets(strategies.tunnels(["vxlan"], port=4789)))
def test_packets_are_taken(packet: bytes) -> None:
    assert decap(packet, LENIENT).protocol == "vxlan"


def test_packets_shrink_to_a_plain_frame_in_a_plain_tunnel() -> None:
    packet = plainest(strategies.packets())
    assert packet == VXLAN(vni=0, local="192.0.2.1", remote="192.0.2.1").encap(PLAIN)
    for name in PROTOCOLS:
        assert plainest(strategies.packets(strategies.tunnels([name]))).endswith(PLAIN[14:])


SOURCE = VXLAN(vni=7, checksum=True, local="192.0.2.1", remote="192.0.2.2").encap(PLAIN)


@given(strategies.corrupted(st.just(SOURCE) | st.binary(max_size=3)))
def test_corrupted_packets_are_not_what_they_were(packet: bytes) -> None:
    assert packet != SOURCE


def test_a_corrupted_packet_shrinks_to_one_bit() -> None:
    packet = plainest(strategies.corrupted(st.just(SOURCE)))
    assert packet == bytes([SOURCE[0] ^ 1]) + SOURCE[1:]


def _status(packet: bytes) -> Status:
    try:
        decap(packet)
    except DecapError as error:
        return error.status
    return Status.OK


@pytest.mark.parametrize(
    "status",
    [Status.IP_CHECKSUM, Status.UDP_CHECKSUM, Status.UDP_LENGTH, Status.VXLAN_NO_VNI,
     Status.IP_LENGTH, Status.IP_HEADER_LENGTH, Status.NOT_IP],
    ids=lambda status: status.name,
)  # fmt: skip
def test_corruption_reaches_every_check(status: Status) -> None:
    """And shrinks to one place: at most a field and the checksums that follow from it."""
    packet = plainest(strategies.corrupted(st.just(SOURCE)), lambda p: _status(p) is status)
    if len(packet) == len(SOURCE):
        assert sum(a != b for a, b in zip(packet, SOURCE, strict=True)) <= 6


@given(strategies.corrupted(st.just(SOURCE), mend=True))
def test_mended_packets_get_past_the_outer_checksums(packet: bytes) -> None:
    assume(packet[12:14] == b"\x08\x00" and len(packet) > 42)
    assert _status(packet) is not Status.IP_CHECKSUM


@given(strategies.packets(strategies.tunnels(["stt", "vxlan"])))
def test_a_sound_packet_needs_no_mending(packet: bytes) -> None:
    assert strategies.mended(packet) == packet


@given(st.data())
def test_truncated_packets_are_beginnings(data: st.DataObject) -> None:
    packet = data.draw(strategies.truncated(st.just(SOURCE)))
    assert SOURCE.startswith(packet)
    assert len(packet) < len(SOURCE)


def test_truncated_packets_shrink_to_the_shortest() -> None:
    short = plainest(strategies.truncated(), lambda p: _status(p) is Status.IP_TRUNCATED)
    assert len(short) in (14, 15)
    assert plainest(strategies.truncated(st.just(b""))) == b""


# -- STT ------------------------------------------------------------------------------------------


@given(
    strategies.stt_segments(
        strategies.tunnels(["stt"], inner_checksum="unknown", ecn="zero"),
        lost=False, delayed=False, overlapped=False,
    )
)  # fmt: skip
def test_segments_that_all_come_give_every_frame(segments: strategies.SttSegments) -> None:
    reassembler = SttReassembler(profile="lenient")
    got = [reassembler.push(packet, 1.0) for packet in segments.packets]
    frames = [one.frame for one in got if one is not None]
    assert segments.complete == (True,) * len(segments.frames)
    assert sorted(set(frames)) == sorted(set(segments.frames))


@given(strategies.stt_segments(delayed=False, shuffled=False, duplicated=False, overlapped=False))
def test_frames_that_miss_a_segment_never_come(segments: strategies.SttSegments) -> None:
    reassembler = SttReassembler(profile="lenient")
    came = sum(reassembler.push(packet, 1.0) is not None for packet in segments.packets)
    assert came == sum(segments.complete)


def test_segments_shrink() -> None:
    one = plainest(strategies.stt_segments())
    assert one.frames == (PLAIN,)
    assert one.packets == [decap(one.packets[0]).tunnel.encap(PLAIN)]
    lost = plainest(strategies.stt_segments(), lambda s: not all(s.complete))
    assert (lost.frames, lost.arrivals) == ((PLAIN,), ())
    two = plainest(strategies.stt_segments(), lambda s: len(s.frames) == 2)
    assert two.frames == (PLAIN, PLAIN)
    assert len(two.packets) == 2
    assert "2 frames: 0xfffffffe@50000[0:+60/60] after 0s" in repr(two)


# -- captures -----------------------------------------------------------------------------


def _read(data: bytes) -> list[bytes]:
    with open_capture(io.BytesIO(data)) as capture:
        return [bytes(burst.batch[row]) for burst in capture for row in range(len(burst))]


@given(strategies.captures(st.just(SOURCE), broken=False))
def test_valid_captures_are_read_whole(data: bytes) -> None:
    assert _read(data) == [SOURCE] * data.count(SOURCE)


@given(strategies.captures(st.binary(max_size=60), broken=True))
def test_broken_captures_are_read_to_where_they_break(data: bytes) -> None:
    try:
        _read(data)
    except CaptureError as error:
        assert str(error).startswith("the capture")


def test_captures_shrink() -> None:
    empty = plainest(strategies.captures(st.just(SOURCE)))
    assert empty == wire.pcap([])[:0] + bytes.fromhex(
        "d4c3b2a10200040000000000000000000000040001000000"
    )
    one = plainest(strategies.captures(broken=False), lambda data: len(data) > 24)
    assert len(_read(one)) == 1 or one[:4] == b"\n\r\r\n"
    ng = plainest(strategies.captures(formats=("pcapng",), broken=False))
    assert (len(ng), _read(ng)) == (48, [])
