"""Load: the same frames again and again, and a sink, to measure what stands between."""

from __future__ import annotations

from collections.abc import Iterable

from .device import QueueDevice, live

__all__ = ["Load"]


class Load(QueueDevice):
    """A device whose recv gives all of ``frames`` every time, and whose send takes everything.

    :param frames: at most 1024 of them reach a worker at once.
    :param underlay: whether they are outer packets.
    """

    def __init__(self, frames: Iterable[bytes] = (), *, underlay: bool = False) -> None:
        super().__init__(
            [live().LoadQueue([bytes(frame) for frame in frames], underlay)], underlay=underlay
        )
