"""Flow: the inner TCP and UDP flows of each tunnel, in one bounded table for all who ask.

What must not live here: any judgement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .outer import GRE
from .sight import Sight
from .table import NOWHERE, Table, previous
from .words import Bools, Hashes, Numbers

__all__ = ["FlowRows", "Flows"]

#: Flows that are remembered, as a power of two.
BITS = 16


@dataclass
class FlowRows:
    """The packets of a burst that are in a remembered flow."""

    #: Their rows, in order, the slot of each, and whether it is the flow's first.
    rows: Numbers
    slots: Numbers
    fresh: Bools
    #: What shares flows out to paths: the source port, or the GRE key.
    entropy: Numbers


class Flows:
    """The table; a detector finds its own columns in it."""

    def __init__(self) -> None:
        self.table = Table(
            BITS,
            {
                "pair": np.uint64, "tunnel": np.int32, "entropy": np.int64, "changes": np.int32,
                "packets": np.int64, "first": np.int64, "top": np.int64, "ack": np.int64,
            },
        )  # fmt: skip

    def take(self, sight: Sight) -> FlowRows:
        """The burst's packets by flow."""
        rows = np.flatnonzero(sight.taken & (sight.inner.l4 != 0) & (sight.tunnel != NOWHERE))
        slots, fresh = self.table.place(sight.flow[rows])
        held = slots != NOWHERE
        rows, slots, fresh = rows[held], slots[held], fresh[held]
        o = sight.outer
        at = o.l4[rows]
        gre = o.protocol[rows] == GRE
        entropy = o.sport[rows]
        if gre.any():
            flags = sight.words.word(at)
            key = sight.words.double(at + np.where(flags & 0x8000, 8, 4))
            entropy = np.where(gre, np.where(flags & 0x2000, key, 0), entropy)
        new = np.flatnonzero(fresh)[::-1]  # of several, the first packet stays
        table = self.table
        table["pair"][slots[new]] = sight.pair[rows[new]]
        table["tunnel"][slots[new]] = sight.tunnel[rows[new]]
        table["first"][slots[new]] = sight.number[rows[new]]
        np.add.at(table["packets"], slots, 1)
        return FlowRows(rows, slots, fresh, entropy)

    def changes(self, found: FlowRows) -> tuple[Bools, Numbers]:
        """Which packets have another entropy than their flow's packet before, and that one's."""
        pairs = [(self.table["entropy"], found.entropy)]
        known, (before,) = previous(found.slots, found.fresh, pairs)
        changed: Bools = known & (before != found.entropy)
        np.add.at(self.table["changes"], found.slots[changed], 1)
        return changed, before

    def of_pairs(self) -> list[tuple[Hashes, Numbers]]:
        """The slots of each pair of end points, in the order of their first packets."""
        slots = self.table.slots()
        if not slots.size:
            return []
        slots = slots[np.argsort(self.table["first"][slots], kind="stable")]
        pairs = self.table["pair"][slots]
        order = np.argsort(pairs, kind="stable")
        different, starts = np.unique(pairs[order], return_index=True)
        groups = np.split(slots[order], starts[1:])
        return list(zip(different, groups, strict=True))
