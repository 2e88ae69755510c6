"""The twin of the switch: what becomes of a frame, rule by rule."""

from __future__ import annotations

import struct

import pytest

import frames
import wire
from overlay import ConfigError, Status
from overlay.reference import icmp, neighbor
from overlay.reference.bridge import Bridge, Drop, Network, Output, Port, Remote
from overlay.reference.fdb import Fdb

A, B, C = (bytes.fromhex(f"0200000000{n:02x}") for n in (0xAA, 0xBB, 0xCC))
EVERYBODY = b"\xff" * 6


def frame(dst: bytes, src: bytes, payload: bytes = b"payload".ljust(46, b"\0")) -> bytes:
    return dst + src + b"\x88\xb5" + payload


class Site:
    """One network with two ports and two remotes, and the switch that has it."""

    def __init__(self, **options: object) -> None:
        self.bridge = Bridge()
        self.network = self.bridge.add_network(Network(5001, **options))  # type: ignore[arg-type]
        self.p0 = self.network.add_port(Port("tap0"))
        self.p1 = self.network.add_port(Port("tap1"))
        self.r0 = self.bridge.add_remote(self.network, Remote("192.0.2.2"))
        self.r1 = self.bridge.add_remote(self.network, Remote("192.0.2.3"))

    def local(self, device: str, raw: bytes, now: float = 0.0) -> list[Output | Drop]:
        return self.bridge.from_device(device, raw, now)

    def tunnelled(
        self, raw: bytes, source: str = "192.0.2.2", *, key: int = 5001, now: float = 0.0,
        tunnel: str = "vxlan", learn: bool = True,
    ) -> list[Output | Drop]:  # fmt: skip
        return self.bridge.from_remote(tunnel, key, source, raw, now, learn)


@pytest.fixture
def site() -> Site:
    return Site()


# -- learning and forwarding --------------------------------------------------------


def test_unknown_and_group_go_everywhere_but_back(site: Site) -> None:
    for destination in (B, EVERYBODY, b"\x33\x33\0\0\0\1"):
        raw = frame(destination, A)
        assert site.local("tap0", raw) == [
            Output(site.p1, raw),
            Output(site.r0, raw),
            Output(site.r1, raw),
        ]


def test_flood_leaves_out_remotes_that_want_none(site: Site) -> None:
    site.bridge.add_remote(site.network, Remote("192.0.2.4", flood=False))
    assert len(site.local("tap0", frame(EVERYBODY, A))) == 3


def test_known_goes_to_one_place(site: Site) -> None:
    site.local("tap1", frame(EVERYBODY, B))
    site.tunnelled(frame(EVERYBODY, C))
    assert site.local("tap0", frame(B, A)) == [Output(site.p1, frame(B, A))]
    assert site.local("tap0", frame(C, A)) == [Output(site.r0, frame(C, A))]
    assert site.tunnelled(frame(A, C)) == [Output(site.p0, frame(A, C))]


def test_same_port(site: Site) -> None:
    site.local("tap0", frame(EVERYBODY, B))
    assert site.local("tap0", frame(B, A)) == [Drop(Status.SAME_PORT)]
    assert site.local("tap0", frame(A, A)) == [Drop(Status.SAME_PORT)]


def test_a_mac_moves(site: Site) -> None:
    site.local("tap0", frame(EVERYBODY, C))
    site.tunnelled(frame(EVERYBODY, C), "192.0.2.3")
    assert site.local("tap0", frame(C, A)) == [Output(site.r1, frame(C, A))]


def test_nothing_is_learned_where_learning_is_off() -> None:
    site = Site(learn=False)
    site.local("tap1", frame(EVERYBODY, B))
    assert len(site.local("tap0", frame(B, A))) == 3


def test_a_full_table_forwards_and_counts(site: Site) -> None:
    site.network.fdb.limit = 1
    site.local("tap0", frame(EVERYBODY, A))
    assert len(site.local("tap1", frame(EVERYBODY, B))) == 3
    assert site.network.fdb.refused == 1
    assert site.network.fdb.lookup(B) is None
    # What is known already may still move.
    site.local("tap1", frame(EVERYBODY, A))
    entry = site.network.fdb.lookup(A)
    assert entry is not None
    assert entry.where is site.p1


def test_no_destination() -> None:
    bridge = Bridge()
    network = bridge.add_network(Network(1))
    network.add_port(Port("tap0"))
    assert bridge.from_device("tap0", frame(B, A), 0.0) == [Drop(Status.NO_DESTINATION)]


# -- what is refused ----------------------------------------------------------------


def test_source_and_destination_addresses(site: Site) -> None:
    for source in (bytes(6), EVERYBODY, b"\x01\0\x5e\0\0\1"):
        assert site.local("tap0", frame(B, source)) == [Drop(Status.SOURCE_MAC)]
        assert site.tunnelled(frame(B, source)) == [Drop(Status.SOURCE_MAC)]
    for last in (0x00, 0x01, 0x0E, 0x0F):
        reserved = b"\x01\x80\xc2\0\0" + bytes([last])
        assert site.local("tap0", frame(reserved, A)) == [Drop(Status.RESERVED_MAC)]
        assert site.tunnelled(frame(reserved, A)) == [Drop(Status.RESERVED_MAC)]
    assert len(site.local("tap0", frame(b"\x01\x80\xc2\0\0\x10", A))) == 3
    assert not len([e for e in site.network.fdb if e[0] != A])


@pytest.mark.parametrize("length", [0, 13])
def test_short_frames(site: Site, length: int) -> None:
    assert site.local("tap0", bytes(length)) == [Drop(Status.FRAME_TOO_SHORT)]
    assert site.tunnelled(bytes(length)) == [Drop(Status.INNER_TOO_SHORT)]


def test_fixed_entries_hold_their_place(site: Site) -> None:
    site.network.fdb.add(C, site.r0)
    assert site.local("tap0", frame(B, C)) == [Drop(Status.SPOOFED_SOURCE)]
    assert site.tunnelled(frame(A, C), "192.0.2.3") == [Drop(Status.SPOOFED_SOURCE)]
    assert len(site.tunnelled(frame(EVERYBODY, C), "192.0.2.2")) == 2


def test_own_mac_comes_from_its_port_alone(site: Site) -> None:
    site.network.add_port(Port("tap2", mac=C))
    assert site.local("tap0", frame(B, C)) == [Drop(Status.OWN_MAC)]
    assert site.tunnelled(frame(B, C)) == [Drop(Status.OWN_MAC)]
    assert len(site.local("tap2", frame(B, C))) == 4


def test_keys_and_remotes(site: Site) -> None:
    raw = frame(EVERYBODY, C)
    assert site.tunnelled(raw, key=5002) == [Drop(Status.UNKNOWN_KEY)]
    assert site.tunnelled(raw, tunnel="nvgre") == [Drop(Status.UNKNOWN_KEY)]
    assert site.tunnelled(raw, "192.0.2.9") == [Drop(Status.UNKNOWN_REMOTE)]
    site.network.accept = "any"
    assert site.tunnelled(raw, "192.0.2.9") == [Output(site.p0, raw), Output(site.p1, raw)]
    assert site.network.fdb.lookup(C) is None  # nobody could be answered there


def test_a_packet_may_forbid_learning(site: Site) -> None:
    site.network.gbp = 7
    site.tunnelled(frame(EVERYBODY, C), learn=False)
    assert site.network.fdb.lookup(C) is None
    site.network.gbp = None
    site.tunnelled(frame(EVERYBODY, C), learn=False)
    assert site.network.fdb.lookup(C) is not None


def test_a_key_belongs_to_one_network(site: Site) -> None:
    with pytest.raises(ConfigError, match="no other network"):
        site.bridge.add_network(Network(5001))
    other = site.bridge.add_network(Network(5001, tunnel="nvgre"))
    with pytest.raises(ConfigError, match="no other network"):
        site.bridge.add_remote(other, Remote("192.0.2.2", tunnel="vxlan"))


# -- split horizon --------------------------------------------------------------------


def test_a_frame_never_leaves_a_tunnel_for_another(site: Site) -> None:
    site.tunnelled(frame(EVERYBODY, C), "192.0.2.3")
    assert site.tunnelled(frame(C, B)) == [Drop(Status.NO_DESTINATION)]
    flooded = site.tunnelled(frame(EVERYBODY, B))
    assert [o.where for o in flooded if isinstance(o, Output)] == [site.p0, site.p1]


def test_a_relay_may(site: Site) -> None:
    relay = site.bridge.add_remote(site.network, Remote("192.0.2.5", relay=True))
    site.tunnelled(frame(EVERYBODY, C), "192.0.2.3")
    raw = frame(EVERYBODY, B)
    assert site.tunnelled(raw, "192.0.2.5") == [
        Output(where, raw) for where in (site.p0, site.p1, site.r0, site.r1)
    ]
    assert site.tunnelled(frame(C, B), "192.0.2.5") == [Output(site.r1, frame(C, B))]
    assert site.tunnelled(frame(B, C), "192.0.2.3") == [Output(relay, frame(B, C))]
    assert site.tunnelled(frame(B, A), "192.0.2.5") == [Drop(Status.SAME_PORT)]
    flooded = site.tunnelled(frame(EVERYBODY, C), "192.0.2.3")
    assert [o.where for o in flooded if isinstance(o, Output)] == [site.p0, site.p1, relay]


def test_tunnels_of_three_kinds_serve_one_network(site: Site) -> None:
    gre = site.bridge.add_remote(site.network, Remote("192.0.2.2", tunnel="nvgre", key=0x5001))
    stt = site.bridge.add_remote(site.network, Remote("192.0.2.2", tunnel="stt"))
    site.tunnelled(frame(EVERYBODY, B), tunnel="nvgre", key=0x5001)
    site.tunnelled(frame(EVERYBODY, C), tunnel="stt")
    assert site.local("tap0", frame(B, A)) == [Output(gre, frame(B, A))]
    assert site.local("tap0", frame(C, A)) == [Output(stt, frame(C, A))]


# -- VLANs on one device ----------------------------------------------------------------


def test_a_tag_chooses_the_port() -> None:
    bridge = Bridge()
    red, blue, rest = (bridge.add_network(Network(key)) for key in (1, 2, 3))
    for network, vlan in ((red, 100), (blue, 200), (rest, None)):
        network.add_port(Port("trunk", vlan))
        network.add_port(Port(f"out{vlan}", 7 if vlan == 200 else None))
    plain = frame(B, A)

    def tagged(tci: int, tpid: int = 0x8100) -> bytes:
        return wire.tag(plain, (tpid, tci))

    def sent(raw: bytes) -> list[tuple[object, bytes]]:
        results = bridge.from_device("trunk", raw, 0.0)
        return [(o.where.device, o.frame) for o in results if isinstance(o, Output)]  # type: ignore[union-attr]

    assert sent(tagged(0xE064)) == [("out100", plain)]
    assert sent(tagged(200)) == [("out200", wire.tag(plain, (0x8100, 7)))]
    for other in (plain, tagged(300), tagged(100, 0x88A8)):
        assert sent(other) == [("outNone", other)]
    # What comes from elsewhere with another port's tag does not enter that port's network.
    leak = bridge.from_device("outNone", wire.tag(frame(A, B), (0x8100, 100)), 0.0)
    assert leak == [Drop(Status.PORT_VLAN)]
    rest.remove_port(rest.ports[0])
    assert bridge.from_device("trunk", plain, 0.0) == [Drop(Status.PORT_VLAN)]


# -- time ---------------------------------------------------------------------------------


def test_ageing() -> None:
    fdb: Fdb[str] = Fdb(ageing=300.0)
    fdb.learn(A, "p", 0.0)
    fdb.learn(B, "p", 0.0)
    fdb.add(C, "p")
    fdb.learn(B, "p", 200.0)
    assert fdb.age(301.0) == 1
    assert [mac for mac, _ in fdb] == [B, C]
    assert fdb.flush("p") == 1
    fdb.add(A, "p", 500.0, sticky=True)
    assert fdb.check(A, "q") == Status.SPOOFED_SOURCE
    assert fdb.learn(A, "q", 900.0) is None
    assert fdb.age(801.0) == 1
    assert fdb.flush("p", static=True) == 1
    assert len(fdb) == 0


# -- answers --------------------------------------------------------------------------------


def arp(sender: str, target: str, *, operation: int = 1, src: bytes = A) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    body += src + wire.packed(sender) + bytes(6) + wire.packed(target)
    return EVERYBODY + src + b"\x08\x06" + body


def solicitation(sender: str, target: str, *, src: bytes = A, hops: int = 255) -> bytes:
    to = wire.packed("ff02::1:ff00:0")[:13] + wire.packed(target)[13:]
    option = b"\1\1" + src if sender != "::" else b""
    body = b"\x87\0\0\0\0\0\0\0" + wire.packed(target) + option
    pseudo = wire.pseudo(wire.packed(sender), to, 58, len(body))
    body = body[:2] + struct.pack("!H", wire.checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, hops) + wire.packed(sender) + to
    return b"\x33\x33" + to[12:] + src + b"\x86\xdd" + head + body


def test_arp_is_answered_and_not_flooded() -> None:
    site = Site(suppress_arp=True)
    site.network.neighbors[wire.packed("10.0.0.2")] = B
    answer, drop = site.local("tap0", arp("10.0.0.1", "10.0.0.2"))
    assert drop == Drop(Status.SUPPRESSED)
    assert isinstance(answer, Output)
    assert answer.where is site.p0
    assert answer.frame[:14] == A + B + b"\x08\x06"
    assert answer.frame[20:42] == b"\0\2" + B + wire.packed("10.0.0.2") + A + wire.packed(
        "10.0.0.1"
    )


def test_discovery_is_answered() -> None:
    site = Site(suppress_arp=True)
    site.network.neighbors[wire.packed("fd00::2")] = B
    answer, drop = site.local("tap0", solicitation("fd00::1", "fd00::2"))
    assert drop == Drop(Status.SUPPRESSED)
    assert isinstance(answer, Output)
    told = neighbor.heard(answer.frame)
    assert told == neighbor.Advert(wire.packed("fd00::2"), B)
    assert answer.frame[58] & 0xE0 == 0x60  # solicited, override, no router


@pytest.mark.parametrize(
    "asked",
    [
        arp("10.0.0.2", "10.0.0.2"),
        arp("0.0.0.0", "10.0.0.2"),
        arp("10.0.0.1", "10.0.0.2", operation=2),
        B + arp("10.0.0.1", "10.0.0.2")[6:],
        arp("10.0.0.1", "10.0.0.2")[:41],
        arp("10.0.0.1", "10.0.0.9"),
        solicitation("::", "fd00::2"),
        solicitation("fd00::1", "fd00::2", hops=64),
        solicitation("fd00::1", "fd00::2")[:-1] + b"\xff",
    ],
    ids=["gratuitous", "probe", "reply", "unicast", "cut", "unknown", "dad", "hops", "checksum"],
)
def test_what_is_never_answered(asked: bytes) -> None:
    site = Site(suppress_arp=True)
    site.network.neighbors |= {wire.packed("10.0.0.2"): B, wire.packed("fd00::2"): B}
    assert Drop(Status.SUPPRESSED) not in site.local("tap0", asked)
    assert neighbor.request(asked) is None or asked[-4:] == wire.packed("10.0.0.9")


@pytest.mark.parametrize("version", [4, 6])
def test_too_big_is_told(version: int) -> None:
    site = Site(mtu=1400)
    big = frames.tcp_frame(bytes(1500), version)
    results = site.local("tap0", big)
    assert results.count(Drop(Status.MTU_EXCEEDED)) == 2
    told, local = (o for o in results if isinstance(o, Output))
    assert (told.where, local.where) == (site.p0, site.p1)
    assert told.frame[:12] == big[6:12] + big[:6]
    l4 = 34 if version == 4 else 54
    assert told.frame[l4 : l4 + 2] == (b"\x03\x04" if version == 4 else b"\x02\0")
    assert struct.unpack_from("!I", told.frame, l4 + 4)[0] == 1400
    assert told.frame[l4 + 8 : l4 + 36] == big[14:42]
    assert len(told.frame) - 14 <= (576 if version == 4 else 1280)


def test_too_big_is_not_told_to_what_may_not_hear_it() -> None:
    big = frames.tcp_frame(bytes(1500))
    assert icmp.too_big(big[:20] + b"\0\0" + big[22:], 1400) is None  # no DF
    assert icmp.too_big(EVERYBODY + frames.tcp_frame(bytes(1500), 6)[6:], 1400) is None
    assert icmp.too_big(frames.tcp_frame(bytes(1500), 6, dst="ff02::5"), 1400) is None
    assert icmp.too_big(frames.ARP, 20) is None


def test_a_super_frame_is_as_large_as_its_packets() -> None:
    large = frames.tcp_frame(bytes(60000))
    assert icmp.l3_length(large, mss=1360) == 1400
    assert icmp.l3_length(frames.tcp_frame(bytes(60000), 6, options=bytes(12)), mss=1360) == 1432
    assert icmp.l3_length(frames.TAGGED) == len(frames.TAGGED) - 18
