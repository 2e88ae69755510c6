/* offload.c: see offload.h; the TCP cut is public, as ov_tcp_segments and ov_tcp_segment. */
#include "offload.h"
#include "overlay.h"

enum {
    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_RST = 0x04,
    TCP_PSH = 0x08,
    TCP_ACK = 0x10,
    TCP_URG = 0x20,
    TCP_CWR = 0x80,
};

bool offload_find(const uint8_t *frame, uint32_t length, const struct inner *in, struct offload *o)
{
    if (in->l4 == 0 || (in->protocol != IP_TCP && in->protocol != IP_UDP))
        return false;
    o->l3 = in->l3;
    o->l4 = in->l4;
    o->version = in->version;
    o->tcp = in->protocol == IP_TCP;
    o->end = in->version == 4 ? in->l3 + get16(frame + in->l3 + 2)
                              : in->l3 + 40u + get16(frame + in->l3 + 4);
    return o->end <= length && o->end >= o->l4 + (o->tcp ? 20u : 8u);
}

/* The same for a frame that nobody has looked at. */
static bool find_any(const uint8_t *frame, uint32_t length, struct offload *o)
{
    if (length < ETHERNET_LENGTH)
        return false;
    struct inner in = inner_inspect(frame, length, 0);
    return offload_find(frame, length, &in, o);
}

/* The sum of the addresses and the protocol. */
static uint32_t pseudo_sum(const uint8_t *frame, const struct offload *o)
{
    const uint8_t *ip = frame + o->l3;
    uint32_t sum = o->version == 4 ? checksum_sum(ip + 12, 8) : checksum_sum(ip + 8, 32);
    return sum + (o->tcp ? IP_TCP : IP_UDP);
}

uint16_t offload_seed(const uint8_t *frame, const struct offload *o)
{
    return checksum_fold32(pseudo_sum(frame, o) + (o->end - o->l4));
}

/* The checksum that goes with a sum, as it is sent. */
always_inline uint16_t finish(uint32_t sum, bool tcp)
{
    uint16_t checksum = (uint16_t)~checksum_fold32(sum);
    return checksum == 0 && !tcp ? 0xFFFF : checksum;
}

void offload_complete(uint8_t *frame, const struct offload *o)
{
    uint8_t *field = frame + offload_field(o);
    put16(field, 0);
    uint32_t sum = checksum_sum(frame + o->l4, o->end - o->l4);
    put16(field, finish(sum + offload_seed(frame, o), o->tcp));
}

bool offload_complete_any(uint8_t *frame, uint32_t length)
{
    struct offload o;
    if (!find_any(frame, length, &o))
        return false;
    offload_complete(frame, &o);
    return true;
}

bool offload_suspect(uint8_t *frame, uint32_t length)
{
    struct offload o;
    if (!find_any(frame, length, &o) || get16(frame + offload_field(&o)) != offload_seed(frame, &o))
        return false;
    offload_complete(frame, &o);
    return true;
}

bool offload_complete_at(uint8_t *bytes, uint32_t length, uint32_t start, uint32_t offset)
{
    if (start > length || length - start < 2 || offset > length - start - 2)
        return false;
    put16(bytes + start + offset, finish(checksum_sum(bytes + start, length - start), false));
    return true;
}

/* The end of the L4 header, or 0 where TCP's data offset is wrong. */
static uint32_t payload_start(const uint8_t *frame, const struct offload *o)
{
    uint32_t header = o->tcp ? (frame[o->l4 + 12] >> 4) * 4u : 8;
    return header >= (o->tcp ? 20u : 8u) && header <= o->end - o->l4 ? o->l4 + header : 0;
}

/* ---- cut ------------------------------------------------------------------------- */

bool offload_plan(const uint8_t *frame, uint32_t length, uint32_t mss, struct cut *c)
{
    uint8_t l4[60];
    if (!find_any(frame, length, &c->o))
        return false;
    const struct offload *o = &c->o;
    c->headers = payload_start(frame, o);
    if (c->headers == 0)
        return false;
    c->payload = o->end - c->headers;
    c->mss = mss == 0 || mss > c->payload ? c->payload : mss;
    c->count = c->payload == 0 ? 1 : (c->payload + c->mss - 1) / c->mss;
    c->ip_sum = 0;
    if (o->version == 4) {
        const uint8_t *ip = frame + o->l3;
        c->ip_sum = get16(ip) + checksum_sum(ip + 6, 4) + checksum_sum(ip + 12, o->l4 - o->l3 - 12);
    }
    memcpy(l4, frame + o->l4, c->headers - o->l4);
    if (o->tcp) {
        put32(l4 + 4, 0);
        l4[13] = 0;
        put16(l4 + 16, 0);
    } else {
        put32(l4 + 4, 0);
    }
    c->l4_sum = pseudo_sum(frame, o) + checksum_sum(l4, c->headers - o->l4);
    return true;
}

uint32_t offload_cut(const uint8_t *frame, const struct cut *c, uint32_t i, uint8_t *out,
                     uint32_t *payload_at)
{
    const struct offload *o = &c->o;
    const bool last = i + 1 == c->count;
    const uint32_t before = i * c->mss, payload = last ? c->payload - before : c->mss;
    const uint32_t bytes = c->headers - o->l4 + payload; /* of L4 */
    uint8_t *ip = out + o->l3, *l4 = out + o->l4;
    *payload_at = c->headers + before;
    memcpy(out, frame, opaque(c->headers));
    if (o->version == 4) {
        uint32_t total = o->l4 - o->l3 + bytes;
        uint32_t id = (get16(ip + 4) + i) & 0xFFFF;
        put16(ip + 2, (uint16_t)total);
        put16(ip + 4, (uint16_t)id);
        put16(ip + 10, (uint16_t)~checksum_fold32(c->ip_sum + total + id));
    } else {
        put16(ip + 4, (uint16_t)(o->l4 - o->l3 - 40 + bytes));
    }
    uint32_t sum = c->l4_sum + bytes + checksum_sum(frame + *payload_at, payload);
    if (o->tcp) {
        uint32_t sequence = get32(l4 + 4) + before;
        uint32_t flags = l4[13] & ~((i > 0 ? TCP_CWR : 0u) | (last ? 0u : TCP_FIN | TCP_PSH));
        put32(l4 + 4, sequence);
        l4[13] = (uint8_t)flags;
        sum += (sequence >> 16) + (sequence & 0xFFFF) + flags;
        put16(l4 + 16, finish(sum, true));
    } else {
        put16(l4 + 4, (uint16_t)bytes);
        put16(l4 + 6, finish(sum + bytes, false));
    }
    return payload;
}

/* A plan for TCP that has more than one packet. */
static bool tcp_plan(const uint8_t *frame, size_t length, uint32_t mss, struct cut *c)
{
    return length <= UINT32_MAX && mss != 0 && offload_plan(frame, (uint32_t)length, mss, c) &&
           c->o.tcp && c->count > 1;
}

size_t ov_tcp_segments(const uint8_t *frame, size_t length, uint32_t mss)
{
    struct cut c;
    return tcp_plan(frame, length, mss, &c) ? c.count : 1;
}

size_t ov_tcp_segment(const uint8_t *frame, size_t length, uint32_t mss, size_t i, uint8_t *out)
{
    struct cut c;
    uint32_t at;
    if (!tcp_plan(frame, length, mss, &c)) {
        memcpy(out, frame, length);
        return length;
    }
    uint32_t payload = offload_cut(frame, &c, (uint32_t)i, out, &at);
    memcpy(out + c.headers, frame + at, payload);
    return (size_t)c.headers + payload;
}

/* ---- merge ------------------------------------------------------------------------- */

/* Whether the checksums are right, and in the form that a cut gives. */
static bool sound(const uint8_t *frame, const struct offload *o)
{
    uint16_t field = get16(frame + offload_field(o));
    if (o->version == 4) {
        const uint8_t *ip = frame + o->l3;
        if (checksum_ipv4(ip) != 0xFFFF || get16(ip + 10) == 0xFFFF)
            return false;
    }
    if (field == (o->tcp ? 0xFFFF : 0))
        return false;
    uint32_t sum = checksum_sum(frame + o->l4, o->end - o->l4);
    return checksum_fold32(sum + offload_seed(frame, o)) == 0xFFFF;
}

bool merge_begin(struct merge *m, const uint8_t *frame, uint32_t length, uint32_t maximum)
{
    struct offload *o = &m->o;
    if (!find_any(frame, length, o) || o->end != length)
        return false;
    m->headers = payload_start(frame, o);
    if (m->headers == 0 || m->headers == o->end)
        return false;
    if (o->version == 4 && o->l4 - o->l3 != 20)
        return false;
    const uint8_t *l4 = frame + o->l4;
    if (o->tcp) {
        const uint32_t never = TCP_FIN | TCP_SYN | TCP_RST | TCP_URG;
        if ((l4[13] & (never | TCP_ACK | TCP_PSH)) != TCP_ACK)
            return false;
    } else if (get16(l4 + 4) != o->end - o->l4) {
        return false;
    }
    m->first = frame;
    m->mss = o->end - m->headers;
    m->count = 1;
    m->most = o->l3 + (maximum < MERGE_MAX ? maximum : MERGE_MAX);
    m->push = m->closed = false;
    return length < m->most && sound(frame, o);
}

/* Whether frame has the headers of the one that follows on. */
static bool follows(const struct merge *m, const uint8_t *frame, uint32_t length)
{
    const struct offload *o = &m->o;
    const uint8_t *ip = frame + o->l3, *l4 = frame + o->l4;
    const uint8_t *first_ip = m->first + o->l3, *first_l4 = m->first + o->l4;
    if (memcmp(frame, m->first, opaque(o->l3)) != 0)
        return false;
    if (o->version == 4) {
        if (get16(ip) != get16(first_ip) || get16(ip + 2) != length - o->l3 ||
            get16(ip + 4) != (uint16_t)(get16(first_ip + 4) + m->count) ||
            get32(ip + 6) != get32(first_ip + 6) || memcmp(ip + 12, first_ip + 12, 8) != 0)
            return false;
    } else if (get32(ip) != get32(first_ip) || get16(ip + 4) != length - o->l3 - 40 ||
               memcmp(ip + 6, first_ip + 6, 34) != 0) {
        return false;
    }
    if (get32(l4) != get32(first_l4))
        return false;
    if (!o->tcp)
        return get16(l4 + 4) == length - o->l4;
    /* The first may have CWR, and the last PSH; all else is the same. */
    uint32_t flags = l4[13] & ~(uint32_t)TCP_PSH;
    return get32(l4 + 4) == get32(first_l4 + 4) + (o->end - m->headers) &&
           get32(l4 + 8) == get32(first_l4 + 8) && l4[12] == first_l4[12] &&
           flags == (first_l4[13] & ~(uint32_t)TCP_CWR) && get16(l4 + 14) == get16(first_l4 + 14) &&
           memcmp(l4 + 18, first_l4 + 18, opaque(m->headers - o->l4 - 18)) == 0;
}

bool merge_add(struct merge *m, const uint8_t *frame, uint32_t length)
{
    if (m->closed || length <= m->headers || length - m->headers > m->mss ||
        length - m->headers > m->most - m->o.end || (!m->o.tcp && m->count >= MERGE_DATAGRAMS_MAX))
        return false;
    struct offload o = m->o;
    o.end = length;
    if (!follows(m, frame, length) || !sound(frame, &o))
        return false;
    uint32_t payload = length - m->headers;
    m->o.end += payload;
    m->count++;
    m->push = m->o.tcp && frame[o.l4 + 13] & TCP_PSH;
    m->closed = m->push || payload < m->mss;
    return true;
}

uint16_t merge_end(const struct merge *m, uint8_t *frame)
{
    const struct offload *o = &m->o;
    uint8_t *ip = frame + o->l3, *l4 = frame + o->l4;
    if (m->count == 1)
        return 0;
    if (o->version == 4) {
        put16(ip + 2, (uint16_t)(o->end - o->l3));
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)~checksum_ipv4(ip));
    } else {
        put16(ip + 4, (uint16_t)(o->end - o->l3 - 40));
    }
    if (!o->tcp)
        put16(l4 + 4, (uint16_t)(o->end - o->l4));
    else if (m->push)
        l4[13] |= TCP_PSH;
    put16(frame + offload_field(o), offload_seed(frame, o));
    return (uint16_t)m->mss;
}
