/* xdp_send.c: what leaves: rows copied to frames that the kernel sends, super-frames and
 * super-packets cut on the way. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/version.h>

#include "offload.h"
#include "outer.h"
#include "split.h"
#include "xdp.h"

#if LINUX_VERSION_CODE >= 0x050900
#include <linux/if_xdp.h>
#include <sys/socket.h>

enum { KICK = 16 }; /* frames that the kernel sends when told once, at least */

static struct xdp_desc *packet_at(const struct ring *r, uint32_t number)
{
    struct xdp_desc *entries = r->entries;
    return &entries[number & r->mask];
}

/* The frames that have left may be used again. */
static void reap(struct xdp *x)
{
    uint32_t end, at = ring_given(&x->complete, &end);
    for (; at != end && x->spare_count < x->half; at++)
        x->spare[x->spare_count++] = frame_of(*ring_address_at(&x->complete, at));
    ring_took(&x->complete, at);
}

/* Have the kernel send what waits.  0, or the errno of an interface that cannot. */
static int kick(struct xdp *x)
{
    uint32_t waiting = *x->tx.producer - __atomic_load_n(x->tx.consumer, __ATOMIC_ACQUIRE);
    uint32_t turns = waiting / KICK + 2;
    while (ring_sleeps(&x->tx) && turns-- > 0) {
        if (sendto(x->socket, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0)
            break;
        if (errno == ENETDOWN || errno == ENXIO || errno == ENODEV)
            return errno;
    }
    reap(x);
    return 0;
}

void xdp_flush(struct xdp *x)
{
    if (*x->tx.producer != __atomic_load_n(x->tx.consumer, __ATOMIC_ACQUIRE))
        (void)kick(x);
}

/* Whether there are frames for this many packets, or for as many as there can be. */
static bool reserve(struct xdp *x, uint32_t count)
{
    count = min32(count, x->half);
    if (x->spare_count < count)
        reap(x);
    return x->spare_count >= count || (kick(x) == 0 && x->spare_count >= count);
}

/* Send from the last of the spare frames, into which this was written. */
static void push(struct xdp *x, uint32_t length)
{
    const uint32_t at = *x->tx.producer;
    *packet_at(&x->tx, at) = (struct xdp_desc){.addr = x->spare[--x->spare_count], .len = length};
    ring_give(&x->tx, at + 1);
}

static uint8_t *next(const struct xdp *x)
{
    return x->memory + x->spare[x->spare_count - 1];
}

static int push_row(struct xdp *x, const struct ov_batch *b, uint32_t i)
{
    const uint8_t *frame = b->data + b->offset[i];
    const uint32_t tag = tag_bytes(frame, b->length[i]) != 0 ? TAG_LENGTH : 0;
    const uint32_t mtu = __atomic_load_n(&x->device.mtu, __ATOMIC_RELAXED);
    if (b->length[i] - ETHERNET_LENGTH - tag > mtu)
        return OV_MTU_EXCEEDED;
    if (!reserve(x, 1))
        return OV_DEVICE_FULL;
    memcpy(next(x), frame, b->length[i]);
    push(x, b->length[i]);
    return OV_OK;
}

/* A super-packet in the packets that it stands for. */
static int push_split(struct xdp *x, const struct ov_batch *b, uint32_t i, const struct split *s)
{
    const uint8_t *packet = b->data + b->offset[i];
    if (s->largest > __atomic_load_n(&x->device.mtu, __ATOMIC_RELAXED))
        return OV_MTU_EXCEEDED;
    if (!reserve(x, s->count))
        return OV_DEVICE_FULL;
    for (uint32_t n = 0; n < s->count; n++) {
        if (!reserve(x, 1))
            return OV_DEVICE_FULL;
        uint32_t at, bytes = split_packet(s, packet, n, next(x), &at);
        memcpy(next(x) + s->headers, packet + at, bytes);
        push(x, s->headers + bytes);
    }
    return OV_OK;
}

/* ... and a super-frame. */
static int push_cut(struct xdp *x, const struct ov_batch *b, uint32_t i)
{
    const uint8_t *frame = b->data + b->offset[i];
    struct cut cut;
    if (!offload_plan(frame, b->length[i], b->mss[i], &cut))
        return OV_DEVICE_REFUSED;
    if (cut.headers - cut.o.l3 + cut.mss > __atomic_load_n(&x->device.mtu, __ATOMIC_RELAXED))
        return OV_MTU_EXCEEDED;
    if (!reserve(x, cut.count))
        return OV_DEVICE_FULL;
    for (uint32_t n = 0; n < cut.count; n++) {
        if (!reserve(x, 1))
            return OV_DEVICE_FULL;
        uint32_t at, bytes = offload_cut(frame, &cut, n, next(x), &at);
        memcpy(next(x) + cut.headers, frame + at, bytes);
        push(x, cut.headers + bytes);
    }
    return OV_OK;
}

static int send_frame(struct xdp *x, struct ov_batch *b, uint32_t i)
{
    if (b->mss[i] != 0)
        return push_cut(x, b, i);
    if (b->checksum[i] == OV_CSUM_PARTIAL &&
        !offload_complete_any(b->data + b->offset[i], b->length[i]))
        return OV_DEVICE_REFUSED;
    return push_row(x, b, i);
}

/* STT packets of any length leave in segments of the path's MTU. */
static int send_stt(struct xdp *x, struct ov_batch *b, uint32_t i, const struct inner *outer)
{
    const uint8_t *packet = b->data + b->offset[i];
    const uint32_t link = __atomic_load_n(&x->device.mtu, __ATOMIC_RELAXED);
    struct split s;
    if (!split_plan_stt(packet, b->length[i], paths_mtu(&x->paths, packet + outer->l3, link), &s))
        return OV_DEVICE_REFUSED;
    return push_split(x, b, i, &s);
}

static int send_packet(struct xdp *x, struct ov_batch *b, uint32_t i)
{
    uint8_t *packet = b->data + b->offset[i];
    const bool whole = b->mss[i] == 0 && b->checksum[i] != OV_CSUM_PARTIAL;
    if (whole && !(x->protocols >> OV_STT & 1))
        return push_row(x, b, i);
    const struct inner outer = inner_inspect(packet, b->length[i], 0);
    const uint8_t protocol = outer.protocol == IP_GRE ? OV_NVGRE : OV_VXLAN;
    struct split s;
    if (outer.l4 != 0 && outer.protocol == IP_TCP)
        return send_stt(x, b, i, &outer);
    if (b->mss[i] != 0)
        return split_plan(packet, b->length[i], protocol, b->mss[i], &s) ? push_split(x, b, i, &s)
                                                                         : OV_DEVICE_REFUSED;
    if (!whole && !split_complete(packet, b->length[i], protocol))
        return OV_DEVICE_REFUSED;
    return push_row(x, b, i);
}

static int send_row(struct xdp *x, struct ov_batch *b, uint32_t i)
{
    if (b->offset[i] > b->size || b->length[i] > b->size - b->offset[i])
        return OV_BAD_ROW;
    if (b->length[i] < b->wire[i])
        return OV_FRAME_CUT;
    if (b->length[i] < ETHERNET_LENGTH)
        return OV_FRAME_TOO_SHORT;
    return x->protocols != 0 ? send_packet(x, b, i) : send_frame(x, b, i);
}

size_t xdp_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count)
{
    struct xdp *x = (struct xdp *)d;
    const bool down = kick(x) != 0;
    size_t sent = 0;
    for (size_t k = 0; k < count; k++) {
        const uint32_t i = rows[k];
        if (b->status[i] != OV_OK)
            continue;
        const int status = down ? OV_DEVICE_DOWN : send_row(x, b, i);
        if (status != OV_OK) {
            device_lose(d, b, i, (uint8_t)status);
            continue;
        }
        sent++;
        device_count(&d->stats.tx_packets, 1);
        device_count(&d->stats.tx_bytes, b->length[i]);
    }
    (void)kick(x);
    return sent;
}

#else

void xdp_flush(struct xdp *x)
{
    (void)x;
}

size_t xdp_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count)
{
    (void)d, (void)b, (void)rows, (void)count;
    return 0;
}

#endif
