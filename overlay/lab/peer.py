"""Peer: a tunnel end point of one kind in one host, and the tenant behind it.

Lives here: the segment that peers share, what every peer can do, and the
kernel's VXLAN.  The other kinds are in ovs.py and vtep.py.
"""

from __future__ import annotations

import abc
import os
from dataclasses import dataclass
from typing import ClassVar

from overlay.errors import ConfigError

from .host import Host
from .topology import Topology

__all__ = ["TENANT", "KernelVxlan", "Peer", "Segment", "has_tap"]

#: The tenant's device in every host.
TENANT = "t0"


def has_tap() -> bool:
    """Whether TAP devices can be made here: /dev/net/tun is there, and open to this user."""
    return os.access("/dev/net/tun", os.R_OK | os.W_OK)


@dataclass(frozen=True)
class Segment:
    """One L2 segment, as every peer of a topology is told of it.

    tunnel: vxlan, nvgre, stt or geneve.  key: VNI, VSID or context ID.  version: of the
    underlay's IP, 4 or 6.  checksum: the outer UDP checksum of VXLAN and GENEVE; None
    for what the peer does unless it is told.  gbp: VXLAN's group policy tag, or None.
    """

    tunnel: str = "vxlan"
    key: int = 5001
    version: int = 4
    checksum: bool | None = True
    gbp: int | None = None

    @property
    def overhead(self) -> int:
        """What the outer headers and the inner Ethernet header take of the underlay's MTU."""
        outer = {4: 20, 6: 40}[self.version]
        return (
            outer + {"vxlan": 8 + 8, "nvgre": 8, "stt": 20 + 18, "geneve": 8 + 8}[self.tunnel] + 14
        )


class Peer(abc.ABC):
    """A tunnel end point in ``host``; its tenant is the host's device ``t0``.

    start: the tenant can reach the others' tenants.  stop: the end point and the
    tenant's device are gone.
    """

    #: The word for it on the command line.
    kind: ClassVar[str]
    #: The tunnels that it speaks.
    tunnels: ClassVar[tuple[str, ...]]

    def __init__(self, topology: Topology, host: Host, segment: Segment) -> None:
        if segment.tunnel not in self.tunnels:
            raise ConfigError(
                "tunnel", segment.tunnel, f"one of {', '.join(self.tunnels)} with {self.kind}"
            )
        self.topology, self.host, self.segment = topology, host, segment
        self.number = topology.hosts.index(host) + 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.host.name}, {self.segment})"

    @property
    def local(self) -> str:
        """The underlay address of this end point."""
        return self.topology.address(self.host, self.segment.version)

    @property
    def remotes(self) -> list[str]:
        """The underlay addresses of the others."""
        others = self.topology.others(self.host)
        return [self.topology.address(other, self.segment.version) for other in others]

    @property
    def mtu(self) -> int:
        """The largest inner packet that fits the underlay."""
        return self.topology.mtu - self.segment.overhead

    @property
    def mac(self) -> str:
        """The tenant's MAC."""
        return f"02:00:00:00:00:{self.number:02x}"

    def address(self, version: int = 4) -> str:
        """The tenant's own address."""
        return f"10.77.0.{self.number}" if version == 4 else f"fd77::{self.number}"

    def start(self) -> None:
        """Bring the end point up, then the tenant."""
        self.bring_up()
        self._tenant()

    @abc.abstractmethod
    def bring_up(self) -> None:
        """Make the end point and the device ``t0``."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Take the end point down; the device ``t0`` goes with it."""

    def restart(self) -> None:
        """Stop, then start: everything learned is forgotten."""
        self.stop()
        self.start()

    def _tenant(self) -> None:
        ip = self.host.ip
        ip("link", "set", "dev", TENANT, "address", self.mac)
        ip("link", "set", "dev", TENANT, "mtu", str(self.mtu), "up")
        ip("address", "add", f"{self.address(4)}/24", "broadcast", "+", "dev", TENANT)
        ip("address", "add", f"{self.address(6)}/64", "dev", TENANT, "nodad")


class KernelVxlan(Peer):
    """The kernel's VXLAN device."""

    kind = "kernel"
    tunnels = ("vxlan",)

    def bring_up(self) -> None:
        segment = self.segment
        checksum: list[str] = []
        if segment.checksum is None:
            pass
        elif segment.version == 4:
            checksum = ["udpcsum" if segment.checksum else "noudpcsum"]
        elif segment.checksum:
            checksum = ["noudp6zerocsumtx", "noudp6zerocsumrx"]
        else:
            checksum = ["udp6zerocsumtx", "udp6zerocsumrx"]
        remotes = self.remotes
        self.host.ip(
            "link", "add", TENANT, "type", "vxlan", "id", str(segment.key), "dstport", "4789",
            "local", self.local, *(["remote", remotes[0]] if len(remotes) == 1 else []),
            *checksum, *(["gbp"] if segment.gbp is not None else []),
        )  # fmt: skip
        if len(remotes) > 1:
            for remote in remotes:
                self.host.run(
                    ["bridge", "fdb", "append", "00:00:00:00:00:00", "dev", TENANT, "dst", remote]
                )
        if segment.gbp is not None:
            self._tag(segment.gbp)

    def _tag(self, policy: int) -> None:
        """The kernel sends a frame's mark as its group policy: mark them all."""
        self.host.run(
            ["nft", "-f", "-"],
            stdin=f"""table netdev tag {{
                chain egress {{
                    type filter hook egress device {TENANT} priority 0;
                    meta mark set {policy}
                }}
            }}
            """,
        )

    def stop(self) -> None:
        if self.segment.gbp is not None:
            self.host.run(["nft", "delete", "table", "netdev", "tag"], check=False)
        self.host.ip("link", "delete", TENANT)
