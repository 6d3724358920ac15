/* SPDX-License-Identifier: Apache-2.0 */
/* Activity below a backend: drained sections, moves and closing wait for it. */
#include "tests/block/block_test.h"
#include "block/driver/fault.h"

#define CACHED "fault,node-name=x,write-cache=on,fail-op=write,hold=on,errno=0,"
#define CACHED_MEM CACHED "file.driver=mem,file.size=1M"

static uint8_t buf[4096];

static void release_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_release(opaque, UINT32_MAX);
}

static coroutine_fn RUNS_IN_MAIN void release(BlockNode *n)
{
    test_in_home(release_at_home, n);
}

/* A backend whose write has completed while the node below is still active. */
static coroutine_fn RUNS_IN_MAIN BlockBackend *write_late(const char *text)
{
    BlockBackend *blk = test_blk("d", text, true);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 0);
    assert_int_equal(block_node_in_flight(blk_root(blk)), 1);
    assert_int_equal(block_fault_held(blk_root(blk)), 1);
    return blk;
}

/* A wait in its own coroutine. */
typedef struct Waiter {
    BlockBackend *blk;
    BlockNode *node;
    AioContext *home;
    bool through;
    TestEvent done;
} Waiter;

static void drain_run(void *opaque)
{
    Waiter *w = opaque;
    enter_coroutine();
    enter_main();
    co_drained_begin(&w->blk, 1);
    w->through = true;
    for (const BlockNode *n = blk_root(w->blk); n != NULL; n = n->file) {
        assert_int_equal(block_node_in_flight(n), 0);
    }
    co_drained_end(&w->blk, 1);
    test_event_set(&w->done);
}

static coroutine_fn RUNS_IN_MAIN void waits_for_release(CoroutineEntry *fn, Waiter *w,
                                                        BlockNode *held)
{
    co_start(test_main, fn, w);
    co_yield_turn();
    test_settle();
    test_settle();
    assert_false(w->through);
    release(held);
    test_event_wait(&w->done);
    assert_true(w->through);
}

BLOCK_TEST(a_drain_waits_for_operations_that_outlast_their_request)
{
    Waiter w = {.blk = write_late(CACHED_MEM)};
    waits_for_release(drain_run, &w, blk_root(w.blk));
    blk_co_free(w.blk);
}

BLOCK_TEST(a_drain_covers_every_node_of_the_chain)
{
    BlockBackend *blk = test_blk("d",
                                 "raw,file.driver=raw,file.file.driver=fault,"
                                 "file.file.write-cache=on,file.file.fail-op=write,"
                                 "file.file.hold=on,file.file.errno=0,"
                                 "file.file.file.driver=mem,file.file.file.size=1M",
                                 true);
    BlockNode *fault = blk_root(blk)->file->file;
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    test_settle();
    assert_int_equal(block_fault_held(fault), 1);
    Waiter w = {.blk = blk};
    waits_for_release(drain_run, &w, fault);
    blk_co_free(blk);
}

static void free_run(void *opaque)
{
    Waiter *w = opaque;
    enter_coroutine();
    enter_main();
    blk_co_free(w->blk);
    w->through = true;
    test_event_set(&w->done);
}

BLOCK_TEST(a_backend_is_freed_when_its_nodes_are_idle)
{
    Waiter w = {.blk = write_late(CACHED_MEM)};
    BlockNode *n = blk_root(w.blk);
    block_node_ref(n);
    waits_for_release(free_run, &w, n);
    assert_int_equal(n->quiesced, 0);
    assert_int_equal(n->file->quiesced, 0);
    block_co_unref(n);
}

/* ---- operations without a request ---- */

typedef struct Operation {
    BlockNode *node;
    bool begun;
    TestEvent event; /* begun */
    CoToken go_on;
} Operation;

static void operation_run(void *opaque)
{
    Operation *o = opaque;
    struct iovec iov = {buf, sizeof(buf)};
    enter_coroutine();
    enter_iothread(test_home);
    block_node_co_begin(o->node);
    o->begun = true;
    o->go_on = co_arm();
    test_event_set(&o->event);
    co_wait(o->go_on);
    assert_int_equal(block_node_co_preadv(o->node, 0, sizeof(buf), &iov, 1), 0);
    block_node_end(o->node);
}

static void operation_resume(void *opaque)
{
    Operation *o = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    co_wake(o->go_on);
}

BLOCK_TEST(a_drain_waits_for_an_operation_of_the_nodes_own)
{
    Waiter w = {.blk = test_blk("d", "raw,file.driver=mem,file.size=1M", true)};
    Operation o = {.node = blk_root(w.blk)->file};
    co_start(test_home, operation_run, &o);
    test_event_wait(&o.event);
    co_start(test_main, drain_run, &w);
    co_yield_turn();
    test_settle();
    assert_false(w.through);
    test_in_home(operation_resume, &o);
    test_event_wait(&w.done);
    blk_co_free(w.blk);
}

BLOCK_TEST(an_operation_begun_in_a_section_waits_for_its_end)
{
    BlockBackend *blk = test_blk("d", "raw,file.driver=mem,file.size=1M", true);
    Operation o = {.node = blk_root(blk)->file};
    co_drained_begin(&blk, 1);
    co_drained_begin(&blk, 1);
    co_start(test_home, operation_run, &o);
    test_settle();
    co_drained_end(&blk, 1);
    test_settle();
    assert_false(o.begun);
    assert_int_equal(block_node_in_flight(o.node), 0);
    co_drained_end(&blk, 1);
    test_event_wait(&o.event);
    assert_int_equal(block_node_in_flight(o.node), 1);
    test_in_home(operation_resume, &o);
    blk_co_free(blk);
}

BLOCK_TEST(a_drain_waits_for_a_request_sent_directly_to_a_node)
{
    Waiter w = {.blk = test_blk("d", CACHED "file.driver=mem,file.size=1M,file.node-name=m", true)};
    BlockNode *m = blk_root(w.blk)->file;
    Operation o = {.node = m};
    co_start(test_home, operation_run, &o);
    test_event_wait(&o.event);
    test_in_home(operation_resume, &o);
    co_start(test_main, drain_run, &w);
    test_event_wait(&w.done);
    blk_co_free(w.blk);
}

/* ---- closing and moving ---- */

static void close_run(void *opaque)
{
    Waiter *w = opaque;
    enter_coroutine();
    enter_main();
    block_co_unref(w->node);
    w->through = true;
    test_event_set(&w->done);
}

static void move_run(void *opaque)
{
    Waiter *w = opaque;
    enter_coroutine();
    enter_main();
    assert_true(block_co_move(w->node, w->home, NULL));
    w->through = true;
    test_event_set(&w->done);
}

static void write_node_at_home(void *opaque)
{
    struct iovec iov = {buf, sizeof(buf)};
    enter_coroutine();
    enter_iothread(test_home);
    assert_int_equal(block_node_co_pwritev(opaque, 0, sizeof(buf), &iov, 1, 0), 0);
}

BLOCK_TEST(a_node_is_closed_when_it_is_idle)
{
    Waiter w = {.node = test_open_ok(CACHED_MEM)};
    test_in_home(write_node_at_home, w.node);
    test_settle();
    waits_for_release(close_run, &w, w.node);
}

BLOCK_TEST(a_node_moves_when_it_is_idle)
{
    IoThread *other = iothread_new("io1", 0, NULL);
    Waiter w = {.node = test_node_add(CACHED_MEM), .home = iothread_context(other)};
    test_in_home(write_node_at_home, w.node);
    test_settle();
    waits_for_release(move_run, &w, w.node);
    assert_ptr_equal(block_node_home(w.node), w.home);
    assert_ptr_equal(block_node_home(w.node->file), w.home);
    assert_int_equal(w.node->quiesced, 0);
    test_node_del("x");
    iothread_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drain_waits_for_operations_that_outlast_their_request),
        cmocka_unit_test(a_drain_covers_every_node_of_the_chain),
        cmocka_unit_test(a_backend_is_freed_when_its_nodes_are_idle),
        cmocka_unit_test(a_drain_waits_for_an_operation_of_the_nodes_own),
        cmocka_unit_test(an_operation_begun_in_a_section_waits_for_its_end),
        cmocka_unit_test(a_drain_waits_for_a_request_sent_directly_to_a_node),
        cmocka_unit_test(a_node_is_closed_when_it_is_idle),
        cmocka_unit_test(a_node_moves_when_it_is_idle),
    };
    return block_test_main(tests);
}
