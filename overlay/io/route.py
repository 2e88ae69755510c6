"""Route: how a remote is reached now, and word of when that changes.

Asks the kernel in the network namespace of the calling thread.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from overlay.errors import ConfigError

from .netlink import CREATE, DUMP, REPLACE, Message, Netlink, attribute, attributes, messages

__all__ = [
    "Change",
    "Interface",
    "NextHop",
    "Watch",
    "address_of",
    "interface",
    "interface_of",
    "resolve",
    "watch",
]

_NEW_LINK, _DEL_LINK, _GET_LINK = 16, 17, 18
_NEW_ADDRESS, _DEL_ADDRESS, _GET_ADDRESS = 20, 21, 22
_NEW_ROUTE, _DEL_ROUTE, _GET_ROUTE = 24, 25, 26
_NEW_NEIGHBOR, _DEL_NEIGHBOR, _GET_NEIGHBOR = 28, 29, 30

_LINK, _ADDRESS, _ROUTE, _NEIGHBOR = (
    struct.Struct(f) for f in ("=BxHiII", "=BBBBI", "=8BI", "=BxxxiHBB")
)

_UP, _LOOPBACK, _NO_ARP, _LOWER_UP = 0x1, 0x8, 0x80, 0x10000
_ETHERNET, _LOOPBACK_TYPE = 1, 772
_REACHABLE, _STALE, _DELAY, _PROBE, _STATE_NO_ARP, _PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x40, 0x80
_VALID = _REACHABLE | _STALE | _DELAY | _PROBE | _STATE_NO_ARP | _PERMANENT
_FRESH = _REACHABLE | _STATE_NO_ARP | _PERMANENT
_USE = 0x1
_GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400  # link, neighbour, addresses and routes

_LOCAL = 2  # a route to this host
_DISCARD = 9
_MOST = 65535  # bytes that an IP packet can have

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Interface:
    """A network interface; ``mac`` is 6 bytes, or None where it has none."""

    name: str
    index: int
    mtu: int
    mac: bytes | None
    up: bool


@dataclass(frozen=True)
class NextHop:
    """How packets to a remote leave.

    ``gateway`` is the router's address, None for a remote on the link itself.
    ``mac``, 6 bytes, is where they go on the link: None while the kernel asks for it.
    ``local`` and ``local_mac`` are this host's; ``mtu`` is the smaller of
    the route's and the link's, in bytes of IP.
    """

    interface: str
    index: int
    local: str
    gateway: str | None
    mac: bytes | None
    local_mac: bytes | None
    mtu: int


@dataclass(frozen=True)
class Change:
    """Something that may have changed how remotes are reached.

    ``kind`` is ``"link"``, ``"address"``, ``"route"``, ``"neighbor"``, or
    ``"lost"``: word of some changes did not arrive, so ask about everything.
    ``interface`` is an index, 0 where none is named; ``address`` is that of
    the neighbour, of this host, or of the network routed to, where there is one;
    ``up`` says of a link whether it works, of another thing whether it is there.
    """

    kind: str
    interface: int = 0
    address: str | None = None
    up: bool = True


def resolve(remote: str, local: str | None = None, *, wait: float = 0.0) -> NextHop | None:
    """How packets to ``remote`` leave; None where there is no route.

    Has the kernel ask the next hop for its MAC address where that is unknown or
    was last heard of long ago; without CAP_NET_ADMIN it is made to by a
    datagram to the discard port.

    :param remote: an IPv4 or IPv6 address, a group too.
    :param local: the source address, one of this host (:func:`interface_of` tells), which
        some routes depend on.
    :param wait: seconds to wait for ``mac``.
    :raises ConfigError: not addresses, or not of one family.
    """
    to = _address("remote", remote)
    source = None if local is None else _address("local", local)
    if source is not None and source.version != to.version:
        raise ConfigError("local", local, f"an IPv{to.version} address, as remote is")
    with Netlink() as kernel:
        route = _route(kernel, to, source)
        if route is None:
            return None
        index, gateway, preferred, mtu = route
        link = _interface(kernel, index)
        if link is None:
            return None
        at, flags = link
        mac = _mac(kernel, at, flags, gateway or to, wait)
    return NextHop(
        interface=at.name,
        index=index,
        local=str(source or preferred or ""),
        gateway=None if gateway is None else str(gateway),
        mac=mac,
        local_mac=at.mac,
        mtu=min(at.mtu, mtu or at.mtu, _MOST),
    )


def interface(name: str | int) -> Interface:
    """The interface of this name or index; :class:`ConfigError` where there is none."""
    try:
        index = name if isinstance(name, int) else socket.if_nametoindex(name)
        with Netlink() as kernel:
            found = _interface(kernel, index)
    except (OSError, ValueError):
        found = None
    if found is None:
        raise ConfigError("interface", name, "an interface that is here")
    return found[0]


def interface_of(local: str) -> Interface:
    """The interface that has this address; :class:`ConfigError` where none has."""
    address = _address("local", local)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with Netlink() as kernel:
        for message in kernel.ask(_GET_ADDRESS, _ADDRESS.pack(family, 0, 0, 0, 0), DUMP):
            *_, index = _ADDRESS.unpack_from(message.body)
            found = attributes(message.body[_ADDRESS.size :])
            # IFA_LOCAL, or IFA_ADDRESS where there is no peer
            if message.type == _NEW_ADDRESS and found.get(2, found.get(1)) == address.packed:
                link = _interface(kernel, index)
                if link is not None:
                    return link[0]
    raise ConfigError("local", local, "an address of this host")


def address_of(name: str) -> str:
    """An address of the interface of this name: IPv4 before IPv6, not of its link alone.

    Raises :class:`ConfigError` where it has none.
    """
    index = interface(name).index
    found: list[_Address] = []
    with Netlink() as kernel:
        for message in kernel.ask(_GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0), DUMP):
            *_, at = _ADDRESS.unpack_from(message.body)
            values = attributes(message.body[_ADDRESS.size :])
            packed = values.get(2, values.get(1, b""))
            if message.type == _NEW_ADDRESS and at == index and len(packed) in (4, 16):
                found.append(ipaddress.ip_address(packed))
    for address in sorted(found, key=lambda a: a.version):  # else in the kernel's order
        if not address.is_link_local:
            return str(address)
    raise ConfigError("interface", name, "an interface that has an IP address")


# ---- questions ---------------------------------------------------------------------


def _address(field: str, value: str) -> _Address:
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        raise ConfigError(field, value, "an IPv4 or IPv6 address") from None


def _family(address: _Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _number(found: dict[int, bytes], kind: int) -> int:
    """The number that an attribute is, 0 where it is missing."""
    return int.from_bytes(found.get(kind, b""), sys.byteorder)


def _route(
    kernel: Netlink, to: _Address, source: _Address | None
) -> tuple[int, _Address | None, _Address | None, int] | None:
    """(interface, gateway, preferred source, MTU or 0) of the route."""
    bits = to.max_prefixlen
    body = _ROUTE.pack(_family(to), bits, bits if source else 0, 0, 0, 0, 0, 0, 0)
    body += attribute(1, to.packed)
    if source is not None:
        body += attribute(2, source.packed)
    try:
        answers = kernel.ask(_GET_ROUTE, body)
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
            return None
        raise
    for message in answers:
        if message.type != _NEW_ROUTE:
            continue
        found = attributes(message.body[_ROUTE.size :])
        index = _number(found, 4)
        if _ROUTE.unpack_from(message.body)[7] == _LOCAL:  # IPv6 names the address's own link
            index = socket.if_nametoindex("lo")
        if not index:
            return None
        gateway = found.get(5) or found.get(18, b"")[2:]  # RTA_GATEWAY, or RTA_VIA's
        metrics = attributes(found.get(8, b""))
        return (
            index,
            ipaddress.ip_address(gateway) if gateway else None,
            ipaddress.ip_address(found[7]) if 7 in found else None,
            _number(metrics, 2),
        )
    return None


def _interface(kernel: Netlink, index: int) -> tuple[Interface, int] | None:
    """The interface and its flags."""
    try:
        answers = kernel.ask(_GET_LINK, _LINK.pack(0, 0, index, 0, 0))
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL):
            return None
        raise
    for message in answers:
        if message.type == _NEW_LINK:
            _, kind, _, flags, _ = _LINK.unpack_from(message.body)
            found = attributes(message.body[_LINK.size :])
            mac = found.get(1) if kind in (_ETHERNET, _LOOPBACK_TYPE) else None
            return (
                Interface(
                    name=found.get(3, b"").rstrip(b"\0").decode(errors="surrogateescape"),
                    index=index,
                    mtu=_number(found, 4),
                    mac=mac,
                    up=bool(flags & _UP and flags & _LOWER_UP),
                ),
                flags,
            )
    return None


def _mac(kernel: Netlink, at: Interface, flags: int, hop: _Address, wait: float) -> bytes | None:
    """Where packets to the next hop go on its link."""
    if at.mac is None:
        return None
    if flags & (_LOOPBACK | _NO_ARP):
        return bytes(6)
    if hop.is_multicast:
        packed = hop.packed
        if hop.version == 6:
            return b"\x33\x33" + packed[12:]
        return b"\x01\x00\x5e" + bytes([packed[1] & 0x7F]) + packed[2:]
    mac, state = _neighbor(kernel, at.index, hop)
    if not state & _FRESH:
        _trigger(kernel, at, hop)
        end = time.monotonic() + wait
        while mac is None and time.monotonic() < end:
            time.sleep(0.002)
            mac, state = _neighbor(kernel, at.index, hop)
    return mac


def _neighbor(kernel: Netlink, index: int, hop: _Address) -> tuple[bytes | None, int]:
    """What the kernel knows of a neighbour: its MAC address where that is valid, and the state."""
    body = _NEIGHBOR.pack(_family(hop), index, 0, 0, 0) + attribute(1, hop.packed)
    try:
        answers = kernel.ask(_GET_NEIGHBOR, body)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None, 0
        raise
    for message in answers:
        if message.type == _NEW_NEIGHBOR:
            _, _, state, _, _ = _NEIGHBOR.unpack_from(message.body)
            mac = attributes(message.body[_NEIGHBOR.size :]).get(2)
            return (mac if state & _VALID else None), state
    return None, 0


def _trigger(kernel: Netlink, at: Interface, hop: _Address) -> None:
    """Have the kernel ask the next hop who it is, or whether it is there still."""
    body = _NEIGHBOR.pack(_family(hop), at.index, 0, _USE, 0) + attribute(1, hop.packed)
    try:
        kernel.ask(_NEW_NEIGHBOR, body, CREATE | REPLACE)
    except PermissionError:
        with socket.socket(_family(hop), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
            scope = (0, at.index) if hop.version == 6 and hop.is_link_local else ()
            with contextlib.suppress(OSError):
                s.sendto(b"", (str(hop), _DISCARD, *scope))
    except OSError as error:
        if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.EINVAL):
            raise


# ---- changes -------------------------------------------------------------------------


class Watch:
    """Word of changes: :meth:`read` them when :meth:`fileno` is readable, or have them brought.

    :param callback: called with each :class:`Change`, from a thread of its own.
    """

    def __init__(self, callback: Callable[[Change], None] | None = None) -> None:
        self._netlink = Netlink(_GROUPS)
        self._netlink.socket.setblocking(False)
        self._callback = callback
        self._thread: threading.Thread | None = None
        if callback is not None:
            self._end, self._wake = os.pipe2(os.O_CLOEXEC)
            self._thread = threading.Thread(target=self._serve, name="overlay-route", daemon=True)
            self._thread.start()

    def fileno(self) -> int:
        """Readable when something has changed."""
        return self._netlink.fileno()

    def read(self) -> list[Change]:
        """What has changed since the last call; never waits."""
        changes: list[Change] = []
        while True:
            try:
                data = self._netlink.socket.recv(1 << 16)
            except BlockingIOError:
                return changes
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changes.append(Change("lost"))
                continue
            changes += filter(None, map(_change, messages(data)))

    def _serve(self) -> None:
        assert self._callback is not None
        while True:
            ready, _, _ = select.select([self.fileno(), self._end], [], [])
            if self._end in ready:
                return
            for change in self.read():
                self._callback(change)

    def close(self) -> None:
        """Hear no more; the callback is not called after this, unless it calls this."""
        if self._thread is not None:
            os.write(self._wake, b"x")
            if self._thread is not threading.current_thread():
                self._thread.join()
                os.close(self._end)
            os.close(self._wake)
            self._thread = None
        self._netlink.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def watch(callback: Callable[[Change], None]) -> Watch:
    """Call back with every :class:`Change`, from a thread of its own, until it is closed."""
    return Watch(callback)


def _change(message: Message) -> Change | None:
    kind, body = message
    if kind in (_NEW_LINK, _DEL_LINK) and len(body) >= _LINK.size:
        _, _, index, flags, _ = _LINK.unpack_from(body)
        return Change(
            "link", index, None, kind == _NEW_LINK and bool(flags & _UP and flags & _LOWER_UP)
        )
    if kind in (_NEW_ADDRESS, _DEL_ADDRESS) and len(body) >= _ADDRESS.size:
        *_, index = _ADDRESS.unpack_from(body)
        found = attributes(body[_ADDRESS.size :])
        return Change("address", index, _text(found.get(2, found.get(1))), kind == _NEW_ADDRESS)
    if kind in (_NEW_ROUTE, _DEL_ROUTE) and len(body) >= _ROUTE.size:
        found = attributes(body[_ROUTE.size :])
        index = _number(found, 4)
        return Change("route", index, _text(found.get(1)), kind == _NEW_ROUTE)
    if kind in (_NEW_NEIGHBOR, _DEL_NEIGHBOR) and len(body) >= _NEIGHBOR.size:
        family, index, state, _, _ = _NEIGHBOR.unpack_from(body)
        if family not in (socket.AF_INET, socket.AF_INET6):
            return None  # a bridge's FDB
        address = _text(attributes(body[_NEIGHBOR.size :]).get(1))
        return Change("neighbor", index, address, kind == _NEW_NEIGHBOR and bool(state & _VALID))
    return None


def _text(packed: bytes | None) -> str | None:
    return str(ipaddress.ip_address(packed)) if packed and len(packed) in (4, 16) else None
