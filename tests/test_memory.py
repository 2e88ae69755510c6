"""Memory: what one end sends, the other receives, as it was sent."""

from __future__ import annotations

import select
import threading
import time

import pytest

import frames
import model
import overlay
import wire
from overlay import NVGRE, STT, VXLAN, Batch, ConfigError, Status, Tunnel
from overlay.io.device import FRAME_MAX, burst
from overlay.io.memory import Memory
from test_encap import plain


def frame(number: int, size: int = 60) -> bytes:
    return number.to_bytes(4, "big") * 3 + b"\x08\x00" + bytes(size - 14)


def readable(device: Memory, seconds: float = 0.0) -> bool:
    return bool(select.select([device.fileno()], [], [], seconds)[0])


def test_frames_pass_both_ways_in_order() -> None:
    one, other = Memory.pair()
    with one, other:
        frames = [frame(i, 60 + i) for i in range(200)]
        assert one.put(frames) == 200
        assert other.put(frames[:3]) == 3
        assert other.take() == frames
        assert one.take() == frames[:3]
        assert one.take() == []
        assert one.stats.tx_packets == other.stats.rx_packets == 200
        assert one.stats.tx_bytes == other.stats.rx_bytes == sum(map(len, frames))
        assert one.stats.lost == {}


def test_columns_stay_with_a_row_and_rows_have_headroom() -> None:
    one, other = Memory.pair()
    batch = Batch.from_frames([frame(i, 3000) for i in range(3)])
    batch.mss[:] = 1000, 0, 1400
    batch.checksum[:] = 2, 1, 2
    batch.protocol[:] = 1, 2, 3
    batch.key[:] = 7, 2**64 - 1, 9
    batch.wire[:] = 3000, 3001, 3002
    with one, other:
        assert one.send(batch) == 2
        assert Status(batch.status[1]) is Status.MTU_EXCEEDED
        got = burst()
        assert other.recv(got) == 2
    kept = [0, 2]
    for column in ("mss", "checksum", "protocol", "key", "wire", "length", "link"):
        assert getattr(got, column).tolist() == getattr(batch, column)[kept].tolist(), column
    assert (got.offset - got.base >= 128).all()
    assert [bytes(got[row]) for row in (0, 1)] == [bytes(batch[row]) for row in kept]


def test_a_datagram_keeps_its_outer_header() -> None:
    one, other = Memory.pair(underlay=True)
    header = bytes(range(40))
    batch = Batch.from_frames([header, b"the payload of a datagram"])
    batch.status[0] = Status.UNRESOLVED
    batch.link[1] = 3
    batch.outer[1] = batch.offset[0]
    with one, other:
        assert one.send(batch) == 1
        got = burst()
        assert other.recv(got) == 1
    assert bytes(got[0]) == b"the payload of a datagram"
    at = int(got.outer[0])
    assert bytes(got.data[at : at + 40]) == header
    assert got.link[0] == 3


def test_rows_that_are_refused_say_why_and_are_counted() -> None:
    one, other = Memory.pair(capacity=2, mtu=100)
    frames = [frame(0, 115), frame(1, 114), frame(2)[:13], frame(3), frame(4), frame(5)]
    batch = Batch.from_frames(frames)
    batch.offset[4] = 2**40
    skipped = Batch.from_frames([frame(9)])
    skipped.status[0] = Status.UNRESOLVED
    with one, other:
        assert one.send(skipped) == 0
        assert one.send(batch) == 2
        assert [Status(s).name for s in batch.status] == [
            "MTU_EXCEEDED", "OK", "FRAME_TOO_SHORT", "OK", "BAD_ROW", "DEVICE_FULL",
        ]  # fmt: skip
        assert one.stats.lost == {Status(s): 1 for s in batch.status if s}
        assert other.take() == [frames[1], frames[3]]
        assert one.put(frames[3:]) == 2
        other.close()
        late = Batch.from_frames([frame(6)])
        assert one.send(late) == 0
        assert Status(late.status[0]) is Status.DEVICE_DOWN


def test_the_mtu_is_of_the_ip_packet_whatever_the_tags() -> None:
    one, other = Memory.pair(mtu=100)
    tag = b"\x81\x00\x00\x05"
    plain = frame(1, 114)
    tagged = plain[:12] + tag + plain[12:]
    twice = plain[:12] + tag + tag + plain[12:]
    with one, other:
        assert one.put([plain, tagged, twice]) == 3
        assert one.put([plain + b"x", tagged + b"x", twice + b"x"]) == 0


def test_what_was_sent_before_the_end_closed_is_received() -> None:
    one, other = Memory.pair()
    one.put([frame(1)])
    stats = one.stats
    one.close()
    one.close()
    assert one.stats == stats
    assert other.take() == [frame(1)]
    other.close()
    with pytest.raises(ValueError, match="closed"):
        other.take()


def test_the_descriptor_is_readable_while_something_waits() -> None:
    one, other = Memory.pair()
    with one, other:
        assert not readable(other)
        for _ in range(3):
            one.put([frame(1), frame(2)])
            assert readable(other)
            assert not readable(one)
            assert other.take(1) == [frame(1)]
            assert readable(other)
            assert other.take(1) == [frame(2)]
            assert not readable(other)


def test_what_does_not_fit_comes_with_the_next_call() -> None:
    one, other = Memory.pair()
    frames = [frame(i, 1000) for i in range(10)]
    small = Batch.packed(2500, 64)
    with one, other:
        one.put(frames)
        got: list[bytes] = []
        while other.recv(small):
            got += small.to_list()
            assert small.count <= 2
        assert got == frames
        one.put([frame(1, 1000)])
        with pytest.raises(OSError, match="recv"):
            other.recv(Batch.packed(500, 4))
        assert other.take() == [frame(1, 1000)]


def test_the_longest_rows_pass_for_ever() -> None:
    one, other = Memory.pair(capacity=4, size=1, mtu=65535)
    with one, other:
        for round_ in range(20):
            frames = [frame(round_, FRAME_MAX - 8 - round_), frame(round_, 61)]
            assert one.put(frames) == 2
            assert other.take() == frames


def test_bytes_are_bounded_too() -> None:
    one, other = Memory.pair(capacity=2**16, size=2**18, mtu=65535)
    with one, other:
        sent = one.put([frame(i, 60000) for i in range(10)])
        assert sent == 4
        assert one.stats.lost == {Status.DEVICE_FULL: 6}
        assert len(other.take()) == sent


def test_take_waits_for_as_many_as_are_asked_for() -> None:
    one, other = Memory.pair()
    with one, other:
        sender = threading.Thread(target=lambda: [one.put([frame(i)]) for i in range(5)])
        sender.start()
        assert other.take(5, timeout=30) == [frame(i) for i in range(5)]
        sender.join()
        assert other.take(1, timeout=0.01) == []


def test_two_threads_lose_nothing_and_sleep_between() -> None:
    """Every frame is received, in order, by an end that sleeps on its descriptor."""
    one, other = Memory.pair(capacity=64)
    total = 20000
    frames = [frame(i, 60 + i % 700) for i in range(total)]
    problems: list[str] = []

    def send() -> None:
        sent = 0
        while sent < total:
            # What found the queue full goes once more, with all after it.
            batch = Batch.from_frames(frames[sent : sent + 50], headroom=0)
            one.send(batch)
            full = batch.status.nonzero()[0].tolist()
            sent += full[0] if full else batch.count
            if full:
                time.sleep(0.0001)  # leave the interpreter to the other thread

    def receive() -> None:
        wanted = iter(frames)
        received = 0
        expected = next(wanted)
        while received < total:
            if not readable(other, 30):
                problems.append(f"asleep after {received}")
                return
            for got in other.take():
                if got == expected:
                    received += 1
                    expected = next(wanted, b"")

    threads = [threading.Thread(target=target) for target in (send, receive)]
    with one, other:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        assert one.stats.tx_packets == other.stats.rx_packets


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("capacity", {"capacity": 0}),
        ("size", {"size": 0}),
        ("mtu", {"mtu": 67}),
        ("underlay", {"underlay": 1}),
        ("mac", {"mac": "nonsense"}),
    ],
)
def test_bad_options_are_named(field: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        Memory.pair(**options)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_each_end_has_its_address() -> None:
    one, other = Memory.pair(mac=("02:00:00:00:00:01", b"\x02\0\0\0\0\x02"), mtu=9000)
    with one, other:
        assert (one.mac, other.mac) == (b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02")
        assert one.mtu == other.mtu == 9000
    one, other = Memory.pair()
    with one, other:
        assert one.mac is None
        assert "mtu 1500" in repr(one)
    assert "closed" in repr(one)


# -- super-frames, cut on send --------------------------------------------------------------


def super_frame() -> Batch:
    batch = Batch.from_frames([frames.tcp_frame(wire.pattern(5000)), frames.UDP4])
    batch.mss[0], batch.checksum[0] = 1400, 2
    return batch


def test_a_super_frame_passes_whole_or_cut() -> None:
    one, other = Memory.pair()
    with one, other:
        assert one.send(super_frame()) == 2
        assert [len(got) for got in other.take()] == [5054, len(frames.UDP4)]
    one, other = Memory.pair(segments=True)
    with one, other:
        assert one.send(super_frame()) == 2
        batch = burst()
        assert other.recv(batch) == 5
        assert not batch.mss.any()
        assert not batch.checksum.any()
        assert batch.wire.tolist() == batch.length.tolist() == [1454] * 3 + [854, len(frames.UDP4)]
        assert [wire.complete(got) for got in batch.to_list()] == batch.to_list()
        assert (one.stats.tx_packets, other.stats.rx_packets) == (2, 5)


def test_a_partial_checksum_is_completed() -> None:
    one, other = Memory.pair(segments=True)
    batch = Batch.from_frames([model._pseudo_sum(frames.UDP4), b"\0" * 12 + b"\x88\xb5not IP"])
    batch.checksum[:] = 2
    with one, other:
        assert one.send(batch) == 2
        assert other.take() == [frames.UDP4, bytes(batch[1])]


@pytest.mark.parametrize("protocol", [VXLAN, NVGRE, STT])
def test_a_super_packet_is_cut_for_the_underlay(protocol: type[Tunnel]) -> None:
    one, other = Memory.pair(segments=True, underlay=True)
    batch = super_frame()
    tunnel = plain(protocol)
    assert overlay.encap_batch(batch, tunnel) == 2
    with one, other:
        assert one.send(batch) == 2
        packets = other.take()
    assert max(map(len, packets)) <= 1514
    if protocol is STT:
        reassembler = overlay.SttReassembler()
        inner = [done.frame for p in packets if (done := reassembler.push(p, 1.0))]
        assert inner == [frames.tcp_frame(wire.pattern(5000)), frames.UDP4]
    else:
        assert [len(overlay.decap(p).frame) for p in packets] == [1454] * 3 + [
            854,
            len(frames.UDP4),
        ]


def test_packets_that_would_not_fit_are_none_of_them_sent() -> None:
    one, other = Memory.pair(segments=True, capacity=3)
    batch = super_frame()
    with one, other:
        assert one.send(batch) == 1
        assert batch.drops() == {Status.DEVICE_FULL: 1}
        assert other.take() == [frames.UDP4]
    one, other = Memory.pair(segments=True, mtu=1000)
    batch = super_frame()
    with one, other:
        assert one.send(batch) == 1
        assert batch.drops() == {Status.MTU_EXCEEDED: 1}
