/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: every state, every verb in every state, cancel and pause at every schedule point, races. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/death.h"
#include "tests/support/sample_job.h"
#include "util/iothread.h"
#include "util/sched_point.h"

#define UNIT_NS INT64_C(1000000)

/* Main, the jobs' host, and a log of what the host was told. */
typedef struct Rig {
    AioContext *ctx;
    int64_t now_ns;
    CoMutex operation;
    unsigned operations;
    GString *log;
    SampleJob s;
    Job *job;
} Rig;

static void rig_operation_begin(void *opaque)
{
    enter_coroutine();
    Rig *rig = opaque;
    co_mutex_lock(&rig->operation);
    rig->operations++;
}

static void rig_operation_end(void *opaque)
{
    enter_coroutine();
    co_mutex_unlock(&((Rig *)opaque)->operation);
}

static void rig_event(void *opaque, const Job *job, JobEvent event)
{
    enter_main();
    Rig *rig = opaque;
    static const char *const names[] = {[JOB_EVENT_READY] = "READY!",
                                        [JOB_EVENT_PENDING] = "PENDING!",
                                        [JOB_EVENT_COMPLETED] = "COMPLETED!",
                                        [JOB_EVENT_CANCELLED] = "CANCELLED!"};
    assert_job_state(job);
    g_string_append_printf(rig->log, "%s%s", rig->log->len != 0 ? " " : "",
                           event == JOB_EVENT_STATUS ? job_status_names[job_status(job)]
                                                     : names[event]);
}

static void rig_io_error(void *opaque, const Job *job, bool is_read, JobErrorAction action)
{
    Rig *rig = opaque;
    g_string_append_printf(rig->log, " %s-error", is_read ? "read" : "write");
}

static const JobHost rig_host = {.co_operation_begin = rig_operation_begin,
                                 .co_operation_end = rig_operation_end,
                                 .event = rig_event,
                                 .io_error = rig_io_error};

static int rig_setup(void **state)
{
    Rig *rig = g_new0(Rig, 1);
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    rig->ctx = aio_context_new("main", NULL);
    rig->now_ns = 1;
    aio_context_set_virtual_time(rig->ctx, rig->now_ns);
    rig->log = g_string_new(NULL);
    rig->s.unit_ns = UNIT_NS;
    co_mutex_init(&rig->operation, RANK_OPERATION, "operation lock");
    jobs_init(rig->ctx, &rig_host, rig);
    *state = rig;
    return 0;
}

static int rig_teardown(void **state)
{
    Rig *rig = *state;
    sched_point_reset();
    aio_context_free(rig->ctx);
    g_string_free(rig->log, TRUE);
    g_free(rig);
    return 0;
}

static void rig_settle(Rig *rig)
{
    while (aio_context_step(rig->ctx, false)) {
    }
}

static void rig_advance(Rig *rig, unsigned units)
{
    for (unsigned i = 0; i < units; i++) {
        rig->now_ns += UNIT_NS;
        aio_context_set_virtual_time(rig->ctx, rig->now_ns);
        rig_settle(rig);
    }
}

static RUNS_IN_MAIN Job *rig_new(Rig *rig, bool manual)
{
    JobConfig config = {
        .id = "job0", .home = rig->ctx, .manual_finalize = manual, .manual_dismiss = manual};
    rig->job = job_new(&sample_job_driver, &config, &rig->s, NULL);
    assert_non_null(rig->job);
    return rig->job;
}

static RUNS_IN_MAIN Job *rig_start(Rig *rig, bool manual)
{
    job_start(rig_new(rig, manual));
    rig_settle(rig);
    return rig->job;
}

/* ---- verbs that wait ---- */

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

static void rig_finalize(Rig *rig, Finalize *f)
{
    f->job = rig->job;
    co_start(rig->ctx, finalize_run, f);
    rig_settle(rig);
}

/* ---- the states ---- */

/* One more state on the way of a job that is READY before its end, until @status. */
static RUNS_IN_MAIN void rig_drive(Rig *rig, JobStatus status)
{
    rig->s = (SampleJob){.unit_ns = UNIT_NS, .units = 1, .wants_complete = true};
    switch (status) {
    case JOB_STATUS_CREATED:
        rig_new(rig, true);
        return;
    case JOB_STATUS_RUNNING:
        rig_start(rig, true);
        return;
    case JOB_STATUS_PAUSED:
        assert_true(job_pause(rig_start(rig, true), NULL));
        break;
    case JOB_STATUS_READY:
        rig_start(rig, true);
        rig_advance(rig, 1);
        return;
    case JOB_STATUS_STANDBY:
        rig_start(rig, true);
        rig_advance(rig, 1);
        assert_true(job_pause(rig->job, NULL));
        break;
    case JOB_STATUS_PENDING:
        rig_start(rig, true);
        rig_advance(rig, 1);
        assert_true(job_complete(rig->job, NULL));
        break;
    case JOB_STATUS_ABORTING:
        rig->s.clean_yields = true;
        assert_true(job_cancel(rig_start(rig, true), true, NULL));
        break;
    default:
        assert_true(job_cancel(rig_start(rig, true), true, NULL));
        break;
    }
    rig_settle(rig);
}

/* Lets whatever it is end. */
static RUNS_IN_MAIN void rig_dispose(Rig *rig)
{
    if (job_status(rig->job) != JOB_STATUS_CONCLUDED) {
        job_cancel(rig->job, true, NULL);
        rig_settle(rig);
    }
    while (rig->s.stands) {
        sample_job_go_on(&rig->s);
        rig_settle(rig);
    }
    if (job_find("job0") != NULL) {
        assert_true(job_dismiss(rig->job, NULL));
    }
    assert_null(job_find("job0"));
    assert_int_equal(rig->s.frees, 1);
}

static RUNS_IN_MAIN bool rig_use_verb(Rig *rig, JobVerb verb, GError **error)
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

/* What QEMU's QMP reference says. */
static const Legal legal[] = {
    {JOB_STATUS_CREATED, "cancel pause resume set-speed"},
    {JOB_STATUS_RUNNING, "cancel pause resume set-speed"},
    {JOB_STATUS_PAUSED, "cancel pause resume set-speed"},
    {JOB_STATUS_READY, "cancel pause resume set-speed complete"},
    {JOB_STATUS_STANDBY, "cancel pause resume set-speed"},
    {JOB_STATUS_PENDING, "cancel finalize"},
    {JOB_STATUS_ABORTING, ""},
    {JOB_STATUS_CONCLUDED, "dismiss"},
};

static void every_verb_is_legal_exactly_where_it_is_in_qemu(void **state)
{
    Rig *rig = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(legal); i++) {
        g_auto(GStrv) verbs = g_strsplit(legal[i].verbs, " ", 0);
        rig_drive(rig, legal[i].status);
        assert_string_equal(job_status_names[job_status(rig->job)],
                            job_status_names[legal[i].status]);
        for (unsigned verb = 0; verb < JOB_VERB_COUNT; verb++) {
            bool expected = g_strv_contains((const char *const *)verbs, job_verb_names[verb]);
            if (job_verb_check(rig->job, (JobVerb)verb, NULL) != expected) {
                fail_msg("%s in %s", job_verb_names[verb], job_status_names[legal[i].status]);
            }
        }
        rig_dispose(rig);
    }
}

static void an_illegal_verb_is_refused_and_changes_nothing(void **state)
{
    Rig *rig = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(legal); i++) {
        rig_drive(rig, legal[i].status);
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
            rig_settle(rig);
            assert_int_equal(job_status(rig->job), legal[i].status);
        }
        rig_dispose(rig);
    }
}

static void a_cancel_in_every_state_aborts(void **state)
{
    Rig *rig = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(legal); i++) {
        if (strstr(legal[i].verbs, "cancel") == NULL) {
            continue;
        }
        rig_drive(rig, legal[i].status);
        assert_true(job_cancel(rig->job, true, NULL));
        rig_settle(rig);
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

/* ---- lives ---- */

static void a_job_that_succeeds_goes_through_waiting_and_pending(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.units = 3;
    rig_start(rig, false);
    rig_advance(rig, 3);
    assert_string_equal(rig->log->str, "created running waiting pending COMPLETED! concluded null");
    assert_int_equal(rig->s.commits, 1);
    assert_int_equal(rig->s.aborts, 0);
    assert_int_equal(rig->s.cleans, 1);
    assert_int_equal(rig->s.frees, 1);
    assert_int_equal(rig->operations, 1);
    assert_null(job_find("job0"));
}

static void a_job_that_fails_is_aborted_and_tells_why(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.ret = -ENOSPC;
    rig->s.error = "the disk is full";
    rig_start(rig, true);
    assert_string_equal(rig->log->str, "created running aborting COMPLETED! concluded");
    assert_string_equal(job_error_text(rig->job), "the disk is full");
    assert_int_equal(rig->s.prepares, 0);
    assert_int_equal(rig->s.aborts, 1);
    rig_dispose(rig);
}

static void a_prepare_that_fails_aborts(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.prepare_ret = -EIO;
    rig_start(rig, false);
    assert_string_equal(rig->log->str,
                        "created running waiting pending aborting COMPLETED! concluded null");
    assert_int_equal(rig->s.aborts, 1);
    assert_int_equal(rig->s.commits, 0);
}

static void manual_finalize_and_dismiss_wait_for_their_verbs(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_start(rig, true);
    assert_string_equal(rig->log->str, "created running waiting pending PENDING!");
    assert_int_equal(rig->s.commits, 0);
    Finalize f = {0};
    rig_finalize(rig, &f);
    assert_true(f.returned && f.ok);
    assert_int_equal(rig->s.commits, 1);
    assert_int_equal(job_status(rig->job), JOB_STATUS_CONCLUDED);
    assert_null(job_error_text(rig->job));
    rig_dispose(rig);
    assert_true(g_str_has_suffix(rig->log->str, "PENDING! COMPLETED! concluded null"));
}

static void a_second_finalize_is_refused_while_the_first_is_under_way(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.prepare_yields = true;
    rig_start(rig, true);
    Finalize f = {0}, again = {0};
    rig_finalize(rig, &f);
    assert_false(f.returned);
    rig_finalize(rig, &again);
    assert_true(again.returned && !again.ok);
    sample_job_go_on(&rig->s);
    rig_settle(rig);
    assert_true(f.returned && f.ok);
    rig_dispose(rig);
}

static void a_paused_job_stands_still(void **state)
{
    Rig *rig = *state;
    enter_main();
    uint64_t current, total;
    rig->s.units = 10;
    rig_start(rig, false);
    rig_advance(rig, 2);
    assert_true(job_pause(rig->job, NULL));
    rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PAUSED);
    assert_false(job_busy(rig->job));
    job_progress_get(rig->job, &current, &total);
    rig_advance(rig, 20);
    uint64_t later;
    job_progress_get(rig->job, &later, &total);
    assert_int_equal(later, current);
    assert_int_equal(total, 10);
    g_autoptr(GError) error = NULL;
    assert_false(job_pause(rig->job, &error));
    assert_string_equal(error->message, "Job is already paused");
    assert_true(job_resume(rig->job, NULL));
    rig_advance(rig, 10);
    assert_null(job_find("job0"));
    assert_int_equal(rig->s.commits, 1);
}

static void a_resume_before_the_job_stood_leaves_it_running(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.units = 3;
    rig_start(rig, false);
    assert_true(job_pause(rig->job, NULL));
    assert_true(job_resume(rig->job, NULL));
    g_autoptr(GError) error = NULL;
    assert_false(job_resume(rig->job, &error));
    assert_string_equal(error->message, "Can't resume a job that was not paused");
    rig_advance(rig, 4);
    assert_string_equal(rig->log->str, "created running waiting pending COMPLETED! concluded null");
}

static void a_pause_right_after_a_resume_stands_again(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_drive(rig, JOB_STATUS_PAUSED);
    assert_true(job_resume(rig->job, NULL));
    assert_int_equal(job_status(rig->job), JOB_STATUS_RUNNING);
    assert_true(job_pause(rig->job, NULL)); /* before its coroutine has had a turn */
    rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PAUSED);
    rig_dispose(rig);
}

static void a_job_paused_before_it_starts_begins_paused(void **state)
{
    Rig *rig = *state;
    enter_main();
    assert_true(job_pause(rig_new(rig, false), NULL));
    job_start(rig->job);
    rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PAUSED);
    assert_int_equal(rig->s.runs, 0);
    assert_true(job_resume(rig->job, NULL));
    rig_settle(rig);
    assert_int_equal(rig->s.runs, 1);
    assert_int_equal(rig->s.commits, 1);
}

static void complete_ends_the_ready_phase(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.wants_complete = true;
    rig_start(rig, false);
    assert_string_equal(rig->log->str, "created running ready READY!");
    assert_true(job_complete(rig->job, NULL));
    rig_settle(rig);
    assert_int_equal(rig->s.commits, 1);
}

static void a_ready_job_stands_by_and_comes_back(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_drive(rig, JOB_STATUS_STANDBY);
    assert_true(job_resume(rig->job, NULL));
    rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_READY);
    assert_true(g_str_has_suffix(rig->log->str, "READY! standby ready"));
    rig_dispose(rig);
}

static void a_cancel_without_force_may_end_a_ready_job_well(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig_drive(rig, JOB_STATUS_READY);
    rig->s.ends_well_unforced = true;
    assert_true(job_cancel(rig->job, false, NULL));
    rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PENDING);
    assert_false(job_is_cancelled(rig->job));
    rig_dispose(rig);
}

static void a_cancel_during_prepare_aborts(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.prepare_yields = true;
    rig_start(rig, false);
    assert_true(rig->s.stands);
    assert_true(job_cancel(rig->job, true, NULL));
    sample_job_go_on(&rig->s);
    rig_settle(rig);
    assert_int_equal(rig->s.aborts, 1);
    assert_int_equal(rig->s.commits, 0);
    assert_true(g_str_has_suffix(rig->log->str, "aborting CANCELLED! concluded null"));
}

static void a_cancel_after_the_commit_changes_nothing(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.clean_yields = true;
    rig_start(rig, false);
    assert_int_equal(rig->s.commits, 1);
    assert_true(job_cancel(rig->job, true, NULL));
    sample_job_go_on(&rig->s);
    rig_settle(rig);
    assert_int_equal(rig->s.aborts, 0);
    assert_true(g_str_has_suffix(rig->log->str, "pending COMPLETED! concluded null"));
}

static void take_operation(void *opaque)
{
    Rig *rig = opaque;
    enter_coroutine();
    co_mutex_lock(&rig->operation);
    rig->s.token = co_arm();
    co_wait(rig->s.token);
    co_mutex_unlock(&rig->operation);
}

static void a_cancel_works_while_the_end_waits_for_another_operation(void **state)
{
    Rig *rig = *state;
    enter_main();
    co_start(rig->ctx, take_operation, rig);
    rig_settle(rig);
    rig_start(rig, false);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PENDING);
    assert_int_equal(rig->s.prepares, 0);
    assert_true(job_cancel(rig->job, true, NULL));
    co_wake(rig->s.token);
    rig_settle(rig);
    assert_int_equal(rig->s.prepares, 0);
    assert_int_equal(rig->s.aborts, 1);
    assert_null(job_find("job0"));
}

static void the_speed_bounds_a_throttled_job_and_can_be_changed(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.units = 2;
    rig->s.throttled = true;
    JobConfig config = {.id = "job0", .home = rig->ctx, .speed = 1};
    rig->job = job_new(&sample_job_driver, &config, &rig->s, NULL);
    job_start(rig->job);
    rig_advance(rig, 100); /* a unit takes 1000 s */
    uint64_t current, total;
    job_progress_get(rig->job, &current, &total);
    assert_int_equal(current, 0);
    assert_true(job_set_speed(rig->job, 1000000, NULL)); /* 1 ms */
    rig_advance(rig, 3);
    assert_null(job_find("job0"));
}

static void an_io_error_pauses_a_job_until_a_resume(void **state)
{
    Rig *rig = *state;
    enter_main();
    rig->s.units = 1;
    rig->s.io_errors = 1;
    JobConfig config = {.id = "job0", .home = rig->ctx, .action = JOB_ON_ERROR_STOP};
    rig->job = job_new(&sample_job_driver, &config, &rig->s, NULL);
    job_start(rig->job);
    rig_settle(rig);
    assert_int_equal(job_status(rig->job), JOB_STATUS_PAUSED);
    assert_true(job_io_failed(rig->job));
    assert_true(job_resume(rig->job, NULL));
    assert_false(job_io_failed(rig->job));
    rig_advance(rig, 2);
    assert_string_equal(rig->log->str, "created running read-error paused running waiting pending "
                                       "COMPLETED! concluded null");
}

static void an_abandoned_job_is_gone_without_a_decision(void **state)
{
    Rig *rig = *state;
    enter_main();
    job_abandon(rig_new(rig, true));
    assert_string_equal(rig->log->str, "created null");
    assert_int_equal(rig->s.frees, 1);
    assert_int_equal(rig->s.aborts + rig->s.commits + rig->s.cleans, 0);
}

static void ids_are_names_and_unique(void **state)
{
    Rig *rig = *state;
    enter_main();
    static const char *const bad[] = {"", "0a", "-a", "a b", "a/b", "\xff", "a\n"};
    rig_new(rig, true);
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
    rig_dispose(rig);
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

static void the_way_out_cancels_all_and_waits_for_their_ends(void **state)
{
    Rig *rig = *state;
    enter_main();
    SampleJob others[3] = {{.units = 5, .unit_ns = UNIT_NS},
                           {.wants_complete = true},
                           {.units = 5, .unit_ns = UNIT_NS, .clean_yields = true}};
    bool settled = false;
    rig_drive(rig, JOB_STATUS_CONCLUDED); /* needs no cancel, and stays */
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
        char id[] = "x0";
        id[1] = (char)('0' + i);
        JobConfig config = {.id = id, .home = rig->ctx};
        job_start(job_new(&sample_plain_driver, &config, &others[i], NULL));
    }
    rig_settle(rig);
    co_start(rig->ctx, settle_run, &settled);
    rig_settle(rig);
    assert_false(settled);
    sample_job_go_on(&others[2]);
    rig_settle(rig);
    assert_true(settled);
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
        assert_int_equal(others[i].aborts, 1);
        assert_int_equal(others[i].frees, 1);
    }
    rig_dispose(rig);
}

static void the_way_out_works_in_every_state(void **state)
{
    Rig *rig = *state;
    enter_main();
    for (unsigned i = 0; i < G_N_ELEMENTS(legal); i++) {
        bool settled = false;
        rig_drive(rig, legal[i].status);
        co_start(rig->ctx, settle_run, &settled);
        rig_settle(rig);
        if (rig->s.stands) { /* ABORTING waits for its clean */
            assert_false(settled);
            sample_job_go_on(&rig->s);
            rig_settle(rig);
        }
        assert_true(settled);
        assert_int_equal(rig->s.commits, 0);
        if (job_find("job0") != NULL) {
            assert_true(job_dismiss(rig->job, NULL));
        }
    }
}

/* ---- every schedule point ---- */

static const char *const points[] = {"job.moved", "job.pause_point", "job.step_done", "job.prepare",
                                     "job.decided"};

typedef struct Strike {
    unsigned hits;
    unsigned at; /* strikes at this hit of any point */
    bool done;
    bool accepted;
    void (*fn)(struct Strike *strike, Job *job);
} Strike;

static void strike_hit(void *arg, const void *object)
{
    enter_main();
    Strike *strike = arg;
    Job *job = job_find("job0");
    if (job == object && strike->hits++ == strike->at && !strike->done) {
        strike->done = true;
        strike->fn(strike, job);
    }
}

static void strike_cancel(Strike *strike, Job *job)
{
    enter_main();
    strike->accepted = job_cancel(job, true, NULL);
}

static void strike_pause(Strike *strike, Job *job)
{
    enter_main();
    strike->accepted = job_pause(job, NULL);
}

/* A whole life with all phases, and one strike in it. False: the life was over before. */
static RUNS_IN_MAIN bool rig_live_with_strike(Rig *rig, Strike *strike)
{
    rig->s = (SampleJob){.unit_ns = UNIT_NS, .units = 2, .wants_complete = true};
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        sched_point_hook(points[i], strike_hit, strike);
    }
    rig_start(rig, false);
    for (unsigned turn = 0; turn < 10 && job_find("job0") != NULL; turn++) {
        rig_advance(rig, 1);
        if (job_find("job0") != NULL && job_user_paused(rig->job)) {
            assert_true(job_status(rig->job) == JOB_STATUS_PAUSED ||
                        job_status(rig->job) == JOB_STATUS_STANDBY);
            job_resume(rig->job, NULL);
            rig_settle(rig);
        }
        if (job_find("job0") != NULL && job_status(rig->job) == JOB_STATUS_READY) {
            job_complete(rig->job, NULL);
            rig_settle(rig);
        }
    }
    sched_point_reset();
    assert_null(job_find("job0"));
    assert_int_equal(rig->s.commits + rig->s.aborts, 1);
    assert_int_equal(rig->s.cleans, 1);
    assert_int_equal(rig->s.frees, 1);
    return strike->done;
}

static void a_cancel_at_every_schedule_point_ends_the_job_one_way(void **state)
{
    Rig *rig = *state;
    enter_main();
    unsigned aborts = 0, n = 0;
    for (Strike strike = {.fn = strike_cancel}; rig_live_with_strike(rig, &strike);
         strike = (Strike){.at = ++n, .fn = strike_cancel}) {
        aborts += rig->s.aborts;
        assert_true(strike.accepted || rig->s.commits == 1);
        g_string_truncate(rig->log, 0);
    }
    assert_true(n > 10);     /* the points are there */
    assert_true(aborts > 5); /* and most come before the decision */
}

static void a_pause_at_every_schedule_point_stands_and_goes_on(void **state)
{
    Rig *rig = *state;
    enter_main();
    unsigned n = 0;
    for (Strike strike = {.fn = strike_pause}; rig_live_with_strike(rig, &strike);
         strike = (Strike){.at = ++n, .fn = strike_pause}) {
        assert_int_equal(rig->s.commits, 1);
        g_string_truncate(rig->log, 0);
    }
    assert_true(n > 10);
}

/* ---- across threads ---- */

static void race_host_event(void *opaque, const Job *job, JobEvent event)
{
    assert_job_state(job);
}

static const JobHost race_host = {.event = race_host_event};

static RUNS_IN_MAIN void race_strike(Job *job, unsigned choice)
{
    switch (choice % 4) {
    case 0:
        job_cancel(job, true, NULL);
        break;
    case 1:
        if (job_pause(job, NULL)) {
            job_cancel(job, true, NULL);
        }
        break;
    case 2:
        if (job_pause(job, NULL)) {
            job_resume(job, NULL);
        }
        break;
    case 3:
        job_complete(job, NULL);
        break;
    default:
        break;
    }
}

static RUNS_IN_MAIN void race_once(Rig *rig, AioContext *home, unsigned round)
{
    SampleJob s = {.units = 1 + round % 7, .wants_complete = round % 3 == 0};
    JobConfig config = {.id = "race", .home = home};
    job_start(job_new(&sample_job_driver, &config, &s, NULL));
    for (unsigned turn = 0; job_find("race") != NULL; turn++) {
        aio_context_step(rig->ctx, turn > round % 11);
        Job *job = job_find("race");
        if (job != NULL && turn >= round % 11) {
            race_strike(job, s.wants_complete && turn > 20 ? 3 : round + turn);
        }
    }
    assert_int_equal(s.commits + s.aborts, 1);
    assert_int_equal(s.frees, 1);
}

static void pause_cancel_and_completion_race_from_another_thread(void **state)
{
    Rig *rig = *state;
    enter_main();
    jobs_init(rig->ctx, &race_host, NULL);
    IoThread *thread = iothread_new("job", 0, NULL);
    for (unsigned round = 0; round < 400; round++) {
        race_once(rig, iothread_context(thread), round);
    }
    iothread_free(thread);
}

/* main holds the job's end in its home while a cancel arrives. */
static void a_cancel_between_the_steps_end_and_mains_knowledge_aborts(void **state)
{
    Rig *rig = *state;
    enter_main();
    IoThread *thread = iothread_new("job", 0, NULL);
    SampleJob s = {.units = 1};
    JobConfig config = {.id = "late", .home = iothread_context(thread)};
    sched_point_hold("job.step_done");
    Job *job = job_new(&sample_job_driver, &config, &s, NULL);
    job_start(job);
    rig_settle(rig);
    sched_point_await("job.step_done");
    assert_true(job_cancel(job, true, NULL));
    sched_point_release("job.step_done");
    while (job_find("late") != NULL) {
        aio_context_step(rig->ctx, true);
    }
    assert_int_equal(s.aborts, 1);
    assert_int_equal(s.commits, 0);
    iothread_free(thread);
}

/* ---- bugs abort ---- */

static int step_returns_nonsense(Job *job, GError **error)
{
    return 1;
}

static int step_holds_something(Job *job, GError **error)
{
    enter_coroutine();
    enter_main();
    held_push(RANK_NODE, job, "a node", false);
    job_co_pause_point(job);
    return 0;
}

static int step_is_ready_twice(Job *job, GError **error)
{
    enter_coroutine();
    enter_main();
    job_co_ready(job);
    job_co_ready(job);
    return 0;
}

typedef struct Bug {
    Rig *rig;
    JobDriver driver;
} Bug;

static void run_bug(void *arg)
{
    Bug *bug = arg;
    enter_main();
    JobConfig config = {.id = "bug", .home = bug->rig->ctx};
    job_start(job_new(&bug->driver, &config, NULL, NULL));
    rig_settle(bug->rig);
}

static void a_data_step_that_breaks_the_rules_aborts(void **state)
{
    Bug bug = {.rig = *state, .driver = {.type = "mirror", .co_run = step_returns_nonsense}};
    assert_dies(run_bug, &bug, "its data step returned 1");
    bug.driver.co_run = step_holds_something;
    assert_dies(run_bug, &bug, "a job's pause point while holding 'a node'");
    bug.driver.co_run = step_is_ready_twice;
    assert_dies(run_bug, &bug, "moves from ready to ready");
}

#define JOB_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOB_TEST(a_data_step_that_breaks_the_rules_aborts), /* forks: before there are threads */
        JOB_TEST(every_verb_is_legal_exactly_where_it_is_in_qemu),
        JOB_TEST(an_illegal_verb_is_refused_and_changes_nothing),
        JOB_TEST(a_cancel_in_every_state_aborts),
        JOB_TEST(a_job_that_succeeds_goes_through_waiting_and_pending),
        JOB_TEST(a_job_that_fails_is_aborted_and_tells_why),
        JOB_TEST(a_prepare_that_fails_aborts),
        JOB_TEST(manual_finalize_and_dismiss_wait_for_their_verbs),
        JOB_TEST(a_second_finalize_is_refused_while_the_first_is_under_way),
        JOB_TEST(a_paused_job_stands_still),
        JOB_TEST(a_resume_before_the_job_stood_leaves_it_running),
        JOB_TEST(a_pause_right_after_a_resume_stands_again),
        JOB_TEST(a_job_paused_before_it_starts_begins_paused),
        JOB_TEST(complete_ends_the_ready_phase),
        JOB_TEST(a_ready_job_stands_by_and_comes_back),
        JOB_TEST(a_cancel_without_force_may_end_a_ready_job_well),
        JOB_TEST(a_cancel_during_prepare_aborts),
        JOB_TEST(a_cancel_after_the_commit_changes_nothing),
        JOB_TEST(a_cancel_works_while_the_end_waits_for_another_operation),
        JOB_TEST(the_speed_bounds_a_throttled_job_and_can_be_changed),
        JOB_TEST(an_io_error_pauses_a_job_until_a_resume),
        JOB_TEST(an_abandoned_job_is_gone_without_a_decision),
        JOB_TEST(ids_are_names_and_unique),
        JOB_TEST(the_way_out_cancels_all_and_waits_for_their_ends),
        JOB_TEST(the_way_out_works_in_every_state),
        JOB_TEST(a_cancel_at_every_schedule_point_ends_the_job_one_way),
        JOB_TEST(a_pause_at_every_schedule_point_stands_and_goes_on),
        JOB_TEST(pause_cancel_and_completion_race_from_another_thread),
        JOB_TEST(a_cancel_between_the_steps_end_and_mains_knowledge_aborts),
    };
    return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
