"""Meter: what became of the frames that a :class:`~overlay.traffic.Sweep` made.

Lives here: arrivals counted by key and stream, whole bursts at once, in bounded memory.
What must not: where batches come from, and how a report is printed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay.batch import Batch
from overlay.errors import ConfigError
from overlay.tunnel import PROTOCOLS, boolean, integer

from . import signature
from .delay import Delays
from .window import Window

__all__ = ["STREAMS", "Counts", "Meter", "Report"]

Column = npt.NDArray[Any]

#: Streams that a meter tells apart, at most.
STREAMS = 1 << 17

_NAMES = {kind.number: name for name, kind in PROTOCOLS.items()}


@dataclass(frozen=True)
class Counts:
    """What became of the frames of one key, of one stream, or of all.

    ``protocol`` and ``key``: of the tunnel, None for all, and for frames that came in none;
    ``stream``: its number, or None.  ``sent``: as told, or as the sequence numbers say.
    ``received``: those that came intact, each once; ``lost``: ``sent`` without them.
    ``duplicated``: arrivals beyond the first.  ``reordered``: received after a higher
    sequence number of their stream (RFC 4737, 3), and ``extent`` how far below the
    highest at most.  ``corrupted``: signatures whose CRC is wrong; of keys and of all,
    since the stream is not believed then.  ``latency``: nanoseconds, see
    :attr:`Report.latency`; ``jitter``: mean difference of consecutive latencies of a
    stream, ns (RFC 3393), None below two frames.
    """

    protocol: str | None = None
    key: int | None = None
    stream: int | None = None
    sent: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    extent: int = 0
    corrupted: int = 0
    latency: dict[str, int] = field(default_factory=dict)
    jitter: int | None = None


@dataclass(frozen=True)
class Report:
    """What a meter saw.

    ``total``; ``keys``: one a key, ``streams``: one a stream, in order.  ``frames``: looked
    at; ``unsigned``: without a signature; ``refused``: rows that had a status;
    ``overflowed``: intact, but of streams beyond the meter's limit; ``unchecked``:
    so late that they may be duplicates.

    ``latency`` of each is ``min``, ``median``, ``p99`` and ``max``: the time of arrival less
    the stamp in the frame, the middle two within 3 percent.  It is a latency only where
    sender and receiver have one clock: :attr:`clocks_agree` is False where an arrival
    was before its departure.
    """

    total: Counts
    keys: tuple[Counts, ...]
    streams: tuple[Counts, ...]
    frames: int
    unsigned: int
    refused: int
    overflowed: int
    unchecked: int

    @property
    def clocks_agree(self) -> bool:
        """Whether no frame came before it went."""
        return self.total.latency.get("min", 0) >= 0

    @property
    def clean(self) -> bool:
        """Whether all came, intact; in which order does not matter."""
        return not (self.total.lost or self.total.corrupted or self.overflowed)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**dataclasses.asdict(self), "clocks_agree": self.clocks_agree}


class Meter:
    """Finds signatures in batches of frames, and counts what came, what did not, and when.

    :param from_first: count what was sent from the first number seen of each stream, not
        from 0: for receivers that began later than the sender.
    :param limit: streams to tell apart, 1..:data:`STREAMS`.

    Streams of several senders are told apart by the tunnel's key and the stream's number.
    """

    def __init__(self, *, from_first: bool = False, limit: int = STREAMS) -> None:
        boolean("from_first", from_first)
        self._from_first = from_first
        self._limit = integer("limit", limit, 1, STREAMS)
        self._keys: dict[tuple[int, int], int] = {}
        self._packed = np.zeros(0, np.uint64)  # key's number << 32 | stream, sorted
        self._number = np.zeros(0, np.int64)  # of each of these, in order of appearance
        self._window = Window()
        self._delays = Delays()
        self._corrupted = np.zeros(0, np.int64)
        self._frames = self._unsigned = self._refused = self._overflowed = 0

    def take(self, batch: Batch, times: npt.ArrayLike) -> int:
        """Look at the rows whose status is OK: frames, as decap left them.

        :param times: when they came, ns since 1970: one a row, or one for all.
        :returns: how many had a signature.
        """
        when = np.broadcast_to(np.asarray(times, np.int64), batch.count)
        good = batch.status == 0
        seen = signature.find(batch)
        frames, found = int(np.count_nonzero(good)), int(np.count_nonzero(seen.found))
        self._frames += frames
        self._refused += batch.count - frames
        self._unsigned += frames - found
        if not found:
            return 0
        rows = np.flatnonzero(seen.found)
        key = self._key_numbers(batch.key[rows], batch.protocol[rows])
        intact = seen.intact[rows] & (seen.sequence[rows] < np.uint64(2**63))
        self._corrupted += np.bincount(key[~intact], minlength=len(self._corrupted))
        rows, key = rows[intact], key[intact]
        stream = self._stream_numbers(key, seen.stream[rows])
        known = stream >= 0
        self._overflowed += int(np.count_nonzero(~known))
        rows, stream, key = rows[known], stream[known], key[known]
        order = np.argsort(stream, kind="stable")
        rows, stream, key = rows[order], stream[order], key[order]
        fresh = self._window.take(stream, seen.sequence[rows])
        self._delays.grow(self._window.count, len(self._keys))
        late = when[rows] - seen.time[rows]
        self._delays.take(stream[fresh], key[fresh], late[fresh])
        return found

    def _key_numbers(self, key: Column, protocol: Column) -> Column:
        """The number of each row's key; new ones get the next."""
        numbers = np.empty(len(key), np.int64)
        for kind in np.unique(protocol).tolist():
            rows = protocol == kind
            unique, inverse = np.unique(key[rows], return_inverse=True)
            found = [self._keys.setdefault((kind, k), len(self._keys)) for k in unique.tolist()]
            numbers[rows] = np.array(found, np.int64)[inverse.reshape(-1)]
        more = len(self._keys) - len(self._corrupted)
        self._corrupted = np.concatenate([self._corrupted, np.zeros(more, np.int64)])
        return numbers

    def _stream_numbers(self, key: Column, stream: Column) -> Column:
        """The number of each row's stream; -1 where there are too many."""
        packed = key.astype(np.uint64) << np.uint64(32) | stream.astype(np.uint64)
        unique, inverse = np.unique(packed, return_inverse=True)
        new = np.setdiff1d(unique, self._packed, assume_unique=True)
        new = new[: self._limit - len(self._packed)]
        if new.size:
            merged = np.concatenate([self._packed, new])
            numbered = np.concatenate([self._number, len(self._number) + np.arange(new.size)])
            order = np.argsort(merged, kind="stable")
            self._packed, self._number = merged[order], numbered[order]
            self._window.grow(len(self._packed))
        if not len(self._packed):
            return np.full(len(key), -1)
        place = np.minimum(np.searchsorted(self._packed, unique), len(self._packed) - 1)
        number: Column = np.where(self._packed[place] == unique, self._number[place], -1)
        numbers: Column = number[inverse.reshape(-1)]
        return numbers

    # -- the end ---------------------------------------------------------------------

    def report(self, sent: int | Mapping[int, int] | None = None) -> Report:
        """What has been seen so far.

        :param sent: how many frames were sent: in all, or of each key.  If not told, the
            sequence numbers say, and what was lost after the last one that came is not known.
        """
        window, delays, count = self._window, self._delays, len(self._packed)
        by_number = np.argsort(self._number, kind="stable")
        key_of = (self._packed >> np.uint64(32)).astype(np.int64)[by_number]
        first = window.lowest[:count] if self._from_first else np.zeros(count, np.uint64)
        each = (window.highest[:count] - first + np.uint64(1)).astype(np.int64)
        pairs = list(self._keys)
        streams = []
        for place in np.argsort(self._packed, kind="stable").tolist():
            row = int(self._number[place])
            protocol, key = pairs[int(key_of[row])]
            streams.append(
                self._counts(
                    window, np.array([row]), int(each[row]), protocol, key,
                    stream=int(self._packed[place]) & 0xFFFFFFFF,
                    latency=delays.extremes(row), jitter=delays.jitter(np.array([row])),
                )
            )  # fmt: skip
        keys = []
        told = dict(sent) if isinstance(sent, Mapping) else {}
        for number, (protocol, key) in enumerate(pairs):
            rows = np.flatnonzero(key_of == number)
            keys.append(
                self._counts(
                    window, rows, told.pop(key, int(each[rows].sum())), protocol, key,
                    corrupted=int(self._corrupted[number]), latency=delays.latency(number),
                    jitter=delays.jitter(rows),
                )
            )  # fmt: skip
        keys.sort(key=lambda counts: (counts.protocol or "", counts.key or 0))
        for key, number in told.items():  # none of these came
            keys.append(Counts(key=key, sent=integer("sent", number, 0, 2**63), lost=number))
        total = sum(counts.sent for counts in keys)
        if sent is not None and not isinstance(sent, Mapping):
            total = integer("sent", sent, 0, 2**63)
        rows = np.arange(count)
        whole = self._counts(
            window, rows, total, 0, 0, corrupted=int(self._corrupted.sum()),
            latency=delays.latency(None), jitter=delays.jitter(rows),
        )  # fmt: skip
        whole = dataclasses.replace(whole, protocol=None, key=None)
        unchecked = int(window.unchecked[:count].sum())
        return Report(
            whole, tuple(keys), tuple(streams), self._frames, self._unsigned, self._refused,
            self._overflowed, unchecked,
        )  # fmt: skip

    @staticmethod
    def _counts(
        window: Window, rows: Column, sent: int, protocol: int, key: int, **more: Any
    ) -> Counts:
        if not isinstance(sent, int) or sent < 0:
            raise ConfigError("sent", sent, "a number of frames, 0 or more")
        received = int(window.received[rows].sum())
        return Counts(
            protocol=_NAMES.get(protocol),
            key=key if protocol else None,
            sent=sent,
            received=received,
            lost=max(0, sent - received),
            duplicated=int(window.duplicated[rows].sum()),
            reordered=int(window.reordered[rows].sum()),
            extent=int(window.extent[rows].max(initial=0)),
            **more,
        )
