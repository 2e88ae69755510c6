/* fdb.c: the MAC table's writers, and whatever looks at all of it.
 *
 * Lives here: what is not done for every frame.
 *
 * An entry is in one of two buckets; a new one takes its home slot in the first,
 * else whichever has room, and when none has, one of those in the way goes to its
 * other bucket.  It is in both while it moves, and the move is counted before the
 * old place is free: who missed it while the count stayed the same did not miss
 * it for that.
 */
#include "fdb.h"

enum { SPINS = 2048 }; /* that a worker waits for the lock, below 0.1 ms */

/* ---- the lock -------------------------------------------------------------------- */

always_inline void breathe(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool try_lock(struct fdb *f)
{
    return !__atomic_load_n(&f->lock, __ATOMIC_RELAXED) &&
           !__atomic_exchange_n(&f->lock, 1, __ATOMIC_ACQUIRE);
}

static bool lock_soon(struct fdb *f)
{
    for (int i = 0; i < SPINS; i++) {
        if (try_lock(f))
            return true;
        breathe();
    }
    return false;
}

static void lock(struct fdb *f)
{
    while (!try_lock(f))
        breathe();
}

static void unlock(struct fdb *f)
{
    __atomic_store_n(&f->lock, 0, __ATOMIC_RELEASE);
}

/* ---- counters: those written under the lock alone, and those from anywhere -------- */

#define add(counter, n) __atomic_store_n(&(counter), (counter) + (n), __ATOMIC_RELAXED)
#define peek(counter) __atomic_load_n(&(counter), __ATOMIC_RELAXED)

static void tally(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static bool is_learned(uint64_t value)
{
    return !(value & (FDB_STATIC | FDB_OWN));
}

static struct fdb_network *network_of(const struct fdb *f, uint64_t key)
{
    uint32_t network = fdb_network_of(key);
    return network < f->network_count ? f->networks + network : NULL;
}

/* ---- the block -------------------------------------------------------------------- */

static uint64_t bucket_count(uint64_t capacity)
{
    return capacity / 2 + 16; /* half full at capacity */
}

static size_t aligned(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

size_t fdb_size(uint64_t capacity, uint32_t networks)
{
    if (capacity < 1 || capacity > 1u << 30 || networks < 1 || networks > FDB_NETWORKS_MAX)
        return 0;
    return aligned(sizeof(struct fdb)) + aligned(networks * sizeof(struct fdb_network)) +
           bucket_count(capacity) * sizeof(struct fdb_bucket);
}

struct fdb *fdb_init(void *at, uint64_t capacity, uint32_t networks, uint64_t seed)
{
    struct fdb *f = at;
    uint8_t *end = (uint8_t *)at + aligned(sizeof *f);
    f->seed[0] = hash_finish(seed ^ HASH_K0);
    f->seed[1] = hash_finish(seed ^ HASH_K1) | 1;
    f->networks = (struct fdb_network *)(void *)end;
    f->network_count = networks;
    end += aligned(networks * sizeof(struct fdb_network));
    f->buckets = (struct fdb_bucket *)(void *)end;
    f->bucket_count = bucket_count(capacity);
    f->capacity = f->stats.capacity = capacity;
    return f;
}

void fdb_configure(struct fdb *f, uint32_t network, uint32_t most, uint32_t age)
{
    if (network < f->network_count) {
        __atomic_store_n(&f->networks[network].most, most, __ATOMIC_RELAXED);
        __atomic_store_n(&f->networks[network].age, age, __ATOMIC_RELAXED);
    }
}

uint32_t fdb_count(const struct fdb *f, uint32_t network)
{
    return network < f->network_count ? peek(f->networks[network].entries) : 0;
}

void fdb_stats(const struct fdb *f, struct fdb_stats *stats)
{
    *stats = (struct fdb_stats){
        .entries = peek(f->stats.entries),
        .capacity = f->capacity,
        .learned = peek(f->stats.learned),
        .moved = peek(f->stats.moved),
        .aged = peek(f->stats.aged),
        .removed = peek(f->stats.removed),
        .refused = peek(f->stats.refused),
        .spoofed = peek(f->stats.spoofed),
        .displaced = peek(f->stats.displaced),
    };
}

/* ---- find ------------------------------------------------------------------------- */

/* The entry of this key in the bucket and its value, or NULL. */
static struct fdb_entry *seek_bucket(struct fdb_bucket *b, uint64_t key, uint64_t *value)
{
    unsigned hits = 0;
    for (unsigned i = 0; i < FDB_WAYS; i++)
        hits |= (unsigned)(__atomic_load_n(&b->entries[i].key, __ATOMIC_ACQUIRE) == key) << i;
    struct fdb_entry *e = &b->entries[hits ? __builtin_ctz(hits) : 0];
    return hits && fdb_is(e, key, value) ? e : NULL;
}

static struct fdb_entry *seek(const struct fdb *f, uint64_t key, uint64_t hash, uint64_t *value)
{
    uint64_t moves;
    struct fdb_entry *e;
    do {
        moves = __atomic_load_n(&f->stats.displaced, __ATOMIC_ACQUIRE);
        if ((e = seek_bucket(fdb_first(f, hash), key, value)) ||
            (e = seek_bucket(fdb_second(f, hash), key, value)))
            return e;
    } while (unlikely(__atomic_load_n(&f->stats.displaced, __ATOMIC_ACQUIRE) != moves));
    return NULL;
}

uint64_t fdb_find_again(const struct fdb *f, uint64_t key, uint64_t hash)
{
    uint64_t value;
    return seek(f, key, hash, &value) ? value : 0;
}

/* ---- enter, under the lock --------------------------------------------------------- */

static struct fdb_entry *free_slot(struct fdb_bucket *b)
{
    for (unsigned i = 0; i < FDB_WAYS; i++)
        if (!peek(b->entries[i].key))
            return &b->entries[i];
    return NULL;
}

/* The key first, which means nothing yet; the slot's next turn begins with the value. */
static void fill(struct fdb_entry *e, uint64_t key, uint64_t value)
{
    uint64_t turn = (peek(e->value) + (FDB_TURN & -FDB_TURN)) & FDB_TURN;
    __atomic_store_n(&e->key, key, __ATOMIC_RELEASE);
    __atomic_store_n(&e->value, (value & ~(uint64_t)FDB_TURN) | turn, __ATOMIC_RELEASE);
}

/* Take the entry's value away, whatever stamp it has by now. */
static uint64_t empty(struct fdb_entry *e, uint64_t value)
{
    while (!__atomic_compare_exchange_n(&e->value, &value, value & FDB_TURN, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        ;
    __atomic_store_n(&e->key, 0, __ATOMIC_RELEASE);
    return value;
}

/* Put one of a bucket's entries into its other bucket; its slot is free then. */
static struct fdb_entry *displace(struct fdb *f, struct fdb_bucket *b)
{
    for (unsigned i = 0; i < FDB_WAYS; i++) {
        struct fdb_entry *e = &b->entries[i], *to;
        uint64_t key = peek(e->key), hash = fdb_hash(f, key);
        struct fdb_bucket *first = fdb_first(f, hash);
        struct fdb_bucket *other = first == b ? fdb_second(f, hash) : first;
        if (other == b || !(to = free_slot(other)))
            continue;
        uint64_t was = peek(e->value);
        fill(to, key, was);
        __atomic_fetch_add(&f->stats.displaced, 1, __ATOMIC_ACQ_REL);
        uint64_t last = empty(e, was), copy = peek(to->value);
        if (fdb_stamp(last) != fdb_stamp(was)) /* refreshed here while it moved */
            __atomic_compare_exchange_n(&to->value, &copy,
                                        (copy & 0xFFFFFFFF) | (uint64_t)fdb_stamp(last) << 32,
                                        false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        return e;
    }
    return NULL;
}

static enum fdb_result enter(struct fdb *f, uint64_t key, uint64_t hash, uint64_t value)
{
    struct fdb_bucket *first = fdb_first(f, hash), *second = fdb_second(f, hash);
    struct fdb_network *n = network_of(f, key);
    struct fdb_entry *e = fdb_home(f, hash);
    if (peek(e->key))
        e = free_slot(first);
    if (!e)
        e = free_slot(second);
    if (!e && f->sweeps)
        return FDB_BUSY;
    if (!e)
        e = displace(f, first);
    if (!e)
        e = displace(f, second);
    if (!e)
        return FDB_FULL;
    fill(e, key, value);
    add(f->stats.entries, 1);
    add(n->entries, 1);
    if (is_learned(value))
        add(n->learned, 1);
    return FDB_LEARNED;
}

/* Whether there is no room for one more; for what a worker learns, in its network too. */
static bool is_full(const struct fdb *f, uint64_t key, bool by_worker)
{
    const struct fdb_network *n = network_of(f, key);
    if (!n || peek(f->stats.entries) >= f->capacity)
        return true;
    uint32_t most = peek(n->most);
    return by_worker && most && peek(n->learned) >= most;
}

static uint64_t value_of(uint32_t dest, uint32_t flags, uint32_t now)
{
    return (uint64_t)now << 32 | FDB_VALID | (flags & FDB_FLAGS) | (dest & FDB_DEST_MAX);
}

/* ---- one entry ---------------------------------------------------------------------- */

/* FDB_MOVED: it may move. */
static enum fdb_result verdict(struct fdb *f, uint64_t value, uint32_t dest, uint32_t *previous)
{
    if (fdb_dest(value) == dest)
        return FDB_KNOWN;
    *previous = fdb_dest(value);
    if (!(value & FDB_FLAGS))
        return FDB_MOVED;
    tally(&f->stats.spoofed);
    return value & FDB_OWN ? FDB_OWNED : FDB_SPOOFED;
}

static enum fdb_result learn_locked(struct fdb *f, uint64_t key, uint64_t hash, uint32_t dest,
                                    uint32_t now, uint32_t *previous)
{
    uint64_t value;
    struct fdb_entry *e = seek(f, key, hash, &value);
    if (!e) {
        enum fdb_result result =
            is_full(f, key, true) ? FDB_FULL : enter(f, key, hash, value_of(dest, 0, now));
        if (result == FDB_LEARNED)
            add(f->stats.learned, 1);
        return result;
    }
    enum fdb_result result = verdict(f, value, dest, previous);
    if (result != FDB_MOVED)
        return result;
    while (!__atomic_compare_exchange_n(&e->value, &value,
                                        value_of(dest, 0, now) | (value & FDB_TURN), false,
                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    add(f->stats.moved, 1);
    return FDB_MOVED;
}

enum fdb_result fdb_learn_slow(struct fdb *f, uint64_t key, uint64_t hash, uint32_t dest,
                               uint32_t now, uint32_t *previous)
{
    uint64_t value;
    struct fdb_entry *e = seek(f, key, hash, &value);
    enum fdb_result result = FDB_FULL;
    if (e && (result = verdict(f, value, dest, previous)) == FDB_KNOWN)
        fdb_refresh(e, value, now);
    if (e && result != FDB_MOVED)
        return result;
    if (e || !is_full(f, key, true)) {
        if (!lock_soon(f))
            return FDB_BUSY;
        result = learn_locked(f, key, hash, dest, now, previous);
        unlock(f);
    }
    if (result == FDB_FULL)
        tally(&f->stats.refused);
    return result;
}

static enum fdb_result set_locked(struct fdb *f, uint64_t key, uint64_t hash, uint64_t wanted)
{
    uint64_t value;
    struct fdb_entry *e = seek(f, key, hash, &value);
    if (!e)
        return is_full(f, key, false) ? FDB_FULL : enter(f, key, hash, wanted);
    while (!__atomic_compare_exchange_n(&e->value, &value, wanted | (value & FDB_TURN), false,
                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    struct fdb_network *n = network_of(f, key);
    add(n->learned, (uint32_t)is_learned(wanted) - (uint32_t)is_learned(value));
    return fdb_dest(value) == fdb_dest(wanted) ? FDB_KNOWN : FDB_MOVED;
}

enum fdb_result fdb_set(struct fdb *f, uint64_t key, uint32_t dest, uint32_t flags, uint32_t now)
{
    uint64_t hash = fdb_hash(f, key);
    enum fdb_result result;
    if (flags & FDB_OWN)
        flags |= FDB_STATIC;
    do {
        lock(f);
        result = set_locked(f, key, hash, value_of(dest, flags, now));
        unlock(f);
    } while (result == FDB_BUSY);
    if (result == FDB_FULL)
        tally(&f->stats.refused);
    return result;
}

/* Under the lock. */
static void discount(struct fdb *f, uint64_t key, uint64_t value)
{
    struct fdb_network *n = network_of(f, key);
    add(f->stats.entries, (uint64_t)-1);
    add(n->entries, (uint32_t)-1);
    if (is_learned(value))
        add(n->learned, (uint32_t)-1);
}

uint64_t fdb_remove(struct fdb *f, uint64_t key)
{
    uint64_t value = 0, hash = fdb_hash(f, key);
    lock(f);
    struct fdb_entry *e = seek(f, key, hash, &value);
    if (e) {
        value = empty(e, value);
        discount(f, key, value);
        add(f->stats.removed, 1);
    }
    unlock(f);
    return e ? value : 0;
}

/* ---- many entries --------------------------------------------------------------------- */

static bool matches(const struct fdb *f, const struct fdb_which *w, uint64_t key, uint64_t value)
{
    int64_t most = w->idle, idle = (int32_t)(w->now - fdb_stamp(value));
    if (!key || !(value & FDB_VALID) || (value & (FDB_STATIC | FDB_OWN) & ~(uint64_t)w->flags) ||
        (w->network >= 0 && fdb_network_of(key) != w->network) ||
        (w->dest >= 0 && fdb_dest(value) != w->dest))
        return false;
    if (most == FDB_ITS_AGE)
        most = peek(network_of(f, key)->age) ? peek(network_of(f, key)->age) : INT64_MAX;
    return most == FDB_ANY_AGE || idle > most;
}

/* Remove the entry if it is still there and still matches; its value, or 0. */
static uint64_t take(struct fdb *f, const struct fdb_which *w, struct fdb_entry *e, uint64_t key)
{
    bool taken = false;
    lock(f);
    uint64_t value = peek(e->value);
    if (peek(e->key) == key)
        while (!taken && matches(f, w, key, value))
            taken = __atomic_compare_exchange_n(&e->value, &value, value & FDB_TURN, false,
                                                __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    if (taken) {
        __atomic_store_n(&e->key, 0, __ATOMIC_RELEASE);
        discount(f, key, value);
        if (w->idle == FDB_ANY_AGE)
            add(f->stats.removed, 1);
        else
            add(f->stats.aged, 1);
    }
    unlock(f);
    return taken ? value : 0;
}

static uint64_t take_bucket(struct fdb *f, const struct fdb_which *w, struct fdb_bucket *b,
                            fdb_gone *gone, void *context)
{
    uint64_t taken = 0;
    for (unsigned i = 0; i < FDB_WAYS; i++) {
        struct fdb_entry *e = &b->entries[i];
        uint64_t key = __atomic_load_n(&e->key, __ATOMIC_ACQUIRE), value;
        if (!key || !matches(f, w, key, peek(e->value)) || !(value = take(f, w, e, key)))
            continue;
        taken++;
        if (gone)
            gone(context, key, value);
    }
    return taken;
}

uint64_t fdb_age(struct fdb *f, uint32_t now, uint64_t *cursor, uint64_t slice, fdb_gone *gone,
                 void *context)
{
    struct fdb_which w = {.network = -1, .dest = -1, .idle = FDB_ITS_AGE, .now = now};
    uint64_t at = *cursor < f->bucket_count ? *cursor : 0, taken = 0;
    uint64_t end = slice < f->bucket_count - at ? at + slice : f->bucket_count;
    for (; at < end; at++)
        taken += take_bucket(f, &w, f->buckets + at, gone, context);
    *cursor = at < f->bucket_count ? at : 0;
    return taken;
}

/* From begin to end, no entry changes its bucket. */
static void sweep_begin(struct fdb *f)
{
    lock(f);
    f->sweeps++;
    unlock(f);
}

static void sweep_end(struct fdb *f)
{
    lock(f);
    f->sweeps--;
    unlock(f);
}

/* Whether a network, or the whole table, has no entry that may match. */
static bool has_none(const struct fdb *f, int64_t network)
{
    if (network < 0)
        return !peek(f->stats.entries);
    return network >= FDB_NETWORKS_MAX || !fdb_count(f, (uint32_t)network);
}

uint64_t fdb_flush(struct fdb *f, const struct fdb_which *which, fdb_gone *gone, void *context)
{
    uint64_t taken = 0;
    sweep_begin(f);
    for (uint64_t i = 0; i < f->bucket_count && !has_none(f, which->network); i++)
        taken += take_bucket(f, which, f->buckets + i, gone, context);
    sweep_end(f);
    return taken;
}

uint64_t fdb_list(struct fdb *f, int64_t network, uint64_t *keys, uint64_t *values, uint64_t room)
{
    struct fdb_which w = {.network = network, .dest = -1, .idle = FDB_ANY_AGE, .flags = FDB_FLAGS};
    uint64_t found = 0;
    if (has_none(f, network))
        return 0;
    sweep_begin(f);
    for (uint64_t i = 0; i < f->bucket_count * FDB_WAYS; i++) {
        struct fdb_bucket *b = f->buckets + i / FDB_WAYS;
        uint64_t key = __atomic_load_n(&b->entries[i % FDB_WAYS].key, __ATOMIC_ACQUIRE), value;
        if (!key || !fdb_is(&b->entries[i % FDB_WAYS], key, &value) || !matches(f, &w, key, value))
            continue;
        if (found < room) {
            keys[found] = key;
            values[found] = value;
        }
        found++;
    }
    sweep_end(f);
    return found;
}

/* ---- batches ------------------------------------------------------------------------------ */

enum { AHEAD = 8 }; /* keys whose buckets are on their way */

void fdb_find_keys(const struct fdb *f, const uint64_t *keys, uint64_t *values, size_t count)
{
    for (size_t i = 0; i < AHEAD && i < count; i++)
        fdb_prefetch(f, fdb_hash(f, keys[i]));
    for (size_t i = 0; i < count; i++) {
        if (likely(i + AHEAD < count))
            fdb_prefetch(f, fdb_hash(f, keys[i + AHEAD]));
        values[i] = fdb_find(f, keys[i], fdb_hash(f, keys[i]));
    }
}

void fdb_learn_keys(struct fdb *f, const uint64_t *keys, const uint32_t *dests, uint8_t *results,
                    size_t count, uint32_t now)
{
    uint32_t previous;
    for (size_t i = 0; i < AHEAD && i < count; i++)
        fdb_prefetch(f, fdb_hash(f, keys[i]));
    for (size_t i = 0; i < count; i++) {
        if (likely(i + AHEAD < count))
            fdb_prefetch(f, fdb_hash(f, keys[i + AHEAD]));
        uint64_t hash = fdb_hash(f, keys[i]);
        results[i] = (uint8_t)fdb_learn(f, keys[i], hash, dests[i], now, &previous);
    }
}
