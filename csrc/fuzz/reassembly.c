/* reassembly.c: the law of STT reassembly.
 *
 * Any segments in any order at any time: a frame that is delivered has every
 * byte of its own and none of another's; memory stays within the budget and
 * is all given back at the end; every segment is counted once.
 *
 * Input: 1 byte of policy, then 10 bytes a segment: frame ID, source port,
 * frame length, offset, length, time, kind.  A kind of 0xFF pushes the next
 * bytes as they are.
 */
#include "fuzz.h"

enum { BUDGET = 65536, HEADERS = 54, STT = 18, LARGEST = 512 };

/* The byte at an offset of the frame that this identity stands for. */
static uint8_t pattern(uint32_t id, uint32_t port, uint32_t length, uint32_t at)
{
    static const uint8_t header[STT] = {[15] = 9};
    if (at < STT)
        return header[at];
    if (at == STT + 12 || at == STT + 13)
        return 0x5A; /* an EtherType that is no tag and no IP */
    return (uint8_t)((at * 31 + id * 7 + port * 13 + length) ^ (at >> 8));
}

static void put(uint8_t *p, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
}

/* A segment that ends where the room for the largest ends: a byte read past it is seen. */
static uint8_t *segment(uint8_t *room, uint32_t id, uint32_t port, uint32_t length, uint32_t offset,
                        uint32_t n)
{
    uint8_t *p = room + LARGEST - n;
    memset(p, 0, HEADERS);
    put(p + 12, 0x0800, 2);
    p[14] = 0x45;
    put(p + 16, 40 + n, 2);
    p[22] = 64;
    p[23] = 6;
    p[29] = 1;
    p[33] = 2;
    put(p + 24, ov_checksum(p + 14, 20), 2);
    put(p + 34, port, 2);
    put(p + 36, 7471, 2);
    put(p + 38, length, 2);
    put(p + 40, offset, 2);
    put(p + 42, id, 4);
    p[46] = 0x50;
    for (uint32_t i = 0; i < n; i++)
        p[HEADERS + i] = pattern(id, port, length, offset + i);
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t block[1 << 18] __attribute__((aligned(64)));
    static uint8_t *room;
    if (room == NULL)
        room = malloc(HEADERS + LARGEST);
    LAW(room != NULL);
    if (size < 1 || size > 2048)
        return 0;
    LAW(ov_reassembler_size(BUDGET) <= sizeof block);
    struct ov_policy policy = {
        .protocols = 1u << OV_STT, .base = (uint8_t)(data[0] & 3) % 3, .ecn = 1};
    struct ov_reassembler *r = ov_reassembler_init(block, BUDGET, 100, data[0]);
    struct ov_reassembly_stats s;
    uint64_t now = 0, pushed = 0, held = 0;

    for (data++, size--; size >= 10; data += 10, size -= 10) {
        struct ov_frame d;
        uint32_t id = data[0] & 7, port = data[1] & 3;
        uint32_t length = (uint32_t)data[2] << 8 | data[3];
        uint32_t offset = (uint32_t)data[4] << 8 | data[5];
        uint32_t n = (uint32_t)data[6] << 8 | data[7];
        now += data[8];
        if (data[9] == 0xFF) {
            uint8_t *raw = exact(data + 10, size - 10);
            ov_reassembler_push(r, &policy, raw, size - 10, size - 10, OV_ETHERNET, now, &d);
            pushed++;
            free(raw);
            break;
        }
        n %= LARGEST + 1;
        uint8_t *packet = segment(room, id, port, length, offset, n);
        int status =
            ov_reassembler_push(r, &policy, packet, HEADERS + n, HEADERS + n, OV_ETHERNET, now, &d);
        pushed++;
        held += status == OV_STT_INCOMPLETE;
        if (status == OV_OK) {
            const uint8_t *frame = ov_reassembler_frame(r);
            size_t header;
            ov_reassembler_header(r, &header);
            LAW(header == HEADERS + STT && d.offset == STT && d.key == 9);
            LAW(d.length + STT == length);
            for (uint32_t i = 0; i < length; i++)
                LAW(frame[i] == pattern(id, port, length, i));
        }
        ov_reassembler_stats(r, &s);
        LAW(s.memory <= BUDGET && s.pending * 2048 <= s.memory);
        LAW(s.segments == pushed);
        LAW(s.frames + s.duplicates + s.overlaps + s.refused + held == pushed);
    }
    ov_reassembler_expire(r, now + 100);
    ov_reassembler_stats(r, &s);
    LAW(s.pending == 0 && s.memory == 0);
    return 0;
}
