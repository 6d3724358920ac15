/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of jobs: a main loop with virtual time that is stepped, a job's host that writes down
 * what it is told, and one sample job with the id "job0". All of it is main's. */
#ifndef SKIFF_TESTS_SUPPORT_JOB_RIG_H
#define SKIFF_TESTS_SUPPORT_JOB_RIG_H

#include "tests/support/sample_job.h"

/* What one unit of the rig's sample job takes. */
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

/* cmocka's; *@state is a JobRig. */
int job_rig_setup(void **state);
int job_rig_teardown(void **state);
#define JOB_RIG_TEST(f) cmocka_unit_test_setup_teardown(f, job_rig_setup, job_rig_teardown)

/* Runs what is ready, until nothing is. */
void job_rig_settle(JobRig *rig);
/* Lets the time of so many units pass, and settles after each. */
void job_rig_advance(JobRig *rig, unsigned units);

/* Makes the job of rig->s, in CREATED. @manual: finalize and dismiss are verbs. */
RUNS_IN_MAIN Job *job_rig_new(JobRig *rig, bool manual);
/* The same, started and settled. */
RUNS_IN_MAIN Job *job_rig_start(JobRig *rig, bool manual);
/* Makes a manual job, READY before its end, and takes it on its way until @status. */
RUNS_IN_MAIN void job_rig_drive(JobRig *rig, JobStatus status);
/* Lets whatever job there is end, and proves that it is gone. */
RUNS_IN_MAIN void job_rig_dispose(JobRig *rig);

#endif
