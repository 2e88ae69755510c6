"""Tally: what a device that is written in Python has taken and given, and may take at all."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.errors import Status

from .device import DeviceStats

__all__ = ["Tally", "inside"]


def inside(batch: Batch) -> npt.NDArray[np.bool_]:
    """Which rows lie in the batch's data, one bool a row."""
    size = np.uint64(batch.data.size)
    begin = batch.offset
    room = size - np.minimum(begin, size)
    rows: npt.NDArray[np.bool_] = (
        (batch.base <= begin) & (batch.length <= room) & (batch.length <= batch.wire)
    )
    return rows


class Tally:
    """Counts rows and bytes, and gives them as :class:`DeviceStats`."""

    def __init__(self) -> None:
        self._counts = [0, 0, 0, 0]
        self._lost: Counter[Status] = Counter()

    def _add(self, at: int, batch: Batch, rows: npt.NDArray[np.bool_]) -> None:
        self._counts[at] += int(np.count_nonzero(rows))
        self._counts[at + 1] += int(batch.length[rows].sum(dtype=np.int64))

    def received(self, batch: Batch) -> None:
        """Every row of a batch was given by recv."""
        self._add(0, batch, np.ones(batch.count, np.bool_))

    def sent(self, batch: Batch, rows: npt.NDArray[np.bool_]) -> None:
        """These rows of a batch went, where their status is OK still; else they are lost."""
        self._add(2, batch, rows & (batch.status == Status.OK))
        lost = np.bincount(batch.status[rows & (batch.status != Status.OK)], minlength=1)
        for status in np.flatnonzero(lost).tolist():
            self.lost(Status(status), int(lost[status]))

    def lost(self, status: Status, count: int = 1) -> None:
        """So many rows were not, for this reason."""
        if count:
            self._lost[status] += count

    def stats(self) -> DeviceStats:
        """All of it, up to now."""
        received, received_bytes, sent, sent_bytes = self._counts
        return DeviceStats(received, received_bytes, sent, sent_bytes, dict(self._lost))
