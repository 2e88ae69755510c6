"""Capture: files in the page cache: `overlay encap` against `cp`, columns against reading."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from overlay.io.columns import read_columns
from overlay.io.pcap import BURST_BYTES

from . import traffic
from .measure import Contender, interleave, pinned
from .question import LOCAL, NVGRE, REMOTE, VXLAN
from .row import Row

_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def write(path: Path, size: int, packets: Sequence[bytes] | None = None) -> None:
    """A pcap file of about ``size`` bytes, of these packets or of frames of the Internet mix."""
    if packets is None:
        packets = traffic.frames("imix", traffic.IMIX_FRAMES)
    records = [
        struct.pack("<IIII", 1_700_000_000, n, len(packet), len(packet)) + packet
        for n, packet in enumerate(packets)
    ]
    block = b"".join(records)
    with path.open("wb") as file:
        file.write(_HEADER)
        for _ in range(max(1, size // len(block))):
            file.write(block)


#: A verb and its options.
ENCAP = ("encap", "--tunnel", "vxlan", "--id", "5001", "--local", LOCAL, "--remote", REMOTE)


def command(source: Path, target: Path, verb: str, *options: str) -> list[str]:
    """The command line that is timed."""
    return [sys.executable, "-m", "overlay", verb, str(source), str(target), *options]


def pcap_to_pcap(megabytes: int, rounds: int = 5) -> Iterator[Row]:
    """Wall-clock time of whole commands, the start of Python included."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.pcap")
        write(source, megabytes << 20)
        yield _beside_cp("encap to vxlan, imix", source, rounds, *ENCAP)
        write(source, megabytes << 20, VXLAN.encap_many(traffic.frames(1350, 4096)))
        for case, *words in (
            ("decap, 1400 B", "decap"),
            ("rewrite in place, 1400 B", "rewrite", "--set-source", "198.51.100.0/24"),
            ("rewrite to geneve, 1400 B", "rewrite", "--to", "geneve"),
            ("rewrite to gre, 1400 B", "rewrite", "--to", "gre"),
        ):
            yield _beside_cp(case, source, rounds, *words)


def _beside_cp(case: str, source: Path, rounds: int, *words: str) -> Row:
    """A command from ``source`` to another file, against ``cp`` of what it writes."""
    target, copy, model = (source.with_name(f"{name}.pcap") for name in ("out", "copy", "model"))
    small, little = source.with_name("small.pcap"), source.with_name("little.pcap")
    with source.open("rb") as file:
        small.write_bytes(file.read(24))
    line, start_line = command(source, target, *words), command(small, little, *words)
    _run(line)
    shutil.copy(target, model)
    size = model.stat().st_size
    done, cp, start = interleave(
        [
            Contender(case, lambda: _run(line), size, _gone(target)),
            Contender("cp", lambda: _run(["cp", str(model), str(copy)]), size, _gone(copy)),
            Contender("start", lambda: _run(start_line), 1, _gone(little)),
        ],
        rounds=rounds,
    )
    for path in (target, copy, model):
        path.unlink(missing_ok=True)
    ratio = done.ratio(cp)
    return Row(
        question="pcap to pcap",
        case=f"{case}, {source.stat().st_size >> 20} MB in, {size >> 20} MB out",
        unit="s",
        measured=done.median * size / 1e9,
        best=done.best * size / 1e9,
        floor=cp.median * size / 1e9,
        ratio=ratio,
        target="<= 2 x cp",
        met=ratio <= 2,
        spread=done.spread,
        note=f"{1 / done.median:.2f} GB/s out; {start.median / 1e9:.2f} s of it is the start",
    )


def columns(megabytes: int, rounds: int = 7) -> Iterator[Row]:
    """Every fact of every packet of a capture, against reading its bytes and nothing else."""
    with tempfile.TemporaryDirectory() as folder, pinned():
        for tunnel in (VXLAN, NVGRE):
            path = Path(folder, "in.pcap")
            packets = tunnel.encap_many(traffic.frames(64, 4096))
            write(path, megabytes << 20, packets)
            count = path.stat().st_size // (16 + len(packets[0]))
            facts, read = interleave(
                [
                    Contender("columns", lambda path=path: _facts(path), count),
                    Contender("read", lambda path=path: _bytes(path), count),
                ],
                rounds=rounds,
            )
            yield Row(
                question="columns of a capture",
                case=f"{tunnel.name} 64 B, {megabytes} MB",
                unit="ns/packet",
                measured=facts.median,
                best=facts.best,
                floor=read.median,
                ratio=facts.ratio(read),
                target=">= 20 million a second",
                met=facts.best <= 50,
                spread=facts.spread,
                note=f"{1000 / facts.best:.1f} million packets a second; the floor only reads",
            )


def _facts(path: Path) -> int:
    return sum(int((part.status == 0).sum()) for part in read_columns(path))


def _bytes(path: Path) -> None:
    room = bytearray(BURST_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(room):
            pass


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-300:]}")


def _gone(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)
