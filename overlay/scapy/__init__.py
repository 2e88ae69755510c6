"""scapy: its packets from ours and ours from its, the layers it lacks, and corrections.

scapy is under the GPL and no part of this package; it is imported here and
nowhere else, when somebody imports this.  What that means for what you pass on is in the
guide to scapy.  Lives here: layers and conversions.  Must not: sending.
"""

from __future__ import annotations

from .conversion import from_scapy, to_scapy
from .correction import corrected
from .nvgre import NVGRE
from .stt import STT

__all__ = ["NVGRE", "STT", "corrected", "from_scapy", "to_scapy"]
