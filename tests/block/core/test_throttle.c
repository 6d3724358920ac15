/* SPDX-License-Identifier: Apache-2.0 */
/* Throttle groups: rates, turns, drained sections, stops, changes of limits and of members. */
#include "tests/block/core/throttle_test.h"

/* ---- rates and turns ---- */

BLOCK_TEST(the_rate_is_kept_for_ten_seconds)
{
    static const TestOp ops[] = {TEST_READ, TEST_WRITE, TEST_ZERO};
    for (unsigned i = 0; i < G_N_ELEMENTS(ops); i++) {
        ThrottleGroup *g = group_new("g", 100);
        BlockBackend *blk = disk_in("d", NULL_DISK, test_home, g);
        User users[16];
        users_start(users, 16, (User){.blk = blk, .op = ops[i], .count = 100});
        pass_in_steps(10 * SECOND, 5 * MS);
        assert_in_range(users_done(users, 16), 980, 1020);
        assert_int_equal(blk_in_flight(blk), 0);
        disk_free(blk, users, 16);
        throttle_group_unref(g);
    }
}

BLOCK_TEST(flush_and_discard_do_not_wait)
{
    ThrottleGroup *g = group_new("g", 1);
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, g);
    User users[2];
    users_start(&users[0], 1, (User){.blk = blk, .op = TEST_FLUSH, .count = 50});
    users_start(&users[1], 1, (User){.blk = blk, .op = TEST_DISCARD, .count = 50});
    users_finish(users, 2);
    disk_free(blk, users, 0);
    throttle_group_unref(g);
}

BLOCK_TEST(members_in_two_iothreads_take_turns)
{
    ThrottleGroup *g = group_new("g", 100);
    BlockBackend *a = disk_in("a", NULL_DISK, test_home, g);
    BlockBackend *b = disk_in("b", NULL_DISK, other_home, g);
    User of_a[32], of_b[2]; /* the deeper queue gets no more */
    users_start(of_a, 32, (User){.blk = a, .op = TEST_WRITE, .count = 1000});
    users_start(of_b, 2, (User){.blk = b, .op = TEST_WRITE, .count = 1000});
    unsigned a0 = users_done(of_a, 32), b0 = users_done(of_b, 2);
    pass_in_steps(10 * SECOND, 5 * MS);
    unsigned from_a = users_done(of_a, 32) - a0, from_b = users_done(of_b, 2) - b0;
    assert_in_range(from_a + from_b, 990, 1020);
    assert_in_range(from_a, from_b - 2, from_b + 2);
    disk_free(a, of_a, 32);
    disk_free(b, of_b, 2);
    throttle_group_unref(g);
}

/* Both directions share a limit, and neither starves. */
BLOCK_TEST(reads_and_writes_take_turns)
{
    ThrottleGroup *g = group_new("g", 100);
    BlockBackend *a = disk_in("a", NULL_DISK, test_home, g);
    BlockBackend *b = disk_in("b", NULL_DISK, other_home, g);
    User reads[20], writes[1];
    users_start(reads, 20, (User){.blk = a, .op = TEST_READ, .count = 1000});
    users_start(writes, 1, (User){.blk = b, .op = TEST_WRITE, .count = 1000});
    unsigned r0 = users_done(reads, 20), w0 = users_done(writes, 1);
    pass_in_steps(5 * SECOND, 5 * MS);
    unsigned r = users_done(reads, 20) - r0, w = users_done(writes, 1) - w0;
    assert_in_range(r + w, 490, 510);
    assert_in_range(r, w - 3, w + 3);
    disk_free(a, reads, 20);
    disk_free(b, writes, 1);
    throttle_group_unref(g);
}

/* The loop that has the timer is the one whose request is next; the other home is idle meanwhile. */
BLOCK_TEST(a_member_that_waits_alone_is_woken_in_its_home)
{
    ThrottleGroup *g = group_new("g", 10);
    BlockBackend *a = disk_in("a", NULL_DISK, test_home, g);
    BlockBackend *b = disk_in("b", NULL_DISK, other_home, g);
    User of_a[1], of_b[1];
    users_start(of_a, 1, (User){.blk = a, .op = TEST_WRITE, .count = 5});
    users_start(of_b, 1, (User){.blk = b, .op = TEST_WRITE, .count = 5});
    pass_in_steps(SECOND, 10 * MS);
    users_finish(of_a, 1);
    users_finish(of_b, 1);
    disk_free(a, NULL, 0);
    disk_free(b, NULL, 0);
    throttle_group_unref(g);
}

/* ---- drained sections ---- */

BLOCK_TEST(requests_that_wait_are_not_in_flight_and_do_not_start_in_a_drained_section)
{
    ThrottleGroup *g = group_new("g", 10);
    BlockBackend *a = disk_in("a", NULL_DISK, test_home, g);
    BlockBackend *b = disk_in("b", NULL_DISK, other_home, g);
    User of_a[100], of_b[1];
    users_start(of_a, 100, (User){.blk = a, .op = TEST_WRITE, .count = 1});
    users_start(of_b, 1, (User){.blk = b, .op = TEST_WRITE, .count = 100});
    assert_int_equal(blk_in_flight(a), 0);
    unsigned before = users_done(of_a, 100), b_before = users_done(of_b, 1);
    co_drained_begin(&a, 1); /* returns, whatever the rate is */
    pass_in_steps(SECOND, 10 * MS);
    assert_int_equal(users_done(of_a, 100), before);
    /* the other member has the whole rate meanwhile */
    assert_in_range(users_done(of_b, 1) - b_before, 9, 11);
    co_drained_end(&a, 1);
    pass(0);
    assert_int_equal(users_done(of_a, 100), before); /* none has started and queued */
    pass_in_steps(SECOND, 10 * MS);
    assert_in_range(users_done(of_a, 100) - before, 4,
                    6); /* no burst for the time of the section */
    disk_free(b, of_b, 1);
    disk_free(a, of_a, 100);
    throttle_group_unref(g);
}

BLOCK_TEST(requests_that_are_released_in_a_drained_section_wait_for_its_end)
{
    ThrottleGroup *g = group_new("g", 1);
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, g);
    User users[10];
    users_start(users, 10, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    unsigned before = users_done(users, 10);
    co_drained_begin(&blk, 1);
    blk_co_set_throttle_group(blk, NULL);
    pass(SECOND);
    assert_int_equal(users_done(users, 10), before);
    assert_int_equal(blk_in_flight(blk), 0);
    co_drained_end(&blk, 1);
    users_finish(users, 10);
    blk_co_free(blk);
    throttle_group_unref(g);
}

BLOCK_TEST(a_group_joined_in_a_drained_section_starts_nothing_before_its_end)
{
    ThrottleGroup *g = group_new("g", 10);
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, NULL);
    co_drained_begin(&blk, 1);
    blk_co_set_throttle_group(blk, g);
    User users[10];
    users_start(users, 10, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    pass_in_steps(SECOND, 10 * MS);
    assert_int_equal(users_done(users, 10), 0);
    co_drained_end(&blk, 1);
    pass(0);
    assert_in_range(users_done(users, 10), 0, 2); /* none has started and queued */
    pass_in_steps(2 * SECOND, 10 * MS);
    users_finish(users, 10);
    disk_free(blk, NULL, 0);
    throttle_group_unref(g);
}

/* ---- stop and reset ---- */

BLOCK_TEST(a_stop_returns_thousands_of_requests_unstarted)
{
    enum { COUNT = 2000 };
    ThrottleGroup *g = group_new("g", 1);
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, g);
    g_autofree User *users = g_new0(User, COUNT);
    users_start(users, COUNT, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    unsigned started = users_done(users, COUNT);
    hurry(blk, true);
    users_finish(users, COUNT);
    assert_int_equal(users_done(users, COUNT), started);
    assert_int_equal(users_returned(users, COUNT), COUNT - started);
    /* later ones do not wait either, until the stop is over */
    User later[3];
    users_start(later, 3, (User){.blk = blk, .op = TEST_READ, .count = 1});
    users_finish(later, 3);
    assert_int_equal(users_returned(later, 3), 3);
    hurry(blk, false);
    pass(10 * SECOND);
    users_start(later, 1, (User){.blk = blk, .op = TEST_READ, .count = 1});
    users_finish(later, 1);
    assert_int_equal(later[0].done, 1);
    disk_free(blk, NULL, 0);
    throttle_group_unref(g);
}

BLOCK_TEST(a_stop_in_a_drained_section_returns_the_requests_that_wait_for_its_end)
{
    ThrottleGroup *g = group_new("g", 1000);
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, g);
    co_drained_begin(&blk, 1);
    User throttled[5], queued[1];
    users_start(throttled, 5, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    users_start(queued, 1, (User){.blk = blk, .op = TEST_FLUSH, .count = 1});
    hurry(blk, true);
    users_finish(throttled, 5);
    users_finish(queued, 1);
    assert_int_equal(users_returned(throttled, 5), 5);
    assert_int_equal(users_returned(queued, 1), 1);
    hurry(blk, false);
    co_drained_end(&blk, 1);
    disk_free(blk, NULL, 0);
    throttle_group_unref(g);
}

/* ---- changes ---- */

BLOCK_TEST(new_limits_apply_to_requests_that_wait)
{
    ThrottleGroup *g = group_new("g", 1);
    BlockBackend *blk = disk_in("d", NULL_DISK, other_home, g); /* another thread has the timer */
    User users[50];
    users_start(users, 50, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    assert_in_range(users_done(users, 50), 1, 2);
    RateLimits fast = iops_limits(10);
    throttle_group_set_limits(g, &fast);
    pass(0);
    unsigned before = users_done(users, 50);
    pass_in_steps(SECOND, 10 * MS);
    assert_in_range(users_done(users, 50) - before, 9, 10);
    RateLimits none;
    rate_limits_init(&none);
    throttle_group_set_limits(g, &none);
    users_finish(users, 50);
    disk_free(blk, NULL, 0);
    throttle_group_unref(g);
}

BLOCK_TEST(slower_limits_apply_to_requests_that_wait)
{
    ThrottleGroup *g = group_new("g", 100);
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, g);
    User users[50];
    users_start(users, 50, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    RateLimits slow = iops_limits(1);
    throttle_group_set_limits(g, &slow);
    pass(0);
    unsigned before = users_done(users, 50);
    pass_in_steps(5 * SECOND, 100 * MS);
    assert_in_range(users_done(users, 50) - before, 4, 5);
    disk_free(blk, users, 50);
    throttle_group_unref(g);
}

BLOCK_TEST(requests_that_wait_move_to_another_group)
{
    ThrottleGroup *slow = group_new("slow", 1), *fast = group_new("fast", 10);
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, slow);
    User users[50];
    users_start(users, 50, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    blk_co_set_throttle_group(blk, fast);
    assert_ptr_equal(blk_throttle_group(blk), fast);
    pass(0);
    unsigned before = users_done(users, 50);
    pass_in_steps(SECOND, 10 * MS);
    assert_in_range(users_done(users, 50) - before, 9, 11);
    assert_false(throttle_group_in_use(slow));
    throttle_group_unref(slow);
    disk_free(blk, users, 50);
    throttle_group_unref(fast);
}

/* The member with the first turn goes, and with it the timer that all wait for. */
BLOCK_TEST(the_others_continue_when_the_member_with_the_turn_leaves)
{
    for (unsigned way = 0; way < 3; way++) {
        ThrottleGroup *g = group_new("g", 10);
        BlockBackend *a = disk_in("a", NULL_DISK, test_home, g);
        BlockBackend *b = disk_in("b", NULL_DISK, other_home, g);
        User of_a[3], of_b[3];
        users_start(of_a, 3, (User){.blk = a, .op = TEST_WRITE, .count = 1});
        users_start(of_b, 3, (User){.blk = b, .op = TEST_WRITE, .count = 10});
        if (way == 0) {
            blk_co_set_throttle_group(a, NULL);
        } else if (way == 1) {
            co_drained_begin(&a, 1);
        } else {
            hurry(a, true);
        }
        unsigned before = users_done(of_b, 3);
        pass_in_steps(SECOND, 10 * MS);
        assert_in_range(users_done(of_b, 3) - before, 9, 11);
        if (way == 1) {
            co_drained_end(&a, 1);
        }
        disk_free(a, of_a, 3);
        disk_free(b, of_b, 3);
        throttle_group_unref(g);
    }
}

BLOCK_TEST(the_last_member_frees_a_group_without_an_owner)
{
    ThrottleGroup *g = group_new("g", 10);
    BlockBackend *a = disk_in("a", NULL_DISK, test_home, g);
    BlockBackend *b = disk_in("b", NULL_DISK, other_home, g);
    throttle_group_unref(g);
    assert_ptr_equal(throttle_group_find("g"), g);
    blk_co_free(a);
    assert_ptr_equal(throttle_group_find("g"), g);
    blk_co_free(b);
    assert_null(throttle_group_find("g"));
}

/* ---- accounting ---- */

BLOCK_TEST(the_wait_counts_as_time_of_the_request)
{
    ThrottleGroup *g = group_new("g", 1);
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, g);
    User users[3];
    users_start(users, 3, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    pass_in_steps(3 * SECOND, 100 * MS);
    users_finish(users, 3);
    BlkStats stats;
    blk_stats(blk, &stats);
    assert_int_equal(stats.operations[BLK_OP_WRITE], 3);
    /* the second request waits 0.9 s and the third 1.9 s, up to the next step of the clock */
    assert_in_range(stats.time_ns[BLK_OP_WRITE], 2700 * (uint64_t)MS, 3000 * (uint64_t)MS);
    disk_free(blk, NULL, 0);
    throttle_group_unref(g);
}

/* ---- everything at once ---- */

enum { DISKS = 4, USERS = 8, ROUNDS = 300 };

/* Each request completes once, whatever happens to limits, groups, sections and stops meanwhile. */
BLOCK_TEST(random_changes_lose_no_request)
{
    RateLimits l = iops_limits(1000);
    ThrottleGroup *groups[3] = {NULL, group_new("g", 500), group_new("h", 2000)};
    BlockBackend *blks[DISKS];
    static User users[DISKS][USERS];
    bool drained[DISKS] = {0}, hurries[DISKS] = {0};
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    for (unsigned i = 0; i < DISKS; i++) {
        g_autofree char *name = g_strdup_printf("d%u", i);
        blks[i] = disk_in(name, i == 3 ? FILTER : NULL_DISK, i % 2 ? test_home : other_home,
                          groups[i % 3]);
        users_start(users[i], USERS,
                    (User){.blk = blks[i], .op = i % 2 ? TEST_READ : TEST_WRITE, .count = 200});
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned i = (unsigned)g_rand_int_range(rand, 0, DISKS);
        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
            blk_co_set_throttle_group(blks[i], groups[g_rand_int_range(rand, 0, 3)]);
            break;
        case 1:
            l.buckets[RATE_IOPS_TOTAL].avg = (uint64_t)g_rand_int_range(rand, 1, 3000);
            throttle_group_set_limits(groups[1 + round % 2], &l);
            break;
        case 2:
            if (!drained[i]) {
                co_drained_begin(&blks[i], 1);
                co_drained_end(&blks[i], 1);
            }
            break;
        case 3:
            hurries[i] = !hurries[i];
            hurry(blks[i], hurries[i]);
            break;
        default:
            pass(g_rand_int_range(rand, 0, (int)(20 * MS)));
            break;
        }
    }
    RateLimits none;
    rate_limits_init(&none);
    throttle_group_set_limits(groups[1], &none);
    throttle_group_set_limits(groups[2], &none);
    for (unsigned i = 0; i < DISKS; i++) {
        users_finish(users[i], USERS);
        assert_int_equal(users_done(users[i], USERS) + users_returned(users[i], USERS),
                         USERS * 200);
        blk_co_free(blks[i]);
    }
    assert_false(throttle_group_in_use(groups[1]) || throttle_group_in_use(groups[2]));
    throttle_group_unref(groups[1]);
    throttle_group_unref(groups[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_is_kept_for_ten_seconds),
        cmocka_unit_test(flush_and_discard_do_not_wait),
        cmocka_unit_test(members_in_two_iothreads_take_turns),
        cmocka_unit_test(reads_and_writes_take_turns),
        cmocka_unit_test(a_member_that_waits_alone_is_woken_in_its_home),
        cmocka_unit_test(
            requests_that_wait_are_not_in_flight_and_do_not_start_in_a_drained_section),
        cmocka_unit_test(requests_that_are_released_in_a_drained_section_wait_for_its_end),
        cmocka_unit_test(a_group_joined_in_a_drained_section_starts_nothing_before_its_end),
        cmocka_unit_test(a_stop_returns_thousands_of_requests_unstarted),
        cmocka_unit_test(a_stop_in_a_drained_section_returns_the_requests_that_wait_for_its_end),
        cmocka_unit_test(new_limits_apply_to_requests_that_wait),
        cmocka_unit_test(slower_limits_apply_to_requests_that_wait),
        cmocka_unit_test(requests_that_wait_move_to_another_group),
        cmocka_unit_test(the_others_continue_when_the_member_with_the_turn_leaves),
        cmocka_unit_test(the_last_member_frees_a_group_without_an_owner),
        cmocka_unit_test(the_wait_counts_as_time_of_the_request),
        cmocka_unit_test(random_changes_lose_no_request),
    };
    return throttle_test_main(tests);
}
