/* stt.h: STT (draft-davie-stt-08): a frame with an 18-byte header in TCP-shaped segments.
 *
 * Chapters, the same in every protocol: constants, header, check, emit, verbs.
 */
#ifndef STT_H
#define STT_H

#include "decap.h"
#include "kernel.h"

/* ---- constants ------------------------------------------------------------ */

enum {
    STT_PORT = 7471,
    STT_LENGTH = 18, /* counts as part of the frame */
    STT_FRAME_MIN = STT_LENGTH + ETHERNET_LENGTH,
    STT_FRAME_MAX = 65535,
    STT_ACK = 0x10,
    STT_PSH = 0x08,
    /* Flags; the draft draws them most significant bit last. */
    STT_VERIFIED = 0x01,
    STT_PARTIAL = 0x02,
    STT_IPV4 = 0x04,
    STT_TCP = 0x08,
    STT_TCI_VALID = 0x1000,
};

/* ---- header ---------------------------------------------------------------- */

/*  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |          Source Port          |    Destination Port 7471      |
 * |         Frame Length          |         Frame Offset          |
 * |                           Frame ID                            |
 * | Data Off. 5 |  |    Flags     |            Window             |
 * |           Checksum            |            Urgent             |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
struct stt_tcp {
    uint8_t source[2];
    uint8_t destination[2];
    uint8_t frame_length[2]; /* the sequence number, upper half */
    uint8_t frame_offset[2]; /* and lower half */
    uint8_t frame_id[4];     /* the acknowledgement */
    uint8_t data_offset;
    uint8_t flags;
    uint8_t window[2];
    uint8_t checksum[2];
    uint8_t urgent[2];
};
_Static_assert(sizeof(struct stt_tcp) == TCP_LENGTH, "draft-davie-stt-08, section 3.2");

/* |    Version    |     Flags     |   L4 Offset   |   Reserved    |
 * |      Maximum Segment Size     |  PCP  |V|       VLAN ID       |
 * |                      Context ID (64 bits)                     |
 * |            Padding            |  the inner frame ...          |
 */
struct stt_header {
    uint8_t version;
    uint8_t flags;
    uint8_t l4_offset;
    uint8_t reserved;
    uint8_t mss[2];
    uint8_t tci[2];
    uint8_t context_id[8];
    uint8_t padding[2];
};
_Static_assert(sizeof(struct stt_header) == STT_LENGTH, "draft-davie-stt-08, section 3.1");

/* ---- check ------------------------------------------------------------------ */

struct stt_segment {
    uint32_t payload; /* offset of the payload in the packet */
    uint32_t length;  /* its bytes */
    uint32_t here;    /* those that are here */
    uint32_t frame_length;
    uint32_t frame_offset;
};

/* Steps 9 to 11, as far as the bounds: *o carries TCP. */
int stt_segment(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                struct stt_segment *s);

/* Steps 12 to 17 for a frame of whole bytes, here of them at stt; d->offset is not set. */
int stt_open(const struct ov_policy *y, const uint8_t *stt, uint32_t here, uint32_t whole,
             uint8_t tos, struct ov_frame *d);

/* Steps 9 to 17: one segment that is a whole frame. */
int stt_decap(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
              struct ov_frame *d);

/* ---- emit ------------------------------------------------------------------- */

/* What the header says of the inner packet, and what that changes in it. */
struct stt_assist {
    uint32_t patch_at; /* of the inner checksum field in the carried frame, or 0 */
    uint16_t patch;
    uint16_t mss;
    uint8_t flags;
    uint8_t l4_offset;
};

/* Whether the header has something to say: the tunnel's inner_checksum is not
 * unknown, or the row's checksum is partial, which comes first. */
always_inline bool stt_assists(const struct ov_tunnel *t, const struct plan *p)
{
    return t->config.inner_checksum != OV_CSUM_UNKNOWN || p->partial;
}

/* The row's own, of a frame whose checksum is partial; else the tunnel's. */
always_inline uint16_t stt_mss(const struct ov_tunnel *t, const struct plan *p)
{
    bool partial = t->config.inner_checksum == OV_CSUM_PARTIAL || p->partial;
    return partial && p->mss != 0 ? p->mss : t->config.mss;
}

/* Where stt_assists; frame is the frame as given, before any tag was taken out. */
struct stt_assist stt_assist(const struct ov_tunnel *t, const struct plan *p, const uint8_t *frame);

/* Patch the STT header of a copied template. */
always_inline void stt_write(const struct stt_assist *a, const struct plan *p, uint8_t *header)
{
    header[1] = a->flags;
    header[2] = a->l4_offset;
    put16(header + 4, a->mss);
    put16(header + 6, p->tci);
}

/* Write the outer headers of one segment, TCP's included, whose payload sums to
 * payload_sum, which is not looked at where the checksum stays partial.  The sum
 * of what is written is computed, not read back. */
always_inline void stt_segment_write(const struct ov_tunnel *t, const struct plan *p,
                                     uint8_t *packet, uint32_t offset, uint32_t payload,
                                     uint32_t payload_sum, uint32_t frame_id, struct layout layout)
{
    uint32_t whole = p->wire + STT_LENGTH, length = TCP_LENGTH + payload;
    uint32_t port = hash_port(p->in.hash, t->config.port_low, t->port_count);
    uint32_t flags = STT_ACK | (offset + payload == whole ? STT_PSH : 0u);
    uint8_t *tcp = packet + layout.l4;
    outer_copy(packet, t->header, layout.l4 + TCP_LENGTH);
    outer_write(t, packet + layout.l3, layout.l4 - layout.l3 + length, p->in.tos, p->in.hash,
                layout.v6);
    put16(tcp, (uint16_t)port);
    put32(tcp + 4, whole << 16 | offset);
    put32(tcp + 8, frame_id);
    tcp[13] = (uint8_t)flags;
    uint32_t sum = t->pseudo_sum + length;
    if (unlikely(!t->config.checksum)) {
        put16(tcp + 16, (uint16_t)checksum_fold32(sum));
        return;
    }
    sum +=
        t->transport_sum + port + whole + offset + (frame_id >> 16) + (frame_id & 0xFFFF) + flags;
    put16(tcp + 16, (uint16_t)~checksum_fold32(sum + payload_sum));
}

always_inline uint32_t stt_frame_id(const struct ov_tunnel *t, uint64_t sequence)
{
    return (uint32_t)(t->config.frame_id >= 0 ? (uint64_t)t->config.frame_id : sequence);
}

always_inline void stt_emit(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                            uint64_t sequence, struct layout layout)
{
    uint8_t *header = packet + layout.headers - STT_LENGTH, *frame = header + STT_LENGTH;
    struct stt_assist a = {0};
    if (unlikely(stt_assists(t, p))) {
        /* IP and L4 lie where they lay before a tag was taken out. */
        const struct plan copy = *p;
        a = stt_assist(t, &copy, frame - p->remove);
        if (a.patch_at != 0)
            put16(frame + a.patch_at, a.patch);
    }
    uint32_t sum = 0;
    if (likely(t->config.checksum))
        sum = t->shim_sum + a.flags + (uint32_t)(a.l4_offset << 8) + a.mss + p->tci +
              checksum_sum(frame, p->length);
    memcpy(header, t->header + layout.headers - STT_LENGTH, STT_LENGTH);
    stt_write(&a, p, header);
    stt_segment_write(t, p, packet, 0, p->wire + STT_LENGTH, sum, stt_frame_id(t, sequence),
                      layout);
    if (unlikely(t->id_mask != 0) && !layout.v6)
        outer_identify(t, packet + layout.l3, sequence, 0);
}

/* ---- verbs ------------------------------------------------------------------- */

int stt_init(struct ov_tunnel *t, const struct ov_config *config);
size_t stt_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence);
size_t stt_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out, uint32_t mtu,
                uint64_t sequence);
int stt_describe(const uint8_t *header, size_t length, const struct outer *o,
                 struct ov_config *config);

#endif
