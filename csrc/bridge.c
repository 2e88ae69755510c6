/* bridge.c: see bridge.h.  A frame's way: admit, learn, answer, choose, deliver. */
#include "bridge.h"
#include "icmp.h"
#include "inner.h"
#include "offload.h"
#include "tunnel.h"

enum {
    UNKNOWN = 0xFFFFFFFF,
    VXLAN_BYTES = 8,
    GBP_DONT_LEARN = 0x8040,
    CHUNK = 64, /* rows between two stages: what one asks for, the next finds near */
};

/* ---- counting ------------------------------------------------------------------- */

/* Only this lane writes; others may read. */
always_inline void add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

always_inline struct tally *tally_of(struct lane *lane, uint32_t network)
{
    return &lane->tallies[network + 1]; /* UNKNOWN: the first */
}

static void tell(struct lane *lane, const struct event *event)
{
    struct events *e = &lane->events;
    uint32_t tail = __atomic_load_n(&e->tail, __ATOMIC_ACQUIRE);
    if (e->head - tail > e->mask) {
        add(&e->lost, 1);
        return;
    }
    e->slots[e->head & e->mask] = *event;
    e->slots[e->head & e->mask].time = lane->now;
    __atomic_store_n(&e->head, e->head + 1, __ATOMIC_RELEASE);
}

static void count_drop(struct lane *lane, uint32_t network, uint8_t status)
{
    struct tally *tally = tally_of(lane, network);
    add(&tally->drops[status], 1);
    if (unlikely(tally->drops[status] == 1)) {
        struct event event = {.kind = EVENT_DROP, .network = network, .status = status};
        tell(lane, &event);
    }
}

always_inline void drop(struct lane *lane, struct burst *burst, size_t i, uint8_t status)
{
    burst->b.status[i] = status;
    count_drop(lane, burst->network[i], status);
}

/* ---- handing out ------------------------------------------------------------------ */

always_inline void post(struct burst *burst, uint32_t device, uint32_t row)
{
    struct outbox *out = &burst->out;
    out->next[row] = UNKNOWN;
    if (out->count[device] == 0) {
        out->touched[out->touched_count++] = device;
        out->head[device] = row;
    } else {
        out->next[out->tail[device]] = row;
    }
    out->tail[device] = row;
    out->count[device]++;
}

/* A row of extra for a frame of length bytes; room for it is made by sending. */
static uint32_t extra_row(struct lane *lane, uint32_t length)
{
    struct ov_batch *b = &lane->extra.b;
    if (b->count == b->capacity || b->size - b->used < b->gap + length + 16)
        lane->send(lane, &lane->extra);
    uint32_t row = (uint32_t)b->count++;
    uint64_t offset = b->used + b->gap;
    b->base[row] = b->used;
    b->offset[row] = offset;
    b->used = (offset + length + 15) & ~(uint64_t)15;
    b->length[row] = b->wire[row] = length;
    b->key[row] = b->outer[row] = 0;
    b->origin[row] = 0;
    b->mss[row] = 0;
    b->status[row] = b->protocol[row] = b->link[row] = b->checksum[row] = 0;
    return row;
}

static uint32_t copy_row(struct lane *lane, const struct burst *burst, size_t i)
{
    const struct ov_batch *b = &burst->b;
    struct burst *extra = &lane->extra;
    uint32_t row = extra_row(lane, b->length[i]);
    memcpy(extra->b.data + extra->b.offset[row], b->data + b->offset[i], b->length[i]);
    extra->b.mss[row] = b->mss[i];
    extra->b.checksum[row] = b->checksum[i];
    extra->network[row] = burst->network[i];
    extra->from[row] = burst->from[i];
    return row;
}

/* TCP that crosses the tunnels agrees on an MSS that fits them, where asked to. */
always_inline void clamp(struct lane *lane, struct burst *burst, size_t i)
{
    const struct ov_batch *b = &burst->b;
    uint16_t mss = lane->bridge->networks[burst->network[i]].clamp;
    if (unlikely(mss != 0))
        clamp_mss(b->data + b->offset[i], b->length[i], mss, b->checksum[i] == OV_CSUM_PARTIAL);
}

/* Whether a frame that leaves as it is has a tag by which its device would take
 * it for another port's. */
always_inline bool others_tag(const struct bridge *bridge, const struct port *port,
                              const struct ov_batch *b, size_t i)
{
    const uint32_t *by_vlan = bridge->attachments[port->device].by_vlan;
    const uint8_t *frame = b->data + b->offset[i];
    return unlikely(by_vlan != NULL) && b->length[i] >= 18 && get16(frame + 12) == ETHERTYPE_CTAG &&
           by_vlan[get16(frame + 14) & 0xFFF] != BRIDGE_NOWHERE;
}

static void to_port(struct lane *lane, struct burst *burst, size_t i, uint32_t dest)
{
    const struct port *port = &lane->bridge->ports[dest];
    struct tally *tally = tally_of(lane, burst->network[i]);
    struct ov_batch *b = &burst->b;
    /* Taken away, and the FDB not told yet; or its number is another's by now. */
    if (unlikely(!port->used || port->network != burst->network[i])) {
        drop(lane, burst, i, OV_NO_DESTINATION);
        return;
    }
    if (unlikely(port->vlan < 0 && others_tag(lane->bridge, port, b, i))) {
        drop(lane, burst, i, OV_PORT_VLAN);
        return;
    }
    if (burst->from[i] & BRIDGE_REMOTE)
        clamp(lane, burst, i);
    if (unlikely(port->vlan >= 0)) {
        if (b->offset[i] - b->base[i] < TAG_LENGTH) {
            i = copy_row(lane, burst, i);
            burst = &lane->extra;
            b = &burst->b;
        }
        uint8_t *frame = b->data + b->offset[i];
        memmove(frame - TAG_LENGTH, frame, 12);
        put16(frame + 8, ETHERTYPE_CTAG);
        put16(frame + 10, (uint16_t)port->vlan);
        b->offset[i] -= TAG_LENGTH;
        b->length[i] += TAG_LENGTH;
        b->wire[i] += TAG_LENGTH;
    }
    burst->to[i] = dest;
    post(burst, port->device, (uint32_t)i);
    add(&lane->ports[dest].out_frames, 1);
    add(&lane->ports[dest].out_bytes, b->length[i]);
    add(&tally->ports.out_frames, 1);
    add(&tally->ports.out_bytes, b->length[i]);
}

/* An answer of length bytes that was written to a row of extra goes to a port. */
static void answer(struct lane *lane, uint32_t row, uint32_t network, uint32_t from,
                   uint32_t length)
{
    struct burst *extra = &lane->extra;
    extra->b.length[row] = extra->b.wire[row] = length;
    extra->network[row] = network;
    extra->from[row] = 0;
    add(&tally_of(lane, network)->answers, 1);
    to_port(lane, extra, row, from);
}

/* Give back the row of extra that was taken last. */
static void extra_cancel(struct lane *lane, uint32_t row)
{
    lane->extra.b.count = row;
    lane->extra.b.used = lane->extra.b.base[row];
}

/* The MTU that a frame breaks on its way to a remote, or 0. */
static uint32_t mtu_broken(const struct bridge *bridge, const struct remote *remote,
                           const struct burst *burst, size_t i)
{
    const struct ov_batch *b = &burst->b;
    const uint8_t *frame = b->data + b->offset[i];
    uint32_t l2 = ETHERNET_LENGTH + tag_bytes(frame, b->length[i]), length = b->length[i];
    if (b->mss[i] != 0) { /* each of the packets that it stands for */
        struct inner in = inner_inspect(frame, length, 0);
        uint32_t tcp =
            in.protocol == IP_TCP && in.l4 + 20 <= length ? (frame[in.l4 + 12] >> 4) * 4u : 8u;
        length = in.l4 + tcp + b->mss[i];
    }
    uint32_t mtu = bridge->networks[burst->network[i]].mtu;
    uint32_t most = remote->frame_max > l2 ? remote->frame_max - l2 : 1;
    if (most < mtu)
        mtu = most;
    return likely(length - l2 <= mtu) ? 0 : mtu;
}

static void too_big(struct lane *lane, struct burst *burst, size_t i, uint32_t mtu)
{
    const struct ov_batch *b = &burst->b;
    uint32_t from = burst->from[i], network = burst->network[i];
    if (!(from & BRIDGE_REMOTE) && !lane->told) {
        uint32_t row = extra_row(lane, ICMP_ANSWER_MAX);
        uint8_t *out = lane->extra.b.data + lane->extra.b.offset[row];
        uint32_t length = icmp_too_big(b->data + b->offset[i], b->length[i], mtu, out);
        if (length != 0)
            answer(lane, row, network, from, length);
        else
            extra_cancel(lane, row);
        lane->told = true;
    }
    drop(lane, burst, i, OV_MTU_EXCEEDED);
}

/* Whether a partial checksum may stay so: the device cuts a super-frame, and STT's
 * header says of a frame without tags, or with one for the header, what is missing. */
always_inline bool says_partial(const struct remote *remote, const struct ov_batch *b, size_t i)
{
    const uint8_t *frame = b->data + b->offset[i];
    if (remote->tunnel.config.protocol != OV_STT)
        return b->mss[i] != 0;
    uint32_t tags = tag_bytes(frame, b->length[i]);
    return tags == 0 || (tags == TAG_LENGTH && get16(frame + 12) == ETHERTYPE_CTAG);
}

static void to_remote(struct lane *lane, struct burst *burst, size_t i, uint32_t dest)
{
    const struct bridge *bridge = lane->bridge;
    const struct remote *remote = &bridge->remotes[dest & ~(uint32_t)BRIDGE_REMOTE];
    struct tally *tally = tally_of(lane, burst->network[i]);
    const struct network *network = &bridge->networks[burst->network[i]];
    struct ov_batch *b = &burst->b;
    if (unlikely(!remote->used || remote->network != burst->network[i])) {
        drop(lane, burst, i, OV_NO_DESTINATION);
        return;
    }
    if (unlikely(!remote->resolved)) {
        drop(lane, burst, i, OV_UNRESOLVED);
        return;
    }
    if (unlikely(b->length[i] > network->mtu + ETHERNET_LENGTH ||
                 b->length[i] > remote->frame_max)) {
        uint32_t mtu = mtu_broken(bridge, remote, burst, i);
        if (mtu != 0) {
            too_big(lane, burst, i, mtu);
            return;
        }
    }
    clamp(lane, burst, i);
    if (b->checksum[i] == OV_CSUM_PARTIAL && !says_partial(remote, b, i)) {
        if (b->mss[i] != 0) {
            drop(lane, burst, i, OV_FRAME_TAGGED);
            return;
        }
        offload_complete_any(b->data + b->offset[i], b->length[i]);
        b->checksum[i] = OV_CSUM_UNKNOWN;
    }
    if (unlikely(b->offset[i] - b->base[i] < remote->tunnel.header_length)) {
        i = copy_row(lane, burst, i);
        burst = &lane->extra;
        b = &burst->b;
    }
    uint32_t length = b->length[i];
    int status = tunnel_encap_row(&remote->tunnel, b, i, lane->sequence);
    lane->sequence += b->mss[i] == 0 ? 1 : 1 + length / b->mss[i]; /* as many as it is cut to */
    if (unlikely(status != OV_OK)) {
        drop(lane, burst, i, (uint8_t)status);
        return;
    }
    burst->to[i] = dest;
    post(burst, remote->device, (uint32_t)i);
    struct traffic *traffic = &lane->remotes[dest & ~(uint32_t)BRIDGE_REMOTE];
    add(&traffic->out_frames, 1);
    add(&traffic->out_bytes, length);
    add(&tally->tunnels.out_frames, 1);
    add(&tally->tunnels.out_bytes, length);
}

always_inline void deliver(struct lane *lane, struct burst *burst, size_t i, uint32_t dest)
{
    if (dest & BRIDGE_REMOTE)
        to_remote(lane, burst, i, dest);
    else
        to_port(lane, burst, i, dest);
}

void bridge_sent(struct lane *lane, struct burst *burst, const uint32_t *rows, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        uint32_t i = rows[k];
        if (likely(burst->b.status[i] == OV_OK))
            continue;
        /* It was counted as gone: take that back. */
        struct tally *tally = tally_of(lane, burst->network[i]);
        uint32_t dest = burst->to[i], at = dest & ~(uint32_t)BRIDGE_REMOTE;
        bool tunnel = dest & BRIDGE_REMOTE;
        uint64_t length = burst->b.length[i];
        if (tunnel)
            length -= lane->bridge->remotes[at].tunnel.header_length;
        struct traffic *one = tunnel ? &lane->remotes[at] : &lane->ports[at];
        struct traffic *all = tunnel ? &tally->tunnels : &tally->ports;
        add(&one->out_frames, (uint64_t)-1);
        add(&one->out_bytes, -length);
        add(&all->out_frames, (uint64_t)-1);
        add(&all->out_bytes, -length);
        count_drop(lane, burst->network[i], burst->b.status[i]);
    }
}

/* ---- choosing ------------------------------------------------------------------------ */

/* Split horizon: whether what came from a remote may go on to another. */
always_inline bool may_go(const struct bridge *bridge, uint32_t from, uint32_t dest)
{
    enum { MASK = BRIDGE_REMOTE - 1 };
    if (likely(!(from & dest & BRIDGE_REMOTE)))
        return true;
    return bridge->remotes[dest & MASK].relay ||
           (from != BRIDGE_STRANGER && bridge->remotes[from & MASK].relay);
}

/* To all that may have it; the last takes the row itself, the others copies. */
static void flood(struct lane *lane, struct burst *burst, size_t i)
{
    const struct bridge *bridge = lane->bridge;
    const struct network *network = &bridge->networks[burst->network[i]];
    struct tally *tally = tally_of(lane, burst->network[i]);
    uint32_t from = burst->from[i], last = BRIDGE_NOWHERE;
    for (uint32_t k = 0; k < network->floods; k++) {
        uint32_t dest = network->flood[k];
        if (dest == from || !may_go(bridge, from, dest))
            continue;
        if (last != BRIDGE_NOWHERE) {
            uint32_t row = copy_row(lane, burst, i);
            add(&tally->copies, 1);
            deliver(lane, &lane->extra, row, last);
        }
        last = dest;
    }
    if (last == BRIDGE_NOWHERE)
        drop(lane, burst, i, OV_NO_DESTINATION);
    else
        deliver(lane, burst, i, last);
}

always_inline bool is_group(const uint8_t *mac)
{
    return mac[0] & 1;
}

/* Learn addresses from ARP and ND, and answer for those that are known.
 * Whether the frame was answered, and so goes nowhere. */
static bool suppressed(struct lane *lane, struct burst *burst, size_t i)
{
    const struct ov_batch *b = &burst->b;
    const uint8_t *frame = b->data + b->offset[i];
    uint32_t length = b->length[i], network = burst->network[i], from = burst->from[i];
    uint32_t now = (uint32_t)(lane->now / 1000000000);
    if (!neighbor_concerns(frame, length))
        return false;
    neighbor_learn(lane->bridge->neighbors, network, frame, length, now);
    if (from & BRIDGE_REMOTE || !is_group(frame))
        return false;
    uint32_t row = extra_row(lane, NEIGHBOR_ANSWER_MAX);
    uint8_t *out = lane->extra.b.data + lane->extra.b.offset[row];
    size_t n = neighbor_answer(lane->bridge->neighbors, network, frame, length, now, out);
    if (n == 0) {
        extra_cancel(lane, row);
        return false;
    }
    answer(lane, row, network, from, (uint32_t)n);
    drop(lane, burst, i, OV_SUPPRESSED);
    return true;
}

/* Where the FDB says that a frame goes: a place, or BRIDGE_NOWHERE for everywhere.
 * What encap will read of a remote is asked for. */
always_inline uint32_t choose(const struct lane *lane, const struct burst *burst, size_t i)
{
    const struct bridge *bridge = lane->bridge;
    if (unlikely(is_group(burst->b.data + burst->b.offset[i])))
        return BRIDGE_NOWHERE;
    uint64_t value = fdb_find(bridge->fdb, lane->target[i], lane->target_hash[i]);
    if (unlikely(value == 0))
        return BRIDGE_NOWHERE;
    uint32_t dest = fdb_dest(value);
    if (dest & BRIDGE_REMOTE) {
        const uint8_t *remote = (const uint8_t *)&bridge->remotes[dest & ~(uint32_t)BRIDGE_REMOTE];
        for (size_t at = 0; at < sizeof(struct remote); at += 64)
            __builtin_prefetch(remote + at);
    }
    return dest;
}

static void forward_row(struct lane *lane, struct burst *burst, size_t i)
{
    uint32_t from = burst->from[i], dest = burst->to[i];
    lane->told = false;
    if (unlikely(lane->bridge->networks[burst->network[i]].suppress) && suppressed(lane, burst, i))
        return;
    if (unlikely(dest == BRIDGE_NOWHERE))
        flood(lane, burst, i);
    else if (unlikely(dest == from))
        drop(lane, burst, i, OV_SAME_PORT);
    else if (unlikely(!may_go(lane->bridge, from, dest)))
        drop(lane, burst, i, OV_NO_DESTINATION);
    else
        deliver(lane, burst, i, dest);
}

/* ---- learning -------------------------------------------------------------------------- */

static void learned(struct lane *lane, const struct burst *burst, size_t i, enum fdb_result result,
                    uint32_t previous)
{
    struct event event = {
        .kind = result == FDB_MOVED ? EVENT_MOVED : EVENT_LEARNED,
        .network = burst->network[i],
        .mac = lane->source[i] & 0xFFFFFFFFFFFF,
        .where = burst->from[i],
        .previous = result == FDB_MOVED ? previous : BRIDGE_NOWHERE,
    };
    tell(lane, &event);
}

/* What the source address of a frame says: OV_OK, or why it is dropped. */
always_inline uint8_t learn_row(struct lane *lane, const struct burst *burst, size_t i,
                                uint32_t now)
{
    const struct bridge *bridge = lane->bridge;
    uint32_t network = burst->network[i], from = burst->from[i], previous = 0;
    if (unlikely(from == BRIDGE_STRANGER || burst->quiet[i] || !bridge->networks[network].learn)) {
        uint64_t value = fdb_find(bridge->fdb, lane->source[i], lane->source_hash[i]);
        if (value == 0 || fdb_dest(value) == from || !(value & FDB_FLAGS))
            return OV_OK;
        return value & FDB_OWN ? OV_OWN_MAC : OV_SPOOFED_SOURCE;
    }
    enum fdb_result result =
        fdb_learn(bridge->fdb, lane->source[i], lane->source_hash[i], from, now, &previous);
    if (likely(result == FDB_KNOWN))
        return OV_OK;
    if (result == FDB_SPOOFED)
        return OV_SPOOFED_SOURCE;
    if (result == FDB_OWNED)
        return OV_OWN_MAC;
    if (result == FDB_LEARNED || result == FDB_MOVED)
        learned(lane, burst, i, result, previous);
    return OV_OK;
}

/* Learn from the admitted rows from begin to end, then forward them. */
static void learn_and_forward(struct lane *lane, struct burst *burst, size_t begin, size_t end)
{
    const uint32_t now = (uint32_t)(lane->now / 1000000000);
    for (size_t i = begin; i < end; i++) {
        if (unlikely(burst->b.status[i] != OV_OK))
            continue;
        uint8_t status = learn_row(lane, burst, i, now);
        if (unlikely(status != OV_OK))
            drop(lane, burst, i, status);
    }
    for (size_t i = begin; i < end; i++)
        if (likely(burst->b.status[i] == OV_OK))
            burst->to[i] = choose(lane, burst, i);
    for (size_t i = begin; i < end; i++)
        if (likely(burst->b.status[i] == OV_OK))
            forward_row(lane, burst, i);
}

/* Send what a burst has become. */
static void send_all(struct lane *lane, struct burst *burst)
{
    lane->send(lane, burst);
    if (lane->extra.b.count != 0)
        lane->send(lane, &lane->extra);
}

/* ---- admitting ----------------------------------------------------------------------------- */

/* The addresses of a frame whose network is known; its FDB keys are asked for. */
always_inline uint8_t admit(struct lane *lane, const struct burst *burst, size_t i)
{
    const uint8_t *frame = burst->b.data + burst->b.offset[i];
    uint64_t target = get64(frame) >> 16, source = get64(frame + 6) >> 16;
    if (unlikely(source == 0 || is_group(frame + 6)))
        return OV_SOURCE_MAC;
    if (unlikely((target & 0xFFFFFFFFFFF0) == 0x0180C2000000))
        return OV_RESERVED_MAC;
    lane->source[i] = fdb_key(burst->network[i], frame + 6);
    lane->target[i] = fdb_key(burst->network[i], frame);
    lane->source_hash[i] = fdb_hash(lane->bridge->fdb, lane->source[i]);
    lane->target_hash[i] = fdb_hash(lane->bridge->fdb, lane->target[i]);
    fdb_prefetch(lane->bridge->fdb, lane->source_hash[i]);
    fdb_prefetch(lane->bridge->fdb, lane->target_hash[i]);
    return OV_OK;
}

/* The port of a frame by its tag, which is taken off; BRIDGE_NOWHERE if none. */
always_inline uint32_t port_of(const struct attachment *a, struct ov_batch *b, size_t i)
{
    uint8_t *frame = b->data + b->offset[i];
    if (likely(a->by_vlan == NULL) || get16(frame + 12) != ETHERTYPE_CTAG || b->length[i] < 18)
        return a->untagged;
    uint32_t port = a->by_vlan[get16(frame + 14) & 0xFFF];
    if (port == BRIDGE_NOWHERE)
        return a->untagged;
    memmove(frame + TAG_LENGTH, frame, 12);
    b->offset[i] += TAG_LENGTH;
    b->length[i] -= TAG_LENGTH;
    b->wire[i] -= TAG_LENGTH;
    return port;
}

/* Ask for the bytes of a row that comes soon. */
always_inline void foresee(const struct ov_batch *b, size_t i)
{
    enum { AHEAD = 8 };
    if (likely(i + AHEAD < b->count))
        __builtin_prefetch(b->data + b->offset[i + AHEAD]);
}

/* A row that a device gave: OV_OK, or why it is dropped. */
always_inline uint8_t take_frame(struct lane *lane, const struct attachment *attachment, size_t i)
{
    const struct bridge *bridge = lane->bridge;
    struct burst *burst = &lane->in;
    struct ov_batch *b = &burst->b;
    const uint32_t length = b->length[i];
    uint8_t status = b->status[i];
    uint32_t port = BRIDGE_NOWHERE;
    if (likely(status == OV_OK)) {
        if (unlikely(length < ETHERNET_LENGTH))
            status = OV_FRAME_TOO_SHORT;
        else if (unlikely(b->wire[i] != length))
            status = OV_FRAME_CUT;
        else if (unlikely(length > BRIDGE_FRAME_MAX))
            status = OV_FRAME_TOO_LONG;
        else if ((port = port_of(attachment, b, i)) == BRIDGE_NOWHERE)
            status = OV_PORT_VLAN;
    }
    burst->from[i] = port;
    burst->quiet[i] = 0;
    burst->network[i] = port == BRIDGE_NOWHERE ? UNKNOWN : bridge->ports[port].network;
    struct tally *tally = tally_of(lane, burst->network[i]);
    add(&tally->ports.in_frames, 1);
    add(&tally->ports.in_bytes, length);
    if (unlikely(status != OV_OK))
        return status;
    add(&lane->ports[port].in_frames, 1);
    add(&lane->ports[port].in_bytes, length);
    return admit(lane, burst, i);
}

void bridge_from_device(struct lane *lane, uint32_t device)
{
    const struct attachment *attachment = &lane->bridge->attachments[device];
    struct burst *burst = &lane->in;
    size_t count = burst->b.count;
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = count - begin > CHUNK ? begin + CHUNK : count;
        for (size_t i = begin; i < end; i++) {
            foresee(&burst->b, i);
            uint8_t status = take_frame(lane, attachment, i);
            if (unlikely(status != OV_OK))
                drop(lane, burst, i, status);
        }
        learn_and_forward(lane, burst, begin, end);
    }
    send_all(lane, burst);
}

/* Whose a packet was: the network of the last one, and its remote. */
struct memo {
    struct index_key key, peer;
    uint32_t network, remote;
};

always_inline struct index_key peer_key(uint32_t network, uint8_t protocol, const uint8_t *ip)
{
    return ip[0] >> 4 == 4 ? bridge_peer(network, protocol, 4, ip + 12)
                           : bridge_peer(network, protocol, 6, ip + 8);
}

static void tell_of_remote(struct lane *lane, uint32_t network, uint8_t protocol, const uint8_t *ip)
{
    struct event event = {.kind = EVENT_REMOTE, .network = network, .protocol = protocol};
    event.family = ip[0] >> 4;
    memcpy(event.address, event.family == 4 ? ip + 12 : ip + 8, event.family == 4 ? 4 : 16);
    tell(lane, &event);
}

/* The outer IP header of a packet that has not been decapsulated. */
static const uint8_t *outer_ip(const struct ov_batch *b, size_t i)
{
    const uint8_t *packet = b->data + b->offset[i];
    if (b->link[i] != OV_ETHERNET)
        return packet;
    return packet + ETHERNET_LENGTH + (get16(packet + 12) == ETHERTYPE_CTAG ? TAG_LENGTH : 0);
}

/* A decapsulated frame, whose packet had this IP header: its network and remote. */
always_inline uint8_t identify(struct lane *lane, struct burst *burst, size_t i, const uint8_t *ip,
                               struct memo *memo)
{
    const struct bridge *bridge = lane->bridge;
    const struct ov_batch *b = &burst->b;
    struct index_key key = bridge_key(b->protocol[i], b->key[i]);
    if (unlikely(!index_equal(key, memo->key))) {
        memo->key = key;
        memo->network = index_find(&bridge->keys, key);
        memo->peer.c = ~(uint64_t)0;
    }
    uint32_t network = memo->network;
    burst->network[i] = network;
    burst->from[i] = BRIDGE_NOWHERE;
    struct tally *tally = tally_of(lane, network);
    add(&tally->tunnels.in_frames, 1);
    add(&tally->tunnels.in_bytes, b->length[i]);
    if (unlikely(network == UNKNOWN))
        return OV_UNKNOWN_KEY;
    struct index_key peer = peer_key(network, b->protocol[i], ip);
    if (unlikely(!index_equal(peer, memo->peer))) {
        memo->peer = peer;
        memo->remote = index_find(&bridge->peers, peer);
    }
    uint32_t remote = memo->remote;
    if (likely(remote != INDEX_NONE)) {
        burst->from[i] = BRIDGE_REMOTE | remote;
        add(&lane->remotes[remote].in_frames, 1);
        add(&lane->remotes[remote].in_bytes, b->length[i]);
    } else {
        if (!bridge->networks[network].accept_any)
            return OV_UNKNOWN_REMOTE;
        tell_of_remote(lane, network, b->protocol[i], ip);
        burst->from[i] = BRIDGE_STRANGER;
    }
    if (lane->suspect)
        offload_suspect(b->data + b->offset[i], b->length[i]);
    burst->quiet[i] =
        bridge->networks[network].gbp && b->protocol[i] == OV_VXLAN &&
        b->offset[i] - b->base[i] >= VXLAN_BYTES &&
        (get16(b->data + b->offset[i] - VXLAN_BYTES) & GBP_DONT_LEARN) == GBP_DONT_LEARN;
    return admit(lane, burst, i);
}

/* The frames of a burst that decap gave.  origin is the batch of packets that
 * they were in, or NULL: the burst itself. */
static void from_tunnels(struct lane *lane, struct burst *burst, const struct ov_batch *origin)
{
    struct ov_batch *b = &burst->b;
    struct memo memo = {.key.c = ~(uint64_t)0, .peer.c = ~(uint64_t)0};
    size_t count = b->count;
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = count - begin > CHUNK ? begin + CHUNK : count;
        for (size_t i = begin; i < end; i++) {
            if (unlikely(b->status[i] != OV_OK))
                continue;
            const uint8_t *ip =
                origin == NULL ? b->data + b->outer[i] : outer_ip(origin, b->origin[i]);
            uint8_t status = identify(lane, burst, i, ip, &memo);
            if (unlikely(status != OV_OK))
                drop(lane, burst, i, status);
        }
        learn_and_forward(lane, burst, begin, end);
    }
    send_all(lane, burst);
}

/* A packet that is no frame's: it came in, and went nowhere. */
static void refuse(struct lane *lane, struct burst *burst, size_t i, uint8_t status)
{
    struct traffic *none = &tally_of(lane, UNKNOWN)->tunnels;
    add(&none->in_frames, 1);
    add(&none->in_bytes, burst->b.length[i]);
    burst->network[i] = UNKNOWN;
    drop(lane, burst, i, status);
}

/* STT segments: held until their frames are whole. */
static void reassemble(struct lane *lane, struct burst *burst)
{
    struct ov_batch *b = &burst->b, *whole = &lane->whole.b;
    struct ov_policy policy = lane->bridge->policy;
    uint8_t *status = lane->segments.status;
    lane->segments = *b;
    lane->segments.status = status;
    for (size_t i = 0; i < b->count; i++)
        status[i] = b->status[i] == OV_STT_INCOMPLETE ? OV_OK : OV_BAD_ROW;
    policy.verify = 0; /* decap has */
    for (bool again = true; again;) {
        again = false;
        whole->count = whole->used = 0;
        ov_reassembler_batch(lane->reassembler, &policy, &lane->segments, whole, lane->now);
        for (size_t i = 0; i < b->count; i++) {
            if (status[i] == OV_BAD_ROW || b->status[i] != OV_STT_INCOMPLETE)
                continue;
            bool later = status[i] == OV_NO_ROOM && whole->count != 0;
            if (!later && status[i] != OV_STT_INCOMPLETE && status[i] != OV_OK)
                refuse(lane, burst, i, status[i]);
            status[i] = later ? OV_OK : OV_BAD_ROW;
            again |= later;
        }
        from_tunnels(lane, &lane->whole, b);
    }
}

/* An outer fragment: held, or the packet that it completed joins the others. */
static void join(struct lane *lane, struct burst *burst, size_t i)
{
    const struct ov_batch *b = &burst->b;
    struct ov_batch *joined = &lane->joined.b;
    const uint8_t *whole;
    uint32_t length;
    int status = fragment_push(lane->fragments, b->data + b->offset[i], b->length[i], b->link[i],
                               lane->now, &whole, &length);
    if (status == OV_FRAGMENT_HELD) {
        b->status[i] = OV_FRAGMENT_HELD;
        return;
    }
    if (status == OV_OK && (joined->count == joined->capacity ||
                            joined->size - joined->used < (uint64_t)length + joined->gap))
        status = OV_NO_ROOM;
    if (status != OV_OK) {
        refuse(lane, burst, i, (uint8_t)status);
        return;
    }
    size_t row = joined->count++;
    uint64_t offset = joined->used + joined->gap;
    memcpy(joined->data + offset, whole, length);
    joined->base[row] = joined->used;
    joined->offset[row] = offset;
    joined->used = offset + length;
    joined->length[row] = joined->wire[row] = length;
    joined->key[row] = joined->outer[row] = 0;
    joined->mss[row] = 0;
    joined->status[row] = joined->protocol[row] = joined->checksum[row] = 0;
    joined->link[row] = b->link[i];
}

/* Take packets apart and forward what was in them. */
static void open_packets(struct lane *lane, struct burst *burst)
{
    struct ov_batch *b = &burst->b;
    bool joins = burst == &lane->in && lane->fragments != NULL;
    size_t segments = 0;
    ov_decap_batch(&lane->bridge->policy, b);
    for (size_t i = 0; i < b->count; i++) {
        if (likely(b->status[i] == OV_OK))
            continue;
        if (b->status[i] == OV_STT_INCOMPLETE && lane->reassembler != NULL)
            segments++;
        else if (b->status[i] == OV_IP_FRAGMENT && joins)
            join(lane, burst, i);
        else
            refuse(lane, burst, i, b->status[i]);
    }
    from_tunnels(lane, burst, NULL);
    if (segments != 0)
        reassemble(lane, burst);
}

void bridge_from_underlay(struct lane *lane)
{
    struct ov_batch *joined = &lane->joined.b;
    joined->count = joined->used = 0;
    open_packets(lane, &lane->in);
    if (joined->count != 0)
        open_packets(lane, &lane->joined);
}
