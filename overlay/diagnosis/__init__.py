"""Diagnosis: what is wrong with the tunnels of a capture.

Lives here: :func:`diagnose` and what it gives.  What must not: changing a
packet; nothing here writes to one.
"""

from __future__ import annotations

from .catalogue import KINDS, Kind
from .diagnosis import Diagnoser, diagnose
from .report import Finding, Report, Severity, TunnelReport

__all__ = [
    "KINDS",
    "Diagnoser",
    "Finding",
    "Kind",
    "Report",
    "Severity",
    "TunnelReport",
    "diagnose",
]
