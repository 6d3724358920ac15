/* SPDX-License-Identifier: Apache-2.0 */
/* What each node can do: it depends on what is below it. */
#include "block/driver/fault.h"
#include "tests/block/qcow2/qcow2_test.h"

/* Opens @text, in which %s is the path of a file of 1 MiB. */
static coroutine_fn RUNS_IN_MAIN BlockCaps caps_of(const char *before, const char *path,
                                                   const char *behind)
{
    g_autofree char *text = g_strdup_printf("%s%s%s", before, path, behind);
    BlockNode *n = test_open_ok(text);
    BlockCaps caps = n->caps;
    block_co_unref(n);
    return caps;
}

BLOCK_TEST(a_node_can_grow_if_the_node_below_it_can)
{
    char *path = test_file_new(1 << 20);
    assert_true(caps_of("file,filename=", path, "").grows);
    assert_true(caps_of("raw,file.driver=file,file.filename=", path, "").grows);
    assert_true(caps_of("raw,offset=4096,file.driver=file,file.filename=", path, "").grows);
    assert_false(caps_of("raw,size=4096,file.driver=file,file.filename=", path, "").grows);
    assert_true(caps_of("fault,file.driver=file,file.filename=", path, "").grows);
    assert_false(caps_of("raw,file.driver=mem,file.size=1M", "", "").grows);
    assert_false(caps_of("fault,file.driver=null-co", "", "").grows);
    test_file_free(path);
}

BLOCK_TEST(a_node_has_fua_if_the_node_below_it_has)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M");
    g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
    assert_true(caps_of("raw,file.driver=file,file.filename=", path, "").fua);
    assert_false(caps_of("qcow2,file.driver=file,file.filename=", path, "").fua);
    assert_false(
        caps_of("raw,file.driver=qcow2,file.file.driver=file,file.file.filename=", path, "").fua);
    assert_false(caps_of("copy-on-read,file.driver=qcow2,file.file.driver=file,file.file.filename=",
                         path, "")
                     .fua);
    qcow2_dir_free(dir);
}

static coroutine_fn RUNS_IN_MAIN int caps_zero(const char *text, uint64_t offset, uint64_t bytes)
{
    BlockBackend *blk = test_blk("d", text, true);
    int ret = test_io(blk, TEST_ZERO, offset, bytes, NULL, BLOCK_REQ_NO_FALLBACK);
    blk_co_free(blk);
    return ret;
}

BLOCK_TEST(zeroing_without_a_fallback_fails_instead_of_writing_data)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M");
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o compat=0.10 o.qcow2 1M");
    g_autofree char *v3 = g_strdup_printf("raw,file.driver=qcow2,file.file.driver=file,"
                                          "file.file.filename=%s/t.qcow2",
                                          dir);
    g_autofree char *v2 = g_strdup_printf("qcow2,file.driver=file,file.filename=%s/o.qcow2", dir);
    assert_int_equal(caps_zero("mem,size=1M", 4096, 8192), 0);
    assert_int_equal(caps_zero(v3, 0, 128 << 10), 0);
    assert_int_equal(caps_zero(v3, 0, 4096), -ENOTSUP); /* a part of a cluster */
    assert_int_equal(caps_zero(v2, 0, 128 << 10), -ENOTSUP);
    qcow2_dir_free(dir);
}

/* An image without free space in its file, with other nodes above the file. */
BLOCK_TEST(an_image_grows_through_raw_and_filters)
{
    static const char *const files[] = {
        "raw,file.file.driver=file,file.file.filename=",
        "fault,file.file.driver=file,file.file.filename=",
        "raw,file.file.driver=fault,file.file.file.driver=file,file.file.file.filename=",
    };
    g_autofree uint8_t *data = g_malloc(1 << 20);
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        char *dir = qcow2_dir_new();
        qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M");
        g_autofree char *text = g_strdup_printf("qcow2,file.driver=%s%s/t.qcow2", files[i], dir);
        BlockBackend *blk = test_blk("d", text, true);
        test_fill(data, 1 << 20, i);
        assert_int_equal(test_io(blk, TEST_WRITE, 0, 1 << 20, data, 0), 0);
        assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
        qcow2_compare(blk, data, 1 << 20, 1 << 20, files[i]);
        blk_co_free(blk);
        qcow2_check_image(dir, "t.qcow2", "");
        qcow2_shell(dir, "qemu-img check -q t.qcow2");
        qcow2_dir_free(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_can_grow_if_the_node_below_it_can),
        cmocka_unit_test(a_node_has_fua_if_the_node_below_it_has),
        cmocka_unit_test(zeroing_without_a_fallback_fails_instead_of_writing_data),
        cmocka_unit_test(an_image_grows_through_raw_and_filters),
    };
    return block_test_main(tests);
}
