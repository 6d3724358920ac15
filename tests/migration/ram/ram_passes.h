/* SPDX-License-Identifier: Apache-2.0 */
/* An image that is saved step by step: its begin, passes and its end run in the home of its file. */
#ifndef SKIFF_TESTS_MIGRATION_RAM_RAM_PASSES_H
#define SKIFF_TESTS_MIGRATION_RAM_RAM_PASSES_H

#include "tests/migration/ram/ram_test.h"

typedef struct RamPasses {
    BlockBackend *blk;
    RamImage image;
    RamImageSave save;
    RamPages pages;
    bool dirty; /* the next pass is one over the dirty pages */
    int (*step)(struct RamPasses *p);
    int ret;
    TestEvent done;
} RamPasses;

static inline coroutine_fn int passes_begin(RamPasses *p)
{
    enter_iothread(test_home);
    return ram_image_co_begin(&p->save, &p->image);
}

static inline coroutine_fn int passes_pass(RamPasses *p)
{
    enter_iothread(test_home);
    return ram_image_co_pass(&p->save, p->dirty ? &p->pages : NULL);
}

static inline coroutine_fn int passes_end(RamPasses *p)
{
    enter_iothread(test_home);
    return ram_image_co_end(&p->save, &p->image, p->ret);
}

static inline void passes_run_step(void *opaque)
{
    RamPasses *p = opaque;
    enter_coroutine();
    p->ret = p->step(p);
    test_event_set(&p->done);
}

static inline void passes_start(RamPasses *p, int (*step)(RamPasses *p))
{
    p->step = step;
    p->done = (TestEvent){0};
    co_start(test_home, passes_run_step, p);
}

static inline coroutine_fn RUNS_IN_MAIN int passes_step(RamPasses *p, int (*step)(RamPasses *p))
{
    passes_start(p, step);
    test_event_wait(&p->done);
    return p->ret;
}

/* Begins an image of @ram in @p->blk, by @p->save. */
static inline coroutine_fn RUNS_IN_MAIN void passes_open(RamPasses *p, const GuestRam *ram)
{
    assert_true(ram_image_plan(&p->image, ram, NULL));
    for (unsigned i = 0; i < ram->count; i++) {
        assert_int_equal(ram_pages_add(&p->pages, i, ram->blocks[i].size), 0);
    }
    assert_int_equal(passes_step(p, passes_begin), 0);
}

/* The log of @ram ends, too. */
static inline coroutine_fn RUNS_IN_MAIN void passes_close(RamPasses *p, GuestRam *ram)
{
    guest_ram_log_stop(ram);
    guest_ram_log_free(ram);
    ram_pages_free(&p->pages);
    blk_co_free(p->blk);
}

/* Takes the dirty pages, of which there are @count, for the next pass. */
static inline void passes_take(RamPasses *p, GuestRam *ram, uint64_t count)
{
    ram_pages_clear(&p->pages, ram);
    assert_int_equal(ram_pages_take_dirty(&p->pages, ram), count);
    p->dirty = true;
}

#endif
