"""CompiledEditor: the editor over the C core: rules and memory as its structs.

What lives here: the layout of ``struct ov_rule``, ``ov_target`` and ``ov_rewriter``
(``csrc/overlay.h``).  The reference never sees it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import numpy as np

from .address import mac_bytes
from .batch import Batch
from .editor import NOTES, Editor
from .record import Layout
from .rule import Rule, Target
from .tunnel import PROTOCOLS

__all__ = ["NOTE_SIZE", "REWRITER_WORDS", "RULE", "TARGET", "CompiledEditor"]

RULE = Layout(
    """
    key_low:Q key_high:Q new_key:Q key_from:Q key_to:Q key_count:Q
    source:16s source_mask:16s destination:16s destination_mask:16s
    new_source:16s new_source_mask:16s new_destination:16s new_destination_mask:16s
    source_mac:6s destination_mac:6s new_source_mac:6s new_destination_mac:6s
    protocols:I vlan:i dscp:i new_vlan:i new_dscp:i new_ecn:i new_ttl:i
    port_low:H port_high:H port:H
    parts:B source_family:B destination_family:B new_source_family:B new_destination_family:B
    key_mode:B to:B reserved_vsid:B zero:6s
    """
)
TARGET = np.dtype(
    [
        ("key", "u8"), ("local", "V16"), ("remote", "V16"), ("local_mac", "V6"),
        ("remote_mac", "V6"), ("tci", "i4"), ("rule", "u4"), ("dscp", "i4"), ("family", "u1"),
        ("protocol", "u1"), ("ttl", "u1"), ("df", "u1"), ("zero", "V4"),
    ]
)  # fmt: skip
#: struct ov_rewriter, word for word, each 64 bits.
REWRITER_WORDS = (
    "rules rule_count targets target_count generation slots slot_count notes note_count fix follow "
    "action rule target"
).split()
_TARGET_COUNT, _GENERATION = (REWRITER_WORDS.index(w) for w in ("target_count", "generation"))
#: Bytes of struct ov_note.
NOTE_SIZE = 24

_NAMES = {kind.number: name for name, kind in PROTOCOLS.items()}
_MATCH_SOURCE_MAC, _MATCH_DESTINATION_MAC, _SET_SOURCE_MAC, _SET_DESTINATION_MAC = 1, 2, 4, 8
_SET_SOURCE_PORT, _SET_DESTINATION_PORT = 16, 32
_NONE, _ANY = -1, -2
_KEEP, _INHERITED = -1, -2
_WORDS = {"none": _NONE, "inherit": _INHERITED, "rfc6040": _INHERITED}


def _or(value: int | str | None, absent: int) -> int:
    """A number, a word that stands for one, or ``absent``."""
    return absent if value is None else _WORDS[value] if isinstance(value, str) else value


def _addresses(rule: Rule) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in ("source", "destination"):
        for field, field_name in ((name, name), ("set_" + name, "new_" + name)):
            network = rule.network(field)
            if network is not None:
                values[field_name] = network.network_address.packed
                values[field_name + "_mask"] = network.netmask.packed
                values[field_name + "_family"] = network.version
    return values


def _macs_and_ports(rule: Rule) -> dict[str, Any]:
    values: dict[str, Any] = {}
    parts = 0
    for name, field, part in (
        ("source_mac", "source_mac", _MATCH_SOURCE_MAC),
        ("destination_mac", "destination_mac", _MATCH_DESTINATION_MAC),
        ("new_source_mac", "set_source_mac", _SET_SOURCE_MAC),
        ("new_destination_mac", "set_destination_mac", _SET_DESTINATION_MAC),
    ):
        mac = getattr(rule, field)
        if mac is not None:
            values[name] = mac_bytes(mac)
            parts |= part
    port = rule.set_source_port
    if port is not None:
        assert not isinstance(port, str)
        low, high = (port, port) if isinstance(port, int) else port
        values |= {"port_low": low, "port_high": high}
        parts |= _SET_SOURCE_PORT
    if rule.set_destination_port is not None:
        values["port"] = rule.set_destination_port
        parts |= _SET_DESTINATION_PORT
    return {**values, "parts": parts}


class CompiledEditor(Editor):
    """See :class:`overlay.editor.Editor`.

    :param core: the module with the calls into C.
    :param policy: the profile as C reads it.
    """

    def __init__(self, core: Any, rules: Sequence[Rule], policy: Any, *, fix: bool) -> None:
        self._core = core
        self._policy = policy
        self._maps: list[np.ndarray[Any, Any]] = []  # what the rules point at
        packed = b"".join(self._record(rule) for rule in rules)
        self._words = np.zeros(len(REWRITER_WORDS), np.uint64)
        self._rules = np.frombuffer(packed or bytes(RULE.size), np.uint64).copy()
        self._notes = np.zeros(NOTES * NOTE_SIZE // 8, np.uint64)
        super().__init__(rules, fix=fix)

    def _record(self, rule: Rule) -> bytes:
        """``struct ov_rule``."""
        low, high = rule.key if isinstance(rule.key, tuple) else (0, 2**64 - 1)
        values: dict[str, Any] = {"key_low": low, "key_high": high}
        if rule.set_key is not None:
            values |= {"key_mode": 1, "new_key": rule.set_key}
        elif rule.add_key is not None:
            values |= {"key_mode": 2, "new_key": rule.add_key % 2**64}
        elif rule.map_key is not None:
            pairs = sorted(rule.map_key.items())
            old, new = (np.array(column, np.uint64) for column in zip(*pairs, strict=True))
            self._maps += [old, new]
            values |= {"key_mode": 3, "key_count": len(pairs)}
            values |= {"key_from": old.ctypes.data, "key_to": new.ctypes.data}
        return RULE.pack(
            **values,
            **_addresses(rule),
            **_macs_and_ports(rule),
            protocols=sum(1 << PROTOCOLS[name].number for name in rule.protocol or ()),
            vlan=_or(rule.vlan, _ANY),
            dscp=_or(rule.dscp, -1),
            new_vlan=_or(rule.set_vlan, _ANY),
            new_dscp=_or(rule.set_dscp, _KEEP),
            new_ecn=_or(rule.set_ecn, _KEEP),
            new_ttl=_or(rule.set_ttl, _KEEP),
            to=0 if rule.to is None else PROTOCOLS[rule.to].number,
            reserved_vsid=bool(rule.tunnel.get("allow_reserved_vsid")),
        )

    def _reserve(self, rows: int) -> None:
        super()._reserve(rows)
        slots = 1 << (8 * rows).bit_length()
        self._targets = np.zeros(slots // 2, TARGET)
        self._slots = np.zeros(slots, np.uint32)
        words = {
            "rules": self._rules.ctypes.data,
            "rule_count": len(self.rules),
            "targets": self._targets.ctypes.data,
            "generation": self.generation + 1,
            "slots": self._slots.ctypes.data,
            "slot_count": slots,
            "notes": self._notes.ctypes.data,
            "note_count": NOTES,
            "fix": self.fix,
            "follow": any(rule.looks_inside for rule in self.rules),
            "action": self.action.ctypes.data,
            "rule": self.rule.ctypes.data,
            "target": self.target.ctypes.data,
        }
        self._words = np.array([words.get(word, 0) for word in REWRITER_WORDS], np.uint64)

    def _edit(self, batch: Batch) -> int:
        done: int = self._core.rewrite_batch(self._words, self._policy, batch)
        return done

    @property
    def generation(self) -> int:
        return int(self._words[_GENERATION])

    def targets(self, first: int = 0) -> list[Target]:
        count = int(self._words[_TARGET_COUNT])
        return [_target(record) for record in self._targets[first:count]]


def _target(record: Any) -> Target:
    size = 4 if record["family"] == 4 else 16

    def address(name: str) -> str:
        return str(ipaddress.ip_address(record[name].tobytes()[:size]))

    return Target(
        rule=int(record["rule"]),
        protocol=_NAMES[int(record["protocol"])],
        key=int(record["key"]),
        local=address("local"),
        remote=address("remote"),
        local_mac=record["local_mac"].tobytes().hex(":"),
        remote_mac=record["remote_mac"].tobytes().hex(":"),
        tci=None if record["tci"] < 0 else int(record["tci"]),
        dscp=None if record["dscp"] < 0 else int(record["dscp"]),
        ttl=int(record["ttl"]),
        df=bool(record["df"]),
    )
