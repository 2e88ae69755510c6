/* nvgre.c: NVGRE's templates, loops and description. */
#include "nvgre.h"

int nvgre_init(struct ov_tunnel *t, const struct ov_config *config)
{
    if (config->key > 0xFFFFFF || config->flow_id > 0xFF || config->payload != 0 ||
        outer_init(t, config, IP_GRE, NVGRE_LENGTH) != 0)
        return -1;
    uint8_t *gre = t->header + t->l4;
    put16(gre, GRE_K);
    put16(gre + 2, GRE_TEB);
    put24(gre + 4, (uint32_t)config->key);
    gre[7] = config->flow_id < 0 ? 0 : (uint8_t)config->flow_id;
    return 0;
}

/* What NVGRE asks of the first four bytes. */
static int check_flags(const struct ov_policy *y, uint16_t flags, uint16_t protocol)
{
    bool lenient = y->base == OV_LENIENT;
    int status = gre_check_version(flags);
    if (status != OV_OK)
        return status;
    if (protocol != GRE_TEB)
        return OV_GRE_PROTOCOL;
    if (!(flags & GRE_K))
        return OV_GRE_NO_KEY;
    if (flags & GRE_C && !lenient)
        return OV_GRE_CHECKSUM_PRESENT;
    if (flags & GRE_S && !lenient)
        return OV_GRE_SEQUENCE_PRESENT;
    return OV_OK;
}

struct nvgre_answer nvgre_check_rare(const struct ov_policy *y, const uint8_t *gre, uint32_t left,
                                     uint32_t whole)
{
    struct nvgre_answer answer = {0};
    uint16_t flags = get16(gre);
    int status = check_flags(y, flags, get16(gre + 2));
    if (status == OV_OK)
        status = gre_check_fields(y, gre, flags, left, whole);
    if (status == OV_OK) {
        answer.key = get24(gre + gre_key_at(flags));
        answer.length = (uint8_t)gre_length(flags);
        if (y->drop_reserved_vsid && (answer.key < 0x1000 || answer.key == 0xFFFFFF))
            status = OV_NVGRE_VSID;
    }
    answer.status = (uint8_t)status;
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
    const uint8_t *gre = header + o->l4;
    uint32_t left = (uint32_t)length - o->l4;
    if (left < GRE_BASE || !(get16(gre) & GRE_K) || left < gre_length(get16(gre)))
        return -1;
    const uint8_t *key = gre + gre_key_at(get16(gre));
    config->key = get24(key);
    config->flow_id = key[3];
    return 0;
}
