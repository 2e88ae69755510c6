"""The lab itself: it sees what works and what does not, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from lab import all_passed, need_hosts, need_tap, need_tools
from overlay.cli import cli
from overlay.errors import ConfigError
from overlay.lab import exam, picture, traffic
from overlay.lab.capture import Capture, examine
from overlay.lab.host import Host, LabError, MissingError
from overlay.lab.ovs import OvsGre, OvsVxlan
from overlay.lab.peer import KernelVxlan, Peer, Segment
from overlay.lab.topology import Topology

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def hosts() -> None:
    need_hosts()
    need_tools("ping", "ethtool")


def started(topology: Topology, kind: type[Peer], segment: Segment) -> list[Peer]:
    peers: list[Peer] = [kind(topology, host, segment) for host in topology.hosts]
    for peer in peers:
        peer.start()
    return peers


@pytest.mark.parametrize("version", [4, 6])
def test_the_kernel_passes_with_itself(version: int) -> None:
    """The oracle: everything that is asked of overlay, the kernel does."""
    with Topology(offload="wire") as topology:
        one, two = started(topology, KernelVxlan, Segment(version=version))
        all_passed(exam.connectivity(one, two))
        all_passed(exam.sizes(one, two))
        all_passed(exam.tags(one, two))
        all_passed(exam.streams(one, two, 10_000_000))
        all_passed(exam.capture(one, two, f"{topology.folder}/lab.pcap"))
        two.restart()
        all_passed(exam.connectivity(one, two))


def test_three_hosts_hear_one_another() -> None:
    with Topology(3) as topology:
        one, two, three = started(topology, KernelVxlan, Segment())
        for pair in ((one, two), (two, three), (three, one)):
            all_passed(exam.connectivity(*pair))
        assert traffic.broadcast(two, [one, three]) == [True, True]


@pytest.mark.parametrize("kind", [OvsVxlan, OvsGre])
def test_open_vswitch_passes_with_itself(kind: type[Peer]) -> None:
    need_tools("ovs-vswitchd", "ovsdb-server")
    need_tap()
    with Topology(offload="wire") as topology:
        one, two = started(topology, kind, Segment(kind.tunnels[0]))
        all_passed(exam.connectivity(one, two))
        all_passed(exam.streams(one, two, 1_000_000))
        two.restart()
        all_passed(exam.connectivity(one, two))


def test_what_does_not_work_is_seen() -> None:
    """Two ends of different keys: nothing passes, and no result says otherwise."""
    with Topology() as topology:
        a, b = topology.hosts
        one = KernelVxlan(topology, a, Segment(key=1))
        two = KernelVxlan(topology, b, Segment(key=2))
        one.start()
        two.start()
        seen = traffic.ping(one, two, count=1, wait=0.2)
        assert (seen.sent, seen.received, seen.lossless) == (1, 0, False)
        assert traffic.broadcast(one, [two], wait=0.2) == [False]
        assert not traffic.tagged(one, two, [(0x8100, 5)], wait=0.2)
        assert not traffic.transfer(one, two, 1000, wait=0.5).intact


def test_tshark_finds_a_bad_checksum() -> None:
    """Packets whose checksums the offload has not completed yet are faults."""
    need_tools("tshark")
    with Topology(offload="veth") as topology:
        one, two = started(topology, KernelVxlan, Segment(key=77))
        path = f"{topology.folder}/bad.pcap"
        with Capture(one.host, path):
            traffic.transfer(one, two, 1000)
        verdict = examine(path, one.segment)
        assert verdict.faulty
        assert not verdict.good(Segment(key=77))


def test_a_host_is_named_in_what_goes_wrong() -> None:
    host = Host("left")
    with pytest.raises(LabError, match="host left: ip link set nothing up: Cannot find device"):
        host.ip("link", "set", "nothing", "up")
    with pytest.raises(MissingError, match="no-such-tool is missing: apt install"):
        host.run(["no-such-tool"])
    with pytest.raises(LabError, match="host left: sleep 9: not done after"):
        host.run(["sleep", "9"], timeout=0.05)
    host.close()
    with pytest.raises(LabError, match="host left is closed"):
        host.ip("link")


def test_wrong_topologies_are_refused() -> None:
    with pytest.raises(ConfigError, match="hosts=4"):
        Topology(4)
    with pytest.raises(ConfigError, match="mtu=100"):
        Topology(mtu=100)
    with Topology() as topology, pytest.raises(ConfigError, match="tunnel='stt'"):
        KernelVxlan(topology, topology.hosts[0], Segment(tunnel="stt"))


def test_the_picture_shows_names_and_addresses() -> None:
    for count in (2, 3):
        with Topology(count) as topology:
            peers: list[Peer] = [KernelVxlan(topology, h, Segment()) for h in topology.hosts]
            drawn = picture.draw(peers)
            for peer in peers:
                for word in (f"host {peer.host.name}", peer.address(), peer.mac, peer.local):
                    assert word in drawn
            assert max(map(len, drawn.splitlines())) <= 100


_VICTIM = """
import sys, time
from overlay.lab.topology import Topology
from overlay.lab.peer import KernelVxlan, Segment
topology = Topology(3)
for host in topology.hosts:
    KernelVxlan(topology, host, Segment()).start()
process = topology.hosts[0].popen(["ping", "192.0.2.2"])
print(topology.folder, process.pid, flush=True)
time.sleep(60)
"""


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return met


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_behind(how: signal.Signals) -> None:
    def devices() -> set[str]:
        return set(os.listdir("/sys/class/net"))

    before = devices()
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert victim.stdout is not None
    with victim.stdout:
        folder, pid = victim.stdout.readline().split()
    assert os.path.isdir(folder)
    assert os.path.isdir(f"/proc/{pid}")
    victim.send_signal(how)
    victim.wait()

    def dead() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    assert eventually(dead)
    assert eventually(lambda: not os.path.exists(folder))
    assert devices() <= before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peer", "kernel", "--tunnel", "nvgre"], "--peer kernel speaks vxlan; --tunnel nvgre"),
        (["--peer", "ovs", "--tunnel", "stt"], "--tunnel stt goes with --peer overlay"),
        (["--hosts", "4"], "4 is not in the range"),
        (["--keep", "--json"], "exclude each other"),
    ],
)
def test_what_cannot_be_is_a_usage_error(words: list[str], said: str) -> None:
    result = CliRunner().invoke(cli, ["lab", *words])
    assert result.exit_code == 2
    assert said in result.output
