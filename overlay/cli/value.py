"""Value: how numbers, ranges, addresses, times and sizes are written on the command line.

Each is written one way, whichever option takes it.  What must not live here: options.
"""

from __future__ import annotations

import ipaddress
import re
import typing
from datetime import datetime, timezone
from typing import Any

import click

from overlay import ConfigError, GeneveOption
from overlay.tunnel import NO_KEY

if typing.TYPE_CHECKING:
    Type = click.ParamType[Any]
else:
    Type = click.ParamType

__all__ = ["Depth", "Ids", "Moment", "Network", "Number", "Option", "Ports", "Size", "Type"]

#: Tunnels within tunnels that are removed at most, ``--depth all`` included.
DEPTH_MAX = 16
#: Numbers that the ranges of ``--id`` may name together.
IDS_MAX = 1 << 20

_RANGE = re.compile(r"\s*(-?\w{1,24})(?:-(\w{1,24}))?\s*", re.ASCII)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


class Number(Type):
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


class Ports(Type):
    """A port, or a range low-high."""

    name = "port|low-high"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", value, re.ASCII)
        if match is None:
            self.fail(f"{value!r} is neither a port nor a range low-high", param, ctx)
        low, high = match.groups()
        return int(low) if high is None else (int(low), int(high))


class Option(Type):
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


class Ids(Type):
    """A number, decimal or with 0x, a range low-high, or "none", GRE's for no key."""

    name = "number|low-high"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, range):
            return value
        if value == "none":
            return range(NO_KEY, NO_KEY + 1)
        match = _RANGE.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is neither a number nor a range low-high", param, ctx)
        try:
            first, last = (int(word, 0) for word in (match[1], match[2] or match[1]))
        except ValueError:
            self.fail(f"{value!r} is neither a number nor a range low-high", param, ctx)
        if not 0 <= first <= last < 2**64:
            name = "--id" if param is None else param.opts[0]
            raise click.UsageError(f"{name} {value}: expected 0..2**64-1, the lower end first")
        if last - first >= IDS_MAX:
            self.fail(f"{value!r} is more than {IDS_MAX} numbers", param, ctx)
        return range(first, last + 1)


class Network(Type):
    """An address, or ADDRESS/prefix."""

    name = "address[/prefix]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return ipaddress.ip_network(value, strict=False)
        except ValueError:
            self.fail(f"{value!r} is neither an IP address nor ADDRESS/prefix", param, ctx)


class Moment(Type):
    """A time, as nanoseconds since 1970: ISO 8601 (UTC where it does not say) or epoch seconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, int):
            return value
        from decimal import Decimal, InvalidOperation

        try:
            number = Decimal(value)
            if number.is_finite() and abs(number) < 2**33:
                return int(number * 10**9)
        except InvalidOperation:
            pass
        try:
            text = value[:-1] + "+00:00" if value[-1:] in "Zz" else value
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{value!r} is neither ISO 8601 nor seconds since 1970", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


class Depth(Type):
    """How many tunnels, or all that are believed."""

    name = "number|all"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "all":
            return DEPTH_MAX
        return click.IntRange(1, DEPTH_MAX).convert(value, param, ctx)


class Size(Type):
    """Bytes, with k, M, G, Ki, Mi or Gi."""

    name = "bytes"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        match = re.fullmatch(r"(\d{1,18})\s*(|[kmg]i?)b?", str(value).lower())
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is no size, such as 64M", param, ctx)
        return int(match[1]) * _UNITS[match[2]]
