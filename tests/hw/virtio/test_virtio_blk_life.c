/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk with requests in flight: reset, stop and cont, drain, parked requests, unplug. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include "tests/support/blk_guest.h"
#include "util/loop/sched_point.h"

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
    BlkRequest request;
} Fixture;

static int set_up_disk(void **state, const char *disk, const char *properties)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    blk_disk_open(&f->disk, f->bench, disk);
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", properties);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_disk(state, "size=1M,manual=on", "drive=disk,werror=stop,rerror=stop");
}

static int set_up_fast(void **state)
{
    return set_up_disk(state, "size=1M", "drive=disk,num-queues=2,queue-size=16");
}

static void poll_busily(void *opaque)
{
    aio_context_set_polling(opaque, 200000);
}

static int set_up_polling(void **state)
{
    set_up_fast(state);
    Fixture *f = *state;
    virtio_bench_at_home(f->bench, poll_busily, f->bench->home);
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    blk_disk_close(&f->disk);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

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
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", "drive=disk,werror=stop");
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

/* ---- all at once ---- */

#define STRESS_REQUESTS 3000
#define STRESS_DEPTH 4

typedef struct Stress {
    Fixture *f;
    VirtioGuestQueue *queue;
    uint32_t base_sector;
    BlkRequest requests[STRESS_DEPTH];
    _Atomic bool done;
    unsigned wrong;
} Stress;

/* One guest thread on one queue: writes blocks and reads them back, polling the used ring. */
static void *stress_guest(void *opaque)
{
    Stress *s = opaque;
    uint32_t id, len;
    for (unsigned n = 0; n < STRESS_REQUESTS / STRESS_DEPTH; n++) {
        bool write = n % 2 == 0;
        for (unsigned i = 0; i < STRESS_DEPTH; i++) {
            BlkRequest *r = &s->requests[i];
            memset(blk_request_data(r), write ? (int)(n + i) & 0xff : 0, 512);
            blk_request_send(r, write ? BLK_OUT : BLK_IN, s->base_sector + i, 512);
        }
        for (unsigned i = 0; i < STRESS_DEPTH;) {
            if (vring_driver_take_used(&s->queue->ring, &id, &len)) {
                i++;
            } else {
                sched_yield();
            }
        }
        for (unsigned i = 0; i < STRESS_DEPTH; i++) {
            BlkRequest *r = &s->requests[i];
            uint8_t expected = (uint8_t)(write ? n + i : n - 1 + i);
            s->wrong += blk_request_status(r) != BLK_OK || blk_request_data(r)[511] != expected;
        }
    }
    atomic_store(&s->done, true);
    return NULL;
}

static void drained_turn(void *opaque)
{
    BlockBackend *blk = opaque;
    enter_main();
    enter_coroutine();
    co_drained_begin(&blk, 1);
    if (blk_in_flight(blk)) {
        bug_abort("a request is in flight in a drained section");
    }
    co_yield_turn();
    co_drained_end(&blk, 1);
}

static void data_survives_stop_cont_and_drain_at_random(void **state)
{
    Fixture *f = *state;
    VirtioGuestQueue queues[2];
    Stress stress[2] = {0};
    pthread_t threads[2];
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    for (unsigned i = 0; i < 2; i++) {
        virtio_guest_queue(&f->guest, &queues[i], i, 0, VIRTIO_NO_VECTOR);
        stress[i] = (Stress){.f = f, .queue = &queues[i], .base_sector = i * 100};
        for (unsigned j = 0; j < STRESS_DEPTH; j++) {
            blk_request_init(&stress[i].requests[j], &queues[i], 512);
        }
    }
    virtio_guest_driver_ok(&f->guest);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(thread_start(&threads[i], THREAD_VCPU, "vcpu", stress_guest, &stress[i]));
    }
    g_autoptr(GRand) random = g_rand_new_with_seed(1);
    while (!atomic_load(&stress[0].done) || !atomic_load(&stress[1].done)) {
        switch (g_rand_int_range(random, 0, 3)) {
        case 0:
            virtio_bench_stop(f->bench, f->dev);
            virtio_bench_start(f->bench, f->dev);
            break;
        case 1:
            virtio_bench_run(f->bench, drained_turn, virtio_blk_from(&f->guest.dev->vdev)->blk);
            break;
        default:
            for (unsigned i = 0; i < 6; i++) { /* some turns without disturbance */
                virtio_bench_at_home(f->bench, nothing, NULL);
            }
            break;
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(stress[i].wrong, 0);
    }
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
        cmocka_unit_test_setup_teardown(data_survives_stop_cont_and_drain_at_random, set_up_fast,
                                        tear_down),
        {"data_survives_stop_cont_and_drain_at_random, the loop polling",
         data_survives_stop_cont_and_drain_at_random, set_up_polling, tear_down, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
