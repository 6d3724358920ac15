/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: the verbs, and the cancellation of all jobs at shutdown. */
#include "util/job/job_int.h"
#include "util/trace_events.h"

const char *const job_verb_names[] = {"cancel",   "pause",    "resume",  "set-speed", "change",
                                      "complete", "finalize", "dismiss", NULL};
G_STATIC_ASSERT(G_N_ELEMENTS(job_verb_names) == JOB_VERB_COUNT + 1);

static const unsigned job_verb_sets[JOB_VERB_COUNT] = {
    [JOB_VERB_CANCEL] = JOB_IN(CREATED) | JOB_STEPPING | JOB_IN(WAITING) | JOB_IN(PENDING),
    [JOB_VERB_PAUSE] = JOB_IN(CREATED) | JOB_STEPPING,
    [JOB_VERB_RESUME] = JOB_IN(CREATED) | JOB_STEPPING,
    [JOB_VERB_SET_SPEED] = JOB_IN(CREATED) | JOB_STEPPING,
    [JOB_VERB_CHANGE] = JOB_IN(CREATED) | JOB_STEPPING,
    [JOB_VERB_COMPLETE] = JOB_IN(READY),
    [JOB_VERB_FINALIZE] = JOB_IN(PENDING),
    [JOB_VERB_DISMISS] = JOB_IN(CONCLUDED),
};

bool job_verb_check(const Job *job, JobVerb verb, GError **error)
{
    bool legal = job_status_in(job, job_verb_sets[verb]);
    trace_job_verb(job->id, job_verb_names[verb], legal);
    if (!legal) {
        g_set_error(error, JOB_ERROR, JOB_ERROR_VERB,
                    "Job '%s' in state '%s' cannot accept command verb '%s'", job->id,
                    job_status_names[job->status], job_verb_names[verb]);
    }
    return legal;
}

static bool job_refuse(GError **error, const char *why)
{
    g_set_error_literal(error, JOB_ERROR, JOB_ERROR_VERB, why);
    return false;
}

bool job_cancel(Job *job, bool force, GError **error)
{
    if (!job_verb_check(job, JOB_VERB_CANCEL, error)) {
        return false;
    }
    if (job->cancelled || job->decided) {
        return true;
    }
    job->pause = false;
    if (job->status == JOB_STATUS_CREATED || job->driver->cancel == NULL ||
        job->driver->cancel(job, force)) {
        job->cancelled = true;
    }
    if (job->status == JOB_STATUS_CREATED) {
        co_start(job_main_context(), job_run, job);
    } else if (job_status_in(job, JOB_IN(PAUSED) | JOB_IN(STANDBY))) {
        job_continue(job);
    } else if (job->arrived && job->cancelled) {
        job_txn_fail(job->txn);
    }
    job_kick(job);
    return true;
}

bool job_pause(Job *job, GError **error)
{
    if (!job_verb_check(job, JOB_VERB_PAUSE, error)) {
        return false;
    }
    if (job->pause) {
        return job_refuse(error, "Job is already paused");
    }
    job->pause = true;
    job_kick(job);
    return true;
}

bool job_resume(Job *job, GError **error)
{
    if (!job_verb_check(job, JOB_VERB_RESUME, error)) {
        return false;
    }
    if (!job->pause) {
        return job_refuse(error, "Can't resume a job that was not paused");
    }
    job->pause = false;
    job->io_status = JOB_IO_OK;
    job_continue(job);
    job_kick(job);
    return true;
}

bool job_complete(Job *job, GError **error)
{
    if (!job_verb_check(job, JOB_VERB_COMPLETE, error)) {
        return false;
    }
    if (job->cancelled || !job->driver->can_complete) {
        g_set_error(error, JOB_ERROR, JOB_ERROR_VERB,
                    "The active block job '%s' cannot be completed", job->id);
        return false;
    }
    job->complete = true;
    job_kick(job);
    return true;
}

bool job_set_speed(Job *job, uint64_t speed, GError **error)
{
    if (!job_verb_check(job, JOB_VERB_SET_SPEED, error)) {
        return false;
    }
    job->speed = speed;
    job_kick(job);
    return true;
}

bool job_change(Job *job, void (*apply)(Job *job), GError **error)
{
    if (!job_verb_check(job, JOB_VERB_CHANGE, error)) {
        return false;
    }
    apply(job);
    job_kick(job); /* last: a data step that looked before the change waits for ever */
    return true;
}

bool job_dismiss(Job *job, GError **error)
{
    if (!job_verb_check(job, JOB_VERB_DISMISS, error)) {
        return false;
    }
    job_remove(job);
    return true;
}

bool job_co_finalize(Job *job, GError **error)
{
    if (!job_verb_check(job, JOB_VERB_FINALIZE, error)) {
        return false;
    }
    if (!job_txn_awaits_finalize(job->txn)) {
        return job_refuse(error, "The job is being finalized already");
    }
    job->txn->finalize = true;
    job_ref(job);
    job_txn_wake(job->txn);
    co_queue_wait(&job->concluded, "the end of a job");
    job_unref(job);
    return true;
}

void job_co_await(Job *job)
{
    while (!job_status_in(job, JOB_IN(CONCLUDED) | JOB_IN(NULL))) {
        co_queue_wait(&job->concluded, "the end of a job");
    }
}

/* ---- shutdown ---- */

void jobs_cancel_all(void)
{
    Job *job;
    for (unsigned i = 0; (job = job_at(i)) != NULL; i++) {
        if (job_status_in(job, job_verb_sets[JOB_VERB_CANCEL])) {
            job_cancel(job, true, NULL);
        }
    }
}

/* Returns a job that was started or cancelled and has not concluded, or NULL. */
static RUNS_IN_MAIN Job *job_first_active(void)
{
    Job *job;
    for (unsigned i = 0; (job = job_at(i)) != NULL; i++) {
        if (!job_status_in(job, JOB_IN(CONCLUDED)) && (job->started || job->cancelled)) {
            return job;
        }
    }
    return NULL;
}

void jobs_co_settle(void)
{
    Job *job;
    while ((job = job_first_active()) != NULL) {
        co_queue_wait(&job->concluded, "the end of a job");
    }
}
