/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: frames in both directions, and what does not fit. */
#include "tests/hw/virtio/virtio_net_bench.h"

/* ---- sending ---- */

static void a_frame_is_sent_whatever_its_pieces(void **state)
{
    Fixture *f = *state;
    static const uint32_t pieces[] = {0, HEADER_BYTES, 1, 5, 64};
    for (unsigned i = 0; i < G_N_ELEMENTS(pieces); i++) {
        transmit(f, 0, NULL, FRAME_BYTES, i, pieces[i]);
        assert_sent(f, 0, FRAME_BYTES, i);
        assert_tx_completed(f, 0);
    }
}

/* As many pieces as a chain can have. */
static void a_frame_of_many_pieces_is_sent(void **state)
{
    Fixture *f = *state;
    transmit(f, 0, NULL, 256 - HEADER_BYTES, 9, 1);
    assert_sent(f, 0, 256 - HEADER_BYTES, 9);
}

static void a_full_back_end_delays_frames_and_loses_none(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    fake_net_set_full(f->net, true);
    transmit(f, 1, NULL, FRAME_BYTES, 1, 0);
    virtio_bench_settle(f->bench);
    assert_false(virtio_guest_used(&f->tx[1], &id, &len));
    fake_net_set_full(f->net, false);
    assert_sent(f, 1, FRAME_BYTES, 1);
    assert_tx_completed(f, 1);
    transmit(f, 1, NULL, FRAME_BYTES, 2, 0);
    assert_sent(f, 1, FRAME_BYTES, 2);
}

static void a_full_back_end_delays_no_stop(void **state)
{
    Fixture *f = *state;
    fake_net_set_full(f->net, true);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    virtio_bench_stop(f->bench, f->dev); /* returns */
    fake_net_set_full(f->net, false);
    assert_nothing_sent(f, 0);
    virtio_bench_start(f->bench, f->dev);
    assert_sent(f, 0, FRAME_BYTES, 1);
}

static void a_send_error_drops_the_frame(void **state)
{
    Fixture *f = *state;
    fake_net_set_send_error(f->net, EINVAL);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    assert_tx_completed(f, 0);
    fake_net_set_send_error(f->net, 0);
    assert_nothing_sent(f, 0);
    assert_int_equal(f->nic->client.dropped, 1);
}

static void the_header_of_a_checksum_reaches_the_back_end(void **state)
{
    Fixture *f = *state;
    NetHeader h = {.flags = NET_HEADER_NEEDS_CSUM | NET_HEADER_DATA_VALID,
                   .gso_type = NET_HEADER_GSO_TCPV4,
                   .gso_size = 1448,
                   .hdr_len = 54,
                   .csum_start = 34,
                   .csum_offset = 16,
                   .num_buffers = 7};
    transmit(f, 0, &h, FRAME_BYTES, 1, 0);
    virtio_bench_settle(f->bench);
    g_autoptr(GBytes) got = fake_net_take(f->net, 0);
    assert_non_null(got);
    h.flags = NET_HEADER_NEEDS_CSUM; /* the others are not the driver's */
    h.num_buffers = 0;
    assert_memory_equal(g_bytes_get_data(got, NULL), &h, sizeof(h));
}

static void the_largest_frame_is_sent(void **state)
{
    Fixture *f = *state;
    NetHeader h = {.gso_type = NET_HEADER_GSO_TCPV4, .gso_size = 1448};
    transmit(f, 0, &h, 65550, 3, 4096);
    assert_sent(f, 0, 65550, 3);
}

/* What arrives is not behind all that the guest sends. */
static void sending_and_receiving_take_turns(void **state)
{
    Fixture *f = *state;
    uint64_t gpa = offer(f, 0, 1526);
    virtio_bench_stop(f->bench, f->dev);
    for (unsigned i = 0; i < 64; i++) {
        transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    }
    arrive(f, 0, FRAME_BYTES, 5);
    virtio_bench_start(f->bench, f->dev);
    assert_received(f, 0, gpa, FRAME_BYTES, 5);
    assert_in_range(f->net->queues[0].sent_before, 0, 2 * VIRTIO_NET_BATCH);
    for (unsigned i = 0; i < 64; i++) {
        assert_sent(f, 0, FRAME_BYTES, 1);
        assert_tx_completed(f, 0);
    }
}

/* ---- receiving ---- */

static void a_frame_goes_to_the_first_buffer(void **state)
{
    Fixture *f = *state;
    uint64_t gpa = offer(f, 0, 1526);
    offer(f, 0, 1526);
    arrive(f, 0, FRAME_BYTES, 5);
    assert_received(f, 0, gpa, FRAME_BYTES, 5);
    assert_nothing_received(f, 0);
}

static void a_frame_waits_for_a_buffer(void **state)
{
    Fixture *f = *state;
    arrive(f, 0, FRAME_BYTES, 1);
    arrive(f, 0, FRAME_BYTES, 2);
    virtio_bench_settle(f->bench);
    assert_int_equal(fake_net_waiting(f->net, 0), 2);
    uint64_t gpa = offer(f, 0, 1526);
    assert_received(f, 0, gpa, FRAME_BYTES, 1);
    assert_int_equal(fake_net_waiting(f->net, 0), 1);
    gpa = offer(f, 0, 1526);
    assert_received(f, 0, gpa, FRAME_BYTES, 2);
}

static void a_large_frame_takes_several_buffers(void **state)
{
    Fixture *f = *state;
    uint8_t frame[3500];
    uint64_t gpa[3];
    uint32_t id, len, total = 0;
    make_frame(frame, sizeof(frame), NULL, 8);
    for (unsigned round = 0; round < 2; round++) { /* its length is not expected, and expected */
        for (unsigned i = 0; i < 3; i++) {
            gpa[i] = offer(f, 0, 1526);
        }
        arrive(f, 0, sizeof(frame), 8);
        virtio_bench_settle(f->bench);
        assert_int_equal(header_at(f, gpa[0]).num_buffers, 3);
        for (unsigned i = 0; i < 3; i++) {
            assert_true(virtio_guest_used(&f->rx[0], &id, &len));
            uint32_t skip = i == 0 ? HEADER_BYTES : 0;
            uint32_t at = i == 0 ? 0 : i * 1526 - HEADER_BYTES;
            assert_memory_equal(virtio_bench_ram(f->bench, gpa[i] + skip, len - skip), frame + at,
                                len - skip);
            total += len;
        }
        assert_int_equal(total, sizeof(frame) + HEADER_BYTES);
        total = 0;
    }
}

static _Atomic unsigned seen_early;

static void note_publication(void *opaque, const void *object)
{
    const Fixture *f = opaque;
    if (object == &f->nic->base.vdev.queues[0]) {
        uint16_t idx = f->rx[0].ring.used->idx;
        seen_early = MAX(seen_early, idx);
    }
}

static void buffers_of_a_frame_become_visible_together(void **state)
{
    Fixture *f = *state;
    offer_many(f, 0, 44, 1526);
    virtio_bench_settle(f->bench);
    seen_early = 0;
    sched_point_hook("virtio.flush", note_publication, f);
    arrive(f, 0, 65000, 1);
    virtio_bench_settle(f->bench);
    assert_true(seen_early == 0 || seen_early == 43);
    assert_int_equal(f->rx[0].ring.used->idx, 43);
}

static void a_frame_that_does_not_fit_is_kept_for_more_buffers(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    uint8_t frame[5000];
    uint64_t first = offer(f, 0, 2000), second;
    make_frame(frame, sizeof(frame), NULL, 4);
    arrive(f, 0, sizeof(frame), 4);
    arrive(f, 0, FRAME_BYTES, 5);
    assert_nothing_received(f, 0);
    assert_int_equal(fake_net_waiting(f->net, 0), 1); /* the next one stays with the back end */
    second = offer(f, 0, 2000);
    assert_nothing_received(f, 0);
    offer(f, 0, 2000);
    uint64_t fourth = offer(f, 0, 2000);
    assert_true(virtio_guest_used(&f->rx[0], &id, &len));
    assert_int_equal(len, 2000);
    assert_int_equal(header_at(f, first).num_buffers, 3);
    assert_memory_equal(virtio_bench_ram(f->bench, first + HEADER_BYTES, 1988), frame, 1988);
    assert_true(virtio_guest_used(&f->rx[0], &id, &len));
    assert_memory_equal(virtio_bench_ram(f->bench, second, 2000), frame + 1988, 2000);
    assert_true(virtio_guest_used(&f->rx[0], &id, &len));
    assert_int_equal(len, 5000 + HEADER_BYTES - 4000);
    assert_received(f, 0, fourth, FRAME_BYTES, 5);
}

static void a_kept_frame_is_dropped_by_a_stop(void **state)
{
    Fixture *f = *state;
    offer(f, 0, 200);
    arrive(f, 0, 1000, 4);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    arrive(f, 0, FRAME_BYTES, 5);
    assert_received(f, 0, f->rx_gpa, FRAME_BYTES, 5);
}

static void a_frame_larger_than_the_ring_is_dropped(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 256; i++) { /* all entries of the ring */
        VringBuffer b = {f->rx_gpa + i * 64, 64, true};
        virtio_guest_add(&f->rx[0], &b, 1);
    }
    arrive(f, 0, 60000, 1);
    arrive(f, 0, 40, 2);
    assert_received(f, 0, f->rx_gpa, 40, 2);
}

static void without_mergeable_buffers_a_frame_fits_or_is_dropped(void **state)
{
    Fixture *f = *state;
    virtio_guest_reset(&f->guest);
    bring_up(f, ALL_FEATURES & ~VIRTIO_NET_F_MRG_RXBUF);
    uint64_t gpa = offer(f, 0, 1000);
    offer(f, 0, 1000);
    arrive(f, 0, 1500, 1);
    arrive(f, 0, 900, 2);
    assert_received(f, 0, gpa, 900, 2);
    gpa = f->rx_gpa + RX_STRIDE;
    arrive(f, 0, 1000 - HEADER_BYTES, 3);
    assert_received(f, 0, gpa, 1000 - HEADER_BYTES, 3);
}

static void flags_are_cleared_for_a_driver_without_guest_csum(void **state)
{
    Fixture *f = *state;
    NetHeader h = {.flags = NET_HEADER_DATA_VALID};
    uint8_t frame[FRAME_BYTES];
    uint32_t id, len;
    make_frame(frame, sizeof(frame), NULL, 1);
    uint64_t gpa = offer(f, 0, 1526);
    fake_net_push(f->net, 0, &h, frame, sizeof(frame));
    assert_true(virtio_guest_used(&f->rx[0], &id, &len));
    assert_int_equal(header_at(f, gpa).flags, NET_HEADER_DATA_VALID);
    virtio_guest_reset(&f->guest);
    bring_up(f, ALL_FEATURES & ~VIRTIO_NET_F_GUEST_CSUM);
    gpa = offer(f, 0, 1526);
    fake_net_push(f->net, 0, &h, frame, sizeof(frame));
    assert_true(virtio_guest_used(&f->rx[0], &id, &len));
    assert_int_equal(header_at(f, gpa).flags, 0);
}

static void push(Fixture *f, uint8_t flags, uint8_t gso_type, size_t bytes)
{
    NetHeader h = {.flags = flags, .gso_type = gso_type, .gso_size = gso_type ? 1448 : 0};
    g_autofree uint8_t *frame = g_malloc(bytes);
    make_frame(frame, bytes, NULL, 1);
    assert_true(fake_net_push(f->net, 0, &h, frame, bytes));
    virtio_bench_settle(f->bench);
}

/* The kernel has queued such frames for the guest's firmware, or for the system before it. */
static void frames_with_offloads_that_are_not_accepted_are_dropped(void **state)
{
    Fixture *f = *state;
    static const struct {
        uint8_t flags, gso_type;
        uint64_t lacking;
    } kinds[] = {
        {NET_HEADER_NEEDS_CSUM, NET_HEADER_GSO_NONE, VIRTIO_NET_F_GUEST_CSUM},
        {0, NET_HEADER_GSO_TCPV4, VIRTIO_NET_F_GUEST_TSO4},
        {0, NET_HEADER_GSO_TCPV6, VIRTIO_NET_F_GUEST_TSO6},
        {0, NET_HEADER_GSO_TCPV6 | NET_HEADER_GSO_ECN, VIRTIO_NET_F_GUEST_ECN},
        {0, NET_HEADER_GSO_UDP, VIRTIO_NET_F_GUEST_UFO},
        {0, NET_HEADER_GSO_UDP_L4, VIRTIO_NET_F_GUEST_USO4 | VIRTIO_NET_F_GUEST_USO6},
        {0, 0x7f, 0},
    };
    uint32_t id, len;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        virtio_guest_reset(&f->guest);
        bring_up(f, ALL_FEATURES & ~kinds[i].lacking);
        offer(f, 0, 1526);
        push(f, kinds[i].flags, kinds[i].gso_type, FRAME_BYTES);
        assert_nothing_received(f, 0);
        if (kinds[i].lacking != 0) {
            virtio_guest_reset(&f->guest);
            bring_up(f, ALL_FEATURES);
            offer(f, 0, 1526);
            push(f, kinds[i].flags, kinds[i].gso_type, FRAME_BYTES);
            assert_true(virtio_guest_used(&f->rx[0], &id, &len));
        }
    }
    uint64_t none = 0;
    push(f, 0, NET_HEADER_GSO_NONE, FRAME_BYTES);
    offer(f, 0, 1526);
    assert_true(virtio_guest_used(&f->rx[0], &id, &len));
    assert_int_equal(control(f, 5, 0, &none, sizeof(none)), ACK_OK);
    offer(f, 0, 1526);
    push(f, NET_HEADER_NEEDS_CSUM, NET_HEADER_GSO_TCPV4, FRAME_BYTES);
    assert_nothing_received(f, 0);
    push(f, 0, NET_HEADER_GSO_NONE, FRAME_BYTES);
    assert_true(virtio_guest_used(&f->rx[0], &id, &len));
}

static void frames_longer_than_the_limit_are_dropped(void **state)
{
    Fixture *f = *state;
    offer(f, 0, 200);
    push(f, 0, 0, NET_FRAME_MAX - HEADER_BYTES + 1);
    push(f, 0, 0, NET_FRAME_MAX + 100);
    assert_int_equal(f->nic->queues[0].pending_len, 0);
    assert_nothing_received(f, 0);
    assert_int_equal(f->nic->client.dropped, 2);
    arrive(f, 0, FRAME_BYTES, 1);
    assert_received(f, 0, f->rx_gpa, FRAME_BYTES, 1);
}

static void the_driver_kicks_only_when_frames_wait_for_buffers(void **state)
{
    Fixture *f = *state;
    VringDriver *ring = &f->rx[0].ring;
    offer(f, 0, 1526);
    virtio_bench_settle(f->bench);
    offer(f, 0, 1526);
    assert_false(vring_driver_wants_kick(ring, (uint16_t)(ring->avail_idx - 1), true));
    arrive(f, 0, FRAME_BYTES, 1);
    arrive(f, 0, FRAME_BYTES, 2);
    arrive(f, 0, FRAME_BYTES, 3);
    virtio_bench_settle(f->bench); /* the third one waits */
    VringBuffer b = {f->rx_gpa + 2 * RX_STRIDE, 1526, true};
    uint16_t old = ring->avail_idx;
    vring_driver_offer(ring, vring_driver_chain(ring, &b, 1));
    assert_true(vring_driver_wants_kick(ring, old, true));
    virtio_guest_kick(&f->rx[0]);
    assert_received(f, 0, f->rx_gpa, FRAME_BYTES, 1);
    assert_received(f, 0, f->rx_gpa + RX_STRIDE, FRAME_BYTES, 2);
    assert_received(f, 0, f->rx_gpa + 2 * RX_STRIDE, FRAME_BYTES, 3);
}

static void a_nic_without_back_end_drops_what_it_sends(void **state)
{
    Fixture *f = *state;
    add_nic(f, NULL, NULL);
    bring_up(f, ALL_FEATURES);
    offer(f, 0, 1526);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    assert_tx_completed(f, 0);
}

static void a_back_end_is_removed_under_a_running_nic(void **state)
{
    Fixture *f = *state;
    NetStep s = {.text = "net0"};
    offer(f, 0, 1526);
    fake_net_set_full(f->net, true);
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    virtio_bench_settle(f->bench);
    virtio_bench_run(f->bench, net_step_remove, &s);
    assert_true(s.ok);
    assert_tx_completed(f, 0); /* dropped */
    transmit(f, 0, NULL, FRAME_BYTES, 1, 0);
    assert_tx_completed(f, 0);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 6, 2) & 1, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(a_frame_is_sent_whatever_its_pieces),
        T(a_frame_of_many_pieces_is_sent),
        T(a_full_back_end_delays_frames_and_loses_none),
        T(a_full_back_end_delays_no_stop),
        T(a_send_error_drops_the_frame),
        T(sending_and_receiving_take_turns),
        T(the_header_of_a_checksum_reaches_the_back_end),
        T(the_largest_frame_is_sent),
        T(a_frame_goes_to_the_first_buffer),
        T(a_frame_waits_for_a_buffer),
        T(a_large_frame_takes_several_buffers),
        T(buffers_of_a_frame_become_visible_together),
        T(a_frame_that_does_not_fit_is_kept_for_more_buffers),
        T(a_kept_frame_is_dropped_by_a_stop),
        T(a_frame_larger_than_the_ring_is_dropped),
        T(without_mergeable_buffers_a_frame_fits_or_is_dropped),
        T(flags_are_cleared_for_a_driver_without_guest_csum),
        T(frames_with_offloads_that_are_not_accepted_are_dropped),
        T(frames_longer_than_the_limit_are_dropped),
        T(the_driver_kicks_only_when_frames_wait_for_buffers),
        T(a_back_end_is_removed_under_a_running_nic),
        cmocka_unit_test_setup_teardown(a_nic_without_back_end_drops_what_it_sends, set_up_machine,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
