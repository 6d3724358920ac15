/* SPDX-License-Identifier: Apache-2.0 */
/* Writes to images whose metadata is invalid: they fail, and skiff damages and stops nothing. */
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_test.h"

/* ---- the image ---- */

static uint64_t hostile_get(const char *dir, size_t at)
{
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(dir, "t.qcow2", &size);
    assert_true(at + 8 <= size);
    return qcow2_get64(image + at);
}

#define HOSTILE_GET(dir, field) hostile_get(dir, offsetof(Qcow2DiskHeader, field))

static void hostile_put(const char *dir, size_t at, uint64_t value)
{
    g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
    int fd = open(path, O_WRONLY);
    uint8_t bytes[8];
    qcow2_put64(bytes, value);
    assert_int_equal(pwrite(fd, bytes, sizeof(bytes), (off_t)at), sizeof(bytes));
    close(fd);
}

static uint64_t hostile_l2_table(const char *dir)
{
    return hostile_get(dir, HOSTILE_GET(dir, l1_table_offset)) & QCOW2_OFFSET_MASK;
}

/* Four clusters of data. */
static char *hostile_new(const char *options)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir,
                "qemu-img create -q -f qcow2 -o %s t.qcow2 1M && "
                "qemu-io -c 'write -q -P 1 0 256k' t.qcow2",
                options);
    return dir;
}

static char *hostile_text(const char *dir, const char *options)
{
    return g_strdup_printf("qcow2,node-name=q,discard=unmap,file.driver=file,file.discard=unmap,"
                           "file.node-name=p,file.filename=%s/t.qcow2%s",
                           dir, options);
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *hostile_open(const char *dir)
{
    g_autofree char *text = hostile_text(dir, "");
    return test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN int hostile_write(BlockBackend *blk, uint64_t offset)
{
    uint8_t buf[512];
    memset(buf, 2, sizeof(buf));
    return test_io(blk, TEST_WRITE, offset, sizeof(buf), buf, 0);
}

/* A write at @offset fails, and leaves the cluster at @host of the file as it was. */
static coroutine_fn RUNS_IN_MAIN void hostile_expect_kept(const char *dir, uint64_t offset,
                                                          uint64_t host, uint64_t bytes)
{
    size_t size;
    g_autofree uint8_t *before = qcow2_file_bytes(dir, "t.qcow2", &size);
    BlockBackend *blk = hostile_open(dir);
    assert_int_equal(hostile_write(blk, offset), -EIO);
    blk_co_free(blk);
    g_autofree uint8_t *after = qcow2_file_bytes(dir, "t.qcow2", &size);
    assert_memory_equal(before + host, after + host, bytes);
}

/* ---- tests ---- */

BLOCK_TEST(an_l1_entry_with_reserved_bits_does_not_stop_the_iothread)
{
    char *dir = hostile_new("cluster_size=64k");
    uint64_t l1 = HOSTILE_GET(dir, l1_table_offset);
    hostile_put(dir, l1, hostile_get(dir, l1) | 1 | (uint64_t)1 << 56);
    BlockBackend *blk = hostile_open(dir);
    assert_int_equal(hostile_write(blk, 0x80000), 0);
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_zero_cluster_that_leads_to_a_table_is_not_used_again)
{
    char *dir = hostile_new("cluster_size=64k");
    const uint64_t tables[] = {HOSTILE_GET(dir, l1_table_offset),
                               HOSTILE_GET(dir, refcount_table_offset)};
    for (unsigned i = 0; i < G_N_ELEMENTS(tables); i++) {
        hostile_put(dir, hostile_l2_table(dir), QCOW2_ENTRY_COPIED | QCOW2_ENTRY_ZERO | tables[i]);
        hostile_expect_kept(dir, 0, tables[i], 65536);
        hostile_put(dir, offsetof(Qcow2DiskHeader, incompatible_features), 0);
    }
    qcow2_dir_free(dir);
}

/* The number of entries of the refcount table that have a block. */
static uint64_t hostile_blocks(const char *dir)
{
    uint64_t table = HOSTILE_GET(dir, refcount_table_offset), count = 0;
    while (hostile_get(dir, table + count * 8) != 0) {
        count++;
    }
    return count;
}

BLOCK_TEST(refcounts_in_the_l1_table_are_not_changed)
{
    char *dir = hostile_new("cluster_size=512,refcount_bits=64"); /* a block counts 64 clusters */
    uint64_t l1 = HOSTILE_GET(dir, l1_table_offset), last = hostile_blocks(dir) - 1;
    hostile_put(dir, HOSTILE_GET(dir, refcount_table_offset) + last * 8, l1);
    hostile_expect_kept(dir, 0x80000, l1, 512);
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_new_refcount_block_does_not_overwrite_an_l2_table)
{
    char *dir = hostile_new("cluster_size=512,refcount_bits=64");
    uint64_t l1 = HOSTILE_GET(dir, l1_table_offset), last = hostile_blocks(dir) - 1;
    uint64_t host = last * 64 * 512;
    hostile_put(dir, HOSTILE_GET(dir, refcount_table_offset) + last * 8, 0);
    hostile_put(dir, l1 + 8 * 8, QCOW2_ENTRY_COPIED | host);
    hostile_expect_kept(dir, 0x80000, host, 512);
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_read_only_node_that_was_writable_reads_an_invalid_image)
{
    char *dir = hostile_new("cluster_size=64k");
    uint8_t buf[512];
    hostile_put(dir, hostile_l2_table(dir), QCOW2_ENTRY_COPIED | 0x50200);
    g_autofree char *text = hostile_text(dir, "");
    g_autofree char *read_only = hostile_text(dir, ",read-only=on,file.read-only=on");
    BlockNode *n = test_node_add(text);
    GError *error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(read_only, "driver", &error);
    assert_true(block_co_reopen(&d, 1, &error));
    BlockBackend *blk = blk_co_new("d", n, false, &error);
    assert_int_equal(test_io(blk, TEST_READ, 0, sizeof(buf), buf, 0), -EIO);
    blk_co_free(blk);
    test_node_del("q");
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zero_cluster_that_leads_to_a_table_is_not_used_again),
        cmocka_unit_test(refcounts_in_the_l1_table_are_not_changed),
        cmocka_unit_test(a_new_refcount_block_does_not_overwrite_an_l2_table),
        cmocka_unit_test(an_l1_entry_with_reserved_bits_does_not_stop_the_iothread),
        cmocka_unit_test(a_read_only_node_that_was_writable_reads_an_invalid_image),
    };
    return block_test_main(tests);
}
