"""Cases of STT."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import Any

from . import packet
from .bench import Bench, Probe
from .case import Fault, case
from .common import same

_STT = ("stt",)
_DRAFT = "draft-davie-stt-08"


def _whole(bench: Bench, frame: bytes, **header: int) -> bytes:
    return packet.stt(bench.setting.key, **header) + frame


def _one(bench: Bench, name: str, accepted: bool = True, **of_segment: Any) -> Probe:
    """A frame in one segment with these fields of its TCP-shaped header."""
    frame = bench.frame()
    sent = packet.segment(
        bench.setting, _whole(bench, frame), frame_id=packet.next_id(), **of_segment
    )
    return Probe(name, (sent,), frame if accepted else None)


def _headed(bench: Bench, name: str, accepted: bool = True, **header: int) -> Probe:
    """A frame in one segment with these fields of its STT header."""
    how = bench.passes if accepted else bench.refused
    return how(name, header=packet.stt(bench.setting.key, **header))


def _parts(bench: Bench, frame: bytes, cuts: Sequence[int], **how: Any) -> list[bytes]:
    """The frame's segments, cut at these bytes."""
    whole, number = _whole(bench, frame), packet.next_id()
    edges = [0, *cuts, len(whole)]
    return [
        packet.segment(bench.setting, whole, a, b, frame_id=number, **how)
        for a, b in itertools.pairwise(edges)
    ]


@case(
    "STT-1", "req", f"{_DRAFT} 3.2", "STT looks like TCP to port 7471.",
    sends="a frame of the tenant", expects="IP protocol 6 and the port", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    outers = bench.encap([bench.from_tenant()])
    same(outers, "protocol", 6)
    same(outers, "port", bench.setting.port)


@case(
    "STT-3", "SHOULD", f"{_DRAFT} 3.2", "The source port tells flows apart.",
    sends="frames of 64 flows", expects="8 source ports at least", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    outers = bench.encap([bench.from_tenant(flow=i) for i in range(64)])
    if (found := len({one.source_port for one in outers})) < 8:
        raise Fault(f"64 flows have {found} source ports")


@case(
    "STT-5", "MUST", f"{_DRAFT} 3.2", "Frames have different frame IDs.",
    sends="32 frames of one flow", expects="32 values of the acknowledgement field",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    found = {one.l4[8:12] for one in bench.encap([bench.from_tenant(flow=5) for _ in range(32)])}
    if len(found) < 32:
        raise Fault(f"32 frames have {len(found)} frame IDs")


@case(
    "STT-6", "req", f"{_DRAFT} 3.2", "The upper half of the sequence number is the frame's length.",
    sends="a frame of the tenant", expects="its length and 18", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = bench.from_tenant()
    length = int.from_bytes(bench.encap([frame])[0].l4[4:6], "big")
    if length != len(frame) + 18:
        raise Fault(f"it is {length}, not {len(frame) + 18}")


@case(
    "STT-7", "req", f"{_DRAFT} 3.2", "The lower half of the sequence number is the offset.",
    sends="a frame of the tenant", expects="0 in the only segment", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    offset = int.from_bytes(bench.encap([bench.from_tenant()])[0].l4[6:8], "big")
    if offset:
        raise Fault(f"it is {offset}")


@case(
    "STT-9", "SHOULD", f"{_DRAFT} 3.2", "Window and urgent pointer are sent as zero.",
    sends="a frame of the tenant", expects="zeros", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    l4 = bench.encap([bench.from_tenant()])[0].l4
    if l4[14:16] + l4[18:20] != bytes(4):
        raise Fault(f"they are {l4[14:16].hex()} and {l4[18:20].hex()}")


@case(
    "STT-10", "SHOULD", f"{_DRAFT} 3.2", "Window and urgent pointer are ignored on receipt.",
    sends="segments with 0xFFFF in either", expects="their frames", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(_one(bench, "a window", window=0xFFFF), _one(bench, "urgent", urgent=0xFFFF))


@case(
    "STT-11", "SHOULD", f"{_DRAFT} 3.2", "PSH is set in the last segment.",
    sends="a frame of the tenant", expects="PSH in the only segment", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    if not (flags := bench.encap([bench.from_tenant()])[0].l4[13]) & 0x08:
        raise Fault(f"the flags are {flags:#04x}")


@case(
    "STT-12", "SHOULD", f"{_DRAFT} 3.2", "ACK is set.",
    sends="a frame of the tenant", expects="ACK", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    if not (flags := bench.encap([bench.from_tenant()])[0].l4[13]) & 0x10:
        raise Fault(f"the flags are {flags:#04x}")


@case(
    "STT-13", "SHOULD", f"{_DRAFT} 3.2", "The other flags are zero, and ignored on receipt.",
    sends="a frame of the tenant; segments with each flag", expects="no other; their frames",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    if (flags := bench.encap([bench.from_tenant()])[0].l4[13]) & 0xE7:
        raise Fault(f"the flags are {flags:#04x}")
    bench.decap(*(_one(bench, f"flags {1 << n:#04x}", flags=1 << n) for n in range(8)))


@case(
    "STT-14", "req", f"{_DRAFT} 3.2",
    "The TCP checksum is right, and a segment with a wrong one dropped.",
    sends="frames of the tenant; a segment with a wrong checksum",
    expects="right checksums; no frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    frames = [bench.from_tenant(flow=n, size=32 + n) for n in range(8)]
    if wrong := [one for one in bench.encap(frames) if not one.sum_right]:
        raise Fault(f"{len(wrong)} of 8 are wrong, such as {wrong[0].sum:#06x}")
    bench.decap(_one(bench, "a wrong TCP checksum", False, checksum="bad"))


@case(
    "STT-16", "MUST", f"{_DRAFT} 3.1", "A frame of another version is dropped.",
    sends="frames of the versions 1 and 255", expects="no frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(*(_headed(bench, f"version {v}", False, version=v) for v in (1, 255)))


@case(
    "STT-17", "MUST", f"{_DRAFT} 3.1", "The reserved byte is zero, and ignored on receipt.",
    sends="a frame of the tenant; a frame with 0xFF there", expects="zero; the frame",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    if value := bench.encap([bench.from_tenant()])[0].header[3]:
        raise Fault(f"it is {value:#04x}")
    bench.decap(_headed(bench, "0xff", reserved=0xFF))


@case(
    "STT-18", "MUST", f"{_DRAFT} 3.1", "The padding is zero, and ignored on receipt.",
    sends="a frame of the tenant; a frame with 0xFFFF there", expects="zero; the frame",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    if any(value := bench.encap([bench.from_tenant()])[0].header[16:18]):
        raise Fault(f"it is {value.hex()}")
    bench.decap(_headed(bench, "0xffff", padding=0xFFFF))


@case(
    "STT-19", "MUST", f"{_DRAFT} 3.1", "The reserved flags are zero, and ignored on receipt.",
    sends="a frame of the tenant; frames with each of the four", expects="zeros; the frames",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    if (flags := bench.encap([bench.from_tenant()])[0].header[1]) & 0xF0:
        raise Fault(f"the flags are {flags:#04x}")
    bench.decap(*(_headed(bench, f"flag {16 << n:#04x}", flags=16 << n) for n in range(4)))


@case(
    "STT-20", "MUST", f"{_DRAFT} 3.1",
    "A checksum is never said to be verified and partial at once.",
    sends="frames of the tenant: UDP, and no IP", expects="not both flags", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    for one in bench.encap([bench.from_tenant(), bench.not_ip(to_device=False)]):
        if one.header[1] & 3 == 3:
            raise Fault("both flags are set")


@case(
    "STT-22", "MUST", f"{_DRAFT} 3.1", "The MSS is zero where nothing is to be segmented.",
    sends="frames of the tenant: UDP, and no IP", expects="an MSS of 0", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    for one in bench.encap([bench.from_tenant(), bench.not_ip(to_device=False)]):
        if mss := int.from_bytes(one.header[4:6], "big"):
            raise Fault(f"the MSS is {mss}")


@case(
    "STT-23", "SHOULD", f"{_DRAFT} 3.1", "The L4 offset is zero for what is not IP.",
    sends="a frame of the tenant that is not IP", expects="an L4 offset of 0", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    if offset := bench.encap([bench.not_ip(to_device=False)])[0].header[2]:
        raise Fault(f"it is {offset}")


@case(
    "STT-26", "req", f"{_DRAFT} 3.1", "The tag of a frame is sent in the STT header.",
    sends="a frame of the tenant, tagged with VLAN 100 and priority 3",
    expects="an untagged payload and the tag in the header", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = bench.from_tenant()
    (one,) = bench.encap([packet.tagged(frame, 0x6064)])
    if one.payload != frame:
        raise Fault("the payload is not the frame without its tag")
    if one.header[6:8] != b"\x70\x64":
        raise Fault(f"the tag in the header is {one.header[6:8].hex()}, not 7064")


@case(
    "STT-27", "req", f"{_DRAFT} 3.1",
    "A tag in the STT header is put into the frame; VLAN 0 is one.",
    sends="frames with the tags 6064 and 6000 in the header", expects="tagged frames",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    probes = []
    for tag in (0x6064, 0x6000):
        frame = bench.frame()
        sent = bench.outer(frame, header=packet.stt(bench.setting.key, tci=tag | 0x1000))
        probes.append(Probe(f"tag {tag:#06x}", (sent,), packet.tagged(frame, tag)))
    bench.decap(*probes)


@case(
    "STT-28", "req", f"{_DRAFT} 3.1", "Without the V bit there is no tag.",
    sends="a frame with 0x6064 in the tag's field", expects="an untagged frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(_headed(bench, "no V bit", tci=0x6064))


@case(
    "STT-30", "req", f"{_DRAFT} 3.1", "A partial checksum is completed.",
    sends="UDP over IPv4 and IPv6 with the pseudo header's sum as its checksum",
    expects="the frames with right checksums", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    probes = []
    for family, l4, flags in ((4, 34, 0x06), (6, 54, 0x02)):
        frame = bench.frame(family=family)
        ends = frame[26:34] if family == 4 else frame[22:54]
        sum_ = packet.sum16(ends + struct.pack("!II", len(frame) - l4, 17)) ^ 0xFFFF
        partial = frame[: l4 + 6] + struct.pack("!H", sum_) + frame[l4 + 8 :]
        sent = bench.outer(partial, header=packet.stt(bench.setting.key, flags=flags, l4=l4))
        probes.append(Probe(f"UDP over IPv{family}", (sent,), frame))
    bench.decap(*probes)


@case(
    "STT-34", "req", f"{_DRAFT} 3.1",
    "A partial checksum's L4 offset lies after the inner IP header.",
    sends="partial checksums with L4 offsets of 0 and 20", expects="no frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(*(_headed(bench, f"L4 offset {n}", False, flags=6, l4=n) for n in (0, 20)))


@case(
    "STT-35", "req", f"{_DRAFT} 3.1", "A partial checksum's L4 header lies within the frame.",
    sends="a partial checksum with an L4 offset of 250", expects="no frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(_headed(bench, "L4 offset 250", False, flags=6, l4=250))


@case(
    "STT-39", "req", f"{_DRAFT} 3.2",
    "A frame is put together in whatever order its segments come.",
    sends="the six orders of three segments, the first of them shorter than the header",
    expects="the frames", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    probes = []
    for order in itertools.permutations(range(3)):
        frame = bench.frame(size=200)
        parts = _parts(bench, frame, (10, 120))
        name = "order " + " ".join(str(i + 1) for i in order)
        probes.append(Probe(name, tuple(parts[i] for i in order), frame))
    bench.decap(*probes)


@case(
    "STT-40", "req", f"{_DRAFT} 3.2", "A segment that comes twice does no harm.",
    sends="three segments, the second of them twice", expects="the frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = bench.frame(size=200)
    one, two, three = _parts(bench, frame, (90, 150))
    bench.decap(Probe("a segment twice", (one, two, two, three), frame))


@case(
    "STT-41", "req", f"{_DRAFT} 3.2", "A segment that overlaps others never mixes with them.",
    sends="two segments, and between them one over both, of other bytes", expects="the frame",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame, number = bench.frame(size=200), packet.next_id()
    whole = _whole(bench, frame)
    other = bytes(byte ^ 0xFF for byte in whole)
    one, false, two = (
        packet.segment(bench.setting, data, a, b, frame_id=number)
        for data, a, b in ((whole, 0, 120), (other, 90, 150), (whole, 120, None))
    )
    bench.decap(Probe("an overlap", (one, false, two), frame))


@case(
    "STT-42", "req", f"{_DRAFT} 3.2",
    "A segment that reaches past the end of its frame is dropped.",
    sends="a segment of more bytes than the frame's length", expects="no frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(_one(bench, "a length of 40", False, length=40))


@case(
    "STT-43", "req", f"{_DRAFT} 3.2", "A segment without a payload does no harm.",
    sends="two segments, and an empty one before each", expects="the frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame, number = bench.frame(size=200), packet.next_id()
    whole = _whole(bench, frame)
    parts = [
        packet.segment(bench.setting, whole, a, b, frame_id=number)
        for a, b in ((0, 0), (0, 120), (120, 120), (120, None))
    ]
    bench.decap(Probe("empty segments", tuple(parts), frame))


@case(
    "STT-44", "req", f"{_DRAFT} 3.2", "A frame of which a segment is missing is not delivered.",
    sends="the first and the third of three segments", expects="no frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    one, _missing, three = _parts(bench, bench.frame(size=200), (120, 150))
    bench.decap(Probe("a segment missing", (one, three), None))


@case(
    "STT-46", "req", f"{_DRAFT} 3.2", "Frames whose segments come mixed are put together apart.",
    sends="two frames of two segments, one of each in turn", expects="both frames",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    frames = bench.frame(size=200), bench.frame(size=200)
    (a, b), (c, d) = (_parts(bench, frame, (120,)) for frame in frames)
    bench.decap(Probe("the first", (a, c), frames[0]), Probe("the second", (b, d), frames[1]))


@case(
    "STT-47", "req", f"{_DRAFT} 3.2", "Segments of different senders are of different frames.",
    sends="the halves of a frame, from two addresses", expects="no frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    setting = bench.setting
    other = "192.0.2.77" if setting.family == 4 else "2001:db8::77"
    frame, number = bench.frame(size=200), packet.next_id()
    whole = _whole(bench, frame)
    halves = (
        packet.segment(setting, whole, 0, 120, frame_id=number),
        packet.segment(setting, whole, 120, None, frame_id=number, source=other),
    )
    bench.decap(Probe("two addresses", halves, None))


@case(
    "STT-50", "SHOULD", f"{_DRAFT} 3.3.1",
    "Congestion marked on any segment is marked in the frame.",
    sends="an ECN-capable frame in three segments, one of which has CE, each in turn",
    expects="frames with CE", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    probes = []
    for marked in range(3):
        frame, number = bench.frame(size=200, tos=2), packet.next_id()
        whole = _whole(bench, frame)
        parts = tuple(
            packet.segment(bench.setting, whole, a, b, frame_id=number, tos=3 if i == marked else 2)
            for i, (a, b) in enumerate(((0, 90), (90, 150), (150, None)))
        )
        right = bytearray(frame)
        right[15] = 3
        right[24:26] = bytes(2)
        struct.pack_into("!H", right, 24, packet.sum16(bytes(right[14:34])))
        probes.append(Probe(f"CE on segment {marked + 1}", parts, bytes(right)))
    bench.decap(*probes)


@case(
    "STT-53", "req", f"{_DRAFT} 3.1", "A frame length that leaves no room for a frame is dropped.",
    sends="segments of 0, 18 and 31 bytes of frame", expects="no frame", protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    whole = _whole(bench, bench.frame())
    bench.decap(
        *(
            Probe(
                f"{n} bytes",
                (packet.segment(bench.setting, whole[:n], frame_id=packet.next_id()),),
                None,
            )
            for n in (0, 18, 31)
        )
    )


@case(
    "STT-54", "req", f"{_DRAFT} 3.2", "A data offset other than 5 ends nothing.",
    sends="segments with the data offsets 0, 4, 6 and 15", expects="a live device",
    protocols=_STT,
)  # fmt: skip
def _(bench: Bench) -> None:
    probes = [_one(bench, f"data offset {n}", False, doff=n) for n in (0, 4, 6, 15)]
    bench.decap(*(Probe(p.name, p.packets, None, alive_only=True) for p in probes))
