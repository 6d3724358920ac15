/* SPDX-License-Identifier: Apache-2.0 */
/* Items that pass between two loops. Both belong to this thread, which steps them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>
#include "util/loop/batch.h"
#include "util/loop/iothread.h"
#include "util/loop/sched_point.h"

#define ITEMS 8u

typedef struct Item {
    LoopBatchItem item;
    char name;
} Item;

typedef struct Fixture {
    AioContext *from, *to;
    LoopBatch *batch;
    Item items[ITEMS];
    char arrived[64];
    unsigned count;
    bool free_at_last;
} Fixture;

static void arrive(void *opaque, LoopBatchItem *item)
{
    Fixture *f = opaque;
    f->arrived[f->count++] = ((Item *)(void *)item)->name;
    if (f->free_at_last && f->count == ITEMS) {
        g_clear_pointer(&f->batch, g_free);
    }
}

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->from = aio_context_new("from", NULL);
    f->to = aio_context_new("to", NULL);
    f->batch = g_new0(LoopBatch, 1);
    loop_batch_init(f->batch, f->from, f->to, arrive, f);
    for (unsigned i = 0; i < ITEMS; i++) {
        f->items[i].name = (char)('a' + i);
    }
    sched_point_count("loop.batch"); /* from now on */
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    sched_point_reset();
    aio_context_free(f->from);
    aio_context_free(f->to);
    g_free(f->batch);
    g_free(f);
    return 0;
}

static void add(Fixture *f, unsigned from, unsigned count)
{
    for (unsigned i = from; i < from + count; i++) {
        loop_batch_add(f->batch, &f->items[i].item);
    }
}

static void what_is_sent_together_arrives_in_order_with_one_wake_up(void **state)
{
    Fixture *f = *state;
    add(f, 0, 5);
    loop_batch_send(f->batch);
    assert_int_equal(sched_point_count("loop.batch"), 1);
    assert_int_equal(f->count, 0); /* not in the sender */
    aio_context_step(f->to, false);
    assert_string_equal(f->arrived, "abcde");
    assert_false(aio_context_step(f->to, false));
}

static void nothing_to_send_wakes_nobody(void **state)
{
    Fixture *f = *state;
    loop_batch_send(f->batch);
    assert_int_equal(sched_point_count("loop.batch"), 0);
    assert_false(aio_context_step(f->to, false));
}

static void what_was_not_taken_yet_is_joined(void **state)
{
    Fixture *f = *state;
    add(f, 0, 2);
    loop_batch_send(f->batch);
    add(f, 2, 3);
    loop_batch_send(f->batch);
    assert_int_equal(sched_point_count("loop.batch"), 1);
    aio_context_step(f->to, false);
    assert_string_equal(f->arrived, "abcde");
    add(f, 5, 1);
    loop_batch_send(f->batch);
    assert_int_equal(sched_point_count("loop.batch"), 2);
    aio_context_step(f->to, false);
    assert_string_equal(f->arrived, "abcdef");
}

static void what_is_added_in_a_turn_is_sent_together(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 4; i++) {
        add(f, i, 1);
        loop_batch_send_later(f->batch);
    }
    assert_int_equal(sched_point_count("loop.batch"), 0);
    assert_false(aio_context_step(f->to, false));
    aio_context_step(f->from, false);
    assert_int_equal(sched_point_count("loop.batch"), 1);
    aio_context_step(f->to, false);
    assert_string_equal(f->arrived, "abcd");
    assert_false(aio_context_step(f->from, false));
}

/* ASan finds a use of it after that. */
static void the_last_item_may_end_the_batch(void **state)
{
    Fixture *f = *state;
    f->free_at_last = true;
    add(f, 0, 3);
    loop_batch_send(f->batch);
    add(f, 3, ITEMS - 3);
    loop_batch_send(f->batch);
    aio_context_step(f->to, false);
    assert_null(f->batch);
    assert_false(aio_context_step(f->to, false));
    assert_false(aio_context_step(f->from, false));
}

/* ---- two threads ---- */

#define ROUNDS 20000u

typedef struct Race {
    LoopBatch batch;
    LoopBatchItem items[ROUNDS];
    const LoopBatchItem *expected; /* the receiver's */
    _Atomic unsigned arrived, wrong;
} Race;

static void race_arrive(void *opaque, LoopBatchItem *item)
{
    Race *r = opaque;
    r->wrong += item != r->expected;
    r->expected++;
    r->arrived++;
}

static void no_item_is_lost_or_overtaken_between_threads(void **state)
{
    Fixture *f = *state;
    g_autofree Race *r = g_new0(Race, 1);
    IoThread *thread = iothread_new("other", 0, NULL);
    assert_non_null(thread);
    r->expected = r->items;
    loop_batch_init(&r->batch, f->from, iothread_context(thread), race_arrive, r);
    for (unsigned i = 0; i < ROUNDS; i++) {
        loop_batch_add(&r->batch, &r->items[i]);
        if (i % 3 == 0) {
            loop_batch_send(&r->batch);
        }
    }
    loop_batch_send(&r->batch);
    while (r->arrived < ROUNDS) {
        sched_yield();
    }
    iothread_free(thread);
    assert_int_equal(r->wrong, 0);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_sent_together_arrives_in_order_with_one_wake_up),
        TEST(nothing_to_send_wakes_nobody),
        TEST(what_was_not_taken_yet_is_joined),
        TEST(what_is_added_in_a_turn_is_sent_together),
        TEST(the_last_item_may_end_the_batch),
        TEST(no_item_is_lost_or_overtaken_between_threads),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
