/* xdp_program.c: which frames the socket gets, as a program for the kernel's eBPF,
 * and its way there.  It goes when its link is closed, by whoever or whatever. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/version.h>

#include "xdp.h"

#if LINUX_VERSION_CODE >= 0x050900 /* the first with links for XDP */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    PROGRAM_MAX = 384,
    LABELS_MAX = 64,
    STT_DESTINATION = 7471,
    GRE_ETHERNET = 0x6558,
};

/* Registers: r0..r5 are anyone's, of the rest only these are used. */
enum { CONTEXT = BPF_REG_6, PROTOCOL = BPF_REG_7, AT = BPF_REG_2, END = BPF_REG_3, V = BPF_REG_5 };

/* Places that are jumped to; more are made by label(). */
enum { PASS, TAKE, V4, V6, L3, L4, OURS, LABELS };

struct program {
    struct bpf_insn code[PROGRAM_MAX];
    uint8_t target[PROGRAM_MAX]; /* of a jump, a label + 1 */
    uint16_t label[LABELS_MAX];
    uint16_t length;
    uint8_t labels;
};

static void emit(struct program *p, unsigned code, unsigned to, unsigned from, size_t offset,
                 int32_t k)
{
    struct bpf_insn *i = &p->code[p->length++];
    i->code = (uint8_t)code;
    i->dst_reg = to & 15u;
    i->src_reg = from & 15u;
    i->off = (int16_t)offset;
    i->imm = k;
}

static void land(struct program *p, unsigned label)
{
    p->label[label] = p->length;
}

static unsigned label(struct program *p)
{
    return p->labels++;
}

static void move(struct program *p, unsigned to, unsigned from)
{
    emit(p, BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}

static void alu(struct program *p, unsigned operation, unsigned to, int32_t k)
{
    emit(p, BPF_ALU64 | operation | BPF_K, to, 0, 0, k);
}

static void load(struct program *p, unsigned size, unsigned to, size_t offset)
{
    emit(p, BPF_LDX | BPF_MEM | size, to, AT, offset, 0);
}

static void jump(struct program *p, unsigned label)
{
    p->target[p->length] = (uint8_t)(label + 1);
    emit(p, BPF_JMP | BPF_JA, 0, 0, 0, 0);
}

/* To label when the test of the register's lower half and k holds. */
static void jump_if(struct program *p, unsigned test, unsigned reg, uint32_t k, unsigned label)
{
    int32_t value;
    memcpy(&value, &k, sizeof value);
    p->target[p->length] = (uint8_t)(label + 1);
    emit(p, BPF_JMP32 | test | BPF_K, reg, 0, 0, value);
}

/* Pass a frame that has not this many bytes from AT on. */
static void need(struct program *p, int32_t bytes)
{
    move(p, BPF_REG_4, AT);
    alu(p, BPF_ADD, BPF_REG_4, bytes);
    p->target[p->length] = PASS + 1;
    emit(p, BPF_JMP | BPF_JGT | BPF_X, BPF_REG_4, END, 0, 0);
}

/* What a load gives where these bytes stand. */
static uint32_t word(const uint8_t *bytes)
{
    uint32_t v;
    memcpy(&v, bytes, sizeof v);
    return v;
}

static uint32_t half(uint16_t number)
{
    uint8_t bytes[2];
    uint16_t v;
    put16(bytes, number);
    memcpy(&v, bytes, sizeof v);
    return v;
}

/* ---- the underlay's ---------------------------------------------------------------- */

/* Pass what is for neither this MAC address nor a group. */
static void to_mac(struct program *p, const uint8_t mac[6])
{
    uint16_t rest;
    memcpy(&rest, mac + 4, sizeof rest);
    load(p, BPF_B, V, 0);
    alu(p, BPF_AND, V, 1);
    jump_if(p, BPF_JNE, V, 0, OURS);
    load(p, BPF_W, V, 0);
    jump_if(p, BPF_JNE, V, word(mac), PASS);
    load(p, BPF_H, V, 4);
    jump_if(p, BPF_JNE, V, rest, PASS);
    land(p, OURS);
}

/* Pass what is for none of the local addresses of this family, nor for a group; the
 * destination is this far from AT. */
static void to_locals(struct program *p, const struct xdp_request *q, int family, size_t at)
{
    const unsigned found = label(p);
    if (q->local_count == 0)
        return;
    load(p, BPF_B, V, at);
    if (family == 4) {
        alu(p, BPF_AND, V, 0xF0);
        jump_if(p, BPF_JEQ, V, 0xE0, found);
    } else {
        jump_if(p, BPF_JEQ, V, 0xFF, found);
    }
    for (size_t i = 0; i < q->local_count; i++) {
        const struct path_address *local = &q->locals[i];
        const unsigned next = label(p);
        if (local->family != family)
            continue;
        for (size_t k = 0; k < (family == 4 ? 4 : 16); k += 4) {
            load(p, BPF_W, V, at + k);
            jump_if(p, BPF_JNE, V, word(local->bytes + k), next);
        }
        jump(p, found);
        land(p, next);
    }
    jump(p, PASS);
    land(p, found);
}

/* Take what has this protocol and this number where a port stands. */
static void take_if(struct program *p, uint32_t protocol, uint16_t number)
{
    const unsigned next = label(p);
    jump_if(p, BPF_JNE, PROTOCOL, protocol, next);
    jump_if(p, BPF_JEQ, V, half(number), TAKE);
    land(p, next);
}

/* AT and END are set.  Ethernet, maybe a tag, IP, then what shows the tunnel; a fragment
 * shows too little to be told from the host's own. */
static void choose(struct program *p, const struct xdp_request *q, const uint8_t mac[6])
{
    const unsigned tagged = label(p);
    need(p, ETH_HLEN);
    to_mac(p, mac);
    load(p, BPF_H, V, 12);
    jump_if(p, BPF_JEQ, V, half(ETH_P_8021Q), tagged);
    jump_if(p, BPF_JNE, V, half(ETH_P_8021AD), L3);
    land(p, tagged);
    alu(p, BPF_ADD, AT, 4);
    need(p, ETH_HLEN);
    load(p, BPF_H, V, 12);

    land(p, L3);
    jump_if(p, BPF_JEQ, V, half(ETH_P_IP), V4);
    jump_if(p, BPF_JEQ, V, half(ETH_P_IPV6), V6);
    jump(p, PASS);

    land(p, V4);
    need(p, ETH_HLEN + 20);
    load(p, BPF_H, V, ETH_HLEN + 6);
    jump_if(p, BPF_JSET, V, half(0x3FFF), PASS);
    to_locals(p, q, 4, ETH_HLEN + 16);
    load(p, BPF_B, PROTOCOL, ETH_HLEN + 9);
    load(p, BPF_B, V, ETH_HLEN);
    alu(p, BPF_AND, V, 15);
    alu(p, BPF_LSH, V, 2);
    jump_if(p, BPF_JLT, V, 20, PASS);
    alu(p, BPF_ADD, AT, ETH_HLEN);
    emit(p, BPF_ALU64 | BPF_ADD | BPF_X, AT, V, 0, 0);
    jump(p, L4);

    land(p, V6);
    need(p, ETH_HLEN + 40);
    to_locals(p, q, 6, ETH_HLEN + 24);
    load(p, BPF_B, PROTOCOL, ETH_HLEN + 6);
    alu(p, BPF_ADD, AT, ETH_HLEN + 40);

    land(p, L4);
    need(p, 4);
    load(p, BPF_H, V, 2);
    if (q->protocols >> OV_VXLAN & 1)
        take_if(p, IPPROTO_UDP, q->port);
    if (q->protocols >> OV_NVGRE & 1)
        take_if(p, IPPROTO_GRE, GRE_ETHERNET);
    if (q->protocols >> OV_STT & 1)
        take_if(p, IPPROTO_TCP, STT_DESTINATION);
    jump(p, PASS);
}

static void build(struct program *p, const struct xdp_request *q, const uint8_t mac[6], int map)
{
    memset(p, 0, sizeof *p);
    p->labels = LABELS;
    move(p, CONTEXT, BPF_REG_1);
    if (q->protocols != 0) {
        emit(p, BPF_LDX | BPF_MEM | BPF_W, AT, CONTEXT, offsetof(struct xdp_md, data), 0);
        emit(p, BPF_LDX | BPF_MEM | BPF_W, END, CONTEXT, offsetof(struct xdp_md, data_end), 0);
        choose(p, q, mac);
    }
    land(p, TAKE);
    emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, CONTEXT, offsetof(struct xdp_md, rx_queue_index),
         0);
    emit(p, BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map);
    emit(p, 0, 0, 0, 0, 0);
    alu(p, BPF_MOV, BPF_REG_3, q->protocols != 0 && q->guard ? XDP_DROP : XDP_PASS);
    emit(p, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    if (q->protocols != 0) { /* the kernel takes no program with a part that is never reached */
        land(p, PASS);
        alu(p, BPF_MOV, BPF_REG_0, XDP_PASS);
        emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    }
    for (uint16_t i = 0; i < p->length; i++)
        if (p->target[i] != 0)
            p->code[i].off = (int16_t)(p->label[p->target[i] - 1] - i - 1);
}

/* ---- to the kernel -------------------------------------------------------------------- */

static int bpf(int command, union bpf_attr *a)
{
    return (int)syscall(SYS_bpf, command, a, sizeof *a);
}

static uint64_t pointer(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

/* Sockets by receive queue. */
static int map_create(uint32_t queue, int socket)
{
    union bpf_attr a;
    memset(&a, 0, sizeof a);
    a.map_type = BPF_MAP_TYPE_XSKMAP;
    a.key_size = a.value_size = 4;
    a.max_entries = queue + 1;
    int map = bpf(BPF_MAP_CREATE, &a);
    if (map < 0)
        return -1;
    memset(&a, 0, sizeof a);
    a.map_fd = (uint32_t)map;
    a.key = pointer(&queue);
    a.value = pointer(&socket);
    if (bpf(BPF_MAP_UPDATE_ELEM, &a) == 0)
        return map;
    const int error = errno;
    close(map);
    errno = error;
    return -1;
}

static int program_load(const struct xdp_request *q, const uint8_t mac[6], int map)
{
    struct program p;
    union bpf_attr a;
    build(&p, q, mac, map);
    memset(&a, 0, sizeof a);
    a.prog_type = BPF_PROG_TYPE_XDP;
    a.expected_attach_type = BPF_XDP;
    a.insns = pointer(p.code);
    a.insn_cnt = p.length;
    a.license = pointer("Apache-2.0");
    memcpy(a.prog_name, "overlay", sizeof "overlay");
    return bpf(BPF_PROG_LOAD, &a);
}

static int link_create(int program, int interface, uint32_t mode)
{
    union bpf_attr a;
    memset(&a, 0, sizeof a);
    a.link_create.prog_fd = (uint32_t)program;
    a.link_create.target_ifindex = (uint32_t)interface;
    a.link_create.attach_type = BPF_XDP;
    a.link_create.flags = mode;
    return bpf(BPF_LINK_CREATE, &a);
}

int xdp_attach(const struct xdp_request *q, int interface, const uint8_t mac[6], int socket,
               bool *native, enum xdp_step *step)
{
    int link = -1, program = -1, error;
    *step = XDP_AT_PROGRAM;
    const int map = map_create(q->queue, socket);
    if (map >= 0)
        program = program_load(q, mac, map);
    if (program >= 0) {
        *step = XDP_AT_ATTACH;
        link = link_create(program, interface, XDP_FLAGS_DRV_MODE);
        *native = link >= 0;
        if (link < 0 && errno != EBUSY && errno != EEXIST && errno != EPERM)
            link = link_create(program, interface, XDP_FLAGS_SKB_MODE);
    }
    error = errno;
    if (program >= 0)
        close(program);
    if (map >= 0)
        close(map);
    errno = error;
    return link;
}

#else

int xdp_attach(const struct xdp_request *request, int interface, const uint8_t mac[6], int socket,
               bool *native, enum xdp_step *step)
{
    (void)request, (void)interface, (void)mac, (void)socket, (void)native;
    *step = XDP_AT_BUILD;
    errno = ENOTSUP;
    return -1;
}

#endif
