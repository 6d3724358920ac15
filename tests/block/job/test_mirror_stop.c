/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stop of the VM against what ends a mirror, or takes its disk. A guest writes all the time, the mirror
 * is ready, and the stop is held between parking the vCPUs and draining. Meanwhile something happens
 * whose effect is a control operation, which queues behind the stop. Then the stop goes on.
 *
 * Oracles: the graph does not change while the stop holds the operation lock; the stop finishes; the job
 * ends as it has to; the guest goes on after a start, and its disk has what it wrote.
 */
#include "hw/core/run_state.h"
#include "tests/block/job/mirror_test.h"

#define STOP_BLOCK 4096u
#define STOP_BLOCKS (MIRROR_SIZE / STOP_BLOCK)

typedef struct StopRig {
    MirrorRig r;
    RunState rs;
    const BlockNode *root; /* of the guest's disk when the stop began */
    /* main: the stop */
    bool hold, standing;
    CoToken token;
    unsigned drains, resets;
    /* the guest */
    _Atomic bool paused, ended;
    _Atomic unsigned writes;
    uint8_t model[MIRROR_SIZE];
    TestEvent guest_done;
} StopRig;

static StopRig *stop_rig; /* of the test that runs */

/* ---- the guest: home ---- */

static void stop_guest_run(void *opaque)
{
    StopRig *s = opaque;
    uint8_t data[STOP_BLOCK];
    struct iovec iov = {data, sizeof(data)};
    enter_coroutine();
    enter_iothread(test_home);
    for (unsigned i = 0; !s->ended; i++) {
        if (s->paused) {
            co_sleep_ns(100000);
            continue;
        }
        uint64_t offset = (uint64_t)(i * 7919u % STOP_BLOCKS) * STOP_BLOCK;
        test_fill(data, sizeof(data), i);
        assert_int_equal(blk_co_pwritev(s->r.guest, offset, sizeof(data), &iov, 1, 0), 0);
        memcpy(s->model + offset, data, sizeof(data));
        s->writes++;
        co_yield_turn();
    }
    test_event_set(&s->guest_done);
}

static coroutine_fn RUNS_IN_MAIN void stop_await_progress(StopRig *s)
{
    for (unsigned start = s->writes; s->writes < start + 20;) {
        test_settle();
    }
}

/* ---- the machine ---- */

static void stop_co_park(void *opaque)
{
}

static void stop_unpark(void *opaque)
{
}

/* Between parking and draining. */
static void stop_co_stop_backends(void *opaque)
{
    StopRig *s = opaque;
    enter_coroutine();
    enter_main();
    if (s->hold) {
        s->standing = true;
        s->token = co_arm();
        co_wait(s->token);
        s->standing = false;
        assert_ptr_equal(blk_root(s->r.guest), s->root); /* nobody has changed the graph */
    }
    s->paused = true;
}

static bool stop_co_start_backends(void *opaque, GError **error)
{
    ((StopRig *)opaque)->paused = false;
    return true;
}

static void stop_co_drain(void *opaque)
{
    StopRig *s = opaque;
    enter_coroutine();
    enter_main();
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    co_drained_begin(list, count);
    s->drains++;
    co_drained_end(list, count);
}

static bool stop_co_reset(void *opaque, GError **error)
{
    ((StopRig *)opaque)->resets++;
    return true;
}

static void stop_changed(void *opaque, RunPhase phase, StopReason reason)
{
}

static const RunStateOps stop_ops = {.co_park = stop_co_park,
                                     .unpark = stop_unpark,
                                     .co_stop_backends = stop_co_stop_backends,
                                     .co_start_backends = stop_co_start_backends,
                                     .co_drain = stop_co_drain,
                                     .co_reset = stop_co_reset,
                                     .changed = stop_changed};

static void stop_operation_begin(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&stop_rig->rs);
}

static void stop_operation_end(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_end(&stop_rig->rs);
}

static int stop_setup(void **state)
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

static coroutine_fn RUNS_IN_MAIN void stop_await_phase(StopRig *s, RunPhase phase)
{
    while (s->rs.phase != phase || s->rs.operation.owner != NULL) {
        co_sleep_ns(100000);
    }
}

/* ---- the frame of all tests ---- */

static coroutine_fn RUNS_IN_MAIN StopRig *stop_open(bool write_blocking)
{
    StopRig *s = g_new0(StopRig, 1);
    stop_rig = s;
    run_state_init(&s->rs, test_main, &stop_ops, s);
    mirror_rig_open(&s->r);
    job_read(s->r.guest, 0, MIRROR_SIZE, s->model);
    s->paused = true;
    co_start(test_home, stop_guest_run, s);
    run_state_request_start(&s->rs);
    stop_await_phase(s, RUN_RUNNING);
    BlockMirrorConfig c = {.job.id = "job0",
                           .source = s->r.source,
                           .target = s->r.target,
                           .sync = BLOCK_MIRROR_FULL,
                           .granularity = STOP_BLOCK,
                           .write_blocking = write_blocking};
    vm_operation_begin(&s->rs);
    assert_non_null(block_mirror_co_start(&c, NULL));
    vm_operation_end(&s->rs);
    block_mirror_set_write_blocking(job_find("job0")); /* so that it gets ready beside the guest */
    job_await("job0", JOB_STATUS_READY);
    stop_await_progress(s);
    return s;
}

/* Begins a stop and holds it. */
static coroutine_fn RUNS_IN_MAIN void stop_begin(StopRig *s)
{
    s->hold = true;
    s->root = blk_root(s->r.guest);
    run_state_request_stop(&s->rs, STOP_PAUSED);
    while (!s->standing) {
        co_yield_turn();
    }
    assert_int_equal(s->rs.phase, RUN_BACKENDS_STOPPING);
}

/* What has been requested meanwhile is queued. */
static coroutine_fn RUNS_IN_MAIN void stop_continue(StopRig *s)
{
    for (unsigned i = 0; i < 5; i++) {
        test_settle();
        co_yield_turn();
    }
    assert_true(s->standing);
    assert_ptr_equal(blk_root(s->r.guest), s->root);
    s->hold = false;
    co_wake(s->token);
}

/* The guest runs again, and its disk is what it wrote. */
static coroutine_fn RUNS_IN_MAIN void stop_close(StopRig *s, BlockNode *root)
{
    run_state_request_start(&s->rs);
    stop_await_phase(s, RUN_RUNNING);
    stop_await_progress(s);
    s->ended = true;
    test_event_wait(&s->guest_done);
    if (root != NULL) {
        assert_ptr_equal(blk_root(s->r.guest), root);
    }
    g_autofree uint8_t *data = job_content(blk_root(s->r.guest));
    assert_memory_equal(data, s->model, MIRROR_SIZE);
    job_release(s->r.target);
    while (root == s->r.source && block_node_writer(s->r.target) != NULL) {
        test_settle(); /* what a cancelled job left in flight */
    }
    mirror_rig_close(&s->r);
    g_string_truncate(job_log, 0);
    g_free(s);
}

/* ---- what happens while the stop stands ---- */

BLOCK_TEST(the_target_dies)
{
    StopRig *s = stop_open(false);
    stop_begin(s);
    job_set_fault(s->r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .error = EIO});
    job_await("job0", JOB_STATUS_ABORTING); /* the guest's next write reaches the target */
    stop_continue(s);
    stop_await_phase(s, RUN_STOPPED);
    job_await_end("job0", "READY write-error-report COMPLETED (Input/output error) ");
    assert_int_equal(s->drains, 1);
    stop_close(s, s->r.source);
}

static coroutine_fn RUNS_IN_MAIN void stop_cancelled(bool force, const char *events)
{
    StopRig *s = stop_open(false);
    stop_begin(s);
    assert_true(job_cancel(job_find("job0"), force, NULL));
    stop_continue(s);
    stop_await_phase(s, RUN_STOPPED);
    job_await_end("job0", events);
    if (!force) {
        job_assert_same(s->r.source, s->r.target);
    }
    stop_close(s, s->r.source);
}

BLOCK_TEST(the_job_is_cancelled)
{
    stop_cancelled(true, "READY CANCELLED ");
}

BLOCK_TEST(the_job_is_cancelled_without_force)
{
    stop_cancelled(false, "READY COMPLETED ");
}

BLOCK_TEST(the_job_is_completed)
{
    StopRig *s = stop_open(false);
    stop_begin(s);
    mirror_complete(job_find("job0"));
    stop_continue(s);
    stop_await_phase(s, RUN_STOPPED);
    job_await_end("job0", "READY COMPLETED ");
    job_assert_same(s->r.source, s->r.target);
    stop_close(s, s->r.target);
}

static void stop_delete_device(void *opaque)
{
    StopRig *s = opaque;
    enter_coroutine();
    enter_main();
    vm_operation_begin(&s->rs);
    s->ended = true;
    test_event_wait(&s->guest_done);
    blk_co_free(s->r.guest);
    s->r.guest = NULL;
    vm_operation_end(&s->rs);
}

BLOCK_TEST(the_device_is_deleted)
{
    StopRig *s = stop_open(false);
    stop_begin(s);
    co_start(test_main, stop_delete_device, s);
    stop_continue(s);
    while (s->r.guest != NULL) {
        co_yield_turn();
    }
    stop_await_phase(s, RUN_STOPPED);
    assert_true(job_cancel(job_find("job0"), false, NULL)); /* the job has lived on */
    job_await_end("job0", "READY COMPLETED ");
    job_assert_same(s->r.source, s->r.target);
    test_node_del("s");
    test_node_del("t");
    g_free(s);
}

BLOCK_TEST(the_guest_is_reset)
{
    StopRig *s = stop_open(false);
    stop_begin(s);
    run_state_request_reset(&s->rs);
    stop_continue(s);
    while (s->resets == 0) {
        co_sleep_ns(100000);
    }
    stop_await_phase(s, RUN_STOPPED);
    assert_int_equal(job_status(job_find("job0")), JOB_STATUS_READY);
    run_state_request_start(&s->rs);
    stop_await_phase(s, RUN_RUNNING);
    mirror_complete(job_find("job0"));
    job_await_end("job0", "READY COMPLETED ");
    stop_close(s, s->r.target);
}

BLOCK_TEST(the_vm_is_quit)
{
    StopRig *s = stop_open(true);
    stop_begin(s);
    jobs_cancel_all();
    stop_continue(s);
    jobs_co_settle();
    stop_await_phase(s, RUN_STOPPED);
    job_await_end("job0", "READY CANCELLED ");
    stop_close(s, s->r.source);
}

/* ---- a target that hangs ---- */

/* A stop, a start and a cancel do not wait for it, in both modes. */
static coroutine_fn RUNS_IN_MAIN void stop_hung(bool write_blocking)
{
    StopRig *s = stop_open(write_blocking);
    job_set_fault(s->r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    job_await_held(s->r.target, 1);
    run_state_request_stop(&s->rs, STOP_PAUSED);
    stop_await_phase(s, RUN_STOPPED);
    run_state_request_start(&s->rs);
    stop_await_phase(s, RUN_RUNNING);
    assert_int_equal(job_status(job_find("job0")), JOB_STATUS_READY);
    assert_true(job_cancel(job_find("job0"), true, NULL));
    job_await_end("job0", "READY CANCELLED ");
    assert_true(block_fault_held(s->r.target) > 0);
    stop_close(s, s->r.source);
}

BLOCK_TEST(a_stop_and_a_cancel_do_not_wait_for_a_target_that_hangs)
{
    stop_hung(false);
    stop_hung(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_target_dies),
        cmocka_unit_test(the_job_is_cancelled),
        cmocka_unit_test(the_job_is_cancelled_without_force),
        cmocka_unit_test(the_job_is_completed),
        cmocka_unit_test(the_device_is_deleted),
        cmocka_unit_test(the_guest_is_reset),
        cmocka_unit_test(the_vm_is_quit),
        cmocka_unit_test(a_stop_and_a_cancel_do_not_wait_for_a_target_that_hangs),
    };
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    return cmocka_run_group_tests(tests, stop_setup, job_test_teardown);
}
