"""The package's strategies as the tests use them, and packets of an independent peer.

Those come from `wire` and `shims`, which share no line with the package.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import model
import shims
import wire
from overlay import GRE, NVGRE, PROTOCOLS, STT, VXLAN, VXLANGPE, Geneve, Tunnel, strategies
from overlay.strategies import SttSegments as Stream
from overlay.strategies import profiles

__all__ = ["Stream", "corrupted", "frames", "packets", "profiles", "streams", "tunnels"]

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 2**64 - 1)

geneve_options = strategies.geneve_options()


def frames(*, least: int = 0, tagged: bool = True) -> SearchStrategy[bytes]:
    """Any inner frame: ARP, IP of all sorts, tagged 0..3 times, cut, or garbage."""
    return strategies.frames(min_size=least, tagged=tagged)


def tunnels(cls: type[Tunnel] | None = None) -> SearchStrategy[Tunnel]:
    """A tunnel of any protocol, any field set."""
    return strategies.tunnels(None if cls is None else [cls])


def corrupted(source: SearchStrategy[bytes] | None = None) -> SearchStrategy[bytes]:
    """A packet that something happened to, half the time with right outer checksums."""
    return strategies.corrupted(packets() if source is None else source)


def streams() -> SearchStrategy[Stream]:
    """Interleaved segments of a few frames: permuted, repeated, overlapping, missing, re-marked."""
    return strategies.stt_segments(colliding=True)


def sendable(tunnel: Tunnel, frame: bytes) -> bool:
    """Whether encap takes this frame."""
    return not model.refusal(tunnel, frame)


# -- packets ----------------------------------------------------------------------------


#: An EtherType and what follows it.
_inside = frames(least=14, tagged=False).map(lambda f: (int.from_bytes(f[12:14], "big"), f[14:]))


def _extension(kind: int, words: int) -> tuple[int, bytes]:
    return kind, bytes([words]) + bytes(6 + 8 * words)


extension_chains: SearchStrategy[list[tuple[int, bytes]]] = st.lists(
    st.builds(_extension, st.sampled_from([0, 43, 60, 60, 51]), st.integers(0, 3)),
    min_size=1,
    max_size=9,
)


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
        proto, inside = draw(_inside)
    proto = draw(st.just(proto) | u16) if odd else proto
    if kind is Geneve:
        options = b"".join(map(bytes, draw(geneve_options)))
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
