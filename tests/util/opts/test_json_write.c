/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as it is written: QEMU's spacing, ASCII only. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "util/opts/json.h"

static void expect(struct json_object *value_taken, bool pretty, const char *wanted)
{
    GString *out = g_string_new("<");
    json_write_text(out, value_taken, pretty);
    assert_int_equal(out->str[0], '<'); /* it appends */
    assert_string_equal(out->str + 1, wanted);
    g_string_free(out, true);
    json_object_put(value_taken);
}

static struct json_object *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct json_object *value = json_parse_text(text, strlen(text), 32, &error);
    assert_non_null(value);
    return value;
}

static void values_have_a_blank_behind_colon_and_comma(void **state)
{
    expect(parse("{\"a\":1,\"b\":[true,null,-2.5,\"x\"],\"c\":{},\"d\":[]}"), false,
           "{\"a\": 1, \"b\": [true, null, -2.5, \"x\"], \"c\": {}, \"d\": []}");
    expect(NULL, false, "null");
    expect(json_object_new_uint64(UINT64_MAX), false, "18446744073709551615");
    expect(json_object_new_int64(INT64_MIN), false, "-9223372036854775808");
}

static void pretty_is_four_blanks_a_level(void **state)
{
    expect(parse("{\"a\":{\"b\":[1,[]],\"c\":{}}}"), true,
           "{\n    \"a\": {\n        \"b\": [\n            1,\n            [\n            ]\n"
           "        ],\n        \"c\": {\n        }\n    }\n}");
}

static void text_is_ascii(void **state)
{
    expect(json_object_new_string("\"\\/\b\f\n\r\t\x01\x7f"), false,
           "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u007F\"");
    expect(json_object_new_string("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), false,
           "\"\\u00E4\\u20AC\\uD83D\\uDE00\"");
    expect(json_object_new_string_len("a\0b", 3), false, "\"a\\u0000b\"");
}

static void bytes_that_are_not_utf8_are_replaced(void **state)
{
    expect(json_object_new_string("a\xff\xfe z\xc3"), false, "\"a\\uFFFD\\uFFFD z\\uFFFD\"");
    expect(json_object_new_string("\xed\xa0\x80"), false, "\"\\uFFFD\\uFFFD\\uFFFD\"");
    expect(json_object_new_string("\xf0\x9f\x98"), false, "\"\\uFFFD\\uFFFD\\uFFFD\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_have_a_blank_behind_colon_and_comma),
        cmocka_unit_test(pretty_is_four_blanks_a_level),
        cmocka_unit_test(text_is_ascii),
        cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
    };
    return cmocka_run_group_tests_name("util/opts/json_write", tests, NULL, NULL);
}
