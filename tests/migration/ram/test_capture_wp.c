/* SPDX-License-Identifier: Apache-2.0 */
/* Memory frozen by write protection: what is read is of one instant while threads and the kernel write on, and what
 * cannot be protected is refused. */
#include "hw/core/ram_keep.h"
#include "migration/ram/capture.h"
#include "tests/migration/ram/capture_wp_rig.h"
#include "util/sys/sys_fault.h"

/* ---- one instant ---- */

static coroutine_fn RUNS_IN_MAIN void save_round(RamTest *t, RamTest *loaded, BlockBackend *blk)
{
    WpTest w = {0};
    wp_begin(&w, t);
    assert_int_equal(co_run_in_worker(wp_arm, &w), 0);
    writers_wait_parked();
    assert_int_equal(co_run_in_worker(wp_freeze, &w), 0);
    memset(t->host + RAM_TEST_LOW - 4096 + 8, 0x11, 64); /* after the instant */
    writers_go_on();
    writers_wait_for(3 * PAGES); /* all pages have changed before the first is read */
    RamImage image;
    assert_true(ram_image_plan(&image, &t->ram, NULL));
    RamTestCall s = {
        .save = {.blk = blk, .offset = RAM_TEST_OFFSET, .read = capture_wp_read, .opaque = w.c},
        .image = &image};
    co_call_in(test_home, ram_test_run, &s);
    test_event_wait(&s.done);
    assert_int_equal(s.ret, 0);
    assert_true(capture_wp_stats(w.c).held_peak > 0);
    assert_null(capture_wp_failure(w.c));
    co_run_in_worker(wp_free, &w);
    assert_null(ram_test_load(blk, loaded));
    writers_check(loaded->host);
    assert_int_equal(loaded->host[RAM_TEST_LOW - 4096 + 8], 0);
    memset(t->host + RAM_TEST_LOW - 4096 + 8, 0, 64);
}

static coroutine_fn RUNS_IN_MAIN void images_are_of_one_instant(void)
{
    RamTest t, b;
    ram_new(&t);
    ram_test_init(&b);
    writers_begin(t.host);
    BlockBackend *blk = test_blk("d", "mem,size=16M", true);
    for (unsigned round = 0; round < 20; round++) {
        save_round(&t, &b, blk);
    }
    writers_end();
    blk_co_free(blk);
    ram_test_clear(&t);
    ram_test_clear(&b);
}

BLOCK_TEST(images_of_private_memory_are_of_one_instant_while_threads_write_on)
{
    images_are_of_one_instant();
}

BLOCK_TEST(images_of_shared_memory_are_of_one_instant_while_threads_write_on)
{
    shared = true;
    images_are_of_one_instant();
    shared = false;
}

/* A page that was never touched, one that is written after the instant, one that was read before. */
static coroutine_fn RUNS_IN_MAIN void pages_of_each_kind(void)
{
    RamTest t;
    ram_new(&t);
    WpTest w = {0};
    write_page(&t, 1, 0x21);
    write_page(&t, 2, 0x22);
    write_page(&t, PAGES - 1, 0x23);
    wp_begin(&w, &t);
    write_page(&t, 3, 0x33); /* before anything is protected */
    assert_int_equal(co_run_in_worker(wp_arm, &w), 0);
    write_page(&t, 2, 0x32); /* opened again */
    write_page(&t, 5, 0x35);
    write_page(&t, 40, 0x36);
    assert_int_equal(co_run_in_worker(wp_freeze, &w), 0);
    assert_int_equal(capture_wp_stats(w.c).open_at_freeze, 3);
    for (uint64_t page = 0; page < PAGES; page += page == 7 ? PAGES - 8 : 1) {
        write_page(&t, page, 0x44);
        write_page(&t, page, 0x45);
    }
    expect_page(&w, 0, 0);
    expect_page(&w, 1, 0x21);
    expect_page(&w, 2, 0x32);
    expect_page(&w, 3, 0x33);
    expect_page(&w, 40, 0x36);
    expect_page(&w, 5, 0x35);
    expect_page(&w, PAGES - 1, 0x23);
    assert_int_equal(capture_wp_stats(w.c).held_peak, 9 * 4096);
    assert_int_equal(wp_read(&w, 2, 1), -ESTALE);
    assert_int_equal(t.host[4096], 0x45);
    co_run_in_worker(wp_free, &w);
    ram_test_clear(&t);
}

BLOCK_TEST(private_pages_are_those_of_the_instant)
{
    pages_of_each_kind();
}

BLOCK_TEST(shared_pages_are_those_of_the_instant)
{
    shared = true;
    pages_of_each_kind();
    shared = false;
}

BLOCK_TEST(what_the_kernel_writes_is_covered)
{
    RamTest t;
    ram_new(&t);
    int ends[2];
    uint8_t data[4096];
    memset(data, 0x77, sizeof(data));
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], data, sizeof(data)), sizeof(data));
    write_page(&t, 9, 0x19);
    WpTest w = {0};
    wp_begin_frozen(&w, &t);
    assert_int_equal(read(ends[0], t.host + 9 * 4096, sizeof(data)), sizeof(data));
    assert_int_equal(t.host[9 * 4096], 0x77);
    expect_page(&w, 9, 0x19);
    co_run_in_worker(wp_free, &w);
    close(ends[0]);
    close(ends[1]);
    ram_test_clear(&t);
}

/* ---- memory that is kept, refused, taken ---- */

typedef struct Discard {
    RamTest *t;
    uint64_t page;
} Discard;

static int discard_run(void *opaque)
{
    const Discard *d = opaque;
    enter_worker();
    return guest_ram_discard(&d->t->ram, d->page * 4096, 4096);
}

BLOCK_TEST(pages_are_not_discarded_meanwhile)
{
    RamTest t;
    ram_new(&t);
    Discard d = {&t, 6};
    write_page(&t, 6, 0x46);
    WpTest w = {0};
    wp_begin(&w, &t);
    assert_int_equal(co_run_in_worker(discard_run, &d), -EBUSY);
    assert_int_equal(co_run_in_worker(wp_arm, &w), 0);
    assert_int_equal(co_run_in_worker(wp_freeze, &w), 0);
    assert_int_equal(co_run_in_worker(discard_run, &d), -EBUSY);
    assert_int_equal(t.host[6 * 4096], 0x46);
    expect_page(&w, 6, 0x46);
    co_run_in_worker(wp_free, &w);
    assert_int_equal(co_run_in_worker(discard_run, &d), 0);
    assert_int_equal(t.host[6 * 4096], 0);
    ram_test_clear(&t);
}

static int keepers(void *opaque)
{
    enter_worker();
    return (int)guest_ram_keepers();
}

static coroutine_fn RUNS_IN_MAIN void expect_refused(RamTest *t, const char *why)
{
    WpTest w = {.config.ram = &t->ram};
    assert_int_equal(co_run_in_worker(wp_new, &w), -1);
    if (strstr(w.error->message, why) == NULL) {
        fail_msg("%s", w.error->message);
    }
    g_clear_error(&w.error);
    assert_int_equal(co_run_in_worker(keepers, NULL), 0);
}

BLOCK_TEST(what_cannot_be_protected_is_refused_with_the_reason)
{
    RamTest t;
    ram_new(&t);
    t.ram.blocks[1].of_file = true;
    expect_refused(&t, "'high' is mapped from a state file");
    t.ram.blocks[1].of_file = false;
    uint8_t *host = t.ram.blocks[1].host;
    t.ram.blocks[1].host = MAP_FAILED;
    expect_refused(&t, "'high' has no whole pages");
    t.ram.blocks[1].host = host;
    sys_fault_set(&(SysFault){.calls = "ioctl", .after = 1, .count = 1, .error = EBUSY});
    expect_refused(&t, "'low' cannot be registered: another save has it");
    sys_fault_set(NULL);
    capture_forbid("it is a test");
    expect_refused(&t, "it is a test");
    capture_forbid(NULL);
    ram_test_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_private_memory_are_of_one_instant_while_threads_write_on),
        cmocka_unit_test(images_of_shared_memory_are_of_one_instant_while_threads_write_on),
        cmocka_unit_test(private_pages_are_those_of_the_instant),
        cmocka_unit_test(shared_pages_are_those_of_the_instant),
        cmocka_unit_test(what_the_kernel_writes_is_covered),
        cmocka_unit_test(pages_are_not_discarded_meanwhile),
        cmocka_unit_test(what_cannot_be_protected_is_refused_with_the_reason),
    };
    return wp_test_main(tests);
}
