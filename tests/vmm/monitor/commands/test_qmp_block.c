/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP commands and events of disks. */
#include <errno.h>
#include <unistd.h>
#include "block/block.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "util/loop/sched_point.h"

/* ---- coroutines of the test ---- */

typedef struct Body {
    QmpRig *rig;
    void (*fn)(struct Body *b);
    BlockBackend *blk;
    const char *node;
    int ret;
    bool done;
} Body;

static void body_run(void *opaque)
{
    Body *b = opaque;
    enter_main();
    enter_coroutine();
    b->fn(b);
    b->done = true;
}

static void run_body(Body *b, void (*fn)(Body *b))
{
    b->fn = fn;
    b->done = false;
    co_start(b->rig->vm.ctx, body_run, b);
    while (!b->done) {
        aio_context_step(b->rig->vm.ctx, true);
    }
}

static void open_backend(Body *b)
{
    enter_main();
    enter_coroutine();
    GError *error = NULL;
    b->blk = blk_co_new("vd0", block_node_find(b->node), true, &error);
    if (b->blk == NULL) {
        fail_msg("%s", error->message);
    }
}

static void close_backend(Body *b)
{
    enter_main();
    enter_coroutine();
    blk_co_free(b->blk);
}

static void write_at_home(void *opaque)
{
    Body *b = opaque;
    static uint8_t data[4096];
    struct iovec iov = {data, sizeof(data)};
    enter_coroutine();
    enter_iothread(blk_home(b->blk));
    b->ret = blk_co_pwritev(b->blk, 0, sizeof(data), &iov, 1, 0);
}

static void write_once(Body *b)
{
    enter_coroutine();
    co_call_in(blk_home(b->blk), write_at_home, b);
}

static char *new_file(void)
{
    char *path = g_strdup("build/skiff-qmp-block-XXXXXX");
    int fd = g_mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    close(fd);
    return path;
}

static void free_file(char *path)
{
    unlink(path);
    g_free(path);
}

#define NULL_DISK "{'driver':'null-co','node-name':'disk','size':1048576}"
#define DISK "{'node-name':'disk'}"

/* ---- nodes ---- */

static void a_node_is_added_listed_and_deleted(void **state)
{
    QmpRig *rig = *state;
    g_free(qmp_ok(rig, "blockdev-add", NULL_DISK));
    qmp_returns(rig, "query-named-block-nodes", "{'flat':true}",
                "[{\"file\":\"null-co://\",\"node-name\":\"disk\",\"ro\":false,\"drv\":\"null-co\","
                "\"encrypted\":false,\"active\":true,\"detect_zeroes\":\"off\","
                "\"backing_file_depth\":0,\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,"
                "\"iops_rd\":0,\"iops_wr\":0,\"write_threshold\":0,\"image\":{\"filename\":"
                "\"null-co://\",\"format\":\"null-co\","
                "\"virtual-size\":1048576,\"actual-size\":0},\"cache\":{\"writeback\":true,"
                "\"direct\":false,"
                "\"no-flush\":false}}]");
    g_free(qmp_ok(rig, "blockdev-del", DISK));
    qmp_returns(rig, "query-named-block-nodes", NULL, "[]");
    g_free(qmp_ok(rig, "blockdev-add", NULL_DISK)); /* the name is free */
    g_free(qmp_ok(rig, "blockdev-del", DISK));
}

#define STORED_ADD                                                                                 \
    "{'driver':'qcow2','node-name':'disk','file':{'driver':'file','filename':'%s/%s.qcow2'}}"

static void bitmaps_are_kept_in_an_image(void **state)
{
    QmpRig *rig = *state;
    char dir[] = "build/skiff-qmp-bitmap-XXXXXX";
    assert_non_null(g_mkdtemp(dir));
    g_autofree char *create = g_strdup_printf("qemu-img create -q -f qcow2 %s/t.qcow2 1M", dir);
    g_autofree char *copy = g_strdup_printf("cp %s/t.qcow2 %s/cut.qcow2", dir, dir);
    g_autofree char *clean = g_strdup_printf("rm -r %s", dir);
    g_autofree char *add = g_strdup_printf(STORED_ADD, dir, "t");
    g_autofree char *add_cut = g_strdup_printf(STORED_ADD, dir, "cut");
    assert_int_equal(system(create), 0);
    g_free(qmp_ok(rig, "blockdev-add", add));
    g_free(qmp_ok(rig, "block-dirty-bitmap-add", "{'node':'disk','name':'a','persistent':true}"));
    g_free(qmp_ok(rig, "block-dirty-bitmap-add", "{'node':'disk','name':'lost'}"));
    g_free(qmp_ok(rig, "blockdev-del", DISK));
    g_free(qmp_ok(rig, "blockdev-add", add));
    g_autofree char *kept = qmp_ok(rig, "query-named-block-nodes", NULL);
    assert_non_null(strstr(kept, "\"dirty-bitmaps\":[{\"name\":\"a\",\"recording\":true,"
                                 "\"persistent\":true,\"busy\":false,\"granularity\":65536,"
                                 "\"count\":0}]"));
    g_free(qmp_ok(rig, "block-dirty-bitmap-clear", "{'node':'disk','name':'a'}"));
    assert_int_equal(system(copy), 0); /* as after a crash */
    g_free(qmp_ok(rig, "blockdev-del", DISK));
    g_free(qmp_ok(rig, "blockdev-add", add_cut));
    g_autofree char *cut = qmp_ok(rig, "query-named-block-nodes", NULL);
    assert_non_null(strstr(cut, "\"recording\":false,\"persistent\":true,\"inconsistent\":true,"));
    qmp_fails(rig, "block-dirty-bitmap-enable", "{'node':'disk','name':'a'}", "GenericError",
              "Bitmap 'a' is inconsistent and cannot be used");
    g_free(qmp_ok(rig, "block-dirty-bitmap-remove", "{'node':'disk','name':'a'}"));
    g_free(qmp_ok(rig, "blockdev-del", DISK));
    assert_int_equal(system(clean), 0);
}

/* An overlay on an overlay on a raw file. */
static void a_chain_of_images_is_listed(void **state)
{
    QmpRig *rig = *state;
    char dir[] = "build/skiff-qmp-chain-XXXXXX";
    assert_non_null(g_mkdtemp(dir));
    g_autofree char *command = g_strdup_printf(
        "cd %s && truncate -s 1M base && qemu-img create -q -f qcow2 -b base -F raw mid && "
        "qemu-img create -q -f qcow2 -b mid -F qcow2 top",
        dir);
    g_autofree char *clean = g_strdup_printf("rm -r %s", dir);
    g_autofree char *add = g_strdup_printf("{'driver':'qcow2','node-name':'disk','read-only':true,"
                                           "'file':{'driver':'file','filename':'%s/top'}}",
                                           dir);
    g_autofree char *below =
        g_strdup_printf("\"backing_file\":\"%s/mid\",\"backing_file_depth\":2", dir);
    g_autofree char *images = g_strdup_printf(
        "\"backing-filename\":\"mid\","
        "\"full-backing-filename\":\"%s/mid\",\"backing-filename-format\":\"qcow2\","
        "\"backing-image\":{\"filename\":\"%s/mid\",\"format\":\"qcow2\",",
        dir, dir);
    assert_int_equal(system(command), 0);
    g_free(qmp_ok(rig, "blockdev-add", add));
    g_autofree char *nodes = qmp_ok(rig, "query-named-block-nodes", NULL);
    g_autofree char *flat = qmp_ok(rig, "query-named-block-nodes", "{'flat':true}");
    g_autofree char *stats = qmp_ok(rig, "query-blockstats", "{'query-nodes':true}");
    assert_non_null(strstr(nodes, below));
    assert_non_null(strstr(nodes, images));
    assert_non_null(strstr(flat, below));
    assert_null(strstr(flat, "backing-image"));
    assert_non_null(strstr(stats, "\"backing\":{\"node-name\""));
    g_free(qmp_ok(rig, "blockdev-del", DISK));
    assert_int_equal(system(clean), 0);
}

static void dirty_bitmaps_are_added_merged_and_listed(void **state)
{
    QmpRig *rig = *state;
    g_free(qmp_ok(rig, "blockdev-add", NULL_DISK));
    g_free(qmp_ok(rig, "block-dirty-bitmap-add", "{'node':'disk','name':'a','granularity':4096}"));
    g_free(qmp_ok(rig, "block-dirty-bitmap-add", "{'node':'disk','name':'b','disabled':true}"));
    Body b = {.rig = rig, .node = "disk"};
    run_body(&b, open_backend);
    run_body(&b, write_once);
    run_body(&b, close_backend);
    g_free(qmp_ok(rig, "block-dirty-bitmap-merge",
                  "{'node':'disk','target':'b','bitmaps':['a',{'node':'disk','name':'a'}]}"));
    g_free(qmp_ok(rig, "block-dirty-bitmap-clear", "{'node':'disk','name':'a'}"));
    g_free(qmp_ok(rig, "block-dirty-bitmap-disable", "{'node':'disk','name':'a'}"));
    g_free(qmp_ok(rig, "block-dirty-bitmap-enable", "{'node':'disk','name':'b'}"));
    g_autofree char *nodes = qmp_ok(rig, "query-named-block-nodes", NULL);
    assert_non_null(strstr(nodes, "\"dirty-bitmaps\":[{\"name\":\"a\",\"recording\":false,"
                                  "\"persistent\":false,\"busy\":false,\"granularity\":4096,"
                                  "\"count\":0},{\"name\":\"b\",\"recording\":true,"
                                  "\"persistent\":false,\"busy\":false,\"granularity\":65536,"
                                  "\"count\":65536}]"));
    g_free(qmp_ok(rig, "block-dirty-bitmap-remove", "{'node':'disk','name':'a'}"));
    static const char *const cases[][3] = {
        {"block-dirty-bitmap-add", "{'node':'no','name':'x'}", "Cannot find device='no'"},
        {"block-dirty-bitmap-add", "{'node':'disk','name':'b'}", "Bitmap already exists: b"},
        {"block-dirty-bitmap-add", "{'node':'disk','name':'x','granularity':0}", "power of 2"},
        {"block-dirty-bitmap-add", "{'node':'disk','name':'x','persistent':true}",
         "Can't store persistent bitmaps to disk: Operation not supported"},
        {"block-dirty-bitmap-remove", "{'node':'disk','name':'a'}", "Dirty bitmap 'a' not found"},
        {"block-dirty-bitmap-clear", "{'node':'disk','name':'a'}", "Dirty bitmap 'a' not found"},
        {"block-dirty-bitmap-merge", "{'node':'disk','target':'b','bitmaps':['b','c']}",
         "Dirty bitmap 'c' not found"},
        {"block-dirty-bitmap-merge", "{'node':'disk','target':'b','bitmaps':[7]}", "bitmaps[0]"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(rig, cases[i][0], cases[i][1], "GenericError", cases[i][2]);
    }
    g_free(qmp_ok(rig, "blockdev-del", DISK));
}

static void an_invalid_blockdev_add_reports_the_reason(void **state)
{
    QmpRig *rig = *state;
    static const char *const cases[][2] = {
        {"{'driver':'null-co'}", "'node-name' must be specified for the root node"},
        {"{'node-name':'x'}", "Parameter 'driver' is missing"},
        {"{'driver':7,'node-name':'x'}", "Invalid parameter type for 'driver', expected: string"},
        {"{'driver':'qcow9','node-name':'x'}", "skiff has no driver 'qcow9'"},
        {"{'driver':'null-co','node-name':'x','bogus':1}", "bogus"},
        {"{'driver':'null-co','node-name':'x','size':-1}", "size"},
        {"{'driver':'null-co','node-name':'disk'}", "Duplicate nodes with node-name='disk'"},
        {"{'driver':'null-co','node-name':'#x'}", "Invalid node-name: '#x'"},
        {"{'driver':'raw','node-name':'x'}", "needs file="},
        {"{'driver':'raw','node-name':'x','file':'none'}", "there is no node of that name"},
        {"{'driver':'file','node-name':'x','filename':'/nonexistent/x'}", "cannot be opened"},
        {"{'driver':'file','node-name':'x','filename':'/dev/fdset/77'}", "cannot be opened"},
        {"{'driver':'file','node-name':'x','filename':'/tmp'}", "directory"},
    };
    g_free(qmp_ok(rig, "blockdev-add", NULL_DISK));
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(rig, "blockdev-add", cases[i][0], "GenericError", cases[i][1]);
    }
    qmp_returns(rig, "query-block", NULL, "[]");
    g_free(qmp_ok(rig, "blockdev-del", DISK));
}

static void a_node_of_a_device_is_not_deleted(void **state)
{
    QmpRig *rig = *state;
    Body b = {.rig = rig, .node = "disk"};
    g_free(qmp_ok(rig, "blockdev-add", NULL_DISK));
    run_body(&b, open_backend);
    qmp_fails(rig, "blockdev-del", DISK, "GenericError", "Node disk is in use");
    run_body(&b, close_backend);
    g_free(qmp_ok(rig, "blockdev-del", DISK));
    qmp_fails(rig, "blockdev-del", DISK, "GenericError",
              "Failed to find node with node-name='disk'");
}

/* The storage of one client's file hangs. Other commands are not delayed. */
static void a_blockdev_add_that_hangs_blocks_only_its_client(void **state)
{
    QmpRig *rig = *state;
    RigCall hung;
    g_autofree char *path = new_file();
    g_autofree char *args =
        g_strdup_printf("{'driver':'file','node-name':'slow','filename':'%s'}", path);
    sched_point_hold("file.open");
    rig_call_start(rig, &hung, "blockdev-add", args);
    rig_settle(rig);
    sched_point_await("file.open");
    g_free(qmp_ok(rig, "blockdev-add", NULL_DISK));
    qmp_returns(rig, "query-named-block-nodes", NULL, "\"node-name\":\"disk\"");
    qmp_fails(rig, "blockdev-add", args, "GenericError", "Duplicate nodes"); /* the name is taken */
    qmp_fails(rig, "blockdev-del", "{'node-name':'slow'}", "GenericError", "Failed to find node");
    g_free(qmp_ok(rig, "blockdev-del", DISK));
    assert_false(hung.done);
    sched_point_release("file.open");
    rig_call_finish(&hung);
    assert_null(hung.error);
    json_object_put(hung.result);
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'slow'}"));
    sched_point_reset();
    unlink(path);
}

/* ---- disks ---- */

static void query_block_returns_the_disk_of_a_device(void **state)
{
    QmpRig *rig = *state;
    Body b = {.rig = rig, .node = "disk"};
    g_free(qmp_ok(rig, "blockdev-add", NULL_DISK));
    run_body(&b, open_backend);
    qmp_returns(rig, "query-block", NULL,
                "[{\"device\":\"\",\"qdev\":\"/machine/peripheral-anon/vd0\",\"type\":\"unknown\","
                "\"removable\":false,\"locked\":false,\"inserted\":{\"file\":\"null-co://\"");
    qmp_returns(rig, "query-block", NULL, "\"io-status\":\"ok\"");
    blk_set_io_status(b.blk, BLK_IO_NOSPACE);
    blk_set_write_cache(b.blk, false);
    qmp_returns(rig, "query-block", NULL, "\"io-status\":\"nospace\"");
    qmp_returns(rig, "query-block", NULL, "\"writeback\":false");
    enter_main();
    vm_io_errors_clear();
    qmp_returns(rig, "query-block", NULL, "\"io-status\":\"ok\"");
    run_body(&b, close_backend);
    g_free(qmp_ok(rig, "blockdev-del", DISK));
}

static void query_blockstats_counts_requests(void **state)
{
    QmpRig *rig = *state;
    Body b = {.rig = rig, .node = "disk"};
    g_free(qmp_ok(rig, "blockdev-add", NULL_DISK));
    run_body(&b, open_backend);
    qmp_returns(rig, "query-blockstats", NULL, "\"wr_bytes\":0,\"wr_operations\":0");
    run_body(&b, write_once);
    qmp_returns(rig, "query-blockstats", NULL, "\"wr_bytes\":4096,\"wr_operations\":1");
    qmp_returns(rig, "query-blockstats", NULL, "\"wr_highest_offset\":4096");
    qmp_returns(rig, "query-blockstats", NULL, "\"in_flight\":0");
    qmp_returns(rig, "query-blockstats", NULL, "\"node-name\":\"disk\"");
    qmp_returns(rig, "query-blockstats", "{'query-nodes':true}",
                "[{\"node-name\":\"disk\",\"stats\":{\"rd_bytes\":0");
    run_body(&b, close_backend);
    g_free(qmp_ok(rig, "blockdev-del", DISK));
}

static void a_disk_is_resized(void **state)
{
    QmpRig *rig = *state;
    g_free(qmp_ok(rig, "blockdev-add", "{'driver':'mem','node-name':'disk','size':1048576}"));
    g_free(qmp_ok(rig, "block_resize", "{'node-name':'disk','size':2097152}"));
    qmp_returns(rig, "query-named-block-nodes", NULL, "\"virtual-size\":2097152");
    qmp_fails(rig, "block_resize", "{'node-name':'disk','size':-1}", "GenericError",
              "Parameter 'size' expects a >0 size");
    qmp_fails(rig, "block_resize", "{'node-name':'disk','size':1000}", "GenericError",
              "node 'disk' cannot be resized to 1000 bytes: the size must be a multiple of 512");
    qmp_fails(rig, "block_resize", "{'device':'x','size':512}", "GenericError",
              "Cannot find device='x' nor node-name=''");
    qmp_fails(rig, "block_resize", "{'node-name':'y','size':512}", "GenericError",
              "Cannot find device='' nor node-name='y'");
    g_free(qmp_ok(rig, "blockdev-del", DISK));
}

static void a_node_is_reopened_and_a_refusal_changes_nothing(void **state)
{
    QmpRig *rig = *state;
    char *path = new_file();
    g_autofree char *writer =
        g_strdup_printf("{'driver':'file','node-name':'disk','filename':'%s'}", path);
    g_autofree char *reader = g_strdup_printf(
        "{'options':[{'driver':'file','node-name':'disk','filename':'%s','read-only':true}]}",
        path);
    Body b = {.rig = rig, .node = "disk"};
    g_free(qmp_ok(rig, "blockdev-add", writer));
    run_body(&b, open_backend);
    qmp_fails(rig, "blockdev-reopen", reader, "GenericError", "is written to by drive 'vd0'");
    qmp_returns(rig, "query-named-block-nodes", NULL, "\"ro\":false");
    run_body(&b, write_once);
    assert_int_equal(b.ret, 0);
    run_body(&b, close_backend);
    g_free(qmp_ok(rig, "blockdev-reopen", reader));
    qmp_returns(rig, "query-named-block-nodes", NULL, "\"ro\":true");
    qmp_fails(rig, "blockdev-reopen", "{'options':[{'driver':'file'}]}", "GenericError",
              "node-name not specified");
    qmp_fails(rig, "blockdev-reopen", "{'options':[7]}", "GenericError", "options[0]");
    g_free(qmp_ok(rig, "blockdev-reopen", "{'options':[]}"));
    g_free(qmp_ok(rig, "blockdev-del", DISK));
    free_file(path);
}

/* ---- histograms ---- */

static void histograms_are_enabled_and_disabled(void **state)
{
    QmpRig *rig = *state;
    Body b = {.rig = rig, .node = "disk"};
    g_free(qmp_ok(rig, "blockdev-add",
                  "{'driver':'fault','node-name':'disk','fail-op':'any','errno':0,'delay-ns':1,"
                  "'file':{'driver':'null-co','size':1048576}}"));
    run_body(&b, open_backend);
    g_free(qmp_ok(rig, "block-latency-histogram-set",
                  "{'id':'vd0','boundaries':[1,1000000000000],'boundaries-flush':[5]}"));
    run_body(&b, write_once);
    qmp_returns(rig, "query-blockstats", NULL,
                "\"wr_latency_histogram\":{\"boundaries\":[1,1000000000000],\"bins\":[0,1,0]}");
    qmp_returns(rig, "query-blockstats", NULL,
                "\"flush_latency_histogram\":{\"boundaries\":[5],\"bins\":[0,0]}");
    qmp_fails(rig, "block-latency-histogram-set", "{'id':'vd0','boundaries-read':[5,5]}",
              "GenericError", "Device 'vd0' set read boundaries fail");
    qmp_fails(rig, "block-latency-histogram-set", "{'id':'vd0','boundaries-zap':[5]}",
              "GenericError", "zoned");
    qmp_fails(rig, "block-latency-histogram-set", "{'id':'vd0','boundaries':[-1]}", "GenericError",
              "boundaries[0]");
    qmp_fails(rig, "block-latency-histogram-set", "{'id':'none'}", "DeviceNotFound",
              "Device 'none' not found");
    qmp_returns(rig, "query-blockstats", NULL, "\"bins\":[0,1,0]");
    g_free(qmp_ok(rig, "block-latency-histogram-set", "{'id':'vd0'}"));
    g_autofree char *stats = qmp_ok(rig, "query-blockstats", NULL);
    assert_null(strstr(stats, "histogram"));
    run_body(&b, close_backend);
    g_free(qmp_ok(rig, "blockdev-del", DISK));
}

/* ---- I/O errors ---- */

typedef struct Failing {
    QmpRig *rig;
    Device dev;
    unsigned count;
    _Atomic bool done;
} Failing;

static void fail_at_home(void *opaque)
{
    Failing *f = opaque;
    enter_coroutine();
    DeviceIoError e = {.node = "disk", .action = DEVICE_IO_STOP, .error = ENOSPC};
    for (unsigned i = 0; i < f->count; i++) {
        vm_io_error(&f->rig->vm, &f->dev, &e);
    }
    f->done = true;
}

static void fail_from_iothread(QmpRig *rig, const char *device_path, unsigned count)
{
    enter_main();
    static const DeviceType type = {.name = "virtio-blk-pci", .user_creatable = true};
    Failing f = {.rig = rig, .count = count};
    f.dev = (Device){.type = &type, .path = g_strdup(device_path), .env = &rig->vm.machine.env};
    co_start(rig->vm.machine.env.default_iothread, fail_at_home, &f);
    while (!f.done) {
    }
    g_free(f.dev.path); /* the message has a copy */
    f.dev.path = NULL;
    rig_settle(rig);
}

static void the_event_of_an_io_error_has_its_device(void **state)
{
    QmpRig *rig = *state;
    fail_from_iothread(rig, "/machine/peripheral/vd0", 1);
    assert_string_equal(rig->events->str,
                        "BLOCK_IO_ERROR{\"qom-path\":\"/machine/peripheral/vd0/virtio-backend\","
                        "\"device\":\"\",\"node-name\":\"disk\",\"operation\":\"write\","
                        "\"action\":\"stop\",\"nospace\":true,\"reason\":\"No space left on "
                        "device\"}");
}

static void a_flood_of_io_errors_is_bounded(void **state)
{
    QmpRig *rig = *state;
    unsigned reported = 0;
    fail_from_iothread(rig, "/machine/peripheral-anon/device[7]", 1000);
    for (const char *at = rig->events->str; (at = strstr(at, "BLOCK_IO_ERROR")) != NULL; at++) {
        reported++;
    }
    assert_true(reported >= 64 && reported < 1000);
    assert_non_null(strstr(rig->events->str, "/machine/peripheral-anon/device[7]/virtio-backend"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(a_node_is_added_listed_and_deleted),
        QMP_TEST(a_chain_of_images_is_listed),
        QMP_TEST(dirty_bitmaps_are_added_merged_and_listed),
        QMP_TEST(bitmaps_are_kept_in_an_image),
        QMP_TEST(an_invalid_blockdev_add_reports_the_reason),
        QMP_TEST(a_node_of_a_device_is_not_deleted),
        QMP_TEST(a_blockdev_add_that_hangs_blocks_only_its_client),
        QMP_TEST(query_block_returns_the_disk_of_a_device),
        QMP_TEST(query_blockstats_counts_requests),
        QMP_TEST(a_disk_is_resized),
        QMP_TEST(a_node_is_reopened_and_a_refusal_changes_nothing),
        QMP_TEST(histograms_are_enabled_and_disabled),
        QMP_TEST(the_event_of_an_io_error_has_its_device),
        QMP_TEST(a_flood_of_io_errors_is_bounded),
    };
    return cmocka_run_group_tests_name("qmp block", tests, NULL, NULL);
}
