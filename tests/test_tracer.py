"""Tracer: all that passes a device, in a file, and the traffic as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import frames
import wire
from overlay import VXLAN, Batch, ConfigError, Status
from overlay.io.device import burst
from overlay.io.memory import Memory
from overlay.io.pcap import open_capture
from overlay.io.tracer import Tracer
from overlay.io.writer import CaptureWriter

A, B, C = frames.UDP4, frames.UDP6, frames.ARP


def directions(path: Path) -> list[int]:
    """The epb_flags of every packet of a pcapng file, read by their place in the block."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind = int.from_bytes(data[at : at + 4], sys.byteorder)
        size = int.from_bytes(data[at + 4 : at + 8], sys.byteorder)
        if kind == 6:
            captured = int.from_bytes(data[at + 20 : at + 24], sys.byteorder)
            option = at + 28 + (captured + 3 & ~3)
            assert int.from_bytes(data[option : option + 2], sys.byteorder) == 2
            assert int.from_bytes(data[option + 2 : option + 4], sys.byteorder) == 4
            found.append(int.from_bytes(data[option + 4 : option + 8], sys.byteorder))
            assert data[option + 8 : option + 12] == bytes(4)
            assert option + 12 == at + size - 4
        at += size
    return found


def test_both_ways_are_written_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    near, far = Memory.pair(mtu=1400, mac="02:00:00:00:00:01")
    with far, Tracer(near, path) as tracer:
        assert (tracer.mtu, tracer.mac, tracer.underlay) == (1400, near.mac, False)
        assert tracer.fileno() == near.fileno()
        batch = Batch.from_frames([A, B, bytes(3000)])
        batch.status[1] = Status.UNRESOLVED
        assert tracer.send(batch) == 1
        assert batch.status.tolist() == [0, Status.UNRESOLVED, Status.MTU_EXCEEDED]
        assert far.take() == [A]
        far.put([B, C])
        got = burst()
        assert tracer.recv(got) == 2
        assert got.to_list() == [B, C]
        assert tracer.recv(got) == 0
        assert tracer.stats == near.stats
    assert near.closed
    assert Batch.from_pcap(path).to_list() == [A, bytes(3000), B, C]
    assert directions(path) == [2, 2, 1, 1]
    with open_capture(path) as capture:
        times = [int(t) for burst_ in capture for t in burst_.timestamps]
        assert times == sorted(times)
        assert times[0] > 10**18
        assert [i.name for i in capture.interfaces] == ["frames", "packets"]


def test_tshark_reads_the_directions(tmp_path: Path) -> None:
    import shutil

    from conftest import missing

    tshark = shutil.which("tshark")
    if tshark is None:
        missing("tshark")
    path = tmp_path / "trace.pcapng"
    near, far = Memory.pair()
    with far, Tracer(near, path) as tracer:
        tracer.send(Batch.from_frames([A, C]))
        far.put([B])
        tracer.recv(burst())
    command = [tshark, "-r", str(path), "-T", "fields", "-e", "frame.packet_flags_direction"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [int(line, 0) for line in result.stdout.split()] == [2, 2, 1]


def test_a_datagram_is_written_as_a_packet(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    tunnels = [
        VXLAN(vni=77, local=wire.LOCAL[v], remote=wire.REMOTE[v], source_port=0, checksum=False)
        for v in (4, 6)
    ]
    packets = [tunnel.encap(A) for tunnel in tunnels]
    near, far = Memory.pair(underlay=True)
    batch = Batch.from_frames([p for packet in packets for p in (packet[14:], packet)])
    for row, header in ((1, 20), (3, 40)):
        batch.outer[row], batch.link[row] = batch.offset[row - 1], 3
        batch.offset[row] += 14 + header + 8
        batch.length[row] -= 14 + header + 8
        batch.wire[row] -= 14 + header + 8
    batch.status[[0, 2]] = Status.UNRESOLVED
    with far, Tracer(near, path) as tracer:
        assert far.send(batch) == 2
        got = burst()
        assert tracer.recv(got) == 2
        assert got.link.tolist() == [3, 3]
    traced = Batch.from_pcap(path)
    assert traced.link.tolist() == [1, 1]
    assert traced.to_list() == [packet[14:] for packet in packets]


def test_rows_that_are_no_packets_do_not_disturb_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    near, far = Memory.pair()
    with far, Tracer(near, path) as tracer:
        batch = Batch.from_frames([A, B])
        batch.offset[0] = 2**40
        assert tracer.send(batch) == 1
        assert Status(batch.status[0]) is Status.BAD_ROW
    assert Batch.from_pcap(path).to_list() == [B]


def test_a_file_that_cannot_be_written_does_not_stop_the_traffic(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from overlay import Batch\n"
        "from overlay.io.memory import Memory\n"
        "from overlay.io.tracer import Tracer\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "near, far = Memory.pair()\n"
        "tracer = Tracer(near, sys.argv[1])\n"
        "print(tracer.send(Batch.from_frames([bytes(1000)] * 10)), len(far.take()))\n"
        "print(tracer.send(Batch.from_frames([bytes(1000)])), len(far.take()))\n"
        "try: tracer.close()\n"
        "except OSError as error: print(error.filename, near.closed)\n"
        "tracer.close()\n"
    )
    path = tmp_path / "trace.pcapng"
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert result.stdout.splitlines() == ["10 10", "1 1", f"{path} True"], result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_said_before_anything_happens(tmp_path: Path) -> None:
    near, far = Memory.pair()
    with near, far, pytest.raises(FileNotFoundError):
        Tracer(near, tmp_path / "none" / "trace.pcapng")


def test_the_writer_says_directions_in_pcapng_alone(tmp_path: Path) -> None:
    batch = Batch.from_frames([A])
    with CaptureWriter(tmp_path / "a.pcapng", "pcapng") as writer:
        writer.write(batch, direction="in")
    assert directions(tmp_path / "a.pcapng") == [1]
    with CaptureWriter(tmp_path / "a.pcap") as writer, pytest.raises(ConfigError):
        writer.write(batch, direction="in")
