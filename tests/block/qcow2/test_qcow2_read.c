/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 300 */
/* Images made by qemu-img and qemu-io are read byte for byte as QEMU reads them. */
#include "tests/block/qcow2/qcow2_shape.h"
#include "tests/support/rounds.h"

/* ---- generated images ---- */

BLOCK_TEST(generated_images_of_every_shape_read_as_qemu_reads_them)
{
    char *dir = qcow2_dir_new();
    unsigned rounds = test_rounds(5, 50, 2000);
    for (unsigned seed = 1; seed <= rounds; seed++) {
        GRand *r = g_rand_new_with_seed(seed);
        Shape s = shape_pick(r);
        shape_print(&s, seed);
        shape_create(&s, dir, r);
        shape_fill(&s, dir, r);
        qcow2_check_image(dir, "t.qcow2",
                          g_rand_boolean(r) ? ",l2-cache-size=1k,l2-cache-entry-size=512" : "");
        g_rand_free(r);
    }
    qcow2_dir_free(dir);
}

/* ---- names of backing and data files ---- */

BLOCK_TEST(backing_names_are_resolved_against_the_overlay)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "mkdir sub && qemu-img create -q -f qcow2 sub/base.qcow2 1M && "
                     "qemu-io -f qcow2 -c 'write -q -P 7 0 1M' sub/base.qcow2 && "
                     "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 sub/mid.qcow2 && "
                     "qemu-io -f qcow2 -c 'write -q -P 8 64k 64k' sub/mid.qcow2 && "
                     "qemu-img create -q -f qcow2 -b sub/mid.qcow2 -F qcow2 top.qcow2");
    qcow2_check_image(dir, "top.qcow2", "");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_json_name_describes_the_backing_file)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir,
                "qemu-img create -q -f raw base.raw 1M && "
                "qemu-io -f raw -c 'write -q -P 9 4k 8k' base.raw && "
                "qemu-img create -q -u -f qcow2 -F raw -b "
                "'json:{\"driver\":\"raw\",\"offset\":4096,\"file\":{\"driver\":\"file\","
                "\"filename\":\"%s/base.raw\"}}' top.qcow2 512k",
                dir);
    qcow2_check_image(dir, "top.qcow2", "");
    qcow2_dir_free(dir);
}

/* qemu-img writes a format always. It is the first extension: its type becomes an unknown one. */
BLOCK_TEST(a_backing_file_without_a_format_is_probed_and_other_formats_are_refused)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 base 1M && "
                     "qemu-io -f qcow2 -c 'write -q -P 7 0 1M' base && "
                     "qemu-img create -q -f qcow2 -b base -F qcow2 top.qcow2 && "
                     "printf '\\001\\002\\003\\004' | "
                     "dd of=top.qcow2 bs=1 seek=112 conv=notrunc status=none");
    qcow2_check_image(dir, "top.qcow2", "");
    qcow2_shell(dir, "qemu-img create -q -f raw base 1M && "
                     "qemu-io -f raw -c 'write -q -P 5 0 1M' base");
    qcow2_check_image(dir, "top.qcow2", "");
    qcow2_shell(dir, "qemu-img create -q -f vmdk base 1M");
    g_autofree char *text =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/top.qcow2", dir);
    test_open_fails(text, "skiff does not support the format 'vmdk'");
    qcow2_dir_free(dir);
}

BLOCK_TEST(options_precede_the_names_in_the_header)
{
    char *dir = qcow2_dir_new();
    size_t size;
    qcow2_shell(dir, "qemu-img create -q -f raw other 1M && "
                     "qemu-io -f raw -c 'write -q -P 3 0 1M' other && "
                     "qemu-img create -q -u -f qcow2 -b /nowhere -F raw top.qcow2 1M");
    g_autofree uint8_t *raw = qcow2_file_bytes(dir, "other", &size);
    g_autofree char *options = g_strdup_printf(
        ",backing.driver=raw,backing.file.driver=file,backing.file.filename=%s/other", dir);
    BlockBackend *blk = qcow2_open_image(dir, "top.qcow2", options);
    qcow2_compare(blk, raw, size, 65536, "top.qcow2");
    blk_co_free(blk);
    g_autofree char *text =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/top.qcow2", dir);
    test_open_fails(text, "/nowhere");
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_loop_of_backing_files_and_foreign_protocols_are_refused)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -u -f qcow2 -b b.qcow2 -F qcow2 a.qcow2 1M && "
                     "qemu-img create -q -u -f qcow2 -b a.qcow2 -F qcow2 b.qcow2 1M && "
                     "qemu-img create -q -u -f qcow2 -b ssh:host:1 -F raw c.qcow2 1M && "
                     "qemu-img create -q -u -f qcow2 -b nbd:unix:/nonexistent/x -F raw d.qcow2 1M");
    g_autofree char *loop =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/a.qcow2", dir);
    g_autofree char *ssh =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/c.qcow2", dir);
    g_autofree char *nbd =
        g_strdup_printf("qcow2,read-only=on,file.driver=file,file.filename=%s/d.qcow2", dir);
    test_open_fails(loop, "the chain of backing files is a loop");
    test_open_fails(ssh, "'ssh:host:1', whose protocol skiff does not support");
    test_open_fails(nbd, "NBD server 'nbd+unix://?socket=/nonexistent/x'");
    qcow2_dir_free(dir);
}

/* ---- other features ---- */

BLOCK_TEST(snapshots_bitmaps_and_preallocation_do_not_disturb_reads)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o preallocation=metadata t.qcow2 3M && "
                     "qemu-io -f qcow2 -c 'write -q -P 1 0 1M' t.qcow2 && "
                     "qemu-img snapshot -c one t.qcow2 && "
                     "qemu-io -f qcow2 -c 'write -q -P 2 512k 1M' t.qcow2 && "
                     "qemu-img snapshot -c two t.qcow2 && qemu-img bitmap --add t.qcow2 b0");
    qcow2_check_image(dir, "t.qcow2", "");
    qcow2_dir_free(dir);
}

BLOCK_TEST(an_image_in_an_image_is_read)
{
    char *dir = qcow2_dir_new();
    size_t size;
    qcow2_shell(dir, "qemu-img create -q -f qcow2 inner 1M && "
                     "qemu-io -f qcow2 -c 'write -q -P 4 100k 300k' inner && "
                     "qemu-img convert -f raw -O qcow2 -c inner outer.qcow2 && "
                     "qemu-img convert -f qcow2 -O raw inner expected.raw");
    g_autofree uint8_t *raw = qcow2_file_bytes(dir, "expected.raw", &size);
    g_autofree char *text =
        g_strdup_printf("qcow2,read-only=on,file.driver=qcow2,"
                        "file.file.driver=file,file.file.filename=%s/outer.qcow2",
                        dir);
    BlockBackend *blk = test_blk("d", text, false);
    qcow2_compare(blk, raw, size, 65536, "inner");
    blk_co_free(blk);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generated_images_of_every_shape_read_as_qemu_reads_them),
        cmocka_unit_test(backing_names_are_resolved_against_the_overlay),
        cmocka_unit_test(a_json_name_describes_the_backing_file),
        cmocka_unit_test(a_backing_file_without_a_format_is_probed_and_other_formats_are_refused),
        cmocka_unit_test(options_precede_the_names_in_the_header),
        cmocka_unit_test(a_loop_of_backing_files_and_foreign_protocols_are_refused),
        cmocka_unit_test(snapshots_bitmaps_and_preallocation_do_not_disturb_reads),
        cmocka_unit_test(an_image_in_an_image_is_read),
    };
    return block_test_main(tests);
}
