"""GENEVE (RFC 8926): the header, the options, and what a receiver has to refuse."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given

import frames
import laws
import shims
import strategies as s
import wire
from laws import refused
from overlay import Batch, ConfigError, Geneve, GeneveOption, Status
from overlay.codec import Codec
from overlay.tunnel import parse_options
from shims import geneve, option
from test_encap import plain

UDP4 = frames.UDP4
PLAIN = GeneveOption(0x0102, 0x01, bytes.fromhex("11223344"))
BARE = GeneveOption(0x0102, 0x02)
CRITICAL = GeneveOption(0x0103, 0x80, bytes.fromhex("00010002"))


def body(packet: bytes) -> bytes:
    """What follows UDP."""
    return wire.parse(packet).body[8:]


# -- out ------------------------------------------------------------------------------


def test_header(codec: Codec, family: int) -> None:
    """GENEVE-1, GENEVE-3, GENEVE-5, GENEVE-6: version 0, nothing reserved, 0x6558, the VNI."""
    packet = codec.encap(plain(Geneve, family, vni=0xABCDEF), UDP4)
    assert body(packet) == bytes.fromhex("00006558abcdef00") + UDP4


def test_options_on_the_wire(codec: Codec, family: int) -> None:
    """GENEVE-2, GENEVE-19, GENEVE-20, GENEVE-24: their length in words, their order, no R bit."""
    packet = codec.encap(plain(Geneve, family, vni=1, options=[PLAIN, BARE, PLAIN]), UDP4)
    options = bytes.fromhex("01020101 11223344 01020200 01020101 11223344")
    assert body(packet) == bytes.fromhex("0500655800000100") + options + UDP4
    found = codec.decap(packet)
    assert found.tunnel.options == (PLAIN, BARE, PLAIN)
    assert codec.encap(found.tunnel, found.frame) == packet


@pytest.mark.parametrize("critical", [False, True])
def test_the_c_bit_says_that_an_option_is_critical(codec: Codec, critical: bool) -> None:
    """GENEVE-12: wherever in the list it is."""
    for place in range(3):
        options = [PLAIN, BARE]
        options.insert(place, CRITICAL if critical else PLAIN)
        flags = body(codec.encap(plain(Geneve, options=options), UDP4))[1]
        assert flags == (0x40 if critical else 0)


def test_the_o_bit(codec: Codec) -> None:
    """GENEVE-23: a packet for the control plane says so."""
    assert body(codec.encap(plain(Geneve, oam=True), UDP4))[1] == 0x80
    assert body(codec.encap(plain(Geneve, oam=True, options=[CRITICAL]), UDP4))[1] == 0xC0


def test_63_words_of_options(codec: Codec, family: int) -> None:
    """GENEVE-2: no more, and as many as that in both directions."""
    full = [GeneveOption(1, 1, bytes(124)), GeneveOption(2, 1, bytes(120))]
    tunnel = plain(Geneve, family, options=full)
    assert tunnel.overhead == (302 if family == 4 else 322)
    packet = codec.encap(tunnel, UDP4)
    assert body(packet)[0] == 63
    assert codec.decap(packet).frame == UDP4
    assert codec.decap(packet).tunnel.options == tuple(full)
    with pytest.raises(ConfigError, match="options") as error:
        plain(Geneve, options=[*full, BARE])
    assert error.value.field == "options"


def test_ports(codec: Codec, family: int) -> None:
    """GENEVE-7: 6081, or another by choice, in both directions."""
    packet = codec.encap(plain(Geneve, family), UDP4)
    assert struct.unpack_from("!H", wire.parse(packet).body, 2) == (6081,)
    other = codec.encap(plain(Geneve, family, port=6082), UDP4)
    assert refused(codec, other) is Status.UNKNOWN_PROTOCOL
    assert codec.decap(other, geneve_port=6082).tunnel.port == 6082


def test_source_port_is_of_the_flow(codec: Codec) -> None:
    """GENEVE-8: one flow one port; all 16 bits may be used."""
    tunnel = plain(Geneve, source_port=(0, 65535))
    ports = set()
    for sport in range(200):
        frame = frames.udp_frame(b"x" * 20, sport=sport)
        first, again = (wire.parse(codec.encap(tunnel, f)).body[:2] for f in (frame, frame))
        assert first == again
        ports.add(first)
    assert len(ports) > 150
    assert min(ports) < b"\x40"
    assert max(ports) > b"\xc0"


def test_checksum_by_default(codec: Codec, family: int) -> None:
    """GENEVE-9, GENEVE-10: generated over both, unless told otherwise."""
    outer = wire.parse(codec.encap(plain(Geneve, family), UDP4))
    assert outer.body[6:8] != b"\0\0"
    assert wire.checksum(outer.pseudo + outer.body) == 0
    off = codec.encap(plain(Geneve, family, checksum=False), UDP4)
    assert wire.parse(off).body[6:8] == b"\0\0"


def test_mtu_counts_the_options(codec: Codec, family: int) -> None:
    """GENEVE-27: of the tunnel as it is, with all its options."""
    options = [GeneveOption(1, 1, bytes(124)), GeneveOption(1, 2, bytes(120))]
    tunnel = plain(Geneve, family, options=options)
    outer = 20 if family == 4 else 40
    assert tunnel.inner_mtu(1500) == 1500 - outer - 16 - 252 - 14
    frame = wire.pattern(tunnel.inner_mtu(1500) + 14)
    (packet,) = codec.packets(tunnel, frame, 1500)
    assert wire.parse(packet).length == 1500
    longer = laws.outcome(lambda: codec.packets(tunnel, frame + b"x", 1500))
    assert longer is Status.MTU_EXCEEDED


def test_pipe_and_uniform(codec: Codec) -> None:
    """GENEVE-26: by default neither end touches DSCP and TTL of the other."""
    frame = wire.remark(UDP4, 46 << 2)
    packet = codec.encap(plain(Geneve), frame)
    outer = wire.parse(packet)
    assert (outer.tos, outer.ttl) == (0, 64)
    marked = geneve(frame, ip_fields={"tos": 10 << 2, "ttl": 3})
    assert codec.decap(marked).frame == frame
    assert wire.inner(codec.decap(marked, dscp="uniform").frame).tos == 10 << 2


def test_super_frames_keep_their_options(codec: Codec, family: int) -> None:
    """GENEVE-32: every packet that a super-frame is cut into has header and options unchanged."""
    tunnel = plain(Geneve, family, vni=5, options=[PLAIN, CRITICAL])
    frame = frames.tcp_frame(wire.pattern(4000))
    batch = Batch.from_frames([frame], headroom=128)
    batch.mss[0] = 1200
    assert codec.encap_batch(batch, tunnel) == 1
    out = Batch.packed(20_000, 8)
    assert codec.segment_batch(batch, out, 1500) == 4
    whole = body(bytes(batch[0]))
    assert whole[0] == 4
    known = [(0x0103, 0x80)]
    pieces = codec.segments(frame, 1200)
    for packet, piece in zip(out.to_list(), pieces, strict=True):
        assert body(packet)[:24] == whole[:24]
        outer = wire.parse(packet)
        assert wire.checksum(outer.pseudo + outer.body) == 0
        assert codec.decap(packet, options=known).frame == piece


# -- in -------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_other_versions_are_dropped(codec: Codec, profile: str) -> None:
    """GENEVE-1."""
    for version in (1, 2, 3):
        packet = geneve(UDP4, version=version)
        assert refused(codec, packet, profile) is Status.GENEVE_VERSION


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_reserved_bits_are_ignored(codec: Codec, profile: str) -> None:
    """GENEVE-4, GENEVE-20: six bits, a byte, and three of each option."""
    options = option(0x0102, 1, bytes(4), reserved=7) + option(1, 2, reserved=5)
    packet = geneve(UDP4, flags=0x3F, reserved8=0xFF, options=options)
    found = codec.decap(packet, profile)
    assert (found.frame, found.key) == (UDP4, 0x123456)
    assert found.tunnel.options == (GeneveOption(0x0102, 1, bytes(4)), GeneveOption(1, 2))


@pytest.mark.parametrize("proto", [0x0000, 0x0800, 0x86DD, 0x0806, 0x6559, 0x8847, 0xFFFF])
def test_only_ethernet_is_taken(codec: Codec, proto: int) -> None:
    """GENEVE-29."""
    for profile in ("rfc", "strict"):
        assert refused(codec, geneve(UDP4, proto=proto), profile) is Status.GENEVE_PROTOCOL
    if proto not in (0x0800, 0x86DD):
        assert refused(codec, geneve(UDP4, proto=proto), "lenient") is Status.GENEVE_PROTOCOL


def test_ip_is_taken_where_any_payload_is(codec: Codec, family: int) -> None:
    """The frame has no MAC addresses; encap of it gives the packet again."""
    for frame, proto in ((UDP4, 0x0800), (frames.TCP6, 0x86DD)):
        packet = geneve(frame[14:], family=family, proto=proto, options=bytes(option(1, 1)))
        found = codec.decap(packet, payload="any")
        assert found.frame == bytes(12) + frame[12:]
        assert found.header == packet[: -len(frame) + 14]
        assert found.wire_length == len(frame)
        assert found.tunnel.payload == "ip"
        assert codec.encap(found.tunnel, found.frame) == packet
        least = 20 if proto == 0x0800 else 40
        short = geneve(frame[14 : 14 + least - 1], family=family, proto=proto)
        assert refused(codec, short, payload="any") is Status.INNER_TOO_SHORT


@pytest.mark.parametrize("profile", ["rfc", "strict"])
def test_control_packets_are_not_forwarded(codec: Codec, profile: str) -> None:
    """GENEVE-22, GENEVE-23: the status tells the control plane which packets are its own."""
    packet = geneve(UDP4, flags=0x80)
    batch = Batch.from_frames([packet, geneve(UDP4)])
    assert codec.decap_batch(batch, profile) == 1
    assert batch.status.tolist() == [Status.GENEVE_CONTROL, Status.OK]
    assert bytes(batch[0]) == packet
    found = codec.decap(packet, "lenient")
    assert found.frame == UDP4
    assert found.tunnel.oam


def test_unknown_critical_options(codec: Codec) -> None:
    """GENEVE-13, GENEVE-15: dropped whatever C says; known or to a reader of captures, not."""
    packet = geneve(UDP4, options=bytes(CRITICAL))
    for flags in (0x00, 0x40):
        packet = geneve(UDP4, options=bytes(PLAIN) + bytes(CRITICAL), flags=flags)
        for profile in ("rfc", "strict"):
            assert refused(codec, packet, profile) is Status.GENEVE_CRITICAL
        assert codec.decap(packet, options=[(0x0103, 0x80)]).frame == UDP4
        for other in ([], [(0x0103, 0x81)], [(0x0102, 0x80)]):
            assert refused(codec, packet, options=other) is Status.GENEVE_CRITICAL
        assert codec.decap(packet, "lenient").tunnel.options == (PLAIN, CRITICAL)


def test_unknown_options_that_are_not_critical(codec: Codec) -> None:
    """GENEVE-14, GENEVE-16: passed over by their length, and told."""
    options = option(0xFFFF, 0x7F, bytes(124)) + option(0, 0)
    for flags in (0x00, 0x40):  # C and no critical option: nothing that is not known
        packet = geneve(UDP4, options=options, flags=flags)
        assert codec.decap(packet).frame == UDP4
        assert len(codec.decap(packet).tunnel.options) == 2


def test_lengths_that_do_not_add_up(codec: Codec) -> None:
    """GENEVE-17, GENEVE-18, GENEVE-21: too long an option, and too few bytes left for one."""
    for words in range(1, 32):
        packet = geneve(UDP4, options=option(1, 1, words=words))
        for profile in ("rfc", "strict", "lenient"):
            assert refused(codec, packet, profile) is Status.GENEVE_OPTIONS
        whole = geneve(UDP4, options=option(1, 1, bytes(4 * words)))
        assert codec.decap(whole).frame == UDP4
    second = option(1, 1, bytes(8)) + option(1, 2, bytes(4), words=2)
    assert refused(codec, geneve(UDP4, options=second)) is Status.GENEVE_OPTIONS


def test_truncated_headers_and_options(codec: Codec, family: int) -> None:
    """GENEVE-18, GENEVE-21, GENEVE-31: Opt Len beyond the datagram, and every shorter header."""
    whole = body(geneve(b"", options=bytes(PLAIN)))
    for size in range(len(whole)):
        datagram = wire.udp(whole[:size], 5, 6081, wire.LOCAL[family], wire.REMOTE[family])
        packet = wire.packet(datagram, wire.UDP, family)
        assert refused(codec, packet) is Status.HEADER_TRUNCATED
    packet = geneve(UDP4[:40], family=family, words=63)
    assert refused(codec, packet) is Status.HEADER_TRUNCATED
    assert refused(codec, geneve(b"", family=family)) is Status.INNER_TOO_SHORT


def test_checksums_are_verified(codec: Codec, family: int) -> None:
    """GENEVE-11."""
    for wrong in (1, 0xDEAD, 0xFFFF):
        packet = geneve(UDP4, family=family, check=wrong)
        assert refused(codec, packet) is Status.UDP_CHECKSUM
        assert codec.decap(packet, verify_checksums=False).frame == UDP4
    assert codec.decap(geneve(UDP4, family=4, check=0)).frame == UDP4


def test_zero_checksum_over_ipv6(codec: Codec) -> None:
    """GENEVE-28: for pairs of end points that are named, or for all if told so."""
    packet = geneve(UDP4, family=6, check=0)
    pair = wire.REMOTE[6], wire.LOCAL[6]
    assert refused(codec, packet) is Status.UDP_ZERO_CHECKSUM
    assert refused(codec, packet, zero_checksum6=[pair[::-1]]) is Status.UDP_ZERO_CHECKSUM
    assert codec.decap(packet, zero_checksum6=[pair]).frame == UDP4
    assert codec.decap(packet, zero_checksum6=True).frame == UDP4


@pytest.mark.parametrize("inside", range(4))
@pytest.mark.parametrize("outside", range(4))
def test_ecn(codec: Codec, inside: int, outside: int) -> None:
    """GENEVE-25: the table of RFC 6040 4.2, for a frame and for IP alone."""
    expected = [[0, 0, 0, None], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]][inside][outside]
    frame = wire.remark(UDP4, inside)
    for carried, proto in ((frame, 0x6558), (frame[14:], 0x0800)):
        packet = geneve(carried, proto=proto, ip_fields={"tos": outside})
        if expected is None:
            assert refused(codec, packet, payload="any") is Status.ECN_CONGESTION
        else:
            given = codec.decap(packet, payload="any").frame
            assert given[12:] == wire.remark(frame, expected)[12:]


def test_inner_tags(codec: Codec) -> None:
    """GENEVE-30: kept, stripped or refused, as configured, in both directions."""
    packet = geneve(frames.TAGGED)
    assert codec.decap(packet).frame == frames.TAGGED
    assert codec.decap(packet, inner_vlan="strip").frame == UDP4
    assert refused(codec, packet, inner_vlan="reject") is Status.INNER_TAGGED
    assert body(codec.encap(plain(Geneve), frames.TAGGED))[8:] == frames.TAGGED
    assert body(codec.encap(plain(Geneve, inner_vlan="strip"), frames.TAGGED))[8:] == UDP4
    carried = body(codec.encap(plain(Geneve, payload="ip"), frames.DOUBLE_TAGGED))
    assert carried == bytes.fromhex("0000080000500100") + UDP4[14:]


@pytest.mark.parametrize("frame", [frames.ARP, frames.TRIPLE_TAGGED, frames.EMPTY])
def test_only_ip_fits_a_payload_of_ip(codec: Codec, frame: bytes) -> None:
    result = laws.outcome(lambda: codec.encap(plain(Geneve, payload="ip"), frame))
    assert result is Status.FRAME_NOT_IP


@pytest.mark.parametrize("outer", [0, 8, 40])
def test_datagrams_of_a_socket(codec: Codec, outer: int) -> None:
    """Rows of link 3; IP without Ethernet needs six bytes before the row."""
    for carried, proto in ((UDP4, 0x6558), (UDP4[14:], 0x0800)):
        datagram = body(geneve(carried, proto=proto))
        ip = wire.ipv4(b"", wire.UDP)
        batch = Batch.from_frames([datagram], headroom=64)
        batch.link[0] = 3
        start = int(batch.offset[0])
        batch.base[0] = start - outer
        batch.data[: len(ip)] = list(ip)
        batch.outer[0] = 0
        done = codec.decap_batch(batch, protocols=["geneve"], payload="any")
        if proto == 0x0800 and outer == 0:
            assert (done, batch.status[0]) == (0, Status.NO_HEADROOM)
            assert bytes(batch[0]) == datagram
        else:
            assert (done, batch.key[0], batch.protocol[0]) == (1, 0x123456, 4)
            assert bytes(batch[0])[12:] == UDP4[12:]


# -- options as values ---------------------------------------------------------------


@given(options=s.geneve_options)
def test_options_are_values(options: list[GeneveOption]) -> None:
    """GENEVE-24: bytes and back, in order."""
    raw = b"".join(map(bytes, options))
    assert raw == b"".join(shims.option(o.option_class, o.type, o.data) for o in options)
    assert parse_options(raw) == tuple(options)
    for cut in range(1, min(len(raw), 4)):
        with pytest.raises(ConfigError, match="options"):
            parse_options(raw[:-cut])


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ((-1, 0), "option_class"), ((0x10000, 0), "option_class"), ((0, 256), "type"),
        ((0, 0, b"abc"), "data"), ((0, 0, bytes(128)), "data"), ((0, 0, "text"), "data"),
        ((None, 0), "option_class"), ((0, True), "type"),
    ],
)  # fmt: skip
def test_bad_options_are_named(fields: tuple, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        GeneveOption(*fields)
    assert error.value.field == name


@pytest.mark.parametrize("options", [5, [b"abcd"], ["x"], [None]])
def test_bad_lists_of_options(options: object) -> None:
    with pytest.raises(ConfigError, match="options"):
        plain(Geneve, options=options)
