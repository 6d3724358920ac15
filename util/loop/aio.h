/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AioContext: an event loop with one owner.
 *
 * A context is created by the thread that will run it and is never run by another (R1, R2). A
 * callback that runs its own context again aborts in every build: nothing in skiff polls inside a
 * callback. Other threads may only post work to a context: bottom halves and coroutine wakes, both
 * lock-free.
 *
 * One turn, in this order:
 *   1. run the bottom halves that were pending when the turn began (at most AIO_TURN_BUDGET);
 *   2. run the coroutines on the ready list (at most AIO_TURN_BUDGET);
 *   3. run the timers that are due;
 *   4. call the handlers' `flush` once each (batched submission);
 *   5. if work is left, check file descriptors without blocking; else busy-poll up to poll-max-ns
 *      (adaptive), then block in epoll_wait until the next timer;
 *   6. dispatch ready descriptors (while polling finds work, and there are no descriptors without
 *      `poll`, only in every few turns).
 * While it busy-polls, the loop looks at descriptors without `poll` every few microseconds. If it watches
 * any, it also tries to busy-poll after waits that are a few times longer than poll-max-ns.
 * Work that arrives during a step waits for the next turn, so that no source starves another.
 */
#ifndef SKIFF_UTIL_LOOP_AIO_H
#define SKIFF_UTIL_LOOP_AIO_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef struct AioContext AioContext;
typedef struct AioHandler AioHandler;
typedef struct AioBh AioBh;
typedef struct AioTimer AioTimer;

#define AIO_TURN_BUDGET 256

/* Creates a context owned by the calling thread. @name must outlive it. NULL and @error if the
 * kernel refuses. */
AioContext *aio_context_new(const char *name, GError **error) ANY_THREAD;
/* Owner only, not while running; all handlers were removed before. */
void aio_context_free(AioContext *ctx) ANY_THREAD;
const char *aio_context_name(const AioContext *ctx) ANY_THREAD;

/* Runs turns until aio_context_quit(). Owner only. */
void aio_context_run(AioContext *ctx) ANY_THREAD;
/* Runs one turn; may block only if @may_block. Returns whether anything was dispatched. Owner only.
 */
bool aio_context_step(AioContext *ctx, bool may_block) ANY_THREAD;
/* aio_context_run() returns after the current turn. */
void aio_context_quit(AioContext *ctx) ANY_THREAD;
/* The context that the calling thread runs, or NULL. */
AioContext *aio_context_current(void) ANY_THREAD;
bool aio_context_is_home(const AioContext *ctx) ANY_THREAD;
/* Aborts unless the calling thread owns @ctx and does not run another context now. */
void assert_home(const AioContext *ctx) ANY_THREAD;
/* First statement of a callback that runs in @ctx, an iothread's context. */
void enter_iothread(const AioContext *ctx) SKIFF_TSA(assert_capability(role_iothread, role_loop));
/* First statement of a callback that runs in @ctx, main's or an iothread's. Tests' contexts are
 * entered with it too. */
void enter_loop(const AioContext *ctx) SKIFF_TSA(assert_capability(role_loop));

/* Busy polling before a blocking wait: 0 turns it off. Owner only (or before the loop runs). */
void aio_context_set_polling(AioContext *ctx, int64_t poll_max_ns) ANY_THREAD;

/* Registers @fn(@opaque), which the owner calls when the context is freed, before it closes; last
 * registered first. Owner only. */
void aio_context_at_free(AioContext *ctx, void (*fn)(void *opaque), void *opaque) ANY_THREAD;

/* ---- file descriptors ---- */
typedef struct AioHandlerOps {
    void (*readable)(void *opaque); /* fd is readable (or in error) */
    void (*writable)(void *opaque);
    /* The peer has closed its side, or is in error, while `readable` is not watched: for handlers
     * that read only when there is room. Called once after each time that watching stops; data
     * the peer has sent before may still be unread. Not for regular files. */
    void (*hangup)(void *opaque);
    bool (*poll)(void *opaque); /* cheap check of memory during busy polling: is there work? */
    void (*poll_ready)(void *opaque); /* called when poll() returned true */
    void (*poll_begin)(void *opaque); /* busy polling starts: turn notifications off if desired */
    void (*poll_end)(
        void *opaque);           /* turn notifications on; poll() is called once more afterwards */
    void (*flush)(void *opaque); /* end of turn: submit queued work */
} AioHandlerOps;

/* Watches @fd (-1: no descriptor, only poll and flush). Level-triggered; non-NULL `readable` and
 * `writable` are watched from the start, or as soon as the kernel has memory for it. The handler may be
 * removed from within its own callbacks. Owner only. @ops is borrowed for the handler's life. */
AioHandler *aio_handler_add(AioContext *ctx, int fd, const AioHandlerOps *ops, void *opaque)
    ANY_THREAD;
/* Changes what is watched. Owner only. */
void aio_handler_watch(AioHandler *h, bool readable, bool writable) ANY_THREAD;
/* After this no callback of @h runs. NULL is fine. Owner only. */
void aio_handler_remove(AioHandler *h) ANY_THREAD;

/* ---- bottom halves: each scheduling runs one once in its context; a pending one is not run twice
 * ---- */
struct AioBh {
    AioContext *ctx;
    void (*fn)(void *opaque);
    void *opaque;
    AioBh *_Atomic next;
    _Atomic unsigned flags;
};
void aio_bh_init(AioBh *bh, AioContext *ctx, void (*fn)(void *), void *opaque) ANY_THREAD;
/* Lock-free. The memory must stay valid until the BH has run. @fn sees all earlier writes. */
void aio_bh_schedule(AioBh *bh) ANY_THREAD;
/* Owner only: drops a pending run; the memory may be reused at once. */
void aio_bh_cancel(AioBh *bh) ANY_THREAD;
/* Runs @fn(@opaque) once in @ctx. Allocates; not for data paths. */
void aio_post(AioContext *ctx, void (*fn)(void *), void *opaque) ANY_THREAD;

/* ---- timers ---- */
struct AioTimer {
    AioContext *ctx;
    void (*fn)(void *opaque);
    void *opaque;
    int64_t deadline_ns;
    unsigned heap_index; /* 0: not armed */
};
/* Now, on the context's clock: CLOCK_MONOTONIC, or the virtual time a test has set. */
int64_t aio_now_ns(const AioContext *ctx) ANY_THREAD;
/* The same for statistics: the clock is read at most once between two checks for new work, so that
 * the work of one batch has one time. Owner only. */
int64_t aio_batch_now_ns(AioContext *ctx) ANY_THREAD;
void aio_timer_init(AioTimer *t, AioContext *ctx, void (*fn)(void *), void *opaque) ANY_THREAD;
/* Owner only. Arms or re-arms for @deadline_ns; fires once. */
void aio_timer_arm(AioTimer *t, int64_t deadline_ns) ANY_THREAD;
void aio_timer_disarm(AioTimer *t) ANY_THREAD;
/* Tests: from now on the context's time is virtual, starts at @now_ns and moves only by this call.
 * Owner only. */
void aio_context_set_virtual_time(AioContext *ctx, int64_t now_ns) ANY_THREAD;

#endif
