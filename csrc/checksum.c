/* checksum.c: the sum over payloads, with SIMD chosen when the library loads.
 *
 * Every routine sums 32-bit words in the host's order, since a one's-complement
 * sum does not mind the byte order (RFC 1071, 2.B), and swaps once at the end.
 */
#include "checksum.h"
#include "overlay.h"

typedef uint64_t raw_sum(const uint8_t *data, size_t length);

uint32_t checksum_sum_naive(const uint8_t *data, size_t length)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < length; i += 2)
        sum = checksum_fold32(sum + get16(data + i));
    if (length & 1)
        sum = checksum_fold32(sum + (uint32_t)data[length - 1] * 256);
    return sum;
}

/* The last bytes, fewer than 64, as words of the host's order. */
static uint64_t raw_tail(const uint8_t *data, size_t length, uint64_t sum)
{
    uint32_t word = 0;
    for (; length >= 4; data += 4, length -= 4) {
        memcpy(&word, data, 4);
        sum += word;
    }
    word = 0;
    memcpy(&word, data, length);
    return sum + word;
}

static uint64_t raw_portable(const uint8_t *data, size_t length)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (; length >= 32; data += 32, length -= 32) {
        uint64_t v[4];
        memcpy(v, data, sizeof v);
        a += (v[0] & 0xFFFFFFFF) + (v[0] >> 32);
        b += (v[1] & 0xFFFFFFFF) + (v[1] >> 32);
        c += (v[2] & 0xFFFFFFFF) + (v[2] >> 32);
        d += (v[3] & 0xFFFFFFFF) + (v[3] >> 32);
    }
    return raw_tail(data, length, a + b + c + d);
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Both halves of each 64-bit lane, added to two accumulators. */
__attribute__((target("avx2"))) static uint64_t raw_avx2(const uint8_t *data, size_t length)
{
    const __m256i low = _mm256_set1_epi64x(0xFFFFFFFF);
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (; length >= 64; data += 64, length -= 64) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)data);
        __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(data + 32));
        a = _mm256_add_epi64(a, _mm256_and_si256(v, low));
        b = _mm256_add_epi64(b, _mm256_srli_epi64(v, 32));
        c = _mm256_add_epi64(c, _mm256_and_si256(w, low));
        d = _mm256_add_epi64(d, _mm256_srli_epi64(w, 32));
    }
    uint64_t lanes[4];
    a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
    _mm256_storeu_si256((__m256i *)(void *)lanes, a);
    return raw_tail(data, length, lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

__attribute__((target("avx512f,avx512bw"))) static uint64_t raw_avx512(const uint8_t *data,
                                                                       size_t length)
{
    const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (; length >= 128; data += 128, length -= 128) {
        __m512i v = _mm512_loadu_si512(data);
        __m512i w = _mm512_loadu_si512(data + 64);
        a = _mm512_add_epi64(a, _mm512_and_si512(v, low));
        b = _mm512_add_epi64(b, _mm512_srli_epi64(v, 32));
        c = _mm512_add_epi64(c, _mm512_and_si512(w, low));
        d = _mm512_add_epi64(d, _mm512_srli_epi64(w, 32));
    }
    while (length > 0) { /* masked loads read no byte past the end */
        size_t n = length < 64 ? length : 64;
        __mmask64 mask = n == 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
        __m512i v = _mm512_maskz_loadu_epi8(mask, data);
        a = _mm512_add_epi64(a, _mm512_and_si512(v, low));
        b = _mm512_add_epi64(b, _mm512_srli_epi64(v, 32));
        data += n;
        length -= n;
    }
    a = _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d));
    return (uint64_t)_mm512_reduce_add_epi64(a);
}
#elif defined(__aarch64__)
#include <arm_neon.h>

static uint64_t raw_neon(const uint8_t *data, size_t length)
{
    uint64x2_t a = vdupq_n_u64(0), b = a;
    for (; length >= 32; data += 32, length -= 32) {
        a = vpadalq_u32(a, vreinterpretq_u32_u8(vld1q_u8(data)));
        b = vpadalq_u32(b, vreinterpretq_u32_u8(vld1q_u8(data + 16)));
    }
    return raw_tail(data, length, vaddvq_u64(vaddq_u64(a, b)));
}
#endif

static const struct routine {
    const char *name;
    raw_sum *sum;
} routines[] = {
#if defined(__x86_64__)
    {"avx512", raw_avx512},
    {"avx2", raw_avx2},
#elif defined(__aarch64__)
    {"neon", raw_neon},
#endif
    {"portable", raw_portable},
};

enum { ROUTINES = sizeof routines / sizeof routines[0] };

static bool runs_here(const struct routine *r)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (r->sum == raw_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    if (r->sum == raw_avx2)
        return __builtin_cpu_supports("avx2");
#else
    (void)r;
#endif
    return true;
}

/* Written once, before any other code of the library can run. */
static const struct routine *chosen = &routines[ROUTINES - 1];

__attribute__((constructor)) static void choose(void)
{
    for (size_t i = ROUTINES; i-- > 0;)
        if (runs_here(&routines[i]))
            chosen = &routines[i];
}

static uint32_t finish(uint64_t raw)
{
    uint16_t folded = checksum_fold(raw);
    return WIRE_SWAP ? __builtin_bswap16(folded) : folded;
}

uint32_t checksum_sum(const uint8_t *data, size_t length)
{
    return finish(chosen->sum(data, length));
}

/* ---- the public names ---------------------------------------------------- */

const char *ov_checksum_name(void)
{
    return chosen->name;
}

uint16_t ov_checksum(const uint8_t *data, size_t length)
{
    return (uint16_t)~checksum_sum(data, length);
}

uint32_t ov_checksum_by(const char *name, const uint8_t *data, size_t length)
{
    if (strcmp(name, "naive") == 0)
        return (uint16_t)~checksum_sum_naive(data, length);
    for (size_t i = 0; i < ROUTINES; i++)
        if (strcmp(name, routines[i].name) == 0 && runs_here(&routines[i]))
            return (uint16_t)~finish(routines[i].sum(data, length));
    return 0x10000;
}
