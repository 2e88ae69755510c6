/* nvgre.h: NVGRE (RFC 7637) over GRE (RFC 2784, RFC 2890).
 *
 * Chapters, the same in every protocol: constants, header, check, emit, verbs.
 */
#ifndef NVGRE_H
#define NVGRE_H

#include "gre_header.h"

/* ---- constants ------------------------------------------------------------ */

enum { NVGRE_LENGTH = 8 };
/* ---- header ---------------------------------------------------------------- */

/*  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |0| |1|0|   Reserved0     | Ver |   Protocol Type 0x6558        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |               Virtual Subnet ID (VSID)        |    FlowID     |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
struct nvgre {
    uint8_t flags[2];
    uint8_t protocol[2];
    uint8_t vsid[3];
    uint8_t flow_id;
};
_Static_assert(sizeof(struct nvgre) == NVGRE_LENGTH, "RFC 7637, section 3.2");

/* ---- check ------------------------------------------------------------------ */

/* What the common header does not need: C, S, reserved bits and wrong words.
 * left bytes of GRE are here, of whole that exist; the answer is by value. */
struct nvgre_answer {
    uint32_t key;
    uint8_t length; /* of the header */
    uint8_t status;
};
struct nvgre_answer nvgre_check_rare(const struct ov_policy *y, const uint8_t *gre, uint32_t left,
                                     uint32_t whole);

/* Steps 9 to 11: *o carries GRE of at least four bytes; gives the key and the inner offset. */
always_inline int nvgre_check(const struct ov_policy *y, const uint8_t *packet,
                              const struct outer *o, struct ov_frame *d)
{
    const uint8_t *gre = packet + o->l4;
    uint32_t left = o->here - o->l4;
    d->protocol = OV_NVGRE;
    if (unlikely(left < NVGRE_LENGTH || get32(gre) != ((uint32_t)GRE_K << 16 | GRE_TEB) ||
                 y->drop_reserved_vsid)) {
        struct nvgre_answer rare = nvgre_check_rare(y, gre, left, o->end - o->l4);
        d->key = rare.key;
        d->offset = o->l4 + rare.length;
        return rare.status;
    }
    d->key = get24(gre + 4);
    d->offset = o->l4 + NVGRE_LENGTH;
    return OV_OK;
}

/* ---- emit ------------------------------------------------------------------- */

always_inline void nvgre_emit(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                              uint64_t sequence, struct layout layout)
{
    uint32_t bytes = p->wire + layout.headers;
    outer_copy(packet, t->header, layout.headers);
    outer_write(t, packet + layout.l3, bytes - layout.l3, p->in.tos, p->in.hash, layout.v6);
    if (unlikely(t->id_mask != 0) && !layout.v6)
        outer_identify(t, packet + layout.l3, sequence, 0);
    uint32_t flow_id = hash_flow_id(p->in.hash) & t->flow_id_mask;
    packet[layout.l4 + 7] = (uint8_t)(t->header[layout.l4 + 7] | flow_id);
}

/* ---- verbs ------------------------------------------------------------------- */

int nvgre_init(struct ov_tunnel *t, const struct ov_config *config);
size_t nvgre_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence);
size_t nvgre_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                  uint32_t mtu, uint64_t sequence);
int nvgre_describe(const uint8_t *header, size_t length, const struct outer *o,
                   struct ov_config *config);

#endif
