/* SPDX-License-Identifier: Apache-2.0 */
/* Writes to images whose metadata is invalid: they fail, and skiff damages and stops nothing. */
#include "block/driver/mem.h"
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

/* The discard is a success, but what it leads to becomes no hole. */
BLOCK_TEST(a_discarded_cluster_that_is_a_table_keeps_its_content)
{
    char *dir = hostile_new("cluster_size=64k");
    const uint64_t refcounts = HOSTILE_GET(dir, refcount_table_offset);
    const uint64_t tables[] = {HOSTILE_GET(dir, l1_table_offset), hostile_l2_table(dir), refcounts,
                               hostile_get(dir, refcounts)};
    for (unsigned i = 0; i < G_N_ELEMENTS(tables); i++) {
        hostile_put(dir, hostile_l2_table(dir) + 8, QCOW2_ENTRY_COPIED | tables[i]);
        BlockBackend *blk = hostile_open(dir);
        assert_int_equal(test_io(blk, TEST_DISCARD, 65536, 65536, NULL, 0), 0);
        test_io(blk, TEST_FLUSH, 0, 0, NULL, 0);
        blk_co_free(blk);
        assert_int_not_equal(hostile_get(dir, tables[i]), 0);
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

/* ---- very many bitmaps ---- */

typedef struct HostileTurns {
    BlockNode *node, *mem;
    uint8_t *image;
    size_t size;
    bool stop;
    unsigned count;
} HostileTurns;

static void hostile_fill(void *opaque)
{
    HostileTurns *t = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(t->mem), t->image, t->size);
}

static void hostile_count_turns(void *opaque)
{
    HostileTurns *t = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    for (; !t->stop; t->count++) {
        co_yield_turn();
    }
}

/* Loads the bitmaps once more and counts the turns of the loop meanwhile. The reads take none. */
static void hostile_load_again(void *opaque)
{
    HostileTurns *t = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_bitmap_drop(t->node);
    qcow2_bitmaps_free(t->node->state);
    co_start(test_home, hostile_count_turns, t);
    assert_true(qcow2_co_load_bitmaps(t->node, NULL));
    t->stop = true;
    co_yield_turn(); /* the other coroutine ends */
    co_yield_turn();
}

/* Gives t.qcow2 a directory of @count bitmaps that are in use, behind all else. */
static void hostile_add_bitmaps(const char *dir, uint32_t count)
{
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(dir, "t.qcow2", &size);
    g_autoptr(GByteArray) all = g_byte_array_new();
    g_autoptr(GString) directory = g_string_new(NULL);
    uint64_t at = block_align_up(size, 65536), old = qcow2_get32(image + 100);
    for (uint32_t i = 0; i < count; i++) {
        g_autofree char *name = g_strdup_printf("%08x", i);
        Qcow2DiskBitmap d = {.table_offset = htobe64(at),
                             .table_size = htobe32(1),
                             .flags = htobe32(QCOW2_BITMAP_IN_USE),
                             .type = QCOW2_BITMAP_TYPE_DIRTY,
                             .granularity_bits = 16,
                             .name_size = htobe16(8)};
        g_string_append_len(directory, (char *)&d, sizeof(d));
        g_string_append_len(directory, name, 8);
    }
    uint8_t extension[32] = {0};
    qcow2_put32(extension, QCOW2_EXTENSION_BITMAPS);
    qcow2_put32(extension + 4, 24);
    qcow2_put32(extension + 8, count);
    qcow2_put64(extension + 16, directory->len);
    qcow2_put64(extension + 24, at);
    memmove(image + old + 32, image + old, 1024); /* the other extensions */
    memcpy(image + old, extension, sizeof(extension));
    qcow2_put64(image + offsetof(Qcow2DiskHeader, autoclear_features), QCOW2_AUTOCLEAR_BITMAPS);
    g_byte_array_append(all, image, (guint)size);
    g_byte_array_set_size(all, (guint)at);
    g_byte_array_append(all, (uint8_t *)directory->str, (guint)directory->len);
    g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
    assert_true(g_file_set_contents(path, (char *)all->data, all->len, NULL));
}

BLOCK_TEST(an_image_with_very_many_bitmaps_leaves_turns_to_others)
{
    char *dir = hostile_new("cluster_size=64k");
    HostileTurns t = {0};
    hostile_add_bitmaps(dir, QCOW2_BITMAPS_MAX);
    g_autofree uint8_t *image = t.image = qcow2_file_bytes(dir, "t.qcow2", &t.size);
    assert_true(t.size <= (8u << 20));
    t.mem = test_node_add("mem,node-name=m,size=8M");
    test_in_home(hostile_fill, &t);
    BlockBackend *blk = test_blk("d", "qcow2,file=m", true);
    t.node = blk_root(blk);
    test_in_home(hostile_load_again, &t);
    assert_int_equal(block_dirty_bitmap_count(t.node), QCOW2_BITMAPS_MAX);
    assert_true(t.count > QCOW2_BITMAPS_MAX / 100);
    assert_int_equal(block_node_co_complete(t.node), 0);
    blk_co_free(blk);
    test_node_del("m");
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zero_cluster_that_leads_to_a_table_is_not_used_again),
        cmocka_unit_test(a_discarded_cluster_that_is_a_table_keeps_its_content),
        cmocka_unit_test(refcounts_in_the_l1_table_are_not_changed),
        cmocka_unit_test(a_new_refcount_block_does_not_overwrite_an_l2_table),
        cmocka_unit_test(an_l1_entry_with_reserved_bits_does_not_stop_the_iothread),
        cmocka_unit_test(a_read_only_node_that_was_writable_reads_an_invalid_image),
        cmocka_unit_test(an_image_with_very_many_bitmaps_leaves_turns_to_others),
    };
    return block_test_main(tests);
}
