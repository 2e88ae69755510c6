"""Cases of VXLAN, its group policy bits, and VXLAN-GPE."""

from __future__ import annotations

from . import packet
from .bench import Bench, Probe
from .case import OVER_UDP, Fault, Inapplicable, case
from .common import same

_VXLAN = ("vxlan",)
_GPE = ("vxlan-gpe",)
_DRAFT = "draft-ietf-nvo3-vxlan-gpe-13"


def _header(bench: Bench) -> bytes:
    return bench.encap([bench.from_tenant()])[0].header


@case(
    "VXLAN-1", "MUST", "RFC 7348 5", "The I flag of a packet is set.",
    sends="a frame of the tenant", expects="bit 0x08 in the flags", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    if not (flags := _header(bench)[0]) & 0x08:
        raise Fault(f"the flags are {flags:#04x}")


@case(
    "VXLAN-2", "MUST", "RFC 7348 5", "The reserved fields of 24 and of 8 bits are sent as zero.",
    sends="a frame of the tenant", expects="zeros", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = _header(bench)
    if any(header[1:4]) or header[7]:
        raise Fault(f"they are {header[1:4].hex()} and {header[7]:02x}")


@case(
    "VXLAN-3", "MUST", "RFC 7348 5", "The seven other flag bits are sent as zero.",
    sends="a frame of the tenant", expects="zeros", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    if (flags := _header(bench)[0]) & 0xF7:
        raise Fault(f"the flags are {flags:#04x}")


@case(
    "VXLAN-4", "MUST", "RFC 7348 5", "The VNI is in bytes 4 to 6 of the header.",
    sends="a frame of the tenant, and a packet of the VNI",
    expects="the VNI there, and the frame", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    _vni(bench)


def _vni(bench: Bench) -> None:
    vni = int.from_bytes(_header(bench)[4:7], "big")
    if vni != bench.setting.key:
        raise Fault(f"the VNI is {vni}, not {bench.setting.key}")
    bench.decap(bench.passes("a packet of the VNI"))


@case(
    "VXLAN-6", "MUST", "RFC 7348 5", "Reserved flag bits are ignored on receipt.",
    sends="seven packets, each with one reserved flag bit",
    expects="their frames",
    protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(
            bench.passes(f"flag {bit:#04x}", header=packet.vxlan(key, flags=0x08 | bit))
            for bit in (0x80, 0x40, 0x20, 0x10, 0x04, 0x02, 0x01)
        )
    )


@case(
    "VXLAN-7", "MUST", "RFC 7348 5", "The reserved 24 bits are ignored on receipt.",
    sends="24 packets, each with one of them", expects="their frames",
    protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(
            bench.passes(f"reserved {1 << n:#08x}", header=packet.vxlan(key, reserved=1 << n))
            for n in range(24)
        )
    )


@case(
    "VXLAN-8", "MUST", "RFC 7348 5", "The reserved last byte is ignored on receipt.",
    sends="eight packets, each with one bit of it", expects="their frames",
    protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(
            bench.passes(f"last byte {1 << n:#04x}", header=packet.vxlan(key, last=1 << n))
            for n in range(8)
        )
    )


@case(
    "VXLAN-9", "MUST", "RFC 7348 5", "Without the I flag there is no VNI: the packet is dropped.",
    sends="packets with flags 0x00 and 0xF7", expects="no frame", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(
            bench.refused(f"flags {flags:#04x}", header=packet.vxlan(key, flags=flags))
            for flags in (0x00, 0xF7)
        )
    )


@case(
    "VXLAN-10", "SHOULD", "RFC 7348 5",
    "The destination port is 4789 unless another is configured.",
    sends="a frame of the tenant", expects="the port of the setting", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    same(bench.encap([bench.from_tenant()]), "port", bench.setting.port)


def _spread(bench: Bench) -> None:
    outers = bench.encap([bench.from_tenant(flow=i) for i in range(64)])
    if (found := len({one.source_port for one in outers})) < 8:
        raise Fault(f"64 flows have {found} source ports")


@case(
    "VXLAN-12", "SHOULD", "RFC 7348 5", "The source port is a hash of the inner headers.",
    sends="frames of 64 flows", expects="8 source ports at least", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    _spread(bench)


@case(
    "VXLAN-13", "SHOULD", "RFC 7348 5", "Source ports are of the dynamic range, 49152 to 65535.",
    sends="frames of 64 flows", expects="no other source port", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    outers = bench.encap([bench.from_tenant(flow=i) for i in range(64)])
    others = [one.source_port for one in outers if one.source_port < 49152]
    if others:
        raise Fault(f"{len(others)} of 64 are not, such as {others[0]}")


@case(
    "VXLAN-14", "SHOULD", "RFC 7348 5", "The UDP checksum is sent as zero.",
    sends="a frame of the tenant", expects="a checksum of 0", protocols=_VXLAN, families=(4,),
)  # fmt: skip
def _(bench: Bench) -> None:
    (one,) = bench.encap([bench.from_tenant()])
    if one.sum:
        raise Fault(f"the checksum is {one.sum:#06x}")


@case(
    "VXLAN-15", "MUST", "RFC 7348 5", "A packet with a zero UDP checksum over IPv4 is accepted.",
    sends="such a packet", expects="the frame", protocols=_VXLAN, families=(4,),
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.passes("a zero checksum", checksum="zero"))


@case(
    "VXLAN-16", "MUST", "RFC 7348 5", "A UDP checksum that is not zero is right.",
    sends="frames of even and odd lengths",
    expects="checksums that are zero, or right over pseudo header and datagram", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    _sums(bench)


def _sums(bench: Bench) -> None:
    frames = [bench.from_tenant(flow=n, size=32 + n) for n in range(8)]
    wrong = [one for one in bench.encap(frames) if not one.sum_right]
    if wrong:
        raise Fault(f"{len(wrong)} of 8 are wrong, such as {wrong[0].sum:#06x}")


@case(
    "VXLAN-18", "MUST", "RFC 7348 5",
    "A device that verifies the UDP checksum drops packets with a wrong one.",
    sends="a packet with a wrong checksum", expects="no frame; or it is not verified at all",
    protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    try:
        bench.decap(bench.refused("a wrong UDP checksum", checksum="bad"))
    except Fault:
        if bench.setting.family == 4:
            raise Inapplicable(
                "the device does not verify UDP checksums, which is its choice"
            ) from None
        raise


@case(
    "VXLAN-19", "MUST", "RFC 7348 5", "A packet with a right UDP checksum is accepted.",
    sends="packets of even and odd lengths with right checksums", expects="the frames",
    protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        *(bench.passes(f"size {n}", bench.frame(size=n), checksum="good") for n in (32, 33, 500))
    )


@case(
    "VXLAN-20", "SHOULD", "RFC 7348 6.1", "The VLAN tag of a frame is taken off before it is sent.",
    sends="a tagged frame of the tenant", expects="no tag in the packet's payload",
    protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = packet.tagged(bench.from_tenant(), 0x6064)
    for one in bench.encapped(frame):
        if one.payload[12:14] == b"\x81\x00":
            raise Fault("the tag is in the packet")


@case(
    "VXLAN-21", "SHOULD", "RFC 7348 6.1", "A packet with a tagged frame is dropped.",
    sends="a packet that carries a tagged frame", expects="no frame", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = packet.tagged(bench.frame(), 0x6064)
    bench.decap(bench.refused("a tagged frame", frame))


@case(
    "VXLAN-23", "MUST", "RFC 7348 4.3", "A device does not fragment its own packets.",
    sends="the largest frame that fits 1500 bytes", expects="one packet, no fragment",
    protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    room = 1500 - (50 if bench.setting.family == 4 else 70) + 14
    frames = [bench.not_ip(to_device=False, size=room - 14), bench.from_tenant()]
    same(bench.encap(frames), "fragment", False)


@case(
    "VXLAN-26", "req", "RFC 7348 5", "VXLAN is carried by UDP.",
    sends="a frame of the tenant", expects="IP protocol or next header 17", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    same(bench.encap([bench.from_tenant()]), "protocol", 17)


@case(
    "VXLAN-27", "req", "RFC 7348 5, figure 1", "An outer 802.1Q tag may be there.",
    sends="a packet with a priority tag (VLAN 0)", expects="the frame", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.passes("a priority tag", tag=0x6000))


@case(
    "VXLAN-32", "req", "RFC 7348 5", "A packet whose VXLAN header is cut short is dropped.",
    sends="datagrams of 0 to 7 bytes", expects="no frame, and a live device", protocols=OVER_UDP,
)  # fmt: skip
def _(bench: Bench) -> None:
    setting, whole = bench.setting, packet.vxlan(bench.setting.key)
    ends = setting.tester, setting.device, (54321, setting.port)
    bench.decap(
        *(
            Probe(f"{n} bytes", (packet.carried(setting, 17, packet.udp(*ends, whole[:n])),), None)
            for n in range(8)
        )
    )


@case(
    "VXLAN-33", "req", "RFC 768, RFC 7348 5", "The UDP length decides what is carried.",
    sends="packets whose UDP length leaves no room for a frame, or passes the end of the packet",
    expects="no frame", protocols=OVER_UDP,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = bench.frame()
    bench.decap(
        bench.refused("a UDP length of 8 + 8 + 13", frame, udp_change=13 - len(frame)),
        bench.refused("a UDP length of 7", udp_change=-len(frame) - 9),
        bench.refused("a UDP length past the end", udp_change=64),
    )


@case(
    "GBP-1", "MUST", "draft-smith-vxlan-group-policy-05 2.1",
    "Without the G flag no group policy is sent.",
    sends="a frame of the tenant, which has no group", expects="no G, D, A and policy",
    protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = _header(bench)
    if not header[0] & 0x80 and any(header[1:4]):
        raise Fault(f"G is clear, and bytes 1 to 3 are {header[1:4].hex()}")


@case(
    "GBP-7", "MUST", "draft-smith-vxlan-group-policy-05 3",
    "A device without group policy ignores G, D, A and the policy.",
    sends="a packet with G, D, A and a policy", expects="the frame", protocols=_VXLAN,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = packet.vxlan(bench.setting.key, flags=0x88, reserved=0x481234)
    bench.decap(bench.passes("a group policy", header=header))


# -- VXLAN-GPE ---------------------------------------------------------------


@case(
    "GPE-1", "MUST", f"{_DRAFT} 4", "The destination port is 4790.",
    sends="a frame of the tenant", expects="the port of the setting", protocols=_GPE,
)  # fmt: skip
def _(bench: Bench) -> None:
    same(bench.encap([bench.from_tenant()]), "port", bench.setting.port)


@case(
    "GPE-2", "MUST", f"{_DRAFT} 3.2",
    "P says that there is a next protocol; without P it is 0 and Ethernet follows.",
    sends="a frame of the tenant; a packet without P",
    expects="P and 3, or neither; the frame", protocols=_GPE,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = _header(bench)
    if (header[0] & 0x04, header[3]) not in ((4, 3), (0, 0)):
        raise Fault(f"the flags are {header[0]:#04x} and the next protocol {header[3]}")
    key = bench.setting.key
    bench.decap(bench.passes("without P", header=packet.gpe(key, flags=0x08, following=0)))


@case(
    "GPE-3", "MUST", f"{_DRAFT} 3.1", "A packet of another version is dropped.",
    sends="packets of the versions 1 to 3", expects="no frame", protocols=_GPE,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(
            bench.refused(f"version {v}", header=packet.gpe(key, flags=0x0C | v << 4))
            for v in (1, 2, 3)
        )
    )


@case(
    "GPE-4", "MUST", f"{_DRAFT} 3.1", "The I flag is set, and a packet without it is dropped.",
    sends="a frame of the tenant; a packet without I", expects="I; no frame", protocols=_GPE,
)  # fmt: skip
def _(bench: Bench) -> None:
    if not (flags := _header(bench)[0]) & 0x08:
        raise Fault(f"the flags are {flags:#04x}")
    bench.decap(bench.refused("without I", header=packet.gpe(bench.setting.key, flags=0x04)))


@case(
    "GPE-5", "MUST", f"{_DRAFT} 3.4", "A packet with the O flag is never forwarded.",
    sends="a packet with O", expects="no frame", protocols=_GPE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.refused("O is set", header=packet.gpe(bench.setting.key, flags=0x0D)))


@case(
    "GPE-6", "MUST", f"{_DRAFT} 4", "DF is set over IPv4, and there are no fragments.",
    sends="a frame of the tenant", expects="DF", protocols=_GPE, families=(4,),
)  # fmt: skip
def _(bench: Bench) -> None:
    outers = bench.encap([bench.from_tenant()])
    same(outers, "df", True)
    same(outers, "fragment", False)


@case(
    "GPE-7", "MUST", f"{_DRAFT} 5.3.1", "Over IPv6 the UDP checksum is sent, and right.",
    sends="frames of the tenant", expects="right checksums, none of them zero",
    protocols=_GPE, families=(6,),
)  # fmt: skip
def _(bench: Bench) -> None:
    _sums(bench)
    if not bench.encap([bench.from_tenant()])[0].sum:
        raise Fault("the checksum is zero")


@case(
    "GPE-9", "MUST", f"{_DRAFT} 3.2", "A packet of a next protocol that is not known is dropped.",
    sends="packets of the next protocols 0 with P, 5 and 0x7F", expects="no frame",
    protocols=_GPE,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(
            bench.refused(f"next protocol {n:#04x}", header=packet.gpe(key, following=n))
            for n in (0, 5, 0x7F)
        )
    )


@case(
    "GPE-10", "SHOULD", f"{_DRAFT} 4.1", "A packet with a tagged frame is dropped.",
    sends="a packet that carries a tagged frame", expects="no frame", protocols=_GPE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.refused("a tagged frame", packet.tagged(bench.frame(), 0x6064)))


@case(
    "GPE-11", "MUST", f"{_DRAFT} 3.2",
    "A shim header is skipped by its length, or the packet dropped.",
    sends="shims of 0, 1 and 255 words before a frame", expects="the frame or none; a live device",
    protocols=_GPE,
)  # fmt: skip
def _(bench: Bench) -> None:
    setting = bench.setting
    for words in (0, 1, 255):
        frame = bench.frame()
        shim = bytes([0x80, words, 0, 3]) + bytes(4 * min(words, 1))
        header = packet.gpe(setting.key, following=0x80) + shim
        sent = bench.outer(frame, header=header)
        bench.either(Probe(f"a shim of {words} words", (sent,), frame if words < 2 else None))
