/* SPDX-License-Identifier: Apache-2.0 */
/* Commit of what the active layer holds, which stays the active layer. */
#include "block/chain/chain_commit.h"
#include "tests/block/chain/chain_job_test.h"

/* The job "commit0", with a reference; NULL + @error. */
static coroutine_fn RUNS_IN_MAIN Job *start_commit(BlockNode *n, GError **error)
{
    co_mutex_lock(&job_operation);
    Job *job = chain_commit_co_start(n, "commit0", error);
    if (job != NULL) {
        job_ref(job);
    }
    co_mutex_unlock(&job_operation);
    return job;
}

/* Drops the reference. */
static coroutine_fn RUNS_IN_MAIN bool await_commit(Job *job, GError **error)
{
    job_co_await(job);
    const char *why = job_error_text(job);
    if (why != NULL) {
        g_set_error_literal(error, JOB_ERROR, JOB_ERROR_VERB, why);
    }
    job_unref(job);
    return why == NULL;
}

static coroutine_fn RUNS_IN_MAIN bool try_commit(BlockNode *n, GError **error)
{
    Job *job = start_commit(n, error);
    return job != NULL && await_commit(job, error);
}

static coroutine_fn RUNS_IN_MAIN void commit(const Chain *c)
{
    GError *error = NULL;
    if (!try_commit(blk_root(c->blk), &error)) {
        fail_msg("%s", error->message);
    }
}

static coroutine_fn RUNS_IN_MAIN void commit_fails(BlockNode *n, const char *says)
{
    GError *error = NULL;
    assert_false(try_commit(n, &error));
    chain_expect(error, says);
}

/* Whether the image holds nothing itself. */
static bool is_empty(const char *path)
{
    return shell("qemu-img map -U --output=json %s | grep -q '\"depth\": 0, \"present\": true'",
                 path) != 0;
}

BLOCK_TEST(the_base_gets_everything_and_the_overlay_is_empty)
{
    Chain c;
    chain_open(&c, 3);
    assert_false(is_empty(c.paths[2]));
    assert_true(chain_can_commit(c.nodes[2]));
    commit(&c);
    assert_ptr_equal(c.nodes[2]->backing, c.nodes[1]);
    assert_true(block_node_read_only(c.nodes[1]));
    g_autofree uint8_t *base = job_content(c.nodes[1]);
    assert_memory_equal(base, c.content, CHAIN_SIZE);
    commit(&c);
    blk_co_free(g_steal_pointer(&c.blk));
    assert_true(is_empty(c.paths[2]));
    c.blk = chain_disk("qcow2", c.paths[2]);
    chain_close(&c);
}

#define GUESTS 8

BLOCK_TEST(an_overlay_is_committed_under_load)
{
    Chain c = {.count = 2};
    c.paths[0] = chain_image(NULL);
    c.paths[1] = chain_image(c.paths[0]);
    c.blk = chain_disk("qcow2", c.paths[1]);
    static ChainGuest guests[GUESTS];
    for (unsigned i = 0; i < GUESTS; i++) {
        chain_guest_start(&guests[i], c.blk, i);
    }
    for (unsigned i = 0; i < 20; i++) {
        commit(&c);
        co_sleep_ns(1000000);
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        chain_guest_stop(&guests[i]);
    }
    c.content = chain_content(c.blk);
    chain_close(&c);
}

#define FAULT_FILE "driver=fault,node-name=fault,file.driver=file,file.filename=@"

BLOCK_TEST(an_error_leaves_everything_in_the_overlay)
{
    Chain c;
    chain_open_with(&c, 2, FAULT_FILE);
    unsigned failed = 0;
    for (bool ok = false; !ok; failed += !ok) {
        g_autoptr(GError) error = NULL;
        BlockFault fault = {.op = BLOCK_FAULT_WRITE, .after = failed, .count = 1, .error = EIO};
        job_set_fault(block_node_find("fault"), fault);
        ok = try_commit(c.nodes[1], &error);
        assert_true(ok || strstr(error->message, "Input/output error") != NULL);
        assert_true(ok || !is_empty(c.paths[1]));
        g_autofree uint8_t *content = chain_content(c.blk);
        assert_memory_equal(content, c.content, CHAIN_SIZE);
    }
    assert_true(failed > 1);
    job_set_fault(block_node_find("fault"), (BlockFault){0});
    commit(&c);
    chain_close(&c);
}

/* The guest and other operations go on; a cancel leaves everything in the overlay. */
BLOCK_TEST(a_base_that_hangs_delays_nobody)
{
    Chain c;
    chain_open_with(&c, 2, FAULT_FILE);
    BlockNode *fault = block_node_find("fault");
    for (unsigned i = 0; i < 2; i++) {
        job_set_fault(fault, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
        Job *job = start_commit(c.nodes[1], NULL);
        job_await_held(fault, 1);
        co_mutex_lock(&job_operation);
        co_drained_begin(&c.blk, 1);
        co_drained_end(&c.blk, 1);
        co_mutex_unlock(&job_operation);
        chain_write(c.blk, 65536, (uint8_t)(100 + i));
        assert_int_equal(chain_read(c.blk, 65536), 100 + i);
        if (i == 0) {
            assert_true(job_cancel(job, false, NULL));
            job_co_await(job); /* before the storage answers */
            assert_false(is_empty(c.paths[1]));
        }
        job_set_fault(fault, (BlockFault){0});
        job_release(fault);
        assert_int_equal(await_commit(job, NULL), i == 1);
        while (!block_node_read_only(c.nodes[0])) { /* the job's last use of it */
            co_yield_turn();
        }
    }
    blk_co_free(g_steal_pointer(&c.blk));
    assert_true(is_empty(c.paths[1]));
    c.blk = chain_disk("qcow2", c.paths[1]);
    memset(c.content + 65536, 101, 65536);
    chain_close(&c);
}

BLOCK_TEST(the_size_of_the_base_only_grows)
{
    static const unsigned sizes[] = {CHAIN_SIZE / 2, 2 * CHAIN_SIZE};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        Chain c = {.count = 2};
        c.paths[0] = chain_image(NULL);
        c.paths[1] = chain_path();
        assert_int_equal(shell("qemu-io -f qcow2 -c 'write -q -P 1 0 %u' %s && "
                               "qemu-img create -q -f qcow2 -b %s -F qcow2 %s %u && "
                               "qemu-io -f qcow2 -c 'write -q -P 2 1M 512k' %s",
                               (unsigned)CHAIN_SIZE, c.paths[0], c.paths[0], c.paths[1], sizes[i],
                               c.paths[1]),
                         0);
        c.blk = chain_disk("qcow2", c.paths[1]);
        chain_find_nodes(&c);
        commit(&c);
        assert_int_equal(block_node_size(c.nodes[0]), MAX(sizes[i], CHAIN_SIZE));
        assert_int_equal(block_node_size(c.nodes[1]), sizes[i]);
        blk_co_free(c.blk);
        assert_true(is_empty(c.paths[1]));
        assert_int_equal(shell("qemu-io -f qcow2 -c 'read -q -P 1 0 1M' -c 'read -q -P 2 1M 512k' "
                               "-c 'read -q -P 1 1536k 2560k' %s",
                               c.paths[0]),
                         0);
        test_file_free(c.paths[1]);
        test_file_free(c.paths[0]);
    }
}

BLOCK_TEST(other_users_of_the_base_are_named)
{
    Chain c;
    chain_open(&c, 2);
    BlockBackend *reader = blk_co_new("reader", c.nodes[0], false, NULL);
    commit_fails(c.nodes[1], "node 'n0' cannot be changed: drive 'reader' uses it");
    blk_co_free(reader);
    commit_fails(c.nodes[0], "Operation not supported");
    assert_false(chain_can_commit(c.nodes[0]));
    BlockEdge *job = block_user_co_new(c.nodes[1], "job 'j'", BLOCK_USE_GRAPH, BLOCK_USE_ALL, NULL);
    commit_fails(c.nodes[1], "Node 'n1' is busy: job 'j' uses it");
    block_user_co_free(job);
    chain_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_base_gets_everything_and_the_overlay_is_empty),
        cmocka_unit_test(an_overlay_is_committed_under_load),
        cmocka_unit_test(an_error_leaves_everything_in_the_overlay),
        cmocka_unit_test(a_base_that_hangs_delays_nobody),
        cmocka_unit_test(the_size_of_the_base_only_grows),
        cmocka_unit_test(other_users_of_the_base_are_named),
    };
    return job_test_main(tests);
}
