"""The inner Ethernet frame: what it is, its VLAN tags, its DSCP and ECN.

Reads and re-marks frames; knows no tunnel protocol and no outer header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from overlay.errors import EncapError, Status
from overlay.tunnel import Tunnel

from .checksum import update

__all__ = [
    "LEAST_IP", "TYPE_IPV4", "TYPE_IPV6", "TYPE_TEB", "Inner",
    "framed", "is_tagged", "merge_ecn", "recognise", "remark", "remove_tags", "unframed", "untag",
]  # fmt: skip

# ---- constants ---------------------------------------------------------------

ETHERNET = 14  # destination, source, EtherType
TAG = 4
TPID_C = 0x8100  # IEEE 802.1Q
TPID_S = 0x88A8  # IEEE 802.1ad
TYPE_IPV4 = 0x0800
TYPE_IPV6 = 0x86DD
LEAST_IP = {TYPE_IPV4: 20, TYPE_IPV6: 40}  # bytes of header
TYPE_TEB = 0x6558  # Transparent Ethernet Bridging: the payload is a whole frame

TCP = 6
UDP = 17
SCTP = 132

NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3  # RFC 3168 5

# ---- recognition -------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    """What a frame is, through up to two VLAN tags.

    ``version`` is 4 or 6 only if the whole IP header is here; the fields
    after it say something only then.  ``l4`` is where the IPv4 header or the
    40 bytes of the IPv6 header end, ``end`` where the packet ends by its own
    length field, both as offsets in the frame.
    """

    tags: int
    vid: int
    ethertype: int
    l3: int
    version: int = 0
    tos: int = 0
    protocol: int = 0
    fragment: bool = False
    l4: int = 0
    end: int = 0
    source: bytes = b""
    destination: bytes = b""


def recognise(frame: bytes) -> Inner:
    """What this frame is.  A frame below 14 bytes is read as if zeros followed."""
    if len(frame) < ETHERNET:
        frame = frame.ljust(ETHERNET, b"\0")
    at, tags, vid = 12, 0, 0
    while tags < 2 and _word(frame, at) in (TPID_C, TPID_S) and len(frame) >= at + TAG + 2:
        if tags == 0:
            vid = _word(frame, at + 2) & 0x0FFF
        at, tags = at + TAG, tags + 1
    ethertype, l3 = _word(frame, at), at + 2
    other = Inner(tags, vid, ethertype, l3)

    if ethertype == TYPE_IPV4 and len(frame) >= l3 + 20 and frame[l3] >> 4 == 4:
        header = (frame[l3] & 15) * 4
        if header < 20 or len(frame) < l3 + header:
            return other
        return Inner(
            tags, vid, ethertype, l3,
            version=4,
            tos=frame[l3 + 1],
            protocol=frame[l3 + 9],
            fragment=_word(frame, l3 + 6) & 0x3FFF != 0,  # MF, offset
            l4=l3 + header,
            end=l3 + _word(frame, l3 + 2),
            source=frame[l3 + 12 : l3 + 16],
            destination=frame[l3 + 16 : l3 + 20],
        )  # fmt: skip
    if ethertype == TYPE_IPV6 and len(frame) >= l3 + 40 and frame[l3] >> 4 == 6:
        return Inner(
            tags, vid, ethertype, l3,
            version=6,
            tos=_word(frame, l3) >> 4 & 0xFF,
            protocol=frame[l3 + 6],
            l4=l3 + 40,
            end=l3 + 40 + _word(frame, l3 + 4),
            source=frame[l3 + 8 : l3 + 24],
            destination=frame[l3 + 24 : l3 + 40],
        )  # fmt: skip
    return other


def _word(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("!H", data, at)[0]
    return value


# ---- VLAN tags ---------------------------------------------------------------
#
#      0                   1                   2                   3
#     +-------------------------------+-----+-+-----------------------+
#     |      TPID 0x8100 / 0x88A8     | PCP |D|          VID          |
#     +-------------------------------+-----+-+-----------------------+


def is_tagged(frame: bytes) -> bool:
    """Whether the EtherType is a tag's; ``frame`` has at least 14 bytes."""
    return _word(frame, 12) in (TPID_C, TPID_S)


def remove_tags(frame: bytes) -> bytes:
    """The frame without its first two tags; each removal leaves at least 14 bytes."""
    for _ in range(2):
        if len(frame) < ETHERNET + TAG or not is_tagged(frame):
            break
        frame = frame[:12] + frame[16:]
    return frame


def untag(tunnel: Tunnel, frame: bytes) -> tuple[bytes, int]:
    """The frame as the tunnel carries it, and the TCI of a tag that STT carries, or 0.

    Raises :class:`EncapError` FRAME_TOO_SHORT or FRAME_TAGGED.
    """
    if len(frame) < ETHERNET:
        raise EncapError(Status.FRAME_TOO_SHORT)
    if tunnel.inner_vlan == "reject":
        if is_tagged(frame):
            raise EncapError(Status.FRAME_TAGGED)
        return frame, 0
    if tunnel.inner_vlan == "keep" and tunnel.name == "stt":
        if _word(frame, 12) != TPID_C:
            return frame, 0
        if len(frame) < ETHERNET + TAG:
            raise EncapError(Status.FRAME_TOO_SHORT)
        # Bit 12 is DEI in the tag and "valid" in STT's TCI.
        return frame[:12] + frame[16:], _word(frame, 14) & 0xEFFF | 0x1000
    carries_ip = getattr(tunnel, "payload", "ethernet") == "ip"
    if tunnel.inner_vlan == "keep" and tunnel.name != "nvgre" and not carries_ip:
        return frame, 0
    rest = remove_tags(frame)
    removed = (len(frame) - len(rest)) // TAG
    if removed < 2 and is_tagged(rest):  # too short for this removal
        raise EncapError(Status.FRAME_TOO_SHORT)
    if tunnel.name == "nvgre" and is_tagged(rest):
        raise EncapError(Status.FRAME_TAGGED)
    return rest, 0


# ---- IP without Ethernet -----------------------------------------------------


def unframed(frame: bytes) -> tuple[bytes, int]:
    """The IP packet in an untagged frame, and its EtherType.

    Raises :class:`EncapError` FRAME_NOT_IP, for a packet without a whole header too.
    """
    ethertype = _word(frame, 12)
    least = LEAST_IP.get(ethertype)
    if least is None or len(frame) < ETHERNET + least:
        raise EncapError(Status.FRAME_NOT_IP)
    return frame[ETHERNET:], ethertype


def framed(packet: bytes, ethertype: int) -> bytes:
    """The frame, from and to no MAC address, that stands for an IP packet."""
    return bytes(12) + struct.pack("!H", ethertype) + packet


# ---- DSCP and ECN ------------------------------------------------------------


def merge_ecn(inner: int, outer: int) -> int | None:
    """The ECN field after decap (RFC 6040 4.2)::

                  |               outer header
        inner     | Not-ECT   ECT(0)    ECT(1)    CE
        ----------+----------------------------------------
        Not-ECT   | Not-ECT   Not-ECT   Not-ECT   drop
        ECT(0)    | ECT(0)    ECT(0)    ECT(1)    CE
        ECT(1)    | ECT(1)    ECT(1)    ECT(1)    CE
        CE        | CE        CE        CE        CE

    None is a packet to be dropped.
    """
    if inner == NOT_ECT:
        return None if outer == CE else NOT_ECT
    if outer == CE:
        return CE
    if inner == ECT0 and outer == ECT1:
        return ECT1
    return inner


def remark(frame: bytes, inner: Inner, tos: int) -> bytes:
    """The frame with this TOS or traffic class; the IPv4 checksum follows (RFC 1624)."""
    if tos == inner.tos:
        return frame
    marked = bytearray(frame)
    old = _word(frame, inner.l3)
    if inner.version == 4:
        new = old & 0xFF00 | tos
        check = update(_word(frame, inner.l3 + 10), old, new)
        struct.pack_into("!H", marked, inner.l3 + 10, check)
    else:
        new = old & 0xF00F | tos << 4
    struct.pack_into("!H", marked, inner.l3, new)
    return bytes(marked)
