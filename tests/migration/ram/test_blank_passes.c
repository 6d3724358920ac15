/* SPDX-License-Identifier: Apache-2.0 */
/* Passes that do not read what was never touched, of RAM that changes meanwhile: a write between the look and the copy is as one
 * between a read and the next pass. */
#include "tests/migration/ram/blank_rig.h"

#define EMPTY_PAGE (BLANK_HIGH_FIRST + 3001) /* set up as never touched */

typedef struct Passes {
    BlankRam t;
    BlockBackend *blk;
    RamImage image;
    RamImageSave save;
    RamPages pages;
    bool dirty; /* the next pass is one over the dirty pages */
    int (*step)(struct Passes *p);
    int ret;
    TestEvent done;
} Passes;

static coroutine_fn int passes_begin(Passes *p)
{
    enter_iothread(test_home);
    return ram_image_co_begin(&p->save, &p->image);
}

static coroutine_fn int passes_pass(Passes *p)
{
    enter_iothread(test_home);
    return ram_image_co_pass(&p->save, p->dirty ? &p->pages : NULL);
}

static coroutine_fn int passes_end(Passes *p)
{
    enter_iothread(test_home);
    return ram_image_co_end(&p->save, &p->image, p->ret);
}

static void passes_run_step(void *opaque)
{
    Passes *p = opaque;
    enter_coroutine();
    p->ret = p->step(p);
    test_event_set(&p->done);
}

static coroutine_fn RUNS_IN_MAIN void passes_step(Passes *p, int (*step)(Passes *p))
{
    p->step = step;
    p->done = (TestEvent){0};
    co_start(test_home, passes_run_step, p);
    test_event_wait(&p->done);
    assert_int_equal(p->ret, 0);
}

/* Begun; nothing is logged yet. */
static coroutine_fn RUNS_IN_MAIN void passes_init(Passes *p, bool shared)
{
    *p = (Passes){0};
    blank_init(&p->t, shared);
    blank_touch_some(&p->t, 4);
    blank_discard(&p->t, EMPTY_PAGE, 1);
    p->t.seeds[EMPTY_PAGE] = 0;
    p->blk = test_blk("d", BLANK_DISK, true);
    assert_true(ram_image_plan(&p->image, &p->t.ram, NULL));
    p->save = (RamImageSave){
        .blk = p->blk, .offset = RAM_TEST_OFFSET, .in_place = &p->t.ram, .target_is_zero = true};
    for (unsigned i = 0; i < p->t.ram.count; i++) {
        assert_int_equal(ram_pages_add(&p->pages, i, p->t.ram.blocks[i].size), 0);
    }
    passes_step(p, passes_begin);
}

static coroutine_fn RUNS_IN_MAIN void passes_clear(Passes *p)
{
    guest_ram_log_stop(&p->t.ram);
    guest_ram_log_free(&p->t.ram);
    ram_pages_free(&p->pages);
    blk_co_free(p->blk);
    blank_clear(&p->t);
}

static coroutine_fn RUNS_IN_MAIN void passes_log(Passes *p)
{
    assert_true(guest_ram_log_start(&p->t.ram, NULL));
}

static coroutine_fn RUNS_IN_MAIN void passes_dirty(Passes *p, uint64_t count)
{
    ram_pages_clear(&p->pages, &p->t.ram);
    assert_int_equal(ram_pages_take_dirty(&p->pages, &p->t.ram), count);
    p->dirty = true;
    passes_step(p, passes_pass);
}

static coroutine_fn RUNS_IN_MAIN void passes_finish(Passes *p)
{
    passes_step(p, passes_end);
    blank_expect_image(&p->t, p->blk);
    passes_clear(p);
}

/* A write as the guest's: it is in the log behind the write. */
static void passes_write(Passes *p, uint64_t page, uint8_t seed)
{
    uint64_t gpa;
    blank_touch(&p->t, page, seed);
    assert_true(guest_ram_find_host(&p->t.ram, blank_page(&p->t, page), &gpa));
    guest_ram_mark(&p->t.ram, gpa, 4096);
}

static void write_after_look(void *arg, const void *object)
{
    passes_write(arg, EMPTY_PAGE, 41);
}

static coroutine_fn RUNS_IN_MAIN void check_write_after_look(bool shared)
{
    Passes p;
    passes_init(&p, shared);
    passes_log(&p);
    sched_point_hook("ram_save.blank", write_after_look, &p);
    passes_step(&p, passes_pass);
    assert_int_equal(sched_point_count("ram_save.blank"), 1);
    sched_point_reset();
    passes_dirty(&p, 1);
    passes_finish(&p);
}

BLOCK_TEST(a_private_page_that_is_written_after_the_look_comes_with_the_next_pass)
{
    check_write_after_look(false);
}

BLOCK_TEST(a_shared_page_that_is_written_after_the_look_comes_with_the_next_pass)
{
    check_write_after_look(true);
}

/* What is written before the log begins comes with the first pass: the look belongs to the pass, not to the begin of the save. */
BLOCK_TEST(a_page_that_is_written_before_the_pass_comes_with_it)
{
    for (unsigned shared = 0; shared < 2; shared++) {
        Passes p;
        passes_init(&p, shared == 1);
        blank_touch(&p.t, EMPTY_PAGE, 42);
        passes_log(&p);
        passes_step(&p, passes_pass);
        passes_dirty(&p, 0);
        passes_finish(&p);
    }
}

/* A balloon marks what it gives back; a read would take it again. */
BLOCK_TEST(pages_that_are_given_back_between_passes_become_zero_and_stay_away)
{
    for (unsigned shared = 0; shared < 2; shared++) {
        Passes p;
        passes_init(&p, shared == 1);
        for (uint64_t page = 5000; page < 5100; page++) {
            blank_touch(&p.t, page, 43);
        }
        passes_log(&p);
        passes_step(&p, passes_pass);
        uint64_t before = blank_populated(&p.t), data = p.save.data;
        blank_discard(&p.t, 5000, 90);
        memset(p.t.seeds + 5000, 0, 90);
        passes_write(&p, 5003, 44); /* and is there again */
        passes_write(&p, 5004, 0);
        passes_dirty(&p, 90);
        assert_int_equal(p.save.data - data, 4096);
        assert_int_equal(blank_populated(&p.t), before - 88);
        passes_finish(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_private_page_that_is_written_after_the_look_comes_with_the_next_pass),
        cmocka_unit_test(a_shared_page_that_is_written_after_the_look_comes_with_the_next_pass),
        cmocka_unit_test(a_page_that_is_written_before_the_pass_comes_with_it),
        cmocka_unit_test(pages_that_are_given_back_between_passes_become_zero_and_stay_away),
    };
    return block_test_main(tests);
}
