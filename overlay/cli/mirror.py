"""Mirror: packets as they come from devices, decapsulated, to a capture or a TAP.

Lives here: the loop of ``listen`` and ``extcap``, and what ends it.  What must
not: either's options.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import click
import numpy as np
import numpy.typing as npt

from overlay import Batch, Profile, Status
from overlay.io.device import Device, burst, live
from overlay.io.pcap import Burst, CaptureWriter
from overlay.io.reflector import Reflector
from overlay.io.rotation import Rotation
from overlay.io.tap import Tap
from overlay.io.udp import Udp

from .decapsulator import Decapsulator
from .stream import Sink, Tally, is_watched

__all__ = ["Feed", "Frames", "Mirror", "Stop", "Stream", "finished"]

_ROWS = 512
_BYTES = 8 << 20
_IDLE = 0.25  # seconds after which the clock is looked at, whatever comes
_ASK = 0.001  # where a device cannot say when it has something
_DRAIN = 1.0  # seconds at most for what waits in the end
_LOOK = 1.0  # seconds between lines of statistics


class Stop:
    """Whether a signal has asked for the end; a second one ends at once.

    A context manager, for the main thread.  ``fileno`` becomes readable with the signal.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.asked = False

    def _hear(self, number: int, _: Any) -> None:
        if self.asked:
            sys.exit(128 + number)
        self.asked = True

    def fileno(self) -> int:
        return self._read

    def __enter__(self) -> Stop:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}
        for number in self._NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._hear)
        self._waker = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._waker)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)


# -- what packets come from, and where they go -------------------------------------


class Feed:
    """A device, what is taken of it, and its number among the capture's interfaces."""

    def __init__(self, device: Device, profile: Profile, number: int) -> None:
        self.device = device
        self.profile = profile
        self._stamped = device if isinstance(device, Udp) else None
        self._number = number
        self._numbers = np.zeros(0, np.uint32)
        self._roomy: Batch | None = None

    def recv(self, batch: Batch, times: npt.NDArray[np.int64]) -> Burst | None:
        """What waits, with the kernel's times where it says them, else with the time now."""
        if self._stamped is not None:
            rows = self._stamped.recv_stamped(batch, times)
        else:
            rows = self.device.recv(batch)
            times[:rows] = time.time_ns()
        if not rows:
            return None
        if self._numbers.size < rows:
            self._numbers = np.full(batch.capacity, self._number, np.uint32)
        if self.profile.protocols != ("vxlan",) and bool((batch.base == batch.offset).any()):
            batch = self._with_headroom(batch)
        return Burst(batch, 0, 0, self._numbers[:rows], times=times[:rows])

    def _with_headroom(self, batch: Batch) -> Batch:
        """A copy with room before every row: a tunnel that carries IP gets an Ethernet header,
        for which there is none between the datagrams of a train."""
        rows = np.arange(batch.count, dtype=np.uint32)
        if self._roomy is None or self._roomy.capacity < batch.count:
            self._roomy = burst(batch.capacity, _BYTES + 1024 * batch.capacity)
        self._roomy.clear()
        if live().copy_rows(batch, rows, self._roomy) < batch.count:
            return batch
        return self._roomy


class Target(Sink, Protocol):
    """Where frames go."""

    def turn(self) -> None:
        """Called now and then, whether or not frames come."""

    def flush(self) -> None:
        """Called when nothing waits."""

    def close(self) -> None:
        """All is done: what is written is whole now."""

    def discard(self) -> None:
        """All is over: nothing that is not whole stays."""


class Stream(CaptureWriter):
    """One capture file, or a stream whose reader wants to see every burst at once."""

    def turn(self) -> None:
        pass


class Frames:
    """A TAP interface: the frames go to whoever uses it."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap

    def times(self, burst: Burst) -> npt.NDArray[Any]:
        return burst.timestamps

    def write_all(
        self, batch: Batch, times: npt.NDArray[Any], interface: npt.NDArray[np.uint32]
    ) -> int:
        return self.write(batch, times, interface)

    def write(
        self,
        batch: Batch,
        timestamps: npt.ArrayLike = 0,  # noqa: ARG002
        interface: npt.ArrayLike = 0,  # noqa: ARG002
    ) -> int:
        return self.tap.send(batch)

    def turn(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.tap.close()

    discard = close


# -- the loop ---------------------------------------------------------------------


class Mirror:
    """Takes what the feeds give, until a limit or a signal ends it.

    :param count: frames after which it ends, or None.
    :param seconds: after which it ends, or None.
    :param reader: the stream whose reader may go away, or None.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        target: Target,
        tally: Tally,
        *,
        depth: int = 1,
        count: int | None = None,
        seconds: float | None = None,
        reflector: Reflector | None = None,
        reader: Stream | None = None,
    ) -> None:
        self._feeds = feeds
        self._target = target
        self._tally = tally
        self._works = [Decapsulator(f.profile, target, tally, depth=depth) for f in feeds]
        self._count = count
        self._end = float("inf") if seconds is None else time.monotonic() + seconds
        self._reflector = reflector
        self._reader = reader
        self._batch = burst(_ROWS, _BYTES)
        self._times = np.zeros(_ROWS, np.int64)
        self._looked = (time.monotonic(), 0)
        self._watched = is_watched()

    def run(self, stop: Stop) -> None:
        """Until the end."""
        poll = select.poll()
        poll.register(stop, select.POLLIN)
        numbers = [feed.device.fileno() for feed in self._feeds]
        for number in numbers:
            if number >= 0:
                poll.register(number, select.POLLIN)
        wait = 1000 * (_IDLE if min(numbers) >= 0 else _ASK)
        reader = -1
        with contextlib.suppress(OSError, ValueError):  # it is a file of memory
            if self._reader is not None:
                reader = self._reader.fileno()
                poll.register(reader, 0)  # errors are told always
        try:
            while not stop.asked and self._goes_on():
                if self._take():
                    continue
                self._target.flush()
                self._target.turn()
                for number, event in poll.poll(wait):
                    if number == reader and event & select.POLLERR:
                        raise BrokenPipeError
            until = time.monotonic() + _DRAIN
            while time.monotonic() < until and self._take():
                pass  # what waits still has come before the end
        finally:
            if self._watched:
                click.echo("\r\x1b[K", nl=False, err=True)
        for work in self._works:
            work.finish()

    def _goes_on(self) -> bool:
        now = time.monotonic()
        if self._watched and now - self._looked[0] >= _LOOK:
            self._look(now)
        return now < self._end and (self._count is None or self._tally.wrote < self._count)

    def _take(self) -> bool:
        """One burst of each feed; False if there was none."""
        busy = False
        for feed, work in zip(self._feeds, self._works, strict=True):
            batch = self._room()
            if batch is None:
                break
            found = feed.recv(batch, self._times)
            if found is None:
                continue
            busy = True
            if self._reflector is not None:
                self._reflector.send(batch)
            work.take(found)
        return busy

    def _room(self) -> Batch | None:
        """A batch of no more rows than there may be frames."""
        if self._count is not None:
            left = self._count - self._tally.wrote
            if left <= 0:
                return None
            if left < self._batch.capacity:
                self._batch = burst(1 << left.bit_length() - 1, _BYTES)
        return self._batch

    @property
    def lost(self) -> int:
        """Packets that the kernel had no room for, up to now."""
        return sum(f.device.stats.lost.get(Status.DEVICE_OVERRUN, 0) for f in self._feeds)

    def settle(self) -> None:
        """Put what the devices and the files lost into the tally, once the target is closed."""
        tally = self._tally
        tally.facts["lost_in_the_kernel"] = self.lost
        for feed in self._feeds:
            lost = dict(feed.device.stats.lost)
            lost.pop(Status.DEVICE_OVERRUN, None)
            tally.drops.update(lost)
        if isinstance(self._target, Frames):
            lost = dict(self._target.tap.stats.lost)
            lost.pop(Status.DEVICE_OVERRUN, None)  # what the host sent there, and nobody wanted
            tally.drops.update(lost)
        if isinstance(self._target, Rotation):
            tally.wrote -= self._target.lost
            tally.bytes_written -= self._target.lost_bytes
            tally.facts["files"] = len(self._target.files)
            tally.facts["lost_to_file_errors"] = self._target.lost
        if self._reflector is not None:
            tally.facts["returned"] = self._reflector.returned
            tally.facts["not_returned"] = self._reflector.kept

    def _look(self, now: float) -> None:
        tally = self._tally
        then, before = self._looked
        rate = (tally.wrote - before) / (now - then)
        self._looked = (now, tally.wrote)
        line = (
            f"{tally.wrote:,} frames, {rate:,.0f} a second, {tally.refused:,} refused, "
            f"{self.lost:,} lost"
        )
        with contextlib.suppress(OSError):
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)


@contextlib.contextmanager
def finished(target: Target) -> Iterator[None]:
    """Closes the target in the end; discards it where an exception passes."""
    try:
        yield
    except BaseException:
        target.discard()
        raise
    target.close()
