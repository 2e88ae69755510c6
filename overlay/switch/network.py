"""Network, Port and Remote: one segment's L2 domain and what it joins.

Made by :class:`~overlay.switch.vtep.Vtep` and by one another, not by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from overlay.address import ip_address, mac_address
from overlay.errors import ConfigError
from overlay.tunnel import Tunnel, boolean, choice, integer

from .fdb import Fdb
from .neighbor import Neighbors
from .protocol import SWITCHED
from .stats import NetworkStats, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overlay.io.device import Device

    from .vtep import Vtep

__all__ = ["Network", "Port", "Remote"]

_ETHERNET = 14


class Port:
    """A local member of a network: a device, or one VLAN of it."""

    def __init__(
        self, network: Network, number: int, device: Device, vlan: int | None, name: str
    ) -> None:
        self.network = network
        self.number = number
        self.device = device
        #: VID that its frames carry on the device, or None.
        self.vlan = vlan
        self.name = name
        self._last = Traffic()  # once it is taken away

    @property
    def stats(self) -> Traffic:
        """Frames that came in from the device and went out to it."""
        return self.network.vtep._port_traffic(self)

    def __repr__(self) -> str:
        vlan = "" if self.vlan is None else f" vlan {self.vlan}"
        return f"<Port {self.name}{vlan} of network {self.network.key}>"


class Remote:
    """Another VTEP, as one network sees it."""

    def __init__(self, network: Network, number: int, tunnel: Tunnel, relay: bool, flood: bool):
        self.network = network
        self.number = number
        #: What is put around its frames.
        self.tunnel = tunnel
        #: Whether frames may pass between it and other remotes.
        self.relay = relay
        #: Whether group and unknown frames are sent to it.
        self.flood = flood
        #: Bytes of IP that the path carries; ICMP from the underlay lowers it.
        self.mtu = 0
        #: False while there is no route, or the next hop does not answer.
        self.resolved = True
        self._last = Traffic()  # once it is taken away

    @property
    def address(self) -> str:
        """Its IP address; that of a group where it stands for all remotes."""
        return self.tunnel.remote

    @property
    def protocol(self) -> str:
        """vxlan, nvgre or stt."""
        return self.tunnel.name

    @property
    def stats(self) -> Traffic:
        """Frames that came in from it and went out to it."""
        return self.network.vtep._remote_traffic(self)

    def __repr__(self) -> str:
        return f"<Remote {self.address} by {self.protocol} of network {self.network.key}>"


class Network:
    """One segment: its ports, its remotes, and the table of who is where."""

    def __init__(
        self,
        vtep: Vtep,
        number: int,
        key: int,
        tunnel: str,
        *,
        mtu: int | None,
        learn: bool,
        ageing: float,
        suppress_arp: bool,
        limit: int | None,
        accept: str,
        mss_clamp: bool | int,
        gbp: int | None,
        name: str | None,
        options: dict[str, Any],
    ) -> None:
        self.vtep = vtep
        self.number = number
        #: VNI, VSID or Context ID.
        self.key = key
        #: Protocol of remotes that name none.
        self.tunnel = choice("tunnel", tunnel, tuple(SWITCHED))
        if name is not None and not isinstance(name, str):
            raise ConfigError("name", name, "text")
        self.name = str(key) if name is None else name
        #: A tunnel of this network, to nowhere: what all of its kind have.
        self.shape: Tunnel
        self.options = options
        self._mtu = None if mtu is None else integer("mtu", mtu, 68, 65535)
        self._learn = boolean("learn", learn)
        self._suppress = boolean("suppress_arp", suppress_arp)
        self._accept = choice("accept", accept, ("listed", "any"))
        if not isinstance(ageing, (int, float)) or not 0 <= ageing <= 2**31 - 1:
            raise ConfigError("ageing", ageing, "seconds, 0 for never")
        self._ageing = float(ageing)
        self._limit = None if limit is None else integer("limit", limit, 1, 2**30)
        if not isinstance(mss_clamp, bool):
            integer("mss_clamp", mss_clamp, 88, 65495)
        self._clamp = mss_clamp
        self.gbp = None if gbp is None else integer("gbp", gbp, 0, 65535)
        self._ports: list[Port] = []
        self._remotes: list[Remote] = []
        self._last = NetworkStats()  # once it is taken away
        table = vtep._table
        #: Who is where.
        self.fdb: Fdb[Port | Remote] = Fdb(table, number, self._dest_of, vtep._where, vtep.clock)
        #: IP addresses and their MACs, for ARP and ND suppression.
        self.neighbors = Neighbors(vtep._neighbors, number, vtep.clock)

    def _dest_of(self, where: Port | Remote) -> int:
        if isinstance(where, Port) and self.vtep._ports.get(where.number) is where:
            dest = where.number
        elif isinstance(where, Remote) and self.vtep._remotes.get(where.number) is where:
            dest = where.number | self.vtep._live.REMOTE
        else:
            dest = None
        if dest is not None and where.network is self:
            return dest
        raise ConfigError("where", where, "a port or a remote of this network")

    # -- what can be changed while it runs

    @property
    def mtu(self) -> int:
        """IP bytes of a frame that may enter a tunnel; set it, or None for the underlay's."""
        return self.vtep._network_mtu(self)

    @mtu.setter
    def mtu(self, value: int | None) -> None:
        self._mtu = None if value is None else integer("mtu", value, 68, 65535)
        self.vtep._configure(self)

    @property
    def learn(self) -> bool:
        """Whether source addresses are learned."""
        return self._learn

    @learn.setter
    def learn(self, value: bool) -> None:
        self._learn = boolean("learn", value)
        self.vtep._configure(self)

    @property
    def ageing(self) -> float:
        """Seconds after which a learned entry goes; 0: never."""
        return self._ageing

    @ageing.setter
    def ageing(self, value: float) -> None:
        if not isinstance(value, (int, float)) or not 0 <= value <= 2**31 - 1:
            raise ConfigError("ageing", value, "seconds, 0 for never")
        self._ageing = float(value)
        self.vtep._configure(self)

    @property
    def limit(self) -> int | None:
        """How many addresses may be learned; None: as many as the table holds."""
        return self._limit

    @limit.setter
    def limit(self, value: int | None) -> None:
        self._limit = None if value is None else integer("limit", value, 1, 2**30)
        self.vtep._configure(self)

    @property
    def suppress_arp(self) -> bool:
        """Whether ARP and ND requests for known addresses are answered here."""
        return self._suppress

    @suppress_arp.setter
    def suppress_arp(self, value: bool) -> None:
        self._suppress = boolean("suppress_arp", value)
        self.vtep._configure(self)

    @property
    def accept(self) -> str:
        """Whose packets are taken: ``"listed"`` remotes', or of ``"any"`` who knows the key."""
        return self._accept

    @accept.setter
    def accept(self, value: Literal["listed", "any"]) -> None:
        self._accept = choice("accept", value, ("listed", "any"))
        self.vtep._configure(self)

    @property
    def mss_clamp(self) -> bool | int:
        """Whether TCP is held to an MSS that fits :attr:`mtu`, or to this one."""
        return self._clamp

    @mss_clamp.setter
    def mss_clamp(self, value: bool | int) -> None:
        if not isinstance(value, bool):
            integer("mss_clamp", value, 88, 65495)
        self._clamp = value
        self.vtep._configure(self)

    # -- members

    @property
    def ports(self) -> tuple[Port, ...]:
        """Its ports."""
        return tuple(self._ports)

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """Its remotes."""
        return tuple(self._remotes)

    def add_port(
        self,
        device: Device,
        *,
        vlan: int | None = None,
        mac: str | bytes | int | None = None,
        name: str | None = None,
    ) -> Port:
        """Join a device to the network.

        :param device: the caller's to close, after :meth:`remove_port`.  One
            device may have a port for each VLAN, and one without.
        :param vlan: VID (0..4095) of the frames that are this port's; the tag is
            taken off and put on again.  None: all that no other port takes, as they are.
        :param mac: a MAC address that is the port's own: frames with this
            source from elsewhere are dropped.  None: the device's, where the
            port is not one VLAN of it.
        """
        return self.vtep._add_port(self, device, vlan, mac, name)

    def remove_port(self, port: Port) -> None:
        """Take a port away, and what the FDB knows of it."""
        self.vtep._remove_port(self, port)

    def add_remote(
        self,
        address: str,
        *,
        tunnel: str | None = None,
        key: int | None = None,
        relay: bool = False,
        flood: bool = True,
        **options: Any,
    ) -> Remote:
        """Add a remote, or a multicast group that stands for all of them.

        :param tunnel: its protocol; None: the network's.
        :param key: its VNI, VSID or Context ID; None: the network's.
        :param relay: frames may pass between this remote and others.
        :param flood: group and unknown frames are sent to it.
        :param options: fields of :class:`~overlay.tunnel.VXLAN` and its like:
            ``ttl``, ``dscp``, ``flow_id``...
        """
        return self.vtep._add_remote(self, address, tunnel, key, relay, flood, options)

    def remove_remote(self, remote: Remote | str) -> None:
        """Take a remote away, by itself or by its address (by every protocol)."""
        if isinstance(remote, Remote):
            found = [remote] if remote in self._remotes else []
        else:
            text = ip_address("remote", remote)
            found = [one for one in self._remotes if one.address == text]
        if not found:
            raise ConfigError("remote", remote, "a remote of this network")
        for one in found:
            self.vtep._remove_remote(self, one)

    @property
    def stats(self) -> NetworkStats:
        """What passed."""
        return self.vtep._network_stats(self)

    def __iter__(self) -> Iterator[Port | Remote]:
        yield from self._ports
        yield from self._remotes

    def __repr__(self) -> str:
        return (
            f"<Network {self.key} by {self.tunnel}, {len(self._ports)} ports, "
            f"{len(self._remotes)} remotes, {len(self.fdb)} MACs>"
        )


def mac_of(number: int) -> str:
    """A MAC address that C gave as a number."""
    return mac_address("mac", number.to_bytes(6, "big"))
