/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <glib.h>
#include "util/log.h"

static char log_path[64];

static int set_up(void **state)
{
    snprintf(log_path, sizeof(log_path), "/tmp/skiff-test-log-%d", getpid());
    return log_open(log_path, false) ? 0 : -1;
}

static int tear_down(void **state)
{
    log_open(NULL, false);
    return unlink(log_path);
}

static char *logged(void)
{
    char *text = NULL;

    assert_true(g_file_get_contents(log_path, &text, NULL, NULL));
    return text;
}

static void each_level_has_its_prefix(void **state)
{
    g_autofree char *text = NULL;

    log_error("-drive: no %s", "file");
    log_warn("slow");
    log_info("ready");
    text = logged();
    assert_string_equal(text, "skiff: -drive: no file\nskiff: warning: slow\nskiff: info: ready\n");
}

static void control_bytes_do_not_reach_the_terminal(void **state)
{
    g_autofree char *text = NULL;

    log_error("guest says \x1b[2J\n%s\tx\x7f", "\r\x01");
    text = logged();
    assert_string_equal(text, "skiff: guest says ?[2J???\tx?\n");
}

static void a_long_line_is_cut_and_still_a_line(void **state)
{
    g_autofree char *longer = g_strnfill(LOG_LINE_MAX * 3, 'x');
    g_autofree char *text = NULL;

    log_error("%s", longer);
    log_error("next");
    text = logged();
    assert_int_equal(strlen(text), LOG_LINE_MAX + strlen("skiff: next\n"));
    assert_string_equal(text + LOG_LINE_MAX - 1, "\nskiff: next\n");
}

static void timestamps_are_put_in_front(void **state)
{
    g_autofree char *text = NULL;
    int year, parts, micro, end = 0;

    assert_true(log_open(log_path, true));
    log_error("x");
    text = logged();
    parts = sscanf(text, "%d-%*d-%*dT%*d:%*d:%*d.%6dZ skiff: x%n", &year, &micro, &end);
    assert_int_equal(parts, 2);
    assert_int_equal(text[end], '\n');
    assert_true(year >= 2024);
}

static void errno_is_kept(void **state)
{
    errno = ENOSPC;
    log_error("x");
    assert_int_equal(errno, ENOSPC);
}

static void a_file_that_can_not_be_opened_changes_nothing(void **state)
{
    int before = log_fd();

    assert_false(log_open("/nonexistent/x", true));
    assert_int_equal(errno, ENOENT);
    assert_int_equal(log_fd(), before);
}

static void a_burst_passes_and_the_rest_is_counted(void **state)
{
    LogLimit limit = {0};
    uint32_t dropped = 99;

    for (int i = 0; i < LOG_LIMIT_BURST; i++) {
        assert_true(log_limit_admit(&limit, 1000, &dropped));
        assert_int_equal(dropped, 0);
    }
    for (int i = 0; i < 7; i++) {
        assert_false(log_limit_admit(&limit, 1000 + LOG_LIMIT_WINDOW_NS - 1, &dropped));
    }
    assert_true(log_limit_admit(&limit, 1000 + LOG_LIMIT_WINDOW_NS, &dropped));
    assert_int_equal(dropped, 7);
    assert_true(log_limit_admit(&limit, 1000 + LOG_LIMIT_WINDOW_NS, &dropped));
    assert_int_equal(dropped, 0);
}

static void guest_errors_name_the_device_and_are_limited(void **state)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    LogLimit limit = {0};

    for (int i = 0; i < 100; i++) {
        log_guest_error(&limit, "disk0", "descriptor %d loops", i);
    }
    text = logged();
    lines = g_strsplit(text, "\n", -1);
    assert_string_equal(lines[0], "skiff: disk0: guest error: descriptor 0 loops");
    assert_int_equal(g_strv_length(lines), LOG_LIMIT_BURST + 1);
}

/* The log is a pipe without a reader: lines are dropped, the caller continues, and the next line
 * that is written reports the number. */
static void a_stuck_reader_loses_lines_and_does_not_block_the_caller(void **state)
{
    char path[80], buffer[65536];
    uint32_t written = 0;
    int reader;
    ssize_t n;

    snprintf(path, sizeof(path), "%s.fifo", log_path);
    assert_int_equal(mkfifo(path, 0600), 0);
    reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_true(log_open(path, false));
    for (; written < 5000; written++) {
        log_error("a line of some length that fills the pipe sooner or later: %u", written);
    }
    n = read(reader, buffer, sizeof(buffer));
    assert_true(n > 0 && buffer[n - 1] == '\n');
    while (read(reader, buffer, sizeof(buffer)) > 0) {
        ;
    }
    log_error("again");
    n = read(reader, buffer, sizeof(buffer) - 1);
    assert_true(n > 0);
    buffer[n] = '\0';
    assert_non_null(strstr(buffer, " log lines lost: the reader was too slow\nskiff: again\n"));
    log_open(log_path, false);
    close(reader);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_level_has_its_prefix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(control_bytes_do_not_reach_the_terminal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_line_is_cut_and_still_a_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(timestamps_are_put_in_front, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errno_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_can_not_be_opened_changes_nothing, set_up,
                                        tear_down),
        cmocka_unit_test(a_burst_passes_and_the_rest_is_counted),
        cmocka_unit_test_setup_teardown(guest_errors_name_the_device_and_are_limited, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_stuck_reader_loses_lines_and_does_not_block_the_caller,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
