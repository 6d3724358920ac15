/* SPDX-License-Identifier: Apache-2.0 */
/* iothread-vq-mapping: what is refused, and rings that several iothreads serve. test_virtio_blk_life
 * runs its tests with a mapping too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>
#include "block/throttle.h"
#include "tests/support/blk_guest.h"
#include "util/loop/sched_point.h"

#define REQUESTS 6

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queues[3];
    BlkRequest requests[3][REQUESTS];
    ThrottleGroup *group;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    blk_disk_open(&f->disk, f->bench, "size=1M,manual=on");
    *state = f;
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

static void plug(Fixture *f, const char *properties)
{
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", properties);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    for (unsigned q = 0; q < 3; q++) {
        virtio_guest_queue(&f->guest, &f->queues[q], q, 0, VIRTIO_NO_VECTOR);
        for (unsigned i = 0; i < REQUESTS; i++) {
            blk_request_init(&f->requests[q][i], &f->queues[q], 512);
        }
    }
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

/* Each request writes its own sector. */
static void send_all(Fixture *f)
{
    for (unsigned i = 0; i < REQUESTS; i++) {
        for (unsigned q = 0; q < 3; q++) {
            memset(blk_request_data(&f->requests[q][i]), (int)(q * REQUESTS + i + 1), 512);
            blk_request_send(&f->requests[q][i], BLK_OUT, q * REQUESTS + i, 512);
        }
    }
    virtio_bench_settle(f->bench);
}

static unsigned count_of(Fixture *f, uint8_t status)
{
    unsigned count = 0;
    for (unsigned q = 0; q < 3; q++) {
        for (unsigned i = 0; i < REQUESTS; i++) {
            count += blk_request_status(&f->requests[q][i]) == status;
        }
    }
    return count;
}

static void assert_all_written(Fixture *f)
{
    uint32_t id, len;
    virtio_bench_settle(f->bench);
    assert_int_equal(count_of(f, BLK_OK), 3 * REQUESTS);
    for (unsigned i = 0; i < 3 * REQUESTS; i++) {
        assert_int_equal(blk_disk_data(&f->disk)[i * 512], i + 1);
    }
    for (unsigned q = 0; q < 3; q++) { /* each once, in its own ring */
        for (unsigned i = 0; i < REQUESTS; i++) {
            assert_true(virtio_guest_used(&f->queues[q], &id, &len));
        }
        assert_false(virtio_guest_used(&f->queues[q], &id, &len));
    }
}

/* ---- what is refused; the messages are those of QEMU ---- */

static void refused(Fixture *f, const char *mapping, const char *message)
{
    Device *dev = NULL;
    g_autofree char *properties = g_strdup_printf(
        "{\"drive\":\"disk\",\"num-queues\":3,\"iothread-vq-mapping\":%s}", mapping);
    g_autofree char *text =
        virtio_bench_try_device(f->bench, "virtio-blk-pci", properties, NULL, &dev);
    assert_non_null(text);
    if (!strstr(text, message)) {
        fail_msg("'%s' does not say '%s'", text, message);
    }
}

static void mappings_that_make_no_sense_are_refused(void **state)
{
    Fixture *f = *state;
    refused(f, "[]", "iothread-vq-mapping has 1 to ");
    refused(f, "[{}]", "each item has an iothread");
    refused(f, "[5]", "each item has an iothread");
    refused(f, "[{\"iothread\":\"none\"}]", "IOThread \"none\" object does not exist");
    refused(f, "[{\"iothread\":\"io\"},{\"iothread\":\"io\"}]",
            "duplicate IOThread name \"io\" in iothread-vq-mapping");
    refused(f, "[{\"iothread\":\"io\",\"vqs\":[0,1,2]},{\"iothread\":\"io2\"}]",
            "either all items in iothread-vq-mapping must have vqs or none of them must have it");
    refused(f, "[{\"iothread\":\"io\",\"vqs\":[0,3]}]",
            "vq index 3 for IOThread \"io\" must be less than num_queues 3 in iothread-vq-mapping");
    refused(f, "[{\"iothread\":\"io\",\"vqs\":[0,1]},{\"iothread\":\"io2\",\"vqs\":[1,2]}]",
            "cannot assign vq 1 to IOThread \"io2\" because it is already assigned");
    refused(f, "[{\"iothread\":\"io\",\"vqs\":[0]},{\"iothread\":\"io2\",\"vqs\":[1]}]",
            "missing vq 2 IOThread assignment in iothread-vq-mapping");
    refused(f, "[{\"iothread\":\"io\",\"vqs\":[-1]}]", "vqs: ");
    refused(f, "[{\"iothread\":\"io\",\"vqs\":[[0]]}]", "vqs is a list of numbers");
    refused(f, "[{\"iothread\":\"io\",\"vqs\":3}]", "a list of vqs, no more");
    refused(f, "[{\"iothread\":\"io\",\"x\":3}]", "a list of vqs, no more");
    refused(f, "[{\"iothread\":\"io\"}],\"iothread\":\"io\"",
            "iothread and iothread-vq-mapping properties cannot be set at the same time");
    refused(f, "7", "iothread-vq-mapping");
}

/* ---- rings in two iothreads ---- */

static void queues_without_vqs_go_round(void **state)
{
    Fixture *f = *state;
    plug(f, "{\"drive\":\"disk\",\"num-queues\":3,\"iothread-vq-mapping\":[{\"iothread\":\"io2\"},"
            "{\"iothread\":\"io\"}]}");
    const VirtioDevice *vdev = &f->guest.dev->vdev;
    AioContext *other = iothread_context(f->bench->other);
    assert_ptr_equal(vdev->home, other); /* the drive has moved to the first one */
    assert_ptr_equal(virtio_queue_home(vdev, 0), other);
    assert_ptr_equal(virtio_queue_home(vdev, 1), f->bench->home);
    assert_ptr_equal(virtio_queue_home(vdev, 2), other);
    virtio_bench_unplug(f->bench, f->dev); /* the disk's helpers look for it in the first */
    plug(f, "drive=disk,num-queues=3,iothread=io");
}

static const char two[] = "{\"drive\":\"disk\",\"num-queues\":3,\"werror\":\"stop\","
                          "\"iothread-vq-mapping\":[{\"iothread\":\"io\",\"vqs\":[2]},"
                          "{\"iothread\":\"io2\",\"vqs\":[0,1]}]}";

static void each_ring_gets_the_answers_to_its_requests(void **state)
{
    Fixture *f = *state;
    plug(f, two);
    send_all(f);
    assert_int_equal(block_mem_waiting(f->disk.node), 3 * REQUESTS);
    while (blk_disk_complete(&f->disk, 0)) {
    }
    assert_all_written(f);
}

static void a_stop_waits_for_all_lanes(void **state)
{
    Fixture *f = *state;
    plug(f, two);
    for (unsigned round = 0; round < 3; round++) {
        send_all(f);
        blk_disk_set_manual(&f->disk, false);
        while (blk_disk_complete(&f->disk, round ? -EIO : 0)) { /* errors park */
        }
        virtio_bench_stop(f->bench, f->dev);
        virtio_bench_start(f->bench, f->dev); /* executes what was parked */
        assert_all_written(f);
        blk_disk_set_manual(&f->disk, true);
    }
}

static void nothing(void *opaque)
{
}

/* In a section the requests of the other iothread wait in the home. */
typedef struct Section {
    Fixture *f;
    bool stop;
} Section;

static void stop_in_section(void *opaque)
{
    Section *s = opaque;
    Fixture *f = s->f;
    BlockBackend *blk = virtio_blk_from(&f->guest.dev->vdev)->blk;
    enter_main();
    enter_coroutine();
    co_drained_begin(&blk, 1);
    for (unsigned i = 0; i < REQUESTS; i++) {
        for (unsigned q = 0; q < 3; q++) {
            memset(blk_request_data(&f->requests[q][i]), (int)(q * REQUESTS + i + 1), 512);
            blk_request_send(&f->requests[q][i], BLK_OUT, q * REQUESTS + i, 512);
        }
    }
    for (unsigned i = 0; i < 50; i++) { /* they arrive */
        co_call_in(iothread_context(f->bench->other), nothing, NULL);
        co_call_in(f->bench->home, nothing, NULL);
    }
    assert_int_equal(block_mem_waiting(f->disk.node), 0);
    assert_int_equal(blk_in_flight(blk), 0);
    if (s->stop) { /* as for a reset by the guest: it does not wait for the section */
        f->dev->type->co_stop(f->dev);
        assert_int_equal(count_of(f, BLK_PENDING), 3 * REQUESTS);
    }
    co_drained_end(&blk, 1);
}

static void sections_hold_the_requests_of_all_lanes(void **state)
{
    Fixture *f = *state;
    Section s = {.f = f};
    plug(f, two);
    blk_disk_set_manual(&f->disk, false);
    for (unsigned round = 0; round < 4; round++) {
        s.stop = round % 2;
        virtio_bench_run(f->bench, stop_in_section, &s);
        if (s.stop) {
            virtio_bench_settle(f->bench);
            assert_int_equal(count_of(f, BLK_PENDING), 3 * REQUESTS);
            virtio_bench_start(f->bench, f->dev);
        }
        assert_all_written(f);
    }
}

/* An error in a ring of one lane stops the others too, until a reset. */
static void a_broken_ring_stops_all_lanes(void **state)
{
    Fixture *f = *state;
    plug(f, two);
    BlkRequest bad = f->requests[0][0];
    blk_disk_set_manual(&f->disk, false);
    VringBuffer chain[] = {{bad.header, 3, false}}; /* no room for a status */
    virtio_guest_add(&f->queues[0], chain, 1);
    virtio_bench_settle(f->bench);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
    blk_request_send(&f->requests[2][0], BLK_OUT, 0, 512);
    blk_request_send(&f->requests[1][0], BLK_OUT, 0, 512);
    virtio_bench_settle(f->bench);
    assert_int_equal(blk_request_status(&f->requests[2][0]), BLK_PENDING);
    assert_int_equal(blk_request_status(&f->requests[1][0]), BLK_PENDING);
    virtio_guest_reset(&f->guest);
    virtio_bench_unplug(f->bench, f->dev);
    plug(f, two);
    send_all(f);
    assert_all_written(f);
}

/* ---- batches ---- */

static void send_to_queue(Fixture *f, unsigned q)
{
    for (unsigned i = 0; i < REQUESTS; i++) {
        memset(blk_request_data(&f->requests[q][i]), (int)(q * REQUESTS + i + 1), 512);
        blk_request_send(&f->requests[q][i], BLK_OUT, q * REQUESTS + i, 512);
    }
}

static void complete_waiting(void *opaque)
{
    Fixture *f = opaque;
    enter_iothread(f->bench->home);
    while (block_mem_complete(f->disk.node, 0)) {
    }
}

/* What is available at a kick goes to the home with one wake-up; what ends in one turn of the home
 * comes back with one, and interrupts once. */
static void batches_wake_each_loop_once(void **state)
{
    Fixture *f = *state;
    plug(f, two);
    for (unsigned round = 1; round <= 3; round++) {
        virtio_bench_stop(f->bench, f->dev);
        send_to_queue(f, 0);
        sched_point_reset();
        sched_point_count("loop.batch");
        sched_point_count("virtio.interrupt");
        virtio_bench_start(f->bench, f->dev);
        virtio_bench_settle(f->bench);
        assert_int_equal(block_mem_waiting(f->disk.node), REQUESTS);
        assert_int_equal(sched_point_count("loop.batch"), 1);
        virtio_bench_at_home(f->bench, complete_waiting, f);
        virtio_bench_settle(f->bench);
        assert_int_equal(sched_point_count("loop.batch"), 2);
        assert_int_equal(sched_point_count("virtio.interrupt"), 1);
        for (unsigned i = 0; i < REQUESTS; i++) {
            uint32_t id, len;
            assert_int_equal(blk_request_status(&f->requests[0][i]), BLK_OK);
            assert_true(virtio_guest_used(&f->queues[0], &id, &len));
        }
    }
    sched_point_reset();
}

/* ---- throttling ---- */

static void limit(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    RateLimits limits;
    rate_limits_init(&limits);
    limits.buckets[RATE_BPS_TOTAL].avg = 1;
    f->group = throttle_group_new("g", &limits);
    blk_co_set_throttle_group(virtio_blk_from(&f->guest.dev->vdev)->blk, f->group);
    throttle_group_unref(f->group); /* the backend has a reference */
}

static void unlimit(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    blk_co_set_throttle_group(virtio_blk_from(&f->guest.dev->vdev)->blk, NULL);
}

static void a_stop_parks_the_throttled_requests_of_all_lanes(void **state)
{
    Fixture *f = *state;
    plug(f, two);
    blk_disk_set_manual(&f->disk, false);
    virtio_bench_run(f->bench, limit, f);
    send_all(f);
    assert_int_equal(count_of(f, BLK_OK), 1);
    for (unsigned round = 0; round < 3; round++) {
        virtio_bench_stop(f->bench, f->dev);
        assert_int_equal(count_of(f, BLK_OK), 1);
        virtio_bench_start(f->bench, f->dev);
        virtio_bench_settle(f->bench);
    }
    virtio_bench_run(f->bench, unlimit, f);
    assert_all_written(f);
}

/* ---- a stop that comes before the home has seen the start ---- */

typedef struct Blocked {
    Fixture *f;
    sem_t reached, go;
    bool done;
} Blocked;

static void block_home(void *opaque)
{
    Blocked *b = opaque;
    sem_post(&b->reached);
    while (sem_wait(&b->go) != 0) {
    }
}

static void start_and_stop(void *opaque)
{
    Blocked *b = opaque;
    Device *dev = b->f->dev;
    enter_main();
    enter_coroutine();
    dev->type->co_start(dev, NULL);
    while (sched_point_count("loop.batch") ==
           0) { /* the other iothread has the start, and requests */
        co_yield_turn();
    }
    dev->type->co_stop(dev);
    b->done = true;
}

/* The requests are throttled for ever, so the stop ends only if the home lets them return. */
static void a_stop_that_overtakes_the_start_in_the_home_waits_for_no_throttling(void **state)
{
    Fixture *f = *state;
    Blocked b = {.f = f};
    plug(f, two);
    blk_disk_set_manual(&f->disk, false);
    virtio_bench_run(f->bench, limit, f);
    virtio_bench_stop(f->bench, f->dev);
    send_to_queue(f, 0);
    sem_init(&b.reached, 0, 0);
    sem_init(&b.go, 0, 0);
    aio_post(f->bench->home, block_home, &b);
    while (sem_wait(&b.reached) != 0) {
    }
    sched_point_reset();
    sched_point_count("loop.batch");
    co_start(f->bench->main_ctx, start_and_stop, &b);
    while (sched_point_count("loop.batch") == 0) {
        aio_context_step(f->bench->main_ctx, false);
    }
    for (unsigned i = 0; i < 4; i++) { /* the stop is sent */
        aio_context_step(f->bench->main_ctx, false);
    }
    sem_post(&b.go);
    while (!b.done) {
        aio_context_step(f->bench->main_ctx, true);
    }
    virtio_bench_run(f->bench, unlimit, f);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    for (unsigned i = 0; i < REQUESTS; i++) {
        assert_int_equal(blk_request_status(&f->requests[0][i]), BLK_OK);
    }
    sched_point_reset();
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(mappings_that_make_no_sense_are_refused),
        TEST(queues_without_vqs_go_round),
        TEST(each_ring_gets_the_answers_to_its_requests),
        TEST(a_stop_waits_for_all_lanes),
        TEST(sections_hold_the_requests_of_all_lanes),
        TEST(a_broken_ring_stops_all_lanes),
        TEST(a_stop_parks_the_throttled_requests_of_all_lanes),
        TEST(batches_wake_each_loop_once),
        TEST(a_stop_that_overtakes_the_start_in_the_home_waits_for_no_throttling),
    };
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
