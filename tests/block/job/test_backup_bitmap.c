/* SPDX-License-Identifier: Apache-2.0 */
/* Backup and dirty bitmaps. */
#include "tests/block/job/backup_test.h"

static coroutine_fn RUNS_IN_MAIN void bitmap_rig_open(BackupRig *r)
{
    backup_rig_open_filled(r);
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
        backup_expect_content(r.target, expected);
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
        job_await_no_writer(r.target);
        assert_true(block_dirty_bitmap_co_remove(r.source, "b", NULL));
        backup_rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bitmap_has_the_changes_since_a_backup_that_succeeds),
        cmocka_unit_test(a_bitmap_keeps_what_a_failed_backup_did_not_copy),
    };
    return job_test_main(tests);
}
