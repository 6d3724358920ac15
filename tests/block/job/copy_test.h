/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of the data mover: a job that copies one node to another, disks, virtual time. */
#ifndef SKIFF_TESTS_BLOCK_JOB_COPY_TEST_H
#define SKIFF_TESTS_BLOCK_JOB_COPY_TEST_H

#include "block/job/copy.h"
#include "tests/block/job/job_test.h"

#define COPY_SIZE ((uint64_t)4 << 20)

typedef struct CopyJob {
    BlockJob bj;
    BlockCopy *copy;
    unsigned min_depth, max_depth;
    bool scan;
    uint64_t dirty_offset, dirty_bytes; /* without scan */
} CopyJob;

static int copy_job_run(Job *job, GError **error)
{
    CopyJob *j = job_state(job);
    bool is_read;
    enter_coroutine();
    enter_iothread(test_home);
    int ret = 0;
    if (j->scan) {
        ret = block_copy_co_scan(j->copy, j->min_depth, j->max_depth);
    } else {
        block_copy_mark(j->copy, j->dirty_offset, j->dirty_bytes);
    }
    return ret == 0 ? block_copy_co_run(j->copy, &is_read) : ret;
}

static void copy_job_clean(Job *job)
{
    CopyJob *j = job_state(job);
    enter_main();
    enter_coroutine();
    block_copy_co_free(j->copy);
    block_job_co_remove_nodes(&j->bj);
}

static void copy_job_free(void *state)
{
    CopyJob *j = state;
    enter_main();
    block_job_clear(&j->bj);
    g_free(j);
}

static const JobDriver copy_job_driver = {.type = "backup",
                                          .is_block_job = true,
                                          .co_run = copy_job_run,
                                          .co_clean = copy_job_clean,
                                          .free = copy_job_free};

typedef struct CopyOptions {
    BlockJobConfig config;
    BlockCopyConfig copy;
    uint32_t granularity;
    bool scan;
    unsigned min_depth, max_depth;
} CopyOptions;

static inline coroutine_fn RUNS_IN_MAIN CopyJob *copy_start_job(BlockNode *source,
                                                                BlockNode *target, CopyOptions o)
{
    GError *error = NULL;
    CopyJob *j = g_new0(CopyJob, 1);
    o.config.id = "job0";
    assert_true(block_job_init(&j->bj, &copy_job_driver, &o.config, test_home, j, NULL));
    BlockEdge *from = block_job_co_add_node(&j->bj, source, BLOCK_USE_READ, BLOCK_USE_ALL, NULL);
    assert_non_null(from);
    o.copy.source = source;
    o.copy.target = target;
    if (target != NULL) {
        o.copy.target_edge =
            block_job_co_add_node(&j->bj, target, BLOCK_USE_WRITE, BLOCK_USE_READ, &error);
        assert_non_null(o.copy.target_edge);
    }
    o.copy.todo = block_bitmap_new(block_node_size(source), o.granularity ? o.granularity : 65536);
    j->copy = block_copy_new(&j->bj, &o.copy);
    j->scan = o.scan;
    j->min_depth = o.min_depth;
    j->max_depth = o.max_depth;
    j->dirty_bytes = block_node_size(source);
    job_start(j->bj.job);
    return j;
}

/* ---- disks ---- */

/* Data in the first and the last MiB, zeroes in between. */
static inline coroutine_fn RUNS_IN_MAIN void copy_fill(BlockNode *n)
{
    g_autofree uint8_t *data = g_malloc(1 << 20);
    BlockBackend *blk = blk_co_new("fill", n, true, NULL);
    test_fill(data, 1 << 20, 1);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 1 << 20, data, 0), 0);
    test_fill(data, 1 << 20, 2);
    assert_int_equal(test_io(blk, TEST_WRITE, COPY_SIZE - (1 << 20), 1 << 20, data, 0), 0);
    blk_co_free(blk);
}

static inline coroutine_fn RUNS_IN_MAIN void copy_disks(const char *source, const char *target,
                                                        BlockNode **s, BlockNode **t)
{
    *s = test_node_add(source);
    *t = test_node_add(target);
    copy_fill(*s);
}

static inline coroutine_fn RUNS_IN_MAIN void copy_end_disks(void)
{
    test_node_del("s");
    test_node_del("t");
}

#define SOURCE "mem,node-name=s,size=4M"
#define TARGET "mem,node-name=t,size=4M"
#define SLOW_SOURCE "fault,node-name=s,file.driver=mem,file.size=4M"
#define SLOW_TARGET "fault,node-name=t,file.driver=mem,file.size=4M"

/* ---- virtual time of the home ---- */

static int64_t copy_now;

static void copy_time_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    copy_now += *(int64_t *)opaque;
    aio_context_set_virtual_time(test_home, copy_now);
}

static inline coroutine_fn RUNS_IN_MAIN void copy_pass_time(int64_t ns)
{
    test_in_home(copy_time_at_home, &ns);
    test_settle();
    test_settle();
}

#endif
