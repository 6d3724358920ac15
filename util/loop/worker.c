/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool: threads for system calls that block. A job lives on the stack of the coroutine
 * that waits for it. A thread is started when a job finds none idle, and never ends: at most
 * WORKER_LANE_MAX for each lane.
 *
 *   lane  ooo --room in the lane--> queue  oo --a thread is idle--> runs
 */
#include "util/loop/worker.h"
#include <errno.h>
#include <stdio.h>

/* The interval of retries when a thread cannot be started. */
#define WORKER_RETRY_NS 10000000

typedef struct WorkerJob {
    int (*fn)(void *opaque);
    void *opaque;
    int result;
    WorkerLane *lane;
    CoToken waiter;
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
        worker_held--;
        worker_enqueue(next);
    }
    pthread_mutex_unlock(&worker_lock);
}

static void *worker_run(void *opaque)
{
    (void)opaque;
    for (;;) {
        WorkerJob *job = worker_next_job();
        thread_run_start_hook(); /* it may have been set while this thread was idle */
        job->result = job->fn(job->opaque);
        worker_leave_lane(job->lane);
        co_wake(job->waiter); /* @job is invalid from here on; the lane may be too */
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

static coroutine_fn void worker_co_wait_retrying(WorkerJob *job)
{
    WorkerRetry r = {.ctx = co_context(co_self())};
    aio_timer_init(&r.timer, r.ctx, worker_retry, &r);
    aio_timer_arm(&r.timer, aio_now_ns(r.ctx) + WORKER_RETRY_NS);
    co_wait(job->waiter);
    aio_timer_disarm(&r.timer);
}

int co_run_in_lane(WorkerLane *lane, int (*fn)(void *opaque), void *opaque)
{
    WorkerJob job = {.fn = fn, .opaque = opaque, .lane = lane, .waiter = co_arm()};
    bool has_thread = true;
    pthread_mutex_lock(&worker_lock);
    if (lane->running < WORKER_LANE_MAX) {
        worker_enqueue(&job);
        has_thread = worker_start_missing();
    } else {
        worker_append(&lane->head, &lane->tail, &job);
        worker_held++;
    }
    pthread_mutex_unlock(&worker_lock);
    if (has_thread) {
        co_wait(job.waiter);
    } else {
        worker_co_wait_retrying(&job);
    }
    return job.result;
}

int co_run_in_worker(int (*fn)(void *opaque), void *opaque)
{
    return co_run_in_lane(&worker_common, fn, opaque);
}
