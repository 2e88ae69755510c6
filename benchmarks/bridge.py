"""Bridge: what does a frame cost between a port and a tunnel, in memory?

A device that gives the same burst again and again stands at one side, one
that forgets what it is given at the other: the rest is the switch and the
codec.  What must not be here: the kernel.
"""

from __future__ import annotations

import gc
import ipaddress
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import overlay
from overlay.io.load import Load
from overlay.switch import Network, Vtep

from .measure import Contender, Timing, interleave, pinned
from .row import Row

ROWS, REMOTES, MACS, NETWORKS = 256, 256, 10_000, 10_000
_LOCAL = "192.0.2.1"
_HEADER = bytes.fromhex("4500003200004000401100000a0000010a000002")


def _mac(number: int) -> bytes:
    return b"\2\0" + number.to_bytes(4, "big")


def _frame(to: int, source: int, given: random.Random) -> bytes:
    head = _mac(to) + _mac(source) + b"\x08\0" + _HEADER
    return head + given.randbytes(64 - len(head))


def _remotes() -> list[str]:
    first = ipaddress.ip_address("10.0.0.1")
    return [str(first + number) for number in range(REMOTES)]


def _row(question: str, case: str, timing: Timing, unit: str, most: float, note: str = "") -> Row:
    return Row(
        question=question,
        case=case,
        unit=unit,
        measured=timing.median,
        best=timing.best,
        target=f"< {most:g} {unit.partition('/')[0]}",
        met=timing.best < most,
        spread=timing.spread,
        note=note,
    )


@contextmanager
def _encap(others: int = 0) -> Iterator[Vtep]:
    """A port gives frames from and to one half each of the MACs; the other half is remote."""
    given = random.Random(1)
    half = MACS // 2
    frames = [
        _frame(given.randrange(half), half + given.randrange(half), given) for _ in range(ROWS)
    ]
    with _vtep(Load(underlay=True), others) as (vtep, network):
        for number in range(half):
            network.fdb.add(_mac(number), network.remotes[number % REMOTES])
        network.add_port(Load(frames))
        yield vtep


@contextmanager
def _decap() -> Iterator[Vtep]:
    """The underlay gives packets of all remotes for MACs that are behind a port."""
    given = random.Random(1)
    half, remotes = MACS // 2, _remotes()
    packets = []
    for _ in range(ROWS):
        source = given.randrange(half)
        frame = _frame(half + given.randrange(half), source, given)
        tunnel = overlay.VXLAN(vni=5001, local=remotes[source % REMOTES], remote=_LOCAL)
        packets.append(tunnel.encap(frame))
    with _vtep(Load(packets, underlay=True), 0) as (vtep, network):
        port = network.add_port(Load())
        for number in range(half):
            network.fdb.add(_mac(half + number), port)
        yield vtep


@contextmanager
def _vtep(underlay: Load, others: int) -> Iterator[tuple[Vtep, Network]]:
    vtep = Vtep(_LOCAL, underlay=underlay, seed=1, macs=16_384)
    try:
        for number in range(others):
            vtep.add_network(10_000 + number, remotes=["10.0.0.1"])
        yield vtep, vtep.add_network(5001, remotes=_remotes())
        lost = vtep.stats.total.drops
        if lost:
            raise RuntimeError(f"the burst was not forwarded whole: {lost}")
    finally:
        vtep.close()


def _round(vtep: Vtep) -> Callable[[], int]:
    """What a worker does between two sleeps: one burst."""
    one: Callable[[int, int], int] = vtep._chassis.round
    return lambda: one(0, 0)


def switch_in_memory() -> Iterator[Row]:
    """Learn, look up, encap; decap, learn, forward: a burst of 256 frames of 64 bytes."""
    with _encap() as out, _encap(NETWORKS) as crowded, _decap() as back, pinned():
        encap, crowd, decap = interleave(
            [
                Contender("encap", _round(out), ROWS),
                Contender("crowded", _round(crowded), ROWS),
                Contender("decap", _round(back), ROWS),
            ],
            rounds=15,
            repeat=400,
        )
    what = f"{REMOTES} remotes, {MACS:,} MACs"
    yield _row("switch", f"learn, look up, encap; {what}", encap, "ns/frame", 25)
    yield _row("switch", f"decap, learn, forward; {what}", decap, "ns/frame", 30)
    cost = crowd.ratio(encap)
    yield Row(
        question="switch",
        case=f"the first again, {NETWORKS:,} other networks beside",
        unit="ns/frame",
        measured=crowd.median,
        best=crowd.best,
        floor=encap.median,
        ratio=cost,
        target="<= 1.05 x",
        met=cost <= 1.05,
        spread=crowd.spread,
    )


def set_up() -> Iterator[Row]:
    """A network with one remote, made where 10,000 are already."""
    with _vtep(Load(underlay=True), 0) as (vtep, _):
        rounds = []
        key = 10_000
        gc.collect()
        for _ in range(10):
            start = time.perf_counter_ns()
            for _ in range(NETWORKS // 10):
                vtep.add_network(key, remotes=["10.0.0.1"])
                key += 1
            rounds.append((time.perf_counter_ns() - start) / (NETWORKS / 10) / 1000)
    yield _row("networks", f"one of {NETWORKS:,} set up", Timing(tuple(rounds)), "us/network", 100)
