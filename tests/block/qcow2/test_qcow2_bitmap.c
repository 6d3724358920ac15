/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent dirty bitmaps: when they are marked, stored and loaded, and what is refused. What is on
 * disk is read from the bytes of the file. */
#include "block/drivers.h"
#include "tests/block/qcow2/qcow2_bitmap_test.h"

#define BITMAP_MIB ((uint64_t)1 << 20)

BLOCK_TEST(a_persistent_bitmap_is_stored_and_loaded)
{
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    BlockBackend *blk = bitmap_open(dir, "");
    bitmap_add(blk_root(blk), "a", 4096, 0);
    bitmap_add(blk_root(blk), "off", 0, BLOCK_BITMAP_DISABLED);
    assert_true(block_dirty_bitmap_co_add(blk_root(blk), "lost", 0, 0, NULL));
    bitmap_write(blk, 65536, 8192, 1);
    blk_co_free(blk);
    file_bitmap_expect(dir, "a", true, 65536, 65536 + 8192);
    file_bitmap_expect(dir, "off", false, 0, 0);
    assert_false(file_bitmap_listed(dir, "lost"));
    bitmap_check(dir);
    blk = bitmap_open(dir, "");
    assert_int_equal(node_bitmap_bytes(blk_root(blk), "a"), 8192);
    BlockDirtyBitmapInfo info;
    assert_true(node_bitmap(blk_root(blk), "off", &info));
    assert_true(info.persistent && !info.recording && !info.inconsistent);
    assert_int_equal(info.granularity, 65536);
    bitmap_write(blk, 0, 512, 2);
    blk_co_free(blk);
    file_bitmap_expect(dir, "off", false, 0, 0);
    blk = qcow2_open_image(dir, "t.qcow2", "");
    assert_int_equal(node_bitmap_bytes(blk_root(blk), "a"), 8192 + 4096);
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

BLOCK_TEST(bitmaps_of_qemu_img_are_loaded_and_those_of_skiff_by_it)
{
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    qcow2_shell(dir, "qemu-img bitmap --add -g 4k t.qcow2 a && qemu-img bitmap --add t.qcow2 b && "
                     "qemu-img bitmap --disable t.qcow2 b && "
                     "qemu-io -f qcow2 -c 'write -q 128k 4k' t.qcow2");
    BlockBackend *blk = bitmap_open(dir, "");
    assert_int_equal(node_bitmap_bytes(blk_root(blk), "a"), 4096);
    assert_int_equal(node_bitmap_bytes(blk_root(blk), "b"), 0);
    bitmap_write(blk, 132 << 10, 4096, 1);
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-io -f qcow2 -c 'write -q 136k 4k' t.qcow2 && "
                     "qemu-img bitmap --enable t.qcow2 b && qemu-img check t.qcow2");
    file_bitmap_expect(dir, "a", true, 128 << 10, 140 << 10);
    file_bitmap_expect(dir, "b", true, 0, 0);
    qcow2_dir_free(dir);
}

BLOCK_TEST(bitmaps_are_marked_before_the_first_change_only)
{
    size_t size, after_size;
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 a && qemu-img bitmap --add t.qcow2 b");
    g_autofree uint8_t *before = qcow2_file_bytes(dir, "t.qcow2", &size);
    BlockBackend *blk = bitmap_open(dir, "");
    blk_co_free(blk);
    g_autofree uint8_t *after = qcow2_file_bytes(dir, "t.qcow2", &after_size);
    assert_int_equal(size, after_size);
    assert_memory_equal(before, after, size);
    blk = bitmap_open(dir, "");
    for (unsigned i = 0; i < 2; i++) {
        file_bitmap_expect_marked(dir, "a", false);
        bitmap_write(blk, i * 65536, 512, 1);
        file_bitmap_expect_marked(dir, "a", true); /* before a flush */
        file_bitmap_expect_marked(dir, "b", true);
        block_co_complete_all();
        file_bitmap_expect(dir, "a", true, 0, (i + 1) * 65536);
        qcow2_shell(dir, "cp t.qcow2 copy.qcow2 && qemu-img check copy.qcow2");
    }
    assert_int_equal(test_io(blk, TEST_DISCARD, 0, 65536, NULL, 0), 0);
    file_bitmap_expect_marked(dir, "b", true);
    blk_co_free(blk);
    file_bitmap_expect(dir, "b", true, 0, 131072);
    bitmap_check(dir);
    qcow2_dir_free(dir);
}

/* Else a crash would leave a bitmap without the bits of a merge, or one that does not record. */
BLOCK_TEST(commands_mark_bitmaps_as_writes_do)
{
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    qcow2_shell(dir,
                "qemu-img bitmap --add --disable t.qcow2 a && qemu-img bitmap --add t.qcow2 b && "
                "qemu-io -f qcow2 -c 'write -q 0 64k' t.qcow2");
    BlockDirtyBitmapRef a = {.name = "a"}, b = {.name = "b"};
    for (unsigned i = 0; i < 4; i++) {
        BlockBackend *blk = bitmap_open(dir, "");
        BlockNode *n = a.node = b.node = blk_root(blk);
        file_bitmap_expect_marked(dir, "a", false);
        assert_true(i == 0   ? block_dirty_bitmap_co_set_enabled(n, "a", true, NULL)
                    : i == 1 ? block_dirty_bitmap_co_merge(a, &b, 1, NULL)
                    : i == 2 ? block_dirty_bitmap_co_clear(n, "a", NULL)
                             : block_dirty_bitmap_co_remove(n, "b", NULL));
        file_bitmap_expect_marked(dir, "a", true);
        blk_co_free(blk);
        file_bitmap_expect(dir, "a", true, 0, i == 1 ? 65536 : 0);
        bitmap_check(dir);
    }
    assert_false(file_bitmap_listed(dir, "b"));
    qcow2_dir_free(dir);
}

/* ---- inconsistent ---- */

BLOCK_TEST(a_marked_bitmap_is_inconsistent_and_can_only_be_removed)
{
    g_autoptr(GError) error = NULL;
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 a && qemu-img bitmap --add t.qcow2 b");
    bitmap_set_flags(dir, "a", QCOW2_BITMAP_AUTO | QCOW2_BITMAP_IN_USE);
    BlockBackend *blk = bitmap_open(dir, "");
    BlockNode *n = blk_root(blk);
    BlockDirtyBitmapInfo info;
    BlockDirtyBitmapRef a = {n, "a"}, b = {n, "b"};
    const char *says = "Bitmap 'a' is inconsistent and cannot be used";
    assert_true(node_bitmap(n, "a", &info));
    assert_true(info.inconsistent && info.persistent && !info.recording && info.dirty_bytes == 0);
    bitmap_refused(block_dirty_bitmap_co_clear(n, "a", &error), &error, says);
    bitmap_refused(block_dirty_bitmap_co_set_enabled(n, "a", true, &error), &error, says);
    bitmap_refused(block_dirty_bitmap_co_merge(a, &b, 1, &error), &error, says);
    bitmap_refused(block_dirty_bitmap_co_merge(b, &a, 1, &error), &error, says);
    bitmap_refused(blk_co_truncate(blk, 2 * BITMAP_MIB, &error) == 0, &error, says);
    bitmap_write(blk, 0, 512, 1);
    blk_co_free(blk);
    file_bitmap_expect_marked(dir, "a", true);
    file_bitmap_expect(dir, "b", true, 0, 65536);
    blk = bitmap_open(dir, "");
    assert_true(block_dirty_bitmap_co_remove(blk_root(blk), "a", &error));
    assert_false(file_bitmap_listed(dir, "a"));
    assert_int_equal(blk_co_truncate(blk, 2 * BITMAP_MIB, NULL), 0);
    blk_co_free(blk);
    bitmap_check(dir);
    qcow2_dir_free(dir);
}

/* Extra data of an entry is kept. Without the flag that says so, the bitmap must not be used. */
BLOCK_TEST(extra_data_is_kept_and_decides_whether_a_bitmap_is_used)
{
    for (unsigned compatible = 0; compatible < 2; compatible++) {
        char *dir = qcow2_dir_new();
        BlockDirtyBitmapInfo info;
        bitmap_create(dir, "");
        qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 12345678name");
        /* the first 8 bytes of the name become extra data */
        DiskBitmap b = file_bitmap(dir, "t.qcow2", "12345678name");
        qcow2_shell(dir,
                    "printf '\\%o' | dd of=t.qcow2 bs=1 seek=%zu conv=notrunc && "
                    "printf '\\0\\4\\0\\0\\0\\10' | dd of=t.qcow2 bs=1 seek=%zu conv=notrunc",
                    QCOW2_BITMAP_AUTO | (compatible ? QCOW2_BITMAP_EXTRA_COMPATIBLE : 0),
                    b.flags_at + 3, b.flags_at + 6);
        disk_bitmap_clear(&b);
        BlockBackend *blk = bitmap_open(dir, "");
        assert_true(node_bitmap(blk_root(blk), "name", &info));
        assert_int_equal(info.inconsistent, !compatible);
        file_bitmap_expect_marked(dir, "name", false);
        bitmap_write(blk, 0, 512, 1);
        blk_co_free(blk);
        file_bitmap_expect_marked(dir, "name", !compatible);
        b = file_bitmap(dir, "t.qcow2", "name");
        g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL), *image = NULL;
        gsize size;
        assert_true(g_file_get_contents(path, &image, &size, NULL));
        assert_memory_equal(image + b.flags_at + 12, "12345678name", 12);
        disk_bitmap_clear(&b);
        qcow2_dir_free(dir);
    }
}

/* ---- read-only, reopening, moving ---- */

static coroutine_fn RUNS_IN_MAIN void bitmap_reopen(const char *dir, bool read_only)
{
    GError *error = NULL;
    g_autofree char *text = g_strdup_printf(
        "qcow2,node-name=q,read-only=%s,discard=unmap,file.driver=file,file.filename=%s/t.qcow2",
        read_only ? "on" : "off", dir);
    OptDict *d = opt_dict_parse(text, "driver", &error);
    if (d == NULL || !block_co_reopen(&d, 1, &error)) {
        fail_msg("%s", error->message);
    }
    opt_dict_free(d);
}

BLOCK_TEST(a_reopen_stores_bitmaps_and_they_stay_in_memory)
{
    g_autoptr(GError) error = NULL;
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    BlockBackend *blk = bitmap_open(dir, "");
    BlockNode *n = blk_root(blk);
    block_node_ref(n);
    bitmap_add(n, "a", 0, 0);
    bitmap_write(blk, 0, 512, 1);
    blk_co_free(blk);
    bitmap_reopen(dir, true);
    file_bitmap_expect(dir, "a", true, 0, 65536);
    assert_int_equal(node_bitmap_bytes(n, "a"), 65536);
    const char *says = "Bitmap 'a' is readonly and cannot be modified";
    bitmap_refused(block_dirty_bitmap_co_clear(n, "a", &error), &error, says);
    bitmap_refused(block_dirty_bitmap_co_remove(n, "a", &error), &error, says);
    bitmap_refused(block_dirty_bitmap_co_add(n, "b", 0, BLOCK_BITMAP_PERSISTENT, &error), &error,
                   "read-only");
    assert_true(block_dirty_bitmap_co_set_enabled(n, "a", false, &error)); /* in memory */
    file_bitmap_expect(dir, "a", true, 0, 65536);
    bitmap_reopen(dir, false);
    file_bitmap_expect(dir, "a", true, 0, 65536);
    blk = blk_co_new("d", n, true, &error);
    bitmap_write(blk, 65536, 512, 1);
    file_bitmap_expect_marked(dir, "a", true);
    block_co_unref(n);
    blk_co_free(blk);
    file_bitmap_expect(dir, "a", false, 0, 65536);
    bitmap_check(dir);
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_read_only_node_does_not_store_what_changes_in_memory)
{
    g_autoptr(GError) error = NULL;
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    BlockBackend *blk = bitmap_open(dir, "");
    BlockNode *n = blk_root(blk);
    block_node_ref(n);
    bitmap_add(n, "a", 0, 0);
    bitmap_write(blk, 0, 512, 1);
    blk_co_free(blk);
    bitmap_reopen(dir, true);
    assert_true(block_dirty_bitmap_co_set_enabled(n, "a", false, &error));
    block_co_unref(n);
    file_bitmap_expect(dir, "a", true, 0, 65536);
    bitmap_check(dir);
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_node_that_moves_keeps_its_bitmaps)
{
    GError *error = NULL;
    char *dir = qcow2_dir_new();
    IoThread *other = iothread_new("io1", 0, &error);
    bitmap_create(dir, "");
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=q,file.driver=file,file.filename=%s/t.qcow2", dir);
    BlockNode *n = test_node_add(text);
    bitmap_add(n, "a", 0, 0);
    assert_int_equal(block_node_co_complete(n), 0);
    assert_true(block_co_move(n, iothread_context(other), &error));
    file_bitmap_expect_marked(dir, "a", false);
    bitmap_add(n, "b", 0, 0);
    assert_true(block_dirty_bitmap_co_clear(n, "a", NULL));
    test_node_del("q");
    file_bitmap_expect(dir, "a", true, 0, 0);
    file_bitmap_expect(dir, "b", true, 0, 0);
    bitmap_check(dir);
    iothread_free(other);
    qcow2_dir_free(dir);
}

/* ---- sizes, snapshots, other images ---- */

BLOCK_TEST(bitmaps_follow_the_size_of_the_disk)
{
    static const uint64_t sizes[] = {3 * BITMAP_MIB, BITMAP_MIB / 2, 40 * BITMAP_MIB, 512, 0,
                                     BITMAP_MIB};
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "-o cluster_size=512");
    BlockBackend *blk = bitmap_open(dir, "");
    bitmap_add(blk_root(blk), "a", 512, 0);
    bitmap_write(blk, 0, BITMAP_MIB, 1);
    blk_co_free(blk);
    file_bitmap_expect(dir, "a", true, 0, BITMAP_MIB);
    uint64_t dirty = BITMAP_MIB;
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        blk = bitmap_open(dir, "");
        assert_int_equal(blk_co_truncate(blk, sizes[i], NULL), 0);
        blk_co_free(blk);
        dirty = MIN(dirty, sizes[i]);
        file_bitmap_expect(dir, "a", true, 0, dirty);
        if (sizes[i] == 0) {
            continue; /* QEMU does not open such an image, also if it has written it */
        }
        bitmap_check(dir);
        qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 q && qemu-img bitmap --remove t.qcow2 q");
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_snapshot_can_be_created_but_not_applied_beside_bitmaps)
{
    g_autoptr(GError) error = NULL;
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    BlockBackend *blk = bitmap_open(dir, "");
    BlockNode *n = blk_root(blk);
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "s", .icount = UINT64_MAX};
    bitmap_add(n, "a", 0, 0);
    bitmap_write(blk, 0, 65536, 1);
    assert_int_equal(block_node_co_snapshot_create(n, &info, &error), 0);
    bitmap_refused(block_node_co_snapshot_apply(n, "s", &error) == 0, &error,
                   "Device has active dirty bitmaps");
    assert_int_equal(block_node_co_snapshot_delete(n, NULL, "s", &error), 0);
    blk_co_free(blk);
    file_bitmap_expect(dir, "a", true, 0, 65536);
    bitmap_check(dir);
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_merge_takes_the_bits_of_another_image)
{
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    qcow2_shell(dir, "cp t.qcow2 o.qcow2 && qemu-img bitmap --add -g 512 o.qcow2 a && "
                     "qemu-io -f qcow2 -c 'write -q 64k 64k' o.qcow2");
    g_autofree char *other =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/o.qcow2", dir);
    BlockBackend *blk = bitmap_open(dir, ""), *far = test_blk("far", other, false);
    BlockDirtyBitmapRef target = {blk_root(blk), "a"}, source = {blk_root(far), "a"};
    bitmap_add(blk_root(blk), "a", 4096, BLOCK_BITMAP_DISABLED);
    assert_true(block_dirty_bitmap_co_merge(target, &source, 1, NULL));
    blk_co_free(far);
    blk_co_free(blk);
    file_bitmap_expect(dir, "a", false, 65536, 131072);
    bitmap_check(dir);
    qcow2_dir_free(dir);
}

/* ---- refusals ---- */

static coroutine_fn RUNS_IN_MAIN void bitmap_add_refused(BlockNode *n, const char *name,
                                                         uint32_t granularity, const char *says)
{
    g_autoptr(GError) error = NULL;
    bool ok = block_dirty_bitmap_co_add(n, name, granularity, BLOCK_BITMAP_PERSISTENT, &error);
    bitmap_refused(ok, &error, says);
}

BLOCK_TEST(a_bitmap_that_cannot_be_stored_is_refused)
{
    char *dir = qcow2_dir_new();
    g_autofree char *longer = g_strnfill(QCOW2_BITMAP_NAME_MAX + 1, 'x');
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o compat=0.10 t.qcow2 1M");
    BlockBackend *blk = bitmap_open(dir, "");
    bitmap_add_refused(blk_root(blk), "a", 0,
                       "Can't make bitmap 'a' persistent in 'q': Cannot store dirty bitmaps in "
                       "qcow2 v2 files");
    blk_co_free(blk);
    qcow2_shell(dir, "rm t.qcow2 && qemu-img create -q -f qcow2 -o cluster_size=2M t.qcow2 4T");
    blk = bitmap_open(dir, "");
    bitmap_add_refused(blk_root(blk), longer, 0, "Name length exceeds maximum (1023 characters)");
    bitmap_add_refused(blk_root(blk), "a", 512,
                       "Too much space will be occupied by the bitmap. Use larger granularity");
    bitmap_add_refused(blk_root(blk), "a", 1000, "Granularity must be power of 2");
    bitmap_add_refused(blk_root(blk), "", 0, "Bitmap name cannot be empty");
    bitmap_add(blk_root(blk), "a", 0, 0);
    bitmap_add_refused(blk_root(blk), "a", 0, "Bitmap already exists: a");
    blk_co_free(blk);
    blk = test_blk("d", "null-co,node-name=z,size=1M", true);
    bitmap_add_refused(blk_root(blk), "a", 0,
                       "Can't store persistent bitmaps to z: Operation not supported");
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_persistent_bitmap_is_stored_and_loaded),
        cmocka_unit_test(bitmaps_of_qemu_img_are_loaded_and_those_of_skiff_by_it),
        cmocka_unit_test(bitmaps_are_marked_before_the_first_change_only),
        cmocka_unit_test(commands_mark_bitmaps_as_writes_do),
        cmocka_unit_test(a_marked_bitmap_is_inconsistent_and_can_only_be_removed),
        cmocka_unit_test(extra_data_is_kept_and_decides_whether_a_bitmap_is_used),
        cmocka_unit_test(a_reopen_stores_bitmaps_and_they_stay_in_memory),
        cmocka_unit_test(a_read_only_node_does_not_store_what_changes_in_memory),
        cmocka_unit_test(a_node_that_moves_keeps_its_bitmaps),
        cmocka_unit_test(bitmaps_follow_the_size_of_the_disk),
        cmocka_unit_test(a_snapshot_can_be_created_but_not_applied_beside_bitmaps),
        cmocka_unit_test(a_merge_takes_the_bits_of_another_image),
        cmocka_unit_test(a_bitmap_that_cannot_be_stored_is_refused),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
