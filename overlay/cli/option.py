"""Options: how the command line's words become tunnels and profiles.

The options of a tunnel are made from the tunnel classes themselves, so a new
protocol brings its own.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import click

from overlay import PROTOCOLS, ConfigError, GeneveOption, Profile, Tunnel

if typing.TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])

# What the classes' docstrings say to programs, as the command line says it.
_WORDING = (
    (r":\w+:`(.*?)`", r"\1"),
    (r"``", ""),
    (r", text or ipaddress", ""),
    (r"a pair \(low, high\)", "low-high"),
    (r", or None for", "; by default"),
    (r"None (sends|takes it|for)", "by default"),
    (r"None counts", "by default it counts"),
)


class Number(_Type):
    """An integer, decimal or with 0x; or one of some words."""

    name = "number"

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, int) or value in self.words:
            return value
        try:
            number = int(value, 0)
        except ValueError:
            words = "".join(f" or {word!r}" for word in self.words)
            self.fail(f"{value!r} is not a number{words}", param, ctx)
        if number.bit_length() > 64:
            self.fail(f"{value!r} is beyond 64 bits", param, ctx)
        return number


class Ports(_Type):
    """A port, or a range low-high."""

    name = "port|low-high"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", value, re.ASCII)
        if match is None:
            self.fail(f"{value!r} is neither a port nor a range low-high", param, ctx)
        low, high = match.groups()
        return int(low) if high is None else (int(low), int(high))


class Option(_Type):
    """A GENEVE option in hexadecimal, CLASS:TYPE:DATA, or without ``data`` CLASS:TYPE."""

    name = "class:type:data"

    def __init__(self, *, data: bool = True) -> None:
        self.data = data
        if not data:
            self.name = "class:type"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        pattern = r"([0-9a-f]{4}):([0-9a-f]{2})" + (
            r"(?::((?:[0-9a-f]{2})*))?" if self.data else ""
        )
        match = re.fullmatch(pattern, value, re.ASCII | re.IGNORECASE)
        if match is None:
            example = "0102:80:00010002" if self.data else "0102:80"
            self.fail(f"{value!r} is not {self.name} in hexadecimal, such as {example}", param, ctx)
        number, kind = int(match[1], 16), int(match[2], 16)
        if not self.data:
            return number, kind
        try:
            return GeneveOption(number, kind, bytes.fromhex(match[3] or ""))
        except ConfigError as error:
            self.fail(f"{value!r}: {error.field}: expected {error.expected}", param, ctx)


def key_field(kind: type[Tunnel]) -> str:
    """The name of the field that ``--id`` sets."""
    return kind.key_field


def make(kind: type[Tunnel], key: int | None, **values: Any) -> Tunnel:
    """A tunnel of this class and key; None for one without a key, where there is such."""
    name = key_field(kind)
    required = kind.__dataclass_fields__[name].default is dataclasses.MISSING
    given: dict[str, Any] = {name: key, **values} if required or key is not None else values
    return kind(**given)


def sample(kind: type[Tunnel], **values: Any) -> Tunnel:
    """Some tunnel of this class, from 192.0.2.1 to 192.0.2.2."""
    key = None if kind.name == "gre" else {"erspan": 0x155}.get(kind.name, 0x123456)
    return make(kind, key, **{"local": "192.0.2.1", "remote": "192.0.2.2", **values})


def taking(tunnel: Tunnel) -> str | Profile:
    """A profile that takes what the tunnel sends; the usual one, but for plain GRE."""
    return Profile.of("rfc", protocols=("gre",)) if tunnel.name == "gre" else "rfc"


def _help(name: str) -> str:
    """What the classes' docstrings say of a field, in one line."""
    for kind in (Tunnel, *PROTOCOLS.values()):
        text = " ".join((kind.__doc__ or "").split())
        found = re.search(rf":param {name}: (.*?)(?= :param |$)", text)
        if found:
            said = found[1].rstrip(".")
            for pattern, words in _WORDING:
                said = re.sub(pattern, words, said)
            return said
    return ""


def _option(name: str, hint: Any, many: bool) -> Callable[[F], F]:
    """The option of a tunnel's field of this type; ``many``: which takes many values."""
    flag = "--" + name.replace("_", "-")
    extra: dict[str, Any] = {"default": None, "help": _help(name)}
    literals = [str(w) for part in _parts(hint) for w in typing.get_args(part)]
    if many and (name == "source_port" or {int, str} & set(_parts(hint))):
        extra["metavar"] = "VALUES"
    elif name == "source_port":
        extra["type"] = Ports()
    elif name == "options":
        extra |= {
            "type": Option(),
            "multiple": True,
            "callback": lambda _c, _p, value: value or None,
        }
        extra["help"] = "A GENEVE option in hexadecimal, such as 0102:80:00010002; repeatable."
    elif hint is bool:
        flag = f"{flag}/--no-{name.replace('_', '-')}"
    elif any(part is int for part in _parts(hint)):
        extra["type"] = Number(*literals)
    elif literals:
        extra["type"] = click.Choice(literals)
    return click.option(flag, name, **extra)


def _parts(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def tunnel_options(*, addresses: bool = True, many: bool = False) -> Callable[[F], F]:
    """The options that describe a tunnel; :func:`tunnel_of` takes them.

    :param addresses: whether the tunnel's ends are to be given.
    :param many: whether numbers and addresses may be many, as text, and no tunnel at all.
    """
    hints: dict[str, Any] = {}
    keys = {key_field(kind) for kind in PROTOCOLS.values()}
    for kind in PROTOCOLS.values():
        types_of = typing.get_type_hints(kind, localns={"Codec": Any})
        hints.update({f.name: types_of[f.name] for f in dataclasses.fields(kind)})

    def decorate(function: F) -> F:
        for name in reversed([n for n in hints if n not in keys | {"local", "remote"}]):
            function = _option(name, hints[name], many)(function)
        for name in ("remote", "local"):
            function = click.option(f"--{name}", required=addresses, help=_help(name))(function)
        function = click.option(
            *(("--id", "--key") if many else ("--id",)), "key", required=not many,
            type=None if many else Number("none"),
            help="The VNI, VSID, Context ID, GRE key or ERSPAN session; 'none' for no key.",
        )(function)  # fmt: skip
        return click.option(
            "--tunnel", type=click.Choice(list(PROTOCOLS)), required=not many, help="The protocol."
        )(function)

    return decorate


def tunnel_of(name: str, key: int | str, given: dict[str, Any]) -> Tunnel:
    """The tunnel of these options; what was not given has its default."""
    kind = PROTOCOLS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    values = {field: value for field, value in given.items() if value is not None}
    for field in values:
        if field not in known:
            raise click.UsageError(f"--{field.replace('_', '-')} is no option of {name}")
    try:
        return make(kind, None if isinstance(key, str) else key, **values)
    except ConfigError as error:
        option = "--id" if error.field == key_field(kind) else "--" + error.field.replace("_", "-")
        raise click.UsageError(f"{option} {error.value}: expected {error.expected}") from None


PROFILE = click.option(
    "--profile",
    type=click.Choice(["rfc", "strict", "lenient"]),
    default="rfc",
    show_default=True,
    help="What is accepted: every MUST of the RFCs; what Linux accepts; all that can be read.",
)
PORT = click.option("--port", type=Number(), default=4789, show_default=True, help="VXLAN's port.")


def ports(function: F) -> F:
    """The options for the UDP ports of every protocol that has one."""
    function = click.option(
        "--gpe-port", type=Number(), default=4790, show_default=True, help="VXLAN-GPE's."
    )(function)
    function = click.option(
        "--geneve-port", type=Number(), default=6081, show_default=True, help="GENEVE's."
    )(function)
    return PORT(function)


JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable results.")
STRICT = click.option("--strict", is_flag=True, help="Exit status 1 if packets were refused.")


def profile_of(base: str, **options: Any) -> Profile:
    """The profile of these options; a wrong one is a usage error."""
    try:
        return Profile.of(base, **options)
    except ConfigError as error:
        names = {"keys": "id", "protocols": "protocol", "vxlan_port": "port"}
        option = names.get(error.field, error.field).replace("_", "-")
        raise click.UsageError(f"--{option} {error.value}: expected {error.expected}") from None
