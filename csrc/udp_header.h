/* udp_header.h: what the protocols over UDP share: the outer UDP header, written and described.
 *
 * Knows no tunnel header: that is bytes of the template, whose sum shim_sum is.
 */
#ifndef UDP_HEADER_H
#define UDP_HEADER_H

#include "kernel.h"

/* Write the packet's headers.  shim is the sum of the tunnel header's fields that the
 * caller writes and the template has as zero. */
always_inline void udp_emit(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                            uint64_t sequence, struct layout layout, uint32_t shim)
{
    uint32_t bytes = p->wire + layout.headers; /* of the whole packet */
    uint8_t *udp = packet + layout.l4;
    outer_copy(packet, t->header, layout.headers);
    outer_write(t, packet + layout.l3, bytes - layout.l3, p->in.tos, p->in.hash, layout.v6);
    if (unlikely(t->id_mask != 0) && !layout.v6)
        outer_identify(t, packet + layout.l3, sequence, 0);
    uint32_t port = hash_port(p->in.hash, t->config.port_low, t->port_count);
    uint32_t length = bytes - layout.l4;
    put16(udp, (uint16_t)port);
    put16(udp + 4, (uint16_t)length);
    if (layout.sums) {
        /* The length counts twice: in the header and in the pseudo header. */
        uint32_t sum = t->pseudo_sum + t->transport_sum + t->shim_sum + shim + port + 2 * length;
        uint16_t checksum =
            (uint16_t)~checksum_fold32(sum + checksum_sum(packet + layout.headers, p->length));
        put16(udp + 6, checksum == 0 ? 0xFFFF : checksum);
    }
}

/* Begin a template with this many bytes of tunnel header; NULL where the config is out of range. */
static inline uint8_t *udp_begin(struct ov_tunnel *t, const struct ov_config *config, uint32_t shim)
{
    if (config->key > 0xFFFFFF || outer_init(t, config, IP_UDP, UDP_LENGTH + shim) != 0)
        return NULL;
    put16(t->header + t->l4 + 2, config->port);
    t->transport_sum = checksum_sum(t->header + t->l4, UDP_LENGTH);
    return t->header + t->l4 + UDP_LENGTH;
}

/* The fields of UDP; the tunnel header, of which least bytes must be here, or NULL. */
static inline const uint8_t *udp_describe(const uint8_t *header, size_t length,
                                          const struct outer *o, size_t least,
                                          struct ov_config *config)
{
    if (length - o->l4 < UDP_LENGTH + least)
        return NULL;
    const uint8_t *udp = header + o->l4;
    config->port_low = config->port_high = get16(udp);
    config->port = get16(udp + 2);
    config->checksum = get16(udp + 6) != 0;
    return udp + UDP_LENGTH;
}

#endif
