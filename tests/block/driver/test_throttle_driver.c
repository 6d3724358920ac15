/* SPDX-License-Identifier: Apache-2.0 */
/* driver=throttle: its requests are in flight while they wait, so drained sections and stops let
 * them go. */
#include "block/graph.h"
#include "tests/block/core/throttle_test.h"

/* ---- driver=throttle ---- */

BLOCK_TEST(the_filter_keeps_the_rate_and_its_requests_are_in_flight)
{
    ThrottleGroup *g = group_new("g", 100);
    BlockBackend *blk = disk_in("d", FILTER, test_home, NULL);
    User users[40];
    users_start(users, 40, (User){.blk = blk, .op = TEST_WRITE, .count = 100});
    assert_int_equal(blk_in_flight(blk), 40);
    unsigned before = users_done(users, 40);
    pass_in_steps(10 * SECOND, 5 * MS);
    assert_in_range(users_done(users, 40) - before, 980, 1020);
    RateLimits none;
    rate_limits_init(&none);
    throttle_group_set_limits(g, &none);
    users_finish(users, 40);
    blk_co_free(blk);
    assert_false(throttle_group_in_use(g));
    throttle_group_unref(g);
}

BLOCK_TEST(the_filter_shares_a_group_with_a_backend)
{
    ThrottleGroup *g = group_new("g", 100);
    BlockBackend *a = disk_in("a", FILTER, other_home, NULL);
    BlockBackend *b = disk_in("b", NULL_DISK, test_home, g);
    User of_a[4], of_b[4];
    users_start(of_a, 4, (User){.blk = a, .op = TEST_WRITE, .count = 200});
    users_start(of_b, 4, (User){.blk = b, .op = TEST_WRITE, .count = 200});
    unsigned a0 = users_done(of_a, 4), b0 = users_done(of_b, 4);
    pass_in_steps(5 * SECOND, 5 * MS);
    unsigned from_a = users_done(of_a, 4) - a0, from_b = users_done(of_b, 4) - b0;
    assert_in_range(from_a + from_b, 490, 510);
    assert_in_range(from_a, from_b - 2, from_b + 2);
    disk_free(b, of_b, 4);
    RateLimits none;
    rate_limits_init(&none);
    throttle_group_set_limits(g, &none);
    users_finish(of_a, 4);
    blk_co_free(a);
    throttle_group_unref(g);
}

/* Its requests are in flight, so a section lets them go; the ones that follow pay for that. */
BLOCK_TEST(a_drained_section_lets_the_filters_requests_go)
{
    ThrottleGroup *g = group_new("g", 10);
    BlockBackend *blk = disk_in("d", FILTER, test_home, NULL);
    User users[100], later[1];
    users_start(users, 100, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    co_drained_begin(&blk, 1);
    assert_int_equal(users_done(users, 100), 100);
    co_drained_end(&blk, 1);
    users_start(later, 1, (User){.blk = blk, .op = TEST_READ, .count = 1});
    pass_in_steps(9 * SECOND, 100 * MS);
    assert_int_equal(later[0].done, 0);
    pass_in_steps(2 * SECOND, 100 * MS);
    users_finish(later, 1);
    users_finish(users, 100);
    blk_co_free(blk);
    throttle_group_unref(g);
}

BLOCK_TEST(a_stop_lets_the_filters_requests_go)
{
    ThrottleGroup *g = group_new("g", 1);
    BlockBackend *blk = disk_in("d", FILTER, test_home, NULL);
    User users[100];
    users_start(users, 100, (User){.blk = blk, .op = TEST_WRITE, .count = 2});
    hurry(blk, true); /* also those that come later, of operations that are under way */
    users_finish(users, 100);
    assert_int_equal(users_done(users, 100), 200);
    hurry(blk, false);
    users_start(users, 1, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    pass(SECOND);
    assert_int_equal(users[0].done, 0);
    co_drained_begin(&blk, 1);
    co_drained_end(&blk, 1);
    users_finish(users, 1);
    blk_co_free(blk);
    throttle_group_unref(g);
}

/* A section begins and ends while the device stops, in both orders. */
BLOCK_TEST(stops_and_drained_sections_overlap)
{
    ThrottleGroup *g = group_new("g", 1);
    BlockBackend *blk = disk_in("d", FILTER, test_home, NULL);
    User users[8];
    users_start(users, 8, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    hurry(blk, true);
    co_drained_begin(&blk, 1);
    co_drained_end(&blk, 1);
    users_finish(users, 8);
    users_start(users, 8, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    users_finish(users, 8); /* still in a hurry */
    co_drained_begin(&blk, 1);
    hurry(blk, false);
    co_drained_end(&blk, 1);
    users_start(users, 8, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    pass(SECOND);
    assert_int_equal(users_done(users, 8), 0);
    co_drained_begin(&blk, 1);
    hurry(blk, true);
    co_drained_end(&blk, 1);
    users_finish(users, 8);
    blk_co_free(blk); /* while it hurries */
    throttle_group_unref(g);
}

BLOCK_TEST(the_filter_below_a_format_is_lifted_too)
{
    ThrottleGroup *g = group_new("g", 1);
    BlockBackend *blk = disk_in("d",
                                "raw,node-name=fmt,file.driver=throttle,file.throttle-group=g,"
                                "file.file.driver=null-co,file.file.size=64M",
                                other_home, NULL);
    User users[10];
    users_start(users, 10, (User){.blk = blk, .op = TEST_WRITE, .count = 1});
    assert_true(users_done(users, 10) < 3);
    hurry(blk, true);
    users_finish(users, 10);
    blk_co_free(blk);
    throttle_group_unref(g);
}

BLOCK_TEST(the_filter_moves_to_another_iothread)
{
    ThrottleGroup *g = group_new("g", 10);
    g_autoptr(OptDict) d = opt_dict_parse(FILTER, "driver", NULL);
    BlockNode *n = block_co_open(d, test_home, NULL);
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    User users[4];
    users_start(users, 4, (User){.blk = blk, .op = TEST_WRITE, .count = 2});
    pass_in_steps(SECOND, 10 * MS);
    users_finish(users, 4);
    blk_co_free(blk);
    assert_true(block_co_move(n, other_home, NULL));
    blk = blk_co_new("d", n, true, NULL);
    block_co_unref(n);
    users_start(users, 4, (User){.blk = blk, .op = TEST_WRITE, .count = 5});
    unsigned before = users_done(users, 4);
    pass_in_steps(SECOND, 10 * MS);
    assert_in_range(users_done(users, 4) - before, 9, 11);
    pass_in_steps(SECOND, 10 * MS);
    users_finish(users, 4);
    blk_co_free(blk);
    throttle_group_unref(g);
}

static coroutine_fn RUNS_IN_MAIN bool reopen(const char *text, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", error);
    OptDict *const all[] = {d};
    return block_co_reopen(all, 1, error);
}

BLOCK_TEST(a_reopen_changes_the_filters_group)
{
    ThrottleGroup *g = group_new("g", 1), *fast = group_new("fast", 10);
    BlockBackend *blk = disk_in("d",
                                "throttle,node-name=t,throttle-group=g,file.driver=null-co,"
                                "file.node-name=f,file.size=64M",
                                test_home, NULL);
    g_autoptr(GError) error = NULL;
    assert_false(reopen("throttle,node-name=t,throttle-group=none,file=f", &error));
    assert_string_equal(error->message, "Throttle group 'none' does not exist");
    g_clear_error(&error);
    assert_false(reopen("throttle,node-name=t,file=f", &error));
    assert_string_equal(error->message, "Parameter 'throttle-group' is missing");
    assert_true(throttle_group_in_use(g));
    User users[4];
    users_start(users, 4, (User){.blk = blk, .op = TEST_WRITE, .count = 10});
    assert_true(reopen("throttle,node-name=t,throttle-group=fast,file=f", NULL));
    assert_false(throttle_group_in_use(g));
    assert_true(throttle_group_in_use(fast));
    pass(0);
    unsigned before = users_done(users, 4);
    pass_in_steps(SECOND, 10 * MS);
    assert_in_range(users_done(users, 4) - before, 9, 11);
    RateLimits none;
    rate_limits_init(&none);
    throttle_group_set_limits(fast, &none);
    users_finish(users, 4);
    blk_co_free(blk);
    throttle_group_unref(g);
    throttle_group_unref(fast);
}

BLOCK_TEST(a_filter_without_a_group_is_refused)
{
    test_open_fails("throttle,file.driver=null-co", "Parameter 'throttle-group' is missing");
    test_open_fails("throttle,throttle-group=g,file.driver=null-co",
                    "Throttle group 'g' does not exist");
    ThrottleGroup *g = group_new("g", 1);
    test_open_fails("throttle,throttle-group=g,file.driver=null-co,foo=1", "foo");
    assert_false(throttle_group_in_use(g));
    throttle_group_unref(g);
}

BLOCK_TEST(the_filter_has_the_size_of_the_file_that_replaces_another)
{
    ThrottleGroup *g = group_new("g", 100);
    BlockNode *nodes[] = {test_node_add("mem,node-name=a,size=1M"),
                          test_node_add("mem,node-name=b,size=2M")};
    test_node_add("throttle,node-name=t,throttle-group=g,file=a");
    BlockGraphChange *c = block_graph_co_begin(nodes, 2, NULL);
    assert_true(block_graph_replace(c, nodes[0], nodes[1], NULL));
    assert_true(block_graph_commit(c, NULL));
    block_graph_co_end(c);
    assert_int_equal(block_node_size(block_node_find("t")), 2 << 20);
    test_node_del("t");
    test_node_del("a");
    test_node_del("b");
    throttle_group_unref(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_filter_keeps_the_rate_and_its_requests_are_in_flight),
        cmocka_unit_test(the_filter_shares_a_group_with_a_backend),
        cmocka_unit_test(a_drained_section_lets_the_filters_requests_go),
        cmocka_unit_test(a_stop_lets_the_filters_requests_go),
        cmocka_unit_test(stops_and_drained_sections_overlap),
        cmocka_unit_test(the_filter_below_a_format_is_lifted_too),
        cmocka_unit_test(the_filter_moves_to_another_iothread),
        cmocka_unit_test(a_reopen_changes_the_filters_group),
        cmocka_unit_test(a_filter_without_a_group_is_refused),
        cmocka_unit_test(the_filter_has_the_size_of_the_file_that_replaces_another),
    };
    return throttle_test_main(tests);
}
