"""Hypothesis strategies: frames, tunnels, packets and what traffic does to them."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import model
import shims
import wire
from overlay import (
    GRE,
    NVGRE,
    PROTOCOLS,
    STT,
    VXLAN,
    VXLANGPE,
    Geneve,
    GeneveOption,
    Profile,
    Tunnel,
)

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 2**64 - 1)
macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))

#: Lengths as traffic has them: mostly small, sometimes a full or a jumbo frame.
lengths = st.one_of(
    st.integers(0, 80), st.integers(0, 80), st.integers(1400, 1520), st.integers(0, 9001)
)


@st.composite
def addresses(draw: st.DrawFn, version: int) -> str:
    usual = st.sampled_from([wire.LOCAL[version], wire.REMOTE[version]])
    return draw(usual | st.ip_addresses(v=version).map(str))


# -- inner frames -------------------------------------------------------------------


@st.composite
def l4_bodies(draw: st.DrawFn, src: str, dst: str, protocol: int) -> bytes:
    data = wire.pattern(draw(lengths), draw(u8))
    check = draw(st.none() | st.none() | u16)
    if protocol == wire.TCP:
        return wire.tcp(
            data, draw(u16), draw(u16), src, dst, seq=draw(u32), ack=draw(u32), flags=draw(u8),
            window=draw(u16), options=bytes(4 * draw(st.integers(0, 10))), check=check,
            data_offset=draw(st.none() | st.none() | st.none() | st.integers(0, 15)),
        )  # fmt: skip
    if protocol == wire.UDP and len(data) < 65528:
        length = draw(st.none() | st.none() | st.none() | u16)
        return wire.udp(data, draw(u16), draw(u16), src, dst, check=check, length=length)
    return data


@st.composite
def ip_packets(draw: st.DrawFn) -> tuple[int, bytes]:
    """An EtherType and an inner IP packet, usually a sound one."""
    version = draw(st.sampled_from([4, 6]))
    src, dst = draw(addresses(version)), draw(addresses(version))
    protocol = draw(st.sampled_from([wire.TCP, wire.TCP, wire.UDP, wire.UDP, wire.SCTP, 1, 58]))
    body = draw(l4_bodies(src, dst, protocol))
    fields: dict[str, Any] = {"tos": draw(u8), "ttl": draw(u8)}
    fields["total"] = draw(st.none() | st.none() | st.none() | u16)
    odd = draw(st.sampled_from(["", "", "", "fragment", "headers", "version"]))
    if version == 4:
        fields["ident"] = draw(u16)
        fields["flags"] = draw(u16) if odd == "fragment" else draw(st.sampled_from([0, 0x4000]))
        if odd == "headers":
            fields["options"] = bytes(4 * draw(st.integers(1, 10)))
            fields["ihl"] = draw(st.none() | st.integers(0, 15))
        if odd == "version":
            fields["version"] = draw(st.integers(0, 15))
        return 0x0800, wire.ipv4(body, protocol, src, dst, **fields)
    fields["flow_label"] = draw(st.integers(0, 0xFFFFF))
    if odd == "fragment":
        fields["extensions"] = [(44, draw(st.binary(min_size=7, max_size=7)))]
    if odd == "headers":
        fields["extensions"] = draw(extension_chains)
    if odd == "version":
        fields["version"] = draw(st.integers(0, 15))
    return 0x86DD, wire.ipv6(body, protocol, src, dst, **fields)


def _extension(kind: int, words: int) -> tuple[int, bytes]:
    return kind, bytes([words]) + bytes(6 + 8 * words)


extension_chains: SearchStrategy[list[tuple[int, bytes]]] = st.lists(
    st.builds(_extension, st.sampled_from([0, 43, 60, 60, 51]), st.integers(0, 3)),
    min_size=1,
    max_size=9,
)

tags: SearchStrategy[list[tuple[int, int]]] = st.lists(
    st.tuples(st.sampled_from([0x8100, 0x8100, 0x88A8]), u16), max_size=3
)


@st.composite
def frames(draw: st.DrawFn, *, least: int = 0, tagged: bool = True) -> bytes:
    """Any inner frame: ARP, IP of all sorts, tagged 0..3 times, cut, or garbage."""
    kind = draw(st.sampled_from(["ip", "ip", "ip", "ip", "other", "garbage"]))
    if kind == "garbage":
        return draw(st.binary(min_size=least, max_size=100))
    if kind == "ip":
        ethertype, payload = draw(ip_packets())
    else:
        ethertype = draw(st.sampled_from([0x0806, 0x88CC, 0x0026, 0x9100, 0x0800, 0x86DD]))
        payload = wire.pattern(draw(lengths), draw(u8))
    frame = wire.ethernet(payload, ethertype, dst=draw(macs), src=draw(macs))
    if tagged:
        frame = wire.tag(frame, *draw(st.just([]) | tags))
    if draw(st.integers(0, 7)) == 0:
        frame = frame[: draw(st.integers(least, max(least, min(len(frame), 100))))]
    return frame[: max(least, 9001)]


# -- tunnels -------------------------------------------------------------------------


@st.composite
def _ranges(draw: st.DrawFn) -> tuple[int, int]:
    low, high = sorted((draw(u16), draw(u16)))
    return low, high


@st.composite
def _fields(draw: st.DrawFn, version: int) -> dict[str, Any]:
    """The fields that every tunnel has; each one half the time its default."""
    vid = draw(st.none() | st.integers(0, 4095))
    some: dict[str, SearchStrategy[Any]] = {
        "local_mac": macs,
        "remote_mac": macs,
        "ttl": u8,
        "dscp": st.integers(0, 63) | st.just("inherit"),
        "ecn": st.sampled_from(["rfc6040", "compat", "zero"]),
        "df": st.booleans(),
        "ip_id": u16,
        "flow_label": st.integers(0, 0xFFFFF),
        "source_port": u16 | _ranges(),
        "inner_vlan": st.sampled_from(["keep", "strip", "reject"]),
        "seed": u64,
    }
    if vid is not None:
        some |= {"outer_pcp": st.integers(0, 7), "outer_dei": st.booleans()}
    chosen = draw(st.fixed_dictionaries({}, optional=some))
    return {
        "local": draw(addresses(version)),
        "remote": draw(addresses(version)),
        "outer_vlan": vid,
        **chosen,
    }


@st.composite
def tunnels(draw: st.DrawFn, cls: type[Tunnel] | None = None) -> Tunnel:
    """A tunnel of any protocol, any field set."""
    cls = cls or draw(st.sampled_from(list(PROTOCOLS.values())))
    fields = draw(_fields(draw(st.sampled_from([4, 6]))))
    if cls is VXLAN:
        fields["vni"] = draw(st.integers(0, 0xFFFFFF))
        fields["port"] = draw(st.just(4789) | u16)
        if draw(st.booleans()):
            fields["checksum"] = draw(st.booleans())
        if draw(st.booleans()):
            fields |= {
                "gbp": draw(u16),
                "gbp_dont_learn": draw(st.booleans()),
                "gbp_applied": draw(st.booleans()),
            }
    elif cls is NVGRE:
        fields["vsid"] = draw(st.integers(0, 0xFFFFFF))
        fields["allow_reserved_vsid"] = True
        fields["flow_id"] = draw(st.none() | u8)
    elif cls is not STT:
        fields |= draw(_newer_fields(cls))
    else:
        fields["context_id"] = draw(u64)
        fields["inner_checksum"] = draw(st.sampled_from(["unknown", "verified", "partial"]))
        if fields["inner_checksum"] == "partial":
            fields["mss"] = draw(st.just(0) | st.integers(1, 1500) | u16)
        fields["frame_id"] = draw(st.none() | u32)
    return cls(**fields)


_payloads = st.sampled_from(["ethernet", "ethernet", "ip"])
geneve_options: SearchStrategy[GeneveOption] = st.builds(
    GeneveOption,
    st.sampled_from([0x0102, 0x0108, 0xFFFF]) | u16,
    st.sampled_from([1, 0x80]) | u8,
    st.integers(0, 5).map(lambda words: wire.pattern(4 * words, words)),
)
_options = st.lists(geneve_options, max_size=10)


@st.composite
def _newer_fields(draw: st.DrawFn, cls: type[Tunnel]) -> dict[str, Any]:
    """The fields that are GENEVE's, VXLAN-GPE's, GRE's and ERSPAN's own."""
    if cls in (Geneve, VXLANGPE):
        fields: dict[str, Any] = {"vni": draw(st.integers(0, 0xFFFFFF)), "payload": draw(_payloads)}
        fields["port"] = draw(st.just(6081) | u16)
        fields["checksum"] = draw(st.booleans())
        if cls is Geneve:
            fields |= {"options": draw(st.just([]) | _options), "oam": draw(st.integers(0, 7)) == 0}
        return fields
    if cls is GRE:
        return {
            "key": draw(st.none() | u32),
            "checksum": draw(st.booleans()),
            "sequence": draw(st.none() | st.just(0) | u32),
            "payload": draw(_payloads),
        }
    kind = draw(st.integers(1, 3))
    own: dict[str, SearchStrategy[Any]] = {}
    if kind > 1:
        own = {
            "session_id": st.integers(0, 1023), "vlan": st.integers(0, 4095),
            "cos": st.integers(0, 7), "encapsulation": st.integers(0, 3),
            "truncated": st.booleans(), "sequence": u32,
        }  # fmt: skip
    if kind == 2:
        own["index"] = st.integers(0, 0xFFFFF)
    if kind == 3:
        own |= {
            "timestamp": u32, "security_group": u16, "hardware": st.integers(0, 63),
            "direction": st.sampled_from(["ingress", "egress"]),
            "granularity": st.integers(0, 3),
        }  # fmt: skip
    return {"type": kind, **draw(st.fixed_dictionaries(own))}


# -- profiles -------------------------------------------------------------------------


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    pairs = ((wire.REMOTE[6], wire.LOCAL[6]), (wire.LOCAL[6], wire.REMOTE[6]))
    options = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "gbp": st.booleans(),
                "inner_vlan": st.sampled_from(["keep", "strip", "reject"]),
                "ecn": st.sampled_from(["rfc6040", "ignore"]),
                "dscp": st.sampled_from(["pipe", "uniform"]),
                "verify_checksums": st.booleans(),
                "zero_checksum6": st.booleans() | st.just(pairs),
                "reserved_vsid": st.sampled_from(["accept", "drop"]),
                "partial": st.booleans(),
                "payload": st.sampled_from(["ethernet", "any"]),
                "protocols": st.sets(st.sampled_from(list(PROTOCOLS)), min_size=1).map(tuple),
                "options": st.sampled_from([(), ((0x0102, 0x80), (0xFFFF, 0x80))]),
                "vxlan_port": st.sampled_from([4789, 4790, 6081]),
            },
        )
    )
    return Profile.of(draw(st.sampled_from(["rfc", "strict", "lenient"])), **options)


# -- packets ----------------------------------------------------------------------------


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """A packet as an independent peer sends it, outer headers of all sorts included."""
    frame = draw(frames(least=14))[:2000]
    family = draw(st.sampled_from([4, 6]))
    fields: dict[str, Any] = {"tos": draw(st.integers(0, 3) | u8)}
    if family == 4 and draw(st.integers(0, 5)) == 0:
        fields["options"] = bytes(4 * draw(st.integers(1, 10)))
    if family == 6 and draw(st.integers(0, 3)) == 0:
        fields["extensions"] = draw(extension_chains)
    outer: dict[str, Any] = {"ip_fields": fields, "family": family}
    if draw(st.integers(0, 3)) == 0:
        outer["eth_fields"] = {"tags": [(0x8100, draw(u16))]}
    kind = draw(st.sampled_from(list(PROTOCOLS.values())))
    odd = draw(st.booleans())
    if kind not in (VXLAN, NVGRE, STT):
        return draw(_newer_packets(kind, frame, odd, outer))
    if kind is VXLAN:
        return wire.vxlan(
            frame, vni=draw(st.integers(0, 0xFFFFFF)), check=draw(st.sampled_from([0, -1])),
            flags=draw(u8) if odd else 8, reserved24=draw(st.integers(0, 0xFFFFFF)) if odd else 0,
            reserved8=draw(u8) if odd else 0, **outer,
        )  # fmt: skip
    if kind is NVGRE:
        word = draw(u16 | st.sampled_from([0xA000, 0x3000, 0xB000])) if odd else 0x2000
        return wire.nvgre(
            frame, vsid=draw(st.integers(0, 0xFFFFFF)), flow_id=draw(u8), word=word, **outer
        )
    it = wire.inner(frame)
    tci = draw(st.just(0) | u16)
    if odd and wire.offloadable(frame):
        tcp = it.protocol == wire.TCP
        flags = 2 | (4 if it.version == 4 else 0) | (8 if tcp else 0)
        l4 = draw(st.just(it.l4) | u8)
        mss = draw(st.just(0) | st.integers(1, 1500))
        return wire.stt(frame, stt_flags=flags, l4_offset=min(l4, 255), mss=mss, tci=tci, **outer)
    return wire.stt(
        frame, stt_flags=draw(u8) if odd else 0, l4_offset=draw(u8) if odd else 0,
        mss=draw(u16) if odd else 0, tci=tci, flags=draw(u8), window=draw(u16), **outer,
    )  # fmt: skip


@st.composite
def _newer_packets(
    draw: st.DrawFn, kind: type[Tunnel], frame: bytes, odd: bool, outer: dict[str, Any]
) -> bytes:
    """The same of GENEVE, VXLAN-GPE, GRE and ERSPAN."""
    proto, inside = 0x6558, frame
    if draw(st.integers(0, 3)) == 0:  # IP without Ethernet
        proto, inside = draw(ip_packets())
    proto = draw(st.just(proto) | u16) if odd else proto
    if kind is Geneve:
        options = b"".join(map(bytes, draw(_options)))
        words = draw(st.none() | st.integers(0, 63)) if odd else None
        return shims.geneve(
            inside, vni=draw(st.integers(0, 0xFFFFFF)), check=draw(st.sampled_from([0, None])),
            options=options, words=words, flags=draw(st.none() | u8) if odd else None,
            proto=proto, reserved8=draw(u8) if odd else 0, **outer,
        )  # fmt: skip
    if kind is VXLANGPE:
        following = {0x6558: 3, 0x0800: 1, 0x86DD: 2}.get(proto, proto & 0xFF)
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 8, 9]))):
            words = draw(st.integers(0, 3))
            inside = shims.shim(following, bytes(4 * words)) + inside
            following = draw(st.integers(0x80, 0xFF))
        return shims.gpe(
            inside, vni=draw(st.integers(0, 0xFFFFFF)), check=draw(st.sampled_from([0, None])),
            following=following, flags=draw(u8 | st.sampled_from([8, 0x0C])) if odd else 0x0C,
            reserved16=draw(u16) if odd else 0, reserved8=draw(u8) if odd else 0, **outer,
        )  # fmt: skip
    if kind is GRE:
        word = draw(u16) if odd else draw(st.sampled_from(range(0, 0x10000, 0x1000))) & 0xB000
        check = draw(st.none() | u16) if odd else None
        return shims.gretap(inside, key=draw(u32), word=word, proto=proto, check=check, **outer)
    number = draw(st.integers(1, 3))
    header: dict[str, Any] = {}
    if number == 3:
        header["platform"] = bytes(draw(st.sampled_from([0, 8])))
        header["last"] = draw(st.sampled_from([0x8000, 0x0800, 0x8001, 0x0801]) | u16)
    if odd:
        outer["word"] = draw(st.sampled_from([0x0000, 0x1000, 0x3000, 0x9000]) | u16)
        header["version"] = draw(st.none() | st.integers(0, 15))
    return shims.erspan(inside, number, session=draw(st.integers(0, 1023)), header=header, **outer)


@st.composite
def corrupted(draw: st.DrawFn, source: SearchStrategy[bytes] | None = None) -> bytes:
    """A packet that something happened to: bits, lengths, fields, cuts, padding.

    Half the time the outer checksums are made right again, so that what lies
    behind them is reached.
    """
    data = bytearray(draw(packets() if source is None else source))
    for _ in range(draw(st.integers(1, 3))):
        if len(data) < 4:
            break
        head = min(len(data), 130) - 1
        match draw(st.sampled_from(["bit", "byte", "word", "length", "cut", "pad"])):
            case "bit":
                data[draw(st.integers(0, head))] ^= 1 << draw(st.integers(0, 7))
            case "byte":
                data[draw(st.integers(0, head))] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
            case "word":
                struct.pack_into("!H", data, draw(st.integers(0, head - 1)), draw(u16))
            case "length":
                at = draw(st.sampled_from([16, 18, 20, 22, 38, 42, 58, 62, 76, 92]))
                if at + 2 <= len(data):
                    value = struct.unpack_from("!H", data, at)[0] + draw(st.integers(-40, 40))
                    struct.pack_into("!H", data, at, value & 0xFFFF)
            case "cut":
                del data[draw(st.integers(0, len(data))) :]
            case "pad":
                data += bytes(draw(st.integers(1, 46)))
    packet = bytes(data)
    return wire.mended(packet) if draw(st.booleans()) else packet


# -- STT streams --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Stream:
    """Segments as they arrive, and how far the clock moves before each."""

    arrivals: tuple[tuple[bytes, float], ...]

    def __repr__(self) -> str:
        told = []
        for packet, wait in self.arrivals:
            body = wire.parse(packet).body
            sport, _, seq, ack = struct.unpack_from("!HHII", body)
            told.append(
                f"{ack:#x}@{sport}[{seq & 0xFFFF}:+{len(body) - 20}/{seq >> 16}] after {wait}s"
            )
        return "Stream(" + ", ".join(told) + ")"


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Interleaved segments of a few frames: permuted, repeated, overlapping, missing, re-marked."""
    arrivals: list[bytes] = []
    for n in range(draw(st.integers(1, 3))):
        payload = wire.pattern(draw(st.integers(0, 6000)), n)
        body = wire.udp(payload, 1000 + n, 2000, "10.0.0.1", "10.0.0.2")
        inside = wire.ipv4(body, wire.UDP, "10.0.0.1", "10.0.0.2", tos=draw(st.integers(0, 3)))
        whole = wire.stt_header(n, tci=draw(st.just(0) | u16)) + wire.ethernet(inside, 0x0800)
        common = {
            "frame_length": len(whole),
            "frame_id": draw(st.sampled_from([7, 8, 0xFFFFFFFF])),
            "sport": draw(st.sampled_from([50000, 50001])),
            "family": draw(st.sampled_from([4, 4, 6])),
        }
        size = draw(st.sampled_from([7, 100, 536, 1440, 2048, 3000]))
        size = max(size, len(whole) // 12 + 1)
        spans = [(at, min(at + size, len(whole))) for at in range(0, len(whole), size)]
        for _ in range(draw(st.integers(0, 2))):  # overlaps and repeats
            low = draw(st.integers(0, len(whole) - 1))
            spans.append((low, draw(st.integers(low + 1, len(whole)))))
        for low, high in spans:
            if draw(st.integers(0, 15)) == 0:
                continue  # lost
            tos = draw(st.sampled_from([0, 0, 1, 2, 3, 0xB8]))
            arrivals.append(
                wire.stt_segment(whole[low:high], offset=low, ip_fields={"tos": tos}, **common)
            )
            if draw(st.integers(0, 9)) == 0:
                arrivals.append(arrivals[-1])
    order = draw(st.permutations(arrivals)) if draw(st.booleans()) else arrivals
    waits = draw(
        st.lists(st.sampled_from([0, 0, 0, 1, 10]), min_size=len(order), max_size=len(order))
    )
    return Stream(tuple(zip(order, (float(wait) for wait in waits), strict=True)))


def sendable(tunnel: Tunnel, frame: bytes) -> bool:
    """Whether encap takes this frame."""
    return not model.refusal(tunnel, frame)
