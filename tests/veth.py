"""Virtual Ethernet pairs in network namespaces of their own, and what passes over them."""

from __future__ import annotations

import hashlib
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import missing
from namespace import OUTSIDE, Namespace
from overlay import NVGRE, STT, VXLAN, Batch, Tunnel
from overlay.io.device import Device, burst

ETHERTYPE = b"\x88\xb5"  # for experiments: nothing answers
A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")


rings = pytest.mark.parametrize("ring", [0, 1 << 21], ids=["burst", "ring"])


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
        done = subprocess.run(command.split(), capture_output=True, text=True, env=OUTSIDE)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        said = done.stdout
    return said


def quiet(*interfaces: str) -> None:
    """Up, without the kernel's own IPv6 chatter."""
    for interface in interfaces:
        # One after the other: in one message the interface is up before it has the mode.
        run(f"ip link set {interface} addrgenmode none", f"ip link set {interface} up")


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


def frame(number: int = 0, size: int = 60, tags: bytes = b"") -> bytes:
    head = B + A + tags + ETHERTYPE + number.to_bytes(4, "big")
    return head + bytes((number + i) % 251 for i in range(size - len(head)))


def take(device: Device, count: int, seconds: float = 10.0) -> list[bytes]:
    """This many frames, waited for as a worker waits."""
    batch = burst()
    got: list[bytes] = []
    end = time.monotonic() + seconds
    while len(got) < count and time.monotonic() < end:
        if not device.recv(batch):
            select.select([device.fileno()], [], [], 0.05)
        got += batch.to_list()
    return got


def put(device: Device, frames: list[bytes]) -> Batch:
    batch = Batch.from_frames(frames, headroom=0)
    device.send(batch)
    return batch


def tunnel(kind: str, family: int, **options: Any) -> Tunnel:
    ends = ("192.0.2.1", "192.0.2.2") if family == 4 else ("2001:db8::1", "2001:db8::2")
    options = (
        dict(local=ends[0], remote=ends[1], local_mac=A.hex(":"), remote_mac=B.hex(":")) | options
    )
    if kind == "stt":
        return STT(context_id=7, **options)
    if kind == "nvgre":
        return NVGRE(vsid=7000, **options)
    return VXLAN(vni=7, **options)


# ---- hosts that speak TCP ----------------------------------------------------------------------


def stream(address: str, data: bytes) -> str:
    """Send data over TCP to who listens at address; the digest that it saw."""
    with socket.create_connection((address, 7), 10.0) as s:
        s.settimeout(20.0)
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        return s.recv(64).decode()


def listen(address: str) -> threading.Thread:
    """Digest what one connection brings, and answer with it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.create_server((address, 7), family=family)
    server.settimeout(20.0)

    def serve() -> None:
        with server:
            s, _ = server.accept()
            with s:
                s.settimeout(20.0)
                digest = hashlib.sha256()
                while chunk := s.recv(1 << 16):
                    digest.update(chunk)
                s.sendall(digest.hexdigest().encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def host(interface: str, address: str, offload: bool) -> None:
    where = (
        f"{address}/64 dev {interface} nodad" if ":" in address else f"{address}/24 dev {interface}"
    )
    run(f"ip addr add {where}", f"ip link set {interface} up")
    if not offload:
        run(f"ethtool -K {interface} tso off gso off")
