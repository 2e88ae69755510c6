"""Interfaces: a device under test between two network interfaces.

The tester's own underlay address is on no interface: it answers ARP and neighbour
solicitations for it by itself, so that the kernel under it never speaks for it.
"""

from __future__ import annotations

import ipaddress
import struct
import time
from collections.abc import Sequence
from dataclasses import replace

from overlay.errors import OverlayError
from overlay.lab.wire import Wire

from .device import Device
from .packet import Setting, ethernet, ip, mac, pseudo, sum16

__all__ = ["InterfaceDevice", "resolved"]

_ANY = "ff:ff:ff:ff:ff:ff"


def _text(address: bytes) -> str:
    return address.hex(":")


class InterfaceDevice(Device):
    """A device that is driven by raw sockets on both of its sides.

    :param underlay: where outer packets go in and come out.
    :param tenant: where inner frames do.
    """

    name = "interfaces"

    def __init__(self, setting: Setting, underlay: Wire, tenant: Wire) -> None:
        self.setting = setting
        self._wires = {"underlay": underlay, "tenant": tenant}

    def send(self, side: str, packets: Sequence[bytes]) -> None:
        self._wires[side].send(*packets)

    def take(self, side: str, wait: float) -> bytes | None:
        end = time.monotonic() + wait
        while True:
            seen = self._wires[side].take(max(end - time.monotonic(), 0.0))
            if seen is None:
                return None
            frame = _finished(seen.frame) if seen.partial else seen.frame
            answer = _answer(self.setting, frame) if side == "underlay" else None
            if answer is None:
                return frame
            self._wires[side].send(answer)

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()


def resolved(device: Device, wait: float = 3.0) -> Setting:
    """The device's setting with the MAC address that it answers with itself.

    :raises OverlayError: it does not answer.
    """
    setting = device.setting
    query = _query(setting)
    end = time.monotonic() + wait
    while (left := end - time.monotonic()) > 0:
        device.send("underlay", [query])
        again = time.monotonic() + min(left, 0.5)
        while (left := again - time.monotonic()) > 0:
            seen = device.take("underlay", left)
            if seen is not None and (found := _answered(setting, seen)) is not None:
                return replace(setting, device_mac=found)
    raise OverlayError(f"{setting.device} does not answer on the underlay: --device-mac says its")


def _finished(frame: bytes) -> bytes:
    """The frame with the checksum of its UDP or TCP, as the kernel finishes it on delivery."""
    at = 14
    while frame[at - 2 : at] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    if frame[at] >> 4 == 4:
        l4, protocol = at + (frame[at] & 15) * 4, frame[at + 9]
        ends = frame[at + 12 : at + 20]
        end = at + int.from_bytes(frame[at + 2 : at + 4], "big")
    else:
        l4, protocol, ends = at + 40, frame[at + 6], frame[at + 8 : at + 40]
        end = l4 + int.from_bytes(frame[at + 4 : at + 6], "big")
    field = l4 + {17: 6, 6: 16}.get(protocol, 0)
    if field == l4 or field + 2 > end:
        return frame
    half = len(ends) // 2
    whole = frame[l4:field] + bytes(2) + frame[field + 2 : end]
    value = sum16(pseudo(ends[:half], ends[half:], protocol, len(whole)) + whole)
    value = value or (0xFFFF if protocol == 17 else 0)
    return frame[:field] + struct.pack("!H", value) + frame[field + 2 :]


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _query(setting: Setting) -> bytes:
    tester, device = _packed(setting.tester), _packed(setting.device)
    if setting.family == 4:
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac(setting.tester_mac) + tester
        return ethernet(_ANY, setting.tester_mac, 0x0806, body + bytes(6) + device)
    group = str(ipaddress.ip_address(_packed("ff02::1:ff00:0")[:13] + device[13:]))
    data = struct.pack("!I", 0) + device + b"\1\1" + mac(setting.tester_mac)
    to = "33:33:ff" + "".join(f":{byte:02x}" for byte in device[13:])
    return ethernet(to, setting.tester_mac, 0x86DD, _icmp6(setting.tester, group, 135, data))


def _icmp6(source: str, destination: str, kind: int, data: bytes) -> bytes:
    ends = _packed(source), _packed(destination)
    head = struct.pack("!BB", kind, 0)
    value = sum16(pseudo(*ends, 58, 4 + len(data)) + head + b"\0\0" + data)
    return ip(source, destination, 58, head + struct.pack("!H", value) + data, ttl=255)


def _answered(setting: Setting, frame: bytes) -> str | None:
    """The device's MAC, if the frame tells it."""
    device = _packed(setting.device)
    if setting.family == 4:
        told = frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[28:32] == device
        return _text(frame[22:28]) if told else None
    told = frame[12:14] == b"\x86\xdd" and frame[20] == 58 and len(frame) >= 78
    told = told and frame[54] == 136 and frame[62:78] == device
    return _text(frame[6:12]) if told else None


def _answer(setting: Setting, frame: bytes) -> bytes | None:
    """The answer to a question for the tester's address; None if the frame is none."""
    tester = _packed(setting.tester)
    asker = _text(frame[6:12])
    if frame[12:14] == b"\x08\x06" and len(frame) >= 42:
        if frame[20:22] != b"\0\1" or frame[38:42] != tester:
            return None
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac(setting.tester_mac) + tester
        return ethernet(asker, setting.tester_mac, 0x0806, body + frame[22:32])
    if frame[12:14] != b"\x86\xdd" or len(frame) < 78 or frame[20] != 58 or frame[54] != 135:
        return None
    if frame[62:78] != tester:
        return None
    data = struct.pack("!I", 0x60000000) + tester + b"\2\1" + mac(setting.tester_mac)
    source = str(ipaddress.ip_address(frame[22:38]))
    return ethernet(asker, setting.tester_mac, 0x86DD, _icmp6(setting.tester, source, 136, data))
