"""STT, the Stateless Transport Tunneling Protocol (draft-davie-stt-08).

The TCP-shaped segment header and the STT frame header, built and checked.
Several segments to a frame are :mod:`.stt_segment`'s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import STT

from . import offload
from .checksum import checksum, pseudo_header
from .delivery import Carried
from .inner import TCP, recognise
from .outer import Outer, addresses

__all__ = [
    "FRAME_HEADER", "MAX_FRAME", "OVERHEAD", "PLAIN", "PROTOCOL", "SEGMENT_HEADER",
    "FrameHeader", "Row", "Segment", "build_frame", "build_segment",
    "carried", "describe", "parse", "parse_frame_header", "parse_segment", "segment_size",
]  # fmt: skip

# ---- constants ---------------------------------------------------------------

PROTOCOL = 6  # shaped as TCP
PORT = 7471
SEGMENT_HEADER = 20
FRAME_HEADER = 18
OVERHEAD = SEGMENT_HEADER + FRAME_HEADER
MIN_FRAME, MAX_FRAME = FRAME_HEADER + 14, 65535  # with the frame header

ACK, PSH = 0x10, 0x08

# The draft draws these bits from the left; every sender and Wireshark count
# them from the right.
FLAG_C = 0x01  # the inner L4 checksum was verified
FLAG_P = 0x02  # the inner L4 checksum is partial
FLAG_V = 0x04  # the inner packet is IPv4
FLAG_T = 0x08  # the inner packet is TCP

# ---- header ------------------------------------------------------------------
#
# The segment header, 3.2: TCP's layout, other meanings::
#
#      0                   1                   2                   3
#      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |          Source Port          |       Destination Port        |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |       STT Frame Length        |        Fragment Offset        |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                           Frame ID                            |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |  Data |       |C|E|U|A|P|R|S|F|                               |
#     | Offset|  Res. |W|C|R|C|S|S|Y|I|            Window             |
#     |       |       |R|E|G|K|H|T|N|N|                               |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |           Checksum            |         Urgent Pointer        |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#
# The frame header, 3.1, at offset 0 of the frame and counted in its length::
#
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |  Version      | Flags         |  L4 Offset    |  Reserved     |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |    Max. Segment Size          | PCP |V|     VLAN ID           |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |                                                               |
#     +                     Context ID (64 bits)                      +
#     |                                                               |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
#     |     Padding                   |    Data                       |
#     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

# ---- build -------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What a batch says of a frame besides: ``mss`` of a super-frame, a partial checksum."""

    mss: int = 0
    is_partial: bool = False


PLAIN = Row()


def is_partial(tunnel: STT, row: Row) -> bool:
    """Whether the receiver is to complete the inner checksum."""
    return tunnel.inner_checksum == "partial" or row.is_partial


def segment_size(tunnel: STT, row: Row) -> int:
    """The MSS: the row's own, where its checksum is partial; else the tunnel's."""
    return row.mss if row.mss and is_partial(tunnel, row) else tunnel.mss


def build_frame(tunnel: STT, frame: bytes, tci: int, row: Row = PLAIN) -> bytes:
    """The STT frame: its header and the inner frame, seeded where the checksum is partial."""
    flags = l4_offset = mss = 0
    inner = recognise(frame)
    if offload.is_offloadable(frame, inner):
        if tunnel.inner_checksum == "verified" and not row.is_partial:
            flags = FLAG_C
        elif is_partial(tunnel, row) and inner.l4 <= 255:
            flags = FLAG_P
            flags |= FLAG_V if inner.version == 4 else 0
            flags |= FLAG_T if inner.protocol == TCP else 0
            l4_offset = inner.l4
            if inner.protocol == TCP:
                payload = inner.end - inner.l4 - (frame[inner.l4 + 12] >> 4) * 4
                mss = segment_size(tunnel, row)
                mss = mss if payload > mss else 0
            frame = offload.seed(frame, inner)
    header = struct.pack("!BBBBHHQH", 0, flags, l4_offset, 0, mss, tci, tunnel.context_id, 0)
    return header + frame


def build_segment(
    tunnel: STT, port: int, frame_id: int, frame: bytes, start: int, end: int
) -> bytes:
    """The IP payload that carries bytes ``start..end`` of this STT frame."""
    flags = ACK | PSH if end == len(frame) else ACK
    data_offset = SEGMENT_HEADER // 4 << 4
    head = struct.pack(
        "!HHHHIBBHHH", port, PORT, len(frame), start, frame_id, data_offset, flags, 0, 0, 0
    )
    segment = head + frame[start:end]
    total = checksum(pseudo_header(*addresses(tunnel), PROTOCOL, len(segment)) + segment)
    return segment[:16] + struct.pack("!H", total) + segment[18:]


# ---- parse -------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A segment in order in itself: bytes ``start..end`` of a frame of ``length`` bytes.

    They lie from offset ``at`` of the packet, perhaps cut.
    """

    outer: Outer
    port: int
    frame_id: int
    length: int
    start: int
    end: int
    at: int

    @property
    def is_whole(self) -> bool:
        return self.end - self.start == self.length

    @property
    def payload(self) -> bytes:
        return self.outer.packet[self.at : self.outer.here]


@dataclass(frozen=True)
class FrameHeader:
    """The STT frame header as received; ``is_partial`` is settled by the profile."""

    is_partial: bool
    is_ipv4: bool
    is_tcp: bool
    l4_offset: int
    mss: int
    tci: int
    context_id: int


def parse_segment(outer: Outer, profile: Profile) -> Segment:
    """Steps 9 to 11, except STT_INCOMPLETE.  Raises :class:`DecapError`."""
    packet, l4 = outer.packet, outer.l4
    if outer.here - l4 < SEGMENT_HEADER:
        raise DecapError(Status.TCP_TRUNCATED)
    port, to, length, start, frame_id, offset = struct.unpack_from("!HHHHIB", packet, l4)
    if to != PORT:
        raise DecapError(Status.UNKNOWN_PROTOCOL)
    header = (offset >> 4) * 4
    if header != SEGMENT_HEADER and profile.base != "lenient":
        raise DecapError(Status.STT_DATA_OFFSET)
    if not SEGMENT_HEADER <= header <= outer.here - l4:
        raise DecapError(Status.STT_DATA_OFFSET)
    if profile.verify_checksums and not outer.is_cut and outer.payload_sum() != 0xFFFF:
        raise DecapError(Status.TCP_CHECKSUM)

    at = l4 + header
    end = start + outer.end - at
    if end == start:
        raise DecapError(Status.STT_EMPTY)
    if length < MIN_FRAME:
        raise DecapError(Status.STT_LENGTH)
    if end > length:
        raise DecapError(Status.STT_BOUNDS)
    return Segment(outer, port, frame_id, length, start, end, at)


def parse_frame_header(frame: bytes, profile: Profile) -> FrameHeader:
    """Step 12, on what is here of an STT frame.  Raises :class:`DecapError`."""
    if len(frame) < FRAME_HEADER:
        raise DecapError(Status.HEADER_TRUNCATED)
    version, flags, l4_offset, mss, tci, context_id = struct.unpack_from("!BBBxHHQxx", frame)
    if version != 0:
        raise DecapError(Status.STT_VERSION)
    if flags & FLAG_C and flags & FLAG_P and profile.base != "lenient":
        raise DecapError(Status.STT_FLAGS)
    return FrameHeader(
        is_partial=flags & FLAG_P != 0,
        is_ipv4=flags & FLAG_V != 0,
        is_tcp=flags & FLAG_T != 0,
        l4_offset=l4_offset,
        mss=mss,
        tci=tci,
        context_id=context_id,
    )


def carried(
    frame: bytes, wire: int, header: bytes, link: int, tos: int, profile: Profile, l3: int = 0
) -> Carried:
    """What an STT frame carries: ``wire`` bytes of it, after the outer ``header``."""
    stt = parse_frame_header(frame, profile)
    return Carried(
        "stt",
        stt.context_id,
        payload=frame[FRAME_HEADER:],
        wire=wire - FRAME_HEADER,
        header=header + frame[:FRAME_HEADER],
        link=link,
        tos=tos,
        stt=stt,
        l3=l3,
    )


def parse(outer: Outer, profile: Profile) -> Carried:
    """Steps 9 to 12 for a packet that is a whole frame.  Raises :class:`DecapError`."""
    segment = parse_segment(outer, profile)
    if not segment.is_whole:
        raise DecapError(Status.STT_INCOMPLETE)
    return of_segment(segment, profile)


def of_segment(segment: Segment, profile: Profile) -> Carried:
    """What a segment carries that is a whole frame."""
    outer = segment.outer
    header = outer.packet[: segment.at]
    return carried(
        segment.payload, segment.length, header, outer.link, outer.tos, profile, outer.l3
    )


# ---- describe ----------------------------------------------------------------


def describe(header: bytes, l4: int) -> dict[str, Any]:
    """The fields of the tunnel that are STT's."""
    port, frame_id, offset = struct.unpack_from("!H6xIB", header, l4)
    at = l4 + (offset >> 4) * 4
    flags, mss, context_id = struct.unpack_from("!xBxxHxxQxx", header, at)
    checksums = {0: "unknown", FLAG_C: "verified"}
    fields = {
        "context_id": context_id,
        "source_port": port,
        "frame_id": frame_id,
        "inner_checksum": checksums.get(flags & (FLAG_C | FLAG_P), "partial"),
    }
    if flags & FLAG_P:
        fields["mss"] = mss
    return fields
