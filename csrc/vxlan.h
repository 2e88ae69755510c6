/* vxlan.h: VXLAN (RFC 7348) and its group-policy extension (draft-smith-vxlan-group-policy-05).
 *
 * Chapters, the same in every protocol: constants, header, check, emit, verbs.
 */
#ifndef VXLAN_H
#define VXLAN_H

#include "udp_header.h"

/* ---- constants ------------------------------------------------------------ */

enum {
    VXLAN_LENGTH = 8,
    VXLAN_I = 0x08, /* byte 0: the VNI is valid */
    VXLAN_G = 0x80, /* byte 0: a group policy id is here */
    VXLAN_D = 0x40, /* byte 1: the egress must not learn */
    VXLAN_A = 0x08, /* byte 1: the policy has been applied */
};

/* ---- header ---------------------------------------------------------------- */

/*  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |G|R|R|R|I|R|R|R|R|D|R|R|A|R|R|R|        Group Policy ID        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                VXLAN Network Identifier       |   Reserved    |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
struct vxlan {
    uint8_t flags;
    uint8_t policy_flags;
    uint8_t policy[2];
    uint8_t vni[3];
    uint8_t reserved;
};
_Static_assert(sizeof(struct vxlan) == VXLAN_LENGTH, "RFC 7348, section 5");

/* ---- check ------------------------------------------------------------------ */

/* Step 11: at is where the payload of a datagram for VXLAN begins; gives the key
 * and the inner offset. */
always_inline int vxlan_check(const struct ov_policy *y, const uint8_t *packet,
                              const struct outer *o, uint32_t at, struct ov_frame *d)
{
    if (unlikely(o->here - at < VXLAN_LENGTH))
        return OV_HEADER_TRUNCATED;
    const uint8_t *header = packet + at;
    if (unlikely(!(header[0] & VXLAN_I)))
        return OV_VXLAN_NO_VNI;
    if (unlikely(y->base == OV_STRICT)) {
        uint32_t used = (uint32_t)VXLAN_I << 24;
        if (y->gbp)
            used |= (uint32_t)VXLAN_G << 24 | (uint32_t)(VXLAN_D | VXLAN_A) << 16 | 0xFFFF;
        if ((get32(header) & ~used) != 0 || header[7] != 0)
            return OV_VXLAN_RESERVED;
    }
    d->key = get24(header + 4);
    d->offset = at + VXLAN_LENGTH;
    d->protocol = OV_VXLAN;
    return OV_OK;
}

/* ---- emit ------------------------------------------------------------------- */

always_inline void vxlan_emit(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                              uint64_t sequence, struct layout layout)
{
    udp_emit(t, p, packet, sequence, layout, 0);
}

/* ---- verbs ------------------------------------------------------------------- */

int vxlan_init(struct ov_tunnel *t, const struct ov_config *config);
size_t vxlan_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence);
size_t vxlan_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                  uint32_t mtu, uint64_t sequence);
int vxlan_describe(const uint8_t *header, size_t length, const struct outer *o,
                   struct ov_config *config);

#endif
