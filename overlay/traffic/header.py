"""Header: the fields of inner frames by name, and the headers that hold them.

Lives here: which fields there are, where they lie, what they are if nobody says,
and what goes with what.  What must not: columns and payloads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from overlay.errors import ConfigError

from .values import Values, addresses, macs, numbers

__all__ = ["FIELDS", "Headers", "Part", "fields_of"]

TCP, UDP = 6, 17
_PROTOCOLS = {"icmp": 1, "tcp": TCP, "udp": UDP}
_L4 = {TCP: 20, UDP: 8}
_TYPES = {4: 0x0800, 6: 0x86DD}


class Part(NamedTuple):
    """Where bits of a field's number go: ``bits`` of them, from bit ``source`` of the number,
    to bit ``shift`` of the ``size`` bytes at ``offset`` in a layer."""

    layer: str
    offset: int
    size: int
    shift: int = 0
    bits: int = 64
    source: int = 0


#: Every field: its greatest number and its parts; those of IP as ``ip4.`` and ``ip6.``.
_PARTS: dict[str, tuple[int, tuple[Part, ...]]] = {
    "eth.dst": (2**48 - 1, (Part("eth", 0, 2, 0, 16, 32), Part("eth", 2, 4, 0, 32))),
    "eth.src": (2**48 - 1, (Part("eth", 6, 2, 0, 16, 32), Part("eth", 8, 4, 0, 32))),
    "eth.type": (0xFFFF, (Part("type", 0, 2),)),
    **{
        f"{tag}.{name}": (2**bits - 1, (Part(tag, at, 2, shift, bits),))
        for tag in ("svlan", "vlan")
        for name, at, shift, bits in (
            ("type", 0, 0, 16), ("pcp", 2, 13, 3), ("dei", 2, 12, 1), ("id", 2, 0, 12),
        )
    },
    "ip4.dscp": (63, (Part("ip", 1, 1, 2, 6),)),
    "ip4.ecn": (3, (Part("ip", 1, 1, 0, 2),)),
    "ip4.id": (0xFFFF, (Part("ip", 4, 2),)),
    "ip4.df": (1, (Part("ip", 6, 2, 14, 1),)),
    "ip4.ttl": (255, (Part("ip", 8, 1),)),
    "ip4.proto": (255, (Part("ip", 9, 1),)),
    "ip4.src": (2**32 - 1, (Part("ip", 12, 4),)),
    "ip4.dst": (2**32 - 1, (Part("ip", 16, 4),)),
    "ip6.dscp": (63, (Part("ip", 0, 4, 22, 6),)),
    "ip6.ecn": (3, (Part("ip", 0, 4, 20, 2),)),
    "ip6.flow": (0xFFFFF, (Part("ip", 0, 4, 0, 20),)),
    "ip6.proto": (255, (Part("ip", 6, 1),)),
    "ip6.ttl": (255, (Part("ip", 7, 1),)),
    "ip6.src": (2**128 - 1, (Part("ip", 8, 8, 0, 64, 64), Part("ip", 16, 8))),
    "ip6.dst": (2**128 - 1, (Part("ip", 24, 8, 0, 64, 64), Part("ip", 32, 8))),
    "l4.sport": (0xFFFF, (Part("l4", 0, 2),)),
    "l4.dport": (0xFFFF, (Part("l4", 2, 2),)),
    "tcp.seq": (2**32 - 1, (Part("l4", 4, 4),)),
    "tcp.ack": (2**32 - 1, (Part("l4", 8, 4),)),
    "tcp.flags": (255, (Part("l4", 13, 1),)),
    "tcp.window": (0xFFFF, (Part("l4", 14, 2),)),
}  # fmt: skip

#: The names that users give.
FIELDS = (
    *(name for name in _PARTS if name.partition(".")[0] in ("eth", "svlan", "vlan")),
    "ip.version", "ip.src", "ip.dst", "ip.proto", "ip.ttl", "ip.dscp", "ip.ecn",
    "ip.id", "ip.df", "ip.flow",
    "udp.sport", "udp.dport", "tcp.sport", "tcp.dport", "l4.sport", "l4.dport",
    "tcp.seq", "tcp.ack", "tcp.flags", "tcp.window",
)  # fmt: skip

# Addresses and ports of the networks set aside for measuring (RFC 2544 C.2.2, RFC 5180 8).
_DEFAULTS: dict[str, int] = {
    "eth.dst": 0x020000000002, "eth.src": 0x020000000001,
    "svlan.type": 0x88A8, "vlan.type": 0x8100,
    "ip4.src": 0xC6120001, "ip4.dst": 0xC6130001, "ip4.ttl": 64, "ip4.df": 1,
    "ip6.src": 0x2001_0002_0000_0001 << 64 | 1, "ip6.dst": 0x2001_0002_0000_0002 << 64 | 1,
    "ip6.ttl": 64, "l4.sport": 49152, "l4.dport": 9, "tcp.flags": 0x18, "tcp.window": 0xFFFF,
}  # fmt: skip


def fields_of(texts: Mapping[str, object] | list[str] | tuple[str, ...]) -> dict[str, object]:
    """Fields as a mapping, out of one or out of texts ``"ip.dst=10.0.0.0/24"``."""
    if isinstance(texts, Mapping):
        return dict(texts)
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name in found:
            raise ConfigError("inner", text, "FIELD=VALUES, each field once")
        found[name] = value
    return found


@dataclass(frozen=True)
class Headers:
    """Checked fields, and where the layers lie.

    ``values``: the numbers of each field, by its name in this module; ``order``: those
    that change, as given, with ``"ip.proto"`` where that does.  ``at``: offset of each
    layer.  ``protocols``: of the frames, one or more; none of frames without IP.
    """

    values: dict[str, Values]
    order: tuple[str, ...]
    at: dict[str, int]
    family: int
    protocols: tuple[int, ...]

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Headers:
        """Read fields; raises ConfigError that names the one that is wrong."""
        for name in given:
            if name not in FIELDS:
                raise ConfigError("inner", name, "one of " + ", ".join(FIELDS))
        family = _family(given)
        values: dict[str, Values] = {}
        order = []
        for name, value in given.items():
            if name == "ip.version":
                continue
            known = _known(name, family)
            if known in values:
                raise ConfigError("inner", name, "each field once")
            values[known] = _values(name, known, value, family)
            if values[known].count > 1:
                order.append(known)
        protocols = _protocols(given, values, family)
        at = {"eth": 0, "type": 12}
        for tag in ("svlan", "vlan"):
            if any(name.startswith(f"{tag}.") for name in given):
                at[tag] = at["type"]
                at["type"] += 4
        at["ip"] = at["type"] + 2
        at["l4"] = at["ip"] + {0: 0, 4: 20, 6: 40}[family]
        return cls(values, tuple(order), at, family, protocols)

    @property
    def l4(self) -> dict[int, int]:
        """Where the payload begins, by protocol; by 0 where there is no IP."""
        return {p: self.at["l4"] + _L4.get(p, 0) for p in self.protocols or (0,)}

    def parts(self, name: str) -> tuple[Part, ...]:
        """Where this field goes."""
        return _PARTS[name][1]

    def first(self, protocol: int) -> bytes:
        """The headers of the first frame, without lengths and checksums."""
        made = bytearray(self.l4[protocol])
        if self.family:
            at = self.at["ip"]
            made[at] = 0x45 if self.family == 4 else 0x60
            self.put(made, "eth.type", _TYPES[self.family])
            self.put(made, f"ip{self.family}.proto", protocol)
        if protocol == TCP:
            made[self.at["l4"] + 12] = 0x50
        defaults = {name: n for name, n in _DEFAULTS.items() if name not in self.values}
        first = {name: values[0] for name, values in self.values.items()}
        for name, number in {**defaults, **first}.items():
            layer, _, _ = name.partition(".")
            if layer in self.at or (
                layer == f"ip{self.family}" and name != f"ip{self.family}.proto"
            ):
                if layer != "l4" or protocol in _L4:
                    self.put(made, name, number)
            elif layer == "tcp" and protocol == TCP:
                self.put(made, name, number)
        return bytes(made)

    def put(self, made: bytearray, name: str, number: int) -> None:
        """Write one field into a frame's headers."""
        for part in self.parts(name):
            at = self.at[part.layer] + part.offset
            bits = min(part.bits, 8 * part.size)
            mask = (2**bits - 1) << part.shift
            word = int.from_bytes(made[at : at + part.size], "big") & ~mask
            word |= (number >> part.source << part.shift) & mask
            made[at : at + part.size] = word.to_bytes(part.size, "big")


def _known(name: str, family: int) -> str:
    """A user's name as this module's: ``ip.src`` is ``ip4.src``, ``udp.sport`` ``l4.sport``."""
    layer, _, rest = name.partition(".")
    if layer == "ip":
        known = f"ip{family}.{rest}"
        if known not in _PARTS:
            raise ConfigError("inner", name, f"a field that IPv{family} has")
        return known
    return f"l4.{rest}" if rest in ("sport", "dport") else name


def _family(given: Mapping[str, object]) -> int:
    """4 or 6; 0 for frames without IP."""
    above = [name for name in given if name.partition(".")[0] in ("ip", "udp", "tcp", "l4")]
    if "eth.type" in given:
        if above:
            raise ConfigError("inner", above[0], "no field of IP where eth.type is given")
        return 0
    family = 0
    if "ip.version" in given:
        family = numbers("ip.version", given["ip.version"], 4, 6)[0]
        if family == 5:
            raise ConfigError("ip.version", given["ip.version"], "4 or 6")
    for name in ("ip.src", "ip.dst"):
        if name in given:
            family, _ = addresses(name, given[name], family)
    if not family:
        family = 6 if "ip.flow" in given else 4
    return family


def _values(name: str, known: str, value: object, family: int) -> Values:
    most = _PARTS[known][0]
    if name in ("ip.src", "ip.dst"):
        return addresses(name, value, family)[1]
    if name in ("eth.src", "eth.dst"):
        return macs(name, value)
    return numbers(name, value, 0, most, _PROTOCOLS if name == "ip.proto" else None)


def _protocols(
    given: Mapping[str, object], values: dict[str, Values], family: int
) -> tuple[int, ...]:
    if not family:
        return ()
    wanted = {name.partition(".")[0] for name in given} & {"tcp", "udp", "l4"}
    if {"tcp", "udp"} <= wanted:
        raise ConfigError("inner", "tcp, udp", "fields of one of them; l4.sport is of both")
    proto = values.get(f"ip{family}.proto")
    found = tuple(dict.fromkeys(proto[i] for i in range(proto.count))) if proto else ()
    found = found or ((TCP,) if "tcp" in wanted else (UDP,))
    allowed = {"tcp": {TCP}, "udp": {UDP}, "l4": {TCP, UDP}}
    for layer in wanted:
        if not set(found) <= allowed[layer]:
            named = ", ".join(name for name in _PROTOCOLS if _PROTOCOLS[name] in allowed[layer])
            raise ConfigError("ip.proto", given.get("ip.proto"), f"{named}, as {layer} is given")
    return found
