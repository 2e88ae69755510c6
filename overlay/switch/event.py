"""Event: what the switch tells its controller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from overlay.errors import Status

    from .network import Network, Port, Remote

__all__ = ["KINDS", "Event", "Kind"]

Kind = Literal["learned", "moved", "aged", "drop", "remote", "mtu", "error"]
#: By the number that C gives them.
KINDS: tuple[Kind, ...] = ("learned", "moved", "aged", "drop", "remote")


@dataclass(frozen=True)
class Event:
    """One thing that happened; which fields are set depends on ``kind``.

    =======  ==============================================================
    learned  ``mac`` is now at ``where``
    moved    ``mac`` is now at ``where`` and was at ``previous``
    aged     ``mac`` was not heard of for the network's ageing time
    drop     a frame was dropped for this ``status``, in this network the
             first; ``network`` is None where no network is known
    remote   packets come from ``address``, which is no remote of the network
    mtu      the path to ``where`` carries only ``mtu`` bytes of IP
    error    a device failed: ``text``
    =======  ==============================================================

    ``time`` is in seconds of :func:`time.monotonic`.
    """

    kind: Kind
    time: float
    network: Network | None = None
    mac: str | None = None
    where: Port | Remote | None = None
    previous: Port | Remote | None = None
    status: Status | None = None
    address: str | None = None
    tunnel: str | None = None
    mtu: int | None = None
    text: str | None = None
