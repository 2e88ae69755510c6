"""Tunnels and profiles: any valid value of every field, defaults half of the time.

What must not live here: bytes.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

import overlay
from overlay.errors import ConfigError
from overlay.profile import Profile
from overlay.tunnel import PROTOCOLS, Tunnel

from .frame import addresses, macs, u8, u16, u32

__all__ = ["geneve_options", "profiles", "tunnels"]

_u64 = st.integers(0, 2**64 - 1)
_vni = st.integers(0, 0xFFFFFF)
_ports = st.tuples(u16, u16).map(lambda pair: (min(pair), max(pair)))
_payload = st.sampled_from(["ethernet", "ip"])

#: The fields that every tunnel has, each left out half of the time.
_SHARED: dict[str, SearchStrategy[Any]] = {
    "local_mac": macs.map(lambda raw: raw.hex(":")),
    "remote_mac": macs.map(lambda raw: raw.hex(":")),
    "ttl": u8,
    "dscp": st.integers(0, 63) | st.just("inherit"),
    "ecn": st.sampled_from(["rfc6040", "compat", "zero"]),
    "df": st.booleans(),
    "ip_id": u16,
    "flow_label": st.integers(0, 0xFFFFF),
    "source_port": u16 | _ports,
    "inner_vlan": st.sampled_from(["keep", "strip", "reject"]),
    "seed": _u64,
}


def geneve_options(*, max_bytes: int = 252) -> SearchStrategy[tuple[Any, ...]]:
    """Tuples of :class:`overlay.GeneveOption`, critical ones too, that fit one header.

    :param max_bytes: of all of them together, their headers included.
    """
    if not 0 <= max_bytes <= 252:
        raise ConfigError("max_bytes", max_bytes, "0 to 252")
    data = st.integers(0, 31).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
    known = st.sampled_from([0x0102, 0x0108])  # OVN's and AWS's
    option = st.builds(overlay.GeneveOption, u16 | known, u8 | st.sampled_from([1, 0x80]), data)

    def fitting(options: list[Any]) -> tuple[Any, ...]:
        kept, left = [], max_bytes
        for one in options:
            left -= 4 + len(one.data)
            if left < 0:
                break
            kept.append(one)
        return tuple(kept)

    return st.lists(option, max_size=6).map(fitting)


_of_udp: dict[str, SearchStrategy[Any]] = {"port": u16, "checksum": st.booleans()}


Chosen = dict[str, Any]  # the fields that the caller has chosen, which others depend on


def _vxlan(draw: DrawFn, chosen: Chosen) -> dict[str, Any]:
    fields: dict[str, Any] = draw(st.fixed_dictionaries({"vni": _vni}, optional=_of_udp))
    if chosen["gbp"] is not None if "gbp" in chosen else draw(st.booleans()):
        flags = {"gbp_dont_learn": st.booleans(), "gbp_applied": st.booleans()}
        fields |= draw(st.fixed_dictionaries({"gbp": u16, **flags}))
    return fields


def _nvgre(draw: DrawFn, _: Chosen) -> dict[str, Any]:
    wanted = {"vsid": _vni, "allow_reserved_vsid": st.just(True)}
    return draw(st.fixed_dictionaries(wanted, optional={"flow_id": u8}))


def _stt(draw: DrawFn, chosen: Chosen) -> dict[str, Any]:
    wanted: dict[str, SearchStrategy[Any]] = {"context_id": _u64}
    fields: dict[str, Any] = draw(st.fixed_dictionaries(wanted, optional={"frame_id": u32}))
    checksums = st.sampled_from(["unknown", "verified", "partial"])
    fields["inner_checksum"] = chosen.get("inner_checksum") or draw(checksums)
    if fields["inner_checksum"] == "partial":
        fields["mss"] = draw(st.just(0) | st.integers(1, 1500) | u16)
    return fields


def _geneve(draw: DrawFn, _: Chosen) -> dict[str, Any]:
    optional = {**_of_udp, "options": geneve_options(), "oam": st.booleans(), "payload": _payload}
    return draw(st.fixed_dictionaries({"vni": _vni}, optional=optional))


def _gpe(draw: DrawFn, _: Chosen) -> dict[str, Any]:
    return draw(st.fixed_dictionaries({"vni": _vni}, optional={**_of_udp, "payload": _payload}))


def _gre(draw: DrawFn, _: Chosen) -> dict[str, Any]:
    optional = {"key": u32, "checksum": st.booleans(), "sequence": u32, "payload": _payload}
    return draw(st.fixed_dictionaries({}, optional=optional))


def _erspan(draw: DrawFn, chosen: Chosen) -> dict[str, Any]:
    kind = chosen.get("type") or draw(st.sampled_from([2, 1, 3]))
    if kind == 1:
        return {"type": 1}
    optional: dict[str, SearchStrategy[Any]] = {
        "vlan": st.integers(0, 4095), "cos": st.integers(0, 7), "sequence": u32,
        "encapsulation": st.integers(0, 3), "truncated": st.booleans(),
    }  # fmt: skip
    if kind == 2:
        optional["index"] = st.integers(0, 0xFFFFF)
    else:
        optional |= {
            "timestamp": u32, "security_group": u16, "hardware": st.integers(0, 63),
            "direction": st.sampled_from(["ingress", "egress"]),
            "granularity": st.integers(0, 3),
        }  # fmt: skip
    wanted = {"type": st.just(kind), "session_id": st.integers(0, 1023)}
    return draw(st.fixed_dictionaries(wanted, optional=optional))


_OWN: dict[str, Callable[[DrawFn, Chosen], dict[str, Any]]] = {
    "vxlan": _vxlan, "nvgre": _nvgre, "stt": _stt, "geneve": _geneve, "vxlan-gpe": _gpe,
    "gre": _gre, "erspan": _erspan,
}  # fmt: skip


def tunnels(
    protocols: Iterable[str | type[Tunnel]] | None = None,
    *,
    versions: Iterable[int] = (4, 6),
    **fields: Any,
) -> SearchStrategy[Any]:
    """Tunnels of any protocol, with any values in their fields.

    Shrinks to the first protocol, key 0 and defaults.

    :param protocols: names (``"vxlan"``) or classes; all there are if None.
    :param versions: of the outer IP, 4 and 6.
    :param fields: what a field is, or a strategy for it, for all of the tunnels:
        ``tunnels(["vxlan"], vni=st.integers(1, 100), ttl=64)``.
    """
    names = list(PROTOCOLS) if protocols is None else list(protocols)
    classes = []
    for name in names:
        cls = PROTOCOLS.get(name) if isinstance(name, str) else name
        if cls is None or cls.name not in _OWN:
            raise ConfigError("protocols", name, f"some of {', '.join(PROTOCOLS)}")
        classes.append(cls)
        known = {field.name for field in dataclasses.fields(cls)}
        for field in fields:
            if field not in known:
                raise ConfigError("fields", field, f"a field of {cls.__name__}")
    if not classes:
        raise ConfigError("protocols", protocols, f"some of {', '.join(PROTOCOLS)}")
    return _tunnels(classes, tuple(versions), fields)


@st.composite
def _tunnels(
    draw: DrawFn, classes: list[type[Tunnel]], versions: tuple[int, ...], fixed: dict[str, Any]
) -> Tunnel:
    cls = draw(st.sampled_from(classes))
    ends = addresses(draw(st.sampled_from(versions))).map(_text)
    wanted: dict[str, SearchStrategy[Any]] = {"local": ends, "remote": ends}
    fields: dict[str, Any] = draw(st.fixed_dictionaries(wanted, optional=_SHARED))
    chosen = {
        name: draw(value) if isinstance(value, SearchStrategy) else value
        for name, value in fixed.items()
    }
    tag = {"outer_vlan": st.integers(0, 4095)}
    more = {"outer_pcp": st.integers(0, 7), "outer_dei": st.booleans()}
    if chosen["outer_vlan"] is not None if "outer_vlan" in chosen else draw(st.booleans()):
        fields |= draw(st.fixed_dictionaries(tag, optional=more))
    fields |= _OWN[cls.name](draw, chosen)
    made: Tunnel = cls(**{**fields, **chosen})
    return made


def _text(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def profiles(*bases: str) -> SearchStrategy[Profile]:
    """Profiles: any of ``"rfc"``, ``"strict"`` and ``"lenient"``, with any options."""
    pairs = (("2001:db8:2::2", "2001:db8:1::1"), ("2001:db8:1::1", "2001:db8:2::2"))
    optional: dict[str, SearchStrategy[Any]] = {
        "gbp": st.booleans(),
        "inner_vlan": st.sampled_from(["keep", "strip", "reject"]),
        "ecn": st.sampled_from(["rfc6040", "ignore"]),
        "dscp": st.sampled_from(["pipe", "uniform"]),
        "verify_checksums": st.booleans(),
        "zero_checksum6": st.booleans() | st.just(pairs),
        "reserved_vsid": st.sampled_from(["accept", "drop"]),
        "partial": st.booleans(),
        "payload": st.sampled_from(["ethernet", "any"]),
        "protocols": st.sets(st.sampled_from(list(PROTOCOLS)), min_size=1).map(tuple),
        "options": st.sampled_from([(), ((0x0102, 0x80), (0xFFFF, 0x80))]),
        "vxlan_port": st.sampled_from([4789, 4790, 6081]),
    }
    base = st.sampled_from(bases or ("rfc", "strict", "lenient"))
    options = st.fixed_dictionaries({}, optional=optional)
    return st.builds(lambda name, chosen: Profile.of(name, **chosen), base, options)
