/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot-save, -load and -delete on a machine without KVM with two qcow2 disks: memory and disks of one instant come
 * back together, and what cannot be is refused. */
#include "tests/vmm/snapshot/snapshot_job_rig.h"

BLOCK_TEST(memory_and_disks_of_one_instant_come_back)
{
    snap_init();
    save("a", false);
    save("b", false);
    assert_string_equal(captured, "fork");
    load_and_check("b");
    assert_int_equal(rig->loads, 1);
    snap_clear();
}

BLOCK_TEST(an_older_snapshot_comes_back_and_is_deleted)
{
    snap_init();
    save("old", false);
    RamTest memory = saved;
    memory.host = g_memdup2(saved.host, RAM_TEST_LOW + RAM_TEST_HIGH);
    g_autofree uint8_t *content = g_memdup2(saved_disks, sizeof(saved_disks));
    save("new", false);
    memcpy(saved.host, memory.host, RAM_TEST_LOW + RAM_TEST_HIGH);
    memcpy(saved_disks, content, sizeof(saved_disks));
    load_and_check("old");
    job_begin(snapshot_delete_start, "old", false);
    job_ends_well();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(tags(i, "old"), 0);
        assert_int_equal(tags(i, "new"), 1);
    }
    g_free(memory.host);
    snap_clear();
}

static coroutine_fn RUNS_IN_MAIN void expect_outside_refused(Start *start, const char *tag)
{
    job_begin(start, tag, false);
    g_autofree char *error = job_end();
    assert_non_null(error);
    if (strstr(error, "device 'disk7': another process has its data") == NULL) {
        fail_msg("%s", error);
    }
    assert_true(rig_runs());
}

BLOCK_TEST(a_device_whose_data_is_outside_is_named)
{
    const DeviceType type = {.name = "outside-pci", .data_outside = true};
    Device dev = {.type = &type, .id = "disk7"};
    snap_init();
    save("a", false);
    unsigned stops = rig->stops;
    g_ptr_array_add(rig->vm.machine.devices, &dev);
    expect_outside_refused(snapshot_save_start, "b");
    expect_outside_refused(snapshot_load_start, "a");
    assert_int_equal(rig->stops, stops);
    assert_int_equal(tags(0, "b") + tags(1, "b"), 0);
    g_ptr_array_set_size(rig->vm.machine.devices, 0);
    save("b", false);
    load_and_check("b");
    snap_clear();
}

BLOCK_TEST(what_cannot_be_is_refused_before_a_job_exists)
{
    static const char *const one[] = {"q0", NULL}, *const none[] = {"q9", NULL},
                             *const raw[] = {"a", NULL};
    static const struct {
        Start *start;
        const char *tag, *state;
        const char *const *names;
        const char *error;
    } cases[] = {
        {snapshot_save_start, "a", "q1", both,
         "Snapshot 'a' already exists in one or more devices"},
        {snapshot_save_start, "b", "q1", one, "vmstate block device 'q1' does not exist"},
        {snapshot_save_start, "b", "q0", none, "No block device node 'q9'"},
        {snapshot_save_start, "b", "a", raw,
         "Device 'a' is writable but does not support snapshots"},
        {snapshot_save_start, "", "q1", both, "The name of the snapshot is empty"},
        {snapshot_load_start, "", "q1", both, "The name of the snapshot is empty"},
        {snapshot_delete_start, "", NULL, both, "The name of the snapshot is empty"},
        {snapshot_load_start, "b", "q1", both,
         "Snapshot 'b' does not exist in one or more devices"},
        {snapshot_load_start, "a", "q0", both,
         "Snapshot 'a' has no machine's state for all of these disks; 'skiff-img snapshot -a' "
         "makes one disk as it was"},
    };
    snap_init();
    save("a", false);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        const SnapshotJobConfig config = {.vm = &rig->vm,
                                          .id = JOB,
                                          .tag = cases[i].tag,
                                          .state = cases[i].state,
                                          .names = cases[i].names};
        vm_operation_begin(&rig->vm.run);
        assert_null(cases[i].start(&config, &error));
        vm_operation_end(&rig->vm.run);
        assert_string_equal(error->message, cases[i].error);
        assert_null(job_find(JOB));
    }
    snap_clear();
}

BLOCK_TEST(the_same_name_replaces_only_when_the_new_one_is_complete)
{
    snap_init();
    save("a", false);
    save("a", true);
    assert_int_equal(tags(0, "a"), 1);
    assert_int_equal(tags(1, "a"), 1);
    rig->state_fails = true;
    job_begin(snapshot_save_start, "a", true);
    g_autofree char *error = job_end();
    assert_string_equal(error, "vnet0: its state is elsewhere");
    rig->state_fails = false;
    load_and_check("a");
    snap_clear();
}

/* A disk snapshot with the same name, made by hand, is not taken for a part of the set. */
BLOCK_TEST(sets_are_not_mixed)
{
    snap_init();
    save("a", false);
    BlockSnapshotInfo info = {.name = (char *)(uintptr_t) "a", .date_s = 5, .icount = UINT64_MAX};
    assert_int_equal(block_node_co_snapshot_create(disks[0].node, &info, NULL), 0);
    assert_int_equal(tags(0, "a"), 2);
    load_and_check("a");
    snap_clear();
}

/* The machine that asked for a reset is gone. */
BLOCK_TEST(a_reset_that_was_asked_for_does_not_hit_the_machine_that_is_loaded)
{
    snap_init();
    save("a", false);
    vm_operation_begin(&rig->vm.run);
    const SnapshotJobConfig config = {
        .vm = &rig->vm, .id = JOB, .tag = "a", .state = "q1", .names = both};
    assert_non_null(snapshot_load_start(&config, NULL));
    run_state_request_reset(&rig->vm.run);
    for (unsigned i = 0; i < 10; i++) {
        co_yield_turn();
    }
    vm_operation_end(&rig->vm.run);
    rig->load_reset_comes = true; /* and once more while it is loaded */
    unsigned stops = rig->stops;
    job_ends_well();
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
    assert_true(rig_runs());
    assert_in_range(rig->stops - stops, 1, 2); /* the first may have come before */
    snap_clear();
}

/* A load would write all of memory, which the save has yet to read. */
BLOCK_TEST(a_load_beside_a_save_is_refused)
{
    snap_init();
    save("old", false);
    fault_set(rig->b, (BlockFault){.op = BLOCK_FAULT_WRITE, .after = 3, .hold = true});
    job_begin(snapshot_save_start, "new", false);
    while (block_fault_held(rig->b) == 0) {
        co_yield_turn();
    }
    g_autoptr(GError) error = NULL;
    assert_false(snapshot_load_co_at_start(&rig->vm, "old", &error));
    assert_non_null(strstr(error->message, "the machine is being saved"));
    fault_release(rig->b);
    job_ends_well();
    load_and_check("old");
    snap_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_beside_a_save_is_refused),
        cmocka_unit_test(memory_and_disks_of_one_instant_come_back),
        cmocka_unit_test(an_older_snapshot_comes_back_and_is_deleted),
        cmocka_unit_test(a_device_whose_data_is_outside_is_named),
        cmocka_unit_test(what_cannot_be_is_refused_before_a_job_exists),
        cmocka_unit_test(the_same_name_replaces_only_when_the_new_one_is_complete),
        cmocka_unit_test(sets_are_not_mixed),
        cmocka_unit_test(a_reset_that_was_asked_for_does_not_hit_the_machine_that_is_loaded),
    };
    return block_test_main(tests);
}
