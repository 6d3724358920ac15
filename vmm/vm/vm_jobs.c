/* SPDX-License-Identifier: Apache-2.0 */
/* The VM as its jobs' host: the operation lock they end under, and the events that tell of them. */
#include <string.h>
#include "vmm/monitor/qmp/qmp.h"
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

static RUNS_IN_MAIN void vm_jobs_tell_status(const Job *job)
{
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "id", job_id(job));
    qmp_put_str(data, "status", job_status_names[job_status(job)]);
    qmp_event_emit("JOB_STATUS_CHANGE", data);
}

static RUNS_IN_MAIN void vm_jobs_tell_pending(const Job *job)
{
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "type", job_driver(job)->type);
    qmp_put_str(data, "id", job_id(job));
    qmp_event_emit("BLOCK_JOB_PENDING", data);
}

static RUNS_IN_MAIN void vm_jobs_tell_block_job(const Job *job, const char *event)
{
    struct json_object *data = json_object_new_object();
    qmp_put_block_job(data, job);
    qmp_put_int(data, "speed", (int64_t)job_speed(job));
    if (strcmp(event, "BLOCK_JOB_COMPLETED") == 0 && job_error_text(job) != NULL) {
        qmp_put_str(data, "error", job_error_text(job));
    }
    qmp_event_emit(event, data);
}

static void vm_jobs_event(void *opaque, const Job *job, JobEvent event)
{
    enter_main();
    if (event == JOB_EVENT_STATUS) {
        vm_jobs_tell_status(job);
    } else if (!job_driver(job)->is_block_job) {
        return; /* JOB_STATUS_CHANGE says it all */
    } else if (event == JOB_EVENT_PENDING) {
        vm_jobs_tell_pending(job);
    } else {
        vm_jobs_tell_block_job(job, event == JOB_EVENT_READY       ? "BLOCK_JOB_READY"
                                    : event == JOB_EVENT_CANCELLED ? "BLOCK_JOB_CANCELLED"
                                                                   : "BLOCK_JOB_COMPLETED");
    }
}

static void vm_jobs_io_error(void *opaque, const Job *job, bool is_read, JobErrorAction action)
{
    static const char *const actions[] = {[JOB_ON_ERROR_REPORT] = "report",
                                          [JOB_ON_ERROR_IGNORE] = "ignore",
                                          [JOB_ON_ERROR_STOP] = "stop"};
    enter_main();
    if (!job_driver(job)->is_block_job) {
        return;
    }
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "device", job_id(job));
    qmp_put_str(data, "operation", is_read ? "read" : "write");
    qmp_put_str(data, "action", actions[action]);
    qmp_event_emit("BLOCK_JOB_ERROR", data);
}

void vm_jobs_init(Vm *vm)
{
    static const JobHost host = {.co_operation_begin = vm_jobs_co_begin,
                                 .co_operation_end = vm_jobs_co_end,
                                 .event = vm_jobs_event,
                                 .io_error = vm_jobs_io_error};
    jobs_init(vm->ctx, &host, vm);
}
