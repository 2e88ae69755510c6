/* packet_receive.c: what arrives, from a ring that the kernel fills or, without
 * one, many packets a system call.  Rows are lent: they lie in this file's memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "offload.h"
#include "outer.h"
#include "packet.h"
#include "vnet.h"

enum {
    /* Before a packet in a ring: TPACKET3_HDRLEN, which mixes signs. */
    HEADER = sizeof(struct tpacket3_hdr) / TPACKET_ALIGNMENT * TPACKET_ALIGNMENT +
        sizeof(struct sockaddr_ll),
    BLOCK = 1 << 18, /* of a ring: the largest frame fits with room to spare */
    RETIRE = 1,      /* ms after which a block that is not full is handed over */
    STATISTICS = 64, /* calls of recv between two looks at the kernel's counters */
    CONTROL = CMSG_SPACE(sizeof(struct tpacket_auxdata)),
};

_Static_assert(sizeof(struct tpacket3_hdr) % TPACKET_ALIGNMENT == 0, "no padding after it");

struct packet_receiver {
    uint8_t *map;
    size_t size;
    uint64_t room; /* bytes that the batch has left, were the rows its own */
    uint32_t calls;
    bool gone; /* the interface */
    /* A ring. */
    uint32_t blocks; /* 0: none */
    uint32_t block;  /* that is read next */
    uint32_t lent;   /* blocks before it that are to be given back */
    uint32_t left;   /* packets left in it, once begun */
    uint64_t next;   /* offset in map of the first of them */
    /* None. */
    uint32_t held;  /* of the packets of the last call, those that there was no room for */
    uint32_t begin; /* the first of them */
    int poll;       /* readable when the socket or event is */
    int event;      /* readable while packets are held */
    struct mmsghdr messages[PACKET_BURST];
    struct iovec parts[PACKET_BURST];
    _Alignas(struct cmsghdr) uint8_t control[PACKET_BURST][CONTROL];
};

/* One packet as the kernel gives it; the virtio header lies before it. */
struct arrival {
    uint64_t base;
    uint64_t at;
    uint32_t length;
    uint32_t wire;
    uint32_t status; /* TP_STATUS_* */
    uint16_t tci;
    uint16_t tpid;
};

/* ---- open and close ----------------------------------------------------------------- */

static bool ring_open(struct packet_receiver *r, int fd, size_t ring)
{
    const int version = TPACKET_V3, reserve = PACKET_HEADROOM;
    struct tpacket_req3 q = {
        .tp_block_size = BLOCK, .tp_frame_size = BLOCK, .tp_retire_blk_tov = RETIRE};
    size_t blocks = (ring + BLOCK - 1) / BLOCK;
    if (blocks > INT32_MAX / BLOCK) {
        errno = EINVAL;
        return false;
    }
    r->blocks = q.tp_block_nr = q.tp_frame_nr = blocks < 2 ? 2 : (uint32_t)blocks;
    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_RESERVE, &reserve, sizeof reserve) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &q, sizeof q) != 0)
        return false;
    r->size = (size_t)r->blocks * BLOCK;
    void *map = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    r->map = map == MAP_FAILED ? NULL : map;
    return r->map != NULL;
}

static bool watch(const struct packet_receiver *r, int fd)
{
    struct epoll_event e = {.events = EPOLLIN};
    return epoll_ctl(r->poll, EPOLL_CTL_ADD, fd, &e) == 0;
}

static bool burst_open(struct packet_receiver *r, int fd)
{
    const int on = 1;
    r->poll = epoll_create1(EPOLL_CLOEXEC);
    r->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->poll < 0 || r->event < 0 || !watch(r, fd) || !watch(r, r->event) ||
        setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on) != 0)
        return false;
    r->size = (size_t)PACKET_BURST * PACKET_SLOT;
    void *map = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    r->map = map;
    for (size_t i = 0; i < PACKET_BURST; i++) {
        const size_t before = PACKET_HEADROOM - VNET_LENGTH;
        r->parts[i] = (struct iovec){r->map + i * PACKET_SLOT + before, PACKET_SLOT - before};
        r->messages[i].msg_hdr.msg_iov = &r->parts[i];
        r->messages[i].msg_hdr.msg_iovlen = 1;
        r->messages[i].msg_hdr.msg_control = r->control[i];
    }
    return true;
}

struct packet_receiver *packet_receiver_open(int fd, size_t ring)
{
    struct packet_receiver *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->poll = r->event = -1;
    if (ring != 0 ? ring_open(r, fd, ring) : burst_open(r, fd))
        return r;
    const int error = errno;
    packet_receiver_close(r);
    errno = error;
    return NULL;
}

void packet_receiver_close(struct packet_receiver *r)
{
    if (r == NULL)
        return;
    if (r->map != NULL)
        munmap(r->map, r->size);
    if (r->event >= 0)
        close(r->event);
    if (r->poll >= 0)
        close(r->poll);
    free(r);
}

int packet_receiver_fd(const struct packet_receiver *r, int fd)
{
    return r->poll >= 0 ? r->poll : fd;
}

/* ---- checksums and super-frames --------------------------------------------------------- */

/* Where the frame of an outer packet begins whose IP payload is at l4, or 0. */
static uint32_t carried(const uint8_t *packet, uint32_t length, uint32_t l4, uint8_t protocol)
{
    uint32_t shim = UDP_LENGTH + 8; /* and VXLAN */
    if (length - l4 < shim)
        return 0;
    if (protocol == IP_GRE) { /* checksum, key and sequence number may be there */
        uint8_t flags = packet[l4];
        shim = 4u + 4u * ((flags >> 7 & 1u) + (flags >> 5 & 1u) + (flags >> 4 & 1u));
    }
    return length - l4 >= shim + ETHERNET_LENGTH ? l4 + shim : 0;
}

/* A super-packet of the underlay.  STT's is one larger segment, TCP's checksum and
 * all; in VXLAN's and NVGRE's the frame carried is the super-frame. */
static bool take_super(struct ov_batch *b, size_t i, const struct vnet *v)
{
    uint8_t *packet = b->data + b->offset[i];
    uint32_t length = b->length[i];
    struct inner in = inner_inspect(packet, length, 0);
    if (in.l4 == 0)
        return false;
    if (in.protocol == IP_TCP)
        return offload_complete_any(packet, length);
    uint32_t at = carried(packet, length, in.l4, in.protocol);
    if (at == 0 || !vnet_take(v, packet + at, length - at, &b->mss[i], &b->checksum[i]))
        return false;
    /* The sum that was left partial is the outer one's part now. */
    return in.protocol != IP_UDP || get16(packet + in.l4 + 6) == 0 ||
           offload_complete_any(packet, length);
}

/* Do what the virtio header says of row i, or say it in the row. */
static int take_offloads(const struct packet *p, struct ov_batch *b, size_t i, const struct vnet *v)
{
    uint8_t *frame = b->data + b->offset[i];
    uint32_t length = b->length[i];
    bool super = v->gso_type != VNET_GSO_NONE;
    if (length < b->wire[i])
        return super ? OV_FRAME_CUT : OV_OK;
    if (super && p->protocols != 0)
        return take_super(b, i, v) ? OV_OK : OV_DEVICE_REFUSED;
    if (!vnet_take(v, frame, length, &b->mss[i], &b->checksum[i]))
        return OV_DEVICE_REFUSED;
    if (p->protocols == 0 && !super && (v->flags & VNET_DATA_VALID) != 0)
        b->checksum[i] = OV_CSUM_VERIFIED; /* the frame's own; of an outer packet's no row tells */
    return OV_OK;
}

/* Make a row of what arrived. */
static void take(struct packet *p, struct ov_batch *b, struct arrival a)
{
    struct device *d = &p->device;
    uint8_t *frame = b->data + a.at;
    struct vnet v;
    int status = OV_OK;
    memcpy(&v, frame - VNET_LENGTH, sizeof v);
    if (a.wire > DEVICE_FRAME_MAX - TAG_LENGTH)
        status = OV_FRAME_TOO_LONG;
    else if (a.length < ETHERNET_LENGTH)
        status = OV_FRAME_TOO_SHORT;
    if (status == OV_OK && (a.status & TP_STATUS_VLAN_VALID)) {
        memmove(frame - TAG_LENGTH, frame, 12);
        frame -= TAG_LENGTH;
        put16(frame + 12, a.status & TP_STATUS_VLAN_TPID_VALID ? a.tpid : ETHERTYPE_CTAG);
        put16(frame + 14, a.tci);
        a.at -= TAG_LENGTH;
        a.length += TAG_LENGTH;
        a.wire += TAG_LENGTH;
        v.csum_start = (uint16_t)(v.csum_start + TAG_LENGTH);
    }
    if (status == OV_OK) {
        size_t i = device_row(b, a.base, a.at, a.length);
        b->wire[i] = a.wire;
        status = take_offloads(p, b, i, &v);
        if (status != OV_OK)
            b->count--;
    }
    if (status != OV_OK) {
        device_count(&d->stats.lost[status], 1);
        return;
    }
    device_count(&d->stats.rx_packets, 1);
    device_count(&d->stats.rx_bytes, a.wire);
}

/* Whether the batch would have room for this packet as well, were the rows its own:
 * whoever copies what is lent must find it so.  The first always fits. */
static bool fits(struct packet_receiver *r, const struct ov_batch *b, uint32_t length)
{
    uint64_t need = b->gap + ((uint64_t)length + TAG_LENGTH + 15) / 16 * 16;
    if (b->count >= b->capacity || (need > r->room && b->count != 0))
        return false;
    r->room -= need < r->room ? need : r->room;
    return true;
}

/* ---- a ring -------------------------------------------------------------------------------- */

static struct tpacket_block_desc *block_of(const struct packet_receiver *r, uint32_t block)
{
    void *at = r->map + (size_t)block * BLOCK;
    return at;
}

/* Take the packets of blocks that the kernel has handed over. */
static void ring_take(struct packet *p, struct ov_batch *b)
{
    struct packet_receiver *r = p->receiver;
    for (; r->lent > 0; r->lent--) {
        uint32_t back = (r->block + r->blocks - r->lent) % r->blocks;
        __atomic_store_n(&block_of(r, back)->hdr.bh1.block_status, TP_STATUS_KERNEL,
                         __ATOMIC_RELEASE);
    }
    while (b->count < b->capacity) {
        if (r->left == 0) {
            struct tpacket_block_desc *block = block_of(r, r->block);
            uint32_t status = __atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE);
            if (!(status & TP_STATUS_USER) || r->lent == r->blocks)
                return;
            r->left = block->hdr.bh1.num_pkts;
            r->next = (uint64_t)r->block * BLOCK + block->hdr.bh1.offset_to_first_pkt;
        }
        if (r->left != 0) {
            struct tpacket3_hdr h;
            memcpy(&h, r->map + r->next, sizeof h);
            struct arrival a = {
                .base = r->next + HEADER,
                .at = r->next + h.tp_mac,
                .length = h.tp_snaplen,
                .wire = h.tp_len,
                .status = h.tp_status,
                .tci = (uint16_t)h.hv1.tp_vlan_tci,
                .tpid = h.hv1.tp_vlan_tpid,
            };
            if (!fits(r, b, h.tp_snaplen))
                return;
            r->next += h.tp_next_offset;
            r->left--;
            take(p, b, a);
        }
        if (r->left == 0) {
            r->block = (r->block + 1) % r->blocks;
            r->lent++;
        }
    }
}

/* ---- none ---------------------------------------------------------------------------------- */

/* Packet number i of the last call, if it fits. */
static bool burst_row(struct packet *p, struct ov_batch *b, uint32_t i)
{
    struct packet_receiver *r = p->receiver;
    struct msghdr *m = &r->messages[i].msg_hdr;
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    struct tpacket_auxdata aux = {0};
    uint32_t whole = r->messages[i].msg_len;
    whole -= min32(whole, VNET_LENGTH);
    if (c != NULL && c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
        memcpy(&aux, CMSG_DATA(c), sizeof aux);
    struct arrival a = {
        .base = (uint64_t)i * PACKET_SLOT,
        .at = (uint64_t)i * PACKET_SLOT + PACKET_HEADROOM,
        .length = min32(whole, PACKET_SLOT - PACKET_HEADROOM),
        .wire = whole,
        .status = aux.tp_status,
        .tci = aux.tp_vlan_tci,
        .tpid = aux.tp_vlan_tpid,
    };
    if (!fits(r, b, a.length))
        return false;
    take(p, b, a);
    return true;
}

/* Ask for packets when those of the last call are all given.  0, or an errno. */
static int burst_take(struct packet *p, struct ov_batch *b)
{
    struct packet_receiver *r = p->receiver;
    if (r->held == 0) {
        for (size_t i = 0; i < PACKET_BURST; i++)
            r->messages[i].msg_hdr.msg_controllen = CONTROL;
        int n = recvmmsg(p->socket, r->messages, PACKET_BURST, MSG_DONTWAIT | MSG_TRUNC, NULL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : errno;
        r->begin = 0;
        r->held = (uint32_t)n;
    }
    bool before = r->held != 0 && r->begin != 0;
    for (; r->held != 0 && burst_row(p, b, r->begin); r->held--)
        r->begin++;
    if (before != (r->held != 0)) {
        uint64_t one = 1;
        (void)!(before ? read(r->event, &one, sizeof one) : write(r->event, &one, sizeof one));
    }
    return 0;
}

/* ---- recv ---------------------------------------------------------------------------------- */

/* Add what the kernel had no room for. */
static void count_overruns(struct packet *p)
{
    struct tpacket_stats_v3 s = {0};
    socklen_t size = p->receiver->blocks != 0 ? sizeof s : sizeof(struct tpacket_stats);
    if (getsockopt(p->socket, SOL_PACKET, PACKET_STATISTICS, &s, &size) == 0 && s.tp_drops != 0)
        device_count(&p->device.stats.lost[OV_DEVICE_OVERRUN], s.tp_drops);
}

int64_t packet_recv(struct device *d, struct ov_batch *b)
{
    struct packet *p = (struct packet *)d;
    struct packet_receiver *r = p->receiver;
    int error = 0;
    device_clear(b);
    r->room = b->size;
    b->data = r->map;
    b->size = r->size;
    if (r->blocks != 0)
        ring_take(p, b);
    else
        error = burst_take(p, b);
    if (b->count == 0 || ++r->calls % STATISTICS == 0)
        count_overruns(p);
    if (b->count == 0 && r->blocks != 0) {
        socklen_t size = sizeof error;
        getsockopt(p->socket, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error != 0) { /* the interface went down, perhaps for ever */
        char name[IF_NAMESIZE];
        r->gone = if_indextoname((unsigned)p->interface, name) == NULL;
    }
    return r->gone && b->count == 0 ? -ENODEV : (int64_t)b->count;
}
