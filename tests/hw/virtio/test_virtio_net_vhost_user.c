/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net on -netdev vhost-user: what is offered, which rings are enabled, and a switch that restarts. */
#include "hw/chardev/chardev_set.h"
#include "hw/net/net_vhost_user.h"
#include "tests/hw/virtio/virtio_net_bench.h"
#include "tests/support/vhost_user_peer.h"

/* A chardev of this name may be claimed by its user only, which is how a test provides one. */
#define CHARDEV "netdev net0"
#define NETDEV "vhost-user,id=net0,chardev=" CHARDEV
#define SWITCH_FEATURES                                                                            \
    (PEER_FEATURES | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_TSO4)

static FakeChardev *chardev;
static VhostUserPeer *peer;

static void make_peer(Fixture *f)
{
    if (chardev == NULL) { /* it can be provided once */
        chardev = fake_chardev_new_socket(CHARDEV, f->bench->main_ctx);
        chardev_provide(&chardev->base, "the test");
    }
    fake_chardev_set_ctx(chardev, f->bench->main_ctx);
    peer = vhost_user_peer_new(chardev);
    peer->features = SWITCH_FEATURES;
    peer->protocol &= ~(1ull << VHOST_USER_PROTOCOL_F_CONFIG);
    peer->units = 2;
}

static int set_up_switch(void **state)
{
    static const NetType *const types[] = {&net_vhost_user_type, NULL};
    set_up_machine(state);
    Fixture *f = *state;
    net_setup(types, f->bench->main_ctx);
    make_peer(f);
    return 0;
}

static int set_up_nic(void **state)
{
    set_up_switch(state);
    Fixture *f = *state;
    NetStep s = {.text = NETDEV ",queues=2"};
    vhost_user_peer_connect(peer);
    virtio_bench_run(f->bench, net_step_add, &s);
    assert_true(s.ok);
    f->dev = virtio_bench_device(f->bench, "virtio-net-pci", "netdev=net0,mq=on,iothread=io");
    f->nic = (VirtioNet *)(void *)f->dev;
    f->pairs = f->nic->pairs;
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    return 0;
}

static int tear_down_switch(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
        f->dev = NULL;
    }
    virtio_bench_run(f->bench, net_step_shutdown, NULL);
    vhost_user_peer_free(peer);
    virtio_bench_settle(f->bench);
    fake_chardev_set_ctx(chardev, NULL);
    return tear_down(state);
}

static bool link_is_up(Fixture *f)
{
    return virtio_guest_read(&f->guest, f->guest.config + 6, 2) & 1;
}

static unsigned enabled_rings(void)
{
    unsigned rings = 0;
    for (unsigned i = 0; i < PEER_RINGS; i++) {
        rings |= peer->rings[i].started && peer->rings[i].enabled ? 1u << i : 0;
    }
    return rings;
}

/* A buffer that the driver offers to the receive ring of pair 0 is filled. */
static bool receives(Fixture *f)
{
    uint32_t id, len;
    offer(f, 0, 2000);
    virtio_bench_settle(f->bench);
    vhost_user_peer_serve(peer, 0);
    return virtio_guest_used(&f->rx[0], &id, &len) && len == 2000;
}

static void features_are_those_of_the_switch(void **state)
{
    Fixture *f = *state;
    uint64_t offered = virtio_guest_offered(&f->guest);
    assert_true(offered & VIRTIO_NET_F_MRG_RXBUF);
    assert_true(offered & VIRTIO_NET_F_CSUM);
    assert_true(offered & VIRTIO_NET_F_HOST_TSO4);
    assert_true(offered & VIRTIO_NET_F_MQ);
    assert_true(offered & VIRTIO_NET_F_STATUS);
    assert_false(offered & (VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_F_EVENT_IDX));
    bring_up(f, ALL_FEATURES);
    assert_true(peer->acked_features & VIRTIO_NET_F_MRG_RXBUF);
    assert_false(peer->acked_features & VIRTIO_NET_F_STATUS); /* it has no such feature */
}

static void rings_of_pairs_in_use_are_enabled(void **state)
{
    Fixture *f = *state;
    bring_up(f, ALL_FEATURES);
    assert_int_equal(enabled_rings(), 3);
    assert_true(receives(f));
    assert_int_equal(use_pairs(f, 2), ACK_OK);
    virtio_bench_settle(f->bench);
    assert_int_equal(enabled_rings(), 15);
    assert_int_equal(use_pairs(f, 1), ACK_OK);
    virtio_bench_settle(f->bench);
    assert_int_equal(enabled_rings(), 3);
    virtio_bench_stop(f->bench, f->dev);
    assert_int_equal(enabled_rings(), 0);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_int_equal(enabled_rings(), 3);
    assert_true(receives(f));
}

static void a_switch_that_restarts(void **state)
{
    Fixture *f = *state;
    bring_up(f, ALL_FEATURES);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(receives(f));
        assert_true(link_is_up(f));
        vhost_user_peer_kill(peer);
        virtio_bench_settle(f->bench);
        assert_false(link_is_up(f));
        assert_int_equal(virtio_guest_status(&f->guest), 15); /* no reset is needed */
        assert_int_equal(use_pairs(f, 1 + i % 2), ACK_OK);    /* and nothing waits for it */
        if (i == 1) {
            virtio_bench_stop(f->bench, f->dev);
            virtio_bench_start(f->bench, f->dev);
        }
        if (i == 2) {
            virtio_guest_reset(&f->guest);
            bring_up(f, ALL_FEATURES);
        }
        vhost_user_peer_connect(peer);
        virtio_bench_settle(f->bench);
        assert_true(link_is_up(f));
    }
    assert_true(receives(f));
}

/* Steps main until the queues have owner @wanted. */
static void await_owner(Fixture *f, VirtioOwner wanted)
{
    while (f->nic->base.vdev.owner != wanted) {
        aio_context_step(f->bench->main_ctx, true);
    }
    virtio_bench_settle(f->bench);
}

static void assert_frames_are_dropped(Fixture *f)
{
    uint32_t id, len;
    await_owner(f, VIRTIO_OWNER_HOME);
    assert_int_equal(enabled_rings(), 0);
    assert_false(link_is_up(f));
    for (unsigned i = 0; i < 5; i++) {
        transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
        virtio_bench_settle(f->bench);
        assert_tx_completed(f, 0);
    }
    offer(f, 0, 2000);
    virtio_bench_settle(f->bench);
    assert_int_equal(vhost_user_peer_serve(peer, 0), 0); /* what comes is the switch's to drop */
    assert_false(virtio_guest_used(&f->rx[0], &id, &len));
}

static void frames_are_dropped_while_the_link_is_set_down(void **state)
{
    static const char *const names[] = {"net0", "virtio-net-pci.0"};
    Fixture *f = *state;
    enter_main();
    bring_up(f, ALL_FEATURES);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(net_set_link(names[i % 2], false, NULL));
        assert_frames_are_dropped(f);
        if (i > 1) { /* also over a stop, and a switch that restarts */
            virtio_bench_stop(f->bench, f->dev);
            vhost_user_peer_kill(peer);
            virtio_bench_start(f->bench, f->dev);
            assert_frames_are_dropped(f);
            vhost_user_peer_connect(peer);
            virtio_bench_settle(f->bench);
            assert_frames_are_dropped(f);
        }
        assert_true(net_set_link(names[i % 2], true, NULL));
        await_owner(f, VIRTIO_OWNER_BACK_END);
        assert_int_equal(enabled_rings(), 3);
        assert_true(link_is_up(f));
        assert_int_equal(vhost_user_peer_serve(peer, 1), 0); /* no frame has waited */
        vhost_user_peer_serve(peer, 0);                      /* the buffer from before */
        uint32_t id, len;
        while (virtio_guest_used(&f->rx[0], &id, &len)) {
        }
        assert_true(receives(f));
    }
}

/* Unlike in QEMU a switch that restarts gets the frames that the guest has sent meanwhile. */
static void frames_wait_for_a_switch_that_is_not_there(void **state)
{
    Fixture *f = *state;
    bring_up(f, ALL_FEATURES);
    vhost_user_peer_kill(peer);
    virtio_bench_settle(f->bench);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->nic->base.vdev.owner, VIRTIO_OWNER_BACK_END);
    vhost_user_peer_connect(peer);
    virtio_bench_settle(f->bench);
    assert_int_equal(vhost_user_peer_serve(peer, 1), 1);
}

static void a_switch_that_hangs_holds_neither_a_stop_nor_a_reset(void **state)
{
    Fixture *f = *state;
    bring_up(f, ALL_FEATURES);
    peer->mute = VHOST_USER_GET_VRING_BASE;
    IoAccess a = {.size = 1, .is_write = true, .value = 0};
    virtio_guest_access(&f->guest, f->guest.common + VIRTIO_COMMON_STATUS, &a);
    virtio_bench_settle(f->bench);
    fake_machine_advance(f->bench->machine, 5000000000ll);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    assert_false(link_is_up(f));
}

static void the_netdev_is_removed_from_a_running_nic(void **state)
{
    Fixture *f = *state;
    NetStep s = {.text = "net0"};
    bring_up(f, ALL_FEATURES);
    virtio_bench_run(f->bench, net_step_remove, &s);
    assert_true(s.ok);
    virtio_bench_settle(f->bench);
    assert_int_equal(peer->fd, -1);
    assert_frames_are_dropped(f);
    virtio_guest_reset(&f->guest);
}

static void a_switch_with_too_few_queues_is_refused(void **state)
{
    Fixture *f = *state;
    NetStep s = {.text = NETDEV ",queues=3"};
    vhost_user_peer_connect(peer);
    virtio_bench_run(f->bench, net_step_add, &s);
    assert_false(s.ok);
    assert_non_null(strstr(s.error->message, "the back end serves 4 queues, the device has 6"));
    g_error_free(s.error);
}

#define NIC(test) cmocka_unit_test_setup_teardown(test, set_up_nic, tear_down_switch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        NIC(features_are_those_of_the_switch),
        NIC(rings_of_pairs_in_use_are_enabled),
        NIC(a_switch_that_restarts),
        NIC(frames_are_dropped_while_the_link_is_set_down),
        NIC(frames_wait_for_a_switch_that_is_not_there),
        NIC(a_switch_that_hangs_holds_neither_a_stop_nor_a_reset),
        NIC(the_netdev_is_removed_from_a_running_nic),
        cmocka_unit_test_setup_teardown(a_switch_with_too_few_queues_is_refused, set_up_switch,
                                        tear_down_switch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
