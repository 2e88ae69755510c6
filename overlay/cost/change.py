"""Change: whether two measurements differ by more than their own noise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .meter import Row, Setting

__all__ = ["Change", "compare"]

#: A change must be larger than so many times the spread of both, together, ...
NOISES = 3.0
#: ... and than this part of the figure: below it machines disagree with themselves.
LEAST = 0.03


@dataclass(frozen=True)
class Change:
    """One figure, before and after; ``ratio`` above 1 is slower.

    ``noise`` is what the ratio may differ from 1 by chance.
    """

    contender: str
    setting: Setting
    verb: str
    before: float
    after: float
    noise: float

    @property
    def ratio(self) -> float:
        return self.after / self.before

    @property
    def matters(self) -> bool:
        """Whether the difference is beyond the noise."""
        return abs(math.log(self.ratio)) > math.log1p(self.noise)


def compare(before: Iterable[Row], after: Iterable[Row]) -> list[Change]:
    """The change of every figure that both have, the largest first."""
    known = {(row.contender, row.setting): row for row in before}
    changes = []
    for row in after:
        old = known.get((row.contender, row.setting))
        if old is None:
            continue
        for verb, figure in row.figures.items():
            was = old.figures.get(verb)
            if was is None or not was.ns > 0 or not figure.ns > 0:
                continue
            noise = max(LEAST, NOISES * math.hypot(was.spread, figure.spread))
            changes.append(Change(row.contender, row.setting, verb, was.ns, figure.ns, noise))
    changes.sort(key=lambda change: -abs(math.log(change.ratio)))
    return changes
