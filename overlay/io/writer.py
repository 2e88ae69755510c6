"""Writer: pcap and pcapng files, whole bursts at a time.

What must not live here: reading, and how a file takes its name (:mod:`.target`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.errors import ConfigError

from . import record
from .block import Interface
from .target import Target

if TYPE_CHECKING:
    from .pcap import Burst

__all__ = ["CaptureWriter"]

#: libpcap's longest snapshot.
SNAPLEN = 262144

_ENHANCED = 28  # bytes of an enhanced packet block before its packet
_FLAGS = 8  # bytes of the option epb_flags
_END = 4  # and of the end of options, where there are any
_REMEMBERED = 65536  # comments
_FLAGS_OPTION = struct.unpack("=I", struct.pack("=HH", 2, 4))[0]


class CaptureWriter:
    """Writes packets to a capture file or stream.

    As a context manager it finishes the file, or leaves nothing behind when
    an exception passes.

    :param path: a path, or a file object open for writing bytes, which stays
        the caller's to close.
    :param format: ``"pcap"`` or ``"pcapng"`` (whose timestamps are
        nanoseconds always).
    :param nanosecond: pcap: nanosecond timestamps, else microsecond ones.
    :param linktype: LINKTYPE number; 1 is Ethernet.
    :param interfaces: pcapng: the interfaces to describe; one of ``linktype``
        if not given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | IO[bytes],
        format: Literal["pcap", "pcapng"] = "pcap",  # noqa: A002 - what users call it
        *,
        nanosecond: bool = True,
        linktype: int = 1,
        interfaces: Sequence[Interface] | None = None,
    ) -> None:
        if format not in ("pcap", "pcapng"):
            raise ConfigError("format", format, "'pcap' or 'pcapng'")
        self.format = format
        self.nanosecond = nanosecond or format == "pcapng"
        self.packets = 0
        self._arena = Batch.packed(1, 1)
        self._described = 0
        self._options: dict[tuple[str, ...], bytes] = {}
        self._target = Target(path)
        try:
            if format == "pcap":
                magic = 0xA1B23C4D if nanosecond else 0xA1B2C3D4
                self._put(struct.pack("=IHHiIII", magic, 2, 4, 0, 0, SNAPLEN, linktype))
            else:
                self._put(struct.pack("=IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28))
                first = [Interface(linktype=linktype)] if interfaces is None else interfaces
                self.describe(first)
        except BaseException:
            self.discard()
            raise

    # -- writing --------------------------------------------------------------

    def describe(self, interfaces: Sequence[Interface]) -> None:
        """pcapng: add interfaces; packets name them by their place among all."""
        for interface in interfaces:
            name = interface.name.encode()
            options = struct.pack("=HHBxxx", 9, 1, 9)
            if name:
                padded = name + bytes(-len(name) % 4)
                options = struct.pack("=HH", 2, len(name)) + padded + options
            length = 20 + len(options) + 4
            body = struct.pack("=IIHHI", 1, length, interface.linktype, 0, 0) + options
            self._put(body + struct.pack("=HHI", 0, 0, length))
        self._described += len(interfaces)

    def times(self, burst: Burst) -> npt.NDArray[Any]:
        """The burst's timestamps in the unit of this file, for the methods below.

        pcap: stamps (see :mod:`.record`), as they are if the units are equal.
        pcapng: nanoseconds since 1970.
        """
        return burst.timestamps if self.format == "pcapng" else burst.stamps(self.nanosecond)

    def write(
        self,
        batch: Batch,
        timestamps: npt.ArrayLike = 0,
        interface: npt.ArrayLike = 0,
        *,
        direction: Literal["in", "out"] | None = None,
        comments: Sequence[tuple[str, ...]] | None = None,
    ) -> int:
        """Write the rows whose status is OK; returns how many.

        :param timestamps: nanoseconds since 1970, one a row, or one for all.
        :param interface: pcapng: number of the interface, one a row, or one for all.
        :param direction: pcapng: says of each packet that the interface received
            or sent it.
        :param comments: pcapng: what is said of each packet, a tuple of texts a row.
        """
        if direction not in (None, "in", "out") or (direction and self.format == "pcap"):
            raise ConfigError("direction", direction, "'in' or 'out' for pcapng, or None")
        if comments is not None and (self.format == "pcap" or len(comments) != batch.count):
            raise ConfigError("comments", f"<{len(comments)}>", "one a row, for pcapng, or None")
        times: Any = np.broadcast_to(np.asarray(timestamps, np.int64), batch.count)
        if self.format == "pcap":
            times = record.stamps(times, self.nanosecond)
        numbers = np.broadcast_to(np.asarray(interface, np.uint32), batch.count)
        if self.format == "pcapng":
            flags = 0 if direction is None else {"in": 1, "out": 2}[direction]
            return self._write_blocks(batch, times, numbers, flags, comments)
        return self.write_all(batch, times, numbers)

    def write_all(
        self, batch: Batch, times: npt.NDArray[Any], interface: npt.NDArray[np.uint32]
    ) -> int:
        """The same with :meth:`times`."""
        if self.format == "pcapng":
            return self._write_blocks(batch, times, interface)
        rows = int(np.count_nonzero(batch.status == 0))
        size = int(batch.length.sum(dtype=np.int64)) + rows * record.HEADER
        if self._arena.data.size < size or self._arena.capacity < rows:
            self._arena = Batch.packed(2 * size + 1, 2 * rows + 1, gap=record.HEADER)
        record.pack(batch, self._arena)
        return self.write_packed(self._arena, times, interface)

    def write_in_place(
        self, batch: Batch, times: npt.NDArray[Any], interface: npt.NDArray[np.uint32]
    ) -> int:
        """The same for a burst that was read, whose bytes between the rows are nobody's.

        Where all rows lie as the records of a classic capture do, their headers are written
        before them, over those that were read, and all goes out without a copy.
        """
        if self.format == "pcapng" or not record.lie_in_file(batch):
            return self.write_all(batch, times, interface)
        batch.origin[:] = np.arange(batch.count)
        record.stamp(batch, times)
        start = int(batch.offset[0]) - record.HEADER
        end = int(batch.offset[-1]) + int(batch.length[-1])
        self._put(memoryview(batch.data)[start:end])  # type: ignore[arg-type]
        self.packets += batch.count
        return batch.count

    def write_packed(
        self, out: Batch, times: npt.NDArray[Any], interface: npt.NDArray[np.uint32]
    ) -> int:
        """Write what a 1:N function packed with a gap of 16 bytes; pcap in one go.

        :param times: :meth:`times`, and
        :param interface: numbers, one for each row that ``out.origin`` may name.
        """
        if self.format == "pcapng":
            return self._write_blocks(out, times[out.origin], interface[out.origin])
        if out.count:
            record.stamp(out, times)
            self._put(memoryview(out.data)[: out.used])  # type: ignore[arg-type]
            self.packets += out.count
        return out.count

    def _write_blocks(
        self,
        batch: Batch,
        times: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.uint32],
        flags: int = 0,
        comments: Sequence[tuple[str, ...]] | None = None,
    ) -> int:
        rows = np.flatnonzero(batch.status == 0)
        if not rows.size:
            return 0
        if int(numbers[rows].max()) >= self._described:
            raise ConfigError("interface", int(numbers[rows].max()), f"below {self._described}")
        length = batch.length[rows].astype(np.int64)
        options = (
            [] if comments is None else [self._comment(comments[row]) for row in rows.tolist()]
        )
        extra = np.fromiter(map(len, options), np.int64) if options else np.zeros(rows.size, int)
        extra += _FLAGS if flags else 0
        extra[extra > 0] += _END
        blocks = (length + 3 & ~3) + _ENHANCED + extra + 4
        ends = np.cumsum(blocks)
        starts = ends - blocks
        data = np.zeros(int(ends[-1]), np.uint8)
        words = data.view(np.uint32)
        ticks = np.maximum(times[rows], 0).astype(np.uint64)
        header = (6, blocks, numbers[rows], ticks >> np.uint64(32), ticks & np.uint64(0xFFFFFFFF),
                  length, batch.wire[rows])  # fmt: skip
        for place, values in enumerate(header):
            words[starts // 4 + place] = values
        words[ends // 4 - 1] = blocks
        after = ends - 4 - extra
        if flags:
            words[after // 4], words[after // 4 + 1] = _FLAGS_OPTION, flags
            after += _FLAGS
        room = memoryview(data)  # type: ignore[arg-type]
        for at, option in zip(after.tolist(), options, strict=False):
            room[at : at + len(option)] = option
        record.copy(batch, rows, data, starts + _ENHANCED)
        self._put(memoryview(data))  # type: ignore[arg-type]
        self.packets += rows.size
        return int(rows.size)

    def _comment(self, texts: tuple[str, ...]) -> bytes:
        """The options opt_comment of these texts; of what came before as it was made then."""
        option = self._options.get(texts)
        if option is None:
            option = b""
            for text in texts:
                word = text.encode("utf-8", "replace")[:65535]
                option += struct.pack("=HH", 1, len(word)) + word + bytes(-len(word) % 4)
            if len(self._options) == _REMEMBERED:
                self._options.clear()
            self._options[texts] = option
        return option

    def _put(self, data: bytes | memoryview) -> None:
        self._target.write(data)

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return self._target.bytes

    def flush(self) -> None:
        """Let a reader of the stream see what is written."""
        self._target.flush()

    def fileno(self) -> int:
        """The file's number.  Raises OSError or ValueError where it is no file of the system."""
        return self._target.fileno()

    # -- the end ----------------------------------------------------------------

    def close(self) -> None:
        """Finish: the file takes its name."""
        self._target.close()

    def discard(self) -> None:
        """Give up: nothing stays behind."""
        self._target.discard()

    def __enter__(self) -> CaptureWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
