"""Rules over the outer headers of tunnel packets: match, then change.

Bytes in, bytes out, each change beside its checksum (RFC 1624); the twin of the
rewriter's editor.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from overlay.address import mac_bytes
from overlay.batch import Batch
from overlay.editor import NO_RULE, NOTES, Editor
from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.rule import Action, Rule, Target

from . import rows
from .checksum import checksum, fold, ones_sum, pseudo_header
from .hash import flow_hash, mix
from .inner import framed, recognise
from .look import FOREIGN, Look, look

__all__ = ["ReferenceEditor"]

_CE = 3
_TARGETS = 1 << 16  # that are numbered at most before a batch
_MASK = 2**64 - 1
_ENDPOINTS = ("source", "destination")

# ---- match -------------------------------------------------------------------


def matches(rule: Rule, seen: Look) -> bool:
    """Whether nothing that is known of a packet speaks against a rule."""
    if seen.protocol is not None and rule.protocol and seen.protocol not in rule.protocol:
        return False
    if seen.key is not None:
        low, high = rule.key if isinstance(rule.key, tuple) else (0, _MASK)
        if not low <= seen.key <= high:
            return False
        if rule.map_key is not None and seen.key not in rule.map_key:
            return False
    if seen.has_ip:
        if rule.dscp is not None and rule.dscp != seen.tos >> 2:
            return False
        for name in _ENDPOINTS:
            network = rule.network(name)
            if network and ipaddress.ip_address(getattr(seen, name)) not in network:
                return False
    if not seen.has_link:
        return rule.vlan in (None, "none") and rule.source_mac is rule.destination_mac is None
    vid = "none" if seen.tci < 0 else seen.tci & 0xFFF
    return (
        rule.vlan in (None, vid)
        and rule.destination_mac in (None, seen.packet[0:6].hex(":"))
        and rule.source_mac in (None, seen.packet[6:12].hex(":"))
    )


# ---- what is new ---------------------------------------------------------------


def new_key(rule: Rule, key: int) -> int:
    if rule.set_key is not None:
        return rule.set_key
    if rule.map_key is not None:
        return rule.map_key[key]
    return (key + (rule.add_key or 0)) & _MASK


def sets_key(rule: Rule) -> bool:
    return (rule.set_key, rule.map_key, rule.add_key) != (None, None, None)


def new_address(rule: Rule, name: str, seen: Look) -> bytes:
    """The prefix that is set, and the host bits that stay."""
    network, old = rule.network("set_" + name), getattr(seen, name)
    if network is None:
        return bytes(old)
    prefix, mask = network.network_address.packed, network.netmask.packed
    old = old if network.version == seen.version else bytes(len(prefix))
    return bytes(p & m | o & ~m & 0xFF for p, m, o in zip(prefix, mask, old, strict=True))


def new_tci(rule: Rule, tci: int) -> int:
    if rule.set_vlan is None:
        return tci
    if rule.set_vlan == "none":
        return -1
    return rule.set_vlan | (0 if tci < 0 else tci & 0xF000)


@dataclass(frozen=True)
class _Inside:
    """What of the inner packet a rule may ask for."""

    hash: int = 0
    tos: int = 0


def look_inside(seen: Look) -> _Inside:
    if seen.carried is None or not seen.carried.payload:
        return _Inside()
    frame = seen.carried.payload
    if seen.carried.ethertype:  # an IP packet: as decap makes a frame of it
        frame = framed(frame, seen.carried.ethertype)
    if len(frame) < 14:
        return _Inside()
    return _Inside(flow_hash(frame), recognise(frame).tos)


def needs_inside(rule: Rule) -> bool:
    port = rule.set_source_port
    varies = isinstance(port, tuple) and port[0] != port[1]
    return varies or rule.set_dscp == "inherit" or rule.set_ecn == "rfc6040"


def source_port(rule: Rule, h: int) -> int:
    port = rule.set_source_port
    if port is None:
        return 0
    assert not isinstance(port, str)
    low, high = (port, port) if isinstance(port, int) else port
    return low + ((h & 0xFFFFFFFF) * (high - low + 1) >> 32)


def new_tos(rule: Rule, tos: int, inner: int) -> int:
    """DSCP by the pipe or the uniform model (RFC 2983); a mark that was met stays (RFC 6040)."""
    dscp, ecn = tos >> 2, tos & 3
    if rule.set_dscp is not None:
        dscp = inner >> 2 if isinstance(rule.set_dscp, str) else rule.set_dscp
    if isinstance(rule.set_ecn, int):
        ecn = rule.set_ecn
    elif rule.set_ecn is not None and ecn != _CE:
        ecn = inner & 3
    return dscp << 2 | ecn


# ---- judge ---------------------------------------------------------------------


def is_rebuilt(rule: Rule, seen: Look) -> bool:
    """Whether the packet cannot be changed in place.  Raises IP_VERSION."""
    networks = [rule.network("set_" + name) for name in _ENDPOINTS]
    versions = {n.version if n else seen.version for n in networks}
    if len(versions) > 1:
        raise DecapError(Status.IP_VERSION)
    return rule.to is not None or versions != {seen.version}


def judge(rule: Rule, seen: Look, key: int, headroom: int) -> None:
    """Raise :class:`DecapError` for what cannot be set in place."""
    if sets_key(rule) and (seen.first or not seen.partial):
        if not seen.key_at:
            raise DecapError(Status.NO_FIELD)
        if key > seen.key_mask:
            raise DecapError(Status.KEY_RANGE)
        reserved = seen.protocol == "nvgre" and (key < 0x1000 or key == 0xFFFFFF)
        if reserved and not rule.tunnel.get("allow_reserved_vsid"):
            raise DecapError(Status.NVGRE_VSID)
    if not seen.ports and (rule.set_source_port, rule.set_destination_port) != (None, None):
        raise DecapError(Status.NO_FIELD)
    if isinstance(rule.set_vlan, int) and seen.tci < 0 and headroom < 4:
        raise DecapError(Status.NO_HEADROOM)


# ---- change --------------------------------------------------------------------


def change(rule: Rule, seen: Look, key: int, port: int, inner_tos: int, *, fix: bool) -> bytes:
    """The packet with everything set that the rule sets."""
    old, new = seen.packet, bytearray(seen.packet)
    l3, l4 = seen.l3, seen.l4
    if rule.set_destination_mac is not None:
        new[0:6] = mac_bytes(rule.set_destination_mac)
    if rule.set_source_mac is not None:
        new[6:12] = mac_bytes(rule.set_source_mac)

    tos = new_tos(rule, seen.tos, inner_tos)
    first = struct.unpack_from("!H", new, l3)[0]
    first = first & 0xFF00 | tos if seen.version == 4 else first & 0xF00F | tos << 4
    struct.pack_into("!H", new, l3, first)
    if rule.set_ttl is not None:
        new[l3 + (8 if seen.version == 4 else 7)] = rule.set_ttl
    ends = b"".join(new_address(rule, name, seen) for name in _ENDPOINTS)
    at = l3 + (12 if seen.version == 4 else 8)
    new[at : at + len(ends)] = ends

    if rule.set_source_port is not None:
        struct.pack_into("!H", new, l4, port)
    if rule.set_destination_port is not None:
        struct.pack_into("!H", new, l4 + 2, rule.set_destination_port)
    if sets_key(rule) and seen.key_at:
        at, size = seen.key_at, seen.key_size
        kept = int.from_bytes(old[at : at + size], "big") & ~seen.key_mask
        new[at : at + size] = (kept | key).to_bytes(size, "big")

    if seen.version == 4:
        _settle_ip(new, old, l3, l4, fix=fix)
    if seen.sum_at:
        _settle_l4(new, seen, ends, fix=fix)

    tci = new_tci(rule, seen.tci)
    if rule.set_vlan is not None:
        tag = b"" if tci < 0 else struct.pack("!HH", 0x8100, tci)
        new[12 : 12 if seen.tci < 0 else 16] = tag
    return bytes(new)


def _changed(old: bytes, new: bytes) -> int:
    """The sum of ~m + m' over the 16-bit words that are not what they were (RFC 1624 eq. 3).

    Each adds 0xFFFF, which changes no sum, so that 0 says that nothing changed.
    """
    words = zip(
        struct.unpack(f"!{len(old) // 2}H", old), struct.unpack(f"!{len(new) // 2}H", new),
        strict=True,
    )  # fmt: skip
    return sum((~m & 0xFFFF) + n + 0xFFFF for m, n in words if m != n)


def _settle_ip(new: bytearray, old: bytes, l3: int, l4: int, *, fix: bool) -> None:
    at = l3 + 10
    changed = _changed(old[l3:l4], bytes(new[l3:l4]))
    if fix:
        new[at : at + 2] = b"\0\0"
        struct.pack_into("!H", new, at, checksum(bytes(new[l3:l4])))
    elif changed and (old[at : at + 2] != b"\0\0" or ones_sum(old[l3:l4]) == 0xFFFF):
        # A wrong one of 0 was left to the sender's NIC: there is none to update.
        struct.pack_into("!H", new, at, _updated(old, at, changed))


def _settle_l4(new: bytearray, seen: Look, ends: bytes, *, fix: bool) -> None:
    """A capture that was cut shows too little of a packet to compute its checksum."""
    old, at, l4 = seen.packet, seen.sum_at, seen.l4
    header = min(seen.here, seen.key_at + 8 if seen.key_at else l4 + 20) - l4 & ~1
    changed = _changed(old[l4 : l4 + header], bytes(new[l4 : l4 + header]))
    if seen.ports:
        changed += _changed(seen.source + seen.destination, ends)
    if fix and seen.here == seen.end:
        length = seen.end - l4
        half = len(ends) // 2
        pseudo = b""
        if seen.ports:
            pseudo = pseudo_header(ends[:half], ends[half:], seen.ip_protocol, length)
        new[at : at + 2] = b"\0\0"
        value = checksum(pseudo + bytes(new[l4 : seen.end]))
    elif changed:
        value = _updated(old, at, changed)
    else:
        return
    struct.pack_into("!H", new, at, value or (0xFFFF if seen.ip_protocol == 17 else 0))


def _updated(old: bytes, at: int, changed: int) -> int:
    """HC' = ~(~HC + sum of ~m + m')."""
    check = struct.unpack_from("!H", old, at)[0]
    return ~fold((~check & 0xFFFF) + changed) & 0xFFFF


# ---- what is remembered of STT frames ---------------------------------------------


@dataclass(frozen=True)
class _Note:
    mark: int
    key: int
    rule: int
    port: int
    tos: int


def frame_mark(seen: Look) -> int:
    """What the segments of an STT frame have in common."""
    pairs = [(struct.unpack_from("!H", seen.packet, seen.l4)[0], seen.frame_id)]
    words = struct.unpack("!II" if seen.version == 4 else "!QQQQ", seen.source + seen.destination)
    pairs += zip(words[::2], words[1::2], strict=True)
    return mix(pairs) | 1


# ---- rows ------------------------------------------------------------------------


def lies_whole(seen: Look, profile: Profile) -> bool:
    """Whether decap takes the frame as it lies, and changes no byte of it."""
    whole = seen.protocol != "stt" and seen.carried is not None and not seen.carried.ethertype
    marks = seen.tos & 1  # the outer ECN fields that may change the inner one (RFC 6040 4.2)
    kept = profile.dscp == "pipe" and profile.inner_vlan != "strip"
    return whole and seen.has_link and not marks and kept


class ReferenceEditor(Editor):
    """See :class:`overlay.editor.Editor`."""

    def __init__(self, rules: Sequence[Rule], profile: Profile, *, fix: bool) -> None:
        super().__init__(rules, fix=fix)
        self._profile = profile
        self._follow = any(rule.looks_inside for rule in rules)
        self._notes: dict[int, _Note] = {}
        self._targets: dict[Target, int] = {}
        self._generation = 0

    @property
    def generation(self) -> int:
        return self._generation

    def targets(self, first: int = 0) -> list[Target]:
        return list(self._targets)[first:]

    def _edit(self, batch: Batch) -> int:
        if len(self._targets) > _TARGETS:
            self._targets = {}
            self._generation += 1
        count = batch.count
        self.action[:count] = Action.NONE
        self.rule[:count] = NO_RULE
        self.target[:count] = 0
        for row in rows.pending(batch):
            try:
                self._row(batch, row)
            except DecapError as error:
                batch.status[row] = error.status
        return int((self.action[:count] == Action.EDITED).sum())

    def _rule_for(self, seen: Look) -> int:
        for number, rule in enumerate(self.rules):
            if matches(rule, seen):
                return number
        return NO_RULE

    def _row(self, batch: Batch, row: int) -> None:
        packet, wire, link = rows.read(batch, row)
        seen = look(packet, wire, link, self._profile)
        if seen.status in FOREIGN:
            return
        follows = seen.status == Status.OK and seen.partial and self._follow
        mark = frame_mark(seen) if follows else 0
        note = self._notes.get(mark % NOTES)
        port, tos = 0, 0
        if follows and not seen.first:
            if note is None or note.mark != mark:
                if self._rule_for(seen) != NO_RULE:
                    raise DecapError(Status.STT_INCOMPLETE)
                return
            number, port, tos, seen.key = note.rule, note.port, note.tos, note.key
        else:
            number = self._rule_for(seen)
            if number != NO_RULE and seen.status == Status.OK:
                inside = _Inside()
                if needs_inside(self.rules[number]):
                    inside = look_inside(seen)
                port, tos = source_port(self.rules[number], inside.hash), inside.tos
        if follows and seen.first:
            assert seen.key is not None
            self._notes[mark % NOTES] = _Note(mark, seen.key, number, port, tos)
        if number == NO_RULE:
            return
        if seen.status != Status.OK:
            raise DecapError(seen.status)
        self._apply(batch, row, seen, number, port, tos)

    def _apply(self, batch: Batch, row: int, seen: Look, number: int, port: int, tos: int) -> None:
        rule = self.rules[number]
        rebuilt = is_rebuilt(rule, seen)
        macs = rule.set_source_mac, rule.set_destination_mac
        if not seen.has_link and (macs != (None, None) or rule.set_vlan is not None):
            raise DecapError(Status.LINK_TYPE)
        key = 0 if seen.key is None else new_key(rule, seen.key)
        if rebuilt:
            self.rule[row] = number
            target = _target(rule, number, seen, key)
            self.target[row] = self._targets.setdefault(target, len(self._targets))
            self.action[row] = Action.GATHER if seen.partial else Action.REBUILD
            if not seen.partial and lies_whole(seen, self._profile):
                self.action[row] = Action.EXCHANGE
            return
        judge(rule, seen, key, int(batch.offset[row]) - int(batch.base[row]))
        packet = change(rule, seen, key, port, tos, fix=self.fix)
        rows.edit(batch, row, packet)
        self.rule[row] = number
        self.action[row] = Action.EDITED


def _target(rule: Rule, number: int, seen: Look, key: int) -> Target:
    zero = "00:00:00:00:00:00"
    local, remote = (str(ipaddress.ip_address(new_address(rule, n, seen))) for n in _ENDPOINTS)
    remote_mac = seen.packet[0:6].hex(":") if seen.has_link else zero
    local_mac = seen.packet[6:12].hex(":") if seen.has_link else zero
    tci = new_tci(rule, seen.tci)
    dscp: int | None = seen.tos >> 2
    if rule.set_dscp is not None:
        dscp = None if isinstance(rule.set_dscp, str) else rule.set_dscp
    protocol = rule.to or seen.protocol
    assert protocol is not None
    return Target(
        rule=number,
        protocol=protocol,
        key=key,
        local=local,
        remote=remote,
        local_mac=rule.set_source_mac or local_mac,
        remote_mac=rule.set_destination_mac or remote_mac,
        tci=None if tci < 0 else tci,
        dscp=dscp,
        ttl=seen.ttl if rule.set_ttl is None else rule.set_ttl,
        df=seen.df,
    )
