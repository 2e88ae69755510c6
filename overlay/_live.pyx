# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# The live data plane for CPython: devices, the FDB, the bridge and its workers.
# Convert, one C call without the GIL, translate.  No packet loop lives here.
#
# Each part is a file of its own under overlay/live/.

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

import os

from .batch import Batch
from .errors import ConfigError, Status

include "live/queue.pxi"
include "live/load.pxi"
include "live/memory.pxi"
include "live/python.pxi"
include "live/tap.pxi"
include "live/udp.pxi"
include "live/packet.pxi"
include "live/xdp.pxi"
include "live/fdb.pxi"
include "live/neighbor.pxi"
include "live/stage.pxi"
include "live/bridge.pxi"
