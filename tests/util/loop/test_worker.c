/* SPDX-License-Identifier: Apache-2.0 */
/* The worker pool: calls that hang in one lane do not block another. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "util/loop/iothread.h"
#include "util/loop/worker.h"
#include "util/sys/sys_fault.h"

#define HELD 10 /* more than a lane lets run */

/* Calls that hang until the gate is open. */
typedef struct Gate {
    AioContext *ctx;
    WorkerLane hanging, other;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    unsigned inside, most_inside, passed;
    unsigned answered; /* coroutines that have resumed; main */
} Gate;

static int setup(void **state)
{
    Gate *g = g_new0(Gate, 1);
    if (thread_role() != THREAD_MAIN) {
        thread_adopt_role(THREAD_MAIN, "main");
    }
    g->ctx = aio_context_new("main", NULL);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    Gate *g = *state;
    aio_context_free(g->ctx);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->changed);
    g_free(g);
    return 0;
}

static int hang(void *opaque)
{
    Gate *g = opaque;
    enter_worker();
    pthread_mutex_lock(&g->lock);
    g->inside++;
    g->most_inside = MAX(g->most_inside, g->inside);
    pthread_cond_broadcast(&g->changed);
    while (!g->open) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    g->inside--;
    g->passed++;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    return 1;
}

static int pass(void *opaque)
{
    enter_worker();
    return 1;
}

static void ask_hanging(void *opaque)
{
    Gate *g = opaque;
    enter_coroutine();
    g->answered += (unsigned)co_run_in_lane(&g->hanging, hang, g);
}

static void ask_common_hanging(void *opaque)
{
    Gate *g = opaque;
    enter_coroutine();
    g->answered += (unsigned)co_run_in_worker(hang, g);
}

static void ask_other(void *opaque)
{
    Gate *g = opaque;
    enter_coroutine();
    g->answered += (unsigned)co_run_in_lane(&g->other, pass, g);
}

static void ask_common(void *opaque)
{
    Gate *g = opaque;
    enter_coroutine();
    g->answered += (unsigned)co_run_in_worker(pass, g);
}

/* Starts more calls than a lane allows, and waits until the allowed number runs. */
static void fill_lane(Gate *g, void (*ask)(void *opaque))
{
    for (unsigned i = 0; i < WORKER_LANE_MAX + HELD; i++) {
        co_start(g->ctx, ask, g);
    }
    while (aio_context_step(g->ctx, false)) {
    }
    pthread_mutex_lock(&g->lock);
    while (g->inside < WORKER_LANE_MAX) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

static void answer_one(Gate *g, void (*ask)(void *opaque))
{
    unsigned before = g->answered;
    co_start(g->ctx, ask, g);
    while (g->answered == before) {
        aio_context_step(g->ctx, true);
    }
    assert_int_equal(g->answered, before + 1);
}

static void release_calls(Gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static void open_gate(Gate *g)
{
    unsigned before = g->answered;
    release_calls(g);
    while (g->answered < before + WORKER_LANE_MAX + HELD) {
        aio_context_step(g->ctx, true);
    }
    assert_int_equal(g->passed, WORKER_LANE_MAX + HELD);
    assert_int_equal(g->most_inside, WORKER_LANE_MAX);
}

static void a_lane_full_of_hung_calls_does_not_block_others(void **state)
{
    Gate *g = *state;
    fill_lane(g, ask_hanging);
    for (unsigned i = 0; i < 100; i++) {
        answer_one(g, ask_other);
        answer_one(g, ask_common);
    }
    assert_int_equal(g->inside, WORKER_LANE_MAX);
    open_gate(g);
    answer_one(g, ask_hanging);
}

static void the_shared_pool_is_a_lane_too(void **state)
{
    Gate *g = *state;
    fill_lane(g, ask_common_hanging);
    for (unsigned i = 0; i < 100; i++) {
        answer_one(g, ask_other);
    }
    open_gate(g);
    answer_one(g, ask_common);
}

/* A thread that ends its job takes the job that it admits to the lane. */
static void there_are_no_more_threads_than_jobs_at_a_time(void **state)
{
    unsigned threads = 0;
    g_autoptr(GDir) dir = g_dir_open("/proc/self/task", 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *path = g_strdup_printf("/proc/self/task/%s/comm", name);
        g_autofree char *comm = NULL;
        if (g_file_get_contents(path, &comm, NULL, NULL)) {
            threads += g_str_has_prefix(comm, "worker/");
        }
    }
    assert_in_range(threads, WORKER_LANE_MAX, WORKER_LANE_MAX + 2);
}

/* ---- calls that are left behind ---- */

typedef struct Call {
    Gate *gate;
    int (*fn)(void *opaque);
    int64_t deadline_ns;
    bool ended, in_time; /* main */
    int result;
    _Atomic unsigned begun, released;
} Call;

static int call_hang(void *opaque)
{
    Call *c = opaque;
    c->begun++;
    return hang(c->gate);
}

static int call_pass(void *opaque)
{
    Call *c = opaque;
    c->begun++;
    return pass(c->gate);
}

static void call_release(void *opaque)
{
    Call *c = opaque;
    enter_worker();
    c->released++;
}

static void ask_with_deadline(void *opaque)
{
    Call *c = opaque;
    enter_coroutine();
    c->in_time =
        co_run_in_lane_until(&c->gate->hanging, c->fn, call_release, c, c->deadline_ns, &c->result);
    c->ended = true;
}

static void call_begin(Call *c)
{
    co_start(c->gate->ctx, ask_with_deadline, c);
    while (aio_context_step(c->gate->ctx, false)) {
    }
}

static void call_await(const Call *c)
{
    while (!c->ended) {
        aio_context_step(c->gate->ctx, true);
    }
}

static void a_call_ends_before_its_deadline(void **state)
{
    Gate *g = *state;
    int64_t deadlines[] = {INT64_MAX, aio_now_ns(g->ctx) + 60000000000ll};
    for (unsigned i = 0; i < G_N_ELEMENTS(deadlines); i++) {
        Call c = {.gate = g, .fn = call_pass, .deadline_ns = deadlines[i]};
        call_begin(&c);
        call_await(&c);
        assert_true(c.in_time);
        assert_int_equal(c.result, 1);
        assert_int_equal(c.released, 0);
    }
}

static void a_call_that_hangs_is_left_behind(void **state)
{
    Gate *g = *state;
    Call c = {.gate = g, .fn = call_hang, .deadline_ns = 1000};
    aio_context_set_virtual_time(g->ctx, 0);
    call_begin(&c);
    while (!c.begun) {
        sched_yield();
    }
    aio_context_set_virtual_time(g->ctx, 999);
    while (aio_context_step(g->ctx, false)) {
    }
    assert_false(c.ended);
    aio_context_set_virtual_time(g->ctx, 1000);
    call_await(&c);
    assert_false(c.in_time);
    assert_int_equal(c.released, 0); /* it still uses its argument */
    release_calls(g);
    while (!c.released) {
        sched_yield();
    }
    while (aio_context_step(g->ctx, false)) {
    }
    assert_int_equal(c.begun, 1);
    assert_int_equal(c.released, 1);
    answer_one(g, ask_hanging); /* its lane goes on */
}

static void a_call_that_has_not_begun_does_not_begin_any_more(void **state)
{
    Gate *g = *state;
    Call c = {.gate = g, .fn = call_pass, .deadline_ns = 1000};
    aio_context_set_virtual_time(g->ctx, 0);
    fill_lane(g, ask_hanging);
    call_begin(&c);
    aio_context_set_virtual_time(g->ctx, 1000);
    call_await(&c);
    assert_false(c.in_time);
    open_gate(g);
    while (!c.released) {
        sched_yield();
    }
    assert_int_equal(c.begun, 0);
}

/* The deadline and the end come at the same time: one of them counts. */
static void each_call_ends_in_one_way(void **state)
{
    Gate *g = *state;
    unsigned late = 0;
    aio_context_set_virtual_time(g->ctx, 0);
    for (unsigned i = 0; i < 200; i++) {
        Call c = {.gate = g, .fn = call_pass, .deadline_ns = i};
        co_start(g->ctx, ask_with_deadline, &c);
        aio_context_step(g->ctx, false);
        for (unsigned k = i % 50; k > 0; k--) {
            sched_yield();
        }
        aio_context_set_virtual_time(g->ctx, i);
        call_await(&c);
        while (!c.in_time && !c.released) {
            sched_yield();
        }
        assert_int_equal(c.released, !c.in_time);
        late += !c.in_time;
    }
    print_message("%u of 200 were late\n", late);
}

/* ---- calls that have to begin in time ---- */

static void ask_to_begin(void *opaque)
{
    Call *c = opaque;
    enter_coroutine();
    c->in_time = co_run_in_lane_begun_by(&c->gate->hanging, c->fn, c, c->deadline_ns, &c->result);
    c->ended = true;
}

static void a_call_that_cannot_begin_in_time_is_given_up(void **state)
{
    Gate *g = *state;
    Call c[] = {{.gate = g, .fn = call_pass, .deadline_ns = 1000},
                {.gate = g, .fn = call_pass, .deadline_ns = 3000},
                {.gate = g, .fn = call_pass, .deadline_ns = 2000}};
    aio_context_set_virtual_time(g->ctx, 0);
    fill_lane(g, ask_hanging);
    for (unsigned i = 0; i < G_N_ELEMENTS(c); i++) {
        co_start(g->ctx, ask_to_begin, &c[i]);
    }
    for (int64_t now = 0; now <= 2000; now += 500) { /* the last one, then one before it */
        aio_context_set_virtual_time(g->ctx, now);
        while (aio_context_step(g->ctx, false)) {
        }
        assert_int_equal(c[0].ended, now >= 1000);
        assert_int_equal(c[2].ended, now >= 2000);
    }
    assert_false(c[0].in_time || c[1].ended || c[2].in_time);
    open_gate(g); /* the others of the lane go on */
    call_await(&c[1]);
    assert_true(c[1].in_time);
    assert_int_equal(c[1].result, 1);
    assert_int_equal(c[0].begun + c[2].begun, 0);
    answer_one(g, ask_hanging);
}

static void a_call_that_has_begun_in_time_may_take_longer(void **state)
{
    Gate *g = *state;
    Call c = {.gate = g, .fn = call_hang, .deadline_ns = 1000};
    aio_context_set_virtual_time(g->ctx, 0);
    co_start(g->ctx, ask_to_begin, &c);
    while (aio_context_step(g->ctx, false)) {
    }
    aio_context_set_virtual_time(g->ctx, 5000);
    while (aio_context_step(g->ctx, false)) {
    }
    assert_false(c.ended);
    release_calls(g);
    call_await(&c);
    assert_true(c.in_time);
    assert_int_equal(c.result, 1);
}

/* Its turn and its time come at once: it is carried out, or it is not. */
static void each_call_begins_or_is_given_up(void **state)
{
    Gate *g = *state;
    unsigned late = 0;
    aio_context_set_virtual_time(g->ctx, 0);
    for (int i = 1; i <= 20; i++) {
        Call c = {.gate = g, .fn = call_pass, .deadline_ns = i};
        g->open = false;
        g->passed = g->most_inside = 0;
        fill_lane(g, ask_hanging);
        co_start(g->ctx, ask_to_begin, &c);
        while (aio_context_step(g->ctx, false)) {
        }
        release_calls(g);
        for (int k = i * 2; k > 0; k--) {
            sched_yield();
        }
        aio_context_set_virtual_time(g->ctx, i);
        call_await(&c);
        assert_int_equal(c.begun, c.in_time);
        late += !c.in_time;
        while (g->answered < (unsigned)i * (WORKER_LANE_MAX + HELD)) {
            aio_context_step(g->ctx, true);
        }
    }
    print_message("%u of 20 were late\n", late);
}

/* ---- failed thread creation ---- */

static void hang_one(Gate *g)
{
    co_start(g->ctx, ask_hanging, g);
    aio_context_step(g->ctx, false);
    pthread_mutex_lock(&g->lock);
    while (g->inside == 0) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

/* Runs first, while no thread is idle. At exit the loop has ended, and output that is queued for a
 * worker must still be written. */
static void a_thread_that_becomes_free_takes_a_job_without_the_loop(void **state)
{
    Gate *g = *state;
    hang_one(g);
    sys_fault_set(&(SysFault){.calls = "pthread_create", .error = EAGAIN});
    co_start(g->ctx, ask_hanging, g);
    aio_context_step(g->ctx, false);
    assert_int_equal(sys_fault_hits(), 1);
    release_calls(g);
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 60; /* ends a hang */
    pthread_mutex_lock(&g->lock);
    while (g->passed < 2) {
        assert_int_equal(pthread_cond_timedwait(&g->changed, &g->lock, &limit), 0);
    }
    pthread_mutex_unlock(&g->lock);
    sys_fault_set(NULL);
    while (g->answered < 2) {
        aio_context_step(g->ctx, true);
    }
}

/* No other thread is idle: one hangs, and the start of the next fails twice. */
static void a_job_whose_thread_could_not_be_started_gets_one_later(void **state)
{
    Gate *g = *state;
    hang_one(g);
    sys_fault_set(&(SysFault){.calls = "pthread_create", .count = 2, .error = EAGAIN});
    answer_one(g, ask_other);
    assert_int_equal(sys_fault_hits(), 2);
    sys_fault_set(NULL);
    release_calls(g);
    while (g->answered < 2) {
        aio_context_step(g->ctx, true);
    }
}

/* Thread creation fails because of an impossible stack size. */
static void an_iothread_that_cannot_start_is_an_error(void **state)
{
    g_autoptr(GError) error = NULL;
    pthread_attr_t before, huge;
    assert_int_equal(pthread_getattr_default_np(&before), 0);
    assert_int_equal(pthread_attr_init(&huge), 0);
    assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 56), 0);
    assert_int_equal(pthread_setattr_default_np(&huge), 0);
    IoThread *t = iothread_new("x", 0, &error);
    assert_int_equal(pthread_setattr_default_np(&before), 0);
    pthread_attr_destroy(&before);
    pthread_attr_destroy(&huge);
    assert_null(t);
    assert_non_null(strstr(error->message, "iothread 'x': cannot start a thread: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_thread_that_becomes_free_takes_a_job_without_the_loop,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_job_whose_thread_could_not_be_started_gets_one_later,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_lane_full_of_hung_calls_does_not_block_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_shared_pool_is_a_lane_too, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_ends_before_its_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_that_hangs_is_left_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_that_has_not_begun_does_not_begin_any_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(each_call_ends_in_one_way, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_that_cannot_begin_in_time_is_given_up, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_call_that_has_begun_in_time_may_take_longer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(each_call_begins_or_is_given_up, setup, teardown),
        cmocka_unit_test(an_iothread_that_cannot_start_is_an_error),
        cmocka_unit_test(there_are_no_more_threads_than_jobs_at_a_time),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
