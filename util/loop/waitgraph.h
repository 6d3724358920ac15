/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wait-for graph.
 *
 * A wait of a thread or coroutine for another one is recorded here while it lasts: a CoMutex, a
 * CoQueue, a call into another context, a request held back by a drained section, a Completion, a
 * drain, parking, a call to a vCPU. A wait that closes a cycle aborts at once and names the cycle.
 * Ranks (held.h) cover one coroutine only; cycles through calls into other contexts are found
 * here.
 *
 * The holder is the one coroutine that ends the wait. If there are several (a drain, parking) or it
 * is not known beforehand (a CoQueue, a Completion), the record has no holder and serves only the
 * watchdog, which reports waits older than its limit. Waits for the kernel, a timer or a user are
 * not recorded: no cycle leads through them.
 */
#ifndef SKIFF_UTIL_LOOP_WAITGRAPH_H
#define SKIFF_UTIL_LOOP_WAITGRAPH_H

#include <stdint.h>
#include <stdbool.h>
#include "util/loop/thread.h"

typedef struct WaitRecord {
    struct WaitRecord *next, *prev;
    const void *waiter; /* the coroutine, or the thread's identity */
    const void *holder; /* the one that ends the wait; NULL: the kernel, several, or not known
                           beforehand */
    const void *const _Atomic *holder_at; /* NULL, or where the holder is read each time */
    const char *what;                     /* "operation lock", "drain of disk0" */
    char waiter_name[32];
    int64_t since_ns;
    bool reported;
    bool lasting; /* it may last long by its nature: the watchdog does not report it */
} WaitRecord;

/* The identity of the caller: the running coroutine if any, else the thread. */
const void *wait_self(void) ANY_THREAD;
void wait_begin(WaitRecord *w, const void *holder, const char *what) ANY_THREAD;
/* The same, for a holder that may change during the wait: each search for a cycle reads it from
 * @holder_at. */
void wait_begin_at(WaitRecord *w, const void *const _Atomic *holder_at, const char *what)
    ANY_THREAD;
/* The wait may last long by its nature. Called by the waiter after wait_begin(). */
void wait_set_lasting(WaitRecord *w) ANY_THREAD;
/* The thing has a new holder during the wait. */
void wait_set_holder(WaitRecord *w, const void *holder) ANY_THREAD;
void wait_end(WaitRecord *w) ANY_THREAD;
/* Starts the watchdog thread: every second it prints waits older than @limit_ns, each wait
 * once. */
void wait_watchdog_start(int64_t limit_ns) ANY_THREAD;
/* Prints one line per wait older than @limit_ns; returns their number. */
unsigned wait_report(int64_t now_ns, int64_t limit_ns) ANY_THREAD;

#endif
