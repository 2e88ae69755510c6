/* fdb.h: the MAC table of a whole VTEP: (network, MAC) to destination.
 *
 * Lives here: the layout, and what a worker does for every frame.  Must not:
 * what a destination is, what is done with a frame.
 *
 * Guarantees: readers take no lock and wait for nobody; what they find was
 * true at a moment within the call, and an entry that stays is found.  Entries
 * come, move and go under one lock.  What is known is never evicted for what
 * is new.  Memory is a constant of the capacity; pages that hold no entry are
 * not touched.
 */
#ifndef FDB_H
#define FDB_H

#include "hash.h"

enum {
    FDB_WAYS = 4, /* entries of a bucket, which is a cache line */
    FDB_NETWORKS_MAX = 65535,
    FDB_DEST_MAX = 0xFFFFFF,
};

/* A value: stamp (seconds) << 32 | how often its slot was used, 4 bits | flags, 4 bits | dest. */
enum {
    FDB_VALID = 1 << 24,  /* in every value that is an entry's */
    FDB_STATIC = 1 << 25, /* does not age, does not move */
    FDB_STICKY = 1 << 26, /* ages, does not move */
    FDB_OWN = 1 << 27,    /* a local port's own MAC; static too */
    FDB_FLAGS = FDB_STATIC | FDB_STICKY | FDB_OWN,
};
#define FDB_TURN 0xF0000000u

enum fdb_result {
    FDB_KNOWN,   /* there already */
    FDB_LEARNED, /* new */
    FDB_MOVED,   /* was elsewhere */
    FDB_SPOOFED, /* is static or sticky elsewhere */
    FDB_OWNED,   /* is a local port's own, elsewhere */
    FDB_FULL,    /* not learned: the table, or the network's share of it, is full */
    FDB_BUSY,    /* not learned: others were writing; the next frame will be */
};

struct fdb_entry {
    uint64_t key; /* 0: free */
    uint64_t value;
};

struct fdb_bucket {
    struct fdb_entry entries[FDB_WAYS];
};

/* One network's share. */
struct fdb_network {
    uint32_t entries;
    uint32_t learned; /* of them: neither static nor own */
    uint32_t most;    /* learned entries; 0: no limit */
    uint32_t age;     /* seconds after which a learned entry goes; 0: never */
};

struct fdb_stats {
    uint64_t entries, capacity;
    uint64_t learned, moved, aged, removed;
    uint64_t refused;   /* full */
    uint64_t spoofed;   /* static, sticky or own elsewhere */
    uint64_t displaced; /* entries put into their other bucket to make room */
};

struct fdb {
    uint64_t seed[2];
    uint64_t bucket_count;
    struct fdb_bucket *buckets;
    struct fdb_network *networks;
    uint64_t network_count;
    uint64_t capacity;
    uint64_t zero;
    /* Another line: what changes. */
    struct fdb_stats stats;
    uint32_t lock;
    uint32_t sweeps; /* that count on every entry staying in its bucket */
};

/* ---- set-up -------------------------------------------------------------------- */

/* Bytes of a table for this many entries; 0 when out of range.  capacity is
 * 1..2^30, networks 1..FDB_NETWORKS_MAX. */
size_t fdb_size(uint64_t capacity, uint32_t networks);
/* Make one in at: of that size, zero, aligned to 64 bytes. */
struct fdb *fdb_init(void *at, uint64_t capacity, uint32_t networks, uint64_t seed);
/* Limit and ageing of a network; any time. */
void fdb_configure(struct fdb *f, uint32_t network, uint32_t most, uint32_t age);
/* Entries of a network. */
uint32_t fdb_count(const struct fdb *f, uint32_t network);
void fdb_stats(const struct fdb *f, struct fdb_stats *stats);

/* ---- one entry, from any thread ------------------------------------------------- */

/* What fdb_find and fdb_learn come to when the quick way does not answer. */
uint64_t fdb_find_again(const struct fdb *f, uint64_t key, uint64_t hash);
enum fdb_result fdb_learn_slow(struct fdb *f, uint64_t key, uint64_t hash, uint32_t dest,
                               uint32_t now, uint32_t *previous);
/* Enter what the operator says, over what is there: flags is 0 (as if learned),
 * FDB_STATIC, FDB_STICKY or FDB_OWN.  FDB_LEARNED, FDB_MOVED (was there with
 * another dest), FDB_KNOWN or FDB_FULL. */
enum fdb_result fdb_set(struct fdb *f, uint64_t key, uint32_t dest, uint32_t flags, uint32_t now);
/* The value that was removed, or 0. */
uint64_t fdb_remove(struct fdb *f, uint64_t key);

/* ---- many entries ---------------------------------------------------------------- */

/* Told of every entry that goes, outside the lock. */
typedef void fdb_gone(void *context, uint64_t key, uint64_t value);

/* Remove learned entries, own and static ones not, that were idle for more than
 * their network's age, in the next slice buckets from *cursor, which moves on and
 * is 0 again after the last.  Returns how many went. */
uint64_t fdb_age(struct fdb *f, uint32_t now, uint64_t *cursor, uint64_t slice, fdb_gone *gone,
                 void *context);

enum { FDB_ANY_AGE = -1, FDB_ITS_AGE = -2 }; /* its network's; then 0 is never */

/* Which entries to remove. */
struct fdb_which {
    int64_t network; /* or -1: any */
    int64_t dest;    /* or -1: any */
    int64_t idle;    /* for more seconds than this at now, or FDB_ANY_AGE, FDB_ITS_AGE */
    uint32_t now;
    uint32_t flags; /* entries with FDB_STATIC or FDB_OWN only if these are here */
};

/* Remove all such entries that are there throughout.  Returns how many went. */
uint64_t fdb_flush(struct fdb *f, const struct fdb_which *which, fdb_gone *gone, void *context);

/* Copy the entries of a network (-1: any) out, all that are there throughout, at
 * most room; keys and values may be NULL with room 0.  Returns how many there are. */
uint64_t fdb_list(struct fdb *f, int64_t network, uint64_t *keys, uint64_t *values, uint64_t room);

/* Batches: values[i] is 0 where there is none. */
void fdb_find_keys(const struct fdb *f, const uint64_t *keys, uint64_t *values, size_t count);
void fdb_learn_keys(struct fdb *f, const uint64_t *keys, const uint32_t *dests, uint8_t *results,
                    size_t count, uint32_t now);

/* ---- keys and values -------------------------------------------------------------- */

/* network is below FDB_NETWORKS_MAX. */
always_inline uint64_t fdb_key(uint32_t network, const uint8_t *mac)
{
    return (uint64_t)(network + 1) << 48 | (uint64_t)get32(mac) << 16 | get16(mac + 4);
}

always_inline uint32_t fdb_network_of(uint64_t key)
{
    return (uint32_t)(key >> 48) - 1;
}

always_inline uint32_t fdb_dest(uint64_t value)
{
    return (uint32_t)value & FDB_DEST_MAX;
}

always_inline uint32_t fdb_stamp(uint64_t value)
{
    return (uint32_t)(value >> 32);
}

/* ---- for every frame --------------------------------------------------------------- */

/* A secret multiplier and a secret addend: nobody outside can aim at a bucket. */
always_inline uint64_t fdb_hash(const struct fdb *f, uint64_t key)
{
    return hash_fold(key ^ f->seed[0], f->seed[1]);
}

always_inline struct fdb_bucket *fdb_first(const struct fdb *f, uint64_t hash)
{
    return f->buckets + ((hash & 0xFFFFFFFF) * f->bucket_count >> 32);
}

always_inline struct fdb_bucket *fdb_second(const struct fdb *f, uint64_t hash)
{
    return f->buckets + ((hash >> 32) * f->bucket_count >> 32);
}

always_inline void fdb_prefetch(const struct fdb *f, uint64_t hash)
{
    __builtin_prefetch(fdb_first(f, hash));
    __builtin_prefetch(fdb_second(f, hash));
}

/* Where an entry is put when nothing is there yet. */
always_inline struct fdb_entry *fdb_home(const struct fdb *f, uint64_t hash)
{
    return &fdb_first(f, hash)->entries[hash % FDB_WAYS];
}

/* Whether this is the entry of the key, and its value.  A slot that was given to
 * another key meanwhile has another turn. */
always_inline bool fdb_is(const struct fdb_entry *e, uint64_t key, uint64_t *value)
{
    uint64_t before = __atomic_load_n(&e->value, __ATOMIC_ACQUIRE);
    uint64_t found = __atomic_load_n(&e->key, __ATOMIC_ACQUIRE);
    *value = __atomic_load_n(&e->value, __ATOMIC_ACQUIRE);
    return found == key && before & FDB_VALID && !((before ^ *value) & (FDB_TURN | FDB_VALID));
}

/* The value, or 0. */
always_inline uint64_t fdb_find(const struct fdb *f, uint64_t key, uint64_t hash)
{
    uint64_t value;
    if (likely(fdb_is(fdb_home(f, hash), key, &value)))
        return value;
    return fdb_find_again(f, key, hash);
}

/* Note that the entry was heard now; another worker may have done so. */
always_inline void fdb_refresh(struct fdb_entry *e, uint64_t value, uint32_t now)
{
    if (unlikely(fdb_stamp(value) != now))
        __atomic_compare_exchange_n(&e->value, &value, (uint64_t)now << 32 | (value & 0xFFFFFFFF),
                                    false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* A frame with this source came from dest.  *previous is written for FDB_MOVED,
 * FDB_SPOOFED and FDB_OWNED: where it is, or was. */
always_inline enum fdb_result fdb_learn(struct fdb *f, uint64_t key, uint64_t hash, uint32_t dest,
                                        uint32_t now, uint32_t *previous)
{
    uint64_t value;
    struct fdb_entry *e = fdb_home(f, hash);
    if (unlikely(!fdb_is(e, key, &value) || fdb_dest(value) != dest))
        return fdb_learn_slow(f, key, hash, dest, now, previous);
    fdb_refresh(e, value, now);
    return FDB_KNOWN;
}

#endif
