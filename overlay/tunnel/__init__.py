"""Tunnels: what to add to a frame, as frozen and validated values.

A file a protocol, each the same: the class, its fields, their ranges.  What lives
here: the list of all protocols.  What must not: any byte of a packet.
"""

from __future__ import annotations

from .base import ENTROPY_PORTS, Tunnel, boolean, choice, integer
from .erspan import ERSPAN
from .geneve import Geneve
from .gpe import VXLANGPE
from .gre import GRE, NO_KEY
from .nvgre import NVGRE
from .option import OPTIONS, GeneveOption, parse_options
from .stt import STT
from .vxlan import VXLAN

__all__ = [
    "ENTROPY_PORTS",
    "ERSPAN",
    "GRE",
    "NO_KEY",
    "NVGRE",
    "OPTIONS",
    "PROTOCOLS",
    "STT",
    "VXLAN",
    "VXLANGPE",
    "Geneve",
    "GeneveOption",
    "Tunnel",
    "boolean",
    "choice",
    "integer",
    "parse_options",
]

#: Every protocol's tunnel class by its name, in the order of their numbers.
PROTOCOLS: dict[str, type[Tunnel]] = {
    cls.name: cls for cls in (VXLAN, NVGRE, STT, Geneve, VXLANGPE, GRE, ERSPAN)
}
