/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 300 */
/* Saves that do not read what was never touched: in each kind of memory and by each kind of capture the image is right, and
 * nothing is populated; a page that is written between the look and its use is caught. */
#include <poll.h>
#include <signal.h>
#include "tests/migration/ram/blank_rig.h"
#include "tests/migration/ram/capture_steps.h"

/* ---- captures ---- */

static int capture_look(void *opaque)
{
    const Capture *c = opaque;
    enter_worker();
    return c->fork != NULL ? capture_fork_blank(c->fork, 1, 0, c->pages, c->bits)
                           : capture_wp_blank(c->wp, 1, 0, c->pages, c->bits);
}

static coroutine_fn RUNS_IN_MAIN void capture_frozen_wp(Capture *c)
{
    capture_ok(c, capture_begin_wp);
    capture_ok(c, capture_arm);
    capture_ok(c, capture_freeze);
}

/* ---- whole saves ---- */

typedef enum Way { IN_PLACE, FORK, WRITE_PROTECTION } Way;

static coroutine_fn RUNS_IN_MAIN RamImageSave begin_save(Capture *c, Way way)
{
    if (way == FORK) {
        capture_ok(c, capture_begin_fork);
        return (RamImageSave){
            .read = capture_fork_read, .blank = capture_fork_blank, .opaque = c->fork};
    }
    if (way == WRITE_PROTECTION) {
        capture_frozen_wp(c);
        return (RamImageSave){.read = capture_wp_read, .blank = capture_wp_blank, .opaque = c->wp};
    }
    return (RamImageSave){.in_place = c->config.ram};
}

/* Twice: what the first image has where the second one has zeroes is gone from the file, too, and it may be one that is
 * known to have zeroes. */
static coroutine_fn RUNS_IN_MAIN void save_and_load(bool shared, Way way)
{
    if (way == WRITE_PROTECTION && !capture_wp_is_permitted()) {
        return;
    }
    for (unsigned round = 0; round < 2; round++) {
        BlankRam t;
        BlockBackend *blk = test_blk("d", BLANK_DISK, true);
        blank_init(&t, shared);
        blank_touch_some(&t, 100 + round);
        for (unsigned again = 0; again < 2; again++) {
            uint64_t before = blank_populated(&t);
            Capture c = {.config.ram = &t.ram};
            RamImageSave how = begin_save(&c, way);
            how.target_is_zero = round == 1 && again == 0;
            assert_int_equal(blank_save(&t, blk, how), 0);
            capture_ok(&c, capture_free);
            assert_int_equal(blank_populated(&t), before);
            blank_expect_image(&t, blk);
            blank_touch_some(&t, 200 + round);
            blank_discard(&t, 0, 3);
            memset(t.seeds, 0, 3);
        }
        blk_co_free(blk);
        blank_clear(&t);
    }
}

BLOCK_TEST(private_memory_is_saved_in_place)
{
    save_and_load(false, IN_PLACE);
}

BLOCK_TEST(shared_memory_is_saved_in_place)
{
    save_and_load(true, IN_PLACE);
}

BLOCK_TEST(private_memory_is_saved_from_a_fork)
{
    save_and_load(false, FORK);
}

BLOCK_TEST(private_memory_is_saved_under_write_protection)
{
    save_and_load(false, WRITE_PROTECTION);
}

BLOCK_TEST(shared_memory_is_saved_under_write_protection)
{
    save_and_load(true, WRITE_PROTECTION);
}

/* ---- the fork: the child's page tables count ---- */

/* The page tables of this process say of the first page, at the time of the look, that it is not there. */
BLOCK_TEST(a_page_that_is_given_back_after_the_fork_is_in_the_image)
{
    BlankRam t;
    blank_init(&t, false);
    blank_touch_some(&t, 1);
    blank_touch(&t, 5000, 9);
    Capture c = {.config.ram = &t.ram};
    RamImageSave how = begin_save(&c, FORK);
    blank_discard(&t, 5000, 1);
    blank_write(&t, 6000, 10); /* not there at the instant, unless it is among the random ones */
    BlockBackend *blk = test_blk("d", BLANK_DISK, true);
    assert_int_equal(blank_save(&t, blk, how), 0);
    capture_ok(&c, capture_free);
    blank_expect_image(&t, blk);
    blk_co_free(blk);
    blank_clear(&t);
}

static void kill_child(void *arg, const void *object)
{
    Capture *c = arg;
    if (++c->looks != c->kill_at) {
        return;
    }
    struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, capture_fork_pid(c->fork), 0),
                       .events = POLLIN};
    kill(capture_fork_pid(c->fork), SIGKILL);
    assert_int_equal(poll(&p, 1, 60000), 1);
    close(p.fd);
}

/* A process that ends loses its page tables, so a look that meets the end finds too much. */
BLOCK_TEST(a_look_at_a_child_that_has_ended_meanwhile_counts_for_nothing)
{
    BlankRam t;
    blank_init(&t, false);
    blank_touch_some(&t, 1);
    Capture c = {.config.ram = &t.ram, .kill_at = 1};
    RamImageSave how = begin_save(&c, FORK);
    sched_point_hook("capture_fork.blank", kill_child, &c);
    BlockBackend *blk = test_blk("d", BLANK_DISK, true);
    assert_int_equal(blank_save(&t, blk, how), -ESRCH);
    sched_point_reset();
    assert_int_not_equal(blank_save(&t, blk, how), 0); /* nor does a look that begins afterwards */
    capture_ok(&c, capture_free);
    blk_co_free(blk);
    blank_clear(&t);
}

/* It ends in the last look, and nothing is left to be read, which would fail. */
BLOCK_TEST(a_child_that_has_ended_is_found_without_a_page_to_read)
{
    BlankRam t;
    blank_init(&t, false);
    Capture c = {.config.ram = &t.ram, .kill_at = 3};
    RamImageSave how = begin_save(&c, FORK);
    BlockBackend *blk = test_blk("d", BLANK_DISK, true);
    assert_int_equal(blank_save(&t, blk, how), 0);
    sched_point_hook("capture_fork.blank", kill_child, &c);
    assert_int_equal(blank_save(&t, blk, how), -ESRCH);
    assert_int_equal(c.looks, 3);
    sched_point_reset();
    capture_ok(&c, capture_free);
    blk_co_free(blk);
    blank_clear(&t);
}

/* ---- write protection ---- */

typedef struct Toucher {
    const BlankRam *t;
    uint64_t page;
    unsigned looks;
    _Atomic int tid;
    _Atomic bool wrote;
    pthread_t thread;
} Toucher;

static void *toucher_run(void *opaque)
{
    Toucher *w = opaque;
    w->tid = (int)syscall(SYS_gettid);
    blank_write(w->t, w->page, 21);
    w->wrote = true;
    return NULL;
}

/* Whether the thread waits in the kernel. */
static bool toucher_waits(const Toucher *w)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/stat", (int)w->tid);
    g_autofree char *text = NULL;
    const char *name_end = g_file_get_contents(path, &text, NULL, NULL) ? strrchr(text, ')') : NULL;
    return name_end != NULL && (name_end[2] == 'S' || name_end[2] == 'D');
}

/* On the capture thread, which goes on when the writer has written or waits for it. The second look is at the block's
 * begin. */
static void touch_after_look(void *arg, const void *object)
{
    Toucher *w = arg;
    if (++w->looks == 2) {
        assert_int_equal(pthread_create(&w->thread, NULL, toucher_run, w), 0);
        while (!w->wrote && (w->tid == 0 || !toucher_waits(w))) {
            sched_yield();
        }
    }
}

/* The thread has found that the page is not there, and has not gone on yet. The writer waits, or has written by then. */
BLOCK_TEST(a_page_that_is_written_between_the_look_and_the_instant_is_in_the_image)
{
    if (!capture_wp_is_permitted()) {
        return;
    }
    BlankRam t;
    blank_init(&t, false);
    blank_touch_some(&t, 1);
    Capture c = {.config.ram = &t.ram};
    Toucher w = {.t = &t, .page = BLANK_HIGH_FIRST + 3000};
    assert_int_equal(t.seeds[w.page], 0);
    capture_ok(&c, capture_begin_wp);
    sched_point_hook("capture_wp.scan", touch_after_look, &w);
    capture_ok(&c, capture_arm);
    sched_point_reset();
    assert_true(w.looks > 2);
    pthread_join(w.thread, NULL);
    t.seeds[w.page] = 21;
    capture_ok(&c, capture_freeze);
    BlockBackend *blk = test_blk("d", BLANK_DISK, true);
    RamImageSave how = {.read = capture_wp_read, .blank = capture_wp_blank, .opaque = c.wp};
    assert_int_equal(blank_save(&t, blk, how), 0);
    capture_ok(&c, capture_free);
    blank_expect_image(&t, blk);
    blk_co_free(blk);
    blank_clear(&t);
}

/* Pages that are written when the look has found them, and before the capture thread knows. */
static void write_late(void *arg, const void *object)
{
    const BlankRam *t = arg;
    for (uint64_t page = BLANK_HIGH_FIRST + 40; page < BLANK_PAGES; page += 5000) {
        blank_write(t, page, 30);
    }
}

static coroutine_fn RUNS_IN_MAIN void write_after_the_instant(bool shared)
{
    if (!capture_wp_is_permitted()) {
        return;
    }
    BlankRam t;
    blank_init(&t, shared);
    blank_touch_some(&t, 1);
    for (uint64_t page = BLANK_HIGH_FIRST + 40; page < BLANK_PAGES; page += 5000) {
        blank_discard(&t, page, 1);
        t.seeds[page] = 0;
    }
    Capture c = {.config.ram = &t.ram};
    RamImageSave how = begin_save(&c, WRITE_PROTECTION);
    blank_write(&t, 3, 30); /* before the look, of a page that is not there and of one that is */
    blank_write(&t, BLANK_HIGH_FIRST, 30);
    sched_point_hook("capture_wp.blank", write_late, &t);
    BlockBackend *blk = test_blk("d", BLANK_DISK, true);
    assert_int_equal(blank_save(&t, blk, how), 0);
    sched_point_reset();
    capture_ok(&c, capture_free);
    blank_expect_image(&t, blk);
    uint8_t written[4096];
    test_fill(written, sizeof(written), 30);
    assert_memory_equal(blank_page(&t, 3), written, sizeof(written));
    assert_memory_equal(blank_page(&t, BLANK_HIGH_FIRST + 40), written, sizeof(written));
    blk_co_free(blk);
    blank_clear(&t);
}

BLOCK_TEST(private_pages_that_are_written_after_the_instant_are_zero_in_the_image)
{
    write_after_the_instant(false);
}

BLOCK_TEST(shared_pages_that_are_written_after_the_instant_are_zero_in_the_image)
{
    write_after_the_instant(true);
}

/* A read that was begun without a look gives the bytes of the instant, too. */
BLOCK_TEST(an_empty_page_can_be_read)
{
    if (!capture_wp_is_permitted()) {
        return;
    }
    BlankRam t;
    blank_init(&t, false);
    blank_touch_some(&t, 1);
    Capture c = {.config.ram = &t.ram};
    RamImageSave how = begin_save(&c, WRITE_PROTECTION);
    how.blank = NULL;
    for (uint64_t page = 1; page < BLANK_PAGES; page += 97) {
        blank_write(&t, page, 31);
    }
    BlockBackend *blk = test_blk("d", BLANK_DISK, true);
    assert_int_equal(blank_save(&t, blk, how), 0);
    capture_ok(&c, capture_free);
    blank_expect_image(&t, blk);
    blk_co_free(blk);
    blank_clear(&t);
}

/* Not even page tables: neither memory nor a marker, but in short gaps between pages that are there. */
BLOCK_TEST(private_memory_that_was_never_touched_takes_no_protection)
{
    if (!capture_wp_is_permitted()) {
        return;
    }
    BlankRam t;
    g_autofree uint64_t *bits = g_new0(uint64_t, BLANK_PAGES / 64 + 1);
    blank_init(&t, false);
    blank_touch(&t, 100, 1);
    blank_touch(&t, 110, 1);
    blank_touch(&t, 10000, 1);
    Capture c = {.config.ram = &t.ram};
    begin_save(&c, WRITE_PROTECTION);
    int fd = ram_pagemap_open(0);
    assert_int_equal(ram_pagemap_find_empty(fd, t.host, BLANK_PAGES, false, bits), 0);
    close(fd);
    assert_in_range(ram_blank_count(bits, BLANK_PAGES), BLANK_PAGES - 12, BLANK_PAGES - 3);
    uint8_t written[4096];
    test_fill(written, sizeof(written), 2);
    blank_write(&t, 105, 2); /* in the gap */
    assert_memory_equal(blank_page(&t, 105), written, sizeof(written));
    capture_ok(&c, capture_free);
    blank_clear(&t);
}

typedef struct Brake {
    _Atomic bool on;
} Brake;

static void brake_set(void *opaque, bool on)
{
    ((Brake *)opaque)->on = on;
}

/* Bytes of zeroes that are held for what is not wanted are dropped, and the guest goes on. */
BLOCK_TEST(a_look_drops_what_is_held_for_blank_pages)
{
    if (!capture_wp_is_permitted()) {
        return;
    }
    BlankRam t;
    Brake brake = {0};
    blank_init(&t, true);
    Capture c = {
        .config = {.ram = &t.ram, .bound = 64 * 4096, .brake = brake_set, .opaque = &brake},
        .pages = BLANK_PAGES - BLANK_HIGH_FIRST};
    c.bits = g_new0(uint64_t, BLANK_PAGES / 64 + 1);
    capture_frozen_wp(&c);
    /* They are holes of the file again, though they were written: as if the look had come before the writes. */
    for (uint64_t page = BLANK_HIGH_FIRST; !brake.on; page++) {
        blank_write(&t, page, 5);
    }
    assert_int_equal(
        fallocate(t.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)BLANK_ALL), 0);
    capture_ok(&c, capture_look);
    assert_int_equal(ram_blank_count(c.bits, c.pages), c.pages);
    while (brake.on) {
        co_yield_turn();
    }
    assert_null(capture_wp_failure(c.wp)); /* which would have let the guest go on, too */
    capture_ok(&c, capture_free);
    g_free(c.bits);
    blank_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_memory_is_saved_in_place),
        cmocka_unit_test(shared_memory_is_saved_in_place),
        cmocka_unit_test(private_memory_is_saved_from_a_fork),
        cmocka_unit_test(private_memory_is_saved_under_write_protection),
        cmocka_unit_test(shared_memory_is_saved_under_write_protection),
        cmocka_unit_test(a_page_that_is_given_back_after_the_fork_is_in_the_image),
        cmocka_unit_test(a_look_at_a_child_that_has_ended_meanwhile_counts_for_nothing),
        cmocka_unit_test(a_child_that_has_ended_is_found_without_a_page_to_read),
        cmocka_unit_test(a_page_that_is_written_between_the_look_and_the_instant_is_in_the_image),
        cmocka_unit_test(private_pages_that_are_written_after_the_instant_are_zero_in_the_image),
        cmocka_unit_test(shared_pages_that_are_written_after_the_instant_are_zero_in_the_image),
        cmocka_unit_test(an_empty_page_can_be_read),
        cmocka_unit_test(private_memory_that_was_never_touched_takes_no_protection),
        cmocka_unit_test(a_look_drops_what_is_held_for_blank_pages),
    };
    if (!capture_wp_is_permitted()) {
        printf("userfaultfd is not permitted to this user: without its tests\n");
    }
    return block_test_main(tests);
}
