/* SPDX-License-Identifier: Apache-2.0 */
/* x-rewind on a machine without KVM: memory is that of the point each time, whatever was written since; what fails
 * leaves the VM running as it was, or stopped for good. */
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include "tests/vmm/snapshot/rewind_rig.h"

static coroutine_fn RUNS_IN_MAIN void user_requests(void (*request)(RunState *rs))
{
    request(&rig->vm.run);
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
}

static void request_stop(RunState *rs)
{
    run_state_request_stop(rs, STOP_PAUSED);
}

/* ---- memory ---- */

/* Any set of pages is put back, and no other page: few, many in a row, more than one call takes. */
static coroutine_fn RUNS_IN_MAIN void rewind_rounds(bool copies_on_write)
{
    static const unsigned steps[] = {1, 2, 3, 67, 500};
    take_point();
    assert_int_equal(rewind_info().copies_on_write, copies_on_write);
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    for (unsigned round = 0; round < 30; round++) {
        unsigned step = steps[round % G_N_ELEMENTS(steps)], written = 0;
        uint64_t page = (uint64_t)g_rand_int_range(rand, 0, 64);
        for (; page <= LAST_PAGE && written < 3000; page += step, written++) {
            rig_write(page);
        }
        go_back();
        assert_in_range(rewind_info().pages, written, written + 4); /* and those of the rig */
        assert_int_equal(rewind_info().rewinds, round + 1);
        assert_true(rig_runs());
    }
}

BLOCK_TEST(memory_is_that_of_the_point_each_time)
{
    held_init();
    rewind_rounds(true);
    held_clear();
}

BLOCK_TEST(memory_of_a_memfd_is_held_by_a_plain_copy)
{
    held_init();
    rig->vm.machine.ram.blocks[1].fd = 0; /* of a block in a memfd; it is not used */
    rewind_rounds(false);
    held_clear();
}

BLOCK_TEST(a_second_point_replaces_the_first)
{
    held_init();
    take_point();
    for (unsigned i = 0; i < 5; i++) {
        rig_write(10 + i);
        go_back();
        rig_write(20 + i);
        take_point(); /* memory is compared with that of the newest */
        assert_int_equal(rewind_info().rewinds, 0);
        rig_write(30 + i);
        go_back();
    }
    held_clear();
}

BLOCK_TEST(a_point_that_fails_leaves_the_earlier_one)
{
    held_init();
    rig->state_fails = true;
    expect_refused(rewind_co_point, "vnet0: its state is elsewhere");
    assert_int_equal(rewind_info().state, REWIND_NONE);
    assert_true(rig_runs());
    rig->state_fails = false;
    take_point();
    rig_write(9);
    rig->state_fails = true;
    expect_refused(rewind_co_point, "vnet0: its state is elsewhere");
    assert_int_equal(rewind_info().state, REWIND_HELD);
    rig_write(10);
    go_back();
    held_clear();
}

BLOCK_TEST(a_party_that_cannot_log_is_named)
{
    held_init();
    rig->log_fails = true;
    expect_refused(rewind_co_point, "vsock0 cannot log");
    assert_int_equal(rewind_info().state, REWIND_NONE);
    assert_true(rig_runs());
    held_clear();
}

BLOCK_TEST(a_device_whose_data_is_outside_is_named)
{
    const DeviceType outside = {.name = "outside-pci", .data_outside = true},
                     inside = {.name = "b"};
    Device first = {.type = &outside, .id = "disk7"}, second = {.type = &inside, .id = "disk8"},
           third = {.type = &outside};
    held_init();
    g_ptr_array_add(rig->vm.machine.devices, &second);
    take_point();
    rewind_co_end(&rig->vm, NULL);
    g_ptr_array_add(rig->vm.machine.devices, &first);
    g_ptr_array_add(rig->vm.machine.devices, &third);
    expect_refused(rewind_co_point, "device 'disk7', 'outside-pci': another process has its data");
    assert_int_equal(rewind_info().state, REWIND_NONE);
    assert_true(rig_runs());
    g_ptr_array_set_size(rig->vm.machine.devices, 0);
    take_point();
    held_clear();
}

/* ---- whether the VM runs then ---- */

BLOCK_TEST(the_vm_runs_after_a_rewind_if_it_ran_at_the_point)
{
    held_init();
    take_point();
    user_requests(request_stop);
    assert_false(rig_runs());
    go_back();
    assert_true(rig_runs());
    user_requests(request_stop);
    take_point();
    user_requests(run_state_request_start);
    assert_true(rig_runs());
    go_back();
    assert_false(rig_runs());
    assert_string_equal(run_state_qemu_name(&rig->vm.run), "paused");
    user_requests(run_state_request_start);
    assert_true(rig_runs());
    held_clear();
}

BLOCK_TEST(a_users_stop_during_a_rewind_counts)
{
    held_init();
    take_point();
    rig->load_stop_comes = true;
    go_back();
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
    assert_false(rig_runs());
    held_clear();
}

/* The guest that asked for it is no more. */
BLOCK_TEST(a_reset_that_waits_is_dropped)
{
    held_init();
    take_point();
    rig->load_reset_comes = true;
    unsigned stops = rig->stops;
    go_back();
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
    assert_int_equal(rig->stops, stops + 1);
    assert_true(rig_runs());
    held_clear();
}

/* ---- failures ---- */

BLOCK_TEST(a_rewind_that_fails_halfway_leaves_the_vm_stopped)
{
    held_init();
    take_point();
    rig->load_fails = true;
    expect_refused(rewind_co_back, "vnet0: no");
    assert_int_equal(rewind_info().state, REWIND_LOST);
    assert_string_equal(rewind_info().error, "vnet0: no");
    assert_string_equal(run_state_qemu_name(&rig->vm.run), "internal-error");
    user_requests(run_state_request_start);
    assert_false(rig_runs());
    expect_refused(rewind_co_back, "the rewind point is lost: vnet0: no");
    assert_false(rig->vm.machine.ram.logging);
    user_requests(run_state_request_reset);
    user_requests(run_state_request_start);
    assert_true(rig_runs());
    rig->load_fails = false;
    take_point();
    go_back();
    held_clear();
}

BLOCK_TEST(a_log_that_cannot_be_read_changes_nothing)
{
    held_init();
    take_point();
    sync_fails = true;
    expect_refused(rewind_co_back, "KVM_GET_DIRTY_LOG: no");
    assert_int_equal(rig->loads, 0);
    assert_int_equal(rewind_info().state, REWIND_LOST);
    assert_true(rig_runs());
    assert_true(rewind_co_end(&rig->vm, NULL));
    held_clear();
}

/* The children of this process: the only one holds the copy. */
static int find_child(void)
{
    int pid = 0;
    g_autofree char *path = g_strdup_printf("/proc/%d/task", getpid());
    DIR *tasks = opendir(path);
    assert_non_null(tasks);
    for (const struct dirent *e; (e = readdir(tasks)) != NULL;) {
        g_autofree char *children = g_strdup_printf("%s/%s/children", path, e->d_name),
                        *text = NULL;
        if (pid == 0 && g_file_get_contents(children, &text, NULL, NULL)) {
            pid = atoi(text);
        }
    }
    closedir(tasks);
    return pid;
}

BLOCK_TEST(a_copy_that_was_killed_changes_nothing)
{
    held_init();
    take_point();
    int pid = find_child();
    if (pid == 0) { /* a kernel without the list */
        held_clear();
        return;
    }
    siginfo_t info;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | __WALL), 0);
    expect_refused(rewind_co_back, "was killed");
    assert_int_equal(rig->loads, 0);
    assert_true(rig_runs());
    assert_int_equal(rewind_info().state, REWIND_LOST);
    held_clear();
}

BLOCK_TEST(commands_at_the_wrong_time_are_refused)
{
    held_init();
    expect_refused(rewind_co_back, "there is no rewind point: x-rewind-point takes one");
    expect_refused(rewind_co_end, "there is no rewind point");
    take_point();
    g_autoptr(GError) error = NULL;
    assert_false(savevm_co_start(&rig->vm, FILE_A, &error));
    assert_non_null(strstr(error->message, "x-rewind-end gives it up"));
    rig->vm.hotplug.changes++;
    expect_refused(rewind_co_back, "a device was plugged in or removed since the rewind point");
    assert_true(rig_runs());
    rig->vm.hotplug.changes--;
    go_back();
    assert_true(rewind_co_end(&rig->vm, NULL));
    rig_start(FILE_A);
    expect_refused(rewind_co_point, "a save is under way");
    rig_wait(SAVEVM_COMPLETED);
    expect_refused(rewind_co_point, "waits for savevm-end");
    assert_true(savevm_co_end(&rig->vm, NULL));
    take_point();
    held_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_that_of_the_point_each_time),
        cmocka_unit_test(memory_of_a_memfd_is_held_by_a_plain_copy),
        cmocka_unit_test(a_second_point_replaces_the_first),
        cmocka_unit_test(a_point_that_fails_leaves_the_earlier_one),
        cmocka_unit_test(a_party_that_cannot_log_is_named),
        cmocka_unit_test(a_device_whose_data_is_outside_is_named),
        cmocka_unit_test(the_vm_runs_after_a_rewind_if_it_ran_at_the_point),
        cmocka_unit_test(a_users_stop_during_a_rewind_counts),
        cmocka_unit_test(a_reset_that_waits_is_dropped),
        cmocka_unit_test(a_rewind_that_fails_halfway_leaves_the_vm_stopped),
        cmocka_unit_test(a_log_that_cannot_be_read_changes_nothing),
        cmocka_unit_test(a_copy_that_was_killed_changes_nothing),
        cmocka_unit_test(commands_at_the_wrong_time_are_refused),
    };
    return block_test_main(tests);
}
