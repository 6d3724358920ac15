/* SPDX-License-Identifier: Apache-2.0 */
/* Backup: points in time, errors, targets that hang. */
#include "tests/block/job/backup_test.h"

/* ---- the point in time ---- */

BLOCK_TEST(the_target_gets_what_the_source_had_at_the_start)
{
    BackupRig r;
    backup_rig_open_filled(&r);
    g_autofree uint8_t *before = job_content(r.source);
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true, .count = 1});
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL, .max_workers = 1});
    job_await_held(r.target, 1); /* the rest waits for it */
    backup_guest_write(&r, 3 * BACKUP_UNIT + 100, 1000, 2);
    assert_int_equal(test_io(r.guest, TEST_ZERO, 5 * BACKUP_UNIT, 2 * BACKUP_UNIT, NULL, 0), 0);
    assert_int_equal(test_io(r.guest, TEST_DISCARD, 8 * BACKUP_UNIT, BACKUP_UNIT, NULL, 0), 0);
    backup_guest_write(&r, BACKUP_SIZE - 512, 512, 3);
    job_release(r.target);
    job_await_end("job0", "COMPLETED ");
    backup_expect_content(r.target, before);
    backup_rig_close(&r);
}

BLOCK_TEST(a_write_waits_only_for_the_clusters_that_it_touches)
{
    BackupRig r;
    uint8_t data[512] = {7};
    backup_rig_open_filled(&r);
    job_set_fault(r.target,
                  (BlockFault){.op = BLOCK_FAULT_ANY, .length = BACKUP_UNIT, .hold = true});
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    TestRequest first = {.blk = r.guest, .op = TEST_WRITE, .bytes = sizeof(data), .buf = data};
    test_start(&first);
    job_await_held(r.target, 1);
    backup_guest_write(&r, BACKUP_UNIT, 512, 2); /* another cluster */
    assert_int_equal(first.completions, 0);
    job_release(r.target);
    assert_int_equal(test_finish(&first), 0);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    backup_rig_close(&r);
}

BLOCK_TEST(without_sync_only_what_is_overwritten_is_copied)
{
    BackupRig r;
    backup_rig_open_filled(&r);
    g_autofree uint8_t *before = job_content(r.source);
    g_autofree uint8_t *expected = g_malloc0(BACKUP_SIZE);
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    backup_guest_write(&r, 2 * BACKUP_UNIT - 1, 2, 2);
    memcpy(expected + BACKUP_UNIT, before + BACKUP_UNIT, (size_t)2 * BACKUP_UNIT);
    job_pause(job_find("job0"), NULL);
    job_await("job0", JOB_STATUS_PAUSED);
    backup_guest_write(&r, 2 * BACKUP_UNIT - 1, 2,
                       3); /* the filter also works while it is paused */
    backup_guest_write(&r, 7 * BACKUP_UNIT, 1, 3);
    memcpy(expected + (size_t)7 * BACKUP_UNIT, before + (size_t)7 * BACKUP_UNIT, BACKUP_UNIT);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    backup_expect_content(r.target, expected);
    backup_guest_write(&r, 0, 512, 4); /* the filter is gone */
    backup_expect_content(r.target, expected);
    backup_rig_close(&r);
}

/* ---- users that come and go ---- */

BLOCK_TEST(a_guest_can_leave_meanwhile_but_not_come_below_the_filter)
{
    BackupRig r;
    backup_rig_open_filled(&r);
    g_autofree uint8_t *before = job_content(r.source);
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true, .count = 1});
    backup_start(
        &r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL, .max_workers = 1, .filter_name = "f"});
    job_await_held(r.target, 1);
    g_autoptr(GError) error = NULL;
    assert_null(blk_co_new("other", r.source, true, &error));
    assert_non_null(strstr(error->message, "node 's' is written to by"));
    blk_co_free(r.guest);
    g_clear_error(&error);
    assert_null(blk_co_new("other", r.source, true, &error)); /* the filter is still there */
    BlockNode *filter = block_node_find("f");
    r.guest = blk_co_new("guest", filter, true, NULL);
    assert_non_null(r.guest);
    backup_guest_write(&r, 3 * BACKUP_UNIT, 512, 5);
    job_release(r.target);
    job_await_end("job0", "COMPLETED ");
    backup_expect_content(r.target, before);
    assert_ptr_equal(blk_root(r.guest), r.source);
    backup_rig_close(&r);
}

/* A guest's request is between the filter and the source when the job ends. */
BLOCK_TEST(the_filter_goes_when_no_request_is_in_it)
{
    BackupRig r;
    uint8_t data[512] = {3};
    backup_rig_open_filled(&r);
    g_autofree uint8_t *before = job_content(r.source);
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    job_set_fault(r.source, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    TestRequest write = {.blk = r.guest, .op = TEST_WRITE, .bytes = sizeof(data), .buf = data};
    test_start(&write);
    job_await_held(r.source, 1);
    job_cancel(job_find("job0"), true, NULL);
    for (unsigned i = 0; i < 20; i++) {
        test_settle();
    }
    assert_non_null(job_find("job0")); /* the end waits for the guest's disk, not for the target */
    job_release(r.source);
    assert_int_equal(test_finish(&write), 0);
    job_await_end("job0", "CANCELLED ");
    g_autofree uint8_t *found = job_content(r.target);
    assert_memory_equal(found, before, BACKUP_UNIT);
    backup_rig_close(&r);
}

typedef enum BackupEnd { END_COMPLETED, END_TARGET_DIES, END_CANCELLED, END_COUNT } BackupEnd;

/* A stop holds the operation lock, and drains, while the job comes to its end. */
BLOCK_TEST(the_end_of_a_job_waits_for_another_operation)
{
    for (unsigned end = 0; end < END_COUNT; end++) {
        BackupRig r;
        backup_rig_open_filled(&r);
        job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY,
                                             .hold = true,
                                             .error = end == END_TARGET_DIES ? EIO : 0});
        backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL, .filter_name = "f"});
        job_await_held(r.target, 1);
        co_mutex_lock(&job_operation);
        if (end == END_CANCELLED) {
            job_cancel(job_find("job0"), true, NULL);
        } else {
            job_release(r.target);
        }
        JobStatus status = JOB_STATUS_RUNNING;
        while (status != JOB_STATUS_PENDING && status != JOB_STATUS_ABORTING) {
            test_settle();
            status = job_status(job_find("job0"));
        }
        co_drained_begin(&r.guest, 1);
        assert_ptr_equal(blk_root(r.guest), block_node_find("f"));
        co_drained_end(&r.guest, 1);
        backup_guest_write(&r, 0, 512, 7);
        assert_ptr_equal(blk_root(r.guest), block_node_find("f"));
        co_mutex_unlock(&job_operation);
        job_await("job0", JOB_STATUS_NULL);
        while (job_operation.owner != NULL) {
            co_yield_turn();
        }
        assert_ptr_equal(blk_root(r.guest), r.source);
        g_string_truncate(job_log, 0);
        job_release(r.target);
        job_await_no_writer(r.target);
        backup_rig_close(&r);
    }
}

/* ---- targets that hang ---- */

/* A guest's write waits for a target that hangs. */
typedef struct Hang {
    BackupRig r;
    uint8_t *before;
    TestRequest write;
    uint8_t data[512];
} Hang;

static coroutine_fn RUNS_IN_MAIN void hang_start(Hang *h, BlockBackupSync sync)
{
    *h = (Hang){.data = {9}};
    backup_rig_open_filled(&h->r);
    h->before = job_content(h->r.source);
    job_set_fault(h->r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    backup_start(&h->r, (BlockBackupConfig){.sync = sync});
    if (sync != BLOCK_BACKUP_NONE) {
        job_await_held(h->r.target, 1);
    }
    h->write = (TestRequest){
        .blk = h->r.guest, .op = TEST_WRITE, .bytes = sizeof(h->data), .buf = h->data};
    test_start(&h->write);
    job_await_held(h->r.target, 1);
    test_settle();
    assert_int_equal(h->write.completions, 0);
}

static coroutine_fn RUNS_IN_MAIN void hang_end(Hang *h)
{
    g_free(h->before);
    backup_rig_close(&h->r);
}

BLOCK_TEST(a_drained_section_does_not_wait_for_the_target)
{
    static const BlockBackupSync syncs[] = {BLOCK_BACKUP_NONE, BLOCK_BACKUP_FULL};
    for (unsigned i = 0; i < G_N_ELEMENTS(syncs); i++) {
        Hang h;
        hang_start(&h, syncs[i]);
        co_drained_begin(&h.r.guest, 1);
        assert_int_equal(test_finish(&h.write), 0);
        co_drained_end(&h.r.guest, 1);
        job_release(h.r.target);
        if (syncs[i] == BLOCK_BACKUP_NONE) {
            test_settle();
            test_settle();
            job_cancel(job_find("job0"), true, NULL);
            job_await_end("job0", "CANCELLED ");
            g_autofree uint8_t *found = job_content(h.r.target);
            assert_memory_equal(found, h.before, BACKUP_UNIT);
        } else {
            job_await_end("job0", "COMPLETED ");
            backup_expect_content(h.r.target, h.before);
        }
        hang_end(&h);
    }
}

/* The old data that was read is lost, so the copy cannot be completed. */
BLOCK_TEST(an_error_of_the_target_after_a_drained_section_fails_the_job)
{
    static const BlockBackupSync syncs[] = {BLOCK_BACKUP_NONE, BLOCK_BACKUP_FULL};
    for (unsigned i = 0; i < G_N_ELEMENTS(syncs); i++) {
        Hang h;
        *(&h) = (Hang){.data = {9}};
        backup_rig_open_filled(&h.r);
        h.before = NULL;
        job_set_fault(h.r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true, .error = EIO});
        backup_start(&h.r, (BlockBackupConfig){.job.on_target_error = BLOCK_ON_ERROR_IGNORE,
                                               .sync = syncs[i]});
        h.write = (TestRequest){
            .blk = h.r.guest, .op = TEST_WRITE, .bytes = sizeof(h.data), .buf = h.data};
        test_start(&h.write);
        job_await_held(h.r.target, 1);
        co_drained_begin(&h.r.guest, 1);
        assert_int_equal(test_finish(&h.write), 0);
        co_drained_end(&h.r.guest, 1);
        job_release(h.r.target);
        job_await("job0", JOB_STATUS_NULL);
        assert_non_null(strstr(job_log->str, "COMPLETED (Input/output error) "));
        g_string_truncate(job_log, 0);
        hang_end(&h);
    }
}

BLOCK_TEST(a_cancel_does_not_wait_for_the_target)
{
    Hang h;
    hang_start(&h, BLOCK_BACKUP_FULL);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    assert_int_equal(test_finish(&h.write), 0);
    g_autoptr(GError) error = NULL;
    assert_false(block_co_delete("t", &error)); /* requests to it are still in flight */
    job_release(h.r.target);
    job_await_no_writer(h.r.target);
    hang_end(&h);
}

/* ---- errors ---- */

BLOCK_TEST(a_failed_copy_before_a_write_fails_the_write)
{
    BackupRig r;
    uint8_t data[512] = {5};
    backup_rig_open_filled(&r);
    g_autofree uint8_t *before = job_content(r.source);
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .error = ENOSPC});
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    assert_int_equal(test_io(r.guest, TEST_WRITE, 0, 512, data, 0), -ENOSPC);
    job_set_fault(r.target, (BlockFault){0});
    backup_expect_content(r.source, before);
    assert_int_equal(test_io(r.guest, TEST_WRITE, 0, 512, data, 0), 0); /* it is tried again */
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    g_autofree uint8_t *found = job_content(r.target);
    assert_memory_equal(found, before, BACKUP_UNIT);
    backup_rig_close(&r);
}

BLOCK_TEST(or_it_breaks_the_copy)
{
    static const BlockBackupSync syncs[] = {BLOCK_BACKUP_NONE, BLOCK_BACKUP_FULL};
    for (unsigned i = 0; i < G_N_ELEMENTS(syncs); i++) {
        BackupRig r;
        uint8_t data[512] = {5};
        backup_rig_open_filled(&r);
        job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .error = ENOSPC});
        backup_start(&r, (BlockBackupConfig){.job.on_target_error = BLOCK_ON_ERROR_STOP,
                                             .sync = syncs[i],
                                             .on_cbw_error = BLOCK_CBW_BREAK_SNAPSHOT});
        if (syncs[i] == BLOCK_BACKUP_FULL) {
            job_await("job0", JOB_STATUS_PAUSED);
        }
        assert_int_equal(test_io(r.guest, TEST_WRITE, 0, 512, data, 0), 0);
        if (syncs[i] == BLOCK_BACKUP_FULL) {
            job_resume(job_find("job0"), NULL);
        }
        job_await("job0", JOB_STATUS_NULL);
        assert_non_null(strstr(job_log->str, "COMPLETED (No space left on device) "));
        g_string_truncate(job_log, 0);
        backup_rig_close(&r);
    }
}

BLOCK_TEST(the_policy_for_errors_is_followed)
{
    BackupRig r;
    backup_rig_open_filled(&r);
    g_autofree uint8_t *before = job_content(r.source);
    job_set_fault(r.source, (BlockFault){.op = BLOCK_FAULT_READ, .count = 1, .error = EIO});
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL});
    job_await_end("job0", "read-error-report COMPLETED (Input/output error) ");
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_WRITE, .count = 1, .error = ENOSPC});
    backup_start(&r, (BlockBackupConfig){.job.on_target_error = BLOCK_ON_ERROR_ENOSPC,
                                         .sync = BLOCK_BACKUP_FULL,
                                         .max_workers = 1});
    job_await("job0", JOB_STATUS_PAUSED);
    job_resume(job_find("job0"), NULL);
    job_await_end("job0", "write-error-stop COMPLETED ");
    backup_expect_content(r.target, before);
    backup_rig_close(&r);
}

/* ---- refusals ---- */

static coroutine_fn RUNS_IN_MAIN void expect_refused(BackupRig *r, BlockBackupConfig c,
                                                     const char *says)
{
    g_autoptr(GError) error = NULL;
    assert_false(backup_try(r, c, &error));
    if (strstr(error->message, says) == NULL) {
        fail_msg("'%s' does not say '%s'", error->message, says);
    }
    assert_null(job_find("job0"));
}

BLOCK_TEST(what_cannot_be_backed_up_is_refused)
{
    BackupRig r;
    backup_rig_open_filled(&r);
    BlockNode *small = test_node_add("mem,node-name=small,size=512k");
    expect_refused(&r, (BlockBackupConfig){.target = r.source}, "cannot be the same");
    expect_refused(&r, (BlockBackupConfig){.target = small}, "have different sizes");
    expect_refused(&r, (BlockBackupConfig){.compress = true},
                   "Compression is not supported for this drive t");
    expect_refused(&r, (BlockBackupConfig){.max_chunk = 4096}, "less than backup cluster size");
    expect_refused(&r, (BlockBackupConfig){.bitmap = "no"}, "Dirty bitmap 'no' not found");
    expect_refused(&r, (BlockBackupConfig){.filter_name = "s"}, "node-name");
    BlockBackend *user = blk_co_new("user", r.target, true, NULL);
    expect_refused(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL}, "drive 'user'");
    blk_co_free(user);
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE, .filter_name = "f"});
    assert_non_null(block_node_find("f"));
    g_autoptr(GError) error = NULL;
    assert_null(blk_co_new("user", r.target, true, &error));
    assert_non_null(strstr(error->message, "job 'job0'"));
    assert_int_not_equal(block_node_co_resize(r.source, 2 * BACKUP_SIZE, NULL), 0);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    assert_null(block_node_find("f"));
    test_node_del("small");
    backup_rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_target_gets_what_the_source_had_at_the_start),
        cmocka_unit_test(a_write_waits_only_for_the_clusters_that_it_touches),
        cmocka_unit_test(without_sync_only_what_is_overwritten_is_copied),
        cmocka_unit_test(a_guest_can_leave_meanwhile_but_not_come_below_the_filter),
        cmocka_unit_test(the_filter_goes_when_no_request_is_in_it),
        cmocka_unit_test(the_end_of_a_job_waits_for_another_operation),
        cmocka_unit_test(a_drained_section_does_not_wait_for_the_target),
        cmocka_unit_test(an_error_of_the_target_after_a_drained_section_fails_the_job),
        cmocka_unit_test(a_cancel_does_not_wait_for_the_target),
        cmocka_unit_test(a_failed_copy_before_a_write_fails_the_write),
        cmocka_unit_test(or_it_breaks_the_copy),
        cmocka_unit_test(the_policy_for_errors_is_followed),
        cmocka_unit_test(what_cannot_be_backed_up_is_refused),
    };
    return job_test_main(tests);
}
