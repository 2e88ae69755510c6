"""Route: how remotes are reached, and word of what changes it; ICMP that says too big."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from namespace import Namespace
from overlay import ConfigError
from overlay.io import route
from overlay.io.icmp import IcmpListener, TooBig
from overlay.io.netlink import attributes, messages
from overlay.io.packet import Packet
from overlay.io.route import Change, Interface, NextHop
from veth import A, B, frame, network, put, quiet, run, running, space, tunnel, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")

TEXT_A, TEXT_B = A.hex(":"), B.hex(":")


@pytest.fixture
def hosts() -> Iterator[Namespace]:
    """Here 192.0.2.1 on v0; in the namespace given 192.0.2.2 on v1."""
    with space() as other, network():
        run(f"ip link add v0 address {TEXT_A} type veth peer name v1 address {TEXT_B}")
        run(f"ip link set v1 netns /proc/{os.getpid()}/fd/{other.fd}")
        addresses("v0", 1)
        with other.inside():
            addresses("v1", 2)
        running("v0")
        yield other


def addresses(interface: str, number: int) -> None:
    run(
        f"ip link set {interface} addrgenmode none",
        f"ip link set {interface} up",
        f"ip addr add 192.0.2.{number}/24 dev {interface}",
        f"ip addr add 2001:db8::{number}/64 dev {interface} nodad",
        f"ip addr add fe80::{number}/64 dev {interface} nodad",
    )


def index(name: str) -> int:
    return socket.if_nametoindex(name)


@pytest.mark.parametrize(
    ("remote", "local"), [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")]
)
def test_a_remote_on_the_link(hosts: Namespace, remote: str, local: str) -> None:
    expected = NextHop("v0", index("v0"), local, None, B, A, 1500)
    assert route.resolve(remote, wait=10.0) == expected
    assert route.resolve(remote) == expected
    assert route.resolve(remote, local) == expected


@pytest.mark.parametrize("remote", ["198.51.100.9", "203.0.113.9", "2001:db8:1::9"])
def test_a_remote_behind_a_router(hosts: Namespace, remote: str) -> None:
    run(
        "ip route add 198.51.100.0/24 via 192.0.2.2 mtu 1400",
        "ip route add 203.0.113.0/24 via inet6 2001:db8::2 dev v0 mtu 1400",
        "ip route add 2001:db8:1::/64 via fe80::2 dev v0 mtu 1400",
    )
    hop = route.resolve(remote, wait=10.0)
    assert hop is not None
    assert hop.gateway in ("192.0.2.2", "2001:db8::2", "fe80::2")
    assert (hop.mac, hop.mtu) == (B, 1400)


def test_the_source_chooses_the_route(hosts: Namespace) -> None:
    run("ip link add w0 type veth peer name w1")
    quiet("w0", "w1")
    run("ip addr add 192.0.2.9/32 dev w0", "ip route add 198.51.100.0/24 dev v0")
    run("ip rule add from 192.0.2.9 lookup 7", "ip route add 198.51.100.0/24 dev w0 table 7")
    hops = [route.resolve("198.51.100.1", local) for local in ("192.0.2.1", "192.0.2.9")]
    assert [hop and hop.interface for hop in hops] == ["v0", "w0"]


@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"])
def test_a_remote_that_is_this_host(hosts: Namespace, remote: str) -> None:
    hop = route.resolve(remote)
    assert hop == NextHop("lo", 1, remote, None, bytes(6), bytes(6), 65535)


def test_groups(hosts: Namespace) -> None:
    run("ip route add 224.0.0.0/4 dev v0")
    four = route.resolve("239.129.2.3")
    six = route.resolve("ff05::1:2")
    assert four is not None
    assert four.mac == bytes.fromhex("01005e010203")
    assert six is not None
    assert six.mac == bytes.fromhex("333300010002")


def test_no_route(hosts: Namespace) -> None:
    run("ip route add blackhole 192.0.3.0/24", "ip route add unreachable 2001:db8:3::/64")
    for remote in ("192.0.3.1", "2001:db8:3::1", "203.0.113.5"):
        assert route.resolve(remote) is None


def test_a_neighbour_that_does_not_answer(hosts: Namespace) -> None:
    hop = route.resolve("192.0.2.77")
    assert hop is not None
    assert hop.mac is None
    assert "192.0.2.77" in run("ip neigh show dev v0"), "the kernel asks"


def test_a_neighbour_that_is_set_is_left_so(hosts: Namespace) -> None:
    run("ip neigh replace 192.0.2.77 lladdr 02:00:00:00:00:77 dev v0 nud permanent")
    for _ in range(2):
        hop = route.resolve("192.0.2.77")
        assert hop is not None
        assert hop.mac == bytes.fromhex("020000000077")
    assert "PERMANENT" in run("ip neigh show 192.0.2.77 dev v0")


def test_without_rights(hosts: Namespace) -> None:
    code = """
import os; os.setgid(65534); os.setuid(65534)
from overlay.io.route import resolve, interface_of
print(resolve("192.0.2.2", wait=10.0).mac.hex(":"), interface_of("192.0.2.1").name)
"""
    done = subprocess.run(
        [sys.executable, "-c", "import overlay.io.route\n" + code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.split() == [TEXT_B, "v0"], done.stderr


def test_interfaces(hosts: Namespace) -> None:
    expected = Interface("v0", index("v0"), 1500, A, True)
    assert route.interface("v0") == route.interface(index("v0")) == expected
    assert route.interface_of("192.0.2.1") == route.interface_of("2001:db8::1") == expected
    assert route.interface_of("127.0.0.1").name == "lo"
    assert route.address_of("v0") == "192.0.2.1"
    run("ip addr del 192.0.2.1/24 dev v0")
    assert route.address_of("v0") == "2001:db8::1"
    run("ip link set v0 down", "ip link set v0 mtu 1280", "ip tuntap add t0 mode tun")
    assert route.interface("v0") == Interface("v0", index("v0"), 1280, A, False)
    assert route.interface("t0").mac is None


def test_mistakes_are_named(hosts: Namespace) -> None:
    for call, field in [
        (lambda: route.resolve("x"), "remote"),
        (lambda: route.resolve("192.0.2.2", "x"), "local"),
        (lambda: route.resolve("192.0.2.2", "::1"), "local"),
        (lambda: route.interface("none0"), "interface"),
        (lambda: route.interface(9999), "interface"),
        (lambda: route.interface_of("192.0.2.2"), "local"),
        (lambda: route.address_of("none0"), "interface"),
    ]:
        with pytest.raises(ConfigError) as error:
            call()
        assert error.value.field == field


def test_changes_are_told(hosts: Namespace) -> None:
    told: list[Change] = []
    v0 = index("v0")
    with route.watch(told.append):
        for command, change in [
            ("ip link set v0 down", Change("link", v0, None, False)),
            ("ip link set v0 up", Change("link", v0, None, True)),
            ("ip addr add 192.0.2.9/32 dev v0", Change("address", v0, "192.0.2.9", True)),
            ("ip addr del 192.0.2.9/32 dev v0", Change("address", v0, "192.0.2.9", False)),
            ("ip route add 198.51.100.0/24 dev v0", Change("route", v0, "198.51.100.0", True)),
            ("ip route del 198.51.100.0/24 dev v0", Change("route", v0, "198.51.100.0", False)),
            (
                f"ip neigh replace 192.0.2.5 lladdr {TEXT_B} dev v0",
                Change("neighbor", v0, "192.0.2.5", True),
            ),
            ("ip neigh del 192.0.2.5 dev v0", Change("neighbor", v0, "192.0.2.5", False)),
        ]:
            told.clear()
            run(command)
            assert until(lambda wanted=change: wanted in told), (command, told)
    told.clear()
    run("ip link set v0 down")
    assert told == []


def test_a_watch_without_a_thread(hosts: Namespace) -> None:
    with route.Watch() as watch:
        assert watch.read() == []
        run("ip link set v0 down")
        assert select.select([watch], [], [], 10.0)[0]
        assert Change("link", index("v0"), None, False) in watch.read()


def test_a_flood_of_changes_is_told_as_lost(hosts: Namespace) -> None:
    with route.Watch() as watch:
        watch._netlink.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for number in range(60):
            run(f"ip addr add 10.9.{number}.1/32 dev v0")
        assert Change("lost") in watch.read()


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_messages_that_are_cut_short(cut: int) -> None:
    whole = struct.pack("=IHHII", 36, 24, 0, 0, 0) + bytes(12) + struct.pack("=HHI", 8, 4, 7)
    for _, body in messages(whole[:cut]):
        attributes(body)
    assert [m.type for m in messages(whole)] == [24]
    assert list(messages(struct.pack("=IHHII", 3, 24, 0, 0, 0))) == []
    assert attributes(struct.pack("=HH", 2, 1)) == {}


# ---- ICMP --------------------------------------------------------------------------------


def too_big(listener: IcmpListener, count: int = 1) -> list[TooBig]:
    heard: list[TooBig] = []
    until(lambda: heard.extend(listener.recv()) or len(heard) >= count, 2.0 if count else 0.2)
    return heard


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["stt", "nvgre", "vxlan"])
def test_a_router_says_too_big(kind: str, family: int) -> None:
    """Three hosts in a row; the far link takes 1400 bytes only."""
    prefix, remote = ("192.0.3.", "192.0.3.9") if family == 4 else ("2001:db8:3::", "2001:db8:3::9")
    local = "192.0.2.1" if family == 4 else "2001:db8::1"
    with space() as router, network():
        run(f"ip link add v0 address {TEXT_A} type veth peer name v1 address {TEXT_B}")
        run(f"ip link set v1 netns /proc/{os.getpid()}/fd/{router.fd}")
        addresses("v0", 1)
        with router.inside():
            addresses("v1", 2)
            run("ip link add w0 type veth peer name w1")
            quiet("w0", "w1")
            run("ip link set w0 mtu 1400", "sysctl -qw net.ipv4.ip_forward=1")
            run("sysctl -qw net.ipv6.conf.all.forwarding=1")
            run(
                f"ip addr add {prefix}1/{24 if family == 4 else 64} dev w0"
                + (" nodad" if family == 6 else "")
            )
            run(f"ip neigh replace {remote} lladdr {TEXT_A} dev w0")
        running("v0")
        run(
            f"ip route add {prefix}{'0/24' if family == 4 else '/64'} via "
            + ("192.0.2.2" if family == 4 else "2001:db8::2")
        )
        hop = route.resolve(remote, wait=10.0)
        assert hop is not None
        packet = tunnel(kind, family, remote=remote).encap(frame(1, 1390))
        with (
            IcmpListener(local, protocols=[kind]) as listener,
            IcmpListener("192.0.2.77" if family == 4 else "2001:db8::77", protocols=[kind]) as deaf,
            IcmpListener(local, protocols=["stt" if kind == "nvgre" else "nvgre"]) as other,
            Packet("v0", protocols=[kind], local=local) as device,
        ):
            assert device.routed
            assert device.errors() == []
            assert not put(device, [packet]).drops()
            assert select.select([listener.fileno()], [], [], 10.0)[0]
            assert too_big(listener) == [TooBig(remote, 1400, local)]
            assert deaf.recv() == other.recv() == []
            assert device.errors() == [TooBig(remote, 1400, local)]
            if kind == "stt":  # cut to fit from now on: nothing more is said
                assert not put(device, [packet]).drops()
                assert too_big(listener, 0) == []


def icmp_4(mtu: int, quote: bytes, *, wrong: int = 0, code: int = 4) -> bytes:
    import overlay

    body = struct.pack("!BBHHH", 3, code, 0, 0, mtu) + quote
    check = overlay.checksum(body) ^ wrong
    return body[:2] + check.to_bytes(2, "big") + body[4:]


@pytest.mark.parametrize(
    ("what", "mtu"),
    [
        ("good", 1300),
        ("tiny", 552),
        ("none named", 1006),
        ("not smaller", None),
        ("checksum", None),
        ("another code", None),
        ("not ours", None),
        ("another port", None),
        ("offset past the frame", None),
        ("may be cut", None),
        ("cut short", None),
        ("version", None),
    ],
)
def test_forged_and_broken_quotes(what: str, mtu: int | None) -> None:
    packet = bytearray(tunnel("stt", 4, local="127.0.0.1").encap(frame(1, 1400))[14:])
    said, options = 1300, {}
    if what == "tiny":
        said = 68
    elif what == "none named":
        said = 0
    elif what == "not smaller":
        said = len(packet)
    elif what == "checksum":
        options = {"wrong": 1}
    elif what == "another code":
        options = {"code": 3}
    elif what == "not ours":
        packet[15] = 9
    elif what == "another port":
        packet[23] = 9
    elif what == "offset past the frame":
        packet[26:28] = b"\xff\xff"
    elif what == "may be cut":
        packet[6] = 0
    elif what == "version":
        packet[0] = 0x65
    quote = bytes(packet[: 24 if what == "cut short" else 100])
    with network(), IcmpListener("127.0.0.1") as listener:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
            s.sendto(icmp_4(said, quote, **options), ("127.0.0.1", 0))
            last = tunnel("stt", 4, local="127.0.0.1", remote="192.0.2.99").encap(frame(1, 1400))
            s.sendto(icmp_4(1000, last[14:100]), ("127.0.0.1", 0))
        heard: list[TooBig] = []
        assert until(lambda: heard.extend(listener.recv()) or (heard and heard[-1].mtu == 1000))
        assert [h.mtu for h in heard[:-1]] == ([] if mtu is None else [mtu])
