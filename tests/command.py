"""The command as the tests run it: within this process, or as one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from overlay import Batch
from overlay.cli import cli
from overlay.io.pcap import CaptureWriter, open_capture

ENDS = ["--local", "192.0.2.1", "--remote", "192.0.2.2"]
VXLAN = ["--tunnel", "vxlan", "--id", "5001", *ENDS]
STT = ["--tunnel", "stt", "--id", "0x1122334455667788", *ENDS]
FIRST = 1_700_000_000_123_456_789


def run(*args: object) -> Result:
    """The command in this process."""
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="overlay")


def shell(*args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command as users start it."""
    command = [sys.executable, "-m", "overlay", *map(str, args)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, **options)


def report(*args: object) -> dict[str, Any]:
    """What the command says with --json."""
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def write(path: Path, frames: list[bytes], **options: Any) -> Path:
    batch = Batch.from_frames(frames)
    numbers = options.pop("interface", 0)
    with CaptureWriter(path, **options) as writer:
        writer.write(batch, FIRST + np.arange(len(frames)) * 1_000_000, numbers)
    return path


def packets(path: Path) -> list[tuple[bytes, int, int, int]]:
    """Bytes, length on the wire, time and interface of every packet."""
    rows = []
    with open_capture(path) as capture:
        for burst in capture:
            for row in range(len(burst)):
                wire, when = int(burst.batch.wire[row]), int(burst.timestamps[row])
                rows.append((bytes(burst.batch[row]), wire, when, int(burst.interface[row])))
    return rows
