"""Underlay: the devices that packets leave by, and what remotes need of them.

What lives here: which device carries which protocol, next hops, path MTUs.
What must not: networks, frames.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from overlay.address import mac_address
from overlay.errors import ConfigError
from overlay.io.device import Device
from overlay.tunnel import STT, VXLAN, Tunnel

from .protocol import SWITCHED

__all__ = ["Path", "Underlay"]

_NOTHING = "00:00:00:00:00:00"
_NARROW_SECONDS = 600.0  # RFC 1191 6.3: then a wider path is tried again
#: The longest frame in one STT packet: what IP's length field leaves.
_STT_FRAME_MAX = {4: 65535 - 20 - 20 - 18, 6: 65535 - 20 - 18}


def _innermost(device: Any) -> Any:
    """What a tracer or a fault device stands before."""
    while isinstance(getattr(device, "device", None), Device):
        device = device.device
    return device


@dataclass(frozen=True)
class Path:
    """How packets to one remote leave."""

    local_mac: str = _NOTHING
    remote_mac: str | None = None
    mtu: int = 1500
    resolved: bool = True


class Underlay:
    """The devices under a VTEP.

    :param given: None to open what is needed, one device for all protocols,
        or devices by protocol name.
    """

    def __init__(
        self,
        local: str,
        given: Device | Mapping[str, Device] | None,
        *,
        port: int,
        mtu: int | None,
        workers: int,
        checksum: bool,
        plug: Callable[[Device], int],
        unplug: Callable[[int], None],
    ) -> None:
        self.local = local
        self._port = port
        self._mtu = mtu
        self._workers = workers
        self._checksum = checksum
        self._plug = plug
        self._unplug = unplug
        self._devices: dict[str, Device] = {}
        self._numbers: dict[int, int] = {}
        self._owned: list[Device] = []
        if isinstance(given, Device):
            self._devices = dict.fromkeys(SWITCHED, given)
        elif isinstance(given, Mapping):
            for name, device in given.items():
                if name not in SWITCHED or not isinstance(device, Device):
                    raise ConfigError("underlay", given, "devices by protocol name")
                self._devices[name] = device
        elif given is not None:
            raise ConfigError("underlay", given, "a Device, devices by protocol name, or None")
        for device in self._devices.values():
            if not device.underlay:
                raise ConfigError("underlay", device, "a device that carries outer packets")
        self._given = given is not None
        self._narrow: dict[str, tuple[int, float]] = {}  # by remote: path MTU, until when

    @property
    def devices(self) -> dict[str, Device]:
        """By the names of the protocols that each carries."""
        names: dict[int, list[str]] = {}
        for protocol, device in self._devices.items():
            names.setdefault(id(device), []).append(protocol)
        by_id = {id(device): device for device in self._devices.values()}
        return {"+".join(protocols): by_id[i] for i, protocols in names.items()}

    def device(self, protocol: str) -> tuple[Device, int]:
        """The device of a protocol and its number, opened when first asked for."""
        device = self._devices.get(protocol)
        if device is None:
            if self._given:
                raise ConfigError("tunnel", protocol, f"one of {', '.join(self._devices)}")
            device = self._open(protocol)
            self._devices[protocol] = device
            self._owned.append(device)
        number = self._numbers.get(id(device))
        if number is None:
            number = self._numbers[id(device)] = self._plug(device)
        return device, number

    def _open(self, protocol: str) -> Device:
        if protocol == "vxlan":
            from overlay.io.udp import Udp

            return Udp(self.local, self._port, queues=self._workers, checksum=self._checksum)
        from overlay.io.packet import Packet
        from overlay.io.route import interface_of

        interface = interface_of(self.local).name
        return Packet(interface, protocols=(protocol,), local=self.local, queues=self._workers)

    def mtu(self, protocol: str) -> int:
        """Bytes of IP that the link carries."""
        device, _ = self.device(protocol)
        return device.mtu if self._mtu is None else min(self._mtu, device.mtu)

    def narrow(self, remote: str, mtu: int) -> None:
        """The path to a remote was heard to carry only so much; believed for ten minutes."""
        self._narrow[remote] = mtu, time.monotonic() + _NARROW_SECONDS

    def reach(self, protocol: str, remote: str) -> int:
        """Bytes of IP that the path to a remote carries, as far as was heard of it."""
        mtu = self.mtu(protocol)
        heard, end = self._narrow.get(remote, (mtu, math.inf))
        if time.monotonic() < end:
            return min(mtu, heard)
        del self._narrow[remote]
        self._tell(protocol, remote, mtu)
        return mtu

    def _tell(self, protocol: str, remote: str, mtu: int) -> None:
        """STT's packets are cut by the device."""
        device = _innermost(self.device(protocol)[0])
        if hasattr(device, "path_mtu"):
            device.path_mtu(remote, mtu)

    def bare(self, protocol: str) -> bool:
        """Whether the kernel writes the outer headers of what the device sends."""
        return bool(getattr(_innermost(self.device(protocol)[0]), "bare", False))

    def routed(self, protocol: str) -> bool:
        """Whether the next hop's MAC address has to be found for the device."""
        return bool(getattr(_innermost(self.device(protocol)[0]), "routed", False))

    def path(self, protocol: str, remote: str, wait: float = 0.0) -> Path:
        """How packets to a remote leave; asks the kernel where that matters.

        :param wait: seconds to wait for the next hop's answer.
        """
        mtu = self.reach(protocol, remote)
        group = ipaddress.ip_address(remote).is_multicast
        if not self.routed(protocol):
            if group and self.bare(protocol):
                _innermost(self.device(protocol)[0]).join(remote)
            return Path(mtu=mtu)
        from overlay.io.route import resolve

        hop = resolve(remote, self.local, wait=wait)
        if hop is None:
            return Path(mtu=mtu, resolved=False)
        local_mac = _NOTHING if hop.local_mac is None else mac_address("mac", hop.local_mac)
        mtu = min(mtu, hop.mtu)
        if mtu < self.device(protocol)[0].mtu:
            self._tell(protocol, remote, mtu)
        if group:
            return Path(local_mac, None, mtu)
        if hop.mac is None:
            return Path(local_mac, None, mtu, resolved=False)
        return Path(local_mac, mac_address("mac", hop.mac), mtu)

    def leave(self, protocol: str, remote: str) -> None:
        """No remote has this address any more: a group is left."""
        if ipaddress.ip_address(remote).is_multicast and self.bare(protocol):
            with contextlib.suppress(OSError):  # its interface may be gone
                _innermost(self.device(protocol)[0]).leave(remote)

    def build(self, protocol: str, key: int, remote: str, path: Path, **options: Any) -> Tunnel:
        """The tunnel to a remote."""
        kind = SWITCHED[protocol]
        values: dict[str, Any] = {"local": self.local, "remote": remote, kind.key_field: key}
        values |= {"local_mac": path.local_mac}
        if path.remote_mac is not None:
            values["remote_mac"] = path.remote_mac
        if kind is VXLAN:
            values["port"] = self._port
            if self.bare(protocol):
                values["checksum"] = False  # the kernel's to compute
        else:
            # RFC 7637 takes tags off inner frames; a switch must not merge VLANs.
            values |= {"inner_vlan": "reject"} if protocol == "nvgre" else {}
        return kind(**(values | options))

    def frame_max(self, tunnel: Tunnel, mtu: int) -> int:
        """Bytes of the longest frame that the tunnel takes over a path of this MTU."""
        if isinstance(tunnel, STT):
            return _STT_FRAME_MAX[tunnel.family]
        return max(0, tunnel.inner_mtu(mtu)) + 14

    def close(self) -> None:
        """Let go of all devices, and close what was opened here."""
        for number in self._numbers.values():
            self._unplug(number)
        self._numbers.clear()
        for device in self._owned:
            device.close()
        self._owned.clear()
