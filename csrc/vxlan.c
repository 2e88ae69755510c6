/* vxlan.c: VXLAN's templates, loops and description. */
#include "vxlan.h"

int vxlan_init(struct ov_tunnel *t, const struct ov_config *config)
{
    if (config->key > 0xFFFFFF || config->gbp > 0xFFFF ||
        outer_init(t, config, IP_UDP, UDP_LENGTH + VXLAN_LENGTH) != 0)
        return -1;
    uint8_t *udp = t->header + t->l4, *header = udp + UDP_LENGTH;
    put16(udp + 2, config->port);
    header[0] = VXLAN_I;
    if (config->gbp >= 0) {
        header[0] |= VXLAN_G;
        header[1] = config->gbp_flags & (VXLAN_D | VXLAN_A);
        put16(header + 2, (uint16_t)config->gbp);
    }
    put24(header + 4, (uint32_t)config->key);
    t->transport_sum = checksum_sum(udp, UDP_LENGTH);
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
    if (length - o->l4 < UDP_LENGTH + VXLAN_LENGTH)
        return -1;
    const uint8_t *udp = header + o->l4, *vxlan = udp + UDP_LENGTH;
    config->port_low = config->port_high = get16(udp);
    config->port = get16(udp + 2);
    config->checksum = get16(udp + 6) != 0;
    if (vxlan[0] & VXLAN_G) {
        config->gbp = get16(vxlan + 2);
        config->gbp_flags = vxlan[1] & (VXLAN_D | VXLAN_A);
    }
    config->key = get24(vxlan + 4);
    return 0;
}
