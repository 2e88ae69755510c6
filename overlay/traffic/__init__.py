"""Traffic: frames made by the million, and known again at the other end.

:class:`Sweep` makes them, :class:`Meter` says what became of them.
"""

from .header import FIELDS
from .meter import Counts, Meter, Report
from .pace import Rate, Schedule, Sent, send
from .signature import SIZE, Signatures, find
from .sweep import Sweep
from .values import IMIX, Values

__all__ = [
    "FIELDS",
    "IMIX",
    "SIZE",
    "Counts",
    "Meter",
    "Rate",
    "Report",
    "Schedule",
    "Sent",
    "Signatures",
    "Sweep",
    "Values",
    "find",
    "send",
]
