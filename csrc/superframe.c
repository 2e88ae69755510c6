/* superframe.c: cutting and coalescing by the batch: ov_segment_batch, ov_coalesce_batch.
 *
 * Lives here: rows and columns.  Must not: any knowledge of headers; offload.h
 * and split.h have that.  Guarantee: the packets of a row are written all or none.
 */
#include "kernel.h"
#include "split.h"

/* Where the rows of an output batch end, to go back to when there is no room. */
struct mark {
    uint64_t count, used;
};

/* Append a row of length bytes like row i of in, to be filled; NULL for no room. */
static uint8_t *append(const struct ov_batch *in, size_t i, struct ov_batch *out, uint32_t length,
                       uint32_t wire, uint16_t mss, uint8_t checksum)
{
    uint64_t row = out->count;
    uint8_t *to = kernel_append(out, length, wire, (uint32_t)i);
    if (to == NULL)
        return NULL;
    out->key[row] = in->key[i];
    out->outer[row] = 0;
    out->mss[row] = mss;
    out->status[row] = OV_OK;
    out->protocol[row] = in->protocol[i];
    out->link[row] = in->link[i];
    out->checksum[row] = checksum;
    return to;
}

static int copy_row(const struct ov_batch *in, size_t i, struct ov_batch *out, uint16_t mss)
{
    uint32_t length = in->length[i];
    uint8_t *to = append(in, i, out, length, in->wire[i], mss, in->checksum[i]);
    if (to == NULL)
        return OV_NO_ROOM;
    kernel_move(to, in->data + in->offset[i], length);
    return OV_OK;
}

/* Append a packet: its headers, and payload bytes from where they lie. */
static bool put_packet(const struct ov_batch *in, size_t i, struct ov_batch *out,
                       const uint8_t *headers, uint32_t length, uint32_t at, uint32_t payload)
{
    uint8_t *to = append(in, i, out, length + payload, length + payload, 0, OV_CSUM_UNKNOWN);
    if (to == NULL)
        return false;
    memcpy(to, headers, length);
    memcpy(to + length, in->data + in->offset[i] + at, payload);
    return true;
}

/* ---- cut --------------------------------------------------------------------------- */

static int segment_frame(const struct ov_batch *in, size_t i, struct ov_batch *out)
{
    const uint8_t *frame = in->data + in->offset[i];
    uint8_t headers[OFFLOAD_HEADERS_MAX];
    bool partial = in->checksum[i] == OV_CSUM_PARTIAL;
    struct cut c;
    if (in->link[i] != OV_ETHERNET || (in->mss[i] == 0 && !partial))
        return copy_row(in, i, out, 0);
    if (in->length[i] != in->wire[i])
        return OV_FRAME_CUT;
    if (!offload_plan(frame, in->length[i], in->mss[i], &c) || (c.count == 1 && !partial))
        return copy_row(in, i, out, 0);
    for (uint32_t n = 0, at; n < c.count; n++) {
        uint32_t payload = offload_cut(frame, &c, n, headers, &at);
        if (!put_packet(in, i, out, headers, c.headers, at, payload))
            return OV_NO_ROOM;
    }
    return OV_OK;
}

static int segment_packet(const struct ov_batch *in, size_t i, struct ov_batch *out, uint32_t mtu)
{
    const uint8_t *packet = in->data + in->offset[i];
    uint8_t headers[SPLIT_HEADERS_MAX];
    bool partial = in->checksum[i] == OV_CSUM_PARTIAL, stt = in->protocol[i] == OV_STT, split;
    uint32_t length = in->length[i], wire = in->wire[i];
    struct split s;
    if (in->link[i] != OV_ETHERNET)
        return OV_LINK_TYPE;
    if (length < ETHERNET_LENGTH)
        return OV_ETHERNET_TRUNCATED;
    bool tagged = get16(packet + 12) == ETHERTYPE_CTAG;
    bool fits = wire <= mtu + ETHERNET_LENGTH + (tagged ? (uint32_t)TAG_LENGTH : 0);
    if (stt ? fits : in->mss[i] == 0 && !partial)
        return fits ? copy_row(in, i, out, 0) : OV_MTU_EXCEEDED;
    if (length != wire)
        return OV_FRAME_CUT;
    split = stt ? split_plan_stt(packet, length, mtu, &s)
                : split_plan(packet, length, in->protocol[i], in->mss[i], &s);
    if (fits && (!split || (s.count == 1 && !partial)))
        return copy_row(in, i, out, 0);
    if (!split || s.largest > mtu)
        return OV_MTU_EXCEEDED;
    for (uint32_t n = 0, at; n < s.count; n++) {
        uint32_t payload = split_packet(&s, packet, n, headers, &at);
        if (!put_packet(in, i, out, headers, s.headers, at, payload))
            return OV_NO_ROOM;
    }
    return OV_OK;
}

size_t ov_segment_batch(struct ov_batch *in, struct ov_batch *out, uint32_t mtu)
{
    const uint64_t first = out->count;
    mtu = min32(mtu, 65535);
    for (size_t i = 0; i < in->count; i++) {
        struct mark mark = {out->count, out->used};
        if (in->status[i] != OV_OK)
            continue;
        int status = OV_BAD_ROW;
        if (kernel_row_good(in, in->base[i], in->offset[i], in->length[i], in->wire[i]))
            status = mtu != 0 && in->protocol[i] != OV_NONE ? segment_packet(in, i, out, mtu)
                                                            : segment_frame(in, i, out);
        if (status != OV_OK) {
            out->count = mark.count;
            out->used = mark.used;
        }
        in->status[i] = (uint8_t)status;
    }
    return out->count - first;
}

/* ---- coalesce ------------------------------------------------------------------------ */

/* Whether a good row is one frame, all here, that may be merged with others. */
static bool mergeable(const struct ov_batch *b, size_t i)
{
    return b->link[i] == OV_ETHERNET && b->length[i] == b->wire[i] && b->mss[i] == 0 &&
           b->checksum[i] != OV_CSUM_PARTIAL;
}

static bool row_good(const struct ov_batch *b, size_t i)
{
    return kernel_row_good(b, b->base[i], b->offset[i], b->length[i], b->wire[i]);
}

/* The end of the run of rows that follow on from row i: *m is all of them. */
static size_t run_end(const struct ov_batch *b, size_t i, struct merge *m)
{
    size_t end = i + 1;
    if (!mergeable(b, i) || !merge_begin(m, b->data + b->offset[i], b->length[i], MERGE_MAX))
        return end;
    for (size_t j = end; j < b->count; j++) {
        if (b->status[j] != OV_OK)
            continue;
        if (!row_good(b, j) || !mergeable(b, j) || b->key[j] != b->key[i] ||
            b->protocol[j] != b->protocol[i] || !merge_add(m, b->data + b->offset[j], b->length[j]))
            break;
        end = j + 1;
    }
    return end;
}

static int coalesce_run(const struct ov_batch *in, size_t i, size_t end, const struct merge *m,
                        struct ov_batch *out)
{
    if (end == i + 1)
        return copy_row(in, i, out, in->mss[i]);
    uint32_t length = merge_length(m);
    uint8_t *frame = append(in, i, out, length, length, (uint16_t)m->mss, OV_CSUM_PARTIAL);
    if (frame == NULL)
        return OV_NO_ROOM;
    uint8_t *to = frame;
    for (size_t j = i; j < end; j++) {
        if (in->status[j] != OV_OK)
            continue;
        uint32_t skip = j == i ? 0 : m->headers;
        memcpy(to, in->data + in->offset[j] + skip, in->length[j] - skip);
        to += in->length[j] - skip;
    }
    merge_end(m, frame);
    return OV_OK;
}

size_t ov_coalesce_batch(struct ov_batch *in, struct ov_batch *out)
{
    const uint64_t first = out->count;
    for (size_t i = 0, end; i < in->count; i = end) {
        struct merge m;
        end = i + 1;
        if (in->status[i] != OV_OK)
            continue;
        int status = OV_BAD_ROW;
        if (row_good(in, i)) {
            end = run_end(in, i, &m);
            status = coalesce_run(in, i, end, &m, out);
        }
        for (size_t j = i; status != OV_OK && j < end; j++)
            if (in->status[j] == OV_OK)
                in->status[j] = (uint8_t)status;
    }
    return out->count - first;
}
