/* SPDX-License-Identifier: Apache-2.0 */
/* What the id of a drive means while the filter of a job is above its node. */
#include "block/graph.h"
#include "tests/vmm/monitor/commands/backup_rig.h"
#include "vmm/backends/drive_options.h"

typedef struct Drive {
    QmpRig *rig;
    BlockDrive drive;
    BlockBackend *blk;
    bool done;
    void (*fn)(struct Drive *d);
} Drive;

static void drive_run(void *opaque)
{
    Drive *d = opaque;
    enter_main();
    enter_coroutine();
    d->fn(d);
    d->done = true;
}

static void drive_do(Drive *d, void (*fn)(Drive *d))
{
    d->fn = fn;
    d->done = false;
    co_start(d->rig->vm.ctx, drive_run, d);
    while (!d->done) {
        aio_context_step(d->rig->vm.ctx, true);
    }
}

static void drive_open(Drive *d)
{
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts = opt_dict_parse("driver=mem,if=none,id=d0,size=1M", NULL, NULL);
    assert_true(block_drive_to_blockdev(opts, &d->drive, NULL));
    BlockNode *n = block_co_open(d->drive.blockdev, d->rig->vm.machine.env.default_iothread, NULL);
    assert_non_null(n);
    d->drive.root = block_name_co_new(n, "drive 'd0'");
    d->blk = blk_co_new("vd0", n, true, NULL);
    block_co_unref(n);
    g_ptr_array_add(d->rig->vm.backends.drives, &d->drive);
}

static void drive_close(Drive *d)
{
    enter_main();
    enter_coroutine();
    g_ptr_array_remove(d->rig->vm.backends.drives, &d->drive);
    blk_co_free(d->blk);
    block_user_co_free(d->drive.root);
    block_drive_clear(&d->drive);
}

static void drive_set_up(Drive *d, QmpRig *rig)
{
    *d = (Drive){.rig = rig};
    drive_do(d, drive_open);
    g_free(qmp_ok(rig, "blockdev-add", "{'driver':'mem','node-name':'t0','size':1048576}"));
    g_free(qmp_ok(rig, "blockdev-add", "{'driver':'mem','node-name':'t1','size':1048576}"));
}

static void drive_tear_down(Drive *d)
{
    Folder f = {.rig = d->rig};
    g_free(qmp_ok(d->rig, "block-job-cancel", "{'device':'j','force':true}"));
    job_await(&f, "j");
    drive_do(d, drive_close);
    target_close(&f, "t0");
    target_close(&f, "t1");
}

#define BACKUP_OF(source, target, job)                                                             \
    "{'job-id':'" job "','device':'" source "','target':'" target "','sync':'none'"

/* The node below the filter is meant, which the job keeps. */
static void the_id_of_a_drive_means_the_node_below_the_filter(void **state)
{
    Drive d;
    enter_main();
    drive_set_up(&d, *state);
    g_free(qmp_ok(d.rig, "blockdev-backup", BACKUP_OF("d0", "t0", "j") "}"));
    qmp_fails(d.rig, "blockdev-backup", BACKUP_OF("d0", "t1", "k") "}", "GenericError",
              "node 'd0' is busy: job 'j' uses it, and job 'k' would too");
    RigCall call;
    rig_call_start(d.rig, &call, "blockdev-snapshot-sync",
                   "{'device':'d0','snapshot-file':'/dev/null/no','format':'qcow2'}");
    rig_call_finish(&call);
    assert_non_null(call.error);
    assert_non_null(strstr(call.error->message, "is busy: job 'j' uses it"));
    g_clear_error(&call.error);
    json_object_put(call.result);
    g_free(qmp_ok(d.rig, "block-dirty-bitmap-add", "{'node':'d0','name':'b'}"));
    qmp_returns(d.rig, "query-block", NULL, "\"node-name\":\"d0\"");
    qmp_returns(d.rig, "query-blockstats", NULL, "\"device\":\"d0\"");
    qmp_returns(d.rig, "query-block", NULL, "\"name\":\"b\"");
    drive_tear_down(&d);
}

/* A filter with a name is shown as the disk's node, and nobody but nodes and devices uses it. */
static void a_filter_of_a_job_has_no_jobs_bitmaps_or_exports(void **state)
{
    static const struct {
        const char *command, *args;
    } calls[] = {
        {"blockdev-backup", BACKUP_OF("f", "t1", "k") "}"},
        {"blockdev-backup", BACKUP_OF("t1", "f", "k") "}"},
        {"blockdev-mirror", BACKUP_OF("f", "t1", "k") "}"},
        {"block-stream", "{'job-id':'k','device':'f'}"},
        {"block-dirty-bitmap-add", "{'node':'f','name':'b'}"},
        {"block-dirty-bitmap-merge",
         "{'node':'d0','target':'b','bitmaps':[{'node':'f','name':'b'}]}"},
        {"block-export-add", "{'type':'nbd','id':'e','node-name':'f'}"},
        {"blockdev-create", "{'job-id':'k','options':{'driver':'qcow2','file':'f','size':65536}}"},
        {"block_resize", "{'node-name':'f','size':2097152}"},
    };
    Drive d;
    enter_main();
    drive_set_up(&d, *state);
    g_free(qmp_ok(d.rig, "blockdev-backup", BACKUP_OF("d0", "t0", "j") ",'filter-node-name':'f'}"));
    qmp_returns(d.rig, "query-block", NULL, "\"device\":\"d0\"");
    qmp_returns(d.rig, "query-block", NULL, "\"node-name\":\"f\"");
    for (unsigned i = 0; i < G_N_ELEMENTS(calls); i++) {
        qmp_fails(d.rig, calls[i].command, calls[i].args, "GenericError",
                  "Node 'f' is the filter of a job: use the node below it");
    }
    drive_tear_down(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(the_id_of_a_drive_means_the_node_below_the_filter),
        QMP_TEST(a_filter_of_a_job_has_no_jobs_bitmaps_or_exports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
