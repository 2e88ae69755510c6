"""Entropy: fields of a lower layer that follow from the frame above it.

Lives here: what scapy calls overloaded fields, worked out when they are asked
for.  Must not: any layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scapy.packet import Packet

from overlay import flow_hash
from overlay.tunnel import ENTROPY_PORTS

__all__ = ["Derived", "frame_hash", "source_port"]


class Derived(dict[str, Any]):
    """Fields by name; one that is a function is called each time that it is read.

    Never older than the packet: what is read is what the frame is now.
    """

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return value() if callable(value) else value

    def copy(self) -> Derived:
        """The same, functions and all."""
        return Derived(dict.items(self))


def frame_hash(payload: Packet, ethertype: int | None = None) -> int:
    """The flow hash of a payload, an Ethernet frame or, with its EtherType, what is in one."""
    frame = bytes(payload)
    if ethertype is not None:
        frame = bytes(12) + ethertype.to_bytes(2, "big") + frame
    return flow_hash(frame) if len(frame) >= 14 else 0


def source_port(
    payload: Callable[[], Packet], ethertype: Callable[[], int | None] = lambda: None
) -> Callable[[], int]:
    """The source port that an :mod:`overlay` tunnel gives to this frame."""
    low, high = ENTROPY_PORTS

    def ask() -> int:
        value = frame_hash(payload(), ethertype()) & 0xFFFFFFFF
        return low + (value * (high - low + 1) >> 32)

    return ask
