"""Rotation: capture files of one run, one after another, whole ones only.

Lives here: when a file ends, what it is called, which are removed.  What must
not: the formats, which are :mod:`.writer`'s.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.errors import ConfigError
from overlay.tunnel import integer

from .block import Interface
from .writer import CaptureWriter

if TYPE_CHECKING:
    from .pcap import Burst

__all__ = ["Rotation"]

_MORE = {"pcap": 16, "pcapng": 36}  # bytes of a packet at most, besides its own


class Rotation:
    """Writes packets as a :class:`CaptureWriter` does, to a new file now and then.

    ``mirror.pcap`` becomes ``mirror_20260131T235959Z_00001.pcap`` and so on: when it was
    begun, in UTC, and its number.  A file is begun by its first packet and takes its name
    when it is whole.  One that cannot be written is given up, and the next burst begins
    another.

    :param path: of the files, without time and number.
    :param format: ``"pcap"`` or ``"pcapng"``.
    :param interfaces: pcapng: to describe in every file.
    :param size: bytes of a file, at least 1; one burst may be more than that.
    :param seconds: how long a file takes packets, above 0.
    :param files: how many stay: the oldest of this run is removed, at least 1.
    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        format: Literal["pcap", "pcapng"] = "pcap",  # noqa: A002 - as CaptureWriter calls it
        *,
        interfaces: Sequence[Interface] = (Interface(),),
        size: int | None = None,
        seconds: float | None = None,
        files: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if size is not None:
            integer("size", size, 1, 2**62)
        if seconds is not None and not seconds > 0:
            raise ConfigError("seconds", seconds, "a number above 0")
        if files is not None:
            integer("files", files, 1, 10**6)
        self._base, self._extension = os.path.splitext(os.fspath(path))
        folder = os.path.dirname(self._base)
        if folder and not os.path.isdir(folder):
            raise ConfigError("path", os.fspath(path), "a folder that is there")
        self.format: Literal["pcap", "pcapng"] = format
        self._interfaces = interfaces
        self._size, self._seconds, self._most = size, seconds, files
        self._clock = clock
        self._writer: CaptureWriter | None = None
        self._path = ""
        self._number = self._rows = self._bytes = 0
        self._ends = float("inf")
        #: The whole files that are there, oldest first.
        self.files: deque[str] = deque()
        #: Packets, and their bytes on the wire, of files that could not be written.
        self.lost = self.lost_bytes = 0
        #: Why the last one could not, until a file is whole again.
        self.error: OSError | None = None

    # -- as a CaptureWriter -------------------------------------------------------

    def times(self, burst: Burst) -> npt.NDArray[Any]:
        """The burst's timestamps in the unit of the files."""
        return burst.timestamps if self.format == "pcapng" else burst.stamps(True)

    def write(
        self, batch: Batch, timestamps: npt.ArrayLike = 0, interface: npt.ArrayLike = 0
    ) -> int:
        """As :meth:`CaptureWriter.write`; packets of a file that failed count as written here,
        and as :attr:`lost`."""
        return self._pass(batch, lambda writer: writer.write(batch, timestamps, interface))

    def write_all(
        self, batch: Batch, times: npt.NDArray[Any], interface: npt.NDArray[np.uint32]
    ) -> int:
        """The same with :meth:`times`."""
        return self._pass(batch, lambda writer: writer.write_all(batch, times, interface))

    def _pass(self, batch: Batch, write: Callable[[CaptureWriter], int]) -> int:
        good = batch.status == 0
        rows = int(np.count_nonzero(good))
        if not rows:
            return 0
        coming = int(batch.length[good].sum(dtype=np.int64)) + _MORE[self.format] * rows
        self.turn(coming)
        wire = int(batch.wire[good].sum(dtype=np.int64))
        self._rows += rows
        self._bytes += wire
        try:
            write(self._begin())
        except OSError as error:
            self._give_up(error)
        return rows

    # -- files --------------------------------------------------------------------

    def turn(self, coming: int = 0) -> None:
        """End the file if its time is over, or so many more bytes are too many for it."""
        writer = self._writer
        if writer is None:
            return
        full = self._size is not None and coming and writer.bytes + coming > self._size
        if (full and writer.packets) or self._clock() >= self._ends:
            self._end()

    def _begin(self) -> CaptureWriter:
        if self._writer is None:
            now = self._clock()
            self._number += 1
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
            self._path = f"{self._base}_{stamp}_{self._number:05d}{self._extension}"
            self._writer = CaptureWriter(self._path, self.format, interfaces=self._interfaces)
            self._ends = float("inf") if self._seconds is None else now + self._seconds
        return self._writer

    def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            self._give_up(error)
            return
        self.error = None
        self._rows = self._bytes = 0
        self.files.append(self._path)
        while self._most is not None and len(self.files) > self._most:
            with contextlib.suppress(OSError):
                os.unlink(self.files.popleft())

    def _give_up(self, error: OSError) -> None:
        self.error = error
        self.lost += self._rows
        self.lost_bytes += self._bytes
        self._rows = self._bytes = 0
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.discard()

    def flush(self) -> None:
        """Nothing waits: every burst is written as it comes."""

    def close(self) -> None:
        """Finish the last file."""
        self._end()

    def discard(self) -> None:
        """Give the last file up; those that are whole stay."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None
