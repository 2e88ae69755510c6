"""GENEVE, VXLAN-GPE, plain GRE and ERSPAN packets by hand, as `wire` has the others.

Every field can be set wrong; it shares no line with the package.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from wire import GRE, LOCAL, REMOTE, UDP, gre, nvgre, packet, stt, udp, vxlan


def option(
    number: int, kind: int, data: bytes = b"", *, reserved: int = 0, words: int = -1
) -> bytes:
    """One GENEVE option; `words`: what its length field says of the data."""
    words = len(data) // 4 if words < 0 else words
    return struct.pack("!HBB", number, kind, reserved << 5 | words) + data


def _over_udp(
    body: bytes, port: int, *, family: int, sport: int, length: int | None, check: int | None,
    src: str | None, dst: str | None, **outer: Any,
) -> bytes:  # fmt: skip
    src, dst = src or LOCAL[family], dst or REMOTE[family]
    datagram = udp(body, sport, port, src, dst, length=length, check=check)
    return packet(datagram, UDP, family, src=src, dst=dst, **outer)


def geneve(
    frame: bytes,
    *,
    vni: int = 0x123456,
    family: int = 4,
    version: int = 0,
    options: bytes = b"",
    words: int | None = None,
    flags: int | None = None,
    proto: int = 0x6558,
    reserved8: int = 0,
    sport: int = 49443,
    port: int = 6081,
    length: int | None = None,
    check: int | None = None,
    src: str | None = None,
    dst: str | None = None,
    **outer: Any,
) -> bytes:
    """A GENEVE packet; `words`: what Opt Len says; `flags`: O, C and the reserved bits.

    C is set by default where an option is critical, as far as `options` can be read.
    """
    words = len(options) // 4 if words is None else words
    if flags is None:
        flags = 0x40 if _any_critical(options) else 0
    head = struct.pack("!BBHI", version << 6 | words, flags, proto, vni << 8 | reserved8)
    return _over_udp(
        head + options + frame, port, family=family, sport=sport, length=length, check=check,
        src=src, dst=dst, **outer,
    )  # fmt: skip


def _any_critical(options: bytes) -> bool:
    at, found = 0, False
    while at + 4 <= len(options):
        found |= options[at + 2] >= 0x80
        at += 4 + 4 * (options[at + 3] & 0x1F)
    return found


def shim(following: int, data: bytes = b"", *, kind: int = 0, words: int = -1) -> bytes:
    """A VXLAN-GPE shim header."""
    words = len(data) // 4 if words < 0 else words
    return struct.pack("!BBBB", kind, words, 0, following) + data


def gpe(
    frame: bytes,
    *,
    vni: int = 0x123456,
    family: int = 4,
    flags: int = 0x0C,
    reserved16: int = 0,
    following: int = 3,
    reserved8: int = 0,
    sport: int = 49443,
    port: int = 4790,
    length: int | None = None,
    check: int | None = None,
    src: str | None = None,
    dst: str | None = None,
    **outer: Any,
) -> bytes:
    """A VXLAN-GPE packet; `following` is the next protocol."""
    head = struct.pack("!BHBI", flags, reserved16, following, vni << 8 | reserved8)
    return _over_udp(
        head + frame, port, family=family, sport=sport, length=length, check=check,
        src=src, dst=dst, **outer,
    )  # fmt: skip


def gretap(
    frame: bytes,
    *,
    key: int | None = None,
    sequence: int | None = None,
    summed: bool = False,
    word: int | None = None,
    family: int = 4,
    proto: int = 0x6558,
    check: int | None = None,
    reserved1: int = 0,
    **outer: Any,
) -> bytes:
    """A plain GRE packet; `word`: its first 16 bits, else those of the fields that are given."""
    if word is None:
        word = 0x8000 * summed | 0x2000 * (key is not None) | 0x1000 * (sequence is not None)
    body = gre(
        frame, word=word, proto=proto, key=key or 0, sequence=sequence or 0, check=check,
        reserved1=reserved1,
    )  # fmt: skip
    return packet(body, GRE, family, **outer)


def erspan_header(
    kind: int = 2,
    session: int = 0x155,
    *,
    version: int | None = None,
    vlan: int = 0,
    cos: int = 0,
    en: int = 0,
    truncated: bool = False,
    index: int = 0,
    reserved: int = 0,
    timestamp: int = 0,
    group: int = 0,
    last: int = 0x8000,
    platform: bytes = b"",
) -> bytes:
    """What lies between GRE and the frame; `last`: P, FT, hardware, D, granularity, O."""
    if kind == 1:
        return b""
    version = kind - 1 if version is None else version
    second = cos << 13 | en << 11 | truncated << 10 | session
    head = struct.pack("!HH", version << 12 | vlan, second)
    if kind == 2:
        return head + struct.pack("!I", reserved << 20 | index)
    return head + struct.pack("!IHH", timestamp, group, last) + platform


def erspan(
    frame: bytes,
    kind: int = 2,
    *,
    session: int = 0x155,
    sequence: int = 7,
    word: int | None = None,
    proto: int | None = None,
    family: int = 4,
    header: dict[str, Any] | None = None,
    **outer: Any,
) -> bytes:
    """An ERSPAN packet of type `kind`; `word` and `proto` are GRE's."""
    word = (0 if kind == 1 else 0x1000) if word is None else word
    proto = (0x22EB if kind == 3 else 0x88BE) if proto is None else proto
    inside = erspan_header(kind, session, **(header or {})) + frame
    body = gre(inside, word=word, proto=proto, sequence=sequence)
    return packet(body, GRE, family, **outer)


#: A packet of each protocol around a frame; any outer field can be given.
BUILD: dict[str, Callable[..., bytes]] = {
    "vxlan": vxlan,
    "nvgre": nvgre,
    "stt": stt,
    "geneve": geneve,
    "vxlan-gpe": gpe,
    "gre": gretap,
    "erspan": erspan,
}
#: The parameter of `BUILD` that is the key.
KEY = {
    "vxlan": "vni", "nvgre": "vsid", "stt": "context_id", "geneve": "vni", "vxlan-gpe": "vni",
    "gre": "key", "erspan": "session",
}  # fmt: skip
#: What a profile needs to be told to take a plain packet of a protocol.
TAKES: dict[str, dict[str, Any]] = {name: {} for name in BUILD} | {"gre": {"protocols": ("gre",)}}
