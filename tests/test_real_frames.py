"""What real kernels do with frames of a tunnel: policies, outer fragments, TCP, ARP."""

from __future__ import annotations

import socket
import subprocess

import pytest

import overlay
import wire
from inside import KEY, TUNNELS, Inside, frame, heard, reaches, running, tenant
from lab import need_hosts, need_tap, need_tools
from namespace import OUTSIDE
from overlay import Status
from overlay.lab import traffic
from overlay.lab.capture import Capture
from overlay.lab.peer import TENANT, KernelVxlan, Peer, Segment
from overlay.lab.topology import UNDERLAY, Topology
from veth import until


@pytest.fixture(scope="module", autouse=True)
def _needs() -> None:
    need_hosts()
    need_tap()
    need_tools("ping", "arping")


# -- group policy --------------------------------------------------------------------------


class KernelPolicy(KernelVxlan):
    """The kernel's VXLAN with group policies; it counts the frames that it was given with ours."""

    ours = 0x0BAD

    def bring_up(self) -> None:
        super().bring_up()
        self.host.run(
            ["nft", "-f", "-"],
            stdin=f"""table netdev heard {{
                chain ingress {{
                    type filter hook ingress device {TENANT} priority 0;
                    meta mark {self.ours} counter
                }}
            }}
            """,
        )

    def stop(self) -> None:
        self.host.run(["nft", "delete", "table", "netdev", "heard"])
        super().stop()

    @property
    def heard(self) -> int:
        rules = self.host.run(["nft", "list", "table", "netdev", "heard"]).stdout
        return int(rules.split("counter packets ")[1].split()[0])


def test_group_policies_on_the_wire() -> None:
    need_tools("nft", "tshark")
    with Topology() as topology:
        one, two = topology.hosts
        a = Inside(topology, one, Segment(gbp=KernelPolicy.ours), gbp=KernelPolicy.ours)
        b = KernelPolicy(topology, two, Segment(gbp=0x1234))
        path = f"{topology.folder}/policy.pcap"
        with running(a, b):
            with Capture(one, path):
                assert reaches(a, b)
            assert b.heard > 0
            a.check_books()
        said = fields(path, "ip.src", "vxlan.gbp")
        ours, theirs = f"192.0.2.1\t{KernelPolicy.ours}", f"192.0.2.2\t{0x1234}"
        assert {line for line in said if not line.endswith("\t")} == {ours, theirs}


@pytest.mark.parametrize(("gbp", "learned"), [(7, False), (None, True)])
def test_what_must_not_be_learned_is_not(gbp: int | None, learned: bool) -> None:
    """A peer's don't-learn mark is heard where the network has a policy, and only there."""
    with Topology() as topology:
        one, two = topology.hosts
        a = Inside(topology, one, Segment(), gbp=gbp)
        shape = overlay.VXLAN(
            vni=KEY, local="192.0.2.2", remote="192.0.2.1", gbp=9, gbp_dont_learn=True
        )
        inner = bytes.fromhex(a.mac.replace(":", "") + "02000000000988b5") + bytes(50)
        with running(a), tenant(a) as ear:
            with two.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
                mouth.sendto(shape.encap(inner)[42:], ("192.0.2.1", 4789))
            assert until(lambda: heard(ear) == inner)
            assert (a.network.fdb.lookup("02:00:00:00:00:09") is not None) is learned


def fields(path: str, *names: str) -> list[str]:
    """These fields of every packet of a capture, a line each."""
    words = [word for name in names for word in ("-e", name)]
    command = ["tshark", "-r", path, "-T", "fields", "-E", "occurrence=f", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=OUTSIDE, check=True)
    return done.stdout.splitlines()


# -- outer fragments -----------------------------------------------------------------------


def test_a_kernel_that_fragments() -> None:
    """Its tenant's packets are too large for the underlay, and it cuts the outer ones.

    Over IPv4; over IPv6 it does not.
    """
    with Topology() as topology:
        one, two = topology.hosts
        a = Inside(topology, one, Segment(), mtu=8000)
        b = KernelVxlan(topology, two, Segment())
        with running(a, b):
            b.host.ip("link", "set", TENANT, "mtu", "4000")
            a.host.ip("link", "set", TENANT, "mtu", "4000")
            with tenant(a) as ear, tenant(b) as mouth:
                assert reaches(a, b)
                sent = frame(a, b, 1, 3900)
                mouth.send(sent)
                assert until(lambda: heard(ear) == sent), a.network.stats
            a.check_books()


def pieces(packet: bytes, size: int = 1208) -> list[bytes]:
    """An Ethernet frame with an IPv4 packet as fragments of it, ``size`` bytes of payload each."""
    header, payload = packet[14:34], packet[34:]
    made = []
    for start in range(0, len(payload), size):
        part = payload[start : start + size]
        more = 0x2000 if start + size < len(payload) else 0
        words = header[:2] + (20 + len(part)).to_bytes(2, "big") + b"\x12\x34"
        words += (more | start // 8).to_bytes(2, "big") + header[8:10] + b"\0\0" + header[12:]
        total = sum(int.from_bytes(words[i : i + 2], "big") for i in range(0, 20, 2))
        total = (total & 0xFFFF) + (total >> 16)
        checksum = (total & 0xFFFF) + (total >> 16) ^ 0xFFFF
        made.append(packet[:14] + words[:10] + checksum.to_bytes(2, "big") + words[12:] + part)
    return made


@pytest.mark.parametrize("fragments", ["reassemble", "drop"])
@pytest.mark.parametrize("tunnel", ["vxlan", "nvgre"])
def test_fragments_by_hand(tunnel: str, fragments: str) -> None:
    """In any order; the kernel puts UDP's together before a socket sees them."""
    with Topology() as topology:
        one, two = topology.hosts
        a = Inside(topology, one, Segment(tunnel), fragments=fragments)
        with running(a), tenant(a) as ear:
            inner = bytes.fromhex(a.mac.replace(":", "") + "02000000000988b5") + wire.pattern(
                1400, 7
            )
            ends = {"local": "192.0.2.2", "remote": "192.0.2.1", "df": False}
            macs = {"local_mac": "02:ff:00:00:00:02", "remote_mac": "02:ff:00:00:00:01"}
            shape = (
                overlay.VXLAN(vni=KEY, **ends, **macs)
                if tunnel == "vxlan"
                else overlay.NVGRE(vsid=KEY, **ends, **macs)
            )
            with two.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
                raw.bind((UNDERLAY, 0))
                parts = pieces(shape.encap(inner), 488)
                assert len(parts) == 3
                for part in reversed(parts):
                    raw.send(part)
            if fragments == "drop" and tunnel == "nvgre":
                total = a.vtep.stats.total
                assert until(lambda: a.vtep.stats.total.drops.get(Status.IP_FRAGMENT) == 3), total
                assert heard(ear) == b""
            else:
                assert until(lambda: heard(ear) == inner), a.vtep.stats
            a.check_books()


# -- TCP and ARP ---------------------------------------------------------------------------


@pytest.mark.parametrize("clamp", [True, 1000])
def test_the_mss_of_tcp(clamp: bool | int) -> None:
    """Tenants that believe in a large MTU are held to what fits, whoever calls."""
    with Topology() as topology:
        one, two = topology.hosts
        a = Inside(topology, one, Segment(), mss_clamp=clamp)
        b = KernelVxlan(topology, two, Segment())
        with running(a, b):
            for peer in (a, b):
                peer.host.ip("link", "set", TENANT, "mtu", "4000")
            for sender, receiver in ((a, b), (b, a)):
                assert (
                    mss(sender, receiver) == (a.network.mtu - 40 if clamp is True else clamp) - 12
                )
                assert traffic.transfer(sender, receiver, 3_000_000).intact
            assert Status.MTU_EXCEEDED not in a.network.stats.drops
            a.check_books()


def mss(caller: Peer, called: Peer) -> int:
    """What a TCP connection uses, in its caller's eyes (timestamps take 12 bytes of it)."""
    with called.host.entered():
        listener = socket.create_server((called.address(), 0))
    with listener, caller.host.entered(), socket.create_connection(listener.getsockname()) as one:
        return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_arp_is_answered_here(tunnel: str) -> None:
    """For an address that is known no request passes the underlay, and the answer is right."""
    with Topology() as topology:
        a, b = (
            Inside(topology, host, Segment(tunnel), suppress_arp=True) for host in topology.hosts
        )
        with running(a, b), tenant(b, 0x0806) as ear:
            a.network.neighbors.add(b.address(), b.mac)
            assert traffic.arping(a, b, count=1) == [b.mac]
            assert a.drops(Status.SUPPRESSED) == a.network.stats.answers == 1
            assert reaches(a, b)  # what went before has arrived
            arrived = iter(lambda: heard(ear), b"")
            requests = [f for f in arrived if f[20:22] == b"\0\1"]
            assert requests == []
            a.check_books()
            b.check_books()
