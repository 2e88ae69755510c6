/* icmp.c: see icmp.h. */
#include "icmp.h"

enum {
    IP_ICMP = 1,
    IP_ICMPV6 = 58,
    ICMP_LENGTH = 8,
    ICMP_TTL = 64,
    IPV4_MOST = 576,  /* of the whole answer: RFC 1812, 4.3.2.3 */
    IPV6_MOST = 1280, /* RFC 4443, 2.4(c) */
    IPV4_LEAST = 68,
    IPV4_DF = 0x4000,
    IPV4_OFFSET = 0x1FFF,
    EXTENSIONS_MAX = 8,
    REDIRECT6 = 137,
    TCP_SYN = 0x02,
    OPTION_END = 0,
    OPTION_NOP = 1,
    OPTION_MSS = 2,
};

static uint32_t min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- who may be told ----------------------------------------------------------- */

/* Whether an address is one host's: no group, not nobody's, no loopback. */
static bool is_host4(const uint8_t *address)
{
    return address[0] != 0 && address[0] != 127 && address[0] < 224;
}

static bool is_host6(const uint8_t *address)
{
    static const uint8_t zero[15];
    return address[0] != 0xFF && (memcmp(address, zero, 15) != 0 || address[15] > 1);
}

static bool is_error4(uint8_t type)
{
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

/* The bytes of a packet that may be answered, 0 for one that may not; left are here. */
static uint32_t answerable4(const uint8_t *ip, uint32_t left)
{
    if (left < 20 || ip[0] >> 4 != 4)
        return 0;
    uint32_t header = (ip[0] & 15u) * 4, total = get16(ip + 2), flags = get16(ip + 6);
    if (header < 20 || total < header || total > left)
        return 0;
    if ((flags & IPV4_DF) == 0 || (flags & IPV4_OFFSET) != 0)
        return 0;
    if (ip[9] == IP_ICMP && (total == header || is_error4(ip[header])))
        return 0;
    return is_host4(ip + 12) && is_host4(ip + 16) ? total : 0;
}

static uint32_t answerable6(const uint8_t *ip, uint32_t left)
{
    if (left < 40 || ip[0] >> 4 != 6)
        return 0;
    uint32_t total = 40u + get16(ip + 4), at = 40;
    if (total > left || !is_host6(ip + 8) || !is_host6(ip + 24))
        return 0;
    uint8_t next = ip[6];
    for (int n = 0; next == 0 || next == 43 || next == 44 || next == 60; n++) {
        if (n == EXTENSIONS_MAX || total - at < 8)
            return 0;
        if (next == 44 && (get16(ip + at + 2) & 0xFFF8) != 0)
            return 0;
        uint32_t bytes = next == 44 ? 8 : (ip[at + 1] + 1u) * 8;
        if (bytes > total - at)
            return 0;
        next = ip[at];
        at += bytes;
    }
    if (next == IP_ICMPV6 && (total == at || ip[at] < 128 || ip[at] == REDIRECT6))
        return 0;
    return total;
}

/* ---- the answer ------------------------------------------------------------------ */

static uint32_t answer4(const uint8_t *ip, uint32_t total, uint32_t mtu, uint8_t *out)
{
    uint32_t quoted = min(total, IPV4_MOST - 20 - ICMP_LENGTH), bytes = ICMP_LENGTH + quoted;
    uint8_t *icmp = out + 20;
    memset(out, 0, 20 + ICMP_LENGTH);
    out[0] = 0x45;
    put16(out + 2, (uint16_t)(20 + bytes));
    put16(out + 6, IPV4_DF);
    out[8] = ICMP_TTL;
    out[9] = IP_ICMP;
    memcpy(out + 12, ip + 16, 4);
    memcpy(out + 16, ip + 12, 4);
    put16(out + 10, (uint16_t)~checksum_sum(out, 20));
    icmp[0] = 3; /* destination unreachable: */
    icmp[1] = 4; /* fragmentation needed and DF set */
    put16(icmp + 6, (uint16_t)mtu);
    memcpy(icmp + ICMP_LENGTH, ip, quoted);
    put16(icmp + 2, (uint16_t)~checksum_sum(icmp, bytes));
    return 20 + bytes;
}

static uint32_t answer6(const uint8_t *ip, uint32_t total, uint32_t mtu, uint8_t *out)
{
    uint32_t quoted = min(total, IPV6_MOST - 40 - ICMP_LENGTH), bytes = ICMP_LENGTH + quoted;
    uint8_t *icmp = out + 40;
    memset(out, 0, 40 + ICMP_LENGTH);
    out[0] = 0x60;
    put16(out + 4, (uint16_t)bytes);
    out[6] = IP_ICMPV6;
    out[7] = ICMP_TTL;
    memcpy(out + 8, ip + 24, 16);
    memcpy(out + 24, ip + 8, 16);
    icmp[0] = 2; /* packet too big */
    put32(icmp + 4, mtu);
    memcpy(icmp + ICMP_LENGTH, ip, quoted);
    uint32_t sum = checksum_sum(out + 8, 32) + IP_ICMPV6 + bytes + checksum_sum(icmp, bytes);
    put16(icmp + 2, (uint16_t)~checksum_fold32(sum));
    return 40 + bytes;
}

uint32_t icmp_too_big(const uint8_t *frame, uint32_t length, uint32_t mtu, uint8_t *out)
{
    if (length < ETHERNET_LENGTH || ((frame[0] | frame[6]) & 1) != 0)
        return 0;
    uint32_t l3 = ETHERNET_LENGTH + tag_bytes(frame, length), total = 0;
    const uint8_t *ip = frame + l3;
    bool v6 = get16(ip - 2) == ETHERTYPE_IPV6;
    if (v6 && mtu >= IPV6_MOST)
        total = answerable6(ip, length - l3);
    else if (get16(ip - 2) == ETHERTYPE_IPV4 && mtu >= IPV4_LEAST && mtu <= 0xFFFF)
        total = answerable4(ip, length - l3);
    if (total == 0)
        return 0;
    memcpy(out, frame + 6, 6);
    memcpy(out + 6, frame, 6);
    memcpy(out + 12, frame + 12, l3 - 12);
    return l3 + (v6 ? answer6(ip, total, mtu, out + l3) : answer4(ip, total, mtu, out + l3));
}

/* ---- MSS --------------------------------------------------------------------------- */

/* Write a 16-bit number at any offset of a TCP header; its checksum follows if it is whole. */
static void rewrite(uint8_t *tcp, uint32_t at, uint16_t value, bool whole)
{
    uint8_t *first = tcp + (at & ~1u), *second = first + 2;
    uint16_t old_first = get16(first), old_second = at & 1 ? get16(second) : 0;
    put16(tcp + at, value);
    if (!whole)
        return;
    uint16_t checksum = checksum_update(get16(tcp + 16), old_first, get16(first));
    if (at & 1)
        checksum = checksum_update(checksum, old_second, get16(second));
    put16(tcp + 16, checksum);
}

bool clamp_mss(uint8_t *frame, uint32_t length, uint16_t mss, bool partial)
{
    struct offload o;
    if (length < ETHERNET_LENGTH)
        return false;
    struct inner in = inner_inspect(frame, length, 0);
    if (!offload_find(frame, length, &in, &o) || !o.tcp)
        return false;
    uint8_t *tcp = frame + o.l4;
    uint32_t header = (tcp[12] >> 4) * 4u;
    if ((tcp[13] & TCP_SYN) == 0 || header > o.end - o.l4)
        return false;
    uint16_t most = o.version == 4 ? mss : mss > 20 ? (uint16_t)(mss - 20) : 0;
    bool lowered = false;
    for (uint32_t at = 20; at < header && tcp[at] != OPTION_END;) {
        if (tcp[at] == OPTION_NOP) {
            at++;
            continue;
        }
        uint32_t bytes = header - at >= 2 ? tcp[at + 1] : 0;
        if (bytes < 2 || bytes > header - at)
            break;
        if (tcp[at] == OPTION_MSS && bytes == 4 && get16(tcp + at + 2) > most) {
            rewrite(tcp, at + 2, most, !partial);
            lowered = true;
        }
        at += bytes;
    }
    return lowered;
}
