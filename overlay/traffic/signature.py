"""Signature: the last 32 bytes of a frame's payload, by which it is known at the other end.

Lives here: its bytes, written and read whole columns at once.  What must not:
frames' headers, beyond where a padded frame really ends, and any judgement of streams.

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    |                 magic 0x4F564C31, "OVL1"                      |   0
    +---------------------------------------------------------------+
    |                          stream                               |   4
    +---------------------------------------------------------------+
    |                         sequence                              |   8
    |                                                               |
    +---------------------------------------------------------------+
    |           time, nanoseconds since 1970 (UTC)                  |  16
    |                                                               |
    +---------------------------------------------------------------+
    |            covered: bytes that the CRC is of                  |  24
    +---------------------------------------------------------------+
    |                          CRC-32                               |  28
    +---------------------------------------------------------------+

Every field is big-endian.  The CRC is that of Ethernet (zlib's ``crc32``), of the
``covered`` bytes before it: the whole payload up to the CRC itself.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch

__all__ = ["MAGIC", "SIZE", "Signatures", "find", "seal"]

#: Bytes of a signature.
SIZE = 32
#: Its first four.
MAGIC = b"OVL1"

_LAYOUT = np.dtype(
    [
        ("magic", ">u4"), ("stream", ">u4"), ("sequence", ">u8"), ("time", ">u8"),
        ("covered", ">u4"), ("crc", ">u4"),
    ]
)  # fmt: skip
_SEALED = SIZE - 4  # what the CRC is of, of the signature itself
_TAGS = (0x8100, 0x88A8)

Column = npt.NDArray[Any]


@lru_cache(maxsize=1)
def _tables() -> list[npt.NDArray[np.uint32]]:
    """What each 16-bit word of a signature's first 28 bytes adds to the CRC, by its number.

    A CRC is linear: that of a sum is the sum of those of its parts, but for a constant.
    """
    words = np.arange(65536)
    zero = zlib.crc32(bytes(_SEALED))
    tables = []
    for place in range(0, _SEALED, 2):
        parts = []
        for at in (place, place + 1):
            one = bytearray(_SEALED)
            table = np.empty(256, np.uint32)
            for value in range(256):
                one[at] = value
                table[value] = zlib.crc32(one) ^ zero
            parts.append(table)
        tables.append(parts[0][words >> 8] ^ parts[1][words & 255])
    return tables


def base(payload: bytes, before: int = 0) -> int:
    """The CRC of these bytes, or of what ``before`` is the CRC of and these."""
    return zlib.crc32(payload, before)


def seal(
    stream: Column, sequence: Column, time: Column, covered: Column, payload: Column
) -> tuple[Column, Column]:
    """Finished signatures, one a row.

    :param stream: int64; :param sequence: uint64; :param time: int64, ns since 1970.
    :param covered: int64, bytes from the payload's first to the CRC.
    :param payload: uint32, the CRC of what is before the signature and of 28 zeros.
    :returns: an array of shape (rows,), 32 bytes each, and the sums of their 16-bit words
        in ones' complement arithmetic, int64, not folded.
    """
    made = np.empty(len(stream), _LAYOUT)
    magic = int.from_bytes(MAGIC, "big")
    made["magic"] = magic
    tables = _tables()
    crc = payload ^ (tables[0][magic >> 16] ^ tables[1][magic & 0xFFFF])
    total = np.full(len(stream), magic, np.int64)
    fields = (("stream", 4, stream), ("sequence", 8, sequence.view(np.int64)), ("time", 8, time),
              ("covered", 4, covered))  # fmt: skip
    place = 4
    for name, size, column in fields if len(stream) else ():
        made[name] = column
        low, high = int(column.min()), int(column.max())
        for shift in range(8 * size - 16, -16, -16):
            table = tables[place // 2]
            if low >> shift == high >> shift:
                crc ^= table[low >> shift & 0xFFFF]
            else:
                crc ^= table[column >> shift & 0xFFFF]
            place += 2
        total += column if size == 4 else (column & 0xFFFFFFFF) + (column >> 32 & 0xFFFFFFFF)
    made["crc"] = crc
    return made, total + crc


@dataclass(frozen=True)
class Signatures:
    """What :func:`find` saw in a batch; one element a row.

    ``found``: whether the row has a signature; ``intact``: whether its CRC is right
    too.  ``stream``, ``sequence``, ``time`` (int64, ns since 1970) say something only
    where ``found``.
    """

    found: npt.NDArray[np.bool_]
    intact: npt.NDArray[np.bool_]
    stream: npt.NDArray[np.uint32]
    sequence: npt.NDArray[np.uint64]
    time: npt.NDArray[np.int64]


def places(data: npt.NDArray[np.uint8]) -> Column:
    """Every position of ``data`` as the place of a signature, overlapping, without a copy."""
    room = max(0, data.size - SIZE + 1)
    return np.ndarray((room,), f"V{SIZE}", data, 0, (1,))


def find(batch: Batch) -> Signatures:
    """The signatures of the rows whose status is OK; rows are Ethernet frames.

    A signature is looked for at the end of the frame, then, for frames that were padded
    on their way, where the inner IP header says that the packet ends.  Frames that a
    capture cut short have none.
    """
    data, count = batch.data, batch.count
    offset, length = batch.offset.astype(np.int64), batch.length.astype(np.int64)
    able = (batch.status == 0) & (batch.wire == batch.length) & (length >= SIZE)
    able &= offset + length <= data.size
    made = np.zeros(count, _LAYOUT)
    end = offset + length
    rows = np.flatnonzero(able)
    where = places(data)
    magic = int.from_bytes(MAGIC, "big")
    made[rows] = where[end[rows] - SIZE].view(_LAYOUT)
    others = rows[made["magic"][rows] != magic]
    if others.size:
        end[others] = _ends(data, offset[others], end[others])
        others = others[end[others] - offset[others] >= SIZE]
        made[others] = where[end[others] - SIZE].view(_LAYOUT)
    found = able & (made["magic"] == magic)
    intact = np.zeros(count, np.bool_)
    rows = np.flatnonzero(found)
    stop = end[rows] - 4
    start = stop - made["covered"][rows].astype(np.int64)
    inside = start >= offset[rows]
    view, crc32 = memoryview(data), zlib.crc32  # type: ignore[arg-type]
    whole, begin, until = rows[inside], start[inside].tolist(), stop[inside].tolist()
    sums = [crc32(view[a:b]) for a, b in zip(begin, until, strict=True)]
    intact[whole] = np.array(sums, np.uint32) == made["crc"][whole]
    return Signatures(
        found,
        intact,
        made["stream"].astype(np.uint32),
        made["sequence"].astype(np.uint64),
        made["time"].astype(np.uint64).view(np.int64),
    )


def _ends(data: npt.NDArray[np.uint8], offset: Column, end: Column) -> Column:
    """Where the IP packets in these frames end, by their own headers; else the frames' ends."""

    def word(at: Column) -> Column:
        held = np.minimum(at, max(0, data.size - 2))
        pair: Column = data[held].astype(np.int64) << 8 | data[held + 1]
        return pair

    at = offset + 12
    for _ in range(2):
        at = np.where(np.isin(word(at), _TAGS), at + 4, at)
    kind, at = word(at), at + 2
    four = (kind == 0x0800) & (at + 20 <= end)
    six = (kind == 0x86DD) & (at + 40 <= end)
    said = np.where(four, at + word(at + 2), np.where(six, at + 40 + word(at + 4), end))
    inside: Column = np.where((said >= at) & (said <= end), said, end)
    return inside
