/* fuzz.h: what the targets share: bytes from the fuzzer, and a law that stops when broken. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "overlay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LAW(condition)                                                                             \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "broken law: %s (%s:%d)\n", #condition, __FILE__, __LINE__);           \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A row of its own: columns for a batch of rows over data. */
struct columns {
    uint64_t base[64], offset[64], key[64], outer[64];
    uint32_t length[64], wire[64], origin[64];
    uint16_t mss[64];
    uint8_t status[64], protocol[64], link[64], checksum[64];
};

static inline struct ov_batch batch_over(struct columns *c, uint8_t *data, uint64_t size,
                                         uint64_t capacity)
{
    memset(c, 0, sizeof *c);
    return (struct ov_batch){
        .data = data,
        .size = size,
        .capacity = capacity,
        .base = c->base,
        .offset = c->offset,
        .key = c->key,
        .outer = c->outer,
        .length = c->length,
        .wire = c->wire,
        .origin = c->origin,
        .mss = c->mss,
        .status = c->status,
        .protocol = c->protocol,
        .link = c->link,
        .checksum = c->checksum,
    };
}

/* An exact copy, so that the sanitizer sees the first byte read past the end. */
static inline uint8_t *exact(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    LAW(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

#endif
