/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics of a backend: operations, bytes, failures, times, histograms. */
#include "tests/block/block_test.h"
#include "block/driver/fault.h"
#include "block/driver/mem.h"

static uint8_t buf[65536];

BLOCK_TEST(each_kind_of_request_counts_as_itself)
{
    BlockBackend *blk = test_blk("d", "mem,size=1M,discard=unmap", true);
    BlkStats s;
    test_io(blk, TEST_READ, 0, 4096, buf, 0);
    test_io(blk, TEST_READ, 512, 512, buf, 0);
    test_io(blk, TEST_WRITE, 8192, 1024, buf, 0);
    test_io(blk, TEST_ZERO, 0, 2048, NULL, 0);
    test_io(blk, TEST_FLUSH, 0, 0, NULL, 0);
    test_io(blk, TEST_DISCARD, 0, 512, NULL, 0);
    blk_stats(blk, &s);
    assert_int_equal(s.operations[BLK_OP_READ], 2);
    assert_int_equal(s.bytes[BLK_OP_READ], 4608);
    assert_int_equal(s.operations[BLK_OP_WRITE], 2);
    assert_int_equal(s.bytes[BLK_OP_WRITE], 3072);
    assert_int_equal(s.operations[BLK_OP_FLUSH], 1);
    assert_int_equal(s.operations[BLK_OP_UNMAP], 1);
    assert_int_equal(s.bytes[BLK_OP_UNMAP], 512);
    assert_int_equal(s.write_end, 9216);
    blk_co_free(blk);
}

BLOCK_TEST(an_unused_backend_has_counted_nothing)
{
    BlockBackend *blk = test_blk("d", "null-co,size=1M", true);
    BlkStats s, none = {.idle_ns = -1};
    blk_stats(blk, &s);
    assert_memory_equal(&s, &none, sizeof(s));
    blk_co_free(blk);
}

BLOCK_TEST(a_failure_counts_as_failed_with_its_time_and_without_its_bytes)
{
    BlockBackend *blk = test_blk(
        "d", "fault,fail-op=write,errno=28,delay-ns=1000000,file.driver=null-co,file.size=1M",
        true);
    BlkStats s;
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, 0), -ENOSPC);
    blk_stats(blk, &s);
    assert_int_equal(s.failed[BLK_OP_WRITE], 1);
    assert_int_equal(s.operations[BLK_OP_WRITE], 0);
    assert_int_equal(s.bytes[BLK_OP_WRITE], 0);
    assert_true(s.time_ns[BLK_OP_WRITE] > 0);
    assert_true(s.idle_ns >= 0);
    blk_co_free(blk);
}

BLOCK_TEST(an_invalid_request_counts_as_invalid_only)
{
    BlockBackend *blk = test_blk("d", "null-co,size=1M", true);
    BlkStats s;
    assert_int_equal(test_io(blk, TEST_READ, 1 << 20, 512, buf, 0), -EINVAL);
    blk_stats(blk, &s);
    assert_int_equal(s.invalid[BLK_OP_READ], 1);
    assert_int_equal(s.failed[BLK_OP_READ] + s.operations[BLK_OP_READ], 0);
    assert_int_equal(s.time_ns[BLK_OP_READ], 0);
    blk_co_free(blk);
}

static void complete_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    assert_true(block_mem_complete(opaque, 0));
}

BLOCK_TEST(time_in_a_drained_section_is_not_counted)
{
    BlockBackend *blk = test_blk("d", "mem,size=1M,manual=on", true);
    BlkStats s;
    co_drained_begin(&blk, 1);
    TestRequest r = {.blk = blk, .op = TEST_READ, .bytes = 512, .buf = buf};
    test_start(&r);
    test_settle();
    blk_stats(blk, &s);
    assert_int_equal(s.idle_ns, -1); /* no request yet */
    co_drained_end(&blk, 1);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 1);
    test_in_home(complete_at_home, blk_root(blk));
    assert_int_equal(test_finish(&r), 0);
    blk_co_free(blk);
}

/* ---- histograms ---- */

#define SLOW "fault,fail-op=any,errno=0,delay-ns=1,file.driver=null-co,file.size=1M"

static coroutine_fn RUNS_IN_MAIN uint64_t bins_in_all(BlockBackend *blk, BlkOp op, unsigned *count)
{
    uint64_t bins[8] = {0}, all = 0;
    const uint64_t *boundaries;
    *count = blk_histogram(blk, op, &boundaries, bins, G_N_ELEMENTS(bins));
    for (unsigned i = 0; i < *count; i++) {
        all += bins[i];
    }
    return all;
}

BLOCK_TEST(a_histogram_counts_from_its_creation)
{
    BlockBackend *blk = test_blk("d", SLOW, true);
    static const uint64_t boundaries[] = {1, 1000, 1000000000000};
    uint64_t bins[8];
    const uint64_t *told;
    unsigned count;
    test_io(blk, TEST_READ, 0, 512, buf, 0);
    assert_int_equal(blk_histogram(blk, BLK_OP_READ, &told, bins, 8), 0);
    blk_co_set_histogram(blk, BLK_OP_READ, boundaries, 3);
    test_io(blk, TEST_READ, 0, 512, buf, 0);
    test_io(blk, TEST_READ, 0, 512, buf, 0);
    test_io(blk, TEST_WRITE, 0, 512, buf, 0);
    assert_int_equal(bins_in_all(blk, BLK_OP_READ, &count), 2);
    assert_int_equal(count, 4);
    assert_int_equal(blk_histogram(blk, BLK_OP_READ, &told, bins, 8), 4);
    assert_memory_equal(told, boundaries, sizeof(boundaries));
    assert_int_equal(bins[0] + bins[3],
                     0); /* no request takes less than 1 ns or more than 1000 s */
    blk_co_set_histogram(blk, BLK_OP_READ, boundaries, 2);
    assert_int_equal(bins_in_all(blk, BLK_OP_READ, &count), 0); /* counts from 0 again */
    blk_co_set_histogram(blk, BLK_OP_READ, NULL, 0);
    assert_int_equal(bins_in_all(blk, BLK_OP_READ, &count), 0);
    assert_int_equal(count, 0);
    blk_co_set_histogram(blk, BLK_OP_FLUSH, boundaries, 3); /* freed with its backend */
    blk_co_free(blk);
}

BLOCK_TEST(a_histogram_changes_under_requests)
{
    BlockBackend *blk = test_blk("d", "null-co,size=1M", true);
    static const uint64_t boundaries[] = {10, 20};
    for (unsigned round = 0; round < 50; round++) {
        TestRequest r[4];
        for (unsigned i = 0; i < 4; i++) {
            r[i] = (TestRequest){.blk = blk, .op = TEST_WRITE, .bytes = 512, .buf = buf};
            test_start(&r[i]);
        }
        blk_co_set_histogram(blk, BLK_OP_WRITE, round % 3 != 0 ? boundaries : NULL, 2);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(test_finish(&r[i]), 0);
        }
    }
    blk_co_free(blk);
}

static void boundaries_ascend_from_above_zero(void **state)
{
    static const uint64_t good[] = {1, 2, UINT64_MAX}, zero[] = {0, 1}, same[] = {1, 1},
                          down[] = {2, 1};
    assert_true(blk_histogram_ok(good, 3));
    assert_true(blk_histogram_ok(good, 0));
    assert_false(blk_histogram_ok(zero, 2));
    assert_false(blk_histogram_ok(same, 2));
    assert_false(blk_histogram_ok(down, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_request_counts_as_itself),
        cmocka_unit_test(an_unused_backend_has_counted_nothing),
        cmocka_unit_test(a_failure_counts_as_failed_with_its_time_and_without_its_bytes),
        cmocka_unit_test(an_invalid_request_counts_as_invalid_only),
        cmocka_unit_test(time_in_a_drained_section_is_not_counted),
        cmocka_unit_test(a_histogram_counts_from_its_creation),
        cmocka_unit_test(a_histogram_changes_under_requests),
        cmocka_unit_test(boundaries_ascend_from_above_zero),
    };
    return block_test_main(tests);
}
