/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps of jobs, compared with a plain array; bitmaps of nodes that a job uses. */
#include "block/dirty_bitmap.h"
#include "block/drivers.h"
#include "tests/block/block_test.h"

/* ---- bitmaps without a node ---- */

#define ARRAY_UNIT 512u

static void array_check(const BlockDirtyBitmap *b, const bool *array, uint64_t size)
{
    uint64_t dirty = 0, at = 0, offset, bytes;
    for (uint64_t i = 0; i * ARRAY_UNIT < size; i++) {
        dirty += array[i] ? MIN(ARRAY_UNIT, size - i * ARRAY_UNIT) : 0;
    }
    assert_int_equal(block_bitmap_dirty_bytes(b), dirty);
    while (block_bitmap_find(b, at, UINT64_MAX, &offset, &bytes)) {
        assert_true(bytes > 0 && offset >= at && offset + bytes <= size);
        for (uint64_t i = at / ARRAY_UNIT; i < offset / ARRAY_UNIT; i++) {
            assert_false(array[i]);
        }
        for (uint64_t i = offset / ARRAY_UNIT; i * ARRAY_UNIT < offset + bytes; i++) {
            assert_true(array[i]);
        }
        at = offset + bytes;
        dirty -= bytes;
    }
    assert_int_equal(dirty, 0);
}

static void array_change(GRand *rand, BlockDirtyBitmap *b, bool *array, uint64_t size)
{
    uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, (int)size);
    uint64_t bytes = (uint64_t)g_rand_int_range(rand, 0, g_rand_boolean(rand) ? 2000 : (int)size);
    bool set = g_rand_boolean(rand);
    uint64_t end = MIN(offset + bytes, size);
    (set ? block_bitmap_set : block_bitmap_clear)(b, offset, bytes);
    for (uint64_t i = 0; i * ARRAY_UNIT < size; i++) {
        uint64_t from = i * ARRAY_UNIT, to = MIN(from + ARRAY_UNIT, size);
        if (set ? bytes > 0 && from < end && to > offset : from >= offset && to <= end) {
            array[i] = set;
        }
    }
}

static void bits_are_found_set_and_cleared_as_in_a_plain_array(void **state)
{
    uint32_t seed = g_random_int();
    print_message("seed %u\n", seed);
    GRand *rand = g_rand_new_with_seed(seed);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t size = (uint64_t)g_rand_int_range(rand, 1, 200000);
        BlockDirtyBitmap *b = block_bitmap_new(size, ARRAY_UNIT);
        g_autofree bool *array = g_new0(bool, size / ARRAY_UNIT + 1);
        for (unsigned i = 0; i < 60; i++) {
            array_change(rand, b, array, size);
            array_check(b, array, size);
        }
        block_bitmap_free(b);
    }
    g_rand_free(rand);
}

static void a_search_stays_in_its_range(void **state)
{
    BlockDirtyBitmap *b = block_bitmap_new(1 << 20, 4096);
    uint64_t offset, bytes;
    block_bitmap_set(b, 8192, 65536);
    assert_true(block_bitmap_find(b, 0, 10000, &offset, &bytes));
    assert_int_equal(offset, 8192);
    assert_int_equal(bytes, 10000 - 8192);
    assert_true(block_bitmap_find(b, 9000, 1 << 20, &offset, &bytes));
    assert_int_equal(offset, 9000);
    assert_int_equal(offset + bytes, 8192 + 65536);
    assert_false(block_bitmap_find(b, 0, 8192, &offset, &bytes));
    assert_false(block_bitmap_find(b, 8192 + 65536, 1 << 20, &offset, &bytes));
    block_bitmap_free(b);
}

/* ---- busy bitmaps ---- */

static coroutine_fn RUNS_IN_MAIN BlockDirtyBitmapInfo busy_info(const BlockNode *n)
{
    BlockDirtyBitmapInfo info;
    block_dirty_bitmap_info(n, 0, &info);
    return info;
}

static coroutine_fn RUNS_IN_MAIN void busy_write(BlockBackend *blk, uint64_t offset)
{
    uint8_t buf[512] = {1};
    assert_int_equal(test_io(blk, TEST_WRITE, offset, sizeof(buf), buf, 0), 0);
}

/* A bitmap with the bit of byte 0, which a job uses, and a write of byte 65536 since. */
static coroutine_fn RUNS_IN_MAIN BlockBackend *busy_disk(BlockDirtyBitmap *todo)
{
    BlockBackend *blk = test_blk("d", "mem,size=1M", true);
    BlockNode *n = blk_root(blk);
    assert_true(block_dirty_bitmap_co_add(n, "a", 4096, 0, NULL));
    busy_write(blk, 0);
    assert_true(block_dirty_bitmap_co_begin_job(n, "a", true, todo, NULL));
    busy_write(blk, 65536);
    return blk;
}

static coroutine_fn RUNS_IN_MAIN void busy_end(bool keep, bool left, uint64_t expected)
{
    BlockDirtyBitmap *todo = block_bitmap_new(1 << 20, 4096);
    BlockBackend *blk = busy_disk(todo);
    BlockNode *n = blk_root(blk);
    assert_int_equal(block_bitmap_dirty_bytes(todo), 4096);
    assert_true(busy_info(n).busy && busy_info(n).recording);
    assert_int_equal(busy_info(n).dirty_bytes, 4096);
    block_bitmap_set(todo, 131072, 8192);
    block_dirty_bitmap_co_end_job(n, "a", keep, left ? todo : NULL);
    assert_false(busy_info(n).busy);
    assert_int_equal(busy_info(n).dirty_bytes, expected);
    busy_write(blk, 262144);
    assert_int_equal(busy_info(n).dirty_bytes, expected + 4096);
    block_bitmap_free(todo);
    blk_co_free(blk);
}

BLOCK_TEST(the_end_of_a_job_keeps_or_drops_the_bits_it_began_with)
{
    busy_end(true, false, 8192);
    busy_end(false, false, 4096);
    busy_end(false, true, 16384); /* the first write, the later one, and what is left */
}

static coroutine_fn RUNS_IN_MAIN void busy_refuses(bool ok, GError **error)
{
    static const char says[] =
        "Bitmap 'a' is currently in use by another operation and cannot be used";
    assert_false(ok);
    assert_string_equal((*error)->message, says);
    g_clear_error(error);
}

BLOCK_TEST(a_busy_bitmap_cannot_be_used_or_changed)
{
    GError *error = NULL;
    BlockDirtyBitmap *todo = block_bitmap_new(1 << 20, 4096);
    BlockBackend *blk = busy_disk(todo);
    BlockNode *n = blk_root(blk);
    BlockDirtyBitmapRef a = {n, "a"}, other = {n, "b"};
    assert_true(block_dirty_bitmap_co_add(n, "b", 4096, 0, NULL));
    busy_refuses(block_dirty_bitmap_co_remove(n, "a", &error), &error);
    busy_refuses(block_dirty_bitmap_co_clear(n, "a", &error), &error);
    busy_refuses(block_dirty_bitmap_co_set_enabled(n, "a", false, &error), &error);
    busy_refuses(block_dirty_bitmap_co_merge(a, &other, 1, &error), &error);
    busy_refuses(block_dirty_bitmap_co_merge(other, &a, 1, &error), &error);
    busy_refuses(block_dirty_bitmap_co_begin_job(n, "a", false, todo, &error), &error);
    block_dirty_bitmap_co_end_job(n, "a", true, NULL);
    assert_true(block_dirty_bitmap_co_remove(n, "a", NULL));
    block_bitmap_free(todo);
    blk_co_free(blk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_are_found_set_and_cleared_as_in_a_plain_array),
        cmocka_unit_test(a_search_stays_in_its_range),
        cmocka_unit_test(the_end_of_a_job_keeps_or_drops_the_bits_it_began_with),
        cmocka_unit_test(a_busy_bitmap_cannot_be_used_or_changed),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
