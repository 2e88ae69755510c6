"""How packets that differ are told apart, by field."""

from __future__ import annotations

import pickle

import pytest

import frames
import wire
from overlay import NVGRE, STT, VXLAN, ConfigError
from overlay.match.expected import written
from overlay.pytest import Packet, assert_packets_equal, read_capture
from overlay.pytest.golden import Golden, GoldenError, Masked, compare, dump, parse, path_of
from overlay.pytest.packet import differences

ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2"}
ONE = VXLAN(vni=5001, **ENDS).encap(frames.UDP4)


def test_equal_packets_have_no_difference() -> None:
    assert differences(ONE, ONE) == []
    assert_packets_equal(ONE, bytearray(ONE))


def test_a_difference_names_the_field_and_both_values() -> None:
    other = VXLAN(vni=5002, ttl=7, **ENDS).encap(frames.UDP4)
    assert differences(ONE, other) == [
        "outer.ipv4.ttl: expected 64, got 7",
        f"outer.ipv4.checksum: expected 0x{ONE[24:26].hex()}, got 0x{other[24:26].hex()}",
        "vxlan.vni: expected 5001, got 5002",
    ]


def test_fields_may_be_ignored_by_name_or_pattern() -> None:
    other = VXLAN(vni=5001, source_port=50000, ttl=3, **ENDS).encap(frames.UDP4)
    with pytest.raises(AssertionError, match=r"(?s)outer\.ipv4\.ttl.*ipv4\.checksum"):
        assert_packets_equal(other, ONE, ignore=("outer.udp.source_port",))
    assert_packets_equal(other, ONE, ignore=("outer.udp.source_port", "outer.ipv4"))


def test_addresses_are_written_as_people_do() -> None:
    tunnel = NVGRE(vsid=0x5000, local="2001:db8::1", remote="2001:db8::2")
    packet = Packet(tunnel.encap(frames.UDP6))
    said = {one.name: written(one.name, packet.field(one.name)) for one in packet.fields}
    assert said["outer.ipv6.source"] == "2001:db8::1"
    assert said["inner.ethernet.source"] == frames.MACS["src"]
    assert said["nvgre.vsid"] == "20480"
    assert said["outer.ethernet.ethertype"] == "0x86dd"


def test_a_field_that_only_one_packet_has() -> None:
    tagged = VXLAN(vni=5001, outer_vlan=7, **ENDS).encap(frames.UDP4)
    lines = differences(ONE, tagged)
    assert lines == [
        "outer.vlan.tpid: not expected, got 0x8100",
        "outer.vlan.tci: not expected, got 0x0007",
    ]
    assert differences(tagged, ONE)[1] == "outer.vlan.tci: expected 0x0007, not there"


def test_a_field_that_comes_twice_is_counted() -> None:
    one = wire.tag(frames.UDP4, (0x88A8, 1), (0x8100, 2))
    tunnel = STT(context_id=1, inner_vlan="keep", **ENDS)
    packets = [tunnel.encap(one), tunnel.encap(wire.tag(frames.UDP4, (0x88A8, 1), (0x8100, 3)))]
    ignore = ("outer.*",)
    assert differences(*packets, ignore=ignore) == ["inner.vlan.tci#2: expected 0x0002, got 0x0003"]
    assert not differences(*packets, ignore=(*ignore, "inner.vlan.tci"))


def test_long_fields_show_where_they_part() -> None:
    head = VXLAN(vni=1, **ENDS).encap(frames.EMPTY)
    a, b = head + bytes(100), head + bytes(40) + b"\x01" + bytes(50)
    mended = ("outer.ipv4.*", "outer.udp.*")
    (line,) = differences(a, b, ignore=mended)
    assert line == "outer.padding: expected 00 00 00 00, got 01 00 00 00 at its byte 40"


def test_lists_are_compared_packet_by_packet() -> None:
    assert_packets_equal([ONE, ONE], [ONE, ONE])
    with pytest.raises(AssertionError, match="expected 2 packets, got 1 packet"):
        assert_packets_equal([ONE], [ONE, ONE])
    with pytest.raises(AssertionError, match=r"packet 2 is not .*\n  inner\.payload"):
        assert_packets_equal([ONE, ONE], [ONE, ONE[:-1] + b"\xff"])


@pytest.mark.parametrize("cut", range(0, len(ONE) + 1, 3))
def test_any_bytes_can_be_compared(cut: int) -> None:
    assert bool(differences(ONE, ONE[:cut])) == (cut < len(ONE))
    assert bool(differences(ONE[:cut], ONE)) == (cut < len(ONE))


# -- packets ----------------------------------------------------------------------------


def test_a_packet_is_its_bytes_and_knows_its_fields() -> None:
    packet = Packet(ONE)
    assert packet == ONE
    assert hash(packet) == hash(ONE)
    assert packet.number("vxlan.vni") == 5001
    assert packet.field("outer.ipv4.source") == wire.packed("192.0.2.1")
    assert "vxlan" in repr(packet)
    with pytest.raises(KeyError):
        packet.field("stt.context_id")
    assert b"".join(packet[f.offset : f.offset + f.size] for f in packet.fields) == ONE


def test_a_packet_without_ethernet() -> None:
    packet = Packet(ONE[14:], link=1)
    assert packet.number("vxlan.vni") == 5001
    again = pickle.loads(pickle.dumps(packet))
    assert (again, again.link) == (packet, 1)


def test_captures_are_read(tmp_path) -> None:
    path = tmp_path / "some.pcap"
    path.write_bytes(wire.pcap([ONE, frames.ARP]))
    assert read_capture(path) == [ONE, frames.ARP]


# -- golden files ---------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [ONE, frames.ARP, b"", b"\x00", frames.JUMBO])
def test_golden_text_gives_the_packets_back(packet: bytes) -> None:
    content = dump([Packet(packet), Packet(ONE[14:], link=1)], "a title")
    first, second = parse(content, "name")
    assert (bytes(first.data), first.link) == (packet, 0)
    assert (bytes(second.data), second.link) == (ONE[14:], 1)
    assert not compare([first, second], [Packet(packet), Packet(ONE[14:], link=1)])


def test_ignored_fields_are_dots() -> None:
    content = dump([Packet(ONE)], "t", ["outer.udp.source_port"])
    (golden,) = parse(content, "name")
    line = next(line for line in content.splitlines() if "outer.udp.source_port" in line)
    assert line.split() == ["....", "#", "outer.udp.source_port:", "any"]
    assert not compare([golden], [Packet(ONE[:34] + b"\xab\xcd" + ONE[36:])])
    assert compare([golden], [Packet(ONE[:36] + b"\xab\xcd" + ONE[38:])])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0a0b", "x.txt:1: expected pairs"),
        ("packet 1: 2 bytes\n  0a0", "x.txt:2: expected pairs"),
        ("packet 1: 2 bytes\n  0a0b # two\n  zz", "x.txt:3: expected pairs"),
        ("packet 1: 3 bytes\n  0a0b # two", "packet 1 has 2 bytes, not 3"),
    ],
)
def test_golden_files_that_cannot_be_read_say_where(content: str, said: str) -> None:
    with pytest.raises(GoldenError, match=said):
        parse(content, "x.txt")


def test_the_number_of_packets_matters() -> None:
    golden = [Masked(bytearray(ONE), bytearray(b"\xff" * len(ONE)))]
    assert compare(golden, []) == ["expected 1 packet, got 0 packets"]


def test_every_test_has_a_file_of_its_own(tmp_path) -> None:
    module = tmp_path / "test_x.py"
    names = ["test_a", "test_a[1/2]", "test_a[1_2]", "test_a[1%2F2]"]
    paths = {path_of(module, name) for name in names}
    assert len(paths) == len(names)
    assert {path.parent for path in paths} == {tmp_path / "golden" / "test_x"}
    golden = Golden(module, "test_a", "t", update=True)
    golden(ONE)
    with pytest.raises(ConfigError, match="another one for each call"):
        golden(ONE)
    golden([ONE, ONE], "more")
    assert [path.name for path in golden.used] == ["test_a.txt", "test_a.more.txt"]
