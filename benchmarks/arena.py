"""Arena: one burst in a batch that can be put back to frames or to packets.

Putting back restores the small columns only: encap and decap in place move no
payload, and the outer headers stay in the headroom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay import Batch, Tunnel

from . import floor, traffic

_MOVED = ("offset", "length", "wire", "status")


class Arena:
    """A batch of one burst, with the floor's loops over the same columns.

    ``batch``: :meth:`as_frames` and :meth:`as_packets` say what it holds.
    ``floor``: see :func:`benchmarks.floor.rows`.
    """

    def __init__(self, tunnel: Tunnel, frames: Sequence[bytes]) -> None:
        self.batch = Batch.from_frames(frames)
        self.floor: Any = floor.rows(self.batch, tunnel)
        self.bytes = sum(map(len, frames))
        self._columns = [getattr(self.batch, name) for name in _MOVED]
        self._frames = self._saved()
        if tunnel.encap_batch(self.batch) != len(frames):
            raise RuntimeError(f"refused: {self.batch.drops()}")
        self._packets = self._saved()
        packets = self.batch.to_list()
        self.as_frames()
        if floor.covers(tunnel) and (
            self.floor.encap() != len(frames) or self.batch.to_list() != packets
        ):
            raise RuntimeError("the floor makes other packets than the library")
        if floor.covers(tunnel) and (
            self.floor.decap() != len(frames) or self.batch.to_list() != list(frames)
        ):
            raise RuntimeError("the floor finds other frames than the library")
        self.as_frames()

    def _saved(self) -> list[npt.NDArray[Any]]:
        return [column.copy() for column in self._columns]

    def as_frames(self) -> None:
        for column, saved in zip(self._columns, self._frames, strict=True):
            np.copyto(column, saved)

    def as_packets(self) -> None:
        for column, saved in zip(self._columns, self._packets, strict=True):
            np.copyto(column, saved)


def arenas(tunnel: Tunnel, size: int | str, bursts: int) -> list[Arena]:
    """``bursts`` arenas of 256 frames of one size; the mix has all its frames in them."""
    count = traffic.BURST
    if size == "imix":
        frames = traffic.frames("imix", traffic.IMIX_FRAMES)
        count = len(frames) // 4
        parts = [frames[i : i + count] for i in range(0, len(frames), count)]
        return [Arena(tunnel, parts[i % 4]) for i in range(max(4, bursts))]
    return [Arena(tunnel, traffic.frames(size, count)) for _ in range(bursts)]


def each(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """All of them, one after another, as one call."""

    def run() -> None:
        for call in calls:
            call()

    return run
