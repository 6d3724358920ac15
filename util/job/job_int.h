/* SPDX-License-Identifier: Apache-2.0 */
/* Internals of a job. Shared by job.c (life cycle) and job_verbs.c, both in main, and job_step.c
 * (the data step, in the home context). */
#ifndef SKIFF_UTIL_JOB_JOB_INT_H
#define SKIFF_UTIL_JOB_JOB_INT_H

#include <stdatomic.h>
#include "util/job/job.h"

struct Job {
    /* links */
    const JobDriver *driver;
    AioContext *home;
    void *state; /* owned */

    /* config */
    char *id;
    bool auto_finalize, auto_dismiss;

    /* written by main, read by the data step */
    _Atomic bool cancelled;
    _Atomic bool pause;
    _Atomic bool complete;
    _Atomic uint64_t speed;

    /* written by the data step, read by main */
    _Atomic uint64_t progress, progress_total;
    _Atomic bool sleeping;

    /* main */
    unsigned refs;
    JobStatus status;
    bool started;
    bool stepping;  /* the data step has begun, and main has not yet seen its end */
    bool finalize;  /* the verb was used */
    bool decided;   /* committed, or aborted */
    bool committed; /* valid if decided; false: aborted */
    JobIoStatus io_status;
    int ret;
    char *error;
    bool waiting; /* a coroutine of the job waits in main with token `waiter`: job_wait() */
    CoToken waiter;
    CoQueue concluded; /* waiters for the end of the job */

    /* home */
    CoToken sleeper; /* while sleeping or in job_co_wait() */
    bool in_wait;    /* in job_co_wait() */
    AioTimer sleep_timer;
    int step_ret;
    char *step_error;
    AioBh kick_bh; /* scheduled by main only while stepping */
};

/* Sets of states. */
#define JOB_IN(status) (1u << JOB_STATUS_##status)
#define JOB_STEPPING (JOB_IN(RUNNING) | JOB_IN(PAUSED) | JOB_IN(READY) | JOB_IN(STANDBY))

static inline bool job_status_in(const Job *job, unsigned set)
{
    return (set & 1u << job->status) != 0;
}

/* ---- job.c, main ---- */
Job *job_at(unsigned index) RUNS_IN_MAIN; /* NULL: index is past the last job */
/* Coroutine: runs the whole life of a job. */
void job_run(void *job_opaque);
/* Resumes a job that is at a pause point. */
void job_continue(Job *job) RUNS_IN_MAIN;
/* Wakes the job's coroutine in main if it waits. */
void job_wake(Job *job) RUNS_IN_MAIN;
/* Makes the data step check the flags that main has set. */
void job_kick(Job *job) RUNS_IN_MAIN;
/* Moves the job to NULL and removes it from the list. */
void job_remove(Job *job) RUNS_IN_MAIN;
/* Coroutine in main: waits while the job is at a pause point, until it is resumed. */
void job_wait_while_paused(void *job_opaque);
/* RUNNING -> READY. */
void job_become_ready(Job *job) RUNS_IN_MAIN;
AioContext *job_main_context(void) ANY_THREAD;
const JobHost *job_host(void **opaque) RUNS_IN_MAIN;

/* ---- job_step.c ---- */
/* A coroutine in the home context: runs the data step. */
void job_step_run(void *job_opaque);
/* Home: called when main will not kick the job any more. */
void job_step_retire(void *job_opaque);
/* The bottom half with which main ends a sleep. */
void job_step_kicked(void *job_opaque);

#endif
