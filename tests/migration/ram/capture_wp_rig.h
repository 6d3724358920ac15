/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of two blocks, private or shared, that tests freeze by write protection. */
#ifndef SKIFF_TESTS_MIGRATION_RAM_CAPTURE_WP_RIG_H
#define SKIFF_TESTS_MIGRATION_RAM_CAPTURE_WP_RIG_H

#include <stdio.h>
#include "tests/migration/ram/capture_steps.h"
#include "tests/migration/ram/ram_writers.h"

#define PAGES WRITER_PAGES
#define HIGH_FIRST (RAM_TEST_LOW / 4096) /* the first page of the second block */

static bool shared; /* the memory of the next ram_new() */

static inline void ram_new(RamTest *t)
{
    ram_test_init(t);
    if (shared) {
        ram_test_share(t);
    }
}

static inline void write_page(const RamTest *t, uint64_t page, uint8_t value)
{
    memset(t->host + page * 4096, value, 4096);
}

/* ---- calls in workers ---- */

typedef struct WpTest {
    CaptureWpConfig config;
    CaptureWp *c;
    GError *error;
    unsigned block; /* read */
    uint64_t page;
    unsigned count;
    uint8_t buf[16 * 4096];
} WpTest;

static inline int wp_new(void *opaque)
{
    WpTest *w = opaque;
    enter_worker();
    w->c = capture_wp_new(&w->config, &w->error);
    return w->c != NULL ? 0 : -1;
}

static inline int wp_arm(void *opaque)
{
    enter_worker();
    return capture_wp_arm(((WpTest *)opaque)->c);
}

static inline int wp_freeze(void *opaque)
{
    enter_worker();
    return capture_wp_freeze(((WpTest *)opaque)->c);
}

static inline int wp_free(void *opaque)
{
    enter_worker();
    capture_wp_free(((WpTest *)opaque)->c);
    return 0;
}

static inline int wp_read_block(void *opaque)
{
    WpTest *w = opaque;
    enter_worker();
    return capture_wp_read(w->c, w->block, w->page * 4096, w->buf, w->count * 4096);
}

/* Pages of all memory, in one block. */
static inline coroutine_fn RUNS_IN_MAIN int wp_read(WpTest *w, uint64_t page, unsigned count)
{
    w->block = page >= HIGH_FIRST;
    w->page = w->block ? page - HIGH_FIRST : page;
    w->count = count;
    return co_run_in_worker(wp_read_block, w);
}

static inline coroutine_fn RUNS_IN_MAIN void wp_begin(WpTest *w, RamTest *t)
{
    w->config.ram = &t->ram;
    if (co_run_in_worker(wp_new, w) != 0) {
        fail_msg("%s", w->error->message);
    }
}

static inline coroutine_fn RUNS_IN_MAIN void wp_begin_frozen(WpTest *w, RamTest *t)
{
    wp_begin(w, t);
    assert_int_equal(co_run_in_worker(wp_arm, w), 0);
    assert_int_equal(co_run_in_worker(wp_freeze, w), 0);
}

static inline coroutine_fn RUNS_IN_MAIN void expect_page(WpTest *w, uint64_t page, uint8_t value)
{
    assert_int_equal(wp_read(w, page, 1), 0);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(w->buf[i], value);
    }
}

/* ---- the test program ---- */

/* Skipped where userfaultfd is not permitted. */
#define wp_test_main(tests)                                                                        \
    (capture_wp_is_permitted() ? block_test_main(tests)                                            \
                               : (printf("userfaultfd is not permitted to this user\n"), 77))

#endif
