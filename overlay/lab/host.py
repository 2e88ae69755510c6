"""Host: a network namespace that is held by an open file of this process.

Lives here: making one, running commands and code in it.  What must not: what a
host is connected to.  No name is left anywhere: a namespace, its devices and
its processes are gone as soon as this process is, whatever ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from overlay.errors import OverlayError

__all__ = ["Host", "LabError", "MissingError", "link", "need", "unshared"]

_CLONE_NEWNET = 0x40000000

#: The Debian package that a tool is in.
PACKAGES = {
    "arping": "iputils-arping",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "nft": "nftables",
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-server": "openvswitch-switch",
    "ping": "iputils-ping",
    "setpriv": "util-linux",
    "tshark": "tshark",
    "unshare": "util-linux",
}


class LabError(OverlayError):
    """The lab could not be built, or something in it did not do as it was told."""


class MissingError(LabError):
    """A tool that is not installed; ``tool`` and the Debian ``package`` that has it."""

    def __init__(self, tool: str) -> None:
        self.tool, self.package = tool, PACKAGES.get(tool, tool)
        super().__init__(f"{tool} is missing: apt install {self.package}")


def need(*tools: str) -> None:
    """Raise :class:`MissingError` for the first of these that is not installed."""
    for tool in tools:
        if which(tool) is None:
            raise MissingError(tool)


def which(tool: str) -> str | None:
    """Where a tool is, also where only root's PATH would find it."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(tool, path=path)


def unshared() -> list[str]:
    """The words before a command that run it as root of a user and a network namespace of its own.

    :raises LabError: users may not have namespaces here.
    """
    unshare = which("unshare")
    words = [unshare or "unshare", "--user", "--map-root-user", "--net"]
    with contextlib.suppress(OSError):
        if subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return words
    raise LabError("this needs root, or a system where users may have namespaces")


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(number)}")


class Host:
    """A host of the lab, by a short ``name``.

    What is started with it dies with the thread that started it, at the latest.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._processes: list[subprocess.Popen[Any]] = []
        self._fd = -1
        failed: list[BaseException] = []

        def make() -> None:  # a thread of its own, so that no other is moved
            try:
                _checked(_libc().unshare(_CLONE_NEWNET), "a network namespace")
                self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        self.ip("link", "set", "lo", "up")

    def __repr__(self) -> str:
        return f"Host({self.name!r})"

    @property
    def path(self) -> str:
        """The namespace as a file that ``nsenter --net=`` and ``ip ... netns`` take."""
        if self._fd < 0:
            raise LabError(f"host {self.name} is closed")
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the host: sockets and devices that it opens are too."""
        libc, path = _libc(), self.path
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(libc.setns(self._fd, _CLONE_NEWNET), path)
            try:
                yield
            finally:
                _checked(libc.setns(before, _CLONE_NEWNET), "the namespace before")
        finally:
            os.close(before)

    def popen(
        self,
        words: Sequence[str],
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.DEVNULL,
        stderr: int | IO[Any] | None = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
        text: bool = True,
    ) -> subprocess.Popen[Any]:
        """Start a command in the host; its output goes nowhere unless asked for."""
        program = which(words[0])
        if program is None:
            raise MissingError(words[0])
        setpriv = which("setpriv")
        if setpriv is None:
            raise MissingError("setpriv")
        with self.entered():
            process = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", "--", program, *words[1:]],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=None if env is None else {**os.environ, **env},
                text=text,
            )
        self._processes = [p for p in self._processes if p.poll() is None] + [process]
        return process

    def run(
        self,
        words: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 60.0,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host to its end, ``timeout`` seconds at most."""
        process = self.popen(
            words,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        try:
            out, error = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise LabError(f"{self._said(words)}: not done after {timeout:g} s") from None
        if check and process.returncode:
            raise LabError(f"{self._said(words)}: {(error or out).strip()}")
        return subprocess.CompletedProcess(list(words), process.returncode, out, error)

    def _said(self, words: Sequence[str]) -> str:
        return f"host {self.name}: {' '.join(words)}"

    def ip(self, *words: str) -> str:
        """``ip`` with these words; what it prints."""
        return self.run(["ip", *words]).stdout

    def address(self, device: str, *addresses: str) -> None:
        """Bring a device up and give it addresses, such as ``192.0.2.1/24``, usable at once."""
        self.ip("link", "set", device, "up")
        for one in addresses:
            self.ip("address", "add", one, "dev", device, *(["nodad"] if ":" in one else []))

    def running(self, device: str, wait: float = 10.0) -> None:
        """Wait until a device is; before that the kernel drops what is sent, and says nothing."""
        end = time.monotonic() + wait
        while "state UP" not in self.ip("-o", "link", "show", "dev", device):
            if time.monotonic() > end:
                raise LabError(f"host {self.name}: {device} is not running after {wait:g} s")
            time.sleep(0.005)

    def has(self, device: str) -> bool:
        """Whether the host has a network device of this name."""
        return device in self.devices()

    def devices(self) -> dict[str, dict[str, int]]:
        """Every network device and its counters: rx/tx _bytes, _packets, _errors, _dropped."""
        names = ("bytes", "packets", "errors", "dropped")
        found = {}
        with self.entered(), open("/proc/thread-self/net/dev") as file:
            for line in file.readlines()[2:]:
                device, _, figures = line.partition(":")
                numbers = [int(word) for word in figures.split()]
                received = zip(names, numbers[:4], strict=True)
                sent = zip(names, numbers[8:12], strict=True)
                found[device.strip()] = {
                    **{f"rx_{name}": number for name, number in received},
                    **{f"tx_{name}": number for name, number in sent},
                }
        return found

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs in the host, and the host."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._processes = []
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def link(one: Host, device: str, other: Host, peer: str, *, mtu: int | None = None) -> None:
    """A cable: a veth pair with one end in each host, down and without addresses as yet.

    :param device: its name in ``one``, and
    :param peer: in ``other``, which may be the same host.
    :param mtu: of both, in bytes; the kernel's default if None.
    """
    size = [] if mtu is None else ["mtu", str(mtu)]
    one.ip(
        "link", "add", device, *size, "type", "veth",
        "peer", "name", peer, *size, "netns", other.path,
    )  # fmt: skip
