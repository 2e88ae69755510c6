"""The package as it is installed: from its archive, with and without a compiler.

Slow, and needs the package index for the build's own environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MADE = [
    ".*", "build", "dist", "_build", "corpus", "__pycache__", "*.egg-info", "*.so", "_native.c",
    "_live.c", "_cffi_*.c",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources without anything that a build has left among them."""
    copy = tmp_path / "tree"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*MADE))
    return copy


def run(*args: str | Path, cwd: Path, **env: str) -> str:
    """Run a program; its standard output.  Fails with what it wrote."""
    result = subprocess.run(
        [*map(str, args)],
        cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def install(what: Path, folder: Path, **env: str) -> Path:
    """Install it with what it needs into an environment of its own; the folder of its programs."""
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=folder)
    programs = venv / "bin"
    pip = [sys.executable, "-m", "pip", "--python", programs / "python"]
    run(*pip, "install", "-q", what, cwd=folder, **env)
    return programs


def backend(programs: Path) -> str:
    """The backend of the package installed there, after a round trip through it."""
    code = (
        "import overlay; t = overlay.STT(context_id=7, local='192.0.2.1', remote='192.0.2.2');"
        "assert overlay.decap(t.encap(bytes(60))).key == 7; print(overlay.backend)"
    )
    return run(programs / "python", "-c", code, cwd=programs).strip()


def check_configuration(programs: Path, folder: Path) -> None:
    """A VTEP's configuration can be looked through, whatever was compiled."""
    extra = [] if sys.version_info >= (3, 11) else ["tomli"]
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "-q"]
    if extra:
        run(*pip, *extra, cwd=folder)
    config = folder / "overlay.toml"
    config.write_text('[vtep]\nlocal = "192.0.2.1"\n[[network]]\nid = 5001\n')
    run(programs / "overlay", "run", config, "--check", cwd=folder)


def test_archive_builds_a_whole_wheel(tree: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--outdir", tmp_path, tree]
    run(*build, cwd=tmp_path, OVERLAY_REQUIRE_EXTENSIONS="1")

    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        shipped = {name.partition("/")[2] for name in file.getnames()}
    for pattern in (
        "csrc/**/*.[ch]", "overlay/**/*.p[yx]*", "overlay/data/*", "tests/*.[cp]*",
        "tests/vectors/*",
    ):  # fmt: skip
        assert {str(p.relative_to(tree)) for p in tree.glob(pattern)} <= shipped
    assert not any(name.endswith(".so") for name in shipped)

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        (metadata,) = (n for n in names if n.endswith(".dist-info/METADATA"))
        described = file.read(metadata).decode()
        (scripts,) = (n for n in names if n.endswith("entry_points.txt"))
        assert "overlay = overlay.cli:main" in file.read(scripts).decode()
    data = {f"overlay/data/{path.name}" for path in tree.glob("overlay/data/*")}
    assert {"overlay/py.typed", *data} <= set(names)
    assert not [n for n in names if n.startswith(("csrc", "tests"))]
    assert not [n for n in names if n.endswith((".c", ".pyx", ".pxi"))]
    assert "Name: overlay-dataplane\n" in described
    assert "License-Expression: Apache-2.0\n" in described

    programs = install(wheel, tmp_path)
    assert backend(programs) == "native"
    assert "vxlan" in run(programs / "overlay", "demo", cwd=tmp_path)
    if sys.platform == "linux":
        run(programs / "python", "-c", "import overlay._live", cwd=tmp_path)
    check_configuration(programs, tmp_path)


def test_without_a_compiler_the_twin_is_installed(tree: Path, tmp_path: Path) -> None:
    programs = install(tree, tmp_path, CC="/bin/false", OVERLAY_REQUIRE_EXTENSIONS="0")
    assert backend(programs) == "reference"
    assert "vxlan" in run(programs / "overlay", "demo", cwd=tmp_path)
    check_configuration(programs, tmp_path)
