"""Inner L4 checksums left to the receiver, and inner TCP and UDP cut and put together.

What STT carries for a NIC (draft-davie-stt-08 3.1, 3.1.1), done in software:
seed a partial checksum, complete it, cut a packet by its MSS; and the reverse.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from overlay.errors import DecapError, Status

from .checksum import checksum, ones_sum, pseudo_header
from .inner import ETHERNET, TCP, TYPE_IPV4, TYPE_IPV6, UDP, Inner, recognise

if TYPE_CHECKING:
    from .stt import FrameHeader

__all__ = ["check", "complete", "cut", "is_offloadable", "merge", "seed", "segments", "tcp_payload"]

# ---- constants ---------------------------------------------------------------

TCP_HEADER, UDP_HEADER = 20, 8
TCP_CHECKSUM, UDP_CHECKSUM = 16, 6  # offsets in the L4 header

FIN, SYN, RST, PSH, ACK, URG, CWR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x80

IP_MOST = 65535  # bytes of IP of a super-frame
UDP_MOST = 64  # datagrams of one, as Linux takes it

# ---- transmit ----------------------------------------------------------------


def is_offloadable(frame: bytes, inner: Inner) -> bool:
    """Whether a receiver could complete this frame's L4 checksum by the STT header alone."""
    if inner.tags or not inner.version or inner.fragment or inner.protocol not in (TCP, UDP):
        return False
    header = TCP_HEADER if inner.protocol == TCP else UDP_HEADER
    if not inner.l4 + header <= inner.end <= len(frame):
        return False
    # RFC 768: zero over IPv4 says that no checksum was made.
    at = inner.l4 + UDP_CHECKSUM
    return inner.protocol == TCP or inner.version == 6 or frame[at : at + 2] != b"\0\0"


def seed(frame: bytes, inner: Inner) -> bytes:
    """The frame with the folded sum of the pseudo header, not inverted, as its checksum."""
    pseudo = pseudo_header(inner.source, inner.destination, inner.protocol, inner.end - inner.l4)
    at = inner.l4 + (TCP_CHECKSUM if inner.protocol == TCP else UDP_CHECKSUM)
    return frame[:at] + struct.pack("!H", ones_sum(pseudo)) + frame[at + 2 :]


def tcp_payload(frame: bytes, inner: Inner) -> int:
    """Where the TCP payload begins, or 0 where there is no whole TCP header before ``end``."""
    if not inner.version or inner.fragment or inner.protocol != TCP:
        return 0
    if not inner.l4 + TCP_HEADER <= inner.end <= len(frame):
        return 0
    header = (frame[inner.l4 + 12] >> 4) * 4
    at = inner.l4 + header
    return at if header >= TCP_HEADER and at <= inner.end else 0


# ---- receive -----------------------------------------------------------------


def check(header: FrameHeader, frame: bytes) -> None:
    """Step 16: the offload fields fit the frame, which is not cut.  Raises :class:`DecapError`."""
    ip, version = (20, 4) if header.is_ipv4 else (40, 6)
    if header.l4_offset < ETHERNET + ip:
        raise DecapError(Status.STT_L4_OFFSET)
    l4_end = header.l4_offset + (TCP_HEADER if header.is_tcp else UDP_HEADER)
    if l4_end > len(frame):
        raise DecapError(Status.STT_L4_HEADER)
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    if ethertype != (TYPE_IPV4 if header.is_ipv4 else TYPE_IPV6) or frame[14] >> 4 != version:
        raise DecapError(Status.STT_OFFLOAD)
    if not l4_end <= _end(header, frame) <= len(frame):
        raise DecapError(Status.STT_OFFLOAD)
    if header.is_ipv4 and not 20 <= (frame[14] & 15) * 4 <= header.l4_offset - ETHERNET:
        raise DecapError(Status.STT_OFFLOAD)


def complete(header: FrameHeader, frame: bytes) -> bytes:
    """The frame with its L4 checksum computed from nothing; :func:`check` came before."""
    end = _end(header, frame)
    protocol = TCP if header.is_tcp else UDP
    if header.is_ipv4:
        source, destination = frame[26:30], frame[30:34]
    else:
        source, destination = frame[22:38], frame[38:54]
    return _finish(frame, header.l4_offset, end, protocol, source, destination)


def _end(header: FrameHeader, frame: bytes) -> int:
    """Where the inner packet ends by its own length field."""
    if header.is_ipv4:
        return ETHERNET + int(struct.unpack_from("!H", frame, 16)[0])
    return ETHERNET + 40 + int(struct.unpack_from("!H", frame, 18)[0])


def _finish(
    frame: bytes, l4: int, end: int, protocol: int, source: bytes, destination: bytes
) -> bytes:
    at = l4 + (TCP_CHECKSUM if protocol == TCP else UDP_CHECKSUM)
    cleared = frame[:at] + b"\0\0" + frame[at + 2 :]
    pseudo = pseudo_header(source, destination, protocol, end - l4)
    total = checksum(pseudo + cleared[l4:end])
    if protocol == UDP:
        total = total or 0xFFFF  # RFC 768
    return frame[:at] + struct.pack("!H", total) + frame[at + 2 :]


# ---- segmentation ------------------------------------------------------------


def segments(frame: bytes, mss: int) -> list[bytes]:
    """The frame as packets of at most ``mss`` bytes of TCP payload, checksums finished.

    The frame itself, where it is not TCP over IP, or not longer, or ``mss`` is 0.
    """
    pieces = cut(frame, mss) if mss and recognise(frame).protocol == TCP else None
    return pieces if pieces and len(pieces) > 1 else [frame]


def payload_start(frame: bytes, inner: Inner) -> int:
    """Where the payload of TCP or UDP begins; 0 where its header is not whole before ``end``."""
    if inner.protocol == UDP and inner.version and not inner.fragment:
        at = inner.l4 + UDP_HEADER
        return at if at <= inner.end <= len(frame) else 0
    return tcp_payload(frame, inner)


def cut(frame: bytes, mss: int) -> list[bytes] | None:
    """The TCP or UDP packets, each with ``mss`` bytes of payload but the last, that a
    super-frame stands for; 0 is all in one.  None for any other frame.

    Every packet has the headers of the first: the IPv4 ID counts up, FIN and
    PSH are on the last only, CWR on the first only.  Checksums are made from nothing.
    """
    inner = recognise(frame)
    at = payload_start(frame, inner)
    if not at:
        return None
    starts = range(at, inner.end, mss) if mss and inner.end > at else [at]
    return [
        _segment(frame, inner, at, start, min(start + mss, inner.end) if mss else inner.end, number)
        for number, start in enumerate(starts)
    ]


def _segment(frame: bytes, inner: Inner, at: int, start: int, end: int, number: int) -> bytes:
    """Packet ``number``: the headers, which end ``at``, and the payload from start to end."""
    piece = bytearray(frame[:at] + frame[start:end])
    l3, l4 = inner.l3, inner.l4
    if inner.version == 4:
        ip_id = struct.unpack_from("!H", frame, l3 + 4)[0]
        struct.pack_into("!HH", piece, l3 + 2, len(piece) - l3, (ip_id + number) & 0xFFFF)
        struct.pack_into("!H", piece, l3 + 10, 0)
        struct.pack_into("!H", piece, l3 + 10, checksum(bytes(piece[l3:l4])))
    else:
        struct.pack_into("!H", piece, l3 + 4, len(piece) - l4)

    if inner.protocol == UDP:
        struct.pack_into("!H", piece, l4 + 4, len(piece) - l4)
    else:
        sequence = struct.unpack_from("!I", frame, l4 + 4)[0] + start - at
        struct.pack_into("!I", piece, l4 + 4, sequence & 0xFFFFFFFF)
        if start != at:
            piece[l4 + 13] &= ~CWR & 0xFF
        if end != inner.end:
            piece[l4 + 13] &= ~(FIN | PSH) & 0xFF
    return _finish(bytes(piece), l4, len(piece), inner.protocol, inner.source, inner.destination)


# ---- coalescing --------------------------------------------------------------


def merge(frames: Sequence[bytes]) -> tuple[bytes, int] | None:
    """The super-frame that cut by its MSS gives exactly these two frames or more; and the MSS.

    None where there is none, or none that a NIC would make: TCP with SYN, FIN, RST, URG or
    without ACK, IPv4 options, more than 65535 bytes of IP or 64 datagrams of UDP.
    """
    first = frames[0]
    inner = recognise(first)
    at = payload_start(first, inner)
    mss = inner.end - at
    if not at or not mss or (inner.version == 4 and inner.l4 - inner.l3 != 20):
        return None
    if inner.protocol == TCP and first[inner.l4 + 13] & (FIN | SYN | RST | URG | ACK) != ACK:
        return None
    if inner.protocol == UDP and len(frames) > UDP_MOST:
        return None
    whole = bytearray(first + b"".join(frame[at:] for frame in frames[1:]))
    length = len(whole) - inner.l3
    if length > IP_MOST:
        return None
    if inner.version == 4:
        struct.pack_into("!H", whole, inner.l3 + 2, length)
        struct.pack_into("!H", whole, inner.l3 + 10, 0)
        header = bytes(whole[inner.l3 : inner.l4])
        struct.pack_into("!H", whole, inner.l3 + 10, checksum(header))
    else:
        struct.pack_into("!H", whole, inner.l3 + 4, length - 40)
    if inner.protocol == UDP:
        struct.pack_into("!H", whole, inner.l4 + 4, len(whole) - inner.l4)
    else:
        whole[inner.l4 + 13] |= sum(frames[-1][inner.l4 + 13 : inner.l4 + 14]) & PSH
    if cut(bytes(whole), mss) != list(frames):
        return None
    return seed(bytes(whole), recognise(bytes(whole))), mss
