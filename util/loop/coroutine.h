/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stackful coroutines.
 *
 * A coroutine lives in one AioContext from start to end and runs only in that context's thread. It
 * waits with a token:
 *
 *     CoToken token = co_arm();        // before anything can end the wait
 *     submit(request, token);          // any thread calls co_wake(token) exactly once
 *     co_wait(token);                  // yields; returns at once if the wake came first
 *
 * Invariants
 *   1. A token is woken exactly once; a second wake, or a wake of an old token, aborts.
 *   2. A wake before co_wait() is latched; no wake is lost.
 *   3. A wake never runs the coroutine inline: it puts it onto the ready list of the coroutine's
 *      context.
 *   4. At most one token is armed per coroutine.
 *   5. No thread lock (BQL, queue, ...) is held across co_wait().
 *
 *   IDLE --co_arm--> ARMED --co_wait--> WAITING --co_wake--> READY --loop--> IDLE
 *                      \--co_wake--> LATCHED --co_wait--> IDLE
 *
 * Stacks (util/loop/co_stack.h) are pooled per thread; a switch costs a few nanoseconds. ASan and
 * TSan are informed of the fibers. A coroutine for which no stack can be allocated stays on the
 * ready list and is retried.
 */
#ifndef SKIFF_UTIL_LOOP_COROUTINE_H
#define SKIFF_UTIL_LOOP_COROUTINE_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop/aio.h"

typedef struct Coroutine Coroutine;
typedef void CoroutineEntry(void *opaque);

typedef struct CoToken {
    Coroutine *co;
    uint32_t sequence;
} CoToken;

/* Queues a new coroutine on @ctx's ready list. Its entry begins with enter_coroutine() and
 * enter_loop()/enter_iothread()/enter_main(). */
void co_start(AioContext *ctx, CoroutineEntry *entry, void *opaque) ANY_THREAD;
/* Runs a new coroutine at once, up to its first yield. Inside a coroutine, or when no stack can be
 * allocated, it is queued as by co_start(). */
void co_start_now(AioContext *ctx, CoroutineEntry *entry, void *opaque) RUNS_IN_LOOP;

/*
 * Requests of devices. A guest can submit far more requests than storage can use, and each waiting
 * request keeps a stack. So the sources of a loop (devices) share CO_REQUESTS_MAX requests evenly:
 * each has at most co_requests_limit() in flight and leaves the rest in its queue. If there are too
 * few stacks for that, all loops get the same number. A share changes only when a source or loop is
 * added or removed, so a source whose storage hangs takes nothing from the others.
 */
#if defined(__SANITIZE_THREAD__)
#define CO_REQUESTS_MAX 1024u /* TSan's fibers are large and limited in number */
#else
#define CO_REQUESTS_MAX 4096u
#endif
#define CO_REQUESTS_MIN 64u /* minimum share of a source */

/* Called when a source of at most @requests requests starts or ends in @ctx. The thread keeps that
 * many stacks, at most as many as the loop may have requests, so that requests at any depth map and
 * unmap nothing. */
void co_requests_begin(AioContext *ctx, unsigned requests) RUNS_IN_LOOP;
void co_requests_end(AioContext *ctx, unsigned requests) RUNS_IN_LOOP;
/* How many requests each source of @ctx may have in flight; CO_REQUESTS_MIN while there is none. */
unsigned co_requests_limit(const AioContext *ctx) ANY_THREAD;
/* Makes sure that the next co_start_now() in @ctx has a stack. False: no stack is available for a
 * request; the caller keeps the request in its queue and retries later. */
bool co_request_ready(AioContext *ctx) RUNS_IN_LOOP;

bool in_coroutine(void) ANY_THREAD;
Coroutine *co_self(void) ANY_THREAD; /* NULL outside a coroutine */
AioContext *co_context(const Coroutine *co) ANY_THREAD;

CoToken co_arm(void) coroutine_fn;
void co_wait(CoToken token) coroutine_fn;
void co_wake(CoToken token) ANY_THREAD;

/* Yields for one turn of the loop. */
void co_yield_turn(void) coroutine_fn;
void co_sleep_ns(int64_t duration_ns) coroutine_fn;

/* Runs @fn(@opaque) as a coroutine in @ctx and waits until it returns. @ctx may be the caller's
 * own. */
void co_call_in(AioContext *ctx, CoroutineEntry *fn, void *opaque) coroutine_fn;
/* The same for a call that lasts as long as a job or a pause: the watchdog does not report it. */
void co_call_lasting_in(AioContext *ctx, CoroutineEntry *fn, void *opaque) coroutine_fn;

/* ---- CoMutex: FIFO, for the coroutines of one context ---- */
typedef struct CoWaiter CoWaiter;
typedef struct CoQueue {
    CoWaiter *head, **tail;
} CoQueue;
void co_queue_init(CoQueue *q) ANY_THREAD;
/* Waits until woken. All users of a queue live in one context. */
void co_queue_wait(CoQueue *q, const char *what) coroutine_fn;
/* The same, until @deadline_ns on the context's clock at most; INT64_MAX: no limit. False: it has passed. */
bool co_queue_wait_until(CoQueue *q, const char *what, int64_t deadline_ns) coroutine_fn;
bool co_queue_wake_one(CoQueue *q) RUNS_IN_LOOP;
void co_queue_wake_all(CoQueue *q) RUNS_IN_LOOP;
bool co_queue_empty(const CoQueue *q) ANY_THREAD;

#include "util/loop/held.h"
typedef struct SKIFF_TSA(capability("comutex")) CoMutex {
    Coroutine *owner;
    CoQueue waiters;
    HeldRank rank;
    const char *name;
} CoMutex;
void co_mutex_init(CoMutex *m, HeldRank rank, const char *name) ANY_THREAD;
void co_mutex_lock(CoMutex *m) coroutine_fn SKIFF_TSA(acquire_capability(*m));
void co_mutex_unlock(CoMutex *m) coroutine_fn SKIFF_TSA(release_capability(*m));

/* ---- work that blocks in the kernel: the worker pool (util/loop/worker.h) ---- */
/* Runs @fn(@opaque) in a worker thread and waits for its return value. @fn begins with
 * enter_worker(). */
int co_run_in_worker(int (*fn)(void *opaque), void *opaque) coroutine_fn;

#endif
