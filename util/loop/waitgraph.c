/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/waitgraph.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "util/loop/coroutine.h"

static pthread_mutex_t graph_lock = PTHREAD_MUTEX_INITIALIZER;
static WaitRecord *graph_head;
static __thread char self_identity;

static int64_t wait_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

const void *wait_self(void)
{
    return in_coroutine() ? (const void *)co_self() : &self_identity;
}

static const WaitRecord *wait_find(const void *waiter)
{
    for (const WaitRecord *w = graph_head; w != NULL; w = w->next) {
        if (w->waiter == waiter) {
            return w;
        }
    }
    return NULL;
}

static const void *wait_holder(const WaitRecord *w)
{
    return w->holder_at != NULL ? atomic_load(w->holder_at) : w->holder;
}

/* Follows waiter -> holder edges from @start; a return to @start is a deadlock. Called with the
 * lock. */
static void wait_check_cycle(const WaitRecord *start)
{
    unsigned steps = 0;
    const void *holder;
    for (const WaitRecord *w = start; w != NULL && (holder = wait_holder(w)) != NULL;
         w = wait_find(holder)) {
        if (holder != start->waiter) {
            if (++steps > 64) {
                return;
            }
            continue;
        }
        fprintf(stderr, "skiff: deadlock: a cycle of waits:\n");
        for (const WaitRecord *v = start; v != NULL; v = wait_find(wait_holder(v))) {
            fprintf(stderr, "  '%s' (%p) waits for %s, held by %p\n", v->waiter_name, v->waiter,
                    v->what, wait_holder(v));
            if (v == w) {
                break;
            }
        }
        bug_abort("deadlock: '%s' would wait for itself through %s", start->waiter_name, w->what);
    }
}

static void wait_enter(WaitRecord *w)
{
    w->waiter = wait_self();
    w->since_ns = wait_now_ns();
    snprintf(w->waiter_name, sizeof(w->waiter_name), "%s%s", thread_name(),
             in_coroutine() ? " coroutine" : "");
    pthread_mutex_lock(&graph_lock);
    w->next = graph_head;
    if (graph_head != NULL) {
        graph_head->prev = w;
    }
    graph_head = w;
    wait_check_cycle(w);
    pthread_mutex_unlock(&graph_lock);
}

void wait_begin(WaitRecord *w, const void *holder, const char *what)
{
    *w = (WaitRecord){.holder = holder, .what = what};
    wait_enter(w);
}

void wait_begin_at(WaitRecord *w, const void *const _Atomic *holder_at, const char *what)
{
    *w = (WaitRecord){.holder_at = holder_at, .what = what};
    wait_enter(w);
}

void wait_set_lasting(WaitRecord *w)
{
    pthread_mutex_lock(&graph_lock);
    w->lasting = true;
    pthread_mutex_unlock(&graph_lock);
}

void wait_set_holder(WaitRecord *w, const void *holder)
{
    pthread_mutex_lock(&graph_lock);
    w->holder = holder;
    w->holder_at = NULL;
    wait_check_cycle(w);
    pthread_mutex_unlock(&graph_lock);
}

void wait_end(WaitRecord *w)
{
    pthread_mutex_lock(&graph_lock);
    if (w->next != NULL) {
        w->next->prev = w->prev;
    }
    if (w->prev != NULL) {
        w->prev->next = w->next;
    } else {
        graph_head = w->next;
    }
    pthread_mutex_unlock(&graph_lock);
}

unsigned wait_report(int64_t now_ns, int64_t limit_ns)
{
    unsigned old = 0;
    pthread_mutex_lock(&graph_lock);
    for (WaitRecord *w = graph_head; w != NULL; w = w->next) {
        if (w->lasting || now_ns - w->since_ns < limit_ns) {
            continue;
        }
        old++;
        if (!w->reported) {
            w->reported = true;
            const WaitRecord *next = wait_holder(w) != NULL ? wait_find(wait_holder(w)) : NULL;
            fprintf(stderr, "skiff: watchdog: '%s' has waited %lld ms for %s%s%s\n", w->waiter_name,
                    (long long)((now_ns - w->since_ns) / 1000000), w->what,
                    next != NULL ? ", whose holder waits for " : "",
                    next != NULL ? next->what : "");
        }
    }
    pthread_mutex_unlock(&graph_lock);
    return old;
}

static void *wait_watchdog_run(void *opaque)
{
    int64_t limit_ns = *(int64_t *)opaque;
    free(opaque);
    for (;;) {
        struct timespec second = {.tv_sec = 1};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL);
        thread_run_start_hook();
        wait_report(wait_now_ns(), limit_ns);
    }
    return NULL;
}

void wait_watchdog_start(int64_t limit_ns)
{
    int64_t *arg = malloc(sizeof(*arg));
    if (arg == NULL) {
        return;
    }
    *arg = limit_ns;
    pthread_t thread;
    if (thread_start(&thread, THREAD_WORKER, "watchdog", wait_watchdog_run, arg)) {
        pthread_detach(thread);
    } else {
        free(arg);
    }
}
