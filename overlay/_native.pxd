# What _native.pyx uses of csrc/overlay.h.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "overlay.h" nogil:
    struct ov_config:
        uint64_t key
        int64_t sequence

    struct ov_tunnel:
        ov_config config
        uint32_t header_length

    struct ov_policy:
        uint32_t protocols

    struct ov_batch:
        uint8_t *data
        uint64_t size
        uint64_t capacity
        uint64_t count

    struct ov_columns:
        uint64_t capacity

    struct ov_rewriter:
        uint64_t rule_count

    struct ov_frame:
        uint64_t key
        uint32_t header
        uint32_t wire
        uint16_t mss
        uint8_t insert
        uint8_t remove
        uint8_t status
        uint8_t protocol

    struct ov_reassembly_stats:
        uint64_t segments
        uint64_t frames
        uint64_t duplicates
        uint64_t overlaps
        uint64_t refused
        uint64_t timed_out
        uint64_t evicted
        uint64_t pending
        uint64_t memory

    struct ov_reassembler:
        pass

    struct ov_fragment_stats:
        uint64_t taken
        uint64_t joined
        uint64_t overlaps
        uint64_t limits
        uint64_t timeouts
        uint64_t refused
        uint64_t held
        uint64_t packets
        uint64_t pending
        uint64_t memory

    struct ov_fragments:
        pass

    int OV_OK
    int OV_STT_INCOMPLETE
    int OV_STT_DUPLICATE
    int OV_STT_OVERLAP
    int OV_STT
    int OV_STATUS_COUNT

    const char *ov_status_name(int status)
    const char *ov_status_text(int status)
    const char *ov_checksum_name()
    uint16_t ov_checksum(const uint8_t *data, size_t length)
    uint32_t ov_checksum_by(const char *name, const uint8_t *data, size_t length)
    uint64_t ov_flow_hash(const uint8_t *frame, size_t length, uint64_t seed)

    int ov_tunnel_init(ov_tunnel *tunnel, const ov_config *config)
    int64_t ov_encap(const ov_tunnel *tunnel, const uint8_t *frame, size_t length,
                     uint64_t sequence, uint8_t *out)
    void ov_decap(const ov_policy *policy, const uint8_t *packet, size_t length, size_t wire,
                  int link, ov_frame *d)
    size_t ov_decap_length(const ov_frame *d)
    void ov_decap_write(const ov_frame *d, const uint8_t *packet, uint8_t *out)
    int ov_describe(const uint8_t *header, size_t length, int link, uint32_t protocol,
                    ov_config *config)

    size_t ov_encap_batch(const ov_tunnel *tunnel, ov_batch *batch, uint64_t sequence)
    size_t ov_encap_many(const ov_tunnel **tunnels, size_t tunnel_count,
                         const uint32_t *index, ov_batch *batch, uint64_t sequence)
    size_t ov_encap_into(const ov_tunnel *tunnel, ov_batch *batch, ov_batch *out,
                         uint32_t mtu, uint64_t sequence)
    size_t ov_decap_batch(const ov_policy *policy, ov_batch *batch)
    size_t ov_inspect_batch(const ov_policy *policy, const ov_batch *batch,
                            const ov_columns *columns)

    size_t ov_reassembler_size(uint64_t memory)
    ov_reassembler *ov_reassembler_init(void *at, uint64_t memory, uint64_t timeout, uint64_t seed)
    void ov_reassembler_stats(const ov_reassembler *r, ov_reassembly_stats *stats)
    size_t ov_reassembler_expire(ov_reassembler *r, uint64_t now)
    int ov_reassembler_push(ov_reassembler *r, const ov_policy *policy, const uint8_t *packet,
                            size_t length, size_t wire, int link, uint64_t now, ov_frame *d)
    const uint8_t *ov_reassembler_frame(const ov_reassembler *r)
    const uint8_t *ov_reassembler_header(const ov_reassembler *r, size_t *length)
    size_t ov_reassembler_batch(ov_reassembler *r, const ov_policy *policy, ov_batch *batch,
                                ov_batch *out, uint64_t now)

    size_t ov_fragments_size(uint64_t memory)
    ov_fragments *ov_fragments_init(void *at, uint64_t memory, uint64_t timeout, uint64_t seed)
    void ov_fragments_stats(const ov_fragments *f, ov_fragment_stats *stats)
    size_t ov_fragments_expire(ov_fragments *f, uint64_t now)
    size_t ov_fragments_batch(ov_fragments *f, ov_batch *batch, ov_batch *out,
                              const uint64_t *now)

    size_t ov_tcp_segments(const uint8_t *frame, size_t length, uint32_t mss)
    size_t ov_tcp_segment(const uint8_t *frame, size_t length, uint32_t mss, size_t i,
                          uint8_t *out)

    size_t ov_rewrite_batch(ov_rewriter *rewriter, const ov_policy *policy, ov_batch *batch)
    size_t ov_segment_batch(ov_batch *batch, ov_batch *out, uint32_t mtu)
    size_t ov_coalesce_batch(ov_batch *batch, ov_batch *out)

    uint64_t ov_pcap_scan(ov_batch *batch, uint64_t at, int swapped, uint64_t *stamps)
    size_t ov_pcap_pack(const ov_batch *batch, ov_batch *out)
    void ov_pcap_stamp(ov_batch *out, const uint64_t *stamps, size_t count)
