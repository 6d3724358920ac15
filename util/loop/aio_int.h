/* SPDX-License-Identifier: Apache-2.0 */
/* Internals of AioContext, for the event loop, timers and coroutines in util/ only. */
#ifndef SKIFF_UTIL_LOOP_AIO_INT_H
#define SKIFF_UTIL_LOOP_AIO_INT_H

#include <stdatomic.h>
#include <sys/epoll.h>
#include "util/loop/aio.h"

struct Coroutine;

typedef struct AioExitHook {
    void (*fn)(void *opaque);
    void *opaque;
    struct AioExitHook *next;
} AioExitHook;

/*
 * Invariants
 *   1. Only the owner touches the fields, except `incoming_*`, `sleeping` and `quit`.
 *   2. A thread that pushes onto an incoming stack and then finds `sleeping` set writes wake_fd.
 *      The owner sets `sleeping`, then checks the stacks once more, and only then blocks. So either
 *      the pusher or the owner sees the other.
 *   3. Pushed work may run, and free the context, before the pusher returns. So the pusher counts
 *      as a visitor from before the push until its last access.
 *   4. A removed handler stays allocated until the batch of events that may name it is done.
 */
struct AioContext {
    const char *name;
    const void *_Atomic owner; /* thread identity; NULL until an iothread adopts the context */
    int epoll_fd;
    int wake_fd;
    int timer_fd;     /* aio_wait.c; -1: epoll_pwait2() is used */
    bool timer_armed; /* or has expired and was not read yet */
    _Atomic bool sleeping;
    _Atomic unsigned visitors; /* threads in the middle of a push; the free waits for them */
    _Atomic bool quit;
    bool running; /* a turn is on the stack */

    AioBh *_Atomic incoming_bh;
    struct Coroutine *_Atomic incoming_co;
    AioBh *_Atomic bh_head, *_Atomic *bh_tail;
    struct Coroutine *co_head, **co_tail;
    struct Coroutine *stalled, **stalled_tail; /* ready, but without a stack */
    AioTimer stalled_timer;                    /* retries stalled coroutines */
    unsigned request_sources;                  /* co_requests_begin() */
    _Atomic unsigned request_share;            /* co_requests_limit() */
    AioBh request_bh;                          /* the number of loops with sources changed */
    struct AioContext *request_next;           /* the list of these loops */

    AioHandler *handlers;
    AioHandler *dead;
    unsigned pollers; /* handlers with ops->poll */
    unsigned blind;   /* watched handlers without: only the kernel knows about their descriptors */
    unsigned always_ready;  /* watched regular files, which epoll refuses */
    unsigned late_handlers; /* handlers that the kernel had no memory to watch */
    AioTimer late_timer;    /* retries them */

    AioTimer **heap; /* 1-based */
    unsigned heap_count, heap_size;
    bool virtual_time;
    int64_t virtual_now_ns;
    int64_t batch_now_ns; /* 0: the clock was not read since the last check for work */

    int64_t poll_max_ns, poll_ns;
    bool probing; /* poll_ns is a try: the waits are longer than poll_max_ns */
    unsigned waits_since_probe, probe_interval;
    unsigned turns_without_epoll;
    bool polling; /* between poll_begin and poll_end */
    AioExitHook *exit_hooks;
};

struct AioHandler {
    AioContext *ctx;
    int fd;
    const AioHandlerOps *ops;
    void *opaque;
    uint32_t events; /* what epoll watches */
    bool in_epoll;
    bool always_ready; /* a regular file */
    bool late;         /* epoll does not watch `events` yet */
    bool hung_up;      /* ops->hangup was called; `readable` was not watched since */
    bool dead;
    AioHandler *next, *prev;
    AioHandler *dead_next;
};

/* Creates a context without an owner. Its thread then adopts it. */
AioContext *aio_context_new_unowned(const char *name, GError **error) ANY_THREAD;
void aio_context_adopt(AioContext *ctx) ANY_THREAD;
/* Frees a context that was never adopted or used. */
void aio_context_free_unowned(AioContext *ctx) ANY_THREAD;

/* Calls the callbacks that both @events (EPOLL*) and the watch mask of @h select; returns true when
 * one was called. Owner. */
bool aio_handler_dispatch(AioHandler *h, uint32_t events) ANY_THREAD;
void aio_handlers_init(AioContext *ctx) ANY_THREAD;
/* Calls the handlers' `flush`, before the owner may block. */
void aio_handlers_flush(AioContext *ctx) ANY_THREAD;
/* Frees removed handlers. The caller has no events left that name them. */
void aio_handlers_reap(AioContext *ctx) ANY_THREAD;

/* Wakes the owner if it sleeps. */
void aio_context_notify(AioContext *ctx) ANY_THREAD;
void aio_ready_init(AioContext *ctx) ANY_THREAD;
/* Puts @co on the ready list. */
void aio_ready_push(AioContext *ctx, struct Coroutine *co) ANY_THREAD;

/* Run pending work within the turn's budget; true when something ran. Owner. */
bool aio_bh_run(AioContext *ctx) ANY_THREAD;
bool aio_ready_run(AioContext *ctx) ANY_THREAD;

/* aio_wait.c. Prepares the wait of @ctx; its epoll_fd is open. False + errno. */
bool aio_wait_open(AioContext *ctx) ANY_THREAD;
void aio_wait_close(AioContext *ctx) ANY_THREAD;
/* Like epoll_wait(), with @timeout_ns (-1: no timeout). May return 0 early. Owner. */
int aio_wait(AioContext *ctx, struct epoll_event *events, int max, int64_t timeout_ns) ANY_THREAD;

/* timers */
int64_t aio_clock_ns(void) ANY_THREAD; /* CLOCK_MONOTONIC, also under virtual time */
int64_t aio_timers_next_ns(const AioContext *ctx) ANY_THREAD; /* INT64_MAX: none */
bool aio_timers_run(AioContext *ctx) ANY_THREAD;

/* coroutine.c: enters a ready coroutine. False: it has no stack and none can be allocated. */
bool coroutine_resume(struct Coroutine *co) ANY_THREAD;
/* The intrusive link of the ready lists. */
struct Coroutine **coroutine_link(struct Coroutine *co) ANY_THREAD;

#endif
