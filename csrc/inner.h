/* inner.h: what an inner frame is: its tags, its IP header, its flow hash.
 *
 * Guarantee: inner_inspect reads only the length bytes of the frame, of which
 * there must be at least 14; every offset that it gives lies inside them.
 */
#ifndef INNER_H
#define INNER_H

#include "hash.h"

enum {
    ETHERNET_LENGTH = 14,
    TAG_LENGTH = 4,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86DD,
    ETHERTYPE_CTAG = 0x8100,
    ETHERTYPE_STAG = 0x88A8,
    IP_TCP = 6,
    IP_UDP = 17,
    IP_SCTP = 132,
};

struct inner {
    uint64_t hash;
    uint32_t l3;      /* offset of the IP header */
    uint32_t l4;      /* offset of the L4 header, or 0: a fragment, extension headers, not IP */
    uint8_t version;  /* 4, 6, or 0: not IP */
    uint8_t protocol; /* that l4 begins with */
    uint8_t tos;      /* TOS or traffic class, 0 where not IP */
    uint8_t tags;     /* VLAN tags passed over, 0..2 */
};

always_inline bool is_tag(uint16_t ethertype)
{
    return ethertype == ETHERTYPE_CTAG || ethertype == ETHERTYPE_STAG;
}

always_inline bool is_tagged(const uint8_t *frame)
{
    return is_tag(get16(frame + 12));
}

/* How many bytes of tags stand at the front, up to two; the EtherTypes after
 * them must be here to count. */
always_inline uint32_t tag_bytes(const uint8_t *frame, size_t length)
{
    if (likely(!is_tagged(frame)) || length < 18)
        return 0;
    return is_tag(get16(frame + 16)) && length >= 22 ? 8 : 4;
}

/* The L4 word of the flow hash: ports and protocol. */
always_inline uint64_t inner_l4_word(const uint8_t *frame, size_t length, uint32_t l4,
                                     uint8_t protocol)
{
    bool ports = protocol == IP_TCP || protocol == IP_UDP || protocol == IP_SCTP;
    uint64_t word = (uint64_t)protocol << 32;
    return likely(ports && length - l4 >= 4) ? word | get32le(frame + l4) : word;
}

always_inline struct inner inner_inspect(const uint8_t *frame, size_t length, uint64_t seed)
{
    struct inner in = {.l3 = ETHERNET_LENGTH};
    uint64_t state = seed;
    uint16_t ethertype = get16(frame + 12);
    uint16_t vid = 0;
    if (unlikely(is_tag(ethertype)) && length >= 18) {
        vid = get16(frame + 14) & 0x0FFF;
        in.tags = tag_bytes(frame, length) == 8 ? 2 : 1;
        in.l3 += in.tags * (uint32_t)TAG_LENGTH;
        ethertype = get16(frame + in.l3 - 2);
    }
    const uint8_t *ip = frame + in.l3;
    size_t left = length - in.l3;
    if (likely(ethertype == ETHERTYPE_IPV4) && left >= 20 && ip[0] >> 4 == 4) {
        uint32_t header = (ip[0] & 15u) * 4;
        if (likely(header >= 20 && left >= header)) {
            uint64_t l4 = 0;
            in.version = 4;
            in.tos = ip[1];
            if (likely((get16(ip + 6) & 0x3FFF) == 0)) {
                in.l4 = in.l3 + header;
                in.protocol = ip[9];
                l4 = inner_l4_word(frame, length, in.l4, in.protocol);
            }
            in.hash = hash_finish(hash_absorb(state, get64le(ip + 12), l4));
            return in;
        }
    } else if (ethertype == ETHERTYPE_IPV6 && left >= 40 && ip[0] >> 4 == 6) {
        uint8_t next = ip[6];
        uint64_t l4 = 0;
        in.version = 6;
        in.tos = (uint8_t)(get16(ip) >> 4);
        if (likely(next != 0 && next != 43 && next != 44 && next != 60)) {
            in.l4 = in.l3 + 40;
            in.protocol = next;
            l4 = inner_l4_word(frame, length, in.l4, next);
        }
        state = hash_absorb(state, get64le(ip + 8), get64le(ip + 16));
        state = hash_absorb(state, get64le(ip + 24), get64le(ip + 32));
        in.hash = hash_finish(hash_absorb(state, l4, 0));
        return in;
    }
    uint64_t rest = get32le(frame + 8) | (uint64_t)ethertype << 32 | (uint64_t)vid << 48;
    in.hash = hash_finish(hash_absorb(state, get64le(frame), rest));
    return in;
}

#endif
