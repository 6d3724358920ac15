/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>
#include "tests/support/death.h"
#include "util/iov.h"

/* "abc" "" "defgh" "" "ij" in separate allocations, so that ASan sees a byte too far. */
typedef struct Sample {
    char *parts[5];
    struct iovec iov[5];
} Sample;

static const char *const part_texts[] = {"abc", "", "defgh", "", "ij"};
static const char all[] = "abcdefghij";

static int set_up(void **state)
{
    Sample *s = g_new0(Sample, 1);

    for (unsigned i = 0; i < 5; i++) {
        size_t length = strlen(part_texts[i]);

        s->parts[i] = g_memdup2(part_texts[i], length);
        s->iov[i] = (struct iovec){.iov_base = s->parts[i], .iov_len = length};
    }
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    Sample *s = *state;

    for (unsigned i = 0; i < 5; i++) {
        g_free(s->parts[i]);
    }
    g_free(s);
    return 0;
}

static void size_is_the_sum(void **state)
{
    Sample *s = *state;

    assert_int_equal(iov_size(s->iov, 5), 10);
    assert_int_equal(iov_size(s->iov, 0), 0);
    assert_int_equal(iov_size(NULL, 0), 0);
}

static void overflow(void *arg)
{
    struct iovec two[] = {{.iov_len = SIZE_MAX}, {.iov_len = 1}};

    iov_size(two, 2);
}

static void a_sum_that_overflows_aborts(void **state)
{
    assert_dies(overflow, NULL, "longer than the address space");
}

static void every_range_is_copied_out_like_from_one_buffer(void **state)
{
    Sample *s = *state;

    for (size_t offset = 0; offset <= 12; offset++) {
        for (size_t bytes = 0; bytes <= 12; bytes++) {
            size_t want = offset < 10 ? MIN(bytes, 10 - offset) : 0;
            char buf[13];

            memset(buf, '.', sizeof(buf));
            assert_int_equal(iov_copy_to_buf(s->iov, 5, offset, buf, bytes), want);
            assert_memory_equal(buf, all + MIN(offset, 10), want);
            assert_int_equal(buf[want], '.');
        }
    }
}

static void every_range_is_copied_in_like_into_one_buffer(void **state)
{
    for (size_t offset = 0; offset <= 12; offset++) {
        for (size_t bytes = 0; bytes <= 12; bytes++) {
            size_t want = offset < 10 ? MIN(bytes, 10 - offset) : 0;
            char expected[11], result[11] = "";
            void *inner;
            Sample *s;

            set_up(&inner);
            s = inner;
            memcpy(expected, all, sizeof(expected));
            memcpy(expected + MIN(offset, 10), "0123456789ABC", want);
            assert_int_equal(iov_copy_from_buf(s->iov, 5, offset, "0123456789ABC", bytes), want);
            iov_copy_to_buf(s->iov, 5, 0, result, 10);
            assert_string_equal(result, expected);
            tear_down(&inner);
        }
    }
}

static void memset_stays_in_its_range(void **state)
{
    Sample *s = *state;
    char result[11] = "";

    assert_int_equal(iov_memset(s->iov, 5, 2, '-', 5), 5);
    assert_int_equal(iov_memset(s->iov, 5, 9, '+', SIZE_MAX), 1);
    iov_copy_to_buf(s->iov, 5, 0, result, 10);
    assert_string_equal(result, "ab-----hi+");
}

static void a_slice_is_a_view_without_empty_elements(void **state)
{
    Sample *s = *state;
    struct iovec dst[5];
    size_t covered;

    assert_int_equal(iov_slice(dst, 5, s->iov, 5, 2, 7, &covered), 3);
    assert_int_equal(covered, 7);
    assert_ptr_equal(dst[0].iov_base, s->parts[0] + 2);
    assert_int_equal(dst[0].iov_len, 1);
    assert_ptr_equal(dst[1].iov_base, s->parts[2]);
    assert_int_equal(dst[1].iov_len, 5);
    assert_ptr_equal(dst[2].iov_base, s->parts[4]);
    assert_int_equal(dst[2].iov_len, 1);
    assert_int_equal(iov_slice(dst, 5, s->iov, 5, 0, 0, NULL), 0);
    assert_int_equal(iov_slice(dst, 5, s->iov, 5, 10, 5, &covered), 0);
    assert_int_equal(covered, 0);
}

static void a_slice_stops_when_its_array_is_full(void **state)
{
    Sample *s = *state;
    struct iovec dst[2];
    size_t covered;

    assert_int_equal(iov_slice(dst, 2, s->iov, 5, 0, 10, &covered), 2);
    assert_int_equal(covered, 8);
    assert_int_equal(iov_slice(dst, 0, s->iov, 5, 0, 10, &covered), 0);
    assert_int_equal(covered, 0);
}

static void the_front_of_a_list_can_be_removed(void **state)
{
    char a[4] = "abc", b[4] = "def", c[4] = "ghi";
    struct iovec list[] = {{a, 3}, {b, 3}, {c, 3}}, *iov = list;
    unsigned count = 3;
    iov_discard_front(&iov, &count, 0);
    assert_int_equal(count, 3);
    iov_discard_front(&iov, &count, 4);
    assert_int_equal(count, 2);
    assert_ptr_equal(iov[0].iov_base, b + 1);
    assert_int_equal(iov[0].iov_len, 2);
    iov_discard_front(&iov, &count, 2);
    assert_int_equal(count, 1);
    assert_ptr_equal(iov[0].iov_base, c);
    iov_discard_front(&iov, &count, 3);
    assert_int_equal(count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(size_is_the_sum, set_up, tear_down),
        cmocka_unit_test(a_sum_that_overflows_aborts),
        cmocka_unit_test_setup_teardown(every_range_is_copied_out_like_from_one_buffer, set_up,
                                        tear_down),
        cmocka_unit_test(every_range_is_copied_in_like_into_one_buffer),
        cmocka_unit_test(the_front_of_a_list_can_be_removed),
        cmocka_unit_test_setup_teardown(memset_stays_in_its_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slice_is_a_view_without_empty_elements, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_slice_stops_when_its_array_is_full, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
