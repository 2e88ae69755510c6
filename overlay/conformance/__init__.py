"""Conformance: the numbered requirements of the protocols, tried on a device.

Nothing here loads the lab before a device asks for it.
"""

from __future__ import annotations

from .case import CASES, Case, Verdict
from .device import CodecDevice, Device
from .packet import Setting
from .report import Report
from .run import Result, run, select

__all__ = [
    "CASES",
    "Case",
    "CodecDevice",
    "Device",
    "Report",
    "Result",
    "Setting",
    "Verdict",
    "run",
    "select",
]
