/* rewrite.h: one row as the rewriter reads it, and the fields of its outer headers.
 *
 * Guarantee: after rewrite_look every offset that is not 0 lies, with the bytes
 * of its field, within the bytes of the row that are here.
 */
#ifndef REWRITE_H
#define REWRITE_H

#include "kernel.h"

/* What of a packet was read before it could not be read on. */
enum { KNOWS_LINK = 1, KNOWS_IP = 2, KNOWS_TUNNEL = 4, KNOWS_KEY = 8 };

struct look {
    uint8_t *packet;
    struct outer o;
    uint64_t key;
    uint32_t key_at;    /* of the key's field, or 0: it has none here */
    uint32_t key_bytes; /* of that field */
    uint32_t key_mask;  /* ERSPAN: the bits of the field that are the key; else 0 */
    uint32_t sum_at;    /* of the checksum of UDP, TCP or GRE, or 0 */
    uint32_t frame;     /* the inner frame, or 0: it does not begin here */
    uint32_t raw;       /* the same for an inner IP packet */
    uint32_t frame_id;  /* STT */
    uint16_t ethertype; /* of what lies at raw */
    int32_t tci;        /* of the outer tag, or -1 */
    uint8_t protocol;   /* enum ov_protocol */
    uint8_t knows;
    bool ports;   /* there are a source and a destination port at o.l4 */
    bool partial; /* an STT segment that is not a whole frame */
    bool first;   /* and the frame's first */
};

enum { REWRITE_NO_VLAN = -1, REWRITE_ANY_VLAN = -2 };
#define REWRITE_NO_RULE UINT32_MAX

always_inline uint32_t rewrite_address_bytes(int family)
{
    return family == 4 ? 4 : 16;
}

/* An outer address of a packet whose IP header is known. */
always_inline const uint8_t *rewrite_address(const struct look *k, bool destination)
{
    uint32_t size = rewrite_address_bytes(k->o.version), first = k->o.version == 4 ? 12 : 8;
    return k->packet + k->o.l3 + first + (destination ? size : 0);
}

/* Read row i, which lies in the data, without judging checksums; its status. */
int rewrite_look(const struct ov_policy *y, const struct ov_batch *b, size_t i, struct look *k);

/* Whether a status says that a packet is in no tunnel, and so none of the rules' business. */
bool rewrite_is_foreign(int status);

/* The first rule that nothing known of a packet speaks against, or REWRITE_NO_RULE. */
uint32_t rewrite_rule_for(const struct ov_rewriter *w, const struct look *k);

/* The place of a key in a rule's map, or the map's length. */
uint64_t rewrite_place(const struct ov_rule *r, uint64_t key);

#endif
