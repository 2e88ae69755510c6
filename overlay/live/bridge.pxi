# The switch and its workers: a chassis, and plain numbers in and out.

cdef extern from "io/chassis.h" nogil:
    enum:
        BRIDGE_REMOTE
        BRIDGE_NOWHERE
        BRIDGE_STRANGER
        INDEX_NONE

    struct ov_config:
        pass

    struct ov_policy:
        uint8_t partial

    struct ov_tunnel:
        ov_config config
        uint32_t header_length

    int ov_tunnel_init(ov_tunnel *tunnel, const ov_config *config)

    struct network:
        uint32_t mtu
        uint16_t clamp
        bint used
        bint learn
        bint suppress
        bint accept_any
        bint gbp

    struct port:
        uint32_t network
        uint32_t device
        int32_t vlan
        bint used

    struct remote:
        ov_tunnel tunnel
        uint32_t network
        uint32_t device
        uint32_t frame_max
        bint used
        bint relay
        bint resolved

    struct bridge:
        network *networks
        port *ports
        remote *remotes
        ov_policy policy

    struct index_key:
        uint64_t a

    index_key bridge_peer(uint32_t network, uint8_t protocol, uint8_t family,
                          const uint8_t *address)

    struct traffic:
        uint64_t in_frames
        uint64_t in_bytes
        uint64_t out_frames
        uint64_t out_bytes

    struct tally:
        traffic ports
        traffic tunnels
        uint64_t copies
        uint64_t answers
        uint64_t *drops

    struct event:
        uint64_t time
        uint64_t mac
        uint8_t *address
        uint32_t network
        uint32_t where
        uint32_t previous
        uint8_t kind
        uint8_t status
        uint8_t family
        uint8_t protocol

    struct ov_reassembly_stats:
        uint64_t segments
        uint64_t frames
        uint64_t duplicates
        uint64_t overlaps
        uint64_t refused
        uint64_t timed_out
        uint64_t evicted
        uint64_t pending
        uint64_t memory

    struct ov_reassembler:
        pass

    void ov_reassembler_stats(const ov_reassembler *r, ov_reassembly_stats *stats)

    struct fragment_stats_t "fragment_stats":
        uint64_t taken
        uint64_t joined
        uint64_t overlaps
        uint64_t limits
        uint64_t timeouts
        uint64_t refused
        uint64_t held
        uint64_t packets
        uint64_t pending
        uint64_t memory

    struct fragments:
        pass

    void fragments_stats "fragment_stats"(const fragments *f, fragment_stats_t *stats)

    struct lane:
        ov_reassembler *reassembler
        fragments *fragments
        uint64_t sequence

    struct worker:
        lane lane
        uint32_t stop
        uint64_t rounds
        uint64_t bursts

    uint64_t loop_round(worker *w, int timeout)
    void loop_run(worker *w)
    void loop_retire(worker *w)
    void loop_stop(worker *w)

    ctypedef struct pthread_mutex_t:
        pass

    int pthread_mutex_init(pthread_mutex_t *m, void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *m)

    struct chassis:
        bridge bridge
        worker *workers
        uint32_t worker_count

    chassis *chassis_open(fdb_table *table, neighbor_table *neighbors, uint32_t networks,
                          uint32_t workers, uint64_t seed)
    void chassis_close(chassis *c)
    void chassis_hold(chassis *c)
    void chassis_release(chassis *c)
    int chassis_reserve(chassis *c, uint32_t ports, uint32_t remotes, uint32_t devices)
    int chassis_flood(chassis *c, uint32_t network, const uint32_t *dests, uint32_t count,
                      uint32_t ports)
    int chassis_key(chassis *c, uint8_t protocol, uint64_t key, uint32_t network)
    int chassis_peer(chassis *c, index_key key, uint32_t remote)
    int chassis_vlan(chassis *c, uint32_t device, int32_t vlan, uint32_t port)
    int chassis_plug(chassis *c, uint32_t worker, uint32_t device, device *queue,
                     pthread_mutex_t *lock, bint reads)
    void chassis_unplug(chassis *c, uint32_t device)
    void chassis_evict(chassis *c, const device *queue)
    int chassis_join(chassis *c, uint64_t memory, uint64_t timeout, uint64_t seed)
    int chassis_reassemble(chassis *c, uint64_t memory, uint64_t timeout, uint64_t seed)
    void chassis_tally(const chassis *c, uint32_t slot, tally *total)
    void chassis_port_traffic(const chassis *c, uint32_t port, traffic *total)
    void chassis_remote_traffic(const chassis *c, uint32_t remote, traffic *total)
    void chassis_clear_network(chassis *c, uint32_t network)
    void chassis_clear_port(chassis *c, uint32_t port)
    void chassis_clear_remote(chassis *c, uint32_t remote)
    bint chassis_event(chassis *c, event *e)
    uint64_t chassis_events_lost(const chassis *c)


REMOTE = BRIDGE_REMOTE
NOWHERE = BRIDGE_NOWHERE
STRANGER = BRIDGE_STRANGER
NO_INDEX = <uint32_t>INDEX_NONE


cdef int good(int result) except -1:
    if result != 0:
        raise MemoryError
    return 0


cdef tuple traffic_of(const traffic *t):
    return t.in_frames, t.in_bytes, t.out_frames, t.out_bytes


cdef class Lock:
    """Between the workers that share a device's queue."""
    cdef pthread_mutex_t mutex

    def __cinit__(self):
        pthread_mutex_init(&self.mutex, NULL)

    def __dealloc__(self):
        pthread_mutex_destroy(&self.mutex)


cdef class Chassis:
    """The bridge of a VTEP and its workers, by numbers.

    The methods that change it are called between ``hold`` and ``release``.
    Numbers are the caller's to keep in range.
    """
    cdef chassis *c
    cdef readonly object table, neighbors
    cdef dict plugged

    def __cinit__(self, FdbTable table, NeighborTable neighbors, uint32_t networks,
                  uint32_t workers, uint64_t seed):
        self.c = chassis_open(table.f, neighbors.t, networks, workers, seed)
        if self.c == NULL:
            raise MemoryError
        self.table = table
        self.neighbors = neighbors
        self.plugged = {}
        for w in range(workers):
            self.c.workers[w].lane.sequence = seed + (<uint64_t>w << 26)

    def __dealloc__(self):
        if self.c != NULL:
            chassis_close(self.c)

    # -- the gate

    def hold(self):
        with nogil:
            chassis_hold(self.c)

    def release(self):
        chassis_release(self.c)

    # -- changes

    def policy(self, record):
        cdef const uint8_t[::1] view = record
        if view.shape[0] != sizeof(ov_policy):
            raise ValueError("not a policy's record")
        memcpy(&self.c.bridge.policy, &view[0], sizeof(ov_policy))
        self.c.bridge.policy.partial = 1

    def reserve(self, uint32_t ports, uint32_t remotes, uint32_t devices):
        good(chassis_reserve(self.c, ports, remotes, devices))

    def network(self, uint32_t i, uint32_t mtu, uint16_t clamp, bint learn, bint suppress,
                bint accept_any, bint gbp):
        cdef network *n = &self.c.bridge.networks[i]
        if not n.used:
            chassis_clear_network(self.c, i)
        n.mtu, n.clamp, n.learn, n.suppress = mtu, clamp, learn, suppress
        n.accept_any, n.gbp, n.used = accept_any, gbp, True

    def network_gone(self, uint32_t i):
        self.c.bridge.networks[i].used = False
        good(chassis_flood(self.c, i, NULL, 0, 0))

    def flood(self, uint32_t i, list ports, list remotes):
        cdef list dests = ports + remotes
        cdef uint32_t *numbers = <uint32_t *>malloc((len(dests) + 1) * sizeof(uint32_t))
        cdef uint32_t k = 0
        if numbers == NULL:
            raise MemoryError
        try:
            for dest in dests:
                numbers[k] = dest
                k += 1
            good(chassis_flood(self.c, i, numbers, k, <uint32_t>len(ports)))
        finally:
            free(numbers)

    def port(self, uint32_t i, uint32_t network, uint32_t device, int32_t vlan):
        cdef port *p = &self.c.bridge.ports[i]
        chassis_clear_port(self.c, i)
        p.network, p.device, p.vlan, p.used = network, device, vlan, True
        good(chassis_vlan(self.c, device, vlan, i))

    def port_gone(self, uint32_t i):
        cdef port *p = &self.c.bridge.ports[i]
        p.used = False
        good(chassis_vlan(self.c, p.device, p.vlan, BRIDGE_NOWHERE))

    def remote(self, uint32_t i, record, uint32_t network, uint32_t device, uint32_t frame_max,
               bint relay, bint resolved, bint new):
        cdef const uint8_t[::1] view = record
        cdef remote *r = &self.c.bridge.remotes[i]
        if view.shape[0] != sizeof(ov_config):
            raise ValueError("not a tunnel's record")
        if new:
            chassis_clear_remote(self.c, i)
        if ov_tunnel_init(&r.tunnel, <const ov_config *>&view[0]) != 0:
            raise ValueError("the tunnel's record is out of range")
        r.network, r.device, r.frame_max = network, device, frame_max
        r.relay, r.resolved, r.used = relay, resolved, True

    def remote_gone(self, uint32_t i):
        self.c.bridge.remotes[i].used = False
        self.c.bridge.remotes[i].resolved = False

    def key(self, uint8_t protocol, uint64_t key, uint32_t network):
        good(chassis_key(self.c, protocol, key, network))

    def peer(self, uint32_t network, uint8_t protocol, bytes address, uint32_t remote):
        cdef const uint8_t *raw = address
        cdef uint8_t family = 4 if len(address) == 4 else 6
        if len(address) not in (4, 16):
            raise ValueError("an address has 4 or 16 bytes")
        good(chassis_peer(self.c, bridge_peer(network, protocol, family, raw), remote))

    def plug(self, uint32_t device, tuple queues):
        """Give a device's queues to the workers: each is read by one."""
        cdef uint32_t workers = self.c.worker_count, w, q
        cdef uint32_t count = <uint32_t>len(queues)
        cdef Queue queue
        cdef Lock lock
        cdef list locks = []
        if not 0 < count <= workers:
            raise ValueError(f"{count} queues for {workers} workers")
        for queue in queues:
            queue.open()
            if queue.user is not None:
                raise ValueError("the device is in use")
        self.plugged[device] = (queues, locks)
        for queue in queues:
            locks.append(Lock())
            queue.user = self
        for w in range(workers):
            q = w % count
            queue = queues[q]
            lock = locks[q]
            # A queue that only one worker uses needs no lock.
            if chassis_plug(self.c, w, device, queue.open(),
                            &lock.mutex if workers > count else NULL, w < count) != 0:
                error = os_error(errno, "epoll")
                self.unplug(device)
                raise error

    def unplug(self, uint32_t device):
        cdef Queue queue
        chassis_unplug(self.c, device)
        for queue in self.plugged.pop(device, ((), ()))[0]:
            queue.user = None

    cdef int evict(self, device *queue) except -1:
        """Take back a queue that is about to be closed; not between hold and release."""
        with nogil:
            chassis_hold(self.c)
            chassis_evict(self.c, queue)
            chassis_release(self.c)
        return 0

    def reassemble(self, uint64_t memory, uint64_t timeout, uint64_t seed):
        good(chassis_reassemble(self.c, memory, timeout, seed))

    def join(self, uint64_t memory, uint64_t timeout, uint64_t seed):
        good(chassis_join(self.c, memory, timeout, seed))

    # -- work

    def ready(self):
        """Forget that the workers were stopped; before they run."""
        cdef uint32_t w
        for w in range(self.c.worker_count):
            self.c.workers[w].stop = 0

    def run(self, uint32_t w):
        """Work until stopped."""
        cdef worker *one = &self.c.workers[w]
        with nogil:
            loop_run(one)

    def retire(self):
        """Give back the descriptors; the counters stay."""
        cdef uint32_t w
        for w in range(self.c.worker_count):
            loop_retire(&self.c.workers[w])

    def stop(self, uint32_t w):
        loop_stop(&self.c.workers[w])

    def round(self, uint32_t w, int timeout):
        """Work once; returns the rows received."""
        cdef uint64_t rows
        with nogil:
            rows = loop_round(&self.c.workers[w], timeout)
        return rows

    # -- counters

    def tally(self, uint32_t slot):
        """(ports, tunnels, copies, answers, {status: drops}) of network slot - 1, or of none."""
        cdef tally t
        with nogil:
            chassis_tally(self.c, slot, &t)
        drops = {Status(i): t.drops[i] for i in range(OV_STATUS_COUNT) if t.drops[i]}
        return traffic_of(&t.ports), traffic_of(&t.tunnels), t.copies, t.answers, drops

    def port_traffic(self, uint32_t i):
        cdef traffic t
        chassis_port_traffic(self.c, i, &t)
        return traffic_of(&t)

    def remote_traffic(self, uint32_t i):
        cdef traffic t
        chassis_remote_traffic(self.c, i, &t)
        return traffic_of(&t)

    def reassembly(self):
        """The reassemblers' counters by name, summed; None before the first is made."""
        cdef ov_reassembly_stats s
        cdef uint32_t w
        total = None
        for w in range(self.c.worker_count):
            if self.c.workers[w].lane.reassembler == NULL:
                continue
            ov_reassembler_stats(self.c.workers[w].lane.reassembler, &s)
            one = (s.segments, s.frames, s.duplicates, s.overlaps, s.refused, s.timed_out,
                   s.evicted, s.pending, s.memory)
            total = one if total is None else tuple(map(sum, zip(total, one, strict=True)))
        return total

    def fragments(self):
        """The same of outer fragments."""
        cdef fragment_stats_t s
        cdef uint32_t w
        total = None
        for w in range(self.c.worker_count):
            if self.c.workers[w].lane.fragments == NULL:
                continue
            fragments_stats(self.c.workers[w].lane.fragments, &s)
            one = (s.taken, s.joined, s.overlaps, s.limits, s.timeouts, s.refused, s.held,
                   s.packets, s.pending, s.memory)
            total = one if total is None else tuple(map(sum, zip(total, one, strict=True)))
        return total

    def rounds(self):
        """[(rounds, bursts)] by worker."""
        cdef uint32_t w
        return [(self.c.workers[w].rounds, self.c.workers[w].bursts)
                for w in range(self.c.worker_count)]

    def events(self, Py_ssize_t most):
        """At most so many of the events that wait, as tuples."""
        cdef event e
        cdef list out = []
        while len(out) < most and chassis_event(self.c, &e):
            out.append((e.kind, e.time, e.network, e.mac, e.where, e.previous, e.status,
                        e.protocol, bytes(e.address[:4 if e.family == 4 else 16])))
        return out

    @property
    def events_lost(self):
        return chassis_events_lost(self.c)
