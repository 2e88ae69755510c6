# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# The C core for CPython: convert, one C call, translate the status.
# No packet loop and no protocol lives here.  _cffi_core.py has the same names.

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.list cimport PyList_GET_SIZE, PyList_New
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

import random

from .batch import Batch
from .codec import Decapsulated, ReassemblyStats, byte_view, raise_for_encap
from .errors import ConfigError, DecapError
from .fragment import FragmentStats
from .tunnel import PROTOCOLS, integer

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **string, Py_ssize_t size) except -1
    PyObject *PyList_GET_ITEM(list items, Py_ssize_t i)
    void PyList_SET_ITEM(list items, Py_ssize_t i, PyObject *item)
    PyObject *Bytes_New "PyBytes_FromStringAndSize"(const char *v, Py_ssize_t size) except NULL

cdef extern from *:
    """
    static inline PyObject *steal_bytes(PyObject *o) { return o; }
    static inline void release_bytes(PyObject *o) { Py_DECREF(o); }
    """
    object steal "steal_bytes"(PyObject *o)
    void release "release_bytes"(PyObject *o)

cdef list names = [""] * (1 + max(kind.number for kind in PROTOCOLS.values()))
for _kind in PROTOCOLS.values():
    names[_kind.number] = _kind.name

cdef object new = tuple.__new__

# Numbers for frame IDs and IP IDs; guarded by the GIL.
cdef uint64_t counter = random.getrandbits(32)


def take(uint64_t packets):
    global counter
    counter += packets
    return counter - packets


@cython.final
@cython.no_gc
cdef class View:
    """Any contiguous buffer of bytes, held until this goes."""
    cdef Py_buffer buffer
    cdef const uint8_t *data
    cdef size_t size
    cdef bint held

    def __cinit__(self, source, what, bint writable=False):
        try:
            PyObject_GetBuffer(source, &self.buffer, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        except (TypeError, BufferError, ValueError):
            byte_view(source, what)  # says what is wrong
            raise
        self.held = True
        self.data = <const uint8_t *>self.buffer.buf
        self.size = <size_t>self.buffer.len

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)


cdef inline ov_batch *batch_of(object batch, str what="batch") except NULL:
    """A batch's struct; it lives as long as the batch, which the caller holds."""
    if type(batch) is not Batch and not isinstance(batch, Batch):
        raise TypeError(f"{what} must be a Batch, not {type(batch).__name__}")
    return <ov_batch *><uintptr_t>batch._address


cdef inline int distinct(const ov_batch *a, const ov_batch *b) except -1:
    if <uintptr_t>a.data < <uintptr_t>b.data + b.size:
        if <uintptr_t>b.data < <uintptr_t>a.data + a.size:
            raise ConfigError("out", "a batch", "a batch with memory of its own")
    return 0


@cython.final
@cython.no_gc
cdef class Encoder:
    """A tunnel ready for packets."""
    cdef ov_tunnel tunnel
    cdef uint64_t sent  # packets with a sequence number: those count from 0, each tunnel's own
    cdef uint64_t *next

    def __cinit__(self, record):
        cdef View view = View(record, "record")
        if view.size < sizeof(ov_config):
            raise ValueError("record is too short")
        if ov_tunnel_init(&self.tunnel, <const ov_config *>view.data) != 0:
            raise ValueError("the tunnel's record is out of range")
        self.next = &counter if self.tunnel.config.sequence < 0 else &self.sent

    cdef inline uint64_t take(self, uint64_t packets) noexcept:
        """The first of that many numbers; guarded by the GIL."""
        self.next[0] += packets
        return self.next[0] - packets

    @property
    def address(self):
        return <uintptr_t>&self.tunnel

    cdef PyObject *write(self, const uint8_t *data, size_t size, uint64_t sequence) except NULL:
        """A new reference to the packet of these bytes."""
        cdef Py_ssize_t room = <Py_ssize_t>(size + self.tunnel.header_length)
        cdef PyObject *packet = Bytes_New(NULL, room)
        cdef int64_t length = ov_encap(&self.tunnel, data, size, sequence,
                                       <uint8_t *>PyBytes_AS_STRING(<object>packet))
        if length != room:
            if length < 0:
                release(packet)
                raise_for_encap(<int>-length)
            _PyBytes_Resize(&packet, <Py_ssize_t>length)
        return packet

    cdef inline PyObject *one(self, frame, uint64_t sequence) except NULL:
        cdef View view
        if PyBytes_CheckExact(frame):
            return self.write(<const uint8_t *>PyBytes_AS_STRING(frame),
                              <size_t>PyBytes_GET_SIZE(frame), sequence)
        view = View(frame, "frame")
        return self.write(view.data, view.size, sequence)

    def encap(self, frame):
        """One packet of one frame."""
        return steal(self.one(frame, self.take(1)))

    def encap_at(self, frame, uint64_t sequence):
        """The same with the numbers that a counter would give."""
        return steal(self.one(frame, sequence))

    def encap_batch(self, batch):
        """Encap every row in place."""
        return self.encap_batch_at(batch, self.take(batch_of(batch).count))

    def encap_batch_at(self, batch, uint64_t sequence):
        """The same with the numbers that a counter would give."""
        cdef ov_batch *rows = batch_of(batch)
        cdef size_t done
        with nogil:
            done = ov_encap_batch(&self.tunnel, rows, sequence)
        return done

    def encap_into(self, batch, out, mtu=0):
        """Encap every row into another batch."""
        cdef ov_batch *to = batch_of(out, "out")
        # As many as there can be packets: other threads count on meanwhile.
        cdef uint64_t most = to.capacity - to.count
        cdef uint64_t first = self.take(most)
        done = self.encap_into_at(batch, out, mtu, first)
        if self.next[0] == first + most:  # and nobody did
            self.next[0] = first + <uint64_t>done
        return done

    def encap_into_at(self, batch, out, mtu, uint64_t sequence):
        """The same with the numbers that a counter would give."""
        cdef ov_batch *rows = batch_of(batch)
        cdef ov_batch *to = batch_of(out, "out")
        cdef uint32_t limit = integer("mtu", mtu, 0, 65535) if mtu else 0
        cdef size_t done
        distinct(rows, to)
        with nogil:
            done = ov_encap_into(&self.tunnel, rows, to, limit, sequence)
        return done

    def encap_many(self, frames):
        """One packet of each frame."""
        cdef list given = list(frames)
        cdef Py_ssize_t i, n = PyList_GET_SIZE(given)
        cdef uint64_t sequence = self.take(<uint64_t>n)
        cdef list packets = PyList_New(n)
        cdef PyObject *frame
        for i in range(n):
            frame = PyList_GET_ITEM(given, i)
            PyList_SET_ITEM(packets, i, self.one(<object>frame, sequence + <uint64_t>i))
        return packets


@cython.final
@cython.no_gc
cdef class Policy:
    """A profile as C reads it."""
    cdef ov_policy policy
    cdef object owner

    def __cinit__(self, owner):
        cdef View view = View(owner.record, "record")
        if view.size < sizeof(ov_policy):
            raise ValueError("record is too short")
        memcpy(&self.policy, view.data, sizeof(ov_policy))
        self.owner = owner


# ---- one packet ----------------------------------------------------------------

cdef object decapsulated(codec, const ov_frame *d, const uint8_t *packet, object header, int link):
    cdef size_t length = ov_decap_length(d)
    frame = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
    ov_decap_write(d, packet, <uint8_t *>PyBytes_AS_STRING(frame))
    return new(Decapsulated, (frame, d.key, names[d.protocol], header, link, d.mss,
                              d.wire + d.insert - d.remove, codec))


cdef object decap_view(codec, Policy policy, const uint8_t *data, size_t size, size_t wire,
                       int link):
    """The frame, or the status as an int."""
    cdef ov_frame d
    ov_decap(&policy.policy, data, size, wire, link, &d)
    if d.status != OV_OK:
        return d.status
    header = PyBytes_FromStringAndSize(<const char *>data, d.header)
    return decapsulated(codec, &d, data, header, link)


cdef inline object decap_any(codec, Policy policy, packet, int link, int64_t wire):
    """The same of any buffer; a wire length below 0 is the packet's own."""
    cdef View view
    cdef size_t size
    if PyBytes_CheckExact(packet):
        size = <size_t>PyBytes_GET_SIZE(packet)
        return decap_view(codec, policy, <const uint8_t *>PyBytes_AS_STRING(packet), size,
                          size if wire < 0 else <size_t>wire, link)
    view = View(packet, "packet")
    return decap_view(codec, policy, view.data, view.size,
                      view.size if wire < 0 else <size_t>wire, link)


def decap(codec, Policy policy not None, packet, int link, int64_t wire):
    result = decap_any(codec, policy, packet, link, wire)
    if type(result) is int:
        raise DecapError(result)
    return result


def decap_many(codec, Policy policy not None, packets):
    cdef list results = []
    for packet in packets:
        result = decap_any(codec, policy, packet, 0, -1)
        results.append(DecapError(result) if type(result) is int else result)
    return results


def describe(header, uint32_t protocol, int link):
    cdef View view = View(header, "header")
    cdef ov_config config
    if ov_describe(view.data, view.size, link, protocol, &config) != 0:
        return None
    return PyBytes_FromStringAndSize(<const char *>&config, sizeof(ov_config))


def segments(frame, uint32_t mss):
    cdef View view = View(frame, "frame")
    cdef size_t i, n = ov_tcp_segments(view.data, view.size, mss)
    cdef uint8_t *room = <uint8_t *>PyMem_Malloc(view.size + 1)
    cdef list packets = []
    if room == NULL:
        raise MemoryError
    try:
        for i in range(n):
            size = ov_tcp_segment(view.data, view.size, mss, i, room)
            packets.append(PyBytes_FromStringAndSize(<const char *>room, <Py_ssize_t>size))
    finally:
        PyMem_Free(room)
    return packets


# ---- batches ---------------------------------------------------------------------

def encap_rows(batch, addresses, index, uint64_t sequence):
    """Row i by the tunnel at addresses[index[i]]; index is uint32."""
    cdef ov_batch *rows = batch_of(batch)
    cdef View tunnels = View(addresses, "addresses")
    cdef View numbers = View(index, "index")
    cdef size_t done
    if numbers.size < rows.count * sizeof(uint32_t):
        raise ValueError("index is too short")
    with nogil:
        done = ov_encap_many(<const ov_tunnel **>tunnels.data, tunnels.size // sizeof(void *),
                             <const uint32_t *>numbers.data, rows, sequence)
    return done


def decap_batch(batch, Policy policy not None):
    cdef ov_batch *rows = batch_of(batch)
    cdef size_t done
    with nogil:
        done = ov_decap_batch(&policy.policy, rows)
    return done


def inspect_batch(batch, Policy policy not None, columns):
    """columns is a struct ov_columns, as uint64."""
    cdef ov_batch *rows = batch_of(batch)
    cdef View view = View(columns, "columns")
    cdef size_t done
    if view.size < sizeof(ov_columns):
        raise ValueError("columns is too short")
    with nogil:
        done = ov_inspect_batch(&policy.policy, rows, <const ov_columns *>view.data)
    return done


def segment_batch(batch, out, uint32_t mtu):
    cdef ov_batch *rows = batch_of(batch)
    cdef ov_batch *to = batch_of(out, "out")
    cdef size_t done
    distinct(rows, to)
    with nogil:
        done = ov_segment_batch(rows, to, mtu)
    return done


def coalesce_batch(batch, out):
    cdef ov_batch *rows = batch_of(batch)
    cdef ov_batch *to = batch_of(out, "out")
    cdef size_t done
    distinct(rows, to)
    with nogil:
        done = ov_coalesce_batch(rows, to)
    return done


def rewrite_batch(words, Policy policy not None, batch):
    cdef ov_batch *rows = batch_of(batch)
    cdef View rewriter = View(words, "words", True)
    cdef size_t done
    if rewriter.size < sizeof(ov_rewriter):
        raise ValueError("words is too short")
    with nogil:
        done = ov_rewrite_batch(<ov_rewriter *>rewriter.data, &policy.policy, rows)
    return done


def pcap_scan(batch, uint64_t at, bint swapped, stamps):
    cdef ov_batch *rows = batch_of(batch)
    cdef View to = View(stamps, "stamps", True)
    cdef uint64_t end
    if to.size < rows.capacity * sizeof(uint64_t):
        raise ValueError("stamps is too short")
    with nogil:
        end = ov_pcap_scan(rows, at, swapped, <uint64_t *>to.data)
    return end


def pcap_pack(batch, out):
    cdef ov_batch *rows = batch_of(batch)
    cdef ov_batch *to = batch_of(out, "out")
    cdef size_t done
    distinct(rows, to)
    with nogil:
        done = ov_pcap_pack(rows, to)
    return done


def pcap_stamp(batch, stamps):
    cdef ov_batch *rows = batch_of(batch)
    cdef View given = View(stamps, "stamps")
    with nogil:
        ov_pcap_stamp(rows, <const uint64_t *>given.data, given.size // sizeof(uint64_t))


# ---- STT reassembly ---------------------------------------------------------------

cdef class Reassembler:
    """The C reassembler and its block of memory.  Not for two threads at once."""
    cdef ov_reassembler *r
    cdef void *block

    def __cinit__(self, uint64_t memory, uint64_t timeout, uint64_t seed):
        cdef size_t size = ov_reassembler_size(memory)
        if size == 0:
            raise ValueError("memory is out of range")
        self.block = PyMem_Malloc(size + 64)
        if self.block == NULL:
            raise MemoryError
        self.r = ov_reassembler_init(<void *>((<uintptr_t>self.block + 63) & ~<uintptr_t>63),
                                     memory, timeout, seed)

    def __dealloc__(self):
        PyMem_Free(self.block)

    def push(self, codec, Policy policy not None, packet, uint64_t now):
        cdef View view = View(packet, "packet")
        cdef ov_frame d
        cdef size_t length = 0
        cdef int status = ov_reassembler_push(self.r, &policy.policy, view.data, view.size,
                                              view.size, 0, now, &d)
        if status == OV_STT_INCOMPLETE or status == OV_STT_DUPLICATE or status == OV_STT_OVERLAP:
            return None
        if status != OV_OK:
            raise DecapError(status)
        cdef const uint8_t *header = ov_reassembler_header(self.r, &length)
        outer = PyBytes_FromStringAndSize(<const char *>header, <Py_ssize_t>length)
        return decapsulated(codec, &d, ov_reassembler_frame(self.r), outer, 0)

    def push_batch(self, Policy policy not None, batch, out, uint64_t now):
        cdef ov_batch *rows = batch_of(batch)
        cdef ov_batch *to = batch_of(out, "out")
        cdef size_t done
        distinct(rows, to)
        with nogil:
            done = ov_reassembler_batch(self.r, &policy.policy, rows, to, now)
        return done

    def expire(self, uint64_t now):
        return ov_reassembler_expire(self.r, now)

    def stats(self):
        cdef ov_reassembly_stats s
        ov_reassembler_stats(self.r, &s)
        return ReassemblyStats(**s)


# ---- outer fragments ---------------------------------------------------------------

cdef class Fragments:
    """The C reassembly of fragments and its block of memory.  Not for two threads at once."""
    cdef ov_fragments *f
    cdef void *block

    def __cinit__(self, uint64_t memory, uint64_t timeout, uint64_t seed):
        cdef size_t size = ov_fragments_size(memory)
        if size == 0:
            raise ValueError("memory is out of range")
        self.block = PyMem_Malloc(size + 64)
        if self.block == NULL:
            raise MemoryError
        self.f = ov_fragments_init(<void *>((<uintptr_t>self.block + 63) & ~<uintptr_t>63),
                                   memory, timeout, seed)

    def __dealloc__(self):
        PyMem_Free(self.block)

    def push_batch(self, batch, out, now):
        """now is uint64, one a row."""
        cdef ov_batch *rows = batch_of(batch)
        cdef ov_batch *to = batch_of(out, "out")
        cdef View times = View(now, "now")
        cdef size_t done
        distinct(rows, to)
        if times.size < rows.count * sizeof(uint64_t):
            raise ValueError("now is too short")
        with nogil:
            done = ov_fragments_batch(self.f, rows, to, <const uint64_t *>times.data)
        return done

    def expire(self, uint64_t now):
        return ov_fragments_expire(self.f, now)

    def stats(self):
        cdef ov_fragment_stats s
        ov_fragments_stats(self.f, &s)
        return FragmentStats(**s)


# ---- numbers -----------------------------------------------------------------------

def flow_hash(frame, uint64_t seed):
    cdef View view = View(frame, "frame")
    return ov_flow_hash(view.data, view.size, seed)


def checksum(data):
    cdef View view = View(data, "data")
    return ov_checksum(view.data, view.size)


def checksum_by(name, data):
    cdef View view = View(data, "data")
    cdef bytes encoded = name.encode()
    cdef uint32_t result = ov_checksum_by(encoded, view.data, view.size)
    return None if result > 0xFFFF else result


def checksum_name():
    return ov_checksum_name().decode()


def statuses():
    """(name, text) of every status, in order."""
    return [(ov_status_name(i).decode(), ov_status_text(i).decode())
            for i in range(OV_STATUS_COUNT)]


def sizes():
    """Bytes of the structs that numpy records mirror."""
    return {"ov_config": sizeof(ov_config), "ov_policy": sizeof(ov_policy),
            "ov_batch": sizeof(ov_batch), "ov_columns": sizeof(ov_columns)}
