/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-scsi with commands that wait for throttling: stop and cont, reset, task management, unplug.
 * The limit is a byte a second, so a second command of the guest waits for minutes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "block/throttle.h"
#include "tests/support/scsi_guest.h"

enum { CALLS = 12 };

typedef struct Fixture {
    ScsiGuest g;
    ThrottleGroup *group;
    Device *lun;
    ScsiCall calls[CALLS];
} Fixture;

static void join_group(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    RateLimits limits;
    rate_limits_init(&limits);
    limits.buckets[RATE_BPS_TOTAL].avg = 1;
    f->group = throttle_group_new("g", &limits);
    blk_co_set_throttle_group(((ScsiLun *)(void *)f->lun)->blk, f->group);
}

static void lift_limits(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    RateLimits none;
    rate_limits_init(&none);
    throttle_group_set_limits(f->group, &none);
}

static void free_group(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    assert_false(throttle_group_in_use(f->group));
    throttle_group_unref(f->group);
}

static void init_calls(Fixture *f)
{
    for (unsigned i = 0; i < CALLS; i++) {
        scsi_call_init(&f->calls[i], &f->g.requests[0], 512);
        f->calls[i].tag = i + 1;
    }
}

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    scsi_guest_open(&f->g, "size=1M", "num_queues=1", ~0ull);
    f->lun = scsi_guest_add(&f->g, "scsi-hd", "drive=disk");
    init_calls(f);
    scsi_call_clear_attentions(&f->calls[0]);
    virtio_bench_run(f->g.bench, join_group, f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    VirtioBench *bench = f->g.bench;
    if (f->lun) {
        scsi_guest_remove(&f->g, f->lun);
    }
    virtio_bench_run(bench, free_group, f);
    scsi_guest_close(&f->g);
    g_free(f);
    return 0;
}

/* Writes block i with the byte i + 1. */
static void send_all(Fixture *f)
{
    for (unsigned i = 0; i < CALLS; i++) {
        const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, (uint8_t)i, 0, 0, 1};
        memset(scsi_call_data(&f->calls[i]), (int)i + 1, 512);
        scsi_call_send(&f->calls[i], cdb, SCSI_DIR_OUT, 512);
    }
    virtio_bench_settle(f->g.bench);
}

static unsigned count(Fixture *f, unsigned result)
{
    unsigned n = 0;
    virtio_bench_settle(f->g.bench);
    for (unsigned i = 0; i < CALLS; i++) {
        n += scsi_call_result(&f->calls[i]) == result;
    }
    return n;
}

static void assert_all_written(Fixture *f)
{
    assert_int_equal(count(f, SCSI_STATUS_GOOD), CALLS);
    for (unsigned i = 0; i < CALLS; i++) {
        assert_int_equal(blk_disk_data(&f->g.disk)[i * 512], i + 1);
    }
}

static void a_stop_parks_what_waits_and_cont_takes_it_again(void **state)
{
    Fixture *f = *state;
    send_all(f);
    assert_int_equal(count(f, SCSI_STATUS_GOOD), 1);
    for (unsigned round = 0; round < 3; round++) {
        virtio_bench_stop(f->g.bench, f->g.controller);
        assert_int_equal(count(f, SCSI_STATUS_GOOD), 1);
        assert_int_equal(count(f, SCSI_CALL_PENDING), CALLS - 1);
        virtio_bench_start(f->g.bench, f->g.controller);
    }
    virtio_bench_run(f->g.bench, lift_limits, f);
    assert_all_written(f);
}

static void a_reset_does_not_wait_for_the_limits(void **state)
{
    Fixture *f = *state;
    send_all(f);
    virtio_guest_reset(&f->g.guest);
    scsi_guest_bring_up(&f->g, ~0ull);
    virtio_bench_run(f->g.bench, lift_limits, f);
    init_calls(f);
    scsi_call_clear_attentions(&f->calls[0]);
    send_all(f);
    assert_all_written(f);
}

static void unplug_does_not_wait_for_the_limits(void **state)
{
    Fixture *f = *state;
    send_all(f);
    scsi_guest_remove(&f->g, f->lun);
    f->lun = NULL;
    assert_int_equal(count(f, SCSI_STATUS_GOOD), 1);
    assert_int_equal(count(f, SCSI_CALL_PENDING), 0); /* the others were aborted */
}

/* The others wait again. */
static void an_abort_does_not_wait_for_the_limits(void **state)
{
    Fixture *f = *state;
    ScsiTmf abort;
    send_all(f);
    scsi_tmf_init(&abort, &f->g.control);
    scsi_tmf_send(&abort, 0, 0, 0, f->calls[5].tag);
    virtio_bench_settle(f->g.bench);
    assert_int_not_equal(scsi_tmf_response(&abort), 0xff);
    assert_int_equal(count(f, SCSI_STATUS_GOOD), 1);
    assert_int_equal(count(f, SCSI_CALL_PENDING), CALLS - 2);
    virtio_bench_run(f->g.bench, lift_limits, f);
    assert_int_equal(count(f, SCSI_STATUS_GOOD), CALLS - 1);
    assert_int_equal(count(f, SCSI_CALL_PENDING), 0);
    assert_int_equal(blk_disk_data(&f->g.disk)[5 * 512], 0);
}

static void a_reset_of_the_lun_does_not_wait_for_the_limits(void **state)
{
    Fixture *f = *state;
    ScsiTmf reset;
    send_all(f);
    scsi_tmf_init(&reset, &f->g.control);
    scsi_tmf_send(&reset, 5, 0, 0, 0);
    virtio_bench_settle(f->g.bench);
    assert_int_not_equal(scsi_tmf_response(&reset), 0xff);
    assert_int_equal(count(f, SCSI_STATUS_GOOD), 1);
    assert_int_equal(count(f, SCSI_CALL_PENDING), 0);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_stop_parks_what_waits_and_cont_takes_it_again),
        TEST(a_reset_does_not_wait_for_the_limits),
        TEST(unplug_does_not_wait_for_the_limits),
        TEST(an_abort_does_not_wait_for_the_limits),
        TEST(a_reset_of_the_lun_does_not_wait_for_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
