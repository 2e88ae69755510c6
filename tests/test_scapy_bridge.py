"""overlay.scapy: layers, conversions, and what scapy gets wrong, put right.

The rows of the guide's table are the tests marked `row`: each shows scapy's own
bytes, from the release that is installed, and then ours.  The same tests run again
with the release before.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import frames
import overlay
from conftest import missing
from overlay import (
    ERSPAN,
    NVGRE,
    STT,
    VXLAN,
    VXLANGPE,
    ConfigError,
    DecapError,
    Geneve,
    GeneveOption,
    Status,
    Tunnel,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("scapy.all")
    from scapy.all import GRE, ICMP, IP, TCP, UDP, Ether, IPv6, Raw
    from scapy.config import conf
    from scapy.contrib.erspan import ERSPAN_I, ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
    from scapy.contrib.geneve import GENEVE, GeneveOptions
    from scapy.layers.dns import DNS
    from scapy.layers.vxlan import VXLAN as VX
    from scapy.packet import Packet

    import overlay.scapy as bridge

ROOT = Path(__file__).parent.parent
RELEASES = {"2.7.0", "2.8.0"}
ASKED_FOR = "OVERLAY_SCAPY_RELEASE"

ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2"}
NULL = "00:00:00:00:00:00"
ROWS: set[str] = set()


def row(name: str) -> Callable[[Any], Any]:
    """The test holds this row of the guide's table."""
    ROWS.add(name)
    return lambda test: test


def outer(family: int = 4) -> Packet:
    """scapy's outer headers as an `overlay` tunnel makes them."""
    head = Ether(src=NULL, dst=NULL)
    if family == 4:
        return head / IP(src=ENDS["local"], dst=ENDS["remote"], flags="DF", id=0)
    return head / IPv6(src="2001:db8::1", dst="2001:db8::2", fl=0x12345)


def tunnel(cls: type[Tunnel], family: int = 4, **fields: Any) -> Tunnel:
    ends = ENDS if family == 4 else {"local": "2001:db8::1", "remote": "2001:db8::2"}
    return cls(**ends, flow_label=0x12345, **fields)


def inner() -> Packet:
    return Ether(frames.UDP4)


def after(packet: Packet, skip: int = 34) -> bytes:
    """The bytes after the outer Ethernet and IPv4."""
    return bytes(packet)[skip:]


def echo(src: str, dst: str, kind: int) -> Packet:
    macs = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
    return Ether(**macs) / IP(src=src, dst=dst) / ICMP(type=kind, id=1, seq=1)


def both_ways(make: Callable[[Packet, int], Packet]) -> tuple[Packet, Packet]:
    """An echo request and its reply, through tunnels with a source port of their own."""
    there = Ether(src=NULL, dst=NULL) / IP(src="192.0.2.1", dst="192.0.2.2")
    back = Ether(src=NULL, dst=NULL) / IP(src="192.0.2.2", dst="192.0.2.1")
    request = there / make(echo("10.0.0.1", "10.0.0.2", 8), 50000)
    reply = back / make(echo("10.0.0.2", "10.0.0.1", 0), 60000)
    return Ether(bytes(request)), Ether(bytes(reply))


class TestLayers:
    @row("STT")
    @pytest.mark.parametrize("family", [4, 6])
    @pytest.mark.parametrize("name", ["UDP4", "TCP6", "ARP", "JUMBO"])
    def test_stt_is_built_as_the_tunnel_builds_it(self, family: int, name: str) -> None:
        frame = getattr(frames, name)
        ours = tunnel(STT, family, context_id=2**64 - 2, frame_id=77).encap(frame)
        packet = outer(family) / TCP(ack=77) / bridge.STT(context_id=2**64 - 2) / Ether(frame)
        assert bytes(packet) == ours
        read = Ether(ours)
        assert read[bridge.STT].context_id == 2**64 - 2
        assert bytes(read[bridge.STT].payload) == frame
        assert read[TCP].seq == (len(frame) + 18) << 16

    def test_stt_lengths_and_ports_follow_the_frame_until_the_end(self) -> None:
        packet = outer() / TCP(ack=1) / bridge.STT(context_id=1) / inner()
        assert packet[TCP].seq == (len(frames.UDP4) + 18) << 16
        longer = packet.copy() / Raw(b"more")
        assert longer[TCP].seq == (len(frames.UDP4) + 22) << 16
        assert packet[TCP].seq == (len(frames.UDP4) + 18) << 16
        read = Ether(bytes(packet))
        read[bridge.STT].remove_payload()
        read[bridge.STT].add_payload(Ether(frames.TCP6))
        for layer, field in (
            (TCP, "seq"),
            (TCP, "sport"),
            (TCP, "chksum"),
            (IP, "len"),
            (IP, "chksum"),
        ):
            delattr(read[layer], field)
        assert bytes(read) == tunnel(STT, context_id=1, frame_id=1).encap(frames.TCP6)

    def test_stt_fields_that_are_given_stay(self) -> None:
        fields = {
            "sport": 5,
            "dport": 7471,
            "seq": 99 << 16,
            "flags": "A",
            "window": 3,
            "chksum": 4,
        }
        packet = Ether(bytes(outer() / TCP(**fields) / bridge.STT() / inner()))
        assert {name: packet[TCP].getfieldval(name) for name in fields} == fields

    @pytest.mark.parametrize(
        ("name", "flags"),
        [("TCP4", 0x0E), ("UDP4", 0x06), ("TCP6", 0x0A), ("UDP6", 0x02)],
    )
    def test_stt_partial_checksums(self, name: str, flags: int) -> None:
        frame = Ether(getattr(frames, name))
        l4 = frame.getlayer(TCP) or frame.getlayer(UDP)
        del l4.chksum
        packet = outer() / TCP(ack=1) / bridge.STT(context_id=1, flags=flags) / frame
        ours = tunnel(STT, context_id=1, frame_id=1, inner_checksum="partial")
        assert bytes(packet) == ours.encap(getattr(frames, name))
        assert overlay.decap(bytes(packet)).frame == getattr(frames, name)

    def test_stt_segments_after_the_first_have_no_header(self) -> None:
        first, second = tunnel(STT, context_id=9).packets(bytes(2000), 1500)
        assert Ether(first)[bridge.STT].context_id == 9
        assert bridge.STT not in Ether(second)
        assert Raw in Ether(second)
        assert (bytes(Ether(first)), bytes(Ether(second))) == (first, second)

    def test_stt_on_other_ports_is_tcp(self) -> None:
        packet = bytearray(tunnel(STT, context_id=9).encap(frames.UDP4))
        packet[36:38] = b"\x1d\x30"
        assert bridge.STT not in Ether(bytes(packet))

    @row("NVGRE")
    @pytest.mark.parametrize("family", [4, 6])
    @pytest.mark.parametrize("flow_id", [None, 0, 7])
    def test_nvgre_is_built_as_the_tunnel_builds_it(self, family: int, flow_id: int | None) -> None:
        ours = tunnel(NVGRE, family, vsid=0x5001, flow_id=flow_id).encap(frames.TCP6)
        packet = outer(family) / bridge.NVGRE(vsid=0x5001, flow_id=flow_id) / Ether(frames.TCP6)
        assert bytes(packet) == ours
        read = Ether(ours)
        assert read[bridge.NVGRE].vsid == 0x5001
        assert bytes(read) == ours
        assert bytes(read[bridge.NVGRE].payload) == frames.TCP6
        # What was written for GRE goes on to work.
        assert GRE in read
        assert read[GRE].key == 0x5001 << 8 | read[bridge.NVGRE].flow_id

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"key_present": 1, "seqnum_present": 1},
            {"key_present": 1, "chksum_present": 1},
            {"key_present": 1, "proto": 0x0800},
        ],
        ids=str,
    )
    def test_other_gre_stays_gre(self, fields: dict[str, int]) -> None:
        packet = Ether(bytes(outer() / GRE(**fields) / inner()))
        assert type(packet[GRE]) is GRE
        assert bridge.NVGRE not in packet

    def test_pptp_stays_pptp(self) -> None:
        packet = Ether(bytes(outer() / Raw(bytes.fromhex("3001880b0000000000000000"))))
        packet[IP].proto = 47
        assert Ether(bytes(packet)).getlayer(2).name == "GRE PPTP"

    def test_summaries_and_show_name_the_networks(self) -> None:
        stt = Ether(tunnel(STT, context_id=0xABC).encap(frames.ICMP4))
        nvgre = Ether(tunnel(NVGRE, vsid=0x5001, flow_id=7).encap(frames.ARP))
        assert stt[bridge.STT].mysummary() == "STT context_id=0xabc"
        assert nvgre[bridge.NVGRE].mysummary() == "NVGRE vsid=0x5001 flow_id=0x7"
        assert "context_id= 0xabc" in stt.show(dump=True)
        assert "vsid      = 0x5001" in nvgre.show(dump=True)

    @pytest.mark.parametrize(
        ("layer", "field"), [(bridge.STT, "context_id"), (bridge.NVGRE, "vsid")]
    )
    def test_answers_are_of_the_same_network(self, layer: Any, field: str) -> None:
        def build(frame: Packet, key: int) -> Packet:
            return layer(bytes(layer(**{field: key}) / frame))

        request = build(echo("10.0.0.1", "10.0.0.2", 8), 0x5001)
        reply = build(echo("10.0.0.2", "10.0.0.1", 0), 0x5001)
        other = build(echo("10.0.0.2", "10.0.0.1", 0), 0x5002)
        assert reply.answers(request)
        assert reply.hashret() == request.hashret()
        assert not request.answers(reply)
        assert not other.answers(request)
        assert other.hashret() != request.hashret()
        assert not reply.answers(reply.payload)


class TestConversion:
    @pytest.mark.parametrize("family", [4, 6])
    @pytest.mark.parametrize("name", list(overlay.PROTOCOLS))
    def test_there_and_back(self, name: str, family: int) -> None:
        cls = overlay.PROTOCOLS[name]
        key = 5 if name == "erspan" else 0x5001
        ours = tunnel(cls, family, **{cls.key_field: key})
        packet = bridge.to_scapy(ours, frames.TCP6)
        data = bytes(packet)
        assert overlay.decap(data, protocols=[name]).frame == frames.TCP6
        assert bytes(bridge.to_scapy(data)) == data
        back, frame = bridge.from_scapy(packet, protocols=[name])
        assert frame == frames.TCP6
        assert back.key == key
        assert type(back) is cls

    def test_what_decap_gave(self) -> None:
        for ours in (tunnel(VXLAN, vni=5, gbp=3), tunnel(NVGRE, 6, vsid=0x5001)):
            data = ours.encap(frames.UDP4)
            assert bytes(bridge.to_scapy(overlay.decap(data))) == data
        raw = tunnel(VXLAN, vni=5).encap(frames.UDP4)[14:]
        packet = bridge.to_scapy(overlay.decap(raw, link=1))
        assert isinstance(packet, IP)
        assert bytes(packet) == raw

    def test_packets_that_begin_with_ip(self) -> None:
        for family, kind in ((4, IP), (6, IPv6)):
            data = tunnel(VXLAN, family, vni=5).encap(frames.UDP4)[14:]
            packet = bridge.to_scapy(data, link=1)
            assert type(packet) is kind
            found, frame = bridge.from_scapy(packet)
            assert (found.key, frame) == (5, frames.UDP4)

    @pytest.mark.parametrize("port", [4789, 8472, 12345])
    def test_vxlan_on_any_port(self, port: int) -> None:
        packet = bridge.to_scapy(tunnel(VXLAN, vni=5, port=port), frames.UDP4)
        assert packet[VX].vni == 5
        assert bytes(packet[VX].payload) == frames.UDP4
        found, frame = bridge.from_scapy(packet)
        assert (found.port, frame) == (port, frames.UDP4)  # type: ignore[attr-defined]

    @pytest.mark.parametrize(("cls", "layer"), [(Geneve, GENEVE), (VXLANGPE, VX)])
    def test_geneve_and_gpe_on_any_port(self, cls: Any, layer: Any) -> None:
        for port in (cls.__dataclass_fields__["port"].default, 12345):
            packet = bridge.to_scapy(tunnel(cls, vni=5, port=port), frames.UDP4)
            assert packet[layer].vni == 5
            found, frame = bridge.from_scapy(packet)
            assert (type(found), found.port, frame) == (cls, port, frames.UDP4)

    def test_scapys_own_frames(self) -> None:
        packet = bridge.to_scapy(tunnel(NVGRE, vsid=0x5001), inner())
        assert bytes(packet[bridge.NVGRE].payload) == frames.UDP4

    def test_what_is_refused(self) -> None:
        with pytest.raises(DecapError) as caught:
            bridge.from_scapy(outer() / UDP(sport=5, dport=6) / b"x")
        assert caught.value.status is Status.UNKNOWN_PROTOCOL
        with pytest.raises(ConfigError, match="frame"):
            bridge.to_scapy(tunnel(VXLAN, vni=5))


class TestWhatScapyGetsWrong:
    @row("VXLAN flags")
    def test_vxlan_flags(self) -> None:
        """P is a bit of VXLAN-GPE: reserved on 4789, where Linux drops such packets."""
        packet = outer() / UDP() / VX(vni=5) / inner()
        assert after(packet)[8:16].hex() == "0c00000300000500"
        with pytest.raises(DecapError, match="VXLAN_RESERVED"):
            overlay.decap(bytes(packet), "strict")
        with bridge.corrected():
            assert after(packet)[8:16].hex() == "0800000000000500"
            assert overlay.decap(bytes(packet), "strict").key == 5

    @row("VXLAN source port")
    def test_vxlan_source_port(self) -> None:
        made = [outer() / UDP() / VX(vni=5) / Ether(f) for f in (frames.UDP4, frames.TCP6)]
        assert {after(packet)[:4].hex() for packet in made} == {"12b512b5"}
        with bridge.corrected():
            ours = [tunnel(VXLAN, vni=5).encap(f)[34:38] for f in (frames.UDP4, frames.TCP6)]
            assert [after(packet)[:4] for packet in made] == ours
            assert ours[0] != ours[1]

    @row("VXLAN checksum")
    def test_vxlan_checksum(self) -> None:
        for family, skip in ((4, 40), (6, 60)):
            packet = outer(family) / UDP() / VX(vni=5) / inner()
            assert bytes(packet)[skip : skip + 2] != b"\0\0"
            with bridge.corrected():
                assert bytes(packet) == tunnel(VXLAN, family, vni=5).encap(frames.UDP4)
            with bridge.corrected(checksum=True):
                ours = tunnel(VXLAN, family, vni=5, checksum=True)
                assert bytes(packet) == ours.encap(frames.UDP4)

    @row("VXLAN group policy")
    def test_vxlan_group_policy(self) -> None:
        packet = outer() / UDP() / VX(vni=5, gpid=7) / inner()
        assert after(packet)[8:16].hex() == "0c00000300000500"
        with bridge.corrected():
            assert bytes(packet) == tunnel(VXLAN, vni=5, gbp=7).encap(frames.UDP4)

    @row("VXLAN-GPE port")
    @pytest.mark.parametrize(("version", "kind"), [(4, IP), (6, IPv6)])
    def test_vxlan_gpe_port(self, version: int, kind: Any) -> None:
        payload = kind(frames.UDP4[14:] if version == 4 else frames.UDP6[14:])
        packet = outer() / UDP() / VX(vni=5) / payload
        header = f"0c0000{ {4: '01', 6: '02'}[version] }00000500"
        assert after(packet)[2:4].hex() == "12b5"  # 4789, where every payload is Ethernet
        assert after(packet)[8:16].hex() == header
        with bridge.corrected():
            assert after(packet)[2:4].hex() == "12b6"
            assert after(packet)[8:16].hex() == header
            given = outer() / UDP(dport=4790) / VX(vni=5) / inner()
            assert after(given)[8:16].hex() == "0c00000300000500"

    @row("VXLAN answers")
    def test_vxlan_answers(self) -> None:
        request, reply = both_ways(lambda f, p: UDP(sport=p, dport=4789) / VX(vni=5, flags=8) / f)
        assert not reply.answers(request)
        with bridge.corrected():
            assert reply.answers(request)
            assert reply.hashret() == request.hashret()
            assert not request.answers(reply)

    @row("VXLAN networks")
    def test_vxlan_networks(self) -> None:
        request, reply = (
            outer() / UDP(sport=50000, dport=50000) / VX(vni=vni, flags=8) / frame
            for vni, frame in (
                (5, echo("10.0.0.1", "10.0.0.2", 8)),
                (6, echo("10.0.0.2", "10.0.0.1", 0)),
            )
        )
        assert reply[VX].answers(request[VX])
        with bridge.corrected():
            assert not reply[VX].answers(request[VX])

    @row("GENEVE source port")
    def test_geneve_source_port(self) -> None:
        """A constant 53; scapy itself reads such a packet as DNS."""
        packet = outer() / UDP() / GENEVE(vni=5) / inner()
        assert after(packet)[:4].hex() == "003517c1"
        assert GENEVE not in Ether(bytes(packet))
        assert DNS in Ether(bytes(packet))
        with bridge.corrected():
            assert after(packet)[:4] == tunnel(VXLAN, vni=5).encap(frames.UDP4)[34:36] + b"\x17\xc1"
            assert Ether(bytes(packet))[GENEVE].vni == 5

    @row("GENEVE answers")
    def test_geneve_answers(self) -> None:
        request, reply = both_ways(lambda f, p: UDP(sport=p, dport=6081) / GENEVE(vni=5) / f)
        assert not reply.answers(request)
        with bridge.corrected():
            assert reply.answers(request)
            assert reply.hashret() == request.hashret()

    @row("GENEVE critical options")
    def test_geneve_critical_options(self) -> None:
        option = GeneveOptions(classid=0x0102, type=0x80, data=b"abcd")
        packet = outer() / UDP(sport=50000) / GENEVE(vni=5, options=[option]) / inner()
        assert after(packet)[8:10].hex() == "0200"
        with bridge.corrected():
            assert after(packet)[8:10].hex() == "0240"
            assert bytes(Ether(bytes(packet))) == bytes(packet)
            off = outer() / UDP() / GENEVE(vni=5, critical=0, options=[option]) / inner()
            assert after(off)[8:10].hex() == "0200"

    @row("GENEVE option length")
    def test_geneve_option_length(self) -> None:
        option = GeneveOptions(classid=0x0102, type=1, data=b"abcdef")
        packet = outer() / UDP(sport=50000) / GENEVE(vni=5, options=[option]) / inner()
        assert after(packet)[16:26].hex() == "01020101" + b"abcdef".hex()
        assert bytes(Ether(bytes(packet))[GENEVE].payload)[:2] == b"ef"  # as a MAC address
        with bridge.corrected():
            assert after(packet)[16:28].hex() == "01020102" + b"abcdef".hex() + "0000"
            read = Ether(bytes(packet))
            assert read[GENEVE].options[0].data == b"abcdef\0\0"
            assert bytes(read[GENEVE].payload) == frames.UDP4

    @row("GENEVE option bits")
    def test_geneve_option_bits(self) -> None:
        option = GeneveOptions(classid=0x0102, type=1, reserved=7, data=b"abcd")
        assert bytes(option).hex() == "01020101" + b"abcd".hex()
        with bridge.corrected():
            assert bytes(option).hex() == "010201e1" + b"abcd".hex()

    @row("ERSPAN type III")
    def test_erspan_type_iii(self) -> None:
        packet = outer() / GRE() / ERSPAN_III(session_id=5) / inner()
        assert after(packet)[:8].hex() == "000022eb20000005"
        with bridge.corrected():
            assert after(packet)[:12].hex() == "100022eb0000000020000005"

    @row("ERSPAN payload")
    def test_erspan_payload(self) -> None:
        """The P bit: what follows is an Ethernet frame."""
        for head in (
            ERSPAN_III(session_id=5),
            ERSPAN_III(session_id=5) / ERSPAN_PlatformSpecific(),
        ):
            packet = outer() / GRE(seqnum_present=1) / head / inner()
            assert not after(packet)[18] & 0x80
            with bridge.corrected():
                assert after(packet)[18] & 0x80

    @row("ERSPAN type I")
    @pytest.mark.parametrize(("mac", "wrong"), [("1c", ERSPAN_II), ("2c", ERSPAN_III)])
    def test_erspan_type_i(self, mac: str, wrong: Any) -> None:
        """Told from the others by the first nibble of the mirrored frame, a MAC address."""
        frame = bytes.fromhex(mac) + frames.UDP4[1:]
        packet = bytes(outer() / GRE(proto=0x88BE) / Raw(frame))
        assert wrong in Ether(packet)
        with bridge.corrected():
            read = Ether(packet)
            assert ERSPAN_I in read
            assert bytes(read[ERSPAN_I].payload) == frame
            second = Ether(bytes(outer() / GRE() / ERSPAN_II(session_id=5) / inner()))
            assert second[ERSPAN_II].session_id == 5

    def test_the_table_of_the_guide_has_these_rows(self) -> None:
        page = (ROOT / "docs/guides/scapy.rst").read_text()
        table = page.split(".. list-table:: What scapy gets wrong")[1].split("\n\n\n")[0]
        found = set(re.findall(r"^   \* - (.+)$", table, re.MULTILINE)) - {"row"}
        assert found == ROWS


class TestCorrected:
    """Byte for byte what our tunnels make, under `corrected()`."""

    @pytest.mark.parametrize("name", ["UDP4", "TCP6", "ARP"])
    def test_geneve(self, name: str) -> None:
        frame = getattr(frames, name)
        options = [(0x0102, 0x80, b"abcd"), (0x0103, 1, b"")]
        theirs = [GeneveOptions(classid=c, type=t, data=d) for c, t, d in options]
        packet = outer() / UDP() / GENEVE(vni=5, options=theirs) / Ether(frame)
        ours = tunnel(Geneve, vni=5, options=tuple(GeneveOption(*one) for one in options))
        with bridge.corrected():
            assert bytes(packet) == ours.encap(frame)
            assert bridge.from_scapy(packet)[1] == frame

    @pytest.mark.parametrize(("name", "kind"), [("UDP4", IP), ("TCP6", IPv6)])
    def test_vxlan_gpe(self, name: str, kind: Any) -> None:
        frame = getattr(frames, name)
        packet = outer() / UDP() / VX(vni=5) / kind(frame[14:])
        for checksum in (False, True):
            with bridge.corrected(checksum=checksum):
                ours = tunnel(VXLANGPE, vni=5, payload="ip", checksum=checksum)
                assert bytes(packet) == ours.encap(frame)

    def test_erspan(self) -> None:
        for layer, kind in ((ERSPAN_II, 2), (ERSPAN_III, 3)):
            packet = outer() / GRE() / layer(session_id=5, vlan=7, cos=3) / inner()
            with bridge.corrected():
                ours = tunnel(ERSPAN, type=kind, session_id=5, vlan=7, cos=3)
                assert bytes(packet) == ours.encap(frames.UDP4)
        ours = bytes(tunnel(ERSPAN, type=1).encap(frames.UDP4))
        with bridge.corrected():
            assert bytes(outer() / GRE() / ERSPAN_I() / inner()) == ours
            assert ERSPAN_I in bridge.to_scapy(ours)

    @pytest.mark.parametrize("fields", [{}, {"key": 7}, {"checksum": True}, {"sequence": 9}])
    def test_gre_needs_no_correction(self, fields: dict[str, Any]) -> None:
        names = {"key": "key_present", "checksum": "chksum_present", "sequence": "seqnum_present"}
        values = {"key": "key", "sequence": "sequence_number"}
        bits = {names[name]: 1 for name in fields}
        given = {values[name]: value for name, value in fields.items() if name in values}
        packet = bytes(outer() / GRE(**bits, **given) / inner())
        assert packet == tunnel(overlay.GRE, **fields).encap(frames.UDP4)

    def test_stt_answers_through_its_ports(self) -> None:
        def make(frame: Packet, port: int) -> Packet:
            return TCP(sport=port) / bridge.STT(context_id=5) / frame

        request, reply = both_ways(make)
        assert not reply.answers(request)
        with bridge.corrected():
            assert reply.answers(request)
            assert reply.hashret() == request.hashret()
            plain = IP() / TCP(sport=1, dport=2, flags="S")
            assert not plain.answers(IP() / TCP(sport=5, dport=6, flags="S"))
            assert plain[TCP].hashret() == TCP(sport=1, dport=2).hashret()

    def test_what_is_given_stays(self) -> None:
        with bridge.corrected():
            packet = outer() / UDP(sport=1, dport=8472, chksum=3) / VX(vni=5, flags=0x0C) / inner()
            assert after(packet)[:8].hex() == "00012118003b0003".replace(
                "003b", f"{16 + len(frames.UDP4):04x}"
            )
            assert after(packet)[8] == 0x0C

    def test_everything_is_put_back(self) -> None:
        classes = (VX, GENEVE, GeneveOptions, UDP, TCP, ERSPAN_I, ERSPAN_III, IP, GRE, Ether)

        def state() -> list[dict[str, Any]]:
            return [{n: v for n, v in vars(c).items() if not n.startswith("__")} for c in classes]

        before = state()
        with bridge.corrected():
            assert state() != before
            with bridge.corrected():
                pass
            assert state() != before
        assert state() == before
        with pytest.raises(KeyError), bridge.corrected():
            raise KeyError
        assert state() == before

    def test_other_udp_is_untouched(self) -> None:
        packet = outer() / UDP(sport=1, dport=2) / b"abc"
        data = bytes(packet)
        with bridge.corrected():
            assert bytes(packet) == data
            assert UDP(sport=2, dport=1).answers(UDP(sport=1, dport=2))
            assert not UDP(sport=2, dport=3).answers(UDP(sport=1, dport=2))


def test_this_is_the_release_that_was_asked_for() -> None:
    assert os.environ.get(ASKED_FOR, conf.version) == conf.version


@pytest.mark.slow
@pytest.mark.skipif(ASKED_FOR in os.environ, reason="this is the other release")
@pytest.mark.parametrize("release", sorted(RELEASES - {conf.version}))
def test_the_same_with_the_other_release(release: str, tmp_path: Path) -> None:
    """The release before the one that is installed, or the one after it."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    done = subprocess.run([*pip, f"scapy=={release}"], capture_output=True, text=True, timeout=300)
    if done.returncode:
        missing(f"scapy {release} from the package index")
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-pno:cacheprovider", "-pno:xdist", __file__],
        capture_output=True, text=True, timeout=600, cwd=ROOT,
        env=os.environ | {
            ASKED_FOR: release, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])
        },
    )  # fmt: skip
    assert again.returncode == 0, again.stdout
