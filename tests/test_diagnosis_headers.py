"""Faults that one packet shows by itself, each beside a sound twin that does not."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import overlay
from frames import ARP, ICMP4, LONG, TAGGED, TCP4, TCP6, UDP4, UDP6, tcp_frame, udp_frame
from overlay import Status
from overlay.diagnosis import KINDS, Severity, diagnose
from suspect import found, patched, report, word
from wire import (
    LOCAL,
    REMOTE,
    ethernet,
    gre,
    nvgre,
    packed,
    packet,
    pattern,
    pseudo,
    stt,
    sum16,
    udp,
    vxlan,
)

SOUND = [vxlan(TCP4), vxlan(UDP6), vxlan(ARP, family=6), nvgre(UDP4), stt(TCP4), vxlan(ICMP4)]


def alone(*packets: bytes, verify: bool = True) -> str:
    """The one kind that a capture of sound packets and these shows.

    Without ``verify`` the outer UDP checksum of these is made 0 first, over IPv4.
    """
    assert found(SOUND) == {}
    if not verify:
        packets = tuple(patched(packet, 40, b"\0\0") for packet in packets)
    kinds = found([*SOUND, *packets])
    assert len(kinds) == 1, kinds
    (finding,) = kinds.values()
    assert finding.packet == len(SOUND) + 1
    assert finding.count == len(packets)
    assert finding.severity == KINDS[finding.kind].severity or finding.kind == "refused"
    return finding.kind


# -- checksums --------------------------------------------------------------------------


def test_wrong_ip_checksum() -> None:
    bad = patched(vxlan(TCP4), 24, b"\xde\xad")
    assert alone(bad) == "ip-checksum"
    right = word(vxlan(TCP4), 24)
    assert f"0xdead, right is {right:#06x}" in found([bad])["ip-checksum"].seen


@pytest.mark.parametrize("family", [4, 6])
def test_wrong_udp_checksum(family: int) -> None:
    good = vxlan(TCP4, family=family, check=-1)
    at = 40 if family == 4 else 60
    assert found([good]) == {}
    assert alone(patched(good, at, b"\xde\xad")) == "udp-checksum"
    seen = found([patched(good, at, b"\xde\xad")])["udp-checksum"].seen
    assert f"0xdead, right is {word(good, at):#06x}" in seen


def test_wrong_tcp_checksum_of_stt() -> None:
    assert alone(patched(stt(UDP4), 50, b"\xde\xad")) == "tcp-checksum"


def test_wrong_gre_checksum() -> None:
    good = nvgre(UDP4, word=0xA000)
    bad = nvgre(UDP4, word=0xA000, check=0xDEAD)
    assert "gre-checksum" not in found([good])
    assert found([good, bad])["gre-checksum"].packet == 2


def test_ip_checksum_left_to_the_nic() -> None:
    assert alone(patched(vxlan(TCP4), 24, b"\0\0")) == "checksum-offloaded"


@pytest.mark.parametrize("family", [4, 6])
def test_udp_checksum_left_to_the_nic(family: int) -> None:
    good = vxlan(TCP4, family=family, check=-1)
    size = 20 if family == 4 else 40
    ends = packed(LOCAL[family]), packed(REMOTE[family])
    partial = sum16(pseudo(*ends, 17, len(good) - 14 - size))
    assert alone(patched(good, 20 + size, struct.pack("!H", partial))) == "checksum-offloaded"


def unfinished(frame: bytes) -> bytes:
    """An IPv4 frame whose TCP checksum is the sum of the pseudo header alone."""
    ends, length = frame[26:34], word(frame, 16) - 20
    return patched(frame, 50, struct.pack("!H", sum16(ends + struct.pack("!HH", 6, length))))


def test_inner_checksum_that_went_into_the_tunnel_unfinished() -> None:
    assert alone(vxlan(unfinished(TCP4))) == "inner-checksum-unfinished"
    # The outer checksum is over the unfinished bytes: no NIC will finish them.
    assert alone(vxlan(unfinished(TCP4), check=-1)) == "inner-checksum-unfinished"
    assert found([vxlan(TCP4), vxlan(UDP4)]) == {}


def test_inner_checksum_left_to_the_nic_with_the_outer_one() -> None:
    """Local checksum offload: the outer checksum is that of the finished packet."""
    right = vxlan(TCP4, check=-1)
    waiting = patched(vxlan(unfinished(TCP4)), 40, right[40:42])
    kinds = found([waiting])
    assert set(kinds) == {"checksum-offloaded", "inner-checksum-offloaded"}
    assert "once the inner checksum is finished" in kinds["checksum-offloaded"].seen


@pytest.mark.parametrize("frame", [TCP4, TCP6, UDP4, UDP6], ids=["tcp4", "tcp6", "udp4", "udp6"])
def test_wrong_inner_checksum(frame: bytes) -> None:
    assert alone(vxlan(frame[:-1] + bytes([frame[-1] ^ 1]))) == "inner-checksum"


def test_inner_checksums_that_are_as_they_may_be() -> None:
    none = udp_frame(pattern(40), check=0)
    offloaded = overlay.STT(
        context_id=1, local="192.0.2.1", remote="198.51.100.2", inner_checksum="partial"
    )
    assert found([vxlan(none), offloaded.encap(TCP4)]) == {}


def test_wrong_inner_ip_checksum() -> None:
    assert alone(vxlan(patched(ICMP4, 24, b"\xde\xad"))) == "inner-ip-checksum"


def test_zero_udp_checksum_over_ipv6() -> None:
    assert alone(vxlan(TCP4, family=6, check=0)) == "udp-zero-checksum"


# -- sizes ------------------------------------------------------------------------------


def test_super_packets() -> None:
    assert alone(vxlan(tcp_frame(pattern(12000)))) == "super-packet"
    assert found([vxlan(tcp_frame(pattern(8800)))]) == {}


def test_lengths_of_zero() -> None:
    large = vxlan(udp_frame(pattern(3000)))
    assert alone(patched(large, 38, b"\0\0")) == "big-tcp"


# -- reserved bits and ports ---------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"flags": 0x18}, {"reserved24": 1}, {"reserved8": 1}, {"reserved24": 0x00FFFF}]
)
def test_reserved_bits_of_vxlan(fields: dict[str, int]) -> None:
    assert alone(vxlan(TCP4, **fields)) == "vxlan-reserved"  # type: ignore[arg-type]


def test_group_policy() -> None:
    tunnel = overlay.VXLAN(vni=1, local="192.0.2.1", remote="198.51.100.2", gbp=0x1234)
    assert alone(tunnel.encap(TCP4)) == "group-policy"
    assert "0x1234" in found([tunnel.encap(TCP4)])["group-policy"].seen
    assert set(found([vxlan(TCP4, flags=0x88, reserved24=0x100000)])) == {
        "group-policy", "vxlan-reserved",
    }  # fmt: skip


def test_gpe_flags_on_the_port_of_vxlan() -> None:
    assert alone(vxlan(TCP4, flags=0x0C, reserved24=3)) == "gpe-on-vxlan-port"


def test_reserved_bits_of_gre() -> None:
    assert alone(nvgre(UDP4, word=0x2010)) == "gre-reserved"


@pytest.mark.parametrize("vsid", [0, 0xFFF, 0xFFFFFF])
def test_reserved_vsids(vsid: int) -> None:
    assert alone(nvgre(UDP4, vsid=vsid)) == "nvgre-vsid"
    assert found([nvgre(UDP4, vsid=0x1000)]) == {}


@pytest.mark.parametrize("port", [8472, 4000])
def test_a_tunnel_on_another_port(port: int) -> None:
    packets = [vxlan(frame, port=port) for frame in (TCP4, UDP6, ARP)]
    assert alone(*packets) == "tunnel-port"
    assert str(port) in found(packets)["tunnel-port"].seen
    assert found(packets, vxlan_port=port) == {}


def test_other_traffic_is_no_tunnel() -> None:
    dns = packet(udp(pattern(200), 40000, 53, "192.0.2.1", "198.51.100.2"), 17)
    assert found([dns, UDP4, TCP4, ARP, ICMP4, LONG]) == {}


ENDS = {"local": LOCAL[4], "remote": REMOTE[4]}
NEWER = [
    overlay.Geneve(vni=7, **ENDS),  # type: ignore[arg-type]
    overlay.Geneve(vni=7, payload="ip", **ENDS),  # type: ignore[arg-type]
    overlay.VXLANGPE(vni=7, **ENDS),  # type: ignore[arg-type]
    overlay.VXLANGPE(vni=7, payload="ip", **ENDS),  # type: ignore[arg-type]
    overlay.GRE(**ENDS),  # type: ignore[arg-type]
    overlay.GRE(key=9, payload="ip", checksum=True, sequence=1, **ENDS),  # type: ignore[arg-type]
    overlay.ERSPAN(session_id=3, **ENDS),  # type: ignore[arg-type]
    overlay.ERSPAN(session_id=3, type=3, **ENDS),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("tunnel", NEWER, ids=lambda t: f"{t.name}-{getattr(t, 'payload', '')}")
def test_every_protocol_is_judged(tunnel: overlay.Tunnel) -> None:
    packets = [tunnel.encap(frame) for frame in (TCP4, TCP6, UDP4)]
    said = report(packets)
    assert said.worst is None, said.all_findings
    assert [t.protocol for t in said.tunnels] == [tunnel.name]
    assert said.tunnels[0].packets == 3
    wrong = tunnel.encap(TCP4[:-1] + bytes([TCP4[-1] ^ 1]))
    assert found([*packets, wrong])["inner-checksum"].packet == 4
    assert found([*packets, patched(wrong, 24, b"\xde\xad")])["ip-checksum"].packet == 4


def test_reserved_bits_of_geneve_and_gpe() -> None:
    good = NEWER[0].encap(TCP4)
    assert alone(patched(good, 43, b"\x01"), verify=False) == "geneve-reserved"
    gpe = NEWER[2].encap(TCP4)
    assert alone(patched(gpe, 43, b"\x01"), verify=False) == "gpe-reserved"
    plain = patched(gpe, 42, b"\x08\0\0\0")
    assert alone(plain, verify=False) == "vxlan-on-gpe-port"


# -- marks ------------------------------------------------------------------------------------


def marked(outer: int, inner: int) -> bytes:
    return vxlan(udp_frame(pattern(40), tos=inner), ip_fields={"tos": outer})


def test_congestion_on_a_frame_that_cannot_say_so() -> None:
    assert alone(marked(3, 0)) == "ecn-congestion"
    assert found([marked(3, 2), marked(3, 3), marked(2, 2)]) == {}


def test_ecn_and_dscp_that_stay_inside() -> None:
    assert alone(marked(0, 2)) == "ecn-not-propagated"
    assert alone(marked(0, 46 << 2)) == "dscp-not-propagated"
    assert found([marked(46 << 2 | 2, 46 << 2 | 2)]) == {}


@pytest.mark.parametrize("family", [4, 6])
def test_ttl_that_is_nearly_used_up(family: int) -> None:
    low = [vxlan(TCP4, family=family, ip_fields={"ttl": ttl}) for ttl in (1, 4, 5)]
    assert alone(low[0], low[1]) == "ttl-low"
    assert found([low[2], vxlan(ARP, dst="239.1.1.1", ip_fields={"ttl": 1})]) == {}


def test_df_clear() -> None:
    assert alone(vxlan(TCP4, ip_fields={"flags": 0})) == "df-clear"


# -- what decap refuses -----------------------------------------------------------------------

REFUSED = {
    Status.VXLAN_NO_VNI: vxlan(TCP4, flags=0),
    Status.UDP_LENGTH: vxlan(TCP4, length=4000),
    Status.INNER_TOO_SHORT: vxlan(b"\x02" * 10),
    Status.HEADER_TRUNCATED: packet(
        udp(b"\x08\0\0\0", 50000, 4789, LOCAL[4], REMOTE[4], check=0), 17
    ),
    Status.GRE_ROUTING: nvgre(UDP4, word=0x6000),
    Status.STT_VERSION: stt(UDP4, version=1),
    Status.STT_LENGTH: stt(UDP4, frame_length=20),
    Status.INNER_TAGGED: nvgre(TAGGED),
}  # fmt: skip


@pytest.mark.parametrize("status", REFUSED, ids=lambda status: status.name)
def test_refused_packets_have_their_status(status: Status) -> None:
    finding = found([*SOUND, REFUSED[status]])["refused"]
    assert (finding.status, finding.packet) == (status.name, len(SOUND) + 1)
    assert status.text in finding.seen
    assert finding.severity >= Severity.WARNING


def test_findings_are_put_to_their_tunnels() -> None:
    bad = vxlan(TCP4, vni=7, reserved8=1)
    said = report([vxlan(TCP4), bad, bad])
    assert [len(tunnel.findings) for tunnel in said.tunnels] == [0, 1]
    assert said.tunnels[1].findings[0].count == 2


# -- cut captures -------------------------------------------------------------------------------


def test_what_the_snap_length_hides_is_said() -> None:
    good = vxlan(LONG, check=-1)
    batch = overlay.Batch.from_array(
        np.frombuffer(bytearray(good[:200]), np.uint8), [0], [200], wire=[len(good)]
    )
    said = diagnose(batch)
    (tunnel,) = said.tunnels
    assert {finding.kind for finding in tunnel.findings} == {"truncated"}
    assert said.unjudged == {"outer checksum": 1, "inner checksum": 1}
    assert tunnel.bytes == len(good)


def test_gre_that_is_no_tunnel_of_frames_is_no_fault() -> None:
    plain = packet(gre(TCP4[14:], word=0, proto=0x0800), 47)
    assert all(f.severity == Severity.INFO for f in found([plain, *SOUND]).values())
    assert found([ethernet(pattern(60), 0x88B5)]) == {}
