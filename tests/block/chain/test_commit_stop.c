/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stop of the VM against the end of a commit, of layers below the active one and of the active layer. A
 * guest writes to a chain of qcow2 images all the time. The stop is held between parking the vCPUs and
 * draining, and the end of the job queues behind it; or the job's end has begun, and the stop queues.
 *
 * Oracles: the graph does not change while the stop holds the operation lock, and the VM does not stop
 * while the job's end holds it; the stop finishes; the job ends as it has to; the guest goes on after a
 * start, and its disk has what it wrote; QEMU reads the same from the images and finds no error in them.
 */
#include "block/chain/commit_job.h"
#include "tests/block/chain/chain_job_test.h"
#include "tests/block/job/stop_test.h"

#define FAULT_FILE "driver=fault,node-name=fault,file.driver=file,file.filename=@"

typedef struct CommitRig {
    StopVm vm;
    Chain c;
    bool active;
} CommitRig;

/* ---- the frame of all tests ---- */

static coroutine_fn RUNS_IN_MAIN void rig_start_job(CommitRig *r)
{
    GError *error = NULL;
    CommitConfig below = {.job.id = "job0",
                          .top = r->c.nodes[1],
                          .base = r->c.nodes[0],
                          .backing_file = r->c.paths[0]};
    BlockMirrorConfig active = {.job.id = "job0",
                                .source = r->c.nodes[2],
                                .target = r->c.nodes[0],
                                .commit = true,
                                .unmap = true,
                                .granularity = 65536};
    vm_operation_begin(&r->vm.rs);
    const Job *job =
        r->active ? block_mirror_co_start(&active, &error) : block_commit_co_start(&below, &error);
    vm_operation_end(&r->vm.rs);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
}

/* The active layer's commit is ready. The other one has its first writes to the base held, which then
 * have @error or succeed; see rig_release(). */
static coroutine_fn RUNS_IN_MAIN CommitRig *rig_open(bool active, uint32_t error)
{
    CommitRig *r = g_new0(CommitRig, 1);
    r->active = active;
    chain_open_with(&r->c, 3, FAULT_FILE);
    stop_vm_open(&r->vm, r->c.blk);
    if (!active) {
        BlockFault fault = {.op = BLOCK_FAULT_WRITE, .hold = true, .error = error};
        job_set_fault(block_node_find("fault"), fault);
    }
    rig_start_job(r);
    if (active) {
        /* so that it gets ready beside the guest */
        block_mirror_set_write_blocking(job_find("job0"), NULL);
        job_await("job0", JOB_STATUS_READY);
    } else {
        job_await_held(block_node_find("fault"), 1);
    }
    stop_await_progress(&r->vm);
    return r;
}

/* The data step ends, now or at the verb complete. */
static coroutine_fn RUNS_IN_MAIN void rig_release(const CommitRig *r)
{
    if (!r->active) {
        job_release(block_node_find("fault"));
    }
}

/* The images that the disk has, the active one last: @order names them by their numbers. */
static coroutine_fn RUNS_IN_MAIN void rig_close(CommitRig *r, const char *order)
{
    char *paths[CHAIN_MAX];
    stop_vm_end_guest(&r->vm);
    const BlockNode *n = blk_root(r->c.blk);
    for (unsigned i = 0; i < r->c.count; i++) {
        paths[i] = r->c.paths[order[i] - '0'];
    }
    memcpy(r->c.paths, paths, sizeof(*paths) * r->c.count);
    /* The digits after a ':' are those of the chain. */
    for (const char *at = order + strlen(order); *--at != ':'; n = n->backing) {
        assert_non_null(n);
        assert_ptr_equal(n, r->c.nodes[*at - '0']);
    }
    assert_null(n);
    g_free(r->c.content);
    r->c.content = g_steal_pointer(&r->vm.model);
    chain_close(&r->c);
    stop_vm_close(&r->vm);
    g_free(r);
}

/* What is left of the images, for rig_close(). */
static const char *rig_committed(bool active)
{
    return active ? "120:0" : "102:02";
}

#define RIG_UNCHANGED "012:012"

/* ---- what happens while the stop stands ---- */

static coroutine_fn RUNS_IN_MAIN void commit_ends(bool active)
{
    CommitRig *r = rig_open(active, 0);
    stop_begin(&r->vm);
    if (active) {
        mirror_complete(job_find("job0"));
    }
    rig_release(r);
    job_await("job0", JOB_STATUS_PENDING);
    stop_continue(&r->vm);
    stop_await_phase(&r->vm, RUN_STOPPED);
    job_await_end("job0", active ? "READY COMPLETED " : "COMPLETED ");
    assert_int_equal(r->vm.drains, 1);
    rig_close(r, rig_committed(active));
}

BLOCK_TEST(the_job_ends)
{
    commit_ends(false);
    commit_ends(true);
}

static coroutine_fn RUNS_IN_MAIN void commit_base_dies(bool active)
{
    CommitRig *r = rig_open(active, EIO);
    stop_begin(&r->vm);
    if (active) {
        BlockFault fault = {.op = BLOCK_FAULT_WRITE, .error = EIO};
        job_set_fault(block_node_find("fault"), fault);
    }
    rig_release(r);
    job_await("job0", JOB_STATUS_ABORTING); /* the active layer: at the guest's next write */
    stop_continue(&r->vm);
    stop_await_phase(&r->vm, RUN_STOPPED);
    job_set_fault(block_node_find("fault"), (BlockFault){0});
    job_await_end("job0", active ? "READY write-error-report COMPLETED (Input/output error) "
                                 : "write-error-report COMPLETED (Input/output error) ");
    rig_close(r, RIG_UNCHANGED);
}

BLOCK_TEST(the_base_dies)
{
    commit_base_dies(false);
    commit_base_dies(true);
}

static coroutine_fn RUNS_IN_MAIN void commit_cancelled(bool active, bool force, const char *events)
{
    CommitRig *r = rig_open(active, 0);
    stop_begin(&r->vm);
    assert_true(job_cancel(job_find("job0"), force, NULL));
    rig_release(r);
    stop_continue(&r->vm);
    stop_await_phase(&r->vm, RUN_STOPPED);
    job_await_end("job0", events);
    rig_close(r, RIG_UNCHANGED);
}

BLOCK_TEST(the_job_is_cancelled)
{
    commit_cancelled(false, false, "CANCELLED ");
    commit_cancelled(false, true, "CANCELLED ");
    commit_cancelled(true, false, "READY COMPLETED ");
    commit_cancelled(true, true, "READY CANCELLED ");
}

/* The job has its own uses of the images, and ends as without the device. */
static coroutine_fn RUNS_IN_MAIN void commit_device_deleted(bool active)
{
    CommitRig *r = rig_open(active, 0);
    stop_begin(&r->vm);
    rig_release(r);
    stop_delete_device(&r->vm);
    if (active) {
        mirror_complete(job_find("job0"));
    }
    job_await_end("job0", active ? "READY COMPLETED " : "COMPLETED ");
    assert_null(block_node_find("n1"));
    r->c.blk = chain_disk("qcow2", r->c.paths[active ? 0 : 2]);
    g_autofree uint8_t *data = chain_content(r->c.blk);
    assert_memory_equal(data, r->vm.model, CHAIN_SIZE);
    if (active) {
        char *base = r->c.paths[0];
        r->c.paths[0] = r->c.paths[2];
        r->c.paths[2] = base;
    }
    g_free(r->c.content);
    r->c.content = g_steal_pointer(&r->vm.model);
    chain_close(&r->c);
    stop_vm_close(&r->vm);
    g_free(r);
}

BLOCK_TEST(the_device_is_deleted)
{
    commit_device_deleted(false);
    commit_device_deleted(true);
}

/* The reset, and the end of the other job, are queued. */
static coroutine_fn RUNS_IN_MAIN void commit_guest_reset(bool active)
{
    CommitRig *r = rig_open(active, 0);
    stop_begin(&r->vm);
    run_state_request_reset(&r->vm.rs);
    rig_release(r);
    job_await("job0", active ? JOB_STATUS_READY : JOB_STATUS_PENDING);
    stop_continue(&r->vm);
    while (r->vm.resets == 0) {
        co_sleep_ns(100000);
    }
    stop_await_phase(&r->vm, RUN_STOPPED);
    if (active) {
        assert_int_equal(job_status(job_find("job0")), JOB_STATUS_READY);
        stop_restart(&r->vm);
        mirror_complete(job_find("job0"));
    }
    job_await_end("job0", active ? "READY COMPLETED " : "COMPLETED ");
    rig_close(r, rig_committed(active));
}

BLOCK_TEST(the_guest_is_reset)
{
    commit_guest_reset(false);
    commit_guest_reset(true);
}

static coroutine_fn RUNS_IN_MAIN void commit_vm_quit(bool active)
{
    CommitRig *r = rig_open(active, 0);
    stop_begin(&r->vm);
    jobs_cancel_all();
    rig_release(r);
    stop_continue(&r->vm);
    jobs_co_settle();
    stop_await_phase(&r->vm, RUN_STOPPED);
    job_await_end("job0", active ? "READY CANCELLED " : "CANCELLED ");
    rig_close(r, RIG_UNCHANGED);
}

BLOCK_TEST(the_vm_is_quit)
{
    commit_vm_quit(false);
    commit_vm_quit(true);
}

/* ---- the other order: the stop comes while the job ends ---- */

static coroutine_fn RUNS_IN_MAIN void commit_stopped_at(bool active, const char *where)
{
    CommitRig *r = rig_open(active, 0);
    sched_point_hook(where, stop_request_now, &r->vm);
    if (active) {
        mirror_complete(job_find("job0"));
    }
    rig_release(r);
    stop_await_phase(&r->vm, RUN_STOPPED);
    assert_int_equal(sched_point_count(where), 1);
    sched_point_reset();
    assert_int_equal(r->vm.drains, 1);
    job_await_end("job0", active ? "READY COMPLETED " : "COMPLETED ");
    rig_close(r, rig_committed(active));
}

BLOCK_TEST(a_stop_comes_while_the_job_ends)
{
    commit_stopped_at(false, "job.prepare");
    commit_stopped_at(false, "commit.prepare");
    commit_stopped_at(false, "commit.named");
    commit_stopped_at(false, "commit.clean");
    commit_stopped_at(true, "job.prepare");
    commit_stopped_at(true, "mirror.prepare");
    commit_stopped_at(true, "mirror.rest");
    commit_stopped_at(true, "mirror.clean");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_job_ends),
        cmocka_unit_test(the_base_dies),
        cmocka_unit_test(the_job_is_cancelled),
        cmocka_unit_test(the_device_is_deleted),
        cmocka_unit_test(the_guest_is_reset),
        cmocka_unit_test(the_vm_is_quit),
        cmocka_unit_test(a_stop_comes_while_the_job_ends),
    };
    return stop_test_main(tests);
}
