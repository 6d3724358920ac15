/* SPDX-License-Identifier: Apache-2.0 */
/* File names that mean an export of an NBD server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "block/nbd/nbd_client_name.h"

static void join_option(const char *key, const char *value, void *opaque)
{
    GString *text = opaque;
    g_string_append_printf(text, "%s%s=%s", text->len > 0 ? "," : "", key, value);
}

static void a_name_means_what_qemu_makes_of_it(void **state)
{
    static const struct {
        const char *name, *means;
    } rows[] = {
        {"nbd://h", "driver=nbd,server.type=inet,server.host=h,server.port=10809"},
        {"nbd://h:7/", "driver=nbd,server.type=inet,server.host=h,server.port=7"},
        {"nbd://h/a/b", "driver=nbd,export=a/b,server.type=inet,server.host=h,server.port=10809"},
        {"nbd+tcp://h:7/e", "driver=nbd,export=e,server.type=inet,server.host=h,server.port=7"},
        {"nbd://[::1]:7/e", "driver=nbd,export=e,server.type=inet,server.host=::1,server.port=7"},
        {"nbd://h/a%20b", "driver=nbd,export=a b,server.type=inet,server.host=h,server.port=10809"},
        {"nbd+unix://?socket=/s", "driver=nbd,server.type=unix,server.path=/s"},
        {"nbd+unix:///?socket=/s", "driver=nbd,server.type=unix,server.path=/s"},
        {"nbd+unix:///e?socket=/a%3fb", "driver=nbd,export=e,server.type=unix,server.path=/a?b"},
        {"nbd:h:7", "driver=nbd,server.type=inet,server.host=h,server.port=7"},
        {"nbd:[::1]:7", "driver=nbd,server.type=inet,server.host=::1,server.port=7"},
        {"nbd:h:7:exportname=a:b", "driver=nbd,export=a:b,server.type=inet,server.host=h,"
                                   "server.port=7"},
        {"nbd:unix:/a/b:exportname=e", "driver=nbd,export=e,server.type=unix,server.path=/a/b"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) text = g_string_new(NULL);
        assert_true(nbd_client_is_name(rows[i].name));
        g_autoptr(OptDict) d = nbd_client_describe_name(rows[i].name, &error);
        if (d == NULL) {
            fail_msg("%s: %s", rows[i].name, error->message);
        }
        opt_dict_foreach(d, join_option, text);
        assert_string_equal(text->str, rows[i].means);
    }
}

static void a_wrong_name_is_refused_in_words(void **state)
{
    static const char *const names[] = {
        "nbd://",
        "nbd:///e",
        "nbd://h/?a=b",
        "nbd+unix:///e",
        "nbd+unix://h/e?socket=/s",
        "nbd+unix:///e?socket=/s&a=b",
        "nbd+unix:///e?socket=",
        "nbd+unix:///e?path=/s",
        "nbds://h/e",
        "nbd:h",
        "nbd:h:",
        "nbd:",
        "nbd:[::1]",
        "nbd:[::1",
        "nbd+tcp:h:7",
        "nbd://h:99999999/",
        "nbd://h/%zz",
        "nbd+unix:///%?socket=/s",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        assert_true(nbd_client_is_name(names[i]));
        if (nbd_client_describe_name(names[i], &error) != NULL) {
            fail_msg("'%s' is accepted", names[i]);
        }
        assert_non_null(error);
    }
}

static void other_names_are_left_alone(void **state)
{
    assert_false(nbd_client_is_name("/nbd:x"));
    assert_false(nbd_client_is_name("./nbd:x"));
    assert_false(nbd_client_is_name("nbdx:h:7"));
    assert_false(nbd_client_is_name("http://h/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_means_what_qemu_makes_of_it),
        cmocka_unit_test(a_wrong_name_is_refused_in_words),
        cmocka_unit_test(other_names_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
