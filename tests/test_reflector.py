"""Reflector: datagrams go back as a gateway load balancer expects, and to nobody else."""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from lab import need_hosts
from mirror import Listening, two_hosts
from overlay import ConfigError
from overlay.io.device import burst
from overlay.io.reflector import Reflector
from overlay.io.udp import Udp
from overlay.lab.host import Host
from veth import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sockets are Linux's")

Hosts = tuple[Host, Host]

#: What a Gateway Load Balancer writes: GWLBE id, attachment id, flow cookie; VNI 0, IPv4.
OPTIONS = b"".join(
    struct.pack("!HBB", 0x0108, kind, len(value) // 4) + value
    for kind, value in ((1, bytes(range(8))), (2, bytes(range(8, 16))), (3, b"cook"))
)
HEADER = struct.pack("!BBH", len(OPTIONS) // 4, 0, 0x0800) + bytes(4) + OPTIONS


def datagram(number: int) -> bytes:
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 48, number, 0, 64, 17, 0,
                     bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))  # fmt: skip
    return HEADER + ip + struct.pack("!HHHH", 1, 2, 28, 0) + number.to_bytes(20, "big")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    need_hosts()
    with two_hosts() as both:
        yield both


def sockets(host: Host, undo: ExitStack, *ports: int) -> list[socket.socket]:
    with host.entered():
        made = [undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in ports]
    for s, port in zip(made, ports, strict=True):
        s.settimeout(10)
        s.bind(("192.0.2.1", port))
    return made


def reflect(device: Udp, reflector: Reflector, count: int) -> None:
    batch = burst(64, 8 << 20)
    taken = 0
    while taken < count:
        assert select.select([device.fileno()], [], [], 10)[0]
        device.recv(batch)
        reflector.send(batch)
        taken += batch.count


def test_they_come_back_unchanged_from_the_ports_they_came_from(hosts: Hosts) -> None:
    sender, receiver = hosts
    with ExitStack() as undo:
        ear, one, two = sockets(sender, undo, 6081, 50000, 60001)
        with receiver.entered():
            device = undo.enter_context(Udp("0.0.0.0", 6081, senders=0))
            reflector = undo.enter_context(Reflector(["192.0.2.0/24"], sockets=1))
            sent = []
            for n, end in enumerate([one, two, one]):
                end.sendto(datagram(n), ("192.0.2.2", 6081))
                sent.append((datagram(n), ("192.0.2.2", end.getsockname()[1])))
            reflect(device, reflector, 3)
            assert [ear.recvfrom(2000) for _ in range(3)] == sent
            assert (reflector.returned, reflector.kept) == (3, 0)


@pytest.mark.parametrize(
    ("networks", "data"),
    [
        (["192.0.2.128/25", "2001:db8::/32"], datagram(1)),  # another's
        (["0.0.0.0/0"], b""),
        (["0.0.0.0/0"], HEADER[:7]),
        (["0.0.0.0/0"], HEADER[:-1]),  # options cut short
        (["0.0.0.0/0"], b"\x40" + HEADER[1:]),  # no version of GENEVE
    ],
)
def test_what_stays(hosts: Hosts, networks: list[str], data: bytes) -> None:
    sender, receiver = hosts
    with ExitStack() as undo:
        (end,) = sockets(sender, undo, 50000)
        with receiver.entered():
            device = undo.enter_context(Udp("0.0.0.0", 6081, senders=0))
            reflector = undo.enter_context(Reflector(networks))
            end.sendto(data, ("192.0.2.2", 6081))
            reflect(device, reflector, 1)
            assert (reflector.returned, reflector.kept) == (0, 1)


def test_nothing_goes_in_circles(hosts: Hosts) -> None:
    """A datagram with an address of this host as its sender would come again, for ever."""
    _, receiver = hosts
    with ExitStack() as undo, receiver.entered():
        device = undo.enter_context(Udp("0.0.0.0", 6081, senders=0))
        reflector = undo.enter_context(Reflector(["0.0.0.0/0"]))
        for address in ("192.0.2.2", "127.0.0.1", "127.0.0.77"):
            end = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            end.bind((address, 0))
            end.sendto(datagram(0), ("127.0.0.1" if "127" in address else "192.0.2.2", 6081))
        reflect(device, reflector, 3)
        assert (reflector.returned, reflector.kept) == (0, 3)


def test_the_command_is_an_appliance(hosts: Hosts, tmp_path: Path) -> None:
    """Healthy, recording and transparent at once."""
    sender, receiver = hosts
    out = tmp_path / "m.pcap"
    listening = Listening(receiver, ":6081", "-w", out, "--reflect", "192.0.2.1/32",
                          "--health-check", 80, "--json", ports=(6081,))  # fmt: skip
    with ExitStack() as undo:
        ear, end = sockets(sender, undo, 6081, 55555)
        with sender.entered():
            assert until(lambda: is_healthy("192.0.2.2"))
        for n in range(50):
            end.sendto(datagram(n), ("192.0.2.2", 6081))
            assert ear.recvfrom(2000) == (datagram(n), ("192.0.2.2", 55555))
    status, said, error = listening.end(signal.SIGTERM)
    assert status == 0, error
    report = json.loads(said)
    assert (report["frames"], report["returned"], report["not_returned"]) == (50, 50, 0)
    assert report["health_checks"] >= 1


def is_healthy(address: str) -> bool:
    with suppress(ConnectionError), socket.create_connection((address, 80), 10):
        return True
    return False


@pytest.mark.parametrize("networks", [[], ["nowhere"], ["192.0.2.0/33"]])
def test_networks_that_are_none(networks: list[str]) -> None:
    with pytest.raises(ConfigError):
        Reflector(networks)
