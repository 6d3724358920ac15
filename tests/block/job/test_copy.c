/* SPDX-License-Identifier: Apache-2.0 */
/* The data mover, in a job that copies one node to another. */
#include "tests/block/job/copy_test.h"

BLOCK_TEST(everything_is_copied)
{
    static const uint32_t granularities[] = {512, 4096, 65536, 1 << 20, 2 << 20};
    for (unsigned i = 0; i < G_N_ELEMENTS(granularities); i++) {
        BlockNode *s, *t;
        copy_disks(SOURCE, TARGET, &s, &t);
        copy_start_job(s, t, (CopyOptions){.granularity = granularities[i]});
        job_await_end("job0", "COMPLETED ");
        job_assert_same(s, t);
        copy_end_disks();
    }
}

BLOCK_TEST(a_disk_whose_size_is_no_multiple_of_anything_is_copied)
{
    BlockNode *s, *t;
    copy_disks("mem,node-name=s,size=4195328", "mem,node-name=t,size=4195328", &s, &t);
    copy_start_job(s, t, (CopyOptions){0});
    job_await_end("job0", "COMPLETED ");
    job_assert_same(s, t);
    copy_end_disks();
}

BLOCK_TEST(progress_ends_at_the_number_of_bytes_to_copy)
{
    BlockNode *s, *t;
    copy_disks(SLOW_SOURCE, SLOW_TARGET, &s, &t);
    job_set_fault(t, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    CopyJob *j = copy_start_job(s, t, (CopyOptions){0});
    job_await_held(t, 1);
    uint64_t current, total;
    job_progress_get(j->bj.job, &current, &total);
    assert_int_equal(total, COPY_SIZE);
    job_ref(j->bj.job);
    job_release(t);
    job_await_end("job0", "COMPLETED ");
    job_progress_get(j->bj.job, &current, &total);
    assert_int_equal(current, COPY_SIZE);
    assert_int_equal(total, COPY_SIZE);
    job_unref(j->bj.job);
    job_assert_same(s, t);
    copy_end_disks();
}

/* A target that was never written to needs no zeroes; one with other data does. */
BLOCK_TEST(zeroes_are_written_only_where_the_target_may_have_something_else)
{
    for (unsigned is_zero = 0; is_zero < 2; is_zero++) {
        BlockNode *s, *t;
        copy_disks(SOURCE, SLOW_TARGET, &s, &t);
        job_set_fault(t, (BlockFault){.op = BLOCK_FAULT_WRITE_ZEROES, .delay_ns = 1});
        copy_start_job(s, t, (CopyOptions){.copy.target_is_zero = is_zero});
        job_await_end("job0", "COMPLETED ");
        assert_int_equal(block_fault_hits(t) == 0, is_zero);
        job_assert_same(s, t);
        copy_end_disks();
    }
}

/* ---- errors ---- */

static coroutine_fn RUNS_IN_MAIN void copy_fails(bool read, BlockJobConfig config, int error,
                                                 const char *events)
{
    BlockNode *s, *t;
    copy_disks(SLOW_SOURCE, SLOW_TARGET, &s, &t);
    job_set_fault(read ? s : t, (BlockFault){.op = read ? BLOCK_FAULT_READ : BLOCK_FAULT_WRITE,
                                             .offset = 65536,
                                             .length = 512,
                                             .count = 1,
                                             .error = (uint32_t)error});
    CopyJob *j = copy_start_job(s, t, (CopyOptions){.config = config});
    if (strstr(events, "stop") != NULL) {
        job_await("job0", JOB_STATUS_PAUSED);
        assert_int_equal(job_io_status(j->bj.job),
                         error == ENOSPC ? JOB_IO_NOSPACE : JOB_IO_FAILED);
        assert_true(job_resume(j->bj.job, NULL));
    }
    job_await_end("job0", events);
    if (strstr(events, "(") == NULL) {
        job_assert_same(s, t);
    }
    copy_end_disks();
}

BLOCK_TEST(an_error_is_reported_ignored_or_stops_the_job)
{
    copy_fails(true, (BlockJobConfig){0}, EIO, "read-error-report COMPLETED (Input/output error) ");
    copy_fails(false, (BlockJobConfig){0}, EIO,
               "write-error-report COMPLETED (Input/output error) ");
    copy_fails(true, (BlockJobConfig){.on_source_error = BLOCK_ON_ERROR_STOP}, EIO,
               "read-error-stop COMPLETED ");
    copy_fails(true, (BlockJobConfig){.on_source_error = BLOCK_ON_ERROR_IGNORE}, EIO,
               "read-error-ignore COMPLETED ");
    copy_fails(false, (BlockJobConfig){.on_target_error = BLOCK_ON_ERROR_ENOSPC}, EIO,
               "write-error-report COMPLETED (Input/output error) ");
    copy_fails(false, (BlockJobConfig){.on_target_error = BLOCK_ON_ERROR_ENOSPC}, ENOSPC,
               "write-error-stop COMPLETED ");
    copy_fails(false, (BlockJobConfig){.on_target_error = BLOCK_ON_ERROR_AUTO}, ENOSPC,
               "write-error-stop COMPLETED ");
}

/* ---- pause, cancel ---- */

BLOCK_TEST(a_paused_copy_has_nothing_in_flight)
{
    BlockNode *s, *t;
    copy_disks(SLOW_SOURCE, SLOW_TARGET, &s, &t);
    job_set_fault(t, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    CopyJob *j = copy_start_job(s, t, (CopyOptions){0});
    job_await_held(t, 1);
    assert_true(job_pause(j->bj.job, NULL));
    test_settle();
    assert_int_equal(job_status(j->bj.job), JOB_STATUS_RUNNING);
    job_release(t);
    job_await("job0", JOB_STATUS_PAUSED);
    assert_int_equal(block_node_in_flight(s), 0);
    assert_int_equal(block_node_in_flight(t), 0);
    assert_true(job_resume(j->bj.job, NULL));
    job_await_end("job0", "COMPLETED ");
    job_assert_same(s, t);
    copy_end_disks();
}

BLOCK_TEST(a_cancel_does_not_wait_for_a_target_that_hangs)
{
    g_autoptr(GError) error = NULL;
    BlockNode *s, *t;
    copy_disks(SLOW_SOURCE, SLOW_TARGET, &s, &t);
    job_set_fault(t, (BlockFault){.op = BLOCK_FAULT_ANY, .hold = true});
    CopyJob *j = copy_start_job(s, t, (CopyOptions){0});
    job_await_held(t, 2);
    copy_pass_time(1);
    assert_true(job_cancel(j->bj.job, true, NULL));
    test_settle();
    assert_non_null(job_find("job0")); /* the target has a second to answer */
    copy_pass_time(1000000000);
    job_await_end("job0", "CANCELLED ");
    assert_int_equal(block_node_in_flight(s), 0);
    assert_true(block_fault_held(t) > 0);
    test_node_del("s");
    /* what is in flight at the target keeps it, and nobody else can write to it */
    assert_false(block_co_delete("t", &error));
    assert_null(blk_co_new("other", t, true, NULL));
    job_release(t);
    while (block_node_writer(t) != NULL) {
        co_yield_turn();
    }
    test_settle();
    test_node_del("t");
}

BLOCK_TEST(a_target_that_answers_is_free_when_a_cancelled_job_concludes)
{
    BlockNode *s, *t;
    copy_disks(SLOW_SOURCE, SLOW_TARGET, &s, &t);
    job_set_fault(t, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    CopyJob *j = copy_start_job(s, t, (CopyOptions){0});
    job_await_held(t, 2);
    copy_pass_time(1); /* no time passes any more */
    assert_true(job_cancel(j->bj.job, true, NULL));
    test_settle();
    assert_non_null(job_find("job0"));
    job_release(t);
    job_await_end("job0", "CANCELLED ");
    copy_end_disks();
}

BLOCK_TEST(a_cancelled_copy_waits_for_reads_of_the_source)
{
    BlockNode *s, *t;
    copy_disks(SLOW_SOURCE, SLOW_TARGET, &s, &t);
    job_set_fault(s, (BlockFault){.op = BLOCK_FAULT_READ, .hold = true});
    CopyJob *j = copy_start_job(s, t, (CopyOptions){0});
    job_await_held(s, 1);
    assert_true(job_cancel(j->bj.job, true, NULL));
    test_settle();
    assert_non_null(job_find("job0"));
    job_release(s);
    job_await_end("job0", "CANCELLED ");
    copy_end_disks();
}

/* ---- drained sections ---- */

BLOCK_TEST(a_drained_section_waits_for_reads_and_keeps_new_ones_off)
{
    BlockNode *s, *t;
    copy_disks(SLOW_SOURCE, SLOW_TARGET, &s, &t);
    BlockBackend *blk = blk_co_new("guest", s, false, NULL);
    job_set_fault(t, (BlockFault){.op = BLOCK_FAULT_WRITE, .hold = true});
    copy_start_job(s, t, (CopyOptions){.copy.memory = 65536});
    job_await_held(t, 1);
    co_drained_begin(&blk, 1); /* the target hangs, which does not matter to the source */
    assert_int_equal(block_node_in_flight(s), 0);
    job_release(t);
    test_settle();
    test_settle();
    assert_int_equal(block_node_in_flight(s), 0);
    assert_int_equal(block_node_in_flight(t), 0);
    assert_non_null(job_find("job0"));
    co_drained_end(&blk, 1);
    job_await_end("job0", "COMPLETED ");
    blk_co_free(blk);
    job_assert_same(s, t);
    copy_end_disks();
}

/* ---- speed ---- */

BLOCK_TEST(a_copy_keeps_to_its_speed_and_follows_a_change)
{
    BlockNode *s, *t;
    uint64_t current = 0, total;
    copy_disks(SOURCE, TARGET, &s, &t);
    copy_pass_time(1);
    CopyJob *j = copy_start_job(s, t, (CopyOptions){.config.speed = 1 << 20, .granularity = 65536});
    while (current < 512 << 10) { /* of the first MiB, which is data */
        copy_pass_time(5000000);
        job_progress_get(j->bj.job, &current, &total);
    }
    assert_in_range(copy_now, 370000000, INT64_C(10000000000)); /* the last chunk is not paid yet */
    assert_true(job_set_speed(j->bj.job, 0, NULL));
    job_await_end("job0", "COMPLETED ");
    job_assert_same(s, t);
    copy_end_disks();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_copied),
        cmocka_unit_test(a_disk_whose_size_is_no_multiple_of_anything_is_copied),
        cmocka_unit_test(progress_ends_at_the_number_of_bytes_to_copy),
        cmocka_unit_test(zeroes_are_written_only_where_the_target_may_have_something_else),
        cmocka_unit_test(an_error_is_reported_ignored_or_stops_the_job),
        cmocka_unit_test(a_paused_copy_has_nothing_in_flight),
        cmocka_unit_test(a_cancel_does_not_wait_for_a_target_that_hangs),
        cmocka_unit_test(a_target_that_answers_is_free_when_a_cancelled_job_concludes),
        cmocka_unit_test(a_cancelled_copy_waits_for_reads_of_the_source),
        cmocka_unit_test(a_drained_section_waits_for_reads_and_keeps_new_ones_off),
        cmocka_unit_test(a_copy_keeps_to_its_speed_and_follows_a_change),
    };
    return job_test_main(tests);
}
