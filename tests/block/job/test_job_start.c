/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that the graph refuses when they start. */
#include "tests/block/job/backup_test.h"
#include "tests/block/job/mirror_test.h"

/* The filter would be the 65th node above another. */
static coroutine_fn RUNS_IN_MAIN BlockNode *tower_add(void)
{
    BlockNode *top = block_node_find("s");
    for (unsigned i = 0; i < 100; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *below = i == 0 ? g_strdup("s") : g_strdup_printf("r%u", i - 1);
        g_autofree char *text = g_strdup_printf("raw,node-name=r%u,file=%s", i, below);
        g_autoptr(OptDict) options = opt_dict_parse(text, "driver", NULL);
        BlockNode *n = block_co_add(options, test_home, &error);
        if (n == NULL) {
            assert_non_null(strstr(error->message, "has more than 64 nodes below it"));
            return top;
        }
        top = n;
    }
    fail();
    return NULL;
}

static coroutine_fn RUNS_IN_MAIN void tower_delete(const BlockNode *top)
{
    for (const BlockNode *below; strcmp(top->name, "s") != 0; top = below) {
        below = top->file;
        test_node_del(top->name);
    }
}

BLOCK_TEST(jobs_whose_filter_is_too_high_are_refused)
{
    MirrorRig m;
    BackupRig r;
    m.source = test_node_add(MIRROR_SOURCE);
    m.target = r.target = test_node_add(MIRROR_TARGET);
    r.source = m.source = tower_add();
    GError *error = NULL;
    assert_true(block_dirty_bitmap_co_add(r.source, "b", 65536, 0, &error));
    assert_false(backup_try(
        &r, (BlockBackupConfig){.sync = BLOCK_BACKUP_BITMAP, .bitmap = (char *)"b"}, &error));
    assert_int_equal(error->code, BLOCK_ERROR_DEPTH);
    g_clear_error(&error);
    assert_null(mirror_try_start(
        &m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_INCREMENTAL, .bitmap = (char *)"b"}, &error));
    assert_int_equal(error->code, BLOCK_ERROR_DEPTH);
    g_clear_error(&error);
    test_settle();
    assert_null(job_find("job0"));
    assert_true(block_dirty_bitmap_co_remove(r.source, "b", &error)); /* no job has it */
    g_string_truncate(job_log, 0);
    tower_delete(r.source);
    test_node_del("s");
    test_node_del("t");
}

/* An image that grows its file needs it for itself. */
BLOCK_TEST(a_file_that_another_node_grows_is_not_copied)
{
    BackupRig r;
    g_autoptr(GError) error = NULL;
    r.source = test_node_add("mem,node-name=s,size=1M");
    test_node_add("raw,node-name=through,file=s");
    r.target = test_node_add("mem,node-name=t,size=1M");
    assert_false(backup_try(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL}, &error));
    assert_non_null(strstr(error->message, "node 's' is resized by node 'through'"));
    g_clear_error(&error);
    MirrorRig m = {.source = r.source, .target = r.target};
    assert_null(mirror_try_start(&m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_FULL}, &error));
    assert_non_null(strstr(error->message, "node 's' is resized by node 'through'"));
    test_node_del("through");
    test_node_del("s");
    test_node_del("t");
}

/* ---- internal snapshots ---- */

static coroutine_fn RUNS_IN_MAIN void start_refused(BackupRig *r, const char *says)
{
    g_autoptr(GError) error = NULL;
    MirrorRig m = {.source = r->source, .target = r->target};
    assert_false(backup_try(r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE}, &error));
    assert_non_null(strstr(error->message, says));
    g_clear_error(&error);
    assert_null(mirror_try_start(&m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_NONE}, &error));
    assert_non_null(strstr(error->message, says));
}

/* An operation keeps what it has of the node: no filter comes above it meanwhile. */
BLOCK_TEST(a_job_and_an_operation_on_internal_snapshots_exclude_each_other)
{
    BackupRig r;
    int ret;
    g_autoptr(GError) error = NULL;
    g_autofree char *path = test_file_new(0);
    g_autofree char *create = g_strdup_printf("qemu-img create -q -f qcow2 %s 1M", path);
    g_autofree char *options =
        g_strdup_printf("qcow2,node-name=s,file.driver=file,file.filename=%s", path);
    BlockSnapshotInfo info = {.name = (char *)"one", .id = (char *)""};
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_CREATE, .info = &info};
    assert_int_equal(system(create), 0);
    backup_rig_open(&r, options, "mem,node-name=t,size=1M");
    BlockSnapshotRun *run = block_node_co_snapshot_begin(r.source, &op, &ret, &error);
    assert_non_null(run);
    start_refused(&r, "node 's' is busy: an operation on internal snapshots uses it");
    block_snapshot_co_run(run);
    assert_int_equal(block_snapshot_co_end(run, NULL), 0);
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    assert_null(block_node_co_snapshot_begin(r.source, &op, &ret, &error));
    assert_int_equal(ret, -EBUSY);
    assert_ptr_not_equal(blk_root(r.guest), r.source);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    backup_rig_close(&r);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_whose_filter_is_too_high_are_refused),
        cmocka_unit_test(a_file_that_another_node_grows_is_not_copied),
        cmocka_unit_test(a_job_and_an_operation_on_internal_snapshots_exclude_each_other),
    };
    return job_test_main(tests);
}
