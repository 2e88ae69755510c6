/* rewrite_look.c: reading a packet for the rewriter: everything but checksums is judged. */
#include "erspan.h"
#include "rewrite.h"
#include "stt.h"
#include "tunnel.h"

bool rewrite_is_foreign(int status)
{
    return status == OV_LINK_TYPE || status == OV_ETHERNET_TRUNCATED || status == OV_NOT_IP ||
           status == OV_UNKNOWN_PROTOCOL || status == OV_GRE_PROTOCOL;
}

static int look_link(const struct ov_batch *b, size_t i, struct look *k)
{
    const uint32_t length = b->length[i];
    const uint8_t *packet = k->packet;
    uint32_t version = 0;
    k->tci = -1;
    if (b->link[i] == OV_RAW_IP) {
        version = length != 0 ? packet[0] >> 4 : 0;
        k->o.version = (uint8_t)version;
        return length == 0 ? OV_IP_TRUNCATED : version == 4 || version == 6 ? OV_OK : OV_IP_VERSION;
    }
    if (b->link[i] != OV_ETHERNET)
        return OV_LINK_TYPE;
    if (length < ETHERNET_LENGTH)
        return OV_ETHERNET_TRUNCATED;
    uint16_t ethertype = get16(packet + 12);
    k->o.l3 = ETHERNET_LENGTH;
    if (unlikely(ethertype == ETHERTYPE_CTAG)) {
        if (length < ETHERNET_LENGTH + TAG_LENGTH)
            return OV_ETHERNET_TRUNCATED;
        k->tci = get16(packet + 14);
        ethertype = get16(packet + 16);
        k->o.l3 += TAG_LENGTH;
    }
    k->knows = KNOWS_LINK;
    version = ethertype == ETHERTYPE_IPV4 ? 4 : ethertype == ETHERTYPE_IPV6 ? 6 : 0;
    k->o.version = (uint8_t)version;
    return version != 0 ? OV_OK : OV_NOT_IP;
}

static int look_ipv4(const struct ov_batch *b, size_t i, struct look *k)
{
    struct outer *o = &k->o;
    const uint8_t *ip = k->packet + o->l3;
    uint32_t left = b->length[i] - o->l3, exist = b->wire[i] - o->l3;
    if (left < 20)
        return OV_IP_TRUNCATED;
    if (ip[0] >> 4 != 4)
        return OV_IP_VERSION;
    uint32_t header = (ip[0] & 15u) * 4, total = get16(ip + 2);
    if (header < 20)
        return OV_IP_HEADER_LENGTH;
    if (left < header)
        return OV_IP_TRUNCATED;
    o->protocol = ip[9];
    o->tos = ip[1];
    k->knows |= KNOWS_IP;
    if (total == 0) /* left to the sender's NIC */
        total = exist;
    if (total < header || total > exist)
        return OV_IP_LENGTH;
    o->l4 = o->l3 + header;
    o->end = o->l3 + total;
    o->here = min32(o->end, b->length[i]);
    return test16(ip + 6, 0x3FFF) ? OV_IP_FRAGMENT : OV_OK;
}

static int look_ipv6(const struct ov_batch *b, size_t i, struct look *k)
{
    struct outer *o = &k->o;
    const uint8_t *ip = k->packet + o->l3;
    if (b->length[i] - o->l3 < IPV6_LENGTH)
        return OV_IP_TRUNCATED;
    if (ip[0] >> 4 != 6)
        return OV_IP_VERSION;
    uint32_t payload = get16(ip + 4), exist = b->wire[i] - o->l3 - IPV6_LENGTH;
    o->protocol = ip[6];
    o->tos = (uint8_t)(get16(ip) >> 4);
    k->knows |= KNOWS_IP;
    if (payload == 0)
        payload = exist;
    if (payload > exist)
        return OV_IP_LENGTH;
    o->l4 = o->l3 + IPV6_LENGTH;
    o->end = o->l4 + payload;
    o->here = min32(o->end, b->length[i]);
    return outer_ipv6_extensions(k->packet, ip[6], o);
}

/* The tunnel's header is in order: its key is the field of this many bytes at this
 * offset, 0 where it has none. */
static void found(struct look *k, const struct ov_frame *d, uint32_t key_at, uint32_t key_bytes)
{
    k->protocol = d->protocol;
    k->knows |= KNOWS_TUNNEL | KNOWS_KEY;
    k->key = d->key;
    k->key_at = key_bytes != 0 ? key_at : 0;
    k->key_bytes = key_bytes;
    if (d->ethertype != 0)
        k->raw = d->offset;
    else
        k->frame = d->offset;
    k->ethertype = d->ethertype;
}

static int look_udp(const struct ov_policy *y, struct look *k)
{
    const uint32_t over_udp = 1u << OV_VXLAN | 1u << OV_GENEVE | 1u << OV_GPE;
    struct outer *o = &k->o;
    struct ov_frame d = {0};
    const uint8_t *udp = k->packet + o->l4;
    if ((y->protocols & over_udp) == 0)
        return OV_UNKNOWN_PROTOCOL;
    if (o->here - o->l4 < UDP_LENGTH)
        return OV_UDP_TRUNCATED;
    int owner = plain_udp_owner(y, get16(udp + 2));
    if (owner == OV_NONE)
        return OV_UNKNOWN_PROTOCOL;
    k->protocol = (uint8_t)owner;
    k->knows |= KNOWS_TUNNEL;
    uint32_t length = get16(udp + 4);
    if (length == 0)
        length = o->end - o->l4;
    if (length < UDP_LENGTH || length > o->end - o->l4)
        return OV_UDP_LENGTH;
    o->end = o->l4 + length;
    o->here = min32(o->here, o->end);
    k->ports = true;
    k->sum_at = get16(udp + 6) != 0 ? o->l4 + 6 : 0;
    int status = tunnel_open_header(y, k->packet, o, &d);
    if (status == OV_OK)
        found(k, &d, o->l4 + UDP_LENGTH + 4, 3); /* where all of them have the VNI */
    return status;
}

static int look_gre(const struct ov_policy *y, struct look *k)
{
    const uint32_t over_gre = 1u << OV_NVGRE | 1u << OV_GRE | 1u << OV_ERSPAN;
    struct outer *o = &k->o, cut = *o;
    struct ov_frame d = {0};
    const uint8_t *gre = k->packet + o->l4;
    if ((y->protocols & over_gre) == 0)
        return OV_UNKNOWN_PROTOCOL;
    if (o->here - o->l4 < GRE_BASE)
        return OV_HEADER_TRUNCATED;
    cut.end++; /* as of a packet that is not all here, whose checksum cannot be judged */
    int status = tunnel_open_header(y, k->packet, &cut, &d);
    if (status != OV_OK)
        return status;
    uint16_t flags = get16(gre);
    if (d.protocol == OV_NVGRE)
        found(k, &d, o->l4 + gre_key_at(flags), 3);
    else if (d.protocol == OV_GRE)
        found(k, &d, o->l4 + gre_key_at(flags), flags & GRE_K ? 4 : 0);
    else
        found(k, &d, o->l4 + gre_length(flags) + 2, d.key != ERSPAN_NO_SESSION ? 2 : 0);
    k->key_mask = d.protocol == OV_ERSPAN ? ERSPAN_SESSION : 0;
    k->sum_at = flags & GRE_C ? o->l4 + 4 : 0;
    return OV_OK;
}

static int look_tcp(const struct ov_policy *y, struct look *k)
{
    const struct outer *o = &k->o;
    const uint8_t *tcp = k->packet + o->l4;
    struct ov_policy trusting = *y;
    struct stt_segment s = {0};
    if (o->here - o->l4 < TCP_LENGTH)
        return OV_TCP_TRUNCATED;
    if (!decap_names(y, OV_STT) || get16(tcp + 2) != STT_PORT)
        return OV_UNKNOWN_PROTOCOL;
    k->protocol = OV_STT;
    k->knows |= KNOWS_TUNNEL;
    trusting.verify = 0;
    int status = stt_segment(&trusting, k->packet, o, &s);
    if (status != OV_OK)
        return status;
    k->ports = true;
    k->sum_at = o->l4 + 16;
    k->frame_id = get32(tcp + 8);
    k->first = s.frame_offset == 0;
    k->partial = s.length != s.frame_length;
    if (!k->first)
        return OV_OK;
    if (s.here < STT_LENGTH)
        return OV_HEADER_TRUNCATED;
    if (k->packet[s.payload] != 0)
        return OV_STT_VERSION;
    const struct ov_frame d = {.protocol = OV_STT,
                               .key = get64(k->packet + s.payload + 8),
                               .offset = s.payload + STT_LENGTH};
    found(k, &d, s.payload + 8, 8);
    return OV_OK;
}

int rewrite_look(const struct ov_policy *y, const struct ov_batch *b, size_t i, struct look *k)
{
    memset(k, 0, sizeof *k);
    k->packet = b->data + b->offset[i];
    int status = look_link(b, i, k);
    if (status == OV_OK)
        status = k->o.version == 4 ? look_ipv4(b, i, k) : look_ipv6(b, i, k);
    if (status != OV_OK)
        return status;
    switch (k->o.protocol) {
    case IP_UDP:
        return look_udp(y, k);
    case IP_GRE:
        return look_gre(y, k);
    case IP_TCP:
        return look_tcp(y, k);
    default:
        return OV_UNKNOWN_PROTOCOL;
    }
}
