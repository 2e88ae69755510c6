"""Notice: what the service manager is told, by sd_notify's protocol.

Lives here: NOTIFY_SOCKET and WATCHDOG_USEC.  What must not: when something is said.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

__all__ = ["Notice"]


class Notice:
    """A service manager that listens, or nobody; saying something never fails."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        #: Seconds between two signs of life, or None.
        self.interval = self._interval(environment) if self._socket else None

    @staticmethod
    def _interval(environment: Mapping[str, str]) -> float | None:
        if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        try:
            limit = int(environment.get("WATCHDOG_USEC", "0"))
        except ValueError:
            return None
        return limit / 2e6 if limit > 0 else None

    def _say(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def ready(self, status: str) -> None:
        """Set-up, or a reload, is over."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; :meth:`ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def stopping(self) -> None:
        """The drain begins."""
        self._say("STOPPING=1", "STATUS=draining")

    def status(self, status: str) -> None:
        """One line for people."""
        self._say(f"STATUS={status}")

    def alive(self) -> None:
        """A sign of life."""
        self._say("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
