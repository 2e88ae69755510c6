"""What `import overlay` costs, and what it gives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import overlay
from overlay import _backend

HEAVY = ["click", "rich", "scapy", "cffi", "matplotlib", "asyncio", "hypothesis", "pytest"]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_heavy_is_loaded() -> None:
    """The backend in use may be any but cffi, which needs cffi."""
    code = f"""
import sys, numpy
before = set(sys.modules)
import overlay
loaded = set(sys.modules) - before
heavy = [name for name in {HEAVY} if name in loaded]
if overlay.backend == "cffi":
    heavy = [name for name in heavy if name != "cffi"]
print(overlay.backend, *heavy)
"""
    done = run(code, OVERLAY_BACKEND="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [overlay._backend._choose().name]


def test_every_public_name_is_there() -> None:
    for name in overlay.__all__:
        assert getattr(overlay, name) is not None
    assert len(set(overlay.__all__)) == len(overlay.__all__)


@pytest.mark.parametrize("name", list(_backend._MODULES))
def test_the_environment_chooses(name: str) -> None:
    done = run("import overlay; print(overlay.backend)", OVERLAY_BACKEND=name)
    if done.returncode == 0:
        assert done.stdout.strip() == name
    else:
        assert f"the {name} backend is not available" in done.stderr
        with pytest.raises(overlay.BackendError):
            _backend.load(name)


def test_an_unknown_backend_is_named() -> None:
    done = run("import overlay", OVERLAY_BACKEND="fortran")
    assert done.returncode != 0
    assert "OVERLAY_BACKEND='fortran'" in done.stderr


def test_unknown_attributes() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        overlay.no_such_thing  # noqa: B018 - the access is the test


def test_twins_have_the_same_functions(codec) -> None:
    """Every backend's module has every public function of the codec."""
    import importlib

    module = importlib.import_module(_backend._MODULES[codec.name])
    for name in ("encap encap_many packets decap decap_many describe encap_batch encap_into "
                 "decap_batch segment_batch coalesce_batch segments flow_hash checksum "
                 "SttReassembler").split():  # fmt: skip
        assert callable(getattr(module, name)), name
