/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of mirror: a guest's disk, a target, and a job between them. */
#ifndef SKIFF_TESTS_BLOCK_JOB_MIRROR_TEST_H
#define SKIFF_TESTS_BLOCK_JOB_MIRROR_TEST_H

#include "block/graph.h"
#include "block/dirty_bitmap.h"
#include "block/job/mirror.h"
#include "tests/block/job/job_test.h"

#define MIRROR_SIZE ((uint64_t)1 << 20)
#define MIRROR_SOURCE "fault,node-name=s,discard=unmap,file.driver=mem,file.size=1M"
#define MIRROR_TARGET "fault,node-name=t,discard=unmap,file.driver=mem,file.size=1M"

typedef struct MirrorRig {
    BlockNode *source, *target; /* fault nodes "s" and "t", owned as by blockdev-add */
    BlockBackend *guest;
} MirrorRig;

static inline coroutine_fn RUNS_IN_MAIN void mirror_guest_write(MirrorRig *r, uint64_t offset,
                                                                uint64_t bytes, unsigned seed)
{
    g_autofree uint8_t *data = g_malloc(bytes);
    test_fill(data, bytes, seed);
    assert_int_equal(test_io(r->guest, TEST_WRITE, offset, bytes, data, 0), 0);
}

static inline coroutine_fn RUNS_IN_MAIN void mirror_rig_open(MirrorRig *r)
{
    GError *error = NULL;
    r->source = test_node_add(MIRROR_SOURCE);
    r->target = test_node_add(MIRROR_TARGET);
    r->guest = blk_co_new("guest", r->source, true, &error);
    assert_non_null(r->guest);
    mirror_guest_write(r, 0, MIRROR_SIZE / 2, 1);
}

static inline coroutine_fn RUNS_IN_MAIN void mirror_rig_close(MirrorRig *r)
{
    blk_co_free(r->guest);
    test_settle();
    test_node_del("s");
    test_node_del("t");
}

static inline coroutine_fn RUNS_IN_MAIN Job *mirror_try_start(MirrorRig *r, BlockMirrorConfig c,
                                                              GError **error)
{
    c.job.id = "job0";
    c.source = c.source != NULL ? c.source : r->source;
    c.target = c.target != NULL ? c.target : r->target;
    co_mutex_lock(&job_operation);
    Job *job = block_mirror_co_start(&c, error);
    co_mutex_unlock(&job_operation);
    return job;
}

static inline coroutine_fn RUNS_IN_MAIN Job *mirror_start(MirrorRig *r, BlockMirrorConfig c)
{
    GError *error = NULL;
    Job *job = mirror_try_start(r, c, &error);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
    return job;
}

/* A job that copies everything, in READY. */
static inline coroutine_fn RUNS_IN_MAIN Job *mirror_start_ready(MirrorRig *r, BlockMirrorConfig c)
{
    c.sync = BLOCK_MIRROR_FULL;
    Job *job = mirror_start(r, c);
    job_await("job0", JOB_STATUS_READY);
    return job;
}

static inline coroutine_fn RUNS_IN_MAIN void mirror_complete(Job *job)
{
    GError *error = NULL;
    if (!job_complete(job, &error)) {
        fail_msg("%s", error->message);
    }
}

#endif
