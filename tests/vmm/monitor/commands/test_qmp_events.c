/* SPDX-License-Identifier: Apache-2.0 */
/* The events of each change of the VM, and their order. */
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "vmm/monitor/commands/qmp_events.h"

#define PANICKED 1
#define CRASH_LOADED 2

typedef struct Rig {
    Vm vm;
    VmConfig config;
    GString *seen; /* "NAME", "NAME(reason)", separated by blanks */
    QmpEventListener listener;
    bool reset_fails, stop_in_reset;
} Rig;

static void rig_changed(void *opaque, RunPhase phase, StopReason reason)
{
    Rig *rig = opaque;
    enter_main();
    vm_run_changed(&rig->vm, phase, reason);
}

static bool rig_co_reset_machine(void *opaque, GError **error)
{
    Rig *rig = opaque;
    enter_main();
    vm_was_reset(&rig->vm);
    if (rig->stop_in_reset) {
        run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    }
    if (rig->reset_fails) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "no machine");
    }
    return !rig->reset_fails;
}

static const RunStateOps telling_ops = {
    .co_park = fake_run_co_nothing,
    .unpark = fake_run_co_nothing,
    .co_stop_backends = fake_run_co_nothing,
    .co_start_backends = fake_run_co_start,
    .co_drain = fake_run_co_nothing,
    .co_reset = rig_co_reset_machine,
    .changed = rig_changed,
};

static void rig_tell(QmpEventListener *l, const QmpEvent *event, struct json_object *data,
                     int64_t realtime_us)
{
    Rig *rig = (Rig *)(void *)((char *)l - offsetof(Rig, listener));
    const char *word = qmp_arg_str(data, "reason");
    word = word != NULL ? word : qmp_arg_str(data, "action");
    g_string_append_printf(rig->seen, "%s%s", rig->seen->len > 0 ? " " : "", event->name);
    if (word != NULL) {
        g_string_append_printf(rig->seen, "(%s)", word);
    }
    if (qmp_arg_has(data, "guest")) { /* true for guest-*, false for host-* */
        assert_int_equal(qmp_arg_bool(data, "guest", false), g_str_has_prefix(word, "guest-"));
    }
}

static void settle(Rig *rig)
{
    while (aio_context_step(rig->vm.ctx, false)) {
    }
}

static int setup(void **state)
{
    Rig *rig = g_new0(Rig, 1);
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    vm_config_init(&rig->config);
    rig->seen = g_string_new(NULL);
    rig->vm.config = &rig->config;
    rig->vm.ctx = aio_context_new("main", NULL);
    rig->vm.built = true;
    aio_context_set_virtual_time(rig->vm.ctx, 1);
    run_state_init(&rig->vm.run, rig->vm.ctx, &telling_ops, rig);
    vm_life_init(&rig->vm);
    qmp_events_init(&rig->vm);
    rig->listener.event = rig_tell;
    qmp_event_listen(&rig->listener);
    run_state_request_start(&rig->vm.run);
    settle(rig);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    Rig *rig = *state;
    enter_main();
    qmp_event_unlisten(&rig->listener);
    aio_timer_disarm(&rig->vm.life.quit_timer);
    aio_context_free(rig->vm.ctx);
    vm_config_clear(&rig->config);
    g_string_free(rig->seen, true);
    g_free(rig);
    return 0;
}

static void expect_events(Rig *rig, const char *events)
{
    settle(rig);
    assert_string_equal(rig->seen->str, events);
    g_string_truncate(rig->seen, 0);
}

/* ---- */

static void a_stop_and_a_start_have_one_event_each(void **state)
{
    Rig *rig = *state;
    expect_events(rig, "RESUME");
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    run_state_request_stop(&rig->vm.run, STOP_IO_ERROR);
    expect_events(rig, "STOP");
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    expect_events(rig, "");
    run_state_request_start(&rig->vm.run);
    run_state_request_start(&rig->vm.run);
    expect_events(rig, "RESUME");
}

static void a_reset_has_no_other_events(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    expect_events(rig, "RESET(host-qmp-system-reset)");
    vm_request(&rig->vm, VM_REQUEST_RESET, 0);
    expect_events(rig, "RESET(guest-reset)");
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    expect_events(rig, "STOP");
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    expect_events(rig, "RESET(host-qmp-system-reset)");
    run_state_request_start(&rig->vm.run);
    expect_events(rig, "RESUME");
}

static void a_reset_that_fails_stops_the_vm(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    rig->reset_fails = true;
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    expect_events(rig, "RESET(host-qmp-system-reset) STOP");
}

static void the_event_of_a_reset_precedes_that_of_a_stop_during_it(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    rig->stop_in_reset = true;
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    expect_events(rig, "RESET(host-qmp-system-reset) STOP");
}

static void a_vm_recovered_by_a_second_reset_has_a_resume_event(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    rig->reset_fails = true;
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    expect_events(rig, "RESET(host-qmp-system-reset) STOP");
    rig->reset_fails = false;
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    expect_events(rig, "RESET(host-qmp-system-reset) RESUME");
}

static void a_power_off_ends_the_vm_without_a_stop_event(void **state)
{
    Rig *rig = *state;
    expect_events(rig, "RESUME");
    vm_request(&rig->vm, VM_REQUEST_POWEROFF, 0);
    expect_events(rig, "SHUTDOWN(guest-shutdown)");
    assert_true(rig->vm.life.quitting);
}

static void under_no_shutdown_a_power_off_stops(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    rig->vm.life.actions.no_shutdown = true;
    vm_request(&rig->vm, VM_REQUEST_POWEROFF, 0);
    expect_events(rig, "SHUTDOWN(guest-shutdown) STOP");
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    expect_events(rig, "SHUTDOWN(host-qmp-quit)");
}

static void under_no_reboot_a_reset_ends_the_vm(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    rig->vm.life.actions.no_reboot = true;
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    expect_events(rig, "SHUTDOWN(host-qmp-system-reset)");
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_RESET);
}

static void the_event_of_a_panic_has_its_action(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    vm_request(&rig->vm, VM_REQUEST_PANIC, CRASH_LOADED);
    expect_events(rig, "GUEST_CRASHLOADED(run)");
    rig->vm.life.actions.panic = PANIC_NONE;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    expect_events(rig, "GUEST_PANICKED(run)");
    rig->vm.life.actions.panic = PANIC_PAUSE;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    expect_events(rig, "GUEST_PANICKED(pause) STOP");
    run_state_request_start(&rig->vm.run);
    expect_events(rig, "RESUME");
    rig->vm.life.actions.panic = PANIC_SHUTDOWN;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    expect_events(rig, "GUEST_PANICKED(poweroff) SHUTDOWN(guest-panic)");
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_PANIC);
}

static void the_event_of_a_watchdog_has_its_action(void **state)
{
    Rig *rig = *state;
    enter_main();
    VmActions *actions = &rig->vm.life.actions;
    expect_events(rig, "RESUME");
    actions->watchdog = WATCHDOG_NONE;
    vm_request(&rig->vm, VM_REQUEST_WATCHDOG, 0);
    expect_events(rig, "WATCHDOG(none)");
    actions->watchdog = WATCHDOG_DEBUG;
    vm_request(&rig->vm, VM_REQUEST_WATCHDOG, 0);
    expect_events(rig, "WATCHDOG(debug)");
    actions->watchdog = WATCHDOG_PAUSE;
    vm_request(&rig->vm, VM_REQUEST_WATCHDOG, 0);
    expect_events(rig, "WATCHDOG(pause) STOP");
    assert_string_equal(run_state_qemu_name(&rig->vm.run), "watchdog");
    run_state_request_start(&rig->vm.run);
    expect_events(rig, "RESUME");
    actions->watchdog = WATCHDOG_RESET;
    vm_request(&rig->vm, VM_REQUEST_WATCHDOG, 0);
    expect_events(rig, "WATCHDOG(reset) RESET(guest-reset)");
    actions->watchdog = WATCHDOG_POWEROFF;
    vm_request(&rig->vm, VM_REQUEST_WATCHDOG, 0);
    expect_events(rig, "WATCHDOG(poweroff) SHUTDOWN(guest-shutdown)");
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_WATCHDOG);
}

static void a_watchdog_that_may_not_reset_ends_the_vm(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    rig->vm.life.actions.no_reboot = true;
    vm_request(&rig->vm, VM_REQUEST_WATCHDOG, 0);
    expect_events(rig, "WATCHDOG(reset) SHUTDOWN(guest-reset)");
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_WATCHDOG);
}

static void a_power_off_outweighs_a_watchdog(void **state)
{
    Rig *rig = *state;
    enter_main();
    expect_events(rig, "RESUME");
    vm_request(&rig->vm, VM_REQUEST_WATCHDOG, 0);
    vm_request(&rig->vm, VM_REQUEST_POWEROFF, 0);
    expect_events(rig, "SHUTDOWN(guest-shutdown)");
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_OK);
}

static void a_failure_of_kvm_is_a_host_error(void **state)
{
    Rig *rig = *state;
    expect_events(rig, "RESUME");
    vm_vcpu_event(&rig->vm, VCPU_EVENT_FAILED);
    expect_events(rig, "SHUTDOWN(host-error)");
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(a_stop_and_a_start_have_one_event_each),
        ON_RIG(a_reset_has_no_other_events),
        ON_RIG(a_reset_that_fails_stops_the_vm),
        ON_RIG(the_event_of_a_reset_precedes_that_of_a_stop_during_it),
        ON_RIG(a_vm_recovered_by_a_second_reset_has_a_resume_event),
        ON_RIG(a_power_off_ends_the_vm_without_a_stop_event),
        ON_RIG(under_no_shutdown_a_power_off_stops),
        ON_RIG(under_no_reboot_a_reset_ends_the_vm),
        ON_RIG(the_event_of_a_panic_has_its_action),
        ON_RIG(the_event_of_a_watchdog_has_its_action),
        ON_RIG(a_watchdog_that_may_not_reset_ends_the_vm),
        ON_RIG(a_power_off_outweighs_a_watchdog),
        ON_RIG(a_failure_of_kvm_is_a_host_error),
    };
    return cmocka_run_group_tests_name("vmm/monitor/commands/qmp_events", tests, NULL, NULL);
}
