/* SPDX-License-Identifier: Apache-2.0 */
/* Commit without a job: of what the active layer holds. */
#include "block/chain/chain_commit.h"
#include "tests/block/chain/chain_job_test.h"

static coroutine_fn RUNS_IN_MAIN void commit(const Chain *c)
{
    GError *error = NULL;
    if (!chain_co_commit(blk_root(c->blk), &error)) {
        fail_msg("%s", error->message);
    }
}

static coroutine_fn RUNS_IN_MAIN void commit_fails(BlockNode *n, const char *says)
{
    GError *error = NULL;
    assert_false(chain_co_commit(n, &error));
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
        BlockFault fault = {.op = BLOCK_FAULT_WRITE, .after = failed, .count = 1, .error = ENOSPC};
        job_set_fault(block_node_find("fault"), fault);
        ok = chain_co_commit(c.nodes[1], &error);
        assert_true(ok || strstr(error->message, "No space left on device") != NULL);
        assert_true(ok || !is_empty(c.paths[1]));
        g_autofree uint8_t *content = chain_content(c.blk);
        assert_memory_equal(content, c.content, CHAIN_SIZE);
    }
    assert_true(failed > 1);
    job_set_fault(block_node_find("fault"), (BlockFault){0});
    commit(&c);
    chain_close(&c);
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
        cmocka_unit_test(other_users_of_the_base_are_named),
    };
    return job_test_main(tests);
}
