/* tunnel.c: the only file that sees all protocols: the ops table, and decap's choice among them. */
#include "decap.h"
#include "erspan.h"
#include "geneve.h"
#include "gpe.h"
#include "gre.h"
#include "plain.h"
#include "nvgre.h"
#include "stt.h"
#include "tunnel.h"
#include "vxlan.h"

static const struct ops {
    int (*init)(struct ov_tunnel *t, const struct ov_config *config);
    size_t (*encap)(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence);
    size_t (*copy)(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                   uint32_t mtu, uint64_t sequence);
    int (*describe)(const uint8_t *header, size_t length, const struct outer *o,
                    struct ov_config *config);
} protocols[OV_PROTOCOL_COUNT] = {
    [OV_VXLAN] = {vxlan_init, vxlan_encap, vxlan_copy, vxlan_describe},
    [OV_NVGRE] = {nvgre_init, nvgre_encap, nvgre_copy, nvgre_describe},
    [OV_STT] = {stt_init, stt_encap, stt_copy, stt_describe},
    [OV_GENEVE] = {geneve_init, geneve_encap, geneve_copy, geneve_describe},
    [OV_GPE] = {gpe_init, gpe_encap, gpe_copy, gpe_describe},
    [OV_GRE] = {gre_init, gre_encap, gre_copy, gre_describe},
    [OV_ERSPAN] = {erspan_init, erspan_encap, erspan_copy, erspan_describe},
};

/* ---- encap --------------------------------------------------------------- */

struct tag_plan kernel_plan_tags(int mode, int protocol, bool ip, const uint8_t *frame,
                                 uint32_t length)
{
    struct tag_plan plan = {0};
    bool first = is_tagged(frame);
    if (first && mode == OV_VLAN_REJECT)
        return (struct tag_plan){.status = OV_FRAME_TAGGED};
    bool all = first && (mode == OV_VLAN_STRIP || protocol == OV_NVGRE || ip);
    bool one = first && !all && protocol == OV_STT && get16(frame + 12) == ETHERTYPE_CTAG;
    if (all || one) {
        bool second = length >= 18 && all && is_tag(get16(frame + 16));
        if (length < (second ? 22u : 18u))
            return (struct tag_plan){.status = OV_FRAME_TOO_SHORT};
        if (second && protocol == OV_NVGRE && is_tag(get16(frame + 20)))
            return (struct tag_plan){.status = OV_FRAME_TAGGED};
        plan.remove = second ? 2 * TAG_LENGTH : TAG_LENGTH;
        if (one)
            plan.tci = (get16(frame + 14) & 0xEFFF) | STT_TCI_VALID;
    }
    if (ip) {
        plan.ethertype = get16(frame + 12 + plan.remove);
        plan.remove += ETHERNET_LENGTH;
        uint32_t least = plan.ethertype == ETHERTYPE_IPV4 ? 20 : IPV6_LENGTH;
        if ((plan.ethertype != ETHERTYPE_IPV4 && plan.ethertype != ETHERTYPE_IPV6) ||
            length - plan.remove < least)
            return (struct tag_plan){.status = OV_FRAME_NOT_IP};
    }
    return plan;
}

int ov_tunnel_init(struct ov_tunnel *tunnel, const struct ov_config *config)
{
    if (config->protocol == OV_NONE || config->protocol >= OV_PROTOCOL_COUNT)
        return -1;
    return protocols[config->protocol].init(tunnel, config);
}

/* One packet by whatever protocol its tunnel has. */
always_inline void emit_any(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                            uint64_t sequence, struct layout layout)
{
    switch (t->config.protocol) {
    case OV_VXLAN:
        vxlan_emit(t, p, packet, sequence, layout);
        break;
    case OV_NVGRE:
        nvgre_emit(t, p, packet, sequence, layout);
        break;
    case OV_GENEVE:
        geneve_emit(t, p, packet, sequence, layout);
        break;
    case OV_GPE:
        gpe_emit(t, p, packet, sequence, layout);
        break;
    case OV_GRE:
        gre_emit(t, p, packet, sequence, layout);
        break;
    case OV_ERSPAN:
        erspan_emit(t, p, packet, sequence, layout);
        break;
    default:
        stt_emit(t, p, packet, sequence, layout);
    }
}

int64_t ov_encap(const struct ov_tunnel *tunnel, const uint8_t *frame, size_t length,
                 uint64_t sequence, uint8_t *out)
{
    struct plan p;
    struct layout layout = kernel_layout(tunnel);
    if (length > UINT32_MAX)
        return -OV_FRAME_TOO_LONG;
    int status = kernel_plan(tunnel, frame, (uint32_t)length, (uint32_t)length,
                             kernel_limits(layout, 0), layout, &p);
    if (unlikely(status != OV_OK))
        return -status;
    kernel_place(&p, frame, out + layout.headers);
    emit_any(tunnel, &p, out, sequence, layout);
    return (int64_t)p.length + layout.headers;
}

size_t ov_encap_batch(const struct ov_tunnel *tunnel, struct ov_batch *batch, uint64_t sequence)
{
    return protocols[tunnel->config.protocol].encap(tunnel, batch, sequence);
}

int tunnel_encap_row(const struct ov_tunnel *t, const struct ov_batch *b, size_t i,
                     uint64_t sequence)
{
    struct layout layout = kernel_layout(t);
    return kernel_encap_row(t, b, i, kernel_limits(layout, 0), layout, sequence, emit_any,
                            t->config.protocol);
}

size_t ov_encap_many(const struct ov_tunnel *const *tunnels, size_t tunnel_count,
                     const uint32_t *index, struct ov_batch *batch, uint64_t sequence)
{
    const struct ov_batch b = *batch;
    size_t left = 0;
    for (size_t i = 0; i < b.count; i++) {
        int status = b.status[i];
        if (likely(status == OV_OK && index[i] < tunnel_count)) {
            const struct ov_tunnel *t = tunnels[index[i]];
            struct layout layout = kernel_layout(t);
            status = kernel_encap_row(t, &b, i, kernel_limits(layout, 0), layout, sequence + i,
                                      emit_any, t->config.protocol);
        } else if (status == OV_OK) {
            status = OV_BAD_ROW;
        }
        if (unlikely(status != OV_OK)) {
            b.status[i] = (uint8_t)status;
            left++;
        }
    }
    return b.count - left;
}

size_t ov_encap_into(const struct ov_tunnel *tunnel, struct ov_batch *in, struct ov_batch *out,
                     uint32_t mtu, uint64_t sequence)
{
    return protocols[tunnel->config.protocol].copy(tunnel, in, out, mtu, sequence);
}

/* ---- decap --------------------------------------------------------------- */

/* Whether the profile names this destination and source. */
static bool pair_known(const struct ov_policy *y, const uint8_t *packet, const struct outer *o)
{
    uint8_t pair[32];
    outer_addresses(packet, o, pair);
    for (uint64_t i = 0; i < y->pair_count; i++)
        if (memcmp(y->pairs + 32 * i, pair, sizeof pair) == 0)
            return true;
    return false;
}

/* Steps 9 and 10 for UDP: o->end and o->here become the datagram's. */
always_inline int udp_check(const struct ov_policy *y, const uint8_t *packet, struct outer *o)
{
    const uint8_t *udp = packet + o->l4;
    uint32_t length = get16(udp + 4), checksum = get16(udp + 6), here = o->here - o->l4;
    if (unlikely(length == 0 && y->base == OV_LENIENT))
        length = o->end - o->l4;
    if (unlikely(length < UDP_LENGTH || length > o->end - o->l4))
        return OV_UDP_LENGTH;
    o->end = o->l4 + length;
    o->here = o->l4 + min32(here, length);
    if (checksum == 0) {
        if (unlikely(o->version == 6 && y->zero6 != OV_ZERO6_ACCEPT)) {
            const struct outer copy = *o;
            if (y->zero6 != OV_ZERO6_PAIRS || !pair_known(y, packet, &copy))
                return OV_UDP_ZERO_CHECKSUM;
        }
    } else if (y->verify && unlikely(!outer_checksum_good(packet, o, IP_UDP))) {
        return OV_UDP_CHECKSUM;
    }
    return OV_OK;
}

/* The same for IP from d->offset on: a frame, whose first 14 bytes are yet to be written. */
static int open_ip(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                   struct ov_frame *d)
{
    enum { SEEN = 60 }; /* the longest IP header without extensions */
    uint8_t seen[ETHERNET_LENGTH + SEEN] = {0};
    uint32_t here = o->here - d->header, peek = min32(here, SEEN);
    if (y->keys != NULL && !decap_key_known(y, d->key))
        return OV_UNKNOWN_KEY;
    if (here < (d->ethertype == ETHERTYPE_IPV4 ? 20 : IPV6_LENGTH))
        return OV_INNER_TOO_SHORT;
    put16(seen + 12, d->ethertype);
    memcpy(seen + ETHERNET_LENGTH, packet + d->header, peek);
    d->length = peek + ETHERNET_LENGTH;
    int status = decap_mark(y, seen, o->tos, d);
    d->offset = d->header - ETHERNET_LENGTH;
    d->length = here + ETHERNET_LENGTH;
    d->wire = o->end - d->header + ETHERNET_LENGTH;
    return status;
}

/* Steps 13 to 17 for what begins at d->offset and ends at o->end. */
always_inline int open_frame(const struct ov_policy *y, const uint8_t *packet,
                             const struct outer *o, struct ov_frame *d)
{
    const uint8_t *frame = packet + d->offset;
    d->header = d->offset;
    if (unlikely(d->ethertype != 0)) {
        struct ov_frame opened = *d;
        int answer = open_ip(y, packet, o, &opened);
        *d = opened;
        return answer;
    }
    int status = decap_inner(y, frame, o->here - d->offset, o->end - d->offset, false, d);
    return unlikely(status != OV_OK) ? status : decap_mark(y, frame, o->tos, d);
}

/* Step 11 for a datagram whose payload begins at at. */
always_inline int udp_open(const struct ov_policy *y, int owner, const uint8_t *packet,
                           const struct outer *o, uint32_t at, struct ov_frame *d)
{
    if (likely(owner == OV_VXLAN))
        return vxlan_check(y, packet, o, at, d);
    return owner == OV_GENEVE ? geneve_check(y, packet, o, at, d) : gpe_check(y, packet, o, at, d);
}

/* Whose GRE this is, by its first four bytes; OV_NONE: nobody's. */
always_inline int gre_owner(const struct ov_policy *y, const uint8_t *gre)
{
    uint16_t flags = get16(gre), protocol = get16(gre + 2);
    if (unlikely(protocol == GRE_ERSPAN || protocol == GRE_ERSPAN3) && decap_names(y, OV_ERSPAN))
        return OV_ERSPAN;
    if (!decap_names(y, OV_GRE))
        return decap_names(y, OV_NVGRE) ? OV_NVGRE : OV_NONE;
    uint16_t plain = y->base == OV_LENIENT ? GRE_K : GRE_K | GRE_C | GRE_S;
    bool nvgre = protocol == GRE_TEB && (flags & plain) == GRE_K;
    return nvgre && decap_names(y, OV_NVGRE) ? OV_NVGRE : OV_GRE;
}

/* Steps 9 to 11 for GRE. */
always_inline int gre_open(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                           struct ov_frame *d)
{
    const uint32_t all = 1u << OV_NVGRE | 1u << OV_GRE | 1u << OV_ERSPAN;
    if (unlikely((y->protocols & all) == 0))
        return OV_UNKNOWN_PROTOCOL;
    if (unlikely(o->here - o->l4 < GRE_BASE))
        return OV_HEADER_TRUNCATED;
    int owner = gre_owner(y, packet + o->l4);
    if (likely(owner == OV_NVGRE))
        return nvgre_check(y, packet, o, d);
    if (owner == OV_NONE)
        return OV_UNKNOWN_PROTOCOL;
    return owner == OV_GRE ? gre_check(y, packet, o, d) : erspan_check(y, packet, o, d);
}

int tunnel_open_header(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                       struct ov_frame *d)
{
    if (o->protocol == IP_GRE)
        return gre_open(y, packet, o, d);
    int owner = plain_udp_owner(y, get16(packet + o->l4 + 2));
    return owner == OV_NONE ? OV_UNKNOWN_PROTOCOL
                            : udp_open(y, owner, packet, o, o->l4 + UDP_LENGTH, d);
}

always_inline int decap_packet(const struct ov_policy *y, const uint8_t *packet, uint32_t length,
                               uint32_t wire, int link, struct ov_frame *d)
{
    const uint32_t over_udp = 1u << OV_VXLAN | 1u << OV_GENEVE | 1u << OV_GPE;
    struct outer o;
    int status = outer_parse(packet, length, wire, link, y->base == OV_LENIENT, &o);
    if (unlikely(status != OV_OK))
        return status;
    d->outer = o.l3;
    if (o.protocol == IP_UDP && likely((y->protocols & over_udp) != 0)) {
        if (unlikely(o.here - o.l4 < UDP_LENGTH))
            return OV_UDP_TRUNCATED;
        int owner = plain_udp_owner(y, get16(packet + o.l4 + 2));
        if (unlikely(owner == OV_NONE))
            return OV_UNKNOWN_PROTOCOL;
        status = udp_check(y, packet, &o);
        if (likely(status == OV_OK))
            status = udp_open(y, owner, packet, &o, o.l4 + UDP_LENGTH, d);
    } else if (o.protocol == IP_GRE) {
        status = gre_open(y, packet, &o, d);
    } else if (o.protocol == IP_TCP && decap_names(y, OV_STT)) {
        const struct outer copy = o;
        struct ov_frame whole = {.outer = o.l3};
        status = stt_decap(y, packet, &copy, &whole);
        whole.header = whole.offset;
        *d = whole;
        return status;
    } else {
        return OV_UNKNOWN_PROTOCOL;
    }
    return unlikely(status != OV_OK) ? status : open_frame(y, packet, &o, d);
}

/* A row that begins at the tunnel header: the payload of a datagram that a
 * socket has received, and so has checked.  Its outer IP header, which lies at
 * outer[i], gives the ECN field. */
static int decap_datagram(const struct ov_policy *y, const struct ov_batch *b, size_t i,
                          struct ov_frame *d)
{
    const uint8_t *packet = b->data + b->offset[i];
    struct outer o = {.end = b->wire[i], .here = b->length[i]};
    int owner = decap_names(y, OV_VXLAN) ? OV_VXLAN : decap_names(y, OV_GPE) ? OV_GPE : OV_GENEVE;
    if (!decap_names(y, owner))
        return OV_UNKNOWN_PROTOCOL;
    if (b->outer[i] > b->size || b->size - b->outer[i] < 20)
        return OV_BAD_ROW;
    const uint8_t *ip = b->data + b->outer[i];
    if (ip[0] >> 4 != 4 && b->size - b->outer[i] < IPV6_LENGTH)
        return OV_BAD_ROW;
    o.tos = ip[0] >> 4 == 4 ? ip[1] : (uint8_t)(get16(ip) >> 4);
    int status = udp_open(y, owner, packet, &o, 0, d);
    if (status == OV_OK)
        status = open_frame(y, packet, &o, d);
    if (status == OV_OK && d->ethertype != 0 &&
        b->offset[i] - b->base[i] + d->header < ETHERNET_LENGTH)
        return OV_NO_HEADROOM;
    return status;
}

void ov_decap(const struct ov_policy *policy, const uint8_t *packet, size_t length, size_t wire,
              int link, struct ov_frame *d)
{
    memset(d, 0, sizeof *d);
    if (length > UINT32_MAX || wire > UINT32_MAX || length > wire)
        d->status = OV_BAD_ROW;
    else
        d->status =
            (uint8_t)decap_packet(policy, packet, (uint32_t)length, (uint32_t)wire, link, d);
}

/* Mend a frame where it lies; returns where it begins then.  A tag that is put
 * in takes four bytes of the tunnel header before it. */
static uint64_t mend_in_place(const struct ov_frame *d, uint8_t *data, uint64_t offset)
{
    uint8_t *frame = data + offset;
    if (d->ethertype != 0)
        decap_head(d, frame);
    decap_mend(d, frame, 0);
    if (d->remove != 0)
        kernel_remove(frame, d->remove);
    if (d->insert != 0) {
        memmove(frame - TAG_LENGTH, frame, 12);
        put16(frame + 8, ETHERTYPE_CTAG);
        put16(frame + 10, d->tci);
    }
    return offset + d->remove - d->insert;
}

int tunnel_decap_row(const struct plain *plain, const struct ov_batch *b, size_t i,
                     struct ov_frame *d)
{
    const struct ov_policy *policy = plain->policy;
    uint64_t offset = b->offset[i];
    uint32_t length = b->length[i], wire = b->wire[i];
    int status = b->status[i], link = b->link[i];
    bool good = kernel_row_good(b, b->base[i], offset, length, wire);
    if (likely(good && plain->open && length == wire && (status | link) == 0 &&
               plain_decap(plain, b->data + offset, length, d)))
        return OV_OK;
    memset(d, 0, sizeof *d);
    if (status != OV_OK || !good)
        return status != OV_OK ? status : OV_BAD_ROW;
    return link == OV_UDP ? decap_datagram(policy, b, i, d)
                          : decap_packet(policy, b->data + offset, length, wire, link, d);
}

size_t ov_decap_batch(const struct ov_policy *policy, struct ov_batch *batch)
{
    const struct ov_batch b = *batch; /* a copy that no store can reach */
    const struct plain plain = plain_of(policy);
    size_t left = 0;
    for (size_t i = 0; i < b.count; i++) {
        struct ov_frame d = {0};
        const uint64_t before = b.offset[i];
        uint64_t offset = before;
        uint32_t length = b.length[i], wire = b.wire[i];
        int status = b.status[i];
        kernel_prefetch(&b, i, 0);
        bool good = kernel_row_good(&b, b.base[i], offset, length, wire);
        if (likely(good && plain.open && length == wire && (status | b.link[i]) == 0 &&
                   plain_decap(&plain, b.data + offset, length, &d))) {
            offset += d.offset;
        } else {
            struct ov_frame any = {0};
            if (status == OV_OK)
                status = !good ? OV_BAD_ROW
                         : b.link[i] == OV_UDP
                             ? decap_datagram(policy, &b, i, &any)
                             : decap_packet(policy, b.data + offset, length, wire, b.link[i], &any);
            if (status != OV_OK) {
                b.status[i] = (uint8_t)status;
                left++;
                continue;
            }
            /* What the row said of its checksum and mss stays, unless the header says. */
            if (any.checksum == OV_CSUM_PARTIAL) {
                bool kept = policy->partial && any.l4 != 0;
                b.checksum[i] = kept ? OV_CSUM_PARTIAL : OV_CSUM_UNKNOWN;
                b.mss[i] = any.mss;
                any.l4 = kept ? 0 : any.l4;
            }
            offset += any.ethertype == 0 ? any.offset : any.header - (uint64_t)ETHERNET_LENGTH;
            if ((any.insert | any.remove | any.tos_at | any.ethertype) != 0 || any.l4 != 0)
                offset = mend_in_place(&any, b.data, offset);
            any.length += (uint32_t)any.insert - any.remove;
            any.wire += (uint32_t)any.insert - any.remove;
            d = any;
        }
        if (likely(b.link[i] != OV_UDP)) /* GRE that carried IP: the new Ethernet lies over it */
            b.outer[i] = d.ethertype != 0 && d.protocol == OV_GRE ? 0 : before + d.outer;
        b.offset[i] = offset;
        b.length[i] = d.length;
        b.wire[i] = d.wire;
        b.key[i] = d.key;
        b.protocol[i] = d.protocol;
        b.link[i] = OV_ETHERNET;
    }
    return b.count - left;
}

int ov_describe(const uint8_t *header, size_t length, int link, uint32_t protocol,
                struct ov_config *config)
{
    struct outer o;
    if (protocol == OV_NONE || protocol >= OV_PROTOCOL_COUNT ||
        outer_describe(header, length, link, &o, config) != 0)
        return -1;
    config->protocol = (uint8_t)protocol;
    return protocols[protocol].describe(header, length, &o, config);
}
