/* SPDX-License-Identifier: Apache-2.0 */
/* Files that fail or hang during snapshot-save and -load: the VM goes on, the images have the old set of snapshots or the
 * new one, and the next save works. */
#include "tests/vmm/snapshot/snapshot_job_rig.h"

/* Each request of each file fails in turn. */
static coroutine_fn RUNS_IN_MAIN void fail_each(BlockNode *file, BlockFaultOp op, uint32_t number)
{
    bool failed = true;
    for (unsigned after = 0; failed; after += after < 30 ? 1 : 7) {
        fault_set(file, (BlockFault){.op = op, .after = after, .count = 1, .error = number});
        rig->parked = NULL;
        job_begin(snapshot_save_start, "new", false);
        g_autofree char *error = job_end();
        fault_set(file, (BlockFault){0});
        failed = error != NULL;
        assert_true(rig_runs());
        assert_int_equal(tags(0, "new"), failed ? 0 : 1);
        assert_int_equal(tags(1, "new"), failed ? 0 : 1);
        assert_int_equal(tags(0, "old"), 1);
    }
    job_begin(snapshot_delete_start, "new", false);
    job_ends_well();
    load_and_check("old");
}

BLOCK_TEST(a_write_that_fails_leaves_the_old_set)
{
    snap_init();
    save("old", false);
    fail_each(rig->a, BLOCK_FAULT_WRITE, EIO);
    fail_each(rig->b, BLOCK_FAULT_WRITE, ENOSPC);
    save("last", false);
    load_and_check("last");
    snap_clear();
}

BLOCK_TEST(a_flush_that_fails_leaves_the_old_set)
{
    snap_init();
    save("old", false);
    fail_each(rig->a, BLOCK_FAULT_FLUSH, EIO);
    fail_each(rig->b, BLOCK_FAULT_FLUSH, EIO);
    save("last", false);
    load_and_check("last");
    snap_clear();
}

/* Each write of the image with the state hangs in turn, until after the cancel. The VM is not stopped by it, but for the
 * disks of a guest that need the same file. */
static coroutine_fn RUNS_IN_MAIN void hang_each(FrozenRamWay way)
{
    snap_init();
    save("old", false);
    capture_way = way;
    for (unsigned after = 0; after < 60; after += after < 20 ? 1 : 5) {
        fault_set(rig->b, (BlockFault){.op = BLOCK_FAULT_WRITE, .after = after, .hold = true});
        job_begin(snapshot_save_start, "new", false);
        while (block_fault_held(rig->b) == 0 && job_status(job_find(JOB)) != JOB_STATUS_CONCLUDED) {
            co_yield_turn();
        }
        job_cancel(job_find(JOB), true, NULL);
        for (unsigned i = 0; i < 100; i++) {
            rig_write(i * LAST_PAGE / 100); /* the guest does not wait for the file */
            co_yield_turn();
        }
        fault_release(rig->b);
        g_autofree char *error = job_end();
        assert_true(rig_runs());
        assert_int_equal(tags(0, "new"), tags(1, "new"));
        assert_int_equal(tags(1, "new"), error == NULL);
        if (error == NULL) {
            job_begin(snapshot_delete_start, "new", false);
            job_ends_well();
        }
    }
    load_and_check("old");
    save("last", false);
    load_and_check("last");
    capture_way = FROZEN_RAM_AUTO;
    snap_clear();
}

BLOCK_TEST(a_hanging_write_can_be_cancelled)
{
    hang_each(FROZEN_RAM_FORK);
}

BLOCK_TEST(a_hanging_write_of_protected_memory_can_be_cancelled)
{
    hang_each(FROZEN_RAM_WP);
}

/* Nothing is changed before each disk has said that it can be loaded. */
BLOCK_TEST(a_load_that_a_disk_refuses_changes_nothing)
{
    snap_init();
    save("a", false);
    disk_write(0, 7);
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "other", .icount = UINT64_MAX};
    BlockSnapshotRun *run = block_node_co_snapshot_prepare(disks[1].node, &info, NULL);
    assert_non_null(run);
    job_begin(snapshot_load_start, "a", false);
    g_autofree char *error = job_end();
    assert_string_equal(error, "Could not load snapshot 'a' on 'q1': an operation on its internal "
                               "snapshots is running");
    assert_true(rig_runs());
    assert_int_equal(rig->loads, 0);
    static uint8_t buf[SPAN];
    assert_int_equal(test_io(disks[0].guest, TEST_READ, 0, SPAN, buf, 0), 0);
    assert_memory_equal(buf, disks[0].now, SPAN);
    block_snapshot_co_end(run, NULL);
    load_and_check("a");
    snap_clear();
}

/* A cancel that is accepted is obeyed: while the state is read, nothing has changed. */
BLOCK_TEST(a_load_is_cancelled_before_it_changes_anything)
{
    snap_init();
    save("a", false);
    fault_set(rig->b, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    job_begin(snapshot_load_start, "a", false);
    while (block_fault_held(rig->b) == 0) {
        co_yield_turn();
    }
    job_cancel(job_find(JOB), true, NULL);
    fault_release(rig->b);
    g_autofree char *error = job_end();
    assert_non_null(error);
    assert_int_equal(rig->loads, 0);
    assert_true(rig_runs());
    load_and_check("a");
    snap_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_that_fails_leaves_the_old_set),
        cmocka_unit_test(a_flush_that_fails_leaves_the_old_set),
        cmocka_unit_test(a_hanging_write_can_be_cancelled),
        cmocka_unit_test(a_hanging_write_of_protected_memory_can_be_cancelled),
        cmocka_unit_test(a_load_that_a_disk_refuses_changes_nothing),
        cmocka_unit_test(a_load_is_cancelled_before_it_changes_anything),
    };
    return block_test_main(tests);
}
