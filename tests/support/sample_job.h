/* SPDX-License-Identifier: Apache-2.0 */
/* A job for tests: its fields control it, and it counts its calls. */
#ifndef SKIFF_TESTS_SUPPORT_SAMPLE_JOB_H
#define SKIFF_TESTS_SUPPORT_SAMPLE_JOB_H

#include "util/job/job.h"

typedef struct SampleJob {
    /* control */
    unsigned units;      /* steps of its work, each 1 of progress */
    int64_t unit_ns;     /* sleep per unit; 0: one turn of the loop, no sleep */
    bool wants_complete; /* READY after its work, until the verb complete */
    bool throttled;      /* by its speed, at 1000 bytes per unit */
    unsigned io_errors;  /* this many reads fail, with io_error */
    JobIoError io_error;
    int ret, prepare_ret;    /* results */
    const char *error;       /* returned with ret */
    bool prepare_yields;     /* prepare waits for sample_job_continue() */
    bool clean_yields;       /* clean waits for it */
    bool ends_well_unforced; /* its cancel callback returns false without force */
    /* calls */
    _Atomic unsigned runs;
    unsigned prepares, commits, aborts, cleans, cancels, frees;
    bool waiting; /* it waits in prepare or clean */
    CoToken token;
} SampleJob;

extern const JobDriver sample_job_driver;   /* a block job: "mirror", can complete */
extern const JobDriver sample_plain_driver; /* not a block job: "snapshot-save" */

/* Ends the wait of prepare or clean. */
void sample_job_continue(SampleJob *s);

#endif
