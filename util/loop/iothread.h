/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IoThread: a thread that owns and runs one AioContext. Creation waits for nothing: work may be
 * posted to the context at once and runs when the thread has started. Freeing joins the thread, so
 * nothing may be homed there any more.
 */
#ifndef SKIFF_UTIL_LOOP_IOTHREAD_H
#define SKIFF_UTIL_LOOP_IOTHREAD_H

#include "util/loop/aio.h"

typedef struct IoThread IoThread;

/* Starts thread "iothread/@id". */
IoThread *iothread_new(const char *id, int64_t poll_max_ns, GError **error) ANY_THREAD;
/* The same for a thread "net/@id" that may open sockets under -sandbox (THREAD_NETWORK). */
IoThread *iothread_new_network(const char *id, int64_t poll_max_ns, GError **error) ANY_THREAD;
/* A further owner, who calls iothread_free() too. */
IoThread *iothread_ref(IoThread *t) ANY_THREAD;
/* The last owner ends the loop and joins the thread. Everything homed there must be gone. NULL is fine. */
void iothread_free(IoThread *t) ANY_THREAD;
AioContext *iothread_context(const IoThread *t) ANY_THREAD;
const char *iothread_id(const IoThread *t) ANY_THREAD;
/* The kernel's id of the thread; 0 until it has started. */
int iothread_tid(const IoThread *t) ANY_THREAD;
int64_t iothread_poll_max_ns(const IoThread *t) ANY_THREAD;

#endif
