"""Link: one of the kernel's network interfaces, to be set up.

Lives here: what is changed and counted by its name.  What must not: packets, and
what is only asked: that is :mod:`overlay.io.route`.
The network namespace is the calling thread's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from .netlink import Netlink, attribute

__all__ = ["Link"]

_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914
_GET_MTU, _SET_MTU = 0x8921, 0x8922
_GET_MAC, _SET_MAC = 0x8927, 0x8924
_UP = 1
_ETHERNET = 1
_NEW_LINK = 16  # RTM_NEWLINK
_GSO_MAX_SIZE = 41  # IFLA_GSO_MAX_SIZE
_DROPPED = 11  # column of /proc/net/dev: what the interface could not send


class Link:
    """The interface of this name.  Every call raises :class:`OSError` naming it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _ioctl(self, request: int, value: bytes = b"") -> bytes:
        name = os.fsencode(self.name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                return fcntl.ioctl(control, request, struct.pack("16s24s", name, value))[16:]
            except OSError as error:
                raise OSError(error.errno, f"{self.name}: {error.strerror}") from None

    @property
    def index(self) -> int:
        """Its number."""
        return socket.if_nametoindex(self.name)

    @property
    def mtu(self) -> int:
        """Bytes of the largest IP packet."""
        return int(struct.unpack_from("i", self._ioctl(_GET_MTU))[0])

    @mtu.setter
    def mtu(self, value: int) -> None:
        self._ioctl(_SET_MTU, struct.pack("i", value))

    @property
    def mac(self) -> bytes:
        """Its MAC address, 6 bytes."""
        return self._ioctl(_GET_MAC)[2:8]

    @mac.setter
    def mac(self, value: bytes) -> None:
        self._ioctl(_SET_MAC, struct.pack("H6s", _ETHERNET, value))

    @property
    def up(self) -> bool:
        """Whether it is switched on."""
        return bool(struct.unpack_from("H", self._ioctl(_GET_FLAGS))[0] & _UP)

    @up.setter
    def up(self, value: bool) -> None:
        flags = struct.unpack_from("H", self._ioctl(_GET_FLAGS))[0]
        self._ioctl(_SET_FLAGS, struct.pack("H", flags | _UP if value else flags & ~_UP))

    def limit_gso(self, size: int) -> None:
        """Let the kernel send super-frames of at most ``size`` bytes into it."""
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, self.index, 0, 0)
        with Netlink() as netlink:
            try:
                netlink.ask(_NEW_LINK, body + attribute(_GSO_MAX_SIZE, struct.pack("=I", size)))
            except OSError as error:
                raise OSError(error.errno, f"{self.name}: {error.strerror}") from None

    @property
    def dropped(self) -> int:
        """Frames that the kernel could not send into it since it was made."""
        with open("/proc/thread-self/net/dev") as lines:
            for line in lines:
                name, colon, numbers = line.strip().partition(":")
                if colon and name == self.name:
                    return int(numbers.split()[_DROPPED])
        raise OSError(errno.ENODEV, f"{self.name}: {os.strerror(errno.ENODEV)}")
