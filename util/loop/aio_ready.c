/* SPDX-License-Identifier: Apache-2.0 */
/* Work that other threads pass to an AioContext, by a lock-free stack each: bottom halves and ready
 * coroutines. */
#include <sched.h>
#include <stdatomic.h>
#include "util/loop/aio_int.h"
#include "util/loop/sched_point.h"

/* ---- bottom halves ---- */

enum { BH_PENDING = 1, BH_ONESHOT = 2 };

void aio_bh_init(AioBh *bh, AioContext *ctx, void (*fn)(void *), void *opaque)
{
    *bh = (AioBh){.ctx = ctx, .fn = fn, .opaque = opaque};
}

static void aio_bh_push(AioBh *bh)
{
    AioContext *ctx = bh->ctx;
    atomic_fetch_add(&ctx->visitors, 1);
    AioBh *head = atomic_load_explicit(&ctx->incoming_bh, memory_order_relaxed);
    do {
        atomic_store_explicit(&bh->next, head, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak(&ctx->incoming_bh, &head, bh));
    aio_context_notify(ctx);
    atomic_fetch_sub(&ctx->visitors, 1);
}

void aio_bh_schedule(AioBh *bh)
{
    if ((atomic_fetch_or(&bh->flags, BH_PENDING) & BH_PENDING) == 0) {
        SP("aio.bh.marked", bh);
        aio_bh_push(bh);
    }
}

void aio_post(AioContext *ctx, void (*fn)(void *), void *opaque)
{
    AioBh *bh = g_new0(AioBh, 1);
    aio_bh_init(bh, ctx, fn, opaque);
    atomic_init(&bh->flags, BH_PENDING | BH_ONESHOT);
    aio_bh_push(bh);
}

/* Moves what other threads have pushed (newest first) behind the owner's list, oldest first. */
static void aio_bh_collect(AioContext *ctx)
{
    if (atomic_load_explicit(&ctx->incoming_bh, memory_order_relaxed) == NULL) {
        return;
    }
    AioBh *stack = atomic_exchange(&ctx->incoming_bh, NULL);
    AioBh *fifo = NULL;
    while (stack != NULL) {
        AioBh *next = atomic_load_explicit(&stack->next, memory_order_relaxed);
        atomic_store_explicit(&stack->next, fifo, memory_order_relaxed);
        fifo = stack;
        stack = next;
    }
    while (fifo != NULL) {
        AioBh *next = atomic_load_explicit(&fifo->next, memory_order_relaxed);
        atomic_store_explicit(&fifo->next, NULL, memory_order_relaxed);
        *ctx->bh_tail = fifo;
        ctx->bh_tail = &fifo->next;
        fifo = next;
    }
}

static AioBh *aio_bh_pop(AioContext *ctx)
{
    AioBh *bh = ctx->bh_head;
    ctx->bh_head = atomic_load_explicit(&bh->next, memory_order_relaxed);
    if (ctx->bh_head == NULL) {
        ctx->bh_tail = &ctx->bh_head;
    }
    return bh;
}

/* Removes @bh from the owner's list; false when it is not there. */
static bool aio_bh_unlink(AioContext *ctx, AioBh *bh)
{
    for (AioBh *_Atomic *link = &ctx->bh_head; *link != NULL; link = &(*link)->next) {
        if (*link != bh) {
            continue;
        }
        *link = atomic_load_explicit(&bh->next, memory_order_relaxed);
        if (*link == NULL) {
            ctx->bh_tail = link;
        }
        return true;
    }
    return false;
}

void aio_bh_cancel(AioBh *bh)
{
    AioContext *ctx = bh->ctx;
    assert_home(ctx);
    if ((atomic_load(&bh->flags) & BH_PENDING) == 0) {
        return;
    }
    /* A thread may have marked @bh and not yet pushed it: it is between two instructions. The
     * memory must not be reused before the push. */
    while (aio_bh_collect(ctx), !aio_bh_unlink(ctx, bh)) {
        sched_yield();
    }
    atomic_fetch_and(&bh->flags, ~BH_PENDING);
}

bool aio_bh_run(AioContext *ctx)
{
    aio_bh_collect(ctx);
    unsigned budget = AIO_TURN_BUDGET;
    AioBh *last = NULL; /* later schedules wait for the next turn */
    for (AioBh *b = ctx->bh_head; b != NULL;
         b = atomic_load_explicit(&b->next, memory_order_relaxed)) {
        last = b;
    }
    bool progress = false;
    while (last != NULL && budget-- > 0 && ctx->bh_head != NULL) {
        AioBh *bh = aio_bh_pop(ctx);
        bool end = bh == last;
        void (*fn)(void *) = bh->fn;
        void *opaque = bh->opaque;
        /* Cleared before the call, so that a schedule during the call runs it again. */
        unsigned flags = atomic_fetch_and(&bh->flags, ~BH_PENDING);
        if ((flags & BH_ONESHOT) != 0) {
            g_free(bh);
        }
        fn(opaque);
        progress = true;
        if (end) {
            break;
        }
    }
    return progress;
}

/* ---- ready coroutines ---- */

void aio_ready_push(AioContext *ctx, struct Coroutine *co)
{
    if (aio_context_current() == ctx) {
        *coroutine_link(co) = NULL;
        *ctx->co_tail = co;
        ctx->co_tail = coroutine_link(co);
        return;
    }
    atomic_fetch_add(&ctx->visitors, 1);
    struct Coroutine *head = atomic_load_explicit(&ctx->incoming_co, memory_order_relaxed);
    do {
        *coroutine_link(co) = head;
    } while (!atomic_compare_exchange_weak(&ctx->incoming_co, &head, co));
    aio_context_notify(ctx);
    atomic_fetch_sub(&ctx->visitors, 1);
}

static void aio_ready_collect(AioContext *ctx)
{
    if (atomic_load_explicit(&ctx->incoming_co, memory_order_relaxed) == NULL) {
        return;
    }
    struct Coroutine *stack = atomic_exchange(&ctx->incoming_co, NULL);
    struct Coroutine *fifo = NULL;
    while (stack != NULL) {
        struct Coroutine *next = *coroutine_link(stack);
        *coroutine_link(stack) = fifo;
        fifo = stack;
        stack = next;
    }
    while (fifo != NULL) {
        struct Coroutine *next = *coroutine_link(fifo);
        *coroutine_link(fifo) = NULL;
        *ctx->co_tail = fifo;
        ctx->co_tail = coroutine_link(fifo);
        fifo = next;
    }
}

/* How soon coroutines without a stack are retried when nothing else wakes the loop. */
#define AIO_STALLED_RETRY_NS 10000000

static void aio_stalled_retry(void *opaque)
{
    (void)opaque; /* the next turn's aio_ready_run() retries */
}

void aio_ready_init(AioContext *ctx)
{
    ctx->co_tail = &ctx->co_head;
    ctx->stalled_tail = &ctx->stalled;
    aio_timer_init(&ctx->stalled_timer, ctx, aio_stalled_retry, NULL);
}

/* No stack for @co: it stays on the ready list. */
static void aio_ready_stall(AioContext *ctx, struct Coroutine *co)
{
    *coroutine_link(co) = NULL;
    *ctx->stalled_tail = co;
    ctx->stalled_tail = coroutine_link(co);
}

/* Takes the ready list. Coroutines without a stack in the last turn go last: others may free one.
 */
static struct Coroutine *aio_ready_take(AioContext *ctx)
{
    aio_ready_collect(ctx);
    if (__builtin_expect(ctx->stalled != NULL, 0)) {
        *ctx->co_tail = ctx->stalled;
        ctx->stalled = NULL;
        ctx->stalled_tail = &ctx->stalled;
        aio_timer_disarm(&ctx->stalled_timer);
    }
    struct Coroutine *batch = ctx->co_head;
    ctx->co_head = NULL;
    ctx->co_tail = &ctx->co_head;
    return batch;
}

bool aio_ready_run(AioContext *ctx)
{
    struct Coroutine *batch = aio_ready_take(ctx);
    bool progress = false;
    unsigned budget = AIO_TURN_BUDGET;
    while (batch != NULL && budget > 0) {
        struct Coroutine *co = batch;
        batch = *coroutine_link(co);
        if (coroutine_resume(co)) {
            progress = true;
            budget--;
        } else {
            aio_ready_stall(ctx, co);
        }
    }
    if (ctx->stalled != NULL) {
        aio_timer_arm(&ctx->stalled_timer, aio_now_ns(ctx) + AIO_STALLED_RETRY_NS);
    }
    if (batch != NULL) { /* over budget: the rest goes before newer ready coroutines */
        struct Coroutine **end = &batch;
        while (*end != NULL) {
            end = coroutine_link(*end);
        }
        *end = ctx->co_head;
        if (ctx->co_head == NULL) {
            ctx->co_tail = end;
        }
        ctx->co_head = batch;
    }
    return progress;
}
