"""Selection: which packets of a capture a command is asked to look at."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overlay.columns import Columns

__all__ = ["Selection"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _inside(addresses: npt.NDArray[np.uint8], network: _Network) -> npt.NDArray[np.bool_]:
    """Which addresses, 16 bytes a row, are in a network; their family is looked at elsewhere."""
    prefix = np.frombuffer(network.network_address.packed, np.uint8)
    mask = np.frombuffer(network.netmask.packed, np.uint8)
    found: npt.NDArray[np.bool_] = ((addresses[:, : mask.size] & mask) == prefix).all(axis=1)
    return found


@dataclass(frozen=True)
class Selection:
    """What is chosen by time and by outer address.

    ``outer``: networks of which the source or the destination is to be in one; ``local``:
    of the source; ``remote``: of the destination.  ``after``, and ``before``, which is
    not included, are nanoseconds since 1970.
    """

    outer: Sequence[_Network] = ()
    local: Sequence[_Network] = ()
    remote: Sequence[_Network] = ()
    after: int | None = None
    before: int | None = None

    @property
    def by_address(self) -> bool:
        return bool(self.outer or self.local or self.remote)

    def __bool__(self) -> bool:
        return self.by_address or self.after is not None or self.before is not None

    def excluded(
        self, times: npt.NDArray[np.int64], columns: Columns | None
    ) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
        """The rows that are not chosen, and how many for each option that says so first.

        ``columns`` are needed :attr:`by_address` only.
        """
        out = np.zeros(times.size, np.bool_)
        counts: Counter[str] = Counter()

        def leave(name: str, rows: npt.NDArray[np.bool_]) -> None:
            counts[name] += int(np.count_nonzero(rows & ~out))
            np.logical_or(out, rows, out=out)

        if self.after is not None:
            leave("time", times < self.after)
        if self.before is not None:
            leave("time", times >= self.before)
        if columns is not None:
            sides = {"outer": ("source", "destination"), "local": ("source",)}
            for name in ("outer", "local", "remote"):
                networks = getattr(self, name)
                if networks:
                    ends = sides.get(name, ("destination",))
                    leave(name, ~self._matches(columns, networks, ends))
        return out, +counts

    @staticmethod
    def _matches(
        columns: Columns, networks: Sequence[_Network], sides: tuple[str, ...]
    ) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(columns), np.bool_)
        for network in networks:
            family = columns.family == network.version
            for side in sides:
                found |= family & _inside(getattr(columns, side), network)
        return found
