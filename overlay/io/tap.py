"""Tap: a TAP interface, a tenant's port.

What the kernel, a container or a virtual machine sends into the interface is
received; what is sent, it receives.  Needs /dev/net/tun and CAP_NET_ADMIN, or
a persistent interface that belongs to the user.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from overlay.address import mac_address, mac_bytes
from overlay.errors import ConfigError, Status
from overlay.tunnel import boolean, integer

from .device import DeviceStats, QueueDevice, live
from .link import Link

if TYPE_CHECKING:
    from overlay._live import TapQueue

__all__ = ["Tap"]

# So that a super-frame, Ethernet and all outer headers together fit an IP packet.
_SUPER_FRAME_MAX = 65000

_ADVICE = {
    errno.ENOENT: "there is no /dev/net/tun: load the tun module, or give it to the container",
    errno.ENODEV: "the kernel has no TUN/TAP driver: load the tun module",
    errno.EACCES: "/dev/net/tun cannot be opened: give read and write access to it",
    errno.EPERM: "making or setting up an interface needs CAP_NET_ADMIN: "
    "run as root, or make it before by `ip tuntap add mode tap user USER name NAME`",
    errno.EBUSY: "another program has it open, and it has not more than one queue",
    errno.EINVAL: "an interface of this name is no TAP interface with as many queues",
    errno.EADDRNOTAVAIL: "this is no MAC address that an interface can have",
}


class Tap(QueueDevice):
    """The TAP interface of a name, made where there is none, else attached to.

    Super-frames come and go whole where the kernel gives and takes them:
    :attr:`offloads`.  Towards the kernel, packets of one TCP or UDP flow that
    follow each other are put together to one write.

    :param name: at most 15 characters, may hold ``%d``; ``None``: the kernel
        chooses ``tap0``, ``tap1``...
    :param queues: one for each worker that is to use it, 1..256.
    :param mtu: to set, 68..65521; ``None``: as it is.
    :param mac: to set, of the interface itself; ``None``: as it is.
    :param up: whether to switch the interface on.
    :param offload: whether to ask for super-frames and partial checksums.
    :param persist: whether the interface stays when the device is closed.

    Raises :class:`OSError`, which says what to do, where the kernel refuses.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        queues: int = 1,
        mtu: int | None = None,
        mac: str | bytes | None = None,
        up: bool = True,
        offload: bool = True,
        persist: bool = False,
    ) -> None:
        if name is not None and (
            not isinstance(name, str)
            or not 0 < len(name.encode()) < 16
            or name in (".", "..")
            or any(c in "/:\0" or c.isspace() for c in name)
        ):
            raise ConfigError("name", name, "the name of an interface, 1..15 bytes")
        count = integer("queues", queues, 1, 256)
        if mtu is not None:
            integer("mtu", mtu, 68, 65521)
        address = None if mac is None else mac_bytes(mac_address("mac", mac))
        for field, value in (("up", up), ("offload", offload), ("persist", persist)):
            boolean(field, value)
        opened: list[TapQueue] = []
        asked = "tap%d" if name is None else name
        module = live()
        try:
            for _ in range(count):
                queue = module.TapQueue(
                    opened[0].name if opened else asked,
                    multi_queue=count > 1,
                    offload=offload,
                    persist=persist,
                )
                opened.append(queue)
            #: Its MTU, its addresses, its state.
            self.link = Link(opened[0].name)
            if mtu is not None:
                self.link.mtu = mtu
            if address is not None:
                self.link.mac = address
            if offload:
                with suppress(OSError):  # an interface of the user's own, as it was made
                    self.link.limit_gso(_SUPER_FRAME_MAX)
            if up and not self.link.up:
                self.link.up = True
            self._dropped = self._overrun = 0
            self._dropped = self._drops()
            for queue in opened:
                queue.refresh()
        except OSError as error:
            for queue in opened:
                queue.close()
            advice = _ADVICE.get(error.errno or 0, error.strerror)
            raise OSError(error.errno, f"TAP interface {asked}: {advice}") from None
        super().__init__(opened)
        self._taps = tuple(opened)

    @property
    def name(self) -> str:
        """The interface's name."""
        return self.link.name

    @property
    def offloads(self) -> tuple[str, ...]:
        """What the kernel leaves undone in frames that it gives: of ``checksum``,
        ``tso4``, ``tso6``, ``tso-ecn``, ``uso4``, ``uso6``."""
        return tuple(self._taps[0].offloads)

    def refresh(self) -> None:
        """Read :attr:`mtu` and :attr:`mac` again, where somebody has changed them."""
        for queue in self._taps:
            queue.refresh()

    def _drops(self) -> int:
        """Frames dropped since the device was opened; while the interface is in
        another network namespace, as many as there were before."""
        with suppress(OSError):
            self._overrun = self.link.dropped - self._dropped
        return self._overrun

    @property
    def stats(self) -> DeviceStats:
        """What has passed all queues.

        ``DEVICE_OVERRUN`` counts the frames that found the interface's queue
        full because nobody called :meth:`recv` in time.
        """
        if self.closed:
            return super().stats
        lost = {Status.DEVICE_OVERRUN: drops} if (drops := self._drops()) else {}
        return super().stats + DeviceStats(lost=lost)
