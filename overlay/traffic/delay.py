"""Delay: latencies of many streams and keys, as histograms of bounded size.

What must not live here: where the times come from, and whether clocks agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Delays"]

Column = npt.NDArray[Any]

#: Keys that have a histogram of their own; the others have extremes alone.
KEYS = 1024

_FINE = 5  # 32 steps an octave: a step is 3 percent
_BINS = (63 - _FINE + 1) << _FINE
_NONE = np.iinfo(np.int64)


class Delays:
    """Collects latencies in ns; those below zero count as such in the extremes."""

    def __init__(self) -> None:
        self._bins = np.zeros((1, _BINS), np.int64)  # row 0 is of all, key k has row k + 1
        self._low, self._high = np.zeros(0, np.int64), np.zeros(0, np.int64)  # by stream
        self._key_low, self._key_high = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._last, self._count = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._varied = np.zeros(0, np.float64)

    def grow(self, streams: int, keys: int) -> None:
        """Have room for so many."""
        self._low, self._high = _grown(self._low, streams, 1), _grown(self._high, streams, -1)
        self._key_low = _grown(self._key_low, keys, 1)
        self._key_high = _grown(self._key_high, keys, -1)
        self._last, self._count = _grown(self._last, streams, 0), _grown(self._count, streams, 0)
        self._varied = _grown(self._varied, streams, 0)
        more = min(keys, KEYS) + 1 - len(self._bins)
        if more > 0:
            self._bins = np.concatenate([self._bins, np.zeros((more, _BINS), np.int64)])

    def take(self, stream: Column, key: Column, late: Column) -> None:
        """Count latencies; rows of one stream lie together, in order of arrival."""
        if not len(stream):
            return
        bins = _bin(late)
        self._bins[0] += np.bincount(bins, minlength=_BINS)
        own = key < KEYS
        if len(self._bins) == 2:
            self._bins[1] += np.bincount(bins[own], minlength=_BINS)
        else:
            np.add.at(self._bins, (key[own] + 1, bins[own]), 1)
        np.minimum.at(self._low, stream, late)
        np.maximum.at(self._high, stream, late)
        np.minimum.at(self._key_low, key, late)
        np.maximum.at(self._key_high, key, late)
        first = np.ones(len(stream), np.bool_)
        first[1:] = stream[1:] != stream[:-1]
        before = np.empty_like(late)
        before[1:] = late[:-1]
        before[first] = self._last[stream[first]]
        counted = ~first | (self._count[stream] > 0)
        steps = np.abs(late - before)[counted].astype(np.float64)
        self._varied += np.bincount(stream[counted], steps, minlength=len(self._varied))
        self._count += np.bincount(stream, minlength=len(self._count))
        last = np.ones(len(stream), np.bool_)
        last[:-1] = first[1:]
        self._last[stream[last]] = late[last]

    def latency(self, key: int | None) -> dict[str, int]:
        """Of a key, or of all: ``min``, ``median``, ``p99``, ``max``; empty without any."""
        if key is None:
            low, high, row = self._key_low, self._key_high, 0
        else:
            low, high = self._key_low[key : key + 1], self._key_high[key : key + 1]
            row = key + 1
        least, most = int(low.min(initial=_NONE.max)), int(high.max(initial=_NONE.min))
        if least > most:
            return {}
        found = {"min": least}
        if row < len(self._bins):
            for name, share in (("median", 0.5), ("p99", 0.99)):
                found[name] = min(max(_quantile(self._bins[row], share), least), most)
        return {**found, "max": most}

    def extremes(self, stream: int) -> dict[str, int]:
        """Of a stream: ``min`` and ``max``; empty without any."""
        if stream >= len(self._count) or not self._count[stream]:
            return {}
        return {"min": int(self._low[stream]), "max": int(self._high[stream])}

    def jitter(self, streams: Column) -> int | None:
        """Mean difference of consecutive latencies of these streams, or None without any."""
        streams = streams[streams < len(self._count)]
        steps = int(np.maximum(self._count[streams] - 1, 0).sum())
        return round(float(self._varied[streams].sum()) / steps) if steps else None


def _bin(late: Column) -> Column:
    """The histogram's bin of each latency: exact below 32 ns, then 32 an octave."""
    held = np.maximum(late, 0)
    _, exponent = np.frexp(held.astype(np.float64))
    octave = np.maximum(exponent - 1 - _FINE, 0).astype(np.int64)
    found: Column = np.minimum((octave << _FINE) + (held >> octave), _BINS - 1)
    return found


def _quantile(bins: Column, share: float) -> int:
    """The middle of the bin in which this share is reached."""
    reached = int(np.searchsorted(np.cumsum(bins), share * int(bins.sum())))
    octave = max(0, (reached >> _FINE) - 1)
    start = (reached - (octave << _FINE)) << octave
    return start + (1 << octave) // 2


def _grown(column: Column, rows: int, kind: int) -> Column:
    """The column with at least so many rows; new ones are 0, or beyond all in a direction."""
    if rows <= len(column):
        return column
    empty = {0: 0, 1: _NONE.max, -1: _NONE.min}[kind]
    room = max(rows, 2 * len(column), 16)
    return np.concatenate([column, np.full(room - len(column), empty, column.dtype)])
