"""Layer: what is said of the outer headers that decap takes off a packet, in one line."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from overlay import PROTOCOLS, Fact
from overlay.columns import Columns

__all__ = ["Layers", "layer_of", "texts"]

#: One record a packet; a protocol of 0 where nothing was taken off.
RECORD = np.dtype(
    [
        ("protocol", "u1"), ("family", "u1"), ("ttl", "u1"), ("tos", "u1"), ("key", "u8"),
        ("source_port", "u2"), ("destination_port", "u2"), ("outer_tci", "u2"),
        ("tagged", "?"), ("ports", "?"),
        ("source", "u1", 16), ("destination", "u1", 16),
    ]
)  # fmt: skip

Layers = list[npt.NDArray[Any]]

_KINDS = {kind.number: kind for kind in PROTOCOLS.values()}
_PORTS = (6, 17)


def layer_of(columns: Columns) -> npt.NDArray[Any]:
    """The records of these packets, before they are opened: without protocol and key."""
    made = np.zeros(len(columns), RECORD)
    for name in RECORD.names or ():
        if name in columns.names and name not in ("protocol", "key"):
            made[name] = getattr(columns, name)
    made["tagged"] = columns.flags & Fact.TAGGED != 0
    made["ports"] = np.isin(columns.ip_protocol, _PORTS)
    return made


def texts(layers: Layers, row: int) -> tuple[str, ...]:
    """What is said of a packet: a line for each layer, the outermost first."""
    return tuple(text for layer in layers if (text := _text(layer[row].tobytes())) is not None)


@lru_cache(maxsize=65536)
def _text(record: bytes) -> str | None:
    r = np.frombuffer(record, RECORD)[0]
    kind = _KINDS.get(int(r["protocol"]))
    if kind is None:
        return None
    key = int(r["key"])
    none = getattr(kind, "NO_KEY", None)
    words = [kind.name, f"{kind.key_field}={'none' if key == none else key}"]
    if r["family"]:
        words += [f"{_end(r, 'source')} > {_end(r, 'destination')}"]
        words += [f"ttl={r['ttl']}", f"dscp={r['tos'] >> 2}"]
        if r["tos"] & 3:
            words.append(f"ecn={r['tos'] & 3}")
        if r["tagged"]:
            words.append(f"vlan={r['outer_tci'] & 0x0FFF}")
    return " ".join(words)


def _end(record: Any, side: str) -> str:
    """An address, with its port where there is one."""
    v4 = record["family"] == 4
    address = str(ipaddress.ip_address(record[side][: 4 if v4 else 16].tobytes()))
    if not record["ports"]:
        return address
    return f"{address if v4 else f'[{address}]'}:{record[f'{side}_port']}"
