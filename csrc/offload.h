/* offload.h: inner TCP and UDP: checksums left partial or completed, TCP cut by MSS.
 *
 * Lives here: what a NIC would do to the inner packet.  Must not: outer headers.
 */
#ifndef OFFLOAD_H
#define OFFLOAD_H

#include "checksum.h"
#include "inner.h"

/* An inner TCP or UDP datagram, all of it here. */
struct offload {
    uint32_t l3;
    uint32_t l4;
    uint32_t end; /* by the IP length */
    uint8_t version;
    bool tcp;
};

/* Whether the frame carries one that can be offloaded, its tags passed over;
 * if so, where.  in is inner_inspect's word on the frame. */
bool offload_find(const uint8_t *frame, uint32_t length, const struct inner *in, struct offload *o);

/* Where its checksum field stands. */
always_inline uint32_t offload_field(const struct offload *o)
{
    return o->l4 + (o->tcp ? 16 : 6);
}

/* The sum of its pseudo header, folded, not inverted: a partial checksum. */
uint16_t offload_seed(const uint8_t *frame, const struct offload *o);

/* Compute its checksum from nothing and write it. */
void offload_complete(uint8_t *frame, const struct offload *o);

#endif
