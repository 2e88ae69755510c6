"""Sweep: frames and packets whose fields take many values, by position and reproducible.

Lives here: which frame has which numbers, its stream, its tunnel.  What must not: how
frames are written (:mod:`.frame`), when and where they go.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from overlay._backend import codec
from overlay.batch import HEADROOM, Batch
from overlay.errors import ConfigError
from overlay.tunnel import Tunnel, boolean, choice, integer

from .frame import Frames, Marks
from .header import fields_of
from .values import Index, Values, addresses, macs, numbers

__all__ = ["STREAMS", "Combine", "Sweep", "options_of"]

Combine = Literal["zip", "product", "random"]
Times = npt.NDArray[np.int64]

#: Streams that a sweep has at most, and tunnels.
STREAMS = 65536

_BURST = 1024


class Sweep:
    """Frames, in tunnels or not, whose fields go through many values.

    ``for batch in sweep`` gives every combination once; :meth:`batches` any number of
    frames, at any times; :meth:`packets` and :meth:`frames` any part.  What frame number
    ``i`` is depends on ``i`` alone, not on the bursts that it is asked for in.

    :param inner: fields of the frames, ``{"ip.dst": "10.0.0.0/24", "udp.sport": "1000-2000"}``
        or a list of ``"FIELD=VALUES"``; names are :data:`overlay.traffic.FIELDS`.  UDP over
        IPv4 by default.
    :param tunnel: the protocol's class, such as ``overlay.VXLAN``; None for frames alone.
    :param outer: the tunnels' fields, each one value or many: text such as ``"5000-5063"``
        for numbers, IP and MAC addresses, and lists of any values.
    :param size: bytes of a frame without FCS: a number, text such as ``"64,1500"`` or
        ``"64-1514"``, or ``"imix"``; by default the smallest, 60 or more.
    :param combine: ``"zip"``: all fields step together, each begins again at its end;
        ``"product"``: every combination, the tunnels' fields fastest, then the inner ones as
        given; ``"random"``: the inner fields at random and the tunnels in random turns.
    :param seed: of what is random, 0..2**64-1.
    :param signature: whether each frame ends with the 32 bytes by which
        :class:`overlay.traffic.Meter` knows it.
    :param first_stream: number of the first stream, where several senders share a receiver.
    :param fill: the rest of the payload, over and over.
    :raises ConfigError: a field or value is wrong, or a size too small for headers and signature.

    Streams are what sequence numbers count in: every combination is one, where these
    are at most :data:`STREAMS`; else, and where fields are random, every tunnel is one.
    """

    def __init__(
        self,
        inner: Mapping[str, object] | list[str] | tuple[str, ...] = (),
        *,
        tunnel: type[Tunnel] | None = None,
        outer: Mapping[str, object] | None = None,
        size: object = None,
        combine: Combine = "zip",
        seed: int = 0,
        signature: bool = True,
        first_stream: int = 0,
        fill: bytes = b"\0",
    ) -> None:
        choice("combine", combine, ("zip", "product", "random"))
        self.combine = combine
        self.seed = integer("seed", seed, 0, 2**64 - 1)
        boolean("signature", signature)
        self.signature = signature
        self.first_stream = integer("first_stream", first_stream, 0, 2**32 - STREAMS)
        self._frames = Frames(fields_of(inner), size, signed=signature, fill=bytes(fill))
        headers = self._frames.headers
        self._axes = {name: headers.values[name] for name in headers.order}
        #: The tunnels, in turn; none for frames alone.
        self.tunnels: tuple[Tunnel, ...] = ()
        if tunnel is not None:
            self.tunnels = _tunnels(tunnel, dict(outer or {}), combine)
        elif outer:
            raise ConfigError("tunnel", None, "a protocol's class, as outer fields are given")
        turns = max(1, len(self.tunnels))
        self._combinations, self._divisors = turns, {}
        for name, values in self._axes.items():
            self._divisors[name] = self._combinations
            if combine == "zip":
                self._combinations = math.lcm(self._combinations, values.count)
            else:
                self._combinations *= values.count
        whole = combine != "random" or not self._axes
        #: How many streams there are.
        self.streams = self._combinations if whole and self._combinations <= STREAMS else turns
        overheads = [t.overhead for t in self.tunnels] or [0]
        self._overhead = np.array(overheads, np.int64)
        self._room = -(-max(HEADROOM, *overheads, 0) // 64) * 64
        self._stride = self._room + -(-self._frames.most // 8) * 8
        self._keys = np.array([t.key for t in self.tunnels] or [0], np.uint64)
        self._kept: dict[int, npt.NDArray[np.int64]] = {}

    @property
    def period(self) -> int:
        """Combinations of the fields there are, after which they come again (unless random)."""
        return self._combinations

    # -- what frame i is -----------------------------------------------------------

    def _positions(self, first: int, count: int) -> tuple[Index, npt.NDArray[np.int64]]:
        """The numbers of these frames, and the turn of the tunnel of each."""
        first = integer("first", first, 0, 2**62)
        count = integer("count", count, 0, 2**31)
        position = np.arange(first, first + count, dtype=np.uint64)
        turns = max(1, len(self.tunnels))
        if turns == 1:
            return position, np.zeros(count, np.int64)
        if self.combine != "random":
            return position, _rest(position, turns).astype(np.int64)
        rounds = range(first // turns, (first + count - 1) // turns + 1) if count else range(0)
        orders = [self._order(number, turns) for number in rounds]
        skipped = first % turns
        return position, np.concatenate([*orders, np.zeros(0, np.int64)])[skipped:][:count]

    def _order(self, number: int, turns: int) -> npt.NDArray[np.int64]:
        """The tunnels of one round, in random order."""
        if number not in self._kept:
            if len(self._kept) * turns > 1 << 18:
                self._kept.clear()
            key = np.arange(turns, dtype=np.uint64) + np.uint64(number * turns)
            self._kept[number] = np.argsort(_mixed(key, self.seed, 0), kind="stable")
        return self._kept[number]

    def _index(self, name: str, position: Index) -> Index:
        """Where in a field's values these frames' numbers are."""
        count = self._axes[name].count
        if self.combine == "zip":
            return _rest(position, count)
        if self.combine == "product":
            divisor = min(self._divisors[name], 2**63)  # positions are below it
            return _rest(position // np.uint64(divisor), count)
        place = list(self._axes).index(name) + 2
        drawn = _mixed(position, self.seed, place)
        if count < 2**32:
            return (drawn >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)
        return _rest(drawn, count)

    def _sizes(self, position: Index) -> npt.NDArray[np.int64]:
        values = self._frames.sizes
        if values.count == 1:
            return np.full(position.size, values[0], np.int64)
        if self.combine == "random":
            index = _rest(_mixed(position, self.seed, 1), values.count)
        else:  # each stream has all sizes in turn, and so has what comes one after the other
            whole = position // np.uint64(self.streams)
            shifted = position - whole * np.uint64(self.streams) + whole
            index = _rest(shifted, values.count)
        return values.take(index).astype(np.int64)

    def sizes(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Bytes of these frames, int64, without FCS."""
        return self._sizes(self._positions(first, count)[0])

    def lengths(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Bytes of these packets, int64, where tunnels leave the frames as they are."""
        position, turn = self._positions(first, count)
        return self._sizes(position) + self._overhead[turn]

    def marks(self, first: int, count: int) -> tuple[npt.NDArray[np.int64], Index]:
        """The stream and the sequence number of these frames, int64 and uint64."""
        position, turn = self._positions(first, count)
        return self._marks(position, turn)

    def _marks(
        self, position: Index, turn: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], Index]:
        sequence = position // np.uint64(self.streams)
        if self.streams != max(1, len(self.tunnels)):
            turn = (position - sequence * np.uint64(self.streams)).astype(np.int64)
        return turn + self.first_stream, sequence

    def keys(self, first: int, count: int) -> Index:
        """The key of the tunnel of each of these frames, uint64; 0 without tunnels."""
        return self._keys[self._positions(first, count)[1]]

    def sent(self, count: int) -> dict[int, int]:
        """How many of the first ``count`` frames each key gets; none without tunnels."""
        turns = max(1, len(self.tunnels))
        each = np.full(turns, count // turns)
        rest = self._positions(count - count % turns, count % turns)[1]
        each += np.bincount(rest, minlength=turns)
        found: dict[int, int] = {}
        for made, number in zip(self.tunnels, each.tolist(), strict=False):
            found[made.key] = found.get(made.key, 0) + number
        return found

    # -- bursts ------------------------------------------------------------------------

    def frames(
        self, first: int, count: int, *, times: npt.ArrayLike = 0, batch: Batch | None = None
    ) -> Batch:
        """These frames, without tunnels.

        :param times: for the signatures, ns since 1970: one a row, or one for all.
        :param batch: what an earlier call returned, to use its memory again.
        """
        position, turn = self._positions(first, count)
        return self._written(position, turn, times, batch)

    def _written(
        self, position: Index, turn: npt.NDArray[np.int64], times: npt.ArrayLike, old: Batch | None
    ) -> Batch:
        count = position.size
        size = self._sizes(position)
        batch = self._arena(count, old)
        base = np.arange(count, dtype=np.uint64) * np.uint64(self._stride)
        batch._rows(base, base + np.uint64(self._room), size, size)
        if not count:
            return batch
        marks = None
        if self.signature:
            when = np.broadcast_to(np.asarray(times, np.int64), count)
            marks = Marks(*self._marks(position, turn), when)
        self._frames.write(
            batch, self._stride, self._room, lambda name: self._index(name, position), size, marks
        )
        return batch

    def _arena(self, count: int, old: Batch | None) -> Batch:
        if old is not None and old.capacity >= count and old.data.size >= count * self._stride:
            old.clear()
            return old
        made = Batch.__new__(Batch)
        made._setup(np.zeros(max(1, count) * self._stride, np.uint8), max(1, count))
        return made

    def packets(
        self, first: int, count: int, *, times: npt.ArrayLike = 0, batch: Batch | None = None
    ) -> Batch:
        """These frames in their tunnels; a row that its tunnel refuses has the status for it.

        Parameters as those of :meth:`frames`.
        """
        position, turn = self._positions(first, count)
        made = self._written(position, turn, times, batch)
        if len(self.tunnels) == 1:
            codec.encap_batch(made, self.tunnels[0], sequence=first)
        elif self.tunnels and len(self.tunnels) <= count:
            codec.encap_batch(made, self.tunnels, turn, sequence=first)
        elif self.tunnels:
            used, index = np.unique(turn, return_inverse=True)
            codec.encap_batch(
                made, [self.tunnels[i] for i in used.tolist()], index, sequence=first
            )  # fmt: skip
        return made

    def batches(
        self, count: int | None = None, *, burst: int = _BURST, start: int = 0, gap: int = 0
    ) -> Iterator[Batch]:
        """The first ``count`` packets, in batches of at most ``burst`` rows.

        :param count: every combination once, if not given.
        :param start: time of the first, ns since 1970.
        :param gap: ns between them.
        """
        total = self.period if count is None else integer("count", count, 0, 2**62)
        burst = integer("burst", burst, 1, 2**24)
        for first in range(0, total, burst):
            rows = min(burst, total - first)
            yield self.packets(first, rows, times=start + gap * np.arange(first, first + rows))

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def __repr__(self) -> str:
        name = self.tunnels[0].name + " packets" if self.tunnels else "frames"
        return f"<Sweep of {self.period} {name}, {self.combine}, {self.streams} streams>"


def _rest(number: Index, by: int) -> Index:
    """The remainder: numpy divides by one number much faster than it takes remainders."""
    divisor = np.uint64(by)
    return number - number // divisor * divisor


def _mixed(number: Index, seed: int, lane: int) -> Index:
    """64 random-looking bits of each number: two rounds of SplitMix64's finaliser."""
    mask = 2**64 - 1
    salt = (seed + (lane + 1) * 0x9E3779B97F4A7C15) & mask
    number = number * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    for _ in range(2):
        number = (number ^ number >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        number = (number ^ number >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        number = number ^ number >> np.uint64(31)
    return number


# -- tunnels -------------------------------------------------------------------------------


def options_of(kind: type[Tunnel], name: str, given: object) -> list[Any]:
    """Every value of a tunnel's field, in order: a list's items, or what a text stands for.

    :raises ConfigError: naming the field.
    """
    if isinstance(given, (list, range, np.ndarray)):
        return list(given)
    if not isinstance(given, str):
        return [given]
    if name in ("local", "remote"):
        family, found = addresses(name, given)
        of = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
        return [of(number) for number in _all(name, found)]
    if name.endswith("_mac"):
        return [number.to_bytes(6, "big") for number in _all(name, macs(name, given))]
    words, is_number = _hints(kind, name)
    if not is_number:
        return [given]
    several: list[Any] = []
    for item in given.split(","):
        if item in words:
            several.append(item)
        elif name == "source_port" and "-" in item:  # a range of ports is one value: of entropy
            low, high = _all(name, numbers(name, item.replace("-", ","), 0, 65535))
            several.append((low, high))
        else:
            several += _all(name, numbers(name, item, 0, 2**64 - 1))
    return several


def _all(name: str, values: Values) -> list[int]:
    if values.count > STREAMS:
        raise ConfigError(name, f"<{values.count} values>", f"at most {STREAMS}")
    return [values[i] for i in range(values.count)]


def _hints(kind: type[Tunnel], name: str) -> tuple[tuple[str, ...], bool]:
    """The words that a field may be, and whether it may be a number."""
    hint = typing.get_type_hints(kind, localns={"Codec": Any}).get(name)
    parts = typing.get_args(hint) or (hint,)
    words = [str(w) for part in parts for w in typing.get_args(part) if isinstance(w, str)]
    return tuple(words), int in parts


def _tunnels(kind: type[Tunnel], outer: dict[str, object], combine: str) -> tuple[Tunnel, ...]:
    """The tunnels of these fields, combined; the first field is the fastest of a product."""
    known = {field.name for field in dataclasses.fields(kind)}
    if "key" in outer:
        outer = {kind.key_field: outer.pop("key"), **outer}
    for name in outer:
        if name not in known:
            raise ConfigError("outer", name, f"a field of {kind.name}: {', '.join(sorted(known))}")
    axes = {name: options_of(kind, name, given) for name, given in outer.items()}
    for name, axis in axes.items():
        if not axis:
            raise ConfigError(name, outer[name], "one value or more")
    lengths = [len(axis) for axis in axes.values()]
    total = math.lcm(*lengths) if combine == "zip" else math.prod(lengths)
    if total > STREAMS:
        raise ConfigError("outer", f"<{total} tunnels>", f"at most {STREAMS}")
    rows: Iterable[tuple[Any, ...]]
    if combine == "zip":
        rows = (tuple(axis[i % len(axis)] for axis in axes.values()) for i in range(total))
    else:
        rows = (row[::-1] for row in itertools.product(*reversed(axes.values())))
    make: Any = kind
    return tuple(make(**dict(zip(axes, row, strict=True))) for row in rows)
