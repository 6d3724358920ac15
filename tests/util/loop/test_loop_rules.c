/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that event loops, coroutines and locks enforce; each test breaks one: who runs a loop,
 * who may wait while holding which things, the order of locks. Each test forks; only the children
 * have threads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <unistd.h>
#include "tests/support/death.h"
#include "util/loop/aio_int.h"
#include "util/loop/completion.h"
#include "util/loop/coroutine.h"
#include "util/loop/iothread.h"
#include "util/loop/waitgraph.h"

/* ---- event loops ---- */

static void step_inside(void *opaque)
{
    aio_context_step(opaque, false);
}

static void nest(void *opaque)
{
    AioContext *ctx = aio_context_new("nested", NULL);
    aio_post(ctx, step_inside, ctx);
    aio_context_step(ctx, false);
}

static void step_other(void *opaque)
{
    AioContext *other = aio_context_new("other", NULL);
    aio_context_step(other, false);
}

static void nest_other(void *opaque)
{
    AioContext *ctx = aio_context_new("outer", NULL);
    aio_post(ctx, step_other, NULL);
    aio_context_step(ctx, false);
}

static void r2_running_a_loop_from_its_own_callback_aborts(void **state)
{
    assert_dies(nest, NULL, "is run from inside a turn");
    assert_dies(nest_other, NULL, "is run from inside a turn");
}

static void *step_thread(void *ctx)
{
    aio_context_step(ctx, false);
    return NULL;
}

static void step_foreign(void *opaque)
{
    AioContext *ctx = aio_context_new("mine", NULL);
    pthread_t thread;
    thread_start(&thread, THREAD_VCPU, "vcpu/0", step_thread, ctx);
    pthread_join(thread, NULL);
}

/* A descriptor is closed twice, and the second close hits the loop's. */
static void lose_epoll_descriptor(void *arg)
{
    AioContext *ctx = aio_context_new("robbed", NULL);
    close(ctx->epoll_fd);
    aio_context_step(ctx, true);
}

static void a_loop_that_cannot_wait_aborts_and_does_not_spin(void **state)
{
    assert_dies(lose_epoll_descriptor, NULL, "epoll_wait of 'robbed': Bad file descriptor");
}

static void r2_running_another_threads_loop_aborts(void **state)
{
    assert_dies(step_foreign, NULL, "not its home");
}

NO_THREAD_SAFETY_ANALYSIS static void enter_main_as_vcpu(void *opaque)
{
    thread_adopt_role(THREAD_VCPU, "vcpu/0");
    bql_lock(); /* holding the big lock makes no thread main */
    enter_main();
}

static void r1_holding_the_big_lock_makes_no_thread_main(void **state)
{
    assert_dies(enter_main_as_vcpu, NULL, "main code entered by thread 'vcpu/0'");
}

/* ---- waits and locks ---- */

static void loop_once(CoroutineEntry *entry, void *opaque)
{
    AioContext *ctx = aio_context_new("dying", NULL);
    co_start(ctx, entry, opaque);
    for (int i = 0; i < 10; i++) {
        aio_context_step(ctx, false);
    }
}

static void wake_twice_body(void *opaque)
{
    enter_coroutine();
    CoToken token = co_arm();
    co_wake(token);
    co_wait(token);
    co_wake(token);
}

static void wake_twice(void *arg)
{
    loop_once(wake_twice_body, NULL);
}

static void signal_twice(void *arg)
{
    Completion c;
    completion_init(&c);
    completion_signal(&c, 0);
    completion_signal(&c, 0);
}

static void r6_a_second_completion_aborts(void **state)
{
    assert_dies(wake_twice, NULL, "woken twice");
    assert_dies(signal_twice, NULL, "signalled twice");
}

static void wait_as_main(void *arg)
{
    thread_adopt_role(THREAD_MAIN, "main");
    Completion c;
    completion_init(&c);
    completion_wait(&c, "a thing");
}

NO_THREAD_SAFETY_ANALYSIS static void wait_holding(void *arg)
{
    thread_adopt_role(THREAD_VCPU, "vcpu/0");
    bql_lock();
    Completion c;
    completion_init(&c);
    completion_wait(&c, "a thing");
}

static void r3_a_loop_that_blocks_or_a_wait_with_a_lock_aborts(void **state)
{
    assert_dies(wait_as_main, NULL, "a loop thread would block");
    assert_dies(wait_holding, NULL, "while holding 'BQL'");
}

NO_THREAD_SAFETY_ANALYSIS static void yield_with_bql_body(void *opaque)
{
    enter_coroutine();
    bql_lock();
    co_yield_turn();
}

static void yield_with_bql(void *arg)
{
    thread_adopt_role(THREAD_MAIN, "main");
    loop_once(yield_with_bql_body, NULL);
}

NO_THREAD_SAFETY_ANALYSIS static void block_with_bql(void *arg)
{
    thread_adopt_role(THREAD_MAIN, "main");
    AioContext *ctx = aio_context_new("main", NULL);
    bql_lock();
    aio_context_step(ctx, true);
}

NO_THREAD_SAFETY_ANALYSIS static void bql_in_iothread(void *arg)
{
    thread_adopt_role(THREAD_IOTHREAD, "iothread/x");
    bql_lock();
}

NO_THREAD_SAFETY_ANALYSIS static void bql_dropped_by_other(void *arg)
{
    thread_adopt_role(THREAD_VCPU, "vcpu/0");
    bql_unlock();
}

static void r4_the_big_lock_across_a_wait_or_in_an_iothread_aborts(void **state)
{
    assert_dies(yield_with_bql, NULL, "about to yield in co_wait while holding 'BQL'");
    assert_dies(block_with_bql, NULL, "while holding 'BQL'");
    assert_dies(bql_dropped_by_other, NULL, "dropped without being held");
}

static void r5_an_iothread_that_takes_the_big_lock_aborts(void **state)
{
    assert_dies(bql_in_iothread, NULL, "only vCPUs and main may");
}

static void enter_iothread_as_main_body(void *opaque)
{
    enter_iothread(aio_context_current());
}

static void enter_iothread_as_main(void *arg)
{
    thread_adopt_role(THREAD_MAIN, "main");
    loop_once(enter_iothread_as_main_body, NULL);
}

static void touch_foreign_context(void *arg)
{
    IoThread *t = iothread_new("x", 0, NULL);
    AioTimer timer;
    aio_timer_init(&timer, iothread_context(t), NULL, NULL);
    aio_timer_arm(&timer, 0);
}

static void r7_using_what_another_thread_owns_aborts(void **state)
{
    assert_dies(enter_iothread_as_main, NULL, "iothread code entered in main");
    assert_dies(touch_foreign_context, NULL, "which is not its home");
}

NO_THREAD_SAFETY_ANALYSIS static void wrong_order(void *arg)
{
    RankMutex queue;
    rank_mutex_init(&queue, RANK_QUEUE, "a queue");
    rank_mutex_lock(&queue);
    bql_lock();
}

static void locks_out_of_order_abort(void **state)
{
    assert_dies(wrong_order, NULL, "'BQL' (rank BQL) taken while 'a queue' (rank queue) is held");
}

NO_THREAD_SAFETY_ANALYSIS static void resume_holding(void *arg)
{
    AioContext *ctx = aio_context_new("dying", NULL);
    enter_loop(ctx);
    bql_lock();
    co_start_now(ctx, wake_twice_body, NULL);
}

NO_THREAD_SAFETY_ANALYSIS static void end_holding_body(void *opaque)
{
    enter_coroutine();
    CoMutex *m = opaque;
    co_mutex_init(m, RANK_OPERATION, "operation lock");
    co_mutex_lock(m);
}

static void end_holding(void *arg)
{
    static CoMutex m;
    loop_once(end_holding_body, &m);
}

static void coroutines_start_and_end_holding_nothing(void **state)
{
    assert_dies(resume_holding, NULL, "while the thread holds 'BQL'");
    assert_dies(end_holding, NULL, "a coroutine ends while holding 'operation lock'");
}

typedef struct Cycle {
    CoMutex a, b;
} Cycle;

NO_THREAD_SAFETY_ANALYSIS static void cycle_ab(void *opaque)
{
    Cycle *c = opaque;
    enter_coroutine();
    co_mutex_lock(&c->a);
    co_yield_turn();
    co_mutex_lock(&c->b);
}

NO_THREAD_SAFETY_ANALYSIS static void cycle_ba(void *opaque)
{
    Cycle *c = opaque;
    enter_coroutine();
    co_mutex_lock(&c->b);
    /* not checked by ranks, as if they had been declared wrongly */
    WaitRecord record;
    wait_begin(&record, c->a.owner, "mutex a");
    co_wait(co_arm());
}

static void make_cycle(void *arg)
{
    static Cycle c;
    AioContext *ctx = aio_context_new("dying", NULL);
    co_mutex_init(&c.a, RANK_OPERATION, "mutex a");
    co_mutex_init(&c.b, RANK_DRAINED, "mutex b");
    co_start(ctx, cycle_ab, &c);
    co_start(ctx, cycle_ba, &c);
    for (int i = 0; i < 10; i++) {
        aio_context_step(ctx, false);
    }
}

/* A lock held across a call and taken again by the callee: ranks do not detect it. */
typedef struct CallCycle {
    AioContext *here, *there;
    CoMutex mutex;
} CallCycle;

NO_THREAD_SAFETY_ANALYSIS static void call_back(void *opaque)
{
    CallCycle *c = opaque;
    enter_coroutine();
    co_mutex_lock(&c->mutex);
}

static void call_there(void *opaque)
{
    CallCycle *c = opaque;
    enter_coroutine();
    co_call_in(c->here, call_back, c);
}

NO_THREAD_SAFETY_ANALYSIS static void call_with_lock(void *opaque)
{
    CallCycle *c = opaque;
    enter_coroutine();
    co_mutex_lock(&c->mutex);
    co_call_in(c->there, call_there, c);
}

static void make_call_cycle(void *arg)
{
    CallCycle c = {.here = aio_context_new("here", NULL), .there = aio_context_new("there", NULL)};
    co_mutex_init(&c.mutex, RANK_OPERATION, "a lock");
    co_start(c.here, call_with_lock, &c);
    for (int i = 0; i < 10; i++) {
        aio_context_step(c.here, false);
        aio_context_step(c.there, false);
    }
}

static void a_cycle_of_waits_aborts_and_is_named(void **state)
{
    assert_dies(make_cycle, NULL, "deadlock: a cycle of waits");
    assert_dies(make_call_cycle, NULL, "deadlock: a cycle of waits");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r2_running_a_loop_from_its_own_callback_aborts),
        cmocka_unit_test(a_loop_that_cannot_wait_aborts_and_does_not_spin),
        cmocka_unit_test(r2_running_another_threads_loop_aborts),
        cmocka_unit_test(r1_holding_the_big_lock_makes_no_thread_main),
        cmocka_unit_test(r6_a_second_completion_aborts),
        cmocka_unit_test(r3_a_loop_that_blocks_or_a_wait_with_a_lock_aborts),
        cmocka_unit_test(r4_the_big_lock_across_a_wait_or_in_an_iothread_aborts),
        cmocka_unit_test(r5_an_iothread_that_takes_the_big_lock_aborts),
        cmocka_unit_test(r7_using_what_another_thread_owns_aborts),
        cmocka_unit_test(locks_out_of_order_abort),
        cmocka_unit_test(coroutines_start_and_end_holding_nothing),
        cmocka_unit_test(a_cycle_of_waits_aborts_and_is_named),
    };
    return cmocka_run_group_tests_name("util/loop/loop rules", tests, NULL, NULL);
}
