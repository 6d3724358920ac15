/* SPDX-License-Identifier: Apache-2.0 */
/* When an image may be written to, what its header says meanwhile, and images that contradict
 * themselves. */
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_test.h"

/* ---- the header on disk ---- */

static uint64_t writer_get(const char *dir, size_t at, unsigned width)
{
    size_t size;
    g_autofree uint8_t *image = qcow2_file_bytes(dir, "t.qcow2", &size);
    assert_true(at + width <= size);
    return width == 4 ? qcow2_get32(image + at) : qcow2_get64(image + at);
}

#define WRITER_GET(dir, field)                                                                     \
    writer_get(dir, offsetof(Qcow2DiskHeader, field), sizeof(((Qcow2DiskHeader *)0)->field))

static void writer_put(const char *dir, size_t at, uint64_t value)
{
    g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
    int fd = open(path, O_WRONLY);
    uint8_t bytes[8];
    qcow2_put64(bytes, value);
    assert_int_equal(pwrite(fd, bytes, sizeof(bytes), (off_t)at), sizeof(bytes));
    close(fd);
}

#define WRITER_PUT(dir, field, value) writer_put(dir, offsetof(Qcow2DiskHeader, field), value)

/* The place of the L2 entry of cluster @index, which is in the first L2 table. */
static uint64_t writer_l2_entry(const char *dir, unsigned index)
{
    uint64_t l1 = WRITER_GET(dir, l1_table_offset);
    return (writer_get(dir, l1, 8) & QCOW2_OFFSET_MASK) + index * 8;
}

static uint64_t writer_refcount_block(const char *dir)
{
    return writer_get(dir, WRITER_GET(dir, refcount_table_offset), 8);
}

/* ---- opening ---- */

static char *writer_text(const char *dir, const char *options)
{
    return g_strdup_printf("qcow2,node-name=q,discard=unmap,file.driver=file,file.discard=unmap,"
                           "file.node-name=p,file.filename=%s/t.qcow2%s",
                           dir, options);
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *writer_open(const char *dir, const char *options)
{
    g_autofree char *text = writer_text(dir, options);
    return test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN int writer_write(BlockBackend *blk, uint64_t offset,
                                                  uint8_t pattern)
{
    uint8_t buf[512];
    memset(buf, pattern, sizeof(buf));
    return test_io(blk, TEST_WRITE, offset, sizeof(buf), buf, 0);
}

static coroutine_fn RUNS_IN_MAIN void writer_expect(BlockBackend *blk, uint64_t offset,
                                                    uint8_t pattern)
{
    uint8_t buf[512], expected[512];
    memset(expected, pattern, sizeof(expected));
    assert_int_equal(test_io(blk, TEST_READ, offset, sizeof(buf), buf, 0), 0);
    assert_memory_equal(buf, expected, sizeof(buf));
}

/* ---- features ---- */

BLOCK_TEST(a_dirty_image_is_repaired_before_it_is_written_to)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M && "
                     "qemu-io -c 'write -q -P 7 0 64k' t.qcow2");
    WRITER_PUT(dir, incompatible_features, QCOW2_INCOMPATIBLE_DIRTY);
    qcow2_shell(dir, "printf '\\0\\0' | dd of=t.qcow2 bs=1 seek=131082 conv=notrunc && "
                     "! qemu-img check -q t.qcow2");   /* the refcount of the data is 0 */
    blk_co_free(qcow2_open_image(dir, "t.qcow2", "")); /* read-only: nothing is changed */
    assert_int_equal(WRITER_GET(dir, incompatible_features), QCOW2_INCOMPATIBLE_DIRTY);
    BlockBackend *blk = writer_open(dir, "");
    assert_int_equal(WRITER_GET(dir, incompatible_features), 0);
    writer_expect(blk, 0, 7);
    assert_int_equal(writer_write(blk, 1 << 19, 1), 0);
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-img check -q t.qcow2 && qemu-io -c 'read -q -P 7 0 64k' t.qcow2");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_dirty_image_that_cannot_be_repaired_is_refused)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M && "
                     "qemu-io -c 'write -q -P 7 0 64k' t.qcow2");
    WRITER_PUT(dir, incompatible_features, QCOW2_INCOMPATIBLE_DIRTY);
    qcow2_shell(dir,
                "printf '\\1' | dd of=t.qcow2 bs=1 seek=262144 conv=notrunc"); /* reserved bits */
    g_autofree char *text = writer_text(dir, "");
    test_open_fails(text, "was not closed after writing, and its repair has left errors; open it "
                          "with read-only=on");
    assert_int_equal(WRITER_GET(dir, incompatible_features), QCOW2_INCOMPATIBLE_DIRTY);
    qcow2_dir_free(dir);
}

BLOCK_TEST(corrupt_images_are_opened_read_only_only)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M");
    g_autofree char *text = writer_text(dir, "");
    WRITER_PUT(dir, incompatible_features, QCOW2_INCOMPATIBLE_CORRUPT);
    test_open_fails(text, "the image is corrupt; open it with read-only=on");
    blk_co_free(qcow2_open_image(dir, "t.qcow2", ""));
    qcow2_dir_free(dir);
}

BLOCK_TEST(the_first_write_clears_what_skiff_does_not_maintain_and_nothing_else)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M && qemu-img bitmap --add t.qcow2 b0");
    uint64_t unknown = (uint64_t)1 << 40 | QCOW2_AUTOCLEAR_BITMAPS;
    uint64_t compatible = (uint64_t)1 << 41;
    WRITER_PUT(dir, autoclear_features, unknown);
    WRITER_PUT(dir, compatible_features, compatible);
    BlockBackend *blk = writer_open(dir, "");
    writer_expect(blk, 0, 0);
    blk_co_free(blk);
    assert_int_equal(WRITER_GET(dir, autoclear_features), unknown);
    blk = writer_open(dir, "");
    assert_int_equal(writer_write(blk, 0, 1), 0);
    /* before a flush; bitmaps are maintained */
    assert_int_equal(WRITER_GET(dir, autoclear_features), QCOW2_AUTOCLEAR_BITMAPS);
    blk_co_free(blk);
    assert_int_equal(WRITER_GET(dir, compatible_features), compatible);
    qcow2_dir_free(dir);
}

BLOCK_TEST(an_image_with_lazy_refcounts_is_dirty_while_it_is_written)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o lazy_refcounts=on t.qcow2 1M");
    BlockBackend *blk = writer_open(dir, "");
    assert_int_equal(WRITER_GET(dir, incompatible_features), 0);
    assert_int_equal(writer_write(blk, 0, 1), 0);
    assert_int_equal(WRITER_GET(dir, incompatible_features), QCOW2_INCOMPATIBLE_DIRTY);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    qcow2_shell(dir, "cp t.qcow2 cut.qcow2 && qemu-img check -q -r all cut.qcow2; "
                     "qemu-img check cut.qcow2 && qemu-io -c 'read -P 1 0 512' cut.qcow2");
    blk_co_free(blk);
    assert_int_equal(WRITER_GET(dir, incompatible_features), 0);
    qcow2_shell(dir, "qemu-img check t.qcow2");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_process_that_ends_without_closing_completes_its_images)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o lazy_refcounts=on t.qcow2 1M");
    BlockBackend *blk = writer_open(dir, "");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(writer_write(blk, i * 65536, 1), 0);
        assert_int_equal(test_io(blk, TEST_DISCARD, 65536, 65536, NULL, 0), 0);
        block_co_complete_all();
        qcow2_shell(dir, "cp t.qcow2 copy.qcow2 && qemu-img check copy.qcow2");
        assert_int_equal(WRITER_GET(dir, incompatible_features), 0);
    }
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

/* ---- reopening, moving ---- */

static coroutine_fn RUNS_IN_MAIN void writer_reopen(const char *dir, bool read_only,
                                                    const char *fails)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = writer_text(dir, read_only ? ",read-only=on,file.read-only=on" : "");
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", &error);
    bool ok = block_co_reopen(&d, 1, &error);
    if (ok != (fails == NULL) || (fails != NULL && strstr(error->message, fails) == NULL)) {
        fail_msg("reopen: %s", error != NULL ? error->message : "it succeeds");
    }
}

BLOCK_TEST(a_reopen_to_read_only_completes_the_image_and_back_writes_again)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o lazy_refcounts=on t.qcow2 1M");
    g_autofree char *text = writer_text(dir, "");
    BlockNode *n = test_node_add(text);
    for (unsigned i = 1; i < 4; i++) {
        GError *error = NULL;
        BlockBackend *blk = blk_co_new("d", n, true, &error);
        assert_int_equal(writer_write(blk, i * 65536, (uint8_t)i), 0);
        assert_int_equal(test_io(blk, TEST_DISCARD, (i - 1) * 65536, 65536, NULL, 0), 0);
        blk_co_free(blk);
        writer_reopen(dir, true, NULL);
        assert_int_equal(WRITER_GET(dir, incompatible_features), 0);
        qcow2_shell(dir,
                    "cp t.qcow2 copy.qcow2 && qemu-img check copy.qcow2 && "
                    "qemu-io -c 'read -P %u %u 512' copy.qcow2",
                    i, i * 65536);
        writer_reopen(dir, false, NULL);
    }
    writer_reopen(dir, true, NULL);
    test_node_del("q");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_reopen_for_writing_leaves_an_image_that_is_being_written)
{
    char *dir = qcow2_dir_new();
    GError *error = NULL;
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o lazy_refcounts=on t.qcow2 1M");
    g_autofree char *text = writer_text(dir, "");
    BlockNode *n = test_node_add(text);
    BlockBackend *blk = blk_co_new("d", n, true, &error);
    assert_int_equal(writer_write(blk, 65536, 1), 0);
    assert_int_equal(WRITER_GET(dir, incompatible_features), QCOW2_INCOMPATIBLE_DIRTY);
    writer_reopen(dir, false, NULL);
    assert_int_equal(writer_write(blk, 131072, 2), 0);
    blk_co_free(blk);
    test_node_del("q");
    qcow2_shell(dir, "qemu-img check t.qcow2 && "
                     "qemu-io -c 'read -P 1 64k 512' -c 'read -P 2 128k 512' t.qcow2");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_written_image_moves_to_another_iothread)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M");
    g_autofree char *text = writer_text(dir, "");
    BlockNode *n = test_node_add(text);
    IoThread *other = iothread_new("io1", 0, NULL);
    GError *error = NULL;
    for (unsigned i = 0; i < 4; i++) {
        BlockBackend *blk = blk_co_new("d", n, true, &error);
        AioContext *home = test_home;
        test_home = block_node_home(n);
        assert_int_equal(writer_write(blk, i * 65536, (uint8_t)(i + 1)), 0);
        test_home = home;
        blk_co_free(blk);
        assert_true(block_co_move(n, i % 2 == 0 ? iothread_context(other) : test_home, &error));
    }
    test_node_del("q");
    iothread_free(other);
    qcow2_shell(dir, "qemu-img check t.qcow2 && qemu-io -c 'read -P 1 0 512' "
                     "-c 'read -P 4 192k 512' t.qcow2");
    qcow2_dir_free(dir);
}

/* ---- space ---- */

static uint64_t writer_blocks(const char *dir)
{
    struct stat st;
    g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

BLOCK_TEST(a_discard_gives_space_back_to_the_host_and_to_the_image)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 8M && "
                     "qemu-io -c 'write -q -P 1 0 8M' t.qcow2");
    BlockBackend *blk = writer_open(dir, "");
    uint64_t full = writer_blocks(dir), size = block_node_size(block_node_find("p"));
    assert_int_equal(test_io(blk, TEST_DISCARD, 0, 4 << 20, NULL, 0), 0);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    co_drained_begin(&blk, 1); /* waits for what goes on in the background */
    co_drained_end(&blk, 1);
    assert_true(writer_blocks(dir) <= full - (3u << 20));
    writer_expect(blk, 0, 0);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(writer_write(blk, i * 65536, 2), 0);
    }
    assert_int_equal(block_node_size(block_node_find("p")), size);
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-img check t.qcow2");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_write_of_part_of_a_new_cluster_at_the_files_end_writes_only_that_part)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o cluster_size=2M t.qcow2 64M");
    BlockBackend *blk = writer_open(dir, "");
    assert_int_equal(writer_write(blk, 0, 1), 0);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0); /* the L2 table is written */
    uint64_t before = writer_blocks(dir);
    for (unsigned i = 1; i < 8; i++) {
        assert_int_equal(writer_write(blk, (uint64_t)i * (2 << 20) + (1 << 20), 2), 0);
    }
    assert_true(writer_blocks(dir) < before + (1 << 20));
    for (unsigned i = 1; i < 8; i++) {
        writer_expect(blk, (uint64_t)i * (2 << 20) + (1 << 20), 2);
        writer_expect(blk, (uint64_t)i * (2 << 20) + (3 << 19), 0);
    }
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-img check t.qcow2");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_full_device_fails_with_ENOSPC_and_the_image_stays_sound)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 8M && truncate -s 2M t.qcow2");
    /* raw with a size does not grow */
    g_autofree char *text = g_strdup_printf(
        "qcow2,file.driver=raw,file.size=2M,file.file.driver=file,file.file.filename=%s/t.qcow2",
        dir);
    BlockBackend *blk = test_blk("d", text, true);
    unsigned done = 0;
    int ret = 0;
    for (; done < 128 && ret == 0; done += ret == 0) {
        ret = writer_write(blk, done * 65536, 5);
    }
    assert_int_equal(ret, -ENOSPC);
    assert_true(done > 20);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    writer_expect(blk, (done - 1) * 65536, 5);
    writer_expect(blk, done * 65536, 0);
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-img check t.qcow2");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_full_device_has_space_for_a_write_after_a_discard)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 8M && truncate -s 2M t.qcow2");
    g_autofree char *text = g_strdup_printf("qcow2,discard=unmap,file.driver=raw,file.size=2M,"
                                            "file.file.driver=file,file.file.filename=%s/t.qcow2",
                                            dir);
    BlockBackend *blk = test_blk("d", text, true);
    unsigned done = 0;
    while (writer_write(blk, done * 65536, 5) == 0) {
        done++;
    }
    for (unsigned i = 0; i < 4; i++) { /* without a flush */
        assert_int_equal(test_io(blk, TEST_DISCARD, i * 65536, 65536, NULL, 0), 0);
        assert_int_equal(writer_write(blk, (done + i) * 65536, 6), 0);
    }
    assert_int_equal(writer_write(blk, 0, 7), -ENOSPC);
    writer_expect(blk, (done + 3) * 65536, 6);
    blk_co_free(blk);
    qcow2_shell(dir, "qemu-img check t.qcow2");
    qcow2_dir_free(dir);
}

/* ---- images that contradict themselves ---- */

/* A write at @bad fails; the image is marked, and the good part stays readable. */
static coroutine_fn RUNS_IN_MAIN void writer_expect_corrupt(const char *dir, uint64_t bad)
{
    BlockBackend *blk = writer_open(dir, "");
    writer_expect(blk, 65536, 1);
    assert_int_equal(writer_write(blk, bad, 2), -EIO);
    assert_true((WRITER_GET(dir, incompatible_features) & QCOW2_INCOMPATIBLE_CORRUPT) != 0);
    assert_int_equal(writer_write(blk, 65536, 3), -EIO); /* also where nothing is wrong */
    writer_expect(blk, 65536, 1);
    blk_co_free(blk);
    g_autofree char *text = writer_text(dir, "");
    test_open_fails(text, "the image is corrupt");
}

static char *writer_new(void)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M && "
                     "qemu-io -c 'write -q -P 1 0 256k' t.qcow2");
    return dir;
}

BLOCK_TEST(an_entry_that_is_not_a_clusters_marks_the_image)
{
    char *dir = writer_new();
    writer_put(dir, writer_l2_entry(dir, 0), QCOW2_ENTRY_COPIED | 0x50200);
    writer_expect_corrupt(dir, 0);
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_node_that_became_read_only_does_not_mark_the_image)
{
    char *dir = writer_new();
    writer_put(dir, writer_l2_entry(dir, 0), QCOW2_ENTRY_COPIED | 0x50200);
    g_autofree char *text = writer_text(dir, "");
    GError *error = NULL;
    BlockNode *n = test_node_add(text);
    writer_reopen(dir, true, NULL);
    BlockBackend *blk = blk_co_new("d", n, false, &error);
    uint8_t buf[512];
    assert_int_equal(test_io(blk, TEST_READ, 0, sizeof(buf), buf, 0), -EIO);
    assert_int_equal(WRITER_GET(dir, incompatible_features), 0);
    writer_expect(blk, 65536, 1);
    blk_co_free(blk);
    test_node_del("q");
    qcow2_dir_free(dir);
}

BLOCK_TEST(an_entry_that_leads_to_the_header_or_a_table_marks_the_image)
{
    char *dir = writer_new();
    const uint64_t tables[] = {WRITER_GET(dir, l1_table_offset),
                               WRITER_GET(dir, refcount_table_offset)};
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(tables); i++) {
        size_t size;
        uint64_t table = tables[i / 2], zero = i % 2 == 0 ? 0 : QCOW2_ENTRY_ZERO;
        writer_put(dir, writer_l2_entry(dir, 0), QCOW2_ENTRY_COPIED | zero | table);
        g_autofree uint8_t *before = qcow2_file_bytes(dir, "t.qcow2", &size);
        writer_expect_corrupt(dir, 0);
        g_autofree uint8_t *after = qcow2_file_bytes(dir, "t.qcow2", &size);
        assert_memory_equal(before + table, after + table, 65536);
        WRITER_PUT(dir, incompatible_features, 0);
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_table_in_use_with_the_refcount_0_is_not_allocated)
{
    char *dir = writer_new();
    uint64_t block = writer_refcount_block(dir);
    writer_put(dir, block, 0); /* of the header, refcount table, block and L1 table */
    writer_expect_corrupt(dir, 0x80000);
    qcow2_dir_free(dir);
    dir = writer_new();
    uint64_t l2 = writer_l2_entry(dir, 0);
    block = writer_refcount_block(dir);
    writer_put(dir, block + l2 / 65536 * 2 / 8 * 8, 0);
    writer_expect_corrupt(dir, 0x80000);
    qcow2_dir_free(dir);
}

BLOCK_TEST(an_l2_table_at_0_with_the_flag_COPIED_is_none)
{
    char *dir = writer_new();
    writer_put(dir, WRITER_GET(dir, l1_table_offset), QCOW2_ENTRY_COPIED);
    BlockBackend *blk = writer_open(dir, "");
    assert_int_equal(writer_write(blk, 0x80000, 2), 0);
    writer_expect(blk, 0x80000, 2);
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

BLOCK_TEST(an_l2_table_in_the_header_is_not_changed)
{
    char *dir = writer_new();
    BlockBackend *blk;
    uint64_t l1 = WRITER_GET(dir, l1_table_offset);
    writer_put(dir, l1, QCOW2_ENTRY_COPIED | l1);
    blk = writer_open(dir, "");
    assert_int_equal(writer_write(blk, 0x80000, 2), -EIO);
    blk_co_free(blk);
    assert_int_equal(writer_get(dir, l1, 8), QCOW2_ENTRY_COPIED | l1);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dirty_image_is_repaired_before_it_is_written_to),
        cmocka_unit_test(a_dirty_image_that_cannot_be_repaired_is_refused),
        cmocka_unit_test(corrupt_images_are_opened_read_only_only),
        cmocka_unit_test(the_first_write_clears_what_skiff_does_not_maintain_and_nothing_else),
        cmocka_unit_test(an_image_with_lazy_refcounts_is_dirty_while_it_is_written),
        cmocka_unit_test(a_process_that_ends_without_closing_completes_its_images),
        cmocka_unit_test(a_reopen_to_read_only_completes_the_image_and_back_writes_again),
        cmocka_unit_test(a_reopen_for_writing_leaves_an_image_that_is_being_written),
        cmocka_unit_test(a_written_image_moves_to_another_iothread),
        cmocka_unit_test(a_discard_gives_space_back_to_the_host_and_to_the_image),
        cmocka_unit_test(a_write_of_part_of_a_new_cluster_at_the_files_end_writes_only_that_part),
        cmocka_unit_test(a_full_device_fails_with_ENOSPC_and_the_image_stays_sound),
        cmocka_unit_test(a_full_device_has_space_for_a_write_after_a_discard),
        cmocka_unit_test(an_entry_that_is_not_a_clusters_marks_the_image),
        cmocka_unit_test(a_node_that_became_read_only_does_not_mark_the_image),
        cmocka_unit_test(an_entry_that_leads_to_the_header_or_a_table_marks_the_image),
        cmocka_unit_test(a_table_in_use_with_the_refcount_0_is_not_allocated),
        cmocka_unit_test(an_l2_table_at_0_with_the_flag_COPIED_is_none),
        cmocka_unit_test(an_l2_table_in_the_header_is_not_changed),
    };
    return block_test_main(tests);
}
