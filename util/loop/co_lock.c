/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting among coroutines of one context: turns, sleeps, queues, mutexes; and calls into other
 * contexts. */
#include "util/loop/coroutine.h"
#include "util/loop/waitgraph.h"

struct CoWaiter {
    CoToken token;
    CoWaiter *next;
    WaitRecord record;
};

static void co_wake_by_pointer(void *opaque)
{
    co_wake(*(CoToken *)opaque);
}

void co_yield_turn(void)
{
    CoToken token = co_arm();
    AioBh bh;
    aio_bh_init(&bh, co_context(co_self()), co_wake_by_pointer, &token);
    aio_bh_schedule(&bh);
    co_wait(token);
}

void co_sleep_ns(int64_t duration_ns)
{
    AioContext *ctx = co_context(co_self());
    CoToken token = co_arm();
    AioTimer timer;
    aio_timer_init(&timer, ctx, co_wake_by_pointer, &token);
    aio_timer_arm(&timer, aio_now_ns(ctx) + duration_ns);
    co_wait(token);
}

/* ---- calls into another context ---- */

typedef struct CoCall {
    CoroutineEntry *fn;
    void *opaque;
    CoToken caller;
    WaitRecord record;
} CoCall;

static void co_call_run(void *opaque)
{
    CoCall *call = opaque;
    wait_set_holder(&call->record, co_self());
    call->fn(call->opaque);
    wait_set_holder(&call->record, NULL); /* done: the caller only waits for its loop's next turn */
    co_wake(call->caller); /* @call is on the caller's stack: not accessed after this */
}

static coroutine_fn void co_call_for(AioContext *ctx, CoroutineEntry *fn, void *opaque,
                                     bool lasting)
{
    if (ctx == co_context(co_self())) {
        fn(opaque);
        return;
    }
    CoCall call = {.fn = fn, .opaque = opaque, .caller = co_arm()};
    wait_begin(&call.record, NULL, "a call into another context");
    if (lasting) {
        wait_set_lasting(&call.record);
    }
    co_start(ctx, co_call_run, &call);
    co_wait(call.caller);
    wait_end(&call.record);
}

void co_call_in(AioContext *ctx, CoroutineEntry *fn, void *opaque)
{
    co_call_for(ctx, fn, opaque, false);
}

void co_call_lasting_in(AioContext *ctx, CoroutineEntry *fn, void *opaque)
{
    co_call_for(ctx, fn, opaque, true);
}

/* ---- queues ---- */

void co_queue_init(CoQueue *q)
{
    q->head = NULL;
    q->tail = &q->head;
}

static coroutine_fn void co_queue_wait_for(CoQueue *q, const void *holder, const char *what)
{
    CoWaiter waiter = {.token = co_arm()};
    *q->tail = &waiter;
    q->tail = &waiter.next;
    wait_begin(&waiter.record, holder, what);
    co_wait(waiter.token);
    wait_end(&waiter.record);
}

void co_queue_wait(CoQueue *q, const char *what)
{
    co_queue_wait_for(q, NULL, what);
}

typedef struct CoLimitedWait {
    CoQueue *queue;
    CoWaiter waiter;
    bool late;
} CoLimitedWait;

/* A waiter that is no longer in the queue has been woken in this turn. */
static void co_queue_deadline(void *opaque)
{
    CoLimitedWait *wait = opaque;
    for (CoWaiter **at = &wait->queue->head; *at != NULL; at = &(*at)->next) {
        if (*at == &wait->waiter) {
            *at = wait->waiter.next;
            if (*at == NULL) {
                wait->queue->tail = at;
            }
            wait->late = true;
            co_wake(wait->waiter.token);
            return;
        }
    }
}

bool co_queue_wait_until(CoQueue *q, const char *what, int64_t deadline_ns)
{
    if (deadline_ns == INT64_MAX) {
        co_queue_wait(q, what);
        return true;
    }
    CoLimitedWait wait = {.queue = q, .waiter.token = co_arm()};
    AioTimer timer;
    *q->tail = &wait.waiter;
    q->tail = &wait.waiter.next;
    aio_timer_init(&timer, co_context(co_self()), co_queue_deadline, &wait);
    aio_timer_arm(&timer, deadline_ns);
    wait_begin(&wait.waiter.record, NULL, what);
    co_wait(wait.waiter.token);
    wait_end(&wait.waiter.record);
    aio_timer_disarm(&timer);
    return !wait.late;
}

static CoWaiter *co_queue_pop(CoQueue *q)
{
    CoWaiter *w = q->head;
    if (w != NULL) {
        q->head = w->next;
        if (q->head == NULL) {
            q->tail = &q->head;
        }
    }
    return w;
}

bool co_queue_wake_one(CoQueue *q)
{
    CoWaiter *w = co_queue_pop(q);
    if (w == NULL) {
        return false;
    }
    co_wake(w->token);
    return true;
}

void co_queue_wake_all(CoQueue *q)
{
    while (co_queue_wake_one(q)) {
    }
}

bool co_queue_empty(const CoQueue *q)
{
    return q->head == NULL;
}

/* ---- mutex: unlock passes it to the longest waiter, so no other can overtake ---- */

void co_mutex_init(CoMutex *m, HeldRank rank, const char *name)
{
    m->owner = NULL;
    co_queue_init(&m->waiters);
    m->rank = rank;
    m->name = name;
}

NO_THREAD_SAFETY_ANALYSIS void co_mutex_lock(CoMutex *m)
{
    Coroutine *self = co_self();
    held_push(m->rank, m, m->name, false); /* a wrong order is reported before the wait */
    if (m->owner == NULL) {
        m->owner = self;
        return;
    }
    co_queue_wait_for(&m->waiters, m->owner, m->name);
    if (m->owner != self) {
        bug_abort("'%s' was not passed to the coroutine that was woken", m->name);
    }
}

NO_THREAD_SAFETY_ANALYSIS void co_mutex_unlock(CoMutex *m)
{
    if (m->owner != co_self()) {
        bug_abort("'%s' is unlocked by a coroutine that does not hold it", m->name);
    }
    held_pop(m->rank, m);
    CoWaiter *w = co_queue_pop(&m->waiters);
    m->owner = w != NULL ? w->token.co : NULL;
    if (w == NULL) {
        return;
    }
    for (CoWaiter *rest = m->waiters.head; rest != NULL; rest = rest->next) {
        wait_set_holder(&rest->record, m->owner);
    }
    wait_set_holder(&w->record, NULL); /* granted: it only waits for its loop's next turn */
    co_wake(w->token);
}
