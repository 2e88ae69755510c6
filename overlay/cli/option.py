"""Options: those that several commands have, and how they become tunnels and profiles.

An option of the same name means the same in every command: what two commands take is
defined here, once.  Those of a tunnel are made from the tunnel classes themselves, so
a new protocol brings its own.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from overlay import PROTOCOLS, ConfigError, Profile, Tunnel

from .value import DEPTH_MAX, IDS_MAX, Depth, Ids, Number, Option, Ports

F = TypeVar("F", bound=Callable[..., Any])

#: How a network is named: by its number, which the library calls a key.
ID = ("--id", "--key")
_KEYS = "VNI, VSID, Context ID, GRE key or ERSPAN session"

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
            *ID, "key", required=not many, type=None if many else Number("none"),
            help=f"The {_KEYS}; 'none' for GRE without one.",
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


def profile_option(default: str = "rfc", of: str = "") -> Callable[[F], F]:
    """``--profile``; commands that take what others captured are lenient by default.

    :param of: who accepts, if that is not the command.
    """
    return click.option(
        "--profile", type=click.Choice(["rfc", "strict", "lenient"]), default=default,
        show_default=True,
        help=f"What is accepted{of and f' by {of}'}: every MUST of the RFCs; what Linux accepts; "
        "all that can be read.",
    )  # fmt: skip


_PORTS = {
    "vxlan_port": ("--port", 4789, "VXLAN's UDP port."),
    "geneve_port": ("--geneve-port", 6081, "GENEVE's."),
    "gpe_port": ("--gpe-port", 4790, "VXLAN-GPE's."),
}


def port_options(function: F) -> F:
    """The UDP ports of the protocols that have one; :func:`profile_of` takes ``ports``."""

    @functools.wraps(function)
    def called(*args: Any, **given: Any) -> Any:
        ports = {name: given.pop(name) for name in _PORTS}
        return function(*args, ports=ports, **given)

    made: Any = called
    for name, (flag, default, words) in reversed(_PORTS.items()):
        made = click.option(
            flag, name, type=Number(), default=default, show_default=True, help=words
        )(made)
    return made  # type: ignore[no-any-return]


IDS = click.option(
    *ID, "keys", type=Ids(), multiple=True,
    help=f"A {_KEYS} to take, of the outermost tunnel, or a range; 'none' for GRE without a key; "
    "repeatable.",
)  # fmt: skip
PROTOCOL = click.option(
    "--protocol", "protocols", type=click.Choice(list(PROTOCOLS)), multiple=True,
    help="A protocol to take; repeatable.",
)  # fmt: skip
DEPTH = click.option(
    "--depth", type=Depth(), default="1", show_default=True,
    help=f"Tunnels within tunnels to remove at most; all is {DEPTH_MAX}.  Fragments and STT "
    "segments within are not reassembled.",
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable results.")

ABOVE_ZERO = click.FloatRange(0, min_open=True)


def strict(on: str = "if packets were refused") -> Callable[[F], F]:
    """``--strict``: what ends the command with status 1."""
    return click.option("--strict", is_flag=True, help=f"Exit status 1 {on}.")


STRICT = strict()


def seconds(words: str) -> Callable[[F], F]:
    """``--seconds``: how long."""
    return click.option("--seconds", type=ABOVE_ZERO, metavar="N", help=words)


def count(words: str) -> Callable[[F], F]:
    """``--count``: how many frames."""
    return click.option("--count", type=click.IntRange(1), metavar="N", help=words)


def interface(words: str) -> Callable[[F], F]:
    """``--interface``: a network interface to use."""
    return click.option("-i", "--interface", metavar="NAME", help=f"{words}; needs CAP_NET_RAW.")


def tap(words: str) -> Callable[[F], F]:
    """``--tap``: a TAP interface to use."""
    return click.option("--tap", metavar="NAME", help=words)


def profile_of(base: str, keys: Sequence[range] = (), /, **options: Any) -> Profile:
    """The profile of these options; a wrong one is a usage error.

    :param keys: what :data:`IDS` gave; none is every key.
    :param options: fields of the profile; empty ones have their default.
    """
    if sum(map(len, keys)) > IDS_MAX:
        raise click.UsageError(f"--id: more than {IDS_MAX} numbers")
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if keys:
        given["keys"] = frozenset().union(*keys)
    try:
        return Profile.of(base, **given)
    except ConfigError as error:
        raise wrong(error) from None


def wrong(error: ConfigError) -> click.UsageError:
    """What is wrong with an option, by its name on the command line."""
    names = {"keys": "id", "protocols": "protocol", "vxlan_port": "port"}
    option = names.get(error.field, error.field).replace("_", "-")
    return click.UsageError(f"--{option} {error.value}: expected {error.expected}")
