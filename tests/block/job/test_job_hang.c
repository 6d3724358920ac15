/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of jobs whose target hangs and shares nodes with the source. */
#include "tests/block/job/backup_test.h"
#include "tests/block/job/mirror_test.h"

/* A node of driver fault that can hang, above an image with that backing node. */
static coroutine_fn RUNS_IN_MAIN BlockNode *overlay_add(const char *name, const char *backing)
{
    g_autofree char *path = test_file_new(0);
    g_autofree char *create = g_strdup_printf("qemu-img create -q -f qcow2 %s 1M", path);
    g_autofree char *options =
        g_strdup_printf("fault,node-name=%s,file.driver=qcow2,file.file.driver=file,"
                        "file.file.filename=%s,file.backing=%s",
                        name, path, backing);
    assert_int_equal(system(create), 0);
    BlockNode *n = test_node_add(options);
    unlink(path);
    return n;
}

static coroutine_fn RUNS_IN_MAIN void rig_open_shared(BackupRig *r)
{
    test_node_add("mem,node-name=base,size=1M,read-only=on");
    r->source = overlay_add("s", "base");
    r->target = overlay_add("t", "base");
    r->guest = blk_co_new("guest", r->source, true, NULL);
    assert_non_null(r->guest);
    backup_guest_write(r, 0, BACKUP_SIZE / 2, 1);
}

static coroutine_fn RUNS_IN_MAIN void rig_close_shared(BackupRig *r)
{
    job_release(r->target);
    job_await_no_writer(r->target);
    backup_rig_close(r);
    test_node_del("base");
}

/* The job has gone, and another operation can run, while the target hangs. */
static coroutine_fn RUNS_IN_MAIN void cancel_and_go_on(BackupRig *r)
{
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    assert_true(block_fault_held(r->target) > 0);
    assert_ptr_equal(blk_root(r->guest), r->source);
    backup_guest_write(r, 0, 512, 9);
}

BLOCK_TEST(a_backup_ends_although_its_target_hangs_and_has_the_backing_node_of_the_source)
{
    BackupRig r;
    rig_open_shared(&r);
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL});
    job_await_held(r.target, 1);
    cancel_and_go_on(&r);
    rig_close_shared(&r);
}

BLOCK_TEST(a_mirror_ends_although_its_target_hangs_and_has_the_backing_node_of_the_source)
{
    BackupRig r;
    rig_open_shared(&r);
    MirrorRig m = {.source = r.source, .target = r.target, .guest = r.guest};
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    mirror_start(&m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_FULL});
    job_await_held(r.target, 1);
    cancel_and_go_on(&r);
    rig_close_shared(&r);
}

/* The target is above the source, and its reader waits in it. */
BLOCK_TEST(a_backup_ends_although_its_target_hangs_and_is_an_overlay_of_the_source)
{
    BackupRig r;
    uint8_t found[512], data[512] = {7};
    r.source = test_node_add(BACKUP_SOURCE);
    r.guest = blk_co_new("guest", r.source, true, NULL);
    backup_guest_write(&r, 0, BACKUP_SIZE, 1);
    r.target = overlay_add("t", "s");
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    BlockBackend *reader = blk_co_new("reader", r.target, false, NULL);
    assert_non_null(reader);
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    TestRequest read = {.blk = reader,
                        .op = TEST_READ,
                        .offset = BACKUP_SIZE / 2,
                        .bytes = sizeof(found),
                        .buf = found};
    test_start(&read);
    TestRequest write = {.blk = r.guest, .op = TEST_WRITE, .bytes = sizeof(data), .buf = data};
    test_start(&write);
    job_await_held(r.target, 2);
    cancel_and_go_on(&r);
    assert_int_equal(test_finish(&write), 0);
    assert_int_equal(read.completions, 0);
    job_release(r.target);
    assert_int_equal(test_finish(&read), 0);
    blk_co_free(reader);
    job_await_no_writer(r.target);
    test_node_del("t");
    blk_co_free(r.guest);
    test_settle();
    test_node_del("s");
}

/* Without a cancel: the limit for copies before a write ends the guest's wait, and the copy. */
BLOCK_TEST(a_copy_before_a_write_that_hangs_breaks_the_backup_after_its_limit)
{
    static const BlockBackupSync syncs[] = {BLOCK_BACKUP_NONE, BLOCK_BACKUP_FULL};
    for (unsigned i = 0; i < G_N_ELEMENTS(syncs); i++) {
        BackupRig r;
        backup_rig_open(&r, MIRROR_SOURCE, MIRROR_TARGET);
        job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
        backup_start(&r, (BlockBackupConfig){.sync = syncs[i],
                                             .on_cbw_error = BLOCK_CBW_BREAK_SNAPSHOT,
                                             .cbw_timeout_s = 1});
        backup_guest_write(&r, 0, BACKUP_SIZE, 1);
        job_await_end("job0", "COMPLETED (Connection timed out) ");
        assert_true(block_fault_held(r.target) > 0);
        assert_ptr_equal(blk_root(r.guest), r.source);
        job_release(r.target);
        job_await_no_writer(r.target);
        backup_rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_backup_ends_although_its_target_hangs_and_has_the_backing_node_of_the_source),
        cmocka_unit_test(
            a_mirror_ends_although_its_target_hangs_and_has_the_backing_node_of_the_source),
        cmocka_unit_test(a_backup_ends_although_its_target_hangs_and_is_an_overlay_of_the_source),
        cmocka_unit_test(a_copy_before_a_write_that_hangs_breaks_the_backup_after_its_limit),
    };
    return job_test_main(tests);
}
