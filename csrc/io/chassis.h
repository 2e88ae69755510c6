/* chassis.h: a bridge, its workers, and the gate between them and whoever changes things.
 *
 * Lives here: memory for all that there is, and the one way to change it.  Every
 * function but the counters' readers and chassis_hold is called while held.
 */
#ifndef CHASSIS_H
#define CHASSIS_H

#include "loop.h"

enum { CHASSIS_WORKERS_MAX = 64, CHASSIS_REMOTES_MAX = 1 << 20, CHASSIS_PORTS_MAX = 1 << 18 };

struct chassis {
    struct bridge bridge;
    struct worker *workers;
    uint32_t worker_count;
    uint32_t wanted; /* who wants the gates */
    /* How many there is memory for. */
    uint32_t networks, ports, remotes, devices;
};

/* A chassis with memory for networks; the tables stay the caller's.  NULL with errno. */
struct chassis *chassis_open(struct fdb *fdb, struct neighbors *neighbors, uint32_t networks,
                             uint32_t workers, uint64_t seed);
void chassis_close(struct chassis *c);

/* Wait until no worker works, and keep it so. */
void chassis_hold(struct chassis *c);
void chassis_release(struct chassis *c);

/* Make room for this many.  0, or -1 with errno: then nothing has changed. */
int chassis_reserve(struct chassis *c, uint32_t ports, uint32_t remotes, uint32_t devices);
/* Replace what group and unknown frames of a network go to. */
int chassis_flood(struct chassis *c, uint32_t network, const uint32_t *dests, uint32_t count,
                  uint32_t ports);
int chassis_key(struct chassis *c, uint8_t protocol, uint64_t key, uint32_t network);
int chassis_peer(struct chassis *c, struct index_key key, uint32_t remote);
/* Which port of a device a VLAN leads to; vlan -1: what no other port takes. */
int chassis_vlan(struct chassis *c, uint32_t device, int32_t vlan, uint32_t port);
/* Put a queue of a device into a worker's slot; reads: that worker receives from it. */
int chassis_plug(struct chassis *c, uint32_t worker, uint32_t device, struct device *queue,
                 pthread_mutex_t *lock, bool reads);
void chassis_unplug(struct chassis *c, uint32_t device);
/* A queue is about to be closed: no worker uses it any more, and what is sent
 * to its device gets OV_DEVICE_DOWN. */
void chassis_evict(struct chassis *c, const struct device *queue);
/* Give every worker a reassembler of this many bytes; once. */
int chassis_reassemble(struct chassis *c, uint64_t memory, uint64_t timeout, uint64_t seed);

/* The same for outer fragments. */
int chassis_join(struct chassis *c, uint64_t memory, uint64_t timeout, uint64_t seed);

/* Counters, summed over the workers; index networks' 0 is what has no network. */
void chassis_tally(const struct chassis *c, uint32_t slot, struct tally *sum);
void chassis_port_traffic(const struct chassis *c, uint32_t port, struct traffic *sum);
void chassis_remote_traffic(const struct chassis *c, uint32_t remote, struct traffic *sum);
/* Forget them, for a slot that is used anew. */
void chassis_clear_network(struct chassis *c, uint32_t network);
void chassis_clear_port(struct chassis *c, uint32_t port);
void chassis_clear_remote(struct chassis *c, uint32_t remote);
/* Take one event; false when there is none. */
bool chassis_event(struct chassis *c, struct event *event);
uint64_t chassis_events_lost(const struct chassis *c);

#endif
