/* SPDX-License-Identifier: Apache-2.0 */
#include "util/state/state.h"
#include "vmm/snapshot/machine_outside.h"
#include "vmm/snapshot/rewind_int.h"
#include "vmm/snapshot/savevm.h"

bool rewind_refuse(GError **error, const char *text)
{
    g_set_error_literal(error, STATE_ERROR, STATE_ERROR_MACHINE, text);
    return false;
}

static void rewind_look_at_job(const Job *job, void *opaque)
{
    enter_main();
    const Job **running = opaque;
    JobStatus status = job_status(job);
    if (status != JOB_STATUS_CONCLUDED && status != JOB_STATUS_NULL) {
        *running = job;
    }
}

bool rewind_check_quiet(const Vm *vm, GError **error)
{
    const Job *running = NULL;
    SavevmState save = savevm_info().state;
    if (vm->life.quitting) {
        return rewind_refuse(error, "skiff quits");
    }
    if (vm->life.ending != NULL) {
        return rewind_refuse(error, "what -exec's command has read and printed cannot go back");
    }
    if (save == SAVEVM_ACTIVE || save == SAVEVM_COMPLETED) {
        return rewind_refuse(error, "a save is under way or waits for savevm-end");
    }
    job_foreach(rewind_look_at_job, &running);
    if (running != NULL) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "job '%s' is not over: wait for its end, or cancel it", job_id(running));
        return false;
    }
    return vm_check_no_removal(vm, error) && machine_outside_check(vm->machine.devices, error);
}
