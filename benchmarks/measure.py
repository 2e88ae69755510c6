"""Measure: contenders timed in turns, so that what disturbs one disturbs all.

A figure is taken from many short rounds; a ratio is the median of the rounds'
own ratios, which is what stays steady on a machine that others use too.  What
must not be here: any packet.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np


@dataclass(frozen=True)
class Contender:
    """``run`` is timed, ``prepare`` before each run is not; ``units`` are done in a run."""

    name: str
    run: Callable[[], object]
    units: float = 1
    prepare: Callable[[], object] | None = None


@dataclass(frozen=True)
class Timing:
    """What each round took, in ns a unit."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.rounds)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """How far the middle half of the rounds lies apart, as a part of the median."""
        if len(self.rounds) < 4:
            return (max(self.rounds) - self.best) / self.median
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / self.median

    def ratio(self, other: Timing) -> float:
        """How many times as long as ``other``, which ran in the same rounds."""
        return statistics.median(a / b for a, b in zip(self.rounds, other.rounds, strict=True))


def interleave(contenders: Sequence[Contender], rounds: int, repeat: int = 1) -> list[Timing]:
    """Each contender's timing from ``rounds`` rounds, in each of which all have their turn.

    A turn is ``repeat`` runs.  The order turns round from one round to the next.
    """
    taken: list[list[float]] = [[] for _ in contenders]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for n in range(-1, rounds):  # the first only warms up
            order = range(len(contenders))
            for i in order if n % 2 else reversed(order):
                spent = _turn(contenders[i], repeat)
                if n >= 0:
                    taken[i].append(spent)
    finally:
        if collecting:
            gc.enable()
    return [Timing(tuple(of_one)) for of_one in taken]


def _turn(contender: Contender, repeat: int) -> float:
    run, prepare, spent = contender.run, contender.prepare, 0
    for _ in range(repeat):
        if prepare is not None:
            prepare()
        start = perf_counter_ns()
        run()
        spent += perf_counter_ns() - start
    return spent / repeat / contender.units


@contextmanager
def pinned() -> Iterator[None]:
    """On one core, where the system can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def last_level_cache() -> int:
    """Bytes of the largest cache; 32 MiB where the system does not say."""
    sizes = [32 << 20]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) << 10)
    return max(sizes)


class Sweep:
    """Pushes everything else out of the caches by reading twice their size."""

    def __init__(self) -> None:
        self._memory = np.ones(2 * last_level_cache() // 8, np.uint64)

    def __call__(self) -> None:
        self._memory.max()
