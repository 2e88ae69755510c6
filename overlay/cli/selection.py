"""Selection: which packets of a capture a command is asked to look at."""

from __future__ import annotations

import ipaddress
import re
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from overlay.columns import Columns
from overlay.tunnel import NO_KEY

if typing.TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType

__all__ = ["Ids", "Moment", "Network", "Selection"]

#: Numbers that the ranges of ``--id`` may name together.
IDS_MAX = 1 << 20

_RANGE = re.compile(r"\s*(-?\w{1,24})(?:-(\w{1,24}))?\s*", re.ASCII)

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Ids(_Type):
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


class Network(_Type):
    """An address, or ADDRESS/prefix."""

    name = "address[/prefix]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return ipaddress.ip_network(value, strict=False)
        except ValueError:
            self.fail(f"{value!r} is neither an IP address nor ADDRESS/prefix", param, ctx)


class Moment(_Type):
    """A time, as nanoseconds since 1970: ISO 8601 (UTC where it does not say) or epoch seconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, int):
            return value
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


def _inside(addresses: npt.NDArray[np.uint8], network: _Network) -> npt.NDArray[np.bool_]:
    """Which addresses, 16 bytes a row, are in a network; their family is looked at elsewhere."""
    prefix = np.frombuffer(network.network_address.packed, np.uint8)
    mask = np.frombuffer(network.netmask.packed, np.uint8)
    found: npt.NDArray[np.bool_] = ((addresses[:, : mask.size] & mask) == prefix).all(axis=1)
    return found


@dataclass(frozen=True)
class Selection:
    """What is chosen by time and by outer address.

    ``outer``: networks of which the source or the destination is to be in one; ``local``:
    of the source; ``remote``: of the destination.  ``after``, and ``before``, which is
    not included, are nanoseconds since 1970.
    """

    outer: Sequence[_Network] = ()
    local: Sequence[_Network] = ()
    remote: Sequence[_Network] = ()
    after: int | None = None
    before: int | None = None

    @property
    def by_address(self) -> bool:
        return bool(self.outer or self.local or self.remote)

    def __bool__(self) -> bool:
        return self.by_address or self.after is not None or self.before is not None

    def excluded(
        self, times: npt.NDArray[np.int64], columns: Columns | None
    ) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
        """The rows that are not chosen, and how many for each option that says so first.

        ``columns`` are needed :attr:`by_address` only.
        """
        out = np.zeros(times.size, np.bool_)
        counts: Counter[str] = Counter()

        def leave(name: str, rows: npt.NDArray[np.bool_]) -> None:
            counts[name] += int(np.count_nonzero(rows & ~out))
            np.logical_or(out, rows, out=out)

        if self.after is not None:
            leave("time", times < self.after)
        if self.before is not None:
            leave("time", times >= self.before)
        if columns is not None:
            sides = {"outer": ("source", "destination"), "local": ("source",)}
            for name in ("outer", "local", "remote"):
                networks = getattr(self, name)
                if networks:
                    ends = sides.get(name, ("destination",))
                    leave(name, ~self._matches(columns, networks, ends))
        return out, +counts

    @staticmethod
    def _matches(
        columns: Columns, networks: Sequence[_Network], sides: tuple[str, ...]
    ) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(columns), np.bool_)
        for network in networks:
            family = columns.family == network.version
            for side in sides:
                found |= family & _inside(getattr(columns, side), network)
        return found
