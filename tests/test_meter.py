"""Meter: loss, duplicates, reordering, corruption and delay, found as they were made."""

from __future__ import annotations

import random
import struct
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest

import overlay
from overlay import Batch, ConfigError, Status
from overlay.traffic import Meter, Sweep
from overlay.traffic.window import Window

ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2"}
NOW = 1_700_000_000_000_000_000
TOTAL = 3000


class Plain:
    """What a meter should say, one frame after the other, with sets and lists."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], set[int]] = {}
        self.duplicated: Counter[tuple[int, int]] = Counter()
        self.reordered: Counter[tuple[int, int]] = Counter()
        self.extent: Counter[tuple[int, int]] = Counter()
        self.corrupted: Counter[int] = Counter()
        self.unsigned = 0

    def take(self, key: int, frame: bytes) -> None:
        magic, stream, sequence, _, covered, crc = struct.unpack(">4sIQQII", frame[-32:])
        if magic != b"OVL1":
            self.unsigned += 1
        elif not 0 < covered <= len(frame) - 4 or zlib.crc32(frame[-4 - covered : -4]) != crc:
            self.corrupted[key] += 1
        else:
            seen = self.seen.setdefault((key, stream), set())
            if sequence in seen:
                self.duplicated[key, stream] += 1
            elif seen and sequence < max(seen):
                self.reordered[key, stream] += 1
                late = max(seen) - sequence
                self.extent[key, stream] = max(self.extent[key, stream], late)
            seen.add(sequence)

    def agrees(self, report: Any, sent: dict[tuple[int, int], int]) -> None:
        streams = {(c.key, c.stream): c for c in report.streams}
        assert set(streams) == set(self.seen)
        for which, seen in self.seen.items():
            counts = streams[which]
            assert counts.received == len(seen)
            assert counts.sent == max(seen) + 1 <= sent[which]
            assert counts.lost == max(seen) + 1 - len(seen)
            assert counts.duplicated == self.duplicated[which]
            assert counts.reordered == self.reordered[which]
            assert counts.extent == self.extent[which]
        total = report.total
        assert total.received == sum(map(len, self.seen.values()))
        assert total.duplicated == sum(self.duplicated.values())
        assert total.reordered == sum(self.reordered.values())
        assert total.corrupted == sum(self.corrupted.values())
        assert {c.key: c.corrupted for c in report.keys if c.corrupted} == self.corrupted
        assert report.unsigned == self.unsigned


def sweep_of(**more: Any) -> Sweep:
    outer = {"key": "5000-5003", "checksum": True, **ENDS}
    return Sweep(["udp.sport=1-2"], tunnel=overlay.VXLAN, outer=outer, **more)


def through(sweep: Sweep, seed: int, **faults: float) -> tuple[list[bytes], Any]:
    """What arrives of TOTAL frames (not yet in tunnels), and what was done to them."""
    from overlay.io.device import burst
    from overlay.io.fault import Fault
    from overlay.io.memory import Memory

    near, far = Memory.pair(capacity=2**13)
    clock = [0.0]
    fault = Fault(near, seed=seed, clock=lambda: clock[0], **faults)  # type: ignore[arg-type]
    for first in range(0, TOTAL, 500):
        fault.send(sweep.frames(first, 500, times=NOW))
    clock[0] = 60.0
    fault.recv(burst())
    frames = far.take()
    counts = fault.sent
    fault.close()
    far.close()
    return frames, counts


@pytest.mark.parametrize("burst", [1, 37, 5000])
@pytest.mark.parametrize(
    "faults",
    [
        dict(drop=0.1),
        dict(duplicate=0.1),
        dict(reorder=0.1),
        dict(corrupt=0.1),
        dict(drop=0.2, duplicate=0.2, reorder=0.2, corrupt=0.2),
    ],
    ids=["drop", "duplicate", "reorder", "corrupt", "all"],
)
def test_faults_are_found_exactly(faults: dict[str, float], burst: int) -> None:
    sweep = Sweep(["udp.sport=1-3"], fill=b"overlay")
    frames, done = through(sweep, 11, **faults)
    plain, meter = Plain(), Meter()
    for frame in frames:
        plain.take(0, frame)
    for at in range(0, len(frames), burst):
        meter.take(Batch.from_frames(frames[at : at + burst]), NOW + 5)
    report = meter.report(sent=TOTAL)
    known = {(c.key, c.stream): c for c in report.streams}
    assert {key for key, _ in known} == {None}
    plain.seen = {(None, s): seen for (_, s), seen in plain.seen.items()}  # type: ignore[misc]
    for name in ("duplicated", "reordered", "extent"):
        old = getattr(plain, name)
        setattr(plain, name, Counter({(None, s): n for (_, s), n in old.items()}))
    plain.corrupted = Counter({None: plain.corrupted[0]} if plain.corrupted[0] else {})  # type: ignore[dict-item]
    plain.agrees(report, {(None, s): TOTAL // 3 for s in range(3)})  # type: ignore[misc]
    total = report.total
    if list(faults) == ["drop"]:
        assert total.lost == done.dropped > 0
    if list(faults) == ["duplicate"]:
        assert total.duplicated == done.duplicated > 0
        assert report.clean
    if list(faults) == ["reorder"]:
        assert 0 < total.reordered <= done.reordered
        assert report.clean
    if list(faults) == ["corrupt"]:
        assert 0 < total.lost <= done.corrupted
        assert total.lost == total.corrupted + report.unsigned
    assert report.clean == (not total.lost)


def test_keys_are_told_apart() -> None:
    sweep = sweep_of()
    packets = [p for batch in sweep.batches(TOTAL, start=NOW) for p in batch.to_list()]
    chance = random.Random(5)
    gone = [overlay.decap(p).key for p in packets if chance.random() < 0.1]
    chance = random.Random(5)
    batch = Batch.from_frames([p for p in packets if chance.random() >= 0.1])
    overlay.decap_batch(batch)
    meter = Meter()
    assert meter.take(batch, NOW) == batch.count
    report = meter.report(sent=sweep.sent(TOTAL))
    assert {c.key: c.lost for c in report.keys} == Counter(gone)
    assert report.total.lost == len(gone)
    assert all(c.protocol == "vxlan" for c in (*report.keys, *report.streams))


def test_what_is_told_shows_the_loss_after_the_last() -> None:
    sweep = Sweep(["udp.sport=1-2"])
    meter = Meter()
    meter.take(sweep.frames(0, 10, times=NOW), NOW)
    assert meter.report().total.lost == 0
    assert meter.report(sent=14).total.lost == 4
    empty = Meter().report(sent={7: 3, 8: 0})
    assert [(c.key, c.lost) for c in empty.keys] == [(7, 3), (8, 0)]
    assert empty.total.lost == 3
    assert not empty.clean
    assert Meter().report().clean
    with pytest.raises(ConfigError, match="sent"):
        meter.report(sent=-1)


def test_a_receiver_may_begin_late() -> None:
    sweep = Sweep()
    late, strict = Meter(from_first=True), Meter()
    for meter in (late, strict):
        meter.take(sweep.frames(100, 10, times=NOW), NOW)
    assert (late.report().total.sent, late.report().total.lost) == (10, 0)
    assert (strict.report().total.sent, strict.report().total.lost) == (110, 100)


def test_latency_and_jitter_are_those_that_were_made() -> None:
    sweep = Sweep(["udp.sport=1-2"])
    meter = Meter()
    chance = random.Random(3)
    waits = np.array([chance.randint(0, 10**7) for _ in range(2000)])
    for first in range(0, 2000, 100):
        stamps = NOW + np.arange(first, first + 100) * 1000
        batch = sweep.frames(first, 100, times=stamps)
        meter.take(batch, stamps + waits[first : first + 100])
    total = meter.report().total
    assert total.latency["min"] == waits.min()
    assert total.latency["max"] == waits.max()
    for name, share in (("median", 0.5), ("p99", 0.99)):
        assert total.latency[name] == pytest.approx(np.quantile(waits, share), rel=0.04)
    steps = [np.abs(np.diff(waits[stream::2])) for stream in (0, 1)]
    assert total.jitter == pytest.approx(np.concatenate(steps).mean(), rel=1e-9, abs=1)
    assert [c.jitter for c in meter.report().streams] == [round(float(s.mean())) for s in steps]


def test_clocks_that_differ_are_said() -> None:
    meter = Meter()
    meter.take(Sweep().frames(0, 5, times=NOW), NOW - 1)
    report = meter.report()
    assert not report.clocks_agree
    assert report.total.latency["min"] == -1
    assert not report.as_dict()["clocks_agree"]


def test_refused_rows_are_counted_and_not_looked_at() -> None:
    batch = Sweep().frames(0, 5, times=NOW)
    batch.status[2:] = Status.IP_CHECKSUM
    meter = Meter()
    assert meter.take(batch, NOW) == 2
    report = meter.report()
    assert (report.frames, report.refused, report.total.received) == (2, 3, 2)


def test_streams_beyond_the_limit_are_counted_apart() -> None:
    meter = Meter(limit=3)
    meter.take(Sweep(["udp.sport=1-5"]).frames(0, 10, times=NOW), NOW)
    report = meter.report()
    assert len(report.streams) == 3
    assert (report.total.received, report.overflowed) == (6, 4)
    assert not report.clean


def test_a_window_forgets_no_more_than_it_must() -> None:
    """Against a plain reading: many streams, numbers far apart, windows that shrink."""
    chance = random.Random(9)
    window = Window(slots=512)
    seen: dict[int, set[int]] = {}
    highest: dict[int, int] = {}
    for streams in (1, 3, 7, 30):
        window.grow(streams)
        assert window.width * streams <= 512
        for _ in range(20):
            stream = np.sort([chance.randrange(streams) for _ in range(50)])
            near = [max(0, highest.get(s, 0) + chance.randint(-20, 25)) for s in stream.tolist()]
            fresh = window.take(stream, np.array(near, np.uint64))
            for s, n, new in zip(stream.tolist(), near, fresh.tolist(), strict=True):
                if highest.get(s, 0) - n < 4:  # what any width here remembers
                    assert new == (n not in seen.setdefault(s, set()))
                seen.setdefault(s, set()).add(n)
                highest[s] = max(highest.get(s, 0), n)
    assert window.highest[:30].tolist() == [highest.get(s, 0) for s in range(30)]
    assert int((window.received + window.duplicated).sum()) == 4 * 20 * 50


def test_numbers_far_apart_are_no_trouble() -> None:
    window = Window()
    window.grow(2)
    numbers = np.array([2**62, 5, 2**62, 2**62 + 1, 9, 8], np.uint64)
    fresh = window.take(np.array([0, 0, 0, 0, 1, 1]), numbers)
    assert fresh.tolist() == [True, True, False, True, True, True]
    assert window.reordered[:2].tolist() == [1, 1]
    assert window.extent[:2].tolist() == [2**62 - 5, 1]
    assert window.unchecked[:2].tolist() == [1, 0]
