"""Real peers in network namespaces: the kernel, Open vSwitch, and overlay itself.

Host a runs `overlay run`; each case says what host b runs and how they are
joined.  Every case is asked the same questions, and asked them again after the
peer restarts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import all_passed, need_hosts, need_tap, need_tools
from overlay.lab import exam
from overlay.lab.ovs import OvsGre, OvsVxlan
from overlay.lab.peer import KernelVxlan, Peer, Segment
from overlay.lab.topology import Topology
from overlay.lab.vtep import OverlayVtep

_CASES: dict[str, tuple[type[Peer], Segment]] = {
    "kernel": (KernelVxlan, Segment()),
    "kernel, no checksum": (KernelVxlan, Segment(checksum=False)),
    "kernel, IPv6": (KernelVxlan, Segment(version=6)),
    "kernel, IPv6, no checksum": (KernelVxlan, Segment(version=6, checksum=False)),
    "kernel, GBP": (KernelVxlan, Segment(gbp=0x1234)),
    "ovs vxlan": (OvsVxlan, Segment()),
    "ovs vxlan, no checksum": (OvsVxlan, Segment(checksum=False)),
    "ovs gre": (OvsGre, Segment("nvgre")),
    "overlay vxlan": (OverlayVtep, Segment()),
    "overlay nvgre": (OverlayVtep, Segment("nvgre")),
    "overlay stt": (OverlayVtep, Segment("stt")),
    "overlay vxlan, IPv6": (OverlayVtep, Segment(version=6)),
    "overlay nvgre, IPv6": (OverlayVtep, Segment("nvgre", version=6)),
    "overlay stt, IPv6": (OverlayVtep, Segment("stt", version=6)),
}


@dataclass(frozen=True)
class Pair:
    topology: Topology
    one: OverlayVtep
    other: Peer


@pytest.fixture(scope="module", params=list(_CASES))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    need_hosts()
    need_tools("ping", "arping", "ethtool", "nft", "iperf3", "tshark")
    kind, segment = _CASES[request.param]
    if kind.kind == "ovs":
        need_tools("ovs-vswitchd", "ovsdb-server")
        need_tap()
    # Open vSwitch takes packets as they are on the wire.
    with Topology(offload="wire" if kind.kind == "ovs" else "veth") as topology:
        a, b = topology.hosts
        one, other = OverlayVtep(topology, a, segment), kind(topology, b, segment)
        one.start()
        other.start()
        yield Pair(topology, one, other)


def test_ping_arp_and_broadcast(pair: Pair) -> None:
    all_passed(exam.connectivity(pair.one, pair.other))


def test_packets_of_the_mtu_and_larger(pair: Pair) -> None:
    all_passed(exam.sizes(pair.one, pair.other))


def test_tagged_frames(pair: Pair) -> None:
    all_passed(exam.tags(pair.one, pair.other))


def test_100_mb_by_tcp(pair: Pair) -> None:
    all_passed(exam.streams(pair.one, pair.other))


def test_tshark_finds_no_fault(pair: Pair) -> None:
    pair.topology.set_offload("wire")
    try:
        path = f"{pair.topology.folder}/peers.pcap"
        all_passed(exam.capture(pair.one, pair.other, path))
    finally:
        pair.topology.set_offload(pair.topology.offload)


@pytest.mark.parametrize("side", ["peer", "overlay"])
def test_the_same_after_a_restart(pair: Pair, side: str) -> None:
    (pair.other if side == "peer" else pair.one).restart()
    all_passed(exam.connectivity(pair.one, pair.other))
    all_passed(exam.sizes(pair.one, pair.other))
    all_passed(exam.tags(pair.one, pair.other))
    all_passed(exam.streams(pair.one, pair.other))
