/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev tap on a kernel that does not return from a call: it is left behind, and the netdev can go. */
#include "tests/hw/net/net_tap_bench.h"

#define FIVE_SECONDS 5000000000ll

/* ---- time, and what hangs ---- */

static void home_advance(void *opaque)
{
    Fixture *f = opaque;
    enter_loop(f->client.home);
    aio_context_set_virtual_time(f->client.home, aio_now_ns(f->client.home) + FIVE_SECONDS);
}

static void hang(const char *calls, unsigned after)
{
    sys_fault_set(&(SysFault){.calls = calls, .after = after, .count = 1, .hold = true});
}

static RUNS_IN_MAIN void await_hung(Fixture *f)
{
    while (!sys_fault_hits()) {
        aio_context_step(f->bench->main_ctx, false);
        virtio_bench_step(f->bench);
    }
    sys_fault_await_held();
}

static void go_on(void)
{
    sys_fault_release();
    sys_fault_set(NULL);
}

typedef struct Configure {
    Fixture *f;
    _Atomic bool done;
} Configure;

static void home_configure_and_note(void *opaque)
{
    Configure *c = opaque;
    enter_coroutine();
    home_configure(c->f);
    c->done = true;
}

/* Begins to configure, and returns when the kernel hangs with it. */
static RUNS_IN_MAIN void begin_to_configure(Fixture *f, Configure *c)
{
    *c = (Configure){.f = f};
    hang("ioctl", 0);
    co_start(f->bench->home, home_configure_and_note, c);
    await_hung(f);
}

static RUNS_IN_MAIN void await_configured(Fixture *f, const Configure *c)
{
    while (!c->done) {
        virtio_bench_settle(f->bench);
    }
}

/* ---- tests ---- */

static void a_configuration_ends_although_the_kernel_hangs(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    Configure c;
    connect_tap(f, ",queues=2");
    enter_main();
    f->config.queues = 2;
    begin_to_configure(f, &c);
    virtio_bench_settle(f->bench);
    assert_false(c.done);
    at_home(f, home_advance);
    await_configured(f, &c);
    assert_false(f->configured);
    f->config.queues = 1;
    at_home(f, home_configure); /* at once, and no further thread hangs */
    assert_false(f->configured);
    assert_int_equal(sys_fault_hits(), 1);
    go_on();
    do {
        at_home(f, home_configure);
    } while (!f->configured);
    pass_frames(f);
}

static RUNS_IN_MAIN void remove_netdev(Fixture *f, NetStep *s)
{
    *s = (NetStep){.text = "a"};
    co_start(f->bench->main_ctx, net_step_remove, s);
    for (unsigned i = 0; i < 20; i++) {
        aio_context_step(f->bench->main_ctx, false);
        virtio_bench_step(f->bench);
    }
}

static RUNS_IN_MAIN void await_removed(Fixture *f, const NetStep *s)
{
    while (!s->ok) {
        virtio_bench_settle(f->bench);
    }
    assert_null(net_find("a"));
}

/* The device goes with its last descriptor. */
static void await_no_device(Fixture *f)
{
    while (if_nametoindex("tap-t") != 0) {
        virtio_bench_settle(f->bench);
    }
}

static void a_netdev_can_be_removed_while_the_kernel_hangs(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    Configure c;
    NetStep s;
    connect_tap(f, ",queues=2");
    enter_main();
    f->config.queues = 2;
    begin_to_configure(f, &c);
    remove_netdev(f, &s);
    assert_false(s.ok);
    at_home(f, home_advance);
    await_removed(f, &s);
    assert_true(if_nametoindex("tap-t") != 0); /* the kernel still has its descriptor */
    go_on();
    await_no_device(f);
    add(f, "tap,id=a,ifname=tap-t,script=no");
}

static void a_removal_ends_although_a_close_hangs(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    NetStep s;
    add(f, "tap,id=a,ifname=tap-t,script=no,queues=3");
    enter_main();
    hang("close", 1);
    remove_netdev(f, &s);
    await_hung(f);
    assert_false(s.ok);
    fake_machine_advance(f->bench->machine, FIVE_SECONDS);
    await_removed(f, &s);
    go_on();
    await_no_device(f);
}

/* The script goes on, and then the device ends. */
static void a_removal_ends_although_the_script_hangs(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    NetStep s;
    g_autofree char *fifo = g_strdup_printf("%s/tap-fifo-%d", g_get_tmp_dir(), (int)getpid());
    g_autofree char *script = g_strdup_printf("%s/tap-hung-%d", g_get_tmp_dir(), (int)getpid());
    g_autofree char *body = g_strdup_printf("#!/bin/sh\nread line <%s\n", fifo);
    g_autofree char *text =
        g_strdup_printf("tap,id=a,ifname=tap-t,script=/bin/true,downscript=%s", script);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_true(g_file_set_contents(script, body, -1, NULL));
    assert_int_equal(chmod(script, 0700), 0);
    add(f, text);
    enter_main();
    remove_netdev(f, &s);
    int fd = open(fifo, O_WRONLY | O_CLOEXEC); /* returns when the script reads */
    assert_false(s.ok);
    fake_machine_advance(f->bench->machine, FIVE_SECONDS);
    await_removed(f, &s);
    assert_true(if_nametoindex("tap-t") != 0);
    assert_int_equal(write(fd, "\n", 1), 1);
    close(fd);
    await_no_device(f);
    unlink(fifo);
    unlink(script);
}

/* The kernel goes on, and @count descriptors are closed. */
static void go_on_until_closed(Fixture *f, unsigned count)
{
    sys_fault_set(&(SysFault){.calls = "close", .after = 1000});
    while (sys_fault_calls() < count) {
        virtio_bench_settle(f->bench);
    }
    sys_fault_set(NULL);
}

static void an_addition_that_hangs_fails(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    enter_main();
    for (unsigned i = 0; i < 4; i++) { /* of the calls that it makes */
        NetStep s = {.text = "tap,id=a,ifname=tap-t,script=no,queues=2"};
        hang("ioctl", 2 * i);
        co_start(f->bench->main_ctx, net_step_add, &s);
        await_hung(f);
        fake_machine_advance(f->bench->machine, FIVE_SECONDS);
        while (s.error == NULL) {
            virtio_bench_settle(f->bench);
        }
        assert_non_null(strstr(s.error->message, "has not returned in time"));
        g_error_free(s.error);
        assert_null(net_find("a"));
        go_on_until_closed(f, 2);
        await_no_device(f);
    }
    add(f, "tap,id=a,ifname=tap-t,script=no"); /* the name is free */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(a_configuration_ends_although_the_kernel_hangs),
        T(a_netdev_can_be_removed_while_the_kernel_hangs),
        T(a_removal_ends_although_a_close_hangs),
        T(a_removal_ends_although_the_script_hangs),
        T(an_addition_that_hangs_fails),
    };
    has_tap = enter_namespace();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
