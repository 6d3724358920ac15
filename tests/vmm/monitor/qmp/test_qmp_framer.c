/* SPDX-License-Identifier: Apache-2.0 */
/* The framer: the ends of values, skipping, and the bound on memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "vmm/monitor/qmp/qmp_framer.h"

/* Feeds @text in pieces of @piece bytes. Returns values in angle brackets, errors as "!". */
static char *frames(const char *text, size_t size, size_t piece)
{
    QmpFramer f;
    GString *out = g_string_new(NULL);
    qmp_framer_init(&f);
    for (size_t at = 0; at < size;) {
        size_t used = 0;
        const char *why = NULL;
        QmpFrame frame =
            qmp_framer_feed(&f, (const uint8_t *)text + at, MIN(piece, size - at), &used, &why);
        assert_true(used > 0 && used <= piece);
        at += used;
        if (frame == QMP_FRAME_VALUE) {
            g_string_append_printf(out, "<%s>", f.text->str);
        } else if (frame == QMP_FRAME_ERROR) {
            assert_non_null(why);
            g_string_append_c(out, '!');
        }
    }
    qmp_framer_clear(&f);
    return g_string_free(out, false);
}

static void expect(const char *text, size_t size, const char *wanted)
{
    for (size_t piece = 1; piece <= size; piece += piece < 8 ? 1 : size) {
        g_autofree char *found = frames(text, size, piece);
        assert_string_equal(found, wanted);
    }
}
#define EXPECT(text, wanted) expect(text, sizeof(text) - 1, wanted)

static void values_may_span_lines_and_share_a_line(void **state)
{
    EXPECT("{\"a\": 1}\r\n", "<{\"a\": 1}>");
    EXPECT("{\"a\":\n [1,\r\n\t2]}{}", "<{\"a\":\n [1,\r\n\t2]}><{}>");
    EXPECT("{}[]\"x\" {\"b\":{\"c\":[[]]}}", "<{}><[]><\"x\"><{\"b\":{\"c\":[[]]}}>");
    EXPECT(" \t\r\n", "");
}

static void brackets_in_strings_are_text(void **state)
{
    EXPECT("{\"a\": \"}]{[\"}", "<{\"a\": \"}]{[\"}>");
    EXPECT("{\"a\": \"\\\"}\"}{}", "<{\"a\": \"\\\"}\"}><{}>");
    EXPECT("{\"a\": \"\\\\\"}{}", "<{\"a\": \"\\\\\"}><{}>");
}

static void strings_may_have_single_quotes(void **state)
{
    EXPECT("{'a': '}\"'}'x'\"'\"", "<{'a': '}\"'}><'x'><\"'\">");
    EXPECT("{'a': '\\'}'}{}", "<{'a': '\\'}'}><{}>");
}

static void half_a_value_is_not_a_value(void **state)
{
    EXPECT("{\"execute\": \"stop\"", "");
    EXPECT("{\"execute\": \"st", "");
}

static void garbage_is_one_error_to_the_end_of_the_line(void **state)
{
    EXPECT("hello, world\n{}", "!<{}>");
    EXPECT("}}}]]\n{}", "!<{}>");
    EXPECT("1234 null\n\n{}", "!<{}>");
    EXPECT("GET / HTTP/1.1\r\nHost: x\r\n\r\n{}", "!!<{}>");
    EXPECT("stop {}", "!<{}>"); /* or up to the start of a value */
}

static void an_invalid_byte_resynchronizes(void **state)
{
    EXPECT("{\"a\": [\xff{}", "!<{}>");
    EXPECT("{\"a\": \"half a string\xff{}", "!<{}>");
    EXPECT("{\"a\": \"half a line\n{}", "!<{}>");
    EXPECT("{\"a\": \x01 1}{}", "!!<{}>");
    EXPECT("{\0{}", "!<{}>");
    EXPECT("\xff{}", "!<{}>");
}

static void mismatched_brackets_are_an_error(void **state)
{
    EXPECT("{\"a\": [}\n{}", "!<{}>");
    EXPECT("[{]\n{}", "!<{}>");
}

static void depth_is_bounded(void **state)
{
    GString *text = g_string_new(NULL), *wanted = g_string_new("<");
    for (unsigned i = 0; i < QMP_VALUE_DEPTH; i++) {
        g_string_append_c(text, '[');
    }
    for (unsigned i = 0; i < QMP_VALUE_DEPTH; i++) {
        g_string_append_c(text, ']');
    }
    g_string_append(wanted, text->str);
    g_string_append_c(wanted, '>');
    expect(text->str, text->len, wanted->str);
    g_string_prepend(text, "[");
    g_string_append(text, "]\n{}");
    /* The rest of the value is garbage. */
    g_autofree char *found = frames(text->str, text->len, text->len);
    assert_true(found[0] == '!' && g_str_has_suffix(found, "<{}>"));
    g_string_free(text, true);
    g_string_free(wanted, true);
}

/* ---- long input ---- */

#define MIB ((size_t)1 << 20)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HUGE_BYTES (16 * MIB)
#else
#define HUGE_BYTES (1024 * MIB)
#endif

/* Feeds @begin, @size bytes of @filler, and @end. Checks the results and that memory stays small. */
static void expect_huge(const char *begin, char filler, size_t size, const char *end,
                        unsigned errors)
{
    QmpFramer f;
    static uint8_t chunk[65536];
    unsigned error_count = 0, values = 0;
    size_t used, most = 0;
    const char *why;
    qmp_framer_init(&f);
    memset(chunk, filler, sizeof(chunk));
    qmp_framer_feed(&f, (const uint8_t *)begin, strlen(begin), &used, &why);
    for (size_t at = 0; at < size; at += used) {
        error_count += qmp_framer_feed(&f, chunk, sizeof(chunk), &used, &why) == QMP_FRAME_ERROR;
        most = MAX(most, f.text->allocated_len);
    }
    for (size_t at = 0; at < strlen(end); at += used) {
        QmpFrame frame =
            qmp_framer_feed(&f, (const uint8_t *)end + at, strlen(end) - at, &used, &why);
        error_count += frame == QMP_FRAME_ERROR;
        values += frame == QMP_FRAME_VALUE;
    }
    assert_int_equal(error_count, errors);
    assert_int_equal(values, 1); /* the value after it */
    assert_string_equal(f.text->str, "{\"ok\":1}");
    assert_true(most <= 2 * QMP_VALUE_MAX);
    assert_true(f.text->allocated_len < QMP_VALUE_MAX);
    qmp_framer_clear(&f);
}

static void a_line_of_1_GiB_is_refused_once_and_skipped_to_its_end(void **state)
{
    expect_huge("{\"execute\": \"", 'x', HUGE_BYTES, "\"}\n{\"ok\":1}", 1);
}

static void a_value_of_many_blanks_is_refused_once(void **state)
{
    expect_huge("{\"execute\":", ' ', 16 * MIB, "1}{\"ok\":1}", 1);
}

static void a_long_line_of_garbage_is_one_error(void **state)
{
    expect_huge("x", 'y', 16 * MIB, "\n{\"ok\":1}", 0); /* reported with the x */
}

static void an_invalid_byte_ends_a_skipped_value(void **state)
{
    expect_huge("{\"execute\": \"", 'x', 16 * MIB, "\xff{\"ok\":1}", 1);
}

static void the_longest_value_is_accepted_and_one_byte_more_is_refused(void **state)
{
    for (unsigned more = 0; more < 2; more++) {
        GString *text = g_string_new("{\"a\":\"");
        while (text->len < QMP_VALUE_MAX - 2 + more) {
            g_string_append_c(text, 'x');
        }
        g_string_append(text, "\"}{}");
        g_autofree char *found = frames(text->str, text->len, 4096);
        if (more == 0) {
            assert_int_equal(strlen(found), QMP_VALUE_MAX + 2 + 4);
        } else {
            assert_string_equal(found, "!<{}>");
        }
        g_string_free(text, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_may_span_lines_and_share_a_line),
        cmocka_unit_test(brackets_in_strings_are_text),
        cmocka_unit_test(strings_may_have_single_quotes),
        cmocka_unit_test(half_a_value_is_not_a_value),
        cmocka_unit_test(garbage_is_one_error_to_the_end_of_the_line),
        cmocka_unit_test(an_invalid_byte_resynchronizes),
        cmocka_unit_test(mismatched_brackets_are_an_error),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(a_line_of_1_GiB_is_refused_once_and_skipped_to_its_end),
        cmocka_unit_test(a_value_of_many_blanks_is_refused_once),
        cmocka_unit_test(a_long_line_of_garbage_is_one_error),
        cmocka_unit_test(an_invalid_byte_ends_a_skipped_value),
        cmocka_unit_test(the_longest_value_is_accepted_and_one_byte_more_is_refused),
    };
    return cmocka_run_group_tests_name("vmm/monitor/qmp/qmp_framer", tests, NULL, NULL);
}
