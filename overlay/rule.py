"""Rules: which packets to rewrite, and what of their outer headers, as validated values.

What lives here: values, and how they are read from a TOML file.  What must not: any
byte of a packet; those are the codecs' (:meth:`overlay.codec.Codec.editor`), and
:mod:`overlay.rewrite` puts it all together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from .address import mac_address
from .errors import ConfigError, OverlayError
from .tunnel import ENTROPY_PORTS, ERSPAN, NVGRE, PROTOCOLS, Tunnel, choice, integer

__all__ = ["Action", "Rule", "Target", "load_rules", "parse_rules", "rule_of"]

_KEYS = (0, 2**64 - 1)
_PORT_FIELD = "port"


class Action(IntEnum):
    """What became of a packet in an editor; the numbers are those of ``enum ov_action``."""

    #: No rule is for it, or it was refused.
    NONE = 0
    #: It was changed in place.
    EDITED = 1
    #: It has to be put into another tunnel, and decap takes its frame as it lies.
    EXCHANGE = 2
    #: It has to be put into another tunnel.
    REBUILD = 3
    #: The same, of a segment of an STT frame, which has to be put together first.
    GATHER = 4


class Target(NamedTuple):
    """The tunnel that a packet is to be rebuilt in.

    ``rule``: the number of the rule that says so.  ``dscp`` is None where it is
    inherited, ``tci`` where there is no outer tag.
    """

    rule: int
    protocol: str
    key: int
    local: str
    remote: str
    local_mac: str
    remote_mac: str
    tci: int | None
    dscp: int | None
    ttl: int
    df: bool


@dataclass(frozen=True, kw_only=True, repr=False)
class Rule:
    """Which packets, and what is set in their outer headers.

    A packet goes to the first rule that it matches in everything that the rule names.
    A rule that names nothing is for every tunnel packet; one that sets nothing leaves
    packets as they are, but for wrong checksums where those are mended.

    What it matches:

    :param protocol: a protocol's name, or several.
    :param key: a key, or a range ``(low, high)``, both ends included.
    :param source: outer source addresses: one, or a prefix such as ``"192.0.2.0/24"``.
    :param destination: outer destination addresses, the same.
    :param source_mac: the outer source MAC.
    :param destination_mac: the outer destination MAC.
    :param vlan: the VID of the outer 802.1Q tag, 0..4095, or ``"none"`` for packets without.
    :param dscp: the outer DSCP, 0..63.

    What it sets; None leaves it:

    :param set_key: the key.
    :param map_key: new keys by old ones; the rule is for packets with these alone.
    :param add_key: a number, below 0 or above, that is added to the key.
    :param set_source: the outer source address; of a prefix its bits, while the host
        bits stay.  With addresses of the other IP version the packet is rebuilt, and both
        have to be set, neither by prefix.
    :param set_destination: the outer destination address, the same.
    :param set_source_mac: the outer source MAC.
    :param set_destination_mac: the outer destination MAC.
    :param set_source_port: UDP's or STT's source port: a number, a range ``(low, high)``
        by the flow hash of the inner frame, or ``"entropy"`` for 49152..65535.
    :param set_destination_port: UDP's or STT's destination port.
    :param set_dscp: the outer DSCP, or ``"inherit"`` for the inner packet's.
    :param set_ecn: the outer ECN field, 0..3, or ``"rfc6040"`` for the inner packet's; a
        CE mark that the packet has met stays then (RFC 6040 4).
    :param set_ttl: the outer TTL or hop limit, 0..255.
    :param set_vlan: the VID of the outer tag, which is put in where there is none, or
        ``"none"`` to take it away.  Priority and DEI stay; those of a new tag are 0.
    :param to: the protocol to rebuild packets in: decap, then encap (RFC 6040), with
        every outer field kept that both have and no rule sets.
    :param tunnel: with ``to``, or where the IP version changes: further fields of the
        tunnel, by name, as its class has them (``{"checksum": False}``).
    """

    protocol: str | tuple[str, ...] | None = None
    key: int | tuple[int, int] | None = None
    source: str | None = None
    destination: str | None = None
    source_mac: str | None = None
    destination_mac: str | None = None
    vlan: int | Literal["none"] | None = None
    dscp: int | None = None

    set_key: int | None = None
    map_key: Mapping[int, int] | None = None
    add_key: int | None = None
    set_source: str | None = None
    set_destination: str | None = None
    set_source_mac: str | None = None
    set_destination_mac: str | None = None
    set_source_port: int | tuple[int, int] | Literal["entropy"] | None = None
    set_destination_port: int | None = None
    set_dscp: int | Literal["inherit"] | None = None
    set_ecn: int | Literal["rfc6040"] | None = None
    set_ttl: int | None = None
    set_vlan: int | Literal["none"] | None = None
    to: str | None = None
    tunnel: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_match()
        self._check_keys()
        self._check_addresses()
        for name in ("source_mac", "destination_mac", "set_source_mac", "set_destination_mac"):
            self._replace(name, lambda name, value: mac_address(name, value))
        self._replace("set_source_port", _ports)
        self._number("set_destination_port", 65535)
        self._number("set_dscp", 63, "inherit")
        self._number("set_ecn", 3, "rfc6040")
        self._number("set_ttl", 255)
        self._number("set_vlan", 4095, "none")
        self._check_tunnel()

    def __repr__(self) -> str:
        """Only what differs from the defaults; ``eval`` of it gives the rule back."""
        shown = (
            f"{f.name}={value!r}"
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) not in (None, {})
        )
        return f"Rule({', '.join(shown)})"

    def _put(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _replace(self, name: str, check: Any) -> None:
        """Check a field that is given, and hold it as ``check`` gives it."""
        value = getattr(self, name)
        if value is not None:
            self._put(name, check(name, value))

    def _number(self, name: str, most: int, *words: str) -> None:
        def check(name: str, value: Any) -> Any:
            if isinstance(value, str):
                return choice(name, value, words or ("a number",))
            return integer(name, value, 0, most)

        self._replace(name, check)

    def _check_match(self) -> None:
        if self.protocol is not None:
            names = (self.protocol,) if isinstance(self.protocol, str) else tuple(self.protocol)
            known = tuple(dict.fromkeys(choice("protocol", n, tuple(PROTOCOLS)) for n in names))
            self._put("protocol", known)
        self._replace("key", _range)
        self._number("vlan", 4095, "none")
        self._number("dscp", 63)

    def _check_keys(self) -> None:
        self._number("set_key", _KEYS[1])
        if self.add_key is not None:
            self._put("add_key", integer("add_key", self.add_key, -_KEYS[1], _KEYS[1]))
        if self.map_key is not None:
            if not isinstance(self.map_key, Mapping) or not self.map_key:
                raise ConfigError("map_key", self.map_key, "new keys by old ones")
            pairs = {
                integer("map_key", old, *_KEYS): integer("map_key", new, *_KEYS)
                for old, new in self.map_key.items()
            }
            self._put("map_key", pairs)
        given = [n for n in ("set_key", "map_key", "add_key") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ConfigError(given[1], getattr(self, given[1]), f"None, since {given[0]} is set")

    def _check_addresses(self) -> None:
        for name in ("source", "destination", "set_source", "set_destination"):
            self._replace(name, _prefix)
        for name in ("source", "destination"):
            new, old = self.network("set_" + name), self.network(name)
            if new is None:
                continue
            whole = new.prefixlen == new.max_prefixlen
            if not whole and old is not None and old.version != new.version:
                raise ConfigError("set_" + name, str(new), f"a prefix of the version of {old}")
        source, destination = self.network("set_source"), self.network("set_destination")
        if source is not None and destination is not None and source.version != destination.version:
            raise ConfigError("set_destination", self.set_destination, f"IPv{source.version} too")

    def _check_tunnel(self) -> None:
        if self.to is not None:
            choice("to", self.to, tuple(PROTOCOLS))
        if not isinstance(self.tunnel, Mapping):
            raise ConfigError("tunnel", self.tunnel, "fields of a tunnel by name")
        self._put("tunnel", dict(self.tunnel))
        if isinstance(self.set_ecn, int) and self.to is not None:
            raise ConfigError("set_ecn", self.set_ecn, "'rfc6040' or None with to")
        for name in self.tunnel:
            if name in _OWN or name in {kind.key_field for kind in PROTOCOLS.values()}:
                raise ConfigError("tunnel", name, "a field that no option of the rule sets")
        if self.to is not None:
            kind = PROTOCOLS[self.to]
            key = 0x1000 if kind is NVGRE else 0
            known = {f.name for f in dataclasses.fields(kind)}
            for name in self.fields:
                if name not in known:
                    raise ConfigError("tunnel", name, f"a field of {kind.__name__}")
            self.build(kind, key, local="192.0.2.1", remote="192.0.2.2")
        elif self.tunnel:
            known = {f.name for kind in PROTOCOLS.values() for f in dataclasses.fields(kind)}
            for name in set(self.tunnel) - known:
                raise ConfigError("tunnel", name, "a field of a tunnel")

    # -- read by the codecs -----------------------------------------------------

    def network(self, name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
        """An address field as a network, or None."""
        text = getattr(self, name)
        return None if text is None else ipaddress.ip_network(text)

    @property
    def fields(self) -> dict[str, Any]:
        """What the rule says of a tunnel that it builds, beyond the outer headers' own fields."""
        given: dict[str, Any] = {"inner_vlan": "reject"} if self.to == "nvgre" else {}
        if self.set_source_port is not None and self.set_source_port != ENTROPY_PORTS:
            given["source_port"] = self.set_source_port
        if self.set_destination_port is not None:
            given[_PORT_FIELD] = self.set_destination_port
        return {**given, **self.tunnel}

    def build(self, kind: type[Tunnel], key: int, **outer: Any) -> Tunnel:
        """A tunnel of these outer headers and what the rule says of it.

        Raises :class:`ConfigError`; of the key's field, where that does not hold the key.
        """
        known = {f.name for f in dataclasses.fields(kind)}
        values = {name: value for name, value in self.fields.items() if name in known}
        if not (kind is ERSPAN and values.get("type") == 1):  # which has no session
            values[kind.key_field] = key
        return kind(**outer, **values)

    @property
    def looks_inside(self) -> bool:
        """Whether it needs what only the first segment of an STT frame has: the key, the
        inner packet.
        """
        return (
            self.key is not None
            or self.map_key is not None
            or self.to is not None
            or self.set_source is not None
            or self.set_destination is not None
            or isinstance(self.set_source_port, tuple)
            or self.set_dscp == "inherit"
            or self.set_ecn == "rfc6040"
        )


# Fields of a tunnel that the outer headers and the other options of a rule give.
_OWN = {"local", "remote", "local_mac", "remote_mac", "outer_vlan", "outer_pcp", "outer_dei",
        "ttl", "dscp", "df", "ip_id", "source_port"}  # fmt: skip


def _range(name: str, value: Any) -> tuple[int, int]:
    """A key, or a pair of keys."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ConfigError(name, value, "a key, or a pair (low, high)")
        low, high = integer(name, value[0], *_KEYS), integer(name, value[1], *_KEYS)
        if low > high:
            raise ConfigError(name, value, "low <= high")
        return low, high
    number = integer(name, value, *_KEYS)
    return number, number


def _ports(name: str, value: Any) -> int | tuple[int, int]:
    if isinstance(value, str):
        choice(name, value, ("entropy",))
        return ENTROPY_PORTS
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ConfigError(name, value, "a port, a pair (low, high) or 'entropy'")
        low, high = integer(name, value[0], 0, 65535), integer(name, value[1], 0, 65535)
        if low > high:
            raise ConfigError(name, value, "low <= high")
        return low, high
    return integer(name, value, 0, 65535)


def _prefix(name: str, value: Any) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=True))
    except ValueError:
        pass
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ConfigError(name, value, "an IP address or a prefix") from None
    raise ConfigError(name, value, "a prefix whose host bits are zero")


# -- TOML ---------------------------------------------------------------------------


def load_rules(path: str | os.PathLike[str]) -> tuple[Rule, ...]:
    """The rules of a TOML file: one table ``[[rule]]`` each, see :func:`parse_rules`.

    :raises ConfigError: it is not TOML, or a rule is wrong; names the file, the rule, the field.
    :raises OSError: it cannot be read.
    """
    tomllib = _toml()
    name = os.fspath(path)
    with open(path, "rb") as file:
        try:
            document = tomllib.load(file)
        except RecursionError:
            raise ConfigError("rules", name, "TOML that is not nested so deep") from None
        except ValueError as error:  # not TOML, not UTF-8, or a number that is too long
            raise ConfigError("rules", name, f"TOML: {error}") from None
    try:
        return parse_rules(document)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.field}", error.value, error.expected) from None


def _toml() -> Any:
    for name in ("tomllib", "tomli"):  # the first from Python 3.11 on
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise OverlayError("rules need Python 3.11, or: pip install 'overlay-dataplane[live]'")


def parse_rules(document: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules of a document as TOML or JSON gives it: ``{"rule": [{...}, ...]}``.

    :raises ConfigError: names the rule, counted from 1, and the field.
    """
    for name in document:
        if name != "rule":
            raise ConfigError("rules", name, "tables [[rule]] and nothing else")
    tables = document.get("rule", [])
    if not isinstance(tables, Iterable) or isinstance(tables, (str, Mapping)):
        raise ConfigError("rule", tables, "tables [[rule]]")
    rules = []
    for number, table in enumerate(tables, 1):
        if not isinstance(table, Mapping):
            raise ConfigError(f"rule {number}", table, "a table")
        try:
            rules.append(rule_of(table))
        except ConfigError as error:
            where = f"rule {number}: {error.field}"
            raise ConfigError(where, error.value, error.expected) from None
    return tuple(rules)


def rule_of(table: Mapping[str, Any]) -> Rule:
    """The rule of a table: the fields of :class:`Rule`, with hyphens or underscores.

    Numbers may be text, decimal or with 0x, and pairs ``"low-high"``.  Raises
    :class:`ConfigError`, which names the field as the table does.
    """
    known = {f.name for f in dataclasses.fields(Rule)}
    values, spelled = {}, {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(key, value, "a field of a rule")
        values[name], spelled[name] = _from_text(name, value), key
    try:
        return Rule(**values)
    except ConfigError as error:
        named = spelled.get(error.field, error.field)
        raise ConfigError(named, error.value, error.expected) from None


_TEXTS = {"protocol", "source", "destination", "source_mac", "destination_mac", "set_source",
          "set_destination", "set_source_mac", "set_destination_mac", "to", "tunnel"}  # fmt: skip
_PAIRS = {"key", "set_source_port"}


def _from_text(name: str, value: Any) -> Any:
    """What a text stands for, where a text can."""
    if name == "map_key" and isinstance(value, Mapping):
        return {_number_of(old): _number_of(new) for old, new in value.items()}
    if name in _PAIRS and isinstance(value, str):
        pair = re.fullmatch(r"(\w+)-(\w+)", value)
        if pair:
            return _number_of(pair[1]), _number_of(pair[2])
    if isinstance(value, list):
        return tuple(value)
    return value if name in _TEXTS else _number_of(value)


def _number_of(value: Any) -> Any:
    """A number that is written as text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return int(value, 0)
    except ValueError:
        return value
