"""What goes wrong between VTEPs and around them: nothing is lost without a name.

Two switches over memory devices, polled: no thread, no timing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

import overlay
import wire
from overlay import STT, VXLAN, Status
from overlay.io.fault import Fault
from overlay.io.memory import Memory

KEY = 0x5001
HERE, THERE = "192.0.2.1", "192.0.2.2"
A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")


class Pair:
    """Two VTEPs with a network between them, a host behind each, faults on the way."""

    def __init__(self, tunnel: str = "vxlan", *, mtu: int | None = None, **faults: float) -> None:
        near, far = Memory.pair(underlay=True, segments=True, capacity=16384)
        # On what is received: packets have been cut to the MTU then, and each meets its own fate.
        fault = Fault(far, seed=7, direction="recv", **faults) if faults else far  # type: ignore[arg-type]
        self.vteps, self.networks, self.hosts = [], [], []
        for local, remote, underlay in ((HERE, THERE, near), (THERE, HERE, fault)):
            vtep = overlay.Vtep(local, underlay=underlay, networks=64, macs=4096, seed=1)
            network = vtep.add_network(KEY, tunnel=tunnel, remotes=[remote], mtu=mtu)
            port, host = Memory.pair(mtu=9000, capacity=16384)
            network.add_port(port)
            self.vteps.append(vtep)
            self.networks.append(network)
            self.hosts.append(host)
        self.underlays = [near, far]

    def run(self) -> None:
        """Until nothing moves any more."""
        idle = 0
        while idle < 3:
            idle = 0 if sum([vtep.poll() for vtep in self.vteps]) else idle + 1

    def check_books(self) -> None:
        for vtep in self.vteps:
            assert vtep.stats.total.missing == 0

    def close(self) -> None:
        for vtep in self.vteps:
            vtep.close()


@contextmanager
def pair(*args: str, **options: float) -> Iterator[Pair]:
    made = Pair(*args, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def frame(number: int, size: int, dst: bytes = B, src: bytes = A) -> bytes:
    return dst + src + b"\x88\xb5" + number.to_bytes(4, "big") + wire.pattern(size, number)


def test_stt_over_loss_reordering_and_duplicates() -> None:
    """Frames of many segments: those that arrive are whole and the sender's own."""
    with pair("stt", mtu=9000, drop=0.01, reorder=0.05, duplicate=0.02) as p:
        sent = [frame(n, 4000) for n in range(1000)]
        for start in range(0, len(sent), 20):
            assert p.hosts[0].put(sent[start : start + 20]) == 20
            p.run()
        arrived = p.hosts[1].take()
        assert set(arrived) <= set(sent)
        assert 0.9 * len(sent) < len(set(arrived)) < len(sent)
        counts = p.vteps[1].stats.reassembly
        assert counts["duplicates"] > 0
        assert counts["frames"] == len(arrived)
        p.check_books()


@pytest.mark.parametrize("tunnel", ["vxlan", "nvgre", "stt"])
def test_damage_never_reaches_a_host_in_a_frame_of_another_key(tunnel: str) -> None:
    with pair(tunnel, corrupt=0.5) as p:
        p.hosts[0].put([frame(n, 200) for n in range(500)])
        p.run()
        p.check_books()
        drops = p.vteps[1].stats.total.drops
        assert sum(drops.values()) > 0
        assert Status.BAD_ROW not in drops


def test_a_remote_that_disappears() -> None:
    with pair() as p:
        p.hosts[0].put([frame(0, 100)])
        p.run()
        assert len(p.hosts[1].take()) == 1
        p.underlays[1].close()
        p.hosts[0].put([frame(n, 100) for n in range(50)])
        while p.vteps[0].poll():
            pass
        assert p.networks[0].stats.drops == {Status.DEVICE_DOWN: 50}
        assert p.networks[0].stats.missing == 0


def test_a_port_whose_other_end_is_gone() -> None:
    with pair() as p:
        p.hosts[1].put([frame(0, 100, dst=A, src=B)])
        p.run()
        p.hosts[1].close()
        p.hosts[0].put([frame(n, 100) for n in range(50)])
        p.run()
        assert p.networks[1].stats.drops == {Status.DEVICE_DOWN: 50}
        p.check_books()


def test_a_full_queue() -> None:
    """A host that does not read: what finds no room is DEVICE_FULL, and what was there arrives."""
    near, far = Memory.pair(underlay=True, capacity=4096)
    port, host = Memory.pair(capacity=16)
    with closing(overlay.Vtep(THERE, underlay=far, networks=8, macs=64, seed=1)) as vtep:
        network = vtep.add_network(KEY, remotes=[HERE])
        network.add_port(port)
        packet = VXLAN(vni=KEY, local=HERE, remote=THERE).encap(frame(0, 100))
        near.put([packet] * 100)
        while vtep.poll():
            pass
        full = network.stats.drops[Status.DEVICE_FULL]
        assert full == 100 - len(host.take()) == 84
        assert vtep.stats.total.missing == 0
        near.put([packet])
        vtep.poll()
        assert len(host.take()) == 1


# -- floods ------------------------------------------------------------------------------


def test_a_flood_of_source_addresses() -> None:
    """The table refuses what does not fit; a network's limit is its own; nothing is evicted."""
    with pair() as p:
        here = p.networks[0]
        here.limit = 100
        known = frame(0, 50)
        p.hosts[0].put([known])
        p.run()
        for start in range(0, 6000, 500):
            macs = range(start, start + 500)
            p.hosts[0].put([frame(0, 50, src=b"\x06\0" + n.to_bytes(4, "big")) for n in macs])
            p.run()
        assert len(here.fdb) == 100
        assert here.fdb.lookup(A) is not None
        assert p.vteps[0].stats.fdb["refused"] == 6001 - 100
        assert len(p.hosts[1].take()) == 6001  # forwarded all the same
        # The other end has no limit but its table's.
        assert p.vteps[1].stats.fdb["entries"] <= 4096
        other = p.vteps[0].add_network(2, remotes=[THERE])
        port, host = Memory.pair()
        other.add_port(port)
        host.put([known])
        p.run()
        assert other.fdb.lookup(A) is not None
        p.check_books()


def test_a_flood_of_keys() -> None:
    with pair() as p:
        draw = random.Random(1)
        keys = [draw.randrange(0x6000, 2**24) for _ in range(5000)]
        for key in keys:
            p.underlays[0].put([VXLAN(vni=key, local=HERE, remote=THERE).encap(frame(0, 50))])
        p.run()
        stats = p.vteps[1].stats
        assert stats.unknown.drops == {Status.UNKNOWN_KEY: 5000}
        assert stats.fdb["entries"] == 0
        p.check_books()


def test_a_flood_of_remotes() -> None:
    with pair() as p:
        sources = [f"198.51.{n // 250}.{n % 250 + 1}" for n in range(2000)]
        packets = [VXLAN(vni=KEY, local=s, remote=THERE).encap(frame(0, 50)) for s in sources]
        p.underlays[0].put(packets)
        p.run()
        assert p.networks[1].stats.drops == {Status.UNKNOWN_REMOTE: 2000}
        assert len(p.networks[1].remotes) == 1
        assert p.hosts[1].take() == []
        p.check_books()


def test_a_flood_of_remotes_where_everybody_is_welcome() -> None:
    """Strangers become remotes, but not without end; the others' frames are taken all the same."""
    with pair() as p:
        p.networks[1].accept = "any"
        sources = [f"198.51.{n // 250}.{n % 250 + 1}" for n in range(1000)]
        for source in sources:
            p.underlays[0].put([VXLAN(vni=KEY, local=source, remote=THERE).encap(frame(0, 50))])
            p.run()
        assert len(p.networks[1].remotes) == 256
        assert len(p.hosts[1].take()) == 1000
        p.check_books()


def test_a_flood_of_first_segments() -> None:
    """STT frames that never end take no more than the budget, and others still come through."""
    near, far = Memory.pair(underlay=True, capacity=16384, segments=True)
    port, host = Memory.pair(mtu=9000)
    vtep = overlay.Vtep(THERE, underlay=far, networks=8, macs=64, seed=1, reassembly=1 << 20)
    try:
        network = vtep.add_network(KEY, tunnel="stt", remotes=[HERE], mtu=9000)
        network.add_port(port)
        whole = STT(context_id=KEY, local=HERE, remote=THERE)
        for n in range(3000):
            first = STT(context_id=KEY, local=HERE, remote=THERE, frame_id=n)
            near.put([first.packets(frame(n, 4000), mtu=1500)[0]])
            if n % 100 == 0:
                near.put(whole.packets(frame(n, 4000), mtu=1500))
            while vtep.poll():
                pass
        assert host.take() == [frame(n, 4000) for n in range(0, 3000, 100)]
        counts = vtep.stats.reassembly
        assert counts["memory"] <= 1 << 20
        assert counts["evicted"] > 0
        assert vtep.stats.total.missing == 0
    finally:
        vtep.close()
