/* SPDX-License-Identifier: Apache-2.0 */
/* Mirrors at the moments where they begin and end: held there by schedule points. */
#include "block/job/copy_int.h"
#include "block/job/mirror_int.h"
#include "tests/block/job/mirror_test.h"

/* ---- the begin ---- */

typedef struct RaceWrite {
    TestRequest request;
    uint8_t data[4096];
} RaceWrite;

/* In the drained section that inserts the filter: the guest writes. */
static void race_write_now(void *opaque, const void *mirror)
{
    RaceWrite *w = opaque;
    test_start(&w->request);
}

/* A write between the filter and its bits would be in the source only. */
BLOCK_TEST(a_write_while_the_filter_is_inserted_is_copied)
{
    MirrorRig r;
    mirror_rig_open(&r);
    RaceWrite w = {.request = {.blk = r.guest, .op = TEST_WRITE, .offset = 65536, .bytes = 4096}};
    w.request.buf = w.data;
    test_fill(w.data, sizeof(w.data), 9);
    assert_true(block_dirty_bitmap_co_add(r.source, "b", 4096, 0, NULL));
    sched_point_hook("mirror.insert", race_write_now, &w);
    Job *job =
        mirror_start(&r, (BlockMirrorConfig){.sync = BLOCK_MIRROR_INCREMENTAL, .bitmap = "b"});
    sched_point_reset();
    assert_int_equal(test_finish(&w.request), 0);
    job_await("job0", JOB_STATUS_READY);
    assert_true(job_cancel(job, false, NULL));
    job_await_end("job0", "READY COMPLETED ");
    g_autofree uint8_t *target = job_content(r.target);
    assert_memory_equal(target + 65536, w.data, sizeof(w.data));
    BlockDirtyBitmapInfo info;
    block_dirty_bitmap_info(r.source, 0, &info);
    assert_int_equal(info.dirty_bytes, 4096); /* the write came after the start */
    mirror_rig_close(&r);
}

static void race_cancel_now(void *opaque, const void *object)
{
    enter_main();
    Job *job = job_find("job0");
    if (job != NULL) {
        job_cancel(job, true, NULL);
    }
}

BLOCK_TEST(a_cancel_while_the_filter_is_inserted_removes_it_again)
{
    MirrorRig r;
    mirror_rig_open(&r);
    sched_point_hook("mirror.insert", race_cancel_now, NULL);
    mirror_start(&r, (BlockMirrorConfig){.sync = BLOCK_MIRROR_FULL});
    sched_point_reset();
    job_await_end("job0", "");
    assert_ptr_equal(blk_root(r.guest), r.source);
    mirror_guest_write(&r, 0, 4096, 3);
    mirror_rig_close(&r);
}

/* ---- the end ---- */

/* Cancels at the schedule point @where, after the verb complete. */
static coroutine_fn RUNS_IN_MAIN void race_cancel_at(const char *where, bool too_late)
{
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    sched_point_hook(where, race_cancel_now, NULL);
    mirror_guest_write(&r, 0, 100000, 2);
    mirror_complete(job);
    job_await_end("job0", too_late ? "READY COMPLETED " : "READY CANCELLED ");
    sched_point_reset();
    assert_ptr_equal(blk_root(r.guest), too_late ? r.target : r.source);
    mirror_guest_write(&r, 0, 4096, 3);
    mirror_rig_close(&r);
}

BLOCK_TEST(a_cancel_just_before_the_pivot_leaves_the_source_and_one_after_it_comes_too_late)
{
    race_cancel_at("job.prepare", false);
    race_cancel_at("mirror.prepare", false);
    race_cancel_at("mirror.rest", false);
    race_cancel_at("job.decided", true);
    race_cancel_at("mirror.clean", true);
}

/* A write that comes when the data step has ended is copied by prepare. */
BLOCK_TEST(a_write_just_before_the_pivot_is_in_the_target)
{
    MirrorRig r;
    mirror_rig_open(&r);
    RaceWrite w = {.request = {.blk = r.guest, .op = TEST_WRITE, .offset = 65536, .bytes = 4096}};
    w.request.buf = w.data;
    test_fill(w.data, sizeof(w.data), 9);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    sched_point_hook("job.prepare", race_write_now, &w);
    mirror_complete(job);
    job_await_end("job0", "READY COMPLETED ");
    sched_point_reset();
    assert_int_equal(test_finish(&w.request), 0);
    assert_ptr_equal(blk_root(r.guest), r.target);
    g_autofree uint8_t *target = job_content(r.target);
    assert_memory_equal(target + 65536, w.data, sizeof(w.data));
    mirror_rig_close(&r);
}

static void race_time_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    aio_context_set_virtual_time(test_home, *(int64_t *)opaque);
}

/* The flush in the drained section of the pivot hangs. */
static coroutine_fn RUNS_IN_MAIN void race_hung_pivot(bool cancel, const char *events)
{
    MirrorRig r;
    int64_t now = 1;
    mirror_rig_open(&r);
    test_in_home(race_time_at_home, &now);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_FLUSH, .after = 1, .hold = true});
    mirror_complete(job);
    job_await_held(r.target, 1);
    assert_non_null(job_operation.owner);
    if (cancel) {
        assert_true(job_cancel(job, true, NULL));
    } else {
        now = INT64_C(6000000000);
        test_in_home(race_time_at_home, &now);
    }
    job_await_end("job0", events);
    assert_ptr_equal(blk_root(r.guest), r.source);
    mirror_guest_write(&r, 0, 4096, 3);
    job_release(r.target);
    while (block_node_writer(r.target) != NULL) {
        test_settle();
    }
    mirror_rig_close(&r);
}

/* What the guest changed since the end of the data step cannot be copied: the write to the target hangs,
 * with @active in the filter already. */
typedef struct RaceGuest {
    Job *job;
    unsigned writes;
} RaceGuest;

#define RACE_WRITES 1000u

/* Each time that a range has been copied, a write of the guest changes it again. */
static void race_change_again(void *opaque, const void *object)
{
    RaceGuest *g = opaque;
    const CopyClaim *k = object;
    const MirrorJob *m = job_state(g->job);
    enter_iothread(m->source->home);
    if (k->kind == COPY_BACKGROUND && !mirror_filter_active(m->filter) && g->writes < RACE_WRITES) {
        g->writes += copy_is_ending(k->copy);
        block_copy_mark(k->copy, k->offset, k->bytes);
    }
}

static coroutine_fn RUNS_IN_MAIN void race_busy_guest(bool complete)
{
    MirrorRig r;
    mirror_rig_open(&r);
    RaceGuest g = {0};
    g.job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    sched_point_hook("copy.claim_end", race_change_again, &g);
    mirror_guest_write(&r, 0, 4096, 3);
    if (complete) {
        mirror_complete(g.job);
    } else {
        assert_true(job_cancel(g.job, false, NULL));
    }
    job_await_end("job0", "READY COMPLETED ");
    sched_point_reset();
    assert_in_range(g.writes, 1, RACE_WRITES - 1);
    job_assert_same(r.source, r.target);
    mirror_rig_close(&r);
}

BLOCK_TEST(a_mirror_ends_beside_a_guest_that_changes_all_that_was_copied)
{
    race_busy_guest(true);
    race_busy_guest(false);
}

/* In main, after the wake-up of the data step: until that has looked at the job, and is about to wait. */
static void race_await_idle(void *opaque, const void *job)
{
    sched_point_hook("job.kick", NULL, NULL);
    sched_point_hold("mirror.idle");
    sched_point_await("mirror.idle");
    sched_point_release("mirror.idle");
}

BLOCK_TEST(a_data_step_that_is_faster_than_its_waker_finds_the_new_copy_mode)
{
    MirrorRig r;
    mirror_rig_open(&r);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){0});
    assert_false(block_mirror_actively_synced(job));
    sched_point_hook("job.kick", race_await_idle, NULL);
    assert_true(block_mirror_set_write_blocking(job, NULL));
    sched_point_reset();
    test_settle();
    assert_true(block_mirror_actively_synced(job));
    mirror_complete(job);
    job_await_end("job0", "READY COMPLETED ");
    mirror_rig_close(&r);
}

static coroutine_fn RUNS_IN_MAIN void race_hung_rest(bool active)
{
    MirrorRig r;
    int64_t now = INT64_C(10000000000) * (active ? 1 : 2); /* later than before */
    mirror_rig_open(&r);
    test_in_home(race_time_at_home, &now);
    RaceWrite w = {.request = {.blk = r.guest, .op = TEST_WRITE, .offset = 65536, .bytes = 4096}};
    w.request.buf = w.data;
    test_fill(w.data, sizeof(w.data), 9);
    Job *job = mirror_start_ready(&r, (BlockMirrorConfig){.write_blocking = active});
    job_set_fault(r.target, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    sched_point_hook(active ? "mirror.run_done" : "job.prepare", race_write_now, &w);
    mirror_complete(job);
    job_await_held(r.target, 1);
    while (job_operation.owner == NULL) {
        test_settle();
    }
    test_settle(); /* prepare waits */
    now += INT64_C(6000000000);
    test_in_home(race_time_at_home, &now);
    job_await_end("job0", "READY COMPLETED (node 't', the target, did not complete its requests in "
                          "time) ");
    sched_point_reset();
    assert_int_equal(test_finish(&w.request), 0);
    assert_ptr_equal(blk_root(r.guest), r.source);
    job_release(r.target);
    while (block_node_writer(r.target) != NULL) {
        test_settle();
    }
    mirror_rig_close(&r);
}

BLOCK_TEST(a_pivot_fails_in_time_if_the_rest_cannot_be_copied)
{
    race_hung_rest(true);
    race_hung_rest(false);
}

BLOCK_TEST(a_pivot_to_a_target_that_hangs_fails_in_time_or_is_cancelled_at_once)
{
    race_hung_pivot(true, "READY CANCELLED ");
    race_hung_pivot(false,
                    "READY COMPLETED (node 't', the target, did not complete its requests in "
                    "time) ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_while_the_filter_is_inserted_is_copied),
        cmocka_unit_test(a_cancel_while_the_filter_is_inserted_removes_it_again),
        cmocka_unit_test(
            a_cancel_just_before_the_pivot_leaves_the_source_and_one_after_it_comes_too_late),
        cmocka_unit_test(a_write_just_before_the_pivot_is_in_the_target),
        cmocka_unit_test(a_pivot_to_a_target_that_hangs_fails_in_time_or_is_cancelled_at_once),
        cmocka_unit_test(a_mirror_ends_beside_a_guest_that_changes_all_that_was_copied),
        cmocka_unit_test(a_data_step_that_is_faster_than_its_waker_finds_the_new_copy_mode),
        cmocka_unit_test(a_pivot_fails_in_time_if_the_rest_cannot_be_copied),
    };
    return job_test_main(tests);
}
