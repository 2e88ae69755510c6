"""Networks of a test: namespaces, topologies and peers, each gone when it is left.

What must not live here: how they are made, which is :mod:`overlay.lab`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from overlay.errors import ConfigError
from overlay.lab.host import Host, MissingError, link
from overlay.lab.peer import TENANT, Peer, Segment, has_tap
from overlay.lab.topology import Topology

__all__ = ["Namespaces", "Peers", "Topologies"]


class _Held:
    """Things that are closed, the last one first, when the context ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


class Namespaces(_Held):
    """What the fixture ``overlay_namespaces`` is: a test's network namespaces."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def __call__(self, name: str = "") -> Host:
        """A new namespace, its loopback up; ``name`` is for messages alone."""
        self._count += 1
        return self._stack.enter_context(Host(name or f"ns{self._count}"))

    def link(
        self,
        one: Host,
        other: Host,
        *,
        devices: tuple[str, str] = ("eth0", "eth0"),
        addresses: tuple[str | Iterable[str], str | Iterable[str]] = ((), ()),
        mtu: int | None = None,
    ) -> None:
        """A veth pair between two namespaces, up and with addresses.

        :param devices: the names of its ends.
        :param addresses: of each end one, such as ``"192.0.2.1/24"``, or several.
        :param mtu: of both ends, in bytes.
        """
        link(one, devices[0], other, devices[1], mtu=mtu)
        for host, device, some in zip((one, other), devices, addresses, strict=True):
            # No chatter of the kernel's own, unless it is asked for by an IPv6 address.
            given = [some] if isinstance(some, str) else list(some)
            if not any(":" in address for address in given):
                host.ip("link", "set", device, "addrgenmode", "none")
            host.address(device, *given)
        for host, device in zip((one, other), devices, strict=True):
            host.running(device)


class Topologies(_Held):
    """What the fixture ``overlay_topology`` is: a test's topologies."""

    def __init__(self) -> None:
        super().__init__()
        self._first: Topology | None = None
        self.taken: list[Host] = []  # the hosts that have a peer

    def __call__(self, hosts: int = 2, **options: Any) -> Topology:
        """A new :class:`~overlay.lab.topology.Topology`, by default as on a cable.

        :param hosts: 2 or 3.
        :param options: ``mtu``, and ``offload``, which is ``"wire"`` if not given.
        """
        topology = self._stack.enter_context(Topology(hosts, **{"offload": "wire", **options}))
        self._first = self._first or topology
        return topology

    def first(self) -> Topology:
        """The test's first topology, made now if there is none."""
        return self._first or self()


class Peers(_Held):
    """What ``overlay_kernel_vxlan`` and ``overlay_ovs`` are: peers of these kinds.

    absent: is told what a peer misses; it does not return.
    """

    def __init__(
        self,
        topologies: Topologies,
        kinds: Sequence[type[Peer]],
        absent: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._topologies, self._kinds, self._absent = topologies, kinds, absent

    def __call__(
        self,
        *,
        tunnel: str = "",
        topology: Topology | None = None,
        host: Host | None = None,
        **segment: Any,
    ) -> Peer:
        """Start a peer; its tenant can be reached through the tunnel.

        :param tunnel: the protocol; the first that this kind of peer speaks if not given.
        :param topology: where; the test's first one if not given.
        :param host: in which host; the first one without a peer if not given.
        :param segment: ``key``, ``version``, ``checksum`` and ``gbp`` of
            :class:`~overlay.lab.peer.Segment`.
        """
        __tracebackhide__ = True
        tunnel = tunnel or self._kinds[0].tunnels[0]
        spoken = {name: kind for kind in self._kinds for name in kind.tunnels}
        if tunnel not in spoken:
            raise ConfigError("tunnel", tunnel, f"one of {', '.join(spoken)}")
        if self._kinds[0].kind == "ovs" and not has_tap():
            self._absent("Open vSwitch needs /dev/net/tun, which is not open to this user")
        topology = topology or self._topologies.first()
        host = host or self._free(topology)
        peer = spoken[tunnel](topology, host, Segment(tunnel, **segment))
        try:
            peer.start()
        except MissingError as error:
            self._absent(str(error))
        self._stack.callback(_stop, peer)
        self._topologies.taken.append(host)
        return peer

    def _free(self, topology: Topology) -> Host:
        for host in topology.hosts:
            if host not in self._topologies.taken:
                return host
        raise ConfigError("host", None, "a host, since each of the topology has a peer")


def _stop(peer: Peer) -> None:
    """Stop a peer that the test may have stopped itself."""
    if peer.host.has(TENANT):
        peer.stop()
