"""Plain GRE with Ethernet or IP inside (RFC 2784, RFC 2890), and who takes which GRE packet."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frames
import wire
from laws import refused
from overlay import GRE, Batch, ConfigError, GreWindow, Status
from overlay.codec import Codec
from overlay.tunnel import NO_KEY
from shims import gretap
from test_encap import plain

UDP4 = frames.UDP4
ONLY = {"protocols": ("gre",)}


def body(packet: bytes) -> bytes:
    """The GRE header and what follows."""
    return wire.parse(packet).body


@pytest.mark.parametrize("key", [None, 0, 1, 0xDEADBEEF, 0xFFFFFFFF])
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("sequence", [None, 0, 0xFFFFFFFF])
@pytest.mark.parametrize("frame", [UDP4, frames.TCP6], ids=["odd", "even"])
def test_fields_as_flagged(
    codec: Codec, family: int, key: int | None, checksum: bool, sequence: int | None, frame: bytes
) -> None:
    """GRE-1, GRE-2, GRE-3, GRE-6, GRE-7: C, K, S in this order and if asked for; 0x6558."""
    tunnel = plain(GRE, family, key=key, checksum=checksum, sequence=sequence)
    packet = codec.encap(tunnel, frame, sequence=0)
    shim = body(packet)[: -len(frame)]
    word, proto = struct.unpack_from("!HH", shim)
    assert proto == 0x6558
    assert word == 0x8000 * checksum | 0x2000 * (key is not None) | 0x1000 * (sequence is not None)
    at = 4
    if checksum:
        assert wire.checksum(body(packet)) == 0
        assert shim[6:8] == b"\0\0"
        at += 4
    if key is not None:
        assert struct.unpack_from("!I", shim, at) == (key,)
        at += 4
    if sequence is not None:
        assert struct.unpack_from("!I", shim, at) == (sequence,)
        at += 4
    assert at == len(shim) == tunnel.overhead - (34 if family == 4 else 54)
    found = codec.decap(packet, **ONLY)
    assert (found.frame, found.key) == (frame, NO_KEY if key is None else key)
    assert (found.tunnel.checksum, found.tunnel.sequence) == (checksum, sequence)
    assert codec.encap(found.tunnel, found.frame) == packet


def test_no_key_is_not_key_0(codec: Codec) -> None:
    """GRE-4: another tunnel, in both directions; and all 32 bits are compared."""
    without, zero = gretap(UDP4), gretap(UDP4, key=0)
    assert codec.decap(without, keys=[NO_KEY], **ONLY).key == NO_KEY == 2**32
    assert refused(codec, without, keys=[0], **ONLY) is Status.UNKNOWN_KEY
    assert codec.decap(zero, keys=[0], **ONLY).key == 0
    assert refused(codec, zero, keys=[NO_KEY], **ONLY) is Status.UNKNOWN_KEY
    one = gretap(UDP4, key=0x12345678)
    for key in (0x123456, 0x345678, 0x12345679, 0x78563412):
        assert refused(codec, one, keys=[key], **ONLY) is Status.UNKNOWN_KEY
    assert codec.decap(one, keys=[0x12345678], **ONLY).frame == UDP4
    assert plain(GRE, key=None) == plain(GRE, key=NO_KEY) != plain(GRE, key=0)
    assert codec.encap(plain(GRE, key=NO_KEY), UDP4) == codec.encap(plain(GRE, key=None), UDP4)


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_a_wrong_checksum_is_dropped(codec: Codec, profile: str) -> None:
    """GRE-2, GRE-3, GRE-6: over header and payload; the word behind it may be anything."""
    for frame in (UDP4, frames.TCP6):
        right = gretap(frame, key=5, sequence=6, summed=True, reserved1=0x1234)
        assert codec.decap(right, profile, **ONLY).frame == frame
        for at in (len(right) - 1, len(right) - len(frame), 14 + 20 + 8, 14 + 20 + 12):
            wrong = right[:at] + bytes([right[at] ^ 0x40]) + right[at + 1 :]
            assert refused(codec, wrong, profile, **ONLY) is Status.GRE_CHECKSUM
        cut = codec.decap(right[:-5], profile, wire_length=len(right), **ONLY)
        assert cut.frame == frame[:-5]


@pytest.mark.parametrize("profile", ["rfc", "strict", "lenient"])
def test_what_is_no_gre_of_ours(codec: Codec, profile: str) -> None:
    """GRE-7: other versions, routing, other payloads."""
    for version in range(1, 8):
        packet = gretap(UDP4, word=version)
        assert refused(codec, packet, profile, **ONLY) is Status.GRE_VERSION
    assert refused(codec, gretap(UDP4, word=0x4000), profile, **ONLY) is Status.GRE_ROUTING
    for proto in (0x0000, 0x0806, 0x6559, 0x880B, 0x88BE, 0x22EB, 0xFFFF):
        packet = gretap(UDP4, proto=proto)
        assert refused(codec, packet, profile, **ONLY) is Status.GRE_PROTOCOL
    for proto in (0x0800, 0x86DD):
        packet = gretap(UDP4, proto=proto)
        status = refused(codec, packet, profile, payload="ethernet", **ONLY)
        assert status is Status.GRE_PROTOCOL


@pytest.mark.parametrize("bit", range(3, 12))
def test_reserved_bits(codec: Codec, bit: int) -> None:
    """RFC 2784 2.3: bits 6 to 12 are ignored, 4 and 5 drop the packet."""
    packet = gretap(UDP4, word=1 << bit)
    expected = Status.GRE_RESERVED if bit >= 10 else Status.OK
    assert refused(codec, packet, **ONLY) is expected
    assert refused(codec, packet, "strict", **ONLY) is Status.GRE_RESERVED
    assert refused(codec, packet, "lenient", **ONLY) is Status.OK


@pytest.mark.parametrize("word", [c | k | s for c in (0, 0x8000) for k in (0, 0x2000)
                                  for s in (0, 0x1000)])  # fmt: skip
def test_a_cut_header_is_dropped(codec: Codec, word: int) -> None:
    """GRE-1: a flag whose field is not there reads nothing beyond the packet."""
    whole = wire.gre(b"", word=word)
    for size in range(len(whole)):
        packet = wire.packet(whole[:size], wire.GRE)
        assert refused(codec, packet, **ONLY) is Status.HEADER_TRUNCATED
    assert refused(codec, wire.packet(whole, wire.GRE), **ONLY) is Status.INNER_TOO_SHORT


@pytest.mark.parametrize("key", [None, 7])
def test_ip(codec: Codec, family: int, key: int | None) -> None:
    """IP without Ethernet: the frame has no MAC addresses, and goes back as it came."""
    for frame, proto in ((UDP4, 0x0800), (frames.TCP6, 0x86DD)):
        packet = gretap(frame[14:], key=key, family=family, proto=proto)
        found = codec.decap(packet, payload="any", **ONLY)
        assert found.frame == bytes(12) + frame[12:]
        assert found.header == packet[: 14 - len(frame)]
        assert codec.encap(found.tunnel, found.frame) == packet
        assert codec.encap(found.tunnel, frame) == packet
        batch = Batch.from_frames([packet])
        assert codec.decap_batch(batch, payload="any", **ONLY) == 1
        assert batch.to_list() == [found.frame]
        assert batch.outer[0] == 0  # its place is taken
        raw = codec.decap(packet[14:], link=1, payload="any", **ONLY)
        assert raw.frame == found.frame


# -- NVGRE, GRE or ERSPAN ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "profile", "protocols", "expected"),
    [
        (0x2000, "rfc", ("nvgre", "gre"), "nvgre"),
        (0x2000, "rfc", ("gre",), "gre"),
        (0x2000, "lenient", None, "nvgre"),
        (0x0000, "rfc", ("nvgre", "gre"), "gre"),
        (0x0000, "rfc", None, Status.GRE_NO_KEY),
        (0x0000, "lenient", None, "gre"),
        (0xA000, "rfc", ("nvgre", "gre"), "gre"),
        (0x3000, "strict", ("nvgre", "gre"), "gre"),
        (0xB000, "lenient", ("nvgre", "gre"), "nvgre"),
        (0xB000, "rfc", None, Status.GRE_CHECKSUM_PRESENT),
        (0x9000, "lenient", None, "gre"),
        (0x2000, "rfc", ("vxlan", "stt"), Status.UNKNOWN_PROTOCOL),
        (0x2000, "rfc", ("erspan",), Status.UNKNOWN_PROTOCOL),
    ],
)
def test_whose_packet_it_is(
    codec: Codec, word: int, profile: str, protocols: tuple[str, ...] | None, expected: object
) -> None:
    """GRE-4: NVGRE takes what it may send, plain GRE the rest, where both are named."""
    packet = gretap(UDP4, key=0x00123456, word=word)
    options = {} if protocols is None else {"protocols": protocols}
    if isinstance(expected, Status):
        assert refused(codec, packet, profile, **options) is expected
        return
    found = codec.decap(packet, profile, **options)
    assert found.protocol == expected
    key = 0x00123456 if word & 0x2000 else NO_KEY
    assert found.key == (key >> 8 if expected == "nvgre" else key)


# -- sequence numbers --------------------------------------------------------------------


def numbers(packets: list[bytes]) -> list[int]:
    return [struct.unpack_from("!I", body(packet), 4)[0] for packet in packets]


def test_a_tunnel_counts_its_packets(codec: Codec) -> None:
    """GRE-5: from the first number, one by one, over 2**32, through every verb."""
    tunnel = plain(GRE, key=None, sequence=0xFFFFFFFE)
    sent = [codec.encap(tunnel, UDP4) for _ in range(3)]
    sent += codec.encap_many(tunnel, [UDP4] * 2)
    batch = Batch.from_frames([UDP4] * 3)
    assert codec.encap_batch(batch, tunnel) == 3
    sent += batch.to_list()
    out = Batch.packed(10_000, 20)
    assert codec.encap_into(Batch.from_frames([UDP4] * 2), out, tunnel) == 2
    sent += out.to_list()
    sent += codec.packets(tunnel, UDP4)
    sent.append(codec.encap(tunnel, UDP4))
    assert numbers(sent) == [(0xFFFFFFFE + n) % 2**32 for n in range(12)]
    # An equal tunnel is another sender; a given number is nobody's.
    assert numbers([codec.encap(plain(GRE, key=None, sequence=5), UDP4)]) == [5]
    assert numbers([codec.encap(tunnel, UDP4, sequence=9)]) == [7]
    assert numbers([codec.encap(tunnel, UDP4)]) == [10]


def test_rows_of_several_tunnels(codec: Codec) -> None:
    tunnels = [plain(GRE, key=None, sequence=0), plain(GRE, key=None, sequence=100)]
    batch = Batch.from_frames([UDP4] * 4)
    assert codec.encap_batch(batch, tunnels, [0, 1, 0, 1], sequence=7) == 4
    assert numbers(batch.to_list()) == [7, 108, 9, 110]


def test_window_of_rfc_2890() -> None:
    """GRE-5: what is not after the last one is silently discarded."""
    window = GreWindow()
    said = [window.receive(n) for n in (5, 6, 6, 5, 9, 8, 10, 7)]
    assert said == ["in order", "in order", "duplicate", "old", "ahead", "old", "in order", "old"]
    assert window.last == 10


def test_window_with_room() -> None:
    """GRE-5: packets that were overtaken by fewer than `size` are taken once."""
    window = GreWindow(size=3, first=0)
    said = [window.receive(n) for n in (0, 3, 1, 1, 2, 4, 0, 10, 9, 7, 6, 10, 8)]
    assert said == [
        "in order", "ahead", "late", "duplicate", "late", "in order", "old", "ahead", "late",
        "late", "old", "duplicate", "late",
    ]  # fmt: skip


def test_window_wraps() -> None:
    """GRE-5: modulo 2**32; half of all numbers are before, half after."""
    window = GreWindow(size=8, first=0xFFFFFFFE)
    said = [window.receive(n) for n in (0xFFFFFFFE, 0, 0xFFFFFFFF, 1, 0)]
    assert said == ["in order", "ahead", "late", "in order", "duplicate"]
    assert window.receive(2**31) == "ahead"
    assert window.receive(1) == "old"


@given(data=st.data(), size=st.integers(0, 20), start=st.integers(0, 2**32 - 1))
def test_window_takes_each_number_once(data: st.DataObject, size: int, start: int) -> None:
    """GRE-5: whatever comes, in whatever order."""
    window, taken, highest = GreWindow(size), set(), None
    for offset in data.draw(st.lists(st.integers(0, 60), max_size=60)):
        number = (start + offset) % 2**32
        said = window.receive(number)
        if highest is None or offset > highest:
            expected = "in order" if highest is None or offset == highest + 1 else "ahead"
            highest = offset
        elif offset < highest - size:
            expected = "old"
        else:
            expected = "duplicate" if offset in taken else "late"
        assert said == expected
        if said in ("in order", "ahead", "late"):
            taken.add(offset)


@pytest.mark.parametrize("size", [-1, 65537, None, "8", 1.5])
def test_bad_windows(size: object) -> None:
    with pytest.raises(ConfigError, match="size"):
        GreWindow(size)
    with pytest.raises(ConfigError, match="number"):
        GreWindow().receive(2**32)
    with pytest.raises(ConfigError, match="first"):
        GreWindow(first=-1)
    assert repr(GreWindow(4)) == "GreWindow(size=4, last=None)"
