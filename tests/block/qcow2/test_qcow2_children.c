/* SPDX-License-Identifier: Apache-2.0 */
/* Children of qcow2 images as nodes of the graph: named, absent, moved, and as deep as allowed. */
#include "tests/block/qcow2/qcow2_test.h"
#include "block/drivers.h"
#include "block/qcow2/qcow2_int.h"

#define CHILDREN_DISK ((size_t)1 << 20)

static coroutine_fn RUNS_IN_MAIN void children_expect(BlockBackend *blk, uint8_t pattern,
                                                      const char *what)
{
    g_autofree uint8_t *raw = g_malloc(CHILDREN_DISK);
    memset(raw, pattern, CHILDREN_DISK);
    qcow2_compare(blk, raw, CHILDREN_DISK, 12800, what);
}

static coroutine_fn RUNS_IN_MAIN void children_delete(const char *const *names)
{
    for (; *names != NULL; names++) {
        test_node_del(*names);
    }
}

BLOCK_TEST(children_are_named_nodes_and_move_with_the_image_and_back)
{
    char *dir = qcow2_dir_new();
    IoThread *io1 = iothread_new("io1", 0, NULL);
    qcow2_shell(dir, "qemu-img create -q -f raw base.raw 1M && "
                     "qemu-io -f raw -c 'write -q -P 5 0 1M' base.raw && "
                     "qemu-img create -q -f qcow2 -o data_file=data.raw top.qcow2 1M && "
                     "qemu-io -f qcow2 -c 'write -q -P 5 256k 256k' top.qcow2");
    g_autofree char *base =
        g_strdup_printf("file,node-name=base,read-only=on,filename=%s/base.raw", dir);
    g_autofree char *data =
        g_strdup_printf("file,node-name=data,read-only=on,filename=%s/data.raw", dir);
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=top,read-only=on,backing=base,data-file=data,"
                        "file.driver=file,file.filename=%s/top.qcow2",
                        dir);
    BlockNode *base_node = test_node_add(base);
    test_node_add(data);
    BlockNode *top = test_node_add(text);
    assert_ptr_equal(top->backing, base_node);
    assert_true(block_co_move(top, iothread_context(io1), NULL));
    assert_ptr_equal(block_node_home(base_node), iothread_context(io1));
    assert_true(block_co_move(top, test_home, NULL));
    BlockBackend *blk = blk_co_new("d", top, false, NULL);
    children_expect(blk, 5, "top.qcow2");
    blk_co_free(blk);
    children_delete((const char *const[]){"top", "data", "base", NULL});
    iothread_free(io1);
    qcow2_dir_free(dir);
}

BLOCK_TEST(an_empty_backing_option_means_none)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -u -f qcow2 -b /nowhere -F raw top.qcow2 1M");
    BlockBackend *blk = qcow2_open_image(dir, "top.qcow2", ",backing=");
    assert_null(blk_root(blk)->backing);
    children_expect(blk, 0, "top.qcow2");
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

BLOCK_TEST(files_that_a_header_names_are_reached_as_the_image_is)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f raw base.raw 1M && "
                     "qemu-img create -q -f qcow2 -b base.raw -F raw middle.qcow2 && "
                     "qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 "
                     "-o data_file=data.raw top.qcow2");
    g_autofree char *text = g_strdup_printf(
        "qcow2,read-only=on,file.driver=file,file.aio=io_uring,file.filename=%s/top.qcow2", dir);
    g_autoptr(GError) unavailable = NULL;
    BlockNode *top = test_open(text, &unavailable);
    if (top == NULL && strstr(unavailable->message, "aio=io_uring: ") != NULL) {
        qcow2_dir_free(dir);
        skip(); /* the host forbids it */
    }
    assert_non_null(top);
    const BlockNode *middle = top->backing;
    assert_string_equal(block_node_aio(top), "io_uring");
    assert_string_equal(block_node_aio(block_node_child(top, "data-file")), "io_uring");
    assert_string_equal(block_node_aio(middle), "io_uring");
    assert_string_equal(block_node_aio(middle->backing), "io_uring");
    block_co_unref(top);
    qcow2_dir_free(dir);
}

/* Native AIO needs cache.direct, which the image's node, and a probe, need not have. */
BLOCK_TEST(an_image_with_native_aio_has_a_backing_file_of_any_description)
{
    static const char *const options[] = {"cache.direct=on,file.aio=native",
                                          "file.cache.direct=on,file.aio=native"};
    static const char *const images[] = {"top.qcow2", "probed.qcow2"};
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f raw base.raw 1M && "
                     "qemu-img create -q -f qcow2 -b base.raw -F raw top.qcow2 && "
                     "cp top.qcow2 probed.qcow2 && "
                     "printf '\\22\\64\\126\\170' | dd of=probed.qcow2 bs=1 seek=112 conv=notrunc");
    for (unsigned i = 0; i < 4; i++) {
        uint8_t buf[4096];
        g_autofree char *text =
            g_strdup_printf("qcow2,read-only=on,file.driver=file,%s,file.filename=%s/%s",
                            options[i / 2], dir, images[i % 2]);
        BlockBackend *blk = test_blk("d", text, false);
        assert_non_null(blk_root(blk)->backing);
        assert_int_equal(test_io(blk, TEST_READ, 0, sizeof(buf), buf, 0), 0);
        blk_co_free(blk);
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(options_of_children_that_an_image_lacks_are_refused)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 1M && "
                     "qemu-img create -q -f qcow2 -o data_file=d.raw e.qcow2 1M");
    g_autofree char *useless =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/t.qcow2,"
                        "data-file.driver=null-co",
                        dir);
    g_autofree char *none = g_strdup_printf("qcow2,read-only=on,file.driver=file,"
                                            "file.filename=%s/e.qcow2,data-file=",
                                            dir);
    test_open_fails(useless, "'data-file' can only be set for images with an external data file");
    test_open_fails(none, "'data-file' is required for this image");
    qcow2_dir_free(dir);
}

/* The file of the first image, one image for each level above it. */
BLOCK_TEST(the_longest_chain_of_images_is_read_and_a_longer_one_refused)
{
    char *dir = qcow2_dir_new();
    unsigned top = BLOCK_DEPTH_MAX - 1;
    qcow2_shell(dir, "qemu-img create -q -f raw 0 1M && qemu-io -f raw -c 'write -q -P 6 0 1M' 0");
    qcow2_shell(dir,
                "format=raw; for i in $(seq %u); do qemu-img create -q -u -f qcow2 -F $format "
                "-b $((i - 1)) -o cluster_size=512 $i 1M; format=qcow2; done",
                top + 1);
    g_autofree char *name = g_strdup_printf("%u", top);
    g_autofree char *longer =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/%u", dir, top + 1);
    BlockBackend *blk = qcow2_open_image(dir, name, "");
    children_expect(blk, 6, name);
    blk_co_free(blk);
    test_open_fails(longer, "the chain of backing files is a loop, or has more than 64 nodes");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_loop_is_one_short_error)
{
    char *dir = qcow2_dir_new();
    g_autoptr(GError) error = NULL;
    qcow2_shell(
        dir, "qemu-img create -q -u -f qcow2 -b a.qcow2 -F qcow2 b.qcow2 1M && mv b.qcow2 a.qcow2");
    g_autofree char *text =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/a.qcow2", dir);
    g_autofree char *expected = g_strdup_printf(
        "backing file of '%s/a.qcow2': the chain of backing files is a loop, or has more than 64 "
        "nodes",
        dir);
    assert_null(test_open(text, &error));
    assert_string_equal(error->message, expected);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_are_named_nodes_and_move_with_the_image_and_back),
        cmocka_unit_test(an_empty_backing_option_means_none),
        cmocka_unit_test(files_that_a_header_names_are_reached_as_the_image_is),
        cmocka_unit_test(an_image_with_native_aio_has_a_backing_file_of_any_description),
        cmocka_unit_test(options_of_children_that_an_image_lacks_are_refused),
        cmocka_unit_test(the_longest_chain_of_images_is_read_and_a_longer_one_refused),
        cmocka_unit_test(a_loop_is_one_short_error),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
