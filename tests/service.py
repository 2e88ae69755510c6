"""``overlay run`` as the tests of it see it: a process in a host of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from command import run
from conftest import missing
from lab import need_hosts, need_tools
from overlay.lab.host import Host
from overlay.service.client import Client

#: Far longer than anything takes on a busy machine.
PATIENCE = 30.0

BLUE = """\
[vtep]
local = "u0"
control = "SOCKET"
metrics = "127.0.0.1:9472"

[[network]]
id = 5001
name = "blue"
remotes = ["192.0.2.2", { address = "192.0.2.3", relay = true }]
port = [{ tap = "tap0" }, { tap = "tap1" }]
static = [{ mac = "02:00:00:00:00:01", remote = "192.0.2.2" }]
neighbor = [{ ip = "10.0.0.1", mac = "02:00:00:00:00:01" }]
"""
GREEN = """\
[[network]]
id = 5002
name = "green"
remotes = ["192.0.2.2"]
port = [{ tap = "tap2" }, { tap = "tap0", vlan = 7 }]
"""


def make_host(name: str) -> Host:
    """A host with the address 192.0.2.1; skips where there can be none."""
    need_hosts()
    need_tools("ip", "setpriv")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        missing("/dev/net/tun")
    host = Host(name)
    host.ip("link", "add", "u0", "type", "veth", "peer", "name", "u1")
    host.ip("link", "set", "u1", "up")
    host.ip("link", "set", "u0", "up")
    host.ip("address", "add", "192.0.2.1/24", "dev", "u0")
    return host


def until(what: Callable[[], Any]) -> Any:
    """What ``what`` gives as soon as it is true."""
    end = time.monotonic() + PATIENCE
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


class Service:
    """A VTEP in ``host``; its files are in ``folder``."""

    def __init__(self, folder: Path, host: Host, config: str = "", **env: str) -> None:
        self.folder = folder
        self.host = host
        self.path = folder / "overlay.toml"
        self.socket = folder / "ctl.sock"
        self.log_file = folder / "log"
        self._env = env
        self._process: subprocess.Popen[Any] | None = None
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.settimeout(PATIENCE)
        # An abstract socket is of a network namespace: it has to be made in the host's.
        self.configure(config)

    def configure(self, config: str) -> None:
        self.path.write_text(config.replace("SOCKET", str(self.socket)))

    def listen(self, address: str) -> None:
        """Be the service manager at this address."""
        if address.startswith("@"):
            self._notices.close()
            with self.host.entered():
                self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._notices.settimeout(PATIENCE)
        self._notices.bind("\0" + address[1:] if address.startswith("@") else address)
        self._env["NOTIFY_SOCKET"] = address

    def launch(self, *options: str) -> subprocess.Popen[Any]:
        """Start it, and do not wait."""
        if "NOTIFY_SOCKET" not in self._env:
            self.listen(str(self.folder / "notify"))
        with self.log_file.open("a") as log:
            self._process = self.host.popen(
                [sys.executable, "-m", "overlay", "run", str(self.path), *options],
                stderr=log,
                env=self._env,
            )
        return self._process

    def start(self, *options: str) -> Service:
        """Start it, and wait until it is ready."""
        self.launch(*options)
        self.notice("READY=1")
        return self

    @property
    def process(self) -> subprocess.Popen[Any]:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def notice(self, word: str) -> list[str]:
        """The next notice that has this line, as lines."""
        end = time.monotonic() + PATIENCE
        self._notices.settimeout(0.1)
        while True:
            try:
                lines = self._notices.recv(4096).decode().split("\n")
            except TimeoutError:
                assert self.process.poll() is None, self.log
                assert time.monotonic() < end, self.log
                continue
            if word in lines:
                return lines

    def reload(self, config: str) -> None:
        """SIGHUP with another configuration, to its end."""
        self.configure(config)
        self.process.send_signal(signal.SIGHUP)
        self.notice("RELOADING=1")
        self.notice("READY=1")

    def ctl(self, *words: object, status: int = 0) -> Any:
        """What ``overlay ctl --json`` answers, or what it says when it fails."""
        result = run("ctl", "--socket", self.socket, "--json", *words)
        assert result.exit_code == status, (result.output, result.exception)
        return json.loads(result.stdout) if status == 0 else result.stderr

    def client(self) -> Client:
        return Client(str(self.socket))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._notices.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def capabilities(pid: int) -> list[dict[str, int]]:
    """The capability sets of every thread of a process, and NoNewPrivs and Uid."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        status = Path(f"/proc/{pid}/task/{task}/status").read_text()
        rows = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        sets = {name: int(rows[name], 16) for name in rows if name.startswith("Cap")}
        own = {"NoNewPrivs": int(rows["NoNewPrivs"]), "Uid": int(rows["Uid"].split()[0])}
        found.append({**sets, **own})
    return found
