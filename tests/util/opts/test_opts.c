/* SPDX-License-Identifier: Apache-2.0 */
/* Options as text and as JSON, and the dicts made from them. Binding: test_opts_bind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "util/opts/json.h"
#include "util/opts/opts.h"

static OptDict *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    OptDict *d = opt_dict_parse(text, "driver", &error);

    if (!d) {
        fail_msg("%s: %s", text, error->message);
    }
    assert_null(error);
    return d;
}

static void assert_refused(const char *text, int code)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", &error);

    if (d) {
        fail_msg("accepted: %.80s", text);
    }
    assert_non_null(error);
    assert_int_equal(error->domain, OPT_ERROR);
    if (error->code != code) {
        fail_msg("%.80s: code %d: %s", text, error->code, error->message);
    }
    assert_true(strlen(error->message) < 300);
}

/* ---- key=value ---- */

static void a_key_with_a_value_and_options_below_it_can_be_folded(void **state)
{
    g_autoptr(OptDict) d =
        opt_dict_parse_folding("x=1,file=a,,b=c,file.aio=y", "file", "filename", NULL);
    assert_string_equal(opt_dict_get(d, "file.filename"), "a,b=c");
    assert_string_equal(opt_dict_get(d, "file.aio"), "y");
    g_autoptr(OptDict) plain =
        opt_dict_parse_folding("file=a,b=,,file.x=1,c=file.d", "file", "f", NULL);
    assert_string_equal(opt_dict_get(plain, "file"), "a"); /* nothing is below it */
    g_autoptr(OptDict) json =
        opt_dict_parse_folding("{\"file\":\"a\",\"b\":\"file.x\"}", "file", "f", NULL);
    assert_string_equal(opt_dict_get(json, "file"), "a");
    g_autoptr(OptDict) empty = opt_dict_parse_folding("", "file", "f", NULL);
    assert_int_equal(opt_dict_count(empty), 0);
    g_autoptr(GError) error = NULL;
    assert_null(opt_dict_parse_folding("file.x=1,file.x.y=2,file=3", "file", "f", &error));
    assert_non_null(error);
}

static void pairs_are_parsed_in_qemu_spelling(void **state)
{
    g_autoptr(OptDict) d = parse("virtio-blk-pci,drive=d0,num-queues=4,x_y=,flag");

    assert_int_equal(opt_dict_count(d), 5);
    assert_string_equal(opt_dict_get(d, "driver"), "virtio-blk-pci");
    assert_string_equal(opt_dict_get(d, "drive"), "d0");
    assert_string_equal(opt_dict_get(d, "num-queues"), "4");
    assert_string_equal(opt_dict_get(d, "x_y"), "");
    assert_string_equal(opt_dict_get(d, "flag"), "on");
    assert_null(opt_dict_get(d, "driv"));
    assert_null(opt_dict_get(d, "drivers"));
}

static void a_doubled_comma_is_a_comma(void **state)
{
    g_autoptr(OptDict) d = parse("a,,b,file=/tmp/x,,y,,,,z,last=,,");

    assert_string_equal(opt_dict_get(d, "driver"), "a,b");
    assert_string_equal(opt_dict_get(d, "file"), "/tmp/x,y,,z");
    assert_string_equal(opt_dict_get(d, "last"), ",");
}

static void a_value_may_hold_anything_else(void **state)
{
    g_autoptr(OptDict) d = parse("file=a=b c\td\xff{}[].\"',x=1");

    assert_string_equal(opt_dict_get(d, "file"), "a=b c\td\xff{}[].\"'");
    assert_string_equal(opt_dict_get(d, "x"), "1");
}

static void an_empty_string_is_an_empty_dict(void **state)
{
    g_autoptr(OptDict) d = parse("");

    assert_int_equal(opt_dict_count(d), 0);
}

static void a_comma_at_the_end_is_ignored(void **state)
{
    g_autoptr(OptDict) d = parse("a=b,");

    assert_int_equal(opt_dict_count(d), 1);
    assert_string_equal(opt_dict_get(d, "a"), "b");
}

static void dots_nest(void **state)
{
    g_autoptr(OptDict) d = parse("qcow2,file.driver=file,file.filename=a.img,file.x.y=1");
    OptDict *file = opt_dict_get_dict(d, "file");

    assert_non_null(file);
    assert_int_equal(opt_dict_count(d), 2);
    assert_string_equal(opt_dict_get(file, "filename"), "a.img");
    assert_string_equal(opt_dict_get(d, "file.driver"), "file");
    assert_string_equal(opt_dict_get(d, "file.x.y"), "1");
    assert_null(opt_dict_get(d, "file"));
    assert_null(opt_dict_get(d, "file.x"));
    assert_null(opt_dict_get(d, "file.driver.x"));
}

static void cpu_features_keep_their_sign(void **state)
{
    g_autoptr(OptDict) d = parse("host,+avx2,-svm");

    assert_string_equal(opt_dict_get(d, "+avx2"), "on");
    assert_string_equal(opt_dict_get(d, "-svm"), "on");
}

static void malformed_pairs_are_refused(void **state)
{
    static const char *const bad[] = {
        "=1",       "x,=1",     "x,a b=1",       "x,a\n=1", "x,.a=1",  "x,a.=1",
        "x,a..b=1", "x,.=1",    "x,\xc3\xa4=1",  "x,a/b=1", "x,a+b=1", "x,b,,c",
        "x, a=1",   "x,a=1,{}", "x,\x01\x1b[2J", "x,a=1,.", "x,a=1,=", "x,/etc/passwd",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_refused(bad[i], OPT_ERROR_SYNTAX);
    }
}

static void a_message_shows_no_control_bytes(void **state)
{
    g_autoptr(GError) error = NULL;

    assert_null(opt_dict_parse("x,\x1b[2J=1", "driver", &error));
    assert_null(strchr(error->message, '\x1b'));
    assert_non_null(strstr(error->message, "'\\x1b[2J'"));
}

static void a_key_with_and_without_options_below_is_refused(void **state)
{
    assert_refused("x,file=a,file.driver=raw", OPT_ERROR_DUPLICATE);
    assert_refused("x,file.driver=raw,file=a", OPT_ERROR_DUPLICATE);
}

static char *repeat(const char *text, size_t times)
{
    GString *s = g_string_new(NULL);

    while (times-- > 0) {
        g_string_append(s, text);
    }
    return g_string_free(s, FALSE);
}

static void very_long_and_very_deep_input_is_bounded(void **state)
{
    g_autofree char *value = repeat("v", 1 << 20);
    g_autofree char *long_pair = g_strconcat("x,file=", value, NULL);
    g_autofree char *long_key = g_strconcat("x,", value, "/=1", NULL);
    g_autofree char *deep = repeat("a.", 100000);
    g_autofree char *deep_pair = g_strconcat("x,", deep, "a=1", NULL);
    g_autofree char *many = repeat("x=1,", 100000);
    g_autoptr(OptDict) d = parse(long_pair);

    assert_string_equal(opt_dict_get(d, "file"), value);
    assert_refused(long_key, OPT_ERROR_SYNTAX);
    assert_refused(deep_pair, OPT_ERROR_SYNTAX);
    assert_refused(many, OPT_ERROR_SYNTAX);
}

/* ---- JSON ---- */

static void json_gives_the_same_dict(void **state)
{
    g_autoptr(OptDict) d = parse(
        "{\"driver\": \"qcow2\", \"n\": 18446744073709551615, \"neg\": -3, \"on\": true, "
        "\"off\": false, \"f\": 1.5, \"file\": {\"driver\": \"file\"}, \"backing\": null} \n");

    assert_string_equal(opt_dict_get(d, "driver"), "qcow2");
    assert_string_equal(opt_dict_get(d, "n"), "18446744073709551615");
    assert_string_equal(opt_dict_get(d, "neg"), "-3");
    assert_string_equal(opt_dict_get(d, "on"), "on");
    assert_string_equal(opt_dict_get(d, "off"), "off");
    assert_string_equal(opt_dict_get(d, "f"), "1.5");
    assert_string_equal(opt_dict_get(d, "file.driver"), "file");
    assert_true(opt_dict_has(d, "backing"));
    assert_true(opt_dict_is_null(d, "backing"));
    assert_false(opt_dict_is_null(d, "driver"));
    assert_null(opt_dict_get(d, "backing"));
}

static void json_strings_may_be_in_apostrophes(void **state)
{
    static const char *const cases[][2] = {
        {"{'a': 'x'}", "x"},
        {"{\"a\": 'x'}", "x"},
        {"{'a': 'say \"x\"'}", "say \"x\""},
        {"{'a': 'say \\\"x\\\"'}", "say \"x\""},
        {"{'a': 'it\\'s'}", "it's"},
        {"{'a': \"it\\'s\"}", "it's"},
        {"{\"a\": \"it's\"}", "it's"},
        {"{'a': '\\u0041\\\\'}", "A\\"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(OptDict) d = opt_dict_parse(cases[i][0], NULL, &error);
        assert_null(error);
        assert_string_equal(opt_dict_get(d, "a"), cases[i][1]);
    }
    static const char *const wrong[] = {"{'a': 'x\"}",  "{'a': \"x'}", "{'a': 'x}",
                                        "{'a': 'x\\'}", "{'a': 'x''}", "{'a': x'}"};
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(opt_dict_parse(wrong[i], NULL, &error));
        assert_non_null(error);
    }
}

static void malformed_json_is_refused(void **state)
{
    static const char *const bad[] = {
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":}",
        "{\"a\":1",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\":1}}",
        "{\"a\":1} x",
        "{\"a\":1}{\"b\":1}",
        "{\"a\":1}]",
        "{\"a\":nul}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-Infinity}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":+1}",
        "{\"a\":\"\\q\"}",
        "{\"a\":\"unended}",
        "{\"a\":\"\xff\xfe\"}",
        "{\"a.b\":1}",
        "{\"\":1}",
        "{\"a b\":1}",
        "{\"a\":[1,]}",
        "{/* no */}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_refused(bad[i], OPT_ERROR_SYNTAX);
    }
}

static void json_values_that_do_not_fit_are_refused(void **state)
{
    assert_refused("{\"a\": 18446744073709551616}", OPT_ERROR_VALUE);
    assert_refused("{\"a\": -9223372036854775809}", OPT_ERROR_VALUE);
    assert_refused("{\"a\": [99999999999999999999999999]}", OPT_ERROR_VALUE);
    assert_refused("{\"a\\u0000b\": 1}", OPT_ERROR_VALUE);
    assert_refused("{\"a\": \"x\\u0000y\"}", OPT_ERROR_VALUE);
    assert_refused("{\"s\": {\"a\": [\"x\\u0000y\"]}}", OPT_ERROR_VALUE);
    assert_refused("{\"a\": \"\xed\xa0\x80\"}", OPT_ERROR_VALUE);
    assert_refused("{\"a\": \"\xf4\x90\x80\x80\"}", OPT_ERROR_VALUE);
    /* json-c would substitute another character for half a surrogate pair. */
    assert_refused("{\"a\": \"\\uD800\"}", OPT_ERROR_VALUE);
    assert_refused("{\"a\": \"\\uDFFFx\"}", OPT_ERROR_VALUE);
    assert_refused("{\"a\": \"\\uD83D\\uD83D\"}", OPT_ERROR_VALUE);
    assert_refused("{\"a\": \"\\uD83D\\uDE00\\uDE00\"}", OPT_ERROR_VALUE);
    assert_refused("{\"a\\uD83D\": 1}", OPT_ERROR_VALUE);
}

static void a_json_key_given_twice_is_refused(void **state)
{
    assert_refused("{\"a\": 1, \"a\": 2}", OPT_ERROR_DUPLICATE);
    assert_refused("{\"x\": [{\"a\": \":\", \"a\": \"\\\":\"}]}", OPT_ERROR_DUPLICATE);
    g_autoptr(OptDict) d = parse("{\"a\": \"x:y\\\":\", \"b\": {\"a\": \"{\\\"a\\\":1}\"}}");

    assert_string_equal(opt_dict_get(d, "a"), "x:y\":");
}

static void deep_json_is_refused_not_recursed_into(void **state)
{
    g_autofree char *arrays = repeat("[", 100000);
    g_autofree char *objects = repeat("{\"a\":", 100000);
    g_autofree char *deep = g_strconcat("{\"a\":", arrays, NULL);
    g_autofree char *inner = repeat("{\"a\":", 30);
    g_autofree char *close = repeat("}", 30);
    g_autofree char *fine = g_strconcat(inner, "1", close, NULL);
    g_autoptr(OptDict) d = NULL;

    assert_refused(deep, OPT_ERROR_SYNTAX);
    assert_refused(objects, OPT_ERROR_SYNTAX);
    d = parse(fine);
    assert_int_equal(opt_dict_count(d), 1);
}

static void json_text_is_exactly_one_value(void **state)
{
    g_autoptr(GError) error = NULL;
    struct json_object *value = json_parse_text(" [1, 2] ", 8, 4, &error);

    assert_non_null(value);
    json_object_put(value);
    value = json_parse_text("12", 2, 4, &error);
    assert_non_null(value);
    assert_int_equal(json_object_get_int(value), 12);
    json_object_put(value);
    assert_null(json_parse_text("{}\0x", 4, 4, &error));
    g_clear_error(&error);
    assert_null(json_parse_text("\0", 1, 4, &error));
    g_clear_error(&error);
    assert_null(json_parse_text("", 0, 4, &error));
    g_clear_error(&error);
    assert_null(json_parse_text("null", 4, 4, &error));
    g_clear_error(&error);
    assert_null(json_parse_text("[[[[[1]]]]]", 11, 4, &error));
}

/* ---- dicts ---- */

static void a_dict_is_edited_and_copied(void **state)
{
    g_autoptr(OptDict) d = parse("x,a=1,b.c=2,b.d=3");
    g_autoptr(OptDict) copy = opt_dict_copy(d);
    g_autofree char *a = opt_dict_take(d, "a");
    g_autofree char *c = opt_dict_take(d, "b.c");
    g_autoptr(OptDict) b = opt_dict_take_dict(d, "b");

    assert_string_equal(a, "1");
    assert_string_equal(c, "2");
    assert_string_equal(opt_dict_get(b, "d"), "3");
    assert_int_equal(opt_dict_count(b), 1);
    assert_false(opt_dict_has(d, "a"));
    assert_null(opt_dict_take(d, "a"));
    assert_null(opt_dict_take_dict(d, "driver"));
    opt_dict_set(d, "driver", "y");
    opt_dict_set_default(d, "driver", "x");
    opt_dict_set_default(d, "h", "v");
    opt_dict_set(d, "e.f", "z");
    assert_string_equal(opt_dict_get(d, "driver"), "y");
    assert_string_equal(opt_dict_get(d, "e.f"), "z");
    assert_string_equal(opt_dict_get(d, "h"), "v");
    opt_dict_set_dict(d, "g", opt_dict_copy(b));
    assert_string_equal(opt_dict_get(d, "g.d"), "3");
    opt_dict_remove(d, "g");
    assert_false(opt_dict_has(d, "g"));
    assert_string_equal(opt_dict_get(copy, "b.c"), "2");
    assert_string_equal(opt_dict_get(copy, "driver"), "x");
}

static void collect(const char *key, const char *value, void *opaque)
{
    g_string_append_printf(opaque, "%s=%s;", key, value);
}

static void scalars_are_walked_in_order(void **state)
{
    g_autoptr(OptDict) d = parse("host,+a,sse4.1=off,-b");
    g_autoptr(GString) seen = g_string_new(NULL);

    opt_dict_foreach(d, collect, seen);
    assert_string_equal(seen->str, "driver=host;+a=on;sse4.1=off;-b=on;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_parsed_in_qemu_spelling),
        cmocka_unit_test(a_key_with_a_value_and_options_below_it_can_be_folded),
        cmocka_unit_test(a_doubled_comma_is_a_comma),
        cmocka_unit_test(a_value_may_hold_anything_else),
        cmocka_unit_test(an_empty_string_is_an_empty_dict),
        cmocka_unit_test(a_comma_at_the_end_is_ignored),
        cmocka_unit_test(dots_nest),
        cmocka_unit_test(cpu_features_keep_their_sign),
        cmocka_unit_test(malformed_pairs_are_refused),
        cmocka_unit_test(a_message_shows_no_control_bytes),
        cmocka_unit_test(a_key_with_and_without_options_below_is_refused),
        cmocka_unit_test(very_long_and_very_deep_input_is_bounded),
        cmocka_unit_test(json_gives_the_same_dict),
        cmocka_unit_test(json_strings_may_be_in_apostrophes),
        cmocka_unit_test(malformed_json_is_refused),
        cmocka_unit_test(json_values_that_do_not_fit_are_refused),
        cmocka_unit_test(a_json_key_given_twice_is_refused),
        cmocka_unit_test(deep_json_is_refused_not_recursed_into),
        cmocka_unit_test(json_text_is_exactly_one_value),
        cmocka_unit_test(a_dict_is_edited_and_copied),
        cmocka_unit_test(scalars_are_walked_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
