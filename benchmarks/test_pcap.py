"""How fast is a capture file encapsulated by the command line, its start included?"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import capture


@pytest.mark.parametrize("megabytes", [1, 64])
def test_encap(benchmark: Any, tmp_path: Path, megabytes: int) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    capture.write(source, megabytes << 20)
    words = capture.command(source, target, *capture.ENCAP)
    benchmark.pedantic(subprocess.run, (words,), {"check": True, "capture_output": True}, rounds=3)
    assert target.stat().st_size > source.stat().st_size
