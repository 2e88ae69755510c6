/* memory.c: two rings, each with one end that sends and one that receives.
 *
 * Lives here: rows on their way through memory.  Must not: locks; what waits is
 * shared by two counters, each written by one end alone.
 */
#include "memory.h"

#include "split.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    CACHE_LINE = 64,
    FRONT = 48, /* bytes kept for an outer IP header before a row, its length rounded up */
    FRONT_IP = 40,
    ROW_MAX = DEVICE_FRAME_MAX + 128, /* a super-frame with all its outer headers */
};
_Static_assert(2 * (ROW_MAX + FRONT + 16) <= MEMORY_SIZE_MIN,
               "a row fits at any place of the ring");

/* A row that waits; its bytes, front first, lie at position at of the ring. */
struct slot {
    uint64_t at;
    uint64_t end; /* the position where the next row may begin */
    uint64_t key;
    uint32_t length;
    uint32_t wire;
    uint16_t mss;
    uint8_t front;
    uint8_t protocol;
    uint8_t link;
    uint8_t checksum;
};

/* Positions and rows are counted up for ever, and taken modulo the sizes. */
struct ring {
    struct slot *slots;
    uint8_t *data;
    uint64_t slot_mask, size;
    uint32_t capacity;
    int event; /* readable while something waits */
    bool closed;
    /* Of the end that sends. */
    _Alignas(CACHE_LINE) uint64_t head; /* rows sent */
    uint64_t position;
    uint64_t tail_seen, freed_seen;
    /* Of the end that receives. */
    _Alignas(CACHE_LINE) uint64_t tail; /* rows received */
    uint64_t freed;                     /* the position up to which bytes are free again */
    /* Of both: whether the end that receives found nothing, and event is not readable. */
    _Alignas(CACHE_LINE) uint32_t resting;
};

struct pair {
    struct ring rings[2];
    uint32_t ends; /* that are open */
};

struct memory {
    struct device device;
    struct pair *pair;
    struct ring *in, *out;
    bool segments;
};

/* ---- the event ------------------------------------------------------------------ */

static void wake(struct ring *r)
{
    uint64_t one = 1;
    if (__atomic_exchange_n(&r->resting, 0, __ATOMIC_SEQ_CST) != 0)
        while (write(r->event, &one, sizeof one) < 0 && errno == EINTR)
            continue;
}

/* After rows were sent. */
static void ring_sent(struct ring *r)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&r->resting, __ATOMIC_RELAXED) != 0)
        wake(r);
}

/* After nothing was found: from now on the next row that is sent wakes.  While
 * a wake is on its way still, the next recv does this. */
static void ring_rest(struct ring *r)
{
    uint64_t count;
    if (__atomic_load_n(&r->resting, __ATOMIC_RELAXED) != 0 ||
        read(r->event, &count, sizeof count) < 0)
        return;
    __atomic_store_n(&r->resting, 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&r->head, __ATOMIC_RELAXED) != r->tail)
        wake(r);
}

/* ---- send ------------------------------------------------------------------------ */

/* The position for a row of bytes in all, or false when it must wait. */
static bool ring_room(struct ring *r, uint64_t head, uint32_t bytes, uint64_t *at)
{
    uint64_t skip = r->size - (r->position & (r->size - 1));
    *at = r->position + (bytes > skip ? skip : 0);
    for (int look = 0; look < 2; look++) {
        if (likely(head - r->tail_seen < r->capacity && *at + bytes - r->freed_seen <= r->size))
            return true;
        r->tail_seen = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
        r->freed_seen = __atomic_load_n(&r->freed, __ATOMIC_ACQUIRE);
    }
    return false;
}

/* Whether one packet is too large for the device; a super-frame stands for several. */
static bool too_large(const struct device *d, const uint8_t *row, uint32_t length)
{
    uint32_t before = 14;
    for (int tags = 0; tags < 2 && before + 4 <= length; tags++) {
        uint16_t type = get16(row + before - 2);
        if (type != 0x8100 && type != 0x88A8)
            break;
        before += 4;
    }
    return length - before > d->mtu;
}

/* Where the bytes of one more row go, whose columns are those of row i; NULL for
 * no room.  front bytes of them are not the row's. */
static uint8_t *ring_append(struct ring *r, const struct ov_batch *b, size_t i, uint64_t *head,
                            uint8_t front, uint32_t length)
{
    uint64_t at;
    if (unlikely(!ring_room(r, *head, front + length, &at)))
        return NULL;
    r->position = (at + front + length + 15) & ~(uint64_t)15;
    r->slots[(*head)++ & r->slot_mask] = (struct slot){
        .at = at,
        .end = r->position,
        .key = b->key[i],
        .length = length,
        .wire = b->wire[i],
        .mss = b->mss[i],
        .front = front,
        .protocol = b->protocol[i],
        .link = b->link[i],
        .checksum = b->checksum[i],
    };
    return r->data + (at & (r->size - 1));
}

/* One packet of those that a super-frame was cut to. */
static bool put_piece(struct ring *r, const struct ov_batch *b, size_t i, uint64_t *head,
                      const uint8_t *headers, uint32_t length, const uint8_t *payload,
                      uint32_t bytes)
{
    uint8_t *to = ring_append(r, b, i, head, 0, length + bytes);
    if (to == NULL)
        return false;
    struct slot *s = &r->slots[(*head - 1) & r->slot_mask];
    s->wire = length + bytes;
    s->mss = s->checksum = 0;
    memcpy(to, headers, opaque(length));
    memcpy(to + length, payload, bytes);
    return true;
}

/* Cut a row to packets: OV_OK, or why none of them was put.  *cut: whether it could be. */
static uint8_t memory_cut(struct memory *m, const struct ov_batch *b, size_t i, uint64_t *head,
                          bool *cut)
{
    const uint8_t *row = b->data + b->offset[i];
    uint32_t length = b->length[i], mtu = m->device.mtu, at, bytes;
    uint8_t headers[SPLIT_HEADERS_MAX], protocol = b->protocol[i];
    uint64_t first = *head, position = m->out->position;
    if (m->device.underlay) {
        struct split s;
        *cut = protocol == OV_STT ? split_plan_stt(row, length, mtu, &s)
                                  : split_plan(row, length, protocol, b->mss[i], &s);
        if (!*cut)
            return OV_OK;
        if (s.largest > mtu)
            return OV_MTU_EXCEEDED;
        for (uint32_t n = 0; n < s.count; n++) {
            bytes = split_packet(&s, row, n, headers, &at);
            if (!put_piece(m->out, b, i, head, headers, s.headers, row + at, bytes))
                goto full;
        }
        return OV_OK;
    }
    struct cut c;
    *cut = offload_plan(row, length, b->mss[i], &c);
    if (!*cut)
        return OV_OK;
    if (c.headers - c.o.l3 + c.mss > mtu)
        return OV_MTU_EXCEEDED;
    for (uint32_t n = 0; n < c.count; n++) {
        bytes = offload_cut(row, &c, n, headers, &at);
        if (!put_piece(m->out, b, i, head, headers, c.headers, row + at, bytes))
            goto full;
    }
    return OV_OK;
full:
    *head = first;
    m->out->position = position;
    return OV_DEVICE_FULL;
}

static uint8_t memory_put(struct memory *m, const struct ov_batch *b, size_t i, uint64_t *head)
{
    uint64_t offset = b->offset[i];
    uint32_t length = b->length[i];
    if (unlikely(b->base[i] > offset || offset > b->size || length > b->size - offset ||
                 length > b->wire[i]))
        return OV_BAD_ROW;
    const uint8_t *row = b->data + offset;
    uint8_t front = 0;
    if (unlikely(b->link[i] == OV_UDP)) {
        if (b->outer[i] > b->size || b->size - b->outer[i] < 20)
            return OV_BAD_ROW;
        front = FRONT;
    } else if (b->link[i] == OV_ETHERNET) {
        if (unlikely(length < 14))
            return OV_FRAME_TOO_SHORT;
        bool large = too_large(&m->device, row, length), cut = false;
        if (unlikely(m->segments) &&
            ((b->mss[i] | b->checksum[i]) != 0 || (large && b->protocol[i] == OV_STT))) {
            uint8_t status = memory_cut(m, b, i, head, &cut);
            if (cut)
                return status;
        }
        if (unlikely(large) && b->mss[i] == 0)
            return OV_MTU_EXCEEDED;
    }
    if (unlikely(length > ROW_MAX))
        return OV_FRAME_TOO_LONG;
    uint8_t *to = ring_append(m->out, b, i, head, front, length);
    if (unlikely(to == NULL))
        return OV_DEVICE_FULL;
    if (unlikely(front != 0)) {
        uint64_t here = b->size - b->outer[i];
        memset(to, 0, FRONT);
        memcpy(to, b->data + b->outer[i], here < FRONT_IP ? (size_t)here : FRONT_IP);
    }
    memcpy(to + front, row, length);
    return OV_OK;
}

static size_t memory_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count)
{
    struct memory *m = (struct memory *)d;
    struct ring *r = m->out;
    bool closed = __atomic_load_n(&r->closed, __ATOMIC_ACQUIRE);
    uint64_t head = r->head, bytes = 0;
    size_t sent = 0;
    for (size_t n = 0; n < count; n++) {
        size_t i = rows[n];
        if (b->status[i] != OV_OK)
            continue;
        uint8_t status = closed ? OV_DEVICE_DOWN : memory_put(m, b, i, &head);
        if (unlikely(status != OV_OK)) {
            device_lose(d, b, i, status);
            continue;
        }
        bytes += b->length[i];
        sent++;
    }
    if (sent == 0)
        return 0;
    __atomic_store_n(&r->head, head, __ATOMIC_RELEASE);
    ring_sent(r);
    device_count(&d->stats.tx_packets, sent);
    device_count(&d->stats.tx_bytes, bytes);
    return sent;
}

/* ---- recv ------------------------------------------------------------------------ */

static int64_t memory_recv(struct device *d, struct ov_batch *b)
{
    struct memory *m = (struct memory *)d;
    struct ring *r = m->in;
    uint64_t head = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE), tail = r->tail, bytes = 0;
    uint64_t freed = r->freed;
    device_clear(b);
    for (; tail != head; tail++) {
        const struct slot *s = &r->slots[tail & r->slot_mask];
        uint32_t length = s->front + s->length;
        if (length > device_room(b))
            break;
        uint64_t base = b->used, at = base + b->gap;
        memcpy(b->data + at, r->data + (s->at & (r->size - 1)), length);
        b->used = (at + length + 15) & ~(uint64_t)15;
        size_t i = device_row(b, base, at + s->front, s->length);
        b->outer[i] = s->front != 0 ? at : 0;
        b->key[i] = s->key;
        b->wire[i] = s->wire;
        b->mss[i] = s->mss;
        b->protocol[i] = s->protocol;
        b->link[i] = s->link;
        b->checksum[i] = s->checksum;
        bytes += s->length;
        freed = s->end;
    }
    if (b->count != 0) {
        __atomic_store_n(&r->freed, freed, __ATOMIC_RELEASE);
        __atomic_store_n(&r->tail, tail, __ATOMIC_RELEASE);
        device_count(&d->stats.rx_packets, b->count);
        device_count(&d->stats.rx_bytes, bytes);
    } else if (tail != head) {
        return -EMSGSIZE; /* a batch that will never hold it */
    }
    if (tail == head)
        ring_rest(r);
    return (int64_t)b->count;
}

/* ---- open and close ---------------------------------------------------------------- */

static void ring_free(struct ring *r)
{
    free(r->slots);
    free(r->data);
    if (r->event >= 0)
        close(r->event);
}

/* The last end to close gives the rings back: till then the other may use them. */
static void memory_close(struct device *d)
{
    struct memory *m = (struct memory *)d;
    struct pair *p = m->pair;
    __atomic_store_n(&m->in->closed, true, __ATOMIC_RELEASE);
    if (__atomic_sub_fetch(&p->ends, 1, __ATOMIC_ACQ_REL) == 0) {
        ring_free(&p->rings[0]);
        ring_free(&p->rings[1]);
        free(p);
    }
    free(m);
}

static const struct device_ops memory_ops = {memory_recv, memory_send, memory_close};

static uint64_t power_of_two(uint64_t least)
{
    uint64_t n = 1;
    while (n < least)
        n *= 2;
    return n;
}

static bool ring_open(struct ring *r, const struct memory_config *config)
{
    uint64_t slots = power_of_two(config->capacity);
    r->capacity = config->capacity;
    r->slot_mask = slots - 1;
    r->size = power_of_two(config->size < MEMORY_SIZE_MIN ? MEMORY_SIZE_MIN : config->size);
    r->slots = calloc(slots, sizeof *r->slots);
    r->data = malloc(r->size);
    r->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->resting = 1;
    return r->slots != NULL && r->data != NULL && r->event >= 0;
}

int memory_open(struct device *ends[2], const struct memory_config *config)
{
    if (config->capacity < 1 || config->capacity > 1u << 24 || config->size > (uint64_t)1 << 40) {
        errno = EINVAL;
        return -1;
    }
    struct pair *p = aligned_alloc(CACHE_LINE, sizeof *p);
    struct memory *m[2] = {calloc(1, sizeof **m), calloc(1, sizeof **m)};
    if (p != NULL) {
        memset(p, 0, sizeof *p);
        p->ends = 2;
        p->rings[0].event = p->rings[1].event = -1;
    }
    if (p == NULL || m[0] == NULL || m[1] == NULL || !ring_open(&p->rings[0], config) ||
        !ring_open(&p->rings[1], config)) {
        int error = errno;
        if (p != NULL) {
            ring_free(&p->rings[0]);
            ring_free(&p->rings[1]);
        }
        free(p);
        free(m[0]);
        free(m[1]);
        errno = error;
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        m[i]->pair = p;
        m[i]->in = &p->rings[i];
        m[i]->out = &p->rings[1 - i];
        m[i]->segments = config->segments;
        m[i]->device.ops = &memory_ops;
        m[i]->device.fd = p->rings[i].event;
        m[i]->device.mtu = config->mtu;
        m[i]->device.underlay = config->underlay;
        memcpy(m[i]->device.mac, config->mac[i], 6);
        ends[i] = &m[i]->device;
    }
    return 0;
}
