/* vnet.h: the virtio-net header, in front of a frame at TAP and AF_PACKET sockets.
 *
 * Lives here: header to row, and row to header.  Must not: a file descriptor.
 *
 * Guarantee: neither reads nor writes a byte outside the length bytes of the
 * frame, whatever the header says.
 */
#ifndef VNET_H
#define VNET_H

#include "offload.h"
#include "overlay.h"

enum {
    VNET_LENGTH = 10,
    VNET_NEEDS_CSUM = 1, /* flags */
    VNET_DATA_VALID = 2,
    VNET_GSO_NONE = 0, /* gso_type */
    VNET_GSO_TCPV4 = 1,
    VNET_GSO_TCPV6 = 4,
    VNET_GSO_UDP_L4 = 5,
    VNET_GSO_ECN = 0x80,
};

/* Host order, as the kernel has it at a legacy interface. */
struct vnet {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
};
_Static_assert(sizeof(struct vnet) == VNET_LENGTH, "the kernel's struct virtio_net_hdr");

/* The gso_type of a super-frame of this kind. */
always_inline uint8_t vnet_kind(const struct offload *o)
{
    return !o->tcp ? VNET_GSO_UDP_L4 : o->version == 4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6;
}

/* What the kernel's header says of the frame that follows it.  A super-frame
 * gets its mss and a partial checksum; any other frame gets its checksum
 * completed where it lies.  False: the header does not fit the frame, or tells
 * of a segmentation that is not TCP's or UDP's. */
bool vnet_take_any(const struct vnet *v, uint8_t *frame, uint32_t length, uint16_t *mss,
                   uint8_t *checksum);

always_inline bool vnet_take(const struct vnet *v, uint8_t *frame, uint32_t length, uint16_t *mss,
                             uint8_t *checksum)
{
    *mss = 0;
    *checksum = OV_CSUM_UNKNOWN;
    if ((v->flags & VNET_NEEDS_CSUM) == 0 && v->gso_type == VNET_GSO_NONE)
        return true;
    return vnet_take_any(v, frame, length, mss, checksum);
}

/* The header of a frame with these mss and checksum columns: a super-frame is
 * left to the kernel to cut, a partial checksum to complete.  An outer STT
 * packet is a TCP packet like any other.  Only headers are read.  False: it is
 * neither TCP nor UDP, or its headers are not whole. */
bool vnet_give_any(struct vnet *v, const uint8_t *frame, uint32_t length, uint16_t mss);

always_inline bool vnet_give(struct vnet *v, const uint8_t *frame, uint32_t length, uint16_t mss,
                             uint8_t checksum)
{
    memset(v, 0, sizeof *v);
    return (mss == 0 && checksum != OV_CSUM_PARTIAL) || vnet_give_any(v, frame, length, mss);
}

#endif
