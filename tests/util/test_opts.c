/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "util/json.h"
#include "util/opts.h"

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
        "{'a':1}",
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
        "{\"a\":'b'}",
        "{\"a\":['\":1']}",
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
    opt_dict_set(d, "e.f", "z");
    assert_string_equal(opt_dict_get(d, "driver"), "y");
    assert_string_equal(opt_dict_get(d, "e.f"), "z");
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

/* ---- binding ---- */

typedef struct Target {
    uint64_t canary_low;
    char *name;
    bool flag;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    uint64_t size;
    int mode;
    bool direct;
    OptDict *file;
    GPtrArray *list;
    uint64_t canary_high;
} Target;

static const char *const mode_names[] = {"none", "writeback", "unsafe", NULL};
static const OptSpec specs[] = {
    OPT_SPEC(Target, "name", OPT_STRING, name, .help = "what it is called", .def = "noname"),
    OPT_SPEC(Target, "flag", OPT_BOOL, flag, .help = "a switch", .def = "on"),
    OPT_SPEC(Target, "u8", OPT_U8, u8),
    OPT_SPEC(Target, "u16", OPT_U16, u16, .min = 1, .max = 1024, .def = "7"),
    OPT_SPEC(Target, "u32", OPT_U32, u32),
    OPT_SPEC(Target, "u64", OPT_U64, u64),
    OPT_SPEC(Target, "size", OPT_SIZE, size, .default_unit = 1 << 20, .max = 1ull << 40),
    OPT_SPEC(Target, "mode", OPT_ENUM, mode, .names = mode_names, .def = "writeback"),
    OPT_SPEC(Target, "cache.direct", OPT_BOOL, direct),
    OPT_SPEC(Target, "file", OPT_DICT, file),
    OPT_SPEC(Target, "list", OPT_STRLIST, list),
    {0},
};

static void target_init(Target *t)
{
    memset(t, 0xa5, sizeof(*t));
    opts_init(specs, t);
}

static void target_clear(Target *t)
{
    assert_int_equal(t->canary_low, 0xa5a5a5a5a5a5a5a5);
    assert_int_equal(t->canary_high, 0xa5a5a5a5a5a5a5a5);
    opts_clear(specs, t);
    assert_null(t->name);
    assert_null(t->file);
    assert_null(t->list);
}

static void bind(Target *t, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(text, "name", &error);

    assert_non_null(d);
    target_init(t);
    if (!opts_bind(specs, t, d, "-thing", &error)) {
        fail_msg("%s: %s", text, error->message);
    }
}

static void assert_bind_refused(const char *text, int code, const char *message_part)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(text, "name", &error);
    Target t;

    if (!d) {
        fail_msg("%s: %s", text, error->message);
    }
    target_init(&t);
    if (opts_bind(specs, &t, d, "-thing", &error)) {
        fail_msg("accepted: %s", text);
    }
    if (error->code != code || !strstr(error->message, message_part) ||
        !g_str_has_prefix(error->message, "-thing: ")) {
        fail_msg("%s: code %d: %s", text, error->code, error->message);
    }
    assert_null(t.name);
    target_clear(&t);
}

static void defaults_are_set(void **state)
{
    Target t;

    target_init(&t);
    assert_string_equal(t.name, "noname");
    assert_true(t.flag);
    assert_false(t.direct);
    assert_int_equal(t.u8, 0);
    assert_int_equal(t.u16, 7);
    assert_int_equal(t.u64, 0);
    assert_int_equal(t.mode, 1);
    assert_null(t.file);
    assert_null(t.list);
    target_clear(&t);
}

static void every_type_is_bound(void **state)
{
    Target t;

    bind(&t, "n1,flag=off,u8=255,u16=0x400,u32=4294967295,u64=18446744073709551615,size=3,"
             "mode=unsafe,cache.direct=yes,file.driver=raw,file.size=1,list=a,list=b,,c");
    assert_string_equal(t.name, "n1");
    assert_false(t.flag);
    assert_int_equal(t.u8, 255);
    assert_int_equal(t.u16, 1024);
    assert_int_equal(t.u32, UINT32_MAX);
    assert_true(t.u64 == UINT64_MAX);
    assert_int_equal(t.size, 3 << 20);
    assert_int_equal(t.mode, 2);
    assert_true(t.direct);
    assert_string_equal(opt_dict_get(t.file, "driver"), "raw");
    assert_int_equal(t.list->len, 2);
    assert_string_equal(t.list->pdata[0], "a");
    assert_string_equal(t.list->pdata[1], "b,c");
    target_clear(&t);
}

static void lists_come_in_three_spellings(void **state)
{
    static const char *const same[] = {
        "x,list=a,list=b",
        "x,list.0=a,list.1=b",
        "x,list.1=b,list.0=a",
        "{\"list\": [\"a\", \"b\"]}",
        "{\"list\": [{\"str\": \"a\"}, {\"str\": \"b\"}]}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(same); i++) {
        Target t;

        bind(&t, same[i]);
        assert_int_equal(t.list->len, 2);
        assert_string_equal(t.list->pdata[0], "a");
        assert_string_equal(t.list->pdata[1], "b");
        target_clear(&t);
    }
}

static void what_is_unknown_is_named_with_its_nearest(void **state)
{
    assert_bind_refused("x,flga=on", OPT_ERROR_UNKNOWN, "no option 'flga'; did you mean 'flag'?");
    assert_bind_refused("x,nam=1", OPT_ERROR_UNKNOWN, "did you mean 'name'?");
    assert_bind_refused("x,cache.dircet=on", OPT_ERROR_UNKNOWN, "did you mean 'cache.direct'?");
    assert_bind_refused("x,wholly-different=on", OPT_ERROR_UNKNOWN, "there are name, flag, u8");
    assert_bind_refused("x,noflag", OPT_ERROR_UNKNOWN, "no option 'noflag'");
    assert_bind_refused("x,cache=on", OPT_ERROR_UNKNOWN, "no option 'cache'");
    assert_bind_refused("list=a,mode.x=on", OPT_ERROR_VALUE, "mode: wants one plain value");
}

static void values_out_of_range_are_refused(void **state)
{
    assert_bind_refused("x,u8=256", OPT_ERROR_VALUE, "u8=256: wants a number from 0 to 255");
    assert_bind_refused("x,u8=-1", OPT_ERROR_VALUE, "wants a number from 0 to 255");
    assert_bind_refused("x,u16=0", OPT_ERROR_VALUE, "wants a number from 1 to 1024");
    assert_bind_refused("x,u16=1025", OPT_ERROR_VALUE, "wants a number from 1 to 1024");
    assert_bind_refused("x,u16=65537", OPT_ERROR_VALUE, "wants a number from 1 to 1024");
    assert_bind_refused("x,u32=4294967296", OPT_ERROR_VALUE, "to 4294967295");
    assert_bind_refused("x,u64=18446744073709551616", OPT_ERROR_VALUE, "u64=");
    assert_bind_refused("x,size=2T", OPT_ERROR_VALUE, "wants a size from 0 to 1T");
    assert_bind_refused("x,mode=directsync", OPT_ERROR_VALUE, "one of none, writeback, unsafe");
    assert_bind_refused("x,mode=", OPT_ERROR_VALUE, "one of none");
    assert_bind_refused("x,flag=maybe", OPT_ERROR_VALUE, "flag=maybe: wants on or off");
    assert_bind_refused("x,flag=1", OPT_ERROR_VALUE, "wants on or off");
}

static void ill_typed_values_are_refused(void **state)
{
    assert_bind_refused("x,u8=", OPT_ERROR_VALUE, "wants a number");
    assert_bind_refused("x,u8", OPT_ERROR_VALUE, "wants a number");
    assert_bind_refused("x,u8=1x", OPT_ERROR_VALUE, "wants a number");
    assert_bind_refused("x,u8= 1", OPT_ERROR_VALUE, "wants a number");
    assert_bind_refused("x,u8=+1", OPT_ERROR_VALUE, "wants a number");
    assert_bind_refused("x,u8=0x", OPT_ERROR_VALUE, "wants a number");
    assert_bind_refused("x,u8=1.0", OPT_ERROR_VALUE, "wants a number");
    assert_bind_refused("x,file=plain", OPT_ERROR_VALUE, "file: wants options below it");
    assert_bind_refused("x,list.1=a", OPT_ERROR_VALUE, "without a gap");
    assert_bind_refused("{\"u8\": null}", OPT_ERROR_VALUE, "u8: wants one plain value");
    assert_bind_refused("{\"u8\": [1]}", OPT_ERROR_VALUE, "wants one plain value");
    assert_bind_refused("{\"u8\": {\"a\": 1}}", OPT_ERROR_VALUE, "wants one plain value");
    assert_bind_refused("{\"u8\": 1.5}", OPT_ERROR_VALUE, "wants a number");
    assert_bind_refused("{\"flag\": 1}", OPT_ERROR_VALUE, "wants on or off");
    assert_bind_refused("{\"list\": [[\"a\"]]}", OPT_ERROR_VALUE, "list: wants a list of strings");
    assert_bind_refused("{\"list\": [null]}", OPT_ERROR_VALUE, "wants a list of strings");
    assert_bind_refused("{\"list\": [{\"str\": [1]}]}", OPT_ERROR_VALUE, "list of strings");
    assert_bind_refused("{\"cache\": {\"direct\": \"maybe\"}}", OPT_ERROR_VALUE, "cache.direct=");
}

static void a_key_given_twice_is_refused(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse("x,name=y", "name", &error);
    g_autofree char *name = opt_dict_take(d, "name");
    Target t;

    assert_bind_refused("x,name=y", OPT_ERROR_DUPLICATE, "option 'name' is given twice");
    assert_bind_refused("x,u8=1,u8=1", OPT_ERROR_DUPLICATE, "'u8' is given twice");
    assert_bind_refused("x,cache.direct=on,cache.direct=on", OPT_ERROR_DUPLICATE, "'cache.direct'");
    /* Also when the first of them was taken out before. */
    assert_string_equal(name, "x");
    target_init(&t);
    assert_false(opts_bind(specs, &t, d, "-thing", &error));
    assert_int_equal(error->code, OPT_ERROR_DUPLICATE);
    target_clear(&t);
}

static void a_required_option_is_asked_for(void **state)
{
    static const OptSpec needs[] = {
        {.name = "path", .type = OPT_STRING, .help = "where it is", .required = true},
        {0},
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_new();
    char *path = NULL;

    opts_init(needs, &path);
    assert_false(opts_bind(needs, &path, d, "-thing", &error));
    assert_int_equal(error->code, OPT_ERROR_MISSING);
    assert_string_equal(error->message, "-thing: option 'path' is missing (where it is)");
}

static void an_empty_table_takes_nothing(void **state)
{
    static const OptSpec none[] = {{0}};
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = parse("x");
    int target;

    assert_false(opts_bind(none, &target, d, "-thing", &error));
    assert_string_equal(error->message, "-thing: no option 'driver': there are none here");
}

static void binding_over_a_bound_target_leaks_nothing(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse("y,file.a=2,list=z", "name", &error);
    Target t;

    bind(&t, "x,file.a=1,list=a");
    assert_true(opts_bind(specs, &t, d, NULL, &error));
    assert_string_equal(t.name, "y");
    assert_string_equal(opt_dict_get(t.file, "a"), "2");
    assert_int_equal(t.list->len, 1);
    target_clear(&t);
}

static void help_has_a_line_per_option(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    opts_print_help(specs, out);
    fclose(out);
    assert_non_null(strstr(text, "  name=<string>"));
    assert_non_null(strstr(text, "- what it is called (default: noname)\n"));
    assert_non_null(strstr(text, "  mode=none|writeback|unsafe"));
    assert_non_null(strstr(text, "  u16=<1-1024>"));
    free(text);
}

/* ---- single values ---- */

static void sizes_have_suffixes_and_fractions(void **state)
{
    static const struct {
        const char *text;
        uint64_t unit, bytes;
    } good[] = {
        {"0", 1, 0},
        {"1", 0, 1},
        {"1", 1 << 20, 1 << 20},
        {"1b", 1 << 20, 1},
        {"1k", 1, 1024},
        {"2K", 1, 2048},
        {"1.5G", 1, 3ull << 29},
        {"0.5", 1 << 20, 1 << 19},
        {"007M", 1, 7 << 20},
        {"0x10", 1, 16},
        {"0x10", 1024, 16384},
        {"15E", 1, 15ull << 60},
        {"18446744073709551615", 1, UINT64_MAX},
    };
    static const char *const bad[] = {
        "",    "k",    "-1",   "1kk", "1 k", "1KiB", "16E",  "18446744073709551616", "1.5", "1.k",
        ".5k", "1..k", "0x1k", "0x",  "1e3", "1,5",  "1.5z", "99999999999999999T",   "inf", "nan",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        uint64_t bytes;

        assert_true(opt_parse_size(good[i].text, good[i].unit, &bytes, NULL));
        assert_true(bytes == good[i].bytes);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t bytes = 42;

        if (opt_parse_size(bad[i], 1, &bytes, &error)) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(bytes, 42);
        assert_int_equal(error->code, OPT_ERROR_VALUE);
    }
}

static void near_names_are_found_and_far_ones_are_not(void **state)
{
    static const char *const names[] = {"virtio-blk-pci", "virtio-net-pci", "isa-serial", "q35",
                                        NULL};
    g_autofree char *huge = repeat("virtio", 10000);

    assert_string_equal(opt_nearest("virtio-blk", names), "virtio-blk-pci");
    assert_string_equal(opt_nearest("VIRTIO-BLK-PCI", names), "virtio-blk-pci");
    assert_string_equal(opt_nearest("virtoi-net-pci", names), "virtio-net-pci");
    assert_string_equal(opt_nearest("q53", names), "q35");
    assert_null(opt_nearest("e1000", names));
    assert_null(opt_nearest("", names));
    assert_null(opt_nearest("abc", names));
    assert_null(opt_nearest(huge, names));
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
        cmocka_unit_test(malformed_json_is_refused),
        cmocka_unit_test(json_values_that_do_not_fit_are_refused),
        cmocka_unit_test(a_json_key_given_twice_is_refused),
        cmocka_unit_test(deep_json_is_refused_not_recursed_into),
        cmocka_unit_test(json_text_is_exactly_one_value),
        cmocka_unit_test(a_dict_is_edited_and_copied),
        cmocka_unit_test(scalars_are_walked_in_order),
        cmocka_unit_test(defaults_are_set),
        cmocka_unit_test(every_type_is_bound),
        cmocka_unit_test(lists_come_in_three_spellings),
        cmocka_unit_test(what_is_unknown_is_named_with_its_nearest),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(ill_typed_values_are_refused),
        cmocka_unit_test(a_key_given_twice_is_refused),
        cmocka_unit_test(a_required_option_is_asked_for),
        cmocka_unit_test(an_empty_table_takes_nothing),
        cmocka_unit_test(binding_over_a_bound_target_leaks_nothing),
        cmocka_unit_test(help_has_a_line_per_option),
        cmocka_unit_test(sizes_have_suffixes_and_fractions),
        cmocka_unit_test(near_names_are_found_and_far_ones_are_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
