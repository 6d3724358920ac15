/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: cancel and pause at every schedule point, races across threads, and bugs that abort. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "tests/support/death.h"
#include "tests/support/job_rig.h"
#include "util/loop/iothread.h"
#include "util/loop/sched_point.h"

/* ---- every schedule point ---- */

static const char *const points[] = {"job.moved", "job.pause_point", "job.step_done", "job.prepare",
                                     "job.decided"};

typedef struct Strike {
    unsigned hits;
    unsigned at; /* strikes at this hit, counted over all points */
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

/* A whole life with all phases and one strike. False: the life ended before the strike. */
static RUNS_IN_MAIN bool rig_run_with_strike(JobRig *rig, Strike *strike)
{
    rig->s = (SampleJob){.unit_ns = JOB_RIG_UNIT_NS, .units = 2, .wants_complete = true};
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        sched_point_hook(points[i], strike_hit, strike);
    }
    job_rig_start(rig, false);
    for (unsigned turn = 0; turn < 10 && job_find("job0") != NULL; turn++) {
        job_rig_advance(rig, 1);
        if (job_find("job0") != NULL && job_user_paused(rig->job)) {
            assert_true(job_status(rig->job) == JOB_STATUS_PAUSED ||
                        job_status(rig->job) == JOB_STATUS_STANDBY);
            job_resume(rig->job, NULL);
            job_rig_settle(rig);
        }
        if (job_find("job0") != NULL && job_status(rig->job) == JOB_STATUS_READY) {
            job_complete(rig->job, NULL);
            job_rig_settle(rig);
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
    JobRig *rig = *state;
    enter_main();
    unsigned aborts = 0, n = 0;
    for (Strike strike = {.fn = strike_cancel}; rig_run_with_strike(rig, &strike);
         strike = (Strike){.at = ++n, .fn = strike_cancel}) {
        aborts += rig->s.aborts;
        assert_true(strike.accepted || rig->s.commits == 1);
        g_string_truncate(rig->log, 0);
    }
    assert_true(n > 10);     /* the schedule points exist */
    assert_true(aborts > 5); /* most strikes come before the decision */
}

static void a_pause_at_every_schedule_point_pauses_and_resumes(void **state)
{
    JobRig *rig = *state;
    enter_main();
    unsigned n = 0;
    for (Strike strike = {.fn = strike_pause}; rig_run_with_strike(rig, &strike);
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

/* A message to the job's home context and back. */
typedef struct Bounce {
    AioContext *main_ctx, *home;
    bool under_way; /* main */
} Bounce;

static void bounce_back(void *opaque)
{
    ((Bounce *)opaque)->under_way = false;
}

static void bounce_at_home(void *opaque)
{
    Bounce *b = opaque;
    aio_post(b->main_ctx, bounce_back, b);
}

/* Waits for an event of the job or for a turn of its home, whichever is first. A pause that is
 * withdrawn in time causes no event. */
static void bounce_wait(Bounce *b)
{
    if (!b->under_way) {
        b->under_way = true;
        aio_post(b->home, bounce_at_home, b);
    }
    aio_context_step(b->main_ctx, true);
}

static RUNS_IN_MAIN void race_once(JobRig *rig, AioContext *home, unsigned round)
{
    SampleJob s = {.units = 1 + round % 7, .wants_complete = round % 3 == 0};
    JobConfig config = {.id = "race", .home = home};
    Bounce bounce = {.main_ctx = rig->ctx, .home = home};
    job_start(job_new(&sample_job_driver, &config, &s, NULL));
    for (unsigned turn = 0; job_find("race") != NULL; turn++) {
        if (turn > round % 11) {
            bounce_wait(&bounce);
        } else {
            aio_context_step(rig->ctx, false);
        }
        Job *job = job_find("race");
        if (job != NULL && turn >= round % 11) {
            race_strike(job, s.wants_complete && turn > 20 ? 3 : round + turn);
        }
    }
    while (bounce.under_way) {
        aio_context_step(rig->ctx, true);
    }
    assert_int_equal(s.commits + s.aborts, 1);
    assert_int_equal(s.frees, 1);
}

static void pause_cancel_and_completion_race_from_another_thread(void **state)
{
    JobRig *rig = *state;
    enter_main();
    jobs_init(rig->ctx, &race_host, NULL);
    IoThread *thread = iothread_new("job", 0, NULL);
    for (unsigned round = 0; round < 400; round++) {
        race_once(rig, iothread_context(thread), round);
    }
    iothread_free(thread);
}

/* Main is held in its home, after the step's end, while a cancel arrives. */
static void a_cancel_before_main_sees_the_end_of_the_step_aborts(void **state)
{
    JobRig *rig = *state;
    enter_main();
    IoThread *thread = iothread_new("job", 0, NULL);
    SampleJob s = {.units = 1};
    JobConfig config = {.id = "late", .home = iothread_context(thread)};
    sched_point_hold("job.step_done");
    Job *job = job_new(&sample_job_driver, &config, &s, NULL);
    job_start(job);
    job_rig_settle(rig);
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
    held_push(RANK_DRAINED, job, "a node", false);
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
    JobRig *rig;
    JobDriver driver;
} Bug;

static void run_bug(void *arg)
{
    Bug *bug = arg;
    enter_main();
    JobConfig config = {.id = "bug", .home = bug->rig->ctx};
    job_start(job_new(&bug->driver, &config, NULL, NULL));
    job_rig_settle(bug->rig);
}

static void a_data_step_that_breaks_the_rules_aborts(void **state)
{
    Bug bug = {.rig = *state, .driver = {.type = "mirror", .co_run = step_returns_nonsense}};
    assert_dies(run_bug, &bug, "its data step returned 1");
    bug.driver.co_run = step_holds_something;
    assert_dies(run_bug, &bug, "the pause point of a job while holding 'a node'");
    bug.driver.co_run = step_is_ready_twice;
    assert_dies(run_bug, &bug, "is moved from ready to ready by job_become_ready()");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOB_RIG_TEST(
            a_data_step_that_breaks_the_rules_aborts), /* forks, so it runs before threads exist */
        JOB_RIG_TEST(a_cancel_at_every_schedule_point_ends_the_job_one_way),
        JOB_RIG_TEST(a_pause_at_every_schedule_point_pauses_and_resumes),
        JOB_RIG_TEST(pause_cancel_and_completion_race_from_another_thread),
        JOB_RIG_TEST(a_cancel_before_main_sees_the_end_of_the_step_aborts),
    };
    return cmocka_run_group_tests_name("job races", tests, NULL, NULL);
}
