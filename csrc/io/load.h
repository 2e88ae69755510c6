/* load.h: a device for measurements. */
#ifndef LOAD_H
#define LOAD_H

#include "device.h"

/* Gives copies of these frames, which lie one after another in data, all of them
 * with every recv; takes whatever is sent and forgets it.  NULL with errno. */
struct device *load_open(const uint8_t *data, const uint32_t *lengths, size_t count,
                         uint32_t headroom, bool underlay);

#endif
