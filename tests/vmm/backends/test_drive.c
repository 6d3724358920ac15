/* SPDX-License-Identifier: Apache-2.0 */
/* -drive and its translation to a -blockdev and device properties. */
#include "tests/block/block_test.h"
#include "vmm/backends/drive_options.h"

static void append(const char *key, const char *value, void *opaque)
{
    GPtrArray *list = opaque;
    g_ptr_array_add(list, g_strdup_printf("%s=%s", key, value));
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The dict as one sorted line. */
static char *flat(const OptDict *d)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);
    opt_dict_foreach(d, append, list);
    g_ptr_array_sort(list, compare);
    g_ptr_array_add(list, NULL);
    char *line = g_strjoinv(",", (char **)list->pdata);
    g_ptr_array_unref(list);
    return line;
}

static void expect(const char *text, BlockDriveInterface interface, const char *blockdev,
                   const char *device)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) opts = opt_dict_parse_folding(text, "file", "filename", &error);
    assert_non_null(opts);
    g_auto(BlockDrive) drive = {0};
    if (!block_drive_to_blockdev(opts, &drive, &error)) {
        fail_msg("%s: %s", text, error->message);
    }
    g_autofree char *got_blockdev = flat(drive.blockdev);
    g_autofree char *got_device = flat(drive.device);
    assert_int_equal(drive.interface, interface);
    assert_string_equal(got_blockdev, blockdev);
    assert_string_equal(got_device, device);
}

static void expect_refused(const char *text, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) opts = opt_dict_parse_folding(text, "file", "filename", &error);
    assert_non_null(opts);
    BlockDrive drive;
    assert_false(block_drive_to_blockdev(opts, &drive, &error));
    assert_null(drive.blockdev);
    if (strstr(error->message, says) == NULL) {
        fail_msg("%s: '%s' does not contain '%s'", text, error->message, says);
    }
}

static void a_file_with_nested_options_is_one_node(void **state)
{
    expect("file=a,,b.img,format=raw,file.locking=off,if=none,id=d", BLOCK_DRIVE_IF_NONE,
           "driver=raw,file.driver=file,file.filename=a,b.img,file.locking=off,node-name=d", "");
    expect("file.aio=native,file=/x,cache=none,format=raw", BLOCK_DRIVE_IF_VIRTIO,
           "cache.direct=on,cache.no-flush=off,driver=raw,file.aio=native,file.driver=file,"
           "file.filename=/x",
           "write-cache=on");
    expect_refused("file=x,file.filename=y,format=raw", "'file.filename' is given twice");
    expect_refused("file=x,file=y,file.aio=native,format=raw", "'file.filename' is given twice");
}

static void file_and_format_become_two_nodes(void **state)
{
    expect("file=a.img,format=raw,if=none,id=d0", BLOCK_DRIVE_IF_NONE,
           "driver=raw,file.driver=file,file.filename=a.img,node-name=d0", "");
    expect("file=a.img,format=raw,readonly=on,discard=unmap", BLOCK_DRIVE_IF_VIRTIO,
           "discard=unmap,driver=raw,file.driver=file,file.filename=a.img,read-only=on", "");
    expect("file=a,format=raw,if=pflash,node-name=n,id=i", BLOCK_DRIVE_IF_PFLASH,
           "driver=raw,file.driver=file,file.filename=a,node-name=n", "");
}

static void a_long_id_gives_a_shortened_node_name(void **state)
{
    expect("if=none,driver=null-co,id=drive-6b1c3f2a-9d1e-4a53-8c2b-0a0f1e2d3c4b",
           BLOCK_DRIVE_IF_NONE, "driver=null-co,node-name=drive-6b1c3f2a-9d1e-4a-a2b93b16", "");
    expect("if=none,driver=null-co,id=drive-6b1c3f2a-9d1e-4a53-8c2b-0a0f1e2d3c4c",
           BLOCK_DRIVE_IF_NONE, "driver=null-co,node-name=drive-6b1c3f2a-9d1e-4a-a2b93b17", "");
}

static void cache_modes_map_to_three_switches(void **state)
{
#define CACHE_CASE(mode, direct, no_flush, write_cache)                                            \
    expect("file=a,format=raw,cache=" mode, BLOCK_DRIVE_IF_VIRTIO,                                 \
           "cache.direct=" direct ",cache.no-flush=" no_flush                                      \
           ",driver=raw,file.driver=file,file.filename=a",                                         \
           "write-cache=" write_cache)
    CACHE_CASE("none", "on", "off", "on");
    CACHE_CASE("writeback", "off", "off", "on");
    CACHE_CASE("writethrough", "off", "off", "off");
    CACHE_CASE("directsync", "on", "off", "off");
    CACHE_CASE("unsafe", "off", "on", "on");
    expect("file=a,format=raw,cache.direct=on,cache.writeback=off", BLOCK_DRIVE_IF_VIRTIO,
           "cache.direct=on,driver=raw,file.driver=file,file.filename=a", "write-cache=off");
    expect_refused("file=a,format=raw,cache=always", "wants one of");
}

static void aio_belongs_to_the_file(void **state)
{
    expect("file=a,format=raw,aio=native", BLOCK_DRIVE_IF_VIRTIO,
           "driver=raw,file.aio=native,file.driver=file,file.filename=a", "");
    expect("file.driver=host_device,file.filename=/dev/x,format=raw,aio=io_uring",
           BLOCK_DRIVE_IF_VIRTIO,
           "driver=raw,file.aio=io_uring,file.driver=host_device,file.filename=/dev/x", "");
    expect("driver=file,file=a,aio=threads", BLOCK_DRIVE_IF_VIRTIO,
           "aio=threads,driver=file,filename=a", "");
}

static void error_policies_go_to_the_device(void **state)
{
    expect("file=a,format=raw,werror=stop,rerror=report", BLOCK_DRIVE_IF_VIRTIO,
           "driver=raw,file.driver=file,file.filename=a", "rerror=report,werror=stop");
}

static void protocols_are_known_or_refused_by_name(void **state)
{
    expect("file=null-co://,format=raw", BLOCK_DRIVE_IF_VIRTIO, "driver=raw,file.driver=null-co",
           "");
    expect("file=file:a.img,format=raw", BLOCK_DRIVE_IF_VIRTIO,
           "driver=raw,file.driver=file,file.filename=a.img", "");
    expect("file=./a:b,format=raw", BLOCK_DRIVE_IF_VIRTIO,
           "driver=raw,file.driver=file,file.filename=./a:b", "");
    expect("file=nbd:localhost:10809:exportname=e,format=raw,aio=io_uring", BLOCK_DRIVE_IF_VIRTIO,
           "driver=raw,file.driver=nbd,file.export=e,file.server.host=localhost,"
           "file.server.port=10809,file.server.type=inet",
           "");
    expect("file=nbd+unix:///?socket=/s,format=raw", BLOCK_DRIVE_IF_VIRTIO,
           "driver=raw,file.driver=nbd,file.server.path=/s,file.server.type=unix", "");
    expect_refused("file=nbd://,format=raw", "nbd://HOST:PORT/EXPORT");
    expect_refused("file=ssh:localhost:10809,format=raw", "no protocol 'ssh'");
    expect_refused("file=a:b,format=raw", "./a:b");
    expect_refused("file=raw:x,format=raw", "no protocol 'raw'");
    expect_refused("file=mem:x,format=raw", "file.driver=mem");
}

static void missing_format_is_raw(void **state)
{
    expect("file=a", BLOCK_DRIVE_IF_VIRTIO, "driver=raw,file.driver=file,file.filename=a", "");
}

static void drivers_without_a_file_have_no_format_above(void **state)
{
    expect("driver=null-co,size=1G,if=none,id=n", BLOCK_DRIVE_IF_NONE,
           "driver=null-co,node-name=n,size=1G", "");
}

static void an_option_given_twice_is_refused(void **state)
{
    expect_refused("file=a,format=raw,file=b", "option 'file' is given twice");
    expect_refused("file=a,format=raw,if=none,if=virtio", "option 'if' is given twice");
    expect_refused("file.filename=a,file.filename=b", "option 'file.filename' is given twice");
}

static void unsupported_options_are_refused_by_name(void **state)
{
    expect_refused("file=a,format=raw,snapshot=maybe", "snapshot=maybe: expects on or off");
    expect("file=a,format=raw,snapshot=off,media=disk,copy-on-read=no", BLOCK_DRIVE_IF_VIRTIO,
           "driver=raw,file.driver=file,file.filename=a", "");
    expect_refused("file=a,format=raw,copy-on-read=maybe", "copy-on-read=maybe: expects on or off");
    expect("file=a,format=raw,media=cdrom,if=none", BLOCK_DRIVE_IF_NONE,
           "driver=raw,file.driver=file,file.filename=a,read-only=on", "");
    expect_refused("file=a,format=raw,media=cdrom", "scsi-cd");
    expect_refused("file=a,format=raw,media=tape", "media=cdrom");
    expect_refused("file=a,format=raw,if=scsi", "virtio-scsi-pci");
    expect_refused("file=a,format=raw,if=ide", "if=ide");
    expect_refused("file=a,format=raw,driver=raw", "same option");
    expect_refused("format=raw,if=none", "file= is missing");
    expect_refused("if=none,id=x", "file= is missing");
}

static void expect_index(const char *text, int index)
{
    g_autoptr(OptDict) opts = opt_dict_parse_folding(text, "file", "filename", NULL);
    g_auto(BlockDrive) drive = {0};
    assert_true(block_drive_to_blockdev(opts, &drive, NULL));
    assert_int_equal(drive.index, index);
    assert_false(opt_dict_has(drive.blockdev, "index"));
    assert_false(opt_dict_has(drive.blockdev, "unit"));
    assert_false(opt_dict_has(drive.blockdev, "bus"));
}

static void a_drive_may_have_an_index(void **state)
{
    expect_index("file=a,format=raw", BLOCK_DRIVE_NO_INDEX);
    expect_index("file=a,format=raw,index=3", 3);
    expect_index("file=a,format=raw,if=none,index=0", 0);
    expect_index("file=a,format=raw,bus=0,unit=2", 2);
    expect_index("file=a,format=raw,unit=2", 2);
    expect_refused("file=a,format=raw,index=1,unit=1", "cannot be used with bus and unit");
    expect_refused("file=a,format=raw,index=1,bus=0", "cannot be used with bus and unit");
    expect_refused("file=a,format=raw,bus=1,unit=1", "bus=1");
    expect_refused("file=a,format=raw,index=-1", "index=-1");
    expect_refused("file=a,format=raw,index=65536", "index=65536");
    expect_refused("file=a,format=raw,unit=x", "unit=x");
}

BLOCK_TEST(unknown_format_is_refused_when_opened)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) opts = opt_dict_parse("file=a.vmdk,format=vmdk", NULL, &error);
    g_auto(BlockDrive) drive = {0};
    assert_true(block_drive_to_blockdev(opts, &drive, &error));
    assert_null(block_co_open(drive.blockdev, test_home, &error));
    assert_non_null(strstr(error->message, "skiff has no driver 'vmdk'; it has: "));
}

BLOCK_TEST(translated_drive_opens)
{
    char *path = test_file_new(65536);
    g_autofree char *text =
        g_strdup_printf("file=%s,format=raw,if=none,id=d0,cache=directsync,aio=io_uring", path);
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) opts = opt_dict_parse_folding(text, "file", "filename", &error);
    g_auto(BlockDrive) drive = {0};
    assert_true(block_drive_to_blockdev(opts, &drive, &error));
    BlockNode *n = block_co_open(drive.blockdev, test_home, &error);
    assert_non_null(n);
    assert_ptr_equal(block_node_find("d0"), n);
    assert_true(n->file->flags.cache_direct);
    assert_int_equal(block_node_size(n), 65536);
    block_co_unref(n);
    assert_null(block_node_find("d0"));
    test_file_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_and_format_become_two_nodes),
        cmocka_unit_test(a_long_id_gives_a_shortened_node_name),
        cmocka_unit_test(a_file_with_nested_options_is_one_node),
        cmocka_unit_test(cache_modes_map_to_three_switches),
        cmocka_unit_test(aio_belongs_to_the_file),
        cmocka_unit_test(error_policies_go_to_the_device),
        cmocka_unit_test(protocols_are_known_or_refused_by_name),
        cmocka_unit_test(missing_format_is_raw),
        cmocka_unit_test(drivers_without_a_file_have_no_format_above),
        cmocka_unit_test(an_option_given_twice_is_refused),
        cmocka_unit_test(a_drive_may_have_an_index),
        cmocka_unit_test(unsupported_options_are_refused_by_name),
        cmocka_unit_test(unknown_format_is_refused_when_opened),
        cmocka_unit_test(translated_drive_opens),
    };
    return block_test_main(tests);
}
