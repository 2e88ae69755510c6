/* vnet.c: see vnet.h; the frames for which the header says something. */
#include "vnet.h"

enum { TCP_CWR = 0x80 };

static bool find(const uint8_t *frame, uint32_t length, struct offload *o)
{
    if (length < ETHERNET_LENGTH)
        return false;
    struct inner in = inner_inspect(frame, length, 0);
    return offload_find(frame, length, &in, o);
}

bool vnet_take_any(const struct vnet *v, uint8_t *frame, uint32_t length, uint16_t *mss,
                   uint8_t *checksum)
{
    uint8_t type = v->gso_type & (uint8_t)~VNET_GSO_ECN;
    if (type == VNET_GSO_NONE)
        return offload_complete_at(frame, length, v->csum_start, v->csum_offset);
    struct offload o;
    if (v->gso_size == 0 || !find(frame, length, &o))
        return false;
    if (type != vnet_kind(&o))
        return false;
    /* The seed is the same whoever writes it; without NEEDS_CSUM a whole
     * checksum stands there. */
    if ((v->flags & VNET_NEEDS_CSUM) == 0)
        put16(frame + offload_field(&o), offload_seed(frame, &o));
    *mss = v->gso_size;
    *checksum = OV_CSUM_PARTIAL;
    return true;
}

bool vnet_give_any(struct vnet *v, const uint8_t *frame, uint32_t length, uint16_t mss)
{
    struct offload o;
    if (!find(frame, length, &o))
        return false;
    uint32_t headers = o.l4 + (o.tcp ? (frame[o.l4 + 12] >> 4) * 4u : 8u);
    if (headers > o.end)
        return false;
    v->flags = VNET_NEEDS_CSUM;
    v->csum_start = (uint16_t)o.l4;
    v->csum_offset = (uint16_t)(offload_field(&o) - o.l4);
    if (mss == 0 || o.end - headers <= mss)
        return true; /* one packet's worth */
    v->gso_type = vnet_kind(&o);
    if (o.tcp && (frame[o.l4 + 13] & TCP_CWR) != 0)
        v->gso_type |= VNET_GSO_ECN;
    v->header_length = (uint16_t)headers;
    v->gso_size = mss;
    return true;
}
