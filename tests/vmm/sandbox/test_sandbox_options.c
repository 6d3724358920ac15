/* SPDX-License-Identifier: Apache-2.0 */
/* Accepted and refused values of -sandbox and -run-with. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "vmm/process/run_with.h"
#include "vmm/sandbox/sandbox.h"

static bool parse_sandbox(const char *text, bool *on, char **message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) options = opt_dict_parse(text, "enable", NULL);
    bool ok = sandbox_parse(options, on, &error);
    *message = ok ? NULL : g_strdup(error->message);
    return ok;
}

static void sandbox_options_are_those_of_QEMU(void **state)
{
    bool on;
    char *message;
    assert_true(sandbox_parse(NULL, &on, NULL));
    assert_false(on);
    assert_true(parse_sandbox("on", &on, &message));
    assert_true(on);
    assert_true(parse_sandbox("off", &on, &message));
    assert_false(on);
    assert_true(parse_sandbox(
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", &on, &message));
    assert_true(on);
}

static void wrong_sandbox_options_are_refused_with_a_helpful_line(void **state)
{
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"on,spawn=allow", "spawn=allow: skiff has only spawn=deny"},
        {"on,elevateprivileges=children", "only elevateprivileges=deny"},
        {"on,obsolete=", "only obsolete=deny"},
        {"maybe", "enable"},
        {"on,spwan=deny", "spawn"},
        {"spawn=deny", "enable"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        bool on;
        g_autofree char *message = NULL;
        assert_false(parse_sandbox(wrong[i].text, &on, &message));
        assert_false(on);
        if (strstr(message, "-sandbox") == NULL || strstr(message, wrong[i].says) == NULL) {
            fail_msg("'%s' is refused with: %s", wrong[i].text, message);
        }
    }
}

static bool parse_run_with(const char *text, RunWith *run_with, char **message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) options = opt_dict_parse(text, NULL, NULL);
    bool ok = run_with_parse(run_with, options, &error);
    *message = ok ? NULL : g_strdup(error->message);
    return ok;
}

static void a_user_is_a_name_or_two_numbers(void **state)
{
    RunWith r;
    char *message;
    assert_true(run_with_parse(&r, NULL, NULL));
    assert_false(r.has_user);
    run_with_clear(&r);
    assert_true(parse_run_with("user=12:34,chroot=/", &r, &message));
    assert_true(r.has_user);
    assert_int_equal(r.uid, 12);
    assert_int_equal(r.gid, 34);
    assert_int_equal(r.group_count, 1);
    assert_int_equal(r.groups[0], 34);
    assert_string_equal(r.chroot, "/");
    run_with_clear(&r);
    assert_true(parse_run_with("user=root", &r, &message));
    assert_int_equal(r.uid, 0);
    assert_true(r.group_count >= 1);
    run_with_clear(&r);
}

static void wrong_users_and_directories_are_refused_by_name(void **state)
{
    static const char *const wrong[] = {
        "user=no-such-user",
        "user=1",
        "user=1:",
        "user=:1",
        "user=1:2:3",
        "user=-1:1",
        "user=1:-1",
        "user=4294967295:1",
        "user=18446744073709551616:1",
        "user=",
        "chroot=",
        "chroot=/nonexistent",
        "chroot=/dev/null",
        "async-teardown=on",
        "nobody=x",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        RunWith r;
        g_autofree char *message = NULL;
        if (parse_run_with(wrong[i], &r, &message)) {
            fail_msg("'%s' is taken", wrong[i]);
        }
        assert_true(g_str_has_prefix(message, "-run-with"));
        run_with_clear(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sandbox_options_are_those_of_QEMU),
        cmocka_unit_test(wrong_sandbox_options_are_refused_with_a_helpful_line),
        cmocka_unit_test(a_user_is_a_name_or_two_numbers),
        cmocka_unit_test(wrong_users_and_directories_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
