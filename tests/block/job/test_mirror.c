/* SPDX-License-Identifier: Apache-2.0 */
/* Mirror jobs: what they copy, how they end, and what they refuse. */
#include "block/throttle.h"
#include "tests/block/job/mirror_test.h"

/* ---- the ways to end ---- */

BLOCK_TEST(a_completed_mirror_puts_the_target_in_place_of_the_source)
{
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    mirror_guest_write(&r, 4096, 100000, 2);
    mirror_complete(job);
    job_await_end("job0", "READY COMPLETED ");
    assert_ptr_equal(blk_root(r.guest), r.target);
    job_assert_same(r.source, r.target);
    mirror_guest_write(&r, 0, 4096, 3); /* the source is out of use */
    assert_null(block_node_writer(r.source));
    mirror_rig_close(&r);
}

BLOCK_TEST(a_ready_mirror_that_is_cancelled_without_force_leaves_a_copy)
{
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    mirror_guest_write(&r, 4096, 100000, 2);
    assert_true(job_cancel(job, false, NULL));
    job_await_end("job0", "READY COMPLETED ");
    assert_ptr_equal(blk_root(r.guest), r.source);
    job_assert_same(r.source, r.target);
    mirror_rig_close(&r);
}

BLOCK_TEST(a_cancelled_mirror_leaves_the_guest_on_the_source)
{
    for (unsigned ready = 0; ready < 2; ready++) {
        MirrorRig r;
        mirror_rig_open(&r);
        job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = !ready});
        Job *job = ready ? mirror_start_ready(&r, (BlockMirrorConfig){0})
                         : mirror_start(&r, (BlockMirrorConfig){.sync = BLOCK_MIRROR_FULL});
        assert_true(job_cancel(job, true, NULL));
        job_await_end("job0", ready ? "READY CANCELLED " : "CANCELLED ");
        assert_ptr_equal(blk_root(r.guest), r.source);
        mirror_guest_write(&r, 0, 4096, 3);
        job_release(r.target);
        test_settle();
        mirror_rig_close(&r);
    }
}

BLOCK_TEST(an_error_of_the_target_ends_a_mirror_and_not_the_guest)
{
    MirrorRig r;
    mirror_rig_open(&r);
    mirror_start_ready(&r, (BlockMirrorConfig){0});
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_WRITE, .error = EIO});
    mirror_guest_write(&r, 0, 4096, 2);
    job_await_end("job0", "READY write-error-report COMPLETED (Input/output error) ");
    assert_ptr_equal(blk_root(r.guest), r.source);
    mirror_guest_write(&r, 0, 4096, 3);
    mirror_rig_close(&r);
}

/* ---- what is copied ---- */

BLOCK_TEST(sync_none_copies_only_what_changes)
{
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job =
        mirror_start(&r, (BlockMirrorConfig){.granularity = 65536, .sync = BLOCK_MIRROR_NONE});
    job_await("job0", JOB_STATUS_READY);
    mirror_guest_write(&r, 65536, 512, 2);
    assert_true(job_cancel(job, false, NULL));
    job_await_end("job0", "READY COMPLETED ");
    g_autofree uint8_t *source = job_content(r.source), *target = job_content(r.target);
    assert_memory_equal(source + 65536, target + 65536, 65536);
    uint8_t zero[65536] = {0};
    assert_memory_equal(target, zero, 65536);
    assert_memory_equal(target + 131072, zero, 65536);
    mirror_rig_close(&r);
}

static coroutine_fn RUNS_IN_MAIN uint64_t mirror_bitmap_bytes(const BlockNode *n)
{
    BlockDirtyBitmapInfo info;
    block_dirty_bitmap_info(n, 0, &info);
    assert_false(info.busy);
    return info.dirty_bytes;
}

/* A bitmap has one bit, the guest sets another one meanwhile, then the job succeeds or is cancelled. */
static coroutine_fn RUNS_IN_MAIN void mirror_incremental(BlockBitmapMode mode, bool succeed,
                                                         uint64_t left)
{
    MirrorRig r;
    mirror_rig_open(&r);
    assert_true(block_dirty_bitmap_co_add(r.source, "b", 65536, 0, NULL));
    mirror_guest_write(&r, 65536, 512, 2);
    Job *job = mirror_start(
        &r,
        (BlockMirrorConfig){.sync = BLOCK_MIRROR_INCREMENTAL, .bitmap = "b", .bitmap_mode = mode});
    job_await("job0", JOB_STATUS_READY);
    mirror_guest_write(&r, 262144, 512, 3);
    assert_true(job_cancel(job, !succeed, NULL));
    job_await_end("job0", succeed ? "READY COMPLETED " : "READY CANCELLED ");
    assert_int_equal(mirror_bitmap_bytes(r.source), left);
    g_autofree uint8_t *source = job_content(r.source), *target = job_content(r.target);
    assert_memory_equal(source + 65536, target + 65536, 65536);
    uint8_t zero[65536] = {0};
    assert_memory_equal(target, zero, 65536);
    mirror_rig_close(&r);
}

BLOCK_TEST(an_incremental_mirror_copies_the_bits_of_a_bitmap)
{
    mirror_incremental(BLOCK_BITMAP_ON_SUCCESS, true, 65536); /* what was set since the start */
    mirror_incremental(BLOCK_BITMAP_ON_SUCCESS, false, 131072);
    mirror_incremental(BLOCK_BITMAP_NEVER, true, 131072);
    mirror_incremental(BLOCK_BITMAP_ALWAYS, false, 65536);
}

/* ---- write-blocking ---- */

BLOCK_TEST(a_write_blocking_mirror_writes_to_both_before_the_guest_goes_on)
{
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){.write_blocking = true});
    mirror_guest_write(&r, 10000, 30000, 2);
    job_assert_same(r.source, r.target); /* at once */
    assert_int_equal(test_io(r.guest, TEST_ZERO, 5000, 200000, NULL, BLOCK_REQ_MAY_UNMAP), 0);
    job_assert_same(r.source, r.target);
    assert_int_equal(test_io(r.guest, TEST_DISCARD, 0, 65536, NULL, 0), 0);
    job_assert_same(r.source, r.target);
    mirror_complete(job);
    job_await_end("job0", "READY COMPLETED ");
    job_assert_same(r.source, r.target);
    mirror_rig_close(&r);
}

BLOCK_TEST(a_drained_section_does_not_wait_for_the_target_of_a_write_blocking_mirror)
{
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){.write_blocking = true});
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    g_autofree uint8_t *data = g_malloc0(4096);
    TestRequest w = {.blk = r.guest, .op = TEST_WRITE, .bytes = 4096, .buf = data};
    test_fill(data, 4096, 7);
    test_start(&w);
    job_await_held(r.target, 1);
    assert_int_equal(w.completions, 0);
    co_drained_begin(&r.guest, 1); /* the guest's write goes on; its range is marked */
    assert_int_equal(test_finish(&w), 0);
    co_drained_end(&r.guest, 1);
    job_release(r.target);
    mirror_complete(job);
    job_await_end("job0", "READY COMPLETED ");
    job_assert_same(r.source, r.target);
    mirror_rig_close(&r);
}

/* A copy of older data is on its way to the target: it must not arrive after the newer data. */
BLOCK_TEST(a_write_to_both_waits_for_a_copy_of_the_same_range)
{
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_WRITE, .count = 1, .hold = true});
    mirror_guest_write(&r, 0, 4096, 2);
    job_await_held(r.target, 1);
    block_mirror_set_write_blocking(job, NULL);
    g_autofree uint8_t *data = g_malloc(4096);
    TestRequest w = {.blk = r.guest, .op = TEST_WRITE, .offset = 512, .bytes = 1024, .buf = data};
    test_fill(data, 4096, 3);
    test_start(&w);
    for (unsigned i = 0; i < 10; i++) {
        test_settle();
    }
    assert_int_equal(w.completions, 0);
    job_release(r.target);
    assert_int_equal(test_finish(&w), 0);
    mirror_complete(job);
    job_await_end("job0", "READY COMPLETED ");
    job_assert_same(r.source, r.target);
    mirror_rig_close(&r);
}

/* ---- refusals ---- */

static coroutine_fn RUNS_IN_MAIN void mirror_refused(MirrorRig *r, BlockMirrorConfig c,
                                                     const char *says)
{
    g_autoptr(GError) error = NULL;
    assert_null(mirror_try_start(r, c, &error));
    if (strstr(error->message, says) == NULL) {
        fail_msg("'%s' does not say '%s'", error->message, says);
    }
    assert_null(job_find("job0"));
    assert_ptr_equal(blk_root(r->guest), r->source);
}

BLOCK_TEST(what_cannot_be_mirrored_is_refused_and_changes_nothing)
{
    MirrorRig r;
    mirror_rig_open(&r);
    BlockNode *small = test_node_add("null-co,node-name=small,size=512k");
    BlockNode *used = test_node_add("mem,node-name=used,size=1M");
    BlockNode *fixed = test_node_add("mem,node-name=fixed,size=1M,read-only=on");
    BlockBackend *other = blk_co_new("other", used, true, NULL);
    mirror_refused(&r, (BlockMirrorConfig){.target = r.source}, "Can't mirror node into itself");
    mirror_refused(&r, (BlockMirrorConfig){.target = small}, "different sizes");
    mirror_refused(&r, (BlockMirrorConfig){.target = used}, "drive 'other'");
    mirror_refused(
        &r, (BlockMirrorConfig){.target = fixed},
        "Block node is read-only: 'fixed'; job 'job0' writes to it, so give it read-only=off");
    mirror_refused(&r, (BlockMirrorConfig){.granularity = 1000}, "power of 2");
    mirror_refused(&r, (BlockMirrorConfig){.granularity = 256}, "range [512B, 64MB]");
    mirror_refused(&r, (BlockMirrorConfig){.filter_name = "s"}, "Duplicate nodes");
    mirror_refused(&r, (BlockMirrorConfig){.sync = BLOCK_MIRROR_INCREMENTAL, .bitmap = "x"},
                   "Dirty bitmap 'x' not found");
    blk_co_free(other);
    test_node_del("small");
    test_node_del("used");
    test_node_del("fixed");
    mirror_rig_close(&r);
}

BLOCK_TEST(nodes_of_a_mirror_have_no_other_job_writer_or_end)
{
    g_autoptr(GError) error = NULL;
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    BlockMirrorConfig second = {.job.id = "job1", .source = r.source, .target = r.target};
    assert_null(block_mirror_co_start(&second, &error));
    assert_non_null(strstr(error->message, "job 'job0'"));
    g_clear_error(&error);
    assert_null(blk_co_new("x", r.target, true, &error));
    assert_non_null(strstr(error->message, "job 'job0'"));
    g_clear_error(&error);
    assert_false(block_co_delete("t", &error));
    g_clear_error(&error);
    assert_int_not_equal(blk_co_truncate(r.guest, 2 * MIRROR_SIZE, &error), 0);
    mirror_complete(job);
    job_await_end("job0", "READY COMPLETED ");
    mirror_rig_close(&r);
}

/* Its requests would wait for hours. */
BLOCK_TEST(a_forced_cancel_does_not_wait_for_the_limits_of_the_source)
{
    RateLimits limits;
    rate_limits_init(&limits);
    limits.buckets[RATE_BPS_TOTAL].avg = 1;
    ThrottleGroup *g = throttle_group_new("g", &limits);
    assert_non_null(g);
    MirrorRig r = {.source = test_node_add("mem,node-name=data,size=1M"),
                   .target = test_node_add(MIRROR_TARGET)};
    r.guest = blk_co_new("guest", r.source, true, NULL);
    mirror_guest_write(&r, 0, MIRROR_SIZE, 1);
    blk_co_free(r.guest);
    r.source = test_node_add("throttle,node-name=s,throttle-group=g,file=data");
    Job *job = mirror_start(&r, (BlockMirrorConfig){.sync = BLOCK_MIRROR_FULL});
    uint64_t done = 0, total;
    while (done == 0) { /* the first request does not wait, the others do */
        test_settle();
        job_progress_get(job, &done, &total);
    }
    assert_int_equal(job_status(job), JOB_STATUS_RUNNING);
    assert_true(job_cancel(job, true, NULL));
    job_await_end("job0", "CANCELLED ");
    test_settle();
    test_node_del("s");
    test_node_del("data");
    test_node_del("t");
    throttle_group_unref(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completed_mirror_puts_the_target_in_place_of_the_source),
        cmocka_unit_test(a_ready_mirror_that_is_cancelled_without_force_leaves_a_copy),
        cmocka_unit_test(a_cancelled_mirror_leaves_the_guest_on_the_source),
        cmocka_unit_test(an_error_of_the_target_ends_a_mirror_and_not_the_guest),
        cmocka_unit_test(sync_none_copies_only_what_changes),
        cmocka_unit_test(an_incremental_mirror_copies_the_bits_of_a_bitmap),
        cmocka_unit_test(a_write_blocking_mirror_writes_to_both_before_the_guest_goes_on),
        cmocka_unit_test(a_drained_section_does_not_wait_for_the_target_of_a_write_blocking_mirror),
        cmocka_unit_test(a_write_to_both_waits_for_a_copy_of_the_same_range),
        cmocka_unit_test(a_forced_cancel_does_not_wait_for_the_limits_of_the_source),
        cmocka_unit_test(what_cannot_be_mirrored_is_refused_and_changes_nothing),
        cmocka_unit_test(nodes_of_a_mirror_have_no_other_job_writer_or_end),
    };
    return job_test_main(tests);
}
