/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stop of the VM against what ends a mirror, or takes its disk. A guest writes all the time, the mirror
 * is ready, and the stop is held between parking the vCPUs and draining. Meanwhile something happens
 * whose effect is a control operation, which queues behind the stop. Then the stop goes on.
 *
 * Oracles: the graph does not change while the stop holds the operation lock; the stop finishes; the job
 * ends as it has to; the guest goes on after a start, and its disk has what it wrote.
 */
#include "tests/block/job/stop_test.h"

typedef struct StopRig {
    StopVm vm;
    MirrorRig r;
} StopRig;

static coroutine_fn RUNS_IN_MAIN StopRig *stop_open(bool write_blocking)
{
    StopRig *s = g_new0(StopRig, 1);
    mirror_rig_open(&s->r);
    stop_vm_open(&s->vm, s->r.guest);
    BlockMirrorConfig c = {.job.id = "job0",
                           .source = s->r.source,
                           .target = s->r.target,
                           .sync = BLOCK_MIRROR_FULL,
                           .granularity = STOP_BLOCK,
                           .write_blocking = write_blocking};
    vm_operation_begin(&s->vm.rs);
    assert_non_null(block_mirror_co_start(&c, NULL));
    vm_operation_end(&s->vm.rs);
    block_mirror_set_write_blocking(job_find("job0"),
                                    NULL); /* so that it gets ready beside the guest */
    job_await("job0", JOB_STATUS_READY);
    stop_await_progress(&s->vm);
    return s;
}

/* The guest runs again, and its disk is what it wrote. */
static coroutine_fn RUNS_IN_MAIN void stop_close(StopRig *s, const BlockNode *root)
{
    stop_vm_end_guest(&s->vm);
    assert_ptr_equal(blk_root(s->r.guest), root);
    job_release(s->r.target);
    while (root == s->r.source && block_node_writer(s->r.target) != NULL) {
        test_settle(); /* what a cancelled job left in flight */
    }
    mirror_rig_close(&s->r);
    stop_vm_close(&s->vm);
    g_free(s);
}

/* ---- what happens while the stop stands ---- */

BLOCK_TEST(the_target_dies)
{
    StopRig *s = stop_open(false);
    stop_begin(&s->vm);
    job_set_fault(s->r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .error = EIO});
    job_await("job0", JOB_STATUS_ABORTING); /* the guest's next write reaches the target */
    stop_continue(&s->vm);
    stop_await_phase(&s->vm, RUN_STOPPED);
    job_await_end("job0", "READY write-error-report COMPLETED (Input/output error) ");
    assert_int_equal(s->vm.drains, 1);
    stop_close(s, s->r.source);
}

static coroutine_fn RUNS_IN_MAIN void stop_cancelled(bool force, const char *events)
{
    StopRig *s = stop_open(false);
    stop_begin(&s->vm);
    assert_true(job_cancel(job_find("job0"), force, NULL));
    stop_continue(&s->vm);
    stop_await_phase(&s->vm, RUN_STOPPED);
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
    stop_begin(&s->vm);
    mirror_complete(job_find("job0"));
    stop_continue(&s->vm);
    stop_await_phase(&s->vm, RUN_STOPPED);
    job_await_end("job0", "READY COMPLETED ");
    job_assert_same(s->r.source, s->r.target);
    stop_close(s, s->r.target);
}

BLOCK_TEST(the_device_is_deleted)
{
    StopRig *s = stop_open(false);
    stop_begin(&s->vm);
    stop_delete_device(&s->vm);
    assert_true(job_cancel(job_find("job0"), false, NULL)); /* the job has lived on */
    job_await_end("job0", "READY COMPLETED ");
    job_assert_same(s->r.source, s->r.target);
    test_node_del("s");
    test_node_del("t");
    stop_vm_close(&s->vm);
    g_free(s);
}

BLOCK_TEST(the_guest_is_reset)
{
    StopRig *s = stop_open(false);
    stop_begin(&s->vm);
    run_state_request_reset(&s->vm.rs);
    stop_continue(&s->vm);
    while (s->vm.resets == 0) {
        co_sleep_ns(100000);
    }
    stop_await_phase(&s->vm, RUN_STOPPED);
    assert_int_equal(job_status(job_find("job0")), JOB_STATUS_READY);
    run_state_request_start(&s->vm.rs);
    stop_await_phase(&s->vm, RUN_RUNNING);
    mirror_complete(job_find("job0"));
    job_await_end("job0", "READY COMPLETED ");
    stop_close(s, s->r.target);
}

BLOCK_TEST(the_vm_is_quit)
{
    StopRig *s = stop_open(true);
    stop_begin(&s->vm);
    jobs_cancel_all();
    stop_continue(&s->vm);
    jobs_co_settle();
    stop_await_phase(&s->vm, RUN_STOPPED);
    job_await_end("job0", "READY CANCELLED ");
    stop_close(s, s->r.source);
}

/* ---- the other order: the stop comes while the job ends ---- */

static coroutine_fn RUNS_IN_MAIN void stop_requested_at(const char *where)
{
    StopRig *s = stop_open(false);
    sched_point_hook(where, stop_request_now, &s->vm);
    mirror_complete(job_find("job0"));
    stop_await_phase(&s->vm, RUN_STOPPED);
    assert_int_equal(sched_point_count(where), 1);
    sched_point_reset();
    assert_int_equal(s->vm.drains, 1);
    job_await_end("job0", "READY COMPLETED ");
    stop_close(s, s->r.target); /* it has what the guest wrote before and after the pivot */
}

BLOCK_TEST(a_stop_comes_while_the_job_ends)
{
    stop_requested_at("job.prepare");
    stop_requested_at("mirror.prepare");
    stop_requested_at("mirror.rest");
    stop_requested_at("mirror.clean");
}

/* ---- a target that hangs ---- */

/* A stop, a start and a cancel do not wait for it, in both modes. */
static coroutine_fn RUNS_IN_MAIN void stop_hung(bool write_blocking)
{
    StopRig *s = stop_open(write_blocking);
    job_set_fault(s->r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    job_await_held(s->r.target, 1);
    run_state_request_stop(&s->vm.rs, STOP_PAUSED);
    stop_await_phase(&s->vm, RUN_STOPPED);
    run_state_request_start(&s->vm.rs);
    stop_await_phase(&s->vm, RUN_RUNNING);
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
        cmocka_unit_test(a_stop_comes_while_the_job_ends),
        cmocka_unit_test(a_stop_and_a_cancel_do_not_wait_for_a_target_that_hangs),
    };
    return stop_test_main(tests);
}
