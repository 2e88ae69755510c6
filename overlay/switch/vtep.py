"""Vtep: the tunnel end point: networks over one underlay, and the threads that serve them.

What lives here: what its user calls.  What must not: any decision about a frame.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from overlay.address import ip_address, is_multicast
from overlay.errors import ConfigError
from overlay.io.device import Device
from overlay.profile import Profile
from overlay.record import Policy
from overlay.tunnel import boolean, choice, integer

from .event import Event
from .keeper import Keeper
from .network import Network
from .protocol import SWITCHED
from .registry import REASSEMBLY_SECONDS, Registry
from .stats import VtepStats
from .underlay import Path, Underlay

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Vtep"]

_FRAGMENTS = 4 << 20  # bytes for outer fragments, for each worker
_SEGMENT_COUNTERS = (
    "segments frames duplicates overlaps refused timed_out evicted pending memory"
).split()
_FRAGMENT_COUNTERS = (
    "taken joined overlaps limits timeouts refused held packets pending memory"
).split()


class Vtep(Registry):
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
    :param fragments: whether outer IP fragments are put together or dropped; those
        for a UDP socket the kernel puts together before it.
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
        self.local = _local_address(local)
        self.tunnel = choice("tunnel", tunnel, tuple(SWITCHED))
        self.fragments = choice("fragments", fragments, ("reassemble", "drop"))
        if mtu is not None:
            integer("mtu", mtu, 576, 65535)
        integer("port", port, 1, 65535)
        boolean("checksum", checksum)
        if on_event is not None and not callable(on_event):
            raise ConfigError("on_event", on_event, "a function")
        integer("workers", workers, 1, 64)
        self._profile = _live_profile(profile, port)
        self._policy = Policy(self._profile)  # owns what its record points to
        self._underlay = Underlay(
            self.local,
            underlay,
            port=port,
            mtu=mtu,
            workers=workers,
            checksum=checksum,
            plug=self._plug,
            unplug=self._unplug,
        )
        super().__init__(
            seed=random.getrandbits(63) if seed is None else integer("seed", seed, 0, 2**63 - 1),
            workers=workers,
            networks=networks,
            macs=macs,
            neighbors=neighbors,
            reassembly=reassembly,
        )
        self.on_event = on_event
        self._keeper = Keeper(self)
        self._threads: list[threading.Thread] = []
        self._ending: list[threading.Thread] = []
        self._stopping = threading.Event()
        with self._held():
            self._chassis.policy(self._policy.record)
            if self.fragments == "reassemble":
                self._chassis.join(_FRAGMENTS, int(REASSEMBLY_SECONDS * 1e9), self._seed)

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
        chosen = choice("tunnel", self.tunnel if tunnel is None else tunnel, tuple(SWITCHED))
        integer(SWITCHED[chosen].key_field, key, 0, 2**64 - 1)
        if isinstance(remotes, (str, bytes)) or not isinstance(remotes, Iterable):
            raise ConfigError("remotes", remotes, "a list of addresses")
        if group is not None and not is_multicast(ip_address("group", group)):
            raise ConfigError("group", group, "a multicast address")
        with self._lock:
            if self._closed:
                raise ValueError("the VTEP is closed")
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
                network.shape = self._underlay.build(
                    chosen, key, self.local, Path(), **self._options(network, chosen)
                )
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
                    network.add_remote(group)
            except BaseException:
                self.remove_network(network)
                raise
        return network

    def remove_network(self, network: Network | int) -> None:
        """Take a network away, its ports and remotes too."""
        with self._lock:
            found = self._find(network)
            self._forget(found)
            for port in found.ports:
                self._remove_port(found, port)
            for remote in found.remotes:
                self._remove_remote(found, remote)
            with self._held():
                self._chassis.network_gone(found.number)
                self._drop_key(found.tunnel, found.key)
                found._last = self._tally(found.number + 1)
                self._gone = self._gone.plus(found._last)
            self._forget(found)
            self._neighbors.flush(found.number, statics=True)
            self._settle()
            del self._networks[found.tunnel, found.key]
            del self._by_number[found.number]
            self._numbers["network"].give(found.number)

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

    def age(self, now: float | None = None) -> int:
        """Forget the MAC addresses that were silent for too long; returns how many went.

        While the workers run this is done every second.
        """
        return self._keeper.age(now)

    def path_mtu(self, address: str, mtu: int) -> None:
        """The path to an address carries only ``mtu`` bytes of IP: at least 576, IPv6 1280."""
        self._keeper.path_mtu(address, mtu)

    def _settle(self) -> None:
        self._keeper.collect()

    # -- running ------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the workers run."""
        return bool(self._threads)

    def start(self) -> None:
        """Start the workers; a second call does nothing."""
        with self._lock:
            if self._closed:
                raise ValueError("the VTEP is closed")
            if self._threads:
                return
            _join(self._ending)  # workers, which take no lock
            self._chassis.ready()
            self._stopping = threading.Event()
            targets: list[tuple[str, Callable[..., None], object]] = [
                (f"overlay-worker-{w}", self._chassis.run, w) for w in range(self.workers)
            ]
            targets.append(("overlay-control", self._keeper.run, self._stopping))
            for name, target, argument in targets:
                thread = threading.Thread(target=target, args=(argument,), name=name, daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        """Forward what has arrived, then stop the workers."""
        with self._lock:
            threads, self._threads = self._threads, []
            if threads:
                self._ending = threads[: self.workers]
                self._stopping.set()
                for w in range(self.workers):
                    self._chassis.stop(w)
        _join(threads)
        self._keeper.report()

    def close(self) -> None:
        """Stop, and give back what was opened here; devices of ports are the caller's."""
        try:
            self.stop()
        finally:
            with self._lock:
                self._table.flush(flags=self._table.STATIC | self._table.OWN)  # all, in one go
                for network in list(self._networks.values()):
                    self.remove_network(network)
                self._underlay.close()
                self._chassis.retire()
                self._closed = True

    def poll(self, timeout: float = 0.0) -> int:
        """One round of every worker in the calling thread; returns the rows received.

        :param timeout: seconds that each may wait for something to arrive.
        """
        if self._threads:
            raise ValueError("the workers run: stop them to poll")
        if self._closed:
            raise ValueError("the VTEP is closed")
        wait = int(timeout * 1000)
        rows: int = sum(self._chassis.round(w, wait) for w in range(self.workers))
        self._keeper.report()
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


def _join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()


def _local_address(local: str) -> str:
    try:
        return ip_address("local", local)
    except ConfigError:
        if not isinstance(local, str):
            raise
    from overlay.io.route import address_of

    try:
        return ip_address("local", address_of(local))
    except ConfigError as error:
        raise ConfigError("local", local, error.expected) from None


def _live_profile(profile: Profile | str, port: int) -> Profile:
    if isinstance(profile, str):
        return Profile(base=profile, vxlan_port=port, protocols=tuple(SWITCHED))  # type: ignore[arg-type]
    if not isinstance(profile, Profile):
        raise ConfigError("profile", profile, "a Profile or the name of one")
    names = tuple(name for name in profile.protocols if name in SWITCHED)
    return profile if names == profile.protocols else replace(profile, protocols=names)
