/* udp_socket.h: what the receiving and the sending half of a UDP device share.
 *
 * Lives here: kernel names that old headers lack, addresses, the two halves' structs.
 */
#ifndef UDP_SOCKET_H
#define UDP_SOCKET_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "offload.h"
#include "outer.h"
#include "udp.h"

/* <linux/udp.h>, which does not go with <netinet/udp.h> */
enum {
    SOCKET_UDP_NO_CHECK6_TX = 101,
    SOCKET_UDP_NO_CHECK6_RX = 102,
    SOCKET_UDP_SEGMENT = 103,
    SOCKET_UDP_GRO = 104,
};

enum {
    UDP_BURST = 64,          /* messages of one system call */
    UDP_PAYLOAD_MAX = 65536, /* a slot for any */
    UDP_PAYLOAD_MAX_V4 = 65507,
    UDP_PAYLOAD_MAX_V6 = 65527,
    UDP_HEADERS = IPV6_LENGTH + UDP_LENGTH,
    UDP_CONTROL = 128,
    UDP_TTL = 64, /* of senders, unless a packet has another */
    UDP_SHIM = 8, /* VXLAN's header, before the inner frame */
};

union udp_name {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

always_inline socklen_t udp_name(union udp_name *n, uint8_t family, const uint8_t *address,
                                 uint16_t port, uint32_t scope)
{
    memset(n, 0, sizeof *n);
    if (family == 4) {
        n->v4.sin_family = AF_INET;
        put16((uint8_t *)&n->v4.sin_port, port);
        memcpy(&n->v4.sin_addr, address, 4);
        return sizeof n->v4;
    }
    n->v6.sin6_family = AF_INET6;
    put16((uint8_t *)&n->v6.sin6_port, port);
    memcpy(&n->v6.sin6_addr, address, 16);
    if (address[0] == 0xFE || address[0] == 0xFF)
        n->v6.sin6_scope_id = scope;
    return sizeof n->v6;
}

always_inline int udp_set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value);
}

/* Space for what the kernel says of a message, or is told. */
union udp_control {
    struct cmsghdr align;
    uint8_t bytes[UDP_CONTROL];
};

/* ---- receiving ------------------------------------------------------------------ */

/* A message, or what is left of it, that found no row. */
struct udp_held {
    uint8_t headers[UDP_HEADERS];
    uint32_t headers_length;
    uint32_t segment;
    int64_t stamp;
    uint32_t at; /* in its slot of store */
    uint32_t end;
};

struct udp_receiver {
    struct udp_options options;
    int poll; /* epoll: readable when one of the sockets is */
    int socket;
    bool any;       /* bound to no address: each message tells its own */
    bool trains;    /* UDP_GRO */
    uint32_t train; /* rows of the longest train that came last */
    int64_t *times; /* of the rows, or NULL */
    uint64_t times_room;
    uint32_t groups;
    int group_sockets[UDP_GROUPS_MAX];
    uint8_t group_addresses[UDP_GROUPS_MAX][16];
    uint32_t held_first, held_end; /* of held */
    struct udp_held held[UDP_BURST];
    uint8_t *store; /* a slot for each held message */
    struct mmsghdr messages[UDP_BURST];
    struct iovec pieces[UDP_BURST];
    union udp_name from[UDP_BURST];
    union udp_control control[UDP_BURST];
};

int udp_receiver_open(struct udp_receiver *r, const struct udp_options *o);
void udp_receiver_close(struct udp_receiver *r);
int64_t udp_receive(struct device *d, struct udp_receiver *r, struct ov_batch *b);
int udp_receiver_join(struct udp_receiver *r, const uint8_t group[16], uint32_t interface,
                      bool join);

/* ---- sending -------------------------------------------------------------------- */

struct udp_sender {
    struct udp_options options;
    bool any;
    bool trains; /* UDP_SEGMENT */
    uint32_t count;
    int sockets[UDP_SENDERS_MAX];
    uint16_t ports[UDP_SENDERS_MAX];
    bool fragment[UDP_SENDERS_MAX]; /* its packets have no DF */
    uint32_t message_count, piece_count;
    struct mmsghdr messages[UDP_BURST];
    union udp_name to[UDP_BURST];
    union udp_control control[UDP_BURST];
    struct iovec pieces[2 * UDP_BURST];
    uint32_t rows[2 * UDP_BURST];                               /* of each piece */
    uint8_t headers[UDP_BURST][UDP_SHIM + OFFLOAD_HEADERS_MAX]; /* of packets that are cut */
};

/* Sender k's packets have a checksum; or as the options say. */
void udp_set_checksum(const struct udp_sender *s, uint32_t k, bool on);
size_t udp_transmit(struct device *d, struct udp_sender *s, struct ov_batch *b,
                    const uint32_t *rows, size_t count);

#endif
