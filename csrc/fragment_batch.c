/* fragment_batch.c: outer fragments of batches, for the API; what a fragment is, is fragment.c's.
 */
#include "fragment.h"
#include "kernel.h"

static struct fragments *inside(struct ov_fragments *f)
{
    return (struct fragments *)(void *)f;
}

size_t ov_fragments_size(uint64_t memory)
{
    return fragment_size(memory);
}

struct ov_fragments *ov_fragments_init(void *at, uint64_t memory, uint64_t timeout, uint64_t seed)
{
    return (struct ov_fragments *)(void *)fragment_init(at, memory, timeout, seed);
}

void ov_fragments_stats(const struct ov_fragments *f, struct ov_fragment_stats *stats)
{
    struct fragment_stats s;
    fragment_stats((const struct fragments *)(const void *)f, &s);
    *stats = (struct ov_fragment_stats){
        .taken = s.taken,
        .joined = s.joined,
        .overlaps = s.overlaps,
        .limits = s.limits,
        .timeouts = s.timeouts,
        .refused = s.refused,
        .held = s.held,
        .packets = s.packets,
        .pending = s.pending,
        .memory = s.memory,
    };
}

size_t ov_fragments_expire(struct ov_fragments *f, uint64_t now)
{
    return fragment_expire(inside(f), now);
}

/* One row that decap calls a fragment; its status. */
static int push_row(struct fragments *f, const struct ov_batch *in, size_t i, struct ov_batch *out,
                    uint64_t now)
{
    uint64_t offset = in->offset[i];
    uint32_t length = in->length[i], wire = in->wire[i], bytes;
    const uint8_t *packet = in->data + offset, *whole;
    if (!kernel_row_good(in, in->base[i], offset, length, wire))
        return OV_BAD_ROW;
    if (length != wire)
        return OV_FRAME_CUT;
    int status = fragment_push(f, packet, length, in->link[i], now, &whole, &bytes);
    if (status != OV_OK)
        return status;
    if (whole == packet) /* it is none */
        return OV_IP_FRAGMENT;
    uint8_t *to = kernel_append(out, bytes, bytes, (uint32_t)i);
    if (to == NULL)
        return OV_NO_ROOM;
    memcpy(to, whole, bytes);
    kernel_label(out, out->count - 1, 0, OV_NONE);
    out->link[out->count - 1] = in->link[i];
    return OV_OK;
}

size_t ov_fragments_batch(struct ov_fragments *f, struct ov_batch *in, struct ov_batch *out,
                          const uint64_t *now)
{
    uint64_t before = out->count;
    for (size_t i = 0; i < in->count; i++)
        if (in->status[i] == OV_IP_FRAGMENT)
            in->status[i] = (uint8_t)push_row(inside(f), in, i, out, now[i]);
    return (size_t)(out->count - before);
}
