/* offload.h: what a NIC would do to inner TCP and UDP: checksums, cutting, coalescing.
 *
 * Lives here: checksums left partial or completed; a super-frame cut to packets
 * and packets put together to one, the payload read where it lies.  Must not:
 * outer headers.  All lengths and bytes of a frame may be hostile.
 */
#ifndef OFFLOAD_H
#define OFFLOAD_H

#include "checksum.h"
#include "inner.h"

enum {
    OFFLOAD_HEADERS_MAX = ETHERNET_LENGTH + 2 * TAG_LENGTH + 60 + 60,
    MERGE_MAX = 65535,       /* bytes of IP */
    MERGE_DATAGRAMS_MAX = 64 /* that Linux takes as one */
};

/* An inner TCP or UDP datagram, all of it here. */
struct offload {
    uint32_t l3;
    uint32_t l4;
    uint32_t end; /* by the IP length */
    uint8_t version;
    bool tcp;
};

/* Whether the frame carries one that can be offloaded, its tags passed over;
 * if so, where.  in is inner_inspect's word on the frame. */
bool offload_find(const uint8_t *frame, uint32_t length, const struct inner *in, struct offload *o);

/* Where its checksum field stands. */
always_inline uint32_t offload_field(const struct offload *o)
{
    return o->l4 + (o->tcp ? 16 : 6);
}

/* The sum of its pseudo header, folded, not inverted: a partial checksum. */
uint16_t offload_seed(const uint8_t *frame, const struct offload *o);

/* Compute its checksum from nothing and write it. */
void offload_complete(uint8_t *frame, const struct offload *o);

/* The same for whatever frame; nothing is done where no TCP or UDP is found. */
bool offload_complete_any(uint8_t *frame, uint32_t length);

/* Complete the checksum of a frame if it looks partial: if its field holds the sum of
 * the pseudo header.  Where that is chance, the frame stays as it was if it was
 * whole.  For frames of a sender on the same machine, whose kernel leaves checksums
 * for a NIC that is not there, and of which nobody says so.  True: completed. */
bool offload_suspect(uint8_t *frame, uint32_t length);

/* What virtio's NEEDS_CSUM asks: sum from start to the end, the field at start +
 * offset holding what is to be added, and write the checksum there, never as 0.
 * False where the field lies outside, and nothing is written. */
bool offload_complete_at(uint8_t *bytes, uint32_t length, uint32_t start, uint32_t offset);

/* ---- cut: one super-frame, many packets ------------------------------------------ */

/* How a frame is cut; made once, then read by every packet of it. */
struct cut {
    struct offload o; /* of the super-frame */
    uint32_t headers; /* bytes before the payload, at most OFFLOAD_HEADERS_MAX */
    uint32_t mss;     /* payload bytes of each packet but the last */
    uint32_t count;   /* packets, at least 1 */
    uint32_t payload; /* bytes, of all packets */
    uint32_t ip_sum;  /* of the IPv4 header, what differs left out */
    uint32_t l4_sum;  /* of the pseudo and L4 header, what differs left out */
};

/* Plan it: TCP or UDP over IPv4 or IPv6, with tags and options.  mss is the
 * payload bytes of each TCP segment or UDP datagram; 0: all in one, its checksum
 * completed.  False: not TCP or UDP, a fragment, extension headers, lengths that
 * are wrong.  Bytes behind the end by the IP length are left out. */
bool offload_plan(const uint8_t *frame, uint32_t length, uint32_t mss, struct cut *c);

/* Write the c->headers bytes of packet i < c->count to out: lengths, IPv4 ID + i
 * and header checksum, sequence number, CWR on the first only, FIN and PSH on the
 * last only (as Linux without AccECN), and a complete TCP or UDP checksum.  Its payload stays in
 * frame, at *payload_at; returns the bytes of it. */
uint32_t offload_cut(const uint8_t *frame, const struct cut *c, uint32_t i, uint8_t *out,
                     uint32_t *payload_at);

/* ---- merge: many packets, one super-frame ------------------------------------------ */

/* Frames that are put together.  The super-frame is the first frame as a whole,
 * then of each frame that was added the bytes from headers on; all may stay where
 * they are until the end.
 *
 * Guarantee: cut by the mss of the super-frame gives exactly the frames again.
 * So only frames are taken that a cut can give: no padding behind the IP packet,
 * no IPv4 options, no SYN, FIN, RST or URG, checksums right and in the form that
 * is computed; and only such are added as follow on: all of Ethernet, tags, IP and
 * TCP the same but lengths, checksums, an IPv4 ID one higher, the next sequence
 * number, no CWR but on the first, nothing after a PSH or a shorter payload.
 * (Linux also merges atomic datagrams of one fixed ID; those stay as they are.) */
struct merge {
    struct offload o;     /* of the super-frame so far */
    const uint8_t *first; /* the first frame */
    uint32_t headers;     /* bytes before the payload, in every frame */
    uint32_t mss;         /* payload of the first */
    uint32_t count;       /* frames */
    uint32_t most;        /* bytes that the super-frame may have */
    bool push;            /* the last one has PSH */
    bool closed;          /* nothing can follow */
};

/* Begin with a frame: TCP or UDP with payload, its checksums verified.  False:
 * nothing can be added to it.  maximum is of the IP bytes of the super-frame,
 * MERGE_MAX at most.  frame stays untouched and in place until merge_end. */
bool merge_begin(struct merge *m, const uint8_t *frame, uint32_t length, uint32_t maximum);

/* Add the frame that follows; false where it does not, and *m is as before. */
bool merge_add(struct merge *m, const uint8_t *frame, uint32_t length);

/* Bytes of the super-frame: of the first frame, and of what was added. */
always_inline uint32_t merge_length(const struct merge *m)
{
    return m->o.end;
}

/* Make the headers of the first frame, or of a copy of it, those of the
 * super-frame: lengths, IPv4 header checksum, PSH, a partial L4 checksum.
 * Returns its mss, or 0 where nothing was added and nothing is changed. */
uint16_t merge_end(const struct merge *m, uint8_t *frame);

#endif
