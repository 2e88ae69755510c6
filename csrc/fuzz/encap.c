/* encap.c: the law of encap.
 *
 * Any frame by any tunnel: refused with a status and every byte as it was, or
 * packets that the strict profile takes and from which the frame comes back;
 * in place, copied and segmented alike.
 *
 * Input: 8 bytes of tunnel, then the frame.
 */
#include "fuzz.h"

/* What only some protocols have. */
static void vary(struct ov_config *c, const uint8_t *p)
{
    static const uint8_t options[] = {1, 2, 0x80, 1, 0, 1, 0, 2, 0xFF, 0xF0, 7, 0};
    int shimmed = c->protocol == OV_GENEVE || c->protocol == OV_GPE || c->protocol == OV_GRE;
    c->payload = shimmed && (p[3] & 0x10);
    if (c->protocol == OV_GENEVE) {
        c->port = 6081;
        c->option_bytes = p[6] % 64 * 4;
        for (uint32_t at = 0; at < c->option_bytes; at += 12)
            memcpy(c->options + at, options, sizeof options);
        c->option_bytes = c->option_bytes / 12 * 12;
    } else if (c->protocol == OV_GPE) {
        c->port = 4790;
    } else if (c->protocol == OV_GRE) {
        c->key = p[3] & 0x20 ? c->key : 1ull << 32;
        c->sequence = p[3] & 0x40 ? p[6] : -1;
        c->checksum = p[1] >> 7;
    } else if (c->protocol == OV_ERSPAN) {
        c->erspan_type = 1 + p[6] % 3;
        c->key = c->erspan_type == 1 ? 1ull << 32 : p[7];
        c->sequence = c->erspan_type == 1 ? -1 : p[6];
        c->checksum = 0;
    }
}

static struct ov_config config_from(const uint8_t *p)
{
    struct ov_config c = {
        .key = 0x1001u + p[7],
        .local = {192, 0, 2, 1},
        .remote = {192, 0, 2, 2},
        .outer_tci = p[1] & 1 ? 100 : -1,
        .ip_id = p[1] & 2 ? 7 : -1,
        .flow_label = p[1] & 4 ? 9 : -1,
        .dscp = p[1] & 8 ? -1 : 10,
        .gbp = -1,
        .flow_id = p[1] & 16 ? 3 : -1,
        .frame_id = -1,
        .sequence = -1,
        .port_low = 49152,
        .port_high = 65535,
        .port = 4789,
        .mss = (uint16_t)(p[2] * 8),
        .protocol = (uint8_t)(1 + (p[0] & 0x3F) % 7),
        .family = p[0] & 0x40 ? 6 : 4,
        .ttl = 64,
        .df = p[1] >> 5 & 1,
        .ecn_copy = p[1] >> 6 & 1,
        .inner_vlan = (uint8_t)(p[3] & 3) % 3,
        .checksum = p[1] >> 7 || p[0] & 0x40 || (p[0] & 0x3F) % 7 == 2,
        .inner_checksum = (uint8_t)(p[3] >> 2 & 3) % 3,
    };
    vary(&c, p);
    return c;
}

enum { HEADROOM = 328, ROOM = 1 << 17 };

/* Decap each packet of a batch and see that the frame is among the results. */
static void comes_back(const struct ov_policy *policy, struct ov_batch *packets,
                       const uint8_t *packet, size_t length)
{
    struct ov_frame d;
    ov_decap(policy, packet, length, length, OV_ETHERNET, &d);
    LAW(d.status == OV_OK);
    if (packets == NULL)
        return;
    size_t n = ov_decap_length(&d);
    uint8_t *frame = malloc(n);
    LAW(frame != NULL);
    ov_decap_write(&d, packet, frame);
    LAW(packets->count == 1 && packets->length[0] == n);
    LAW(memcmp(packets->data + packets->offset[0], frame, n) == 0);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t segments[ROOM], frames[ROOM], block[1 << 18];
    if (size < 8 || size > 4096)
        return 0;
    struct ov_config config = config_from(data);
    static const uint32_t options[] = {0x010280};
    struct ov_policy policy = {
        .protocols = config.protocol == OV_GRE ? 1u << OV_GRE : 0xFE,
        .vxlan_port = 4789,
        .geneve_port = 6081,
        .gpe_port = 4790,
        .options = options,
        .option_count = 1,
        .base = OV_STRICT,
        .verify = 1,
        .ip = 1,
    };
    struct ov_tunnel tunnel;
    LAW(ov_tunnel_init(&tunnel, &config) == 0);
    size_t length = size - 8;
    uint8_t *frame = exact(data + 8, length);

    /* One frame. */
    uint8_t *packet = malloc(length + tunnel.header_length);
    LAW(packet != NULL);
    int64_t n = ov_encap(&tunnel, frame, length, 1, packet);
    int status = n < 0 ? (int)-n : OV_OK;
    LAW(status < OV_STATUS_COUNT);

    /* In place. */
    struct columns c;
    uint8_t *room = malloc(HEADROOM + length);
    LAW(room != NULL);
    memset(room, 0xAA, HEADROOM);
    memcpy(room + HEADROOM, data + 8, length);
    struct ov_batch b = batch_over(&c, room, HEADROOM + length, 1);
    b.count = 1;
    c.offset[0] = HEADROOM;
    c.length[0] = c.wire[0] = (uint32_t)length;
    ov_encap_batch(&tunnel, &b, 1);
    LAW(c.status[0] == status);
    if (status == OV_OK) {
        LAW(c.length[0] == (uint64_t)n && memcmp(room + c.offset[0], packet, (size_t)n) == 0);
        comes_back(&policy, NULL, packet, (size_t)n);
    } else {
        LAW(length == 0 || memcmp(room + HEADROOM, data + 8, length) == 0);
        LAW(c.offset[0] == HEADROOM && c.length[0] == length);
    }

    /* Copied, within an MTU. */
    struct columns in_c, out_c, done_c;
    struct ov_batch in = batch_over(&in_c, frame, length, 1);
    struct ov_batch out = batch_over(&out_c, segments, sizeof segments, 64);
    struct ov_batch done = batch_over(&done_c, frames, sizeof frames, 64);
    uint32_t mtu = data[4] * 16u;
    in.count = 1;
    in_c.length[0] = in_c.wire[0] = (uint32_t)length;
    out.gap = done.gap = data[5] & 31;
    size_t packets = ov_encap_into(&tunnel, &in, &out, mtu, 1);
    LAW(packets == out.count && packets <= 64);
    LAW((in_c.status[0] == OV_OK) == (packets > 0));
    for (size_t i = 0; i < packets; i++) {
        uint32_t tag = config.outer_tci >= 0 ? 4 : 0;
        LAW(mtu == 0 || out.length[i] <= mtu + 14 + tag);
    }
    if (packets > 0 && config.protocol == OV_STT) {
        struct ov_reassembler *r = ov_reassembler_init(block, 65536, 1000, data[6]);
        LAW(ov_reassembler_size(65536) <= sizeof block);
        LAW(ov_reassembler_batch(r, &policy, &out, &done, 0) == 1);
        if (status == OV_OK)
            comes_back(&policy, &done, packet, (size_t)n);
    }
    free(frame);
    free(packet);
    free(room);
    return 0;
}
