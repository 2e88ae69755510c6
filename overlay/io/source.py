"""Source: the bytes of a capture, one window after another.

A stream is read in chunks into one arena that stays in a core's cache, which
is faster than mapping; a capture that is wanted whole is mapped, privately:
what is done to the bytes does not reach the file.  What must not live here:
any format.
"""

from __future__ import annotations

import mmap
import os
import stat
from abc import ABC, abstractmethod
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .naming import naming

__all__ = ["MAX_RECORD", "Source", "Stream", "Whole"]

#: The longest record that is believed; a longer one is a broken length field.
MAX_RECORD = 64 << 20


class Source(ABC):
    """``data`` is the window, and ``start`` the capture's position of its first byte."""

    data: npt.NDArray[np.uint8]
    start: int = 0
    #: Bytes in all, where that is known.
    size: int | None = None

    @property
    def end(self) -> int:
        """The position after the last byte of the window."""
        return self.start + self.data.size

    @abstractmethod
    def window(self, position: int, need: int) -> None:
        """Move on, so that ``need`` bytes from ``position`` are in the window.

        Fewer are there only where the capture ends; positions before
        ``position`` are given up.  The memory used is bounded by ``need`` and
        by the bytes that really are there, whichever is less.
        """

    @abstractmethod
    def close(self) -> None:
        """Let the file go."""


class Stream(Source):
    """A file, a pipe, or any object with ``read``; one arena serves every window.

    :param own: whether closing the source closes the file.
    :param chunk: bytes to read at once.
    """

    def __init__(self, file: IO[bytes], own: bool, chunk: int) -> None:
        self._file = file
        self._own = own
        self._chunk = chunk
        self._arena = np.empty(chunk, np.uint8)
        self._ended = False
        self.data = self._arena[:0]
        if _regular(file):
            self.size = os.fstat(file.fileno()).st_size - file.tell()

    def window(self, position: int, need: int) -> None:
        kept = self.data[position - self.start :]
        while kept.size < need and not self._ended:
            arena = self._arena
            if need > arena.size and kept.size + self._chunk > arena.size:
                arena = np.empty(2 * arena.size, np.uint8)  # as bytes arrive, not as they claim
            arena[: kept.size] = kept
            got = self._read(memoryview(arena)[kept.size :])  # type: ignore[arg-type]
            self._ended = got == 0
            self._arena = arena
            kept = arena[: kept.size + got]
        self.data = kept
        self.start = position

    def _read(self, room: memoryview) -> int:
        """Put what is there now into ``room``; 0 bytes at the end."""
        file: Any = self._file
        with naming(getattr(file, "name", None)):
            if hasattr(file, "readinto1"):
                return int(file.readinto1(room) or 0)
            if hasattr(file, "readinto"):
                return int(file.readinto(room) or 0)
            chunk = file.read(room.nbytes)
            room[: len(chunk)] = chunk
            return len(chunk)

    def close(self) -> None:
        if self._own:
            self._file.close()


class Whole(Source):
    """All of a file in one window: mapped, or read where it cannot be.

    The file must not be cut short by others while it is mapped.
    """

    def __init__(self, file: IO[bytes]) -> None:
        #: Keeps the memory of ``data`` alive.
        self.owner: mmap.mmap | bytearray
        if _regular(file) and os.fstat(file.fileno()).st_size:
            self.owner = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        else:
            self.owner = bytearray(file.read())
        self.data = np.frombuffer(self.owner, np.uint8)
        self.size = self.data.size

    def window(self, position: int, need: int) -> None:
        """All is here already."""

    def close(self) -> None:
        """The memory lives as long as somebody has it."""


def _regular(file: IO[bytes]) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, AttributeError, ValueError):
        return False
