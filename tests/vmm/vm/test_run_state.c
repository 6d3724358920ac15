/* SPDX-License-Identifier: Apache-2.0 */
/* The run-state machine on a machine of counters. */
#include "tests/support/death.h"
#include "tests/vmm/vm/run_state_rig.h"

static void a_stop_parks_takes_back_and_drains_in_this_order(void **state)
{
    Fake *f = *state;
    enter_main();
    assert_string_equal(run_state_name(&f->rs), "prelaunch");
    run_state_request_start(&f->rs);
    fake_settle(f);
    assert_string_equal(f->log, "hand-over unpark ");
    assert_string_equal(run_state_name(&f->rs), "running");
    f->log[0] = '\0';
    run_state_request_stop(&f->rs, STOP_IO_ERROR);
    fake_settle(f);
    assert_string_equal(f->log, "park take-back drain ");
    assert_string_equal(run_state_name(&f->rs), "io-error");
}

static void requests_made_during_a_stop_share_it(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "stopping");
    for (int i = 0; i < 10; i++) {
        run_state_request_stop(&f->rs, STOP_PAUSED);
        fake_settle(f);
    }
    assert_string_equal(f->log, "park take-back drain ");
    f->hold_drain = false;
    co_wake(f->held);
    fake_settle(f);
    assert_string_equal(f->log, "park take-back drain ");
    assert_string_equal(run_state_name(&f->rs), "paused");
}

static void a_reset_of_a_running_vm_ends_running(void **state)
{
    Fake *f = *state;
    fake_start(f);
    run_state_request_reset(&f->rs);
    fake_settle(f);
    assert_string_equal(f->log, "park take-back drain reset hand-over unpark ");
}

static void a_reset_of_a_paused_vm_ends_paused(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    f->log[0] = '\0';
    run_state_request_reset(&f->rs);
    fake_settle(f);
    assert_string_equal(f->log, "reset ");
    assert_string_equal(run_state_name(&f->rs), "paused");
}

static void a_failed_reset_leaves_the_vm_stopped(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->reset_fails = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "internal-error");
    f->log[0] = '\0';
    f->reset_fails = false;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "running");
}

static void a_reset_with_a_stop_request_ends_stopped(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    f->hold_drain = false;
    co_wake(f->held);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "paused");
    assert_string_equal(f->log, "park take-back drain reset ");
}

static void the_last_of_stop_and_start_counts(void **state)
{
    Fake *f = *state;
    enter_main();
    run_state_request_stop(&f->rs, STOP_PAUSED);
    run_state_request_start(&f->rs);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "running");
    run_state_request_start(&f->rs);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "paused");
}

/* A request that waits for the operation lock also serves later ones of its kind, but not across an
 * opposite request. */
static void the_last_request_counts_also_while_all_wait_for_the_lock(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    run_state_request_start(&f->rs);
    fake_settle(f);
    run_state_request_stop(&f->rs, STOP_IO_ERROR);
    fake_settle(f);
    f->hold_drain = false;
    co_wake(f->held);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "io-error");
    run_state_request_start(&f->rs);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "running");
}

/* A device that requested the stop waits for the next start, to retry. */
static void a_start_does_not_revoke_a_stop(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    run_state_request_stop(&f->rs, STOP_IO_ERROR);
    run_state_request_start(&f->rs);
    fake_settle(f);
    assert_string_equal(f->log, "park take-back drain hand-over unpark ");
    assert_string_equal(run_state_name(&f->rs), "running");
}

static void simultaneous_stops_report_the_most_severe_reason(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    run_state_request_stop(&f->rs, STOP_GUEST_PANICKED);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "guest-panicked");
    fake_start(f);
    run_state_request_stop(&f->rs, STOP_PAUSED);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "paused");
}

static void an_ended_guest_resumes_only_after_a_reset(void **state)
{
    static const StopReason ends[] = {STOP_SHUTDOWN, STOP_INTERNAL_ERROR};
    Fake *f = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++) {
        fake_start(f);
        run_state_request_stop(&f->rs, ends[i]);
        fake_settle(f);
        f->log[0] = '\0';
        run_state_request_start(&f->rs);
        fake_settle(f);
        assert_string_equal(f->log, "");
        run_state_request_reset(&f->rs);
        run_state_request_start(&f->rs);
        fake_settle(f);
        assert_string_equal(f->log, "reset hand-over unpark ");
    }
}

/* However long the lock is held, at most one request of each kind waits. */
static void alternating_requests_do_not_pile_up(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    for (int i = 0; i < 1000; i++) {
        run_state_request_stop(&f->rs, STOP_PAUSED);
        fake_settle(f);
        run_state_request_start(&f->rs);
        fake_settle(f);
        run_state_request_reset(&f->rs);
        fake_settle(f);
        assert_true(f->rs.queued <= RUN_REQUEST_COUNT);
    }
    f->hold_drain = false;
    co_wake(f->held);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "running");
    /* the reset under way; then one more reset, and the last start */
    assert_string_equal(f->log, "park take-back drain reset reset hand-over unpark ");
}

/* ---- waiting for the effect ---- */

typedef struct Settling {
    Fake *f;
    int64_t timeout_ns;
    bool returned, settled;
} Settling;

static void settling_body(void *opaque)
{
    Settling *s = opaque;
    enter_main();
    enter_coroutine();
    s->settled = run_state_co_settle(&s->f->rs, s->timeout_ns);
    s->returned = true;
}

static void a_wait_for_a_stop_ends_when_the_stop_is_done(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    Settling s[] = {{.f = f, .timeout_ns = INT64_C(3600) * 1000000000},
                    {.f = f, .timeout_ns = INT64_C(3600) * 1000000000}};
    run_state_request_stop(&f->rs, STOP_PAUSED);
    co_start(f->ctx, settling_body, &s[0]); /* before the request is served */
    fake_settle(f);
    co_start(f->ctx, settling_body, &s[1]); /* while it is served */
    fake_settle(f);
    assert_false(s[0].returned || s[1].returned);
    f->hold_drain = false;
    co_wake(f->held);
    fake_settle(f);
    assert_true(s[0].settled && s[1].settled);
    s[0] = (Settling){.f = f};
    co_start(f->ctx, settling_body, &s[0]); /* nothing to wait for */
    fake_settle(f);
    assert_true(s[0].settled);
}

typedef struct LateStop {
    Fake *f;
    RunPhase phase; /* when the wait was over */
} LateStop;

static void late_stop_body(void *opaque)
{
    LateStop *s = opaque;
    RunState *rs = &s->f->rs;
    enter_main();
    enter_coroutine();
    run_state_request_stop(rs, STOP_PAUSED);
    assert_true(run_state_co_settle(rs, INT64_C(3600) * 1000000000));
    s->phase = rs->phase;
}

static void a_stop_request_as_a_reset_ends_waits_for_the_stop(void **state)
{
    Fake *f = *state;
    LateStop s = {.f = f, .phase = RUN_RUNNING};
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    co_start(f->ctx, late_stop_body, &s);
    f->hold_drain = false;
    co_wake(f->held); /* the reset ends in the same turn, before the request is served */
    fake_settle(f);
    assert_int_equal(s.phase, RUN_STOPPED);
}

static void a_wait_for_a_hung_stop_ends(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->hold_drain = true;
    Settling s = {.f = f, .timeout_ns = 1};
    run_state_request_stop(&f->rs, STOP_PAUSED);
    co_start(f->ctx, settling_body, &s);
    while (!s.returned) {
        aio_context_step(f->ctx, true);
    }
    assert_false(s.settled);
    assert_string_equal(run_state_name(&f->rs), "stopping");
    f->hold_drain = false;
    co_wake(f->held);
    fake_settle(f);
    assert_string_equal(run_state_name(&f->rs), "paused");
}

/* ---- broken invariants ---- */

static void start_with_token_body(void *opaque)
{
    Fake *f = opaque;
    enter_main();
    enter_coroutine();
    vm_operation_begin(&f->rs);
    co_vm_stop(&f->rs, STOP_PAUSED);
    co_vm_start(&f->rs);
}

/* A vhost back end that the stop has not stopped. */
static void stop_with_memory_user_body(void *opaque)
{
    Fake *f = opaque;
    enter_main();
    enter_coroutine();
    f->rs.phase = RUN_RUNNING;
    vm_operation_begin(&f->rs);
    memory_user_begin("vhost-net n0");
    co_vm_stop(&f->rs, STOP_PAUSED);
}

static void stop_without_lock_body(void *opaque)
{
    Fake *f = opaque;
    enter_main();
    enter_coroutine();
    f->rs.phase = RUN_RUNNING;
    co_vm_stop(&f->rs, STOP_PAUSED);
}

static void stop_in_drained_section_body(void *opaque)
{
    Fake *f = opaque;
    enter_main();
    enter_coroutine();
    f->rs.phase = RUN_RUNNING;
    vm_operation_begin(&f->rs);
    held_push(RANK_DRAINED, f, "a drained section", false);
    co_vm_stop(&f->rs, STOP_PAUSED);
}

static void run_body(void *body)
{
    void *state;
    fake_setup(&state);
    Fake *f = state;
    co_start(f->ctx, (CoroutineEntry *)(uintptr_t)body, f);
    fake_settle(f);
}

/* Break one invariant each, by hand. */
static void break_1(Fake *f)
{
    f->rs.brief = true; /* no task holds the lock */
}

static void break_2(Fake *f)
{
    f->rs.phase = RUN_RUNNING;
    f->rs.starting = true;
    f->rs.operation.owner = co_self();
}

static void break_3(Fake *f)
{
    f->rs.stopped.count = 1;
    f->rs.phase = RUN_RUNNING;
}

static void break_4(Fake *f)
{
    f->rs.starting = true;
    f->rs.operation.owner = co_self();
}

static void break_5(Fake *f)
{
    f->rs.queue[f->rs.queued++] = RUN_REQUEST_RESET; /* and no coroutine serves it */
}

static void break_5_twice(Fake *f)
{
    f->rs.serving = true;
    f->rs.queue[f->rs.queued++] = RUN_REQUEST_RESET;
    f->rs.queue[f->rs.queued++] = RUN_REQUEST_RESET;
}

static void break_7(Fake *f)
{
    f->rs.serving = true;
    f->rs.queue[f->rs.queued++] = RUN_REQUEST_STOP;
}

static void break_8(Fake *f)
{
    f->rs.serving = true;
    f->rs.phase = RUN_RUNNING;
    f->rs.queue[f->rs.queued++] = RUN_REQUEST_START;
    f->rs.queue[f->rs.queued++] = RUN_REQUEST_STOP;
}

static void break_9(Fake *f)
{
    run_state_leave(&f->rs);
    f->rs.run_requested = true;
}

typedef struct Broken {
    void (*breaks)(Fake *f);
    const char *message;
} Broken;

static const Broken broken[] = {
    {break_1, "invariant 1"},     {break_2, "invariant 2"}, {break_3, "invariant 3"},
    {break_4, "invariant 4"},     {break_5, "invariant 5"}, {break_5_twice, "queued twice"},
    {break_7, "invariants 6, 7"}, {break_8, "invariant 8"}, {break_9, "invariant 9"},
};

static void assert_broken(void *opaque)
{
    Fake *f = opaque;
    enter_main();
    enter_coroutine();
    assert_run_state(&f->rs);
    f->breaks(f);
    assert_run_state(&f->rs);
}

static void run_broken(void *opaque)
{
    const Broken *b = opaque;
    void *state;
    fake_setup(&state);
    Fake *f = state;
    f->breaks = b->breaks;
    co_start(f->ctx, assert_broken, f);
    fake_settle(f);
}

static void each_invariant_is_checked(void **state)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(broken); i++) {
        Broken b = broken[i];
        assert_dies(run_broken, &b, b.message);
    }
}

static void the_invariants_abort_when_broken(void **state)
{
    assert_dies(run_body, (void *)(uintptr_t)start_with_token_body, "tokens are out");
    assert_dies(run_body, (void *)(uintptr_t)stop_without_lock_body,
                "without the VM operation lock");
    assert_dies(run_body, (void *)(uintptr_t)stop_with_memory_user_body,
                "counts as stopped while vhost-net n0 accesses guest memory");
    assert_dies(run_body, (void *)(uintptr_t)stop_in_drained_section_body,
                "taken while 'a drained section'");
}

/* ---- the end ---- */

/* At each turn of a slow start. */
static void a_vm_that_quits_during_its_start_does_not_run(void **state)
{
    unsigned undone = 0;
    for (unsigned turns = 0; turns < 8; turns++) {
        Fake *f;
        fake_setup((void **)&f);
        enter_main();
        f->slow = true;
        run_state_request_start(&f->rs);
        take_turns(f, turns);
        bool ran = f->rs.phase == RUN_RUNNING;
        run_state_leave(&f->rs);
        fake_settle(f);
        assert_int_equal(f->rs.phase, ran ? RUN_RUNNING : RUN_STOPPED);
        assert_int_equal(f->unparks, ran ? 1 : 0);
        assert_string_equal(f->announced, ran ? "RESUME " : "");
        undone += strcmp(f->log, "hand-over take-back drain ") == 0;
        assert_false(f->rs.starting || f->rs.serving);
        fake_teardown((void **)&f);
    }
    assert_true(undone > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_invariants_abort_when_broken),
        cmocka_unit_test(each_invariant_is_checked),
        ON_FAKE(a_stop_parks_takes_back_and_drains_in_this_order),
        ON_FAKE(requests_made_during_a_stop_share_it),
        ON_FAKE(a_reset_of_a_running_vm_ends_running),
        ON_FAKE(a_reset_of_a_paused_vm_ends_paused),
        ON_FAKE(a_failed_reset_leaves_the_vm_stopped),
        ON_FAKE(a_reset_with_a_stop_request_ends_stopped),
        ON_FAKE(the_last_of_stop_and_start_counts),
        ON_FAKE(an_ended_guest_resumes_only_after_a_reset),
        ON_FAKE(the_last_request_counts_also_while_all_wait_for_the_lock),
        ON_FAKE(a_start_does_not_revoke_a_stop),
        ON_FAKE(alternating_requests_do_not_pile_up),
        ON_FAKE(a_wait_for_a_stop_ends_when_the_stop_is_done),
        ON_FAKE(a_stop_request_as_a_reset_ends_waits_for_the_stop),
        ON_FAKE(a_wait_for_a_hung_stop_ends),
        ON_FAKE(simultaneous_stops_report_the_most_severe_reason),
        cmocka_unit_test(a_vm_that_quits_during_its_start_does_not_run),
    };
    return cmocka_run_group_tests_name("vmm/vm/run_state", tests, NULL, NULL);
}
