"""Outer: what a packet of the device under test says, read field by field.

Made with :mod:`struct` alone, as :mod:`.packet` is.  What must not: any judgement.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from .packet import PORTS, Setting, pseudo, sum16

__all__ = ["Outer", "read"]


@dataclass(frozen=True)
class Outer:
    """A packet of the device, as far as its tunnel's header.

    l4: UDP's, TCP's or GRE's header and all that follows, to the end that IP's length gives.
    header: the tunnel's own header (GRE's too); payload: what follows it.
    sum_right: of UDP, TCP or GRE; True where there is none.
    """

    packet: bytes
    family: int
    source: str
    destination: str
    tos: int
    ttl: int
    df: bool
    fragment: bool
    ip_right: bool
    protocol: int
    l4: bytes
    source_port: int
    port: int
    sum: int
    sum_right: bool
    header: bytes
    payload: bytes


def read(setting: Setting, packet: bytes) -> Outer | None:
    """The packet as one of the setting's protocol; None if it is none of the device's."""
    at = 14
    ethertype = int.from_bytes(packet[12:14], "big")
    if ethertype == 0x8100:
        at, ethertype = 18, int.from_bytes(packet[16:18], "big")
    data = packet[at:]
    if ethertype == 0x0800 and len(data) >= 20:
        size = (data[0] & 15) * 4
        length, fragment = struct.unpack_from("!H2xH", data, 2)
        protocol, ttl, tos = data[9], data[8], data[1]
        ends, body, right = data[12:20], data[size:length], sum16(data[:size]) == 0
        df, cut = bool(fragment & 0x4000), bool(fragment & 0x3FFF)
    elif ethertype == 0x86DD and len(data) >= 40:
        length, protocol, ttl = struct.unpack_from("!HBB", data, 4)
        tos = (data[0] << 4 | data[1] >> 4) & 0xFF
        ends, body, right = data[8:40], data[40 : 40 + length], True
        df, cut = True, protocol == 44
    else:
        return None
    half = len(ends) // 2
    source, destination = (str(ipaddress.ip_address(end)) for end in (ends[:half], ends[half:]))
    if source != setting.device or destination != setting.tester:
        return None
    if protocol not in (6, 17, 47) or len(body) < 8:
        return None
    found = _l4(setting, protocol, body, ends)
    if found is None:
        return None
    return Outer(
        packet, 4 if half == 4 else 6, source, destination, tos, ttl, df, cut, right, protocol,
        body, *found,
    )  # fmt: skip


def _l4(
    setting: Setting, protocol: int, body: bytes, ends: bytes
) -> tuple[int, int, int, bool, bytes, bytes] | None:
    half = len(ends) // 2
    if protocol == 47:
        if setting.protocol not in ("nvgre", "gre"):
            return None
        flags = int.from_bytes(body[:2], "big")
        size = 4 + 4 * sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000))
        value = int.from_bytes(body[4:6], "big") if flags & 0x8000 else 0
        right = not flags & 0x8000 or sum16(body) == 0
        return 0, 0, value, right, body[:size], body[size:]
    source_port, port = struct.unpack_from("!HH", body)
    if port != setting.port or PORTS.get(setting.protocol) is None:
        return None
    covered = pseudo(ends[:half], ends[half:], protocol, len(body)) + body
    if protocol == 6 and setting.protocol == "stt" and len(body) >= 20:
        value = int.from_bytes(body[16:18], "big")
        start = 20 if int.from_bytes(body[6:8], "big") else 38
        return source_port, port, value, sum16(covered) == 0, body[20:start], body[start:]
    if protocol != 17 or setting.protocol == "stt":
        return None
    value = int.from_bytes(body[6:8], "big")
    size = 8 + 8 + (4 * (body[8] & 0x3F) if setting.protocol == "geneve" and len(body) > 8 else 0)
    right = value == 0 or sum16(covered) == 0
    return source_port, port, value, right, body[8:size], body[size:]
