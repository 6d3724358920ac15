/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: stop and start, reset, saved state, unplug, and drivers that break the rules. */
#include "tests/hw/virtio/virtio_net_bench.h"

/* ---- saved state ---- */

static void the_state_table_is_complete(void **state)
{
    GError *error = NULL;
    if (!state_check_coverage(virtio_net_pci_type.state, &error)) {
        fail_msg("%s", error->message);
    }
}

static void a_loaded_nic_goes_on(void **state)
{
    Fixture *f = *state;
    uint8_t off = 0;
    offer(f, 0, 1526);
    assert_int_equal(control(f, 0, 0, &off, 1), ACK_OK);
    assert_int_equal(use_pairs(f, 2), ACK_OK);
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    virtio_bench_reset(f->bench, f->dev);
    virtio_bench_stop(f->bench, f->dev);
    assert_true(f->nic->state.filter.promisc);
    g_autofree char *error = virtio_bench_load(f->bench, f->dev, saved);
    assert_null(error);
    assert_false(f->nic->state.filter.promisc);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->net->applied.queues, 2);
    arrive(f, 0, FRAME_BYTES, 1);
    assert_received(f, 0, f->rx_gpa, FRAME_BYTES, 1);
}

/* Loads the present state after @change. */
static char *load_changed(Fixture *f, void (*change)(VirtioNetState *s))
{
    VirtioNetState kept = f->nic->state;
    change(&f->nic->state);
    GByteArray *saved = virtio_bench_save(f->bench, f->dev);
    f->nic->state = kept;
    char *error = virtio_bench_load(f->bench, f->dev, saved);
    g_byte_array_unref(saved);
    return error;
}

static void more_pairs(VirtioNetState *s)
{
    s->pairs = 5;
}

static void no_pair(VirtioNetState *s)
{
    s->pairs = 0;
}

static void more_multicast(VirtioNetState *s)
{
    s->filter.first_multi = 3;
    s->filter.count = 2;
}

static void other_offloads(VirtioNetState *s)
{
    s->guest_offloads = 1ull << 40;
}

static void impossible_state_is_refused(void **state)
{
    Fixture *f = *state;
    static void (*const changes[])(VirtioNetState *) = {more_pairs, no_pair, more_multicast,
                                                        other_offloads};
    virtio_bench_stop(f->bench, f->dev);
    for (unsigned i = 0; i < G_N_ELEMENTS(changes); i++) {
        VirtioNetState kept = f->nic->state;
        g_autofree char *error = load_changed(f, changes[i]);
        assert_non_null(error);
        assert_non_null(strstr(error, "saved state has"));
        f->nic->state = kept;
    }
}

/* ---- stop, start, reset ---- */

static void frames_flow_after_each_of_many_stops(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t gpa = offer(f, 0, 1526);
        transmit(f, 0, NULL, FRAME_BYTES, i, 0);
        arrive(f, 0, FRAME_BYTES, i);
        virtio_bench_stop(f->bench, f->dev); /* wherever both are */
        virtio_bench_start(f->bench, f->dev);
        assert_received(f, 0, gpa, FRAME_BYTES, i);
        assert_tx_completed(f, 0);
        assert_sent(f, 0, FRAME_BYTES, i);
    }
}

static void frames_flow_after_each_of_many_resets(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 100; i++) {
        offer(f, 0, 1526);
        transmit(f, 0, NULL, FRAME_BYTES, i, 0);
        arrive(f, 0, FRAME_BYTES, i);
        if (i % 3 == 0) {
            virtio_bench_reset(f->bench, f->dev);
        } else {
            virtio_guest_reset(&f->guest);
        }
        while (fake_net_waiting(f->net, 0)) { /* what the NIC has not taken goes to its successor */
            bring_up(f, ALL_FEATURES);
            offer(f, 0, 1526);
            virtio_bench_settle(f->bench);
        }
        bring_up(f, ALL_FEATURES);
        g_bytes_unref(fake_net_take(f->net, 0) ?: g_bytes_new(NULL, 0));
        uint64_t gpa = offer(f, 0, 1526);
        arrive(f, 0, FRAME_BYTES, i + 1);
        assert_received(f, 0, gpa, FRAME_BYTES, i + 1);
        transmit(f, 0, NULL, FRAME_BYTES, i + 2, 0);
        assert_sent(f, 0, FRAME_BYTES, i + 2);
        virtio_guest_reset(&f->guest);
        bring_up(f, ALL_FEATURES);
    }
}

static void an_unplug_in_the_middle_frees_everything(void **state)
{
    Fixture *f = *state;
    offer(f, 0, 200);
    arrive(f, 0, 3000, 1); /* kept */
    fake_net_set_full(f->net, true);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    virtio_bench_settle(f->bench);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
    assert_null(f->net->base.client);
}

/* ---- drivers that break the rules ---- */

static void a_transmit_buffer_without_header_needs_a_reset(void **state)
{
    Fixture *f = *state;
    VringBuffer b = {f->tx_gpa, HEADER_BYTES - 1, false};
    virtio_guest_add(&f->tx[0], &b, 1);
    assert_true(needs_reset(f));
}

static void a_receive_buffer_without_room_for_a_header_needs_a_reset(void **state)
{
    Fixture *f = *state;
    offer(f, 0, HEADER_BYTES - 1);
    arrive(f, 0, FRAME_BYTES, 1);
    assert_true(needs_reset(f));
    virtio_guest_reset(&f->guest);
    bring_up(f, ALL_FEATURES);
    uint64_t gpa = offer(f, 0, 1526);
    assert_received(f, 0, gpa, FRAME_BYTES, 1);
}

static void a_readable_receive_buffer_needs_a_reset(void **state)
{
    Fixture *f = *state;
    VringBuffer b = {f->rx_gpa, 1526, false};
    virtio_guest_add(&f->rx[0], &b, 1);
    assert_true(needs_reset(f));
}

static void frames_of_impossible_sizes_are_dropped(void **state)
{
    Fixture *f = *state;
    static const uint32_t sizes[] = {0, 13, NET_FRAME_MAX - HEADER_BYTES + 1, 100000};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        VringBuffer b = {f->tx_gpa, HEADER_BYTES + sizes[i], false};
        virtio_guest_add(&f->tx[0], &b, 1);
        assert_tx_completed(f, 0);
        assert_nothing_sent(f, 0);
    }
    transmit(f, 0, NULL, 14, 1, 0);
    assert_sent(f, 0, 14, 1);
    assert_false(needs_reset(f));
}

static void headers_that_lie_are_dropped(void **state)
{
    Fixture *f = *state;
    static const NetHeader lies[] = {
        {.flags = NET_HEADER_NEEDS_CSUM, .csum_start = 98, .csum_offset = 1},
        {.flags = NET_HEADER_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff},
        {.gso_type = NET_HEADER_GSO_TCPV4, .gso_size = 0},
        {.gso_type = 2, .gso_size = 100},
        {.gso_type = NET_HEADER_GSO_ECN, .gso_size = 100},
        {.gso_type = 0x7f, .gso_size = 100},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
        transmit(f, 0, &lies[i], FRAME_BYTES, 1, 0);
        assert_tx_completed(f, 0);
        assert_nothing_sent(f, 0);
    }
    assert_false(needs_reset(f));
}

static void offloads_that_were_not_negotiated_are_dropped(void **state)
{
    Fixture *f = *state;
    static const NetHeader lies[] = {
        {.flags = NET_HEADER_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16},
        {.gso_type = NET_HEADER_GSO_TCPV4, .gso_size = 100},
        {.gso_type = NET_HEADER_GSO_TCPV6, .gso_size = 100},
        {.gso_type = NET_HEADER_GSO_UDP, .gso_size = 100},
        {.gso_type = NET_HEADER_GSO_UDP_L4, .gso_size = 100},
    };
    virtio_guest_reset(&f->guest);
    bring_up(f, VIRTIO_NET_F_MRG_RXBUF);
    for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
        transmit(f, 0, &lies[i], FRAME_BYTES, 1, 0);
        assert_tx_completed(f, 0);
        assert_nothing_sent(f, 0);
    }
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    assert_sent(f, 0, FRAME_BYTES, 1);
}

static void queues_that_are_not_set_up_are_ignored(void **state)
{
    Fixture *f = *state;
    virtio_guest_reset(&f->guest);
    assert_true(virtio_guest_negotiate(&f->guest, ALL_FEATURES));
    virtio_guest_queue(&f->guest, &f->tx[0], 1, 0, VIRTIO_NO_VECTOR);
    virtio_guest_driver_ok(&f->guest);
    arrive(f, 0, FRAME_BYTES, 1);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    assert_sent(f, 0, FRAME_BYTES, 1);
    assert_int_equal(fake_net_waiting(f->net, 0), 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        cmocka_unit_test(the_state_table_is_complete),
        T(a_loaded_nic_goes_on),
        T(impossible_state_is_refused),
        T(frames_flow_after_each_of_many_stops),
        T(frames_flow_after_each_of_many_resets),
        T(an_unplug_in_the_middle_frees_everything),
        T(a_transmit_buffer_without_header_needs_a_reset),
        T(a_receive_buffer_without_room_for_a_header_needs_a_reset),
        T(a_readable_receive_buffer_needs_a_reset),
        T(frames_of_impossible_sizes_are_dropped),
        T(headers_that_lie_are_dropped),
        T(offloads_that_were_not_negotiated_are_dropped),
        T(queues_that_are_not_set_up_are_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
