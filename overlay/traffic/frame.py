"""Frame: inner frames by template and column, their checksums and signatures.

Lives here: how a burst of frames is written, a column for all rows at once.  What must
not: which number a field has in which frame, and tunnels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.errors import ConfigError

from . import signature
from .header import TCP, UDP, Headers, Part
from .values import Index, Values, sizes

__all__ = ["Frames", "Marks"]

Column = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

_CHECKSUM = {TCP: 16, UDP: 6}
_PACKET_MOST = 65535


@dataclass(frozen=True)
class Marks:
    """What the signatures of a burst say: a column each, ``time`` in ns since 1970."""

    stream: Column
    sequence: Column
    time: Column


@dataclass(frozen=True)
class _Shape:
    """Frames of one protocol: their headers, and what depends on their size.

    ``header``: the sum of the IPv4 header's words that do not change.  ``sums``: of the
    L4 checksum all that does not, payload before the signature, length and protocol
    included; ``crcs``: the CRC of that payload and 28 zeros.  Both by size, from the
    smallest.
    """

    protocol: int
    head: bytes
    fill: Bytes
    header: int
    sums: npt.NDArray[np.int64]
    crcs: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class _Word:
    """Bytes of the headers that change from frame to frame, and the fields in them."""

    at: int
    size: int
    mask: int
    parts: tuple[tuple[str, Part], ...]


class Frames:
    """Writes frames of these headers and sizes.

    :param given: fields as users give them (see :data:`overlay.traffic.FIELDS`).
    :param size: sizes as users give them: bytes without FCS.
    :param signed: whether each frame ends with a signature.
    :param fill: the payload besides, over and over.
    """

    def __init__(
        self, given: Mapping[str, object], size: object, *, signed: bool, fill: bytes
    ) -> None:
        self.headers = Headers.of(given)
        self.signed = signed
        least = max(self.headers.l4.values()) + (signature.SIZE if signed else 0)
        self.sizes: Values = sizes(max(60, least) if size is None else size, least)
        self.least, self.most = self.sizes.least, self.sizes.greatest
        if self.headers.family and self.most > self.headers.at["ip"] + _PACKET_MOST:
            raise ConfigError("size", size, f"IP packets of at most {_PACKET_MOST} bytes")
        if not fill:
            raise ConfigError("fill", fill, "one byte or more")
        self._words = self._changing()
        self._shapes = [self._shape(p, fill) for p in self.headers.protocols or (0,)]

    def _changing(self) -> list[_Word]:
        headers = self.headers
        words: dict[tuple[int, int], list[tuple[str, Part]]] = {}
        for name in headers.order:
            for part in headers.parts(name):
                key = headers.at[part.layer] + part.offset, part.size
                words.setdefault(key, []).append((name, part))
        found = []
        for (at, size), parts in words.items():
            mask = 0
            for _, part in parts:
                mask |= (2 ** min(part.bits, 8 * size) - 1) << part.shift
            found.append(_Word(at, size, mask, tuple(parts)))
        return found

    def _shape(self, protocol: int, fill: bytes) -> _Shape:
        headers = self.headers
        head = bytearray(headers.first(protocol))
        start, at, l4 = len(head), headers.at["ip"], headers.at["l4"]
        for word in self._words:
            held = int.from_bytes(head[word.at : word.at + word.size], "big") & ~word.mask
            head[word.at : word.at + word.size] = held.to_bytes(word.size, "big")
        payload = np.resize(np.frombuffer(fill, np.uint8), max(0, self.most - start))
        span = np.arange(self.least, self.most + 1)
        filled = np.maximum(span - start - (signature.SIZE if self.signed else 0), 0)
        addresses = head[at + 12 : l4] if headers.family == 4 else head[at + 8 : l4]
        sums = _prefix_sums(payload)[filled] + (span - l4 + protocol)
        sums += _sum(addresses) + _sum(head[l4:])
        if protocol == UDP:
            sums += span - l4
        crcs = np.zeros(span.size, np.uint32)
        crc, done, text = 0, 0, payload.tobytes()
        for place, here in enumerate(filled.tolist() if self.signed else ()):
            crc, done = signature.base(text[done:here], crc), here
            crcs[place] = signature.base(bytes(28), crc)
        return _Shape(protocol, bytes(head), payload, _sum(head[at:l4]), sums, crcs)

    # -- a burst -----------------------------------------------------------------

    def write(
        self,
        batch: Batch,
        stride: int,
        room: int,
        index: Callable[[str], Index],
        size: Column,
        marks: Marks | None,
    ) -> None:
        """Write every row's frame.

        :param batch: rows ``stride`` bytes apart, each frame ``room`` bytes after its base.
        :param index: the position of each row's number among a field's values.
        :param size: int64, bytes of each row's frame.
        """
        burst = _Burst(batch.data, stride, room, batch.count)
        headers = self.headers
        protocol = f"ip{headers.family}.proto"
        rows: list[Any] = [slice(None)]
        if len(self._shapes) > 1:
            which = headers.values[protocol].take(index(protocol))
            rows = [np.flatnonzero(which == shape.protocol) for shape in self._shapes]
        for shape, own in zip(self._shapes, rows, strict=True):
            burst.fill(own, shape.head, shape.fill[: int(size.max()) - len(shape.head)])
        header, beyond = self._put(burst, index)
        if headers.family:
            self._lengths(burst, header, size)
        for shape, own in zip(self._shapes, rows, strict=True):
            self._finish(burst, shape, own, beyond[own], size[own], marks)

    def _put(self, burst: _Burst, index: Callable[[str], Index]) -> tuple[Column, Column]:
        """Write what changes from row to row.

        Returns what that adds to the checksums of IPv4 and of L4, int64, not folded.
        """
        headers = self.headers
        ip, l4 = headers.at["ip"], headers.at["l4"]
        addresses = ip + (12 if headers.family == 4 else 8)
        header, beyond = np.zeros((2, burst.rows), np.int64)
        positions = {name: index(name) for name in headers.order}
        for word in self._words:
            column = np.zeros(burst.rows, np.uint64)
            for name, part in word.parts:
                values = headers.values[name]
                take = values.take_high if part.source >= 64 else values.take
                number = take(positions[name]) >> np.uint64(part.source % 64)
                if part.source or part.bits < 8 * part.size:
                    number = number & np.uint64(2**part.bits - 1)
                column = column | number << np.uint64(part.shift) if part.shift else column | number
            burst.merge(word, column)
            if not headers.family or word.at < ip:
                continue
            if word.size == 8:
                column = (column & np.uint64(0xFFFFFFFF)) + (column >> np.uint64(32))
            added = column.view(np.int64) << (8 if (word.at + word.size) & 1 else 0)
            if word.at < l4:
                header += added
            if word.at >= addresses:
                beyond += added
        return header, beyond

    def _lengths(self, burst: _Burst, sums: Column, size: Column) -> None:
        """The IP header's length and checksum."""
        headers = self.headers
        at = headers.at["ip"]
        if headers.family == 6:
            burst.big(at + 4, 2)[:] = size - at - 40
            return
        length = size - at
        burst.big(at + 2, 2)[:] = length
        # A protocol that changes is among the sums, so that all shapes have one constant.
        total = sums + length + self._shapes[0].header
        burst.big(at + 10, 2)[:] = ~_fold(total) & 0xFFFF

    def _finish(
        self, burst: _Burst, shape: _Shape, rows: Any, sums: Column, size: Column,
        marks: Marks | None,
    ) -> None:  # fmt: skip
        """The signatures and L4 checksums of the rows of one shape."""
        l4 = self.headers.at["l4"]
        table = size - self.least
        if shape.protocol == UDP:
            burst.big(l4 + 4, 2)[rows] = size - l4
        total = sums + shape.sums[table]
        if marks is not None:
            sealed, added = signature.seal(
                marks.stream[rows], marks.sequence[rows], marks.time[rows],
                size - len(shape.head) - 4, shape.crcs[table],
            )  # fmt: skip
            places = signature.places(burst.data)
            places[burst.starts[rows] + size - signature.SIZE] = sealed.view(places.dtype)
            if self.least == self.most:
                odd = bool(self.least - l4 & 1)
                total += _swap(_fold(added)) if odd else added
            else:
                total += np.where((size - l4) & 1, _swap(_fold(added)), added)
        if shape.protocol in _CHECKSUM:
            checksum = ~_fold(total) & 0xFFFF
            if shape.protocol == UDP:
                checksum[checksum == 0] = 0xFFFF
            burst.big(l4 + _CHECKSUM[shape.protocol], 2)[rows] = checksum


class _Burst:
    """The rows of a burst as columns of words, wherever these lie in the frames."""

    def __init__(self, data: Bytes, stride: int, room: int, rows: int) -> None:
        self.data = data
        self.rows = rows
        self._stride = stride
        self._room = room
        self.starts = np.arange(rows, dtype=np.int64) * stride + room

    def big(self, at: int, size: int) -> Column:
        """The big-endian numbers of ``size`` bytes at this offset of every frame."""
        kind, strides = f">u{size}", (self._stride,)
        view: Column = np.ndarray((self.rows,), kind, self.data, self._room + at, strides)
        return view

    def fill(self, rows: Any, head: bytes, fill: Bytes) -> None:
        """The same headers and payload in each of these rows."""
        size = len(head) + fill.size
        view = np.ndarray((self.rows, size), np.uint8, self.data, self._room, (self._stride, 1))
        view[rows] = np.concatenate([np.frombuffer(head, np.uint8), fill])

    def merge(self, word: _Word, column: Column) -> None:
        """Set the changing bits of a word, where the others are set already."""
        numbers = self.big(word.at, word.size)
        if word.mask != 2 ** (8 * word.size) - 1:
            column = column | numbers.astype(np.uint64)
        numbers[:] = column


def _sum(data: bytes | bytearray) -> int:
    """The ones' complement sum of bytes, not folded."""
    padded = bytes(data) + bytes(len(data) % 2)
    return int(np.frombuffer(padded, ">u2").sum(dtype=np.int64))


def _prefix_sums(data: Bytes) -> npt.NDArray[np.int64]:
    """The sum of the first 0, 1, 2... bytes."""
    weighted = data.astype(np.int64)
    weighted[::2] <<= 8
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(weighted)])


def _fold(total: Column) -> Column:
    """Sums below 2**47 as 16 bits."""
    total = (total & 0xFFFFFFFF) + (total >> 32)
    for _ in range(3):
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _swap(number: Column) -> Column:
    """16-bit numbers with their bytes exchanged."""
    return (number << 8 | number >> 8) & 0xFFFF
