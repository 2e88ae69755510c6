/* inspect.c: what decap would say of a batch, and its outer headers, as columns.
 *
 * Guarantee: nothing but the columns is written, so that the batch may lie over
 * memory that cannot be; every column of every row that they hold is.
 */
#include "kernel.h"
#include "tunnel.h"

/* All facts of one row. */
struct facts {
    uint64_t key, outer, frame_offset;
    uint32_t frame_length, frame_wire, flow_label;
    uint16_t ip_id, outer_tci, source_port, destination_port;
    uint8_t source[16], destination[16];
    uint8_t status, protocol, family, ip_protocol, tos, ttl, flags;
};

always_inline void write_row(const struct ov_columns *c, size_t i, const struct facts *f)
{
    c->key[i] = f->key;
    c->outer[i] = f->family == 0 ? 0 : c->origin + f->outer;
    c->frame_offset[i] = f->status != OV_OK ? 0 : c->origin + f->frame_offset;
    c->frame_length[i] = f->frame_length;
    c->frame_wire[i] = f->frame_wire;
    c->flow_label[i] = f->flow_label;
    c->ip_id[i] = f->ip_id;
    c->outer_tci[i] = f->outer_tci;
    c->source_port[i] = f->source_port;
    c->destination_port[i] = f->destination_port;
    memcpy(c->source + 16 * i, f->source, 16);
    memcpy(c->destination + 16 * i, f->destination, 16);
    c->status[i] = f->status;
    c->protocol[i] = f->protocol;
    c->family[i] = f->family;
    c->ip_protocol[i] = f->ip_protocol;
    c->tos[i] = f->tos;
    c->ttl[i] = f->ttl;
    c->flags[i] = f->flags;
}

/* The IPv4 header at ip, all of whose 20 bytes are here. */
always_inline void read_ipv4(const uint8_t *ip, struct facts *f)
{
    f->family = 4;
    f->ip_protocol = ip[9];
    f->tos = ip[1];
    f->ttl = ip[8];
    f->ip_id = get16(ip + 4);
    memcpy(f->source, ip + 12, 4);
    memcpy(f->destination, ip + 16, 4);
    f->flags |= (uint8_t)(ip[6] >> 6 & OV_FACT_DF);
}

static void read_ipv6(const uint8_t *ip, struct facts *f)
{
    f->family = 6;
    f->ip_protocol = ip[6];
    f->tos = (uint8_t)(get16(ip) >> 4);
    f->ttl = ip[7];
    f->flow_label = get32(ip) & 0xFFFFF;
    memcpy(f->source, ip + 8, 16);
    memcpy(f->destination, ip + 24, 16);
}

/* UDP or TCP at o->l4.  taken: that decap has come past its checksum, if it verifies any. */
always_inline void read_transport(const struct ov_policy *y, const uint8_t *packet,
                                  const struct outer *o, bool taken, struct facts *f)
{
    const uint8_t *l4 = packet + o->l4;
    uint32_t here = o->here - o->l4;
    bool udp = o->protocol == IP_UDP;
    if ((!udp && o->protocol != IP_TCP) || here < 4)
        return;
    f->source_port = get16(l4);
    f->destination_port = get16(l4 + 2);
    if (here < (udp ? (uint32_t)UDP_LENGTH : (uint32_t)TCP_LENGTH) ||
        get16(l4 + (udp ? 6 : 16)) == 0)
        return;
    f->flags |= OV_FACT_CHECKSUM;
    uint32_t whole = udp ? get16(l4 + 4) : o->end - o->l4;
    if (whole == 0)
        whole = o->end - o->l4;
    if (taken && y->verify && whole <= here)
        f->flags |= OV_FACT_VERIFIED;
}

/* The outer headers of any packet, as far as they are in order. */
static void read_outer(const struct ov_policy *y, const struct ov_batch *b, size_t i, bool taken,
                       struct facts *f)
{
    struct outer o = {0};
    const uint8_t *packet = b->data + b->offset[i];
    int status =
        outer_parse(packet, b->length[i], b->wire[i], b->link[i], y->base == OV_LENIENT, &o);
    if (status != OV_OK && status != OV_IP_FRAGMENT && status != OV_IP_EXTENSION)
        return;
    const uint8_t *ip = packet + o.l3;
    bool v4 = ip[0] >> 4 == 4;
    f->outer = b->offset[i] + o.l3;
    if (v4)
        read_ipv4(ip, f);
    else
        read_ipv6(ip, f);
    if (v4 ? (ip[0] & 15) != 5 : status != OV_OK || o.l4 != o.l3 + IPV6_LENGTH)
        f->flags |= OV_FACT_EXTENDED;
    if (o.l3 == ETHERNET_LENGTH + TAG_LENGTH) {
        f->flags |= OV_FACT_TAGGED;
        f->outer_tci = get16(packet + ETHERNET_LENGTH);
    }
    if (status == OV_IP_FRAGMENT)
        f->flags |= OV_FACT_FRAGMENT;
    if (status != OV_OK) {
        if (!v4)
            f->ip_protocol = 0;
        return;
    }
    f->ip_protocol = o.protocol;
    read_transport(y, packet, &o, taken, f);
}

/* The outer IP header of a datagram that a socket has received: as it is, if it is here. */
static void read_socket(const struct ov_batch *b, size_t i, struct facts *f)
{
    uint64_t at = b->outer[i], here = at > b->size ? 0 : b->size - at;
    const uint8_t *ip = b->data + at;
    if (here >= 20 && ip[0] >> 4 == 4)
        read_ipv4(ip, f);
    else if (here >= IPV6_LENGTH && ip[0] >> 4 == 6)
        read_ipv6(ip, f);
    if (f->family != 0)
        f->outer = at;
}

/* Any row. */
static void inspect_any(const struct ov_policy *y, const struct ov_batch *b, size_t i, int status,
                        const struct ov_frame *d, struct facts *f)
{
    f->status = (uint8_t)status;
    if (b->status[i] != OV_OK || status == OV_BAD_ROW)
        return;
    bool taken = status == OV_OK || (status >= OV_UNKNOWN_KEY && status <= OV_ECN_CONGESTION);
    if (taken) {
        f->key = d->key;
        f->protocol = d->protocol;
    }
    if (status == OV_OK) {
        uint32_t made = d->ethertype != 0 ? ETHERNET_LENGTH : 0;
        f->frame_offset = b->offset[i] + d->header;
        f->frame_length = d->length - made;
        f->frame_wire = d->wire - made;
        f->flags |= made != 0 ? (uint8_t)OV_FACT_IP : 0;
    }
    if (b->length[i] < b->wire[i])
        f->flags |= OV_FACT_CUT;
    if (b->link[i] == OV_UDP)
        read_socket(b, i, f);
    else
        read_outer(y, b, i, taken, f);
}

/* The fast lane: what decap takes and nearly every packet is, all of it here: IPv4 behind
 * Ethernet without tag or options.  Writes the row, the same as the others would, or
 * says false and writes nothing. */
always_inline bool write_plain(const struct ov_policy *y, const uint8_t *packet, uint64_t offset,
                               const struct ov_frame *d, const struct ov_columns *c, size_t i)
{
    enum { L3 = ETHERNET_LENGTH, L4 = ETHERNET_LENGTH + 20 };
    const uint8_t *ip = packet + L3, *l4 = packet + L4;
    uint32_t ip_protocol = ip[9], ports = 0;
    uint32_t flags = ip[6] >> 6 & OV_FACT_DF;
    if (unlikely(!equal32(packet + 12, (uint32_t)ETHERTYPE_IPV4 << 16 | 0x4500, 0xFFFFFF00) ||
                 get16(ip + 2) == 0))
        return false;
    if (likely(ip_protocol == IP_UDP)) {
        ports = get32(l4);
        if (unlikely(get16(l4 + 6) != 0)) {
            flags |= OV_FACT_CHECKSUM;
            flags |= y->verify ? OV_FACT_VERIFIED : 0u;
        }
    } else if (unlikely(ip_protocol != IP_GRE)) {
        return false;
    }
    const uint32_t none[3] = {0};
    c->key[i] = d->key;
    c->outer[i] = c->origin + offset + L3;
    c->frame_offset[i] = c->origin + offset + d->offset;
    c->frame_length[i] = d->length;
    c->frame_wire[i] = d->wire;
    c->flow_label[i] = 0;
    c->ip_id[i] = get16(ip + 4);
    c->outer_tci[i] = 0;
    c->source_port[i] = (uint16_t)(ports >> 16);
    c->destination_port[i] = (uint16_t)ports;
    memcpy(c->source + 16 * i, ip + 12, 4);
    memcpy(c->source + 16 * i + 4, none, 12);
    memcpy(c->destination + 16 * i, ip + 16, 4);
    memcpy(c->destination + 16 * i + 4, none, 12);
    c->status[i] = OV_OK;
    c->protocol[i] = d->protocol;
    c->family[i] = 4;
    c->ip_protocol[i] = (uint8_t)ip_protocol;
    c->tos[i] = ip[1];
    c->ttl[i] = ip[8];
    c->flags[i] = (uint8_t)flags;
    return true;
}

/* The flow hash of the frame that decap would give. */
static uint64_t hash_frame(const uint8_t *packet, const struct ov_frame *d, uint64_t seed)
{
    enum { SEEN = 64 }; /* as much of an IP packet as the hash looks at */
    if (likely(d->ethertype == 0))
        return inner_inspect(packet + d->header, d->length, seed).hash;
    uint8_t frame[ETHERNET_LENGTH + SEEN] = {0};
    uint32_t seen = min32(d->length, sizeof frame) - ETHERNET_LENGTH;
    put16(frame + 12, d->ethertype);
    memcpy(frame + ETHERNET_LENGTH, packet + d->header, seen);
    return inner_inspect(frame, ETHERNET_LENGTH + seen, seed).hash;
}

/* Any row; whether decap would do it. */
static bool inspect_row(const struct plain *plain, const struct ov_batch *b, size_t i,
                        const struct ov_columns *c)
{
    const struct ov_policy *y = plain->policy;
    struct ov_frame d;
    int status = tunnel_decap_row(plain, b, i, &d);
    uint64_t offset = b->offset[i];
    if (status != OV_OK || d.ethertype != 0 || b->link[i] != OV_ETHERNET ||
        b->length[i] != b->wire[i] || !write_plain(y, b->data + offset, offset, &d, c, i)) {
        struct facts f = {0};
        inspect_any(y, b, i, status, &d, &f);
        write_row(c, i, &f);
    }
    if (c->flow_hash != NULL)
        c->flow_hash[i] = status == OV_OK ? hash_frame(b->data + offset, &d, c->seed) : 0;
    return status == OV_OK;
}

size_t ov_inspect_batch(const struct ov_policy *policy, const struct ov_batch *batch,
                        const struct ov_columns *columns)
{
    /* Copies that no store through the columns can reach. */
    const struct ov_policy y = *policy;
    const struct ov_batch b = *batch;
    const struct ov_columns c = *columns;
    const struct plain plain = plain_of(policy);
    const uint64_t count = b.count < c.capacity ? b.count : c.capacity;
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        struct ov_frame d;
        uint64_t offset = b.offset[i];
        uint32_t length = b.length[i], wire = b.wire[i];
        kernel_prefetch(&b, i, 0);
        if (likely(kernel_row_good(&b, b.base[i], offset, length, wire) && plain.open &&
                   length == wire && (b.status[i] | b.link[i]) == 0 && c.flow_hash == NULL &&
                   plain_decap(&plain, b.data + offset, length, &d) &&
                   write_plain(&y, b.data + offset, offset, &d, &c, i)))
            done++;
        else
            done += inspect_row(&plain, &b, i, &c);
    }
    return done;
}
