"""A peer of the lab whose VTEP runs in the test's own process, and frames of its tenant."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import overlay
import wire
from overlay import Status
from overlay.io.tap import Tap
from overlay.lab import traffic
from overlay.lab.host import Host
from overlay.lab.peer import TENANT, Peer, Segment
from overlay.lab.topology import Topology
from veth import until

KEY = 5001
TUNNELS = ["vxlan", "nvgre", "stt"]


class Inside(Peer):
    """A `Vtep` of this process, its tenant on a TAP; ``options`` are of its network."""

    kind = "overlay"
    tunnels = ("vxlan", "nvgre", "stt")
    vtep: overlay.Vtep
    network: Any
    tap: Tap

    def __init__(self, topology: Topology, host: Host, segment: Segment, **options: Any) -> None:
        super().__init__(topology, host, segment)
        self.fragments = options.pop("fragments", "reassemble")
        self.options = {"remotes": self.remotes} | options
        self.events: list[Any] = []

    def bring_up(self) -> None:
        with self.host.entered():
            self.vtep = overlay.Vtep(
                self.local, networks=64, macs=4096, seed=self.number,
                fragments=self.fragments, on_event=self.events.append,
            )  # fmt: skip
            self.network = self.vtep.add_network(
                self.segment.key, tunnel=self.segment.tunnel, **self.options
            )
            self.tap = Tap(TENANT, mtu=self.mtu, mac=self.mac)
            self.network.add_port(self.tap)
            self.vtep.start()

    def stop(self) -> None:
        with self.host.entered():
            self.vtep.close()
            self.tap.close()

    def drops(self, status: Status) -> int:
        return int(self.network.stats.drops.get(status, 0))

    def check_books(self) -> None:
        """When nothing is under way any more, nothing is missing."""
        assert until(lambda: self.vtep.stats.total.missing == 0), self.vtep.stats.total


@contextmanager
def running(*peers: Peer) -> Iterator[None]:
    """The peers, started; stopped in the end."""
    started: list[Peer] = []
    try:
        for peer in peers:
            peer.start()
            started.append(peer)
        yield
    finally:
        for peer in reversed(started):
            peer.stop()


def tenant(peer: Peer, protocol: int = 0x88B5) -> socket.socket:
    """A socket for frames of an EtherType on the tenant's device."""
    with peer.host.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.bind((TENANT, protocol))
    raw.setblocking(False)
    return raw


def frame(receiver: Peer, sender: Peer, number: int, size: int = 60) -> bytes:
    macs = bytes.fromhex((receiver.mac + sender.mac).replace(":", ""))
    return macs + b"\x88\xb5" + number.to_bytes(4, "big") + wire.pattern(size, number)


def reaches(one: Peer, other: Peer) -> bool:
    """One echo, and its answer, within a second."""
    return traffic.ping(one, other, count=1, wait=1).received == 1


def heard(ear: socket.socket) -> bytes:
    """A frame, or nothing yet."""
    with suppress(BlockingIOError):
        return ear.recv(65536)
    return b""
