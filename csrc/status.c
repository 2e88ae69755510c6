/* status.c: the names and texts of enum ov_status, in its order. */
#include "overlay.h"

static const struct {
    const char *name;
    const char *text;
} statuses[] = {
    [OV_OK] = {"OK", "done"},
    [OV_BAD_ROW] = {"BAD_ROW", "the row points outside the batch's data"},
    [OV_NO_HEADROOM] = {"NO_HEADROOM",
                        "not enough free bytes before the frame for the outer headers"},
    [OV_NO_ROOM] = {"NO_ROOM", "the output batch is full"},
    [OV_FRAME_TOO_SHORT] = {"FRAME_TOO_SHORT",
                            "the frame is shorter than an Ethernet header (14 bytes)"},
    [OV_FRAME_TOO_LONG] = {"FRAME_TOO_LONG",
                           "the frame does not fit the length fields of the outer headers"},
    [OV_FRAME_TAGGED] = {"FRAME_TAGGED", "the frame carries a VLAN tag that the tunnel refuses"},
    [OV_FRAME_CUT] = {"FRAME_CUT", "the capture cut the frame: bytes that are needed are not here"},
    [OV_MTU_EXCEEDED] = {"MTU_EXCEEDED", "the packet would be larger than the underlay's MTU"},
    [OV_LINK_TYPE] = {"LINK_TYPE", "the packet is neither Ethernet nor raw IP"},
    [OV_ETHERNET_TRUNCATED] = {"ETHERNET_TRUNCATED", "the outer Ethernet header is cut short"},
    [OV_NOT_IP] = {"NOT_IP", "the outer EtherType is neither IPv4 nor IPv6"},
    [OV_IP_TRUNCATED] = {"IP_TRUNCATED", "the outer IP header is cut short"},
    [OV_IP_VERSION] = {"IP_VERSION", "the outer IP version does not fit"},
    [OV_IP_HEADER_LENGTH] = {"IP_HEADER_LENGTH", "the outer IPv4 header length is below 20 bytes"},
    [OV_IP_LENGTH] = {"IP_LENGTH", "the outer IP length is larger than the packet, or too small"},
    [OV_IP_CHECKSUM] = {"IP_CHECKSUM", "the outer IPv4 header checksum is wrong"},
    [OV_IP_FRAGMENT] = {"IP_FRAGMENT", "the outer packet is an IP fragment"},
    [OV_IP_EXTENSION] = {"IP_EXTENSION", "an outer IPv6 extension header overruns the packet"},
    [OV_UNKNOWN_PROTOCOL] = {"UNKNOWN_PROTOCOL",
                             "no tunnel protocol is known by this IP protocol and port"},
    [OV_UDP_TRUNCATED] = {"UDP_TRUNCATED", "the outer UDP header is cut short"},
    [OV_UDP_LENGTH] = {"UDP_LENGTH",
                       "the outer UDP length is larger than the IP payload, or too small"},
    [OV_UDP_CHECKSUM] = {"UDP_CHECKSUM", "the outer UDP checksum is wrong"},
    [OV_UDP_ZERO_CHECKSUM] = {"UDP_ZERO_CHECKSUM",
                              "the outer UDP checksum is zero over IPv6 without leave"},
    [OV_HEADER_TRUNCATED] = {"HEADER_TRUNCATED", "the tunnel header is cut short"},
    [OV_VXLAN_NO_VNI] = {"VXLAN_NO_VNI", "the VXLAN I flag is clear: no valid VNI"},
    [OV_VXLAN_RESERVED] = {"VXLAN_RESERVED", "a reserved VXLAN bit is set"},
    [OV_GRE_VERSION] = {"GRE_VERSION", "the GRE version is not 0"},
    [OV_GRE_ROUTING] = {"GRE_ROUTING", "the GRE routing bit is set"},
    [OV_GRE_PROTOCOL] = {"GRE_PROTOCOL", "GRE does not carry Ethernet (protocol 0x6558)"},
    [OV_GRE_NO_KEY] = {"GRE_NO_KEY", "GRE has no key: not NVGRE"},
    [OV_GRE_CHECKSUM_PRESENT] = {"GRE_CHECKSUM_PRESENT",
                                 "the GRE checksum bit is set, which NVGRE forbids"},
    [OV_GRE_SEQUENCE_PRESENT] = {"GRE_SEQUENCE_PRESENT",
                                 "the GRE sequence bit is set, which NVGRE forbids"},
    [OV_GRE_RESERVED] = {"GRE_RESERVED", "a reserved GRE bit is set"},
    [OV_GRE_CHECKSUM] = {"GRE_CHECKSUM", "the GRE checksum is wrong"},
    [OV_NVGRE_VSID] = {"NVGRE_VSID", "the VSID is in a reserved range"},
    [OV_TCP_TRUNCATED] = {"TCP_TRUNCATED", "the TCP-shaped header is cut short"},
    [OV_TCP_CHECKSUM] = {"TCP_CHECKSUM", "the outer TCP checksum is wrong"},
    [OV_STT_DATA_OFFSET] = {"STT_DATA_OFFSET", "the STT data offset is not 5"},
    [OV_STT_EMPTY] = {"STT_EMPTY", "the STT segment has no payload"},
    [OV_STT_LENGTH] = {"STT_LENGTH", "the STT frame length is below 32"},
    [OV_STT_BOUNDS] = {"STT_BOUNDS", "the STT segment reaches past the end of its frame"},
    [OV_STT_INCOMPLETE] = {"STT_INCOMPLETE",
                           "the STT segment is not a whole frame: reassembly is needed"},
    [OV_STT_DUPLICATE] = {"STT_DUPLICATE", "the bytes of the STT segment have all arrived before"},
    [OV_STT_OVERLAP] = {"STT_OVERLAP", "some bytes of the STT segment have arrived before"},
    [OV_STT_VERSION] = {"STT_VERSION", "the STT version is not 0"},
    [OV_STT_FLAGS] = {"STT_FLAGS", "the STT checksum flags are both set"},
    [OV_STT_L4_OFFSET] = {"STT_L4_OFFSET", "the STT L4 offset lies inside the inner IP header"},
    [OV_STT_L4_HEADER] = {"STT_L4_HEADER", "the inner L4 header lies beyond the STT frame"},
    [OV_STT_OFFLOAD] = {"STT_OFFLOAD", "the STT offload fields do not fit the inner packet"},
    [OV_UNKNOWN_KEY] = {"UNKNOWN_KEY", "no network here has this VNI, VSID or Context ID"},
    [OV_INNER_TOO_SHORT] = {"INNER_TOO_SHORT",
                            "the inner frame is shorter than an Ethernet header (14 bytes)"},
    [OV_INNER_TAGGED] = {"INNER_TAGGED", "the inner frame carries a VLAN tag"},
    [OV_ECN_CONGESTION] = {"ECN_CONGESTION",
                           "congestion was marked on a packet whose sender cannot hear of it"},
};
_Static_assert(sizeof statuses / sizeof statuses[0] == OV_STATUS_COUNT, "one text a status");

const char *ov_status_name(int status)
{
    return status >= 0 && status < OV_STATUS_COUNT ? statuses[status].name : "UNKNOWN";
}

const char *ov_status_text(int status)
{
    return status >= 0 && status < OV_STATUS_COUNT ? statuses[status].text : "unknown status";
}
