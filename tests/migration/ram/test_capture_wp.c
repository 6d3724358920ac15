/* SPDX-License-Identifier: Apache-2.0 */
/* Memory frozen by write protection: what is read is of one instant while threads and the kernel write on; nobody
 * waits for storage but vCPUs that are braked; whatever happens, all go on. */
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include "hw/core/ram_keep.h"
#include "migration/ram/capture_wp.h"
#include "tests/migration/ram/ram_writers.h"
#include "util/loop/sched_point.h"
#include "util/sys/sys_fault.h"

#define PAGES WRITER_PAGES
#define HIGH_FIRST (RAM_TEST_LOW / 4096) /* the first page of the second block */

static bool shared; /* the memory of the next ram_new() */

static void ram_new(RamTest *t)
{
    ram_test_init(t);
    if (!shared) {
        return;
    }
    int fd = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, RAM_TEST_LOW + RAM_TEST_HIGH), 0);
    assert_ptr_equal(mmap(t->host, RAM_TEST_LOW + RAM_TEST_HIGH, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED, fd, 0),
                     t->host);
    t->ram.blocks[0].fd = t->ram.blocks[1].fd = fd;
    t->ram.blocks[1].fd_offset = RAM_TEST_LOW;
}

static void ram_clear(RamTest *t)
{
    if (t->ram.blocks[0].fd >= 0) {
        close(t->ram.blocks[0].fd);
    }
    ram_test_clear(t);
}

static void write_page(const RamTest *t, uint64_t page, uint8_t value)
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

static int wp_new(void *opaque)
{
    WpTest *w = opaque;
    enter_worker();
    w->c = capture_wp_new(&w->config, &w->error);
    return w->c != NULL ? 0 : -1;
}

static int wp_arm(void *opaque)
{
    enter_worker();
    return capture_wp_arm(((WpTest *)opaque)->c);
}

static int wp_freeze(void *opaque)
{
    enter_worker();
    return capture_wp_freeze(((WpTest *)opaque)->c);
}

static int wp_free(void *opaque)
{
    enter_worker();
    capture_wp_free(((WpTest *)opaque)->c);
    return 0;
}

static int wp_read_block(void *opaque)
{
    WpTest *w = opaque;
    enter_worker();
    return capture_wp_read(w->c, w->block, w->page * 4096, w->buf, w->count * 4096);
}

/* Pages of all memory, in one block. */
static coroutine_fn RUNS_IN_MAIN int wp_read(WpTest *w, uint64_t page, unsigned count)
{
    w->block = page >= HIGH_FIRST;
    w->page = w->block ? page - HIGH_FIRST : page;
    w->count = count;
    return co_run_in_worker(wp_read_block, w);
}

static coroutine_fn RUNS_IN_MAIN void wp_begin(WpTest *w, RamTest *t)
{
    w->config.ram = &t->ram;
    if (co_run_in_worker(wp_new, w) != 0) {
        fail_msg("%s", w->error->message);
    }
}

static coroutine_fn RUNS_IN_MAIN void wp_begin_frozen(WpTest *w, RamTest *t)
{
    wp_begin(w, t);
    assert_int_equal(co_run_in_worker(wp_arm, w), 0);
    assert_int_equal(co_run_in_worker(wp_freeze, w), 0);
}

static coroutine_fn RUNS_IN_MAIN void expect_page(WpTest *w, uint64_t page, uint8_t value)
{
    assert_int_equal(wp_read(w, page, 1), 0);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(w->buf[i], value);
    }
}

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
    ram_clear(&t);
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
    ram_clear(&t);
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
    ram_clear(&t);
}

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
    ram_clear(&t);
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
    ram_clear(&t);
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
    ram_clear(&t);
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
    ram_clear(&t);
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
    ram_clear(&t);
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
    ram_clear(&t);
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
    ram_clear(&t);
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
        ram_clear(&t);
    }
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
    ram_clear(&t);
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
    capture_wp_forbid("it is a test");
    expect_refused(&t, "it is a test");
    capture_wp_forbid(NULL);
    ram_clear(&t);
}

static bool is_permitted(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd < 0) {
        fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    }
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_private_memory_are_of_one_instant_while_threads_write_on),
        cmocka_unit_test(images_of_shared_memory_are_of_one_instant_while_threads_write_on),
        cmocka_unit_test(private_pages_are_those_of_the_instant),
        cmocka_unit_test(shared_pages_are_those_of_the_instant),
        cmocka_unit_test(what_the_kernel_writes_is_covered),
        cmocka_unit_test(writers_are_braked_at_the_bound_and_go_on_when_pages_are_read),
        cmocka_unit_test(pieces_that_are_held_are_wanted_first_and_read_once),
        cmocka_unit_test(an_end_while_storage_hangs_lets_all_go),
        cmocka_unit_test(it_is_given_up_when_storage_takes_nothing_for_too_long),
        cmocka_unit_test(an_end_during_a_read_makes_it_fail),
        cmocka_unit_test(it_can_end_in_each_phase_and_the_next_one_works),
        cmocka_unit_test(who_gives_it_up_says_why),
        cmocka_unit_test(a_failure_of_the_kernel_lets_all_go),
        cmocka_unit_test(pages_are_not_discarded_meanwhile),
        cmocka_unit_test(what_cannot_be_protected_is_refused_with_the_reason),
    };
    if (!is_permitted()) {
        printf("userfaultfd is not permitted to this user\n");
        return 77;
    }
    return block_test_main(tests);
}
