/* udp_send.c: the sending half of a UDP device: outer packets to datagrams and trains.
 *
 * Rows that follow each other on one socket, to one place, and of one size make
 * one train: the kernel routes it once and cuts it late.  A super-packet is cut
 * here, headers apart from the payload, which is not copied.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "kernel.h"
#include "udp_socket.h"

enum {
    CHUNK = 256,    /* rows that are sorted by their sockets at once */
    TRAIN_MAX = 64, /* datagrams that every kernel takes */
};

/* An outer packet, as far as the kernel is told of it. */
struct datagram {
    const uint8_t *ip;
    const uint8_t *payload;
    uint32_t length; /* of the payload */
    uint32_t row;
    uint16_t to_port;
    uint8_t tos;
    uint8_t ttl; /* 0: the socket's */
    uint8_t sender;
    bool fragment;
    bool last; /* of its sender's rows in this chunk */
    uint16_t next;
};

static uint8_t look(const struct udp_sender *s, const struct ov_batch *b, uint32_t i,
                    struct datagram *g)
{
    const uint8_t *packet = b->data + b->offset[i], *udp;
    uint32_t length = b->length[i], l3 = 0, headers;
    if (s->count == 0)
        return OV_DEVICE_REFUSED;
    if (!kernel_row_good(b, b->base[i], b->offset[i], length, b->wire[i]))
        return OV_BAD_ROW;
    if (b->link[i] == OV_ETHERNET)
        l3 = length >= ETHERNET_LENGTH && get16(packet + 12) == ETHERTYPE_CTAG ? 18 : 14;
    else if (b->link[i] != OV_RAW_IP)
        return OV_LINK_TYPE;
    const uint8_t *ip = packet + l3;
    *g = (struct datagram){.ip = ip, .row = i};
    if (s->options.family == 4) {
        if (length < l3 + 20 || ip[0] < 0x45 || ip[0] > 0x4F || ip[9] != IP_UDP ||
            test16(ip + 6, 0x3FFF))
            return OV_DEVICE_REFUSED;
        headers = l3 + (ip[0] & 15u) * 4;
        g->tos = ip[1];
        g->ttl = ip[8];
        g->fragment = !test16(ip + 6, 0x4000);
        if (ip[16] >> 4 == 14)
            g->ttl = 0;
    } else {
        if (length < l3 + IPV6_LENGTH || ip[0] >> 4 != 6 || ip[6] != IP_UDP)
            return OV_DEVICE_REFUSED;
        headers = l3 + IPV6_LENGTH;
        g->tos = (uint8_t)(get16(ip) >> 4);
        g->ttl = ip[24] == 0xFF ? 0 : ip[7];
    }
    headers += UDP_LENGTH;
    if (length < headers)
        return OV_DEVICE_REFUSED;
    udp = packet + headers - UDP_LENGTH;
    g->payload = packet + headers;
    g->length = length - headers;
    g->to_port = get16(udp + 2);
    g->sender = (uint8_t)(get16(udp) % s->options.senders);
    if (g->ttl == UDP_TTL)
        g->ttl = 0;
    return OV_OK;
}

/* ---- one message ------------------------------------------------------------------- */

static void add_control(struct msghdr *m, union udp_control *control, int level, int type,
                        const void *value, size_t length)
{
    uint8_t *at = control->bytes + m->msg_controllen;
    struct cmsghdr c = {.cmsg_len = CMSG_LEN(length), .cmsg_level = level, .cmsg_type = type};
    memset(at, 0, CMSG_SPACE(length));
    memcpy(at, &c, sizeof c);
    memcpy(at + CMSG_LEN(0), value, length);
    m->msg_control = control->bytes;
    m->msg_controllen += CMSG_SPACE(length);
}

/* Message n, to where the datagram goes, its bytes still to be given. */
static struct msghdr *address(struct udp_sender *s, uint32_t n, const struct datagram *g)
{
    const struct udp_options *o = &s->options;
    const bool v4 = o->family == 4;
    struct msghdr *m = &s->messages[n].msg_hdr;
    socklen_t length =
        udp_name(&s->to[n], o->family, g->ip + (v4 ? 16 : 24), g->to_port, o->interface);
    *m = (struct msghdr){.msg_name = &s->to[n], .msg_namelen = length};
    if (unlikely(g->tos != 0)) {
        const int tos = g->tos;
        add_control(m, &s->control[n], v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS,
                    &tos, sizeof tos);
    }
    if (unlikely(g->ttl != 0)) {
        const int ttl = g->ttl;
        add_control(m, &s->control[n], v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_HOPLIMIT,
                    &ttl, sizeof ttl);
    }
    if (s->any && v4) {
        struct in_pktinfo from = {0};
        memcpy(&from.ipi_spec_dst, g->ip + 12, 4);
        add_control(m, &s->control[n], IPPROTO_IP, IP_PKTINFO, &from, sizeof from);
    } else if (s->any) {
        struct in6_pktinfo from = {.ipi6_ifindex = 0};
        memcpy(&from.ipi6_addr, g->ip + 8, 16);
        add_control(m, &s->control[n], IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof from);
    }
    return m;
}

static void make_train(struct udp_sender *s, uint32_t n, uint32_t segment)
{
    const uint16_t size = (uint16_t)segment;
    add_control(&s->messages[n].msg_hdr, &s->control[n], IPPROTO_UDP, SOCKET_UDP_SEGMENT, &size,
                sizeof size);
}

/* It is the last that was added. */
static void unmake_train(struct msghdr *m)
{
    m->msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
    if (m->msg_controllen == 0)
        m->msg_control = NULL;
}

static uint8_t verdict(int error)
{
    switch (error) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return OV_DEVICE_FULL;
    case EMSGSIZE:
        return OV_MTU_EXCEEDED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ECONNREFUSED:
    case EHOSTDOWN:
    case ENONET:
        return OV_UNRESOLVED;
    case ENETDOWN:
        return OV_DEVICE_DOWN;
    default:
        return OV_DEVICE_REFUSED;
    }
}

/* Send messages from first on; how many went, or 0: the first one did not, *status
 * says why.  An error may be news of an earlier packet: it is asked twice. */
static uint32_t send_messages(int fd, struct mmsghdr *first, uint32_t count, uint8_t *status)
{
    for (int attempt = 0;; attempt++) {
        int n = sendmmsg(fd, first, count, MSG_DONTWAIT);
        if (likely(n > 0))
            return (uint32_t)n;
        if (errno == EINTR)
            continue;
        *status = verdict(errno);
        if (attempt >= 1 || *status == OV_DEVICE_FULL)
            return 0;
    }
}

static void lose_pieces(struct device *d, const struct udp_sender *s, struct ov_batch *b,
                        const struct msghdr *m, uint8_t status)
{
    for (const struct iovec *p = m->msg_iov; p < m->msg_iov + m->msg_iovlen; p++)
        device_lose(d, b, s->rows[p - s->pieces], status);
}

/* Send a train datagram by datagram: the kernel, or the path, does not take it whole. */
static size_t send_apart(struct device *d, struct udp_sender *s, struct ov_batch *b, int fd,
                         const struct msghdr *train)
{
    struct mmsghdr one = {.msg_hdr = *train};
    size_t sent = 0;
    unmake_train(&one.msg_hdr);
    for (size_t p = 0; p < train->msg_iovlen; p++) {
        uint8_t status = OV_OK;
        one.msg_hdr.msg_iov = train->msg_iov + p;
        one.msg_hdr.msg_iovlen = 1;
        if (send_messages(fd, &one, 1, &status) == 1)
            sent++;
        else
            lose_pieces(d, s, b, &one.msg_hdr, status);
    }
    return sent;
}

/* Send what has been gathered; the rows that went. */
static size_t flush(struct device *d, struct udp_sender *s, struct ov_batch *b, uint32_t k)
{
    size_t sent = 0;
    uint32_t i = 0;
    while (i < s->message_count) {
        uint8_t status = OV_OK;
        uint32_t n = send_messages(s->sockets[k], s->messages + i, s->message_count - i, &status);
        for (uint32_t j = i; j < i + n; j++)
            sent += s->messages[j].msg_hdr.msg_iovlen;
        i += n;
        if (likely(n != 0))
            continue;
        const struct msghdr *m = &s->messages[i].msg_hdr;
        if (m->msg_iovlen > 1 && status != OV_DEVICE_FULL)
            sent += send_apart(d, s, b, s->sockets[k], m);
        else
            lose_pieces(d, s, b, m, status);
        for (i++; status == OV_DEVICE_FULL && i < s->message_count; i++)
            lose_pieces(d, s, b, &s->messages[i].msg_hdr, status);
    }
    s->message_count = s->piece_count = 0;
    return sent;
}

/* ---- gathering ----------------------------------------------------------------------- */

static uint32_t payload_max(const struct udp_sender *s)
{
    return s->options.family == 4 ? UDP_PAYLOAD_MAX_V4 : UDP_PAYLOAD_MAX_V6;
}

/* A message that more datagrams may join. */
struct train {
    const struct datagram *first;
    uint32_t count;
    uint32_t bytes;
    uint32_t last; /* bytes of the last one */
};

static bool joins(const struct udp_sender *s, const struct train *t, const struct datagram *g)
{
    const struct datagram *f = t->first;
    const bool v4 = s->options.family == 4;
    return t->count != 0 && t->count < TRAIN_MAX && t->last == f->length && g->length != 0 &&
           g->length <= f->length && t->bytes + g->length <= payload_max(s) &&
           g->to_port == f->to_port && g->tos == f->tos && g->ttl == f->ttl &&
           (v4 ? memcmp(g->ip + 16, f->ip + 16, 4) : memcmp(g->ip + 24, f->ip + 24, 16)) == 0 &&
           (!s->any ||
            (v4 ? memcmp(g->ip + 12, f->ip + 12, 4) : memcmp(g->ip + 8, f->ip + 8, 16)) == 0);
}

static void gather(struct udp_sender *s, struct train *t, const struct datagram *g)
{
    struct iovec *piece = &s->pieces[s->piece_count];
    *piece = (struct iovec){(void *)(uintptr_t)g->payload, g->length};
    s->rows[s->piece_count++] = g->row;
    if (s->trains && s->options.checksum && joins(s, t, g)) {
        const uint32_t n = s->message_count - 1;
        if (t->count == 1)
            make_train(s, n, t->first->length);
        s->messages[n].msg_hdr.msg_iovlen++;
    } else {
        struct msghdr *m = address(s, s->message_count++, g);
        m->msg_iov = piece;
        m->msg_iovlen = 1;
        *t = (struct train){.first = g};
    }
    t->count++;
    t->bytes += g->length;
    t->last = g->length;
}

void udp_set_checksum(const struct udp_sender *s, uint32_t k, bool on)
{
    const bool v4 = s->options.family == 4;
    if (!s->options.checksum)
        (void)udp_set(s->sockets[k], v4 ? SOL_SOCKET : IPPROTO_UDP,
                      v4 ? SO_NO_CHECK : SOCKET_UDP_NO_CHECK6_TX, !on);
}

/* Send packets first..first+count of a super-packet as one train, or apart. */
static uint8_t send_cut(struct udp_sender *s, uint32_t k, const struct datagram *g,
                        const struct cut *c, uint32_t first, uint32_t count)
{
    const uint8_t *frame = g->payload + UDP_SHIM;
    const uint32_t headers = UDP_SHIM + c->headers;
    struct msghdr *m = address(s, 0, g);
    uint8_t status = OV_OK;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at, bytes;
        memcpy(s->headers[i], g->payload, UDP_SHIM);
        bytes = offload_cut(frame, c, first + i, s->headers[i] + UDP_SHIM, &at);
        s->pieces[2 * i] = (struct iovec){s->headers[i], headers};
        s->pieces[2 * i + 1] = (struct iovec){(void *)(uintptr_t)(frame + at), bytes};
    }
    m->msg_iov = s->pieces;
    m->msg_iovlen = 2 * count;
    if (count > 1 && s->trains) {
        make_train(s, 0, headers + c->mss);
        udp_set_checksum(s, k, true);
        uint32_t n = send_messages(s->sockets[k], s->messages, 1, &status);
        udp_set_checksum(s, k, false);
        if (n == 1 || status == OV_DEVICE_FULL)
            return n == 1 ? OV_OK : status;
        unmake_train(m);
    }
    m->msg_iovlen = 2;
    for (uint32_t i = 0; i < count; i++, m->msg_iov += 2)
        if (send_messages(s->sockets[k], s->messages, 1, &status) == 0)
            return status;
    return OV_OK;
}

static uint8_t send_super(struct udp_sender *s, uint32_t k, const struct datagram *g, uint16_t mss)
{
    struct cut c;
    if (g->length < UDP_SHIM || !offload_plan(g->payload + UDP_SHIM, g->length - UDP_SHIM, mss, &c))
        return OV_DEVICE_REFUSED;
    uint32_t most = payload_max(s) / (UDP_SHIM + c.headers + (c.count > 1 ? c.mss : 0));
    most = min32(most < 1 ? 1 : most, TRAIN_MAX);
    uint8_t status = OV_OK;
    for (uint32_t i = 0; i < c.count && status == OV_OK; i += most)
        status = send_cut(s, k, g, &c, i, min32(most, c.count - i));
    return status;
}

/* A socket's packets have DF or have it not.  With DF the kernel keeps the path's
 * MTU, from what ICMP told and no one else could tell so well, and refuses at once
 * what does not pass; without, it cuts what is too long for the interface. */
static void set_fragment(struct udp_sender *s, uint32_t k, bool fragment)
{
    if (s->options.family == 4 && s->fragment[k] != fragment &&
        udp_set(s->sockets[k], IPPROTO_IP, IP_MTU_DISCOVER,
                fragment ? IP_PMTUDISC_DONT : IP_PMTUDISC_DO) == 0)
        s->fragment[k] = fragment;
}

/* Send the datagrams of one socket, from at on; the rows that went. */
static size_t send_by(struct device *d, struct udp_sender *s, struct ov_batch *b,
                      const struct datagram *all, uint32_t at)
{
    const uint32_t k = all[at].sender;
    size_t sent = 0;
    struct train t = {0};
    for (;; at = all[at].next) {
        const struct datagram *g = &all[at];
        const bool cut = b->mss[g->row] != 0 || b->checksum[g->row] == OV_CSUM_PARTIAL;
        if (s->piece_count == 2 * UDP_BURST || s->message_count == UDP_BURST || cut ||
            s->fragment[k] != g->fragment) {
            sent += flush(d, s, b, k);
            t.count = 0;
            set_fragment(s, k, g->fragment);
        }
        if (cut) {
            uint8_t status = send_super(s, k, g, b->mss[g->row]);
            if (status == OV_OK)
                sent++;
            else
                device_lose(d, b, g->row, status);
        } else {
            gather(s, &t, g);
        }
        if (g->last)
            return sent + flush(d, s, b, k);
    }
}

size_t udp_transmit(struct device *d, struct udp_sender *s, struct ov_batch *b,
                    const uint32_t *rows, size_t count)
{
    size_t sent = 0;
    uint64_t bytes = 0;
    for (size_t done = 0; done < count;) {
        struct datagram all[CHUNK];
        uint16_t first[UDP_SENDERS_MAX], last[UDP_SENDERS_MAX];
        uint64_t used = 0; /* bit k: sender k has rows */
        uint16_t n = 0;
        for (; done < count && n < CHUNK; done++) {
            const uint32_t i = rows[done];
            struct datagram *g = &all[n];
            if (b->status[i] != OV_OK)
                continue;
            uint8_t status = look(s, b, i, g);
            if (unlikely(status != OV_OK)) {
                device_lose(d, b, i, status);
                continue;
            }
            g->last = true;
            if ((used >> g->sender & 1) != 0) {
                all[last[g->sender]].next = n;
                all[last[g->sender]].last = false;
            } else {
                first[g->sender] = n;
                used |= (uint64_t)1 << g->sender;
            }
            last[g->sender] = n++;
        }
        for (; used != 0; used &= used - 1)
            sent += send_by(d, s, b, all, first[__builtin_ctzll(used)]);
        for (uint16_t i = 0; i < n; i++)
            bytes += b->status[all[i].row] == OV_OK ? b->length[all[i].row] : 0;
    }
    device_count(&d->stats.tx_packets, sent);
    device_count(&d->stats.tx_bytes, bytes);
    return sent;
}
