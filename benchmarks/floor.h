/* floor.h: the least that the machine must do, as loops to measure the library against.
 *
 * Lives here: the columns that the loops work on, and their prototypes.
 * Independent of the library: of csrc, floor.c knows only the byte order
 * (wire.h) and the flow hash (hash.h), so that both write the same packets.
 */
#ifndef FLOOR_H
#define FLOOR_H

#include <stddef.h>
#include <stdint.h>

/* The columns of a batch that encap and decap read or write. */
struct floor_rows {
    uint8_t *data;
    size_t count;
    uint64_t *offset;
    uint64_t *key;
    uint32_t *length;
    uint32_t *wire;
    uint16_t *mss;
    uint8_t *status;
    uint8_t *protocol;
    uint8_t *link;
};

/* A finished outer header over IPv4: Ethernet, IPv4 at 14, UDP or GRE at 34. */
struct floor_header {
    uint8_t bytes[64];
    uint64_t key;
    uint32_t ip_sum; /* of the IPv4 header with length and checksum zero */
};

/* Each returns the rows done; a frame that is not IPv4 with TCP or UDP is not. */
size_t floor_encap_vxlan(const struct floor_header *h, struct floor_rows *r);
size_t floor_encap_nvgre(const struct floor_header *h, struct floor_rows *r);
size_t floor_decap_vxlan(struct floor_rows *r);
size_t floor_decap_nvgre(struct floor_rows *r);

/* Copy the frames behind each other; returns the bytes written. */
size_t floor_copy(const struct floor_rows *r, uint8_t *out);

/* Sum each frame by the library's own routine; returns something of all sums. */
uint32_t floor_sum(const struct floor_rows *r);

#endif
