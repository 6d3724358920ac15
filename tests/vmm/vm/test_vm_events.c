/* SPDX-License-Identifier: Apache-2.0 */
/* Events of the guest and their effects: several at once, -no-reboot, -no-shutdown, -action, and a
 * quit in every phase. The machine is one of counters. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/fake_vm.h"
#include "tests/support/sample_job.h"
#include "vmm/monitor/commands/qmp_events.h"
#include "vmm/vcpu/vcpu_int.h"

#define PANICKED 1
#define CRASH_LOADED 2
#define SECOND_NS INT64_C(1000000000)

typedef struct Rig {
    Vm vm;
    VmConfig config;
    unsigned resets, runs;
    bool park_hangs;
    CoToken held;
} Rig;

static void rig_co_park(void *opaque)
{
    enter_coroutine();
    Rig *rig = opaque;
    if (rig->park_hangs) {
        rig->held = co_arm();
        co_wait(rig->held);
    }
}

static bool rig_co_reset(void *opaque, GError **error)
{
    Rig *rig = opaque;
    enter_main();
    rig->resets++;
    vm_was_reset(&rig->vm);
    return true;
}

static void rig_changed(void *opaque, RunPhase phase, StopReason reason)
{
    Rig *rig = opaque;
    rig->runs += phase == RUN_RUNNING;
    vm_run_changed(&rig->vm, phase, reason);
}

static const RunStateOps rig_ops = {
    .co_park = rig_co_park,
    .unpark = fake_run_co_nothing,
    .co_stop_backends = fake_run_co_nothing,
    .co_start_backends = fake_run_co_start,
    .co_drain = fake_run_co_nothing,
    .co_reset = rig_co_reset,
    .changed = rig_changed,
};

static void rig_settle(Rig *rig)
{
    while (aio_context_step(rig->vm.ctx, false)) {
    }
}

static int rig_setup(void **state)
{
    Rig *rig = g_new0(Rig, 1);
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    vm_config_init(&rig->config);
    rig->vm.config = &rig->config;
    rig->vm.ctx = aio_context_new("main", NULL);
    rig->vm.built = true;
    aio_context_set_virtual_time(rig->vm.ctx, SECOND_NS);
    run_state_init(&rig->vm.run, rig->vm.ctx, &rig_ops, rig);
    vm_life_init(&rig->vm);
    qmp_events_init(&rig->vm);
    vm_jobs_init(&rig->vm);
    run_state_request_start(&rig->vm.run);
    rig_settle(rig);
    *state = rig;
    return 0;
}

static int rig_teardown(void **state)
{
    Rig *rig = *state;
    aio_timer_disarm(&rig->vm.life.quit_timer);
    aio_context_free(rig->vm.ctx);
    vm_config_clear(&rig->config);
    g_free(rig);
    return 0;
}

static RUNS_IN_MAIN const char *rig_state(const Rig *rig)
{
    return run_state_name(&rig->vm.run);
}

/* ---- the watchdog ---- */

/* As a vCPU does that waits for a hung flash: the call is not taken. */
static void nmis_of_a_watchdog_do_not_pile_up(void **state)
{
    Rig *rig = *state;
    Vcpu vcpu = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    VcpuSet set = {.vcpus = &vcpu, .count = 1};
    enter_main();
    vcpu.set = &set;
    rig->vm.machine.vcpus = &set;
    rig->vm.life.actions.watchdog = WATCHDOG_INJECT_NMI;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 3; i++) {
            vm_request(&rig->vm, VM_REQUEST_WATCHDOG, 0);
            rig_settle(rig);
            assert_non_null(vcpu.calls);
            assert_null(vcpu.calls->next);
        }
        co_wake(g_steal_pointer(&vcpu.calls)->caller);
        rig_settle(rig);
        assert_null(vcpu.calls);
    }
}

/* ---- several at once ---- */

static void a_panic_without_an_action_does_not_drop_a_reset(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->vm.life.actions.panic = PANIC_NONE;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    vm_request(&rig->vm, VM_REQUEST_RESET, 0);
    rig_settle(rig);
    assert_int_equal(rig->resets, 1);
    assert_string_equal(rig_state(rig), "running");
}

static void a_crash_kernel_that_resets_is_reset(void **state)
{
    Rig *rig = *state;
    vm_request(&rig->vm, VM_REQUEST_PANIC, CRASH_LOADED);
    vm_request(&rig->vm, VM_REQUEST_RESET, 0);
    rig_settle(rig);
    assert_int_equal(rig->resets, 1);
    assert_false(rig->vm.life.quitting);
}

static void a_crash_kernel_does_not_revoke_a_panic(void **state)
{
    Rig *rig = *state;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    vm_request(&rig->vm, VM_REQUEST_PANIC, CRASH_LOADED);
    rig_settle(rig);
    assert_true(rig->vm.life.quitting);
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_PANIC);
}

static void a_panic_that_ends_the_vm_outweighs_the_reset_after_it(void **state)
{
    Rig *rig = *state;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    vm_request(&rig->vm, VM_REQUEST_RESET, 0);
    rig_settle(rig);
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_PANIC);
    assert_int_equal(rig->resets, 0);
}

static void a_crash_reported_by_kvm_is_a_panic(void **state)
{
    Rig *rig = *state;
    vm_vcpu_event(&rig->vm, VM_REQUEST_PANIC);
    rig_settle(rig);
    assert_true(rig->vm.life.quitting);
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_PANIC);
}

/* ---- a guest that stays stopped by its panic ---- */

static void requests_of_a_panicked_guest_happen_when_it_resumes(void **state)
{
    static const int asked[] = {VM_REQUEST_RESET, VCPU_EVENT_TRIPLE_FAULT};
    Rig *rig = *state;
    enter_main();
    rig->vm.life.actions.panic = PANIC_PAUSE;
    for (unsigned i = 0; i < G_N_ELEMENTS(asked); i++) {
        vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
        vm_request(&rig->vm, asked[i], 0);
        rig_settle(rig);
        assert_string_equal(rig_state(rig), "guest-panicked");
        assert_int_equal(rig->resets, i);
        run_state_request_start(&rig->vm.run);
        rig_settle(rig);
        assert_int_equal(rig->resets, i + 1);
        assert_string_equal(rig_state(rig), "running");
    }
}

static void a_request_before_the_vcpu_stops_happens_too(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->vm.life.actions.panic = PANIC_PAUSE;
    rig->park_hangs = true;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    rig_settle(rig);
    assert_string_equal(rig_state(rig), "stopping");
    vm_request(&rig->vm, VM_REQUEST_POWEROFF, 0);
    rig_settle(rig);
    rig->park_hangs = false;
    co_wake(rig->held);
    rig_settle(rig);
    assert_string_equal(rig_state(rig), "guest-panicked");
    assert_false(rig->vm.life.quitting);
    run_state_request_start(&rig->vm.run);
    rig_settle(rig);
    assert_true(rig->vm.life.quitting);
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_OK);
}

static void a_users_reset_happens_at_once_and_once(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->vm.life.actions.panic = PANIC_PAUSE;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    vm_request(&rig->vm, VM_REQUEST_RESET, 0);
    rig_settle(rig);
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    rig_settle(rig);
    assert_int_equal(rig->resets, 1);
    assert_string_equal(rig_state(rig), "paused");
    run_state_request_start(&rig->vm.run);
    rig_settle(rig);
    assert_int_equal(rig->resets, 1);
    assert_string_equal(rig_state(rig), "running");
}

/* The panic is detected when a reset that was requested elsewhere has begun. */
static void a_panic_during_another_reset_still_pauses(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->vm.life.actions.panic = PANIC_PAUSE;
    rig->park_hangs = true;
    vm_reset(&rig->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
    rig_settle(rig);
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    vm_request(&rig->vm, VM_REQUEST_RESET, 0);
    rig_settle(rig);
    rig->park_hangs = false;
    co_wake(rig->held);
    rig_settle(rig);
    assert_int_equal(rig->resets, 1);
    assert_string_equal(rig_state(rig), "guest-panicked");
    run_state_request_start(&rig->vm.run);
    rig_settle(rig);
    assert_int_equal(rig->resets, 1); /* the reset of the old guest is void */
}

/* ---- -no-reboot, -no-shutdown, -action ---- */

static void no_reboot_and_no_shutdown_together_pause(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->vm.life.actions.no_reboot = rig->vm.life.actions.no_shutdown = true;
    vm_vcpu_event(&rig->vm, VCPU_EVENT_TRIPLE_FAULT);
    rig_settle(rig);
    assert_false(rig->vm.life.quitting);
    assert_int_equal(rig->resets, 0);
    assert_string_equal(rig_state(rig), "shutdown");
}

static void no_shutdown_keeps_a_guest_that_panicked(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->vm.life.actions.no_shutdown = true;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    rig_settle(rig);
    assert_false(rig->vm.life.quitting);
    assert_string_equal(rig_state(rig), "guest-panicked");
}

static void exit_failure_exits_also_under_no_shutdown(void **state)
{
    Rig *rig = *state;
    rig->vm.life.actions.no_shutdown = true;
    rig->vm.life.actions.panic = PANIC_EXIT;
    vm_request(&rig->vm, VM_REQUEST_PANIC, PANICKED);
    rig_settle(rig);
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_PANIC);
}

/* ---- quit ---- */

/* Whether the loop ends by itself: with a quit that waits the loop is idle. */
static void rig_expect_end(Rig *rig)
{
    aio_context_run(rig->vm.ctx);
}

static void a_quit_while_the_machine_is_built_waits_for_nothing(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->vm.built = false;
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    rig_expect_end(rig);
    assert_string_equal(rig_state(rig), "running"); /* no request was made */
}

static void a_quit_during_a_hung_stop_ends_in_time(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->park_hangs = true;
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_settle(rig);
    assert_string_equal(rig_state(rig), "stopping");
    vm_quit(&rig->vm, EXIT_STATUS_TIMEOUT);
    rig_settle(rig);
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    aio_context_set_virtual_time(rig->vm.ctx, 6 * SECOND_NS);
    rig_expect_end(rig);
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_TIMEOUT);
    co_wake(rig->held);
    rig_settle(rig);
}

static RUNS_IN_MAIN void rig_start_job(Rig *rig, SampleJob *s)
{
    JobConfig config = {.id = "job0", .home = rig->vm.ctx};
    job_start(job_new(&sample_job_driver, &config, s, NULL));
    rig_settle(rig);
}

static void a_quit_cancels_the_jobs_first(void **state)
{
    Rig *rig = *state;
    enter_main();
    SampleJob s = {.wants_complete = true};
    rig_start_job(rig, &s);
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    rig_expect_end(rig);
    assert_int_equal(s.aborts, 1);
    assert_int_equal(s.frees, 1);
    assert_string_equal(rig_state(rig), "shutdown");
}

static void a_quit_with_a_hung_job_ends_in_time(void **state)
{
    Rig *rig = *state;
    enter_main();
    SampleJob s = {.clean_yields = true};
    rig_start_job(rig, &s);
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    rig_settle(rig);
    aio_context_set_virtual_time(rig->vm.ctx, 7 * SECOND_NS);
    rig_expect_end(rig);
    sample_job_continue(&s);
    rig_settle(rig);
    assert_int_equal(s.frees, 1);
}

/* The quit waits for its jobs, so that the start is served first. */
static void a_start_during_a_quit_does_not_run_the_guest(void **state)
{
    Rig *rig = *state;
    enter_main();
    SampleJob s = {.wants_complete = true, .clean_yields = true};
    rig_start_job(rig, &s);
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_settle(rig);
    assert_string_equal(rig_state(rig), "paused");
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    run_state_request_start(&rig->vm.run);
    rig_settle(rig);
    assert_int_equal(rig->runs, 1);
    sample_job_continue(&s);
    rig_expect_end(rig);
    assert_string_equal(rig_state(rig), "shutdown");
    assert_int_equal(rig->runs, 1);
}

static void an_earlier_start_request_does_not_run_the_guest(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->park_hangs = true;
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_settle(rig);
    run_state_request_start(&rig->vm.run);
    rig_settle(rig);
    rig->park_hangs = false;
    vm_quit(&rig->vm, EXIT_STATUS_OK);
    co_wake(rig->held);
    rig_expect_end(rig);
    assert_int_equal(rig->runs, 1);
    rig_settle(rig);
    assert_int_equal(rig->runs, 1);
}

static void a_vm_that_ended_does_not_time_out_meanwhile(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->config.life.timeout_s = 2;
    vm_life_init(&rig->vm);
    qmp_events_init(&rig->vm);
    rig->park_hangs = true;
    vm_request(&rig->vm, VM_REQUEST_POWEROFF, 0);
    rig_settle(rig);
    aio_context_set_virtual_time(rig->vm.ctx, 4 * SECOND_NS);
    rig_settle(rig);
    assert_false(rig->vm.life.show_console);
    assert_int_equal(rig->vm.life.exit_status, EXIT_STATUS_OK);
    co_wake(rig->held);
    rig_settle(rig);
}

static unsigned count_words(const char *path, const char *words)
{
    g_autofree char *text = NULL;
    unsigned count = 0;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++) {
        count++;
    }
    return count;
}

static void rig_triple_fault(Rig *rig, int64_t at_ns)
{
    aio_context_set_virtual_time(rig->vm.ctx, at_ns);
    vm_vcpu_event(&rig->vm, VCPU_EVENT_TRIPLE_FAULT);
    rig_settle(rig);
}

static void triple_faults_without_end_are_reported_once(void **state)
{
    Rig *rig = *state;
    g_autofree char *path = g_strdup_printf("%s/skiff-events.%d", g_get_tmp_dir(), (int)getpid());
    enter_main();
    assert_true(log_open(path, false));
    for (unsigned i = 0; i < 1000; i++) {
        rig_triple_fault(rig, 2 * SECOND_NS + i * 1000000);
    }
    assert_int_equal(rig->resets, 1000);
    assert_int_equal(count_words(path, "triple fault: resetting"), 2);
    assert_int_equal(count_words(path, "again and again"), 1);
    for (unsigned i = 0; i < 3; i++) { /* a guest that boots in between is reported again */
        rig_triple_fault(rig, (10 + 2 * i) * SECOND_NS);
    }
    assert_int_equal(count_words(path, "triple fault: resetting"), 5);
    assert_int_equal(count_words(path, "again and again"), 1);
    log_open(NULL, false);
    unlink(path);
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(nmis_of_a_watchdog_do_not_pile_up),
        ON_RIG(a_panic_without_an_action_does_not_drop_a_reset),
        ON_RIG(a_crash_kernel_that_resets_is_reset),
        ON_RIG(a_crash_kernel_does_not_revoke_a_panic),
        ON_RIG(a_panic_that_ends_the_vm_outweighs_the_reset_after_it),
        ON_RIG(a_crash_reported_by_kvm_is_a_panic),
        ON_RIG(requests_of_a_panicked_guest_happen_when_it_resumes),
        ON_RIG(a_request_before_the_vcpu_stops_happens_too),
        ON_RIG(a_users_reset_happens_at_once_and_once),
        ON_RIG(a_panic_during_another_reset_still_pauses),
        ON_RIG(no_reboot_and_no_shutdown_together_pause),
        ON_RIG(no_shutdown_keeps_a_guest_that_panicked),
        ON_RIG(exit_failure_exits_also_under_no_shutdown),
        ON_RIG(a_quit_while_the_machine_is_built_waits_for_nothing),
        ON_RIG(a_quit_during_a_hung_stop_ends_in_time),
        ON_RIG(a_quit_cancels_the_jobs_first),
        ON_RIG(a_quit_with_a_hung_job_ends_in_time),
        ON_RIG(a_start_during_a_quit_does_not_run_the_guest),
        ON_RIG(an_earlier_start_request_does_not_run_the_guest),
        ON_RIG(triple_faults_without_end_are_reported_once),
        ON_RIG(a_vm_that_ended_does_not_time_out_meanwhile),
    };
    return cmocka_run_group_tests_name("vmm/vm/vm_events", tests, NULL, NULL);
}
