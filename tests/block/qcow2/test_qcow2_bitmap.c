/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent dirty bitmaps: when they are marked, stored and loaded, what is refused, and where the
 * header has room for them. What is on disk is read from the bytes of the file. */
#include "block/drivers.h"
#include "tests/block/qcow2/qcow2_bitmap_test.h"

#define BITMAP_MIB ((uint64_t)1 << 20)

static void bitmap_create(const char *dir, const char *options)
{
    qcow2_shell(dir, "qemu-img create -q -f qcow2 %s t.qcow2 1M", options);
}

static void bitmap_check(const char *dir)
{
    qcow2_shell(dir, "qemu-img check t.qcow2");
}

static coroutine_fn RUNS_IN_MAIN void bitmap_refused(bool ok, GError **error, const char *says)
{
    assert_false(ok);
    if (strstr((*error)->message, says) == NULL) {
        fail_msg("'%s' does not say '%s'", (*error)->message, says);
    }
    g_clear_error(error);
}

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

static void bitmap_set_flags(const char *dir, const char *name, uint8_t flags)
{
    DiskBitmap b = file_bitmap(dir, "t.qcow2", name);
    assert_true(b.listed);
    qcow2_shell(dir, "printf '\\%o' | dd of=t.qcow2 bs=1 seek=%zu conv=notrunc", flags,
                b.flags_at + 3);
    disk_bitmap_clear(&b);
}

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

BLOCK_TEST(an_image_whose_bitmaps_cannot_be_loaded_is_read_only)
{
    g_autoptr(GError) error = NULL;
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 a && qemu-img bitmap --add t.qcow2 b");
    bitmap_set_flags(dir, "b", 8);
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=q,file.driver=file,file.filename=%s/t.qcow2", dir);
    test_open_fails(text, "entry 1 of the qcow2 bitmap directory has an invalid flags");
    BlockBackend *blk = qcow2_open_image(dir, "t.qcow2", ",node-name=q");
    uint8_t buf[512];
    assert_int_equal(block_dirty_bitmap_count(blk_root(blk)), 0);
    assert_int_equal(test_io(blk, TEST_READ, 0, 512, buf, 0), 0);
    g_autofree char *again = g_strdup_printf("%s,file.node-name=", text);
    OptDict *d = opt_dict_parse(text, "driver", NULL);
    bitmap_refused(block_co_reopen(&d, 1, &error), &error, "could not be loaded");
    opt_dict_free(d);
    blk_co_free(blk);
    qcow2_dir_free(dir);
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

/* ---- the header ---- */

/* Adds and removes bitmaps with names of the backing file of every length: it stays what it was. */
static coroutine_fn RUNS_IN_MAIN void bitmap_header_round(const char *dir, unsigned cluster,
                                                          unsigned length)
{
    g_autofree char *name = g_strnfill(length, 'n');
    qcow2_shell(dir,
                "rm -f t.qcow2; truncate -s 1M '%s'; qemu-img create -q -u -f qcow2 -o "
                "cluster_size=%u -b './%s' -F raw "
                "t.qcow2 1M",
                name, cluster, name);
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        BlockBackend *blk = bitmap_open(dir, ",backing=");
        bool ok = block_dirty_bitmap_co_add(blk_root(blk), "a", 0, BLOCK_BITMAP_PERSISTENT, &error);
        assert_true(ok);
        int ret = block_node_co_complete(blk_root(blk));
        bool room = cluster >= 4096 || 112 + 16 + 8 + 32 + 2 + length <= cluster;
        if (ret != 0 && (ret != -ENOSPC || (room && cluster != 1024))) {
            fail_msg("clusters of %u, a name of %u: %d", cluster, length, ret);
        }
        assert_int_equal(file_bitmap_listed(dir, "a"), ret == 0);
        qcow2_shell(dir,
                    "qemu-img info --output=json -U t.qcow2 | grep -q "
                    "'\"backing-filename\": \"./%s\"' && qemu-img check -U t.qcow2",
                    name);
        assert_true(block_dirty_bitmap_co_remove(blk_root(blk), "a", NULL));
        blk_co_free(blk);
        qcow2_shell(dir, "qemu-img info t.qcow2 2>err | grep -q '%s' && [ ! -s err ]", name);
    }
    bitmap_check(dir);
}

BLOCK_TEST(the_extension_finds_room_beside_the_name_of_the_backing_file)
{
    static const unsigned lengths[] = {1, 100, 212, 218, 219, 253};
    static const unsigned clusters[] = {512, 1024, 4096, 65536};
    char *dir = qcow2_dir_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        for (unsigned j = 0; j < G_N_ELEMENTS(clusters); j++) {
            if (112 + 16 + 8 + 2 + lengths[i] <= clusters[j]) {
                bitmap_header_round(dir, clusters[j], lengths[i]);
            }
        }
    }
    qcow2_dir_free(dir);
}

static void bitmap_patch(const char *dir, size_t at, const char *octal)
{
    qcow2_shell(dir, "printf '%s' | dd of=t.qcow2 bs=1 seek=%zu conv=notrunc", octal, at);
}

/* An extension that others follow stays as room; one that a sector ends in is written in two parts. */
BLOCK_TEST(extensions_behind_and_across_a_sector_are_kept)
{
    char *dir = qcow2_dir_new();
    for (unsigned shift = 0; shift < 32; shift += 8) {
        qcow2_shell(dir, "rm -f t.qcow2");
        bitmap_create(dir, "-o cluster_size=4096"); /* it has no feature table */
        /* an unknown extension of which the next one begins at 472 + shift */
        g_autofree char *length = g_strdup_printf("\\22\\64\\126\\170\\0\\0\\1\\%o", 0x60 + shift);
        bitmap_patch(dir, 112, length);
        qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 q"); /* QEMU moves its own to the front */
        qcow2_shell(dir, "qemu-img bitmap --remove t.qcow2 q");
        for (unsigned i = 0; i < 3; i++) {
            BlockBackend *blk = bitmap_open(dir, "");
            bitmap_add(blk_root(blk), "a", 0, 0);
            bitmap_write(blk, 0, 512, i);
            blk_co_free(blk);
            file_bitmap_expect(dir, "a", true, 0, 4096);
            qcow2_shell(dir, "qemu-img check t.qcow2 && qemu-img bitmap --add t.qcow2 b");
            blk = bitmap_open(dir, ""); /* QEMU has written the extension before the unknown one */
            assert_true(block_dirty_bitmap_co_remove(blk_root(blk), "a", NULL));
            assert_true(block_dirty_bitmap_co_remove(blk_root(blk), "b", NULL));
            blk_co_free(blk);
            bitmap_check(dir);
            g_autofree uint8_t *image = NULL;
            size_t size;
            image = qcow2_file_bytes(dir, "t.qcow2", &size);
            assert_non_null(memmem(image, 4096, "\x12\x34\x56\x78\0\0\1", 7));
        }
    }
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
        cmocka_unit_test(an_image_whose_bitmaps_cannot_be_loaded_is_read_only),
        cmocka_unit_test(a_reopen_stores_bitmaps_and_they_stay_in_memory),
        cmocka_unit_test(a_node_that_moves_keeps_its_bitmaps),
        cmocka_unit_test(bitmaps_follow_the_size_of_the_disk),
        cmocka_unit_test(a_snapshot_can_be_created_but_not_applied_beside_bitmaps),
        cmocka_unit_test(a_merge_takes_the_bits_of_another_image),
        cmocka_unit_test(the_extension_finds_room_beside_the_name_of_the_backing_file),
        cmocka_unit_test(extensions_behind_and_across_a_sector_are_kept),
        cmocka_unit_test(a_bitmap_that_cannot_be_stored_is_refused),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
