/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/gdb/rsp.h"

static RspReader reader;

static int new_reader(void **unused)
{
    rsp_reader_init(&reader);
    return 0;
}

/* Feeds @text and expects @event at its last byte, and none before. */
static void expect_event(const char *text, RspEvent event)
{
    size_t used, size = strlen(text);
    assert_int_equal(rsp_reader_feed(&reader, (const uint8_t *)text, size, &used), event);
    assert_int_equal(used, size);
}

static void expect_packet(const char *text, const char *payload)
{
    expect_event(text, RSP_PACKET);
    assert_string_equal(reader.payload, payload);
    assert_int_equal(reader.size, strlen(payload));
}

static void test_a_packet_is_framed_and_summed(void **unused)
{
    expect_packet("$OK#9a", "OK");
    expect_packet("$#00", "");
    expect_packet("$?#3f", "?");
    expect_packet("$OK#9A", "OK");
}

static void test_a_packet_may_come_byte_by_byte(void **unused)
{
    const char *text = "$m1000,4#8e";
    for (const char *p = text; *p != '\0'; p++) {
        char one[] = {*p, '\0'};
        expect_event(one, p[1] == '\0' ? RSP_PACKET : RSP_MORE);
    }
    assert_string_equal(reader.payload, "m1000,4");
}

static void test_bytes_between_packets_are_reported_or_skipped(void **unused)
{
    expect_event("+", RSP_ACK);
    expect_event("-", RSP_NAK);
    expect_event("\003", RSP_INTERRUPT);
    expect_event("garbage #!", RSP_MORE);
    expect_packet("more$OK#9a", "OK");
}

static void test_two_packets_at_once_are_two_events(void **unused)
{
    const char *text = "$OK#9a$?#3f";
    size_t used;
    assert_int_equal(rsp_reader_feed(&reader, (const uint8_t *)text, strlen(text), &used),
                     RSP_PACKET);
    assert_int_equal(used, 6);
    expect_packet(text + used, "?");
}

static void test_a_damaged_packet_is_reported_and_the_next_is_complete(void **unused)
{
    expect_event("$OK#9b", RSP_DAMAGED);
    expect_event("$OK#zz", RSP_DAMAGED);
    expect_event("$OK}#17", RSP_DAMAGED); /* an escape without a byte */
    expect_packet("$OK#9a", "OK");
}

static void test_a_new_packet_inside_one_starts_over(void **unused)
{
    expect_packet("$m1000,$OK#9a", "OK");
}

static void test_escapes_are_undone(void **unused)
{
    expect_event("$X0,4:}\x03}\x04}]}\x0a#ff", RSP_DAMAGED); /* the sum covers the bytes as sent */
    assert_memory_equal(reader.payload, "X0,4:#$}*", 9);
    uint8_t sum = 0;
    const char *payload = "X0,4:}\x03}\x04}]}\x0a";
    for (const char *p = payload; *p != '\0'; p++) {
        sum += (uint8_t)*p;
    }
    g_autofree char *text = g_strdup_printf("$%s#%02x", payload, sum);
    expect_packet(text, "X0,4:#$}*");
}

static void test_an_endless_packet_is_damaged_and_stays_in_bounds(void **unused)
{
    g_autofree char *text = g_malloc(3 * RSP_PAYLOAD_MAX + 2);
    memset(text, 'a', 3 * RSP_PAYLOAD_MAX);
    text[0] = '$';
    text[3 * RSP_PAYLOAD_MAX] = '\0';
    expect_event(text, RSP_MORE);
    assert_int_equal(reader.size, RSP_PAYLOAD_MAX);
    expect_event("#00", RSP_DAMAGED);
    expect_packet("$OK#9a", "OK");
}

static void test_the_longest_packet_fits(void **unused)
{
    g_autofree char *payload = g_strnfill(RSP_PAYLOAD_MAX, 'a');
    uint8_t sum = (uint8_t)(RSP_PAYLOAD_MAX * 'a');
    g_autofree char *text = g_strdup_printf("$%s#%02x", payload, sum);
    expect_packet(text, payload);
}

static char *sent(const char *payload, size_t size)
{
    GByteArray *out = g_byte_array_new();
    rsp_put_packet(out, payload, size);
    g_byte_array_append(out, (const uint8_t *)"", 1);
    return (char *)g_byte_array_free(out, false);
}

static void test_packets_are_sent_with_escapes_and_runs(void **unused)
{
    g_autofree char *ok = sent("OK", 2);
    assert_string_equal(ok, "$OK#9a");
    g_autofree char *escaped = sent("#$}*", 4);
    assert_memory_equal(escaped, "$}\x03}\x04}]}\x0a#", 10);
    g_autofree char *run = sent("0000", 4); /* the manual's example: "0* " */
    assert_string_equal(run, "$0* #7a");
    g_autofree char *no_run = sent("000", 3);
    assert_string_equal(no_run, "$000#90");
}

/* The receiver's expansion, as in the manual. */
static GString *expand(const char *packet)
{
    GString *s = g_string_new(NULL);
    const char *at = packet + 1;
    for (; *at != '#'; at++) {
        if (*at == '}') {
            g_string_append_c(s, *++at ^ 0x20);
        } else if (*at == '*') {
            char last = s->str[s->len - 1];
            assert_true(at[1] >= 32 && at[1] <= 126);
            assert_null(strchr("#$+-", at[1]));
            for (int n = *++at - 29; n > 0; n--) {
                g_string_append_c(s, last);
            }
        } else {
            g_string_append_c(s, *at);
        }
    }
    return s;
}

static void test_runs_of_every_length_expand_to_themselves(void **unused)
{
    for (size_t n = 1; n < 400; n++) {
        g_autofree char *payload = g_strnfill(n, n % 7 == 0 ? '#' : 'x');
        payload[n / 2] = 'y';
        g_autofree char *packet = sent(payload, n);
        GString *s = expand(packet);
        assert_string_equal(s->str, payload);
        g_string_free(s, true);
    }
}

static void test_numbers_and_bytes_are_taken_or_refused(void **unused)
{
    const char *at = "1fF,";
    uint64_t n;
    assert_true(rsp_take_number(&at, &n));
    assert_int_equal(n, 0x1ff);
    assert_true(rsp_take_char(&at, ','));
    assert_false(rsp_take_number(&at, &n));
    at = "ffffffffffffffff";
    assert_true(rsp_take_number(&at, &n));
    assert_true(n == UINT64_MAX);
    at = "10000000000000000";
    assert_false(rsp_take_number(&at, &n));
    uint8_t bytes[2];
    at = "12ab";
    assert_true(rsp_take_bytes(&at, bytes, 2));
    assert_memory_equal(bytes, "\x12\xab", 2);
    at = "123";
    assert_false(rsp_take_bytes(&at, bytes, 2));
    at = "vCont;c";
    assert_true(rsp_take_text(&at, "vCont"));
    assert_false(rsp_take_text(&at, "vCont"));
}

static void test_threads_have_numbers_and_an_optional_process(void **unused)
{
    static const struct {
        const char *text;
        bool ok;
        RspThread thread;
    } cases[] = {
        {"1", true, {.id = 1}},
        {"a", true, {.id = 10}},
        {"0", true, {.any = true}},
        {"-1", true, {.all = true}},
        {"p1.2", true, {.id = 2}},
        {"p1.-1", true, {.all = true}},
        {"p-1", true, {.all = true}},
        {"p1.0", true, {.any = true}},
        {"", false, {0}},
        {"p", false, {0}},
        {"p1.", false, {0}},
        {"-2", false, {0}},
        {"fffffffffffffffff", false, {0}},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *at = cases[i].text;
        RspThread t;
        assert_int_equal(rsp_take_thread(&at, &t), cases[i].ok);
        if (cases[i].ok) {
            assert_int_equal(t.id, cases[i].thread.id);
            assert_int_equal(t.any, cases[i].thread.any);
            assert_int_equal(t.all, cases[i].thread.all);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_packet_is_framed_and_summed, new_reader),
        cmocka_unit_test_setup(test_a_packet_may_come_byte_by_byte, new_reader),
        cmocka_unit_test_setup(test_bytes_between_packets_are_reported_or_skipped, new_reader),
        cmocka_unit_test_setup(test_two_packets_at_once_are_two_events, new_reader),
        cmocka_unit_test_setup(test_a_damaged_packet_is_reported_and_the_next_is_complete,
                               new_reader),
        cmocka_unit_test_setup(test_a_new_packet_inside_one_starts_over, new_reader),
        cmocka_unit_test_setup(test_escapes_are_undone, new_reader),
        cmocka_unit_test_setup(test_an_endless_packet_is_damaged_and_stays_in_bounds, new_reader),
        cmocka_unit_test_setup(test_the_longest_packet_fits, new_reader),
        cmocka_unit_test(test_packets_are_sent_with_escapes_and_runs),
        cmocka_unit_test(test_runs_of_every_length_expand_to_themselves),
        cmocka_unit_test(test_numbers_and_bytes_are_taken_or_refused),
        cmocka_unit_test(test_threads_have_numbers_and_an_optional_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
