/* rewrite.c: rules over the outer headers of tunnel packets: what they set, in place.
 *
 * Guarantee: a row that is refused keeps its bytes, since everything that can be
 * refused is known before the first byte is written.
 */
#include "rewrite.h"

enum { INHERITED = -2, KEEP = -1 };

/* ---- plan -------------------------------------------------------------------- */

/* What of a packet's inside a rule may ask for. */
struct inside {
    uint64_t hash;
    uint8_t tos;
};

struct change {
    const struct ov_rule *r;
    uint64_t key;
    struct inside in;
    uint16_t port; /* the source port */
    bool rebuild;
};

static uint64_t new_key(const struct ov_rule *r, uint64_t key)
{
    switch (r->key_mode) {
    case OV_KEY_SET:
        return r->new_key;
    case OV_KEY_ADD:
        return key + r->new_key;
    case OV_KEY_MAP:
        return r->key_to[rewrite_place(r, key)];
    default:
        return key;
    }
}

static bool needs_inside(const struct ov_rule *r)
{
    return r->new_dscp == INHERITED || r->new_ecn == INHERITED ||
           (r->parts & OV_SET_SOURCE_PORT && r->port_low != r->port_high);
}

static bool adds_tag(const struct ov_rule *r, const struct look *k)
{
    return r->new_vlan >= 0 && k->tci < 0;
}

/* The key in the packet's own field. */
static int plan_key(const struct ov_rule *r, const struct look *k, const struct change *c)
{
    if (r->key_mode == OV_KEY_KEEP || (k->partial && !k->first))
        return OV_OK;
    if (k->key_at == 0)
        return OV_NO_FIELD;
    uint64_t most = k->key_mask != 0   ? k->key_mask
                    : k->key_bytes < 8 ? ((uint64_t)1 << 8 * k->key_bytes) - 1
                                       : UINT64_MAX;
    if (c->key > most)
        return OV_KEY_RANGE;
    bool reserved = k->protocol == OV_NVGRE && (c->key < 0x1000 || c->key == 0xFFFFFF);
    return reserved && !r->reserved_vsid ? OV_NVGRE_VSID : OV_OK;
}

static int plan_addresses(const struct ov_rule *r, const struct look *k, struct change *c)
{
    uint8_t source = r->new_source_family, destination = r->new_destination_family;
    bool other = (source != 0 && source != k->o.version) ||
                 (destination != 0 && destination != k->o.version);
    if (other && source != destination)
        return OV_IP_VERSION;
    c->rebuild = other || r->to != OV_NONE;
    return OV_OK;
}

/* Everything that can be refused. */
static int plan(const struct ov_batch *b, size_t i, const struct look *k, struct change *c)
{
    const struct ov_rule *r = c->r;
    const int sets_link = OV_SET_SOURCE_MAC | OV_SET_DESTINATION_MAC;
    int status = plan_addresses(r, k, c);
    if (status != OV_OK)
        return status;
    if (!(k->knows & KNOWS_LINK) && (r->parts & sets_link || r->new_vlan != REWRITE_ANY_VLAN))
        return OV_LINK_TYPE;
    if (c->rebuild)
        return OV_OK;
    status = plan_key(r, k, c);
    if (status != OV_OK)
        return status;
    if (!k->ports && r->parts & (OV_SET_SOURCE_PORT | OV_SET_DESTINATION_PORT))
        return OV_NO_FIELD;
    if (adds_tag(r, k) && b->offset[i] - b->base[i] < TAG_LENGTH)
        return OV_NO_HEADROOM;
    return OV_OK;
}

/* ---- what is remembered of STT frames ------------------------------------------- */

static uint64_t frame_mark(const struct look *k)
{
    const uint8_t *source = rewrite_address(k, false), *destination = rewrite_address(k, true);
    uint64_t state = hash_absorb(0, get16(k->packet + k->o.l4), k->frame_id);
    if (k->o.version == 4) {
        state = hash_absorb(state, get32(source), get32(destination));
    } else {
        state = hash_absorb(state, get64(source), get64(source + 8));
        state = hash_absorb(state, get64(destination), get64(destination + 8));
    }
    return hash_finish(state) | 1;
}

/* ---- targets ----------------------------------------------------------------------- */

static void put_address(const struct look *k, bool destination, uint8_t family,
                        const uint8_t *address, const uint8_t *mask, uint8_t *out)
{
    if (family == 0 || family == k->o.version)
        memcpy(out, rewrite_address(k, destination), rewrite_address_bytes(k->o.version));
    for (uint32_t i = 0; family != 0 && i < rewrite_address_bytes(family); i++)
        out[i] = (uint8_t)((out[i] & ~mask[i]) | (address[i] & mask[i]));
}

static void plan_target(const struct look *k, const struct change *c, uint32_t rule,
                        struct ov_target *t)
{
    const struct ov_rule *r = c->r;
    const uint8_t *ip = k->packet + k->o.l3;
    memset(t, 0, sizeof *t);
    t->key = c->key;
    t->rule = rule;
    t->family = r->new_source_family != 0        ? r->new_source_family
                : r->new_destination_family != 0 ? r->new_destination_family
                                                 : k->o.version;
    put_address(k, false, r->new_source_family, r->new_source, r->new_source_mask, t->local);
    put_address(k, true, r->new_destination_family, r->new_destination, r->new_destination_mask,
                t->remote);
    t->tci = -1;
    if (k->knows & KNOWS_LINK) {
        memcpy(t->remote_mac, k->packet, 6);
        memcpy(t->local_mac, k->packet + 6, 6);
        t->tci = k->tci;
    }
    if (r->parts & OV_SET_DESTINATION_MAC)
        memcpy(t->remote_mac, r->new_destination_mac, 6);
    if (r->parts & OV_SET_SOURCE_MAC)
        memcpy(t->local_mac, r->new_source_mac, 6);
    if (r->new_vlan != REWRITE_ANY_VLAN)
        t->tci = r->new_vlan < 0 ? -1 : r->new_vlan | (k->tci < 0 ? 0 : k->tci & 0xF000);
    t->dscp = r->new_dscp == INHERITED ? -1 : r->new_dscp == KEEP ? k->o.tos >> 2 : r->new_dscp;
    t->protocol = r->to != OV_NONE ? r->to : k->protocol;
    t->ttl = r->new_ttl != KEEP ? (uint8_t)r->new_ttl : k->o.version == 4 ? ip[8] : ip[7];
    t->df = k->o.version == 6 || (ip[6] & 0x40) != 0;
}

/* The number of a target, which is that of the first like it. */
static uint32_t target_number(struct ov_rewriter *w, const struct ov_target *t)
{
    uint64_t words[sizeof *t / 8], state = 0;
    memcpy(words, t, sizeof *t);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        state = hash_absorb(state, words[i], i);
    for (uint64_t at = hash_finish(state);; at++) {
        uint32_t *slot = &w->slots[at & (w->slot_count - 1)];
        if (*slot == 0) {
            w->targets[w->target_count] = *t;
            *slot = (uint32_t)++w->target_count;
            return *slot - 1;
        }
        if (memcmp(&w->targets[*slot - 1], t, sizeof *t) == 0)
            return *slot - 1;
    }
}
_Static_assert(sizeof(struct ov_target) % 8 == 0, "hashed by words");

/* ---- change in place --------------------------------------------------------------- */

/* What has changed of the sums, as RFC 1624 adds it up. */
struct sums {
    uint64_t ip;
    uint64_t l4;
};

/* Write size bytes at p and add what that changes; begin is at an even offset of what is summed. */
static void put(uint8_t *p, const uint8_t *begin, const void *now, uint32_t size, uint64_t *sum,
                uint64_t *other)
{
    const uint8_t *bytes = now;
    for (uint32_t i = 0; i < size; i++) {
        uint32_t shift = (uint32_t)(p + i - begin) & 1 ? 0 : 8;
        if (p[i] == bytes[i])
            continue;
        uint32_t change = ((uint32_t)bytes[i] << shift) + (0xFFFF - ((uint32_t)p[i] << shift));
        *sum += change;
        if (other != NULL)
            *other += change;
        p[i] = bytes[i];
    }
}

static void put_tos(struct look *k, uint8_t tos, struct sums *s)
{
    uint8_t *ip = k->packet + k->o.l3;
    if (k->o.version == 4)
        put(ip + 1, ip, &tos, 1, &s->ip, NULL);
    else
        put16(ip, (uint16_t)(0x6000 | tos << 4 | (get16(ip) & 0xF)));
    k->o.tos = tos;
}

static void put_addresses(const struct look *k, const struct ov_rule *r, struct sums *s)
{
    uint32_t size = rewrite_address_bytes(k->o.version);
    uint8_t *ip = k->packet + k->o.l3, *source = ip + (k->o.version == 4 ? 12 : 8), now[16] = {0};
    if (r->new_source_family != 0) {
        put_address(k, false, r->new_source_family, r->new_source, r->new_source_mask, now);
        put(source, ip, now, size, &s->l4, &s->ip);
    }
    if (r->new_destination_family != 0) {
        put_address(k, true, r->new_destination_family, r->new_destination, r->new_destination_mask,
                    now);
        put(source + size, ip, now, size, &s->l4, &s->ip);
    }
}

static void put_key(const struct look *k, uint64_t key, struct sums *s)
{
    uint8_t now[8];
    if (k->key_mask != 0)
        key |= get16(k->packet + k->key_at) & ~(uint64_t)k->key_mask;
    put64(now, key);
    put(k->packet + k->key_at, k->packet + k->o.l4, now + 8 - k->key_bytes, k->key_bytes, &s->l4,
        NULL);
}

static void put_ports(const struct look *k, const struct change *c, struct sums *s)
{
    uint8_t *l4 = k->packet + k->o.l4, now[2];
    if (c->r->parts & OV_SET_SOURCE_PORT) {
        put16(now, c->port);
        put(l4, l4, now, 2, &s->l4, NULL);
    }
    if (c->r->parts & OV_SET_DESTINATION_PORT) {
        put16(now, c->r->port);
        put(l4 + 2, l4, now, 2, &s->l4, NULL);
    }
}

/* The sum of the pseudo header; GRE has none. */
static uint32_t pseudo_sum(const struct look *k)
{
    uint32_t bytes = k->o.end - k->o.l4;
    if (!k->ports)
        return 0;
    return outer_pseudo_sum(k->packet, &k->o, k->o.protocol) + (bytes >> 16) + (bytes & 0xFFFF);
}

/* An IPv4 checksum of 0 that is wrong was left to the sender's NIC: there is none to update. */
static bool is_untaken(const struct look *k)
{
    const uint8_t *ip = k->packet + k->o.l3;
    return k->o.version == 4 && get16(ip + 10) == 0 &&
           checksum_sum(ip, (ip[0] & 15u) * 4) != 0xFFFF;
}

static void settle_ip(const struct look *k, bool fix, uint64_t changed)
{
    uint8_t *ip = k->packet + k->o.l3;
    if (fix) {
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)~checksum_sum(ip, (ip[0] & 15u) * 4));
    } else if (changed != 0) {
        put16(ip + 10, (uint16_t)~checksum_fold((uint16_t)~get16(ip + 10) + changed));
    }
}

/* A capture that was cut shows too little of the packet to compute its checksum. */
static void settle_l4(const struct look *k, bool fix, uint64_t changed)
{
    uint8_t *field = k->packet + k->sum_at, *l4 = k->packet + k->o.l4;
    uint16_t now = 0;
    if (fix && k->o.here == k->o.end) {
        put16(field, 0);
        now = (uint16_t)~checksum_fold((uint64_t)pseudo_sum(k) +
                                       checksum_sum(l4, k->o.end - k->o.l4));
    } else if (changed != 0) {
        /* What the addresses change is none of GRE's. */
        now = (uint16_t)~checksum_fold((uint16_t)~get16(field) + changed);
    } else {
        return;
    }
    put16(field, now == 0 && k->o.protocol == IP_UDP ? 0xFFFF : now);
}

/* Move the MAC addresses, so that a tag fits behind them or none is left. */
static void put_tag(const struct ov_batch *b, size_t i, struct look *k, int32_t vlan)
{
    int32_t tci = vlan < 0 ? -1 : vlan | (k->tci < 0 ? 0 : k->tci & 0xF000);
    int shift = (tci >= 0 ? TAG_LENGTH : 0) - (k->tci >= 0 ? TAG_LENGTH : 0);
    uint8_t macs[12], *packet = k->packet - shift;
    memcpy(macs, k->packet, 12);
    memcpy(packet, macs, 12);
    if (tci >= 0) {
        put16(packet + 12, ETHERTYPE_CTAG);
        put16(packet + 14, (uint16_t)tci);
    }
    b->offset[i] = (uint64_t)((int64_t)b->offset[i] - shift);
    b->length[i] = (uint32_t)((int32_t)b->length[i] + shift);
    b->wire[i] = (uint32_t)((int32_t)b->wire[i] + shift);
}

static void edit(const struct ov_batch *b, size_t i, struct look *k, const struct change *c,
                 bool fix)
{
    const struct ov_rule *r = c->r;
    struct sums s = {0};
    uint8_t *ip = k->packet + k->o.l3, tos = k->o.tos;
    const bool untaken = is_untaken(k);
    if (r->new_dscp != KEEP)
        tos = (uint8_t)(((r->new_dscp == INHERITED ? c->in.tos >> 2 : r->new_dscp) << 2) |
                        (tos & ECN_MASK));
    /* A mark that was met stays: the egress has yet to hear of it (RFC 6040). */
    if (r->new_ecn >= 0)
        tos = (uint8_t)((tos & ~ECN_MASK) | r->new_ecn);
    else if (r->new_ecn == INHERITED && (tos & ECN_MASK) != ECN_CE)
        tos = (uint8_t)((tos & ~ECN_MASK) | (c->in.tos & ECN_MASK));
    if (tos != k->o.tos)
        put_tos(k, tos, &s);
    if (r->new_ttl != KEEP) {
        uint8_t ttl = (uint8_t)r->new_ttl;
        uint64_t none = 0;
        put(ip + (k->o.version == 4 ? 8 : 7), ip, &ttl, 1, k->o.version == 4 ? &s.ip : &none, NULL);
    }
    put_addresses(k, r, &s);
    if (!k->ports)
        s.l4 = 0; /* a GRE checksum does not cover the addresses */
    put_ports(k, c, &s);
    if (r->key_mode != OV_KEY_KEEP && k->key_at != 0)
        put_key(k, c->key, &s);
    if (k->o.version == 4)
        settle_ip(k, fix, untaken ? 0 : s.ip);
    if (k->sum_at != 0)
        settle_l4(k, fix, s.l4);
    if (r->new_vlan != REWRITE_ANY_VLAN)
        put_tag(b, i, k, r->new_vlan);
    if (r->parts & OV_SET_DESTINATION_MAC)
        memcpy(b->data + b->offset[i], r->new_destination_mac, 6);
    if (r->parts & OV_SET_SOURCE_MAC)
        memcpy(b->data + b->offset[i] + 6, r->new_source_mac, 6);
}

/* ---- rows ------------------------------------------------------------------------------ */

static struct inside look_inside(const struct look *k)
{
    enum { SEEN = 64 }; /* the longest IPv4 header and the ports behind it */
    struct inside in = {0};
    if (k->raw != 0 && k->o.here > k->raw) {
        uint8_t seen[ETHERNET_LENGTH + SEEN] = {0};
        uint32_t peek = min32(k->o.here - k->raw, SEEN);
        put16(seen + 12, k->ethertype);
        memcpy(seen + ETHERNET_LENGTH, k->packet + k->raw, peek);
        struct inner found = inner_inspect(seen, ETHERNET_LENGTH + peek, 0);
        in = (struct inside){found.hash, found.tos};
    }
    if (k->frame != 0 && k->o.here >= k->frame + ETHERNET_LENGTH) {
        struct inner found = inner_inspect(k->packet + k->frame, k->o.here - k->frame, 0);
        in = (struct inside){found.hash, found.tos};
    }
    return in;
}

/* Whether decap takes the frame as it lies: STT may have a tag to put in and a sum to finish,
 * IP gets an Ethernet header, and of the outer ECN fields only the odd ones change the inner. */
static bool lies_whole(const struct ov_policy *y, const struct look *k)
{
    return k->protocol != OV_STT && k->frame != 0 && k->knows & KNOWS_LINK && !(k->o.tos & 1) &&
           !y->uniform && y->inner_vlan != OV_VLAN_STRIP;
}

static uint16_t port_for(const struct ov_rule *r, uint64_t hash)
{
    return hash_port(hash, r->port_low, (uint32_t)r->port_high - r->port_low + 1);
}

static int rewrite_row(struct ov_rewriter *w, const struct ov_policy *y, const struct ov_batch *b,
                       size_t i)
{
    struct look k;
    struct change c = {0};
    struct ov_note *note = NULL;
    uint32_t rule = REWRITE_NO_RULE;
    if (unlikely(!kernel_row_good(b, b->base[i], b->offset[i], b->length[i], b->wire[i])))
        return OV_BAD_ROW;
    int status = rewrite_look(y, b, i, &k);
    if (rewrite_is_foreign(status))
        return OV_OK;
    bool follows = status == OV_OK && unlikely(k.partial) && w->follow;
    uint64_t mark = follows ? frame_mark(&k) : 0;
    if (follows)
        note = &w->notes[mark & (w->note_count - 1)];
    if (follows && !k.first) {
        if (note->frame != mark)
            return rewrite_rule_for(w, &k) == REWRITE_NO_RULE ? OV_OK : OV_STT_INCOMPLETE;
        rule = note->rule;
        k.key = note->key;
        c.in.tos = note->tos;
        c.port = note->port;
    } else {
        rule = rewrite_rule_for(w, &k);
    }
    if (rule != REWRITE_NO_RULE) {
        c.r = &w->rules[rule];
        if (status != OV_OK)
            return status;
        if (!follows || k.first) {
            if (needs_inside(c.r))
                c.in = look_inside(&k);
            c.port = port_for(c.r, c.in.hash);
        }
        c.key = k.first || !k.partial || follows ? new_key(c.r, k.key) : 0;
        status = plan(b, i, &k, &c);
    }
    if (follows && k.first)
        *note = (struct ov_note){mark, k.key, rule, c.port, c.in.tos, 0};
    if (rule == REWRITE_NO_RULE || status != OV_OK)
        return rule == REWRITE_NO_RULE ? OV_OK : status;
    w->rule[i] = rule;
    if (c.rebuild) {
        struct ov_target t;
        plan_target(&k, &c, rule, &t);
        w->target[i] = target_number(w, &t);
        w->action[i] = k.partial           ? OV_ACTION_GATHER
                       : lies_whole(y, &k) ? OV_ACTION_EXCHANGE
                                           : OV_ACTION_REBUILD;
        return OV_OK;
    }
    edit(b, i, &k, &c, w->fix != 0);
    w->action[i] = OV_ACTION_EDITED;
    return OV_OK;
}

size_t ov_rewrite_batch(struct ov_rewriter *rewriter, const struct ov_policy *policy,
                        struct ov_batch *batch)
{
    struct ov_rewriter *w = rewriter;
    const struct ov_batch b = *batch;
    size_t edited = 0;
    if (2 * (w->target_count + b.count) > w->slot_count) {
        memset(w->slots, 0, w->slot_count * sizeof *w->slots);
        w->target_count = 0;
        w->generation++;
    }
    for (size_t i = 0; i < b.count; i++) {
        kernel_prefetch(&b, i, 0);
        w->action[i] = OV_ACTION_NONE;
        w->rule[i] = REWRITE_NO_RULE;
        w->target[i] = 0;
        if (b.status[i] == OV_OK)
            b.status[i] = (uint8_t)rewrite_row(w, policy, &b, i);
        edited += w->action[i] == OV_ACTION_EDITED;
    }
    return edited;
}
