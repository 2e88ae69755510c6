"""Captures: pcap and pcapng files of every kind, valid and broken.

What must not live here: reading them, or the writer that they witness against.
"""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from .packet import packets as any_packets

__all__ = ["captures"]

_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D


def captures(
    packets: SearchStrategy[bytes] | None = None,
    *,
    formats: tuple[str, ...] = ("pcap", "pcapng"),
    max_packets: int = 5,
    broken: bool | None = None,
) -> SearchStrategy[bytes]:
    """The bytes of capture files, of either byte order and any unit of time.

    Shrinks to a pcap file without packets.

    :param packets: of the packets, Ethernet; :func:`packets` if None.
    :param formats: ``"pcap"`` and ``"pcapng"``; the latter with several interfaces,
        options, blocks to pass over and simple packet blocks.
    :param max_packets: in one file.
    :param broken: whether they are cut, or have wrong lengths and flipped bits; True
        for all, False for none, None for half of them.
    """
    return _captures(any_packets() if packets is None else packets, formats, max_packets, broken)


@st.composite
def _captures(
    draw: DrawFn, packets: SearchStrategy[bytes], formats: tuple[str, ...], most: int,
    broken: bool | None,
) -> bytes:  # fmt: skip
    kind = draw(st.sampled_from(formats))
    inside = draw(st.lists(packets, max_size=most))
    order = draw(st.sampled_from("<>"))
    made = (_pcap if kind == "pcap" else _pcapng)(draw, order, inside)
    if draw(st.booleans()) if broken is None else broken:
        return _broken(draw, made)
    return made


def _pcap(draw: DrawFn, order: str, packets: list[bytes]) -> bytes:
    magic = draw(st.sampled_from([_MICROSECONDS, _NANOSECONDS]))
    data = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, 1)
    for packet in packets:
        seconds, part = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 999999))
        more = draw(st.just(0) | st.integers(0, 1000))
        data += struct.pack(f"{order}IIII", seconds, part, len(packet), len(packet) + more) + packet
    return data


def _block(order: str, kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return struct.pack(f"{order}II", kind, size) + body + struct.pack(f"{order}I", size)


def _options(order: str, options: list[tuple[int, bytes]]) -> bytes:
    """The options, padded, and their end; nothing for none."""
    data = b"".join(
        struct.pack(f"{order}HH", code, len(value)) + _padded(value) for code, value in options
    )
    return data + bytes(4) if data else b""


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


_comments = st.lists(
    st.tuples(st.just(1), st.text("overlay ", max_size=9).map(str.encode)), max_size=2
)


def _pcapng(draw: DrawFn, order: str, packets: list[bytes]) -> bytes:
    section = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)
    data = _block(order, 0x0A0D0D0A, section + _options(order, draw(_comments)))
    interfaces = draw(st.integers(1, 3))
    for _ in range(interfaces):
        units: list[tuple[int, bytes]] = draw(
            st.just([]) | st.sampled_from([3, 6, 9, 0x8A]).map(lambda unit: [(9, bytes([unit]))])
        )
        body = struct.pack(f"{order}HHI", 1, 0, 0) + _options(order, units)
        data += _block(order, 1, body)
    for packet in packets:
        kind = draw(st.sampled_from(["enhanced", "enhanced", "simple", "between"]))
        if kind == "between":  # a block that readers pass over
            data += _block(order, 0x40000BAD, _padded(draw(st.binary(max_size=9))))
        if kind == "simple":
            data += _block(order, 3, struct.pack(f"{order}I", len(packet)) + _padded(packet))
            continue
        number = draw(st.integers(0, interfaces - 1))
        high, low = draw(st.integers(0, 2**20)), draw(st.integers(0, 2**32 - 1))
        head = struct.pack(f"{order}IIIII", number, high, low, len(packet), len(packet))
        data += _block(order, 6, head + _padded(packet) + _options(order, draw(_comments)))
    return data


def _broken(draw: DrawFn, whole: bytes) -> bytes:
    """The file, cut or with something in it that is not as it was."""
    data: Any = bytearray(whole)
    kind = draw(st.sampled_from(["cut", "bit", "length", "more"]))
    if kind == "cut":
        del data[draw(st.integers(0, len(data) - 1)) :]
    elif kind == "bit":
        data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    elif kind == "length":
        at = 4 * draw(st.integers(0, len(data) // 4 - 1))
        value = draw(st.sampled_from([0, 1, 0xFFFFFFFF, 0x7FFFFFFF]) | st.integers(0, 2**32 - 1))
        data[at : at + 4] = value.to_bytes(4, "little")
    else:
        data += draw(st.binary(min_size=1, max_size=40))
    return bytes(data)
