/* decap.c: the law of decap.
 *
 * Any bytes under any policy: decapsulated within bounds, or refused with a
 * status and every byte as it was.  A batch of one row does what the single
 * call does.  What was taken can be described, and the description builds a
 * tunnel.  Columns say the same, and change nothing.
 *
 * Input: 4 bytes of policy, then the packet.
 */
#include "fuzz.h"

static struct ov_policy policy_from(const uint8_t *p)
{
    static const uint64_t keys[] = {5, 165, 4096, 43981, 1193046, 1ull << 32};
    static const uint32_t options[] = {0x010280};
    return (struct ov_policy){
        .protocols = p[1] & 8 ? 0xBE : 0xFE, /* without and with plain GRE */
        .vxlan_port = 4789,
        .geneve_port = 6081,
        .gpe_port = 4790,
        .options = options,
        .option_count = p[1] >> 4 & 1,
        .ip = p[1] >> 5 & 1,
        .base = (uint8_t)(p[0] & 3) % 3,
        .gbp = p[0] >> 2 & 1,
        .inner_vlan = (uint8_t)(p[0] >> 3 & 3) % 3,
        .ecn = p[0] >> 5 & 1,
        .uniform = p[0] >> 6 & 1,
        .verify = p[0] >> 7,
        .zero6 = (uint8_t)(p[1] & 1),
        .drop_reserved_vsid = p[1] >> 1 & 1,
        .keys = p[1] & 4 ? keys : NULL,
        .key_count = 6,
    };
}

/* The columns of a batch of one row: what decap says, within bounds, and nothing is written. */
static void inspect(const struct ov_policy *policy, const struct ov_batch *b,
                    const struct ov_frame *d)
{
    uint64_t key, outer, frame_offset, flow_hash;
    uint32_t frame_length, frame_wire, flow_label;
    uint16_t ip_id, outer_tci, source_port, destination_port;
    uint8_t source[16], destination[16], status, protocol, family, ip_protocol, tos, ttl, flags;
    struct ov_columns c = {
        .capacity = 1,
        .key = &key,
        .outer = &outer,
        .frame_offset = &frame_offset,
        .flow_hash = &flow_hash,
        .frame_length = &frame_length,
        .frame_wire = &frame_wire,
        .flow_label = &flow_label,
        .ip_id = &ip_id,
        .outer_tci = &outer_tci,
        .source_port = &source_port,
        .destination_port = &destination_port,
        .source = source,
        .destination = destination,
        .status = &status,
        .protocol = &protocol,
        .family = &family,
        .ip_protocol = &ip_protocol,
        .tos = &tos,
        .ttl = &ttl,
        .flags = &flags,
    };
    uint8_t *before = exact(b->data, b->size);
    size_t done = ov_inspect_batch(policy, b, &c);
    LAW(b->size == 0 || memcmp(before, b->data, b->size) == 0);
    free(before);
    LAW(done == (d->status == OV_OK) && status == d->status);
    LAW(family == 0 || family == 4 || family == 6);
    LAW(family == 0 || outer + (family == 4 ? 20u : 40u) <= b->size);
    if (status == OV_OK) {
        LAW(key == d->key && protocol == d->protocol);
        LAW(frame_offset + frame_length <= b->size && frame_length <= frame_wire);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4 || size > 4096)
        return 0;
    struct ov_policy policy = policy_from(data);
    int link = data[2] % 3;
    size_t length = size - 4, wire = length + (data[3] & 0x7F) * 16u;
    uint8_t *packet = exact(data + 4, length), *row = exact(data + 4, length);

    struct ov_frame d;
    ov_decap(&policy, packet, length, wire, link, &d);
    LAW(d.status < OV_STATUS_COUNT);

    struct columns c;
    struct ov_batch b = batch_over(&c, row, length, 1);
    b.count = 1;
    c.length[0] = (uint32_t)length;
    c.wire[0] = (uint32_t)wire;
    c.link[0] = (uint8_t)link;
    inspect(&policy, &b, &d);
    size_t done = ov_decap_batch(&policy, &b);
    LAW(done == (d.status == OV_OK));
    LAW(c.status[0] == d.status);

    if (d.status != OV_OK) {
        LAW(length == 0 || memcmp(row, packet, length) == 0);
        LAW(c.offset[0] == 0 && c.length[0] == length && c.wire[0] == wire);
    } else {
        size_t n = ov_decap_length(&d);
        LAW((size_t)d.offset + d.length <= length);
        LAW(d.length <= d.wire && (size_t)d.offset + d.wire <= wire);
        LAW(d.header == d.offset + (d.ethertype != 0 ? 14u : 0u));
        LAW(n >= 14 && c.length[0] == n && c.key[0] == d.key);
        uint8_t *frame = malloc(n);
        LAW(frame != NULL);
        ov_decap_write(&d, packet, frame);
        LAW(c.offset[0] + n <= length && memcmp(row + c.offset[0], frame, n) == 0);
        free(frame);

        struct ov_config config;
        struct ov_tunnel tunnel;
        LAW(ov_describe(packet, d.header, link, d.protocol, &config) == 0);
        LAW(config.key == d.key);
        LAW(ov_tunnel_init(&tunnel, &config) == 0);
    }
    free(packet);
    free(row);
    return 0;
}
