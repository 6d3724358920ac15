/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs on a chain whose base hangs: neither a drained section of the disk, nor the guest, nor other
 * operations wait for it. A cancel ends the job; what it used is free when the base has answered. */
#include "block/chain/commit_job.h"
#include "block/chain/stream_job.h"
#include "block/job/mirror.h"
#include "tests/block/chain/chain_job_test.h"

#define HANGING "driver=fault,node-name=storage,file.driver=file,file.filename=@"

static coroutine_fn RUNS_IN_MAIN BlockNode *storage_hangs(BlockFaultOp op)
{
    BlockNode *storage = block_node_find("storage");
    job_set_fault(storage, (BlockFault){.op = op, .hold = true});
    return storage;
}

static coroutine_fn RUNS_IN_MAIN void start_commit(const Chain *c)
{
    GError *error = NULL;
    CommitConfig config = {
        .job.id = "job0", .top = c->nodes[1], .base = c->nodes[0], .backing_file = c->paths[0]};
    co_mutex_lock(&job_operation);
    if (block_commit_co_start(&config, &error) == NULL) {
        fail_msg("%s", error->message);
    }
    co_mutex_unlock(&job_operation);
}

static coroutine_fn RUNS_IN_MAIN void start_active_commit(const Chain *c)
{
    GError *error = NULL;
    BlockMirrorConfig config = {
        .job.id = "job0", .source = c->nodes[2], .target = c->nodes[0], .commit = true};
    co_mutex_lock(&job_operation);
    if (block_mirror_co_start(&config, &error) == NULL) {
        fail_msg("%s", error->message);
    }
    co_mutex_unlock(&job_operation);
}

static coroutine_fn RUNS_IN_MAIN void start_stream(const Chain *c)
{
    GError *error = NULL;
    StreamConfig config = {.job.id = "job0", .node = c->nodes[2]};
    co_mutex_lock(&job_operation);
    if (block_stream_co_start(&config, &error) == NULL) {
        fail_msg("%s", error->message);
    }
    co_mutex_unlock(&job_operation);
}

/* As a stop of the VM drains the disk, and as its guest uses it. */
static coroutine_fn RUNS_IN_MAIN void disk_is_usable(Chain *c)
{
    co_drained_begin(&c->blk, 1);
    assert_int_equal(blk_in_flight(c->blk), 0);
    co_drained_end(&c->blk, 1);
    chain_write(c->blk, 0, 99);
    memset(c->content, 99, 65536);
    assert_int_equal(chain_read(c->blk, 512), 99);
}

/* The job ends while the base hangs. What it used is free once the base has answered. */
static coroutine_fn RUNS_IN_MAIN void cancel_while_it_hangs(Chain *c, BlockNode *storage)
{
    while (block_fault_held(storage) == 0) {
        co_yield_turn();
    }
    disk_is_usable(c);
    assert_true(job_cancel(job_find("job0"), true, NULL));
    job_await_end("job0", "CANCELLED ");
    assert_true(block_fault_held(storage) > 0);
    disk_is_usable(c);
    co_mutex_lock(&job_operation);
    assert_non_null(block_node_job(c->nodes[1]));
    co_mutex_unlock(&job_operation);
    job_release(storage);
    while (block_node_job(c->nodes[1]) != NULL || blk_root(c->blk) != c->nodes[2] ||
           c->nodes[2]->backing != c->nodes[1] || !block_node_read_only(c->nodes[0])) {
        co_yield_turn();
    }
    test_settle();
}

BLOCK_TEST(a_commit_whose_base_hangs_is_cancelled)
{
    Chain c;
    chain_open_with(&c, 3, HANGING);
    BlockNode *storage = storage_hangs(BLOCK_FAULT_WRITE);
    start_commit(&c);
    cancel_while_it_hangs(&c, storage);
    start_commit(&c);
    job_await_end("job0", "COMPLETED ");
    assert_ptr_equal(c.nodes[2]->backing, block_node_find("n0"));
    chain_close(&c);
}

BLOCK_TEST(a_commit_of_the_active_layer_whose_base_hangs_is_cancelled)
{
    Chain c;
    chain_open_with(&c, 3, HANGING);
    BlockNode *storage = storage_hangs(BLOCK_FAULT_WRITE);
    start_active_commit(&c);
    cancel_while_it_hangs(&c, storage);
    chain_assert_unchanged(&c);
    start_active_commit(&c);
    job_await("job0", JOB_STATUS_READY);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "READY CANCELLED ");
    chain_close(&c);
}

BLOCK_TEST(a_stream_whose_base_hangs_is_cancelled)
{
    Chain c;
    chain_open_with(&c, 3, HANGING);
    BlockNode *storage = storage_hangs(BLOCK_FAULT_READ);
    start_stream(&c);
    cancel_while_it_hangs(&c, storage);
    start_stream(&c);
    job_await_end("job0", "COMPLETED ");
    chain_close(&c);
}

/* A guest's read hangs below the node of a stream, which was read-only and is to be so again. */
BLOCK_TEST(a_stream_below_a_guest_whose_read_hangs_is_cancelled)
{
    Chain c;
    uint8_t data[512];
    GError *error = NULL;
    chain_open_with(&c, 3, HANGING);
    StreamConfig config = {.job.id = "job0", .node = c.nodes[1]};
    co_mutex_lock(&job_operation);
    Job *job = block_stream_co_start(&config, &error);
    assert_non_null(job);
    assert_true(job_pause(job, NULL));
    co_mutex_unlock(&job_operation);
    job_await("job0", JOB_STATUS_PAUSED);
    BlockNode *storage = storage_hangs(BLOCK_FAULT_READ);
    TestRequest read = {.blk = c.blk, .op = TEST_READ, .offset = 33 * 65536, .bytes = sizeof(data)};
    read.buf = data; /* only the base has data there */
    test_start(&read);
    job_await_held(storage, 1);
    assert_true(job_cancel(job, true, NULL));
    job_await_end("job0", "CANCELLED ");
    assert_int_equal(read.completions, 0);
    assert_false(block_node_read_only(c.nodes[1]));
    job_release(storage);
    assert_int_equal(test_finish(&read), 0);
    while (!block_node_read_only(c.nodes[1])) {
        co_yield_turn();
    }
    test_settle();
    chain_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_whose_base_hangs_is_cancelled),
        cmocka_unit_test(a_commit_of_the_active_layer_whose_base_hangs_is_cancelled),
        cmocka_unit_test(a_stream_whose_base_hangs_is_cancelled),
        cmocka_unit_test(a_stream_below_a_guest_whose_read_hangs_is_cancelled),
    };
    return job_test_main(tests);
}
