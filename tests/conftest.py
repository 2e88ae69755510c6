"""Fixtures that put every test before every backend and every protocol.

No test names a backend: `codec` is each of them in turn, `twins` all at once.
What is missing on this machine is skipped, but fails where CI=true.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from overlay import _backend
from overlay.codec import Codec
from overlay.errors import BackendError
from overlay.io.device import live
from overlay.tunnel import PROTOCOLS, Tunnel

#: The package's own plugin comes by its entry point where the package is installed.
_INSTALLED = any(entry_points(group="pytest11", name="overlay"))
pytest_plugins = ["pytester", *([] if _INSTALLED else ["overlay.pytest.plugin"])]

HERE = Path(__file__).parent
CI = os.environ.get("CI") == "true"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So does a shell start what it leaves in the background: no command would hear Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "dev", max_examples=100, deadline=None, suppress_health_check=_CALM, print_blob=True
)
settings.register_profile(
    "ci", max_examples=250, deadline=None, suppress_health_check=_CALM, derandomize=True
)
settings.register_profile(  # where every example costs ten times as much
    "short", max_examples=25, deadline=None, suppress_health_check=_CALM, derandomize=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if CI else "dev"))


def missing(what: str) -> NoReturn:
    """Skip the test for want of `what`, or fail it where nothing may be missing."""
    if CI:
        pytest.fail(f"{what} is missing, and CI=true")
    pytest.skip(f"{what} is missing")


def extension() -> ModuleType:
    """`overlay._live`, for what it shows to tests alone; skips the whole module without it."""
    try:
        return live()
    except BackendError as error:
        if CI:
            raise
        pytest.skip(str(error), allow_module_level=True)


def load(name: str) -> Codec:
    try:
        return _backend.load(name)
    except BackendError as error:
        missing(str(error))


@pytest.fixture(scope="session", params=list(_backend._MODULES))
def codec(request: pytest.FixtureRequest) -> Codec:
    """Each backend's codec in turn."""
    return load(request.param)


@pytest.fixture(scope="session")
def twins() -> list[Codec]:
    """Every backend's codec that is here; at least two."""
    here = []
    for name in _backend._MODULES:
        try:
            here.append(_backend.load(name))
        except BackendError as error:
            if CI:
                missing(str(error))
    if len(here) < 2:
        missing("a second backend")
    return here


@pytest.fixture(scope="session", params=list(PROTOCOLS.values()), ids=lambda cls: cls.name)
def protocol(request: pytest.FixtureRequest) -> type[Tunnel]:
    """Each protocol's tunnel class in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session", params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    """Each IP version of the underlay in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of specifications and captures that lies beside the repository."""
    folder = HERE.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is missing")
    return folder


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """`tool("tshark")`: its path, or skip."""

    def find(name: str) -> str:
        return shutil.which(name) or missing(name)

    return find


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture of the sample's frames without tags, which every protocol carries unchanged."""
    from command import write
    from overlay.cli.demo import sample

    frames = [f for f in sample() if f[12:14] not in (b"\x81\0", b"\x88\xa8")]
    return write(tmp_path / "in.pcap", frames)
