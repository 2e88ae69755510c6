"""Packets: frames in tunnels, and what happens to them on the way.

What must not live here: what a receiver should make of them.
"""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from overlay.errors import EncapError
from overlay.layout import Field, fields

from . import header
from .frame import frames as any_frames
from .frame import ip_frames, u16
from .tunnel import tunnels as any_tunnels

__all__ = ["corrupted", "mended", "packets", "truncated"]

_HEAD = 160  # bytes from the front that corruption aims at
_LENGTHS = ("length", "ihl", "offset", "flags", "options")  # fields that say where others are
#: A frame that every tunnel carries: UDP over IPv4, without tags.
_PLAIN = header.ethernet(
    bytes.fromhex("020000000002"), bytes.fromhex("020000000001"), [], 0x0800,
    header.ipv4(bytes(2), 253, bytes(4), bytes(4)),
)  # fmt: skip


def packets(
    tunnels: SearchStrategy[Any] | None = None, frames: SearchStrategy[bytes] | None = None
) -> SearchStrategy[bytes]:
    """Packets as a sound peer sends them: any frame in any tunnel.

    A frame that its tunnel refuses gives way to a plain one.

    :param tunnels: of the tunnels; :func:`tunnels` if None.
    :param frames: of the frames; :func:`ip_frames` and :func:`frames` if None.
    """
    both = ip_frames(max_size=2000) | any_frames(min_size=14, max_size=2000)
    return _packets(
        any_tunnels() if tunnels is None else tunnels, both if frames is None else frames
    )


@st.composite
def _packets(draw: DrawFn, tunnels: SearchStrategy[Any], frames: SearchStrategy[bytes]) -> bytes:
    tunnel, frame = draw(tunnels), draw(frames)
    try:
        packet: bytes = tunnel.encap(frame)
    except EncapError:
        packet = tunnel.encap(_PLAIN)
    return packet


def truncated(packets: SearchStrategy[bytes] | None = None) -> SearchStrategy[bytes]:
    """Packets cut short at any byte, as a snapshot length or a bad cable leaves them.

    :param packets: of the packets; :func:`packets` if None.  An empty one stays so.
    """
    return _truncated(globals()["packets"]() if packets is None else packets)


@st.composite
def _truncated(draw: DrawFn, packets: SearchStrategy[bytes]) -> bytes:
    packet = draw(packets)
    return packet[: draw(st.integers(0, max(0, len(packet) - 1)))]


def corrupted(
    packets: SearchStrategy[bytes] | None = None, *, mend: bool | None = None
) -> SearchStrategy[bytes]:
    """Packets that something happened to: bits, fields, lengths, cuts and padding.

    Never the packet itself.  Shrinks to one bit, in the first byte that matters.

    :param packets: of the packets; :func:`packets` if None.
    :param mend: whether the outer IPv4, UDP and TCP checksums are made right
        afterwards (:func:`mended`), so that what lies behind them is reached; half of
        the time if None.
    """
    return _corrupted(globals()["packets"]() if packets is None else packets, mend)


@st.composite
def _corrupted(draw: DrawFn, packets: SearchStrategy[bytes], mend: bool | None) -> bytes:
    packet = draw(packets)
    data = bytearray(packet)
    for _ in range(draw(st.integers(1, 3))):
        _harm(draw, data)
    if bytes(data) == packet:
        if data:
            data[draw(st.integers(0, min(len(data), _HEAD) - 1))] ^= 1
        else:
            data += b"\0"
    if draw(st.booleans()) if mend is None else mend:
        whole = mended(bytes(data))
        if whole == packet:  # nothing but a checksum was wrong
            data = bytearray(packet[:-1] + bytes([packet[-1] ^ 1]))
            whole = mended(bytes(data))
        return bytes(data) if whole == packet else whole
    return bytes(data)


def _harm(draw: DrawFn, data: bytearray) -> None:
    """Do one thing to the packet."""
    kind = draw(st.sampled_from(["bit", "field", "length", "word", "cut", "pad"]))
    if kind == "cut":
        del data[draw(st.integers(0, len(data))) :]
    elif kind == "pad":
        data += bytes(draw(st.integers(1, 46)))
    elif not data:
        return
    elif kind == "bit":
        at = draw(st.integers(0, min(len(data), _HEAD) - 1))
        data[at] ^= 1 << draw(st.integers(0, 7))
    elif kind == "word":
        at = draw(st.integers(0, max(0, min(len(data), _HEAD) - 2)))
        data[at : at + 2] = draw(u16).to_bytes(2, "big")[: len(data) - at]
    else:
        here = [one for one in fields(data) if one.size <= 8]
        if kind == "length":
            here = [one for one in here if any(word in one.name for word in _LENGTHS)] or here
        if here:
            _set(draw, data, draw(st.sampled_from(here)))


def _set(draw: DrawFn, data: bytearray, field: Field) -> None:
    """Another value for a field: near, at an end of its range, or any."""
    part = slice(field.offset, field.offset + field.size)
    most = (1 << 8 * field.size) - 1
    before = int.from_bytes(data[part], "big")
    near = st.integers(-40, 40).map(lambda step: before + step & most)
    value = draw(st.sampled_from([0, 1, most, most >> 1]) | near | st.integers(0, most))
    data[part] = value.to_bytes(field.size, "big")


def mended(packet: bytes) -> bytes:
    """The packet with right outer IPv4, UDP and TCP checksums, where these headers are whole.

    A UDP checksum of zero stays.
    """
    data = bytearray(packet)
    at: dict[str, int] = {}
    for one in fields(packet):
        at.setdefault(one.name, one.offset)
    l3 = at.get("outer.ipv4.version_ihl", at.get("outer.ipv6.version_class_flow", -1))
    if l3 < 0 or len(data) < l3 + (20 if data[l3] >> 4 == 4 else 40):
        return packet
    if data[l3] >> 4 == 4:
        addresses = bytes(data[l3 + 12 : l3 + 20])
        end = l3 + struct.unpack_from("!H", data, l3 + 2)[0]
        l4 = l3 + max(20, (data[l3] & 15) * 4)
        if l4 <= len(data):
            data[l3 + 10 : l3 + 12] = bytes(2)
            struct.pack_into("!H", data, l3 + 10, header.checksum(bytes(data[l3:l4])))
    else:
        addresses = bytes(data[l3 + 8 : l3 + 40])
        end = l3 + 40 + struct.unpack_from("!H", data, l3 + 4)[0]
    for protocol, name, least in ((17, "outer.udp", 8), (6, "outer.tcp", 20)):
        l4, check = at.get(f"{name}.source_port", -1), at.get(f"{name}.checksum", -1)
        if l4 < 0 or check < 0 or not l4 + least <= end <= len(data):
            continue
        if protocol == 17:
            if data[check : check + 2] == bytes(2):
                continue
            end = min(end, l4 + max(8, struct.unpack_from("!H", data, l4 + 4)[0]))
        data[check : check + 2] = bytes(2)
        half = len(addresses) // 2
        whole = header.pseudo(addresses[:half], addresses[half:], protocol, end - l4)
        value = header.checksum(whole, bytes(data[l4:end]))
        struct.pack_into("!H", data, check, (value or 0xFFFF) if protocol == 17 else value)
    return bytes(data)
