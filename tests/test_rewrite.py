"""Rules over packets: what is set is set, what is not stays, and every packet is accounted for."""

from __future__ import annotations

import struct
from typing import Any

import pytest

import frames
import overlay
import wire
from overlay import (
    NVGRE,
    PROTOCOLS,
    STT,
    VXLAN,
    Batch,
    ConfigError,
    Profile,
    Rewriter,
    Rule,
    Status,
    Tunnel,
    load_rules,
)  # fmt: skip
from overlay.rule import parse_rules

KEY = 5001
ENDS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
OTHER = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8:9::1", "2001:db8:9::2")}
SOME = [frames.UDP4, frames.UDP6, frames.TCP4, frames.TCP6, frames.ARP]


def known(name: str) -> Profile:
    """This protocol alone: keyed GRE is NVGRE where both are known."""
    return Profile.of("lenient", ecn="rfc6040", protocols=(name,))


protocols = pytest.mark.parametrize("name", list(PROTOCOLS))
families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def tunnel(name: str, family: int = 4, key: int = KEY, **options: Any) -> Tunnel:
    kind = PROTOCOLS[name]
    local, remote = ENDS[family]
    key = min(key, 1000) if name == "erspan" else key
    return kind(**{kind.key_field: key}, local=local, remote=remote, **options)


def through(
    packets: list[bytes], *rules: Rule, headroom: int = 8, **options: Any
) -> tuple[list[bytes], Rewriter]:
    rewriter = Rewriter(rules, **options)
    out = rewriter.rewrite(Batch.from_frames(packets, headroom=headroom)).to_list()
    rewriter.finish()
    stats = rewriter.stats
    told = stats.rewritten + stats.unchanged + stats.segments + sum(stats.refused.values())
    assert stats.packets == len(packets) == told
    return out, rewriter


def sound(packet: bytes) -> wire.Outer:
    """The outer headers, whose checksums and lengths are right."""
    outer = wire.parse(packet)
    if outer.family == 4:
        assert wire.checksum(outer.header) == 0
    if outer.protocol == wire.UDP and outer.body[6:8] != b"\0\0":
        assert wire.checksum(outer.pseudo + outer.body) == 0
    if outer.protocol == wire.TCP:
        assert wire.checksum(outer.pseudo + outer.body) == 0
    return outer


# -- in place ------------------------------------------------------------------------


@protocols
@families
@pytest.mark.parametrize("checksums", ["fix", "keep"])
def test_every_field_is_set_in_place(name: str, family: int, checksums: Any) -> None:
    """And the frame is what it was, and every checksum right."""
    before = tunnel(name, family, outer_vlan=7, outer_pcp=5, dscp=10)
    if name in ("vxlan", "geneve", "vxlan-gpe"):
        before = tunnel(name, family, outer_vlan=7, outer_pcp=5, dscp=10, checksum=True)
    source, destination = OTHER[family]
    rule = Rule(
        protocol=name, vlan=7, dscp=10, set_source=source, set_destination=destination,
        set_source_mac="02:00:00:00:00:01", set_destination_mac="02:00:00:00:00:02",
        set_dscp=46, set_ecn=1, set_ttl=9, set_vlan=8, set_key=900,
        tunnel={"allow_reserved_vsid": True},
    )  # fmt: skip
    out, rewriter = through(before.encap_many(SOME), rule, checksums=checksums)
    assert rewriter.stats.rewritten == len(SOME)
    for frame, packet in zip(SOME, out, strict=True):
        outer = sound(packet)
        assert (outer.src, outer.dst, outer.ttl, outer.tos) == (source, destination, 9, 46 << 2 | 1)
        assert outer.tci == 5 << 13 | 8
        assert (outer.src_mac, outer.dst_mac) == ("02:00:00:00:00:01", "02:00:00:00:00:02")
        found = overlay.decap(packet, known(name))
        assert (found.frame, found.key, found.protocol) == (frame, 900, name)


@families
def test_prefixes_keep_the_host_bits(family: int) -> None:
    new = {4: "203.0.113.0/24", 6: "2001:db8:1::/64"}[family]
    old = {4: "192.0.2.0/24", 6: "2001:db8::/64"}[family]
    out, _ = through([tunnel("vxlan", family).encap(frames.UDP4)], Rule(source=old, set_source=new))
    assert sound(out[0]).src == {4: "203.0.113.1", 6: "2001:db8:1::1"}[family]
    assert sound(out[0]).dst == ENDS[family][1]


def test_tags_are_put_in_and_taken_away() -> None:
    plain, tagged = tunnel("vxlan"), tunnel("vxlan", outer_vlan=7, outer_pcp=3)
    packets = [plain.encap(frames.UDP4), tagged.encap(frames.UDP4)]
    out, _ = through(packets, Rule(set_vlan=9))
    assert [wire.parse(p).tci for p in out] == [9, 3 << 13 | 9]
    assert through(out, Rule(set_vlan="none"))[0][0] == packets[0]
    assert through(packets, Rule(vlan="none", set_vlan=9))[0] == [out[0], packets[1]]


def test_a_tag_needs_room() -> None:
    packet = tunnel("vxlan").encap(frames.UDP4)
    out, rewriter = through([packet], Rule(set_vlan=9), headroom=3)
    assert out == [packet]
    assert rewriter.stats.refused == {Status.NO_HEADROOM: 1}


def test_source_ports_by_the_flow_hash() -> None:
    """Those that encap would have given."""
    packets = tunnel("vxlan", source_port=7, checksum=True).encap_many(SOME)
    for chosen, given in (("entropy", None), ((1000, 2000), (1000, 2000)), (5, 5)):
        out, _ = through(packets, Rule(set_source_port=chosen))  # type: ignore[arg-type]
        expected = tunnel("vxlan", source_port=given, checksum=True).encap_many(SOME)
        assert out == expected


def test_destination_port() -> None:
    out, _ = through([tunnel("vxlan").encap(frames.UDP4)], Rule(set_destination_port=8472))
    assert overlay.decap(out[0], vxlan_port=8472).key == KEY


def test_dscp_is_inherited_and_ecn_copied() -> None:
    frame = wire.remark(frames.UDP4, 26 << 2 | 2)
    packet = tunnel("vxlan", ecn="zero").encap(frame)
    out, _ = through([packet], Rule(set_dscp="inherit", set_ecn="rfc6040"))
    assert sound(out[0]).tos == 26 << 2 | 2


def test_a_congestion_mark_that_was_met_stays() -> None:
    """RFC 6040: the egress has yet to put it into the frame."""
    frame = wire.remark(frames.UDP4, 2)
    marked = wire.vxlan(frame, ip_fields={"tos": 3})
    out, _ = through([marked], Rule(set_ecn="rfc6040", set_dscp=1))
    assert sound(out[0]).tos == 1 << 2 | 3


@pytest.mark.parametrize("checksums", ["fix", "keep"])
def test_wrong_checksums_are_mended_or_kept_wrong(checksums: Any) -> None:
    """RFC 1624: an update keeps the error as it is."""
    packet = bytearray(tunnel("vxlan", checksum=True).encap(frames.UDP4))
    wrong = {24: 0x0102, 40: 0x0304}
    for at, error in wrong.items():
        struct.pack_into("!H", packet, at, struct.unpack_from("!H", packet, at)[0] ^ error)
    rule = Rule(set_source="198.51.100.9", set_key=6)
    out, _ = through([bytes(packet)], rule, checksums=checksums)
    if checksums == "fix":
        sound(out[0])
        assert overlay.decap(out[0]).key == 6
        return
    good, _ = through([tunnel("vxlan", checksum=True).encap(frames.UDP4)], rule)
    for at in wrong:
        old, new = struct.unpack_from("!H", packet, at)[0], struct.unpack_from("!H", out[0], at)[0]
        right = struct.unpack_from("!H", good[0], at)[0]
        before = struct.unpack_from("!H", tunnel("vxlan", checksum=True).encap(frames.UDP4), at)[0]
        assert new != right
        assert (new - right) % 0xFFFF == (old - before) % 0xFFFF


def test_a_rule_that_sets_nothing_mends() -> None:
    packet = bytearray(tunnel("vxlan").encap(frames.UDP4))
    packet[24] ^= 0x55
    assert through([bytes(packet)], Rule())[0] == [tunnel("vxlan").encap(frames.UDP4)]


def test_absent_checksums_stay_absent() -> None:
    out, _ = through([tunnel("vxlan").encap(frames.UDP4)], Rule(set_source="10.0.0.1"))
    assert wire.parse(out[0]).body[6:8] == b"\0\0"


def test_cut_packets_stay_cut() -> None:
    packet = tunnel("vxlan", checksum=True).encap(frames.JUMBO)
    batch = Batch.from_frames([packet[:96]])
    batch.wire[:] = len(packet)
    out = Rewriter([Rule(set_key=7, set_source="10.0.0.1")]).rewrite(batch)
    assert (out.length[0], out.wire[0]) == (96, len(packet))
    whole, _ = through([packet], Rule(set_key=7, set_source="10.0.0.1"))
    assert out.to_list() == [whole[0][:96]]


# -- which packets ---------------------------------------------------------------------


def test_the_first_rule_that_matches_is_taken() -> None:
    packets = [tunnel("vxlan", key=key).encap(frames.UDP4) for key in (10, 20, 30, 40)]
    out, rewriter = through(
        packets, Rule(key=(15, 30), add_key=1000), Rule(map_key={30: 1, 40: 2}), Rule(key=99)
    )
    assert [overlay.decap(p).key for p in out] == [10, 1020, 1030, 2]
    assert out[0] == packets[0]
    assert rewriter.stats.rules == [2, 1, 0]
    assert (rewriter.stats.rewritten, rewriter.stats.unchanged) == (3, 1)


def test_what_no_rule_is_for_stays_byte_for_byte() -> None:
    packets = [*SOME, b"", b"\x08", tunnel("vxlan").encap(frames.UDP4)[:30], bytes(200)]
    packets += tunnel("stt").packets(frames.JUMBO, 1500)
    out, rewriter = through(packets, Rule(protocol="nvgre", key=1, set_key=2))
    assert out == packets
    assert rewriter.stats.unchanged + sum(rewriter.stats.refused.values()) == len(packets)


def test_packets_that_cannot_be_judged_are_refused() -> None:
    """Fragments and cut headers of packets that a rule may be for; they are kept or dropped."""
    packet = tunnel("vxlan").encap(frames.UDP4)
    fragment = bytearray(packet)
    fragment[20:22] = b"\x20\x00"
    packets = [bytes(fragment), packet[:38], packet]
    out, rewriter = through(packets, Rule(source="192.0.2.0/24", set_key=1))
    assert out[:2] == packets[:2]
    assert rewriter.stats.refused == {Status.IP_FRAGMENT: 1, Status.IP_LENGTH: 1}
    out, _ = through(packets, Rule(source="192.0.2.0/24", set_key=1), refused="drop")
    assert [overlay.decap(p).key for p in out] == [1]
    out, rewriter = through(packets, Rule(source="10.0.0.0/8", set_key=1))
    assert out == packets
    assert not rewriter.stats.refused


def test_packets_that_begin_with_ip() -> None:
    packet = tunnel("vxlan").encap(frames.UDP4)[14:]
    batch = Batch.from_frames([packet, packet])
    batch.link[:] = 1
    out = Rewriter([Rule(set_key=7)]).rewrite(batch)
    assert overlay.decap(bytes(out[0]), link=1).key == 7
    batch = Batch.from_frames([packet])
    batch.link[:] = 1
    rewriter = Rewriter([Rule(set_vlan=7)])
    assert rewriter.rewrite(batch).to_list() == [packet]
    assert rewriter.stats.refused == {Status.LINK_TYPE: 1}
    batch = Batch.from_frames([packet])
    batch.link[:] = 1
    out = Rewriter([Rule(to="nvgre")]).rewrite(batch)
    assert out.link[0] == 1
    assert overlay.decap(bytes(out[0]), link=1).frame == frames.UDP4


@pytest.mark.parametrize(
    ("name", "rule", "status"),
    [
        ("vxlan", Rule(set_key=1 << 24), Status.KEY_RANGE),
        ("vxlan", Rule(add_key=-6000), Status.KEY_RANGE),
        ("nvgre", Rule(set_key=5), Status.NVGRE_VSID),
        ("nvgre", Rule(set_source_port=5), Status.NO_FIELD),
        ("vxlan", Rule(set_source="2001:db8::1"), Status.IP_VERSION),
        ("stt", Rule(to="vxlan", set_key=1 << 40), Status.KEY_RANGE),
        ("vxlan", Rule(to="nvgre", set_key=5), Status.NVGRE_VSID),
    ],
    ids=str,
)
def test_what_cannot_be_set_is_refused_and_kept(name: str, rule: Rule, status: Status) -> None:
    packet = tunnel(name).encap(frames.UDP4)
    out, rewriter = through([packet], rule)
    assert out == [packet]
    assert rewriter.stats.refused == {status: 1}


# -- rebuilt -----------------------------------------------------------------------------


@protocols
@pytest.mark.parametrize("to", list(PROTOCOLS))
@families
@pytest.mark.parametrize("other", [False, True], ids=["same", "other-version"])
def test_translation_keeps_frames_and_headers(name: str, to: str, family: int, other: bool) -> None:
    before = tunnel(name, family, ttl=33, dscp=12, outer_vlan=5, local_mac="02:00:00:00:00:07")
    key = {"add_key": 0} if "erspan" not in (name, to) else {"set_key": 900}
    if to == "nvgre" and key != {"add_key": 0}:
        key["set_key"] = 0x1000
    ends = dict(zip(("set_source", "set_destination"), OTHER[10 - family], strict=True))
    packets = before.encap_many(SOME)
    rule = Rule(protocol=name, to=to, **key, **(ends if other else {}))
    out, rewriter = through(packets, rule)
    assert rewriter.stats.rewritten == len(SOME), rewriter.stats
    local, remote = OTHER[10 - family] if other else ENDS[family]
    for old, new in zip(packets, out, strict=True):
        outer = sound(new)
        assert (outer.src, outer.dst, outer.ttl, outer.tci) == (local, remote, 33, 5)
        assert outer.tos >> 2 == 12
        assert outer.src_mac == "02:00:00:00:00:07"
        was, now = overlay.decap(old, known(name)), overlay.decap(new, known(to))
        assert now.frame == was.frame
        assert now.protocol == to
        assert now.key == key.get("set_key", was.key)


@protocols
@pytest.mark.parametrize("to", list(PROTOCOLS))
def test_room_for_the_headers_changes_nothing_but_the_copy(name: str, to: str) -> None:
    """Where the headers fit, packets change where they lie, and to the same bytes."""
    key = {"set_key": 900 if "erspan" in (name, to) else 5000}
    if to == "nvgre":
        key["set_key"] = 0x5000
    tagged = wire.tag(frames.UDP4, (0x8100, 5))
    packets = [tunnel(name).encap(frame) for frame in SOME for _ in range(2)]
    packets += [packets[0][:-1], frames.ARP, bytes(20), packets[0][:40] + b"\xff" + packets[0][41:]]
    if name != "nvgre":
        packets.append(tunnel(name).encap(tagged))
    results = []
    for headroom in (128, 0):
        batch = Batch.from_frames(packets, headroom=headroom)
        rewriter = Rewriter([Rule(protocol=name, to=to, **key)])
        out = rewriter.rewrite(batch)
        lies = out.data.ctypes.data == batch.data.ctypes.data
        assert lies == (name != "stt" and to != "erspan") or not headroom
        made = out.to_list()
        if to == "stt":  # its frame IDs are those of rows
            made = [packet[:42] + packet[46:50] + packet[52:] for packet in made]
        results.append((made, out.origin.tolist(), batch.status.tolist(), rewriter.stats))
    assert results[0] == results[1]
    assert results[0][3].rewritten >= len(SOME)


def test_the_other_ip_version_without_another_protocol() -> None:
    out, _ = through(
        [tunnel("vxlan").encap(frames.UDP4)],
        Rule(set_source="2001:db8::7", set_destination="2001:db8::8", tunnel={"checksum": False}),
    )
    built = overlay.decap(out[0], "lenient").tunnel
    assert isinstance(built, VXLAN)
    assert (built.local, built.remote, built.checksum) == ("2001:db8::7", "2001:db8::8", False)


def test_translation_merges_congestion_marks() -> None:
    """RFC 6040: what the outer header met goes into the frame; over Not-ECT it is a drop."""
    marked = wire.vxlan(wire.remark(frames.UDP4, 2), ip_fields={"tos": 3})
    lost = wire.vxlan(wire.remark(frames.UDP4, 0), ip_fields={"tos": 3})
    out, rewriter = through([marked, lost], Rule(to="nvgre", set_key=0x5001))
    assert sound(out[0]).tos & 3 == 3
    assert overlay.decap(out[0]).frame == wire.remark(frames.UDP4, 3)
    assert out[1] == lost
    assert rewriter.stats.refused == {Status.ECN_CONGESTION: 1}


def test_nvgre_carries_no_tag() -> None:
    """RFC 7637 3.3: a tagged frame is refused, unless the rule gives the tag up."""
    frame = wire.tag(frames.UDP4, (0x8100, 5))
    packet = tunnel("vxlan").encap(frame)
    out, rewriter = through([packet], Rule(to="nvgre"))
    assert out == [packet]
    assert rewriter.stats.refused == {Status.FRAME_TAGGED: 1}
    out, _ = through([packet], Rule(to="nvgre", tunnel={"inner_vlan": "strip"}))
    assert overlay.decap(out[0]).frame == frames.UDP4


def test_packets_beyond_the_mtu() -> None:
    """Refused, or segmented where the protocol is STT."""
    packet = tunnel("nvgre").encap(frames.JUMBO)
    out, rewriter = through([packet], Rule(to="vxlan"), mtu=1500)
    assert out == [packet]
    assert rewriter.stats.refused == {Status.MTU_EXCEEDED: 1}
    out, _ = through([packet], Rule(to="stt"), mtu=1500)
    assert len(out) == -(-(len(frames.JUMBO) + 18) // 1460)
    assert all(len(p) <= 1514 for p in out)
    whole = overlay.SttReassembler()
    found = [whole.push(sound(p) and p, 0) for p in out]
    assert found[-1] is not None
    assert found[-1].frame == frames.JUMBO


@pytest.mark.parametrize("order", [1, -1], ids=["in-order", "reversed"])
def test_segments_are_put_together_for_another_protocol(order: int) -> None:
    segments = tunnel("stt").packets(frames.JUMBO, 1500)[::order]
    other = tunnel("nvgre").encap(frames.UDP4)
    packets = [*segments[:2], other, *segments[2:], other]
    out, rewriter = through(packets, Rule(protocol="stt", to="vxlan"))
    if order == 1:
        assert out[0] == out[2] == other
        assert overlay.decap(out[1]).frame == frames.JUMBO
        assert (rewriter.stats.segments, rewriter.stats.frames) == (len(segments), 1)
    else:  # what comes before its frame's first segment is of an unknown network
        assert rewriter.stats.refused == {Status.STT_INCOMPLETE: len(segments) - 1}
        assert rewriter.stats.incomplete == 1


def test_segments_follow_the_rule_of_their_frame() -> None:
    """Those of one key are changed, those of the other are not."""
    one = STT(context_id=1, local="192.0.2.1", remote="192.0.2.2", frame_id=1)
    two = STT(context_id=2, local="192.0.2.1", remote="192.0.2.2", frame_id=2)
    packets = [
        p for pair in zip(one.packets(frames.JUMBO), two.packets(frames.JUMBO), strict=True)
        for p in pair
    ]  # fmt: skip
    out, _ = through(packets, Rule(key=2, set_key=3, set_ttl=9, set_source_port="entropy"))
    assert out[0::2] == packets[0::2]
    assert all(sound(p).ttl == 9 for p in out[1::2])
    whole = overlay.SttReassembler()
    found = [frame for p in out if (frame := whole.push(p, 0))]
    assert [f.key for f in found] == [1, 3]
    assert [f.frame for f in found] == [frames.JUMBO] * 2


def test_order_and_origin_are_kept() -> None:
    packets = [tunnel(name).encap(frame) for frame in SOME for name in ("vxlan", "nvgre", "stt")]
    batch = Batch.from_frames(packets)
    out = Rewriter([Rule(protocol="nvgre", to="stt")]).rewrite(batch)
    assert out.origin.tolist() == list(range(len(packets)))
    for row, packet in enumerate(out.to_list()):
        assert overlay.decap(packet).frame == SOME[row // 3]
        assert (packet == packets[row]) == (row % 3 != 1)


def test_many_tunnels_in_one_batch() -> None:
    packets = [
        VXLAN(vni=n, local=f"10.0.{n // 256}.{n % 256}", remote="192.0.2.2").encap(frames.UDP4)
        for n in range(700)
    ]
    out, _ = through(packets, Rule(to="nvgre", add_key=0x1000))
    found = [overlay.decap(p) for p in out]
    assert [f.key for f in found] == [0x1000 + n for n in range(700)]
    assert len({f.tunnel.local for f in found}) == 700


def test_rows_that_have_a_status_are_left_alone() -> None:
    batch = Batch.from_frames([tunnel("vxlan").encap(frames.UDP4)] * 3)
    batch.status[1] = Status.MTU_EXCEEDED
    before = bytes(batch[1])
    out = Rewriter([Rule(set_key=1)]).rewrite(batch)
    assert len(out.to_list()) == 2
    assert bytes(batch[1]) == before
    assert batch.status.tolist() == [0, Status.MTU_EXCEEDED, 0]


# -- rules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("protocol", {"protocol": "ipip"}),
        ("key", {"key": (5, 1)}),
        ("key", {"key": -1}),
        ("source", {"source": "192.0.2.1/24"}),
        ("source_mac", {"source_mac": "x"}),
        ("vlan", {"vlan": 4096}),
        ("vlan", {"vlan": "any"}),
        ("dscp", {"dscp": 64}),
        ("map_key", {"map_key": {}}),
        ("map_key", {"set_key": 1, "map_key": {1: 2}}),
        ("set_source", {"source": "192.0.2.0/24", "set_source": "2001:db8::/32"}),
        ("set_destination", {"set_source": "10.0.0.1", "set_destination": "2001:db8::1"}),
        ("set_source_port", {"set_source_port": 65536}),
        ("set_ttl", {"set_ttl": 256}),
        ("set_ecn", {"set_ecn": "compat"}),
        ("set_ecn", {"set_ecn": 1, "to": "vxlan"}),
        ("to", {"to": "ipip"}),
        ("tunnel", {"to": "nvgre", "set_destination_port": 1}),
        ("tunnel", {"to": "vxlan", "tunnel": {"local": "192.0.2.1"}}),
        ("tunnel", {"to": "vxlan", "tunnel": {"flow_id": 1}}),
        ("gbp", {"to": "vxlan", "tunnel": {"gbp": -1}}),
    ],
)
def test_rules_that_cannot_be(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Rule(**values)
    assert caught.value.field == field


def test_rules_say_themselves() -> None:
    rule = Rule(protocol="vxlan", key=5, map_key={1: 2}, set_source="192.0.2.0/24")
    assert eval(repr(rule)) == rule


def test_rules_of_a_file(tmp_path: Any) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        """
        [[rule]]
        protocol = ["vxlan", "nvgre"]
        key = "5000-0x1400"
        set-source-port = "1000-2000"
        to = "stt"
        tunnel = { inner_checksum = "verified" }

        [[rule]]
        map-key = { 1 = 2, "0x10" = 3 }
        set_vlan = "none"
        """
    )
    assert load_rules(path) == (
        Rule(protocol=("vxlan", "nvgre"), key=(5000, 5120), set_source_port=(1000, 2000),
             to="stt", tunnel={"inner_checksum": "verified"}),
        Rule(map_key={1: 2, 16: 3}, set_vlan="none"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"rule": [{}, {"set-keys": 1}]}, "rule 2: set-keys"),
        ({"rule": [{"set-key": "many"}]}, "rule 1: set-key"),
        ({"rule": "all"}, "rule="),
        ({"rules": []}, "rules='rules'"),
    ],
)
def test_files_that_cannot_be(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_rules(document)


@pytest.mark.parametrize(
    "options", [{"mtu": 20}, {"checksums": "mend"}, {"refused": "hold"}, {"profile": "loose"}]
)
def test_rewriters_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Rewriter([Rule()], **options)


def test_nvgre_may_have_reserved_keys_if_told() -> None:
    packet = tunnel("vxlan", key=5).encap(frames.UDP4)
    out, _ = through([packet], Rule(to="nvgre", tunnel={"allow_reserved_vsid": True}))
    built = overlay.decap(out[0]).tunnel
    assert isinstance(built, NVGRE)
    assert built.vsid == 5
