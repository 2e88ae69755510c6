/* udp_receive.c: the receiving half of a UDP device: datagrams, and trains of them, to rows.
 *
 * A message lies in the batch as the outer headers made for it, then the gap,
 * then the payload, which the kernel wrote there.  Slots differ from a multiple
 * of a page, so that the headers of all do not meet in one cache set.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "udp_socket.h"

#ifndef IP_MULTICAST_ALL
#define IP_MULTICAST_ALL 49
#endif
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

enum { GROUPS_A_TURN = 8 };

/* What the kernel tells of a message besides its bytes. */
struct told {
    uint8_t to[16];
    uint8_t tos;
    uint32_t segment; /* bytes of each datagram but the last */
    int64_t stamp;    /* nanoseconds since 1970, or 0 */
};

static void read_control(struct msghdr *m, struct told *t)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        const uint8_t *value = CMSG_DATA(c);
        int number = 0;
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            t->tos = value[0];
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            memcpy(&number, value, sizeof number);
            t->tos = (uint8_t)number;
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == SOCKET_UDP_GRO) {
            memcpy(&number, value, sizeof number);
            t->segment = number > 0 ? (uint32_t)number : 0;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            memcpy(t->to, value + offsetof(struct in_pktinfo, ipi_addr), 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            memcpy(t->to, value + offsetof(struct in6_pktinfo, ipi6_addr), 16);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec when;
            memcpy(&when, value, sizeof when);
            t->stamp = (int64_t)when.tv_sec * 1000000000 + (int64_t)when.tv_nsec;
        }
    }
}

/* Write the IP and UDP headers that such a datagram had; their length. */
static uint32_t write_headers(const struct udp_receiver *r, const union udp_name *from,
                              const struct told *t, uint32_t bytes, uint8_t *out)
{
    const bool v4 = r->options.family == 4;
    const uint32_t l4 = v4 ? 20 : IPV6_LENGTH;
    uint8_t *udp = out + l4;
    memset(out, 0, l4 + UDP_LENGTH);
    if (v4) {
        put16(out, (uint16_t)(0x4500 | t->tos));
        put16(out + 2, (uint16_t)(20 + UDP_LENGTH + bytes));
        out[8] = 64;
        out[9] = IP_UDP;
        memcpy(out + 12, &from->v4.sin_addr, 4);
        memcpy(out + 16, t->to, 4);
        put16(out + 10, (uint16_t)~checksum_ipv4(out));
        memcpy(udp, &from->v4.sin_port, 2);
    } else {
        put32(out, 6u << 28 | (uint32_t)t->tos << 20);
        put16(out + 4, (uint16_t)(UDP_LENGTH + bytes));
        out[6] = IP_UDP;
        out[7] = 64;
        memcpy(out + 8, &from->v6.sin6_addr, 16);
        memcpy(out + 24, t->to, 16);
        memcpy(udp, &from->v6.sin6_port, 2);
    }
    put16(udp + 2, r->options.port);
    put16(udp + 4, (uint16_t)(UDP_LENGTH + bytes));
    return l4 + UDP_LENGTH;
}

/* Rows for the datagrams of bytes at offset, as many as there are rows left, of
 * which there is one.  Returns the bytes that have a row. */
static uint32_t add_rows(struct device *d, const struct udp_receiver *r, struct ov_batch *b,
                         uint64_t outer, uint64_t offset, uint32_t bytes, uint32_t segment,
                         int64_t stamp)
{
    uint32_t at = 0;
    uint64_t before = b->count;
    do {
        uint32_t length = min32(segment, bytes - at);
        size_t i = device_row(b, at == 0 ? outer + UDP_HEADERS : offset + at, offset + at, length);
        b->outer[i] = outer;
        b->link[i] = OV_UDP;
        if (i < r->times_room)
            r->times[i] = stamp;
        at += length;
    } while (at < bytes && b->count < b->capacity);
    device_count(&d->stats.rx_packets, b->count - before);
    device_count(&d->stats.rx_bytes, at);
    return at;
}

/* ---- what found no row ---------------------------------------------------------- */

static void hold(struct udp_receiver *r, const uint8_t *headers, uint32_t headers_length,
                 const uint8_t *payload, uint32_t bytes, const struct told *t)
{
    struct udp_held *h = &r->held[r->held_end];
    uint8_t *slot = r->store + (size_t)r->held_end * UDP_PAYLOAD_MAX;
    memcpy(h->headers, headers, headers_length);
    h->headers_length = headers_length;
    h->segment = t->segment;
    h->stamp = t->stamp;
    h->at = 0;
    h->end = bytes;
    if (slot != payload)
        memcpy(slot, payload, bytes);
    r->held_end++;
}

/* Give what was held.  False: not all of it has found a row. */
static bool give_held(struct device *d, struct udp_receiver *r, struct ov_batch *b)
{
    while (r->held_first < r->held_end) {
        struct udp_held *h = &r->held[r->held_first];
        const uint64_t outer = (b->used + 15) & ~(uint64_t)15, at = outer + UDP_HEADERS + b->gap;
        const uint64_t rows = b->capacity - b->count, room = at <= b->size ? b->size - at : 0;
        const uint32_t left = h->end - h->at;
        uint64_t bytes = left <= room ? left : room / h->segment * h->segment;
        if (rows == 0)
            return false;
        if (at > b->size || (bytes == 0 && left != 0)) {
            if (b->count != 0)
                return false;
            device_count(&d->stats.lost[OV_NO_ROOM], 1); /* no batch like this can take it */
            h->at += min32(h->segment, left);
        } else {
            if (bytes > rows * h->segment)
                bytes = rows * h->segment;
            memcpy(b->data + outer, h->headers, h->headers_length);
            memcpy(b->data + at, r->store + (size_t)r->held_first * UDP_PAYLOAD_MAX + h->at, bytes);
            h->at += add_rows(d, r, b, outer, at, (uint32_t)bytes, h->segment, h->stamp);
            b->used = at + bytes;
        }
        if (h->at == h->end)
            r->held_first++;
    }
    r->held_first = r->held_end = 0;
    return true;
}

/* ---- recv ------------------------------------------------------------------------- */

/* Messages to ask for, given the batch; where their slots begin and how far apart. */
static uint32_t slots(const struct udp_receiver *r, const struct ov_batch *b, uint64_t *start,
                      uint64_t *stride)
{
    const uint64_t rows = b->capacity - b->count;
    uint64_t most = rows / r->train + (rows != 0 && rows < r->train);
    *start = (b->used + 63) & ~(uint64_t)63;
    *stride = (UDP_HEADERS + b->gap + UDP_PAYLOAD_MAX + 127) & ~(uint64_t)63;
    uint64_t fit = *start < b->size ? (b->size - *start) / *stride : 0;
    most = most < fit ? most : fit;
    return (uint32_t)(most < UDP_BURST ? most : UDP_BURST);
}

/* Receive from one socket, all of whose messages went to this address unless they
 * say another.  1: there may be more and room for it, 0: not so, or -errno. */
static int receive(struct device *d, struct udp_receiver *r, struct ov_batch *b, int fd,
                   const uint8_t *to)
{
    uint64_t start, stride;
    uint32_t ask = slots(r, b, &start, &stride), train = 1;
    const bool direct = ask != 0;
    if (!direct && b->count != 0)
        return 0;
    ask = direct ? ask : 1; /* a batch smaller than a slot is served from the store */
    for (uint32_t k = 0; k < ask; k++) {
        r->pieces[k].iov_base =
            direct ? b->data + start + k * stride + UDP_HEADERS + b->gap : r->store;
        r->pieces[k].iov_len = UDP_PAYLOAD_MAX;
        r->messages[k].msg_hdr = (struct msghdr){.msg_name = &r->from[k],
                                                 .msg_namelen = sizeof r->from[k],
                                                 .msg_iov = &r->pieces[k],
                                                 .msg_iovlen = 1,
                                                 .msg_control = &r->control[k],
                                                 .msg_controllen = sizeof r->control[k]};
    }
    int n = recvmmsg(fd, r->messages, ask, MSG_DONTWAIT, NULL);
    if (n < 0)
        return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -errno;
    for (uint32_t k = 0; k < (uint32_t)n; k++) {
        struct msghdr *m = &r->messages[k].msg_hdr;
        uint32_t bytes = r->messages[k].msg_len, taken = 0;
        uint8_t spare[UDP_HEADERS];
        struct told t = {.segment = 0};
        uint64_t outer = start + k * stride, at = outer + UDP_HEADERS + b->gap;
        uint8_t *headers = direct ? b->data + outer : spare;
        memcpy(t.to, to, sizeof t.to);
        read_control(m, &t);
        if (unlikely((m->msg_flags & MSG_TRUNC) != 0 || bytes > UDP_PAYLOAD_MAX)) {
            device_count(&d->stats.lost[OV_FRAME_CUT], 1);
            continue;
        }
        if (t.segment == 0 || t.segment > bytes)
            t.segment = bytes != 0 ? bytes : 1;
        uint32_t length = write_headers(r, &r->from[k], &t, min32(t.segment, bytes), headers);
        uint64_t before = b->count;
        bool whole = false;
        if (direct && b->count < b->capacity) {
            taken = add_rows(d, r, b, outer, at, bytes, t.segment, t.stamp);
            whole = taken == bytes;
            b->used = at + bytes;
        }
        if (!whole)
            hold(r, headers, length, (const uint8_t *)r->pieces[k].iov_base + taken, bytes - taken,
                 &t);
        if (b->count - before > train)
            train = (uint32_t)(b->count - before);
    }
    r->train = n > 0 ? train : r->train;
    bool empty = give_held(d, r, b);
    return (uint32_t)n == ask && empty && b->count < b->capacity;
}

int64_t udp_receive(struct device *d, struct udp_receiver *r, struct ov_batch *b)
{
    int more;
    device_clear(b);
    if (!give_held(d, r, b))
        return (int64_t)b->count;
    do {
        more = receive(d, r, b, r->socket, r->options.local);
    } while (more > 0);
    const uint32_t groups = __atomic_load_n(&r->groups, __ATOMIC_ACQUIRE);
    if (groups != 0 && r->held_end == 0) {
        struct epoll_event events[GROUPS_A_TURN];
        int n = epoll_wait(r->poll, events, GROUPS_A_TURN, 0);
        for (int i = 0; i < n && r->held_end == 0; i++)
            if (events[i].data.u32 < groups)
                (void)receive(d, r, b, r->group_sockets[events[i].data.u32],
                              r->group_addresses[events[i].data.u32]);
    }
    return more < 0 && b->count == 0 ? more : (int64_t)b->count;
}

/* ---- open, join, close --------------------------------------------------------------- */

/* A bound socket, watched under this number. */
static int open_socket(struct udp_receiver *r, const uint8_t *address, bool group, uint32_t number)
{
    const struct udp_options *o = &r->options;
    const bool v4 = o->family == 4;
    const int level = v4 ? IPPROTO_IP : IPPROTO_IPV6, size = (int)o->receive_buffer;
    union udp_name name;
    socklen_t length = udp_name(&name, o->family, address, o->port, o->interface);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    int fd = socket(name.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (udp_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, size) != 0)
        (void)udp_set(fd, SOL_SOCKET, SO_RCVBUF, size);
    r->trains = udp_set(fd, IPPROTO_UDP, SOCKET_UDP_GRO, 1) == 0;
    (void)udp_set(fd, level, v4 ? IP_MULTICAST_ALL : IPV6_MULTICAST_ALL, 0);
    if ((!v4 && udp_set(fd, level, IPV6_V6ONLY, 1) != 0) ||
        udp_set(fd, level, v4 ? IP_RECVTOS : IPV6_RECVTCLASS, 1) != 0 ||
        (r->any && udp_set(fd, level, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1) != 0) ||
        (!v4 && !o->checksum && udp_set(fd, IPPROTO_UDP, SOCKET_UDP_NO_CHECK6_RX, 1) != 0) ||
        (o->timestamps && udp_set(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1) != 0) ||
        (group && udp_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0) ||
        (!group && o->shared && udp_set(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0) ||
        bind(fd, &name.any, length) != 0 || epoll_ctl(r->poll, EPOLL_CTL_ADD, fd, &event) != 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int udp_receiver_open(struct udp_receiver *r, const struct udp_options *o)
{
    static const uint8_t zero[16];
    r->options = *o;
    r->any = memcmp(o->local, zero, sizeof zero) == 0;
    r->train = 1;
    r->socket = -1;
    r->store = malloc((size_t)UDP_BURST * UDP_PAYLOAD_MAX);
    r->poll = epoll_create1(EPOLL_CLOEXEC);
    if (r->store == NULL || r->poll < 0)
        return -1;
    r->socket = open_socket(r, o->local, false, UINT32_MAX);
    return r->socket < 0 ? -1 : 0;
}

void udp_receiver_close(struct udp_receiver *r)
{
    for (uint32_t g = 0; g < r->groups; g++)
        if (r->group_sockets[g] != r->socket)
            close(r->group_sockets[g]);
    if (r->socket >= 0)
        close(r->socket);
    if (r->poll >= 0)
        close(r->poll);
    free(r->store);
}

static int membership(const struct udp_receiver *r, int fd, const uint8_t *group,
                      uint32_t interface, bool join)
{
    if (r->options.family == 4) {
        struct ip_mreqn m = {.imr_ifindex = (int)interface};
        memcpy(&m.imr_multiaddr, group, 4);
        memcpy(&m.imr_address, r->options.local, 4);
        return setsockopt(fd, IPPROTO_IP, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &m,
                          sizeof m);
    }
    struct ipv6_mreq m = {.ipv6mr_interface = interface};
    memcpy(&m.ipv6mr_multiaddr, group, 16);
    return setsockopt(fd, IPPROTO_IPV6, join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &m, sizeof m);
}

int udp_receiver_join(struct udp_receiver *r, const uint8_t group[16], uint32_t interface,
                      bool join)
{
    uint32_t g = 0;
    if (interface == 0)
        interface = r->options.interface;
    while (g < r->groups && memcmp(r->group_addresses[g], group, 16) != 0)
        g++;
    if (g == r->groups) {
        errno = join ? ENOSPC : EADDRNOTAVAIL;
        if (!join || g == UDP_GROUPS_MAX)
            return -1;
        int fd = r->any ? r->socket : open_socket(r, group, true, g);
        if (fd < 0)
            return -1;
        memcpy(r->group_addresses[g], group, 16);
        r->group_sockets[g] = fd;
        __atomic_store_n(&r->groups, g + 1, __ATOMIC_RELEASE);
    }
    return membership(r, r->group_sockets[g], group, interface, join);
}
