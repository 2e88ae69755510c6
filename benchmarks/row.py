"""Row: one line of the table: what was asked, what was measured, what was hoped for."""

from __future__ import annotations

from dataclasses import dataclass

from .measure import Timing


@dataclass(frozen=True)
class Row:
    """``measured``, the ``best`` round of it and ``floor`` in ``unit``.

    ``ratio``: of measured to floor, from the same rounds.  ``target`` is in
    words; a ratio is judged by the median of the rounds' ratios, a time by the
    best round.  ``met`` says how, or None where there is no target or no way
    to tell.  ``spread``: of the measured rounds, as a part of their median.
    """

    question: str
    case: str
    unit: str
    measured: float
    best: float
    target: str
    met: bool | None
    floor: float | None = None
    ratio: float | None = None
    spread: float = 0.0
    note: str = ""


def against_floor(
    question: str, case: str, timing: Timing, floor: Timing, most: float, note: str = ""
) -> Row:
    """A row in ns a packet whose ratio to the floor is to be at most ``most``."""
    ratio = timing.ratio(floor)
    return Row(
        question=question,
        case=case,
        unit="ns/packet",
        measured=timing.median,
        best=timing.best,
        floor=floor.median,
        ratio=ratio,
        target=f"<= {most:g} x floor",
        met=ratio <= most,
        spread=timing.spread,
        note=note,
    )
