"""Topology: two hosts on one cable, or three on one switch.

Lives here: the underlay: hosts, cables, addresses, MTU, offloads.  What must
not: tunnels and tenants, which are the peers' (peer.py).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from types import TracebackType
from typing import Literal

from overlay.errors import ConfigError

from .host import Host, link, need

__all__ = ["OFFLOADS", "UNDERLAY", "Topology"]

#: The underlay's device in every host.
UNDERLAY = "u0"

#: What ``ethtool -K`` makes of the underlay's devices.  "veth": large packets pass whole,
#: as the kernel has it; "nic": as a network card without tunnel offloads; "wire": every
#: packet is as it would be on a cable, its checksums complete.
OFFLOADS = {
    "veth": "tx on sg on tso on gso on tx-udp-segmentation on tx-udp_tnl-segmentation on"
    " gro off rx-udp-gro-forwarding off",
    "nic": "gro on tso off gso off tx-udp-segmentation off tx-udp_tnl-segmentation off"
    " rx-udp-gro-forwarding on",
    "wire": "gro off tso off gso off tx off",
}


class Topology:
    """Hosts ``a``, ``b`` (and ``c``), which reach one another by IPv4 and IPv6.

    hosts: 2, joined by a cable, or 3, joined by a switch (a host of its own).
    offload: a key of :data:`OFFLOADS`.  mtu: the underlay's, in bytes.
    A context manager; :meth:`close` ends everything that runs in it.
    """

    def __init__(
        self,
        hosts: int = 2,
        *,
        offload: Literal["veth", "nic", "wire"] = "veth",
        mtu: int = 1500,
    ) -> None:
        if hosts not in (2, 3):
            raise ConfigError("hosts", hosts, "2 or 3")
        if offload not in OFFLOADS:
            raise ConfigError("offload", offload, f"one of {', '.join(OFFLOADS)}")
        if not 1280 <= mtu <= 65535:
            raise ConfigError("mtu", mtu, "an integer from 1280 to 65535")
        need("ip", "setpriv", *([] if offload == "veth" else ["ethtool"]))
        self.mtu = mtu
        self.offload: Literal["veth", "nic", "wire"] = offload
        self.hosts: list[Host] = []
        self.switch: Host | None = None
        self._folder: Folder | None = None
        try:
            for name in "abc"[:hosts]:
                self.hosts.append(Host(name))
            self._cable() if hosts == 2 else self._star()
            for number, host in enumerate(self.hosts, 1):
                self._address(host, number)
            for host in self.hosts:
                host.running(UNDERLAY)
            if offload != "veth":
                self.set_offload(offload)
        except BaseException:
            self.close()
            raise

    @property
    def folder(self) -> str:
        """A temporary folder that goes with the topology."""
        if self._folder is None:
            self._folder = Folder()
        return self._folder.path

    def address(self, host: Host, version: int = 4) -> str:
        """The host's underlay address."""
        number = self.hosts.index(host) + 1
        return f"192.0.2.{number}" if version == 4 else f"2001:db8::{number}"

    def set_offload(self, offload: Literal["veth", "nic", "wire"]) -> None:
        """Change what the underlay's devices do for the kernel, now."""
        for host in self.hosts:
            host.run(["ethtool", "-K", UNDERLAY, *OFFLOADS[offload].split()])

    def others(self, host: Host) -> list[Host]:
        """All hosts but this one."""
        return [other for other in self.hosts if other is not host]

    def _cable(self) -> None:
        one, two = self.hosts
        link(one, UNDERLAY, two, UNDERLAY)

    def _star(self) -> None:
        self.switch = switch = Host("switch")
        switch.ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        switch.ip("link", "set", "br0", "mtu", str(self.mtu), "up")
        for host in self.hosts:
            device = f"to-{host.name}"
            link(host, UNDERLAY, switch, device)
            switch.ip("link", "set", device, "mtu", str(self.mtu), "master", "br0", "up")

    def _address(self, host: Host, number: int) -> None:
        host.ip("link", "set", UNDERLAY, "mtu", str(self.mtu))
        host.ip("link", "set", UNDERLAY, "address", f"02:ff:00:00:00:{number:02x}")
        self.address_device(host, UNDERLAY)

    def address_device(self, host: Host, device: str) -> None:
        """Put the host's underlay addresses on a device and bring it up."""
        host.address(device, f"{self.address(host)}/24", f"{self.address(host, 6)}/64")

    def close(self) -> None:
        """End every process of every host, and the hosts."""
        for host in [*self.hosts, *([self.switch] if self.switch else [])]:
            host.close()
        self.hosts, self.switch = [], None
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def __enter__(self) -> Topology:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Folder:
    """A temporary folder that is removed when it is closed, or when this process ends."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="overlay-lab-")
        # A process that waits for the end of its input, which comes with our own end.
        self._broom = subprocess.Popen(
            ["sh", "-c", 'read -r _; sleep 0.2; rm -rf "$1"', "sh", self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def close(self) -> None:
        if self._broom.stdin is not None and not self._broom.stdin.closed:
            self._broom.stdin.close()
            self._broom.wait()
        if os.path.exists(self.path):  # pragma: no cover - the broom was killed
            import shutil

            shutil.rmtree(self.path, ignore_errors=True)
