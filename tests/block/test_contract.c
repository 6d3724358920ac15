/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of the block layer: each test breaks one, which must abort with a message. */
#include "tests/block/block_test.h"
#include "block/engine/engine.h"
#include "tests/support/death.h"
#include "util/loop/held.h"

/* The child that dies creates its own threads. */
static void die_in_main(void *body)
{
    block_test_setup(NULL);
    test_run((void (*)(void))body);
}

#define DEATH_TEST(name, message)                                                                  \
    static coroutine_fn RUNS_IN_MAIN void name##_body(void);                                       \
    static void name(void **state)                                                                 \
    {                                                                                              \
        assert_dies(die_in_main, (void *)name##_body, message);                                    \
    }                                                                                              \
    static void name##_body(void)

static BlockBackend *victim;

/* ---- waits and flags ---- */

static void read_at_home(void *opaque)
{
    uint8_t buffer[512];
    struct iovec iov = {buffer, sizeof(buffer)};
    enter_coroutine();
    enter_iothread(blk_home(victim));
    blk_co_preadv(victim, 0, sizeof(buffer), &iov, 1, *(unsigned *)opaque);
}

/* Main would wait for the read, which waits for main to end the section. */
DEATH_TEST(waiting_for_a_request_in_a_drained_section_is_a_deadlock, "a cycle of waits")
{
    unsigned flags = 0;
    victim = test_blk("victim", "null-co,size=1M", true);
    co_drained_begin(&victim, 1);
    co_call_in(blk_home(victim), read_at_home, &flags);
}

DEATH_TEST(a_flag_that_an_operation_does_not_honour_is_refused, "a read honours flags 0, not 0x1")
{
    unsigned flags = BLOCK_REQ_FUA;
    victim = test_blk("victim", "null-co,size=1M", true);
    co_call_in(blk_home(victim), read_at_home, &flags);
}

/* ---- homes ---- */

DEATH_TEST(node_may_not_live_in_main, "is opened in 'main'")
{
    g_autoptr(OptDict) d = opt_dict_parse("null-co", "driver", NULL);
    block_co_open(d, test_main, NULL);
}

/* Code that clang would refuse is called where roles are not checked. */
NO_THREAD_SAFETY_ANALYSIS static void flush_in_main(void)
{
    blk_co_flush(victim);
}

DEATH_TEST(request_outside_the_home_context_aborts, "is used by thread 'main'")
{
    victim = test_blk("d", "null-co", true);
    flush_in_main();
}

/* ---- results, once ---- */

static int bad_flush(BlockNode *n)
{
    return 7;
}

static const BlockDriver bad_driver = {.name = "bad", .co_flush = bad_flush};

DEATH_TEST(driver_that_returns_no_result_aborts, "flush returned 7, neither 0 nor an error")
{
    victim = test_blk("d", "null-co", true);
    blk_root(victim)->drv = &bad_driver;
    test_io(victim, TEST_FLUSH, 0, 0, NULL, 0);
}

static void complete_at_home(void *opaque)
{
    BlockEngine *e = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    BlockIo io = {.state = BLOCK_IO_QUEUED, .token = co_arm()};
    block_engine_complete(e, &io, 0);
    block_engine_complete(e, &io, 0);
}

DEATH_TEST(request_that_completes_twice_aborts, "a request completes twice")
{
    BlockEngine *e = block_co_engine_get(test_home, BLOCK_ENGINE_THREADS, NULL);
    test_in_home(complete_at_home, e);
}

NO_THREAD_SAFETY_ANALYSIS static void reap_in_main(BlockEngine *e)
{
    BlockIo io = {.state = BLOCK_IO_QUEUED};
    block_engine_complete(e, &io, 0);
}

DEATH_TEST(completion_reaped_by_another_thread_aborts, "is used by thread 'main'")
{
    reap_in_main(block_co_engine_get(test_home, BLOCK_ENGINE_THREADS, NULL));
}

/* ---- drained sections ---- */

DEATH_TEST(end_without_begin_aborts, "a drained section ends without a begin")
{
    victim = test_blk("d", "null-co", true);
    co_drained_end(&victim, 1);
}

DEATH_TEST(section_that_outlives_its_coroutine_aborts, "ends while holding 'drained section'")
{
    victim = test_blk("d", "null-co", true);
    co_drained_begin(&victim, 1);
}

NO_THREAD_SAFETY_ANALYSIS static void drain_under_bql(void)
{
    bql_lock();
    co_drained_begin(&victim, 1);
    bql_unlock();
}

DEATH_TEST(drain_under_the_bql_aborts, "'drained section' (rank drained) taken while 'BQL'")
{
    victim = test_blk("d", "null-co", true);
    drain_under_bql();
}

DEATH_TEST(backend_freed_in_a_section_aborts, "is freed inside a drained section")
{
    victim = test_blk("d", "null-co", true);
    co_drained_begin(&victim, 1);
    blk_co_free(victim);
}

static void nothing(void *opaque)
{
}

DEATH_TEST(notify_that_changes_outside_a_section_aborts, "change outside a drained section")
{
    BlkNotify notify = {.quiesce = nothing};
    victim = test_blk("d", "null-co", true);
    blk_set_notify(victim, &notify);
    blk_set_notify(victim, NULL);
}

/* ---- macro operations ---- */

static BlkMacro macro;

static void macro_begin(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    blk_co_macro_begin(victim, &macro);
}

static void macro_end(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    BlkMacro own;
    blk_co_macro_begin(victim, &own);
    co_start(test_home, macro_begin, NULL);
    co_yield_turn(); /* the other operation begins */
    blk_macro_end(victim, &macro);
}

DEATH_TEST(macro_operation_ended_by_another_coroutine_aborts, "that is not its coroutine's")
{
    victim = test_blk("d", "null-co", true);
    test_in_home(macro_end, NULL);
}

/* ---- closing ---- */

DEATH_TEST(node_closed_while_it_has_a_user_aborts, "while it has a user")
{
    victim = test_blk("d", "null-co", true);
    block_co_unref(blk_root(victim)); /* the backend's own reference */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_may_not_live_in_main),
        cmocka_unit_test(request_outside_the_home_context_aborts),
        cmocka_unit_test(driver_that_returns_no_result_aborts),
        cmocka_unit_test(request_that_completes_twice_aborts),
        cmocka_unit_test(completion_reaped_by_another_thread_aborts),
        cmocka_unit_test(waiting_for_a_request_in_a_drained_section_is_a_deadlock),
        cmocka_unit_test(a_flag_that_an_operation_does_not_honour_is_refused),
        cmocka_unit_test(end_without_begin_aborts),
        cmocka_unit_test(section_that_outlives_its_coroutine_aborts),
        cmocka_unit_test(drain_under_the_bql_aborts),
        cmocka_unit_test(backend_freed_in_a_section_aborts),
        cmocka_unit_test(notify_that_changes_outside_a_section_aborts),
        cmocka_unit_test(macro_operation_ended_by_another_coroutine_aborts),
        cmocka_unit_test(node_closed_while_it_has_a_user_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
