"""What the tests of ``listen`` and ``extcap`` share: hosts, senders, and the command on a host."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import frames
from overlay import PROTOCOLS, Tunnel
from overlay.lab.host import Host
from veth import until

ROOT = Path(__file__).parent.parent
#: Where commands find the package: the build under test first, if it is not the tree's.
PATH = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
KEY = 5001
SOME = [frames.UDP4, frames.UDP6, frames.TCP4, frames.ARP, frames.TAGGED]


@contextmanager
def a_host() -> Iterator[Host]:
    host = Host("mirror")
    try:
        yield host
    finally:
        host.close()


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """A sender, 192.0.2.1, and a receiver, 192.0.2.2, on one wire."""
    sender, receiver = Host("sender"), Host("receiver")
    try:
        sender.ip("link", "add", "v0", "type", "veth", "peer", "name", "v0",
                  "netns", receiver.path)  # fmt: skip
        for host, address in ((sender, "192.0.2.1"), (receiver, "192.0.2.2")):
            host.ip("link", "set", "v0", "addrgenmode", "none")
            host.ip("link", "set", "v0", "up")
            host.ip("addr", "add", f"{address}/24", "dev", "v0")
        for host in (sender, receiver):
            assert until(lambda host=host: "state UP" in host.ip("-o", "link", "show", "v0"))
        yield sender, receiver
    finally:
        sender.close()
        receiver.close()


def tunnel(name: str, key: int = KEY, **options: Any) -> Tunnel:
    kind: Any = PROTOCOLS[name]
    given = {kind.key_field: key, "local": "192.0.2.1", "remote": "192.0.2.2"} | options
    made: Tunnel = kind(**given)
    return made


def datagram(packet: bytes) -> bytes:
    """The UDP payload of an outer packet over IPv4."""
    return packet[14 + 20 + 8 :]


def send(host: Host, datagrams: list[bytes], port: int, to: str = "127.0.0.1") -> None:
    with host.entered():
        s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        for data in datagrams:
            s.sendto(data, (to, port))


class Listening:
    """``overlay listen`` on a host, once it hears."""

    def __init__(self, host: Host, *args: object, ports: tuple[int, ...] = (4789,)) -> None:
        self.process = host.popen(
            [sys.executable, "-m", "overlay", "listen", *map(str, args)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PYTHONPATH": PATH}, text=False,
        )  # fmt: skip
        places = [word for word in map(str, args) if re.fullmatch(r"[0-9.]*:[0-9]+", word)]
        only_v4 = bool(places) and not any(place.startswith(":") for place in places)
        families = {4} if only_v4 else {4, 6}
        assert until(lambda: all(bound(host, port) >= families for port in ports) or self.ended)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self, how: signal.Signals | None = signal.SIGTERM) -> tuple[int, str, str]:
        """Its exit status and what it said."""
        if how is not None:
            self.process.send_signal(how)
        out, error = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode("latin-1"), error.decode()

    def report(self, how: signal.Signals | None = signal.SIGTERM) -> dict[str, Any]:
        """What it says at its end, with ``--json``."""
        status, out, error = self.end(how)
        assert status == 0, error
        said: dict[str, Any] = json.loads(out or error)
        return said


def bound(host: Host, port: int) -> set[int]:
    """The IP versions of the UDP sockets that have the port."""
    with host.entered():
        tables = [Path(f"/proc/thread-self/net/{name}").read_text() for name in ("udp", "udp6")]
    return {v for v, table in zip((4, 6), tables, strict=True) if f":{port:04X} " in table}
