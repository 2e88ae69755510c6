"""The diagnosis as its users meet it: the report, the command, real captures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import overlay
from command import run
from frames import ARP, TCP4, UDP4
from overlay import Status
from overlay.diagnosis import KINDS, Severity, diagnose
from overlay.diagnosis.refusal import REFUSALS, ROWS
from overlay.io.pcap import open_capture
from suspect import FIRST, SECOND, capture, patched, report
from wire import nvgre, stt, vxlan

CAPTURES = Path(__file__).parent.parent.parent / "shared" / "captures"
DOCS = Path(__file__).parent.parent / "docs"
SOUND = [vxlan(TCP4), vxlan(ARP), nvgre(UDP4), stt(UDP4)]
# Statuses that decap does not give: of encap, of batches, of the switch and of devices.
NOT_DECAP = {*range(54, 74), Status.KEY_RANGE, Status.NO_FIELD}
NOT_DECAP_EITHER = {0, 2, 3, 4, 5, 6, 7, 8}


def wrong(packet: bytes) -> bytes:
    """The packet with a wrong IPv4 header checksum."""
    return patched(packet, 24, bytes([packet[24] ^ 0x55]))


# -- the report -----------------------------------------------------------------------


def test_tunnels_are_counted_a_direction_and_a_key_each() -> None:
    back = vxlan(TCP4, src="198.51.100.2", dst="198.51.100.1")
    said = report([vxlan(TCP4), vxlan(TCP4, vni=7), back, vxlan(ARP), UDP4])
    assert (said.packets, said.others, len(said.tunnels)) == (5, 1, 3)
    first, second, third = said.tunnels
    assert (first.packets, first.key, first.protocol) == (2, 0x123456, "vxlan")
    assert (first.packet, first.begin, first.end) == (1, FIRST, FIRST + 3 * SECOND)
    assert first.bytes == len(vxlan(TCP4)) + len(vxlan(ARP))
    assert (second.key, third.source) == (7, "198.51.100.2")
    assert said.bytes == sum(map(len, [*SOUND[:2], back, vxlan(TCP4), UDP4]))


def test_packets_are_numbered_as_wireshark_does() -> None:
    packets = [UDP4] * 16 + [wrong(vxlan(UDP4))] + [UDP4] + [wrong(vxlan(ARP))] * 8
    (finding,) = report(packets).of("ip-checksum")
    assert (finding.packet, finding.count) == (17, 9)
    assert finding.packets == (17, 19, 20, 21, 22)


def test_numbers_go_on_from_burst_to_burst(tmp_path: Path) -> None:
    packets = [vxlan(UDP4)] * 50 + [wrong(vxlan(UDP4))] + [vxlan(UDP4)] * 50
    path = capture(tmp_path / "c.pcap", packets)
    with open_capture(path, burst_bytes=256) as bursts:
        said = diagnose(bursts)
    assert said.packets == 101
    assert said.of("ip-checksum")[0].packet == 51


def test_a_batch_is_only_read() -> None:
    batch = overlay.Batch.from_frames([*SOUND, wrong(vxlan(UDP4))])
    before = batch.to_list(), batch.offset.tolist(), batch.status.tolist()
    assert diagnose(batch).of("ip-checksum")[0].packet == 5
    assert (batch.to_list(), batch.offset.tolist(), batch.status.tolist()) == before


def test_an_empty_capture_shows_nothing(tmp_path: Path) -> None:
    said = diagnose(capture(tmp_path / "c.pcap", []))
    assert (said.packets, said.tunnels, said.worst) == (0, (), None)


@pytest.mark.parametrize(
    "options", [{"paths": 1}, {"mtu": 10}, {"vxlan_port": -1}, {"verify_checksums": True}]
)
def test_a_bad_option_is_named(options: dict[str, int]) -> None:
    with pytest.raises(overlay.ConfigError) as error:
        diagnose("nowhere.pcap", **options)  # type: ignore[arg-type]
    assert error.value.field == next(iter(options))


# -- the catalogue --------------------------------------------------------------------


def test_every_status_of_decap_has_its_advice() -> None:
    given = {s.name for s in Status if s not in NOT_DECAP and s not in NOT_DECAP_EITHER}
    assert given == set(ROWS)
    assert all("\n" not in advice and advice.endswith(".") for _, advice in REFUSALS.values())


def test_every_kind_is_in_the_guide() -> None:
    page = (DOCS / "guides" / "diagnosis.rst").read_text()
    rows = re.findall(r"^   \* - ``([a-z-]+)``\n     - (\w+)$", page, re.MULTILINE)
    assert rows == [(kind.name, kind.severity.label) for kind in KINDS.values()]
    text = " ".join(page.split())
    for kind in KINDS.values():
        assert kind.meaning[1:] in text
        assert kind.advice[1:].rstrip(".") in text


def test_advice_is_one_line() -> None:
    for kind in KINDS.values():
        assert "\n" not in kind.advice + kind.meaning
        assert kind.advice.endswith((".", ")."))


# -- real captures --------------------------------------------------------------------

CLEAN = [
    "peers/k_vxlan_v4_arp_icmp", "peers/k_vxlan_v4_gbp", "peers/k_vxlan_v6_outer",
    "peers/ovs_geneve_v4", "peers/ovs_gre_v4", "peers/ovs_vxlan_v4", "tcpdump/vxlan",
    "tcpdump/bigtcp-ipv4-vxlan-ipv4", "tcpdump/bigtcp-ipv6-vxlan-ipv6",
    "tcpdump/gso-ipv4-vxlan-ipv4", "tcpdump/gso-ipv4-vxlan-ipv6", "tcpdump/gso-ipv6-vxlan-ipv4",
    "tcpdump/gso-ipv6-vxlan-ipv6", "zeek/vxlan", "zeek/vxlan-encapsulated-http",
    "zeek/vxlan-encapsulated-igmp-v2", "zeek/gre-sample", "zeek/gre-within-gre",
    "zeek/geneve", "zeek/geneve-47101", "gopacket/vxlan", "gopacket/gre",
    "tcpdump/vxlan_port_8472", "tcpdump/gso-ipv4-geneve-ipv4", "tcpdump/erspan-type-i-1",
    "tcpdump/erspan-type-ii-1", "zeek/erspanI", "zeek/erspanII", "zeek/erspanIII",
    "tcpdump/various_gre", "tcpdump/wccp_redirect_gre",
]  # fmt: skip


real = pytest.mark.skipif(not CAPTURES.is_dir(), reason="the captures are missing")


@real
@pytest.mark.parametrize("name", CLEAN)
def test_no_alarm_on_healthy_captures(name: str) -> None:
    said = diagnose(CAPTURES / f"{name}.pcap")
    assert said.packets
    assert [f for _, f in said.all_findings if f.severity >= Severity.WARNING] == []


@real
def test_every_real_capture_can_be_judged() -> None:
    for path in sorted(CAPTURES.glob("*/*.pcap*")):
        if path.suffix in (".pcap", ".pcapng"):
            said = diagnose(path)
            assert said.packets == said.others + sum(t.packets for t in said.tunnels)


@real
def test_a_checksum_that_is_known_to_be_bad_is_found() -> None:
    said = diagnose(CAPTURES / "zeek" / "vxlan-inner-tcp-bad-checksum.pcap")
    (finding,) = said.of("inner-checksum")
    assert "0xdead" in finding.seen


@real
def test_networks_that_are_known_to_be_asymmetric_are_found() -> None:
    """tcpdump's GENEVE capture goes by VNI 10 one way and by VNI 11 the other."""
    finding = diagnose(CAPTURES / "tcpdump" / "geneve.pcap").of("asymmetric-key")[0]
    assert finding.packet == 39 or "the way back by key" in finding.seen


# -- the command ----------------------------------------------------------------------


def test_command_says_what_the_library_says(tmp_path: Path) -> None:
    path = capture(tmp_path / "c.pcap", [*SOUND, wrong(vxlan(UDP4))])
    result = run("diagnose", path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == diagnose(path).as_dict()


def test_command_for_people(tmp_path: Path) -> None:
    path = capture(tmp_path / "c.pcap", [UDP4] * 16 + [wrong(vxlan(UDP4))])
    result = run("diagnose", path)
    assert "error ip-checksum: packet 17\n" in result.stdout
    assert "192.0.2.1 > 198.51.100.2 vxlan 1193046" in result.stdout
    assert KINDS["ip-checksum"].advice in result.stdout


def test_strict_and_severity(tmp_path: Path) -> None:
    good = capture(tmp_path / "good.pcap", SOUND)
    bad = capture(tmp_path / "bad.pcap", [wrong(vxlan(UDP4))])
    assert run("diagnose", good, "--strict").exit_code == 0
    assert run("diagnose", bad, "--strict").exit_code == 1
    assert run("diagnose", bad).exit_code == 0
    mild = capture(tmp_path / "mild.pcap", [vxlan(UDP4, ip_fields={"flags": 0})])
    assert "df-clear" in run("diagnose", mild).stdout
    result = run("diagnose", mild, "--min-severity", "warning", "--strict")
    assert (result.exit_code, "nothing found" in result.stdout) == (0, True)


def test_command_ends_as_the_others_do(tmp_path: Path) -> None:
    result = run("diagnose", tmp_path / "none.pcap")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "none.pcap" in result.stderr
    result = run("diagnose", tmp_path / "none.pcap", "--paths", "1")
    assert (result.exit_code, "--paths 1" in result.stderr) == (2, True)
    path = capture(tmp_path / "c.pcap", SOUND)
    path.write_bytes(path.read_bytes()[:-3])
    result = run("diagnose", path, "--json")
    assert (result.exit_code, json.loads(result.stdout)["packets"]) == (2, 3)
    assert "c.pcap: byte" in result.stderr
