/* offload.c: see offload.h; the TCP cut is public, as ov_tcp_segments and ov_tcp_segment. */
#include "offload.h"
#include "overlay.h"

enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };

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

uint16_t offload_seed(const uint8_t *frame, const struct offload *o)
{
    const uint8_t *ip = frame + o->l3;
    uint32_t sum = o->version == 4 ? checksum_sum(ip + 12, 8) : checksum_sum(ip + 8, 32);
    return checksum_fold32(sum + (o->tcp ? IP_TCP : IP_UDP) + (o->end - o->l4));
}

void offload_complete(uint8_t *frame, const struct offload *o)
{
    uint8_t *field = frame + offload_field(o);
    put16(field, 0);
    uint32_t sum = checksum_sum(frame + o->l4, o->end - o->l4);
    uint16_t checksum = (uint16_t)~checksum_fold32(sum + offload_seed(frame, o));
    put16(field, checksum == 0 && !o->tcp ? 0xFFFF : checksum);
}

/* The length of the headers up to the TCP payload, or 0 if the frame cannot be cut. */
static uint32_t tcp_headers(const uint8_t *frame, size_t length, struct offload *o)
{
    if (length < ETHERNET_LENGTH || length > UINT32_MAX)
        return 0;
    struct inner in = inner_inspect(frame, length, 0);
    if (!offload_find(frame, (uint32_t)length, &in, o) || !o->tcp)
        return 0;
    uint32_t tcp = (frame[o->l4 + 12] >> 4) * 4u;
    return tcp >= 20 && o->l4 + tcp <= o->end ? o->l4 + tcp : 0;
}

size_t ov_tcp_segments(const uint8_t *frame, size_t length, uint32_t mss)
{
    struct offload o;
    uint32_t headers = tcp_headers(frame, length, &o);
    if (headers == 0 || mss == 0 || o.end - headers <= mss)
        return 1;
    return (o.end - headers + (size_t)mss - 1) / mss;
}

size_t ov_tcp_segment(const uint8_t *frame, size_t length, uint32_t mss, size_t i, uint8_t *out)
{
    size_t count = ov_tcp_segments(frame, length, mss);
    if (count == 1) {
        memcpy(out, frame, length);
        return length;
    }
    struct offload o;
    uint32_t headers = tcp_headers(frame, length, &o);
    uint32_t before = (uint32_t)i * mss;
    uint32_t payload = i + 1 < count ? mss : o.end - headers - before;
    memcpy(out, frame, headers);
    memcpy(out + headers, frame + headers + before, payload);

    uint8_t *ip = out + o.l3, *tcp = out + o.l4;
    o.end = headers + payload;
    if (o.version == 4) {
        put16(ip + 2, (uint16_t)(o.end - o.l3));
        put16(ip + 4, (uint16_t)(get16(ip + 4) + i));
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)~checksum_sum(ip, o.l4 - o.l3));
    } else {
        put16(ip + 4, (uint16_t)(o.end - o.l3 - 40));
    }
    put32(tcp + 4, get32(tcp + 4) + before);
    if (i > 0)
        tcp[13] &= (uint8_t)~TCP_CWR;
    if (i + 1 < count)
        tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    offload_complete(out, &o);
    return o.end;
}
