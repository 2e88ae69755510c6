"""Check: native against reference on one frame or packet of the caller's own.

Lives here: the comparison.  Must not: any opinion about which twin is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .codec import Buffer, Codec, Decapsulated, byte_view
from .errors import DecapError, EncapError, Status
from .layout import Field, fields, frame_fields, name_at
from .profile import Profile
from .tunnel import Tunnel

__all__ = ["Difference", "check"]


@dataclass(frozen=True)
class Difference:
    """Where the twins part.

    ``offset``: of the first byte that differs, or None where it is no byte.
    ``field``: its name, such as ``"outer.ipv4.checksum"``; or ``"status"``,
    ``"key"``, ``"protocol"``, ``"mss"``, ``"wire_length"``, ``"packets"``.
    ``native``, ``reference``: the two values; None for a byte that is not there.
    """

    offset: int | None
    field: str
    native: object
    reference: object

    def __str__(self) -> str:
        place = self.field if self.offset is None else f"{self.field} (byte {self.offset})"
        return f"{place}: native {_shown(self.native)}, reference {_shown(self.reference)}"


def _shown(value: object) -> str:
    if isinstance(value, Status):
        return value.name
    if isinstance(value, int):
        return f"{value:#x}"
    return "nothing" if value is None else str(value)


def check(
    data: Buffer, tunnel: Tunnel | None = None, profile: str | Profile = "rfc", **options: Any
) -> Difference | None:
    """Run native and reference on the same bytes; None where they agree.

    With ``tunnel``, ``data`` is a frame and both encapsulate it with the same
    counters; ``mtu=`` asks for the packets of an underlay of that MTU.
    Without, ``data`` is a packet and both decapsulate it; ``link=``,
    ``wire_length=`` and the profile's fields are as for :func:`overlay.decap`.

    :raises BackendError: there is no native backend here.
    """
    from ._backend import load  # at call time: the backends stand above

    native, reference = load("native"), load("reference")
    view = byte_view(data, "data")
    if tunnel is not None:
        return _check_encap(native, reference, view, tunnel, **options)
    profile = Profile.of(profile, **_profile_options(options))
    return _check_decap(native, reference, view, profile, **options)


def _profile_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take the profile's fields out of ``options``."""
    names = [name for name in options if name not in ("link", "wire_length")]
    return {name: options.pop(name) for name in names}


def _check_encap(
    native: Codec,
    reference: Codec,
    frame: memoryview,
    tunnel: Tunnel,
    *,
    mtu: int = 0,
    sequence: int = 0x1234567,
) -> Difference | None:
    def run(codec: Codec) -> list[bytes] | Status:
        try:
            if mtu:
                return codec.packets(tunnel, frame, mtu, sequence=sequence)
            return [codec.encap(tunnel, frame, sequence=sequence)]
        except EncapError as error:
            return error.status

    one, two = run(native), run(reference)
    if isinstance(one, Status) or isinstance(two, Status):
        return _difference("status", _status(one), _status(two))
    for ours, theirs in zip(one, two, strict=False):
        if found := _first_byte(ours, theirs, fields(theirs, by=tunnel)):
            return found
    return _difference("packets", len(one), len(two))


def _check_decap(
    native: Codec, reference: Codec, packet: memoryview, profile: Profile, **options: Any
) -> Difference | None:
    def run(codec: Codec) -> Decapsulated | Status:
        try:
            return codec.decap(packet, profile, **options)
        except DecapError as error:
            return error.status

    one, two = run(native), run(reference)
    if isinstance(one, Status) or isinstance(two, Status):
        return _difference("status", _status(one), _status(two))
    for name in ("key", "protocol", "link", "mss", "wire_length"):
        if found := _difference(name, getattr(one, name), getattr(two, name)):
            return found
    outer = fields(packet, link=options.get("link", 0), by=profile)
    return _first_byte(one.header, two.header, outer) or _first_byte(
        one.frame, two.frame, frame_fields(two.frame)
    )


def _status(result: object) -> Status:
    return result if isinstance(result, Status) else Status.OK


def _difference(name: str, native: object, reference: object) -> Difference | None:
    return None if native == reference else Difference(None, name, native, reference)


def _first_byte(native: bytes, reference: bytes, names: list[Field]) -> Difference | None:
    if native == reference:
        return None
    shorter = min(len(native), len(reference))
    pairs = zip(native, reference, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
    values = [data[at] if at < len(data) else None for data in (native, reference)]
    return Difference(at, name_at(names, at), values[0], values[1])
