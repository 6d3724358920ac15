/* SPDX-License-Identifier: Apache-2.0 */
/* The fault filter. With it: errors that are reported once, drains that wait for held requests, and
 * writes that overlap in an aligned block. */
#include "tests/block/block_test.h"
#include "block/driver/fault.h"
#include "block/driver/mem.h"

#define FAULT_MEM "fault,file.driver=mem,file.size=1M,"

static uint8_t buf[4096];

typedef struct Control {
    BlockNode *node;
    const BlockFault *set;
    unsigned release;
    unsigned released;
} Control;

static void control_at_home(void *opaque)
{
    Control *c = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    if (c->set != NULL) {
        block_fault_set(c->node, c->set);
    }
    c->released = block_fault_release(c->node, c->release);
}

static coroutine_fn RUNS_IN_MAIN void fault_set(BlockBackend *blk, const BlockFault *fault)
{
    Control c = {.node = blk_root(blk), .set = fault};
    test_in_home(control_at_home, &c);
}

static coroutine_fn RUNS_IN_MAIN unsigned fault_release(BlockBackend *blk, unsigned count)
{
    Control c = {.node = blk_root(blk), .release = count};
    test_in_home(control_at_home, &c);
    return c.released;
}

BLOCK_TEST(nth_request_of_a_kind_fails_and_the_others_do_not)
{
    BlockBackend *blk =
        test_blk("d", FAULT_MEM "fail-op=write,fail-after=2,fail-count=1,errno=28", true);
    uint8_t data[512] = {1};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(test_io(blk, TEST_READ, 0, 512, data, 0), 0);
        assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, data, 0), i == 2 ? -ENOSPC : 0);
        assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    }
    assert_int_equal(block_fault_hits(blk_root(blk)), 1);
    blk_co_free(blk);
}

BLOCK_TEST(requests_are_chosen_by_the_range_they_touch)
{
    BlockBackend *blk =
        test_blk("d", FAULT_MEM "fail-op=any,fail-offset=4096,fail-length=512", true);
    uint8_t data[1024];
    assert_int_equal(test_io(blk, TEST_READ, 3584, 512, data, 0), 0);
    assert_int_equal(test_io(blk, TEST_READ, 3584, 1024, data, 0), -EIO);
    assert_int_equal(test_io(blk, TEST_READ, 4608, 512, data, 0), 0);
    assert_int_equal(test_io(blk, TEST_ZERO, 4000, 1024, NULL, 0), -EIO);
    assert_int_equal(test_io(blk, TEST_WRITE, 4096, 1, data, 0), -EIO);
    blk_co_free(blk);
}

BLOCK_TEST(flush_of_a_forced_write_fails_the_write)
{
    /* The child has no FUA here: the border flushes after the write. */
    BlockBackend *blk = test_blk(
        "d", "raw,file.driver=fault,file.fail-op=flush,file.file.driver=mem,file.file.size=1M",
        true);
    uint8_t data[512] = {1};
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), -EIO);
    assert_int_equal(test_io(blk, TEST_ZERO, 0, 512, NULL, BLOCK_REQ_FUA), -EIO);
    assert_int_equal(test_io(blk, TEST_ZERO, 0, 512, NULL, 0), 0);
    blk_set_write_cache(blk, false);
    assert_int_equal(test_io(blk, TEST_ZERO, 0, 512, NULL, 0), -EIO);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, data, 0), 0); /* mem supports FUA */
    blk_co_free(blk);
}

static void drain_and_end(void *opaque)
{
    TestEvent *e = opaque;
    enter_coroutine();
    enter_main();
    BlockBackend *blk = blk_find("d");
    co_drained_begin(&blk, 1);
    assert_int_equal(blk_in_flight(blk), 0);
    co_drained_end(&blk, 1);
    test_event_set(e);
}

BLOCK_TEST(drain_waits_while_a_request_is_held_and_ends_when_it_is_released)
{
    BlockBackend *blk = test_blk("d", FAULT_MEM "fail-op=write,fail-count=1,hold=on,errno=0", true);
    uint8_t data[512] = {7}, back[512];
    TestRequest w = {.blk = blk, .op = TEST_WRITE, .bytes = 512, .buf = data};
    test_start(&w);
    test_settle();
    assert_int_equal(block_fault_held(blk_root(blk)), 1);
    TestEvent drained = {0};
    co_start(test_main, drain_and_end, &drained);
    co_yield_turn();
    test_settle();
    TestRequest r = {.blk = blk, .op = TEST_READ, .bytes = 512, .buf = back};
    test_start(&r); /* queues because of the drain */
    test_settle();
    assert_false(drained.happened);
    assert_int_equal(blk_in_flight(blk), 1);
    assert_int_equal(fault_release(blk, 1), 1);
    test_event_wait(&drained);
    assert_int_equal(test_finish(&w), 0);
    assert_int_equal(test_finish(&r), 0);
    assert_memory_equal(data, back, 512);
    blk_co_free(blk);
}

BLOCK_TEST(held_request_may_fail_when_released)
{
    BlockBackend *blk = test_blk("d", FAULT_MEM "fail-op=read,hold=on", true);
    uint8_t data[512];
    TestRequest r[3];
    for (unsigned i = 0; i < 3; i++) {
        r[i] = (TestRequest){.blk = blk, .op = TEST_READ, .bytes = 512, .buf = data};
        test_start(&r[i]);
    }
    test_settle();
    assert_int_equal(block_fault_held(blk_root(blk)), 3);
    assert_int_equal(fault_release(blk, 2), 2);
    assert_int_equal(test_finish(&r[0]), -EIO);
    assert_int_equal(test_finish(&r[1]), -EIO);
    assert_int_equal(block_fault_held(blk_root(blk)), 1);
    assert_int_equal(fault_release(blk, UINT32_MAX), 1);
    assert_int_equal(test_finish(&r[2]), -EIO);
    blk_co_free(blk);
}

/* ---- writes that meet in one block ---- */

/* The first write is held after it has read the block. The second, of other bytes of the same
 * block, must wait for it, else one of the two is lost. */
BLOCK_TEST(two_writes_into_one_aligned_block_both_survive)
{
    BlockBackend *blk = test_blk("d", FAULT_MEM "align=4096", true);
    static const BlockFault hold = {.op = BLOCK_FAULT_WRITE, .count = 1, .hold = true};
    fault_set(blk, &hold);
    uint8_t a[100], b[100], back[200];
    memset(a, 0xa, sizeof(a));
    memset(b, 0xb, sizeof(b));
    TestRequest wa = {.blk = blk, .op = TEST_WRITE, .offset = 8192, .bytes = 100, .buf = a};
    TestRequest wb = {.blk = blk, .op = TEST_WRITE, .offset = 8292, .bytes = 100, .buf = b};
    test_start(&wa);
    test_settle();
    test_start(&wb);
    test_settle();
    assert_int_equal(block_fault_held(blk_root(blk)), 1);
    assert_int_equal(blk_in_flight(blk), 2);
    assert_int_equal(fault_release(blk, 1), 1);
    assert_int_equal(test_finish(&wa) | test_finish(&wb), 0);
    assert_int_equal(test_io(blk, TEST_READ, 8192, 200, back, 0), 0);
    assert_memory_equal(back, a, 100);
    assert_memory_equal(back + 100, b, 100);
    blk_co_free(blk);
}

/* The same with an aligned write, a discard of zeroes and a third write after them. */
BLOCK_TEST(aligned_write_waits_for_an_overlapping_partial_one)
{
    BlockBackend *blk = test_blk("d", FAULT_MEM "align=4096", true);
    static const BlockFault hold = {.op = BLOCK_FAULT_WRITE, .count = 1, .hold = true};
    fault_set(blk, &hold);
    uint8_t part[10], *whole = g_malloc(4096), *back = g_malloc(4096);
    memset(part, 1, sizeof(part));
    memset(whole, 2, 4096);
    TestRequest wp = {.blk = blk, .op = TEST_WRITE, .offset = 5, .bytes = 10, .buf = part};
    TestRequest ww = {.blk = blk, .op = TEST_WRITE, .offset = 0, .bytes = 4096, .buf = whole};
    TestRequest wz = {.blk = blk, .op = TEST_ZERO, .offset = 100, .bytes = 50};
    test_start(&wp);
    test_settle();
    test_start(&ww);
    test_start(&wz);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 3);
    assert_int_equal(fault_release(blk, 1), 1);
    assert_int_equal(test_finish(&wp) | test_finish(&ww) | test_finish(&wz), 0);
    assert_int_equal(test_io(blk, TEST_READ, 0, 4096, back, 0), 0);
    memset(whole + 100, 0, 50);
    assert_memory_equal(back, whole, 4096);
    g_free(whole);
    g_free(back);
    blk_co_free(blk);
}

/* Zeroes of whole blocks go to the driver unchanged. They must wait for a partial write, which
 * would write the old bytes again. */
BLOCK_TEST(zeroes_of_whole_blocks_wait_for_an_overlapping_partial_write)
{
    BlockBackend *blk = test_blk("d", FAULT_MEM "align=4096", true);
    static const BlockFault hold = {.op = BLOCK_FAULT_WRITE, .count = 1, .hold = true};
    uint8_t part[10] = {1}, *block = g_malloc(4096), *zeroes = g_malloc0(4096);
    memset(block, 2, 4096);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, block, 0), 0);
    fault_set(blk, &hold);
    TestRequest wp = {.blk = blk, .op = TEST_WRITE, .offset = 5, .bytes = 10, .buf = part};
    TestRequest wz = {.blk = blk, .op = TEST_ZERO, .offset = 0, .bytes = 4096};
    test_start(&wp);
    test_settle();
    test_start(&wz);
    test_settle();
    assert_int_equal(fault_release(blk, 1), 1);
    assert_int_equal(test_finish(&wp) | test_finish(&wz), 0);
    assert_int_equal(test_io(blk, TEST_READ, 0, 4096, block, 0), 0);
    assert_memory_equal(block, zeroes, 4096);
    g_free(block);
    g_free(zeroes);
    blk_co_free(blk);
}

BLOCK_TEST(partial_write_whose_read_fails_fails_and_unblocks_the_next)
{
    BlockBackend *blk = test_blk("d", FAULT_MEM "align=4096", true);
    static const BlockFault fail = {.op = BLOCK_FAULT_READ, .count = 1, .error = EIO};
    fault_set(blk, &fail);
    uint8_t data[10] = {1};
    assert_int_equal(test_io(blk, TEST_WRITE, 5, 10, data, 0), -EIO);
    assert_int_equal(test_io(blk, TEST_WRITE, 5, 10, data, 0), 0);
    blk_co_free(blk);
}

BLOCK_TEST(long_unaligned_request_goes_through_in_pieces)
{
    const uint64_t bytes = 900001;
    BlockBackend *blk = test_blk("d", FAULT_MEM "align=65536", true);
    g_autofree uint8_t *data = g_malloc(bytes), *back = g_malloc(bytes);
    test_fill(data, bytes, 5);
    assert_int_equal(test_io(blk, TEST_WRITE, 70001, bytes, data, 0), 0);
    assert_int_equal(test_io(blk, TEST_READ, 70001, bytes, back, 0), 0);
    assert_memory_equal(data, back, bytes);
    assert_int_equal(test_io(blk, TEST_ZERO, 70002, bytes - 2, NULL, 0), 0);
    assert_int_equal(test_io(blk, TEST_READ, 70001, bytes, back, 0), 0);
    assert_int_equal(back[0], data[0]);
    assert_int_equal(back[bytes - 1], data[bytes - 1]);
    for (uint64_t i = 1; i < bytes - 1; i++) {
        assert_int_equal(back[i], 0);
    }
    blk_co_free(blk);
}

/* A guest chooses the number of requests and the addresses of its buffers. */
BLOCK_TEST(memory_of_unaligned_requests_has_a_limit)
{
    enum { COUNT = 200, BYTES = 300000, AT_ONCE = (16 << 20) / (256 << 10) };
    static TestRequest r[COUNT];
    static uint8_t data[BYTES];
    BlockBackend *blk = test_blk("d", FAULT_MEM "align=4096,fail-op=read,hold=on,errno=0", true);
    for (unsigned i = 0; i < COUNT; i++) {
        r[i] = (TestRequest){.blk = blk, .op = TEST_READ, .offset = 1, .bytes = BYTES, .buf = data};
        test_start(&r[i]);
    }
    test_settle();
    for (;;) {
        unsigned held = block_fault_held(blk_root(blk));
        assert_in_range(held, 0, AT_ONCE);
        if (held == 0) {
            break;
        }
        fault_release(blk, held);
        test_settle();
    }
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(test_finish(&r[i]), 0);
    }
    blk_co_free(blk);
}

/* The last block of a node that ends inside the block must be read without exceeding the end. */
BLOCK_TEST(end_of_a_range_that_is_not_a_multiple_of_the_alignment_can_be_used)
{
    BlockBackend *blk = test_blk("d",
                                 "raw,file.driver=raw,file.size=1536,file.file.driver=fault,"
                                 "file.file.align=4096,file.file.file.driver=mem,"
                                 "file.file.file.size=8K",
                                 true);
    uint8_t data[512], back[512];
    test_fill(data, sizeof(data), 3);
    assert_int_equal(blk_size(blk), 1536);
    assert_int_equal(test_io(blk, TEST_WRITE, 1024, 512, data, 0), 0);
    assert_int_equal(test_io(blk, TEST_READ, 1024, 512, back, 0), 0);
    assert_memory_equal(data, back, 512);
    blk_co_free(blk);
}

/* With a size inside an aligned block its last sectors could not be accessed. */
BLOCK_TEST(truncation_keeps_to_the_alignment)
{
    BlockBackend *blk = test_blk("d", FAULT_MEM "align=4096", true);
    g_autoptr(GError) error = NULL;
    assert_int_equal(blk_co_truncate(blk, 1536, &error), -EINVAL);
    assert_non_null(error);
    assert_int_equal(blk_size(blk), 1u << 20);
    assert_int_equal(blk_co_truncate(blk, 8192, NULL), 0);
    assert_int_equal(blk_size(blk), 8192);
    blk_co_free(blk);
}

BLOCK_TEST(options_are_checked)
{
    test_open_fails("fault,fail-op=write", "needs file=NODE");
    test_open_fails(FAULT_MEM "fail-op=bogus", "fail-op");
    test_open_fails(FAULT_MEM "align=3000", "not a power of two");
    test_open_fails("fault,align=4096,file.driver=mem,file.size=1536", "not a multiple");
    test_open_fails("fault,file=nobody", "there is no node of that name");
}

/* ---- a volatile write cache ---- */

BLOCK_TEST(a_read_sees_data_in_the_write_cache)
{
    BlockBackend *blk =
        test_blk("d", FAULT_MEM "write-cache=on,fail-op=write,errno=0,hold=on", true);
    uint8_t data[1024], back[1024];
    test_fill(data, sizeof(data), 5);
    TestRequest r = {.blk = blk, .op = TEST_READ, .offset = 512, .bytes = 1024, .buf = back};
    assert_int_equal(test_io(blk, TEST_WRITE, 512, 1024, data, 0), 0);
    test_start(&r);
    test_settle();
    assert_int_equal(r.completions, 0);
    assert_int_equal(test_io(blk, TEST_READ, 4096, 512, buf, 0), 0); /* another range */
    assert_int_equal(fault_release(blk, 1), 1);
    assert_int_equal(test_finish(&r), 0);
    assert_memory_equal(data, back, sizeof(data));
    blk_co_free(blk);
}

BLOCK_TEST(a_late_write_that_fails_fails_the_flushes_after_it)
{
    BlockBackend *blk = test_blk("d", FAULT_MEM "write-cache=on,fail-op=write,fail-count=1", true);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, 0), 0);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), -EIO);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, BLOCK_REQ_FUA), 0);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), -EIO);
    blk_co_free(blk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nth_request_of_a_kind_fails_and_the_others_do_not),
        cmocka_unit_test(requests_are_chosen_by_the_range_they_touch),
        cmocka_unit_test(flush_of_a_forced_write_fails_the_write),
        cmocka_unit_test(drain_waits_while_a_request_is_held_and_ends_when_it_is_released),
        cmocka_unit_test(held_request_may_fail_when_released),
        cmocka_unit_test(two_writes_into_one_aligned_block_both_survive),
        cmocka_unit_test(aligned_write_waits_for_an_overlapping_partial_one),
        cmocka_unit_test(zeroes_of_whole_blocks_wait_for_an_overlapping_partial_write),
        cmocka_unit_test(partial_write_whose_read_fails_fails_and_unblocks_the_next),
        cmocka_unit_test(long_unaligned_request_goes_through_in_pieces),
        cmocka_unit_test(memory_of_unaligned_requests_has_a_limit),
        cmocka_unit_test(end_of_a_range_that_is_not_a_multiple_of_the_alignment_can_be_used),
        cmocka_unit_test(truncation_keeps_to_the_alignment),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(a_read_sees_data_in_the_write_cache),
        cmocka_unit_test(a_late_write_that_fails_fails_the_flushes_after_it),
    };
    return block_test_main(tests);
}
