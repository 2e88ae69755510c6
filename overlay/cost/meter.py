"""Meter: figures with their spread, of contenders that take turns.

A round gives every contender one short run, so that what disturbs the machine disturbs
all of them; a figure is the median over the rounds, with the quartiles around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["Figure", "Row", "Setting", "Task", "best_of", "measure"]


@dataclass(frozen=True, order=True)
class Setting:
    """What is measured: one line of a table.

    ``way`` is ``"batch"``, ``"single"`` (a call a frame) or ``"gso"`` (frames that
    stand for many packets); ``checksum`` whether the outer one covers the payload.
    """

    protocol: str
    family: int
    checksum: bool
    size: str
    way: str

    def __str__(self) -> str:
        check = " checksum" if self.checksum else ""
        return f"{self.protocol} IPv{self.family}{check} {self.size} {self.way}"


@dataclass(frozen=True)
class Figure:
    """Nanoseconds a packet: the median, the quartiles, and of how many rounds."""

    ns: float
    low: float
    high: float
    rounds: int

    @staticmethod
    def of(samples: list[float]) -> Figure:
        """The figure of samples in nanoseconds a packet."""
        low, middle, high = np.percentile(np.array(samples), [25, 50, 75])
        return Figure(float(middle), float(low), float(high), len(samples))

    @property
    def mpps(self) -> float:
        """Million packets a second."""
        return 1e3 / self.ns

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a part of the median."""
        return (self.high - self.low) / 2 / self.ns


@dataclass(frozen=True)
class Row:
    """What one contender needs in one setting, by verb."""

    contender: str
    setting: Setting
    mean_size: float
    figures: dict[str, Figure]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        verbs = {
            verb: {**asdict(figure), "mpps": figure.mpps, "gbps": 8 * self.mean_size / figure.ns}
            for verb, figure in self.figures.items()
        }
        return {
            "contender": self.contender, **asdict(self.setting),
            "mean_size": self.mean_size, **verbs,
        }  # fmt: skip

    @staticmethod
    def of(said: dict[str, Any]) -> Row:
        """The row of what :meth:`as_dict` gave."""
        names = Setting.__dataclass_fields__
        figures = {
            verb: Figure(*(value[name] for name in Figure.__dataclass_fields__))
            for verb, value in said.items()
            if isinstance(value, dict)
        }
        setting = Setting(**{name: said[name] for name in names})
        return Row(said["contender"], setting, said["mean_size"], figures)


@dataclass(frozen=True)
class Task:
    """One verb of one contender in one setting.

    ``run`` does ``packets`` of work, after ``reset``, whose time is not counted.
    """

    contender: str
    setting: Setting
    mean_size: float
    verb: str
    packets: int
    run: Callable[[], object]
    reset: Callable[[], object] = int


def best_of(run: Callable[[], object], reset: Callable[[], object], seconds: float) -> float:
    """The shortest time of one run, in seconds, of runs that together take about this long."""
    best = float("inf")
    until = time.perf_counter() + seconds
    while True:
        reset()
        begun = time.perf_counter()
        run()
        ended = time.perf_counter()
        best = min(best, ended - begun)
        if ended > until:
            return best


def measure(
    tasks: Iterable[list[Task]],
    seconds: float,
    rounds: int = 5,
    step: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """One row a contender and setting.

    :param tasks: those of one setting together: they take turns.
    :param seconds: for each task and round, about.
    :param step: is told of each setting before it is measured.
    """
    rows: list[Row] = []
    for group in tasks:
        step(str(group[0].setting))
        samples: list[list[float]] = [[] for _ in group]
        for _ in range(rounds):
            for task, taken in zip(group, samples, strict=True):
                taken.append(1e9 * best_of(task.run, task.reset, seconds) / task.packets)
        found: dict[str, Row] = {}
        for task, taken in zip(group, samples, strict=True):
            row = found.setdefault(
                task.contender, Row(task.contender, task.setting, task.mean_size, {})
            )
            row.figures[task.verb] = Figure.of(taken)
        rows += found.values()
    return rows
