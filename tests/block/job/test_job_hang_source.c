/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs whose source hangs, or whose target is throttled: a cancel ends them at once, and their end holds
 * nothing while a request hangs. */
#include "block/throttle.h"
#include "tests/block/job/backup_test.h"
#include "tests/block/job/mirror_test.h"

/* Other control operations go on. */
static coroutine_fn RUNS_IN_MAIN void operate(void)
{
    co_mutex_lock(&job_operation);
    co_mutex_unlock(&job_operation);
}

/* Until the try that has moved the guest has ended as a whole, too. */
static coroutine_fn RUNS_IN_MAIN void await_guest_at(BlockBackend *guest, const BlockNode *n)
{
    while (blk_root(guest) != n) {
        co_yield_turn();
    }
    operate();
    test_settle();
}

/* The reads of the job hang; the guest's writes do not. */
static coroutine_fn RUNS_IN_MAIN void cancel_while_source_hangs(BackupRig *r)
{
    job_await_held(r->source, 1);
    co_drained_begin(&r->guest, 1);
    co_drained_end(&r->guest, 1);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "CANCELLED ");
    assert_true(block_fault_held(r->source) > 0);
    operate();
    backup_guest_write(r, BACKUP_SIZE / 2, 512, 9);
    job_release(r->source);
    await_guest_at(r->guest, r->source);
    job_await_no_writer(r->target);
}

BLOCK_TEST(a_mirror_whose_source_hangs_is_cancelled)
{
    BackupRig r;
    backup_rig_open(&r, MIRROR_SOURCE, MIRROR_TARGET);
    MirrorRig m = {.source = r.source, .target = r.target, .guest = r.guest};
    backup_guest_write(&r, 0, BACKUP_SIZE, 1);
    job_set_fault(r.source, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    mirror_start(&m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_FULL});
    cancel_while_source_hangs(&r);
    backup_rig_close(&r);
}

BLOCK_TEST(a_backup_whose_source_hangs_is_cancelled)
{
    BackupRig r;
    backup_rig_open(&r, MIRROR_SOURCE, MIRROR_TARGET);
    backup_guest_write(&r, 0, BACKUP_SIZE, 1);
    job_set_fault(r.source, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL});
    cancel_while_source_hangs(&r);
    backup_rig_close(&r);
}

/* The question for the block status hangs, which the data step asks first. */
BLOCK_TEST(a_scan_of_a_source_that_hangs_is_cancelled)
{
    for (unsigned mirror = 0; mirror < 2; mirror++) {
        BackupRig r;
        backup_rig_open(&r, MIRROR_SOURCE, MIRROR_TARGET);
        MirrorRig m = {.source = r.source, .target = r.target, .guest = r.guest};
        backup_guest_write(&r, 0, BACKUP_SIZE, 1);
        job_set_fault(r.source, (BlockFault){.op = BLOCK_FAULT_BLOCK_STATUS, .hold = true});
        if (mirror) {
            mirror_start(&m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_TOP});
        } else {
            backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_TOP});
        }
        cancel_while_source_hangs(&r);
        backup_rig_close(&r);
    }
}

/* ---- a guest's request hangs when the job should end ---- */

static coroutine_fn RUNS_IN_MAIN void hang_guest(MirrorRig *r, TestRequest *write)
{
    static uint8_t data[512];
    memset(data, 7, sizeof(data));
    job_set_fault(r->source, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    *write = (TestRequest){.blk = r->guest, .op = TEST_WRITE, .bytes = sizeof(data), .buf = data};
    test_start(write);
    job_await_held(r->source, 1);
}

BLOCK_TEST(a_pivot_waits_for_a_write_that_hangs_and_holds_nothing)
{
    MirrorRig r;
    TestRequest write;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    hang_guest(&r, &write);
    mirror_complete(job);
    job_await("job0", JOB_STATUS_PENDING);
    for (unsigned i = 0; i < 3; i++) {
        operate();
    }
    assert_int_equal(write.completions, 0);
    assert_ptr_equal(job_find("job0"), job);
    job_release(r.source);
    assert_int_equal(test_finish(&write), 0);
    job_await_end("job0", "READY COMPLETED ");
    assert_ptr_equal(blk_root(r.guest), r.target);
    uint8_t data[512];
    job_read(r.guest, 0, sizeof(data), data);
    assert_int_equal(data[0], 7);
    mirror_rig_close(&r);
}

BLOCK_TEST(a_pivot_that_waits_for_a_write_that_hangs_is_cancelled)
{
    MirrorRig r;
    TestRequest write;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    hang_guest(&r, &write);
    mirror_complete(job);
    job_await("job0", JOB_STATUS_PENDING);
    job_cancel(job, true, NULL);
    job_await_end("job0", "READY CANCELLED ");
    assert_int_equal(write.completions, 0);
    operate();
    job_release(r.source);
    assert_int_equal(test_finish(&write), 0);
    await_guest_at(r.guest, r.source);
    mirror_rig_close(&r);
}

/* Waits until @count more tries of the end have begun. */
static coroutine_fn RUNS_IN_MAIN void await_tries(unsigned count)
{
    unsigned start = sched_point_count("job.prepare");
    while (sched_point_count("job.prepare") < start + count) {
        co_yield_turn();
    }
}

/* What the guest changes meanwhile is not left for the drained section. */
BLOCK_TEST(a_pivot_that_waits_for_a_write_that_hangs_copies_beside_the_guest)
{
    enum { STEP = 65536, STEPS = 8 };
    MirrorRig r;
    TestRequest write;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){.granularity = STEP});
    hang_guest(&r, &write);
    job_set_fault(r.source, (BlockFault){0}); /* other writes do not hang */
    assert_int_equal(sched_point_count("job.prepare"), 0);
    mirror_complete(job);
    await_tries(2);
    for (unsigned i = 1; i <= STEPS; i++) {
        mirror_guest_write(&r, (uint64_t)i * STEP, STEP, 10 + i);
    }
    await_tries(2); /* a whole try was between them */
    assert_int_equal(write.completions, 0);
    co_mutex_lock(&job_operation);
    g_autofree uint8_t *source = job_content(r.source), *target = job_content(r.target);
    co_mutex_unlock(&job_operation);
    assert_memory_equal(source + STEP, target + STEP, (size_t)STEP * STEPS);
    job_release(r.source);
    assert_int_equal(test_finish(&write), 0);
    job_await_end("job0", "READY COMPLETED ");
    assert_ptr_equal(blk_root(r.guest), r.target);
    job_assert_same(r.source, r.target);
    sched_point_reset();
    mirror_rig_close(&r);
}

typedef struct LateWrite {
    TestRequest request;
    bool sent;
    uint8_t data[512];
} LateWrite;

/* The filter only marks then. */
static void late_write_now(void *opaque, const void *mirror)
{
    LateWrite *w = opaque;
    if (!w->sent) {
        w->sent = true;
        test_start(&w->request);
    }
}

/* The copy beside the guest waits for a target that hangs. */
static coroutine_fn RUNS_IN_MAIN void hang_target_between_tries(bool cancel)
{
    MirrorRig r;
    TestRequest write;
    mirror_rig_open(&r);
    LateWrite late = {
        .request = {.blk = r.guest, .op = TEST_WRITE, .offset = 131072, .bytes = 512}};
    late.request.buf = late.data;
    test_fill(late.data, sizeof(late.data), 5);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){.granularity = 65536});
    hang_guest(&r, &write);
    job_set_fault(r.source, (BlockFault){0});
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    sched_point_hook("mirror.settled", late_write_now, &late);
    mirror_complete(job);
    job_await_held(r.target, 1);
    if (cancel) {
        job_cancel(job, true, NULL);
        job_await_end("job0", "READY CANCELLED ");
        assert_true(block_fault_held(r.target) > 0);
    } else {
        operate();
        assert_true(block_fault_held(r.target) > 0);
        job_release(r.target);
    }
    assert_int_equal(write.completions, 0);
    job_release(r.source);
    assert_int_equal(test_finish(&write), 0);
    assert_int_equal(test_finish(&late.request), 0);
    if (cancel) {
        await_guest_at(r.guest, r.source);
        job_release(r.target);
        job_await_no_writer(r.target);
    } else {
        job_await_end("job0", "READY COMPLETED ");
        job_assert_same(r.source, r.target);
    }
    sched_point_reset();
    mirror_rig_close(&r);
}

BLOCK_TEST(a_pivot_that_waits_for_a_write_that_hangs_waits_for_its_target_in_short_tries)
{
    hang_target_between_tries(true);
    hang_target_between_tries(false);
}

/* ---- a node above the filter's is being opened ---- */

typedef struct SlowOpen {
    TestEvent done;
    BlockNode *node;
    GError *error;
} SlowOpen;

/* The image's header is read from the source. */
static void slow_open_run(void *opaque)
{
    SlowOpen *o = opaque;
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts =
        opt_dict_parse("qcow2,node-name=o,read-only=on,file=s", "driver", NULL);
    o->node = block_co_add(opts, test_home, &o->error);
    test_event_set(&o->done);
}

BLOCK_TEST(a_filter_beside_a_node_that_opens_for_long_is_taken_out_later)
{
    MirrorRig r;
    SlowOpen o = {0};
    mirror_rig_open(&r);
    mirror_start(&r, (BlockMirrorConfig){.sync = BLOCK_MIRROR_NONE});
    job_await("job0", JOB_STATUS_READY);
    job_set_fault(r.source, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    co_start(test_main, slow_open_run, &o);
    job_await_held(r.source, 1);
    job_cancel(job_find("job0"), true, NULL);
    job_await_end("job0", "READY CANCELLED ");
    assert_true(blk_root(r.guest) != r.source);
    operate();
    job_release(r.source);
    test_event_wait(&o.done);
    assert_null(o.node); /* it is no qcow2 image */
    g_error_free(o.error);
    await_guest_at(r.guest, r.source);
    mirror_rig_close(&r);
}

/* ---- throttled targets ---- */

#define THROTTLED                                                                                  \
    "throttle,node-name=t,throttle-group=slow,file.driver=fault,file.discard=unmap,"               \
    "file.file.driver=mem,file.file.size=1M"

BLOCK_TEST(what_waits_for_the_throttling_of_a_target_goes_at_a_cancel)
{
    RateLimits limits;
    rate_limits_init(&limits);
    limits.buckets[RATE_BPS_TOTAL].avg = 512;
    ThrottleGroup *g = throttle_group_new("slow", &limits);
    for (unsigned mirror = 0; mirror < 2; mirror++) {
        BackupRig r;
        backup_rig_open(&r, MIRROR_SOURCE, THROTTLED);
        MirrorRig m = {.source = r.source, .target = r.target, .guest = r.guest};
        backup_guest_write(&r, 0, BACKUP_SIZE, 1);
        if (mirror) {
            mirror_start(&m, (BlockMirrorConfig){.sync = BLOCK_MIRROR_FULL});
        } else {
            backup_start(&r, (BlockBackupConfig){.sync = BLOCK_BACKUP_FULL});
        }
        while (block_node_in_flight(r.target) == 0 || block_node_in_flight(r.source) != 0) {
            co_yield_turn();
        }
        job_cancel(job_find("job0"), true, NULL);
        job_await_end("job0", "CANCELLED ");
        assert_null(block_node_writer(r.target));
        assert_ptr_equal(blk_root(r.guest), r.source);
        backup_rig_close(&r);
    }
    throttle_group_unref(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mirror_whose_source_hangs_is_cancelled),
        cmocka_unit_test(a_backup_whose_source_hangs_is_cancelled),
        cmocka_unit_test(a_scan_of_a_source_that_hangs_is_cancelled),
        cmocka_unit_test(a_pivot_waits_for_a_write_that_hangs_and_holds_nothing),
        cmocka_unit_test(a_pivot_that_waits_for_a_write_that_hangs_is_cancelled),
        cmocka_unit_test(a_pivot_that_waits_for_a_write_that_hangs_copies_beside_the_guest),
        cmocka_unit_test(
            a_pivot_that_waits_for_a_write_that_hangs_waits_for_its_target_in_short_tries),
        cmocka_unit_test(a_filter_beside_a_node_that_opens_for_long_is_taken_out_later),
        cmocka_unit_test(what_waits_for_the_throttling_of_a_target_goes_at_a_cancel),
    };
    return job_test_main(tests);
}
