/* split.h: a super-packet, outer headers in front of a super-frame, to tunnel packets.
 *
 * A packet of VXLAN, GENEVE, VXLAN-GPE, NVGRE or GRE carries one packet of the super-frame;
 * an STT packet is cut itself, to segments.  The payload is read where it lies.  Must not:
 * anything that only one device needs.  All lengths and bytes may be hostile.
 */
#ifndef SPLIT_H
#define SPLIT_H

#include "offload.h"
#include "outer.h"

enum { SPLIT_HEADERS_MAX = 512 };

struct split {
    uint32_t headers; /* bytes before the payload in every packet, at most SPLIT_HEADERS_MAX */
    uint32_t count;   /* packets, at least 1 */
    uint32_t mss;     /* payload bytes of each packet but the last */
    uint32_t largest; /* bytes of IP of the largest packet */
    uint32_t l3;      /* offsets of the outer IP header and of what follows it */
    uint32_t l4;
    uint32_t frame;     /* offset of the inner frame; STT: of the payload */
    uint32_t payload;   /* STT: bytes, of all segments */
    uint32_t ip_sum;    /* of the outer IPv4 header, what differs left out */
    uint32_t l4_sum;    /* of pseudo header, UDP or TCP and shim, what differs left out */
    struct cut cut;     /* of the inner frame */
    uint16_t inner_sum; /* what the inner L4 datagram, its checksum right, adds to a sum */
    uint8_t version;    /* of the outer IP: 4 or 6 */
    uint8_t protocol;   /* enum ov_protocol */
    bool identify;      /* the IPv4 ID counts up */
    bool checksum;      /* the outer UDP checksum is on */
};

/* Plan a packet of these but STT that starts with Ethernet, maybe a tag, then IPv4 or
 * IPv6 without extension headers.  mss as for offload_plan, 0 included.  False:
 * not such a packet, or an inner frame that cannot be cut. */
bool split_plan(const uint8_t *packet, uint32_t length, uint8_t protocol, uint32_t mss,
                struct split *s);

/* Plan an STT packet, to segments of at most mtu bytes of IP.  False: not such a
 * packet, or an MTU without room for a byte of payload. */
bool split_plan_stt(const uint8_t *packet, uint32_t length, uint32_t mtu, struct split *s);

/* Write the s->headers bytes of packet i < s->count to headers: all outer and
 * inner lengths and checksums right, outer IPv4 ID + i (but for STT: unless DF).
 * Its payload stays in packet, at *payload_at; returns the bytes of it. */
uint32_t split_packet(const struct split *s, const uint8_t *packet, uint32_t i, uint8_t *headers,
                      uint32_t *payload_at);

/* Complete in place the partial inner checksum of a packet but STT's, and the
 * outer UDP checksum that covers it.  False where split_plan gives false; then
 * nothing is written. */
bool split_complete(uint8_t *packet, uint32_t length, uint8_t protocol);

#endif
