"""Neighbors: who has which IP address in one network, for ARP and ND suppression.

Lives here: addresses as text.  What must not: any frame; the table reads those.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlay.address import ip_address, mac_address, mac_bytes
from overlay.errors import ConfigError

if TYPE_CHECKING:
    from overlay._live import NeighborTable

__all__ = ["Neighbor", "Neighbors"]

Ip = str | bytes | ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Neighbor:
    """Who has an IP address, as it was when asked.

    ``static`` ones were added, the others learned, ``age`` seconds ago.
    ``router``: an IPv6 router, and said so in answers.  ``vlan``: of the tag
    inside the network under which it was learned, or None.
    """

    ip: str
    mac: str
    static: bool
    router: bool
    age: float
    vlan: int | None = None


class Neighbors:
    """One network's table of IP to MAC; from any thread, while traffic runs.

    :param table: the VTEP's table, which all its networks share.
    :param network: the number of this network in it.
    :param clock: seconds, the same monotonic clock as the workers'.
    """

    __slots__ = ("_clock", "_network", "_table")

    def __init__(self, table: NeighborTable, network: int, clock: Callable[[], float]) -> None:
        self._table = table
        self._network = network
        self._clock = clock

    def add(self, ip: Ip, mac: str | bytes, *, router: bool = False) -> None:
        """Set who has an address: a static entry, which no frame changes.

        ``router``: it is an IPv6 router.  Hosts take a router whose answer does
        not say so off their list.
        Raises :class:`ConfigError` for what is no host's address, and when the
        table is full of static entries.
        """
        packed, canonical = self._packed(ip), mac_bytes(mac_address("mac", mac))
        if canonical[0] & 1 or not any(canonical):
            raise ConfigError("mac", mac, "the MAC address of one host")
        flags = self._table.STATIC | (self._table.ROUTER if router else 0)
        if not self._table.set(self._network, packed, canonical, flags, self._now()):
            expected = f"room in the neighbor table, which has {self._table.capacity} entries"
            raise ConfigError("ip", ip, expected)

    def remove(self, ip: Ip) -> bool:
        """Forget an address, static or learned; False if it was not known."""
        return self._table.remove(self._network, self._packed(ip))

    def lookup(self, ip: Ip) -> Neighbor | None:
        """Who has an address, or None."""
        packed, now = self._packed(ip), self._now()
        found = self._table.find(self._network, packed, now)
        return None if found is None else self._neighbor(packed, *found, now)

    def flush(self, *, static: bool = False) -> int:
        """Forget what was learned, and with ``static`` all; how many."""
        return self._table.flush(self._network, None, static)

    def __iter__(self) -> Iterator[Neighbor]:
        now = self._now()
        for _, vlan, ip, mac, flags, stamp in self._table.entries(self._network):
            yield self._neighbor(ip, mac, flags, stamp, now, vlan)

    def __len__(self) -> int:
        return len(self._table.entries(self._network))

    def __repr__(self) -> str:
        return f"<Neighbors: {len(self)} entries>"

    def _now(self) -> int:
        return int(self._clock())

    def _packed(self, ip: Ip) -> bytes:
        address = ipaddress.ip_address(ip_address("ip", ip))
        if address.is_unspecified or address.is_multicast:
            raise ConfigError("ip", ip, "the IP address of one host")
        return address.packed

    def _neighbor(
        self, ip: bytes, mac: bytes, flags: int, stamp: int, now: int, vlan: int | None = None
    ) -> Neighbor:
        return Neighbor(
            ip=str(ipaddress.ip_address(ip)),
            mac=mac.hex(":"),
            static=bool(flags & self._table.STATIC),
            router=bool(flags & self._table.ROUTER),
            age=float(max(0, now - stamp)),
            vlan=vlan,
        )
