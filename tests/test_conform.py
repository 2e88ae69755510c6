"""Conformance: the package passes its own cases, broken devices fail the right ones.

The kernel and Open vSwitch, in network namespaces, fail what they are known to.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from command import run as command
from conftest import HERE
from lab import need_hosts, need_tap, need_tools
from overlay.conformance import CASES, CodecDevice, Device, Report, Setting, Verdict, run, select
from overlay.conformance.case import ALL
from overlay.conformance.namespaces import NamespaceDevice
from overlay.conformance.packet import sum16
from overlay.errors import ConfigError
from overlay.lab.host import Host, link
from overlay.lab.topology import OFFLOADS

_TAGS = {"VXLAN-20", "VXLAN-21", "GPE-10"}  # of RFC 7348 6.1, which is followed if asked for


def ended(device: Device, protocol: str, family: int = 4, only: Sequence[str] = ()) -> Report:
    return Report("device", "", list(run(device, select(protocol, family, only))))


def failed(report: Report) -> set[str]:
    return {one.case.id for one in report.results if one.verdict is Verdict.FAILED}


def unjudged(report: Report) -> set[str]:
    return {one.case.id for one in report.results if one.verdict is Verdict.UNJUDGED}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ALL)
def test_the_codec_passes_every_case(protocol: str, family: int) -> None:
    report = ended(CodecDevice(Setting.of(protocol, family)), protocol, family)
    assert failed(report) <= _TAGS
    assert report.conforms
    # There is no checksum to judge where none is sent.
    assert unjudged(report) == ({"COM-5"} if (protocol, family) == ("vxlan", 4) else set())


@pytest.mark.parametrize("protocol", ALL)
def test_the_codec_that_refuses_tags_passes_all(protocol: str) -> None:
    device = CodecDevice(Setting.of(protocol), inner_vlan="refuse")
    assert not failed(ended(device, protocol)) - {"STT-26", "STT-27"}  # tags in the header


@pytest.mark.parametrize("protocol", ALL)
def test_every_case_says_what_it_is_about(protocol: str) -> None:
    cases = [case for case in CASES if protocol in case.protocols]
    assert len({case.id for case in cases}) == len(cases) > 20
    for case in cases:
        assert case.level in ("MUST", "SHOULD", "req")
        assert case.requirement.endswith(".")
        assert case.clause
        assert case.sends
        assert case.expects


class Broken(CodecDevice):
    """A codec device whose packets are changed on their way."""

    def __init__(
        self,
        setting: Setting,
        *,
        entering: Callable[[bytes], bytes | None] = lambda packet: packet,
        leaving: Callable[[bytes], bytes | None] = lambda packet: packet,
        delivered: Callable[[bytes], bytes | None] = lambda frame: frame,
    ) -> None:
        super().__init__(setting)
        self._entering, self._leaving, self._delivered = entering, leaving, delivered

    def encap(self, frame: bytes) -> list[bytes]:
        return [p for one in super().encap(frame) if (p := self._leaving(one)) is not None]

    def decap(self, packet: bytes) -> list[bytes]:
        changed = self._entering(packet)
        if changed is None:
            return []
        return [f for one in super().decap(changed) if (f := self._delivered(one)) is not None]


_AT = 14 + 20 + 8  # VXLAN's header, over IPv4


def _plain(packet: bytes, header: int = _AT + 8) -> bool:
    """Whether the header is where it is in a packet without an outer tag."""
    return len(packet) >= header and packet[12:14] == b"\x08\x00"


def _set(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes([value]) + packet[at + 1 :] if _plain(packet) else packet


def _renumbered(packet: bytes) -> bytes:
    """As if the VNI were not looked at."""
    vni = struct.pack("!I", 5001 << 8)[:3]
    return packet[: _AT + 4] + vni + packet[_AT + 7 :] if _plain(packet) else packet


def _wrong_ip_sum(packet: bytes) -> bytes:
    return _set(packet, 24, packet[24] ^ 1)


def _right_ip_sum(packet: bytes) -> bytes:
    """As if the IPv4 checksum were not looked at."""
    if not _plain(packet, 34):
        return packet
    head = packet[14:24] + bytes(2) + packet[26:34]
    return packet[:24] + struct.pack("!H", sum16(head)) + packet[26:]


def _strict(packet: bytes) -> bytes | None:
    """As if reserved bits were refused."""
    return None if _plain(packet) and packet[_AT + 1 : _AT + 4] != bytes(3) else packet


@pytest.mark.parametrize(
    ("how", "wrong"),
    [
        ({"entering": _renumbered}, {"COM-17"}),
        ({"entering": _right_ip_sum}, {"COM-2"}),
        ({"entering": _strict}, {"VXLAN-7", "GBP-7"}),
        ({"entering": lambda p: _set(p, _AT, 0x08)}, {"VXLAN-9"}),
        ({"entering": lambda p: None if len(p) % 2 else p}, {"COM-4", "COM-22", "VXLAN-19"}),
        ({"leaving": lambda p: _set(p, _AT + 7, 1)}, {"VXLAN-2"}),
        ({"leaving": lambda p: _set(p, _AT, 0x0C)}, {"VXLAN-3"}),
        ({"leaving": lambda p: _set(p, _AT, 0x00)}, {"VXLAN-1"}),
        ({"leaving": lambda p: _set(p, _AT + 6, 0)}, {"VXLAN-4"}),
        ({"leaving": _wrong_ip_sum}, {"COM-1"}),
        ({"leaving": lambda p: p + b"\0\0\0\0"}, set()),  # Ethernet padding, which may be
        ({"leaving": lambda p: _set(p, 41, 1)}, {"VXLAN-14", "VXLAN-16", "COM-5"}),
        ({"leaving": lambda p: p[:34] + b"\xc0\x00" + p[36:]}, {"VXLAN-12"}),
        ({"leaving": lambda p: _set(p, 34, 0x20)}, {"VXLAN-13"}),
        ({"leaving": lambda p: _set(p, 37, 0xB4)}, None),
        ({"delivered": lambda f: f + b"\0\0\0\0"}, None),
    ],
)
def test_a_broken_device_fails_the_right_cases(
    how: dict[str, Callable[[bytes], bytes | None]], wrong: set[str] | None
) -> None:
    report = ended(Broken(Setting.of("vxlan"), **how), "vxlan")
    if wrong is None:  # whatever depends on a plain packet
        assert not report.conforms
        assert len(failed(report) | unjudged(report)) > 10
    else:
        assert failed(report) - _TAGS == wrong


def test_a_dead_device_is_not_judged() -> None:
    """Silence is no refusal, and nothing passes by it."""
    dead = Broken(Setting.of("vxlan"), entering=lambda _: None, leaving=lambda _: None)
    report = ended(dead, "vxlan")
    assert {one.verdict for one in report.results} == {Verdict.UNJUDGED}
    assert all(one.detail for one in report.results)
    assert not report.conforms


def test_a_device_that_dies_of_a_packet_fails() -> None:
    alive = True

    def entering(packet: bytes) -> bytes | None:
        nonlocal alive
        alive = alive and bool(packet[_AT] & 0x08)
        return packet if alive else None

    report = ended(Broken(Setting.of("vxlan"), entering=entering), "vxlan", only=["VXLAN-9"])
    assert [one.detail for one in report.results] == ["no plain packet comes through after it"]


def test_only_known_ids() -> None:
    assert [case.id for case in select("vxlan", 4, ["vxlan-6"])] == ["VXLAN-6"]
    with pytest.raises(ConfigError, match="VXLAN-X"):
        select("vxlan", 4, ["VXLAN-X"])


# -- real devices --------------------------------------------------------------

_RESERVED = {"VXLAN-6", "VXLAN-7", "VXLAN-8", "GBP-7"}
_KNOWN = {
    ("kernel", "vxlan"): {"COM-10", "VXLAN-13", "VXLAN-14", "VXLAN-20", "VXLAN-21", *_RESERVED},
    ("overlay", "vxlan"): {"VXLAN-14", "VXLAN-20", "VXLAN-21"},
    ("overlay", "nvgre"): set(),
    ("overlay", "stt"): set(),
}  # fmt: skip
#: Open vSwitch's versions differ in more than this.
_OVS = {
    "vxlan": {"COM-10", "VXLAN-20", "VXLAN-21", *_RESERVED},
    "geneve": {"COM-10", "GENEVE-22"},
    "nvgre": {"COM-10", "NVGRE-8", "NVGRE-12", "NVGRE-13", "NVGRE-22", "NVGRE-23", "NVGRE-27"},
}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("name", "protocol"), list(_KNOWN))
def test_the_known_failures_of_a_device(name: str, protocol: str, family: int) -> None:
    need_hosts()
    need_tools("ethtool", "setpriv")
    with NamespaceDevice(name, Setting.of(protocol, family)) as device:
        report = ended(device, protocol, family)
    of_family = {case.id for case in select(protocol, family)}
    assert failed(report) == _KNOWN[name, protocol] & of_family
    assert not unjudged(report)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", list(_OVS))
def test_the_known_failures_of_open_vswitch(protocol: str, family: int) -> None:
    need_hosts()
    need_tools("ovs-vswitchd", "ovsdb-server", "ethtool", "setpriv")
    need_tap()
    with NamespaceDevice("ovs", Setting.of(protocol, family)) as device:
        report = ended(device, protocol, family)
    assert failed(report) >= _OVS[protocol]
    assert unjudged(report) <= {"COM-5"}
    passed = {one.case.id for one in report.results if one.verdict is Verdict.PASSED}
    assert passed >= {"COM-3", "COM-8", "COM-11", "COM-12", "COM-16", "COM-17", "COM-22"} & {
        case.id for case in select(protocol, family)
    }


@pytest.mark.parametrize(("family", "near", "box"), [
    (4, "192.0.2.1", "192.0.2.2"), (6, "2001:db8::1", "2001:db8::2"),
])  # fmt: skip
def test_a_box_between_two_interfaces(family: int, near: str, box: str, tmp_path: Path) -> None:
    """A bridge with the kernel's VXLAN in a host of its own, cabled to two devices of another."""
    need_hosts()
    need_tools("ethtool", "setpriv")
    with Host("tester") as tester, Host("box") as host:
        for device in ("underlay", "tenant"):
            link(tester, device, host, device)
            for one in (tester, host):
                one.ip("link", "set", device, "addrgenmode", "none")
                one.ip("link", "set", device, "up")
                one.run(["ethtool", "-K", device, *OFFLOADS["wire"].split()])
        host.address("underlay", f"{box}/{24 if family == 4 else 64}")
        host.ip("link", "add", "vx", "type", "vxlan", "id", "7", "dstport", "4789",
                "local", box, "remote", near)  # fmt: skip
        host.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        for device in ("vx", "tenant"):
            host.ip("link", "set", device, "addrgenmode", "none", "master", "br0")
            host.ip("link", "set", device, "up")
        host.ip("link", "set", "br0", "addrgenmode", "none")
        host.ip("link", "set", "br0", "up")
        host.running("underlay")
        done = tester.run(
            [sys.executable, "-m", "overlay", "conform", "--device", "interfaces",
             "--protocol", "vxlan", "--id", "7", "--underlay", "underlay", "--local", near,
             "--remote", box, "--tenant", "tenant", "--json",
             "--junit", str(tmp_path / "box.xml")],
            env={"PYTHONPATH": str(HERE.parent)}, timeout=120,
        )  # fmt: skip
    report = json.loads(done.stdout)
    wrong = {one["id"] for one in report["results"] if one["verdict"] == "failed"}
    of_family = {case.id for case in select("vxlan", family)}
    assert wrong == _KNOWN["kernel", "vxlan"] & of_family
    assert not report["counts"]["not judged"]
    assert ElementTree.parse(tmp_path / "box.xml").findall(".//failure")


# -- the command -----------------------------------------------------------------


def test_the_command_prints_a_table() -> None:
    done = command("conform", "--device", "codec", "--protocol", "vxlan")
    assert done.exit_code == 0, done.stderr
    assert "VXLAN-6" in done.stdout
    assert "VXLAN-20 (SHOULD, IPv4 and IPv6): the tag is in the packet" in done.stdout


def test_strict_is_about_what_must_be() -> None:
    lines = ("conform", "--device", "codec", "--protocol", "vxlan", "--strict")
    assert command(*lines).exit_code == 0
    assert command(*lines, "--profile", "strict").exit_code == 1
    assert command(*lines[:-1], "--profile", "strict").exit_code == 0


def test_json_and_junit_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "conform.xml"
    done = command(
        "conform", "--device", "codec", "--profile", "strict", "--protocol", "vxlan",
        "--json", "--junit", str(path),
    )  # fmt: skip
    report = json.loads(done.stdout)
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    suites = root.findall("testsuite")
    assert len(suites) == 2
    tests = root.findall(".//testcase")
    assert len(tests) == len(report["results"]) == sum(int(s.get("tests", 0)) for s in suites)
    failures = {t.get("name", "").split()[0] for t in tests if t.find("failure") is not None}
    assert failures == {r["id"] for r in report["results"] if r["verdict"] == "failed"}
    assert failures >= _RESERVED
    assert report["counts"]["failed"] == sum(int(s.get("failures", 0)) for s in suites)
    assert not report["conforms"]


@pytest.mark.parametrize(
    "words",
    [
        ("--device", "codec", "--only", "NOPE-1"),
        ("--device", "kernel", "--protocol", "stt"),
        ("--device", "interfaces", "--protocol", "vxlan"),
        ("--device", "codec", "--underlay", "eth0"),
        ("--device", "codec", "--protocol", "stt", "--only", "VXLAN-6"),
    ],
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    done = command("conform", *words)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
