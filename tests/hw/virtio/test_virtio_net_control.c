/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: features, config space, link, the control queue and the receive filter. */
#include "tests/hw/virtio/virtio_net_bench.h"

static const uint8_t broadcast[NET_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t own_mac[NET_MAC_BYTES] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
static const uint8_t other_mac[NET_MAC_BYTES] = {0x02, 1, 2, 3, 4, 5};
static const uint8_t multi_mac[NET_MAC_BYTES] = {0x01, 0x00, 0x5e, 1, 2, 3};
static const uint8_t multi_mac2[NET_MAC_BYTES] = {0x33, 0x33, 0, 0, 0, 1};

/* Whether a frame to @mac, with VLAN tag @vlan (-1: none), reaches the guest. */
static bool passes(Fixture *f, const uint8_t *mac, int vlan)
{
    uint8_t frame[FRAME_BYTES];
    uint32_t id, len;
    offer(f, 0, 1526);
    make_frame(frame, sizeof(frame), mac, 1);
    if (vlan >= 0) {
        frame[12] = 0x81;
        frame[13] = 0;
        frame[14] = (uint8_t)(0xe0 | vlan >> 8); /* with a priority */
        frame[15] = (uint8_t)vlan;
    }
    fake_net_push(f->net, 0, NULL, frame, sizeof(frame));
    return virtio_guest_used(&f->rx[0], &id, &len);
}

static uint8_t set_mode(Fixture *f, uint8_t mode, uint8_t on)
{
    return control(f, 0, mode, &on, 1);
}

/* MAC_TABLE_SET with lists of @uni and @multi addresses, each @mac with its last byte counted up. */
static uint8_t set_table(Fixture *f, const uint8_t *uni, uint32_t unis, const uint8_t *multi,
                         uint32_t multis)
{
    uint8_t data[3000], *at = data;
    memcpy(at, &unis, 4);
    at += 4;
    for (uint32_t i = 0; i < unis; i++, at += NET_MAC_BYTES) {
        memcpy(at, uni, NET_MAC_BYTES);
        at[5] = (uint8_t)(at[5] + i);
    }
    memcpy(at, &multis, 4);
    at += 4;
    for (uint32_t i = 0; i < multis; i++, at += NET_MAC_BYTES) {
        memcpy(at, multi, NET_MAC_BYTES);
        at[5] = (uint8_t)(at[5] + i);
    }
    return control(f, 1, 0, data, (uint32_t)(at - data));
}

enum { PROMISC, ALLMULTI, ALLUNI, NOMULTI, NOUNI, NOBCAST };

/* ---- the filter ---- */

static void everything_passes_until_the_driver_filters(void **state)
{
    Fixture *f = *state;
    assert_true(passes(f, other_mac, -1));
    assert_true(passes(f, multi_mac, 5));
    assert_int_equal(set_mode(f, PROMISC, 0), ACK_OK);
    assert_true(passes(f, own_mac, -1));
    assert_true(passes(f, broadcast, -1));
    assert_false(passes(f, other_mac, -1));
    assert_false(passes(f, multi_mac, -1));
    assert_int_equal(set_mode(f, PROMISC, 1), ACK_OK);
    assert_true(passes(f, other_mac, -1));
}

static void modes_let_kinds_of_addresses_pass(void **state)
{
    Fixture *f = *state;
    set_mode(f, PROMISC, 0);
    set_mode(f, ALLMULTI, 1);
    assert_true(passes(f, multi_mac, -1));
    assert_false(passes(f, other_mac, -1));
    set_mode(f, ALLUNI, 1);
    assert_true(passes(f, other_mac, -1));
    set_mode(f, NOMULTI, 1);
    assert_false(passes(f, multi_mac, -1));
    assert_true(passes(f, broadcast, -1));
    set_mode(f, NOUNI, 1);
    assert_false(passes(f, own_mac, -1));
    set_mode(f, NOBCAST, 1);
    assert_false(passes(f, broadcast, -1));
    assert_int_equal(set_mode(f, 6, 1), ACK_ERR);
}

static void the_table_lists_addresses(void **state)
{
    Fixture *f = *state;
    set_mode(f, PROMISC, 0);
    assert_int_equal(set_table(f, other_mac, 1, multi_mac, 1), ACK_OK);
    assert_true(passes(f, other_mac, -1));
    assert_true(passes(f, multi_mac, -1));
    assert_false(passes(f, multi_mac2, -1));
    assert_int_equal(set_table(f, NULL, 0, NULL, 0), ACK_OK);
    assert_false(passes(f, other_mac, -1));
}

static void a_table_that_is_too_long_lets_its_kind_pass(void **state)
{
    Fixture *f = *state;
    set_mode(f, PROMISC, 0);
    assert_int_equal(set_table(f, other_mac, 65, multi_mac, 64), ACK_OK);
    assert_true(passes(f, (const uint8_t[]){2, 9, 9, 9, 9, 9}, -1));
    assert_false(passes(f, multi_mac2, -1));
    assert_int_equal(set_table(f, other_mac, 2, multi_mac, 63), ACK_OK);
    assert_false(passes(f, (const uint8_t[]){2, 9, 9, 9, 9, 9}, -1));
    assert_true(passes(f, multi_mac2, -1));
    assert_true(passes(f, other_mac, -1));
}

static void vlans_are_filtered(void **state)
{
    Fixture *f = *state;
    uint16_t vlan = 4095, bad = 4096;
    set_mode(f, PROMISC, 0);
    assert_true(passes(f, own_mac, -1));
    assert_false(passes(f, own_mac, 4095));
    assert_int_equal(control(f, 2, 0, &vlan, 2), ACK_OK);
    assert_true(passes(f, own_mac, 4095));
    assert_false(passes(f, own_mac, 0));
    assert_int_equal(control(f, 2, 1, &vlan, 2), ACK_OK);
    assert_false(passes(f, own_mac, 4095));
    assert_int_equal(control(f, 2, 0, &bad, 2), ACK_ERR);
}

static void without_ctrl_vlan_all_vlans_pass(void **state)
{
    Fixture *f = *state;
    uint16_t vlan = 1;
    virtio_guest_reset(&f->guest);
    bring_up(f, ALL_FEATURES & ~VIRTIO_NET_F_CTRL_VLAN);
    set_mode(f, PROMISC, 0);
    assert_true(passes(f, own_mac, 77));
    assert_int_equal(control(f, 2, 0, &vlan, 2), ACK_ERR);
}

static void the_driver_sets_its_address(void **state)
{
    Fixture *f = *state;
    set_mode(f, PROMISC, 0);
    assert_int_equal(control(f, 1, 1, other_mac, 6), ACK_OK);
    assert_true(passes(f, other_mac, -1));
    assert_false(passes(f, own_mac, -1));
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config, 1), 0x02);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 5, 1), 5);
    virtio_guest_reset(&f->guest);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config, 1), 0x52);
}

static void commands_with_wrong_data_change_nothing(void **state)
{
    Fixture *f = *state;
    uint8_t data[32] = {0};
    set_mode(f, PROMISC, 0);
    assert_int_equal(set_table(f, other_mac, 1, multi_mac, 1), ACK_OK);
    assert_int_equal(control(f, 0, PROMISC, data, 2), ACK_ERR);
    assert_int_equal(control(f, 0, PROMISC, data, 0), ACK_ERR);
    assert_int_equal(control(f, 1, 0, data, 4), ACK_ERR);  /* one list only */
    assert_int_equal(control(f, 1, 0, data, 12), ACK_ERR); /* more than two lists */
    data[0] = 2;
    assert_int_equal(control(f, 1, 0, data, 12), ACK_ERR); /* a list with too few addresses */
    memset(data, 0xff, sizeof(data));
    assert_int_equal(control(f, 1, 0, data, 32), ACK_ERR); /* 4 G addresses */
    assert_int_equal(control(f, 1, 1, data, 5), ACK_ERR);
    assert_int_equal(control(f, 2, 0, data, 1), ACK_ERR);
    assert_int_equal(control(f, 3, 1, data, 0), ACK_ERR);
    assert_int_equal(control(f, 4, 0, data, 2), ACK_ERR);
    assert_int_equal(control(f, 5, 0, data, 8), ACK_ERR);
    assert_int_equal(control(f, 6, 0, data, 8), ACK_ERR);
    assert_true(passes(f, other_mac, -1));
    assert_false(passes(f, multi_mac2, -1));
    assert_false(needs_reset(f));
}

static void a_command_without_its_head_needs_a_reset(void **state)
{
    Fixture *f = *state;
    VringBuffer chain[] = {{f->control_gpa, 1, false}, {f->control_gpa + 8, 1, true}};
    virtio_guest_add(&f->control, chain, 2);
    assert_true(needs_reset(f));
}

static void a_command_without_room_for_its_ack_needs_a_reset(void **state)
{
    Fixture *f = *state;
    VringBuffer chain[] = {{f->control_gpa, 3, false}};
    virtio_guest_add(&f->control, chain, 1);
    assert_true(needs_reset(f));
}

/* ---- pairs ---- */

static void the_driver_uses_more_pairs(void **state)
{
    Fixture *f = *state;
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 8, 2), 4);
    assert_int_equal(f->net->applied.queues, 1);
    offer(f, 2, 1526);
    arrive(f, 2, FRAME_BYTES, 1);
    assert_nothing_received(f, 2);
    assert_int_equal(use_pairs(f, 4), ACK_OK);
    assert_int_equal(f->net->applied.queues, 4);
    assert_received(f, 2, f->rx_gpa, FRAME_BYTES, 1);
    transmit(f, 3, NULL, FRAME_BYTES, 1, 0);
    assert_sent(f, 3, FRAME_BYTES, 1);
    assert_int_equal(use_pairs(f, 5), ACK_ERR);
    assert_int_equal(use_pairs(f, 0), ACK_ERR);
    assert_int_equal(use_pairs(f, 2), ACK_OK);
    offer(f, 2, 1526);
    arrive(f, 2, FRAME_BYTES, 2);
    assert_nothing_received(f, 2);
    virtio_guest_reset(&f->guest);
    bring_up(f, ALL_FEATURES);
    assert_int_equal(f->net->applied.queues, 1);
}

static void the_control_queue_without_mq_is_the_third(void **state)
{
    Fixture *f = *state;
    virtio_guest_reset(&f->guest);
    bring_up(f, ALL_FEATURES & ~VIRTIO_NET_F_MQ);
    assert_int_equal(f->control.index, 2);
    assert_int_equal(set_mode(f, PROMISC, 1), ACK_OK);
    assert_int_equal(use_pairs(f, 2), ACK_ERR);
}

static void a_command_is_acknowledged_when_the_back_end_has_applied_it(void **state)
{
    Fixture *f = *state;
    uint16_t pairs = 3;
    fake_net_hold_configure(f->net, true);
    control_send(f, 4, 0, &pairs, 2);
    assert_int_equal(control_ack(f), ACK_NONE);
    offer(f, 0, 1526);
    arrive(f, 0, FRAME_BYTES, 1);
    assert_nothing_received(f, 0);
    fake_net_hold_configure(f->net, false);
    assert_int_equal(control_ack(f), ACK_OK);
    assert_received(f, 0, f->rx_gpa, FRAME_BYTES, 1);
}

/* The command fails, and all is as before. */
static void what_the_host_refuses_is_an_error(void **state)
{
    Fixture *f = *state;
    uint64_t none = 0;
    assert_int_equal(use_pairs(f, 2), ACK_OK);
    uint32_t offloads = f->net->applied.receive_offloads;
    assert_int_not_equal(offloads, 0);
    for (unsigned times = 1; times <= 2; times++) { /* the second time, also the way back */
        fake_net_refuse_configure(f->net, times);
        assert_int_equal(use_pairs(f, 4), ACK_ERR);
        assert_int_equal(f->nic->state.pairs, 2);
        fake_net_refuse_configure(f->net, times);
        assert_int_equal(use_pairs(f, 1), ACK_ERR);
        assert_int_equal(f->nic->state.pairs, 2);
        fake_net_refuse_configure(f->net, times);
        assert_int_equal(control(f, 5, 0, &none, sizeof(none)), ACK_ERR);
        assert_int_equal(f->net->applied.receive_offloads, offloads);
    }
    assert_int_equal(f->net->applied.queues, 2);
    for (unsigned pair = 0; pair < 2; pair++) {
        uint64_t gpa = offer(f, pair, 1526);
        arrive(f, pair, FRAME_BYTES, pair);
        assert_received(f, pair, gpa, FRAME_BYTES, pair);
    }
    assert_int_equal(use_pairs(f, 4), ACK_OK); /* it is asked again */
    assert_int_equal(f->net->applied.queues, 4);
    assert_int_equal(control(f, 5, 0, &none, sizeof(none)), ACK_OK);
    assert_int_equal(f->net->applied.receive_offloads, 0);
}

static void do_stop(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    virtio_pci_co_stop(f->dev);
    f->rx_next = 1000;
}

static void a_stop_waits_for_the_command_in_progress(void **state)
{
    Fixture *f = *state;
    uint16_t pairs = 3;
    fake_net_hold_configure(f->net, true);
    control_send(f, 4, 0, &pairs, 2);
    virtio_bench_settle(f->bench);
    co_start(f->bench->main_ctx, do_stop, f);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->rx_next, 0);
    fake_net_hold_configure(f->net, false);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->rx_next, 1000);
    virtio_bench_start(f->bench, f->dev);
    assert_int_equal(control_ack(f), ACK_OK);
    assert_int_equal(f->net->applied.queues, 3);
}

/* ---- offloads ---- */

static void offloads_are_those_of_driver_and_back_end(void **state)
{
    Fixture *f = *state;
    uint64_t offloads = VIRTIO_NET_F_GUEST_CSUM;
    assert_int_equal(f->net->applied.receive_offloads, 0x7f);
    assert_int_equal(control(f, 5, 0, &offloads, 8), ACK_OK);
    assert_int_equal(f->net->applied.receive_offloads, NET_OFFLOAD_CSUM);
    offloads = VIRTIO_NET_F_GUEST_TSO4; /* without what it needs */
    assert_int_equal(control(f, 5, 0, &offloads, 8), ACK_OK);
    assert_int_equal(f->net->applied.receive_offloads, 0);
    virtio_guest_reset(&f->guest);
    bring_up(f, ALL_FEATURES & ~VIRTIO_NET_F_GUEST_TSO6);
    assert_int_equal(f->net->applied.receive_offloads, 0x7f & ~NET_OFFLOAD_TSO6);
    offloads = VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO6;
    assert_int_equal(control(f, 5, 0, &offloads, 8), ACK_ERR);
}

static uint64_t offered_with(Fixture *f, const char *netdev, const char *properties)
{
    add_nic(f, netdev, properties);
    return virtio_guest_offered(&f->guest);
}

static void a_back_end_without_offloads_offers_none(void **state)
{
    Fixture *f = *state;
    uint64_t offered = offered_with(f, "offloads=off", NULL);
    assert_false(offered & (VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_HOST_TSO4 |
                            VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_HOST_USO | VIRTIO_NET_F_MQ));
    assert_true(offered & VIRTIO_NET_F_MRG_RXBUF);
    assert_true(offered & VIRTIO_NET_F_MAC);
}

static void a_feature_is_not_offered_without_those_that_it_needs(void **state)
{
    Fixture *f = *state;
    uint64_t offered = offered_with(f, "queues=2", "mq=on,csum=off,guest_csum=off,ctrl_vq=off");
    assert_false(offered & (VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_MQ |
                            VIRTIO_NET_F_CTRL_RX | VIRTIO_NET_F_CTRL_MAC_ADDR |
                            VIRTIO_NET_F_GUEST_ANNOUNCE | VIRTIO_NET_F_CTRL_VQ));
}

static void queues_of_the_back_end_are_used_with_mq_only(void **state)
{
    Fixture *f = *state;
    uint64_t offered = offered_with(f, "queues=4", NULL);
    assert_false(offered & VIRTIO_NET_F_MQ);
    assert_int_equal(f->nic->pairs, 1);
}

/* ---- config space, link ---- */

static unsigned status(Fixture *f)
{
    return (unsigned)virtio_guest_read(&f->guest, f->guest.config + 6, 2);
}

static void the_guest_sees_the_link(void **state)
{
    Fixture *f = *state;
    enter_main();
    unsigned before = virtio_guest_common_read(&f->guest, VIRTIO_COMMON_GENERATION, 1);
    assert_int_equal(status(f), 1);
    assert_true(net_set_link("net0", false, NULL));
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.isr, 1) & VIRTIO_ISR_CONFIG,
                     VIRTIO_ISR_CONFIG);
    assert_int_equal(status(f), 0);
    assert_int_not_equal(virtio_guest_common_read(&f->guest, VIRTIO_COMMON_GENERATION, 1), before);
    assert_true(net_set_link("net0", true, NULL));
    assert_int_equal(status(f), 1);
}

static void the_guest_is_asked_to_announce_itself(void **state)
{
    Fixture *f = *state;
    enter_main();
    virtio_net_client_ops.announce(&f->nic->client);
    assert_int_equal(status(f), 3);
    assert_int_equal(control(f, 3, 0, NULL, 0), ACK_OK);
    assert_int_equal(status(f), 1);
    assert_int_equal(control(f, 3, 0, NULL, 0), ACK_ERR); /* nothing to acknowledge */
}

static void config_has_mtu_speed_and_duplex(void **state)
{
    Fixture *f = *state;
    uint64_t offered = offered_with(f, "", "host_mtu=9000,speed=10000,duplex=full");
    assert_true(offered & VIRTIO_NET_F_MTU);
    assert_true(offered & VIRTIO_NET_F_SPEED_DUPLEX);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 10, 2), 9000);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 12, 4), 10000);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 16, 1), 1);
}

static void properties_are_checked(void **state)
{
    Fixture *f = *state;
    static const char *const wrong[][2] = {
        {"mac=52:54:00:12:34", "an address is needed"},
        {"mac=52:54:00:12:34:5g", "an address is needed"},
        {"mac=52:54:00:12:34:567", "an address is needed"},
        {"mac=01:00:5e:00:00:01", "multicast"},
        {"netdev=nothing", "no -netdev with id=nothing"},
        {"rx_queue_size=300", "power of two"},
        {"tx_queue_size=128", "power of two"},
        {"host_mtu=67", "below 68"},
        {"speed=-2", "speed="},
        {"iothread=nothing", "no -object iothread"},
        {"duplex=no", "duplex"},
        {"rss=on", "rss"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        Device *dev = NULL;
        g_autofree char *error =
            virtio_bench_try_device(f->bench, "virtio-net-pci", wrong[i][0], NULL, &dev);
        assert_non_null(error);
        if (strstr(error, wrong[i][1]) == NULL) {
            fail_msg("'%s' lacks '%s'", error, wrong[i][1]);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define M(name) cmocka_unit_test_setup_teardown(name, set_up_machine, tear_down)
        T(everything_passes_until_the_driver_filters),
        T(modes_let_kinds_of_addresses_pass),
        T(the_table_lists_addresses),
        T(a_table_that_is_too_long_lets_its_kind_pass),
        T(vlans_are_filtered),
        T(without_ctrl_vlan_all_vlans_pass),
        T(the_driver_sets_its_address),
        T(commands_with_wrong_data_change_nothing),
        T(a_command_without_its_head_needs_a_reset),
        T(a_command_without_room_for_its_ack_needs_a_reset),
        T(the_driver_uses_more_pairs),
        T(the_control_queue_without_mq_is_the_third),
        T(a_command_is_acknowledged_when_the_back_end_has_applied_it),
        T(what_the_host_refuses_is_an_error),
        T(a_stop_waits_for_the_command_in_progress),
        T(offloads_are_those_of_driver_and_back_end),
        M(a_back_end_without_offloads_offers_none),
        M(a_feature_is_not_offered_without_those_that_it_needs),
        M(queues_of_the_back_end_are_used_with_mq_only),
        T(the_guest_sees_the_link),
        T(the_guest_is_asked_to_announce_itself),
        M(config_has_mtu_speed_and_duplex),
        M(properties_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
