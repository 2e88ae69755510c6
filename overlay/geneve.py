"""GENEVE options: values to build tunnels with, and to read those of packets.

Lives here: the public names.  Must not: any of their code, which is in
:mod:`overlay.tunnel`.
"""

from __future__ import annotations

from .tunnel.option import (
    MAX_OPTIONS,
    OPTIONS,
    GeneveOption,
    GwlbAttachment,
    GwlbEndpoint,
    GwlbFlow,
    OvnPorts,
    parse_options,
)

__all__ = [
    "MAX_OPTIONS",
    "OPTIONS",
    "GeneveOption",
    "GwlbAttachment",
    "GwlbEndpoint",
    "GwlbFlow",
    "OvnPorts",
    "parse_options",
]
