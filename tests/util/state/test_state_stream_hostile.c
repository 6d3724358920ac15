/* SPDX-License-Identifier: Apache-2.0 */
/* State streams that somebody wrote to do harm: damaged, with CRCs and lengths that fit the damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/state_seal.h"
#include "tests/util/state/state_sample.h"
#include "util/opts/json.h"
#include "util/state/state_print.h"

/* Decodes an exact copy, so that ASan sees a read past the end. What is accepted can be printed. */
static bool accepted(const GByteArray *stream, GError **error)
{
    g_autofree uint8_t *exact = g_memdup2(stream->data, stream->len);
    g_autoptr(StateStream) s = state_stream_decode(exact, stream->len, error);
    g_autoptr(GString) text = g_string_new(NULL);

    if (s == NULL) {
        return false;
    }
    state_print_head(s, text);
    for (unsigned i = 0; i < s->sections->len; i++) {
        struct json_object *o = state_json_section(s->sections->pdata[i], true);

        state_print_section(s->sections->pdata[i], i, true, text);
        json_write_text(text, o, false);
        json_object_put(o);
    }
    return true;
}

static void assert_refused(const GByteArray *stream, const char *part)
{
    g_autoptr(GError) error = NULL;

    if (accepted(stream, &error)) {
        fail_msg("accepted; expected: %s", part);
    }
    assert_int_equal(error->domain, STATE_ERROR);
    if (strlen(error->message) > 1500 ||
        strcspn(error->message, "\n\r\x1b") != strlen(error->message)) {
        fail_msg("no line: %s", error->message);
    }
    if (strstr(error->message, part) == NULL) {
        fail_msg("'%s' is not in: %s", part, error->message);
    }
}

static void every_cut_is_refused(void **state)
{
    g_autoptr(GByteArray) stream = sample_stream();

    while (stream->len > 0) {
        g_byte_array_set_size(stream, stream->len - 1);
        assert_refused(stream, "state stream: ");
    }
}

static void every_cut_with_a_fitting_prefix_is_refused(void **state)
{
    g_autoptr(GByteArray) stream = sample_stream();

    while (stream->len > STATE_STREAM_PREFIX) {
        g_byte_array_set_size(stream, stream->len - 1);
        state_seal(stream);
        assert_refused(stream, "state stream: ");
    }
}

static void every_changed_byte_is_refused(void **state)
{
    g_autoptr(GByteArray) stream = sample_stream();

    for (guint i = 0; i < stream->len; i++) {
        stream->data[i] ^= 0x10;
        assert_refused(stream, "");
        stream->data[i] ^= 0x10;
    }
}

static void every_record_cut_at_every_byte_is_refused(void **state)
{
    for (unsigned record = 0; record < SAMPLE_RECORDS; record++) {
        StateSpan span;
        g_autoptr(GByteArray) whole = sample_stream();

        assert_true(state_seal_find(whole, record, &span));
        for (guint cut = 1; cut <= span.size - 12; cut++) {
            g_autoptr(GByteArray) stream = sample_stream();

            g_byte_array_remove_range(stream, span.at + span.size - 4 - cut, cut);
            state_seal_resize(stream, record, span.size - 12 - cut);
            state_seal(stream);
            assert_refused(stream, "");
        }
    }
}

static void a_record_with_a_byte_more_is_refused(void **state)
{
    for (unsigned record = 0; record < SAMPLE_RECORDS; record++) {
        StateSpan span;
        g_autoptr(GByteArray) stream = sample_stream();

        assert_true(state_seal_find(stream, record, &span));
        g_byte_array_append(stream, (const guint8 *)"", 1);
        memmove(stream->data + span.at + span.size - 3, stream->data + span.at + span.size - 4,
                stream->len - 1 - (span.at + span.size - 4));
        stream->data[span.at + span.size - 4] = 0;
        state_seal_resize(stream, record, span.size - 12 + 1);
        state_seal(stream);
        assert_refused(stream, "");
    }
}

/* Each number of each width at each place: 0, one more, one less, the largest, the sign bit. Whatever is
 * accepted is printed, so it is walked through. */
static void no_number_anywhere_does_harm(void **state)
{
    static const unsigned widths[] = {1, 2, 4, 8};
    g_autoptr(GByteArray) stream = sample_stream();
    unsigned refused = 0, tried = 0;

    for (guint at = STATE_STREAM_PREFIX; at < stream->len; at++) {
        for (unsigned w = 0; w < G_N_ELEMENTS(widths); w++) {
            unsigned width = widths[w];
            uint64_t old = 0;

            if (at + width > stream->len) {
                continue;
            }
            memcpy(&old, stream->data + at, width);
            const uint64_t values[] = {0,
                                       old + 1,
                                       old - 1,
                                       UINT64_MAX,
                                       UINT64_MAX >> 1,
                                       (uint64_t)1 << (8 * width - 1),
                                       (uint64_t)INT64_MAX >> (64 - 8 * width)};
            for (unsigned v = 0; v < G_N_ELEMENTS(values); v++) {
                g_autoptr(GByteArray) bad = g_byte_array_new();

                g_byte_array_append(bad, stream->data, stream->len);
                memcpy(bad->data + at, &values[v], width);
                state_seal(bad);
                tried++;
                refused += !accepted(bad, NULL);
            }
        }
    }
    assert_true(refused > tried / 4); /* the rest are values of fields, or what was there */
}

/* ---- the prefix ---- */

static void a_wrong_prefix_is_refused(void **state)
{
    static const struct {
        guint at;
        uint8_t value;
        const char *part;
    } wrong[] = {
        {0, 'X', "no saved state of skiff"}, {8, 2, "format version 2"}, {8, 0, "format version 0"},
        {11, 0xff, "format version"},        {12, 1, "features 0x1"},    {15, 0x80, "features"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GByteArray) stream = sample_stream();

        stream->data[wrong[i].at] = wrong[i].value;
        state_seal(stream);
        assert_refused(stream, wrong[i].part);
    }
}

/* ---- sections ---- */

/* The sample with its records in another order. */
static GByteArray *arranged(const unsigned *order, unsigned count)
{
    g_autoptr(GByteArray) stream = sample_stream();
    GByteArray *out = g_byte_array_new();
    StateSpan span;

    g_byte_array_append(out, stream->data, STATE_STREAM_PREFIX);
    for (unsigned i = 0; i < count; i++) {
        assert_true(state_seal_find(stream, order[i], &span));
        g_byte_array_append(out, stream->data + span.at, span.size);
    }
    return out;
}

/* Numbers the sections again, and END, as a forger would. */
static void renumber(GByteArray *stream, unsigned records)
{
    StateSpan span;

    for (unsigned i = 1; i < records; i++) {
        assert_true(state_seal_find(stream, i, &span));
        stream->data[span.at + 8] = (uint8_t)(i - 1);
    }
}

static void records_in_another_order_are_refused(void **state)
{
    static const struct {
        unsigned order[8], count;
        bool renumbered;
        const char *part;
    } wrong[] = {
        {{0, 1, 2, 3, 5}, 5, false, "number of sections in END"},
        {{0, 1, 3, 4, 5}, 5, false, "not the next section"},
        {{0, 1, 3, 2, 4, 5}, 6, false, "not the next section"},
        {{0, 1, 1, 2, 3, 4, 5}, 7, false, "not the next section"},
        {{0, 1, 2, 3, 4, 4, 5}, 7, true, "the section comes twice"},
        {{0, 1, 2, 2, 3, 4, 5}, 7, true, "the section comes twice"},
        {{0, 1, 3, 2, 4, 5}, 6, true, "not behind its section"},
        {{0, 2, 1, 3, 4, 5}, 6, true, "not behind its section"},
        {{1, 0, 2, 3, 4, 5}, 6, false, "first record is not HEAD"},
        {{0, 0, 1, 2, 3, 4, 5}, 7, false, "of kind 0x44414548"},
        {{0, 1, 2, 3, 4}, 5, false, "cut short before its END"},
        {{0, 1, 2, 3, 4, 5, 5}, 7, false, "bytes behind END"},
        {{0}, 0, false, "cut short before its END"},
        {{5}, 1, false, "first record is not HEAD"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GByteArray) stream = arranged(wrong[i].order, wrong[i].count);

        if (wrong[i].renumbered) {
            renumber(stream, wrong[i].count);
        }
        state_seal(stream);
        assert_refused(stream, wrong[i].part);
    }
}

/* Offsets in the body of the section chip of /a. */
enum {
    BODY_FLAGS = 4,
    BODY_INSTANCE = 8, /* length, text */
    BODY_VERSION = 12,
    BODY_TABLE = 14, /* "chip" with its length */
    BODY_COUNT = 19, /* fields */
    BODY_MODE = 21,  /* "mode", type, count, since, max, length */
    BODY_MODE_TYPE = 26,
    BODY_MODE_COUNT = 27,
    BODY_MODE_SINCE = 31,
    BODY_MODE_MAX = 33,
    BODY_ON = 42,
};

static void assert_change_refused(guint at, const void *bytes, guint size, const char *part)
{
    g_autoptr(GByteArray) stream = sample_stream();
    StateSpan span;

    assert_true(state_seal_find(stream, 1, &span));
    memcpy(stream->data + span.at + 8 + at, bytes, size);
    state_seal(stream);
    assert_refused(stream, part);
}

static void wrong_descriptions_are_refused(void **state)
{
    assert_change_refused(BODY_FLAGS, "\x02", 1, "unknown flags");
    assert_change_refused(BODY_FLAGS, "\xff\xff\xff\xff", 4, "unknown flags");
    assert_change_refused(BODY_INSTANCE, "\x00\x00", 2, "no instance");
    assert_change_refused(BODY_INSTANCE, "\x00\x04", 2, "no instance");
    assert_change_refused(BODY_INSTANCE, "\xff\xff", 2, "no instance");
    assert_change_refused(BODY_INSTANCE + 2, "\x1b", 1, "no instance");
    assert_change_refused(BODY_VERSION, "\x00\x00", 2, "no version");
    assert_change_refused(BODY_VERSION, "\x01\x00", 2, "divisor is newer than the table");
    assert_change_refused(BODY_VERSION, "\x03\x00", 2, "name, version and length");
    assert_change_refused(BODY_TABLE, "\x00", 1, "no name");
    assert_change_refused(BODY_TABLE, "\x40", 1, "no name");
    assert_change_refused(BODY_TABLE, "\xff", 1, "no name");
    assert_change_refused(BODY_TABLE + 1, "c\x1bip", 4, "no name");
    assert_change_refused(BODY_TABLE + 1, "ship", 4, "name, version and length");
    assert_change_refused(BODY_COUNT, "\x00\x00", 2, "no field");
    assert_change_refused(BODY_COUNT, "\xff\xff", 2, "no field");
    assert_change_refused(BODY_MODE, "\x00", 1, "field 0 is cut short or has no name");
    assert_change_refused(BODY_MODE_TYPE, "\x00", 1, "unknown type");
    assert_change_refused(BODY_MODE_TYPE, "\x08", 1, "unknown type");
    assert_change_refused(BODY_MODE_TYPE, "\xff", 1, "unknown type");
    assert_change_refused(BODY_MODE_COUNT, "\x00\x00\x00\x00", 4, "no elements");
    assert_change_refused(BODY_MODE_COUNT, "\xff\xff\xff\xff", 4, "field mode is cut short");
    assert_change_refused(BODY_MODE_COUNT, "\x00\x00\x00\x80", 4, "field mode is cut short");
    assert_change_refused(BODY_MODE_SINCE, "\x03\x00", 2, "newer than the table");
    assert_change_refused(BODY_MODE_MAX, "\x00\x01", 2, "exceeds its type");
    assert_change_refused(BODY_MODE_MAX, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "exceeds its type");
    assert_change_refused(BODY_MODE_MAX, "\x04", 1, "field mode is 5, more than 4");
    assert_change_refused(BODY_MODE + 1, "on\x01", 3, "");
    assert_change_refused(BODY_ON, "\x02on\x05\x00\x00\x00\x00", 8, "no elements");
}

/* ---- tables made by hand ---- */

static void put(GByteArray *b, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = i < 8 ? (uint8_t)(value >> (8 * i)) : 0;

        g_byte_array_append(b, &byte, 1);
    }
}

static void put_name(GByteArray *b, const char *name)
{
    put(b, strlen(name), 1);
    g_byte_array_append(b, (const guint8 *)name, (guint)strlen(name));
}

static void put_field(GByteArray *b, const char *name, unsigned type, uint32_t count, uint64_t max,
                      const char *length)
{
    put_name(b, name);
    put(b, type, 1);
    put(b, count, 4);
    put(b, 1, 2);
    put(b, max, 8);
    put_name(b, length);
}

/* A stream with one section whose table is @table and whose payload is @payload. */
static GByteArray *forged(const GByteArray *table, const void *payload, guint size)
{
    GByteArray *out = g_byte_array_new();
    g_autoptr(GByteArray) body = g_byte_array_new();

    put(body, 0, 8);
    put(body, 2, 2);
    g_byte_array_append(body, (const guint8 *)"/x", 2);
    put(body, 1, 2);
    g_byte_array_append(body, table->data, table->len);
    put_name(body, "t");
    put(body, 1, 2);
    put(body, size, 4);
    g_byte_array_append(body, payload, size);
    g_byte_array_append(out, (const guint8 *)"SKIFFVMS\x01\0\0\0", 12);
    put(out, 0, 20);
    g_byte_array_append(out, (const guint8 *)"HEAD\x04\0\0\0\0\0\0\0\0\0\0\0SECT", 20);
    put(out, body->len, 4);
    g_byte_array_append(out, body->data, body->len);
    put(out, 0, 4);
    g_byte_array_append(out, (const guint8 *)"END \x04\0\0\0\x01\0\0\0\0\0\0\0", 16);
    state_seal(out);
    return out;
}

static void tables_that_refer_to_what_is_not_there_are_refused(void **state)
{
    static const struct {
        unsigned n_type, n_count;
        uint64_t n_max;
        const char *length, *part;
    } wrong[] = {
        {STATE_U32, 1, 2, "m", "no earlier field with its length"},
        {STATE_U32, 1, 2, "a", "no earlier field"},
        {STATE_U16, 1, 2, "n", "no earlier field with its length"},
        {STATE_U32, 2, 2, "n", "no earlier field"},
        {STATE_U32, 1, 0, "n", "no earlier field with its length"},
        {STATE_U32, 1, 3, "n", "no earlier field"},
        {STATE_U32, 1, 1, "n", "no earlier field with its length"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GByteArray) table = g_byte_array_new(), stream = NULL;

        put_name(table, "t");
        put(table, 2, 2);
        put_field(table, "n", wrong[i].n_type, wrong[i].n_count, wrong[i].n_max, "");
        put_field(table, "a", STATE_U8, 2, 0, wrong[i].length);
        stream = forged(table, "\x01\0\0\0\x07", 5);
        assert_refused(stream, wrong[i].part);
    }
}

static void a_forged_table_that_fits_is_accepted(void **state)
{
    g_autoptr(GByteArray) table = g_byte_array_new(), stream = NULL, longer = NULL, shorter = NULL,
                          more = NULL;
    g_autoptr(GError) error = NULL;

    put_name(table, "t");
    put(table, 2, 2);
    put_field(table, "n", STATE_U32, 1, 2, "");
    put_field(table, "a", STATE_U8, 2, 0, "n");
    stream = forged(table, "\x01\0\0\0\x07", 5);
    if (!accepted(stream, &error)) {
        fail_msg("%s", error->message);
    }
    longer = forged(table, "\x01\0\0\0\x07\x07", 6);
    assert_refused(longer, "state of t has 1 bytes too many");
    shorter = forged(table, "\x02\0\0\0\x07", 5);
    assert_refused(shorter, "field a is cut short");
    more = forged(table, "\x03\0\0\0\x07\x07\x07", 7);
    assert_refused(more, "field n is 3, more than 2");
}

static void a_name_twice_is_refused(void **state)
{
    g_autoptr(GByteArray) table = g_byte_array_new(), stream = NULL;

    put_name(table, "t");
    put(table, 2, 2);
    put_field(table, "n", STATE_U8, 1, 0, "");
    put_field(table, "n", STATE_U8, 1, 0, "");
    stream = forged(table, "\x01\x02", 2);
    assert_refused(stream, "field 1, n comes twice");
}

static void tables_nest_eight_deep(void **state)
{
    for (unsigned depth = 1; depth < 2000; depth += depth < 10 ? 1 : 500) {
        g_autoptr(GByteArray) table = g_byte_array_new(), stream = NULL;

        for (unsigned i = 0; i < depth; i++) {
            put_name(table, "t");
            put(table, 1, 2);
            put_field(table, "n", i + 1 < depth ? STATE_STRUCT : STATE_U8, 1, 0, "");
        }
        stream = forged(table, "\x01", 1);
        if (depth <= 8) {
            assert_true(accepted(stream, NULL));
        } else {
            assert_refused(stream, "nest too deeply");
        }
    }
}

/* 2^32 - 1 elements each of 2^32 - 1 elements end with the payload. */
static void counts_of_nested_tables_end_with_the_payload(void **state)
{
    g_autoptr(GByteArray) table = g_byte_array_new(), stream = NULL;
    uint8_t payload[64] = {0};

    for (unsigned i = 0; i < 7; i++) {
        put_name(table, "t");
        put(table, 1, 2);
        put_field(table, "n", STATE_STRUCT, UINT32_MAX, 0, "");
    }
    put_name(table, "t");
    put(table, 1, 2);
    put_field(table, "n", STATE_U8, 1, 0, "");
    stream = forged(table, payload, sizeof(payload));
    assert_refused(stream, "field n is cut short");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(every_cut_with_a_fitting_prefix_is_refused),
        cmocka_unit_test(every_changed_byte_is_refused),
        cmocka_unit_test(every_record_cut_at_every_byte_is_refused),
        cmocka_unit_test(a_record_with_a_byte_more_is_refused),
        cmocka_unit_test(no_number_anywhere_does_harm),
        cmocka_unit_test(a_wrong_prefix_is_refused),
        cmocka_unit_test(records_in_another_order_are_refused),
        cmocka_unit_test(wrong_descriptions_are_refused),
        cmocka_unit_test(tables_that_refer_to_what_is_not_there_are_refused),
        cmocka_unit_test(a_forged_table_that_fits_is_accepted),
        cmocka_unit_test(a_name_twice_is_refused),
        cmocka_unit_test(tables_nest_eight_deep),
        cmocka_unit_test(counts_of_nested_tables_end_with_the_payload),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
