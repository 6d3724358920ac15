/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that continue one another become one, and each has its own result all the same. */
#include "block/engine/engine.h"
#include "tests/block/block_test.h"

#define MERGE_MAX 8u
#define MERGE_UNIT 4096u

/* An engine whose kernel is the test. */
typedef struct MergeEngine {
    BlockEngine base;
    BlockIoQueue queue;
} MergeEngine;

static RUNS_IN_IOTHREAD void merge_submit(BlockEngine *base, BlockIo *io)
{
    MergeEngine *e = (MergeEngine *)base;
    block_io_queue_push(&e->queue, io);
}

static const BlockEngineOps merge_ops = {.kind = BLOCK_ENGINE_NATIVE, .submit = merge_submit};

typedef struct MergeRequest {
    MergeEngine *engine;
    BlockIo io;
    struct iovec iov;
    int64_t result;
    bool done;
} MergeRequest;

static void merge_request_run(void *opaque)
{
    MergeRequest *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    r->result = block_engine_co_io(&r->engine->base, &r->io);
    r->done = true;
}

typedef struct MergeRig {
    MergeEngine engine;
    MergeRequest requests[MERGE_MAX];
    /* a step, in the home */
    int64_t result;  /* of the next request of the engine */
    uint64_t offset; /* it is expected to begin here ... */
    unsigned units;  /* ... to be so long ... */
    unsigned niov;   /* ... and to have so many buffers */
    unsigned left;   /* in the queue afterwards */
} MergeRig;

static void merge_step_at_home(void *opaque)
{
    MergeRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    unsigned niov;
    BlockIo *io = block_io_queue_pop(&rig->engine.queue);
    const struct iovec *iov = block_engine_iov(&rig->engine.base, io, &niov);
    assert_int_equal(io->offset, rig->offset * MERGE_UNIT);
    assert_int_equal(iov_size(iov, niov), rig->units * MERGE_UNIT);
    assert_int_equal(niov, rig->niov);
    for (unsigned i = 1; i < niov; i++) { /* the buffers of the requests lie behind one another */
        assert_ptr_equal(iov[i].iov_base, (uint8_t *)iov[i - 1].iov_base + iov[i - 1].iov_len);
    }
    block_engine_complete(&rig->engine.base, io, rig->result);
    rig->left = 0;
    for (io = rig->engine.queue.first; io != NULL; io = io->next) {
        rig->left++;
    }
}

/* The engine's next request has @units from unit @offset on, and ends with @result. */
static coroutine_fn RUNS_IN_MAIN void merge_step(MergeRig *rig, uint64_t offset, unsigned units,
                                                 unsigned niov, int64_t result, unsigned left)
{
    rig->offset = offset;
    rig->units = units;
    rig->niov = niov;
    rig->result = result;
    test_in_home(merge_step_at_home, rig);
    test_settle();
    assert_int_equal(rig->left, left);
}

static uint8_t merge_buffer[BLOCK_ENGINE_MERGE_BYTES + 2 * MERGE_UNIT];

static coroutine_fn RUNS_IN_MAIN void merge_begin(MergeRig *rig)
{
    *rig = (MergeRig){.engine.base = {.ops = &merge_ops, .ctx = test_home}};
    block_io_queue_init(&rig->engine.queue);
}

static coroutine_fn RUNS_IN_MAIN void merge_start(MergeRig *rig, unsigned index, BlockIoOp op,
                                                  uint64_t offset, unsigned units)
{
    MergeRequest *r = &rig->requests[index];
    *r = (MergeRequest){.engine = &rig->engine,
                        .iov = {merge_buffer + offset * MERGE_UNIT, units * MERGE_UNIT}};
    r->io = (BlockIo){.op = op,
                      .fd = 5,
                      .offset = offset * MERGE_UNIT,
                      .bytes = units * MERGE_UNIT,
                      .iov = &r->iov,
                      .niov = 1};
    co_start(test_home, merge_request_run, r);
}

/* What block_co_engine_put() does. */
static coroutine_fn RUNS_IN_MAIN void merge_end(MergeRig *rig)
{
    BlockMergedIov *next;
    for (BlockMergedIov *m = rig->engine.base.spare; m != NULL; m = next) {
        next = m->next;
        g_free(m);
    }
}

static void merge_expect(const MergeRig *rig, unsigned index, int64_t result)
{
    assert_true(rig->requests[index].done);
    assert_int_equal(rig->requests[index].result, result);
}

BLOCK_TEST(requests_that_continue_one_another_are_one)
{
    MergeRig rig;
    merge_begin(&rig);
    merge_start(&rig, 0, BLOCK_IO_WRITE, 2, 1);
    merge_start(&rig, 1, BLOCK_IO_WRITE, 3, 2);
    merge_start(&rig, 2, BLOCK_IO_WRITE, 5, 1);
    merge_start(&rig, 3, BLOCK_IO_WRITE, 7, 1); /* a gap */
    merge_start(&rig, 4, BLOCK_IO_READ, 8, 1);  /* another operation */
    test_settle();
    merge_step(&rig, 2, 4, 3, 4 * MERGE_UNIT, 2);
    merge_expect(&rig, 0, MERGE_UNIT);
    merge_expect(&rig, 1, 2 * MERGE_UNIT);
    merge_expect(&rig, 2, MERGE_UNIT);
    merge_step(&rig, 7, 1, 1, MERGE_UNIT, 1);
    merge_step(&rig, 8, 1, 1, MERGE_UNIT, 0);
    merge_expect(&rig, 4, MERGE_UNIT);
    merge_end(&rig);
}

BLOCK_TEST(after_an_error_each_is_submitted_alone_and_has_its_own_result)
{
    MergeRig rig;
    merge_begin(&rig);
    for (unsigned i = 0; i < 3; i++) {
        merge_start(&rig, i, BLOCK_IO_WRITE, i, 1);
    }
    test_settle();
    merge_step(&rig, 0, 3, 3, -EIO, 3);
    merge_step(&rig, 0, 1, 1, MERGE_UNIT, 2);
    merge_step(&rig, 1, 1, 1, -EIO, 1);
    merge_step(&rig, 2, 1, 1, MERGE_UNIT, 0);
    merge_expect(&rig, 0, MERGE_UNIT);
    merge_expect(&rig, 1, -EIO);
    merge_expect(&rig, 2, MERGE_UNIT);
    merge_end(&rig);
}

BLOCK_TEST(of_a_partial_result_each_has_its_part_and_the_rest_comes_again)
{
    MergeRig rig;
    merge_begin(&rig);
    for (unsigned i = 0; i < 4; i++) {
        merge_start(&rig, i, BLOCK_IO_READ, i, 1);
    }
    test_settle();
    merge_step(&rig, 0, 4, 4, MERGE_UNIT + 512, 2);
    merge_expect(&rig, 0, MERGE_UNIT);
    merge_expect(&rig, 1, 512);
    merge_step(&rig, 2, 1, 1, 0, 1); /* the end of the file */
    merge_step(&rig, 3, 1, 1, 0, 0);
    merge_expect(&rig, 2, 0);
    merge_expect(&rig, 3, 0);
    merge_start(&rig, 0, BLOCK_IO_WRITE, 0, 1);
    merge_start(&rig, 1, BLOCK_IO_WRITE, 1, 1);
    test_settle();
    merge_step(&rig, 0, 2, 2, 0, 2); /* no space: the first one finds that out itself */
    merge_step(&rig, 0, 1, 1, MERGE_UNIT, 1);
    merge_step(&rig, 1, 1, 1, 0, 0);
    merge_expect(&rig, 0, MERGE_UNIT);
    merge_expect(&rig, 1, 0);
    merge_end(&rig);
}

BLOCK_TEST(a_group_has_limits_and_is_closed_once_the_kernel_may_have_it)
{
    MergeRig rig;
    merge_begin(&rig);
    merge_start(&rig, 0, BLOCK_IO_WRITE, 0, BLOCK_ENGINE_MERGE_BYTES / MERGE_UNIT - 1);
    merge_start(&rig, 1, BLOCK_IO_WRITE, BLOCK_ENGINE_MERGE_BYTES / MERGE_UNIT - 1, 1);
    merge_start(&rig, 2, BLOCK_IO_WRITE, BLOCK_ENGINE_MERGE_BYTES / MERGE_UNIT, 1);
    test_settle();
    merge_step(&rig, 0, BLOCK_ENGINE_MERGE_BYTES / MERGE_UNIT, 2, BLOCK_ENGINE_MERGE_BYTES, 1);
    unsigned niov;
    block_engine_iov(&rig.engine.base, &rig.requests[2].io, &niov); /* an engine has prepared it */
    merge_start(&rig, 3, BLOCK_IO_WRITE, BLOCK_ENGINE_MERGE_BYTES / MERGE_UNIT + 1, 1);
    test_settle();
    merge_step(&rig, BLOCK_ENGINE_MERGE_BYTES / MERGE_UNIT, 1, 1, MERGE_UNIT, 1);
    merge_step(&rig, BLOCK_ENGINE_MERGE_BYTES / MERGE_UNIT + 1, 1, 1, MERGE_UNIT, 0);
    merge_expect(&rig, 3, MERGE_UNIT);
    merge_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_that_continue_one_another_are_one),
        cmocka_unit_test(after_an_error_each_is_submitted_alone_and_has_its_own_result),
        cmocka_unit_test(of_a_partial_result_each_has_its_part_and_the_rest_comes_again),
        cmocka_unit_test(a_group_has_limits_and_is_closed_once_the_kernel_may_have_it),
    };
    return block_test_main(tests);
}
