/* outer.c: building templates, and what of parsing is not on the fast path. */
#include "outer.h"

int outer_ipv6_extensions(const uint8_t *packet, uint8_t next, struct outer *o)
{
    for (int n = 0; next == 0 || next == 43 || next == 44 || next == 60; n++) {
        const uint8_t *header = packet + o->l4;
        if (n == IPV6_EXTENSIONS_MAX || o->here < o->l4 || o->here - o->l4 < 8)
            return OV_IP_EXTENSION;
        uint32_t bytes = next == 44 ? 8 : (header[1] + 1u) * 8;
        if (next == 44 && (get16(header + 2) & 0xFFF9) != 0)
            return OV_IP_FRAGMENT;
        if (bytes > o->here - o->l4)
            return OV_IP_EXTENSION;
        next = header[0];
        o->l4 += bytes;
    }
    o->protocol = next;
    return OV_OK;
}

void outer_addresses(const uint8_t *packet, const struct outer *o, uint8_t out[32])
{
    memset(out, 0, 32);
    if (o->version == 4) {
        memcpy(out, packet + o->l3 + 16, 4);
        memcpy(out + 16, packet + o->l3 + 12, 4);
    } else {
        memcpy(out, packet + o->l3 + 24, 16);
        memcpy(out + 16, packet + o->l3 + 8, 16);
    }
}

int outer_init(struct ov_tunnel *t, const struct ov_config *config, uint8_t protocol, uint32_t shim)
{
    const struct ov_config *c = config;
    if ((c->family != 4 && c->family != 6) || c->port_low > c->port_high || c->dscp > 63 ||
        c->inner_vlan > OV_VLAN_REJECT || c->outer_tci > 0xFFFF || c->ip_id > 0xFFFF ||
        c->flow_label > 0xFFFFF || c->payload > 1)
        return -1;
    memset(t, 0, sizeof *t);
    t->config = *c;
    t->port_count = (uint32_t)c->port_high - c->port_low + 1;
    t->label_base = c->flow_label < 0 ? 0 : (uint32_t)c->flow_label;
    t->label_mask = c->flow_label < 0 ? 0xFFFFF : 0;
    t->id_base = c->ip_id < 0 ? 0 : (uint32_t)c->ip_id;
    t->id_mask = c->ip_id < 0 && !c->df ? 0xFFFF : 0;
    t->tos_base = c->dscp < 0 ? 0 : (uint32_t)c->dscp << 2;
    t->tos_mask = (c->dscp < 0 ? 0xFCu : 0) | (c->ecn_copy ? ECN_MASK : 0u);
    t->flow_id_mask = c->flow_id < 0 ? 0xFF : 0;
    t->l3 = ETHERNET_LENGTH;
    memcpy(t->header, c->remote_mac, 6);
    memcpy(t->header + 6, c->local_mac, 6);
    if (c->outer_tci >= 0) {
        put16(t->header + 12, ETHERTYPE_CTAG);
        put16(t->header + 14, (uint16_t)c->outer_tci);
        t->l3 += TAG_LENGTH;
    }
    put16(t->header + t->l3 - 2, c->family == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);

    uint8_t *ip = t->header + t->l3;
    struct outer o = {.l3 = t->l3, .version = c->family};
    if (c->family == 4) {
        ip[0] = 0x45;
        put16(ip + 4, (uint16_t)t->id_base);
        put16(ip + 6, c->df ? 0x4000 : 0);
        ip[8] = c->ttl;
        ip[9] = protocol;
        memcpy(ip + 12, c->local, 4);
        memcpy(ip + 16, c->remote, 4);
        t->ip_sum = checksum_sum(ip, 20);
        t->l4 = t->l3 + 20;
    } else {
        ip[6] = protocol;
        ip[7] = c->ttl;
        memcpy(ip + 8, c->local, 16);
        memcpy(ip + 24, c->remote, 16);
        t->l4 = t->l3 + IPV6_LENGTH;
    }
    t->pseudo_sum = outer_pseudo_sum(t->header, &o, protocol);
    t->header_length = t->l4 + shim;
    return 0;
}

int outer_describe(const uint8_t *header, size_t length, int link, struct outer *o,
                   struct ov_config *config)
{
    struct ov_config *c = config;
    memset(c, 0, sizeof *c);
    c->outer_tci = c->ip_id = c->flow_label = c->gbp = c->flow_id = -1;
    c->frame_id = c->sequence = -1;
    c->ecn_copy = 1;
    o->l3 = 0;
    if (link == OV_ETHERNET) {
        if (length < ETHERNET_LENGTH)
            return -1;
        memcpy(c->remote_mac, header, 6);
        memcpy(c->local_mac, header + 6, 6);
        o->l3 = ETHERNET_LENGTH;
        if (get16(header + 12) == ETHERTYPE_CTAG && length >= 18) {
            c->outer_tci = get16(header + 14);
            o->l3 += TAG_LENGTH;
        }
    }
    const uint8_t *ip = header + o->l3;
    size_t left = length - o->l3;
    if (left < 20)
        return -1;
    o->end = o->here = (uint32_t)length;
    o->version = c->family = ip[0] >> 4;
    if (c->family == 4) {
        o->l4 = o->l3 + (ip[0] & 15u) * 4;
        c->df = (get16(ip + 6) & 0x4000) != 0;
        c->ip_id = get16(ip + 4) != 0 || !c->df ? get16(ip + 4) : -1;
        o->tos = ip[1];
        c->ttl = ip[8];
        memcpy(c->local, ip + 12, 4);
        memcpy(c->remote, ip + 16, 4);
    } else if (c->family == 6 && left >= IPV6_LENGTH) {
        o->l4 = o->l3 + IPV6_LENGTH;
        c->df = 1;
        c->flow_label = (int32_t)(get32(ip) & 0xFFFFF);
        o->tos = (uint8_t)(get16(ip) >> 4);
        c->ttl = ip[7];
        memcpy(c->local, ip + 8, 16);
        memcpy(c->remote, ip + 24, 16);
        if (outer_ipv6_extensions(header, ip[6], o) != OV_OK)
            return -1;
    } else {
        return -1;
    }
    c->dscp = o->tos >> 2;
    return o->l4 <= length ? 0 : -1;
}
