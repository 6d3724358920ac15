/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 300 */
/* Threads write memory for the first time while it is captured: each image is of one instant, whatever was there then. */
#include "migration/ram/ram_blank.h"
#include "tests/migration/ram/capture_steps.h"
#include "tests/migration/ram/ram_writers.h"
#include "util/loop/sched_point.h"

#define ROUNDS 25u

/* Memory of which every other page of each writer is there, all zero: writes that are lost show beside those that are not. */
static void untouched_init(RamTest *t, bool shared)
{
    ram_test_init(t);
    assert_int_equal(madvise(t->host, RAM_TEST_LOW + RAM_TEST_HIGH, MADV_DONTNEED), 0);
    if (shared) {
        ram_test_share(t);
    }
    for (uint64_t page = 0; page < WRITER_PAGES; page++) {
        if (page / WRITERS % 2 == 0) {
            *(volatile uint8_t *)(t->host + page * 4096) = 0;
        }
    }
}

static unsigned looks;

/* On the capture thread, which has just seen which pages are not there: they come while it protects. */
static void begin_after_looks(void *arg, const void *object)
{
    if (++looks == 2) {
        writers_begin(arg);
    }
}

/* The writers are in their first round over memory, or shortly behind it, when the instant comes, and go on before the image is
 * begun. */
static coroutine_fn RUNS_IN_MAIN void one_round(bool shared, bool fork, unsigned round,
                                                BlockBackend *blk)
{
    RamTest t, loaded;
    RamImage image;
    untouched_init(&t, shared);
    ram_test_init(&loaded);
    Capture c = {.config.ram = &t.ram};
    looks = shared || fork ? 2 : 0;
    if (looks == 2) {
        writers_begin(t.host);
    }
    if (!fork) {
        sched_point_hook("capture_wp.scan", begin_after_looks, t.host);
        capture_ok(&c, capture_begin_wp);
        capture_ok(&c, capture_arm);
        sched_point_reset();
    } else {
        writers_wait_for(round * 20);
    }
    assert_true(looks >= 2);
    writers_wait_parked();
    capture_ok(&c, fork ? capture_begin_fork : capture_freeze);
    writers_go_on();
    writers_wait_for(round * 40);
    assert_true(ram_image_plan(&image, &t.ram, NULL));
    RamTestCall s = {.save = {.blk = blk, .offset = RAM_TEST_OFFSET}, .image = &image};
    s.save.read = fork ? capture_fork_read : capture_wp_read;
    s.save.blank = fork ? capture_fork_blank : capture_wp_blank;
    s.save.opaque = fork ? (void *)c.fork : (void *)c.wp;
    co_call_in(test_home, ram_test_run, &s);
    test_event_wait(&s.done);
    assert_int_equal(s.ret, 0);
    capture_ok(&c, capture_free);
    writers_end();
    assert_null(ram_test_load(blk, &loaded));
    writers_check(loaded.host);
    ram_test_clear(&t);
    ram_test_clear(&loaded);
}

static coroutine_fn RUNS_IN_MAIN void rounds(bool shared, bool fork)
{
    BlockBackend *blk = test_blk("d", "mem,size=16M", true);
    for (unsigned round = 0; round < ROUNDS; round++) {
        one_round(shared, fork, round, blk);
    }
    blk_co_free(blk);
}

BLOCK_TEST(a_fork_while_private_memory_is_touched_for_the_first_time)
{
    rounds(false, true);
}

BLOCK_TEST(protection_while_private_memory_is_touched_for_the_first_time)
{
    if (capture_wp_is_permitted()) {
        rounds(false, false);
    }
}

BLOCK_TEST(protection_while_shared_memory_is_touched_for_the_first_time)
{
    if (capture_wp_is_permitted()) {
        rounds(true, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_while_private_memory_is_touched_for_the_first_time),
        cmocka_unit_test(protection_while_private_memory_is_touched_for_the_first_time),
        cmocka_unit_test(protection_while_shared_memory_is_touched_for_the_first_time),
    };
    if (!capture_wp_is_permitted()) {
        printf("userfaultfd is not permitted to this user: without its tests\n");
    }
    return block_test_main(tests);
}
