"""The table of MAC addresses of one network: static, own and learned entries.

A dictionary and an explicit clock.  Frames, networks and devices are others'.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from overlay.errors import Status

__all__ = ["Entry", "Fdb"]

Where = TypeVar("Where", bound=Hashable)


@dataclass
class Entry(Generic[Where]):
    """Where a MAC address is.

    ``own`` is a local port's own address.  It and ``static`` entries neither age nor move;
    ``sticky`` ones age and do not move.  ``seen`` is when the address was heard last.
    """

    where: Where
    static: bool = False
    sticky: bool = False
    own: bool = False
    seen: float = 0.0

    @property
    def stays(self) -> bool:
        return self.static or self.own

    @property
    def is_fixed(self) -> bool:
        return self.stays or self.sticky


class Fdb(Generic[Where]):
    """Which MAC address is where.  ``limit`` bounds what is learned, ``ageing`` is in seconds."""

    def __init__(self, limit: int | None = None, ageing: float = 300.0) -> None:
        self.limit = limit
        self.ageing = ageing
        self.refused = 0
        self._entries: dict[bytes, Entry[Where]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[bytes, Entry[Where]]]:
        return iter(list(self._entries.items()))

    # -- what a controller does ------------------------------------------------

    def add(
        self, mac: bytes, where: Where, now: float = 0.0, *, sticky: bool = False, own: bool = False
    ) -> None:
        """Bind a MAC address to a place, whatever was known of it."""
        static = not sticky and not own
        self._entries[mac] = Entry(where, static=static, sticky=sticky, own=own, seen=now)

    def remove(self, mac: bytes) -> bool:
        return self._entries.pop(mac, None) is not None

    def flush(self, where: Where | None = None, *, static: bool = False) -> int:
        """Forget what was learned, of one place or of all; with ``static`` the rest too."""
        gone = [
            mac
            for mac, entry in self._entries.items()
            if (where is None or entry.where == where) and (static or not entry.stays)
        ]
        for mac in gone:
            del self._entries[mac]
        return len(gone)

    # -- what traffic does -----------------------------------------------------

    def lookup(self, mac: bytes) -> Entry[Where] | None:
        return self._entries.get(mac)

    def check(self, mac: bytes, where: Where | None) -> Status:
        """Whether a frame from this place may have this source."""
        entry = self._entries.get(mac)
        if entry is None or not entry.is_fixed or entry.where == where:
            return Status.OK
        return Status.OWN_MAC if entry.own else Status.SPOOFED_SOURCE

    def learn(self, mac: bytes, where: Where, now: float) -> str | None:
        """Note where a MAC address was heard: "learned", "moved", or None.

        A table that is full refuses what is new to it, and counts that; it never evicts.
        """
        entry = self._entries.get(mac)
        if entry is None:
            if self.limit is not None and self._learned() >= self.limit:
                self.refused += 1
                return None
            self._entries[mac] = Entry(where, seen=now)
            return "learned"
        if entry.is_fixed and entry.where != where:
            return None
        moved = entry.where != where
        entry.where, entry.seen = where, now
        return "moved" if moved else None

    def age(self, now: float) -> int:
        """Forget what has not been heard for longer than ``ageing``; how many."""
        old = [
            mac
            for mac, entry in self._entries.items()
            if not entry.stays and now - entry.seen > self.ageing
        ]
        for mac in old:
            del self._entries[mac]
        return len(old)

    def _learned(self) -> int:
        return sum(not entry.stays for entry in self._entries.values())
