/* erspan.c: ERSPAN's checks, templates, loops and description. */
#include "erspan.h"

/* Type III's frame type: Ethernet, or IP by the version nibble of what follows. */
static int check_frame_type(const struct ov_policy *y, const uint8_t *header, uint32_t length,
                            uint32_t left, uint16_t *ethertype)
{
    uint8_t type = header[10] >> 2 & 0x1F;
    if (type == ERSPAN_ETHERNET)
        return OV_OK;
    if (type != ERSPAN_IP || !y->ip || left <= length)
        return OV_ERSPAN_FRAME_TYPE;
    uint8_t version = header[length] >> 4;
    *ethertype = version == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
    return version == 4 || version == 6 ? OV_OK : OV_ERSPAN_FRAME_TYPE;
}

struct erspan_answer erspan_check_header(const struct ov_policy *y, const uint8_t *gre,
                                         uint32_t left, uint32_t whole)
{
    struct erspan_answer answer = {.key = ERSPAN_NO_SESSION};
    uint16_t flags = get16(gre);
    bool third = get16(gre + 2) == GRE_ERSPAN3;
    int status = gre_check_version(flags);
    bool unnumbered = third && !(flags & GRE_S) && y->base != OV_LENIENT;
    if (status == OV_OK && ((flags & (GRE_C | GRE_K)) != 0 || unnumbered))
        status = OV_ERSPAN_SEQUENCE;
    if (status == OV_OK)
        status = gre_check_fields(y, gre, flags, left, whole);
    answer.length = gre_length(flags);
    answer.status = (uint8_t)status;
    if (status != OV_OK || (!third && !(flags & GRE_S)))
        return answer;

    const uint8_t *header = gre + answer.length;
    uint32_t here = left - answer.length, length = third ? ERSPAN_III : ERSPAN_II;
    if (here < length)
        status = OV_HEADER_TRUNCATED;
    else if (header[0] >> 4 != (third ? 2 : 1))
        status = OV_ERSPAN_VERSION;
    else if (third) {
        length += header[11] & ERSPAN_O ? ERSPAN_SUBHEADER : 0;
        status = here < length ? OV_HEADER_TRUNCATED
                               : check_frame_type(y, header, length, here, &answer.ethertype);
    }
    answer.status = (uint8_t)status;
    if (status == OV_OK)
        answer.key = get16(header + 2) & ERSPAN_SESSION;
    answer.length += length;
    return answer;
}

int erspan_init(struct ov_tunnel *t, const struct ov_config *config)
{
    const struct ov_config *c = config;
    static const uint8_t lengths[] = {0, 0, 4 + ERSPAN_II, 4 + ERSPAN_III};
    if (c->erspan_type < 1 || c->erspan_type > 3 || c->erspan_vlan > 0xFFF || c->erspan_cos > 7 ||
        c->erspan_encapsulation > 3 || c->payload != 0 || c->checksum ||
        (c->erspan_type == 1) != (c->sequence < 0) || c->sequence > UINT32_MAX ||
        (c->erspan_type == 1 ? c->key != ERSPAN_NO_SESSION : c->key > ERSPAN_SESSION) ||
        outer_init(t, c, IP_GRE, GRE_BASE + lengths[c->erspan_type]) != 0)
        return -1;
    uint8_t *gre = t->header + t->l4, *header = gre + GRE_BASE + 4;
    put16(gre, c->erspan_type == 1 ? 0 : GRE_S);
    put16(gre + 2, c->erspan_type == 3 ? GRE_ERSPAN3 : GRE_ERSPAN);
    if (c->erspan_type == 1)
        return 0;
    put16(header, (uint16_t)((c->erspan_type - 1) << 12 | c->erspan_vlan));
    put16(header + 2, (uint16_t)(c->erspan_cos << 13 | c->erspan_encapsulation << 11 |
                                 (c->erspan_truncated ? ERSPAN_TRUNCATED : 0) | (int)c->key));
    put32(header + 4, c->erspan_type == 2 ? c->erspan_index & 0xFFFFF : c->erspan_index);
    if (c->erspan_type == 3) {
        put16(header + 8, c->erspan_group);
        put16(header + 10, (uint16_t)(ERSPAN_P | (c->erspan_flags & ERSPAN_KEPT)));
    }
    return 0;
}

size_t erspan_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence)
{
    return kernel_encap(t, b, sequence, erspan_emit, OV_ERSPAN, GRE_BASE + 4 + ERSPAN_II);
}

size_t erspan_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                   uint32_t mtu, uint64_t sequence)
{
    return kernel_copy(t, in, out, mtu, sequence, erspan_emit, OV_ERSPAN, GRE_BASE + 4 + ERSPAN_II);
}

int erspan_describe(const uint8_t *header, size_t length, const struct outer *o,
                    struct ov_config *config)
{
    static const struct ov_policy any = {.base = OV_LENIENT, .ip = 1};
    const uint8_t *gre = header + o->l4;
    uint32_t left = (uint32_t)length - o->l4;
    if (left < GRE_BASE)
        return -1;
    bool third = get16(gre + 2) == GRE_ERSPAN3;
    /* The frame is not here: whether it is IP cannot be seen, and is not asked. */
    struct erspan_answer answer = erspan_check_header(&any, gre, left, UINT32_MAX);
    if (answer.status != OV_OK && answer.status != OV_ERSPAN_FRAME_TYPE)
        return -1;
    config->key = ERSPAN_NO_SESSION;
    config->erspan_type = 1;
    if (!third && !(get16(gre) & GRE_S))
        return 0;
    const uint8_t *erspan = gre + gre_length(get16(gre));
    config->key = get16(erspan + 2) & ERSPAN_SESSION;
    config->sequence = get16(gre) & GRE_S ? get32(gre + GRE_BASE) : 0;
    config->erspan_type = third ? 3 : 2;
    config->erspan_vlan = get16(erspan) & 0xFFF;
    config->erspan_cos = erspan[2] >> 5;
    config->erspan_encapsulation = erspan[2] >> 3 & 3;
    config->erspan_truncated = (erspan[2] & 4) != 0;
    config->erspan_index = third ? get32(erspan + 4) : get32(erspan + 4) & 0xFFFFF;
    if (third) {
        config->erspan_group = get16(erspan + 8);
        config->erspan_flags = get16(erspan + 10) & ERSPAN_KEPT;
    }
    return 0;
}
