/* inner.h: what an inner frame is: its tags, its IP header, its flow hash.
 *
 * Guarantee: inner_inspect reads only the length bytes of the frame, of which
 * there must be at least 14; no offset that it gives is past their end.
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
    INNER_PLAIN_MIN = ETHERNET_LENGTH + 20 + 4,
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
    const uint32_t often = 1u << IP_TCP | 1u << IP_UDP;
    bool ports = likely(protocol < 32 && (often >> protocol & 1)) || protocol == IP_SCTP;
    uint64_t word = (uint64_t)protocol << 32;
    return likely(ports && length - l4 >= 4) ? word | get32le(frame + l4) : word;
}

/* Any frame; inner.c. */
struct inner inner_inspect_any(const uint8_t *frame, size_t length, uint64_t seed);

/* Whether this is what nearly every frame is: IPv4 without tags or options,
 * with at least four bytes after its header. */
always_inline bool inner_is_plain(const uint8_t *frame, size_t length)
{
    return likely(length >= INNER_PLAIN_MIN &&
                  equal32(frame + 12, (uint32_t)ETHERTYPE_IPV4 << 16 | 0x4500, 0xFFFFFF00));
}

always_inline struct inner inner_inspect_plain(const uint8_t *frame, uint64_t seed)
{
    const uint8_t *ip = frame + ETHERNET_LENGTH;
    struct inner in = {.l3 = ETHERNET_LENGTH, .version = 4, .tos = ip[1]};
    uint64_t l4 = 0;
    if (likely(!test16(ip + 6, 0x3FFF))) {
        in.l4 = ETHERNET_LENGTH + 20;
        in.protocol = ip[9];
        l4 = inner_l4_word(frame, INNER_PLAIN_MIN, ETHERNET_LENGTH + 20, in.protocol);
    }
    in.hash = hash_finish(hash_absorb(seed, get64le(ip + 12), l4));
    return in;
}

always_inline struct inner inner_inspect(const uint8_t *frame, size_t length, uint64_t seed)
{
    return inner_is_plain(frame, length) ? inner_inspect_plain(frame, seed)
                                         : inner_inspect_any(frame, length, seed);
}

#endif
