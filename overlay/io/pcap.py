"""pcap and pcapng captures, read in bursts as batches.

Lives here: captures as users open them.  What must not: the formats' details
(:mod:`.record`, :mod:`.block`) and where the bytes lie (:mod:`.source`).
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from functools import cached_property
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.errors import CaptureError

from . import block, record, source
from .block import Interface, link_of
from .writer import CaptureWriter

__all__ = ["Burst", "Capture", "CaptureWriter", "Interface", "open_capture", "read_batch"]

#: Bytes of capture that one burst holds, so that it stays in a core's cache.
BURST_BYTES = 1 << 20

# Of a classic file's first four bytes: byte order, nanoseconds.
_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", False),
    b"\xa1\xb2\xc3\xd4": (">", False),
    b"\x4d\x3c\xb2\xa1": ("<", True),
    b"\xa1\xb2\x3c\x4d": (">", True),
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"\x04\x22": "lz4", b"BZ": "bzip2"}


class Burst:
    """Consecutive packets of a capture.

    ``batch``: the packets, in place; ``link`` says what each begins with.
    ``interface``: uint32, the number of each packet's interface in
    ``Capture.interfaces``.  ``first``: how many packets came before.

    A burst is valid until the next one is asked for: its memory, that of the
    columns too, is used again.
    """

    def __init__(
        self,
        batch: Batch,
        first: int,
        position: int,
        interface: npt.NDArray[np.uint32],
        *,
        stamps: record.Stamps | None = None,
        nanosecond: bool = True,
        times: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.batch = batch
        self.first = first
        self.position = position  # of the batch's first byte in the capture
        self.interface = interface
        self._stamps = stamps
        self._nanosecond = nanosecond
        self._times = times

    def __len__(self) -> int:
        return self.batch.count

    @cached_property
    def timestamps(self) -> npt.NDArray[np.int64]:
        """Nanoseconds since 1970, int64, one a packet."""
        if self._stamps is None:
            assert self._times is not None
            return self._times
        return record.nanoseconds(self._stamps, self._nanosecond)

    def stamps(self, nanosecond: bool) -> record.Stamps:
        """The timestamps as a classic file holds them, see :mod:`.record`."""
        if self._stamps is not None and self._nanosecond == nanosecond:
            return self._stamps
        return record.stamps(self.timestamps, nanosecond)


class Capture:
    """An open capture; iterating gives :class:`Burst` after burst.

    ``format``: ``"pcap"`` or ``"pcapng"``.  ``nanosecond``: whether timestamps
    are finer than microseconds.  ``interfaces``: those described so far; one
    for a classic file.  ``size``: bytes, None for a pipe.  ``position``: bytes
    done.  ``packets``: packets given.

    Iterating a capture that is cut short or broken gives the packets before
    that place, then raises :class:`~overlay.errors.CaptureError`.
    """

    def __init__(self, origin: source.Source, name: str) -> None:
        self.name = name
        self.position = 0
        self.packets = 0
        self._source = origin
        self._blocks: block.Reader | None = None
        self._open()

    @property
    def size(self) -> int | None:
        return self._source.size

    @property
    def interfaces(self) -> list[Interface]:
        return self._interfaces if self._blocks is None else self._blocks.interfaces

    def _open(self) -> None:
        self._source.window(0, 24)
        head = self._peek(24)
        if not head:
            raise self._error("empty, not a capture")
        if head[:4] == b"\n\r\r\n":
            self.format, self.nanosecond = "pcapng", True
            self._blocks = block.Reader()
            return
        if head[:4] not in _MAGICS:
            for magic, name in _COMPRESSED.items():
                if head.startswith(magic):
                    raise self._error(f"compressed with {name}: decompress it first")
            raise self._error(f"neither pcap nor pcapng, begins with {head[:4].hex()}")
        if len(head) < 24:
            raise self._error(f"file header cut short: 24 bytes needed, {len(head)} here")
        order, self.nanosecond = _MAGICS[head[:4]]
        self._swapped = order != ("<" if sys.byteorder == "little" else ">")
        snaplen, network = struct.unpack_from(order + "II", head, 16)
        fcs = (network >> 28) * 2 if network & 0x0400_0000 else 0
        self.format = "pcap"
        self._interfaces = [Interface(linktype=network & 0xFFFF, snaplen=snaplen, fcs=fcs)]
        self.position = 24

    def _peek(self, size: int) -> bytes:
        at = self.position - self._source.start
        return bytes(self._source.data[at : at + size])

    def _error(self, why: str) -> CaptureError:
        return CaptureError(f"{self.name}: byte {self.position}: {why}")

    def __iter__(self) -> Iterator[Burst]:
        return self._records() if self._blocks is None else self._read_blocks(self._blocks)

    def _slices(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Bytes from ``position`` on, ``_need`` of them at least, until the capture ends."""
        where = self._source
        while True:
            where.window(self.position, self._need)
            left = where.end - self.position
            if left == 0:
                return
            if left < self._need:
                raise self._error(f"cut short: {self._need} bytes needed, {left} here")
            at = self.position - where.start
            yield where.data[at : at + source.MAX_RECORD]

    def _grow(self, need: int, here: int) -> None:
        """No whole record was found in the bytes here: ask for more."""
        if need > source.MAX_RECORD or need <= here:
            raise self._error(f"a record of {need} bytes: not believed")
        self._need = need

    def _records(self) -> Iterator[Burst]:
        interface = self._interfaces[0]
        link = link_of(interface.linktype)
        order = struct.Struct(">I" if self._swapped == (sys.byteorder == "little") else "<I")
        self._need = record.HEADER
        batch: Batch | None = None
        stamps, numbers = np.empty(0, np.uint64), np.zeros(0, np.uint32)
        for data in self._slices():
            rows = data.size // 64 + 1
            if stamps.size < rows:
                stamps, numbers = np.empty(rows, np.uint64), np.zeros(rows, np.uint32)
            batch = record.empty(data, rows, batch)
            taken = record.scan(batch, 0, self._swapped, stamps)
            if not batch.count:
                self._grow(record.HEADER + order.unpack(data[8:12].tobytes())[0], data.size)
                continue
            batch.link[:] = link
            number = numbers[: batch.count]
            burst = Burst(
                batch, self.packets, self.position, number,
                stamps=stamps[: batch.count], nanosecond=self.nanosecond,
            )  # fmt: skip
            self._finish(batch, number)
            self._need = record.HEADER
            left = data[taken : taken + record.HEADER]
            if left.size == record.HEADER:  # of a record that is not all here
                whole = record.HEADER + order.unpack(left[8:12].tobytes())[0]
                self._need = whole if whole <= source.MAX_RECORD else record.HEADER
            self.position += taken
            self.packets += batch.count
            yield burst

    def _read_blocks(self, reader: block.Reader) -> Iterator[Burst]:
        self._need = 12
        for data in self._slices():
            view = memoryview(data)  # type: ignore[arg-type]
            index = block.Index()
            broken: block.MalformedError | None = None
            taken = 0
            try:
                taken = reader.scan(view, 0, data.size // 64 + 1, index)
                if not taken:
                    length = reader.block_length(view, 0)
                    self._grow(length, data.size)
                    continue
            except block.MalformedError as error:
                broken = error
            if len(index):
                yield self._block_burst(reader, data, index)
                self.packets += len(index)
            if broken is not None:
                self.position += index.after
                raise self._error(str(broken)) from None
            self._need = 12
            self.position += taken

    def _block_burst(
        self, reader: block.Reader, data: npt.NDArray[np.uint8], index: block.Index
    ) -> Burst:
        number = np.array(index.interface, np.uint32)
        ticks = np.array(index.ticks, np.uint64)
        times = np.empty(len(index), np.int64)
        batch = Batch.from_array(
            data, np.array(index.offset, np.uint64), np.array(index.length, np.uint32),
            wire=np.array(index.wire, np.uint32),
        )  # fmt: skip
        for which in np.unique(number).tolist():
            rows = number == which
            times[rows] = reader.interfaces[which].nanoseconds(ticks[rows])
            batch.link[rows] = link_of(reader.interfaces[which].linktype)
        self._finish(batch, number)
        return Burst(batch, self.packets, self.position, number, times=times)

    def _finish(self, batch: Batch, number: npt.NDArray[np.uint32]) -> None:
        """Mend what writers get wrong, and take frame check sequences off (COM-22)."""
        np.maximum(batch.wire, batch.length, out=batch.wire)
        if any(interface.fcs for interface in self.interfaces):
            fcs = np.array([interface.fcs for interface in self.interfaces], np.uint32)[number]
            batch.wire[:] -= np.minimum(fcs, batch.wire)
            np.minimum(batch.length, batch.wire, out=batch.length)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_capture(
    path: str | os.PathLike[str] | IO[bytes], *, burst_bytes: int = BURST_BYTES
) -> Capture:
    """Open a pcap or pcapng capture, a file of any size or a stream.

    :param path: a path, or a file object open for reading bytes, which stays
        the caller's to close.
    :param burst_bytes: bytes of capture in one burst, 64 to 64 MiB; a longer
        packet is a burst of its own.
    :raises CaptureError: it is not a capture.
    :raises OSError: it cannot be opened.
    """
    chunk = max(64, min(burst_bytes, source.MAX_RECORD))
    if not isinstance(path, (str, os.PathLike)):
        name = getattr(path, "name", None)
        label = name if isinstance(name, str) else "the capture"
        return Capture(source.Stream(path, False, chunk), label)
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - the capture closes it
    try:
        return Capture(source.Stream(file, True, chunk), os.fspath(path))
    except BaseException:
        file.close()
        raise


def read_batch(path: str | os.PathLike[str]) -> Batch:
    """Every packet of a capture file as one batch; see :meth:`Batch.from_pcap`.

    :raises CaptureError: it is not a capture, or is cut short.
    """
    with open(path, "rb") as file:
        whole = source.Whole(file)
        empty = (np.zeros(0, t) for t in (np.uint64, np.uint32, np.uint32, np.uint8))
        found: list[tuple[npt.NDArray[Any], ...]] = [tuple(empty)]
        for burst in Capture(whole, os.fspath(path)):
            b = burst.batch
            place = b.offset + np.uint64(burst.position)
            found.append((place, b.length.copy(), b.wire.copy(), b.link.copy()))
        offset, length, wire, link = (np.concatenate(column) for column in zip(*found, strict=True))
        batch = Batch.from_array(whole.data, offset, length, wire=wire, owner=whole.owner)
        batch.link[:] = link
    return batch
