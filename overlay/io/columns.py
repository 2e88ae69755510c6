"""Columns of captures: what is in every packet of a file, burst after burst.

What must not live here: formats (:mod:`.pcap`), and any look at a packet
(:meth:`overlay.codec.Codec.inspect_batch`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from overlay._backend import codec
from overlay.columns import Columns
from overlay.profile import Profile

from .pcap import BURST_BYTES, Burst, Capture, open_capture

__all__ = ["inspect_burst", "read_columns"]


def inspect_burst(
    burst: Burst,
    profile: str | Profile = "rfc",
    *,
    flow_hash: bool = False,
    seed: int = 0,
    into: Columns | None = None,
    **options: Any,
) -> Columns:
    """The columns of one burst of a capture; see :func:`read_columns`."""
    columns = codec.inspect_batch(
        burst.batch, profile, flow_hash=flow_hash, seed=seed, origin=burst.position, into=into,
        **options,
    )  # fmt: skip
    number = np.arange(burst.first, burst.first + len(burst), dtype=np.uint64)
    return columns.joined(time=burst.timestamps, number=number, interface=burst.interface)


def read_columns(
    source: str | os.PathLike[str] | IO[bytes] | Capture,
    profile: str | Profile = "rfc",
    *,
    flow_hash: bool = False,
    seed: int = 0,
    burst_bytes: int = BURST_BYTES,
    **options: Any,
) -> Iterator[Columns]:
    """The columns of every packet of a capture: one :class:`~overlay.Columns` a burst.

    Besides those of :func:`overlay.inspect_batch` there are ``time`` (int64,
    nanoseconds since 1970), ``number`` (uint64, of the packet in the capture, from 0)
    and ``interface`` (uint32, its place in ``Capture.interfaces``).  ``offset``,
    ``outer`` and ``frame_offset`` are positions in the capture.

    What is given is valid until the next is asked for: its memory is used again.
    Keep what is needed (``columns.copy()``, ``columns[mask]`` with a mask).

    :param source: a path, a file object open for reading bytes, or an open capture.
    :param profile: a name or a :class:`~overlay.Profile`; ``options`` are its fields.
    :param flow_hash: whether to hash the inner frames, with ``seed``.
    :param burst_bytes: as :func:`overlay.io.pcap.open_capture` has it.
    :raises CaptureError: it is no capture, or is cut short or broken: after the columns
        of what came before.
    :raises ConfigError: before anything is read.
    """
    chosen = Profile.of(profile, **options)
    if isinstance(source, Capture):
        return _of_capture(source, chosen, flow_hash, seed)
    return _of_file(open_capture(source, burst_bytes=burst_bytes), chosen, flow_hash, seed)


def _of_file(capture: Capture, profile: Profile, flow_hash: bool, seed: int) -> Iterator[Columns]:
    with capture:
        yield from _of_capture(capture, profile, flow_hash, seed)


def _of_capture(
    capture: Capture, profile: Profile, flow_hash: bool, seed: int
) -> Iterator[Columns]:
    columns: Columns | None = None
    for burst in capture:
        columns = inspect_burst(burst, profile, flow_hash=flow_hash, seed=seed, into=columns)
        yield columns
