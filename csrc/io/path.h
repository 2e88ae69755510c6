/* path.h: how large a packet to a remote may be.
 *
 * Lives here: the path MTUs that an underlay device was told of, and IP addresses.
 * Must not: a file descriptor.
 *
 * Guarantee: one thread adds; any may read while it does.
 */
#ifndef PATH_H
#define PATH_H

#include "wire.h"

enum { PATHS_MAX = 64 }; /* remotes that are told apart */

struct path_address {
    uint8_t family; /* 4 or 6 */
    uint8_t bytes[16];
};

struct path {
    struct path_address remote;
    uint32_t mtu;
};

struct paths {
    struct path list[PATHS_MAX];
    uint32_t count;
    uint32_t least; /* of the remotes that found no place */
};

void paths_begin(struct paths *p);

/* Packets to this remote have at most mtu bytes. */
void paths_set(struct paths *p, const struct path_address *remote, uint32_t mtu);

/* The most bytes of IP that a packet to the destination in this IP header may have,
 * on a link with this MTU. */
uint32_t paths_mtu(const struct paths *p, const uint8_t *ip, uint32_t link);

#endif
