/* SPDX-License-Identifier: Apache-2.0 */
/* The commit job on the layers below the active one. */
#include "block/chain/commit_job.h"
#include "block/chain/external_snapshot.h"
#include "tests/block/chain/chain_job_test.h"

static coroutine_fn RUNS_IN_MAIN Job *try_commit(const Chain *c, unsigned top, unsigned base,
                                                 CommitConfig config, GError **error)
{
    config.job.id = "j";
    config.top = c->nodes[top];
    config.base = c->nodes[base];
    co_mutex_lock(&job_operation);
    Job *job = block_commit_co_start(&config, error);
    co_mutex_unlock(&job_operation);
    return job;
}

static coroutine_fn RUNS_IN_MAIN Job *commit(const Chain *c, unsigned top, unsigned base,
                                             CommitConfig config)
{
    GError *error = NULL;
    Job *job = try_commit(c, top, base, config, &error);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
    return job;
}

static coroutine_fn RUNS_IN_MAIN void commit_fails(const Chain *c, unsigned top, unsigned base,
                                                   const char *says)
{
    GError *error = NULL;
    assert_null(try_commit(c, top, base, (CommitConfig){0}, &error));
    chain_expect(error, says);
    assert_null(job_find("j"));
    assert_true(block_node_read_only(c->nodes[base]));
}

/* ---- success ---- */

BLOCK_TEST(a_middle_layer_is_committed_and_leaves_the_chain)
{
    Chain c;
    chain_open(&c, 3);
    commit(&c, 1, 0, (CommitConfig){0});
    job_await_end("j", "COMPLETED ");
    assert_ptr_equal(c.nodes[2]->backing, c.nodes[0]);
    assert_null(block_node_find("n1"));
    assert_true(block_node_read_only(c.nodes[0]));
    chain_assert_backing(c.paths[2], c.paths[0]);
    chain_close(&c);
}

/* The overlay is read-only, since it is not the active layer either. */
BLOCK_TEST(several_layers_are_committed_below_a_read_only_overlay)
{
    Chain c;
    chain_open(&c, 5);
    commit(&c, 2, 0, (CommitConfig){.backing_file = "a-name", .filter_name = "f"});
    assert_non_null(block_node_find("f"));
    job_await_end("j", "COMPLETED ");
    assert_null(block_node_find("f"));
    assert_ptr_equal(c.nodes[3]->backing, c.nodes[0]);
    assert_true(block_node_read_only(c.nodes[3]));
    assert_null(block_node_find("n2"));
    chain_assert_backing(c.paths[3], "a-name");
    blk_co_free(g_steal_pointer(&c.blk));
    assert_int_equal(shell("qemu-img rebase -u -f qcow2 -F qcow2 -b %s %s", c.paths[0], c.paths[3]),
                     0);
    c.blk = chain_disk("qcow2", c.paths[4]);
    chain_close(&c);
}

BLOCK_TEST(a_shorter_base_grows_and_gets_zeroes)
{
    Chain c = {.count = 3};
    c.paths[0] = chain_image(NULL);
    assert_int_equal(
        shell("qemu-img resize -q --shrink %s 1M && qemu-io -c 'write -q -P 9 0 1M' %s", c.paths[0],
              c.paths[0]),
        0);
    c.paths[1] = chain_image(c.paths[0]);
    c.paths[2] = chain_image(c.paths[1]);
    chain_fill(&c, 1);
    c.blk = chain_disk("qcow2", c.paths[2]);
    chain_find_nodes(&c);
    c.content = chain_content(c.blk);
    assert_int_equal(block_node_size(c.nodes[0]), 1 << 20);
    commit(&c, 1, 0, (CommitConfig){0});
    job_await_end("j", "COMPLETED ");
    assert_int_equal(block_node_size(c.nodes[0]), CHAIN_SIZE);
    chain_close(&c);
}

/* Data that is beyond the end of a short image in the middle reads as zeroes, also after the commit. */
BLOCK_TEST(zeroes_behind_the_end_of_a_short_layer_hide_the_base)
{
    Chain c = {.count = 4};
    c.paths[0] = chain_image(NULL);
    chain_fill(&c, 0);
    c.paths[1] = chain_image(c.paths[0]);
    assert_int_equal(shell("qemu-img resize -q --shrink %s 1M", c.paths[1]), 0);
    c.paths[2] = chain_image(c.paths[1]);
    c.paths[3] = chain_image(c.paths[2]);
    c.blk = chain_disk("qcow2", c.paths[3]);
    chain_find_nodes(&c);
    c.content = chain_content(c.blk);
    commit(&c, 2, 0, (CommitConfig){0});
    job_await_end("j", "COMPLETED ");
    chain_close(&c);
}

#define GUESTS 8

BLOCK_TEST(layers_are_snapshotted_and_committed_under_load)
{
    GError *error = NULL;
    char *base = chain_image(NULL);
    char *over[2] = {chain_path(), chain_path()};
    BlockBackend *blk = chain_disk("qcow2", base);
    static ChainGuest guests[GUESTS];
    for (unsigned i = 0; i < GUESTS; i++) {
        chain_guest_start(&guests[i], blk, i);
    }
    for (unsigned i = 0; i < 8; i++) {
        NewImageConfig image = {.mode = NEW_IMAGE_ABSOLUTE_PATHS, .filename = over[i % 2]};
        ExternalSnapshot *s = external_snapshot_co_begin_image(blk_root(blk), &image, &error);
        if (s == NULL) {
            fail_msg("%s", error->message);
        }
        assert_true(external_snapshot_co_insert(s, &error));
        external_snapshot_co_end(s, true);
        BlockNode *root = blk_root(blk);
        if (root->backing->backing != NULL) {
            Chain c = {.nodes = {root->backing->backing, root->backing}};
            commit(&c, 1, 0, (CommitConfig){0});
            job_await_end("j", "COMPLETED ");
            assert_int_equal(root->height, 3);
            unlink(over[(i + 1) % 2]);
        }
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        chain_guest_stop(&guests[i]);
    }
    blk_co_free(blk);
    assert_int_equal(shell("qemu-img check -q %s && qemu-img check -q %s", base, over[1]), 0);
    for (unsigned i = 0; i < 2; i++) {
        unlink(over[i]);
        g_free(over[i]);
    }
    test_file_free(base);
}

/* ---- it ends otherwise ---- */

BLOCK_TEST(a_cancelled_commit_leaves_the_chain_as_it_was)
{
    Chain c;
    chain_open(&c, 3);
    for (unsigned force = 0; force < 2; force++) {
        Job *job = commit(&c, 1, 0, (CommitConfig){.job = {.speed = 1 << 20}});
        assert_non_null(block_node_find("n1"));
        assert_false(block_node_read_only(c.nodes[0]));
        co_sleep_ns(5000000);
        assert_true(job_cancel(job, force, NULL));
        job_await_end("j", "CANCELLED ");
        chain_assert_unchanged(&c);
    }
    commit(&c, 1, 0, (CommitConfig){0});
    job_await_end("j", "COMPLETED ");
    c.nodes[1] = NULL;
    chain_close(&c);
}

#define FAULT_FILE "driver=fault,node-name=fault,file.driver=file,file.filename=@"

BLOCK_TEST(an_error_of_the_base_fails_the_job_and_leaves_the_chain)
{
    Chain c;
    chain_open_with(&c, 3, FAULT_FILE);
    job_set_fault(block_node_find("fault"),
                  (BlockFault){.op = BLOCK_FAULT_WRITE, .count = 1, .error = EIO});
    commit(&c, 1, 0, (CommitConfig){.backing_file = c.paths[0]});
    job_await_end("j", "write-error-report COMPLETED (Input/output error) ");
    job_set_fault(block_node_find("fault"), (BlockFault){0});
    chain_assert_unchanged(&c);
    chain_close(&c);
}

BLOCK_TEST(an_error_stops_the_job_until_it_is_resumed)
{
    Chain c;
    chain_open_with(&c, 3, FAULT_FILE);
    job_set_fault(block_node_find("fault"), (BlockFault){.op = BLOCK_FAULT_WRITE, .error = ENOSPC});
    CommitConfig config = {.job = {.on_target_error = BLOCK_ON_ERROR_ENOSPC},
                           .backing_file = c.paths[0]};
    Job *job = commit(&c, 1, 0, config);
    job_await("j", JOB_STATUS_PAUSED);
    assert_int_equal(job_io_status(job), JOB_IO_NOSPACE);
    job_set_fault(block_node_find("fault"), (BlockFault){0});
    assert_true(job_resume(job, NULL));
    job_await_end("j", "write-error-stop COMPLETED ");
    assert_ptr_equal(c.nodes[2]->backing, c.nodes[0]);
    chain_close(&c);
}

/* A cancel in the drained section, when the header names the base already. */
static void cancel_at(void *arg, const void *object)
{
    enter_main();
    assert_true(job_cancel(job_find("j"), true, NULL));
}

BLOCK_TEST(a_cancel_between_header_and_graph_undoes_the_header)
{
    Chain c;
    chain_open(&c, 4);
    sched_point_hook("commit.named", cancel_at, NULL);
    commit(&c, 2, 0, (CommitConfig){0});
    job_await_end("j", "CANCELLED ");
    sched_point_reset();
    chain_assert_unchanged(&c);
    chain_close(&c);
}

/* ---- other users ---- */

BLOCK_TEST(conflicts_are_refused_and_name_both_users)
{
    GError *error = NULL;
    Chain c;
    chain_open(&c, 4);
    commit_fails(&c, 3, 0, "'n3' is not an image between an overlay");
    commit_fails(&c, 1, 1, "'n1' is not an image between an overlay");
    commit_fails(&c, 0, 1, "'n0' is not an image between an overlay");
    BlockBackend *reader = blk_co_new("reader", c.nodes[1], false, NULL);
    commit_fails(&c, 2, 0, "node 'n1' cannot be used by drive 'reader' beside job 'j'");
    chain_assert_unchanged(&c);
    blk_co_free(reader);
    char *other = chain_image(c.paths[0]);
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=o,file.driver=file,file.filename=%s,backing=n0", other);
    test_node_add(text);
    commit_fails(&c, 2, 0, "node 'o'");
    test_node_del("o");

    commit(&c, 1, 0, (CommitConfig){.job = {.speed = 1 << 16}});
    reader = blk_co_new("reader", c.nodes[1], false, &error);
    assert_null(reader);
    chain_expect(g_steal_pointer(&error), "drive 'reader' beside job 'j'");
    assert_int_equal(block_node_co_resize(c.nodes[0], 1 << 20, &error), -EBUSY);
    chain_expect(g_steal_pointer(&error), "job 'j' uses it");
    assert_null(external_snapshot_co_begin_image(
        c.nodes[2], &(NewImageConfig){.mode = NEW_IMAGE_EXISTING, .filename = other}, &error));
    chain_expect(g_steal_pointer(&error), "Node 'n2' is busy: job 'j' uses it");
    CommitConfig second = {.job = {.id = "k"}, .top = c.nodes[2], .base = c.nodes[1]};
    assert_null(block_commit_co_start(&second, &error));
    chain_expect(g_steal_pointer(&error), "job 'j' uses it, and job 'k' would too");
    assert_true(job_cancel(job_find("j"), true, NULL));
    job_await_end("j", "CANCELLED ");
    chain_assert_unchanged(&c);
    chain_close(&c);
    test_file_free(other);
}

/* The disk is unplugged while the job runs: the job's use keeps the images open. */
BLOCK_TEST(the_disk_can_be_unplugged_while_the_job_runs)
{
    Chain c;
    chain_open(&c, 3);
    BlockNode *root = blk_root(c.blk);
    commit(&c, 1, 0, (CommitConfig){.job = {.speed = 1 << 20}});
    blk_co_free(g_steal_pointer(&c.blk));
    assert_ptr_equal(block_node_find("n2"), root);
    assert_true(job_set_speed(job_find("j"), 0, NULL));
    job_await_end("j", "COMPLETED ");
    assert_null(block_node_find("n2"));
    c.blk = chain_disk("qcow2", c.paths[2]);
    assert_ptr_equal(blk_root(c.blk)->backing->backing, NULL);
    chain_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_middle_layer_is_committed_and_leaves_the_chain),
        cmocka_unit_test(several_layers_are_committed_below_a_read_only_overlay),
        cmocka_unit_test(a_shorter_base_grows_and_gets_zeroes),
        cmocka_unit_test(zeroes_behind_the_end_of_a_short_layer_hide_the_base),
        cmocka_unit_test(layers_are_snapshotted_and_committed_under_load),
        cmocka_unit_test(a_cancelled_commit_leaves_the_chain_as_it_was),
        cmocka_unit_test(an_error_of_the_base_fails_the_job_and_leaves_the_chain),
        cmocka_unit_test(an_error_stops_the_job_until_it_is_resumed),
        cmocka_unit_test(a_cancel_between_header_and_graph_undoes_the_header),
        cmocka_unit_test(conflicts_are_refused_and_name_both_users),
        cmocka_unit_test(the_disk_can_be_unplugged_while_the_job_runs),
    };
    return job_test_main(tests);
}
