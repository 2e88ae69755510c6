/* checksum.h: the internet checksum (RFC 1071) and its update (RFC 1624).
 *
 * A sum is a number in host order whose fold is the one's-complement sum of
 * the 16-bit words; sums of parts that start at even offsets are added.
 */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include "wire.h"

/* The sum of length bytes, below 2^16; an odd last byte is padded with zero. */
uint32_t checksum_sum(const uint8_t *data, size_t length);

/* The twin that anyone can read: one word after another. */
uint32_t checksum_sum_naive(const uint8_t *data, size_t length);

always_inline uint16_t checksum_fold(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16 & 0xFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)sum;
}

/* The same for a sum of 32 bits: both halves are added in both halves, and the
 * lower one's carry comes round to the upper one. */
always_inline uint16_t checksum_fold32(uint32_t sum)
{
    return (uint16_t)((sum + (sum >> 16 | sum << 16)) >> 16);
}

/* RFC 1624, equation 3: the checksum after a word changed from old to now. */
always_inline uint16_t checksum_update(uint16_t checksum, uint16_t old, uint16_t now)
{
    return (uint16_t)~checksum_fold32((uint32_t)(uint16_t)~checksum + (uint16_t)~old + now);
}

/* The sum of an IPv4 header without options, wholly unrolled. */
always_inline uint32_t checksum_ipv4(const uint8_t *p)
{
    uint64_t a, b;
    uint32_t c;
    memcpy(&a, p, 8);
    memcpy(&b, p + 8, 8);
    memcpy(&c, p + 16, 4);
    uint64_t sum = (a & 0xFFFFFFFF) + (a >> 32) + (b & 0xFFFFFFFF) + (b >> 32) + c;
    uint16_t folded = checksum_fold(sum);
    return WIRE_SWAP ? __builtin_bswap16(folded) : folded;
}

#endif
