/* memory.h: two devices in memory, joined: what one sends, the other receives. */
#ifndef MEMORY_H
#define MEMORY_H

#include "device.h"

struct memory_config {
    uint32_t capacity; /* rows that may wait for either end, 1 to 2^24 */
    uint64_t size; /* bytes that may wait for either end; rounded up, MEMORY_SIZE_MIN at least */
    uint32_t mtu;
    bool underlay;
    bool segments;     /* super-frames are cut on send, to whole packets that fit the MTU */
    uint8_t mac[2][6]; /* of each end, or zero */
};

enum { MEMORY_SIZE_MIN = 1 << 18 }; /* so that the longest row fits wherever the last one ended */

/* Open both ends.  0, or -1 with errno set.
 *
 * A row arrives as it was sent: mss, checksum, link, protocol, key and wire stay
 * with it, the bytes before and after it do not, but that a row of link OV_UDP
 * keeps its outer IP header.  Each end may be in a thread of its own, and is
 * closed on its own: to send to an end that is closed is OV_DEVICE_DOWN. */
int memory_open(struct device *ends[2], const struct memory_config *config);

#endif
