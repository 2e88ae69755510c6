/* plain.h: the fast lane of decap, which takes what most packets are.
 *
 * IPv4 without tag, options, fragments or ECN mark; VXLAN, GENEVE or NVGRE; an inner frame
 * without tag.  Guarantee: plain_decap is true only where decap would give OV_OK and the
 * same *d; whatever it does not take is decap's to judge.
 */
#ifndef PLAIN_H
#define PLAIN_H

#include "decap.h"
#include "geneve.h"
#include "nvgre.h"
#include "vxlan.h"

/* What of a policy the lane looks at. */
struct plain {
    const struct ov_policy *policy;
    uint32_t geneve_port; /* 0x10000: its datagrams are another's */
    uint16_t vxlan_port;
    bool open; /* the policy asks for nothing else */
    bool verify;
};

/* Whose datagrams for this port are; OV_NONE: nobody's. */
always_inline int plain_udp_owner(const struct ov_policy *y, uint16_t port)
{
    if (likely(port == y->vxlan_port && decap_names(y, OV_VXLAN)))
        return OV_VXLAN;
    if (port == y->gpe_port && decap_names(y, OV_GPE))
        return OV_GPE;
    return port == y->geneve_port && decap_names(y, OV_GENEVE) ? OV_GENEVE : OV_NONE;
}

always_inline struct plain plain_of(const struct ov_policy *y)
{
    bool geneve = plain_udp_owner(y, y->geneve_port) == OV_GENEVE;
    return (struct plain){
        .policy = y,
        .geneve_port = geneve ? y->geneve_port : 0x10000,
        .vxlan_port = y->vxlan_port,
        .open = y->keys == NULL && y->base != OV_STRICT && !y->uniform && !y->drop_reserved_vsid &&
                decap_names(y, OV_VXLAN) && decap_names(y, OV_NVGRE),
        .verify = y->verify,
    };
}

/* All is looked at and judged at once, with few branches. */
always_inline bool plain_decap(const struct plain *plain, const uint8_t *packet, uint32_t length,
                               struct ov_frame *d)
{
    enum {
        L3 = 14,
        L4 = 34,
        GRE_END = L4 + NVGRE_LENGTH,
        UDP_END = L4 + UDP_LENGTH + VXLAN_LENGTH
    };
    if (unlikely(length < UDP_END + ETHERNET_LENGTH))
        return false;
    const uint8_t *ip = packet + L3, *l4 = packet + L4, *shim = l4 + UDP_LENGTH;
    bool udp = ip[9] == IP_UDP;
    uint8_t protocol = udp ? OV_VXLAN : OV_NVGRE;
    if (unlikely(!udp && ip[9] != IP_GRE))
        return false;
    uint32_t end = L3 + get16(ip + 2), at = udp ? UDP_END : GRE_END, checksum = 0;
    uint32_t bad = !equal32(packet + 12, (uint32_t)ETHERTYPE_IPV4 << 16 | 0x4500, 0xFFFFFF03);
    bad |= test16(ip + 6, 0x3FFF);
    bad |= checksum_ipv4(ip) ^ 0xFFFFu;
    bad |= end > length;
    d->key = get24(packet + at - 4);
    if (likely(udp)) {
        uint32_t udp_end = L4 + get16(l4 + 4), port = get16(l4 + 2);
        checksum = get16(l4 + 6);
        bad |= udp_end > end;
        end = udp_end;
        if (likely(port == plain->vxlan_port)) {
            bad |= ~shim[0] & (uint32_t)VXLAN_I;
        } else {
            uint32_t options = (shim[0] & GENEVE_OPTIONS_MASK) * 4u;
            protocol = OV_GENEVE;
            bad |= port ^ plain->geneve_port;
            bad |= !equal32(shim, GENEVE_TEB, 0xC080FFFF);
            at += options;
            if (unlikely(bad != 0 || at + ETHERNET_LENGTH > end))
                return false;
            if (options != 0)
                bad = (uint32_t)geneve_check_options(plain->policy, shim + GENEVE_LENGTH, options);
        }
    } else {
        bad |= !equal32(l4, (uint32_t)GRE_K << 16 | GRE_TEB, UINT32_MAX);
    }
    bad |= end < at + ETHERNET_LENGTH;
    bad |= is_tagged(packet + at);
    d->offset = d->header = at;
    d->outer = L3;
    d->ethertype = 0;
    d->length = d->wire = end - at;
    d->protocol = protocol;
    if (checksum != 0 && bad == 0 && plain->verify) {
        const struct outer o = {.l3 = L3, .l4 = L4, .end = end, .here = end, .version = 4};
        bad = !outer_checksum_good(packet, &o, IP_UDP);
    }
    return likely(bad == 0);
}

#endif
