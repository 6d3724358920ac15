/* SPDX-License-Identifier: Apache-2.0 */
/* Stops and starts requested while an operation has stopped the VM temporarily. */
#include "tests/vmm/vm/run_state_rig.h"

/* The VM is stopped for a dump. */
static RUNS_IN_MAIN void dump_start(Dump *d, Fake *f)
{
    *d = (Dump){.f = f, .hold = true};
    co_start(f->ctx, dump_body, d);
    take_turns(f, 8);
    assert_int_equal(f->rs.phase, RUN_STOPPED);
}

static RUNS_IN_MAIN void dump_end(Dump *d)
{
    d->hold = false;
    fake_settle(d->f);
    assert_true(d->done);
}

static RUNS_IN_MAIN void expect(Fake *f, const char *log, const char *announced, const char *name)
{
    assert_string_equal(f->log, log);
    assert_string_equal(f->announced, announced);
    assert_string_equal(run_state_name(&f->rs), name);
}

/* ---- the requested state after the operation ---- */

static void a_vm_that_ran_resumes(void **state)
{
    Fake *f = *state;
    Dump d;
    enter_main();
    fake_start(f);
    dump_start(&d, f);
    dump_end(&d);
    expect(f, "park take-back drain hand-over unpark ", "STOP(paused) RESUME ", "running");
}

static void a_stop_during_the_operation_keeps_the_vm_stopped(void **state)
{
    Fake *f = *state;
    Dump d;
    enter_main();
    fake_start(f);
    dump_start(&d, f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    take_turns(f, 4);
    dump_end(&d);
    expect(f, "park take-back drain ", "STOP(paused) STOP(paused) ", "paused");
}

static void a_stop_posted_as_the_operation_ends_keeps_the_vm_stopped(void **state)
{
    Fake *f = *state;
    Dump d;
    enter_main();
    fake_start(f);
    dump_start(&d, f);
    d.hold = false; /* ends in the turn that would serve the request */
    run_state_request_stop(&f->rs, STOP_IO_ERROR);
    fake_settle(f);
    expect(f, "park take-back drain ", "STOP(paused) STOP(io-error) ", "io-error");
}

static void a_stop_during_the_operations_own_stop_keeps_the_vm_stopped(void **state)
{
    Fake *f = *state;
    Dump d = {.f = f};
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    co_start(f->ctx, dump_body, &d);
    fake_settle(f);
    run_state_request_stop(&f->rs, STOP_GUEST_PANICKED);
    fake_settle(f);
    assert_true(run_state_stopping(&f->rs));
    co_wake(f->held);
    fake_settle(f);
    expect(f, "park take-back drain ", "STOP(paused) STOP(guest-panicked) ", "guest-panicked");
}

static void a_start_during_the_operation_revokes_the_stop(void **state)
{
    Fake *f = *state;
    Dump d;
    enter_main();
    fake_start(f);
    dump_start(&d, f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    take_turns(f, 4);
    run_state_request_start(&f->rs);
    take_turns(f, 4);
    dump_end(&d);
    expect(f, "park take-back drain hand-over unpark ", "STOP(paused) STOP(paused) RESUME ",
           "running");
}

static void a_start_revoked_by_a_stop_runs_nothing(void **state)
{
    Fake *f = *state;
    Dump d;
    enter_main();
    dump_start(&d, f);
    run_state_request_start(&f->rs);
    take_turns(f, 4);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    take_turns(f, 4);
    dump_end(&d);
    expect(f, "", "STOP(prelaunch) ", "prelaunch");
}

/* ---- waits ---- */

typedef struct Settling {
    Fake *f;
    bool settled;
} Settling;

static void settling_body(void *opaque)
{
    Settling *s = opaque;
    enter_main();
    enter_coroutine();
    s->settled = run_state_co_settle(&s->f->rs, INT64_C(3600) * 1000000000);
}

static void a_wait_for_a_stop_does_not_wait_for_the_operation(void **state)
{
    Fake *f = *state;
    Dump d;
    Settling s = {.f = f};
    enter_main();
    fake_start(f);
    dump_start(&d, f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    assert_false(run_state_stopping(&f->rs)); /* it is stopped already */
    co_start(f->ctx, settling_body, &s);
    take_turns(f, 4);
    assert_true(s.settled && !d.done);
    assert_true(run_state_stays_stopped(&f->rs));
    dump_end(&d);
}

static void a_stop_for_an_operation_is_temporary(void **state)
{
    Fake *f = *state;
    Dump d;
    enter_main();
    fake_start(f);
    dump_start(&d, f);
    assert_false(run_state_stays_stopped(&f->rs));
    dump_end(&d);
    f->reset_fails = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    assert_true(run_state_stays_stopped(&f->rs));
    dump_start(&d, f);
    dump_end(&d);
    assert_string_equal(run_state_name(&f->rs), "internal-error");
}

/* ---- the reason ---- */

static void the_guests_end_outweighs_other_stop_reasons(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    run_state_request_stop(&f->rs, STOP_IO_ERROR);
    fake_settle(f);
    run_state_request_stop(&f->rs, STOP_GUEST_PANICKED);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "io-error");
    run_state_request_stop(&f->rs, STOP_SHUTDOWN);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "shutdown");
    assert_string_equal(f->announced, "STOP(io-error) STOP(io-error) STOP(shutdown) ");
}

static void a_breakpoint_of_a_gone_debugger_changes_no_reason(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    run_state_set_debugged(&f->rs, true);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    run_state_set_debugged(&f->rs, false);
    run_state_request_stop(&f->rs, STOP_DEBUG);
    fake_settle(f);
    expect(f, "park take-back drain ", "STOP(paused) ", "paused");
}

static void a_breakpoint_of_a_gone_debugger_stops_briefly(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    run_state_request_stop(&f->rs, STOP_DEBUG);
    fake_settle(f);
    /* the vCPU that hit it stays halted until it has been parked */
    expect(f, "park take-back drain hand-over unpark ", "", "running");
}

static void a_stop_that_coincides_with_such_a_breakpoint_is_a_stop(void **state)
{
    Fake *f = *state;
    Dump d = {.f = f};
    enter_main();
    fake_start(f);
    run_state_set_debugged(&f->rs, true);
    f->hold_drain = true;
    co_start(f->ctx, dump_body, &d);
    fake_settle(f);
    run_state_request_stop(&f->rs, STOP_DEBUG);
    fake_settle(f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    run_state_set_debugged(&f->rs, false);
    co_wake(f->held);
    fake_settle(f);
    expect(f, "park take-back drain ", "STOP(paused) STOP(paused) ", "paused");
}

static void a_breakpoint_of_a_connected_debugger_is_reported(void **state)
{
    Fake *f = *state;
    Dump d;
    enter_main();
    fake_start(f);
    run_state_set_debugged(&f->rs, true);
    dump_start(&d, f);
    run_state_request_stop(&f->rs, STOP_DEBUG);
    take_turns(f, 4);
    assert_string_equal(run_state_name(&f->rs), "debug");
    dump_end(&d);
    expect(f, "park take-back drain ", "STOP(paused) STOP(debug) ", "debug");
}

/* ---- resets ---- */

static void a_reset_that_ends_stopped_is_reported(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    run_state_request_reset(&f->rs);
    fake_settle(f);
    co_wake(f->held);
    fake_settle(f);
    expect(f, "park take-back drain reset reset ", "STOP(paused) ", "paused");
}

static void a_vm_that_runs_after_a_failed_reset_is_reported(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->reset_fails = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    assert_string_equal(f->announced, "STOP(internal-error) ");
    f->reset_fails = false;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    assert_string_equal(f->announced, "STOP(internal-error) RESUME ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FAKE(a_vm_that_ran_resumes),
        ON_FAKE(a_stop_during_the_operation_keeps_the_vm_stopped),
        ON_FAKE(a_stop_posted_as_the_operation_ends_keeps_the_vm_stopped),
        ON_FAKE(a_stop_during_the_operations_own_stop_keeps_the_vm_stopped),
        ON_FAKE(a_start_during_the_operation_revokes_the_stop),
        ON_FAKE(a_start_revoked_by_a_stop_runs_nothing),
        ON_FAKE(a_wait_for_a_stop_does_not_wait_for_the_operation),
        ON_FAKE(a_stop_for_an_operation_is_temporary),
        ON_FAKE(the_guests_end_outweighs_other_stop_reasons),
        ON_FAKE(a_breakpoint_of_a_gone_debugger_changes_no_reason),
        ON_FAKE(a_breakpoint_of_a_gone_debugger_stops_briefly),
        ON_FAKE(a_stop_that_coincides_with_such_a_breakpoint_is_a_stop),
        ON_FAKE(a_breakpoint_of_a_connected_debugger_is_reported),
        ON_FAKE(a_reset_that_ends_stopped_is_reported),
        ON_FAKE(a_vm_that_runs_after_a_failed_reset_is_reported),
    };
    return cmocka_run_group_tests_name("vmm/vm/run_state, operations", tests, NULL, NULL);
}
