/* SPDX-License-Identifier: Apache-2.0 */
/* savevm-start and savevm-end on a machine without KVM: what is saved is of the instant of the stop; whatever the
 * file does, a cancel ends the save, the VM goes on, and the next save works. */
#include "tests/vmm/snapshot/savevm_rig.h"

BLOCK_TEST(a_save_is_of_the_instant_of_the_stop)
{
    rig_init();
    rig->dirty_passes = 3;
    rig_start(FILE_A);
    rig_wait(SAVEVM_COMPLETED);
    assert_false(rig_runs());
    assert_string_equal(run_state_qemu_name(&rig->vm.run), "save-vm");
    assert_true(savevm_info().passes >= 3);
    assert_true(file_is_valid(rig->a));
    assert_true(savevm_co_end(&rig->vm, NULL));
    assert_true(rig_runs());
    assert_int_equal(rig->stops, 1);
    rig_clear();
}

BLOCK_TEST(a_stopped_vm_is_saved_and_stays_stopped)
{
    rig_init();
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
    rig_start(FILE_A);
    rig_wait(SAVEVM_COMPLETED);
    assert_true(file_is_valid(rig->a));
    assert_true(savevm_co_end(&rig->vm, NULL));
    assert_false(rig_runs());
    assert_string_equal(run_state_qemu_name(&rig->vm.run), "paused");
    rig_clear();
}

BLOCK_TEST(without_a_log_the_vm_is_stopped_for_all_of_memory)
{
    rig_init();
    rig->log_fails = true;
    rig_start(FILE_A);
    rig_wait(SAVEVM_COMPLETED);
    assert_int_equal(savevm_info().passes, 1);
    assert_true(file_is_valid(rig->a));
    assert_true(savevm_co_end(&rig->vm, NULL));
    assert_true(rig_runs());
    rig_clear();
}

BLOCK_TEST(without_a_file_the_vm_is_only_stopped)
{
    rig_init();
    rig_start(NULL);
    rig_wait(SAVEVM_COMPLETED);
    assert_false(rig_runs());
    assert_int_equal(rig->saves, 0);
    assert_true(savevm_co_end(&rig->vm, NULL));
    assert_true(rig_runs());
    rig_clear();
}

BLOCK_TEST(commands_at_the_wrong_time_are_refused)
{
    rig_init();
    g_autoptr(GError) error = NULL;
    assert_false(savevm_co_end(&rig->vm, &error));
    assert_string_equal(error->message, "VM snapshot not started");
    g_clear_error(&error);
    rig_start(FILE_A);
    assert_false(savevm_co_start(&rig->vm, FILE_B, &error));
    assert_string_equal(error->message, "VM snapshot already started");
    g_clear_error(&error);
    rig_wait(SAVEVM_COMPLETED);
    assert_false(savevm_co_start(&rig->vm, FILE_B, &error));
    assert_string_equal(error->message, "VM snapshot already started");
    assert_true(savevm_co_end(&rig->vm, NULL));
    rig_clear();
}

BLOCK_TEST(what_cannot_be_saved_fails_the_save_and_the_vm_goes_on)
{
    rig_init();
    rig->state_fails = true;
    rig_start(FILE_A);
    rig_wait(SAVEVM_FAILED);
    assert_string_equal(savevm_info().error, "vnet0: its state is elsewhere");
    assert_true(rig_runs());
    assert_false(file_is_valid(rig->a));
    rig->state_fails = false;
    rig_start(FILE_A);
    rig_wait(SAVEVM_COMPLETED);
    assert_true(file_is_valid(rig->a));
    assert_true(savevm_co_end(&rig->vm, NULL));
    rig_clear();
}

/* Each request fails once: no file counts, the VM goes on, and the next save works. */
BLOCK_TEST(an_error_of_any_request_fails_the_save)
{
    static const int errors[] = {ENOSPC, EIO};
    rig_init();
    unsigned failed = 0;
    for (unsigned nth = 0;; nth++) {
        fault_set(rig->a, (BlockFault){.op = BLOCK_FAULT_ANY,
                                       .after = nth,
                                       .count = 1,
                                       .error = (uint32_t)errors[nth % 2]});
        g_autoptr(GError) error = NULL;
        bool started = savevm_co_start(&rig->vm, FILE_A, &error);
        while (savevm_info().state == SAVEVM_ACTIVE) {
            co_yield_turn();
        }
        bool hit = block_fault_hits(rig->a) > 0;
        fault_set(rig->a, (BlockFault){0});
        if (!hit) {
            assert_true(started && savevm_info().state == SAVEVM_COMPLETED);
            break;
        }
        failed++;
        assert_int_equal(savevm_info().state, SAVEVM_FAILED);
        assert_non_null(strstr(savevm_info().error, g_strerror(errors[nth % 2])));
        assert_true(rig_runs());
    }
    assert_true(failed > 15);
    assert_true(file_is_valid(rig->a));
    assert_true(savevm_co_end(&rig->vm, NULL));
    assert_true(rig_runs());
    rig_clear();
}

typedef struct Start {
    const char *path;
    bool ok, ended;
} Start;

static void start_run(void *opaque)
{
    Start *s = opaque;
    enter_coroutine();
    enter_main();
    g_autoptr(GError) error = NULL;
    s->ok = savevm_co_start(&rig->vm, s->path, &error);
    s->ended = true;
}

/* Starts a save to a, whose request number @nth hangs. False: there are not so many. */
static coroutine_fn RUNS_IN_MAIN bool start_and_hang(Start *s, unsigned nth)
{
    fault_set(rig->a, (BlockFault){.op = BLOCK_FAULT_ANY, .after = nth, .hold = true});
    *s = (Start){.path = FILE_A};
    co_start(test_main, start_run, s);
    do {
        co_yield_turn();
    } while (savevm_info().state == SAVEVM_ACTIVE && block_fault_held(rig->a) == 0);
    bool held = block_fault_held(rig->a) > 0;
    if (!held) {
        fault_set(rig->a, (BlockFault){0});
    }
    return held;
}

/* What a driver was given stays as it is: it may read it twice, for a checksum or to encrypt it. The page that changes
 * is not marked, so no later pass mends it. */
BLOCK_TEST(a_driver_is_given_a_copy_of_memory)
{
    Start s = {.path = FILE_A};
    RamImage image = {0};
    rig_init();
    assert_true(ram_image_plan(&image, &rig->ram.ram, NULL));
    fault_set(rig->a, (BlockFault){.op = BLOCK_FAULT_WRITE,
                                   .offset = STATE_FILE_RAM_OFFSET + image.blocks[0].data_offset,
                                   .length = GUEST_RAM_PAGE,
                                   .count = 1,
                                   .hold = true});
    co_start(test_main, start_run, &s);
    while (block_fault_held(rig->a) == 0) {
        co_yield_turn();
    }
    uint8_t before[GUEST_RAM_PAGE];
    memcpy(before, rig->ram.host, sizeof(before));
    memset(rig->ram.host, 0xa5, sizeof(before));
    fault_release(rig->a);
    rig_wait(SAVEVM_COMPLETED);
    memcpy(rig->at_stop.host, before, sizeof(before));
    assert_true(file_is_valid(rig->a));
    assert_true(savevm_co_end(&rig->vm, NULL));
    rig_clear();
}

/* Any request hangs: the save is cancelled at once, the VM goes on, and another file takes the next save while
 * the first still hangs. */
BLOCK_TEST(a_cancel_while_any_request_hangs_lets_the_vm_go_on)
{
    unsigned hung = 0;
    for (bool held = true; held; hung += held) {
        Start s;
        rig_init();
        held = start_and_hang(&s, hung);
        if (held) {
            assert_true(savevm_co_end(&rig->vm, NULL));
            assert_int_equal(savevm_info().state, SAVEVM_NONE);
            assert_true(rig_runs());
            rig_start(FILE_B);
            rig_wait(SAVEVM_COMPLETED);
            assert_true(file_is_valid(rig->b));
        } else {
            rig_wait(SAVEVM_COMPLETED);
            assert_true(file_is_valid(rig->a));
        }
        assert_true(savevm_co_end(&rig->vm, NULL));
        assert_true(rig_runs());
        fault_release(rig->a);
        while (!s.ended) {
            co_yield_turn();
        }
        rig_clear();
    }
    assert_true(hung > 15);
}

/* A save that was cancelled when only its last request was missing: that one makes the file valid, which must
 * not stay so. */
BLOCK_TEST(a_file_of_a_cancelled_save_does_not_stay_valid)
{
    unsigned last = 0;
    for (bool held = true; held; last++) {
        Start s;
        rig_init();
        held = start_and_hang(&s, last);
        if (held) {
            assert_true(savevm_co_end(&rig->vm, NULL));
            fault_release(rig->a);
            BlockBackend *writer = NULL; /* there is one when the save has closed the file */
            while ((writer = blk_co_new("w", rig->a, true, NULL)) == NULL) {
                co_yield_turn();
            }
            blk_co_free(writer);
            assert_false(file_is_valid(rig->a));
        } else {
            rig_wait(SAVEVM_COMPLETED);
            assert_true(savevm_co_end(&rig->vm, NULL));
        }
        rig_clear();
    }
    assert_true(last > 15);
}

BLOCK_TEST(a_cancel_while_the_state_of_the_machine_is_read_lets_the_vm_go_on)
{
    End e = {0};
    rig_init();
    rig->end_comes = &e;
    rig_start(FILE_A);
    while (!e.ended) {
        co_yield_turn();
    }
    assert_true(e.ok);
    assert_int_equal(savevm_info().state, SAVEVM_NONE);
    assert_true(rig_runs());
    rig_clear();
}

/* The second ends only the save that was under way when it came, not the one that the first has begun since. */
BLOCK_TEST(two_users_end_a_save_and_one_begins_the_next)
{
    Start s;
    End first = {.then = FILE_B}, second = {0};
    rig_init();
    assert_true(start_and_hang(&s, 8));
    co_start(test_main, end_run, &first);
    co_start(test_main, end_run, &second);
    while (!first.ended || !second.ended) {
        co_yield_turn();
    }
    assert_true(first.ok);
    assert_true(second.ok);
    rig_wait(SAVEVM_COMPLETED);
    assert_true(file_is_valid(rig->b));
    assert_true(savevm_co_end(&rig->vm, NULL));
    fault_release(rig->a);
    rig_clear();
}

BLOCK_TEST(the_end_of_skiff_ends_a_save_that_hangs)
{
    Start s;
    rig_init();
    assert_true(start_and_hang(&s, 8));
    run_state_leave(&rig->vm.run);
    VM_ANNOUNCE(&rig->vm, ending, VM_CAUSE_HOST_QMP_QUIT, true);
    vm_listeners_co_leave(&rig->vm);
    assert_int_equal(savevm_info().state, SAVEVM_NONE);
    vm_operation_begin(&rig->vm.run); /* nobody has kept it */
    vm_operation_end(&rig->vm.run);
    fault_release(rig->a);
    rig_clear();
}

/* The VM is stopped for the save when its user stops it: then the save fails. */
BLOCK_TEST(a_users_stop_during_a_save_that_fails_counts)
{
    rig_init();
    rig->stop_comes = true;
    rig->state_fails = true;
    rig_start(FILE_A);
    rig_wait(SAVEVM_FAILED);
    run_state_co_settle(&rig->vm.run, INT64_MAX / 2);
    assert_false(rig_runs());
    assert_string_equal(run_state_qemu_name(&rig->vm.run), "save-vm");
    rig_clear();
}

BLOCK_TEST(a_users_stop_during_a_save_that_completes_counts)
{
    rig_init();
    rig->stop_comes = true;
    rig_start(FILE_A);
    rig_wait(SAVEVM_COMPLETED);
    assert_true(savevm_co_end(&rig->vm, NULL));
    assert_false(rig_runs());
    rig_clear();
}

BLOCK_TEST(a_target_that_is_too_small_is_refused)
{
    rig_init();
    BlockNode *n = test_node_add("mem,node-name=c,size=66M");
    g_autoptr(GError) error = NULL;
    assert_false(savevm_co_start(&rig->vm, "json:{\"driver\":\"raw\",\"file\":\"c\"}", &error));
    assert_non_null(strstr(error->message, "has 66 MiB; the state of this machine needs"));
    assert_int_equal(savevm_info().state, SAVEVM_FAILED);
    assert_true(savevm_co_end(&rig->vm, NULL));
    assert_true(rig_runs());
    assert_non_null(n);
    while (!block_co_delete("c", NULL)) {
        co_yield_turn();
    }
    rig_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_save_is_of_the_instant_of_the_stop),
        cmocka_unit_test(a_stopped_vm_is_saved_and_stays_stopped),
        cmocka_unit_test(without_a_log_the_vm_is_stopped_for_all_of_memory),
        cmocka_unit_test(without_a_file_the_vm_is_only_stopped),
        cmocka_unit_test(commands_at_the_wrong_time_are_refused),
        cmocka_unit_test(what_cannot_be_saved_fails_the_save_and_the_vm_goes_on),
        cmocka_unit_test(an_error_of_any_request_fails_the_save),
        cmocka_unit_test(a_driver_is_given_a_copy_of_memory),
        cmocka_unit_test(a_cancel_while_any_request_hangs_lets_the_vm_go_on),
        cmocka_unit_test(a_file_of_a_cancelled_save_does_not_stay_valid),
        cmocka_unit_test(a_cancel_while_the_state_of_the_machine_is_read_lets_the_vm_go_on),
        cmocka_unit_test(two_users_end_a_save_and_one_begins_the_next),
        cmocka_unit_test(the_end_of_skiff_ends_a_save_that_hangs),
        cmocka_unit_test(a_users_stop_during_a_save_that_fails_counts),
        cmocka_unit_test(a_users_stop_during_a_save_that_completes_counts),
        cmocka_unit_test(a_target_that_is_too_small_is_refused),
    };
    return block_test_main(tests);
}
