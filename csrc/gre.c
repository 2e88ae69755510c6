/* gre.c: plain GRE's checks, templates, loops and description. */
#include "gre.h"

struct gre_answer gre_check_header(const struct ov_policy *y, const uint8_t *gre, uint32_t left,
                                   uint32_t whole)
{
    struct gre_answer answer = {.key = GRE_NO_KEY};
    uint16_t flags = get16(gre), protocol = get16(gre + 2);
    bool ip = protocol == ETHERTYPE_IPV4 || protocol == ETHERTYPE_IPV6;
    int status = gre_check_version(flags);
    if (status == OV_OK && protocol != GRE_TEB && !(ip && y->ip))
        status = OV_GRE_PROTOCOL;
    if (status == OV_OK)
        status = gre_check_fields(y, gre, flags, left, whole);
    answer.status = (uint8_t)status;
    if (status != OV_OK)
        return answer;
    if (flags & GRE_K)
        answer.key = get32(gre + gre_key_at(flags));
    answer.length = gre_length(flags);
    answer.ethertype = ip ? protocol : 0;
    return answer;
}

int gre_init(struct ov_tunnel *t, const struct ov_config *config)
{
    uint16_t flags =
        (uint16_t)((config->checksum ? GRE_C : 0) | (config->key != GRE_NO_KEY ? GRE_K : 0) |
                   (config->sequence >= 0 ? GRE_S : 0));
    if (config->key > GRE_NO_KEY || config->sequence > UINT32_MAX ||
        outer_init(t, config, IP_GRE, gre_length(flags)) != 0)
        return -1;
    uint8_t *gre = t->header + t->l4;
    put16(gre, flags);
    put16(gre + 2, config->payload ? 0 : GRE_TEB);
    if (flags & GRE_K)
        put32(gre + gre_key_at(flags), (uint32_t)config->key);
    return 0;
}

size_t gre_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence)
{
    return kernel_encap(t, b, sequence, gre_emit, OV_GRE, GRE_KEYED);
}

size_t gre_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out, uint32_t mtu,
                uint64_t sequence)
{
    return kernel_copy(t, in, out, mtu, sequence, gre_emit, OV_GRE, GRE_KEYED);
}

int gre_describe(const uint8_t *header, size_t length, const struct outer *o,
                 struct ov_config *config)
{
    const uint8_t *gre = header + o->l4;
    uint32_t left = (uint32_t)length - o->l4;
    if (left < GRE_BASE || left < gre_length(get16(gre)))
        return -1;
    uint16_t flags = get16(gre);
    config->key = flags & GRE_K ? get32(gre + gre_key_at(flags)) : GRE_NO_KEY;
    config->sequence = flags & GRE_S ? (int64_t)get32(gre + gre_sequence_at(flags)) : -1;
    config->checksum = (flags & GRE_C) != 0;
    config->payload = get16(gre + 2) != GRE_TEB;
    return 0;
}
