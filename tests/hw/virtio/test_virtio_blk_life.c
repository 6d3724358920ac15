/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk with requests in flight: reset, stop and cont, drain, parked requests, unplug. */
#include "tests/hw/virtio/virtio_blk_life_bench.h"
#include "util/loop/sched_point.h"

static void bring_up(Fixture *f)
{
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, VIRTIO_NO_VECTOR);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
    blk_request_init(&f->request, &f->queue, 512);
}

/* Sends a request that the disk holds. */
static void hold_one(Fixture *f, uint32_t type)
{
    unsigned before = block_mem_waiting(f->disk.node);
    blk_request_send(&f->request, type, 0, 512);
    virtio_bench_settle(f->bench);
    assert_int_equal(block_mem_waiting(f->disk.node), before + 1);
}

static MmioResult read_status(Fixture *f, IoAccess *a)
{
    *a = (IoAccess){.size = 1};
    return virtio_guest_access(&f->guest, f->guest.common + VIRTIO_COMMON_STATUS, a);
}

/* ---- reset ---- */

static void a_reset_with_io_in_flight_pends_register_accesses(void **state)
{
    Fixture *f = *state;
    IoAccess first, second, config;
    bring_up(f);
    hold_one(f, BLK_OUT);
    virtio_guest_set_status(&f->guest, 0); /* retires at once */
    assert_int_equal(read_status(f, &first), MMIO_PENDING);
    assert_int_equal(read_status(f, &second), MMIO_PENDING); /* another vCPU */
    config = (IoAccess){.size = 4};
    assert_int_equal(virtio_guest_access(&f->guest, f->guest.config, &config), MMIO_PENDING);
    virtio_bench_settle(f->bench);
    assert_false(completion_done(&first.waiter.done));

    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(completion_done(&first.waiter.done)); /* once: a second signal aborts */
    assert_true(completion_done(&second.waiter.done));
    assert_true(completion_done(&config.waiter.done));
    assert_int_equal(virtio_guest_access(&f->guest, f->guest.common + VIRTIO_COMMON_STATUS, &first),
                     MMIO_DONE);
    assert_int_equal(first.value, 0);
    assert_int_equal(virtio_guest_access(&f->guest, f->guest.config, &config), MMIO_DONE);
    bring_up(f);
    blk_disk_set_manual(&f->disk, false);
    assert_int_equal(blk_request_run(&f->request, BLK_IN, 0, 512), BLK_OK);
}

static void doorbell_and_isr_do_not_wait_for_a_reset(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    hold_one(f, BLK_OUT);
    virtio_guest_set_status(&f->guest, 0);
    IoAccess isr = {.size = 1}, bell = {.size = 2, .is_write = true};
    assert_int_equal(virtio_guest_access(&f->guest, f->guest.isr, &isr), MMIO_DONE);
    assert_int_equal(virtio_guest_access(&f->guest, f->guest.notify, &bell), MMIO_DONE);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_int_equal(virtio_guest_status(&f->guest), 0);
}

static void a_system_reset_takes_over_a_drivers_reset(void **state)
{
    Fixture *f = *state;
    IoAccess a;
    bring_up(f);
    hold_one(f, BLK_OUT);
    virtio_guest_set_status(&f->guest, 0);
    assert_int_equal(read_status(f, &a), MMIO_PENDING);
    blk_disk_set_manual(&f->disk, false);
    assert_true(blk_disk_complete(&f->disk, 0));
    virtio_bench_reset(f->bench, f->dev);
    assert_true(completion_done(&a.waiter.done));
    bring_up(f);
    assert_int_equal(blk_request_run(&f->request, BLK_IN, 0, 512), BLK_OK);
}

static void requests_from_before_a_reset_are_not_taken_after_it(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    hold_one(f, BLK_OUT);
    VirtioGuestQueue old = f->queue;
    virtio_guest_set_status(&f->guest, 0);
    virtio_bench_settle(f->bench);
    BlkRequest late;
    blk_request_init(&late, &old, 512);
    blk_request_send(&late, BLK_OUT, 1, 512); /* sent while the reset drains */
    assert_true(blk_disk_complete(&f->disk, 0));
    bring_up(f);
    virtio_bench_settle(f->bench);
    assert_int_equal(block_mem_waiting(f->disk.node), 0);
    assert_true(virtio_guest_used(&old, &id, &len)); /* the requests in flight ended */
    assert_false(virtio_guest_used(&old, &id, &len));
}

/* ---- stop and cont ---- */

typedef struct Stop {
    Device *dev;
    bool done;
} Stop;

static void stop_device(void *opaque)
{
    Stop *s = opaque;
    enter_main();
    enter_coroutine();
    s->dev->type->co_stop(s->dev);
    s->done = true;
}

static void stop_waits_for_requests_in_flight(void **state)
{
    Fixture *f = *state;
    Stop stop = {.dev = f->dev};
    uint32_t id, len;
    bring_up(f);
    hold_one(f, BLK_OUT);
    co_start(f->bench->main_ctx, stop_device, &stop);
    virtio_bench_settle(f->bench);
    assert_false(stop.done);
    BlkRequest late;
    blk_request_init(&late, &f->queue, 512);
    blk_request_send(&late, BLK_OUT, 1, 512); /* the doorbell is rung, but the queue is stopped */
    virtio_bench_settle(f->bench);
    assert_int_equal(block_mem_waiting(f->disk.node), 1);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(stop.done);
    assert_true(virtio_guest_used(&f->queue, &id, &len)); /* visible to a save now */
    assert_int_equal(block_mem_waiting(f->disk.node), 0);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_int_equal(block_mem_waiting(f->disk.node), 1);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(id, late.head);
}

static void a_parked_request_is_tried_again_by_cont(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    hold_one(f, BLK_OUT);
    assert_true(blk_disk_complete(&f->disk, -EIO));
    assert_int_equal(fake_machine_last_request(f->bench->machine).request,
                     VM_REQUEST_STOP_IO_ERROR);
    assert_int_equal(blk_request_status(&f->request), BLK_PENDING);
    virtio_bench_stop(f->bench, f->dev); /* does not wait for it */
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_int_equal(block_mem_waiting(f->disk.node), 1);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_int_equal(blk_request_status(&f->request), BLK_OK);
}

static void a_parked_request_travels_with_the_state(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    hold_one(f, BLK_OUT);
    assert_true(blk_disk_complete(&f->disk, -ENOSPC));
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", f->properties);
    g_autofree char *text = virtio_bench_load(f->bench, f->dev, saved);
    assert_null(text);
    blk_disk_set_manual(&f->disk, false);
    f->guest.dev = (VirtioPci *)(void *)f->dev;
    virtio_bench_start(f->bench, f->dev);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(id, f->request.head);
    assert_int_equal(blk_request_status(&f->request), BLK_OK);
}

static void a_parked_request_is_forgotten_by_a_reset(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    hold_one(f, BLK_OUT);
    assert_true(blk_disk_complete(&f->disk, -EIO));
    virtio_guest_reset(&f->guest);
    bring_up(f);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_int_equal(block_mem_waiting(f->disk.node), 0);
}

static void a_stop_waits_for_a_reset_that_drains(void **state)
{
    Fixture *f = *state;
    Stop stop = {.dev = f->dev};
    IoAccess a;
    bring_up(f);
    hold_one(f, BLK_OUT);
    virtio_guest_set_status(&f->guest, 0);
    assert_int_equal(read_status(f, &a), MMIO_PENDING);
    co_start(f->bench->main_ctx, stop_device, &stop);
    virtio_bench_settle(f->bench);
    assert_false(stop.done);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(stop.done);
    assert_true(completion_done(&a.waiter.done));
    virtio_bench_start(f->bench, f->dev);
    assert_int_equal(virtio_guest_status(&f->guest), 0);
    blk_disk_set_manual(&f->disk, false);
    bring_up(f);
    assert_int_equal(blk_request_run(&f->request, BLK_IN, 0, 512), BLK_OK);
}

/* ---- drain ---- */

/* Begins a drained section, lets the guest kick, and ends it; one coroutine, which owns the
 * section. */
typedef struct DrainedKicks {
    Fixture *f;
    BlkRequest requests[3];
    unsigned taken_inside;
} DrainedKicks;

static void nothing(void *opaque)
{
}

/* Does not count requests that wait on the disk: a taken request may queue in front of them. */
static void count_taken(void *opaque)
{
    DrainedKicks *k = opaque;
    const VirtioDevice *vdev = &k->f->guest.dev->vdev;
    enter_iothread(vdev->home);
    k->taken_inside = virtqueue_in_flight(vdev->queues[0].vq);
}

static void drained_kicks(void *opaque)
{
    DrainedKicks *k = opaque;
    Fixture *f = k->f;
    BlockBackend *blk = virtio_blk_from(&f->guest.dev->vdev)->blk;
    enter_main();
    enter_coroutine();
    co_drained_begin(&blk, 1);
    for (unsigned i = 0; i < 3; i++) {
        blk_request_send(&k->requests[i], BLK_IN, i, 512);
    }
    for (unsigned i = 0; i < 6; i++) { /* the iothread has handled the doorbell by then */
        co_call_in(f->bench->home, nothing, NULL);
    }
    co_call_in(f->bench->home, count_taken, k);
    co_drained_end(&blk, 1);
}

static void kicks_in_a_drained_section_are_taken_after_it(void **state)
{
    Fixture *f = *state;
    DrainedKicks k = {.f = f};
    bring_up(f);
    for (unsigned i = 0; i < 3; i++) {
        blk_request_init(&k.requests[i], &f->queue, 512);
    }
    for (unsigned round = 0; round < 5; round++) {
        virtio_bench_run(f->bench, drained_kicks, &k);
        assert_int_equal(k.taken_inside, 0);
        virtio_bench_settle(f->bench);
        assert_int_equal(block_mem_waiting(f->disk.node), 3);
        for (unsigned i = 0; i < 3; i++) {
            assert_true(blk_disk_complete(&f->disk, 0));
            assert_int_equal(blk_request_status(&k.requests[i]), BLK_OK);
        }
        /* Nothing but a kick makes the device look at its queue again. */
        unsigned looks = sched_point_count("virtio.processed");
        for (unsigned turn = 0; turn < 3; turn++) {
            virtio_bench_settle(f->bench);
        }
        assert_int_equal(sched_point_count("virtio.processed"), looks);
    }
}

/* ---- unplug ---- */

static void unplug_waits_for_requests_in_flight(void **state)
{
    Fixture *f = *state;
    Stop stop = {.dev = f->dev};
    bring_up(f);
    hold_one(f, BLK_OUT);
    co_start(f->bench->main_ctx, stop_device, &stop);
    virtio_bench_settle(f->bench);
    assert_false(stop.done);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(stop.done);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(a_reset_with_io_in_flight_pends_register_accesses),
        T(doorbell_and_isr_do_not_wait_for_a_reset),
        T(a_system_reset_takes_over_a_drivers_reset),
        T(requests_from_before_a_reset_are_not_taken_after_it),
        T(stop_waits_for_requests_in_flight),
        T(a_stop_waits_for_a_reset_that_drains),
        T(a_parked_request_is_tried_again_by_cont),
        T(a_parked_request_travels_with_the_state),
        T(a_parked_request_is_forgotten_by_a_reset),
        T(kicks_in_a_drained_section_are_taken_after_it),
        T(unplug_waits_for_requests_in_flight),
#define M(name) {#name ", mapped", name, set_up_mapped, tear_down, NULL}
        M(a_reset_with_io_in_flight_pends_register_accesses),
        M(doorbell_and_isr_do_not_wait_for_a_reset),
        M(a_system_reset_takes_over_a_drivers_reset),
        M(requests_from_before_a_reset_are_not_taken_after_it),
        M(stop_waits_for_requests_in_flight),
        M(a_stop_waits_for_a_reset_that_drains),
        M(a_parked_request_is_tried_again_by_cont),
        M(a_parked_request_travels_with_the_state),
        M(a_parked_request_is_forgotten_by_a_reset),
        M(unplug_waits_for_requests_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
