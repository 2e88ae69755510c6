"""Expected packets under masks: what matches, what is missing, and what differs by name."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import frames
from overlay import NVGRE, STT, VXLAN, Batch, ConfigError, Tunnel
from overlay.match import Expected, Mask, Match, Matcher

ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2"}
T = VXLAN(vni=5001, **ENDS)
PACKET = T.encap(frames.UDP4)
ROUTED = VXLAN(vni=5001, ttl=63, **ENDS).encap(frames.UDP4)
TTL = ("outer.ipv4.ttl", "outer.ipv4.checksum")


def numbered(count: int) -> list[bytes]:
    return [bytes(12) + b"\x88\xb5" + n.to_bytes(4, "big") + bytes(46) for n in range(count)]


def found(match: Match) -> tuple[list[int], list[int], list[int], list[int]]:
    return (
        match.expected.tolist(), match.missing.tolist(), match.unexpected.tolist(),
        match.surplus.tolist(),
    )  # fmt: skip


class TestOnePacket:
    def test_a_field_that_differs_has_its_name_and_both_values(self) -> None:
        assert list(map(str, Expected(PACKET).differences(ROUTED))) == [
            "outer.ipv4.ttl: expected 64, got 63",
            "outer.ipv4.checksum: expected 0xb67c, got 0xb77c",
        ]

    @pytest.mark.parametrize(
        "ignore",
        [
            TTL,
            ["outer.ipv4"],
            ["outer.ipv4.t*", "*.checksum"],
            [(8 * 22, 8), (8 * 24, 16)],
            "outer.*",
        ],
        ids=str,
    )
    def test_what_is_ignored_by_name_header_pattern_or_bits(self, ignore: list[str]) -> None:
        expected = Expected(PACKET, ignore=ignore)
        assert expected.matches(ROUTED)
        assert not expected.differences(ROUTED)
        assert not expected.matches(VXLAN(vni=5002, ttl=63, **ENDS).encap(frames.UDP4))

    def test_single_bits(self) -> None:
        expected = Expected(b"\xf0\x00", ignore=[(4, 5)])
        assert expected.matches(b"\xff\x80")
        assert not expected.matches(b"\xff\xc0")
        assert not expected.matches(b"\x7f\x00")
        assert expected.mask == b"\xf0\x7f"

    def test_a_mask_of_bytes(self) -> None:
        mask = bytearray(b"\xff" * len(PACKET))
        mask[22] = mask[24] = mask[25] = 0
        assert Expected(PACKET, mask).matches(ROUTED)
        assert Expected(PACKET, mask) == Expected(PACKET, ignore=TTL)

    @pytest.mark.parametrize("tunnel", [T, NVGRE(vsid=0x5001, **ENDS), STT(context_id=5, **ENDS)])
    def test_names_are_those_of_every_protocol(self, tunnel: Tunnel) -> None:
        packet = tunnel.encap(frames.TCP6)
        expected = Expected(packet, ignore=["inner.tcp.sequence"])
        (at,) = (f.offset for f in expected.fields() if f.name == "inner.tcp.sequence")
        other = bytearray(packet)
        other[at + 2] ^= 0xFF
        assert expected.matches(other)
        other[at + 4] ^= 0xFF
        assert [d.name for d in expected.differences(other)] == ["inner.tcp.acknowledgement"]

    def test_addresses_are_shown_as_such(self) -> None:
        other = VXLAN(
            vni=5001, local="192.0.2.7", remote="192.0.2.2", remote_mac="02:00:00:00:00:09",
            source_port=T.encap(frames.UDP4)[34] << 8 | PACKET[35],
        ).encap(frames.UDP4)  # fmt: skip
        lines = "\n".join(map(str, Expected(PACKET).differences(other)))
        assert "outer.ipv4.source: expected 192.0.2.1, got 192.0.2.7" in lines
        assert "outer.ethernet.destination: expected 00:00:00:00:00:00, got 02:00:0" in lines

    def test_lengths(self) -> None:
        expected = Expected(PACKET)
        assert not expected.matches(PACKET + b"\0")
        assert list(map(str, expected.differences(PACKET + b"\0"))) == [
            f"length: expected {len(PACKET)} bytes, got {len(PACKET) + 1}"
        ]
        assert Expected(PACKET, extra=True).matches(PACKET + b"\0")
        short = Expected(PACKET, extra=True).differences(PACKET[:-1])
        assert [d.name for d in short] == ["inner.payload", "length"]

    def test_long_payloads_say_where(self) -> None:
        other = bytearray(PACKET)
        other[-1] ^= 1
        (difference,) = Expected(PACKET).differences(other)
        assert str(difference).endswith("at its byte 30")

    def test_a_difference_matches_nothing_and_a_match_has_no_difference(self) -> None:
        for other in (PACKET, ROUTED, PACKET[:20], b"", PACKET + b"x"):
            for expected in (Expected(PACKET), Expected(PACKET, ignore=TTL, extra=True)):
                assert expected.matches(other) == (not expected.differences(other))

    def test_what_cannot_be_is_said_at_once(self) -> None:
        with pytest.raises(ConfigError, match=r"field='outer.ipv6.hop_limit'.*outer.ipv4"):
            Expected(PACKET, ignore=["outer.ipv6.hop_limit"])
        with pytest.raises(ConfigError, match="range"):
            Expected(PACKET, ignore=[(8 * len(PACKET) - 3, 4)])
        with pytest.raises(ConfigError, match="mask"):
            Expected(PACKET, b"\xff")


class TestMask:
    def test_verbs_by_bits_and_by_name(self) -> None:
        mask = Mask(PACKET)
        assert mask.pkt_match(PACKET)
        assert not mask.pkt_match(ROUTED)
        mask.set_do_not_care_packet("outer.ipv4", "ttl")
        mask.set_do_not_care(8 * 24, 16)
        assert mask.pkt_match(ROUTED)
        mask.set_care(8 * 22, 8)
        assert not mask.pkt_match(ROUTED)
        assert mask.expected() == Expected(PACKET, ignore=["outer.ipv4.checksum"])

    def test_all_and_nothing(self) -> None:
        mask = Mask(PACKET, dont_care_all=True)
        assert mask.pkt_match(bytes(len(PACKET)))
        mask.set_care_packet("vxlan", "vni")
        assert mask.pkt_match(ROUTED)
        assert not mask.pkt_match(bytes(len(PACKET)))
        mask.set_care_all()
        assert not mask.pkt_match(ROUTED)
        mask.set_do_not_care_all()
        assert mask.pkt_match(ROUTED)
        assert not mask.pkt_match(ROUTED + b"more")
        mask.set_ignore_extra_bytes()
        assert mask.pkt_match(ROUTED + b"more")
        assert mask.is_valid()

    def test_unknown_headers(self) -> None:
        with pytest.raises(ConfigError, match="field"):
            Mask(PACKET).set_do_not_care_packet("outer.ipv6", "hop_limit")
        with pytest.raises(ConfigError, match="hdr_type"):
            Mask(PACKET).set_do_not_care_packet(int, "hop_limit")


class TestManyPackets:
    def test_each_packet_finds_its_own_in_any_order(self) -> None:
        wanted = [Expected(p, ignore=TTL) for p in T.encap_many(numbered(500))]
        order = np.random.default_rng(7).permutation(500)
        came = VXLAN(vni=5001, ttl=9, **ENDS).encap_many(numbered(500))
        match = Matcher(wanted).match([came[i] for i in order])
        assert match.expected.tolist() == order.tolist()
        assert match.packet[order].tolist() == list(range(500))
        assert match.ok

    def test_a_batch_is_as_good_as_a_list(self) -> None:
        batch = Batch.from_frames(numbered(20))
        T.encap_batch(batch)
        assert Matcher(T.encap_many(numbered(20))).match(batch).ok
        batch.offset[3] = 2**40
        assert found(Matcher(T.encap_many(numbered(20))).match(batch))[1:] == ([3], [3], [])

    def test_missing_unexpected_and_surplus(self) -> None:
        a, b, c, d = numbered(4)
        match = Matcher([a, b, b, Expected(c, name="the third")]).match([b, a, a, d, b])
        assert found(match) == ([1, 0, 0, -1, 2], [3], [3], [2])
        assert not match.ok
        assert match.report().splitlines()[0] == (
            "4 expected, 5 packets: 1 missing, 1 unexpected, 1 surplus"
        )
        assert "expected 3 (the third) is missing" in str(match)
        assert "packet 2 is one too many of expected 0" in str(match)

    def test_nothing_at_all(self) -> None:
        assert Matcher([]).match([]).ok
        assert found(Matcher([]).match([b"a"])) == ([-1], [], [0], [])
        assert found(Matcher([b"a"]).match([])) == ([], [0], [], [])
        assert Matcher([b""]).match([b""]).ok
        assert Matcher([b""]).match([b"a"]).nearest(0)[0] == 0
        assert Matcher([]).match([b"a"]).nearest(0) == (-1, [])

    def test_the_choice_leaves_nothing_missing_that_need_not_be(self) -> None:
        loose = Expected(PACKET, ignore=TTL)
        exact = Expected(PACKET)
        for wanted in permutations([loose, exact]):
            for came in permutations([PACKET, ROUTED]):
                assert Matcher(wanted).match(came).ok

    def test_a_chain_of_moves(self) -> None:
        """Each takes what the next could have had; only moving them all along leaves room."""
        wanted = [
            Expected(b"\x00\x00\x00", b"\xff\x00\x00"),
            Expected(b"\x00\x00\x00", b"\x00\xff\x00"),
            Expected(b"\x00\x00\x00", b"\x00\x00\xff"),
        ]
        packets = [b"\x00\x00\x01", b"\x01\x00\x00", b"\x00\x01\x01"]
        for order in permutations(packets):
            assert Matcher(wanted).match(order).ok

    def test_the_nearest_is_the_one_with_the_fewest_fields(self) -> None:
        wanted = [Expected(p) for p in T.encap_many(numbered(300))]
        came = bytearray(wanted[211].data)
        came[22] = 9
        match = Matcher(wanted).match([bytes(came)])
        number, differences = match.nearest(0)
        assert number == 211
        assert [str(d) for d in differences] == ["outer.ipv4.ttl: expected 64, got 9"]
        assert "nearest is expected 211" in str(match)
        assert "    outer.ipv4.ttl: expected 64, got 9" in str(match)

    def test_the_nearest_of_another_length(self) -> None:
        (difference,) = Matcher([PACKET]).match([PACKET + b"\0\0"]).nearest(0)[1]
        assert difference.name == "length"

    def test_objects_with_bytes(self) -> None:
        class Thing:
            def __bytes__(self) -> bytes:
                return PACKET

        assert Matcher([Expected(Thing()), Mask(Thing())]).match([Thing(), memoryview(PACKET)]).ok

    def test_reports_are_short(self) -> None:
        match = Matcher(numbered(100)).match([bytes(9)] * 100)
        assert len(match.report(3).splitlines()) == 1 + 3 * 5 + 3


small = st.binary(min_size=0, max_size=3).map(lambda raw: bytes(b & 0x81 for b in raw))


@st.composite
def expectations(draw: st.DrawFn) -> Expected:
    data = draw(small)
    mask = bytes(draw(st.sampled_from([0, 1, 0x80, 0x81, 0xFF])) for _ in data)
    return Expected(data, mask, extra=draw(st.booleans()))


def most(wanted: list[Expected], packets: list[bytes]) -> int:
    """The size of the largest matching, by the book."""
    owner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for number, one in enumerate(wanted):
            if number in seen or not one.matches(packets[row]):
                continue
            seen.add(number)
            if number not in owner or place(owner[number], seen):
                owner[number] = row
                return True
        return False

    return sum(place(row, set()) for row in range(len(packets)))


@given(st.lists(expectations(), max_size=8), st.lists(small, max_size=8))
def test_as_few_as_possible_are_missing(wanted: list[Expected], packets: list[bytes]) -> None:
    match = Matcher(wanted).match(packets)
    assert len(wanted) - match.missing.size == most(wanted, packets)
    for number, row in enumerate(match.packet.tolist()):
        if row >= 0:
            assert wanted[number].matches(packets[row])
            assert match.expected[row] == number
    surplus = set(match.surplus.tolist())
    for row, number in enumerate(match.expected.tolist()):
        if number < 0:
            assert not any(one.matches(packets[row]) for one in wanted)
        else:
            assert wanted[number].matches(packets[row])
            assert (match.packet[number] != row) == (row in surplus)
