/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs, the part in main: life cycle, verbs, states. */
#include <errno.h>
#include <string.h>
#include "util/job/job_int.h"
#include "util/opts/opts.h"
#include "util/loop/sched_point.h"
#include "util/trace_events.h"

/* Main only, except main_ctx, which is set once. */
static struct {
    AioContext *main_ctx;
    const JobHost *host;
    void *opaque;
    GPtrArray *list; /* NULL when there is none */
} jobs;

const char *const job_status_names[] = {"undefined", "created",   "running", "paused",
                                        "ready",     "standby",   "waiting", "pending",
                                        "aborting",  "concluded", "null",    NULL};
G_STATIC_ASSERT(G_N_ELEMENTS(job_status_names) == JOB_STATUS_COUNT + 1);

const char *const job_io_status_names[] = {"ok", "failed", "nospace", NULL};

GQuark job_error_quark(void)
{
    return g_quark_from_static_string("skiff-job");
}

void jobs_init(AioContext *main_ctx, const JobHost *host, void *opaque)
{
    static const JobHost none;
    if (jobs.list != NULL) {
        bug_abort("the jobs' host changes while there are jobs");
    }
    jobs.main_ctx = main_ctx;
    jobs.host = host != NULL ? host : &none;
    jobs.opaque = opaque;
}

AioContext *job_main_context(void)
{
    return jobs.main_ctx;
}

const JobHost *job_host(void **opaque)
{
    *opaque = jobs.opaque;
    return jobs.host;
}

/* ---- states ---- */

#define S(status) (1u << JOB_STATUS_##status)

/* The function that makes each transition. */
#define BY(status, maker) [JOB_STATUS_##status] = #maker
static const char *const job_moves[JOB_STATUS_COUNT][JOB_STATUS_COUNT] = {
    [JOB_STATUS_UNDEFINED] = {BY(CREATED, job_new)},
    [JOB_STATUS_CREATED] = {BY(RUNNING, job_start), BY(ABORTING, job_txn_co_arrive),
                            BY(NULL, job_remove)},
    [JOB_STATUS_RUNNING] = {BY(PAUSED, job_wait_while_paused), BY(READY, job_become_ready),
                            BY(WAITING, job_txn_co_arrive), BY(ABORTING, job_txn_co_arrive)},
    [JOB_STATUS_PAUSED] = {BY(RUNNING, job_continue)},
    [JOB_STATUS_READY] = {BY(STANDBY, job_wait_while_paused), BY(WAITING, job_txn_co_arrive),
                          BY(ABORTING, job_txn_co_arrive)},
    [JOB_STATUS_STANDBY] = {BY(READY, job_continue)},
    [JOB_STATUS_WAITING] = {BY(PENDING, job_txn_pend), BY(ABORTING, job_txn_give_up)},
    [JOB_STATUS_PENDING] = {BY(ABORTING, job_txn_give_up), BY(CONCLUDED, job_conclude)},
    [JOB_STATUS_ABORTING] = {BY(CONCLUDED, job_conclude)},
    [JOB_STATUS_CONCLUDED] = {BY(NULL, job_remove)},
};

void assert_job_state(const Job *job)
{
    bool paused = job_status_in(job, S(PAUSED) | S(STANDBY));
    if (paused && (!job->waiting || !job->stepping)) {
        bug_abort("invariant 2: job '%s' is %s but its data step is not at a pause point", job->id,
                  job_status_names[job->status]);
    }
    if (job->stepping && !job_status_in(job, JOB_STEPPING)) {
        bug_abort("invariant 3: job '%s' is %s and its data step runs", job->id,
                  job_status_names[job->status]);
    }
    if (job->decided && !job_status_in(job, S(PENDING) | S(ABORTING) | S(CONCLUDED) | S(NULL))) {
        bug_abort("invariant 4: job '%s' is %s and decided already", job->id,
                  job_status_names[job->status]);
    }
    if (job->decided && job->committed == (job->error != NULL)) {
        bug_abort("invariant 6: job '%s' was %s and %s an error", job->id,
                  job->committed ? "committed" : "aborted", job->error != NULL ? "has" : "lacks");
    }
    if (job->status == JOB_STATUS_PENDING && !job->decided && job->txn->missing > 0) {
        bug_abort("invariant 7: job '%s' is pending and its transaction lacks %u jobs", job->id,
                  job->txn->missing);
    }
}

void job_emit(const Job *job, JobEvent event)
{
    if (jobs.host->event != NULL) {
        jobs.host->event(jobs.opaque, job, event);
    }
}

void job_move_by(Job *job, JobStatus to, const char *by)
{
    JobStatus from = job->status;
    const char *maker = job_moves[from][to];
    if (maker == NULL || strcmp(maker, by) != 0) {
        bug_abort("invariant 1: job '%s' is moved from %s to %s by %s()", job->id,
                  job_status_names[from], job_status_names[to], by);
    }
    job->status = to;
    assert_job_state(job);
    trace_job_status(job->id, job_status_names[from], job_status_names[to]);
    SP("job.moved", job);
    job_emit(job, JOB_EVENT_STATUS);
}
/* ---- waiting in main ---- */

static coroutine_fn RUNS_IN_MAIN void job_wait(Job *job)
{
    co_wait(job->waiter);
}

/* Arms the token; called before the state shows that the job waits. Then job_wait(). */
static coroutine_fn RUNS_IN_MAIN void job_wait_prepare(Job *job)
{
    job->waiter = co_arm();
    job->waiting = true;
}

void job_wake(Job *job)
{
    if (job->waiting) {
        job->waiting = false;
        co_wake(job->waiter);
    }
}

void job_kick(Job *job)
{
    if (job->stepping) {
        aio_bh_schedule(&job->kick_bh);
        SP("job.kick", job);
    }
}

static bool job_must_pause(const Job *job)
{
    return job->pause && !job->cancelled;
}

void job_wait_while_paused(void *opaque)
{
    enter_main();
    enter_coroutine();
    Job *job = opaque;
    while (job_must_pause(job)) {
        job_wait_prepare(job);
        job_move(job, job->status == JOB_STATUS_READY ? JOB_STATUS_STANDBY : JOB_STATUS_PAUSED);
        job_wait(job);
    }
}

void job_continue(Job *job)
{
    if (job_status_in(job, S(PAUSED) | S(STANDBY))) {
        job_move(job, job->status == JOB_STATUS_STANDBY ? JOB_STATUS_READY : JOB_STATUS_RUNNING);
        job_wake(job);
    }
}

void job_become_ready(Job *job)
{
    job_move(job, JOB_STATUS_READY);
    job_emit(job, JOB_EVENT_READY);
}

/* ---- the end ---- */

void job_remove(Job *job)
{
    job_move(job, JOB_STATUS_NULL);
    job_txn_leave(job);
    g_ptr_array_remove(jobs.list, job);
    if (jobs.list->len == 0) {
        g_clear_pointer(&jobs.list, g_ptr_array_unref);
    }
    job_unref(job);
}

void job_conclude(Job *job)
{
    if (job->started) {
        job_emit(job,
                 job->cancelled && !job->committed ? JOB_EVENT_CANCELLED : JOB_EVENT_COMPLETED);
    }
    job_move(job, JOB_STATUS_CONCLUDED);
    co_queue_wake_all(&job->concluded);
    if (job->auto_dismiss || !job->started) {
        job_remove(job);
    }
}

/* A job until the end of its data step. The last one of its transaction concludes all. */
void job_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    Job *job = opaque;
    job_ref(job);
    if (job->stepping) {
        co_call_lasting_in(job->home, job_step_run, job);
        job->stepping = false;
        job->ret = job->step_ret;
        job->error = g_steal_pointer(&job->step_error);
        trace_job_data_step(job->id, job->ret);
        co_call_in(job->home, job_step_retire, job);
    }
    job_txn_co_arrive(job);
    job_unref(job);
}

/* ---- making ---- */

Job *job_new(const JobDriver *driver, const JobConfig *config, void *state, GError **error)
{
    if (!opt_id_valid(config->id)) {
        g_autofree char *excerpt = opt_excerpt(config->id);
        g_set_error(error, JOB_ERROR, JOB_ERROR_ID,
                    "Invalid job ID '%s': it must begin with a letter and contain only letters, "
                    "digits, '-', '.' and '_'",
                    excerpt);
        return NULL;
    }
    if (job_find(config->id) != NULL) {
        g_set_error(error, JOB_ERROR, JOB_ERROR_ID, "Job ID '%s' already in use", config->id);
        return NULL;
    }
    Job *job = g_new0(Job, 1);
    job->driver = driver;
    job->home = config->home;
    job->state = state;
    job->id = g_strdup(config->id);
    job->auto_finalize = !config->manual_finalize;
    job->auto_dismiss = !config->manual_dismiss;
    job->refs = 1;
    atomic_init(&job->speed, config->speed);
    co_queue_init(&job->concluded);
    aio_bh_init(&job->kick_bh, job->home, job_step_kicked, job);
    if (jobs.list == NULL) {
        jobs.list = g_ptr_array_new();
    }
    g_ptr_array_add(jobs.list, job);
    job_txn_join(job, config->txn);
    job_move(job, JOB_STATUS_CREATED);
    return job;
}

void job_start(Job *job)
{
    if (job->cancelled) {
        return;
    }
    if (job->txn->failed) {
        job_cancel(job, true, NULL);
        return;
    }
    job->started = true;
    job_move(job, JOB_STATUS_RUNNING);
    job->stepping = true;
    co_start(jobs.main_ctx, job_run, job);
}

void job_abandon(Job *job)
{
    if (!job->cancelled) { /* otherwise job_cancel() has started its end */
        job_remove(job);
    }
}

void job_ref(Job *job)
{
    job->refs++;
}

void job_unref(Job *job)
{
    if (--job->refs > 0) {
        return;
    }
    if (job->driver->free != NULL) {
        job->driver->free(job->state);
    }
    g_free(job->id);
    g_free(job->error);
    g_free(job);
}

Job *job_at(unsigned index)
{
    return jobs.list != NULL && index < jobs.list->len ? g_ptr_array_index(jobs.list, index) : NULL;
}

Job *job_find(const char *id)
{
    Job *job;
    for (unsigned i = 0; (job = job_at(i)) != NULL; i++) {
        if (strcmp(job->id, id) == 0) {
            return job;
        }
    }
    return NULL;
}

void job_foreach(void (*fn)(const Job *job, void *opaque), void *opaque)
{
    Job *job;
    for (unsigned i = 0; (job = job_at(i)) != NULL; i++) {
        fn(job, opaque);
    }
}
