/* floor.c: the loops of floor.h.  No check but what finding the inner 5-tuple needs. */
#include "floor.h"

#include "checksum.h"
#include "hash.h"

enum {
    L3 = 14,
    L4 = 34,
    VXLAN_HEADERS = 50,
    NVGRE_HEADERS = 42,
    VXLAN = 1,
    NVGRE = 2,
};

/* ---- encap ------------------------------------------------------------------ */

/* Header and columns by value: bytes that are written could else be theirs. */
always_inline size_t encap(const struct floor_header *given, struct floor_rows *rows,
                           uint32_t headers, uint8_t protocol)
{
    const struct floor_header header = *given, *h = &header;
    const struct floor_rows columns = *rows, *r = &columns;
    size_t done = 0;
    for (size_t i = 0; i < r->count; i++) {
        uint64_t offset = r->offset[i];
        uint32_t length = r->length[i];
        const uint8_t *ip = r->data + offset + L3;
        const uint8_t *l4 = ip + (ip[0] & 15u) * 4;
        if (unlikely(get16(ip - 2) != 0x0800 || (ip[9] != 6 && ip[9] != 17)))
            continue;
        uint64_t flow = hash_absorb(0, get64le(ip + 12), (uint64_t)ip[9] << 32 | get32le(l4));
        flow = hash_finish(flow);

        uint8_t *packet = r->data + offset - headers;
        uint32_t bytes = length + headers - L3;
        uint32_t sum = h->ip_sum + bytes;
        sum = (sum & 0xFFFF) + (sum >> 16);
        memcpy(packet, h->bytes, 32);
        memcpy(packet + headers - 32, h->bytes + headers - 32, 32);
        put16(packet + L3 + 2, (uint16_t)bytes);
        put16(packet + L3 + 10, (uint16_t)~sum);
        if (protocol == VXLAN) {
            put16(packet + L4, hash_port(flow, 49152, 16384));
            put16(packet + L4 + 4, (uint16_t)(bytes - (L4 - L3)));
        } else {
            packet[L4 + 7] = hash_flow_id(flow);
        }
        r->offset[i] = offset - headers;
        r->length[i] = length + headers;
        r->wire[i] = length + headers;
        r->key[i] = h->key;
        r->status[i] = 0;
        r->protocol[i] = protocol;
        r->link[i] = 0;
        done++;
    }
    return done;
}

size_t floor_encap_vxlan(const struct floor_header *h, struct floor_rows *r)
{
    return encap(h, r, VXLAN_HEADERS, VXLAN);
}

size_t floor_encap_nvgre(const struct floor_header *h, struct floor_rows *r)
{
    return encap(h, r, NVGRE_HEADERS, NVGRE);
}

/* ---- decap ------------------------------------------------------------------ */

/* Every field that a check looks at is read, and all of them are judged at once. */
always_inline size_t decap(struct floor_rows *rows, uint32_t headers, uint8_t protocol)
{
    const struct floor_rows columns = *rows, *r = &columns;
    size_t done = 0;
    for (size_t i = 0; i < r->count; i++) {
        uint64_t offset = r->offset[i];
        uint32_t length = r->length[i];
        const uint8_t *packet = r->data + offset, *ip = packet + L3, *l4 = packet + L4;
        uint32_t total = get16(ip + 2);
        uint64_t a, b;
        uint32_t c;
        memcpy(&a, ip, 8);
        memcpy(&b, ip + 8, 8);
        memcpy(&c, ip + 16, 4);
        uint64_t sum = (a & 0xFFFFFFFF) + (a >> 32) + (b & 0xFFFFFFFF) + (b >> 32) + c;
        sum = (sum & 0xFFFFFFFF) + (sum >> 32);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        uint16_t inner = get16(packet + headers + 12);

        uint32_t bad = (get16(packet + 12) ^ 0x0800u) | (ip[0] ^ 0x45u) | (ip[1] & 3u) |
                       (get16(ip + 6) & 0x3FFFu) | ((uint32_t)sum ^ 0xFFFFu);
        bad |= (total > length - L3) | (total < headers - L3 + 14);
        bad |= (inner == 0x8100) | (inner == 0x88A8);
        if (protocol == VXLAN) {
            uint32_t bytes = get16(l4 + 4);
            bad |= (ip[9] ^ 17u) | (get16(l4 + 2) ^ 4789u) | get16(l4 + 6) | (~l4[8] & 0x08u);
            bad |= (bytes > total - (L4 - L3)) | (bytes < headers - L4 + 14);
            total = bytes + (L4 - L3);
        } else {
            bad |= (ip[9] ^ 47u) | (get32(l4) ^ 0x20006558u);
        }
        if (unlikely(bad != 0)) {
            r->status[i] = 1;
            continue;
        }
        r->offset[i] = offset + headers;
        r->length[i] = total + L3 - headers;
        r->wire[i] = total + L3 - headers;
        r->key[i] = get24(packet + headers - 4);
        r->mss[i] = 0;
        r->status[i] = 0;
        r->protocol[i] = protocol;
        r->link[i] = 0;
        done++;
    }
    return done;
}

size_t floor_decap_vxlan(struct floor_rows *r)
{
    return decap(r, VXLAN_HEADERS, VXLAN);
}

size_t floor_decap_nvgre(struct floor_rows *r)
{
    return decap(r, NVGRE_HEADERS, NVGRE);
}

/* ---- bytes ------------------------------------------------------------------- */

size_t floor_copy(const struct floor_rows *r, uint8_t *out)
{
    size_t at = 0;
    for (size_t i = 0; i < r->count; i++) {
        memcpy(out + at, r->data + r->offset[i], r->length[i]);
        at += r->length[i];
    }
    return at;
}

uint32_t floor_sum(const struct floor_rows *r)
{
    uint32_t all = 0;
    for (size_t i = 0; i < r->count; i++)
        all ^= checksum_sum(r->data + r->offset[i], r->length[i]);
    return all;
}
