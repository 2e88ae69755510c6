/* kernel.h: the loops that every protocol specialises by constant argument.
 *
 * A protocol brings one function, emit, which turns a planned frame with free
 * bytes before it into a packet.  Guarantee: a row that is refused keeps its
 * bytes and its columns but status; no byte outside base..offset+length of a
 * row is written.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include "outer.h"

/* One frame, checked: what encap will do with it. */
struct plan {
    struct inner in;
    uint32_t length; /* of the frame as carried, without the tags taken out */
    uint32_t wire;
    uint32_t remove;    /* bytes to take out: tags, or with an ethertype all before the IP header */
    uint16_t ethertype; /* of the IP packet that is carried; 0: the frame is */
    uint16_t tci;       /* STT: for the header */
    uint16_t mss;       /* of the row; STT: for the header */
    bool partial;       /* the row's L4 checksum is */
};

/* What of a tunnel decides the shape of its headers.  The loops are specialised
 * by a constant one for the common shapes. */
struct layout {
    uint32_t l3; /* offsets of the outer IP header and of what follows it */
    uint32_t l4;
    uint32_t headers; /* bytes of all outer headers */
    bool v6;
    bool sums; /* a checksum covers the payload */
    bool ip;   /* the payload is IP */
};

always_inline struct layout kernel_layout(const struct ov_tunnel *t)
{
    return (struct layout){
        .l3 = t->l3,
        .l4 = t->l4,
        .headers = t->header_length,
        .v6 = t->config.family == 6,
        .sums = t->config.protocol == OV_STT || t->config.checksum,
        .ip = t->config.payload,
    };
}

typedef void emit_fn(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                     uint64_t sequence, struct layout layout);

/* How many bytes a frame may have. */
struct limits {
    uint32_t wire; /* that the outer length fields can say */
    uint32_t most; /* that the MTU leaves, never above wire */
};

/* For packets of at most mtu bytes of IP, 0 for no limit. */
always_inline struct limits kernel_limits(struct layout l, uint32_t mtu)
{
    uint32_t before = l.v6 ? l.l3 + IPV6_LENGTH : l.l3, headers = l.headers - l.l3;
    uint32_t wire = 65535 - (l.headers - before);
    uint32_t room = mtu > headers ? mtu - headers : 0;
    return (struct limits){.wire = wire, .most = mtu == 0 ? wire : min32(room, wire)};
}

/* What becomes of the tags that a frame begins with, and of its Ethernet header. */
struct tag_plan {
    uint16_t tci;
    uint16_t ethertype; /* where ip was asked for */
    uint8_t remove;
    uint8_t status;
};

/* mode is enum ov_inner_vlan.  By value, so that a plan need not live in memory. */
struct tag_plan kernel_plan_tags(int mode, int protocol, bool ip, const uint8_t *frame,
                                 uint32_t length);

/* Steps 2 to 6 of the contract's encap. */
always_inline int kernel_plan(const struct ov_tunnel *t, const uint8_t *frame, uint32_t length,
                              uint32_t wire, struct limits limits, struct layout layout,
                              struct plan *p)
{
    bool plain = inner_is_plain(frame, length);
    p->remove = 0;
    p->tci = p->mss = p->ethertype = 0;
    p->partial = false;
    if (unlikely(!plain && length < ETHERNET_LENGTH))
        return OV_FRAME_TOO_SHORT;
    if (unlikely(layout.ip || (!plain && is_tagged(frame)))) {
        struct tag_plan tags =
            kernel_plan_tags(t->config.inner_vlan, t->config.protocol, layout.ip, frame, length);
        if (tags.status != OV_OK)
            return tags.status;
        p->remove = tags.remove;
        p->tci = tags.tci;
        p->ethertype = tags.ethertype;
    }
    p->length = length - p->remove;
    p->wire = wire - p->remove;
    if (unlikely(p->wire > limits.most))
        return p->wire > limits.wire ? OV_FRAME_TOO_LONG : OV_MTU_EXCEEDED;
    if (layout.sums && unlikely(length < wire))
        return OV_FRAME_CUT;
    p->in = plain ? inner_inspect_plain(frame, t->config.seed)
                  : inner_inspect_any(frame, length, t->config.seed);
    return OV_OK;
}

/* Step 1: whether the row lies in the data. */
always_inline bool kernel_row_good(const struct ov_batch *b, uint64_t base, uint64_t offset,
                                   uint32_t length, uint32_t wire)
{
    return likely(base <= offset && offset <= b->size && length <= b->size - offset &&
                  length <= wire);
}

/* Ask for the bytes of a row that comes soon, before..offset+64; a bad row does no harm. */
always_inline void kernel_prefetch(const struct ov_batch *b, size_t i, uint32_t before)
{
    enum { AHEAD = 8 };
    if (likely(i + AHEAD < b->count)) {
        uintptr_t soon = (uintptr_t)b->data + (uintptr_t)b->offset[i + AHEAD];
        __builtin_prefetch((const void *)(soon - before));
        __builtin_prefetch((const void *)(soon + 63));
    }
}

/* Take the tags out of a frame in place: its MAC addresses move towards its end. */
always_inline void kernel_remove(uint8_t *frame, uint32_t remove)
{
    uint8_t macs[12];
    memcpy(macs, frame, 12);
    memcpy(frame + remove, macs, 12);
}

/* What a row's columns say of the frame that is planned. */
always_inline void kernel_plan_row(struct plan *p, const struct ov_batch *b, size_t i)
{
    p->mss = b->mss[i];
    p->partial = b->checksum[i] == OV_CSUM_PARTIAL;
}

/* Encap one row in place. */
always_inline int kernel_encap_row(const struct ov_tunnel *t, const struct ov_batch *b, size_t i,
                                   struct limits limits, struct layout layout, uint64_t sequence,
                                   emit_fn *emit, uint8_t protocol)
{
    struct plan p;
    uint64_t base = b->base[i], offset = b->offset[i];
    uint32_t length = b->length[i], wire = b->wire[i];
    if (unlikely(!kernel_row_good(b, base, offset, length, wire)))
        return OV_BAD_ROW;
    uint8_t *frame = b->data + offset;
    int status = kernel_plan(t, frame, length, wire, limits, layout, &p);
    if (unlikely(status != OV_OK))
        return status;
    if (unlikely(offset + p.remove - base < layout.headers))
        return OV_NO_HEADROOM;
    if (unlikely(p.remove != 0) && !layout.ip)
        kernel_remove(frame, p.remove);
    kernel_plan_row(&p, b, i);
    offset += p.remove;
    emit(t, &p, b->data + offset - layout.headers, sequence, layout);
    b->offset[i] = offset - layout.headers;
    b->length[i] = p.length + layout.headers;
    b->wire[i] = p.wire + layout.headers;
    b->key[i] = t->config.key;
    b->protocol[i] = protocol;
    b->link[i] = OV_ETHERNET;
    return OV_OK;
}

always_inline size_t kernel_encap_rows(const struct ov_tunnel *tunnel, struct ov_batch *batch,
                                       uint64_t sequence, struct layout layout, emit_fn *emit,
                                       uint8_t protocol)
{
    /* Copies that no store through the columns can reach: loaded once a burst. */
    const struct ov_tunnel t = *tunnel;
    const struct ov_batch b = *batch;
    struct limits limits = kernel_limits(layout, 0);
    size_t left = 0;
    for (size_t i = 0; i < b.count; i++) {
        int status = b.status[i];
        kernel_prefetch(&b, i, layout.headers);
        if (likely(status == OV_OK))
            status = kernel_encap_row(&t, &b, i, limits, layout, sequence + i, emit, protocol);
        if (unlikely(status != OV_OK)) {
            b.status[i] = (uint8_t)status;
            left++;
        }
    }
    return b.count - left;
}

/* Whether a tunnel's headers have no other fields than these bytes after IP. */
always_inline bool kernel_is_common(struct layout l, uint32_t shim)
{
    return l.l3 == ETHERNET_LENGTH && !l.sums && !l.ip && l.headers == l.l4 + shim;
}

/* One loop for each common shape, one for the others. */
always_inline size_t kernel_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence,
                                  emit_fn *emit, uint8_t protocol, uint32_t shim)
{
    const struct layout v4 = {ETHERNET_LENGTH, 34, 34 + shim, false, false, false};
    const struct layout v6 = {ETHERNET_LENGTH, 54, 54 + shim, true, false, false};
    struct layout layout = kernel_layout(t);
    if (kernel_is_common(layout, shim))
        return layout.v6 ? kernel_encap_rows(t, b, sequence, v6, emit, protocol)
                         : kernel_encap_rows(t, b, sequence, v4, emit, protocol);
    if (kernel_is_common(layout, layout.headers - layout.l4) && !layout.v6) {
        const struct layout longer = {ETHERNET_LENGTH, 34, layout.headers, false, false, false};
        return kernel_encap_rows(t, b, sequence, longer, emit, protocol);
    }
    return kernel_encap_rows(t, b, sequence, layout, emit, protocol);
}

/* Copy a payload: short ones in overlapping halves, without a call. */
always_inline void kernel_move(uint8_t *to, const uint8_t *from, uint32_t length)
{
    if (length >= 32 && length <= 64) {
        memcpy(to, from, 32);
        memcpy(to + length - 32, from + length - 32, 32);
    } else if (length > 64 && length <= 128) {
        memcpy(to, from, 64);
        memcpy(to + length - 64, from + length - 64, 64);
    } else {
        memcpy(to, from, length);
    }
}

/* Put a frame, without what goes of it, where the packet's payload begins. */
always_inline void kernel_place(const struct plan *p, const uint8_t *frame, uint8_t *to)
{
    if (likely(p->remove == 0)) {
        kernel_move(to, frame, p->length);
    } else if (p->ethertype != 0) {
        memcpy(to, frame + p->remove, p->length);
    } else {
        memcpy(to, frame, 12);
        memcpy(to + 12, frame + 12 + p->remove, p->length - 12);
    }
}

/* Append a row for a packet of length bytes to an output batch: where it goes,
 * or NULL when it does not fit.  Its key and protocol are kernel_label's. */
always_inline uint8_t *kernel_append(struct ov_batch *out, uint32_t length, uint32_t wire,
                                     uint32_t origin)
{
    uint64_t row = out->count, at = out->used + out->gap;
    if (unlikely(row >= out->capacity || at > out->size || length > out->size - at))
        return NULL;
    out->base[row] = out->offset[row] = at;
    out->length[row] = length;
    out->wire[row] = wire;
    out->origin[row] = origin;
    out->count = row + 1;
    out->used = at + length;
    return out->data + at;
}

/* Say of the rows from first on whose they are. */
always_inline void kernel_label(struct ov_batch *out, uint64_t first, uint64_t key,
                                uint8_t protocol)
{
    for (uint64_t row = first; row < out->count; row++)
        out->key[row] = key;
    memset(out->protocol + first, protocol, out->count - first);
}

/* Encap one row of in to a new row of out. */
always_inline int kernel_copy_row(const struct ov_tunnel *t, const struct ov_batch *in, size_t i,
                                  struct ov_batch *out, struct limits limits, struct layout layout,
                                  uint64_t sequence, emit_fn *emit)
{
    struct plan p;
    uint64_t offset = in->offset[i];
    uint32_t length = in->length[i], wire = in->wire[i];
    if (unlikely(!kernel_row_good(in, in->base[i], offset, length, wire)))
        return OV_BAD_ROW;
    const uint8_t *frame = in->data + offset;
    int status = kernel_plan(t, frame, length, wire, limits, layout, &p);
    if (unlikely(status != OV_OK))
        return status;
    uint8_t *packet =
        kernel_append(out, p.length + layout.headers, p.wire + layout.headers, (uint32_t)i);
    if (unlikely(packet == NULL))
        return OV_NO_ROOM;
    kernel_place(&p, frame, packet + layout.headers);
    kernel_plan_row(&p, in, i);
    emit(t, &p, packet, sequence, layout);
    if (unlikely((in->mss[i] | in->checksum[i]) != 0)) {
        out->mss[out->count - 1] = in->mss[i];
        out->checksum[out->count - 1] = in->checksum[i];
    }
    return OV_OK;
}

always_inline size_t kernel_copy_rows(const struct ov_tunnel *tunnel, struct ov_batch *batch,
                                      struct ov_batch *output, uint32_t mtu, uint64_t sequence,
                                      struct layout layout, emit_fn *emit, uint8_t protocol)
{
    const struct ov_tunnel t = *tunnel;
    const struct ov_batch in = *batch;
    struct ov_batch out = *output;
    struct limits limits = kernel_limits(layout, mtu);
    size_t done = 0;
    for (size_t i = 0; i < in.count; i++) {
        if (unlikely(in.status[i] != OV_OK))
            continue;
        int status = kernel_copy_row(&t, &in, i, &out, limits, layout, sequence + done, emit);
        if (unlikely(status != OV_OK))
            in.status[i] = (uint8_t)status;
        else
            done++;
    }
    kernel_label(&out, output->count, t.config.key, protocol);
    output->count = out.count;
    output->used = out.used;
    return done;
}

always_inline size_t kernel_copy(const struct ov_tunnel *t, struct ov_batch *in,
                                 struct ov_batch *out, uint32_t mtu, uint64_t sequence,
                                 emit_fn *emit, uint8_t protocol, uint32_t shim)
{
    const struct layout v4 = {ETHERNET_LENGTH, 34, 34 + shim, false, false, false};
    struct layout layout = kernel_layout(t);
    if (kernel_is_common(layout, shim) && !layout.v6)
        return kernel_copy_rows(t, in, out, mtu, sequence, v4, emit, protocol);
    return kernel_copy_rows(t, in, out, mtu, sequence, layout, emit, protocol);
}

#endif
