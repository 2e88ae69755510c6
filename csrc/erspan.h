/* erspan.h: ERSPAN, types I, II and III (draft-foschiano-erspan-03).
 *
 * Chapters, the same in every protocol: constants, header, check, emit, verbs.
 */
#ifndef ERSPAN_H
#define ERSPAN_H

#include "gre_header.h"

/* ---- constants ------------------------------------------------------------ */

#define ERSPAN_NO_SESSION ((uint64_t)1 << 32) /* the key of type I */

enum {
    ERSPAN_II = 8, /* bytes */
    ERSPAN_III = 12,
    ERSPAN_SUBHEADER = 8,     /* type III with O */
    ERSPAN_SESSION = 0x03FF,  /* of bytes 2 and 3 */
    ERSPAN_TRUNCATED = 0x400, /* T */
    ERSPAN_P = 0x8000,        /* type III, the last 16 bits: an Ethernet frame */
    ERSPAN_O = 0x0001,        /* an optional subheader follows */
    ERSPAN_ETHERNET = 0,      /* frame types */
    ERSPAN_IP = 2,
    ERSPAN_KEPT = 0x03FE, /* what a tunnel says of the last 16 bits: hardware, D, Gra */
};

/* ---- header ---------------------------------------------------------------- */

/*  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  Ver  |          VLAN         | COS |En |T|    Session ID     |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |      Reserved (type II)       |     Index (20 bits; type II)  |
 * |                     Timestamp (type III)                      |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |             SGT               |P|    FT   |   Hw ID   |D|Gra|O|   type III
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
struct erspan {
    uint8_t version_vlan[2];
    uint8_t session[2];
    uint8_t index[4];
    uint8_t group[2];
    uint8_t flags[2];
};
_Static_assert(sizeof(struct erspan) == ERSPAN_III, "draft-foschiano-erspan-03, section 4");

/* ---- check ------------------------------------------------------------------ */

/* Steps 9 to 11: GRE of at least four bytes, of ERSPAN's protocols; by value. */
struct erspan_answer {
    uint64_t key;
    uint32_t length; /* of GRE and ERSPAN */
    uint16_t ethertype;
    uint8_t status;
};
struct erspan_answer erspan_check_header(const struct ov_policy *y, const uint8_t *gre,
                                         uint32_t left, uint32_t whole);

always_inline int erspan_check(const struct ov_policy *y, const uint8_t *packet,
                               const struct outer *o, struct ov_frame *d)
{
    struct erspan_answer answer =
        erspan_check_header(y, packet + o->l4, o->here - o->l4, o->end - o->l4);
    d->protocol = OV_ERSPAN;
    d->key = answer.key;
    d->offset = o->l4 + answer.length;
    d->ethertype = answer.ethertype;
    return answer.status;
}

/* ---- emit ------------------------------------------------------------------- */

always_inline void erspan_emit(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                               uint64_t sequence, struct layout layout)
{
    gre_write(t, p, packet, sequence, GRE_BASE, layout);
}

/* ---- verbs ------------------------------------------------------------------- */

int erspan_init(struct ov_tunnel *t, const struct ov_config *config);
size_t erspan_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence);
size_t erspan_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                   uint32_t mtu, uint64_t sequence);
int erspan_describe(const uint8_t *header, size_t length, const struct outer *o,
                    struct ov_config *config);

#endif
