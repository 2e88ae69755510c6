/* rewrite.c: the law of the rewriter.
 *
 * Any bytes under any rule: changed within bounds, or every byte as it was.  A packet that
 * decap takes with all its checksums is taken after too, whether they were computed or
 * updated, and has the same frame.  Of one whose headers may be exchanged decap changes no byte.
 *
 * Input: 48 bytes of rule, then the packet.
 */
#include "fuzz.h"

enum { RULE = 48, SPARE = 4 };

static struct ov_rule rule_from(const uint8_t *p)
{
    struct ov_rule r = {
        .key_high = UINT64_MAX,
        .new_key = (uint64_t)p[1] << 16 | (uint64_t)p[2] << 8 | p[3],
        .key_mode = p[0] & 1   ? OV_KEY_SET
                    : p[0] & 2 ? OV_KEY_ADD
                               : OV_KEY_KEEP,
        .vlan = -2,
        .dscp = -1,
        .new_vlan = p[0] & 4   ? p[4]
                    : p[0] & 8 ? -1
                               : -2,
        .new_dscp = p[0] & 16   ? p[5] & 63
                    : p[0] & 32 ? -2
                                : -1,
        .new_ecn = p[0] & 64    ? p[5] >> 6
                   : p[0] & 128 ? -2
                                : -1,
        .new_ttl = p[6] & 1 ? p[7] : -1,
        .port_low = p[8],
        .port_high = (uint16_t)(p[8] + 256 * p[9]),
        .parts = p[10] & (OV_SET_SOURCE_MAC | OV_SET_DESTINATION_MAC | OV_SET_SOURCE_PORT),
        .new_source_family = p[6] & 2   ? 4
                             : p[6] & 4 ? 6
                                        : 0,
        .new_destination_family = p[6] & 8    ? 4
                                  : p[6] & 16 ? 6
                                              : 0,
        .to = p[6] & 32 ? OV_VXLAN : OV_NONE,
        .reserved_vsid = 1,
    };
    memcpy(r.new_source, p + 16, 16);
    memcpy(r.new_source_mask, p + 24, 16);
    memcpy(r.new_destination, p + 20, 16);
    memcpy(r.new_destination_mask, p + 28, 16);
    return r;
}

/* The frame of a packet that decap takes with all its checksums; NULL: none. */
static uint8_t *frame_of(const struct ov_policy *policy, const uint8_t *packet, size_t length,
                         int link, size_t *size)
{
    struct ov_frame d;
    ov_decap(policy, packet, length, length, link, &d);
    if (d.status != OV_OK)
        return NULL;
    *size = ov_decap_length(&d);
    uint8_t *frame = malloc(*size);
    LAW(frame != NULL);
    ov_decap_write(&d, packet, frame);
    return frame;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < RULE || size > 4096)
        return 0;
    const struct ov_rule rule = rule_from(data);
    const struct ov_policy policy = {
        .protocols = data[11] & 1 ? 0xBE : 0xFE,
        .vxlan_port = 4789,
        .geneve_port = 6081,
        .gpe_port = 4790,
        .ip = 1,
        .base = OV_LENIENT,
        .verify = 1,
        .zero6 = OV_ZERO6_ACCEPT,
    };
    size_t length = size - RULE, before = 0, after = 0;
    int link = data[12] % 3;
    uint8_t *row = malloc(length + SPARE), *packet = exact(data + RULE, length);
    LAW(row != NULL);
    memset(row, 0, SPARE);
    if (length != 0)
        memcpy(row + SPARE, packet, length);
    uint8_t *frame = frame_of(&policy, packet, length, link, &before);

    struct ov_target targets[2];
    struct ov_note notes[2] = {{0}};
    uint32_t slots[4] = {0}, taken, target;
    uint8_t action;
    struct ov_rewriter rewriter = {
        .rules = &rule,
        .rule_count = 1,
        .targets = targets,
        .slots = slots,
        .slot_count = 4,
        .notes = notes,
        .note_count = 2,
        .fix = data[11] >> 1 & 1,
        .follow = data[11] >> 2 & 1,
        .action = &action,
        .rule = &taken,
        .target = &target,
    };
    struct columns c;
    struct ov_batch b = batch_over(&c, row, length + SPARE, 1);
    b.count = 1;
    c.offset[0] = SPARE;
    c.length[0] = c.wire[0] = (uint32_t)length;
    c.link[0] = (uint8_t)link;
    size_t edited = ov_rewrite_batch(&rewriter, &policy, &b);

    LAW(edited == (action == OV_ACTION_EDITED));
    LAW(c.status[0] == OV_OK || action == OV_ACTION_NONE);
    if (action != OV_ACTION_EDITED) {
        LAW(c.offset[0] == SPARE && c.length[0] == length);
        LAW(length == 0 || memcmp(row + SPARE, packet, length) == 0);
        if (action == OV_ACTION_EXCHANGE) {
            ov_decap_batch(&policy, &b);
            LAW(memcmp(row + SPARE, packet, length) == 0);
        }
    } else {
        LAW(c.offset[0] + c.length[0] == length + SPARE && c.wire[0] == c.length[0]);
        uint8_t *now = frame_of(&policy, row + c.offset[0], c.length[0], link, &after);
        if (frame != NULL)
            LAW(now != NULL && before == after && memcmp(frame, now, before) == 0);
        free(now);
    }
    free(frame);
    free(packet);
    free(row);
    return 0;
}
