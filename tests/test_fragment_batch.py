"""Outer fragments through the API: every backend the same, in batches and one by one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import frames
import wire
from overlay import Batch, ConfigError, DecapError, Status
from overlay.codec import Codec
from overlay.fragment import FragmentStats
from test_fragment import piece, pieces, whole

PAYLOAD = wire.pattern(5000)


def rows_of(packets: Sequence[bytes]) -> Batch:
    batch = Batch.from_frames(packets, headroom=0)
    batch.status[:] = Status.IP_FRAGMENT
    return batch


def check_books(stats: FragmentStats) -> None:
    lost = stats.overlaps + stats.limits + stats.timeouts + stats.refused
    assert stats.taken == stats.joined + lost + stats.held


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_of_fragments_in_any_order(codec: Codec, version: int) -> None:
    parts = pieces(PAYLOAD, 1480, version=version)
    for order in itertools.permutations(parts):
        reassembler = codec.FragmentReassembler()
        *held, done = [reassembler.push(part, 0.0) for part in order]
        assert held == [None] * 3
        assert done == whole(PAYLOAD, version=version)
        assert reassembler.stats.packets == 1
        check_books(reassembler.stats)


def test_batches(codec: Codec) -> None:
    """Rows that are no fragments are left alone; a whole packet says which row completed it."""
    first, second = pieces(PAYLOAD, 2504, ident=1), pieces(PAYLOAD, 2504, ident=2)
    batch = rows_of([first[0], frames.TCP4, second[0], first[1], second[1], b"short"])
    batch.status[1] = Status.NOT_IP
    out = Batch.packed(20000, 4)
    reassembler = codec.FragmentReassembler()
    assert reassembler.push_batch(batch, out, 5) == 2
    held, rest = Status.FRAGMENT_HELD, Status.IP_FRAGMENT
    assert batch.status.tolist() == [held, Status.NOT_IP, held, 0, 0, rest]
    assert out.origin.tolist() == [3, 4]
    assert out.to_list() == [whole(PAYLOAD, ident=1), whole(PAYLOAD, ident=2)]


def test_time_and_memory_are_bounded(codec: Codec) -> None:
    reassembler = codec.FragmentReassembler(timeout=1.0, memory=262144)
    first, second = pieces(bytes(2000), 1000)
    assert reassembler.push(first, 10.0) is None
    assert reassembler.push(frames.TCP4, 10.5) == frames.TCP4  # no fragment
    assert reassembler.push(second, 11.0) is None  # the first is forgotten
    assert reassembler.stats.timeouts == 1
    assert reassembler.expire(12.0) == 1
    for ident in range(200):
        reassembler.push(piece(0, bytes(8), True, ident=ident), 12.0)
    assert reassembler.stats.memory <= 262144
    assert reassembler.stats.limits == 200 - reassembler.stats.held > 0
    check_books(reassembler.stats)


def test_what_is_lost_says_why(codec: Codec) -> None:
    reassembler = codec.FragmentReassembler()
    reassembler.push(piece(0, bytes(16), True), 0.0)
    for bad, status in [
        (piece(8, bytes(16), True), Status.FRAGMENT_OVERLAP),
        (piece(8, bytes(9), True), Status.IP_LENGTH),
        (piece(65528, bytes(64), False), Status.IP_LENGTH),
    ]:
        with pytest.raises(DecapError) as error:
            reassembler.push(bad, 0.0)
        assert error.value.status is status
    check_books(reassembler.stats)


def test_a_cut_fragment_is_not_taken(codec: Codec) -> None:
    batch = rows_of(pieces(PAYLOAD, 1480))
    batch.wire[1] += 1
    reassembler = codec.FragmentReassembler()
    assert reassembler.push_batch(batch, Batch.packed(9000, 1), 0) == 0
    assert batch.status[1] == Status.FRAME_CUT
    assert reassembler.stats.taken == 3


@given(
    data=st.lists(
        st.tuples(
            st.integers(0, 6), st.integers(0, 40), st.booleans(), st.integers(0, 1),
            st.sampled_from([4, 6]), st.integers(0, 3), st.integers(0, 400), st.booleans(),
        ),
        max_size=16,
    )
)  # fmt: skip
def test_twins_agree(twins: Sequence[Codec], data: list[tuple[int, ...]]) -> None:
    """Whatever comes: overlaps, duplicates, two ends, marks that contradict, late ones."""
    packets = [
        piece(8 * at, wire.pattern(size), bool(more), version=version, ident=ident, tos=tos)[
            : 60 if cut else None
        ]
        for at, size, more, ident, version, tos, _, cut in data
    ]
    times = np.cumsum([step for *_, step, _ in data], dtype=np.int64)
    said = []
    for codec in twins:
        reassembler = codec.FragmentReassembler(timeout=1e-6)
        batch, out = rows_of(packets), Batch.packed(16 * 66000, 16)
        reassembler.push_batch(batch, out, times)
        check_books(reassembler.stats)
        said.append((batch.status.tolist(), out.to_list(), out.origin.tolist(), reassembler.stats))
    assert all(one == said[0] for one in said)


def test_wrong_use(codec: Codec) -> None:
    with pytest.raises(ConfigError, match="memory"):
        codec.FragmentReassembler(memory=1000)
    with pytest.raises(ConfigError, match="timeout"):
        codec.FragmentReassembler(timeout=0)
    reassembler = codec.FragmentReassembler()
    batch = rows_of([b"a"])
    with pytest.raises(ConfigError, match="times"):
        reassembler.push_batch(batch, Batch.packed(10, 1), [1, 2])
    with pytest.raises(ConfigError, match="out"):
        reassembler.push_batch(batch, batch, 0)
    with pytest.raises(TypeError, match="Batch"):
        reassembler.push_batch([], batch, 0)  # type: ignore[arg-type]
