/* gre_header.h: the GRE header (RFC 2784, RFC 2890) as NVGRE, plain GRE and ERSPAN share it.
 *
 * Knows which optional fields a header has and where; not what a key means.
 */
#ifndef GRE_HEADER_H
#define GRE_HEADER_H

#include "kernel.h"

enum {
    GRE_BASE = 4, /* flags and protocol */
    GRE_C = 0x8000,
    GRE_R = 0x4000,
    GRE_K = 0x2000,
    GRE_S = 0x1000,
    GRE_DISCARD = 0x0C00,   /* bits that RFC 2784 2.3 makes a receiver discard */
    GRE_RESERVED0 = 0x0FF8, /* all reserved bits */
    GRE_VERSION_MASK = 0x0007,
    GRE_TEB = 0x6558, /* transparent Ethernet bridging */
    GRE_ERSPAN = 0x88BE,
    GRE_ERSPAN3 = 0x22EB,
};

/*  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |C|R|K|S|     Reserved0     | Ver |         Protocol Type         |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |      Checksum (if C)          |       Reserved1 (if C)        |
 * |                          Key (if K)                           |
 * |                    Sequence Number (if S)                     |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */

/* Where the key stands or would stand. */
always_inline uint32_t gre_key_at(uint16_t flags)
{
    return flags & GRE_C ? GRE_BASE + 4 : GRE_BASE;
}

/* Where the sequence number stands or would stand. */
always_inline uint32_t gre_sequence_at(uint16_t flags)
{
    return gre_key_at(flags) + (flags & GRE_K ? 4 : 0);
}

always_inline uint32_t gre_length(uint16_t flags)
{
    return gre_sequence_at(flags) + (flags & GRE_S ? 4 : 0);
}

/* Step 9's first two reasons, which all share. */
always_inline int gre_check_version(uint16_t flags)
{
    return flags & GRE_VERSION_MASK ? OV_GRE_VERSION : flags & GRE_R ? OV_GRE_ROUTING : OV_OK;
}

/* Step 9's last reason and step 10: left bytes of GRE are here, of whole that exist. */
always_inline int gre_check_fields(const struct ov_policy *y, const uint8_t *gre, uint16_t flags,
                                   uint32_t left, uint32_t whole)
{
    uint32_t reserved = y->base == OV_STRICT ? GRE_RESERVED0 : GRE_DISCARD;
    if (y->base != OV_LENIENT && (flags & reserved) != 0)
        return OV_GRE_RESERVED;
    if (gre_length(flags) > left)
        return OV_HEADER_TRUNCATED;
    if (flags & GRE_C && left == whole && checksum_sum(gre, whole) != 0xFFFF)
        return OV_GRE_CHECKSUM;
    return OV_OK;
}

/* Copy the template and write what a packet of GRE changes: IP, the sequence number
 * which stands at this place of the GRE header, the protocol where IP is carried, and the checksum.
 */
always_inline void gre_write(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                             uint64_t sequence, uint32_t sequence_at, struct layout layout)
{
    uint32_t bytes = p->wire + layout.headers;
    uint8_t *gre = packet + layout.l4;
    outer_copy(packet, t->header, layout.headers);
    outer_write(t, packet + layout.l3, bytes - layout.l3, p->in.tos, p->in.hash, layout.v6);
    if (unlikely(t->id_mask != 0) && !layout.v6)
        outer_identify(t, packet + layout.l3, sequence, 0);
    if (layout.ip)
        put16(gre + 2, p->ethertype);
    if (t->config.sequence >= 0)
        put32(gre + sequence_at, (uint32_t)((uint64_t)t->config.sequence + sequence));
    if (layout.sums)
        put16(gre + 4, (uint16_t)~checksum_sum(gre, layout.headers - layout.l4 + p->length));
}

#endif
