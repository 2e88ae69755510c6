"""What decap does last, whatever the protocol: steps 13 to 17, then mending.

Takes what a tunnel header was found to carry; gives the frame as the overlay
is to see it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlay.errors import DecapError, Status
from overlay.profile import Profile

from . import offload
from .inner import (
    ETHERNET,
    LEAST_IP,
    framed,
    is_tagged,
    merge_ecn,
    recognise,
    remark,
    remove_tags,
)
from .outer import Outer

if TYPE_CHECKING:
    from .stt import FrameHeader

__all__ = ["PARTIAL", "Carried", "Delivered", "deliver", "frame_of"]

UNKNOWN, PARTIAL = 0, 2  # of the column of checksums


@dataclass(frozen=True)
class Carried:
    """What a tunnel header carries.

    ``payload`` is what is here of it, ``wire`` its length on the wire, ``header``
    all that was before it, with the outer IP header at ``l3``.  It is a frame, or, where
    ``ethertype`` is not 0, an IP packet of that type.  ``stt`` is the STT frame header.
    """

    protocol: str
    key: int
    payload: bytes
    wire: int
    header: bytes
    link: int
    tos: int
    stt: FrameHeader | None = None
    l3: int = 0
    ethertype: int = 0

    @staticmethod
    def of(outer: Outer, protocol: str, key: int, at: int, ethertype: int = 0) -> Carried:
        """What lies from ``at`` to the end of the IP payload or datagram."""
        return Carried(
            protocol,
            key,
            payload=outer.packet[at : outer.here],
            wire=outer.end - at,
            header=outer.packet[:at],
            link=outer.link,
            tos=outer.tos,
            l3=outer.l3,
            ethertype=ethertype,
        )


@dataclass(frozen=True)
class Delivered:
    """A mended inner frame.

    ``wire`` is its length on the wire, at least ``len(frame)``; ``end`` is
    where it ended in the packet, ``grown`` by how much a tag put back, or an Ethernet
    header, made it longer (or, below 0, tags stripped made it shorter); ``l3`` is where the
    outer IP header lies in the packet, or None where the Ethernet header that an IP
    packet was given lies over it.  ``checksum`` is what the tunnel header
    says of the frame's, as in a batch; None where it says nothing.
    """

    protocol: str
    key: int
    frame: bytes
    wire: int
    header: bytes
    end: int
    link: int
    mss: int
    grown: int
    l3: int | None
    checksum: int | None


def deliver(carried: Carried, profile: Profile, *, partial: bool = False) -> Delivered:
    """Check and mend the inner frame.  Raises :class:`DecapError`.

    ``partial``: a partial checksum stays so.
    """
    stt = carried.stt
    if profile.keys is not None and carried.key not in profile.keys:
        raise DecapError(Status.UNKNOWN_KEY)
    frame = frame_of(carried)
    _check_tags(carried, frame, profile)
    is_cut = len(carried.payload) < carried.wire
    if stt is not None and stt.is_partial and not is_cut:
        offload.check(stt, frame)
    frame = _mark(frame, carried.tos, profile)

    mss, checksum = 0, None
    if stt is not None and stt.is_partial:
        mss, checksum = stt.mss if stt.is_tcp else 0, UNKNOWN
        if not is_cut and partial:
            checksum = PARTIAL
        elif not is_cut:
            frame = offload.complete(stt, frame)
    frame = _retag(frame, stt, profile)
    grown = len(frame) - len(carried.payload)
    return Delivered(
        carried.protocol,
        carried.key,
        frame,
        wire=carried.wire + grown,
        header=carried.header,
        end=len(carried.header) + len(carried.payload),
        link=carried.link,
        mss=mss,
        grown=grown,
        l3=None if carried.ethertype and carried.protocol == "gre" else carried.l3,
        checksum=checksum,
    )


def frame_of(carried: Carried) -> bytes:
    """Step 14: the frame that is carried, or that stands for what is."""
    if len(carried.payload) < LEAST_IP.get(carried.ethertype, ETHERNET):
        raise DecapError(Status.INNER_TOO_SHORT)
    if carried.ethertype:
        return framed(carried.payload, carried.ethertype)
    return carried.payload


def _check_tags(carried: Carried, frame: bytes, profile: Profile) -> None:
    """RFC 7637 3.3 (MUST), RFC 7348 6.1 (SHOULD, unless configured otherwise)."""
    tagged = is_tagged(frame)
    if tagged and carried.protocol == "nvgre" and profile.base != "lenient":
        raise DecapError(Status.INNER_TAGGED)
    tagged = tagged or _tag_in_header(carried.stt, profile)
    if tagged and profile.inner_vlan == "reject":
        raise DecapError(Status.INNER_TAGGED)


def _tag_in_header(stt: FrameHeader | None, profile: Profile) -> bool:
    """Whether the STT header carries a tag; some senders do not set the valid bit."""
    if stt is None:
        return False
    return stt.tci & 0x1000 != 0 or (profile.base == "lenient" and stt.tci != 0)


def _mark(frame: bytes, tos: int, profile: Profile) -> bytes:
    """The frame with the ECN field of RFC 6040 4.2 and, if uniform, the outer DSCP."""
    inner = recognise(frame)
    if not inner.version:
        return frame
    dscp, ecn = inner.tos & 0xFC, inner.tos & 3
    if profile.ecn == "rfc6040":
        merged = merge_ecn(ecn, tos & 3)
        if merged is None:
            raise DecapError(Status.ECN_CONGESTION)
        ecn = merged
    if profile.dscp == "uniform":
        dscp = tos & 0xFC
    return remark(frame, inner, dscp | ecn)


def _retag(frame: bytes, stt: FrameHeader | None, profile: Profile) -> bytes:
    """The frame with the tag of the STT header put back, or with all tags stripped."""
    if profile.inner_vlan == "strip":
        return remove_tags(frame)
    if stt is not None and _tag_in_header(stt, profile):
        return frame[:12] + struct.pack("!HH", 0x8100, stt.tci & 0xEFFF) + frame[12:]
    return frame
