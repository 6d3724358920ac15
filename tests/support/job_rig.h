/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of jobs: a stepped main loop with virtual time, a job host that logs its events, and
 * one sample job with the id "job0". Main only. */
#ifndef SKIFF_TESTS_SUPPORT_JOB_RIG_H
#define SKIFF_TESTS_SUPPORT_JOB_RIG_H

#include "tests/support/sample_job.h"

/* The duration of one unit of the sample job. */
#define JOB_RIG_UNIT_NS INT64_C(1000000)

typedef struct JobRig {
    AioContext *ctx;
    int64_t now_ns;
    CoMutex operation;   /* the host's operation lock */
    unsigned operations; /* how often it was taken */
    GString *log;        /* states entered, and EVENTS! */
    SampleJob s;
    Job *job;
} JobRig;

/* Set-up for cmocka; *@state is a JobRig. */
int job_rig_setup(void **state);
int job_rig_teardown(void **state);
#define JOB_RIG_TEST(f) cmocka_unit_test_setup_teardown(f, job_rig_setup, job_rig_teardown)

/* Runs everything that is ready, until nothing is. */
void job_rig_settle(JobRig *rig);
/* Advances time by @units units and settles after each. */
void job_rig_advance(JobRig *rig, unsigned units);

/* Creates the job of rig->s, in CREATED. @manual: finalize and dismiss are verbs. */
RUNS_IN_MAIN Job *job_rig_new(JobRig *rig, bool manual);
/* The same, started and settled. */
RUNS_IN_MAIN Job *job_rig_start(JobRig *rig, bool manual);
/* Creates a manual job with a READY phase and drives it until @status. */
RUNS_IN_MAIN void job_rig_drive_to(JobRig *rig, JobStatus status);
/* Ends the job, if any, and checks that it is gone. */
RUNS_IN_MAIN void job_rig_dispose(JobRig *rig);

#endif
