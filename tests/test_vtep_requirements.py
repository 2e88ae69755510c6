"""Requirements of the specification that the switch holds, not the codec: who is learned,
where group frames go, what a sender of too long a packet hears."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.all import ICMP, IP, TCP, UDP, Ether, ICMPv6PacketTooBig, IPv6, Raw

import overlay
import wire
from overlay.io.memory import Memory
from switches import tunnel_to

LOCAL, PEERS = "192.0.2.1", ("192.0.2.2", "192.0.2.3", "192.0.2.4")
A, B, C = (bytes.fromhex(f"0200000000{n:02x}") for n in (0xAA, 0xBB, 0xCC))
EVERYBODY = b"\xff" * 6
KEY = 0x5001
FLOODED = [EVERYBODY, b"\x01\0\x5e\0\0\x05", b"\x33\x33\0\0\0\1", B]  # the last is unknown

tunnels = pytest.mark.parametrize("tunnel", ["vxlan", "nvgre", "stt"])


def frame(dst: bytes, src: bytes) -> bytes:
    return dst + src + b"\x88\xb5" + wire.pattern(46)


class Site:
    """A VTEP between one port and an underlay, both in memory."""

    def __init__(self, tunnel: str, **options: object) -> None:
        self.tunnel = tunnel
        self.underlay, self.wire = Memory.pair(underlay=True)
        self.near, self.far = Memory.pair(mtu=9000)
        self.vtep = overlay.Vtep(LOCAL, underlay=self.underlay, seed=1)
        self.network = self.vtep.add_network(KEY, tunnel=tunnel, **options)  # type: ignore[arg-type]
        self.port = self.network.add_port(self.near)

    def close(self) -> None:
        self.vtep.close()
        for device in (self.underlay, self.wire, self.near, self.far):
            device.close()

    def run(self) -> None:
        while self.vtep.poll():
            pass

    def local(self, raw: bytes) -> list[overlay.Decapsulated]:
        """A frame from the port; the packets that left for it, by their remote."""
        self.far.put([raw])
        self.run()
        packets = [overlay.decap(packet) for packet in self.wire.take()]
        return sorted(packets, key=lambda d: d.tunnel.remote)

    def tunnelled(self, peer: str, raw: bytes, to: str = LOCAL) -> list[bytes]:
        """A frame in a packet from a peer; the frames that the port got."""
        self.wire.put([tunnel_to(self.tunnel, KEY, peer, to).encap(raw)])
        self.run()
        return self.far.take()


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(request.param, remotes=PEERS)
    yield made
    made.close()


sites = pytest.mark.parametrize("site", ["vxlan", "nvgre", "stt"], indirect=True)


@sites
@pytest.mark.parametrize("source", [bytes(6), EVERYBODY, b"\x01\0\x5e\0\0\x05", b"\x03" + A[1:]])
def test_a_source_that_is_no_host_is_never_learned(site: Site, source: bytes) -> None:
    """COM-20: neither from a port nor from a tunnel."""
    assert site.local(frame(EVERYBODY, source)) == []
    assert site.tunnelled(PEERS[0], frame(EVERYBODY, source)) == []
    assert len(list(site.network.fdb)) == 0
    assert site.network.stats.drops == {overlay.Status.SOURCE_MAC: 2}


@sites
def test_too_long_a_packet_is_answered_with_the_size_that_fits(site: Site) -> None:
    """COM-21: the underlay's 1500 bytes less all that a tunnel puts around the packet."""
    fits = tunnel_to(site.tunnel, KEY, LOCAL, PEERS[0]).inner_mtu(1500)
    if site.tunnel == "stt":  # a frame is cut into segments that fit
        site.vtep.remove_network(KEY)
        site.network = site.vtep.add_network(KEY, tunnel="stt", mtu=1400, remotes=PEERS)
        site.network.add_port(site.near)
        fits = 1400
    ether = Ether(src=A.hex(":"), dst=B.hex(":"))
    ip = IP(src="10.0.0.1", dst="10.0.0.2", flags="DF") / UDP(sport=1, dport=2)
    data = Raw(wire.pattern(fits - 28))
    assert len(site.local(bytes(ether / ip / data))) == len(PEERS)
    assert site.far.take() == []

    assert site.local(bytes(ether / ip / data / b"+")) == []
    [told] = site.far.take()
    answer = Ether(told)
    assert (answer.dst, answer[IP].dst) == (A.hex(":"), "10.0.0.1")
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, fits)

    ip = IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(sport=1, dport=2)
    data = Raw(wire.pattern(fits - 60))
    assert len(site.local(bytes(ether / ip / data))) == len(PEERS)
    assert site.local(bytes(ether / ip / data / b"+")) == []
    [told] = site.far.take()
    answer = Ether(told)
    assert (answer.dst, answer[IPv6].dst) == (A.hex(":"), "2001:db8::1")
    assert answer[ICMPv6PacketTooBig].mtu == fits

    without = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2)
    assert site.local(bytes(ether / without / Raw(wire.pattern(fits)))) == []
    assert site.far.take() == []
    assert site.network.stats.missing == 0


@sites
@pytest.mark.parametrize("destination", FLOODED)
def test_group_frames_go_to_every_peer_once(site: Site, destination: bytes) -> None:
    """VXLAN-29, NVGRE-30: a copy for each; and never from one peer to another."""
    raw = frame(destination, A)
    copies = site.local(raw)
    assert [copy.tunnel.remote for copy in copies] == list(PEERS)
    assert {(copy.key, bytes(copy.frame)) for copy in copies} == {(KEY, raw)}
    assert site.tunnelled(PEERS[0], frame(destination, C)) == [frame(destination, C)]
    assert site.wire.take() == []


@pytest.mark.parametrize("tunnel", ["vxlan", "nvgre"])
def test_group_frames_go_to_the_group(tunnel: str) -> None:
    """VXLAN-29, NVGRE-30: one packet to the network's group, whoever listens there; what is
    known goes to the one who has it."""
    site = Site(tunnel, group="239.1.1.1", accept="any")
    for destination in FLOODED:
        [packet] = site.local(frame(destination, A))
        assert (packet.key, packet.tunnel.remote) == (KEY, "239.1.1.1")
    assert site.tunnelled(PEERS[0], frame(A, B), to="239.1.1.1") == [frame(A, B)]
    assert site.tunnelled(PEERS[0], frame(A, B)) == [frame(A, B)]
    [packet] = site.local(frame(B, A))
    assert packet.tunnel.remote == PEERS[0]
    [packet] = site.local(frame(EVERYBODY, A))
    assert packet.tunnel.remote == "239.1.1.1"
    site.close()


@sites
@pytest.mark.parametrize("destination", [EVERYBODY, A], ids=["group", "unicast"])
def test_who_sent_is_where_a_host_is(site: Site, destination: bytes) -> None:
    """VXLAN-30: the inner source address is at the outer one, in this network alone; where
    it is heard last, by frames to one host and to all."""
    site.local(frame(EVERYBODY, A))
    other = site.vtep.add_network(KEY + 1, tunnel=site.tunnel, remotes=PEERS[:1])
    for peer in (PEERS[1], PEERS[2]):
        assert site.tunnelled(peer, frame(destination, B)) == [frame(destination, B)]
        found = site.network.fdb.lookup(B)
        assert found is not None
        assert (found.where.address, found.static) == (peer, False)  # type: ignore[union-attr]
        [packet] = site.local(frame(B, A))
        assert packet.tunnel.remote == peer
    assert other.fdb.lookup(B) is None
