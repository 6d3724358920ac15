/* SPDX-License-Identifier: Apache-2.0 */
/* Backup: points in time, errors, targets that hang, bitmaps. */
#include "tests/block/job/backup_test.h"

#define SOURCE "fault,node-name=s,discard=unmap,file.driver=mem,file.size=1M"
#define TARGET "fault,node-name=t,discard=unmap,file.driver=mem,file.size=1M"

static coroutine_fn RUNS_IN_MAIN void rig_open(BackupRig *r)
{
    backup_rig_open(r, SOURCE, TARGET);
    backup_guest_write(r, 0, BACKUP_SIZE / 2, 1);
}

static coroutine_fn RUNS_IN_MAIN void expect_content(BlockNode *n, const uint8_t *expected)
{
    g_autofree uint8_t *found = job_content(n);
    for (uint64_t i = 0; i < BACKUP_SIZE; i++) {
        if (found[i] != expected[i]) {
            fail_msg("node '%s', byte %" G_GUINT64_FORMAT ": %#x, not %#x", block_node_name(n), i,
                     found[i], expected[i]);
        }
    }
}

/* ---- the point in time ---- */

BLOCK_TEST(the_target_gets_what_the_source_had_at_the_start)
{
    BackupRig r;
    rig_open(&r);
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
    expect_content(r.target, before);
    backup_rig_close(&r);
}

BLOCK_TEST(a_write_waits_only_for_the_clusters_that_it_touches)
{
    BackupRig r;
    uint8_t data[512] = {7};
    rig_open(&r);
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
    rig_open(&r);
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
    expect_content(r.target, expected);
    backup_guest_write(&r, 0, 512, 4); /* the filter is gone */
    expect_content(r.target, expected);
    backup_rig_close(&r);
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
    rig_open(&h->r);
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
            expect_content(h.r.target, h.before);
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
        rig_open(&h.r);
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
    for (unsigned i = 0; i < 10; i++) {
        test_settle();
    }
    hang_end(&h);
}

/* ---- errors ---- */

BLOCK_TEST(a_failed_copy_before_a_write_fails_the_write)
{
    BackupRig r;
    uint8_t data[512] = {5};
    rig_open(&r);
    g_autofree uint8_t *before = job_content(r.source);
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .error = ENOSPC});
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_NONE});
    assert_int_equal(test_io(r.guest, TEST_WRITE, 0, 512, data, 0), -ENOSPC);
    job_set_fault(r.target, (BlockFault){0});
    expect_content(r.source, before);
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
        rig_open(&r);
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
    rig_open(&r);
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
    expect_content(r.target, before);
    backup_rig_close(&r);
}

/* ---- bitmaps ---- */

static coroutine_fn RUNS_IN_MAIN void bitmap_rig_open(BackupRig *r)
{
    rig_open(r);
    assert_true(block_dirty_bitmap_co_add(r->source, "b", BACKUP_UNIT, 0, NULL));
    backup_guest_write(r, BACKUP_UNIT, 512, 2);
    backup_guest_write(r, 9 * BACKUP_UNIT, 512, 3);
    assert_int_equal(backup_dirty_bytes(r->source, 0), 2 * BACKUP_UNIT);
}

static const BlockBackupBitmapMode modes[] = {BLOCK_BACKUP_ON_SUCCESS, BLOCK_BACKUP_NEVER,
                                              BLOCK_BACKUP_ALWAYS};

BLOCK_TEST(a_bitmap_has_the_changes_since_a_backup_that_succeeds)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        BackupRig r;
        bitmap_rig_open(&r);
        g_autofree uint8_t *before = job_content(r.source);
        g_autofree uint8_t *expected = g_malloc0(BACKUP_SIZE);
        memcpy(expected + BACKUP_UNIT, before + BACKUP_UNIT, BACKUP_UNIT);
        memcpy(expected + (size_t)9 * BACKUP_UNIT, before + (size_t)9 * BACKUP_UNIT, BACKUP_UNIT);
        job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true, .count = 1});
        backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_BITMAP,
                                             .bitmap = "b",
                                             .bitmap_mode = modes[i],
                                             .max_workers = 1});
        job_await_held(r.target, 1);
        backup_guest_write(&r, 9 * BACKUP_UNIT, 512, 4);
        backup_guest_write(&r, 12 * BACKUP_UNIT, 512, 4);
        g_autoptr(GError) error = NULL;
        assert_false(block_dirty_bitmap_co_clear(r.source, "b", &error));
        assert_non_null(strstr(error->message, "is currently in use by another operation"));
        job_release(r.target);
        job_await_end("job0", "COMPLETED ");
        expect_content(r.target, expected);
        unsigned clusters = modes[i] == BLOCK_BACKUP_NEVER ? 3 : 2;
        assert_int_equal(backup_dirty_bytes(r.source, 0), clusters * BACKUP_UNIT);
        assert_true(block_dirty_bitmap_co_remove(r.source, "b", NULL));
        backup_rig_close(&r);
    }
}

BLOCK_TEST(a_bitmap_keeps_what_a_failed_backup_did_not_copy)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        BackupRig r;
        bitmap_rig_open(&r);
        job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY,
                                             .offset = 9 * BACKUP_UNIT,
                                             .length = BACKUP_UNIT,
                                             .hold = true});
        backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_BITMAP,
                                             .bitmap = "b",
                                             .bitmap_mode = modes[i],
                                             .max_workers = 1});
        job_await_held(r.target, 1); /* the first one was copied, the second one is in flight */
        backup_guest_write(&r, 12 * BACKUP_UNIT, 512, 4);
        job_cancel(job_find("job0"), true, NULL);
        job_await_end("job0", "CANCELLED ");
        unsigned clusters = modes[i] == BLOCK_BACKUP_ALWAYS ? 2 : 3;
        assert_int_equal(backup_dirty_bytes(r.source, 0), clusters * BACKUP_UNIT);
        job_release(r.target);
        for (unsigned turn = 0; turn < 10; turn++) {
            test_settle();
        }
        assert_true(block_dirty_bitmap_co_remove(r.source, "b", NULL));
        backup_rig_close(&r);
    }
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
    rig_open(&r);
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
        cmocka_unit_test(a_drained_section_does_not_wait_for_the_target),
        cmocka_unit_test(an_error_of_the_target_after_a_drained_section_fails_the_job),
        cmocka_unit_test(a_cancel_does_not_wait_for_the_target),
        cmocka_unit_test(a_failed_copy_before_a_write_fails_the_write),
        cmocka_unit_test(or_it_breaks_the_copy),
        cmocka_unit_test(the_policy_for_errors_is_followed),
        cmocka_unit_test(a_bitmap_has_the_changes_since_a_backup_that_succeeds),
        cmocka_unit_test(a_bitmap_keeps_what_a_failed_backup_did_not_copy),
        cmocka_unit_test(what_cannot_be_backed_up_is_refused),
    };
    return job_test_main(tests);
}
