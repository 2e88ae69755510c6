/* stt_reassembly.c: STT segments to frames (N -> 1), in bounded memory, by an explicit clock.
 *
 * All of it lives in one block that the caller brings.  Payload is held in
 * pages of 2048 bytes, each with a bitmap of the bytes that have arrived; a
 * frame takes a page when the first byte of it comes.  Frames wait in the
 * order of their first segment, which is the order of time-out and eviction.
 *
 * Guarantee: a frame is delivered only when every byte has come exactly once;
 * whatever arrives, memory stays within the budget, and each push ends in time
 * bounded by the packet and the frames that it gives up.
 */
#include "stt.h"

enum {
    PAGE = 2048,
    PAGES_MAX = (STT_FRAME_MAX + PAGE - 1) / PAGE,
    MEMORY_MIN = 65536,
    HEADER_MAX = 256, /* bytes of outer headers kept with a frame */
};

#define NOBODY UINT32_MAX

/* All that tells one frame from another, with no padding: compared as bytes. */
struct key {
    uint8_t addresses[32];
    uint32_t frame_id;
    uint16_t port;
    uint16_t frame_length;
    uint64_t family;
};

struct frame {
    struct key key;
    uint64_t first; /* when its first segment came */
    uint32_t next;  /* in the bucket */
    uint32_t older; /* in the order of arrival */
    uint32_t newer;
    uint32_t arrived; /* bytes */
    uint32_t header_length;
    uint32_t pages[PAGES_MAX];
    uint8_t header[HEADER_MAX]; /* outer headers of the segment at offset 0 */
    uint8_t tos;
    uint8_t link;
    bool congested; /* a segment had CE */
};

struct ov_reassembler {
    struct ov_reassembly_stats stats;
    uint64_t timeout;
    uint64_t seed;
    uint32_t page_count;
    uint32_t bucket_mask;
    uint32_t free_page;  /* a list through the first bytes of free pages' bitmaps */
    uint32_t free_frame; /* a list through next */
    uint32_t oldest;
    uint32_t newest;
    uint32_t *buckets;
    struct frame *frames;
    uint64_t (*arrived)[PAGE / 64];
    uint8_t (*pages)[PAGE];
    const uint8_t *done;        /* the frame that the last push completed */
    const uint8_t *done_header; /* its outer headers */
    size_t done_header_length;
    uint8_t header[HEADER_MAX + STT_LENGTH];
    uint8_t whole[STT_FRAME_MAX + 1];
};

/* ---- the block ------------------------------------------------------------- */

static size_t aligned(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static uint32_t bucket_count(uint64_t pages)
{
    uint32_t n = 64;
    while (n < pages)
        n *= 2;
    return n;
}

size_t ov_reassembler_size(uint64_t memory)
{
    uint64_t pages = memory / PAGE;
    if (memory < MEMORY_MIN || pages >= NOBODY / 2)
        return 0;
    return aligned(sizeof(struct ov_reassembler)) +
           aligned(bucket_count(pages) * sizeof(uint32_t)) + aligned(pages * sizeof(struct frame)) +
           pages * (PAGE / 8 + PAGE);
}

struct ov_reassembler *ov_reassembler_init(void *at, uint64_t memory, uint64_t timeout,
                                           uint64_t seed)
{
    struct ov_reassembler *r = at;
    uint8_t *end = (uint8_t *)at + aligned(sizeof *r);
    memset(r, 0, offsetof(struct ov_reassembler, header));
    r->timeout = timeout;
    r->seed = seed;
    r->page_count = (uint32_t)(memory / PAGE);
    uint32_t buckets = bucket_count(r->page_count);
    r->bucket_mask = buckets - 1;
    r->buckets = (uint32_t *)(void *)end;
    end += aligned(buckets * sizeof(uint32_t));
    r->frames = (struct frame *)(void *)end;
    end += aligned(r->page_count * sizeof(struct frame));
    r->arrived = (uint64_t (*)[PAGE / 64])(void *)end;
    end += (size_t)r->page_count * (PAGE / 8);
    r->pages = (uint8_t (*)[PAGE])end;
    memset(r->buckets, 0xFF, buckets * sizeof(uint32_t));
    for (uint32_t i = 0; i < r->page_count; i++) {
        uint32_t next = i + 1 < r->page_count ? i + 1 : NOBODY;
        r->frames[i].next = next;
        r->arrived[i][0] = next;
    }
    r->oldest = r->newest = NOBODY;
    return r;
}

void ov_reassembler_stats(const struct ov_reassembler *r, struct ov_reassembly_stats *stats)
{
    *stats = r->stats;
}

const uint8_t *ov_reassembler_frame(const struct ov_reassembler *r)
{
    return r->done;
}

const uint8_t *ov_reassembler_header(const struct ov_reassembler *r, size_t *length)
{
    *length = r->done_header_length;
    return r->done_header;
}

/* ---- frames: find, begin, forget ------------------------------------------- */

static uint32_t *bucket_of(struct ov_reassembler *r, const struct key *key)
{
    const uint8_t *k = (const uint8_t *)key;
    uint64_t h = r->seed;
    for (size_t i = 0; i + 8 <= sizeof *key; i += 8)
        h = hash_absorb(h, get64le(k + i), i);
    return &r->buckets[hash_finish(h) & r->bucket_mask];
}
_Static_assert(sizeof(struct key) == 48, "no padding, whole words");

static struct frame *find(struct ov_reassembler *r, const struct key *key)
{
    for (uint32_t i = *bucket_of(r, key); i != NOBODY; i = r->frames[i].next)
        if (memcmp(&r->frames[i].key, key, sizeof *key) == 0)
            return &r->frames[i];
    return NULL;
}

static void forget(struct ov_reassembler *r, struct frame *f)
{
    uint32_t self = (uint32_t)(f - r->frames), *link = bucket_of(r, &f->key);
    while (*link != self)
        link = &r->frames[*link].next;
    *link = f->next;
    *(f->older == NOBODY ? &r->oldest : &r->frames[f->older].newer) = f->newer;
    *(f->newer == NOBODY ? &r->newest : &r->frames[f->newer].older) = f->older;
    for (uint32_t i = 0; i < PAGES_MAX; i++) {
        if (f->pages[i] == NOBODY)
            continue;
        r->arrived[f->pages[i]][0] = r->free_page;
        r->free_page = f->pages[i];
        r->stats.memory -= PAGE;
    }
    f->next = r->free_frame;
    r->free_frame = self;
    r->stats.pending--;
}

/* Give up the frame that came first, but not this one. */
static void evict(struct ov_reassembler *r, const struct frame *except)
{
    struct frame *f = &r->frames[r->oldest];
    if (f == except)
        f = &r->frames[f->newer];
    forget(r, f);
    r->stats.evicted++;
}

static struct frame *begin(struct ov_reassembler *r, const struct key *key, uint64_t now)
{
    if (r->free_frame == NOBODY)
        evict(r, NULL);
    uint32_t self = r->free_frame, *bucket = bucket_of(r, key);
    struct frame *f = &r->frames[self];
    r->free_frame = f->next;
    f->key = *key;
    f->first = now;
    f->next = *bucket;
    *bucket = self;
    f->older = r->newest;
    f->newer = NOBODY;
    *(r->newest == NOBODY ? &r->oldest : &r->frames[r->newest].newer) = self;
    r->newest = self;
    f->arrived = f->header_length = 0;
    f->congested = false;
    memset(f->pages, 0xFF, sizeof f->pages);
    r->stats.pending++;
    return f;
}

size_t ov_reassembler_expire(struct ov_reassembler *r, uint64_t now)
{
    size_t expired = 0;
    while (r->oldest != NOBODY) {
        struct frame *f = &r->frames[r->oldest];
        if (now < f->first || now - f->first < r->timeout)
            break;
        forget(r, f);
        expired++;
    }
    r->stats.timed_out += expired;
    return expired;
}

/* ---- bytes ------------------------------------------------------------------ */

/* The bits of word number w that lie in from..to of a page. */
static uint64_t bits(uint32_t w, uint32_t from, uint32_t to)
{
    uint64_t mask = ~(uint64_t)0;
    if (w == from / 64)
        mask <<= from % 64;
    if (w == (to - 1) / 64)
        mask &= ~(uint64_t)0 >> (63 - (to - 1) % 64);
    return mask;
}

/* How many of the bytes from..to of a page have arrived; most often none. */
static uint32_t count(const uint64_t *arrived, uint32_t from, uint32_t to)
{
    uint32_t first = from / 64, last = (to - 1) / 64, n = 0;
    uint64_t any =
        (arrived[first] & bits(first, from, to)) | (arrived[last] & bits(last, from, to));
    for (uint32_t w = first + 1; w < last; w++)
        any |= arrived[w];
    if (likely(any == 0))
        return 0;
    for (uint32_t w = first; w <= last; w++)
        n += (uint32_t)__builtin_popcountll(arrived[w] & bits(w, from, to));
    return n;
}

static void mark(uint64_t *arrived, uint32_t from, uint32_t to)
{
    uint32_t first = from / 64, last = (to - 1) / 64;
    arrived[first] |= bits(first, from, to);
    arrived[last] |= bits(last, from, to);
    for (uint32_t w = first + 1; w < last; w++)
        arrived[w] = ~(uint64_t)0;
}

/* How many of the segment's bytes are there already. */
static uint32_t overlap(const struct ov_reassembler *r, const struct frame *f,
                        const struct stt_segment *s)
{
    uint32_t n = 0, end = s->frame_offset + s->length;
    for (uint32_t at = s->frame_offset, to; at < end; at = to) {
        uint32_t page = f->pages[at / PAGE];
        to = min32((at / PAGE + 1) * PAGE, end);
        if (page != NOBODY)
            n += count(r->arrived[page], at % PAGE, (to - 1) % PAGE + 1);
    }
    return n;
}

static void store(struct ov_reassembler *r, struct frame *f, const struct stt_segment *s,
                  const uint8_t *payload)
{
    uint32_t end = s->frame_offset + s->length;
    for (uint32_t at = s->frame_offset, to; at < end; at = to) {
        uint32_t *page = &f->pages[at / PAGE];
        to = min32((at / PAGE + 1) * PAGE, end);
        if (*page == NOBODY) {
            if (r->free_page == NOBODY)
                evict(r, f);
            *page = r->free_page;
            r->free_page = (uint32_t)r->arrived[*page][0];
            memset(r->arrived[*page], 0, opaque(PAGE / 8));
            r->stats.memory += PAGE;
        }
        mark(r->arrived[*page], at % PAGE, (to - 1) % PAGE + 1);
        memcpy(r->pages[*page] + at % PAGE, payload + (at - s->frame_offset), opaque(to - at));
    }
    f->arrived += s->length;
}

static void gather(const struct ov_reassembler *r, const struct frame *f, uint8_t *to)
{
    uint32_t length = f->key.frame_length;
    for (uint32_t at = 0; at < length; at += PAGE)
        memcpy(to + at, r->pages[f->pages[at / PAGE]], opaque(min32(PAGE, length - at)));
}

/* ---- push -------------------------------------------------------------------- */

/* What one packet did: the frame that it completed, if its status is OV_OK. */
struct arrival {
    struct frame *frame; /* or NULL: the packet is a whole frame by itself */
    const uint8_t *packet;
    struct stt_segment segment;
    uint8_t tos;
};

static bool has_room(const struct ov_batch *out, uint32_t length)
{
    uint64_t at = out->used + out->gap;
    return out->count < out->capacity && at <= out->size && length <= out->size - at;
}

/* Take one packet.  OV_OK: *a says what is whole.  With an output batch, a
 * segment whose frame would not fit there is left alone: OV_NO_ROOM. */
static int accept(struct ov_reassembler *r, const struct ov_policy *y, const uint8_t *packet,
                  uint32_t length, uint32_t wire, int link, uint64_t now,
                  const struct ov_batch *out, struct arrival *a)
{
    struct outer o;
    struct stt_segment *s = &a->segment;
    int status = outer_parse(packet, length, wire, link, y->base == OV_LENIENT, &o);
    if (status != OV_OK)
        return status;
    if (o.protocol != IP_TCP || !(y->protocols >> OV_STT & 1))
        return OV_UNKNOWN_PROTOCOL;
    status = stt_segment(y, packet, &o, s);
    if (status != OV_OK)
        return status;
    a->frame = NULL;
    a->packet = packet;
    a->tos = o.tos;
    if (s->length == s->frame_length)
        return OV_OK;
    if (s->here < s->length)
        return OV_FRAME_CUT;
    if (s->payload > HEADER_MAX)
        return OV_IP_EXTENSION;

    struct key key = {
        .frame_id = get32(packet + o.l4 + 8),
        .port = get16(packet + o.l4),
        .frame_length = (uint16_t)s->frame_length,
        .family = o.version,
    };
    outer_addresses(packet, &o, key.addresses);
    struct frame *f = find(r, &key);
    if (f != NULL) {
        uint32_t known = overlap(r, f, s);
        if (known != 0)
            return known == s->length ? OV_STT_DUPLICATE : OV_STT_OVERLAP;
        if (out != NULL && f->arrived + s->length == s->frame_length &&
            !has_room(out, s->frame_length))
            return OV_NO_ROOM;
    } else {
        f = begin(r, &key, now);
    }
    store(r, f, s, packet + s->payload);
    f->congested |= (o.tos & ECN_MASK) == ECN_CE;
    if (s->frame_offset == 0) {
        memcpy(f->header, packet, s->payload);
        f->header_length = s->payload;
        f->tos = o.tos;
        f->link = (uint8_t)link;
    }
    if (f->arrived < s->frame_length)
        return OV_STT_INCOMPLETE;
    a->frame = f;
    a->tos = f->congested ? f->tos | ECN_CE : f->tos;
    return OV_OK;
}

/* Count a packet by what became of it; one that found no room was not taken. */
static int tally(struct ov_reassembler *r, int status)
{
    struct ov_reassembly_stats *s = &r->stats;
    if (status == OV_NO_ROOM)
        return status;
    s->segments++;
    if (status == OV_OK)
        s->frames++;
    else if (status == OV_STT_DUPLICATE)
        s->duplicates++;
    else if (status == OV_STT_OVERLAP)
        s->overlaps++;
    else if (status != OV_STT_INCOMPLETE)
        s->refused++;
    return status;
}

int ov_reassembler_push(struct ov_reassembler *r, const struct ov_policy *policy,
                        const uint8_t *packet, size_t length, size_t wire, int link, uint64_t now,
                        struct ov_frame *d)
{
    struct arrival a;
    memset(d, 0, sizeof *d);
    ov_reassembler_expire(r, now);
    if (length > UINT32_MAX || wire > UINT32_MAX || length > wire)
        return tally(r, OV_BAD_ROW);
    int status = accept(r, policy, packet, (uint32_t)length, (uint32_t)wire, link, now, NULL, &a);
    if (status != OV_OK)
        return tally(r, status);
    uint32_t here = a.segment.here;
    if (a.frame == NULL) {
        r->done = packet + a.segment.payload;
        r->done_header = packet;
        r->done_header_length = a.segment.payload + STT_LENGTH;
    } else {
        struct frame *f = a.frame;
        here = f->key.frame_length;
        gather(r, f, r->whole);
        memcpy(r->header, f->header, f->header_length);
        memcpy(r->header + f->header_length, r->whole, STT_LENGTH);
        r->done = r->whole;
        r->done_header = r->header;
        r->done_header_length = f->header_length + STT_LENGTH;
        forget(r, f);
    }
    d->offset = STT_LENGTH;
    status = stt_open(policy, r->done, here, a.segment.frame_length, a.tos, d);
    d->status = (uint8_t)status;
    return tally(r, status);
}

/* Append a completed frame to out and open it there. */
static int deliver(struct ov_reassembler *r, const struct ov_policy *y, const struct arrival *a,
                   struct ov_batch *out, uint32_t origin)
{
    uint64_t row = out->count, used = out->used;
    uint32_t whole = a->segment.frame_length, here = a->frame != NULL ? whole : a->segment.here;
    struct ov_frame d = {.offset = STT_LENGTH};
    uint8_t *stt = kernel_append(out, here, whole, origin);
    if (stt == NULL)
        return OV_NO_ROOM;
    if (a->frame != NULL)
        gather(r, a->frame, stt);
    else
        memcpy(stt, a->packet + a->segment.payload, here);
    int status = stt_open(y, stt, here, whole, a->tos, &d);
    if (status != OV_OK) {
        out->count = row;
        out->used = used;
        return status;
    }
    bool left = y->partial && d.l4 != 0;
    d.l4 = left ? 0 : d.l4;
    decap_mend(&d, stt + STT_LENGTH, 0);
    uint8_t *frame = stt + STT_LENGTH + d.remove - d.insert;
    uint8_t macs[12];
    memcpy(macs, stt + STT_LENGTH, 12);
    memcpy(frame, macs, 12);
    if (d.insert != 0) {
        put16(frame + 12, ETHERTYPE_CTAG);
        put16(frame + 14, d.tci);
    }
    out->offset[row] = (uint64_t)(frame - out->data);
    out->length[row] = d.length + d.insert - d.remove;
    out->wire[row] = d.wire + d.insert - d.remove;
    out->key[row] = d.key;
    out->outer[row] = 0; /* the headers are not in out */
    out->mss[row] = d.mss;
    out->status[row] = OV_OK;
    out->protocol[row] = OV_STT;
    out->link[row] = OV_ETHERNET;
    out->checksum[row] = left ? OV_CSUM_PARTIAL : OV_CSUM_UNKNOWN;
    return OV_OK;
}

size_t ov_reassembler_batch(struct ov_reassembler *r, const struct ov_policy *policy,
                            struct ov_batch *in, struct ov_batch *out, uint64_t now)
{
    size_t frames = 0;
    ov_reassembler_expire(r, now);
    for (size_t i = 0; i < in->count; i++) {
        if (in->status[i] != OV_OK)
            continue;
        struct arrival a = {0};
        uint64_t offset = in->offset[i];
        uint32_t length = in->length[i], wire = in->wire[i];
        int status = OV_BAD_ROW;
        if (kernel_row_good(in, in->base[i], offset, length, wire))
            status = accept(r, policy, in->data + offset, length, wire, in->link[i], now, out, &a);
        if (status == OV_OK) {
            status = deliver(r, policy, &a, out, (uint32_t)i);
            if (a.frame != NULL)
                forget(r, a.frame);
        }
        tally(r, status);
        in->status[i] = (uint8_t)status;
        frames += status == OV_OK;
    }
    return frames;
}
