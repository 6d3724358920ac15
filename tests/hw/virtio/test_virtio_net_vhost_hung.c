/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net on a vhost-net whose calls hang. They are given up; as long as the kernel may go on with them, and use the
 * rings then, nobody else serves these.
 */
#include "tests/hw/virtio/virtio_net_vhost_bench.h"

#define FIVE_SECONDS 5000000000ll

/* Steps main until no kernel that was given up is left. */
static void await_no_kernel_that_lingers(Fixture *f)
{
    while (atomic_load(&f->nic->vhost.vhost.lingering->count) != 0) {
        aio_context_step(f->bench->main_ctx, true);
    }
}

static void a_pair_that_hangs_is_given_up(void **state)
{
    Fixture *f = *state;
    uint16_t one = 1;
    bring_up_vhost(f);
    use_pairs_and_wait(f, 2);
    sys_fault_set(&(SysFault){.calls = "ioctl", .count = 1, .hold = true});
    control_send(f, 4, 0, &one, sizeof(one));
    while (!sys_fault_hits()) {
        aio_context_step(f->bench->main_ctx, false);
    }
    sys_fault_await_held();
    fake_machine_advance(f->bench->machine, FIVE_SECONDS);
    await_running(f, 1);
    assert_int_equal(memory_users(), 1);
    sys_fault_release();
    await_no_kernel_that_lingers(f); /* what hung ends, and closes it */
    while (control_ack(f) == ACK_NONE) {
        aio_context_step(f->bench->main_ctx, false);
    }
    use_pairs_and_wait(f, 2);
    assert_true(needs_reset(f));
    assert_connected(0);
    bring_up_vhost(f); /* the first pair still has its kernel, the second has not */
    assert_kernel_serves(f, 0);
}

/* Waits until a call of the kernel hangs; it is given up when this returns. */
static void give_up_the_hung_call(Fixture *f)
{
    while (!sys_fault_hits()) {
        aio_context_step(f->bench->main_ctx, false);
    }
    sys_fault_await_held();
    fake_machine_advance(f->bench->machine, FIVE_SECONDS);
    while (atomic_load(&f->nic->vhost.vhost.lingering->count) == 0 || f->nic->vhost.vhost.working) {
        aio_context_step(f->bench->main_ctx, false);
    }
    virtio_bench_settle(f->bench);
}

/* The kernel has connected the receive queue, and hangs with the transmit queue. */
static void nobody_serves_rings_that_a_hung_kernel_has(void **state)
{
    enum { CALLS_BEFORE = 15 }; /* features, memory, 2 vrings of 6 calls, the first connection */
    Fixture *f = *state;
    enter_main();
    sys_fault_set(&(SysFault){.calls = "ioctl", .after = CALLS_BEFORE, .count = 1, .hold = true});
    bring_up(f, ALL_FEATURES);
    give_up_the_hung_call(f);
    assert_int_equal(f->nic->base.vdev.owner, VIRTIO_OWNER_MAIN);
    assert_true(needs_reset(f));
    assert_true(vhost->instances[0].vrings[0].connected);
    assert_int_equal(memory_users(), 0); /* a stop does not wait for it */
    bring_up(f, ALL_FEATURES);           /* the driver tries again */
    assert_int_equal(f->nic->base.vdev.owner, VIRTIO_OWNER_MAIN);
    assert_true(needs_reset(f));
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);           /* it does not fail */
    assert_true(net_set_link("net0", false, NULL)); /* the home loop would drop frames */
    bring_up(f, ALL_FEATURES);
    assert_true(needs_reset(f));
    assert_true(net_set_link("net0", true, NULL));
    sys_fault_release();
    sys_fault_set(NULL);
    await_no_kernel_that_lingers(f);
    assert_false(vhost->instances[0].vrings[0].connected);
    bring_up(f, ALL_FEATURES);
    await_owner(f, VIRTIO_OWNER_HOME);
    assert_home_serves(f);
}

static void a_stop_that_hangs_leaves_the_rings_to_the_kernel(void **state)
{
    Fixture *f = *state;
    bring_up_vhost(f);
    sys_fault_set(&(SysFault){.calls = "ioctl", .count = 1, .hold = true}); /* the disconnection */
    net_set_link("net0", false, NULL);
    give_up_the_hung_call(f);
    assert_true(needs_reset(f));
    assert_true(vhost->instances[0].vrings[0].connected);
    sys_fault_release();
    sys_fault_set(NULL);
    await_no_kernel_that_lingers(f);
    net_set_link("net0", true, NULL);
    bring_up(f, ALL_FEATURES);
    await_owner(f, VIRTIO_OWNER_HOME);
    assert_home_serves(f);
}

/* Later calls of the same batch would connect the rings, or pass it descriptors. */
static void a_kernel_that_was_given_up_gets_no_more_calls(void **state)
{
    Fixture *f = *state;
    sys_fault_set(&(SysFault){.calls = "ioctl", .after = 2, .count = 1, .hold = true});
    bring_up(f, ALL_FEATURES); /* it hangs with the first of the six calls of a vring */
    give_up_the_hung_call(f);
    g_string_truncate(vhost->calls, 0);
    sys_fault_release();
    sys_fault_set(NULL);
    await_no_kernel_that_lingers(f);
    assert_string_equal(vhost->calls->str, "num");
}

/* The NIC stays without a network, and its rings with the kernel, also when the netdev does not exist any more. */
static void a_netdev_with_a_hung_kernel_can_be_removed(void **state)
{
    Fixture *f = *state;
    NetStep s = {.text = "net0"};
    bring_up_vhost(f);
    sys_fault_set(&(SysFault){.calls = "ioctl", .count = 1, .hold = true});
    co_start(f->bench->main_ctx, net_step_remove, &s);
    give_up_the_hung_call(f);
    while (!s.ok) {
        aio_context_step(f->bench->main_ctx, false);
    }
    fake_machine_advance(f->bench->machine, FIVE_SECONDS);
    virtio_bench_run(f->bench, fake_vhost_net_leave, NULL); /* as tap does */
    virtio_bench_settle(f->bench);
    assert_int_equal(f->nic->base.vdev.owner, VIRTIO_OWNER_MAIN);
    assert_true(needs_reset(f));
    bring_up(f, ALL_FEATURES);
    assert_true(needs_reset(f));
    sys_fault_release();
    sys_fault_set(NULL);
    await_no_kernel_that_lingers(f);
    bring_up(f, ALL_FEATURES);
    await_owner(f, VIRTIO_OWNER_HOME);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0); /* dropped, as without a netdev */
    virtio_bench_settle(f->bench);
    assert_tx_completed(f, 0);
}

/* The device may be gone before the kernel is. */
static void a_nic_with_a_hung_kernel_can_be_unplugged(void **state)
{
    Fixture *f = *state;
    sys_fault_set(&(SysFault){.calls = "ioctl", .count = 1, .hold = true});
    bring_up(f, ALL_FEATURES);
    give_up_the_hung_call(f);
    VhostLingering *l = f->nic->vhost.vhost.lingering;
    atomic_fetch_add(&l->references, 1);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
    assert_int_equal(atomic_load(&l->count), 1);
    sys_fault_release();
    while (atomic_load(&l->count) != 0) {
        aio_context_step(f->bench->main_ctx, true);
    }
    vhost_lingering_unref(l);
}

static void pairs_that_hang_are_given_up_together(void **state)
{
    Fixture *f = *state;
    bring_up_vhost(f);
    use_pairs_and_wait(f, PAIRS_MAX);
    sys_fault_set(&(SysFault){.calls = "ioctl", .hold = true});
    assert_true(net_set_link("net0", false, NULL));
    for (unsigned i = 0; i < 10; i++) { /* the calls are under way */
        aio_context_step(f->bench->main_ctx, false);
    }
    fake_machine_advance(f->bench->machine, FIVE_SECONDS); /* one limit for all of them */
    for (unsigned i = 0; i < 10; i++) {
        aio_context_step(f->bench->main_ctx, false);
    }
    unsigned running = f->nic->vhost.vhost.running, users = memory_users();
    sys_fault_release();
    sys_fault_set(NULL);
    assert_int_equal(running, 0);
    assert_int_equal(users, 0);
    await_running(f, 0);
    await_no_kernel_that_lingers(f);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_vhost, tear_down_vhost)
    static const struct CMUnitTest tests[] = {
        T(a_pair_that_hangs_is_given_up),
        T(nobody_serves_rings_that_a_hung_kernel_has),
        T(a_stop_that_hangs_leaves_the_rings_to_the_kernel),
        T(a_kernel_that_was_given_up_gets_no_more_calls),
        T(a_netdev_with_a_hung_kernel_can_be_removed),
        T(a_nic_with_a_hung_kernel_can_be_unplugged),
        T(pairs_that_hang_are_given_up_together),
    };
    return cmocka_run_group_tests_name("hw/virtio/net_vhost_hung", tests, NULL, NULL);
}
