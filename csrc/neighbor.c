/* neighbor.c: ARP (RFC 826, 5227) and neighbour discovery (RFC 4861) from a table.
 *
 * One lock, held for a few steps; entries hang in buckets, learned ones in the
 * order of when they were heard too.  Frames are parsed before and answers built
 * after.
 */
#include "checksum.h"
#include "neighbor.h"

enum {
    NOBODY = 0, /* entry 0 is the head of the order; entries begin at 1 */
    SPINS = 2048,
    ETHERTYPE_ARP = 0x0806,
    ARP_LENGTH = 28,
    ARP_REQUEST = 1,
    ARP_REPLY = 2,
    ICMPV6 = 58,
    SOLICITATION = 135,
    ADVERTISEMENT = 136,
    ND_LENGTH = 24,
    FLAG_ROUTER = 0x80,
    FLAG_SOLICITED = 0x40,
    FLAG_OVERRIDE = 0x20,
    SOURCE_OPTION = 1,
    TARGET_OPTION = 2,
    OPTION_LENGTH = 8,
    IPV6_LENGTH = 40,
};

struct node {
    struct neighbor entry; /* family 0: free */
    uint32_t next;         /* in the bucket, or of the free ones */
    uint32_t older;        /* in the order; learned entries only */
    uint32_t newer;
};

struct neighbors {
    struct neighbor_stats stats;
    uint64_t seed;
    uint32_t age;
    uint32_t bucket_mask;
    uint32_t unused; /* first node that never was in use */
    uint32_t free;
    uint32_t *buckets;
    struct node *nodes;
    uint32_t lock;
};

/* ---- the lock: a worker gives up, the operator does not ----------------------------- */

always_inline void breathe(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool lock(struct neighbors *t, bool soon)
{
    for (int i = 0; i < SPINS || !soon; i++) {
        if (!__atomic_exchange_n(&t->lock, 1, __ATOMIC_ACQUIRE))
            return true;
        breathe();
    }
    return false;
}

static void unlock(struct neighbors *t)
{
    __atomic_store_n(&t->lock, 0, __ATOMIC_RELEASE);
}

/* ---- the block ------------------------------------------------------------------------ */

static size_t aligned(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static uint32_t bucket_count(uint64_t capacity)
{
    uint32_t n = 64;
    while (n < capacity)
        n *= 2;
    return n;
}

size_t neighbor_size(uint64_t capacity)
{
    if (capacity < 1 || capacity > NEIGHBOR_CAPACITY_MAX)
        return 0;
    return aligned(sizeof(struct neighbors)) + aligned(bucket_count(capacity) * sizeof(uint32_t)) +
           (capacity + 1) * sizeof(struct node);
}

struct neighbors *neighbor_init(void *at, uint64_t capacity, uint32_t age, uint64_t seed)
{
    struct neighbors *t = at;
    uint8_t *end = (uint8_t *)at + aligned(sizeof *t);
    uint32_t buckets = bucket_count(capacity);
    t->stats.capacity = capacity;
    t->seed = seed;
    t->age = age;
    t->bucket_mask = buckets - 1;
    t->unused = 1;
    t->buckets = (uint32_t *)(void *)end;
    t->nodes = (struct node *)(void *)(end + aligned(buckets * sizeof(uint32_t)));
    return t;
}

void neighbor_stats(struct neighbors *t, struct neighbor_stats *stats)
{
    lock(t, false);
    *stats = (struct neighbor_stats){
        .entries = t->stats.entries,
        .capacity = t->stats.capacity,
        .learned = t->stats.learned,
        .moved = t->stats.moved,
        .evicted = t->stats.evicted,
        .answered = __atomic_load_n(&t->stats.answered, __ATOMIC_RELAXED),
    };
    unlock(t);
}

/* ---- entries, under the lock ----------------------------------------------------------- */

static uint32_t *bucket_of(struct neighbors *t, const struct neighbor *e)
{
    uint64_t hash = hash_absorb(t->seed, get64le(e->ip), get64le(e->ip + 8));
    hash = hash_absorb(hash, e->network, (uint64_t)e->tag << 8 | e->family);
    return t->buckets + (hash_finish(hash) & t->bucket_mask);
}

static bool same(const struct neighbor *a, const struct neighbor *b)
{
    return a->network == b->network && a->tag == b->tag && a->family == b->family &&
           !memcmp(a->ip, b->ip, 16);
}

static uint32_t seek(struct neighbors *t, const struct neighbor *e)
{
    uint32_t i = *bucket_of(t, e);
    while (i != NOBODY && !same(&t->nodes[i].entry, e))
        i = t->nodes[i].next;
    return i;
}

static void leave_order(struct neighbors *t, uint32_t i)
{
    struct node *n = &t->nodes[i];
    t->nodes[n->older].newer = n->newer;
    t->nodes[n->newer].older = n->older;
}

/* As the newest: before the head, whose newer is the oldest. */
static void join_order(struct neighbors *t, uint32_t i)
{
    struct node *n = &t->nodes[i], *head = &t->nodes[NOBODY];
    n->older = head->older;
    n->newer = NOBODY;
    t->nodes[n->older].newer = i;
    head->older = i;
}

static void forget(struct neighbors *t, uint32_t i)
{
    struct node *n = &t->nodes[i];
    uint32_t *at = bucket_of(t, &n->entry);
    while (*at != i)
        at = &t->nodes[*at].next;
    *at = n->next;
    if (!(n->entry.flags & NEIGHBOR_STATIC))
        leave_order(t, i);
    n->entry.family = 0;
    n->next = t->free;
    t->free = i;
    t->stats.entries--;
}

/* A node in its bucket for this entry, or NOBODY: full of static ones. */
static uint32_t take_node(struct neighbors *t, const struct neighbor *e)
{
    if (t->stats.entries == t->stats.capacity) {
        if (t->nodes[NOBODY].newer == NOBODY)
            return NOBODY;
        forget(t, t->nodes[NOBODY].newer);
        t->stats.evicted++;
    }
    uint32_t i = t->free;
    if (i != NOBODY)
        t->free = t->nodes[i].next;
    else
        i = t->unused++;
    uint32_t *bucket = bucket_of(t, e);
    t->nodes[i].next = *bucket;
    *bucket = i;
    t->stats.entries++;
    return i;
}

static bool is_fresh(const struct neighbors *t, const struct neighbor *e, uint32_t now)
{
    return e->flags & NEIGHBOR_STATIC || !t->age || (int32_t)(now - e->stamp) <= (int64_t)t->age;
}

/* ---- the operator ------------------------------------------------------------------------ */

bool neighbor_set(struct neighbors *t, const struct neighbor *entry, uint32_t now)
{
    lock(t, false);
    uint32_t i = seek(t, entry);
    if (i != NOBODY && !(t->nodes[i].entry.flags & NEIGHBOR_STATIC))
        leave_order(t, i);
    if (i == NOBODY)
        i = take_node(t, entry);
    if (i != NOBODY) {
        t->nodes[i].entry = *entry;
        t->nodes[i].entry.stamp = now;
        if (!(entry->flags & NEIGHBOR_STATIC))
            join_order(t, i);
    }
    unlock(t);
    return i != NOBODY;
}

static bool find(struct neighbors *t, struct neighbor *entry, uint32_t now, bool soon)
{
    if (!lock(t, soon))
        return false;
    uint32_t i = seek(t, entry);
    bool found = i != NOBODY && is_fresh(t, &t->nodes[i].entry, now);
    if (found)
        *entry = t->nodes[i].entry;
    unlock(t);
    return found;
}

bool neighbor_find(struct neighbors *t, struct neighbor *entry, uint32_t now)
{
    return find(t, entry, now, false);
}

bool neighbor_remove(struct neighbors *t, const struct neighbor *entry)
{
    lock(t, false);
    uint32_t i = seek(t, entry);
    if (i != NOBODY)
        forget(t, i);
    unlock(t);
    return i != NOBODY;
}

static bool is_of(const struct neighbor *e, int64_t network)
{
    return e->family && (network < 0 || e->network == network);
}

uint64_t neighbor_flush(struct neighbors *t, int64_t network, const uint8_t *mac, bool statics)
{
    uint64_t gone = 0;
    lock(t, false);
    for (uint32_t i = 1; i < t->unused; i++) {
        const struct neighbor *e = &t->nodes[i].entry;
        if (!is_of(e, network) || (mac && memcmp(e->mac, mac, 6)) ||
            (e->flags & NEIGHBOR_STATIC && !statics))
            continue;
        forget(t, i);
        gone++;
    }
    unlock(t);
    return gone;
}

uint64_t neighbor_list(struct neighbors *t, int64_t network, struct neighbor *out, uint64_t room)
{
    uint64_t found = 0;
    lock(t, false);
    for (uint32_t i = 1; i < t->unused; i++)
        if (is_of(&t->nodes[i].entry, network)) {
            if (found < room)
                out[found] = t->nodes[i].entry;
            found++;
        }
    unlock(t);
    return found;
}

/* ---- parse ---------------------------------------------------------------------------------- */

/* What ARP, a solicitation or an advertisement says. */
struct message {
    uint8_t sender[16]; /* the IP address that it is about: for an advertisement its target */
    uint8_t target[16];
    const uint8_t *mac; /* of the sender, as said in it, or NULL */
    uint32_t l3;
    uint16_t tag; /* as in struct neighbor */
    uint8_t family;
    bool asks;
    bool confirms; /* does not say all that a new entry needs */
    bool yields;   /* to another MAC that is known: Override is clear */
    bool router;
};

/* Whether an address may be one host's. */
static bool is_host(const uint8_t *ip, uint8_t family)
{
    static const uint8_t nobody[16];
    if (family == 4)
        return memcmp(ip, nobody, 4) && ip[0] < 224 && ip[0] != 127;
    return memcmp(ip, nobody, 16) && ip[0] != 0xFF;
}

static bool parse_arp(const uint8_t *arp, size_t length, struct message *m)
{
    /* Ethernet, IPv4, and the lengths of their addresses */
    static const uint8_t kind[6] = {0, 1, 8, 0, 6, 4};
    if (length < ARP_LENGTH || memcmp(arp, kind, 6))
        return false;
    uint16_t operation = get16(arp + 6);
    memcpy(m->sender, arp + 14, 4);
    memcpy(m->target, arp + 24, 4);
    m->mac = arp + 8;
    m->family = 4;
    m->asks = operation == ARP_REQUEST && memcmp(m->sender, m->target, 4);
    return operation == ARP_REQUEST || operation == ARP_REPLY;
}

/* The link-layer address in an option of this kind; false: an option is malformed. */
static bool parse_options(const uint8_t *nd, size_t length, uint8_t kind, const uint8_t **mac)
{
    for (size_t at = ND_LENGTH; at < length; at += (size_t)nd[at + 1] * 8) {
        if (length - at < 8 || !nd[at + 1] || (size_t)nd[at + 1] * 8 > length - at)
            return false;
        if (nd[at] == kind && nd[at + 1] == 1 && !*mac)
            *mac = nd + at + 2;
    }
    return true;
}

/* RFC 4861, 7.1. */
static bool parse_nd(const uint8_t *ip, size_t room, struct message *m)
{
    if (room < IPV6_LENGTH + ND_LENGTH || ip[0] >> 4 != 6 || ip[6] != ICMPV6 || ip[7] != 255)
        return false;
    const uint8_t *nd = ip + IPV6_LENGTH;
    size_t length = get16(ip + 4);
    if (length < ND_LENGTH || length > room - IPV6_LENGTH || nd[1] != 0 || nd[8] == 0xFF)
        return false;
    uint64_t sum = (uint64_t)checksum_sum(ip + 8, 32 + length) + length + ICMPV6;
    if (checksum_fold(sum) != 0xFFFF)
        return false;
    m->family = 6;
    memcpy(m->target, nd + 8, 16);
    if (nd[0] == SOLICITATION) {
        memcpy(m->sender, ip + 8, 16);
        m->asks = m->confirms = true;
        return parse_options(nd, length, SOURCE_OPTION, &m->mac);
    }
    memcpy(m->sender, nd + 8, 16);
    m->router = nd[4] & FLAG_ROUTER;
    m->yields = !(nd[4] & FLAG_OVERRIDE);
    bool lies = ip[24] == 0xFF && nd[4] & FLAG_SOLICITED; /* to all, as asked by one */
    return nd[0] == ADVERTISEMENT && !lies && parse_options(nd, length, TARGET_OPTION, &m->mac);
}

static bool parse(const uint8_t *frame, size_t length, struct message *m)
{
    memset(m, 0, sizeof *m);
    if (!neighbor_concerns(frame, length))
        return false;
    m->l3 = ETHERNET_LENGTH;
    if (get16(frame + 12) == ETHERTYPE_CTAG) {
        m->l3 += TAG_LENGTH;
        m->tag = 0x1000 | (get16(frame + 14) & 0xFFF);
    }
    bool is_arp = get16(frame + m->l3 - 2) == ETHERTYPE_ARP;
    if (!(is_arp ? parse_arp : parse_nd)(frame + m->l3, length - m->l3, m))
        return false;
    return is_host(m->sender, m->family) && (!m->mac || !(m->mac[0] & 1));
}

/* ---- learn ------------------------------------------------------------------------------------
 */

static bool learn_locked(struct neighbors *t, const struct neighbor *heard, const struct message *m)
{
    uint32_t i = seek(t, heard);
    struct neighbor *e = &t->nodes[i].entry;
    if (i == NOBODY) {
        if (m->confirms || (i = take_node(t, heard)) == NOBODY)
            return false;
        t->nodes[i].entry = *heard;
        t->stats.learned++;
        join_order(t, i);
        return true;
    }
    bool moved = memcmp(e->mac, heard->mac, 6);
    if (e->flags & NEIGHBOR_STATIC || (moved && m->yields))
        return false;
    memcpy(e->mac, heard->mac, 6);
    e->stamp = heard->stamp;
    if (!m->confirms)
        e->flags = heard->flags;
    t->stats.moved += moved;
    leave_order(t, i);
    join_order(t, i);
    return moved;
}

bool neighbor_learn(struct neighbors *t, uint32_t network, const uint8_t *frame, size_t length,
                    uint32_t now)
{
    static const uint8_t nobody[6];
    struct message m;
    if (!parse(frame, length, &m) || !m.mac || memcmp(m.mac, frame + 6, 6) ||
        !memcmp(m.mac, nobody, 6))
        return false;
    struct neighbor heard = {.network = network,
                             .tag = m.tag,
                             .family = m.family,
                             .flags = m.router ? NEIGHBOR_ROUTER : 0,
                             .stamp = now};
    memcpy(heard.ip, m.sender, 16);
    memcpy(heard.mac, m.mac, 6);
    if (!lock(t, true))
        return false;
    bool news = learn_locked(t, &heard, &m);
    unlock(t);
    return news;
}

/* ---- answer -------------------------------------------------------------------------------------
 */

/* Behind the headers that end at out + l3. */
static size_t write_arp(const struct message *m, const struct neighbor *known, uint8_t *out)
{
    static const uint8_t head[8] = {0, 1, 8, 0, 6, 4, 0, ARP_REPLY};
    memcpy(out, head, 8);
    memcpy(out + 8, known->mac, 6);
    memcpy(out + 14, m->target, 4);
    memcpy(out + 18, m->mac, 6);
    memcpy(out + 24, m->sender, 4);
    return ARP_LENGTH;
}

static size_t write_nd(const struct message *m, const struct neighbor *known, uint8_t *ip)
{
    enum { LENGTH = ND_LENGTH + OPTION_LENGTH };
    uint8_t *nd = ip + IPV6_LENGTH;
    memset(ip, 0, IPV6_LENGTH + LENGTH);
    ip[0] = 0x60;
    put16(ip + 4, LENGTH);
    ip[6] = ICMPV6;
    ip[7] = 255;
    memcpy(ip + 8, m->target, 16);
    memcpy(ip + 24, m->sender, 16);
    nd[0] = ADVERTISEMENT;
    nd[4] = FLAG_SOLICITED | FLAG_OVERRIDE | (known->flags & NEIGHBOR_ROUTER ? FLAG_ROUTER : 0);
    memcpy(nd + 8, m->target, 16);
    nd[24] = TARGET_OPTION;
    nd[25] = 1;
    memcpy(nd + 26, known->mac, 6);
    uint64_t sum = (uint64_t)checksum_sum(ip + 8, 32 + LENGTH) + LENGTH + ICMPV6;
    put16(nd + 2, (uint16_t)~checksum_fold(sum));
    return IPV6_LENGTH + LENGTH;
}

size_t neighbor_answer(struct neighbors *t, uint32_t network, const uint8_t *frame, size_t length,
                       uint32_t now, uint8_t *out)
{
    struct message m;
    if (!parse(frame, length, &m) || !m.asks || !(frame[0] & 1) || frame[6] & 1)
        return 0;
    struct neighbor known = {.network = network, .tag = m.tag, .family = m.family};
    memcpy(known.ip, m.target, 16);
    if (!find(t, &known, now, true) || !memcmp(known.mac, frame + 6, 6) ||
        (m.mac && !memcmp(known.mac, m.mac, 6)))
        return 0;
    memcpy(out, m.family == 6 && m.mac ? m.mac : frame + 6, 6);
    memcpy(out + 6, known.mac, 6);
    memcpy(out + 12, frame + 12, m.l3 - 12);
    __atomic_fetch_add(&t->stats.answered, 1, __ATOMIC_RELAXED);
    return m.l3 + (m.family == 4 ? write_arp : write_nd)(&m, &known, out + m.l3);
}
