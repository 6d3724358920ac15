/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs, the part of the data step: pause points, sleeps, progress; and queries. */
#include <errno.h>
#include "util/loop/held.h"
#include "util/job/job_int.h"
#include "util/loop/sched_point.h"

#define JOB_SECOND_NS 1000000000u

/* ---- the data step, in its home context ---- */

void job_step_run(void *opaque)
{
    Job *job = opaque;
    enter_loop(job->home);
    enter_coroutine();
    GError *error = NULL;
    int ret = job_co_pause_point(job) ? job->driver->co_run(job, &error) : -ECANCELED;
    SP("job.step_done", job);
    if (ret > 0 || (ret == 0 && error != NULL)) {
        bug_abort("job '%s': its data step returned %d%s", job->id, ret,
                  error != NULL ? " and an error" : "");
    }
    job->step_ret = ret;
    if (ret < 0) {
        job->step_error = g_strdup(error != NULL ? error->message : g_strerror(-ret));
    }
    g_clear_error(&error);
}

void job_step_retire(void *opaque)
{
    Job *job = opaque;
    enter_loop(job->home);
    aio_bh_cancel(&job->kick_bh);
}

static void job_step_wake(void *opaque)
{
    Job *job = opaque;
    job->sleeping = false;
    job->in_wait = false;
    co_wake(job->sleeper);
}

/* Ends a sleep or wait early. */
static void job_step_interrupt(Job *job)
{
    aio_timer_disarm(&job->sleep_timer);
    job_step_wake(job);
}

void job_step_kicked(void *opaque)
{
    Job *job = opaque;
    enter_loop(job->home);
    if (job->sleeping || job->in_wait) {
        job_step_interrupt(job);
    }
}

bool job_co_pause_point(Job *job)
{
    assert_home(job->home);
    held_assert_none("the pause point of a job");
    SP("job.pause_point", job);
    if (job->pause && !job->cancelled) {
        co_call_lasting_in(job_main_context(), job_wait_while_paused, job);
    }
    return !job->cancelled;
}

bool job_co_sleep_ns(Job *job, int64_t duration_ns)
{
    if (!job_co_pause_point(job)) {
        return false;
    }
    job->sleeper = co_arm();
    job->sleeping = true;
    aio_timer_init(&job->sleep_timer, job->home, job_step_wake, job);
    aio_timer_arm(&job->sleep_timer, aio_now_ns(job->home) + duration_ns);
    co_wait(job->sleeper);
    return job_co_pause_point(job);
}

void job_co_wait(Job *job, int64_t deadline_ns)
{
    assert_home(job->home);
    job->sleeper = co_arm();
    job->in_wait = true;
    aio_timer_init(&job->sleep_timer, job->home, job_step_wake, job);
    if (deadline_ns != INT64_MAX) {
        aio_timer_arm(&job->sleep_timer, deadline_ns);
    }
    co_wait(job->sleeper);
}

void job_signal(Job *job)
{
    assert_home(job->home);
    if (job->in_wait) {
        job_step_interrupt(job);
    }
}

bool job_co_throttle(Job *job, uint64_t bytes)
{
    uint64_t speed = job->speed;
    if (speed == 0) {
        return job_co_pause_point(job);
    }
    double delay_ns = (double)bytes / (double)speed * JOB_SECOND_NS;
    return job_co_sleep_ns(job, (int64_t)MIN(delay_ns, (double)(INT64_MAX / 4)));
}

static void job_ready_in_main(void *opaque)
{
    enter_main();
    enter_coroutine();
    job_become_ready(opaque);
}

void job_co_ready(Job *job)
{
    assert_home(job->home);
    co_call_in(job_main_context(), job_ready_in_main, job);
}

/* ---- I/O errors ---- */

typedef struct JobIoErrorCall {
    Job *job;
    const JobIoError *error;
} JobIoErrorCall;

static void job_io_error_in_main(void *opaque)
{
    enter_main();
    enter_coroutine();
    const JobIoErrorCall *call = opaque;
    const JobIoError *e = call->error;
    Job *job = call->job;
    void *host_opaque;
    const JobHost *host = job_host(&host_opaque);
    if (host->io_error != NULL) {
        host->io_error(host_opaque, job, e->is_read, e->action);
    }
    if (e->action == JOB_ON_ERROR_STOP && !job->cancelled) {
        job->io_status = e->no_space ? JOB_IO_NOSPACE : JOB_IO_FAILED;
        job->pause = true;
        job_wait_while_paused(job);
    }
}

bool job_co_io_error(Job *job, const JobIoError *error)
{
    assert_home(job->home);
    held_assert_none("the pause point of a job");
    JobIoErrorCall call = {.job = job, .error = error};
    co_call_lasting_in(job_main_context(), job_io_error_in_main, &call);
    return error->action != JOB_ON_ERROR_REPORT && !job->cancelled;
}

/* ---- queries ---- */

const char *job_id(const Job *job)
{
    return job->id;
}

const JobDriver *job_driver(const Job *job)
{
    return job->driver;
}

void *job_state(const Job *job)
{
    return job->state;
}

bool job_is_cancelled(const Job *job)
{
    return job->cancelled;
}

bool job_should_complete(const Job *job)
{
    return job->complete;
}

bool job_should_pause(const Job *job)
{
    return job->pause && !job->cancelled;
}

uint64_t job_speed(const Job *job)
{
    return job->speed;
}

void job_progress_set_total(Job *job, uint64_t total)
{
    job->progress_total = total;
}

void job_progress_add(Job *job, uint64_t done)
{
    job->progress += done;
}

void job_progress_get(const Job *job, uint64_t *current, uint64_t *total)
{
    *current = job->progress;
    *total = job->progress_total;
}

JobStatus job_status(const Job *job)
{
    return job->status;
}

bool job_user_paused(const Job *job)
{
    return job->pause;
}

bool job_busy(const Job *job)
{
    return job->stepping && !job->waiting && !job->sleeping;
}

JobIoStatus job_io_status(const Job *job)
{
    return job->io_status;
}

bool job_auto_finalize(const Job *job)
{
    return job->auto_finalize;
}

bool job_auto_dismiss(const Job *job)
{
    return job->auto_dismiss;
}

const char *job_error_text(const Job *job)
{
    return job->error;
}
