/* SPDX-License-Identifier: Apache-2.0 */
/* The transport and the device core, on virtio-rng: the device with the least of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>
#include <string.h>
#include "tests/support/virtio_guest.h"

#define ECAM_GPA 0xe0000000ull

typedef struct Fixture {
    VirtioBench *bench;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
    uint64_t data;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->dev = virtio_bench_device(f->bench, "virtio-rng-pci", NULL);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    f->data = virtio_bench_alloc(f->bench, 4096);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static void bring_up(Fixture *f, unsigned vector)
{
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, vector);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

static void ask(Fixture *f, uint32_t bytes)
{
    VringBuffer b = {f->data, bytes, true};
    virtio_guest_add(&f->queue, &b, 1);
}

static void assert_answered(Fixture *f)
{
    uint32_t id, len;
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_true(len > 0);
}

static uint32_t common(Fixture *f, unsigned offset, unsigned size)
{
    return virtio_guest_common_read(&f->guest, offset, size);
}

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
    virtio_guest_set_status(&f->guest, VIRTIO_STATUS_NEEDS_RESET | 3); /* the device's own */
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
    uint64_t cap = ECAM_GPA + ((uint64_t)f->guest.dev->pci.devfn << 12) + f->guest.dev->window_cap;
    VirtioGuest *g = &f->guest;
    virtio_guest_write(g, cap + 4, VIRTIO_PCI_BAR, 1);
    virtio_guest_write(g, cap + 8, VIRTIO_PCI_COMMON + VIRTIO_COMMON_NUM_QUEUES, 4);
    virtio_guest_write(g, cap + 12, 2, 4);
    assert_int_equal(virtio_guest_read(g, cap + 16, 2), 1);
    virtio_guest_write(g, cap + 8, VIRTIO_PCI_COMMON + VIRTIO_COMMON_STATUS, 4);
    virtio_guest_write(g, cap + 12, 1, 4);
    virtio_guest_write(g, cap + 16, 1, 4);
    assert_int_equal(virtio_guest_status(g), 1);
    /* nothing else can be reached */
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
    uint64_t command = ECAM_GPA + ((uint64_t)f->guest.dev->pci.devfn << 12) + 4;
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
    virtio_guest_reset(&f->guest); /* takes the line down with the rest */
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
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_VECTOR, 2, 2); /* there are two */
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

/* ---- broken drivers, reset, stop ---- */

static void a_broken_ring_needs_a_reset_and_a_reset_heals(void **state)
{
    Fixture *f = *state;
    FakeMachine *m = f->bench->machine;
    virtio_guest_enable_msix(&f->guest);
    bring_up(f, 1);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_CONFIG_VECTOR, 0, 2);
    atomic_store(&f->queue.ring.avail->idx, 1000);
    virtio_guest_kick(&f->queue);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_status(&f->guest), 15 | VIRTIO_STATUS_NEEDS_RESET);
    fake_machine_settle(m);
    assert_int_equal(fake_machine_delivered(m, 0x100), 1); /* told by a config interrupt */
    bring_up(f, 1);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    ask(f, 16);
    assert_answered(f);
}

static void rings_outside_ram_need_a_reset(void **state)
{
    Fixture *f = *state;
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_DESC, 0xfee00000, 8);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_ENABLE, 1, 2);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 16);
    assert_answered(f);
}

static void a_report_from_before_the_reset_is_not_believed(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    atomic_store(&f->queue.ring.avail->idx, 1000);
    virtio_guest_kick(&f->queue);
    while (!atomic_load(&f->guest.dev->vdev.broken_generation)) {
        sched_yield();
    }
    /* Its message waits in main, which has not run since; the guest is faster. */
    virtio_guest_set_status(&f->guest, 0);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    bring_up(f, VIRTIO_NO_VECTOR);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
}

static void stop_and_cont_lose_no_kick(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    for (unsigned i = 0; i < 20; i++) {
        virtio_bench_stop(f->bench, f->dev);
        VringBuffer b = {f->data, 16, true};
        vring_driver_offer(&f->queue.ring, vring_driver_chain(&f->queue.ring, &b, 1));
        if (i % 2) {
            virtio_guest_kick(&f->queue); /* lands on the doorbell while nobody listens */
        }
        uint32_t id, len;
        assert_false(virtio_guest_used(&f->queue, &id, &len));
        virtio_bench_start(f->bench, f->dev);
        assert_answered(f);
    }
}

static void start_and_stop_in_one_breath_come_back(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    for (unsigned i = 0; i < 200; i++) {
        virtio_bench_stop(f->bench, f->dev);
        virtio_bench_start(f->bench, f->dev);
    }
    ask(f, 16);
    assert_answered(f);
}

static void a_system_reset_brings_power_on_back(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 16);
    virtio_bench_reset(f->bench, f->dev);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    assert_int_equal(common(f, VIRTIO_COMMON_QUEUE_ENABLE, 2), 0);
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 16);
    assert_answered(f);
}

static void a_live_device_can_be_unplugged(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 16);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
    assert_int_equal(f->bench->machine->doorbell_count, 0);
}

static void saved_state_goes_on_where_it_was(void **state)
{
    Fixture *f = *state;
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 16);
    assert_answered(f);
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    virtio_bench_reset(f->bench, f->dev);
    virtio_bench_stop(f->bench, f->dev);
    assert_null(virtio_bench_load(f->bench, f->dev, saved));
    virtio_bench_start(f->bench, f->dev);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
    ask(f, 16);
    assert_answered(f);
}

static void state_no_driver_can_have_made_is_refused(void **state)
{
    Fixture *f = *state;
    VirtioState *s = f->guest.dev->vdev.state;
    bring_up(f, VIRTIO_NO_VECTOR);
    virtio_bench_stop(f->bench, f->dev);
    VirtioState good = *s;
    GError *error = NULL;
    bql_lock();
    s->driver_features |= 1ull << 40;
    assert_false(virtio_post_load(&f->guest.dev->vdev, &error));
    g_clear_error(&error);
    *s = good;
    s->queues[1].enabled = true;
    assert_false(virtio_post_load(&f->guest.dev->vdev, &error));
    g_clear_error(&error);
    *s = good;
    s->queues[0].size = 512;
    assert_false(virtio_post_load(&f->guest.dev->vdev, &error));
    g_clear_error(&error);
    *s = good;
    bql_unlock();
}

/* ---- properties and tables ---- */

static void what_skiff_lacks_is_refused_by_name(void **state)
{
    Fixture *f = *state;
    static const char *const asked[] = {"disable-legacy=off", "disable-modern=on", "packed=on",
                                        "iommu_platform=on", "iothread=nobody"};
    for (unsigned i = 0; i < G_N_ELEMENTS(asked); i++) {
        Device *dev;
        g_autofree char *text =
            virtio_bench_try_device(f->bench, "virtio-rng-pci", asked[i], NULL, &dev);
        assert_non_null(text);
        g_autofree char *key = g_strndup(asked[i], strcspn(asked[i], "="));
        assert_non_null(strstr(text, key));
    }
}

static void the_state_tables_leave_no_gap(void **state)
{
    GError *error = NULL;
    if (!state_check_coverage(&virtio_state_desc, &error)) {
        fail_msg("%s", error->message);
    }
    const DeviceType *rng = device_type_find("virtio-rng-pci");
    if (!state_check_coverage(rng->state, &error)) {
        fail_msg("%s", error->message);
    }
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
        T(a_broken_ring_needs_a_reset_and_a_reset_heals),
        T(rings_outside_ram_need_a_reset),
        T(a_report_from_before_the_reset_is_not_believed),
        T(stop_and_cont_lose_no_kick),
        T(start_and_stop_in_one_breath_come_back),
        T(a_system_reset_brings_power_on_back),
        T(a_live_device_can_be_unplugged),
        T(saved_state_goes_on_where_it_was),
        T(state_no_driver_can_have_made_is_refused),
        T(what_skiff_lacks_is_refused_by_name),
        T(the_state_tables_leave_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
