"""Counters of the switch, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from overlay.errors import Status
    from overlay.io.device import DeviceStats

__all__ = ["NetworkStats", "Traffic", "VtepStats"]


class Traffic(NamedTuple):
    """Frames and their bytes, without tunnel headers; in is towards the switch."""

    in_frames: int = 0
    in_bytes: int = 0
    out_frames: int = 0
    out_bytes: int = 0

    def plus(self, other: Traffic) -> Traffic:
        """The sum, field by field."""
        return Traffic(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class NetworkStats:
    """What passed one network.

    ``ports`` and ``tunnels`` are its two sides, ``copies`` the frames that
    flooding made, ``answers`` those made here (ARP, ND, ICMP), ``drops`` the
    frames that went nowhere by reason, ``macs`` the entries of its FDB now.
    """

    ports: Traffic = field(default_factory=Traffic)
    tunnels: Traffic = field(default_factory=Traffic)
    copies: int = 0
    answers: int = 0
    drops: dict[Status, int] = field(default_factory=dict)
    macs: int = 0

    @property
    def missing(self) -> int:
        """Frames that came in or were made, less those that went out or were
        dropped: 0 when no frame is under way."""
        came = self.ports.in_frames + self.tunnels.in_frames + self.copies + self.answers
        went = self.ports.out_frames + self.tunnels.out_frames + sum(self.drops.values())
        return came - went

    def plus(self, other: NetworkStats) -> NetworkStats:
        """The sum, field by field."""
        drops = dict(self.drops)
        for status, count in other.drops.items():
            drops[status] = drops.get(status, 0) + count
        return NetworkStats(
            self.ports.plus(other.ports),
            self.tunnels.plus(other.tunnels),
            self.copies + other.copies,
            self.answers + other.answers,
            drops,
            self.macs + other.macs,
        )


@dataclass(frozen=True)
class VtepStats:
    """What passed a VTEP.

    ``total`` sums all networks, those that were removed, and what belonged to
    none; ``unknown`` is the last alone.  ``fdb``, ``neighbors``, ``reassembly``
    and ``fragments`` are counters by name, ``devices`` those of the underlay.
    """

    total: NetworkStats
    unknown: NetworkStats
    networks: int
    fdb: dict[str, int]
    neighbors: dict[str, int]
    reassembly: dict[str, int]
    fragments: dict[str, int]
    devices: dict[str, DeviceStats]
    events_lost: int
