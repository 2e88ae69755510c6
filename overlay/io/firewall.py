"""Firewall: the rule that keeps the kernel from answering a tunnel's packets.

No socket of the kernel's listens to STT or NVGRE: its TCP would answer every STT
segment with a reset, and others with ICMP errors.  A :class:`Guard` drops these packets at the
interface's ingress, where packet sockets have seen them already and the kernel's
own stack has not.

The rule goes with its owner, whatever becomes of it: a process that waits for nothing
else removes it.  Where that one was killed too, the next guard removes what was left.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Sequence

from overlay.errors import ConfigError

__all__ = ["PROTOCOLS", "Guard", "clean"]

#: The numbers of the protocols, as in ``csrc/overlay.h``.
PROTOCOLS = {"vxlan": 1, "nvgre": 2, "stt": 3}

STT_PORT = 7471

_TABLE = re.compile(r"overlay_guard_\d+_\d+_\d+")
_numbers = itertools.count()
_TIMEOUT = 10.0
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Guard:
    """Drops a tunnel's packets at the ingress of an interface, after packet sockets saw them.

    :param interface: its name, in the network namespace of the calling thread.
    :param protocols: of :data:`PROTOCOLS`.
    :param port: VXLAN's UDP port.
    :param local: only packets to these addresses, and to groups; all if empty.
    :raises ConfigError: there is no ``nft``, or no right to use it.
    """

    def __init__(
        self,
        interface: str,
        protocols: Iterable[str],
        *,
        port: int = 4789,
        local: Sequence[_Address] = (),
    ) -> None:
        clean()
        index = socket.if_nametoindex(interface)
        self.table = f"overlay_guard_{index}_{os.getpid()}_{next(_numbers)}"
        self._lock: socket.socket | None = _lock(self.table)
        self._keeper: subprocess.Popen[bytes] | None = None
        matches = _matches(protocols, port)
        rules = [f"    {to}{match} drop" for to in _destinations(local) for match in matches]
        script = [
            f"table netdev {self.table} {{",
            "  chain ingress {",
            f'    type filter hook ingress device "{interface}" priority -500; policy accept;',
            *rules,
            "  }",
            "}",
        ]
        try:
            _nft("-f", "-", script="\n".join(script) + "\n")
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "overlay-guard", _program(), self.table],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the rule; it is gone when this returns.  A second call does nothing."""
        if self._lock is None:
            return
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            try:
                self._keeper.wait(_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
            if self._keeper.returncode < 0:  # it was killed before it could
                _delete(self.table)
        self._lock.close()
        self._lock = None

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None:
            self.close()


# Its standard input ends when the owner closes it, or is no more.
_KEEPER = """trap '' HUP INT QUIT TERM; read -r _; "$1" delete table netdev "$2"; exit 0"""


def clean() -> list[str]:
    """Remove the guards in this network namespace whose owners are gone; their tables' names."""
    listed = json.loads(_nft("-j", "list", "tables", "netdev"))["nftables"]
    names = [entry["table"]["name"] for entry in listed if "table" in entry]
    left = []
    for name in names:
        if not _TABLE.fullmatch(name):
            continue
        try:
            lock = _lock(name)
        except OSError:
            continue  # its owner lives
        with lock:
            _delete(name)
        left.append(name)
    return left


def _lock(table: str) -> socket.socket:
    """Held as long as the owner of the table lives: a name that only this namespace has."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0overlay.guard.{table}")
    except OSError:
        lock.close()
        raise
    return lock


def _matches(protocols: Iterable[str], port: int) -> list[str]:
    known = {
        "vxlan": f"udp dport {port}",
        "nvgre": "meta l4proto gre @th,16,16 0x6558",
        "stt": f"tcp dport {STT_PORT}",
    }
    return [known[protocol] for protocol in protocols]


def _destinations(local: Sequence[_Address]) -> list[str]:
    """What stands before a match so that it holds for these addresses and groups alone."""
    if not local:
        return [""]
    four = [str(address) for address in local if address.version == 4]
    six = [str(address) for address in local if address.version == 6]
    return [
        f"ip daddr {{ {', '.join([*four, '224.0.0.0/4'])} }} ",
        f"ip6 daddr {{ {', '.join([*six, 'ff00::/8'])} }} ",
    ]


def _program() -> str:
    # Administrators' programs are not on every user's path.
    program = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin:/usr/local/sbin")
    if program is None:
        raise ConfigError(
            "guard",
            True,
            "the program nft (package nftables); or guard=False, with a rule of your own that "
            f"drops TCP to port {STT_PORT} before the kernel answers it",
        )
    return program


def _nft(*words: str, script: str | None = None) -> str:
    done = subprocess.run(
        [_program(), *words], input=script, capture_output=True, text=True, timeout=_TIMEOUT
    )
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr.strip() or "nft failed").splitlines()[0]
    if "not permitted" in said.lower():
        raise ConfigError("guard", True, "CAP_NET_ADMIN, to set an nftables rule (be root)")
    raise ConfigError("guard", True, f"nftables with the netdev family in this kernel: {said}")


def _delete(table: str) -> None:
    with contextlib.suppress(ConfigError):  # another was quicker
        _nft("delete", "table", "netdev", table)
