/* icmp.h: what tells a sender of an inner frame that its packets are too long.
 *
 * Lives here: ICMP's "too big" answers, and TCP's MSS option.  Must not: who asks
 * when.  All lengths and bytes of a frame may be hostile.
 */
#ifndef ICMP_H
#define ICMP_H

#include "offload.h"

enum { ICMP_ANSWER_MAX = ETHERNET_LENGTH + 2 * TAG_LENGTH + 1280 };

/* Write to out, which has room for ICMP_ANSWER_MAX bytes, the frame that tells the
 * sender of this one that mtu bytes of IP may pass: ICMPv4 "fragmentation needed" or
 * ICMPv6 "packet too big", from the address that the frame was for, MAC addresses
 * swapped, tags kept.  Returns its length; 0 where none may be sent: not IP, IPv4
 * without DF, an mtu below 68 (IPv6: 1280), a fragment that is not the first,
 * an ICMP error or redirect, a MAC address of a group, an IP address that is not one
 * host's, lengths that are wrong. */
uint32_t icmp_too_big(const uint8_t *frame, uint32_t length, uint32_t mtu, uint8_t *out);

/* Lower in place the MSS option of a TCP segment with SYN to mss (over IPv6: to mss -
 * 20, as its header is longer), and update the checksum (RFC 1624), but not one
 * that is partial, which does not cover the field.  True where it was lowered. */
bool clamp_mss(uint8_t *frame, uint32_t length, uint16_t mss, bool partial);

#endif
