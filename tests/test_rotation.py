"""Rotation: whole files one after another, and what becomes of one that cannot be written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import command
from overlay import Batch, ConfigError
from overlay.io.pcap import Burst
from overlay.io.rotation import Rotation

FRAME = bytes(60)
RECORD = len(FRAME) + 16


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def put(rotation: Rotation, count: int = 1, first: int = 0) -> int:
    frames = [(first + i).to_bytes(4, "big") + FRAME[4:] for i in range(count)]
    batch = Batch.from_frames(frames)
    numbers = np.zeros(count, np.uint32)
    burst = Burst(batch, 0, 0, numbers, times=np.full(count, 10**18, np.int64))
    return rotation.write_all(batch, rotation.times(burst), burst.interface)


def numbers(files: list[Path]) -> list[int]:
    return [int.from_bytes(row[0][:4], "big") for file in files for row in command.packets(file)]


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_a_file_is_never_larger(tmp_path: Path, form: Any) -> None:
    rotation = Rotation(tmp_path / f"m.{form}", form, size=1000)
    for n in range(50):
        assert put(rotation, 1, n) == 1
    rotation.close()
    files = sorted(tmp_path.iterdir())
    assert [str(file) for file in files] == list(rotation.files)
    assert len(files) > 3
    assert all(file.stat().st_size <= 1000 for file in files)
    assert numbers(files) == list(range(50))


def test_a_burst_that_is_too_large_is_a_file_of_its_own(tmp_path: Path) -> None:
    rotation = Rotation(tmp_path / "m.pcap", size=100)
    for n in range(3):
        put(rotation, 5, 5 * n)
    rotation.close()
    assert [len(command.packets(file)) for file in sorted(tmp_path.iterdir())] == [5, 5, 5]


def test_names_sort_as_they_were_begun(tmp_path: Path) -> None:
    clock = Clock()
    rotation = Rotation(tmp_path / "m.x.pcap", seconds=10, clock=clock)
    put(rotation)
    clock.now += 9.5
    put(rotation)
    clock.now += 0.5
    rotation.turn()
    assert len(rotation.files) == 1  # whole, though nothing came
    clock.now += 100
    rotation.turn()
    put(rotation)
    rotation.close()
    assert [file.name for file in sorted(tmp_path.iterdir())] == [
        "m.x_20231114T221320Z_00001.pcap", "m.x_20231114T221510Z_00002.pcap"
    ]  # fmt: skip
    assert [len(command.packets(file)) for file in sorted(tmp_path.iterdir())] == [2, 1]


def test_the_oldest_go(tmp_path: Path) -> None:
    other = tmp_path / "m_20231114T221320Z_00001.pcap.of-yesterday"
    other.write_bytes(b"")
    rotation = Rotation(tmp_path / "m.pcap", size=RECORD + 40, files=2)
    for n in range(10):
        put(rotation, 1, n)
        assert len(list(tmp_path.glob("m_*.pcap"))) <= 2
    rotation.close()
    assert numbers(sorted(tmp_path.glob("m_*.pcap"))) == [8, 9]
    assert other.exists()


def test_nothing_came_and_nothing_is_there(tmp_path: Path) -> None:
    rotation = Rotation(tmp_path / "m.pcap", size=100)
    rotation.turn()
    rotation.close()
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_an_account(tmp_path: Path) -> None:
    """The folder is away for a while: its packets are lost, and counted; then it goes on."""
    folder = tmp_path / "there"
    folder.mkdir()
    rotation = Rotation(folder / "m.pcap", size=2 * RECORD + 24)
    wrote = sum(put(rotation, 1, n) for n in range(3))  # a whole file, and one of one packet
    assert len(rotation.files) == 1
    shutil.rmtree(folder)
    wrote += sum(put(rotation, 1, n) for n in range(3, 6))
    assert rotation.error is not None
    folder.mkdir()
    wrote += put(rotation, 1, 6)
    rotation.close()
    assert rotation.error is None
    assert wrote == 7
    assert (rotation.lost, rotation.lost_bytes) == (4, 4 * len(FRAME))
    assert numbers(sorted(folder.iterdir())) == [6]


def test_discarded(tmp_path: Path) -> None:
    rotation = Rotation(tmp_path / "m.pcap", size=RECORD + 24)
    put(rotation, 1, 0)
    put(rotation, 1, 1)
    rotation.discard()
    assert numbers(list(tmp_path.iterdir())) == [0]


@pytest.mark.parametrize(
    ("options", "field"),
    [({"size": 0}, "size"), ({"seconds": 0}, "seconds"), ({"files": 0}, "files")],
)
def test_what_cannot_be(tmp_path: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Rotation(tmp_path / "m.pcap", **options)
    assert raised.value.field == field
    with pytest.raises(ConfigError, match="a folder"):
        Rotation(tmp_path / "nowhere" / "m.pcap", size=1)
