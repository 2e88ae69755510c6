"""The switch and its twin side by side: the same frames and changes, the outcomes compared.

Ports and the underlay are memory devices; the time between two frames is the caller's.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import overlay
from overlay import NVGRE, STT, VXLAN, DecapError, EncapError, Status, Tunnel
from overlay.io.memory import Memory
from overlay.reference import bridge as model
from overlay.reference import codec

LOCAL = "192.0.2.1"
MTU = 1450

#: A frame that left: ("device", name, frame) or (tunnel, (key, remote), frame).
Left = tuple[str, object, bytes]


def tunnel_to(protocol: str, key: int, local: str, remote: str, **options: Any) -> Tunnel:
    ends = {"local": local, "remote": remote}
    if protocol == "vxlan":
        return VXLAN(vni=key, **ends, **options)
    if protocol == "nvgre":
        return NVGRE(vsid=key, **ends, **options)
    return STT(context_id=key, **ends, **options)


class Switches:
    """A `Vtep` and a `Bridge` that are changed together; every call checks that they agree."""

    def __init__(self, devices: int = 3, **options: Any) -> None:
        self.underlay, self.wire = Memory.pair(underlay=True, mtu=9000)
        pairs = {f"d{n}": Memory.pair(mtu=9000) for n in range(devices)}
        self.near = {name: pair[0] for name, pair in pairs.items()}
        self.far = {name: pair[1] for name, pair in pairs.items()}
        self.vtep = overlay.Vtep(
            LOCAL, underlay=self.underlay, networks=64, macs=4096, seed=1, **options
        )
        self.bridge = model.Bridge()
        self.real: dict[object, Any] = {}
        self.drops: Counter[Status] = Counter()

    def close(self) -> None:
        self.vtep.close()
        for device in (self.underlay, self.wire, *self.near.values(), *self.far.values()):
            device.close()

    # -- changes -----------------------------------------------------------------

    def add_network(self, key: int, tunnel: str = "vxlan", **options: Any) -> model.Network:
        real = self.vtep.add_network(key, tunnel=tunnel, mtu=MTU, **options)
        limit = options.pop("limit", None)
        network = self.bridge.add_network(model.Network(key, tunnel, MTU, **options))
        network.fdb.limit = limit
        self.real[network] = real
        return network

    def remove_network(self, network: model.Network) -> None:
        self.bridge.remove_network(network)
        real = self.real.pop(network)
        self.vtep.remove_network(real)

    def add_port(self, network: model.Network, device: str, **options: Any) -> model.Port:
        real = self.real[network].add_port(self.near[device], **options)
        if options.get("mac"):
            options["mac"] = bytes.fromhex(options["mac"].replace(":", ""))
        port = network.add_port(model.Port(device, **options))
        self.real[port] = real
        return port

    def remove_port(self, network: model.Network, port: model.Port) -> None:
        network.remove_port(port)
        self.real[network].remove_port(self.real.pop(port))

    def add_remote(self, network: model.Network, ip: str, **options: Any) -> model.Remote:
        options.setdefault("tunnel", network.tunnel)
        real = self.real[network].add_remote(ip, **options)
        remote = self.bridge.add_remote(network, model.Remote(ip, **options))
        self.real[remote] = real
        return remote

    def remove_remote(self, network: model.Network, remote: model.Remote) -> None:
        self.bridge.remove_remote(network, remote)
        self.real[network].remove_remote(self.real.pop(remote))

    def bind(
        self, network: model.Network, mac: bytes, where: model.Where, sticky: bool = False
    ) -> None:
        self.real[network].fdb.add(mac, self.real[where], sticky=sticky)
        network.fdb.add(mac, where, sticky=sticky)

    def unbind(self, network: model.Network, mac: bytes) -> None:
        self.real[network].fdb.remove(mac)
        network.fdb.remove(mac)

    def flush(
        self, network: model.Network, where: model.Where | None = None, static: bool = False
    ) -> None:
        kind = "port" if isinstance(where, model.Port) else "remote"
        which = {} if where is None else {kind: self.real[where]}
        gone = self.real[network].fdb.flush(**which, static=static)
        assert gone == network.fdb.flush(where, static=static)

    def know(self, network: model.Network, ip: str, raw: bytes, mac: bytes) -> None:
        self.real[network].neighbors.add(ip, mac)
        network.neighbors[raw] = mac

    # -- traffic -----------------------------------------------------------------

    def local(self, device: str, frame: bytes, now: float = 0.0) -> list[Left]:
        """A frame from a device; what left."""
        if not self.far[device].put([frame]):
            return []  # too short even for a wire
        return self._compare(self.bridge.from_device(device, frame, now))

    def tunnelled(
        self, protocol: str, key: int, source: str, frame: bytes, now: float = 0.0, **options: Any
    ) -> list[Left]:
        """A frame in a packet from a remote; what left."""
        packet = tunnel_to(protocol, key, source, LOCAL, **options).encap(frame)
        self.wire.put([packet])
        inner = codec.decap(packet).frame
        learn = not options.get("gbp_dont_learn", False)
        return self._received(protocol, key, source, inner, learn, now)

    def packet(self, packet: bytes) -> list[Left]:
        """Any bytes at all from the underlay; what left: nothing, where the codec refuses them."""
        self.wire.put([packet])
        try:
            d = codec.decap(packet)
        except DecapError:
            while self.vtep.poll():
                pass
            assert self._left() == []
            self.drops = Counter(self.vtep.stats.total.drops)
            return []
        tunnel: Any = d.tunnel
        learn = not getattr(tunnel, "gbp_dont_learn", False)
        return self._received(d.protocol, d.key, tunnel.local, d.frame, learn)

    def _received(
        self, protocol: str, key: int, source: str, inner: bytes, learn: bool, now: float = 0.0
    ) -> list[Left]:
        left = self._compare(self.bridge.from_remote(protocol, key, source, inner, now, learn))
        network = self.bridge.network_of(protocol, key)
        known = {(r.ip, r.tunnel) for r in network.remotes} if network else set()
        if network and network.accept == "any" and (source, protocol) not in known:
            # Who sends to a network that takes everybody's is a remote from then on.
            newcomer = self.bridge.add_remote(network, model.Remote(source, protocol))
            self.real[newcomer] = self.real[network].remotes[-1]
            assert self.real[newcomer].address == source
        return left

    def check_books(self) -> None:
        """Every frame that came, or was made, went or was dropped by name."""
        stats = self.vtep.stats
        assert stats.total.missing == 0
        for network in self.vtep.networks.values():
            assert network.stats.missing == 0

    def check_tables(self) -> None:
        """Both know the same addresses at the same places."""
        for network in self.bridge.networks:
            known = {
                entry.mac: (entry.where, entry.static, entry.sticky)
                for entry in self.real[network].fdb
            }
            assert known == {
                mac.hex(":"): (self.real[entry.where], entry.stays, entry.sticky)
                for mac, entry in network.fdb
            }

    def _compare(self, results: model.Result) -> list[Left]:
        while self.vtep.poll():
            pass
        expected: list[Left] = []
        for result in results:
            if isinstance(result, model.Drop):
                self.drops[result.status] += 1
                continue
            where = result.where
            if isinstance(where, model.Port):
                expected.append(("device", where.device, result.frame))
                continue
            network = next(n for n in self.bridge.networks if where in n.remotes)
            key = network.key if where.key is None else where.key
            try:  # what a tunnel does to tags is the codec's
                policy = {"inner_vlan": "reject"} if where.tunnel == "nvgre" else {}
                tunnel = tunnel_to(where.tunnel, key, LOCAL, where.ip, **policy)
                packet = codec.encap(tunnel, result.frame)
            except EncapError as error:
                self.drops[error.status] += 1
                continue
            expected.append((where.tunnel, (key, where.ip), codec.decap(packet).frame))
        left = self._left()
        assert Counter(left) == Counter(expected)
        assert Counter(self.vtep.stats.total.drops) == self.drops
        self.check_books()
        return left

    def _left(self) -> list[Left]:
        left: list[Left] = []
        for name, device in self.far.items():
            left += [("device", name, frame) for frame in device.take()]
        for packet in self.wire.take():
            d = overlay.decap(packet)
            left.append((d.protocol, (d.key, d.tunnel.remote), d.frame))
        return left
