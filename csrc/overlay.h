/* overlay.h: the public C API.
 *
 * Lives here: numbers, structs, prototypes.  Must not: bodies, macros that are
 * not plain numbers, includes beyond <stdint.h> and <stddef.h>; cffi reads
 * this file as it is.
 *
 * Guarantees of every function: it reads only the bytes it is given, writes
 * only where its comment says, allocates nothing, makes no system call, has no
 * mutable state of its own, and ends in time bounded by its input.  A refused row or packet
 * keeps its bytes.
 */
#ifndef OVERLAY_H
#define OVERLAY_H

#include <stddef.h>
#include <stdint.h>

/* Why a row was refused; texts from ov_status_text(). */
enum ov_status {
    OV_OK,
    OV_BAD_ROW,
    OV_NO_HEADROOM,
    OV_NO_ROOM,
    OV_FRAME_TOO_SHORT,
    OV_FRAME_TOO_LONG,
    OV_FRAME_TAGGED,
    OV_FRAME_CUT,
    OV_MTU_EXCEEDED,
    OV_LINK_TYPE,
    OV_ETHERNET_TRUNCATED,
    OV_NOT_IP,
    OV_IP_TRUNCATED,
    OV_IP_VERSION,
    OV_IP_HEADER_LENGTH,
    OV_IP_LENGTH,
    OV_IP_CHECKSUM,
    OV_IP_FRAGMENT,
    OV_IP_EXTENSION,
    OV_UNKNOWN_PROTOCOL,
    OV_UDP_TRUNCATED,
    OV_UDP_LENGTH,
    OV_UDP_CHECKSUM,
    OV_UDP_ZERO_CHECKSUM,
    OV_HEADER_TRUNCATED,
    OV_VXLAN_NO_VNI,
    OV_VXLAN_RESERVED,
    OV_GRE_VERSION,
    OV_GRE_ROUTING,
    OV_GRE_PROTOCOL,
    OV_GRE_NO_KEY,
    OV_GRE_CHECKSUM_PRESENT,
    OV_GRE_SEQUENCE_PRESENT,
    OV_GRE_RESERVED,
    OV_GRE_CHECKSUM,
    OV_NVGRE_VSID,
    OV_TCP_TRUNCATED,
    OV_TCP_CHECKSUM,
    OV_STT_DATA_OFFSET,
    OV_STT_EMPTY,
    OV_STT_LENGTH,
    OV_STT_BOUNDS,
    OV_STT_INCOMPLETE,
    OV_STT_DUPLICATE,
    OV_STT_OVERLAP,
    OV_STT_VERSION,
    OV_STT_FLAGS,
    OV_STT_L4_OFFSET,
    OV_STT_L4_HEADER,
    OV_STT_OFFLOAD,
    OV_UNKNOWN_KEY,
    OV_INNER_TOO_SHORT,
    OV_INNER_TAGGED,
    OV_ECN_CONGESTION,
    OV_FRAGMENT_HELD,
    OV_FRAGMENT_TIMEOUT,
    OV_FRAGMENT_OVERLAP,
    OV_FRAGMENT_LIMIT,
    OV_UNKNOWN_REMOTE,
    OV_SOURCE_MAC,
    OV_OWN_MAC,
    OV_SPOOFED_SOURCE,
    OV_RESERVED_MAC,
    OV_PORT_VLAN,
    OV_NO_DESTINATION,
    OV_SAME_PORT,
    OV_SUPPRESSED,
    OV_UNRESOLVED,
    OV_DEVICE_FULL,
    OV_DEVICE_DOWN,
    OV_DEVICE_REFUSED,
    OV_DEVICE_OVERRUN,
    OV_FAULT_INJECTED,
    OV_FRAME_NOT_IP,
    OV_GENEVE_VERSION,
    OV_GENEVE_CONTROL,
    OV_GENEVE_PROTOCOL,
    OV_GENEVE_OPTIONS,
    OV_GENEVE_CRITICAL,
    OV_GPE_VERSION,
    OV_GPE_CONTROL,
    OV_GPE_NEXT_PROTOCOL,
    OV_GPE_SHIM,
    OV_ERSPAN_VERSION,
    OV_ERSPAN_SEQUENCE,
    OV_ERSPAN_FRAME_TYPE,
    OV_KEY_RANGE,
    OV_NO_FIELD,
    OV_STATUS_COUNT
};

enum ov_protocol {
    OV_NONE,
    OV_VXLAN,
    OV_NVGRE,
    OV_STT,
    OV_GENEVE,
    OV_GPE,
    OV_GRE,
    OV_ERSPAN,
    OV_PROTOCOL_COUNT
};
enum ov_link { OV_ETHERNET, OV_RAW_IP, OV_OTHER_LINK, OV_UDP };
enum ov_inner_vlan { OV_VLAN_KEEP, OV_VLAN_STRIP, OV_VLAN_REJECT };
enum ov_base { OV_RFC, OV_STRICT, OV_LENIENT };
enum ov_zero6 { OV_ZERO6_REFUSE, OV_ZERO6_ACCEPT, OV_ZERO6_PAIRS };
enum ov_inner_checksum { OV_CSUM_UNKNOWN, OV_CSUM_VERIFIED, OV_CSUM_PARTIAL };

/* Bits of a row's flags in ov_columns. */
enum ov_fact {
    OV_FACT_DF = 1,        /* IPv4: Don't Fragment */
    OV_FACT_FRAGMENT = 2,  /* the packet is an IP fragment */
    OV_FACT_EXTENDED = 4,  /* IPv4 options or IPv6 extension headers */
    OV_FACT_TAGGED = 8,    /* an outer 802.1Q tag */
    OV_FACT_CUT = 16,      /* the capture cut the packet */
    OV_FACT_CHECKSUM = 32, /* UDP or TCP has a checksum, which is not zero */
    OV_FACT_VERIFIED = 64, /* and it was verified, and is right */
    OV_FACT_IP = 128       /* the frame is an IP packet: it has no Ethernet header */
};

enum ov_key_mode { OV_KEY_KEEP, OV_KEY_SET, OV_KEY_ADD, OV_KEY_MAP };
/* Which MAC addresses and ports a rule is about. */
enum ov_rule_parts {
    OV_MATCH_SOURCE_MAC = 1,
    OV_MATCH_DESTINATION_MAC = 2,
    OV_SET_SOURCE_MAC = 4,
    OV_SET_DESTINATION_MAC = 8,
    OV_SET_SOURCE_PORT = 16,
    OV_SET_DESTINATION_PORT = 32
};
/* What became of a row in ov_rewrite_batch. */
enum ov_action {
    OV_ACTION_NONE,
    OV_ACTION_EDITED,
    OV_ACTION_EXCHANGE,
    OV_ACTION_REBUILD,
    OV_ACTION_GATHER
};

/* What a tunnel is asked to be.  -1 in a signed field: by policy. */
struct ov_config {
    uint64_t key;  /* VNI, VSID, Context ID, GRE key or session; 2^32: GRE without a key */
    uint64_t seed; /* of the flow hash */
    uint8_t local[16];
    uint8_t remote[16]; /* IPv4 addresses in the first four bytes */
    uint8_t local_mac[6];
    uint8_t remote_mac[6];
    int32_t outer_tci;  /* of an outer 802.1Q tag, or -1 */
    int32_t ip_id;      /* or -1: 0 with DF, a counter without */
    int32_t flow_label; /* or -1: from the flow hash */
    int32_t dscp;       /* or -1: inherited */
    int32_t gbp;        /* VXLAN: group policy id, or -1 */
    int32_t flow_id;    /* NVGRE: or -1: from the flow hash */
    int64_t frame_id;   /* STT: or -1: a counter */
    int64_t sequence;   /* GRE, ERSPAN: the first packet's number, or -1: none are sent */
    uint16_t port_low;  /* source port, both ends included */
    uint16_t port_high;
    uint16_t port;    /* UDP destination port */
    uint16_t mss;     /* STT: of frames whose rows have none of their own */
    uint8_t protocol; /* enum ov_protocol */
    uint8_t family;   /* 4 or 6 */
    uint8_t ttl;
    uint8_t df;
    uint8_t ecn_copy;       /* 1: outer ECN from the inner one, 0: Not-ECT */
    uint8_t inner_vlan;     /* enum ov_inner_vlan */
    uint8_t checksum;       /* outer UDP or GRE checksum on; STT: 0 leaves TCP's partial */
    uint8_t gbp_flags;      /* VXLAN: 0x40 don't learn, 0x08 applied */
    uint8_t inner_checksum; /* STT: enum ov_inner_checksum */
    uint8_t payload;        /* GENEVE, GPE, GRE: 1 carries IP, without the frame's Ethernet */
    uint8_t oam;            /* GENEVE: the O bit */
    uint8_t erspan_type;    /* 1, 2 or 3 */
    uint8_t erspan_cos;
    uint8_t erspan_encapsulation; /* En, or BSO */
    uint8_t erspan_truncated;
    uint8_t option_bytes; /* GENEVE: how many bytes of options, a multiple of 4 */
    uint16_t erspan_vlan;
    uint16_t erspan_group; /* III: the security group tag */
    uint16_t erspan_flags; /* III: the last 16 bits of the header */
    uint16_t zero;
    uint32_t erspan_index; /* II: the index; III: the timestamp */
    uint8_t options[252];  /* GENEVE: as on the wire */
};

/* A tunnel ready for packets.  Filled by ov_tunnel_init; read-only after that
 * and then free to share between threads. */
struct ov_tunnel {
    struct ov_config config;
    uint8_t header[328]; /* the outer headers, patched per packet */
    uint32_t header_length;
    uint32_t l3;         /* offset of the outer IP header */
    uint32_t l4;         /* offset of what follows it */
    uint32_t ip_sum;     /* of the IPv4 header: TOS, length, checksum zero */
    uint32_t pseudo_sum; /* of the addresses and the protocol */
    uint32_t port_count;
    /* What a field is made of: a fixed part, and what is kept of the packet's. */
    uint32_t label_base, label_mask;
    uint32_t id_base, id_mask;
    uint32_t tos_base, tos_mask;
    uint32_t flow_id_mask;
    /* Sums of the template, patched fields zero: of UDP or TCP, of the tunnel header. */
    uint32_t transport_sum, shim_sum;
    uint32_t zero;
};

/* What decap accepts. */
struct ov_policy {
    const uint64_t *keys; /* sorted keys that exist, or NULL for all */
    uint64_t key_count;
    const uint8_t *pairs; /* 32-byte (destination, source) for OV_ZERO6_PAIRS */
    uint64_t pair_count;
    const uint32_t *options; /* sorted critical GENEVE options that are known: class << 8 | type */
    uint64_t option_count;
    uint32_t protocols; /* bit 1 << enum ov_protocol */
    uint16_t vxlan_port;
    uint16_t geneve_port;
    uint16_t gpe_port;
    uint8_t base; /* enum ov_base */
    uint8_t gbp;
    uint8_t inner_vlan; /* enum ov_inner_vlan */
    uint8_t ecn;        /* 1: RFC 6040, 0: ignore */
    uint8_t uniform;    /* 1: inner DSCP from the outer one */
    uint8_t verify;     /* 1: verify UDP and TCP checksums */
    uint8_t zero6;      /* enum ov_zero6 */
    uint8_t drop_reserved_vsid;
    uint8_t partial; /* 1: batches leave a partial inner checksum so, and say it */
    uint8_t ip;      /* 1: a tunnel that carries IP is taken: a frame with zero MACs */
    uint8_t zero[4];
};

/* Rows of bytes in one array, and a column for every fact. */
struct ov_batch {
    uint8_t *data;
    uint64_t size;     /* bytes of data */
    uint64_t capacity; /* rows that the columns hold; unused ones have zero in mss, status, link */
    uint64_t count;    /* rows in use */
    uint64_t used;     /* bytes of data in use, in the 1:N functions' output */
    uint64_t gap;      /* bytes that they leave before each packet */
    uint64_t *base;    /* first byte that the row may use */
    uint64_t *offset;  /* first byte of the frame or packet */
    uint64_t *key;
    uint64_t *outer;   /* of a row that was decapsulated: its outer IP header in data */
    uint32_t *length;  /* bytes that are here */
    uint32_t *wire;    /* bytes on the wire, >= length */
    uint32_t *origin;  /* row of the input batch */
    uint16_t *mss;     /* of a super-frame: payload bytes of each packet it stands for; or 0 */
    uint8_t *status;   /* enum ov_status */
    uint8_t *protocol; /* enum ov_protocol */
    uint8_t *link;     /* enum ov_link */
    uint8_t *checksum; /* enum ov_inner_checksum: the frame's TCP or UDP checksum */
};

/* One packet, decapsulated: where its frame lies and what is to be mended in it. */
struct ov_frame {
    uint64_t key;
    uint32_t offset; /* of the inner frame in the packet */
    uint32_t length; /* its bytes that are here, before mending */
    uint32_t wire;   /* its bytes on the wire, before mending */
    uint32_t outer;  /* of the outer IP header in the packet */
    uint32_t header; /* bytes of the packet before what it carries */
    uint32_t l4;     /* inner L4 header whose checksum is to be completed, or 0 */
    uint32_t l4_end; /* end of that datagram in the frame */
    uint16_t mss;
    uint16_t tci;       /* of the tag to insert, where insert is 4 */
    uint16_t ethertype; /* not 0: the frame's first 14 bytes are to be written: zeros and this */
    uint8_t insert;     /* 4: an 802.1Q tag is put in front of the EtherType */
    uint8_t remove;     /* bytes of tags that are taken out, 0, 4 or 8 */
    uint8_t tos_at;     /* offset in the frame of the IP header to re-mark, or 0 */
    uint8_t tos;        /* its new TOS or traffic class */
    uint8_t status;     /* enum ov_status */
    uint8_t protocol;   /* enum ov_protocol */
    uint8_t checksum;   /* STT: enum ov_inner_checksum as received */
    uint8_t l4_tcp;     /* 1 TCP, 0 UDP, for l4 */
};

/* Facts of packets that ov_inspect_batch writes, a column for each; a row that has none
 * of a fact has zero.  The outer ones are there where the outer IP header is in order
 * (family is not 0), whatever the status. */
struct ov_columns {
    uint64_t capacity;      /* rows that the columns hold */
    uint64_t origin;        /* added to offsets: where data begins in a capture, say */
    uint64_t seed;          /* of the flow hash */
    uint64_t *key;          /* of rows that are OV_OK, or refused for their key or frame */
    uint64_t *outer;        /* the outer IP header in the batch's data */
    uint64_t *frame_offset; /* of rows that are OV_OK: the frame as it lies in data */
    uint64_t *flow_hash;    /* of that frame; NULL: not asked for */
    uint32_t *frame_length; /* bytes that are here */
    uint32_t *frame_wire;   /* bytes on the wire */
    uint32_t *flow_label;   /* IPv6 */
    uint16_t *ip_id;        /* IPv4 */
    uint16_t *outer_tci;    /* of the outer 802.1Q tag */
    uint16_t *source_port;  /* UDP and TCP; not of fragments */
    uint16_t *destination_port;
    uint8_t *source; /* 16 bytes a row, IPv4 in the first four */
    uint8_t *destination;
    uint8_t *status;      /* enum ov_status */
    uint8_t *protocol;    /* enum ov_protocol, where there is a key */
    uint8_t *family;      /* 4, 6 or 0 */
    uint8_t *ip_protocol; /* of what the outer IP header carries; not of IPv6 fragments */
    uint8_t *tos;         /* TOS or traffic class */
    uint8_t *ttl;         /* TTL or hop limit */
    uint8_t *flags;       /* enum ov_fact */
};

/* A rule of the rewriter: which packets it is for, and what it sets in their outer
 * headers.  Addresses are 16 bytes, IPv4 in the first four. */
struct ov_rule {
    uint64_t key_low; /* keys that it is for, both ends included */
    uint64_t key_high;
    uint64_t new_key;         /* OV_KEY_SET: the key; OV_KEY_ADD: what is added, modulo 2^64 */
    const uint64_t *key_from; /* OV_KEY_MAP: sorted; it is for these keys alone */
    const uint64_t *key_to;
    uint64_t key_count;
    uint8_t source[16], source_mask[16];
    uint8_t destination[16], destination_mask[16];
    uint8_t new_source[16], new_source_mask[16]; /* the bits that are set */
    uint8_t new_destination[16], new_destination_mask[16];
    uint8_t source_mac[6], destination_mac[6];
    uint8_t new_source_mac[6], new_destination_mac[6];
    uint32_t protocols; /* bit 1 << enum ov_protocol; 0 for any */
    int32_t vlan;       /* a VID; -1 for packets without a tag; -2 for any */
    int32_t dscp;       /* or -1 for any */
    int32_t new_vlan;   /* a VID; -1 takes the tag away; -2 keeps */
    int32_t new_dscp;   /* -1 keeps; -2 takes the inner one */
    int32_t new_ecn;    /* -1 keeps; -2 takes the inner one where no mark was met */
    int32_t new_ttl;    /* -1 keeps */
    uint16_t port_low;  /* source ports by the flow hash, both ends included */
    uint16_t port_high;
    uint16_t port;                                     /* the destination port */
    uint8_t parts;                                     /* enum ov_rule_parts */
    uint8_t source_family, destination_family;         /* 4, 6, or 0 for any */
    uint8_t new_source_family, new_destination_family; /* or 0: kept */
    uint8_t key_mode;                                  /* enum ov_key_mode */
    uint8_t to;            /* enum ov_protocol that packets are rebuilt in, or OV_NONE */
    uint8_t reserved_vsid; /* whether an NVGRE key may be set that is reserved */
    uint8_t zero[6];
};

/* What a row is to be rebuilt as: the tunnel of its new outer headers. */
struct ov_target {
    uint64_t key;
    uint8_t local[16];
    uint8_t remote[16];
    uint8_t local_mac[6];
    uint8_t remote_mac[6];
    int32_t tci;      /* of the outer tag, or -1 */
    uint32_t rule;    /* that was taken */
    int32_t dscp;     /* or -1: inherited */
    uint8_t family;   /* 4 or 6 */
    uint8_t protocol; /* enum ov_protocol */
    uint8_t ttl;
    uint8_t df;
    uint8_t zero[4];
};

/* What the rewriter remembers of an STT frame whose first segment has passed. */
struct ov_note {
    uint64_t frame; /* its mark; 0: free */
    uint64_t key;   /* as received */
    uint32_t rule;  /* that it took, or UINT32_MAX */
    uint16_t port;  /* from its flow hash */
    uint8_t tos;    /* of the inner packet */
    uint8_t zero;
};

/* The rewriter's rules and memory; all of it is the caller's, and zero at first. */
struct ov_rewriter {
    const struct ov_rule *rules;
    uint64_t rule_count;
    struct ov_target *targets; /* of this batch and those before, each once; slot_count / 2 */
    uint64_t target_count;
    uint64_t generation; /* counts how often they were forgotten, for want of room */
    uint32_t *slots;     /* of the targets' hash table, zero at first */
    uint64_t slot_count; /* a power of two, at least twice the rows of a batch */
    struct ov_note *notes;
    uint64_t note_count; /* a power of two */
    uint64_t fix;        /* 1: checksums are computed; 0: updated, right or wrong */
    uint64_t follow;     /* 1: the rules need of STT segments what only the first has */
    /* A column for every fact, as many rows as the batch has. */
    uint8_t *action;  /* enum ov_action */
    uint32_t *rule;   /* that was taken, or UINT32_MAX */
    uint32_t *target; /* of rows to be rebuilt */
};

/* ---- numbers ------------------------------------------------------------ */

const char *ov_status_name(int status);
const char *ov_status_text(int status);
/* The name of the checksum routine that this machine runs. */
const char *ov_checksum_name(void);
/* The RFC 1071 checksum (the complement of the sum) of length bytes. */
uint16_t ov_checksum(const uint8_t *data, size_t length);
/* The same by the routine of this name; 0x10000 where the machine has it not. */
uint32_t ov_checksum_by(const char *name, const uint8_t *data, size_t length);
/* The flow hash of an inner frame: see docs, "Flow hash". */
uint64_t ov_flow_hash(const uint8_t *frame, size_t length, uint64_t seed);

/* ---- one frame ---------------------------------------------------------- */

/* Build a tunnel.  0, or -1 when a field is out of its range. */
int ov_tunnel_init(struct ov_tunnel *tunnel, const struct ov_config *config);

/* Write the packet that carries frame to out, which has room for
 * length + tunnel->header_length bytes.  Returns its length, or -status. */
int64_t ov_encap(const struct ov_tunnel *tunnel, const uint8_t *frame, size_t length,
                 uint64_t sequence, uint8_t *out);

/* Look at a packet of length bytes, wire of them on the wire; write nothing but *d. */
void ov_decap(const struct ov_policy *policy, const uint8_t *packet, size_t length, size_t wire,
              int link, struct ov_frame *d);
/* The length of the frame that ov_decap_write makes of it. */
size_t ov_decap_length(const struct ov_frame *d);
/* Write the mended frame to out, which has room for it. */
void ov_decap_write(const struct ov_frame *d, const uint8_t *packet, uint8_t *out);

/* The tunnel that would rebuild the outer headers of a packet that decap
 * took; header is all before its inner frame.  0, or -1. */
int ov_describe(const uint8_t *header, size_t length, int link, uint32_t protocol,
                struct ov_config *config);

/* ---- batches ------------------------------------------------------------ */

/* Encap rows in place.  Returns the rows done. */
size_t ov_encap_batch(const struct ov_tunnel *tunnel, struct ov_batch *batch, uint64_t sequence);
/* The same, row i through tunnels[index[i]]; index[i] < tunnel_count, or BAD_ROW. */
size_t ov_encap_many(const struct ov_tunnel *const *tunnels, size_t tunnel_count,
                     const uint32_t *index, struct ov_batch *batch, uint64_t sequence);
/* Encap rows of in to new rows of out, packed; mtu 0 is no limit.  A row for
 * which out has no room gets OV_NO_ROOM, and may be done again after.
 * Returns the packets written. */
size_t ov_encap_into(const struct ov_tunnel *tunnel, struct ov_batch *in, struct ov_batch *out,
                     uint32_t mtu, uint64_t sequence);
/* Decap rows in place.  Returns the rows done. */
size_t ov_decap_batch(const struct ov_policy *policy, struct ov_batch *batch);

/* Say of every row what decap would do with it, and what its outer headers are; the
 * batch and its bytes are only read.  Takes as many rows as the columns hold; returns
 * the rows that decap would do. */
size_t ov_inspect_batch(const struct ov_policy *policy, const struct ov_batch *batch,
                        const struct ov_columns *columns);

/* ---- rewriting ------------------------------------------------------------- */

/* Give every row to the first rule that it matches and set in place what that says;
 * rows without a rule are left alone.  Of rows that have to be rebuilt, or are STT
 * segments of such frames (OV_ACTION_GATHER), only the target is said; decap by this
 * policy changes no byte of one that is OV_ACTION_EXCHANGE.  A row that
 * cannot be judged or cannot be changed so gets its status.  A tag that is put in
 * takes four bytes before the row, from base on.  Returns the rows changed in place. */
size_t ov_rewrite_batch(struct ov_rewriter *rewriter, const struct ov_policy *policy,
                        struct ov_batch *batch);

/* ---- STT reassembly ------------------------------------------------------ */

struct ov_reassembly_stats {
    uint64_t segments;   /* pushed */
    uint64_t frames;     /* delivered */
    uint64_t duplicates; /* segments */
    uint64_t overlaps;   /* segments */
    uint64_t refused;    /* segments and whole frames that decap refuses */
    uint64_t timed_out;  /* frames */
    uint64_t evicted;    /* frames */
    uint64_t pending;    /* frames waiting now */
    uint64_t memory;     /* bytes of pages in use now */
};

struct ov_reassembler; /* lives in the caller's memory */

/* Bytes that a reassembler with this budget needs; 0 if below 65536. */
size_t ov_reassembler_size(uint64_t memory);
/* Make one in at, aligned to 64 bytes and of that size.  timeout in ns. */
struct ov_reassembler *ov_reassembler_init(void *at, uint64_t memory, uint64_t timeout,
                                           uint64_t seed);
void ov_reassembler_stats(const struct ov_reassembler *r, struct ov_reassembly_stats *stats);
/* Forget frames whose first segment came timeout or more before now (ns). */
size_t ov_reassembler_expire(struct ov_reassembler *r, uint64_t now);
/* Take one packet.  OV_OK: a frame is whole, *d describes it (offset 0 of the
 * frame that ov_reassembler_frame gives) until the next push.
 * OV_STT_INCOMPLETE: held.  Anything else: refused. */
int ov_reassembler_push(struct ov_reassembler *r, const struct ov_policy *policy,
                        const uint8_t *packet, size_t length, size_t wire, int link, uint64_t now,
                        struct ov_frame *d);
/* The STT frame that push completed, and the outer headers of its segment at
 * offset 0, all before the inner frame. */
const uint8_t *ov_reassembler_frame(const struct ov_reassembler *r);
const uint8_t *ov_reassembler_header(const struct ov_reassembler *r, size_t *length);
/* Take the rows of in; append whole frames to out.  Returns the frames.
 * Rows get OV_OK (completed a frame), OV_STT_INCOMPLETE (held), or why not. */
size_t ov_reassembler_batch(struct ov_reassembler *r, const struct ov_policy *policy,
                            struct ov_batch *in, struct ov_batch *out, uint64_t now);

/* ---- outer fragments ------------------------------------------------------ */

/* Fragments, but for the last three.  taken = joined + overlaps + limits + timeouts +
 * refused + held. */
struct ov_fragment_stats {
    uint64_t taken;    /* pushed */
    uint64_t joined;   /* given, in whole packets */
    uint64_t overlaps; /* lost: of datagrams with overlaps (RFC 5722); and exact duplicates */
    uint64_t limits;   /* lost to the bound of memory */
    uint64_t timeouts; /* lost to time */
    uint64_t refused;  /* wrong in themselves, or of datagrams whose ECN marks contradict */
    uint64_t held;     /* here now */
    uint64_t packets;  /* given */
    uint64_t pending;  /* datagrams waiting now */
    uint64_t memory;   /* bytes of pages in use now */
};

struct ov_fragments; /* lives in the caller's memory */

/* Bytes that this budget of payload needs; 0 if it is below 262144 or too large. */
size_t ov_fragments_size(uint64_t memory);
/* Make one in at, aligned to 64 bytes and of that size.  timeout in ns. */
struct ov_fragments *ov_fragments_init(void *at, uint64_t memory, uint64_t timeout, uint64_t seed);
void ov_fragments_stats(const struct ov_fragments *f, struct ov_fragment_stats *stats);
/* Forget datagrams whose first fragment came timeout or more before now (ns); returns
 * the fragments lost. */
size_t ov_fragments_expire(struct ov_fragments *f, uint64_t now);
/* Take the rows of in whose status is OV_IP_FRAGMENT, row i at now[i] (ns, which does not
 * run backwards); append whole packets to out.  Returns the packets.  Rows get OV_OK
 * (completed a packet), OV_FRAGMENT_HELD, or why they are lost; OV_IP_FRAGMENT stays
 * where the headers are not in order. */
size_t ov_fragments_batch(struct ov_fragments *f, struct ov_batch *in, struct ov_batch *out,
                          const uint64_t *now);

/* ---- inner TCP segmentation ---------------------------------------------- */

/* How many packets frame is cut into at this MSS; 1 where it cannot be cut. */
size_t ov_tcp_segments(const uint8_t *frame, size_t length, uint32_t mss);
/* Write packet number i of them to out (room for length bytes); its length. */
size_t ov_tcp_segment(const uint8_t *frame, size_t length, uint32_t mss, size_t i, uint8_t *out);

/* ---- super-frames ---------------------------------------------------------- */

/* Cut the rows of in to new rows of out, packed.  mtu 0: rows are frames; those with
 * mss are cut to packets of that much payload.  Otherwise rows with a protocol are
 * its packets, and leave as packets of at most mtu bytes of IP: all but STT
 * with mss cut to one packet for each of the inner ones, STT to segments; what is
 * longer is refused.  Partial checksums are completed; whatever is not cut is
 * copied.  Rows are written all or none.  Returns the rows written. */
size_t ov_segment_batch(struct ov_batch *in, struct ov_batch *out, uint32_t mtu);
/* Put runs of frames that follow on into super-frames, whose cut gives them
 * again: new rows of out, packed; whatever follows nothing is copied.  Rows of a run
 * have one key and protocol; origin is its first row.  Returns the rows written. */
size_t ov_coalesce_batch(struct ov_batch *in, struct ov_batch *out);

/* ---- pcap records -------------------------------------------------------- */

/* Index the records of a classic pcap file from position at: one row of batch
 * a packet, its timestamp (seconds << 32 | fraction) in stamps.  Stops at the
 * end of the data, of the rows, or at a record that does not fit; returns the
 * position of the first record not taken.  swapped: of the other byte order. */
uint64_t ov_pcap_scan(struct ov_batch *batch, uint64_t at, int swapped, uint64_t *stamps);
/* Copy the rows of in whose status is OV_OK to out, each after its gap, from
 * the start of out; stops where out is full.  Returns the rows copied. */
size_t ov_pcap_pack(const struct ov_batch *in, struct ov_batch *out);
/* Write a record header (native order) into the 16 bytes before each row of
 * out; row i takes stamps[origin[i]] of the count that there are. */
void ov_pcap_stamp(struct ov_batch *out, const uint64_t *stamps, size_t count);

#endif
