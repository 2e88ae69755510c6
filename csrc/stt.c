/* stt.c: STT's templates, single packets, checks and description; segments are stt_segment.c's. */
#include "stt.h"

/* ---- check ------------------------------------------------------------------ */

int stt_segment(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                struct stt_segment *s)
{
    const uint8_t *tcp = packet + o->l4;
    if (o->here - o->l4 < TCP_LENGTH)
        return OV_TCP_TRUNCATED;
    if (get16(tcp + 2) != STT_PORT)
        return OV_UNKNOWN_PROTOCOL;
    uint32_t header = (tcp[12] >> 4) * 4u;
    if (header != TCP_LENGTH &&
        (y->base != OV_LENIENT || header < TCP_LENGTH || header > o->here - o->l4))
        return OV_STT_DATA_OFFSET;
    if (y->verify && !outer_checksum_good(packet, o, IP_TCP))
        return OV_TCP_CHECKSUM;
    s->payload = o->l4 + header;
    s->length = o->end - s->payload;
    s->here = o->here - s->payload;
    s->frame_length = get16(tcp + 4);
    s->frame_offset = get16(tcp + 6);
    if (s->length == 0)
        return OV_STT_EMPTY;
    if (s->frame_length < STT_FRAME_MIN)
        return OV_STT_LENGTH;
    if (s->frame_offset + s->length > s->frame_length)
        return OV_STT_BOUNDS;
    return OV_OK;
}

/* Step 16: the inner datagram that the header says is to be completed. */
static int open_partial(const uint8_t *stt, uint32_t inner, struct ov_frame *d)
{
    const uint8_t *frame = stt + STT_LENGTH, *ip = frame + ETHERNET_LENGTH;
    bool v4 = stt[1] & STT_IPV4, tcp = stt[1] & STT_TCP;
    uint32_t l4 = stt[2];
    if (l4 < ETHERNET_LENGTH + (v4 ? 20u : 40u))
        return OV_STT_L4_OFFSET;
    uint32_t l4_end = l4 + (tcp ? 20u : 8u);
    if (l4_end > inner)
        return OV_STT_L4_HEADER;
    uint32_t end = ETHERNET_LENGTH + (v4 ? get16(ip + 2) : 40u + get16(ip + 4));
    if (get16(frame + 12) != (v4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6) || ip[0] >> 4 != (v4 ? 4 : 6) ||
        end > inner || end < l4_end)
        return OV_STT_OFFLOAD;
    if (v4 && ((ip[0] & 15u) < 5 || (ip[0] & 15u) * 4 > l4 - ETHERNET_LENGTH))
        return OV_STT_OFFLOAD;
    d->l4 = l4;
    d->l4_end = end;
    d->l4_tcp = tcp;
    return OV_OK;
}

int stt_open(const struct ov_policy *y, const uint8_t *stt, uint32_t here, uint32_t whole,
             uint8_t tos, struct ov_frame *d)
{
    bool lenient = y->base == OV_LENIENT;
    if (here < STT_LENGTH)
        return OV_HEADER_TRUNCATED;
    if (stt[0] != 0)
        return OV_STT_VERSION;
    bool partial = stt[1] & STT_PARTIAL;
    if (partial && stt[1] & STT_VERIFIED && !lenient)
        return OV_STT_FLAGS;
    d->key = get64(stt + 8);
    d->protocol = OV_STT;
    d->checksum = partial                 ? OV_CSUM_PARTIAL
                  : stt[1] & STT_VERIFIED ? OV_CSUM_VERIFIED
                                          : OV_CSUM_UNKNOWN;
    uint16_t tci = get16(stt + 6);
    d->tci = tci & (uint16_t)~STT_TCI_VALID;
    bool tagged = tci & STT_TCI_VALID || (lenient && tci != 0);
    const uint8_t *frame = stt + STT_LENGTH;
    int status = decap_inner(y, frame, here - STT_LENGTH, whole - STT_LENGTH, tagged, d);
    if (status == OV_OK && partial && here == whole)
        status = open_partial(stt, whole - STT_LENGTH, d);
    if (status != OV_OK)
        return status;
    if (partial && stt[1] & STT_TCP)
        d->mss = get16(stt + 4);
    return decap_mark(y, frame, tos, d);
}

int stt_decap(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
              struct ov_frame *d)
{
    struct stt_segment s;
    int status = stt_segment(y, packet, o, &s);
    if (status != OV_OK)
        return status;
    if (s.length != s.frame_length)
        return OV_STT_INCOMPLETE;
    d->offset = s.payload + STT_LENGTH;
    return stt_open(y, packet + s.payload, s.here, s.frame_length, o->tos, d);
}

/* ---- emit ------------------------------------------------------------------- */

struct stt_assist stt_assist(const struct ov_tunnel *t, const struct plan *p, const uint8_t *frame)
{
    struct stt_assist a = {0};
    struct offload o;
    if (p->in.tags * TAG_LENGTH != (int)p->remove ||
        !offload_find(frame, p->length + p->remove, &p->in, &o))
        return a;
    if (!o.tcp && o.version == 4 && get16(frame + offload_field(&o)) == 0)
        return a; /* UDP without a checksum: there is none to speak of */
    if (t->config.inner_checksum == OV_CSUM_VERIFIED && !p->partial) {
        a.flags = STT_VERIFIED;
        return a;
    }
    uint32_t l4 = o.l4 - p->remove;
    if (l4 > 255)
        return a;
    a.flags = (uint8_t)(STT_PARTIAL | (o.version == 4 ? STT_IPV4 : 0) | (o.tcp ? STT_TCP : 0));
    a.l4_offset = (uint8_t)l4;
    a.patch_at = offload_field(&o) - p->remove;
    a.patch = offload_seed(frame, &o);
    if (o.tcp) {
        uint32_t headers = o.l4 + (frame[o.l4 + 12] >> 4) * 4u;
        uint16_t mss = stt_mss(t, p);
        if (headers < o.end && o.end - headers > mss)
            a.mss = mss;
    }
    return a;
}

/* ---- verbs ------------------------------------------------------------------- */

int stt_init(struct ov_tunnel *t, const struct ov_config *config)
{
    if (config->inner_checksum > OV_CSUM_PARTIAL || config->frame_id > UINT32_MAX ||
        outer_init(t, config, IP_TCP, TCP_LENGTH + STT_LENGTH) != 0)
        return -1;
    uint8_t *tcp = t->header + t->l4;
    put16(tcp + 2, STT_PORT);
    tcp[12] = TCP_LENGTH / 4 << 4;
    put64(tcp + TCP_LENGTH + 8, config->key);
    t->transport_sum = checksum_sum(tcp, TCP_LENGTH);
    t->shim_sum = checksum_sum(tcp + TCP_LENGTH, STT_LENGTH);
    return 0;
}

size_t stt_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence)
{
    const struct layout v4 = {ETHERNET_LENGTH, 34,   34 + TCP_LENGTH + STT_LENGTH,
                              false,           true, false};
    struct layout layout = kernel_layout(t);
    if (layout.l3 == ETHERNET_LENGTH && !layout.v6)
        return kernel_encap_rows(t, b, sequence, v4, stt_emit, OV_STT);
    return kernel_encap_rows(t, b, sequence, layout, stt_emit, OV_STT);
}

int stt_describe(const uint8_t *header, size_t length, const struct outer *o,
                 struct ov_config *config)
{
    if (length - o->l4 < TCP_LENGTH)
        return -1;
    const uint8_t *tcp = header + o->l4;
    uint32_t at = o->l4 + (tcp[12] >> 4) * 4u;
    if (at > length || length - at < STT_LENGTH)
        return -1;
    const uint8_t *stt = header + at;
    config->port_low = config->port_high = get16(tcp);
    config->frame_id = get32(tcp + 8);
    config->key = get64(stt + 8);
    if (stt[1] & STT_PARTIAL) {
        config->inner_checksum = OV_CSUM_PARTIAL;
        config->mss = get16(stt + 4);
    } else if (stt[1] & STT_VERIFIED) {
        config->inner_checksum = OV_CSUM_VERIFIED;
    }
    config->checksum = 1;
    return 0;
}
