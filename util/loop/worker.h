/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool's lanes.
 *
 * A system call that hangs (storage that does not answer) occupies its thread for ever. So each job
 * belongs to a lane, and at most WORKER_LANE_MAX jobs of a lane run at a time; the others wait for
 * a job of their lane to end. If all jobs of one lane hang, jobs of other lanes still find a
 * thread. Each disk's file has its own lane, all chardevs share one, and co_run_in_worker() uses
 * one.
 */
#ifndef SKIFF_UTIL_LOOP_WORKER_H
#define SKIFF_UTIL_LOOP_WORKER_H

#include <glib.h>
#include "util/loop/coroutine.h"

#define WORKER_LANE_MAX 64

/* Starts the first thread. From then on each job gets a thread eventually. False + @error.
 */
bool worker_pool_start(GError **error) ANY_THREAD;

/* Zero-initialized when empty. Must outlive its jobs (the release function of the last one may free it). Protected
 * by the worker pool's lock. */
typedef struct WorkerLane {
    unsigned running;              /* jobs that have a thread or will get one */
    struct WorkerJob *head, *tail; /* jobs that wait for a running one to end */
} WorkerLane;

/* As co_run_in_worker(), in @lane. */
int co_run_in_lane(WorkerLane *lane, int (*fn)(void *opaque), void *opaque) coroutine_fn;
/* The same, until @deadline_ns on the clock of the coroutine's context at most; INT64_MAX: no limit. True: *@result
 * is what @fn has returned. False: the deadline has passed and the call is left behind, with @opaque: when @fn has
 * returned, @release(@opaque) is called, in a worker too, which the context and the lane's owner need not outlive. A
 * call that has not begun by then does not begin any more. */
bool co_run_in_lane_until(WorkerLane *lane, int (*fn)(void *opaque), void (*release)(void *opaque),
                          void *opaque, int64_t deadline_ns, int *result) coroutine_fn;
/* As co_run_in_lane(), for a call that may not wait for ever for others to end. False: it has not begun at @begin_ns on the
 * clock of the coroutine's context, since all jobs of the lane hang, and does not begin any more. */
bool co_run_in_lane_begun_by(WorkerLane *lane, int (*fn)(void *opaque), void *opaque,
                             int64_t begin_ns, int *result) coroutine_fn;

#endif
