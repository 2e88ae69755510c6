/* split.c: see split.h. */
#include "split.h"
#include "geneve.h"
#include "gpe.h"
#include "gre.h"
#include "nvgre.h"
#include "stt.h"
#include "vxlan.h"

/* The sum of what differs between packets is left out of these. */
static void sum_ip(const uint8_t *packet, struct split *s)
{
    const uint8_t *ip = packet + s->l3;
    s->ip_sum =
        s->version == 4 ? get16(ip) + checksum_sum(ip + 6, 4) + checksum_sum(ip + 12, 8) : 0;
}

/* The outer headers: true where a plain IP header carries this protocol up to the end
 * of the packet, with at least this many bytes. */
static bool plan_outer(const uint8_t *packet, uint32_t length, uint8_t protocol, uint32_t least,
                       struct split *s, struct outer *o)
{
    memset(s, 0, sizeof *s);
    if (outer_parse(packet, length, length, OV_ETHERNET, false, o) != OV_OK ||
        o->protocol != protocol || o->end - o->l4 < least ||
        o->l4 - o->l3 != (o->version == 4 ? 20u : IPV6_LENGTH))
        return false;
    s->l3 = o->l3;
    s->l4 = o->l4;
    s->version = o->version;
    sum_ip(packet, s);
    return true;
}

static bool over_udp(uint8_t protocol)
{
    return protocol == OV_VXLAN || protocol == OV_GENEVE || protocol == OV_GPE;
}

/* Bytes before the inner frame of a tunnel header of GRE that has to be copied and no more, or 0.
 */
static uint32_t gre_header(const uint8_t *gre, uint8_t protocol)
{
    uint32_t word = get32(gre);
    if (word == ((uint32_t)GRE_K << 16 | GRE_TEB))
        return GRE_KEYED;
    return word == GRE_TEB && protocol == OV_GRE ? GRE_BASE : 0;
}

/* The same for UDP and what follows it, bytes of which are here: 16 or more. */
static uint32_t udp_header(const uint8_t *udp, uint32_t bytes, uint8_t protocol)
{
    const uint8_t *shim = udp + UDP_LENGTH;
    uint32_t length = UDP_LENGTH + VXLAN_LENGTH;
    bool good;
    if (protocol == OV_VXLAN) {
        good = shim[0] & VXLAN_I;
    } else if (protocol == OV_GPE) {
        good = (~shim[0] & (GPE_I | GPE_P)) == 0 && shim[3] == GPE_ETHERNET;
    } else {
        length += (shim[0] & GENEVE_OPTIONS_MASK) * 4u;
        good = !(shim[0] & GENEVE_VERSION_MASK) && get16(shim + 2) == GENEVE_TEB;
    }
    return good && get16(udp + 4) == bytes && length <= bytes ? length : 0;
}

bool split_plan(const uint8_t *packet, uint32_t length, uint8_t protocol, uint32_t mss,
                struct split *s)
{
    struct outer o;
    bool udp = over_udp(protocol);
    uint32_t least = udp ? UDP_LENGTH + VXLAN_LENGTH : GRE_BASE;
    if ((!udp && protocol != OV_NVGRE && protocol != OV_GRE) ||
        !plan_outer(packet, length, udp ? IP_UDP : IP_GRE, least, s, &o))
        return false;
    const uint8_t *l4 = packet + s->l4;
    uint32_t bytes = o.end - o.l4;
    uint32_t shim = udp ? udp_header(l4, bytes, protocol) : gre_header(l4, protocol);
    if (shim == 0 || shim > bytes)
        return false;
    s->frame = s->l4 + shim;
    if (!offload_plan(packet + s->frame, o.end - s->frame, mss, &s->cut))
        return false;
    const struct cut *c = &s->cut;
    const uint8_t *frame = packet + s->frame;
    s->protocol = protocol;
    s->headers = s->frame + c->headers;
    s->count = c->count;
    s->mss = c->mss;
    s->largest = s->headers - s->l3 + c->mss;
    s->identify = o.version == 4 && !test16(packet + s->l3 + 6, 0x4000);
    s->checksum = udp && get16(l4 + 6) != 0;
    if (s->checksum) {
        /* Ports, shim, and the inner headers as far as they do not differ.  An inner
         * datagram whose checksum is right adds the complement of its pseudo header. */
        s->l4_sum = outer_pseudo_sum(packet, &o, IP_UDP) + checksum_sum(l4, 4) +
                    checksum_sum(l4 + UDP_LENGTH, shim - UDP_LENGTH) + checksum_sum(frame, c->o.l3);
        struct offload bare = c->o;
        bare.end = bare.l4;
        s->inner_sum = (uint16_t)~offload_seed(frame, &bare);
    }
    return s->headers <= SPLIT_HEADERS_MAX;
}

bool split_plan_stt(const uint8_t *packet, uint32_t length, uint32_t mtu, struct split *s)
{
    struct outer o;
    if (!plan_outer(packet, length, IP_TCP, TCP_LENGTH + 1, s, &o))
        return false;
    const uint8_t *tcp = packet + s->l4;
    uint32_t before = s->l4 - s->l3 + TCP_LENGTH;
    if (tcp[12] >> 4 != TCP_LENGTH / 4 || get16(tcp + 2) != STT_PORT || mtu <= before)
        return false;
    s->protocol = OV_STT;
    s->frame = s->headers = s->l4 + TCP_LENGTH;
    s->payload = o.end - s->headers;
    s->mss = min32(s->payload, mtu - before);
    s->count = (s->payload + s->mss - 1) / s->mss;
    s->largest = before + s->mss;
    s->identify = o.version == 4;
    /* All but the sequence number, the flags and the checksum. */
    s->l4_sum = outer_pseudo_sum(packet, &o, IP_TCP) + checksum_sum(tcp, 4) +
                checksum_sum(tcp + 8, 4) + (uint32_t)(tcp[12] << 8) + checksum_sum(tcp + 14, 2) +
                checksum_sum(tcp + 18, 2);
    return true;
}

/* The lengths, the ID and the checksum of a copied outer IP header. */
always_inline void write_ip(const struct split *s, uint8_t *ip, uint32_t bytes, uint32_t i)
{
    if (s->version == 4) {
        uint32_t id = (get16(ip + 4) + (s->identify ? i : 0)) & 0xFFFF;
        put16(ip + 2, (uint16_t)bytes);
        put16(ip + 4, (uint16_t)id);
        put16(ip + 10, (uint16_t)~checksum_fold32(s->ip_sum + bytes + id));
    } else {
        put16(ip + 4, (uint16_t)(bytes - IPV6_LENGTH));
    }
}

static uint32_t split_segment(const struct split *s, const uint8_t *packet, uint32_t i,
                              uint8_t *headers, uint32_t *payload_at)
{
    const bool last = i + 1 == s->count;
    const uint32_t before = i * s->mss, payload = last ? s->payload - before : s->mss;
    uint8_t *tcp = headers + s->l4;
    *payload_at = s->headers + before;
    memcpy(headers, packet, opaque(s->headers));
    write_ip(s, headers + s->l3, s->headers - s->l3 + payload, i);
    uint32_t sequence = get32(tcp + 4) + before;
    uint32_t flags = tcp[13] & ~(last ? 0u : (uint32_t)STT_PSH);
    put32(tcp + 4, sequence);
    tcp[13] = (uint8_t)flags;
    uint32_t sum =
        s->l4_sum + (sequence >> 16) + (sequence & 0xFFFF) + flags + TCP_LENGTH + payload;
    put16(tcp + 16, (uint16_t)~checksum_fold32(sum + checksum_sum(packet + *payload_at, payload)));
    return payload;
}

uint32_t split_packet(const struct split *s, const uint8_t *packet, uint32_t i, uint8_t *headers,
                      uint32_t *payload_at)
{
    if (s->protocol == OV_STT)
        return split_segment(s, packet, i, headers, payload_at);
    const struct cut *c = &s->cut;
    uint8_t *inner = headers + s->frame;
    memcpy(headers, packet, opaque(s->frame));
    uint32_t payload = offload_cut(packet + s->frame, c, i, inner, payload_at);
    *payload_at += s->frame;
    uint32_t bytes = s->headers - s->l3 + payload;
    write_ip(s, headers + s->l3, bytes, i);
    if (over_udp(s->protocol)) {
        uint8_t *udp = headers + s->l4;
        uint32_t length = bytes - (s->l4 - s->l3);
        put16(udp + 4, (uint16_t)length);
        if (s->checksum) {
            /* Its IP header, and the complement of the L4 length of its pseudo header. */
            uint32_t l4 = c->headers - c->o.l4 + payload;
            uint32_t sum = s->l4_sum + 2 * length + s->inner_sum + (uint16_t)~l4 +
                           checksum_sum(inner + c->o.l3, c->o.l4 - c->o.l3);
            uint16_t checksum = (uint16_t)~checksum_fold32(sum);
            put16(udp + 6, checksum == 0 ? 0xFFFF : checksum);
        }
    }
    return payload;
}

bool split_complete(uint8_t *packet, uint32_t length, uint8_t protocol)
{
    struct split s;
    uint8_t headers[SPLIT_HEADERS_MAX];
    uint32_t at;
    if (!split_plan(packet, length, protocol, 0, &s))
        return false;
    split_packet(&s, packet, 0, headers, &at);
    memcpy(packet, headers, s.headers);
    return true;
}
