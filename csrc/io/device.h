/* device.h: what frames and packets come from and go to.
 *
 * Lives here: the interface that every device has.  Must not: any one device.
 *
 * Guarantees of every device: recv and send return at once, waiting or not;
 * they allocate nothing; a row that was not sent has a status that says why,
 * and is counted under it.  One thread uses a device at a time; its counters
 * may be read by any.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdlib.h>

#include "overlay.h"
#include "wire.h"

enum { DEVICE_FRAME_MAX = 65535 + 22 }; /* the largest IP packet, behind Ethernet and two tags */

/* What a device took and gave; lost is by reason, of both ways. */
struct device_stats {
    uint64_t rx_packets, rx_bytes; /* given to recv's caller: a super-frame is one */
    uint64_t tx_packets, tx_bytes; /* taken from send's caller */
    uint64_t lost[OV_STATUS_COUNT];
};

struct device;

struct device_ops {
    /* Empty the batch, then fill it with what waits, at most what there is room
     * for; rows begin gap bytes after one another's end, so that there is headroom.
     * Nothing is lost for want of room: what does not fit comes with the next call.
     * A device with lends set may point data and size at memory of its own, which
     * stays until the next recv.  Returns the rows, or -errno when the device
     * can give no more until something is done about it. */
    int64_t (*recv)(struct device *d, struct ov_batch *b);
    /* Send the rows named, in this order; rows whose status is not OV_OK are not
     * sent.  Rows are read and may be changed where they lie, headroom included;
     * super-frames (mss) and partial checksums are the device's to cut, complete
     * or pass on.  Returns the rows sent. */
    size_t (*send)(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count);
    /* Give back everything, the struct too. */
    void (*close)(struct device *d);
};

struct device {
    const struct device_ops *ops;
    int fd; /* readable when there is something to recv, or -1: ask now and then */
    uint32_t
        mtu; /* of what send takes: IP bytes for a frame device, outer IP bytes for the underlay */
    uint8_t mac[6]; /* of the interface, or zero */
    bool lends;
    bool underlay; /* what it carries are outer packets */
    bool suspect;  /* it cannot say which inner checksums are partial: look */
    struct device_stats stats;
};

/* ---- rows for recv ------------------------------------------------------------ */

always_inline void device_clear(struct ov_batch *b)
{
    b->count = b->used = 0;
}

/* Bytes that the next row may have, or 0 when the rows are used up. */
always_inline uint64_t device_room(const struct ov_batch *b)
{
    uint64_t at = b->used + b->gap;
    return b->count < b->capacity && at < b->size ? b->size - at : 0;
}

/* Where the next row's bytes go. */
always_inline uint8_t *device_at(const struct ov_batch *b)
{
    return b->data + b->used + b->gap;
}

/* Add a row of bytes at offset, its headroom beginning at base; all else is zero. */
always_inline size_t device_row(struct ov_batch *b, uint64_t base, uint64_t offset, uint32_t length)
{
    size_t i = b->count++;
    b->base[i] = base;
    b->offset[i] = offset;
    b->length[i] = b->wire[i] = length;
    b->key[i] = b->outer[i] = 0;
    b->origin[i] = 0;
    b->mss[i] = 0;
    b->status[i] = OV_OK;
    b->protocol[i] = b->link[i] = b->checksum[i] = 0;
    return i;
}

/* Add a row of length bytes that were written to device_at(b).  Rows begin at
 * multiples of 16 bytes after the gap, so that their headers are read well. */
always_inline size_t device_append(struct ov_batch *b, uint32_t length)
{
    uint64_t base = b->used, offset = base + b->gap;
    b->used = (offset + length + 15) & ~(uint64_t)15;
    return device_row(b, base, offset, length);
}

/* ---- counting ------------------------------------------------------------------- */

/* One more, for readers in other threads to see whole. */
always_inline void device_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

always_inline void device_lose(struct device *d, struct ov_batch *b, size_t i, uint8_t status)
{
    b->status[i] = status;
    device_count(&d->stats.lost[status], 1);
}

#endif
