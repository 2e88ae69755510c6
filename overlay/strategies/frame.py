"""Frames: what an Ethernet carries, sound and otherwise.

What must not live here: tunnels.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from overlay.errors import ConfigError

from . import header

__all__ = ["frames", "ip_frames", "lengths", "macs"]

#: The longest frame unless another is asked for: a jumbo frame, and one odd byte.
LONGEST = 9001

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
macs: SearchStrategy[bytes] = st.binary(min_size=6, max_size=6)

_PROTOCOLS = {"udp": 17, "tcp": 6, "icmp": 1, "sctp": 132}
_USUAL = {4: ("192.0.2.1", "198.51.100.2"), 6: ("2001:db8:1::1", "2001:db8:2::2")}
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}


def lengths(most: int = LONGEST) -> SearchStrategy[int]:
    """Lengths as traffic has them, 0 to ``most``: mostly small, sometimes full or jumbo."""
    usual = [st.integers(0, min(80, most))]
    if most > 1520:
        usual.append(st.integers(1400, 1520))
    return st.one_of(*usual, st.integers(0, most))


def addresses(version: int) -> SearchStrategy[bytes]:
    """Packed IP addresses, mostly two usual ones."""
    usual = [ipaddress.ip_address(text).packed for text in _USUAL[version]]
    some = st.ip_addresses(v=4) if version == 4 else st.ip_addresses(v=6)
    return st.sampled_from(usual) | some.map(lambda one: one.packed)


def tags(most: int = 2) -> SearchStrategy[list[tuple[int, int]]]:
    """VLAN tags, (TPID, TCI), outermost first: mostly none."""
    one = st.tuples(st.sampled_from([0x8100, 0x88A8]), u16)
    return st.just([]) | st.lists(one, max_size=most)


# -- sound ones -----------------------------------------------------------------------------


def ip_frames(
    *,
    versions: Sequence[int] = (4, 6),
    protocols: Sequence[str] = ("udp", "tcp", "icmp", "sctp"),
    tos: SearchStrategy[int] | None = None,
    tagged: bool = True,
    max_size: int = LONGEST,
) -> SearchStrategy[bytes]:
    """Frames with a sound IP packet: every length and checksum is right.

    Shrinks to an IPv4 UDP datagram without payload.

    :param versions: of IP, 4 and 6.
    :param protocols: some of ``"udp"``, ``"tcp"``, ``"icmp"`` and ``"sctp"`` (of
        which there is only a header's worth of bytes).
    :param tos: of the TOS byte or traffic class; any of 0..255 if None.
    :param tagged: whether there may be VLAN tags, two at most.
    :param max_size: bytes of the longest frame, at least 128.
    """
    for version in versions:
        if version not in _ETHERTYPE:
            raise ConfigError("versions", versions, "4 and 6")
    for protocol in protocols:
        if protocol not in _PROTOCOLS:
            raise ConfigError("protocols", protocol, f"some of {', '.join(_PROTOCOLS)}")
    if max_size < 128:
        raise ConfigError("max_size", max_size, "at least 128")
    return _sound(tuple(versions), tuple(protocols), u8 if tos is None else tos, tagged, max_size)


@st.composite
def _sound(
    draw: DrawFn, versions: Sequence[int], protocols: Sequence[str], tos: SearchStrategy[int],
    tagged: bool, most: int,
) -> bytes:  # fmt: skip
    version = draw(st.sampled_from(versions))
    ends = draw(addresses(version)), draw(addresses(version))
    name = draw(st.sampled_from(protocols))
    stack = draw(tags()) if tagged else []
    room = min(most, 65535) - 14 - 4 * len(stack) - (20 if version == 4 else 40) - 20
    payload = header.filler(draw(lengths(room)), draw(u8))
    protocol, body = _body(draw, name, payload, ends)
    fields: dict[str, Any] = {"tos": draw(tos), "ttl": draw(st.just(64) | u8)}
    # As many choices for either version: fewer would be plainer.
    number, flag = draw(st.integers(0, 0xFFFFF)), draw(st.booleans())
    if version == 4:
        fields |= {"ident": number & 0xFFFF, "fragment": 0 if flag else 0x4000}
        inside = header.ipv4(body, protocol, *ends, **fields)
    else:
        inside = header.ipv6(body, protocol, *ends, flow_label=number, **fields)
    return header.ethernet(draw(macs), draw(macs), stack, _ETHERTYPE[version], inside)


def _body(draw: DrawFn, name: str, payload: bytes, ends: tuple[bytes, bytes]) -> tuple[int, bytes]:
    """A protocol's number and a sound packet of it."""
    ports = draw(u16), draw(u16)
    words = ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big")
    if name == "icmp":
        return (1 if len(ends[0]) == 4 else 58), header.icmp(words + payload, ends)
    if name == "udp":
        return 17, header.udp(payload, ports, ends)
    if name == "sctp":
        return 132, words + bytes(8) + payload
    options: dict[str, Any] = {"sequence": draw(u32), "flags": draw(st.just(0x10) | u8)}
    return 6, header.tcp(payload, ports, ends, **options)


# -- any ---------------------------------------------------------------------------------------


def frames(
    *, min_size: int = 0, max_size: int = LONGEST, tagged: bool = True
) -> SearchStrategy[bytes]:
    """Any frames: sound and odd IP, other EtherTypes, up to three tags, cut ones, garbage.

    Odd IP has wrong lengths, checksums, versions and header lengths, options,
    extension headers and fragments.

    :param min_size: bytes of the shortest frame; 14 is an Ethernet header.
    :param max_size: bytes of the longest one, at least 128.
    :param tagged: whether there may be VLAN tags.
    """
    if max_size < 128:
        raise ConfigError("max_size", max_size, "at least 128")
    if not 0 <= min_size <= 100:
        raise ConfigError("min_size", min_size, "0 to 100")
    kinds = [
        ip_frames(tagged=tagged, max_size=max_size),
        _odd(tagged, max_size),
        _odd(tagged, max_size),
        _other(tagged, max_size),
        st.binary(min_size=min_size, max_size=100),
    ]
    return _any(st.one_of(kinds), min_size, max_size)


@st.composite
def _any(draw: DrawFn, kinds: SearchStrategy[bytes], least: int, most: int) -> bytes:
    frame = draw(kinds)[:most]
    if draw(st.integers(0, 7)) == 7:
        frame = frame[: draw(st.integers(least, max(least, min(len(frame), 100))))]
    return frame.ljust(least, b"\0")


@st.composite
def _other(draw: DrawFn, tagged: bool, most: int) -> bytes:
    """A frame of another EtherType, or one that says IP and has none."""
    ethertype = draw(st.sampled_from([0x88B5, 0x0806, 0x88CC, 0x0026, 0x9100, 0x0800, 0x86DD]))
    payload = header.filler(draw(lengths(most - 26)), draw(u8))
    stack = draw(tags(3)) if tagged else []
    return header.ethernet(draw(macs), draw(macs), stack, ethertype, payload)


_chains: SearchStrategy[list[tuple[int, bytes]]] = st.lists(
    st.builds(
        lambda number, words: (number, bytes([words]) + bytes(6 + 8 * words)),
        st.sampled_from([0, 43, 60, 60, 51]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=9,
)


def _rarely(strategy: SearchStrategy[int]) -> SearchStrategy[int | None]:
    """None three times of four."""
    return st.none() | st.none() | st.none() | strategy


@st.composite
def _odd(draw: DrawFn, tagged: bool, most: int) -> bytes:
    """A frame with an IP packet that may be wrong, or seldom seen."""
    version = draw(st.sampled_from([4, 6]))
    ends = draw(addresses(version)), draw(addresses(version))
    protocol = draw(st.sampled_from([6, 6, 17, 17, 132, 1, 58]))
    body = _odd_body(draw, protocol, ends, most)
    fields: dict[str, Any] = {"tos": draw(u8), "ttl": draw(u8), "total": draw(_rarely(u16))}
    odd = draw(st.sampled_from(["", "fragment", "headers", "version"]))
    if odd == "version":
        fields["version"] = draw(st.integers(0, 15))
    if version == 4:
        fields["ident"] = draw(u16)
        fields["fragment"] = draw(u16) if odd == "fragment" else draw(st.sampled_from([0x4000, 0]))
        if odd == "headers":
            fields["options"] = bytes(4 * draw(st.integers(1, 10)))
            fields["ihl"] = draw(st.none() | st.integers(0, 15))
        inside = header.ipv4(body, protocol, *ends, **fields)
    else:
        fields["flow_label"] = draw(st.integers(0, 0xFFFFF))
        if odd == "fragment":
            fields["extensions"] = [(44, draw(st.binary(min_size=7, max_size=7)))]
        if odd == "headers":
            fields["extensions"] = draw(_chains)
        inside = header.ipv6(body, protocol, *ends, **fields)
    stack = draw(tags(3)) if tagged else []
    return header.ethernet(draw(macs), draw(macs), stack, _ETHERTYPE[version], inside)


def _odd_body(draw: DrawFn, protocol: int, ends: tuple[bytes, bytes], most: int) -> bytes:
    payload = header.filler(draw(lengths(min(most, 65000))), draw(u8))
    check, ports = draw(st.none() | st.none() | u16), (draw(u16), draw(u16))
    if protocol == 6:
        return header.tcp(
            payload, ports, ends, sequence=draw(u32), acknowledgement=draw(u32), flags=draw(u8),
            window=draw(u16), options=bytes(4 * draw(st.integers(0, 10))), check=check,
            data_offset=draw(_rarely(st.integers(0, 15))),
        )  # fmt: skip
    if protocol == 17:
        return header.udp(payload, ports, ends, check=check, length=draw(_rarely(u16)))
    return payload
