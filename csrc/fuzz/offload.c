/* offload.c: the laws of cutting, coalescing, splitting, answering and outer reassembly.
 *
 * Any bytes as a frame: cut by any MSS, each packet has right lengths and checksums, the
 * payloads in order are the payload, and the packets coalesced and cut are the
 * packets again.  Any bytes as frames: coalesced and cut, they are the same bytes
 * in the same order.  Any bytes as a super-packet: each packet split from it is taken by the strict
 * profile if the super-packet is, or keeps within the MTU.  A too-big answer is
 * within its size, has right checksums and is never answered itself.  A clamped MSS
 * changes nothing but options and the checksum.  Any fragments: each is counted
 * once, memory stays within the budget and is given back, and what is given is whole.
 *
 * Input: 1 byte of kind, 3 of parameters, then frames, each after 2 bytes of length.
 */
#include "fragment.h"
#include "fuzz.h"
#include "icmp.h"
#include "split.h"

enum { ROOM = 1 << 20, ROWS = 64, CUT_MAX = 60 };

static uint8_t room[2][ROOM];

/* Whether a TCP or UDP frame is right in every length and checksum. */
static bool right(const uint8_t *frame, uint32_t length)
{
    struct offload o;
    struct inner in = inner_inspect(frame, length, 0);
    LAW(offload_find(frame, length, &in, &o) && o.end == length);
    if (o.version == 4)
        LAW(checksum_sum(frame + o.l3, o.l4 - o.l3) == 0xFFFF);
    if (!o.tcp)
        LAW(get16(frame + o.l4 + 4) == o.end - o.l4 && get16(frame + o.l4 + 6) != 0);
    uint32_t sum = offload_seed(frame, &o) + checksum_sum(frame + o.l4, o.end - o.l4);
    return checksum_fold32(sum) == 0xFFFF;
}

/* The rows of one batch and those of another are the same bytes. */
static bool same_rows(const struct ov_batch *a, const struct ov_batch *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->length[i] != b->length[i] ||
            memcmp(a->data + a->offset[i], b->data + b->offset[i], a->length[i]) != 0)
            return false;
    return true;
}

/* A batch over one of the rooms, empty. */
static struct ov_batch empty(struct columns *c, int which)
{
    return batch_over(c, room[which], ROOM, ROWS);
}

/* ---- frames ---------------------------------------------------------------------- */

static void cut_one(const uint8_t *frame, uint32_t length, uint32_t mss)
{
    struct cut c;
    uint32_t next, at;
    if (!offload_plan(frame, length, mss, &c))
        return;
    LAW(c.headers <= OFFLOAD_HEADERS_MAX && c.count >= 1 && c.headers + c.payload <= length);
    uint8_t *packet = malloc(c.headers + c.payload);
    LAW(packet != NULL);
    next = c.headers;
    for (uint32_t i = 0; i < c.count && i < 2 * CUT_MAX; i++) {
        uint32_t n = offload_cut(frame, &c, i, packet, &at);
        LAW(at == next && n <= c.mss && (n > 0 || c.payload == 0));
        memcpy(packet + c.headers, frame + at, n);
        LAW(right(packet, c.headers + n));
        next = at + n;
        if (i + 1 == c.count)
            LAW(next == c.headers + c.payload);
    }
    free(packet);
}

/* Make the checksums of a frame right, so that whatever else is in it is looked at. */
static void mend(uint8_t *frame, uint32_t length)
{
    struct offload o;
    if (length < ETHERNET_LENGTH)
        return;
    struct inner in = inner_inspect(frame, length, 0);
    if (!offload_find(frame, length, &in, &o))
        return;
    if (o.version == 4) {
        put16(frame + o.l3 + 10, 0);
        put16(frame + o.l3 + 10, (uint16_t)~checksum_sum(frame + o.l3, o.l4 - o.l3));
    }
    offload_complete(frame, &o);
}

/* Cut by the batch, put together, cut again. */
static void there_and_back(struct ov_batch *in)
{
    struct columns a_columns, b_columns, c_columns;
    static uint8_t last[ROOM];
    struct ov_batch a = empty(&a_columns, 0), b = empty(&b_columns, 1);
    struct ov_batch c = batch_over(&c_columns, last, ROOM, ROWS);
    size_t rows = ov_segment_batch(in, &a, 0);
    LAW(rows == a.count);
    LAW(ov_coalesce_batch(&a, &b) == b.count && b.count <= a.count);
    for (size_t i = 0; i < a.count; i++)
        if (a.status[i] != OV_OK)
            return; /* no room for a super-frame */
    ov_segment_batch(&b, &c, 0);
    for (size_t i = 0; i < b.count; i++)
        if (b.status[i] != OV_OK)
            return;
    LAW(same_rows(&a, &c));
}

/* ---- packets ----------------------------------------------------------------------- */

static void split_one(const uint8_t *packet, uint32_t length, uint8_t protocol, uint32_t mss,
                      uint32_t mtu)
{
    static const struct ov_policy strict = {.protocols = 0x0E,
                                            .vxlan_port = 4789,
                                            .base = OV_RFC,
                                            .verify = 1,
                                            .zero6 = OV_ZERO6_ACCEPT};
    struct split s;
    struct ov_frame before, after;
    uint32_t at, next;
    bool stt = protocol == OV_STT;
    if (stt ? !split_plan_stt(packet, length, mtu, &s)
            : !split_plan(packet, length, protocol, mss, &s))
        return;
    LAW(s.headers <= SPLIT_HEADERS_MAX && s.count >= 1 && s.headers <= length);
    struct ov_policy lax = strict;
    lax.verify = 0;
    ov_decap(&lax, packet, length, length, OV_ETHERNET, &before);
    uint8_t *made = malloc(length + s.headers);
    LAW(made != NULL);
    next = s.headers;
    for (uint32_t i = 0; i < s.count && i < 2 * CUT_MAX; i++) {
        uint32_t n = split_packet(&s, packet, i, made, &at);
        LAW(at == next && n <= s.mss && at + n <= length);
        memcpy(made + s.headers, packet + at, n);
        LAW(s.headers + n - s.l3 <= s.largest);
        if (stt)
            LAW(s.headers + n - s.l3 <= mtu);
        if (before.status == OV_OK && !stt) {
            ov_decap(&strict, made, s.headers + n, s.headers + n, OV_ETHERNET, &after);
            LAW(after.status == OV_OK && after.key == before.key);
            LAW(right(made + after.offset, after.length));
        }
        next = at + n;
    }
    free(made);
    if (!stt) {
        uint8_t *whole = exact(packet, length);
        LAW(split_complete(whole, length, protocol));
        free(whole);
    }
}

/* ---- ICMP ---------------------------------------------------------------------------- */

static void answer(const uint8_t *frame, uint32_t length, uint32_t mtu)
{
    uint8_t out[ICMP_ANSWER_MAX], again[ICMP_ANSWER_MAX];
    uint32_t n = icmp_too_big(frame, length, mtu, out);
    if (n == 0)
        return;
    LAW(n <= sizeof out && memcmp(out, frame + 6, 6) == 0 && memcmp(out + 6, frame, 6) == 0);
    struct inner in = inner_inspect(out, n, 0);
    const uint8_t *ip = out + in.l3;
    LAW(in.version != 0 && in.l4 != 0);
    if (in.version == 4) {
        LAW(n - in.l3 <= 576 && get16(ip + 2) == n - in.l3 && checksum_sum(ip, 20) == 0xFFFF);
        LAW(checksum_sum(out + in.l4, n - in.l4) == 0xFFFF);
    } else {
        uint32_t sum = checksum_sum(ip + 8, 32) + 58 + n - in.l4;
        LAW(n - in.l3 <= 1280 && get16(ip + 4) == n - in.l4);
        LAW(checksum_fold32(sum + checksum_sum(out + in.l4, n - in.l4)) == 0xFFFF);
    }
    LAW(icmp_too_big(out, n, mtu, again) == 0);
}

static void clamp(const uint8_t *frame, uint32_t length, uint16_t mss, bool partial)
{
    uint8_t *changed = exact(frame, length);
    bool lowered = clamp_mss(changed, length, mss, partial);
    LAW(lowered || memcmp(changed, frame, length) == 0);
    if (lowered) {
        struct inner in = inner_inspect(frame, length, 0);
        uint32_t end = in.l4 + (frame[in.l4 + 12] >> 4) * 4u;
        LAW(end <= length && memcmp(changed, frame, in.l4 + 16) == 0);
        LAW(memcmp(changed + in.l4 + 18, frame + in.l4 + 18, 2) == 0);
        LAW(memcmp(changed + end, frame + end, length - end) == 0);
        /* The sum over header and checksum is what it was. */
        if (!partial)
            LAW(checksum_fold32(checksum_sum(changed + in.l4, end - in.l4)) % 0xFFFF ==
                checksum_fold32(checksum_sum(frame + in.l4, end - in.l4)) % 0xFFFF);
        LAW(!clamp_mss(changed, length, mss, partial));
    }
    free(changed);
}

/* ---- fragments -------------------------------------------------------------------------- */

static void fragment_books(const struct fragments *f)
{
    struct fragment_stats s;
    fragment_stats(f, &s);
    LAW(s.taken == s.joined + s.overlaps + s.limits + s.timeouts + s.refused + s.held);
    LAW(s.memory <= 262144);
}

/* Make a frame's IP header one of a fragment: few identities, right checksum. */
static void make_fragment(uint8_t *p, uint32_t length, uint8_t a, uint8_t b)
{
    if (length < 34)
        return;
    put16(p + 12, ETHERTYPE_IPV4);
    p[14] = 0x45;
    put16(p + 16, (uint16_t)(length - 14));
    put16(p + 18, a & 3);
    put16(p + 20, (uint16_t)((a & 4 ? 0x2000 : 0) | (b & 31)));
    memset(p + 26, 10, 8);
    p[29] = a >> 6;
    put16(p + 24, 0);
    put16(p + 24, (uint16_t)~checksum_sum(p + 14, 20));
    for (uint32_t at = 34; at < length; at++) /* each byte says where it lies */
        p[at] = (uint8_t)((b & 31) * 8 + at - 34);
}

static void reassemble(const struct ov_batch *in, uint8_t seed)
{
    static uint8_t block[1 << 19] __attribute__((aligned(64)));
    const uint8_t *whole;
    uint32_t length;
    LAW(fragment_size(262144) <= sizeof block);
    struct fragments *f = fragment_init(block, 262144, 100, seed);
    uint64_t now = 0;
    const bool made = seed & 1;
    for (size_t i = 0; i < in->count; i++) {
        uint32_t n = in->length[i];
        uint8_t *packet = exact(in->data + in->offset[i], n);
        if (made)
            make_fragment(packet, n, n > 0 ? packet[0] : 0, n > 1 ? packet[1] : 0);
        now += n > 2 ? packet[2] & 15 : 0;
        int link = made || n < 4 ? 0 : packet[3] & 1;
        int status = fragment_push(f, packet, n, link, now, &whole, &length);
        LAW(status < OV_STATUS_COUNT);
        if (status == OV_OK && whole == packet)
            LAW(length == n);
        else if (status == OV_OK)
            LAW(length <= 65535 + 256 && length >= 20);
        if (status == OV_OK && whole != packet && made)
            for (uint32_t at = 34; at < length; at++)
                LAW(whole[at] == (uint8_t)(at - 34));
        fragment_books(f);
        free(packet);
    }
    fragment_expire(f, now + 100);
    struct fragment_stats s;
    fragment_stats(f, &s);
    LAW(s.held == 0 && s.pending == 0 && s.memory == 0);
    fragment_books(f);
}

/* ---- input ------------------------------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct columns c;
    if (size < 6 || size > 8192)
        return 0;
    uint8_t kind = data[0], a = data[1], b = data[2], seed = data[3];
    uint32_t mss = a + 256u * (b & 7), mtu = 40 + a * 8u;
    uint8_t *copy = exact(data + 4, size - 4);
    struct ov_batch in = batch_over(&c, copy, size - 4, ROWS);
    for (uint64_t at = 0; in.count < ROWS && size - 4 - at >= 2;) {
        uint64_t i = in.count++, left = size - 4 - at - 2;
        uint64_t n = get16(copy + at) <= left ? get16(copy + at) : left;
        in.base[i] = in.offset[i] = at + 2;
        in.length[i] = in.wire[i] = (uint32_t)n;
        at += 2 + n;
    }
    for (size_t i = 0; i < in.count; i++) {
        uint32_t length = in.length[i];
        if (kind & 32)
            mend(copy + in.offset[i], length);
        uint8_t *frame = exact(copy + in.offset[i], length);
        cut_one(frame, length, mss);
        split_one(frame, length, (uint8_t)(1 + kind % 3), mss, mtu);
        answer(frame, length, 1280 + mss);
        clamp(frame, length, (uint16_t)mss, kind & 4);
        offload_complete_at(frame, length, a, b);
        offload_complete_any(frame, length);
        free(frame);
        in.mss[i] = kind & 8 ? (uint16_t)mss : 0;
        in.checksum[i] = kind & 16 ? OV_CSUM_PARTIAL : OV_CSUM_UNKNOWN;
    }
    reassemble(&in, seed);
    if (mss >= 64 || !(kind & 8))
        there_and_back(&in);
    free(copy);
    return 0;
}
