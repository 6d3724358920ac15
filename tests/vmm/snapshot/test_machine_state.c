/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm */
/* timeout: 300 */
/* A whole machine is saved anywhere in its guest's steps, reset, loaded again, and goes on to the numbers that it
 * would have had; what else is in a state. */
#include "tests/support/rounds.h"
#include "tests/vmm/snapshot/snapshot_rig.h"
#include "vmm/snapshot/machine_options.h"

/* ---- a machine goes on ---- */

static uint8_t rig_register; /* its value in the machine that was put aside */

static void stopped_change_and_put_aside(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    rig_register = 0x80 | (uint8_t)(rig_register + 1);
    rig_write_register(r, rig_register);
    stopped_compare_and_put_aside(r, token);
}

static void stopped_reset_and_load(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    int64_t now_ns = vm_clock_now_ns();
    assert_true(r->vm.run.ops->co_reset(r->vm.run.opaque, &error));
    assert_int_equal(rig_read_register(r) & 0x80, 0);
    vm_clock_set_ns(now_ns + 1000000000);
    rig_co_load(r, token);
    assert_int_equal(vm_clock_now_ns(), r->kept_clock_ns);
    assert_int_equal(rig_read_register(r), rig_register);
    rig_co_expect_state(r, r->stream, token);
}

static void body_goes_on(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_await(r, GUEST_OTHER, 0);
    for (unsigned i = test_rounds(20, 200, 1000); i > 0; i--) {
        rig_while_stopped(r, stopped_change_and_put_aside);
        GuestModel kept = r->model;
        rig_await(r, GUEST_STEPS, r->model.steps + 2);
        rig_while_stopped(r, stopped_reset_and_load);
        r->model = kept;
        uint32_t other = rig_word(r, GUEST_OTHER), ticks = rig_word(r, GUEST_TICKS);
        rig_await(r, GUEST_STEPS, r->model.steps + 2);
        rig_await(r, GUEST_OTHER, other);
        rig_await(r, GUEST_TICKS, ticks);
        rig_while_stopped(r, stopped_compare_and_put_aside);
    }
}

/* ---- what else is in a state ---- */

static void stopped_options(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    rig_co_put_aside(r, token);
    g_autoptr(StateStream) s = state_stream_decode(r->stream->data, r->stream->len, &error);
    g_autoptr(GPtrArray) options = machine_options_read(s, &error);
    assert_int_equal(options->len, r->config.options->len);
    for (unsigned i = 0; i < options->len; i++) {
        const ConfigOption *a = options->pdata[i], *b = r->config.options->pdata[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(g_strcmp0(a->value, b->value), 0);
    }
    assert_string_equal(state_stream_text(s, "version"), SKIFF_VERSION);
    assert_string_equal(state_stream_text(s, "cpu"), "host");
    assert_string_equal(state_stream_text(s, "directory"), r->config.directory);
}

static void body_options(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_while_stopped(r, stopped_options);
}

static void stopped_reasons(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    static const StopReason reasons[] = {STOP_GUEST_PANICKED, STOP_SHUTDOWN, STOP_PAUSED};
    RunState *rs = &r->vm.run;
    for (unsigned i = 0; i < G_N_ELEMENTS(reasons); i++) {
        g_autoptr(GError) error = NULL;
        rs->run_requested = false;
        rs->reason = reasons[i];
        g_autoptr(GByteArray) stream = rig_co_save(r, token);
        rs->reason = STOP_PRELAUNCH;
        g_autoptr(MachineStateLoad) l = machine_state_stage(&r->vm, stream, &error);
        assert_false(machine_state_ran(l));
        assert_true(machine_state_co_apply(&r->vm, l, token, &error));
        assert_int_equal(rs->reason, reasons[i]);
        assert_int_equal(run_state_has_ended(rs), reasons[i] == STOP_SHUTDOWN);
    }
    rs->run_requested = true;
    rs->reason = STOP_SHUTDOWN; /* this machine has ended; the loaded one ran */
    rig_co_put_aside(r, token);
    rig_co_load(r, token);
    assert_false(run_state_has_ended(rs));
}

static void body_reasons(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_while_stopped(r, stopped_reasons);
    rig_await(r, GUEST_STEPS, rig_word(r, GUEST_STEPS) + 2); /* it runs again */
}

/* ---- what the guest has asked for ---- */

static unsigned rig_resets;

static void rig_was_reset(VmListener *l, VmCause cause)
{
    rig_resets++;
}

static void stopped_ask_for_reset(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    rig_compare(r);
    vm_request(&r->vm, VM_REQUEST_RESET, 0); /* as the guest does before its vCPU parks */
    rig_co_put_aside(r, token);
}

static void stopped_load(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    rig_co_load(r, token);
    assert_int_equal(rig_resets, 1); /* not yet */
}

static coroutine_fn RUNS_IN_MAIN void rig_await_reset(Rig *r, unsigned resets)
{
    while (rig_resets < resets || rig_word(r, GUEST_STEPS) == 0) {
        g_usleep(100);
        co_yield_turn();
    }
}

static void body_reset_is_pending(Rig *r)
{
    enter_main();
    enter_coroutine();
    VmListener listener = {.reset = rig_was_reset};
    vm_listen(&r->vm, &listener);
    rig_resets = 0;
    rig_while_stopped(r, stopped_ask_for_reset);
    rig_await_reset(r, 1);
    rig_while_stopped(r, stopped_load);
    rig_await_reset(r, 2); /* what the loaded guest had asked for */
    assert_true(run_state_co_settle(&r->vm.run, INT64_C(60000000000)));
    assert_int_equal(rig_resets, 2);
    vm_unlisten(&r->vm, &listener);
}

RIG_TEST(a_loaded_machine_goes_on_to_the_same_result, body_goes_on)
RIG_TEST(the_command_line_is_in_the_state, body_options)
RIG_TEST(a_machine_that_did_not_run_does_not_run, body_reasons)
RIG_TEST(a_reset_that_the_guest_has_asked_for_comes_after_the_load, body_reset_is_pending)

static void the_table_is_complete(void **state)
{
    g_autoptr(GError) error = NULL;
    if (!state_check_coverage(&machine_vm_state_desc, &error)) {
        fail_msg("%s", error->message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_complete),
        cmocka_unit_test(a_loaded_machine_goes_on_to_the_same_result),
        cmocka_unit_test(the_command_line_is_in_the_state),
        cmocka_unit_test(a_machine_that_did_not_run_does_not_run),
        cmocka_unit_test(a_reset_that_the_guest_has_asked_for_comes_after_the_load), /* the last */
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
