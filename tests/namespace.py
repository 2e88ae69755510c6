<<<<<<< HEAD
"""Network namespaces of a test's own: the calling thread goes in and comes back."""
=======
"""Network namespaces for tests: one of its own for each test, gone with it.

The calling thread enters it, and what it starts inherits it.
"""
>>>>>>> ee06d78 (packet: an interface as a port or as the underlay; the guard that keeps the kernel from answering)

from __future__ import annotations

import ctypes
import os
<<<<<<< HEAD
import subprocess
from collections.abc import Iterator
=======
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
>>>>>>> ee06d78 (packet: an interface as a port or as the underlay; the guard that keeps the kernel from answering)
from contextlib import contextmanager

from conftest import missing

<<<<<<< HEAD
_NEW_NETWORK = 0x40000000
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
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)

    def close(self) -> None:
        os.close(self.fd)


def _enter(fd: int) -> None:
    if _libc.setns(fd, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")
=======
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def namespace() -> Iterator[None]:
    """A new network namespace, its loopback up, for the calling thread."""
    if os.geteuid() != 0:
        missing("root, for a network namespace")
    for program in ("ip", "nft", "ethtool"):
        if shutil.which(program) is None:
            missing(program)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(CLONE_NEWNET))
        try:
            run("ip link set lo up")
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET))
    finally:
        os.close(home)


@contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """The calling thread in another namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET))
    finally:
        os.close(home)


@contextmanager
def peer() -> Iterator[int]:
    """A second namespace, for :func:`inside`; the calling thread stays where it is."""
    with namespace():
        descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def run(*commands: str) -> str:
    """Run these commands; what the last one printed."""
    said = ""
    for command in commands:
        done = subprocess.run(command.split(), capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        said = done.stdout
    return said


def quiet(*interfaces: str) -> None:
    """Up, without the kernel's own IPv6 chatter."""
    for interface in interfaces:
        run(f"ip link set {interface} addrgenmode none up")


def running(*interfaces: str) -> None:
    """Wait until both ends are; before that the kernel drops what is sent, and says nothing."""
    for interface in interfaces:
        assert until(lambda name=interface: "state UP" in run(f"ip -o link show {name}"))


def until(true: Callable[[], object], seconds: float = 10.0) -> bool:
    """Ask until it is so, or time is up."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
>>>>>>> ee06d78 (packet: an interface as a port or as the underlay; the guard that keeps the kernel from answering)
