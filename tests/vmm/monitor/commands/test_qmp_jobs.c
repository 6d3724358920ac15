/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP commands and events of jobs, with the sample job of the tests. */
#include <errno.h>
#include "tests/support/sample_job.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

#define LONG_NS (INT64_C(3600) * 1000000000)

static RUNS_IN_MAIN Job *start_job(QmpRig *rig, const JobDriver *driver, SampleJob *s)
{
    JobConfig config = {
        .id = "job0", .home = rig->vm.ctx, .manual_finalize = true, .manual_dismiss = true};
    Job *job = job_new(driver, &config, s, NULL);
    job_start(job);
    rig_settle(rig);
    return job;
}

static void a_block_job_is_controlled_by_the_job_commands(void **state)
{
    QmpRig *rig = *state;
    SampleJob s = {.wants_complete = true};
    enter_main();
    start_job(rig, &sample_job_driver, &s);
    qmp_returns(rig, "query-jobs", NULL,
                "[{\"id\":\"job0\",\"type\":\"mirror\",\"status\":\"ready\",\"current-progress\":0,"
                "\"total-progress\":0}]");
    g_free(qmp_ok(rig, "job-pause", "{'id':'job0'}"));
    rig_settle(rig);
    qmp_returns(rig, "query-jobs", NULL, "\"status\":\"standby\"");
    qmp_fails(rig, "job-complete", "{'id':'job0'}", "GenericError",
              "Job 'job0' in state 'standby' cannot accept command verb 'complete'");
    g_free(qmp_ok(rig, "job-resume", "{'id':'job0'}"));
    g_free(qmp_ok(rig, "job-complete", "{'id':'job0'}"));
    rig_settle(rig);
    qmp_returns(rig, "query-jobs", NULL, "\"status\":\"pending\"");
    g_free(qmp_ok(rig, "job-finalize", "{'id':'job0'}"));
    qmp_returns(rig, "query-jobs", NULL, "\"status\":\"concluded\"");
    g_free(qmp_ok(rig, "job-dismiss", "{'id':'job0'}"));
    qmp_returns(rig, "query-jobs", NULL, "[]");
    assert_int_equal(s.commits, 1);
}

static void a_block_job_is_controlled_by_the_older_commands(void **state)
{
    QmpRig *rig = *state;
    SampleJob s = {.wants_complete = true};
    enter_main();
    start_job(rig, &sample_job_driver, &s);
    g_free(qmp_ok(rig, "block-job-set-speed", "{'device':'job0','speed':4096}"));
    qmp_returns(rig, "query-block-jobs", NULL,
                "[{\"type\":\"mirror\",\"device\":\"job0\",\"len\":0,\"offset\":0,\"busy\":false,"
                "\"paused\":false,\"speed\":4096,\"io-status\":\"ok\",\"ready\":true,"
                "\"status\":\"ready\",\"auto-finalize\":false,\"auto-dismiss\":false}]");
    g_free(qmp_ok(rig, "block-job-pause", "{'device':'job0'}"));
    rig_settle(rig);
    qmp_fails(rig, "block-job-cancel", "{'device':'job0'}", "GenericError",
              "The block job for device 'job0' is currently paused");
    g_free(qmp_ok(rig, "block-job-resume", "{'device':'job0'}"));
    g_free(qmp_ok(rig, "block-job-complete", "{'device':'job0'}"));
    rig_settle(rig);
    g_free(qmp_ok(rig, "block-job-finalize", "{'id':'job0'}"));
    g_free(qmp_ok(rig, "block-job-dismiss", "{'id':'job0'}"));
    qmp_returns(rig, "query-block-jobs", NULL, "[]");
}

static void every_state_change_has_an_event(void **state)
{
    QmpRig *rig = *state;
    SampleJob s = {.wants_complete = true};
    enter_main();
    start_job(rig, &sample_job_driver, &s);
    g_free(qmp_ok(rig, "job-cancel", "{'id':'job0'}"));
    rig_settle(rig);
    qmp_returns(rig, "query-jobs", NULL, "\"error\":\"Operation canceled\"");
    g_free(qmp_ok(rig, "job-dismiss", "{'id':'job0'}"));
#define MOVE(status) "JOB_STATUS_CHANGE{\"id\":\"job0\",\"status\":\"" status "\"}"
#define TOLD(event)                                                                                \
    event "{\"type\":\"mirror\",\"device\":\"job0\",\"len\":0,\"offset\":0,\"speed\":0}"
    static const char *const expected[] = {
        MOVE("created"),         MOVE("running"),  MOVE("ready"),
        TOLD("BLOCK_JOB_READY"), MOVE("aborting"), TOLD("BLOCK_JOB_CANCELLED"),
        MOVE("concluded"),       MOVE("null"),     NULL};
    g_autofree char *all = g_strjoinv(" ", (char **)(uintptr_t)expected);
    assert_string_equal(rig->events->str, all);
}

static void the_event_of_a_failed_block_job_has_its_error(void **state)
{
    QmpRig *rig = *state;
    SampleJob s = {.ret = -ENOSPC, .error = "the target is full"};
    enter_main();
    start_job(rig, &sample_job_driver, &s);
    assert_non_null(strstr(rig->events->str, "BLOCK_JOB_COMPLETED{\"type\":\"mirror\",\"device\":"
                                             "\"job0\",\"len\":0,\"offset\":0,\"speed\":0,"
                                             "\"error\":\"the target is full\"}"));
    g_free(qmp_ok(rig, "job-dismiss", "{'id':'job0'}"));
}

static void an_io_error_that_pauses_a_block_job_has_an_event(void **state)
{
    QmpRig *rig = *state;
    SampleJob s = {
        .units = 1, .io_errors = 1, .io_error = {.is_read = true, .action = JOB_ON_ERROR_STOP}};
    enter_main();
    start_job(rig, &sample_job_driver, &s);
    assert_non_null(strstr(rig->events->str, "BLOCK_JOB_ERROR{\"device\":\"job0\",\"operation\":"
                                             "\"read\",\"action\":\"stop\"}"));
    qmp_returns(rig, "query-block-jobs", NULL, "\"io-status\":\"failed\"");
    g_free(qmp_ok(rig, "job-resume", "{'id':'job0'}"));
    rig_settle(rig);
    assert_non_null(
        strstr(rig->events->str, "BLOCK_JOB_PENDING{\"type\":\"mirror\",\"id\":\"job0\"}"));
    g_free(qmp_ok(rig, "job-finalize", "{'id':'job0'}"));
    g_free(qmp_ok(rig, "job-dismiss", "{'id':'job0'}"));
}

static void the_older_commands_ignore_jobs_that_are_not_block_jobs(void **state)
{
    QmpRig *rig = *state;
    SampleJob s = {.units = 1, .unit_ns = LONG_NS};
    enter_main();
    start_job(rig, &sample_plain_driver, &s);
    qmp_returns(rig, "query-jobs", NULL, "\"type\":\"snapshot-save\",\"status\":\"running\"");
    qmp_returns(rig, "query-block-jobs", NULL, "[]");
    qmp_fails(rig, "block-job-cancel", "{'device':'job0'}", "DeviceNotActive",
              "Block job 'job0' not found");
    g_free(qmp_ok(rig, "job-cancel", "{'id':'job0'}"));
    rig_settle(rig);
    assert_null(strstr(rig->events->str, "BLOCK_JOB"));
    g_free(qmp_ok(rig, "job-dismiss", "{'id':'job0'}"));
}

static void a_missing_job_is_reported(void **state)
{
    QmpRig *rig = *state;
    static const char *const by_id[] = {"job-pause",    "job-resume",  "job-cancel",
                                        "job-complete", "job-dismiss", "job-finalize"};
    static const char *const block_by_device[] = {"block-job-pause", "block-job-resume",
                                                  "block-job-cancel", "block-job-complete"};
    static const char *const block_by_id[] = {"block-job-dismiss", "block-job-finalize"};
    for (unsigned i = 0; i < G_N_ELEMENTS(by_id); i++) {
        qmp_fails(rig, by_id[i], "{'id':'x'}", "GenericError", "Job not found");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(block_by_device); i++) {
        qmp_fails(rig, block_by_device[i], "{'device':'x'}", "DeviceNotActive",
                  "Block job 'x' not found");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(block_by_id); i++) {
        qmp_fails(rig, block_by_id[i], "{'id':'x'}", "DeviceNotActive", "Block job 'x' not found");
    }
}

static void a_negative_speed_is_refused(void **state)
{
    QmpRig *rig = *state;
    SampleJob s = {.units = 1, .unit_ns = LONG_NS};
    enter_main();
    start_job(rig, &sample_job_driver, &s);
    qmp_fails(rig, "block-job-set-speed", "{'device':'job0','speed':-1}", "GenericError",
              "Parameter 'speed' expects a non-negative value");
    g_free(qmp_ok(rig, "job-cancel", "{'id':'job0'}"));
    rig_settle(rig);
    g_free(qmp_ok(rig, "job-dismiss", "{'id':'job0'}"));
}

typedef struct Holder {
    QmpRig *rig;
    CoToken token;
} Holder;

static void hold_operation(void *opaque)
{
    Holder *h = opaque;
    enter_main();
    enter_coroutine();
    vm_operation_begin(&h->rig->vm.run);
    h->token = co_arm();
    co_wait(h->token);
    vm_operation_end(&h->rig->vm.run);
}

/* Another control operation hangs. The finalize of this job waits; its cancel and the queries do
 * not. */
static void a_finalize_that_waits_can_be_cancelled(void **state)
{
    QmpRig *rig = *state;
    SampleJob s = {0};
    Holder holder = {.rig = rig};
    RigCall finalize;
    enter_main();
    start_job(rig, &sample_job_driver, &s);
    co_start(rig->vm.ctx, hold_operation, &holder);
    rig_settle(rig);
    rig_call_start(rig, &finalize, "job-finalize", "{'id':'job0'}");
    rig_settle(rig);
    assert_false(finalize.done);
    qmp_returns(rig, "query-jobs", NULL, "pending");
    g_free(qmp_ok(rig, "job-cancel", "{'id':'job0'}"));
    co_wake(holder.token);
    rig_call_finish(&finalize);
    json_object_put(finalize.result);
    assert_int_equal(s.aborts, 1);
    assert_int_equal(s.commits, 0);
    g_free(qmp_ok(rig, "job-dismiss", "{'id':'job0'}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(a_block_job_is_controlled_by_the_job_commands),
        QMP_TEST(a_block_job_is_controlled_by_the_older_commands),
        QMP_TEST(every_state_change_has_an_event),
        QMP_TEST(the_event_of_a_failed_block_job_has_its_error),
        QMP_TEST(an_io_error_that_pauses_a_block_job_has_an_event),
        QMP_TEST(the_older_commands_ignore_jobs_that_are_not_block_jobs),
        QMP_TEST(a_missing_job_is_reported),
        QMP_TEST(a_negative_speed_is_refused),
        QMP_TEST(a_finalize_that_waits_can_be_cancelled),
    };
    return cmocka_run_group_tests_name("qmp jobs", tests, NULL, NULL);
}
