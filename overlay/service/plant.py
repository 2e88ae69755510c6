"""Plant: a running VTEP, and what of the host it uses.

Lives here: the doing of a plan's steps, and which device, port and remote each
of them made.  What must not: signals, sockets, files.

Guarantees: a device is opened once, however many ports share it, stays open
while a port that was taken away comes back by the same plan, and is closed when
no port has it.  A plan that fails is undone: the VTEP is as it was.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from overlay import ConfigError, OverlayError
from overlay.switch import Port as LivePort
from overlay.switch import Vtep

from .config import Neighbor, Network, Port, Remote, Static, VtepOptions
from .log import log
from .plan import Key, Step, describe

if TYPE_CHECKING:
    from overlay.io.device import Device
    from overlay.io.tap import Tap
    from overlay.switch import Event
    from overlay.switch import Network as LiveNetwork
    from overlay.switch import Remote as LiveRemote

__all__ = ["Member", "Plant", "place_of"]

#: Options of a network that can change while it runs; the others make it anew.
CHANGEABLE = ("mtu", "learn", "ageing", "suppress_arp", "limit", "accept", "mss_clamp")


def place_of(where: LivePort | LiveRemote) -> dict[str, str]:
    """A port or a remote, as configurations and requests name it."""
    return {"port": where.name} if isinstance(where, LivePort) else {"remote": where.address}


class Member:
    """A network of the plant: what it was made of, and what came of that."""

    def __init__(self, spec: Network, live: LiveNetwork) -> None:
        self.spec = spec
        self.live = live
        self.ports: dict[str, tuple[Port, LivePort]] = {}
        self.remotes: dict[tuple[str, str], tuple[Remote, LiveRemote]] = {}

    def port(self, name: object) -> LivePort:
        """The port of this name, or :class:`~overlay.errors.ConfigError`."""
        if not isinstance(name, str) or name not in self.ports:
            raise ConfigError("port", name, "the name of a port of this network")
        return self.ports[name][1]

    def remote(self, address: object) -> LiveRemote:
        """The remote of this address, by whatever tunnel, or ConfigError."""
        for (at, _), (_, live) in self.remotes.items():
            if at == address:
                return live
        raise ConfigError("remote", address, "the address of a remote of this network")

    def holds(self, part: Any) -> bool:
        """Whether there is a part by this one's name."""
        if isinstance(part, Port):
            return part.name in self.ports
        if isinstance(part, Remote):
            return part.place in self.remotes
        if isinstance(part, Static):
            entry = self.live.fdb.lookup(part.mac)
            return entry is not None and (entry.static or entry.sticky)
        if isinstance(part, Neighbor):
            neighbor = self.live.neighbors.lookup(part.ip)
            return neighbor is not None and neighbor.static
        return True  # the network itself

    def add(self, part: Any, device: Callable[[Port], Device]) -> None:
        """Give the network a part of its configuration."""
        if isinstance(part, Port):
            live = self.live.add_port(device(part), vlan=part.vlan, mac=part.mac, name=part.name)
            self.ports[part.name] = part, live
        elif isinstance(part, Remote):
            options = dict(part.options)
            self.remotes[part.place] = part, self.live.add_remote(
                part.address, tunnel=part.tunnel, key=part.key, relay=part.relay,
                flood=part.flood, **options,
            )  # fmt: skip
        elif isinstance(part, Static):
            where = self.port(part.port) if part.port else self.remote(part.remote or "")
            self.live.fdb.add(part.mac, where, sticky=part.sticky)
        elif isinstance(part, Neighbor):
            self.live.neighbors.add(part.ip, part.mac, router=part.router)

    def remove(self, part: Any) -> None:
        """Take a part from the network."""
        if isinstance(part, Port):
            self.live.remove_port(self.ports.pop(part.name)[1])
        elif isinstance(part, Remote):
            self.live.remove_remote(self.remotes.pop(part.place)[1])
        elif isinstance(part, Static):
            self.live.fdb.remove(part.mac)
        elif isinstance(part, Neighbor):
            self.live.neighbors.remove(part.ip)


class Plant:
    """The VTEP of these options, its networks by tunnel and number, and their devices."""

    def __init__(
        self, options: VtepOptions, tunnels: Iterable[str], on_event: Callable[[Event], None]
    ) -> None:
        self.members: dict[Key, Member] = {}
        self._devices: dict[tuple[str, str], Device] = {}
        self._made: dict[tuple[str, str], int] = {}  # TAP devices, and the MTU they were given
        self._underlay: Device | None = None
        self.options = options
        underlay = self._open_underlay(tunnels)
        try:
            self.vtep = Vtep(
                options.local, tunnel=options.tunnel, underlay=underlay,
                workers=options.workers, mtu=options.mtu, port=options.port,
                checksum=options.checksum, networks=options.networks, macs=options.macs,
                neighbors=options.neighbors, reassembly=options.reassembly,
                fragments=options.fragments, profile=options.profile, on_event=on_event,
            )  # fmt: skip
        except BaseException:
            if underlay is not None:
                underlay.close()
            raise

    def _open_underlay(self, tunnels: Iterable[str]) -> Device | None:
        """The device that was asked for, for every tunnel in use; None leaves it to the VTEP."""
        name = self.options.underlay
        if name is None:
            return None
        self._underlay = self._open(
            "interface", name, None, protocols=tuple(tunnels), port=self.options.port
        )
        return self._underlay

    # -- devices ----------------------------------------------------------------

    def device(self, port: Port) -> Device:
        """The port's device, opened if it is not."""
        if port.device not in self._devices:
            is_new = port.tap is not None and not _is_there(port.tap)
            self._devices[port.device] = self._open(*port.device, port.queues)
            if is_new:
                self._made[port.device] = 0
        return self._devices[port.device]

    def _open(self, kind: str, name: str, queues: int | None, **given: Any) -> Device:
        queues = queues or self.options.workers
        try:
            if kind == "tap":  # loaded where it is needed
                from overlay.io.tap import Tap

                return Tap(name, queues=queues)
            from overlay.io.packet import Packet

            return Packet(name, queues=queues, **given)
        except OSError as error:
            reason = (error.strerror or str(error)).partition(f" {name}: ")
            raise OSError(error.errno, reason[2] or reason[0], f"{kind} {name}") from None

    def _sweep(self) -> None:
        """Close the devices that no port has."""
        used = {
            port.device for member in self.members.values() for port, _ in member.ports.values()
        }
        for device in [device for device in self._devices if device not in used]:
            self._devices.pop(device).close()
            self._made.pop(device, None)

    def _fit(self) -> None:
        """A TAP device that was made here has the least MTU of its networks."""
        least: dict[tuple[str, str], int] = {}
        for member in self.members.values():
            for port, _ in member.ports.values():
                if port.device in self._made:
                    mtu = member.live.mtu
                    least[port.device] = min(mtu, least.get(port.device, mtu))
        for device, mtu in least.items():
            if self._made[device] == mtu:
                continue
            self._made[device] = mtu
            tap = cast("Tap", self._devices[device])
            try:
                tap.link.mtu = mtu
                tap.refresh()
            except OSError as error:
                log("warning", "the MTU cannot be set", tap=device[1], reason=error.strerror)

    # -- steps --------------------------------------------------------------------

    def member(self, key: Key) -> Member:
        """The network, or :class:`~overlay.errors.ConfigError`."""
        if key not in self.members:
            raise ConfigError("network", key[1], f"a {key[0]} network that is here")
        return self.members[key]

    def find(self, name: object) -> Member:
        """The network of this number, name, or ``tunnel:number``."""
        found = [
            member
            for (tunnel, number), member in self.members.items()
            if name in (number, member.spec.name, str(number), f"{tunnel}:{number}")
        ]
        if not found:
            raise ConfigError("network", name, "the id or the name of a network that is here")
        if len(found) > 1:
            names = " or ".join(f"{tunnel}:{number}" for tunnel, number in
                                (member.spec.key for member in found))  # fmt: skip
            raise ConfigError("network", name, f"one of several: {names}")
        return found[0]

    def stands(self, step: Step) -> bool:
        """Whether the VTEP is already as the step would make it."""
        member = self.members.get(step.network)
        held = member is not None and member.holds(step.part)
        return held if step.verb == "add" else not held

    def _do(self, step: Step) -> None:
        part = step.part
        if not isinstance(part, Network):
            member = self.member(step.network)
            if step.verb == "add":
                member.add(part, self.device)
            else:
                member.remove(part)
        elif step.verb == "add":
            self._add_network(part)
        elif step.verb == "remove":
            self.vtep.remove_network(self.members.pop(step.network).live)
        else:
            self._change(part)

    def _add_network(self, spec: Network) -> None:
        live = self.vtep.add_network(
            spec.id, tunnel=spec.tunnel, mtu=spec.mtu, learn=spec.learn, ageing=spec.ageing,
            suppress_arp=spec.suppress_arp, limit=spec.limit, accept=spec.accept,
            mss_clamp=spec.mss_clamp, gbp=spec.gbp, group=spec.group, name=spec.name,
            **dict(spec.options),
        )  # fmt: skip
        self.members[spec.key] = Member(spec, live)

    def _change(self, spec: Network) -> None:
        """Set what can be set; make the network anew, its devices open, for the rest."""
        member = self.member(spec.key)
        before = member.spec
        fixed = ("gbp", "group", "name", "options")
        if any(getattr(before, name) != getattr(spec, name) for name in fixed):
            self._make_anew(member, spec)
            return
        for name in CHANGEABLE:
            if getattr(before, name) != getattr(spec, name):
                setattr(member.live, name, getattr(spec, name))
        member.spec = spec

    def _make_anew(self, member: Member, spec: Network) -> None:
        """The network of another birth, with all that was set; what was learned is not."""
        entries = [entry for entry in member.live.fdb if entry.static or entry.sticky]
        neighbors = [neighbor for neighbor in member.live.neighbors if neighbor.static]

        def build(born: Network) -> None:
            self._add_network(born)
            new = self.members[born.key]
            for part, _ in (*member.ports.values(), *member.remotes.values()):
                new.add(part, self.device)
            for entry in entries:
                if new.live.fdb.lookup(entry.mac) is None:  # it is no port's own
                    at = place_of(entry.where)
                    where = new.port(at["port"]) if "port" in at else new.remote(at["remote"])
                    new.live.fdb.add(entry.mac, where, sticky=entry.sticky)
            for neighbor in neighbors:
                new.live.neighbors.add(neighbor.ip, neighbor.mac, router=neighbor.router)

        self.vtep.remove_network(self.members.pop(spec.key).live)
        try:
            build(spec)
        except (OverlayError, OSError):
            if spec.key in self.members:
                self.vtep.remove_network(self.members.pop(spec.key).live)
            build(member.spec)
            raise

    def perform(self, steps: Iterable[Step], *, exact: bool = False) -> list[Step]:
        """Do these steps, or none of them; returns those that were done.

        A step that leads to what is already so is left out, and is an error
        with ``exact``.  What was raised by the step that failed is raised again.
        """
        done: list[Step] = []
        steps = list(steps)
        try:
            for step in steps:  # most of what fails does so here, before anything changes
                if step.verb == "add" and isinstance(step.part, Port):
                    self.device(step.part)
            for step in steps:
                if step.verb != "change" and self.stands(step):
                    if exact:
                        raise _stands_error(step)
                    continue
                self._do(step)
                done.append(step)
        except (OverlayError, OSError, MemoryError):
            self._undo(done)
            raise
        finally:
            self._sweep()
            self._fit()
        return done

    def _undo(self, done: list[Step]) -> None:
        for step in reversed(done):
            try:
                self._do(step.inverse)
            except (OverlayError, OSError) as error:
                log("error", "a step could not be undone", step=str(step), reason=str(error))

    def close(self) -> None:
        """Drain, and give every device back."""
        self.vtep.close()
        self.members.clear()
        self._sweep()
        if self._underlay is not None:
            self._underlay.close()


def _is_there(interface: str) -> bool:
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def _stands_error(step: Step) -> ConfigError:
    part = step.part
    if isinstance(part, Network):
        wanted = "no network that is here" if step.verb == "add" else "a network that is here"
        return ConfigError("network", part.id, wanted)
    field, _, value = describe(part).partition(" ")
    state = "another than is there" if step.verb == "add" else f"a {field} of this network"
    return ConfigError(field, value, state)
