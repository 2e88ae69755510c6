"""Path: whether the outer headers spread the inner flows over equal paths.

Routers are taken to hash the outer addresses, the protocol, the ports, and the
GRE key, by a hash without faults of its own: a real one does no better.
"""

from __future__ import annotations

import numpy as np

from .findings import Findings
from .flow import FlowRows, Flows
from .outer import GRE
from .report import Severity
from .sight import NVGRE, Sight
from .words import Hashes, Numbers, mix

__all__ = ["PathDetector"]

#: Flows below which nothing is said of a tunnel.
_FEW = 8
#: Source ports that RFC 7348 has VTEPs use, and FlowIDs.
_PORTS, _FLOW_IDS = 16384, 256
#: One false alarm in a million pairs of end points, in standard deviations.
_SIGMA = 4.75


class PathDetector:
    """Few source ports for many flows, unequal paths, flows that change their port."""

    def __init__(self, findings: Findings, flows: Flows, paths: int) -> None:
        self._findings = findings
        self._flows = flows
        self._paths = paths
        self._gre: set[int] = set()  # tunnels without ports
        self._plain: set[int] = set()  # and without a FlowID

    def take(self, sight: Sight, found: FlowRows) -> None:
        changed, before = self._flows.changes(found)
        gre = sight.outer.protocol[found.rows] == GRE
        if gre.any():
            rows = found.rows[gre]
            self._gre.update(np.unique(sight.tunnel[rows]).tolist())
            plain = rows[sight.protocol[rows] != NVGRE]
            self._plain.update(np.unique(sight.tunnel[plain]).tolist())
        if not changed.any():
            return
        again = self._flows.table["changes"][found.slots] > 1
        name = {False: "source port", True: "GRE key"}
        old = np.zeros(sight.rows, np.int64)
        old[found.rows] = before
        new = np.zeros(sight.rows, np.int64)
        new[found.rows] = found.entropy

        def seen(row: int) -> str:
            what = name[bool(sight.outer.protocol[row] == GRE)]
            return f"{sight.inner_flow(row)}: {what} {old[row]}, then {new[row]}"

        for rows, severity in (
            (found.rows[changed & again], Severity.WARNING),
            (found.rows[changed & ~again], Severity.INFO),
        ):
            which = np.zeros(sight.rows, np.bool_)
            which[rows] = True
            self._findings.rows("flow-port-change", sight, which, seen, severity=severity)

    def finish(self) -> None:
        for pair, slots in self._flows.of_pairs():
            if slots.size >= _FEW:
                self._judge(pair, slots)

    def _judge(self, pair: Hashes, slots: Numbers) -> None:
        table = self._flows.table
        entropy, packets = table["entropy"][slots], table["packets"][slots]
        tunnel = int(table["tunnel"][slots[0]])
        gre = tunnel in self._gre
        what, most = ("GRE keys", _FLOW_IDS) if gre else ("source ports", _PORTS)
        flows, values = slots.size, np.unique(entropy)
        path = mix(np.full(flows, pair), entropy) % np.uint64(self._paths)
        load = np.bincount(path.astype(np.int64), minlength=self._paths)
        mean = flows / self._paths
        worst = load.max() / mean
        spread = f"the fullest of {self._paths} paths has {worst:.1f} times its share"
        expected = most * (1 - (1 - 1 / most) ** flows)
        chi = float(((load - mean) ** 2).sum() / mean)
        said = f"{flows} inner flows, {values.size} {what}"
        if values.size == 1:
            kind, said = "fixed-entropy", f"{said} ({values[0]}): {spread}"
        elif flows >= 2 * _FEW and values.size < expected / 4:
            kind, said = "low-entropy", f"{said} ({values[0]} to {values[-1]}): {spread}"
        elif chi > _critical(self._paths - 1) and worst >= 1.5:
            kind, said = "path-imbalance", f"{said}: {spread} (chi-square {chi:.0f})"
        else:
            return
        first = int(table["first"][slots[1]])  # with the second flow it can be seen
        # GRE has nothing else than its key: that it is one is no fault of the sender.
        severity = Severity.INFO if tunnel in self._plain else None
        self._findings.add(kind, tunnel, [first], int(packets.sum()), said, severity=severity)

    def left_out(self) -> dict[str, int]:
        return {"flows": self._flows.table.lost}


def _critical(degrees: int) -> float:
    """The chi-square that chance passes once in a million (Wilson and Hilferty)."""
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + _SIGMA * part**0.5) ** 3)
