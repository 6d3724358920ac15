/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool: threads for system calls that block. A job lives on the stack of the coroutine
 * that waits for it. Threads are started as jobs find none idle, up to WORKER_MAX, and stay.
 */
#include <glib.h>
#include <stdio.h>
#include "util/coroutine.h"

#define WORKER_MAX 64

typedef struct WorkerJob {
    int (*fn)(void *opaque);
    void *opaque;
    int result;
    CoToken waiter;
    struct WorkerJob *next;
} WorkerJob;

static pthread_mutex_t worker_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t worker_wanted = PTHREAD_COND_INITIALIZER;
static WorkerJob *worker_head, **worker_tail = &worker_head;
static unsigned worker_count, worker_idle, worker_queued;

static WorkerJob *worker_next_job(void)
{
    pthread_mutex_lock(&worker_lock);
    worker_idle++;
    while (worker_head == NULL) {
        pthread_cond_wait(&worker_wanted, &worker_lock);
    }
    worker_idle--;
    worker_queued--;
    WorkerJob *job = worker_head;
    worker_head = job->next;
    if (worker_head == NULL) {
        worker_tail = &worker_head;
    }
    pthread_mutex_unlock(&worker_lock);
    return job;
}

static void *worker_run(void *opaque)
{
    (void)opaque;
    for (;;) {
        WorkerJob *job = worker_next_job();
        thread_run_start_hook(); /* it may have been set while this thread was idle */
        job->result = job->fn(job->opaque);
        co_wake(job->waiter); /* @job is gone from here on */
    }
    return NULL;
}

/* Called with the lock, which thread creation does not wait on. */
static void worker_start_one(void)
{
    char name[16];
    snprintf(name, sizeof(name), "worker/%u", worker_count);
    pthread_t thread;
    if (thread_start(&thread, THREAD_WORKER, name, worker_run, NULL)) {
        pthread_detach(thread);
        worker_count++;
    } else if (worker_count == 0) {
        g_error("cannot start a worker thread");
    }
}

int co_run_in_worker(int (*fn)(void *opaque), void *opaque)
{
    WorkerJob job = {.fn = fn, .opaque = opaque, .waiter = co_arm()};
    pthread_mutex_lock(&worker_lock);
    *worker_tail = &job;
    worker_tail = &job.next;
    worker_queued++;
    if (worker_queued > worker_idle && worker_count < WORKER_MAX) {
        worker_start_one();
    }
    pthread_cond_signal(&worker_wanted);
    pthread_mutex_unlock(&worker_lock);
    co_wait(job.waiter);
    return job.result;
}
