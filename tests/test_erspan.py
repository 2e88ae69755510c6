"""ERSPAN types I, II and III (draft-foschiano-erspan)."""

from __future__ import annotations

import struct

import pytest

import frames
import wire
from laws import refused
from overlay import ERSPAN, Batch, ConfigError, Status
from overlay.codec import Codec
from overlay.tunnel import NO_KEY
from shims import erspan
from test_encap import plain

UDP4 = frames.UDP4
SECOND = {"session_id": 0x2AA, "vlan": 0xABC, "cos": 5, "encapsulation": 2, "truncated": True}


def body(packet: bytes) -> bytes:
    """The GRE header and what follows."""
    return wire.parse(packet).body


def mirror(kind: int, family: int = 4, **fields: object) -> ERSPAN:
    session = {} if kind == 1 else {"session_id": 0x155}
    return ERSPAN(
        type=kind, local=wire.LOCAL[family], remote=wire.REMOTE[family], **{**session, **fields}
    )


def test_type_1(codec: Codec, family: int) -> None:
    """GRE's four bytes and the frame; no session, so the key is that of none."""
    tunnel = mirror(1, family)
    packet = codec.encap(tunnel, UDP4)
    assert body(packet) == bytes.fromhex("000088be") + UDP4
    found = codec.decap(packet)
    assert (found.frame, found.key, found.protocol) == (UDP4, NO_KEY, "erspan")
    assert found.tunnel.type == 1
    assert codec.encap(found.tunnel, UDP4) == packet


def test_type_2(codec: Codec, family: int) -> None:
    tunnel = mirror(2, family, index=0xBCDEF, sequence=9, **SECOND)
    packet = codec.encap(tunnel, UDP4)
    # 1 ABC | 101 10 1 1010101010 | 000 BCDEF
    assert body(packet) == bytes.fromhex("100088be 00000009 1abc b6aa 000bcdef") + UDP4
    found = codec.decap(packet)
    assert (found.frame, found.key) == (UDP4, 0x2AA)
    assert codec.encap(found.tunnel, UDP4) == packet


def test_type_3(codec: Codec, family: int) -> None:
    tunnel = mirror(
        3, family, sequence=9, timestamp=0x12345678, security_group=0xBEEF, hardware=0x2B,
        direction="egress", granularity=2, **SECOND,
    )  # fmt: skip
    packet = codec.encap(tunnel, UDP4)
    # P, frame type 0, hardware 101011, D, granularity 10, O clear
    header = bytes.fromhex("100022eb 00000009 2abc b6aa 12345678 beef 82bc")
    assert body(packet) == header + UDP4
    found = codec.decap(packet)
    assert (found.frame, found.key) == (UDP4, 0x2AA)
    assert found.tunnel.direction == "egress"
    assert codec.encap(found.tunnel, UDP4) == packet


@pytest.mark.parametrize("kind", [2, 3])
def test_numbers_count_up(codec: Codec, kind: int) -> None:
    tunnel = mirror(kind, sequence=0xFFFFFFFF)
    packets = codec.encap_many(tunnel, [UDP4] * 3)
    assert [struct.unpack_from("!I", body(p), 4)[0] for p in packets] == [0xFFFFFFFF, 0, 1]
    assert [codec.decap(p).tunnel.sequence for p in packets] == [0xFFFFFFFF, 0, 1]


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_tagged_frames_are_mirrored_as_they_are(codec: Codec, kind: int) -> None:
    for frame in (frames.TAGGED, frames.DOUBLE_TAGGED, frames.TRIPLE_TAGGED):
        packet = codec.encap(mirror(kind), frame)
        assert codec.decap(packet).frame == frame


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_versions(codec: Codec, profile: str) -> None:
    for kind, right in ((2, 1), (3, 2)):
        for version in range(16):
            packet = erspan(UDP4, kind, header={"version": version})
            expected = Status.OK if version == right else Status.ERSPAN_VERSION
            assert refused(codec, packet, profile) is expected


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_gre_fields_that_erspan_has_not(codec: Codec, profile: str) -> None:
    for kind in (1, 2, 3):
        for word in (0x8000, 0x2000, 0xA000, 0xB000, 0x9000, 0x3000):
            packet = erspan(UDP4, kind, word=word)
            assert refused(codec, packet, profile) is Status.ERSPAN_SEQUENCE
    bare = erspan(UDP4, 3, word=0)
    if profile == "lenient":  # as some mirrors send it
        assert codec.decap(bare, profile).frame == UDP4
        assert codec.decap(bare, profile).tunnel.type == 3  # type: ignore[attr-defined]
    else:
        assert refused(codec, bare, profile) is Status.ERSPAN_SEQUENCE
    assert refused(codec, erspan(UDP4, 2, word=0x1001), profile) is Status.GRE_VERSION
    assert refused(codec, erspan(UDP4, 2, word=0x5000), profile) is Status.GRE_ROUTING
    # Without a number, what follows is a frame, as in type I.
    first = codec.decap(erspan(UDP4, 2, word=0), profile)
    assert (first.key, first.tunnel.type) == (NO_KEY, 1)


@pytest.mark.parametrize("number", range(32))
def test_frame_types_of_type_3(codec: Codec, number: int) -> None:
    """0 is Ethernet, 2 is IP, by its version; the others are not known."""
    header = {"last": 0x8000 | number << 10}
    packet = erspan(UDP4, 3, header=header)
    expected = Status.OK if number == 0 else Status.ERSPAN_FRAME_TYPE
    assert refused(codec, packet) is expected
    assert refused(codec, packet, payload="any") is expected
    if number != 2:
        return
    for frame in (UDP4, frames.TCP6):
        packet = erspan(frame[14:], 3, header=header)
        assert refused(codec, packet) is Status.ERSPAN_FRAME_TYPE
        found = codec.decap(packet, payload="any")
        assert found.frame == bytes(12) + frame[12:]
        assert found.header == packet[: 14 - len(frame)]
        assert found.tunnel.session_id == 0x155
        batch = Batch.from_frames([packet])
        assert codec.decap_batch(batch, payload="any") == 1
        assert batch.to_list() == [found.frame]
        assert batch.outer[0] == batch.base[0] + 128 + 14
    assert refused(codec, erspan(b"", 3, header=header), payload="any") is Status.ERSPAN_FRAME_TYPE
    short = erspan(frames.TCP6[14:53], 3, header=header)
    assert refused(codec, short, payload="any") is Status.INNER_TOO_SHORT


def test_the_platforms_part(codec: Codec) -> None:
    """O adds eight bytes, which are passed over."""
    header = {"last": 0x8001, "platform": b"\xf0" + bytes(7)}
    packet = erspan(UDP4, 3, header=header)
    found = codec.decap(packet)
    assert found.frame == UDP4
    assert found.header == packet[: -len(UDP4)]
    ip = {"last": 0x0801, "platform": b"\xf0" + bytes(7)}
    assert codec.decap(erspan(UDP4[14:], 3, header=ip), payload="any").frame[12:] == UDP4[12:]


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_cut_headers_are_dropped(codec: Codec, family: int, kind: int) -> None:
    header = {"last": 0x8001, "platform": bytes(8)} if kind == 3 else {}
    whole = body(erspan(b"", kind, header=header))
    for size in range(len(whole)):
        packet = wire.packet(whole[:size], wire.GRE, family)
        assert refused(codec, packet) is Status.HEADER_TRUNCATED
    packet = wire.packet(whole, wire.GRE, family)
    assert refused(codec, packet) is Status.INNER_TOO_SHORT


def test_sessions(codec: Codec) -> None:
    for kind in (2, 3):
        packet = erspan(UDP4, kind, session=1023)
        assert codec.decap(packet, keys=[1023]).key == 1023
        assert refused(codec, packet, keys=[1022, 0]) is Status.UNKNOWN_KEY


def test_not_named(codec: Codec) -> None:
    """To NVGRE and GRE it is a protocol that they do not carry."""
    packet = erspan(UDP4)
    assert refused(codec, packet, protocols=["nvgre"]) is Status.GRE_PROTOCOL
    assert refused(codec, packet, protocols=["gre"]) is Status.GRE_PROTOCOL
    assert refused(codec, packet, protocols=["stt"]) is Status.UNKNOWN_PROTOCOL


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"type": 0}, "type"), ({"type": 4}, "type"), ({"session_id": 1024}, "session_id"),
        ({"vlan": 4096}, "vlan"), ({"cos": 8}, "cos"), ({"encapsulation": 4}, "encapsulation"),
        ({"truncated": 1}, "truncated"), ({"index": 1 << 20}, "index"),
        ({"sequence": -1}, "sequence"), ({"type": 3, "hardware": 64}, "hardware"),
        ({"type": 3, "granularity": 4}, "granularity"),
        ({"type": 3, "direction": "up"}, "direction"),
        ({"type": 3, "security_group": 1 << 16}, "security_group"),
        ({"type": 3, "timestamp": 1 << 32}, "timestamp"),
        ({"type": 3, "index": 1}, "index"), ({"timestamp": 1}, "timestamp"),
        ({"type": 1, "session_id": 5}, "session_id"), ({"type": 1, "sequence": 5}, "sequence"),
    ],
)  # fmt: skip
def test_bad_fields(fields: dict, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        ERSPAN(local="192.0.2.1", remote="192.0.2.2", **fields)
    assert error.value.field == name


def test_overhead() -> None:
    assert [mirror(kind).overhead for kind in (1, 2, 3)] == [38, 50, 54]
    assert plain(ERSPAN).key == 0x155
