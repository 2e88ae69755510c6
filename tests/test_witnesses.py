"""scapy and tshark on GENEVE, VXLAN-GPE, GRE and ERSPAN: they build what we build, and read it."""

from __future__ import annotations

import warnings

import pytest

import frames
import wire
from overlay import ERSPAN, GRE, VXLANGPE, Geneve, GeneveOption, Tunnel
from overlay.codec import Codec
from test_encap import plain
from test_tshark import GOOD, SOME, VERIFY, Dissect
from test_tshark import dissect as dissect

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scapy = pytest.importorskip("scapy.all")
    contrib_geneve = pytest.importorskip("scapy.contrib.geneve")
    contrib_erspan = pytest.importorskip("scapy.contrib.erspan")
    scapy_vxlan = pytest.importorskip("scapy.layers.vxlan")

Ether, IP, IPv6, UDP, Raw = scapy.Ether, scapy.IP, scapy.IPv6, scapy.UDP, scapy.Raw
FRAMES = ["UDP4", "TCP6", "ARP", "TAGGED"]


def outer(family: int) -> object:
    """scapy's outer headers up to IP."""
    head = Ether(src=wire.LOCAL_MAC, dst=wire.REMOTE_MAC)
    if family == 4:
        return head / IP(src=wire.LOCAL[4], dst=wire.REMOTE[4], flags="DF", id=0)
    return head / IPv6(src=wire.LOCAL[6], dst=wire.REMOTE[6], fl=0x12345, hlim=64)


def tunnel(cls: type[Tunnel], family: int, **fields: object) -> Tunnel:
    return plain(
        cls, family, local_mac=wire.LOCAL_MAC, remote_mac=wire.REMOTE_MAC, flow_label=0x12345,
        **fields,
    )  # fmt: skip


def there_and_back(
    codec: Codec, made: Tunnel, theirs: bytes, frame: bytes, **takes: object
) -> None:
    """The bytes are ours, and read as they were meant."""
    assert codec.encap(made, frame, sequence=0) == theirs
    found = codec.decap(theirs, **takes)
    assert (found.frame, found.key, found.protocol) == (frame, made.key, made.name)
    assert codec.encap(found.tunnel, frame) == theirs


@pytest.mark.parametrize("name", FRAMES)
def test_scapys_geneve(codec: Codec, family: int, name: str) -> None:
    """GENEVE-2, GENEVE-6, GENEVE-9: an option and the UDP checksum, byte for byte."""
    frame = getattr(frames, name)
    option = contrib_geneve.GeneveOptions(classid=0x0102, type=1, length=1, data=b"abcd")
    shim = contrib_geneve.GENEVE(vni=0xABCDE, proto=0x6558, optionlen=2, options=[option])
    theirs = bytes(outer(family) / UDP(sport=50001, dport=6081) / shim / Raw(frame))
    made = tunnel(
        Geneve, family, vni=0xABCDE, source_port=50001, options=[GeneveOption(0x0102, 1, b"abcd")]
    )
    there_and_back(codec, made, theirs, frame)


@pytest.mark.parametrize("name", FRAMES)
def test_scapys_gpe(codec: Codec, family: int, name: str) -> None:
    """GPE-2, GPE-7."""
    frame = getattr(frames, name)
    shim = scapy_vxlan.VXLAN(flags=0x0C, NextProtocol=3, vni=0xABCDE)
    theirs = bytes(outer(family) / UDP(sport=50001, dport=4790) / shim / Raw(frame))
    made = tunnel(VXLANGPE, family, vni=0xABCDE, source_port=50001)
    there_and_back(codec, made, theirs, frame)


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("key", [None, 0, 0xDEADBEEF])
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("sequence", [None, 9])
def test_scapys_gre(
    codec: Codec, family: int, name: str, key: int | None, checksum: bool, sequence: int | None
) -> None:
    """GRE-1, GRE-2, GRE-6, GRE-7."""
    frame = getattr(frames, name)
    shim = scapy.GRE(
        chksum_present=int(checksum), key_present=int(key is not None), key=key or 0,
        seqnum_present=int(sequence is not None), sequence_number=sequence or 0, proto=0x6558,
    )  # fmt: skip
    theirs = bytes(outer(family) / shim / Raw(frame))
    made = tunnel(GRE, family, key=key, checksum=checksum, sequence=sequence)
    there_and_back(codec, made, theirs, frame, protocols=["gre"])


@pytest.mark.parametrize("name", FRAMES)
def test_scapys_erspan(codec: Codec, family: int, name: str) -> None:
    """Types II and III, field by field."""
    frame = getattr(frames, name)
    gre = scapy.GRE(seqnum_present=1, sequence_number=7, proto=0x88BE)
    shim = contrib_erspan.ERSPAN_II(ver=1, vlan=0xABC, cos=5, en=2, t=1, session_id=0x2AA, index=77)
    made = tunnel(
        ERSPAN, family, vlan=0xABC, cos=5, encapsulation=2, truncated=True, session_id=0x2AA,
        index=77, sequence=7,
    )  # fmt: skip
    there_and_back(codec, made, bytes(outer(family) / gre / shim / Raw(frame)), frame)
    gre = scapy.GRE(seqnum_present=1, sequence_number=7, proto=0x22EB)
    shim = contrib_erspan.ERSPAN_III(
        ver=2, vlan=0xABC, cos=5, bso=2, t=1, session_id=0x2AA, timestamp=0x12345678,
        sgt_other=0xBEEF, p=1, ft=0, hw=0x2B, d=1, gra=2, o=0,
    )  # fmt: skip
    made = tunnel(
        ERSPAN, family, type=3, vlan=0xABC, cos=5, encapsulation=2, truncated=True,
        session_id=0x2AA, timestamp=0x12345678, security_group=0xBEEF, hardware=0x2B,
        direction="egress", granularity=2, sequence=7,
    )  # fmt: skip
    there_and_back(codec, made, bytes(outer(family) / gre / shim / Raw(frame)), frame)


# -- tshark ---------------------------------------------------------------------------


def test_tsharks_geneve(codec: Codec, dissect: Dissect, family: int) -> None:
    """GENEVE-5, GENEVE-6, GENEVE-9, GENEVE-10, GENEVE-12, GENEVE-24."""
    options = [GeneveOption(0x0102, 0x80, b"\0\1\0\2"), GeneveOption(0xFFFF, 1, bytes(8))]
    made = plain(Geneve, family, vni=0xABCDEF, options=options, oam=True)
    rows = dissect(
        [codec.encap(made, frame) for frame in SOME],
        ["geneve.vni", "geneve.proto_type", "geneve.flags", "geneve.option.class",
         "geneve.option.type", "udp.checksum.status", "ip.checksum.status", "_ws.malformed"],
        [*VERIFY, "-E", "occurrence=a"],
    )  # fmt: skip
    for vni, proto, flags, classes, types, udp, ip, malformed in rows:
        assert (int(vni, 0), int(proto, 0), int(flags, 0)) == (0xABCDEF, 0x6558, 0xC0)
        assert [int(word, 0) for word in classes.split(",")] == [0x0102, 0xFFFF]
        assert [int(word, 0) for word in types.split(",")] == [0x80, 1]
        assert (udp.split(",")[0], malformed) == (GOOD, "")
        assert family == 6 or ip.split(",")[0] == GOOD


@pytest.mark.parametrize("payload", ["ethernet", "ip"])
def test_tsharks_gpe(codec: Codec, dissect: Dissect, family: int, payload: str) -> None:
    """GPE-1, GPE-2, GPE-4, GPE-7."""
    some = [frames.UDP4, frames.TCP6]
    made = plain(VXLANGPE, family, vni=0xABCDEF, payload=payload)
    rows = dissect(
        [codec.encap(made, frame) for frame in some],
        ["vxlan.vni", "vxlan.next_proto", "udp.dstport", "udp.checksum.status", "frame.protocols",
         "_ws.malformed"],
        VERIFY,
    )  # fmt: skip
    for n, (vni, following, port, udp, protocols, malformed) in enumerate(rows):
        assert (int(vni), port, udp, malformed) == (0xABCDEF, "4790", GOOD, "")
        assert int(following, 0) == (3 if payload == "ethernet" else n + 1)
        inside = protocols.split("udp:")[1]  # it gives VXLAN-GPE no name of its own
        assert inside.startswith("eth:" if payload == "ethernet" else ("ip:", "ipv6:")[n])


@pytest.mark.parametrize("payload", ["ethernet", "ip"])
def test_tsharks_gre(codec: Codec, dissect: Dissect, family: int, payload: str) -> None:
    """GRE-1, GRE-2, GRE-6, GRE-7: the checksum of odd and even packets too."""
    some = [frames.UDP4, frames.TCP6]
    made = plain(GRE, family, key=0xDEADBEEF, checksum=True, sequence=5, payload=payload)
    rows = dissect(
        [codec.encap(made, frame) for frame in some],
        ["gre.key", "gre.proto", "gre.sequence_number", "gre.checksum.status", "_ws.malformed"],
        VERIFY,
    )
    for n, (key, proto, number, checksum, malformed) in enumerate(rows):
        assert (int(key, 0), int(number), checksum, malformed) == (0xDEADBEEF, 5 + n, GOOD, "")
        assert int(proto, 0) == (0x6558 if payload == "ethernet" else (0x0800, 0x86DD)[n])


@pytest.mark.parametrize("kind", [2, 3])
def test_tsharks_erspan(codec: Codec, dissect: Dissect, family: int, kind: int) -> None:
    own = {"index": 77} if kind == 2 else {"timestamp": 0x12345678, "security_group": 0xBEEF}
    made = plain(ERSPAN, family, type=kind, session_id=0x2AA, vlan=0xABC, cos=5, **own)
    rows = dissect(
        [codec.encap(made, frame) for frame in SOME],
        ["erspan.spanid", "erspan.vlan", "erspan.cos", "erspan.version", "gre.sequence_number",
         "_ws.malformed"],
        VERIFY,
    )  # fmt: skip
    for n, (session, vlan, cos, version, number, malformed) in enumerate(rows):
        assert (int(session), int(vlan), int(cos), int(version)) == (0x2AA, 0xABC, 5, kind - 1)
        assert (int(number), malformed) == (n, "")


def test_every_protocol_is_one_to_wireshark(codec: Codec, dissect: Dissect) -> None:
    """The names that it gives the layers of a plain packet of each."""
    packets = [codec.encap(plain(cls), frames.UDP4) for cls in (Geneve, VXLANGPE, GRE, ERSPAN)]
    rows = dissect(packets, ["frame.protocols"], VERIFY)
    assert ["geneve:eth" in rows[0][0], "udp:eth" in rows[1][0]] == [True, True]
    assert ["gre:eth" in rows[2][0], "gre:erspan:eth" in rows[3][0]] == [True, True]
