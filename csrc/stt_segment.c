/* stt_segment.c: one frame to the STT segments that an underlay's MTU allows (1 -> N).
 *
 * Guarantee: a frame's segments are written all or none.
 */
#include "stt.h"

/* An inner IP packet is at most 40 + 65535 bytes long, after MACs and two tags. */
enum { PIECE_MAX = ETHERNET_LENGTH + 2 * TAG_LENGTH + 40 + 65535 };

/* A frame with its STT header, as the segments see it: head, then rest. */
struct stream {
    uint8_t head[STT_LENGTH + 12]; /* the STT header and the MAC addresses */
    const uint8_t *rest;           /* from the EtherType on, tags that go left out */
    uint32_t length;
    uint32_t patch_at; /* offset of the inner checksum field, or 0 */
    uint8_t patch[2];
};

static void stream_copy(const struct stream *s, uint32_t offset, uint32_t n, uint8_t *to)
{
    enum { HEAD = sizeof s->head };
    uint32_t done = 0;
    if (offset < HEAD) {
        done = min32(HEAD - offset, n);
        memcpy(to, s->head + offset, done);
    }
    if (done < n)
        memcpy(to + done, s->rest + (offset + done - HEAD), n - done);
    for (uint32_t i = 0; s->patch_at != 0 && i < 2; i++)
        if (s->patch_at + i - offset < n)
            to[s->patch_at + i - offset] = s->patch[i];
}

/* What an output batch held before a frame, to go back to when there is no room. */
struct mark {
    uint64_t count, used;
};

/* Append the segments of one planned frame.  Returns their number, 0 for no room. */
static size_t append_segments(const struct ov_tunnel *t, const struct plan *p, const uint8_t *frame,
                              struct ov_batch *out, uint32_t size, uint32_t origin,
                              uint64_t sequence)
{
    struct stt_assist a = {0};
    if (stt_assists(t, p))
        a = stt_assist(t, p, frame);
    struct stream s = {
        .rest = frame + 12 + p->remove,
        .length = p->wire + STT_LENGTH,
        .patch_at = a.patch_at == 0 ? 0 : a.patch_at + STT_LENGTH,
    };
    struct layout layout = kernel_layout(t);
    uint32_t headers = layout.l4 + TCP_LENGTH;
    memcpy(s.head, t->header + headers, STT_LENGTH);
    stt_write(&a, p, s.head);
    memcpy(s.head + STT_LENGTH, frame, 12);
    put16(s.patch, a.patch);

    size_t segments = 0;
    for (uint32_t offset = 0, n; offset < s.length; offset += n, segments++) {
        n = min32(size, s.length - offset);
        uint8_t *packet = kernel_append(out, headers + n, headers + n, origin);
        if (packet == NULL)
            return 0;
        stream_copy(&s, offset, n, packet + headers);
        uint32_t sum = t->config.checksum ? checksum_sum(packet + headers, n) : 0;
        stt_segment_write(t, p, packet, offset, n, sum, stt_frame_id(t, sequence), layout);
        if (!layout.v6)
            outer_identify(t, packet + layout.l3, sequence, (uint32_t)segments);
    }
    return segments;
}

/* The MSS that makes a piece of a TCP frame just one segment; 0 where none does. */
static uint32_t filling_mss(const uint8_t *frame, uint32_t length, uint32_t removed, uint32_t size)
{
    struct inner in = inner_inspect(frame, length, 0);
    if (in.l4 == 0 || in.protocol != IP_TCP || length - in.l4 < TCP_LENGTH)
        return 0;
    uint32_t headers = STT_LENGTH + in.l4 - removed + (frame[in.l4 + 12] >> 4) * 4u;
    return size > headers ? size - headers : 0;
}

/* A TCP frame too long for STT: cut it by its MSS, each piece a frame of its own. */
static int append_pieces(const struct ov_tunnel *t, const struct plan *row, const uint8_t *frame,
                         uint32_t length, struct limits limits, struct ov_batch *out, uint32_t size,
                         uint32_t origin, uint64_t sequence, size_t *packets)
{
    uint8_t piece[PIECE_MAX];
    uint32_t mss =
        stt_mss(t, row) ? stt_mss(t, row) : filling_mss(frame, length, row->remove, size);
    size_t count = ov_tcp_segments(frame, length, mss);
    if (count == 1)
        return OV_FRAME_TOO_LONG;
    *packets = 0;
    for (size_t i = 0; i < count; i++) {
        struct plan p;
        uint32_t n = (uint32_t)ov_tcp_segment(frame, length, mss, i, piece);
        int status = kernel_plan(t, piece, n, n, limits, kernel_layout(t), &p);
        if (status != OV_OK)
            return status;
        p.mss = row->mss;
        p.partial = row->partial;
        size_t added = append_segments(t, &p, piece, out, size, origin, sequence + *packets);
        if (added == 0)
            return OV_NO_ROOM;
        *packets += added;
    }
    return OV_OK;
}

static int segment_row(const struct ov_tunnel *t, const struct ov_batch *in, size_t i,
                       struct ov_batch *out, uint32_t size, uint64_t sequence, size_t *packets)
{
    /* An MTU that leaves no room for a byte is one that every frame exceeds. */
    const uint32_t wire_max = STT_FRAME_MAX - STT_LENGTH;
    struct limits limits = {.wire = wire_max, .most = size == 0 ? 0 : wire_max};
    struct plan p;
    uint64_t offset = in->offset[i];
    uint32_t length = in->length[i], wire = in->wire[i];
    if (!kernel_row_good(in, in->base[i], offset, length, wire))
        return OV_BAD_ROW;
    const uint8_t *frame = in->data + offset;
    int status = kernel_plan(t, frame, length, wire, limits, kernel_layout(t), &p);
    kernel_plan_row(&p, in, i);
    if (status == OV_FRAME_TOO_LONG && length == wire)
        return append_pieces(t, &p, frame, length, limits, out, size, (uint32_t)i, sequence,
                             packets);
    if (status != OV_OK)
        return status;
    *packets = append_segments(t, &p, frame, out, size, (uint32_t)i, sequence);
    return *packets == 0 ? OV_NO_ROOM : OV_OK;
}

size_t stt_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out, uint32_t mtu,
                uint64_t sequence)
{
    if (mtu == 0)
        return kernel_copy_rows(t, in, out, 0, sequence, kernel_layout(t), stt_emit, OV_STT);
    uint32_t before = t->l4 + TCP_LENGTH - t->l3, size = mtu > before ? mtu - before : 0;
    uint64_t first = out->count;
    size_t done = 0;
    for (size_t i = 0; i < in->count; i++) {
        if (in->status[i] != OV_OK)
            continue;
        struct mark mark = {out->count, out->used};
        size_t packets = 0;
        int status = segment_row(t, in, i, out, size, sequence + done, &packets);
        if (status != OV_OK) {
            out->count = mark.count;
            out->used = mark.used;
            packets = 0;
        }
        in->status[i] = (uint8_t)status;
        done += packets;
    }
    kernel_label(out, first, t->config.key, OV_STT);
    return done;
}
