/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs of one transaction: they conclude together, and all commit or all abort. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "tests/support/death.h"
#include "tests/support/job_rig.h"

#define TXN_JOBS_MAX 4u
#define TXN_SCHEDULES 400u

typedef struct TxnTest {
    JobRig *rig;
    SampleJob s[TXN_JOBS_MAX];
    Job *job[TXN_JOBS_MAX];
    unsigned count;
    unsigned pending;          /* jobs that were PENDING */
    unsigned decided_too_soon; /* a job was PENDING while the data step of another one ran */
    GString *log;              /* "a:running b:running ..." without the first state */
} TxnTest;

static TxnTest test;

static void txn_check_pending(const Job *job, void *opaque)
{
    enter_main();
    JobStatus status = job_status(job);
    test.decided_too_soon += status == JOB_STATUS_CREATED || status == JOB_STATUS_RUNNING ||
                             status == JOB_STATUS_PAUSED || status == JOB_STATUS_READY ||
                             status == JOB_STATUS_STANDBY;
}

static void txn_event(void *opaque, const Job *job, JobEvent event)
{
    enter_main();
    assert_job_state(job);
    const char *what = event == JOB_EVENT_COMPLETED   ? "COMPLETED!"
                       : event == JOB_EVENT_CANCELLED ? "CANCELLED!"
                                                      : job_status_names[job_status(job)];
    if (event == JOB_EVENT_READY || event == JOB_EVENT_PENDING) {
        return;
    }
    if (event == JOB_EVENT_STATUS && job_status(job) == JOB_STATUS_PENDING) {
        test.pending++;
        job_foreach(txn_check_pending, NULL);
    }
    g_string_append_printf(test.log, "%s%s:%s", test.log->len > 0 ? " " : "", job_id(job), what);
}

static void txn_operation_begin(void *opaque)
{
    enter_coroutine();
    co_mutex_lock(&test.rig->operation);
    test.rig->operations++;
}

static void txn_operation_end(void *opaque)
{
    enter_coroutine();
    co_mutex_unlock(&test.rig->operation);
}

static const JobHost txn_host = {.co_operation_begin = txn_operation_begin,
                                 .co_operation_end = txn_operation_end,
                                 .event = txn_event};

static int txn_setup(void **state)
{
    job_rig_setup(state);
    enter_main();
    test = (TxnTest){.rig = *state, .log = g_string_new(NULL)};
    jobs_init(test.rig->ctx, &txn_host, NULL);
    return 0;
}

static int txn_teardown(void **state)
{
    enter_main();
    g_string_free(test.log, TRUE);
    return job_rig_teardown(state);
}

#define TXN_TEST(f) cmocka_unit_test_setup_teardown(f, txn_setup, txn_teardown)

/* Creates jobs "a", "b", ... of test.s. Bit i of @manual: job i has to be finalized. */
static RUNS_IN_MAIN JobTxn *txn_new(unsigned count, unsigned manual)
{
    JobTxn *txn = job_txn_new();
    test.count = count;
    for (unsigned i = 0; i < count; i++) {
        char id[] = {(char)('a' + i), '\0'};
        JobConfig config = {.id = id,
                            .home = test.rig->ctx,
                            .manual_finalize = (manual >> i & 1) != 0,
                            .manual_dismiss = true,
                            .txn = txn};
        test.job[i] = job_new(&sample_plain_driver, &config, &test.s[i], NULL);
        assert_non_null(test.job[i]);
    }
    return txn;
}

static RUNS_IN_MAIN void txn_start(unsigned count, unsigned manual)
{
    JobTxn *txn = txn_new(count, manual);
    for (unsigned i = 0; i < count; i++) {
        job_start(test.job[i]);
    }
    job_txn_seal(txn);
    job_rig_settle(test.rig);
}

static RUNS_IN_MAIN void txn_expect_states(JobStatus status)
{
    for (unsigned i = 0; i < test.count; i++) {
        assert_string_equal(job_status_names[job_status(test.job[i])], job_status_names[status]);
    }
}

/* All have concluded: all were committed, or all were aborted. Dismisses them. */
static RUNS_IN_MAIN void txn_end(bool committed)
{
    txn_expect_states(JOB_STATUS_CONCLUDED);
    for (unsigned i = 0; i < test.count; i++) {
        assert_int_equal(test.s[i].commits, committed);
        assert_int_equal(test.s[i].aborts, !committed);
        assert_int_equal(test.s[i].cleans, 1);
        assert_true((job_error_text(test.job[i]) == NULL) == committed);
        assert_true(job_dismiss(test.job[i], NULL));
        assert_int_equal(test.s[i].frees, 1);
    }
    assert_int_equal(test.decided_too_soon, 0);
}

static RUNS_IN_MAIN void txn_set_units(unsigned first, unsigned second)
{
    test.s[0] = (SampleJob){.units = first, .unit_ns = JOB_RIG_UNIT_NS};
    test.s[1] = (SampleJob){.units = second, .unit_ns = JOB_RIG_UNIT_NS};
}

static void the_first_job_to_end_waits_for_the_last(void **state)
{
    enter_main();
    txn_set_units(1, 3);
    txn_start(2, 0);
    job_rig_advance(test.rig, 1);
    assert_int_equal(job_status(test.job[0]), JOB_STATUS_WAITING);
    assert_int_equal(job_status(test.job[1]), JOB_STATUS_RUNNING);
    assert_int_equal(test.s[0].prepares, 0);
    job_rig_advance(test.rig, 2);
    assert_string_equal(test.log->str,
                        "a:created b:created a:running b:running a:waiting b:waiting a:pending "
                        "b:pending a:COMPLETED! a:concluded b:COMPLETED! b:concluded");
    assert_int_equal(test.rig->operations, 1);
    txn_end(true);
}

static void a_job_that_fails_aborts_the_others_at_once(void **state)
{
    enter_main();
    txn_set_units(1, 100);
    test.s[0].ret = -EIO;
    txn_start(2, 0);
    job_rig_advance(test.rig, 1);
    assert_string_equal(test.log->str,
                        "a:created b:created a:running b:running a:aborting b:aborting "
                        "a:COMPLETED! a:concluded b:CANCELLED! b:concluded");
    assert_string_equal(job_error_text(test.job[0]), g_strerror(EIO));
    assert_string_equal(job_error_text(test.job[1]), g_strerror(ECANCELED));
    txn_end(false);
}

static void a_job_that_fails_aborts_those_that_wait_for_it(void **state)
{
    enter_main();
    txn_set_units(1, 2);
    test.s[1].ret = -EIO;
    txn_start(2, 0);
    job_rig_advance(test.rig, 2);
    assert_true(g_str_has_suffix(test.log->str, "a:waiting b:aborting a:aborting a:CANCELLED! "
                                                "a:concluded b:COMPLETED! b:concluded"));
    assert_int_equal(test.s[0].prepares, 0);
    txn_end(false);
}

static void a_job_that_waits_can_be_cancelled(void **state)
{
    enter_main();
    txn_set_units(1, 100);
    txn_start(2, 0);
    job_rig_advance(test.rig, 1);
    assert_int_equal(job_status(test.job[0]), JOB_STATUS_WAITING);
    assert_true(job_cancel(test.job[0], true, NULL));
    job_rig_settle(test.rig);
    txn_end(false);
}

static void a_prepare_that_fails_aborts_all(void **state)
{
    for (unsigned failing = 0; failing < 3; failing++) {
        enter_main();
        memset(test.s, 0, sizeof(test.s));
        test.s[failing].prepare_ret = -ENOSPC;
        txn_start(3, 0);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(test.s[i].prepares, i <= failing);
            assert_string_equal(job_error_text(test.job[i]),
                                g_strerror(i == failing ? ENOSPC : ECANCELED));
        }
        txn_end(false);
    }
}

typedef struct Finalize {
    Job *job;
    bool ok, returned;
} Finalize;

static void finalize_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    Finalize *f = opaque;
    f->ok = job_co_finalize(f->job, NULL);
    f->returned = true;
}

static void one_finalize_finalizes_all_and_returns_when_all_have_concluded(void **state)
{
    enter_main();
    Finalize f, again;
    test.s[0].prepare_yields = true;
    txn_start(3, 2); /* b */
    txn_expect_states(JOB_STATUS_PENDING);
    f = (Finalize){.job = test.job[2]}; /* also by a job that needs none */
    again = (Finalize){.job = test.job[1]};
    co_start(test.rig->ctx, finalize_run, &f);
    job_rig_settle(test.rig);
    assert_false(f.returned);
    co_start(test.rig->ctx, finalize_run, &again);
    job_rig_settle(test.rig);
    assert_true(again.returned && !again.ok);
    sample_job_continue(&test.s[0]);
    job_rig_settle(test.rig);
    assert_true(f.returned && f.ok);
    txn_end(true);
}

static void a_cancel_of_one_pending_job_aborts_all(void **state)
{
    enter_main();
    txn_start(3, 7);
    txn_expect_states(JOB_STATUS_PENDING);
    assert_true(job_cancel(test.job[1], true, NULL));
    job_rig_settle(test.rig);
    txn_end(false);
}

static void a_cancel_during_the_prepare_of_another_job_aborts_all(void **state)
{
    enter_main();
    test.s[0].prepare_yields = true;
    txn_start(3, 0);
    assert_true(test.s[0].waiting);
    assert_true(job_cancel(test.job[2], true, NULL));
    sample_job_continue(&test.s[0]);
    job_rig_settle(test.rig);
    assert_int_equal(test.s[1].prepares, 0);
    txn_end(false);
}

static void jobs_wait_for_the_seal_and_for_the_start_of_the_others(void **state)
{
    enter_main();
    JobTxn *txn = txn_new(2, 0);
    job_start(test.job[0]);
    job_rig_settle(test.rig);
    assert_int_equal(job_status(test.job[0]), JOB_STATUS_WAITING);
    job_start(test.job[1]);
    job_rig_settle(test.rig);
    assert_int_equal(job_status(test.job[1]), JOB_STATUS_WAITING);
    job_txn_seal(txn);
    job_rig_settle(test.rig);
    txn_end(true);
}

/* A client cancels a created job while the transaction is still being built. */
static void a_created_job_that_is_cancelled_takes_the_others_along(void **state)
{
    enter_main();
    JobTxn *txn = txn_new(2, 0);
    for (unsigned i = 0; i < 2; i++) {
        job_ref(test.job[i]);
    }
    assert_true(job_cancel(test.job[0], true, NULL));
    job_rig_settle(test.rig);
    job_start(test.job[0]);
    job_start(test.job[1]);
    job_txn_seal(txn);
    job_rig_settle(test.rig);
    for (unsigned i = 0; i < 2; i++) {
        job_unref(test.job[i]);
        assert_int_equal(test.s[i].runs + test.s[i].commits, 0);
        assert_int_equal(test.s[i].aborts, 1);
        assert_int_equal(test.s[i].frees, 1);
    }
    assert_null(job_find("a"));
    assert_null(job_find("b"));
}

static void a_job_that_joins_a_failed_transaction_never_runs(void **state)
{
    enter_main();
    JobTxn *txn = txn_new(1, 0);
    test.s[0].ret = -EIO;
    job_start(test.job[0]);
    job_rig_settle(test.rig);
    JobConfig config = {.id = "b", .home = test.rig->ctx, .txn = txn};
    Job *late = job_new(&sample_plain_driver, &config, &test.s[1], NULL);
    job_start(late);
    job_txn_seal(txn);
    job_rig_settle(test.rig);
    assert_int_equal(test.s[1].runs, 0);
    assert_int_equal(test.s[1].aborts, 1);
    assert_int_equal(test.s[1].frees, 1);
    txn_end(false);
}

static void abandoned_jobs_leave_their_transaction(void **state)
{
    enter_main();
    JobTxn *txn = txn_new(3, 0);
    job_abandon(test.job[1]);
    job_start(test.job[0]);
    job_start(test.job[2]);
    job_txn_seal(txn);
    job_rig_settle(test.rig);
    assert_int_equal(test.s[1].frees, 1);
    assert_int_equal(test.s[0].commits + test.s[2].commits, 2);
    job_dismiss(test.job[0], NULL);
    job_dismiss(test.job[2], NULL);
    txn = txn_new(2, 0);
    job_abandon(test.job[0]);
    job_abandon(test.job[1]);
    job_txn_seal(txn); /* frees it */
}

static void run_join_sealed(void *arg)
{
    enter_main();
    JobTxn *txn = txn_new(1, 0);
    job_txn_seal(txn);
    JobConfig config = {.id = "b", .home = test.rig->ctx, .txn = txn};
    job_new(&sample_plain_driver, &config, &test.s[1], NULL);
}

static void a_job_that_joins_a_sealed_transaction_is_a_bug(void **state)
{
    assert_dies(run_join_sealed, NULL, "joins a transaction that is sealed");
}

/* ---- generated schedules ---- */

static uint32_t txn_random_state;

static unsigned txn_random(unsigned below)
{
    txn_random_state = txn_random_state * 1664525u + 1013904223u;
    return (unsigned)(((uint64_t)(txn_random_state >> 8) * below) >> 24);
}

static RUNS_IN_MAIN void txn_strike(void)
{
    Job *job = test.job[txn_random(test.count)];
    switch (txn_random(8)) {
    case 0:
        job_pause(job, NULL);
        break;
    case 1:
    case 2:
        job_resume(job, NULL);
        break;
    case 3:
        if (txn_random(4) == 0) {
            job_cancel(job, true, NULL);
        }
        break;
    default:
        break;
    }
}

static RUNS_IN_MAIN bool txn_all_concluded(void)
{
    bool all = true;
    for (unsigned i = 0; i < test.count; i++) {
        all = all && job_status(test.job[i]) == JOB_STATUS_CONCLUDED;
    }
    return all;
}

/* Strikes at random until all jobs have concluded. */
static RUNS_IN_MAIN void txn_run_schedule(Finalize *f)
{
    for (unsigned turn = 0; !txn_all_concluded(); turn++) {
        if (turn < 20) {
            txn_strike();
        } else {
            for (unsigned i = 0; i < test.count; i++) {
                job_resume(test.job[i], NULL);
            }
        }
        job_rig_advance(test.rig, 1);
        for (unsigned i = 0; i < test.count; i++) {
            if (test.s[i].waiting) {
                sample_job_continue(&test.s[i]);
            }
        }
        if (f->job == NULL && job_status(test.job[0]) == JOB_STATUS_PENDING && txn_random(3) == 0) {
            f->job = test.job[txn_random(test.count)];
            co_start(test.rig->ctx, finalize_run, f);
        }
        job_rig_settle(test.rig);
        assert_true(turn < 200);
    }
}

static void jobs_of_a_transaction_end_the_same_way_in_every_schedule(void **state)
{
    enter_main();
    unsigned commits = 0;
    for (unsigned round = 0; round < TXN_SCHEDULES; round++) {
        txn_random_state = round;
        memset(test.s, 0, sizeof(test.s));
        unsigned count = 1 + txn_random(TXN_JOBS_MAX), failing = txn_random(3 * TXN_JOBS_MAX);
        for (unsigned i = 0; i < count; i++) {
            test.s[i] = (SampleJob){.units = txn_random(6),
                                    .unit_ns = JOB_RIG_UNIT_NS,
                                    .prepare_yields = txn_random(3) == 0,
                                    .clean_yields = txn_random(3) == 0,
                                    .ret = failing == i ? -EIO : 0,
                                    .prepare_ret = failing == TXN_JOBS_MAX + i ? -ENOSPC : 0};
        }
        Finalize f = {0};
        unsigned operations = test.rig->operations;
        txn_start(count, txn_random(1u << count));
        txn_run_schedule(&f);
        assert_int_equal(test.rig->operations, operations + 1);
        assert_true(f.job == NULL || f.returned);
        bool committed = test.s[0].commits > 0;
        commits += committed;
        txn_end(committed);
    }
    assert_in_range(commits, TXN_SCHEDULES / 5, TXN_SCHEDULES * 4 / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TXN_TEST(a_job_that_joins_a_sealed_transaction_is_a_bug),
        TXN_TEST(the_first_job_to_end_waits_for_the_last),
        TXN_TEST(a_job_that_fails_aborts_the_others_at_once),
        TXN_TEST(a_job_that_fails_aborts_those_that_wait_for_it),
        TXN_TEST(a_job_that_waits_can_be_cancelled),
        TXN_TEST(a_prepare_that_fails_aborts_all),
        TXN_TEST(one_finalize_finalizes_all_and_returns_when_all_have_concluded),
        TXN_TEST(a_cancel_of_one_pending_job_aborts_all),
        TXN_TEST(a_cancel_during_the_prepare_of_another_job_aborts_all),
        TXN_TEST(jobs_wait_for_the_seal_and_for_the_start_of_the_others),
        TXN_TEST(a_created_job_that_is_cancelled_takes_the_others_along),
        TXN_TEST(a_job_that_joins_a_failed_transaction_never_runs),
        TXN_TEST(abandoned_jobs_leave_their_transaction),
        TXN_TEST(jobs_of_a_transaction_end_the_same_way_in_every_schedule),
    };
    return cmocka_run_group_tests_name("job transactions", tests, NULL, NULL);
}
