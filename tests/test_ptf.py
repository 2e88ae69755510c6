"""overlay.ptf against PTF itself: its constructors by scapy, its tests by our headers."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import frames
import overlay
from conftest import missing
from overlay import ConfigError, ptf
from overlay.match import Mask, Matcher

ROOT = Path(__file__).parent.parent
# PTF says Dot1Q's id where scapy says dei.
pytestmark = pytest.mark.filterwarnings("ignore:id has been deprecated:DeprecationWarning")

#: PTF's constructors, with arguments that both take and that mean the same.
SAME: dict[str, list[dict[str, Any]]] = {
    "simple_eth_packet": [{}, {"pktlen": 14}, {"pktlen": 80, "eth_type": 0x88B5}],
    "simple_arp_packet": [
        {},
        {"arp_op": 2, "ip_snd": "10.0.0.1", "ip_tgt": "10.0.0.2", "hw_tgt": "02:00:00:00:00:09"},
        {"vlan_vid": 7, "vlan_pcp": 3, "pktlen": 100},
    ],
    "simple_tcp_packet": [
        {},
        {"pktlen": 20},
        {"pktlen": 1400, "tcp_flags": "SA", "tcp_sport": 5, "tcp_dport": 6, "ip_ttl": 3},
        {"dl_vlan_enable": True, "vlan_vid": 100, "vlan_pcp": 5, "dl_vlan_cfi": 1},
        {"ip_tos": 0xFF, "ip_ecn": 1, "ip_dscp": 10, "ip_id": 9, "ip_frag": 5, "ip_ihl": 5},
        {"with_tcp_chksum": False, "ip_src": "10.9.8.7", "ip_dst": "10.1.2.3"},
    ],
    "simple_tcpv6_packet": [
        {}, {"pktlen": 200, "ipv6_ecn": 2, "ipv6_dscp": 9, "ipv6_hlim": 1, "ipv6_fl": 0xABCDE},
    ],
    "simple_udp_packet": [
        {},
        {"pktlen": 999, "udp_sport": 1, "udp_dport": 2, "ip_flag": 2, "udp_payload": b"abc"},
        {"with_udp_chksum": False, "dl_vlan_enable": True, "vlan_vid": 5},
    ],
    "simple_udpv6_packet": [{}, {"with_udp_chksum": False, "dl_vlan_enable": True, "vlan_vid": 5}],
    "simple_icmp_packet": [{}, {"icmp_type": 0, "icmp_code": 3, "icmp_data": b"abc", "pktlen": 77}],
    "simple_icmpv6_packet": [{}, {"icmp_type": 128, "pktlen": 99, "ipv6_src": "::5"}],
    "simple_vxlan_packet": [
        {},
        {"inner_frame": True, "vxlan_vni": 0xFFFFFF, "udp_sport": 50000, "vxlan_reserved2": 9},
        {"with_udp_chksum": False, "ip_flags": 2, "inner_frame": True, "vxlan_reserved1": 0xABCDEF},
        {"dl_vlan_enable": True, "vlan_vid": 5, "pktlen": 400, "udp_dport": 8472},
        {"vxlan_flags": 0x0C, "inner_frame": True, "vxlan_reserved0": 0x1234},
    ],
    "simple_nvgre_packet": [
        {"inner_frame": True, "nvgre_tni": 0x5001, "nvgre_flowid": 7},
        {"inner_frame": True, "dl_vlan_enable": True, "vlan_vid": 9, "ip_flags": 2},
    ],
    "simple_geneve_packet": [
        {}, {"inner_frame": True, "geneve_vni": 77, "ip_ttl": 2, "with_udp_chksum": False},
    ],
    "simple_gre_packet": [
        {"inner_frame": True},
        {"inner_frame": True, "gre_key_present": 1, "gre_key": 0xDEADBEEF},
        {"inner_frame": True, "gre_chksum_present": 1, "gre_seqnum_present": 1,
         "gre_sequence_number": 5},
    ],
}  # fmt: skip
#: The argument that holds the key of a tunnel's constructor.
KEYS = {
    "vxlan": "vxlan_vni", "nvgre": "nvgre_tni", "stt": "stt_context_id", "geneve": "geneve_vni",
    "gre": "gre_key",
}  # fmt: skip
CASES = [(name, number) for name, several in SAME.items() for number in range(len(several))]


@pytest.fixture(scope="module")
def testutils() -> Any:
    """PTF's own constructors, made with scapy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import ptf.testutils as found
        except ImportError:
            missing("ptf")
    return found


@pytest.fixture(scope="module")
def scapy() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ptf.packet as found
    return found


def given(name: str, number: int, frame: Any) -> dict[str, Any]:
    values = dict(SAME[name][number])
    if values.get("inner_frame") is True:
        values["inner_frame"] = frame
    return values


@pytest.mark.parametrize(("name", "number"), CASES)
def test_the_same_bytes_as_ptf(testutils: Any, scapy: Any, name: str, number: int) -> None:
    theirs = getattr(testutils, name)(**given(name, number, scapy.Ether(frames.UDP4)))
    ours = getattr(ptf, name)(**given(name, number, frames.UDP4))
    assert bytes(ours).hex() == bytes(theirs).hex()
    assert len(ours) == len(bytes(ours))


@pytest.mark.parametrize(("name", "number"), CASES)
def test_what_is_read_is_built_again(name: str, number: int) -> None:
    ours = getattr(ptf, name)(**given(name, number, frames.UDP4))
    assert bytes(ptf.Ether(bytes(ours))) == bytes(ours)
    for other in (ours.copy(), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert bytes(other) == bytes(ours)
        assert other == ours


def test_ptf_makes_its_packets_of_our_headers(testutils: Any, scapy: Any) -> None:
    """PTF's own code, in a process where there is no scapy."""
    code = """
import json, sys
import ptf.testutils as t, ptf.packet as p, ptf.mask
cases = json.loads(sys.argv[1])
out = []
for name, values in cases:
    if values.get("inner_frame"):
        values["inner_frame"] = p.Ether(bytes.fromhex(values["inner_frame"]))
    for key in ("udp_payload", "icmp_data"):
        if key in values:
            values[key] = values[key].encode()
    out.append(bytes(getattr(t, name)(**values)).hex())
packet = t.simple_vxlan_packet()
mask = ptf.mask.Mask(packet)
mask.set_do_not_care_packet(p.IP, "ttl")
mask.set_do_not_care_packet(p.IP, "chksum")
mask.set_do_not_care_packet(p.VXLAN, "vni")
other = t.simple_vxlan_packet(ip_ttl=9, vxlan_vni=1, with_udp_chksum=True)
mask.set_do_not_care_packet(p.UDP, "chksum")
checks = [mask.pkt_match(bytes(other)), mask.pkt_match(bytes(t.simple_vxlan_packet(udp_sport=9)))]
checks += ["TCP" in t.inspect_packet(packet), t.ipv6_filter(bytes(packet)), "packet" in str(mask)]
tags = dict(dl_taglist_enable=True, dl_vlan_pcp_list=[1, 2], dl_vlan_cfi_list=[0, 0])
tags |= dict(dl_tpid_list=[0x88A8, 0x8100], dl_vlanid_list=[3, 4])
tagged = t.simple_tcp_packet_ext_taglist(**tags)
out.append(bytes(tagged).hex())
checks.append(any(m.split(".")[0] == "scapy" for m in sys.modules))
print(json.dumps([out, checks]))
"""
    cases = []
    for name, number in CASES:
        values = given(name, number, frames.UDP4.hex())
        text = {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}
        cases.append((name, text))
    environment = os.environ | {
        "PTF_PACKET_MANIPULATION_MODULE": "overlay.ptf", "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(cases)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    built, checks = json.loads(result.stdout.splitlines()[-1])
    tagged = testutils.simple_tcp_packet_ext_taglist(
        dl_taglist_enable=True, dl_vlan_pcp_list=[1, 2], dl_vlan_cfi_list=[0, 0],
        dl_tpid_list=[0x88A8, 0x8100], dl_vlanid_list=[3, 4],
    )  # fmt: skip
    assert built.pop() == bytes(tagged).hex()
    for (name, number), ours in zip(CASES, built, strict=True):
        theirs = getattr(testutils, name)(**given(name, number, scapy.Ether(frames.UDP4)))
        assert ours == bytes(theirs).hex(), (name, SAME[name][number])
    assert checks == [True, False, True, False, True, False]


def test_every_header_that_ptf_names_is_there_or_none(testutils: Any) -> None:
    import ptf.packet_scapy as theirs

    names = {n for n in vars(theirs) if n[:1].isupper()} | {"hexdump", "ls"}
    assert names <= set(ptf.__all__)
    assert set(ptf.__all__) <= set(vars(ptf))


class TestDifferences:
    """Each row of the guide's table: PTF's bytes, and ours."""

    def test_the_table(self) -> None:
        page = (ROOT / "docs/guides/ptf.rst").read_text()
        table = page.split(".. list-table:: Where the bytes differ")[1].split("\n\n\n")[0]
        rows = re.findall(r"^   \* - (.+)$", table, re.MULTILINE)[1:]
        tests = [n[5:].replace("_", " ") for n in vars(type(self)) if n.startswith("test_")]
        assert sorted(rows) == sorted(set(tests) - {"the table"})

    def test_nvgre_without_a_frame(self, testutils: Any) -> None:
        theirs = bytes(testutils.simple_nvgre_packet())
        assert theirs[36:38] == b"\x65\x58"  # Ethernet follows
        assert theirs[42] == 0x45  # an IPv4 header does
        ours = overlay.decap(bytes(ptf.simple_nvgre_packet(nvgre_tni=0x5001)))
        assert ours.frame[12:14] == b"\x08\x00"

    def test_gre_around_some_frames(self, testutils: Any, scapy: Any) -> None:
        frame = b"\x60" + frames.UDP4[1:]
        theirs = testutils.simple_gre_packet(inner_frame=scapy.Ether(frame))
        assert bytes(theirs)[36:38] == b"\x86\xdd"  # by the first half of its MAC address
        assert bytes(ptf.simple_gre_packet(inner_frame=frame))[36:38] == b"\x65\x58"
        for kind, data, proto in (
            (ptf.IP, frames.UDP4[14:], b"\x08\x00"), (ptf.IPv6, frames.UDP6[14:], b"\x86\xdd"),
        ):  # fmt: skip
            assert bytes(ptf.simple_gre_packet(inner_frame=kind(data)))[36:38] == proto

    def test_gre_without_a_frame(self, testutils: Any) -> None:
        assert bytes(testutils.simple_gre_packet())[36:38] == b"\x08\x00"
        assert bytes(ptf.simple_gre_packet())[36:38] == b"\x65\x58"

    def test_options_and_a_tag(self, testutils: Any, scapy: Any) -> None:
        tag = {"dl_vlan_enable": True, "vlan_vid": 5}
        option = b"\x94\x04\0\0"
        theirs = testutils.simple_vxlan_packet(ip_options=scapy.IPOption(option), **tag)
        assert bytes(theirs)[18] == 0x45
        ours = bytes(ptf.simple_vxlan_packet(ip_options=option, **tag))
        assert ours[18] == 0x46
        assert ours[38:42] == option
        assert overlay.decap(ours).key == 0xABA

    def test_geneve_fields(self, testutils: Any) -> None:
        fields = {"geneve_ver": 1, "geneve_reserved": 1, "geneve_reserved2": 7}
        assert bytes(testutils.simple_geneve_packet(**fields))[42:50].hex() == "0000655800123400"
        assert bytes(ptf.simple_geneve_packet(**fields))[42:50].hex() == "4001655800123407"
        options = [b"\x01\x02\x80\x01abcd"]
        packet = bytes(ptf.simple_geneve_packet(geneve_options=options))
        assert packet[42:58].hex() == "0240655800123400" + options[0].hex()

    def test_nvgre_version(self, testutils: Any) -> None:
        assert bytes(testutils.simple_nvgre_packet(nvgre_version=1))[34:36].hex() == "2000"
        assert bytes(ptf.simple_nvgre_packet(nvgre_version=1))[34:36].hex() == "2001"

    def test_gre_keys(self, testutils: Any) -> None:
        assert bytes(testutils.simple_gre_packet(gre_key=5))[34:36].hex() == "0000"
        assert bytes(ptf.simple_gre_packet(gre_key=5))[34:42].hex() == "2000655800000005"
        off = bytes(ptf.simple_gre_packet(gre_key=5, gre_key_present=0))
        assert off[34:36].hex() == "0000"


class TestPackets:
    @pytest.mark.parametrize("name", list(KEYS))
    def test_what_overlay_reads_of_them(self, name: str) -> None:
        make = getattr(ptf, f"simple_{name}_packet")
        packet = make(
            inner_frame=frames.TCP6, ip_src="192.0.2.1", ip_dst="192.0.2.2", **{KEYS[name]: 0x5001}
        )
        found = overlay.decap(bytes(packet), "strict", protocols=[name])
        assert (found.protocol, found.key, found.frame) == (name, 0x5001, frames.TCP6)

    @pytest.mark.parametrize("name", list(KEYS))
    def test_entropy_is_that_of_the_tunnels(self, name: str) -> None:
        """And so is every other byte."""
        entropy = {"nvgre": "nvgre_flowid", "stt": "tcp_sport", "gre": "gre_offset"}
        ours = getattr(ptf, f"simple_{name}_packet")(
            inner_frame=frames.TCP4, ip_id=0, ip_flags=2,
            **{entropy.get(name, "udp_sport"): None, KEYS[name]: 0x5001},
        )  # fmt: skip
        cls = overlay.PROTOCOLS[name]
        more = {"vxlan": {"checksum": True}, "stt": {"frame_id": 1}}.get(name, {})
        tunnel = cls(
            local="192.168.0.1", remote="192.168.0.2", local_mac="00:06:07:08:09:0a",
            remote_mac="00:01:02:03:04:05", **{cls.key_field: 0x5001}, **more,
        )  # fmt: skip
        assert bytes(ours) == tunnel.encap(frames.TCP4)

    def test_geneve_options_are_those_of_the_tunnel(self) -> None:
        option = overlay.GeneveOption(0x0102, 0x80, b"abcd")
        ours = ptf.simple_geneve_packet(
            geneve_options=[b"\x01\x02\x80\x01abcd"], inner_frame=frames.TCP4
        )
        assert overlay.decap(bytes(ours), options=[(0x0102, 0x80)]).tunnel.options == (option,)

    def test_headers_are_found_and_changed(self) -> None:
        packet = ptf.simple_vxlan_packet(inner_frame=frames.UDP4)
        assert ptf.VXLAN in packet
        assert ptf.STT not in packet
        assert packet["VXLAN"].vni == packet[ptf.VXLAN].vni == 0xABA
        assert packet[ptf.IP].dst == "192.168.0.2"
        assert packet[ptf.IP : 2].dst == "10.1.0.2"
        assert packet[ptf.UDP].dport == 4789
        packet[ptf.VXLAN].vni = 7
        assert overlay.decap(bytes(packet)).key == 7
        with pytest.raises(IndexError, match="STT"):
            packet[ptf.STT]
        with pytest.raises(AttributeError, match="vni"):
            packet[ptf.IP].vni = 3
        assert packet.summary() == "Ethernet / IP / UDP / VXLAN / Ethernet / IP / UDP / Raw"

    def test_values_that_were_read_stay_until_they_are_deleted(self) -> None:
        packet = ptf.Ether(bytes(ptf.simple_udp_packet()))
        before = packet[ptf.IP].chksum
        packet[ptf.IP].ttl = 3
        assert packet[ptf.IP].chksum == before
        del packet[ptf.IP].chksum
        assert bytes(packet) == bytes(ptf.simple_udp_packet(ip_ttl=3))

    def test_ports_of_tunnels_follow_from_what_is_above(self) -> None:
        ip = ptf.Ether() / ptf.IP(src="192.0.2.1", dst="192.0.2.2")
        inner = ptf.Ether(frames.UDP4)
        for lower, upper, port in (
            (ptf.UDP(), ptf.VXLAN(vni=5), 4789),
            (ptf.UDP(), ptf.GENEVE(vni=5), 6081),
            (ptf.TCP(), ptf.STT(context_id=5), 7471),
        ):
            packet = bytes(ip / lower / upper / inner)
            assert int.from_bytes(packet[36:38], "big") == port
            assert int.from_bytes(packet[34:36], "big") >= 49152
        gpe = bytes(ip / ptf.UDP() / ptf.VXLAN(vni=5, flags=0x0C) / inner)
        assert int.from_bytes(gpe[36:38], "big") == 4790

    def test_what_does_not_fit(self) -> None:
        with pytest.raises(ConfigError, match="vni"):
            bytes(ptf.simple_vxlan_packet(vxlan_vni=2**24))
        with pytest.raises(ConfigError, match="dst"):
            bytes(ptf.simple_tcp_packet(eth_dst="nonsense"))
        with pytest.raises(TypeError, match="udp_port"):
            ptf.simple_vxlan_packet(udp_port=5)
        with pytest.raises(ConfigError, match="data"):
            ptf.Ether(b"short")

    def test_packets_cut_anywhere_are_read_as_far_as_they_go(self) -> None:
        for name in ("vxlan", "nvgre", "stt", "geneve", "gre"):
            data = bytes(getattr(ptf, f"simple_{name}_packet")(inner_frame=frames.TCP6))
            for size in range(14, len(data)):
                assert bytes(ptf.Ether(data[:size])) == data[:size]

    def test_hexdump_and_ls(self, capsys: pytest.CaptureFixture[str]) -> None:
        ptf.hexdump(b"overlay\0" * 3)
        assert capsys.readouterr().out.splitlines() == [
            "0000  6f 76 65 72 6c 61 79 00 6f 76 65 72 6c 61 79 00  overlay.overlay.",
            "0010  6f 76 65 72 6c 61 79 00                          overlay.",
        ]
        ptf.ls(ptf.simple_vxlan_packet())
        ptf.ls(ptf.VXLAN)
        assert "vni             = 2746" in capsys.readouterr().out


class TestMasks:
    def test_fields_of_our_headers(self) -> None:
        mask = Mask(ptf.simple_vxlan_packet())
        for layer, field in ((ptf.IP, "ttl"), (ptf.IP, "chksum"), (ptf.VXLAN, "vni")):
            mask.set_do_not_care_packet(layer, field)
        mask.set_do_not_care_packet(ptf.UDP, "chksum")
        came = ptf.simple_vxlan_packet(ip_ttl=9, vxlan_vni=3)
        assert mask.pkt_match(came)
        assert Matcher([mask]).match([came]).ok
        assert not mask.pkt_match(ptf.simple_vxlan_packet(ip_dst="192.0.2.9"))

    def test_the_same_bits_as_ptf(self, testutils: Any, scapy: Any) -> None:
        import ptf.mask

        theirs = ptf.mask.Mask(testutils.simple_vxlan_packet(vxlan_vni=5))
        ours = Mask(testutils.simple_vxlan_packet(vxlan_vni=5))
        for mask in (theirs, ours):
            for layer, field in (
                ("IP", "ttl"),
                ("UDP", "chksum"),
                ("VXLAN", "vni"),
                ("IP", "flags"),
            ):
                mask.set_do_not_care_packet(getattr(scapy, layer), field)
            mask.set_do_not_care(3, 7)
            mask.set_care(5, 2)
        assert ours.mask == theirs.mask
        with pytest.raises(ConfigError, match="hdr_type"):
            ours.set_do_not_care_packet(scapy.GRE, "proto")
        with pytest.raises(ConfigError, match="field_name"):
            ours.set_do_not_care_packet(scapy.IP, "nothing")
