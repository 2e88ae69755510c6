"""Cases of NVGRE and of GRE that carries Ethernet."""

from __future__ import annotations

from . import packet
from .bench import Bench, Probe
from .case import Fault, case
from .common import same

_NVGRE = ("nvgre",)
_GRE = ("gre",)


def _word(bench: Bench) -> int:
    return int.from_bytes(bench.encap([bench.from_tenant()])[0].header[:2], "big")


@case(
    "NVGRE-1", "MUST", "RFC 7637 3.2", "The key is present.",
    sends="a frame of the tenant", expects="the K flag", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    if not (word := _word(bench)) & 0x2000:
        raise Fault(f"the flags are {word:#06x}")


@case(
    "NVGRE-2", "MUST", "RFC 7637 3.2", "There is no checksum.",
    sends="a frame of the tenant", expects="no C flag", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    if (word := _word(bench)) & 0x8000:
        raise Fault(f"the flags are {word:#06x}")


@case(
    "NVGRE-3", "MUST", "RFC 7637 3.2", "There is no sequence number.",
    sends="a frame of the tenant", expects="no S flag", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    if (word := _word(bench)) & 0x1000:
        raise Fault(f"the flags are {word:#06x}")


@case(
    "NVGRE-4", "req", "RFC 7637 3.2", "The protocol type is 0x6558.",
    sends="a frame of the tenant", expects="0x6558", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    kind = int.from_bytes(bench.encap([bench.from_tenant()])[0].header[2:4], "big")
    if kind != 0x6558:
        raise Fault(f"it is {kind:#06x}")


@case(
    "NVGRE-5", "req", "RFC 2784 2", "Version and reserved bits are zero.",
    sends="a frame of the tenant", expects="flags of 0x2000", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    if (word := _word(bench)) & 0x0FFF:
        raise Fault(f"the flags are {word:#06x}")


@case(
    "NVGRE-6", "req", "RFC 7637 3.2", "The VSID is in the upper 24 bits of the key.",
    sends="a frame of the tenant, and a packet of the VSID", expects="the VSID, and the frame",
    protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    vsid = int.from_bytes(bench.encap([bench.from_tenant()])[0].header[4:7], "big")
    if vsid != bench.setting.key:
        raise Fault(f"the VSID is {vsid}, not {bench.setting.key}")
    bench.decap(bench.passes("a packet of the VSID"))


@case(
    "NVGRE-8", "SHOULD", "RFC 7637 3.2", "The FlowID tells flows apart.",
    sends="frames of 64 flows", expects="8 FlowIDs at least", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    outers = bench.encap([bench.from_tenant(flow=i) for i in range(64)])
    if (found := len({one.header[7] for one in outers})) < 8:
        raise Fault(f"64 flows have {found} FlowID{'s' * (found > 1)}")


@case(
    "NVGRE-12", "MUST", "RFC 7637 3.3", "No tagged frame is sent.",
    sends="a tagged frame of the tenant", expects="no packet, or one without the tag",
    protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    for one in bench.encapped(packet.tagged(bench.from_tenant(), 0x6064)):
        if one.payload[12:14] == b"\x81\x00":
            raise Fault("the tag is in the packet")


@case(
    "NVGRE-13", "MUST", "RFC 7637 3.3", "A packet with a tagged frame is dropped.",
    sends="a packet that carries a tagged frame", expects="no frame", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.refused("a tagged frame", packet.tagged(bench.frame(), 0x6064)))


@case(
    "NVGRE-17", "req", "RFC 7637 3.2", "NVGRE is carried by GRE, IP protocol 47.",
    sends="a frame of the tenant", expects="IP protocol or next header 47", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    same(bench.encap([bench.from_tenant()]), "protocol", 47)


@case(
    "NVGRE-21", "req", "RFC 7637 3.2", "A packet without a key is not NVGRE.",
    sends="a GRE packet without a key", expects="no frame", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(bench.refused("no key", header=packet.gre(b"")))


@case(
    "NVGRE-22", "req", "RFC 7637 3.2", "A packet with a checksum is not NVGRE.",
    sends="a GRE packet with the key and a right checksum", expects="no frame", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    frame = bench.frame()
    whole = packet.gre(frame, key=bench.setting.key << 8, checksum="good")
    bench.decap(Probe("a checksum", (packet.carried(bench.setting, 47, whole),), None))


@case(
    "NVGRE-23", "req", "RFC 7637 3.2", "A packet with a sequence number is not NVGRE.",
    sends="a GRE packet with the key and a sequence number", expects="no frame", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = packet.gre(b"", key=bench.setting.key << 8, sequence=1)
    bench.decap(bench.refused("a sequence number", header=header))


@case(
    "NVGRE-24", "req", "RFC 2784 2.3.1", "A packet of another GRE version is dropped.",
    sends="packets of the versions 1 and 7", expects="no frame", protocols=("nvgre", "gre"),
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(*(_with_flags(bench, f"version {v}", v, False) for v in (1, 7)))


@case(
    "NVGRE-25", "req", "RFC 2784 2.3", "A packet with the routing bit is dropped.",
    sends="a packet with bit 0x4000", expects="no frame", protocols=("nvgre", "gre"),
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(_with_flags(bench, "the routing bit", 0x4000, False))


@case(
    "NVGRE-26", "MUST", "RFC 2784 2.3", "The reserved bits 6 to 12 are ignored on receipt.",
    sends="seven packets, each with one of them", expects="their frames",
    protocols=("nvgre", "gre"),
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(*(_with_flags(bench, f"bit {1 << n:#06x}", 1 << n, True) for n in range(3, 10)))


def _with_flags(bench: Bench, name: str, flags: int, accepted: bool) -> Probe:
    """A packet with more flags than the usual ones."""
    key = bench.setting.key << (8 if bench.setting.protocol == "nvgre" else 0)
    header = packet.gre(b"", key=key, flags=flags)
    return (bench.passes if accepted else bench.refused)(name, header=header)


@case(
    "NVGRE-27", "req", "RFC 7637 3.2", "The FlowID is no part of the network's number.",
    sends="packets with the FlowIDs 1, 0x5A and 0xFF", expects="their frames", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(bench.passes(f"FlowID {n:#04x}", header=packet.nvgre(key, n)) for n in (1, 0x5A, 0xFF))
    )


@case(
    "NVGRE-28", "req", "RFC 7637 3.2", "What is not Ethernet is not read as a frame.",
    sends="packets of the protocol types 0x0800 and 0x88B6", expects="no frame", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(
            bench.refused(f"type {kind:#06x}", header=packet.nvgre(key, protocol=kind))
            for kind in (0x0800, 0x88B6)
        )
    )


@case(
    "NVGRE-29", "req", "RFC 7637 3.2", "A header that is cut short is none.",
    sends="packets of 0 to 7 bytes of GRE", expects="no frame", protocols=_NVGRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    header = packet.nvgre(bench.setting.key)
    bench.decap(
        *(
            Probe(f"{n} bytes", (packet.carried(bench.setting, 47, header[:n]),), None)
            for n in range(8)
        )
    )


# -- GRE -----------------------------------------------------------------------


def _whole(bench: Bench, name: str, frame: bytes, accepted: bool, **how: object) -> Probe:
    key = how.pop("key", bench.setting.key)
    whole = packet.gre(frame, key=key, **how)  # type: ignore[arg-type]
    sent = packet.carried(bench.setting, 47, whole)
    return Probe(name, (sent,), frame if accepted else None)


@case(
    "GRE-1", "MUST", "RFC 2890 2",
    "Checksum, key and sequence number are there if their flags are.",
    sends="packets with key, with checksum, with sequence number, with all",
    expects="their frames", protocols=_GRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        _whole(bench, "a key", bench.frame(), True),
        _whole(bench, "a checksum", bench.frame(), True, checksum="good"),
        _whole(bench, "a sequence number", bench.frame(), True, sequence=1),
        _whole(bench, "all three", bench.frame(), True, checksum="good", sequence=2),
    )


@case(
    "GRE-2", "MUST", "RFC 2784 2.1", "A packet with a wrong GRE checksum is dropped.",
    sends="such a packet", expects="no frame", protocols=_GRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(_whole(bench, "a wrong checksum", bench.frame(), False, checksum="bad"))


@case(
    "GRE-3", "MUST", "RFC 2784 2.4", "The field after the checksum is ignored on receipt.",
    sends="a packet with a right checksum and 0xFFFF after it", expects="the frame",
    protocols=_GRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(_whole(bench, "0xffff", bench.frame(), True, checksum="good", reserved=0xFFFF))


@case(
    "GRE-4", "MUST", "RFC 2890 2.1", "A key is compared whole, and none is not key 0.",
    sends="packets with keys of which one byte differs, and without a key", expects="no frame",
    protocols=_GRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    key = bench.setting.key
    bench.decap(
        *(
            _whole(bench, f"key {other:#x}", bench.frame(), False, key=other)
            for other in (key ^ 1, key ^ 1 << 8, key ^ 1 << 16, key ^ 1 << 24)
        ),
        _whole(bench, "no key", bench.frame(), False, key=None),
    )


@case(
    "GRE-6", "MUST", "RFC 2784 2.1, RFC 1071",
    "A payload of an odd length is summed with a zero after it.",
    sends="packets of odd lengths with right checksums", expects="their frames", protocols=_GRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    bench.decap(
        *(
            _whole(bench, f"{n} bytes", bench.not_ip(size=n), True, checksum="good")
            for n in (47, 101)
        )
    )


@case(
    "GRE-7", "MUST", "IANA, EtherTypes", "The protocol type of Ethernet is 0x6558.",
    sends="a frame of the tenant", expects="0x6558", protocols=_GRE,
)  # fmt: skip
def _(bench: Bench) -> None:
    kind = int.from_bytes(bench.encap([bench.from_tenant()])[0].header[2:4], "big")
    if kind != 0x6558:
        raise Fault(f"it is {kind:#06x}")
