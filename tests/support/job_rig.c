/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/job_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "util/loop/sched_point.h"

static void rig_operation_begin(void *opaque)
{
    enter_coroutine();
    JobRig *rig = opaque;
    co_mutex_lock(&rig->operation);
    rig->operations++;
}

static void rig_operation_end(void *opaque)
{
    enter_coroutine();
    co_mutex_unlock(&((JobRig *)opaque)->operation);
}

static void rig_event(void *opaque, const Job *job, JobEvent event)
{
    enter_main();
    JobRig *rig = opaque;
    static const char *const names[] = {[JOB_EVENT_READY] = "READY!",
                                        [JOB_EVENT_PENDING] = "PENDING!",
                                        [JOB_EVENT_COMPLETED] = "COMPLETED!",
                                        [JOB_EVENT_CANCELLED] = "CANCELLED!"};
    assert_job_state(job);
    g_string_append_printf(rig->log, "%s%s", rig->log->len != 0 ? " " : "",
                           event == JOB_EVENT_STATUS ? job_status_names[job_status(job)]
                                                     : names[event]);
}

static void rig_io_error(void *opaque, const Job *job, bool is_read, JobErrorAction action)
{
    JobRig *rig = opaque;
    g_string_append_printf(rig->log, " %s-error", is_read ? "read" : "write");
}

static const JobHost rig_host = {.co_operation_begin = rig_operation_begin,
                                 .co_operation_end = rig_operation_end,
                                 .event = rig_event,
                                 .io_error = rig_io_error};

int job_rig_setup(void **state)
{
    JobRig *rig = g_new0(JobRig, 1);
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    rig->ctx = aio_context_new("main", NULL);
    rig->now_ns = 1;
    aio_context_set_virtual_time(rig->ctx, rig->now_ns);
    rig->log = g_string_new(NULL);
    rig->s.unit_ns = JOB_RIG_UNIT_NS;
    co_mutex_init(&rig->operation, RANK_OPERATION, "operation lock");
    jobs_init(rig->ctx, &rig_host, rig);
    *state = rig;
    return 0;
}

int job_rig_teardown(void **state)
{
    JobRig *rig = *state;
    sched_point_reset();
    aio_context_free(rig->ctx);
    g_string_free(rig->log, TRUE);
    g_free(rig);
    return 0;
}

void job_rig_settle(JobRig *rig)
{
    while (aio_context_step(rig->ctx, false)) {
    }
}

void job_rig_advance(JobRig *rig, unsigned units)
{
    for (unsigned i = 0; i < units; i++) {
        rig->now_ns += JOB_RIG_UNIT_NS;
        aio_context_set_virtual_time(rig->ctx, rig->now_ns);
        job_rig_settle(rig);
    }
}

Job *job_rig_new(JobRig *rig, bool manual)
{
    JobConfig config = {
        .id = "job0", .home = rig->ctx, .manual_finalize = manual, .manual_dismiss = manual};
    rig->job = job_new(&sample_job_driver, &config, &rig->s, NULL);
    assert_non_null(rig->job);
    return rig->job;
}

Job *job_rig_start(JobRig *rig, bool manual)
{
    job_start(job_rig_new(rig, manual));
    job_rig_settle(rig);
    return rig->job;
}

void job_rig_drive_to(JobRig *rig, JobStatus status)
{
    rig->s = (SampleJob){.unit_ns = JOB_RIG_UNIT_NS, .units = 1, .wants_complete = true};
    switch (status) {
    case JOB_STATUS_CREATED:
        job_rig_new(rig, true);
        return;
    case JOB_STATUS_RUNNING:
        job_rig_start(rig, true);
        return;
    case JOB_STATUS_PAUSED:
        assert_true(job_pause(job_rig_start(rig, true), NULL));
        break;
    case JOB_STATUS_READY:
        job_rig_start(rig, true);
        job_rig_advance(rig, 1);
        return;
    case JOB_STATUS_STANDBY:
        job_rig_start(rig, true);
        job_rig_advance(rig, 1);
        assert_true(job_pause(rig->job, NULL));
        break;
    case JOB_STATUS_PENDING:
        job_rig_start(rig, true);
        job_rig_advance(rig, 1);
        assert_true(job_complete(rig->job, NULL));
        break;
    case JOB_STATUS_ABORTING:
        rig->s.clean_yields = true;
        assert_true(job_cancel(job_rig_start(rig, true), true, NULL));
        break;
    default:
        assert_true(job_cancel(job_rig_start(rig, true), true, NULL));
        break;
    }
    job_rig_settle(rig);
}

void job_rig_dispose(JobRig *rig)
{
    if (job_status(rig->job) != JOB_STATUS_CONCLUDED) {
        job_cancel(rig->job, true, NULL);
        job_rig_settle(rig);
    }
    while (rig->s.waiting) {
        sample_job_continue(&rig->s);
        job_rig_settle(rig);
    }
    if (job_find("job0") != NULL) {
        assert_true(job_dismiss(rig->job, NULL));
    }
    assert_null(job_find("job0"));
    assert_int_equal(rig->s.frees, 1);
}
