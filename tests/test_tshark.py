"""tshark reads our packets: every field, every checksum."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import frames
import wire
from overlay import NVGRE, STT, VXLAN, Batch
from overlay.codec import Codec
from test_encap import plain

VERIFY = [
    "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
    "-o", "tcp.check_checksum:TRUE",
]  # fmt: skip
#: tshark takes STT for TCP unless its heuristics come first.
AS_STT = ["-o", "ip.try_heuristic_first:TRUE", "-o", "ipv6.try_heuristic_first:TRUE"]
GOOD = "1"
SOME = [frames.UDP4, frames.UDP6, frames.TCP4, frames.TCP6, frames.ARP, frames.JUMBO]

Dissect = Callable[..., list[list[str]]]


@pytest.fixture
def dissect(tool: Callable[[str], str], tmp_path: Path) -> Dissect:
    """`dissect(packets, fields, options)`: a list of values per packet."""
    program = tool("tshark")

    def run(packets: list[bytes], fields: list[str], options: list[str]) -> list[list[str]]:
        capture = tmp_path / "packets.pcap"
        capture.write_bytes(wire.pcap(packets))
        command = [program, "-n", "-r", str(capture), "-T", "fields", "-E", "occurrence=f"]
        command += [*options, *(word for field in fields for word in ("-e", field))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        assert len(rows) == len(packets)
        return rows

    return run


def test_vxlan(codec: Codec, dissect: Dissect, family: int) -> None:
    """VXLAN-1, VXLAN-4, VXLAN-10, VXLAN-16, GBP-2."""
    tunnels = [
        plain(VXLAN, family, vni=0xABCDEF, checksum=True),
        plain(VXLAN, family, vni=0, checksum=True, outer_vlan=5, dscp=46),
        plain(VXLAN, family, vni=0xFFFFFF, checksum=True, gbp=0x1234, gbp_applied=True),
    ]
    packets = [codec.encap(tunnel, frame) for tunnel in tunnels for frame in SOME]
    rows = dissect(
        packets,
        ["vxlan.vni", "vxlan.flags", "vxlan.gbp", "udp.dstport", "udp.checksum.status",
         "ip.checksum.status", "_ws.malformed"],
        VERIFY,
    )  # fmt: skip
    for n, (vni, flags, gbp, port, udp, ip, malformed) in enumerate(rows):
        tunnel = tunnels[n // len(SOME)]
        assert int(vni) == tunnel.vni
        assert int(flags, 0) == (0x0800 if tunnel.gbp is None else 0x8808)
        assert int(gbp or 0) == (tunnel.gbp or 0)
        assert (port, udp, malformed) == ("4789", GOOD, "")
        assert family == 6 or ip == GOOD


def test_nvgre(codec: Codec, dissect: Dissect, family: int) -> None:
    """NVGRE-1, NVGRE-4, NVGRE-6, NVGRE-17."""
    tunnel = plain(NVGRE, family, vsid=0xABCDE, flow_id=0x5A)
    rows = dissect(
        [codec.encap(tunnel, frame) for frame in SOME],
        ["gre.key", "gre.proto", "gre.flags_and_version", "ip.checksum.status", "_ws.malformed"],
        VERIFY,
    )
    for key, proto, word, ip, malformed in rows:
        assert (int(key, 0), int(proto, 0), int(word, 0)) == (0x0ABCDE5A, 0x6558, 0x2000)
        assert malformed == ""
        assert family == 6 or ip == GOOD


def test_stt(codec: Codec, dissect: Dissect, family: int) -> None:
    """STT-1, STT-6, STT-7, STT-11, STT-25, STT-29: as STT, every field of both headers."""
    tunnel = plain(STT, family, context_id=0x1122334455667788, inner_checksum="partial", mss=50,
                   frame_id=0xBADCAFE)  # fmt: skip
    some = [*SOME[:5], frames.TAGGED]
    rows = dissect(
        [codec.encap(tunnel, frame) for frame in some],
        ["stt.context_id", "stt.pkt_len", "stt.seg_off", "stt.pkt_id", "stt.flags", "stt.l4offset",
         "stt.mss", "stt.vlan.id", "stt.version", "tcp.dstport", "_ws.malformed"],
        AS_STT,
    )  # fmt: skip
    flags = [0x06, 0x02, 0x0E, 0x0A, 0x00, 0x06]
    offsets = [34, 54, 34, 54, 0, 34]
    for n, row in enumerate(rows):
        context, size, offset, ident, bits, l4, mss, _, version, _, malformed = row
        inside = frames.UDP4 if n == 5 else some[n]
        assert int(context, 0) == 0x1122334455667788
        assert (int(size), int(offset), int(ident, 0)) == (18 + len(inside), 0, 0xBADCAFE)
        assert (int(bits, 0), int(l4)) == (flags[n], offsets[n])
        assert int(mss) == (50 if flags[n] & 8 else 0)
        assert (int(version), malformed) == (0, "")


def test_stt_tag(codec: Codec, dissect: Dissect) -> None:
    """STT-26, STT-27."""
    packet = codec.encap(plain(STT), frames.TAGGED)
    ((vlan,),) = dissect([packet], ["stt.vlan"], AS_STT)
    assert int(vlan, 0) == 0x7064


def test_stt_segments_reassemble(codec: Codec, dissect: Dissect, family: int) -> None:
    """STT-8, STT-15, STT-37: tshark puts the segments together and finds the inner packet.

    It counts the TCP-shaped header of the first segment into the frame's length.
    """
    packets = codec.packets(plain(STT, family), frames.LONG, 1500)
    fields = ["stt.reassembled.length", "stt.segment.count", "frame.protocols"]
    rows = dissect(packets, fields, AS_STT)
    assert len(rows) == 3
    length, count, protocols = rows[-1]
    assert (int(length), int(count)) == (18 + len(frames.LONG) + 20, 3)
    assert "stt:eth:ethertype:ip:tcp" in protocols


def test_stt_checksums(codec: Codec, dissect: Dissect, family: int) -> None:
    """STT-14: verified by the TCP dissector; the one for STT cannot."""
    packets = [codec.encap(plain(STT, family), frame) for frame in SOME]
    packets += codec.packets(plain(STT, family), frames.LONG, 1500)
    rows = dissect(packets, ["tcp.checksum.status", "ip.checksum.status"], VERIFY)
    for tcp, ip in rows:
        assert tcp == GOOD
        assert family == 6 or ip == GOOD


def test_delivered_frames(codec: Codec, dissect: Dissect) -> None:
    """COM-12, STT-30, STT-32: what decap mends and cuts has good checksums."""
    marked = [wire.remark(frame, 2) for frame in (frames.TCP4, frames.UDP4, frames.TCP6)]
    tunnel = plain(STT, inner_checksum="partial")
    packets = [wire.mended(p[:15] + b"\x03" + p[16:]) for p in codec.encap_many(tunnel, marked)]
    batch = Batch.from_frames(packets)
    assert codec.decap_batch(batch) == 3
    delivered = batch.to_list() + codec.segments(frames.LONG, 1448)
    fields = ["tcp.checksum.status", "udp.checksum.status", "ip.checksum.status", "ip.dsfield.ecn"]
    rows = dissect(delivered, fields, VERIFY)
    assert rows[0] == [GOOD, "", GOOD, "3"]
    assert rows[1] == ["", GOOD, GOOD, "3"]
    assert rows[2][:2] == [GOOD, ""]
    assert [row[:3] for row in rows[3:]] == [[GOOD, "", GOOD]] * 3


def test_wrong_sums_are_seen(dissect: Dissect) -> None:
    """The oracle is awake: it calls a wrong checksum wrong."""
    packets = [wire.vxlan(frames.UDP4, check=0xDEAD), wire.stt(frames.UDP4, check=0xDEAD)]
    rows = dissect(packets, ["udp.checksum.status", "tcp.checksum.status"], VERIFY)
    assert rows[0][0] == rows[1][1] == "0"
