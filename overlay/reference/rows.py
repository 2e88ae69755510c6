"""Rows of a :class:`~overlay.batch.Batch`: read, replaced in place, appended.

The only place where the twin touches a batch's arrays.  Knows no packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from overlay.batch import _COUNT, _USED, Batch
from overlay.errors import ConfigError, DecapError, Status
from overlay.tunnel import PROTOCOLS

__all__ = ["append", "check_pair", "edit", "fits", "outer_header", "pending", "read", "replace"]


def pending(batch: Batch) -> Iterator[int]:
    """The rows to work on: those whose status is OK."""
    for row in range(batch.count):
        if batch.status[row] == Status.OK:
            yield row


def read(batch: Batch, row: int) -> tuple[bytes, int, int]:
    """A row's bytes, its length on the wire, its link type.  Raises BAD_ROW."""
    base, at = int(batch.base[row]), int(batch.offset[row])
    length, wire = int(batch.length[row]), int(batch.wire[row])
    if not (base <= at and at + length <= batch.data.size and length <= wire):
        raise DecapError(Status.BAD_ROW)
    return bytes(batch.data.data[at : at + length]), wire, int(batch.link[row])


def outer_header(batch: Batch, row: int) -> bytes:
    """The first bytes of the IP header that a row's ``outer`` points at, or nothing."""
    at = int(batch.outer[row])
    header = bytes(batch.data.data[at : at + 40])
    return header[:4] if len(header) >= 20 and (header[0] >> 4 == 4 or len(header) == 40) else b""


def replace(
    batch: Batch, row: int, end: int, data: bytes, wire: int, key: int, protocol: str
) -> bool:
    """Let a row hold ``data`` up to its byte ``end``; False if that begins before its base."""
    stop = int(batch.offset[row]) + end
    start = stop - len(data)
    if start < int(batch.base[row]):
        return False
    batch.data.data[start:stop] = data
    batch.offset[row] = start
    batch.length[row] = len(data)
    batch.wire[row] = wire
    batch.key[row] = key
    batch.protocol[row] = PROTOCOLS[protocol].number
    batch.link[row] = 0
    return True


def edit(batch: Batch, row: int, data: bytes) -> None:
    """Let a row hold ``data`` up to where it ended; what is before its base was checked."""
    grown = len(data) - int(batch.length[row])
    stop = int(batch.offset[row]) + int(batch.length[row])
    batch.data.data[stop - len(data) : stop] = data
    batch.offset[row] = stop - len(data)
    batch.length[row] = len(data)
    batch.wire[row] = int(batch.wire[row]) + grown


def check_pair(batch: Batch, out: Batch) -> None:
    """Two batches, of which one is written.  Raises TypeError, ConfigError."""
    for name, value in (("batch", batch), ("out", out)):
        if not isinstance(value, Batch):
            raise TypeError(f"{name} must be a Batch, not {type(value).__name__}")
    start, other = batch.data.ctypes.data, out.data.ctypes.data
    if batch is out or (start < other + out.data.size and other < start + batch.data.size):
        raise ConfigError("out", out, "a batch with memory of its own")


def fits(out: Batch, lengths: Sequence[int]) -> bool:
    """Whether ``out`` has rows and bytes left for packets of these lengths."""
    size = sum(out.gap + length for length in lengths)
    return out.count + len(lengths) <= out.capacity and out.used + size <= out.data.size


def append(
    out: Batch,
    data: bytes,
    wire: int,
    origin: int,
    key: int,
    protocol: str | int,
    *,
    mss: int = 0,
    headroom: int = 0,
    link: int = 0,
    checksum: int = 0,
) -> None:
    """Add a row after the last one; :func:`fits` said that it does."""
    row, base = out.count, out.used + out.gap
    start = base + headroom
    out._struct[_COUNT] = row + 1
    out._struct[_USED] = start + len(data)
    out.data.data[start : start + len(data)] = data
    out.base[row] = base
    out.offset[row] = start
    out.length[row] = len(data)
    out.wire[row] = wire
    out.key[row] = key
    out.protocol[row] = protocol if isinstance(protocol, int) else PROTOCOLS[protocol].number
    out.origin[row] = origin
    out.mss[row] = mss
    out.link[row] = link
    out.checksum[row] = checksum
    out.status[row] = out.outer[row] = 0
