"""Block: the blocks of a pcapng file (draft-ietf-opsawg-pcapng).

Lives here: the index of packet blocks, the interfaces, their clocks.  What
must not: files and windows.  Every length is checked before it is used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LINKS", "Index", "Interface", "MalformedError", "Reader", "link_of"]

SECTION, INTERFACE, PACKET, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6

MAX_INTERFACES = 65536
INT64 = np.iinfo(np.int64)

#: What a packet of a link type begins with: 0 Ethernet, 1 IP; 2 anything else.
LINKS = {1: 0, 12: 1, 14: 1, 101: 1, 228: 1, 229: 1}


class MalformedError(Exception):
    """The block at ``position`` of the bytes cannot be read; the text says why."""


def link_of(linktype: int) -> int:
    """The ``link`` column's number for a link type."""
    return LINKS.get(linktype, 2)


@dataclass(frozen=True)
class Interface:
    """Where packets of a capture came from.

    ``linktype``: its LINKTYPE number; ``snaplen``: bytes kept of a packet, 0
    for all; ``name``: as the file says, or empty; ``resolution``: the
    ``if_tsresol`` byte; ``offset``: seconds added to its timestamps; ``fcs``:
    bytes of frame check sequence at the end of each packet.
    """

    linktype: int = 1
    snaplen: int = 0
    name: str = ""
    resolution: int = 6
    offset: int = 0
    fcs: int = 0

    def nanoseconds(self, ticks: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The interface's ticks as nanoseconds since 1970, rounded down, held to 64 bits."""
        power = self.resolution & 0x7F
        if not self.resolution & 0x80 and power <= 9 and abs(self.offset) < 2**32:
            factor, shift = 10 ** (9 - power), self.offset * 1_000_000_000
            if not ticks.size or int(ticks.max()) <= int(INT64.max // 4) // factor:
                quick: npt.NDArray[np.int64] = ticks.astype(np.int64) * factor + shift
                return quick
        unit = 1 << power if self.resolution & 0x80 else 10**power
        shift = self.offset * 1_000_000_000
        exact = (tick * 1_000_000_000 // unit + shift for tick in ticks.tolist())
        return np.array([max(INT64.min, min(INT64.max, t)) for t in exact], np.int64)


class Index:
    """The packets found: lists of equal length."""

    def __init__(self) -> None:
        self.offset: list[int] = []
        self.length: list[int] = []
        self.wire: list[int] = []
        self.interface: list[int] = []
        self.ticks: list[int] = []
        self.after = 0  # position after the last block that was read

    def __len__(self) -> int:
        return len(self.offset)

    def add(self, offset: int, length: int, wire: int, interface: int, ticks: int) -> None:
        self.offset.append(offset)
        self.length.append(length)
        self.wire.append(wire)
        self.interface.append(interface)
        self.ticks.append(ticks)


class Reader:
    """Reads block after block; knows the byte order and the interfaces so far.

    ``interfaces`` are those of all sections, in order; a packet's number
    counts in this list.
    """

    def __init__(self) -> None:
        self.interfaces: list[Interface] = []
        self._first = 0  # of the section's interfaces
        self._set_order("<")

    def _set_order(self, order: str) -> None:
        self._order = order
        self._head = struct.Struct(order + "II").unpack_from
        self._enhanced = struct.Struct(order + "IIIII").unpack_from
        self._obsolete = struct.Struct(order + "HHIIII").unpack_from

    def block_length(self, view: memoryview, at: int) -> int:
        """Bytes of the block at ``at``; 0 where more than are here are needed to tell.

        :raises MalformedError: the length cannot be that of a block.
        """
        left = len(view) - at
        if left < 8:
            return 0
        if bytes(view[at : at + 4]) == b"\n\r\r\n":
            if left < 12:
                return 0
            magic = bytes(view[at + 8 : at + 12])
            if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                raise MalformedError(f"section header with byte-order magic {magic.hex()}")
            order = "<" if magic[0] == 0x4D else ">"
            length: int = struct.unpack_from(order + "I", view, at + 4)[0]
            least = 28
        else:
            length, least = self._head(view, at)[1], 12
        if length < least or length % 4:
            raise MalformedError(f"block length {length}, expected a multiple of 4 from {least}")
        return length

    def scan(self, view: memoryview, at: int, rows: int, index: Index) -> int:
        """Index packet blocks from ``at``; the position of the first block not taken.

        Stops at the end of the data, after ``rows`` packets, or at a block
        that is not all here.

        :raises MalformedError: a block cannot be read; what came before is in the index.
        """
        size = len(view)
        while len(index) < rows and at + 12 <= size:
            kind, length = self._head(view, at)
            if kind == ENHANCED and 32 <= length <= size - at and not length % 4:
                interface, high, low, captured, wire = self._enhanced(view, at + 8)
                self._packet(index, at + 28, length - 32, captured, wire, interface, high, low)
            else:
                length = self.block_length(view, at)
                if not length or length > size - at:
                    break
                self._other(view, at, length, index)
            at += length
            index.after = at
        return at

    def _packet(
        self, index: Index, at: int, room: int, captured: int, wire: int,
        interface: int, high: int, low: int,
    ) -> None:  # fmt: skip
        if captured > room:
            raise MalformedError(f"packet of {captured} bytes in a block with room for {room}")
        number = self._first + interface
        if number >= len(self.interfaces):
            raise MalformedError(f"packet of interface {interface}, which no block describes")
        index.add(at, captured, wire, number, high << 32 | low)

    def _other(self, view: memoryview, at: int, length: int, index: Index) -> None:
        kind = self._head(view, at)[0]
        if kind == SECTION:
            self._set_order("<" if view[at + 8] == 0x4D else ">")
            self._first = len(self.interfaces)
        elif kind == INTERFACE:
            if length < 20:
                raise MalformedError(f"interface description of {length} bytes")
            if len(self.interfaces) == MAX_INTERFACES:
                raise MalformedError(f"more than {MAX_INTERFACES} interfaces")
            self.interfaces.append(self._interface(view[at + 8 : at + length - 4]))
        elif kind == SIMPLE:
            if length < 16:
                raise MalformedError(f"simple packet block of {length} bytes")
            wire: int = struct.unpack_from(self._order + "I", view, at + 8)[0]
            captured = min(wire, length - 16)
            if self._first < len(self.interfaces) and self.interfaces[self._first].snaplen:
                captured = min(captured, self.interfaces[self._first].snaplen)
            self._packet(index, at + 12, length - 16, captured, wire, 0, 0, 0)
        elif kind == PACKET:
            if length < 32:
                raise MalformedError(f"packet block of {length} bytes")
            interface, _, high, low, captured, wire = self._obsolete(view, at + 8)
            self._packet(index, at + 28, length - 32, captured, wire, interface, high, low)
        elif kind == ENHANCED:
            raise MalformedError(f"enhanced packet block of {length} bytes")

    def _interface(self, body: memoryview) -> Interface:
        linktype, _, snaplen = struct.unpack_from(self._order + "HHI", body)
        known: dict[int, bytes] = {}
        at = 8
        while at + 4 <= len(body):
            code, size = struct.unpack_from(self._order + "HH", body, at)
            if code == 0 or size > len(body) - at - 4:
                break
            known.setdefault(code, bytes(body[at + 4 : at + 4 + size]))
            at += 4 + (size + 3) // 4 * 4
        offset = known.get(14, b"")
        return Interface(
            linktype=linktype,
            snaplen=snaplen,
            name=known.get(2, b"")[:256].decode("utf-8", "replace"),
            resolution=known.get(9, b"\6")[0] if known.get(9, b"\6") else 6,
            offset=struct.unpack(self._order + "q", offset)[0] if len(offset) == 8 else 0,
            fcs=known[13][0] if known.get(13) else 0,
        )
