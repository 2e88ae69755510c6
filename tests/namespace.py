"""Network namespaces of a test's own: the calling thread goes in and comes back."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from conftest import missing

_NEW_NETWORK = 0x40000000
#: The environment of the system's programs: a sanitizer is for this library's code alone.
OUTSIDE = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A new network namespace, its loopback up; nothing is left of it after :meth:`close`."""

    def __init__(self) -> None:
        with open("/proc/thread-self/ns/net") as home:
            if _libc.unshare(_NEW_NETWORK):
                missing(f"network namespaces: {os.strerror(ctypes.get_errno())}: root")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.ip("link set lo up")
            finally:
                _enter(home.fileno())

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in it; sockets and interfaces made here belong to it."""
        with open("/proc/thread-self/ns/net") as home:
            _enter(self.fd)
            try:
                yield
            finally:
                _enter(home.fileno())

    @staticmethod
    def ip(command: str) -> None:
        """``ip`` with these arguments, where the calling thread is."""
        subprocess.run(["ip", *command.split()], check=True, capture_output=True, env=OUTSIDE)

    def close(self) -> None:
        os.close(self.fd)


def powerless(program: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program without any capability, where the calling thread is."""
    command = [sys.executable, "-c", program]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            missing("setpriv")
        command = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *command]
    return subprocess.run(command, capture_output=True, text=True)


def _enter(fd: int) -> None:
    if _libc.setns(fd, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")
