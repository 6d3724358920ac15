/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a rewind point, on nodes that fail and hang: each rewind shows the disk of the point, and the end keeps
 * the disk that the guest sees, whatever has failed before. */
#include "block/graph.h"
#include "tests/vmm/snapshot/rewind_rig.h"

#define DISK_BYTES (UINT64_C(1) << 20) /* of the disk that tests use: from its begin on */

static struct Disk {
    BlockBackend *blk;
    uint8_t *now, *point, *read; /* models: what the disk has, what it had at the newest point */
    unsigned seed;
    GRand *rand;
} disk;

static coroutine_fn RUNS_IN_MAIN void disk_init(void)
{
    held_init();
    disk.blk = blk_co_new("disk", rig->a, true, NULL);
    assert_non_null(disk.blk);
    disk.now = g_malloc0(DISK_BYTES);
    disk.point = g_malloc0(DISK_BYTES);
    disk.read = g_malloc0(DISK_BYTES);
    disk.rand = g_rand_new_with_seed(5);
}

static coroutine_fn RUNS_IN_MAIN void disk_clear(void)
{
    if (rewind_info().state != REWIND_NONE) {
        assert_true(rewind_co_end(&rig->vm, NULL));
    }
    assert_ptr_equal(blk_root(disk.blk), rig->a);
    blk_co_free(disk.blk);
    g_free(disk.now);
    g_free(disk.point);
    g_free(disk.read);
    g_rand_free(disk.rand);
    held_clear();
}

/* A few writes, zeroes and discards of any place. */
static coroutine_fn RUNS_IN_MAIN void disk_change(void)
{
    for (unsigned i = 0; i < 6; i++) {
        uint64_t at = 512 * (uint64_t)g_rand_int_range(disk.rand, 0, DISK_BYTES / 512 - 300);
        uint64_t bytes = 512 * (uint64_t)g_rand_int_range(disk.rand, 1, 300);
        if (i % 3 == 2) {
            memset(disk.now + at, 0, bytes);
            assert_int_equal(
                test_io(disk.blk, TEST_ZERO, at, bytes, NULL, i == 2 ? BLOCK_REQ_MAY_UNMAP : 0), 0);
        } else {
            test_fill(disk.now + at, bytes, ++disk.seed);
            assert_int_equal(test_io(disk.blk, TEST_WRITE, at, bytes, disk.now + at, 0), 0);
        }
    }
    rig_write(11);
}

static coroutine_fn RUNS_IN_MAIN void disk_expect(const uint8_t *model)
{
    assert_int_equal(test_io(disk.blk, TEST_READ, 0, DISK_BYTES, disk.read, 0), 0);
    assert_memory_equal(disk.read, model, DISK_BYTES);
}

static coroutine_fn RUNS_IN_MAIN void disk_point(void)
{
    take_point();
    memcpy(disk.point, disk.now, DISK_BYTES);
    assert_ptr_not_equal(blk_root(disk.blk), rig->a);
    disk_expect(disk.point);
}

static coroutine_fn RUNS_IN_MAIN void disk_back(void)
{
    go_back();
    memcpy(disk.now, disk.point, DISK_BYTES);
    disk_expect(disk.point);
}

BLOCK_TEST(a_disk_goes_back_and_the_end_keeps_it)
{
    disk_init();
    for (unsigned point = 0; point < 6; point++) {
        disk_change();
        disk_point(); /* the first one, one after an end, or one that replaces another */
        for (unsigned round = 0; round < 5; round++) {
            disk_change();
            disk_expect(disk.now);
            disk_back();
        }
        disk_change();
        if (point % 2 == 0) {
            assert_true(rewind_co_end(&rig->vm, NULL));
            assert_ptr_equal(blk_root(disk.blk), rig->a);
        }
        disk_expect(disk.now);
    }
    disk_clear();
}

BLOCK_TEST(a_disk_that_is_only_read_is_left_alone)
{
    held_init();
    BlockBackend *blk = blk_co_new("disk", rig->a, false, NULL);
    take_point();
    assert_ptr_equal(blk_root(blk), rig->a);
    go_back();
    assert_true(rewind_co_end(&rig->vm, NULL));
    blk_co_free(blk);
    held_clear();
}

BLOCK_TEST(a_disk_that_cannot_be_flushed_refuses_the_point)
{
    disk_init();
    disk_change();
    fault_set(rig->a, (BlockFault){.op = BLOCK_FAULT_FLUSH, .error = EIO});
    expect_refused(rewind_co_point, "drive 'disk': An IO error has occurred: flush");
    assert_int_equal(rewind_info().state, REWIND_NONE);
    assert_ptr_equal(blk_root(disk.blk), rig->a);
    assert_false(rig->vm.machine.ram.logging);
    assert_true(rig_runs());
    fault_set(rig->a, (BlockFault){0});
    disk_expect(disk.now);
    disk_point();
    disk_change();
    disk_back();
    disk_clear();
}

/* Each write to the disk fails once, when its own node gets what was written since the point. */
static coroutine_fn RUNS_IN_MAIN void end_that_fails(bool (*command)(Vm *vm, GError **error))
{
    unsigned failed = 0;
    for (bool hit = true; hit; failed += hit) {
        disk_init();
        disk_change();
        disk_point();
        disk_change();
        fault_set(rig->a, (BlockFault){.op = BLOCK_FAULT_ANY,
                                       .after = failed,
                                       .count = 1,
                                       .error = failed % 2 == 0 ? ENOSPC : EIO});
        g_autoptr(GError) error = NULL;
        bool ok = command(&rig->vm, &error);
        hit = block_fault_hits(rig->a) > 0;
        fault_set(rig->a, (BlockFault){0});
        assert_true(rig_runs());
        disk_expect(disk.now);
        if (!ok) {
            assert_true(hit);
            assert_int_equal(rewind_info().state, REWIND_LOST);
            assert_non_null(strstr(rewind_info().error, "drive 'disk': "));
            expect_refused(rewind_co_back, "the rewind point is lost");
            disk_point(); /* tries again */
            disk_change();
            disk_back();
        }
        disk_change();
        disk_expect(disk.now);
        disk_clear();
    }
    assert_true(failed > 3);
}

BLOCK_TEST(an_end_that_fails_loses_nothing)
{
    end_that_fails(rewind_co_end);
}

BLOCK_TEST(a_point_that_cannot_replace_another_loses_nothing)
{
    end_that_fails(rewind_co_point);
}

typedef struct Back {
    bool ok, ended;
} Back;

static void back_run(void *opaque)
{
    Back *b = opaque;
    enter_coroutine();
    enter_main();
    b->ok = rewind_co_back(&rig->vm, NULL);
    b->ended = true;
}

/* An export reads, say, while the VM is stopped: its request ends before the overlay is emptied, with what the disk
 * had. */
BLOCK_TEST(a_request_in_flight_ends_before_the_disk_goes_back)
{
    Back b = {false, false};
    disk_init();
    disk_change();
    disk_point();
    disk_change();
    fault_set(rig->a, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    TestRequest r = {.blk = disk.blk, .op = TEST_READ, .bytes = DISK_BYTES, .buf = disk.read};
    test_start(&r);
    while (block_fault_held(rig->a) == 0) {
        co_yield_turn();
    }
    co_start(test_main, back_run, &b);
    while (rig->loads == 0) {
        co_yield_turn();
    }
    test_settle();
    assert_false(b.ended);
    assert_int_equal(rewind_info().state, REWIND_REWINDING);
    assert_int_equal(r.completions, 0);
    fault_release(rig->a);
    assert_int_equal(test_finish(&r), 0);
    assert_memory_equal(disk.read, disk.now, DISK_BYTES);
    while (!b.ended) {
        co_yield_turn();
    }
    assert_true(b.ok);
    memcpy(disk.now, disk.point, DISK_BYTES);
    disk_expect(disk.point);
    disk_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_goes_back_and_the_end_keeps_it),
        cmocka_unit_test(a_disk_that_is_only_read_is_left_alone),
        cmocka_unit_test(a_disk_that_cannot_be_flushed_refuses_the_point),
        cmocka_unit_test(an_end_that_fails_loses_nothing),
        cmocka_unit_test(a_point_that_cannot_replace_another_loses_nothing),
        cmocka_unit_test(a_request_in_flight_ends_before_the_disk_goes_back),
    };
    return block_test_main(tests);
}
