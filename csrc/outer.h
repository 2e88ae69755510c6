/* outer.h: the outer headers that all protocols share: Ethernet, 802.1Q, IPv4, IPv6, UDP, TCP.
 *
 * outer_parse is steps 1 to 8 of the contract's decap; outer_write patches a
 * copied template.  Guarantee: after outer_parse gives OV_OK,
 * l3 < l4 <= here <= end, here <= length, end <= wire, and the IP header lies before l4.
 */
#ifndef OUTER_H
#define OUTER_H

#include "checksum.h"
#include "inner.h"
#include "overlay.h"

enum {
    IP_GRE = 47,
    UDP_LENGTH = 8,
    TCP_LENGTH = 20,
    IPV6_LENGTH = 40,
    IPV6_EXTENSIONS_MAX = 8,
    ECN_MASK = 3,
    ECN_CE = 3,
};

struct outer {
    uint32_t l3;      /* offset of the IP header */
    uint32_t l4;      /* offset of what it carries */
    uint32_t end;     /* end of the payload by the length fields */
    uint32_t here;    /* end of its bytes that are here: below end if a capture cut them */
    uint8_t version;  /* 4 or 6 */
    uint8_t protocol; /* of l4 */
    uint8_t tos;
};

always_inline uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Walks the extension headers of an IPv6 packet from o->l4 on. */
int outer_ipv6_extensions(const uint8_t *packet, uint8_t next, struct outer *o);

always_inline int outer_parse_ipv4(const uint8_t *packet, uint32_t length, uint32_t wire,
                                   bool lenient, struct outer *o)
{
    const uint8_t *ip = packet + o->l3;
    uint32_t left = length - o->l3, exist = wire - o->l3;
    if (unlikely(left < 20 || ip[0] != 0x45)) { /* the common header needs none of these */
        if (left < 20)
            return OV_IP_TRUNCATED;
        if (ip[0] >> 4 != 4)
            return OV_IP_VERSION;
        if ((ip[0] & 15) < 5)
            return OV_IP_HEADER_LENGTH;
        if (left < (ip[0] & 15u) * 4)
            return OV_IP_TRUNCATED;
    }
    uint32_t header = (ip[0] & 15u) * 4, total = get16(ip + 2);
    if (unlikely(total == 0 && lenient))
        total = exist;
    if (unlikely(total < header || total > exist))
        return OV_IP_LENGTH;
    uint32_t sum = likely(header == 20) ? checksum_ipv4(ip) : checksum_sum(ip, header);
    if (unlikely(sum != 0xFFFF) && !(lenient && get16(ip + 10) == 0))
        return OV_IP_CHECKSUM;
    if (unlikely(test16(ip + 6, 0x3FFF)))
        return OV_IP_FRAGMENT;
    o->version = 4;
    o->protocol = ip[9];
    o->tos = ip[1];
    o->l4 = o->l3 + header;
    o->end = o->l3 + total;
    o->here = min32(o->end, length);
    return OV_OK;
}

always_inline int outer_parse_ipv6(const uint8_t *packet, uint32_t length, uint32_t wire,
                                   bool lenient, struct outer *o)
{
    const uint8_t *ip = packet + o->l3;
    if (unlikely(length - o->l3 < IPV6_LENGTH))
        return OV_IP_TRUNCATED;
    if (unlikely(ip[0] >> 4 != 6))
        return OV_IP_VERSION;
    uint32_t payload = get16(ip + 4), exist = wire - o->l3 - IPV6_LENGTH;
    if (unlikely(payload == 0 && lenient))
        payload = exist;
    if (unlikely(payload > exist))
        return OV_IP_LENGTH;
    uint8_t next = ip[6];
    o->version = 6;
    o->protocol = next;
    o->tos = (uint8_t)(get16(ip) >> 4);
    o->l4 = o->l3 + IPV6_LENGTH;
    o->end = o->l4 + payload;
    o->here = min32(o->end, length);
    if (unlikely(next == 0 || next == 43 || next == 44 || next == 60)) {
        struct outer walked = *o; /* a copy, so that *o need not live in memory */
        int status = outer_ipv6_extensions(packet, next, &walked);
        *o = walked;
        return status;
    }
    return OV_OK;
}

always_inline int outer_parse(const uint8_t *packet, uint32_t length, uint32_t wire, int link,
                              bool lenient, struct outer *o)
{
    uint32_t version = 0;
    o->l3 = 0;
    if (likely(link == OV_ETHERNET)) {
        if (unlikely(length < ETHERNET_LENGTH))
            return OV_ETHERNET_TRUNCATED;
        uint16_t ethertype = get16(packet + 12);
        o->l3 = ETHERNET_LENGTH;
        if (unlikely(ethertype == ETHERTYPE_CTAG)) {
            if (length < ETHERNET_LENGTH + TAG_LENGTH)
                return OV_ETHERNET_TRUNCATED;
            ethertype = get16(packet + 16);
            o->l3 += TAG_LENGTH;
        }
        version = ethertype == ETHERTYPE_IPV4 ? 4 : ethertype == ETHERTYPE_IPV6 ? 6 : 0;
        if (unlikely(version == 0))
            return OV_NOT_IP;
    } else if (link == OV_RAW_IP) {
        if (length < 1)
            return OV_IP_TRUNCATED;
        version = packet[0] >> 4;
        if (version != 4 && version != 6)
            return OV_IP_VERSION;
    } else {
        return OV_LINK_TYPE;
    }
    return likely(version == 4) ? outer_parse_ipv4(packet, length, wire, lenient, o)
                                : outer_parse_ipv6(packet, length, wire, lenient, o);
}

/* The addresses and the protocol, as a sum. */
always_inline uint32_t outer_pseudo_sum(const uint8_t *packet, const struct outer *o,
                                        uint32_t protocol)
{
    uint32_t sum = protocol;
    if (o->version == 4) {
        for (uint32_t i = 12; i < 20; i += 2)
            sum += get16(packet + o->l3 + i);
    } else {
        for (uint32_t i = 8; i < 40; i += 2)
            sum += get16(packet + o->l3 + i);
    }
    return sum;
}

/* Whether the UDP or TCP checksum from l4 to end is right, or cannot be seen. */
always_inline bool outer_checksum_good(const uint8_t *packet, const struct outer *o,
                                       uint32_t protocol)
{
    uint32_t bytes = o->end - o->l4;
    if (o->here != o->end)
        return true;
    uint32_t sum = outer_pseudo_sum(packet, o, protocol) + (bytes >> 16) + (bytes & 0xFFFF);
    return checksum_fold32(sum + checksum_sum(packet + o->l4, bytes)) == 0xFFFF;
}

/* The destination and source address, IPv4 in the first four bytes of each. */
void outer_addresses(const uint8_t *packet, const struct outer *o, uint8_t out[32]);

/* ---- writing --------------------------------------------------------------- */

/* Templates are 32 bytes or longer: copied in pieces, of which the last two overlap. */
always_inline void outer_copy(uint8_t *out, const uint8_t *header, uint32_t length)
{
    memcpy(out, header, 32);
    for (uint32_t at = 32; at + 32 < length; at += 32)
        memcpy(out + at, header + at, 32);
    memcpy(out + length - 32, header + length - 32, 32);
}

/* Patch the IP header of a copied template; bytes counts from there on. */
always_inline void outer_write(const struct ov_tunnel *t, uint8_t *ip, uint32_t bytes,
                               uint8_t inner_tos, uint64_t hash, bool v6)
{
    uint32_t tos = t->tos_base | (inner_tos & t->tos_mask);
    if (v6) {
        uint32_t label = t->label_base | (hash_flow_label(hash) & t->label_mask);
        put32(ip, 6u << 28 | tos << 20 | label);
        put16(ip + 4, (uint16_t)(bytes - IPV6_LENGTH));
    } else {
        ip[1] = (uint8_t)tos;
        put16(ip + 2, (uint16_t)bytes);
        put16(ip + 10, (uint16_t)~checksum_fold32(t->ip_sum + tos + bytes));
    }
}

/* Give a written IPv4 header the ID of packet number sequence of those that are
 * counted, or the template's, and more for a segment that is not the first. */
always_inline void outer_identify(const struct ov_tunnel *t, uint8_t *ip, uint64_t sequence,
                                  uint32_t more)
{
    uint16_t id = (uint16_t)((t->id_base | ((uint32_t)sequence & t->id_mask)) + more);
    put16(ip + 10, checksum_update(get16(ip + 10), get16(ip + 4), id));
    put16(ip + 4, id);
}

/* Fill the template's Ethernet and IP headers and every derived field; the caller appends its own
 * header of shim bytes at l4. */
int outer_init(struct ov_tunnel *t, const struct ov_config *config, uint8_t protocol,
               uint32_t shim);

/* The fields of Ethernet and IP, read from a header; l4 and the family follow. */
int outer_describe(const uint8_t *header, size_t length, int link, struct outer *o,
                   struct ov_config *config);

#endif
