/* packet_filter.c: which packets of an interface the underlay wants, as a program
 * for the kernel's classic BPF; fragments of such packets are wanted too. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "packet.h"

enum {
    PROGRAM_MAX = 255, /* no jump can be too far */
    ALL = 0x40000,
    STT_DESTINATION = 7471,
    V4 = ETH_HLEN, /* offsets of the IP header's fields */
    V4_PROTOCOL = V4 + 9,
    V4_FRAGMENT = V4 + 6,
    V4_DESTINATION = V4 + 16,
    V6 = ETH_HLEN,
    V6_NEXT = V6 + 6,
    V6_DESTINATION = V6 + 24,
    V6_PAYLOAD = V6 + 40,
};

struct program {
    struct sock_filter code[PROGRAM_MAX];
    uint16_t length;
};

static uint16_t emit(struct program *p, unsigned code, uint32_t k, unsigned yes, unsigned no)
{
    p->code[p->length] = (struct sock_filter){(uint16_t)code, (uint8_t)yes, (uint8_t)no, k};
    return p->length++;
}

static void load(struct program *p, unsigned size, uint32_t at)
{
    emit(p, BPF_LD | BPF_ABS | size, at, 0, 0);
}

static void result(struct program *p, uint32_t bytes)
{
    emit(p, BPF_RET | BPF_K, bytes, 0, 0);
}

static void accept_if(struct program *p, unsigned test, uint32_t k)
{
    emit(p, BPF_JMP | BPF_K | test, k, 0, 1);
    result(p, ALL);
}

static void refuse_if(struct program *p, unsigned test, uint32_t k)
{
    emit(p, BPF_JMP | BPF_K | test, k, 0, 1);
    result(p, 0);
}

/* What follows up to done() is for the case that it is k. */
static uint16_t when(struct program *p, uint32_t k)
{
    return emit(p, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 0);
}

static void done(struct program *p, uint16_t when)
{
    p->code[when].jf = (uint8_t)(p->length - when - 1);
}

/* A jump to where land() is said; up to land() this comes next when it is not k. */
static void leap(struct program *p, uint16_t *leaps, size_t *count, uint32_t k)
{
    leaps[(*count)++] = emit(p, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 0);
}

static void land(struct program *p, const uint16_t *leaps, size_t count)
{
    for (size_t i = 0; i < count; i++)
        p->code[leaps[i]].jt = (uint8_t)(p->length - leaps[i] - 1);
}

/* Refuse what is for none of the local addresses of this family, nor for a group. */
static void to_locals(struct program *p, const struct packet_options *o, int family)
{
    uint16_t leaps[PACKET_LOCALS_MAX + 1];
    size_t count = 0;
    if (o->local_count == 0)
        return;
    if (family == 4) {
        load(p, BPF_B, V4_DESTINATION);
        emit(p, BPF_ALU | BPF_AND | BPF_K, 0xF0, 0, 0);
        leap(p, leaps, &count, 0xE0);
        load(p, BPF_W, V4_DESTINATION);
    } else {
        load(p, BPF_B, V6_DESTINATION);
        leap(p, leaps, &count, 0xFF);
    }
    for (size_t i = 0; i < o->local_count; i++) {
        const struct path_address *local = &o->locals[i];
        if (local->family != family)
            continue;
        if (family == 4) {
            leap(p, leaps, &count, get32(local->bytes));
            continue;
        }
        uint16_t whens[3];
        for (uint32_t word = 0; word < 3; word++) {
            load(p, BPF_W, V6_DESTINATION + 4 * word);
            whens[word] = when(p, get32(local->bytes + 4 * word));
        }
        load(p, BPF_W, V6_DESTINATION + 12);
        leap(p, leaps, &count, get32(local->bytes + 12));
        for (uint32_t word = 0; word < 3; word++)
            done(p, whens[word]);
    }
    result(p, 0);
    land(p, leaps, count);
}

/* The protocol number is loaded: accept by it and by the port at this place, which
 * v4 counts from the end of the IP header; a later fragment has no port to show. */
static void by_protocol(struct program *p, const struct packet_options *o, uint32_t fragment,
                        uint32_t later, uint32_t port_at, bool v4)
{
    const struct {
        uint8_t protocol;
        uint8_t tunnel;
        uint16_t port;
    } kinds[] = {{IPPROTO_TCP, OV_STT, STT_DESTINATION}, {IPPROTO_UDP, OV_VXLAN, o->port}};
    if (o->protocols >> OV_NVGRE & 1)
        accept_if(p, BPF_JEQ, IPPROTO_GRE);
    for (size_t i = 0; i < 2; i++) {
        if (!(o->protocols >> kinds[i].tunnel & 1))
            continue;
        uint16_t is = when(p, kinds[i].protocol);
        if (fragment != 0) {
            load(p, BPF_H, fragment);
            accept_if(p, BPF_JSET, later);
        }
        if (v4)
            emit(p, BPF_LDX | BPF_MSH | BPF_B, V4, 0, 0);
        emit(p, BPF_LD | BPF_H | (v4 ? BPF_IND : BPF_ABS), port_at, 0, 0);
        accept_if(p, BPF_JEQ, kinds[i].port);
        result(p, 0);
        done(p, is);
    }
}

static int attach(int fd, struct program *p)
{
    struct sock_fprog program = {p->length, p->code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

int packet_filter_all(int fd)
{
    struct program p = {.length = 0};
    result(&p, 0);
    return attach(fd, &p);
}

int packet_filter(int fd, const struct packet_options *o)
{
    struct program p = {.length = 0};
    uint16_t is;
    if (o->protocols == 0) {
        result(&p, ALL);
        return attach(fd, &p);
    }
    if (o->local_count > PACKET_LOCALS_MAX) {
        errno = EINVAL;
        return -1;
    }
    /* A tag that the kernel has taken off: a packet of a VLAN interface above. */
    load(&p, BPF_W, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT));
    emit(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    result(&p, 0);
    load(&p, BPF_W, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE));
    refuse_if(&p, BPF_JEQ, PACKET_OTHERHOST);

    load(&p, BPF_H, ETH_HLEN - 2);
    is = when(&p, ETH_P_IP);
    to_locals(&p, o, 4);
    load(&p, BPF_B, V4_PROTOCOL);
    by_protocol(&p, o, V4_FRAGMENT, 0x1FFF, ETH_HLEN + 2, true);
    result(&p, 0);
    done(&p, is);

    is = when(&p, ETH_P_IPV6);
    to_locals(&p, o, 6);
    load(&p, BPF_B, V6_NEXT);
    by_protocol(&p, o, 0, 0, V6_PAYLOAD + 2, false);
    load(&p, BPF_B, V6_NEXT);
    uint16_t fragment = when(&p, IPPROTO_FRAGMENT);
    load(&p, BPF_B, V6_PAYLOAD);
    by_protocol(&p, o, V6_PAYLOAD + 2, 0xFFF8, V6_PAYLOAD + 8 + 2, false);
    done(&p, fragment);
    done(&p, is);
    result(&p, 0);

    return attach(fd, &p);
}
