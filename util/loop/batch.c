/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/batch.h"

#include <stdatomic.h>
#include "util/loop/sched_point.h"

static void batch_send_at_turn(void *opaque)
{
    LoopBatch *b = opaque;
    enter_loop(b->from);
    loop_batch_send(b);
}

static void batch_arrive(void *opaque)
{
    LoopBatch *b = opaque;
    enter_loop(b->to);
    LoopBatchItem *stack = atomic_exchange(&b->passed, NULL), *fifo = NULL;
    void (*fn)(void *, LoopBatchItem *) = b->fn;
    void *arg = b->opaque;
    while (stack != NULL) {
        LoopBatchItem *next = stack->next;
        stack->next = fifo;
        fifo = stack;
        stack = next;
    }
    while (fifo != NULL) { /* the last call may lead to the end of @b */
        LoopBatchItem *next = fifo->next;
        fn(arg, fifo);
        fifo = next;
    }
}

void loop_batch_init(LoopBatch *b, AioContext *from, AioContext *to,
                     void (*fn)(void *opaque, LoopBatchItem *item), void *opaque)
{
    *b = (LoopBatch){.from = from, .to = to, .fn = fn, .opaque = opaque};
    aio_bh_init(&b->send_bh, from, batch_send_at_turn, b);
    aio_bh_init(&b->arrive_bh, to, batch_arrive, b);
}

void loop_batch_add(LoopBatch *b, LoopBatchItem *item)
{
    assert_home(b->from);
    item->next = b->newest;
    b->newest = item;
    if (b->oldest == NULL) {
        b->oldest = item;
    }
}

void loop_batch_send(LoopBatch *b)
{
    assert_home(b->from);
    LoopBatchItem *newest = b->newest, *oldest = b->oldest;
    if (newest == NULL) {
        return;
    }
    b->newest = b->oldest = NULL;
    LoopBatchItem *head = atomic_load_explicit(&b->passed, memory_order_relaxed);
    do {
        oldest->next = head;
    } while (!atomic_compare_exchange_weak(&b->passed, &head, newest));
    if (head == NULL) { /* else the bottom half is scheduled and has not taken them yet */
        SP("loop.batch", b);
        aio_bh_schedule(&b->arrive_bh);
    }
}

void loop_batch_send_later(LoopBatch *b)
{
    assert_home(b->from);
    aio_bh_schedule(&b->send_bh);
}
