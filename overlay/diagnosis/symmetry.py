"""Symmetry: networks that differ by direction, tunnels of one way, addresses in two places."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .findings import EXAMPLES, Findings
from .report import Severity
from .sight import Sight
from .table import NOWHERE, Table, previous
from .words import Numbers, mix

__all__ = ["SymmetryDetector"]

#: Packets below which a tunnel of one way is no news.
_ENOUGH = 10
#: Suspicions that are kept.
_LIMIT = 4096
#: MAC addresses that many routers share (VRRP), without their last byte.
_SHARED = (0x00005E0001, 0x00005E0002)


@dataclass
class _Moves:
    tunnel: int
    seen: str
    count: int = 0
    packets: list[int] = field(default_factory=list)


@dataclass
class _Suspect:
    other: int
    tunnel: int
    packet: int
    seen: str


class SymmetryDetector:
    """Remembers ends, conversations and MAC addresses."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._ends = Table(14, {
            "back": np.uint64, "packets": np.int64, "first": np.int64, "tunnel": np.int32,
        })  # fmt: skip
        self._talks = Table(16, {"key": np.uint64, "mixed": np.bool_, "packets": np.int64})
        self._macs = Table(16, {"source": np.uint64})
        self._suspects: dict[int, _Suspect] = {}  # by slot of the talk
        self._moves: dict[int, _Moves] = {}  # by slot of the MAC
        self._lost = 0

    def take(self, sight: Sight) -> None:
        rows = np.flatnonzero(sight.taken & sight.inner.here & (sight.tunnel != NOWHERE))
        if rows.size:
            self._take_ends(sight, rows)
            i = sight.inner
            unicast = i.is_unicast[rows] & ((i.source_mac[rows] != 0) | i.raw[rows])
            self._take_talks(sight, rows[unicast])
            self._take_macs(sight, rows)

    # -- ends -------------------------------------------------------------------

    def _take_ends(self, sight: Sight, rows: Numbers) -> None:
        o = sight.outer
        rows = rows[~o.group[rows] & sight.inner.is_unicast[rows]]
        slots, fresh = self._ends.place(mix(o.source[rows], o.destination[rows]))
        held = slots != NOWHERE
        rows, slots, fresh = rows[held], slots[held], fresh[held]
        new = np.flatnonzero(fresh)[::-1]
        self._ends["back"][slots[new]] = mix(o.destination[rows[new]], o.source[rows[new]])
        self._ends["first"][slots[new]] = sight.number[rows[new]]
        self._ends["tunnel"][slots[new]] = sight.tunnel[rows[new]]
        np.add.at(self._ends["packets"], slots, 1)

    def _judge_ends(self) -> None:
        slots = self._ends.slots()
        answered = self._ends.find(self._ends["back"][slots]) != NOWHERE
        # Where nothing goes both ways, the capture sees one direction.
        severity = Severity.WARNING if answered.any() else Severity.INFO
        for slot in slots[~answered].tolist():
            packets = int(self._ends["packets"][slot])
            if packets >= _ENOUGH:
                self._findings.add(
                    "one-way", int(self._ends["tunnel"][slot]), [int(self._ends["first"][slot])],
                    packets, f"{packets} packets with unicast frames, none comes back",
                    severity=severity,
                )  # fmt: skip

    # -- talks --------------------------------------------------------------------

    def _take_talks(self, sight: Sight, rows: Numbers) -> None:
        """Who talks to whom by which key: MAC and IP addresses, and the ends."""
        o, i = sight.outer, sight.inner
        ip = i.family[rows] != 0
        source = np.where(ip, i.source[rows], 0).astype(np.uint64)
        destination = np.where(ip, i.destination[rows], 0).astype(np.uint64)
        left, right = i.source_mac[rows], i.destination_mac[rows]
        there = mix(o.source[rows], o.destination[rows], sight.protocol[rows])
        back = mix(o.destination[rows], o.source[rows], sight.protocol[rows])
        name = mix(there, left, right, source, destination)
        slots, fresh = self._talks.place(name)
        held = np.flatnonzero(slots != NOWHERE)
        slots, fresh, rows = slots[held], fresh[held], rows[held]
        keys = sight.key[rows]
        known, (before,) = previous(slots, fresh, [(self._talks["key"], keys)])
        self._talks["mixed"][slots[known & (before != keys)]] = True
        np.add.at(self._talks["packets"], slots, 1)
        new = np.flatnonzero(fresh)
        if not new.size:
            return
        place = held[new]
        answer = mix(back[place], right[place], left[place], destination[place], source[place])
        other = self._talks.find(answer)
        met = other != NOWHERE
        differ = met & (self._talks["key"][other] != keys[new])
        for index in np.flatnonzero(differ).tolist():
            slot, row = int(slots[new[index]]), int(rows[new[index]])
            if slot in self._suspects or len(self._suspects) >= _LIMIT:
                self._lost += slot not in self._suspects
                continue
            # Of two that appear in one burst, the later one is that which shows it.
            twin = self._suspects.pop(int(other[index]), None)
            late = twin is None or twin.packet < sight.number[row]
            seen = (
                f"{sight.inner_flow(row)} by key {int(sight.key[row])}, the way back by key "
                f"{int(self._talks['key'][other[index]])}"
            )
            suspect = _Suspect(
                int(other[index]), int(sight.tunnel[row]), int(sight.number[row]), seen
            )
            self._suspects[slot] = suspect if late or twin is None else twin

    def _judge_talks(self) -> None:
        mixed, packets = self._talks["mixed"], self._talks["packets"]
        for slot, suspect in self._suspects.items():
            if not mixed[slot] and not mixed[suspect.other]:
                self._findings.add(
                    "asymmetric-key", suspect.tunnel, [suspect.packet], int(packets[slot]),
                    suspect.seen,
                )  # fmt: skip

    # -- MAC addresses ----------------------------------------------------------------

    def _take_macs(self, sight: Sight, rows: Numbers) -> None:
        """Where each inner source MAC address is, as the end point that learns it sees it."""
        o, mac = sight.outer, sight.inner.source_mac[rows]
        own = (mac != 0) & (mac >> 40 & 1 == 0) & ~np.isin(mac >> 8, _SHARED)
        rows, mac = rows[own], mac[own]
        slots, fresh = self._macs.place(mix(o.destination[rows], sight.key[rows], mac))
        held = slots != NOWHERE
        rows, slots, fresh, mac = rows[held], slots[held], fresh[held], mac[held]
        known, (before,) = previous(slots, fresh, [(self._macs["source"], o.source[rows])])
        for place in np.flatnonzero(known & (before != o.source[rows])).tolist():
            slot, row = int(slots[place]), int(rows[place])
            moves = self._moves.get(slot)
            if moves is None:
                if len(self._moves) >= _LIMIT:
                    self._lost += 1
                    continue
                text = int(mac[place]).to_bytes(6, "big").hex(":")
                seen = f"inner MAC address {text} now behind {sight.address(row, 'source')}"
                moves = self._moves[slot] = _Moves(int(sight.tunnel[row]), seen)
            moves.count += 1
            if len(moves.packets) < EXAMPLES:
                moves.packets.append(int(sight.number[row]))

    def finish(self) -> None:
        self._judge_ends()
        self._judge_talks()
        for moves in self._moves.values():
            again = moves.count > 1
            self._findings.add(
                "mac-flapping" if again else "mac-moved", moves.tunnel, moves.packets,
                moves.count, f"{moves.seen}{f', {moves.count} moves' if again else ''}",
            )  # fmt: skip

    def left_out(self) -> dict[str, int]:
        return {
            "end points": self._ends.lost,
            "conversations": self._talks.lost,
            "MAC addresses": self._macs.lost,
            "suspicions": self._lost,
        }
