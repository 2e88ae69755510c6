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
    uint32_t remove; /* bytes of tags to take out */
    uint16_t tci;    /* STT: for the header */
};

typedef void emit_fn(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                     uint64_t sequence, bool v6);

/* What frames and packets may be at most. */
struct limits {
    uint32_t wire; /* bytes of frame that the outer length fields can say */
    uint32_t mtu;  /* bytes of outer IP packet, 0 for no limit */
};

always_inline struct limits kernel_limits(const struct ov_tunnel *t, uint32_t mtu)
{
    uint32_t before = t->config.family == 4 ? t->l3 : t->l3 + IPV6_LENGTH;
    return (struct limits){.wire = 65535 - (t->header_length - before), .mtu = mtu};
}

/* The rules for a frame that begins with a tag. */
int kernel_plan_tags(const struct ov_tunnel *t, const uint8_t *frame, uint32_t length,
                     struct plan *p);

/* Steps 2 to 6 of the contract's encap. */
always_inline int kernel_plan(const struct ov_tunnel *t, const uint8_t *frame, uint32_t length,
                              uint32_t wire, struct limits limits, bool checksum, struct plan *p)
{
    if (unlikely(length < ETHERNET_LENGTH))
        return OV_FRAME_TOO_SHORT;
    p->remove = 0;
    p->tci = 0;
    if (unlikely(is_tagged(frame))) {
        int status = kernel_plan_tags(t, frame, length, p);
        if (status != OV_OK)
            return status;
    }
    p->length = length - p->remove;
    p->wire = wire - p->remove;
    if (unlikely(p->wire > limits.wire))
        return OV_FRAME_TOO_LONG;
    if (unlikely(limits.mtu != 0 && p->wire + t->header_length - t->l3 > limits.mtu))
        return OV_MTU_EXCEEDED;
    if (checksum && unlikely(length < wire))
        return OV_FRAME_CUT;
    p->in = inner_inspect(frame, length, t->config.seed);
    return OV_OK;
}

/* Step 1: whether the row lies in the data. */
always_inline bool kernel_row_good(const struct ov_batch *b, uint64_t base, uint64_t offset,
                                   uint32_t length, uint32_t wire)
{
    return likely(base <= offset && offset <= b->size && length <= b->size - offset &&
                  length <= wire);
}

/* Take the tags out of a frame in place: its MAC addresses move towards its end. */
always_inline void kernel_remove(uint8_t *frame, uint32_t remove)
{
    uint8_t macs[12];
    memcpy(macs, frame, 12);
    memcpy(frame + remove, macs, 12);
}

/* Encap one row in place. */
always_inline int kernel_encap_row(const struct ov_tunnel *t, struct ov_batch *b, size_t i,
                                   struct limits limits, uint64_t sequence, bool checksum,
                                   emit_fn *emit, uint8_t protocol, bool v6)
{
    struct plan p;
    uint64_t base = b->base[i], offset = b->offset[i];
    uint32_t length = b->length[i], wire = b->wire[i];
    if (unlikely(!kernel_row_good(b, base, offset, length, wire)))
        return OV_BAD_ROW;
    uint8_t *frame = b->data + offset;
    int status = kernel_plan(t, frame, length, wire, limits, checksum, &p);
    if (unlikely(status != OV_OK))
        return status;
    if (unlikely(offset + p.remove - base < t->header_length))
        return OV_NO_HEADROOM;
    if (unlikely(p.remove != 0))
        kernel_remove(frame, p.remove);
    offset += p.remove;
    emit(t, &p, b->data + offset - t->header_length, sequence, v6);
    b->offset[i] = offset - t->header_length;
    b->length[i] = p.length + t->header_length;
    b->wire[i] = p.wire + t->header_length;
    b->key[i] = t->config.key;
    b->protocol[i] = protocol;
    b->link[i] = OV_ETHERNET;
    return OV_OK;
}

always_inline size_t kernel_encap_rows(const struct ov_tunnel *t, struct ov_batch *b,
                                       uint64_t sequence, bool checksum, emit_fn *emit,
                                       uint8_t protocol, bool v6)
{
    struct limits limits = kernel_limits(t, 0);
    size_t done = 0;
    for (size_t i = 0; i < b->count; i++) {
        if (unlikely(b->status[i] != OV_OK))
            continue;
        int status = kernel_encap_row(t, b, i, limits, sequence + i, checksum, emit, protocol, v6);
        b->status[i] = (uint8_t)status;
        done += status == OV_OK;
    }
    return done;
}

/* One loop a protocol and family. */
always_inline size_t kernel_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence,
                                  bool checksum, emit_fn *emit, uint8_t protocol)
{
    return t->config.family == 4
               ? kernel_encap_rows(t, b, sequence, checksum, emit, protocol, false)
               : kernel_encap_rows(t, b, sequence, checksum, emit, protocol, true);
}

/* Put a frame, without the tags that go, where the packet's payload begins. */
always_inline void kernel_place(const struct plan *p, const uint8_t *frame, uint8_t *to)
{
    if (likely(p->remove == 0)) {
        memcpy(to, frame, p->length);
    } else {
        memcpy(to, frame, 12);
        memcpy(to + 12, frame + 12 + p->remove, p->length - 12);
    }
}

/* Append a row for a packet of length bytes to an output batch: where it goes,
 * or NULL when it does not fit. */
always_inline uint8_t *kernel_append(struct ov_batch *out, uint32_t length, uint32_t wire,
                                     uint32_t origin, uint64_t key, uint8_t protocol)
{
    uint64_t row = out->count, at = out->used + out->gap;
    if (unlikely(row >= out->capacity || at > out->size || length > out->size - at))
        return NULL;
    out->base[row] = out->offset[row] = at;
    out->length[row] = length;
    out->wire[row] = wire;
    out->origin[row] = origin;
    out->key[row] = key;
    out->mss[row] = 0;
    out->status[row] = OV_OK;
    out->protocol[row] = protocol;
    out->link[row] = OV_ETHERNET;
    out->count = row + 1;
    out->used = at + length;
    return out->data + at;
}

/* Encap one row of in to a new row of out. */
always_inline int kernel_encap_copy(const struct ov_tunnel *t, const struct ov_batch *in, size_t i,
                                    struct ov_batch *out, struct limits limits, uint64_t sequence,
                                    bool checksum, emit_fn *emit, uint8_t protocol, bool v6)
{
    struct plan p;
    uint64_t offset = in->offset[i];
    uint32_t length = in->length[i], wire = in->wire[i];
    if (unlikely(!kernel_row_good(in, in->base[i], offset, length, wire)))
        return OV_BAD_ROW;
    const uint8_t *frame = in->data + offset;
    int status = kernel_plan(t, frame, length, wire, limits, checksum, &p);
    if (unlikely(status != OV_OK))
        return status;
    uint8_t *packet = kernel_append(out, p.length + t->header_length, p.wire + t->header_length,
                                    (uint32_t)i, t->config.key, protocol);
    if (unlikely(packet == NULL))
        return OV_NO_ROOM;
    kernel_place(&p, frame, packet + t->header_length);
    emit(t, &p, packet, sequence, v6);
    return OV_OK;
}

always_inline size_t kernel_copy_rows(const struct ov_tunnel *t, struct ov_batch *in,
                                      struct ov_batch *out, struct limits limits, uint64_t sequence,
                                      bool checksum, emit_fn *emit, uint8_t protocol, bool v6)
{
    size_t done = 0;
    for (size_t i = 0; i < in->count; i++) {
        if (unlikely(in->status[i] != OV_OK))
            continue;
        int status =
            kernel_encap_copy(t, in, i, out, limits, sequence + done, checksum, emit, protocol, v6);
        in->status[i] = (uint8_t)status;
        done += status == OV_OK;
    }
    return done;
}

always_inline size_t kernel_copy(const struct ov_tunnel *t, struct ov_batch *in,
                                 struct ov_batch *out, uint32_t mtu, uint64_t sequence,
                                 bool checksum, emit_fn *emit, uint8_t protocol)
{
    struct limits limits = kernel_limits(t, mtu);
    return t->config.family == 4
               ? kernel_copy_rows(t, in, out, limits, sequence, checksum, emit, protocol, false)
               : kernel_copy_rows(t, in, out, limits, sequence, checksum, emit, protocol, true);
}

#endif
