"""Cases of GENEVE."""

from __future__ import annotations

from . import packet
from .bench import Bench, Probe
from .case import Fault, case
from .common import same
from .packet import option

_GENEVE = ("geneve",)
_UNKNOWN = 0xFF10  # an option class for experiments


def _options(bench: Bench, options: bytes, **how: int) -> bytes:
    return packet.geneve(bench.setting.key, options=options, **how)


def _sent_options(header: bytes) -> list[tuple[int, int]]:
    """Type and length in words of each option of a header that the device made."""
    found, at, end = [], 8, 8 + 4 * (header[0] & 0x3F)
    while at < end:
        if at + 4 > len(header):
            raise Fault("Opt Len is more than there is")
        found.append((header[at + 2], header[at + 3] & 0x1F))
        at += 4 + 4 * found[-1][1]
    if at != end:
        raise Fault(f"the options end at byte {at} of the header, Opt Len at {end}")
    return found


@case(
    "GENEVE-1", "MUST", "RFC 8926 3.4", "The version is 0; a packet of another is dropped.",
    sends="a frame of the tenant; packets of the versions 1 to 3", expects="0; no frame",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    (one,) = bench.encap([bench.from_tenant()])
    if one.header[0] >> 6:
        raise Fault(f"the version is {one.header[0] >> 6}")
    bench.decap(
        *(bench.refused(f"version {v}", header=_options(bench, b"", version=v)) for v in (1, 2, 3))
    )


@case(
    "GENEVE-2", "req", "RFC 8926 3.4", "Opt Len is that of the options, and the frame follows.",
    sends="a frame of the tenant", expects="options that add up, then the frame",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = bench.from_tenant()
    (one,) = bench.encap([frame])
    _sent_options(one.header)
    if one.payload != frame:
        raise Fault("what follows them is not the frame")


@case(
    "GENEVE-3", "MUST", "RFC 8926 3.4", "The reserved bits are sent as zero.",
    sends="a frame of the tenant", expects="zeros", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = bench.encap([bench.from_tenant()])[0].header
    if header[1] & 0x3F or header[7]:
        raise Fault(f"they are {header[1] & 0x3F:#04x} and {header[7]:#04x}")


@case(
    "GENEVE-4", "MUST", "RFC 8926 3.4", "The reserved bits are ignored on receipt.",
    sends="14 packets, each with one of them", expects="their frames", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        *(
            bench.passes(f"reserved bit {1 << n:#04x}", header=_options(bench, b"", flags=1 << n))
            for n in range(6)
        ),
        *(
            bench.passes(f"last byte {1 << n:#04x}", header=_options(bench, b"", last=1 << n))
            for n in range(8)
        ),
    )


@case(
    "GENEVE-5", "req", "RFC 8926 3.4", "The protocol type of Ethernet is 0x6558.",
    sends="a frame of the tenant", expects="0x6558", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    kind = int.from_bytes(bench.encap([bench.from_tenant()])[0].header[2:4], "big")
    if kind != 0x6558:
        raise Fault(f"it is {kind:#06x}")


@case(
    "GENEVE-6", "req", "RFC 8926 3.4", "The VNI is in bytes 4 to 6 of the header.",
    sends="a frame of the tenant, and a packet of the VNI", expects="the VNI, and the frame",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    vni = int.from_bytes(bench.encap([bench.from_tenant()])[0].header[4:7], "big")
    if vni != bench.setting.key:
        raise Fault(f"the VNI is {vni}, not {bench.setting.key}")
    bench.decap(bench.passes("a packet of the VNI"))


@case(
    "GENEVE-7", "SHOULD", "RFC 8926 3.3",
    "The destination port is 6081 unless another is configured.",
    sends="a frame of the tenant", expects="the port of the setting", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    same(bench.encap([bench.from_tenant()]), "port", bench.setting.port)


@case(
    "GENEVE-8", "SHOULD", "RFC 8926 3.3", "The source port tells flows apart.",
    sends="frames of 64 flows", expects="8 source ports at least", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    outers = bench.encap([bench.from_tenant(flow=i) for i in range(64)])
    if (found := len({one.source_port for one in outers})) < 8:
        raise Fault(f"64 flows have {found} source ports")


def _sums(bench: Bench) -> None:
    outers = bench.encap([bench.from_tenant(flow=n, size=32 + n) for n in range(8)])
    if any(one.sum == 0 for one in outers):
        raise Fault("the checksum is zero")
    if wrong := [one for one in outers if not one.sum_right]:
        raise Fault(f"{len(wrong)} of 8 are wrong, such as {wrong[0].sum:#06x}")


@case(
    "GENEVE-9", "SHOULD", "RFC 8926 3.3", "The UDP checksum is sent over IPv4, and right.",
    sends="frames of the tenant", expects="right checksums, none of them zero",
    protocols=_GENEVE, families=(4,),
)  # fmt: skip
def _(bench: Bench) -> None:
    _sums(bench)


@case(
    "GENEVE-10", "MUST", "RFC 8926 3.3", "The UDP checksum is sent over IPv6, and right.",
    sends="frames of the tenant", expects="right checksums, none of them zero",
    protocols=_GENEVE, families=(6,),
)  # fmt: skip
def _(bench: Bench) -> None:
    _sums(bench)


@case(
    "GENEVE-11", "MUST", "RFC 8926 3.3", "A packet with a wrong UDP checksum is dropped.",
    sends="a packet with a wrong checksum", expects="no frame", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.refused("a wrong UDP checksum", checksum="bad"))


@case(
    "GENEVE-12", "MUST", "RFC 8926 3.4", "The C bit is set just where an option is critical.",
    sends="a frame of the tenant", expects="C, if the type of an option has its first bit",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = bench.encap([bench.from_tenant()])[0].header
    critical = any(kind & 0x80 for kind, _ in _sent_options(header))
    if bool(header[1] & 0x40) != critical:
        raise Fault(f"it is {header[1] >> 6 & 1}, and {'an' if critical else 'no'} option is")


@case(
    "GENEVE-14", "MUST", "RFC 8926 3.5", "Options that are not known and not critical are skipped.",
    sends="packets with one, two, and 252 bytes of such options", expects="the frames",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    one = option(_UNKNOWN, 0x01, bytes(4))
    most = option(_UNKNOWN, 0x01, bytes(124)) + option(_UNKNOWN, 0x02, bytes(120))
    named = (("one option", one), ("two options", one + one), ("252 bytes of options", most))
    bench.decap(*(bench.passes(name, header=_options(bench, some)) for name, some in named))


@case(
    "GENEVE-17", "MUST", "RFC 8926 3.5",
    "A packet whose options' lengths do not add up to Opt Len is dropped.",
    sends="a packet of 8 bytes of options, which say that they are of 12", expects="no frame",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = _options(bench, option(_UNKNOWN, 0x01, bytes(4), words=2))
    bench.decap(bench.refused("an option past Opt Len", header=header))


@case(
    "GENEVE-18", "req", "RFC 8926 3.5",
    "An option that reaches past the packet's end ends nothing.",
    sends="options of 31 words in Opt Lens of 1 and 2, and an Opt Len past the end of the packet",
    expects="no frame, and a live device", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    setting = bench.setting
    ends = setting.tester, setting.device, (54321, setting.port)
    cut = packet.carried(
        setting, 17, packet.udp(*ends, packet.geneve(setting.key, words=63) + bench.frame())
    )
    bench.decap(
        *(
            bench.refused(
                f"31 words in {size}",
                header=_options(bench, option(_UNKNOWN, 1, bytes(4 * size - 4), words=31)),
            )
            for size in (1, 2)
        ),
        Probe("Opt Len past the end", (cut,), None),
    )


@case(
    "GENEVE-19", "req", "RFC 8926 3.5", "An option may have no data.",
    sends="a packet with an option of a header only", expects="the frame", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.passes("no data", header=_options(bench, option(_UNKNOWN, 0x01))))


@case(
    "GENEVE-20", "MUST", "RFC 8926 3.5", "The reserved bits of an option are ignored on receipt.",
    sends="options with each of the three bits", expects="the frames", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        *(
            bench.passes(
                f"reserved bits {bits}",
                header=_options(bench, option(_UNKNOWN, 1, bytes(4), flags=bits)),
            )
            for bits in (1, 2, 4)
        )
    )


@case(
    "GENEVE-22", "MUST", "RFC 8926 3.4", "The payload of a control packet (O) is not forwarded.",
    sends="a packet with O", expects="no frame", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.refused("O is set", header=_options(bench, b"", flags=0x80)))


@case(
    "GENEVE-26", "SHOULD", "RFC 8926 4.4.2", "The outer TTL does not depend on the inner one.",
    sends="frames of the tenant with the TTLs 2 and 200", expects="packets of one TTL",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    found = {o.ttl for o in bench.encap([bench.from_tenant(ttl=2), bench.from_tenant(ttl=200)])}
    if len(found) > 1:
        raise Fault(f"the TTLs are {sorted(found)}")


@case(
    "GENEVE-29", "req", "RFC 8926 3.4", "What is not Ethernet is not read as a frame.",
    sends="packets of the protocol types 0x0000 and 0x88B6", expects="no frame",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        *(
            bench.refused(f"type {kind:#06x}", header=_options(bench, b"", protocol=kind))
            for kind in (0x0000, 0x88B6)
        )
    )


@case(
    "GENEVE-31", "req", "RFC 8926 3.4", "A header that is cut short is none.",
    sends="datagrams that end within the header, and within its options", expects="no frame",
    protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    setting = bench.setting
    header = _options(bench, option(_UNKNOWN, 0x01, bytes(20)))
    ends = setting.tester, setting.device, (54321, setting.port)
    bench.decap(
        *(
            Probe(
                f"{n} bytes",
                (packet.carried(setting, 17, packet.udp(*ends, header[:n])),),
                None,
            )
            for n in (0, 4, 7, 8, 20)
        )
    )


@case(
    "GENEVE-13", "MUST", "RFC 8926 3.5",
    "A packet with a critical option that is not known is dropped.",
    sends="a packet with such an option and the C bit", expects="no frame", protocols=_GENEVE,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = _options(bench, option(_UNKNOWN, 0x81, bytes(4)), flags=0x40)
    bench.decap(bench.refused("an unknown critical option", header=header))
