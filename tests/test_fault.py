"""Fault: what is lost, doubled, reordered, broken and delayed, by a seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from overlay import Batch, ConfigError, Status
from overlay.io.device import burst
from overlay.io.fault import Fault, FaultCounts
from overlay.io.memory import Memory
from test_device import Worker

TOTAL = 2000


def frame(number: int, size: int = 60) -> bytes:
    return number.to_bytes(4, "big") * 3 + b"\x08\x00" + bytes(size - 14)


FRAMES = [frame(i) for i in range(TOTAL)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def balanced(counts: FaultCounts) -> bool:
    gone = counts.given + counts.dropped + counts.overflowed + counts.held
    return counts.taken + counts.duplicated == gone


def through_send(size: int = 50, **options: Any) -> tuple[list[bytes], Fault, list[int]]:
    """What arrives of FRAMES, sent in bursts of this size; the device; the statuses."""
    near, far = Memory.pair(capacity=2**14)
    clock = Clock()
    fault = Fault(near, clock=clock, **options)
    statuses: list[int] = []
    for at in range(0, TOTAL, size):
        batch = Batch.from_frames(FRAMES[at : at + size])
        went = fault.send(batch)
        assert went == int((batch.status == 0).sum())
        statuses += batch.status.tolist()
    clock.now += 60
    fault.recv(burst())  # what was held moves on
    got = far.take()
    assert balanced(fault.sent)
    assert fault.sent.held == 0
    assert near.stats.tx_packets == len(got)
    assert fault.sent.given == (0 if options.get("direction") == "recv" else len(got))
    far.close()
    fault.close()
    return got, fault, statuses


def through_recv(size: int = 50, **options: Any) -> tuple[list[bytes], Fault]:
    """The same, received."""
    near, far = Memory.pair(capacity=2**14)
    clock = Clock()
    fault = Fault(near, clock=clock, **options)
    far.put(FRAMES)
    got: list[bytes] = []
    batch = burst(size)
    while fault.recv(batch) or near.stats.rx_packets < TOTAL:
        got += batch.to_list()
    clock.now += 60
    while fault.recv(batch):
        got += batch.to_list()
    assert balanced(fault.received)
    assert fault.received.taken == TOTAL
    assert fault.stats.rx_packets == fault.received.given == len(got)
    fault.close()
    far.close()
    return got, fault


def both_ways(**options: Any) -> list[list[bytes]]:
    return [through_send(**options)[0], through_recv(**options)[0]]


def test_without_faults_everything_passes() -> None:
    for got in both_ways(seed=1):
        assert got == FRAMES


def test_some_are_lost_and_say_so() -> None:
    got, fault, statuses = through_send(seed=7, drop=0.25)
    assert set(statuses) == {0, Status.FAULT_INJECTED}
    assert got == [f for f, status in zip(FRAMES, statuses, strict=True) if not status]
    assert 0.2 < 1 - len(got) / TOTAL < 0.3
    assert fault.stats.lost == {Status.FAULT_INJECTED: TOTAL - len(got)}
    assert fault.stats.tx_packets == len(got)
    got, fault = through_recv(seed=7, drop=0.25)
    assert [f for f in FRAMES if f in set(got)] == got
    assert fault.stats.lost == {Status.FAULT_INJECTED: TOTAL - len(got)}


def test_all_and_none() -> None:
    for got in both_ways(seed=3, drop=1.0):
        assert got == []
    for got in both_ways(seed=3, duplicate=1.0):
        assert Counter(got) == Counter(FRAMES * 2)


def test_some_come_twice() -> None:
    for got in both_ways(seed=5, duplicate=0.1):
        counts = Counter(got)
        assert set(counts) == set(FRAMES)
        assert set(counts.values()) == {1, 2}
        assert 0.05 < (len(got) - TOTAL) / TOTAL < 0.15
        assert list(dict.fromkeys(got)) == FRAMES


def test_some_are_overtaken() -> None:
    for got in both_ways(seed=5, reorder=0.1):
        assert got != FRAMES
        assert sorted(got) == FRAMES
        moved = sum(a > b for a, b in pairwise(got))
        assert 0.05 < moved / TOTAL < 0.15


def test_one_that_nothing_follows_is_not_kept_for_ever() -> None:
    near, far = Memory.pair()
    clock = Clock()
    fault = Fault(near, seed=1, reorder=1.0, clock=clock)
    far.put([frame(1)])
    assert fault.recv(burst()) == 0
    assert fault.send(Batch.from_frames([frame(2)])) == 1
    assert far.take() == []
    assert (fault.received.held, fault.sent.held) == (1, 1)
    clock.now += 0.06
    batch = burst()
    assert fault.recv(batch) == 1
    assert batch.to_list() == [frame(1)]
    assert far.take() == [frame(2)]
    fault.close()
    far.close()


def test_some_are_broken_by_one_bit() -> None:
    for got in both_ways(seed=9, corrupt=0.2):
        assert len(got) == TOTAL
        wrong = [
            (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()
            for a, b in zip(got, FRAMES, strict=True)
        ]
        assert set(wrong) == {0, 1}
        assert 0.15 < sum(wrong) / TOTAL < 0.25


def test_the_caller_keeps_his_bytes() -> None:
    near, far = Memory.pair()
    with far, Fault(near, seed=1, corrupt=1.0) as fault:
        batch = Batch.from_frames([frame(1)])
        assert fault.send(batch) == 1
        assert batch.to_list() == [frame(1)]
        assert far.take() != [frame(1)]


def test_they_are_held_for_so_long() -> None:
    near, far = Memory.pair()
    clock = Clock()
    fault = Fault(near, seed=1, delay=2.0, clock=clock)
    batch = burst()
    with far, fault:
        assert fault.fileno() == -1
        far.put([frame(1)])
        assert fault.send(Batch.from_frames([frame(2)])) == 1
        assert fault.recv(batch) == 0
        clock.now += 1.0
        far.put([frame(3)])
        assert fault.recv(batch) == 0
        clock.now += 1.0
        assert fault.recv(batch) == 1
        assert batch.to_list() == [frame(1)]
        assert far.take() == [frame(2)]
        assert fault.received == FaultCounts(taken=2, given=1, delayed=2, held=1)
        clock.now += 1.0
        assert fault.recv(batch) == 1


def test_the_delay_varies() -> None:
    near, far = Memory.pair()
    clock = Clock()
    with far, Fault(near, seed=1, delay=1.0, jitter=0.5, clock=clock) as fault:
        fault.send(Batch.from_frames(FRAMES[:100]))
        arrived = []
        for _ in range(20):
            clock.now += 0.1
            fault.recv(burst())
            arrived.append(len(far.take()))
        assert sum(arrived) == 100
        assert sum(arrived[:4]) == 0
        assert sum(arrived[15:]) == 0
        assert sum(n > 0 for n in arrived) > 5


def test_what_is_held_is_bounded() -> None:
    near, far = Memory.pair()
    clock = Clock()
    with far, Fault(near, seed=1, delay=1.0, limit=10, clock=clock) as fault:
        batch = Batch.from_frames(FRAMES[:25])
        assert fault.send(batch) == 10
        assert batch.drops() == {Status.DEVICE_FULL: 15}
        assert fault.stats.lost == {Status.DEVICE_FULL: 15}
        far.put(FRAMES[:25])
        fault.recv(burst())
        assert fault.received.held == 10
        clock.now += 1.0
        got = burst()
        assert fault.recv(got) == 10
        fault.recv(burst())  # what was left to the device is taken now
        assert near.stats.rx_packets == 20
        assert balanced(fault.sent)
        assert balanced(fault.received)
        assert len(far.take()) == 10


@pytest.mark.parametrize("size", [1, 7, 2000])
def test_a_seed_gives_the_same_run_whatever_the_bursts(size: int) -> None:
    options = {"drop": 0.1, "duplicate": 0.1, "corrupt": 0.1, "reorder": 0.1}
    one, *_ = through_send(50, seed=42, limit=4096, **options)
    again, *_ = through_send(size, seed=42, limit=4096, **options)
    other, *_ = through_send(size, seed=43, limit=4096, **options)
    assert one == again != other


def test_one_direction_alone() -> None:
    assert through_send(seed=1, drop=1.0, direction="recv")[0] == FRAMES
    assert through_send(seed=1, drop=1.0, direction="send")[0] == []
    near, far = Memory.pair()
    with far, Fault(near, seed=1, drop=1.0, direction="send") as fault:
        far.put(FRAMES[:3])
        assert fault.fileno() == near.fileno()
        batch = burst()
        assert fault.recv(batch) == 3
        assert fault.stats.rx_packets == 3


def test_what_the_device_refuses_is_said_and_counted_once() -> None:
    near, far = Memory.pair(mtu=100, capacity=2)
    with far, Fault(near, seed=1) as fault:
        batch = Batch.from_frames([frame(1), bytes(200), frame(2), frame(3), frame(4)])
        batch.offset[4] = 2**40
        assert fault.send(batch) == 2
        assert [Status(s).name for s in batch.status] == [
            "OK", "MTU_EXCEEDED", "OK", "DEVICE_FULL", "BAD_ROW",
        ]  # fmt: skip
        lost = {Status.MTU_EXCEEDED: 1, Status.DEVICE_FULL: 1, Status.BAD_ROW: 1}
        assert fault.stats.lost == lost
        assert fault.stats.tx_packets == 2


def test_columns_stay_with_a_row() -> None:
    near, far = Memory.pair()
    batch = Batch.from_frames([frame(1, 3000)])
    batch.mss[0], batch.checksum[0], batch.key[0], batch.protocol[0] = 1448, 2, 77, 1
    with far, Fault(near, seed=1) as fault:
        assert fault.send(batch) == 1
        got = burst()
        far.recv(got)
        assert far.send(got) == 1
        assert fault.recv(got) == 1
        assert (got.mss[0], got.checksum[0], got.key[0], got.protocol[0]) == (1448, 2, 77, 1)
        assert got.to_list() == [frame(1, 3000)]
        assert int(got.offset[0] - got.base[0]) >= 128


def test_a_worker_uses_it() -> None:
    near, far = Memory.pair(mac="02:00:00:00:00:09", mtu=1400)
    with far, Fault(near, seed=1, duplicate=1.0) as fault:
        worker = Worker(fault.queues)
        assert (worker.mac, worker.mtu) == (near.mac, 1400)
        far.put(FRAMES[:10])
        got: list[bytes] = []
        batch = burst(8)
        while worker.recv(batch):
            got += batch.to_list()
        assert got == [f for f in FRAMES[:10] for _ in range(2)]
        assert worker.send(Batch.from_frames(FRAMES[:4])) == 4
        assert len(far.take()) == 8


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("seed", {"seed": -1}),
        ("drop", {"drop": 1.1}),
        ("drop", {"drop": True}),
        ("duplicate", {"duplicate": -0.1}),
        ("reorder", {"reorder": float("nan")}),
        ("corrupt", {"corrupt": "much"}),
        ("delay", {"delay": -1}),
        ("delay", {"delay": float("inf")}),
        ("jitter", {"delay": 1.0, "jitter": 1.5}),
        ("direction", {"direction": "up"}),
        ("limit", {"limit": 0}),
    ],
)
def test_bad_options_are_named(field: str, options: dict[str, Any]) -> None:
    near, far = Memory.pair()
    with near, far, pytest.raises(ConfigError) as caught:
        Fault(near, **{"seed": 1, **options})
    assert caught.value.field == field
