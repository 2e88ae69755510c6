"""Namespaces: the kernel, Open vSwitch and overlay's VTEP as devices under test.

Each runs in a host of the lab of its own; the tester is the host at the other end
of the cable, which has no address there.
"""

from __future__ import annotations

import contextlib
import platform
import subprocess

import overlay
from overlay.errors import ConfigError
from overlay.lab.host import need, which
from overlay.lab.ovs import OvsGeneve, OvsGre, OvsVxlan
from overlay.lab.peer import TENANT, KernelVxlan, Peer, Segment
from overlay.lab.topology import UNDERLAY, Topology
from overlay.lab.vtep import OverlayVtep
from overlay.lab.wire import Wire

from .interfaces import InterfaceDevice
from .packet import Setting

__all__ = ["NAMESPACE_DEVICES", "NamespaceDevice"]

#: Device, protocol: what runs in the host.
_PEERS: dict[str, dict[str, type[Peer]]] = {
    "kernel": {"vxlan": KernelVxlan},
    "ovs": {"vxlan": OvsVxlan, "geneve": OvsGeneve, "nvgre": OvsGre},
    "overlay": {"vxlan": OverlayVtep, "nvgre": OverlayVtep, "stt": OverlayVtep},
}
#: The protocols of every device that runs in a namespace.
NAMESPACE_DEVICES = {name: tuple(peers) for name, peers in _PEERS.items()}


def _version(name: str) -> str:
    if name == "kernel":
        return f"Linux {platform.release()}"
    if name == "overlay":
        return f"overlay {overlay.__version__} ({overlay.backend})"
    need("ovs-vswitchd")
    said = subprocess.run(
        [which("ovs-vswitchd") or "", "--version"], capture_output=True, text=True, timeout=10
    ).stdout
    return f"Open vSwitch {said.split()[-1] if said else ''}".strip()


class NamespaceDevice(InterfaceDevice):
    """One of :data:`NAMESPACE_DEVICES`, started in a lab that goes when it is closed.

    :raises ConfigError: it does not speak the protocol.
    :raises LabError: there can be no lab here, or a tool is missing.
    """

    def __init__(self, name: str, setting: Setting, *, profile: str = "rfc") -> None:
        peers = _PEERS[name]
        if setting.protocol not in peers:
            raise ConfigError(
                "protocol", setting.protocol, f"one of {', '.join(peers)} with {name}"
            )
        self.name, self.version = name, _version(name)
        with contextlib.ExitStack() as undo:
            # What leaves is as it would be on a cable: checksums complete, nothing merged.
            topology = undo.enter_context(Topology(offload="wire"))
            tester, host = topology.hosts
            segment = Segment(setting.protocol, setting.key, setting.family, checksum=None)
            peer = peers[setting.protocol](topology, host, segment)
            if isinstance(peer, OverlayVtep):
                peer.profile, peer.flow_id = profile, None
            peer.start()
            undo.callback(peer.stop)
            tester.ip("address", "flush", "dev", UNDERLAY)
            host.ip("address", "flush", "dev", TENANT)
            wires = [undo.enter_context(Wire(one, device)) for one, device in (
                (tester, UNDERLAY), (host, TENANT)
            )]  # fmt: skip
            super().__init__(setting, *wires)
            self._peer = peer
            self._undo = undo.pop_all()

    def reset(self) -> None:
        """Open vSwitch's cached flows go: one packet's would decide on those of the next case."""
        if isinstance(self._peer, (OvsVxlan, OvsGeneve, OvsGre)):
            self._peer.appctl("revalidator/purge")

    def close(self) -> None:
        self._undo.close()
