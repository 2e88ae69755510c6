"""Build only: the extensions over the C core.  Everything else is in pyproject.toml.

Every extension is optional: where none can be built (no compiler, no Python
headers) the package installs all the same and runs on its pure-Python twin.
OVERLAY_REQUIRE_EXTENSIONS=1 makes a failed build an error instead.
"""

import os
import sys
from glob import glob
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(glob("csrc/*.c"))
DEVICES = sorted(glob("csrc/io/*.c"))  # Linux: the only C that makes system calls
HEADERS = sorted(glob("csrc/**/*.h", recursive=True))
# No -march: a wheel runs on every machine of its architecture.  CFLAGS has its way.
FLAGS = ["-std=c11", "-fvisibility=hidden", *([] if "CFLAGS" in os.environ else ["-O3", "-g0"])]
REQUIRED = os.environ.get("OVERLAY_REQUIRE_EXTENSIONS", "") not in ("", "0")


class OptionalBuild(build_ext):
    """Builds each extension, or says in one line why it is left out."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        for extension in self.extensions:
            extension.optional = not REQUIRED


def extension(name: str, sources: list[str]) -> Extension:
    return Extension(
        f"overlay.{name}",
        [f"overlay/{name}.pyx", *sources],
        include_dirs=["csrc"],
        depends=[*HEADERS, *glob("overlay/*.pxd"), *glob("overlay/live/*.pxi")],
        extra_compile_args=FLAGS,
    )


bindings: dict[str, Any] = {}
if os.path.exists("overlay/_native.pyx"):
    bindings["ext_modules"] = [extension("_native", SOURCES)]
    if sys.platform == "linux":
        bindings["ext_modules"].append(extension("_live", [*SOURCES, *DEVICES]))
if os.path.exists("overlay/_cffi_build.py"):
    bindings["cffi_modules"] = ["overlay/_cffi_build.py:ffi"]

setup(cmdclass={"build_ext": OptionalBuild}, **bindings)
