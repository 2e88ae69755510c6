"""A capture file as a device: what is in it is received, what is sent is in it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import frames
import wire
from overlay import Batch, CaptureError, ConfigError, Status
from overlay.io.capture import Capture
from overlay.io.device import QueueDevice, burst, live
from overlay.io.writer import CaptureWriter
from test_device import Worker

PACKETS = [frames.udp_frame(wire.pattern(i)) for i in range(100)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A capture with a packet every millisecond."""
    path = tmp_path / "in.pcap"
    with CaptureWriter(path) as writer:
        batch = Batch.from_frames(PACKETS)
        writer.write(batch, [10**18 + i * 10**6 for i in range(len(PACKETS))])
    return path


def everything(device: Capture | QueueDevice, rows: int = 30) -> list[bytes]:
    batch, got = burst(rows), []
    while device.recv(batch):
        assert (batch.offset - batch.base >= 128).all()
        got += batch.to_list()
    return got


def test_it_is_replayed(file: Path) -> None:
    with Capture(file) as device:
        assert not device.exhausted
        assert everything(device) == PACKETS
        assert device.exhausted
        assert device.stats.rx_packets == 100
        assert device.stats.rx_bytes == sum(map(len, PACKETS))
    device.close()
    with pytest.raises(ValueError, match="closed"):
        device.recv(burst())


def test_a_worker_replays_it(file: Path) -> None:
    with Capture(file) as device:
        assert everything(Worker(device.queues)) == PACKETS


def test_it_comes_at_its_own_pace(file: Path) -> None:
    now = 100.0
    with Capture(file, realtime=True, speed=2.0, clock=lambda: now) as device:
        batch = burst(200)
        assert device.recv(batch) == 1
        assert device.recv(batch) == 0
        now += 0.0051  # ten milliseconds of the capture
        assert device.recv(batch) == 10
        assert batch.to_list() == PACKETS[1:11]
        now += 60
        assert device.recv(batch) == 89


def test_it_begins_again(file: Path) -> None:
    with Capture(file, loop=True) as device:
        batch, got = burst(64), []
        while len(got) < 250:
            assert device.recv(batch)
            got += batch.to_list()
        assert got[:250] == (PACKETS * 3)[:250]
        assert not device.exhausted


def test_an_empty_capture_ends_even_in_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    CaptureWriter(path).close()
    with Capture(path, loop=True) as device:
        assert device.recv(burst()) == 0
        assert device.exhausted


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_what_is_sent_is_recorded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    batch = Batch.from_frames([*PACKETS[:5], bytes(9100)])
    batch.status[1] = Status.UNRESOLVED
    batch.link[2] = 1
    batch.offset[3] = 2**40
    with Capture(record=path, mtu=9000) as device:
        assert everything(device) == []
        assert device.send(batch) == 2
        assert [Status(s).name for s in batch.status] == [
            "OK", "UNRESOLVED", "DEVICE_REFUSED", "BAD_ROW", "OK", "MTU_EXCEEDED",
        ]  # fmt: skip
        assert device.stats.tx_packets == 2
        assert device.stats.lost == {
            Status.DEVICE_REFUSED: 1, Status.BAD_ROW: 1, Status.MTU_EXCEEDED: 1,
        }  # fmt: skip
        assert not path.exists()  # it is not whole yet
    assert Batch.from_pcap(path).to_list() == [PACKETS[0], PACKETS[4]]
    assert os.listdir(tmp_path) == [path.name]


def test_a_super_frame_is_recorded_as_what_it_stands_for(tmp_path: Path) -> None:
    whole = frames.tcp_frame(wire.pattern(5000))
    batch = Batch.from_frames([PACKETS[0], whole])
    batch.mss[1], batch.checksum[1] = 1448, 2
    with Capture(record=tmp_path / "out.pcap") as device:
        assert device.send(batch) == 2
    first, *cut = Batch.from_pcap(tmp_path / "out.pcap").to_list()
    assert first == PACKETS[0]
    assert [len(packet) for packet in cut] == [54 + 1448] * 3 + [54 + 5000 - 3 * 1448]
    assert [wire.complete(packet) for packet in cut] == cut


def test_without_a_record_what_is_sent_goes_nowhere() -> None:
    with Capture() as device:
        assert device.send(Batch.from_frames(PACKETS)) == 100
        assert device.stats.tx_packets == 100
        assert everything(device) == []


def test_a_file_that_cannot_be_written_whole_is_not_left_behind(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from overlay import Batch\n"
        "from overlay.io.capture import Capture\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "device = Capture(record=sys.argv[1])\n"
        "batch = Batch.from_frames([bytes(1000)] * 10)\n"
        "try: device.send(batch)\n"
        "except OSError as error: print(error.filename)\n"
        "print({int(s) for s in batch.status}, device.send(Batch.from_frames([bytes(60)])))\n"
        "print(device.stats.lost)\n"
        "device.close()\n"
    )
    path = tmp_path / "out.pcap"
    assert hasattr(resource, "RLIMIT_FSIZE")
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    down = int(Status.DEVICE_DOWN)
    assert result.stdout.splitlines()[:2] == [str(path), f"{{{down}}} 0"], result.stderr
    assert f"DEVICE_DOWN: {down}>: 11" in result.stdout
    assert os.listdir(tmp_path) == []


def test_a_broken_capture_is_said(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(file.read_bytes()[:-5])
    with Capture(cut) as device:
        batch = burst(200)
        assert device.recv(batch) == 99
        assert batch.to_list() == PACKETS[:-1]
        with pytest.raises(CaptureError, match="cut short"):
            device.recv(batch)
    with pytest.raises(FileNotFoundError):
        Capture(tmp_path / "none.pcap")


def test_a_batch_that_is_too_small_is_said(file: Path) -> None:
    with Capture(file) as device, pytest.raises(OSError, match="too small"):
        device.recv(Batch.packed(20, 4))


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("speed", {"speed": 0}),
        ("speed", {"speed": float("nan")}),
        ("loop", {"loop": 1}),
        ("realtime", {"realtime": None}),
        ("underlay", {"underlay": "yes"}),
        ("mtu", {"mtu": 10}),
    ],
)
def test_bad_options_are_named(field: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        Capture(**options)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_rows_are_copied_with_all_that_is_said_of_them() -> None:
    batch = Batch.from_frames(PACKETS[:3])
    batch.mss[1], batch.checksum[1], batch.key[1] = 7, 2, 9
    out = burst()
    import numpy as np

    rows = np.array([2, 1], np.uint32)
    assert live().copy_rows(batch, rows, out) == 2
    assert out.to_list() == [PACKETS[2], PACKETS[1]]
    assert (out.mss.tolist(), out.checksum.tolist(), out.key.tolist()) == ([0, 7], [0, 2], [0, 9])
    with pytest.raises(ValueError, match="itself"):
        live().copy_rows(out, rows, out)
