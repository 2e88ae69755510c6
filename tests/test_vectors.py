"""The golden vectors of tests/vectors, in both directions, before every backend.

The tunnels are built from the vectors' own fields, never from a decap.
"""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from overlay import (
    ERSPAN,
    GRE,
    NVGRE,
    STT,
    VXLAN,
    VXLANGPE,
    Batch,
    DecapError,
    Geneve,
    GeneveOption,
    Status,
    Tunnel,
)
from overlay.codec import Codec
from overlay.geneve import OvnPorts

FOLDER = Path(__file__).parent / "vectors"
VECTORS: dict[str, dict[str, Any]] = {
    vector["name"]: vector
    for name in ("vxlan", "nvgre", "stt", "geneve", "gretap", "erspan")
    for vector in json.loads((FOLDER / f"{name}.json").read_text())
}
GPE = [name for name, vector in VECTORS.items() if vector["protocol"] == "vxlan-gpe"]
REFUSED = {
    "vxlan_v4_no_I": Status.VXLAN_NO_VNI,
    "nvgre_v4_inner_tagged": Status.INNER_TAGGED,
    "nvgre_v4_C_bit": Status.GRE_CHECKSUM_PRESENT,
    "nvgre_v4_S_bit": Status.GRE_SEQUENCE_PRESENT,
    "stt_v4_bad_version": Status.STT_VERSION,
    "stt_v4_bad_outer_csum": Status.TCP_CHECKSUM,
    "geneve_v6_oam": Status.GENEVE_CONTROL,
    "geneve_v4_bad_version": Status.GENEVE_VERSION,
}
# The options that a vector needs to be taken, where the default is to refuse it.
ON_REQUEST: dict[str, tuple[Status, dict[str, Any]]] = {
    "vxlan_v6_zero_csum": (Status.UDP_ZERO_CHECKSUM, {"zero_checksum6": True}),
    "vxlan_v4_bad_csum": (Status.UDP_CHECKSUM, {"verify_checksums": False}),
    "vxlan_gpe_ipv4": (Status.GPE_NEXT_PROTOCOL, {"payload": "any"}),
    "gretap_v4_nokey": (Status.GRE_NO_KEY, {"protocols": ("gre",)}),
}
#: Keyed GRE, which is NVGRE's unless GRE is asked for.
AS_GRE = {"gretap_v4_key": {"protocols": ("gre",)}}
IP = ("vxlan_gpe_ipv4",)
SINGLE = [
    name for name, vector in VECTORS.items() if "packet_hex" in vector and name not in REFUSED
]
SENDABLE = [name for name in SINGLE if name != "vxlan_v4_bad_csum"]
SEGMENTED = [name for name, vector in VECTORS.items() if "packets_hex" in vector]


def packet_of(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name]["packet_hex"])


def packets_of(name: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in VECTORS[name]["packets_hex"]]


def inner_of(name: str) -> bytes:
    inner = bytes.fromhex(VECTORS[name]["inner_hex"])
    return bytes(12) + b"\x08\0" + inner if name in IP else inner


def header_of(name: str) -> bytes:
    """All that is before what the packet carries."""
    return packet_of(name)[: -len(bytes.fromhex(VECTORS[name]["inner_hex"]))]


def options_of(name: str) -> dict[str, Any]:
    return ON_REQUEST[name][1] if name in ON_REQUEST else AS_GRE.get(name, {})


def tunnel_of(name: str) -> Tunnel:
    """The tunnel that a vector's fields speak of."""
    fields = VECTORS[name]["fields"]
    common: dict[str, Any] = {
        "local": fields["outer_src_ip"],
        "remote": fields["outer_dst_ip"],
        "local_mac": fields["outer_src_mac"],
        "remote_mac": fields["outer_dst_mac"],
        "outer_vlan": fields.get("outer_vid"),
        "outer_pcp": fields.get("outer_pcp", 0),
        "ttl": fields["ttl"] if "ttl" in fields else fields["hop_limit"],
        "dscp": fields.get("tos", 0) >> 2,
        "df": fields.get("df", 1) == 1,
        "flow_label": fields.get("flow_label", 0),
    }
    if not common["df"]:
        common["ip_id"] = fields["ip_id"]
    if name.startswith("vxlan_gpe"):
        return VXLANGPE(
            vni=fields["vni"], source_port=fields["udp_src"],
            payload="ip" if name in IP else "ethernet", **common,
        )  # fmt: skip
    if name.startswith("geneve"):
        options = [
            GeneveOption(o["cls"], o["type"], bytes.fromhex(o["data"]))
            for o in fields.get("options", ())
        ]
        (source,) = struct.unpack_from("!H", packet_of(name), 54 if "hop_limit" in fields else 34)
        assert fields.get("udp_src", source) == source
        return Geneve(
            vni=fields["vni"], source_port=source, options=options, oam=fields.get("O") == 1,
            **common,
        )  # fmt: skip
    if name.startswith("erspan"):
        own = ("type", "sequence", "session_id", "vlan", "cos", "encapsulation", "index",
               "timestamp", "security_group", "hardware")  # fmt: skip
        return ERSPAN(**{field: fields[field] for field in own if field in fields}, **common)
    if name.startswith("gretap"):
        return GRE(key=fields.get("key"), **common)
    if name.startswith("vxlan"):
        return VXLAN(
            vni=fields["vni"],
            port=fields["udp_dst"],
            source_port=fields["udp_src"],
            checksum=fields["udp_checksum"] != 0 if "udp_checksum" in fields else False,
            gbp=fields.get("group_policy_id"),
            gbp_dont_learn=fields.get("dont_learn") == 1,
            gbp_applied=fields.get("policy_applied") == 1,
            **common,
        )
    if name.startswith("nvgre"):
        return NVGRE(
            vsid=fields["vsid"],
            flow_id=fields.get("flow_id", 0),
            allow_reserved_vsid=fields["vsid"] < 0x1000,
            **common,
        )
    # stt_v4_short_tail leaves its port and Context ID to be read from the packet.
    first = packets_of(name)[0] if name in SEGMENTED else packet_of(name)
    flags = fields.get("stt_flags", 0)
    return STT(
        context_id=fields.get("context_id", struct.unpack_from("!Q", first, 62)[0]),
        source_port=fields.get("tcp_src", struct.unpack_from("!H", first, 34)[0]),
        frame_id=fields["packet_id"],
        inner_checksum={0: "unknown", 1: "verified"}.get(flags, "partial"),  # type: ignore[arg-type]
        mss=fields.get("mss", 0),
        **common,
    )


# -- out --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SENDABLE)
def test_encap_gives_the_vector(codec: Codec, name: str) -> None:
    """COM-1, COM-24, VXLAN-1, VXLAN-2, VXLAN-3, VXLAN-4, VXLAN-14, VXLAN-16, VXLAN-26, VXLAN-27,
    VXLAN-34, GBP-2, NVGRE-1, NVGRE-2, NVGRE-3, NVGRE-4, NVGRE-5, NVGRE-6, NVGRE-17, NVGRE-18,
    STT-1, STT-6, STT-9, STT-12, STT-14, STT-17, STT-18, STT-19, STT-23, STT-25.
    """
    tunnel, packet = tunnel_of(name), packet_of(name)
    assert codec.encap(tunnel, inner_of(name)) == packet
    assert len(packet) - len(inner_of(name)) == tunnel.overhead


@pytest.mark.parametrize("name", SENDABLE)
def test_encap_batch_gives_the_vector(codec: Codec, name: str) -> None:
    tunnel = tunnel_of(name)
    batch = Batch.from_frames([inner_of(name)], headroom=tunnel.overhead)
    assert codec.encap_batch(batch, tunnel) == 1
    assert batch.to_list() == [packet_of(name)]
    assert batch.offset[0] == batch.base[0] == 0
    assert batch.key[0] == tunnel.key


@pytest.mark.parametrize("name", [name for name in SENDABLE if not name.startswith("stt")])
def test_packets_give_the_vector(codec: Codec, name: str) -> None:
    """VXLAN-23, NVGRE-19: one packet, never a fragment."""
    assert codec.packets(tunnel_of(name), inner_of(name)) == [packet_of(name)]


@pytest.mark.parametrize("name", SEGMENTED)
def test_segmentation_gives_the_vector(codec: Codec, name: str) -> None:
    """STT-2, STT-4, STT-6, STT-7, STT-8, STT-11, STT-15, STT-37."""
    assert codec.packets(tunnel_of(name), inner_of(name), 1500) == packets_of(name)


@pytest.mark.parametrize("name", SEGMENTED)
def test_one_large_packet_holds_all_segments(codec: Codec, name: str) -> None:
    """STT-20, STT-21, STT-22: the frame is that of the segments, seeded where P is set."""
    packet = codec.encap(tunnel_of(name), inner_of(name))
    assert packet[54:] == b"".join(segment[54:] for segment in packets_of(name))
    carried = VECTORS[name].get("encapsulated_hex", VECTORS[name]["inner_hex"])
    assert packet[72:].hex() == carried
    assert codec.decap(packet).frame == inner_of(name)


# -- in ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_decap_gives_the_inner_frame(codec: Codec, name: str) -> None:
    """COM-4, COM-22, VXLAN-4, VXLAN-15, VXLAN-19, VXLAN-25, VXLAN-27, VXLAN-34, GBP-7, NVGRE-6,
    NVGRE-16, NVGRE-18, NVGRE-27, NVGRE-31, STT-1, STT-25, STT-29: Ethernet padding is ignored.
    """
    tunnel = tunnel_of(name)
    packet = bytearray(packet_of(name) + b"\xff" * 7)
    before = bytes(packet)
    found = codec.decap(packet, **options_of(name))
    assert (found.frame, found.key, found.protocol) == (inner_of(name), tunnel.key, tunnel.name)
    assert found.header == header_of(name)
    assert found.wire_length == len(found.frame)
    assert found.mss == 0
    assert packet == before


@pytest.mark.parametrize("name", SENDABLE)
def test_describe_rebuilds_the_vector(codec: Codec, name: str) -> None:
    """NVGRE-10: the FlowID too."""
    found = codec.decap(packet_of(name), **options_of(name))
    assert codec.encap(found.tunnel, found.frame) == packet_of(name)


@pytest.mark.parametrize("name", SINGLE)
def test_decap_batch_gives_the_inner_frame(codec: Codec, name: str) -> None:
    tunnel = tunnel_of(name)
    batch = Batch.from_frames([packet_of(name), packet_of(name)[:13], packet_of(name)])
    assert codec.decap_batch(batch, **options_of(name)) == 2
    assert batch.to_list() == [inner_of(name)] * 2
    assert batch.status.tolist() == [0, Status.ETHERNET_TRUNCATED, 0]
    assert batch.key.tolist() == [tunnel.key, 0, tunnel.key]
    assert batch.protocol.tolist() == [tunnel.number, 0, tunnel.number]
    assert bytes(batch[1]) == packet_of(name)[:13]


@pytest.mark.parametrize("name", SINGLE)
def test_every_cut_packet_is_refused_or_says_so(codec: Codec, name: str) -> None:
    """COM-3, COM-19, VXLAN-32, NVGRE-29: a capture's cut is not the sender's."""
    packet, inner = packet_of(name), inner_of(name)
    overhead = tunnel_of(name).overhead
    for length in range(len(packet)):
        with pytest.raises(DecapError):
            codec.decap(packet[:length], **options_of(name))
        if length < overhead + (34 if name in IP else 14):
            with pytest.raises(DecapError):
                codec.decap(packet[:length], wire_length=len(packet), **options_of(name))
        else:
            found = codec.decap(packet[:length], wire_length=len(packet), **options_of(name))
            assert found.frame == inner[: length - overhead]
            assert found.wire_length == len(inner)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_vector_says_why(codec: Codec, name: str) -> None:
    """VXLAN-9, NVGRE-13, NVGRE-22, NVGRE-23, STT-14, STT-16."""
    packet = packet_of(name)
    with pytest.raises(DecapError) as refusal:
        codec.decap(packet)
    assert refusal.value.status == REFUSED[name]
    batch = Batch.from_frames([packet])
    assert codec.decap_batch(batch) == 0
    assert batch.drops() == {REFUSED[name]: 1}
    assert bytes(batch[0]) == packet


@pytest.mark.parametrize("name", ON_REQUEST)
def test_vector_is_taken_on_request_only(codec: Codec, name: str) -> None:
    """COM-6, VXLAN-17, VXLAN-18, VXLAN-19."""
    status, options = ON_REQUEST[name]
    with pytest.raises(DecapError) as refusal:
        codec.decap(packet_of(name))
    assert refusal.value.status == status
    assert codec.decap(packet_of(name), **options).frame == inner_of(name)


def test_zero_checksum_is_taken_from_known_pairs_only(codec: Codec) -> None:
    """COM-7: ours is the packet's destination."""
    packet = packet_of("vxlan_v6_zero_csum")
    ours, theirs = "2001:db8:2::2", "2001:db8:1::1"
    assert codec.decap(packet, zero_checksum6=[(ours, theirs)]).key == 7
    with pytest.raises(DecapError) as refusal:
        codec.decap(packet, zero_checksum6=[(theirs, ours)])
    assert refusal.value.status == Status.UDP_ZERO_CHECKSUM


def test_reserved_vsid_is_a_matter_of_policy(codec: Codec) -> None:
    """NVGRE-14: received it may be, by default; sent only on request."""
    packet = packet_of("nvgre_v4_reserved_vsid")
    assert codec.decap(packet).key == 0x000FFF
    with pytest.raises(DecapError) as refusal:
        codec.decap(packet, reserved_vsid="drop")
    assert refusal.value.status == Status.NVGRE_VSID


@pytest.mark.parametrize("name", GPE)
def test_gpe_is_another_protocol(codec: Codec, name: str) -> None:
    """GPE-1, VXLAN-10: port 4790 is not VXLAN's."""
    with pytest.raises(DecapError) as refusal:
        codec.decap(packet_of(name), protocols=["vxlan"])
    assert refusal.value.status == Status.UNKNOWN_PROTOCOL


def test_keyed_gre_is_nvgre_unless_asked(codec: Codec) -> None:
    """GRE-4."""
    found = codec.decap(packet_of("gretap_v4_key"))
    assert (found.protocol, found.key, found.tunnel.flow_id) == ("nvgre", 0xDEADBE, 0xEF)


def test_a_critical_option_has_to_be_known(codec: Codec) -> None:
    """GENEVE-12, GENEVE-13: OVN's is."""
    packet = packet_of("geneve_v4_critical")
    assert codec.decap(packet).tunnel.options == (OvnPorts(1, 2),)
    with pytest.raises(DecapError) as refusal:
        codec.decap(packet, options=())
    assert refusal.value.status == Status.GENEVE_CRITICAL


def test_a_control_packet_can_be_sent_and_read(codec: Codec) -> None:
    """GENEVE-22, GENEVE-23."""
    packet = packet_of("geneve_v6_oam")
    assert codec.encap(tunnel_of("geneve_v6_oam"), inner_of("geneve_v6_oam")) == packet
    assert codec.decap(packet, "lenient").frame == inner_of("geneve_v6_oam")


def test_gpe_bits_are_reserved_bits(codec: Codec) -> None:
    """VXLAN-6, VXLAN-7, VXLAN-11, VXLAN-35: where VXLAN is told to listen on that port."""
    packet = packet_of("vxlan_gpe_eth")
    assert codec.decap(packet, vxlan_port=4790).frame == inner_of("vxlan_gpe_eth")
    assert codec.decap(packet, vxlan_port=4790).protocol == "vxlan"
    with pytest.raises(DecapError) as refusal:
        codec.decap(packet, "strict", vxlan_port=4790)
    assert refusal.value.status == Status.VXLAN_RESERVED


def test_group_policy_passes_strict_only_where_it_is_in_use(codec: Codec) -> None:
    """GBP-2, GBP-3, GBP-4, VXLAN-35."""
    packet = packet_of("vxlan_gbp")
    with pytest.raises(DecapError) as refusal:
        codec.decap(packet, "strict")
    assert refusal.value.status == Status.VXLAN_RESERVED
    tunnel = codec.decap(packet, "strict", gbp=True).tunnel
    assert isinstance(tunnel, VXLAN)
    assert (tunnel.gbp, tunnel.gbp_dont_learn, tunnel.gbp_applied) == (0x1234, True, True)


# -- STT, several segments ----------------------------------------------------------


@pytest.mark.parametrize("name", SEGMENTED)
def test_one_segment_is_no_frame(codec: Codec, name: str) -> None:
    for packet in packets_of(name):
        with pytest.raises(DecapError) as refusal:
            codec.decap(packet)
        assert refusal.value.status == Status.STT_INCOMPLETE


@pytest.mark.parametrize("name", SEGMENTED)
def test_every_order_reassembles(codec: Codec, name: str) -> None:
    """STT-38, STT-39, STT-30: and the tunnel found sends the same segments again."""
    packets = packets_of(name)
    for order in itertools.permutations(packets):
        reassembler = codec.SttReassembler()
        results = [reassembler.push(packet, now=1.0) for packet in order]
        assert results[:-1] == [None] * (len(packets) - 1)
        found = results[-1]
        assert found is not None
        assert found.frame == inner_of(name)
        assert found.mss == VECTORS[name]["fields"].get("mss", 0)
        assert found.header == packets[0][:72]
        assert codec.packets(found.tunnel, found.frame, 1500) == packets
        assert reassembler.stats.frames == 1
        assert reassembler.stats.pending == reassembler.stats.memory == 0


@pytest.mark.parametrize("name", SEGMENTED)
def test_duplicates_do_no_harm(codec: Codec, name: str) -> None:
    """STT-40."""
    *first, last = packets_of(name)
    reassembler = codec.SttReassembler()
    for packet in first * 2:
        assert reassembler.push(packet, now=0) is None
    found = reassembler.push(last, now=0)
    assert found is not None
    assert found.frame == inner_of(name)
    assert reassembler.stats.duplicates == len(first)


@pytest.mark.parametrize("name", SEGMENTED)
def test_batch_reassembles(codec: Codec, name: str) -> None:
    """STT-46: two frames at once, from one batch to another."""
    packets = packets_of(name)
    batch = Batch.from_frames([packets[0], packet_of("stt_v4_arp"), *packets[1:]])
    out = Batch.packed(20_000, 4, gap=16)
    reassembler = codec.SttReassembler()
    assert reassembler.push_batch(batch, out, now=0) == 2
    assert out.to_list() == [inner_of("stt_v4_arp"), inner_of(name)]
    assert out.origin.tolist() == [1, len(packets)]
    assert out.mss.tolist() == [0, VECTORS[name]["fields"].get("mss", 0)]
    assert out.base.tolist() == [16, out.base[0] + 18 + out.length[0] + 16]
    held = [Status.STT_INCOMPLETE] * (len(packets) - 2)
    assert batch.status.tolist() == [Status.STT_INCOMPLETE, 0, *held, 0]


def test_mss_resegments(codec: Codec) -> None:
    """STT-32, STT-33."""
    vector = VECTORS["stt_v4_tso_3seg"]
    expected = [bytes.fromhex(text) for text in vector["resegmented_hex"]]
    assert codec.segments(inner_of("stt_v4_tso_3seg"), vector["fields"]["mss"]) == expected
    packet = codec.encap(tunnel_of("stt_v4_tso_3seg"), inner_of("stt_v4_tso_3seg"))
    assert codec.decap(packet).segments() == expected
