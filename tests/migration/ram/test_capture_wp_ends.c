/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits while memory is frozen by write protection, and how it ends: nobody waits for storage but vCPUs that are
 * braked; whatever happens, all go on. */
#include "tests/migration/ram/capture_wp_rig.h"
#include "util/loop/sched_point.h"
#include "util/sys/sys_fault.h"

/* ---- the bound ---- */

typedef struct Brake {
    _Atomic bool on;
    _Atomic unsigned count;
} Brake;

static void brake_set(void *opaque, bool on)
{
    Brake *b = opaque;
    assert_true(b->on != on);
    b->on = on;
    b->count++;
    writers_park = on;
}

#define BOUND (64 * 4096u)

static coroutine_fn RUNS_IN_MAIN void brake_wait(const Brake *b, bool on)
{
    while (b->on != on) {
        co_yield_turn();
    }
}

/* Writers that are braked between two pages, as vCPUs are. */
BLOCK_TEST(writers_are_braked_at_the_bound_and_go_on_when_pages_are_read)
{
    RamTest t;
    Brake brake = {0};
    ram_new(&t);
    WpTest w = {.config = {.bound = BOUND, .brake = brake_set, .opaque = &brake}};
    wp_begin_frozen(&w, &t);
    writers_begin(t.host);
    brake_wait(&brake, true);
    while (writers_parked < WRITERS) {
        co_yield_turn();
    }
    /* main is not braked, and beyond the bound */
    write_page(&t, PAGES - 1, 0x55);
    uint64_t before = writes;
    uint64_t peak = capture_wp_stats(w.c).held_peak;
    assert_in_range(peak, BOUND, BOUND + (WRITERS + 1) * 32 * 4096);
    for (uint64_t page = 0; brake.on; page += 16) {
        assert_int_equal(wp_read(&w, page, 16), 0);
        co_yield_turn();
    }
    while (writes == before) {
        co_yield_turn();
    }
    capture_wp_end(w.c);
    brake_wait(&brake, false);
    writers_wait_for(2 * PAGES);
    writers_end();
    assert_true(capture_wp_stats(w.c).brakes >= 1);
    co_run_in_worker(wp_free, &w);
    assert_false(brake.on);
    ram_test_clear(&t);
}

static unsigned urgent_pieces;

static bool urgent(void *opaque, unsigned *block, uint64_t *offset)
{
    bool is = capture_wp_urgent(opaque, block, offset);
    assert_true(!is || *block == 1);
    urgent_pieces += is;
    return is;
}

/* A page that was read twice would make the save fail. */
BLOCK_TEST(pieces_that_are_held_are_wanted_first_and_read_once)
{
    RamTest t, before, loaded;
    Brake brake = {0};
    RamImage image;
    ram_new(&t);
    ram_test_init(&before);
    ram_test_init(&loaded);
    ram_test_fill(&t, 5);
    memcpy(before.host, t.host, RAM_TEST_LOW + RAM_TEST_HIGH);
    WpTest w = {.config = {.bound = BOUND, .brake = brake_set, .opaque = &brake}};
    wp_begin_frozen(&w, &t);
    for (uint64_t page = HIGH_FIRST; !brake.on; page++) {
        write_page(&t, page, 0x11);
    }
    assert_true(ram_image_plan(&image, &t.ram, NULL));
    BlockBackend *blk = test_blk("d", "mem,size=16M", true);
    RamTestCall s = {.save = {.blk = blk,
                              .offset = RAM_TEST_OFFSET,
                              .read = capture_wp_read,
                              .opaque = w.c,
                              .urgent = urgent},
                     .image = &image};
    co_call_in(test_home, ram_test_run, &s);
    test_event_wait(&s.done);
    assert_int_equal(s.ret, 0);
    assert_true(urgent_pieces > 0);
    brake_wait(&brake, false);
    co_run_in_worker(wp_free, &w);
    assert_null(ram_test_load(blk, &loaded));
    assert_true(ram_test_equal(&loaded, &before));
    blk_co_free(blk);
    ram_test_clear(&t);
    ram_test_clear(&before);
    ram_test_clear(&loaded);
}

BLOCK_TEST(an_end_while_storage_hangs_lets_all_go)
{
    RamTest t;
    Brake brake = {0};
    ram_new(&t);
    WpTest w = {.config = {.bound = BOUND, .brake = brake_set, .opaque = &brake}};
    wp_begin_frozen(&w, &t);
    writers_begin(t.host);
    brake_wait(&brake, true);
    capture_wp_end(w.c);
    writers_wait_for(2 * PAGES);
    assert_false(brake.on);
    assert_int_equal(wp_read(&w, 0, 1), -ECANCELED);
    assert_null(capture_wp_failure(w.c));
    co_run_in_worker(wp_free, &w);
    writers_end();
    ram_test_clear(&t);
}

/* Nothing is read: the guest is more than the snapshot. */
BLOCK_TEST(it_is_given_up_when_storage_takes_nothing_for_too_long)
{
    RamTest t;
    Brake brake = {0};
    ram_new(&t);
    WpTest w = {.config = {.bound = BOUND, .brake = brake_set, .opaque = &brake, .patience_ms = 1}};
    wp_begin_frozen(&w, &t);
    writers_begin(t.host);
    while (capture_wp_failure(w.c) == NULL) {
        co_yield_turn();
    }
    writers_wait_for(2 * PAGES);
    assert_false(brake.on);
    assert_int_equal(wp_read(&w, 0, 1), -ETIMEDOUT);
    assert_non_null(strstr(capture_wp_failure(w.c), "storage takes nothing"));
    co_run_in_worker(wp_free, &w);
    writers_end();
    ram_test_clear(&t);
}

/* ---- the end ---- */

typedef struct Reader {
    WpTest w;
    TestEvent done;
    int ret;
} Reader;

static void reader_run(void *opaque)
{
    Reader *r = opaque;
    enter_coroutine();
    enter_main();
    r->ret = wp_read(&r->w, 0, 16);
    test_event_set(&r->done);
}

static void end_it(void *arg, const void *object)
{
    capture_wp_end(arg);
}

/* The end comes while a read has copied memory and waits for the capture thread. */
BLOCK_TEST(an_end_during_a_read_makes_it_fail)
{
    RamTest t;
    ram_new(&t);
    Reader r = {0};
    wp_begin_frozen(&r.w, &t);
    sched_point_hook("capture_wp.fault", end_it, r.w.c);
    sched_point_hold("capture_wp.read");
    co_start(test_main, reader_run, &r);
    while (sched_point_count("capture_wp.read") == 0) {
        co_yield_turn();
    }
    write_page(&t, 3, 1);
    sched_point_release("capture_wp.read");
    test_event_wait(&r.done);
    assert_int_equal(r.ret, -ECANCELED);
    sched_point_reset();
    co_run_in_worker(wp_free, &r.w);
    ram_test_clear(&t);
}

BLOCK_TEST(it_can_end_in_each_phase_and_the_next_one_works)
{
    RamTest t;
    ram_new(&t);
    for (unsigned phase = 0; phase < 4; phase++) {
        WpTest w = {0};
        write_page(&t, 4, (uint8_t)phase);
        wp_begin(&w, &t);
        assert_true(phase < 1 || co_run_in_worker(wp_arm, &w) == 0);
        assert_true(phase < 2 || co_run_in_worker(wp_freeze, &w) == 0);
        if (phase == 3) {
            capture_wp_end(w.c);
            capture_wp_end(w.c);
        }
        co_run_in_worker(wp_free, &w);
        write_page(&t, 4, 0x66); /* nobody would wake this thread */
    }
    WpTest w = {0};
    wp_begin_frozen(&w, &t);
    write_page(&t, 4, 0x67);
    expect_page(&w, 4, 0x66);
    co_run_in_worker(wp_free, &w);
    ram_test_clear(&t);
}

BLOCK_TEST(who_gives_it_up_says_why)
{
    RamTest t;
    ram_new(&t);
    WpTest w = {0};
    wp_begin_frozen(&w, &t);
    capture_wp_give_up(w.c, "another process has come");
    assert_int_equal(wp_read(&w, 0, 1), -ECANCELED);
    assert_string_equal(capture_wp_failure(w.c), "another process has come");
    co_run_in_worker(wp_free, &w);
    ram_test_clear(&t);
}

/* The kernel refuses the Nth change of protection, at any time: the writer goes on, reads fail. */
BLOCK_TEST(a_failure_of_the_kernel_lets_all_go)
{
    for (unsigned n = 0; n < 12; n++) {
        RamTest t;
        ram_new(&t);
        WpTest w = {0};
        wp_begin(&w, &t);
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = n, .count = 1, .error = ENOMEM});
        int ret = co_run_in_worker(wp_arm, &w);
        ret = ret != 0 ? ret : co_run_in_worker(wp_freeze, &w);
        for (uint64_t page = 0; page < PAGES; page += 17) {
            write_page(&t, page, (uint8_t)n);
        }
        for (uint64_t page = 0; page < HIGH_FIRST && ret == 0; page += 16) {
            ret = wp_read(&w, page, 16);
        }
        assert_int_equal(sys_fault_hits(), 1);
        sys_fault_set(NULL);
        assert_int_equal(ret, -ENOMEM);
        assert_non_null(strstr(capture_wp_failure(w.c), "the kernel"));
        co_run_in_worker(wp_free, &w);
        ram_test_clear(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers_are_braked_at_the_bound_and_go_on_when_pages_are_read),
        cmocka_unit_test(pieces_that_are_held_are_wanted_first_and_read_once),
        cmocka_unit_test(an_end_while_storage_hangs_lets_all_go),
        cmocka_unit_test(it_is_given_up_when_storage_takes_nothing_for_too_long),
        cmocka_unit_test(an_end_during_a_read_makes_it_fail),
        cmocka_unit_test(it_can_end_in_each_phase_and_the_next_one_works),
        cmocka_unit_test(who_gives_it_up_says_why),
        cmocka_unit_test(a_failure_of_the_kernel_lets_all_go),
    };
    return wp_test_main(tests);
}
