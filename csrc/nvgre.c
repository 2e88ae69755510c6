/* nvgre.c: NVGRE's templates, loops and description. */
#include "nvgre.h"

int nvgre_init(struct ov_tunnel *t, const struct ov_config *config)
{
    if (config->key > 0xFFFFFF || config->flow_id > 0xFF ||
        outer_init(t, config, IP_GRE, NVGRE_LENGTH) != 0)
        return -1;
    uint8_t *gre = t->header + t->l4;
    put16(gre, GRE_K);
    put16(gre + 2, GRE_TEB);
    put24(gre + 4, (uint32_t)config->key);
    gre[7] = config->flow_id < 0 ? 0 : (uint8_t)config->flow_id;
    return 0;
}

/* Where the key stands, or 0 if the header is not all here. */
static uint32_t key_offset(uint16_t flags, uint32_t left)
{
    uint32_t at = GRE_BASE + (flags & GRE_C ? 4 : 0);
    uint32_t length = at + 4 + (flags & GRE_S ? 4 : 0);
    return length <= left ? at : 0;
}

int nvgre_check_rare(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                     struct ov_frame *d)
{
    const uint8_t *gre = packet + o->l4;
    uint32_t left = o->here - o->l4;
    bool lenient = y->base == OV_LENIENT;
    if (left < GRE_BASE)
        return OV_HEADER_TRUNCATED;
    uint16_t flags = get16(gre);
    uint32_t reserved = y->base == OV_STRICT ? GRE_RESERVED0 : lenient ? 0 : GRE_DISCARD;
    if (flags & GRE_VERSION_MASK)
        return OV_GRE_VERSION;
    if (flags & GRE_R)
        return OV_GRE_ROUTING;
    if (get16(gre + 2) != GRE_TEB)
        return OV_GRE_PROTOCOL;
    if (!(flags & GRE_K))
        return OV_GRE_NO_KEY;
    if (flags & GRE_C && !lenient)
        return OV_GRE_CHECKSUM_PRESENT;
    if (flags & GRE_S && !lenient)
        return OV_GRE_SEQUENCE_PRESENT;
    if (flags & reserved)
        return OV_GRE_RESERVED;
    uint32_t key = key_offset(flags, left);
    if (key == 0)
        return OV_HEADER_TRUNCATED;
    if (flags & GRE_C && o->here == o->end && checksum_sum(gre, o->end - o->l4) != 0xFFFF)
        return OV_GRE_CHECKSUM;
    d->key = get24(gre + key);
    d->offset = o->l4 + key + 4 + (flags & GRE_S ? 4 : 0);
    if (y->drop_reserved_vsid && (d->key < 0x1000 || d->key == 0xFFFFFF))
        return OV_NVGRE_VSID;
    return OV_OK;
}

size_t nvgre_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence)
{
    return kernel_encap(t, b, sequence, false, nvgre_emit, OV_NVGRE);
}

size_t nvgre_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                  uint32_t mtu, uint64_t sequence)
{
    return kernel_copy(t, in, out, mtu, sequence, false, nvgre_emit, OV_NVGRE);
}

int nvgre_describe(const uint8_t *header, size_t length, const struct outer *o,
                   struct ov_config *config)
{
    uint32_t left = (uint32_t)length - o->l4;
    uint32_t key = left < GRE_BASE ? 0 : key_offset(get16(header + o->l4), left);
    if (key == 0)
        return -1;
    config->key = get24(header + o->l4 + key);
    config->flow_id = header[o->l4 + key + 3];
    return 0;
}
