"""Machine: what figures were measured on, as far as it tells."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np

import overlay
from overlay._backend import load

__all__ = ["describe"]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _governor() -> str:
    try:
        path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return path.read_text().strip()
    except OSError:
        return "unknown"


def describe() -> dict[str, str]:
    """Name and value of what figures depend on."""
    busy = os.getloadavg()
    return {
        "processor": _processor(),
        "processors": str(len(os.sched_getaffinity(0))),
        "governor": _governor(),
        "load": f"{busy[0]:.2f} {busy[1]:.2f} {busy[2]:.2f}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "overlay": overlay.__version__,
        "backend": overlay.backend,
        "checksum": getattr(load(overlay.backend), "checksum_routine", "portable"),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
