"""The pytest plugin: options, hooks and fixtures, all of them named ``overlay_...``.

What must not live here: work.  A run that uses no fixture pays for this file and
for ``import overlay``; everything else is imported when a fixture is asked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from overlay.lab.wire import Wire

    from .capture import Captures
    from .golden import Golden
    from .network import Namespaces, Peers, Topologies

_UNSHARED = "OVERLAY_PYTEST_UNSHARED"  # set where this run is in namespaces of its own

_captures: pytest.StashKey[Captures] = pytest.StashKey()
_failed: pytest.StashKey[bool] = pytest.StashKey()
_golden: pytest.StashKey[Golden] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("overlay", "overlay: packets and networks")
    group.addoption(
        "--overlay-update-golden",
        action="store_true",
        help="write the golden packets anew instead of comparing with them",
    )
    group.addoption(
        "--overlay-captures",
        metavar="DIR",
        help="keep the captures of tests that fail in this folder, not in the temporary one",
    )
    group.addoption(
        "--overlay-unshare",
        action="store_true",
        help="without root: run all in a user and a network namespace of its own",
    )
    parser.addini(
        "overlay_missing",
        "what a test does that needs a tool or a right that is missing: skip or fail; "
        "by default it fails where the environment variable CI is set",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getini("overlay_missing") not in ("", "skip", "fail"):
        raise pytest.UsageError("overlay_missing: expected skip or fail")
    config.pluginmanager.register(_Leftovers(config), "overlay-leftovers")
    if os.environ.pop(_UNSHARED, ""):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=False)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if not config.getoption("overlay_unshare") or _UNSHARED in os.environ:
        return None
    from overlay.lab.host import Host, LabError, unshared

    try:
        Host("probe").close()
        return None
    except LabError:
        pass
    try:
        words = unshared()
    except LabError as error:
        raise pytest.UsageError(f"--overlay-unshare: {error}") from None
    started = Path(sys.argv[0])
    script = [str(started)] if started.name in ("pytest", "py.test") else ["-m", "pytest"]
    done = subprocess.run(
        [*words, sys.executable, *script, *map(str, config.invocation_params.args)],
        cwd=config.invocation_params.dir,
        env={**os.environ, _UNSHARED: "1"},
    )
    return done.returncode


# -- what is said of failures -------------------------------------------------------------


def pytest_assertrepr_compare(op: str, left: Any, right: Any) -> list[str] | None:
    """The fields that differ, where both sides are packets, or lists of them."""
    from .packet import Packet, compare

    def packets(side: object) -> bool:
        several = side if isinstance(side, (list, tuple)) else [side]
        return bool(several) and all(isinstance(one, Packet) for one in several)

    if op != "==" or not (packets(left) and packets(right)):
        return None
    if isinstance(left, Packet) is not isinstance(right, Packet):
        return None
    lines = compare(right, left, link=getattr(left, "link", 0))
    return [f"{_short(left)} == {_short(right)}", *lines] if lines else None


def _short(side: Any) -> str:
    return repr(side) if isinstance(side, bytes) else f"<{len(side)} packets>"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
        captures = item.stash.get(_captures, None)
        if captures is not None:
            report.sections += [("overlay: captures", line) for line in captures.kept()]
    if report.when == "call" and report.passed:
        golden = item.stash.get(_golden, None)
        report.overlay_golden = [] if golden is None else [str(path) for path in golden.used]
    return report


class _Leftovers:
    """Reports the golden files that no test uses.

    What tests used comes with their reports, so that it also comes from the
    workers of pytest-xdist, where ``items`` is what one of them collected.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.used: set[Path] = set()
        self.passed: dict[Path, set[str]] = {}
        self.collected: dict[Path, set[str]] = {}
        self.partial = False

    def _path(self, test: str) -> Path:
        return self.config.rootpath / test.partition("::")[0]

    def _collect(self, tests: list[str]) -> None:
        for test in tests:
            self.collected.setdefault(self._path(test), set()).add(test)

    def pytest_deselected(self) -> None:
        self.partial = True

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._collect(ids)

    def pytest_runtest_logreport(self, report: Any) -> None:
        used = getattr(report, "overlay_golden", None)
        if used is not None:
            self.passed.setdefault(self._path(report.nodeid), set()).add(report.nodeid)
            self.used.update(map(Path, used))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        words = ("keyword", "markexpr", "lf", "last_failed", "deselect")
        chosen = any(self.config.getoption(word, None) for word in words)
        if self.partial or chosen or any("::" in word for word in self.config.args):
            return  # what was not run may need them
        from .golden import unused

        whole = [path for path, tests in self.collected.items() if tests == self.passed.get(path)]
        left = unused(whole, self.used)
        if left:
            terminalreporter.section("overlay: golden files that no test uses")
            for path in left:
                name = os.path.relpath(path, self.config.invocation_params.dir)
                terminalreporter.write_line(name)


# -- fixtures -----------------------------------------------------------------------------


@pytest.fixture
def overlay_golden(request: pytest.FixtureRequest) -> Golden:
    """Compare packets with a file beside the test: ``overlay_golden(packets)``.

    ``overlay_golden(packets, name="", ignore=())``: one packet or several; a name
    where a test has more than one file; fields that may be anything.
    """
    from .golden import Golden

    update = bool(request.config.getoption("overlay_update_golden"))
    golden = Golden(request.path, request.node.name, request.node.nodeid, update=update)
    request.node.stash[_golden] = golden
    return golden


@pytest.fixture
def overlay_namespaces(request: pytest.FixtureRequest) -> Iterator[Namespaces]:
    """Network namespaces: ``overlay_namespaces("a")`` is a new one, ``.link`` joins two.

    Each is an :class:`overlay.lab.host.Host`; all of them are gone after the test.
    """
    from .network import Namespaces

    with _network(request) as stack:
        yield stack.enter_context(Namespaces())


@pytest.fixture
def overlay_topology(request: pytest.FixtureRequest) -> Iterator[Topologies]:
    """Hosts on a cable or a switch, with addresses: ``overlay_topology(hosts=2, mtu=1500)``.

    Each is an :class:`overlay.lab.topology.Topology`.
    """
    from .network import Topologies

    with _network(request) as stack:
        yield stack.enter_context(Topologies())


@pytest.fixture
def overlay_kernel_vxlan(
    request: pytest.FixtureRequest, overlay_topology: Topologies
) -> Iterator[Peers]:
    """The kernel's VXLAN as a peer: ``overlay_kernel_vxlan(key=5001)`` starts one.

    The peer is in a host of the test's topology, the next host each time, and
    its tenant's device is ``t0``; an :class:`overlay.lab.peer.KernelVxlan`.
    """
    from overlay.lab.peer import KernelVxlan

    from .network import Peers

    with _network(request) as stack:
        yield stack.enter_context(Peers(overlay_topology, [KernelVxlan], _absent(request)))


@pytest.fixture
def overlay_ovs(request: pytest.FixtureRequest, overlay_topology: Topologies) -> Iterator[Peers]:
    """Open vSwitch's userspace datapath as a peer: ``overlay_ovs(tunnel="vxlan", key=5001)``.

    An :class:`overlay.lab.ovs.OvsVxlan` or, for ``"nvgre"``,
    :class:`~overlay.lab.ovs.OvsGre`, with daemons of its own.
    """
    from overlay.lab.ovs import OvsGre, OvsVxlan

    from .network import Peers

    with _network(request) as stack:
        yield stack.enter_context(Peers(overlay_topology, [OvsVxlan, OvsGre], _absent(request)))


@pytest.fixture
def overlay_wire(request: pytest.FixtureRequest) -> Iterator[Callable[..., Wire]]:
    """Frames by hand: ``overlay_wire(host, device="u0")`` sends and hears on a host's device."""
    from overlay.lab.wire import Wire

    with _network(request) as stack:
        yield lambda *words, **options: stack.enter_context(Wire(*words, **options))


@pytest.fixture
def overlay_capture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Captures]:
    """Captures that stay when the test fails: ``overlay_capture(host, "u0")`` starts one.

    ``overlay_capture.trace(device)`` is the same for an :class:`overlay.io.device.Device`,
    ``overlay_capture.read(path)`` the packets of a file.
    """
    from .capture import Captures

    kept = request.config.getoption("overlay_captures")
    captures = Captures(
        lambda: tmp_path_factory.mktemp("captures"), request.node.nodeid, kept and Path(kept)
    )
    request.node.stash[_captures] = captures
    with _network(request):
        try:
            yield captures
        finally:
            captures.close(keep=request.node.stash.get(_failed, False))


def _absent(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Skips the test for what is missing, or fails it where nothing may be."""
    chosen = request.config.getini("overlay_missing")
    fail = chosen == "fail" or (
        not chosen and os.environ.get("CI", "").lower() not in ("", "0", "false")
    )

    def absent(reason: str) -> None:
        __tracebackhide__ = True
        if fail:
            pytest.fail(f"{reason} (and overlay_missing = fail)", pytrace=False)
        pytest.skip(reason)

    return absent


def _network(request: pytest.FixtureRequest) -> ExitStack:
    """A stack of what the test has of networks; skips it where it can have none."""
    __tracebackhide__ = True
    absent = _absent(request)
    if sys.platform != "linux":
        absent("network namespaces are Linux's")
    from overlay.lab.host import Host, LabError, need

    try:
        need("ip", "setpriv")
        Host("probe").close()
    except LabError as error:
        absent(f"{error}; root can, and others may with --overlay-unshare")
    return ExitStack()
