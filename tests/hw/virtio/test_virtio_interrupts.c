/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts of a back end that writes to an eventfd, while the driver changes where they go. */
#include "tests/hw/virtio/virtio_back_end_bench.h"

#define QUEUE_DATA 0x101 /* of queue 0's vector, 1 */
#define MASK_OFFSET 12

static VirtioInterrupt line_of(Fixture *f, unsigned index)
{
    bql_lock();
    VirtioInterrupt line = virtio_queue_interrupt(&f->be->base.vdev, index);
    bql_unlock();
    return line;
}

static int vector_fd(Fixture *f, unsigned vector)
{
    return f->be->base.pci.msix.vectors[vector].event_fd;
}

static RUNS_IN_MAIN unsigned delivered(Fixture *f, uint32_t data)
{
    virtio_bench_settle(f->bench);
    fake_machine_settle(f->bench->machine);
    return fake_machine_delivered(f->bench->machine, data);
}

static bool intx_level(const Fixture *f)
{
    const FakeMachine *m = f->bench->machine;
    return m->gsi_level[16 + pci_intx_gate(f->be->base.pci.devfn, 1)];
}

static void mask_vector(Fixture *f, unsigned vector, bool masked)
{
    uint64_t table = pci_get(&f->be->base.pci, 0x10 + VIRTIO_PCI_MSIX_BAR * 4, 4) & ~0xfu;
    virtio_guest_write(&f->guest, table + vector * 16 + MASK_OFFSET, masked, 4);
}

static void set_control(Fixture *f, unsigned bits)
{
    virtio_guest_write(&f->guest, virtio_guest_ecam(&f->guest) + f->be->base.pci.msix.cap + 2, bits,
                       2);
}

static void set_vector(Fixture *f, unsigned index, unsigned vector)
{
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_SELECT, index, 2);
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_QUEUE_VECTOR, vector, 2);
}

static uint8_t isr(Fixture *f)
{
    return (uint8_t)virtio_guest_read(&f->guest, f->guest.isr, 1);
}

static void bring_up_and_start(Fixture *f, bool msix)
{
    if (msix) {
        virtio_guest_enable_msix(&f->guest);
    }
    bring_up(f);
    virtio_bench_settle(f->bench);
    assert_int_equal(owner(f), VIRTIO_OWNER_BACK_END);
}

/* ---- where events go ---- */

static void with_intx_main_passes_events_on(void **state)
{
    Fixture *f = *state;
    bring_up_and_start(f, false);
    assert_int_equal(line_of(f, 0).mode, VIRTIO_INTERRUPT_RELAY);
    offer(f);
    assert_int_equal(served_by(f), BACK_END_MARK);
    assert_true(intx_level(f));
    assert_int_equal(isr(f), VIRTIO_ISR_QUEUE);
    assert_false(intx_level(f));
}

static void with_a_vector_they_go_to_its_eventfd(void **state)
{
    Fixture *f = *state;
    bring_up_and_start(f, true);
    for (unsigned i = 0; i < BACK_END_QUEUES; i++) {
        assert_int_equal(line_of(f, i).mode, VIRTIO_INTERRUPT_VECTOR);
        assert_int_equal(line_of(f, i).event_fd, vector_fd(f, i + 1));
        assert_false(line_of(f, i).masked);
    }
    offer(f);
    assert_int_equal(served_by(f), BACK_END_MARK);
    assert_int_equal(delivered(f, QUEUE_DATA), 1);
    assert_int_equal(f->be->line_changes, 0);
}

static void a_mask_is_reported_and_loses_nothing(void **state)
{
    Fixture *f = *state;
    bring_up_and_start(f, true);
    mask_vector(f, 1, true);
    assert_int_equal(f->be->line_changes, 1); /* of queue 0 alone */
    assert_true(line_of(f, 0).masked);
    assert_int_equal(line_of(f, 0).event_fd, vector_fd(f, 1));
    back_end_signal(f->be, 0);
    back_end_signal(f->be, 0);
    assert_int_equal(delivered(f, QUEUE_DATA), 0);
    mask_vector(f, 1, false);
    assert_int_equal(f->be->line_changes, 2);
    assert_false(line_of(f, 0).masked);
    assert_int_equal(delivered(f, QUEUE_DATA), 1);
    set_control(f, 0xc000); /* the function's mask: both queues */
    assert_int_equal(f->be->line_changes, 4);
    assert_true(line_of(f, 1).masked);
    set_control(f, 0x8000);
    assert_int_equal(f->be->line_changes, 6);
    mask_vector(f, 0, true); /* no queue has it */
    assert_int_equal(f->be->line_changes, 6);
}

static void another_vector_is_another_eventfd(void **state)
{
    Fixture *f = *state;
    bring_up_and_start(f, true);
    set_vector(f, 0, 2);
    assert_int_equal(f->be->line_changes, 1);
    assert_int_equal(line_of(f, 0).event_fd, vector_fd(f, 2));
    set_vector(f, 0, 2);
    assert_int_equal(f->be->line_changes, 1);
    set_vector(f, 0, VIRTIO_NO_VECTOR);
    assert_int_equal(line_of(f, 0).mode, VIRTIO_INTERRUPT_NONE);
    assert_int_equal(line_of(f, 0).event_fd, -1);
    offer(f);
    assert_int_equal(served_by(f), BACK_END_MARK); /* the driver polls */
    assert_int_equal(delivered(f, QUEUE_DATA), 0);
    set_vector(f, 0, 1);
    assert_int_equal(delivered(f, QUEUE_DATA), 1); /* by the switch */
}

static void msix_and_intx_change_places(void **state)
{
    Fixture *f = *state;
    bring_up_and_start(f, true);
    set_control(f, 0);
    assert_int_equal(line_of(f, 0).mode, VIRTIO_INTERRUPT_RELAY);
    isr(f);
    offer(f);
    assert_int_equal(served_by(f), BACK_END_MARK);
    assert_true(intx_level(f));
    set_control(f, 0x8000);
    assert_false(intx_level(f));
    assert_int_equal(line_of(f, 0).event_fd, vector_fd(f, 1));
    unsigned before = delivered(f, QUEUE_DATA);
    back_end_signal(f->be, 0);
    assert_int_equal(delivered(f, QUEUE_DATA), before + 1);
}

/* The back end takes up the new eventfd later, and events go to the old one until then. */
static void an_event_on_the_old_eventfd_is_not_lost(void **state)
{
    Fixture *f = *state;
    bring_up_and_start(f, true);
    f->be->late_lines = true;
    set_control(f, 0); /* nothing comes from a vector any more */
    isr(f);
    back_end_signal(f->be, 0);
    virtio_bench_settle(f->bench);
    assert_false(intx_level(f));
    back_end_switch(f->be, 0);
    virtio_bench_settle(f->bench);
    assert_true(intx_level(f));

    set_control(f, 0x8000);
    unsigned before = delivered(f, QUEUE_DATA); /* with the event that was left in the vector's */
    back_end_signal(f->be, 0);                  /* still to the relay: main knows the mode */
    assert_int_equal(delivered(f, QUEUE_DATA), before + 1);
}

/* ---- when they are reported ---- */

static void they_are_reported_from_the_question_to_the_answer(void **state)
{
    Fixture *f = *state;
    IoAccess a;
    f->be->manual = true;
    virtio_guest_enable_msix(&f->guest);
    bring_up(f);
    mask_vector(f, 1, true); /* before it has answered */
    assert_int_equal(f->be->line_changes, 1);
    back_end_answer(f->be);
    assert_true(f->be->lines[0].masked);
    assert_int_equal(clear_master(f, &a), MMIO_PENDING);
    mask_vector(f, 2, true); /* while it is stopping, requests still complete */
    assert_int_equal(f->be->line_changes, 2);
    back_end_answer(f->be);
    assert_int_equal(clear_master(f, &a), MMIO_DONE);
    mask_vector(f, 2, false); /* main has the queues */
    set_control(f, 0);
    assert_int_equal(f->be->line_changes, 2);
    virtio_guest_set_master(&f->guest, true);
    back_end_answer(f->be);
    assert_int_equal(f->be->lines[1].mode, VIRTIO_INTERRUPT_RELAY); /* as it is by then */
}

static void the_last_events_come_before_the_queues_are_back(void **state)
{
    Fixture *f = *state;
    bring_up_and_start(f, false);
    f->be->manual = true;
    IoAccess a;
    assert_int_equal(clear_master(f, &a), MMIO_PENDING);
    back_end_signal(f->be, 0);
    back_end_answer(f->be); /* main has not read the relay in between */
    assert_int_equal(isr(f), VIRTIO_ISR_QUEUE);
}

static void none_comes_after_a_reset(void **state)
{
    Fixture *f = *state;
    IoAccess a;
    bring_up_and_start(f, false);
    f->be->manual = true;
    assert_int_equal(write_status(f, &a, 0), MMIO_DONE);
    back_end_signal(f->be, 0);
    back_end_answer(f->be);
    virtio_bench_settle(f->bench);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    assert_false(intx_level(f));
    assert_int_equal(isr(f), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(with_intx_main_passes_events_on),
        T(with_a_vector_they_go_to_its_eventfd),
        T(a_mask_is_reported_and_loses_nothing),
        T(another_vector_is_another_eventfd),
        T(msix_and_intx_change_places),
        T(an_event_on_the_old_eventfd_is_not_lost),
        T(they_are_reported_from_the_question_to_the_answer),
        T(the_last_events_come_before_the_queues_are_back),
        T(none_comes_after_a_reset),
    };
    return cmocka_run_group_tests_name("hw/virtio/interrupts", tests, NULL, NULL);
}
