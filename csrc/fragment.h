/* fragment.h: outer IP fragments to whole packets, in bounded memory, by an explicit clock.
 *
 * All of it lives in one block that the caller brings; one thread uses it.
 * Guarantee: a packet is given only when every byte of it has come exactly once;
 * whatever arrives, memory stays within the budget, each push ends in bounded
 * time, and every fragment is counted once.
 */
#ifndef FRAGMENT_H
#define FRAGMENT_H

#include "outer.h"

/* Fragments, but for the last three.  taken = joined + overlaps + limits + timeouts +
 * refused + held. */
struct fragment_stats {
    uint64_t taken;    /* pushed */
    uint64_t joined;   /* given, in whole packets */
    uint64_t overlaps; /* lost to RFC 5722: of datagrams with overlaps; and exact duplicates */
    uint64_t limits;   /* lost to the bound of memory */
    uint64_t timeouts; /* lost to time */
    uint64_t refused;  /* wrong in themselves, or of datagrams whose ECN marks contradict */
    uint64_t held;     /* here now */
    uint64_t packets;  /* given */
    uint64_t pending;  /* datagrams waiting now */
    uint64_t memory;   /* bytes of pages in use now */
};

struct fragments; /* lives in the caller's memory */

/* Bytes that this budget of payload needs; 0 if it is below 262144 or too large. */
size_t fragment_size(uint64_t memory);

/* Make one in at, aligned to 64 bytes and of that size.  timeout in ns from a
 * datagram's first fragment. */
struct fragments *fragment_init(void *at, uint64_t memory, uint64_t timeout, uint64_t seed);

void fragment_stats(const struct fragments *f, struct fragment_stats *stats);

/* Take a packet; link as in a batch.  now is in ns and does not run backwards.
 * OV_OK: *whole of *bytes is a whole packet: this one where it is no fragment (right
 * or wrong: decap judges), else a datagram that is complete now, in memory of f
 * until the next push, with the headers of its first fragment.
 * OV_FRAGMENT_HELD: kept.  Anything else, the fragment is lost:
 * OV_FRAGMENT_OVERLAP: and with it all of its datagram, unless it is a duplicate;
 * OV_FRAGMENT_LIMIT: memory is short, and its source has the largest part of it;
 * OV_IP_LENGTH, OV_IP_EXTENSION: offsets or headers that cannot be;
 * OV_ECN_CONGESTION: marks that contradict. */
int fragment_push(struct fragments *f, const uint8_t *packet, uint32_t length, int link,
                  uint64_t now, const uint8_t **whole, uint32_t *bytes);

/* Forget datagrams whose first fragment came timeout or more before now; returns
 * the fragments lost. */
size_t fragment_expire(struct fragments *f, uint64_t now);

#endif
