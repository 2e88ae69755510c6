"""Behind: a thread that writes one burst while the caller makes the next.

Writing to a file is the kernel's copy, without the GIL, as is encap: two
cores do both at once.  What must not live here: formats, and files' names.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Thread

__all__ = ["Behind"]


class Behind:
    """Gives buffers to ``write``, one at a time and in order.

    A buffer is in use until the next :meth:`put`, or :meth:`close`, returns.
    What ``write`` raises is raised by the next :meth:`put` or :meth:`wait`;
    nothing is written after it.
    """

    def __init__(self, write: Callable[[memoryview], None]) -> None:
        self._write = write
        self._given: Queue[memoryview | None] = Queue()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for data in iter(self._given.get, None):
            try:
                if self._error is None:
                    self._write(data)
            except BaseException as error:  # the caller's to see
                self._error = error
            finally:
                self._given.task_done()

    def put(self, data: memoryview) -> None:
        """Begin to write ``data``, when what was given before is written."""
        self.wait()
        self._given.put(data)

    def wait(self) -> None:
        """Return when everything is written."""
        self._given.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let what has begun come to its end, and the thread with it; raises nothing."""
        self._given.put(None)
        self._thread.join()
