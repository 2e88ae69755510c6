"""The MAC table: a dictionary that many threads share, with bounds."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from conftest import missing
from namespace import OUTSIDE
from overlay import ConfigError
from overlay.io.device import live
from overlay.reference.fdb import Fdb as Model
from overlay.switch.fdb import Entry, Fdb

ROOT = Path(__file__).parent.parent
A, B, C = (f"02:00:00:00:00:{n:02x}" for n in (0xAA, 0xBB, 0xCC))
PLACES = ["port0", "port1", "remote0"]
FdbTable = live().FdbTable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.5

    def __call__(self) -> float:
        return self.now


class Site:
    """A table with views of some networks, whose places are strings."""

    def __init__(self, capacity: int = 1000, networks: int = 4) -> None:
        self.clock = Clock()
        self.table = FdbTable(capacity, networks, 7)
        self.networks = [
            Fdb(self.table, n, self.to_dest, self.from_dest, self.clock) for n in range(networks)
        ]
        self.fdb = self.networks[0]
        self.gone: set[str] = set()

    def to_dest(self, where: str) -> int:
        if where not in PLACES:
            raise ConfigError("where", where, "a port or remote of this network")
        return PLACES.index(where) | 0x800000

    def from_dest(self, dest: int) -> str | None:
        where = PLACES[dest & 0x7FFFFF]
        return None if where in self.gone else where


@pytest.fixture
def site() -> Site:
    return Site()


def keys(count: int, network: int = 0, seed: int = 1) -> np.ndarray:
    """Keys of different MACs."""
    macs = np.random.default_rng(seed).choice(1 << 40, count, replace=False).astype(np.uint64)
    return macs | np.uint64(network + 1) << np.uint64(48)


# ---- one network as its user sees it -----------------------------------------------


def test_learned_entries_move_and_age(site: Site) -> None:
    fdb = site.fdb
    assert fdb.lookup(A) is None
    assert fdb.learn(A, "port0")
    assert fdb.lookup(A) == Entry(A, "port0", static=False, sticky=False, age=0.0)
    site.clock.now += 10
    assert fdb.lookup(A.upper().replace(":", "-")).age == 10.0
    assert fdb.learn(A, "remote0")
    assert fdb.lookup(bytes.fromhex(A.replace(":", ""))).where == "remote0"
    assert site.table.stats["moved"] == 1
    site.clock.now += 30
    assert fdb.age(30) == 0
    site.clock.now += 1
    assert fdb.age(30) == 1
    assert A not in fdb
    assert len(fdb) == 0


def test_static_entries_stay_where_they_are(site: Site) -> None:
    fdb = site.fdb
    fdb.learn(A, "port1")
    fdb.add(A, "port0")
    assert not fdb.learn(A, "remote0")
    assert fdb.learn(A, "port0")
    site.clock.now += 1e6
    assert fdb.age(0) == 0
    assert fdb.flush() == 0
    assert fdb.lookup(A).where == "port0"
    assert fdb.lookup(A).static
    assert site.table.stats["spoofed"] == 1
    assert fdb.remove(A)
    assert not fdb.remove(A)
    assert fdb.learn(A, "remote0")


def test_sticky_entries_age_but_do_not_move(site: Site) -> None:
    site.fdb.add(A, "port0", sticky=True)
    assert not site.fdb.learn(A, "port1")
    entry = site.fdb.lookup(A)
    assert (entry.where, entry.static, entry.sticky) == ("port0", False, True)
    site.clock.now += 100
    assert site.fdb.learn(A, "port0")
    assert site.fdb.age(50) == 0
    site.clock.now += 100
    assert site.fdb.age(50) == 1
    assert site.fdb.learn(A, "port1")


def test_a_ports_own_mac_is_not_to_be_had(site: Site) -> None:
    table, mac = site.table, int(A.replace(":", ""), 16)
    assert table.set(0, mac, site.to_dest("port0"), table.OWN, 0) == table.LEARNED
    assert table.learn(0, mac, site.to_dest("port0"), 0) == (table.KNOWN, None)
    assert table.learn(0, mac, site.to_dest("port1"), 0) == (table.OWNED, site.to_dest("port0"))
    with pytest.raises(ConfigError, match="mac="):
        site.fdb.add(A, "port1")
    with pytest.raises(ConfigError, match="mac="):
        site.fdb.remove(A)
    assert site.fdb.flush(static=True) == 0
    assert site.fdb.lookup(A).static
    assert table.flush(0, site.to_dest("port0"), flags=table.STATIC | table.OWN) == 1


def test_flush_by_place(site: Site) -> None:
    fdb = site.fdb
    for n in range(30):
        fdb.learn(f"02:00:00:00:01:{n:02x}", PLACES[n % 3])
    fdb.add(A, "remote0")
    assert fdb.flush(remote="remote0") == 10
    assert fdb.flush(port="port0", static=True) == 10
    assert A in fdb
    assert fdb.flush("port1", "remote0", static=True) == 11
    assert len(fdb) == 0


def test_networks_are_apart(site: Site) -> None:
    one, other = site.networks[:2]
    one.learn(A, "port0")
    other.learn(A, "port1")
    other.learn(B, "port1")
    assert [entry.where for entry in one] == ["port0"]
    assert one.flush() == 1
    assert {entry.mac for entry in other} == {A, B}
    assert (len(one), len(other)) == (0, 2)


def test_entries_of_places_that_are_gone_are_not_shown(site: Site) -> None:
    site.fdb.learn(A, "port0")
    site.gone.add("port0")
    assert site.fdb.lookup(A) is None
    assert list(site.fdb) == []


@pytest.mark.parametrize(
    "mac", ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "x", b"12345", 7]
)
def test_macs_of_no_host_are_refused(site: Site, mac: object) -> None:
    for call in (
        lambda: site.fdb.add(mac, "port0"),
        lambda: site.fdb.learn(mac, "port0"),
        lambda: site.fdb.lookup(mac),
        lambda: site.fdb.remove(mac),
    ):
        with pytest.raises(ConfigError, match="mac="):
            call()


def test_places_of_other_networks_are_refused(site: Site) -> None:
    for call in (site.fdb.add, site.fdb.learn):
        with pytest.raises(ConfigError, match="where="):
            call(A, "elsewhere")
    with pytest.raises(ConfigError, match="seconds="):
        site.fdb.age(-1)


# ---- bounds ---------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 3, 100, 4096])
def test_a_full_table_refuses_and_keeps_what_it_knows(capacity: int) -> None:
    site = Site(capacity)
    table, good = site.table, keys(capacity)
    dests = np.arange(capacity, dtype=np.uint32)
    assert set(table.learn_keys(good, dests, 5)) == {table.LEARNED}
    flood = keys(10 * capacity, network=1, seed=2)
    assert set(table.learn_keys(flood, np.zeros(flood.size, np.uint32), 5)) == {table.FULL}
    assert (table.find_keys(good) & np.uint64(0xFFFFFF)).tolist() == dests.tolist()
    assert not table.find_keys(flood).any()
    stats = table.stats
    assert (stats["entries"], stats["refused"]) == (capacity, flood.size)
    with pytest.raises(ConfigError, match="room in the FDB"):
        site.fdb.add(A, "port0")
    # What is known still moves; what goes makes room.
    assert set(table.learn_keys(good, dests + 1, 5)) == {table.MOVED}
    assert table.flush(0, dest=1) == 1
    site.fdb.add(A, "port0")


def test_a_networks_share(site: Site) -> None:
    table = site.table
    table.configure(1, most=3)
    results = table.learn_keys(keys(5, 1), np.zeros(5, np.uint32), 0)
    assert results.tolist() == [table.LEARNED] * 3 + [table.FULL] * 2
    assert set(table.learn_keys(keys(5, 2), np.zeros(5, np.uint32), 0)) == {table.LEARNED}
    # Static entries are the operator's: they do not count, and neither does what became one.
    site.networks[1].add(A, "port0")
    first = int(keys(5, 1)[0]) & 0xFFFFFFFFFFFF
    table.set(1, first, 0, table.STATIC, 0)
    assert table.learn_keys(keys(5, 1)[4:], np.zeros(1, np.uint32), 0) == [table.LEARNED]
    assert len(site.networks[1]) == 5


def test_memory_and_limits() -> None:
    assert FdbTable(1_000_000, 1).size < 64 * 1_000_000
    for fields in ({"capacity": 0}, {"capacity": 1 << 31}, {"networks": 0}, {"networks": 65536}):
        with pytest.raises(ConfigError, match=next(iter(fields))):
            FdbTable(**{"capacity": 10, **fields})
    table = FdbTable(10, 4)
    for network, mac in ((4, 1), (-1, 1), (0, 1 << 48), (0, -1)):
        with pytest.raises(ConfigError):
            table.find(network, mac)
    # Keys of networks that the table does not have are nobody's.
    assert table.learn_keys(keys(1, 4), np.zeros(1, np.uint32), 0) == [table.FULL]
    assert not table.find_keys(np.zeros(4, np.uint64)).any()


def test_macs_in_a_row_spread_well() -> None:
    """Adjacent MACs in adjacent networks, as clouds give them, fill the table to the last."""
    table = FdbTable(50_000, 100)
    macs = np.arange(500, dtype=np.uint64) + np.uint64(0x020000000000)
    some = np.concatenate([macs | np.uint64(n + 1) << np.uint64(48) for n in range(100)])
    assert set(table.learn_keys(some, np.zeros(some.size, np.uint32), 0)) == {table.LEARNED}
    assert table.find_keys(some).all()
    assert sorted(table.entries()[0].tolist()) == sorted(some.tolist())


# ---- ageing ---------------------------------------------------------------------------


def test_each_network_has_its_age_and_a_sweep_is_done_in_pieces() -> None:
    table = FdbTable(1000, 3)
    table.configure(0, age=10)
    table.configure(1, age=20)
    for network in range(3):
        table.learn_keys(keys(100, network), np.full(100, network, np.uint32), 100)
    table.learn_keys(keys(100, 0)[:50], np.zeros(50, np.uint32), 105)  # heard again

    def sweep(now: int) -> list[int]:
        cursor, gone, pieces = 0, [], 0
        while pieces == 0 or cursor:
            cursor, some, values = table.age(now, cursor, 10)
            assert (some >> np.uint64(48) == (values & np.uint64(0xFFFFFF)) + np.uint64(1)).all()
            gone += some.tolist()
            pieces += 1
        assert pieces == -(-table.buckets // 10)
        return sorted(gone)

    assert sweep(110) == []
    assert sweep(111) == sorted(keys(100, 0)[50:].tolist())
    assert sweep(121) == sorted([*keys(100, 0)[:50].tolist(), *keys(100, 1).tolist()])
    assert sweep(1 << 31) == []  # no age: never
    assert table.count(2) == len(table) == 100
    assert table.stats["aged"] == 200


def test_a_clock_behind_ages_nothing(site: Site) -> None:
    """Workers' clocks may be read in any order; a stamp may lie ahead of now."""
    table = site.table
    table.configure(0, age=1)
    table.learn(0, 1, 0, 100)
    assert table.age(99)[1].size == 0
    table.learn(0, 1, 0, 0xFFFFFFFF)
    assert table.age(0)[1].size == 0  # one second later, the stamp having come round
    assert table.age(1)[1].size == 1


# ---- against a dictionary ---------------------------------------------------------------

macs = st.integers(1, 40).map(lambda n: bytes([2, 0, 0, 0, 0, n]))
places = st.sampled_from(PLACES)


class Tables(RuleBasedStateMachine):
    """The table does what the twin does, network by network."""

    @initialize(limit=st.sampled_from([None, 1, 5]))
    def begin(self, limit: int | None) -> None:
        self.site = Site(200, 2)
        self.models = [Model(limit, 300.0) for _ in range(2)]
        for network in range(2):
            self.site.table.configure(network, limit or 0, 300)

    @rule(network=st.integers(0, 1), mac=macs, where=places)
    def learn(self, network: int, mac: bytes, where: str) -> None:
        model, now = self.models[network], int(self.site.clock())
        expected = model.learn(mac, where, now)
        entry = model.lookup(mac)
        done = self.site.networks[network].learn(mac, where)
        assert done == (entry is not None and entry.where == where)
        assert expected is None or done

    @rule(network=st.integers(0, 1), mac=macs, where=places, sticky=st.booleans())
    def add(self, network: int, mac: bytes, where: str, sticky: bool) -> None:
        self.models[network].add(mac, where, int(self.site.clock()), sticky=sticky)
        self.site.networks[network].add(mac, where, sticky=sticky)

    @rule(network=st.integers(0, 1), mac=macs)
    def remove(self, network: int, mac: bytes) -> None:
        assert self.site.networks[network].remove(mac) == self.models[network].remove(mac)

    @rule(network=st.integers(0, 1), where=st.none() | places, static=st.booleans())
    def flush(self, network: int, where: str | None, static: bool) -> None:
        gone = self.site.networks[network].flush(where, static=static)
        assert gone == self.models[network].flush(where, static=static)

    @rule(seconds=st.sampled_from([1, 100, 200]))
    def wait(self, seconds: int) -> None:
        self.site.clock.now += seconds

    @rule(network=st.integers(0, 1))
    def age(self, network: int) -> None:
        assert self.site.networks[network].age() == self.models[network].age(int(self.site.clock()))

    @invariant()
    def same(self) -> None:
        for fdb, model in zip(self.site.networks, self.models, strict=True):
            here = {e.mac: (e.where, e.static, e.sticky) for e in fdb}
            there = {mac.hex(":"): (e.where, e.static, e.sticky) for mac, e in model}
            assert here == there
            assert len(fdb) == len(model)


TestTables = Tables.TestCase
TestTables.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# ---- threads ------------------------------------------------------------------------------


def test_many_threads_learn_and_look_at_once() -> None:
    """Without the GIL: what stays is always found; the counts are right in the end."""
    table = FdbTable(40_000, 8)
    staying = keys(10_000, 0)
    dests = np.arange(staying.size, dtype=np.uint32)
    table.learn_keys(staying, dests, 0)

    def look(_: int) -> None:
        for _ in range(20):
            values = table.find_keys(staying)
            assert (values & np.uint64(0xFFFFFF) == dests).all()
            assert table.entries(0)[0].size == staying.size

    def churn(n: int) -> None:
        some = keys(5_000, n)
        for now in range(10):
            results = table.learn_keys(some, np.full(some.size, n, np.uint32), now)
            assert set(results) <= {table.KNOWN, table.LEARNED, table.BUSY}
            while now % 2 and table.count(n):
                table.flush(n)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: look(n) if n % 2 else churn(n), range(1, 8)))
    assert len(table) == staying.size == table.entries()[0].size
    assert set(table.learn_keys(staying, dests, 9)) == {table.KNOWN}


@pytest.mark.parametrize("compiler", ["cc", "clang"])
def test_no_data_race(compiler: str, tmp_path: Path) -> None:
    """Readers, learners and a manager on a table so tight that its entries move all the time."""
    cc = shutil.which(compiler) or missing(compiler)
    program = tmp_path / "fdb_stress"
    build = [
        cc, "-std=c11", "-O1", "-g", "-fsanitize=thread", f"-I{ROOT}/csrc", "-o", str(program),
        str(ROOT / "tests/fdb_stress.c"), str(ROOT / "csrc/fdb.c"), "-lpthread",
    ]  # fmt: skip
    built = subprocess.run(build, capture_output=True, text=True)
    if "tsan" in built.stderr and built.returncode:
        missing(f"{compiler}'s thread sanitizer")
    assert built.returncode == 0, built.stderr
    ran = subprocess.run(
        [str(program), "50000"], capture_output=True, text=True, timeout=300, env=OUTSIDE
    )
    assert ran.returncode == 0, ran.stderr
