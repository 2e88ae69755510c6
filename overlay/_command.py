"""Command: whether this process is the ``overlay`` command, known before numpy is loaded.

Lives here: what the command needs that early; a program that imports the
library gets none of it.  What must not: the command itself.
"""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["RUNNING", "refuse"]


def _running() -> bool:
    """``overlay``, or ``python -m overlay``, which Python calls "-m" until it is found."""
    if sys.argv[:1] == ["-m"]:
        given = sys.orig_argv
        return given[given.index("-m") + 1 :][:1] == ["overlay"] if "-m" in given else False
    return os.path.basename(sys.argv[0]) == "overlay" if sys.argv else False


RUNNING = _running()
if RUNNING:
    # No linear algebra here: its threads would only be started and stopped.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def refuse(error: Exception) -> int:
    """Say why there is no backend, in one line on stderr; the exit status."""
    with contextlib.suppress(OSError, ValueError):  # the status says it, if nothing else can
        print("overlay:", *str(error).split(), file=sys.stderr, flush=True)
    return 2
