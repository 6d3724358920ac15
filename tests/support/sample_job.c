/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sample_job.h"

#include <errno.h>

#define UNIT_BYTES 1000u

static coroutine_fn RUNS_IN_LOOP bool sample_unit(Job *job, SampleJob *s)
{
    while (s->io_errors > 0) {
        s->io_errors--;
        if (!job_co_io_error(job, &s->io_error)) {
            return false;
        }
    }
    bool go_on = true;
    if (s->throttled) {
        go_on = job_co_throttle(job, UNIT_BYTES);
    } else if (s->unit_ns != 0) {
        go_on = job_co_sleep_ns(job, s->unit_ns);
    } else {
        co_yield_turn();
        go_on = job_co_pause_point(job);
    }
    if (go_on) {
        job_progress_add(job, 1);
    }
    return go_on;
}

static int sample_run(Job *job, GError **error)
{
    enter_coroutine();
    enter_loop(aio_context_current());
    SampleJob *s = job_state(job);
    s->runs++;
    job_progress_set_total(job, s->units);
    for (unsigned i = 0; i < s->units; i++) {
        if (!sample_unit(job, s)) {
            return job_is_cancelled(job) ? -ECANCELED : -EIO;
        }
    }
    if (s->wants_complete) {
        job_co_ready(job);
        while (!job_should_complete(job)) {
            if (!job_co_sleep_ns(job, INT64_C(3600) * 1000000000)) {
                return -ECANCELED;
            }
        }
    }
    if (s->ret < 0 && s->error != NULL) {
        g_set_error_literal(error, JOB_ERROR, JOB_ERROR_VERB, s->error);
    }
    return s->ret;
}

static coroutine_fn void sample_stand(SampleJob *s)
{
    s->token = co_arm();
    s->waiting = true;
    co_wait(s->token);
}

void sample_job_continue(SampleJob *s)
{
    s->waiting = false;
    co_wake(s->token);
}

static int sample_prepare(Job *job, GError **error)
{
    enter_main();
    enter_coroutine();
    SampleJob *s = job_state(job);
    s->prepares++;
    if (s->prepare_yields) {
        sample_stand(s);
    }
    return s->prepare_ret;
}

static void sample_commit(Job *job)
{
    ((SampleJob *)job_state(job))->commits++;
}

static void sample_abort(Job *job)
{
    ((SampleJob *)job_state(job))->aborts++;
}

static void sample_clean(Job *job)
{
    enter_main();
    enter_coroutine();
    SampleJob *s = job_state(job);
    s->cleans++;
    if (s->clean_yields) {
        sample_stand(s);
    }
}

static bool sample_cancel(Job *job, bool force)
{
    enter_main();
    SampleJob *s = job_state(job);
    s->cancels++;
    if (!force && s->ends_well_unforced && job_status(job) == JOB_STATUS_READY) {
        job_complete(job, NULL);
        return false;
    }
    return true;
}

static void sample_free(void *state)
{
    ((SampleJob *)state)->frees++;
}

#define SAMPLE_OPS                                                                                 \
    .co_run = sample_run, .co_prepare = sample_prepare, .commit = sample_commit,                   \
    .abort = sample_abort, .co_clean = sample_clean, .cancel = sample_cancel, .free = sample_free

const JobDriver sample_job_driver = {
    .type = "mirror", .is_block_job = true, .can_complete = true, SAMPLE_OPS};
const JobDriver sample_plain_driver = {.type = "snapshot-save", SAMPLE_OPS};
