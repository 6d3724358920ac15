/* SPDX-License-Identifier: Apache-2.0 */
/* Drained sections: requests in flight, queued requests, and waits. */
#include <unistd.h>
#include "tests/block/block_test.h"
#include "block/driver/mem.h"

#define MEM "mem,size=1M,manual=on"

static uint8_t buf[65536];

/* ---- helpers in the home context ---- */

typedef struct Complete {
    BlockNode *node;
    int ret;
    bool had_one;
} Complete;

static void complete_at_home(void *opaque)
{
    Complete *c = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    c->had_one = block_mem_complete(c->node, c->ret);
}

static coroutine_fn RUNS_IN_MAIN bool complete_one(BlockBackend *blk, int ret)
{
    Complete c = {.node = blk_root(blk), .ret = ret};
    test_in_home(complete_at_home, &c);
    return c.had_one;
}

/* A drain in its own coroutine. */
typedef struct Drain {
    BlockBackend *blks[4];
    unsigned count;
    bool end_at_once;
    bool begun;
    TestEvent done;
} Drain;

static void drain_run(void *opaque)
{
    Drain *d = opaque;
    enter_coroutine();
    enter_main();
    co_drained_begin(d->blks, d->count);
    d->begun = true;
    for (unsigned i = 0; i < d->count; i++) {
        assert_int_equal(blk_in_flight(d->blks[i]), 0);
    }
    co_drained_end(d->blks, d->count);
    test_event_set(&d->done);
}

/* Returns when the drain is in effect in the home context. */
static coroutine_fn RUNS_IN_MAIN void drain_start(Drain *d)
{
    co_start(test_main, drain_run, d);
    co_yield_turn(); /* main runs it, up to its wait */
    test_settle();
}

BLOCK_TEST(drain_of_an_idle_backend_returns)
{
    BlockBackend *blk = test_blk("d", MEM, true);
    co_drained_begin(&blk, 1);
    co_drained_end(&blk, 1);
    blk_co_free(blk);
}

BLOCK_TEST(drain_waits_for_requests_in_flight)
{
    BlockBackend *blk = test_blk("d", MEM, true);
    TestRequest r = {.blk = blk, .op = TEST_WRITE, .bytes = 4096, .buf = buf};
    test_start(&r);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 1);
    Drain d = {.blks = {blk}, .count = 1};
    drain_start(&d);
    assert_false(d.begun);
    assert_true(complete_one(blk, 0));
    test_event_wait(&d.done);
    assert_true(d.begun);
    assert_int_equal(test_finish(&r), 0);
    blk_co_free(blk);
}

BLOCK_TEST(request_in_a_drained_section_queues_and_is_not_in_flight)
{
    BlockBackend *blk = test_blk("d", MEM, true);
    co_drained_begin(&blk, 1);
    TestRequest r = {.blk = blk, .op = TEST_WRITE, .bytes = 4096, .buf = buf};
    test_start(&r);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 0);
    assert_int_equal(block_mem_waiting(blk_root(blk)), 0);
    co_drained_end(&blk, 1);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 1);
    assert_true(complete_one(blk, 0));
    assert_int_equal(test_finish(&r), 0);
    blk_co_free(blk);
}

/* The end of one section and the begin of the next arrive in one turn, before the resumed request
 * has run: it was counted before its wake. */
BLOCK_TEST(drain_right_after_a_drain_waits_for_the_resumed_request)
{
    BlockBackend *blk = test_blk("d", MEM, true);
    co_drained_begin(&blk, 1);
    TestRequest r = {.blk = blk, .op = TEST_WRITE, .bytes = 4096, .buf = buf};
    test_start(&r);
    test_settle();
    Drain d = {.blks = {blk}, .count = 1};
    co_drained_end(&blk, 1);
    drain_start(&d);
    assert_false(d.begun);
    assert_int_equal(blk_in_flight(blk), 1);
    assert_true(complete_one(blk, -EIO));
    test_event_wait(&d.done);
    assert_int_equal(test_finish(&r), -EIO);
    blk_co_free(blk);
}

BLOCK_TEST(sections_nest_and_the_last_end_resumes)
{
    BlockBackend *blk = test_blk("d", MEM, true);
    co_drained_begin(&blk, 1);
    co_drained_begin(&blk, 1);
    TestRequest r = {.blk = blk, .op = TEST_FLUSH};
    test_start(&r);
    co_drained_end(&blk, 1);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 0);
    co_drained_end(&blk, 1);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 1);
    assert_true(complete_one(blk, 0));
    assert_int_equal(test_finish(&r), 0);
    blk_co_free(blk);
}

BLOCK_TEST(queued_requests_resume_in_order)
{
    BlockBackend *blk = test_blk("d", MEM, true);
    uint8_t data[8][512];
    TestRequest r[8];
    co_drained_begin(&blk, 1);
    for (unsigned i = 0; i < 8; i++) {
        memset(data[i], (int)i + 1, 512);
        r[i] = (TestRequest){.blk = blk, .op = TEST_WRITE, .bytes = 512, .buf = data[i]};
        test_start(&r[i]);
    }
    co_drained_end(&blk, 1);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(complete_one(blk, 0));
        assert_int_equal(test_finish(&r[i]), 0);
    }
    blk_co_free(blk);
}

BLOCK_TEST(drain_of_many_backends_waits_for_each)
{
    BlockBackend *a = test_blk("a", MEM, true);
    BlockBackend *b = test_blk("b", MEM, true);
    BlockBackend *idle = test_blk("c", MEM, true);
    TestRequest ra = {.blk = a, .op = TEST_READ, .bytes = 512, .buf = buf};
    TestRequest rb = {.blk = b, .op = TEST_READ, .bytes = 512, .buf = buf + 512};
    test_start(&ra);
    test_start(&rb);
    test_settle();
    Drain d = {.blks = {a, b, idle}, .count = 3};
    drain_start(&d);
    assert_true(complete_one(b, 0));
    test_settle();
    co_yield_turn();
    assert_false(d.begun);
    assert_true(complete_one(a, 0));
    test_event_wait(&d.done);
    assert_int_equal(test_finish(&ra) | test_finish(&rb), 0);
    blk_co_free(a);
    blk_co_free(b);
    blk_co_free(idle);
}

/* ---- macro operations ---- */

typedef struct Macro {
    BlockBackend *blk;
    unsigned parts;
    unsigned done;
    TestEvent end;
} Macro;

static void macro_run(void *opaque)
{
    Macro *m = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    BlkMacro macro;
    blk_co_macro_begin(m->blk, &macro);
    for (unsigned i = 0; i < m->parts; i++) {
        assert_int_equal(blk_co_flush(m->blk), 0);
        m->done++;
    }
    blk_macro_end(m->blk, &macro);
    test_event_set(&m->end);
}

BLOCK_TEST(macro_operation_counts_once_and_its_parts_pass_a_drain)
{
    BlockBackend *blk = test_blk("d", MEM, true);
    Macro m = {.blk = blk, .parts = 3};
    co_start(test_home, macro_run, &m);
    test_settle();
    Drain d = {.blks = {blk}, .count = 1};
    drain_start(&d);
    TestRequest other = {.blk = blk, .op = TEST_FLUSH};
    test_start(&other);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(d.begun);
        assert_true(complete_one(blk, 0));
        test_settle();
        co_yield_turn();
    }
    test_event_wait(&m.end);
    test_event_wait(&d.done);
    assert_int_equal(m.done, 3);
    test_settle();
    assert_true(complete_one(blk, 0)); /* the other one was queued and resumes now */
    assert_int_equal(test_finish(&other), 0);
    blk_co_free(blk);
}

BLOCK_TEST(macro_operation_begun_in_a_section_queues)
{
    BlockBackend *blk = test_blk("d", MEM, true);
    Macro m = {.blk = blk, .parts = 1};
    co_drained_begin(&blk, 1);
    co_start(test_home, macro_run, &m);
    test_settle();
    assert_int_equal(blk_in_flight(blk), 0);
    co_drained_end(&blk, 1);
    test_settle();
    assert_true(complete_one(blk, 0));
    test_event_wait(&m.end);
    blk_co_free(blk);
}

/* ---- what the device sees ---- */

typedef struct Device {
    BlockBackend *blk;
    unsigned quiesced, resumed;
    bool completed; /* set by the code after the request, in its coroutine */
} Device;

static void device_quiesce(void *opaque)
{
    Device *d = opaque;
    enter_iothread(test_home);
    d->quiesced++;
}

static void device_resume(void *opaque)
{
    Device *d = opaque;
    enter_iothread(test_home);
    d->resumed++;
}

static void device_request(void *opaque)
{
    Device *d = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    assert_int_equal(blk_co_flush(d->blk), 0);
    d->completed = true;
}

BLOCK_TEST(device_is_notified_once_per_outermost_section)
{
    Device dev = {.blk = test_blk("d", MEM, true)};
    BlkNotify notify = {.quiesce = device_quiesce, .resume = device_resume, .opaque = &dev};
    blk_set_notify(dev.blk, &notify);
    co_drained_begin(&dev.blk, 1);
    co_drained_begin(&dev.blk, 1);
    assert_int_equal(dev.quiesced, 1);
    co_drained_end(&dev.blk, 1);
    test_settle();
    assert_int_equal(dev.resumed, 0);
    co_drained_end(&dev.blk, 1);
    test_settle();
    assert_int_equal(dev.resumed, 1);
    co_drained_begin(&dev.blk, 1);
    assert_int_equal(dev.quiesced, 2);
    blk_set_notify(dev.blk, NULL);
    co_drained_end(&dev.blk, 1);
    blk_co_free(dev.blk);
}

BLOCK_TEST(drain_returns_after_the_completion_ran)
{
    Device dev = {.blk = test_blk("d", MEM, true)};
    for (unsigned i = 0; i < 100; i++) {
        dev.completed = false;
        co_start(test_home, device_request, &dev);
        test_settle();
        Complete c = {.node = blk_root(dev.blk)};
        co_start(test_home, complete_at_home, &c);
        co_drained_begin(&dev.blk, 1);
        assert_true(dev.completed);
        co_drained_end(&dev.blk, 1);
    }
    blk_co_free(dev.blk);
}

/* ---- many at once, against a null driver that answers by itself ---- */

typedef struct Load {
    BlockBackend *blk;
    unsigned left;
    TestEvent end;
} Load;

static void load_run(void *opaque)
{
    Load *l = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    for (; l->left > 0; l->left--) {
        assert_int_equal(blk_co_flush(l->blk), 0);
    }
    test_event_set(&l->end);
}

BLOCK_TEST(drains_under_load_lose_no_request)
{
    BlockBackend *blk = test_blk("d", "null-aio,size=1M", true);
    Load loads[16] = {{0}};
    for (unsigned i = 0; i < 16; i++) {
        loads[i] = (Load){.blk = blk, .left = 500};
        co_start(test_home, load_run, &loads[i]);
    }
    for (unsigned i = 0; i < 300; i++) {
        co_drained_begin(&blk, 1);
        assert_int_equal(blk_in_flight(blk), 0);
        co_drained_end(&blk, 1);
    }
    for (unsigned i = 0; i < 16; i++) {
        test_event_wait(&loads[i].end);
        assert_int_equal(loads[i].left, 0);
    }
    assert_int_equal(blk_in_flight(blk), 0);
    blk_co_free(blk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drain_of_an_idle_backend_returns),
        cmocka_unit_test(drain_waits_for_requests_in_flight),
        cmocka_unit_test(request_in_a_drained_section_queues_and_is_not_in_flight),
        cmocka_unit_test(drain_right_after_a_drain_waits_for_the_resumed_request),
        cmocka_unit_test(sections_nest_and_the_last_end_resumes),
        cmocka_unit_test(queued_requests_resume_in_order),
        cmocka_unit_test(drain_of_many_backends_waits_for_each),
        cmocka_unit_test(macro_operation_counts_once_and_its_parts_pass_a_drain),
        cmocka_unit_test(macro_operation_begun_in_a_section_queues),
        cmocka_unit_test(device_is_notified_once_per_outermost_section),
        cmocka_unit_test(drain_returns_after_the_completion_ran),
        cmocka_unit_test(drains_under_load_lose_no_request),
    };
    return block_test_main(tests);
}
