/* loop.h: a worker: receives from its devices, forwards, sends, sleeps when all are idle.
 *
 * A worker runs in one thread without Python.  It holds its gate while it works
 * on a burst, never while it sleeps: who holds the gates of all workers may
 * change everything that they read.
 */
#ifndef LOOP_H
#define LOOP_H

#include <pthread.h>

#include "bridge.h"
#include "device.h"

enum {
    LOOP_ROWS = 1024,
    LOOP_BYTES = 1 << 20,
    LOOP_EVENTS = 64,
    LOOP_RETRY_MS = 100, /* a device that failed is asked again after this */
};

/* A device as one worker sees it. */
struct slot {
    struct device *device; /* or NULL */
    pthread_mutex_t *lock; /* where other workers use it too, or NULL */
    uint64_t retry;        /* ns: failed, and out of the loop until then; or 0 */
    int error;             /* the errno of that */
    bool reads;            /* this worker receives from it */
};

struct worker {
    struct lane lane; /* first: send finds its worker by it */
    struct slot *slots;
    uint32_t slot_count;
    uint32_t blind;  /* devices without a descriptor that this worker reads */
    uint32_t failed; /* devices that wait for their retry */
    uint64_t expiry; /* ns: when the reassembler is looked through next */
    pthread_mutex_t gate;
    const uint32_t *wanted; /* not zero: someone wants all gates */
    int epoll;
    int wake;      /* eventfd: out of the sleep */
    uint32_t stop; /* not zero: end */
    uint32_t *rows;
    uint8_t *arena; /* of lane.in; a device may lend its own */
    /* While packets come fast, a round waits a little, so that the next has many:
     * to be woken for each costs the sender more than the packet. */
    uint64_t window; /* ns: when the rows were counted from */
    uint64_t window_rows;
    uint64_t last_rows; /* of the round before */
    bool hot;
    uint64_t rounds, bursts;
};

/* Make a worker in zeroed memory.  0, or -1 with errno. */
int loop_open(struct worker *w, const struct bridge *bridge, const uint32_t *wanted);
void loop_close(struct worker *w);
/* Give back its descriptors: it works no more, its counters stay. */
void loop_retire(struct worker *w);
/* Tell the kernel about a device in slots[i], under the gate.  0, or -1 with errno. */
int loop_attach(struct worker *w, uint32_t i);
void loop_detach(struct worker *w, uint32_t i);
/* Work once: wait up to timeout ms for something to do (-1: until woken), do it.
 * Returns the rows received. */
uint64_t loop_round(struct worker *w, int timeout);
/* Work until told to stop, and then until nothing waits, within reason. */
void loop_run(struct worker *w);
void loop_stop(struct worker *w);

#endif
