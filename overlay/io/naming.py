"""Naming: which file an error of the system is about.

Errors of reading and writing carry no name, and those of opening may carry
one that the caller never gave.  What must not live here: any file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["naming"]


@contextmanager
def naming(name: object) -> Iterator[None]:
    """An :class:`OSError` from within names this file, as its caller calls it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, name) from error
