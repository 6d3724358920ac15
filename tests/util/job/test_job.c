/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: their lives, from the first state to the last. test_job_verbs: every verb in every state;
 * test_job_races: every schedule point. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/job_rig.h"

typedef struct Finalize {
    Job *job;
    bool ok, returned;
} Finalize;

static void finalize_run(void *opaque)
{
    Finalize *f = opaque;
    enter_main();
    enter_coroutine();
    f->ok = job_co_finalize(f->job, NULL);
    f->returned = true;
}

static void rig_finalize(JobRig *rig, Finalize *f)
{
    f->job = rig->job;
    co_start(rig->ctx, finalize_run, f);
    job_rig_settle(rig);
}

static void a_job_that_succeeds_goes_through_waiting_and_pending(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.units = 3;
    job_rig_start(rig, false);
    job_rig_advance(rig, 3);
    assert_string_equal(rig->log->str, "created running waiting pending COMPLETED! concluded null");
    assert_int_equal(rig->s.commits, 1);
    assert_int_equal(rig->s.aborts, 0);
    assert_int_equal(rig->s.cleans, 1);
    assert_int_equal(rig->s.frees, 1);
    assert_int_equal(rig->operations, 1);
    assert_null(job_find("job0"));
}

static void a_job_that_fails_is_aborted_and_has_an_error(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.ret = -ENOSPC;
    rig->s.error = "the disk is full";
    job_rig_start(rig, true);
    assert_string_equal(rig->log->str, "created running aborting COMPLETED! concluded");
    assert_string_equal(job_error_text(rig->job), "the disk is full");
    assert_int_equal(rig->s.prepares, 0);
    assert_int_equal(rig->s.aborts, 1);
    job_rig_dispose(rig);
}

static void a_prepare_that_fails_aborts(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.prepare_ret = -EIO;
    job_rig_start(rig, false);
    assert_string_equal(rig->log->str,
                        "created running waiting pending aborting COMPLETED! concluded null");
    assert_int_equal(rig->s.aborts, 1);
    assert_int_equal(rig->s.commits, 0);
}

static void manual_finalize_and_dismiss_wait_for_their_verbs(void **state)
{
    JobRig *rig = *state;
    enter_main();
    job_rig_start(rig, true);
    assert_string_equal(rig->log->str, "created running waiting pending PENDING!");
    assert_int_equal(rig->s.commits, 0);
    Finalize f = {0};
    rig_finalize(rig, &f);
    assert_true(f.returned && f.ok);
    assert_int_equal(rig->s.commits, 1);
    assert_int_equal(job_status(rig->job), JOB_STATUS_CONCLUDED);
    assert_null(job_error_text(rig->job));
    job_rig_dispose(rig);
    assert_true(g_str_has_suffix(rig->log->str, "PENDING! COMPLETED! concluded null"));
}

static void a_second_finalize_is_refused_while_the_first_is_under_way(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.prepare_yields = true;
    job_rig_start(rig, true);
    Finalize f = {0}, again = {0};
    rig_finalize(rig, &f);
    assert_false(f.returned);
    rig_finalize(rig, &again);
    assert_true(again.returned && !again.ok);
    sample_job_continue(&rig->s);
    job_rig_settle(rig);
    assert_true(f.returned && f.ok);
    job_rig_dispose(rig);
}

static void a_paused_job_makes_no_progress(void **state)
{
    JobRig *rig = *state;
    enter_main();
    uint64_t current, total;
    rig->s.units = 10;
    job_rig_start(rig, false);
    job_rig_advance(rig, 2);
    assert_true(job_pause(rig->job, NULL));
    job_rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PAUSED);
    assert_false(job_busy(rig->job));
    job_progress_get(rig->job, &current, &total);
    job_rig_advance(rig, 20);
    uint64_t later;
    job_progress_get(rig->job, &later, &total);
    assert_int_equal(later, current);
    assert_int_equal(total, 10);
    g_autoptr(GError) error = NULL;
    assert_false(job_pause(rig->job, &error));
    assert_string_equal(error->message, "Job is already paused");
    assert_true(job_resume(rig->job, NULL));
    job_rig_advance(rig, 10);
    assert_null(job_find("job0"));
    assert_int_equal(rig->s.commits, 1);
}

static void a_resume_before_the_pause_point_leaves_the_job_running(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.units = 3;
    job_rig_start(rig, false);
    assert_true(job_pause(rig->job, NULL));
    assert_true(job_resume(rig->job, NULL));
    g_autoptr(GError) error = NULL;
    assert_false(job_resume(rig->job, &error));
    assert_string_equal(error->message, "Can't resume a job that was not paused");
    job_rig_advance(rig, 4);
    assert_string_equal(rig->log->str, "created running waiting pending COMPLETED! concluded null");
}

static void a_pause_right_after_a_resume_pauses_again(void **state)
{
    JobRig *rig = *state;
    enter_main();
    job_rig_drive_to(rig, JOB_STATUS_PAUSED);
    assert_true(job_resume(rig->job, NULL));
    assert_int_equal(job_status(rig->job), JOB_STATUS_RUNNING);
    assert_true(job_pause(rig->job, NULL)); /* before its coroutine has run */
    job_rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PAUSED);
    job_rig_dispose(rig);
}

static void a_job_paused_before_it_starts_begins_paused(void **state)
{
    JobRig *rig = *state;
    enter_main();
    assert_true(job_pause(job_rig_new(rig, false), NULL));
    job_start(rig->job);
    job_rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PAUSED);
    assert_int_equal(rig->s.runs, 0);
    assert_true(job_resume(rig->job, NULL));
    job_rig_settle(rig);
    assert_int_equal(rig->s.runs, 1);
    assert_int_equal(rig->s.commits, 1);
}

static void complete_ends_the_ready_phase(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.wants_complete = true;
    job_rig_start(rig, false);
    assert_string_equal(rig->log->str, "created running ready READY!");
    assert_true(job_complete(rig->job, NULL));
    job_rig_settle(rig);
    assert_int_equal(rig->s.commits, 1);
}

static void a_ready_job_pauses_in_standby_and_resumes(void **state)
{
    JobRig *rig = *state;
    enter_main();
    job_rig_drive_to(rig, JOB_STATUS_STANDBY);
    assert_true(job_resume(rig->job, NULL));
    job_rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_READY);
    assert_true(g_str_has_suffix(rig->log->str, "READY! standby ready"));
    job_rig_dispose(rig);
}

static void a_cancel_without_force_may_complete_a_ready_job(void **state)
{
    JobRig *rig = *state;
    enter_main();
    job_rig_drive_to(rig, JOB_STATUS_READY);
    rig->s.ends_well_unforced = true;
    assert_true(job_cancel(rig->job, false, NULL));
    job_rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PENDING);
    assert_false(job_is_cancelled(rig->job));
    job_rig_dispose(rig);
}

static void a_cancel_during_prepare_aborts(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.prepare_yields = true;
    job_rig_start(rig, false);
    assert_true(rig->s.waiting);
    assert_true(job_cancel(rig->job, true, NULL));
    sample_job_continue(&rig->s);
    job_rig_settle(rig);
    assert_int_equal(rig->s.aborts, 1);
    assert_int_equal(rig->s.commits, 0);
    assert_true(g_str_has_suffix(rig->log->str, "aborting CANCELLED! concluded null"));
}

static void a_cancel_after_the_commit_changes_nothing(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.clean_yields = true;
    job_rig_start(rig, false);
    assert_int_equal(rig->s.commits, 1);
    assert_true(job_cancel(rig->job, true, NULL));
    sample_job_continue(&rig->s);
    job_rig_settle(rig);
    assert_int_equal(rig->s.aborts, 0);
    assert_true(g_str_has_suffix(rig->log->str, "pending COMPLETED! concluded null"));
}

static void take_operation(void *opaque)
{
    JobRig *rig = opaque;
    enter_coroutine();
    co_mutex_lock(&rig->operation);
    rig->s.token = co_arm();
    co_wait(rig->s.token);
    co_mutex_unlock(&rig->operation);
}

static void a_cancel_works_while_the_end_waits_for_another_operation(void **state)
{
    JobRig *rig = *state;
    enter_main();
    co_start(rig->ctx, take_operation, rig);
    job_rig_settle(rig);
    job_rig_start(rig, false);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PENDING);
    assert_int_equal(rig->s.prepares, 0);
    assert_true(job_cancel(rig->job, true, NULL));
    co_wake(rig->s.token);
    job_rig_settle(rig);
    assert_int_equal(rig->s.prepares, 0);
    assert_int_equal(rig->s.aborts, 1);
    assert_null(job_find("job0"));
}

static void the_speed_bounds_a_throttled_job_and_can_be_changed(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.units = 2;
    rig->s.throttled = true;
    JobConfig config = {.id = "job0", .home = rig->ctx, .speed = 1};
    rig->job = job_new(&sample_job_driver, &config, &rig->s, NULL);
    job_start(rig->job);
    job_rig_advance(rig, 100); /* a unit takes 1000 s */
    uint64_t current, total;
    job_progress_get(rig->job, &current, &total);
    assert_int_equal(current, 0);
    assert_true(job_set_speed(rig->job, 1000000, NULL)); /* 1 ms */
    job_rig_advance(rig, 3);
    assert_null(job_find("job0"));
}

static void an_io_error_pauses_a_job_until_a_resume(void **state)
{
    JobRig *rig = *state;
    enter_main();
    rig->s.units = 1;
    rig->s.io_errors = 1;
    rig->s.io_error = (JobIoError){.is_read = true, .action = JOB_ON_ERROR_STOP};
    JobConfig config = {.id = "job0", .home = rig->ctx};
    rig->job = job_new(&sample_job_driver, &config, &rig->s, NULL);
    job_start(rig->job);
    job_rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PAUSED);
    assert_int_equal(job_io_status(rig->job), JOB_IO_FAILED);
    assert_true(job_resume(rig->job, NULL));
    assert_int_equal(job_io_status(rig->job), JOB_IO_OK);
    job_rig_advance(rig, 2);
    assert_string_equal(rig->log->str, "created running read-error paused running waiting pending "
                                       "COMPLETED! concluded null");
}

static void an_abandoned_job_is_freed_without_commit_or_abort(void **state)
{
    JobRig *rig = *state;
    enter_main();
    job_abandon(job_rig_new(rig, true));
    assert_string_equal(rig->log->str, "created null");
    assert_int_equal(rig->s.frees, 1);
    assert_int_equal(rig->s.aborts + rig->s.commits + rig->s.cleans, 0);
}

static void ids_are_names_and_unique(void **state)
{
    JobRig *rig = *state;
    enter_main();
    static const char *const bad[] = {"", "0a", "-a", "a b", "a/b", "\xff", "a\n"};
    job_rig_new(rig, true);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        JobConfig config = {.id = bad[i], .home = rig->ctx};
        assert_null(job_new(&sample_job_driver, &config, &rig->s, &error));
        assert_non_null(strstr(error->message, "Invalid job ID"));
    }
    g_autoptr(GError) error = NULL;
    JobConfig config = {.id = "job0", .home = rig->ctx};
    assert_null(job_new(&sample_job_driver, &config, &rig->s, &error));
    assert_string_equal(error->message, "Job ID 'job0' already in use");
    job_rig_dispose(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOB_RIG_TEST(a_job_that_succeeds_goes_through_waiting_and_pending),
        JOB_RIG_TEST(a_job_that_fails_is_aborted_and_has_an_error),
        JOB_RIG_TEST(a_prepare_that_fails_aborts),
        JOB_RIG_TEST(manual_finalize_and_dismiss_wait_for_their_verbs),
        JOB_RIG_TEST(a_second_finalize_is_refused_while_the_first_is_under_way),
        JOB_RIG_TEST(a_paused_job_makes_no_progress),
        JOB_RIG_TEST(a_resume_before_the_pause_point_leaves_the_job_running),
        JOB_RIG_TEST(a_pause_right_after_a_resume_pauses_again),
        JOB_RIG_TEST(a_job_paused_before_it_starts_begins_paused),
        JOB_RIG_TEST(complete_ends_the_ready_phase),
        JOB_RIG_TEST(a_ready_job_pauses_in_standby_and_resumes),
        JOB_RIG_TEST(a_cancel_without_force_may_complete_a_ready_job),
        JOB_RIG_TEST(a_cancel_during_prepare_aborts),
        JOB_RIG_TEST(a_cancel_after_the_commit_changes_nothing),
        JOB_RIG_TEST(a_cancel_works_while_the_end_waits_for_another_operation),
        JOB_RIG_TEST(the_speed_bounds_a_throttled_job_and_can_be_changed),
        JOB_RIG_TEST(an_io_error_pauses_a_job_until_a_resume),
        JOB_RIG_TEST(an_abandoned_job_is_freed_without_commit_or_abort),
        JOB_RIG_TEST(ids_are_names_and_unique),
    };
    return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
