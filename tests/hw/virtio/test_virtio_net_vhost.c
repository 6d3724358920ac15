/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net on the kernel's vhost-net: which queues it serves, and kernels that refuse. */
#include <unistd.h>
#include "tests/hw/virtio/virtio_net_vhost_bench.h"
#include "util/log.h"

/* ---- what runs ---- */

static void the_kernel_serves_the_first_pair(void **state)
{
    Fixture *f = *state;
    bring_up_vhost(f);
    assert_connected(1);
    for (unsigned i = 0; i < 20; i++) {
        assert_kernel_serves(f, 0);
    }
}

static void pairs_follow_the_driver(void **state)
{
    static const uint16_t steps[] = {4, 1, 3, 2, 4, 4, 1};
    Fixture *f = *state;
    bring_up_vhost(f);
    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        assert_int_equal(use_pairs_and_wait(f, steps[i]), ACK_OK);
        assert_connected(steps[i]); /* the command is complete when its effect is */
        assert_int_equal(f->net->applied.queues, steps[i]);
        for (unsigned n = 0; n < steps[i]; n++) {
            assert_kernel_serves(f, n);
        }
    }
    assert_int_equal(use_pairs_and_wait(f, 5), ACK_ERR);
}

static void pairs_are_those_of_before_after_a_stop(void **state)
{
    Fixture *f = *state;
    bring_up_vhost(f);
    use_pairs_and_wait(f, 3);
    for (unsigned i = 0; i < 10; i++) {
        virtio_bench_stop(f->bench, f->dev);
        assert_connected(0);
        virtio_bench_start(f->bench, f->dev);
        assert_connected(3);
        assert_kernel_serves(f, 2);
    }
    bring_up_vhost(f); /* a reset takes them back */
    assert_connected(1);
}

static void the_tap_is_configured_before_the_kernel_reads_it(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_CTRL_VQ);
    await_owner(f, VIRTIO_OWNER_BACK_END);
    assert_int_equal(f->net->applied.receive_offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
    virtio_bench_stop(f->bench, f->dev);
    fake_net_hold_configure(f->net, true);
    bring_up(f, ALL_FEATURES);
    virtio_bench_stop(f->bench, f->dev);
    fake_net_hold_configure(f->net, false);
    assert_connected(0);
}

static void pairs_that_the_tap_refuses_are_not_used(void **state)
{
    Fixture *f = *state;
    bring_up_vhost(f);
    use_pairs_and_wait(f, 2);
    for (unsigned pairs = 1; pairs <= 3; pairs += 2) {
        fake_net_refuse_configure(f->net, 1);
        assert_int_equal(use_pairs_and_wait(f, (uint16_t)pairs), ACK_ERR);
        assert_connected(2);
        assert_kernel_serves(f, 1);
    }
}

/* The kernel would give the driver frames that it does not take. */
static void the_home_loop_serves_when_the_tap_cannot_be_configured(void **state)
{
    Fixture *f = *state;
    fake_net_refuse_configure(f->net, 1);
    bring_up(f, ALL_FEATURES);
    await_owner(f, VIRTIO_OWNER_HOME);
    assert_connected(0);
    assert_home_serves(f);
    bring_up_vhost(f);
    assert_kernel_serves(f, 0);
}

static void without_mq_the_third_queue_is_the_control_queue(void **state)
{
    Fixture *f = *state;
    uint8_t on = 1;
    bring_up(f, ALL_FEATURES & ~VIRTIO_NET_F_MQ);
    await_owner(f, VIRTIO_OWNER_BACK_END);
    assert_connected(1);
    assert_kernel_serves(f, 0);
    assert_int_equal(control(f, 0, 0, &on, 1), ACK_OK);
}

static void what_vhost_lacks_is_not_offered(void **state)
{
    Fixture *f = *state;
    assert_true(virtio_guest_offered(&f->guest) & VIRTIO_NET_F_MRG_RXBUF);
    virtio_bench_unplug(f->bench, f->dev);
    for (unsigned i = 0; i < PAIRS_MAX; i++) {
        fake_vhost_net_dev(i)->features &= ~(VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX);
    }
    f->dev = virtio_bench_device(f->bench, "virtio-net-pci", "netdev=net0,iothread=io");
    f->nic = (VirtioNet *)(void *)f->dev;
    virtio_guest_init(&f->guest, f->bench, f->dev);
    assert_false(virtio_guest_offered(&f->guest) & (VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX));
    assert_true(virtio_guest_offered(&f->guest) & VIRTIO_NET_F_CSUM); /* the tap's */
}

/* ---- the link, and the netdev ---- */

/* The driver's frames are dropped, not kept: it may wait for their buffers. */
static void frames_are_dropped_while_the_link_is_down(void **state)
{
    static const char *const names[] = {"net0", "virtio-net-pci.0"};
    Fixture *f = *state;
    bring_up_vhost(f);
    use_pairs_and_wait(f, 2);
    for (unsigned i = 0; i < 6; i++) {
        assert_true(net_set_link(names[i % 2], false, NULL));
        await_running(f, 0);
        await_owner(f, VIRTIO_OWNER_HOME);
        assert_connected(0);
        for (unsigned pair = 0; pair < 2; pair++) {
            transmit(f, pair, NULL, FRAME_BYTES, 1, 0);
            assert_nothing_sent(f, pair);
            assert_tx_completed(f, pair);
            arrive(f, pair, FRAME_BYTES, 1);
            virtio_bench_settle(f->bench);
            assert_nothing_received(f, pair);
        }
        assert_true(net_set_link(names[i % 2], true, NULL));
        await_running(f, 2);
        assert_connected(2);
        assert_int_equal(fake_vhost_serve(vhost, 0, 1), 0); /* nothing has waited */
        assert_kernel_serves(f, 0);
        assert_kernel_serves(f, 1);
    }
    assert_true(net_set_link("net0", false, NULL)); /* it stays down over a stop */
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    assert_connected(0);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    virtio_bench_settle(f->bench);
    assert_tx_completed(f, 0);
    assert_true(net_set_link("net0", true, NULL));
    await_running(f, 2);
}

/* Each change comes while the last one is carried out. */
static void a_link_that_flaps_ends_where_it_was_left(void **state)
{
    Fixture *f = *state;
    bring_up_vhost(f);
    use_pairs_and_wait(f, 2);
    for (unsigned turns = 0; turns < 40; turns++) {
        for (unsigned i = 0; i < 6; i++) {
            assert_true(net_set_link("net0", i % 2, NULL));
            for (unsigned k = 0; k < turns / (i + 1); k++) {
                aio_context_step(f->bench->main_ctx, false);
                virtio_bench_step(f->bench);
            }
        }
        await_running(f, 2);
        await_owner(f, VIRTIO_OWNER_BACK_END);
        assert_connected(2);
        assert_kernel_serves(f, 1);
        assert_true(net_set_link("net0", false, NULL));
        if (turns % 2) {
            virtio_bench_stop(f->bench, f->dev);
            virtio_bench_start(f->bench, f->dev);
        }
        await_owner(f, VIRTIO_OWNER_HOME);
        assert_connected(0);
        assert_true(net_set_link("net0", true, NULL));
        await_owner(f, VIRTIO_OWNER_BACK_END);
        await_running(f, 2);
    }
}

static void the_netdev_can_be_removed(void **state)
{
    Fixture *f = *state;
    NetStep s = {.text = "net0"};
    bring_up_vhost(f);
    use_pairs_and_wait(f, 4);
    virtio_bench_run(f->bench, net_step_remove, &s);
    assert_true(s.ok);
    assert_connected(0);
    virtio_bench_run(f->bench, fake_vhost_net_leave, NULL); /* as tap does */
    await_owner(f, VIRTIO_OWNER_HOME);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    virtio_bench_settle(f->bench);
    assert_tx_completed(f, 0);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0); /* dropped, as without a netdev */
    assert_tx_completed(f, 0);
}

/* ---- a kernel that refuses, and one that is lost ---- */

static void the_home_loop_serves_when_the_kernel_refuses(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 9; i++) { /* each call of a start */
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = i, .count = 1, .error = ENOMEM});
        bring_up(f, ALL_FEATURES);
        await_owner(f, VIRTIO_OWNER_HOME);
        sys_fault_set(NULL);
        assert_home_serves(f);
    }
    bring_up_vhost(f);
    assert_kernel_serves(f, 0);
}

/* The kernel has connected the receive queue and filled a buffer, when it refuses the transmit queue. */
static void a_refusal_loses_no_position(void **state)
{
    enum { CALLS_BEFORE = 15 }; /* features, memory, 2 vrings of 6 calls, the first connection */
    Fixture *f = *state;
    uint32_t id, len;
    sys_fault_set(&(SysFault){
        .calls = "ioctl", .after = CALLS_BEFORE, .count = 1, .hold = true, .error = ENOMEM});
    bring_up(f, ALL_FEATURES);
    while (!sys_fault_hits()) {
        aio_context_step(f->bench->main_ctx, false);
    }
    sys_fault_await_held();
    offer(f, 0, 2048);
    virtio_guest_kick(&f->rx[0]);
    assert_int_equal(fake_vhost_serve(vhost, 0, 0), 1);
    assert_true(virtio_guest_used(&f->rx[0], &id, &len));
    sys_fault_release();
    await_owner(f, VIRTIO_OWNER_HOME);
    sys_fault_set(NULL);
    uint64_t gpa = offer(f, 0, 2048);
    arrive(f, 0, FRAME_BYTES, 1);
    assert_received(f, 0, gpa, FRAME_BYTES, 1);
}

static void a_pair_that_cannot_be_added_needs_a_reset(void **state)
{
    Fixture *f = *state;
    bring_up_vhost(f);
    sys_fault_set(&(SysFault){.calls = "ioctl", .after = 3, .count = 1, .error = ENOMEM});
    use_pairs_and_wait(f, 2);
    sys_fault_set(NULL);
    assert_true(needs_reset(f));
    assert_connected(0);
    bring_up_vhost(f);
    assert_kernel_serves(f, 0);
}

/* It is back before its loss has been seen to; the queues must not stay with a part that does not run. */
static void a_loss_that_is_over_at_once_is_not_missed(void **state)
{
    Fixture *f = *state;
    VhostDev *dev = fake_vhost_net_dev(0);
    enter_main();
    bring_up_vhost(f);
    dev->reconnects = true;
    vhost_lost(dev, "a loss");
    vhost_came_back(dev);
    do {
        aio_context_step(f->bench->main_ctx, false);
    } while (f->nic->vhost.vhost.working);
    assert_int_equal(dev->phase, VHOST_STOPPED);
    assert_int_equal(memory_users(), 0);
    assert_int_equal(f->nic->vhost.vhost.phase, VIRTIO_VHOST_AWAY); /* its descriptor is closed */
    dev->reconnects = false;
}

/* Another part was lost before, which the driver does not use. */
static void the_log_names_the_part_that_is_lost(void **state)
{
    Fixture *f = *state;
    g_autofree char *path = NULL, *text = NULL;
    enter_main();
    bring_up_vhost(f);
    vhost_lost(fake_vhost_net_dev(PAIRS_MAX - 1), "an old loss");
    close(g_file_open_tmp("skiff-log-XXXXXX", &path, NULL));
    assert_true(log_open(path, false));
    vhost_lost(fake_vhost_net_dev(0), "a loss");
    do {
        aio_context_step(f->bench->main_ctx, false);
    } while (f->nic->vhost.vhost.working);
    assert_true(log_open(NULL, false));
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    unlink(path);
    assert_non_null(strstr(text, "a loss"));
    assert_null(strstr(text, "an old loss"));
    assert_true(needs_reset(f));
}

/* ---- each moment ---- */

enum { RESETS, STOPS, UNPLUGS, LINK_DOWN, REMOVES_NETDEV, ACTIONS };

static RUNS_IN_MAIN void take_one_path(void **state, unsigned turns, unsigned action)
{
    NetStep s = {.text = "net0"};
    uint16_t pairs = 4;
    set_up_vhost(state);
    Fixture *f = *state;
    bring_up_vhost(f);
    control_send(f, 4, 0, &pairs, sizeof(pairs)); /* in progress */
    for (unsigned i = 0; i < turns; i++) {
        aio_context_step(f->bench->main_ctx, false);
        virtio_bench_step(f->bench);
    }
    switch (action) {
    case RESETS:
        virtio_guest_reset(&f->guest);
        assert_connected(0);
        break;
    case STOPS:
        virtio_bench_stop(f->bench, f->dev);
        assert_connected(0);
        virtio_bench_start(f->bench, f->dev);
        break;
    case UNPLUGS:
        virtio_bench_unplug(f->bench, f->dev);
        f->dev = NULL;
        assert_connected(0);
        break;
    case LINK_DOWN:
        assert_true(net_set_link("net0", false, NULL));
        while (control_ack(f) == ACK_NONE) {
            aio_context_step(f->bench->main_ctx, false);
        }
        await_running(f, 0);
        break;
    default:
        virtio_bench_run(f->bench, net_step_remove, &s);
        assert_connected(0);
        break;
    }
    tear_down_vhost(state);
}

static void no_moment_of_a_change_of_pairs_leaves_the_kernel_connected(void **state)
{
    enter_main();
    for (unsigned path = 0; path < 12 * ACTIONS; path++) {
        take_one_path(state, path / ACTIONS, path % ACTIONS);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_vhost, tear_down_vhost)
    static const struct CMUnitTest tests[] = {
        T(the_kernel_serves_the_first_pair),
        T(pairs_follow_the_driver),
        T(pairs_are_those_of_before_after_a_stop),
        T(the_tap_is_configured_before_the_kernel_reads_it),
        T(pairs_that_the_tap_refuses_are_not_used),
        T(the_home_loop_serves_when_the_tap_cannot_be_configured),
        T(without_mq_the_third_queue_is_the_control_queue),
        T(what_vhost_lacks_is_not_offered),
        T(frames_are_dropped_while_the_link_is_down),
        T(a_link_that_flaps_ends_where_it_was_left),
        T(the_netdev_can_be_removed),
        T(the_home_loop_serves_when_the_kernel_refuses),
        T(a_refusal_loses_no_position),
        T(a_pair_that_cannot_be_added_needs_a_reset),
        T(a_loss_that_is_over_at_once_is_not_missed),
        T(the_log_names_the_part_that_is_lost),
        cmocka_unit_test(no_moment_of_a_change_of_pairs_leaves_the_kernel_connected),
    };
    return cmocka_run_group_tests_name("hw/virtio/net_vhost", tests, NULL, NULL);
}
