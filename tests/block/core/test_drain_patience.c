/* SPDX-License-Identifier: Apache-2.0 */
/* Sections and graph changes that are given up when nothing ends, and what sections do not wait for. */
#include "block/core/backend_int.h"
#include "block/graph.h"
#include "block/node.h"
#include "tests/block/job/job_test.h"

#define DISK "fault,node-name=d,file.driver=mem,file.node-name=m,file.size=1M"
#define PATIENCE_NS INT64_C(1000000)

typedef struct Disk {
    BlockNode *node;
    BlockBackend *blk;
    TestRequest write;
    uint8_t data[512];
} Disk;

static coroutine_fn RUNS_IN_MAIN void disk_open(Disk *d)
{
    *d = (Disk){.node = test_node_add(DISK)};
    d->blk = blk_co_new("guest", d->node, true, NULL);
    assert_non_null(d->blk);
}

static coroutine_fn RUNS_IN_MAIN void disk_hang(Disk *d)
{
    job_set_fault(d->node, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true, .count = 1});
    d->write =
        (TestRequest){.blk = d->blk, .op = TEST_WRITE, .bytes = sizeof(d->data), .buf = d->data};
    test_start(&d->write);
    job_await_held(d->node, 1);
}

static coroutine_fn RUNS_IN_MAIN void disk_close(Disk *d)
{
    blk_co_free(d->blk);
    test_settle();
    test_node_del("d");
}

BLOCK_TEST(a_section_is_given_up_when_nothing_ends)
{
    Disk d;
    disk_open(&d);
    assert_true(co_drained_try_begin(&d.blk, 1, PATIENCE_NS));
    co_drained_end(&d.blk, 1);
    disk_hang(&d);
    assert_false(co_drained_try_begin(&d.blk, 1, PATIENCE_NS));
    TestRequest read = {.blk = d.blk, .op = TEST_READ, .bytes = 512, .buf = d.data};
    test_start(&read); /* it waits in the section */
    test_settle();
    assert_int_equal(read.completions, 0);
    co_drained_end(&d.blk, 1);
    assert_int_equal(test_finish(&read), 0);
    job_release(d.node);
    assert_int_equal(test_finish(&d.write), 0);
    assert_true(co_drained_try_begin(&d.blk, 1, PATIENCE_NS));
    co_drained_end(&d.blk, 1);
    disk_close(&d);
}

BLOCK_TEST(a_graph_change_is_given_up_when_nothing_ends)
{
    Disk d;
    g_autoptr(GError) error = NULL;
    disk_open(&d);
    disk_hang(&d);
    assert_null(block_graph_co_try_begin(&d.node, 1, PATIENCE_NS, &error));
    assert_non_null(strstr(error->message, "node 'd': requests that are in flight do not end"));
    assert_int_equal(test_io(d.blk, TEST_READ, 0, 512, d.data, 0), 0);
    job_release(d.node);
    assert_int_equal(test_finish(&d.write), 0);
    BlockGraphChange *c = block_graph_co_try_begin(&d.node, 1, PATIENCE_NS, &error);
    assert_non_null(c);
    block_graph_co_end(c);
    disk_close(&d);
}

/* ---- the end races with the last request ---- */

static void release_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_release(opaque, UINT32_MAX);
}

BLOCK_TEST(a_reply_and_the_end_of_the_patience_may_come_together)
{
    Disk d;
    disk_open(&d);
    for (unsigned i = 0; i < 200; i++) {
        disk_hang(&d);
        co_start(test_home, release_at_home, d.node);
        co_drained_try_begin(&d.blk, 1, (int64_t)i * 1000); /* either way */
        co_drained_end(&d.blk, 1);
        assert_int_equal(test_finish(&d.write), 0);
    }
    disk_close(&d);
}

/* ---- jobs ---- */

static void begin_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_node_begin(opaque);
}

static void end_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_node_end(opaque);
}

BLOCK_TEST(a_section_of_a_backend_waits_for_no_job_below_it)
{
    Disk d;
    disk_open(&d);
    BlockNode *below = block_node_find("m");
    test_in_home(begin_at_home, below);
    assert_false(co_drained_try_begin(&d.blk, 1, PATIENCE_NS)); /* the driver's own */
    co_drained_end(&d.blk, 1);
    BlockEdge *job =
        block_user_co_new(below, "job 'j'", BLOCK_USE_READ | BLOCK_USE_GRAPH, BLOCK_USE_ALL, NULL);
    assert_non_null(job);
    assert_true(co_drained_try_begin(&d.blk, 1, INT64_MAX));
    co_drained_end(&d.blk, 1);
    assert_null(block_graph_co_try_begin(&below, 1, PATIENCE_NS, NULL)); /* it is named */
    test_in_home(end_at_home, below);
    block_user_co_free(job);
    disk_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_section_is_given_up_when_nothing_ends),
        cmocka_unit_test(a_graph_change_is_given_up_when_nothing_ends),
        cmocka_unit_test(a_reply_and_the_end_of_the_patience_may_come_together),
        cmocka_unit_test(a_section_of_a_backend_waits_for_no_job_below_it),
    };
    return job_test_main(tests);
}
