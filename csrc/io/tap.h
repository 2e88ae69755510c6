/* tap.h: a queue of a TAP interface as a device.
 *
 * What the kernel sends into the interface is received, super-frames whole;
 * what is sent, the kernel receives from it.  Must not: addresses, routes, MTU.
 */
#ifndef TAP_H
#define TAP_H

#include "device.h"

enum {
    TAP_MULTI_QUEUE = 1, /* more queues may be attached to the interface */
    TAP_OFFLOAD = 2,     /* super-frames, as far as the kernel gives and takes them */
    TAP_PERSIST = 4,     /* the interface outlives its queues */
};

/* What was granted of TAP_OFFLOAD: TUN_F_* of the kernel. */
enum {
    TAP_CSUM = 0x01,
    TAP_TSO4 = 0x02,
    TAP_TSO6 = 0x04,
    TAP_TSO_ECN = 0x08,
    TAP_USO4 = 0x20,
    TAP_USO6 = 0x40,
};

enum { TAP_NAME = 16 }; /* bytes of a name, its zero included */

/* Create the interface, or attach to it.  name may be empty, or hold %d; actual
 * becomes the name.  NULL with errno. */
struct device *tap_open(const char *name, unsigned flags, char actual[TAP_NAME]);

/* Read the interface's MTU and MAC again.  0, or -1 with errno. */
int tap_refresh(struct device *d);

unsigned tap_offloads(const struct device *d);

#endif
