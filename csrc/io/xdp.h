/* xdp.h: AF_XDP as a device: one receive queue of an interface, its frames taken
 * before the kernel's stack, as a port or as the underlay.
 *
 * Lives here: what the files xdp*.c share.  Must not: what a tunnel header says.
 */
#ifndef XDP_H
#define XDP_H

#include "device.h"
#include "path.h"

struct xdp_request {
    const char *interface;
    uint32_t queue;     /* receive queue */
    uint32_t protocols; /* bits 1 << enum ov_protocol of the underlay; 0: a port */
    uint16_t port;      /* VXLAN's, of UDP */
    const struct path_address *locals;
    size_t local_count; /* underlay: only packets to these and to groups; 0: to our MAC address */
    uint32_t frames;    /* in flight, of both ways together: a power of two */
    bool guard;         /* packets of the tunnels that come to other queues are dropped */
    bool zero_copy;
};

enum {
    XDP_LOCALS_MAX = 8,
    XDP_FRAMES_MIN = 64,
    XDP_FRAMES_MAX = 1 << 16,
};

/* What failed, when xdp_open did. */
enum xdp_step {
    XDP_AT_BUILD,     /* ENOTSUP: built with headers of a kernel that is too old */
    XDP_AT_INTERFACE, /* EPROTONOSUPPORT: not Ethernet */
    XDP_AT_SOCKET,
    XDP_AT_MEMORY,
    XDP_AT_BIND, /* EINVAL: no such queue */
    XDP_AT_PROGRAM,
    XDP_AT_ATTACH,
};

/* A queue, or NULL with errno and *step set. */
struct device *xdp_open(const struct xdp_request *request, enum xdp_step *step);

/* Whether the driver runs the program, rather than the kernel after it. */
bool xdp_is_native(const struct device *d);

/* Read the interface's MTU and address again.  0, or -1 with errno set. */
int xdp_refresh(struct device *d);

/* Packets to this remote have at most mtu bytes; from any thread. */
void xdp_path_mtu(struct device *d, const struct path_address *remote, uint32_t mtu);

/* ---- what the files share ------------------------------------------------------ */

enum {
    XDP_FRAME = 4096, /* bytes; the kernel's limit is a page */
    RING_SLEEPS = 1,  /* a flag: the kernel will not look at the ring unless told to */
};

/* Numbers that go up for ever; the entry of one is at its lower bits. */
struct ring {
    uint32_t *producer, *consumer;
    uint32_t *flags;
    void *entries;
    uint32_t mask;
    void *map;
    size_t size;
};

struct xdp {
    struct device device;
    int socket;
    int control; /* for questions about the interface */
    int link;    /* the program, on the interface */
    int interface;
    uint32_t protocols;
    bool native;
    bool gone; /* the interface */
    uint8_t *memory;
    size_t size;
    uint32_t half;  /* frames of each way; the first are received into */
    uint32_t calls; /* of recv */
    uint64_t overruns;
    struct ring fill, complete, rx, tx;
    uint64_t *lent; /* addresses of rows that recv gave */
    uint32_t lent_count;
    uint64_t *spare; /* addresses of frames to send in */
    uint32_t spare_count;
    struct paths paths;
};

always_inline uint64_t *ring_address_at(const struct ring *r, uint32_t number)
{
    uint64_t *entries = r->entries;
    return &entries[number & r->mask];
}

/* The numbers from..*to are the kernel's gift: to be used, then given back by ring_took(). */
always_inline uint32_t ring_given(const struct ring *r, uint32_t *to)
{
    *to = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
    return *r->consumer;
}

always_inline void ring_took(const struct ring *r, uint32_t to)
{
    __atomic_store_n(r->consumer, to, __ATOMIC_RELEASE);
}

always_inline void ring_give(const struct ring *r, uint32_t to)
{
    __atomic_store_n(r->producer, to, __ATOMIC_RELEASE);
}

/* Whether the kernel will not look at the ring unless told to. */
always_inline bool ring_sleeps(const struct ring *r)
{
    return (__atomic_load_n(r->flags, __ATOMIC_RELAXED) & RING_SLEEPS) != 0;
}

/* The address of the frame that this one lies in. */
always_inline uint64_t frame_of(uint64_t address)
{
    return address & ~(uint64_t)(XDP_FRAME - 1);
}

/* Once more for what the interface would not take from send. */
void xdp_flush(struct xdp *x);

size_t xdp_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count);

/* The program that gives the socket what it wants, on the interface for as long as the
 * descriptor is open.  *step: XDP_AT_PROGRAM or XDP_AT_ATTACH.  -1 with errno set. */
int xdp_attach(const struct xdp_request *request, int interface, const uint8_t mac[6], int socket,
               bool *native, enum xdp_step *step);

#endif
