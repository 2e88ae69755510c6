"""Reader: a TOML file becomes a configuration, or a list of every mistake in it.

Lives here: reading, checking, and what belongs together.  What must not: what
a single key may be; that is the schema's.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import os
import re
from collections.abc import Callable
from typing import Any

from overlay import ConfigError, OverlayError
from overlay.switch import SWITCHED

from .config import (
    Config,
    InvalidConfig,
    Mistake,
    Neighbor,
    Network,
    Options,
    Port,
    Remote,
    Static,
    VtepOptions,
)  # fmt: skip
from .scanner import Path, line_of, scan
from .schema import REQUIRED, SECTIONS, TUNNEL_OPTIONS

__all__ = ["load", "parse", "parse_table"]

LARGEST = 1 << 26  # bytes of a file


def given(value: object) -> str:
    """A value as TOML writes it, short."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(path: Path) -> str:
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[1:])


class _Reader:
    """Collects mistakes instead of stopping at the first."""

    def __init__(self, lines: dict[Path, int]) -> None:
        self.lines = lines
        self.mistakes: list[Mistake] = []
        self.ids: list[tuple[str, Path]] = []  # of the networks, right or wrong

    def line(self, path: Path) -> int:
        return line_of(self.lines, path)

    def wrong(self, path: Path, message: str) -> None:
        self.mistakes.append(Mistake(self.line(path), _dotted(path), message))

    def refuse(self, path: Path, value: object, expected: str) -> None:
        self.wrong(path, f"got {given(value)}, expected {expected}")

    def table(self, name: str, value: object, path: Path) -> dict[str, Any] | None:
        """The checked keys of a table; None where some are wrong.  Tables within are left."""
        section = SECTIONS[name]
        if not isinstance(value, dict):
            self.refuse(path, value, "a table")
            return None
        before = len(self.mistakes)
        result: dict[str, Any] = {}
        for key in value:
            if key not in section.keys and key not in section.tables:
                self._unknown((*path, key), key, [*section.keys, *section.tables])
        for key, entry in section.keys.items():
            if key in value:
                try:
                    result[key] = entry.check(key, value[key])
                except ConfigError as error:
                    self.refuse((*path, key), value[key], error.expected)
            elif entry.default is REQUIRED:
                self.wrong((*path, key), "is missing")
            else:
                result[key] = entry.default
        return result if len(self.mistakes) == before else None

    def _unknown(self, path: Path, key: str, known: list[str]) -> None:
        near = difflib.get_close_matches(key, known, 1)
        end = f"did you mean {near[0]}?" if near else "the keys here are " + ", ".join(known)
        self.wrong(path, f"is no key; {end}")

    def array(self, value: object, path: Path) -> list[Any]:
        if isinstance(value, list):
            return value
        self.refuse(path, value, f"an array; write [[{_dotted(path)}]]")
        return []

    def check_numbers(self, document: dict[str, Any]) -> None:
        """TOML's integers have 64 bits; nothing later has to be ready for longer ones."""
        rest: list[tuple[Path, Any]] = [((), document)]
        while rest:
            path, value = rest.pop()
            if isinstance(value, (dict, list)):
                rows = value.items() if isinstance(value, dict) else enumerate(value)
                rest += [((*path, key), inner) for key, inner in rows]
            elif isinstance(value, int) and value.bit_length() > 64:
                self.wrong(path, "is a number beyond 64 bits")

    # -- the parts ------------------------------------------------------------

    def remote(self, value: object, path: Path, network: dict[str, Any]) -> Remote | None:
        found = self.table(
            "network.remotes", {"address": value} if isinstance(value, str) else value,
            path,
        )  # fmt: skip
        if found is None:
            return None
        tunnel = found["tunnel"] = found["tunnel"] or network["tunnel"]
        before = len(self.mistakes)
        found["options"] = self.options(
            found["options"], (*path, "options"), tunnel, found["address"]
        )
        if found["key"] is not None:
            self.number(tunnel, found["key"], (*path, "key"))
        elif tunnel != network["tunnel"] and network["id"] is not None:
            self.number(tunnel, network["id"], path)
        return Remote(**found) if len(self.mistakes) == before else None

    def options(
        self, value: dict[str, Any] | None, path: Path, tunnel: str, remote: str = "192.0.2.2"
    ) -> Options:
        """Fields of a tunnel of this kind to this remote."""
        known = TUNNEL_OPTIONS[tunnel]
        rows = {}
        for name, given in (value or {}).items():
            if name not in known:
                self._unknown((*path, name), name, list(known))
                continue
            rows[name] = tuple(given) if isinstance(given, list) else given
            try:
                _tunnel(tunnel, 5001, remote, {name: rows[name]})
            except ConfigError as error:
                self.refuse((*path, name), given, error.expected)
        return tuple(sorted(rows.items()))

    def number(self, tunnel: str, key: int, path: Path) -> None:
        """The number of a network or remote, as its tunnel can carry it."""
        try:
            _tunnel(tunnel, key, "192.0.2.2", {})
        except ConfigError as error:
            expected = error.expected.partition(", or any with")[0]
            self.refuse(path, key, f"for {tunnel}, {expected}")

    def port(self, value: object, path: Path) -> Port | None:
        found = self.table("network.port", value, path)
        if found is None:
            return None
        if (found["tap"] is None) == (found["interface"] is None):
            self.wrong(path, "needs one of tap and interface")
            return None
        if not found["name"]:
            tag = "" if found["vlan"] is None else f".{found['vlan']}"
            found["name"] = (found["tap"] or found["interface"]) + tag
        return Port(**found)

    def static(self, value: object, path: Path) -> Static | None:
        found = self.table("network.static", value, path)
        if found is None:
            return None
        if (found["remote"] is None) == (found["port"] is None):
            self.wrong(path, "needs one of remote and port")
            return None
        return Static(**found)

    def network(self, value: object, path: Path, default: str) -> Network | None:
        found = self.table("network", value, path)
        if not isinstance(value, dict):
            return None
        # What is wrong with the table itself hides nothing within it.
        known = dict(found or {"id": value.get("id"), "tunnel": value.get("tunnel")})
        known["tunnel"] = known["tunnel"] or default
        if known["tunnel"] not in SWITCHED:
            known["tunnel"] = default
        if found is not None:
            self.number(known["tunnel"], known["id"], (*path, "id"))
            remote = "2001:db8::2" if found["group"] and ":" in found["group"] else "192.0.2.2"
            known["options"] = self.options(
                found["options"], (*path, "options"), known["tunnel"], remote
            )
        elif type(known["id"]) is not int or not 0 <= known["id"] < 2**64:
            known["id"] = None
        if known["id"] is not None:
            self.ids.append((f"{known['tunnel']} network {known['id']}", path))
        if found and known["gbp"] is not None and known["tunnel"] != "vxlan":
            self.wrong((*path, "gbp"), f"is no option of {known['tunnel']}")
        parts: dict[str, list[Any]] = {}
        places: dict[str, list[Path]] = {}
        readers: dict[str, Callable[[object, Path], Any]] = {
            "remotes": lambda row, at: self.remote(row, at, known),
            "port": self.port,
            "static": self.static,
            "neighbor": self.neighbor,
        }
        for name, read in readers.items():
            parts[name], places[name] = [], []
            rows = self.array(value.get(name, []), (*path, name))
            for index, row in enumerate(rows):
                part = read(row, (*path, name, index))
                if part is not None:
                    parts[name].append(part)
                    places[name].append((*path, name, index))
        self._check_parts(parts, places, value)
        if found is None:
            return None
        rows_of: dict[str, Any] = {name: tuple(rows) for name, rows in parts.items()}
        return Network(**known, **rows_of)

    def neighbor(self, value: object, path: Path) -> Neighbor | None:
        found = self.table("network.neighbor", value, path)
        return None if found is None else Neighbor(**found)

    def _check_parts(
        self, parts: dict[str, list[Any]], places: dict[str, list[Path]], value: dict[str, Any]
    ) -> None:
        def pairs(name: str) -> list[tuple[Any, Path]]:
            return list(zip(parts[name], places[name], strict=True))

        self.unique(
            [(f"remote {r.address} by {r.tunnel}", p) for r, p in pairs("remotes")], "address"
        )
        self.unique([(f"port name {given(r.name)}", p) for r, p in pairs("port")], "name")
        self.unique([(f"MAC address {r.mac}", p) for r, p in pairs("static")], "mac")
        self.unique([(f"neighbour {r.ip}", p) for r, p in pairs("neighbor")], "ip")
        for kind, field, name in (("remote", "address", "remotes"), ("port", "name", "port")):
            there = {getattr(row, field) for row in parts[name]}
            if isinstance(value.get(name, []), list) and len(there) < len(value.get(name, [])):
                continue  # some of them are wrong themselves
            for static, path in pairs("static"):
                wanted = getattr(static, kind)
                if wanted is not None and wanted not in there:
                    self.refuse((*path, kind), wanted, f"the {field} of a {kind} of this network")

    def unique(self, rows: list[tuple[str, Path]], key: str) -> None:
        """Each of these once; a second one names the line of the first."""
        seen: dict[str, Path] = {}
        for what, path in rows:
            where = (*path, key) if (*path, key) in self.lines else path
            if what in seen:
                self.wrong(where, f"{what} is on line {self.line(seen[what])} already")
            else:
                seen[what] = where

    def whole(self, document: dict[str, Any]) -> Config | None:
        top = self.table("", document, ())
        options: VtepOptions | None = None
        default = "vxlan"
        if "vtep" not in document:
            self.wrong(("vtep",), "is missing: the table [vtep] with at least local")
        else:
            found = self.table("vtep", document["vtep"], ("vtep",))
            options = VtepOptions(**found) if found is not None else None
            default = options.tunnel if options else default
        networks: list[tuple[Network, Path]] = []
        for index, row in enumerate(self.array(document.get("network", []), ("network",))):
            network = self.network(row, ("network", index), default)
            if network is not None:
                networks.append((network, ("network", index)))
        self.unique(self.ids, "id")
        self.unique([(f"network name {given(n.name)}", p) for n, p in networks if n.name], "name")
        self._check_devices(networks)
        if options is not None:
            self._check_vtep(options, networks)
        if top is None or options is None or self.mistakes:
            return None
        return Config(options, tuple(network for network, _ in networks))

    def _check_devices(self, networks: list[tuple[Network, Path]]) -> None:
        places: list[tuple[str, Path]] = []
        queues: dict[tuple[str, str], tuple[int, Path]] = {}
        for network, path in networks:
            for index, port in enumerate(network.port):
                where: Path = (*path, "port", index)
                kind, name = port.device
                tag = "without vlan" if port.vlan is None else f"with vlan {port.vlan}"
                places.append((f"{kind} {name} {tag}", where))
                if port.queues is not None:
                    first = queues.setdefault(port.device, (port.queues, where))
                    if first[0] != port.queues:
                        said = f"{first[0]}, as on line {self.line((*first[1], 'queues'))}"
                        self.refuse((*where, "queues"), port.queues, said)
        self.unique(places, "vlan")

    def _check_vtep(self, options: VtepOptions, networks: list[tuple[Network, Path]]) -> None:
        if len(networks) > options.networks:
            self.refuse(("vtep", "networks"), options.networks, f"{len(networks)} at least")
        for network, path in networks:
            for index, port in enumerate(network.port):
                if port.queues is not None and port.queues > options.workers:
                    where: Path = (*path, "port", index, "queues")
                    self.refuse(where, port.queues, f"at most vtep.workers, {options.workers}")
        if ":" not in options.local and "." not in options.local:
            return  # an interface: its addresses are known later
        try:
            _tunnel("vxlan", 1, options.local, {})
        except ConfigError:
            return
        six = ":" in options.local
        for network, path in networks:
            addresses: list[tuple[Path, str]] = [
                ((*path, "remotes", i), r.address) for i, r in enumerate(network.remotes)
            ]
            if network.group is not None:
                addresses.append(((*path, "group"), network.group))
            for at, address in addresses:
                if (":" in address) != six:
                    self.refuse(at, address, f"an address of the family of {options.local}")
                elif address == options.local:
                    self.refuse(at, address, "another address than vtep.local")


def _tunnel(kind: str, key: int, remote: str, options: dict[str, Any]) -> None:
    """Raise ConfigError unless there is such a tunnel."""
    protocol = SWITCHED[kind]
    local = "2001:db8::1" if ":" in remote else "192.0.2.1"
    protocol(**{protocol.key_field: key, "local": local, "remote": remote, **options})


def _toml() -> Any:
    for name in ("tomllib", "tomli"):  # the first from Python 3.11 on
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise OverlayError(
        "a configuration needs Python 3.11, or: pip install 'overlay-dataplane[live]'"
    )


def parse(data: bytes, name: str = "<config>") -> Config:
    """The configuration in these bytes.  Raises :class:`InvalidConfig` with every mistake."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidConfig(name, [Mistake(line, "", "is not UTF-8")]) from None
    text = text.replace("\r\n", "\n")
    try:
        document = _toml().loads(text)
    except RecursionError:
        raise InvalidConfig(name, [Mistake(1, "", "is nested too deep")]) from None
    except ValueError as error:
        said = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = int(said[2] or text.count("\n") + 1) if said else 1
        message = said[1] if said else "a number is too large"
        raise InvalidConfig(name, [Mistake(line, "", f"not TOML: {message}")]) from None
    reader = _Reader(scan(text))
    reader.check_numbers(document)
    config = None if reader.mistakes else reader.whole(document)
    if config is None:
        raise InvalidConfig(name, reader.mistakes)
    return config


def parse_table(section: str, value: dict[str, Any], network: Network | None = None) -> Any:
    """One table of a configuration, as a control request gives it.

    Raises :class:`InvalidConfig` with every mistake; the lines mean nothing.
    """
    reader = _Reader({})
    known = {"id": network.id, "tunnel": network.tunnel} if network else {}
    read: dict[str, Callable[[], Any]] = {
        "network": lambda: reader.network(value, (), value.get("tunnel") or "vxlan"),
        "remotes": lambda: reader.remote(value, (), known),
        "port": lambda: reader.port(value, ()),
        "static": lambda: reader.static(value, ()),
        "neighbor": lambda: reader.neighbor(value, ()),
    }
    part = read[section]()
    if reader.mistakes:
        raise InvalidConfig("", reader.mistakes)
    return part


def load(path: str | os.PathLike[str]) -> Config:
    """The configuration in a file.  Raises OSError, and :class:`InvalidConfig`."""
    name = os.fspath(path)
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InvalidConfig(name, [Mistake(1, "", f"is larger than {LARGEST >> 20} MiB")])
    return parse(data, name)
