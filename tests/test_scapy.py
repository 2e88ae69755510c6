"""scapy as an oracle: it builds what we read, and reads what we build."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import assume, given

import frames
import model
import strategies as s
import wire
from overlay import NVGRE, STT, VXLAN, Tunnel
from overlay.codec import Codec
from test_encap import plain

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scapy = pytest.importorskip("scapy.all")
    scapy_vxlan = pytest.importorskip("scapy.layers.vxlan")

Ether, Dot1Q, IP, IPv6 = scapy.Ether, scapy.Dot1Q, scapy.IP, scapy.IPv6
UDP, TCP, GRE, Raw, VX = scapy.UDP, scapy.TCP, scapy.GRE, scapy.Raw, scapy_vxlan.VXLAN


def outer(family: int, tag: int | None = None, tos: int = 0):
    """scapy's outer headers up to IP."""
    head = Ether(src=wire.LOCAL_MAC, dst=wire.REMOTE_MAC)
    if tag is not None:
        head /= Dot1Q(vlan=tag)
    if family == 4:
        return head / IP(src=wire.LOCAL[4], dst=wire.REMOTE[4], flags="DF", id=0, tos=tos)
    return head / IPv6(src=wire.LOCAL[6], dst=wire.REMOTE[6], fl=0x12345, tc=tos, hlim=64)


def same_tunnel(cls: type[Tunnel], family: int, tag: int | None, **fields: object) -> Tunnel:
    return plain(
        cls, family, local_mac=wire.LOCAL_MAC, remote_mac=wire.REMOTE_MAC, outer_vlan=tag,
        flow_label=0x12345, **fields,
    )  # fmt: skip


@pytest.mark.parametrize("tag", [None, 100])
@pytest.mark.parametrize("name", ["UDP4", "TCP6", "ARP", "TAGGED", "JUMBO"])
@pytest.mark.parametrize("checksum", [False, True])
def test_vxlan(codec: Codec, family: int, tag: int | None, name: str, checksum: bool) -> None:
    """Byte for byte: scapy's VXLAN with flags 8, ours, and back."""
    frame = getattr(frames, name)
    udp = UDP(sport=50001, dport=4789, **({} if checksum else {"chksum": 0}))
    theirs = bytes(outer(family, tag) / udp / VX(flags=8, vni=0xABCDE) / frame)
    tunnel = same_tunnel(VXLAN, family, tag, vni=0xABCDE, source_port=50001, checksum=checksum)
    assert codec.encap(tunnel, frame) == theirs
    result = codec.decap(theirs, zero_checksum6=True)
    assert (result.frame, result.key) == (frame, 0xABCDE)
    # What describes the packet is the tunnel, whose entropy is fixed now.
    assert codec.encap(result.tunnel, frame) == theirs


def test_group_policy(codec: Codec) -> None:
    """G and the policy id, as scapy's VXLAN has them."""
    header = VX(flags=0x88, gpflags=0x48, gpid=0x1234, vni=9)
    theirs = bytes(outer(4) / UDP(sport=50001, dport=4789, chksum=0) / header / frames.UDP4)
    tunnel = same_tunnel(
        VXLAN, 4, None, vni=9, source_port=50001, gbp=0x1234, gbp_applied=True, gbp_dont_learn=True
    )
    assert codec.encap(tunnel, frames.UDP4) == theirs
    described = codec.decap(theirs).tunnel
    assert (described.gbp, described.gbp_applied, described.gbp_dont_learn) == (0x1234, True, True)
    assert codec.encap(described, frames.UDP4) == theirs


@pytest.mark.parametrize("tag", [None, 100])
@pytest.mark.parametrize("name", ["UDP4", "TCP6", "ARP", "JUMBO"])
def test_nvgre(codec: Codec, family: int, tag: int | None, name: str) -> None:
    frame = getattr(frames, name)
    gre = GRE(key_present=1, key=0xABCDE << 8 | 0x5A, proto=0x6558)
    theirs = bytes(outer(family, tag) / gre / Raw(frame))
    tunnel = same_tunnel(NVGRE, family, tag, vsid=0xABCDE, flow_id=0x5A)
    assert codec.encap(tunnel, frame) == theirs
    result = codec.decap(theirs)
    assert (result.frame, result.key, result.tunnel.flow_id) == (frame, 0xABCDE, 0x5A)


@pytest.mark.parametrize("name", ["UDP4", "TCP6"])
def test_gre_with_checksum_and_sequence(codec: Codec, family: int, name: str) -> None:
    """GRE-2, GRE-6, NVGRE-22: scapy's checksum, odd and even, is one that we take."""
    frame = getattr(frames, name)
    gre = GRE(chksum_present=1, key_present=1, seqnum_present=1, key=0x123456, sequence_number=9,
              proto=0x6558)  # fmt: skip
    theirs = bytes(outer(family) / gre / Raw(frame))
    assert codec.decap(theirs, "lenient").frame == frame
    assert codec.decap(theirs, "lenient").key == 0x1234


def test_stt_carrier(codec: Codec, family: int) -> None:
    """scapy has no STT, but it knows the TCP checksum."""
    tunnel = same_tunnel(STT, family, None, source_port=5, frame_id=7)
    ours = codec.encap(tunnel, frames.UDP4)
    whole = model.stt_frame(tunnel, frames.UDP4)
    tcp = TCP(sport=5, dport=7471, seq=len(whole) << 16, ack=7, flags="PA", window=0)
    assert bytes(outer(family) / tcp / Raw(whole)) == ours


@given(tunnel=s.tunnels(), frame=s.frames(least=14))
def test_scapy_computes_the_same_sums(codec: Codec, tunnel: Tunnel, frame: bytes) -> None:
    """COM-1, COM-5, STT-14, VXLAN-16: lengths and checksums deleted and made again by scapy."""
    assume(s.sendable(tunnel, frame))
    packet = codec.encap(tunnel, frame, sequence=1)
    body = wire.parse(packet).body
    read = Ether(packet)
    network = read[IP if tunnel.family == 4 else IPv6]
    for name in ("len", "plen", "chksum"):
        network.fields.pop(name, None)
    over_udp = tunnel.name in ("vxlan", "vxlan-gpe", "geneve")
    size = 8 if over_udp else 20 if tunnel.name == "stt" else 0
    carrier = network.payload if size else network
    if size and (tunnel.name == "stt" or tunnel.checksum):
        del carrier.chksum
    if over_udp:
        del carrier.len
    carrier.remove_payload()
    carrier.add_payload(Raw(body[size:]))  # what it carries is left as bytes
    assert bytes(read) == packet


@pytest.mark.parametrize("mss", [536, 1448])
@pytest.mark.parametrize("version", [4, 6])
def test_inner_segments_have_scapys_sums(codec: Codec, version: int, mss: int) -> None:
    """STT-32: what the inner segmentation writes, scapy writes too."""
    frame = frames.tcp_frame(wire.pattern(4000), version)
    for piece in codec.segments(frame, mss):
        read = Ether(piece)
        for layer, names in [(IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",))]:
            if read.haslayer(layer):
                for name in names:
                    del read[layer].fields[name]
        assert bytes(read) == piece
