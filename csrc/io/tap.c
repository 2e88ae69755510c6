/* tap.c: see tap.h.  One system call a frame, or a super-frame: that is why packets
 * of one flow that follow each other are put together before they are written. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernel.h"
#include "offload.h"
#include "tap.h"
#include "vnet.h"

enum { PIECES = 130 }; /* a virtio-net header, and the frames of one write */
_Static_assert(TAP_NAME == IFNAMSIZ, "the kernel's length of a name");

struct tap {
    struct device device;
    char name[TAP_NAME];
    unsigned offloads;
    uint8_t good; /* bit gso_type: the kernel has taken such a super-frame */
    uint8_t bad;  /* it has refused the first one */
    struct vnet held_header;
    uint32_t held; /* bytes of a frame in scratch that had no room, or 0 */
    uint8_t scratch[DEVICE_FRAME_MAX];
};

/* ---- recv ------------------------------------------------------------------- */

/* Add the frame at device_at(b), of which the kernel says v. */
static void take(struct tap *t, struct ov_batch *b, const struct vnet *v, uint32_t length)
{
    struct device *d = &t->device;
    uint16_t mss;
    uint8_t checksum;
    if (unlikely(!vnet_take(v, device_at(b), length, &mss, &checksum))) {
        device_count(&d->stats.lost[OV_DEVICE_REFUSED], 1);
        return;
    }
    size_t i = device_append(b, length);
    b->mss[i] = mss;
    b->checksum[i] = checksum;
    device_count(&d->stats.rx_packets, 1);
    device_count(&d->stats.rx_bytes, length);
}

static void take_held(struct tap *t, struct ov_batch *b)
{
    if (device_room(b) >= t->held) {
        memcpy(device_at(b), t->scratch, t->held);
        take(t, b, &t->held_header, t->held);
    } else {
        device_count(&t->device.stats.lost[OV_NO_ROOM], 1); /* no batch like this can take it */
    }
    t->held = 0;
}

static int64_t tap_recv(struct device *d, struct ov_batch *b)
{
    struct tap *t = (struct tap *)d;
    device_clear(b);
    if (t->held != 0)
        take_held(t, b);
    for (uint64_t room; (room = device_room(b)) != 0;) {
        struct vnet v;
        room = room < DEVICE_FRAME_MAX ? room : DEVICE_FRAME_MAX;
        struct iovec iov[] = {
            {&v, VNET_LENGTH}, {device_at(b), room}, {t->scratch, DEVICE_FRAME_MAX - room}};
        ssize_t n = readv(d->fd, iov, 3);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && b->count == 0)
            return -errno;
        if (n < VNET_LENGTH)
            break;
        uint32_t length = (uint32_t)n - VNET_LENGTH;
        if (likely(length <= room)) {
            take(t, b, &v, length);
            continue;
        }
        memmove(t->scratch + room, t->scratch, length - room);
        memcpy(t->scratch, device_at(b), room);
        t->held = length;
        t->held_header = v;
        break;
    }
    return (int64_t)b->count;
}

/* ---- send ------------------------------------------------------------------- */

/* Write one frame, its virtio-net header before it.  What became of it. */
static uint8_t put(const struct tap *t, const struct iovec *iov, int pieces)
{
    ssize_t n;
    do {
        n = writev(t->device.fd, iov, pieces);
    } while (n < 0 && errno == EINTR);
    if (likely(n >= 0))
        return OV_OK;
    switch (errno) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return OV_DEVICE_FULL;
    case EIO:    /* not up */
    case EBADFD: /* deleted */
    case ENETDOWN:
        return OV_DEVICE_DOWN;
    default:
        return OV_DEVICE_REFUSED;
    }
}

/* The same with a header that leaves work to the kernel.  The first super-frame of
 * its kind is the probe: a kernel that refuses it is not asked for this again. */
static uint8_t put_with(struct tap *t, const struct vnet *v, struct iovec *iov, int pieces)
{
    uint8_t kind = (uint8_t)(1u << (v->gso_type & 7));
    if ((t->bad & kind) != 0)
        return OV_DEVICE_REFUSED;
    struct vnet header = *v;
    iov[0] = (struct iovec){&header, VNET_LENGTH};
    uint8_t status = put(t, iov, pieces);
    if (status == OV_OK)
        t->good |= kind;
    else if (status == OV_DEVICE_REFUSED && v->gso_type != VNET_GSO_NONE)
        t->bad |= (uint8_t)(kind & ~t->good);
    return status;
}

/* Write a super-frame packet by packet, or one frame with its checksum completed. */
static uint8_t put_cut(struct tap *t, const uint8_t *frame, uint32_t length, uint16_t mss)
{
    uint8_t headers[OFFLOAD_HEADERS_MAX];
    struct vnet none = {0};
    struct cut c;
    if (!offload_plan(frame, length, mss, &c))
        return OV_DEVICE_REFUSED;
    for (uint32_t i = 0; i < c.count; i++) {
        uint32_t at, payload = offload_cut(frame, &c, i, headers, &at);
        const struct iovec iov[] = {
            {&none, VNET_LENGTH}, {headers, c.headers}, {(void *)(uintptr_t)(frame + at), payload}};
        uint8_t status = put(t, iov, 3);
        if (status != OV_OK)
            return status;
    }
    return OV_OK;
}

/* Whether it is more datagrams than Linux takes as one: no probe of what it takes. */
static bool too_many(const struct vnet *v, uint32_t length)
{
    return v->gso_type == VNET_GSO_UDP_L4 &&
           length - v->header_length > (uint32_t)v->gso_size * MERGE_DATAGRAMS_MAX;
}

static uint8_t put_row(struct tap *t, const struct ov_batch *b, size_t i)
{
    uint8_t *frame = b->data + b->offset[i];
    uint32_t length = b->length[i];
    bool plain = b->mss[i] == 0 && b->checksum[i] != OV_CSUM_PARTIAL;
    struct iovec iov[2] = {{0}, {frame, length}};
    struct vnet v;
    uint8_t status = OV_DEVICE_REFUSED;
    if (vnet_give(&v, frame, length, b->mss[i], b->checksum[i]) && !too_many(&v, length))
        status = put_with(t, &v, iov, 2);
    return status == OV_DEVICE_REFUSED && !plain ? put_cut(t, frame, length, b->mss[i]) : status;
}

/* Whether the row may stand in a run: whole, and nothing left to be done. */
always_inline bool mergeable(const struct ov_batch *b, size_t i)
{
    return b->status[i] == OV_OK && b->mss[i] == 0 && b->checksum[i] != OV_CSUM_PARTIAL &&
           kernel_row_good(b, b->base[i], b->offset[i], b->length[i], b->wire[i]);
}

/* Write the longest run at the front of rows that makes one super-frame.  The
 * rows of it, all gone; or 0: there is none, and all is as it was. */
static size_t put_run(struct tap *t, const struct ov_batch *b, const uint32_t *rows, size_t count)
{
    struct iovec iov[PIECES];
    struct merge m;
    struct vnet v;
    uint8_t *first = b->data + b->offset[rows[0]], before[OFFLOAD_HEADERS_MAX];
    size_t run = 1;
    if (!mergeable(b, rows[0]) || !mergeable(b, rows[1]) ||
        !merge_begin(&m, first, b->length[rows[0]], MERGE_MAX) ||
        (t->bad & 1u << vnet_kind(&m.o)) != 0)
        return 0;
    iov[1] = (struct iovec){first, b->length[rows[0]]};
    for (; run < count && run + 1 < PIECES && mergeable(b, rows[run]); run++) {
        uint8_t *frame = b->data + b->offset[rows[run]];
        if (!merge_add(&m, frame, b->length[rows[run]]))
            break;
        iov[run + 1] = (struct iovec){frame + m.headers, b->length[rows[run]] - m.headers};
    }
    if (run == 1)
        return 0;
    memcpy(before, first, m.headers);
    uint16_t mss = merge_end(&m, first);
    if (vnet_give(&v, first, merge_length(&m), mss, OV_CSUM_PARTIAL) &&
        put_with(t, &v, iov, (int)run + 1) == OV_OK)
        return run;
    memcpy(first, before, m.headers);
    return 0;
}

static size_t tap_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count)
{
    struct tap *t = (struct tap *)d;
    size_t sent = 0, run;
    uint64_t bytes = 0;
    for (size_t n = 0; n < count; n += run) {
        uint8_t status = OV_OK;
        size_t i = rows[n];
        run = 0;
        if (b->status[i] != OV_OK) {
            run = 1;
            continue;
        }
        if (n + 1 < count)
            run = put_run(t, b, rows + n, count - n);
        if (run == 0) {
            run = 1;
            status = kernel_row_good(b, b->base[i], b->offset[i], b->length[i], b->wire[i])
                         ? put_row(t, b, i)
                         : OV_BAD_ROW;
        }
        if (unlikely(status != OV_OK)) {
            device_lose(d, b, i, status);
            continue;
        }
        sent += run;
        for (size_t j = n; j < n + run; j++)
            bytes += b->length[rows[j]];
    }
    device_count(&d->stats.tx_packets, sent);
    device_count(&d->stats.tx_bytes, bytes);
    return sent;
}

/* ---- open and close ------------------------------------------------------------- */

static void tap_close(struct device *d)
{
    close(d->fd);
    free(d);
}

static const struct device_ops tap_ops = {tap_recv, tap_send, tap_close};

/* Attach; an interface that was made with many queues wants to be told so. */
static int attach(struct tap *t, const char *name, unsigned flags)
{
    struct ifreq r = {0};
    short kind = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    memcpy(r.ifr_name, name, strnlen(name, TAP_NAME - 1));
    r.ifr_flags = (short)(kind | ((flags & TAP_MULTI_QUEUE) != 0 ? IFF_MULTI_QUEUE : 0));
    int result = ioctl(t->device.fd, TUNSETIFF, &r);
    if (result != 0 && errno == EINVAL && (flags & TAP_MULTI_QUEUE) == 0) {
        r.ifr_flags = (short)(kind | IFF_MULTI_QUEUE);
        result = ioctl(t->device.fd, TUNSETIFF, &r);
    }
    memcpy(t->name, r.ifr_name, TAP_NAME);
    return result;
}

/* Ask for all, then for ever less, until the kernel grants it. */
static unsigned negotiate(int fd, unsigned flags)
{
    const unsigned tso = TAP_CSUM | TAP_TSO4 | TAP_TSO6;
    const unsigned steps[] = {tso | TAP_TSO_ECN | TAP_USO4 | TAP_USO6, tso | TAP_TSO_ECN, tso,
                              TAP_CSUM, 0};
    for (size_t i = (flags & TAP_OFFLOAD) != 0 ? 0 : 4; i < 5; i++)
        if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)steps[i]) == 0)
            return steps[i];
    return 0;
}

int tap_refresh(struct device *d)
{
    struct tap *t = (struct tap *)d;
    struct ifreq r = {0};
    if (ioctl(d->fd, SIOCGIFHWADDR, &r) != 0)
        return -1;
    memcpy(d->mac, r.ifr_hwaddr.sa_data, sizeof d->mac);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    memcpy(r.ifr_name, t->name, TAP_NAME);
    int result = ioctl(fd, SIOCGIFMTU, &r), error = errno;
    close(fd);
    errno = error;
    if (result == 0)
        __atomic_store_n(&d->mtu, (uint32_t)r.ifr_mtu, __ATOMIC_RELAXED);
    return result;
}

struct device *tap_open(const char *name, unsigned flags, char actual[TAP_NAME])
{
    struct tap *t = calloc(1, sizeof *t);
    const int header = VNET_LENGTH;
    if (t == NULL)
        return NULL;
    t->device.ops = &tap_ops;
    t->device.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (t->device.fd >= 0 && attach(t, name, flags) == 0 &&
        ioctl(t->device.fd, TUNSETVNETHDRSZ, &header) == 0 &&
        ((flags & TAP_PERSIST) == 0 || ioctl(t->device.fd, TUNSETPERSIST, 1UL) == 0) &&
        tap_refresh(&t->device) == 0) {
        t->offloads = negotiate(t->device.fd, flags);
        memcpy(actual, t->name, TAP_NAME);
        return &t->device;
    }
    const int error = errno;
    if (t->device.fd >= 0)
        close(t->device.fd);
    free(t);
    errno = error;
    return NULL;
}

unsigned tap_offloads(const struct device *d)
{
    return ((const struct tap *)d)->offloads;
}
