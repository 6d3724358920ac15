/* SPDX-License-Identifier: Apache-2.0 */
/* The stream job. */
#include "block/chain/external_snapshot.h"
#include "block/chain/stream_job.h"
#include "tests/block/chain/chain_job_test.h"

#define NO_BASE UINT_MAX

static coroutine_fn RUNS_IN_MAIN Job *try_stream(const Chain *c, unsigned node, unsigned base,
                                                 StreamConfig config, GError **error)
{
    config.job.id = "j";
    config.node = c->nodes[node];
    config.base = base != NO_BASE ? c->nodes[base] : NULL;
    co_mutex_lock(&job_operation);
    Job *job = block_stream_co_start(&config, error);
    co_mutex_unlock(&job_operation);
    return job;
}

static coroutine_fn RUNS_IN_MAIN Job *stream(const Chain *c, unsigned node, unsigned base,
                                             StreamConfig config)
{
    GError *error = NULL;
    Job *job = try_stream(c, node, base, config, &error);
    if (job == NULL) {
        fail_msg("%s", error->message);
    }
    return job;
}

/* ---- success ---- */

BLOCK_TEST(everything_is_copied_to_the_active_layer)
{
    Chain c;
    chain_open(&c, 4);
    stream(&c, 3, NO_BASE, (StreamConfig){0});
    job_await_end("j", "COMPLETED ");
    assert_null(c.nodes[3]->backing);
    assert_null(block_node_find("n0"));
    assert_int_equal(c.nodes[3]->track.users, 0);
    chain_assert_backing(c.paths[3], NULL);
    chain_close(&c);
}

BLOCK_TEST(what_is_above_the_base_is_copied)
{
    Chain c;
    chain_open(&c, 4);
    stream(&c, 3, 0, (StreamConfig){0});
    job_await_end("j", "COMPLETED ");
    assert_ptr_equal(c.nodes[3]->backing, c.nodes[0]);
    assert_null(block_node_find("n1"));
    chain_assert_backing(c.paths[3], c.paths[0]);
    chain_close(&c);
}

BLOCK_TEST(a_middle_layer_is_the_target_and_read_only_again)
{
    Chain c;
    chain_open(&c, 5);
    stream(&c, 3, 1, (StreamConfig){.backing_file = "a-name"});
    assert_false(block_node_read_only(c.nodes[3]));
    job_await_end("j", "COMPLETED ");
    assert_ptr_equal(c.nodes[3]->backing, c.nodes[1]);
    assert_true(block_node_read_only(c.nodes[3]));
    assert_null(block_node_find("n2"));
    chain_assert_backing(c.paths[3], "a-name");
    blk_co_free(g_steal_pointer(&c.blk));
    assert_int_equal(shell("qemu-img rebase -u -f qcow2 -F qcow2 -b %s %s", c.paths[1], c.paths[3]),
                     0);
    c.blk = chain_disk("qcow2", c.paths[4]);
    chain_close(&c);
}

BLOCK_TEST(two_parts_of_a_chain_are_streamed_at_a_time)
{
    Chain c;
    chain_open(&c, 5);
    StreamConfig upper = {.job = {.id = "k"}, .node = c.nodes[4], .base = c.nodes[2]};
    co_mutex_lock(&job_operation);
    assert_non_null(block_stream_co_start(&upper, NULL));
    co_mutex_unlock(&job_operation);
    stream(&c, 2, 0, (StreamConfig){0});
    job_await("j", JOB_STATUS_NULL);
    job_await_end("k", "COMPLETED COMPLETED ");
    assert_ptr_equal(c.nodes[4]->backing, c.nodes[2]);
    assert_ptr_equal(c.nodes[2]->backing, c.nodes[0]);
    chain_close(&c);
}

BLOCK_TEST(an_image_without_a_backing_file_is_complete_at_once)
{
    Chain c;
    chain_open(&c, 1);
    stream(&c, 0, NO_BASE, (StreamConfig){0});
    job_await_end("j", "COMPLETED ");
    chain_close(&c);
}

#define GUESTS 8

BLOCK_TEST(a_chain_is_streamed_under_load)
{
    GError *error = NULL;
    char *paths[9] = {chain_image(NULL)};
    BlockBackend *blk = chain_disk("qcow2", paths[0]);
    static ChainGuest guests[GUESTS];
    for (unsigned i = 0; i < GUESTS; i++) {
        chain_guest_start(&guests[i], blk, i);
    }
    for (unsigned i = 1; i < 9; i++) {
        paths[i] = chain_path();
        NewImageConfig image = {.mode = NEW_IMAGE_ABSOLUTE_PATHS, .filename = paths[i]};
        ExternalSnapshot *s = external_snapshot_co_begin_image(blk_root(blk), &image, &error);
        if (s == NULL) {
            fail_msg("%s", error->message);
        }
        assert_true(external_snapshot_co_insert(s, &error));
        external_snapshot_co_end(s, true);
        if (i % 2 == 0) {
            BlockNode *root = blk_root(blk);
            Chain c = {.nodes = {root->backing->backing, root}};
            stream(&c, 1, i % 4 == 0 ? NO_BASE : 0, (StreamConfig){0});
            job_await_end("j", "COMPLETED ");
            assert_int_equal(root->height, i % 4 == 0 ? 2 : 3);
        }
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        chain_guest_stop(&guests[i]);
    }
    blk_co_free(blk);
    assert_int_equal(shell("qemu-img check -q %s", paths[8]), 0);
    for (unsigned i = 0; i < 9; i++) {
        test_file_free(paths[i]);
    }
}

/* ---- it ends otherwise ---- */

BLOCK_TEST(a_cancelled_stream_leaves_the_chain)
{
    Chain c;
    chain_open(&c, 3);
    for (unsigned force = 0; force < 2; force++) {
        Job *job = stream(&c, 2, NO_BASE, (StreamConfig){.job = {.speed = 1 << 20}});
        assert_int_equal(c.nodes[2]->track.users, 1);
        co_sleep_ns(5000000);
        assert_true(job_cancel(job, force, NULL));
        job_await_end("j", "CANCELLED ");
        chain_assert_unchanged(&c);
    }
    stream(&c, 2, NO_BASE, (StreamConfig){0});
    job_await_end("j", "COMPLETED ");
    chain_close(&c);
}

#define FAULT_FILE "driver=fault,node-name=fault,file.driver=file,file.filename=@"

BLOCK_TEST(a_read_error_fails_the_job_or_stops_it)
{
    for (unsigned stop = 0; stop < 2; stop++) {
        Chain c;
        chain_open_with(&c, 3, FAULT_FILE);
        StreamConfig config = {.job.on_source_error =
                                   stop ? BLOCK_ON_ERROR_STOP : BLOCK_ON_ERROR_REPORT};
        job_set_fault(block_node_find("fault"), (BlockFault){.op = BLOCK_FAULT_READ, .error = EIO});
        Job *job = stream(&c, 2, NO_BASE, config);
        if (stop) {
            job_await("j", JOB_STATUS_PAUSED);
            job_set_fault(block_node_find("fault"), (BlockFault){0});
            assert_true(job_resume(job, NULL));
            job_await_end("j", "read-error-stop COMPLETED ");
            assert_null(c.nodes[2]->backing);
        } else {
            job_await_end("j", "read-error-report COMPLETED (Input/output error) ");
            job_set_fault(block_node_find("fault"), (BlockFault){0});
            chain_assert_unchanged(&c);
        }
        chain_close(&c);
    }
}

static void cancel_at(void *arg, const void *object)
{
    enter_main();
    assert_true(job_cancel(job_find("j"), true, NULL));
}

BLOCK_TEST(a_cancel_between_header_and_graph_undoes_the_header)
{
    Chain c;
    chain_open(&c, 3);
    sched_point_hook("stream.named", cancel_at, NULL);
    stream(&c, 2, NO_BASE, (StreamConfig){0});
    job_await_end("j", "CANCELLED ");
    sched_point_reset();
    chain_assert_unchanged(&c);
    chain_close(&c);
}

/* ---- other users ---- */

static coroutine_fn RUNS_IN_MAIN void stream_fails(const Chain *c, unsigned node, unsigned base,
                                                   const char *says)
{
    GError *error = NULL;
    assert_null(try_stream(c, node, base, (StreamConfig){0}, &error));
    chain_expect(error, says);
}

BLOCK_TEST(conflicts_are_refused_and_name_both_users)
{
    GError *error = NULL;
    Chain c;
    chain_open(&c, 4);
    stream_fails(&c, 2, 3, "'n3' is not in the backing chain of 'n2'");
    stream_fails(&c, 2, 2, "'n2' is not in the backing chain of 'n2'");
    stream(&c, 3, 1, (StreamConfig){.job = {.speed = 1 << 16}});
    StreamConfig second = {.job = {.id = "k"}, .node = c.nodes[2]};
    assert_null(block_stream_co_start(&second, &error));
    chain_expect(g_steal_pointer(&error),
                 "node 'n2' is busy: job 'j' uses it, and job 'k' would too");
    assert_int_equal(block_node_co_resize(c.nodes[3], 1 << 20, &error), -EBUSY);
    chain_expect(g_steal_pointer(&error), "Node 'n3' is busy: job 'j' uses it");
    assert_true(job_cancel(job_find("j"), true, NULL));
    job_await_end("j", "CANCELLED ");
    chain_assert_unchanged(&c);
    chain_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_copied_to_the_active_layer),
        cmocka_unit_test(what_is_above_the_base_is_copied),
        cmocka_unit_test(a_middle_layer_is_the_target_and_read_only_again),
        cmocka_unit_test(two_parts_of_a_chain_are_streamed_at_a_time),
        cmocka_unit_test(an_image_without_a_backing_file_is_complete_at_once),
        cmocka_unit_test(a_chain_is_streamed_under_load),
        cmocka_unit_test(a_cancelled_stream_leaves_the_chain),
        cmocka_unit_test(a_read_error_fails_the_job_or_stops_it),
        cmocka_unit_test(a_cancel_between_header_and_graph_undoes_the_header),
        cmocka_unit_test(conflicts_are_refused_and_name_both_users),
    };
    return job_test_main(tests);
}
