/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/vm.h"

static void vm_jobs_co_begin(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&((Vm *)opaque)->run);
}

static void vm_jobs_co_end(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_end(&((Vm *)opaque)->run);
}

static void vm_jobs_event(void *opaque, const Job *job, JobEvent event)
{
    enter_main();
    VM_ANNOUNCE((Vm *)opaque, job, job, event);
}

static void vm_jobs_io_error(void *opaque, const Job *job, bool is_read, JobErrorAction action)
{
    enter_main();
    VM_ANNOUNCE((Vm *)opaque, job_io_error, job, is_read, action);
}

void vm_jobs_init(Vm *vm)
{
    static const JobHost host = {.co_operation_begin = vm_jobs_co_begin,
                                 .co_operation_end = vm_jobs_co_end,
                                 .event = vm_jobs_event,
                                 .io_error = vm_jobs_io_error};
    jobs_init(vm->ctx, &host, vm);
}
