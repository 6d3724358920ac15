/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmap directories that contradict the format, and the largest one. */
#include "block/drivers.h"
#include "block/qcow2/qcow2_header.h"
#include "tests/block/qcow2/qcow2_bitmap_test.h"

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

/* Changes bytes of the entry of bitmap @name, @at behind its flags, and expects a refusal. */
static coroutine_fn RUNS_IN_MAIN void bitmap_spoil(const char *dir, const char *name, int at,
                                                   const char *octal, const char *says)
{
    DiskBitmap b = file_bitmap(dir, "t.qcow2", name);
    g_autofree char *text = g_strdup_printf("qcow2,file.driver=file,file.filename=%s/t.qcow2", dir);
    qcow2_shell(dir, "cp t.qcow2 good && printf '%s' | dd of=t.qcow2 bs=1 seek=%d conv=notrunc",
                octal, (int)b.flags_at + at);
    test_open_fails(text, says);
    qcow2_shell(dir, "mv good t.qcow2");
    disk_bitmap_clear(&b);
}

BLOCK_TEST(a_directory_that_contradicts_the_format_is_refused)
{
    char *dir = qcow2_dir_new();
    bitmap_create(dir, "");
    qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 a && qemu-img bitmap --add t.qcow2 b && "
                     "qemu-io -f qcow2 -c 'write -q 0 64k' t.qcow2");
    bitmap_spoil(dir, "b", 12, "a", "name: another entry has it");
    bitmap_spoil(dir, "b", 12, "\\0", "entry 1 of the qcow2 bitmap directory has an invalid name");
    bitmap_spoil(dir, "a", 6, "\\0\\0", "invalid name length");
    bitmap_spoil(dir, "a", 6, "\\4\\0", "invalid name length");
    bitmap_spoil(dir, "a", 5, "\\10", "invalid granularity");
    bitmap_spoil(dir, "a", 5, "\\40", "invalid granularity");
    bitmap_spoil(dir, "a", 4, "\\0", "invalid type");
    bitmap_spoil(dir, "a", 4, "\\2", "invalid type");
    bitmap_spoil(dir, "a", 3, "\\12", "invalid flags");
    bitmap_spoil(dir, "a", -1, "\\0", "invalid table size");
    bitmap_spoil(dir, "a", -1, "\\2", "Could not read bitmap 'a' from image");
    bitmap_spoil(dir, "a", -5, "\\1", "invalid table offset");
    bitmap_spoil(dir, "a", 8, "\\0\\0\\0\\10", "invalid");
    bitmap_spoil(dir, "a", 8, "\\377\\377\\377\\377", "invalid length");
    qcow2_dir_free(dir);
}

/* An image with as many bitmaps as there can be, all in use. */
static void bitmap_create_many(const char *dir)
{
    size_t size;
    bitmap_create(dir, "");
    qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 a");
    g_autofree uint8_t *image = qcow2_file_bytes(dir, "t.qcow2", &size);
    size_t extension = disk_extension(image, size), at = block_align_up(size, 65536);
    size_t bytes = QCOW2_BITMAPS_MAX * (size_t)32;
    uint8_t *table = image + bits_number(image + extension + 24, 8);
    g_autofree uint8_t *all = g_malloc0(at + bytes);
    for (unsigned i = 0; i < QCOW2_BITMAPS_MAX; i++) {
        char name[9];
        memcpy(all + at + i * 32, table, 24);
        all[at + i * 32 + 15] = QCOW2_BITMAP_IN_USE;
        all[at + i * 32 + 19] = 8;
        snprintf(name, sizeof(name), "m%07u", i);
        memcpy(all + at + i * 32 + 24, name, 8);
    }
    memcpy(all, image, size);
    qcow2_put32(all + extension + 8, QCOW2_BITMAPS_MAX);
    qcow2_put64(all + extension + 16, bytes);
    qcow2_put64(all + extension + 24, at);
    g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
    assert_true(g_file_set_contents(path, (char *)all, (gssize)(at + bytes), NULL));
}

BLOCK_TEST(an_image_has_65535_bitmaps_at_most)
{
    g_autoptr(GError) error = NULL;
    char *dir = qcow2_dir_new();
    bitmap_create_many(dir);
    BlockBackend *blk = bitmap_open(dir, "");
    BlockNode *n = blk_root(blk);
    assert_int_equal(block_dirty_bitmap_count(n), QCOW2_BITMAPS_MAX);
    bitmap_refused(block_dirty_bitmap_co_add(n, "new", 0, BLOCK_BITMAP_PERSISTENT, &error), &error,
                   "Maximum number of persistent bitmaps is already reached");
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_whose_bitmaps_cannot_be_loaded_is_read_only),
        cmocka_unit_test(a_directory_that_contradicts_the_format_is_refused),
        cmocka_unit_test(an_image_has_65535_bitmaps_at_most),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
