/* gre.h: plain GRE (RFC 2784, RFC 2890) that carries Ethernet or IP.
 *
 * Chapters, the same in every protocol: constants, header, check, emit, verbs.
 */
#ifndef GRE_H
#define GRE_H

#include "gre_header.h"

/* ---- constants ------------------------------------------------------------ */

#define GRE_NO_KEY ((uint64_t)1 << 32) /* the key of a header without one */

enum { GRE_KEYED = 8 }; /* bytes of the most common header: K alone */

/* ---- header: in gre_header.h ------------------------------------------------ */

/* ---- check ------------------------------------------------------------------ */

/* Steps 9 to 11: *o carries GRE of at least four bytes; by value. */
struct gre_answer {
    uint64_t key;
    uint32_t length; /* of the header */
    uint16_t ethertype;
    uint8_t status;
};
struct gre_answer gre_check_header(const struct ov_policy *y, const uint8_t *gre, uint32_t left,
                                   uint32_t whole);

always_inline int gre_check(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                            struct ov_frame *d)
{
    struct gre_answer answer = gre_check_header(y, packet + o->l4, o->here - o->l4, o->end - o->l4);
    d->protocol = OV_GRE;
    d->key = answer.key;
    d->offset = o->l4 + answer.length;
    d->ethertype = answer.ethertype;
    return answer.status;
}

/* ---- emit ------------------------------------------------------------------- */

always_inline void gre_emit(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                            uint64_t sequence, struct layout layout)
{
    gre_write(t, p, packet, sequence, layout.headers - layout.l4 - 4, layout);
}

/* ---- verbs ------------------------------------------------------------------- */

int gre_init(struct ov_tunnel *t, const struct ov_config *config);
size_t gre_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence);
size_t gre_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out, uint32_t mtu,
                uint64_t sequence);
int gre_describe(const uint8_t *header, size_t length, const struct outer *o,
                 struct ov_config *config);

#endif
