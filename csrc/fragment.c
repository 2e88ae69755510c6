/* fragment.c: see fragment.h.
 *
 * Payload is held in pages of 2048 bytes, with a bit for each 8 of them, the unit of
 * fragments; a datagram takes a page when the first byte of it comes, so that tiny
 * fragments cost no more than others.  Datagrams wait in the order of their first
 * fragments, once in all and once in those of their source, or rather of all
 * sources with its hash: when memory is short, the source that has most loses its oldest.
 */
#include "fragment.h"

enum {
    PAGE = 2048,
    UNIT = 8,
    WORDS = PAGE / UNIT / 64,
    PAGES_MAX = 65536 / PAGE,
    PACKET_MAX = 65535,
    HEADER_MAX = 256, /* bytes before the payload */
    SOURCES = 256,
    MEMORY_MIN = 262144,
    MF = 0x2000,
    OFFSET = 0x1FFF,
};

#define NOBODY UINT32_MAX

/* All that tells one datagram from another, with no padding: compared as bytes. */
struct key {
    uint8_t addresses[32];
    uint32_t id;
    uint32_t family; /* and over IPv4 the protocol */
};
_Static_assert(sizeof(struct key) == 40, "no padding, whole words");

struct list {
    uint32_t oldest, newest;
};

struct link {
    uint32_t older, newer;
};

enum order { BY_AGE, BY_SOURCE };

struct datagram {
    struct key key;
    uint64_t first;      /* when its first fragment came */
    struct link link[2]; /* by enum order */
    uint32_t next;       /* in the bucket, or of those that are free */
    uint32_t source;
    uint32_t arrived; /* bytes */
    uint32_t end;     /* bytes that there are, 0 until the last fragment came */
    uint32_t high;    /* end of the farthest fragment */
    uint32_t fragments;
    uint32_t pages[PAGES_MAX];
    uint32_t header_length;
    uint32_t l3;                /* of the IP header in header */
    uint8_t header[HEADER_MAX]; /* of the fragment at offset 0, without a fragment header */
    uint8_t marks;              /* a bit for each ECN field seen */
    bool dead;                  /* lost to an overlap: what still comes is lost too */
};

struct fragments {
    struct fragment_stats stats;
    uint64_t timeout;
    uint64_t seed;
    uint32_t count; /* pages, and datagrams */
    uint32_t bucket_mask;
    uint32_t free_page; /* a list through the first words of free pages' bitmaps */
    uint32_t free_datagram;
    struct list ages;
    struct list sources[SOURCES];
    uint32_t used[SOURCES]; /* pages and datagrams */
    uint32_t *buckets;
    struct datagram *datagrams;
    uint64_t (*arrived)[WORDS];
    uint8_t (*pages)[PAGE];
    uint8_t whole[HEADER_MAX + PACKET_MAX];
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

size_t fragment_size(uint64_t memory)
{
    uint64_t pages = memory / PAGE;
    if (memory < MEMORY_MIN || pages >= NOBODY / 2)
        return 0;
    return aligned(sizeof(struct fragments)) + aligned(bucket_count(pages) * sizeof(uint32_t)) +
           aligned(pages * sizeof(struct datagram)) + pages * (WORDS * sizeof(uint64_t) + PAGE);
}

struct fragments *fragment_init(void *at, uint64_t memory, uint64_t timeout, uint64_t seed)
{
    struct fragments *f = at;
    uint8_t *end = (uint8_t *)at + aligned(sizeof *f);
    memset(f, 0, offsetof(struct fragments, whole));
    f->timeout = timeout;
    f->seed = seed;
    f->count = (uint32_t)(memory / PAGE);
    uint32_t buckets = bucket_count(f->count);
    f->bucket_mask = buckets - 1;
    f->buckets = (uint32_t *)(void *)end;
    end += aligned(buckets * sizeof(uint32_t));
    f->datagrams = (struct datagram *)(void *)end;
    end += aligned(f->count * sizeof(struct datagram));
    f->arrived = (uint64_t (*)[WORDS])(void *)end;
    end += f->count * WORDS * sizeof(uint64_t);
    f->pages = (uint8_t (*)[PAGE])end;
    memset(f->buckets, 0xFF, buckets * sizeof(uint32_t));
    memset(&f->ages, 0xFF, sizeof f->ages);
    memset(f->sources, 0xFF, sizeof f->sources);
    for (uint32_t i = 0; i < f->count; i++) {
        uint32_t next = i + 1 < f->count ? i + 1 : NOBODY;
        f->datagrams[i].next = next;
        f->arrived[i][0] = next;
    }
    return f;
}

void fragment_stats(const struct fragments *f, struct fragment_stats *stats)
{
    *stats = f->stats;
}

/* ---- datagrams: find, begin, forget ------------------------------------------ */

static void list_add(struct fragments *f, struct list *list, enum order order, uint32_t i)
{
    f->datagrams[i].link[order] = (struct link){list->newest, NOBODY};
    if (list->newest == NOBODY)
        list->oldest = i;
    else
        f->datagrams[list->newest].link[order].newer = i;
    list->newest = i;
}

static void list_remove(struct fragments *f, struct list *list, enum order order, uint32_t i)
{
    struct link link = f->datagrams[i].link[order];
    if (link.older == NOBODY)
        list->oldest = link.newer;
    else
        f->datagrams[link.older].link[order].newer = link.newer;
    if (link.newer == NOBODY)
        list->newest = link.older;
    else
        f->datagrams[link.newer].link[order].older = link.older;
}

static uint64_t hash_of(const struct fragments *f, const uint8_t *bytes, size_t length)
{
    uint64_t h = f->seed;
    for (size_t i = 0; i + 8 <= length; i += 8)
        h = hash_absorb(h, get64le(bytes + i), i);
    return hash_finish(h);
}

static uint32_t *bucket_of(struct fragments *f, const struct key *key)
{
    return &f->buckets[hash_of(f, (const uint8_t *)key, sizeof *key) & f->bucket_mask];
}

static struct datagram *find(struct fragments *f, const struct key *key)
{
    for (uint32_t i = *bucket_of(f, key); i != NOBODY; i = f->datagrams[i].next)
        if (memcmp(&f->datagrams[i].key, key, sizeof *key) == 0)
            return &f->datagrams[i];
    return NULL;
}

static void give_back_pages(struct fragments *f, struct datagram *d)
{
    for (uint32_t n = 0; n < PAGES_MAX; n++) {
        uint32_t page = d->pages[n];
        if (page == NOBODY)
            continue;
        f->arrived[page][0] = f->free_page;
        f->free_page = page;
        f->used[d->source]--;
        f->stats.memory -= PAGE;
        d->pages[n] = NOBODY;
    }
}

/* Its fragments are counted as lost, or given, by counter. */
static void forget(struct fragments *f, struct datagram *d, uint64_t *counter)
{
    uint32_t i = (uint32_t)(d - f->datagrams), *at = bucket_of(f, &d->key);
    *counter += d->fragments;
    f->stats.held -= d->fragments;
    give_back_pages(f, d);
    while (*at != i)
        at = &f->datagrams[*at].next;
    *at = d->next;
    list_remove(f, &f->ages, BY_AGE, i);
    list_remove(f, &f->sources[d->source], BY_SOURCE, i);
    d->next = f->free_datagram;
    f->free_datagram = i;
    f->used[d->source]--;
    f->stats.pending--;
}

/* RFC 5722: all of it is lost, and what may follow. */
static void kill(struct fragments *f, struct datagram *d)
{
    give_back_pages(f, d);
    f->stats.overlaps += d->fragments;
    f->stats.held -= d->fragments;
    d->fragments = 0;
    d->dead = true;
}

/* Give up the oldest datagram, but not this one, of the source that has most; of the
 * one that asks, if none has more.  False where there is no other. */
static bool evict(struct fragments *f, uint32_t asking, const struct datagram *but)
{
    uint32_t most = asking;
    for (uint32_t s = 0; s < SOURCES; s++)
        if (f->used[s] > f->used[most])
            most = s;
    uint32_t i = f->sources[most].oldest;
    if (i != NOBODY && &f->datagrams[i] == but)
        i = but->link[BY_SOURCE].newer;
    if (i == NOBODY)
        return false;
    forget(f, &f->datagrams[i], &f->stats.limits);
    return true;
}

static struct datagram *begin(struct fragments *f, const struct key *key, uint64_t now)
{
    uint32_t source = (uint32_t)hash_of(f, key->addresses + 16, 16) & (SOURCES - 1);
    while (f->free_datagram == NOBODY)
        if (!evict(f, source, NULL))
            return NULL;
    uint32_t i = f->free_datagram, *bucket = bucket_of(f, key);
    struct datagram *d = &f->datagrams[i];
    f->free_datagram = d->next;
    memset(d, 0, sizeof *d);
    memset(d->pages, 0xFF, sizeof d->pages);
    d->key = *key;
    d->first = now;
    d->source = source;
    d->next = *bucket;
    *bucket = i;
    list_add(f, &f->ages, BY_AGE, i);
    list_add(f, &f->sources[source], BY_SOURCE, i);
    f->used[source]++;
    f->stats.pending++;
    return d;
}

size_t fragment_expire(struct fragments *f, uint64_t now)
{
    uint64_t before = f->stats.timeouts;
    while (f->ages.oldest != NOBODY) {
        struct datagram *d = &f->datagrams[f->ages.oldest];
        if (now < d->first || now - d->first < f->timeout)
            break;
        forget(f, d, &f->stats.timeouts);
    }
    return (size_t)(f->stats.timeouts - before);
}

/* ---- one fragment -------------------------------------------------------------- */

struct piece {
    struct key key;
    uint32_t l3;
    uint32_t headers; /* bytes before the payload, a fragment header left out */
    uint32_t at;      /* of the payload in the packet */
    uint32_t offset;  /* of it in the datagram */
    uint32_t length;
    uint32_t next_at; /* IPv6: what says that a fragment header follows */
    uint8_t next;     /* and what the fragment header says of the payload */
    uint8_t ecn;
    bool more;
};

/* Read a packet of which outer_parse said that it is a fragment. */
static int read_piece(const uint8_t *packet, const struct outer *o, struct piece *p)
{
    const uint8_t *ip = packet + o->l3;
    uint32_t end;
    memset(p, 0, sizeof *p);
    p->l3 = o->l3;
    if (ip[0] >> 4 == 4) {
        uint32_t word = get16(ip + 6);
        p->headers = p->at = o->l3 + (ip[0] & 15u) * 4;
        p->offset = (word & OFFSET) * UNIT;
        p->more = word & MF;
        p->ecn = ip[1] & ECN_MASK;
        p->key.id = get16(ip + 4);
        p->key.family = 4u << 8 | ip[9];
        memcpy(p->key.addresses, ip + 16, 4);
        memcpy(p->key.addresses + 16, ip + 12, 4);
        end = o->l3 + get16(ip + 2);
    } else {
        p->next_at = o->l3 + 6;
        p->headers = o->l3 + IPV6_LENGTH;
        while (packet[p->next_at] != 44) { /* which outer_parse has reached */
            p->next_at = p->headers;
            p->headers += (packet[p->headers + 1] + 1u) * 8;
        }
        const uint8_t *header = packet + p->headers;
        p->at = p->headers + 8;
        p->next = header[0];
        p->offset = get16(header + 2) & 0xFFF8;
        p->more = header[3] & 1;
        p->ecn = (uint8_t)(get16(ip) >> 4) & ECN_MASK;
        p->key.id = get32(header + 4);
        p->key.family = 6u << 8;
        memcpy(p->key.addresses, ip + 24, 16);
        memcpy(p->key.addresses + 16, ip + 8, 16);
        end = o->l3 + IPV6_LENGTH + get16(ip + 4);
    }
    if (p->headers > HEADER_MAX)
        return OV_IP_EXTENSION;
    p->length = end - p->at;
    uint32_t before = p->headers - o->l3 - (ip[0] >> 4 == 4 ? 0 : IPV6_LENGTH);
    if (p->length == 0 || (p->more && p->length % UNIT != 0) ||
        before + p->offset + p->length > PACKET_MAX)
        return OV_IP_LENGTH;
    return OV_OK;
}

/* ---- its payload ------------------------------------------------------------------ */

static uint64_t *word_of(struct fragments *f, uint32_t page, uint32_t unit)
{
    return &f->arrived[page][unit % (PAGE / UNIT) / 64];
}

/* Units of the fragment that are here already. */
static uint32_t units_here(struct fragments *f, const struct datagram *d, const struct piece *p)
{
    uint32_t here = 0, end = (p->offset + p->length + UNIT - 1) / UNIT;
    for (uint32_t unit = p->offset / UNIT; unit < end; unit++) {
        uint32_t page = d->pages[unit / (PAGE / UNIT)];
        here += page != NOBODY && (*word_of(f, page, unit) >> unit % 64 & 1);
    }
    return here;
}

/* Whether bytes that are all here are the same. */
static bool same(const struct fragments *f, const struct datagram *d, const struct piece *p,
                 const uint8_t *payload)
{
    for (uint32_t at = 0, n; at < p->length; at += n) {
        uint32_t offset = p->offset + at, in_page = offset % PAGE;
        n = min32(PAGE - in_page, p->length - at);
        if (memcmp(f->pages[d->pages[offset / PAGE]] + in_page, payload + at, n) != 0)
            return false;
    }
    return true;
}

/* A page for a datagram, others given up for it if need be; NOBODY if there is none. */
static uint32_t take_page(struct fragments *f, struct datagram *d)
{
    while (f->free_page == NOBODY)
        if (!evict(f, d->source, d))
            return NOBODY;
    uint32_t page = f->free_page;
    f->free_page = (uint32_t)f->arrived[page][0];
    memset(f->arrived[page], 0, sizeof f->arrived[page]);
    f->used[d->source]++;
    f->stats.memory += PAGE;
    return page;
}

static bool store(struct fragments *f, struct datagram *d, const struct piece *p,
                  const uint8_t *payload)
{
    for (uint32_t at = 0, n; at < p->length; at += n) {
        uint32_t offset = p->offset + at, in_page = offset % PAGE;
        uint32_t *page = &d->pages[offset / PAGE];
        n = min32(PAGE - in_page, p->length - at);
        if (*page == NOBODY && (*page = take_page(f, d)) == NOBODY)
            return false;
        memcpy(f->pages[*page] + in_page, payload + at, n);
        for (uint32_t unit = offset / UNIT; unit < (offset + n + UNIT - 1) / UNIT; unit++)
            *word_of(f, *page, unit) |= (uint64_t)1 << unit % 64;
    }
    return true;
}

/* ---- the whole ---------------------------------------------------------------------- */

/* Whether all that has come may be one packet. */
static int judge(const struct datagram *d)
{
    uint32_t before = d->header_length - d->l3, v6 = d->header[d->l3] >> 4 == 6;
    if (before + d->end > PACKET_MAX + (v6 ? IPV6_LENGTH : 0u))
        return OV_IP_LENGTH;
    /* RFC 3168, 5.3: packets without ECN and with it do not mix. */
    return (d->marks & 1) == 0 || d->marks == 1 ? OV_OK : OV_ECN_CONGESTION;
}

static uint32_t join(struct fragments *f, const struct datagram *d)
{
    uint8_t *ip = f->whole + d->l3;
    bool ce = d->marks >> ECN_CE & 1;
    memcpy(f->whole, d->header, d->header_length);
    for (uint32_t at = 0; at < d->end; at += PAGE)
        memcpy(f->whole + d->header_length + at, f->pages[d->pages[at / PAGE]],
               min32(PAGE, d->end - at));
    uint32_t bytes = d->header_length - d->l3 + d->end;
    if (ip[0] >> 4 == 4) {
        ip[1] |= ce ? ECN_CE : 0;
        put16(ip + 2, (uint16_t)bytes);
        put16(ip + 6, get16(ip + 6) & (uint16_t)~(MF | OFFSET));
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)~checksum_sum(ip, d->header_length - d->l3));
    } else {
        ip[1] |= ce ? ECN_CE << 4 : 0;
        put16(ip + 4, (uint16_t)(bytes - IPV6_LENGTH));
    }
    return d->header_length + d->end;
}

static void keep_header(struct datagram *d, const struct piece *p, const uint8_t *packet)
{
    d->l3 = p->l3;
    d->header_length = p->headers;
    memcpy(d->header, packet, p->headers);
    if (p->next_at != 0)
        d->header[p->next_at] = p->next;
}

static int accept(struct fragments *f, struct datagram *d, const struct piece *p,
                  const uint8_t *packet)
{
    const uint8_t *payload = packet + p->at;
    uint32_t end = p->offset + p->length, here, units = (p->length + UNIT - 1) / UNIT;
    if (d->dead)
        return OV_FRAGMENT_OVERLAP;
    here = units_here(f, d, p);
    bool known_end = d->end != 0 && end == d->end;
    if (here == units && end <= d->high && known_end == !p->more && same(f, d, p, payload))
        return OV_FRAGMENT_OVERLAP; /* a duplicate */
    if (here != 0 || (d->end != 0 && (!p->more || end > d->end)) || (!p->more && d->high > end)) {
        kill(f, d);
        return OV_FRAGMENT_OVERLAP;
    }
    if (!store(f, d, p, payload)) {
        forget(f, d, &f->stats.limits);
        return OV_FRAGMENT_LIMIT;
    }
    if (p->offset == 0)
        keep_header(d, p, packet);
    if (!p->more)
        d->end = end;
    d->high = end > d->high ? end : d->high;
    d->arrived += p->length;
    d->marks |= (uint8_t)(1u << p->ecn);
    return OV_FRAGMENT_HELD;
}

static int tally(struct fragments *f, int status)
{
    if (status == OV_FRAGMENT_OVERLAP)
        f->stats.overlaps++;
    else if (status == OV_FRAGMENT_LIMIT)
        f->stats.limits++;
    else
        f->stats.refused++;
    return status;
}

/* Whether this is surely no fragment, as most packets are. */
always_inline bool is_plain(const uint8_t *packet, uint32_t length, int link)
{
    return link == OV_ETHERNET && length >= ETHERNET_LENGTH + 20 &&
           get16(packet + 12) == ETHERTYPE_IPV4 &&
           !test16(packet + ETHERNET_LENGTH + 6, MF | OFFSET);
}

int fragment_push(struct fragments *f, const uint8_t *packet, uint32_t length, int link,
                  uint64_t now, const uint8_t **whole, uint32_t *bytes)
{
    struct outer o = {0};
    struct piece p;
    fragment_expire(f, now);
    *whole = packet;
    *bytes = length;
    if (likely(is_plain(packet, length, link)) ||
        outer_parse(packet, length, length, link, false, &o) != OV_IP_FRAGMENT)
        return OV_OK;
    f->stats.taken++;
    int status = read_piece(packet, &o, &p);
    if (status != OV_OK)
        return tally(f, status);
    struct datagram *d = find(f, &p.key);
    if (d == NULL)
        d = begin(f, &p.key, now);
    status = d == NULL ? OV_FRAGMENT_LIMIT : accept(f, d, &p, packet);
    if (status != OV_FRAGMENT_HELD)
        return tally(f, status);
    f->stats.held++;
    d->fragments++;
    if (d->end == 0 || d->arrived != d->end)
        return OV_FRAGMENT_HELD;
    status = judge(d);
    if (status != OV_OK) {
        forget(f, d, &f->stats.refused);
        return status;
    }
    *bytes = join(f, d);
    *whole = f->whole;
    f->stats.packets++;
    forget(f, d, &f->stats.joined);
    return OV_OK;
}
