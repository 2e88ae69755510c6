"""Findings: collects what the detectors see, one entry a kind and tunnel.

Lives here: counting, and the bound on how much is kept.  Must not: any fault's
name; those are the catalogue's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from overlay.errors import Status

from .catalogue import KINDS, REFUSALS
from .report import Finding, Severity
from .sight import Sight
from .words import Bools

__all__ = ["Findings"]

#: Packet numbers that a finding names.
EXAMPLES = 5
#: Entries that are kept.
LIMIT = 1 << 14


@dataclass
class _Entry:
    severity: Severity
    packet: int
    seen: str
    advice: str
    count: int = 0
    packets: list[int] = field(default_factory=list)


class Findings:
    """Entries by kind, status and tunnel."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._entries: dict[tuple[int, str, Status | None], _Entry] = {}
        self._limit = limit
        #: Entries for which there was no room.
        self.lost = 0

    def rows(
        self,
        kind: str,
        sight: Sight,
        which: Bools,
        seen: Callable[[int], str],
        *,
        severity: Severity | None = None,
        status: Status | None = None,
    ) -> None:
        """These rows of a burst show ``kind``; ``seen(row)`` says what a row shows."""
        rows = np.flatnonzero(which)
        if not rows.size:
            return
        tunnels = sight.tunnel[rows]
        order = np.argsort(tunnels, kind="stable")
        different, starts = np.unique(tunnels[order], return_index=True)
        ends = [*starts[1:].tolist(), rows.size]
        for tunnel, start, end in zip(different.tolist(), starts.tolist(), ends, strict=True):
            group = rows[order[start:end]]
            row = int(group[0])
            self.add(
                kind, tunnel, sight.number[group[:EXAMPLES]].tolist(), len(group),
                partial(seen, row), severity=severity, status=status,
            )  # fmt: skip

    def add(
        self,
        kind: str,
        tunnel: int,
        packets: list[int],
        count: int,
        seen: str | Callable[[], str],
        *,
        severity: Severity | None = None,
        status: Status | None = None,
    ) -> None:
        """``count`` more packets show ``kind``, ``packets`` first; those of a tunnel or of -1."""
        known = KINDS[kind]
        entry = self._entries.get((tunnel, kind, status))
        if entry is None:
            if len(self._entries) >= self._limit:
                self.lost += 1
                return
            text = seen if isinstance(seen, str) else seen()
            level, advice = known.severity, known.advice
            if status is not None:
                level, advice = REFUSALS[status]
            entry = _Entry(level if severity is None else severity, packets[0], text, advice)
            self._entries[tunnel, kind, status] = entry
        elif severity is not None and severity > entry.severity:
            entry.severity = severity
            entry.packet = packets[0]
            entry.seen = seen if isinstance(seen, str) else seen()
        entry.count += count
        if len(entry.packets) < EXAMPLES:
            entry.packets += packets[: EXAMPLES - len(entry.packets)]

    def by_tunnel(self) -> dict[int, list[Finding]]:
        """The findings of each tunnel's slot, the worst first; those of no tunnel at -1."""
        found: dict[int, list[Finding]] = defaultdict(list)
        for (tunnel, kind, status), entry in self._entries.items():
            name = None if status is None else status.name
            examples = tuple(sorted(entry.packets))
            finding = Finding(
                kind, entry.severity, entry.packet, entry.count, entry.seen, entry.advice,
                examples, name,
            )  # fmt: skip
            found[tunnel].append(finding)
        for several in found.values():
            several.sort(key=lambda f: (-f.severity, f.packet, f.kind))
        return found
