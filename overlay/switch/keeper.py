"""Keeper: what has to be looked after while the workers run: age, next hops, events.

What lives here: the control thread's rounds.  What must not: the tables
themselves, anything on a frame's way.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from overlay.address import ip_address
from overlay.errors import ConfigError, Status

from .event import KINDS, Event
from .network import mac_of
from .protocol import SWITCHED
from .underlay import Path

if TYPE_CHECKING:
    from .network import Network, Remote
    from .vtep import Vtep

__all__ = ["Keeper"]

_TICK = 0.1  # seconds between two looks at events, ageing and errors
_RESOLVE = 0.5  # seconds between two looks at next hops
_SWEEP = 1.0  # seconds between two looks through the FDB for what is too old
_EVENTS = 65536  # taken from the workers at a time
_WELCOME = 256  # remotes of a network from which on strangers do not become remotes


class Keeper:
    """The housekeeping of one VTEP."""

    def __init__(self, vtep: Vtep) -> None:
        self._vtep = vtep
        self._waiting: deque[Event] = deque()
        self._telling = threading.RLock()  # one thread at a time calls on_event

    def run(self, stopping: threading.Event) -> None:
        """Look after everything until told to stop.

        What on_event raises is shown as any thread's exception is, and ends nothing.
        """
        swept = resolved = self._vtep.clock()
        while not stopping.wait(_TICK):
            self._do(self.report)
            now = self._vtep.clock()
            if now - swept >= _SWEEP:
                swept = now
                self._do(self.age)
            if now - resolved >= _RESOLVE:
                resolved = now
                self._do(self._resolve)
            self._do(self._listen)

    def _do(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except Exception as error:
            thread = threading.current_thread()
            threading.excepthook(
                threading.ExceptHookArgs((type(error), error, error.__traceback__, thread))
            )

    def age(self, now: float | None = None) -> int:
        """Forget the MAC addresses that were silent for too long; returns how many went."""
        when = self._vtep.clock() if now is None else now
        cursor = gone = 0
        while True:
            with self._vtep._lock:
                cursor, keys, values = self._vtep._table.age(int(when), cursor, 65536)
                gone += len(keys)
                for key, value in zip(keys.tolist(), values.tolist(), strict=True):
                    network = self._vtep._by_number.get((key >> 48) - 1)
                    where = self._vtep._where(value & 0xFFFFFF)
                    if network is not None:
                        mac = mac_of(key & (1 << 48) - 1)
                        self._waiting.append(Event("aged", when, network, mac=mac, where=where))
            if cursor == 0:
                break
        self._deliver()
        return gone

    def _resolve(self) -> None:
        """Look again at how packets to remotes leave."""
        for remote in list(self._vtep._remotes.values()):
            if not self._vtep._underlay.routed(remote.protocol):
                self._widen(remote)
                continue
            try:
                path = self._vtep._underlay.path(remote.protocol, remote.address)
            except OSError as error:
                path = Path(remote.tunnel.local_mac, None, remote.mtu, resolved=False)
                if remote.resolved:
                    self._tell(Event("error", self._vtep.clock(), remote.network, text=str(error)))
            known = Path(
                remote.tunnel.local_mac,
                remote.tunnel.remote_mac if remote.resolved else None,
                remote.mtu,
                remote.resolved,
            )
            if path.resolved != known.resolved or (path.resolved and path != known):
                self._vtep._reroute(remote, path)

    def _widen(self, remote: Remote) -> None:
        """The kernel finds the way; a narrow path is believed for a time only."""
        mtu = self._vtep._underlay.reach(remote.protocol, remote.address)
        if mtu > remote.mtu:
            shape = remote.tunnel
            path = Path(shape.local_mac, shape.remote_mac, mtu, remote.resolved)
            self._vtep._reroute(remote, path)

    def _listen(self) -> None:
        """What the underlay said of paths: too narrow, or nobody there."""
        for device in self._vtep._underlay.devices.values():
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
        for remote in list(self._vtep._remotes.values()):
            if remote.address == text and least <= mtu < remote.mtu:
                self._vtep._underlay.narrow(text, mtu)
                path = Path(remote.tunnel.local_mac, remote.tunnel.remote_mac, mtu, remote.resolved)
                self._vtep._reroute(remote, path)
                self._tell(
                    Event(
                        "mtu",
                        self._vtep.clock(),
                        remote.network,
                        where=remote,
                        address=text,
                        mtu=mtu,
                    )
                )

    def _tell(self, event: Event) -> None:
        with self._telling:
            if self._vtep.on_event is not None:
                self._vtep.on_event(event)

    def report(self) -> None:
        """Pass on what the workers told."""
        self.collect()
        self._deliver()

    def _deliver(self) -> None:
        while self._waiting:
            try:
                event = self._waiting.popleft()
            except IndexError:  # another thread was quicker
                break
            if event.kind == "remote" and event.network is not None:
                assert event.address is not None
                assert event.tunnel is not None
                self._welcome(event.network, event.address, event.tunnel)
            self._tell(event)

    def collect(self) -> None:
        """Turn what the workers told to words: numbers mean what they do now."""
        with self._vtep._lock:
            self._collect()

    def _collect(self) -> None:
        names = {kind.number: name for name, kind in SWITCHED.items()}
        for raw in self._vtep._chassis.events(_EVENTS):
            kind, ns, number, mac, where, previous, status, protocol, address = raw
            network = self._vtep._by_number.get(number)
            name = KINDS[kind]
            when = ns / 1e9
            if name == "drop":
                self._waiting.append(Event(name, when, network, status=Status(status)))
            elif network is None:
                continue
            elif name == "remote":
                text = str(ipaddress.ip_address(address))
                self._waiting.append(
                    Event(name, when, network, address=text, tunnel=names[protocol])
                )
            else:
                self._waiting.append(
                    Event(
                        name,
                        when,
                        network,
                        mac=mac_of(mac),
                        where=self._vtep._where(where),
                        previous=self._vtep._where(previous),
                    )
                )

    def _welcome(self, network: Network, address: str, protocol: str) -> None:
        """A remote that is not listed has sent to a network that takes everyone's."""
        if len(network._remotes) >= _WELCOME:
            return
        flood = not any(ipaddress.ip_address(r.address).is_multicast for r in network._remotes)
        with contextlib.suppress(ConfigError, OSError):  # listed meanwhile, or out of reach
            network.add_remote(address, tunnel=protocol, flood=flood)
