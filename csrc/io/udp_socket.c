/* udp_socket.c: see udp.h and udp_socket.h.  Opening, closing, errors; packets are
 * udp_receive.c's and udp_send.c's. */
#define _GNU_SOURCE
#include <errno.h>
#include <ifaddrs.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "udp_socket.h"

enum {
    PORT_LOW = 49152, /* of senders; RFC 7348 wants ports of this range */
    PORT_COUNT = 16384,
    SEND_BUFFER = 4 << 20,
    ERROR_BUFFER = 1 << 16,
};

struct udp {
    struct device device;
    struct udp_receiver receiver;
    struct udp_sender sender;
};

static int64_t udp_recv(struct device *d, struct ov_batch *b)
{
    return udp_receive(d, &((struct udp *)d)->receiver, b);
}

static size_t udp_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count)
{
    return udp_transmit(d, &((struct udp *)d)->sender, b, rows, count);
}

/* ---- senders ---------------------------------------------------------------------- */

/* Bind to the first free port of a sender's share of them, from a random one on. */
static int bind_sender(struct udp_sender *s, uint32_t k)
{
    const uint32_t width = PORT_COUNT / s->options.senders;
    uint32_t start = 0;
    if (getrandom(&start, sizeof start, GRND_NONBLOCK) != sizeof start)
        start = (uint32_t)getpid();
    for (uint32_t i = 0; i < width; i++) {
        union udp_name name;
        uint16_t port = (uint16_t)(PORT_LOW + k * width + (start + i) % width);
        socklen_t length =
            udp_name(&name, s->options.family, s->options.local, port, s->options.interface);
        s->ports[k] = port;
        if (bind(s->sockets[k], &name.any, length) == 0)
            return 0;
        if (errno != EADDRINUSE)
            return -1;
    }
    return -1;
}

/* Nothing is received at a sender but errors. */
static int open_sender(struct udp_sender *s, uint32_t k)
{
    const struct udp_options *o = &s->options;
    const bool v4 = o->family == 4;
    const int level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog filter = {1, &nothing};
    struct ip_mreqn interface = {.imr_ifindex = (int)o->interface};
    int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    s->sockets[s->count++] = fd;
    memcpy(&interface.imr_address, o->local, 4);
    if (udp_set(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER) != 0)
        (void)udp_set(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
    (void)udp_set(fd, SOL_SOCKET, SO_RCVBUF, ERROR_BUFFER);
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0 ||
        udp_set(fd, level, v4 ? IP_RECVERR : IPV6_RECVERR, 1) != 0 ||
        udp_set(fd, level, v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
                v4 ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO) != 0 ||
        udp_set(fd, level, v4 ? IP_TTL : IPV6_UNICAST_HOPS, UDP_TTL) != 0 ||
        udp_set(fd, level, v4 ? IP_MULTICAST_TTL : IPV6_MULTICAST_HOPS, o->multicast_ttl) != 0 ||
        udp_set(fd, level, v4 ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP, 0) != 0)
        return -1;
    if (v4 && (o->interface != 0 || !s->any) &&
        setsockopt(fd, level, IP_MULTICAST_IF, &interface, sizeof interface) != 0)
        return -1;
    if (!v4 && (udp_set(fd, level, IPV6_V6ONLY, 1) != 0 ||
                udp_set(fd, level, IPV6_MULTICAST_IF, (int)o->interface) != 0))
        return -1;
    udp_set_checksum(s, k, false);
    return bind_sender(s, k);
}

static int open_senders(struct udp_sender *s, const struct udp_options *o)
{
    static const uint8_t zero[16];
    int segment;
    socklen_t length = sizeof segment;
    s->options = *o;
    s->any = memcmp(o->local, zero, sizeof zero) == 0;
    for (uint32_t k = 0; k < o->senders; k++)
        if (open_sender(s, k) != 0)
            return -1;
    s->trains = s->count != 0 &&
                getsockopt(s->sockets[0], IPPROTO_UDP, SOCKET_UDP_SEGMENT, &segment, &length) == 0;
    return 0;
}

/* Read one error of a socket.  False: there is none. */
static bool read_error(const struct udp_sender *s, int fd, struct udp_error *e)
{
    const bool v4 = s->options.family == 4;
    union udp_name name;
    union {
        struct cmsghdr align;
        uint8_t bytes[512];
    } control;
    struct msghdr m = {.msg_name = &name,
                       .msg_namelen = sizeof name,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    memset(e, 0, sizeof *e);
    memset(&name, 0, sizeof name);
    if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return false;
    if (v4)
        memcpy(e->remote, &name.v4.sin_addr, 4);
    else
        memcpy(e->remote, &name.v6.sin6_addr, 16);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
        struct sock_extended_err told;
        if (c->cmsg_level != (v4 ? IPPROTO_IP : IPPROTO_IPV6) ||
            c->cmsg_type != (v4 ? IP_RECVERR : IPV6_RECVERR))
            continue;
        memcpy(&told, CMSG_DATA(c), sizeof told);
        e->kind = told.ee_errno == EMSGSIZE ? UDP_TOO_BIG : UDP_UNREACHABLE;
        e->mtu = told.ee_errno == EMSGSIZE ? told.ee_info : 0;
    }
    return true;
}

size_t udp_errors(struct device *d, struct udp_error *errors, size_t most)
{
    const struct udp_sender *s = &((struct udp *)d)->sender;
    size_t n = 0;
    for (uint32_t k = 0; k < s->count; k++)
        while (n < most && read_error(s, s->sockets[k], &errors[n]))
            n += errors[n].kind != 0;
    return n;
}

/* ---- open and close ------------------------------------------------------------------ */

static void udp_close(struct device *d)
{
    struct udp *u = (struct udp *)d;
    udp_receiver_close(&u->receiver);
    for (uint32_t k = 0; k < u->sender.count; k++)
        close(u->sender.sockets[k]);
    free(u);
}

static const struct device_ops udp_ops = {udp_recv, udp_send, udp_close};

/* The number of the interface that has the address, or 0. */
static uint32_t interface_of(const struct udp_options *o)
{
    struct ifaddrs *all = NULL;
    uint32_t found = 0;
    if (getifaddrs(&all) != 0)
        return 0;
    for (const struct ifaddrs *a = all; a != NULL && found == 0; a = a->ifa_next) {
        union udp_name name;
        if (a->ifa_addr == NULL)
            continue;
        if (o->family == 4 && a->ifa_addr->sa_family == AF_INET) {
            memcpy(&name.v4, a->ifa_addr, sizeof name.v4);
            if (memcmp(&name.v4.sin_addr, o->local, 4) == 0)
                found = if_nametoindex(a->ifa_name);
        } else if (o->family == 6 && a->ifa_addr->sa_family == AF_INET6) {
            memcpy(&name.v6, a->ifa_addr, sizeof name.v6);
            if (memcmp(&name.v6.sin6_addr, o->local, 16) == 0)
                found = if_nametoindex(a->ifa_name);
        }
    }
    freeifaddrs(all);
    return found;
}

int udp_refresh(struct device *d)
{
    const struct udp *u = (const struct udp *)d;
    const struct udp_options *o = &u->receiver.options;
    uint32_t index = o->interface != 0 ? o->interface : interface_of(o), mtu = 1500;
    struct ifreq r = {0};
    memset(d->mac, 0, sizeof d->mac);
    if (index != 0 && if_indextoname(index, r.ifr_name) != NULL) {
        if (ioctl(u->receiver.socket, SIOCGIFMTU, &r) != 0)
            return -1;
        mtu = (uint32_t)r.ifr_mtu;
        if (ioctl(u->receiver.socket, SIOCGIFHWADDR, &r) == 0)
            memcpy(d->mac, r.ifr_hwaddr.sa_data, sizeof d->mac);
    }
    __atomic_store_n(&d->mtu, min32(mtu, 65535), __ATOMIC_RELAXED);
    return 0;
}

struct device *udp_open(const struct udp_options *options)
{
    struct udp *u = calloc(1, sizeof *u);
    struct udp_options o = *options;
    if (u == NULL)
        return NULL;
    u->device.ops = &udp_ops;
    u->device.underlay = u->device.suspect = true;
    if (o.interface == 0)
        o.interface = interface_of(&o);
    if (udp_receiver_open(&u->receiver, &o) == 0 && open_senders(&u->sender, &o) == 0 &&
        udp_refresh(&u->device) == 0) {
        u->device.fd = u->receiver.poll;
        return &u->device;
    }
    const int error = errno;
    udp_close(&u->device);
    errno = error;
    return NULL;
}

int udp_join(struct device *d, const uint8_t group[16], uint32_t interface)
{
    return udp_receiver_join(&((struct udp *)d)->receiver, group, interface, true);
}

int udp_leave(struct device *d, const uint8_t group[16], uint32_t interface)
{
    return udp_receiver_join(&((struct udp *)d)->receiver, group, interface, false);
}

void udp_stamp(struct device *d, int64_t *times, uint64_t room)
{
    struct udp_receiver *r = &((struct udp *)d)->receiver;
    r->times = times;
    r->times_room = times != NULL ? room : 0;
}

static uint64_t drops_of(int fd)
{
    uint32_t numbers[SK_MEMINFO_VARS] = {0};
    socklen_t length = sizeof numbers;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, numbers, &length) != 0)
        return 0;
    return numbers[SK_MEMINFO_DROPS];
}

uint64_t udp_overrun(const struct device *d)
{
    const struct udp_receiver *r = &((const struct udp *)d)->receiver;
    const uint32_t groups = __atomic_load_n(&r->groups, __ATOMIC_ACQUIRE);
    uint64_t drops = drops_of(r->socket);
    for (uint32_t g = 0; g < groups; g++)
        if (r->group_sockets[g] != r->socket)
            drops += drops_of(r->group_sockets[g]);
    return drops;
}

bool udp_sends_trains(const struct device *d)
{
    return ((const struct udp *)d)->sender.trains;
}

bool udp_receives_trains(const struct device *d)
{
    return ((const struct udp *)d)->receiver.trains;
}

size_t udp_ports(const struct device *d, uint16_t ports[UDP_SENDERS_MAX])
{
    const struct udp_sender *s = &((const struct udp *)d)->sender;
    memcpy(ports, s->ports, s->count * sizeof s->ports[0]);
    return s->count;
}
