"""Super-frames by the batch: cut to packets, put together, split behind a tunnel header.

What a packet is, :mod:`.offload` and :mod:`.outer` know; here are rows and the outer
fields that differ from one packet of a super-packet to the next.
"""

from __future__ import annotations

import struct

from overlay.batch import Batch
from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import PROTOCOLS

from . import offload, outer, rows
from .checksum import checksum, pseudo_header

__all__ = ["coalesce", "segment"]

# ---- constants ---------------------------------------------------------------

ETHERNET, TAG = 14, 4
PARTIAL = 2
TCP_HEADER, UDP_HEADER = 20, 8
SHIM = 8  # VXLAN, VXLAN-GPE, and GENEVE without options
TYPE_TEB = 0x6558
STT_PORT = 7471
DF = 0x4000
PSH = 0x08

_CARRIERS = {
    "vxlan": outer.UDP,
    "vxlan-gpe": outer.UDP,
    "geneve": outer.UDP,
    "nvgre": outer.GRE,
    "gre": outer.GRE,
}
_NAMES = {0: ""} | {kind.number: name for name, kind in PROTOCOLS.items()}
_RFC = Profile.of("rfc")

# ---- segment -----------------------------------------------------------------


def segment(batch: Batch, out: Batch, mtu: int) -> int:
    """The packets of every row, appended to ``out``; returns how many."""
    first = out.count
    for row in rows.pending(batch):
        try:
            data, wire, link = rows.read(batch, row)
            packets = _packets(batch, row, data, wire, link, mtu)
        except DecapError as error:
            batch.status[row] = error.status
            continue
        if not rows.fits(out, [len(packet) for packet in packets or [data]]):
            batch.status[row] = Status.NO_ROOM
            continue
        if packets is None:
            _append(out, batch, row, data, wire, int(batch.checksum[row]))
        for packet in packets or []:
            _append(out, batch, row, packet, len(packet), 0)
    return out.count - first


def _append(
    out: Batch, batch: Batch, row: int, data: bytes, wire: int, check: int, mss: int = 0
) -> None:
    key, link = int(batch.key[row]), int(batch.link[row])
    protocol = int(batch.protocol[row])
    rows.append(out, data, wire, row, key, protocol, mss=mss, link=link, checksum=check)


def _packets(
    batch: Batch, row: int, data: bytes, wire: int, link: int, mtu: int
) -> list[bytes] | None:
    """What the row is cut into; None where it is copied.  Raises DecapError."""
    mss, partial = int(batch.mss[row]), batch.checksum[row] == PARTIAL
    protocol = _NAMES.get(int(batch.protocol[row]), "")
    if mtu and batch.protocol[row]:
        return _of_packet(protocol, data, wire, link, mss, partial, mtu)
    if link or not (mss or partial):
        return None
    if len(data) != wire:
        raise DecapError(Status.FRAME_CUT)
    packets = offload.cut(data, mss)
    return packets if packets and (len(packets) > 1 or partial) else None


def _of_packet(
    protocol: str, data: bytes, wire: int, link: int, mss: int, partial: bool, mtu: int
) -> list[bytes] | None:
    """The same of a tunnel packet, which leaves as packets of at most ``mtu`` bytes of IP."""
    if link:
        raise DecapError(Status.LINK_TYPE)
    if len(data) < ETHERNET:
        raise DecapError(Status.ETHERNET_TRUNCATED)
    l3 = ETHERNET + (TAG if data[12:14] == b"\x81\0" else 0)
    fits = wire - l3 <= mtu
    packets: list[bytes] | None = None
    if not fits if protocol == "stt" else mss or partial:
        if len(data) != wire:
            raise DecapError(Status.FRAME_CUT)
        packets = split_stt(data, mtu) if protocol == "stt" else split(data, protocol, mss)
        if packets and fits and len(packets) == 1 and not partial:
            return None
    if any(len(packet) - l3 > mtu for packet in packets or ([] if fits else [data])):
        raise DecapError(Status.MTU_EXCEEDED)
    if packets is None and not fits:
        raise DecapError(Status.MTU_EXCEEDED)
    return packets


# ---- split -------------------------------------------------------------------


def split(packet: bytes, protocol: str, mss: int) -> list[bytes] | None:
    """One packet for each inner one of a packet that carries a frame; None where it is none."""
    carrier = _carrier(packet, _CARRIERS.get(protocol, 0))
    if carrier is None:
        return None
    l4, end = carrier.l4, carrier.end
    size = _header(protocol, packet[l4:end])
    if size is None or end < l4 + size:
        return None
    at = l4 + size
    pieces = offload.cut(packet[at:end], mss) if end - at >= ETHERNET else None
    if pieces is None:
        return None
    counts = carrier.family == 4 and not _word(packet, carrier.l3 + 6) & DF
    made = []
    for number, piece in enumerate(pieces):
        body = bytearray(packet[l4:at] + piece)
        if carrier.protocol == outer.UDP:
            had = body[6:8] != b"\0\0"
            struct.pack_into("!HH", body, 4, len(body), 0)
            if had:
                struct.pack_into("!H", body, 6, _sum(carrier, bytes(body)) or 0xFFFF)
        made.append(_with_ip(carrier, bytes(body), number if counts else 0))
    return made


def _header(protocol: str, body: bytes) -> int | None:
    """Bytes of IP payload before the frame, by a header that has to be copied and no more."""
    if protocol in ("nvgre", "gre"):
        words = {"nvgre": (0x2000,), "gre": (0x2000, 0x0000)}[protocol]
        if len(body) < 4 or _word(body, 0) not in words or _word(body, 2) != TYPE_TEB:
            return None
        return 4 if _word(body, 0) == 0 else 8
    if len(body) < UDP_HEADER + SHIM or _word(body, 4) != len(body):
        return None
    shim = body[UDP_HEADER:]
    if protocol == "vxlan":
        return UDP_HEADER + SHIM if shim[0] & 0x08 else None
    if protocol == "vxlan-gpe":
        return UDP_HEADER + SHIM if shim[0] & 0x0C == 0x0C and shim[3] == 3 else None
    if shim[0] & 0xC0 or _word(shim, 2) != TYPE_TEB:
        return None
    return UDP_HEADER + SHIM + 4 * (shim[0] & 0x3F)


def split_stt(packet: bytes, mtu: int) -> list[bytes] | None:
    """An STT packet as segments of at most ``mtu`` bytes of IP; None where it is none."""
    carrier = _carrier(packet, outer.TCP)
    if carrier is None or carrier.end - carrier.l4 <= TCP_HEADER:
        return None
    tcp = packet[carrier.l4 : carrier.l4 + TCP_HEADER]
    size = mtu - (carrier.l4 - carrier.l3) - TCP_HEADER
    if tcp[12] >> 4 != 5 or _word(tcp, 2) != STT_PORT or size < 1:
        return None
    payload = packet[carrier.l4 + TCP_HEADER : carrier.end]
    made = []
    for number, offset in enumerate(range(0, len(payload), size)):
        body = bytearray(tcp + payload[offset : offset + size])
        sequence = struct.unpack_from("!I", tcp, 4)[0] + offset
        struct.pack_into("!I", body, 4, sequence & 0xFFFFFFFF)
        if offset + size < len(payload):
            body[13] &= ~PSH & 0xFF
        struct.pack_into("!H", body, 16, 0)
        struct.pack_into("!H", body, 16, _sum(carrier, bytes(body)))
        made.append(_with_ip(carrier, bytes(body), number))
    return made


def _carrier(packet: bytes, protocol: int) -> outer.Outer | None:
    """The outer headers, if they are plain and carry this IP protocol."""
    try:
        found = outer.parse(packet, len(packet), 0, _RFC)
    except DecapError:
        return None
    plain = found.l4 - found.l3 == (20 if found.family == 4 else 40)
    return found if plain and found.protocol == protocol else None


def _sum(carrier: outer.Outer, body: bytes) -> int:
    ends = carrier.source, carrier.destination
    return checksum(pseudo_header(*ends, carrier.protocol, len(body)) + body)


def _with_ip(carrier: outer.Outer, body: bytes, more: int) -> bytes:
    """The link and IP headers of the carrier for another payload, the IPv4 ID higher by more."""
    head = bytearray(carrier.packet[: carrier.l4])
    l3 = carrier.l3
    if carrier.family == 4:
        ip_id = _word(carrier.packet, l3 + 4) + more & 0xFFFF
        struct.pack_into("!HH", head, l3 + 2, 20 + len(body), ip_id)
        struct.pack_into("!H", head, l3 + 10, 0)
        struct.pack_into("!H", head, l3 + 10, checksum(bytes(head[l3:])))
    else:
        struct.pack_into("!H", head, l3 + 4, len(body))
    return bytes(head) + body


def _word(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("!H", data, at)[0]
    return value


# ---- coalesce ----------------------------------------------------------------


def coalesce(batch: Batch, out: Batch) -> int:
    """Super-frames of the rows that follow on, and the others, appended to ``out``."""
    first = out.count
    waiting = list(rows.pending(batch))
    while waiting:
        row = waiting[0]
        try:
            data, wire, _ = rows.read(batch, row)
        except DecapError as error:
            batch.status[row] = error.status
            waiting.pop(0)
            continue
        taken, whole = _run(batch, waiting)
        frame, mss = whole or (data, int(batch.mss[row]))
        if not rows.fits(out, [len(frame)]):
            batch.status[waiting[:taken]] = Status.NO_ROOM
        elif whole:
            _append(out, batch, row, frame, len(frame), PARTIAL, mss)
        else:
            _append(out, batch, row, frame, wire, int(batch.checksum[row]), mss)
        del waiting[:taken]
    return out.count - first


def _run(batch: Batch, waiting: list[int]) -> tuple[int, tuple[bytes, int] | None]:
    """How many of these rows are one super-frame, at least 1; and that."""
    frames: list[bytes] = []
    whole = None
    for row in waiting:
        if not _is_mergeable(batch, row) or not _are_alike(batch, waiting[0], row):
            break
        frames.append(rows.read(batch, row)[0])
        if len(frames) > 1:
            longer = offload.merge(frames)
            if longer is None:
                return len(frames) - 1, whole
            whole = longer
    return max(1, len(frames)), whole


def _is_mergeable(batch: Batch, row: int) -> bool:
    """Whether the row is one frame, all here."""
    try:
        data, wire, link = rows.read(batch, row)
    except DecapError:
        return False
    cut = len(data) != wire
    return not (cut or link or batch.mss[row] or batch.checksum[row] == PARTIAL)


def _are_alike(batch: Batch, first: int, row: int) -> bool:
    return bool(batch.key[first] == batch.key[row] and batch.protocol[first] == batch.protocol[row])
