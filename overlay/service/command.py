"""Command: what the control socket's requests do.

Lives here: one function a command, and the fields that it takes.  What must
not: sockets and lines (control), how a VTEP is changed (plant).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import overlay
from overlay import ConfigError
from overlay.address import mac_address

from . import report
from .config import Network
from .control import Answer, Client, in_pieces
from .log import log
from .plan import Step, build
from .plant import Member, Plant
from .reader import parse_table
from .schema import SECTIONS

__all__ = ["COMMANDS", "Commands"]


class _Command(NamedTuple):
    fields: frozenset[str]
    required: frozenset[str]
    answer: Callable[[Any, dict[str, Any], Client], Answer]


COMMANDS: dict[str, _Command] = {}


def _command(name: str, *fields: str, section: str | None = None) -> Callable[[Any], Any]:
    """Registers a command; a field whose name ends with ``?`` need not be given."""
    keys = set(SECTIONS[section].keys) if section else set()
    keys |= set(SECTIONS[section].tables) if section else set()

    def register(function: Any) -> Any:
        known = frozenset({field.rstrip("?") for field in fields} | keys)
        required = frozenset(field for field in fields if not field.endswith("?"))
        COMMANDS[name] = _Command(known, required, function)
        return function

    return register


class Commands:
    """The commands of a daemon; ``reload`` and ``config`` are the daemon's own."""

    def __init__(
        self,
        plant: Plant,
        reload: Callable[[], list[Step]],
        config: Callable[[], dict[str, Any]],
    ) -> None:
        self.plant = plant
        self._reload = reload
        self._config = config

    def execute(self, request: dict[str, Any], client: Client) -> Answer:
        """The answer to a request, or :class:`~overlay.errors.ConfigError`."""
        name = request.pop("command", None)
        command = COMMANDS.get(name) if isinstance(name, str) else None
        if command is None:
            raise ConfigError("command", name, "one of " + ", ".join(COMMANDS))
        for field in request:
            if field not in command.fields:
                known = ", ".join(sorted(command.fields)) or "none"
                raise ConfigError(field, request[field], f"no such field; {name} has {known}")
        for field in sorted(command.required - request.keys()):
            raise ConfigError(field, None, "a value: it is missing")
        return command.answer(self, request, client)

    # -- reading --------------------------------------------------------------------

    def _chosen(self, request: dict[str, Any]) -> list[Member] | None:
        return [self.plant.find(request["network"])] if "network" in request else None

    @_command("list", "network?")
    def _list(self, request: dict[str, Any], _: Client) -> Answer:
        chosen = self._chosen(request)
        yield from in_pieces(iter(report.listing(self.plant, chosen)), 100)

    @_command("stats", "network?")
    def _stats(self, request: dict[str, Any], _: Client) -> Answer:
        yield report.stats(self.plant, self._chosen(request))

    @_command("fdb.list", "network")
    def _fdb_list(self, request: dict[str, Any], _: Client) -> Answer:
        yield from in_pieces(report.fdb(self.plant.find(request["network"])))

    @_command("neighbor.list", "network")
    def _neighbor_list(self, request: dict[str, Any], _: Client) -> Answer:
        yield from in_pieces(report.neighbors(self.plant.find(request["network"])))

    @_command("events")
    def _events(self, _: dict[str, Any], client: Client) -> Answer:
        client.watching = True
        yield {}

    @_command("config")
    def _show_config(self, *_: Any) -> Answer:
        yield self._config()

    @_command("version")
    def _version(self, *_: Any) -> Answer:
        yield {"version": overlay.__version__, "backend": overlay.backend}

    # -- changing -------------------------------------------------------------------

    @_command("reload")
    def _reload_now(self, *_: Any) -> Answer:
        yield {"steps": [str(step) for step in self._reload()]}

    def _perform(self, steps: list[Step], client: Client) -> Iterator[dict[str, Any]]:
        for step in self.plant.perform(steps, exact=True):
            log("info", "changed by control", step=str(step), **client.who)
        yield {}

    @_command("network.add", "id", section="network")
    def _network_add(self, request: dict[str, Any], client: Client) -> Answer:
        default = self.plant.vtep.tunnel
        network = parse_table("network", {"tunnel": default, **request})
        yield from self._perform(list(build(network)), client)

    @_command("network.remove", "network")
    def _network_remove(self, request: dict[str, Any], client: Client) -> Answer:
        spec = self.plant.find(request["network"]).spec
        yield from self._perform([Step("remove", spec.key, spec)], client)

    def _part(self, section: str, request: dict[str, Any]) -> tuple[Network, Any]:
        spec = self.plant.find(request.pop("network")).spec
        return spec, parse_table(section, request, spec)

    def _add(self, section: str, request: dict[str, Any], client: Client) -> Answer:
        spec, part = self._part(section, request)
        yield from self._perform([Step("add", spec.key, part)], client)

    @_command("port.add", "network", section="network.port")
    def _port_add(self, request: dict[str, Any], client: Client) -> Answer:
        return self._add("port", request, client)

    @_command("port.remove", "network", "name")
    def _port_remove(self, request: dict[str, Any], client: Client) -> Answer:
        member = self.plant.find(request["network"])
        member.port(request["name"])
        part = member.ports[request["name"]][0]
        yield from self._perform([Step("remove", member.spec.key, part)], client)

    @_command("remote.add", "network", "address", section="network.remotes")
    def _remote_add(self, request: dict[str, Any], client: Client) -> Answer:
        return self._add("remotes", request, client)

    @_command("remote.remove", "network", "address", "tunnel?")
    def _remote_remove(self, request: dict[str, Any], client: Client) -> Answer:
        member = self.plant.find(request.pop("network"))
        address = overlay.address.ip_address("address", request["address"])
        found = [
            Step("remove", member.spec.key, part)
            for part, _ in member.remotes.values()
            if part.address == address and request.get("tunnel") in (None, part.tunnel)
        ]
        if not found:
            raise ConfigError("address", address, "the address of a remote of this network")
        yield from self._perform(found, client)

    @_command("fdb.add", "network", "mac", section="network.static")
    def _fdb_add(self, request: dict[str, Any], _: Client) -> Answer:
        return self._set("static", request)

    @_command("neighbor.add", "network", "ip", "mac", section="network.neighbor")
    def _neighbor_add(self, request: dict[str, Any], _: Client) -> Answer:
        return self._set("neighbor", request)

    def _set(self, section: str, request: dict[str, Any]) -> Answer:
        """As ``_add``; what is there by this name is replaced, as controllers need it."""
        spec, part = self._part(section, request)
        self.plant.member(spec.key).add(part, self.plant.device)
        yield {}

    @_command("fdb.remove", "network", "mac")
    def _fdb_remove(self, request: dict[str, Any], _: Client) -> Answer:
        member = self.plant.find(request["network"])
        mac = mac_address("mac", request["mac"])
        if member.live.fdb.lookup(mac) is None:
            raise ConfigError("mac", mac, "an entry of this network's FDB")
        member.live.fdb.remove(mac)
        yield {}

    @_command("neighbor.remove", "network", "ip")
    def _neighbor_remove(self, request: dict[str, Any], _: Client) -> Answer:
        member = self.plant.find(request["network"])
        ip = overlay.address.ip_address("ip", request["ip"])
        if member.live.neighbors.lookup(ip) is None:
            raise ConfigError("ip", ip, "an entry of this network's neighbours")
        member.live.neighbors.remove(ip)
        yield {}

    @_command("fdb.flush", "network", "port?", "remote?", "static?")
    def _fdb_flush(self, request: dict[str, Any], client: Client) -> Answer:
        member = self.plant.find(request["network"])
        given: dict[str, Any] = {"static": request.get("static", False)}
        if not isinstance(given["static"], bool):
            raise ConfigError("static", given["static"], "true or false")
        if "port" in request:
            given["port"] = member.port(request["port"])
        if "remote" in request:
            given["remote"] = member.remote(request["remote"])
        count = member.live.fdb.flush(**given)
        log("info", "flushed by control", network=member.spec.id, count=count, **client.who)
        yield {"removed": count}


def plain(config: Any) -> dict[str, Any]:
    """A configuration as values for JSON, without what was not given."""
    tables: dict[str, Any] = dataclasses.asdict(config)
    for network in tables["network"]:
        for remote in network["remotes"]:
            remote.update(remote.pop("options"))
    return tables
