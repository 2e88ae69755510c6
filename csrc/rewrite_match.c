/* rewrite_match.c: which rule a packet goes to. */
#include "rewrite.h"

static bool in_prefix(const struct look *k, bool destination, uint8_t family, const uint8_t *prefix,
                      const uint8_t *mask)
{
    const uint8_t *address = rewrite_address(k, destination);
    if (family != k->o.version)
        return false;
    for (uint32_t i = 0; i < rewrite_address_bytes(family); i++)
        if (((address[i] ^ prefix[i]) & mask[i]) != 0)
            return false;
    return true;
}

uint64_t rewrite_place(const struct ov_rule *r, uint64_t key)
{
    uint64_t low = 0, high = r->key_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (r->key_from[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->key_count && r->key_from[low] == key ? low : r->key_count;
}

static bool matches_link(const struct ov_rule *r, const struct look *k)
{
    if (!(k->knows & KNOWS_LINK)) /* a packet that begins with IP: it has none of this */
        return r->vlan < 0 && !(r->parts & (OV_MATCH_SOURCE_MAC | OV_MATCH_DESTINATION_MAC));
    if (r->vlan != REWRITE_ANY_VLAN && r->vlan != (k->tci < 0 ? REWRITE_NO_VLAN : k->tci & 0xFFF))
        return false;
    if (r->parts & OV_MATCH_DESTINATION_MAC && memcmp(k->packet, r->destination_mac, 6) != 0)
        return false;
    return !(r->parts & OV_MATCH_SOURCE_MAC) || memcmp(k->packet + 6, r->source_mac, 6) == 0;
}

/* What is not known of a packet is no reason against a rule. */
static bool matches(const struct ov_rule *r, const struct look *k)
{
    if (k->knows & KNOWS_TUNNEL && r->protocols != 0 && !(r->protocols >> k->protocol & 1))
        return false;
    if (k->knows & KNOWS_KEY) {
        if (k->key < r->key_low || k->key > r->key_high)
            return false;
        if (r->key_mode == OV_KEY_MAP && rewrite_place(r, k->key) == r->key_count)
            return false;
    }
    if (k->knows & KNOWS_IP) {
        if (r->dscp >= 0 && r->dscp != k->o.tos >> 2)
            return false;
        if (r->source_family != 0 &&
            !in_prefix(k, false, r->source_family, r->source, r->source_mask))
            return false;
        if (r->destination_family != 0 &&
            !in_prefix(k, true, r->destination_family, r->destination, r->destination_mask))
            return false;
    }
    return matches_link(r, k);
}

uint32_t rewrite_rule_for(const struct ov_rewriter *w, const struct look *k)
{
    for (uint64_t i = 0; i < w->rule_count; i++)
        if (matches(&w->rules[i], k))
            return (uint32_t)i;
    return REWRITE_NO_RULE;
}
