"""Record: the packets of a classic pcap file, in whole bursts.

Three small functions, each with a twin in C that is taken where the backend
has it: index the records, pack rows with room for record headers, write
these headers.  What must not live here: files.

A stamp is what the record holds, ``seconds << 32 | fraction``, uint64; the
fraction is in micro- or nanoseconds, as the file says.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay._backend import codec
from overlay.batch import _COUNT, _USED, _WORDS, Batch

__all__ = [
    "HEADER",
    "Stamps",
    "empty",
    "lie_in_file",
    "nanoseconds",
    "pack",
    "scan",
    "stamp",
    "stamps",
]

Stamps = npt.NDArray[np.uint64]
Times = npt.NDArray[np.int64]

#: Bytes of a record header.
HEADER = 16

_NATIVE = "<" if sys.byteorder == "little" else ">"
_OTHER = ">" if sys.byteorder == "little" else "<"

_DATA, _SIZE = _WORDS.index("data"), _WORDS.index("size")


def empty(data: npt.NDArray[np.uint8], rows: int, old: Batch | None = None) -> Batch:
    """A batch over ``data`` with room for ``rows`` rows, none in use: ``old``, if it has it."""
    if old is not None and old.capacity >= rows:
        old._data = data
        struct = old._struct
        struct[_DATA], struct[_SIZE], struct[_COUNT] = data.ctypes.data, data.size, 0
        return old
    batch = Batch.__new__(Batch)
    batch._setup(data, max(1, rows))
    return batch


def _scan(batch: Batch, at: int, swapped: bool, stamps: Stamps) -> int:
    """Index the records of ``batch.data`` from position ``at``: one row a packet.

    Stops at the end of the data, of the rows, or at a record that does not
    fit; returns the position of the first record not taken.
    """
    unpack = struct.Struct((_OTHER if swapped else _NATIVE) + "4I").unpack_from
    view = memoryview(batch.data)  # type: ignore[arg-type]
    size, rows = len(view), min(batch.capacity, stamps.size)
    found: list[tuple[int, int, int, int, int]] = []
    while len(found) < rows and at + HEADER <= size:
        seconds, fraction, length, wire = unpack(view, at)
        if length > size - at - HEADER:
            break
        found.append((at + HEADER, length, wire, seconds, fraction))
        at += HEADER + length
    columns = np.array(found, np.uint64).reshape(-1, 5).T
    batch.clear()
    wire = np.maximum(columns[1], columns[2])  # a frame is at least as long as what is here
    batch._rows(columns[0], columns[0], columns[1], wire)
    stamps[: len(found)] = columns[3] << np.uint64(32) | columns[4]
    return at


def _stamp(out: Batch, stamps: Stamps) -> None:
    """Write a record header into the 16 bytes before each row.

    Row i takes ``stamps[origin[i]]``.
    """
    header = np.empty((out.count, 4), np.uint32)
    taken = stamps[out.origin]
    header[:, 0] = taken >> np.uint64(32)
    header[:, 1] = taken & np.uint64(0xFFFFFFFF)
    header[:, 2] = out.length
    header[:, 3] = out.wire
    at = out.offset.astype(np.int64)[:, None] + np.arange(-HEADER, 0)
    out.data[at] = header.view(np.uint8)


def _pack(batch: Batch, out: Batch) -> int:
    """Copy the rows whose status is OK into ``out``, each after its gap; returns how many.

    ``out`` must have room.
    """
    rows = np.flatnonzero(batch.status == 0)
    length = batch.length[rows].astype(np.int64)
    ends = np.cumsum(length + out.gap)
    starts = ends - length
    copy(batch, rows, out.data, starts)
    out._rows(starts, starts, length, batch.wire[rows])
    out.origin[:] = rows
    out._struct[_USED] = ends[-1] if rows.size else 0
    return len(rows)


def copy(batch: Batch, rows: Times, data: npt.NDArray[np.uint8], starts: Times) -> None:
    """Copy each of these rows to its place in ``data``."""
    source, room = memoryview(batch.data), memoryview(data)  # type: ignore[arg-type]
    offsets, lengths = batch.offset[rows].tolist(), batch.length[rows].tolist()
    for at, size, start in zip(offsets, lengths, starts.tolist(), strict=True):
        room[start : start + size] = source[at : at + size]


_twin: Any = codec
scan: Callable[[Batch, int, bool, Stamps], int] = getattr(_twin, "pcap_scan", _scan)
stamp: Callable[[Batch, Stamps], None] = getattr(_twin, "pcap_stamp", _stamp)
pack: Callable[[Batch, Batch], int] = getattr(_twin, "pcap_pack", _pack)


def lie_in_file(batch: Batch) -> bool:
    """Whether every row is OK, and right behind the one before, with room for its header."""
    if not batch.count or batch.offset[0] < HEADER or batch.status.any():
        return False
    ends = batch.offset + batch.length
    if ends[-1] > batch.data.size:
        return False
    return bool((ends[:-1] + np.uint64(HEADER) == batch.offset[1:]).all())


def nanoseconds(stamps: Stamps, nanosecond: bool) -> Times:
    """Stamps as nanoseconds since 1970."""
    # 2**32 seconds and a fraction of 2**32 microseconds are below 2**63 nanoseconds.
    times = stamps >> np.uint64(32)
    times *= np.uint64(1_000_000_000)
    fraction = stamps & np.uint64(0xFFFFFFFF)
    if not nanosecond:
        fraction *= np.uint64(1000)
    times += fraction
    return times.view(np.int64)


def stamps(times: Times, nanosecond: bool) -> Stamps:
    """Nanoseconds since 1970 as stamps; held to what 32 bits of seconds can say."""
    held = np.clip(times, 0, (2**32 - 1) * 1_000_000_000 + 999_999_999)
    seconds, fraction = np.divmod(held, 1_000_000_000)
    if not nanosecond:
        fraction //= 1000
    result: Stamps = seconds.astype(np.uint64) << np.uint64(32) | fraction.astype(np.uint64)
    return result
