/* SPDX-License-Identifier: Apache-2.0 */
/* Passes that do not read what was never touched, of RAM that changes meanwhile: a write between the look and the copy is as one
 * between a read and the next pass. */
#include "tests/migration/ram/blank_rig.h"
#include "tests/migration/ram/ram_passes.h"

#define EMPTY_PAGE (BLANK_HIGH_FIRST + 3001) /* set up as never touched */

typedef struct Passes {
    BlankRam t;
    RamPasses run;
} Passes;

/* Begun; nothing is logged yet. */
static coroutine_fn RUNS_IN_MAIN void passes_init(Passes *p, bool shared)
{
    *p = (Passes){0};
    blank_init(&p->t, shared);
    blank_touch_some(&p->t, 4);
    blank_discard(&p->t, EMPTY_PAGE, 1);
    p->t.seeds[EMPTY_PAGE] = 0;
    p->run.blk = test_blk("d", BLANK_DISK, true);
    p->run.save = (RamImageSave){.blk = p->run.blk,
                                 .offset = RAM_TEST_OFFSET,
                                 .in_place = &p->t.ram,
                                 .target_is_zero = true};
    passes_open(&p->run, &p->t.ram);
}

static coroutine_fn RUNS_IN_MAIN void passes_clear(Passes *p)
{
    passes_close(&p->run, &p->t.ram);
    blank_clear(&p->t);
}

static coroutine_fn RUNS_IN_MAIN void passes_log(Passes *p)
{
    assert_true(guest_ram_log_start(&p->t.ram, NULL));
}

static coroutine_fn RUNS_IN_MAIN void passes_dirty(Passes *p, uint64_t count)
{
    passes_take(&p->run, &p->t.ram, count);
    assert_int_equal(passes_step(&p->run, passes_pass), 0);
}

static coroutine_fn RUNS_IN_MAIN void passes_finish(Passes *p)
{
    assert_int_equal(passes_step(&p->run, passes_end), 0);
    blank_expect_image(&p->t, p->run.blk);
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
    assert_int_equal(passes_step(&p.run, passes_pass), 0);
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
        assert_int_equal(passes_step(&p.run, passes_pass), 0);
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
        assert_int_equal(passes_step(&p.run, passes_pass), 0);
        uint64_t before = blank_populated(&p.t), data = p.run.save.data;
        blank_discard(&p.t, 5000, 90);
        memset(p.t.seeds + 5000, 0, 90);
        passes_write(&p, 5003, 44); /* and is there again */
        passes_write(&p, 5004, 0);
        passes_dirty(&p, 90);
        assert_int_equal(p.run.save.data - data, 4096);
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
