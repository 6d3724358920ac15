/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: guest threads write and read while the device is stopped, started and drained. */
#include "tests/hw/virtio/virtio_blk_life_bench.h"

static void nothing(void *opaque)
{
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
        cmocka_unit_test_setup_teardown(data_survives_stop_cont_and_drain_at_random, set_up_fast,
                                        tear_down),
        {"data_survives_stop_cont_and_drain_at_random, mapped",
         data_survives_stop_cont_and_drain_at_random, set_up_mapped_fast, tear_down, NULL},
        {"data_survives_stop_cont_and_drain_at_random, lanes with threads",
         data_survives_stop_cont_and_drain_at_random, set_up_lanes_threads, tear_down, NULL},
        {"data_survives_stop_cont_and_drain_at_random, lanes with io_uring",
         data_survives_stop_cont_and_drain_at_random, set_up_lanes_io_uring, tear_down, NULL},
        {"data_survives_stop_cont_and_drain_at_random, the loop polling",
         data_survives_stop_cont_and_drain_at_random, set_up_polling, tear_down, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
