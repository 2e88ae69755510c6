"""Reflector: gives datagrams back to who sent them, as AWS Gateway Load Balancer expects.

The datagram returns unchanged, GENEVE header and options and all; the outer
addresses change places, the UDP ports do not.  Needs no root: it sends from
sockets that are bound to the ports that the senders use.
"""

from __future__ import annotations

import ipaddress
import resource
import socket
import struct
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from overlay.batch import Batch
from overlay.errors import ConfigError
from overlay.tunnel import integer

__all__ = ["Reflector"]

_DATAGRAM = 3  # of the column of link types
_SENDERS = 4096  # addresses that are remembered
_SPARE = 64  # descriptors that are left to others

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Reflector:
    """Returns the GENEVE datagrams of a batch that a :class:`~overlay.io.udp.Udp` received.

    A datagram from another network, from an address of this host, or one that is no
    GENEVE, is not returned: so nothing is reflected to whoever has a forged address, and
    nothing goes in circles within this host.  Two hosts that reflect to each other would
    not stop: name the load balancer's network and nothing more.

    :param networks: where the senders are, such as ``"10.0.1.0/28"``.
    :param port: the UDP port to return to, which is the port to receive at, 1..65535.
    :param sockets: most source ports to keep open, 1..65536; by default half of what the
        process may open.
    """

    def __init__(
        self, networks: Iterable[str], port: int = 6081, *, sockets: int | None = None
    ) -> None:
        self._networks = [_network(text) for text in networks]
        if not self._networks:
            raise ConfigError("networks", (), "at least one network")
        self._port = integer("port", port, 1, 65535)
        if sockets is None:
            open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            self._most = max(1, min(4096, open_files // 2 - _SPARE))
        else:
            self._most = integer("sockets", sockets, 1, 65536)
        self._sockets: OrderedDict[bytes, socket.socket] = OrderedDict()
        self._known: dict[bytes, bool] = {}
        #: Datagrams that went back; those that did not.
        self.returned = self.kept = 0

    def send(self, batch: Batch) -> int:
        """Return what can be; how many went.  Call it before decap: that may change bytes."""
        before = self.returned
        view = batch.data.data
        rows = np.flatnonzero((batch.status == 0) & (batch.link == _DATAGRAM))
        self.kept += batch.count - rows.size
        columns = (batch.offset[rows], batch.length[rows], batch.outer[rows])
        for at, size, outer in zip(*(column.tolist() for column in columns), strict=True):
            if self._return(view[outer : outer + 48], view[at : at + size]):
                self.returned += 1
            else:
                self.kept += 1
        return self.returned - before

    def _return(self, outer: memoryview, datagram: memoryview) -> bool:
        if len(datagram) < 8 or datagram[0] >> 6 or 8 + 4 * (datagram[0] & 63) > len(datagram):
            return False
        if outer[0] >> 4 == 4:
            sender, here, port = bytes(outer[12:16]), bytes(outer[16:20]), outer[20:22]
        else:
            sender, here, port = bytes(outer[8:24]), bytes(outer[24:40]), outer[40:42]
        known = self._known.get(sender)
        if known is None:
            known = self._know(sender)
        if not known:
            return False
        try:
            end = self._socket(here, bytes(port))
            end.sendto(datagram, (str(ipaddress.ip_address(sender)), self._port))
        except OSError:
            return False
        return True

    def _know(self, sender: bytes) -> bool:
        """Whether it may have its datagrams back; remembered."""
        address = ipaddress.ip_address(sender)
        good = any(address in network for network in self._networks) and not _own(address)
        if len(self._known) == _SENDERS:
            self._known.clear()
        self._known[sender] = good
        return good

    def _socket(self, here: bytes, port: bytes) -> socket.socket:
        key = here + port
        found = self._sockets.get(key)
        if found is not None:
            self._sockets.move_to_end(key)
            return found
        if len(self._sockets) == self._most:
            self._sockets.popitem(last=False)[1].close()
        made = socket.socket(
            socket.AF_INET if len(here) == 4 else socket.AF_INET6, socket.SOCK_DGRAM
        )
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # nothing is for it
            made.bind((str(ipaddress.ip_address(here)), struct.unpack("!H", port)[0]))
        except OSError:
            made.close()
            raise
        self._sockets[key] = made
        return made

    def close(self) -> None:
        """Give the sockets back."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def __enter__(self) -> Reflector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError("networks", text, "a network, such as 10.0.1.0/28") from None


def _own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it is one of this host: then the kernel would send to it from itself."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ipaddress.ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False
