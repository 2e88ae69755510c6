"""Capture: `overlay encap` of a file that lies in the page cache, against `cp` of its output."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import traffic
from .measure import Contender, interleave
from .question import LOCAL, REMOTE
from .row import Row

_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def write(path: Path, size: int) -> None:
    """A pcap file of about ``size`` bytes, of the Internet mix."""
    records = [
        struct.pack("<IIII", 1_700_000_000, n, len(frame), len(frame)) + frame
        for n, frame in enumerate(traffic.frames("imix", traffic.IMIX_FRAMES))
    ]
    block = b"".join(records)
    with path.open("wb") as file:
        file.write(_HEADER)
        for _ in range(max(1, size // len(block))):
            file.write(block)


def command(source: Path, target: Path) -> list[str]:
    """The command line that is timed."""
    return [
        *(sys.executable, "-m", "overlay", "encap", str(source), str(target)),
        *("--tunnel", "vxlan", "--id", "5001"),
        *("--local", LOCAL, "--remote", REMOTE),
    ]


def pcap_to_pcap(megabytes: int, rounds: int = 5) -> Iterator[Row]:
    """Wall-clock time of the whole command, the start of Python included."""
    with tempfile.TemporaryDirectory() as folder:
        source, target, copy = (Path(folder, name) for name in ("in.pcap", "out.pcap", "copy.pcap"))
        write(source, megabytes << 20)
        small, little = Path(folder, "small.pcap"), Path(folder, "little.pcap")
        write(small, 1)
        _run(command(source, target))
        model = Path(folder, "model.pcap")
        shutil.copy(target, model)
        size = model.stat().st_size
        encap, cp, start = interleave(
            [
                Contender("encap", lambda: _run(command(source, target)), size, _gone(target)),
                Contender("cp", lambda: _run(["cp", str(model), str(copy)]), size, _gone(copy)),
                Contender("start", lambda: _run(command(small, little)), 1, _gone(little)),
            ],
            rounds=rounds,
        )
    ratio = encap.ratio(cp)
    yield Row(
        question="pcap to pcap",
        case=f"vxlan imix, {megabytes} MB in, {size >> 20} MB out",
        unit="s",
        measured=encap.median * size / 1e9,
        best=encap.best * size / 1e9,
        floor=cp.median * size / 1e9,
        ratio=ratio,
        target="<= 2 x cp",
        met=ratio <= 2,
        spread=encap.spread,
        note=f"{1 / encap.median:.2f} GB/s out; {start.median / 1e9:.2f} s of it is the start",
    )


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-300:]}")


def _gone(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)
