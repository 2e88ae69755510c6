# The table of ARP and ND suppression.

cdef extern from "neighbor.h" nogil:
    enum:
        NEIGHBOR_STATIC
        NEIGHBOR_ROUTER
        NEIGHBOR_ANSWER_MAX
        NEIGHBOR_CAPACITY_MAX

    cdef struct neighbor_entry "neighbor":
        uint8_t ip[16]
        uint32_t network
        uint16_t tag
        uint8_t family
        uint8_t flags
        uint8_t mac[6]
        uint32_t stamp

    cdef struct neighbor_statistics "neighbor_stats":
        uint64_t entries
        uint64_t capacity
        uint64_t learned
        uint64_t moved
        uint64_t evicted
        uint64_t answered

    cdef struct neighbor_table "neighbors":
        pass

    size_t neighbor_size(uint64_t capacity)
    neighbor_table *neighbor_init(void *at, uint64_t capacity, uint32_t age, uint64_t seed)
    void neighbor_stats(neighbor_table *t, neighbor_statistics *stats)
    bint neighbor_set(neighbor_table *t, const neighbor_entry *entry, uint32_t now)
    bint neighbor_find(neighbor_table *t, neighbor_entry *entry, uint32_t now)
    bint neighbor_remove(neighbor_table *t, const neighbor_entry *entry)
    uint64_t neighbor_flush(neighbor_table *t, int64_t network, const uint8_t *mac, bint statics)
    uint64_t neighbor_list(neighbor_table *t, int64_t network, neighbor_entry *out, uint64_t room)
    bint neighbor_learn(neighbor_table *t, uint32_t network, const uint8_t *frame, size_t length,
                        uint32_t now)
    size_t neighbor_answer(neighbor_table *t, uint32_t network, const uint8_t *frame,
                           size_t length, uint32_t now, uint8_t *out)


@cython.final
cdef class NeighborTable:
    """(network, IP) to MAC for a whole VTEP; every method from any thread.

    IPs are 4 or 16 bytes, MACs 6, ``now`` seconds of the caller's monotonic
    clock.  Learned entries not heard for more than ``age`` seconds (0: never)
    count as unknown.
    """
    STATIC, ROUTER = NEIGHBOR_STATIC, NEIGHBOR_ROUTER

    cdef neighbor_table *t
    cdef Pages memory
    cdef readonly uint64_t capacity
    cdef readonly size_t size

    def __cinit__(self, capacity, age=0, seed=0):
        self.capacity = integer("capacity", capacity, 1, NEIGHBOR_CAPACITY_MAX)
        self.size = neighbor_size(self.capacity)
        self.memory = Pages(self.size)
        self.t = neighbor_init(self.memory.at, self.capacity,
                               integer("age", age, 0, 0x7FFFFFFF),
                               integer("seed", seed, 0, (1 << 64) - 1))

    @property
    def handle(self):
        """The address of the struct neighbors; it lives as long as this object."""
        return <uintptr_t>self.t

    cdef int fill(self, neighbor_entry *entry, network, bytes ip) except -1:
        if len(ip) != 4 and len(ip) != 16:
            raise ConfigError("ip", ip, "4 or 16 bytes")
        memset(entry, 0, sizeof(entry[0]))
        memcpy(entry.ip, <const uint8_t *>ip, len(ip))
        entry.family = 4 if len(ip) == 4 else 6
        entry.network = integer("network", network, 0, 0xFFFFFFFF)
        return 0

    @property
    def stats(self):
        """Entries, capacity, and what happened since the start."""
        cdef neighbor_statistics s
        with nogil:
            neighbor_stats(self.t, &s)
        return {"entries": s.entries, "capacity": s.capacity, "learned": s.learned,
                "moved": s.moved, "evicted": s.evicted, "answered": s.answered}

    def __len__(self):
        return self.stats["entries"]

    def set(self, network, bytes ip, bytes mac, flags, now):
        """Enter it over what is there; False: full of static entries."""
        cdef neighbor_entry entry
        cdef uint32_t seconds = now
        cdef bint done
        self.fill(&entry, network, ip)
        if len(mac) != 6:
            raise ConfigError("mac", mac, "6 bytes")
        memcpy(entry.mac, <const uint8_t *>mac, 6)
        entry.flags = flags
        with nogil:
            done = neighbor_set(self.t, &entry, seconds)
        return done

    def find(self, network, bytes ip, now):
        """(mac, flags, stamp), or None."""
        cdef neighbor_entry entry
        cdef uint32_t seconds = now
        cdef bint found
        self.fill(&entry, network, ip)
        with nogil:
            found = neighbor_find(self.t, &entry, seconds)
        return (bytes(entry.mac[:6]), entry.flags, entry.stamp) if found else None

    def remove(self, network, bytes ip):
        """Whether there was one."""
        cdef neighbor_entry entry
        cdef bint found
        self.fill(&entry, network, ip)
        with nogil:
            found = neighbor_remove(self.t, &entry)
        return found

    def flush(self, network=None, bytes mac=None, bint statics=False):
        """Remove a network's entries, those of one MAC, or all; returns how many went."""
        cdef int64_t which = -1 if network is None else integer("network", network, 0, 0xFFFFFFFF)
        cdef const uint8_t *only = NULL
        cdef uint64_t gone
        if mac is not None:
            if len(mac) != 6:
                raise ConfigError("mac", mac, "6 bytes")
            only = mac
        with nogil:
            gone = neighbor_flush(self.t, which, only, statics)
        return gone

    def entries(self, network=None):
        """[(network, VLAN ID or None, ip, mac, flags, stamp)]."""
        cdef int64_t which = -1 if network is None else integer("network", network, 0, 0xFFFFFFFF)
        cdef neighbor_entry *out
        cdef uint64_t room, found, i
        while True:
            room = len(self) + 64
            out = <neighbor_entry *>malloc(room * sizeof(neighbor_entry))
            if out == NULL:
                raise MemoryError
            try:
                with nogil:
                    found = neighbor_list(self.t, which, out, room)
                if found <= room:
                    return [
                        (out[i].network, out[i].tag & 0xFFF if out[i].tag else None,
                         bytes(out[i].ip[:4 if out[i].family == 4 else 16]),
                         bytes(out[i].mac[:6]), out[i].flags, out[i].stamp)
                        for i in range(found)
                    ]
            finally:
                free(out)

    def learn(self, network, const uint8_t[::1] frame, now):
        """Learn what the frame says of its sender; whether something is new."""
        cdef uint32_t number = integer("network", network, 0, 0xFFFFFFFF), seconds = now
        cdef bint news = False
        if frame.shape[0]:
            with nogil:
                news = neighbor_learn(self.t, number, &frame[0], frame.shape[0], seconds)
        return news

    def answer(self, network, const uint8_t[::1] frame, now):
        """The frame that answers this one, or None."""
        cdef uint32_t number = integer("network", network, 0, 0xFFFFFFFF), seconds = now
        cdef uint8_t out[NEIGHBOR_ANSWER_MAX]
        cdef size_t length = 0
        if frame.shape[0]:
            with nogil:
                length = neighbor_answer(self.t, number, &frame[0], frame.shape[0], seconds, out)
        return bytes(out[:length]) if length else None
