"""Cases that every protocol is tried with: the outer packet, entropy, ECN, truncation."""

from __future__ import annotations

import struct

from . import packet
from .bench import Bench, Probe
from .case import ALL, OVER_UDP, Fault, Inapplicable, Unjudged, case
from .outer import Outer
from .packet import sum16

_RFC6040 = "RFC 6040 4.2"


def same(outers: list[Outer], what: str, expected: object) -> None:
    """Raise :class:`Fault` unless ``what`` is as expected in every packet."""
    for one in outers:
        found = getattr(one, what)
        if found != expected:
            raise Fault(f"{what.replace('_', ' ')} is {found}, not {expected}")


def entropy(one: Outer) -> int:
    """What the packet's flow is told by: the source port, or NVGRE's FlowID."""
    return one.header[7] if one.protocol == 47 and len(one.header) > 7 else one.source_port


@case(
    "COM-1", "MUST", "RFC 791 3.1", "The checksum of the outer IPv4 header is right.",
    sends="a frame of the tenant", expects="a packet whose IPv4 header sums up",
    protocols=ALL, families=(4,),
)  # fmt: skip
def _(bench: Bench) -> None:
    if not all(one.ip_right for one in bench.encap([bench.from_tenant(flow=i) for i in range(8)])):
        raise Fault("the IPv4 header checksum is wrong")


@case(
    "COM-2", "MUST", "RFC 1812 5.2.2", "A packet with a wrong outer IPv4 checksum is dropped.",
    sends="a packet whose IPv4 header checksum is one too large", expects="no frame",
    protocols=ALL, families=(4,),
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.refused("a wrong IPv4 checksum", checksum_change=1))


@case(
    "COM-3", "MUST", "RFC 791 3.1, RFC 8200 3",
    "A packet whose IP length is larger than what arrived is dropped.",
    sends="a packet whose IP length counts 100 bytes more than there are", expects="no frame",
    protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    setting = bench.setting
    if setting.family == 4:
        bench.decap(bench.refused("an IP length past the end", length_change=100))
        return
    frame = bench.frame()
    whole = bytearray(bench.outer(frame))
    struct.pack_into("!H", whole, 18, int.from_bytes(whole[18:20], "big") + 100)
    bench.decap(Probe("a payload length past the end", (bytes(whole),), None))


@case(
    "COM-4", "MUST", "RFC 894", "Ethernet padding after the outer IP packet is not part of it.",
    sends="packets with 1, 6 and 46 bytes after the IP packet", expects="the frames without them",
    protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(*(bench.passes(f"{n} bytes of padding", padding=b"\xee" * n) for n in (1, 6, 46)))


@case(
    "COM-5", "MUST", "RFC 768", "A UDP checksum that comes out as 0 is sent as 0xFFFF.",
    sends="a frame that makes the outer checksum come out as 0", expects="0xFFFF in the packet",
    protocols=OVER_UDP,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = bench.not_ip(to_device=False)
    (one,) = bench.encap([frame])
    if one.sum == 0:
        raise Inapplicable("the device sends no UDP checksum")
    if (len(one.packet) - len(frame)) % 2:
        raise Unjudged("the frame begins at an odd byte of the packet")
    value = int.from_bytes(frame[-2:], "big") + one.sum
    value = (value & 0xFFFF) + (value >> 16)
    (again,) = bench.encap([frame[:-2] + struct.pack("!H", value)])
    if again.source_port != one.source_port:
        raise Unjudged("the source port of the flow changed")
    if again.sum != 0xFFFF:
        raise Fault(f"the checksum is {again.sum:#06x}, not 0xffff")


@case(
    "COM-6", "MUST", "RFC 8200 8.1, RFC 6935",
    "A zero UDP checksum over IPv6 is refused unless it was allowed.",
    sends="a packet with a UDP checksum of 0", expects="no frame",
    protocols=OVER_UDP, families=(6,),
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.refused("a zero checksum over IPv6", checksum="zero"))


@case(
    "COM-8", "MUST", "RFC 7348 5, RFC 8926 3.3",
    "Frames of one flow have one source port or FlowID.",
    sends="16 frames of one flow, of different TTLs, lengths and payloads",
    expects="packets with one entropy value",
    protocols=("vxlan", "nvgre", "stt", "geneve", "vxlan-gpe"),
)  # fmt: skip
def _(bench: Bench) -> None:
    frames = [bench.from_tenant(flow=7, ttl=64 - i, size=32 + 2 * i) for i in range(16)]
    found = {entropy(one) for one in bench.encap(frames)}
    if len(found) > 1:
        raise Fault(f"{len(found)} values for one flow: {sorted(found)[:4]}")


@case(
    "COM-9", "SHOULD", "RFC 7348 5",
    "The inner fragments of one datagram have one source port or FlowID.",
    sends="the first and a later fragment of a UDP datagram",
    expects="packets with one entropy value",
    protocols=("vxlan", "nvgre", "stt", "geneve", "vxlan-gpe"),
)  # fmt: skip
def _(bench: Bench) -> None:
    for flow in (11, 12, 13):  # one might be alike by chance
        first = bench.from_tenant(flow=flow, fragment=0x2000)
        found = {entropy(o) for o in bench.encap([first, bench.from_tenant(flow=flow, fragment=5)])}
        if len(found) > 1:
            raise Fault("the first fragment and a later one differ")


@case(
    "COM-10", "SHOULD", "RFC 6040 4.1", "The outer ECN field is the inner one, CE too.",
    sends="frames of the tenant with Not-ECT, ECT(1), ECT(0) and CE",
    expects="packets with the same ECN field",
    protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    names = ("Not-ECT", "ECT(1)", "ECT(0)", "CE")
    for family in (4, 6):
        frames = [bench.from_tenant(tos=ecn, family=family) for ecn in range(4)]
        for ecn, one in enumerate(bench.encap(frames)):
            if one.tos & 3 != ecn:
                raise Fault(
                    f"inner {names[ecn]} of IPv{family} was sent as outer {names[one.tos & 3]}"
                )


@case(
    "COM-11", "MUST", _RFC6040, "Congestion marked on a frame that is Not-ECT drops it.",
    sends="an outer CE around an inner Not-ECT, of IPv4 and IPv6", expects="no frame",
    protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        *(
            bench.refused(f"CE over Not-ECT, inner IPv{family}", bench.frame(family=family), tos=3)
            for family in (4, 6)
        )
    )


def _marked(bench: Bench, inner: int, outer: int, expected: int, family: int) -> Probe:
    """A packet of these two ECN fields, and the frame with the expected one."""
    frame = bench.frame(tos=inner, family=family)
    whole = bench.outer(frame, tos=outer)
    right = bytearray(frame)
    if family == 4:
        right[15] = expected
        right[24:26] = b"\0\0"
        struct.pack_into("!H", right, 24, sum16(bytes(right[14:34])))
    else:
        right[15] = right[15] & 0xCF | expected << 4
    names = ("Not-ECT", "ECT(1)", "ECT(0)", "CE")
    name = f"outer {names[outer]} over inner {names[inner]}, IPv{family}"
    return Probe(name, (whole,), bytes(right))


@case(
    "COM-12", "MUST", _RFC6040,
    "Congestion marked on an ECN-capable frame is marked in it, and its checksum corrected.",
    sends="an outer CE around inner ECT(0), ECT(1) and CE", expects="frames with CE",
    protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(*(_marked(bench, inner, 3, 3, f) for f in (4, 6) for inner in (1, 2, 3)))


@case(
    "COM-13", "MUST", _RFC6040, "An outer ECT(1) over an inner ECT(0) gives ECT(1).",
    sends="an outer ECT(1) around an inner ECT(0)", expects="a frame with ECT(1)",
    protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(*(_marked(bench, 2, 1, 1, family) for family in (4, 6)))


@case(
    "COM-14", "SHOULD", "RFC 2983 3", "The inner DSCP is left alone at the egress (pipe model).",
    sends="outer DSCP 46 around inner DSCP 0 and 10", expects="the frames as they were",
    protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        *(
            bench.passes(f"outer DSCP 46 over {dscp}", bench.frame(tos=dscp << 2), tos=46 << 2)
            for dscp in (0, 10)
        )
    )


@case(
    "COM-16", "MUST", "RFC 791 3.2", "A later outer fragment is never read as a tunnel header.",
    sends="a whole packet whose IPv4 fragment offset is not 0", expects="no frame",
    protocols=ALL, families=(4,),
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        bench.refused("the last fragment", fragment=0x0064, ident=4711),
        bench.refused("a fragment in the middle", fragment=0x2064, ident=4712),
    )


@case(
    "COM-17", "MUST", "RFC 7348 4, RFC 7637 3.2, RFC 8926 3.4",
    "Frames of a network that is not here go nowhere.",
    sends="packets with the keys beside the one in use, and one that shares its low bits",
    expects="no frame", protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    others = {key - 1, key + 1, key ^ 0x800000}
    if bench.setting.protocol == "nvgre":
        others = {one for one in others if 0x1000 <= one < 0xFFFFFF}
    bench.decap(*(bench.refused(f"key {other}", key=other) for other in sorted(others)))


@case(
    "COM-18", "MUST", "IEEE 802.3", "What is shorter than an Ethernet header is no frame.",
    sends="packets that carry 1, 12 and 13 bytes", expects="no frame", protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    start = bench.frame()
    bench.decap(*(bench.refused(f"{n} inner bytes", start[:n]) for n in (1, 12, 13)))


@case(
    "COM-19", "MUST", "RFC 791 3.2, RFC 8200 3",
    "No packet that is cut short is passed on, or ends the device.",
    sends="a packet cut at every byte; then with IP and UDP lengths that agree with the cut",
    expects="no frame of the first; a live device after both", protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = bench.frame()
    whole = bench.outer(frame)
    start = len(whole) - len(frame)
    bench.decap(*(Probe(f"cut to {n} bytes", (whole[:n],), None) for n in range(14, len(whole))))
    setting = bench.setting
    at = 14 + (20 if setting.family == 4 else 40)
    protocol = whole[23] if setting.family == 4 else whole[20]
    cuts = []
    for n in range(at, start + 20):
        l4 = bytearray(whole[at:n])
        if protocol == 17 and len(l4) >= 8:
            datagram = packet.udp(
                setting.tester, setting.device, (54321, setting.port), bytes(l4[8:])
            )
            l4 = bytearray(datagram)
        cut = packet.carried(setting, protocol, bytes(l4))
        cuts.append(Probe(f"whole, of {n} bytes", (cut,), None, alive_only=True))
    bench.decap(*cuts)


@case(
    "COM-22", "MUST", "RFC 7348 5, RFC 7637 3.2",
    "The payload is the frame, without an FCS and all of it, in both directions.",
    sends="frames of 60 to 1000 bytes, both ways", expects="them, byte by byte", protocols=ALL,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        *(bench.passes(f"{n + 14} bytes", bench.not_ip(size=n)) for n in (46, 47, 101, 986))
    )
    frames = [bench.not_ip(to_device=False, size=n) for n in (46, 47, 101, 986)]
    for frame, one in zip(frames, bench.encap(frames), strict=True):
        if one.payload != frame:
            raise Fault(f"a frame of {len(frame)} bytes left as {len(one.payload)}")
