"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import HERE, missing
from lab import need_hosts, need_tap, need_tools

PLUGIN = "overlay.pytest.plugin"
Run = Callable[..., pytest.RunResult]

HEAD = """
import pytest
import overlay
from overlay.lab.peer import TENANT
from overlay.pytest import Packet, assert_packets_equal

HERE = dict(local="192.0.2.2", remote="192.0.2.1", remote_mac="02:ff:00:00:00:01")
TUNNEL = overlay.VXLAN(vni=5001, **HERE)
FRAME = bytes.fromhex("020000000001" "02000000000a" "88b5") + bytes(range(46))
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(source, *words)``: a run of pytest on this file, with this plugin and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    def run(source: str, *words: str, apart: bool = False) -> pytest.RunResult:
        pytester.makepyfile(test_it=HEAD + textwrap.dedent(source))
        start = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return start("-p", PLUGIN, *words)

    return run


# -- what it costs --------------------------------------------------------------------------


def test_loading_it_is_cheap() -> None:
    """The package and this file, and nothing heavier."""
    code = f"""
import sys, pytest, overlay
before = set(sys.modules)
import {PLUGIN}
print(*sorted(set(sys.modules) - before))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert PLUGIN in loaded
    assert {name.split(".")[0] for name in loaded} <= {"overlay"}
    assert not [name for name in loaded if name.startswith(("overlay.lab", "overlay.io"))]


def test_the_package_announces_it() -> None:
    content = (HERE.parent / "pyproject.toml").read_text()
    assert f'[project.entry-points.pytest11]\noverlay = "{PLUGIN}"\n' in content


def test_runs_that_use_nothing_of_it_are_as_they_were(run: Run) -> None:
    done = run("def test_one(): pass", "-W", "error", apart=True)
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*overlay*")


def test_every_fixture_has_the_prefix(run: Run) -> None:
    done = run("", "--fixtures")
    own = [line for line in done.outlines if "overlay/pytest/plugin.py" in line]
    assert len(own) == 7
    assert all(line.startswith("overlay_") for line in own)


# -- assertions -------------------------------------------------------------------------------


def test_packets_that_differ_are_shown_by_field(run: Run) -> None:
    done = run(
        """
        OTHER = overlay.VXLAN(vni=5002, **HERE).encap(FRAME)

        def test_packets():
            assert Packet(TUNNEL.encap(FRAME)) == Packet(OTHER)

        def test_lists():
            assert [Packet(OTHER)] * 2 == [Packet(OTHER), Packet(FRAME)]

        def test_bytes_are_left_to_pytest():
            assert TUNNEL.encap(FRAME) == OTHER

        def test_call():
            assert_packets_equal(TUNNEL.encap(FRAME), OTHER, ignore=["outer.udp.*"])
        """
    )
    done.assert_outcomes(failed=4)
    shown = "vxlan.vni: expected 5002, got 5001"
    assert sum(shown in line for line in done.outlines) == 2
    done.stdout.fnmatch_lines([f"E *{shown}", "E *packet 2 is not as expected:", f"E *{shown}"])


# -- golden packets -----------------------------------------------------------------------------

GOLDEN = """
@pytest.mark.parametrize("vni", [1, 2])
def test_encap(vni, overlay_golden):
    tunnel = overlay.VXLAN(vni=vni, ttl=TTL, source_port=PORT, **HERE)
    overlay_golden(tunnel.encap(FRAME), ignore=["outer.udp.source_port"])

def test_two(overlay_golden):
    overlay_golden([FRAME, FRAME], "frames")
    overlay_golden(TUNNEL.encap(FRAME), "packet", ignore=["outer.udp.source_port"])
"""
UNUSED = "*golden files that no test uses*"


def golden(ttl: int = 64, port: int = 50000) -> str:
    return f"TTL, PORT = {ttl}, {port}\n{GOLDEN}"


def test_golden_packets_are_written_and_compared(run: Run, pytester: pytest.Pytester) -> None:
    run(golden()).assert_outcomes(failed=3)
    run(golden(), "--overlay-update-golden").assert_outcomes(passed=3)
    folder = pytester.path / "golden" / "test_it"
    assert sorted(path.name for path in folder.iterdir()) == [
        "test_encap[1].txt", "test_encap[2].txt", "test_two.frames.txt", "test_two.packet.txt",
    ]  # fmt: skip
    before = (folder / "test_encap[1].txt").read_text()
    assert "40                                # outer.ipv4.ttl: 64" in before
    done = run(golden(port=60000))
    done.assert_outcomes(passed=3)
    done.stdout.no_fnmatch_line(UNUSED)

    done = run(golden(ttl=63))
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.fnmatch_lines(["E *outer.ipv4.ttl: expected 64, got 63"])
    run(golden(ttl=63), "--overlay-update-golden").assert_outcomes(passed=3)
    after = (folder / "test_encap[1].txt").read_text()
    changed = [
        (a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b
    ]
    assert len(changed) == 2  # the TTL and the checksum
    run(golden(ttl=63)).assert_outcomes(passed=3)


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_unused_golden_files_are_reported(
    run: Run, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    if workers:
        pytest.importorskip("xdist")
    apart = bool(workers)
    run(golden(), "--overlay-update-golden", *workers, apart=apart).assert_outcomes(passed=3)
    folder = pytester.path / "golden"
    (folder / "test_gone").mkdir()
    for old in ("test_it/test_old.txt", "test_gone/test_x.txt"):
        (folder / old).write_text("")
    done = run(golden(), *workers, apart=apart)
    done.assert_outcomes(passed=3)
    done.stdout.fnmatch_lines(
        [UNUSED, "golden/test_gone/test_x.txt", "golden/test_it/test_old.txt"]
    )
    assert not any("test_encap" in line for line in done.outlines[-4:])
    for some in (("-k", "two"), ("test_it.py::test_two",)):
        run(golden(), *some, *workers, apart=apart).stdout.no_fnmatch_line(UNUSED)


def test_what_did_not_run_may_need_its_golden_files(run: Run, pytester: pytest.Pytester) -> None:
    run(golden(), "--overlay-update-golden")
    (pytester.path / "golden" / "test_it" / "test_old.txt").write_text("")
    more = "\ndef test_skips(overlay_golden): pytest.skip('today')"
    run(golden() + more).stdout.no_fnmatch_line(UNUSED)
    run(golden(ttl=9)).stdout.no_fnmatch_line(UNUSED)
    run(golden(), "--collect-only").stdout.no_fnmatch_line(UNUSED)


# -- networks -------------------------------------------------------------------------------------

NETWORK = """
def test_namespaces(overlay_namespaces, overlay_wire):
    a, b = overlay_namespaces("left"), overlay_namespaces()
    overlay_namespaces.link(a, b, addresses=("192.0.2.1/24", ["192.0.2.2/24", "fd00::2/64"]))
    assert "1 received" in a.run(["ping", "-c", "1", "192.0.2.2"]).stdout
    mouth, ear = overlay_wire(a, "eth0"), overlay_wire(b, "eth0")
    tagged = FRAME[:12] + bytes.fromhex("88a80007") + FRAME[12:]
    mouth.send(FRAME, tagged)
    assert ear.expect(lambda frame: frame == FRAME)
    assert ear.expect(lambda frame: frame == tagged)
    assert ear.receive(0.01) is None

def test_kernel(overlay_kernel_vxlan, overlay_wire):
    peer = overlay_kernel_vxlan(key=5001)
    other = peer.topology.hosts[1]
    mouth, ear = overlay_wire(other), overlay_wire(peer.host, TENANT)
    mouth.send(TUNNEL.encap(FRAME))
    assert ear.expect(lambda frame: frame == FRAME)
    ear.send(bytes.fromhex("ffffffffffff") + FRAME[6:])
    packet = mouth.expect(lambda packet: packet[36:38] == bytes.fromhex("12b5"))
    assert overlay.decap(packet).key == 5001
"""
OVS = """
@pytest.mark.parametrize("tunnel", ["vxlan", "nvgre"])
def test_ovs(tunnel, overlay_ovs):
    from overlay.lab.traffic import ping
    one, other = overlay_ovs(tunnel=tunnel, key=0x5001), overlay_ovs(tunnel=tunnel, key=0x5001)
    assert ping(one, other, count=1).lossless

def test_both(overlay_ovs, overlay_kernel_vxlan):
    from overlay.lab.traffic import ping
    assert ping(overlay_ovs(), overlay_kernel_vxlan(), count=1).lossless
"""


def test_networks(run: Run) -> None:
    need_hosts()
    need_tools("ping")
    run(NETWORK).assert_outcomes(passed=2)


def test_open_vswitch(run: Run) -> None:
    need_hosts()
    need_tools("ping", "ovs-vswitchd", "ovsdb-server")
    need_tap()
    run(OVS).assert_outcomes(passed=3)


def test_mistakes_are_named(run: Run) -> None:
    need_hosts()
    done = run(
        """
        def test_tunnel(overlay_kernel_vxlan):
            with pytest.raises(overlay.ConfigError, match="tunnel='stt': expected one of vxlan"):
                overlay_kernel_vxlan(tunnel="stt")

        def test_hosts(overlay_kernel_vxlan):
            overlay_kernel_vxlan(), overlay_kernel_vxlan()
            with pytest.raises(overlay.ConfigError, match="each of the topology has a peer"):
                overlay_kernel_vxlan()

        def test_wire(overlay_topology, overlay_wire):
            with pytest.raises(overlay.OverlayError, match="host a: none0: No such device"):
                overlay_wire(overlay_topology().hosts[0], "none0")
        """
    )
    done.assert_outcomes(passed=3)


#: Root without the rights that namespaces take; it may still have a user namespace.
POWERLESS = ["setpriv", "--bounding-set", "-sys_admin,-net_admin", "--inh-caps", "-all"]


def powerless(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if os.geteuid() == 0:
        need_tools("setpriv")
    return subprocess.run(
        [*(POWERLESS if os.geteuid() == 0 else []), sys.executable, "-m", "pytest", "-p", PLUGIN,
         "-p", "no:cacheprovider", *words],
        capture_output=True, text=True, env={**os.environ, **environment}, timeout=100,
    )  # fmt: skip


def test_without_rights_tests_are_skipped_or_fail(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=HEAD + NETWORK)
    done = powerless("-rs")
    assert "2 skipped" in done.stdout
    assert "others may with --overlay-unshare" in done.stdout
    for words, environment in (((), {"CI": "true"}), (("-o", "overlay_missing=fail"), {})):
        done = powerless(*words, **environment)
        assert "2 errors" in done.stdout
    assert "2 skipped" in powerless("-o", "overlay_missing=skip", CI="true").stdout
    assert "expected skip or fail" in powerless("-o", "overlay_missing=maybe").stderr


def test_a_user_namespace_is_enough(run: Run, pytester: pytest.Pytester) -> None:
    need_hosts()
    probe = subprocess.run([*POWERLESS, "unshare", "-Urn", "true"], capture_output=True)
    if probe.returncode:
        missing("user namespaces")
    pytester.makepyfile(test_it=HEAD + NETWORK)
    done = powerless("--overlay-unshare")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    pytester.makepyfile(test_it="def test_it(): assert 0")
    assert powerless("--overlay-unshare").returncode == 1


# -- captures ------------------------------------------------------------------------

CAPTURES = """
import overlay.io.capture

def record(overlay_namespaces, overlay_capture, overlay_wire):
    a, b = overlay_namespaces("a"), overlay_namespaces("b")
    overlay_namespaces.link(a, b)
    recording = overlay_capture(b, "eth0")
    overlay_wire(a, "eth0").send(FRAME)
    overlay_wire(b, "eth0").send(TUNNEL.encap(FRAME))
    return recording

def test_good(overlay_namespaces, overlay_capture, overlay_wire):
    recording = record(overlay_namespaces, overlay_capture, overlay_wire)
    assert recording.read() == [FRAME, TUNNEL.encap(FRAME)]

def test_bad(overlay_namespaces, overlay_capture, overlay_wire):
    record(overlay_namespaces, overlay_capture, overlay_wire)
    assert 0

def test_trace(overlay_capture):
    device = overlay_capture.trace(overlay.io.capture.Capture(), name="queue")
    device.send(overlay.Batch.from_frames([FRAME]))
    assert 0
"""


def test_captures_stay_when_the_test_fails(run: Run, pytester: pytest.Pytester) -> None:
    need_hosts()
    from overlay.pytest import read_capture

    done = run(CAPTURES, "--basetemp", str(pytester.path / "temporary"))
    done.assert_outcomes(passed=1, failed=2)
    kept = sorted(pytester.path.glob("temporary/captures[0-9]*/*"))
    assert [path.name for path in kept] == ["b-eth0.pcapng", "queue.pcapng"]
    done.stdout.fnmatch_lines([f"{path} (* bytes)" for path in kept])
    head: dict[str, object] = {}
    exec(HEAD, head)
    assert read_capture(kept[0])[0] == head["FRAME"]
    assert read_capture(kept[1]) == [head["FRAME"]]


def test_captures_can_be_kept_elsewhere(run: Run, pytester: pytest.Pytester) -> None:
    need_hosts()
    run(CAPTURES, "--overlay-captures", "kept").assert_outcomes(passed=1, failed=2)
    kept = sorted(path.relative_to(pytester.path) for path in Path("kept").resolve().glob("*/*"))
    assert kept == [
        Path("kept/test_it.py__test_bad/b-eth0.pcapng"),
        Path("kept/test_it.py__test_trace/queue.pcapng"),
    ]


# -- the example ----------------------------------------------------------------------------


def test_the_example_of_the_guide_runs(run: Run) -> None:
    """ECN at the ends of a tunnel, of the kernel and of overlay; the guide shows this file."""
    need_hosts()
    need_tools("ping")
    folder = HERE.parent / "docs" / "examples" / "rfc6040"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", folder],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout
