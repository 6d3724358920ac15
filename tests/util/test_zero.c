/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "util/zero.h"

static void a_single_byte_is_found_at_every_place(void **state)
{
    uint8_t bytes[200] = {0};
    for (size_t start = 0; start < 9; start++) {
        for (size_t size = 0; start + size <= sizeof(bytes); size++) {
            assert_true(bytes_are_zero(bytes + start, size));
            for (size_t at = start; at < start + size; at++) {
                bytes[at] = 1;
                assert_false(bytes_are_zero(bytes + start, size));
                bytes[at] = 0;
            }
        }
    }
}

static void bytes_around_the_range_do_not_count(void **state)
{
    uint8_t bytes[200];
    for (size_t size = 0; size < 190; size++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = i >= 5 && i < 5 + size ? 0 : 0xff;
        }
        assert_true(bytes_are_zero(bytes + 5, size));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_byte_is_found_at_every_place),
        cmocka_unit_test(bytes_around_the_range_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
