/* inner.c: inner frames that are not plain IPv4, and the public name of the flow hash. */
#include "inner.h"
#include "overlay.h"

static bool inspect_ipv4(const uint8_t *frame, size_t length, uint64_t seed, struct inner *in)
{
    const uint8_t *ip = frame + in->l3;
    size_t left = length - in->l3;
    uint32_t header = left < 20 ? 0 : (ip[0] & 15u) * 4;
    uint64_t l4 = 0;
    if (header < 20 || left < header || ip[0] >> 4 != 4)
        return false;
    in->version = 4;
    in->tos = ip[1];
    if ((get16(ip + 6) & 0x3FFF) == 0) {
        in->l4 = in->l3 + header;
        in->protocol = ip[9];
        l4 = inner_l4_word(frame, length, in->l4, in->protocol);
    }
    in->hash = hash_finish(hash_absorb(seed, get64le(ip + 12), l4));
    return true;
}

static bool inspect_ipv6(const uint8_t *frame, size_t length, uint64_t seed, struct inner *in)
{
    const uint8_t *ip = frame + in->l3;
    uint64_t l4 = 0;
    if (length - in->l3 < 40 || ip[0] >> 4 != 6)
        return false;
    uint8_t next = ip[6];
    in->version = 6;
    in->tos = (uint8_t)(get16(ip) >> 4);
    if (next != 0 && next != 43 && next != 44 && next != 60) {
        in->l4 = in->l3 + 40;
        in->protocol = next;
        l4 = inner_l4_word(frame, length, in->l4, next);
    }
    uint64_t state = hash_absorb(seed, get64le(ip + 8), get64le(ip + 16));
    state = hash_absorb(state, get64le(ip + 24), get64le(ip + 32));
    in->hash = hash_finish(hash_absorb(state, l4, 0));
    return true;
}

struct inner inner_inspect_any(const uint8_t *frame, size_t length, uint64_t seed)
{
    uint32_t tags = tag_bytes(frame, length);
    struct inner in = {.l3 = ETHERNET_LENGTH + tags, .tags = (uint8_t)(tags / TAG_LENGTH)};
    uint16_t ethertype = get16(frame + in.l3 - 2);
    if (ethertype == ETHERTYPE_IPV4 && inspect_ipv4(frame, length, seed, &in))
        return in;
    if (ethertype == ETHERTYPE_IPV6 && inspect_ipv6(frame, length, seed, &in))
        return in;
    uint64_t vid = tags == 0 ? 0 : get16(frame + 14) & 0x0FFFu;
    uint64_t rest = get32le(frame + 8) | (uint64_t)ethertype << 32 | vid << 48;
    in.hash = hash_finish(hash_absorb(seed, get64le(frame), rest));
    return in;
}

uint64_t ov_flow_hash(const uint8_t *frame, size_t length, uint64_t seed)
{
    return length < ETHERNET_LENGTH ? 0 : inner_inspect(frame, length, seed).hash;
}
