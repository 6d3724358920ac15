/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport: negotiation, registers, doorbells, interrupts. */
#include "tests/hw/virtio/virtio_rng_bench.h"

/* ---- discovery and negotiation ---- */

static void the_device_shows_its_structures(void **state)
{
    Fixture *f = *state;
    const PciDevice *pci = &f->guest.dev->pci;
    assert_int_equal(pci_get(pci, 0, 2), 0x1af4);
    assert_int_equal(pci_get(pci, 2, 2), 0x1044);
    assert_int_equal(pci_get(pci, 8, 1), 1);
    assert_int_equal(f->guest.notify_multiplier, 4);
    assert_int_equal(common(f, VIRTIO_COMMON_NUM_QUEUES, 2), 1);
    uint64_t offered = virtio_guest_offered(&f->guest);
    assert_true(offered == (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC));
}

static void a_driver_gets_what_it_asks_for(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    memset(virtio_bench_ram(f->bench, f->data, 4096), 0, 4096);
    ask(f, 64);
    uint32_t id, len;
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 64);
    static const uint8_t zero[64];
    assert_memory_not_equal(virtio_bench_ram(f->bench, f->data, 64), zero, 64);
}

static void features_that_were_not_offered_are_refused(void **state)
{
    Fixture *f = *state;
    static const uint64_t bad[] = {VIRTIO_F_VERSION_1 | 1ull << 34, 0, VIRTIO_F_EVENT_IDX};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        virtio_guest_reset(&f->guest);
        virtio_guest_set_status(&f->guest, 3);
        for (unsigned half = 0; half < 2; half++) {
            virtio_guest_common_write(&f->guest, VIRTIO_COMMON_DRIVER_FEATURE_SELECT, half, 4);
            virtio_guest_common_write(&f->guest, VIRTIO_COMMON_DRIVER_FEATURE,
                                      (uint32_t)(bad[i] >> (32 * half)), 4);
        }
        virtio_guest_set_status(&f->guest, 11);
        assert_int_equal(virtio_guest_status(&f->guest), 3);
        virtio_guest_set_status(&f->guest, 15); /* DRIVER_OK alone is out of order */
        assert_int_equal(virtio_guest_status(&f->guest), 3);
    }
}

static void status_bits_come_in_order_and_stay(void **state)
{
    Fixture *f = *state;
    virtio_guest_set_status(&f->guest, VIRTIO_STATUS_DRIVER);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    virtio_guest_set_status(&f->guest, VIRTIO_STATUS_DRIVER_OK);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    virtio_guest_set_status(&f->guest, 3);
    virtio_guest_set_status(&f->guest, 1); /* would clear DRIVER */
    assert_int_equal(virtio_guest_status(&f->guest), 3);
    virtio_guest_set_status(&f->guest, VIRTIO_STATUS_NEEDS_RESET | 3); /* a device's bit */
    assert_int_equal(virtio_guest_status(&f->guest), 3);
    virtio_guest_set_status(&f->guest, VIRTIO_STATUS_FAILED | 3);
    assert_int_equal(virtio_guest_status(&f->guest), VIRTIO_STATUS_FAILED | 3);
    virtio_guest_reset(&f->guest);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
}

/* ---- registers ---- */

static void accesses_of_any_width_and_place_do_no_harm(void **state)
{
    Fixture *f = *state;
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SELECT, 0, 2);
    /* partial and joint reads give the bytes of the fields */
    assert_int_equal(common(f, VIRTIO_COMMON_CONFIG_VECTOR, 4), 0x0001ffff);
    assert_int_equal(common(f, VIRTIO_COMMON_STATUS, 1), 11);
    assert_int_equal(common(f, VIRTIO_COMMON_NUM_QUEUES + 1, 1), 0);
    /* a field is written with its width, or not at all */
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SIZE, 4, 1);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SIZE, 0xffff0004, 4);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_SIZE, 2), 8);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_DESC + 2, 0x1234, 2);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_DESC, 4), 0);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_DESC, 0x1122334455667788, 8);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_DESC, 4), 0x55667788);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_DESC + 4, 4), 0x11223344);
    for (unsigned offset = 0; offset < VIRTIO_PCI_BAR_SIZE; offset += offset < 64 ? 1 : 61) {
        for (unsigned size = 1; size <= 8; size++) {
            if (offset + size <= VIRTIO_COMMON_STATUS || offset > VIRTIO_COMMON_STATUS) {
                virtio_guest_read(&f->guest, f->guest.common + offset, size);
                virtio_guest_write(&f->guest, f->guest.common + offset, ~0ull, size);
            }
        }
    }
    virtio_guest_reset(&f->guest);
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 16);
    assert_answered(f);
}

static void a_queue_size_lie_is_not_believed(void **state)
{
    Fixture *f = *state;
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    static const uint16_t lies[] = {0, 3, 7, 16, 1024, 0x8000, 0xffff};
    for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
        virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SIZE, lies[i], 2);
        assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_SIZE, 2), 8);
    }
    virtio_guest_queue(&f->guest, &f->queue, 0, 2, VIRTIO_NO_VECTOR);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_SIZE, 2), 2);
    virtio_guest_driver_ok(&f->guest);
    ask(f, 16);
    assert_answered(f);
}

static void a_queue_that_is_not_there_reads_as_zero(void **state)
{
    Fixture *f = *state;
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SELECT, 1, 2);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_SIZE, 2), 0);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_VECTOR, 2), VIRTIO_NO_VECTOR);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_ENABLE, 1, 2);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_ENABLE, 2), 0);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SELECT, 0xffff, 2);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_SIZE, 2), 0);
}

static void the_set_up_does_not_change_after_driver_ok(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SIZE, 2, 2);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_SIZE, 2), 8);
    uint32_t desc = common(f, VIRTIO_COMMON_QUEUE_DESC, 4);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_DESC, 0xfee00000, 8);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_DESC, 4), desc);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_ENABLE, 0, 2);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_ENABLE, 2), 1);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_DRIVER_FEATURE_SELECT, 1, 4);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_DRIVER_FEATURE, 0, 4);
    assert_int_equal(common(f, VIRTIO_COMMON_DRIVER_FEATURE, 4), 1);
    ask(f, 16);
    assert_answered(f);
}

static void the_window_in_config_space_reaches_the_registers(void **state)
{
    Fixture *f = *state;
    uint64_t cap = virtio_guest_ecam(&f->guest) + f->guest.dev->window_cap;
    VirtioGuest *g = &f->guest;
    virtio_guest_write(g, cap + 4, VIRTIO_PCI_BAR, 1);
    virtio_guest_write(g, cap + 8, VIRTIO_PCI_COMMON + VIRTIO_COMMON_NUM_QUEUES, 4);
    virtio_guest_write(g, cap + 12, 2, 4);
    assert_int_equal(virtio_guest_read(g, cap + 16, 2), 1);
    virtio_guest_write(g, cap + 8, VIRTIO_PCI_COMMON + VIRTIO_COMMON_STATUS, 4);
    virtio_guest_write(g, cap + 12, 1, 4);
    virtio_guest_write(g, cap + 16, 1, 4);
    assert_int_equal(virtio_guest_status(g), 1);
    /* no other region is reachable */
    static const struct {
        uint32_t bar, offset, length;
    } bad[] = {{0, 0, 4},          {1, 0, 4}, {4, VIRTIO_PCI_BAR_SIZE, 4},
               {4, 0xfffffffc, 4}, {4, 2, 4}, {4, 0, 3},
               {4, 0, 0},          {4, 0, 8}};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        virtio_guest_write(g, cap + 4, bad[i].bar, 1);
        virtio_guest_write(g, cap + 8, bad[i].offset, 4);
        virtio_guest_write(g, cap + 12, bad[i].length, 4);
        virtio_guest_write(g, cap + 16, ~0ull, 4);
        assert_int_equal(virtio_guest_read(g, cap + 16, 4), 0);
    }
    assert_int_equal(virtio_guest_status(g), 1);
}

/* ---- doorbells and interrupts ---- */

static void doorbells_move_with_the_window(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    uint64_t command = virtio_guest_ecam(&f->guest) + 4;
    assert_int_equal(m->doorbell_count, 1);
    assert_true(m->doorbells[0].address == f->guest.notify);
    virtio_guest_write(&f->guest, command, 0, 2);
    assert_int_equal(m->doorbell_count, 0);
    virtio_guest_write(&f->guest, command, 6, 2);
    assert_int_equal(m->doorbell_count, 1);
}

static void the_doorbell_register_kicks_too(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    VringBuffer b = {f->data, 16, true};
    vring_driver_offer(&f->queue.ring, vring_driver_chain(&f->queue.ring, &b, 1));
    virtio_guest_write(&f->guest, f->guest.notify, 0, 2);
    assert_answered(f);
    virtio_guest_write(&f->guest, f->guest.notify + 4, 1, 2); /* no such queue */
    virtio_guest_write(&f->guest, f->guest.notify + 0xffc, 1, 4);
}

static void intx_follows_the_isr(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    unsigned gsi = 16 + pci_intx_gate(f->guest.dev->pci.devfn, 1);
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 16);
    assert_answered(f);
    assert_true(m->gsi_level[gsi]);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.isr, 1), VIRTIO_ISR_QUEUE);
    assert_false(m->gsi_level[gsi]);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.isr, 1), 0);
    ask(f, 16);
    assert_answered(f);
    assert_true(m->gsi_level[gsi]);
    virtio_guest_reset(&f->guest); /* lowers the line too */
    assert_false(m->gsi_level[gsi]);
}

static void msix_vectors_go_where_the_driver_says(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    unsigned gsi = 16 + pci_intx_gate(f->guest.dev->pci.devfn, 1);
    virtio_guest_enable_msix(&f->guest);
    bring_up(f, 1);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_VECTOR, 2), 1);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_VECTOR, 2, 2); /* no such vector */
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_VECTOR, 2), VIRTIO_NO_VECTOR);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_VECTOR, 1, 2);
    ask(f, 16);
    assert_answered(f);
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, 0x101), 1);
    assert_false(m->gsi_level[gsi]);
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.isr, 1), 0);
}

static void a_batch_is_one_interrupt(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    virtio_guest_enable_msix(&f->guest);
    assert_true(virtio_guest_negotiate(&f->guest, ~VIRTIO_F_EVENT_IDX));
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, 0);
    VringBuffer b = {f->data, 16, true};
    for (unsigned i = 0; i < 8; i++) { /* before DRIVER_OK: found at the start */
        vring_driver_offer(&f->queue.ring, vring_driver_chain(&f->queue.ring, &b, 1));
    }
    virtio_guest_driver_ok(&f->guest);
    for (unsigned i = 0; i < 8; i++) {
        assert_answered(f);
    }
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, 0x100), 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(the_device_shows_its_structures),
        T(a_driver_gets_what_it_asks_for),
        T(features_that_were_not_offered_are_refused),
        T(status_bits_come_in_order_and_stay),
        T(accesses_of_any_width_and_place_do_no_harm),
        T(a_queue_size_lie_is_not_believed),
        T(a_queue_that_is_not_there_reads_as_zero),
        T(the_set_up_does_not_change_after_driver_ok),
        T(the_window_in_config_space_reaches_the_registers),
        T(doorbells_move_with_the_window),
        T(the_doorbell_register_kicks_too),
        T(intx_follows_the_isr),
        T(msix_vectors_go_where_the_driver_says),
        T(a_batch_is_one_interrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
