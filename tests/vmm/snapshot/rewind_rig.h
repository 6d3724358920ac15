/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of savevm_rig.h, which goes back to a point. */
#ifndef SKIFF_TESTS_VMM_SNAPSHOT_REWIND_RIG_H
#define SKIFF_TESTS_VMM_SNAPSHOT_REWIND_RIG_H

#include "tests/vmm/snapshot/savevm_rig.h"
#include "vmm/snapshot/rewind.h"

static bool sync_fails;

static inline bool rewind_log_sync(void *opaque, const GuestRam *ram, GError **error)
{
    if (sync_fails) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "KVM_GET_DIRTY_LOG: no");
    }
    return !sync_fails;
}

static const GuestRamLogOps rewind_log = {rig_log_start, rig_log_stop, rewind_log_sync};

static inline coroutine_fn RUNS_IN_MAIN void held_init(void)
{
    rig_init();
    sync_fails = false;
    vm_hotplug_init(&rig->vm);
    rig->vm.machine.ram.log_ops = &rewind_log;
    rig->vm.machine.devices = g_ptr_array_new();
}

static inline coroutine_fn RUNS_IN_MAIN void held_clear(void)
{
    rewind_co_end(&rig->vm, NULL);
    assert_int_equal(rewind_info().state, REWIND_NONE);
    assert_false(rig->vm.machine.ram.logging);
    vm_hotplug_clear(&rig->vm);
    g_ptr_array_unref(rig->vm.machine.devices);
    rig_clear();
}

static inline coroutine_fn RUNS_IN_MAIN void take_point(void)
{
    g_autoptr(GError) error = NULL;
    if (!rewind_co_point(&rig->vm, &error)) {
        fail_msg("x-rewind-point: %s", error->message);
    }
    assert_int_equal(rewind_info().state, REWIND_HELD);
}

static inline coroutine_fn RUNS_IN_MAIN void go_back(void)
{
    g_autoptr(GError) error = NULL;
    unsigned before = rig->loads;
    if (!rewind_co_back(&rig->vm, &error)) {
        fail_msg("x-rewind: %s", error->message);
    }
    assert_int_equal(rig->loads, before + 1);
    assert_int_equal(rewind_info().state, REWIND_HELD);
}

static inline coroutine_fn RUNS_IN_MAIN void expect_refused(bool (*command)(Vm *vm, GError **error),
                                                            const char *text)
{
    g_autoptr(GError) error = NULL;
    assert_false(command(&rig->vm, &error));
    if (strstr(error->message, text) == NULL) {
        fail_msg("'%s' has no '%s'", error->message, text);
    }
}

#endif
