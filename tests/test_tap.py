"""Tap: a TAP interface with the kernel's own TCP and UDP behind it."""

from __future__ import annotations

import hashlib
import os
import random
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import overlay
from frames import MACS, tcp_frame, udp_frame
from namespace import Namespace, powerless
from overlay import Batch, ConfigError, Status
from overlay.io.device import Device, burst
from overlay.io.tap import Tap
from veth import put, run, space, until
from wire import pattern

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TAP is Linux's")

if "CI" not in os.environ and not Path("/dev/net/tun").exists():  # in CI its absence fails
    pytestmark = pytest.mark.skip("there is no /dev/net/tun")

ADDRESS = {4: "10.9.0.{}", 6: "fd09::{}"}
KIND = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture
def home() -> Iterator[Namespace]:
    """The test is in a namespace of its own, which is quiet."""
    with space() as made, made.inside():
        run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
        yield made


def host(number: int, **options: object) -> Tap:
    """A TAP interface with addresses, where the calling thread is."""
    tap = Tap("t0", **options)  # type: ignore[arg-type]
    run(f"ip addr add 10.9.0.{number}/24 dev t0", f"ip addr add fd09::{number}/64 dev t0 nodad")
    assert until(lambda: f"fd09::{number}" in run("ip -6 route show table local"))
    return tap


class Pump:
    """A thread that carries frames between two devices; what it saw."""

    def __init__(self, one: Device, other: Device) -> None:
        self.frames, self.supers, self.longest, self.refused = 0, 0, 0, 0
        self._ways, self._on = ((one, other), (other, one)), True
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        batch = burst(256, 4 << 20)
        while self._on:
            select.select([one.fileno() for one, _ in self._ways], [], [], 0.05)
            for one, other in self._ways:
                if one.recv(batch):
                    supers = batch.mss > 0
                    assert (batch.checksum[supers] == 2).all()
                    assert not batch.checksum[~supers].any()
                    self.frames += len(batch)
                    self.supers += int(np.count_nonzero(supers))
                    self.longest = max(self.longest, int(batch.length.max()))
                    self.refused += len(batch) - other.send(batch)

    def __enter__(self) -> Pump:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()


@contextmanager
def hosts(
    near: dict[str, object], far: dict[str, object]
) -> Iterator[tuple[Namespace, Namespace, Tap, Tap]]:
    with space() as left, space() as right:
        with left.inside():
            one = host(1, **near)
        with right.inside():
            other = host(2, **far)
        with one, other:
            yield left, right, one, other


def stream(left: Namespace, right: Namespace, family: int, size: int) -> None:
    """TCP from one host to the other; it arrives as it was sent."""
    with right.inside():
        listener = socket.create_server((ADDRESS[family].format(2), 5000), family=KIND[family])
    with left.inside():
        client = socket.socket(KIND[family])
    data = random.Random(1).randbytes(size)
    got: list[bytes] = []

    def receive() -> None:
        peer, _ = listener.accept()
        peer.settimeout(20)
        with peer:
            digest = hashlib.sha256()
            while piece := peer.recv(1 << 20):
                digest.update(piece)
            got.append(digest.digest())

    thread = threading.Thread(target=receive)
    with listener, client:
        listener.settimeout(20)
        client.settimeout(20)
        thread.start()
        client.connect((ADDRESS[family].format(2), 5000))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        thread.join()
    assert got == [hashlib.sha256(data).digest()]


def received(home: Namespace) -> int:
    """What the kernel counts as received from the interface."""
    with home.inside(), open("/proc/thread-self/net/dev") as lines:
        (line,) = (line for line in lines if line.strip().startswith("t0:"))
        return int(line.split(":")[1].split()[1])


# -- the kernel's own traffic ----------------------------------------------------


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_tcp_passes_in_super_frames(family: int) -> None:
    with hosts({}, {}) as (left, right, one, other), Pump(one, other) as pump:
        stream(left, right, family, 8 << 20)
        assert "tso4" in one.offloads
        assert pump.supers > 50
        assert 16000 < pump.longest < 65000 + 14 + 40
        assert pump.refused == 0
        assert one.stats.rx_packets + other.stats.rx_packets == pump.frames
        assert one.stats.tx_packets + other.stats.tx_packets == pump.frames
        assert one.stats.lost == other.stats.lost == {}


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_packets_of_a_flow_are_written_together(family: int) -> None:
    with hosts({"offload": False}, {}) as (left, right, one, other):
        with Pump(one, other) as pump:
            stream(left, right, family, 8 << 20)
        assert one.offloads == ()
        assert pump.supers <= pump.frames / 10  # of the other way only
        assert pump.refused == 0
        assert received(right) < other.stats.tx_packets / 2


def test_without_offload_both_ways_is_plain_ethernet() -> None:
    with hosts({"offload": False}, {"offload": False}) as (left, right, one, other):
        with Pump(one, other) as pump:
            stream(left, right, 4, 1 << 20)
        assert pump.supers == pump.refused == 0
        assert pump.longest == 1514


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_frames_come_with_whole_checksums(family: int) -> None:
    with space() as made, made.inside():
        tap = host(1, mac="02:00:00:00:00:01")
        to = ADDRESS[family].format(9)
        run(f"ip neigh add {to} lladdr {MACS['dst']} dev t0")
        kernel = socket.socket(KIND[family], socket.SOCK_DGRAM)
        batch, payload = burst(), pattern(333)
        with tap, kernel:
            kernel.bind((ADDRESS[family].format(1), 5000))
            kernel.sendto(payload, (to, 6000))

            def found() -> list[bytes]:
                tap.recv(batch)
                return [f for f in batch.to_list() if payload in f]

            frames: list[bytes] = []
            assert until(lambda: frames.extend(found()) or frames)
            assert batch.checksum.tolist() == [0] * len(batch)
        expected = udp_frame(
            payload, family, src=ADDRESS[family].format(1), dst=to, sport=5000, dport=6000
        )
        at = 14 + (20 if family == 4 else 40)
        assert frames[0][:12].hex(":") == MACS["dst"] + ":02:00:00:00:00:01"
        assert frames[0][at:] == expected[at:]


SUPERS = {
    "udp": (1000, 20),
    "more datagrams than Linux takes": (100, 200),
    "one": (1000, 1),
}


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("kind", SUPERS)
def test_the_kernel_takes_super_frames_of_udp(family: int, kind: str) -> None:
    mss, count = SUPERS[kind]
    with space() as made, made.inside():
        tap = host(1)
        kernel = socket.socket(KIND[family], socket.SOCK_DGRAM)
        with tap, kernel:
            kernel.settimeout(10)
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            kernel.bind((ADDRESS[family].format(1), 6000))
            payload = pattern(mss * count)
            frame = udp_frame(
                payload, family, src=ADDRESS[family].format(9), dst=ADDRESS[family].format(1)
            )
            batch = Batch.from_frames([tap.mac + frame[6:]])  # type: ignore[operator]
            batch.mss[0], batch.checksum[0] = mss, 2
            seed(batch, family)
            assert tap.send(batch) == 1
            got = [kernel.recv(2048) for _ in range(count)]
            assert [len(piece) for piece in got] == [mss] * count
            assert b"".join(got) == payload


def seed(batch: Batch, family: int) -> None:
    """The checksum of row 0, UDP, becomes its pseudo header's sum."""
    row = bytes(batch[0])
    l4 = 14 + (20 if family == 4 else 40)
    length = len(row) - l4
    pseudo = row[l4 - (8 if family == 4 else 32) : l4] + bytes([0, 17])
    pseudo += length.to_bytes(2, "big")
    batch[0][l4 + 6 : l4 + 8] = (0xFFFF ^ overlay.checksum(pseudo)).to_bytes(2, "big")


def test_a_partial_checksum_is_the_kernel_s_to_complete() -> None:
    with space() as made, made.inside():
        tap = host(1)
        with tap, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
            kernel.settimeout(10)
            kernel.bind(("10.9.0.1", 6000))
            frame = udp_frame(b"partial", src="10.9.0.9", dst="10.9.0.1")
            batch = Batch.from_frames([tap.mac + frame[6:]])  # type: ignore[operator]
            batch.checksum[0] = 2
            seed(batch, 4)
            assert tap.send(batch) == 1
            assert kernel.recv(100) == b"partial"


# -- rows -------------------------------------------------------------------------


def fill(tap: Tap, sizes: list[int]) -> list[bytes]:
    """Send frames of these sizes into the interface."""
    frames = [b"\x02" + bytes(11) + b"\x88\xb5" + os.urandom(size - 14) for size in sizes]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as kernel:
        kernel.bind((tap.name, 0))
        for frame in frames:
            kernel.send(frame)
    return frames


@pytest.mark.parametrize(
    ("rows", "size", "gap"), [(64, 1600, 0), (64, 4000, 128), (3, 100000, 128), (1, 1514, 0)]
)
def test_what_finds_no_room_comes_with_the_next_call(
    home: Namespace, rows: int, size: int, gap: int
) -> None:
    with Tap("t0") as tap:
        frames = fill(tap, [60, 1514, 1000, 1514, 61, 1514, 999, 60, 60])
        batch, got = Batch.packed(size, rows, gap=gap), []
        while tap.recv(batch):
            assert (batch.offset - batch.base == gap).all()
            got += batch.to_list()
        assert got == frames
        assert tap.stats.rx_packets == len(frames)
        assert tap.stats.rx_bytes == sum(map(len, frames))
        assert tap.stats.lost == {}


def test_what_no_such_batch_can_take_is_counted(home: Namespace) -> None:
    with Tap("t0") as tap:
        frames = fill(tap, [60, 1514, 62])
        batch, got = Batch.packed(200, 8), []
        for _ in range(4):
            tap.recv(batch)
            got += batch.to_list()
        assert got == [frames[0], frames[2]]
        assert tap.stats.lost == {Status.NO_ROOM: 1}


def test_rows_that_are_no_frames_are_refused_by_name(home: Namespace) -> None:
    with Tap("t0") as tap:
        batch = put(tap, [b"", bytes(13), bytes(60)])
        assert batch.status.tolist() == [Status.DEVICE_REFUSED] * 2 + [0]
        batch = Batch.from_frames([bytes(60), b"\xff" * 60, tcp_frame(pattern(99))[:53]])
        batch.mss[:], batch.checksum[:] = 20, 2
        assert tap.send(batch) == 0
        assert batch.drops() == {Status.DEVICE_REFUSED: 3}
        batch = Batch.from_array(
            np.zeros(100, np.uint8), np.array([90, 2**63], np.uint64), [20, 20]
        )
        assert tap.send(batch) == 0
        assert batch.drops() == {Status.BAD_ROW: 2}
        assert tap.stats.lost == {Status.DEVICE_REFUSED: 5, Status.BAD_ROW: 2}


def test_rows_with_a_status_are_left_alone(home: Namespace) -> None:
    with Tap("t0") as tap:
        batch = Batch.from_frames([bytes(60)] * 3)
        batch.status[1] = Status.UNKNOWN_KEY
        assert tap.send(batch) == 2
        assert batch.status.tolist() == [0, Status.UNKNOWN_KEY, 0]


def test_a_run_that_the_kernel_refuses_is_as_it_was(home: Namespace) -> None:
    """Rows keep their bytes where nothing became of them."""
    with Tap("t0", up=False) as tap:
        frames = [
            tcp_frame(pattern(1000), seq=1000 + 1000 * i, ident=i, flags=16) for i in range(9)
        ]
        batch = put(tap, frames)
        assert batch.drops() == {Status.DEVICE_DOWN: 9}
        batch.status[:] = 0
        assert batch.to_list() == frames


# -- faults -----------------------------------------------------------------------


def test_a_full_queue_is_counted(home: Namespace) -> None:
    with Tap("t0") as tap:
        run("ip link set t0 txqueuelen 100")
        fill(tap, [60] * 300)
        lost = tap.stats.lost[Status.DEVICE_OVERRUN]
        assert lost > 0
        batch, got = burst(), 0
        while rows := tap.recv(batch):
            got += rows
        assert got + lost == 300
        fill(tap, [60])
        assert tap.recv(batch) == 1


def test_down_and_up_again(home: Namespace) -> None:
    with Tap("t0") as tap:
        batch = burst()
        assert put(tap, [bytes(60)]).drops() == {}
        tap.link.up = False
        assert put(tap, [bytes(60)]).drops() == {Status.DEVICE_DOWN: 1}
        assert tap.recv(batch) == 0
        tap.link.up = True
        assert put(tap, [bytes(60)]).drops() == {}
        fill(tap, [60])
        assert tap.recv(batch) == 1
        assert tap.stats.lost == {Status.DEVICE_DOWN: 1}


def test_a_deleted_interface_says_so(home: Namespace) -> None:
    with Tap("t0") as tap:
        run("ip link del t0")
        with pytest.raises(OSError, match="recv"):
            tap.recv(burst())
        assert put(tap, [bytes(60)]).drops() == {Status.DEVICE_DOWN: 1}
        assert tap.stats.lost == {Status.DEVICE_DOWN: 1}


# -- opening and closing -------------------------------------------------------------


def test_the_interface_is_as_asked(home: Namespace) -> None:
    with Tap("t0", mtu=9000, mac="02-00-00-00-00-07") as tap:
        assert (tap.name, tap.mtu, tap.mac) == ("t0", 9000, bytes.fromhex("020000000007"))
        said = run("ip -d link show t0")
        assert "mtu 9000" in said
        assert "02:00:00:00:00:07" in said
        assert "gso_max_size 65000" in said
        assert "UP" in said
        assert not tap.underlay
        run("ip link set t0 mtu 1400")
        tap.refresh()
        assert tap.mtu == 1400


def test_names_are_the_kernel_s_to_choose(home: Namespace) -> None:
    with Tap() as one, Tap() as other, Tap("x%d", up=False) as third:
        assert (one.name, other.name, third.name) == ("tap0", "tap1", "x0")
        assert not third.link.up


def test_many_queues_share_the_flows(home: Namespace) -> None:
    with Tap("t0", queues=4) as tap:
        run("ip addr add 10.9.0.1/24 dev t0", f"ip neigh add 10.9.0.9 lladdr {MACS['dst']} dev t0")
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
        for kernel in sockets:
            kernel.sendto(b"x", ("10.9.0.9", 7))
            kernel.close()
        batch, got = burst(), 0
        while got < 64:
            assert until(lambda: tap.recv(batch))
            got += len(batch)
        counts = [queue.stats[0] for queue in tap.queues]
        assert sum(counts) == tap.stats.rx_packets == 64
        assert sum(count > 0 for count in counts) > 1


def test_persistent_interfaces_are_attached_to(home: Namespace) -> None:
    for queues in (1, 2):
        with Tap("t0", queues=queues, persist=True):
            pass
        with Tap("t0", queues=queues) as tap:
            assert tap.name == "t0"
        with Tap("t0", queues=1):
            pass
        run("ip link del t0")
    run("ip tuntap add mode tap name t1")
    with Tap("t1") as tap:
        assert "tso4" in tap.offloads


def test_what_the_kernel_refuses_is_explained(home: Namespace) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="TAP interface lo: an interface of this name is no TAP"):
        Tap("lo")
    with Tap("t0"), pytest.raises(OSError, match="TAP interface t0: another program has it open"):
        Tap("t0")
    with pytest.raises(OSError, match="TAP interface t0: this is no MAC address"):
        Tap("t0", mac="01:00:00:00:00:01")
    assert os.listdir("/proc/self/fd") == before
    done = powerless(
        "from overlay.io.tap import Tap\ntry: Tap('t0')\nexcept OSError as e: print(e)"
    )
    assert "needs CAP_NET_ADMIN" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "a" * 16},
        {"name": ""},
        {"name": "a/b"},
        {"name": "a b"},
        {"name": 7},
        {"queues": 0},
        {"queues": 257},
        {"mtu": 67},
        {"mac": "nonsense"},
        {"up": 1},
        {"offload": None},
    ],
    ids=str,
)
def test_bad_arguments(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        Tap(**bad)  # type: ignore[arg-type]
    assert caught.value.field == next(iter(bad))


def test_a_closed_device_says_so(home: Namespace) -> None:
    before = os.listdir("/proc/self/fd")
    tap = Tap("t0", queues=2)
    put(tap, [bytes(60)])
    stats = tap.stats
    tap.close()
    tap.close()
    assert tap.stats == stats
    calls: list[Callable[[], object]] = [
        lambda: tap.recv(burst()),
        lambda: put(tap, [bytes(60)]),
        tap.refresh,
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()
    assert os.listdir("/proc/self/fd") == before
    assert "t0" not in subprocess.run(["ip", "link"], capture_output=True, text=True).stdout
