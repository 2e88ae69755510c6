"""Outer reassembly: whole packets come back exactly, nothing else does, and memory is bounded."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_RR, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, fragment6

import frames
import wire
from conftest import extension
from overlay import ConfigError, Status

live = extension()

HELD, OVERLAP, LIMIT = Status.FRAGMENT_HELD, Status.FRAGMENT_OVERLAP, Status.FRAGMENT_LIMIT
LINK = bytes.fromhex("020000000002020000000001")
MEMORY = 1 << 18


def piece(
    offset: int,
    payload: bytes,
    more: bool,
    *,
    version: int = 4,
    ident: int = 7,
    src: int = 1,
    tos: int = 0,
    protocol: int = 17,
) -> bytes:
    """One fragment, made by hand: hostile offsets and lengths are welcome."""
    if version == 4:
        word = offset // 8 | (0x2000 if more else 0)
        head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), ident, word, 64, protocol, 0)
        head += struct.pack("!II", 0x0A000000 + src, 0x0A0000FF)
        head = head[:10] + struct.pack("!H", wire.checksum(head)) + head[12:]
        return LINK + b"\x08\0" + head + payload
    extension = struct.pack("!BBHI", protocol, 0, offset | more, ident)
    head = struct.pack("!IHBB", 6 << 28 | tos << 20, 8 + len(payload), 44, 64)
    head += bytes(12) + struct.pack("!I", src) + bytes(15) + b"\xff"
    return LINK + b"\x86\xdd" + head + extension + payload


def pieces(payload: bytes, size: int, **fields: Any) -> list[bytes]:
    starts = range(0, len(payload), size)
    return [piece(at, payload[at : at + size], at + size < len(payload), **fields) for at in starts]


def whole(payload: bytes, *, version: int = 4, ident: int = 7, tos: int = 0) -> bytes:
    """The packet that fragments by `piece` are of."""
    if version == 4:
        return piece(0, payload, False, ident=ident, tos=tos)
    head = struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), 17, 64)
    head += bytes(15) + b"\1" + bytes(15) + b"\xff"
    return LINK + b"\x86\xdd" + head + payload


def push(reassembly: Any, packets: Iterable[bytes], now: int = 0) -> list[Any]:
    """The whole packets, and the statuses of the fragments that gave none."""
    results = [reassembly.push(packet, now) for packet in packets]
    return [status if packet is None else packet for status, packet in results]


def check_books(reassembly: Any) -> dict[str, int]:
    stats: dict[str, int] = reassembly.stats
    lost = sum(stats[name] for name in ("overlaps", "limits", "timeouts", "refused"))
    assert stats["taken"] == stats["joined"] + lost + stats["held"]
    assert stats["memory"] <= MEMORY
    return stats


# -- what comes back ----------------------------------------------------------------


@pytest.mark.parametrize("tagged", [False, True])
def test_scapys_ipv4_fragments(tagged: bool) -> None:
    """In any order; the packet with its options, DF and tag, and a right checksum."""
    options = [IPOption_RR(routers=["0.0.0.0"])]
    packet = IP(src="1.2.3.4", dst="5.6.7.8", id=9, tos=0xB8, options=options)
    packet = IP(bytes(packet / UDP(sport=1, dport=4789) / wire.pattern(4000)))
    head = LINK + (b"\x81\0\0\5\x08\0" if tagged else b"\x08\0")
    parts = [head + bytes(part) for part in fragment(packet, 1480)]
    # Options that are not copied are in the first alone, as RFC 791 has it.
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        reassembly = live.Fragments(MEMORY)
        *held, done = push(reassembly, [parts[i] for i in order])
        assert held == [HELD, HELD]
        assert done == head + bytes(packet)
        assert check_books(reassembly)["joined"] == 3


def test_scapys_ipv6_fragments() -> None:
    """Behind an extension header, which stays; the fragment header goes."""
    base = IPv6(src="2001:db8::1", dst="2001:db8::2", tc=0xB8, fl=0x12345)
    options = IPv6ExtHdrDestOpt()
    udp = UDP(sport=1, dport=4789) / wire.pattern(4000)
    packet = base / options / udp
    packet = IPv6(bytes(packet))
    parts = fragment6(base / options / IPv6ExtHdrFragment(id=9) / UDP(bytes(packet[UDP])), 1280)
    head = LINK + b"\x86\xdd"
    assert len(parts) == 4
    *held, done = push(live.Fragments(MEMORY), [head + bytes(part) for part in parts])
    assert held == [HELD] * 3
    assert done == head + bytes(packet)


@pytest.mark.parametrize("link", [0, 1])
def test_other_packets_pass(link: int) -> None:
    """Whole packets, right or wrong, are decap's to judge."""
    reassembly = live.Fragments(MEMORY)
    atomic = piece(0, b"abc", False, version=6)
    for packet in (b"", b"\x45", frames.TCP4, frames.ARP, atomic, piece(0, bytes(9), True)[:30]):
        assert reassembly.push(packet, 0, link) == (Status.OK, packet)
    assert reassembly.stats["taken"] == 0


def test_packets_that_begin_with_ip() -> None:
    parts = [part[14:] for part in pieces(wire.pattern(100), 48)]
    reassembly = live.Fragments(MEMORY)
    results = [reassembly.push(part, 0, 1) for part in parts]
    assert results[-1] == (Status.OK, whole(wire.pattern(100))[14:])


@given(
    length=st.integers(9, 9000),
    size=st.integers(1, 200),
    version=st.sampled_from([4, 6]),
    seed=st.integers(0, 2**32),
    doubled=st.booleans(),
)
def test_any_fragments_in_any_order(
    length: int, size: int, version: int, seed: int, doubled: bool
) -> None:
    """The whole comes once, when the last byte is there; exact duplicates do no harm."""
    data, draw = wire.pattern(length, seed % 251), random.Random(seed)
    parts = pieces(data, size * 8, version=version)
    if len(parts) == 1:
        return
    draw.shuffle(parts)
    again = draw.sample(parts[:-1], min(3, len(parts) - 1)) if doubled else []
    reassembly = live.Fragments(MEMORY)
    assert push(reassembly, parts[:-1]) == [HELD] * (len(parts) - 1)
    assert push(reassembly, again) == [OVERLAP] * len(again)
    assert push(reassembly, parts[-1:]) == [whole(data, version=version)]
    stats = check_books(reassembly)
    assert (stats["held"], stats["pending"], stats["memory"]) == (0, 0, 0)
    assert (stats["joined"], stats["overlaps"]) == (len(parts), len(again))


def test_tiny_fragments() -> None:
    """The largest packet in pieces of 8 bytes takes no more memory than in large ones."""
    data = wire.pattern(65515)
    reassembly = live.Fragments(MEMORY)
    *held, done = push(reassembly, pieces(data, 8))
    assert set(held) == {HELD}
    assert done == whole(data)


# -- what does not ------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("offset", "payload", "more"), [
    (8, bytes(16), True),  # new bytes over old ones
    (0, bytes(24), True),  # all of the first and more
    (8, bytes(8), True),  # other bytes in its midst
    (8, wire.pattern(16)[8:], False),  # the same bytes, but they end here
], ids=["tail", "over", "inside", "end"])  # fmt: skip
def test_an_overlap_loses_the_datagram(
    version: int, offset: int, payload: bytes, more: bool
) -> None:
    """RFC 5722: what was there, what came, and what comes after."""
    data = wire.pattern(32)
    first, last = pieces(data, 16, version=version)
    bad = piece(offset, payload, more, version=version)
    reassembly = live.Fragments(MEMORY, timeout=100)
    assert push(reassembly, [first, bad, last, first]) == [HELD, OVERLAP, OVERLAP, OVERLAP]
    stats = check_books(reassembly)
    assert (stats["overlaps"], stats["memory"], stats["pending"]) == (4, 0, 1)
    assert push(reassembly, [first, last], 100) == [HELD, whole(data, version=version)]


@pytest.mark.parametrize("bad", [
    piece(32, bytes(8), True), piece(16, bytes(9), False), piece(24, bytes(16), False),
    piece(8, bytes(8), False),
])  # fmt: skip
def test_two_ends_or_bytes_behind_the_end(bad: bytes) -> None:
    first, last = piece(0, bytes(8), True), piece(16, bytes(8), False)
    reassembly = live.Fragments(MEMORY)
    assert push(reassembly, [first, last, bad, piece(8, bytes(8), True)]) == [
        HELD, HELD, OVERLAP, OVERLAP,
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [
    piece(65528, bytes(8), False),  # the ping of death
    piece(65528, bytes(9), False, version=6),
    piece(0, bytes(9), True),  # not a multiple of 8
    piece(0, b"", True),
    piece(8, b"", False, version=6),
])  # fmt: skip
def test_offsets_and_lengths_that_cannot_be(bad: bytes) -> None:
    reassembly = live.Fragments(MEMORY)
    assert push(reassembly, [bad]) == [Status.IP_LENGTH]
    assert check_books(reassembly)["refused"] == 1


def test_a_whole_that_would_be_too_long() -> None:
    """The first one's options, counted only when it comes."""
    packet = IP(src="10.0.0.1", dst="10.0.0.255", id=7, proto=17, flags="MF",
                options=[IPOption_RR(routers=["0.0.0.0"] * 9)])  # fmt: skip
    first = LINK + b"\x08\0" + bytes(packet / bytes(1480))
    rest = pieces(bytes(65512), 1480)[1:]
    reassembly = live.Fragments(MEMORY)
    results = push(reassembly, [*rest, first])
    assert results == [HELD] * len(rest) + [Status.IP_LENGTH]
    assert check_books(reassembly)["refused"] == len(rest) + 1


@pytest.mark.parametrize(("marks", "want"), [
    ((2, 3), 3), ((3, 1), 3), ((0, 0), 0), ((2, 2), 2), ((3, 3), 3),
    ((0, 3), None), ((2, 0), None),
])  # fmt: skip
@pytest.mark.parametrize("version", [4, 6])
def test_congestion_marks(version: int, marks: tuple[int, int], want: int | None) -> None:
    """RFC 3168 5.3: CE if one has it; a packet with ECN in one part only is refused."""
    data = wire.pattern(32)
    parts = [
        piece(16 * i, data[16 * i : 16 * i + 16], not i, tos=0xB8 | mark, version=version)
        for i, mark in enumerate(marks)
    ]
    held, done = push(live.Fragments(MEMORY), parts)
    assert held == HELD
    if want is None:
        assert done == Status.ECN_CONGESTION
    else:
        assert done == whole(data, tos=0xB8 | want, version=version)


@pytest.mark.parametrize("other", [{"ident": 8}, {"src": 2}, {"protocol": 47}])
def test_datagrams_are_not_mixed(other: dict[str, int]) -> None:
    data = wire.pattern(32)
    mine, theirs = pieces(data, 16), pieces(bytes(32), 16, **other)
    reassembly = live.Fragments(MEMORY)
    results = push(reassembly, [mine[0], theirs[1], theirs[0], mine[1]])
    assert results[:2] == [HELD, HELD]
    assert results[3] == whole(data)


# -- time and memory ----------------------------------------------------------------


def test_time_out() -> None:
    """From the first fragment on, whatever comes meanwhile."""
    first, middle, last = pieces(wire.pattern(48), 16)
    reassembly = live.Fragments(MEMORY, timeout=100)
    assert push(reassembly, [first], 1000) + push(reassembly, [middle], 1099) == [HELD, HELD]
    assert reassembly.expire(1099) == 0
    assert push(reassembly, [last], 1100) == [HELD]
    assert check_books(reassembly)["timeouts"] == 2
    assert reassembly.expire(1200) == 1
    assert check_books(reassembly)["pending"] == 0


def test_a_flood_does_not_take_the_others_place() -> None:
    """When memory is short, the source that has most loses its oldest; the others stay."""
    data = wire.pattern(32)
    first, last = pieces(data, 16)
    reassembly = live.Fragments(MEMORY, seed=3)
    assert push(reassembly, [first]) == [HELD]
    flood = [piece(0, bytes(16), True, src=99, ident=i) for i in range(1000)]
    assert set(push(reassembly, flood)) == {HELD}
    assert check_books(reassembly)["limits"] > 800
    assert push(reassembly, [last]) == [whole(data)]
    # What is left of the flood can still be completed.
    tail = piece(16, bytes(16), False, src=99, ident=999)
    assert isinstance(push(reassembly, [tail])[0], bytes)


def test_one_source_may_use_all_that_is_free_and_no_more() -> None:
    """A datagram that does not fit beside itself is given up."""
    reassembly = live.Fragments(MEMORY)
    four = [piece(0, bytes(65512 // 8 * 8), True, ident=i) for i in range(4)]
    assert push(reassembly, four) == [HELD] * 4
    assert check_books(reassembly)["memory"] == MEMORY
    assert push(reassembly, [piece(0, bytes(8), True, ident=9)]) == [HELD]
    assert check_books(reassembly)["limits"] == 1


def test_too_little_memory() -> None:
    with pytest.raises(ConfigError, match="memory"):
        live.Fragments(1000)


@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
def test_whatever_comes(data: st.DataObject, seed: int) -> None:
    """Fragments of few datagrams, of any bounds: each is counted, and what is given is whole.

    Every byte says which datagram it is of and where it lies.
    """
    reassembly = live.Fragments(MEMORY, timeout=50, seed=seed)
    now = 0
    for _ in range(data.draw(st.integers(1, 30))):
        ident, version = data.draw(st.integers(0, 2)), data.draw(st.sampled_from([4, 6]))
        offset = data.draw(st.integers(0, 6)) * 8
        length = data.draw(st.integers(0, 4)) * 8 + data.draw(st.sampled_from([0, 0, 0, 3]))
        now += data.draw(st.sampled_from([0, 0, 1, 30]))
        stream = wire.pattern(200, ident)
        part = piece(
            offset, stream[offset : offset + length], data.draw(st.booleans()), ident=ident,
            version=version,
        )  # fmt: skip
        status, packet = reassembly.push(part, now)
        if status == Status.OK and packet != part:
            at = 34 if version == 4 else 54
            assert packet == whole(stream[: len(packet) - at], version=version, ident=ident)
        check_books(reassembly)
    reassembly.expire(now + 50)
    stats = check_books(reassembly)
    assert (stats["pending"], stats["held"], stats["memory"]) == (0, 0, 0)
