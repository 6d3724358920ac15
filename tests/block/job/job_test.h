/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of block jobs: a host of jobs with an operation lock and a log of events, waits
 * for states, and disks that are compared. */
#ifndef SKIFF_TESTS_BLOCK_JOB_JOB_TEST_H
#define SKIFF_TESTS_BLOCK_JOB_JOB_TEST_H

#include "block/driver/fault.h"
#include "block/driver/mem.h"
#include "block/drivers.h"
#include "tests/block/block_test.h"
#include "util/job/job.h"
#include "util/loop/sched_point.h"

/* ---- the host ---- */

static GString *job_log; /* events: "READY job0 " */
static CoMutex job_operation;
static CoQueue job_changes; /* woken at each change of a job */

NO_THREAD_SAFETY_ANALYSIS static void job_test_begin(void *opaque)
{
    enter_coroutine();
    co_mutex_lock(&job_operation);
}

NO_THREAD_SAFETY_ANALYSIS static void job_test_end(void *opaque)
{
    enter_coroutine();
    co_mutex_unlock(&job_operation);
}

static void job_test_event(void *opaque, const Job *job, JobEvent event)
{
    static const char *const names[] = {[JOB_EVENT_READY] = "READY",
                                        [JOB_EVENT_PENDING] = "PENDING",
                                        [JOB_EVENT_COMPLETED] = "COMPLETED",
                                        [JOB_EVENT_CANCELLED] = "CANCELLED"};
    enter_main();
    assert_job_state(job);
    if (event != JOB_EVENT_STATUS) {
        g_string_append_printf(job_log, "%s ", names[event]);
        if (event == JOB_EVENT_COMPLETED && job_error_text(job) != NULL) {
            g_string_append_printf(job_log, "(%s) ", job_error_text(job));
        }
    }
    co_queue_wake_all(&job_changes);
}

static void job_test_io_error(void *opaque, const Job *job, bool is_read, JobErrorAction action)
{
    static const char *const actions[] = {"report", "ignore", "stop"};
    enter_main();
    g_string_append_printf(job_log, "%s-error-%s ", is_read ? "read" : "write", actions[action]);
    co_queue_wake_all(&job_changes);
}

static inline int job_test_setup(void **state)
{
    static const JobHost host = {.co_operation_begin = job_test_begin,
                                 .co_operation_end = job_test_end,
                                 .event = job_test_event,
                                 .io_error = job_test_io_error};
    int ret = block_test_setup(state);
    block_setup(block_drivers);
    enter_main();
    jobs_init(test_main, &host, NULL);
    job_log = g_string_new(NULL);
    co_mutex_init(&job_operation, RANK_OPERATION, "operation lock");
    co_queue_init(&job_changes);
    return ret;
}

static inline int job_test_teardown(void **state)
{
    g_string_free(job_log, TRUE);
    return block_test_teardown(state);
}

#define job_test_main(tests)                                                                       \
    (setenv("CMOCKA_TEST_ABORT", "1", 1),                                                          \
     cmocka_run_group_tests(tests, job_test_setup, job_test_teardown))

/* ---- waiting ---- */

static inline coroutine_fn RUNS_IN_MAIN void job_await(const char *id, JobStatus status)
{
    const Job *job;
    while ((job = job_find(id)) != NULL && job_status(job) != status) {
        co_queue_wait(&job_changes, "a test");
    }
    if (job == NULL && status != JOB_STATUS_NULL) {
        fail_msg("job '%s' has ended: %s", id, job_log->str);
    }
}

/* Waits for the end of the job, and checks the events since the last call. */
static inline coroutine_fn RUNS_IN_MAIN void job_await_end(const char *id, const char *events)
{
    job_await(id, JOB_STATUS_NULL);
    while (job_operation.owner != NULL) {
        co_yield_turn();
    }
    assert_string_equal(job_log->str, events);
    g_string_truncate(job_log, 0);
}

/* ---- content ---- */

static inline coroutine_fn RUNS_IN_MAIN void job_read(BlockBackend *blk, uint64_t offset,
                                                      uint64_t bytes, uint8_t *buf)
{
    assert_int_equal(test_io(blk, TEST_READ, offset, bytes, buf, 0), 0);
}

/* Reads a node that has no reader that conflicts. To be freed. */
static inline coroutine_fn RUNS_IN_MAIN uint8_t *job_content(BlockNode *n)
{
    GError *error = NULL;
    BlockBackend *blk = blk_co_new("content", n, false, &error);
    if (blk == NULL) {
        fail_msg("%s", error->message);
    }
    uint8_t *data = g_malloc(block_node_size(n) + 1);
    job_read(blk, 0, block_node_size(n), data);
    blk_co_free(blk);
    return data;
}

static inline coroutine_fn RUNS_IN_MAIN void job_assert_same(BlockNode *a, BlockNode *b)
{
    assert_int_equal(block_node_size(a), block_node_size(b));
    g_autofree uint8_t *first = job_content(a), *second = job_content(b);
    for (uint64_t i = 0; i < block_node_size(a); i++) {
        if (first[i] != second[i]) {
            fail_msg("nodes '%s' and '%s' differ at byte %" G_GUINT64_FORMAT ": %#x and %#x",
                     block_node_name(a), block_node_name(b), i, first[i], second[i]);
        }
    }
}

/* ---- fault nodes ---- */

typedef struct JobFault {
    BlockNode *node;
    BlockFault fault;
} JobFault;

static void job_fault_at_home(void *opaque)
{
    JobFault *f = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(f->node, &f->fault);
}

static inline coroutine_fn RUNS_IN_MAIN void job_set_fault(BlockNode *n, BlockFault fault)
{
    JobFault f = {n, fault};
    test_in_home(job_fault_at_home, &f);
}

static void job_release_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(opaque, &(BlockFault){0});
    block_fault_release(opaque, UINT32_MAX);
}

static inline coroutine_fn RUNS_IN_MAIN void job_release(BlockNode *n)
{
    test_in_home(job_release_at_home, n);
}

static inline coroutine_fn RUNS_IN_MAIN void job_await_held(const BlockNode *n, unsigned count)
{
    while (block_fault_held(n) < count) {
        test_settle();
    }
}

/* Waits until a job that has ended has left its target. */
static inline coroutine_fn RUNS_IN_MAIN void job_await_no_writer(const BlockNode *n)
{
    while (block_node_writer(n) != NULL) {
        co_yield_turn();
    }
    test_settle();
}

#endif
