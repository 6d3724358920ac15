/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client without a connection: closing, drained sections, moving. */
#include <sys/ioctl.h>
#include "tests/block/nbd/reconnect_rig.h"

/* ---- closing ---- */

BLOCK_TEST(a_close_ends_an_attempt_wherever_the_server_hangs)
{
    FakeNbd f;
    fake_pass_time(0);
    fake_start(&f, EXPORT, FAKE_ALL);
    f.hangs = true;
    f.limit_from = 1;
    f.limit_to = UINT_MAX;
    bool ended = false;
    for (f.cut_sent = 0; !ended; f.cut_sent += 3) {
        f.accepted = f.limits_met = f.negotiated = 0;
        BlockBackend *blk = fake_blk(&f, "reconnect-delay=1000");
        fake_end_conn(f.conns[0]);
        TEST_UNTIL(f.limits_met == 1 || f.negotiated == 2);
        ended = f.negotiated == 2;
        blk_co_free(blk);
        if (f.conns[1] != NULL) {
            fake_end_conn(f.conns[1]);
        }
        TEST_UNTIL(f.open == 0);
    }
    assert_true(f.cut_sent > 100);
    fake_stop(&f);
}

BLOCK_TEST(a_close_ends_a_pause)
{
    FakeNbd f;
    BlockBackend *blk = start(&f, "reconnect-delay=1000");
    take_down(&f);
    blk_co_free(blk);
    fake_stop(&f);
}

/* The loss is on its way to main when the node closes. */
BLOCK_TEST(a_close_meets_a_connection_that_has_just_been_lost)
{
    for (unsigned i = 0; i < 50; i++) {
        FakeNbd f;
        unsigned lost = sched_point_count("nbd.lost");
        BlockBackend *blk = start(&f, "multi-conn=4");
        fake_end_conn(f.conns[0]);
        for (unsigned turn = 0; turn < i % 10; turn++) {
            co_yield_turn();
        }
        if (i % 2 == 0) {
            TEST_UNTIL(sched_point_count("nbd.lost") > lost);
        }
        blk_co_free(blk);
        fake_stop(&f);
    }
}

typedef struct Drain {
    BlockBackend *blk;
    bool drained;
} Drain;

static void drain_in_main(void *opaque)
{
    Drain *d = opaque;
    enter_coroutine();
    enter_main();
    co_drained_begin(&d->blk, 1);
    d->drained = true;
    co_drained_end(&d->blk, 1);
}

BLOCK_TEST(a_drain_waits_for_a_reply_or_the_end_of_the_connection)
{
    FakeNbd f;
    uint8_t buf[512] = {1};
    BlockBackend *blk = start(&f, "");
    for (unsigned i = 0; i < 2; i++) {
        TestRequest r;
        Drain d = {.blk = blk};
        unsigned total = f.total;
        f.hold = true;
        request_start(&r, blk, buf);
        TEST_UNTIL(f.total == total + 1);
        co_start(test_main, drain_in_main, &d);
        test_settle();
        test_settle();
        assert_false(d.drained);
        if (i == 0) {
            fake_release(&f);
        } else {
            fake_end_conn(f.conns[0]);
        }
        TEST_UNTIL(d.drained);
        assert_int_equal(test_finish(&r), i == 0 ? 0 : -EIO);
    }
    blk_co_free(blk);
    fake_stop(&f);
}

/* A request that waits for a connection is in flight for reconnect-delay at most. */
BLOCK_TEST(a_drain_ends_with_the_delay)
{
    FakeNbd f;
    uint8_t buf[512] = {1};
    TestRequest r;
    BlockBackend *blk = start(&f, "reconnect-delay=10");
    take_down(&f);
    Drain d = {.blk = blk};
    unsigned waits = sched_point_count("nbd.wait");
    request_start(&r, blk, buf);
    TEST_UNTIL(sched_point_count("nbd.wait") == waits + 1);
    co_start(test_main, drain_in_main, &d);
    fake_pass_time(9);
    test_settle();
    assert_false(d.drained);
    fake_pass_time(1);
    TEST_UNTIL(d.drained);
    assert_int_equal(test_finish(&r), -EIO);
    blk_co_free(blk);
    fake_stop(&f);
}

/* ---- moving ---- */

static IoThread *other;

static coroutine_fn RUNS_IN_MAIN void move(BlockNode *n, AioContext *home)
{
    g_autoptr(GError) error = NULL;
    if (!block_co_move(n, home, &error)) {
        fail_msg("%s", error->message);
    }
}

static void other_read_at_home(void *opaque)
{
    TestRequest *r = opaque;
    enter_coroutine();
    enter_iothread(iothread_context(other));
    struct iovec iov = {r->buf, r->bytes};
    r->ret = block_node_co_preadv(blk_root(r->blk), r->offset, r->bytes, &iov, 1);
}

static coroutine_fn RUNS_IN_MAIN void use_there(FakeNbd *f, BlockNode *n)
{
    g_autoptr(GError) error = NULL;
    uint8_t buf[512];
    BlockBackend *blk = blk_co_new("there", n, false, &error);
    TestRequest r = {.blk = blk, .offset = 512, .bytes = 512, .buf = buf};
    co_call_in(iothread_context(other), other_read_at_home, &r);
    assert_int_equal(r.ret, 0);
    assert_memory_equal(buf, f->data + 512, 512);
    blk_co_free(blk);
}

BLOCK_TEST(a_node_moves_with_its_connections)
{
    FakeNbd f;
    g_autoptr(GError) error = NULL;
    other = iothread_new("io1", 0, &error);
    fake_pass_time(0);
    fake_start(&f, EXPORT, FAKE_ALL | FAKE_MULTI_CONN);
    unsigned ups = sched_point_count("nbd.up");
    g_autofree char *text = fake_options(&f, "node-name=n,reconnect-delay=1000,multi-conn=2");
    BlockNode *n = test_node_add(text);
    TEST_UNTIL(sched_point_count("nbd.up") == ups + 2);
    move(n, iothread_context(other));
    use_there(&f, n);
    assert_int_equal(f.accepted, 2);
    /* The loss is noticed there, and a new connection arrives there. */
    fake_end_conn(f.conns[0]);
    fake_end_conn(f.conns[1]);
    while (sched_point_count("nbd.up") < ups + 4) {
        fake_pass_time(1);
    }
    use_there(&f, n);
    /* Moves meet connections that are lost and made. */
    for (unsigned i = 0; i < 40; i++) {
        unsigned victim = 0;
        while (f.conns[victim] == NULL) {
            victim++;
        }
        fake_end_conn(f.conns[victim]);
        for (unsigned turn = 0; turn < i % 7; turn++) {
            co_yield_turn();
        }
        fake_pass_time(i % 3 * 8);
        move(n, i % 2 == 0 ? test_home : iothread_context(other));
        TEST_UNTIL(f.conns[victim] == NULL);
        while (f.open < 2) {
            fake_pass_time(16);
        }
    }
    move(n, iothread_context(other));
    use_there(&f, n);
    test_node_del("n");
    fake_stop(&f);
    iothread_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_close_ends_an_attempt_wherever_the_server_hangs),
        cmocka_unit_test(a_close_ends_a_pause),
        cmocka_unit_test(a_close_meets_a_connection_that_has_just_been_lost),
        cmocka_unit_test(a_drain_waits_for_a_reply_or_the_end_of_the_connection),
        cmocka_unit_test(a_drain_ends_with_the_delay),
        cmocka_unit_test(a_node_moves_with_its_connections),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
