/* packet.c: see packet.h.  Opening and closing; the rest is in packet_*.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_packet.h>
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "packet.h"

enum { BUFFER = 8 << 20 }; /* bytes asked for on each way, without a ring */

static const struct device_ops packet_ops;

/* Ask about the interface by its index: its name may have changed. */
static int ask(const struct packet *p, unsigned long request, struct ifreq *r)
{
    memset(r, 0, sizeof *r);
    if (if_indextoname((unsigned)p->interface, r->ifr_name) == NULL)
        return -1;
    return ioctl(p->socket, request, r);
}

int packet_refresh(struct device *d)
{
    struct packet *p = (struct packet *)d;
    struct ifreq r;
    if (ask(p, SIOCGIFHWADDR, &r) != 0)
        return -1;
    if (r.ifr_hwaddr.sa_family != ARPHRD_ETHER && r.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK) {
        errno = EPROTONOSUPPORT;
        return -1;
    }
    memcpy(d->mac, r.ifr_hwaddr.sa_data, sizeof d->mac);
    if (ask(p, SIOCGIFMTU, &r) != 0)
        return -1;
    __atomic_store_n(&d->mtu, (uint32_t)r.ifr_mtu, __ATOMIC_RELAXED);
    return 0;
}

/* As much room as there may be: past the limit where we may, else up to it. */
static void set_buffer(int fd, int force, int polite)
{
    const int bytes = BUFFER;
    if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) != 0)
        (void)setsockopt(fd, SOL_SOCKET, polite, &bytes, sizeof bytes);
}

/* Share what arrives with the others of a group. */
static int join(struct packet *p, const struct packet_options *o)
{
    unsigned flags = (unsigned)o->fanout | (o->group < 0 ? PACKET_FANOUT_FLAG_UNIQUEID : 0u);
    int value = (int)(flags << 16 | (o->group < 0 ? 0u : (unsigned)o->group & 0xFFFF));
    socklen_t size = sizeof value;
    if (setsockopt(p->socket, SOL_PACKET, PACKET_FANOUT, &value, sizeof value) != 0 ||
        getsockopt(p->socket, SOL_PACKET, PACKET_FANOUT, &value, &size) != 0)
        return -1;
    p->group = value & 0xFFFF;
    return 0;
}

/* A socket with no protocol takes nothing until it is bound: by then a filter is on.
 * One that is to share must be bound first, and would take what the others take. */
static int set_up(struct packet *p, const struct packet_options *o)
{
    const int fd = p->socket, on = 1;
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0)
        return -1;
    if (o->bypass && setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) != 0)
        return -1;
    if (o->fanout >= 0 ? packet_filter_all(fd) != 0 : packet_filter(fd, o) != 0)
        return -1;
    set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
    set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
    p->receiver = packet_receiver_open(fd, o->ring);
    p->sender = packet_sender_open();
    if (p->receiver == NULL || p->sender == NULL)
        return -1;
    const struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = p->interface};
    if (bind(fd, (const struct sockaddr *)&to, sizeof to) != 0)
        return -1;
    if (o->fanout >= 0 && (join(p, o) != 0 || packet_filter(fd, o) != 0))
        return -1;
    const struct packet_mreq all = {.mr_ifindex = p->interface, .mr_type = PACKET_MR_PROMISC};
    if (o->promiscuous && setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) != 0)
        return -1;
    return 0;
}

static void packet_close(struct device *d)
{
    struct packet *p = (struct packet *)d;
    packet_receiver_close(p->receiver);
    packet_sender_close(p->sender);
    if (p->socket >= 0)
        close(p->socket);
    free(p);
}

struct device *packet_open(const struct packet_options *o)
{
    struct packet *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->device.ops = &packet_ops;
    p->device.lends = true;
    p->device.underlay = o->protocols != 0;
    p->interface = (int)if_nametoindex(o->interface);
    p->protocols = o->protocols;
    paths_begin(&p->paths);
    p->group = -1;
    p->socket =
        p->interface == 0 ? -1 : socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->socket >= 0 && packet_refresh(&p->device) == 0 && set_up(p, o) == 0) {
        p->device.fd = packet_receiver_fd(p->receiver, p->socket);
        return &p->device;
    }
    const int error = errno;
    packet_close(&p->device);
    errno = error;
    return NULL;
}

void packet_path_mtu(struct device *d, const struct path_address *remote, uint32_t mtu)
{
    paths_set(&((struct packet *)d)->paths, remote, mtu);
}

int packet_group(const struct device *d)
{
    return ((const struct packet *)d)->group;
}

static const struct device_ops packet_ops = {packet_recv, packet_send, packet_close};
