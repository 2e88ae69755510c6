/* tunnel.h: what the stages above ask of the protocols, whichever they are. */
#ifndef TUNNEL_H
#define TUNNEL_H

#include "plain.h"

/* Look at one row as ov_decap_batch does, and write nothing but *d; its status, which may
 * be that which the row has.  d->key and d->protocol are set too where a row is refused
 * for its key or its frame. */
int tunnel_decap_row(const struct plain *plain, const struct ov_batch *b, size_t i,
                     struct ov_frame *d);

/* Steps 9 to 11 of a packet whose datagram *o is, or that carries at least four bytes of GRE: the
 * tunnel's own header, without what it carries.  *d gets key, protocol, offset and ethertype. */
int tunnel_open_header(const struct ov_policy *y, const uint8_t *packet, const struct outer *o,
                       struct ov_frame *d);

/* Encap one row in place, as ov_encap_batch does; its status, which is not written. */
int tunnel_encap_row(const struct ov_tunnel *t, const struct ov_batch *b, size_t i,
                     uint64_t sequence);

#endif
