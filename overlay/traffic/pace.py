"""Pace: when packets are due, and sending them then.

Lives here: rates, schedules, the loop that keeps to one and says what it kept to.  What
must not: what the packets are, and any one device.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.errors import ConfigError, Status

from .sweep import Sweep

if TYPE_CHECKING:
    from overlay.io.device import Device

__all__ = ["Rate", "Schedule", "Sent", "send"]

Times = npt.NDArray[np.int64]

_PREFIX = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_TEXT = re.compile(
    r"(\d+(?:\.\d+)?|\.\d+)\s*([kmgt]?)\s*(pps|p/s|packets/s|bps|bit/s|bits/s)", re.IGNORECASE
)

#: Packets that go to a device together at most.
BURST = 256
#: How much of what it is late by a sender makes up for, in ns; the rest is let go.
SLACK = 10_000_000
#: Seconds for which a full device is asked again.
PATIENCE = 1.0


@dataclass(frozen=True)
class Rate:
    """``packets`` a second, or ``bits``: of whole packets from Ethernet on, without FCS."""

    packets: float = 0.0
    bits: float = 0.0

    def __post_init__(self) -> None:
        given = self.packets or self.bits
        if bool(self.packets) == bool(self.bits) or not 1e-3 <= given <= 1e15:
            raise ConfigError("rate", given, "packets or bits a second, 0.001..1e15")

    @classmethod
    def of(cls, text: str) -> Rate:
        """A rate as text: ``10kpps``, ``10k pps``, ``2.5 Mpps``, ``1Gbit/s``, ``100 Mbps``."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ConfigError("rate", text, "a rate such as 10kpps, 2.5Mpps or 1Gbit/s")
        number = float(found[1]) * _PREFIX[found[2].lower()]
        return cls(packets=number) if found[3][0] in "pP" else cls(bits=number)

    def text(self) -> str:
        """As people read it."""
        return _spoken(self.packets, "pps") if self.packets else _spoken(self.bits, "bit/s")


def _spoken(number: float, unit: str) -> str:
    for prefix in ("G", "M", "k"):
        if number >= _PREFIX[prefix.lower()]:
            return f"{number / _PREFIX[prefix.lower()]:.4g} {prefix}{unit}"
    return f"{number:.4g} {unit}"


class Schedule:
    """When each of a row of packets is due, in ns from the first."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._done = 0  # packets or bits that are behind us

    def peek(self, lengths: Times) -> Times:
        """When the next packets are due, which are so many bytes long; int64."""
        if self._rate.packets:
            before = self._done + np.arange(len(lengths), dtype=np.float64)
            return (before * (1e9 / self._rate.packets)).astype(np.int64)
        ends = np.cumsum(lengths, dtype=np.int64) * 8
        before = (self._done + ends - lengths * 8).astype(np.float64)
        return (before * (1e9 / self._rate.bits)).astype(np.int64)

    def take(self, lengths: Times) -> Times:
        """As :meth:`peek`; they are behind us then."""
        times = self.peek(lengths)
        self._done += len(lengths) if self._rate.packets else int(lengths.sum()) * 8
        return times


@dataclass
class Sent:
    """What :func:`send` did.

    ``frames``, ``frame_bytes``: made.  ``packets``, ``bytes``: that the device took.
    ``keys``: how many of each key, none without tunnels.  ``drops``: the others, by
    reason.  ``seconds``: from the first to the last.
    ``slipped``: seconds of the schedule that were let go, since the sender was too slow.
    """

    frames: int = 0
    frame_bytes: int = 0
    packets: int = 0
    bytes: int = 0
    keys: Counter[int] = field(default_factory=Counter)
    drops: Counter[Status] = field(default_factory=Counter)
    seconds: float = 0.0
    slipped: float = 0.0

    def reached(self) -> tuple[float, float]:
        """Packets and bits a second; 0 where there was no time between them."""
        if not self.seconds:
            return 0.0, 0.0
        return self.packets / self.seconds, self.bytes * 8 / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        packets, bits = self.reached()
        return {
            "reached_pps": round(packets, 3),
            "reached_bits": round(bits, 3),
            "slipped_seconds": round(self.slipped, 6),
        }


def send(
    sweep: Sweep,
    device: Device,
    *,
    rate: Rate | None = None,
    count: int | None = None,
    seconds: float | None = None,
    first: int = 0,
) -> Sent:
    """Send a sweep's packets by a device, when they are due.

    A packet is never early.  Where the sender cannot keep up, it makes up for 10 ms of
    what it is late by and lets the rest go: what was reached is in the result, not what
    was asked for.  The stamps in the frames are the time (``time.time_ns``) at which
    their burst, of at most 256, was made.

    :param rate: None: as fast as it goes.
    :param count: packets; :param seconds: at most; one of the two at least.
    :param first: number of the first frame.
    """
    if count is None and seconds is None:
        raise ConfigError("count", None, "a number of packets, or seconds")
    done = Sent()
    schedule = None if rate is None else Schedule(rate)
    begun = time.monotonic_ns()
    start = begun
    batch: Batch | None = None
    while True:
        now = time.monotonic_ns()
        rows = BURST if count is None else min(BURST, count - done.frames)
        if rows <= 0 or (seconds is not None and now - begun >= seconds * 1e9):
            break
        if schedule is not None:
            lengths = sweep.lengths(first + done.frames, rows)
            due = schedule.peek(lengths) + start
            rows = int(np.searchsorted(due, now, "right"))
            if not rows:
                wait = int(due[0]) - now
                left = wait if seconds is None else min(wait, int(begun + seconds * 1e9) - now)
                time.sleep(max(left, 0) / 1e9)
                continue
            schedule.take(lengths[:rows])
            behind = now - int(due[rows - 1])
            if rows == len(due) and behind > SLACK:
                start += behind - SLACK
                done.slipped += (behind - SLACK) / 1e9
        at = first + done.frames
        batch = sweep.packets(at, rows, times=time.time_ns(), batch=batch)
        keys = sweep.keys(at, rows) if sweep.tunnels else None
        _put(device, batch, keys, done)
        done.frames += rows
        done.frame_bytes += int(sweep.sizes(at, rows).sum())
        done.seconds = (time.monotonic_ns() - begun) / 1e9
    return done


def _put(device: Device, batch: Batch, keys: Any, done: Sent) -> None:
    """Send a burst; what finds the device full is sent again."""
    until = time.monotonic() + PATIENCE
    before = batch.status == Status.OK
    done.drops.update(batch.drops())
    while True:
        device.send(batch)
        went = before & (batch.status == Status.OK)
        done.packets += int(np.count_nonzero(went))
        done.bytes += int(batch.wire[went].sum(dtype=np.int64))
        if keys is not None:
            numbers, counts = np.unique(keys[went], return_counts=True)
            done.keys.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        full = before & (batch.status == Status.DEVICE_FULL)
        lost = before & ~went & ~full
        if full.any() and time.monotonic() > until:
            lost, full = lost | full, np.zeros_like(full)
        reasons = np.bincount(batch.status[lost], minlength=1).tolist()
        done.drops.update({Status(s): n for s, n in enumerate(reasons) if n})
        if not full.any():
            return
        time.sleep(0.0002)
        again = Batch.from_array(
            batch.data, batch.offset[full], batch.length[full], base=batch.base[full]
        )
        for name in ("key", "protocol", "link", "mss", "checksum"):
            getattr(again, name)[:] = getattr(batch, name)[full]
        keys = None if keys is None else keys[full]
        batch, before = again, np.ones(again.count, np.bool_)
