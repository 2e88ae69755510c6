/* index.h: from three numbers to one: which network has a key, which remote an address.
 *
 * Open addressing in the caller's memory.  Readers and writers take turns (the
 * workers' gate sees to that).  Guarantee: a lookup ends after at most as many
 * steps as there are slots, of which half or more are free.
 */
#ifndef INDEX_H
#define INDEX_H

#include "hash.h"

enum { INDEX_NONE = 0xFFFFFFFF };

struct index_key {
    uint64_t a, b, c;
};

struct index_slot {
    struct index_key key;
    uint32_t value; /* INDEX_NONE: free */
    uint32_t zero;
};

struct index {
    struct index_slot *slots;
    uint64_t mask; /* slots - 1; a power of two */
    uint64_t used;
    uint64_t seed;
};

always_inline uint64_t index_hash(const struct index *x, struct index_key key)
{
    uint64_t state = hash_absorb(x->seed, key.a, key.b);
    return hash_finish(hash_absorb(state, key.c, key.c >> 32));
}

always_inline bool index_equal(struct index_key k, struct index_key l)
{
    return ((k.a ^ l.a) | (k.b ^ l.b) | (k.c ^ l.c)) == 0;
}

/* The slot of a key, or the free one where it would go. */
always_inline struct index_slot *index_slot(const struct index *x, struct index_key key)
{
    uint64_t at = index_hash(x, key);
    for (;; at++) {
        struct index_slot *slot = &x->slots[at & x->mask];
        if (slot->value == INDEX_NONE || index_equal(slot->key, key))
            return slot;
    }
}

/* Its value, or INDEX_NONE. */
always_inline uint32_t index_find(const struct index *x, struct index_key key)
{
    return index_slot(x, key)->value;
}

/* Make count slots, a power of two, an empty index. */
void index_init(struct index *x, struct index_slot *slots, uint64_t count, uint64_t seed);
/* Set a value.  False, and nothing done, when half of the slots are in use. */
bool index_set(struct index *x, struct index_key key, uint32_t value);
/* Forget a key; whether it was there. */
bool index_remove(struct index *x, struct index_key key);

#endif
