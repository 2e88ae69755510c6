/* hash.h: the mixing of the flow hash, and the entropy taken from it.
 *
 * Defined in docs/internals/contract.rst; the twin computes the same.
 */
#ifndef HASH_H
#define HASH_H

#include "wire.h"

#define HASH_K0 0x9E3779B97F4A7C15u
#define HASH_K1 0xD1B54A32D192ED03u
#define HASH_K2 0x8CB92BA72F3D8DD7u
#define HASH_K3 0x9FB21C651E98DF25u

__extension__ typedef unsigned __int128 wide;

always_inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
    wide product = (wide)a * b;
    return (uint64_t)(product >> 64) ^ (uint64_t)product;
}

always_inline uint64_t hash_absorb(uint64_t state, uint64_t a, uint64_t b)
{
    return hash_fold(a ^ state ^ HASH_K0, b ^ HASH_K1);
}

always_inline uint64_t hash_finish(uint64_t state)
{
    return hash_fold(state ^ HASH_K2, HASH_K3);
}

/* A number in low .. low + count - 1, for count up to 65536. */
always_inline uint16_t hash_port(uint64_t hash, uint32_t low, uint32_t count)
{
    return (uint16_t)(low + (uint32_t)((hash & 0xFFFFFFFF) * count >> 32));
}

always_inline uint8_t hash_flow_id(uint64_t hash)
{
    return (uint8_t)(hash >> 56);
}

always_inline uint32_t hash_flow_label(uint64_t hash)
{
    return (uint32_t)(hash >> 36) & 0xFFFFF;
}

#endif
