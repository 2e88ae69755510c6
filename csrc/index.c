/* index.c: see index.h. */
#include "index.h"

void index_init(struct index *x, struct index_slot *slots, uint64_t count, uint64_t seed)
{
    *x = (struct index){.slots = slots, .mask = count - 1, .seed = seed};
    memset(slots, 0xFF, (size_t)count * sizeof *slots);
}

bool index_set(struct index *x, struct index_key key, uint32_t value)
{
    struct index_slot *slot = index_slot(x, key);
    if (slot->value == INDEX_NONE) {
        if (2 * (x->used + 1) > x->mask + 1)
            return false;
        x->used++;
        slot->key = key;
    }
    slot->value = value;
    return true;
}

bool index_remove(struct index *x, struct index_key key)
{
    struct index_slot *slot = index_slot(x, key);
    if (slot->value == INDEX_NONE)
        return false;
    slot->value = INDEX_NONE;
    x->used--;
    /* Those that follow without a gap may have been pushed past it: put them anew. */
    uint64_t at = (uint64_t)(slot - x->slots) + 1;
    for (;; at++) {
        struct index_slot moved = x->slots[at & x->mask];
        if (moved.value == INDEX_NONE)
            return true;
        x->slots[at & x->mask].value = INDEX_NONE;
        *index_slot(x, moved.key) = moved;
    }
}
