/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of a stop of the VM against the end of a job: a run state, a guest that writes to its
 * disk all the time, and a stop that is held between parking the vCPUs and draining.
 */
#ifndef SKIFF_TESTS_BLOCK_JOB_STOP_TEST_H
#define SKIFF_TESTS_BLOCK_JOB_STOP_TEST_H

#include "hw/core/run_state.h"
#include "tests/block/job/mirror_test.h"

#define STOP_BLOCK 4096u

typedef struct StopVm {
    RunState rs;
    BlockBackend *blk; /* the guest's disk; NULL once it is deleted */
    uint64_t size;
    /* of the guest's disk when the stop began */
    const BlockNode *root, *below;
    /* main: the stop */
    bool hold, standing;
    CoToken token;
    unsigned drains, resets;
    /* the guest */
    _Atomic bool paused, ended;
    _Atomic unsigned writes;
    uint8_t *model;
    TestEvent guest_done;
} StopVm;

static StopVm *stop_vm; /* of the test that runs */

/* ---- the guest: home ---- */

static inline void stop_guest_run(void *opaque)
{
    StopVm *s = opaque;
    uint8_t data[STOP_BLOCK];
    struct iovec iov = {data, sizeof(data)};
    enter_coroutine();
    enter_iothread(test_home);
    for (unsigned i = 0; !s->ended; i++) {
        if (s->paused) {
            co_sleep_ns(100000);
            continue;
        }
        uint64_t offset = i * 7919u % (s->size / STOP_BLOCK) * STOP_BLOCK;
        test_fill(data, sizeof(data), i);
        assert_int_equal(blk_co_pwritev(s->blk, offset, sizeof(data), &iov, 1, 0), 0);
        memcpy(s->model + offset, data, sizeof(data));
        s->writes++;
        co_yield_turn();
    }
    test_event_set(&s->guest_done);
}

static inline coroutine_fn RUNS_IN_MAIN void stop_await_progress(StopVm *s)
{
    for (unsigned start = s->writes; s->writes < start + 20;) {
        test_settle();
    }
}

/* ---- the machine ---- */

/* The graph of the guest's disk is as it was when the stop began. */
static inline RUNS_IN_MAIN void stop_assert_same_graph(const StopVm *s)
{
    assert_ptr_equal(blk_root(s->blk), s->root);
    assert_ptr_equal(s->root->backing, s->below);
}

static inline void stop_co_park(void *opaque)
{
}

static inline void stop_unpark(void *opaque)
{
}

/* Between parking and draining. */
static inline void stop_co_stop_backends(void *opaque)
{
    StopVm *s = opaque;
    enter_coroutine();
    enter_main();
    if (s->hold) {
        s->standing = true;
        s->token = co_arm();
        co_wait(s->token);
        s->standing = false;
        stop_assert_same_graph(s);
    }
    s->paused = true;
}

static inline bool stop_co_start_backends(void *opaque, GError **error)
{
    ((StopVm *)opaque)->paused = false;
    return true;
}

static inline void stop_co_drain(void *opaque)
{
    StopVm *s = opaque;
    enter_coroutine();
    enter_main();
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    co_drained_begin(list, count);
    s->drains++;
    co_drained_end(list, count);
}

static inline bool stop_co_reset(void *opaque, GError **error)
{
    ((StopVm *)opaque)->resets++;
    return true;
}

static inline void stop_changed(void *opaque, RunPhase phase, StopReason reason)
{
}

static const RunStateOps stop_ops = {.co_park = stop_co_park,
                                     .unpark = stop_unpark,
                                     .co_stop_backends = stop_co_stop_backends,
                                     .co_start_backends = stop_co_start_backends,
                                     .co_drain = stop_co_drain,
                                     .co_reset = stop_co_reset,
                                     .changed = stop_changed};

static inline void stop_operation_begin(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&stop_vm->rs);
}

static inline void stop_operation_end(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_end(&stop_vm->rs);
}

static inline int stop_setup(void **state)
{
    static const JobHost host = {.co_operation_begin = stop_operation_begin,
                                 .co_operation_end = stop_operation_end,
                                 .event = job_test_event,
                                 .io_error = job_test_io_error};
    int ret = job_test_setup(state);
    enter_main();
    jobs_init(test_main, &host, NULL);
    return ret;
}

#define stop_test_main(tests)                                                                      \
    (setenv("CMOCKA_TEST_ABORT", "1", 1),                                                          \
     cmocka_run_group_tests(tests, stop_setup, job_test_teardown))

static inline coroutine_fn RUNS_IN_MAIN void stop_await_phase(StopVm *s, RunPhase phase)
{
    while (s->rs.phase != phase || s->rs.operation.owner != NULL) {
        co_sleep_ns(100000);
    }
}

/* ---- the frame of all tests ---- */

/* The VM runs, and its guest writes to @blk. */
static inline coroutine_fn RUNS_IN_MAIN void stop_vm_open(StopVm *s, BlockBackend *blk)
{
    *s = (StopVm){.blk = blk, .paused = true};
    stop_vm = s;
    s->size = block_node_size(blk_root(blk));
    s->model = g_malloc(s->size);
    job_read(blk, 0, s->size, s->model);
    run_state_init(&s->rs, test_main, &stop_ops, s);
    co_start(test_home, stop_guest_run, s);
    run_state_request_start(&s->rs);
    stop_await_phase(s, RUN_RUNNING);
    stop_await_progress(s);
}

/* At the schedule points of a job's end: no stop is under way. */
static inline void stop_assert_none(void *opaque, const void *object)
{
    const StopVm *s = opaque;
    enter_main();
    assert_false(s->standing);
    assert_true(s->rs.phase == RUN_RUNNING || s->rs.phase == RUN_STOPPED);
}

/* Begins a stop and holds it. */
static inline coroutine_fn RUNS_IN_MAIN void stop_begin(StopVm *s)
{
    sched_point_hook("job.prepare", stop_assert_none, s);
    sched_point_hook("mirror.clean", stop_assert_none, s);
    sched_point_hook("commit.clean", stop_assert_none, s);
    s->hold = true;
    s->root = blk_root(s->blk);
    s->below = s->root->backing;
    run_state_request_stop(&s->rs, STOP_PAUSED);
    while (!s->standing) {
        co_yield_turn();
    }
    assert_int_equal(s->rs.phase, RUN_BACKENDS_STOPPING);
}

/* What has been requested meanwhile is queued. */
static inline coroutine_fn RUNS_IN_MAIN void stop_continue(StopVm *s)
{
    for (unsigned i = 0; i < 5; i++) {
        test_settle();
        co_yield_turn();
    }
    assert_true(s->standing);
    stop_assert_same_graph(s);
    s->hold = false;
    co_wake(s->token);
}

/* The other order, at a schedule point in main inside an operation: the stop is queued behind it. */
static inline void stop_request_now(void *opaque, const void *object)
{
    StopVm *s = opaque;
    enter_main();
    enter_coroutine();
    run_state_request_stop(&s->rs, STOP_PAUSED);
    for (unsigned i = 0; i < 5; i++) {
        co_yield_turn();
    }
    assert_int_equal(s->rs.phase, RUN_RUNNING);
}

static inline void stop_delete_device_run(void *opaque)
{
    StopVm *s = opaque;
    enter_coroutine();
    enter_main();
    vm_operation_begin(&s->rs);
    s->ended = true;
    test_event_wait(&s->guest_done);
    blk_co_free(s->blk);
    s->blk = NULL;
    vm_operation_end(&s->rs);
}

/* In the midst of a stop: the guest's disk is deleted, behind the stop. */
static inline coroutine_fn RUNS_IN_MAIN void stop_delete_device(StopVm *s)
{
    co_start(test_main, stop_delete_device_run, s);
    stop_continue(s);
    while (s->blk != NULL) {
        co_yield_turn();
    }
    stop_await_phase(s, RUN_STOPPED);
}

/* The guest runs again. */
static inline coroutine_fn RUNS_IN_MAIN void stop_restart(StopVm *s)
{
    run_state_request_start(&s->rs);
    stop_await_phase(s, RUN_RUNNING);
    stop_await_progress(s);
}

/* The guest runs again and ends, and its disk is what it wrote. */
static inline coroutine_fn RUNS_IN_MAIN void stop_vm_end_guest(StopVm *s)
{
    stop_restart(s);
    s->ended = true;
    test_event_wait(&s->guest_done);
    g_autofree uint8_t *data = job_content(blk_root(s->blk));
    assert_memory_equal(data, s->model, s->size);
}

static inline void stop_vm_close(StopVm *s)
{
    sched_point_reset();
    g_string_truncate(job_log, 0);
    g_free(s->model);
    stop_vm = NULL;
}

#endif
