/* tunnel.h: what the bridge asks of the protocols, whichever they are. */
#ifndef TUNNEL_H
#define TUNNEL_H

#include "overlay.h"

/* Encap one row in place, as ov_encap_batch does; its status, which is not written. */
int tunnel_encap_row(const struct ov_tunnel *t, const struct ov_batch *b, size_t i,
                     uint64_t sequence);

#endif
