/* udp.h: UDP sockets as an underlay for VXLAN, without root.
 *
 * One socket receives at (local, port); several send, each from a port of its
 * own, and a packet goes by the one that its outer source port chooses.  The
 * kernel writes the outer headers that are sent and keeps those received: rows
 * of recv begin at the UDP payload (link OV_UDP), and outer names an IP and UDP
 * header made of what the kernel tells, its UDP checksum zero: the kernel has
 * verified it.  The datagrams of one train share it, and only the first has
 * headroom; the others lie one after another.
 */
#ifndef UDP_H
#define UDP_H

#include "device.h"

enum { UDP_SENDERS_MAX = 64, UDP_GROUPS_MAX = 256 };

/* Addresses are of the local's family, IPv4 in the first four bytes. */
struct udp_options {
    uint8_t local[16]; /* or zero: any */
    uint8_t family;    /* 4 or 6 */
    bool shared;       /* other queues bind the same port */
    bool checksum;     /* send with one; trains have one always */
    bool timestamps;   /* the kernel says when it received what */
    uint8_t multicast_ttl;
    uint16_t port;
    uint32_t senders;        /* at most UDP_SENDERS_MAX; 0: it only receives */
    uint32_t interface;      /* of multicast and of link-local addresses, or 0 */
    uint32_t receive_buffer; /* bytes asked for */
};

enum udp_error_kind { UDP_TOO_BIG = 1, UDP_UNREACHABLE };

/* What the network said of a packet that was sent. */
struct udp_error {
    uint8_t remote[16];
    uint8_t kind; /* enum udp_error_kind */
    uint8_t zero[3];
    uint32_t mtu; /* UDP_TOO_BIG: IP bytes that pass, or 0: it was not said */
};

/* NULL with errno. */
struct device *udp_open(const struct udp_options *options);

/* Read the MTU and MAC of the local address's interface again.  0, or -1 with errno. */
int udp_refresh(struct device *d);

/* Receive what is sent to the group too, or no more.  0, or -1 with errno.  For
 * any thread but one at a time.  A group's socket is kept until close. */
int udp_join(struct device *d, const uint8_t group[16], uint32_t interface);
int udp_leave(struct device *d, const uint8_t group[16], uint32_t interface);

/* Take up to most errors that have come in; returns how many.  For any thread. */
size_t udp_errors(struct device *d, struct udp_error *errors, size_t most);

/* Where recv writes the time of each row, nanoseconds since 1970, for as many as there is
 * room; NULL: nowhere.  Datagrams of one train have one time; 0 where timestamps are off. */
void udp_stamp(struct device *d, int64_t *times, uint64_t room);

/* Datagrams that found the receive buffer full, or had a wrong checksum.  For any thread. */
uint64_t udp_overrun(const struct device *d);

/* Whether a train of datagrams is sent, and received, by one system call. */
bool udp_sends_trains(const struct device *d);
bool udp_receives_trains(const struct device *d);

/* The source ports that senders have. */
size_t udp_ports(const struct device *d, uint16_t ports[UDP_SENDERS_MAX]);

#endif
