"""What the test suites of other implementations assert, held to this one.

By peer: Open vSwitch, PcapPlusPlus, gopacket, scapy, Zeek, tcpdump, Suricata, Linux.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

import frames
import wire
from laws import refused
from overlay import GRE, NVGRE, VXLAN, Batch, Status, Tunnel
from overlay.codec import Codec
from test_encap import plain

Packets = list[tuple[bytes, int]]


@pytest.fixture(scope="module")
def capture(shared: Path) -> Callable[[str], Packets]:
    """`capture("zeek/vxlan.pcap")`: its packets and their lengths on the wire."""
    return lambda name: wire.read_pcap((shared / "captures" / name).read_bytes())


@pytest.fixture(scope="module")
def hexes(shared: Path) -> Callable[[str], list[bytes]]:
    """`hexes("ovs/tunnel-push-pop.hex.txt")`: the last column of each line, as bytes."""

    def read(name: str) -> list[bytes]:
        lines = (shared / "captures" / name).read_text().splitlines()
        return [bytes.fromhex(line.split("\t")[-1]) for line in lines if line[:1] != "#"]

    return read


# -- Open vSwitch: tunnel-push-pop.at ------------------------------------------------------


def test_ovs_push_vxlan(codec: Codec) -> None:
    """50 bytes: DF, TTL 64, TOS 0, port 4789, no UDP checksum, 0x08000000, VNI 0x7b."""
    packet = codec.encap(plain(VXLAN, vni=0x7B), frames.ICMP4)
    outer = wire.parse(packet)
    assert len(packet) - len(frames.ICMP4) == 50
    assert (outer.flags, outer.ttl, outer.tos, outer.ident) == (0x4000, 64, 0, 0)
    assert outer.body[2:4] == b"\x12\xb5"
    assert outer.body[6:16] == bytes.fromhex("00000800000000007b00")
    summed = codec.encap(plain(VXLAN, vni=0x7C, checksum=True), frames.ICMP4)
    assert wire.parse(summed).body[6:8] != b"\0\0"


def test_ovs_push_vxlan_over_ipv6(codec: Codec) -> None:
    """70 bytes; the UDP checksum is on by default, and off on request."""
    packet = codec.encap(plain(VXLAN, 6, vni=0x7B), frames.ICMP4)
    assert len(packet) - len(frames.ICMP4) == 70
    outer = wire.parse(packet)
    assert outer.ttl == 64
    assert wire.checksum(outer.pseudo + outer.body) == 0
    off = codec.encap(plain(VXLAN, 6, vni=0x7B, checksum=False), frames.ICMP4)
    assert wire.parse(off).body[6:8] == b"\0\0"


def test_ovs_push_gre(codec: Codec, family: int) -> None:
    """42 and 62 bytes: 0x2000, 0x6558, key 0x1c8."""
    tunnel = plain(NVGRE, family, vsid=0x1, flow_id=0xC8, allow_reserved_vsid=True)
    packet = codec.encap(tunnel, frames.ICMP4)
    assert len(packet) - len(frames.ICMP4) == (42 if family == 4 else 62)
    assert wire.parse(packet).body[:8] == bytes.fromhex("20006558000001c8")


POP = {
    4: Status.OK, 5: Status.OK, 6: Status.OK, 7: Status.OK,
    8: Status.GRE_PROTOCOL,  # layer 3
    9: Status.IP_CHECKSUM, 10: Status.IP_CHECKSUM, 11: Status.IP_CHECKSUM,  # 0xDEAD
    12: Status.UDP_CHECKSUM, 14: Status.GRE_PROTOCOL,
    16: Status.GENEVE_CRITICAL,  # an option that only its own tests know
    17: Status.OK, 18: Status.OK,
}  # fmt: skip
POP6 = {6: Status.OK, 7: Status.GRE_PROTOCOL, 8: Status.UDP_ZERO_CHECKSUM, 9: Status.OK,
        10: Status.UDP_CHECKSUM, 11: Status.OK}  # fmt: skip


def test_ovs_pop(codec: Codec, hexes) -> None:
    """COM-2, VXLAN-15, VXLAN-18, NVGRE-28: its literal packets, taken or refused as it does."""
    packets = hexes("ovs/tunnel-push-pop.hex.txt")
    assert {n: refused(codec, packets[n]) for n in POP} == POP
    assert [len(codec.decap(packets[n]).frame) for n in (4, 5, 6)] == [42] * 3
    result = codec.decap(packets[7])
    assert (result.key, result.tunnel.flow_id, len(result.frame)) == (0x1, 0xC8, 98)
    six = hexes("ovs/tunnel-push-pop-ipv6.hex.txt")
    assert {n: refused(codec, six[n]) for n in POP6} == POP6


def test_ovs_pop_of_a_mixed_batch(codec: Codec, hexes) -> None:
    """Only the invalid packets are dropped, and the counters are exact."""
    packets = hexes("ovs/tunnel-push-pop.hex.txt")
    batch = Batch.from_frames([packets[n] for n in POP])
    assert codec.decap_batch(batch) == sum(not status for status in POP.values())
    assert batch.status.tolist() == [int(status) for status in POP.values()]
    assert batch.drops()[Status.IP_CHECKSUM] == 3


def test_ovs_congestion(codec: Codec, hexes) -> None:
    """COM-11: a GRE packet with CE around a Not-ECT frame is dropped and counted as such."""
    packet = hexes("ovs/tunnel-push-pop.hex.txt")[7]
    marked = wire.mended(packet[:15] + b"\x03" + packet[16:])
    assert refused(codec, marked) is Status.ECN_CONGESTION


def test_ovs_push_back(codec: Codec, hexes) -> None:
    """What was popped is pushed back with addresses swapped; the payload is untouched."""
    packet = hexes("ovs/tunnel-push-pop.hex.txt")[7]
    result = codec.decap(packet)
    there = result.tunnel
    back = dataclasses.replace(
        there, local=there.remote, remote=there.local, local_mac=there.remote_mac,
        remote_mac=there.local_mac, ip_id=0,
    )  # fmt: skip
    returned = codec.encap(back, result.frame)
    old, new = wire.parse(packet), wire.parse(returned)
    assert (new.src, new.dst, new.src_mac, new.dst_mac, new.ident) == (
        old.dst, old.src, old.dst_mac, old.src_mac, 0,
    )  # fmt: skip
    assert new.body == old.body


def test_ovs_inherited_tos(codec: Codec) -> None:
    """tunnel.at: TOS 4 gives 4, the ECN bits of 5 are kept; not IP gives TTL 64 and TOS 0."""
    tunnel = plain(VXLAN, dscp="inherit")
    for tos in (4, 5):
        assert wire.parse(codec.encap(tunnel, frames.udp_frame(b"", tos=tos))).tos == tos
    outer = wire.parse(codec.encap(tunnel, frames.ARP))
    assert (outer.tos, outer.ttl) == (0, 64)


def test_ovs_an_absent_key_is_not_key_zero(codec: Codec) -> None:
    keyless = wire.nvgre(frames.UDP4, word=0)
    assert refused(codec, keyless, keys=[0]) is Status.GRE_NO_KEY
    assert codec.decap(wire.nvgre(frames.UDP4, vsid=0, flow_id=0), keys=[0]).key == 0


def test_ovs_peer_captures(codec: Codec, capture) -> None:
    """Its packets, decapsulated and built again, are the same bytes."""
    check_rebuilds(codec, capture("peers/ovs_vxlan_v4.pcap"), 0x123456)
    check_rebuilds(codec, capture("peers/ovs_gre_v4.pcap"), 0x001234)


def check_rebuilds(codec: Codec, packets: Packets, key: int) -> None:
    rebuilt = 0
    for packet, whole in packets:
        result = codec.decap(packet, wire_length=whole)
        assert result.key == key
        assert result.wire_length == whole - len(result.header)
        if len(packet) == whole:
            assert codec.encap(result.tunnel, result.frame) == packet
            rebuilt += 1
    assert rebuilt > len(packets) // 2


# -- Linux -------------------------------------------------------------------------------


def test_linux_peer_captures(codec: Codec, capture) -> None:
    """COM-12, VXLAN-34, GBP-2: the kernel's VXLAN, over both families, and with a group policy."""
    check_rebuilds(codec, capture("peers/k_vxlan_v4_arp_icmp.pcap"), 0x123456)
    check_rebuilds(codec, capture("peers/k_vxlan_v6_outer.pcap"), 0x123456)
    marked = capture("peers/k_vxlan_v4_gbp.pcap")
    check_rebuilds(codec, marked, 0x123456)
    policies = {codec.decap(packet, wire_length=n).tunnel.gbp for packet, n in marked}
    assert policies == {None, 0x1234, 0xF8}  # the last on what the kernel sends of its own
    for packet, whole in marked:
        codec.decap(packet, "strict", gbp=True, wire_length=whole)


def test_linux_fixed_ttl_and_inherited_tos(codec: Codec) -> None:
    """vxlan_bridge_1d.sh: TTL 100; the inner TOS 0x14 is sent, another is another."""
    tunnel = plain(VXLAN, ttl=100, dscp="inherit")
    outer = wire.parse(codec.encap(tunnel, frames.udp_frame(b"", tos=0x14)))
    assert (outer.ttl, outer.tos) == (100, 0x14)
    assert wire.parse(codec.encap(tunnel, frames.udp_frame(b"", tos=0x18))).tos == 0x18


def test_linux_vxlan_in_vxlan_with_checksums(codec: Codec, family: int) -> None:
    """double_udp_encap.sh: two layers of UDP, both checksums right."""
    first = codec.encap(plain(VXLAN, 10 - family, checksum=True), frames.TCP4)
    packet = codec.encap(plain(VXLAN, family, checksum=True), first)
    for layer in (packet, first):
        outer = wire.parse(layer)
        assert wire.checksum(outer.pseudo + outer.body) == 0
    assert codec.decap(codec.decap(packet).frame).frame == frames.TCP4


# -- PcapPlusPlus ------------------------------------------------------------------------


def test_pcapplusplus_edits_a_vxlan_header(codec: Codec, hexes) -> None:
    """GBP-1, GBP-2: Vxlan1 is G, I, D, A, policy 100, VNI 3000001; edited it becomes Vxlan2."""
    (one,), (two,) = hexes("pcapplusplus/Vxlan1.dat"), hexes("pcapplusplus/Vxlan2.dat")
    result = codec.decap(one)
    tunnel = result.tunnel
    assert (tunnel.vni, tunnel.gbp) == (3000001, 100)
    assert tunnel.gbp_dont_learn
    assert tunnel.gbp_applied
    assert len(result.header) == 50  # what is left where the inner frame is taken out
    assert codec.encap(tunnel, result.frame) == one  # and where it is put back
    # Vxlan2 has G clear with A and a policy beside it, which so mean nothing.
    other = codec.decap(two)
    assert (other.key, other.tunnel.gbp) == (300, None)
    assert refused(codec, two, "strict") is Status.VXLAN_RESERVED
    plain_vxlan = codec.encap(other.tunnel, other.frame)
    assert plain_vxlan[42:50] == bytes.fromhex("0800000000012c00")
    assert wire.mended(plain_vxlan[:42] + two[42:46] + plain_vxlan[46:]) == two


def test_pcapplusplus_teb_with_a_key(codec: Codec, hexes) -> None:
    """Key 0xFDE8 parses through to the inner TCP."""
    (packet,) = hexes("pcapplusplus/GREv0_4.dat")
    result = codec.decap(packet)
    assert (result.key, result.tunnel.flow_id) == (0xFD, 0xE8)
    it = wire.inner(result.frame)
    assert (it.version, it.protocol) == (4, wire.TCP)
    assert codec.encap(result.tunnel, result.frame) == packet


@pytest.mark.parametrize("number", [1, 2, 3])
def test_pcapplusplus_other_gre(codec: Codec, hexes, number: int) -> None:
    """GRE without Ethernet is not NVGRE, and PPTP's version 1 is neither: a lenient profile
    reads the first."""
    reasons = {
        0: (Status.GRE_PROTOCOL, Status.GRE_NO_KEY, Status.GRE_ROUTING),
        1: (Status.GRE_VERSION, Status.UNKNOWN_PROTOCOL),  # the second has IPv6 around IPv4
    }
    for version, expected in reasons.items():
        (packet,) = hexes(f"pcapplusplus/GREv{version}_{number}.dat")
        for profile in ("rfc", "strict"):
            assert refused(codec, packet, profile) in expected
        assert refused(codec, packet, "lenient", protocols=["nvgre"]) in expected
        if version:
            assert refused(codec, packet, "lenient") in expected
        else:
            assert codec.decap(packet, "lenient").protocol == "gre"


@pytest.mark.parametrize("word", [0x2000, 0xA000, 0x3000, 0xB000])
def test_pcapplusplus_header_length_follows_the_flags(codec: Codec, word: int) -> None:
    """GRE-1: 8, 12, 12 and 16 bytes."""
    size = {0x2000: 8, 0xA000: 12, 0x3000: 12, 0xB000: 16}[word]
    result = codec.decap(wire.nvgre(frames.UDP4, word=word), "lenient")
    assert len(result.header) == 34 + size


# -- gopacket ------------------------------------------------------------------------------


def test_gopacket_vxlan(codec: Codec, hexes) -> None:
    """Its literal packet: VNI 255, the header 8 bytes, the payload what remains."""
    (packet,) = hexes("gopacket/vxlan.hex.txt")
    result = codec.decap(packet)
    assert result.key == 255
    assert result.header + result.frame == packet
    assert (len(result.header), len(result.frame)) == (50, 98)
    assert codec.encap(result.tunnel, result.frame) == packet


def test_gopacket_isomorphism(codec: Codec) -> None:
    """GBP-2: every bit set, VNI 255, policy 777, encoded and decoded."""
    tunnel = plain(VXLAN, vni=255, gbp=777, gbp_dont_learn=True, gbp_applied=True)
    packet = codec.encap(tunnel, frames.UDP4)
    assert wire.parse(packet).body[8:16] == bytes.fromhex("884803090000ff00")
    described = codec.decap(packet).tunnel
    assert (described.vni, described.gbp) == (255, 777)
    assert codec.encap(described, frames.UDP4) == packet


def test_gopacket_gre(codec: Codec, hexes) -> None:
    """IPv4 in GRE, and Ethernet without a key: read as what they are, so not NVGRE."""
    ip_in_gre, ethernet_in_gre = hexes("gopacket/gre.hex.txt")
    assert refused(codec, ip_in_gre) is Status.GRE_PROTOCOL
    assert refused(codec, ethernet_in_gre) is Status.GRE_NO_KEY


@pytest.mark.parametrize("word", [0xA000, 0x3000, 0x6000, 0x2080])
def test_gopacket_truncated_gre(codec: Codec, word: int) -> None:
    """COM-19, NVGRE-29: flags that promise fields which are not there."""
    header = word.to_bytes(2, "big") + bytes.fromhex("655800001000")
    for profile in ("rfc", "lenient"):
        result = refused(codec, wire.packet(header, wire.GRE), profile)
        assert result in (
            Status.HEADER_TRUNCATED, Status.GRE_CHECKSUM_PRESENT, Status.GRE_SEQUENCE_PRESENT,
            Status.GRE_ROUTING, Status.INNER_TOO_SHORT,
        )  # fmt: skip


# -- scapy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"\xff" * 14, b"\0" * 60, wire.pattern(1400)])
def test_scapy_garbage_payloads(codec: Codec, protocol: type[Tunnel], payload: bytes) -> None:
    """A payload that is no known packet is carried all the same."""
    tunnel = plain(protocol)
    assert codec.decap(codec.encap(tunnel, payload)).frame == payload


# -- Zeek ------------------------------------------------------------------------------------


def test_zeek_triple_nested(codec: Codec, capture) -> None:
    """Three VXLANs deep, to the DNS query inside."""
    ((packet, _),) = capture("zeek/vxlan-triple-v2.pcap")
    keys = []
    for _ in range(3):
        result = codec.decap(packet)
        keys.append(result.key)
        packet = result.frame
    assert refused(codec, packet) is Status.UNKNOWN_PROTOCOL
    assert len(keys) == 3
    it = wire.inner(packet)
    assert it.protocol == wire.UDP
    assert packet[it.l4 + 2 : it.l4 + 4] == (53).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("name", "key", "count"),
    [("vxlan", 0x7B, 10), ("vxlan-encapsulated-http", 1, 12),
     ("vxlan-inner-tcp-bad-checksum", 0x2A, 1)],
)  # fmt: skip
def test_zeek_captures(codec: Codec, capture, name: str, key: int, count: int) -> None:
    """Inner protocols and inner checksums are not the tunnel's business."""
    packets = capture(f"zeek/{name}.pcap")
    assert [codec.decap(p, wire_length=n).key for p, n in packets] == [key] * count


def test_zeek_igmp_has_wrong_outer_checksums(codec: Codec, capture) -> None:
    """VXLAN-18, VXLAN-19: dropped where checksums are verified; a reader of captures goes on."""
    for packet, _ in capture("zeek/vxlan-encapsulated-igmp-v2.pcap"):
        assert refused(codec, packet) is Status.UDP_CHECKSUM
        assert codec.decap(packet, "lenient").key == 0x1092


@pytest.mark.parametrize("name", ["gre-within-gre", "gre-sample", "gre-over-udp-4754", "gre-pptp"])
def test_zeek_other_gre(codec: Codec, capture, name: str) -> None:
    """No NVGRE; a lenient profile reads the IP in GRE, but neither GRE in UDP nor PPTP."""
    for packet, whole in capture(f"zeek/{name}.pcap"):
        status = refused(codec, packet, "lenient", protocols=["nvgre"], wire_length=whole)
        assert status in (Status.GRE_PROTOCOL, Status.UNKNOWN_PROTOCOL)
        if name in ("gre-within-gre", "gre-sample"):
            assert codec.decap(packet, "lenient", wire_length=whole).key == GRE.NO_KEY
        else:
            assert refused(codec, packet, "lenient", wire_length=whole) is Status.UNKNOWN_PROTOCOL


# -- tcpdump -----------------------------------------------------------------------------------


def test_tcpdump_vxlan_on_two_ports(codec: Codec, capture) -> None:
    """VXLAN-11: the same frames on 4789 and on Linux's first port."""
    ours = [codec.decap(p).frame for p, _ in capture("tcpdump/vxlan.pcap")]
    old = capture("tcpdump/vxlan_port_8472.pcap")
    assert all(refused(codec, p) is Status.UNKNOWN_PROTOCOL for p, _ in old)
    assert [codec.decap(p, vxlan_port=8472).frame for p, _ in old] == ours


@pytest.mark.parametrize("inner", ["ipv4", "ipv6"])
@pytest.mark.parametrize("outer", ["ipv4", "ipv6"])
def test_tcpdump_super_packets(codec: Codec, capture, outer: str, inner: str) -> None:
    """Captured before segmentation and before its checksum was made: whole in a lenient reader."""
    ((packet, _),) = capture(f"tcpdump/gso-{outer}-vxlan-{inner}.pcap")
    assert refused(codec, packet) is Status.UDP_CHECKSUM
    result = codec.decap(packet, "lenient")
    assert (result.key, len(result.header) + len(result.frame)) == (5001, len(packet))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_tcpdump_big_tcp(codec: Codec, capture, family: str) -> None:
    """A total length of 0 stands for all there is."""
    ((packet, _),) = capture(f"tcpdump/bigtcp-{family}-vxlan-{family}.pcap")
    assert refused(codec, packet) is not Status.OK
    result = codec.decap(packet, "lenient")
    assert (result.key, len(result.header) + len(result.frame)) == (5001, len(packet))


@pytest.mark.parametrize("number", [1, 2])
def test_tcpdump_gre_heap_overflows(codec: Codec, capture, number: int) -> None:
    """COM-19: lengths made to over-read are refused, whatever the link layer is taken for."""
    for packet, whole in capture(f"tcpdump/gre-heapoverflow-{number}.pcap"):
        for link in (0, 1):
            for profile in ("rfc", "lenient"):
                length = max(whole, len(packet))
                status = refused(codec, packet, profile, link=link, wire_length=length)
                assert status is not Status.OK


# -- Suricata ------------------------------------------------------------------------------------


def test_suricata_reserved_bits(codec: Codec) -> None:
    """VXLAN-6, VXLAN-7, VXLAN-35: the flags word 0xff01 is decoded by rfc, not by strict."""
    some = [frames.ICMP4, frames.ARP, frames.UDP4, frames.TCP4] * 3
    packets = [wire.vxlan(frame, flags=0xFF, reserved24=0x010000) for frame in some[:10]]
    batch = Batch.from_frames(packets)
    assert codec.decap_batch(batch) == 10
    assert batch.to_list() == some[:10]
    batch = Batch.from_frames(packets)
    assert codec.decap_batch(batch, "strict") == 0
    assert batch.drops() == {Status.VXLAN_RESERVED: 10}
