/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool's lanes.
 *
 * A system call that hangs (storage that does not answer) keeps its thread for ever, so the threads
 * are not shared by all: each job belongs to a lane, of whose jobs at most WORKER_LANE_MAX run at a
 * time; the others wait for one of their own lane to end. However many hang in one lane, the jobs
 * of another find a thread. A disk's file is a lane of its own, chardevs are one together, and all
 * that co_run_in_worker() is asked for is one.
 */
#ifndef SKIFF_UTIL_LOOP_WORKER_H
#define SKIFF_UTIL_LOOP_WORKER_H

#include <glib.h>
#include "util/loop/coroutine.h"

#define WORKER_LANE_MAX 64

/* Starts the first thread, so that from then on each job gets one sooner or later. False + @error.
 */
bool worker_pool_start(GError **error) ANY_THREAD;

/* Zeroed it is empty. It must not go before its jobs. The worker pool's, under its lock. */
typedef struct WorkerLane {
    unsigned running;              /* jobs that have or will get a thread */
    struct WorkerJob *head, *tail; /* those that wait for one of these to end */
} WorkerLane;

/* As co_run_in_worker(), in @lane. */
int co_run_in_lane(WorkerLane *lane, int (*fn)(void *opaque), void *opaque) coroutine_fn;

#endif
