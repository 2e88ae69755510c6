"""Capture: a pcap or pcapng file as a device: replayed, and what is sent recorded.

What must not live here: the formats (:mod:`.pcap`, :mod:`.writer`).
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from overlay._backend import codec
from overlay.batch import Batch
from overlay.errors import ConfigError, Status
from overlay.tunnel import boolean, integer

from .device import Device, DeviceStats, live
from .pcap import Burst, open_capture
from .pcap import Capture as OpenCapture
from .tally import Tally, inside
from .writer import CaptureWriter

__all__ = ["Capture"]

Path_ = str | os.PathLike[str]


class Capture(Device):
    """Receives the packets of one file, and writes what is sent to another.

    :param path: the capture to replay; without one nothing is received.
    :param record: where to write what is sent, pcapng if it is so called, else
        pcap; it takes this name when the device is closed, and nothing is left
        behind if it cannot be written whole.  Without one, what is sent goes
        nowhere.  Super-frames are recorded as the packets that they stand for.
    :param realtime: whether packets come at the pace of their timestamps,
        counted from the first recv; else as fast as they are asked for.
    :param speed: with ``realtime``, how many seconds of capture a second takes.
    :param loop: whether the capture begins again at its end.
    :param underlay: whether it holds outer packets.
    :param mtu: IP bytes of the largest packet that :meth:`send` takes, 68..65535.
    :param clock: seconds, for ``realtime``.
    """

    def __init__(
        self,
        path: Path_ | None = None,
        *,
        record: Path_ | None = None,
        realtime: bool = False,
        speed: float = 1.0,
        loop: bool = False,
        underlay: bool = False,
        mtu: int = 65535,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        boolean("realtime", realtime)
        boolean("loop", loop)
        boolean("underlay", underlay)
        if not isinstance(speed, (int, float)) or not 0 < speed < math.inf:
            raise ConfigError("speed", speed, "a number above 0")
        self.mtu = integer("mtu", mtu, 68, 65535)
        self.underlay = underlay
        #: Whether every packet has been received; never, where it loops.
        self.exhausted = path is None
        self._live = live()
        self._path = path
        self._realtime = realtime
        self._speed = speed
        self._loop = loop
        self._clock = clock
        self._tally = Tally()
        self._closed = False
        self._source: OpenCapture | None = None
        self._bursts: Iterator[Burst] = iter(())
        self._burst: Burst | None = None
        self._row = 0
        self._begun: tuple[float, int] | None = None  # the clock, the first timestamp
        self._writer: CaptureWriter | None = None
        if path is not None:
            self._rewind(path)
        if record is not None:
            try:
                pcapng = Path(record).suffix == ".pcapng"
                self._writer = CaptureWriter(record, "pcapng" if pcapng else "pcap")
            except BaseException:
                self.close()
                raise
        self._records = record is not None

    # -- replay -------------------------------------------------------------------

    def _rewind(self, path: Path_) -> None:
        if self._source is not None:
            self._source.close()
        self._source = open_capture(path)
        self._bursts = iter(self._source)
        self._begun = None

    def _next(self) -> Burst | None:
        """The burst with packets that were not received yet, or None at the end."""
        if self._burst is not None and self._row < len(self._burst):
            return self._burst
        rewound = False
        while not self.exhausted and self._path is not None:
            self._burst, self._row = next(self._bursts, None), 0
            if self._burst is None:
                self.exhausted = not self._loop or rewound  # a capture of nothing ends all the same
                if not self.exhausted:
                    self._rewind(self._path)
                rewound = True
            elif len(self._burst):
                return self._burst
        return None

    def _due(self, burst: Burst) -> int:
        """The row up to which packets are due now."""
        if not self._realtime:
            return len(burst)
        times = burst.timestamps
        if self._begun is None:
            self._begun = self._clock(), int(times[self._row])
        begun, first = self._begun
        now = first + (self._clock() - begun) * self._speed * 1e9
        early: npt.NDArray[np.int64] = np.flatnonzero(times[self._row :] > now)
        return self._row + int(early[0]) if early.size else len(burst)

    def recv(self, batch: Batch) -> int:
        """As :meth:`Device.recv`; raises CaptureError where the capture is broken."""
        self._check_open()
        batch.clear()
        burst = self._next()
        if burst is None:
            return 0
        due = self._due(burst)
        done = self._live.copy_rows(burst.batch, np.arange(self._row, due, dtype=np.uint32), batch)
        if due > self._row and not done:
            raise OSError(errno.EMSGSIZE, "the batch is too small for a packet", str(self._path))
        self._row += done
        self._tally.received(batch)
        return batch.count

    # -- record --------------------------------------------------------------------

    def send(self, batch: Batch) -> int:
        """As :meth:`Device.send`.  Raises OSError once where the file cannot be written."""
        self._check_open()
        self._refuse(batch)
        went = batch.status == Status.OK
        if self._writer is not None and went.any():
            try:
                self._write(batch)
            except OSError:
                self._writer.discard()
                self._writer = None
                batch.status[went] = Status.DEVICE_DOWN
                self._tally.sent(batch, went)
                raise
        self._tally.sent(batch, went)
        return int(np.count_nonzero(went & (batch.status == Status.OK)))

    def _refuse(self, batch: Batch) -> None:
        """Give rows that cannot be written the status that says why."""
        for wrong, status in (
            (~inside(batch), Status.BAD_ROW),
            (batch.link != 0, Status.DEVICE_REFUSED),
            ((batch.length > self.mtu + 22) & (batch.mss == 0), Status.MTU_EXCEEDED),
            (np.full(batch.count, self._records and self._writer is None), Status.DEVICE_DOWN),
        ):
            rows = wrong & (batch.status == Status.OK)
            if rows.any():
                batch.status[rows] = status
                self._tally.lost(status, int(np.count_nonzero(rows)))

    def _write(self, batch: Batch) -> None:
        assert self._writer is not None
        now = time.time_ns()
        special = (batch.status == Status.OK) & ((batch.mss != 0) | (batch.checksum == 2))
        if special.any():
            length = batch.length.astype(np.int64)
            packets = int((length // np.maximum(batch.mss, 1).astype(np.int64))[special].sum())
            rows = batch.count + (packets if batch.mss.any() else 0) + batch.count
            out = Batch.packed(int(length.sum()) + 256 * rows, rows)
            codec.segment_batch(batch, out, self.mtu if self.underlay else 0)
            batch = out
        self._writer.write(batch, now)

    # -- the rest --------------------------------------------------------------------

    @property
    def stats(self) -> DeviceStats:
        """What has passed, up to now."""
        return self._tally.stats()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the device is closed")

    def close(self) -> None:
        """As :meth:`Device.close`: the file that was recorded takes its name."""
        if self._closed:
            return
        self._closed = True
        if self._source is not None:
            self._source.close()
        if self._writer is not None:
            self._writer.close()

    def __repr__(self) -> str:
        return f"<Capture of {self._path}, {'closed' if self._closed else 'open'}>"
