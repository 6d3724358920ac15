/* SPDX-License-Identifier: Apache-2.0 */
/* Graph changes beside requests, drained sections, and other operations. */
#include "block/driver/mem.h"
#include "block/drivers.h"
#include "tests/block/core/graph_test.h"

#define RAW "raw,node-name=r,file.driver=mem,file.node-name=m,file.size=1M"

static uint8_t buf[4096];

/* ---- helpers in the home context ---- */

static void manual_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_mem_set_manual(opaque, true);
}

static void complete_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_mem_set_manual(opaque, false);
    while (block_mem_complete(opaque, 0)) {
    }
}

/* A backend on RAW with a write in flight. */
static coroutine_fn RUNS_IN_MAIN BlockBackend *write_held(TestRequest *r)
{
    BlockBackend *blk = test_blk("d", RAW, true);
    test_in_home(manual_at_home, block_node_find("m"));
    *r = (TestRequest){.blk = blk, .op = TEST_WRITE, .bytes = 4096, .buf = buf};
    test_start(r);
    test_settle();
    return blk;
}

static coroutine_fn RUNS_IN_MAIN void release_write(TestRequest *r)
{
    test_in_home(complete_at_home, block_node_find("m"));
    assert_int_equal(test_finish(r), 0);
}

/* Everything in the home has arrived. */
static coroutine_fn RUNS_IN_MAIN void assert_quiesced(const BlockNode *n, unsigned count)
{
    test_settle();
    assert_int_equal(n->quiesced, count);
}

/* ---- operations in coroutines of their own ---- */

typedef struct Other {
    void (*fn)(struct Other *o);
    BlockBackend *blk;
    BlockNode *node, *filter;
    bool done;
    TestEvent end;
} Other;

static void other_run(void *opaque)
{
    Other *o = opaque;
    enter_coroutine();
    enter_main();
    o->fn(o);
    o->done = true;
    test_event_set(&o->end);
}

static coroutine_fn RUNS_IN_MAIN void other_start(Other *o)
{
    co_start(test_main, other_run, o);
    for (unsigned i = 0; i < 4; i++) {
        co_yield_turn();
        test_settle();
    }
}

static coroutine_fn RUNS_IN_MAIN void do_insert(Other *o)
{
    o->filter = filter_insert("f", o->node);
}

static coroutine_fn RUNS_IN_MAIN void do_drain(Other *o)
{
    co_drained_begin(&o->blk, 1);
    assert_int_equal(blk_in_flight(o->blk), 0);
    co_yield_turn();
    co_drained_end(&o->blk, 1);
}

static coroutine_fn RUNS_IN_MAIN void do_add(Other *o)
{
    o->filter = test_node_add("raw,node-name=above,read-only=on,file=r");
}

static coroutine_fn RUNS_IN_MAIN void do_delete(Other *o)
{
    test_node_del("spare");
}

static coroutine_fn RUNS_IN_MAIN void do_backend(Other *o)
{
    o->blk = blk_co_new("e", o->node, false, NULL);
}

/* ---- requests ---- */

BLOCK_TEST(a_change_waits_for_requests_in_flight)
{
    TestRequest r;
    BlockBackend *blk = write_held(&r);
    Other insert = {.fn = do_insert, .node = block_node_find("m")};
    other_start(&insert);
    assert_false(insert.done);
    assert_null(block_node_find("f"));
    release_write(&r);
    test_event_wait(&insert.end);
    assert_ptr_equal(blk_root(blk)->file, insert.filter);
    assert_int_equal(pass_requests(insert.filter), 0);
    filter_delete(insert.filter);
    blk_co_free(blk);
}

BLOCK_TEST(a_request_that_is_queued_meanwhile_goes_to_the_new_node)
{
    BlockBackend *blk = test_blk("d", RAW, true);
    BlockNode *m = block_node_find("m"), *f = pass_new("f");
    BlockGraphChange *c = change_begin(m, f);
    TestRequest r = {.blk = blk, .op = TEST_WRITE, .bytes = 4096, .buf = buf};
    test_start(&r);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 0);
    assert_true(block_graph_insert_filter(c, f, m, NULL));
    change_end(c);
    assert_int_equal(test_finish(&r), 0);
    assert_int_equal(pass_requests(f), 1);
    filter_delete(f);
    blk_co_free(blk);
}

typedef struct Load {
    BlockBackend *blk;
    _Atomic bool stop;
    unsigned rounds;
    uint64_t offset;
    TestEvent end;
} Load;

static void load_run(void *opaque)
{
    Load *l = opaque;
    uint8_t out[512], in[512];
    struct iovec iov_out = {out, sizeof(out)}, iov_in = {in, sizeof(in)};
    enter_coroutine();
    enter_iothread(test_home);
    while (!atomic_load(&l->stop)) {
        test_fill(out, sizeof(out), ++l->rounds);
        assert_int_equal(blk_co_pwritev(l->blk, l->offset, sizeof(out), &iov_out, 1, 0), 0);
        co_yield_turn();
        assert_int_equal(blk_co_preadv(l->blk, l->offset, sizeof(in), &iov_in, 1, 0), 0);
        assert_memory_equal(out, in, sizeof(in));
    }
    test_event_set(&l->end);
}

/* Filters come and go above the root and above its file, at the same time and one by one. */
BLOCK_TEST(filters_come_and_go_under_load)
{
    BlockBackend *blk = test_blk("d", RAW, true);
    BlockNode *m = block_node_find("m");
    Load load[8];
    unsigned seen = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(load); i++) {
        load[i] = (Load){.blk = blk, .offset = i * 4096};
        co_start(test_home, load_run, &load[i]);
    }
    for (unsigned i = 0; i < 300; i++) {
        BlockNode *f = filter_insert("f", m), *g = filter_insert("g", blk_root(blk));
        assert_ptr_equal(blk_root(blk), g);
        filter_remove(i % 2 == 0 ? f : g);
        co_yield_turn();
        filter_remove(i % 2 == 0 ? g : f);
        seen += pass_requests(f) + pass_requests(g);
        block_co_unref(f);
        block_co_unref(g);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(load); i++) {
        atomic_store(&load[i].stop, true);
        test_event_wait(&load[i].end);
        assert_true(load[i].rounds > 0);
    }
    assert_true(seen > 0);
    assert_quiesced(m, 0);
    assert_int_equal(blk_in_flight(blk), 0);
    assert_int_equal(block_node_in_flight(m), 0);
    blk_co_free(blk);
}

/* ---- sections that others have begun ---- */

typedef struct Operation {
    BlockNode *node;
    bool begun;
} Operation;

static void operation_run(void *opaque)
{
    Operation *o = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_node_co_begin(o->node);
    o->begun = true;
    block_node_end(o->node);
}

/* The outer section covers the filter: it was begun twice before the filter came. */
BLOCK_TEST(a_filter_inserted_in_a_section_belongs_to_it)
{
    BlockBackend *blk = test_blk("d", RAW, true);
    BlockNode *m = block_node_find("m"), *r = blk_root(blk);
    co_drained_begin(&blk, 1);
    co_drained_begin(&blk, 1);
    BlockNode *f = filter_insert("f", m);
    assert_quiesced(f, 2);
    assert_quiesced(m, 2);
    assert_quiesced(r, 2);
    Operation o = {.node = f};
    co_start(test_home, operation_run, &o);
    test_settle();
    assert_false(o.begun);
    co_drained_end(&blk, 1);
    test_settle();
    assert_false(o.begun);
    co_drained_end(&blk, 1);
    test_settle();
    assert_true(o.begun);
    assert_quiesced(f, 0);
    assert_quiesced(m, 0);
    filter_delete(f);
    blk_co_free(blk);
}

BLOCK_TEST(a_node_that_leaves_in_a_section_leaves_the_section)
{
    BlockBackend *blk = test_blk("d", RAW, true);
    BlockNode *f = filter_insert("f", blk_root(blk)), *m = block_node_find("m");
    co_drained_begin(&blk, 1);
    Operation o = {.node = f};
    co_start(test_home, operation_run, &o);
    test_settle();
    assert_false(o.begun);
    filter_remove(f);
    assert_quiesced(f, 0);
    assert_true(o.begun);
    assert_quiesced(m, 1);
    co_drained_end(&blk, 1);
    assert_quiesced(m, 0);
    block_co_unref(f);
    blk_co_free(blk);
}

/* Two backends above one node: each has its own sections, and one of them leaves. */
BLOCK_TEST(a_node_below_two_backends_keeps_the_sections_of_the_one_that_stays)
{
    BlockNode *a = test_node_add("mem,node-name=a,size=1M,read-only=on");
    BlockNode *b = test_node_add("mem,node-name=b,size=1M,read-only=on");
    BlockBackend *d = blk_co_new("d", a, false, NULL), *e = blk_co_new("e", a, false, NULL);
    blk_set_stays(e);
    co_drained_begin(&d, 1);
    co_drained_begin(&e, 1);
    assert_quiesced(a, 2);
    BlockGraphChange *c = change_begin(a, b);
    assert_true(block_graph_replace(c, a, b, NULL));
    change_end(c);
    assert_quiesced(a, 1);
    assert_quiesced(b, 1);
    co_drained_end(&e, 1);
    assert_quiesced(a, 0);
    assert_quiesced(b, 1);
    co_drained_end(&d, 1);
    assert_quiesced(b, 0);
    blk_co_free(d);
    blk_co_free(e);
    test_node_del("a");
    test_node_del("b");
}

BLOCK_TEST(an_aborted_change_leaves_sections_as_they_were)
{
    BlockBackend *blk = test_blk("d", RAW, true);
    BlockNode *m = block_node_find("m"), *f = pass_new("f");
    co_drained_begin(&blk, 1);
    BlockGraphChange *c = change_begin(m, f);
    assert_true(block_graph_insert_filter(c, f, m, NULL));
    block_graph_co_end(c);
    assert_quiesced(f, 0);
    assert_quiesced(m, 1);
    co_drained_end(&blk, 1);
    assert_quiesced(m, 0);
    block_co_unref(f);
    blk_co_free(blk);
}

/* Both wait for the same request; whoever continues first, the sections are right. */
static coroutine_fn RUNS_IN_MAIN void section_and_change_wait(bool section_first)
{
    TestRequest r;
    BlockBackend *blk = write_held(&r);
    Other drain = {.fn = do_drain, .blk = blk};
    Other insert = {.fn = do_insert, .node = block_node_find("m")};
    other_start(section_first ? &drain : &insert);
    other_start(section_first ? &insert : &drain);
    assert_false(drain.done || insert.done);
    release_write(&r);
    test_event_wait(&drain.end);
    test_event_wait(&insert.end);
    assert_quiesced(insert.filter, 0);
    assert_quiesced(block_node_find("m"), 0);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 4096, buf, 0), 0);
    assert_int_equal(pass_requests(insert.filter), 1);
    filter_delete(insert.filter);
    blk_co_free(blk);
}

BLOCK_TEST(a_section_that_waits_when_a_change_begins)
{
    section_and_change_wait(true);
}

BLOCK_TEST(a_section_that_begins_when_a_change_waits)
{
    section_and_change_wait(false);
}

/* The section ends after the commit and before the change's own end. */
BLOCK_TEST(a_section_that_ends_between_commit_and_end)
{
    BlockBackend *blk = test_blk("d", RAW, true);
    BlockNode *m = block_node_find("m"), *f = pass_new("f");
    co_drained_begin(&blk, 1);
    BlockGraphChange *c = change_begin(m, f);
    assert_true(block_graph_insert_filter(c, f, m, NULL));
    assert_true(block_graph_commit(c, NULL));
    co_drained_end(&blk, 1);
    TestRequest r = {.blk = blk, .op = TEST_WRITE, .bytes = 4096, .buf = buf};
    test_start(&r);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 0);
    block_graph_co_end(c);
    assert_int_equal(test_finish(&r), 0);
    assert_int_equal(pass_requests(f), 1);
    assert_quiesced(f, 0);
    filter_delete(f);
    blk_co_free(blk);
}

/* ---- other operations on the nodes ---- */

BLOCK_TEST(new_users_and_deletions_wait_for_the_end)
{
    BlockBackend *blk =
        test_blk("d", "raw,node-name=r,read-only=on,file.driver=mem,file.size=1M", false);
    test_node_add("mem,node-name=spare,size=1M");
    BlockNode *r = blk_root(blk);
    BlockGraphChange *c = change_begin(r, block_node_find("spare"));
    Other add = {.fn = do_add}, del = {.fn = do_delete}, user = {.fn = do_backend, .node = r};
    other_start(&add);
    other_start(&del);
    other_start(&user);
    assert_false(add.done || del.done || user.done);
    block_graph_co_end(c);
    test_event_wait(&add.end);
    test_event_wait(&del.end);
    test_event_wait(&user.end);
    assert_null(block_node_find("spare"));
    assert_non_null(user.blk);
    blk_co_free(user.blk);
    test_node_del("above");
    blk_co_free(blk);
}

/* ---- nodes that are being opened or closed ---- */

typedef struct Slow {
    CoToken token;
    bool waits;
} Slow;

static Slow slow;

static coroutine_fn RUNS_IN_MAIN bool slow_co_open(BlockNode *n, GError **error)
{
    pass_child_changed(n);
    slow = (Slow){.token = co_arm(), .waits = true};
    co_wait(slow.token);
    slow.waits = false;
    return true;
}

static coroutine_fn RUNS_IN_MAIN void slow_co_close(BlockNode *n)
{
    slow = (Slow){.token = co_arm(), .waits = true};
    co_wait(slow.token);
    slow.waits = false;
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

static coroutine_fn RUNS_IN_MAIN void do_open_slow(Other *o)
{
    o->node = test_open_ok("slow,node-name=s,file=a");
}

static coroutine_fn RUNS_IN_MAIN void do_close_slow(Other *o)
{
    block_co_unref(o->node);
}

BLOCK_TEST(a_change_is_refused_beside_an_opening_and_waits_for_a_closing)
{
    g_autoptr(GError) error = NULL;
    BlockNode *a = test_node_add("mem,node-name=a,size=1M");
    Other open = {.fn = do_open_slow}, insert = {.fn = do_insert, .node = a};
    other_start(&open);
    assert_true(slow.waits);
    assert_null(block_graph_co_begin(&a, 1, &error));
    assert_non_null(strstr(error->message, "node 's' is being opened"));
    assert_null(a->changing);
    co_wake(slow.token);
    test_event_wait(&open.end);
    Other close = {.fn = do_close_slow, .node = open.node};
    other_start(&close);
    assert_true(slow.waits);
    other_start(&insert);
    assert_false(insert.done);
    co_wake(slow.token);
    test_event_wait(&close.end);
    test_event_wait(&insert.end);
    filter_delete(insert.filter);
    test_node_del("a");
}

static int change_setup(void **state)
{
    static const BlockDriver *drivers[32];
    unsigned count = 0;
    while (block_drivers[count] != NULL) {
        drivers[count] = block_drivers[count];
        count++;
    }
    drivers[count] = &slow_driver;
    block_setup(drivers);
    return block_test_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_waits_for_requests_in_flight),
        cmocka_unit_test(a_request_that_is_queued_meanwhile_goes_to_the_new_node),
        cmocka_unit_test(filters_come_and_go_under_load),
        cmocka_unit_test(a_filter_inserted_in_a_section_belongs_to_it),
        cmocka_unit_test(a_node_that_leaves_in_a_section_leaves_the_section),
        cmocka_unit_test(a_node_below_two_backends_keeps_the_sections_of_the_one_that_stays),
        cmocka_unit_test(an_aborted_change_leaves_sections_as_they_were),
        cmocka_unit_test(a_section_that_waits_when_a_change_begins),
        cmocka_unit_test(a_section_that_begins_when_a_change_waits),
        cmocka_unit_test(a_section_that_ends_between_commit_and_end),
        cmocka_unit_test(new_users_and_deletions_wait_for_the_end),
        cmocka_unit_test(a_change_is_refused_beside_an_opening_and_waits_for_a_closing),
    };
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    return cmocka_run_group_tests(tests, change_setup, block_test_teardown);
}
