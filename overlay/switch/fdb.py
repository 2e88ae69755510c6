"""Fdb: one network's MAC table, as its user sees it.

Lives here: MACs as text, places as the caller's own objects.  What must not:
what a place is; two callables turn them into the table's numbers and back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from overlay.address import mac_address
from overlay.errors import ConfigError

if TYPE_CHECKING:
    from overlay._live import FdbTable

__all__ = ["Entry", "Fdb"]

Where = TypeVar("Where")

_MAC = (1 << 48) - 1
_DEST = (1 << 24) - 1


@dataclass(frozen=True)
class Entry(Generic[Where]):
    """Where a MAC address is, as it was when asked.

    ``static`` entries, a port's own among them, neither age nor move; ``sticky``
    ones age and do not move.  ``age`` is the seconds since it was heard or set.
    """

    mac: str
    where: Where
    static: bool
    sticky: bool
    age: float


class Fdb(Generic[Where]):
    """The MAC table of one network.  Everything may be called while traffic runs, from any thread.

    :param table: the VTEP's table, which all its networks share.
    :param network: the number of this network in it.
    :param to_dest: the table's 24-bit number of a place; raises
        :class:`ConfigError` for what is no place in this network.
    :param from_dest: the place of a number, or None where it is gone.
    :param clock: seconds, the same monotonic clock as the workers'.
    """

    __slots__ = ("_clock", "_from_dest", "_network", "_table", "_to_dest")

    def __init__(
        self,
        table: FdbTable,
        network: int,
        to_dest: Callable[[Where], int],
        from_dest: Callable[[int], Where | None],
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._network = network
        self._to_dest = to_dest
        self._from_dest = from_dest
        self._clock = clock

    # ---- one entry ----------------------------------------------------------

    def add(self, mac: str | bytes, where: Where, *, sticky: bool = False) -> None:
        """Set where a MAC is, whatever was known of it.

        A static entry, which neither ages nor moves, until :meth:`remove`; with
        ``sticky`` one that ages like a learned one, but does not move.
        Raises :class:`ConfigError` for a MAC that is no host's, a port's own
        MAC, or when the table is full.
        """
        number = self._number(mac)
        dest = self._to_dest(where)
        if self._table.find(self._network, number) & self._table.OWN:
            raise ConfigError("mac", mac, "a MAC that is not a local port's own")
        flags = self._table.STICKY if sticky else self._table.STATIC
        result = self._table.set(self._network, number, dest, flags, self._now())
        if result == self._table.FULL:
            raise ConfigError(
                "mac", mac, f"room in the FDB, which has {self._table.capacity} entries"
            )

    def remove(self, mac: str | bytes) -> bool:
        """Forget a MAC, static or learned; False if it was not known.

        Raises :class:`ConfigError` for a port's own MAC, which goes with the port.
        """
        number = self._number(mac)
        if self._table.find(self._network, number) & self._table.OWN:
            raise ConfigError("mac", mac, "a MAC that is not a local port's own")
        return bool(self._table.remove(self._network, number))

    def learn(self, mac: str | bytes, where: Where) -> bool:
        """Learn as if a frame from this MAC had come from there.

        False when it was refused: it is static or sticky elsewhere, or there is no room.
        """
        number, dest, table = self._number(mac), self._to_dest(where), self._table
        while True:
            result, _ = table.learn(self._network, number, dest, self._now())
            if result != table.BUSY:
                return result in (table.KNOWN, table.LEARNED, table.MOVED)

    def lookup(self, mac: str | bytes) -> Entry[Where] | None:
        """Where frames for a MAC go, or None: it is not known."""
        number = self._number(mac)
        value = self._table.find(self._network, number)
        return self._entry(number, value, self._now()) if value else None

    # ---- all of them -----------------------------------------------------------

    def age(self, seconds: float | None = None) -> int:
        """Forget what was learned and not heard for more than so many seconds; how many.

        By default the network's own ageing.  Counted in whole seconds, never too early.
        """
        idle = self._table.ITS_AGE
        if seconds is not None:
            if not 0 <= seconds < 2**31 - 1:
                raise ConfigError("seconds", seconds, "seconds from 0 to 2**31 - 2")
            idle = math.ceil(seconds)
        return self._table.flush(self._network, idle=idle, now=self._now())

    def flush(
        self, port: Where | None = None, remote: Where | None = None, *, static: bool = False
    ) -> int:
        """Forget what was learned at a port, at a remote, or everywhere; how many.

        With ``static`` the static entries too, but for the ports' own MACs.
        """
        flags = self._table.STATIC if static else 0
        if port is None and remote is None:
            return self._table.flush(self._network, flags=flags)
        dests = [self._to_dest(where) for where in (port, remote) if where is not None]
        return sum(self._table.flush(self._network, dest, flags=flags) for dest in dests)

    def __len__(self) -> int:
        return self._table.count(self._network)

    def __contains__(self, mac: object) -> bool:
        return isinstance(mac, (str, bytes)) and self.lookup(mac) is not None

    def __iter__(self) -> Iterator[Entry[Where]]:
        """Every entry that stays while they are listed, in no order."""
        now = self._now()
        keys, values = self._table.entries(self._network)
        for key, value in zip(keys.tolist(), values.tolist(), strict=True):
            entry = self._entry(key & _MAC, value, now)
            if entry is not None:
                yield entry

    def __repr__(self) -> str:
        return f"<Fdb: {len(self)} entries>"

    # ---- words and numbers ------------------------------------------------------

    def _now(self) -> int:
        return int(self._clock())

    def _number(self, mac: str | bytes) -> int:
        number = int(mac_address("mac", mac).replace(":", ""), 16)
        if not number or number >> 40 & 1:
            raise ConfigError("mac", mac, "the MAC address of one host")
        return number

    def _entry(self, number: int, value: int, now: int) -> Entry[Where] | None:
        where = self._from_dest(value & _DEST)
        if where is None:
            return None
        return Entry(
            mac=number.to_bytes(6, "big").hex(":"),
            where=where,
            static=bool(value & self._table.STATIC),
            sticky=bool(value & self._table.STICKY),
            age=float(max(0, now - (value >> 32))),
        )
