"""Device: what frames and packets come from and go to, as Python sees it.

Lives here: the interface that every device has, and the devices that C drives.
What must not: any one device, any protocol.
"""

from __future__ import annotations

import select
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

from overlay.batch import HEADROOM, Batch
from overlay.errors import BackendError, ConfigError, Status
from overlay.tunnel import integer

if TYPE_CHECKING:
    from typing_extensions import Self

    from overlay._live import Queue

__all__ = ["FRAME_MAX", "Device", "DeviceStats", "QueueDevice", "burst", "live"]

#: The longest frame that a device gives: the largest IP packet, behind Ethernet and two tags.
FRAME_MAX = 65535 + 22


def live() -> ModuleType:
    """The extension that drives devices; raises :class:`BackendError` where it is not here."""
    try:
        from overlay import _live
    except ImportError as error:
        raise BackendError(
            "live devices need Linux and the compiled extension overlay._live, "
            f"which is not here: {error}"
        ) from error
    return _live


def burst(rows: int = 64, size: int | None = None) -> Batch:
    """An empty batch for :meth:`Device.recv` to fill, with headroom before every row.

    :param rows: how many frames one recv may give, at least 1.
    :param size: bytes of all of them together, headroom included; by default
        room for as many frames of 1.9 kB, and for two of the longest besides.
        At least one of the longest fits whatever is asked for.
    """
    rows = integer("rows", rows, 1, 2**20)
    least = FRAME_MAX + 2 * HEADROOM
    size = rows * 2048 + 2 * least if size is None else integer("size", size, 1, 2**40)
    return Batch.packed(max(size, least), rows, gap=HEADROOM)


@dataclass(frozen=True)
class DeviceStats:
    """What a device took and gave.

    ``rx_packets``, ``rx_bytes``: given by recv; a super-frame is one packet.
    ``tx_packets``, ``tx_bytes``: taken by send.  ``lost``: what was not, of
    both ways, by reason; ``DEVICE_OVERRUN`` counts what the kernel lost.
    """

    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    lost: dict[Status, int] = field(default_factory=dict)

    def __add__(self, other: DeviceStats) -> DeviceStats:
        lost = dict(self.lost)
        for status, count in other.lost.items():
            lost[status] = lost.get(status, 0) + count
        return DeviceStats(
            self.rx_packets + other.rx_packets,
            self.rx_bytes + other.rx_bytes,
            self.tx_packets + other.tx_packets,
            self.tx_bytes + other.tx_bytes,
            lost,
        )


class Device(ABC):
    """What frames (or, where :attr:`underlay` says so, outer packets) come from and go to.

    One thread uses a device at a time.  A device is a context manager: it is
    closed at the end.  To write one, derive from this class and give it
    :meth:`recv`, :meth:`send`, :attr:`stats` and :meth:`close`; a worker then
    uses it through :attr:`queues`.
    """

    #: IP bytes of the largest packet that :meth:`send` takes.
    mtu: int = 1500
    #: The interface's MAC address, 6 bytes, or None.
    mac: bytes | None = None
    #: Whether what it carries are outer packets.
    underlay: bool = False
    _adaptor: Queue | None = None

    @abstractmethod
    def recv(self, batch: Batch) -> int:
        """Empty ``batch``, fill it with what waits, and return the rows, 0 for nothing.

        Never waits.  What does not fit comes with the next call.  Make the
        batch with :func:`burst`.
        """

    @abstractmethod
    def send(self, batch: Batch) -> int:
        """Send the rows whose status is OK, in order, and return how many went.

        Never waits.  A row that was not sent gets the ``status`` that says
        why, and is counted under it.  Rows may be changed where they lie.
        """

    @property
    @abstractmethod
    def stats(self) -> DeviceStats:
        """What has passed, up to now."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back.  A second call does nothing."""

    def fileno(self) -> int:
        """A descriptor that is readable when something waits, or -1: ask now and then."""
        return -1

    @property
    def queues(self) -> tuple[Queue, ...]:
        """What workers use, one thread each: here one queue that calls this object."""
        queue = self._adaptor
        if queue is None:
            queue = self._adaptor = live().PythonQueue(self)
        assert queue is not None
        return (queue,)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class QueueDevice(Device):
    """A device that C drives, by its queues.

    :param queues: ``overlay._live.Queue`` objects, all of one interface; owned.
    """

    def __init__(self, queues: Sequence[Queue], *, underlay: bool = False) -> None:
        if not queues:
            raise ConfigError("queues", queues, "at least one")
        self._queues = tuple(queues)
        self._turn = 0
        self._poll: select.epoll | None = None
        self._last = DeviceStats()
        self.underlay = underlay

    @property
    def mtu(self) -> int:  # type: ignore[override]
        """IP bytes of the largest packet that :meth:`send` takes."""
        return min(queue.mtu for queue in self._queues)

    @property
    def mac(self) -> bytes | None:  # type: ignore[override]
        """The interface's MAC address, 6 bytes, or None."""
        mac = self._queues[0].mac
        return mac if any(mac) else None

    @property
    def queues(self) -> tuple[Queue, ...]:
        """One for each thread that may use the device at once."""
        return self._queues

    def recv(self, batch: Batch) -> int:
        """As :meth:`Device.recv`: from the first queue, in turn, in which something waits."""
        for _ in self._queues:
            queue = self._queues[self._turn]
            self._turn = (self._turn + 1) % len(self._queues)
            rows = queue.recv(batch)
            if rows:
                return rows
        return 0

    def send(self, batch: Batch, queue: int = 0) -> int:
        """As :meth:`Device.send`, on the queue of this number."""
        return self._queues[queue].send(batch)

    def fileno(self) -> int:
        """As :meth:`Device.fileno`, for all queues together."""
        numbers = [queue.fileno() for queue in self._queues]
        if len(numbers) == 1 or -1 in numbers:
            return min(numbers)
        if self._poll is None:
            self._poll = select.epoll()
            for number in numbers:
                self._poll.register(number, select.EPOLLIN)
        return self._poll.fileno()

    @property
    def stats(self) -> DeviceStats:
        """What has passed all queues; after :meth:`close`, what had."""
        if self.closed:
            return self._last
        total = DeviceStats()
        for queue in self._queues:
            total += DeviceStats(*queue.stats)
        return total

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._queues[0].closed

    def close(self) -> None:
        """As :meth:`Device.close`."""
        if self.closed:
            return
        self._last = self.stats
        for queue in self._queues:
            queue.close()
        if self._poll is not None:
            self._poll.close()

    def __repr__(self) -> str:
        what = "closed" if self.closed else f"mtu {self.mtu}"
        return f"<{type(self).__name__}, {what}, {len(self._queues)} queues>"
