"""Columns: the facts of many packets, a numpy array for each.

Lives here: the arrays, and how they are handed out.  What must not: any byte
of a packet; the backends read those (:meth:`overlay.codec.Codec.inspect_batch`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from enum import IntFlag
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    pass

__all__ = ["Columns", "Fact"]

# struct ov_columns, word for word: a number or an address, each 64 bits.
WORDS = (
    "capacity origin seed key outer frame_offset flow_hash frame_length frame_wire flow_label "
    "ip_id outer_tci source_port destination_port source destination "
    "status protocol family ip_protocol tos ttl flags"
).split()
# The widest first, so that all are aligned in one block.
_ADDRESSES = ("source", "destination")
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("key", "offset", "outer", "frame_offset", "flow_hash"), np.uint64),
    **dict.fromkeys(("frame_length", "frame_wire", "flow_label", "length", "wire"), np.uint32),
    **dict.fromkeys(("ip_id", "outer_tci", "source_port", "destination_port"), np.uint16),
    **dict.fromkeys(_ADDRESSES, np.uint8),
    **dict.fromkeys(
        ("status", "protocol", "family", "ip_protocol", "tos", "ttl", "flags"), np.uint8
    ),
}


class Fact(IntFlag):
    """Bits of :attr:`Columns.flags`; the numbers are those of ``enum ov_fact``."""

    #: The IPv4 Don't Fragment bit.
    DF = 1
    #: The packet is an IP fragment.
    FRAGMENT = 2
    #: There are IPv4 options or IPv6 extension headers.
    EXTENDED = 4
    #: There is an outer 802.1Q tag.
    TAGGED = 8
    #: The capture cut the packet.
    CUT = 16
    #: The outer UDP or TCP checksum is not zero.
    CHECKSUM = 32
    #: And it was verified, and is right.
    VERIFIED = 64
    #: IP is carried: the frame has no Ethernet header in the packet.
    IP = 128


class Columns:
    """What :func:`overlay.inspect_batch` gives: one array a fact, one element a packet.

    A row that has none of a fact has 0.  Those from ``outer`` on are there where
    the outer IP header is in order, that is where ``family`` is not 0, whatever
    the status: also of packets in no tunnel, of fragments, of refused ones.

    ================  ======  ===================================================================
    status            uint8   a :class:`~overlay.errors.Status`: what decap would say
    protocol          uint8   the tunnel's number, of packets that decap would take or refuse
                              for their key or frame (``UNKNOWN_KEY``, ``INNER_TOO_SHORT``,
                              ``INNER_TAGGED``, ``ECN_CONGESTION``)
    key               uint64  its VNI, VSID or Context ID, of the same packets
    frame_offset      uint64  where the inner frame lies in ``batch.data``, as the packet has it:
                              before anything is mended
    frame_length      uint32  its bytes that are here
    frame_wire        uint32  its bytes on the wire
    flow_hash         uint64  of that frame, if it was asked for
    offset            uint64  where the packet lies in ``batch.data``
    length            uint32  its bytes that are here
    wire              uint32  its bytes on the wire
    outer             uint64  where the outer IP header lies in ``batch.data``
    family            uint8   4, 6 or 0
    source            uint8   addresses of 16 bytes, IPv4 in the first four: shape ``(n, 16)``
    destination       uint8   the same
    ip_protocol       uint8   of what IP carries: 17 UDP, 47 GRE, 6 TCP
    source_port       uint16  UDP and TCP; 0 for GRE, and for fragments
    destination_port  uint16  the same
    tos               uint8   TOS or traffic class
    ttl               uint8   TTL or hop limit
    ip_id             uint16  IPv4 identification
    flow_label        uint32  IPv6 flow label
    outer_tci         uint16  of the outer 802.1Q tag: PCP, DEI, VID
    flags             uint8   :class:`Fact`
    ================  ======  ===================================================================

    Of a datagram that a socket received (``link`` 3) the outer columns are those of
    the header that the row's ``outer`` names, without ports.
    """

    __slots__ = ("_arrays", "_count", "_struct")

    def __init__(
        self,
        arrays: dict[str, npt.NDArray[Any]],
        count: int,
        struct: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        # The arrays may be longer than there are rows; the struct is theirs, if one block is.
        self._arrays = arrays
        self._count = count
        self._struct = struct

    @classmethod
    def room(cls, rows: int, *, flow_hash: bool = False, into: Columns | None = None) -> Columns:
        """Columns for so many rows, in the memory of ``into`` if it has room; not yet filled."""
        if into is not None and into._struct is not None:
            fits = int(into._struct[0]) >= rows and ("flow_hash" in into._arrays) == flow_hash
            if fits:
                return cls(into._arrays, rows, into._struct)
        kinds = {name: kind for name, kind in _TYPES.items() if flow_hash or name != "flow_hash"}
        capacity = max(64, -(-rows // 64) * 64)  # every column begins at a cache line
        widths = {name: np.dtype(kind).itemsize for name, kind in kinds.items()}
        widths.update(dict.fromkeys(_ADDRESSES, 16))
        block = np.empty(sum(widths.values()) * capacity + 64, np.uint8)
        at = -block.ctypes.data % 64
        words = dict.fromkeys(WORDS, 0) | {"capacity": capacity}
        arrays = {}
        for name, kind in kinds.items():
            array = block[at : at + widths[name] * capacity].view(kind)
            arrays[name] = array.reshape(capacity, 16) if name in _ADDRESSES else array
            if name in words:
                words[name] = array.ctypes.data
            at += widths[name] * capacity
        return cls(arrays, rows, np.array(list(words.values()), np.uint64))

    def begin(self, origin: int, seed: int) -> None:
        """Say what is added to offsets, and what the flow hash begins with."""
        assert self._struct is not None
        self._struct[1], self._struct[2] = origin, seed

    def _column(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name][: self._count]

    def __getattr__(self, name: str) -> npt.NDArray[Any]:
        try:
            return self._column(name)
        except KeyError:
            raise AttributeError(f"no column {name!r} here") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._arrays]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that there are."""
        return tuple(self._arrays)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice | npt.ArrayLike) -> Columns:
        """These rows: a slice, a mask or numbers, as numpy takes them."""
        chosen = rows if isinstance(rows, slice) else np.asarray(rows)
        if isinstance(chosen, np.ndarray) and chosen.ndim != 1:
            raise TypeError("rows must be a slice, a mask or an array of numbers")
        arrays = {name: self._column(name)[chosen] for name in self._arrays}
        return Columns(arrays, len(arrays["status"]))

    def copy(self) -> Columns:
        """The same in memory of its own."""
        return Columns({name: self._column(name).copy() for name in self._arrays}, self._count)

    @staticmethod
    def concatenate(parts: Sequence[Columns]) -> Columns:
        """The rows of all parts, of which there is one at least, in memory of their own."""
        arrays = {
            name: np.concatenate([part._column(name) for part in parts]) for name in parts[0].names
        }
        return Columns(arrays, sum(map(len, parts)))

    def joined(self, **arrays: npt.NDArray[Any]) -> Columns:
        """The same with more columns, each as long as these."""
        return Columns({**self._arrays, **arrays}, self._count, self._struct)

    def addresses(self, name: str) -> npt.NDArray[np.object_]:
        """``"source"`` or ``"destination"`` as text, one ``str`` a row; empty where there is none.

        Each different address is made into text once.
        """
        if name not in _ADDRESSES:
            raise KeyError(name)
        raw, family = self._column(name), self._column("family")
        text = np.full(len(self), "", np.object_)
        for version, size in ((4, 4), (6, 16)):
            rows = np.flatnonzero(family == version)
            if rows.size:
                numbers = np.ascontiguousarray(raw[rows, :size]).view(f"V{size}").ravel()
                if size == 4:
                    numbers = numbers.view(np.uint32)
                different, which = np.unique(numbers, return_inverse=True)
                words = [str(ipaddress.ip_address(one.tobytes())) for one in different]
                text[rows] = np.array(words, np.object_)[which.ravel()]
        return text

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Every column by name, each of one dimension: addresses as text.

        What ``pandas.DataFrame`` and ``pyarrow.table`` take.
        """
        return {
            name: self.addresses(name) if name in _ADDRESSES else self._column(name)
            for name in self._arrays
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} packets, {len(self.names)} columns>"
