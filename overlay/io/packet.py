"""Packet: an interface by AF_PACKET, as a port or as the underlay of NVGRE and STT.

Needs CAP_NET_RAW; the guard of an underlay needs CAP_NET_ADMIN too.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from contextlib import ExitStack

from overlay.errors import ConfigError
from overlay.tunnel import boolean, integer

from .device import live
from .firewall import PROTOCOLS, Guard
from .interface import InterfaceDevice, interface_name, local_addresses, protocol_names

__all__ = ["FANOUT", "Packet"]

#: How several queues share what arrives: by flow, in turn, by CPU, the next when
#: one is full, at random, by the interface's own receive queue.
FANOUT = {"hash": 0, "balance": 1, "cpu": 2, "rollover": 3, "random": 4, "queue": 5}


class Packet(InterfaceDevice):
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
        interface_name(interface)
        names = protocol_names(protocols)
        if fanout not in FANOUT:
            raise ConfigError("fanout", fanout, f"one of {', '.join(FANOUT)}")
        count = integer("queues", queues, 1, 256)
        ring = integer("ring", ring, 0, 2**30)
        port = integer("port", port, 1, 65535)
        for name, value in (("promiscuous", promiscuous), ("guard", guard), ("bypass", bypass)):
            boolean(name, value)
        locals_ = local_addresses(local)
        underlay = bool(names)
        self.guard: Guard | None = None
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
            super().__init__(interface, opened, protocols=names, port=port, local=locals_)
            undo.pop_all()

    def close(self) -> None:
        """As :meth:`Device.close`; the guard goes too."""
        super().close()
        if self.guard is not None:
            self.guard.close()


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
