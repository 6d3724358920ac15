/* SPDX-License-Identifier: Apache-2.0 */
/* Timers of an AioContext: a binary heap by deadline, 1-based so that index 0 means "not armed". */
#include <time.h>
#include "util/loop/aio_int.h"

int64_t aio_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

int64_t aio_now_ns(const AioContext *ctx)
{
    return ctx->virtual_time ? ctx->virtual_now_ns : aio_clock_ns();
}

int64_t aio_batch_now_ns(AioContext *ctx)
{
    if (ctx->batch_now_ns == 0) {
        ctx->batch_now_ns = aio_now_ns(ctx);
    }
    return ctx->batch_now_ns;
}

void aio_context_set_virtual_time(AioContext *ctx, int64_t now_ns)
{
    assert_home(ctx);
    ctx->virtual_time = true;
    ctx->virtual_now_ns = now_ns;
    ctx->batch_now_ns = 0;
}

void aio_timer_init(AioTimer *t, AioContext *ctx, void (*fn)(void *), void *opaque)
{
    *t = (AioTimer){.ctx = ctx, .fn = fn, .opaque = opaque};
}

static void aio_heap_put(AioContext *ctx, unsigned index, AioTimer *t)
{
    ctx->heap[index] = t;
    t->heap_index = index;
}

static void aio_heap_up(AioContext *ctx, unsigned index)
{
    AioTimer *t = ctx->heap[index];
    while (index > 1 && ctx->heap[index / 2]->deadline_ns > t->deadline_ns) {
        aio_heap_put(ctx, index, ctx->heap[index / 2]);
        index /= 2;
    }
    aio_heap_put(ctx, index, t);
}

static void aio_heap_down(AioContext *ctx, unsigned index)
{
    AioTimer *t = ctx->heap[index];
    for (;;) {
        unsigned child = index * 2;
        if (child > ctx->heap_count) {
            break;
        }
        if (child < ctx->heap_count &&
            ctx->heap[child + 1]->deadline_ns < ctx->heap[child]->deadline_ns) {
            child++;
        }
        if (ctx->heap[child]->deadline_ns >= t->deadline_ns) {
            break;
        }
        aio_heap_put(ctx, index, ctx->heap[child]);
        index = child;
    }
    aio_heap_put(ctx, index, t);
}

void aio_timer_disarm(AioTimer *t)
{
    AioContext *ctx = t->ctx;
    if (t->heap_index == 0) {
        return;
    }
    assert_home(ctx);
    unsigned index = t->heap_index;
    AioTimer *last = ctx->heap[ctx->heap_count--];
    t->heap_index = 0;
    if (last != t) {
        aio_heap_put(ctx, index, last);
        aio_heap_up(ctx, index);
        aio_heap_down(ctx, last->heap_index);
    }
}

void aio_timer_arm(AioTimer *t, int64_t deadline_ns)
{
    AioContext *ctx = t->ctx;
    assert_home(ctx);
    aio_timer_disarm(t);
    t->deadline_ns = deadline_ns;
    if (ctx->heap_count + 1 >= ctx->heap_size) {
        ctx->heap_size = ctx->heap_size == 0 ? 16 : ctx->heap_size * 2;
        ctx->heap = g_renew(AioTimer *, ctx->heap, ctx->heap_size);
    }
    ctx->heap[++ctx->heap_count] = t;
    t->heap_index = ctx->heap_count;
    aio_heap_up(ctx, ctx->heap_count);
}

int64_t aio_timers_next_ns(const AioContext *ctx)
{
    return ctx->heap_count == 0 ? INT64_MAX : ctx->heap[1]->deadline_ns;
}

bool aio_timers_run(AioContext *ctx)
{
    if (ctx->heap_count == 0) {
        return false;
    }
    /* The clock is read once and a budget applies: a timer that re-arms itself in the past does not
     * starve others. */
    int64_t now_ns = aio_now_ns(ctx);
    bool progress = false;
    for (unsigned budget = AIO_TURN_BUDGET; budget > 0 && aio_timers_next_ns(ctx) <= now_ns;
         budget--) {
        AioTimer *t = ctx->heap[1];
        aio_timer_disarm(t);
        t->fn(t->opaque);
        progress = true;
    }
    return progress;
}
