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

static int check_flags(const struct ov_policy *y, uint16_t flags, uint16_t protocol)
{
    bool lenient = y->base == OV_LENIENT;
    uint32_t reserved = y->base == OV_STRICT ? GRE_RESERVED0 : lenient ? 0 : GRE_DISCARD;
    if (flags & GRE_VERSION_MASK)
        return OV_GRE_VERSION;
    if (flags & GRE_R)
        return OV_GRE_ROUTING;
    if (protocol != GRE_TEB)
        return OV_GRE_PROTOCOL;
    if (!(flags & GRE_K))
        return OV_GRE_NO_KEY;
    if (flags & GRE_C && !lenient)
        return OV_GRE_CHECKSUM_PRESENT;
    if (flags & GRE_S && !lenient)
        return OV_GRE_SEQUENCE_PRESENT;
    return flags & reserved ? OV_GRE_RESERVED : OV_OK;
}

struct nvgre_answer nvgre_check_rare(const struct ov_policy *y, const uint8_t *gre, uint32_t left,
                                     uint32_t whole)
{
    struct nvgre_answer answer = {.status = OV_HEADER_TRUNCATED};
    if (left < GRE_BASE)
        return answer;
    uint16_t flags = get16(gre);
    int status = check_flags(y, flags, get16(gre + 2));
    uint32_t at = key_offset(flags, left);
    if (status != OV_OK || at == 0) {
        answer.status = (uint8_t)(status != OV_OK ? status : OV_HEADER_TRUNCATED);
        return answer;
    }
    answer.key = get24(gre + at);
    answer.length = (uint8_t)(at + 4 + (flags & GRE_S ? 4 : 0));
    if (flags & GRE_C && left == whole && checksum_sum(gre, whole) != 0xFFFF)
        answer.status = OV_GRE_CHECKSUM;
    else if (y->drop_reserved_vsid && (answer.key < 0x1000 || answer.key == 0xFFFFFF))
        answer.status = OV_NVGRE_VSID;
    else
        answer.status = OV_OK;
    return answer;
}

size_t nvgre_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence)
{
    return kernel_encap(t, b, sequence, nvgre_emit, OV_NVGRE, NVGRE_LENGTH);
}

size_t nvgre_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                  uint32_t mtu, uint64_t sequence)
{
    return kernel_copy(t, in, out, mtu, sequence, nvgre_emit, OV_NVGRE, NVGRE_LENGTH);
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
