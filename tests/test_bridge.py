"""The switch beside its twin, whatever the sequence of frames and changes; tenants stay apart."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import strategies
import wire
from overlay.errors import ConfigError
from overlay.reference import bridge as model
from switches import LOCAL, Switches, tunnel_to

MACS = [bytes.fromhex(f"0200000000{n:02x}") for n in range(6)]
GROUPS = [
    b"\xff" * 6,
    b"\x33\x33\0\0\0\1",
    b"\x01\x80\xc2\0\0\x0e",
    b"\x01\x80\xc2\0\0\x10",
    bytes(6),
]
REMOTES = ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
KEYS = [0x5001, 0x5002, 0x5003]
PROTOCOLS = ["vxlan", "nvgre", "stt"]
DEVICES = ["d0", "d1", "d2"]
VLANS = [None, None, 100, 200]

macs = st.sampled_from(MACS)
targets = st.sampled_from(MACS + GROUPS)
sources = st.sampled_from(MACS * 5 + GROUPS)


def arp(mac: bytes, operation: int, sender: int, target: int) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return body + mac + bytes([10, 0, 0, sender]) + bytes(6) + bytes([10, 0, 0, target])


@st.composite
def frames(draw: st.DrawFn, marker: bytes = b"") -> bytes:
    """A frame between a few hosts: data, ARP, IP that is too large, tagged or cut."""
    destination, source = draw(targets), draw(sources)
    kind = draw(st.sampled_from(["data", "data", "data", "arp", "large", "short"]))
    if kind == "short":
        return draw(st.binary(min_size=1, max_size=13))
    if kind == "arp":
        octets = st.integers(0, 4)
        body = arp(source, draw(st.integers(1, 2)), draw(octets), draw(octets))
        frame = destination + source + b"\x08\x06" + body + marker
    elif kind == "large":
        size = draw(st.sampled_from([1422, 1423, 2000]))  # the first fits with 28 bytes of headers
        flags = draw(st.sampled_from([0, 0x4000]))
        data = marker + wire.pattern(size - len(marker))
        body = wire.ipv4(wire.udp(data, 1, 2, "10.0.0.1", "10.0.0.2"), 17, "10.0.0.1", "10.0.0.2",
                         flags=flags)  # fmt: skip
        frame = destination + source + b"\x08\0" + body
    else:
        frame = destination + source + b"\x88\xb5" + marker + wire.pattern(draw(st.integers(0, 60)))
    vid = draw(st.sampled_from([None, None, None, 0, 100, 100, 200, 300]))
    if vid is not None:
        tpid = draw(st.sampled_from([0x8100, 0x8100, 0x8100, 0x88A8]))
        frame = wire.tag(frame, (tpid, draw(st.integers(0, 15)) << 12 | vid))
    return frame


class Beside(RuleBasedStateMachine):
    """Any order of changes and frames: the same frames out, the same drops, the same tables."""

    def __init__(self) -> None:
        super().__init__()
        self.s = Switches()
        self.now = 0.0

    def teardown(self) -> None:
        self.s.close()

    def some_network(self, data: st.DataObject) -> model.Network:
        return data.draw(st.sampled_from(self.s.bridge.networks))

    def some_place(self, data: st.DataObject, network: model.Network) -> model.Where:
        return data.draw(st.sampled_from([*network.ports, *network.remotes]))

    def has_networks(self) -> bool:
        return bool(self.s.bridge.networks)

    def has_ports(self) -> bool:
        return any(n.ports for n in self.s.bridge.networks)

    # -- changes -----------------------------------------------------------------

    @rule(
        key=st.sampled_from(KEYS),
        tunnel=st.sampled_from(PROTOCOLS),
        learn=st.sampled_from([True, True, True, False]),
        suppress_arp=st.booleans(),
        accept=st.sampled_from(["listed", "listed", "any"]),
        limit=st.sampled_from([None, None, 2]),
        gbp=st.sampled_from([None, 7]),
    )
    def add_network(self, key: int, tunnel: str, **options: Any) -> None:
        taken = self.s.bridge.network_of(tunnel, key) is not None
        if not taken:
            self.s.add_network(key, tunnel, **options)
            return
        with pytest.raises(ConfigError):
            self.s.vtep.add_network(key, tunnel=tunnel)

    @precondition(has_networks)
    @rule(data=st.data(), device=st.sampled_from(DEVICES), vlan=st.sampled_from(VLANS),
          own=st.sampled_from([None, None, *MACS[:2]]))  # fmt: skip
    def add_port(
        self, data: st.DataObject, device: str, vlan: int | None, own: bytes | None
    ) -> None:
        network = self.some_network(data)
        taken = any(
            (p.device, p.vlan) == (device, vlan) for n in self.s.bridge.networks for p in n.ports
        )
        if taken:
            with pytest.raises(ConfigError):
                self.s.real[network].add_port(self.s.near[device], vlan=vlan)
            return
        if own and network.fdb.lookup(own):
            own = None
        self.s.add_port(network, device, vlan=vlan, mac=own.hex(":") if own else None)

    @precondition(has_networks)
    @rule(
        data=st.data(),
        ip=st.sampled_from(REMOTES),
        tunnel=st.sampled_from(PROTOCOLS),
        relay=st.sampled_from([False, False, True]),
        flood=st.sampled_from([True, True, False]),
    )
    def add_remote(self, data: st.DataObject, ip: str, tunnel: str, **options: Any) -> None:
        network = self.some_network(data)
        taken = self.s.bridge.network_of(tunnel, network.key) not in (None, network)
        there = any((r.ip, r.tunnel) == (ip, tunnel) for r in network.remotes)
        if taken or there:
            with pytest.raises(ConfigError):
                self.s.real[network].add_remote(ip, tunnel=tunnel)
            return
        self.s.add_remote(network, ip, tunnel=tunnel, **options)

    @precondition(has_networks)
    @rule(data=st.data())
    def remove_place(self, data: st.DataObject) -> None:
        network = self.some_network(data)
        if not network.ports and not network.remotes:
            self.s.remove_network(network)
            return
        place = self.some_place(data, network)
        if isinstance(place, model.Port):
            self.s.remove_port(network, place)
        else:
            self.s.remove_remote(network, place)

    @precondition(has_networks)
    @rule(data=st.data())
    def remove_network(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 3)) == 0:
            self.s.remove_network(self.some_network(data))

    @precondition(has_ports)
    @rule(data=st.data(), mac=macs, sticky=st.booleans())
    def bind(self, data: st.DataObject, mac: bytes, sticky: bool) -> None:
        network = self.some_network(data)
        entry = network.fdb.lookup(mac)
        if (network.ports or network.remotes) and not (entry and entry.own):
            self.s.bind(network, mac, self.some_place(data, network), sticky)

    @precondition(has_networks)
    @rule(data=st.data(), mac=macs)
    def unbind(self, data: st.DataObject, mac: bytes) -> None:
        network = self.some_network(data)
        entry = network.fdb.lookup(mac)
        if entry and not entry.own:
            self.s.unbind(network, mac)

    @precondition(has_networks)
    @rule(data=st.data())
    def flush(self, data: st.DataObject) -> None:
        network = self.some_network(data)
        place = None
        if (network.ports or network.remotes) and data.draw(st.booleans()):
            place = self.some_place(data, network)
        self.s.flush(network, place)

    @precondition(has_networks)
    @rule(data=st.data(), last=st.integers(1, 3), mac=macs)
    def know(self, data: st.DataObject, last: int, mac: bytes) -> None:
        network = self.some_network(data)
        self.s.know(network, f"10.0.0.{last}", bytes([10, 0, 0, last]), mac)

    # -- traffic -----------------------------------------------------------------

    @precondition(has_ports)
    @rule(device=st.sampled_from(DEVICES), many=st.lists(frames(), min_size=1, max_size=6))
    def local(self, device: str, many: list[bytes]) -> None:
        if not any(p.device == device for n in self.s.bridge.networks for p in n.ports):
            return
        for frame in many:
            self.s.local(device, frame)

    @precondition(has_networks)
    @rule(data=st.data(), many=st.lists(frames(), min_size=1, max_size=6),
          quiet=st.sampled_from([False, False, True]))  # fmt: skip
    def tunnelled(self, data: st.DataObject, many: list[bytes], quiet: bool) -> None:
        protocol, key = data.draw(st.sampled_from(PROTOCOLS)), data.draw(st.sampled_from(KEYS))
        source = data.draw(st.sampled_from([*REMOTES, "192.0.2.99"]))
        options = {"gbp": 7, "gbp_dont_learn": quiet} if protocol == "vxlan" else {}
        for frame in many:
            if len(frame) >= 14:
                self.s.tunnelled(protocol, key, source, frame, **options)

    @invariant()
    def agree(self) -> None:
        self.s.check_tables()
        self.s.check_books()


Beside.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBeside = Beside.TestCase


# -- isolation ---------------------------------------------------------------------------


MARKS = [b"<red-tenant>", b"<blue-tenant>", b"<green-tenant>"]


class Tenants:
    """Three networks on shared devices and remotes; whatever leaves is held against its place."""

    def __init__(self, shape: list[tuple[str, int]], vlans: list[int | None]) -> None:
        self.s = Switches(devices=4)
        self.networks = []
        self.places: dict[object, int] = {}  # (device, VID) or (tunnel, key) -> which network
        for n, (tunnel, key) in enumerate(shape):
            network = self.s.add_network(key, tunnel, suppress_arp=n == 1, accept="any")
            self.networks.append(network)
            self.s.add_port(network, "d0", vlan=vlans[n])
            self.s.add_port(network, f"d{n + 1}")
            self.places |= {("d0", vlans[n]): n, (f"d{n + 1}", None): n, (tunnel, key): n}
            for ip in REMOTES[:2]:
                self.s.add_remote(network, ip, relay=ip == REMOTES[0])

    def owner(self, left: tuple[str, Any, bytes]) -> int | None:
        kind, where, frame = left
        if kind != "device":
            return self.places.get((kind, where[0]))
        vid = struct.unpack_from("!H", frame, 14)[0] & 0xFFF if frame[12:14] == b"\x81\0" else None
        return self.places.get((where, vid), self.places.get((where, None)))

    def check(self, left: list[tuple[str, Any, bytes]]) -> None:
        for one in left:
            owner = self.owner(one)
            assert owner is not None
            for n, mark in enumerate(MARKS):
                assert n == owner or mark not in one[2]


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[tuple[str, int]], list[int | None], list[Any]]:
    shape = draw(
        st.lists(
            st.tuples(st.sampled_from(PROTOCOLS), st.sampled_from(KEYS)),
            min_size=3,
            max_size=3,
            unique=True,
        )
    )
    vlans = draw(st.permutations([100, 200, None]))
    owner = st.integers(0, 2)
    act = st.sampled_from(["port", "trunk", "tunnel", "noise"])
    steps = draw(st.lists(st.tuples(act, owner, st.integers(0, 2)), min_size=1, max_size=30))
    # What noise says may be taken for anybody's, so it bears no mark.
    story = [
        (kind, n, far, draw(frames(b"" if kind == "noise" else MARKS[n]))) for kind, n, far in steps
    ]
    return shape, vlans, story


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(stories(), st.data())
def test_no_byte_moves_from_one_network_to_another(
    story: tuple[list[tuple[str, int]], list[int | None], list[Any]], data: st.DataObject
) -> None:
    shape, vlans, steps = story
    tenants = Tenants(shape, vlans)
    try:
        for kind, n, far, frame in steps:
            tunnel, key = shape[n]
            if kind == "port":
                tenants.check(tenants.s.local(f"d{n + 1}", frame))
            elif kind == "trunk":
                # Tagged as this network's, whatever tags are within.
                if vlans[n] is not None and len(frame) >= 14:
                    frame = wire.tag(frame, (0x8100, vlans[n]))
                elif frame[12:14] == b"\x81\0":
                    continue  # another network's tag on the outside: it would be theirs
                tenants.check(tenants.s.local("d0", frame))
            elif kind == "tunnel":
                if len(frame) >= 14:
                    source = [*REMOTES[:2], "192.0.2.99"][far]
                    tenants.check(tenants.s.tunnelled(tunnel, key, source, frame))
            else:
                sound = tunnel_to(tunnel, key, REMOTES[0], LOCAL).encap(frame.ljust(60, b"\0"))
                hostile = data.draw(strategies.corrupted(st.just(sound)))
                tenants.s.packet(hostile)
    finally:
        tenants.s.close()


@pytest.fixture
def trunk() -> Iterator[Switches]:
    switches = Switches()
    yield switches
    switches.close()


def test_a_tag_from_a_tunnel_does_not_enter_the_network_of_that_tag(trunk: Switches) -> None:
    """VLAN hopping: an inner tag that is another port's on the device where the frame leaves."""
    red, rest = trunk.add_network(1), trunk.add_network(2)
    trunk.add_port(red, "d0", vlan=100)
    trunk.add_port(rest, "d0")
    trunk.add_remote(rest, REMOTES[0])
    tagged = wire.tag(GROUPS[0] + MACS[0] + b"\x88\xb5" + bytes(46), (0x8100, 100))
    assert trunk.tunnelled("vxlan", 2, REMOTES[0], tagged) == []
