/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client without a connection: waiting, giving up, connecting again. */
#include <sys/ioctl.h>
#include "tests/block/nbd/reconnect_rig.h"

/* ---- reconnect-delay ---- */

BLOCK_TEST(without_a_delay_requests_fail_at_once)
{
    FakeNbd f;
    uint8_t buf[512] = {1};
    TestRequest r;
    BlockBackend *blk = start(&f, "");
    f.hold = true;
    request_start(&r, blk, buf);
    TEST_UNTIL(f.total == 1);
    take_down(&f);
    assert_int_equal(test_finish(&r), -EIO);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, 0), -EIO);
    f.hold = false;
    fake_listen(&f);
    unsigned ups = sched_point_count("nbd.up");
    fake_pass_time(1);
    TEST_UNTIL(sched_point_count("nbd.up") == ups + 1);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, 0), 0);
    blk_co_free(blk);
    fake_stop(&f);
}

BLOCK_TEST(within_the_delay_requests_wait_and_are_sent_again)
{
    FakeNbd f;
    uint8_t buf[512] = {1};
    TestRequest in_flight, later;
    BlockBackend *blk = start(&f, "reconnect-delay=1000");
    f.hold = true;
    request_start(&in_flight, blk, buf);
    TEST_UNTIL(f.total == 1);
    unsigned waits = sched_point_count("nbd.wait");
    take_down(&f);
    TEST_UNTIL(sched_point_count("nbd.wait") == waits + 1);
    request_start(&later, blk, buf);
    TEST_UNTIL(sched_point_count("nbd.wait") == waits + 2);
    fake_pass_time(99);
    test_settle();
    assert_false(in_flight.done.happened || later.done.happened);
    f.hold = false;
    fake_listen(&f);
    fake_pass_time(16);
    TEST_UNTIL(in_flight.done.happened && later.done.happened);
    assert_int_equal(test_finish(&in_flight), 0);
    assert_int_equal(test_finish(&later), 0);
    assert_int_equal(f.total, 3);
    blk_co_free(blk);
    fake_stop(&f);
}

BLOCK_TEST(after_the_delay_requests_fail)
{
    FakeNbd f;
    uint8_t buf[512] = {1};
    TestRequest r;
    BlockBackend *blk = start(&f, "reconnect-delay=10");
    f.hold = true;
    request_start(&r, blk, buf);
    TEST_UNTIL(f.total == 1);
    unsigned waits = sched_point_count("nbd.wait");
    take_down(&f);
    TEST_UNTIL(sched_point_count("nbd.wait") == waits + 1);
    fake_pass_time(9);
    test_settle();
    assert_false(r.done.happened);
    fake_pass_time(1);
    assert_int_equal(test_finish(&r), -EIO);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, 0), -EIO);
    /* A new connection ends that. The next outage has a delay of its own. */
    f.hold = false;
    fake_listen(&f);
    unsigned ups = sched_point_count("nbd.up");
    fake_pass_time(16);
    TEST_UNTIL(sched_point_count("nbd.up") == ups + 1);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, 0), 0);
    take_down(&f);
    waits = sched_point_count("nbd.wait");
    request_start(&r, blk, buf);
    TEST_UNTIL(sched_point_count("nbd.wait") == waits + 1);
    fake_pass_time(10);
    assert_int_equal(test_finish(&r), -EIO);
    blk_co_free(blk);
    fake_stop(&f);
}

static coroutine_fn RUNS_IN_MAIN bool die_of_it(FakeConn *c, uint16_t type, uint64_t cookie,
                                                uint64_t offset, uint32_t bytes)
{
    fake_end_conn(c);
    return true;
}

/* Else a server that dies of each request would be asked for ever. */
BLOCK_TEST(connections_that_bring_no_reply_do_not_prolong_the_delay)
{
    FakeNbd f;
    uint8_t buf[512] = {1};
    TestRequest r;
    unsigned attempts = sched_point_count("nbd.attempt"), pauses = sched_point_count("nbd.pause");
    BlockBackend *blk = start(&f, "reconnect-delay=10");
    f.co_lie = die_of_it;
    request_start(&r, blk, buf);
    TEST_UNTIL(sched_point_count("nbd.pause") == pauses + 1);
    for (unsigned second = 0; second < 9; second++) {
        fake_pass_time(1);
        TEST_UNTIL(sched_point_count("nbd.pause") - pauses ==
                   sched_point_count("nbd.attempt") - attempts);
        assert_false(r.done.happened);
    }
    assert_int_equal(f.total, 5); /* at 0 twice, and at 1, 3 and 7 s */
    fake_pass_time(1);
    assert_int_equal(test_finish(&r), -EIO);
    blk_co_free(blk);
    fake_stop(&f);
}

BLOCK_TEST(the_pauses_between_attempts_double)
{
    FakeNbd f;
    BlockBackend *blk = start(&f, "");
    unsigned attempts = sched_point_count("nbd.attempt");
    take_down(&f);
    static const unsigned expected[] = {0, 1, 3, 7, 15, 31, 47, 63};
    unsigned done = 1, now = 0;
    assert_int_equal(sched_point_count("nbd.attempt"), attempts + 1);
    while (done < G_N_ELEMENTS(expected)) {
        unsigned pauses = sched_point_count("nbd.pause");
        now++;
        fake_pass_time(1);
        if (now == expected[done]) {
            done++;
            TEST_UNTIL(sched_point_count("nbd.pause") == pauses + 1);
        }
        assert_int_equal(sched_point_count("nbd.attempt"), attempts + done);
    }
    blk_co_free(blk);
    fake_stop(&f);
}

/* The connector's coroutine still waits for the hand-over when the loss of what it has handed over
 * arrives in main. */
BLOCK_TEST(a_connection_is_lost_before_its_arrival_is_reported)
{
    enum { NEGOTIATION = 18 + 4 };
    FakeNbd f;
    uint8_t buf[512] = {1};
    BlockBackend *blk = start(&f, "reconnect-delay=1000");
    unsigned deliveries = sched_point_count("nbd.deliver"), lost = sched_point_count("nbd.lost");
    int64_t negotiated = f.conns[0]->received;
    assert_true(negotiated > NEGOTIATION);
    f.limit_from = 1;
    f.limit_to = 2;
    f.cut_received = negotiated; /* the second connection ends when it is ready */
    fake_end_conn(f.conns[0]);
    TEST_UNTIL(sched_point_count("nbd.lost") == lost + 1);
    sched_point_hold("nbd.up");
    TEST_UNTIL(sched_point_count("nbd.deliver") == deliveries + 1 && f.limits_met == 1 &&
               f.open == 0);
    sched_point_await("nbd.up"); /* main does not run from here on */
    sched_point_release("nbd.up");
    while (sched_point_count("nbd.lost") < lost + 2) {
        g_usleep(100);
    }
    while (f.accepted < 3) {
        fake_pass_time(1);
    }
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, 0), 0);
    blk_co_free(blk);
    fake_stop(&f);
}

/* ---- commands and replies ---- */

static coroutine_fn RUNS_IN_MAIN bool hold_second(FakeConn *c, uint16_t type, uint64_t cookie,
                                                  uint64_t offset, uint32_t bytes)
{
    while (c->fake->error == 0 && offset == 1024 && !c->ended) {
        co_queue_wait(&c->fake->held, "a test");
    }
    c->fake->error = 0;
    return false;
}

/* A command is sent while an earlier one waits for its reply, also after another one's reply. */
BLOCK_TEST(a_late_reply_holds_no_command_back)
{
    enum { COMMAND = 28 };
    FakeNbd f;
    uint8_t buf[3][512];
    TestRequest r[3];
    BlockBackend *blk = start(&f, "");
    f.co_lie = hold_second;
    for (unsigned i = 0; i < 3; i++) {
        r[i] = (TestRequest){
            .blk = blk, .op = TEST_READ, .offset = 512 * (i + 1), .bytes = 512, .buf = buf[i]};
    }
    test_start(&r[0]);
    test_start(&r[1]);
    assert_int_equal(test_finish(&r[0]), 0);
    test_settle();
    test_start(&r[2]);
    int waiting = 0; /* bytes that the server has not read */
    TEST_UNTIL(f.total == 2 && ioctl(f.conns[0]->fd, FIONREAD, &waiting) == 0 &&
               waiting == COMMAND);
    f.co_lie = NULL;
    f.error = 1; /* for hold_second(), which clears it */
    co_queue_wake_all(&f.held);
    assert_int_equal(test_finish(&r[1]), 0);
    assert_int_equal(test_finish(&r[2]), 0);
    blk_co_free(blk);
    fake_stop(&f);
}

/* ---- another export ---- */

BLOCK_TEST(an_export_that_has_changed_is_refused)
{
    static const struct {
        uint64_t size;
        uint16_t flags;
        uint32_t min_block, max_block;
    } rows[] = {
        {EXPORT - 512, FAKE_ALL, 512, EXPORT},
        {EXPORT, FAKE_ALL & ~FAKE_FLUSH, 512, EXPORT},
        {EXPORT, FAKE_ALL & ~FAKE_FUA, 512, EXPORT},
        {EXPORT, FAKE_ALL & ~FAKE_TRIM, 512, EXPORT},
        {EXPORT, FAKE_ALL & ~FAKE_ZEROES, 512, EXPORT},
        {EXPORT, FAKE_ALL | FAKE_READ_ONLY, 512, EXPORT},
        {EXPORT, FAKE_ALL, 4096, EXPORT},
        {EXPORT, FAKE_ALL, 512, EXPORT / 2},
    };
    FakeNbd f;
    uint8_t buf[512] = {1};
    fake_pass_time(0);
    fake_start(&f, EXPORT, FAKE_ALL);
    f.min_block = f.preferred_block = 512;
    f.max_block = EXPORT;
    BlockBackend *blk = fake_blk(&f, "reconnect-delay=1000");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        TestRequest r;
        assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, buf, 0), 0);
        f.accepted = 0;
        f.size = rows[i].size;
        f.flags = rows[i].flags;
        f.min_block = f.preferred_block = rows[i].min_block;
        f.max_block = rows[i].max_block;
        unsigned pauses = sched_point_count("nbd.pause");
        fake_end_conn(f.conns[i > 0 ? 1 : 0]);
        request_start(&r, blk, buf);
        TEST_UNTIL(sched_point_count("nbd.pause") == pauses + 1);
        assert_int_equal(f.negotiated, 2 + 2 * i);
        assert_false(r.done.happened);
        TEST_UNTIL(f.open == 0);
        f.accepted = 1;
        f.size = EXPORT;
        f.flags = FAKE_ALL;
        f.min_block = f.preferred_block = 512;
        f.max_block = EXPORT;
        fake_pass_time(1);
        assert_int_equal(test_finish(&r), 0);
    }
    blk_co_free(blk);
    fake_stop(&f);
}

/* ---- several connections ---- */

BLOCK_TEST(a_request_of_a_lost_connection_goes_over_another)
{
    FakeNbd f;
    uint8_t buf[2][512] = {{1}, {2}};
    TestRequest r[2];
    unsigned ups = sched_point_count("nbd.up");
    BlockBackend *blk = start(&f, "multi-conn=2");
    TEST_UNTIL(sched_point_count("nbd.up") == ups + 2);
    f.hold = true;
    for (unsigned i = 0; i < 2; i++) {
        request_start(&r[i], blk, buf[i]);
    }
    TEST_UNTIL(f.by_conn[0] == 1 && f.by_conn[1] == 1);
    f.limit_to = UINT_MAX; /* no third connection */
    f.cut_sent = 0;
    unsigned lost = sched_point_count("nbd.lost");
    fake_end_conn(f.conns[0]);
    TEST_UNTIL(sched_point_count("nbd.lost") == lost + 1);
    test_settle();
    fake_release(&f);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(test_finish(&r[i]), 0);
    }
    assert_int_equal(f.by_conn[1], 2);
    blk_co_free(blk);
    fake_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_delay_requests_fail_at_once),
        cmocka_unit_test(within_the_delay_requests_wait_and_are_sent_again),
        cmocka_unit_test(after_the_delay_requests_fail),
        cmocka_unit_test(connections_that_bring_no_reply_do_not_prolong_the_delay),
        cmocka_unit_test(the_pauses_between_attempts_double),
        cmocka_unit_test(a_connection_is_lost_before_its_arrival_is_reported),
        cmocka_unit_test(a_late_reply_holds_no_command_back),
        cmocka_unit_test(an_export_that_has_changed_is_refused),
        cmocka_unit_test(a_request_of_a_lost_connection_goes_over_another),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}
