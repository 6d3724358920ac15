/* SPDX-License-Identifier: Apache-2.0 */
/* The device core: broken drivers, reset, stop and cont, saved state. */
#include "tests/hw/virtio/virtio_rng_bench.h"

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
    assert_int_equal(fake_machine_delivered(m, 0x100), 1); /* a config interrupt reports it */
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
    /* Main has not handled its message yet; the guest is faster. */
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
            virtio_guest_kick(&f->queue); /* the doorbell is rung while the queue is stopped */
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

static void saved_state_continues_after_a_load(void **state)
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
    assert_false(virtio_check_state(&f->guest.dev->vdev, s, &error));
    g_clear_error(&error);
    *s = good;
    s->queues[1].enabled = true;
    assert_false(virtio_check_state(&f->guest.dev->vdev, s, &error));
    g_clear_error(&error);
    *s = good;
    s->queues[0].size = 512;
    assert_false(virtio_check_state(&f->guest.dev->vdev, s, &error));
    g_clear_error(&error);
    *s = good;
    bql_unlock();
}

/* ---- properties and tables ---- */

/* Whatever a driver writes into the status register, the state can be loaded. */
static void state_any_driver_can_make_is_accepted(void **state)
{
    static const uint8_t bits[] = {1, 2, 4, 8, 64, 128};
    Fixture *f = *state;
    for (unsigned pair = 0; pair < G_N_ELEMENTS(bits) * G_N_ELEMENTS(bits); pair++) {
        virtio_guest_reset(&f->guest);
        virtio_guest_set_status(&f->guest, bits[pair / G_N_ELEMENTS(bits)]);
        virtio_guest_set_status(&f->guest,
                                bits[pair / G_N_ELEMENTS(bits)] | bits[pair % G_N_ELEMENTS(bits)]);
        virtio_bench_stop(f->bench, f->dev);
        g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
        virtio_bench_reset(f->bench, f->dev);
        virtio_bench_stop(f->bench, f->dev);
        g_autofree char *text = virtio_bench_load(f->bench, f->dev, saved);
        assert_null(text);
        virtio_bench_start(f->bench, f->dev);
    }
}

static void unsupported_features_are_refused_by_name(void **state)
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
        T(a_broken_ring_needs_a_reset_and_a_reset_heals),
        T(rings_outside_ram_need_a_reset),
        T(a_report_from_before_the_reset_is_not_believed),
        T(stop_and_cont_lose_no_kick),
        T(start_and_stop_in_one_breath_come_back),
        T(a_system_reset_brings_power_on_back),
        T(a_live_device_can_be_unplugged),
        T(saved_state_continues_after_a_load),
        T(state_no_driver_can_have_made_is_refused),
        T(state_any_driver_can_make_is_accepted),
        T(unsupported_features_are_refused_by_name),
        T(the_state_tables_leave_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
