"""Open vSwitch's userspace datapath: VXLAN, GENEVE, and keyed GRE as an NVGRE end point.

Its daemons run in the host with a database, sockets and logs of their own in
the topology's temporary folder; nothing of the system's Open vSwitch is touched.
"""

from __future__ import annotations

import os
import subprocess
import time
from abc import abstractmethod
from typing import Any

from .host import LabError, need
from .peer import TENANT, Peer, Segment, has_tap
from .topology import UNDERLAY

__all__ = ["OvsGeneve", "OvsGre", "OvsVxlan"]

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_SECONDS = 20.0


class _Ovs(Peer):
    """An Open vSwitch with two bridges: the tenant's, and the underlay's, which has u0."""

    kind = "ovs"
    _folder = ""
    _daemons: tuple[subprocess.Popen[Any], ...] = ()

    @abstractmethod
    def _options(self) -> list[str]:
        """The words after ``set interface`` that make the tunnel."""

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    @property
    def _env(self) -> dict[str, str]:
        folders = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
        return dict.fromkeys(folders, self._folder)

    def _vsctl(self, *words: str) -> str:
        socket = f"--db=unix:{self._path('db.sock')}"
        return self.host.run(
            ["ovs-vsctl", "--timeout=20", socket, *words], env=self._env
        ).stdout.strip()

    def appctl(self, *words: str) -> str:
        """What the running switch answers to ``ovs-appctl``."""
        target = f"--target={self._path('vswitchd.ctl')}"
        return self.host.run(["ovs-appctl", target, *words], env=self._env).stdout

    def bring_up(self) -> None:
        need("ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovsdb-tool", "ethtool")
        if not has_tap():
            raise LabError("Open vSwitch needs /dev/net/tun, which is not open to this user")
        self._folder = os.path.join(self.topology.folder, f"ovs-{self.host.name}")
        os.makedirs(self._folder)
        self.host.run(["ovsdb-tool", "create", self._path("conf.db"), _SCHEMA])
        database = self._daemon(
            "ovsdb-server", self._path("conf.db"), f"--remote=punix:{self._path('db.sock')}",
            f"--unixctl={self._path('ovsdb.ctl')}",
        )  # fmt: skip
        self._wait(database, "db.sock")
        self._vsctl("--no-wait", "init")
        switch = self._daemon(
            "ovs-vswitchd", f"unix:{self._path('db.sock')}", "--disable-system",
            f"--unixctl={self._path('vswitchd.ctl')}",
        )  # fmt: skip
        self._daemons = (switch, database)
        self._wait(switch, "vswitchd.ctl")
        mac = f"02:ff:00:00:00:{self.number:02x}"  # the underlay device's own
        self._vsctl(
            "add-br", "br-u", "--", "set", "bridge", "br-u", "datapath_type=netdev",
            f'other_config:hwaddr="{mac}"',
            "--", "add-port", "br-u", UNDERLAY,
            "--", "add-br", TENANT, "--", "set", "bridge", TENANT, "datapath_type=netdev",
            f'other_config:hwaddr="{self.mac}"',
            "--", "set", "interface", TENANT, f"mtu_request={self.mtu}",
        )  # fmt: skip
        for number, remote in enumerate(self.remotes):
            name = f"tun{number}"
            self._vsctl(
                "add-port", TENANT, name, "--", "set", "interface", name, *self._options(),
                f'options:remote_ip="{remote}"', f'options:local_ip="{self.local}"',
                # Split horizon: no frame from a tunnel into a tunnel.
                "--", "set", "port", name, "protected=true",
            )  # fmt: skip
        # The switch has the underlay now: its addresses are its bridge's.
        self.host.ip("address", "flush", "dev", UNDERLAY)
        self.topology.address_device(self.host, "br-u")
        for device in ("br-u", TENANT):  # it takes frames as they are, checksums and all
            self.host.run(["ethtool", "-K", device, "tx", "off"])

    def _daemon(self, *words: str) -> subprocess.Popen[Any]:
        with open(self._path(f"{words[0]}.log"), "w") as log:
            return self.host.popen(words, stdout=log, stderr=log, env=self._env)

    def _wait(self, daemon: subprocess.Popen[Any], socket: str) -> None:
        """Until the daemon answers at its socket."""
        end = time.monotonic() + _SECONDS
        while not os.path.exists(self._path(socket)):
            if daemon.poll() is not None or time.monotonic() > end:
                raise LabError(f"host {self.host.name}: {self._log(socket)}")
            time.sleep(0.02)

    def _log(self, socket: str) -> str:
        name = "ovsdb-server" if socket.startswith("db") else "ovs-vswitchd"
        with open(self._path(f"{name}.log")) as file:
            lines = file.read().splitlines()
        return f"{name} does not answer: {lines[-1] if lines else 'it says nothing'}"

    def stop(self) -> None:
        for daemon in self._daemons:
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons = ()
        for name in os.listdir(self._folder):
            os.remove(self._path(name))
        os.rmdir(self._folder)
        for device in ("br-u", TENANT):  # they go with the daemon, but not always at once
            if self.host.has(device):
                self.host.run(["ip", "link", "delete", device], check=False)
        self.topology.address_device(self.host, UNDERLAY)


def _checksum(segment: Segment) -> list[str]:
    return [] if segment.checksum is None else [f"options:csum={str(segment.checksum).lower()}"]


class OvsVxlan(_Ovs):
    """Open vSwitch's VXLAN."""

    tunnels = ("vxlan",)

    def _options(self) -> list[str]:
        segment = self.segment
        return [
            "type=vxlan",
            f"options:key={segment.key}",
            *_checksum(segment),
            *(["options:exts=gbp"] if segment.gbp is not None else []),
        ]


class OvsGeneve(_Ovs):
    """Open vSwitch's GENEVE."""

    tunnels = ("geneve",)

    def _options(self) -> list[str]:
        return ["type=geneve", f"options:key={self.segment.key}", *_checksum(self.segment)]


class OvsGre(_Ovs):
    """Open vSwitch's GRE, whose key is all of NVGRE's 32 bits: a FlowID other than 0 misses it."""

    tunnels = ("nvgre",)

    def _options(self) -> list[str]:
        return ["type=gre", f"options:key={self.segment.key << 8}", "options:csum=false"]
