"""The switch on the kernel's own devices: interfaces that fail, groups, paths through routers.

What several kinds of peer are asked alike is in test_peers.py.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar

import pytest

from inside import KEY, TUNNELS, Inside, frame, reaches, running, tenant
from lab import all_passed, need_hosts, need_tap, need_tools
from overlay import Status
from overlay.io.tap import Tap
from overlay.lab import exam, traffic
from overlay.lab.host import Host
from overlay.lab.peer import TENANT, KernelVxlan, Peer, Segment
from overlay.lab.topology import UNDERLAY, Topology
from veth import until


@pytest.fixture(scope="module", autouse=True)
def _needs() -> None:
    need_hosts()
    need_tap()
    need_tools("ping", "arping")


@contextmanager
def frames(sender: Peer, receiver: Peer) -> Iterator[None]:
    """Frames both ways, all the time; what a device that is down refuses is nobody's loss."""
    done = threading.Event()

    def send() -> None:
        with tenant(sender) as one, tenant(receiver) as other:
            number = 0
            while not done.wait(0.001):
                number += 1
                for raw, pair in ((one, (receiver, sender)), (other, (sender, receiver))):
                    with suppress(OSError):
                        raw.send(frame(*pair, number))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# -- devices that fail ---------------------------------------------------------------------


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_an_underlay_that_goes_down_and_comes_back(tunnel: str) -> None:
    with Topology() as topology:
        a, b = (Inside(topology, host, Segment(tunnel)) for host in topology.hosts)
        with running(a, b):
            with frames(a, b):
                assert until(lambda: reaches(a, b))
                a.host.ip("link", "set", UNDERLAY, "down")
                reasons = (Status.DEVICE_DOWN, Status.UNRESOLVED)
                assert until(lambda: sum(map(a.drops, reasons)) > 10), a.network.stats
                a.host.ip("link", "set", UNDERLAY, "up")
                assert until(lambda: reaches(a, b)), a.network.stats
            a.check_books()
            b.check_books()


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_tap_that_goes_down_and_comes_back(tunnel: str) -> None:
    with Topology() as topology:
        a, b = (Inside(topology, host, Segment(tunnel)) for host in topology.hosts)
        with running(a, b):
            with frames(a, b):
                assert until(lambda: reaches(a, b))
                b.host.ip("link", "set", TENANT, "down")
                assert until(lambda: b.drops(Status.DEVICE_DOWN) > 10), b.network.stats
                b.host.ip("link", "set", TENANT, "up")
                assert until(lambda: reaches(a, b)), b.network.stats
            a.check_books()
            b.check_books()


@pytest.mark.parametrize("where", ["underlay", "tap"])
def test_a_device_that_disappears(where: str) -> None:
    """Deleted under traffic: frames for it are dropped by name, all else goes on."""
    with Topology() as topology:
        a, b = (Inside(topology, host, Segment("nvgre")) for host in topology.hosts)
        with running(a, b):
            with b.host.entered():
                spare = Tap("t1")
            b.network.add_port(spare)
            with frames(a, b):
                assert until(lambda: reaches(a, b))
                b.host.ip("link", "delete", UNDERLAY if where == "underlay" else TENANT)
                assert until(lambda: b.drops(Status.DEVICE_DOWN) + b.drops(Status.UNRESOLVED) > 10)
            a.check_books()
            b.check_books()
            spare.close()


def test_a_tap_that_nobody_reads() -> None:
    """Its queue is full: what finds no room is counted, and other ports do not wait."""
    with Topology() as topology:
        a, b = (Inside(topology, host, Segment()) for host in topology.hosts)
        with running(a, b):
            assert reaches(a, b)
            with b.host.entered(), Tap("t1", mac="02:00:00:00:01:02") as slow:
                b.host.ip("link", "set", "t1", "txqueuelen", "8")
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
                    raw.bind(("t1", 0x88B5))
                    sent = sum(sends(raw, frame(a, b, n)) for n in range(100))
                # The kernel's own chatter is in the queue too.
                assert sent < 100 or slow.stats.lost[Status.DEVICE_OVERRUN] >= 100 - 8
                port = b.network.add_port(slow)
                assert until(lambda: port.stats.in_frames >= 1)
                assert reaches(a, b)
                b.network.remove_port(port)
            b.check_books()


def sends(raw: socket.socket, data: bytes) -> bool:
    try:
        raw.send(data)
    except OSError:
        return False
    return True


# -- groups --------------------------------------------------------------------------------


class KernelGroup(KernelVxlan):
    """The kernel's VXLAN, all others behind a group."""

    group: ClassVar[str]

    def bring_up(self) -> None:
        self.host.ip(
            "link", "add", TENANT, "type", "vxlan", "id", str(self.segment.key),
            "dstport", "4789", "local", self.local, "group", self.group, "dev", UNDERLAY,
        )  # fmt: skip


class KernelGroup4(KernelGroup):
    group = "239.1.1.1"


class KernelGroup6(KernelGroup):
    group = "ff05::100"


def member(host: Host, version: int) -> bool:
    """Whether the host is in the group."""
    family = {4: "239.1.1.1", 6: "ff05::100"}[version]
    return family in host.ip("maddress", "show", "dev", UNDERLAY)


@pytest.mark.parametrize("version", [4, 6])
def test_a_group_instead_of_a_list_of_remotes(version: int) -> None:
    kernel = {4: KernelGroup4, 6: KernelGroup6}[version]
    with Topology(3) as topology:
        segment = Segment(version=version)
        options = {"group": kernel.group, "accept": "any", "remotes": ()}
        first, second, third = topology.hosts
        a = Inside(topology, first, segment, **options)
        b = Inside(topology, second, segment, **options)
        c = kernel(topology, third, segment)
        with running(a, b, c):
            for host in topology.hosts:
                assert member(host, version)
            for one, other in ((a, b), (a, c), (b, c)):
                all_passed(exam.connectivity(one, other))
            assert all(traffic.broadcast(a, [b, c]))
            assert all(traffic.broadcast(c, [a, b]))
            # Strangers became remotes, which groups' frames do not go to.
            for one, others in ((a, (b, c)), (b, (a, c))):
                strangers = {r.address: r.flood for r in one.network.remotes}
                assert strangers == {kernel.group: True} | {o.local: False for o in others}
            a.check_books()
            b.check_books()
            a.network.remove_remote(kernel.group)
            assert not member(first, version)
            b.vtep.remove_network(KEY)
            assert not member(second, version)


def test_a_group_of_two_networks() -> None:
    """The host stays in it until the last of them goes."""
    with Topology() as topology:
        a = Inside(topology, topology.hosts[0], Segment(), group="239.1.1.1", remotes=())
        with running(a), a.host.entered():
            other = a.vtep.add_network(7, group="239.1.1.1")
            a.vtep.remove_network(KEY)
            assert member(a.host, 4)
            other.remove_remote("239.1.1.1")
            assert not member(a.host, 4)


# -- paths ---------------------------------------------------------------------------------


class Routed(Topology):
    """Two hosts with a router between them; its second cable takes 1400 bytes."""

    def address(self, host: Host, version: int = 4) -> str:
        number = self.hosts.index(host) + 1
        return f"192.0.{number}.2" if version == 4 else f"2001:db8:{number}::2"

    def _cable(self) -> None:
        self.switch = router = Host("router")
        for switch in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            router.run(["sysctl", "-q", "-w", f"{switch}=1"])
        for number, host in enumerate(self.hosts, 1):
            cable = f"to-{host.name}"
            host.ip(
                "link", "add", UNDERLAY, "type", "veth",
                "peer", "name", cable, "netns", router.path,
            )  # fmt: skip
            router.ip("address", "add", f"192.0.{number}.1/24", "dev", cable)
            router.ip("link", "set", cable, "mtu", "1500" if number == 1 else "1400", "up")
            router.ip("address", "add", f"2001:db8:{number}::1/64", "dev", cable, "nodad")

    def _address(self, host: Host, number: int) -> None:
        super()._address(host, number)
        if number == 2:
            host.ip("link", "set", UNDERLAY, "mtu", "1400")
        host.ip("route", "add", "default", "via", f"192.0.{number}.1")
        host.ip("-6", "route", "add", "default", "via", f"2001:db8:{number}::1")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_narrow_path_behind_a_router(tunnel: str, version: int) -> None:
    """The router's ICMP lowers the remote's MTU, and the sender hears of what then fits."""
    segment = Segment(tunnel, version=version)
    with Routed() as topology:
        # STT takes frames of any length: what the tenants' interfaces are set to.
        options = {"mtu": 1500 - segment.overhead} if tunnel == "stt" else {}
        a, b = (Inside(topology, host, segment, **options) for host in topology.hosts)
        fits = 1400 - segment.overhead
        with running(a, b):
            (remote,) = a.network.remotes
            assert remote.mtu == 1500
            assert until(lambda: reaches(a, b))

            def told() -> traffic.Ping:
                size = a.mtu - 28
                return traffic.ping(a, b, size=size, fragment=False, count=1, wait=1)

            if tunnel == "stt":  # cuts what it sends; the sender need not know
                assert until(lambda: told().lossless)
            else:
                assert until(lambda: told().mtu == fits)
            assert remote.mtu == 1400
            assert [(e.kind, e.where, e.mtu) for e in a.events if e.kind == "mtu"] == [
                ("mtu", remote, 1400)
            ]
            for peer in (a, b):
                peer.host.ip("route", "flush", "cache")
            for one, other in ((a, b), (b, a)):
                stream = traffic.transfer(one, other, 3_000_000)
                assert stream.intact
            time.sleep(1.2)  # for two more looks at the routes, which do not know of it
            assert remote.mtu == 1400
            a.check_books()
            b.check_books()
