"""``overlay run`` as a peer: a process of its own, from a configuration file of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from .host import LabError
from .peer import TENANT, Peer, has_tap

__all__ = ["OverlayVtep"]

_SECONDS = 20.0
#: The switch's end of the tenant's device, where that is no TAP.
_BEHIND = "t0-port"


class OverlayVtep(Peer):
    """This package's VTEP.

    The tenant is on a TAP device; where there can be none, on one end of a veth
    pair whose other end the VTEP has.  ``more``: further lines of its network's
    table in the configuration.  ``profile``: what it receives.  ``flow_id``: of NVGRE;
    None for one by the flow.
    """

    kind = "overlay"
    tunnels = ("vxlan", "nvgre", "stt")
    more: tuple[str, ...] = ()
    workers = 1
    profile = "rfc"
    flow_id: int | None = 0
    _process: subprocess.Popen[Any] | None = None

    @property
    def folder(self) -> str:
        """Where its configuration, its log and its control socket are."""
        return os.path.join(self.topology.folder, f"overlay-{self.host.name}")

    @property
    def control(self) -> str:
        """The control socket, for ``overlay ctl``."""
        return os.path.join(self.folder, "ctl.sock")

    @property
    def log(self) -> str:
        """What it has said on standard error."""
        try:
            with open(os.path.join(self.folder, "log")) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    @property
    def _options(self) -> str:
        """NVGRE as Open vSwitch has it: no FlowID, which it takes for a part of the key."""
        fixed = self.segment.tunnel == "nvgre" and self.flow_id is not None
        return f"flow_id = {self.flow_id}" if fixed else ""

    def configuration(self) -> str:
        """The file that ``overlay run`` is given."""
        segment = self.segment
        checksum = segment.checksum
        remotes = ", ".join(f'"{remote}"' for remote in self.remotes)
        port = f'tap = "{TENANT}"' if has_tap() else f'interface = "{_BEHIND}"'
        lines = [
            "[vtep]",
            f'local = "{self.local}"',
            f'tunnel = "{segment.tunnel}"',
            f'profile = "{self.profile}"',
            *([] if checksum is None else [f"checksum = {str(checksum).lower()}"]),
            f"workers = {self.workers}",
            f'control = "{self.control}"',
            'drop_privileges = "none"',
            "",
            "[[network]]",
            f"id = {segment.key}",
            f"remotes = [{remotes}]",
            *([f"gbp = {segment.gbp}"] if segment.gbp is not None else []),
            *([f"options = {{ {self._options} }}"] if self._options else []),
            *self.more,
            "",
            "[[network.port]]",
            port,
        ]
        return "\n".join(lines) + "\n"

    def bring_up(self) -> None:
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, "overlay.toml")
        with open(path, "w") as file:
            file.write(self.configuration())
        if not has_tap():
            self.host.ip("link", "add", TENANT, "type", "veth", "peer", "name", _BEHIND)
            self.host.ip("link", "set", "dev", _BEHIND, "mtu", "9216", "up")
        ready = os.path.join(self.folder, "ready.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(ready)
            try:
                with open(os.path.join(self.folder, "log"), "w") as log:
                    self._process = self.host.popen(
                        [sys.executable, "-m", "overlay", "run", path],
                        stdout=log,
                        stderr=log,
                        env={"NOTIFY_SOCKET": ready},
                    )
                self._await(notices, self._process)
            finally:
                os.unlink(ready)

    def _await(self, notices: socket.socket, process: subprocess.Popen[Any]) -> None:
        """Until it says that it is ready."""
        notices.settimeout(0.1)
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                if "READY=1" in notices.recv(4096).decode(errors="replace").split("\n"):
                    return
            except TimeoutError:
                pass
        said = self.log.strip().splitlines()
        raise LabError(f"host {self.host.name}: overlay run: {said[-1] if said else 'no answer'}")

    @property
    def pid(self) -> int:
        """Its process."""
        if self._process is None:
            raise LabError(f"host {self.host.name}: overlay is not running")
        return self._process.pid

    def reload(self, configuration: str) -> None:
        """Give it another configuration, by SIGHUP."""
        with open(os.path.join(self.folder, "overlay.toml"), "w") as file:
            file.write(configuration)
        os.kill(self.pid, signal.SIGHUP)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._remove()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise LabError(f"host {self.host.name}: overlay run does not end") from None
            status, self._process = self._process.returncode, None
            if status not in (0, 128 + signal.SIGTERM):
                said = self.log.strip().splitlines()
                raise LabError(
                    f"host {self.host.name}: overlay run ended with {status}:"
                    f" {said[-1] if said else ''}"
                )
        self._remove()

    def _remove(self) -> None:
        if self.host.has(_BEHIND):
            self.host.ip("link", "delete", _BEHIND)
