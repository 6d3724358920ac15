/* SPDX-License-Identifier: Apache-2.0 */
/* How snapshot-save captures memory: what it chooses, and what makes it choose anew. */
#include "migration/ram/capture.h"
#include "tests/vmm/snapshot/snapshot_job_rig.h"
#include "util/loop/sched_point.h"

/* There is one log of dirty memory. */
BLOCK_TEST(a_save_in_passes_beside_another_log_is_refused)
{
    GuestRam *ram;
    snap_init();
    ram = &rig->vm.machine.ram;
    capture_way = FROZEN_RAM_PASSES;
    assert_true(guest_ram_co_log_start(ram, NULL));
    job_begin(snapshot_save_start, "a", false);
    g_autofree char *error = job_end();
    assert_string_equal(error, "another save copies memory, or a rewind point is held");
    assert_true(rig_runs());
    assert_true(atomic_load(&ram->logging));
    guest_ram_co_log_stop(ram);
    save("a", false);
    load_and_check("a");
    capture_way = FROZEN_RAM_AUTO;
    snap_clear();
}

/* What is not frozen is copied in passes, and who cannot log stopped. */
BLOCK_TEST(without_a_frozen_copy_memory_is_copied_in_passes)
{
    snap_init();
    capture_way = FROZEN_RAM_PASSES;
    rig->dirty_passes = 3;
    save("passes", false);
    assert_string_equal(captured, "passes");
    load_and_check("passes");
    rig->log_fails = true;
    save("stopped", false);
    assert_string_equal(captured, "stopped");
    load_and_check("stopped");
    capture_way = FROZEN_RAM_AUTO;
    snap_clear();
}

/* Shared memory cannot be forked, and memory of a file cannot be protected. */
BLOCK_TEST(the_way_follows_from_the_memory)
{
    snap_init();
    rig->vm.machine.ram.blocks[0].fd = 0;
    save("shared", false);
    if (strcmp(captured, "passes") != 0) { /* userfaultfd is not permitted */
        assert_string_equal(captured, "write-protection");
    }
    load_and_check("shared");
    rig->vm.machine.ram.blocks[1].of_file = true;
    save("neither", false);
    assert_string_equal(captured, "passes");
    load_and_check("neither");
    rig->vm.machine.ram.blocks[0].fd = -1;
    save("file", false);
    assert_string_equal(captured, "fork");
    load_and_check("file");
    snap_clear();
}

/* As with -sandbox on. The reason names what is forbidden once. */
BLOCK_TEST(a_process_that_may_not_freeze_memory_copies_it_in_passes)
{
    snap_init();
    capture_forbid("it is a test");
    save("a", false);
    assert_string_equal(captured, "passes");
    assert_string_equal(why_passes, "memory cannot be frozen: it is a test");
    load_and_check("a");
    capture_forbid(NULL);
    save("b", false);
    assert_string_equal(captured, "fork");
    assert_string_equal(why_passes, "");
    snap_clear();
}

/* The guest's writes are in neither of both disks' images nor in memory after the instant. */
BLOCK_TEST(protected_memory_and_disks_are_of_one_instant)
{
    snap_init();
    capture_way = FROZEN_RAM_WP;
    for (unsigned n = 0; n < 5; n++) {
        save("a", n > 0);
        load_and_check("a");
    }
    capture_way = FROZEN_RAM_AUTO;
    snap_clear();
}

/* ---- other processes that write memory ---- */

static void outside_comes(void *arg, const void *at)
{
    enter_main();
    ram_outside_begin();
}

static bool protects(FrozenRam *f)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    *f = (FrozenRam){.vm = &rig->vm, .way = FROZEN_RAM_WP};
    return frozen_ram_co_prepare(f, &error);
}

/* Whether userfaultfd is permitted. */
static bool can_protect(void)
{
    enter_main();
    enter_coroutine();
    FrozenRam f;
    bool can = protects(&f);
    frozen_ram_co_free(&f);
    return can;
}

/* While the protection is set up, in another thread. */
BLOCK_TEST(a_process_that_comes_during_the_preparation_is_noticed)
{
    snap_init();
    if (can_protect()) {
        capture_way = FROZEN_RAM_WP;
        sched_point_hook("frozen_ram.arm", outside_comes, NULL);
        save("a", false);
        sched_point_hook("frozen_ram.arm", NULL, NULL);
        assert_string_equal(captured, "passes");
        save("b", false);
        assert_string_equal(captured, "passes");
        ram_outside_end();
        save("c", false);
        assert_string_equal(captured, "write-protection");
        capture_way = FROZEN_RAM_AUTO;
    }
    snap_clear();
}

/* One save was cancelled and has its memory still when the next one begins. */
BLOCK_TEST(a_process_that_comes_ends_each_protection)
{
    FrozenRam a, b;
    snap_init();
    if (can_protect()) {
        assert_true(protects(&a));
        frozen_ram_cancel(&a);
        while (!protects(&b)) { /* until the first one has let go of memory */
            co_yield_turn();
        }
        frozen_ram_co_free(&a);
        assert_null(frozen_ram_failure(&b));
        ram_outside_begin();
        assert_non_null(frozen_ram_failure(&b));
        frozen_ram_co_free(&b);
        ram_outside_end();
    }
    snap_clear();
}

static void cancel_now(void *arg, const void *at)
{
    enter_main();
    frozen_ram_cancel(arg);
}

BLOCK_TEST(a_cancel_during_the_preparation_counts)
{
    FrozenRam f;
    snap_init();
    if (can_protect()) {
        sched_point_hook("frozen_ram.arm", cancel_now, &f);
        assert_false(protects(&f));
        sched_point_hook("frozen_ram.arm", NULL, NULL);
        assert_null(f.wp);
    }
    snap_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_comes_during_the_preparation_is_noticed),
        cmocka_unit_test(a_process_that_comes_ends_each_protection),
        cmocka_unit_test(a_cancel_during_the_preparation_counts),
        cmocka_unit_test(a_save_in_passes_beside_another_log_is_refused),
        cmocka_unit_test(without_a_frozen_copy_memory_is_copied_in_passes),
        cmocka_unit_test(the_way_follows_from_the_memory),
        cmocka_unit_test(a_process_that_may_not_freeze_memory_copies_it_in_passes),
        cmocka_unit_test(protected_memory_and_disks_are_of_one_instant),
    };
    return block_test_main(tests);
}
