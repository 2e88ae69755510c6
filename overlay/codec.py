"""Codec: the one interface to every backend, and the values it returns.

A backend is a module of functions with one :class:`Codec` behind them.  What
lives here: signatures, results, the caller's checks that every backend shares.
"""

from __future__ import annotations

import dataclasses
import numbers
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .batch import Batch
from .batch import _bytes as byte_view
from .columns import Columns
from .errors import ConfigError, DecapError, EncapError, MTUExceeded, Status
from .profile import Profile
from .tunnel import Tunnel, integer

if TYPE_CHECKING:
    import array
    import mmap

    from .editor import Editor
    from .fragment import FragmentReassembler
    from .rule import Rule

__all__ = ["Codec", "Decapsulated", "Encoder", "Reassembler", "ReassemblyStats", "byte_view"]

Buffer: TypeAlias = (
    "bytes | bytearray | memoryview | mmap.mmap | array.array[Any] | npt.NDArray[Any]"
)


class Encoder(Protocol):
    """One tunnel's fast path."""

    encap: Callable[[Buffer], bytes]
    encap_many: Callable[[Iterable[Buffer]], list[bytes]]
    encap_batch: Callable[[Batch], int]
    encap_into: Callable[..., int]


class Decapsulated(NamedTuple):
    """What :func:`overlay.decap` gives.

    A tuple, since nothing is made faster; two are equal if they say the same,
    whichever backend made them.
    """

    #: The inner Ethernet frame; where IP was carried, one from and to zero MAC addresses.
    frame: bytes
    #: Its VNI, VSID, Context ID, GRE key or ERSPAN session.
    key: int
    #: The protocol's name.
    protocol: str
    #: The outer headers as they came: everything before what was carried.
    header: bytes
    #: What the packet began with: 0 Ethernet, 1 IP.
    link: int
    #: Of an STT frame that asks to be cut into packets of this much L4 payload, else 0.
    mss: int
    #: The frame's length on the wire, above ``len(frame)`` where a capture cut it.
    wire_length: int
    #: The backend that made this.
    codec: Codec

    @property
    def tunnel(self) -> Tunnel:
        """The tunnel whose ``encap(frame)`` rebuilds the outer headers.

        As far as a tunnel can say them: not IP options or extension headers,
        checksum and sequence number of NVGRE, shim headers of VXLAN-GPE, frame types and
        optional parts of ERSPAN, reserved bits, or an outer ECN field that is not the
        inner one.
        """
        return self.codec.describe(self.header, self.protocol, link=self.link)

    def segments(self) -> list[bytes]:
        """The frame cut by its MSS into packets with finished checksums; itself if 0."""
        return self.codec.segments(self.frame, self.mss) if self.mss else [self.frame]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Decapsulated):
            return self[:-1] == other[:-1]
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:-1])

    def __repr__(self) -> str:
        return f"<Decapsulated {self.protocol} key={self.key:#x} frame of {len(self.frame)} bytes>"


@dataclasses.dataclass(frozen=True)
class ReassemblyStats:
    """Counts of an :class:`SttReassembler`; all since it was made, but the last two.

    ``segments`` pushed; ``frames`` delivered; ``duplicates`` and ``overlaps``,
    segments dropped for bytes that were there; ``refused``, segments and whole
    frames that decap refuses; ``timed_out`` and ``evicted``, unfinished frames
    given up; ``pending``, frames waiting now; ``memory``, bytes in use now.
    """

    segments: int = 0
    frames: int = 0
    duplicates: int = 0
    overlaps: int = 0
    refused: int = 0
    timed_out: int = 0
    evicted: int = 0
    pending: int = 0
    memory: int = 0


class Reassembler(ABC):
    """STT reassembly with a bounded memory and an explicit clock (draft-davie-stt-08, 3.2).

    :param timeout: seconds from a frame's first segment until it is given up.
    :param memory: bytes of payload held at most, in pages of 2048; the oldest
        frames are evicted first.  At least 65536.
    :param profile: a name or a :class:`~overlay.profile.Profile`.
    :param options: fields of the profile to change.
    """

    def __init__(
        self,
        timeout: float = 30.0,
        memory: int = 4 << 20,
        *,
        profile: str | Profile = "rfc",
        **options: Any,
    ) -> None:
        self.timeout = _seconds("timeout", timeout)
        if self.timeout == 0:
            raise ConfigError("timeout", timeout, "seconds, above 0")
        self.memory = integer("memory", memory, 65536, 2**40)
        self.profile = Profile.of(profile, **options)

    @abstractmethod
    def push(self, packet: Buffer, now: float) -> Decapsulated | None:
        """Take one packet; the whole frame if it completes one, else None.

        ``now`` is in seconds of any clock that does not run backwards.
        Duplicates and overlapping segments are counted and give None; a
        packet that is wrong in itself raises
        :class:`~overlay.errors.DecapError`.
        """

    @abstractmethod
    def push_batch(self, batch: Batch, out: Batch, now: float) -> int:
        """Take every row; append whole frames to ``out``; returns their number.

        A row's ``status`` becomes OK (it completed a frame),
        ``STT_INCOMPLETE`` (held), or why it was refused.  ``out.origin``
        holds the row that completed the frame.
        """

    @abstractmethod
    def expire(self, now: float) -> int:
        """Give up the frames whose time is over; returns how many."""

    @property
    @abstractmethod
    def stats(self) -> ReassemblyStats:
        """The counts so far."""


def nanoseconds(now: float) -> int:
    """A time in seconds as the integer that both twins compare."""
    return round(_seconds("now", now) * 1e9)


def _seconds(name: str, value: float) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= value < 2**32:
        return float(value)
    raise ConfigError(name, value, f"seconds, 0 or more and below {2**32}")


class Codec(ABC):
    """What a backend does.  Every ``frame`` and ``packet`` is a C-contiguous buffer."""

    #: ``"native"``, ``"cffi"`` or ``"reference"``.
    name: str
    #: The backend's reassembler.
    SttReassembler: type[Reassembler]
    #: The backend's reassembly of outer fragments.
    FragmentReassembler: type[FragmentReassembler]

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequence = random.getrandbits(32)

    def __reduce__(self) -> tuple[object, ...]:
        return _codec, (self.name,)  # there is one of each

    def take(self, packets: int = 1) -> int:
        """The first of ``packets`` numbers for frame IDs and IP IDs, never given twice soon."""
        with self._lock:
            first = self._sequence
            self._sequence = (first + packets) & (2**64 - 1)
        return first

    # -- primitives: what a backend writes ------------------------------------

    @abstractmethod
    def encoder(self, tunnel: Tunnel) -> Encoder:
        """The tunnel's fast path."""

    @abstractmethod
    def encap(self, tunnel: Tunnel, frame: Buffer, *, sequence: int | None = None) -> bytes:
        """One packet of one frame.  ``sequence`` pins what a counter would give."""

    @abstractmethod
    def decap(
        self,
        packet: Buffer,
        profile: str | Profile = "rfc",
        *,
        link: int = 0,
        wire_length: int | None = None,
        **options: Any,
    ) -> Decapsulated:
        """The frame, the key and the tunnel of one packet; finds the protocol.

        :param packet: an outer packet, a C-contiguous buffer of bytes.
        :param profile: ``"rfc"``, ``"strict"``, ``"lenient"`` or a
            :class:`~overlay.profile.Profile`.
        :param link: 0 for Ethernet, 1 where the packet begins with IP.
        :param wire_length: the packet's length, where a capture cut it.
        :param options: fields of the profile to change.
        :raises DecapError: the packet was refused; ``error.status`` says why.
        """

    @abstractmethod
    def describe(self, header: bytes, protocol: str, *, link: int = 0) -> Tunnel:
        """The tunnel that rebuilds these outer headers."""

    @abstractmethod
    def encap_batch(
        self,
        batch: Batch,
        tunnels: Tunnel | Sequence[Tunnel],
        index: npt.ArrayLike | None = None,
        *,
        sequence: int | None = None,
    ) -> int:
        """Encap every row in place: row i by ``tunnels[index[i]]``, or all by one tunnel.

        :param index: integers of shape ``(batch.count,)``, each below ``len(tunnels)``.
        :param sequence: what a counter would give, pinned.
        :returns: the rows done; the others have their ``status``.
        :raises ConfigError: before any row is touched.
        """

    @abstractmethod
    def encap_into(
        self, batch: Batch, out: Batch, tunnel: Tunnel, mtu: int = 0, *, sequence: int | None = None
    ) -> int:
        """Encap into ``out``, packed; returns the packets written."""

    @abstractmethod
    def decap_batch(self, batch: Batch, profile: str | Profile = "rfc", **options: Any) -> int:
        """Decap every row in place, in one call without the GIL; returns the rows done.

        Rows whose ``status`` is not OK are left alone.  A row that is refused
        gets its ``status`` and keeps its bytes; a row that is done gets
        ``key``, ``protocol`` and the inner frame's ``offset`` and ``length``.
        """

    @abstractmethod
    def inspect_batch(
        self,
        batch: Batch,
        profile: str | Profile = "rfc",
        *,
        flow_hash: bool = False,
        seed: int = 0,
        origin: int = 0,
        into: Columns | None = None,
        **options: Any,
    ) -> Columns:
        """What :meth:`decap_batch` would say of every row, and its outer headers, as columns.

        Batch and bytes are only read, so that packets may lie in memory that cannot be
        written.  Rows whose ``status`` is not OK keep it, and have nothing else.

        :param flow_hash: whether to hash the inner frames, with ``seed``.
        :param origin: added to the offsets: the position of ``batch.data`` in a file, say.
        :param into: what this gave before: its memory is used again where it has room, and
            it is not to be looked at any more.
        :raises ConfigError: before any row is looked at.
        """

    @abstractmethod
    def editor(
        self, rules: Sequence[Rule], profile: str | Profile = "lenient", *, fix: bool = True
    ) -> Editor:
        """These rules made ready; what :class:`overlay.Rewriter` works with.

        ``profile`` says which protocols and ports are known, and is otherwise as
        tolerant as it can be: checksums are not looked at.
        """

    @abstractmethod
    def segment_batch(self, batch: Batch, out: Batch, mtu: int = 0) -> int:
        """Cut super-frames to the packets that they stand for; returns the rows written.

        Rows are appended to ``out``, packed, checksums complete, ``origin`` set; what
        is no super-frame is copied.  A row that is refused gets its ``status`` and
        gives none.

        :param mtu: 0: rows are Ethernet frames, cut by their ``mss``.  Otherwise rows with a
            ``protocol`` are tunnel packets, and leave as packets of at most ``mtu`` bytes of
            IP: a VXLAN or NVGRE packet with ``mss`` as one packet for each inner one, an
            STT packet as segments.
        :raises ConfigError: before any row is touched.
        """

    @abstractmethod
    def coalesce_batch(self, batch: Batch, out: Batch) -> int:
        """Put TCP or UDP frames that follow on into super-frames; returns the rows written.

        The reverse of :meth:`segment_batch`, which gives exactly the frames again: only
        frames that allow for that, with right checksums, are taken, and the others copied.
        Rows of one super-frame lie next to each other (rows with a status between them do
        not count) and have one ``key`` and ``protocol``; ``origin`` is the first of them.
        """

    @abstractmethod
    def segments(self, frame: Buffer, mss: int) -> list[bytes]:
        """An inner TCP frame cut into packets of ``mss`` bytes of payload."""

    @abstractmethod
    def flow_hash(self, frame: Buffer, seed: int = 0) -> int:
        """The 64-bit flow hash of an inner frame, from which all entropy comes.

        ``seed`` is in 0..2**64-1.  Raises :class:`~overlay.errors.ConfigError`
        for fewer than 14 bytes.
        """

    @abstractmethod
    def checksum(self, data: Buffer) -> int:
        """The internet checksum (RFC 1071) of ``data``, 0..0xFFFF."""

    # -- built on them ---------------------------------------------------------

    def encap_many(self, tunnel: Tunnel, frames: Iterable[Buffer]) -> list[bytes]:
        """:meth:`encap` of each frame."""
        return self.encoder(tunnel).encap_many(frames)

    def decap_many(
        self, packets: Iterable[Buffer], profile: str | Profile = "rfc", **options: Any
    ) -> list[Decapsulated | DecapError]:
        """:meth:`decap` of each packet: a list with the error in the refused places."""
        resolved = Profile.of(profile, **options)
        results: list[Decapsulated | DecapError] = []
        for packet in packets:
            try:
                results.append(self.decap(packet, resolved))
            except DecapError as error:
                results.append(error)
        return results

    def packets(
        self, tunnel: Tunnel, frame: Buffer, mtu: int = 1500, *, sequence: int | None = None
    ) -> list[bytes]:
        """The packets that carry ``frame``, none larger than ``mtu`` bytes of IP."""
        floor = tunnel.overhead - 14 - (0 if tunnel.outer_vlan is None else 4)
        mtu = integer("mtu", mtu, floor + 1, 65535)
        view = byte_view(frame, "frame")
        batch = Batch.from_frames([view], headroom=0)
        most = view.nbytes // (mtu - floor) + 2
        while True:  # a frame that is cut by a small MSS first may need more
            out = Batch.packed(view.nbytes + most * (tunnel.overhead + 256), most)
            self.encap_into(batch, out, tunnel, mtu, sequence=sequence)
            if batch.status[0] != Status.NO_ROOM:
                raise_for_encap(int(batch.status[0]))
                return out.to_list()
            batch.status[0] = Status.OK
            most *= 4


def _codec(name: str) -> Codec:
    from ._backend import load  # at call time: _backend stands above

    return load(name)


def raise_for_encap(status: int) -> None:
    """Raise what ``status`` means to the caller of a single-frame encap."""
    if status == Status.MTU_EXCEEDED:
        raise MTUExceeded
    if status:
        raise EncapError(status)


def columns_for(
    batch: Batch, flow_hash: bool, seed: int, origin: int, into: Columns | None
) -> Columns:
    """Columns with an element for each row of the batch, in the memory of ``into`` if they fit."""
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a Batch, not {type(batch).__name__}")
    if not isinstance(flow_hash, bool):
        raise ConfigError("flow_hash", flow_hash, "True or False")
    if into is not None and not isinstance(into, Columns):
        raise TypeError(f"into must be Columns or None, not {type(into).__name__}")
    columns = Columns.room(batch.count, flow_hash=flow_hash, into=into)
    origin = integer("origin", origin, 0, 2**63 - 1)
    columns.begin(origin, integer("seed", seed, 0, 2**64 - 1))
    np.add(batch.offset, np.uint64(origin), out=columns.offset)
    np.copyto(columns.length, batch.length)
    np.copyto(columns.wire, batch.wire)
    return columns


def tunnel_rows(
    batch: Batch, tunnels: Tunnel | Sequence[Tunnel], index: npt.ArrayLike | None
) -> tuple[tuple[Tunnel, ...], npt.NDArray[np.uint32] | None]:
    """Check the many-tunnels form: every row has a tunnel.  Raises ConfigError."""
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a Batch, not {type(batch).__name__}")
    if isinstance(tunnels, Tunnel):
        if index is not None:
            raise ConfigError("index", "an array", "None with one tunnel")
        return (tunnels,), None
    several = tuple(tunnels)  # itself, if it is one
    for tunnel in several:
        if not isinstance(tunnel, Tunnel):
            raise TypeError(f"tunnels must be Tunnels, not {type(tunnel).__name__}")
    if index is None:
        raise ConfigError("index", None, "one tunnel number a row")
    rows = np.asarray(index)
    if rows.dtype.kind not in "iu" and rows.size:
        raise ConfigError("index", f"<{rows.dtype}>", "integers")
    if rows.shape != (batch.count,):
        raise ConfigError("index", f"<shape {rows.shape}>", f"shape ({batch.count},)")
    if rows.size and (int(rows.min()) < 0 or int(rows.max()) >= len(several)):
        bad = rows.max() if int(rows.max()) >= len(several) else rows.min()
        raise ConfigError("index", int(bad), f"integers in 0..{len(several) - 1}")
    return several, np.ascontiguousarray(rows, np.uint32)
