"""Tunnels and profiles as the C core's structs, both ways.

What lives here: the layout of ``struct ov_config`` and ``struct ov_policy``
(``csrc/overlay.h``) as numpy records, checked against C by a test.  The
compiled backends share it; the reference never sees it.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .address import mac_bytes
from .profile import Profile
from .tunnel import ENTROPY_PORTS, NVGRE, PROTOCOLS, STT, VXLAN, Tunnel

__all__ = ["CONFIG", "POLICY", "Policy", "tunnel_of", "tunnel_record"]

Record = npt.NDArray[Any]

CONFIG = np.dtype(
    [
        ("key", np.uint64),
        ("seed", np.uint64),
        ("local", np.uint8, 16),
        ("remote", np.uint8, 16),
        ("local_mac", np.uint8, 6),
        ("remote_mac", np.uint8, 6),
        ("outer_tci", np.int32),
        ("ip_id", np.int32),
        ("flow_label", np.int32),
        ("dscp", np.int32),
        ("gbp", np.int32),
        ("flow_id", np.int32),
        ("frame_id", np.int64),
        ("port_low", np.uint16),
        ("port_high", np.uint16),
        ("port", np.uint16),
        ("mss", np.uint16),
        ("protocol", np.uint8),
        ("family", np.uint8),
        ("ttl", np.uint8),
        ("df", np.uint8),
        ("ecn_copy", np.uint8),
        ("inner_vlan", np.uint8),
        ("checksum", np.uint8),
        ("gbp_flags", np.uint8),
        ("inner_checksum", np.uint8),
        ("zero", np.uint8, 7),
    ],
    align=True,
)

POLICY = np.dtype(
    [
        ("keys", np.uint64),
        ("key_count", np.uint64),
        ("pairs", np.uint64),
        ("pair_count", np.uint64),
        ("protocols", np.uint32),
        ("vxlan_port", np.uint16),
        ("base", np.uint8),
        ("gbp", np.uint8),
        ("inner_vlan", np.uint8),
        ("ecn", np.uint8),
        ("uniform", np.uint8),
        ("verify", np.uint8),
        ("zero6", np.uint8),
        ("drop_reserved_vsid", np.uint8),
        ("zero", np.uint8, 2),
    ],
    align=True,
)

_INNER_VLAN = ("keep", "strip", "reject")
_BASES = ("rfc", "strict", "lenient")
_INNER_CHECKSUM: tuple[Literal["unknown", "verified", "partial"], ...] = (
    "unknown",
    "verified",
    "partial",
)
_DONT_LEARN, _APPLIED = 0x40, 0x08


def _or(value: int | None) -> int:
    return -1 if value is None else value


def _address(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(ipaddress.ip_address(text).packed.ljust(16, b"\0"), np.uint8)


def tunnel_record(tunnel: Tunnel) -> Record:
    """``struct ov_config`` of a tunnel: shape (1,), dtype :data:`CONFIG`."""
    record = np.zeros(1, CONFIG)
    r = record[0]
    port = tunnel.source_port
    low, high = ENTROPY_PORTS if port is None else (port, port) if isinstance(port, int) else port
    tci = tunnel.outer_pcp << 13 | tunnel.outer_dei << 12 | (tunnel.outer_vlan or 0)
    values: dict[str, Any] = {
        "key": tunnel.key,
        "seed": tunnel.seed,
        "local": _address(tunnel.local),
        "remote": _address(tunnel.remote),
        "local_mac": np.frombuffer(mac_bytes(tunnel.local_mac), np.uint8),
        "remote_mac": np.frombuffer(mac_bytes(tunnel.remote_mac), np.uint8),
        "outer_tci": -1 if tunnel.outer_vlan is None else tci,
        "ip_id": _or(tunnel.ip_id),
        "flow_label": _or(tunnel.flow_label),
        "dscp": -1 if tunnel.dscp == "inherit" else tunnel.dscp,
        "gbp": -1,
        "flow_id": -1,
        "frame_id": -1,
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
    for name, value in values.items():
        r[name] = value
    return record


def tunnel_of(record: Record) -> Tunnel:
    """The tunnel that a ``struct ov_config`` describes."""
    r = record[0]
    size = 4 if r["family"] == 4 else 16
    tci = int(r["outer_tci"])

    def maybe(name: str) -> int | None:
        return None if r[name] < 0 else int(r[name])

    values: dict[str, Any] = {
        "local": r["local"][:size].tobytes(),
        "remote": r["remote"][:size].tobytes(),
        "local_mac": r["local_mac"].tobytes(),
        "remote_mac": r["remote_mac"].tobytes(),
        "ttl": int(r["ttl"]),
        "dscp": int(r["dscp"]),
        "ecn": "rfc6040" if r["ecn_copy"] else "zero",
        "df": bool(r["df"]),
        "ip_id": maybe("ip_id"),
        "flow_label": maybe("flow_label"),
    }
    if tci >= 0:
        values |= {
            "outer_vlan": tci & 0xFFF,
            "outer_dei": bool(tci & 0x1000),
            "outer_pcp": tci >> 13,
        }
    kind = next(cls for cls in PROTOCOLS.values() if cls.number == r["protocol"])
    key = int(r["key"])
    if kind is VXLAN:
        flags = int(r["gbp_flags"])
        return VXLAN(
            vni=key,
            port=int(r["port"]),
            source_port=int(r["port_low"]),
            checksum=bool(r["checksum"]),
            gbp=maybe("gbp"),
            gbp_dont_learn=bool(flags & _DONT_LEARN),
            gbp_applied=bool(flags & _APPLIED),
            **values,
        )
    if kind is NVGRE:
        reserved = key < 0x1000 or key == 0xFFFFFF
        return NVGRE(vsid=key, flow_id=maybe("flow_id"), allow_reserved_vsid=reserved, **values)
    return STT(
        context_id=key,
        source_port=int(r["port_low"]),
        inner_checksum=_INNER_CHECKSUM[int(r["inner_checksum"])],
        mss=int(r["mss"]),
        frame_id=maybe("frame_id"),
        **values,
    )


class Policy:
    """``struct ov_policy`` of a profile, with the arrays that it points to."""

    __slots__ = ("_keys", "_pairs", "record")

    def __init__(self, profile: Profile) -> None:
        self._keys = np.array(sorted(profile.keys or ()), np.uint64)
        zero6 = profile.zero_checksum6
        pairs = () if isinstance(zero6, bool) else zero6
        self._pairs = np.concatenate(
            [_address(a) for pair in pairs for a in pair] or [np.zeros(0, np.uint8)]
        )
        #: Shape (1,), dtype :data:`POLICY`.
        self.record: Record = np.zeros(1, POLICY)
        values = {
            # An empty set of keys knows no key; None knows them all.
            "keys": 0 if profile.keys is None else self._keys.ctypes.data,
            "key_count": self._keys.size,
            "pairs": self._pairs.ctypes.data,
            "pair_count": len(pairs),
            "protocols": sum(1 << PROTOCOLS[name].number for name in profile.protocols),
            "vxlan_port": profile.vxlan_port,
            "base": _BASES.index(profile.base),
            "gbp": profile.gbp,
            "inner_vlan": _INNER_VLAN.index(profile.inner_vlan),
            "ecn": profile.ecn == "rfc6040",
            "uniform": profile.dscp == "uniform",
            "verify": profile.verify_checksums,
            "zero6": int(zero6) if isinstance(zero6, bool) else 2,
            "drop_reserved_vsid": profile.reserved_vsid == "drop",
        }
        for name, value in values.items():
            self.record[0][name] = value
