"""Decapsulator: bursts of packets in, frames out, in the order in which they are whole.

Knows fragments, STT segments, tunnels within tunnels, and what is kept of them.
What must not live here: options and how results are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import overlay
from overlay import PROTOCOLS, Batch, Columns, Profile, Status
from overlay.io.columns import inspect_burst
from overlay.io.pcap import Burst, CaptureWriter
from overlay.io.table import TableWriter
from overlay.layout import STT_PORT, fields

from .layer import Layers, layer_of, texts
from .selection import Selection
from .stream import Sink, Tally

__all__ = ["Decapsulator"]

_NAMES = {kind.number: name for name, kind in PROTOCOLS.items()}
_MOVED = ("offset", "length", "wire", "key", "protocol", "mss", "link")

# A frame that decap refuses for one of these is in no tunnel of ours.
_IN_NO_TUNNEL = (
    Status.ETHERNET_TRUNCATED, Status.NOT_IP, Status.UNKNOWN_PROTOCOL, Status.GRE_PROTOCOL,
)  # fmt: skip

# Of rows that are not to be looked at: no Status.
_FILTERED = 255
# What the reassemblers count themselves.
_COUNTED = (
    _FILTERED, Status.STT_INCOMPLETE, Status.FRAGMENT_HELD, Status.FRAGMENT_OVERLAP,
    Status.FRAGMENT_LIMIT,
)  # fmt: skip

#: Packets this close in time, in ns, go to the reassembler together.
_TICK = 100_000_000

_GRE_PROTOCOLS = (0x6558, 0x88BE, 0x22EB)  # Ethernet, ERSPAN I and II, ERSPAN III


def _is_tunnel(frame: memoryview, profile: Profile) -> bool:
    """Whether a frame's headers say that it is in a tunnel, be they right or wrong."""
    ports = {getattr(profile, f"{name}_port", -1) for name in ("vxlan", "geneve", "gpe")}
    for f in fields(frame, by=profile):
        if f.size == 2:
            number = int.from_bytes(frame[f.offset : f.offset + 2], "big")
            if f.name == "outer.udp.destination_port" and number in ports:
                return True
            if f.name == "outer.tcp.destination_port" and number == STT_PORT:
                return True
            if f.name in ("nvgre.protocol", "gre.protocol") and number in _GRE_PROTOCOLS:
                return True
    return False


@dataclass
class _Part:
    """Rows of one batch, the row of the burst that each is of, and what was taken off them."""

    batch: Batch
    rows: npt.NDArray[np.intp]
    layers: Layers = field(default_factory=list)
    #: Before it is opened: its outermost layer.
    outermost: npt.NDArray[np.void] | None = None


class Decapsulator:
    """Takes bursts of packets and writes frames.

    :param depth: tunnels within tunnels to remove at most, 1..:data:`~.value.DEPTH_MAX`.
    :param resegment: whether STT frames are cut by their MSS.
    :param plain: whether what is in no tunnel is a frame itself, and not refused.
    :param fragments: whether outer fragments are reassembled.
    :param comments: whether what is taken off a frame is said in a comment; the writer is
        a :class:`CaptureWriter` of a pcapng file then.
    :param table: takes the columns of every chosen packet.
    """

    def __init__(
        self, profile: Profile, writer: Sink, tally: Tally, *, depth: int = 1,
        resegment: bool = False, plain: bool = False, selection: Selection | None = None,
        fragments: bool = True, comments: bool = False, table: TableWriter | None = None,
    ) -> None:  # fmt: skip
        self._profile = profile
        self._writer = writer
        self._tally = tally
        self._depth = depth
        self._resegment = resegment
        self._plain = plain
        self._selection = selection or Selection()
        self._comments = writer if comments and isinstance(writer, CaptureWriter) else None
        self._table = table
        self._reassembler = overlay.SttReassembler(profile=profile)
        self._fragments = overlay.FragmentReassembler() if fragments else None
        names = ("vxlan_port", "geneve_port", "gpe_port", "payload", "options", "inner_vlan")
        self._inner = Profile.of(profile.base, **{name: getattr(profile, name) for name in names})
        self._columns: Columns | None = None
        self._now = 0
        self._pushed_refused = self._fragments_refused = 0

    # -- one burst ------------------------------------------------------------

    def take(self, burst: Burst) -> None:
        """Take its packets; write the frames that are whole now."""
        batch, tally = burst.batch, self._tally
        tally.read += batch.count
        tally.bytes_read += int(batch.wire.sum(dtype=np.int64))
        base = _Part(batch, np.arange(batch.count))
        self._look(burst, base)
        overlay.decap_batch(batch, self._profile)
        if self._plain:
            frames = (batch.link == 0) & np.isin(batch.status, _IN_NO_TUNNEL)
            for column in (batch.status, batch.protocol, batch.key):
                column[frames] = 0
        parts = [base, *self._joined(base, burst.timestamps)]
        for part in tuple(parts):
            parts += self._reassembled(part, burst.timestamps)
        for part in parts:
            self._count_drops(part.batch)
            self._opened(part, part.batch.status == 0, part.outermost)
            self._deeper(part)
        self._write(parts, burst)

    def _look(self, burst: Burst, part: _Part) -> None:
        """Before anything is taken off: leave what is not chosen, keep what is asked for."""
        selection, columns = self._selection, None
        if self._comments or self._table or selection.by_address:
            columns = self._columns = inspect_burst(burst, self._profile, into=self._columns)
        excluded = None
        if selection:
            excluded, counts = selection.excluded(burst.timestamps, columns)
            self._tally.filtered.update(counts)
            burst.batch.status[excluded] = _FILTERED
        if columns is not None and self._table is not None:
            self._table.write(columns if excluded is None else columns[~excluded])
        if columns is not None and self._comments:
            part.outermost = layer_of(columns)

    def _opened(
        self, part: _Part, rows: npt.NDArray[np.bool_], layer: npt.NDArray[np.void] | None
    ) -> None:
        """Count the tunnels that these rows came out of, and keep what they say."""
        batch = part.batch
        counts = np.bincount(batch.protocol[rows], minlength=1).tolist()
        counts[0] = 0  # frames that were in none
        self._tally.protocols.update({_NAMES.get(p, "other"): n for p, n in enumerate(counts) if n})
        if layer is not None:
            layer["protocol"] = np.where(rows, batch.protocol, 0)
            layer["key"] = batch.key
            part.layers.append(layer)

    def _count_drops(self, batch: Batch) -> None:
        counts = np.bincount(batch.status, minlength=256)
        counts[list(_COUNTED)] = 0
        found = {Status(s): int(counts[s]) for s in np.flatnonzero(counts).tolist() if s}
        self._tally.drops.update(found)

    # -- tunnels within -------------------------------------------------------

    def _deeper(self, part: _Part) -> None:
        """Decap what is a tunnel's packet again; leave what is not, refuse what is a bad one."""
        batch = part.batch
        for _ in range(self._depth - 1):
            before = {name: getattr(batch, name).copy() for name in _MOVED}
            candidates = batch.status == 0
            batch.link[candidates] = 0
            layer = None
            if self._comments:
                layer = layer_of(overlay.inspect_batch(batch, self._inner))
            done = overlay.decap_batch(batch, self._inner)
            opened = candidates & (batch.status == 0)
            self._tally.nested += int(np.count_nonzero(opened))
            self._opened(part, opened, layer)
            refused = candidates & (batch.status != 0)
            frames = refused & np.isin(batch.status, _IN_NO_TUNNEL)
            for name, column in before.items():
                getattr(batch, name)[refused] = column[refused]
            for row in np.flatnonzero(refused & ~frames).tolist():
                if not _is_tunnel(batch[row], self._inner):
                    frames[row] = True
            statuses = np.bincount(batch.status[refused & ~frames], minlength=1).tolist()
            self._tally.drops.update({Status(s): n for s, n in enumerate(statuses) if n})
            batch.status[frames] = 0
            if not done:
                return

    # -- packets of several ---------------------------------------------------

    def _joined(self, part: _Part, times: npt.NDArray[np.int64]) -> Iterator[_Part]:
        """Push the outer fragments; the packets that are whole now, opened."""
        batch = part.batch
        rows = np.flatnonzero(batch.status == Status.IP_FRAGMENT)
        if not rows.size or self._fragments is None:
            return
        room = self._fragments.memory + int(batch.length[rows].sum(dtype=np.int64))
        out = Batch.packed(room + 512 * rows.size, rows.size)
        self._fragments.push_batch(batch, out, np.maximum(times, 0))
        statuses = batch.status[rows]
        taken = (0, *_COUNTED, Status.IP_FRAGMENT, Status.FRAME_CUT, Status.BAD_ROW)
        self._fragments_refused += int(np.count_nonzero(~np.isin(statuses, taken)))
        batch.status[rows[statuses == 0]] = Status.FRAGMENT_HELD  # it is in the packet now
        if not out.count:
            return
        made = _Part(out, out.origin.astype(np.intp))
        if self._comments:
            made.outermost = layer_of(overlay.inspect_batch(out, self._profile))
        overlay.decap_batch(out, self._profile)
        yield made

    def _reassembled(self, part: _Part, times: npt.NDArray[np.int64]) -> Iterator[_Part]:
        """Push the STT segments; the frames that are whole now."""
        batch = part.batch
        held = np.flatnonzero(batch.status == Status.STT_INCOMPLETE)
        if not held.size:
            return
        stamps = times[part.rows[held]]
        clock = np.maximum.accumulate(np.clip(stamps, self._now, 2**33 * 10**9 - 10**9))
        self._now = int(clock[-1])
        ends = np.flatnonzero(np.diff(clock // _TICK)) + 1
        for rows, ticks in zip(np.split(held, ends), np.split(clock, ends), strict=True):
            some = Batch.from_array(
                batch.data, batch.offset[rows], batch.length[rows], wire=batch.wire[rows]
            )
            some.link[:] = batch.link[rows]
            room = self._reassembler.memory + int(some.length.sum(dtype=np.int64))
            out = Batch.packed(room + 64 * some.count, some.count)
            self._reassembler.push_batch(some, out, float(ticks[0]) / 1e9)
            kept = (some.status == 0) | (some.status == Status.STT_INCOMPLETE)
            batch.status[rows] = np.where(kept, Status.STT_INCOMPLETE, some.status)
            early = (some.status == Status.STT_DUPLICATE) | (some.status == Status.STT_OVERLAP)
            self._pushed_refused += int(np.count_nonzero(~kept & ~early))
            if out.count:
                completed = rows[out.origin]
                made = _Part(out, part.rows[completed])
                if part.outermost is not None:
                    made.outermost = part.outermost[completed]
                yield made

    # -- frames ---------------------------------------------------------------

    def _write(self, parts: list[_Part], burst: Burst) -> None:
        base, tally = parts[0], self._tally
        done = base.batch.status == 0
        if len(parts) > 1 or (self._resegment and base.batch.mss[done].any()):
            self._write_each(parts, burst)
            return
        tally.bytes_written += int(base.batch.wire[done].sum(dtype=np.int64))
        if self._comments:
            said: list[tuple[str, ...]] = [()] * base.batch.count
            for row in np.flatnonzero(done).tolist():
                said[row] = texts(base.layers, row)
            tally.wrote += self._comments.write(
                base.batch, burst.timestamps, burst.interface, comments=said
            )
        else:
            times = self._writer.times(burst)
            tally.wrote += self._writer.write_all(base.batch, times, burst.interface)

    def _write_each(self, parts: list[_Part], burst: Burst) -> None:
        """Write frames of several batches, in the order of the packets that completed them."""
        found = [
            (int(part.rows[place]), number, place)
            for number, part in enumerate(parts)
            for place in np.flatnonzero(part.batch.status == 0).tolist()
        ]
        found.sort()
        rows: list[int] = []
        frames: list[memoryview | bytes] = []
        cut: list[int] = []
        keys: list[int] = []
        protocols: list[int] = []
        said: list[tuple[str, ...]] = []
        for row, number, place in found:
            batch = parts[number].batch
            frame = batch[place]
            missing = int(batch.wire[place]) - len(frame)
            mss = int(batch.mss[place]) if self._resegment and not missing else 0
            pieces = overlay.Tunnel.codec.segments(frame, mss) if mss else [frame]
            rows += [row] * len(pieces)
            frames += pieces
            cut += [missing] * len(pieces)
            keys += [int(batch.key[place])] * len(pieces)
            protocols += [int(batch.protocol[place])] * len(pieces)
            said += [texts(parts[number].layers, place)] * len(pieces)
        made = Batch.from_frames(frames, headroom=0)
        made.wire[:] += np.array(cut, np.uint32)
        made.key[:], made.protocol[:] = keys, protocols
        self._tally.bytes_written += int(made.wire.sum(dtype=np.int64))
        order = np.array(rows, np.intp)
        times, interface = burst.timestamps[order], burst.interface[order]
        if self._comments:
            self._tally.wrote += self._comments.write(made, times, interface, comments=said)
        else:
            self._tally.wrote += self._writer.write(made, times, interface)

    # -- the end --------------------------------------------------------------

    def finish(self) -> None:
        """Count the packets and frames that never became whole."""
        stats, drops = self._reassembler.stats, self._tally.drops
        cut = max(0, stats.refused - self._pushed_refused)
        lost = {Status.STT_INCOMPLETE: stats.pending + stats.timed_out + stats.evicted + cut}
        if stats.segments:
            self._tally.facts["stt_segments"] = stats.segments
            self._tally.facts["stt_frames_reassembled"] = stats.frames
        if self._fragments is not None:
            pieces = self._fragments.stats
            lost[Status.FRAGMENT_TIMEOUT] = pieces.timeouts + pieces.held
            lost[Status.FRAGMENT_OVERLAP] = pieces.overlaps
            lost[Status.FRAGMENT_LIMIT] = pieces.limits
            lost[Status.ECN_CONGESTION] = max(0, pieces.refused - self._fragments_refused)
            if pieces.taken:
                self._tally.facts["fragments"] = pieces.taken
                self._tally.facts["fragments_joined"] = pieces.joined
                self._tally.facts["packets_of_fragments"] = pieces.packets
        drops.update({status: n for status, n in lost.items() if n})
        if self._depth > 1:
            self._tally.facts["nested"] = self._tally.nested
