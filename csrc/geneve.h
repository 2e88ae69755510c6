/* geneve.h: GENEVE (RFC 8926).
 *
 * Chapters, the same in every protocol: constants, header, check, emit, verbs.
 */
#ifndef GENEVE_H
#define GENEVE_H

#include "udp_header.h"

/* ---- constants ------------------------------------------------------------ */

enum {
    GENEVE_LENGTH = 8,            /* without options */
    GENEVE_VERSION_MASK = 0xC0,   /* byte 0 */
    GENEVE_OPTIONS_MASK = 0x3F,   /* byte 0: their length in words */
    GENEVE_O = 0x80,              /* byte 1: for the control plane */
    GENEVE_C = 0x40,              /* byte 1: a critical option is here */
    GENEVE_TEB = 0x6558,          /* the payload is Ethernet */
    GENEVE_OPTION_LENGTH = 4,     /* of an option's header */
    GENEVE_OPTION_WORDS = 0x1F,   /* its byte 3: the length of its data in words */
    GENEVE_OPTION_CRITICAL = 0x80 /* its byte 2 */
};

/* ---- header ---------------------------------------------------------------- */

/*  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |Ver|  Opt Len  |O|C|    Rsvd.  |          Protocol Type        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |        Virtual Network Identifier (VNI)       |    Reserved   |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * ~                    Variable-Length Options                    ~
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
struct geneve {
    uint8_t options;
    uint8_t flags;
    uint8_t protocol[2];
    uint8_t vni[3];
    uint8_t reserved;
};
_Static_assert(sizeof(struct geneve) == GENEVE_LENGTH, "RFC 8926, section 3.4");

/* ---- check ------------------------------------------------------------------ */

/* Whether the policy knows an option, class << 8 | type: in a list of any length. */
bool geneve_option_listed(const struct ov_policy *y, uint32_t option);

always_inline bool geneve_option_known(const struct ov_policy *y, uint32_t option)
{
    enum { SHORT = 8 };
    if (unlikely(y->option_count > SHORT))
        return geneve_option_listed(y, option);
    bool known = false;
    for (uint64_t i = 0; i < y->option_count && !known; i++)
        known = y->options[i] == option;
    return known;
}

/* Whether options end where they should, and every critical one is known. */
always_inline int geneve_check_options(const struct ov_policy *y, const uint8_t *option,
                                       uint32_t left)
{
    while (left >= GENEVE_OPTION_LENGTH) {
        uint32_t length = GENEVE_OPTION_LENGTH + (option[3] & GENEVE_OPTION_WORDS) * 4u;
        if (unlikely(length > left))
            return OV_GENEVE_OPTIONS;
        if (unlikely(option[2] & GENEVE_OPTION_CRITICAL) && y->base != OV_LENIENT &&
            !geneve_option_known(y, get24(option)))
            return OV_GENEVE_CRITICAL;
        option += length;
        left -= length;
    }
    return left == 0 ? OV_OK : OV_GENEVE_OPTIONS;
}

/* What the common header does not need: options, other payloads and wrong words.
 * left bytes of GENEVE are here; the answer is by value. */
struct geneve_answer {
    uint32_t length; /* of the header */
    uint16_t ethertype;
    uint8_t status;
};
struct geneve_answer geneve_check_rare(const struct ov_policy *y, const uint8_t *header,
                                       uint32_t left);

/* Step 11: at is where the payload of a datagram for GENEVE begins. */
always_inline int geneve_check(const struct ov_policy *y, const uint8_t *packet,
                               const struct outer *o, uint32_t at, struct ov_frame *d)
{
    const uint8_t *header = packet + at;
    uint32_t left = o->here - at, length = GENEVE_LENGTH;
    d->protocol = OV_GENEVE;
    if (unlikely(left < GENEVE_LENGTH || !equal32(header, GENEVE_TEB, 0xFF80FFFF))) {
        struct geneve_answer rare = geneve_check_rare(y, header, left);
        if (rare.status != OV_OK)
            return rare.status;
        length = rare.length;
        d->ethertype = rare.ethertype;
    }
    d->key = get24(header + 4);
    d->offset = at + length;
    return OV_OK;
}

/* ---- emit ------------------------------------------------------------------- */

always_inline void geneve_emit(const struct ov_tunnel *t, const struct plan *p, uint8_t *packet,
                               uint64_t sequence, struct layout layout)
{
    udp_emit(t, p, packet, sequence, layout, layout.ip ? p->ethertype : 0);
    if (layout.ip)
        put16(packet + layout.l4 + UDP_LENGTH + 2, p->ethertype);
}

/* ---- verbs ------------------------------------------------------------------- */

int geneve_init(struct ov_tunnel *t, const struct ov_config *config);
size_t geneve_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence);
size_t geneve_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                   uint32_t mtu, uint64_t sequence);
int geneve_describe(const uint8_t *header, size_t length, const struct outer *o,
                    struct ov_config *config);

#endif
