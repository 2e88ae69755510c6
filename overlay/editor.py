"""Editor: the interface of every backend's rewriting in place, for the rewriter.

What lives here: signatures and the columns that every backend fills.  What must not:
rules as users write them (:mod:`.rule`) and the rebuilding of packets
(:mod:`overlay.rewrite`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .batch import Batch
from .rule import Rule, Target

__all__ = ["NOTES", "NO_RULE", "Editor"]

#: In the column of rules: no rule is for the packet, or it was refused.
NO_RULE = 2**32 - 1

#: STT frames of several segments that an editor remembers; one more takes the place of another.
NOTES = 4096


class Editor(ABC):
    """Rules made ready, and what the last batch became.

    ``action``: uint8, an :class:`~overlay.rule.Action` a row.  ``rule``: uint32, the
    number of the row's rule, or :data:`NO_RULE`.  ``target``: uint32, of rows to be
    rebuilt: the place in :meth:`targets`.  All are valid until the next batch.

    :param rules: in the order in which they are tried.
    :param fix: whether the checksums of packets that a rule is for are computed anew;
        else they are updated (RFC 1624, equation 3), and wrong ones stay wrong.
    """

    def __init__(self, rules: Sequence[Rule], *, fix: bool) -> None:
        self.rules = tuple(rules)
        self.fix = fix
        self._reserve(256)

    def _reserve(self, rows: int) -> None:
        """Columns for so many rows."""
        self.action = np.zeros(rows, np.uint8)
        self.rule = np.zeros(rows, np.uint32)
        self.target = np.zeros(rows, np.uint32)

    def edit(self, batch: Batch) -> int:
        """Give every row to its rule, in place where that does; returns the rows changed.

        Rows whose ``status`` is not OK are left alone; a row that is refused gets its
        ``status`` and keeps its bytes.  Packets in no tunnel are no rule's.
        """
        if batch.count > self.action.size:
            self._reserve(2 * batch.count)
        return self._edit(batch)

    @abstractmethod
    def _edit(self, batch: Batch) -> int: ...

    @property
    @abstractmethod
    def generation(self) -> int:
        """How often the targets were forgotten, to be numbered anew."""

    @abstractmethod
    def targets(self, first: int = 0) -> list[Target]:
        """The tunnels that rows are to be rebuilt in, each once, from number ``first`` on."""

    def columns(self, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32]]:
        """``action`` and ``target`` of the first ``count`` rows."""
        return self.action[:count], self.target[:count]
