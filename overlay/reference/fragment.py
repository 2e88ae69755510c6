"""Outer IP fragments to whole packets (RFC 791 3.2, RFC 8200 4.5, RFC 5722).

Knows addresses, identifications and offsets; what a packet carries is others'.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.codec import nanoseconds
from overlay.errors import DecapError, Status
from overlay.fragment import FragmentReassembler as Interface
from overlay.fragment import FragmentStats
from overlay.profile import Profile

from . import outer, rows
from .checksum import checksum

__all__ = ["FragmentReassembler"]

# ---- constants ---------------------------------------------------------------

PAGE = 2048
HEADER_MAX = 256  # bytes before the payload
PACKET_MAX = 65535
MF, OFFSET = 0x2000, 0x1FFF
CE = 3

Key = tuple[int, bytes, bytes, int, int]

# ---- one fragment ------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A fragment: the headers before it, its payload and where that belongs."""

    key: Key
    header: bytes  # without a fragment header
    l3: int
    payload: bytes
    offset: int
    more: bool
    ecn: int

    @property
    def end(self) -> int:
        return self.offset + len(self.payload)


def read(packet: bytes, link: int) -> Piece:
    """A packet of which :func:`outer.parse` says that it is a fragment.  Raises DecapError."""
    l3, version = outer._link(packet, link)
    if version == 4:
        tos, total, ident, word, protocol = struct.unpack_from("!xBHHHxB", packet, l3)
        at = l3 + (packet[l3] & 15) * 4
        header, end = packet[:at], l3 + total
        key = (4, packet[l3 + 12 : l3 + 16], packet[l3 + 16 : l3 + 20], ident, protocol)
        offset, more, before = (word & OFFSET) * 8, word & MF != 0, at - l3
    else:
        word, payload = struct.unpack_from("!IH", packet, l3)
        tos, end = word >> 20 & 0xFF, l3 + 40 + payload
        next_at, at = l3 + 6, l3 + 40
        while packet[next_at] != outer.FRAGMENT:
            next_at, at = at, at + (packet[at + 1] + 1) * 8
        protocol, place, ident = struct.unpack_from("!BxHI", packet, at)
        header = packet[:next_at] + bytes([protocol]) + packet[next_at + 1 : at]
        key = (6, packet[l3 + 8 : l3 + 24], packet[l3 + 24 : l3 + 40], ident, 0)
        offset, more, before, at = place & 0xFFF8, place & 1 != 0, at - l3 - 40, at + 8
    if len(header) > HEADER_MAX:
        raise DecapError(Status.IP_EXTENSION)
    length = end - at
    if length <= 0 or (more and length % 8) or before + offset + length > PACKET_MAX:
        raise DecapError(Status.IP_LENGTH)
    return Piece(key, header, l3, packet[at:end], offset, more, tos & 3)


# ---- its datagram ------------------------------------------------------------


@dataclass
class Datagram:
    """What has come of one packet."""

    first: int
    header: bytes = b""
    l3: int = 0
    end: int = 0  # 0 until the last fragment came
    pieces: dict[int, bytes] = field(default_factory=dict)
    pages: set[int] = field(default_factory=set)
    marks: set[int] = field(default_factory=set)
    fragments: int = 0
    dead: bool = False  # lost to an overlap: what still comes is lost too

    def units(self) -> set[int]:
        """The units of 8 bytes that are here."""
        return {
            unit
            for at, piece in self.pieces.items()
            for unit in range(at // 8, (at + len(piece) + 7) // 8)
        }

    def data(self) -> bytearray:
        """The payload, as far as it is here."""
        size = max((at + len(piece) for at, piece in self.pieces.items()), default=0)
        data = bytearray(size)
        for at, piece in self.pieces.items():
            data[at : at + len(piece)] = piece
        return data

    def judge(self, piece: Piece) -> Status:
        """HELD: the piece is new and fits.  OVERLAP: it does not, or has come before."""
        units = set(range(piece.offset // 8, (piece.end + 7) // 8))
        here = self.units() & units
        data = self.data()
        duplicate = here == units and data[piece.offset : piece.end] == piece.payload
        if duplicate and (self.end != 0 and piece.end == self.end) == (not piece.more):
            return Status.FRAGMENT_OVERLAP
        wrong_end = self.end and (not piece.more or piece.end > self.end)
        if here or wrong_end or (not piece.more and len(data) > piece.end):
            self.dead = True
            return Status.FRAGMENT_OVERLAP
        return Status.FRAGMENT_HELD

    def keep(self, piece: Piece) -> None:
        self.pieces[piece.offset] = piece.payload
        self.marks.add(piece.ecn)
        self.fragments += 1
        if piece.offset == 0:
            self.header, self.l3 = piece.header, piece.l3
        if not piece.more:
            self.end = piece.end

    @property
    def whole(self) -> bool:
        return self.end != 0 and sum(map(len, self.pieces.values())) == self.end

    def join(self) -> bytes:
        """The packet.  Raises DecapError where it cannot be one."""
        header, l3 = bytearray(self.header), self.l3
        v6 = header[l3] >> 4 == 6
        size = len(header) - l3 + self.end
        if size > PACKET_MAX + (40 if v6 else 0):
            raise DecapError(Status.IP_LENGTH)
        if 0 in self.marks and self.marks != {0}:  # RFC 3168 5.3
            raise DecapError(Status.ECN_CONGESTION)
        if CE in self.marks:
            header[l3 + 1] |= CE << 4 if v6 else CE
        if v6:
            struct.pack_into("!H", header, l3 + 4, size - 40)
        else:
            word = struct.unpack_from("!H", header, l3 + 6)[0] & ~(MF | OFFSET)
            struct.pack_into("!H", header, l3 + 2, size)
            struct.pack_into("!H", header, l3 + 6, word)
            header[l3 + 10 : l3 + 12] = bytes(2)
            struct.pack_into("!H", header, l3 + 10, checksum(bytes(header[l3:])))
        return bytes(header) + bytes(self.data())


# ---- all of them -------------------------------------------------------------


class FragmentReassembler(Interface):
    """The twin of ``csrc/fragment.c``.

    Sources are told apart by their addresses, in C by a hash of them: only where two
    that flood share one is another datagram given up.
    """

    def __init__(self, timeout: float = 30.0, memory: int = 4 << 20) -> None:
        super().__init__(timeout, memory)
        self._datagrams: dict[Key, Datagram] = {}  # in the order of their first fragments
        self._counts: dict[str, int] = dict.fromkeys(
            ("taken", "joined", "overlaps", "limits", "timeouts", "refused", "packets"), 0
        )

    def _push(self, batch: Batch, out: Batch, now: npt.NDArray[np.uint64]) -> int:
        rows.check_pair(batch, out)
        before = out.count
        for row in np.flatnonzero(batch.status == Status.IP_FRAGMENT).tolist():
            batch.status[row] = self._row(batch, row, out, int(now[row]))
        return out.count - before

    def _row(self, batch: Batch, row: int, out: Batch, now: int) -> Status:
        try:
            packet, wire, link = rows.read(batch, row)
            if len(packet) != wire:
                return Status.FRAME_CUT
            whole = self.take(packet, link, now)
        except DecapError as error:
            return Status(error.status)
        if whole is None:
            return Status.FRAGMENT_HELD
        if whole is packet:
            return Status.IP_FRAGMENT
        if not rows.fits(out, [len(whole)]):
            return Status.NO_ROOM
        rows.append(out, whole, len(whole), row, 0, 0, link=link)
        return Status.OK

    def take(self, packet: bytes, link: int, now: int) -> bytes | None:
        """The whole packet, None if this one is held; raises DecapError where it is lost."""
        self._expire(now)
        try:
            outer.parse(packet, len(packet), link, Profile.of("rfc"))
            return packet
        except DecapError as error:
            if error.status is not Status.IP_FRAGMENT:
                return packet
        self._counts["taken"] += 1
        try:
            piece = read(packet, link)
        except DecapError:
            self._counts["refused"] += 1
            raise
        datagram = self._datagrams.get(piece.key)
        if datagram is None:
            while len(self._datagrams) >= self.memory // PAGE:
                self._evict(piece.key)
            datagram = self._datagrams[piece.key] = Datagram(now)
        self._accept(piece, datagram)
        if not datagram.whole:
            return None
        try:
            whole = datagram.join()
        except DecapError:
            self._forget(piece.key, "refused")
            raise
        self._forget(piece.key, "joined")
        self._counts["packets"] += 1
        return whole

    def _accept(self, piece: Piece, datagram: Datagram) -> None:
        status = Status.FRAGMENT_OVERLAP if datagram.dead else datagram.judge(piece)
        if status is Status.FRAGMENT_OVERLAP:
            self._counts["overlaps"] += 1
            if datagram.dead:  # RFC 5722: all of it, and what may follow
                self._counts["overlaps"] += datagram.fragments
                datagram.fragments = 0
                datagram.pages, datagram.pieces = set(), {}
            raise DecapError(status)
        for page in range(piece.offset // PAGE, (piece.end - 1) // PAGE + 1):
            while page not in datagram.pages and self._pages() >= self.memory // PAGE:
                if not self._evict(piece.key, datagram):
                    self._forget(piece.key, "limits")
                    self._counts["limits"] += 1
                    raise DecapError(Status.FRAGMENT_LIMIT)
            datagram.pages.add(page)
        datagram.keep(piece)

    # -- bounds ----------------------------------------------------------------

    def _pages(self) -> int:
        return sum(len(datagram.pages) for datagram in self._datagrams.values())

    def _evict(self, asking: Key, but: Datagram | None = None) -> bool:
        """Give up the oldest datagram, not ``but``, of the source that has most."""
        used: dict[bytes, int] = {asking[1]: 0}
        for key, datagram in self._datagrams.items():
            used[key[1]] = used.get(key[1], 0) + 1 + len(datagram.pages)
        most = max(used, key=used.__getitem__)  # of equals the first: the one that asks
        for key, datagram in self._datagrams.items():
            if key[1] == most and datagram is not but:
                self._forget(key, "limits")
                return True
        return False

    def _forget(self, key: Key, counter: str) -> None:
        self._counts[counter] += self._datagrams.pop(key).fragments

    def _expire(self, now: int) -> int:
        before, timeout = self._counts["timeouts"], nanoseconds(self.timeout)
        for key, datagram in list(self._datagrams.items()):
            if now - datagram.first < timeout:
                break
            self._forget(key, "timeouts")
        return self._counts["timeouts"] - before

    @property
    def stats(self) -> FragmentStats:
        held = sum(datagram.fragments for datagram in self._datagrams.values())
        return FragmentStats(
            **self._counts, held=held, pending=len(self._datagrams), memory=self._pages() * PAGE
        )
