/* decap.c: what of decap.h is off the fast path. */
#include "decap.h"

bool decap_key_known(const struct ov_policy *y, uint64_t key)
{
    uint64_t low = 0, high = y->key_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (y->keys[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < y->key_count && y->keys[low] == key;
}

struct tag_answer decap_tags(const struct ov_policy *y, int protocol, const uint8_t *frame,
                             uint32_t length, bool in_header)
{
    if ((protocol == OV_NVGRE && y->base != OV_LENIENT) || y->inner_vlan == OV_VLAN_REJECT)
        return (struct tag_answer){.status = OV_INNER_TAGGED};
    if (y->inner_vlan == OV_VLAN_STRIP)
        return (struct tag_answer){.remove = (uint8_t)tag_bytes(frame, length)};
    return (struct tag_answer){.insert = in_header ? TAG_LENGTH : 0};
}

struct mark_answer decap_mark_rare(const struct ov_policy *y, const uint8_t *frame, uint32_t length,
                                   uint8_t tos)
{
    /* RFC 6040, figure 4, by inner and outer codepoint; 4 is a drop. */
    static const uint8_t merged[4][4] = {
        {0, 0, 0, 4}, /* Not-ECT */
        {1, 1, 1, 3}, /* ECT(1) */
        {2, 1, 2, 3}, /* ECT(0) */
        {3, 3, 3, 3}, /* CE */
    };
    struct mark_answer nothing = {0};
    struct inner in = inner_inspect(frame, length, 0);
    if (in.version == 0)
        return nothing;
    uint8_t ecn = in.tos & ECN_MASK;
    if (y->ecn)
        ecn = merged[ecn][tos & ECN_MASK];
    if (ecn > ECN_MASK)
        return (struct mark_answer){.status = OV_ECN_CONGESTION};
    uint8_t now = (uint8_t)(((y->uniform ? tos : in.tos) & ~ECN_MASK) | ecn);
    if (now == in.tos)
        return nothing;
    return (struct mark_answer){.tos_at = (uint8_t)in.l3, .tos = now};
}

void decap_head(const struct ov_frame *d, uint8_t *frame)
{
    memset(frame, 0, 12);
    put16(frame + 12, d->ethertype);
}

void decap_mend(const struct ov_frame *d, uint8_t *frame, int shift)
{
    if (d->tos_at != 0) {
        uint8_t *ip = frame + d->tos_at + shift;
        uint16_t old = get16(ip), now;
        if (ip[0] >> 4 == 4) {
            now = (uint16_t)((old & 0xFF00) | d->tos);
            put16(ip + 10, checksum_update(get16(ip + 10), old, now));
        } else {
            now = (uint16_t)((old & 0xF00F) | (uint16_t)(d->tos << 4));
        }
        put16(ip, now);
    }
    if (d->l4 != 0) {
        uint32_t l3 = (uint32_t)(ETHERNET_LENGTH + shift);
        struct offload o = {
            .l3 = l3,
            .l4 = (uint32_t)((int)d->l4 + shift),
            .end = (uint32_t)((int)d->l4_end + shift),
            .version = frame[l3] >> 4,
            .tcp = d->l4_tcp,
        };
        offload_complete(frame, &o);
    }
}

/* ---- the public names ------------------------------------------------------- */

size_t ov_decap_length(const struct ov_frame *d)
{
    return (size_t)d->length + d->insert - d->remove;
}

void ov_decap_write(const struct ov_frame *d, const uint8_t *packet, uint8_t *out)
{
    const uint8_t *frame = packet + d->offset;
    if (d->ethertype != 0) {
        decap_head(d, out);
        memcpy(out + ETHERNET_LENGTH, packet + d->header, d->length - ETHERNET_LENGTH);
        decap_mend(d, out, 0);
        return;
    }
    memcpy(out, frame, 12);
    if (d->insert != 0) {
        put16(out + 12, ETHERTYPE_CTAG);
        put16(out + 14, d->tci);
    }
    memcpy(out + 12 + d->insert, frame + 12 + d->remove, d->length - 12 - d->remove);
    decap_mend(d, out, d->insert - d->remove);
}
