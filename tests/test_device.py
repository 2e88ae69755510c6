"""Devices: what every one of them does, and those that are written in Python.

Workers reach a Python device through its queue; ``Worker`` is that way in.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections import deque

import pytest

from overlay import Batch, ConfigError, Status
from overlay.io.device import FRAME_MAX, Device, DeviceStats, QueueDevice, burst, live
from overlay.io.memory import Memory


class Shelf(Device):
    """Gives what was put on it, and refuses every frame that begins with 0xFF."""

    mtu = 9000
    mac = b"\x02\0\0\0\0\x07"

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.sent: list[bytes] = []
        self.columns: list[tuple[int, ...]] = []
        self.fail: BaseException | None = None
        self.closed = 0

    def recv(self, batch: Batch) -> int:
        if self.fail:
            raise self.fail
        one, other = Memory.pair(mtu=65535)
        with one, other:
            for _ in range(min(batch.capacity, len(self.waiting))):
                one.put([self.waiting.popleft()])
            return other.recv(batch)

    def send(self, batch: Batch) -> int:
        for row in range(batch.count):
            if batch.status[row]:
                continue
            if self.fail and self.sent:
                raise self.fail
            if batch[row][0] == 0xFF:
                batch.status[row] = Status.DEVICE_DOWN
                continue
            self.sent.append(bytes(batch[row]))
            names = ("mss", "checksum", "link", "protocol", "key", "wire")
            self.columns.append(tuple(int(getattr(batch, name)[row]) for name in names))
        return len(self.sent)

    @property
    def stats(self) -> DeviceStats:
        return DeviceStats(tx_packets=len(self.sent))

    def close(self) -> None:
        self.closed += 1


class Worker(QueueDevice):
    """A device's queues as a worker drives them: through the C interface."""

    def recv(self, batch: Batch) -> int:
        return int(live().Queue.recv(self.queues[0], batch))

    def send(self, batch: Batch, queue: int = 0) -> int:
        return int(live().Queue.send(self.queues[queue], batch))


def frame(number: int, size: int = 60) -> bytes:
    return bytes([number]) * 12 + b"\x08\x00" + bytes(size - 14)


def test_a_worker_receives_from_a_python_device() -> None:
    shelf = Shelf()
    frames = [frame(i, 60 + i) for i in range(100)]
    shelf.waiting.extend(frames)
    worker = Worker(shelf.queues)
    got: list[bytes] = []
    batch = burst(40)
    while worker.recv(batch):
        assert batch.count <= 40
        assert (batch.offset - batch.base >= 128).all()
        got += batch.to_list()
    assert got == frames
    assert worker.stats.rx_packets == 100
    assert worker.stats.rx_bytes == sum(map(len, frames))


def test_a_worker_sends_to_a_python_device() -> None:
    shelf = Shelf()
    worker = Worker(shelf.queues)
    batch = Batch.from_frames([frame(i, 100) for i in (1, 2, 255, 4, 5)])
    for name, value in (
        ("mss", 50), ("checksum", 2), ("link", 1), ("protocol", 3), ("key", 2**60), ("wire", 200),
    ):  # fmt: skip
        getattr(batch, name)[3] = value
    batch.status[1] = Status.UNRESOLVED
    batch.offset[4] = 2**40
    before = [bytes(batch[row]) for row in range(4)]
    assert worker.send(batch) == 2
    assert shelf.sent == [frame(1, 100), frame(4, 100)]
    assert shelf.columns == [(0, 0, 0, 0, 0, 100), (50, 2, 1, 3, 2**60, 200)]
    assert [Status(s).name for s in batch.status] == [
        "OK", "UNRESOLVED", "DEVICE_DOWN", "OK", "BAD_ROW",
    ]  # fmt: skip
    assert [bytes(batch[row]) for row in range(4)] == before
    stats = worker.stats
    assert (stats.tx_packets, stats.tx_bytes) == (2, 200)
    assert stats.lost == {Status.DEVICE_DOWN: 1, Status.BAD_ROW: 1}


def test_the_outer_header_of_a_decapsulated_row_goes_with_it() -> None:
    outer: list[bytes] = []

    class Reader(Shelf):
        def send(self, batch: Batch) -> int:
            at = int(batch.outer[0])
            outer.append(bytes(batch.data[at : at + 20]))
            return super().send(batch)

    reader = Reader()
    batch = Batch.from_frames([bytes(range(20)) + frame(1)])
    batch.outer[0] = batch.offset[0]
    batch.offset[0] += 20
    batch.length[0] -= 20
    batch.protocol[0] = 1
    assert Worker(reader.queues).send(batch) == 1
    assert reader.sent == [frame(1)]
    assert outer == [bytes(range(20))]


def test_an_exception_is_kept_and_counted_and_not_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    shelf = Shelf()
    (queue,) = shelf.queues
    worker = Worker([queue])
    shelf.fail = ZeroDivisionError("what went wrong")
    batch = Batch.from_frames([frame(1), frame(2), frame(255)])
    assert worker.send(batch) == 0  # raised after the first: which of them went cannot be known
    assert set(batch.status.tolist()) == {Status.DEVICE_REFUSED}
    assert worker.stats.lost == {Status.DEVICE_REFUSED: 3}
    assert queue.error is shelf.fail  # type: ignore[attr-defined]
    queue.error = None  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="recv"):
        worker.recv(burst())
    assert queue.error is shelf.fail  # type: ignore[attr-defined]
    assert capfd.readouterr() == ("", "")


def test_a_batch_that_a_device_broke_is_refused() -> None:
    class Broken(Shelf):
        def recv(self, batch: Batch) -> int:
            self.waiting.extend([frame(1), frame(2)])
            super().recv(batch)
            batch.offset[0] = 2**50
            return 2

    worker = Worker(Broken().queues)
    batch = burst()
    assert worker.recv(batch) == 1
    assert batch.to_list() == [frame(2)]
    assert worker.stats.lost[Status.BAD_ROW] == 1


def test_a_queue_closes_its_device_once_and_goes_with_it() -> None:
    shelf = Shelf()
    (queue,) = shelf.queues
    assert shelf.queues == (queue,)
    assert (queue.mtu, queue.mac, queue.fileno()) == (9000, shelf.mac, -1)
    queue.close()
    queue.close()
    assert shelf.closed == 1
    with pytest.raises(ValueError, match="closed"):
        queue.recv(burst())
    dropped = Shelf()
    alive = weakref.ref(dropped)
    assert dropped.queues
    del dropped
    gc.collect()
    assert alive() is None


def test_queues_are_received_from_in_turn_and_sent_to_by_number() -> None:
    pairs = [Memory.pair() for _ in range(3)]
    near = QueueDevice([one.queues[0] for one, _ in pairs])
    far = [other for _, other in pairs]
    with near:
        for number, device in enumerate(far):
            device.put([frame(number), frame(number)])
        batch = burst(1)
        order = []
        while near.recv(batch):
            order.append(batch.to_list()[0][0])
        assert order == [0, 1, 2, 0, 1, 2]
        for number in range(3):
            near.send(Batch.from_frames([frame(number)]), queue=number)
        near.send(Batch.from_frames([frame(9)]))
        assert [device.take() for device in far] == [
            [frame(0), frame(9)], [frame(1)], [frame(2)],
        ]  # fmt: skip
        assert (near.stats.rx_packets, near.stats.tx_packets) == (6, 4)
    for device in far:
        late = Batch.from_frames([frame(1)])
        assert device.send(late) == 0
        assert Status(late.status[0]) is Status.DEVICE_DOWN


def test_one_descriptor_is_readable_for_all_queues() -> None:
    import select

    pairs = [Memory.pair() for _ in range(2)]
    near = QueueDevice([one.queues[0] for one, _ in pairs])
    with near:
        assert not select.select([near.fileno()], [], [], 0)[0]
        for _, far in pairs:
            far.put([frame(1)])
            assert select.select([near.fileno()], [], [], 0)[0]
            near.recv(burst())
            near.recv(burst())
            assert not select.select([near.fileno()], [], [], 0)[0]
    for _, far in pairs:
        far.close()


def test_stats_add_up() -> None:
    one = DeviceStats(1, 2, 3, 4, {Status.DEVICE_FULL: 5})
    other = DeviceStats(10, 20, 30, 40, {Status.DEVICE_FULL: 1, Status.DEVICE_DOWN: 2})
    lost = {Status.DEVICE_FULL: 6, Status.DEVICE_DOWN: 2}
    assert one + other == DeviceStats(11, 22, 33, 44, lost)


def test_a_burst_holds_the_longest_frame_whatever_is_asked_for() -> None:
    one, other = Memory.pair(mtu=65535)
    long = frame(1, FRAME_MAX - 8)
    with one, other:
        one.put([long, long])
        batch = burst(2, 1)
        assert other.recv(batch) == 1
        assert batch.to_list() == [long]
    assert burst().gap == 128
    assert burst(7).capacity == 7
    with pytest.raises(ConfigError):
        burst(0)


def test_a_device_is_abstract() -> None:
    with pytest.raises(TypeError):
        Device()  # type: ignore[abstract]
    with pytest.raises(ConfigError):
        QueueDevice([])


def test_a_queue_checks_what_it_is_made_of() -> None:
    shelf = Shelf()
    shelf.mac = b"\x02"
    with pytest.raises(ConfigError) as caught:
        _ = shelf.queues
    assert caught.value.field == "mac"


def test_without_the_extension_the_error_says_what_is_missing() -> None:
    code = (
        "import sys; sys.modules['overlay._live'] = None\n"
        "import overlay\n"
        "from overlay.io.memory import Memory\n"
        "try: Memory.pair()\n"
        "except overlay.BackendError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "live devices need Linux and the compiled extension" in result.stdout, result.stderr
