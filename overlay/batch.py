"""Batch: many frames or packets in one array, and a column for every fact.

The columns are numpy arrays over the memory that C works on: nothing is
converted on the way.  A batch never moves a payload; encap and decap move
``offset`` and ``length`` instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import ConfigError, Status
from .tunnel import integer

if TYPE_CHECKING:
    from .codec import Buffer

__all__ = ["Batch"]

# struct ov_batch, word for word: addresses and counts, each 64 bits.
_WORDS = (
    "data size capacity count used gap "
    "base offset key outer length wire origin mss status protocol link checksum"
).split()
_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("base", np.uint64),
    ("offset", np.uint64),
    ("key", np.uint64),
    ("outer", np.uint64),
    ("length", np.uint32),
    ("wire", np.uint32),
    ("origin", np.uint32),
    ("mss", np.uint16),
    ("status", np.uint8),
    ("protocol", np.uint8),
    ("link", np.uint8),
    ("checksum", np.uint8),
)
_COUNT, _USED, _GAP = _WORDS.index("count"), _WORDS.index("used"), _WORDS.index("gap")

HEADROOM = 128  # covers every protocol's headers over IPv6 with an outer tag


def _bytes(value: object, what: str) -> memoryview:
    """A flat byte view of any C-contiguous buffer, or TypeError saying why not."""
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{what} must be a buffer of bytes, not {type(value).__name__}") from None
    if not view.c_contiguous:
        raise TypeError(f"{what} must be C-contiguous: this view has gaps or is reversed")
    return view.cast("B") if view.nbytes else memoryview(b"")


def _integers(
    name: str, value: npt.ArrayLike, most: int, like: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """A column given by the caller: integers in 0..most, as many as ``like`` has."""
    array = np.asarray(value)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ConfigError(name, f"<{array.dtype}, shape {array.shape}>", "a column of integers")
    if like is not None and array.size != like.size:
        raise ConfigError(name, f"<{array.size} rows>", f"{like.size} rows, as offset has")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= most:
        bad = array.min() if array.min() < 0 else array.max()
        raise ConfigError(name, int(bad), f"integers in 0..{most}")
    return array


class Batch:
    """Rows of bytes in one array.

    ``Batch(capacity, slot=2048)`` has ``capacity`` rows of ``slot`` bytes,
    none in use; :meth:`append` fills them.  See also :meth:`from_frames`,
    :meth:`from_pcap` and :meth:`packed`.

    Columns, one element a row, ``count`` rows long:

    ========  ======  =====================================================
    data      uint8   the bytes of all rows (not a column)
    base      uint64  first byte in ``data`` that the row may use
    offset    uint64  first byte of the frame or packet; headroom is before
    length    uint32  its bytes that are here
    wire      uint32  its bytes on the wire: more, where a capture cut it
    key       uint64  VNI, VSID or Context ID after encap or decap
    status    uint8   an :class:`~overlay.errors.Status`
    protocol  uint8   of the tunnel added or removed last, 0 for none
    link      uint8   what the row begins with: 0 Ethernet, 1 IP, 2 other,
                      3 a UDP payload
    mss       uint16  of a super-frame, which stands for many TCP or UDP
                      packets: the payload bytes of each; or 0
    checksum  uint8   the frame's TCP or UDP checksum: 0 as it should be,
                      1 verified, 2 partial (the pseudo-header's sum alone)
    outer     uint64  of a row that decap took: where in ``data`` its outer
                      IP header lies
    origin    uint32  the row of the input batch, for rows made from one
    ========  ======  =====================================================

    :param capacity: rows, at least 1.
    :param slot: bytes a row, headroom included, at least 1.
    :param headroom: bytes before each frame, below ``slot``.
    """

    __slots__ = ("_address", "_columns", "_data", "_headroom", "_owner", "_slot", "_struct")

    def __init__(self, capacity: int, slot: int = 2048, *, headroom: int = HEADROOM) -> None:
        capacity = integer("capacity", capacity, 1, 2**31)
        slot = integer("slot", slot, 1, 2**31)
        self._setup(np.zeros(capacity * slot, np.uint8), capacity)
        self._slot = slot
        self._headroom = integer("headroom", headroom, 0, slot - 1)

    def _setup(self, data: npt.NDArray[np.uint8], capacity: int, owner: object = None) -> None:
        if not data.flags.writeable or not data.flags.c_contiguous or data.dtype != np.uint8:
            raise ValueError("a batch needs a writable, contiguous uint8 array")
        sizes = [np.dtype(dtype).itemsize * capacity for _, dtype in _COLUMNS]
        block = np.zeros(sum(sizes), np.uint8)  # the wide columns come first: all are aligned
        self._columns: dict[str, npt.NDArray[Any]] = {}
        start = 0
        for (name, dtype), size in zip(_COLUMNS, sizes, strict=True):
            self._columns[name] = block[start : start + size].view(dtype)
            start += size
        # A view: an array that does not own its memory cannot be resized away.
        self._data = data[:]
        self._owner = owner
        self._slot = self._headroom = 0
        addresses = {name: column.ctypes.data for name, column in self._columns.items()}
        words = {"data": data.ctypes.data, "size": data.size, "capacity": capacity, **addresses}
        self._struct = np.array([words.get(word, 0) for word in _WORDS], np.uint64)
        self._address = self._struct.ctypes.data

    # -- ways to make one -----------------------------------------------------

    @classmethod
    def from_frames(cls, frames: Iterable[Buffer], *, headroom: int = HEADROOM) -> Batch:
        """A batch of copies of these frames, each with ``headroom`` bytes before it."""
        views = [_bytes(frame, "a frame") for frame in frames]
        headroom = integer("headroom", headroom, 0, 2**16)
        lengths = np.fromiter((view.nbytes for view in views), np.uint64, len(views))
        if lengths.size and int(lengths.max()) > 2**32 - 1:
            raise ConfigError("frames", int(lengths.max()), "frames below 4 GiB")
        ends = np.cumsum(lengths + np.uint64(headroom))
        batch = cls.__new__(cls)
        data = bytearray(int(ends[-1]) if views else 0)
        batch._setup(np.frombuffer(data, np.uint8), max(1, len(views)))
        offsets = ends - lengths
        with memoryview(data) as room:
            for view, at in zip(views, offsets.tolist(), strict=True):
                room[at : at + view.nbytes] = view
        batch._rows(offsets - np.uint64(headroom), offsets, lengths, lengths)
        return batch

    @classmethod
    def from_array(
        cls,
        data: npt.NDArray[np.uint8],
        offset: npt.ArrayLike,
        length: npt.ArrayLike,
        *,
        base: npt.ArrayLike | None = None,
        wire: npt.ArrayLike | None = None,
        owner: object = None,
    ) -> Batch:
        """A batch over bytes that are there already, without a copy.

        :param data: writable uint8 array; it is changed in place by encap.
        :param offset: first byte of each row.
        :param length: bytes of each row.
        :param base: first byte that each row may use; ``offset`` if not given.
        :param wire: bytes on the wire; ``length`` if not given.
        :param owner: kept alive with the batch.

        Rows that do not lie in ``data`` get ``Status.BAD_ROW`` when used.
        """
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
            raise ConfigError("data", type(data).__name__, "a one-dimensional uint8 array")
        if not data.flags.writeable or not data.flags.c_contiguous:
            raise ConfigError("data", "an array", "one that is writable and contiguous")
        begin = _integers("offset", offset, 2**64 - 1)
        here = _integers("length", length, 2**32 - 1, like=begin)
        first = begin if base is None else _integers("base", base, 2**64 - 1, like=begin)
        exist = here if wire is None else _integers("wire", wire, 2**32 - 1, like=begin)
        batch = cls.__new__(cls)
        batch._setup(data, max(1, begin.size), owner)
        batch._rows(first, begin, here, exist)
        return batch

    @classmethod
    def from_pcap(cls, path: str | PathLike[str]) -> Batch:
        """Every packet of a pcap or pcapng file, memory-mapped, without a copy.

        The mapping is private: what is done to the batch does not reach the
        file.  Packets begin where they lie in the file, so there is no
        headroom: decap works in place, encap goes through
        :meth:`Tunnel.encap_into`.  For files larger than memory use
        :func:`overlay.io.pcap.open_capture`.
        """
        from .io.pcap import read_batch  # at call time: io stands above

        return read_batch(path)

    @classmethod
    def packed(cls, size: int, capacity: int, *, gap: int = 0) -> Batch:
        """An empty batch that the 1:N functions fill, packet after packet.

        :param size: bytes of all packets together, gaps included.
        :param capacity: how many packets.
        :param gap: bytes left before each packet (a capture's record headers).
        """
        batch = cls.__new__(cls)
        size = integer("size", size, 1, 2**48)
        batch._setup(np.zeros(size, np.uint8), integer("capacity", capacity, 1, 2**31))
        batch._struct[_GAP] = integer("gap", gap, 0, 2**16)
        return batch

    def __reduce__(self) -> tuple[object, ...]:
        # Pickles and copies are batches of their own: the addresses are made anew.
        columns = {name: column.copy() for name, column in self._columns.items()}
        state = self.count, self.used, self.gap, self._slot, self._headroom
        return _rebuild, (self._data.tobytes(), self.capacity, columns, state)

    def _rows(self, base: Any, offset: Any, length: Any, wire: Any) -> None:
        count = len(offset)
        for name, values in (
            ("base", base),
            ("offset", offset),
            ("length", length),
            ("wire", wire),
        ):
            self._columns[name][:count] = values
        self._struct[_COUNT] = count

    def append(self, frame: Buffer) -> int:
        """Copy a frame into the next free slot; returns its row.

        Raises :class:`IndexError` when no slot is free, and
        :class:`~overlay.errors.ConfigError` when the frame is too long.
        """
        if not self._slot:
            raise TypeError("only Batch(capacity, slot) has slots to append to")
        row, view = self.count, _bytes(frame, "a frame")
        if row == self.capacity:
            raise IndexError("the batch is full")
        room = self._slot - self._headroom
        if view.nbytes > room:
            raise ConfigError("frame", f"<{view.nbytes} bytes>", f"at most {room} bytes")
        start = row * self._slot
        self._struct[_COUNT] = row + 1
        for name, column in self._columns.items():
            column[row] = {"base": start, "offset": start + self._headroom}.get(name, 0)
        self._columns["length"][row] = self._columns["wire"][row] = view.nbytes
        at = start + self._headroom
        self._data[at : at + view.nbytes] = np.frombuffer(view, np.uint8)
        return row

    def clear(self) -> None:
        """Forget every row; the memory stays."""
        self._struct[_COUNT] = self._struct[_USED] = 0
        for name in ("status", "protocol", "mss", "link", "checksum", "origin", "key", "outer"):
            self._columns[name][:] = 0

    # -- columns --------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Rows that fit."""
        return len(self._columns["offset"])

    @property
    def count(self) -> int:
        """Rows in use."""
        return int(self._struct[_COUNT])

    @property
    def gap(self) -> int:
        """Bytes that the 1:N functions leave before each packet."""
        return int(self._struct[_GAP])

    @property
    def used(self) -> int:
        """Bytes of ``data`` that the 1:N functions have filled."""
        return int(self._struct[_USED])

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The bytes of every row, uint8."""
        return self._data[:]

    def _column(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name][: self.count]

    base = property(lambda self: self._column("base"), doc="uint64: first byte the row may use")
    offset = property(lambda self: self._column("offset"), doc="uint64: first byte of the row")
    length = property(lambda self: self._column("length"), doc="uint32: bytes of the row")
    wire = property(lambda self: self._column("wire"), doc="uint32: bytes on the wire")
    key = property(lambda self: self._column("key"), doc="uint64: VNI, VSID or Context ID")
    status = property(lambda self: self._column("status"), doc="uint8: a Status")
    protocol = property(lambda self: self._column("protocol"), doc="uint8: protocol number")
    link = property(lambda self: self._column("link"), doc="uint8: what the row begins with")
    mss = property(lambda self: self._column("mss"), doc="uint16: of a super-frame, or 0")
    checksum = property(lambda self: self._column("checksum"), doc="uint8: 2 where it is partial")
    outer = property(lambda self: self._column("outer"), doc="uint64: the outer IP header in data")
    origin = property(lambda self: self._column("origin"), doc="uint32: row of the input batch")

    # -- rows -----------------------------------------------------------------

    def _view(self) -> memoryview:
        return self._data.data

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> memoryview:
        """The bytes of one row, without a copy."""
        count = self.count
        index = row + count if row < 0 else row
        if not 0 <= index < count:
            raise IndexError(f"row {row} of {count}")
        at, size = int(self._columns["offset"][index]), int(self._columns["length"][index])
        if at + size > self._data.size:
            raise IndexError(f"row {row} lies outside the data")
        return self._view()[at : at + size]

    def frames(self) -> Iterator[memoryview]:
        """The rows whose status is OK, in order, without a copy."""
        view = self._view()
        size = self._data.size
        rows = zip(self.status.tolist(), self.offset.tolist(), self.length.tolist(), strict=True)
        for status, at, length in rows:
            if status == Status.OK and at + length <= size:
                yield view[at : at + length]

    def to_list(self) -> list[bytes]:
        """Copies of the rows whose status is OK, in order."""
        return [bytes(frame) for frame in self.frames()]

    def drops(self) -> dict[Status, int]:
        """How many rows were refused, by reason; what is missing was not."""
        counts = np.bincount(self.status, minlength=1)
        known = {status: int(counts[status]) for status in Status if status < counts.size}
        # What is no status at all was written by the caller.
        known[Status.BAD_ROW] = known.get(Status.BAD_ROW, 0) + int(counts[len(Status) :].sum())
        return {status: n for status, n in known.items() if n and status}

    def __repr__(self) -> str:
        refused = int(np.count_nonzero(self.status))
        return f"<Batch of {self.count} rows, {refused} refused, {self._data.size} bytes>"


def _rebuild(
    data: bytes, capacity: int, columns: dict[str, npt.NDArray[Any]], state: tuple[int, ...]
) -> Batch:
    batch = Batch.__new__(Batch)
    batch._setup(np.frombuffer(bytearray(data), np.uint8), capacity)
    for name, column in columns.items():
        batch._columns[name][:] = column
    count, used, gap, batch._slot, batch._headroom = state
    batch._struct[[_COUNT, _USED, _GAP]] = count, used, gap
    return batch
