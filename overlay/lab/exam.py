"""Exam: what two tenants must be able to do through a tunnel, one result after the other.

Lives here: the judgement of what traffic.py saw; the command and the tests ask
the same questions.  What must not: printing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import blast, traffic
from .capture import Capture, examine
from .host import LabError, MissingError
from .peer import TENANT, Peer
from .vtep import OverlayVtep

__all__ = ["Result", "capture", "connectivity", "sizes", "speed", "streams", "tags"]


@dataclass(frozen=True)
class Result:
    """What was tried ``between`` whom, what came of it, and whether that is as it should be.

    ``passed`` is None where it could not be tried; ``detail`` says why.
    ``value`` is the figure in ``unit``, where it is about one.
    """

    name: str
    between: str
    detail: str
    passed: bool | None
    value: float | None = None
    unit: str = ""


def _between(one: Peer, other: Peer) -> str:
    return f"{one.host.name} > {other.host.name}"


def _echoes(name: str, one: Peer, other: Peer, seen: traffic.Ping) -> Result:
    detail = f"{seen.received} of {seen.sent}, {seen.milliseconds:.2f} ms"
    return Result(name, _between(one, other), detail, seen.lossless, seen.milliseconds, "ms")


def connectivity(one: Peer, other: Peer) -> Iterator[Result]:
    """Ping by IPv4 and IPv6, ARP, and broadcasts in both directions."""
    yield _echoes("ping", one, other, traffic.ping(one, other))
    yield _echoes("ping -6", one, other, traffic.ping(one, other, version=6))
    try:
        answers = traffic.arping(one, other)
        right = bool(answers) and set(answers) == {other.mac}
        detail = ", ".join(sorted(set(answers))) or "no answer"
        yield Result("arp", _between(one, other), detail, right)
    except MissingError as error:
        yield Result("arp", _between(one, other), str(error), None)
    for sender, receiver in ((one, other), (other, one)):
        (heard,) = traffic.broadcast(sender, [receiver])
        detail = "received" if heard else "not received"
        yield Result("broadcast", _between(sender, receiver), detail, heard)


def sizes(one: Peer, other: Peer) -> Iterator[Result]:
    """The largest packets that fit, both ways; larger ones, cut by the sender or refused."""
    for version, headers in ((4, 28), (6, 48)):
        for sender, receiver in ((one, other), (other, one)):
            mtu = min(one.mtu, other.mtu)
            seen = traffic.ping(
                sender, receiver, version=version, size=mtu - headers, fragment=False
            )
            yield _echoes(f"ping -{version}, {mtu} bytes, DF", sender, receiver, seen)
        seen = traffic.ping(one, other, version=version, size=4000)
        yield _echoes(f"ping -{version}, 4000 bytes in fragments", one, other, seen)
    if isinstance(one, OverlayVtep):
        yield from _too_big(one, other)


def _too_big(one: Peer, other: Peer) -> Iterator[Result]:
    """A tenant that believes in a larger MTU is told the right one, and its TCP works."""
    one.host.ip("link", "set", "dev", TENANT, "mtu", "4000")
    try:
        for version in (4, 6):
            seen = traffic.ping(
                one, other, version=version, size=2000, fragment=False, count=2, wait=1
            )
            name = f"ping -{version}, too big, DF"
            told = f"told an MTU of {seen.mtu}" if seen.mtu else "not told the MTU"
            right = seen.received == 0 and seen.mtu == one.mtu
            yield Result(name, _between(one, other), told, right)
        stream = traffic.transfer(one, other, 2_000_000)
        yield _stream("TCP, MSS too big", one, other, stream)
    finally:
        one.host.ip("link", "set", "dev", TENANT, "mtu", str(one.mtu))
        for family in ("-4", "-6"):
            one.host.ip(family, "route", "flush", "cache")


def tags(one: Peer, other: Peer) -> Iterator[Result]:
    """Frames with one and with two VLAN tags, both ways.

    NVGRE carries none (RFC 7637 3.3): there they must not arrive.
    """
    carried = one.segment.tunnel != "nvgre"
    for sender, receiver in ((one, other), (other, one)):
        for name, tagged in (
            ("802.1Q", [(0x8100, 0x6064)]),
            ("QinQ", [(0x88A8, 0x0123), (0x8100, 0x0064)]),
        ):
            arrived = traffic.tagged(sender, receiver, tagged, wait=5.0 if carried else 0.3)
            detail = "as it was sent" if arrived else "not received as it was sent"
            if not carried:
                detail = "received, against RFC 7637" if arrived else "refused, as RFC 7637 has it"
            yield Result(f"{name} frame", _between(sender, receiver), detail, arrived is carried)


def _stream(name: str, one: Peer, other: Peer, seen: traffic.Stream) -> Result:
    detail = f"{seen.size / 1e6:.0f} MB, {seen.gbits:.2f} Gbit/s, SHA-256 "
    detail += "as sent" if seen.intact else "DIFFERS"
    return Result(name, _between(one, other), detail, seen.intact, seen.gbits, "Gbit/s")


def streams(one: Peer, other: Peer, size: int = 100_000_000) -> Iterator[Result]:
    """TCP both ways, one by IPv4 and one by IPv6, and its SHA-256."""
    yield _stream("TCP", one, other, traffic.transfer(one, other, size))
    yield _stream("TCP, IPv6", other, one, traffic.transfer(other, one, size, version=6))


def speed(one: Peer, other: Peer, seconds: float) -> Iterator[Result]:
    """TCP by iperf3, and small frames a second; any figure but none passes."""
    try:
        gbits = traffic.iperf3(one, other, seconds)
        detail = f"{gbits:.2f} Gbit/s"
        yield Result("iperf3", _between(one, other), detail, gbits > 0, gbits, "Gbit/s")
    except MissingError as error:
        yield Result("iperf3", _between(one, other), str(error), None)
    except LabError as error:
        yield Result("iperf3", _between(one, other), str(error), False)
    seen = blast.rate(one, other, seconds=seconds)
    detail = f"{seen.mpps * 1e3:.0f} k/s received, {seen.sent / seen.seconds / 1e3:.0f} k/s sent"
    name = "frames of 64 bytes"
    yield Result(name, _between(one, other), detail, seen.received > 0, seen.mpps, "Mpps")


def capture(one: Peer, other: Peer, path: str) -> Iterator[Result]:
    """Pings, tagged frames and a short stream, captured on the underlay; tshark's word on it.

    The underlay must be a "wire": what is captured on others has no checksums yet.
    """
    try:
        with Capture(one.host, path):
            for version in (4, 6):
                traffic.ping(one, other, version=version)
                traffic.ping(one, other, version=version, size=4000, count=1)
            traffic.tagged(one, other, [(0x8100, 0x6064)])
            traffic.transfer(one, other, 1_000_000)
            traffic.transfer(other, one, 1_000_000, version=6)
        verdict = examine(path, one.segment)
    except LabError as error:
        missing = isinstance(error, MissingError)
        yield Result("capture", _between(one, other), str(error), None if missing else False)
        return
    detail = f"{verdict.packets} packets, {verdict.tunnelled} in the tunnel, {verdict.faulty} bad"
    if verdict.faults:
        detail += f": {verdict.faults[0]}"
    if set(verdict.keys) - {one.segment.key}:
        detail += f"; keys {', '.join(map(str, verdict.keys))}"
    yield Result("capture", _between(one, other), detail, verdict.good(one.segment))
