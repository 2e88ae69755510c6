/* gpe.c: VXLAN-GPE's checks, templates, loops and description. */
#include "gpe.h"

/* The header's own fields; gives the next protocol. */
static int check_fields(const struct ov_policy *y, const uint8_t *header, uint8_t *next)
{
    bool strict = y->base == OV_STRICT, lenient = y->base == OV_LENIENT;
    if (header[0] & GPE_VERSION_MASK)
        return OV_GPE_VERSION;
    if (!(header[0] & GPE_I))
        return OV_VXLAN_NO_VNI;
    if (header[0] & GPE_O && !lenient)
        return OV_GPE_CONTROL;
    if (strict && ((header[0] & GPE_RESERVED) | header[1] | header[2] | header[7]) != 0)
        return OV_VXLAN_RESERVED;
    *next = header[3];
    if (!(header[0] & GPE_P)) {
        if (strict || (header[3] != 0 && !lenient))
            return OV_GPE_NEXT_PROTOCOL;
        *next = GPE_ETHERNET;
    }
    return OV_OK;
}

struct gpe_answer gpe_check_header(const struct ov_policy *y, const uint8_t *header, uint32_t left)
{
    struct gpe_answer answer = {.status = OV_HEADER_TRUNCATED, .length = GPE_LENGTH};
    uint8_t next = 0;
    if (left < GPE_LENGTH)
        return answer;
    int status = check_fields(y, header, &next);
    for (int n = 0; status == OV_OK && next >= GPE_SHIM; n++) {
        const uint8_t *shim = header + answer.length;
        uint32_t here = left - answer.length;
        if (n == GPE_SHIMS_MAX)
            status = OV_GPE_SHIM;
        else if (here < 4 || here < 4 + shim[1] * 4u)
            return answer;
        else {
            answer.length += 4 + shim[1] * 4u;
            next = shim[3];
        }
    }
    if (status == OV_OK && next != GPE_ETHERNET) {
        bool ip = y->ip && (next == GPE_IPV4 || next == GPE_IPV6);
        answer.ethertype = next == GPE_IPV4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
        status = ip ? OV_OK : OV_GPE_NEXT_PROTOCOL;
    }
    answer.status = (uint8_t)status;
    return answer;
}

int gpe_init(struct ov_tunnel *t, const struct ov_config *config)
{
    uint8_t *header = udp_begin(t, config, GPE_LENGTH);
    if (header == NULL)
        return -1;
    header[0] = GPE_I | GPE_P;
    header[3] = config->payload ? 0 : GPE_ETHERNET;
    put24(header + 4, (uint32_t)config->key);
    t->shim_sum = checksum_sum(header, GPE_LENGTH);
    return 0;
}

size_t gpe_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence)
{
    return kernel_encap(t, b, sequence, gpe_emit, OV_GPE, UDP_LENGTH + GPE_LENGTH);
}

size_t gpe_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out, uint32_t mtu,
                uint64_t sequence)
{
    return kernel_copy(t, in, out, mtu, sequence, gpe_emit, OV_GPE, UDP_LENGTH + GPE_LENGTH);
}

int gpe_describe(const uint8_t *header, size_t length, const struct outer *o,
                 struct ov_config *config)
{
    static const struct ov_policy any = {.base = OV_LENIENT, .ip = 1};
    const uint8_t *gpe = udp_describe(header, length, o, GPE_LENGTH, config);
    if (gpe == NULL)
        return -1;
    struct gpe_answer answer = gpe_check_header(&any, gpe, (uint32_t)(header + length - gpe));
    if (answer.status != OV_OK)
        return -1;
    config->payload = answer.ethertype != 0;
    config->key = get24(gpe + 4);
    return 0;
}
