"""Fault: a device that loses, doubles, reorders, breaks and delays what passes another one.

Every decision comes from a seed and the packet's number in its direction, so
that a run can be had again.
"""

from __future__ import annotations

import errno
import heapq
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from overlay.batch import Batch
from overlay.errors import ConfigError, Status
from overlay.tunnel import choice, integer

from .device import Device, DeviceStats, burst, live
from .tally import Tally, inside

__all__ = ["Fault", "FaultCounts"]

#: Seconds that a packet which is to be overtaken waits for its successor.
PATIENCE = 0.05

_DROP, _DUPLICATE, _REORDER, _CORRUPT, _WHERE, _JITTER, _DRAWS = range(7)


@dataclass(frozen=True)
class FaultCounts:
    """What was done to the packets of one direction.

    ``taken`` came in and ``given`` went out; ``taken + duplicated`` is ``given +
    dropped + overflowed + held`` at any time.  ``overflowed`` found the store of
    held packets full.
    """

    taken: int = 0
    given: int = 0
    dropped: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    delayed: int = 0
    overflowed: int = 0
    held: int = 0


class _Line:
    """One direction: packets that wait for their time, and what becomes of new ones."""

    def __init__(self, fault: Fault, seed: int, active: bool) -> None:
        self.active = active
        self._fault = fault
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._order = 0
        self._counts: Counter[str] = Counter()
        self._late: list[tuple[Batch, int]] = []
        self._late_since = 0.0
        self._heap: list[tuple[float, int, Batch, int]] = []

    @property
    def counts(self) -> FaultCounts:
        return FaultCounts(**self._counts, held=self.held)

    @property
    def held(self) -> int:
        return len(self._heap) + len(self._late)

    def take(self, batch: Batch, row: int, now: float) -> Status:
        """Take a row: what becomes of it, DEVICE_FULL or FAULT_INJECTED if it goes no further."""
        fault = self._fault
        draw = self._random.random(_DRAWS) if self.active else None
        self._counts["taken"] += 1
        if draw is not None and draw[_DROP] < fault.drop:
            self._counts["dropped"] += 1
            return Status.FAULT_INJECTED
        if self.held >= fault.limit:
            self._counts["overflowed"] += 1
            return Status.DEVICE_FULL
        own = _alone(batch, row)
        if draw is None:
            self._push(now, own, row)
            return Status.OK
        if draw[_CORRUPT] < fault.corrupt and len(own[0]):
            bit = int(draw[_WHERE] * 8 * len(own[0]))
            own[0][bit // 8] ^= 1 << bit % 8
            self._counts["corrupted"] += 1
        wait = max(0.0, fault.delay + (2 * float(draw[_JITTER]) - 1) * fault.jitter)
        self._counts["delayed"] += wait > 0
        if draw[_REORDER] < fault.reorder:
            self._counts["reordered"] += 1
            self._late.append((own, row))
            self._late_since = now
        else:
            self._push(now + wait, own, row)
            self._follow(now + wait)
        if draw[_DUPLICATE] < fault.duplicate and self.held < fault.limit:
            self._counts["duplicated"] += 1
            self._push(now + wait, _alone(own, 0), -1)
        return Status.OK

    def rest(self, now: float) -> None:
        """Nothing new has come: what was to be overtaken waits no longer than it must."""
        if self._late and now - self._late_since >= PATIENCE:
            self._follow(now)

    def _follow(self, when: float) -> None:
        for own, row in self._late:
            self._push(when, own, row)
        self._late.clear()

    def _push(self, when: float, own: Batch, row: int) -> None:
        heapq.heappush(self._heap, (when, self._order, own, row))
        self._order += 1

    def give(self, to: Batch, now: float) -> list[int]:
        """Append what is due to a batch, as far as it fits; the rows of take that they were."""
        first = np.zeros(1, np.uint32)
        rows: list[int] = []
        while self._heap and self._heap[0][0] <= now:
            if not self._fault.extension.copy_rows(self._heap[0][2], first, to):
                break
            rows.append(heapq.heappop(self._heap)[3])
        self._counts["given"] += len(rows)
        return rows

    def due(self, now: float) -> int:
        """How many are to go on now."""
        return sum(when <= now for when, *_ in self._heap)

    def forget(self) -> None:
        """What is held is of a burst that is over."""
        self._late = [(own, -1) for own, _ in self._late]
        self._heap = [(when, order, own, -1) for when, order, own, _ in self._heap]


def _alone(batch: Batch, row: int) -> Batch:
    """A batch of a copy of this row alone, its outer headers with it."""
    own = Batch.packed(int(batch.length[row]) + 1024, 1, gap=128)
    if live().copy_rows(batch, np.array([row], np.uint32), own) and own.count:
        return own
    raise IndexError(f"row {row} lies outside the data")


class Fault(Device):
    """What ``device`` does, with faults.

    Frames that are dropped are counted as ``FAULT_INJECTED``, and have that
    status where they were to be sent.

    :param device: any device; closed with this one.
    :param seed: of all decisions, 0..2**64-1; the same packets in the same order
        meet the same fate, whatever bursts they come in.
    :param drop: how many packets are lost, 0..1.
    :param duplicate: how many come twice, 0..1.
    :param reorder: how many come after their successor, or where none follows 50 ms late, 0..1.
    :param corrupt: how many have one bit inverted, 0..1.
    :param delay: seconds that every packet is held.
    :param jitter: seconds by which the delay varies both ways; no more than ``delay``.
    :param direction: which packets: ``"send"``, ``"recv"`` or ``"both"``.
    :param limit: packets held in each direction at most; more are lost as
        ``DEVICE_FULL`` on send, and left to the device on recv.
    :param clock: seconds, for ``delay``.

    Held packets move on when :meth:`recv` or :meth:`send` is called.
    """

    def __init__(
        self,
        device: Device,
        *,
        seed: int,
        drop: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        corrupt: float = 0.0,
        delay: float = 0.0,
        jitter: float = 0.0,
        direction: Literal["send", "recv", "both"] = "both",
        limit: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        seed = integer("seed", seed, 0, 2**64 - 1)
        self.drop = _number("drop", drop, 1)
        self.duplicate = _number("duplicate", duplicate, 1)
        self.reorder = _number("reorder", reorder, 1)
        self.corrupt = _number("corrupt", corrupt, 1)
        self.delay = _number("delay", delay, math.inf)
        self.jitter = _number("jitter", jitter, self.delay)
        self.limit = integer("limit", limit, 1, 2**20)
        choice("direction", direction, ("send", "recv", "both"))
        self.extension = live()
        self.device = device
        self.mac = device.mac
        self.underlay = device.underlay
        self._clock = clock
        self._tally = Tally()
        sends, receives = direction != "recv", direction != "send"
        self._out = _Line(self, seed, sends)
        self._in = _Line(self, seed ^ 0x9E3779B97F4A7C15, receives)
        self._scratch, self._carried = burst(), burst(256)

    @property
    def mtu(self) -> int:  # type: ignore[override]
        """The device's."""
        return self.device.mtu

    @property
    def sent(self) -> FaultCounts:
        """What was done to packets on their way to the device."""
        return self._out.counts

    @property
    def received(self) -> FaultCounts:
        """What was done to packets on their way from the device."""
        return self._in.counts

    def recv(self, batch: Batch) -> int:
        """As :meth:`Device.recv`."""
        now = self._clock()
        self._out.rest(now)
        self._pass_on(now, None)
        if not self._in.active:
            rows = self.device.recv(batch)
            self._tally.received(batch)
            return rows
        room = min(self.limit - self._in.held, batch.capacity - self._in.due(now))
        if room > 0:
            scratch = self._scratch if self._scratch.capacity <= room else burst(room)
            self.device.recv(scratch)
            for row in np.flatnonzero(scratch.status == Status.OK).tolist():
                status = self._in.take(scratch, row, now)
                if status:
                    self._tally.lost(status)
        self._in.rest(now)
        batch.clear()
        self._in.give(batch, now)
        self._in.forget()
        if not batch.count and self._in.due(now):
            raise OSError(errno.EMSGSIZE, "the batch is too small for a packet")
        self._tally.received(batch)
        return batch.count

    def send(self, batch: Batch) -> int:
        """As :meth:`Device.send`: a packet that is held has been sent."""
        now = self._clock()
        if not self._out.active:
            before = batch.status == Status.OK
            went = self.device.send(batch)
            self._tally.sent(batch, before & (batch.status == Status.OK))
            return went
        taken = batch.status == Status.OK
        batch.status[taken & ~inside(batch)] = Status.BAD_ROW
        for row in np.flatnonzero(batch.status == Status.OK).tolist():
            batch.status[row] = self._out.take(batch, row, now)
        for status in batch.status[taken].tolist():
            self._tally.lost(Status(status), int(status != Status.OK))
        self._out.rest(now)
        self._pass_on(now, batch)
        self._out.forget()
        went = taken & (batch.status == Status.OK)
        self._tally.sent(batch, went)
        return int(np.count_nonzero(went))

    def _pass_on(self, now: float, batch: Batch | None) -> None:
        """Send what is due; rows of ``batch`` get the device's statuses."""
        out = self._carried
        while True:
            out.clear()
            rows = self._out.give(out, now)
            if not rows:
                return
            self.device.send(out)
            if batch is None:
                continue
            for row, status in zip(rows, out.status.tolist(), strict=True):
                if row >= 0 and status:
                    batch.status[row] = status

    def fileno(self) -> int:
        """The device's, where nothing is ever held; else -1."""
        holds = self.duplicate or self.reorder or self.delay
        return -1 if holds else self.device.fileno()

    @property
    def stats(self) -> DeviceStats:
        """What this device gave and took; what the other one lost of it is among its losses."""
        own, other = self._tally.stats(), self.device.stats
        return own + DeviceStats(lost=other.lost)

    def close(self) -> None:
        """Close the device; what is held is gone."""
        self.device.close()

    def __repr__(self) -> str:
        return f"<Fault of {self.device!r}>"


def _number(name: str, value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        limit = f"0..{most:g}" if most < math.inf else "0 or more"
        raise ConfigError(name, value, f"a number, {limit}")
    if value == math.inf:
        raise ConfigError(name, value, "a finite number")
    return float(value)
