"""Rewriter: tunnel packets changed by rules, in place or by way of another tunnel.

What is a change of fields is the backends' (:class:`overlay.editor.Editor`); what is
another protocol or IP version is decap, then encap, both of whole batches.  What lives
here: how the two meet, and the count of every packet.  What must not: any byte of a
header.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ._backend import codec
from .batch import _GAP, _USED, Batch
from .editor import NO_RULE
from .errors import ConfigError, Status
from .io import record
from .profile import Profile
from .rule import Action, Rule, Target
from .tunnel import NVGRE, PROTOCOLS, STT, Tunnel, choice, integer

__all__ = ["RewriteStats", "Rewriter"]

#: Bytes that a packet may grow by at its front: the longest outer headers.
_GROWTH = 512
#: Packets this close in time, in ns, go to the reassembler together.
_TICK = 100_000_000
_ETHERNET = 14

Rows = npt.NDArray[np.intp]


@dataclass
class RewriteStats:
    """What became of the packets: every one of ``packets`` is in one of the next four.

    ``rewritten``: a rule was applied.  ``unchanged``: no rule is for them.  ``refused``:
    why a rule could not be applied, and how often.  ``segments``: taken to put STT
    frames together, of which ``frames`` became whole and were rewritten or refused,
    and ``incomplete`` never did.  ``rules``: packets that each rule was applied to.
    """

    packets: int = 0
    rewritten: int = 0
    unchanged: int = 0
    segments: int = 0
    frames: int = 0
    incomplete: int = 0
    refused: Counter[Status] = field(default_factory=Counter)
    rules: list[int] = field(default_factory=list)


class _Arena:
    """Memory that rows are copied to, used again for every batch."""

    def __init__(self) -> None:
        self.data = np.empty(0, np.uint8)
        self._used = 0
        self._batches: list[Batch] = []  # to be used again
        self._taken = 0

    def begin(self, size: int) -> None:
        """Forget all; have room for so many bytes."""
        self._used = self._taken = 0
        if self.data.size < size:
            self.data = np.empty(size + size // 4, np.uint8)

    def take(self, size: int, rows: int, gap: int) -> tuple[Batch, int]:
        """An empty batch over the next ``size`` bytes, which begin at this place."""
        start = self._used
        self._used += size
        room = self.data[start : self._used]
        if self._taken == len(self._batches):
            self._batches.append(record.empty(room, rows))
        old = self._batches[self._taken]
        out = self._batches[self._taken] = record.empty(room, rows, old)
        self._taken += 1
        out._struct[[_USED, _GAP]] = 0, gap
        return out, start

    def copy(self, batch: Batch, rows: Rows, gap: int) -> tuple[Batch, int]:
        """Copies of these rows, each with ``gap`` free bytes before it."""
        every = rows.size == batch.count and not batch.status.any()
        part = batch if every else _rows_of(batch, rows)
        size = int(part.length.sum(dtype=np.int64)) + gap * rows.size
        out, start = self.take(size, rows.size, gap)
        record.pack(part, out)
        out.link[:] = part.link
        out.checksum[:] = 0
        out.base[:] -= np.uint64(gap)
        return out, start


def _rows_of(batch: Batch, rows: Rows) -> Batch:
    """These rows of a batch, over the same bytes."""
    part = Batch.from_array(
        batch.data, batch.offset[rows], batch.length[rows], base=batch.base[rows],
        wire=batch.wire[rows],
    )  # fmt: skip
    part.link[:] = batch.link[rows]
    return part


class _Rows:
    """Rows of one arena, gathered from several batches, to become one batch in order."""

    _COLUMNS = ("offset", "length", "wire", "link", "mss", "protocol", "checksum")

    def __init__(self) -> None:
        self._parts: list[dict[str, npt.NDArray[Any]]] = []

    def add(self, part: Batch, start: int, origin: Rows, rebuilt: bool) -> None:
        """The rows of ``part`` whose status is OK; its data begins at ``start`` of the arena."""
        good = part.status == 0
        columns = {name: getattr(part, name)[good] for name in self._COLUMNS}
        columns["offset"] = columns["offset"] + np.uint64(start)
        if not rebuilt:
            for name in ("mss", "protocol", "checksum"):
                columns[name] = np.zeros_like(columns[name])
        self._parts.append({**columns, "origin": origin[good]})

    def batch(self, data: npt.NDArray[np.uint8]) -> Batch:
        """All of them, by their origin."""
        if len(self._parts) == 1:
            return self._made(data, self._parts[0])
        columns = {
            name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]
        }
        order = np.argsort(columns["origin"], kind="stable")
        return self._made(data, {name: column[order] for name, column in columns.items()})

    def _made(self, data: npt.NDArray[np.uint8], columns: dict[str, npt.NDArray[Any]]) -> Batch:
        made = Batch.from_array(data, columns["offset"], columns["length"], wire=columns["wire"])
        for name in ("link", "mss", "protocol", "checksum", "origin"):
            getattr(made, name)[:] = columns[name]
        return made


class Rewriter:
    """Applies rules to batches of packets.

    :param rules: tried in their order; a packet goes to the first one that it matches.
    :param profile: the protocols and ports that are known, and what decap accepts of
        packets that are rebuilt; by default ``"lenient"`` with the ECN rules of RFC 6040.
        Keyed GRE around Ethernet is NVGRE then, unless a rule names ``"gre"`` and none
        ``"nvgre"``.
    :param mtu: the underlay's IP MTU for packets that are rebuilt: STT is segmented, others
        that are larger are refused; 0 is no limit.
    :param checksums: ``"fix"`` computes the outer checksums of packets that a rule is for;
        ``"keep"`` updates them, so that a wrong one stays wrong.  One that is absent
        (UDP's 0) stays absent, and so does an IPv4 one of 0 that a NIC was to make.
    :param refused: whether packets that a rule could not be applied to are given as they
        came, ``"keep"``, or not at all, ``"drop"``.
    :param timeout: seconds until an unfinished STT frame is given up.
    :param memory: bytes of unfinished STT frames held at most.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        profile: str | Profile | None = None,
        mtu: int = 0,
        checksums: Literal["fix", "keep"] = "fix",
        refused: Literal["keep", "drop"] = "keep",
        timeout: float = 30.0,
        memory: int = 4 << 20,
    ) -> None:
        self.rules = tuple(rules)
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"rules must be Rules, not {type(rule).__name__}")
        if profile is None:
            profile = profile_for(self.rules, "lenient")
        self._profile = Profile.of(profile)
        self._mtu = integer("mtu", mtu, 68, 65535) if mtu else 0
        self._fix = choice("checksums", checksums, ("fix", "keep")) == "fix"
        self._keep = choice("refused", refused, ("keep", "drop")) == "keep"
        self._editor = codec.editor(self.rules, self._profile, fix=self._fix)
        self._reassembler = codec.SttReassembler(timeout, memory, profile=self._profile)
        self._arena, self._segments = _Arena(), Batch.packed(1, 1)
        self._generation = -1  # of the editor's targets that follow
        self._ready: tuple[Tunnel, ...] = ()  # those of them that can be
        self._place: npt.NDArray[np.intp] = np.zeros(0, np.intp)  # of a target among these
        self._wrong: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)  # statuses of the others
        self._need = 0  # bytes before a frame that the longest of their headers takes
        self._counts = False  # whether a header numbers its packets, by their rows
        self._roomy = True  # so far there was room for them
        self._sequence = 0
        self._now = 0
        self._pushed_refused = 0
        self.stats = RewriteStats(rules=[0] * len(self.rules))

    def rewrite(self, batch: Batch, times: npt.ArrayLike = 0) -> Batch:
        """Rewrite the rows whose status is OK; returns the packets that they become, in order.

        Rows are changed in place where that does, also into another tunnel whose headers
        have room from ``base`` on; else all are copied to a batch that is valid until the
        next call.  ``origin`` is the row that each packet came from.  A row of ``batch``
        that was refused has its ``status``; what is given has none.  An STT segment that
        waits for others gives nothing.

        :param times: nanoseconds of any clock, one a row or one for all, by which
            unfinished STT frames grow old.
        """
        given = batch.status == Status.OK
        self._editor.edit(batch)
        action, _ = self._editor.columns(batch.count)
        most = int(action.max(initial=Action.NONE))
        if most == Action.EXCHANGE and self._exchange(batch):
            most = Action.EDITED
        if most > Action.EDITED:
            out = self._rebuild(batch, given, np.broadcast_to(np.asarray(times), batch.count))
        else:
            out = self._in_place(batch, given)
        self._count(batch, given)
        return out

    def finish(self) -> None:
        """No more batches come: count the STT frames that never became whole."""
        stats = self._reassembler.stats
        cut = max(0, stats.refused - self._pushed_refused)
        self.stats.incomplete = stats.pending + stats.timed_out + stats.evicted + cut
        self.stats.frames = stats.frames

    # -- in place -----------------------------------------------------------------

    def _kept(self, batch: Batch, given: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """The refused rows that are given as they came; what lies outside the data cannot be."""
        kept: npt.NDArray[np.bool_] = given & (batch.status != Status.OK)
        return kept & (batch.status != Status.BAD_ROW) if self._keep else kept & False

    def _in_place(self, batch: Batch, given: npt.NDArray[np.bool_]) -> Batch:
        kept = self._kept(batch, given)
        if not kept.any():
            batch.origin[:] = np.arange(batch.count)
            return batch
        rows = np.flatnonzero(kept | (batch.status == Status.OK))
        out = _rows_of(batch, rows)
        out.origin[:] = rows
        return out

    def _exchange(self, batch: Batch) -> bool:
        """Put other headers before the frames where these lie.

        False, and nothing is done, if there is too little room before one of them.
        """
        if self._mtu or not self._roomy:
            return False
        action, target = self._editor.columns(batch.count)
        self._make_ready()
        moved, status = action == Action.EXCHANGE, batch.status.copy()
        if self._counts and not moved.all():
            return False
        before = [(column, column.copy()) for column in (batch.offset, batch.length, batch.wire)]
        batch.status[:] = np.where(moved, self._wrong[target], Status.BAD_ROW)  # which is passed
        codec.decap_batch(batch, self._profile)
        good = batch.status == Status.OK
        self._roomy = not bool((batch.offset[good] - batch.base[good] < self._need).any())
        if self._roomy:
            np.copyto(batch.checksum, 0, where=moved)
            self._encap(batch, target)
            good = batch.status == Status.OK
        else:
            good[:] = False
        if not good.all():
            for column, old in before:
                np.copyto(column, old, where=~good)
            np.copyto(batch.status, status, where=~(moved & self._roomy))
        return self._roomy

    # -- rebuilt --------------------------------------------------------------------

    def _rebuild(
        self, batch: Batch, given: npt.NDArray[np.bool_], times: npt.NDArray[Any]
    ) -> Batch:
        action, target = self._editor.columns(batch.count)
        whole = np.flatnonzero((action == Action.EXCHANGE) | (action == Action.REBUILD))
        parts = np.flatnonzero(action == Action.GATHER)
        others = np.flatnonzero((batch.status == Status.OK) & (action < Action.EXCHANGE))
        self._make_ready()
        size = 2 * int(batch.length.sum(dtype=np.int64)) + self._need * whole.size
        if parts.size:
            size += self._reassembler.memory + (_GROWTH + 64) * parts.size
            size += int(batch.length[parts].sum(dtype=np.int64))
        self._arena.begin(size)
        made = _Rows()
        if others.size:
            made.add(*self._arena.copy(batch, others, 0), others, False)
        if whole.size:
            work, start = self._arena.copy(batch, whole, self._need)
            work.status[:] = self._wrong[target[whole]]
            codec.decap_batch(work, self._profile)
            self._encap(work, target[whole])
            batch.status[whole] = work.status
            made.add(work, start, whole, True)
        if parts.size:
            for work, start, rows in self._gathered(batch, parts, times):
                self._encap(work, target[rows])
                batch.status[rows] = work.status
                made.add(work, start, rows, True)
        kept = np.flatnonzero(self._kept(batch, given))
        if kept.size:
            made.add(*self._arena.copy(batch, kept, 0), kept, False)
        out = self._segmented(made.batch(self._arena.data), batch)
        raw = (batch.link[out.origin] == 1) & (out.protocol != 0)
        if raw.any():  # the rest of its capture begins with IP too
            out.offset[raw] += np.uint64(_ETHERNET)
            out.length[raw] -= _ETHERNET
            out.wire[raw] -= _ETHERNET
            out.link[raw] = 1
        return out

    def _make_ready(self) -> None:
        """The tunnels of the targets that are new, or what speaks against each."""
        if self._editor.generation != self._generation:
            self._generation = self._editor.generation
            self._ready, self._wrong = (), np.zeros(0, np.uint8)
        found = [tunnel_of(self.rules[t.rule], t) for t in self._editor.targets(self._wrong.size)]
        if not found:
            return
        wrong = np.array([0 if isinstance(t, Tunnel) else int(t) for t in found], np.uint8)
        self._wrong = np.concatenate((self._wrong, wrong))
        self._ready += tuple(t for t in found if isinstance(t, Tunnel))
        self._place = np.maximum(np.cumsum(self._wrong == 0) - 1, 0)
        self._need = max((t.overhead for t in self._ready), default=0)
        self._counts = any(getattr(t, "sequence", None) is not None for t in self._ready)

    def _encap(self, work: Batch, target: npt.NDArray[np.uint32]) -> None:
        fresh = work.status == Status.OK
        work.status[fresh] = self._wrong[target][fresh]
        tunnels, places = self._ready, self._place[target]
        if not tunnels:
            return
        codec.encap_batch(work, tunnels, places, sequence=self._sequence)
        self._sequence += work.count
        if self._mtu:
            link = np.array([14 if t.outer_vlan is None else 18 for t in tunnels])[places]
            large = (work.wire > self._mtu + link) & (work.mss == 0)
            large &= (work.protocol != STT.number) & (work.status == Status.OK)
            work.status[large] = Status.MTU_EXCEEDED

    def _gathered(self, batch: Batch, rows: Rows, times: npt.NDArray[Any]) -> Any:
        """Push STT segments; batches of whole frames, where they lie, and the rows that
        completed them."""
        clock = np.maximum.accumulate(np.clip(times[rows], self._now, 2**33 * 10**9 - 10**9))
        self._now = int(clock[-1])
        ends = np.flatnonzero(np.diff(clock // _TICK)) + 1
        for group, ticks in zip(np.split(rows, ends), np.split(clock, ends), strict=True):
            part = _rows_of(batch, group)
            room = self._reassembler.memory // max(1, len(ends) + 1)
            size = int(part.length.sum(dtype=np.int64)) + (_GROWTH + 64) * group.size + room
            out, start = self._arena.take(size, group.size, _GROWTH)
            self._reassembler.push_batch(part, out, float(ticks[0]) / 1e9)
            kept = (part.status == Status.OK) | (part.status == Status.STT_INCOMPLETE)
            early = (part.status == Status.STT_DUPLICATE) | (part.status == Status.STT_OVERLAP)
            self._pushed_refused += int(np.count_nonzero(~kept & ~early))
            batch.status[group] = np.where(kept, Status.OK, part.status)
            self.stats.segments += int(np.count_nonzero(kept))
            if out.count:
                out.base[:] -= np.uint64(_GROWTH)
                yield out, start, group[out.origin]

    def _segmented(self, made: Batch, batch: Batch) -> Batch:
        """Cut what is larger than the MTU: STT's own segments, and packets of super-frames."""
        if not self._mtu or not made.protocol.any():
            return made
        stt = (made.protocol == STT.number) & (made.wire > self._mtu + _ETHERNET)
        if not (stt.any() or made.mss.any()):
            return made
        total = int(made.length.sum(dtype=np.int64))
        rows = made.count + total // max(1, self._mtu - 80) * 2 + 16
        while True:
            if self._segments.capacity < rows or self._segments.data.size < total + 256 * rows:
                self._segments = Batch.packed(total + 256 * rows, rows)
            out = self._segments
            out.clear()
            codec.segment_batch(made, out, self._mtu)
            if not (made.status == Status.NO_ROOM).any():
                break
            made.status[made.status == Status.NO_ROOM] = Status.OK
            rows *= 2
        lost = made.status != Status.OK
        batch.status[made.origin[lost]] = made.status[lost]
        out.origin[:] = made.origin[out.origin]
        return out

    # -- counted -------------------------------------------------------------------

    def _count(self, batch: Batch, given: npt.NDArray[np.bool_]) -> None:
        stats = self.stats
        action, _ = self._editor.columns(batch.count)
        rule = self._editor.rule[: batch.count]
        good = given & (batch.status == Status.OK)
        count, done = int(np.count_nonzero(given)), int(np.count_nonzero(good))
        stats.packets += count
        if done < count:
            refused = np.bincount(batch.status[given])
            for status in np.flatnonzero(refused[1:]) + 1:
                stats.refused[Status(int(status))] += int(refused[status])
            action, rule = action[good], rule[good]
        actions = np.bincount(action, minlength=len(Action))
        stats.unchanged += int(actions[Action.NONE])
        stats.rewritten += int(actions[Action.EDITED : Action.GATHER].sum())
        if actions[Action.NONE]:
            rule = rule[rule != NO_RULE]
        for number, packets in enumerate(np.bincount(rule).tolist()):
            stats.rules[number] += packets


def profile_for(rules: Sequence[Rule], base: str, **options: Any) -> Profile:
    """The profile of this name with the ECN rules of RFC 6040, that knows what the rules name.

    Keyed GRE around Ethernet is NVGRE, unless a rule names ``"gre"`` and none ``"nvgre"``.
    """
    named = {name for rule in rules for name in rule.protocol or ()}
    if "gre" in named:
        known = [name for name in PROTOCOLS if name != "nvgre" or name in named]
        options["protocols"] = tuple(known)
    return Profile.of(base, ecn="rfc6040", **options)


def tunnel_of(rule: Rule, target: Target) -> Tunnel | Status:
    """The tunnel of a target, or why there is none."""
    kind = PROTOCOLS[target.protocol]
    values: dict[str, Any] = {
        "local": target.local,
        "remote": target.remote,
        "local_mac": target.local_mac,
        "remote_mac": target.remote_mac,
        "ttl": target.ttl,
        "dscp": "inherit" if target.dscp is None else target.dscp,
        "df": target.df,
    }
    if target.tci is not None:
        values["outer_vlan"] = target.tci & 0xFFF
        values["outer_dei"] = bool(target.tci & 0x1000)
        values["outer_pcp"] = target.tci >> 13
    try:
        return rule.build(kind, target.key, **values)
    except ConfigError as error:
        if error.field != kind.key_field:
            return Status.NO_FIELD
        return Status.NVGRE_VSID if kind is NVGRE and target.key < 1 << 24 else Status.KEY_RANGE
