/* SPDX-License-Identifier: Apache-2.0 */
/* Queues that a back end serves: it answers later, and may refuse. */
#include "tests/hw/virtio/virtio_actions.h"
#include "tests/hw/virtio/virtio_back_end_bench.h"
#include "tests/support/death.h"
#include "util/loop/sched_point.h"

/* ---- a start ---- */

static void the_back_end_serves_once_it_has_answered(void **state)
{
    Fixture *f = *state;
    f->be->manual = true;
    bring_up(f);
    offer(f);
    assert_int_equal(owner(f), VIRTIO_OWNER_STARTING);
    assert_int_equal(served_by(f), NOBODY); /* any number of messages later */
    assert_int_equal(owner(f), VIRTIO_OWNER_STARTING);
    back_end_answer(f->be);
    assert_int_equal(owner(f), VIRTIO_OWNER_BACK_END);
    assert_int_equal(served_by(f), BACK_END_MARK);
}

static void a_start_that_is_refused_needs_a_reset(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    virtio_guest_enable_msix(&f->guest);
    f->be->refusal = "no such vring";
    bring_up(f);
    offer(f);
    assert_int_equal(served_by(f), NOBODY);
    assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
    assert_int_equal(virtio_guest_status(&f->guest), 15 | VIRTIO_STATUS_NEEDS_RESET);
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, CONFIG_DATA), 1);
    virtio_guest_set_master(&f->guest, false); /* nothing starts it before the reset */
    virtio_guest_set_master(&f->guest, true);
    assert_int_equal(f->be->starts, 1);
    f->be->refusal = NULL;
    bring_up(f);
    offer(f);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    assert_int_equal(served_by(f), BACK_END_MARK);
}

static void a_device_that_can_do_without_is_served_by_its_home_loop(void **state)
{
    Fixture *f = *state;
    f->be->refusal = "no such vring";
    bring_up(f);
    offer(f);
    assert_int_equal(served_by(f), HOME_MARK);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    f->be->refusal = NULL; /* it is asked again at the next hand-over */
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    offer(f);
    assert_int_equal(served_by(f), BACK_END_MARK);
    f->be->refusal = "out of memory";
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    offer(f);
    assert_int_equal(served_by(f), HOME_MARK);
}

static void a_vm_that_cannot_start_keeps_the_device_as_it_was(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    offer(f);
    f->be->refusal = "no such vring";
    f->be->turns = 3;
    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *text = virtio_bench_try_start(f->bench, f->dev);
        assert_string_equal(text, "virtio-back-end-test: no such vring");
        assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
        virtio_guest_set_master(&f->guest, false); /* it is as stopped as before */
        virtio_guest_set_master(&f->guest, true);
        assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
    }
    virtio_bench_stop(f->bench, f->dev); /* as the run state does */
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    f->be->refusal = NULL;
    virtio_bench_start(f->bench, f->dev);
    assert_int_equal(owner(f), VIRTIO_OWNER_BACK_END); /* the start has waited for it */
    assert_int_equal(served_by(f), BACK_END_MARK);
}

/* ---- what comes before the answer ---- */

/* It has served a request before it found that another queue cannot be served. */
static void a_late_refusal_keeps_the_position(void **state)
{
    Fixture *f = *state;
    VirtioDevice *vdev = &f->be->base.vdev;
    bring_up(f);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    offer(f);
    f->be->refusal = "no such vring";
    f->be->refuses_late = true;
    g_autofree char *text = virtio_bench_try_start(f->bench, f->dev);
    assert_string_equal(text, "virtio-back-end-test: no such vring");
    assert_int_equal(served_by(f), BACK_END_MARK);
    assert_int_equal(vdev->state->queues[0].last_avail, 1);
    assert_int_equal(vdev->state->queues[0].used, 1);
    virtio_bench_stop(f->bench, f->dev);
    f->be->refusal = NULL;
    virtio_bench_start(f->bench, f->dev);
    assert_int_equal(back_end_serve(f->be, 0), 0); /* nothing twice */
    offer(f);
    assert_int_equal(served_by(f), BACK_END_MARK);
}

static void a_reset_waits_for_the_start_and_the_stop(void **state)
{
    Fixture *f = *state;
    IoAccess a, read = {.size = 1};
    f->be->manual = true;
    bring_up(f);
    assert_int_equal(write_status(f, &a, 0), MMIO_DONE);
    assert_int_equal(owner(f), VIRTIO_OWNER_CANCELLING);
    assert_int_equal(virtio_guest_access(&f->guest, f->guest.common + VIRTIO_COMMON_STATUS, &read),
                     MMIO_PENDING);
    virtio_bench_settle(f->bench);
    back_end_answer(f->be);
    assert_int_equal(owner(f), VIRTIO_OWNER_STOPPING);
    virtio_bench_settle(f->bench);
    assert_false(completion_done(&read.waiter.done));
    back_end_answer(f->be);
    assert_true(completion_done(&read.waiter.done));
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    f->be->manual = false;
    bring_up(f);
    offer(f);
    virtio_bench_settle(f->bench);
    assert_int_equal(served_by(f), BACK_END_MARK);
}

static void a_reset_of_a_start_that_is_refused_is_a_reset(void **state)
{
    Fixture *f = *state;
    IoAccess a;
    f->be->manual = true;
    f->be->refusal = "no such vring";
    bring_up(f);
    assert_int_equal(write_status(f, &a, 0), MMIO_DONE);
    back_end_answer(f->be);
    assert_int_equal(f->be->stops, 0); /* it has nothing to stop */
    assert_int_equal(virtio_guest_status(&f->guest), 0);
}

static void clearing_bus_master_waits_for_the_back_end(void **state)
{
    Fixture *f = *state;
    IoAccess a, other;
    f->be->manual = true;
    bring_up(f);
    assert_int_equal(clear_master(f, &a), MMIO_PENDING);
    back_end_answer(f->be);
    virtio_bench_settle(f->bench);
    assert_false(completion_done(&a.waiter.done));
    assert_int_equal(clear_master(f, &other), MMIO_PENDING); /* another vCPU */
    assert_int_equal(f->be->stops, 1);
    back_end_answer(f->be);
    assert_true(completion_done(&a.waiter.done) && completion_done(&other.waiter.done));
    assert_int_equal(clear_master(f, &a), MMIO_DONE);
    offer(f);
    assert_int_equal(served_by(f), NOBODY);
    virtio_guest_set_master(&f->guest, true);
    back_end_answer(f->be);
    assert_int_equal(served_by(f), BACK_END_MARK);
}

static void all_at_once_end_with_one_take_back(void **state)
{
    Fixture *f = *state;
    IoAccess master, reset;
    Stop stop = {.dev = f->dev};
    f->be->manual = true;
    bring_up(f);
    back_end_answer(f->be);
    assert_int_equal(clear_master(f, &master), MMIO_PENDING);
    assert_int_equal(write_status(f, &reset, 0), MMIO_DONE);
    co_start(f->bench->main_ctx, stop_run, &stop);
    virtio_bench_settle(f->bench);
    assert_false(stop.done);
    assert_int_equal(f->be->stops, 1);
    back_end_answer(f->be);
    virtio_bench_settle(f->bench);
    assert_true(stop.done);
    assert_true(completion_done(&master.waiter.done));
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    assert_int_equal(f->be->starts, 1);
}

static void the_device_can_be_unplugged_before_the_answer(void **state)
{
    Fixture *f = *state;
    f->be->turns = 5;
    bring_up(f);
    assert_int_equal(owner(f), VIRTIO_OWNER_STARTING);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
}

/* ---- each moment, each answer ---- */

/* The device serves each request once, in every order of events. */
static RUNS_IN_MAIN void take_one_path(const DeviceType *type, const char *refusal,
                                       unsigned answer_turns, unsigned turns, unsigned action)
{
    Fixture *f = fixture_new(type);
    f->be->turns = answer_turns;
    f->be->refusal = refusal;
    bring_up(f);
    offer(f);
    for (unsigned i = 0; i < turns; i++) {
        virtio_bench_step(f->bench);
    }
    virtio_act(&f->guest, f->bench, f->dev, action);
    if (action == UNPLUGS) {
        f->dev = NULL;
        fixture_free(f);
        return;
    }
    if (action != DOES_NOTHING) { /* all of them have taken the queues back by now */
        assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
    }
    f->be->refusal = NULL;
    if (action == STOPS) {
        virtio_bench_start(f->bench, f->dev);
    }
    virtio_guest_set_master(&f->guest, true);
    virtio_bench_settle(f->bench);
    if (virtio_guest_status(&f->guest) != 15) { /* reset, or in need of one */
        virtio_guest_init(&f->guest, f->bench, f->dev);
        bring_up(f);
        offer(f);
    }
    virtio_bench_settle(f->bench);
    char by = served_by(f);
    assert_true(by == BACK_END_MARK ||
                (by == HOME_MARK && refusal && type == &back_end_fallback_type));
    offer(f);
    assert_int_not_equal(served_by(f), NOBODY);
    fixture_free(f);
}

static void no_moment_leaves_it_half_started(void **state)
{
    const DeviceType *types[] = {&back_end_type, &back_end_fallback_type, &back_end_mixed_type};
    enter_main();
    for (unsigned path = 0; path < 3 * 2 * 3 * 6 * ACTIONS; path++) {
        unsigned rest = path / 6;
        take_one_path(types[path % 3], path / 3 % 2 ? "no such vring" : NULL, rest % 3,
                      rest / 3 % 6, rest / 18);
    }
}

/* ---- a queue that the home loop keeps ---- */

static void both_serve_and_positions_pass(void **state)
{
    Fixture *f = *state;
    f->be->manual = true;
    bring_up(f);
    offer_in(f, BACK_END_HOME_QUEUE);
    assert_int_equal(served_in(f, BACK_END_HOME_QUEUE),
                     NOBODY); /* not before the back end's answer */
    back_end_answer(f->be);
    assert_int_equal(served_in(f, BACK_END_HOME_QUEUE), HOME_MARK);
    f->be->manual = false;
    for (unsigned i = 0; i < 20; i++) {
        offer(f);
        assert_int_equal(served_by(f), BACK_END_MARK);
        offer_in(f, BACK_END_HOME_QUEUE);
        assert_int_equal(served_in(f, BACK_END_HOME_QUEUE), HOME_MARK);
        virtio_bench_stop(f->bench, f->dev);
        assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
        virtio_bench_start(f->bench, f->dev);
    }
}

/* The home loop answers a stop first, or last. */
static RUNS_IN_MAIN void stop_with_order(Fixture *f, bool home_first)
{
    Stop stop = {.dev = f->dev};
    sched_point_hold("virtio.command");
    co_start(f->bench->main_ctx, stop_run, &stop);
    while (owner(f) != VIRTIO_OWNER_STOPPING) {
        virtio_bench_step(f->bench);
    }
    sched_point_await("virtio.command");
    if (!home_first) {
        back_end_answer(f->be);
        virtio_bench_step(f->bench);
        assert_int_equal(owner(f), VIRTIO_OWNER_STOPPING);
        assert_false(stop.done);
    }
    sched_point_release("virtio.command");
    virtio_bench_settle(f->bench);
    if (home_first) {
        assert_int_equal(owner(f), VIRTIO_OWNER_STOPPING);
        assert_false(stop.done);
        back_end_answer(f->be);
    }
    virtio_bench_settle(f->bench);
    assert_true(stop.done);
    assert_int_equal(owner(f), VIRTIO_OWNER_MAIN);
}

static void a_stop_waits_for_both_answers(void **state)
{
    Fixture *f = *state;
    enter_main();
    bring_up(f);
    virtio_bench_settle(f->bench);
    for (unsigned i = 0; i < 4; i++) {
        f->be->manual = true;
        stop_with_order(f, i % 2 == 0);
        f->be->manual = false;
        virtio_bench_start(f->bench, f->dev);
        virtio_bench_settle(f->bench);
        offer_in(f, BACK_END_HOME_QUEUE);
        assert_int_equal(served_in(f, BACK_END_HOME_QUEUE), HOME_MARK);
    }
    sched_point_reset();
}

/* ---- taking back ---- */

static void positions_pass_from_one_owner_to_the_next(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_bench_settle(f->bench);
    for (unsigned i = 0; i < 40; i++) { /* the rings have 16 entries */
        f->be->refusal = i % 3 == 1 ? "busy" : NULL;
        virtio_bench_stop(f->bench, f->dev);
        offer(f);
        virtio_bench_start(f->bench, f->dev);
        assert_int_equal(served_by(f), i % 3 == 1 ? HOME_MARK : BACK_END_MARK);
    }
}

static void a_back_end_that_breaks_needs_a_reset(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_bench_settle(f->bench);
    virtio_back_end_broken(&f->be->base.vdev, "the peer is gone");
    assert_int_equal(virtio_guest_status(&f->guest), 15 | VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(owner(f), VIRTIO_OWNER_BACK_END);
    bring_up(f);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    offer(f);
    assert_int_equal(served_by(f), BACK_END_MARK);
}

/* ---- rules ---- */

static void answers_twice(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    virtio_back_end_started(&f->be->base.vdev, NULL);
}

static void stops_unasked(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    virtio_back_end_stopped(&f->be->base.vdev);
}

static void an_answer_nobody_asked_for_aborts(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_bench_settle(f->bench);
    assert_dies(answers_twice, f, "not asked for");
    assert_dies(stops_unasked, f, "not asked for");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define FALLBACK(name) cmocka_unit_test_setup_teardown(name, set_up_fallback, tear_down)
#define MIXED(name) cmocka_unit_test_setup_teardown(name, set_up_mixed, tear_down)
    static const struct CMUnitTest tests[] = {
        T(the_back_end_serves_once_it_has_answered),
        T(a_start_that_is_refused_needs_a_reset),
        FALLBACK(a_device_that_can_do_without_is_served_by_its_home_loop),
        T(a_vm_that_cannot_start_keeps_the_device_as_it_was),
        T(a_late_refusal_keeps_the_position),
        T(a_reset_waits_for_the_start_and_the_stop),
        T(a_reset_of_a_start_that_is_refused_is_a_reset),
        T(clearing_bus_master_waits_for_the_back_end),
        T(all_at_once_end_with_one_take_back),
        T(the_device_can_be_unplugged_before_the_answer),
        cmocka_unit_test(no_moment_leaves_it_half_started),
        MIXED(both_serve_and_positions_pass),
        MIXED(a_stop_waits_for_both_answers),
        FALLBACK(positions_pass_from_one_owner_to_the_next),
        T(a_back_end_that_breaks_needs_a_reset),
        T(an_answer_nobody_asked_for_aborts),
    };
    return cmocka_run_group_tests_name("hw/virtio/back_end", tests, NULL, NULL);
}
