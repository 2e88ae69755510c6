"""Cost: what tunnels cost: bytes by arithmetic, and time by measurement.

Lives here: the arithmetic, the contenders that are timed, what their figures mean and
whether two sets of them differ.  What must not: tables and pages for people.
"""

from __future__ import annotations

from .change import Change, compare
from .cloud import CLOUDS, Cloud
from .contender import Contender, contenders
from .machine import describe
from .meter import Figure, Row, Setting, measure
from .overhead import IMIX, SIZES, Overhead, overhead

__all__ = [
    "CLOUDS",
    "IMIX",
    "SIZES",
    "Change",
    "Cloud",
    "Contender",
    "Figure",
    "Overhead",
    "Row",
    "Setting",
    "compare",
    "contenders",
    "describe",
    "measure",
    "overhead",
]
