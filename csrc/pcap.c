/* pcap.c: the records of a classic pcap file, as bytes; files are the caller's.
 *
 * Guarantee: whatever the lengths say, no row lies outside the data.
 */
#include "kernel.h"
#include "overlay.h"

enum { RECORD_LENGTH = 16 };

/* A field of the file's byte order: the host's, or the other. */
static uint32_t field(const uint8_t *p, int swapped)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return swapped ? __builtin_bswap32(v) : v;
}

uint64_t ov_pcap_scan(struct ov_batch *batch, uint64_t at, int swapped, uint64_t *stamps)
{
    struct ov_batch *b = batch;
    while (b->count < b->capacity && at <= b->size && b->size - at >= RECORD_LENGTH) {
        const uint8_t *record = b->data + at;
        uint32_t length = field(record + 8, swapped), wire = field(record + 12, swapped);
        if (length > b->size - at - RECORD_LENGTH)
            break;
        uint64_t row = b->count++;
        stamps[row] = (uint64_t)field(record, swapped) << 32 | field(record + 4, swapped);
        b->base[row] = b->offset[row] = at + RECORD_LENGTH;
        b->length[row] = length;
        b->wire[row] = wire < length ? length : wire;
        b->key[row] = 0;
        b->origin[row] = 0;
        b->mss[row] = 0;
        b->status[row] = OV_OK;
        b->protocol[row] = OV_NONE;
        at += RECORD_LENGTH + (uint64_t)length;
    }
    return at;
}

size_t ov_pcap_pack(const struct ov_batch *in, struct ov_batch *out)
{
    out->count = out->used = 0;
    for (uint64_t i = 0; i < in->count; i++) {
        uint64_t offset = in->offset[i];
        uint32_t length = in->length[i], wire = in->wire[i];
        if (in->status[i] != OV_OK || !kernel_row_good(in, in->base[i], offset, length, wire))
            continue;
        uint8_t *to = kernel_append(out, length, wire, (uint32_t)i);
        if (to == NULL)
            break;
        out->key[out->count - 1] = in->key[i];
        out->protocol[out->count - 1] = in->protocol[i];
        out->mss[out->count - 1] = in->mss[i];
        out->link[out->count - 1] = in->link[i];
        out->status[out->count - 1] = OV_OK;
        kernel_move(to, in->data + offset, length);
    }
    return out->count;
}

void ov_pcap_stamp(struct ov_batch *out, const uint64_t *stamps, size_t count)
{
    for (uint64_t i = 0; i < out->count; i++) {
        uint64_t stamp = out->origin[i] < count ? stamps[out->origin[i]] : 0, at = out->offset[i];
        uint32_t record[4] = {(uint32_t)(stamp >> 32), (uint32_t)stamp, out->length[i],
                              out->wire[i]};
        if (at >= RECORD_LENGTH && at <= out->size)
            memcpy(out->data + at - RECORD_LENGTH, record, sizeof record);
    }
}
