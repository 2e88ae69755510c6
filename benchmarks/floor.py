"""Floor: builds floor.c and _floor.pyx into benchmarks/build and binds them to batches.

With the library's own flags, so that both are compiled alike.  What must not
be here: any loop that is timed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

from overlay import Batch, Tunnel

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
FLAGS = ["-std=c11", "-O3", "-fvisibility=hidden"]
SOURCES = [HERE / "_floor.pyx", HERE / "floor.c", CSRC / "checksum.c"]
HEADERS = [HERE / "floor.h", *(CSRC / f"{name}.h" for name in ("checksum", "hash", "wire"))]


def _build(folder: Path) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension  # type: ignore[import-untyped, unused-ignore]

    extension = Extension(
        "_floor",
        [str(path) for path in SOURCES],
        include_dirs=[str(HERE), str(CSRC)],
        extra_compile_args=FLAGS,
    )
    modules = cythonize([extension], build_dir=str(folder), quiet=True)  # type: ignore[no-untyped-call, unused-ignore]
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder), str(folder / "objects")
    command.ensure_finalized()
    command.run()


@cache
def module() -> Any:
    """The extension, built again when a source of it has changed."""
    digest = hashlib.sha256(repr((sys.version, FLAGS)).encode())
    for path in (*SOURCES, *HEADERS):
        digest.update(path.read_bytes())
    folder = HERE / "build" / digest.hexdigest()[:16]
    found = folder / f"_floor{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not found.exists():
        _build(folder)
    spec = importlib.util.spec_from_file_location("_floor", found)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def covers(tunnel: Tunnel) -> bool:
    """Whether there are encap and decap floors for this tunnel: VXLAN and NVGRE over IPv4."""
    return tunnel.overhead in (50, 42)


def rows(batch: Batch, tunnel: Tunnel) -> Any:
    """The floor's loops over this batch: ``encap()``, ``decap()``, ``copy(out)``, ``sum()``.

    The outer headers are the tunnel's own, taken from a packet that it made;
    one that it does not cover has only ``copy`` and ``sum``.
    """
    names = ("offset", "key", "length", "wire", "mss", "status", "protocol", "link")
    at = {name: getattr(batch, name).ctypes.data for name in names}
    at["data"] = batch.data.ctypes.data
    header = tunnel.encap(bytes(64))[: tunnel.overhead] if covers(tunnel) else bytes(50)
    return module().Rows(batch, at, batch.count, header, tunnel.key & 0xFFFFFF)
