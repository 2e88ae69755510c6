"""Tcp: inner TCP segments that are sent again and again and never acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .findings import EXAMPLES, Findings
from .flow import FlowRows, Flows
from .sight import Sight
from .table import NOWHERE, ranked_by
from .words import Bools, Hashes, Numbers

__all__ = ["TcpDetector"]

#: Segments that are watched at once.
_LIMIT = 4096
#: Payload below which a loss has nothing to do with an MTU.
_SMALL = 512
#: Times that it is sent again.
_AGAIN = 2


@dataclass
class _Stuck:
    tunnel: int
    size: int
    back: int  # hash of the other direction's flow
    seen: str = ""
    count: int = 0
    packets: list[int] = field(default_factory=list)


class TcpDetector:
    """Looks for black holes: what is large is lost, what is small arrives."""

    def __init__(self, findings: Findings, flows: Flows) -> None:
        self._findings = findings
        self._flows = flows
        self._stuck: dict[tuple[int, int], _Stuck] = {}  # by flow and sequence number
        self._lost = 0

    def take(self, sight: Sight, found: FlowRows) -> None:
        i, words = sight.inner, sight.words
        tcp = (i.protocol[found.rows] == 6) & (i.l4[found.rows] + 20 <= i.stop[found.rows])
        if not tcp.any():
            return
        rows, slots, fresh = found.rows[tcp], found.slots[tcp], found.fresh[tcp]
        at = i.l4[rows]
        seq = words.double(at + 4)
        header = (words.byte(at + 12) >> 4) * 4
        flags = words.byte(at + 13)
        payload = np.maximum(np.minimum(i.ip_end[rows], i.end[rows]) - at - header, 0)
        again = self._again(slots, fresh, (seq + payload) & 0xFFFFFFFF) & (payload > 0)
        acks = flags & 0x10 != 0
        self._flows.table["ack"][slots[acks]] = words.double(at + 8)[acks] + 1  # 0 is none yet
        for place in np.flatnonzero(again).tolist():
            row = int(rows[place])
            self._note(sight, row, int(slots[place]), int(seq[place]), int(payload[place]))

    def _again(self, slots: Numbers, fresh: Bools, end: Numbers) -> Bools:
        """Whether a segment ends at or before what its flow had sent."""
        top = self._flows.table["top"]
        order, first = ranked_by(slots)
        ordered = slots[order]
        starts = np.flatnonzero(first)
        group = np.cumsum(first) - 1
        # Positions do not wrap: each is counted from the flow's last one.
        begin = np.where(fresh[order][starts], end[order][starts], top[ordered[starts]])[group]
        step = (end[order] - begin + 2**31 & 0xFFFFFFFF) - 2**31
        position = begin + step
        spaced = position - begin + (group << 34)
        so_far = np.maximum.accumulate(np.maximum(spaced, group << 34)) - (group << 34) + begin
        before = np.empty_like(so_far)
        before[1:] = so_far[:-1]
        before[starts] = begin[starts]
        known = ~(first & fresh[order])
        last = np.append(starts[1:], slots.size) - 1
        top[ordered[last]] = so_far[last]
        again = np.empty(slots.size, np.bool_)
        again[order] = known & (position <= before)
        return again

    def _note(self, sight: Sight, row: int, slot: int, seq: int, size: int) -> None:
        entry = self._stuck.get((slot, seq))
        if entry is None:
            if len(self._stuck) >= _LIMIT:
                self._stuck.pop(next(iter(self._stuck)))
                self._lost += 1
            entry = _Stuck(int(sight.tunnel[row]), size, int(sight.back[row]))
            self._stuck[slot, seq] = entry
        entry.count += 1
        if len(entry.packets) < EXAMPLES:
            entry.packets.append(int(sight.number[row]))
        if entry.count == _AGAIN:
            entry.seen = (
                f"{sight.inner_flow(row)}: {size} bytes from sequence {seq} in outer packets of "
                f"{sight.outer.size[row]} bytes"
            )

    def finish(self) -> None:
        small = {slot for (slot, seq), stuck in self._stuck.items()
                 if stuck.size < _SMALL and self._is_lost(seq, stuck)}  # fmt: skip
        for (slot, seq), stuck in self._stuck.items():
            large = stuck.size >= _SMALL and stuck.count >= _AGAIN and slot not in small
            if large and self._is_lost(seq, stuck):
                self._findings.add(
                    "mtu-black-hole", stuck.tunnel, stuck.packets, stuck.count,
                    f"{stuck.seen}, sent {stuck.count + 1} times and never acknowledged",
                )  # fmt: skip

    def _is_lost(self, seq: int, stuck: _Stuck) -> bool:
        """Whether the other end is heard, and has not acknowledged it."""
        hashes: Hashes = np.array([stuck.back], np.uint64)
        slot = int(self._flows.table.find(hashes)[0])
        if slot == NOWHERE or not self._flows.table["ack"][slot]:
            return False
        ahead = int(self._flows.table["ack"][slot]) - 1 - seq & 0xFFFFFFFF
        return ahead == 0 or ahead >= 2**31

    def left_out(self) -> dict[str, int]:
        return {"retransmitted segments": self._lost}
