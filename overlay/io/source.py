"""Source: the bytes of a capture, one window after another.

A regular file is mapped, window by window, privately: what is done to the
bytes does not reach the file, and nothing is copied.  Anything else is read
in chunks into one arena.  What must not live here: any format.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
from abc import ABC, abstractmethod
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_RECORD", "Source", "open_source", "open_whole"]

#: The longest record that is believed; a longer one is a broken length field.
MAX_RECORD = 64 << 20

CHUNK = 1 << 20


class Source(ABC):
    """``data`` is the window, and ``start`` the capture's position of its first byte."""

    data: npt.NDArray[np.uint8]
    start: int = 0
    #: Bytes in all, where that is known.
    size: int | None = None
    #: Keeps the memory of ``data`` alive.
    owner: object = None

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


class Mapped(Source):
    """A regular file.  It must not be cut short by others while it is mapped."""

    def __init__(self, file: IO[bytes], own: bool, span: int = 2 * MAX_RECORD) -> None:
        self._file = file if own else None
        self._number = file.fileno()
        self._base = file.tell()
        self._span = span
        self.size = max(0, os.fstat(self._number).st_size - self._base)
        self.data = np.zeros(0, np.uint8)

    def window(self, position: int, need: int) -> None:
        assert self.size is not None
        if self.start <= position and min(position + need, self.size) <= self.end:
            return
        first = (self._base + position) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        last = min(self._base + self.size, first + max(self._span, 2 * need))
        skip = max(0, self._base - first)
        self.owner = None
        self.data = np.zeros(0, np.uint8)
        self.start = position
        if self._base + position < last:
            mapping = mmap.mmap(self._number, last - first, access=mmap.ACCESS_COPY, offset=first)
            self.owner = mapping
            self.data = np.frombuffer(mapping, np.uint8)[skip:]
            self.start = first + skip - self._base

    def close(self) -> None:
        self.owner = None
        self.data = np.zeros(0, np.uint8)
        if self._file is not None:
            self._file.close()


class Read(Source):
    """A pipe, or any object with ``read``; the arena is used again for every window."""

    def __init__(self, file: IO[bytes], own: bool) -> None:
        self._file = file
        self._own = own
        self._arena = np.empty(2 * CHUNK, np.uint8)
        self.data = self._arena[:0]
        self.ended = False

    def window(self, position: int, need: int) -> None:
        kept = self.data[position - self.start :]
        while kept.size < need and not self.ended:
            if need > self._arena.size and kept.size + CHUNK > self._arena.size:
                arena = np.empty(2 * self._arena.size, np.uint8)  # grows as bytes arrive
            else:
                arena = self._arena
            arena[: kept.size] = kept
            self._arena = arena
            got = self._read(memoryview(arena)[kept.size :])  # type: ignore[arg-type]
            self.ended = got == 0
            kept = arena[: kept.size + got]
        self.data = kept
        self.start = position

    def _read(self, room: memoryview) -> int:
        """Fill ``room`` with what is there now; 0 at the end."""
        file: Any = self._file
        if hasattr(file, "readinto1"):
            return int(file.readinto1(room) or 0)
        if hasattr(file, "readinto"):
            return int(file.readinto(room) or 0)
        chunk = file.read(len(room))
        room[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if self._own:
            self._file.close()


class Held(Source):
    """Bytes that are all in memory."""

    def __init__(self, data: bytearray) -> None:
        self.data = np.frombuffer(data, np.uint8)
        self.size = len(data)

    def window(self, position: int, need: int) -> None:
        """All is here already."""

    def close(self) -> None:
        """There is no file."""


def open_source(file: IO[bytes], own: bool) -> Source:
    """The better source for this file; ``own`` closes the file in the end."""
    return Mapped(file, own) if _mappable(file) else Read(file, own)


def open_whole(file: IO[bytes]) -> Source:
    """A source whose one window is the whole file."""
    return Mapped(file, False, sys.maxsize) if _mappable(file) else Held(bytearray(file.read()))


def _mappable(file: IO[bytes]) -> bool:
    try:
        state = os.fstat(file.fileno())
        return stat.S_ISREG(state.st_mode) and state.st_size > file.tell()
    except (OSError, AttributeError, ValueError):
        return False
