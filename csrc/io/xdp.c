/* xdp.c: see xdp.h.  The memory that is shared with the kernel and its four rings,
 * what arrives, what leaves.  Rows of recv are lent: they lie in that memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/version.h>

#include "offload.h"
#include "outer.h"
#include "xdp.h"

#if LINUX_VERSION_CODE >= 0x050900
#include <linux/if_xdp.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BEFORE = 256,    /* bytes before what is received: the kernel's headroom for programs */
    PAUSE = 5000000, /* ns between two attempts to have the queue */
    PATIENCE = 200,  /* attempts */
    STATISTICS = 64, /* calls of recv between two looks at the kernel's counters */
    MTU_MAX = XDP_FRAME - BEFORE - ETHERNET_LENGTH - TAG_LENGTH,
};

/* ---- the interface ------------------------------------------------------------------ */

/* Ask about the interface by its index: its name may have changed. */
static int ask(const struct xdp *x, unsigned long request, struct ifreq *r)
{
    memset(r, 0, sizeof *r);
    if (if_indextoname((unsigned)x->interface, r->ifr_name) == NULL)
        return -1;
    return ioctl(x->control, request, r);
}

int xdp_refresh(struct device *d)
{
    struct xdp *x = (struct xdp *)d;
    struct ifreq r;
    if (ask(x, SIOCGIFHWADDR, &r) != 0)
        return -1;
    if (r.ifr_hwaddr.sa_family != ARPHRD_ETHER && r.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK) {
        errno = EPROTONOSUPPORT;
        return -1;
    }
    memcpy(d->mac, r.ifr_hwaddr.sa_data, sizeof d->mac);
    if (ask(x, SIOCGIFMTU, &r) != 0)
        return -1;
    __atomic_store_n(&d->mtu, min32((uint32_t)r.ifr_mtu, MTU_MAX), __ATOMIC_RELAXED);
    return 0;
}

/* ---- rings -------------------------------------------------------------------------- */

static bool ring_map(struct ring *r, int fd, const struct xdp_ring_offset *o, uint32_t count,
                     size_t entry, uint64_t place)
{
    r->size = (size_t)o->desc + count * entry;
    void *map =
        mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)place);
    if (map == MAP_FAILED)
        return false;
    r->map = map;
    void *producer = (uint8_t *)map + o->producer, *consumer = (uint8_t *)map + o->consumer;
    void *flags = (uint8_t *)map + o->flags;
    r->producer = producer;
    r->consumer = consumer;
    r->flags = flags;
    r->entries = (uint8_t *)map + o->desc;
    r->mask = count - 1;
    return true;
}

static void ring_unmap(struct ring *r)
{
    if (r->map != NULL)
        munmap(r->map, r->size);
}

static bool rings_open(struct xdp *x)
{
    const int fd = x->socket;
    const uint32_t n = x->half;
    struct xdp_umem_reg memory = {
        .addr = (uint64_t)(uintptr_t)x->memory, .len = x->size, .chunk_size = XDP_FRAME};
    struct xdp_mmap_offsets at;
    socklen_t size = sizeof at;
    return setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof memory) == 0 &&
           setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &n, sizeof n) == 0 &&
           setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &n, sizeof n) == 0 &&
           setsockopt(fd, SOL_XDP, XDP_RX_RING, &n, sizeof n) == 0 &&
           setsockopt(fd, SOL_XDP, XDP_TX_RING, &n, sizeof n) == 0 &&
           getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &size) == 0 &&
           ring_map(&x->fill, fd, &at.fr, n, sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING) &&
           ring_map(&x->complete, fd, &at.cr, n, sizeof(uint64_t),
                    XDP_UMEM_PGOFF_COMPLETION_RING) &&
           ring_map(&x->rx, fd, &at.rx, n, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING) &&
           ring_map(&x->tx, fd, &at.tx, n, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
}

/* ---- open and close -------------------------------------------------------------------- */

static bool memory_open(struct xdp *x, uint32_t frames)
{
    x->half = frames / 2;
    x->size = (size_t)frames * XDP_FRAME;
    x->lent = calloc(x->half, sizeof *x->lent);
    x->spare = calloc(x->half, sizeof *x->spare);
    void *map = mmap(NULL, x->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    x->memory = map;
    if (x->lent == NULL || x->spare == NULL || !rings_open(x))
        return false;
    for (uint32_t i = 0; i < x->half; i++) {
        *ring_address_at(&x->fill, i) = (uint64_t)i * XDP_FRAME;
        x->spare[i] = (uint64_t)(x->half + i) * XDP_FRAME;
    }
    ring_give(&x->fill, x->half);
    x->spare_count = x->half;
    /* All the frames may wait in the interface's queue at once. */
    const int bytes = (int)min32(x->half * XDP_FRAME, INT32_MAX / 2);
    if (setsockopt(x->socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0)
        (void)setsockopt(x->socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return true;
}

/* The kernel takes a moment to take leave of the queue's last socket. */
static bool bind_to(int fd, const struct sockaddr_xdp *to)
{
    const struct timespec moment = {.tv_nsec = PAUSE};
    for (int i = 0; bind(fd, (const struct sockaddr *)to, sizeof *to) != 0; i++)
        if (errno != EBUSY || i == PATIENCE || nanosleep(&moment, NULL) != 0)
            return false;
    return true;
}

static bool set_up(struct xdp *x, const struct xdp_request *q, enum xdp_step *step)
{
    struct sockaddr_xdp to = {.sxdp_family = AF_XDP, .sxdp_queue_id = q->queue};
    *step = XDP_AT_INTERFACE;
    x->interface = (int)if_nametoindex(q->interface);
    if (x->interface == 0)
        return false;
    x->control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (x->control < 0 || xdp_refresh(&x->device) != 0)
        return false;
    *step = XDP_AT_SOCKET;
    x->socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (x->socket < 0)
        return false;
    *step = XDP_AT_MEMORY;
    if (!memory_open(x, q->frames))
        return false;
    *step = XDP_AT_BIND;
    to.sxdp_ifindex = (uint32_t)x->interface;
    to.sxdp_flags = XDP_USE_NEED_WAKEUP | (q->zero_copy ? XDP_ZEROCOPY : XDP_COPY);
    if (!bind_to(x->socket, &to))
        return false;
    x->link = xdp_attach(q, x->interface, x->device.mac, x->socket, &x->native, step);
    return x->link >= 0;
}

/* The program first: then nothing is lost on its way to a socket that is no more. */
static void xdp_close(struct device *d)
{
    struct xdp *x = (struct xdp *)d;
    if (x->link >= 0)
        close(x->link);
    ring_unmap(&x->fill);
    ring_unmap(&x->complete);
    ring_unmap(&x->rx);
    ring_unmap(&x->tx);
    if (x->socket >= 0)
        close(x->socket);
    if (x->control >= 0)
        close(x->control);
    if (x->memory != NULL)
        munmap(x->memory, x->size);
    free(x->lent);
    free(x->spare);
    free(x);
}

static int64_t xdp_recv(struct device *d, struct ov_batch *b);

static const struct device_ops xdp_ops = {xdp_recv, xdp_send, xdp_close};

struct device *xdp_open(const struct xdp_request *q, enum xdp_step *step)
{
    struct xdp *x = calloc(1, sizeof *x);
    *step = XDP_AT_MEMORY;
    if (x == NULL)
        return NULL;
    x->device.ops = &xdp_ops;
    x->device.lends = true;
    x->device.underlay = x->device.suspect = q->protocols != 0;
    x->protocols = q->protocols;
    x->socket = x->control = x->link = -1;
    paths_begin(&x->paths);
    if (q->frames < XDP_FRAMES_MIN || q->frames > XDP_FRAMES_MAX ||
        (q->frames & (q->frames - 1)) != 0 || q->local_count > XDP_LOCALS_MAX)
        errno = EINVAL;
    else if (set_up(x, q, step)) {
        x->device.fd = x->socket;
        return &x->device;
    }
    const int error = errno;
    xdp_close(&x->device);
    errno = error;
    return NULL;
}

bool xdp_is_native(const struct device *d)
{
    return ((const struct xdp *)d)->native;
}

void xdp_path_mtu(struct device *d, const struct path_address *remote, uint32_t mtu)
{
    paths_set(&((struct xdp *)d)->paths, remote, mtu);
}

/* ---- recv ---------------------------------------------------------------------------- */

/* Add what the kernel had no room for. */
static void count_overruns(struct xdp *x)
{
    struct xdp_statistics s = {0};
    socklen_t size = sizeof s;
    if (getsockopt(x->socket, SOL_XDP, XDP_STATISTICS, &s, &size) != 0)
        return;
    const uint64_t now = s.rx_dropped + s.rx_ring_full;
    device_count(&x->device.stats.lost[OV_DEVICE_OVERRUN], now - x->overruns);
    x->overruns = now;
}

/* Whether the interface is no more. */
static bool look(struct xdp *x)
{
    char name[IF_NAMESIZE];
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(x->socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0)
        x->gone = if_indextoname((unsigned)x->interface, name) == NULL;
    return x->gone;
}

/* The frames of the last call are the kernel's again. */
static void give_back(struct xdp *x)
{
    uint32_t at = *x->fill.producer;
    for (uint32_t i = 0; i < x->lent_count; i++)
        *ring_address_at(&x->fill, at++) = x->lent[i];
    if (x->lent_count != 0)
        ring_give(&x->fill, at);
    x->lent_count = 0;
    if (ring_sleeps(&x->fill))
        (void)recvfrom(x->socket, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static struct xdp_desc *packet_at(const struct ring *r, uint32_t number)
{
    struct xdp_desc *entries = r->entries;
    return &entries[number & r->mask];
}

/* Make a row of what arrived.  A sender on this machine may have left a checksum to a
 * NIC that was not there, and XDP has no word for that. */
static void take(struct xdp *x, struct ov_batch *b, const struct xdp_desc *p)
{
    struct device *d = &x->device;
    x->lent[x->lent_count++] = frame_of(p->addr);
    if (p->len < ETHERNET_LENGTH) {
        device_count(&d->stats.lost[OV_FRAME_TOO_SHORT], 1);
        return;
    }
    device_row(b, frame_of(p->addr), p->addr, p->len);
    (void)offload_suspect(b->data + p->addr, p->len);
    device_count(&d->stats.rx_packets, 1);
    device_count(&d->stats.rx_bytes, p->len);
}

static int64_t xdp_recv(struct device *d, struct ov_batch *b)
{
    struct xdp *x = (struct xdp *)d;
    uint64_t room = b->size;
    uint32_t end, at = ring_given(&x->rx, &end);
    device_clear(b);
    give_back(x);
    b->data = x->memory;
    b->size = x->size;
    for (; at != end && b->count < b->capacity; at++) {
        const struct xdp_desc *p = packet_at(&x->rx, at);
        /* Whoever copies what is lent must find room for it.  The first always fits. */
        const uint64_t most = b->gap + ((uint64_t)p->len + 15) / 16 * 16;
        if (most > room && b->count != 0)
            break;
        room -= most < room ? most : room;
        take(x, b, p);
    }
    ring_took(&x->rx, at);
    if (b->count == 0)
        xdp_flush(x);
    if (b->count == 0 || ++x->calls % STATISTICS == 0)
        count_overruns(x);
    return b->count == 0 && look(x) ? -ENODEV : (int64_t)b->count;
}

#else

struct device *xdp_open(const struct xdp_request *q, enum xdp_step *step)
{
    (void)q;
    *step = XDP_AT_BUILD;
    errno = ENOTSUP;
    return NULL;
}

bool xdp_is_native(const struct device *d)
{
    (void)d;
    return false;
}

int xdp_refresh(struct device *d)
{
    (void)d;
    errno = ENOTSUP;
    return -1;
}

void xdp_path_mtu(struct device *d, const struct path_address *remote, uint32_t mtu)
{
    (void)d, (void)remote, (void)mtu;
}

#endif
