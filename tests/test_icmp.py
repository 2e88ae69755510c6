"""Too-big answers and TCP's MSS: the C core against its twin, against scapy, and case by case."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Dot1Q, Ether

import frames
import strategies as s
import wire
from conftest import extension
from overlay.reference import icmp as twin

live = extension()

LAYERS = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LONG4 = LAYERS / IP(src="10.0.0.1", dst="10.0.0.2", flags="DF", tos=0xBB) / UDP() / bytes(1400)
LONG6 = LAYERS / IPv6(src="fd00::1", dst="fd00::2", tc=3) / UDP() / bytes(1500)


# -- too big ------------------------------------------------------------------------


def test_ipv4_is_told() -> None:
    """From the address that the frame was for, with as much of it as RFC 1812 allows."""
    told = Ether(live.too_big(bytes(LONG4), 1350))
    assert (told.src, told.dst) == ("02:00:00:00:00:02", "02:00:00:00:00:01")
    assert (told[IP].src, told[IP].dst, told[IP].tos) == ("10.0.0.2", "10.0.0.1", 0)
    assert (told[ICMP].type, told[ICMP].code, told[ICMP].nexthopmtu) == (3, 4, 1350)
    assert told[IP].len == 576
    assert bytes(told)[14 + 28 :] == bytes(LONG4)[14 : 14 + 548]
    for layer in (IP, ICMP):
        del told[layer].chksum
    assert bytes(told) == live.too_big(bytes(LONG4), 1350)


def test_ipv6_is_told() -> None:
    told = Ether(live.too_big(bytes(LONG6), 1350))
    assert (told.src, told.dst) == ("02:00:00:00:00:02", "02:00:00:00:00:01")
    assert (told[IPv6].src, told[IPv6].dst, told[IPv6].tc) == ("fd00::2", "fd00::1", 0)
    assert told[ICMPv6PacketTooBig].mtu == 1350
    assert len(told) == 14 + 1280
    assert bytes(told)[14 + 48 :] == bytes(LONG6)[14 : 14 + 1232]
    del told[ICMPv6PacketTooBig].cksum
    assert bytes(told) == live.too_big(bytes(LONG6), 1350)


def test_tags_are_kept() -> None:
    tagged = bytes(LAYERS / Dot1Q(vlan=5, prio=3) / LONG4[IP])
    told = live.too_big(tagged, 1350)
    assert told[12:18] == tagged[12:18]
    assert Ether(told)[Dot1Q].vlan == 5


def ip4(payload: object = None, **fields: object) -> bytes:
    fields = {"src": "10.0.0.1", "dst": "10.0.0.2", "flags": "DF", **fields}
    return bytes(LAYERS / IP(**fields) / (UDP() / bytes(900) if payload is None else payload))


def ip6(payload: object = None, **fields: object) -> bytes:
    fields = {"src": "fd00::1", "dst": "fd00::2", **fields}
    return bytes(LAYERS / IPv6(**fields) / (UDP() / bytes(1400) if payload is None else payload))


EXTENDED = b"\x3a\0" + bytes(6)  # an extension header, ICMPv6 behind it

SILENT = {
    "no df": ip4(flags=0),
    "later fragment": ip4(frag=5),
    "limited broadcast": ip4(dst="255.255.255.255"),
    "multicast": ip4(dst="224.0.0.1"),
    "from nobody": ip4(src="0.0.0.0"),
    "from a group": ip4(src="224.0.0.1"),
    "from loopback": ip4(src="127.0.0.1"),
    "to a group's mac": b"\1" + ip4()[1:],
    "to everybody's mac": b"\xff" * 6 + ip4()[6:],
    "from a group's mac": ip4()[:6] + b"\3" + ip4()[7:],
    "icmp error": ip4(ICMP(type=3, code=4) / bytes(900)),
    "icmp redirect": ip4(ICMP(type=5) / bytes(900)),
    "no icmp header": ip4(b"", proto=1),
    "length beyond the frame": ip4(len=1000),
    "cut ipv4": ip4()[:30],
    "cut ipv6": ip6()[:50],
    "icmpv6 error": ip6(bytes([1]) + bytes(1400), nh=58),
    "icmpv6 redirect": ip6(bytes([137]) + bytes(1400), nh=58),
    "icmpv6 error behind options": ip6(EXTENDED + bytes([2]) + bytes(1400), nh=60),
    "later fragment of ipv6": ip6(struct.pack("!BBHI", 17, 0, 8, 1) + bytes(1400), nh=44),
    "ipv6 group": ip6(dst="ff02::1"),
    "ipv6 from nobody": ip6(src="::"),
    "ipv6 loopback": ip6(src="::1"),
    "arp": frames.ARP,
    "nothing": b"",
}


@pytest.mark.parametrize("name", SILENT)
def test_who_is_not_told(name: str) -> None:
    assert live.too_big(SILENT[name], 1400) is None
    assert twin.too_big(SILENT[name], 1400) is None


@pytest.mark.parametrize(("frame", "mtu", "told"), [
    (ip4(), 67, False), (ip4(), 68, True), (ip4(), 65536, False), (ip4(), 65535, True),
    (ip6(), 1279, False), (ip6(), 1280, True),
    (ip4(ICMP(type=8) / bytes(900)), 600, True),
    (ip6(bytes([128]) + bytes(1400), nh=58), 1300, True),
    (ip6(EXTENDED + bytes([128]) + bytes(1400), nh=60), 1300, True),
    (ip4(flags="DF+MF"), 600, True),
])  # fmt: skip
def test_limits(frame: bytes, mtu: int, told: bool) -> None:
    assert (live.too_big(frame, mtu) is not None) == told


@given(frame=st.one_of(s.frames(), s.corrupted()), mtu=st.integers(0, 70000))
def test_too_big_twins(frame: bytes, mtu: int) -> None:
    assert live.too_big(frame, mtu) == twin.too_big(frame, mtu)


@given(base=st.sampled_from([bytes(LONG4), bytes(LONG6), *SILENT.values()]), data=st.data())
def test_too_big_twins_of_damaged_frames(base: bytes, data: st.DataObject) -> None:
    frame = bytearray(base)
    for _ in range(data.draw(st.integers(0, 3)) if base else 0):
        frame[data.draw(st.integers(0, min(len(base), 90) - 1))] = data.draw(st.integers(0, 255))
    here = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    for given_frame in (bytes(frame), here):
        assert live.too_big(given_frame, 1400) == twin.too_big(given_frame, 1400)


# -- MSS ----------------------------------------------------------------------------


def syn(options: object, version: int = 4, flags: str = "S") -> bytes:
    network = IP(src="10.0.0.1", dst="10.0.0.2") if version == 4 else IPv6(src="::2", dst="::3")
    return bytes(LAYERS / network / TCP(flags=flags, options=options))


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize(("version", "want"), [(4, 1300), (6, 1280)])
def test_mss_is_lowered(version: int, want: int, odd: bool) -> None:
    """At an even and an odd offset; scapy makes the same checksum from nothing."""
    options = [*([("NOP", None)] if odd else []), ("MSS", 1460), ("WScale", 7)]
    frame = live.clamp(syn(options, version), 1300)
    read = Ether(frame)
    assert ("MSS", want) in read[TCP].options
    del read[TCP].chksum
    assert bytes(read) == frame


def test_what_is_not_clamped() -> None:
    """A smaller option, no SYN, no option, one behind the end of the list."""
    for frame in (
        syn([("MSS", 1300)]),
        syn([("MSS", 1460)], flags="A"),
        syn([]),
        syn([("EOL", None), ("MSS", 1460)]),
        frames.UDP4,
        b"",
    ):
        assert live.clamp(frame, 1300) == frame


def test_a_partial_checksum_stays() -> None:
    frame = syn([("MSS", 1460)])
    clamped = live.clamp(frame, 1300, True)
    assert clamped[50:52] == frame[50:52]
    assert clamped[54:58] == bytes.fromhex("02040514")


@given(
    options=st.binary(max_size=40).map(lambda b: b[: len(b) // 4 * 4]),
    version=st.sampled_from([4, 6]),
    mss=st.integers(0, 65535),
    offset=st.integers(0, 15),
    partial=st.booleans(),
)
def test_clamp_twins(options: bytes, version: int, mss: int, offset: int, partial: bool) -> None:
    """Options of any bytes, and a data offset that may be anything."""
    frame = bytearray(frames.tcp_frame(b"ab", version, flags=2, options=options))
    at = wire.inner(bytes(frame)).l4 + 12
    if offset:
        frame[at] = offset << 4
    assert live.clamp(frame, mss, partial) == twin.clamp(bytes(frame), mss, partial)


@given(data=st.data())
def test_clamp_twins_of_options_that_are_some(data: st.DataObject) -> None:
    kinds = [
        b"\1",
        b"\2\4\5\xb4",
        b"\3\3\7",
        b"\4\2",
        b"\2\4\0\1",
        b"\2\3\1",
        b"\5\0",
        b"\2\4\xff\xff",
    ]
    options = b"".join(data.draw(st.lists(st.sampled_from(kinds), max_size=9)))[:40]
    options = options.ljust(-(-len(options) // 4) * 4, b"\0")
    frame = frames.tcp_frame(b"ab", flags=0x12, options=options)
    clamped = live.clamp(frame, 1000)
    assert clamped == twin.clamp(frame, 1000)
    assert wire.complete(clamped) == clamped
