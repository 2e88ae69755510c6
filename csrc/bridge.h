/* bridge.h: a learning switch per network, between ports and tunnels: learn, then forward.
 *
 * Lives here: what becomes of a frame.  Must not: system calls, allocation,
 * the bytes of any tunnel header.
 *
 * The bridge is read by every lane (a worker has one) and changed only while
 * none runs; the FDB and the neighbours have locks of their own.  Guarantees:
 * a frame leaves only to ports and remotes of the network that it came in by;
 * what came from a remote goes to another remote only where one of them is a
 * relay; every frame is handed out, or has a status that is counted.
 */
#ifndef BRIDGE_H
#define BRIDGE_H

#include "fdb.h"
#include "fragment.h"
#include "index.h"
#include "neighbor.h"
#include "overlay.h"

enum {
    BRIDGE_REMOTE = 1 << 23,     /* a destination is a port, or with this a remote */
    BRIDGE_NOWHERE = 0xFFFFFF,   /* no destination */
    BRIDGE_STRANGER = 0xFFFFFE,  /* came from a remote that is not listed */
    BRIDGE_NETWORKS_MAX = 65534, /* 0 stands for "no network" in counters */
    BRIDGE_VLANS = 4096,
    BRIDGE_FRAME_MAX = 65535 + 22, /* the largest IP packet behind Ethernet and two tags */
    BRIDGE_HEADROOM = 128,
};

/* ---- what there is -------------------------------------------------------------- */

struct network {
    const uint32_t *flood; /* destinations of group and unknown frames: ports, then remotes */
    uint32_t ports;        /* how many of them are ports */
    uint32_t floods;       /* how many there are */
    uint32_t mtu;          /* IP bytes of a frame that goes into a tunnel */
    uint16_t clamp;        /* the MSS that TCP over IPv4 may agree on, 0: any */
    bool used;
    bool learn;
    bool suppress;   /* ARP and ND */
    bool accept_any; /* packets of remotes that are not listed */
    bool gbp;        /* VXLAN group policy: "don't learn" is heard */
};

struct port {
    uint32_t network;
    uint32_t device;
    int32_t vlan; /* VID that its frames carry on the device, or -1 */
    bool used;
};

struct remote {
    struct ov_tunnel tunnel;
    uint32_t network;
    uint32_t device;    /* of the underlay */
    uint32_t frame_max; /* bytes of a frame that one packet carries; STT: that one STT frame does */
    bool used;
    bool relay;
    bool resolved; /* false: no route, or the next hop does not answer */
};

/* A device of ports: which port a tag leads to. */
struct attachment {
    uint32_t untagged;       /* port of what no other port takes, or BRIDGE_NOWHERE */
    const uint32_t *by_vlan; /* BRIDGE_VLANS ports, or NULL */
};

struct bridge {
    struct fdb *fdb;
    struct neighbors *neighbors;
    struct network *networks;
    struct port *ports;
    struct remote *remotes;
    struct attachment *attachments; /* by device */
    struct index keys;              /* (key, protocol) -> network */
    struct index peers;             /* (address, network and protocol) -> remote */
    struct ov_policy policy;
};

always_inline struct index_key bridge_key(uint8_t protocol, uint64_t key)
{
    return (struct index_key){.a = key, .c = protocol};
}

/* An IPv4 address stands in the first four of the sixteen bytes, and family is 4. */
always_inline struct index_key bridge_peer(uint32_t network, uint8_t protocol, uint8_t family,
                                           const uint8_t *address)
{
    struct index_key key = {.c = (uint64_t)network << 16 | (uint64_t)family << 8 | protocol};
    if (family == 4) {
        key.a = get32(address);
    } else {
        key.a = get64(address);
        key.b = get64(address + 8);
    }
    return key;
}

/* ---- what was done --------------------------------------------------------------- */

struct traffic {
    uint64_t in_frames, in_bytes, out_frames, out_bytes;
};

/* Of one network in one lane. */
struct tally {
    struct traffic ports, tunnels;
    uint64_t copies;  /* frames that flooding made */
    uint64_t answers; /* ARP, ND and ICMP frames made here */
    uint64_t drops[OV_STATUS_COUNT];
};

enum event_kind { EVENT_LEARNED, EVENT_MOVED, EVENT_AGED, EVENT_DROP, EVENT_REMOTE };

struct event {
    uint64_t time; /* ns */
    uint64_t mac;
    uint8_t address[16]; /* EVENT_REMOTE: who sent */
    uint32_t network;
    uint32_t where;
    uint32_t previous;
    uint8_t kind;
    uint8_t status;
    uint8_t family;
    uint8_t protocol;
};

/* Events on their way to one reader; those that find no room are counted. */
struct events {
    struct event *slots;
    uint32_t mask;
    uint32_t head, tail; /* written by the lane, by the reader */
    uint64_t lost;
};

/* ---- a lane: what one worker needs ------------------------------------------------- */

/* Rows by the device that they go to: a list for each. */
struct outbox {
    uint32_t *head, *tail, *count; /* by device */
    uint32_t *next;                /* by row */
    uint32_t *touched;             /* devices with rows */
    uint32_t touched_count;
};

/* A batch and what the bridge knows of its rows. */
struct burst {
    struct ov_batch b;
    uint32_t *network; /* by row; that of the frame */
    uint32_t *from;    /* where it came from */
    uint32_t *to;      /* where it goes */
    uint8_t *quiet;    /* its sender asked not to be learned */
    struct outbox out;
};

struct lane {
    const struct bridge *bridge;
    struct burst in;                    /* what a device gave */
    struct burst joined;                /* packets put together from fragments */
    struct burst whole;                 /* frames put together from segments */
    struct burst extra;                 /* copies and answers */
    struct ov_reassembler *reassembler; /* or NULL, before STT is in use */
    struct fragments *fragments;        /* or NULL: fragments are dropped */
    struct ov_batch segments;  /* a view of in for the reassembler: its own status column */
    uint64_t *source, *target; /* FDB keys by row, and their hashes */
    uint64_t *source_hash, *target_hash;
    struct traffic *ports, *remotes;
    struct tally *tallies; /* by network + 1; 0: of none */
    struct events events;
    uint64_t now; /* ns */
    uint64_t sequence;
    bool suspect; /* the underlay cannot say which inner checksums are partial */
    bool told;    /* the sender of the frame in hand heard that it is too big: once is enough */
    /* Sends a burst's rows by their outbox and empties it; a row that was not
     * sent has a status then. */
    void (*send)(struct lane *lane, struct burst *burst);
};

/* Forward frames in lane->in that came from a device of ports, and send them. */
void bridge_from_device(struct lane *lane, uint32_t device);
/* Decapsulate packets in lane->in that came from the underlay, forward the
 * frames and send them. */
void bridge_from_underlay(struct lane *lane);
/* Count what a device did with the rows of one list: called by send. */
void bridge_sent(struct lane *lane, struct burst *burst, const uint32_t *rows, size_t count);

#endif
