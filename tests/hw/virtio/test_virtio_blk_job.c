/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk with a request that waits in the filter of a job whose target hangs: a stop, a reset and the
 * removal of the device do not wait for the target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "block/driver/fault.h"
#include "block/job/backup.h"
#include "block/job/mirror.h"
#include "tests/support/blk_guest.h"

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    BlockNode *target;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
    BlkRequest request;
} Fixture;

/* ---- the job ---- */

static void hold_target(void *opaque)
{
    Fixture *f = opaque;
    BlockFault fault = {.op = BLOCK_FAULT_ANY, .hold = true};
    enter_coroutine();
    enter_iothread(f->bench->home);
    block_fault_set(f->target, &fault);
}

static void release_target(void *opaque)
{
    Fixture *f = opaque;
    BlockFault none = {0};
    enter_coroutine();
    enter_iothread(f->bench->home);
    block_fault_set(f->target, &none);
    block_fault_release(f->target, UINT32_MAX);
}

static coroutine_fn RUNS_IN_MAIN void open_target(Fixture *f)
{
    static const JobHost host;
    g_autoptr(OptDict) d =
        opt_dict_parse("fault,node-name=t,file.driver=mem,file.size=1M", "driver", NULL);
    f->target = block_co_open(d, f->bench->home, NULL);
    g_assert_nonnull(f->target);
    jobs_init(aio_context_current(), &host, NULL);
}

static void start_backup(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    open_target(f);
    BlockBackupConfig c = {.job = {.id = "j"},
                           .source = block_node_find("disk"),
                           .target = f->target,
                           .sync = BLOCK_BACKUP_NONE};
    assert_true(block_backup_co_start(&c, NULL));
    co_call_in(f->bench->home, hold_target, f);
}

static void start_mirror(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    open_target(f);
    BlockMirrorConfig c = {.job = {.id = "j"},
                           .source = block_node_find("disk"),
                           .target = f->target,
                           .sync = BLOCK_MIRROR_NONE,
                           .write_blocking = true};
    const Job *job = block_mirror_co_start(&c, NULL);
    assert_non_null(job);
    while (job_status(job) != JOB_STATUS_READY) {
        co_yield_turn();
    }
    co_call_in(f->bench->home, hold_target, f);
}

static void end_job(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    job_cancel(job_find("j"), true, NULL);
    while (job_find("j") != NULL) {
        co_yield_turn();
    }
    co_call_in(f->bench->home, release_target, f);
    block_co_unref(f->target);
}

/* ---- fixture ---- */

static void bring_up(Fixture *f)
{
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, VIRTIO_NO_VECTOR);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
    blk_request_init(&f->request, &f->queue, 512);
}

static int set_up(void **state, void (*start)(void *opaque))
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    blk_disk_open(&f->disk, f->bench, "size=1M");
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", "drive=disk");
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    bring_up(f);
    virtio_bench_run(f->bench, start, f);
    *state = f;
    return 0;
}

static int set_up_backup(void **state)
{
    return set_up(state, start_backup);
}

static int set_up_mirror(void **state)
{
    return set_up(state, start_mirror);
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    virtio_bench_run(f->bench, end_job, f);
    if (f->dev != NULL) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    blk_disk_close(&f->disk);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

/* Sends a write that waits for the target. */
static void send(Fixture *f)
{
    memset(blk_request_data(&f->request), 5, 512);
    blk_request_send(&f->request, BLK_OUT, 0, 512);
    virtio_bench_settle(f->bench);
    assert_int_equal(blk_request_status(&f->request), BLK_PENDING);
}

/* ---- tests ---- */

static void a_stop_does_not_wait_for_the_target(void **state)
{
    Fixture *f = *state;
    send(f);
    virtio_bench_stop(f->bench, f->dev);
    assert_int_equal(blk_request_status(&f->request), BLK_OK);
    assert_int_equal(blk_disk_data(&f->disk)[0], 5);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
}

static void a_reset_does_not_wait_for_the_target(void **state)
{
    Fixture *f = *state;
    send(f);
    virtio_guest_reset(&f->guest);
    bring_up(f);
}

static void unplug_does_not_wait_for_the_target(void **state)
{
    Fixture *f = *state;
    send(f);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_unplug(f->bench, f->dev);
    f->dev = NULL;
}

/* After a stop the filter waits again. */
static void a_write_after_cont_waits_again(void **state)
{
    Fixture *f = *state;
    send(f);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    blk_request_send(&f->request, BLK_OUT, 1024, 512);
    virtio_bench_settle(f->bench);
    assert_int_equal(blk_request_status(&f->request), BLK_PENDING);
    virtio_bench_stop(f->bench, f->dev);
    assert_int_equal(blk_request_status(&f->request), BLK_OK);
    virtio_bench_start(f->bench, f->dev);
}

#define TEST_OF(test, job) cmocka_unit_test_setup_teardown(test, set_up_##job, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF(a_stop_does_not_wait_for_the_target, backup),
        TEST_OF(a_stop_does_not_wait_for_the_target, mirror),
        TEST_OF(a_reset_does_not_wait_for_the_target, backup),
        TEST_OF(a_reset_does_not_wait_for_the_target, mirror),
        TEST_OF(unplug_does_not_wait_for_the_target, backup),
        TEST_OF(unplug_does_not_wait_for_the_target, mirror),
        TEST_OF(a_write_after_cont_waits_again, backup),
        TEST_OF(a_write_after_cont_waits_again, mirror),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
