/* SPDX-License-Identifier: Apache-2.0 */
/* Where the header has room for the place of the bitmap directory. */
#include "block/drivers.h"
#include "tests/block/qcow2/qcow2_bitmap_test.h"

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
    qcow2_shell(dir, "qemu-img check t.qcow2");
}

BLOCK_TEST(the_extension_finds_room_beside_the_name_of_the_backing_file)
{
    static const unsigned lengths[] = {1, 212, 253};
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
        qcow2_shell(
            dir,
            "qemu-img create -q -f qcow2 -o cluster_size=4096 t.qcow2 1M"); /* it has no feature table */
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
            /* QEMU keeps the room, which it does not know, and makes an extension of its own */
            qcow2_shell(dir, "qemu-img bitmap --add t.qcow2 q");
            blk = bitmap_open(dir, "");
            bitmap_add(blk_root(blk), "c", 0, 0);
            blk_co_free(blk);
            file_bitmap_expect(dir, "q", true, 0, 0);
            file_bitmap_expect(dir, "c", true, 0, 0);
            qcow2_shell(dir, "qemu-img bitmap --remove t.qcow2 q && "
                             "qemu-img bitmap --remove t.qcow2 c");
            qcow2_shell(dir, "qemu-img check t.qcow2");
            g_autofree uint8_t *image = NULL;
            size_t size;
            image = qcow2_file_bytes(dir, "t.qcow2", &size);
            assert_non_null(memmem(image, 4096, "\x12\x34\x56\x78\0\0\1", 7));
        }
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_extension_finds_room_beside_the_name_of_the_backing_file),
        cmocka_unit_test(extensions_behind_and_across_a_sector_are_kept),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
