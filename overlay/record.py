"""Tunnels and profiles as the C core's structs, both ways.

What lives here: the layout of ``struct ov_config`` and ``struct ov_policy``
(``csrc/overlay.h``), which a test checks against C.  The compiled backends
share it; the reference never sees it.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from .address import mac_bytes
from .profile import Profile
from .tunnel import (
    ENTROPY_PORTS,
    ERSPAN,
    GRE,
    NVGRE,
    PROTOCOLS,
    STT,
    VXLAN,
    VXLANGPE,
    Geneve,
    Tunnel,
    parse_options,
)

__all__ = ["CONFIG", "POLICY", "Layout", "Policy", "tunnel_of", "tunnel_record"]


class Layout:
    """A C struct: its fields in order, packed with the compiler's own alignment."""

    def __init__(self, fields: str) -> None:
        pairs = [field.split(":") for field in fields.split()]
        self.names = tuple(name for name, _ in pairs)
        self._struct = struct.Struct("@" + "".join(code for _, code in pairs))
        self._zeros = tuple(b"" if code.endswith("s") else 0 for _, code in pairs)
        self.size = self._struct.size

    def pack(self, **values: Any) -> bytes:
        """The struct with these values, the others zero."""
        return self._struct.pack(*map(values.get, self.names, self._zeros))

    def unpack(self, data: bytes) -> dict[str, Any]:
        """The values by name."""
        return dict(zip(self.names, self._struct.unpack(data), strict=True))


CONFIG = Layout(
    """
    key:Q seed:Q local:16s remote:16s local_mac:6s remote_mac:6s
    outer_tci:i ip_id:i flow_label:i dscp:i gbp:i flow_id:i frame_id:q sequence:q
    port_low:H port_high:H port:H mss:H
    protocol:B family:B ttl:B df:B ecn_copy:B inner_vlan:B checksum:B gbp_flags:B
    inner_checksum:B payload:B oam:B erspan_type:B erspan_cos:B erspan_encapsulation:B
    erspan_truncated:B option_bytes:B erspan_vlan:H erspan_group:H erspan_flags:H zero:H
    erspan_index:I options:252s
    """
)

POLICY = Layout(
    """
    keys:Q key_count:Q pairs:Q pair_count:Q options:Q option_count:Q protocols:I
    vxlan_port:H geneve_port:H gpe_port:H
    base:B gbp:B inner_vlan:B ecn:B uniform:B verify:B zero6:B drop_reserved_vsid:B partial:B
    ip:B zero:4s
    """
)

_INNER_VLAN = ("keep", "strip", "reject")
_BASES = ("rfc", "strict", "lenient")
_INNER_CHECKSUM: tuple[Literal["unknown", "verified", "partial"], ...] = (
    "unknown",
    "verified",
    "partial",
)
_PAYLOADS = ("ethernet", "ip")
_DONT_LEARN, _APPLIED = 0x40, 0x08


def _or(value: int | None) -> int:
    return -1 if value is None else value


@lru_cache(maxsize=4096)
def _address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def tunnel_record(tunnel: Tunnel) -> bytes:
    """``struct ov_config`` of a tunnel."""
    port = tunnel.source_port
    low, high = ENTROPY_PORTS if port is None else (port, port) if isinstance(port, int) else port
    tci = tunnel.outer_pcp << 13 | tunnel.outer_dei << 12 | (tunnel.outer_vlan or 0)
    values: dict[str, Any] = {
        "key": tunnel.key,
        "seed": tunnel.seed,
        "local": _address(tunnel.local),
        "remote": _address(tunnel.remote),
        "local_mac": mac_bytes(tunnel.local_mac),
        "remote_mac": mac_bytes(tunnel.remote_mac),
        "outer_tci": -1 if tunnel.outer_vlan is None else tci,
        "ip_id": _or(tunnel.ip_id),
        "flow_label": _or(tunnel.flow_label),
        "dscp": -1 if tunnel.dscp == "inherit" else tunnel.dscp,
        "gbp": -1,
        "flow_id": -1,
        "frame_id": -1,
        "sequence": -1,
        "port_low": low,
        "port_high": high,
        "protocol": tunnel.number,
        "family": tunnel.family,
        "ttl": tunnel.ttl,
        "df": tunnel.df,
        "ecn_copy": tunnel.ecn == "rfc6040",
        "inner_vlan": _INNER_VLAN.index(tunnel.inner_vlan),
    }
    if isinstance(tunnel, VXLAN):
        flags = tunnel.gbp_dont_learn * _DONT_LEARN | tunnel.gbp_applied * _APPLIED
        values |= {"port": tunnel.port, "checksum": tunnel.checksum}
        values |= {"gbp": _or(tunnel.gbp), "gbp_flags": flags}
    elif isinstance(tunnel, NVGRE):
        values |= {"flow_id": _or(tunnel.flow_id)}
    elif isinstance(tunnel, STT):
        mode = _INNER_CHECKSUM.index(tunnel.inner_checksum)
        values |= {"inner_checksum": mode, "mss": tunnel.mss, "frame_id": _or(tunnel.frame_id)}
        values |= {"checksum": True}
    elif isinstance(tunnel, Geneve):
        options = tunnel.option_bytes
        values |= {"port": tunnel.port, "checksum": tunnel.checksum, "oam": tunnel.oam}
        values |= {"payload": tunnel.payload == "ip"}
        values |= {"options": options, "option_bytes": len(options)}
    elif isinstance(tunnel, VXLANGPE):
        values |= {"port": tunnel.port, "checksum": tunnel.checksum}
        values |= {"payload": tunnel.payload == "ip"}
    elif isinstance(tunnel, GRE):
        values |= {"checksum": tunnel.checksum, "sequence": _or(tunnel.sequence)}
        values |= {"payload": tunnel.payload == "ip"}
    elif isinstance(tunnel, ERSPAN):
        values |= _erspan_values(tunnel)
    return CONFIG.pack(**values)


def _erspan_values(tunnel: ERSPAN) -> dict[str, Any]:
    egress = tunnel.direction == "egress"
    return {
        "sequence": -1 if tunnel.type == 1 else tunnel.sequence,
        "erspan_type": tunnel.type,
        "erspan_cos": tunnel.cos,
        "erspan_encapsulation": tunnel.encapsulation,
        "erspan_truncated": tunnel.truncated,
        "erspan_vlan": tunnel.vlan,
        "erspan_group": tunnel.security_group,
        "erspan_flags": tunnel.hardware << 4 | egress << 3 | tunnel.granularity << 1,
        "erspan_index": tunnel.timestamp if tunnel.type == 3 else tunnel.index,
    }


def tunnel_of(record: bytes) -> Tunnel:
    """The tunnel that a ``struct ov_config`` describes."""
    r = CONFIG.unpack(record)
    size = 4 if r["family"] == 4 else 16
    tci = r["outer_tci"]

    values: dict[str, Any] = {
        "local": r["local"][:size],
        "remote": r["remote"][:size],
        "local_mac": r["local_mac"],
        "remote_mac": r["remote_mac"],
        "ttl": r["ttl"],
        "dscp": r["dscp"],
        "ecn": "rfc6040" if r["ecn_copy"] else "zero",
        "df": bool(r["df"]),
        "ip_id": _maybe(r["ip_id"]),
        "flow_label": _maybe(r["flow_label"]),
    }
    if tci >= 0:
        values |= {
            "outer_vlan": tci & 0xFFF,
            "outer_dei": bool(tci & 0x1000),
            "outer_pcp": tci >> 13,
        }
    kind = next(cls for cls in PROTOCOLS.values() if cls.number == r["protocol"])
    return kind(**values, **_OF_KIND[kind](r))


def _maybe(number: int) -> int | None:
    return None if number < 0 else number


def _vxlan(r: dict[str, Any]) -> dict[str, Any]:
    return {
        "vni": r["key"],
        "port": r["port"],
        "source_port": r["port_low"],
        "checksum": bool(r["checksum"]),
        "gbp": _maybe(r["gbp"]),
        "gbp_dont_learn": bool(r["gbp_flags"] & _DONT_LEARN),
        "gbp_applied": bool(r["gbp_flags"] & _APPLIED),
    }


def _nvgre(r: dict[str, Any]) -> dict[str, Any]:
    reserved = r["key"] < 0x1000 or r["key"] == 0xFFFFFF
    return {"vsid": r["key"], "flow_id": _maybe(r["flow_id"]), "allow_reserved_vsid": reserved}


def _stt(r: dict[str, Any]) -> dict[str, Any]:
    return {
        "context_id": r["key"],
        "source_port": r["port_low"],
        "inner_checksum": _INNER_CHECKSUM[r["inner_checksum"]],
        "mss": r["mss"],
        "frame_id": _maybe(r["frame_id"]),
    }


def _gpe(r: dict[str, Any]) -> dict[str, Any]:
    return {
        "vni": r["key"],
        "port": r["port"],
        "source_port": r["port_low"],
        "checksum": bool(r["checksum"]),
        "payload": _PAYLOADS[r["payload"]],
    }


def _geneve(r: dict[str, Any]) -> dict[str, Any]:
    options = parse_options(r["options"][: r["option_bytes"]])
    return {**_gpe(r), "oam": bool(r["oam"]), "options": options}


def _gre(r: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": r["key"],
        "checksum": bool(r["checksum"]),
        "sequence": _maybe(r["sequence"]),
        "payload": _PAYLOADS[r["payload"]],
    }


def _erspan(r: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"type": r["erspan_type"]}
    if r["erspan_type"] == 1:
        return values
    values |= {
        "session_id": r["key"],
        "sequence": r["sequence"],
        "vlan": r["erspan_vlan"],
        "cos": r["erspan_cos"],
        "encapsulation": r["erspan_encapsulation"],
        "truncated": bool(r["erspan_truncated"]),
    }
    if r["erspan_type"] == 2:
        return {**values, "index": r["erspan_index"]}
    flags = r["erspan_flags"]
    return {
        **values,
        "timestamp": r["erspan_index"],
        "security_group": r["erspan_group"],
        "hardware": flags >> 4 & 63,
        "direction": "egress" if flags & 8 else "ingress",
        "granularity": flags >> 1 & 3,
    }


_OF_KIND: dict[type[Tunnel], Callable[[dict[str, Any]], dict[str, Any]]] = {
    VXLAN: _vxlan,
    NVGRE: _nvgre,
    STT: _stt,
    Geneve: _geneve,
    VXLANGPE: _gpe,
    GRE: _gre,
    ERSPAN: _erspan,
}


class Policy:
    """``struct ov_policy`` of a profile, with the arrays that it points to."""

    __slots__ = ("_keys", "_options", "_pairs", "record")

    def __init__(self, profile: Profile) -> None:
        self._keys = np.array(sorted(profile.keys or ()), np.uint64)
        zero6 = profile.zero_checksum6
        pairs = () if isinstance(zero6, bool) else zero6
        addresses = b"".join(_address(a) for pair in pairs for a in pair)
        self._pairs = np.frombuffer(addresses, np.uint8)
        known = sorted(number << 8 | kind for number, kind in profile.options)
        self._options = np.array(known, np.uint32)
        self.record = POLICY.pack(
            # An empty set of keys knows no key; None knows them all.
            keys=0 if profile.keys is None else self._keys.ctypes.data,
            key_count=self._keys.size,
            pairs=self._pairs.ctypes.data,
            pair_count=len(pairs),
            options=self._options.ctypes.data,
            option_count=self._options.size,
            protocols=sum(1 << PROTOCOLS[name].number for name in profile.protocols),
            vxlan_port=profile.vxlan_port,
            geneve_port=profile.geneve_port,
            gpe_port=profile.gpe_port,
            base=_BASES.index(profile.base),
            gbp=profile.gbp,
            inner_vlan=_INNER_VLAN.index(profile.inner_vlan),
            ecn=profile.ecn == "rfc6040",
            uniform=profile.dscp == "uniform",
            verify=profile.verify_checksums,
            zero6=int(zero6) if isinstance(zero6, bool) else 2,
            drop_reserved_vsid=profile.reserved_vsid == "drop",
            partial=profile.partial,
            ip=profile.payload == "any",
        )
