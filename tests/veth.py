"""Virtual Ethernet pairs for tests, in network namespaces of their own."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from conftest import missing
from namespace import Namespace


@contextmanager
def space() -> Iterator[Namespace]:
    """A new namespace; the calling thread stays where it is."""
    made = Namespace()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def network() -> Iterator[None]:
    """A new namespace for the calling thread, and for what it starts."""
    for program in ("ip", "nft", "ethtool"):
        if shutil.which(program) is None:
            missing(program)
    with space() as made, made.inside():
        yield


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
