/* decap.h: the steps of decap that every protocol ends with, and the mending of the frame.
 *
 * Guarantee: decap_inner and decap_mark read the frame only and write *d only;
 * decap_mend changes bytes of the frame, and never how many there are.
 */
#ifndef DECAP_H
#define DECAP_H

#include "offload.h"
#include "outer.h"

/* Whether the policy names a protocol. */
always_inline bool decap_names(const struct ov_policy *y, int protocol)
{
    return y->protocols >> protocol & 1;
}

bool decap_key_known(const struct ov_policy *y, uint64_t key);

/* Answers by value: what is asked about need not live in memory. */
struct tag_answer {
    uint8_t status;
    uint8_t insert;
    uint8_t remove;
};
struct tag_answer decap_tags(const struct ov_policy *y, int protocol, const uint8_t *frame,
                             uint32_t length, bool in_header);

struct mark_answer {
    uint8_t status;
    uint8_t tos_at;
    uint8_t tos;
};
struct mark_answer decap_mark_rare(const struct ov_policy *y, const uint8_t *frame, uint32_t length,
                                   uint8_t tos);

/* Write the Ethernet header of a frame that was carried as IP. */
void decap_head(const struct ov_frame *d, uint8_t *frame);

/* Mend a frame whose bytes from the EtherType on lie shift bytes later than d says. */
void decap_mend(const struct ov_frame *d, uint8_t *frame, int shift);

/* Steps 13 to 15: here bytes of a frame of whole bytes; in_header, whether the
 * tunnel header carries a tag besides. */
always_inline int decap_inner(const struct ov_policy *y, const uint8_t *frame, uint32_t here,
                              uint32_t whole, bool in_header, struct ov_frame *d)
{
    if (unlikely(y->keys != NULL) && !decap_key_known(y, d->key))
        return OV_UNKNOWN_KEY;
    if (unlikely(here < ETHERNET_LENGTH))
        return OV_INNER_TOO_SHORT;
    d->length = here;
    d->wire = whole;
    if (unlikely(in_header || is_tagged(frame))) {
        struct tag_answer tags = decap_tags(y, d->protocol, frame, here, in_header);
        d->insert = tags.insert;
        d->remove = tags.remove;
        return tags.status;
    }
    return OV_OK;
}

/* Step 17, and what RFC 6040 and the uniform model change: tos is the outer one. */
always_inline int decap_mark(const struct ov_policy *y, const uint8_t *frame, uint8_t tos,
                             struct ov_frame *d)
{
    if (likely(!((tos & ECN_MASK) != 0 && y->ecn) && !y->uniform))
        return OV_OK;
    struct mark_answer mark = decap_mark_rare(y, frame, d->length, tos);
    d->tos_at = mark.tos_at;
    d->tos = mark.tos;
    return mark.status;
}

#endif
