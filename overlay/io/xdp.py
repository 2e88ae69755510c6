"""Xdp: a receive queue of an interface by AF_XDP, as a port or as the underlay of tunnels.

Its frames are taken before the kernel's stack sees them, by a program on the interface
that is there as long as the device is open.  Needs Linux 5.9, CAP_NET_RAW,
CAP_NET_ADMIN and CAP_BPF.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from overlay.errors import ConfigError
from overlay.tunnel import boolean, integer

from .device import live
from .firewall import PROTOCOLS
from .interface import InterfaceDevice, interface_name, local_addresses, protocol_names

if TYPE_CHECKING:
    from overlay._live import XdpQueue

__all__ = ["Xdp"]

_FRAMES = [1 << bits for bits in range(6, 17)]


class Xdp(InterfaceDevice):
    """A receive queue of an interface: every frame, or the outer packets of these tunnels.

    As a port (``protocols`` not given) it takes every frame that comes to the queue, so
    the kernel gets none.  As the underlay it takes only packets of the
    protocols, behind at most one VLAN tag; all else goes to the kernel as before.
    IP fragments go there too: where they are to be put together, use
    :class:`~overlay.io.packet.Packet`.

    Only frames of up to 3822 bytes of IP pass, so ``mtu`` is never more; what is larger is
    not received, and counted as ``DEVICE_OVERRUN``.  Super-frames are cut
    and partial checksums completed before they are sent.  Offloads that put frames together
    on their way in (LRO, GRO in hardware) should be off; so should the stripping of VLAN
    tags (``ethtool -K eth1 rxvlan off``), for such a tag is lost.

    An interface has one program.  Have what is to be received come to the queue:
    ``ethtool -L eth1 combined 1``, or a flow rule.

    ``routed`` is True for an underlay: its packets need the next hop's MAC address.

    :param interface: its name.
    :param queue: number of the receive queue; what is sent leaves by that transmit queue.
    :param protocols: of ``"nvgre"``, ``"stt"`` and ``"vxlan"``: be the underlay of these.
    :param port: VXLAN's UDP port.
    :param local: underlay: addresses of this host; packets to others are left
        alone.  By default all packets to the MAC address that the interface has now.
    :param guard: underlay: packets of the tunnels that come to other queues are
        dropped, so that the kernel does not answer them.
    :param zero_copy: the interface writes to the frames itself, where its driver can.
    :param frames: that may be on their way, in and out together: a power of two,
        64..65536, 4 KiB of memory for each.
    :raises ConfigError: no such interface or queue, not Ethernet, in use by another, or no
        right to.
    :raises OSError: ENOTSUP where the kernel, or the one that this was built for, is too old.
    """

    def __init__(
        self,
        interface: str,
        *,
        queue: int = 0,
        protocols: Iterable[str] | None = None,
        port: int = 4789,
        local: str | Iterable[str] | None = None,
        guard: bool = True,
        zero_copy: bool = False,
        frames: int = 4096,
    ) -> None:
        interface_name(interface)
        names = protocol_names(protocols)
        queue = integer("queue", queue, 0, 65535)
        port = integer("port", port, 1, 65535)
        for name, value in (("guard", guard), ("zero_copy", zero_copy)):
            boolean(name, value)
        if integer("frames", frames, _FRAMES[0], _FRAMES[-1]) not in _FRAMES:
            raise ConfigError("frames", frames, "a power of two, 64..65536")
        locals_ = local_addresses(local)
        with ExitStack() as undo:
            opened: XdpQueue = _open(
                interface,
                queue=queue,
                protocols=sum(1 << PROTOCOLS[name] for name in names),
                port=port,
                addresses=[address.packed for address in locals_],
                frames=frames,
                guard=guard,
                zero_copy=zero_copy,
            )
            undo.callback(opened.close)
            #: Whether the driver runs the program, rather than the kernel after it.
            self.native = opened.native
            super().__init__(interface, [opened], protocols=names, port=port, local=locals_)
            undo.pop_all()


def _open(interface: str, *, queue: int, zero_copy: bool, **options: object) -> XdpQueue:
    try:
        opened: XdpQueue = live().XdpQueue(interface, queue=queue, zero_copy=zero_copy, **options)
        return opened
    except OSError as error:
        wrong = _wrong(error, interface, queue, zero_copy)
        if wrong is None:
            raise
        raise wrong from error


def _wrong(error: OSError, interface: str, queue: int, zero_copy: bool) -> ConfigError | None:
    """What the caller could do about it, or None."""
    step = str(error.filename).rpartition(": ")[2]
    code = error.errno
    if code in (errno.EPERM, errno.EACCES):
        what = "the right to use it: CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF (be root)"
    elif code in (errno.ENODEV, errno.ENXIO):
        what = "an interface that is here"
    elif code == errno.EPROTONOSUPPORT:
        what = "an Ethernet interface"
    elif code == errno.ENETDOWN:
        what = "an interface that is up"
    elif code in (errno.EBUSY, errno.EEXIST) and step == "attach":
        what = "an interface without an XDP program: see `ip link`"
    elif code == errno.EBUSY and step == "bind":
        return ConfigError("queue", queue, "a queue that no other AF_XDP socket has")
    elif code == errno.EINVAL and step == "bind":
        return ConfigError("queue", queue, f"a receive queue of {interface}: see `ethtool -l`")
    elif code == errno.EOPNOTSUPP and step == "bind" and zero_copy:
        return ConfigError("zero_copy", True, f"False: the driver of {interface} cannot")
    else:
        return None
    return ConfigError("interface", interface, what)
