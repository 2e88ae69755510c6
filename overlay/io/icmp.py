"""ICMP: what the underlay's routers say of packets that are too big for it.

The kernel keeps path MTUs for its own sockets; NVGRE and STT have none.  What
lives here: ICMP errors that quote one of our outer packets, and what is
believed of them.  Anybody can forge one that nearly fits: the MTU that a quote lowers
stays above a bound, and a quote must be of a packet that this host can have sent.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from overlay.errors import ConfigError

from .firewall import PROTOCOLS, STT_PORT

__all__ = ["MTU_MIN_4", "MTU_MIN_6", "IcmpListener", "TooBig"]

#: Below these no path MTU is believed (as Linux's min_pmtu; RFC 8200 5).
MTU_MIN_4, MTU_MIN_6 = 552, 1280

# What a router that names no MTU may have meant (RFC 1191 7.1).
_PLATEAUS = (32000, 17914, 8166, 4352, 2002, 1492, 1006, MTU_MIN_4)
_ICMP_FILTER, _SOL_RAW, _ICMP6_FILTER = 1, 255, 1
_UNREACHABLE, _FRAGMENTATION_NEEDED, _PACKET_TOO_BIG = 3, 4, 2
_TCP, _UDP, _GRE = 6, 17, 47
_BURST = 64


@dataclass(frozen=True)
class TooBig:
    """Packets from ``local`` to ``remote`` may have at most ``mtu`` bytes of IP."""

    remote: str
    mtu: int
    local: str


class IcmpListener:
    """Hears of outer packets that were too big.  Needs CAP_NET_RAW.

    :param local: this host's addresses that tunnels use.
    :param protocols: whose packets count, of ``"nvgre"``, ``"stt"`` and ``"vxlan"``.
    :param port: VXLAN's UDP port.
    """

    def __init__(
        self,
        local: str | Iterable[str],
        *,
        protocols: Iterable[str] = ("nvgre", "stt"),
        port: int = 4789,
    ) -> None:
        values = [local] if isinstance(local, str) else list(local)
        try:
            self._locals = {ipaddress.ip_address(value) for value in values}
        except ValueError:
            raise ConfigError("local", local, "IPv4 or IPv6 addresses") from None
        names = set(protocols)
        if not names or not names <= set(PROTOCOLS):
            raise ConfigError("protocols", protocols, f"some of {', '.join(PROTOCOLS)}")
        self._protocols, self._port = names, port
        self._sockets: list[socket.socket] = []
        self._poll = select.epoll()
        try:
            for version in sorted({address.version for address in self._locals}):
                made = _listen_4() if version == 4 else _listen_6()
                self._sockets.append(made)
                self._poll.register(made, select.EPOLLIN)
        except PermissionError as error:
            self.close()
            raise ConfigError("local", local, "CAP_NET_RAW, to hear ICMP (be root)") from error

    def fileno(self) -> int:
        """Readable when there is something to :meth:`recv`."""
        return self._poll.fileno()

    def recv(self) -> list[TooBig]:
        """What was heard since the last call, a bounded number; never waits."""
        heard: list[TooBig] = []
        for s in self._sockets:
            for _ in range(_BURST):
                try:
                    data = s.recv(2048)
                except OSError:
                    break
                said = self._four(data) if s.family == socket.AF_INET else self._six(data)
                if said is not None:
                    heard.append(said)
        return heard

    def _four(self, data: bytes) -> TooBig | None:
        """An IPv4 packet with an ICMP error."""
        header = (data[0] & 15) * 4 if data else 0
        icmp = data[header:]
        if len(icmp) < 8 + 28 or icmp[:2] != bytes([_UNREACHABLE, _FRAGMENTATION_NEEDED]):
            return None
        if _checksum(icmp) != 0:
            return None
        (mtu,) = struct.unpack_from("!H", icmp, 6)
        quote = icmp[8:]
        inner = (quote[0] & 15) * 4
        total, _, fragment, _, protocol = struct.unpack_from("!HHHBB", quote, 2)
        if quote[0] >> 4 != 4 or inner < 20 or not fragment & 0x4000 or fragment & 0x1FFF:
            return None  # what may be cut on the way is never too big
        if mtu == 0:
            mtu = next((m for m in _PLATEAUS if m < total), MTU_MIN_4)
        if mtu >= total:
            return None
        if not self._ours(protocol, quote[inner:], quote[12:16]):
            return None
        return _too_big(quote[16:20], quote[12:16], max(mtu, MTU_MIN_4))

    def _six(self, icmp: bytes) -> TooBig | None:
        """An ICMPv6 message; the kernel has verified its checksum."""
        if len(icmp) < 8 + 48 or icmp[0] != _PACKET_TOO_BIG:
            return None
        (mtu,) = struct.unpack_from("!I", icmp, 4)
        quote = icmp[8:]
        length, protocol = struct.unpack_from("!HB", quote, 4)
        at = 40
        if protocol == socket.IPPROTO_FRAGMENT or quote[0] >> 4 != 6 or mtu >= length + at:
            return None
        if not self._ours(protocol, quote[at:], quote[8:24]):
            return None
        return _too_big(quote[24:40], quote[8:24], max(mtu, MTU_MIN_6))

    def _ours(self, protocol: int, quote: bytes, source: bytes) -> bool:
        """Whether we can have sent this: our address, a tunnel's protocol and header."""
        if ipaddress.ip_address(source) not in self._locals or len(quote) < 8:
            return False
        port = int.from_bytes(quote[2:4], "big")
        if protocol == _TCP:  # the frame's length and the segment's offset in it
            whole, offset = struct.unpack_from("!HH", quote, 4)
            return "stt" in self._protocols and port == STT_PORT and offset < whole
        if protocol == _UDP:
            return "vxlan" in self._protocols and port == self._port
        shaped = quote[0] & 0x20 != 0 and quote[1] & 7 == 0 and quote[2:4] == b"\x65\x58"
        return protocol == _GRE and "nvgre" in self._protocols and shaped

    def close(self) -> None:
        """Give the sockets back."""
        for s in self._sockets:
            s.close()
        self._poll.close()

    def __enter__(self) -> IcmpListener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _too_big(remote: bytes, local: bytes, mtu: int) -> TooBig:
    return TooBig(str(ipaddress.ip_address(remote)), mtu, str(ipaddress.ip_address(local)))


def _listen_4() -> socket.socket:
    made = socket.socket(
        socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP
    )
    refused = 0xFFFFFFFF & ~(1 << _UNREACHABLE)
    made.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", refused))
    return made


def _listen_6() -> socket.socket:
    made = socket.socket(
        socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6
    )
    refused = [0xFFFFFFFF & ~(1 << _PACKET_TOO_BIG), *[0xFFFFFFFF] * 7]
    made.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *refused))
    return made


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
