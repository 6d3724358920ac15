/* SPDX-License-Identifier: Apache-2.0 */
/* logfile= with time stamps of its own, while the terminal's side has none; waiting for output. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_harness.h"

typedef struct Fixture {
    AioContext *ctx;
    char *dir, *out, *log;
    Chardev *c;
    bool flushed;
} Fixture;

static int set_up(void **state)
{
    Fixture *x = g_new0(Fixture, 1);

    alarm(60);
    x->ctx = chardev_harness_begin();
    x->dir = g_dir_make_tmp("skiff-log-XXXXXX", NULL);
    x->out = g_build_filename(x->dir, "out", NULL);
    x->log = g_build_filename(x->dir, "log", NULL);
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *x = *state;

    chardev_harness_end(x->ctx);
    unlink(x->out);
    unlink(x->log);
    rmdir(x->dir);
    g_free(x->out);
    g_free(x->log);
    g_free(x->dir);
    g_free(x);
    alarm(0);
    return 0;
}

static void open_file(Fixture *x, const char *more)
{
    g_autofree char *options =
        g_strdup_printf("file,id=a,path=%s,logfile=%s%s", x->out, x->log, more);
    g_autofree char *message = NULL;

    enter_main();
    message = chardev_harness_add(x->ctx, options);
    assert_null(message);
    x->c = chardev_claim("a", "test", NULL);
}

static void flush_run(void *opaque)
{
    Fixture *x = opaque;

    enter_main();
    enter_coroutine();
    chardev_co_flush(x->c);
    x->flushed = true;
}

static void say(Fixture *x, const char *text)
{
    assert_int_equal(chardev_write(x->c, (const uint8_t *)text, strlen(text)), strlen(text));
}

static void finish(Fixture *x)
{
    co_start(x->ctx, flush_run, x);
    STEP_UNTIL(x->ctx, x->flushed);
}

static char *contents(const char *path)
{
    char *text;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

static void test_the_log_has_stamps_and_the_output_has_none(void **state)
{
    Fixture *x = *state;

    open_file(x, ",logtimestamp=on");
    say(x, "one\ntw");
    say(x, "o\n");
    finish(x);
    g_autofree char *out = contents(x->out), *log = contents(x->log);
    assert_string_equal(out, "one\ntwo\n");
    assert_true(g_regex_match_simple("^\\[\\d\\d:\\d\\d:\\d\\d\\.\\d{3}\\] one\n"
                                     "\\[\\d\\d:\\d\\d:\\d\\d\\.\\d{3}\\] two\n$",
                                     log, 0, 0));
}

static void test_both_may_have_stamps(void **state)
{
    Fixture *x = *state;

    open_file(x, ",logtimestamp=on,timestamps=on");
    say(x, "one\n");
    finish(x);
    g_autofree char *out = contents(x->out), *log = contents(x->log);
    assert_int_equal(strlen(out), strlen("[00:00:00.000] one\n"));
    assert_string_equal(out, log);
}

static void test_nothing_is_lost_when_stamps_fill_the_log_faster(void **state)
{
    Fixture *x = *state;
    enum { LINES = 50000 };
    size_t sent = 0;

    open_file(x, ",logtimestamp=on");
    while (sent < 2 * LINES) {
        const char *text = "x\nx\nx\nx\n";
        size_t at = sent % 2;

        sent += chardev_write(x->c, (const uint8_t *)text + at, MIN(8 - at, 2 * LINES - sent));
        aio_context_step(x->ctx, false);
    }
    finish(x);
    g_autofree char *out = contents(x->out), *log = contents(x->log);
    assert_int_equal(strlen(out), 2 * LINES);
    assert_int_equal(strlen(log), (2 + strlen("[00:00:00.000] ")) * LINES);
}

static void test_a_crash_writes_the_stamped_log_too(void **state)
{
    Fixture *x = *state;

    enter_main();
    open_file(x, ",logtimestamp=on");
    say(x, "last");
    assert_true(chardev_flush_all_blocking(10000));
    g_autofree char *log = contents(x->log);
    assert_non_null(strstr(log, "] last"));
}

static void test_stamps_of_a_log_want_a_log(void **state)
{
    Fixture *x = *state;
    g_autofree char *message = chardev_harness_add(x->ctx, "null,id=a,logtimestamp=on");

    assert_non_null(strstr(message, "logtimestamp wants logfile="));
}

static void test_flush_waits_for_a_reader(void **state)
{
    Fixture *x = *state;
    g_autofree char *flood = g_strnfill(40000, 'x');
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    g_autofree char *options = g_strdup_printf("file,id=a,path=/proc/self/fd/%d", fds[1]);
    g_autofree char *message = chardev_harness_add(x->ctx, options);
    assert_null(message);
    enter_main();
    x->c = chardev_claim("a", "test", NULL);
    for (unsigned i = 0; i < 2; i++) {
        say(x, flood);
        chardev_harness_settle(x->ctx);
    }
    co_start(x->ctx, flush_run, x);
    chardev_harness_settle(x->ctx);
    assert_false(x->flushed);
    for (size_t got = 0; got < 80000;) {
        struct pollfd p = {.fd = fds[0], .events = POLLIN};
        char data[8192];

        if (poll(&p, 1, 0) > 0) {
            got += (size_t)read(fds[0], data, sizeof(data));
        }
        aio_context_step(x->ctx, false);
    }
    STEP_UNTIL(x->ctx, x->flushed);
    close(fds[0]);
    close(fds[1]);
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_the_log_has_stamps_and_the_output_has_none),
        LOG_TEST(test_both_may_have_stamps),
        LOG_TEST(test_nothing_is_lost_when_stamps_fill_the_log_faster),
        LOG_TEST(test_a_crash_writes_the_stamped_log_too),
        LOG_TEST(test_stamps_of_a_log_want_a_log),
        LOG_TEST(test_flush_waits_for_a_reader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
