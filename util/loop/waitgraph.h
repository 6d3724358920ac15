/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for whom.
 *
 * A wait of a thread or coroutine for another one is entered here for as long as it lasts: a
 * CoMutex, a CoQueue, a call into another context, a request that a drained section holds back, a
 * Completion, a drain, parking, a call to a vCPU. A wait that closes a cycle aborts at once and
 * names the cycle. Ranks (held.h) see one coroutine only; a cycle through calls into other contexts
 * is seen here.
 *
 * The holder is the one coroutine that ends the wait. Where several do (a drain, parking) or one
 * that is not known beforehand (a CoQueue, a Completion), there is none, and the wait is entered for
 * the watchdog alone, which reports waits older than its limit. Waits for the kernel, a timer or a
 * user are not entered: no cycle leads through them.
 */
#ifndef SKIFF_UTIL_LOOP_WAITGRAPH_H
#define SKIFF_UTIL_LOOP_WAITGRAPH_H

#include <stdint.h>
#include <stdbool.h>
#include "util/loop/thread.h"

typedef struct WaitRecord {
    struct WaitRecord *next, *prev;
    const void *waiter; /* the coroutine, or the thread's identity */
    const void *holder; /* who is expected to end the wait; NULL when it is the kernel or nobody in
                           particular */
    const void *const _Atomic *holder_at; /* NULL, or where the holder is read each time */
    const char *what;                     /* "operation lock", "drain of disk0" */
    char waiter_name[32];
    int64_t since_ns;
    bool reported;
} WaitRecord;

/* The identity of what runs now: the coroutine if there is one, else the thread. */
const void *wait_self(void) ANY_THREAD;
void wait_begin(WaitRecord *w, const void *holder, const char *what) ANY_THREAD;
/* The same where the holder may change while we wait: it is read from @holder_at when a cycle is
 * looked for. */
void wait_begin_at(WaitRecord *w, const void *const _Atomic *holder_at, const char *what)
    ANY_THREAD;
/* The thing changed hands while we wait. */
void wait_set_holder(WaitRecord *w, const void *holder) ANY_THREAD;
void wait_end(WaitRecord *w) ANY_THREAD;
/* Starts the watchdog thread: every second it prints waits that are older than @limit_ns, once
 * each. */
void wait_watchdog_start(int64_t limit_ns) ANY_THREAD;
/* One line per wait older than @limit_ns is printed; returns how many there are. */
unsigned wait_report(int64_t now_ns, int64_t limit_ns) ANY_THREAD;

#endif
