/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty bitmaps: what sets bits, sizes, merging, names. */
#include "block/dirty_bitmap.h"
#include "block/drivers.h"
#include "tests/block/block_test.h"

#define DIRTY_DISK ((uint64_t)1 << 20)

static coroutine_fn RUNS_IN_MAIN BlockBackend *dirty_disk(const char *options)
{
    g_autofree char *text = g_strdup_printf("%s,node-name=m,discard=unmap", options);
    return test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN void dirty_add(BlockNode *n, const char *name,
                                                uint32_t granularity)
{
    assert_true(block_dirty_bitmap_co_add(n, name, granularity, 0, NULL));
}

static coroutine_fn RUNS_IN_MAIN uint64_t dirty_bytes(const BlockNode *n, const char *name)
{
    for (unsigned i = 0; i < block_dirty_bitmap_count(n); i++) {
        BlockDirtyBitmapInfo info;
        block_dirty_bitmap_info(n, i, &info);
        if (strcmp(info.name, name) == 0) {
            return info.dirty_bytes;
        }
    }
    fail_msg("there is no bitmap '%s'", name);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN int dirty_io(BlockBackend *blk, TestOp op, uint64_t offset,
                                              uint64_t bytes)
{
    g_autofree uint8_t *buf = g_malloc0(MAX(bytes, 1));
    return test_io(blk, op, offset, bytes, buf, 0);
}

BLOCK_TEST(writes_zeroes_and_discards_set_bits_and_reads_do_not)
{
    BlockBackend *blk = dirty_disk("mem,size=1M");
    BlockNode *n = blk_root(blk);
    dirty_add(n, "a", 4096);
    assert_int_equal(dirty_io(blk, TEST_READ, 0, DIRTY_DISK), 0);
    assert_int_equal(dirty_io(blk, TEST_FLUSH, 0, 0), 0);
    assert_int_equal(dirty_bytes(n, "a"), 0);
    assert_int_equal(dirty_io(blk, TEST_WRITE, 4095, 2), 0); /* the end of one block, the next */
    assert_int_equal(dirty_bytes(n, "a"), 8192);
    assert_int_equal(dirty_io(blk, TEST_WRITE, 0, 8192), 0); /* the same ones */
    assert_int_equal(dirty_bytes(n, "a"), 8192);
    assert_int_equal(dirty_io(blk, TEST_ZERO, 65536, 4096), 0);
    assert_int_equal(dirty_bytes(n, "a"), 12288);
    assert_int_equal(dirty_io(blk, TEST_DISCARD, DIRTY_DISK - 4096, 4096), 0);
    assert_int_equal(dirty_bytes(n, "a"), 16384);
    assert_int_equal(dirty_io(blk, TEST_WRITE, 0, DIRTY_DISK), 0);
    assert_int_equal(dirty_bytes(n, "a"), DIRTY_DISK);
    blk_co_free(blk);
}

/* The write may have changed something before it failed. */
BLOCK_TEST(a_failed_write_sets_bits_and_one_out_of_range_does_not)
{
    BlockBackend *blk = dirty_disk("fault,file.driver=mem,file.size=1M,fail-op=write,errno=5");
    BlockNode *n = blk_root(blk);
    dirty_add(n, "a", 0);
    assert_int_equal(dirty_io(blk, TEST_WRITE, 0, 512), -EIO);
    assert_int_equal(dirty_bytes(n, "a"), 65536);
    assert_true(block_dirty_bitmap_co_clear(n, "a", NULL));
    assert_true(dirty_io(blk, TEST_WRITE, DIRTY_DISK, 512) < 0);
    assert_int_equal(dirty_bytes(n, "a"), 0);
    blk_co_free(blk);
}

BLOCK_TEST(a_disabled_bitmap_keeps_its_bits)
{
    BlockBackend *blk = dirty_disk("mem,size=1M");
    BlockNode *n = blk_root(blk);
    assert_true(block_dirty_bitmap_co_add(n, "a", 512, BLOCK_BITMAP_DISABLED, NULL));
    assert_int_equal(dirty_io(blk, TEST_WRITE, 0, 4096), 0);
    assert_int_equal(dirty_bytes(n, "a"), 0);
    assert_true(block_dirty_bitmap_co_set_enabled(n, "a", true, NULL));
    assert_int_equal(dirty_io(blk, TEST_WRITE, 0, 4096), 0);
    assert_true(block_dirty_bitmap_co_set_enabled(n, "a", false, NULL));
    assert_int_equal(dirty_io(blk, TEST_WRITE, 8192, 4096), 0);
    assert_int_equal(dirty_bytes(n, "a"), 4096);
    blk_co_free(blk);
}

BLOCK_TEST(a_bitmap_follows_the_size_of_its_node)
{
    BlockBackend *blk = dirty_disk("mem,size=1M");
    BlockNode *n = blk_root(blk);
    dirty_add(n, "a", 512);
    assert_int_equal(dirty_io(blk, TEST_WRITE, 0, DIRTY_DISK), 0);
    assert_int_equal(blk_co_truncate(blk, DIRTY_DISK - 512, NULL), 0);
    assert_int_equal(dirty_bytes(n, "a"), DIRTY_DISK - 512);
    assert_int_equal(blk_co_truncate(blk, 512 * 65, NULL), 0);
    assert_int_equal(dirty_bytes(n, "a"), 512 * 65);
    assert_int_equal(blk_co_truncate(blk, 2 * DIRTY_DISK, NULL), 0);
    assert_int_equal(dirty_bytes(n, "a"), 512 * 65); /* the new part is clear */
    assert_int_equal(dirty_io(blk, TEST_WRITE, 2 * DIRTY_DISK - 512, 512), 0);
    assert_int_equal(dirty_bytes(n, "a"), 512 * 66);
    blk_co_free(blk);
}

BLOCK_TEST(merging_takes_bits_of_other_granularities_and_nodes)
{
    g_autoptr(GError) error = NULL;
    BlockBackend *blk = dirty_disk("mem,size=1M");
    BlockNode *n = blk_root(blk), *other = test_node_add("null-co,node-name=o,size=1M");
    BlockNode *small = test_node_add("null-co,node-name=s,size=512k");
    BlockBackend *far = blk_co_new("o", other, true, NULL);
    dirty_add(n, "fine", 512);
    dirty_add(n, "coarse", 65536);
    dirty_add(other, "fine", 4096);
    dirty_add(small, "x", 0);
    assert_int_equal(dirty_io(blk, TEST_WRITE, 65536, 512), 0);
    assert_int_equal(dirty_io(far, TEST_WRITE, 0, 512), 0);
    BlockDirtyBitmapRef sources[] = {{other, "fine"}, {n, "coarse"}, {small, "x"}};
    BlockDirtyBitmapRef target = {n, "fine"}, wide = {n, "coarse"};
    assert_false(block_dirty_bitmap_co_merge(target, sources, 3, &error));
    assert_non_null(strstr(error->message, "Bitmaps are of different sizes"));
    assert_int_equal(dirty_bytes(n, "fine"), 512);
    assert_true(block_dirty_bitmap_co_merge(target, sources, 2, NULL));
    assert_int_equal(dirty_bytes(n, "fine"), 4096 + 65536);
    assert_true(block_dirty_bitmap_co_merge(wide, &target, 1, NULL));
    assert_int_equal(dirty_bytes(n, "coarse"), 2 * 65536);
    blk_co_free(far);
    test_node_del("s");
    test_node_del("o");
    blk_co_free(blk);
}

typedef struct DirtyGrow {
    BlockNode *node;
    bool zero;
    int ret;
} DirtyGrow;

static void dirty_grow_at_home(void *opaque)
{
    DirtyGrow *g = opaque;
    static uint8_t data[512];
    struct iovec iov = {data, sizeof(data)};
    uint64_t far = (uint64_t)3 << 40;
    enter_coroutine();
    enter_iothread(test_home);
    g->ret = g->zero ? block_node_co_write_zeroes(g->node, far, sizeof(data), 0)
                     : block_node_co_pwritev(g->node, far, sizeof(data), &iov, 1, 0);
}

BLOCK_TEST(a_write_does_not_grow_a_node_beyond_its_bitmap)
{
    char *path = test_file_new(1 << 20);
    g_autofree char *text = g_strdup_printf("file,node-name=n,filename=%s", path);
    DirtyGrow g = {.node = test_node_add(text)};
    dirty_add(g.node, "b", 512);
    for (unsigned i = 0; i < 2; i++) {
        g.zero = i == 1;
        test_in_home(dirty_grow_at_home, &g);
        assert_int_equal(g.ret, -EFBIG);
        assert_int_equal(block_node_size(g.node), 1 << 20);
    }
    test_node_del("n");
    test_file_free(path);
}

static coroutine_fn RUNS_IN_MAIN void dirty_refused(BlockNode *n, const char *name,
                                                    uint32_t granularity, const char *says)
{
    g_autoptr(GError) error = NULL;
    assert_false(block_dirty_bitmap_co_add(n, name, granularity, 0, &error));
    assert_non_null(strstr(error->message, says));
}

typedef struct DirtyRun {
    const BlockDirtyBitmap *bitmap;
    uint64_t offset, bytes, run;
    bool dirty;
} DirtyRun;

static void dirty_run_at_home(void *opaque)
{
    DirtyRun *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    r->run = block_dirty_bitmap_run(r->bitmap, r->offset, r->bytes, &r->dirty);
}

static coroutine_fn RUNS_IN_MAIN void dirty_run_is(const BlockDirtyBitmap *b, uint64_t offset,
                                                   uint64_t bytes, uint64_t run, bool dirty)
{
    DirtyRun r = {.bitmap = b, .offset = offset, .bytes = bytes};
    test_in_home(dirty_run_at_home, &r);
    assert_int_equal(r.run, run);
    assert_int_equal(r.dirty, dirty);
}

BLOCK_TEST(a_user_finds_runs_of_bits_and_keeps_the_bitmap_as_it_is)
{
    GError *error = NULL;
    BlockBackend *blk = dirty_disk("mem,size=1M");
    BlockNode *n = blk_root(blk);
    dirty_add(n, "b", 512);
    assert_int_equal(dirty_io(blk, TEST_WRITE, 4096, 100 * 512), 0);
    BlockDirtyBitmap *b = block_dirty_bitmap_use(n, "b", &error);
    assert_non_null(b);
    dirty_run_is(b, 0, 1 << 20, 4096, false);
    dirty_run_is(b, 100, 1 << 20, 3996, false);
    dirty_run_is(b, 4096, 1 << 20, 100 * 512, true);
    dirty_run_is(b, 4096 + 513, 1000, 1000, true);
    dirty_run_is(b, 4096 + 100 * 512, 1 << 20, 1 << 20, false);
    dirty_run_is(b, 1 << 21, 7, 7, false);
    dirty_run_is(b, 0, 0, 0, false);
    BlockDirtyBitmapInfo info;
    block_dirty_bitmap_info(n, 0, &info);
    assert_true(info.busy && block_dirty_bitmap_enabled(b));
    assert_false(block_dirty_bitmap_co_remove(n, "b", &error));
    assert_string_equal(error->message,
                        "Bitmap 'b' is currently in use by another operation and cannot be used");
    g_clear_error(&error);
    assert_false(block_dirty_bitmap_co_clear(n, "b", NULL));
    assert_false(block_dirty_bitmap_co_set_enabled(n, "b", false, NULL));
    assert_null(block_dirty_bitmap_use(n, "b", NULL));
    block_dirty_bitmap_unuse(b);
    assert_true(block_dirty_bitmap_co_remove(n, "b", &error));
    blk_co_free(blk);
}

BLOCK_TEST(invalid_names_and_granularities_are_refused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *longest = g_strnfill(BLOCK_BITMAP_NAME_MAX, 'x');
    g_autofree char *longer = g_strnfill(BLOCK_BITMAP_NAME_MAX + 1, 'x');
    BlockNode *n = test_node_add("null-co,node-name=n,size=4T");
    dirty_add(n, longest, 1024);
    dirty_refused(n, longest, 1024, "Bitmap already exists");
    dirty_refused(n, longer, 1024, "too long");
    dirty_refused(n, "", 1024, "cannot be empty");
    dirty_refused(n, "a", 256, "power of 2 and at least 512");
    dirty_refused(n, "a", 1025, "power of 2 and at least 512");
    dirty_refused(n, "a", 512, "too fine");
    assert_int_equal(block_dirty_bitmap_count(n), 1);
    assert_false(block_dirty_bitmap_co_remove(n, "a", &error));
    assert_string_equal(error->message, "Dirty bitmap 'a' not found");
    assert_true(block_dirty_bitmap_co_remove(n, longest, NULL));
    assert_int_equal(block_dirty_bitmap_count(n), 0);
    dirty_add(n, "kept until the node goes", 0);
    test_node_del("n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_zeroes_and_discards_set_bits_and_reads_do_not),
        cmocka_unit_test(a_failed_write_sets_bits_and_one_out_of_range_does_not),
        cmocka_unit_test(a_disabled_bitmap_keeps_its_bits),
        cmocka_unit_test(a_bitmap_follows_the_size_of_its_node),
        cmocka_unit_test(a_write_does_not_grow_a_node_beyond_its_bitmap),
        cmocka_unit_test(merging_takes_bits_of_other_granularities_and_nodes),
        cmocka_unit_test(a_user_finds_runs_of_bits_and_keeps_the_bitmap_as_it_is),
        cmocka_unit_test(invalid_names_and_granularities_are_refused),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
