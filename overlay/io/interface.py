"""Interface: what the devices on an interface of this host have in common.

What lives here: its MTU and MAC address, path MTUs, the errors of routers.
What must not: how packets are got from it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from overlay.errors import ConfigError
from overlay.tunnel import integer

from .device import QueueDevice
from .firewall import PROTOCOLS
from .icmp import IcmpListener, TooBig

if TYPE_CHECKING:
    from overlay._live import PacketQueue, XdpQueue

__all__ = ["Address", "InterfaceDevice", "interface_name", "local_addresses", "protocol_names"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOCALS_MAX = 8


class InterfaceDevice(QueueDevice):
    """An interface: every frame of it, or the outer packets of these tunnels.

    ``routed`` is True for an underlay: its packets need the next hop's MAC address.

    :param interface: its name.
    :param queues: of it; owned.
    :param protocols: those of the underlay, none for a port.
    :param port: VXLAN's UDP port.
    :param local: underlay: addresses of this host.
    """

    #: Packets need the MAC address of their next hop (:mod:`overlay.io.route`).
    routed = True

    def __init__(
        self,
        interface: str,
        queues: Sequence[PacketQueue] | Sequence[XdpQueue],
        *,
        protocols: Sequence[str],
        port: int,
        local: Sequence[Address],
    ) -> None:
        super().__init__(queues, underlay=bool(protocols))
        self.interface = interface
        self.routed = bool(protocols)
        self._icmp: IcmpListener | None = None
        if protocols and local:
            self._icmp = IcmpListener(map(str, local), protocols=protocols, port=port)

    def refresh(self) -> None:
        """Read the interface's MTU and MAC address again, after they changed."""
        for queue in self._queues:
            queue.refresh()  # type: ignore[attr-defined]

    def path_mtu(self, remote: str, mtu: int) -> None:
        """STT packets to this remote are cut to ``mtu`` bytes of IP, or to the interface's MTU."""
        packed = _address("remote", remote).packed
        mtu = integer("mtu", mtu, 68, 2**32 - 1)
        for queue in self._queues:
            queue.path_mtu(packed, mtu)  # type: ignore[attr-defined]

    def errors(self) -> list[TooBig]:
        """What routers said of packets that were too big, since the last call.

        STT packets heed it from then on; for other tunnels it is the caller's to
        send smaller ones.  Needs ``local`` to have been given.
        """
        heard = [] if self._icmp is None or self.closed else self._icmp.recv()
        for said in heard:
            self.path_mtu(said.remote, said.mtu)
        return heard

    def close(self) -> None:
        """As :meth:`Device.close`."""
        super().close()
        if self._icmp is not None:
            self._icmp.close()


def interface_name(interface: str) -> str:
    """An interface's name; :class:`ConfigError` where it cannot be one."""
    if not isinstance(interface, str) or not 0 < len(interface.encode()) < 16:
        raise ConfigError("interface", interface, "the name of a network interface")
    return interface


def protocol_names(protocols: Iterable[str] | None) -> tuple[str, ...]:
    """The protocols of an underlay, each once; none for a port."""
    names = () if protocols is None else tuple(dict.fromkeys(protocols))
    if protocols is not None and (not names or not set(names) <= set(PROTOCOLS)):
        raise ConfigError("protocols", protocols, f"some of {', '.join(PROTOCOLS)}")
    return names


def local_addresses(local: str | Iterable[str] | None) -> list[Address]:
    """The addresses of this host that an underlay is for, at most 8."""
    values = [] if local is None else [local] if isinstance(local, str) else list(local)
    if len(values) > _LOCALS_MAX:
        raise ConfigError("local", f"<{len(values)} addresses>", f"at most {_LOCALS_MAX}")
    return [_address("local", value) for value in values]


def _address(field: str, value: object) -> Address:
    try:
        return ipaddress.ip_address(value)  # type: ignore[arg-type]
    except ValueError:
        raise ConfigError(field, value, "an IPv4 or IPv6 address") from None
