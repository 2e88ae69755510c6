"""Log: one line an event on standard error, as key=value pairs or as JSON.

Lives here: how a line looks.  What must not: what is worth a line.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import sys
from typing import Any

__all__ = ["LEVELS", "configure", "log"]

LEVELS = ("debug", "info", "warning", "error")

_PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_PLAIN = re.compile(r"[^\s\"=\\]+")

_logger = logging.getLogger("overlay")


def log(level: str, message: str, **fields: object) -> None:
    """A line of this level; ``fields`` that are None are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    _logger.log(logging.getLevelName(level.upper()), message, extra={"fields": known})


def _word(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)


def _when(record: logging.LogRecord) -> str:
    when = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Format(logging.Formatter):
    def __init__(self, as_json: bool, journal: bool) -> None:
        super().__init__()
        self._json, self._journal = as_json, journal

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {} if self._journal else {"time": _when(record)}
        said |= {"level": record.levelname.lower(), "message": record.getMessage()}
        for name, value in getattr(record, "fields", {}).items():
            said[f"field_{name}" if name in said else name] = value
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        if self._json:
            line = json.dumps(said, default=str)
        else:
            line = " ".join(f"{name}={_word(value)}" for name, value in said.items())
        return f"<{_PRIORITY[record.levelname]}>{line}" if self._journal else line


def _in_journal() -> bool:
    """Whether standard error is the journal's: JOURNAL_STREAM names its device and inode."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def configure(style: str = "text", level: str = "info") -> None:
    """Lines of the package's loggers go to standard error; ``style`` is text or json."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Format(style == "json", _in_journal()))
    _logger.handlers = [handler]
    _logger.propagate = False
    _logger.setLevel(level.upper())
