/* load.c: the same frames again and again, and a sink: what stands between is measured. */
#include "load.h"

#include <errno.h>

struct load {
    struct device device;
    struct ov_batch b; /* the frames, in memory of its own */
};

static int64_t load_recv(struct device *d, struct ov_batch *b)
{
    struct load *l = (struct load *)d;
    uint64_t count = l->b.count < b->capacity ? l->b.count : b->capacity, bytes = 0;
    b->data = l->b.data;
    b->size = l->b.size;
    b->count = count;
    memcpy(b->base, l->b.base, 8 * count);
    memcpy(b->offset, l->b.offset, 8 * count);
    memcpy(b->length, l->b.length, 4 * count);
    memcpy(b->wire, l->b.length, 4 * count);
    memset(b->mss, 0, 2 * count);
    memset(b->status, 0, count);
    memset(b->protocol, 0, count);
    memset(b->link, 0, count);
    memset(b->checksum, 0, count);
    for (uint64_t i = 0; i < count; i++)
        bytes += l->b.length[i];
    device_count(&d->stats.rx_packets, count);
    device_count(&d->stats.rx_bytes, bytes);
    return (int64_t)count;
}

static size_t load_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count)
{
    uint64_t bytes = 0;
    for (size_t k = 0; k < count; k++)
        bytes += b->length[rows[k]];
    device_count(&d->stats.tx_packets, count);
    device_count(&d->stats.tx_bytes, bytes);
    return count;
}

static void load_close(struct device *d)
{
    struct load *l = (struct load *)d;
    free(l->b.data);
    free(l->b.base);
    free(l->b.length);
    free(l);
}

static const struct device_ops load_ops = {load_recv, load_send, load_close};

struct device *load_open(const uint8_t *data, const uint32_t *lengths, size_t count,
                         uint32_t headroom, bool underlay)
{
    struct load *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    uint64_t size = 0, at = 0, from = 0;
    for (size_t i = 0; i < count; i++)
        size += (lengths[i] + headroom + 63) & ~(uint64_t)63;
    l->b.data = aligned_alloc(64, size + 64);
    l->b.base = malloc(16 * (count + 1));
    l->b.length = malloc(4 * (count + 1));
    l->device = (struct device){.ops = &load_ops, .fd = -1, .mtu = 65535, .lends = true};
    l->device.underlay = underlay;
    if (l->b.data == NULL || l->b.base == NULL || l->b.length == NULL) {
        load_close(&l->device);
        errno = ENOMEM;
        return NULL;
    }
    l->b.offset = l->b.base + count;
    l->b.size = size;
    l->b.count = count;
    for (size_t i = 0; i < count; i++) {
        l->b.base[i] = at;
        l->b.offset[i] = at + headroom;
        l->b.length[i] = lengths[i];
        memcpy(l->b.data + at + headroom, data + from, lengths[i]);
        from += lengths[i];
        at += (lengths[i] + headroom + 63) & ~(uint64_t)63;
    }
    return &l->device;
}
