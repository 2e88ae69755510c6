"""Target: a file that is written beside its name and takes it when it is done.

Nothing half-written is ever seen under that name.  What must not live here: any format.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import IO, Any

from .naming import naming

__all__ = ["Target"]


class Target:
    """Where bytes go.

    :param path: a path, or a file object open for writing bytes, which stays
        the caller's to close.  A device or a named pipe is written as it is.
    :raises OSError: it cannot be opened; its ``filename`` is the path.
    """

    def __init__(self, path: str | os.PathLike[str] | IO[bytes]) -> None:
        self.bytes = 0
        self._target: str | None = None
        self._temporary: str | None = None
        self._own = not hasattr(path, "write")
        self.name = path if self._own else getattr(path, "name", None)
        self._file: IO[bytes] | None = None
        try:
            with naming(self.name):
                self._open(path)
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

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it; how much that is."""
        view = memoryview(data)
        assert self._file is not None
        size = view.nbytes
        self.bytes += size
        with naming(self.name):
            while view.nbytes:
                written = self._file.write(view)
                if written is None:
                    raise BlockingIOError(errno.EAGAIN, "it does not take bytes now")
                view = view[written:]
        return size

    def flush(self) -> None:
        """Let a reader see what is written."""
        assert self._file is not None
        with naming(self.name):
            self._file.flush()

    def fileno(self) -> int:
        """The file's number.  Raises OSError or ValueError where it is no file of the system."""
        assert self._file is not None
        return self._file.fileno()

    def close(self) -> None:
        """Finish: the file takes its name."""
        assert self._file is not None
        try:
            with naming(self.name):
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
