/* gpe.h: VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe-13).
 *
 * Chapters, the same in every protocol: constants, header, check, emit, verbs.
 */
#ifndef GPE_H
#define GPE_H

#include "udp_header.h"

/* ---- constants ------------------------------------------------------------ */

enum {
    GPE_LENGTH = 8,
    GPE_RESERVED = 0xC0,     /* byte 0 */
    GPE_VERSION_MASK = 0x30, /* byte 0 */
    GPE_I = 0x08,            /* byte 0: the VNI is valid */
    GPE_P = 0x04,            /* byte 0: the next protocol is here */
    GPE_O = 0x01,            /* byte 0: for the control plane */
    GPE_IPV4 = 1,
    GPE_IPV6 = 2,
    GPE_ETHERNET = 3,
    GPE_SHIM = 0x80, /* next protocols from here on are shim headers */
    GPE_SHIMS_MAX = 8,
};

/* ---- header ---------------------------------------------------------------- */

/*  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |R|R|Ver|I|P|B|O|       Reserved                | Next Protocol |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                VXLAN Network Identifier (VNI) |   Reserved    |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
struct gpe {
    uint8_t flags;
    uint8_t reserved[2];
    uint8_t next_protocol;
    uint8_t vni[3];
    uint8_t last;
};
_Static_assert(sizeof(struct gpe) == GPE_LENGTH, "draft-ietf-nvo3-vxlan-gpe, section 3");

/* ---- check ------------------------------------------------------------------ */

/* What lies before the payload, of left bytes that are here; by value. */
struct gpe_answer {
    uint32_t length;
    uint16_t ethertype;
    uint8_t status;
};
struct gpe_answer gpe_check_header(const struct ov_policy *y, const uint8_t *header, uint32_t left);

/* Step 11: at is where the payload of a datagram for VXLAN-GPE begins. */
always_inline int gpe_check(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                            uint32_t at, struct ov_frame *d)
{
    struct gpe_answer answer = gpe_check_header(y, packet + at, o->here - at);
    d->protocol = OV_GPE;
    if (answer.status != OV_OK)
        return answer.status;
    d->key = get24(packet + at + 4);
    d->offset = at + answer.length;
    d->ethertype = answer.ethertype;
    return OV_OK;
}

/* ---- emit ------------------------------------------------------------------- */

always_inline void gpe_emit(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                            uint64_t sequence, struct layout layout)
{
    uint8_t next = p->ethertype == ETHERTYPE_IPV4 ? GPE_IPV4 : GPE_IPV6;
    udp_emit(t, p, packet, sequence, layout, layout.ip ? next : 0);
    if (layout.ip)
        packet[layout.l4 + UDP_LENGTH + 3] = next;
}

/* ---- verbs ------------------------------------------------------------------- */

int gpe_init(struct ov_tunnel *t, const struct ov_config *config);
size_t gpe_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence);
size_t gpe_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out, uint32_t mtu,
                uint64_t sequence);
int gpe_describe(const uint8_t *header, size_t length, const struct outer *o,
                 struct ov_config *config);

#endif
