/* neighbor.h: who answers ARP and neighbour discovery for a host that is known.
 *
 * Lives here: the table (network, IP address) -> MAC, what it learns from frames
 * and the answers it gives.  Must not: who may ask it, where an answer goes.
 *
 * Guarantees: memory is a constant of the capacity; what the operator set is
 * never changed by a frame; when it is full, the learned entry that was heard
 * longest ago makes room.  An entry counts for the tag it was heard under and
 * no other.  Any thread may call any function.
 */
#ifndef NEIGHBOR_H
#define NEIGHBOR_H

#include "inner.h"

enum {
    NEIGHBOR_STATIC = 1, /* the operator's: not learned, not aged, not evicted */
    NEIGHBOR_ROUTER = 2, /* IPv6: says so in its advertisements */
    NEIGHBOR_ANSWER_MAX = ETHERNET_LENGTH + TAG_LENGTH + 40 + 32,
    NEIGHBOR_CAPACITY_MAX = 1 << 24,
};

struct neighbor {
    uint8_t ip[16]; /* IPv4: in the first four bytes */
    uint32_t network;
    uint16_t tag;   /* 0x1000 | VLAN ID, or 0 */
    uint8_t family; /* 4 or 6 */
    uint8_t flags;
    uint8_t mac[6];
    uint8_t zero[2];
    uint32_t stamp; /* seconds: heard last */
};

struct neighbor_stats {
    uint64_t entries, capacity;
    uint64_t learned, moved;
    uint64_t evicted;
    uint64_t answered;
};

struct neighbors; /* lives in the caller's memory */

/* Bytes of a table for this many entries; 0 unless 1..NEIGHBOR_CAPACITY_MAX. */
size_t neighbor_size(uint64_t capacity);
/* Make one in at: of that size, zero, aligned to 64 bytes.  Learned entries that
 * were not heard for more than age seconds answer no more; 0: they always do. */
struct neighbors *neighbor_init(void *at, uint64_t capacity, uint32_t age, uint64_t seed);
void neighbor_stats(struct neighbors *t, struct neighbor_stats *stats);

/* Enter what the operator says; ip, family, network, tag, flags and mac are read.
 * False: full of static entries. */
bool neighbor_set(struct neighbors *t, const struct neighbor *entry, uint32_t now);
/* Complete the entry that has this network, tag, family and ip; false: unknown, or too old. */
bool neighbor_find(struct neighbors *t, struct neighbor *entry, uint32_t now);
bool neighbor_remove(struct neighbors *t, const struct neighbor *entry);
/* Remove all of a network (-1: any) with this MAC (NULL: any), static ones too or not. */
uint64_t neighbor_flush(struct neighbors *t, int64_t network, const uint8_t *mac, bool statics);
/* Copy the entries of a network (-1: any) out, at most room.  Returns how many there are. */
uint64_t neighbor_list(struct neighbors *t, int64_t network, struct neighbor *out, uint64_t room);

/* Learn what a frame says of its sender: ARP requests and replies, probes not;
 * neighbour advertisements, and solicitations of who is known (they do not say
 * whether it is a router).  True: something is new. */
bool neighbor_learn(struct neighbors *t, uint32_t network, const uint8_t *frame, size_t length,
                    uint32_t now);
/* Write the answer to a question that is asked of everybody, if the table knows
 * it, to out, which has room for NEIGHBOR_ANSWER_MAX bytes.  Returns its length or 0.
 * Gratuitous ARP, ARP probes and duplicate address detection ask who else has
 * an address: never answered, nor is who asks about itself. */
size_t neighbor_answer(struct neighbors *t, uint32_t network, const uint8_t *frame, size_t length,
                       uint32_t now, uint8_t *out);

/* Whether a frame may be any of neighbor_learn's or neighbor_answer's business. */
always_inline bool neighbor_concerns(const uint8_t *frame, size_t length)
{
    if (length < ETHERNET_LENGTH + 28)
        return false;
    const uint8_t *type = frame + 12;
    if (unlikely(get16(type) == ETHERTYPE_CTAG))
        type += TAG_LENGTH;
    if (likely(get16(type) == ETHERTYPE_IPV4))
        return false;
    return get16(type) == 0x0806 || (get16(type) == ETHERTYPE_IPV6 && type[2 + 6] == 58);
}

#endif
