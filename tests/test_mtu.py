"""Overhead and MTU arithmetic, and that packets have the size it says."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import frames
import laws
import model
import strategies as s
import wire
from overlay import (
    ERSPAN,
    GRE,
    NVGRE,
    STT,
    VXLAN,
    VXLANGPE,
    ConfigError,
    EncapError,
    Geneve,
    MTUExceeded,
    Status,
    Tunnel,
)
from overlay.codec import Codec
from test_encap import plain

#: shared/spec/common.md 2: overhead on (IPv4, IPv4 tagged, IPv6, IPv6 tagged), MTU for 1500 (4, 6).
TABLE = {
    VXLAN: ((50, 54, 70, 74), (1450, 1430)),
    NVGRE: ((42, 46, 62, 66), (1458, 1438)),
    STT: ((72, 76, 92, 96), (1428, 1408)),
    Geneve: ((50, 54, 70, 74), (1450, 1430)),
    VXLANGPE: ((50, 54, 70, 74), (1450, 1430)),
    GRE: ((42, 46, 62, 66), (1458, 1438)),  # with a key
    ERSPAN: ((50, 54, 70, 74), (1450, 1430)),  # type II
}


def test_overhead(codec: Codec, protocol: type[Tunnel]) -> None:
    overheads, _ = TABLE[protocol]
    variants = [(4, None), (4, 5), (6, None), (6, 5)]
    for overhead, (family, vid) in zip(overheads, variants, strict=True):
        tunnel = plain(protocol, family, outer_vlan=vid)
        assert tunnel.overhead == overhead
        assert len(codec.encap(tunnel, frames.UDP4)) == len(frames.UDP4) + overhead


def test_following_stt_segments(codec: Codec) -> None:
    for family, vid, overhead in [(4, None, 54), (4, 5, 58), (6, None, 74), (6, 5, 78)]:
        tunnel = plain(STT, family, outer_vlan=vid)
        first, *others = codec.packets(tunnel, frames.LONG, 1500)
        total = len(first) + sum(map(len, others))
        assert total == len(frames.LONG) + tunnel.overhead + overhead * len(others)


def test_inner_mtu(codec: Codec, protocol: type[Tunnel], family: int) -> None:
    """The outer tag does not count against the IP MTU, an inner one that stays does."""
    expected = TABLE[protocol][1][family == 6]
    for vid in (None, 5):
        tunnel = plain(protocol, family, outer_vlan=vid)
        assert tunnel.inner_mtu(1500) == expected
        assert tunnel.inner_mtu(1500, inner_tags=1) == expected - 4
        assert tunnel.inner_mtu(1500, inner_tags=2) == expected - 8
        fitting = bytes(12) + b"\x88\xb5" + bytes(expected)
        (packet,) = codec.packets(tunnel, fitting, 1500)
        assert wire.parse(packet).length == 1500
        longer = laws.outcome(lambda t=tunnel, f=fitting: codec.packets(t, f + b"\0", 1500))
        if protocol is STT:
            assert len(longer) == 2
        else:
            assert longer is Status.MTU_EXCEEDED


@pytest.mark.parametrize("mtu", [0, -1, 49, 65536, 1500.0, "1500", None])
def test_bad_inner_mtu(mtu: object) -> None:
    with pytest.raises(ConfigError, match="underlay_mtu"):
        plain(VXLAN).inner_mtu(mtu)


@pytest.mark.parametrize("tags", [-1, 3, None])
def test_bad_inner_tags(tags: object) -> None:
    with pytest.raises(ConfigError, match="inner_tags"):
        plain(VXLAN).inner_mtu(1500, inner_tags=tags)


def test_mtu_exceeded_is_an_encap_error(codec: Codec) -> None:
    """VXLAN-23, NVGRE-19."""
    for protocol in (VXLAN, NVGRE):
        with pytest.raises(MTUExceeded) as error:
            codec.packets(plain(protocol), frames.JUMBO, 1500)
        assert isinstance(error.value, EncapError)
        assert error.value.status is Status.MTU_EXCEEDED


@pytest.mark.parametrize("mtu", [0, -5, 20, 65536, 1500.5, "1500", None])
def test_bad_mtu(codec: Codec, protocol: type[Tunnel], mtu: object) -> None:
    with pytest.raises(ConfigError, match="mtu"):
        codec.packets(plain(protocol), frames.UDP4, mtu)


@given(data=st.data(), frame=s.frames(least=14), mtu=st.integers(128, 65535))
def test_no_packet_is_longer_than_the_mtu(
    codec: Codec, data: st.DataObject, frame: bytes, mtu: int
) -> None:
    """VXLAN-23, NVGRE-19, STT-37."""
    tunnel = data.draw(s.tunnels())
    assume(not model.refusal(tunnel, frame))
    size = len(model.carried(tunnel, frame)[0]) + tunnel.overhead - wire_header(tunnel)
    packets = laws.outcome(lambda: codec.packets(tunnel, frame, mtu))
    if packets is Status.MTU_EXCEEDED:
        assert size > mtu
        assert not isinstance(tunnel, STT)
    else:
        assert all(wire.parse(packet).length <= mtu for packet in packets)
        assert (len(packets) == 1) is (size <= mtu)


def wire_header(tunnel: Tunnel) -> int:
    """The outer Ethernet header's bytes."""
    return 14 if tunnel.outer_vlan is None else 18
