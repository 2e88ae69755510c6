/* vxlan.c: VXLAN's templates, loops and description. */
#include "vxlan.h"

int vxlan_init(struct ov_tunnel *t, const struct ov_config *config)
{
    uint8_t *header = udp_begin(t, config, VXLAN_LENGTH);
    if (header == NULL || config->gbp > 0xFFFF || config->payload != 0)
        return -1;
    header[0] = VXLAN_I;
    if (config->gbp >= 0) {
        header[0] |= VXLAN_G;
        header[1] = config->gbp_flags & (VXLAN_D | VXLAN_A);
        put16(header + 2, (uint16_t)config->gbp);
    }
    put24(header + 4, (uint32_t)config->key);
    t->shim_sum = checksum_sum(header, VXLAN_LENGTH);
    return 0;
}

size_t vxlan_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence)
{
    return kernel_encap(t, b, sequence, vxlan_emit, OV_VXLAN, UDP_LENGTH + VXLAN_LENGTH);
}

size_t vxlan_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                  uint32_t mtu, uint64_t sequence)
{
    return kernel_copy(t, in, out, mtu, sequence, vxlan_emit, OV_VXLAN, UDP_LENGTH + VXLAN_LENGTH);
}

int vxlan_describe(const uint8_t *header, size_t length, const struct outer *o,
                   struct ov_config *config)
{
    const uint8_t *vxlan = udp_describe(header, length, o, VXLAN_LENGTH, config);
    if (vxlan == NULL)
        return -1;
    if (vxlan[0] & VXLAN_G) {
        config->gbp = get16(vxlan + 2);
        config->gbp_flags = vxlan[1] & (VXLAN_D | VXLAN_A);
    }
    config->key = get24(vxlan + 4);
    return 0;
}
