"""Fdb: how fast is the MAC table, and how large?

By arrays of keys, which is how a worker's burst comes to it; the floor is one
read at random in memory of the same size.  What must not be here: any packet.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay.io.device import live

from .measure import Contender, Timing, interleave, pinned
from .row import Row

CAPACITY = 1_000_000
NETWORK = np.uint64(1 << 48)


def _keys(count: int) -> npt.NDArray[np.uint64]:
    """Keys of different MACs at random, in no order."""
    given = np.random.default_rng(1)
    macs = np.unique(given.integers(1, 1 << 40, count + count // 8, np.uint64))
    return given.permutation(macs)[:count] | NETWORK


def _row(case: str, timing: Timing, floor: Timing | None, most: float | None, note: str) -> Row:
    return Row(
        question="mac table",
        case=case,
        unit="ns/MAC",
        measured=timing.median,
        best=timing.best,
        floor=floor and floor.median,
        ratio=floor and timing.ratio(floor),
        target=f"< {most:g} ns" if most else "",
        met=timing.best < most if most else None,
        spread=timing.spread,
        note=note,
    )


def _spoil(table: Any) -> None:
    """Touch all its memory, which the first use of a page pays for."""
    table.learn_keys(_keys(CAPACITY), np.zeros(CAPACITY, np.uint32), 0)
    table.flush()


def mac_table() -> Iterator[Row]:
    """Lookup, learning of what is new, and of what is known, with 10,000 and 1,000,000 MACs."""
    for count in (10_000, CAPACITY):
        yield from _rows(count)


def _rows(count: int) -> Iterator[Row]:
    table, keys, given = live().FdbTable(CAPACITY, 16, 1), _keys(count), np.random.default_rng(2)
    asked, absent = given.permutation(keys), keys ^ np.uint64(1 << 44)
    dests = np.arange(count, dtype=np.uint32) & np.uint32(0xFF)
    memory = np.zeros(table.size // 8, np.uint64)
    reads = given.integers(0, memory.size, count)
    seconds = itertools.count(1)
    _spoil(table)

    def learn() -> None:
        table.learn_keys(keys, dests, 0)

    with pinned():
        (new,) = interleave([Contender("new", learn, count, table.flush)], rounds=5)
        learn()
        found, missed, known, refreshed, floor = interleave(
            [
                Contender("found", lambda: table.find_keys(asked), count),
                Contender("missed", lambda: table.find_keys(absent), count),
                Contender("known", learn, count),
                Contender("refreshed", lambda: table.learn_keys(keys, dests, next(seconds)), count),
                Contender("floor", lambda: memory[reads], count),
            ],
            rounds=11,
            repeat=max(1, CAPACITY // count // 10),
        )
    size, macs = table.size / CAPACITY, f"{count:,} MACs"
    note = f"{size:.1f} bytes an entry, " + ("below 64" if size < 64 else "NOT below 64")
    yield _row(f"{macs}: lookup", found, floor, 60, note)
    yield _row(f"{macs}: lookup, unknown", missed, floor, None, "")
    yield _row(f"{macs}: learn, known", known, floor, None, "")
    yield _row(f"{macs}: learn, another second", refreshed, floor, None, "")
    yield _row(f"{macs}: learn, new", new, None, None, "")
