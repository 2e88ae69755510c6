"""Firewall: the kernel answers no tunnel packet, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import missing
from overlay import ConfigError
from overlay.io import firewall
from overlay.io.firewall import Guard
from overlay.io.packet import Packet
from veth import A, B, frame, network, put, quiet, rings, run, running, take, tunnel, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nftables is Linux's")


def tables() -> list[str]:
    listed = json.loads(run("nft -j list tables"))["nftables"]
    return [entry["table"]["name"] for entry in listed if "table" in entry]


@pytest.fixture
def host() -> Iterator[None]:
    """This host has v1 and the tunnels' addresses; v0 is the wire to it."""
    with network():
        run("ip link add v0 type veth peer name v1", f"ip link set v1 address {B.hex(':')}")
        quiet("v0")
        run(
            "ip link set v1 up",
            "ip addr add 192.0.2.2/24 dev v1",
            "ip addr add 2001:db8::2/64 dev v1 nodad",
            f"ip neigh replace 192.0.2.1 lladdr {A.hex(':')} dev v1",
            f"ip neigh replace 2001:db8::1 lladdr {A.hex(':')} dev v1",
        )
        running("v0", "v1")
        yield


def answers(wire: Packet, packets: list[bytes], asked: bytes) -> list[bytes]:
    """What the host says to these packets before it answers an ARP request."""
    put(wire, [*packets, asked])
    got: list[bytes] = []
    assert until(
        lambda: got.extend(take(wire, 1, 0.2)) or any(f[12:14] == b"\x08\x06" for f in got)
    )
    return [f for f in got if f[6:12] == B and f[12:14] != b"\x08\x06" and not neighbour(f)]


def neighbour(packet: bytes) -> bool:
    """Neighbour discovery and its like: ICMPv6 of 130 or more."""
    return packet[12:14] == b"\x86\xdd" and (packet[20] == 0 or packet[54] >= 128)


ARP = (
    b"\xff" * 6 + A + bytes.fromhex("08060001080006040001") + A
    + bytes([192, 0, 2, 1]) + bytes(6) + bytes([192, 0, 2, 2])
)  # fmt: skip


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["stt", "nvgre", "vxlan"])
def test_the_kernel_does_not_answer(host: None, kind: str, family: int) -> None:
    packets = [tunnel(kind, family).encap(frame(i)) for i in range(5)]
    with Packet("v0") as wire:
        assert until(lambda: answers(wire, packets, ARP)), "without a guard it would"
        with Packet("v1", protocols=[kind]) as device:
            assert answers(wire, packets, ARP) == []
            assert take(device, 5) == packets, "which we have seen all the same"
        assert until(lambda: answers(wire, packets, ARP)), "the rule went with the device"
    assert tables() == []


def test_only_what_is_for_the_local_addresses(host: None) -> None:
    run("ip addr add 192.0.2.3/24 dev v1")
    ours = tunnel("stt", 4).encap(frame(1))
    other = tunnel("stt", 4, remote="192.0.2.3").encap(frame(2))
    with Packet("v0") as wire, Packet("v1", protocols=["stt"], local="192.0.2.2") as device:
        assert answers(wire, [ours], ARP) == []
        assert len(answers(wire, [other], ARP)) == 1
        assert take(device, 1) == [ours]
        assert take(device, 1, 0.05) == []


def test_several_guards_are_each_their_owners(host: None) -> None:
    run("ip link add w0 type veth peer name w1")
    with Guard("v1", ["stt"]) as one:
        with Guard("v1", ["stt", "nvgre"]) as two, Guard("w0", ["stt"]) as three:
            assert sorted(tables()) == sorted([one.table, two.table, three.table])
            assert firewall.clean() == []
        assert tables() == [one.table]
        one.close()
        one.close()
        assert tables() == []


OWNER = """
import sys
from overlay.io.packet import Packet
device = Packet("v1", protocols=["stt"])
print(device.guard.table, device.guard._keeper.pid, flush=True)
sys.stdin.read()
"""


def owner() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def end(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    process.wait(10.0)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_rule_goes_with_a_killed_owner(host: None, number: int) -> None:
    process = owner()
    assert process.stdout is not None
    table, _ = process.stdout.readline().split()
    assert tables() == [table]
    end(process, number)
    assert until(lambda: tables() == [])


def test_what_a_killed_owner_left_is_removed_at_the_next_start(host: None) -> None:
    process = owner()
    assert process.stdout is not None
    table, keeper = process.stdout.readline().split()
    os.kill(int(keeper), signal.SIGKILL)
    end(process, signal.SIGKILL)
    assert tables() == [table]
    run("nft add table netdev overlay_guard_mine", "nft add table netdev other")
    with Packet("v1", protocols=["stt"]) as device:
        assert device.guard is not None
        assert sorted(tables()) == sorted([device.guard.table, "other", "overlay_guard_mine"])
    assert sorted(tables()) == ["other", "overlay_guard_mine"]


def test_an_interface_that_is_gone(host: None) -> None:
    device = Packet("v1", protocols=["stt"])
    run("ip link delete v1")
    device.close()
    assert tables() == []


def test_a_device_that_cannot_be_leaves_nothing(host: None) -> None:
    run("ip tuntap add t0 mode tun")
    for interface in ("t0", "none0"):
        with pytest.raises(ConfigError):
            Packet(interface, protocols=["stt"])
    assert tables() == []


def test_without_nft(host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ConfigError, match=r"nft.*guard=False") as error:
        Packet("v1", protocols=["stt"])
    assert error.value.field == "guard"
    with Packet("v1", protocols=["stt"], guard=False) as device:
        assert device.guard is None


def test_without_the_right_to() -> None:
    code = """
import os, sys
os.setgid(65534); os.setuid(65534)
from overlay import ConfigError
from overlay.io.firewall import Guard
from overlay.io.packet import Packet
for make in (lambda: Guard("lo", ["stt"]), lambda: Packet("lo")):
    try:
        make()
    except ConfigError as error:
        print(error)
"""
    if os.geteuid() != 0:
        missing("root")
    with network():
        done = subprocess.run(
            [sys.executable, "-c", "import overlay._live, overlay.io.packet\n" + code],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
    assert "CAP_NET_ADMIN" in done.stdout, done.stderr
    assert "CAP_NET_RAW" in done.stdout


@rings
def test_stt_both_ways_on_one_host(ring: int) -> None:
    """A remote that is this host: by the loopback interface."""
    with network():
        run("ip addr add 192.0.2.1/32 dev lo", "ip addr add 192.0.2.2/32 dev lo")
        with Packet("lo", protocols=["stt"], ring=ring) as device:
            assert device.mac is None
            there = tunnel("stt", 4, local_mac="00:00:00:00:00:00", remote_mac="00:00:00:00:00:00")
            packets = [there.encap(frame(1)), there.encap(frame(2, 9000))]
            assert not put(device, packets).drops()
            assert take(device, 2) == packets
