"""Packet: an interface by AF_PACKET, as a port or as the underlay of NVGRE and STT.

Needs CAP_NET_RAW; the guard of an underlay needs CAP_NET_ADMIN too.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable
from contextlib import ExitStack

from overlay.errors import ConfigError
from overlay.tunnel import boolean, integer

from .device import QueueDevice, live
from .firewall import PROTOCOLS, Guard
from .icmp import IcmpListener, TooBig

__all__ = ["FANOUT", "Packet"]

#: How several queues share what arrives: by flow, in turn, by CPU, the next when
#: one is full, at random, by the interface's own receive queue.
FANOUT = {"hash": 0, "balance": 1, "cpu": 2, "rollover": 3, "random": 4, "queue": 5}

_LOCALS_MAX = 8


class Packet(QueueDevice):
    """An interface: every frame of it, or the outer packets of these tunnels.

    As a port (``protocols`` not given) it gives and takes Ethernet frames, with
    their VLAN tags; frames that this host sends there are not received.  As the
    underlay it gives only packets of the protocols, IP fragments of such
    packets included, and the kernel's own stack is kept from answering them.

    Frames larger than the MTU come as super-frames where the sender's or the
    receiver's segmentation offload made them so, and leave as such: the kernel or the
    NIC cuts them.  STT packets of any length leave in segments of the path's MTU.

    ``routed`` is True for an underlay: its packets need the next hop's MAC address.

    :param interface: its name.
    :param protocols: of ``"nvgre"``, ``"stt"`` and ``"vxlan"``: be the underlay of these.
    :param port: VXLAN's UDP port.
    :param local: underlay: addresses of this host; packets to others are left
        alone.  By default all packets that arrive for this host's MAC address.
    :param queues: for as many threads.
    :param fanout: how the queues share what arrives, of :data:`FANOUT`.
    :param ring: bytes of a memory-mapped ring for each queue, which takes more small packets
        a second, each up to a millisecond later; 0 for none.
    :param promiscuous: as a port: take frames to every MAC address.
    :param guard: underlay: keep the kernel from answering (see :mod:`overlay.io.firewall`).
    :param bypass: send past the interface's queueing discipline.
    :raises ConfigError: no such interface, not Ethernet, or no right to.
    """

    #: Packets need the MAC address of their next hop (:mod:`overlay.io.route`).
    routed = True

    def __init__(
        self,
        interface: str,
        *,
        protocols: Iterable[str] | None = None,
        port: int = 4789,
        local: str | Iterable[str] | None = None,
        queues: int = 1,
        fanout: str = "hash",
        ring: int = 0,
        promiscuous: bool = True,
        guard: bool = True,
        bypass: bool = False,
    ) -> None:
        if not isinstance(interface, str) or not 0 < len(interface.encode()) < 16:
            raise ConfigError("interface", interface, "the name of a network interface")
        names = () if protocols is None else tuple(dict.fromkeys(protocols))
        if protocols is not None and (not names or not set(names) <= set(PROTOCOLS)):
            raise ConfigError("protocols", protocols, f"some of {', '.join(PROTOCOLS)}")
        if fanout not in FANOUT:
            raise ConfigError("fanout", fanout, f"one of {', '.join(FANOUT)}")
        count = integer("queues", queues, 1, 256)
        ring = integer("ring", ring, 0, 2**30)
        port = integer("port", port, 1, 65535)
        for name, value in (("promiscuous", promiscuous), ("guard", guard), ("bypass", bypass)):
            boolean(name, value)
        locals_ = _locals(local)
        underlay = bool(names)
        self.interface = interface
        self.routed = underlay
        self.guard: Guard | None = None
        self._icmp: IcmpListener | None = None
        with ExitStack() as undo:
            opened = []
            group = -1
            for _ in range(count):
                queue = _open(
                    interface,
                    protocols=sum(1 << PROTOCOLS[name] for name in names),
                    port=port,
                    addresses=[address.packed for address in locals_],
                    ring=ring,
                    fanout=FANOUT[fanout] if count > 1 else -1,
                    group=group,
                    promiscuous=promiscuous and not underlay,
                    bypass=bypass,
                )
                undo.callback(queue.close)
                opened.append(queue)
                group = queue.group
            if underlay and guard:
                self.guard = Guard(interface, names, port=port, local=locals_)
                undo.callback(self.guard.close)
            if underlay and locals_:
                self._icmp = IcmpListener(map(str, locals_), protocols=names, port=port)
                undo.callback(self._icmp.close)
            super().__init__(opened, underlay=underlay)
            undo.pop_all()

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
        """As :meth:`Device.close`; the guard goes too."""
        super().close()
        if self._icmp is not None:
            self._icmp.close()
        if self.guard is not None:
            self.guard.close()


def _address(field: str, value: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(value)  # type: ignore[arg-type]
    except ValueError:
        raise ConfigError(field, value, "an IPv4 or IPv6 address") from None


def _locals(
    local: str | Iterable[str] | None,
) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    values = [] if local is None else [local] if isinstance(local, str) else list(local)
    if len(values) > _LOCALS_MAX:
        raise ConfigError("local", f"<{len(values)} addresses>", f"at most {_LOCALS_MAX}")
    return [_address("local", value) for value in values]


def _open(interface: str, **options: object):  # type: ignore[no-untyped-def]
    try:
        return live().PacketQueue(interface, **options)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise ConfigError(
                "interface", interface, "the right to use it: CAP_NET_RAW (be root)"
            ) from error
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise ConfigError("interface", interface, "an interface that is here") from error
        if error.errno == errno.EPROTONOSUPPORT:
            raise ConfigError("interface", interface, "an Ethernet interface") from error
        raise
