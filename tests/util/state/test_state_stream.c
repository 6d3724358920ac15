/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/util/state/state_sample.h"
#include "tests/util/state/state_sample_v1.h"
#include "util/opts/json.h"
#include "util/state/crc32c.h"
#include "util/state/state_print.h"

/* ---- whole streams ---- */

static void the_crc_is_crc32c(void **state)
{
    uint8_t zeroes[32] = {0}, ones[32];

    memset(ones, 0xff, sizeof(ones));
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, zeroes, sizeof(zeroes)), 0x8a9136aa); /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, ones, sizeof(ones)), 0x62a8ab43);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    for (size_t i = 0; i < sizeof(ones); i++) {
        ones[i] = (uint8_t)(i * 37);
    }
    for (size_t at = 0; at < sizeof(ones); at++) { /* any alignment and length */
        for (size_t size = 0; size <= sizeof(ones) - at; size++) {
            assert_int_equal(crc32c(7, ones + at, size), crc32c_plain(7, ones + at, size));
        }
    }
}

static void assert_sample_loads(StateStream *s)
{
    g_autoptr(GError) error = NULL;
    SampleChip chips[2] = {{.mode = 1}, {.mode = 1}};
    SampleExtra extra = {0}, none = {42};

    assert_true(state_stream_expect(s, "machine", "sample", &error));
    assert_true(state_stream_load(s, "/a", &sample_chip_desc, &chips[0], false, &error));
    assert_false(state_stream_all_taken(s, NULL));
    assert_true(state_stream_load(s, "/a", &sample_extra_desc, &extra, true, &error));
    assert_true(state_stream_load(s, "/b", &sample_chip_desc, &chips[1], false, &error));
    assert_true(state_stream_load(s, "/b", &sample_extra_desc, &none, true, &error));
    assert_int_equal(none.level, 42);
    assert_memory_equal(chips, sample_chips, sizeof(chips));
    assert_memory_equal(&extra, &sample_extra, sizeof(extra));
    assert_true(state_stream_all_taken(s, &error)); /* the hint may be ignored */
}

static void a_stream_loads_back(void **state)
{
    g_autoptr(GByteArray) stream = sample_stream();
    g_autoptr(GError) error = NULL;
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, &error);

    if (s == NULL) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(s->bytes, stream->len);
    assert_int_equal(s->sections->len, 4);
    assert_string_equal(state_stream_text(s, "configuration"), "{\"memory\": 1}");
    assert_null(state_stream_text(s, "other"));
    assert_sample_loads(s);
}

static void the_first_version_loads_for_ever(void **state)
{
    g_autoptr(GError) error = NULL;
    size_t size;
    const uint8_t *sample = sample_v1(&size);
    g_autoptr(StateStream) s = state_stream_decode(sample, size, &error);

    if (s == NULL) {
        fail_msg("%s", error->message);
    }
    assert_sample_loads(s);
}

static void version_1_is_still_written_to_the_byte(void **state)
{
    size_t size;
    const uint8_t *sample = sample_v1(&size);
    g_autoptr(GByteArray) stream = sample_stream();

    assert_int_equal(stream->len, size);
    assert_memory_equal(stream->data, sample, size);
}

static void bytes_behind_the_stream_are_not_its_own(void **state)
{
    g_autoptr(GByteArray) stream = sample_stream();
    guint size = stream->len;
    g_autoptr(StateStream) s = NULL;

    g_byte_array_append(stream, (const guint8 *)"RAM", 3);
    s = state_stream_decode(stream->data, stream->len, NULL);
    assert_non_null(s);
    assert_int_equal(s->bytes, size);
}

static void an_empty_stream_is_whole(void **state)
{
    g_autoptr(StateWriter) w = state_writer_new();
    g_autoptr(GByteArray) stream = state_writer_end(w, NULL);
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, NULL);

    assert_non_null(s);
    assert_int_equal(s->sections->len, 0);
    assert_true(state_stream_all_taken(s, NULL));
}

static void texts_that_are_none_are_not_written(void **state)
{
    static const char *const wrong[] = {"line\nline", "\x1b[2J", "\xff\xfe", "\x7f"};
    g_autofree char *big = g_strnfill(STATE_TEXT_MAX + 1, 'x');

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(StateWriter) w = state_writer_new();
        g_autoptr(GError) error = NULL;

        assert_false(state_writer_text(w, "t", wrong[i], &error));
        assert_int_equal(error->code, STATE_ERROR_VALUE);
    }
    g_autoptr(StateWriter) w = state_writer_new();
    assert_false(state_writer_text(w, "t", big, NULL));
    big[STATE_TEXT_MAX] = '\0';
    assert_true(state_writer_text(w, "u", big, NULL));
}

typedef struct Huge {
    uint8_t bytes[STATE_RECORD_MAX];
} Huge;
static const StateField huge_fields[] = {STATE_ARRAY(Huge, STATE_BYTES, bytes), {0}};
static const StateDesc huge_desc = {.name = "huge",
                                    .version = 1,
                                    .min_version = 1,
                                    .struct_size = sizeof(Huge),
                                    .fields = huge_fields};
typedef struct Half {
    uint8_t bytes[STATE_RECORD_MAX / 2];
} Half;
static const StateField half_fields[] = {STATE_ARRAY(Half, STATE_BYTES, bytes), {0}};
static const StateDesc half_desc = {.name = "half",
                                    .version = 1,
                                    .min_version = 1,
                                    .struct_size = sizeof(Half),
                                    .fields = half_fields};

static void what_would_not_be_read_is_not_written(void **state)
{
    g_autofree Huge *huge = g_new0(Huge, 1);
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(StateStream) s = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(StateWriter) w = state_writer_new();
    bool ok = true;
    unsigned written = 0;

    assert_false(state_writer_section(w, "/huge", &huge_desc, huge, 0, &error));
    assert_int_equal(error->code, STATE_ERROR_VALUE);
    g_clear_pointer(&w, state_writer_free);
    w = state_writer_new();
    for (unsigned i = 0; ok && i < 64; i++) {
        g_autofree char *instance = g_strdup_printf("/half/%u", i);

        ok = state_writer_section(w, instance, &half_desc, huge, 0, NULL);
        written += ok;
    }
    assert_false(ok);
    stream = state_writer_end(w, NULL);
    assert_true(stream->len <= STATE_STREAM_MAX);
    s = state_stream_decode(stream->data, stream->len, NULL);
    assert_non_null(s);
    assert_int_equal(s->sections->len, written);
}

/* ---- loading ---- */

static StateStream *decode_sample(GByteArray **stream)
{
    *stream = sample_stream();
    StateStream *s = state_stream_decode((*stream)->data, (*stream)->len, NULL);

    assert_non_null(s);
    return s;
}

static void assert_error(const GError *error, int code, const char *part)
{
    assert_non_null(error);
    if (error->domain != STATE_ERROR || error->code != code || !strstr(error->message, part)) {
        fail_msg("'%s' (%d) is not: %s (%d)", part, code, error->message, error->code);
    }
}

static void another_machines_state_is_refused(void **state)
{
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(StateStream) s = decode_sample(&stream);
    GError *error = NULL;
    SampleExtra extra = {0};

    assert_false(state_stream_expect(s, "machine", "other", &error));
    assert_error(error, STATE_ERROR_MACHINE, "machine is sample, not other");
    g_clear_error(&error);
    assert_false(state_stream_expect(s, "cpu", "host", &error));
    assert_error(error, STATE_ERROR_MACHINE, "cpu is not in it, not host");
    g_clear_error(&error);
    assert_false(state_stream_load(s, "/c", &sample_extra_desc, &extra, false, &error));
    assert_error(error, STATE_ERROR_MACHINE, "/c: the state has no section chip/extra");
    g_clear_error(&error);
    assert_false(state_stream_all_taken(s, &error));
    assert_error(error, STATE_ERROR_MACHINE,
                 "a section chip of /a, which this machine does not have");
    g_clear_error(&error);
}

static void a_table_changed_without_a_new_version_is_refused(void **state)
{
    const StateField renamed[] = {STATE_FIELD(SampleExtra, STATE_U32, level), {0}};
    StateField fields[2];
    StateDesc desc = sample_extra_desc;
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(StateStream) s = decode_sample(&stream);
    GError *error = NULL;
    SampleExtra extra = {42};

    memcpy(fields, renamed, sizeof(fields));
    desc.fields = fields;
    fields[0].name = "depth";
    assert_false(state_stream_load(s, "/a", &desc, &extra, false, &error));
    assert_error(error, STATE_ERROR_FORMAT,
                 "field 0 is depth, u32[1]; the stream has level, u32[1]");
    g_clear_error(&error);
    assert_int_equal(extra.level, 42);
    /* A later version may have changed it. */
    desc.version = 2;
    fields[0].since = 2;
    assert_false(state_stream_load(s, "/a", &desc, &extra, false, &error));
    assert_error(error, STATE_ERROR_FORMAT, "there is no field level");
    g_clear_error(&error);
}

static void a_newer_section_is_refused(void **state)
{
    StateDesc desc = sample_chip_desc;
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(StateStream) s = decode_sample(&stream);
    GError *error = NULL;
    SampleChip chip = {0};

    desc.version = 1;
    assert_false(state_stream_load(s, "/a", &desc, &chip, false, &error));
    assert_error(error, STATE_ERROR_VERSION, "/a: state of chip is version 2; versions 1 to 1");
    g_clear_error(&error);
}

/* ---- printing ---- */

static void a_reader_without_tables_prints_it(void **state)
{
    static const char expected[] = "section 0: chip of /a, version 2, 56 bytes\n"
                                   "  mode: 5\n"
                                   "  on: on\n"
                                   "  divisor: 4660 (0x1234)\n"
                                   "  used: 3\n"
                                   "  regs[2]: 0000000000000007 ffffffffffffffff\n"
                                   "  queue[3]: 0001 ffff 0003\n"
                                   "  name[4]: 61 00 ff 62\n"
                                   "  timers_used: 2\n"
                                   "  timers[0]:\n"
                                   "    deadline: 99 (0x63)\n"
                                   "    armed: on\n"
                                   "  timers[1]:\n"
                                   "    deadline: 1000 (0x3e8)\n"
                                   "    armed: off\n";
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(StateStream) s = decode_sample(&stream);

    state_print_section(s->sections->pdata[0], 0, true, text);
    assert_string_equal(text->str, expected);
    g_string_truncate(text, 0);
    state_print_section(s->sections->pdata[3], 3, false, text);
    assert_string_equal(text->str, "section 3: hint of /b, version 1, 4 bytes, may be ignored\n");
    g_string_truncate(text, 0);
    state_print_head(s, text);
    assert_non_null(strstr(text->str, "machine: sample\nconfiguration: {\"memory\": 1}\n"));
}

static void it_prints_json(void **state)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(StateStream) s = decode_sample(&stream);
    struct json_object *o = state_json_section(s->sections->pdata[0], true), *fields;

    json_object_object_get_ex(o, "fields", &fields);
    json_write_text(text, fields, false);
    assert_string_equal(text->str, "{\"mode\": 5, \"on\": true, \"divisor\": 4660, \"used\": 3, "
                                   "\"regs\": [7, 18446744073709551615], \"queue\": [1, 65535, 3], "
                                   "\"name\": \"6100ff62\", \"timers_used\": 2, "
                                   "\"timers\": [{\"deadline\": 99, \"armed\": true}, "
                                   "{\"deadline\": 1000, \"armed\": false}]}");
    json_object_put(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_crc_is_crc32c),
        cmocka_unit_test(a_stream_loads_back),
        cmocka_unit_test(the_first_version_loads_for_ever),
        cmocka_unit_test(version_1_is_still_written_to_the_byte),
        cmocka_unit_test(bytes_behind_the_stream_are_not_its_own),
        cmocka_unit_test(an_empty_stream_is_whole),
        cmocka_unit_test(texts_that_are_none_are_not_written),
        cmocka_unit_test(what_would_not_be_read_is_not_written),
        cmocka_unit_test(another_machines_state_is_refused),
        cmocka_unit_test(a_table_changed_without_a_new_version_is_refused),
        cmocka_unit_test(a_newer_section_is_refused),
        cmocka_unit_test(a_reader_without_tables_prints_it),
        cmocka_unit_test(it_prints_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
