/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool: threads for system calls that block. A job lives on the stack of the coroutine
 * that waits for it, or, if it may be left behind, on the heap. A thread is started when a job finds none idle, and never ends: at most
 * WORKER_LANE_MAX for each lane.
 *
 *   lane  ooo --room in the lane--> queue  oo --a thread is idle--> runs
 *
 * A job with a deadline ends in one of two ways. Whoever makes the move wakes the coroutine.
 *
 *   WAITED --worker_end: it has returned--> DONE   the coroutine frees it
 *      \-----worker_deadline--------------> LEFT   the worker frees it
 *
 * A job that has to begin in time is taken out of its lane by its coroutine's timer if it still waits there (`held`).
 */
#include "util/loop/worker.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

/* The interval of retries when a thread cannot be started. */
#define WORKER_RETRY_NS 10000000

enum { JOB_WAITED, JOB_DONE, JOB_LEFT };

typedef struct WorkerJob {
    int (*fn)(void *opaque);
    void (*release)(void *opaque); /* with a deadline; else NULL */
    void *opaque;
    int result;
    WorkerLane *lane;
    CoToken waiter;
    _Atomic int end; /* JOB_* */
    bool held;       /* it waits in its lane; the lock */
    struct WorkerJob *next;
} WorkerJob;

static pthread_mutex_t worker_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t worker_wanted = PTHREAD_COND_INITIALIZER;
static WorkerJob *worker_head, *worker_tail;
static unsigned worker_count, worker_queued;
static unsigned worker_idle; /* threads that wait for a job or are about to */
/* Jobs waiting in their lanes; for skiff-gdb.py. */
static __attribute__((used)) unsigned worker_held;
static WorkerLane worker_common;

static void worker_append(WorkerJob **head, WorkerJob **tail, WorkerJob *job)
{
    job->next = NULL;
    if (*head == NULL) {
        *head = job;
    } else {
        (*tail)->next = job;
    }
    *tail = job;
}

static void *worker_run(void *opaque);

/* Called with the lock. Thread creation never takes it. False + errno. */
static bool worker_start_one(void)
{
    char name[16];
    snprintf(name, sizeof(name), "worker/%u", worker_count);
    pthread_t thread;
    if (!thread_start(&thread, THREAD_WORKER, name, worker_run, NULL)) {
        return false;
    }
    pthread_detach(thread);
    worker_count++;
    worker_idle++;
    return true;
}

bool worker_pool_start(GError **error)
{
    pthread_mutex_lock(&worker_lock);
    bool ok = worker_count > 0 || worker_start_one();
    int err = errno;
    pthread_mutex_unlock(&worker_lock);
    if (!ok) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err),
                    "cannot start a worker thread: %s", g_strerror(err));
    }
    return ok;
}

/* Starts threads until each queued job has one. False: some cannot be started. Called with the
 * lock. */
static bool worker_start_missing(void)
{
    bool ok = true;
    while (ok && worker_queued > worker_idle) {
        ok = worker_start_one();
    }
    return ok;
}

/* Called with the lock. */
static void worker_enqueue(WorkerJob *job)
{
    job->lane->running++;
    worker_append(&worker_head, &worker_tail, job);
    worker_queued++;
    pthread_cond_signal(&worker_wanted);
}

static WorkerJob *worker_next_job(void)
{
    pthread_mutex_lock(&worker_lock);
    while (worker_head == NULL) {
        pthread_cond_wait(&worker_wanted, &worker_lock);
    }
    worker_idle--;
    worker_queued--;
    WorkerJob *job = worker_head;
    worker_head = job->next;
    pthread_mutex_unlock(&worker_lock);
    return job;
}

/* Ends a job of the lane and starts its next one, which the calling thread may run. */
static void worker_leave_lane(WorkerLane *lane)
{
    pthread_mutex_lock(&worker_lock);
    worker_idle++;
    lane->running--;
    WorkerJob *next = lane->head;
    if (next != NULL) {
        lane->head = next->next;
        next->held = false;
        worker_held--;
        worker_enqueue(next);
    }
    pthread_mutex_unlock(&worker_lock);
}

/* False: somebody else has made the other move. */
static bool worker_job_ends(WorkerJob *job, int how)
{
    int waited = JOB_WAITED;
    return atomic_compare_exchange_strong(&job->end, &waited, how);
}

/* @job is invalid afterwards; the lane may be too. */
static void worker_end(WorkerJob *job)
{
    CoToken waiter = job->waiter;
    if (worker_job_ends(job, JOB_DONE)) {
        co_wake(waiter);
        return;
    }
    job->release(job->opaque);
    g_free(job);
}

static void *worker_run(void *opaque)
{
    (void)opaque;
    for (;;) {
        WorkerJob *job = worker_next_job();
        thread_run_start_hook(); /* it may have been set while this thread was idle */
        if (atomic_load(&job->end) == JOB_WAITED) {
            job->result = job->fn(job->opaque);
        }
        worker_leave_lane(job->lane);
        worker_end(job);
    }
    return NULL;
}

/* The running threads may all hang for ever, so starting one is retried. Meanwhile the job is in the
 * queue, and the first thread that becomes free takes it. */
typedef struct WorkerRetry {
    AioContext *ctx;
    AioTimer timer;
} WorkerRetry;

static void worker_retry(void *opaque)
{
    WorkerRetry *r = opaque;
    enter_loop(r->ctx);
    pthread_mutex_lock(&worker_lock);
    bool ok = worker_start_missing();
    pthread_mutex_unlock(&worker_lock);
    if (!ok) {
        aio_timer_arm(&r->timer, aio_now_ns(r->ctx) + WORKER_RETRY_NS);
    }
}

static coroutine_fn void worker_co_wait_retrying(CoToken waiter)
{
    WorkerRetry r = {.ctx = co_context(co_self())};
    aio_timer_init(&r.timer, r.ctx, worker_retry, &r);
    aio_timer_arm(&r.timer, aio_now_ns(r.ctx) + WORKER_RETRY_NS);
    co_wait(waiter);
    aio_timer_disarm(&r.timer);
}

/* Queues @job and waits for its end. It may be invalid then. */
static coroutine_fn void worker_co_run(WorkerJob *job)
{
    bool has_thread = true;
    CoToken waiter = job->waiter;
    WorkerLane *lane = job->lane;
    pthread_mutex_lock(&worker_lock);
    if (lane->running < WORKER_LANE_MAX) {
        worker_enqueue(job);
        has_thread = worker_start_missing();
    } else {
        worker_append(&lane->head, &lane->tail, job);
        job->held = true;
        worker_held++;
    }
    pthread_mutex_unlock(&worker_lock);
    if (has_thread) {
        co_wait(waiter);
    } else {
        worker_co_wait_retrying(waiter);
    }
}

int co_run_in_lane(WorkerLane *lane, int (*fn)(void *opaque), void *opaque)
{
    WorkerJob job = {.fn = fn, .opaque = opaque, .lane = lane, .waiter = co_arm()};
    worker_co_run(&job);
    return job.result;
}

typedef struct WorkerDeadline {
    AioContext *ctx;
    AioTimer timer;
    WorkerJob *job;
    bool passed;
} WorkerDeadline;

static void worker_deadline(void *opaque)
{
    WorkerDeadline *d = opaque;
    enter_loop(d->ctx);
    CoToken waiter = d->job->waiter;
    if (worker_job_ends(d->job, JOB_LEFT)) {
        d->passed = true;
        co_wake(waiter);
    }
}

bool co_run_in_lane_until(WorkerLane *lane, int (*fn)(void *opaque), void (*release)(void *opaque),
                          void *opaque, int64_t deadline_ns, int *result)
{
    WorkerDeadline d = {.ctx = co_context(co_self()), .job = g_new0(WorkerJob, 1)};
    *d.job = (WorkerJob){
        .fn = fn, .release = release, .opaque = opaque, .lane = lane, .waiter = co_arm()};
    aio_timer_init(&d.timer, d.ctx, worker_deadline, &d);
    if (deadline_ns != INT64_MAX) {
        aio_timer_arm(&d.timer, deadline_ns);
    }
    worker_co_run(d.job);
    aio_timer_disarm(&d.timer);
    if (d.passed) {
        return false;
    }
    *result = d.job->result;
    g_free(d.job);
    return true;
}

/* ---- calls that begin in time ---- */

/* Takes a job that waits out of its lane. Called with the lock. */
static void worker_take_out(WorkerJob *job)
{
    WorkerLane *lane = job->lane;
    WorkerJob *before = NULL, **link = &lane->head;
    while (*link != job) {
        before = *link;
        link = &before->next;
    }
    *link = job->next;
    if (lane->tail == job) {
        lane->tail = before;
    }
    job->held = false;
    worker_held--;
}

static void worker_begins_late(void *opaque)
{
    WorkerDeadline *d = opaque;
    enter_loop(d->ctx);
    pthread_mutex_lock(&worker_lock);
    d->passed = d->job->held;
    if (d->passed) {
        worker_take_out(d->job);
    }
    pthread_mutex_unlock(&worker_lock);
    if (d->passed) {
        co_wake(d->job->waiter);
    }
}

bool co_run_in_lane_begun_by(WorkerLane *lane, int (*fn)(void *opaque), void *opaque,
                             int64_t begin_ns, int *result)
{
    WorkerJob job = {.fn = fn, .opaque = opaque, .lane = lane, .waiter = co_arm()};
    WorkerDeadline d = {.ctx = co_context(co_self()), .job = &job};
    aio_timer_init(&d.timer, d.ctx, worker_begins_late, &d);
    aio_timer_arm(&d.timer, begin_ns);
    worker_co_run(&job);
    aio_timer_disarm(&d.timer);
    *result = job.result;
    return !d.passed;
}

int co_run_in_worker(int (*fn)(void *opaque), void *opaque)
{
    return co_run_in_lane(&worker_common, fn, opaque);
}
