"""Configuration: what a VTEP is to be, as frozen values; one that exists is valid.

Lives here: the values, and what is said where there can be none.  What must
not: files and keys (reader, schema), and anything that touches a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from overlay import OverlayError

__all__ = [
    "Config", "InvalidConfig", "Mistake", "Neighbor", "Network", "Port", "Remote", "Static",
    "VtepOptions",
]  # fmt: skip


#: Fields of a tunnel that were given, by name.
Options = tuple[tuple[str, Any], ...]


class Mistake(NamedTuple):
    """One thing that is wrong, and where."""

    line: int
    key: str
    message: str


class InvalidConfig(OverlayError, ValueError):  # noqa: N818 - it is no error of the program
    """A configuration is wrong: ``mistakes`` is all of it, ``lines`` says it to people."""

    def __init__(self, name: str, mistakes: list[Mistake]) -> None:
        self.name = name
        self.mistakes = sorted(mistakes)
        self.lines = [
            f"{name}:{m.line}: {m.key}: {m.message}" if m.key else f"{name}:{m.line}: {m.message}"
            for m in self.mistakes
        ]
        super().__init__("; ".join(self.lines))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.name, self.mistakes)


@dataclass(frozen=True)
class Remote:
    """``network.remotes``; ``options`` are those of its tunnel."""

    address: str
    tunnel: str
    key: int | None = None
    relay: bool = False
    flood: bool = True
    options: Options = ()

    @property
    def place(self) -> tuple[str, str]:
        """What names it in a network: address and tunnel."""
        return self.address, self.tunnel


@dataclass(frozen=True)
class Port:
    """``network.port``: a TAP device or an interface, all of it or one VLAN."""

    tap: str | None = None
    interface: str | None = None
    vlan: int | None = None
    mac: str | None = None
    name: str = ""
    queues: int | None = None

    @property
    def device(self) -> tuple[str, str]:
        """What is opened: ``("tap", name)`` or ``("interface", name)``."""
        return ("tap", self.tap) if self.tap is not None else ("interface", self.interface or "")


@dataclass(frozen=True)
class Static:
    """``network.static``: where a MAC address is."""

    mac: str
    remote: str | None = None
    port: str | None = None
    sticky: bool = False


@dataclass(frozen=True)
class Neighbor:
    """``network.neighbor``: an answer to ARP and neighbour solicitations."""

    ip: str
    mac: str
    router: bool = False


@dataclass(frozen=True)
class Network:
    """``network``; ``tunnel`` is never None."""

    id: int
    tunnel: str
    name: str | None = None
    mtu: int | None = None
    learn: bool = True
    ageing: float = 300.0
    suppress_arp: bool = False
    limit: int | None = None
    accept: str = "listed"
    mss_clamp: bool | int = False
    gbp: int | None = None
    group: str | None = None
    options: Options = ()
    remotes: tuple[Remote, ...] = ()
    port: tuple[Port, ...] = ()
    static: tuple[Static, ...] = ()
    neighbor: tuple[Neighbor, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        """What names it in a VTEP: tunnel and number."""
        return self.tunnel, self.id


@dataclass(frozen=True)
class VtepOptions:
    """``vtep``."""

    local: str
    tunnel: str = "vxlan"
    underlay: str | None = None
    mtu: int | None = None
    port: int = 4789
    checksum: bool = True
    workers: int = 1
    networks: int = 16384
    macs: int = 1 << 20
    neighbors: int = 65536
    reassembly: int = 16 << 20
    profile: str = "rfc"
    fragments: str = "reassemble"
    control: str = ""
    control_group: str | None = None
    metrics: str | None = None
    user: str | None = None
    drop_privileges: str = "unused"


@dataclass(frozen=True)
class Config:
    """A whole configuration; one that exists is valid."""

    vtep: VtepOptions
    network: tuple[Network, ...] = ()
