r"""Match: thousands of expected packets against thousands of received ones, under masks.

    >>> from overlay.match import Expected, Matcher
    >>> matcher = Matcher([Expected(b"\x08\x00\x00", ignore=[(8, 4)])])
    >>> matcher.match([b"\x08\xf0\x00", b"\x09"]).expected
    array([ 0, -1])

Lives here: what is expected, the matching, the report.  Must not: sending,
receiving, or any opinion about a packet that nobody described.
"""

from __future__ import annotations

from .expected import Expected, FieldDifference
from .mask import Mask
from .matcher import Matcher
from .result import Match

__all__ = ["Expected", "FieldDifference", "Mask", "Match", "Matcher"]
