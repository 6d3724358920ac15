/* SPDX-License-Identifier: Apache-2.0 */
/* Dicts of options bound to structs by a table, and single values: sizes, similar names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "util/opts/opts.h"

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

static void an_unknown_name_is_refused_with_the_nearest_one(void **state)
{
    assert_bind_refused("x,flga=on", OPT_ERROR_UNKNOWN, "no option 'flga'; did you mean 'flag'?");
    assert_bind_refused("x,nam=1", OPT_ERROR_UNKNOWN, "did you mean 'name'?");
    assert_bind_refused("x,cache.dircet=on", OPT_ERROR_UNKNOWN, "did you mean 'cache.direct'?");
    assert_bind_refused("x,wholly-different=on", OPT_ERROR_UNKNOWN, "there are name, flag, u8");
    assert_bind_refused("x,noflag", OPT_ERROR_UNKNOWN, "no option 'noflag'");
    assert_bind_refused("x,cache=on", OPT_ERROR_UNKNOWN, "no option 'cache'");
    assert_bind_refused("list=a,mode.x=on", OPT_ERROR_VALUE, "mode: expects one plain value");
}

static void values_out_of_range_are_refused(void **state)
{
    assert_bind_refused("x,u8=256", OPT_ERROR_VALUE, "u8=256: expects a number from 0 to 255");
    assert_bind_refused("x,u8=-1", OPT_ERROR_VALUE, "expects a number from 0 to 255");
    assert_bind_refused("x,u16=0", OPT_ERROR_VALUE, "expects a number from 1 to 1024");
    assert_bind_refused("x,u16=1025", OPT_ERROR_VALUE, "expects a number from 1 to 1024");
    assert_bind_refused("x,u16=65537", OPT_ERROR_VALUE, "expects a number from 1 to 1024");
    assert_bind_refused("x,u32=4294967296", OPT_ERROR_VALUE, "to 4294967295");
    assert_bind_refused("x,u64=18446744073709551616", OPT_ERROR_VALUE, "u64=");
    assert_bind_refused("x,size=2T", OPT_ERROR_VALUE, "expects a size from 0 to 1T");
    assert_bind_refused("x,mode=directsync", OPT_ERROR_VALUE, "one of none, writeback, unsafe");
    assert_bind_refused("x,mode=", OPT_ERROR_VALUE, "one of none");
    assert_bind_refused("x,flag=maybe", OPT_ERROR_VALUE, "flag=maybe: expects on or off");
    assert_bind_refused("x,flag=1", OPT_ERROR_VALUE, "expects on or off");
}

static void ill_typed_values_are_refused(void **state)
{
    assert_bind_refused("x,u8=", OPT_ERROR_VALUE, "expects a number");
    assert_bind_refused("x,u8", OPT_ERROR_VALUE, "expects a number");
    assert_bind_refused("x,u8=1x", OPT_ERROR_VALUE, "expects a number");
    assert_bind_refused("x,u8= 1", OPT_ERROR_VALUE, "expects a number");
    assert_bind_refused("x,u8=+1", OPT_ERROR_VALUE, "expects a number");
    assert_bind_refused("x,u8=0x", OPT_ERROR_VALUE, "expects a number");
    assert_bind_refused("x,u8=1.0", OPT_ERROR_VALUE, "expects a number");
    assert_bind_refused("x,file=plain", OPT_ERROR_VALUE, "file: expects options below it");
    assert_bind_refused("x,list.1=a", OPT_ERROR_VALUE, "without a gap");
    assert_bind_refused("{\"u8\": null}", OPT_ERROR_VALUE, "u8: expects one plain value");
    assert_bind_refused("{\"u8\": [1]}", OPT_ERROR_VALUE, "expects one plain value");
    assert_bind_refused("{\"u8\": {\"a\": 1}}", OPT_ERROR_VALUE, "expects one plain value");
    assert_bind_refused("{\"u8\": 1.5}", OPT_ERROR_VALUE, "expects a number");
    assert_bind_refused("{\"flag\": 1}", OPT_ERROR_VALUE, "expects on or off");
    assert_bind_refused("{\"list\": [[\"a\"]]}", OPT_ERROR_VALUE,
                        "list: expects a list of strings");
    assert_bind_refused("{\"list\": [null]}", OPT_ERROR_VALUE, "expects a list of strings");
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
    /* Also if the first of them was taken before. */
    assert_string_equal(name, "x");
    target_init(&t);
    assert_false(opts_bind(specs, &t, d, "-thing", &error));
    assert_int_equal(error->code, OPT_ERROR_DUPLICATE);
    target_clear(&t);
}

static void a_missing_required_option_is_an_error(void **state)
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

static void an_empty_table_accepts_no_option(void **state)
{
    static const OptSpec none[] = {{0}};
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse("x", "driver", NULL);
    int target;

    assert_false(opts_bind(none, &target, d, "-thing", &error));
    assert_string_equal(error->message, "-thing: no option 'driver': no options are accepted here");
}

static void an_error_names_the_only_option_of_a_table(void **state)
{
    static const OptSpec one[] = {{.name = "timestamp", .type = OPT_BOOL}, {0}};
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse("x", NULL, NULL);
    bool target;

    assert_false(opts_bind(one, &target, d, "-thing", &error));
    assert_string_equal(error->message, "-thing: no option 'x'; there is only timestamp");
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
    g_autofree char *huge = g_strnfill(60000, 'v');

    assert_string_equal(opt_nearest("virtio-blk", names), "virtio-blk-pci");
    assert_string_equal(opt_nearest("VIRTIO-BLK-PCI", names), "virtio-blk-pci");
    assert_string_equal(opt_nearest("virtoi-net-pci", names), "virtio-net-pci");
    assert_string_equal(opt_nearest("q53", names), "q35");
    assert_null(opt_nearest("e1000", names));
    assert_null(opt_nearest("", names));
    assert_null(opt_nearest("abc", names));
    assert_null(opt_nearest(huge, names));
}

typedef struct Either {
    uint32_t check;
    bool one;
} Either;

static const OptSpec either_specs[] = {
    OPT_SPEC(Either, "check", OPT_U32, check, .def = "5"),
    OPT_SPEC(Either, "check.one", OPT_BOOL, one),
    {0},
};

static bool bind_either(const char *text, Either *e, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_parse(text, NULL, error);
    opts_init(either_specs, e);
    return d != NULL && opts_bind(either_specs, e, d, "-x", error);
}

static void an_option_is_a_value_or_has_options_below_it(void **state)
{
    Either e;
    GError *error = NULL;
    assert_true(bind_either("check=7", &e, &error));
    assert_true(e.check == 7 && !e.one);
    assert_true(bind_either("check.one=on", &e, &error));
    assert_true(e.check == 5 && e.one);
    assert_false(bind_either("check.two=on", &e, &error));
    assert_non_null(strstr(error->message, "'check.two'"));
    g_clear_error(&error);
}

static void a_list_below_an_option_has_the_keys_of_its_dotted_spelling(void **state)
{
    static const char *const spellings[] = {
        "{\"file\": [{\"a\": \"x\", \"b\": [5, 6]}, \"y\"]}",
        "file.0.a=x,file.0.b.0=5,file.0.b.1=6,file.1=y",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(spellings); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(OptDict) d = opt_dict_parse(spellings[i], NULL, &error);
        Target t;
        target_init(&t);
        assert_true(opts_bind(specs, &t, d, "-test", &error));
        assert_int_equal(opt_dict_count(t.file), 2);
        assert_string_equal(opt_dict_get(t.file, "0.a"), "x");
        assert_int_equal(opt_dict_count(opt_dict_get_dict(t.file, "0.b")), 2);
        assert_string_equal(opt_dict_get(t.file, "0.b.1"), "6");
        assert_string_equal(opt_dict_get(t.file, "1"), "y");
        target_clear(&t);
    }
}

/* A dict has a limit of entries, which bounds what a hostile list costs. */
static void a_list_that_is_too_long_is_refused(void **state)
{
    GString *text = g_string_new("{\"file\": [0");
    for (unsigned i = 0; i < 2000; i++) {
        g_string_append(text, ",0");
    }
    g_string_append(text, "]}");
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(text->str, NULL, &error);
    Target t;
    target_init(&t);
    if (d) {
        assert_false(opts_bind(specs, &t, d, "-test", &error));
    }
    assert_non_null(error);
    target_clear(&t);
    g_string_free(text, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_set),
        cmocka_unit_test(every_type_is_bound),
        cmocka_unit_test(lists_come_in_three_spellings),
        cmocka_unit_test(an_unknown_name_is_refused_with_the_nearest_one),
        cmocka_unit_test(an_option_is_a_value_or_has_options_below_it),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(ill_typed_values_are_refused),
        cmocka_unit_test(a_key_given_twice_is_refused),
        cmocka_unit_test(a_missing_required_option_is_an_error),
        cmocka_unit_test(an_empty_table_accepts_no_option),
        cmocka_unit_test(an_error_names_the_only_option_of_a_table),
        cmocka_unit_test(binding_over_a_bound_target_leaks_nothing),
        cmocka_unit_test(help_has_a_line_per_option),
        cmocka_unit_test(sizes_have_suffixes_and_fractions),
        cmocka_unit_test(near_names_are_found_and_far_ones_are_not),
        cmocka_unit_test(a_list_below_an_option_has_the_keys_of_its_dotted_spelling),
        cmocka_unit_test(a_list_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
