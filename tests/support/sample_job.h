/* SPDX-License-Identifier: Apache-2.0 */
/* A job for tests: does what its fields say and counts what is done to it. */
#ifndef SKIFF_TESTS_SUPPORT_SAMPLE_JOB_H
#define SKIFF_TESTS_SUPPORT_SAMPLE_JOB_H

#include "util/job/job.h"

typedef struct SampleJob {
    /* what it does */
    unsigned units;          /* steps of its work, each 1 of progress */
    int64_t unit_ns;         /* how long it sleeps in each; 0: a turn of the loop, no sleep */
    bool wants_complete;     /* then it is READY until told to complete */
    bool throttled;          /* by its speed, with 1000 bytes a unit */
    unsigned io_errors;      /* so many reads fail */
    int ret, prepare_ret;    /* results */
    const char *error;       /* with ret */
    bool prepare_yields;     /* until sample_job_go_on() */
    bool clean_yields;       /* the same */
    bool ends_well_unforced; /* its cancel callback says false without force */
    /* what was done to it */
    _Atomic unsigned runs;
    unsigned prepares, commits, aborts, cleans, cancels, frees;
    bool stands; /* in prepare or clean */
    CoToken token;
} SampleJob;

extern const JobDriver sample_job_driver;   /* a block job: "mirror", can complete */
extern const JobDriver sample_plain_driver; /* no block job: "snapshot-save" */

/* Ends the wait of prepare or clean. */
void sample_job_go_on(SampleJob *s);

#endif
