/* fragment.c: the law of the reassembly of outer fragments.
 *
 * Any packets at any times: every fragment is counted once, memory stays within its
 * budget, and what is given is a packet whose bytes are all here, each as it came.
 *
 * Input: a byte for the seed, then packets: 8 bytes of version, addresses, number,
 * offset, length and time, from which a fragment is made; or, where the first
 * is 0xFF, all that follows is one packet.
 */
#include "fragment.h"
#include "fuzz.h"

enum { BUDGET = 1 << 18, LARGEST = 4000, HEADERS = 14 + 48 };

static uint8_t pattern(uint32_t id, uint32_t source, uint32_t at)
{
    return (uint8_t)(at * 7 + at / 251 + id * 31 + source * 17);
}

/* Headers and n bytes from offset on of the datagram of this source and number. */
static size_t fragment(uint8_t *p, const uint8_t *said, uint32_t offset, uint32_t n, int more)
{
    uint32_t source = said[1] & 3, id = said[2] & 7;
    size_t at = 14;
    memset(p, 0, HEADERS);
    p[0] = 2;
    if (said[0] & 1) {
        p[12] = 0x86, p[13] = 0xDD, p[14] = 0x60;
        put16(p + 18, (uint16_t)(n + 8));
        p[20] = 44, p[21] = 64, p[37] = (uint8_t)source;
        at += 40;
        p[at] = 17;
        put16(p + at + 2, (uint16_t)(offset | (uint32_t)more));
        put32(p + at + 4, id);
        at += 8;
    } else {
        p[12] = 8, p[14] = 0x45, p[15] = said[0] >> 2 & 3;
        put16(p + 16, (uint16_t)(n + 20));
        put16(p + 18, (uint16_t)id);
        put16(p + 20, (uint16_t)(offset / 8 | (uint32_t)more << 13));
        p[22] = 64, p[23] = 17, p[29] = (uint8_t)source;
        at += 20;
    }
    for (uint32_t i = 0; i < n; i++)
        p[at + i] = pattern(id, source, offset + i);
    return at + n;
}

static void hold(const struct fragments *f, uint64_t tried)
{
    struct fragment_stats s;
    fragment_stats(f, &s);
    LAW(s.memory <= BUDGET);
    LAW(s.taken <= tried);
    LAW(s.taken == s.joined + s.overlaps + s.limits + s.timeouts + s.refused + s.held);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t room[HEADERS + LARGEST];
    size_t needed = fragment_size(BUDGET);
    if (size < 1 || size > 2048)
        return 0;
    LAW(needed != 0 && fragment_size(BUDGET - 1) == 0);
    uint8_t *block = aligned_alloc(64, (needed + 63) / 64 * 64);
    LAW(block != NULL);
    struct fragments *f = fragment_init(block, BUDGET, 4000, data[0]);
    uint64_t now = 0, tried = 0;
    const uint8_t *whole;
    uint32_t bytes;

    for (data++, size--; size >= 8; data += 8, size -= 8) {
        tried++;
        if (data[0] == 0xFF) {
            uint8_t *raw = exact(data + 8, size - 8);
            uint32_t length = (uint32_t)size - 8;
            int status = fragment_push(f, raw, length, data[1] & 1, now, &whole, &bytes);
            LAW(status < OV_STATUS_COUNT && (status != OV_OK || bytes <= 65535 + HEADERS));
            free(raw);
            break;
        }
        uint32_t offset = ((uint32_t)data[3] << 8 | data[4]) & 0xFFF8;
        uint32_t n = ((uint32_t)data[5] << 8 | data[6]) % (LARGEST + 1);
        size_t length = fragment(room, data, offset, n, data[0] >> 1 & 1);
        uint8_t *packet = exact(room, length);
        now += data[7];
        int status = fragment_push(f, packet, (uint32_t)length, 0, now, &whole, &bytes);
        LAW(status < OV_STATUS_COUNT);
        if (status == OV_OK && whole != packet) {
            size_t header = 14 + (data[0] & 1 ? 40u : 20u);
            LAW(bytes >= header);
            for (uint32_t i = 0; i < bytes - header; i++)
                LAW(whole[header + i] == pattern(data[2] & 7, data[1] & 3, i));
        }
        free(packet);
        hold(f, tried);
    }
    fragment_expire(f, now + 4000);
    hold(f, tried);
    struct fragment_stats s;
    fragment_stats(f, &s);
    LAW(s.held == 0 && s.pending == 0 && s.memory == 0);
    free(block);
    return 0;
}
