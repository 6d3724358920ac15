/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: every verb in every state, and jobs_cancel_all() in every state. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/job_rig.h"

static void rig_change_nothing(Job *job)
{
}

static RUNS_IN_MAIN bool rig_use_verb(JobRig *rig, JobVerb verb, GError **error)
{
    switch (verb) {
    case JOB_VERB_CANCEL:
        return job_cancel(rig->job, true, error);
    case JOB_VERB_PAUSE:
        return job_pause(rig->job, error);
    case JOB_VERB_RESUME:
        return job_resume(rig->job, error);
    case JOB_VERB_SET_SPEED:
        return job_set_speed(rig->job, 1, error);
    case JOB_VERB_CHANGE:
        return job_change(rig->job, rig_change_nothing, error);
    case JOB_VERB_COMPLETE:
        return job_complete(rig->job, error);
    case JOB_VERB_DISMISS:
        return job_dismiss(rig->job, error);
    default:
        return job_verb_check(rig->job, verb, error);
    }
}

typedef struct Legal {
    JobStatus status;
    const char *verbs;
} Legal;

/* The table of QEMU's QMP reference. */
static const Legal legal[] = {
    {JOB_STATUS_CREATED, "cancel pause resume set-speed change"},
    {JOB_STATUS_RUNNING, "cancel pause resume set-speed change"},
    {JOB_STATUS_PAUSED, "cancel pause resume set-speed change"},
    {JOB_STATUS_READY, "cancel pause resume set-speed change complete"},
    {JOB_STATUS_STANDBY, "cancel pause resume set-speed change"},
    {JOB_STATUS_PENDING, "cancel finalize"},
    {JOB_STATUS_ABORTING, ""},
    {JOB_STATUS_CONCLUDED, "dismiss"},
};

static void every_verb_is_legal_exactly_where_it_is_in_qemu(void **state)
{
    JobRig *rig = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(legal); i++) {
        g_auto(GStrv) verbs = g_strsplit(legal[i].verbs, " ", 0);
        job_rig_drive_to(rig, legal[i].status);
        assert_string_equal(job_status_names[job_status(rig->job)],
                            job_status_names[legal[i].status]);
        for (unsigned verb = 0; verb < JOB_VERB_COUNT; verb++) {
            bool expected = g_strv_contains((const char *const *)verbs, job_verb_names[verb]);
            if (job_verb_check(rig->job, (JobVerb)verb, NULL) != expected) {
                fail_msg("%s in %s", job_verb_names[verb], job_status_names[legal[i].status]);
            }
        }
        job_rig_dispose(rig);
    }
}

static void an_illegal_verb_is_refused_and_changes_nothing(void **state)
{
    JobRig *rig = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(legal); i++) {
        job_rig_drive_to(rig, legal[i].status);
        for (unsigned verb = 0; verb < JOB_VERB_COUNT; verb++) {
            if (strstr(legal[i].verbs, job_verb_names[verb]) != NULL) {
                continue;
            }
            g_autoptr(GError) error = NULL;
            g_autofree char *text =
                g_strdup_printf("Job 'job0' in state '%s' cannot accept command verb '%s'",
                                job_status_names[legal[i].status], job_verb_names[verb]);
            assert_false(rig_use_verb(rig, (JobVerb)verb, &error));
            assert_string_equal(error->message, text);
            job_rig_settle(rig);
            assert_int_equal(job_status(rig->job), legal[i].status);
        }
        job_rig_dispose(rig);
    }
}

static void a_cancel_in_every_state_aborts(void **state)
{
    JobRig *rig = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(legal); i++) {
        if (strstr(legal[i].verbs, "cancel") == NULL) {
            continue;
        }
        job_rig_drive_to(rig, legal[i].status);
        assert_true(job_cancel(rig->job, true, NULL));
        job_rig_settle(rig);
        assert_int_equal(rig->s.aborts, 1);
        assert_int_equal(rig->s.commits, 0);
        assert_int_equal(rig->s.cleans, 1);
        if (job_find("job0") != NULL) {
            assert_string_equal(job_error_text(rig->job), g_strerror(ECANCELED));
            assert_true(job_dismiss(rig->job, NULL));
        } else {
            assert_int_equal(legal[i].status, JOB_STATUS_CREATED);
        }
    }
}

/* ---- the way out ---- */

static void settle_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    jobs_cancel_all();
    jobs_co_settle();
    *(bool *)opaque = true;
}

static void cancel_all_cancels_jobs_and_waits_for_their_ends(void **state)
{
    JobRig *rig = *state;
    enter_main();
    SampleJob others[3] = {{.units = 5, .unit_ns = JOB_RIG_UNIT_NS},
                           {.wants_complete = true},
                           {.units = 5, .unit_ns = JOB_RIG_UNIT_NS, .clean_yields = true}};
    bool settled = false;
    job_rig_drive_to(rig, JOB_STATUS_CONCLUDED); /* needs no cancel and stays */
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
        char id[] = "x0";
        id[1] = (char)('0' + i);
        JobConfig config = {.id = id, .home = rig->ctx};
        job_start(job_new(&sample_plain_driver, &config, &others[i], NULL));
    }
    job_rig_settle(rig);
    co_start(rig->ctx, settle_run, &settled);
    job_rig_settle(rig);
    assert_false(settled);
    sample_job_continue(&others[2]);
    job_rig_settle(rig);
    assert_true(settled);
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
        assert_int_equal(others[i].aborts, 1);
        assert_int_equal(others[i].frees, 1);
    }
    job_rig_dispose(rig);
}

static void cancel_all_works_in_every_state(void **state)
{
    JobRig *rig = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(legal); i++) {
        bool settled = false;
        job_rig_drive_to(rig, legal[i].status);
        co_start(rig->ctx, settle_run, &settled);
        job_rig_settle(rig);
        if (rig->s.waiting) { /* ABORTING waits for its clean */
            assert_false(settled);
            sample_job_continue(&rig->s);
            job_rig_settle(rig);
        }
        assert_true(settled);
        assert_int_equal(rig->s.commits, 0);
        if (job_find("job0") != NULL) {
            assert_true(job_dismiss(rig->job, NULL));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOB_RIG_TEST(every_verb_is_legal_exactly_where_it_is_in_qemu),
        JOB_RIG_TEST(an_illegal_verb_is_refused_and_changes_nothing),
        JOB_RIG_TEST(a_cancel_in_every_state_aborts),
        JOB_RIG_TEST(cancel_all_cancels_jobs_and_waits_for_their_ends),
        JOB_RIG_TEST(cancel_all_works_in_every_state),
    };
    return cmocka_run_group_tests_name("job verbs", tests, NULL, NULL);
}
