/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <glib.h>
#include "tests/support/trace_sample.h"
#include "util/log.h"

static char log_path[64];

static int set_up(void **state)
{
    snprintf(log_path, sizeof(log_path), "/tmp/skiff-test-trace-%d", getpid());
    trace_set("*", false);
    return log_open(log_path, false) ? 0 : -1;
}

static int tear_down(void **state)
{
    log_open(NULL, false);
    return unlink(log_path);
}

static void emit_all(void)
{
    trace_sample_submit("disk0", 1234567890123);
    trace_sample_complete(-5);
    trace_sample_complete_elsewhere(7);
    trace_other_idle();
}

static char *logged(void)
{
    char *text = NULL;

    assert_true(g_file_get_contents(log_path, &text, NULL, NULL));
    return text;
}

static void nothing_is_emitted_unless_enabled(void **state)
{
    g_autofree char *text = NULL;

    emit_all();
    text = logged();
    assert_string_equal(text, "");
}

static void a_glob_chooses_events_in_every_file(void **state)
{
    g_autofree char *text = NULL;
    g_autofree char *expected =
        g_strdup_printf("[%s] sample_submit dev=disk0 sector=1234567890123\n"
                        "[%s] sample_complete ret=-5\n[%s] sample_complete ret=7\n",
                        thread_name(), thread_name(), thread_name());

    assert_int_equal(trace_set("sample_*", true), 2);
    emit_all();
    text = logged();
    assert_string_equal(text, expected);
}

static void count_samples(const TraceEvent *event, void *opaque)
{
    if (g_str_has_prefix(event->name, "sample_") || g_str_has_prefix(event->name, "other_")) {
        ++*(int *)opaque;
    }
}

static void each_event_is_listed_once(void **state)
{
    int n = 0;

    trace_foreach(count_samples, &n);
    assert_int_equal(n, 3);
}

static void the_option_takes_globs_and_files(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_strconcat(log_path, ".events", NULL);
    g_autofree char *argument = g_strconcat("events=", path, NULL);

    assert_true(trace_configure("sample_*", &error));
    assert_true(trace_event_sample_submit.enabled && trace_event_sample_complete.enabled);
    assert_true(trace_configure("enable=-sample_submit", &error));
    assert_false(trace_event_sample_submit.enabled);
    assert_true(g_file_set_contents(path, "# chosen\n\n  other_idle \n-sample_*\n", -1, &error));
    assert_true(trace_configure(argument, &error));
    assert_true(trace_event_other_idle.enabled);
    assert_false(trace_event_sample_complete.enabled);
    unlink(path);
}

static void a_glob_without_a_match_is_refused(void **state)
{
    static const char *const bad[] = {"sample_sumbit",       "nothing_*", "enable=",
                                      "events=/nonexistent", "file=x",    "sample_*,bogus=1",
                                      "sample_*,enable=x",   "=",         "-"};
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_clear_error(&error);
        if (trace_configure(bad[i], &error)) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_true(g_str_has_prefix(error->message, "-trace"));
    }
    g_clear_error(&error);
    assert_false(trace_configure("sample_sumbit", &error));
    assert_non_null(strstr(error->message, "did you mean 'sample_submit'?"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_emitted_unless_enabled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_glob_chooses_events_in_every_file, set_up, tear_down),
        cmocka_unit_test(each_event_is_listed_once),
        cmocka_unit_test_setup_teardown(the_option_takes_globs_and_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_glob_without_a_match_is_refused, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
