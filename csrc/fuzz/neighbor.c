/* neighbor.c: the law of ARP and ND suppression.
 *
 * Any frame, told to the table and asked of it: nothing is read or written out
 * of bounds; what the operator set stays; an answer is for who asked, comes from
 * the host that is known, is itself no question, and says what the table says.
 *
 * Input: 1 byte of choices, then the frame.
 */
#include "fuzz.h"

#include "checksum.h"
#include "neighbor.h"

enum { CAPACITY = 4 };

static const uint8_t HOST[6] = {2, 0, 0, 0, 0, 2};

/* The checksum of an untagged ICMPv6 message made right, or fuzzing ends there. */
static void mend(uint8_t *frame, size_t length)
{
    if (length < 14 + 40 + 24 || get16(frame + 12) != ETHERTYPE_IPV6)
        return;
    size_t n = get16(frame + 18);
    if (n < 24 || n > length - 54)
        return;
    put16(frame + 56, 0);
    uint64_t sum = (uint64_t)checksum_sum(frame + 22, 32 + n) + n + 58;
    put16(frame + 56, (uint16_t)~checksum_fold(sum));
}

static struct neighbor host(uint8_t family)
{
    struct neighbor e = {.family = family, .flags = NEIGHBOR_STATIC};
    static const uint8_t four[4] = {10, 0, 0, 2};
    static const uint8_t six[16] = {0xFD, [15] = 2};
    memcpy(e.ip, family == 4 ? four : six, family == 4 ? 4 : 16);
    memcpy(e.mac, HOST, 6);
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 2048)
        return 0;
    static _Alignas(64) uint8_t memory[4096];
    LAW(neighbor_size(CAPACITY) <= sizeof memory);
    memset(memory, 0, sizeof memory);
    struct neighbors *t = neighbor_init(memory, CAPACITY, data[0] & 2 ? 5 : 0, data[0]);
    struct neighbor four = host(4), six = host(6), got;
    LAW(neighbor_set(t, &four, 0) && neighbor_set(t, &six, 0));

    size_t length = size - 1;
    uint8_t *frame = exact(data + 1, length);
    uint8_t *out = malloc(NEIGHBOR_ANSWER_MAX);
    if (data[0] & 1)
        mend(frame, length);
    bool news = neighbor_learn(t, 0, frame, length, 1);
    LAW(neighbor_list(t, -1, NULL, 0) == 2u + news);
    size_t n = neighbor_answer(t, 0, frame, length, 2, out);
    LAW(n <= NEIGHBOR_ANSWER_MAX);
    if (n) {
        LAW(frame[0] & 1 && !(out[0] & 1));
        LAW(memcmp(out + 6, frame + 6, 6) != 0);
        LAW(memcmp(out, out + 6, 6) != 0);
        LAW(neighbor_answer(t, 0, out, n, 2, frame) == 0);
        LAW(!neighbor_learn(t, 0, out, n, 2));
    }
    LAW(neighbor_find(t, &four, 9) && neighbor_find(t, &six, 9));
    LAW(!memcmp(four.mac, HOST, 6) && !memcmp(six.mac, HOST, 6));
    got = four;
    LAW(neighbor_remove(t, &got) && !neighbor_find(t, &got, 9));
    free(frame);
    free(out);
    return 0;
}
