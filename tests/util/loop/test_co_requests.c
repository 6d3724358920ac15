/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of several loops on a kernel with few stacks: stacks that one loop uses, or has used,
 * are not taken from another. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include "util/loop/co_stack.h"
#include "util/loop/coroutine.h"
#include "util/loop/iothread.h"

#define LOOPS 3u

/* A device with more requests from the guest than may be in flight. */
typedef struct Source {
    IoThread *thread;
    AioContext *ctx;
    CoToken tokens[CO_REQUESTS_MAX];
    unsigned waiting, ended;
} Source;

static AioContext *main_ctx;
static Source *sources;

static int no_light_guards(CoStackCall call)
{
    return call == CO_STACK_GUARD ? EINVAL : 0;
}

static void request(void *opaque)
{
    Source *s = opaque;
    enter_coroutine();
    enter_iothread(s->ctx);
    CoToken token = co_arm();
    s->tokens[s->waiting++] = token;
    co_wait(token);
    s->ended++;
}

static void begin(void *opaque)
{
    Source *s = opaque;
    enter_coroutine();
    enter_iothread(s->ctx);
    co_requests_begin(s->ctx, CO_REQUESTS_MAX);
}

/* Takes the maximum of requests. */
static void take(void *opaque)
{
    Source *s = opaque;
    enter_coroutine();
    enter_iothread(s->ctx);
    unsigned taken = 0;
    co_yield_turn(); /* the loop updates its share */
    s->waiting = s->ended = 0;
    for (; taken < co_requests_limit(s->ctx) && co_request_ready(s->ctx); taken++) {
        co_start_now(s->ctx, request, s);
    }
    while (s->waiting < taken) {
        co_yield_turn();
    }
}

static void complete(void *opaque)
{
    Source *s = opaque;
    enter_coroutine();
    enter_iothread(s->ctx);
    for (unsigned i = 0; i < s->waiting; i++) {
        co_wake(s->tokens[i]);
    }
    while (s->ended < s->waiting) {
        co_yield_turn();
    }
}

static void end(void *opaque)
{
    Source *s = opaque;
    enter_coroutine();
    enter_iothread(s->ctx);
    co_requests_end(s->ctx, CO_REQUESTS_MAX);
}

static void run_body(void *opaque)
{
    void (*body)(void) = *(void (**)(void))opaque;
    enter_coroutine();
    enter_main();
    body();
    aio_context_quit(main_ctx);
}

static void run(void (*body)(void))
{
    co_stack_set_fault(no_light_guards);
    for (unsigned i = 0; i < LOOPS; i++) {
        sources[i].thread = iothread_new("io", 0, NULL);
        sources[i].ctx = iothread_context(sources[i].thread);
    }
    co_start(main_ctx, run_body, &body);
    aio_context_run(main_ctx);
    for (unsigned i = 0; i < LOOPS; i++) {
        iothread_free(sources[i].thread);
    }
    co_stack_set_fault(NULL);
}

static coroutine_fn RUNS_IN_MAIN void in_loops(unsigned from, unsigned to, CoroutineEntry *fn)
{
    for (unsigned i = from; i < to; i++) {
        co_call_in(sources[i].ctx, fn, &sources[i]);
    }
}

static coroutine_fn RUNS_IN_MAIN void body_hanging(void)
{
    in_loops(0, LOOPS, begin);
    in_loops(0, LOOPS - 1, take);
    in_loops(LOOPS - 1, LOOPS, take);
    assert_in_range(sources[LOOPS - 1].waiting, CO_REQUESTS_MIN, CO_REQUESTS_MAX);
    assert_int_equal(sources[LOOPS - 1].waiting, co_requests_limit(sources[LOOPS - 1].ctx));
    in_loops(0, LOOPS, complete);
    in_loops(0, LOOPS, end);
}

static void requests_that_hang_in_other_loops_leave_stacks(void **state)
{
    (void)state;
    run(body_hanging);
}

/* The third loop gets its first device after the others were busy and became idle. */
static coroutine_fn RUNS_IN_MAIN void body_idle(void)
{
    in_loops(0, LOOPS - 1, begin);
    in_loops(0, LOOPS - 1, take);
    in_loops(0, LOOPS - 1, complete);
    in_loops(LOOPS - 1, LOOPS, begin);
    in_loops(0, LOOPS, take);
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(sources[i].waiting, co_requests_limit(sources[i].ctx));
        assert_in_range(sources[i].waiting, CO_REQUESTS_MIN, CO_REQUESTS_MAX);
    }
    in_loops(0, LOOPS, complete);
    in_loops(0, LOOPS, end);
}

static void stacks_that_idle_loops_keep_are_there_for_a_new_one(void **state)
{
    (void)state;
    run(body_idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_that_hang_in_other_loops_leave_stacks),
        cmocka_unit_test(stacks_that_idle_loops_keep_are_there_for_a_new_one),
    };
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    thread_adopt_role(THREAD_MAIN, "main");
    main_ctx = aio_context_new("main", NULL);
    sources = g_new0(Source, LOOPS);
    int ret = cmocka_run_group_tests(tests, NULL, NULL);
    aio_context_free(main_ctx);
    g_free(sources);
    return ret;
}
