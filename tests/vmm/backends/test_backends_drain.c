/* SPDX-License-Identifier: Apache-2.0 */
/* backends_co_drain(): the last step of a stop flushes each drive, also beside an operation on a disk and a device
 * that hurries. */
#include "tests/block/core/throttle_test.h"
#include "vmm/backends/backends.h"

typedef struct Drain {
    CoToken token;
    bool done, waited_for;
} Drain;

static void drain_run(void *opaque)
{
    Drain *d = opaque;
    enter_coroutine();
    enter_main();
    backends_co_drain();
    d->done = true;
    if (d->waited_for) {
        co_wake(d->token);
    }
}

static coroutine_fn RUNS_IN_MAIN uint64_t flushes(BlockBackend *blk)
{
    BlkStats stats;
    blk_stats(blk, &stats);
    return stats.operations[BLK_OP_FLUSH];
}

BLOCK_TEST(a_flush_that_waits_for_a_section_is_not_given_up_by_a_hurry)
{
    BlockBackend *blk = disk_in("d", NULL_DISK, test_home, NULL);
    co_drained_begin(&blk, 1);
    Drain d = {0};
    co_start(test_main, drain_run, &d);
    pass(0);
    hurry(blk, true);
    hurry(blk, false);
    pass(0);
    assert_false(d.done);
    d.token = co_arm();
    d.waited_for = true;
    co_drained_end(&blk, 1);
    co_wait(d.token);
    assert_int_equal(flushes(blk), 1);
    disk_free(blk, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flush_that_waits_for_a_section_is_not_given_up_by_a_hurry),
    };
    return throttle_test_main(tests);
}
