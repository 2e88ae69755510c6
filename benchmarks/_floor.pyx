# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# The floor's loops for Python, called as the library's are: one call, no GIL.
# And the least that a call which returns new bytes can do.

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

cdef extern from "floor.h":
    struct floor_rows:
        uint8_t *data
        size_t count
        uint64_t *offset
        uint64_t *key
        uint32_t *length
        uint32_t *wire
        uint16_t *mss
        uint8_t *status
        uint8_t *protocol
        uint8_t *link
    struct floor_header:
        uint8_t bytes[64]
        uint64_t key
        uint32_t ip_sum
    size_t floor_encap_vxlan(const floor_header *h, floor_rows *r) nogil
    size_t floor_encap_nvgre(const floor_header *h, floor_rows *r) nogil
    size_t floor_decap_vxlan(floor_rows *r) nogil
    size_t floor_decap_nvgre(floor_rows *r) nogil
    size_t floor_copy(const floor_rows *r, uint8_t *out) nogil
    uint32_t floor_sum(const floor_rows *r) nogil


@cython.final
cdef class Alloc:
    """A call that only allocates the packet it would return."""

    def alloc(self, frame):
        return PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(frame) + 50)


@cython.final
cdef class Rows:
    """The floor's loops over the columns of one batch, given as addresses."""
    cdef floor_rows rows
    cdef floor_header header
    cdef bint vxlan
    cdef object owner

    def __init__(self, owner, dict at, size_t count, bytes header, uint64_t key):
        """``header``: the 50 bytes (VXLAN) or 42 (NVGRE) before a frame."""
        self.owner = owner
        self.rows.data = <uint8_t *><uintptr_t>at["data"]
        self.rows.count = count
        self.rows.offset = <uint64_t *><uintptr_t>at["offset"]
        self.rows.key = <uint64_t *><uintptr_t>at["key"]
        self.rows.length = <uint32_t *><uintptr_t>at["length"]
        self.rows.wire = <uint32_t *><uintptr_t>at["wire"]
        self.rows.mss = <uint16_t *><uintptr_t>at["mss"]
        self.rows.status = <uint8_t *><uintptr_t>at["status"]
        self.rows.protocol = <uint8_t *><uintptr_t>at["protocol"]
        self.rows.link = <uint8_t *><uintptr_t>at["link"]
        if len(header) not in (50, 42):
            raise ValueError("the floors are those of VXLAN and NVGRE over IPv4")
        self.vxlan = len(header) == 50
        memset(&self.header, 0, sizeof(self.header))
        memcpy(self.header.bytes, <const uint8_t *>header, <size_t>len(header))
        memset(self.header.bytes + 16, 0, 2)
        memset(self.header.bytes + 24, 0, 2)
        self.header.key = key
        cdef int i
        for i in range(14, 34, 2):
            self.header.ip_sum += self.header.bytes[i] * 256 + self.header.bytes[i + 1]

    def encap(self):
        cdef size_t done
        with nogil:
            if self.vxlan:
                done = floor_encap_vxlan(&self.header, &self.rows)
            else:
                done = floor_encap_nvgre(&self.header, &self.rows)
        return done

    def decap(self):
        cdef size_t done
        with nogil:
            if self.vxlan:
                done = floor_decap_vxlan(&self.rows)
            else:
                done = floor_decap_nvgre(&self.rows)
        return done

    def copy(self, uintptr_t out):
        """``out``: the address of room for all frames."""
        cdef size_t done
        with nogil:
            done = floor_copy(&self.rows, <uint8_t *>out)
        return done

    def sum(self):
        cdef uint32_t done
        with nogil:
            done = floor_sum(&self.rows)
        return done
