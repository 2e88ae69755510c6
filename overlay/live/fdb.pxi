# The MAC table, and the memory that tables live in.

import mmap

import numpy as np

from .tunnel import integer

cdef extern from "fdb.h" nogil:
    enum:
        FDB_VALID
        FDB_STATIC
        FDB_STICKY
        FDB_OWN
        FDB_FLAGS
        FDB_ITS_AGE
        FDB_NETWORKS_MAX

    cdef struct fdb_table "fdb":
        uint64_t bucket_count

    cdef struct fdb_statistics "fdb_stats":
        uint64_t entries
        uint64_t capacity
        uint64_t learned
        uint64_t moved
        uint64_t aged
        uint64_t removed
        uint64_t refused
        uint64_t spoofed
        uint64_t displaced

    cdef struct fdb_which:
        int64_t network
        int64_t dest
        int64_t idle
        uint32_t now
        uint32_t flags

    ctypedef void (*fdb_gone)(void *context, uint64_t key, uint64_t value) noexcept nogil

    size_t fdb_size(uint64_t capacity, uint32_t networks)
    fdb_table *fdb_init(void *at, uint64_t capacity, uint32_t networks, uint64_t seed)
    void fdb_configure(fdb_table *f, uint32_t network, uint32_t most, uint32_t age)
    uint32_t fdb_count(const fdb_table *f, uint32_t network)
    void fdb_stats(const fdb_table *f, fdb_statistics *stats)
    uint64_t fdb_hash(const fdb_table *f, uint64_t key)
    uint64_t fdb_find(const fdb_table *f, uint64_t key, uint64_t hash)
    int fdb_learn(fdb_table *f, uint64_t key, uint64_t hash, uint32_t dest, uint32_t now,
                  uint32_t *previous)
    int fdb_set(fdb_table *f, uint64_t key, uint32_t dest, uint32_t flags, uint32_t now)
    uint64_t fdb_remove(fdb_table *f, uint64_t key)
    uint64_t fdb_age(fdb_table *f, uint32_t now, uint64_t *cursor, uint64_t slice,
                     fdb_gone gone, void *context)
    uint64_t fdb_flush(fdb_table *f, const fdb_which *which, fdb_gone gone, void *context)
    uint64_t fdb_list(fdb_table *f, int64_t network, uint64_t *keys, uint64_t *values,
                      uint64_t room)
    void fdb_find_keys(const fdb_table *f, const uint64_t *keys, uint64_t *values, size_t count)
    void fdb_learn_keys(fdb_table *f, const uint64_t *keys, const uint32_t *dests,
                        uint8_t *results, size_t count, uint32_t now)


cdef class Pages:
    """Zeroed memory of its own pages, which cost nothing until they are touched."""
    cdef object mapping
    cdef Py_buffer buffer
    cdef void *at

    def __cinit__(self, size_t size):
        self.mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= 2 << 20 and hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                self.mapping.madvise(mmap.MADV_HUGEPAGE)  # every entry is on a page of its own
            except OSError:
                pass  # a kernel without
        PyObject_GetBuffer(self.mapping, &self.buffer, PyBUF_WRITABLE)
        self.at = self.buffer.buf

    def __dealloc__(self):
        if self.at != NULL:
            PyBuffer_Release(&self.buffer)


cdef struct fdb_gone_list:
    uint64_t *keys
    uint64_t *values
    uint64_t room
    uint64_t count


cdef void fdb_note_gone(void *context, uint64_t key, uint64_t value) noexcept nogil:
    cdef fdb_gone_list *gone = <fdb_gone_list *>context
    if gone.count < gone.room:
        gone.keys[gone.count] = key
        gone.values[gone.count] = value
        gone.count += 1


cdef inline uint64_t *words(object array) except? NULL:
    return <uint64_t *><uintptr_t>array.ctypes.data


@cython.final
cdef class FdbTable:
    """The MAC table of a whole VTEP; every method from any thread.

    Networks are numbers below ``networks``, MACs integers, keys
    ``(network + 1) << 48 | mac``, dests 24-bit numbers of the caller's, ``now``
    seconds of the caller's monotonic clock.  Values are ``stamp << 32 | flags |
    dest``, flags of VALID, STATIC, STICKY and OWN; 0: no entry.
    """
    VALID, STATIC, STICKY, OWN = FDB_VALID, FDB_STATIC, FDB_STICKY, FDB_OWN
    ITS_AGE = FDB_ITS_AGE
    KNOWN, LEARNED, MOVED, SPOOFED, OWNED, FULL, BUSY = range(7)

    cdef fdb_table *f
    cdef Pages memory
    cdef readonly uint64_t capacity
    cdef readonly uint32_t networks
    cdef readonly size_t size

    def __cinit__(self, capacity, networks=16384, seed=0):
        self.capacity = integer("capacity", capacity, 1, 1 << 30)
        self.networks = integer("networks", networks, 1, FDB_NETWORKS_MAX)
        self.size = fdb_size(self.capacity, self.networks)
        self.memory = Pages(self.size)
        self.f = fdb_init(self.memory.at, self.capacity, self.networks,
                          integer("seed", seed, 0, (1 << 64) - 1))

    @property
    def handle(self):
        """The address of the struct fdb; it lives as long as this object."""
        return <uintptr_t>self.f

    @property
    def buckets(self):
        return self.f.bucket_count

    cdef uint64_t key(self, network, mac) except 0:
        return <uint64_t>(integer("network", network, 0, self.networks - 1) + 1) << 48 | \
            <uint64_t>integer("mac", mac, 0, (1 << 48) - 1)

    def configure(self, network, most=0, age=0):
        """At most so many learned entries (0: no limit); they age in so many seconds (0: never)."""
        fdb_configure(self.f, integer("network", network, 0, self.networks - 1),
                      integer("most", most, 0, 0xFFFFFFFF), integer("age", age, 0, 0x7FFFFFFF))

    def __len__(self):
        cdef fdb_statistics s
        fdb_stats(self.f, &s)
        return s.entries

    def count(self, network):
        """Entries of a network."""
        return fdb_count(self.f, integer("network", network, 0, self.networks - 1))

    @property
    def stats(self):
        """Entries, capacity, and what happened since the start."""
        cdef fdb_statistics s
        fdb_stats(self.f, &s)
        return {"entries": s.entries, "capacity": s.capacity, "learned": s.learned,
                "moved": s.moved, "aged": s.aged, "removed": s.removed, "refused": s.refused,
                "spoofed": s.spoofed, "displaced": s.displaced}

    def find(self, network, mac):
        """The value, or 0."""
        cdef uint64_t key = self.key(network, mac)
        return fdb_find(self.f, key, fdb_hash(self.f, key))

    def learn(self, network, mac, dest, now):
        """(result, previous dest or None), as a worker learns it."""
        cdef uint64_t key = self.key(network, mac)
        cdef uint32_t to = integer("dest", dest, 0, 0xFFFFFF), seconds = now, previous = 0
        cdef int result
        with nogil:
            result = fdb_learn(self.f, key, fdb_hash(self.f, key), to, seconds, &previous)
        return result, previous if result in (self.MOVED, self.SPOOFED, self.OWNED) else None

    def set(self, network, mac, dest, flags, now):
        """Enter it over what is there; LEARNED, MOVED, KNOWN or FULL."""
        cdef uint64_t key = self.key(network, mac)
        cdef uint32_t to = integer("dest", dest, 0, 0xFFFFFF), seconds = now, marks = flags
        cdef int result
        with nogil:
            result = fdb_set(self.f, key, to, marks, seconds)
        return result

    def remove(self, network, mac):
        """The value that it had, or 0."""
        cdef uint64_t key = self.key(network, mac), value
        with nogil:
            value = fdb_remove(self.f, key)
        return value

    def age(self, now, cursor=0, count=None):
        """Remove what was idle for more than its network's age, in ``count`` buckets from there.

        Returns (next cursor, 0 after the last; keys; values) of those that went.
        """
        cdef uint64_t at = integer("cursor", cursor, 0, (1 << 63) - 1)
        cdef uint64_t most = self.f.bucket_count if count is None else count
        cdef uint32_t seconds = now
        cdef fdb_gone_list gone
        most = min(most, self.f.bucket_count)
        keys, values = np.empty((2, 4 * most), np.uint64)
        gone = fdb_gone_list(words(keys), words(values), 4 * most, 0)
        with nogil:
            fdb_age(self.f, seconds, &at, most, fdb_note_gone, &gone)
        return at, keys[:gone.count].copy(), values[:gone.count].copy()

    def flush(self, network=None, dest=None, *, idle=None, now=0, flags=0):
        """Remove all that match; returns how many went.

        ``idle``: learned and idle for more seconds than this, or than ITS_AGE, at ``now``;
        ``flags``: STATIC and OWN entries too.
        """
        cdef fdb_which which
        cdef uint64_t gone
        which.network = -1 if network is None else integer("network", network, 0, 0xFFFFFFFF)
        which.dest = -1 if dest is None else integer("dest", dest, 0, 0xFFFFFF)
        which.idle = -1 if idle is None else integer("idle", idle, FDB_ITS_AGE, 0x7FFFFFFF)
        which.now = now
        which.flags = flags
        with nogil:
            gone = fdb_flush(self.f, &which, NULL, NULL)
        return gone

    def entries(self, network=None):
        """(keys, values) of a network's entries, or of all that there are."""
        cdef int64_t which = -1 if network is None else integer("network", network, 0, 0xFFFFFFFF)
        cdef uint64_t found, room
        cdef uint64_t *k
        cdef uint64_t *v
        while True:
            room = (len(self) if which < 0 else self.count(which)) + 64
            keys, values = np.empty((2, room), np.uint64)
            k = words(keys)
            v = words(values)
            with nogil:
                found = fdb_list(self.f, which, k, v, room)
            if found <= room:
                return keys[:found], values[:found]

    def find_keys(self, keys):
        """The values of an array of keys, uint64; 0: no entry."""
        given = np.ascontiguousarray(keys, np.uint64)
        values = np.empty(given.size, np.uint64)
        cdef const uint64_t *k = words(given)
        cdef uint64_t *v = words(values)
        cdef size_t count = given.size
        with nogil:
            fdb_find_keys(self.f, k, v, count)
        return values

    def learn_keys(self, keys, dests, now):
        """Learn an array of keys with their dests, uint32; the results, uint8."""
        given = np.ascontiguousarray(keys, np.uint64)
        where = np.ascontiguousarray(dests, np.uint32)
        if where.size != given.size:
            raise ConfigError("dests", f"<{where.size}>", f"{given.size}, as there are keys")
        results = np.empty(given.size, np.uint8)
        cdef const uint64_t *k = words(given)
        cdef const uint32_t *d = <uint32_t *><uintptr_t>where.ctypes.data
        cdef uint8_t *r = <uint8_t *><uintptr_t>results.ctypes.data
        cdef size_t count = given.size
        cdef uint32_t seconds = now
        with nogil:
            fdb_learn_keys(self.f, k, d, r, count, seconds)
        return results
