"""Measure: how fast a backend is, for ``demo`` and ``bench``.

Every figure is the best of several short runs; ratios are taken between runs
of the same process, a moment apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from overlay import Batch, DecapError, EncapError, Tunnel
from overlay.codec import Codec

from .option import taking

__all__ = ["CAPACITY", "batch_rates", "single_rates"]

#: Frames in the batch of a measurement.
CAPACITY = 512

_COLUMNS = ("offset", "length", "wire", "status", "key", "protocol", "mss", "link")


def _best(run: Callable[[], object], reset: Callable[[], object], seconds: float) -> float:
    """The shortest time of one run, in seconds, out of as many as fit in ``seconds``."""
    shortest = float("inf")
    until = time.perf_counter() + seconds
    while True:
        reset()
        begun = time.perf_counter()
        run()
        ended = time.perf_counter()
        shortest = min(shortest, ended - begun)
        if ended > until:
            return shortest


def batch_rates(
    codec: Codec, tunnel: Tunnel, frames: Sequence[bytes], seconds: float
) -> tuple[float, float]:
    """Frames a second of batch encap and decap, in place."""
    count = len(frames) if codec.name == "reference" else max(CAPACITY, len(frames))
    rows = [frames[i % len(frames)] for i in range(count)]
    batch = Batch.from_frames(rows)
    profile = taking(tunnel)

    def keeper() -> Callable[[], None]:
        kept = {name: getattr(batch, name).copy() for name in _COLUMNS}

        def reset() -> None:
            for name, column in kept.items():
                getattr(batch, name)[:] = column

        return reset

    encap = _best(lambda: codec.encap_batch(batch, tunnel), keeper(), seconds)
    decap = _best(lambda: codec.decap_batch(batch, profile), keeper(), seconds)
    return len(rows) / encap, len(rows) / decap


def single_rates(
    codec: Codec, tunnel: Tunnel, frames: Sequence[bytes], seconds: float
) -> tuple[float, float]:
    """Frames a second of encap and decap, one call a frame."""
    encap, decap = codec.encoder(tunnel).encap, codec.decap
    packets = [encap(frame) for frame in frames]
    profile = taking(tunnel)

    def forth() -> None:
        for frame in frames:
            encap(frame)

    def back() -> None:
        for packet in packets:
            decap(packet, profile)

    try:
        one = _best(forth, int, seconds)
        two = _best(back, int, seconds)
    except (EncapError, DecapError) as error:  # pragma: no cover - the frames are ours
        raise RuntimeError(f"a frame of our own was refused: {error}") from error
    return len(frames) / one, len(frames) / two
