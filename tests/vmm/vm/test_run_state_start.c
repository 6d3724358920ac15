/* SPDX-License-Identifier: Apache-2.0 */
/* A start that fails: a device's back end refuses its queues. */
#include "tests/support/death.h"
#include "tests/vmm/vm/run_state_rig.h"

static void the_vm_stays_stopped_and_its_backends_are_stopped_again(void **state)
{
    Fake *f = *state;
    enter_main();
    f->slow = true;
    f->start_fails = true;
    run_state_request_start(&f->rs);
    fake_settle(f);
    assert_string_equal(f->log, "hand-over take-back drain ");
    assert_int_equal(f->rs.phase, RUN_STOPPED);
    assert_true(run_state_stays_stopped(&f->rs));
    assert_string_equal(run_state_qemu_name(&f->rs), "io-error");
    assert_string_equal(f->announced, "STOP(io-error) ");
    assert_string_equal(f->rs.start_error, "net0: no back end");
}

static void the_next_start_tries_again(void **state)
{
    Fake *f = *state;
    enter_main();
    f->start_fails = true;
    run_state_request_start(&f->rs);
    fake_settle(f);
    f->start_fails = false;
    run_state_request_start(&f->rs);
    fake_settle(f);
    assert_int_equal(f->rs.phase, RUN_RUNNING);
    assert_int_equal(f->unparks, 1);
    assert_string_equal(f->rs.start_error, "");
}

static void an_operation_that_stopped_the_vm_ends_with_it_stopped(void **state)
{
    Fake *f = *state;
    Dump d = {.f = f};
    enter_main();
    fake_start(f);
    f->start_fails = true;
    co_start(f->ctx, dump_body, &d);
    fake_settle(f);
    assert_true(d.done);
    assert_string_equal(f->log, "park take-back drain hand-over take-back drain ");
    assert_string_equal(f->announced, "STOP(paused) STOP(io-error) ");
    assert_true(run_state_stays_stopped(&f->rs));
}

static void a_reset_under_an_operation_ends_stopped(void **state)
{
    Fake *f = *state;
    enter_main();
    fake_start(f);
    f->start_fails = true;
    run_state_request_reset(&f->rs);
    fake_settle(f);
    assert_string_equal(f->announced, "STOP(io-error) ");
    f->start_fails = false;
    f->log[0] = '\0';
    run_state_request_reset(&f->rs); /* no start was requested since */
    fake_settle(f);
    assert_string_equal(f->log, "reset ");
    assert_int_equal(f->rs.phase, RUN_STOPPED);
}

/* At each turn of the start. */
static void a_stop_or_quit_during_the_start_is_served(void **state)
{
    for (unsigned turns = 0; turns < 8; turns++) {
        for (unsigned leaves = 0; leaves < 2; leaves++) {
            Fake *f;
            fake_setup((void **)&f);
            enter_main();
            f->slow = true;
            f->start_fails = true;
            run_state_request_start(&f->rs);
            take_turns(f, turns);
            if (leaves) {
                run_state_leave(&f->rs);
            } else {
                run_state_request_stop(&f->rs, STOP_PAUSED);
            }
            fake_settle(f);
            assert_int_equal(f->rs.phase, RUN_STOPPED);
            assert_int_equal(f->unparks, 0);
            assert_false(f->rs.starting || f->rs.run_requested || f->rs.queued);
            fake_teardown((void **)&f);
        }
    }
}

static void run_unchecked(void *opaque)
{
    void *state;
    fake_setup(&state);
    Fake *f = state;
    enter_main();
    f->start_fails = true;
    run_state_request_start(&f->rs);
    fake_settle(f);
    f->rs.run_requested = true;
    assert_run_state(&f->rs);
}

static void the_invariant_aborts_when_broken(void **state)
{
    assert_dies(run_unchecked, NULL, "invariant 10");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FAKE(the_vm_stays_stopped_and_its_backends_are_stopped_again),
        ON_FAKE(the_next_start_tries_again),
        ON_FAKE(an_operation_that_stopped_the_vm_ends_with_it_stopped),
        ON_FAKE(a_reset_under_an_operation_ends_stopped),
        ON_FAKE(the_invariant_aborts_when_broken),
        ON_FAKE(a_stop_or_quit_during_the_start_is_served),
    };
    return cmocka_run_group_tests_name("vmm/vm/run_state, start", tests, NULL, NULL);
}
