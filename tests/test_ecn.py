"""ECN (RFC 6040) and DSCP (RFC 2983), on the way in and on the way out."""

from __future__ import annotations

import itertools

import pytest

import frames
import wire
from laws import refused
from overlay import STT, Batch, Status, Tunnel
from overlay.codec import Codec
from shims import BUILD, TAKES
from test_encap import plain

NOT_ECT, ECT1, ECT0, CE = range(4)
CODEPOINTS = [NOT_ECT, ECT1, ECT0, CE]
PAIRS = list(itertools.product(CODEPOINTS, CODEPOINTS))

#: RFC 6040 4.2: the outgoing codepoint by (inner, outer); None is a drop.
DECAP = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT0: NOT_ECT, ECT1: NOT_ECT, CE: None},
    ECT0: {NOT_ECT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
    ECT1: {NOT_ECT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE},
    CE: {NOT_ECT: CE, ECT0: CE, ECT1: CE, CE: CE},
}
TAGS = {
    "untagged": (),
    "tagged": ((0x8100, 0x2005),),
    "qinq": ((0x88A8, 0x0007), (0x8100, 0x2005)),
    "three tags": ((0x88A8, 7), (0x8100, 5), (0x8100, 6)),
}


def ip_frame(version: int, tos: int, tags=()) -> bytes:
    return wire.tag(frames.udp_frame(wire.pattern(33), version, tos=tos), *tags)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("ecn", ["rfc6040", "compat", "zero"])
def test_encap(codec: Codec, protocol: type[Tunnel], family: int, version: int, ecn: str) -> None:
    """COM-10: normal mode copies, CE as CE; compatibility mode and "zero" send Not-ECT."""
    for inner in CODEPOINTS:
        packet = codec.encap(plain(protocol, family, ecn=ecn, dscp=5), ip_frame(version, inner))
        assert wire.parse(packet).tos == 5 << 2 | (inner if ecn == "rfc6040" else 0)


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("version", [4, 6])
def test_encap_looks_through_two_tags(
    codec: Codec, protocol: type[Tunnel], version: int, tags: str
) -> None:
    if protocol.name == "nvgre" and tags == "three tags":
        return  # never sent
    packet = codec.encap(plain(protocol, dscp="inherit"), ip_frame(version, 0xB9, TAGS[tags]))
    assert wire.parse(packet).tos == (0 if tags == "three tags" else 0xB9)


def test_encap_of_what_is_not_ip(codec: Codec, protocol: type[Tunnel]) -> None:
    for frame in (frames.ARP, frames.EMPTY, ip_frame(4, 3)[:30], ip_frame(6, 3)[:50]):
        packet = codec.encap(plain(protocol, dscp="inherit"), frame)
        assert wire.parse(packet).tos == 0


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("version", [4, 6])
def test_decap(codec: Codec, protocol: type[Tunnel], family: int, version: int, tags: str) -> None:
    """COM-11, COM-12, COM-13, STT-51: the whole table, in every inner and outer family; the inner
    IPv4 checksum is right after a change."""
    if protocol.name == "nvgre" and tags != "untagged":
        return  # refused for the tag
    takes = TAKES[protocol.name]
    for inner, outer in PAIRS:
        frame = ip_frame(version, 0xB8 | inner, TAGS[tags])
        packet = BUILD[protocol.name](frame, family=family, ip_fields={"tos": outer})
        expected = DECAP[inner][outer]
        if tags == "three tags":
            given = frame  # the IP header is out of sight
        elif expected is None:
            assert refused(codec, packet, **takes) is Status.ECN_CONGESTION, (inner, outer)
            continue
        else:
            untagged = wire.remark(ip_frame(version, 0xB8 | inner), 0xB8 | expected)
            given = wire.tag(untagged, *TAGS[tags])
        assert codec.decap(packet, **takes).frame == given, (inner, outer)


@pytest.mark.parametrize("version", [4, 6])
def test_every_dscp_and_mark(codec: Codec, version: int) -> None:
    """COM-12: the checksum is updated rightly whatever the field holds."""
    marked = [
        (BUILD["vxlan"](ip_frame(version, tos), ip_fields={"tos": CE}), tos)
        for tos in range(256)
        if tos & 3
    ]
    batch = Batch.from_frames([packet for packet, _ in marked])
    assert codec.decap_batch(batch) == len(marked)
    for row, (_, tos) in enumerate(marked):
        assert bytes(batch[row]) == wire.remark(ip_frame(version, tos), tos | CE)


def test_a_wrong_inner_checksum_stays_wrong(codec: Codec) -> None:
    """RFC 1624: an update, not a repair."""
    frame = bytearray(ip_frame(4, ECT0))
    frame[24] ^= 0xFF
    packet = BUILD["vxlan"](bytes(frame), ip_fields={"tos": CE})
    result = codec.decap(packet).frame
    assert result[15] == CE
    assert wire.checksum(result[14:34]) != 0
    assert wire.checksum(result[14:34]) == wire.checksum(bytes(frame[14:34]))


def test_inner_not_ip_ignores_outer_marks(codec: Codec, protocol: type[Tunnel]) -> None:
    packet = BUILD[protocol.name](frames.ARP, ip_fields={"tos": 0xFF})
    assert codec.decap(packet, **TAKES[protocol.name]).frame == frames.ARP


def test_a_profile_that_ignores_ecn(codec: Codec, protocol: type[Tunnel]) -> None:
    takes = TAKES[protocol.name]
    for inner, outer in PAIRS:
        frame = ip_frame(4, inner)
        packet = BUILD[protocol.name](frame, ip_fields={"tos": outer})
        assert codec.decap(packet, ecn="ignore", **takes).frame == frame, (inner, outer)
        assert codec.decap(packet, "lenient", **takes).frame == frame, (inner, outer)


@pytest.mark.parametrize("version", [4, 6])
def test_dscp_on_the_way_in(
    codec: Codec, protocol: type[Tunnel], family: int, version: int
) -> None:
    """COM-14, COM-15: pipe sends the tunnel's own, uniform the inner one."""
    for dscp in (0, 1, 46, 63):
        frame = ip_frame(version, dscp << 2 | ECT0)
        pipe = codec.encap(plain(protocol, family, dscp=10), frame)
        assert wire.parse(pipe).tos == 10 << 2 | ECT0
        uniform = codec.encap(plain(protocol, family, dscp="inherit"), frame)
        assert wire.parse(uniform).tos == dscp << 2 | ECT0


@pytest.mark.parametrize("version", [4, 6])
def test_dscp_on_the_way_out(
    codec: Codec, protocol: type[Tunnel], family: int, version: int
) -> None:
    """COM-14, COM-15, STT-52: pipe leaves the inner one, uniform overwrites it."""
    takes = TAKES[protocol.name]
    for dscp in (0, 1, 46, 63):
        frame = ip_frame(version, 0x28 | ECT0)
        packet = BUILD[protocol.name](frame, family=family, ip_fields={"tos": dscp << 2 | CE})
        assert codec.decap(packet, **takes).frame == wire.remark(frame, 0x28 | CE)
        uniform = codec.decap(packet, dscp="uniform", **takes).frame
        assert uniform == wire.remark(frame, dscp << 2 | CE)
        only = codec.decap(packet, dscp="uniform", ecn="ignore", **takes).frame
        assert only == wire.remark(frame, dscp << 2 | ECT0)


@pytest.mark.parametrize("name", ["TCP4", "UDP4"])
def test_marks_and_a_partial_checksum(codec: Codec, name: str) -> None:
    """STT-30, STT-51: both are mended in one frame."""
    frame = wire.remark(getattr(frames, name), ECT0)
    tunnel = plain(STT, inner_checksum="partial")
    packet = bytearray(codec.encap(tunnel, frame))
    packet[15] |= CE
    packet = wire.mended(bytes(packet))
    assert codec.decap(packet).frame == wire.remark(frame, CE)
