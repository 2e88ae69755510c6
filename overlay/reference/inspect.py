"""What decap would say of each row of a batch, and its outer headers, as columns.

Reads; writes nothing but the columns.
"""

from __future__ import annotations

import struct
from typing import Any

from overlay.batch import Batch
from overlay.columns import Fact
from overlay.errors import DecapError, Status
from overlay.profile import Profile
from overlay.tunnel import PROTOCOLS

from . import outer, rows
from .delivery import deliver, frame_of
from .hash import flow_hash
from .tunnel import carry, carry_datagram

__all__ = ["inspect"]

SOCKET = 3  # link: the payload of a datagram that a socket received

# Reasons for which the outer IP header cannot be believed, or is not there.
_NO_IP = (
    Status.LINK_TYPE, Status.ETHERNET_TRUNCATED, Status.NOT_IP, Status.IP_TRUNCATED,
    Status.IP_VERSION, Status.IP_HEADER_LENGTH, Status.IP_LENGTH, Status.IP_CHECKSUM,
)  # fmt: skip
# Reasons that decap has only when it knows the key.
_AFTER_KEY = (
    Status.UNKNOWN_KEY, Status.INNER_TOO_SHORT, Status.INNER_TAGGED, Status.ECN_CONGESTION,
)  # fmt: skip


def inspect(batch: Batch, row: int, profile: Profile, seed: int) -> dict[str, Any]:
    """The facts of one row; what is not there is 0."""
    if batch.status[row] != Status.OK:
        return {"status": int(batch.status[row])}
    try:
        packet, wire, link = rows.read(batch, row)
    except DecapError as error:
        return {"status": int(error.status)}
    start, carried = int(batch.offset[row]), None
    status = Status.OK
    try:
        if link == SOCKET:
            carried = carry_datagram(packet, wire, rows.outer_header(batch, row), profile)
        else:
            carried = carry(packet, wire, link, profile)
        deliver(carried, profile)
    except DecapError as error:
        status = error.status
    if status is Status.BAD_ROW:
        return {"status": int(status)}

    facts: dict[str, Any] = {"status": int(status), "flags": Fact.CUT * (len(packet) < wire)}
    taken = carried is not None and (status is Status.OK or status in _AFTER_KEY)
    if carried is not None and taken:
        facts |= {"key": carried.key, "protocol": PROTOCOLS[carried.protocol].number}
    if carried is not None and status is Status.OK:
        facts["frame_offset"] = start + len(carried.header)
        facts["frame_length"] = len(carried.payload)
        facts["frame_wire"] = carried.wire
        facts["flags"] |= Fact.IP * (carried.ethertype != 0)
        facts["flow_hash"] = flow_hash(frame_of(carried), seed)
    if link == SOCKET:
        at = int(batch.outer[row])
        _add(facts, _ip(bytes(batch.data.data[at : at + 40]), 0), at)
    else:
        _add(facts, _outer(packet, wire, link, profile, taken), start)
    return facts


def _add(facts: dict[str, Any], more: dict[str, Any], start: int) -> None:
    """Add outer facts, whose offset is in the packet that begins at ``start``."""
    facts["flags"] |= more.pop("flags", 0)
    facts |= more
    if more:
        facts["outer"] += start


def _ip(packet: bytes, l3: int) -> dict[str, Any]:
    """The IP header at ``l3``; nothing if none is there."""
    left = len(packet) - l3
    if left >= 20 and packet[l3] >> 4 == 4:
        tos, ip_id, word, ttl, protocol = struct.unpack_from("!xBxxHHBB", packet, l3)
        return {
            "outer": l3, "family": 4, "tos": tos, "ttl": ttl, "ip_id": ip_id,
            "ip_protocol": protocol, "flags": Fact.DF * (word >> 14 & 1),
            "source": packet[l3 + 12 : l3 + 16], "destination": packet[l3 + 16 : l3 + 20],
        }  # fmt: skip
    if left >= 40 and packet[l3] >> 4 == 6:
        word, protocol, ttl = struct.unpack_from("!IxxBB", packet, l3)
        return {
            "outer": l3, "family": 6, "tos": word >> 20 & 0xFF, "ttl": ttl,
            "flow_label": word & 0xFFFFF, "ip_protocol": protocol, "flags": Fact(0),
            "source": packet[l3 + 8 : l3 + 24], "destination": packet[l3 + 24 : l3 + 40],
        }  # fmt: skip
    return {}


def _outer(packet: bytes, wire: int, link: int, profile: Profile, taken: bool) -> dict[str, Any]:
    """The outer headers; ``taken``: decap came past their checksums."""
    found = None
    refused = Status.OK
    try:
        found = outer.parse(packet, wire, link, profile)
    except DecapError as error:
        refused = error.status
    if refused in _NO_IP:
        return {}
    tagged = link == outer.ETHERNET and packet[12:14] == b"\x81\0"
    l3 = 0 if link != outer.ETHERNET else 18 if tagged else 14
    facts = _ip(packet, l3)
    if tagged:
        facts["flags"] |= Fact.TAGGED
        facts["outer_tci"] = int.from_bytes(packet[14:16], "big")
    if facts["family"] == 4:
        extended = packet[l3] & 15 != 5
    else:
        extended = found is None or found.l4 != l3 + 40
    if refused is Status.IP_FRAGMENT:
        facts["flags"] |= Fact.FRAGMENT
    facts["flags"] |= Fact.EXTENDED * extended
    if found is None:
        if facts["family"] == 6:
            facts["ip_protocol"] = 0
        return facts
    facts["ip_protocol"] = found.protocol
    return _transport(facts, found, profile, taken)


def _transport(
    facts: dict[str, Any], found: outer.Outer, profile: Profile, taken: bool
) -> dict[str, Any]:
    here = found.packet[found.l4 : found.here]
    if found.protocol not in (outer.UDP, outer.TCP) or len(here) < 4:
        return facts
    facts["source_port"], facts["destination_port"] = struct.unpack_from("!HH", here)
    header, at = (8, 6) if found.protocol == outer.UDP else (20, 16)
    if len(here) < header or here[at : at + 2] == b"\0\0":
        return facts
    facts["flags"] |= Fact.CHECKSUM
    whole = found.end - found.l4
    if found.protocol == outer.UDP:
        whole = int.from_bytes(here[4:6], "big") or whole
    if taken and profile.verify_checksums and whole <= len(here):
        facts["flags"] |= Fact.VERIFIED
    return facts
