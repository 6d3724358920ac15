/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net on vhost-net: the log of what the kernel writes. */
#include "tests/hw/virtio/virtio_net_vhost_bench.h"

typedef struct LogStart {
    GuestRam *ram;
    bool ok;
    GError *error;
} LogStart;

static void log_start_run(void *opaque)
{
    LogStart *s = opaque;
    enter_main();
    enter_coroutine();
    s->ok = guest_ram_co_log_start(s->ram, &s->error);
}

static void log_stop_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    guest_ram_co_log_stop(opaque);
}

#define RAM_PAGES (FAKE_RAM_SIZE / GUEST_RAM_PAGE)
static uint64_t dirty[RAM_PAGES / 64];

/* Starts the log with loggers, while the bench's own runs; keeps what is marked. The error's text, or NULL. */
static RUNS_IN_MAIN char *log_start(Fixture *f)
{
    LogStart s = {.ram = &f->bench->machine->ram};
    virtio_bench_settle(f->bench);
    guest_ram_log_take(&s.ram->blocks[0], 0, RAM_PAGES, dirty);
    guest_ram_log_stop(s.ram);
    virtio_bench_run(f->bench, log_start_run, &s);
    if (!s.ok) {
        assert_true(guest_ram_log_start(s.ram, NULL));
    }
    guest_ram_mark_bitmap(s.ram, s.ram->blocks[0].gpa, dirty, RAM_PAGES);
    char *text = s.error != NULL ? g_strdup(s.error->message) : NULL;
    g_clear_error(&s.error);
    return text;
}

static bool is_marked(Fixture *f, uint64_t gpa)
{
    uint64_t page = gpa / GUEST_RAM_PAGE;
    return atomic_load(&f->bench->machine->ram.blocks[0].dirty[page / 64]) >> (page % 64) & 1;
}

/* The kernel writes a buffer, which is marked by a sync and not before. */
static RUNS_IN_MAIN void assert_logged(Fixture *f, unsigned pair)
{
    uint32_t id, len;
    uint64_t gpa = offer(f, pair, 2048);
    assert_false(is_marked(f, gpa));
    assert_int_equal(fake_vhost_serve(vhost, pair, 0), 1);
    assert_false(is_marked(f, gpa));
    assert_true(guest_ram_log_sync(&f->bench->machine->ram, NULL));
    assert_true(is_marked(f, gpa));
    assert_true(virtio_guest_used(&f->rx[pair], &id, &len));
}

static void writes_of_the_kernel_are_logged(void **state)
{
    Fixture *f = *state;
    enter_main();
    bring_up_vhost(f);
    use_pairs_and_wait(f, 2);
    assert_null(log_start(f)); /* two run */
    assert_logged(f, 0);
    assert_logged(f, 1);
    use_pairs_and_wait(f, 3); /* one starts */
    assert_logged(f, 2);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    assert_logged(f, 0);
    assert_true(vhost->instances[0].vrings[0].logged);
    virtio_bench_run(f->bench, log_stop_run, &f->bench->machine->ram);
    assert_true(guest_ram_log_start(&f->bench->machine->ram, NULL));
    assert_false(vhost->instances[0].features & 1ull << 26);
    guest_ram_mark(&f->bench->machine->ram, 0, FAKE_RAM_SIZE); /* what was marked before */
    assert_kernel_serves(f, 0);
}

static void what_a_back_end_logged_before_it_stopped_is_kept(void **state)
{
    Fixture *f = *state;
    enter_main();
    bring_up_vhost(f);
    assert_null(log_start(f));
    uint64_t gpa = offer(f, 0, 2048);
    assert_int_equal(fake_vhost_serve(vhost, 0, 0), 1);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
    assert_true(is_marked(f, gpa));
}

static void a_back_end_that_cannot_log_is_an_error(void **state)
{
    Fixture *f = *state;
    enter_main();
    bring_up_vhost(f);
    for (unsigned i = 0; i < 4; i++) { /* the bitmap, the feature, two rings */
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = i, .count = 1, .error = EFAULT});
        g_autofree char *text = log_start(f);
        sys_fault_set(NULL);
        assert_non_null(text);
        assert_false(vhost->instances[0].features & 1ull << 26);
        assert_kernel_serves(f, 0);
    }
    fake_vhost_net_dev(0)->log_lacks = "it does not log enough";
    g_autofree char *text = log_start(f);
    assert_string_equal(text, "vhost-net: it does not log enough");
    assert_kernel_serves(f, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_vhost, tear_down_vhost)
    static const struct CMUnitTest tests[] = {
        T(writes_of_the_kernel_are_logged),
        T(what_a_back_end_logged_before_it_stopped_is_kept),
        T(a_back_end_that_cannot_log_is_an_error),
    };
    return cmocka_run_group_tests_name("hw/virtio/net_vhost_log", tests, NULL, NULL);
}
