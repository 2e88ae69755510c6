/* packet.h: AF_PACKET as a device: a port (every frame of an interface) or the
 * underlay (only the tunnels' packets of it).
 *
 * Lives here: what the files packet*.c share.  Must not: what a tunnel header says.
 */
#ifndef PACKET_H
#define PACKET_H

#include "device.h"
#include "path.h"

struct packet_options {
    const char *interface;
    uint32_t protocols; /* bits 1 << enum ov_protocol of the underlay; 0: a port */
    uint16_t port;      /* VXLAN's, of UDP */
    const struct path_address *locals;
    size_t local_count; /* underlay: only packets to these and to groups; 0: all that are ours */
    size_t ring;        /* bytes of a ring of the kernel's, or 0: batches of single packets */
    int fanout; /* how queues share what arrives, PACKET_FANOUT_*; -1: this is the only one */
    int group;  /* the queues that share; -1: a new group */
    bool promiscuous;
    bool bypass; /* no queueing discipline on the way out */
};

enum { PACKET_LOCALS_MAX = 8 };

/* A queue of an interface, or NULL with errno set: EPROTONOSUPPORT where it is not Ethernet. */
struct device *packet_open(const struct packet_options *options);

/* The fanout group that the queue is in, or -1. */
int packet_group(const struct device *d);

/* Read the interface's MTU and address again.  0, or -1 with errno set. */
int packet_refresh(struct device *d);

/* Packets to this remote have at most mtu bytes; from any thread. */
void packet_path_mtu(struct device *d, const struct path_address *remote, uint32_t mtu);

/* ---- what the files share ------------------------------------------------------ */

enum {
    PACKET_HEADROOM = 160, /* before each received frame, tags put back included */
    PACKET_SLOT = (DEVICE_FRAME_MAX + PACKET_HEADROOM + 127) / 64 * 64,
    PACKET_BURST = 64, /* packets in one system call */
};

struct packet_receiver; /* packet_receive.c */
struct packet_sender;   /* packet_send.c */

struct packet {
    struct device device;
    struct packet_receiver *receiver;
    struct packet_sender *sender;
    int socket;
    int interface;
    int group; /* of fanout, or -1 */
    uint32_t protocols;
    struct paths paths;
};

/* Let only the packets of the options' tunnels through; all of them, for a port.
 * 0, or -1 with errno set. */
int packet_filter(int fd, const struct packet_options *o);
/* Let nothing through. */
int packet_filter_all(int fd);

struct packet_receiver *packet_receiver_open(int fd, size_t ring);
void packet_receiver_close(struct packet_receiver *r);
/* Readable when there is something to recv; fd is the socket. */
int packet_receiver_fd(const struct packet_receiver *r, int fd);
int64_t packet_recv(struct device *d, struct ov_batch *b);

struct packet_sender *packet_sender_open(void);
void packet_sender_close(struct packet_sender *s);
size_t packet_send(struct device *d, struct ov_batch *b, const uint32_t *rows, size_t count);

#endif
