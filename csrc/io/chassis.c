/* chassis.c: see chassis.h. */
#define _GNU_SOURCE
#include "chassis.h"

#include <errno.h>

/* ---- memory -------------------------------------------------------------------------- */

/* Make an array longer; what is new is zero.  False: no memory, and it is as it was. */
static bool grow(void *array, size_t size, uint32_t before, uint32_t after)
{
    void *old, *new;
    memcpy(&old, array, sizeof old);
    new = realloc(old, size * after);
    if (new == NULL)
        return false;
    memset((uint8_t *)new + size * before, 0, size * (after - before));
    memcpy(array, &new, sizeof new);
    return true;
}

static uint32_t doubled(uint32_t have, uint32_t need)
{
    uint32_t n = have == 0 ? 64 : have;
    while (n < need)
        n *= 2;
    return n;
}

static bool index_grow(struct index *x, uint64_t count, uint64_t seed)
{
    struct index_slot *slots = malloc(count * sizeof *slots);
    if (slots == NULL)
        return false;
    struct index bigger;
    index_init(&bigger, slots, count, seed);
    for (uint64_t i = 0; x->slots != NULL && i <= x->mask; i++)
        if (x->slots[i].value != INDEX_NONE)
            index_set(&bigger, x->slots[i].key, x->slots[i].value);
    free(x->slots);
    *x = bigger;
    return true;
}

/* Set a value, or forget the key where it is INDEX_NONE. */
static int index_put(struct index *x, struct index_key key, uint32_t value)
{
    if (value == INDEX_NONE) {
        index_remove(x, key);
        return 0;
    }
    if (index_set(x, key, value))
        return 0;
    if (!index_grow(x, 2 * (x->mask + 1), x->seed)) {
        errno = ENOMEM;
        return -1;
    }
    index_set(x, key, value);
    return 0;
}

static bool grow_lane(struct chassis *c, struct lane *lane, uint32_t ports, uint32_t remotes)
{
    return grow(&lane->ports, sizeof *lane->ports, c->ports, ports) &&
           grow(&lane->remotes, sizeof *lane->remotes, c->remotes, remotes);
}

static bool grow_outbox(struct outbox *out, uint32_t before, uint32_t after)
{
    return grow(&out->head, sizeof *out->head, before, after) &&
           grow(&out->tail, sizeof *out->tail, before, after) &&
           grow(&out->count, sizeof *out->count, before, after) &&
           grow(&out->touched, sizeof *out->touched, before, after);
}

int chassis_reserve(struct chassis *c, uint32_t ports, uint32_t remotes, uint32_t devices)
{
    ports = ports <= c->ports ? c->ports : doubled(c->ports, ports);
    remotes = remotes <= c->remotes ? c->remotes : doubled(c->remotes, remotes);
    devices = devices <= c->devices ? c->devices : doubled(c->devices, devices);
    if (ports == c->ports && remotes == c->remotes && devices == c->devices)
        return 0;
    bool good = ports <= CHASSIS_PORTS_MAX && remotes <= CHASSIS_REMOTES_MAX &&
                devices <= CHASSIS_PORTS_MAX &&
                grow(&c->bridge.ports, sizeof *c->bridge.ports, c->ports, ports) &&
                grow(&c->bridge.remotes, sizeof *c->bridge.remotes, c->remotes, remotes) &&
                grow(&c->bridge.attachments, sizeof *c->bridge.attachments, c->devices, devices);
    for (uint32_t i = 0; good && i < c->worker_count; i++) {
        struct worker *w = &c->workers[i];
        good = grow_lane(c, &w->lane, ports, remotes) &&
               grow_outbox(&w->lane.in.out, c->devices, devices) &&
               grow_outbox(&w->lane.joined.out, c->devices, devices) &&
               grow_outbox(&w->lane.whole.out, c->devices, devices) &&
               grow_outbox(&w->lane.extra.out, c->devices, devices) &&
               grow(&w->slots, sizeof *w->slots, c->devices, devices);
        if (good)
            w->slot_count = devices;
    }
    if (!good) { /* arrays that have grown stay longer than they need be */
        errno = ENOMEM;
        return -1;
    }
    for (uint32_t i = c->devices; i < devices; i++)
        c->bridge.attachments[i].untagged = BRIDGE_NOWHERE;
    c->ports = ports;
    c->remotes = remotes;
    c->devices = devices;
    return 0;
}

/* ---- open and close ---------------------------------------------------------------------- */

struct chassis *chassis_open(struct fdb *fdb, struct neighbors *neighbors, uint32_t networks,
                             uint32_t workers, uint64_t seed)
{
    struct chassis *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->bridge.fdb = fdb;
    c->bridge.neighbors = neighbors;
    c->workers = calloc(workers, sizeof *c->workers);
    bool good = c->workers != NULL &&
                grow(&c->bridge.networks, sizeof *c->bridge.networks, 0, networks) &&
                index_grow(&c->bridge.keys, 1024, seed) && index_grow(&c->bridge.peers, 1024, seed);
    c->networks = networks;
    for (; good && c->worker_count < workers; c->worker_count++) {
        struct worker *w = &c->workers[c->worker_count];
        good = loop_open(w, &c->bridge, &c->wanted) == 0;
        if (good)
            w->lane.tallies = calloc(networks + 1, sizeof(struct tally));
        good = good && w->lane.tallies != NULL;
    }
    if (!good || chassis_reserve(c, 64, 64, 64) != 0) {
        chassis_close(c);
        errno = ENOMEM;
        return NULL;
    }
    return c;
}

static void free_outbox(struct outbox *out)
{
    free(out->head);
    free(out->tail);
    free(out->count);
    free(out->touched);
}

void chassis_close(struct chassis *c)
{
    for (uint32_t i = 0; i < c->worker_count; i++) {
        struct worker *w = &c->workers[i];
        free(w->lane.tallies);
        free(w->lane.ports);
        free(w->lane.remotes);
        free(w->lane.reassembler);
        free_outbox(&w->lane.in.out);
        free(w->lane.fragments);
        free_outbox(&w->lane.joined.out);
        free_outbox(&w->lane.whole.out);
        free_outbox(&w->lane.extra.out);
        free(w->slots);
        loop_close(w);
    }
    for (uint32_t i = 0; c->bridge.networks != NULL && i < c->networks; i++)
        free((void *)(uintptr_t)c->bridge.networks[i].flood);
    for (uint32_t i = 0; i < c->devices; i++)
        free((void *)(uintptr_t)c->bridge.attachments[i].by_vlan);
    free(c->bridge.networks);
    free(c->bridge.ports);
    free(c->bridge.remotes);
    free(c->bridge.attachments);
    free(c->bridge.keys.slots);
    free(c->bridge.peers.slots);
    free(c->workers);
    free(c);
}

/* ---- the gate ------------------------------------------------------------------------------ */

void chassis_hold(struct chassis *c)
{
    __atomic_fetch_add(&c->wanted, 1, __ATOMIC_ACQ_REL);
    for (uint32_t i = 0; i < c->worker_count; i++)
        pthread_mutex_lock(&c->workers[i].gate);
}

void chassis_release(struct chassis *c)
{
    for (uint32_t i = c->worker_count; i-- > 0;)
        pthread_mutex_unlock(&c->workers[i].gate);
    __atomic_fetch_sub(&c->wanted, 1, __ATOMIC_ACQ_REL);
}

/* ---- changes ----------------------------------------------------------------------------------
 */

int chassis_flood(struct chassis *c, uint32_t network, const uint32_t *dests, uint32_t count,
                  uint32_t ports)
{
    uint32_t *copy = malloc((count + 1) * sizeof *copy);
    if (copy == NULL)
        return -1;
    if (count)
        memcpy(copy, dests, count * sizeof *copy);
    struct network *n = &c->bridge.networks[network];
    free((void *)(uintptr_t)n->flood);
    n->flood = copy;
    n->ports = ports;
    n->floods = count;
    return 0;
}

int chassis_key(struct chassis *c, uint8_t protocol, uint64_t key, uint32_t network)
{
    return index_put(&c->bridge.keys, bridge_key(protocol, key), network);
}

int chassis_peer(struct chassis *c, struct index_key key, uint32_t remote)
{
    return index_put(&c->bridge.peers, key, remote);
}

int chassis_vlan(struct chassis *c, uint32_t device, int32_t vlan, uint32_t port)
{
    struct attachment *a = &c->bridge.attachments[device];
    if (vlan < 0) {
        a->untagged = port;
        return 0;
    }
    uint32_t *table = (uint32_t *)(uintptr_t)a->by_vlan;
    if (table == NULL) {
        table = malloc(BRIDGE_VLANS * sizeof *table);
        if (table == NULL)
            return -1;
        for (uint32_t i = 0; i < BRIDGE_VLANS; i++)
            table[i] = BRIDGE_NOWHERE;
        a->by_vlan = table;
    }
    table[vlan] = port;
    return 0;
}

int chassis_plug(struct chassis *c, uint32_t worker, uint32_t device, struct device *queue,
                 pthread_mutex_t *lock, bool reads)
{
    struct slot *slot = &c->workers[worker].slots[device];
    *slot = (struct slot){.device = queue, .lock = lock, .reads = reads};
    if (loop_attach(&c->workers[worker], device) == 0)
        return 0;
    *slot = (struct slot){0};
    return -1;
}

void chassis_unplug(struct chassis *c, uint32_t device)
{
    for (uint32_t i = 0; i < c->worker_count; i++) {
        struct worker *w = &c->workers[i];
        if (w->slots[device].device != NULL)
            loop_detach(w, device);
        w->slots[device] = (struct slot){0};
    }
    struct attachment *a = &c->bridge.attachments[device];
    free((void *)(uintptr_t)a->by_vlan);
    *a = (struct attachment){.untagged = BRIDGE_NOWHERE};
}

void chassis_evict(struct chassis *c, const struct device *queue)
{
    for (uint32_t i = 0; i < c->worker_count; i++) {
        struct worker *w = &c->workers[i];
        for (uint32_t k = 0; k < w->slot_count; k++) {
            if (w->slots[k].device != queue)
                continue;
            loop_detach(w, k);
            w->slots[k] = (struct slot){0};
        }
    }
}

int chassis_reassemble(struct chassis *c, uint64_t memory, uint64_t timeout, uint64_t seed)
{
    for (uint32_t i = 0; i < c->worker_count; i++) {
        struct lane *lane = &c->workers[i].lane;
        if (lane->reassembler != NULL)
            continue;
        size_t size = (ov_reassembler_size(memory) + 63) & ~(size_t)63;
        void *at = aligned_alloc(64, size);
        if (at == NULL)
            return -1;
        lane->reassembler = ov_reassembler_init(at, memory, timeout, seed);
    }
    return 0;
}

int chassis_join(struct chassis *c, uint64_t memory, uint64_t timeout, uint64_t seed)
{
    for (uint32_t i = 0; i < c->worker_count; i++) {
        struct lane *lane = &c->workers[i].lane;
        if (lane->fragments != NULL)
            continue;
        size_t size = (fragment_size(memory) + 63) & ~(size_t)63;
        void *at = aligned_alloc(64, size);
        if (at == NULL)
            return -1;
        lane->fragments = fragment_init(at, memory, timeout, seed);
    }
    return 0;
}

/* ---- counters ----------------------------------------------------------------------------------
 */

/* Structs of 64-bit counters are summed as arrays of them. */
static void sum(void *total, const void *part, size_t size)
{
    uint64_t *to = total;
    const uint64_t *from = part;
    for (size_t i = 0; i < size / sizeof *to; i++)
        to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void chassis_tally(const struct chassis *c, uint32_t slot, struct tally *total)
{
    memset(total, 0, sizeof *total);
    for (uint32_t i = 0; i < c->worker_count; i++)
        sum(total, &c->workers[i].lane.tallies[slot], sizeof *total);
}

void chassis_port_traffic(const struct chassis *c, uint32_t port, struct traffic *total)
{
    memset(total, 0, sizeof *total);
    for (uint32_t i = 0; i < c->worker_count; i++)
        sum(total, &c->workers[i].lane.ports[port], sizeof *total);
}

void chassis_remote_traffic(const struct chassis *c, uint32_t remote, struct traffic *total)
{
    memset(total, 0, sizeof *total);
    for (uint32_t i = 0; i < c->worker_count; i++)
        sum(total, &c->workers[i].lane.remotes[remote], sizeof *total);
}

void chassis_clear_network(struct chassis *c, uint32_t network)
{
    for (uint32_t i = 0; i < c->worker_count; i++)
        memset(&c->workers[i].lane.tallies[network + 1], 0, sizeof(struct tally));
}

void chassis_clear_port(struct chassis *c, uint32_t port)
{
    for (uint32_t i = 0; i < c->worker_count; i++)
        memset(&c->workers[i].lane.ports[port], 0, sizeof(struct traffic));
}

void chassis_clear_remote(struct chassis *c, uint32_t remote)
{
    for (uint32_t i = 0; i < c->worker_count; i++)
        memset(&c->workers[i].lane.remotes[remote], 0, sizeof(struct traffic));
}

bool chassis_event(struct chassis *c, struct event *event)
{
    for (uint32_t i = 0; i < c->worker_count; i++) {
        struct events *e = &c->workers[i].lane.events;
        uint32_t head = __atomic_load_n(&e->head, __ATOMIC_ACQUIRE);
        if (head == e->tail)
            continue;
        *event = e->slots[e->tail & e->mask];
        __atomic_store_n(&e->tail, e->tail + 1, __ATOMIC_RELEASE);
        return true;
    }
    return false;
}

uint64_t chassis_events_lost(const struct chassis *c)
{
    uint64_t lost = 0;
    for (uint32_t i = 0; i < c->worker_count; i++)
        lost += __atomic_load_n(&c->workers[i].lane.events.lost, __ATOMIC_RELAXED);
    return lost;
}
