"""Registry: what a VTEP has, by number, as the C core sees it, and the one lock around it.

What lives here: numbers given and taken back, and each change as one step
between two bursts.  What must not: threads, decisions about a frame.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from overlay.address import ip_address, mac_address, mac_bytes
from overlay.errors import ConfigError
from overlay.io.device import Device, live
from overlay.record import CONFIG, tunnel_record
from overlay.tunnel import STT, boolean, choice, integer

from .network import Network, Port, Remote
from .protocol import SWITCHED
from .stats import NetworkStats, Traffic
from .underlay import Path, Underlay

__all__ = ["REASSEMBLY_SECONDS", "Registry"]

_RESOLVE_WAIT = 0.2  # seconds that a new remote's next hop may take to answer
REASSEMBLY_SECONDS = 30.0  # that the parts of a frame or a packet may take to arrive
_NEIGHBOR_AGE = 900  # seconds after which a learned IP address answers no more


class Numbers:
    """Small numbers, given out, taken back, used again."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        """A number that nobody has."""
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give(self, number: int) -> None:
        """Take it back."""
        self._free.append(number)


class Attached:
    """A device in use, and how many ports it has."""

    def __init__(self, device: Device, number: int) -> None:
        self.device = device
        self.number = number
        self.vlans: dict[int | None, Port] = {}


class Registry:
    """The tables of a VTEP and everything that is in them.

    Workers read what is here; a change is made while none works.
    """

    def __init__(
        self,
        *,
        seed: int,
        workers: int,
        networks: int,
        macs: int,
        neighbors: int,
        reassembly: int,
    ) -> None:
        self._live: Any = live()
        self.workers = integer("workers", workers, 1, 64)
        integer("macs", macs, 1, 1 << 30)
        integer("neighbors", neighbors, 1, 1 << 24)
        self._most = integer("networks", networks, 1, 65534)
        self._reassembly = integer("reassembly", reassembly, 1 << 16, 1 << 36)
        self._seed = seed
        self.clock = time.monotonic
        self._table = self._live.FdbTable(macs, self._most, seed)
        self._neighbors = self._live.NeighborTable(neighbors, _NEIGHBOR_AGE, seed)
        self._chassis = self._live.Chassis(
            self._table, self._neighbors, self._most, self.workers, seed
        )
        self._lock = threading.RLock()
        self._holding = 0
        self._numbers = {kind: Numbers() for kind in ("network", "port", "remote", "device")}
        self._networks: dict[tuple[str, int], Network] = {}
        self._by_number: dict[int, Network] = {}
        self._ports: dict[int, Port] = {}
        self._remotes: dict[int, Remote] = {}
        self._keys: dict[tuple[int, int], list[int]] = {}  # (protocol, key): [network, uses]
        self._attached: dict[int, Attached] = {}
        self._gone = NetworkStats()
        self._closed = False
        self._underlay: Underlay
        self.local: str

    @contextmanager
    def _held(self) -> Iterator[None]:
        """While no worker works; may be nested."""
        with self._lock:
            if self._holding == 0:
                self._chassis.hold()
            self._holding += 1
            try:
                yield
            finally:
                self._holding -= 1
                if self._holding == 0:
                    self._chassis.release()

    def _plug(self, device: Device) -> int:
        queues = device.queues
        if not 1 <= len(queues) <= self.workers:
            raise ConfigError("device", device, f"one with at most {self.workers} queues")
        if any(queue.closed for queue in queues):
            raise ConfigError("device", device, "one that is open")
        if any(queue.used for queue in queues):
            raise ConfigError("device", device, "one that is in no other use")
        number = self._numbers["device"].take()
        try:
            with self._held():
                self._chassis.reserve(0, 0, number + 1)
                self._chassis.plug(number, tuple(queues))
        except BaseException:
            self._numbers["device"].give(number)
            raise
        return number

    def _unplug(self, number: int) -> None:
        with self._held():
            self._chassis.unplug(number)
        self._numbers["device"].give(number)

    def _settle(self) -> None:
        """Events that speak of what is about to go, by its number, are turned to words."""

    # -- networks --------------------------------------------------------------------

    def _find(self, network: Network | int) -> Network:
        if isinstance(network, Network):
            if self._by_number.get(network.number) is network:
                return network
        else:
            found = [one for one in self._networks.values() if one.key == network]
            if len(found) == 1:
                return found[0]
        raise ConfigError("network", network, "a network of this VTEP, by one protocol")

    def _use_key(self, protocol: str, key: int, number: int) -> None:
        at = SWITCHED[protocol].number, key
        used = self._keys.setdefault(at, [number, 0])
        if used[0] != number:
            other = self._by_number[used[0]]
            raise ConfigError("key", key, f"one that network {other.name} does not use")
        used[1] += 1
        if used[1] == 1:
            with self._held():
                self._chassis.key(*at, number)

    def _drop_key(self, protocol: str, key: int) -> None:
        at = SWITCHED[protocol].number, key
        self._keys[at][1] -= 1
        if self._keys[at][1] == 0:
            del self._keys[at]
            with self._held():
                self._chassis.key(*at, self._live.NO_INDEX)

    def _network_mtu(self, network: Network) -> int:
        if network._mtu is not None:
            return network._mtu
        return max(68, network.shape.inner_mtu(self._underlay.mtu(network.tunnel)))

    def _options(self, network: Network, protocol: str) -> dict[str, Any]:
        options = {"seed": self._seed, **network.options}
        if protocol == "vxlan" and network.gbp is not None:
            options["gbp"] = network.gbp
        return options

    def _configure(self, network: Network) -> None:
        mtu = self._network_mtu(network)
        clamp = network._clamp
        with self._held():
            self._chassis.network(
                network.number,
                mtu,
                mtu - 40 if clamp is True else int(clamp),
                network._learn,
                network._suppress,
                network._accept == "any",
                network.gbp is not None,
            )
        self._table.configure(network.number, network._limit or 0, int(network._ageing))

    def _reflood(self, network: Network) -> None:
        self._chassis.flood(
            network.number,
            [port.number for port in network._ports],
            [r.number | self._live.REMOTE for r in network._remotes if r.flood],
        )

    def _forget(self, network: Network, dest: int | None = None) -> None:
        """Remove what the FDB knows of a place, or of the network; static entries too."""
        if self._table.count(network.number):
            every = self._table.STATIC | self._table.OWN
            self._table.flush(network.number, dest, flags=every)

    # -- ports -----------------------------------------------------------------------

    def _add_port(
        self,
        network: Network,
        device: Device,
        vlan: int | None,
        mac: str | bytes | int | None,
        name: str | None,
    ) -> Port:
        if not isinstance(device, Device):
            raise ConfigError("device", device, "a Device")
        if any(queue.closed for queue in device.queues):
            raise ConfigError("device", device, "one that is open")
        if device.underlay:
            raise ConfigError("device", device, "a device of frames, not of the underlay")
        if vlan is not None:
            integer("vlan", vlan, 0, 4095)
        own: bytes | None
        if mac is not None:
            own = mac_bytes(mac_address("mac", mac))
        else:  # a trunk's MAC is that of each of its VLANs: no port's own
            own = device.mac if vlan is None else None
        if mac is not None and own is not None and (own[0] & 1 or not any(own)):
            raise ConfigError("mac", mac, "the MAC address of one host")
        if name is not None and not isinstance(name, str):
            raise ConfigError("name", name, "text")
        with self._lock:
            self._find(network)
            attached = self._attached.get(id(device))
            if attached is None:
                attached = Attached(device, self._plug(device))
                self._attached[id(device)] = attached
            elif vlan in attached.vlans:
                other = attached.vlans[vlan].network.name
                what = "its untagged frames" if vlan is None else f"VLAN {vlan}"
                raise ConfigError("device", device, f"one whose {what} network {other} has not")
            number = self._numbers["port"].take()
            title = name or str(getattr(device, "name", None) or f"port{number}")
            port = Port(network, number, device, vlan, title)
            with self._held():
                self._chassis.reserve(number + 1, 0, 0)
                self._chassis.port(
                    number, network.number, attached.number, -1 if vlan is None else vlan
                )
                attached.vlans[vlan] = port
                self._ports[number] = port
                network._ports.append(port)
                self._reflood(network)
            if own is not None and any(own):
                self._table.set(
                    network.number,
                    int.from_bytes(own, "big"),
                    number,
                    self._table.OWN,
                    int(self.clock()),
                )
            return port

    def _remove_port(self, network: Network, port: Port) -> None:
        with self._lock:
            if port not in network._ports:
                raise ConfigError("port", port, "a port of this network")
            attached = self._attached[id(port.device)]
            with self._held():
                network._ports.remove(port)
                self._reflood(network)
                self._chassis.port_gone(port.number)
                del attached.vlans[port.vlan]
                if not attached.vlans:
                    self._chassis.unplug(attached.number)
            self._forget(network, port.number)
            self._settle()
            port._last = self._port_traffic(port)
            if not attached.vlans:
                del self._attached[id(port.device)]
                self._numbers["device"].give(attached.number)
            del self._ports[port.number]
            self._numbers["port"].give(port.number)

    # -- remotes ---------------------------------------------------------------------

    def _add_remote(
        self,
        network: Network,
        address: str,
        tunnel: str | None,
        key: int | None,
        relay: bool,
        flood: bool,
        options: dict[str, Any],
    ) -> Remote:
        protocol = choice("tunnel", network.tunnel if tunnel is None else tunnel, tuple(SWITCHED))
        address = ip_address("remote", address)
        boolean("relay", relay)
        boolean("flood", flood)
        with self._lock:
            self._find(network)
            if any(r.address == address and r.protocol == protocol for r in network._remotes):
                raise ConfigError("remote", address, f"one that the network has not by {protocol}")
            used = network.key if key is None else key
            _, number = self._underlay.device(protocol)
            path = self._underlay.path(protocol, address, _RESOLVE_WAIT)
            merged = self._options(network, protocol) | options
            shape = self._underlay.build(protocol, used, address, path, **merged)
            self._use_key(protocol, used, network.number)
            remote = Remote(network, self._numbers["remote"].take(), shape, relay, flood)
            remote.mtu, remote.resolved = path.mtu, path.resolved
            with self._held():
                if protocol == "stt":
                    self._chassis.reassemble(
                        self._reassembly, int(REASSEMBLY_SECONDS * 1e9), self._seed
                    )
                self._chassis.reserve(0, remote.number + 1, 0)
                self._write(remote, number, new=True)
                self._chassis.peer(network.number, shape.number, _packed(address), remote.number)
                self._remotes[remote.number] = remote
                network._remotes.append(remote)
                self._reflood(network)
            return remote

    def _write(self, remote: Remote, device: int, *, new: bool = False) -> None:
        record = tunnel_record(remote.tunnel)
        if self._underlay.routed(remote.protocol) and isinstance(remote.tunnel, STT):
            values = CONFIG.unpack(record) | {"checksum": 0}  # the device's to complete
            record = CONFIG.pack(**values)
        self._chassis.remote(
            remote.number,
            record,
            remote.network.number,
            device,
            self._underlay.frame_max(remote.tunnel, remote.mtu),
            remote.relay,
            remote.resolved,
            new,
        )

    def _remove_remote(self, network: Network, remote: Remote) -> None:
        with self._lock:
            if remote not in network._remotes:
                raise ConfigError("remote", remote, "a remote of this network")
            with self._held():
                network._remotes.remove(remote)
                self._reflood(network)
                self._chassis.remote_gone(remote.number)
                self._chassis.peer(
                    network.number,
                    remote.tunnel.number,
                    _packed(remote.address),
                    self._live.NO_INDEX,
                )
            self._forget(network, remote.number | self._live.REMOTE)
            self._settle()
            remote._last = self._remote_traffic(remote)
            self._drop_key(remote.protocol, remote.tunnel.key)
            del self._remotes[remote.number]
            self._numbers["remote"].give(remote.number)
            if not any(
                (one.address, one.protocol) == (remote.address, remote.protocol)
                for one in self._remotes.values()
            ):
                self._underlay.leave(remote.protocol, remote.address)

    def _reroute(self, remote: Remote, path: Path) -> None:
        """Packets to a remote leave another way from now on."""
        with self._lock:
            if self._remotes.get(remote.number) is not remote:
                return
            options: dict[str, Any] = {"remote_mac": path.remote_mac} if path.remote_mac else {}
            remote.tunnel = dataclasses.replace(remote.tunnel, local_mac=path.local_mac, **options)
            remote.mtu, remote.resolved = path.mtu, path.resolved
            with self._held():
                self._write(remote, self._underlay.device(remote.protocol)[1])

    # -- places and counters ---------------------------------------------------------

    def _where(self, dest: int) -> Port | Remote | None:
        if dest == self._live.NOWHERE:
            return None
        if dest & self._live.REMOTE:
            return self._remotes.get(dest & ~self._live.REMOTE)
        return self._ports.get(dest)

    def _tally(self, slot: int) -> NetworkStats:
        ports, tunnels, copies, answers, drops = self._chassis.tally(slot)
        return NetworkStats(Traffic(*ports), Traffic(*tunnels), copies, answers, drops)

    def _network_stats(self, network: Network) -> NetworkStats:
        with self._lock:
            if self._by_number.get(network.number) is not network:
                return network._last
            one = self._tally(network.number + 1)
        return NetworkStats(
            one.ports, one.tunnels, one.copies, one.answers, one.drops, len(network.fdb)
        )

    def _port_traffic(self, port: Port) -> Traffic:
        with self._lock:
            if self._ports.get(port.number) is not port:
                return port._last
            return Traffic(*self._chassis.port_traffic(port.number))

    def _remote_traffic(self, remote: Remote) -> Traffic:
        with self._lock:
            if self._remotes.get(remote.number) is not remote:
                return remote._last
            return Traffic(*self._chassis.remote_traffic(remote.number))


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
