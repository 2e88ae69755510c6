"""Device: the interface, TAP or UDP socket that a command was given, opened and closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from overlay import ConfigError

if TYPE_CHECKING:
    from overlay.io.device import Device

__all__ = ["opened"]


@contextmanager
def opened(
    *, interface: str | None = None, tap: str | None = None, udp: tuple[str, int] | None = None
) -> Iterator[Device]:
    """The one that is given: ``udp`` is the address and the port to receive at."""
    try:
        device = _open(interface, tap, udp)
    except ConfigError as error:
        said = f"--{error.field} {error.value}: expected {error.expected}"
        raise click.UsageError(said) from None
    with device:
        yield device


def _open(interface: str | None, tap: str | None, udp: tuple[str, int] | None) -> Device:
    if tap is not None:
        from overlay.io.tap import Tap

        return Tap(tap, offload=False)
    if udp is not None:
        from overlay.io.udp import Udp

        return Udp(*udp)
    from overlay.io.packet import Packet

    return Packet(interface or "")
