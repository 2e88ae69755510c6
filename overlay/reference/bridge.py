"""The switch of a VTEP as a state machine: frames in, frames out and drops by name.

Ports, remotes and the order of the checks.  No device, no clock, no tunnel header: a frame
comes from a port's device or, decapsulated, from a tunnel, with the time at which it came.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from overlay.errors import ConfigError, Status

from . import icmp, neighbor
from .fdb import Fdb
from .inner import ETHERNET, TAG, TPID_C

__all__ = ["Bridge", "Drop", "Network", "Output", "Port", "Remote"]

# ---- places ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Port:
    """A local place: all of a device, or the frames of one VLAN on it."""

    device: str
    vlan: int | None = None
    mac: bytes | None = None


@dataclass(frozen=True, eq=False)
class Remote:
    """A VTEP on the other side of a tunnel."""

    ip: str
    tunnel: str = "vxlan"
    key: int | None = None
    relay: bool = False
    flood: bool = True


Where = Port | Remote


@dataclass(frozen=True)
class Output:
    """A frame that leaves; ``reason`` is "answer" for what the switch says itself."""

    where: Where
    frame: bytes
    reason: str = "forward"


@dataclass(frozen=True)
class Drop:
    """A frame, or a copy of one, that does not leave."""

    status: Status


Result = list[Output | Drop]


@dataclass(eq=False)
class Network:
    """One broadcast domain."""

    key: int
    tunnel: str = "vxlan"
    mtu: int = 1450
    learn: bool = True
    suppress_arp: bool = False
    accept: str = "listed"
    gbp: int | None = None
    ports: list[Port] = field(default_factory=list)
    remotes: list[Remote] = field(default_factory=list)
    fdb: Fdb[Where] = field(default_factory=Fdb)
    neighbors: dict[bytes, bytes] = field(default_factory=dict)

    def add_port(self, port: Port) -> Port:
        self.ports.append(port)
        if port.mac:
            self.fdb.add(port.mac, port, own=True)
        return port

    def remove_port(self, port: Port) -> None:
        self.ports.remove(port)
        self.fdb.flush(port, static=True)


# ---- the switch --------------------------------------------------------------


class Bridge:
    """Networks by tunnel and key, and ports by device and VLAN."""

    def __init__(self) -> None:
        self.networks: list[Network] = []

    def add_network(self, network: Network) -> Network:
        self._check_key(network.tunnel, network.key, network)
        self.networks.append(network)
        return network

    def remove_network(self, network: Network) -> None:
        self.networks.remove(network)

    def add_remote(self, network: Network, remote: Remote) -> Remote:
        self._check_key(remote.tunnel, network.key if remote.key is None else remote.key, network)
        network.remotes.append(remote)
        return remote

    def remove_remote(self, network: Network, remote: Remote) -> None:
        network.remotes.remove(remote)
        network.fdb.flush(remote, static=True)

    def network_of(self, tunnel: str, key: int) -> Network | None:
        """Whose frames come by this tunnel with this key: the network's, or one of its remotes'."""
        for network in self.networks:
            theirs = [(r.tunnel, network.key if r.key is None else r.key) for r in network.remotes]
            if (tunnel, key) in [(network.tunnel, network.key), *theirs]:
                return network
        return None

    def _check_key(self, tunnel: str, key: int, network: Network) -> None:
        if self.network_of(tunnel, key) not in (None, network):
            raise ConfigError("key", key, f"a {tunnel} key that no other network has")

    # -- from a device ---------------------------------------------------------

    def from_device(self, device: str, frame: bytes, now: float, mss: int = 0) -> Result:
        """A frame as the device gave it: the port is the one that has its VLAN."""
        if len(frame) < ETHERNET:
            return [Drop(Status.FRAME_TOO_SHORT)]
        ports = self._ports_of(device)
        vid = _vid(frame)
        if vid is not None and vid in ports:
            network, port = ports[vid]
            return self.from_port(network, port, frame[:12] + frame[16:], now, mss)
        if None not in ports:
            return [Drop(Status.PORT_VLAN)]
        network, port = ports[None]
        return self.from_port(network, port, frame, now, mss)

    def from_port(
        self, network: Network, port: Port, frame: bytes, now: float, mss: int = 0
    ) -> Result:
        """A frame from one port, without that port's tag."""
        refused = _check(network, port, frame)
        if refused:
            return [Drop(refused)]
        if network.learn:
            network.fdb.learn(frame[6:12], port, now)

        asked = neighbor.request(frame) if network.suppress_arp else None
        mac = network.neighbors.get(asked.target) if asked else None
        if asked and mac and mac not in (asked.mac, asked.ethernet):
            reply = self._egress(port, neighbor.answer(asked, mac), "answer")
            return [reply, Drop(Status.SUPPRESSED)]

        entry = None if frame[0] & 1 else network.fdb.lookup(frame[0:6])
        if entry is None:
            flooded = [remote for remote in network.remotes if remote.flood]
            others = [other for other in network.ports if other is not port]
            return self._send(network, [*others, *flooded], frame, port, mss)
        if entry.where is port:
            return [Drop(Status.SAME_PORT)]
        return self._send(network, [entry.where], frame, port, mss)

    # -- from a tunnel ---------------------------------------------------------

    def from_remote(
        self, tunnel: str, key: int, source: str, frame: bytes, now: float, learn: bool = True
    ) -> Result:
        """A frame that decap took from a packet of this source address.

        ``learn`` is false where the packet has the D bit of VXLAN's group policy, which is heard
        in networks that have a policy and is a reserved bit in others.
        """
        network = self.network_of(tunnel, key)
        if network is None:
            return [Drop(Status.UNKNOWN_KEY)]
        if len(frame) < ETHERNET:
            return [Drop(Status.INNER_TOO_SHORT)]
        known = [r for r in network.remotes if (r.ip, r.tunnel) == (source, tunnel)]
        remote = known[0] if known else None
        if remote is None and network.accept == "listed":
            return [Drop(Status.UNKNOWN_REMOTE)]
        refused = _check(network, remote, frame)
        if refused:
            return [Drop(refused)]
        if remote and network.learn and (learn or network.gbp is None):
            network.fdb.learn(frame[6:12], remote, now)

        entry = None if frame[0] & 1 else network.fdb.lookup(frame[0:6])
        if entry is None:
            onward = [r for r in network.remotes if r.flood and _may_go(remote, r)]
            return self._send(network, [*network.ports, *onward], frame)
        where = entry.where
        if where is remote:
            return [Drop(Status.SAME_PORT)]
        if isinstance(where, Remote) and not _may_go(remote, where):
            return [Drop(Status.NO_DESTINATION)]
        return self._send(network, [where], frame)

    # -- out -------------------------------------------------------------------

    def _send(
        self,
        network: Network,
        targets: list[Where],
        frame: bytes,
        sender: Port | None = None,
        mss: int = 0,
    ) -> Result:
        """The frame to each of these places, as far as it may and fits."""
        if not targets:
            return [Drop(Status.NO_DESTINATION)]
        is_big = icmp.l3_length(frame, mss) > network.mtu
        results: Result = []
        for where in targets:
            if isinstance(where, Port):
                results.append(self._egress(where, frame))
            elif is_big:
                results.append(Drop(Status.MTU_EXCEEDED))
            else:
                results.append(Output(where, frame))
        if sender and Drop(Status.MTU_EXCEEDED) in results:
            told = icmp.too_big(frame, network.mtu)
            if told:
                results.insert(0, self._egress(sender, told, "answer"))
        return results

    def _egress(self, port: Port, frame: bytes, reason: str = "forward") -> Output | Drop:
        """The frame as the port's device carries it.

        A port without a VLAN sends no frame with the tag of another port of its device: on the
        device's other side that frame would be in the other port's network.
        """
        if port.vlan is not None:
            tag = struct.pack("!HH", TPID_C, port.vlan)
            return Output(port, frame[:12] + tag + frame[12:], reason)
        if _vid(frame) in self._ports_of(port.device).keys() - {None}:
            return Drop(Status.PORT_VLAN)
        return Output(port, frame, reason)

    def _ports_of(self, device: str) -> dict[int | None, tuple[Network, Port]]:
        """The ports of a device by their VLAN."""
        return {p.vlan: (n, p) for n in self.networks for p in n.ports if p.device == device}


# ---- steps -------------------------------------------------------------------


def _vid(frame: bytes) -> int | None:
    """The VLAN of a frame that is tagged by 802.1Q and goes on behind the tag."""
    tpid, tci = struct.unpack_from("!HH", frame.ljust(ETHERNET + TAG, b"\0"), 12)
    return int(tci) & 0xFFF if tpid == TPID_C and len(frame) >= ETHERNET + TAG else None


def _check(network: Network, where: Where | None, frame: bytes) -> Status:
    """Why the frame's addresses are refused, or OK."""
    destination, source = frame[0:6], frame[6:12]
    if source == bytes(6) or source[0] & 1:
        return Status.SOURCE_MAC
    if destination[:5] == b"\x01\x80\xc2\0\0" and destination[5] < 16:
        return Status.RESERVED_MAC
    return network.fdb.check(source, where)


def _may_go(source: Remote | None, target: Remote) -> bool:
    """Split horizon: from one tunnel into another only where a relay is at either end."""
    return source is not target and (target.relay or (source is not None and source.relay))
