"""Udp: sockets as the underlay of VXLAN, IPv4 or IPv6, without root.

The kernel writes and reads the outer headers, finds routes and neighbours,
cuts trains of datagrams as late as it can and puts them together as early.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from overlay.address import ip_address, is_multicast
from overlay.batch import Batch
from overlay.errors import ConfigError
from overlay.tunnel import boolean, integer

from .device import QueueDevice, live

if TYPE_CHECKING:
    from overlay._live import UdpQueue

__all__ = ["Udp", "UdpError"]

_ADVICE = {
    errno.EADDRINUSE: "the port is taken there, perhaps by the kernel's own VXLAN device: "
    "`ss -lnup` names who has it",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
    errno.EAFNOSUPPORT: "the kernel has no such address family",
    errno.EMFILE: "too many open files: raise `ulimit -n`",
}


@dataclass(frozen=True)
class UdpError:
    """What the network said of a packet that was sent.

    ``remote``: where it was to go.  ``mtu``: bytes of IP that the path takes,
    0 where that was not said; ``None``: the remote, its network or its port
    cannot be reached.
    """

    remote: str
    mtu: int | None

    @property
    def kind(self) -> str:
        """``"too-big"`` or ``"unreachable"``."""
        return "unreachable" if self.mtu is None else "too-big"


class Udp(QueueDevice):
    """An underlay device: whole outer IP/UDP packets to send, UDP payloads received.

    A packet goes by the sender that its source port chooses (its remainder by
    ``senders``), so that flows spread over as many ports, 49152..65535.  Its
    destination, TOS, TTL, DF and destination port are the packet's own; source
    address and source port are the sender's.  A packet without DF is cut to
    fragments where it is too long, one with DF gets ``MTU_EXCEEDED``; IPv6 packets
    are never cut.  Multicast goes with the TTL ``multicast_ttl``.

    Rows of :meth:`recv` have the link ``3`` and begin at the VXLAN header;
    ``outer`` tells where the IP and UDP header are that were made for them.
    Several rows may share one, and only rows that came alone have headroom.

    :param local: the address to receive at and send from, or ``0.0.0.0`` or
        ``::`` for any; then packets go from their own source address.
    :param port: UDP port to receive at, 1..65535.
    :param queues: one for each worker, 1..256; each has senders of its own.
    :param senders: sockets to send from, at most 64; 0 for a device that only receives.
    :param interface: name of the interface for multicast and link-local
        addresses; ``None``: the one that has ``local``.
    :param checksum: whether UDP checksums are sent.  Off, packets that are sent
        one by one go without, which receivers do not put together to trains;
        and zero checksums are received over IPv6.
    :param receive_buffer: bytes that may wait in the kernel for each queue;
        root gets them all, others up to ``net.core.rmem_max``.
    :param multicast_ttl: 1..255.
    :param timestamps: whether the kernel says when it received what, for :meth:`recv_stamped`.

    Raises :class:`OSError`, which says what to do, where the kernel refuses.
    """

    #: The kernel writes the outer headers: what packets say of their link does not matter.
    bare = True

    def __init__(
        self,
        local: str | bytes | ipaddress.IPv4Address | ipaddress.IPv6Address,
        port: int = 4789,
        *,
        queues: int = 1,
        senders: int = 16,
        interface: str | None = None,
        checksum: bool = True,
        receive_buffer: int = 8 << 20,
        multicast_ttl: int = 1,
        timestamps: bool = False,
    ) -> None:
        #: The address, canonical.
        self.local = ip_address("local", local)
        if is_multicast(self.local):
            raise ConfigError("local", local, "an address of this machine")
        #: The port at which it receives.
        self.port = integer("port", port, 1, 65535)
        count = integer("queues", queues, 1, 256)
        integer("senders", senders, 0, 64)
        boolean("checksum", checksum)
        boolean("timestamps", timestamps)
        integer("receive_buffer", receive_buffer, 4096, 2**30)
        integer("multicast_ttl", multicast_ttl, 1, 255)
        opened: list[UdpQueue] = []
        module = live()
        try:
            for _ in range(count):
                opened.append(  # noqa: PERF401 - what is open is closed below
                    module.UdpQueue(
                        ipaddress.ip_address(self.local).packed,
                        port,
                        senders=senders,
                        interface=_index(interface),
                        shared=count > 1,
                        checksum=checksum,
                        multicast_ttl=multicast_ttl,
                        receive_buffer=receive_buffer,
                        timestamps=timestamps,
                    )
                )
        except OSError as error:
            for queue in opened:
                queue.close()
            raise _explained(error, f"UDP {self.local} port {port}") from None
        super().__init__(opened, underlay=True)
        self._sockets = tuple(opened)

    def recv_stamped(self, batch: Batch, times: npt.NDArray[np.int64], queue: int = 0) -> int:
        """As :meth:`recv`, from the queue of this number, with the time of every row.

        :param times: int64, as many as the batch has room for rows: gets when the
            kernel received each, nanoseconds since 1970; of datagrams that it put
            together to one train, when it had the first.  0 without ``timestamps``.
        """
        if times.size < batch.capacity:
            raise ConfigError("times", f"<{times.size} rows>", f"{batch.capacity} rows")
        return self._sockets[queue].recv_stamped(batch, times)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that packets are sent from, of all queues."""
        return tuple(port for queue in self._sockets for port in queue.ports)

    @property
    def trains(self) -> tuple[bool, bool]:
        """Whether one system call sends, and receives, many datagrams."""
        return self._sockets[0].trains

    def refresh(self) -> None:
        """Read :attr:`mtu` and :attr:`mac` again, where somebody has changed them."""
        for queue in self._sockets:
            queue.refresh()

    def join(self, group: str | bytes, interface: str | None = None) -> None:
        """Receive what is sent to a multicast group as well; once is enough.

        :param interface: name of the interface; ``None``: the device's own.

        From any thread that is in the device's network namespace.  Raises
        :class:`OSError`.
        """
        self._member(group, interface, self._sockets[0].join, errno.EADDRINUSE)

    def leave(self, group: str | bytes, interface: str | None = None) -> None:
        """Receive it no more; nothing happens where it was not joined."""
        self._member(group, interface, self._sockets[0].leave, errno.EADDRNOTAVAIL)

    def _member(
        self,
        group: str | bytes,
        interface: str | None,
        change: Callable[[bytes, int], None],
        already: int,
    ) -> None:
        address = ip_address("group", group)
        packed = ipaddress.ip_address(address).packed
        if not is_multicast(address) or (":" in address) != (":" in self.local):
            family = "IPv6" if ":" in self.local else "IPv4"
            raise ConfigError("group", group, f"an {family} multicast address")
        try:
            change(packed, _index(interface))
        except OSError as error:
            if error.errno != already:
                raise _explained(error, f"UDP {self.local}, group {address}") from None

    def errors(self) -> list[UdpError]:
        """What the network has said since the last call of packets sent.

        From any thread.  Anyone who can guess a sender's port can forge it.
        """
        return [
            UdpError(str(ipaddress.ip_address(remote)), mtu)
            for queue in self._sockets
            for remote, mtu in queue.errors()
        ]


def _index(interface: str | None) -> int:
    if interface is None:
        return 0
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no interface {interface}") from None


def _explained(error: OSError, what: str) -> OSError:
    return OSError(error.errno, f"{what}: {_ADVICE.get(error.errno or 0, error.strerror)}")
