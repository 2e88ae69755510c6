/* fdb_stress.c: threads on one small MAC table; built and run by test_fdb.py.
 *
 * Some keys stay: every look finds them, every list has them.  Others come, go
 * and move, so that entries are displaced all the time; a look finds nothing or
 * one of the two places where that key, and no other, may be.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "fdb.h"

enum {
    CAPACITY = 256,
    SLOTS = 4 * CAPACITY,
    STAYING = 128,
    COMING = 512,
    READERS = 2,
    LEARNERS = 2
};

static struct fdb *table;
static int stop;
static unsigned long rounds;

static uint64_t key_of(uint32_t n)
{
    uint8_t mac[6] = {2, 0, 0, 0, (uint8_t)(n >> 8), (uint8_t)n};
    return fdb_key(n % 7, mac);
}

static void expect(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static void *look(void *given)
{
    uint32_t state = *(uint32_t *)given;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        uint32_t n = next(&state) % (STAYING + COMING);
        uint64_t key = key_of(n), value = fdb_find(table, key, fdb_hash(table, key));
        expect(value || n >= STAYING, "what stays is found");
        expect(!value || (value & FDB_VALID && fdb_dest(value) >> 1 == n), "a key's own dest");
    }
    return NULL;
}

static void *learn(void *given)
{
    uint32_t state = *(uint32_t *)given, previous;
    for (unsigned long i = 0; i < rounds; i++) {
        uint32_t n = next(&state) % (STAYING + COMING), now = next(&state) % 4;
        uint64_t key = key_of(n), hash = fdb_hash(table, key);
        enum fdb_result result = fdb_learn(table, key, hash, n << 1 | (now & 1), now, &previous);
        expect(n >= STAYING || result != FDB_LEARNED, "what stays is not learned again");
        expect(result != FDB_MOVED || previous >> 1 == n, "a key's own previous dest");
        if (n >= STAYING && next(&state) % 2)
            fdb_remove(table, key);
    }
    return NULL;
}

static void *manage(void *given)
{
    (void)given;
    static uint64_t keys[SLOTS], values[SLOTS];
    uint64_t cursor = 0;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        uint64_t count = fdb_list(table, -1, keys, values, SLOTS), here = 0;
        expect(count <= SLOTS, "no more than there is room for");
        for (uint64_t i = 0; i < count; i++)
            here += (fdb_dest(values[i]) >> 1) < STAYING;
        expect(here == STAYING, "a list has all that stays, once");
        fdb_age(table, 6, &cursor, 16, NULL, NULL);
        struct fdb_which w = {.network = 3, .dest = (STAYING + 3) << 1, .idle = FDB_ANY_AGE};
        fdb_flush(table, &w, NULL, NULL);
        uint32_t n = STAYING + (uint32_t)count % COMING;
        fdb_set(table, key_of(n), n << 1, count % 2 ? FDB_STICKY : 0, 0);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    uint32_t seeds[READERS + LEARNERS] = {1, 2, 3, 4};
    pthread_t threads[READERS + LEARNERS], manager;
    struct fdb_stats stats;
    rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    void *memory = aligned_alloc(64, (fdb_size(CAPACITY, 7) + 63) & ~(size_t)63);
    expect(memory != NULL, "memory");
    memset(memory, 0, fdb_size(CAPACITY, 7));
    table = fdb_init(memory, CAPACITY, 7, 1);
    table->bucket_count = CAPACITY / 4 + 4; /* nearly full at capacity: entries have to move */
    for (uint32_t n = 0; n < STAYING; n++)
        expect(fdb_set(table, key_of(n), n << 1, FDB_STATIC, 0) == FDB_LEARNED, "set");
    fdb_configure(table, 5, 20, 1);
    for (int i = 0; i < READERS + LEARNERS; i++)
        pthread_create(&threads[i], NULL, i < READERS ? look : learn, &seeds[i]);
    pthread_create(&manager, NULL, manage, NULL);
    for (int i = READERS; i < READERS + LEARNERS; i++)
        pthread_join(threads[i], NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(manager, NULL);
    fdb_stats(table, &stats);
    uint64_t count = fdb_list(table, -1, NULL, NULL, 0), sum = 0;
    for (uint32_t network = 0; network < 7; network++)
        sum += fdb_count(table, network);
    expect(stats.entries == count && sum == count, "the counts are right");
    expect(stats.displaced > 0, "entries were displaced");
    printf("%llu displaced\n", (unsigned long long)stats.displaced);
    free(memory);
    return 0;
}
