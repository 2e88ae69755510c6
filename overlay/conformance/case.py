"""Case: one numbered requirement, and how it is tried on a device.

Lives here: the list of all cases, and what a case can end in.  What must not:
what is sent and expected, which is each protocol's own module's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bench import Bench

__all__ = [
    "ALL",
    "CASES",
    "OVER_UDP",
    "Case",
    "Fault",
    "Inapplicable",
    "Unjudged",
    "Verdict",
    "case",
]

#: The protocols of which there are cases, and those of them over UDP.
ALL = ("vxlan", "nvgre", "stt", "geneve", "vxlan-gpe", "gre")
OVER_UDP = ("vxlan", "geneve", "vxlan-gpe")


class Verdict(Enum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    UNJUDGED = "not judged"


class Fault(Exception):  # noqa: N818 - it is the device's, not ours
    """The device did not do as the requirement has it; the text says what it did."""


class Unjudged(Exception):  # noqa: N818 - nothing went wrong here
    """The case could not be judged; the text says why."""


class Inapplicable(Unjudged):
    """The device does nothing of what the requirement is about, such as send checksums."""


@dataclass(frozen=True)
class Case:
    """A requirement and the way to try it.

    id: the number, such as ``VXLAN-6``.  level: MUST, SHOULD, or req where the text has
    no such word but the format leaves no choice.  clause: where it is said.
    requirement: one sentence.  sends, expects: what the tester does, and waits for.
    protocols: those it is tried with.  families: of the underlay.
    """

    id: str
    level: str
    clause: str
    requirement: str
    sends: str
    expects: str
    protocols: tuple[str, ...]
    families: tuple[int, ...]
    try_on: Callable[[Bench], None]

    @property
    def binding(self) -> bool:
        """Whether a device that fails it does not conform."""
        return self.level != "SHOULD"


#: Every case, in the order in which it is tried.
CASES: list[Case] = []

_Try = Callable[["Bench"], None]


def case(
    id: str,  # noqa: A002 - what it is called everywhere
    level: str,
    clause: str,
    requirement: str,
    *,
    sends: str,
    expects: str,
    protocols: tuple[str, ...],
    families: tuple[int, ...] = (4, 6),
) -> Callable[[_Try], _Try]:
    """Add the function below as the way to try this requirement."""

    def add(function: _Try) -> _Try:
        CASES.append(
            Case(id, level, clause, requirement, sends, expects, protocols, families, function)
        )
        return function

    return add
