"""Plan: what has to be done to a running VTEP so that it is as another configuration says.

Lives here: the difference of two configurations, as steps in an order that
works.  What must not: any step's doing (plant).

Guarantees: what is equal in both is in no step; a network's ports are opened
again only where the port itself or what is fixed at the network's birth
changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .config import Config, Neighbor, Network, Port, Remote, Static

__all__ = ["Key", "Plan", "Step", "build", "describe", "difference", "setup", "tear"]

#: What names a network in a VTEP: tunnel and number.
Key = tuple[str, int]

Part = Network | Port | Remote | Static | Neighbor
_PARTS = ("port", "remotes", "static", "neighbor")
_IDENTITY = {"port": "name", "remotes": "place", "static": "mac", "neighbor": "ip"}

#: Options of a VTEP that a reload can change; the others take a restart.
LIVE = frozenset({"control", "control_group", "metrics", "tunnel"})


@dataclass(frozen=True)
class Step:
    """Add or remove one part, or change a network's options (``part`` is what it will be)."""

    verb: Literal["add", "remove", "change"]
    network: Key
    part: Part
    before: Network | None = None  # of a change

    @property
    def inverse(self) -> Step:
        """The step that undoes this one."""
        if self.verb == "change":
            assert isinstance(self.part, Network)
            assert self.before is not None
            return Step("change", self.network, self.before, self.part)
        return Step("remove" if self.verb == "add" else "add", self.network, self.part)

    def __str__(self) -> str:
        tunnel, number = self.network
        return f"{self.verb} {describe(self.part)} of {tunnel} {number}"


def describe(part: Part) -> str:
    """A part in some words."""
    if isinstance(part, Network):
        return "network"
    kind = type(part).__name__.lower()
    name = {Port: "name", Remote: "address", Static: "mac", Neighbor: "ip"}[type(part)]
    return f"{kind} {getattr(part, name)}"


@dataclass(frozen=True)
class Plan:
    """Steps in order, the live options that changed, and those that wait for a restart."""

    steps: tuple[Step, ...]
    options: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps or self.options or self.restart)


def _bare(network: Network) -> Network:
    """The network without its parts."""
    empty: Any = dict.fromkeys(_PARTS, ())
    return dataclasses.replace(network, **empty)


def _parts(network: Network, names: Iterable[str] = _PARTS) -> Iterator[Part]:
    for name in names:
        yield from getattr(network, name)


def build(network: Network) -> Iterator[Step]:
    """The steps that add a network and its parts."""
    yield Step("add", network.key, _bare(network))
    for part in _parts(network):
        yield Step("add", network.key, part)


def tear(network: Network) -> Iterator[Step]:
    """The steps that remove its parts and the network."""
    for part in reversed(list(_parts(network))):
        yield Step("remove", network.key, part)
    yield Step("remove", network.key, _bare(network))


def setup(config: Config) -> Plan:
    """The steps from nothing to a configuration."""
    return Plan(tuple(step for network in config.network for step in build(network)))


def _alter(old: Network, new: Network) -> tuple[list[Step], list[Step]]:
    """What is removed from a network that stays, and what is added to it."""
    removed: list[Part] = []
    added: list[Part] = []
    for name in _PARTS:
        identity = _IDENTITY[name]
        was = {getattr(part, identity): part for part in getattr(old, name)}
        will = {getattr(part, identity): part for part in getattr(new, name)}
        gone = {key for key, part in was.items() if will.get(key) != part}
        if name == "static":  # an entry goes with the place that it names, and comes back with it
            places = {p.name for p in removed if isinstance(p, Port)}
            hosts = {p.address for p in removed if isinstance(p, Remote)}
            gone |= {key for key, s in was.items() if s.port in places or s.remote in hosts}
        removed += [part for key, part in was.items() if key in gone]
        added += [part for key, part in will.items() if key in gone or key not in was]
    key = new.key
    first = [Step("remove", key, part) for part in reversed(removed)]
    then = [Step("add", key, part) for part in added]
    if _bare(old) != _bare(new):
        then.insert(0, Step("change", key, _bare(new), _bare(old)))
    return first, then


def difference(old: Config, new: Config) -> Plan:
    """The steps from one configuration to another: what goes first, then what comes."""
    was = {network.key: network for network in old.network}
    will = {network.key: network for network in new.network}
    removals = [step for key, network in was.items() if key not in will for step in tear(network)]
    additions: list[Step] = []
    for key, network in will.items():
        if key not in was:
            additions += build(network)
        elif network != was[key]:
            first, then = _alter(was[key], network)
            removals += first
            additions += then
    changed = [
        field.name
        for field in dataclasses.fields(old.vtep)
        if getattr(old.vtep, field.name) != getattr(new.vtep, field.name)
    ]
    return Plan(
        (*removals, *additions),
        tuple(name for name in changed if name in LIVE - {"tunnel"}),
        tuple(name for name in changed if name not in LIVE),
    )
