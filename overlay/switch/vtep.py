"""Vtep: the tunnel end point: networks over one underlay, and the threads that serve them.

What lives here: what there is, by number, as the C core sees it, and the one
lock around changing it.  What must not: any decision about a frame.
"""

from __future__ import annotations

import ipaddress
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from overlay.address import ip_address, mac_address
from overlay.errors import ConfigError, Status
from overlay.io.device import Device, live
from overlay.profile import Profile
from overlay.record import CONFIG, Policy, tunnel_record
from overlay.tunnel import PROTOCOLS, STT, choice, integer

from .event import KINDS, Event
from .network import Network, Port, Remote, mac_of
from .stats import NetworkStats, Traffic, VtepStats
from .underlay import Path, Underlay

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Vtep"]

_TICK = 0.1  # seconds between two looks at events, ageing and errors
_RESOLVE_WAIT = 0.2  # seconds that a new remote's next hop may take to answer
_RESOLVE = 0.5  # seconds between two looks at next hops
_SWEEP = 1.0  # seconds between two looks through the FDB for what is too old
_REASSEMBLY = 30.0  # seconds that the parts of a frame or a packet may take to arrive
_NEIGHBOR_AGE = 900  # seconds after which a learned IP address answers no more
_FRAGMENTS = 4 << 20  # bytes for outer fragments, for each worker
_SEGMENT_COUNTERS = (
    "segments frames duplicates overlaps refused timed_out evicted pending memory"
).split()
_FRAGMENT_COUNTERS = (
    "taken joined overlaps limits timeouts refused held packets pending memory"
).split()


class Numbers:
    """Small numbers, given out lowest first, taken back, used again."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give(self, number: int) -> None:
        self._free.append(number)


class _Attached:
    """A device in use, and how many ports it has."""

    def __init__(self, device: Device, number: int) -> None:
        self.device = device
        self.number = number
        self.vlans: dict[int | None, Port] = {}


class Vtep:
    """A VXLAN, NVGRE and STT tunnel end point with a learning switch per network.

    :param local: its IP address on the underlay, or the name of an interface that has one.
    :param tunnel: protocol of networks that name none: vxlan, nvgre or stt.
    :param underlay: what packets leave by: a :class:`~overlay.io.device.Device`
        whose ``underlay`` is true, or one for each protocol by name.  None
        opens UDP sockets for VXLAN and AF_PACKET for the others, when a
        network first needs them.
    :param workers: threads that forward, 1..64.
    :param mtu: bytes of IP that the underlay carries; None: what its device says.
    :param port: UDP port of VXLAN.
    :param checksum: whether the kernel is to write outer UDP checksums for VXLAN over IPv4.
    :param seed: of flow hashes and tables; None: random.
    :param networks: how many networks there may be, at most 65534.
    :param macs: how many MAC addresses all of them may know.
    :param neighbors: how many IP addresses all of them may know.
    :param reassembly: bytes for STT frames that are not whole yet, for each worker.
    :param fragments: whether outer IP fragments are put together or dropped.
    :param profile: what decap accepts; see :class:`~overlay.profile.Profile`.
    :param on_event: called with every :class:`Event`, from one thread at a time.

    Everything may be changed while it runs, from any thread.  Without
    :meth:`start` nothing moves but by :meth:`poll`.
    """

    def __init__(
        self,
        local: str,
        *,
        tunnel: str = "vxlan",
        underlay: Device | Mapping[str, Device] | None = None,
        workers: int = 1,
        mtu: int | None = None,
        port: int = 4789,
        checksum: bool = True,
        seed: int | None = None,
        networks: int = 16384,
        macs: int = 1 << 20,
        neighbors: int = 65536,
        reassembly: int = 16 << 20,
        fragments: str = "reassemble",
        profile: Profile | str = "rfc",
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        self._live = live()
        self.local = _local_address(local)
        self.tunnel = choice("tunnel", tunnel, tuple(PROTOCOLS))
        self.workers = integer("workers", workers, 1, 64)
        most = integer("networks", networks, 1, 65534)
        self.fragments = choice("fragments", fragments, ("reassemble", "drop"))
        self._reassembly = integer("reassembly", reassembly, 1 << 16, 1 << 36)
        self._seed = random.getrandbits(63) if seed is None else integer("seed", seed, 0, 2**63 - 1)
        if mtu is not None:
            integer("mtu", mtu, 576, 65535)
        integer("port", port, 1, 65535)
        self.on_event = on_event
        self.clock = time.monotonic
        self._table = self._live.FdbTable(macs, most, self._seed)
        self._neighbors = self._live.NeighborTable(neighbors, _NEIGHBOR_AGE, self._seed)
        self._chassis = self._live.Chassis(
            self._table, self._neighbors, most, self.workers, self._seed
        )
        self._most = most
        self._lock = threading.RLock()
        self._holding = 0
        self._numbers = {kind: Numbers() for kind in ("network", "port", "remote", "device")}
        self._networks: dict[tuple[str, int], Network] = {}
        self._by_number: dict[int, Network] = {}
        self._ports: dict[int, Port] = {}
        self._remotes: dict[int, Remote] = {}
        self._keys: dict[tuple[int, int], list[int]] = {}  # (protocol, key): [network, uses]
        self._attached: dict[int, _Attached] = {}
        self._gone = NetworkStats()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._cursor = 0
        self._closed = False
        self._profile = _live_profile(profile, port)
        self._policy = Policy(self._profile)  # owns what its record points to
        with self._held():
            self._chassis.policy(self._policy.record)
            if self.fragments == "reassemble":
                self._chassis.join(_FRAGMENTS, int(_REASSEMBLY * 1e9), self._seed)
        self._underlay = Underlay(
            self.local,
            underlay,
            port=port,
            mtu=mtu,
            workers=self.workers,
            checksum=checksum,
            plug=self._plug,
        )

    # -- changing -----------------------------------------------------------------

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
        number = self._numbers["device"].take()
        try:
            with self._held():
                self._chassis.reserve(0, 0, number + 1)
                self._chassis.plug(number, tuple(queues))
        except BaseException:
            self._numbers["device"].give(number)
            raise
        return number

    # -- networks -----------------------------------------------------------------

    def add_network(
        self,
        key: int,
        *,
        tunnel: str | None = None,
        mtu: int | None = None,
        remotes: Iterable[str] = (),
        learn: bool = True,
        ageing: float = 300.0,
        suppress_arp: bool = False,
        limit: int | None = None,
        accept: str = "listed",
        mss_clamp: bool | int = False,
        gbp: int | None = None,
        group: str | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Network:
        """Add a network.

        :param key: its VNI, VSID or Context ID.
        :param tunnel: protocol of remotes that name none; None: the VTEP's.
        :param mtu: bytes of IP in a frame that may enter a tunnel; None: what
            fits one packet on the underlay.
        :param remotes: addresses of remotes to add.
        :param learn: whether source addresses are learned,
        :param ageing: and after how many seconds of silence forgotten; 0: never.
        :param suppress_arp: answer ARP and ND requests for addresses that are known.
        :param limit: how many addresses may be learned.
        :param accept: ``"listed"`` takes packets of the remotes alone, ``"any"``
            of everyone, who then becomes a remote.
        :param mss_clamp: hold TCP to an MSS that fits; a number: to this one.
        :param gbp: VXLAN group policy ID to send; don't-learn marks are heard.
        :param group: a multicast group to which group and unknown frames go.
        :param options: of every tunnel: ``ttl``, ``dscp``, ``flow_id``...
        """
        chosen = choice("tunnel", self.tunnel if tunnel is None else tunnel, tuple(PROTOCOLS))
        _check_key(chosen, key, self.local)
        with self._lock:
            if (chosen, key) in self._networks:
                raise ConfigError("key", key, f"a {chosen} network that is not here yet")
            if len(self._networks) >= self._most:
                raise ConfigError("networks", self._most, "more, to add another")
            number = self._numbers["network"].take()
            try:
                network = Network(
                    self,
                    number,
                    key,
                    chosen,
                    mtu=mtu,
                    learn=learn,
                    ageing=ageing,
                    suppress_arp=suppress_arp,
                    limit=limit,
                    accept=accept,
                    mss_clamp=mss_clamp,
                    gbp=gbp,
                    name=name,
                    options=options,
                )
                self._underlay.device(chosen)
                self._use_key(chosen, key, number)
            except BaseException:
                self._numbers["network"].give(number)
                raise
            self._networks[chosen, key] = network
            self._by_number[number] = network
            try:
                self._configure(network)
                for address in remotes:
                    network.add_remote(address)
                if group is not None:
                    if not ipaddress.ip_address(group).is_multicast:
                        raise ConfigError("group", group, "a multicast address")
                    network.add_remote(group)
            except BaseException:
                self.remove_network(network)
                raise
        return network

    def remove_network(self, network: Network | int) -> None:
        """Take a network away, its ports and remotes too."""
        with self._lock:
            found = self._find(network)
            for port in found.ports:
                self._remove_port(found, port)
            for remote in found.remotes:
                self._remove_remote(found, remote)
            with self._held():
                self._chassis.network_gone(found.number)
                self._drop_key(found.tunnel, found.key)
                self._gone = self._gone.plus(self._tally(found.number + 1))
            self._table.flush(found.number, flags=self._table.STATIC | self._table.OWN)
            self._neighbors.flush(found.number, statics=True)
            del self._networks[found.tunnel, found.key]
            del self._by_number[found.number]
            self._numbers["network"].give(found.number)

    def _find(self, network: Network | int) -> Network:
        if isinstance(network, Network):
            if self._by_number.get(network.number) is network:
                return network
        else:
            found = [one for one in self._networks.values() if one.key == network]
            if len(found) == 1:
                return found[0]
        raise ConfigError("network", network, "a network of this VTEP, by one protocol")

    @property
    def networks(self) -> dict[int | tuple[str, int], Network]:
        """By key; by (tunnel, key) where several protocols use the same."""
        with self._lock:
            counts: dict[int, int] = {}
            for _, key in self._networks:
                counts[key] = counts.get(key, 0) + 1
            return {
                key if counts[key] == 1 else (tunnel, key): network
                for (tunnel, key), network in self._networks.items()
            }

    def _use_key(self, protocol: str, key: int, number: int) -> None:
        at = PROTOCOLS[protocol].number, key
        used = self._keys.setdefault(at, [number, 0])
        if used[0] != number:
            other = self._by_number[used[0]]
            raise ConfigError("key", key, f"one that network {other.name} does not use")
        used[1] += 1
        if used[1] == 1:
            with self._held():
                self._chassis.key(*at, number)

    def _drop_key(self, protocol: str, key: int) -> None:
        at = PROTOCOLS[protocol].number, key
        self._keys[at][1] -= 1
        if self._keys[at][1] == 0:
            del self._keys[at]
            with self._held():
                self._chassis.key(*at, self._live.NO_INDEX)

    def _network_mtu(self, network: Network) -> int:
        if network._mtu is not None:
            return network._mtu
        path = Path(mtu=self._underlay.mtu(network.tunnel))
        shape = self._underlay.build(
            network.tunnel, network.key, self.local, path, **self._options(network, network.tunnel)
        )
        return max(68, shape.inner_mtu(path.mtu))

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

    # -- ports --------------------------------------------------------------------

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
        if device.underlay:
            raise ConfigError("device", device, "a device of frames, not of the underlay")
        if vlan is not None:
            integer("vlan", vlan, 0, 4095)
        own = device.mac if mac is None else bytes.fromhex(mac_address("mac", mac).replace(":", ""))
        with self._lock:
            self._find(network)
            attached = self._attached.get(id(device))
            if attached is None:
                attached = _Attached(device, self._plug(device))
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
            every = self._table.STATIC | self._table.OWN
            self._table.flush(network.number, port.number, flags=every)
            if not attached.vlans:
                del self._attached[id(port.device)]
                self._numbers["device"].give(attached.number)
            del self._ports[port.number]
            self._numbers["port"].give(port.number)

    # -- remotes ------------------------------------------------------------------

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
        protocol = choice("tunnel", network.tunnel if tunnel is None else tunnel, tuple(PROTOCOLS))
        address = ip_address("remote", address)
        with self._lock:
            self._find(network)
            if any(r.address == address and r.protocol == protocol for r in network._remotes):
                raise ConfigError("remote", address, f"one that the network has not by {protocol}")
            used = network.key if key is None else key
            device, number = self._underlay.device(protocol)
            path = self._underlay.path(protocol, address, _RESOLVE_WAIT)
            merged = self._options(network, protocol) | options
            shape = self._underlay.build(protocol, used, address, path, **merged)
            self._use_key(protocol, used, network.number)
            remote = Remote(network, self._numbers["remote"].take(), shape, relay, flood)
            remote.mtu, remote.resolved = path.mtu, path.resolved
            with self._held():
                if protocol == "stt":
                    self._chassis.reassemble(self._reassembly, int(_REASSEMBLY * 1e9), self._seed)
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
            dest = remote.number | self._live.REMOTE
            self._table.flush(network.number, dest, flags=self._table.STATIC | self._table.OWN)
            self._drop_key(remote.protocol, remote.tunnel.key)
            del self._remotes[remote.number]
            self._numbers["remote"].give(remote.number)

    def _reroute(self, remote: Remote, path: Path) -> None:
        """Packets to a remote leave another way from now on."""
        with self._lock:
            if self._remotes.get(remote.number) is not remote:
                return
            options = {"remote_mac": path.remote_mac} if path.remote_mac else {}
            import dataclasses

            remote.tunnel = dataclasses.replace(remote.tunnel, local_mac=path.local_mac, **options)
            remote.mtu, remote.resolved = path.mtu, path.resolved
            with self._held():
                self._write(remote, self._underlay.device(remote.protocol)[1])

    # -- running ------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the workers run."""
        return bool(self._threads)

    def start(self) -> None:
        """Start the workers; a second call does nothing."""
        with self._lock:
            if self._threads or self._closed:
                if self._closed:
                    raise ValueError("the VTEP is closed")
                return
            self._stopping.clear()
            targets: list[tuple[str, Callable[..., None], tuple[int, ...]]] = [
                (f"overlay-worker-{w}", self._chassis.run, (w,)) for w in range(self.workers)
            ]
            targets.append(("overlay-control", self._control, ()))
            for name, target, args in targets:
                thread = threading.Thread(target=target, args=args, name=name, daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        """Forward what has arrived, then stop the workers."""
        with self._lock:
            threads, self._threads = self._threads, []
        self._stopping.set()
        for w in range(self.workers):
            self._chassis.stop(w)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
        self._report()

    def close(self) -> None:
        """Stop, and give back what was opened here; devices of ports are the caller's."""
        if self._closed:
            return
        self.stop()
        with self._lock:
            for network in list(self._networks.values()):
                self.remove_network(network)
            for number in self._underlay._numbers.values():
                with self._held():
                    self._chassis.unplug(number)
            self._underlay.close()
            self._closed = True

    def poll(self, timeout: float = 0.0) -> int:
        """One round of every worker in the calling thread; returns the rows received.

        :param timeout: seconds that each may wait for something to arrive.
        """
        if self._threads:
            raise ValueError("the workers run: stop them to poll")
        rows = sum(self._chassis.round(w, int(timeout * 1000)) for w in range(self.workers))
        self._report()
        return rows

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _control(self) -> None:
        swept = resolved = self.clock()
        while not self._stopping.wait(_TICK):
            self._report()
            now = self.clock()
            if now - swept >= _SWEEP:
                swept = now
                self.age()
            if now - resolved >= _RESOLVE:
                resolved = now
                self._resolve()
            self._listen()

    def age(self, now: float | None = None) -> int:
        """Forget the MAC addresses that were silent for too long; returns how many went.

        The workers' control thread does so every second.
        """
        when = self.clock() if now is None else now
        cursor = gone = 0
        while True:
            cursor, keys, values = self._table.age(int(when), cursor, 65536)
            gone += len(keys)
            for key, value in zip(keys.tolist(), values.tolist(), strict=True):
                network = self._by_number.get((key >> 48) - 1)
                if network is not None:
                    self._tell(
                        Event(
                            "aged",
                            when,
                            network,
                            mac=mac_of(key & (1 << 48) - 1),
                            where=self._where(value & 0xFFFFFF),
                        )
                    )
            if cursor == 0:
                return gone

    def _resolve(self) -> None:
        """Look again at how packets to remotes leave."""
        for remote in list(self._remotes.values()):
            if not self._underlay.routed(remote.protocol):
                continue
            try:
                path = self._underlay.path(remote.protocol, remote.address)
            except OSError as error:
                path = Path(remote.tunnel.local_mac, None, remote.mtu, resolved=False)
                if remote.resolved:
                    self._tell(Event("error", self.clock(), remote.network, text=str(error)))
            known = Path(
                remote.tunnel.local_mac,
                remote.tunnel.remote_mac if remote.resolved else None,
                remote.mtu,
                remote.resolved,
            )
            if path.resolved != known.resolved or (path.resolved and path != known):
                self._reroute(remote, path)

    def _listen(self) -> None:
        """What the underlay said of paths: too narrow, or nobody there."""
        for device in self._underlay.devices.values():
            errors = getattr(device, "errors", None)
            if errors is None:
                continue
            for report in errors():
                if report.mtu:
                    self.path_mtu(report.remote, report.mtu)

    def path_mtu(self, address: str, mtu: int) -> None:
        """The path to an address carries only so many bytes of IP (at least 576, IPv6 1280)."""
        text = ip_address("address", address)
        least = 576 if ":" not in text else 1280
        for remote in list(self._remotes.values()):
            if remote.address == text and least <= mtu < remote.mtu:
                path = Path(remote.tunnel.local_mac, remote.tunnel.remote_mac, mtu, remote.resolved)
                self._reroute(remote, path)
                self._tell(
                    Event("mtu", self.clock(), remote.network, where=remote, address=text, mtu=mtu)
                )

    # -- events and counters ---------------------------------------------------------

    def _where(self, dest: int) -> Port | Remote | None:
        if dest == self._live.NOWHERE:
            return None
        if dest & self._live.REMOTE:
            return self._remotes.get(dest & ~self._live.REMOTE)
        return self._ports.get(dest)

    def _tell(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)

    def _report(self) -> None:
        """Pass on what the workers told."""
        names = {kind.number: name for name, kind in PROTOCOLS.items()}
        for raw in self._chassis.events(4096):
            kind, ns, number, mac, where, previous, status, protocol, address = raw
            network = self._by_number.get(number)
            name = KINDS[kind]
            when = ns / 1e9
            if name == "drop":
                self._tell(Event(name, when, network, status=Status(status)))
            elif network is None:
                continue
            elif name == "remote":
                text = str(ipaddress.ip_address(address))
                self._welcome(network, text, names[protocol])
                self._tell(Event(name, when, network, address=text, tunnel=names[protocol]))
            else:
                self._tell(
                    Event(
                        name,
                        when,
                        network,
                        mac=mac_of(mac),
                        where=self._where(where),
                        previous=self._where(previous),
                    )
                )

    def _welcome(self, network: Network, address: str, protocol: str) -> None:
        """A remote that is not listed has sent to a network that takes everyone's."""
        flood = not any(ipaddress.ip_address(r.address).is_multicast for r in network._remotes)
        try:
            network.add_remote(address, tunnel=protocol, flood=flood)
        except (ConfigError, OSError):
            pass  # listed meanwhile, or out of reach

    def _tally(self, slot: int) -> NetworkStats:
        ports, tunnels, copies, answers, drops = self._chassis.tally(slot)
        return NetworkStats(Traffic(*ports), Traffic(*tunnels), copies, answers, drops)

    def _network_stats(self, network: Network) -> NetworkStats:
        one = self._tally(network.number + 1)
        return NetworkStats(
            one.ports, one.tunnels, one.copies, one.answers, one.drops, len(network.fdb)
        )

    def _port_traffic(self, port: Port) -> Traffic:
        return Traffic(*self._chassis.port_traffic(port.number))

    def _remote_traffic(self, remote: Remote) -> Traffic:
        return Traffic(*self._chassis.remote_traffic(remote.number))

    @property
    def stats(self) -> VtepStats:
        """What has passed since it was made."""
        with self._lock:
            unknown = self._tally(0)
            total = self._gone.plus(unknown)
            for network in self._networks.values():
                total = total.plus(self._network_stats(network))
            reassembly = self._chassis.reassembly() or (0,) * len(_SEGMENT_COUNTERS)
            fragments = self._chassis.fragments() or (0,) * len(_FRAGMENT_COUNTERS)
            return VtepStats(
                total=total,
                unknown=unknown,
                networks=len(self._networks),
                fdb=dict(self._table.stats),
                neighbors=dict(self._neighbors.stats),
                reassembly=dict(zip(_SEGMENT_COUNTERS, reassembly, strict=True)),
                fragments=dict(zip(_FRAGMENT_COUNTERS, fragments, strict=True)),
                devices={name: device.stats for name, device in self._underlay.devices.items()},
                events_lost=self._chassis.events_lost,
            )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._threads else "stopped"
        return f"<Vtep {self.local}, {len(self._networks)} networks, {state}>"


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _local_address(local: str) -> str:
    try:
        return ip_address("local", local)
    except ConfigError:
        if not isinstance(local, str):
            raise
    from overlay.io.route import address_of

    return ip_address("local", address_of(local))


def _check_key(tunnel: str, key: int, local: str) -> None:
    kind = PROTOCOLS[tunnel]
    kind(**{"local": local, "remote": local, kind.key_field: key})


def _live_profile(profile: Profile | str, port: int) -> Profile:
    if isinstance(profile, str):
        return Profile(base=profile, vxlan_port=port)  # type: ignore[arg-type]
    if not isinstance(profile, Profile):
        raise ConfigError("profile", profile, "a Profile or the name of one")
    return profile
