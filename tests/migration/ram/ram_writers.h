/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that write guest RAM without end, in a way that shows whether a copy of it is of one instant. */
#ifndef SKIFF_TESTS_MIGRATION_RAM_RAM_WRITERS_H
#define SKIFF_TESTS_MIGRATION_RAM_RAM_WRITERS_H

#include <pthread.h>
#include "tests/migration/ram/ram_test.h"

#define WRITER_PAGES ((RAM_TEST_LOW + RAM_TEST_HIGH) / 4096)
#define WRITERS 3u

/* Each writer owns every WRITERSth page, and writes its round's number to all of them in order, at the begin
 * and at the end of the page. So at any instant the numbers of its pages, in order, are n, ..., n, n - 1, ... */
typedef struct Writer {
    uint8_t *host;
    unsigned first;
    pthread_t thread;
} Writer;

static _Atomic bool writers_stop, writers_park;
static _Atomic unsigned writers_parked;
static _Atomic uint64_t writes;
static Writer writers[WRITERS];

static inline void writer_rest(void)
{
    writers_parked++;
    while (writers_park) {
        sched_yield();
    }
    writers_parked--;
}

static inline void *writer_run(void *opaque)
{
    Writer *w = opaque;
    for (uint64_t n = 1; !writers_stop; n++) {
        for (uint64_t page = w->first; page < WRITER_PAGES && !writers_stop; page += WRITERS) {
            if (writers_park) {
                writer_rest();
            }
            volatile uint64_t *at = (volatile uint64_t *)(w->host + page * 4096);
            at[0] = n;
            at[511] = n;
            writes++;
        }
    }
    return NULL;
}

static inline void writers_begin(uint8_t *host)
{
    writers_stop = writers_park = false;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (Writer){.host = host, .first = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_run, &writers[i]), 0);
    }
}

/* Returns when all stand between two pages. */
static inline coroutine_fn RUNS_IN_MAIN void writers_wait_parked(void)
{
    writers_park = true;
    while (writers_parked < WRITERS) {
        co_yield_turn();
    }
}

static inline coroutine_fn RUNS_IN_MAIN void writers_go_on(void)
{
    writers_park = false;
    while (writers_parked > 0) {
        co_yield_turn();
    }
}

static inline coroutine_fn RUNS_IN_MAIN void writers_wait_for(uint64_t count)
{
    uint64_t before = writes;
    while (writes < before + count) {
        co_yield_turn();
    }
}

static inline void writers_end(void)
{
    writers_stop = true;
    writers_park = false;
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
    }
}

/* Whether each writer's pages are of one instant. */
static inline void writers_check(const uint8_t *host)
{
    for (unsigned first = 0; first < WRITERS; first++) {
        uint64_t top = *(const uint64_t *)(host + first * 4096), last = top;
        for (uint64_t page = first; page < WRITER_PAGES; page += WRITERS) {
            const uint64_t *at = (const uint64_t *)(host + page * 4096);
            assert_int_equal(at[0], at[511]);
            assert_true(at[0] == last || (last == top && at[0] == top - 1));
            last = at[0];
        }
    }
}

#endif
