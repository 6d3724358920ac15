/* SPDX-License-Identifier: Apache-2.0 */
/* Coroutines, their tokens and locks, completions, schedule points. The rules of waiting:
 * test_loop_rules. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "util/loop/completion.h"
#include "util/loop/coroutine.h"
#include "util/loop/iothread.h"
#include "util/loop/sched_point.h"
#include "util/loop/waitgraph.h"

static int loop_setup(void **state)
{
    *state = aio_context_new("test", NULL);
    return *state == NULL;
}

static int loop_teardown(void **state)
{
    aio_context_free(*state);
    return 0;
}

static void loop_run_idle(AioContext *ctx)
{
    while (aio_context_step(ctx, false)) {
    }
}

typedef struct Flow {
    AioContext *ctx;
    CoToken token;
    char text[64];
    CoMutex mutex;
    CoQueue queue;
    int running;
} Flow;

static void flow_log(Flow *f, char c)
{
    f->text[strlen(f->text)] = c;
}

static void wait_once(void *opaque)
{
    Flow *f = opaque;
    enter_coroutine();
    flow_log(f, 'a');
    f->token = co_arm();
    co_wait(f->token);
    flow_log(f, 'b');
}

static void a_coroutine_waits_until_its_token_is_woken(void **state)
{
    Flow f = {.ctx = *state};
    co_start(f.ctx, wait_once, &f);
    loop_run_idle(f.ctx);
    assert_string_equal(f.text, "a");
    co_wake(f.token);
    assert_string_equal(f.text, "a"); /* never inline */
    loop_run_idle(f.ctx);
    assert_string_equal(f.text, "ab");
}

static void wait_after_wake(void *opaque)
{
    Flow *f = opaque;
    enter_coroutine();
    CoToken token = co_arm();
    co_wake(token);
    co_wait(token);
    flow_log(f, 'x');
}

static void a_wake_that_comes_early_is_latched(void **state)
{
    Flow f = {.ctx = *state};
    co_start(f.ctx, wait_after_wake, &f);
    loop_run_idle(f.ctx);
    assert_string_equal(f.text, "x");
}

static void lock_and_yield(void *opaque)
{
    Flow *f = opaque;
    enter_coroutine();
    co_mutex_lock(&f->mutex);
    assert_int_equal(f->running++, 0);
    co_yield_turn();
    co_sleep_ns(10);
    f->running--;
    flow_log(f, 'm');
    co_mutex_unlock(&f->mutex);
}

static void a_mutex_admits_one_coroutine_at_a_time(void **state)
{
    Flow f = {.ctx = *state};
    co_mutex_init(&f.mutex, RANK_DRAINED, "test mutex");
    aio_context_set_virtual_time(f.ctx, 0);
    for (int i = 0; i < 20; i++) {
        co_start(f.ctx, lock_and_yield, &f);
    }
    for (int now = 10; now <= 200; now += 10) {
        loop_run_idle(f.ctx);
        aio_context_set_virtual_time(f.ctx, now);
        loop_run_idle(f.ctx);
        assert_int_equal(strlen(f.text), now / 10);
    }
    assert_null(f.mutex.owner);
}

static void queue_waiter(void *opaque)
{
    Flow *f = opaque;
    enter_coroutine();
    co_queue_wait(&f->queue, "a test");
    flow_log(f, 'q');
}

static void a_queue_wakes_in_the_order_of_arrival(void **state)
{
    Flow f = {.ctx = *state};
    co_queue_init(&f.queue);
    for (int i = 0; i < 3; i++) {
        co_start(f.ctx, queue_waiter, &f);
    }
    loop_run_idle(f.ctx);
    enter_loop(f.ctx);
    assert_true(co_queue_wake_one(&f.queue));
    loop_run_idle(f.ctx);
    assert_string_equal(f.text, "q");
    co_queue_wake_all(&f.queue);
    loop_run_idle(f.ctx);
    assert_string_equal(f.text, "qqq");
    assert_false(co_queue_wake_one(&f.queue));
}

static void limited_waiter(void *opaque)
{
    Flow *f = opaque;
    enter_coroutine();
    bool woken = co_queue_wait_until(&f->queue, "a test", 100);
    flow_log(f, woken ? 'w' : 'l');
}

static void a_limited_wait_ends_by_its_wake_or_its_deadline(void **state)
{
    Flow f = {.ctx = *state};
    co_queue_init(&f.queue);
    aio_context_set_virtual_time(f.ctx, 0);
    for (int i = 0; i < 3; i++) {
        co_start(f.ctx, limited_waiter, &f);
    }
    loop_run_idle(f.ctx);
    enter_loop(f.ctx);
    assert_true(co_queue_wake_one(&f.queue));
    aio_context_set_virtual_time(f.ctx, 100); /* the wake comes first */
    loop_run_idle(f.ctx);
    assert_int_equal(strlen(f.text), 3);
    assert_string_equal(f.text, "wll");
    assert_true(co_queue_empty(&f.queue));
    co_start(f.ctx, queue_waiter, &f); /* the queue is intact */
    loop_run_idle(f.ctx);
    assert_true(co_queue_wake_one(&f.queue));
    loop_run_idle(f.ctx);
    assert_int_equal(f.text[3], 'q');
}

/* How many waits are older than nothing: that of the caller. */
static void report_waits(void *opaque)
{
    enter_coroutine();
    flow_log(opaque, (char)('0' + wait_report(INT64_MAX, 0)));
}

static void the_watchdog_reports_old_waits_once(void **state)
{
    Flow f = {.ctx = *state};
    co_queue_init(&f.queue);
    co_start(f.ctx, queue_waiter, &f);
    loop_run_idle(f.ctx);
    int64_t now = aio_now_ns(f.ctx);
    assert_int_equal(wait_report(now, 3600 * INT64_C(1000000000)), 0);
    assert_int_equal(wait_report(now + INT64_C(7200) * 1000000000, INT64_C(3600) * 1000000000), 1);
    enter_loop(f.ctx);
    co_queue_wake_all(&f.queue);
    loop_run_idle(f.ctx);
    assert_int_equal(wait_report(now + INT64_C(7200) * 1000000000, 0), 0);
}

static void calls_that_last(void *opaque)
{
    Flow *f = opaque;
    IoThread *t = iothread_new("x", 0, NULL);
    enter_coroutine();
    for (unsigned lasting = 0; lasting < 2; lasting++) {
        (lasting ? co_call_lasting_in : co_call_in)(iothread_context(t), report_waits, f);
    }
    iothread_free(t);
    f->running = 0;
}

static void the_watchdog_does_not_report_calls_that_last(void **state)
{
    Flow f = {.ctx = *state, .running = 1};
    co_start(f.ctx, calls_that_last, &f);
    while (f.running) { /* the other thread writes the text meanwhile */
        aio_context_step(f.ctx, true);
    }
    assert_string_equal(f.text, "10");
}

/* ---- across threads ---- */

typedef struct Calls {
    AioContext *home, *other;
    int left, in_other, in_worker;
} Calls;

static void call_body(void *opaque)
{
    Calls *c = opaque;
    enter_coroutine();
    enter_iothread(c->other);
    c->in_other++;
}

static int worker_body(void *opaque)
{
    enter_worker();
    ((Calls *)opaque)->in_worker++;
    return 17;
}

static void call_many(void *opaque)
{
    Calls *c = opaque;
    enter_coroutine();
    for (int i = 0; i < 2000; i++) {
        co_call_in(c->other, call_body, c);
        enter_loop(c->home);
    }
    for (int i = 0; i < 200; i++) {
        assert_int_equal(co_run_in_worker(worker_body, c), 17);
    }
    c->left--;
}

static void calls_into_iothreads_and_workers_return_home(void **state)
{
    IoThread *t = iothread_new("x", 0, NULL);
    Calls c = {.home = *state, .other = iothread_context(t), .left = 1};
    co_start(c.home, call_many, &c);
    while (c.left > 0) {
        aio_context_step(c.home, true);
    }
    assert_int_equal(c.in_other, 2000);
    assert_int_equal(c.in_worker, 200);
    iothread_free(t);
}

typedef struct Answer {
    Completion done;
    AioContext *ctx;
    int got;
} Answer;

static void *answer_wait(void *opaque)
{
    Answer *a = opaque;
    a->got = completion_wait(&a->done, "an answer");
    return NULL;
}

static void answer_give(void *opaque)
{
    completion_signal(&((Answer *)opaque)->done, 42);
}

static void a_completion_carries_its_result_to_a_vcpu_thread(void **state)
{
    for (int i = 0; i < 200; i++) {
        Answer a = {.ctx = *state};
        completion_init(&a.done);
        pthread_t thread;
        thread_start(&thread, THREAD_VCPU, "vcpu/0", answer_wait, &a);
        aio_post(a.ctx, answer_give, &a);
        aio_context_step(a.ctx, true);
        pthread_join(thread, NULL);
        assert_int_equal(a.got, 42);
    }
}

/* ---- schedule points ---- */

static void *hit_point(void *opaque)
{
    SP("test.point", NULL);
    __atomic_store_n((bool *)opaque, true, __ATOMIC_SEQ_CST);
    return NULL;
}

static void a_schedule_point_holds_a_thread_until_released(void **state)
{
    bool passed = false;
    sched_point_hold("test.point");
    pthread_t thread;
    thread_start(&thread, THREAD_WORKER, "worker/x", hit_point, &passed);
    sched_point_await("test.point");
    assert_false(__atomic_load_n(&passed, __ATOMIC_SEQ_CST));
    sched_point_release("test.point");
    pthread_join(thread, NULL);
    assert_true(passed);
    assert_int_equal(sched_point_count("test.point"), 1);
    sched_point_reset();
}

#define ON_LOOP(f) cmocka_unit_test_setup_teardown(f, loop_setup, loop_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_LOOP(a_coroutine_waits_until_its_token_is_woken),
        ON_LOOP(a_wake_that_comes_early_is_latched),
        ON_LOOP(a_mutex_admits_one_coroutine_at_a_time),
        ON_LOOP(a_queue_wakes_in_the_order_of_arrival),
        ON_LOOP(a_limited_wait_ends_by_its_wake_or_its_deadline),
        ON_LOOP(the_watchdog_reports_old_waits_once),
        ON_LOOP(the_watchdog_does_not_report_calls_that_last),
        ON_LOOP(calls_into_iothreads_and_workers_return_home),
        ON_LOOP(a_completion_carries_its_result_to_a_vcpu_thread),
        cmocka_unit_test(a_schedule_point_holds_a_thread_until_released),
    };
    return cmocka_run_group_tests_name("util/loop/coroutine", tests, NULL, NULL);
}
