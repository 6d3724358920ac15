/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "util/library.h"

typedef double (*MathFunction)(double);

static void functions_are_there_after_the_first_load(void **unused)
{
    static const char *const names[] = {"sqrt", "floor", NULL};
    static MathFunction slots[2];
    static Library library = {
        .soname = "libm.so.6", .package = "libc6", .names = names, .slots = slots};
    assert_null(slots[0]);
    assert_true(library_load(&library, NULL));
    assert_true(slots[0](16) == 4 && slots[1](2.5) == 2);
    slots[0] = NULL;
    assert_true(library_load(&library, NULL)); /* does not write them again */
    assert_null(slots[0]);
}

static void a_missing_library_is_refused_with_its_package(void **unused)
{
    static const char *const names[] = {"foo", NULL};
    static MathFunction slots[1];
    static Library library = {.soname = "libskiff-missing.so.9",
                              .package = "libmissing9",
                              .names = names,
                              .slots = slots};
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        assert_false(library_load(&library, &error));
        assert_non_null(strstr(error->message, "libskiff-missing.so.9"));
        assert_non_null(strstr(error->message, "package libmissing9"));
    }
}

static void a_library_without_a_function_is_refused_by_its_name(void **unused)
{
    static const char *const names[] = {"sqrt", "no_such_function", NULL};
    static MathFunction slots[2];
    static Library library = {
        .soname = "libm.so.6", .package = "libc6", .names = names, .slots = slots};
    g_autoptr(GError) error = NULL;
    assert_false(library_load(&library, &error));
    assert_string_equal(error->message, "libm.so.6 has no no_such_function()");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_there_after_the_first_load),
        cmocka_unit_test(a_missing_library_is_refused_with_its_package),
        cmocka_unit_test(a_library_without_a_function_is_refused_by_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
