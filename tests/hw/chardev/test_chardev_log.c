/* SPDX-License-Identifier: Apache-2.0 */
/* logfile= with time stamps, while the terminal has none; waiting for output. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_fixture.h"
#include "util/sys/sys_fault.h"

typedef struct Flush {
    Chardev *c;
    bool done;
} Flush;

static Chardev *open_file(ChardevFixture *x, const char *more)
{
    chardev_fixture_add(x, "file,id=a,path=%s/out,logfile=%s/log%s", x->dir, x->dir, more);
    return chardev_fixture_claim("a");
}

static void flush_run(void *opaque)
{
    Flush *flush = opaque;

    enter_main();
    enter_coroutine();
    chardev_co_flush(flush->c);
    flush->done = true;
}

static void say(Chardev *c, const char *text)
{
    assert_int_equal(chardev_put_text(c, text), strlen(text));
}

static void finish(ChardevFixture *x, Chardev *c)
{
    Flush flush = {.c = c};

    co_start(x->ctx, flush_run, &flush);
    STEP_UNTIL(x->ctx, flush.done);
}

static char *contents(ChardevFixture *x, const char *name)
{
    g_autofree char *path = chardev_fixture_path(x, name);
    char *text;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

static void the_log_has_stamps_and_the_output_has_none(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = open_file(x, ",logtimestamp=on");

    say(c, "one\ntw");
    say(c, "o\n");
    finish(x, c);
    g_autofree char *out = contents(x, "out"), *log = contents(x, "log");
    assert_string_equal(out, "one\ntwo\n");
    assert_true(g_regex_match_simple("^\\[\\d\\d:\\d\\d:\\d\\d\\.\\d{3}\\] one\n"
                                     "\\[\\d\\d:\\d\\d:\\d\\d\\.\\d{3}\\] two\n$",
                                     log, 0, 0));
}

static void both_may_have_stamps(void **state)
{
    ChardevFixture *x = *state;
    Chardev *c = open_file(x, ",logtimestamp=on,timestamps=on");

    say(c, "one\n");
    finish(x, c);
    g_autofree char *out = contents(x, "out"), *log = contents(x, "log");
    assert_int_equal(strlen(out), strlen("[00:00:00.000] one\n"));
    assert_string_equal(out, log);
}

static void nothing_is_lost_when_stamps_fill_the_log_faster(void **state)
{
    ChardevFixture *x = *state;
    enum { LINES = 50000 };
    size_t sent = 0;
    Chardev *c = open_file(x, ",logtimestamp=on");

    while (sent < 2 * LINES) {
        const char *text = "x\nx\nx\nx\n";
        size_t at = sent % 2;

        sent += chardev_write(c, (const uint8_t *)text + at, MIN(8 - at, 2 * LINES - sent));
        aio_context_step(x->ctx, false);
    }
    finish(x, c);
    g_autofree char *out = contents(x, "out"), *log = contents(x, "log");
    assert_int_equal(strlen(out), 2 * LINES);
    assert_int_equal(strlen(log), (2 + strlen("[00:00:00.000] ")) * LINES);
}

static void a_crash_writes_the_stamped_log_too(void **state)
{
    ChardevFixture *x = *state;

    enter_main();
    Chardev *c = open_file(x, ",logtimestamp=on");
    say(c, "last");
    assert_true(chardev_flush_all_blocking(10000));
    g_autofree char *log = contents(x, "log");
    assert_non_null(strstr(log, "] last"));
}

static void logtimestamp_needs_a_log(void **state)
{
    ChardevFixture *x = *state;

    assert_chardev_add_fails(x, "logtimestamp needs logfile=", "null,id=a,logtimestamp=on");
}

static void flush_waits_for_a_reader(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *flood = g_strnfill(40000, 'x');
    Flush flush = {0};
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    chardev_fixture_add(x, "file,id=a,path=/proc/self/fd/%d", fds[1]);
    flush.c = chardev_fixture_claim("a");
    for (unsigned i = 0; i < 2; i++) {
        say(flush.c, flood);
        chardev_harness_settle(x->ctx);
    }
    co_start(x->ctx, flush_run, &flush);
    chardev_harness_settle(x->ctx);
    assert_false(flush.done);
    for (size_t got = 0; got < 80000;) {
        struct pollfd p = {.fd = fds[0], .events = POLLIN};
        char data[8192];

        if (poll(&p, 1, 0) > 0) {
            got += (size_t)read(fds[0], data, sizeof(data));
        }
        aio_context_step(x->ctx, false);
    }
    STEP_UNTIL(x->ctx, flush.done);
    close(fds[0]);
    close(fds[1]);
}

/* Neither a worker nor main tries again before the reader has read. */
static void a_log_that_is_a_full_fifo_keeps_nobody_busy(void **state)
{
    static const SysFault writes = {.calls = "write", .after = UINT_MAX};
    ChardevFixture *x = *state;
    g_autofree char *path = chardev_fixture_path(x, "fifo"), *flood = g_strnfill(20000, 'x');
    char data[4096];
    size_t got = 0;

    enter_main();
    assert_int_equal(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(fcntl(fd, F_SETPIPE_SZ, 4096) == 4096);
    chardev_fixture_add(x, "null,id=a,logfile=%s", path);
    Chardev *c = chardev_fixture_claim("a");
    sys_fault_set(&writes);
    say(c, flood);
    for (unsigned i = 0; i < 20000; i++) {
        aio_context_step(x->ctx, false);
    }
    unsigned calls = sys_fault_calls();
    sys_fault_set(NULL);
    assert_in_range(calls, 1, 50);
    while (got < 20000) {
        ssize_t n = read(fd, data, sizeof(data));
        got += n > 0 ? (size_t)n : 0;
        aio_context_step(x->ctx, false);
    }
    finish(x, c);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHARDEV_TEST(the_log_has_stamps_and_the_output_has_none),
        CHARDEV_TEST(both_may_have_stamps),
        CHARDEV_TEST(nothing_is_lost_when_stamps_fill_the_log_faster),
        CHARDEV_TEST(a_crash_writes_the_stamped_log_too),
        CHARDEV_TEST(logtimestamp_needs_a_log),
        CHARDEV_TEST(flush_waits_for_a_reader),
        CHARDEV_TEST(a_log_that_is_a_full_fifo_keeps_nobody_busy),
    };

    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
