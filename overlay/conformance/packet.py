"""Packet: the inner frames and outer packets that a conformance case sends, byte by byte.

They are made with :mod:`struct` alone, so that a codec under test is never judged
by its own hand.  What must not: any judgement.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "EXPERIMENT", "PORTS", "Setting", "ethernet", "geneve", "gpe", "gre", "nvgre", "option",
    "outer", "stt", "sum16", "tagged", "udp_frame", "vxlan",
]  # fmt: skip

#: The EtherType of inner frames that are not IP: IEEE's for local experiments.
EXPERIMENT = 0x88B5
#: The UDP or TCP destination port of a protocol that has one.
PORTS = {"vxlan": 4789, "vxlan-gpe": 4790, "geneve": 6081, "stt": 7471}


def mac(text: str) -> bytes:
    """A MAC address as bytes."""
    return bytes.fromhex(text.replace(":", ""))


@dataclass(frozen=True)
class Setting:
    """Who is who: the tester on the underlay, the device under test, and the two tenants.

    protocol: a name of :data:`overlay.PROTOCOLS`.  key: VNI, VSID, context ID or GRE key.
    family: of the underlay, 4 or 6.  port: UDP's or TCP's, 0 for GRE.
    """

    protocol: str = "vxlan"
    key: int = 5001
    family: int = 4
    tester: str = "192.0.2.1"
    device: str = "192.0.2.2"
    tester_mac: str = "02:ff:00:00:00:01"
    device_mac: str = "02:ff:00:00:00:02"
    far: str = "02:00:00:00:00:01"
    near: str = "02:00:00:00:00:02"
    port: int = 0

    @staticmethod
    def of(protocol: str, family: int = 4, **changes: Any) -> Setting:
        """The usual one of a protocol, with these fields changed."""
        ends = {} if family == 4 else {"tester": "2001:db8::1", "device": "2001:db8::2"}
        usual = Setting(protocol=protocol, family=family, port=PORTS.get(protocol, 0), **ends)  # type: ignore[arg-type]
        return replace(usual, **changes)


def sum16(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``data``: 0 where a right one is included."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """The pseudo header of RFC 768, 793 and 8200."""
    return source + destination + struct.pack("!II", length, protocol)


def ip(
    source: str, destination: str, protocol: int, payload: bytes, *, tos: int = 0, ttl: int = 64,
    ident: int = 0, fragment: int = 0x4000, flow: int = 0, options: bytes = b"",
    length_change: int = 0, checksum_change: int = 0,
) -> bytes:  # fmt: skip
    """An IPv4 or IPv6 packet, by the family of its addresses.

    length_change, checksum_change: what is added to the right length and checksum.
    """
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    if len(ends) == 32:
        length = len(payload) + length_change
        first = 6 << 28 | tos << 20 | flow
        return struct.pack("!IHBB", first, length, protocol, ttl) + ends + payload
    words = 5 + len(options) // 4
    length = 4 * words + len(payload) + length_change
    start = struct.pack("!BBHHHBB", 4 << 4 | words, tos, length, ident, fragment, ttl, protocol)
    check = sum16(start + b"\0\0" + ends + options)
    check = (check + checksum_change) & 0xFFFF
    return start + struct.pack("!H", check) + ends + options + payload


def udp(
    source: str, destination: str, ports: tuple[int, int], payload: bytes, *,
    checksum: str = "good", length_change: int = 0,
) -> bytes:  # fmt: skip
    """A UDP datagram; checksum: good, zero or bad."""
    length = 8 + len(payload) + length_change
    head = struct.pack("!HHH", *ports, length)
    ends = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    covered = pseudo(*ends, 17, length) + head + b"\0\0" + payload
    value = {"zero": 0, "good": sum16(covered) or 0xFFFF}.get(checksum)
    if value is None:
        value = (sum16(covered) ^ 0x5A5A) or 0x5A5A
    return head + struct.pack("!H", value) + payload


def ethernet(destination: str, source: str, ethertype: int, payload: bytes) -> bytes:
    """An Ethernet frame without FCS."""
    return mac(destination) + mac(source) + struct.pack("!H", ethertype) + payload


def tagged(frame: bytes, tci: int, tpid: int = 0x8100) -> bytes:
    """The frame with a VLAN tag."""
    return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]


def udp_frame(
    source_mac: str, destination_mac: str, token: bytes, *, tos: int = 0, flow: int = 0,
    family: int = 4, ttl: int = 64, fragment: int = 0x4000, size: int = 32,
) -> bytes:  # fmt: skip
    """An inner frame of UDP over IP that carries ``token``; ``flow`` chooses its ports."""
    ends = ("198.18.0.1", "198.18.0.2") if family == 4 else ("fd00:18::1", "fd00:18::2")
    payload = token.ljust(size, b"\x5a")
    ports = 10000 + flow % 40000, 20000 + flow // 40000
    # A later fragment has no UDP header.
    datagram = payload if fragment & 0x1FFF else udp(*ends, ports, payload)
    packet = ip(*ends, 17, datagram, tos=tos, ttl=ttl, ident=flow & 0xFFFF, fragment=fragment)
    return ethernet(destination_mac, source_mac, 0x0800 if family == 4 else 0x86DD, packet)


# -- the tunnels' headers ---------------------------------------------------


def vxlan(vni: int, *, flags: int = 0x08, reserved: int = 0, last: int = 0) -> bytes:
    """RFC 7348's header: flags, 24 reserved bits, VNI, 8 reserved bits."""
    return struct.pack("!II", flags << 24 | reserved, vni << 8 | last)


def gpe(vni: int, *, flags: int = 0x0C, following: int = 3, reserved: int = 0) -> bytes:
    """VXLAN-GPE's header: I and P, version 0, next protocol Ethernet."""
    return struct.pack("!BHBI", flags, reserved, following, vni << 8)


def option(number: int, kind: int, data: bytes = b"", *, flags: int = 0, words: int = -1) -> bytes:
    """A GENEVE option; words: what its length says, if not the truth."""
    size = len(data) // 4 if words < 0 else words
    return struct.pack("!HBB", number, kind, flags << 5 | size) + data


def geneve(
    vni: int, *, options: bytes = b"", words: int = -1, version: int = 0, flags: int = 0,
    protocol: int = 0x6558, last: int = 0,
) -> bytes:  # fmt: skip
    """RFC 8926's header and options; words: what its Opt Len says, if not the truth."""
    first = version << 6 | (len(options) // 4 if words < 0 else words)
    return struct.pack("!BBHI", first, flags, protocol, vni << 8 | last) + options


def gre(
    payload: bytes, *, key: int | None = None, checksum: str | None = None,
    sequence: int | None = None, flags: int = 0, protocol: int = 0x6558, reserved: int = 0,
) -> bytes:  # fmt: skip
    """GRE's header and the payload; checksum: None for no field, good or bad; flags: more bits."""
    flags |= (checksum is not None) << 15 | (key is not None) << 13 | (sequence is not None) << 12
    words = b"" if key is None else struct.pack("!I", key)
    words += b"" if sequence is None else struct.pack("!I", sequence)
    start = struct.pack("!HH", flags, protocol)
    if checksum is None:
        return start + words + payload
    value = sum16(start + struct.pack("!HH", 0, reserved) + words + payload)
    if checksum == "bad":
        value ^= 0x5A5A
    return start + struct.pack("!HH", value, reserved) + words + payload


def nvgre(vsid: int, flow: int = 0, *, flags: int = 0x2000, protocol: int = 0x6558) -> bytes:
    """RFC 7637's header."""
    return struct.pack("!HHI", flags, protocol, vsid << 8 | flow)


def stt(
    context: int, *, version: int = 0, flags: int = 0, l4: int = 0, reserved: int = 0, mss: int = 0,
    tci: int = 0, padding: int = 0,
) -> bytes:  # fmt: skip
    """STT's frame header, 18 bytes."""
    return struct.pack("!BBBBHHQH", version, flags, l4, reserved, mss, tci, context, padding)


def segment(
    setting: Setting, whole: bytes, start: int = 0, end: int | None = None, *, frame_id: int = 1,
    length: int | None = None, flags: int = 0x18, window: int = 0, urgent: int = 0,
    doff: int = 5, checksum: str = "good", source_port: int = 54321, source: str | None = None,
    **more: Any,
) -> bytes:  # fmt: skip
    """The STT segment of ``whole`` (header and frame) from ``start`` to ``end``."""
    source = source or setting.tester
    payload = whole[start:end]
    size = len(whole) if length is None else length
    head = struct.pack(
        "!HHHHIBBHHH", source_port, setting.port, size, start & 0xFFFF, frame_id, doff << 4, flags,
        window, 0, urgent,
    )  # fmt: skip
    ends = ipaddress.ip_address(source).packed, ipaddress.ip_address(setting.device).packed
    value = sum16(pseudo(*ends, 6, len(head) + len(payload)) + head + payload)
    if checksum == "bad":
        value ^= 0x5A5A
    head = head[:16] + struct.pack("!H", value) + head[18:]
    return carried(setting, 6, head + payload, source=source, **more)


# -- the outer packet -------------------------------------------------------


def carried(
    setting: Setting, protocol: int, payload: bytes, *, source: str | None = None,
    padding: bytes = b"", tag: int | None = None, **of_ip: Any,
) -> bytes:  # fmt: skip
    """Ethernet and IP from the tester to the device, and the payload."""
    packet = ip(source or setting.tester, setting.device, protocol, payload, **of_ip)
    ethertype = 0x0800 if setting.family == 4 else 0x86DD
    frame = ethernet(setting.device_mac, setting.tester_mac, ethertype, packet) + padding
    return frame if tag is None else tagged(frame, tag)


def outer(
    setting: Setting, frame: bytes, *, header: bytes | None = None, key: int | None = None,
    checksum: str | None = None, udp_change: int = 0, source_port: int = 54321, **of_ip: Any,
) -> bytes:  # fmt: skip
    """The packet of the setting's protocol that carries ``frame`` to the device.

    header: the tunnel's, if not a plain one of ``key``.  checksum: UDP's, good, zero or bad;
    by default zero for VXLAN over IPv4 and good elsewhere.  of_ip: as :func:`carried`'s.
    """
    key = setting.key if key is None else key
    name = setting.protocol
    if header is None:
        header = _PLAIN[name](key)
    if name == "stt":
        return segment(
            setting, header + frame, frame_id=next_id(), source_port=source_port,
            checksum=checksum or "good", **of_ip,
        )  # fmt: skip
    if name in ("nvgre", "gre"):
        return carried(setting, 47, header + frame, **of_ip)
    if checksum is None:
        checksum = "zero" if name == "vxlan" and setting.family == 4 else "good"
    ends = of_ip.get("source") or setting.tester, setting.device
    ports = source_port, setting.port
    datagram = udp(*ends, ports, header + frame, checksum=checksum, length_change=udp_change)
    return carried(setting, 17, datagram, **of_ip)


#: The header of a packet with nothing special about it, by its key.
_PLAIN: dict[str, Callable[[int], bytes]] = {
    "vxlan": vxlan,
    "vxlan-gpe": gpe,
    "geneve": geneve,
    "nvgre": nvgre,
    "gre": lambda key: gre(b"", key=key),
    "stt": stt,
}

_ids = iter(range(0x0C0F0000, 0x7FFFFFFF))


def next_id() -> int:
    return next(_ids)
