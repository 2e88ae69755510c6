"""Build script of the cffi extension: csrc/overlay.h as it is, and the C core."""

from glob import glob
from pathlib import Path

import cffi

header = Path("csrc/overlay.h").read_text()

ffi = cffi.FFI()
ffi.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
ffi.set_source(
    "overlay._cffi_lib",
    '#include "overlay.h"',
    sources=sorted(glob("csrc/*.c")),
    include_dirs=["csrc"],
    extra_compile_args=["-std=c11", "-O3", "-fvisibility=hidden"],
)
