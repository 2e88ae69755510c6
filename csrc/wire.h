/* wire.h: numbers in network byte order.  The lowest floor: knows no protocol.
 *
 * Guarantee: right for any alignment and any byte order of the host; after
 * get* everything is host order.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define WIRE_SWAP 0
#else
#define WIRE_SWAP 1
#endif

#define always_inline static inline __attribute__((always_inline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

always_inline uint16_t get16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return WIRE_SWAP ? __builtin_bswap16(v) : v;
}

always_inline uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return WIRE_SWAP ? __builtin_bswap32(v) : v;
}

always_inline uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return WIRE_SWAP ? __builtin_bswap64(v) : v;
}

/* The same number, its bound forgotten: compilers copy lengths that they know to
 * be small by string instructions, which are slow. */
always_inline size_t opaque(size_t n)
{
    __asm__("" : "+r"(n));
    return n;
}

/* Whether any of these bits is set in the 16-bit field at p. */
always_inline bool test16(const uint8_t *p, uint16_t mask)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v & (WIRE_SWAP ? __builtin_bswap16(mask) : mask);
}

/* Whether the 32-bit field at p is value in the bits of mask. */
always_inline bool equal32(const uint8_t *p, uint32_t value, uint32_t mask)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return (v & (WIRE_SWAP ? __builtin_bswap32(mask) : mask)) ==
           (WIRE_SWAP ? __builtin_bswap32(value) : value);
}

always_inline uint32_t get24(const uint8_t *p)
{
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

always_inline uint32_t get32le(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return WIRE_SWAP ? v : __builtin_bswap32(v);
}

always_inline uint64_t get64le(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return WIRE_SWAP ? v : __builtin_bswap64(v);
}

always_inline void put16(uint8_t *p, uint16_t v)
{
    v = WIRE_SWAP ? __builtin_bswap16(v) : v;
    memcpy(p, &v, sizeof v);
}

always_inline void put32(uint8_t *p, uint32_t v)
{
    v = WIRE_SWAP ? __builtin_bswap32(v) : v;
    memcpy(p, &v, sizeof v);
}

always_inline void put64(uint8_t *p, uint64_t v)
{
    v = WIRE_SWAP ? __builtin_bswap64(v) : v;
    memcpy(p, &v, sizeof v);
}

always_inline void put24(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 16);
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)v;
}

#endif
