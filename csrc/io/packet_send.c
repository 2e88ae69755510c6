/* packet_send.c: what leaves, many packets a system call.  Super-frames of a port
 * and STT's super-packets are the kernel's to cut, where it does; those of VXLAN
 * and NVGRE are cut here. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "offload.h"
#include "outer.h"
#include "packet.h"
#include "split.h"
#include "vnet.h"

enum { PARTS = 3 }; /* virtio header, outer headers of a cut packet, payload */

struct packet_sender {
    struct mmsghdr messages[PACKET_BURST];
    struct iovec parts[PACKET_BURST][PARTS];
    uint8_t vnets[PACKET_BURST][VNET_LENGTH];
    uint8_t headers[PACKET_BURST][SPLIT_HEADERS_MAX];
    uint32_t rows[PACKET_BURST];
    bool last[PACKET_BURST]; /* packet of its row */
    unsigned count;
    uint32_t refused[PACKET_BURST]; /* rows that the kernel will not cut */
    unsigned refused_count;
    size_t sent; /* rows */
};

struct packet_sender *packet_sender_open(void)
{
    struct packet_sender *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    for (size_t i = 0; i < PACKET_BURST; i++) {
        s->messages[i].msg_hdr.msg_iov = s->parts[i];
        s->parts[i][0] = (struct iovec){s->vnets[i], VNET_LENGTH};
    }
    return s;
}

void packet_sender_close(struct packet_sender *s)
{
    free(s);
}

/* ---- to the kernel ------------------------------------------------------------------ */

static uint8_t status_of(int error)
{
    switch (error) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return OV_DEVICE_FULL;
    case ENETDOWN:
    case ENXIO:
    case ENODEV:
        return OV_DEVICE_DOWN;
    case EMSGSIZE:
        return OV_MTU_EXCEEDED;
    default:
        return OV_DEVICE_REFUSED;
    }
}

/* Whether message k is a super-frame that may yet go in packets cut here. */
static bool may_cut(const struct packet *p, const struct ov_batch *b, unsigned k)
{
    const struct packet_sender *s = p->sender;
    return p->protocols == 0 && b->mss[s->rows[k]] != 0 && s->messages[k].msg_hdr.msg_iovlen == 2;
}

/* Hand over what is waiting.  A row of many packets is lost when any of them is. */
static void hand_over(struct packet *p, struct ov_batch *b)
{
    struct packet_sender *s = p->sender;
    struct device *d = &p->device;
    unsigned at = 0;
    int error = 0;
    while (at < s->count) {
        int n = error == EAGAIN
                    ? -1
                    : sendmmsg(p->socket, s->messages + at, s->count - at, MSG_DONTWAIT);
        if (n < 0 && error != EAGAIN)
            error = errno;
        if (n < 0 && error == EINTR)
            continue;
        if (n <= 0) { /* the first of them; the others are tried, unless there is no room at all */
            if (n < 0 && error == EINVAL && may_cut(p, b, at))
                s->refused[s->refused_count++] = s->rows[at];
            else if (b->status[s->rows[at]] == OV_OK)
                device_lose(d, b, s->rows[at], status_of(n < 0 ? error : EAGAIN));
            at++;
            continue;
        }
        for (unsigned end = at + (unsigned)n; at < end; at++) {
            uint32_t i = s->rows[at];
            if (!s->last[at] || b->status[i] != OV_OK)
                continue;
            s->sent++;
            device_count(&d->stats.tx_packets, 1);
            device_count(&d->stats.tx_bytes, b->length[i]);
        }
    }
    s->count = 0;
}

static void push_frame_cut(struct packet *p, struct ov_batch *b, uint32_t i);

static void flush(struct packet *p, struct ov_batch *b)
{
    struct packet_sender *s = p->sender;
    hand_over(p, b);
    if (unlikely(s->refused_count != 0)) {
        uint32_t rows[PACKET_BURST];
        unsigned count = s->refused_count;
        memcpy(rows, s->refused, count * sizeof rows[0]);
        s->refused_count = 0;
        for (unsigned k = 0; k < count; k++)
            push_frame_cut(p, b, rows[k]);
        hand_over(p, b);
    }
}

/* The place of one packet more, of row i. */
static unsigned reserve(struct packet *p, struct ov_batch *b, uint32_t i, bool last)
{
    struct packet_sender *s = p->sender;
    if (s->count == PACKET_BURST)
        flush(p, b);
    s->rows[s->count] = i;
    s->last[s->count] = last;
    return s->count++;
}

/* Row i as it is. */
static void push(struct packet *p, struct ov_batch *b, uint32_t i, struct vnet v)
{
    struct packet_sender *s = p->sender;
    unsigned k = reserve(p, b, i, true);
    memcpy(s->vnets[k], &v, sizeof v);
    s->parts[k][1] = (struct iovec){b->data + b->offset[i], b->length[i]};
    s->messages[k].msg_hdr.msg_iovlen = 2;
}

/* One of the packets that row i stands for: this many bytes written to its place's
 * headers, then these of the row. */
static void push_part(struct packet *p, const struct ov_batch *b, uint32_t i, unsigned k,
                      uint32_t headers, uint32_t at, uint32_t bytes)
{
    struct packet_sender *s = p->sender;
    memset(s->vnets[k], 0, VNET_LENGTH);
    s->parts[k][1] = (struct iovec){s->headers[k], headers};
    s->parts[k][2] = (struct iovec){b->data + b->offset[i] + at, bytes};
    s->messages[k].msg_hdr.msg_iovlen = 3;
}

/* A super-packet in the packets that it stands for. */
static void push_cut(struct packet *p, struct ov_batch *b, uint32_t i, const struct split *cut)
{
    const uint8_t *packet = b->data + b->offset[i];
    for (uint32_t n = 0; n < cut->count && b->status[i] == OV_OK; n++) {
        unsigned k = reserve(p, b, i, n + 1 == cut->count);
        uint32_t at, bytes = split_packet(cut, packet, n, p->sender->headers[k], &at);
        push_part(p, b, i, k, cut->headers, at, bytes);
    }
}

/* The same for a super-frame. */
static void push_frame_cut(struct packet *p, struct ov_batch *b, uint32_t i)
{
    const uint8_t *frame = b->data + b->offset[i];
    struct cut cut;
    if (!offload_plan(frame, b->length[i], b->mss[i], &cut)) {
        device_lose(&p->device, b, i, OV_DEVICE_REFUSED);
        return;
    }
    for (uint32_t n = 0; n < cut.count && b->status[i] == OV_OK; n++) {
        unsigned k = reserve(p, b, i, n + 1 == cut.count);
        uint32_t at, bytes = offload_cut(frame, &cut, n, p->sender->headers[k], &at);
        push_part(p, b, i, k, cut.headers, at, bytes);
    }
}

/* ---- a port --------------------------------------------------------------------------- */

static int send_frame(struct packet *p, struct ov_batch *b, uint32_t i)
{
    const uint8_t *frame = b->data + b->offset[i];
    uint32_t length = b->length[i];
    struct vnet v;
    if (!vnet_give(&v, frame, length, b->mss[i], b->checksum[i]))
        return OV_DEVICE_REFUSED;
    push(p, b, i, v);
    return OV_OK;
}

/* ---- the underlay ----------------------------------------------------------------------- */

/* An STT packet of any length, its outer checksum complete or partial: it goes as a
 * TCP packet whose checksum is the kernel's to complete, and above the MTU as a
 * super-segment, of which the kernel makes STT's segments: what it adds to the
 * sequence number is STT's offset. */
static int send_stt(struct packet *p, struct ov_batch *b, uint32_t i, const struct offload *o)
{
    uint8_t *packet = b->data + b->offset[i];
    uint32_t link = __atomic_load_n(&p->device.mtu, __ATOMIC_RELAXED);
    uint32_t mtu = paths_mtu(&p->paths, packet + o->l3, link), before = o->l4 - o->l3 + TCP_LENGTH;
    uint32_t segment = 0;
    struct vnet v;
    if (o->end - o->l3 > mtu) {
        if (mtu <= before)
            return OV_MTU_EXCEEDED;
        segment = min32(mtu - before, UINT16_MAX);
    }
    put16(packet + offload_field(o), offload_seed(packet, o));
    if (!vnet_give(&v, packet, b->length[i], (uint16_t)segment, OV_CSUM_PARTIAL))
        return OV_DEVICE_REFUSED;
    push(p, b, i, v);
    return OV_OK;
}

/* A VXLAN or NVGRE packet whose frame is a super-frame, or has a partial checksum. */
static int send_cut(struct packet *p, struct ov_batch *b, uint32_t i, const struct inner *outer)
{
    uint8_t *packet = b->data + b->offset[i];
    uint8_t protocol = outer->protocol == IP_GRE ? OV_NVGRE : OV_VXLAN;
    struct split cut;
    if (b->mss[i] == 0) {
        if (!split_complete(packet, b->length[i], protocol))
            return OV_DEVICE_REFUSED;
        push(p, b, i, (struct vnet){0});
        return OV_OK;
    }
    if (!split_plan(packet, b->length[i], protocol, b->mss[i], &cut))
        return OV_DEVICE_REFUSED;
    if (cut.largest > __atomic_load_n(&p->device.mtu, __ATOMIC_RELAXED))
        return OV_MTU_EXCEEDED;
    push_cut(p, b, i, &cut);
    return OV_OK;
}

static int send_packet(struct packet *p, struct ov_batch *b, uint32_t i)
{
    const uint8_t *packet = b->data + b->offset[i];
    uint32_t length = b->length[i];
    bool whole = b->mss[i] == 0 && b->checksum[i] != OV_CSUM_PARTIAL;
    if (!whole || (p->protocols >> OV_STT & 1)) {
        struct inner outer = inner_inspect(packet, length, 0);
        struct offload o;
        if (outer.protocol == IP_TCP && offload_find(packet, length, &outer, &o))
            return send_stt(p, b, i, &o);
        if (!whole)
            return send_cut(p, b, i, &outer);
    }
    push(p, b, i, (struct vnet){0});
    return OV_OK;
}

/* ---- send ----------------------------------------------------------------------------------- */

size_t packet_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count)
{
    struct packet *p = (struct packet *)d;
    p->sender->sent = 0;
    for (size_t k = 0; k < count; k++) {
        uint32_t i = rows[k];
        int status;
        if (b->status[i] != OV_OK)
            continue;
        if (b->offset[i] > b->size || b->length[i] > b->size - b->offset[i])
            status = OV_BAD_ROW;
        else if (b->length[i] < b->wire[i])
            status = OV_FRAME_CUT;
        else if (b->length[i] < ETHERNET_LENGTH)
            status = OV_FRAME_TOO_SHORT;
        else
            status = p->protocols != 0 ? send_packet(p, b, i) : send_frame(p, b, i);
        if (status != OV_OK && b->status[i] == OV_OK)
            device_lose(d, b, i, (uint8_t)status);
    }
    flush(p, b);
    return p->sender->sent;
}
