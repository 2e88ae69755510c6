"""ReferenceCodec: the twin behind the interface that every backend has.

Converts buffers, batches and errors; what a packet is, :mod:`.tunnel` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from overlay.batch import Batch
from overlay.codec import Buffer, Codec, Decapsulated, byte_view, columns_for, tunnel_rows
from overlay.columns import Columns
from overlay.errors import ConfigError, DecapError, EncapError, Status
from overlay.profile import Profile
from overlay.rule import Rule
from overlay.tunnel import Tunnel, integer

from . import offload, rows, superframe
from .checksum import checksum
from .delivery import PARTIAL
from .fragment import FragmentReassembler
from .hash import flow_hash
from .inspect import inspect
from .rewrite import ReferenceEditor
from .stt import Row
from .stt_segment import SttReassembler
from .tunnel import decap, decap_datagram, describe, encap

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ReferenceCodec"]


_OFFSETS = ("outer", "frame_offset")

UDP = 3  # of the column of link types
_COUNT = "_reference_count"  # of a tunnel that numbers its packets


def _row(batch: Batch, row: int) -> Row:
    return Row(int(batch.mss[row]), int(batch.checksum[row]) == PARTIAL)


class _Encoder:
    """A tunnel's verbs; fast elsewhere."""

    def __init__(self, codec: ReferenceCodec, tunnel: Tunnel) -> None:
        self.encap: Callable[[Buffer], bytes] = partial(codec.encap, tunnel)
        self.encap_many: Callable[[Iterable[Buffer]], list[bytes]] = self._encap_many
        self.encap_batch: Callable[[Batch], int] = lambda batch: codec.encap_batch(batch, tunnel)
        self.encap_into: Callable[..., int] = lambda batch, out, mtu=0: codec.encap_into(
            batch, out, tunnel, mtu
        )

    def _encap_many(self, frames: Iterable[Buffer]) -> list[bytes]:
        return [self.encap(frame) for frame in frames]


class ReferenceCodec(Codec):
    """The pure-Python twin.  See :class:`overlay.codec.Codec`."""

    name = "reference"
    SttReassembler = SttReassembler
    FragmentReassembler = FragmentReassembler

    # -- one frame ------------------------------------------------------------

    def encoder(self, tunnel: Tunnel) -> _Encoder:
        return _Encoder(self, tunnel)

    def encap(self, tunnel: Tunnel, frame: Buffer, *, sequence: int | None = None) -> bytes:
        data = bytes(byte_view(frame, "frame"))
        sequence = self._number(tunnel) if sequence is None else sequence
        return encap(tunnel, data, len(data), sequence)[0]

    def decap(
        self,
        packet: Buffer,
        profile: str | Profile = "rfc",
        *,
        link: int = 0,
        wire_length: int | None = None,
        **options: Any,
    ) -> Decapsulated:
        chosen = Profile.of(profile, **options)
        data = bytes(byte_view(packet, "packet"))
        wire = len(data)
        if wire_length is not None:
            wire = integer("wire_length", wire_length, len(data), 2**32 - 1)
        done = decap(data, wire, integer("link", link, 0, 255), chosen)
        return Decapsulated(
            done.frame, done.key, done.protocol, done.header, done.link, done.mss, done.wire, self
        )

    def describe(self, header: bytes, protocol: str, *, link: int = 0) -> Tunnel:
        return describe(bytes(header), protocol, link)

    # -- batches --------------------------------------------------------------

    def encap_batch(
        self,
        batch: Batch,
        tunnels: Tunnel | Sequence[Tunnel],
        index: npt.ArrayLike | None = None,
        *,
        sequence: int | None = None,
    ) -> int:
        several, numbers = tunnel_rows(batch, tunnels, index)
        first = sequence
        if first is None:
            first = (
                self._number(several[0], batch.count) if numbers is None else self.take(batch.count)
            )
        done = 0
        for row in rows.pending(batch):
            tunnel = several[0 if numbers is None else int(numbers[row])]
            try:
                frame, wire, _ = rows.read(batch, row)
                packet = encap(tunnel, frame, wire, first + row, row=_row(batch, row))[0]
            except (EncapError, DecapError) as error:
                batch.status[row] = error.status
                continue
            length = len(packet) + wire - len(frame)
            if not rows.replace(batch, row, len(frame), packet, length, tunnel.key, tunnel.name):
                batch.status[row] = Status.NO_HEADROOM
                continue
            done += 1
        return done

    def encap_into(
        self, batch: Batch, out: Batch, tunnel: Tunnel, mtu: int = 0, *, sequence: int | None = None
    ) -> int:
        rows.check_pair(batch, out)
        mtu = integer("mtu", mtu, 0, 65535)
        room = out.capacity - out.count
        number = self._number(tunnel, room) if sequence is None else sequence
        written = 0
        for row in rows.pending(batch):
            try:
                frame, wire, _ = rows.read(batch, row)
                packets = encap(tunnel, frame, wire, number + written, mtu, _row(batch, row))
            except (EncapError, DecapError) as error:
                batch.status[row] = error.status
                continue
            if not rows.fits(out, [len(packet) for packet in packets]):
                batch.status[row] = Status.NO_ROOM
                continue
            cut = wire - len(frame)
            # One packet in the place of one frame, or segments, which are no super-frames.
            whole = not (mtu and tunnel.name == "stt")
            mss, checksum = (int(batch.mss[row]), int(batch.checksum[row])) if whole else (0, 0)
            for packet in packets:
                rows.append(
                    out, packet, len(packet) + cut, row, tunnel.key, tunnel.name,
                    mss=mss, checksum=checksum,
                )  # fmt: skip
            written += len(packets)
        if sequence is None:
            self._give_back(tunnel, number + room, room - written)
        return written

    def decap_batch(self, batch: Batch, profile: str | Profile = "rfc", **options: Any) -> int:
        chosen = Profile.of(profile, **options)
        if not isinstance(batch, Batch):
            raise TypeError(f"batch must be a Batch, not {type(batch).__name__}")
        done = 0
        for row in rows.pending(batch):
            try:
                packet, wire, link = rows.read(batch, row)
                outer = int(batch.outer[row])
                if link == UDP:
                    found = decap_datagram(packet, wire, rows.outer_header(batch, row), chosen)
                else:
                    found = decap(packet, wire, link, chosen, partial=chosen.partial)
                    outer = 0 if found.l3 is None else int(batch.offset[row]) + found.l3
            except DecapError as error:
                batch.status[row] = error.status
                continue
            frame, wire, key = found.frame, found.wire, found.key
            if not rows.replace(batch, row, found.end, frame, wire, key, found.protocol):
                batch.status[row] = Status.NO_HEADROOM
                continue
            batch.outer[row] = outer
            if found.checksum is not None:  # else what the row said stays
                batch.mss[row] = found.mss
                batch.checksum[row] = found.checksum
            done += 1
        return done

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
        chosen = Profile.of(profile, **options)
        columns = columns_for(batch, flow_hash, seed, origin, into)
        for name in columns.names:
            if name not in ("offset", "length", "wire"):
                getattr(columns, name)[:] = 0
        for row in range(batch.count):
            for name, value in inspect(batch, row, chosen, seed).items():
                if isinstance(value, bytes):
                    getattr(columns, name)[row, : len(value)] = tuple(value)
                elif name in columns.names:
                    getattr(columns, name)[row] = value + origin * (name in _OFFSETS)
        return columns

    def editor(
        self, rules: Sequence[Rule], profile: str | Profile = "lenient", *, fix: bool = True
    ) -> ReferenceEditor:
        return ReferenceEditor(rules, Profile.of(profile), fix=fix)

    def segment_batch(self, batch: Batch, out: Batch, mtu: int = 0) -> int:
        mtu = integer("mtu", mtu, 0, 65535)
        rows.check_pair(batch, out)
        return superframe.segment(batch, out, mtu)

    def coalesce_batch(self, batch: Batch, out: Batch) -> int:
        rows.check_pair(batch, out)
        return superframe.coalesce(batch, out)

    # -- numbers --------------------------------------------------------------

    def _number(self, tunnel: Tunnel, packets: int = 1) -> int:
        """The first of the numbers of so many packets: from 0 where the tunnel sends them."""
        if getattr(tunnel, "sequence", None) is None:
            return self.take(packets)
        with self._lock:
            first: int = tunnel.__dict__.get(_COUNT, 0)
            tunnel.__dict__[_COUNT] = first + packets
        return first

    def _give_back(self, tunnel: Tunnel, end: int, packets: int) -> None:
        """Numbers up to ``end`` were not used, unless others have taken some after them."""
        with self._lock:
            if tunnel.__dict__.get(_COUNT) == end:
                tunnel.__dict__[_COUNT] = end - packets

    # -- primitives -----------------------------------------------------------

    def segments(self, frame: Buffer, mss: int) -> list[bytes]:
        data = bytes(byte_view(frame, "frame"))
        return offload.segments(data, integer("mss", mss, 0, 0xFFFF))

    def flow_hash(self, frame: Buffer, seed: int = 0) -> int:
        data = bytes(byte_view(frame, "frame"))
        if len(data) < 14:
            raise ConfigError("frame", f"<{len(data)} bytes>", "at least 14 bytes")
        return flow_hash(data, integer("seed", seed, 0, 2**64 - 1))

    def checksum(self, data: Buffer) -> int:
        return checksum(bytes(byte_view(data, "data")))
