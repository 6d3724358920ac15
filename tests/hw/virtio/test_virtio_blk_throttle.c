/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk with requests that wait for throttling: stop and cont, reset, save and load, unplug. The
 * limit is a byte a second, so a second request of the guest waits for minutes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "block/throttle.h"
#include "tests/support/blk_guest.h"

enum { REQUESTS = 20 };

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    ThrottleGroup *group;
    BlockNode *filter; /* NULL: the device is a member itself */
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
    BlkRequest requests[REQUESTS];
} Fixture;

static BlockBackend *backend_of(const Fixture *f)
{
    return ((VirtioBlk *)(void *)f->dev)->blk;
}

static void make_group(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    RateLimits limits;
    rate_limits_init(&limits);
    limits.buckets[RATE_BPS_TOTAL].avg = 1;
    f->group = throttle_group_new("g", &limits);
}

static void lift_limits(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    RateLimits none;
    rate_limits_init(&none);
    throttle_group_set_limits(f->group, &none);
}

static void join_group(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    blk_co_set_throttle_group(backend_of(f), f->group);
}

static void open_filter(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) d =
        opt_dict_parse("throttle,node-name=t,throttle-group=g,file=disk", "driver", NULL);
    f->filter = block_co_open(d, f->bench->home, NULL);
    g_assert_nonnull(f->filter);
}

static void free_group(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    if (f->filter) {
        block_co_unref(f->filter);
    }
    assert_false(throttle_group_in_use(f->group));
    throttle_group_unref(f->group);
}

static void plug(Fixture *f)
{
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", f->filter ? "drive=t" : "drive=disk");
    if (!f->filter) {
        virtio_bench_run(f->bench, join_group, f);
    }
}

static void bring_up(Fixture *f)
{
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, VIRTIO_NO_VECTOR);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
    for (unsigned i = 0; i < REQUESTS; i++) {
        blk_request_init(&f->requests[i], &f->queue, 512);
    }
}

static int set_up(void **state, bool filter)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    blk_disk_open(&f->disk, f->bench, "size=1M");
    virtio_bench_run(f->bench, make_group, f);
    if (filter) {
        virtio_bench_run(f->bench, open_filter, f);
    }
    plug(f);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    bring_up(f);
    *state = f;
    return 0;
}

static int set_up_backend(void **state)
{
    return set_up(state, false);
}

static int set_up_filter(void **state)
{
    return set_up(state, true);
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    virtio_bench_run(f->bench, free_group, f);
    blk_disk_close(&f->disk);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static void send_all(Fixture *f)
{
    for (unsigned i = 0; i < REQUESTS; i++) {
        memset(blk_request_data(&f->requests[i]), (int)i + 1, 512);
        blk_request_send(&f->requests[i], BLK_OUT, i, 512);
    }
    virtio_bench_settle(f->bench);
}

static unsigned done(Fixture *f)
{
    unsigned count = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        uint8_t status = blk_request_status(&f->requests[i]);
        assert_true(status == BLK_OK || status == BLK_PENDING);
        count += status == BLK_OK;
    }
    return count;
}

/* The data of all requests is on the disk, and each one is in the used ring once. */
static void assert_all_done(Fixture *f)
{
    uint32_t id, len;
    unsigned used = 0;
    virtio_bench_settle(f->bench);
    assert_int_equal(done(f), REQUESTS);
    while (virtio_guest_used(&f->queue, &id, &len)) {
        used++;
    }
    assert_int_equal(used, REQUESTS);
    for (unsigned i = 0; i < REQUESTS; i++) {
        assert_int_equal(blk_disk_data(&f->disk)[i * 512], i + 1);
    }
}

/* ---- the device is a member ---- */

static void a_stop_parks_what_waits_and_cont_takes_it_again(void **state)
{
    Fixture *f = *state;
    send_all(f);
    assert_int_equal(done(f), 1);
    for (unsigned round = 0; round < 3; round++) {
        virtio_bench_stop(f->bench, f->dev); /* waits for the device */
        assert_int_equal(done(f), 1);
        assert_int_equal(blk_in_flight(backend_of(f)), 0);
        virtio_bench_start(f->bench, f->dev);
        virtio_bench_settle(f->bench);
    }
    virtio_bench_run(f->bench, lift_limits, f);
    assert_all_done(f);
}

static void what_waits_travels_with_the_state(void **state)
{
    Fixture *f = *state;
    send_all(f);
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    virtio_bench_unplug(f->bench, f->dev);
    plug(f);
    g_autofree char *text = virtio_bench_load(f->bench, f->dev, saved);
    assert_null(text);
    f->guest.dev = (VirtioPci *)(void *)f->dev;
    virtio_bench_run(f->bench, lift_limits, f);
    virtio_bench_start(f->bench, f->dev);
    assert_all_done(f);
}

/* A vCPU that reads the status after its reset does not wait for the limits. */
static void a_reset_does_not_wait_for_the_limits(void **state)
{
    Fixture *f = *state;
    for (unsigned round = 0; round < 3; round++) {
        send_all(f);
        virtio_guest_reset(&f->guest);
        bring_up(f);
    }
    virtio_bench_reset(f->bench, f->dev);
    bring_up(f);
    virtio_bench_run(f->bench, lift_limits, f);
    send_all(f);
    assert_all_done(f);
}

static void unplug_does_not_wait_for_the_limits(void **state)
{
    Fixture *f = *state;
    send_all(f);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
}

static void drained_section(void *opaque)
{
    Fixture *f = opaque;
    BlockBackend *blk = backend_of(f);
    enter_main();
    enter_coroutine();
    co_drained_begin(&blk, 1);
    co_drained_end(&blk, 1);
}

static void a_drained_section_does_not_wait_for_the_limits(void **state)
{
    Fixture *f = *state;
    send_all(f);
    virtio_bench_run(f->bench, drained_section, f);
    assert_int_equal(done(f), f->filter ? REQUESTS : 1);
    virtio_bench_run(f->bench, lift_limits, f);
    assert_all_done(f);
}

/* ---- driver=throttle below the device ---- */

/* Its requests are in flight: a stop lets them go. */
static void a_stop_lets_the_filters_requests_go(void **state)
{
    Fixture *f = *state;
    send_all(f);
    assert_int_equal(done(f), 1);
    virtio_bench_stop(f->bench, f->dev);
    assert_all_done(f);
    virtio_bench_start(f->bench, f->dev);
    send_all(f);
    assert_int_equal(done(f), 0); /* they pay for those */
    virtio_bench_run(f->bench, lift_limits, f);
    assert_all_done(f);
}

int main(void)
{
#define BACKEND(test) cmocka_unit_test_setup_teardown(test, set_up_backend, tear_down)
#define FILTER(test) cmocka_unit_test_setup_teardown(test, set_up_filter, tear_down)
    const struct CMUnitTest tests[] = {
        BACKEND(a_stop_parks_what_waits_and_cont_takes_it_again),
        BACKEND(what_waits_travels_with_the_state),
        BACKEND(a_reset_does_not_wait_for_the_limits),
        BACKEND(unplug_does_not_wait_for_the_limits),
        BACKEND(a_drained_section_does_not_wait_for_the_limits),
        FILTER(a_stop_lets_the_filters_requests_go),
        FILTER(a_reset_does_not_wait_for_the_limits),
        FILTER(unplug_does_not_wait_for_the_limits),
        FILTER(a_drained_section_does_not_wait_for_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
