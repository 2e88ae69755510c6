"""The diagnosis under hostile captures: nothing raises, nothing grows, everything is counted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import overlay
from frames import ARP, LONG, TAGGED, TCP4, TCP6, UDP4, UDP6
from overlay.diagnosis import Diagnoser, diagnose
from overlay.diagnosis.table import NOWHERE, Table, previous
from overlay.diagnosis.words import Words
from overlay.io.pcap import Burst
from overlay.reference.checksum import ones_sum
from suspect import capture, patched, report
from wire import nvgre, stt, stt_segments, vxlan

SEEDS = [
    vxlan(TCP4), vxlan(UDP6, family=6), vxlan(ARP, check=-1), nvgre(TAGGED),
    nvgre(UDP4, word=0xB000), stt(TCP6), TCP4, vxlan(vxlan(UDP4)),
]  # fmt: skip
SEGMENTS = stt_segments(LONG, 1400)

Row = tuple[bytes, int, int]


def batch_of(packets: list[bytes], wire: list[int] | None = None) -> overlay.Batch:
    batch = overlay.Batch.from_frames(packets, headroom=0)
    if wire is not None:
        batch.wire[:] = wire
    return batch


@st.composite
def mangled(draw: st.DrawFn, seeds: list[bytes]) -> Row:
    """A packet with some bytes changed and cut off, its length on the wire, its link."""
    packet = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    whole = len(packet)
    del packet[draw(st.integers(0, whole)) :]
    wire, link = st.integers(len(packet), 2 * whole), st.sampled_from([0, 1, 2])
    return bytes(packet), draw(wire), draw(link)


NOISE = st.tuples(st.binary(max_size=90), st.just(90), st.just(0))


@settings(max_examples=60)
@given(st.lists(mangled(SEEDS + SEGMENTS) | NOISE, max_size=12))
def test_any_bytes_are_counted_and_nothing_raises(rows: list[Row]) -> None:
    batch = batch_of([row[0] for row in rows], [row[1] for row in rows])
    batch.link[:] = [row[2] for row in rows]
    before = bytes(batch.data)
    said = diagnose(batch, mtu=1500)
    assert said.packets == len(rows)
    assert said.packets == said.others + sum(tunnel.packets for tunnel in said.tunnels)
    assert bytes(batch.data) == before
    for _, finding in said.all_findings:
        assert 1 <= finding.packet <= len(rows)
        assert finding.count >= 1
        assert finding.seen
        assert "\n" not in finding.seen


@settings(max_examples=60)
@given(st.lists(mangled(SEEDS), min_size=2, max_size=12), st.integers(1, 11))
def test_where_bursts_end_does_not_matter_to_single_packets(rows: list[Row], cut: int) -> None:
    """Each packet is judged alike, whichever burst it comes in."""
    parts = [rows[:cut], rows[cut:]]
    work = Diagnoser()
    at = 0
    for part in parts:
        batch = batch_of([row[0] for row in part], [row[1] for row in part])
        times = np.arange(at, at + len(part)) * 10**9
        work.take(Burst(batch, at, 0, np.zeros(len(part), np.uint32), times=times))
        at += len(part)
    whole = batch_of([row[0] for row in rows], [row[1] for row in rows])
    other = Diagnoser()
    times = np.arange(len(rows)) * 10**9
    other.take(Burst(whole, 0, 0, np.zeros(len(rows), np.uint32), times=times))
    alone = {"udp-checksum", "ip-checksum", "inner-checksum", "refused", "df-clear"}

    def of(work: Diagnoser) -> set[tuple[str, int, int, str | None]]:
        found = work.report().all_findings
        return {(f.kind, f.packet, f.count, f.status) for _, f in found if f.kind in alone}

    assert of(work) == of(other)


def test_tables_are_bounded_and_say_what_they_left_out() -> None:
    """More tunnels than are told apart: all packets are counted, the rest is left out by number."""
    count = 9000
    packet = vxlan(ARP)
    packets = [patched(packet, 46, number.to_bytes(3, "big")) for number in range(count)]
    said = report(packets)
    assert said.packets == count
    kept = sum(tunnel.packets for tunnel in said.tunnels)
    assert 4096 <= kept < count
    assert said.left_out["tunnels"] == count - kept


def test_more_flows_than_are_remembered() -> None:
    batch = batch_of([vxlan(TCP4)] * 8)
    work = Diagnoser()
    rng = np.random.default_rng(7)
    for turn in range(40):
        many = overlay.Batch.from_array(
            np.tile(batch.data[: len(batch[0])], 2000),
            np.arange(2000) * len(batch[0]),
            np.full(2000, len(batch[0])),
        )
        data = many.data.reshape(2000, -1)
        data[:, 76:84] = rng.integers(0, 256, (2000, 8))  # inner addresses
        times = np.full(2000, turn * 10**9)
        work.take(Burst(many, turn * 2000, 0, np.zeros(2000, np.uint32), times=times))
    said = work.report()
    assert said.packets == 80000
    assert said.left_out["flows"] > 10000


# -- the tools ----------------------------------------------------------------------------


@given(st.binary(max_size=200), st.integers(0, 3), st.data())
def test_sums_are_those_of_rfc_1071(data: bytes, skip: int, draw: st.DataObject) -> None:
    array = np.frombuffer(bytes(skip) + data, np.uint8)[skip:]
    place = st.integers(0, len(data))
    pairs = draw.draw(st.lists(st.tuples(place, place), max_size=6))
    start = np.array([pair[0] for pair in pairs], np.int64)
    end = np.array([pair[1] for pair in pairs], np.int64)
    sums = Words(array).sums(start, end).tolist()
    for (low, high), total in zip(pairs, sums, strict=True):
        expected = ones_sum(data[low:high])
        assert total % 0xFFFF == expected % 0xFFFF
        assert (total == 0) == (expected == 0)


@pytest.mark.parametrize("recent", [False, True])
def test_table_remembers_and_is_bounded(recent: bool) -> None:
    table = Table(6, {"value": np.int64}, recent=recent)
    rng = np.random.default_rng(1)
    keys = rng.integers(1, 2**63, 200, np.uint64)
    slots, fresh = table.place(np.concatenate([keys[:20], keys[:20]]))
    assert (slots[:20] == slots[20:]).all()
    assert len(set(slots.tolist())) == 20
    table["value"][slots[:20]] = np.arange(20)
    again, new = table.place(keys[:20])
    assert not new.any()
    assert table["value"][again].tolist() == list(range(20))
    slots, fresh = table.place(keys)
    assert table.used <= 64
    assert table.lost > 0
    held = slots != NOWHERE
    assert (table.keys(slots[held]) == keys[held]).all()
    assert not fresh[~held].any()


def test_previous_is_row_after_row() -> None:
    column = np.array([7, 0, 0], np.int64)
    slots, values = np.array([0, 1, 0, 1, 1]), np.array([10, 20, 30, 40, 50])
    fresh = np.array([False, True, False, True, True])
    known, (before,) = previous(slots, fresh, [(column, values)])
    assert known.tolist() == [True, False, True, True, True]
    assert before[known].tolist() == [7, 10, 20, 40]
    assert column.tolist() == [30, 50, 0]


# -- a witness --------------------------------------------------------------------------------


def test_tshark_finds_the_same_packets(tmp_path: Path, tool: Callable[[str], str]) -> None:
    good, udp_good = vxlan(TCP4), vxlan(TCP4, check=-1)
    packets = [good, udp_good] * 6
    packets[4] = patched(good, 24, b"\xde\xad")
    packets[7] = patched(udp_good, 40, b"\xde\xad")
    packets[9] = vxlan(TCP4[:-1] + b"\0", check=-1)
    path = capture(tmp_path / "c.pcap", packets)
    checked = [f"-o{name}.check_checksum:TRUE" for name in ("ip", "udp", "tcp")]

    def numbers(status: str) -> list[int]:
        wanted = ["-Y", f"{status} == 0", "-Tfields", "-eframe.number"]
        command = [tool("tshark"), "-r", path, *checked, *wanted]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return [int(line) for line in said.stdout.split()]

    said = diagnose(path)
    for kind, status in (
        ("ip-checksum", "ip.checksum.status"),
        ("udp-checksum", "udp.checksum.status"),
        ("inner-checksum", "tcp.checksum.status"),
    ):
        (finding,) = said.of(kind)
        assert list(finding.packets) == numbers(status), kind
