"""Writer: pcap and pcapng files, whole bursts at a time.

A file is written beside its name and takes it when it is done, so that
nothing half-written is ever seen under that name.  What must not live here:
reading.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
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
from .naming import naming

if TYPE_CHECKING:
    from .pcap import Burst

__all__ = ["CaptureWriter"]

#: libpcap's longest snapshot.
SNAPLEN = 262144

_ENHANCED = 28  # bytes of an enhanced packet block before its packet
_FLAGS = 12  # bytes of the option epb_flags and the end of options
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
        self.bytes = 0
        self._arena = Batch.packed(1, 1)
        self._described = 0
        self._target: str | None = None
        self._temporary: str | None = None
        self._own = not hasattr(path, "write")
        self._name = path if self._own else getattr(path, "name", None)
        self._file: IO[bytes] | None = None
        try:
            with naming(self._name):
                self._open(path)
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

    def _open(self, path: Any) -> None:
        if not self._own:
            self._file = path
            return
        target = os.path.realpath(os.fspath(path))
        try:
            mode: int | None = os.stat(target).st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None and not stat.S_ISREG(mode):  # a device or a named pipe
            self._file = open(target, "wb", buffering=0)  # noqa: SIM115 - close() closes it
            return
        folder, name = os.path.split(target)
        temporary = os.path.join(folder, f".{name}.{os.urandom(6).hex()}")
        self._target, self._temporary = target, temporary  # discard() takes it away from now on
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        number = os.open(temporary, flags, 0o666 if mode is None else 0o600)
        self._file = io.FileIO(number, "wb")
        if mode is not None:
            os.fchmod(number, stat.S_IMODE(mode))

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
    ) -> int:
        """Write the rows whose status is OK; returns how many.

        :param timestamps: nanoseconds since 1970, one a row, or one for all.
        :param interface: pcapng: number of the interface, one a row, or one for all.
        :param direction: pcapng: says of each packet that the interface received
            or sent it.
        """
        if direction not in (None, "in", "out") or (direction and self.format == "pcap"):
            raise ConfigError("direction", direction, "'in' or 'out' for pcapng, or None")
        times: Any = np.broadcast_to(np.asarray(timestamps, np.int64), batch.count)
        if self.format == "pcap":
            times = record.stamps(times, self.nanosecond)
        numbers = np.broadcast_to(np.asarray(interface, np.uint32), batch.count)
        if self.format == "pcapng":
            flags = 0 if direction is None else {"in": 1, "out": 2}[direction]
            return self._write_blocks(batch, times, numbers, flags)
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
    ) -> int:
        rows = np.flatnonzero(batch.status == 0)
        if not rows.size:
            return 0
        if int(numbers[rows].max()) >= self._described:
            raise ConfigError("interface", int(numbers[rows].max()), f"below {self._described}")
        length = batch.length[rows].astype(np.int64)
        blocks = (length + 3 & ~3) + _ENHANCED + (_FLAGS if flags else 0) + 4
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
        if flags:
            words[ends // 4 - 4], words[ends // 4 - 3] = _FLAGS_OPTION, flags
        record.copy(batch, rows, data, starts + _ENHANCED)
        self._put(memoryview(data))  # type: ignore[arg-type]
        self.packets += rows.size
        return int(rows.size)

    def _put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        assert self._file is not None
        self.bytes += view.nbytes
        with naming(self._name):
            while view.nbytes:
                written = self._file.write(view)
                if written is None:
                    raise BlockingIOError(errno.EAGAIN, "it does not take bytes now")
                view = view[written:]

    # -- the end ----------------------------------------------------------------

    def close(self) -> None:
        """Finish: the file takes its name."""
        assert self._file is not None
        try:
            with naming(self._name):
                if not self._own:
                    self._file.flush()
                    return
                self._file.close()
                if self._temporary is not None:
                    assert self._target is not None
                    os.replace(self._temporary, self._target)
                    self._temporary = None
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Give up: nothing stays behind."""
        if self._own and self._file is not None:
            self._file.close()
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(self._temporary)
            self._temporary = None

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
