"""Three hosts on one switch: floods reach everyone once, and a MAC that moves is followed."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from lab import all_passed, need_hosts, need_tools
from overlay.lab import exam, traffic
from overlay.lab.peer import TENANT, KernelVxlan, Peer, Segment
from overlay.lab.topology import Topology
from overlay.lab.vtep import OverlayVtep

_CASES: dict[str, tuple[type[Peer], Segment]] = {
    "overlay vxlan": (OverlayVtep, Segment()),
    "overlay nvgre": (OverlayVtep, Segment("nvgre")),
    "overlay stt": (OverlayVtep, Segment("stt")),
    "kernel in the middle": (KernelVxlan, Segment()),
}


@pytest.fixture(scope="module", params=list(_CASES))
def peers(request: pytest.FixtureRequest) -> Iterator[list[Peer]]:
    need_hosts()
    need_tools("ping", "arping")
    kind, segment = _CASES[request.param]
    with Topology(3, offload="veth" if kind.kind == "overlay" else "wire") as topology:
        a, b, c = topology.hosts
        peers: list[Peer] = [
            OverlayVtep(topology, a, segment),
            kind(topology, b, segment),
            OverlayVtep(topology, c, segment),
        ]
        for peer in peers:
            peer.start()
        yield peers


def test_everyone_reaches_everyone(peers: list[Peer]) -> None:
    one, two, three = peers
    for pair in ((one, two), (two, three), (three, one)):
        all_passed(exam.connectivity(*pair))


def test_a_flood_reaches_everyone_once(peers: list[Peer]) -> None:
    """Split horizon: what came from a tunnel goes to no other tunnel."""
    for sender in peers:
        others = [peer for peer in peers if peer is not sender]
        word = b"once" + time.monotonic_ns().to_bytes(8, "big")
        ears = []
        for peer in others:
            with peer.host.entered():
                ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            ear.bind(("", 5010))
            ears.append(ear)
        with sender.host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            mouth.sendto(word, ("10.77.0.255", 5010))
        for ear in ears:
            ear.settimeout(5)
            assert ear.recv(100) == word
        # Whatever else was on its way is there once a later exchange is through.
        assert traffic.ping(others[0], others[1]).lossless
        for ear in ears:
            ear.setblocking(False)
            with pytest.raises(BlockingIOError):
                ear.recv(100)
            ear.close()


def test_a_mac_that_moves_is_followed(peers: list[Peer]) -> None:
    """b's tenant goes to c, MAC, address and all, announces itself, and comes back."""
    one, two, three = peers
    all_passed(exam.connectivity(one, two))

    def become(peer: Peer, mac: str, number: int) -> None:
        peer.host.ip("link", "set", "dev", TENANT, "down")
        peer.host.ip("link", "set", "dev", TENANT, "address", mac)
        peer.host.ip("link", "set", "dev", TENANT, "up")
        peer.host.ip("address", "flush", "dev", TENANT, "scope", "global")
        peer.host.ip("address", "add", f"10.77.0.{number}/24", "dev", TENANT)
        peer.host.run(["arping", "-c", "1", "-U", "-I", TENANT, f"10.77.0.{number}"], check=False)

    try:
        become(two, "02:00:00:00:00:f2", 102)
        become(three, two.mac, two.number)
        assert traffic.ping(one, two).lossless  # two's address: it is three who answers
        assert set(traffic.arping(one, two)) == {two.mac}
        assert one.host.run(["ping", "-c", "1", "-W", "5", "10.77.0.102"]).returncode == 0
    finally:
        become(three, three.mac, three.number)
        become(two, two.mac, two.number)
    assert traffic.ping(one, two).lossless
    assert traffic.ping(one, three).lossless
