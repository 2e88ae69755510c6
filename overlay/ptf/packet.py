"""Packet: headers by their fields, one upon another, to bytes and back.

Lives here: what every header does; the little that a PTF test asks of a packet.  Must
not: any header; those are the neighbour's.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from overlay.address import mac_address
from overlay.codec import byte_view
from overlay.errors import ConfigError

__all__ = ["Field", "Packet", "Raw", "bind", "hexdump", "ls"]


def _always(_: Packet) -> bool:
    return True


@dataclass(frozen=True)
class Field:
    """``size`` bits of a header, filled from ``default`` unless given.

    ``default`` None is worked out when the bytes are made.  ``kind`` is
    ``"int"``, ``"mac"``, ``"ip"`` (of either version), or the letters of a flag field,
    the lowest bit first.  ``when`` says whether the field is there at all.
    """

    name: str
    size: int
    default: Any = 0
    kind: str = "int"
    when: Callable[[Packet], bool] = _always

    def number(self, value: Any) -> int:
        """The value as the bits that it is."""
        try:
            if value is None:
                number = 0
            elif self.kind == "mac" and isinstance(value, str):
                number = int(mac_address(self.name, value).replace(":", ""), 16)
            elif self.kind == "ip" and not isinstance(value, int):
                number = int(ipaddress.ip_address(value))
            elif isinstance(value, str) and self.kind.isupper():
                number = sum(1 << self.kind.index(letter) for letter in set(value))
            elif isinstance(value, (bytes, bytearray)):
                number = int.from_bytes(value, "big")
            else:
                number = int(value)
        except (TypeError, ValueError):
            number = -1
        if not 0 <= number < 1 << self.size:
            raise ConfigError(self.name, value, f"a value of {self.size} bits")
        return number

    def shown(self, number: int) -> Any:
        """Bits as the value that people give."""
        if self.kind == "mac":
            return number.to_bytes(6, "big").hex(":")
        if self.kind == "ip":
            return str(
                (ipaddress.IPv4Address if self.size == 32 else ipaddress.IPv6Address)(number)
            )
        return number


# (lower, upper): what the lower header's fields are where the upper one follows.
_BONDS: list[tuple[type[Packet], type[Packet], dict[str, int]]] = []


def bind(lower: type[Packet], upper: type[Packet], **fields: int) -> None:
    """``upper`` follows ``lower`` where these are its fields, and makes them so."""
    _BONDS.append((lower, upper, fields))


class Packet:
    """A header, and what follows it.

    ``Ether() / IP(dst="192.0.2.2") / UDP()`` puts one upon another; ``bytes()`` makes
    lengths and checksums that were not given; ``Ether(data)`` reads bytes.  Fields are
    attributes; ``packet[IP]`` is a header of it, ``IP in packet`` says whether it is there.

    :param data: bytes to read, of this header and what follows.
    :param values: fields by name.
    :raises ConfigError: a field's value that does not fit it, when it is built.
    """

    name: ClassVar[str] = ""
    fields_desc: ClassVar[tuple[Field, ...]] = ()

    def __init__(self, data: Any = None, /, **values: Any) -> None:
        put = object.__setattr__
        put(self, "fields", {})
        put(self, "payload", None)
        put(self, "tail", b"")
        for name, value in values.items():
            setattr(self, name, value)
        if data is not None:
            self._read(bytes(byte_view(data, "data")))

    fields: dict[str, Any]
    payload: Packet | None
    #: Bytes of the header after its fields: options.
    tail: bytes

    # -- fields ---------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        for field in self.fields_desc:
            if field.name == name:
                return self._value(field)
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("payload", "tail", "options"):
            object.__setattr__(self, "tail" if name == "options" else name, _options(name, value))
        elif any(field.name == name for field in self.fields_desc):
            self.fields[name] = value
        else:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __delattr__(self, name: str) -> None:
        self.fields.pop(name, None)

    def _value(self, field: Field) -> Any:
        """As given, as the header works it out, as what follows has it, or the default."""
        if self.given(field.name):
            return self.fields[field.name]
        derived = self.derive(field.name)
        if derived is not None:
            return derived
        for lower, upper, fields in _BONDS:
            if type(self) is lower and type(self.payload) is upper and field.name in fields:
                return fields[field.name]
        return field.default

    def derive(self, name: str) -> Any:  # noqa: ARG002 - for headers to override
        """What a field is that nobody gave; None for its default."""
        return None

    # -- building ---------------------------------------------------------------

    def __bytes__(self) -> bytes:
        return self.build(None)

    def build(self, below: Packet | None) -> bytes:
        """The bytes of this and what follows, upon ``below``."""
        payload = b"" if self.payload is None else self.payload.build(self)
        bits = size = 0
        for field in self.fields_desc:
            if field.when(self):
                bits = bits << field.size | field.number(self._value(field))
                size += field.size
        header = bytearray(bits.to_bytes(size // 8, "big") + self.tail)
        self.finish(header, payload, below)
        return bytes(header) + payload

    def finish(self, header: bytearray, payload: bytes, below: Packet | None, /) -> None:
        """Write into the header what depends on all of the packet."""

    def given(self, name: str) -> bool:
        """Whether a field's value was given."""
        return self.fields.get(name) is not None

    def __len__(self) -> int:
        return len(bytes(self))

    # -- reading ----------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        at = 0
        for field in self.fields_desc:
            if not field.when(self):
                continue
            first, last = at // 8, (at + field.size + 7) // 8
            if last > len(data):
                raise ConfigError("data", f"<{len(data)} bytes>", f"a whole {self.name} header")
            whole = int.from_bytes(data[first:last], "big")
            number = whole >> (8 * last - at - field.size) & ((1 << field.size) - 1)
            self.fields[field.name] = field.shown(number)
            at += field.size
        size = at // 8
        whole_size = max(size, min(len(data), self.header_size(size)))
        self.tail = data[size:whole_size]
        rest = data[whole_size:]
        if rest:
            self.payload = self._following(rest)

    def header_size(self, fixed: int) -> int:
        """The bytes of the header with its options, by its own word."""
        return fixed

    @classmethod
    def begins(cls, data: bytes, below: Packet, /) -> bool:  # noqa: ARG003 - for headers to override
        """Whether these bytes, where such a header could stand, are one."""
        return True

    def _following(self, rest: bytes) -> Packet:
        for lower, upper, fields in _BONDS:
            here = type(self) is lower and all(getattr(self, n) == v for n, v in fields.items())
            if here and upper.begins(rest, self):
                try:
                    return upper(rest)
                except ConfigError:
                    break  # cut short
        return Raw(load=rest)

    # -- layers -----------------------------------------------------------------

    def __truediv__(self, other: Any) -> Packet:
        whole = self.copy()
        last = whole
        while last.payload is not None:
            last = last.payload
        last.payload = other.copy() if isinstance(other, Packet) else _raw(other)
        return whole

    def __rtruediv__(self, other: Any) -> Packet:
        return _raw(other) / self

    def copy(self) -> Packet:
        """The same, and what follows."""
        other = type(self)()
        other.fields.update(self.fields)
        other.tail = self.tail
        other.payload = None if self.payload is None else self.payload.copy()
        return other

    def __deepcopy__(self, _: Any) -> Packet:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.fields), self.tail, self.payload)

    def layers(self) -> Iterator[Packet]:
        """This header and those that follow."""
        layer: Packet | None = self
        while layer is not None:
            yield layer
            layer = layer.payload

    def getlayer(self, layer: type[Packet] | str, number: int = 1) -> Packet | None:
        """The ``number``-th header of a class, or of its name; None if there is none."""
        for one in self.layers():
            if one.name == layer or type(one) is layer:
                number -= 1
                if number <= 0:
                    return one
        return None

    def haslayer(self, layer: type[Packet] | str) -> bool:
        """Whether there is such a header."""
        return self.getlayer(layer) is not None

    __contains__ = haslayer

    def __getitem__(self, layer: Any) -> Any:
        kind, number = (layer.start, layer.stop) if isinstance(layer, slice) else (layer, 1)
        found = self.getlayer(kind, number)
        if found is None:
            raise IndexError(f"the packet has no {getattr(kind, '__name__', kind)}")
        return found

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Packet):
            return type(self) is type(other) and bytes(self) == bytes(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    # -- for people ----------------------------------------------------------------

    def summary(self) -> str:
        """The names of the headers."""
        return " / ".join(layer.name for layer in self.layers())

    def __repr__(self) -> str:
        return f"<{self.summary()}, {len(self)} bytes>"

    def show(self) -> None:
        """Print every field as it will be built."""
        lines = []
        for layer in type(self)(bytes(self)).layers():
            lines.append(f"###[ {layer.name} ]###")
            lines += [f"  {name:<16}= {value!r}" for name, value in layer.fields.items()]
            if layer.tail:
                name = "load" if isinstance(layer, Raw) else "options"
                lines.append(f"  {name:<16}= {layer.tail!r}")
        sys.stdout.write("\n".join(lines) + "\n")

    show2 = show


class Raw(Packet):
    """Bytes."""

    name = "Raw"

    def __init__(self, data: Any = None, /, load: Any = b"") -> None:
        super().__init__()
        self.tail = bytes(byte_view(load if data is None else data, "load"))

    @property
    def load(self) -> bytes:
        """The bytes."""
        return self.tail


def _raw(value: Any) -> Packet:
    return Raw(load=value.encode("latin-1") if isinstance(value, str) else value)


def _options(name: str, value: Any) -> Any:
    """Options as whole words of bytes; anything else as it is."""
    if name != "options":
        return value
    several = value if isinstance(value, (list, tuple)) else [value or b""]
    data = b"".join(bytes(one) for one in several)
    return data + bytes(-len(data) % 4)


def _rebuild(
    kind: type[Packet], fields: dict[str, Any], tail: bytes, payload: Packet | None
) -> Packet:
    packet = kind()
    packet.fields.update(fields)
    packet.tail, packet.payload = tail, payload
    return packet


def ls(packet: Packet | type[Packet]) -> None:
    """Print the fields of a packet, or those that a header has."""
    if isinstance(packet, Packet):
        packet.show()
        return
    for field in packet.fields_desc:
        sys.stdout.write(f"{field.name:<16}: {field.size} bits, {field.default!r}\n")


def hexdump(packet: Any) -> None:
    """Print bytes, sixteen a line."""
    data = bytes(packet)
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        sys.stdout.write(f"{at:04x}  {row.hex(' '):<47}  {text}\n")
