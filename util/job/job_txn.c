/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: the end. The data steps of a transaction end one after the other. The coroutine of the last
 * one then decides about all jobs and concludes them.
 */
#include <errno.h>
#include "util/job/job_int.h"
#include "util/loop/sched_point.h"

#define JOB_RETRY_NS INT64_C(100000000)
#define JOB_RETRY_MAX_NS INT64_C(5000000000)

/* ---- the operation lock ---- */

void job_co_operation_begin(void)
{
    void *opaque;
    const JobHost *host = job_host(&opaque);
    if (host->co_operation_begin != NULL) {
        host->co_operation_begin(opaque);
    }
}

void job_co_operation_end(void)
{
    void *opaque;
    const JobHost *host = job_host(&opaque);
    if (host->co_operation_end != NULL) {
        host->co_operation_end(opaque);
    }
}

/* ---- members ---- */

JobTxn *job_txn_new(void)
{
    JobTxn *txn = g_new0(JobTxn, 1);
    txn->jobs = g_ptr_array_new();
    co_queue_init(&txn->retry);
    return txn;
}

static void job_txn_free_if_empty(JobTxn *txn)
{
    if (txn->sealed && txn->jobs->len == 0) {
        g_ptr_array_unref(txn->jobs);
        g_free(txn);
    }
}

void job_txn_join(Job *job, JobTxn *txn)
{
    if (txn != NULL && txn->sealed) {
        bug_abort("job '%s' joins a transaction that is sealed", job->id);
    }
    job->txn = txn != NULL ? txn : job_txn_new();
    job->txn->sealed = txn == NULL;
    job->txn->missing++;
    g_ptr_array_add(job->txn->jobs, job);
}

void job_txn_leave(Job *job)
{
    JobTxn *txn = job->txn;
    job->txn = NULL;
    txn->missing -= !job->arrived;
    g_ptr_array_remove(txn->jobs, job);
    job_txn_free_if_empty(txn);
}

void job_txn_fail(JobTxn *txn)
{
    if (txn->failed) {
        return;
    }
    txn->failed = true;
    for (unsigned i = 0; i < txn->jobs->len; i++) {
        Job *job = txn->jobs->pdata[i];
        if (!job->arrived && !job->cancelled) {
            job_cancel(job, true, NULL);
        }
    }
    job_txn_wake(txn);
}

void job_txn_wake(JobTxn *txn)
{
    if (txn->waiting) {
        txn->waiting = false;
        co_wake(txn->waiter);
    }
    co_queue_wake_all(&txn->retry);
}

/* ---- the decision ---- */

static void job_fail(Job *job, int ret, GError *error)
{
    job->ret = ret;
    job->error = g_strdup(error != NULL ? error->message : g_strerror(-ret));
    g_clear_error(&error);
}

/* All data steps have succeeded. */
static RUNS_IN_MAIN void job_txn_pend(JobTxn *txn)
{
    for (unsigned i = 0; i < txn->jobs->len; i++) {
        Job *job = txn->jobs->pdata[i];
        job_move(job, JOB_STATUS_PENDING);
        if (!job->auto_finalize) {
            job_emit(job, JOB_EVENT_PENDING);
        }
    }
}

/* The jobs that have not failed themselves are cancelled. */
static RUNS_IN_MAIN void job_txn_give_up(JobTxn *txn)
{
    txn->failed = true;
    for (unsigned i = 0; i < txn->jobs->len; i++) {
        Job *job = txn->jobs->pdata[i];
        if (job->ret == 0) {
            job->cancelled = true;
            job_fail(job, -ECANCELED, NULL);
        }
        if (job->status != JOB_STATUS_ABORTING) {
            job_move(job, JOB_STATUS_ABORTING);
        }
    }
}

static bool job_txn_is_manual(const JobTxn *txn)
{
    bool manual = false;
    for (unsigned i = 0; i < txn->jobs->len; i++) {
        const Job *job = txn->jobs->pdata[i];
        manual = manual || !job->auto_finalize;
    }
    return manual;
}

bool job_txn_awaits_finalize(const JobTxn *txn)
{
    return !txn->failed && !txn->finalize && !txn->decided && job_txn_is_manual(txn);
}

static coroutine_fn RUNS_IN_MAIN void job_txn_co_await_finalize(JobTxn *txn)
{
    while (job_txn_awaits_finalize(txn)) {
        txn->waiter = co_arm();
        txn->waiting = true;
        co_wait(txn->waiter);
    }
}

/* 0; -EAGAIN: it is to be called again, which only the @first of a transaction can ask for; otherwise
 * the job's prepare has failed. */
static coroutine_fn RUNS_IN_MAIN int job_co_prepare(Job *job, bool first)
{
    GError *error = NULL;
    SP("job.prepare", job);
    int ret = job->driver->co_prepare != NULL ? job->driver->co_prepare(job, &error) : 0;
    if (ret == -EAGAIN && first) {
        g_clear_error(&error);
    } else if (ret < 0) {
        job_fail(job, ret, error);
    }
    return ret;
}

/* 0; -EAGAIN: nothing was done; otherwise the transaction is aborted. */
static coroutine_fn RUNS_IN_MAIN int job_txn_co_try_prepare(JobTxn *txn)
{
    int ret = 0;
    for (unsigned i = 0; i < txn->jobs->len && !txn->failed && ret == 0; i++) {
        ret = job_co_prepare(txn->jobs->pdata[i], i == 0);
        if (i > 0 && ret == -EAGAIN) {
            ret = -EBUSY;
        }
    }
    return txn->failed ? -ECANCELED : ret;
}

/* False: the transaction is aborted. The lock is released between two attempts: a cancel ends the wait,
 * and other operations go on. */
static coroutine_fn RUNS_IN_MAIN bool job_txn_co_prepare(JobTxn *txn)
{
    int ret;
    const AioContext *ctx = job_main_context();
    int64_t pause_ns = JOB_RETRY_NS;
    while ((ret = job_txn_co_try_prepare(txn)) == -EAGAIN) {
        job_co_operation_end();
        co_queue_wait_until(&txn->retry, "what keeps a job from its end",
                            aio_now_ns(ctx) + pause_ns);
        pause_ns = MIN(pause_ns * 2, JOB_RETRY_MAX_NS);
        job_co_operation_begin();
    }
    return ret == 0;
}

/* Commits or aborts all jobs, without yielding. */
static RUNS_IN_MAIN void job_txn_apply(JobTxn *txn, bool commit)
{
    for (unsigned i = 0; i < txn->jobs->len; i++) {
        Job *job = txn->jobs->pdata[i];
        void (*decision)(Job *) = commit ? job->driver->commit : job->driver->abort;
        job->committed = commit;
        if (decision != NULL) {
            decision(job);
        }
        job->decided = true;
        assert_job_state(job);
        SP("job.decided", job);
    }
}

/* Under the operation lock; called once. */
static coroutine_fn RUNS_IN_MAIN void job_txn_co_decide(JobTxn *txn)
{
    bool commit = !txn->failed && job_txn_co_prepare(txn);
    txn->decided = true;
    if (!commit) {
        job_txn_give_up(txn);
    }
    job_txn_apply(txn, commit);
    for (unsigned i = 0; i < txn->jobs->len; i++) {
        Job *job = txn->jobs->pdata[i];
        if (job->driver->co_clean != NULL) {
            job->driver->co_clean(job);
        }
    }
}

/* All jobs have arrived: everything up to their conclusion. */
static coroutine_fn RUNS_IN_MAIN void job_txn_co_end(JobTxn *txn)
{
    if (!txn->failed) {
        job_txn_pend(txn);
    }
    job_txn_co_await_finalize(txn);
    job_co_operation_begin();
    job_txn_co_decide(txn);
    job_co_operation_end();
    g_autoptr(GPtrArray) list = g_ptr_array_copy(txn->jobs, NULL, NULL); /* @txn may be freed */
    for (unsigned i = 0; i < list->len; i++) {
        job_conclude(list->pdata[i]);
    }
}

static bool job_txn_is_complete(const JobTxn *txn)
{
    return txn->sealed && txn->missing == 0 && txn->jobs->len > 0;
}

void job_txn_co_arrive(Job *job)
{
    job->pause = false; /* a pause has no effect from here on */
    if (job->ret == 0 && job->cancelled) {
        job_fail(job, -ECANCELED, NULL);
    }
    job->arrived = true;
    job->txn->missing--;
    job_move(job, job->ret < 0 ? JOB_STATUS_ABORTING : JOB_STATUS_WAITING);
    if (job->ret < 0) {
        job_txn_fail(job->txn);
    }
    if (job_txn_is_complete(job->txn)) {
        job_txn_co_end(job->txn);
    }
}

static void job_txn_end_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    job_txn_co_end(opaque);
}

void job_txn_seal(JobTxn *txn)
{
    txn->sealed = true;
    if (job_txn_is_complete(txn)) { /* all were cancelled meanwhile */
        co_start(job_main_context(), job_txn_end_run, txn);
        return;
    }
    job_txn_free_if_empty(txn);
}
