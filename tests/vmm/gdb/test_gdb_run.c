/* SPDX-License-Identifier: Apache-2.0 */
/* Stops reported to gdb, and the vCPUs that run afterwards, while an operation such as a dump holds
 * the VM stopped. The two vCPUs are fakes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "tests/support/fake_chardev.h"
#include "tests/support/fake_vm.h"
#include "vmm/gdb/gdb_int.h"
#include "vmm/vcpu/vcpu_int.h"

typedef struct Rig {
    Vm vm;
    VcpuSet set;
    Vcpu vcpus[2];
    Gdb gdb;
    bool held[2];
    FakeChardev *chardev;
    bool ran[2]; /* since rig_forget() */
    bool dumping, dumped;
} Rig;

/* ---- a machine that only stops and starts ---- */

static void rig_co_park(void *opaque)
{
    ((Rig *)opaque)->set.parked = true;
}

static void rig_unpark(void *opaque)
{
    Rig *rig = opaque;
    rig->set.parked = false;
    for (unsigned i = 0; i < 2; i++) {
        rig->ran[i] |= !rig->vcpus[i].held;
    }
}

static void rig_co_turn(void *opaque)
{
    enter_coroutine();
    co_yield_turn();
}

static bool rig_co_start(void *opaque, GError **error)
{
    enter_coroutine();
    co_yield_turn();
    return true;
}

static bool rig_co_reset(void *opaque, GError **error)
{
    Rig *rig = opaque;
    enter_main();
    enter_coroutine();
    co_yield_turn();
    vm_was_reset(&rig->vm);
    return true;
}

static void rig_changed(void *opaque, RunPhase phase, StopReason reason)
{
    Rig *rig = opaque;
    enter_main();
    vm_run_changed(&rig->vm, phase, reason);
}

static const RunStateOps rig_ops = {
    .co_park = rig_co_park,
    .unpark = rig_unpark,
    .co_stop_backends = rig_co_turn,
    .co_start_backends = rig_co_start,
    .co_drain = rig_co_turn,
    .co_reset = rig_co_reset,
    .changed = rig_changed,
};

/* ---- the rig ---- */

/* The reaction of the stub's coroutine to events; the test's calls replace its packets. */
static RUNS_IN_MAIN void rig_turn(Rig *rig)
{
    aio_context_step(rig->vm.ctx, false);
    if (rig->gdb.stopped) {
        rig->gdb.stopped = false;
        gdb_report_stop(&rig->gdb);
    }
}

static RUNS_IN_MAIN void rig_turns(Rig *rig)
{
    for (unsigned i = 0; i < 20; i++) {
        rig_turn(rig);
    }
}

static void rig_forget(Rig *rig)
{
    g_string_truncate(rig->chardev->output, 0);
    rig->ran[0] = rig->ran[1] = false;
}

static void rig_expect_told(Rig *rig, const char *packet)
{
    assert_string_equal(rig->chardev->output->str, packet);
    g_string_truncate(rig->chardev->output, 0);
}

/* A client has connected and resumed a guest that ran before. */
static int rig_setup(void **state)
{
    Rig *rig = g_new0(Rig, 1);
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    rig->vm.ctx = aio_context_new("main", NULL);
    rig->vm.machine.kvm.fd = rig->vm.machine.kvm.vm_fd = -1;
    rig->set = (VcpuSet){.vcpus = rig->vcpus, .count = 2, .parked = true};
    rig->vm.machine.vcpus = &rig->set;
    run_state_init(&rig->vm.run, rig->vm.ctx, &rig_ops, rig);
    rig->chardev = fake_chardev_new("gdb");
    ArchDebugAbilities abilities = {.instruction = true, .execute = true, .watch = true};
    rig->gdb = (Gdb){.vm = &rig->vm,
                     .chardev = &rig->chardev->base,
                     .held = rig->held,
                     .output = g_byte_array_new(),
                     .last = g_byte_array_new(),
                     .session = {.connected = true, .no_ack = true}};
    gdb_breakpoints_init(&rig->gdb.breakpoints, &rig->vm, &abilities);
    gdb_run_init(&rig->gdb);
    run_state_request_start(&rig->vm.run);
    rig_turns(rig);
    gdb_run_enter(&rig->gdb);
    rig_turns(rig);
    gdb_resume(&rig->gdb, (GdbAction[]){GDB_CONTINUE, GDB_CONTINUE});
    rig_turns(rig);
    assert_int_equal(rig->vm.run.phase, RUN_RUNNING);
    rig_forget(rig);
    *state = rig;
    return 0;
}

static int rig_teardown(void **state)
{
    Rig *rig = *state;
    GdbBreakpoints *b = &rig->gdb.breakpoints;
    g_array_unref(b->set);
    g_array_unref(b->software);
    g_array_unref(b->stepped);
    g_free(b->vcpus);
    g_byte_array_unref(rig->gdb.output);
    g_byte_array_unref(rig->gdb.last);
    fake_chardev_free(rig->chardev);
    aio_context_free(rig->vm.ctx);
    g_free(rig);
    return 0;
}

static void rig_dump_body(void *opaque)
{
    Rig *rig = opaque;
    enter_main();
    enter_coroutine();
    vm_operation_begin(&rig->vm.run);
    VmStopped *token = co_vm_stop(&rig->vm.run, STOP_PAUSED);
    while (rig->dumping) {
        co_yield_turn();
    }
    vm_stopped_put(&rig->vm.run, token);
    co_vm_resume(&rig->vm.run);
    vm_operation_end(&rig->vm.run);
    rig->dumped = true;
}

static RUNS_IN_MAIN void rig_dump(Rig *rig)
{
    rig->dumping = true;
    rig->dumped = false;
    co_start(rig->vm.ctx, rig_dump_body, rig);
    rig_turns(rig);
    assert_int_equal(rig->vm.run.phase, RUN_STOPPED);
    rig_expect_told(rig, "");
    rig_forget(rig);
}

static RUNS_IN_MAIN void rig_dump_end(Rig *rig)
{
    rig->dumping = false;
    rig_turns(rig);
    assert_true(rig->dumped);
}

static RUNS_IN_MAIN void rig_breakpoint(Rig *rig, unsigned cpu)
{
    rig->gdb.breakpoints.vcpus[cpu].stop = (GdbStop){.kind = GDB_STOP_STEP};
    run_state_request_stop(&rig->vm.run, STOP_DEBUG); /* as vm_take_events() does */
}

static void leave_body(void *opaque)
{
    enter_main();
    enter_coroutine();
    gdb_co_run_leave(opaque);
}

static RUNS_IN_MAIN void rig_leave(Rig *rig)
{
    rig->gdb.session.connected = false;
    co_start(rig->vm.ctx, leave_body, &rig->gdb);
    rig_turns(rig);
}

static RUNS_IN_MAIN const char *rig_state(const Rig *rig)
{
    return run_state_name(&rig->vm.run);
}

#define TOLD_SIGINT "$T02thread:01;#04"
#define TOLD_STEP_OF_2 "$T05thread:02;#08"

/* ---- a dump ---- */

static void a_dump_is_not_reported_as_a_stop(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_dump(rig);
    rig_dump_end(rig);
    rig_expect_told(rig, "");
    assert_true(rig->ran[0] && rig->ran[1]);
}

static void an_interrupt_during_the_dump_is_answered_at_once_and_nothing_resumes(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_dump(rig);
    gdb_interrupt(&rig->gdb);
    rig_expect_told(rig, TOLD_SIGINT);
    rig_turns(rig);
    rig_dump_end(rig);
    rig_expect_told(rig, "");
    assert_string_equal(rig_state(rig), "paused");
    assert_false(rig->ran[0] || rig->ran[1]);
}

static void a_breakpoint_hit_just_before_is_reported_during_the_dump(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_dump(rig);
    rig_breakpoint(rig, 1);
    rig_turns(rig);
    rig_expect_told(rig, TOLD_STEP_OF_2);
    rig_dump_end(rig);
    rig_expect_told(rig, "");
    assert_string_equal(rig_state(rig), "debug");
    assert_false(rig->ran[0] || rig->ran[1]);
}

static void a_stop_by_another_client_is_reported_during_the_dump(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_dump(rig);
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_turns(rig);
    rig_expect_told(rig, TOLD_SIGINT);
    rig_dump_end(rig);
    rig_leave(rig); /* it was stopped by another client */
    assert_string_equal(rig_state(rig), "paused");
}

static void a_client_that_leaves_after_its_interrupt_lets_the_guest_run(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_dump(rig);
    gdb_interrupt(&rig->gdb);
    rig_turns(rig);
    rig_dump_end(rig);
    rig_leave(rig);
    assert_string_equal(rig_state(rig), "running");
    assert_true(rig->ran[0] && rig->ran[1]);
}

static void a_start_after_an_interrupt_during_the_dump_finds_no_vcpu_held(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_dump(rig);
    gdb_interrupt(&rig->gdb);
    rig_turn(rig);
    run_state_request_start(&rig->vm.run); /* QMP's cont */
    rig_turns(rig);
    rig_dump_end(rig);
    assert_string_equal(rig_state(rig), "running");
    assert_true(rig->ran[0] && rig->ran[1]);
}

static void a_start_revoked_by_another_client_is_a_stop(void **state)
{
    Rig *rig = *state;
    enter_main();
    gdb_interrupt(&rig->gdb);
    rig_turns(rig);
    rig_expect_told(rig, TOLD_SIGINT);
    rig_dump(rig);
    gdb_resume(&rig->gdb, (GdbAction[]){GDB_STEP, GDB_HOLD});
    rig_turns(rig);
    rig_expect_told(rig, "");
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_turns(rig);
    rig_expect_told(rig, TOLD_SIGINT);
    rig_dump_end(rig);
    rig_expect_told(rig, "");
    assert_false(rig->ran[0] || rig->ran[1]);
}

/* ---- a start that has begun ---- */

static void an_interrupt_of_a_start_under_way_finds_every_vcpu_held(void **state)
{
    Rig *rig = *state;
    enter_main();
    gdb_interrupt(&rig->gdb);
    rig_turns(rig);
    rig_forget(rig);
    gdb_resume(&rig->gdb, (GdbAction[]){GDB_CONTINUE, GDB_CONTINUE});
    while (!rig->vm.run.starting) {
        rig_turn(rig);
    }
    gdb_interrupt(&rig->gdb);
    rig_expect_told(rig, TOLD_SIGINT);
    rig_turns(rig);
    rig_expect_told(rig, "");
    assert_string_equal(rig_state(rig), "paused");
    assert_false(rig->ran[0] || rig->ran[1]);
    rig_leave(rig);
    assert_string_equal(rig_state(rig), "running");
    assert_true(rig->ran[0] && rig->ran[1]);
}

/* ---- a reset ---- */

static void a_stop_during_a_reset_is_reported_after_it(void **state)
{
    Rig *rig = *state;
    enter_main();
    run_state_request_reset(&rig->vm.run);
    while (rig->vm.run.phase != RUN_STOPPED) {
        rig_turn(rig);
    }
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    while (rig->vm.run.brief) {
        rig_expect_told(rig, "");
        rig_turn(rig);
    }
    rig_turns(rig);
    rig_expect_told(rig, TOLD_SIGINT);
    assert_string_equal(rig_state(rig), "paused");
    assert_false(rig->ran[0] || rig->ran[1]);
}

/* ---- a client that has gone ---- */

static void a_late_breakpoint_of_a_gone_client_changes_no_reason(void **state)
{
    Rig *rig = *state;
    enter_main();
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_turns(rig);
    rig_leave(rig);
    assert_string_equal(rig_state(rig), "paused");
    rig_breakpoint(rig, 0);
    rig_turns(rig);
    assert_string_equal(rig_state(rig), "paused");
}

static void a_late_breakpoint_of_a_gone_client_keeps_another_stop(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_leave(rig);
    rig_breakpoint(rig, 0);
    run_state_request_stop(&rig->vm.run, STOP_PAUSED);
    rig_turns(rig);
    assert_string_equal(rig_state(rig), "paused");
}

static void a_late_breakpoint_of_a_gone_client_leaves_no_vcpu_parked(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_leave(rig);
    rig_forget(rig);
    rig_breakpoint(rig, 0);
    rig_turns(rig);
    assert_string_equal(rig_state(rig), "running");
    assert_true(rig->ran[0] && rig->ran[1]); /* parked and unparked */
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(a_dump_is_not_reported_as_a_stop),
        ON_RIG(an_interrupt_during_the_dump_is_answered_at_once_and_nothing_resumes),
        ON_RIG(a_breakpoint_hit_just_before_is_reported_during_the_dump),
        ON_RIG(a_stop_by_another_client_is_reported_during_the_dump),
        ON_RIG(a_client_that_leaves_after_its_interrupt_lets_the_guest_run),
        ON_RIG(a_start_after_an_interrupt_during_the_dump_finds_no_vcpu_held),
        ON_RIG(a_start_revoked_by_another_client_is_a_stop),
        ON_RIG(an_interrupt_of_a_start_under_way_finds_every_vcpu_held),
        ON_RIG(a_stop_during_a_reset_is_reported_after_it),
        ON_RIG(a_late_breakpoint_of_a_gone_client_changes_no_reason),
        ON_RIG(a_late_breakpoint_of_a_gone_client_keeps_another_stop),
        ON_RIG(a_late_breakpoint_of_a_gone_client_leaves_no_vcpu_parked),
    };
    return cmocka_run_group_tests_name("vmm/gdb/gdb_run", tests, NULL, NULL);
}
