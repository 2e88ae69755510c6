"""The VTEP as its user calls it: from any thread, in any order, with anything."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import overlay
from overlay import VXLAN, ConfigError, Status, Vtep
from overlay.io.device import Device, DeviceStats
from overlay.io.memory import Memory
from overlay.switch import Event

LOCAL, REMOTE = "192.0.2.1", "192.0.2.2"
A, B, EVERYONE = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b"), b"\xff" * 6


def frame(dst: bytes, src: bytes, body: bytes = b"x" * 50) -> bytes:
    return dst + src + b"\x88\xb5" + body


def packet(key: int, inner: bytes, source: str = REMOTE) -> bytes:
    return VXLAN(local=source, remote=LOCAL, vni=key).encap(inner)


class Rig:
    """A VTEP over memory, with as many ports as are asked for."""

    def __init__(self, **options: Any) -> None:
        self.events: list[Event] = []
        self.underlay, self.wire = Memory.pair(underlay=True, mtu=1600)
        options = {"networks": 64, "macs": 4096, "on_event": self.events.append} | options
        self.vtep = Vtep(LOCAL, underlay=self.underlay, **options)

    def port(self, network: Any, **options: Any) -> tuple[Any, Memory]:
        near, far = Memory.pair(mtu=9000)
        return network.add_port(near, **options), far

    def run(self) -> None:
        while self.vtep.poll():
            pass


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.vtep.close()


def until(what: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


# ---- start, stop, close --------------------------------------------------------------


def test_start_and_stop_at_once_again_and_again() -> None:
    vtep = Vtep(LOCAL, underlay=Memory.pair(underlay=True)[0], workers=2, networks=8, macs=64)
    for _ in range(200):
        vtep.start()
        vtep.stop()
    assert not vtep.running
    vtep.close()
    vtep.close()


def test_start_and_stop_from_many_threads() -> None:
    vtep = Vtep(LOCAL, underlay=Memory.pair(underlay=True)[0], workers=2, networks=8, macs=64)

    def churn() -> None:
        for _ in range(50):
            vtep.start()
            vtep.stop()

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    vtep.close()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("overlay-")])


def test_stop_forwards_what_has_arrived(rig: Rig) -> None:
    network = rig.vtep.add_network(5, remotes=[REMOTE])
    _, host = rig.port(network)
    for turn in range(20):
        assert host.put([frame(EVERYONE, A)] * 50) == 50
        rig.vtep.start()
        rig.vtep.stop()
        assert len(rig.wire.take()) == 50, turn
    assert rig.vtep.stats.total.missing == 0


def test_a_closed_vtep_takes_nothing_more(rig: Rig) -> None:
    network = rig.vtep.add_network(5)
    with rig.vtep:
        pass
    with pytest.raises(ValueError, match="closed"), rig.vtep:
        pass
    with pytest.raises(ValueError, match="closed"):
        rig.vtep.add_network(6)
    with pytest.raises(ConfigError):
        network.add_remote(REMOTE)
    rig.vtep.stop()
    rig.vtep.close()
    assert not rig.underlay.closed  # the caller's
    other = Vtep(LOCAL, underlay=rig.underlay, networks=8, macs=64)
    other.add_network(5)
    other.close()


def test_descriptors_and_threads_are_given_back() -> None:
    def once() -> None:
        rig = Rig(workers=3)
        network = rig.vtep.add_network(5, remotes=[REMOTE])
        port, host = rig.port(network)
        with rig.vtep:
            host.put([frame(EVERYONE, A)])
            assert rig.wire.take(1, timeout=20)
        for device in (port.device, host, rig.underlay, rig.wire):
            device.close()

    once()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        once()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [t for t in threading.enumerate() if t.name.startswith("overlay-")]


# ---- devices that go -------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_a_device_that_is_closed_while_it_is_a_port(workers: int) -> None:
    rig = Rig(workers=workers)
    network = rig.vtep.add_network(5, remotes=[REMOTE])
    port, host = rig.port(network)
    other, _ = rig.port(network)
    with rig.vtep:
        for n in range(200):
            rig.wire.put([packet(5, frame(EVERYONE, B))])
            host.put([frame(EVERYONE, A)])
            if n == 100:
                port.device.close()
                assert port.device.closed
        until(lambda: port.stats.out_frames + other.stats.out_frames >= 200)
        rig.vtep.stop()
        assert network.stats.drops[Status.DEVICE_DOWN] > 0
        assert network.stats.missing == 0
        network.remove_port(port)
    assert rig.vtep.stats.total.missing == 0


def test_an_underlay_that_is_closed_while_it_is_used() -> None:
    rig = Rig(workers=2)
    network = rig.vtep.add_network(5, mtu=1400, remotes=[REMOTE])
    _, host = rig.port(network)
    with rig.vtep:
        host.put([frame(EVERYONE, A)])
        assert rig.wire.take(1, timeout=20)
        rig.underlay.close()
        host.put([frame(EVERYONE, A)])
        until(lambda: Status.DEVICE_DOWN in network.stats.drops)
    assert rig.vtep.stats.total.missing == 0


def test_a_device_is_in_one_use(rig: Rig) -> None:
    near, _ = Memory.pair()
    network = rig.vtep.add_network(5)
    port = network.add_port(near)
    with Vtep(LOCAL, underlay=Memory.pair(underlay=True)[0], networks=8, macs=64) as other:
        twin = other.add_network(5)
        with pytest.raises(ConfigError, match="no other use"):
            twin.add_port(near)
        assert twin.ports == ()
        network.remove_port(port)
        twin.add_port(near)
    network.add_port(near)


class Source(Device):
    """A device in Python, which gives a frame with every recv and counts what it is sent."""

    def __init__(self, given: list[bytes], error: bool = False) -> None:
        self.given, self.error, self.sent = given, error, 0

    def recv(self, batch: Any) -> int:
        if self.error:
            raise RuntimeError("broken")
        frames, self.given = self.given[:8], self.given[8:]
        batch.clear()
        for one in frames:
            batch.append(one)
        return len(frames)

    def send(self, batch: Any) -> int:
        self.sent += len(batch)
        return len(batch)

    @property
    def stats(self) -> DeviceStats:
        return DeviceStats()

    def close(self) -> None:
        pass


# ---- events -----------------------------------------------------------------------------


def test_an_event_handler_that_fails_ends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda given: shown.append(given.exc_value))

    def fail(event: Event) -> None:
        rig.events.append(event)
        raise RuntimeError("the handler's own")

    rig.vtep.on_event = fail
    _, host = rig.port(rig.vtep.add_network(5))
    rig.vtep.start()
    for n in range(5):
        host.put([frame(EVERYONE, bytes([2, 0, 0, 0, 0, n + 1]))])
    until(lambda: len([e for e in rig.events if e.kind == "learned"]) == 5)
    until(lambda: len(shown) >= 5)
    assert {type(error) for error in shown} == {RuntimeError}
    rig.vtep.on_event = None
    rig.vtep.stop()


def test_close_is_whole_whatever_a_handler_raises() -> None:
    rig = Rig()
    _, host = rig.port(rig.vtep.add_network(5))
    host.put([frame(EVERYONE, A)])

    def fail(event: Event) -> None:
        raise RuntimeError("the handler's own")

    rig.vtep.on_event = fail
    rig.vtep.start()
    until(lambda: rig.vtep.stats.total.ports.in_frames)
    with suppress(RuntimeError):
        rig.vtep.close()
    assert not rig.vtep.running
    assert rig.vtep.networks == {}


def test_a_handler_may_change_everything(rig: Rig) -> None:
    network = rig.vtep.add_network(5)
    _, host = rig.port(network)
    done: list[str] = []

    def change(event: Event) -> None:
        if event.kind == "learned" and not done:
            done.append("begun")
            rig.vtep.add_network(6, remotes=[REMOTE])
            network.fdb.remove(event.mac or "")
            rig.vtep.remove_network(6)
            rig.vtep.stop()
            rig.vtep.start()
            done.append("ended")

    rig.vtep.on_event = change
    rig.vtep.start()
    host.put([frame(EVERYONE, A)])
    until(lambda: len(done) == 2)
    assert rig.vtep.running
    rig.vtep.stop()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("overlay-")])


def test_events_speak_of_what_was_there_then(rig: Rig) -> None:
    """Numbers are used again; what a worker told of the first that had one stays its own."""
    network = rig.vtep.add_network(5)
    port, host = rig.port(network)
    host.put([frame(EVERYONE, A)])
    rig.vtep._chassis.round(0, 0)  # a worker's round, which nobody has heard of yet
    network.remove_port(port)
    again, _ = rig.port(network)
    rig.vtep.poll()
    told = next(event for event in rig.events if event.kind == "learned")
    assert told.where is port
    assert told.where is not again


def test_a_stranger_to_one_network_is_no_remote_of_the_next(rig: Rig) -> None:
    first = rig.vtep.add_network(5, accept="any")
    rig.wire.put([packet(5, frame(EVERYONE, A), "192.0.2.66")])
    rig.vtep._chassis.round(0, 0)
    rig.vtep.remove_network(first)
    second = rig.vtep.add_network(6, accept="any")
    rig.run()
    assert second.remotes == ()


# ---- isolation -----------------------------------------------------------------------------


def test_an_entry_for_a_place_that_went_leads_nowhere_else(rig: Rig) -> None:
    """A thread that found a port and enters it after it went."""
    first, second = rig.vtep.add_network(5), rig.vtep.add_network(6)
    port, _ = rig.port(first)
    remote = first.add_remote("192.0.2.3")
    _, host = rig.port(first)
    first.remove_port(port)
    first.remove_remote(remote)
    other, theirs = rig.port(second)
    their_remote = second.add_remote("192.0.2.4")
    assert (other.number, their_remote.number) == (port.number, remote.number)
    table = rig.vtep._table
    table.set(first.number, int.from_bytes(A, "big"), port.number, table.STATIC, 0)
    table.set(first.number, int.from_bytes(B, "big"), remote.number | rig.vtep._live.REMOTE, 0, 0)
    host.put([frame(A, b"\x02\0\0\0\0\1"), frame(B, b"\x02\0\0\0\0\1")])
    rig.run()
    assert theirs.take() == []
    assert rig.wire.take() == []
    assert first.stats.missing == 0


# ---- what a caller gets wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("local", "nowhere at all"), ("local", 7), ("tunnel", "gre"), ("workers", 0),
        ("workers", 65), ("workers", "2"), ("mtu", 100), ("mtu", 65536), ("port", 0),
        ("seed", -1), ("seed", "x"), ("networks", 0), ("networks", 65535), ("macs", 0),
        ("neighbors", 0), ("reassembly", 1), ("fragments", "keep"), ("profile", 5),
        ("checksum", "yes"), ("on_event", 5), ("underlay", "eth0"),
    ],
)  # fmt: skip
def test_a_vtep_with_a_wrong_argument(field: str, value: object) -> None:
    before = len(os.listdir("/proc/self/fd"))
    options: dict[str, Any] = {"local": LOCAL, "networks": 8, "macs": 64} | {field: value}
    with pytest.raises((ConfigError, OSError)) as caught:
        Vtep(**options)
    if isinstance(caught.value, ConfigError):
        assert caught.value.field == field
    del caught
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", -1), ("key", 1 << 24), ("key", "5"), ("tunnel", "gre"), ("mtu", 67),
        ("mtu", "1500"), ("remotes", ["x"]), ("remotes", "192.0.2.9"), ("remotes", 5),
        ("remotes", ["192.0.2.9", "192.0.2.9"]), ("remotes", ["2001:db8::1"]), ("learn", 1),
        ("ageing", -1), ("ageing", "5"), ("suppress_arp", 1), ("limit", 0), ("accept", "all"),
        ("mss_clamp", 5), ("gbp", 65536), ("group", "x"), ("group", "192.0.2.9"), ("name", 5),
        ("ttl", 256), ("source_port", "x"),
    ],
)  # fmt: skip
def test_a_network_with_a_wrong_argument(rig: Rig, field: str, value: object) -> None:
    arguments: dict[str, Any] = {"key": 5} | {field: value}
    with pytest.raises(ConfigError):
        rig.vtep.add_network(**arguments)
    assert rig.vtep.networks == {}
    network = rig.vtep.add_network(5, remotes=["192.0.2.9"])  # nothing was left behind
    assert network.number == 0
    assert network.remotes[0].number == 0


@pytest.mark.parametrize(
    "options",
    [
        {"device": 5}, {"vlan": 4096}, {"vlan": "1"}, {"mac": "x"}, {"mac": EVERYONE},
        {"mac": bytes(6)}, {"name": 5},
    ],
)  # fmt: skip
def test_a_port_with_a_wrong_argument(rig: Rig, options: dict[str, Any]) -> None:
    network = rig.vtep.add_network(5)
    near, _ = Memory.pair()
    arguments: dict[str, Any] = {"device": near} | options
    with pytest.raises(ConfigError):
        network.add_port(**arguments)
    assert network.ports == ()
    assert network.add_port(near).number == 0


def test_a_port_of_a_device_that_will_not_do(rig: Rig) -> None:
    network = rig.vtep.add_network(5)
    closed, _ = Memory.pair()
    closed.close()
    for device in (closed, rig.wire, rig.underlay):
        with pytest.raises(ConfigError, match="device"):
            network.add_port(device)
    near, _ = Memory.pair()
    network.add_port(near)
    for vlan in (None,):
        with pytest.raises(ConfigError, match="untagged"):
            network.add_port(near, vlan=vlan)
    network.add_port(near, vlan=1)
    with pytest.raises(ConfigError, match="VLAN 1"):
        network.add_port(near, vlan=1)
    assert len(network.ports) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"address": "x"}, {"address": 5}, {"address": "2001:db8::1"}, {"tunnel": "gre"},
        {"key": 1 << 24}, {"relay": "no"}, {"flood": 1}, {"ttl": 256}, {"key": 6},
    ],
)  # fmt: skip
def test_a_remote_with_a_wrong_argument(rig: Rig, options: dict[str, Any]) -> None:
    network = rig.vtep.add_network(5)
    rig.vtep.add_network(6)
    arguments: dict[str, Any] = {"address": REMOTE} | options
    with pytest.raises(ConfigError):
        network.add_remote(**arguments)
    assert network.remotes == ()
    with pytest.raises(ConfigError):
        network.remove_remote("nonsense")
    assert network.add_remote(REMOTE).number == 0
    rig.vtep.remove_network(5)
    rig.vtep.add_network(5)


def test_counters_of_what_was_taken_away_are_not_anothers(rig: Rig) -> None:
    network = rig.vtep.add_network(5, remotes=[REMOTE])
    port, host = rig.port(network)
    remote = network.remotes[0]
    host.put([frame(EVERYONE, A)])
    rig.run()
    assert (port.stats.in_frames, remote.stats.out_frames) == (1, 1)
    network.remove_port(port)
    network.remove_remote(remote)
    _, other = rig.port(network)
    network.add_remote("192.0.2.3")
    other.put([frame(EVERYONE, A)] * 3)
    rig.run()
    assert (port.stats.in_frames, remote.stats.out_frames) == (1, 1)
    rig.vtep.remove_network(network)
    again = rig.vtep.add_network(7)
    assert network.stats.ports.in_frames == 4
    assert again.stats.ports.in_frames == 0


# ---- many at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 4])
def test_everything_changes_while_traffic_runs(workers: int) -> None:
    """Threads that add, remove and ask while workers forward; at the end the books balance."""
    rig = Rig(workers=workers)
    steady = rig.vtep.add_network(5, remotes=[REMOTE], suppress_arp=True)
    ports = [rig.port(steady) for _ in range(3)]
    slow = Source([frame(EVERYONE, A)] * 4000)
    steady.add_port(slow, name="python")
    trunk, trunk_far = Memory.pair()
    errors: list[BaseException] = []
    stop = threading.Event()

    def churn(key: int) -> None:
        network = rig.vtep.add_network(key, remotes=[REMOTE], accept="any")
        port = network.add_port(trunk, vlan=key)
        network.fdb.add(A, port)
        network.neighbors.add("10.0.0.1", A)
        network.learn = False
        remote = network.add_remote("192.0.2.3", relay=True)
        network.fdb.add(B, remote)
        network.remove_remote(REMOTE)
        list(network.fdb)
        assert network.stats.ports.in_frames >= 0
        network.remove_port(port)
        rig.vtep.remove_network(network)

    def changer(key: int) -> None:
        while not stop.is_set():
            churn(key)

    def reader() -> None:
        while not stop.is_set():
            assert rig.vtep.stats.networks >= 1
            assert len(rig.vtep.networks) >= 1
            rig.vtep.age()

    def traffic() -> None:
        while not stop.is_set():
            for key in (5, 10, 11):
                rig.wire.put([packet(key, frame(EVERYONE, B), "192.0.2.7"), packet(key, b"x" * 60)])
            tag = b"\x81\x00\x00" + bytes([10])
            trunk_far.put([EVERYONE + A + tag + b"\x88\xb5" + b"x" * 40])
            for _, far in ports:
                far.put([frame(EVERYONE, A)] * 8)
                far.take()
            trunk_far.take()
            rig.wire.take()

    def guarded(work: Callable[..., None], *args: int) -> threading.Thread:
        def run() -> None:
            try:
                work(*args)
            except BaseException as error:
                errors.append(error)

        return threading.Thread(target=run)

    jobs = [guarded(changer, 10), guarded(changer, 11), guarded(reader), guarded(traffic)]
    with rig.vtep:
        for job in jobs:
            job.start()
        until(lambda: (slow.sent > 500 and steady.stats.ports.in_frames > 4000) or errors)
        stop.set()
        for job in jobs:
            job.join(30)
            assert not job.is_alive()
        rig.vtep.stop()
        assert errors == []
        assert rig.vtep.stats.total.missing == 0
        assert steady.stats.missing == 0


# ---- partial checksums ------------------------------------------------------------------


@pytest.mark.parametrize("tunnel", ["vxlan", "stt"])
@pytest.mark.parametrize("tags", [0, 1, 2])
def test_a_partial_checksum_is_right_where_it_leaves(rig: Rig, tunnel: str, tags: int) -> None:
    """The header of STT has words for one tag; what it cannot say is completed before."""
    network = rig.vtep.add_network(5, tunnel=tunnel, remotes=[REMOTE])
    _, host = rig.port(network)
    udp = bytes.fromhex("1389138a0010") + b"\0\0" + bytes(8)
    ip = bytes.fromhex("4500002400004000401100000a0000010a000002")
    pseudo = ip[12:20] + bytes.fromhex("00110010")
    ip = ip[:10] + overlay.checksum(ip).to_bytes(2, "big") + ip[12:]
    partial = (0xFFFF ^ overlay.checksum(pseudo)).to_bytes(2, "big")
    head = bytes.fromhex("ffffffffffff020000000001") + bytes.fromhex("81000007") * tags + b"\x08\0"
    batch = overlay.Batch.from_frames([head + ip + udp[:6] + partial + udp[8:]])
    batch.checksum[0] = 2
    assert host.send(batch) == 1
    rig.run()
    (packet,) = rig.wire.take()
    inner = overlay.decap(packet).frame[len(head) + 20 :]
    assert overlay.checksum(pseudo + inner) == 0
