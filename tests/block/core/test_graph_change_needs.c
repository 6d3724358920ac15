/* SPDX-License-Identifier: Apache-2.0 */
/* Graph changes beside nodes that are being opened or closed, and whose storage can hang; what a device sees. */
#include "block/drivers.h"
#include "tests/block/core/graph_test.h"

/* ---- a node whose opening and closing take long ---- */

static CoToken slow_token;
static bool slow_waits;

static coroutine_fn RUNS_IN_MAIN void slow_co_wait(void)
{
    slow_token = co_arm();
    slow_waits = true;
    co_wait(slow_token);
    slow_waits = false;
}

static coroutine_fn RUNS_IN_MAIN bool slow_co_open(BlockNode *n, GError **error)
{
    slow_co_wait();
    pass_child_changed(n);
    return true;
}

static coroutine_fn RUNS_IN_MAIN void slow_co_close(BlockNode *n)
{
    slow_co_wait();
}

static const BlockDriver slow_driver = {
    .name = "slow",
    .state_size = sizeof(PassState),
    .has_file = true,
    .co_open = slow_co_open,
    .co_close = slow_co_close,
    .child_changed = pass_child_changed,
    .co_preadv = pass_co_preadv,
    .co_pwritev = pass_co_pwritev,
};

typedef struct SlowNode {
    BlockNode *node; /* NULL: it is opened */
    TestEvent end;
} SlowNode;

static void slow_run(void *opaque)
{
    SlowNode *s = opaque;
    enter_main();
    enter_coroutine();
    if (s->node == NULL) {
        s->node = test_open_ok("slow,node-name=s,file=a,read-only=on");
    } else {
        block_co_unref(s->node);
    }
    test_event_set(&s->end);
}

static coroutine_fn RUNS_IN_MAIN void slow_start(SlowNode *s)
{
    s->end = (TestEvent){0};
    co_start(test_main, slow_run, s);
    while (!slow_waits) {
        co_yield_turn();
    }
}

static coroutine_fn RUNS_IN_MAIN void slow_finish(SlowNode *s)
{
    co_wake(slow_token);
    test_event_wait(&s->end);
}

/* ---- tests ---- */

static coroutine_fn RUNS_IN_MAIN void change_nothing(BlockNode *n)
{
    GError *error = NULL;
    BlockGraphChange *c = block_graph_co_begin(&n, 1, &error);
    if (c == NULL) {
        fail_msg("%s", error->message);
    }
    block_graph_co_end(c);
}

BLOCK_TEST(a_change_does_not_wait_for_a_node_that_it_does_not_need)
{
    SlowNode s = {0};
    test_node_add("mem,node-name=a,size=1M,read-only=on");
    BlockNode *r = test_node_add("raw,node-name=r,file=a,read-only=on");
    slow_start(&s);
    change_nothing(r);
    assert_true(slow_waits);
    slow_finish(&s);
    change_nothing(r);
    slow_start(&s);
    change_nothing(r);
    assert_true(slow_waits);
    slow_finish(&s);
    test_node_del("r");
    test_node_del("a");
}

BLOCK_TEST(a_change_waits_for_the_close_of_a_node_that_it_needs_not_for_ever)
{
    SlowNode s = {0};
    g_autoptr(GError) error = NULL;
    BlockNode *a = test_node_add("mem,node-name=a,size=1M,read-only=on");
    slow_start(&s);
    slow_finish(&s);
    slow_start(&s);
    assert_null(block_graph_co_begin(&a, 1, &error));
    assert_non_null(strstr(error->message, "a node that uses 'a' is being closed"));
    assert_null(a->changing);
    slow_finish(&s);
    change_nothing(a);
    test_node_del("a");
}

static int needs_setup(void **state)
{
    static const BlockDriver *drivers[32];
    unsigned count = 0;
    for (; block_drivers[count] != NULL; count++) {
        drivers[count] = block_drivers[count];
    }
    drivers[count] = &slow_driver;
    block_setup(drivers);
    return block_test_setup(state);
}

/* A device reads the size at any time, also between a step and the commit, when the filter has none yet. */
BLOCK_TEST(the_size_of_a_disk_stays_while_a_filter_is_inserted)
{
    BlockBackend *blk = test_blk("d", "raw,file.driver=mem,file.size=1M", true);
    BlockNode *root = blk_root(blk), *f = pass_new("f");
    uint64_t size = blk_size(blk);
    BlockGraphChange *c = change_begin(root, f);
    assert_true(block_graph_insert_filter(c, f, root, NULL));
    assert_ptr_equal(blk_root(blk), f);
    assert_int_equal(block_node_size(f), 0);
    assert_int_equal(blk_size(blk), size);
    change_end(c);
    assert_int_equal(blk_size(blk), size);
    filter_delete(f);
    blk_co_free(blk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_size_of_a_disk_stays_while_a_filter_is_inserted),
        cmocka_unit_test(a_change_does_not_wait_for_a_node_that_it_does_not_need),
        cmocka_unit_test(a_change_waits_for_the_close_of_a_node_that_it_needs_not_for_ever),
    };
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    return cmocka_run_group_tests(tests, needs_setup, block_test_teardown);
}
