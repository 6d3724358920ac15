/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "util/state/state.h"

typedef struct QueueState {
    uint16_t index;
    bool ready;
    uint8_t pad;
} QueueState;

typedef struct ChipState {
    uint8_t ier;
    bool armed;
    uint16_t divisor;
    uint32_t counter;
    uint64_t time;
    uint8_t fifo[5];
    uint8_t level;
    uint16_t later;
    QueueState queues[3];
    uint32_t regs[2];
    uint32_t tail;
} ChipState;

typedef struct Chip {
    uint64_t before;
    ChipState state;
    uint64_t after;
} Chip;

static const StateField queue_fields[] = {
    STATE_FIELD(QueueState, STATE_U16, index),
    STATE_FIELD(QueueState, STATE_BOOL, ready),
    STATE_PADDING(QueueState, pad),
    {0},
};
static const StateDesc queue_desc = {.name = "queue",
                                     .version = 1,
                                     .min_version = 1,
                                     .struct_size = sizeof(QueueState),
                                     .fields = queue_fields};

static bool chip_check(const void *state, GError **error)
{
    const ChipState *s = state;

    if (s->level > sizeof(s->fifo)) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE, "level beyond the fifo");
        return false;
    }
    return true;
}

static const StateField chip_fields[] = {
    STATE_FIELD_MAX(ChipState, STATE_U8, ier, 0x0f),
    STATE_FIELD(ChipState, STATE_BOOL, armed),
    STATE_FIELD(ChipState, STATE_U16, divisor),
    STATE_FIELD(ChipState, STATE_U32, counter),
    STATE_FIELD(ChipState, STATE_U64, time),
    STATE_ARRAY(ChipState, STATE_BYTES, fifo),
    STATE_FIELD(ChipState, STATE_U8, level),
    STATE_FIELD_SINCE(ChipState, STATE_U16, later, 2),
    STATE_STRUCTS(ChipState, queues, &queue_desc),
    STATE_ARRAY(ChipState, STATE_U32, regs),
    STATE_FIELD(ChipState, STATE_U32, tail),
    {0},
};
static const StateDesc chip_desc = {.name = "chip",
                                    .version = 2,
                                    .min_version = 1,
                                    .struct_offset = offsetof(Chip, state),
                                    .struct_size = sizeof(ChipState),
                                    .fields = chip_fields,
                                    .check = chip_check};

/* Offsets in the stream of chip_desc, version 2. */
enum {
    AT_NAME_LENGTH = 0,
    AT_NAME = 1,
    AT_VERSION = 5,
    AT_LENGTH = 7,
    AT_PAYLOAD = 11,
    AT_IER = AT_PAYLOAD,
    AT_ARMED = AT_PAYLOAD + 1,
    AT_DIVISOR = AT_PAYLOAD + 2,
    AT_LEVEL = AT_PAYLOAD + 21,
    AT_LATER = AT_PAYLOAD + 22,
    AT_QUEUES = AT_PAYLOAD + 24,
    STREAM_SIZE = AT_QUEUES + 9 + 8 + 4
};

static const Chip sample = {
    .before = 1,
    .state = {.ier = 5,
              .armed = true,
              .divisor = 0x1234,
              .counter = 0xdeadbeef,
              .time = 0x0102030405060708,
              .fifo = {1, 2, 3, 4, 5},
              .level = 5,
              .later = 0xabcd,
              .queues = {{1, true, 0}, {0xffff, false, 0}, {3, true, 0}},
              .regs = {7, 8},
              .tail = 9},
    .after = 2,
};

static GByteArray *save(const Chip *chip)
{
    GByteArray *out = g_byte_array_new();

    state_save(&chip_desc, chip, out);
    return out;
}

static void a_saved_state_loads_back(void **state)
{
    g_autoptr(GByteArray) stream = save(&sample);
    g_autoptr(GError) error = NULL;
    Chip chip = {.before = 77, .after = 88};
    size_t used = 0;

    assert_int_equal(stream->len, STREAM_SIZE);
    assert_true(state_load(&chip_desc, &chip, stream->data, stream->len, &used, &error));
    assert_int_equal(used, STREAM_SIZE);
    assert_memory_equal(&chip.state, &sample.state, sizeof(chip.state));
    assert_int_equal(chip.before, 77);
    assert_int_equal(chip.after, 88);
}

static void the_stream_is_tagged_and_little_endian(void **state)
{
    g_autoptr(GByteArray) stream = save(&sample);
    static const uint8_t head[] = {4, 'c', 'h', 'i', 'p', 2,    0,   STREAM_SIZE - AT_PAYLOAD,
                                   0, 0,   0,   5,   1,   0x34, 0x12};

    assert_memory_equal(stream->data, head, sizeof(head));
}

static void data_after_the_state_is_not_consumed(void **state)
{
    g_autoptr(GByteArray) stream = save(&sample);
    Chip chip = {0};
    size_t used = 0;

    state_save(&chip_desc, &sample, stream);
    assert_true(state_load(&chip_desc, &chip, stream->data, stream->len, &used, NULL));
    assert_int_equal(used, STREAM_SIZE);
    assert_true(
        state_load(&chip_desc, &chip, stream->data + used, stream->len - used, &used, NULL));
    assert_int_equal(used, STREAM_SIZE);
}

static void an_older_version_leaves_newer_fields_alone(void **state)
{
    g_autoptr(GByteArray) stream = save(&sample);
    g_autoptr(GError) error = NULL;
    Chip chip = {.state.later = 42};
    size_t used;

    stream->data[AT_VERSION] = 1;
    stream->data[AT_LENGTH] -= 2;
    g_byte_array_remove_range(stream, AT_LATER, 2);
    assert_true(state_load(&chip_desc, &chip, stream->data, stream->len, &used, &error));
    assert_int_equal(chip.state.later, 42);
    assert_int_equal(chip.state.tail, 9);
}

/* ---- hostile streams ---- */

static void assert_load_refused(const uint8_t *data, size_t size, int code)
{
    /* An exact copy, so that ASan sees a read past the end. */
    g_autofree uint8_t *exact = g_memdup2(data, size);
    g_autoptr(GError) error = NULL;
    Chip chip, untouched;
    size_t used = 12345;

    memset(&chip, 0x5a, sizeof(chip));
    untouched = chip;
    assert_false(state_load(&chip_desc, &chip, exact, size, &used, &error));
    assert_int_equal(error->domain, STATE_ERROR);
    if (error->code != code) {
        fail_msg("code %d: %s", error->code, error->message);
    }
    assert_memory_equal(&chip, &untouched, sizeof(chip));
    assert_int_equal(used, 12345);
}

static void every_truncation_is_refused(void **state)
{
    g_autoptr(GByteArray) stream = save(&sample);

    for (size_t size = 0; size < stream->len; size++) {
        assert_load_refused(stream->data, size, STATE_ERROR_FORMAT);
    }
}

/* The stream of the sample with @n bytes at @at changed. */
static void assert_change_refused(size_t at, const void *bytes, size_t n, int code)
{
    g_autoptr(GByteArray) stream = save(&sample);

    memcpy(stream->data + at, bytes, n);
    assert_load_refused(stream->data, stream->len, code);
}

static void wrong_lengths_are_refused(void **state)
{
    static const uint32_t lengths[] = {
        0,
        1,
        STREAM_SIZE - AT_PAYLOAD - 1,
        STREAM_SIZE - AT_PAYLOAD + 1,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        0xfffffff5,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        uint32_t length = GUINT32_TO_LE(lengths[i]);

        assert_change_refused(AT_LENGTH, &length, 4, STATE_ERROR_FORMAT);
    }
}

static void another_name_is_refused(void **state)
{
    assert_change_refused(AT_NAME, "ship", 4, STATE_ERROR_FORMAT);
    assert_change_refused(AT_NAME, "chi", 4, STATE_ERROR_FORMAT);
    assert_change_refused(AT_NAME_LENGTH, "\x03", 1, STATE_ERROR_FORMAT);
    assert_change_refused(AT_NAME_LENGTH, "\x00", 1, STATE_ERROR_FORMAT);
    assert_change_refused(AT_NAME_LENGTH, "\xff", 1, STATE_ERROR_FORMAT);
}

static void another_version_is_refused(void **state)
{
    assert_change_refused(AT_VERSION, "\x00\x00", 2, STATE_ERROR_VERSION);
    assert_change_refused(AT_VERSION, "\x03\x00", 2, STATE_ERROR_VERSION);
    assert_change_refused(AT_VERSION, "\xff\xff", 2, STATE_ERROR_VERSION);
    /* Version 1 has two bytes less. */
    assert_change_refused(AT_VERSION, "\x01\x00", 2, STATE_ERROR_FORMAT);
}

static void values_out_of_range_are_refused(void **state)
{
    assert_change_refused(AT_IER, "\x10", 1, STATE_ERROR_VALUE);
    assert_change_refused(AT_ARMED, "\x02", 1, STATE_ERROR_VALUE);
    assert_change_refused(AT_ARMED, "\xff", 1, STATE_ERROR_VALUE);
    assert_change_refused(AT_QUEUES + 3 + 2, "\x02", 1, STATE_ERROR_VALUE);
}

static void a_failed_cross_field_check_leaves_the_object_alone(void **state)
{
    assert_change_refused(AT_LEVEL, "\x06", 1, STATE_ERROR_VALUE);
}

/* ---- variable arrays ---- */

#define LIST_MAX 5

typedef struct ListState {
    uint32_t bytes_used;
    uint8_t bytes[LIST_MAX];
    uint8_t pad[3];
    uint32_t queues_used;
    QueueState queues[LIST_MAX];
    uint32_t tail;
} ListState;

static const StateField list_fields[] = {
    STATE_FIELD_MAX(ListState, STATE_U32, bytes_used, LIST_MAX),
    STATE_VAR_ARRAY(ListState, STATE_BYTES, bytes, bytes_used),
    STATE_PADDING(ListState, pad),
    STATE_FIELD_MAX(ListState, STATE_U32, queues_used, LIST_MAX),
    STATE_VAR_STRUCTS(ListState, queues, queues_used, &queue_desc),
    STATE_FIELD(ListState, STATE_U32, tail),
    {0},
};
static const StateDesc list_desc = {.name = "list",
                                    .version = 1,
                                    .min_version = 1,
                                    .struct_size = sizeof(ListState),
                                    .fields = list_fields};

enum { LIST_HEAD = 11, LIST_LENGTH = 7 };

static GByteArray *save_list(uint32_t bytes, uint32_t queues)
{
    GByteArray *out = g_byte_array_new();
    ListState list = {.bytes_used = bytes,
                      .bytes = {1, 2, 3, 4, 5},
                      .queues_used = queues,
                      .queues = {{1, true, 0}, {2, false, 0}, {3, true, 0}, {4}, {5}},
                      .tail = 0x55};

    state_save(&list_desc, &list, out);
    return out;
}

static void a_variable_array_saves_what_is_used(void **state)
{
    for (uint32_t bytes = 0; bytes <= LIST_MAX; bytes++) {
        for (uint32_t queues = 0; queues <= LIST_MAX; queues++) {
            g_autoptr(GByteArray) stream = save_list(bytes, queues), again = g_byte_array_new();
            g_autoptr(GError) error = NULL;
            ListState list;
            size_t used = 0;

            assert_int_equal(stream->len, LIST_HEAD + 12 + bytes + 3 * queues);
            memset(&list, 0x5a, sizeof(list));
            assert_true(state_load(&list_desc, &list, stream->data, stream->len, &used, &error));
            assert_int_equal(used, stream->len);
            assert_int_equal(list.tail, 0x55);
            assert_int_equal(list.bytes_used, bytes);
            assert_int_equal(list.queues_used, queues);
            for (uint32_t i = 0; i < LIST_MAX; i++) { /* what is not used is zero */
                assert_int_equal(list.bytes[i], i < bytes ? i + 1 : 0);
                assert_int_equal(list.queues[i].index, i < queues ? i + 1 : 0);
            }
            state_save(&list_desc, &list, again);
            assert_int_equal(again->len, stream->len);
            assert_memory_equal(again->data, stream->data, stream->len);
        }
    }
}

static void assert_list_refused(const GByteArray *stream, int code)
{
    g_autofree uint8_t *exact = g_memdup2(stream->data, stream->len);
    g_autoptr(GError) error = NULL;
    ListState list, untouched;
    size_t used;

    memset(&list, 0, sizeof(list));
    list.tail = 7;
    untouched = list;
    assert_false(state_load(&list_desc, &list, exact, stream->len, &used, &error));
    if (error->code != code) {
        fail_msg("code %d: %s", error->code, error->message);
    }
    assert_memory_equal(&list, &untouched, sizeof(list));
}

static void lengths_of_variable_arrays_are_checked(void **state)
{
    static const uint32_t too_many[] = {LIST_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff};

    for (size_t i = 0; i < G_N_ELEMENTS(too_many); i++) {
        g_autoptr(GByteArray) stream = save_list(2, 2);
        uint32_t n = GUINT32_TO_LE(too_many[i]);

        memcpy(stream->data + LIST_HEAD, &n, 4);
        assert_list_refused(stream, STATE_ERROR_VALUE);
    }
    for (uint32_t n = 0; n <= LIST_MAX; n++) { /* in range, but not what is in the stream */
        g_autoptr(GByteArray) stream = save_list(2, 2);

        stream->data[LIST_HEAD + 4 + 2] = (uint8_t)n;
        if (n != 2) {
            assert_list_refused(stream, STATE_ERROR_FORMAT);
        }
    }
}

static void a_payload_that_ends_early_is_refused(void **state)
{
    g_autoptr(GByteArray) full = save_list(4, 3);

    for (guint size = 0; size < full->len; size++) {
        g_autoptr(GByteArray) stream = g_byte_array_new();

        g_byte_array_append(stream, full->data, size);
        assert_list_refused(stream, STATE_ERROR_FORMAT);
        if (size >= LIST_HEAD) { /* the length says so too */
            stream->data[LIST_LENGTH] = (uint8_t)(size - LIST_HEAD);
            assert_list_refused(stream, STATE_ERROR_FORMAT);
        }
    }
    g_byte_array_append(full, (const guint8 *)"x", 1);
    full->data[LIST_LENGTH]++;
    assert_list_refused(full, STATE_ERROR_FORMAT);
}

/* ---- tables ---- */

static void assert_table_refused(const StateField *fields, uint32_t struct_size, const char *part)
{
    const StateDesc desc = {
        .name = "t", .version = 2, .min_version = 1, .struct_size = struct_size, .fields = fields};
    g_autoptr(GError) error = NULL;

    if (state_check_coverage(&desc, &error)) {
        fail_msg("accepted a table that is wrong: %s", part);
    }
    assert_int_equal(error->code, STATE_ERROR_TABLE);
    if (!strstr(error->message, part)) {
        fail_msg("'%s' is not in: %s", part, error->message);
    }
}

static void a_full_table_passes(void **state)
{
    g_autoptr(GError) error = NULL;

    if (!state_check_coverage(&chip_desc, &error)) {
        fail_msg("%s", error->message);
    }
}

typedef struct Small {
    uint8_t a, b;
    uint16_t c;
    uint32_t d;
} Small;

static void a_forgotten_field_is_found(void **state)
{
    static const StateField middle[] = {STATE_FIELD(Small, STATE_U8, a),
                                        STATE_FIELD(Small, STATE_U16, c),
                                        STATE_FIELD(Small, STATE_U32, d),
                                        {0}};
    static const StateField last[] = {STATE_FIELD(Small, STATE_U8, a),
                                      STATE_FIELD(Small, STATE_U8, b),
                                      STATE_FIELD(Small, STATE_U16, c),
                                      {0}};
    static const StateField none[] = {{0}};

    assert_table_refused(middle, sizeof(Small), "byte 1 of 8, behind a, is in no field");
    assert_table_refused(last, sizeof(Small), "byte 4 of 8, behind c, is in no field");
    assert_table_refused(none, sizeof(Small), "byte 0 of 8, behind the start");
}

static void a_field_in_two_rows_is_found(void **state)
{
    static const StateField twice[] = {
        STATE_FIELD(Small, STATE_U8, a),  STATE_FIELD(Small, STATE_U8, b),
        STATE_FIELD(Small, STATE_U16, c), STATE_FIELD(Small, STATE_U32, d),
        STATE_FIELD(Small, STATE_U8, b),  {0}};
    static const StateField beyond[] = {STATE_FIELD(Small, STATE_U32, d), {0}};

    assert_table_refused(twice, sizeof(Small), "field b overlaps");
    assert_table_refused(beyond, 4, "field d ends at byte 8 of 4");
}

static void a_wrong_size_or_range_is_found(void **state)
{
    static const StateField wide[] = {STATE_FIELD(Small, STATE_U16, a), {0}};
    static const StateField max[] = {STATE_FIELD_MAX(Small, STATE_U8, a, 256), {0}};
    static const StateField since[] = {STATE_FIELD_SINCE(Small, STATE_U8, a, 3), {0}};
    static const StateField sub[] = {STATE_STRUCT_ONE(Small, d, &chip_desc), {0}};
    static const StateField no_sub[] = {STATE_STRUCT_ONE(Small, d, NULL), {0}};

    assert_table_refused(wide, sizeof(Small), "field a has a size");
    assert_table_refused(max, sizeof(Small), "field a has a maximum");
    assert_table_refused(since, sizeof(Small), "field a has `since`");
    assert_table_refused(sub, sizeof(Small), "field d has a size");
    assert_table_refused(no_sub, sizeof(Small), "field d has a size");
}

static void a_variable_array_needs_its_length(void **state)
{
    static const StateField behind[] = {STATE_VAR_ARRAY(ListState, STATE_BYTES, bytes, bytes_used),
                                        STATE_FIELD_MAX(ListState, STATE_U32, bytes_used, LIST_MAX),
                                        {0}};
    static const StateField limit[] = {
        STATE_FIELD_MAX(ListState, STATE_U32, bytes_used, LIST_MAX + 1),
        STATE_VAR_ARRAY(ListState, STATE_BYTES, bytes, bytes_used),
        {0}};
    static const StateField other[] = {STATE_FIELD_SINCE(ListState, STATE_U32, bytes_used, 2),
                                       STATE_VAR_ARRAY(ListState, STATE_BYTES, bytes, bytes_used),
                                       {0}};
    g_autoptr(GError) error = NULL;

    assert_table_refused(behind, sizeof(ListState), "field bytes has no length");
    assert_table_refused(limit, sizeof(ListState), "field bytes has no length");
    assert_table_refused(other, sizeof(ListState), "field bytes has no length");
    if (!state_check_coverage(&list_desc, &error)) {
        fail_msg("%s", error->message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_state_loads_back),
        cmocka_unit_test(the_stream_is_tagged_and_little_endian),
        cmocka_unit_test(data_after_the_state_is_not_consumed),
        cmocka_unit_test(an_older_version_leaves_newer_fields_alone),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(wrong_lengths_are_refused),
        cmocka_unit_test(another_name_is_refused),
        cmocka_unit_test(another_version_is_refused),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(a_failed_cross_field_check_leaves_the_object_alone),
        cmocka_unit_test(a_variable_array_saves_what_is_used),
        cmocka_unit_test(lengths_of_variable_arrays_are_checked),
        cmocka_unit_test(a_payload_that_ends_early_is_refused),
        cmocka_unit_test(a_variable_array_needs_its_length),
        cmocka_unit_test(a_full_table_passes),
        cmocka_unit_test(a_forgotten_field_is_found),
        cmocka_unit_test(a_field_in_two_rows_is_found),
        cmocka_unit_test(a_wrong_size_or_range_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
