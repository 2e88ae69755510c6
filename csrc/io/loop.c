/* loop.c: see loop.h. */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    WAKE = 0xFFFFFFFF,
    BLIND_MS = 1,
    EXPIRY_NS = 100000000,
    DRAIN_ROUNDS = 256,
    WINDOW_NS = 1000000, /* how long arrivals are counted */
    WINDOW_HOT = 80,     /* rows in it that make waiting worth its while */
    LINGER_ROWS = 64,    /* a round with as many need not wait */
    LINGER_NS = 20000,
    SLACK_NS = 1000,
};

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- sending -------------------------------------------------------------------- */

static void send_list(struct worker *w, struct burst *burst, uint32_t device, size_t count)
{
    struct slot *slot = &w->slots[device];
    uint32_t row = burst->out.head[device];
    for (size_t k = 0; k < count; k++, row = burst->out.next[row])
        w->rows[k] = row;
    if (slot->device == NULL) {
        for (size_t k = 0; k < count; k++)
            burst->b.status[w->rows[k]] = OV_DEVICE_DOWN;
    } else {
        if (slot->lock != NULL)
            pthread_mutex_lock(slot->lock);
        slot->device->ops->send(slot->device, &burst->b, w->rows, count);
        if (slot->lock != NULL)
            pthread_mutex_unlock(slot->lock);
    }
    bridge_sent(&w->lane, burst, w->rows, count);
}

static void send_burst(struct lane *lane, struct burst *burst)
{
    struct worker *w = (struct worker *)lane;
    struct outbox *out = &burst->out;
    for (uint32_t t = 0; t < out->touched_count; t++) {
        uint32_t device = out->touched[t];
        send_list(w, burst, device, out->count[device]);
        out->count[device] = 0;
    }
    out->touched_count = 0;
    if (burst == &lane->extra)
        burst->b.count = burst->b.used = 0;
}

/* ---- receiving ------------------------------------------------------------------- */

static void fail(struct worker *w, uint32_t i, int error)
{
    struct slot *slot = &w->slots[i];
    loop_detach(w, i);
    slot->error = error;
    slot->retry = w->lane.now + (uint64_t)LOOP_RETRY_MS * 1000000;
    w->failed++;
}

static uint64_t serve(struct worker *w, uint32_t i)
{
    struct slot *slot = &w->slots[i];
    struct ov_batch *b = &w->lane.in.b;
    b->data = w->arena;
    b->size = LOOP_BYTES;
    b->count = b->used = 0;
    if (slot->lock != NULL)
        pthread_mutex_lock(slot->lock);
    int64_t n = slot->device->ops->recv(slot->device, b);
    if (slot->lock != NULL)
        pthread_mutex_unlock(slot->lock);
    if (unlikely(n < 0)) {
        fail(w, i, (int)-n);
        return 0;
    }
    b->count = (uint64_t)n;
    if (n == 0)
        return 0;
    w->bursts++;
    w->lane.suspect = slot->device->suspect;
    if (slot->device->underlay)
        bridge_from_underlay(&w->lane);
    else
        bridge_from_device(&w->lane, i);
    return (uint64_t)n;
}

static uint64_t serve_blind(struct worker *w)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < w->slot_count; i++)
        if (w->slots[i].device != NULL && w->slots[i].reads && w->slots[i].device->fd < 0 &&
            w->slots[i].retry == 0)
            rows += serve(w, i);
    return rows;
}

static void retry_failed(struct worker *w)
{
    for (uint32_t i = 0; i < w->slot_count; i++) {
        struct slot *slot = &w->slots[i];
        if (slot->retry == 0 || slot->retry > w->lane.now)
            continue;
        slot->retry = 0;
        w->failed--;
        if (slot->device != NULL && loop_attach(w, i) != 0)
            fail(w, i, errno);
    }
}

/* ---- rounds ------------------------------------------------------------------------ */

static void enter(struct worker *w)
{
    while (__atomic_load_n(w->wanted, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
    pthread_mutex_lock(&w->gate);
}

/* Let packets gather, if they come fast and the last round had few. */
static void linger(const struct worker *w)
{
    const struct timespec t = {.tv_nsec = LINGER_NS};
    if (w->hot && w->last_rows < LINGER_ROWS)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static void take_pulse(struct worker *w, uint64_t rows)
{
    w->last_rows = rows;
    w->window_rows += rows;
    if (w->lane.now - w->window >= WINDOW_NS) {
        w->hot = w->window_rows * WINDOW_NS >= WINDOW_HOT * (w->lane.now - w->window);
        w->window = w->lane.now;
        w->window_rows = 0;
    }
}

uint64_t loop_round(struct worker *w, int timeout)
{
    struct epoll_event events[LOOP_EVENTS];
    if (w->blind != 0 && (timeout < 0 || timeout > BLIND_MS))
        timeout = BLIND_MS;
    if (w->failed != 0 && (timeout < 0 || timeout > LOOP_RETRY_MS))
        timeout = LOOP_RETRY_MS;
    int n = epoll_wait(w->epoll, events, LOOP_EVENTS, timeout);
    uint64_t rows = 0, ignored;
    enter(w);
    w->lane.now = clock_ns();
    for (int e = 0; e < n; e++) {
        uint32_t i = events[e].data.u32;
        if (i == WAKE)
            (void)!read(w->wake, &ignored, sizeof ignored);
        else if (i < w->slot_count && w->slots[i].device != NULL && w->slots[i].reads &&
                 w->slots[i].retry == 0)
            rows += serve(w, i);
    }
    if (w->blind != 0)
        rows += serve_blind(w);
    if (w->failed != 0)
        retry_failed(w);
    if (w->lane.now >= w->expiry) {
        if (w->lane.reassembler != NULL)
            ov_reassembler_expire(w->lane.reassembler, w->lane.now);
        if (w->lane.fragments != NULL)
            fragment_expire(w->lane.fragments, w->lane.now);
        w->expiry = w->lane.now + EXPIRY_NS;
    }
    take_pulse(w, rows);
    w->rounds++;
    pthread_mutex_unlock(&w->gate);
    return rows;
}

void loop_run(struct worker *w)
{
    prctl(PR_SET_TIMERSLACK, (unsigned long)SLACK_NS, 0, 0, 0);
    while (__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE) == 0) {
        linger(w);
        loop_round(w, LOOP_RETRY_MS);
    }
    for (int i = 0; i < DRAIN_ROUNDS && loop_round(w, 0) != 0; i++)
        ;
}

void loop_stop(struct worker *w)
{
    uint64_t one = 1;
    __atomic_store_n(&w->stop, 1, __ATOMIC_RELEASE);
    (void)!write(w->wake, &one, sizeof one);
}

/* ---- open and close ------------------------------------------------------------------ */

int loop_attach(struct worker *w, uint32_t i)
{
    struct slot *slot = &w->slots[i];
    if (!slot->reads)
        return 0;
    if (slot->device->fd < 0) {
        w->blind++;
        return 0;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    return epoll_ctl(w->epoll, EPOLL_CTL_ADD, slot->device->fd, &event);
}

void loop_detach(struct worker *w, uint32_t i)
{
    struct slot *slot = &w->slots[i];
    if (slot->retry != 0) {
        slot->retry = 0;
        w->failed--;
    } else if (slot->reads && slot->device->fd < 0) {
        w->blind--;
    } else if (slot->reads) {
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, slot->device->fd, NULL);
    }
}

static void *take(size_t *left, uint8_t **at, size_t bytes)
{
    uint8_t *here = *at;
    bytes = (bytes + 63) & ~(size_t)63;
    *at += bytes;
    *left -= bytes;
    return here;
}

/* Columns and notes for rows, from one block of memory. */
enum {
    ROW_BYTES = 4 * 8 + 3 * 4 + 2 + 4 + 4 * 4 + 1,
    BURST_BYTES = LOOP_ROWS * ROW_BYTES + 17 * 64
};

static void lay_out(struct burst *burst, uint64_t bytes, uint8_t **at, size_t *left)
{
    struct ov_batch *b = &burst->b;
    b->data = take(left, at, bytes);
    b->size = bytes;
    b->capacity = LOOP_ROWS;
    b->gap = BRIDGE_HEADROOM;
    b->base = take(left, at, 8 * LOOP_ROWS);
    b->offset = take(left, at, 8 * LOOP_ROWS);
    b->key = take(left, at, 8 * LOOP_ROWS);
    b->outer = take(left, at, 8 * LOOP_ROWS);
    b->length = take(left, at, 4 * LOOP_ROWS);
    b->wire = take(left, at, 4 * LOOP_ROWS);
    b->origin = take(left, at, 4 * LOOP_ROWS);
    b->mss = take(left, at, 2 * LOOP_ROWS);
    b->status = take(left, at, LOOP_ROWS);
    b->protocol = take(left, at, LOOP_ROWS);
    b->link = take(left, at, LOOP_ROWS);
    b->checksum = take(left, at, LOOP_ROWS);
    burst->network = take(left, at, 4 * LOOP_ROWS);
    burst->from = take(left, at, 4 * LOOP_ROWS);
    burst->to = take(left, at, 4 * LOOP_ROWS);
    burst->out.next = take(left, at, 4 * LOOP_ROWS);
    burst->quiet = take(left, at, LOOP_ROWS);
}

enum {
    EVENTS = 4096,
    MEMORY = 4 * (LOOP_BYTES + BURST_BYTES) + LOOP_ROWS * (1 + 4 * 8 + 4) +
        EVENTS * (int)sizeof(struct event) + 64 * 64,
};

int loop_open(struct worker *w, const struct bridge *bridge, const uint32_t *wanted)
{
    w->epoll = w->wake = -1;
    size_t left = MEMORY;
    uint8_t *at = mmap(NULL, left, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return -1;
    w->arena = at; /* the first that is taken, and so the block */
    struct lane *lane = &w->lane;
    lane->bridge = bridge;
    lane->send = send_burst;
    lay_out(&lane->in, LOOP_BYTES, &at, &left);
    lay_out(&lane->joined, LOOP_BYTES, &at, &left);
    lay_out(&lane->whole, LOOP_BYTES, &at, &left);
    lay_out(&lane->extra, LOOP_BYTES, &at, &left);
    lane->segments.status = take(&left, &at, LOOP_ROWS);
    lane->source = take(&left, &at, 8 * LOOP_ROWS);
    lane->target = take(&left, &at, 8 * LOOP_ROWS);
    lane->source_hash = take(&left, &at, 8 * LOOP_ROWS);
    lane->target_hash = take(&left, &at, 8 * LOOP_ROWS);
    w->rows = take(&left, &at, 4 * LOOP_ROWS);
    lane->events.slots = take(&left, &at, EVENTS * sizeof(struct event));
    lane->events.mask = EVENTS - 1;
    w->wanted = wanted;
    if (pthread_mutex_init(&w->gate, NULL) != 0)
        return -1;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = WAKE};
    if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event) != 0) {
        loop_close(w);
        return -1;
    }
    return 0;
}

void loop_retire(struct worker *w)
{
    if (w->epoll >= 0)
        close(w->epoll);
    if (w->wake >= 0)
        close(w->wake);
    w->epoll = w->wake = -1;
}

void loop_close(struct worker *w)
{
    loop_retire(w);
    if (w->arena != NULL)
        munmap(w->arena, MEMORY);
    pthread_mutex_destroy(&w->gate);
    memset(w, 0, sizeof *w);
    w->epoll = w->wake = -1;
}
